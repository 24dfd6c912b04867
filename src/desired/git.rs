//! Manifests from a git repository.
//!
//! # Flow
//!
//! ```text
//! changes ── interval, or a person's or a webhook's word ─► fetch ─► verify ─► read the commit's trees ─► in force
//! load ───── the first time the same; from then on what is in force, at once ─► Tree
//! ```
//!
//! # Guarantees
//!
//! - Only whole commits count: what is read are the objects of one commit, never a work tree.
//! - A commit that cannot be had, is not signed as it should be, rewrites history that shall not be rewritten, or
//!   lacks the path leaves the commit before in force. That is an error of the tree, so that nothing is pruned.
//! - The commit in force survives a restart; a damaged clone is made anew.
//! - Credentials go to the repository's own host only and are never shown. Servers are checked: TLS by the
//!   system's authorities and one's own, SSH by a known-hosts file.

mod clone;
mod known_hosts;
mod signers;
mod smart_http;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::Stream;
use git2::Oid;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, Semaphore, mpsc};

use self::clone::{Clone as LocalClone, local};
use self::signers::Signers;
use self::smart_http::SmartHttp;
use self::tree::Files;
use super::file::io_reason;
use super::remote::{RemoteOptions, client};
use super::{CommitInfo, Source, SourceError, Tree};
use crate::model::{Problem, Revision, Severity};

/// Fetches through libgit2 that may hang at a time: it has no time limit of its own.
const HANGING: usize = 4;

/// Pieces of a pack on their way to the disk.
const PIECES: usize = 16;

/// How to prove to a server who we are, and how to know who it is.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User name beside the token; hosts of git repositories ignore it, or want one of their own.
    pub user: Option<String>,
    /// Token or password for HTTPS.
    pub token: Option<String>,
    /// Private key for SSH; without one, the agent is asked.
    pub ssh_key: Option<PathBuf>,
    /// What the private key is encrypted with.
    pub ssh_passphrase: Option<String>,
    /// Keys of SSH servers.
    pub known_hosts: Option<PathBuf>,
}

impl Credentials {
    fn user(&self) -> &str {
        // GitHub's name for the owner of a token; GitLab, Gitea and Forgejo take any.
        self.user.as_deref().unwrap_or("x-access-token")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
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

/// Which repository, and how.
#[derive(Debug, Clone)]
pub struct GitOptions {
    /// `https://…`, `ssh://…`, `user@host:path`, `file://…` or a path.
    pub url: String,
    /// Branch, tag, full reference or commit id; none for the default branch.
    pub revision: Option<String>,
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
    /// What a rewritten history means.
    pub rewritten: Rewritten,
}

impl GitOptions {
    /// A repository with the usual settings.
    pub fn new(url: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        GitOptions {
            url: url.into(),
            revision: None,
            path: String::new(),
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(60),
            state_dir: state_dir.into(),
            credentials: Credentials::default(),
            ca_file: None,
            allowed_signers: None,
            rewritten: Rewritten::default(),
        }
    }
}

/// Manifests of a git repository.
#[derive(Debug, Clone)]
pub struct GitSource {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: GitOptions,
    /// The URL without a password.
    shown: Arc<str>,
    clone: LocalClone,
    state: Mutex<State>,
    /// One fetch at a time.
    fetching: tokio::sync::Mutex<()>,
    hanging: Arc<Semaphore>,
    soon: Notify,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    in_force: Option<InForce>,
    /// Why the newest commit is not in force, or is not known.
    trouble: Option<Trouble>,
    attachments: HashMap<String, Result<Arc<str>, String>>,
}

#[derive(Debug, Clone)]
struct InForce {
    commit: Oid,
    info: CommitInfo,
    files: Arc<Files>,
    /// The commit that it replaced although it does not succeed it.
    replaced: Option<Oid>,
}

/// Why a commit is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    message: String,
    hint: Option<String>,
    /// The clone is to blame, and helps by being made anew.
    damage: bool,
}

impl Trouble {
    fn new(message: impl Into<String>) -> Self {
        Trouble { message: message.into(), hint: None, damage: false }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Trouble { hint: Some(hint.into()), ..self }
    }

    fn denied() -> Self {
        Trouble::new("the server refuses our credentials, or wants some")
            .hint("check that the token or key is valid and may read the repository")
    }
}

impl GitSource {
    /// Nothing is fetched before the first load.
    pub fn new(options: GitOptions) -> Self {
        let mut hash = Sha256::new();
        hash.update(options.url.as_bytes());
        hash.update([0]);
        hash.update(options.revision.as_deref().unwrap_or_default().as_bytes());
        let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let inner = Inner {
            shown: shown(&options.url).into(),
            clone: LocalClone { path: options.state_dir.join("git").join(name) },
            options,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            hanging: Arc::new(Semaphore::new(HANGING)),
            soon: Notify::new(),
        };
        GitSource { inner: Arc::new(inner) }
    }

    /// Fetches as soon as somebody listens to the changes: for webhooks and impatient people.
    pub fn fetch_soon(&self) {
        self.inner.soon.notify_one();
    }
}

impl Source for GitSource {
    async fn load(&self) -> Result<Tree, SourceError> {
        let inner = &self.inner;
        if !inner.state().started {
            inner.refresh().await;
        }
        let state = inner.state();
        let trouble = state.trouble.as_ref();
        let Some(in_force) = &state.in_force else {
            let trouble = trouble.cloned().unwrap_or_else(|| Trouble::new("was not fetched yet"));
            return Err(SourceError { message: format!("{}: {}", inner.shown, trouble.message), hint: trouble.hint });
        };
        let mut problems = Vec::new();
        if let Some(trouble) = trouble {
            let message = format!("{}; commit {:.12} stays in force", trouble.message, in_force.commit.to_string());
            problems.push(Problem { hint: trouble.hint.clone(), ..Problem::file(inner.shown.clone(), message) });
        }
        if let Some(replaced) = in_force.replaced {
            let message = format!("history was rewritten: the commit in force does not succeed {replaced:.12}");
            let problem = Problem::file(inner.shown.clone(), message);
            problems.push(Problem { severity: Severity::Warning, ..problem });
        }
        Ok(Tree {
            revision: Revision(in_force.commit.to_string()),
            files: in_force.files.values().map(|(_, file)| file.clone()).collect(),
            problems,
            commit: Some(in_force.info.clone()),
        })
    }

    fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        futures_util::stream::unfold(self.inner.clone(), |inner| async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(inner.options.interval) => {}
                    () = inner.soon.notified() => {}
                }
                if inner.refresh().await {
                    return Some(((), inner));
                }
            }
        })
    }

    async fn attachment(&self, manifest: &str, path: &str) -> Result<Arc<str>, String> {
        let folder = manifest.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = tree::join(folder, path).ok_or("is outside the repository")?;
        let commit = {
            let state = self.inner.state();
            if let Some(known) = state.attachments.get(&path) {
                return known.clone();
            }
            state.in_force.as_ref().map(|in_force| in_force.commit).ok_or("was not fetched yet")?
        };
        let (inner, name) = (self.inner.clone(), path.clone());
        let read = tokio::task::spawn_blocking(move || {
            let repository = inner.clone.open().map_err(|trouble| trouble.message)?;
            let commit = repository.find_commit(commit).map_err(|error| local(&error).message)?;
            tree::attachment(&commit, &name, &repository)
        });
        let read = read.await.map_err(|_| "reading it was cut short".to_owned())?;
        let mut state = self.inner.state();
        if state.in_force.as_ref().is_some_and(|in_force| in_force.commit == commit) {
            state.attachments.insert(path, read.clone());
        }
        read
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches and puts the newest commit into force if it may be; true when `load` answers something new.
    async fn refresh(self: &Arc<Self>) -> bool {
        let _one = self.fetching.lock().await;
        let first = !std::mem::replace(&mut self.state().started, true);
        if first {
            self.restore().await;
        }
        let mut outcome = self.fetch_and_consider().await;
        if outcome.as_ref().is_err_and(|trouble| trouble.damage) {
            tracing::warn!(repository = %self.shown, "the clone is damaged and made anew");
            let inner = self.clone();
            let anew = self.blocking(move || inner.clone.make_anew().map(drop)).await;
            outcome = match anew {
                Ok(()) => self.fetch_and_consider().await,
                Err(trouble) => Err(trouble),
            };
        }
        let mut state = self.state();
        let (news, trouble) = match outcome {
            Ok(None) => (false, None),
            Ok(Some(in_force)) => {
                tracing::info!(repository = %self.shown, commit = %in_force.commit, "new commit");
                state.in_force = Some(in_force);
                state.attachments.clear();
                (true, None)
            }
            Err(trouble) => (false, Some(trouble)),
        };
        let news = news || state.trouble != trouble || first;
        if let Some(trouble) = trouble.as_ref().filter(|_| news) {
            tracing::warn!(repository = %self.shown, reason = %trouble.message, "no new commit");
        }
        state.trouble = trouble;
        news
    }

    /// Takes up what was in force when the operator last ran.
    async fn restore(self: &Arc<Self>) {
        let inner = self.clone();
        let restored = self.blocking(move || match inner.clone.in_force() {
            Some(commit) => inner.read(commit, None, &Files::new()).map(Some),
            None => Ok(None),
        });
        match restored.await {
            Ok(in_force) => self.state().in_force = in_force,
            Err(trouble) => {
                tracing::warn!(repository = %self.shown, reason = %trouble.message, "the last commit is not taken up");
            }
        }
    }

    async fn fetch_and_consider(self: &Arc<Self>) -> Result<Option<InForce>, Trouble> {
        let late =
            || Trouble::new(format!("the repository did not answer within {} s", self.options.timeout.as_secs()));
        let fetched = tokio::time::timeout(self.options.timeout, self.fetch()).await.map_err(|_| late())??;
        let now = self.state().in_force.clone();
        let inner = self.clone();
        self.blocking(move || inner.consider(fetched, now.as_ref())).await
    }

    /// Fetches the newest commit of the branch.
    async fn fetch(self: &Arc<Self>) -> Result<Oid, Trouble> {
        let wanted = self.options.revision.as_deref();
        let is_id = wanted.is_some_and(|wanted| {
            (7..=40).contains(&wanted.len()) && wanted.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        match self.fetch_revision(wanted).await {
            // A commit is in the history of the default branch, or nowhere that we could see.
            Err(trouble) if is_id && !trouble.damage => {
                self.fetch_revision(None).await.map_err(|_| trouble)?;
                let (inner, wanted) = (self.clone(), wanted.unwrap_or_default().to_owned());
                self.blocking(move || {
                    let repository = inner.clone.open()?;
                    let none = |_| Trouble::new(format!("the repository has no commit `{wanted}`"));
                    Ok(repository.find_commit_by_prefix(&wanted).map_err(none)?.id())
                })
                .await
            }
            other => other,
        }
    }

    async fn fetch_revision(self: &Arc<Self>, wanted: Option<&str>) -> Result<Oid, Trouble> {
        let url = reqwest::Url::parse(&self.options.url).ok();
        match url {
            Some(url) if url.scheme() == "https" => self.fetch_https(url, wanted).await,
            Some(url) if url.scheme() == "http" => {
                Err(Trouble::new("would be fetched without encryption").hint("use an `https://` or `ssh://` URL"))
            }
            Some(_) | None => {
                let busy = || Trouble::new("earlier fetches still hang").hint("look for a firewall that drops packets");
                let permit = self.hanging.clone().try_acquire_owned().map_err(|_| busy())?;
                let (inner, wanted) = (self.clone(), wanted.map(str::to_owned));
                self.blocking(move || {
                    let options = &inner.options;
                    let fetched = inner.clone.fetch(&options.url, wanted.as_deref(), &options.credentials);
                    drop(permit);
                    Ok(fetched?.0)
                })
                .await
            }
        }
    }

    async fn fetch_https(self: &Arc<Self>, mut url: reqwest::Url, wanted: Option<&str>) -> Result<Oid, Trouble> {
        let mut credentials = self.options.credentials.clone();
        if let Some(password) = url.password() {
            credentials =
                Credentials { user: Some(url.username().into()), token: Some(password.into()), ..credentials };
        }
        // Fails for URLs without a host only.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        let remote = RemoteOptions { ca_file: self.options.ca_file.clone(), ..RemoteOptions::default() };
        let client = client(&remote).map_err(Trouble::new)?;
        let http = SmartHttp { client, url, credentials: &credentials };
        let advertised = http.advertised().await?;
        let (_, id) = pick(&advertised.refs, advertised.head.as_deref(), wanted)?;
        let oid = Oid::from_str(&id).map_err(|_| Trouble::new("the server names an id that is none"))?;
        let inner = self.clone();
        let (has, tips) = self.blocking(move || Ok((inner.clone.has(oid), inner.clone.tips()))).await?;
        if has {
            return Ok(oid);
        }
        let (sink, pieces) = mpsc::channel(PIECES);
        let inner = self.clone();
        let take = tokio::task::spawn_blocking(move || inner.clone.take_pack(pieces));
        let sent = http.pack(&advertised, &id, &tips, &sink).await;
        drop(sink);
        let taken = take.await.map_err(|_| Trouble::new("keeping what was fetched was cut short"))?;
        match (sent, taken) {
            // The disk's reason counts more than that nobody took what was sent.
            (_, Err(trouble)) if trouble.damage || trouble.hint.is_some() => Err(trouble),
            (Err(trouble), _) | (Ok(()), Err(trouble)) => Err(trouble),
            (Ok(()), Ok(())) => Ok(oid),
        }
    }

    /// Decides whether a fetched commit comes into force; none when it is already. Blocking.
    fn consider(&self, fetched: Oid, now: Option<&InForce>) -> Result<Option<InForce>, Trouble> {
        let commit = self.clone.keep(fetched)?;
        if now.is_some_and(|now| now.commit == commit) {
            return Ok(None);
        }
        let replaced = match now {
            Some(now) => self.rewrites(commit, now.commit)?,
            None => None,
        };
        if let (Some(replaced), Rewritten::Refuse) = (replaced, self.options.rewritten) {
            let message = format!("history was rewritten: commit {commit:.12} does not succeed {replaced:.12}");
            return Err(
                Trouble::new(message).hint("if that was meant to be, allow it once with `--git-rewritten follow`")
            );
        }
        let none = Files::new();
        let in_force = self.read(commit, replaced, now.map_or(&none, |now| &now.files))?;
        self.clone.put_in_force(commit)?;
        Ok(Some(in_force))
    }

    /// The commit that is left behind when the new one does not succeed it.
    fn rewrites(&self, new: Oid, old: Oid) -> Result<Option<Oid>, Trouble> {
        let repository = self.clone.open()?;
        if repository.find_commit(old).is_err() {
            // The clone was made anew, and this history has no place for the old commit.
            return Ok(Some(old));
        }
        let succeeds = repository.graph_descendant_of(new, old).map_err(|error| local(&error))?;
        Ok((!succeeds).then_some(old))
    }

    /// Verifies and reads a commit. Blocking.
    fn read(&self, id: Oid, replaced: Option<Oid>, known: &Files) -> Result<InForce, Trouble> {
        let repository = self.clone.open()?;
        let commit = repository.find_commit(id).map_err(|error| local(&error))?;
        self.verify(&repository, &commit)?;
        let below = self.options.path.trim_matches('/');
        let files = Arc::new(tree::manifests(&commit, below, known, &repository)?);
        let seconds = u64::try_from(commit.time().seconds()).unwrap_or(0);
        let info = CommitInfo {
            id: id.to_string(),
            author: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
            subject: commit.summary().ok().flatten().unwrap_or_default().to_owned(),
            time: UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH),
        };
        Ok(InForce { commit: id, info, files, replaced })
    }

    /// Holds a commit's signature against the allowed signers, read anew each time.
    fn verify(&self, repository: &git2::Repository, commit: &git2::Commit<'_>) -> Result<(), Trouble> {
        let Some(path) = &self.options.allowed_signers else { return Ok(()) };
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
        let (signature, payload) =
            repository.extract_signature(&commit.id(), None).map_err(|_| refuse("is not signed"))?;
        signers.verify(&signature, &payload, commit.time().seconds()).map_err(|reason| refuse(&reason))?;
        Ok(())
    }

    /// Runs work that blocks on a thread that may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let cut = |_| Trouble::new("the work was cut short");
        tokio::task::spawn_blocking(work).await.map_err(cut)?
    }
}

/// Full name and id of a branch, tag or reference.
fn pick(
    refs: &BTreeMap<String, String>,
    head: Option<&str>,
    wanted: Option<&str>,
) -> Result<(String, String), Trouble> {
    let found = match wanted {
        Some(wanted) => [wanted.to_owned(), format!("refs/heads/{wanted}"), format!("refs/tags/{wanted}")]
            .into_iter()
            .find_map(|name| refs.get_key_value(&name)),
        None => head.and_then(|name| refs.get_key_value(name)).or_else(|| {
            // A server that does not say which one is the default: the one that HEAD's commit is on.
            let id = refs.get("HEAD")?;
            refs.iter().find(|(name, other)| name.starts_with("refs/heads/") && *other == id)
        }),
    };
    if let Some((name, id)) = found {
        return Ok((name.clone(), id.clone()));
    }
    Err(match wanted {
        Some(wanted) => Trouble::new(format!("the repository has no branch or tag `{wanted}`"))
            .hint("push it, or choose another one with `--branch`"),
        None => Trouble::new("the repository has no default branch").hint("push one, or choose one with `--branch`"),
    })
}

/// A URL without its password.
fn shown(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            let _ = parsed.set_password(None);
            let _ = parsed.set_username("");
            parsed.to_string()
        }
        Ok(_) | Err(_) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_goes_before_a_tag_and_the_default_is_what_head_is() {
        let id = |digit: &str| digit.repeat(40);
        let refs: BTreeMap<String, String> = [
            ("HEAD", "2"),
            ("refs/heads/v1", "1"),
            ("refs/heads/main", "2"),
            ("refs/tags/v1", "3"),
            ("refs/tags/v2", "4"),
        ]
        .into_iter()
        .map(|(name, digit)| (name.to_owned(), id(digit)))
        .collect();
        let picked = |head, wanted| pick(&refs, head, wanted).map(|(_, id)| id.chars().take(1).collect::<String>());
        assert_eq!(picked(None, Some("v1")).as_deref(), Ok("1"));
        assert_eq!(picked(None, Some("v2")).as_deref(), Ok("4"));
        assert_eq!(picked(None, Some("refs/tags/v1")).as_deref(), Ok("3"));
        assert_eq!(picked(Some("refs/heads/v1"), None).as_deref(), Ok("1"));
        assert_eq!(picked(None, None).as_deref(), Ok("2"));
        assert!(picked(None, Some("gone")).unwrap_err().message.contains("no branch or tag `gone`"));
    }

    #[test]
    fn passwords_in_urls_are_not_shown() {
        assert_eq!(shown("https://me:secret@git.plant/a.git"), "https://git.plant/a.git");
        assert_eq!(shown("git@git.plant:a.git"), "git@git.plant:a.git");
    }
}
