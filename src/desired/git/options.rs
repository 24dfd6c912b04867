//! Which repository, and how.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::desired::Limits;
use crate::desired::file::cannot_read;
use crate::model::{SourceTrouble, TroubleReason};

/// How often to fetch unless told otherwise.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

/// How long a fetch may take unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// How to prove to a server who we are, and how to know who it is.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User name beside the token; hosts of git repositories ignore it, or want one of their own.
    pub user: Option<String>,
    /// Token or password for HTTPS.
    pub token: Option<String>,
    /// File with the token, read anew for each fetch, since tokens expire and are replaced; goes before `token`.
    pub token_file: Option<PathBuf>,
    /// Private key for SSH; without one, the agent is asked.
    pub ssh_key: Option<PathBuf>,
    /// What the private key is encrypted with.
    pub ssh_passphrase: Option<String>,
    /// Keys of SSH servers.
    pub known_hosts: Option<PathBuf>,
}

impl Credentials {
    pub(super) fn user(&self) -> &str {
        // GitHub's name for the owner of a token; GitLab, Gitea and Forgejo take any.
        self.user.as_deref().unwrap_or("x-access-token")
    }

    /// The same with the token that holds now.
    pub(super) fn current(&self) -> Result<Self, SourceTrouble> {
        let Some(path) = &self.token_file else { return Ok(self.clone()) };
        let token = fs::read_to_string(path).map_err(|error| {
            let message = format!("the token file `{}` {}", path.display(), cannot_read(&error));
            SourceTrouble::new(TroubleReason::Denied, message).hint("check the path and who may read the file")
        })?;
        Ok(Credentials { token: Some(token.trim().to_owned()), ..self.clone() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("token_file", &self.token_file)
            .field("ssh_key", &self.ssh_key)
            .field("known_hosts", &self.known_hosts)
            .finish_non_exhaustive()
    }
}

/// What to do when the new commit is no successor of the one in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rewritten {
    /// Follow it, and say so.
    #[default]
    Follow,
    /// Stay with the commit in force, and say so.
    Refuse,
}

/// Which commits must be signed, where any must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignedCommits {
    /// The newest one, which says what all files hold.
    #[default]
    Head,
    /// Each one that is new since the commit in force.
    All,
}

/// The wall clock, since 1970.
#[derive(Clone)]
pub struct Wall(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Wall {
    /// A clock.
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Wall(Arc::new(now))
    }

    /// Whole seconds since 1970.
    pub(super) fn seconds(&self) -> i64 {
        i64::try_from((self.0)().as_secs()).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wall")
    }
}

/// Which repository, and how.
#[derive(Debug, Clone)]
pub struct GitOptions {
    /// `https://…`, `ssh://…`, `user@host:path`, `file://…` or a path.
    pub url: String,
    /// Branch, tag or full reference; none for the default branch.
    pub branch: Option<String>,
    /// What to look at instead of the branch's newest commit: a commit id of 7 digits or more, a branch, a tag. An
    /// id must be what a branch or tag of any name points to, or lie in the history of `branch`. Each may be followed by
    /// `~N` and `^N`, which go back in its history as for git; `HEAD~1` goes back from the newest commit of `branch`.
    pub revision: Option<String>,
    /// A commit that the clone holds already is not asked for, whatever points to it now. For a command that changes
    /// nothing.
    pub from_clone: bool,
    /// Folder in the repository; empty for all of it.
    pub path: String,
    /// How often to fetch.
    pub interval: Duration,
    /// How long a fetch may take.
    pub timeout: Duration,
    /// Where clones live.
    pub state_dir: PathBuf,
    /// Who we are, and who the server is.
    pub credentials: Credentials,
    /// Certificate authorities (PEM) that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Who may sign commits (as for `git verify-commit`); none to take any commit.
    pub allowed_signers: Option<PathBuf>,
    /// Keys whose signatures no longer count; none for no such file.
    pub revoked_signers: Option<PathBuf>,
    /// Which commits must be signed, where `allowed_signers` says by whom.
    pub signed: SignedCommits,
    /// Says when a commit is first seen, which is what the time of a key is held against. Without a clock no key counts
    /// that has an end.
    pub wall: Option<Wall>,
    /// What a rewritten history means.
    pub rewritten: Rewritten,
    /// For a command that looks once: fetched by the first load alone, and what is seen is not what a daemon on the
    /// same state directory takes up at its next start.
    pub once: bool,
    /// How much a commit may hold.
    pub limits: Limits,
}

impl GitOptions {
    /// A repository with the usual settings.
    pub fn new(url: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        GitOptions {
            url: url.into(),
            branch: None,
            revision: None,
            from_clone: false,
            path: String::new(),
            interval: DEFAULT_INTERVAL,
            timeout: DEFAULT_TIMEOUT,
            state_dir: state_dir.into(),
            credentials: Credentials::default(),
            ca_file: None,
            allowed_signers: None,
            revoked_signers: None,
            signed: SignedCommits::default(),
            wall: None,
            rewritten: Rewritten::default(),
            once: false,
            limits: Limits::default(),
        }
    }

    /// What is fetched: the revision, else the branch; none for the default branch.
    pub(super) fn wanted(&self) -> Option<&str> {
        self.revision.as_deref().or(self.branch.as_deref())
    }

    /// Where the clone lies.
    pub(super) fn clone_path(&self) -> PathBuf {
        self.state_dir.join("git").join(short_hash(&self.url))
    }

    /// Where it is noted when commits were first seen.
    pub(super) fn seen_path(&self) -> PathBuf {
        self.clone_path().with_extension("seen")
    }

    /// The reference of the clone that says which commit is in force: one for each branch, since one clone serves
    /// all of a repository.
    pub(super) fn in_force_ref(&self) -> String {
        format!("refs/ofop/in-force/{}", short_hash(self.wanted().unwrap_or_default()))
    }

    /// The URL as it may be shown: without what may be a secret.
    pub(super) fn shown(&self) -> String {
        match reqwest::Url::parse(&self.url) {
            Ok(mut parsed) if parsed.password().is_some() || parsed.scheme() == "https" => {
                // Both fail for URLs without a host only.
                let _ = parsed.set_password(None);
                let _ = parsed.set_username("");
                parsed.to_string()
            }
            Ok(_) | Err(_) => self.url.clone(),
        }
    }
}

/// A name for a folder or a reference that tells texts apart.
fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_not_shown() {
        let shown = |url: &str| GitOptions::new(url, "").shown();
        assert_eq!(shown("https://me:secret@git.plant/a.git"), "https://git.plant/a.git");
        assert_eq!(shown("https://secret@git.plant/a.git"), "https://git.plant/a.git");
        assert_eq!(shown("git@git.plant:a.git"), "git@git.plant:a.git");
        assert_eq!(shown("ssh://git@git.plant/a.git"), "ssh://git@git.plant/a.git");
    }

    #[test]
    fn one_clone_serves_all_branches_and_each_has_its_own_commit_in_force() {
        let main = GitOptions::new("https://git.plant/a.git", "state");
        let other = GitOptions { branch: Some("other".into()), ..main.clone() };
        assert_eq!(main.clone_path(), other.clone_path());
        assert_ne!(main.in_force_ref(), other.in_force_ref());
    }
}
