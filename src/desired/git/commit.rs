//! One commit: who signed it, and what it holds. Everything here blocks.

use std::time::Duration;

use git2::{Commit, Oid, Repository};

use super::clone::{Clone as LocalClone, local};
use super::options::GitOptions;
use super::signers::Signers;
use super::tree::{self, Content, Files};
use crate::desired::CommitInfo;
use crate::desired::file::io_reason;
use crate::model::{SourceTrouble, TroubleReason};

/// Longest author or subject that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// The commit that is in force, read.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    pub(super) commit: Oid,
    pub(super) info: CommitInfo,
    pub(super) content: Content,
}

/// Verifies and reads a commit. Files that are in `known` with the same object are not read again.
pub(super) fn read(
    clone: &LocalClone,
    options: &GitOptions,
    id: Oid,
    replaced: Option<Oid>,
    known: &Files,
) -> Result<InForce, SourceTrouble> {
    let repository = clone.open()?;
    let commit = repository.find_commit(id).map_err(|error| local(&error))?;
    let info = CommitInfo { replaced: replaced.map(|id| id.to_string().into()), ..info(&commit) };
    let below = options.path.trim_matches('/');
    let read = verify(&repository, &commit, options)
        .and_then(|()| tree::manifests(&commit, below, known, options.limits, &repository))
        .map_err(|trouble| match trouble.reason {
            TroubleReason::Damaged | TroubleReason::Disk => trouble,
            _ => trouble.about(info.clone()),
        });
    Ok(InForce { commit: id, info, content: read? })
}

/// What people want to know of a commit. Who wrote it chose the text: on one line, and of bounded length.
pub(super) fn info(commit: &Commit<'_>) -> CommitInfo {
    let shown = |bytes: &[u8]| -> String {
        let text = String::from_utf8_lossy(bytes);
        text.chars().map(|c| if is_odd(c) { '\u{fffd}' } else { c }).take(MAX_SHOWN).collect()
    };
    CommitInfo {
        id: commit.id().to_string().into(),
        author: shown(commit.author().name_bytes()),
        subject: shown(commit.summary_bytes().unwrap_or_default()),
        time: Duration::from_secs(u64::try_from(commit.time().seconds()).unwrap_or(0)),
        replaced: None,
    }
}

/// Characters that would move a cursor, or turn the direction of what stands beside them.
fn is_odd(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Holds a commit's signature against the allowed signers, read anew each time.
fn verify(repository: &Repository, commit: &Commit<'_>, options: &GitOptions) -> Result<(), SourceTrouble> {
    let Some(path) = &options.allowed_signers else { return Ok(()) };
    let shown = path.display();
    let unverified = |message: String| SourceTrouble::new(TroubleReason::Unverified, message);
    let text = std::fs::read_to_string(path).map_err(|error| {
        unverified(format!("the allowed signers `{shown}` cannot be read: {}", io_reason(&error)))
            .hint("check the path and who may read the file")
    })?;
    let signers =
        Signers::parse(&text).map_err(|reason| unverified(format!("the allowed signers `{shown}`: {reason}")))?;
    let refuse = |reason: &str| {
        unverified(format!("commit {:.12} {reason}", commit.id().to_string()))
            .hint("sign commits with a key of the allowed-signers file (`git commit -S`, gpg.format=ssh)")
    };
    let (signature, payload) = repository.extract_signature(&commit.id(), None).map_err(|_| refuse("is not signed"))?;
    signers.verify(&signature, &payload, commit.time().seconds()).map_err(|reason| refuse(&reason))?;
    Ok(())
}
