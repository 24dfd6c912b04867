//! Manifests from a git repository.
//!
//! # Flow
//!
//! ```text
//! changes ── interval, or a person's or a webhook's word ─► fetch ─► verify ─► read the commit's trees ─► in force
//! load ───── the first time the same; from then on what is in force, at once ─► Tree
//! tidy ───── in the background, after a commit came into force
//! ```
//!
//! # Guarantees
//!
//! - Only whole commits count: what is read are the objects of one commit, never a work tree.
//! - A commit that cannot be had, is not signed as it should be (it, or one that came with it), rewrites history that shall not be rewritten, or
//!   lacks the path leaves the commit before in force. The tree says so, and nothing is pruned meanwhile.
//! - The commit in force survives a restart. A damaged clone is made anew beside what is left of it; a full disk is no
//!   reason to.
//! - Of the history only what a rule asks for is fetched; what is fetched and held grows with the files of the newest
//!   commit and not with the number of commits.
//! - A fetch that hangs delays the first load, and one that somebody asked for, no longer than the time limit.
//! - Credentials go to the repository's own host only and are never shown. Servers are checked: TLS by the
//!   system's authorities and one's own, SSH by a known-hosts file.

mod clone;
mod commit;
mod copy;
mod fetch;
mod follow;
mod history;
mod known_hosts;
mod options;
mod seen;
mod signers;
mod smart_http;
mod tidy;
mod tree;
mod trouble;
mod work;

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;

use self::clone::local;
use self::follow::Follower;
pub use self::options::{Credentials, DEFAULT_INTERVAL, DEFAULT_TIMEOUT, GitOptions, Rewritten, SignedCommits, Wall};
use self::trouble::unreachable;
use self::work::blocking;
use super::{Source, Tree};
use crate::model::{Problem, Revision, Severity, SourceKind, SourcePlace, SourceTrouble};

/// Manifests of a git repository. Clones share it.
#[derive(Debug, Clone)]
pub struct GitSource {
    follower: Arc<Follower>,
}

impl GitSource {
    /// Nothing is fetched before the first load.
    pub fn new(options: GitOptions) -> Self {
        GitSource { follower: Arc::new(Follower::new(options)) }
    }

    /// Fetches as soon as somebody listens to the changes.
    pub fn fetch_soon(&self) {
        self.follower.soon.notify_one();
    }
}

impl Source for GitSource {
    async fn load(&self) -> Result<Tree, SourceTrouble> {
        let follower = &self.follower;
        let fetch = {
            let mut state = follower.state();
            // The first fetch answers whoever asked before it.
            let wanted = std::mem::take(&mut state.wanted);
            wanted || !state.started
        };
        if fetch {
            follower.refresh().await;
        }
        let state = follower.state();
        let Some(in_force) = &state.in_force else {
            let trouble = state.trouble.clone().unwrap_or_else(|| unreachable("was not fetched yet"));
            return Err(SourceTrouble { message: format!("{}: {}", follower.shown, trouble.message), ..trouble });
        };
        let mut problems = in_force.content.problems.clone();
        if let Some(replaced) = &in_force.info.replaced {
            let message = format!("history was rewritten: the commit in force does not succeed {replaced:.12}");
            let problem = Problem::file(follower.shown.clone(), message);
            problems.push(Problem { severity: Severity::Warning, ..problem });
        }
        Ok(Tree {
            revision: Revision(in_force.commit.to_string()),
            files: in_force.content.files.values().map(|(_, file)| file.clone()).collect(),
            problems,
            others: in_force.content.others.clone(),
            incomplete: in_force.content.incomplete,
            trouble: state.trouble.clone(),
            commit: Some(in_force.info.clone()),
        })
    }

    fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        futures_util::stream::unfold(self.follower.clone(), |follower| async move {
            if follower.options.once {
                std::future::pending::<()>().await;
            }
            loop {
                tokio::select! {
                    () = tokio::time::sleep(follower.pause()) => {}
                    () = follower.soon.notified() => {}
                }
                if follower.refresh().await {
                    return Some(((), follower));
                }
            }
        })
    }

    fn refresh(&self) {
        self.follower.state().wanted = true;
    }

    fn place(&self) -> SourcePlace {
        let options = &self.follower.options;
        SourcePlace {
            kind: SourceKind::Git,
            location: self.follower.shown.clone(),
            branch: options.wanted().map(Arc::from),
            path: options.path.as_str().into(),
        }
    }

    fn read_ago(&self) -> Option<Duration> {
        self.follower.state().fetched.map(|fetched| fetched.elapsed())
    }

    async fn attachment(&self, manifest: &str, path: &str) -> Result<Arc<str>, String> {
        if path.starts_with('/') {
            return Err(
                "is an absolute path: a repository names device models by paths beside its manifests, or URLs".into()
            );
        }
        let folder = manifest.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = format!("{folder}/{path}");
        let commit = {
            let state = self.follower.state();
            if let Some(known) = state.attachments.get(&path) {
                return known.clone();
            }
            state.in_force.as_ref().map(|in_force| in_force.commit).ok_or("was not fetched yet")?
        };
        let (follower, name) = (self.follower.clone(), path.clone());
        let read = blocking(move || {
            let _shared = follower.clone.share();
            let repository = follower.clone.open()?;
            let commit = repository.find_commit(commit).map_err(|error| local(&error))?;
            tree::attachment(&commit, &name, &repository)
        });
        // A clone that cannot be read is no fact about the commit: it is asked again.
        let read = read.await.map_err(|trouble| trouble.message)?;
        let mut state = self.follower.state();
        if state.in_force.as_ref().is_some_and(|in_force| in_force.commit == commit) {
            state.attachments.insert(path, read.clone());
        }
        read
    }
}
