//! One commit: who signed it, and what it holds. Everything here blocks.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use git2::{Commit, Oid, Repository};

use super::Trouble;
use super::clone::{Clone as LocalClone, local};
use super::options::GitOptions;
use super::signers::Signers;
use super::tree::{self, Files};
use crate::desired::CommitInfo;
use crate::desired::file::io_reason;

/// The commit that is in force, read.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    pub(super) commit: Oid,
    pub(super) info: CommitInfo,
    pub(super) files: Arc<Files>,
    /// The commit that it replaced although it does not succeed it.
    pub(super) replaced: Option<Oid>,
}

/// Verifies and reads a commit. Files that are in `known` with the same object are not read again.
pub(super) fn read(
    clone: &LocalClone,
    options: &GitOptions,
    id: Oid,
    replaced: Option<Oid>,
    known: &Files,
) -> Result<InForce, Trouble> {
    let repository = clone.open()?;
    let commit = repository.find_commit(id).map_err(|error| local(&error))?;
    verify(&repository, &commit, options)?;
    let below = options.path.trim_matches('/');
    let files = Arc::new(tree::manifests(&commit, below, known, &repository)?);
    Ok(InForce { commit: id, info: info(&commit), files, replaced })
}

fn info(commit: &Commit<'_>) -> CommitInfo {
    let seconds = u64::try_from(commit.time().seconds()).unwrap_or(0);
    CommitInfo {
        id: commit.id().to_string(),
        author: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
        subject: commit.summary().ok().flatten().unwrap_or_default().to_owned(),
        time: UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

/// Holds a commit's signature against the allowed signers, read anew each time.
fn verify(repository: &Repository, commit: &Commit<'_>, options: &GitOptions) -> Result<(), Trouble> {
    let Some(path) = &options.allowed_signers else { return Ok(()) };
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Trouble::new(format!("the allowed signers `{shown}` cannot be read: {}", io_reason(&error)))
    })?;
    let signers =
        Signers::parse(&text).map_err(|reason| Trouble::new(format!("the allowed signers `{shown}`: {reason}")))?;
    let refuse = |reason: &str| {
        Trouble::new(format!("commit {:.12} {reason}", commit.id().to_string()))
            .hint("sign commits with a key of the allowed-signers file (`git commit -S`, gpg.format=ssh)")
    };
    let (signature, payload) = repository.extract_signature(&commit.id(), None).map_err(|_| refuse("is not signed"))?;
    signers.verify(&signature, &payload, commit.time().seconds()).map_err(|reason| refuse(&reason))?;
    Ok(())
}
