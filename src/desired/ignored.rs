//! `.ofopignore`: which files and folders are not looked at, in the syntax of `.gitignore`.
//!
//! A file counts for its folder and everything below; the one nearest to a file decides. What is below an ignored
//! folder cannot be taken back in, as with git, since the folder is not looked into.

use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::model::{Problem, Severity};

/// Its name, in any folder of the source.
pub(super) const IGNORE_FILE: &str = ".ofopignore";

/// The most that one file may hold, in bytes: each pattern becomes part of a regular expression.
const MAX_IGNORE_BYTES: usize = 64 * 1024;

/// The patterns that are in force in a folder: its own and those of the folders above.
#[derive(Debug, Clone, Default)]
pub(super) struct IgnoreRules {
    /// The outermost folder first.
    levels: Vec<(String, Arc<Gitignore>)>,
}

impl IgnoreRules {
    /// The patterns in force in `folder`, which has an ignore file with this text, or one that cannot be read. What is
    /// wrong with that goes to `problems`; no line is quoted, since a symlink may have led anywhere.
    #[must_use]
    pub(super) fn with(&self, folder: &str, text: Result<&str, String>, problems: &mut Vec<Problem>) -> IgnoreRules {
        let file: Arc<str> = beside(folder, IGNORE_FILE).into();
        let text = match text {
            Ok(text) if text.len() > MAX_IGNORE_BYTES => Err(format!("is longer than {MAX_IGNORE_BYTES} bytes")),
            text => text,
        };
        let text = match text {
            Ok(text) => text,
            Err(reason) => {
                let hint = "nothing is removed until it can be read: it says what is no manifest";
                problems.push(Problem::file(file, reason).hint(hint));
                return self.clone();
            }
        };
        let mut builder = GitignoreBuilder::new("");
        let mut bad = |line: usize| {
            let message = "is not a pattern that .gitignore knows; it has no effect";
            let problem = Problem {
                severity: Severity::Warning,
                line: u32::try_from(line + 1).unwrap_or(u32::MAX),
                column: 1,
                ..Problem::file(Arc::clone(&file), message)
            };
            problems.push(problem);
        };
        for (line, pattern) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if builder.add_line(None, pattern).is_err() {
                bad(line);
            }
        }
        let mut rules = self.clone();
        match builder.build() {
            Ok(patterns) => rules.levels.push((folder.to_owned(), Arc::new(patterns))),
            Err(_) => problems.push(Problem::file(file, "holds patterns that are too large together")),
        }
        rules
    }

    /// Whether a file or folder is not to be looked at.
    pub(super) fn hides(&self, path: &str, is_folder: bool) -> bool {
        for (folder, patterns) in self.levels.iter().rev() {
            let Some(below) = path.strip_prefix(folder.as_str()) else { continue };
            let verdict = patterns.matched(below.trim_start_matches('/'), is_folder);
            if !verdict.is_none() {
                return verdict.is_ignore();
            }
        }
        false
    }
}

/// The path of something in a folder; the folder may be the root, which has no name.
pub(super) fn beside(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{}/{name}", folder.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(files: &[(&str, &str)]) -> (IgnoreRules, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut rules = IgnoreRules::default();
        for (folder, text) in files {
            rules = rules.with(folder, Ok(text), &mut problems);
        }
        (rules, problems)
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        for root in ["", "desired", "/etc/plant/"] {
            let (rules, problems) =
                rules(&[(root, "# rules\n*.rules.yml\n/compose.yml\nold/\n!keep.rules.yml\n\\!odd.yml\n")]);
            assert!(problems.is_empty(), "{problems:?}");
            let hides = |path: &str, folder| rules.hides(&beside(root, path), folder);
            for path in ["a.rules.yml", "line/b.rules.yml", "compose.yml", "!odd.yml"] {
                assert!(hides(path, false), "{root} {path}");
            }
            for path in ["keep.rules.yml", "line/compose.yml", "app_a.yml", "old"] {
                assert!(!hides(path, false), "{root} {path}");
            }
            assert!(hides("old", true) && hides("line/old", true) && !hides("older", true), "{root}");
        }
    }

    #[test]
    fn the_file_nearest_to_a_manifest_decides() {
        let (rules, _) = rules(&[("d", "*.yml\n"), ("d/line", "!a.yml\n/b.yml\n")]);
        assert!(!rules.hides("d/line/a.yml", false) && rules.hides("d/line/b.yml", false));
        assert!(rules.hides("d/line/c.yml", false) && rules.hides("d/a.yml", false));
    }

    #[test]
    fn a_bad_pattern_is_a_warning_with_its_line_and_does_not_quote_it() {
        let (rules, problems) = rules(&[("d", "a.yml\nsecret[z-a]\n")]);
        assert!(rules.hides("d/a.yml", false));
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((&*problem.file, problem.line, problem.severity), ("d/.ofopignore", 2, Severity::Warning));
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_leaves_the_patterns_above_in_force() {
        let (rules, _) = rules(&[("d", "a.yml\n")]);
        let mut problems = Vec::new();
        let below = rules.with("d/x", Err("cannot be read: Permission denied".into()), &mut problems);
        let far = rules.with("d/x", Ok(&"x\n".repeat(64 * 1024)), &mut problems);
        assert!(below.hides("d/x/a.yml", false) && far.hides("d/x/a.yml", false));
        assert_eq!(problems.iter().map(|problem| problem.severity).collect::<Vec<_>>(), [Severity::Error; 2]);
    }
}
