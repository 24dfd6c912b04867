//! Where a setting's text comes from: a flag, the environment, or a dotenv file, in this order.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::dotenv;

/// The dotenv file that is read when no other is named and it exists.
pub const DEFAULT_FILE: &str = ".ofaenv";

/// Everything that the environment and the dotenv file say. The environment wins, as in OpenFactory.
#[derive(Clone, Default)]
pub struct Variables {
    environment: BTreeMap<String, String>,
    file: BTreeMap<String, (String, u32)>,
    path: PathBuf,
}

/// Only names: any value may be a secret.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables")
            .field("environment", &self.environment.keys())
            .field("file", &self.file.keys())
            .finish_non_exhaustive()
    }
}

impl Variables {
    /// The process environment, less what is not UTF-8, and the dotenv file: `file` when a path is given
    /// (then it must exist), else [`DEFAULT_FILE`] in the working directory if there is one.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn load(
        environment: impl IntoIterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let path = file.unwrap_or(Path::new(DEFAULT_FILE)).to_path_buf();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => String::new(),
            Err(source) => return Err(ConfigError::EnvFile { path, source }),
        };
        let entries = dotenv::parse(&text).map_err(|bad| ConfigError::EnvFileLine {
            path: path.clone(),
            line: bad.line,
            reason: bad.reason,
        })?;
        let file = dotenv::resolve(&entries, |name| environment.get(name).cloned());
        Ok(Variables { environment, file, path })
    }

    /// What a name says, with where it says so; an empty text counts.
    pub(super) fn get(&self, name: &'static str) -> Option<Found> {
        if let Some(text) = self.environment.get(name) {
            return Some(Found { text: text.clone(), from: From::Environment(name) });
        }
        let (text, line) = self.file.get(name)?;
        Some(Found { text: text.clone(), from: From::File { name, path: self.path.clone(), line: *line } })
    }

    /// Environment and file as one map: what `${NAME}` in a manifest may refer to.
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> =
            self.file.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect();
        all.extend(self.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }
}

/// A setting's text. No `Debug`: the text may be a secret.
pub(super) struct Found {
    pub(super) text: String,
    pub(super) from: From,
}

/// Who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the process environment.
    Environment(&'static str),
    /// A variable in the dotenv file.
    File {
        /// Its name.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u32,
    },
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::Flag(flag) => f.write_str(flag),
            From::Environment(name) => f.write_str(name),
            From::File { name, path, line } => write!(f, "{name} ({}:{line})", path.display()),
        }
    }
}
