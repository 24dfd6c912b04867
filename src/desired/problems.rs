//! Collecting what is wrong in one file.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::yaml::Span;
use super::yaml::expand::{Missing, set_it};
use crate::model::{Problem, Severity};

/// How many problems of one file are told one by one. More help nobody, and a hostile file could hold 100,000.
const MAX_PROBLEMS: usize = 100;
/// The longest line that is kept for a snippet, in characters.
const MAX_SNIPPET: usize = 400;

/// What is wrong in one file, in the order in which it was found.
pub(crate) struct Problems<'t> {
    file: Arc<str>,
    text: &'t str,
    /// Where lines begin; made when the first problem is found.
    lines: Vec<usize>,
    list: Vec<Problem>,
    errors: usize,
    untold: usize,
    unset: Vec<Missing>,
}

impl<'t> Problems<'t> {
    pub(crate) fn new(file: Arc<str>, text: &'t str) -> Self {
        Problems { file, text, lines: Vec::new(), list: Vec::new(), errors: 0, untold: 0, unset: Vec::new() }
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn error(&mut self, at: Span, path: &str, message: impl Into<String>) {
        self.push(Severity::Error, at, path, message.into(), None);
    }

    pub(crate) fn error_hint(&mut self, at: Span, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, at, path, message.into(), Some(hint.into()));
    }

    pub(crate) fn warn(&mut self, at: Span, path: &str, message: impl Into<String>, hint: Option<String>) {
        self.push(Severity::Warning, at, path, message.into(), hint);
    }

    pub(crate) fn push(&mut self, severity: Severity, at: Span, path: &str, message: String, hint: Option<String>) {
        self.errors += usize::from(severity == Severity::Error);
        if self.list.len() >= MAX_PROBLEMS {
            self.untold += 1;
            return;
        }
        let source_line = self.line(at.line);
        self.list.push(Problem {
            severity,
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message,
            hint,
            source_line,
            width: at.width.max(1),
        });
    }

    fn line(&mut self, line: u32) -> Option<Arc<str>> {
        if line == 0 {
            return None;
        }
        if self.lines.is_empty() {
            self.lines.push(0);
            let breaks = self.text.match_indices(['\n', '\r']);
            // The `\r` of `\r\n` ends no line of its own.
            let breaks = breaks.filter(|(at, text)| *text == "\n" || self.text.as_bytes().get(at + 1) != Some(&b'\n'));
            self.lines.extend(breaks.map(|(at, _)| at + 1));
        }
        let start = *self.lines.get(line as usize - 1)?;
        let line = self.text.get(start..)?.split(['\n', '\r']).next().unwrap_or_default();
        let line = if start == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        Some(line.chars().take(MAX_SNIPPET).collect::<String>().into())
    }

    /// Takes in which variables are not set: said with the error that this leads to, else with a warning.
    pub(crate) fn unset(&mut self, unset: Vec<Missing>) {
        self.unset.extend(unset);
    }

    /// Says with each error that a variable without a value leads to what is behind it, and warns of the others.
    fn explain_unset(&mut self) {
        let mut warned = BTreeSet::new();
        for Missing { name, at, path } in std::mem::take(&mut self.unset) {
            let parent = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
            let leads_to = |problem: &&mut Problem| {
                let is_it = problem.path == path || (!parent.is_empty() && problem.path == parent);
                problem.severity == Severity::Error && is_it
            };
            let mut found = false;
            for problem in self.list.iter_mut().filter(leads_to) {
                found = true;
                let why = format!("`{name}` is not set");
                if !problem.message.contains(&why) {
                    problem.message = format!("{}; {why}", problem.message);
                    problem.hint = Some(set_it(&name));
                }
            }
            if !found && warned.insert((name.clone(), path.clone())) {
                let message = format!("`{name}` is not set: nothing is put in its place");
                self.push(Severity::Warning, at, &path, message, Some(set_it(&name)));
            }
        }
    }

    /// All of them in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        self.explain_unset();
        self.list.sort_by_key(|problem| (problem.line, problem.column));
        if self.untold > 0 {
            self.list.push(Problem {
                severity: if self.errors > 0 { Severity::Error } else { Severity::Warning },
                ..Problem::file(self.file, format!("and {} more problems", self.untold))
            });
        }
        self.list
    }
}
