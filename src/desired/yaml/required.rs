//! `${VAR?message}` and `${VAR:?message}`, which OpenFactory does not know.
//!
//! It takes `X?message` for the name of a variable, and leaves a form with a colon or with white space as it is written.
//! Who wrote it wants an error when the variable is not set, and gets it; when it is set, the text means what it means to
//! OpenFactory, with a warning.

use std::collections::BTreeMap;

use super::expand::set_it;
use super::{Data, Node, Span, YamlError, push_index, push_key};

/// The longest message that is shown, in characters.
const MAX_MESSAGE: usize = 200;

/// Looks through the texts of a tree, comments aside.
pub(super) struct Search<'s> {
    /// The name of the variable that a private character stands for.
    pub(super) masked: &'s dyn Fn(char) -> Option<&'s str>,
    /// What variables stand for.
    pub(super) variables: &'s BTreeMap<String, String>,
    path: String,
    errors: Vec<YamlError>,
    warnings: Vec<YamlError>,
}

/// Whether a text may hold such a form.
pub(super) fn may_be_in(text: &str) -> bool {
    text.contains("${") && text.contains('?')
}

impl<'s> Search<'s> {
    pub(super) fn new(masked: &'s dyn Fn(char) -> Option<&'s str>, variables: &'s BTreeMap<String, String>) -> Self {
        Search { masked, variables, path: String::new(), errors: Vec::new(), warnings: Vec::new() }
    }

    /// Warnings for the variables that are set.
    ///
    /// # Errors
    /// For those that are not.
    pub(super) fn run(mut self, root: &Node) -> Result<Vec<YamlError>, Vec<YamlError>> {
        self.node(root);
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(self.errors) }
    }

    fn node(&mut self, node: &Node) {
        let length = self.path.len();
        match &node.data {
            Data::Text(text) => self.text(text, node.at),
            Data::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    push_index(&mut self.path, index);
                    self.node(item);
                    self.path.truncate(length);
                }
            }
            Data::Map(entries) => {
                for entry in entries {
                    self.node(&entry.key);
                    push_key(&mut self.path, &super::key_text(&entry.key.data));
                    self.node(&entry.value);
                    self.path.truncate(length);
                }
            }
            Data::Null | Data::Bool(_) | Data::Int(_) | Data::BigInt(_) | Data::Float(_) | Data::Timestamp(_) => {}
        }
    }

    fn text(&mut self, text: &str, at: Span) {
        for name in text.chars().filter_map(self.masked) {
            self.form(name, at);
        }
        for (start, _) in text.match_indices("${") {
            let inside = &text[start + 2..];
            if let Some(end) = inside.find('}') {
                self.form(&inside[..end], at);
            }
        }
    }

    /// What stands between the braces.
    fn form(&mut self, inside: &str, at: Span) {
        let Some((name, message)) = inside.split_once('?') else { return };
        let name = name.strip_suffix(':').unwrap_or(name);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return;
        }
        let problem = if self.variables.get(name).is_some_and(|value| !value.is_empty()) {
            let message = format!("OpenFactory knows no `${{{name}?…}}`: the value of `{name}` is not put in here");
            let hint = format!("write `${{{name}}}`; a variable that is not set is reported in any case");
            (&mut self.warnings, YamlError::new(at, message).hint(hint))
        } else {
            let message: String = message.trim().chars().take(MAX_MESSAGE).flat_map(char::escape_debug).collect();
            let colon = if message.is_empty() { "" } else { ": " };
            (&mut self.errors, YamlError::new(at, format!("`{name}` is not set{colon}{message}")).hint(set_it(name)))
        };
        let (list, error) = problem;
        list.push(YamlError { path: self.path.clone(), ..error });
    }
}
