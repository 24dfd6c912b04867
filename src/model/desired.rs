//! What the manifests mean.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::handling::Handling;
use super::names::{ResourceId, Revision};
use super::record::Record;
use super::service::{ServiceSpec, SpecHash};
use super::shared::SharedMap;
use super::source::{CommitInfo, SourceTrouble};

/// The desired state: every resource that the manifests describe, compiled.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// The state of the source that this comes from.
    pub revision: Revision,
    /// Every resource, those of invalid files included as they last were valid.
    pub resources: SharedMap<ResourceId, Arc<DesiredResource>>,
    /// What is wrong or odd in the manifests, errors and warnings.
    pub problems: Vec<Problem>,
    /// Whether every file could be read and is valid. While this is false nothing may be pruned: a resource
    /// that is not in `resources` may still be described by a file that cannot be understood right now.
    pub complete: bool,
    /// Number of manifest files, valid or not.
    pub files: usize,
    /// Files beside the manifests that are none, by path.
    pub others: Vec<OtherFile>,
    /// The commit, if the source has such.
    pub commit: Option<CommitInfo>,
    /// Why this may not be the newest state of the source; then it is not `complete` either.
    pub trouble: Option<SourceTrouble>,
    /// Why the newest policy is not in force; then an older one is, and `problems` says what is wrong.
    pub policy_trouble: Option<Arc<str>>,
}

impl Desired {
    /// Number of errors among the problems.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }
}

/// A file beside the manifests that is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherFile {
    /// Path as the source names it.
    pub file: Arc<str>,
    /// Why it is no manifest, in lower case, without a full stop: "has neither `apps` nor `devices`".
    pub reason: String,
    /// What may have been meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl OtherFile {
    /// A file and the reason.
    pub fn new(file: impl Into<Arc<str>>, reason: impl Into<String>) -> Self {
        OtherFile { file: file.into(), reason: reason.into(), hint: None }
    }
}

/// One app or device as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredResource {
    /// Kind and uuid.
    pub id: ResourceId,
    /// Where the manifest describes it.
    pub origin: Origin,
    /// Services in the order in which they start; they go in reverse.
    pub services: Vec<DesiredService>,
    /// Records in the order in which they are written.
    pub records: Vec<Arc<Record>>,
    /// How it is taken care of.
    pub handling: Handling,
    /// Its file is invalid at the moment; this is how it last was valid.
    pub frozen: bool,
}

/// One service that a resource needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredService {
    /// What is wanted.
    pub spec: Arc<ServiceSpec>,
    /// Canonical hash of `spec`.
    pub hash: SpecHash,
    /// Follow the image's tag: the digest that it points to is pinned, and followed when it moves.
    pub follow_digest: bool,
}

/// A place in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Path as the source names it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused as a whole.
    Error,
    /// The file is taken; something in it has no effect or is odd.
    Warning,
}

/// Something wrong in a manifest, with the place, the reason and a way out.
///
/// `message` and `hint` never quote an environment value, so that a problem may be logged. `source_line`
/// quotes the file and is for a person's terminal only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Error or warning.
    #[serde(default = "error", skip_serializing_if = "is_error")]
    pub severity: Severity,
    /// Path as the source names it.
    pub file: Arc<str>,
    /// Line, from 1; 0 when the problem is the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 when the problem is the file as a whole.
    pub column: u32,
    /// Path inside the file: `apps.x.image`, `devices.m.connector.data[2]`; empty for the whole document.
    pub path: String,
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line of the file, for a snippet. Never logged.
    #[serde(skip)]
    pub source_line: Option<Arc<str>>,
    /// How many characters from `column` on are meant, at least 1.
    #[serde(skip)]
    pub width: u32,
}

/// Without the source line, which may show an environment value.
impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.severity)
    }
}

fn error() -> Severity {
    Severity::Error
}

fn is_error(severity: &Severity) -> bool {
    *severity == Severity::Error
}

impl Problem {
    /// An error that concerns a file as a whole.
    pub fn file(file: impl Into<Arc<str>>, message: impl Into<String>) -> Self {
        Problem {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            path: String::new(),
            message: message.into(),
            hint: None,
            source_line: None,
            width: 1,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}
