//! One commit: who signed it, and what it holds. Everything here blocks.

use std::path::Path;
use std::time::Duration;

use git2::{Commit, Oid, Repository};

use super::clone::{Clone as LocalClone, local};
use super::history;
use super::options::GitOptions;
use super::seen::FirstSeen;
use super::signers::{Revoked, Signers};
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
    let read = verify(&repository, &[id], options)
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

/// Holds the signatures of commits against the allowed signers and the revoked keys, read anew each time.
pub(super) fn verify(repository: &Repository, commits: &[Oid], options: &GitOptions) -> Result<(), SourceTrouble> {
    let Some(path) = &options.allowed_signers else { return Ok(()) };
    let cannot = |what: &str, path: &Path, reason: &str| {
        unverified(format!("the {what} `{}` {reason}", path.display())).hint("check the file and who may read it")
    };
    let read = |what: &str, path: &Path| {
        std::fs::read(path).map_err(|error| cannot(what, path, &format!("cannot be read: {}", io_reason(&error))))
    };
    let text = String::from_utf8_lossy(&read("allowed signers", path)?).into_owned();
    let signers = Signers::parse(&text)
        .map_err(|reason| unverified(format!("the allowed signers `{}`: {reason}", path.display())))?;
    let revoked = match &options.revoked_signers {
        Some(path) => {
            Revoked::parse(&read("revoked keys", path)?).map_err(|reason| cannot("revoked keys", path, &reason))?
        }
        None => Revoked::default(),
    };
    let seen = match &options.wall {
        Some(wall) => FirstSeen::at(options.seen_path()).times(commits, wall.seconds()),
        None => vec![i64::MAX; commits.len()],
    };
    for (id, seen) in commits.iter().zip(seen) {
        let refuse = |reason: &str| {
            unverified(format!("commit {:.12} {reason}", id.to_string()))
                .hint("sign commits with a key of the allowed-signers file (`git commit -S`, gpg.format=ssh)")
        };
        let (signature, payload) = repository.extract_signature(id, None).map_err(|_| refuse("is not signed"))?;
        let committed = repository.find_commit(*id).map_err(|error| local(&error))?.time().seconds();
        signers.verify(&signature, &payload, &revoked, committed, seen).map_err(|reason| refuse(&reason))?;
    }
    Ok(())
}

/// Holds the signatures of all commits that are new since another one against the allowed signers.
pub(super) fn verify_between(
    repository: &Repository,
    new: Oid,
    old: Oid,
    options: &GitOptions,
) -> Result<(), SourceTrouble> {
    let unseen = |what: &str| {
        unverified(format!(
            "not all commits between {old:.12} and {new:.12} can be seen, of which each must be signed{what}"
        ))
        .hint("is the repository a shallow one? `--signed-commits head` asks for the newest commit's signature alone")
    };
    match history::between(repository, new, old).map_err(|error| unseen(&format!(": {}", error.message())))? {
        Some(commits) => verify(repository, &commits, options),
        None => Err(unseen("")),
    }
}

fn unverified(message: String) -> SourceTrouble {
    SourceTrouble::new(TroubleReason::Unverified, message)
}
