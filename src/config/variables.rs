//! Where a setting's text comes from: a flag, the environment, or a dotenv file, in this order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::dotenv::{self, Unset};
use super::{ConfigError, credentials};

/// The dotenv file that is read when no other is named and it exists.
pub const DEFAULT_FILE: &str = ".ofaenv";

/// Everything that the environment and the dotenv file say. The environment wins, as in OpenFactory.
#[derive(Clone, Default)]
pub struct Variables {
    environment: BTreeMap<String, String>,
    file: BTreeMap<String, (String, u32)>,
    path: PathBuf,
    /// Variables of the file that stand for others which are not set.
    unset: Vec<Unset>,
    /// Which variables the value of one in the file refers to.
    references: BTreeMap<String, BTreeSet<String>>,
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
        let mut references: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for entry in &entries {
            let of_entry = references.entry(entry.name.clone()).or_default();
            of_entry.extend(dotenv::references(&entry.value).map(str::to_owned));
        }
        let (file, unset) = dotenv::resolve(&entries, |name| environment.get(name).cloned());
        // What the environment says itself is not taken from the file.
        let unset: Vec<Unset> = unset.into_iter().filter(|unset| !environment.contains_key(&unset.entry)).collect();
        if let Some(Unset { line, name, required: Some(message), .. }) = unset.iter().find(|one| one.required.is_some())
        {
            let (path, line, name, message) = (path.clone(), *line, name.clone(), message.clone());
            return Err(ConfigError::Unset { path, line, name, message });
        }
        let mut variables = Variables { environment, file, path, unset, references };
        variables.follow_development();
        Ok(variables)
    }

    /// OpenFactory takes the newest images in a development environment, whatever version is set.
    fn follow_development(&mut self) {
        let development = self.get("OPENFACTORY_ENV").is_some_and(|found| found.text.trim() == "dev");
        if development {
            self.environment.insert("OPENFACTORY_VERSION".into(), "latest".into());
        }
    }

    /// The variables that are not set and that the value of one in the file stands for.
    pub(super) fn unset_in(&self, name: &str) -> Vec<&str> {
        self.unset.iter().filter(|unset| unset.entry == name).map(|unset| unset.name.as_str()).collect()
    }

    /// What to tell of variables in the file that stand for others which are not set.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |unset: &Unset| {
            let Unset { entry, line, name, .. } = unset;
            format!("{}:{line}: `{name}` is not set: nothing is put in its place in {entry}", self.path.display())
        };
        self.unset.iter().map(warning).collect()
    }

    /// What a name says, with where it says so; an empty text counts.
    pub(super) fn get(&self, name: &'static str) -> Option<Found> {
        if let Some(text) = self.environment.get(name) {
            return Some(Found { text: text.clone(), from: From::Environment(name) });
        }
        let (text, line) = self.file.get(name)?;
        Some(Found { text: text.clone(), from: From::File { name, path: self.path.clone(), line: *line } })
    }

    /// The names that no manifest may refer to, whether they are set or not.
    pub fn withheld(&self) -> BTreeSet<String> {
        credentials::withheld(self.environment.keys().map(String::as_str), |name| self.file.contains_key(name))
    }

    /// The names of variables that only the environment of the process has. What stands in the file was written for the
    /// manifests.
    pub(super) fn of_process(&self) -> impl Iterator<Item = &str> {
        self.environment.keys().map(String::as_str).filter(|name| !self.file.contains_key(*name))
    }

    /// The names that are secret, and those of variables in the file whose values are made of them.
    pub(super) fn with_those_that_refer(&self, is_secret: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let named = self.environment.keys().chain(self.file.keys()).chain(self.references.values().flatten());
        let mut secret: BTreeSet<String> = named.filter(|name| is_secret(name)).cloned().collect();
        loop {
            let refers =
                |(name, to): &(&String, &BTreeSet<String>)| !secret.contains(*name) && !to.is_disjoint(&secret);
            let more: Vec<String> = self.references.iter().filter(refers).map(|(name, _)| name.clone()).collect();
            if more.is_empty() {
                return secret;
            }
            secret.extend(more);
        }
    }

    /// Environment and file as one map: what `${NAME}` in a manifest stands for, unless the name is withheld.
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
