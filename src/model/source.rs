//! Where manifests come from, and how that is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Folders and files.
    Directory,
    /// A git repository.
    Git,
}

impl SourceKind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceKind::Directory => "directory",
            SourceKind::Git => "git",
        }
    }
}

/// Where manifests come from, as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlace {
    /// What it is.
    pub kind: SourceKind,
    /// Paths, or a URL without credentials.
    pub location: Arc<str>,
    /// Branch, tag or commit that was asked for; none for a repository's default branch.
    pub branch: Option<Arc<str>>,
    /// Folder in the repository; empty for all of it.
    pub path: Arc<str>,
}

/// What people want to know of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its full id.
    pub id: Arc<str>,
    /// Name of its author, on one line.
    pub author: String,
    /// First line of its message.
    pub subject: String,
    /// When it was committed, since 1970-01-01 UTC.
    pub time: Duration,
    /// Id of the commit that was in force before although this one does not succeed it: history was rewritten.
    pub replaced: Option<Arc<str>>,
}

impl CommitInfo {
    /// The id as people write it.
    pub fn short(&self) -> &str {
        short(&self.id)
    }
}

/// The first digits of a commit id, enough to tell commits of a large repository apart.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Why the newest state of a source is not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceTrouble {
    /// What kind of trouble it is.
    pub reason: TroubleReason,
    /// A sentence for people; never holds a credential.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The commit that is there and not in force.
    pub refused: Option<Box<CommitInfo>>,
}

impl SourceTrouble {
    /// A trouble without a hint.
    pub fn new(reason: TroubleReason, message: impl Into<String>) -> Self {
        SourceTrouble { reason, message: message.into(), hint: None, refused: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        SourceTrouble { hint: Some(hint.into()), ..self }
    }

    /// The same about a commit.
    #[must_use]
    pub fn about(self, commit: CommitInfo) -> Self {
        SourceTrouble { refused: Some(Box::new(commit)), ..self }
    }
}

/// What kind of trouble a source is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TroubleReason {
    /// It does not answer, or breaks off.
    Unreachable,
    /// It does not let us in.
    Denied,
    /// The directory, the repository, the branch or the path is not there.
    Missing,
    /// The commit is not signed as it should be, or signatures cannot be checked.
    Unverified,
    /// History was rewritten, which is refused.
    Rewritten,
    /// The clone is damaged and cannot be made anew.
    Damaged,
    /// What is fetched cannot be kept on the disk.
    Disk,
    /// Anything else.
    Other,
}

impl TroubleReason {
    /// Every reason.
    pub const ALL: [TroubleReason; 8] = [
        TroubleReason::Unreachable,
        TroubleReason::Denied,
        TroubleReason::Missing,
        TroubleReason::Unverified,
        TroubleReason::Rewritten,
        TroubleReason::Damaged,
        TroubleReason::Disk,
        TroubleReason::Other,
    ];

    /// The word, as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            TroubleReason::Unreachable => "unreachable",
            TroubleReason::Denied => "denied",
            TroubleReason::Missing => "missing",
            TroubleReason::Unverified => "unverified",
            TroubleReason::Rewritten => "rewritten",
            TroubleReason::Damaged => "damaged",
            TroubleReason::Disk => "disk",
            TroubleReason::Other => "other",
        }
    }
}
