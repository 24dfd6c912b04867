//! Following a branch: one fetch at a time, and what comes of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use git2::Oid;
use tokio::sync::Notify;

use super::clone::{Clone as LocalClone, local};
use super::commit::{self, InForce};
use super::fetch::Fetcher;
use super::options::{GitOptions, Rewritten};
use super::tree::Files;
use super::{Trouble, blocking};

/// A repository that is followed.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) options: Arc<GitOptions>,
    /// The URL without a password.
    pub(super) shown: Arc<str>,
    pub(super) clone: LocalClone,
    /// Rung by whoever wants a fetch now.
    pub(super) soon: Notify,
    fetcher: Fetcher,
    state: Mutex<State>,
    /// One fetch at a time.
    fetching: tokio::sync::Mutex<()>,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The first fetch has begun.
    pub(super) started: bool,
    /// Somebody wants to hear of what is there now: the next load fetches.
    pub(super) wanted: bool,
    pub(super) in_force: Option<InForce>,
    /// Why the newest commit is not in force, or is not known.
    pub(super) trouble: Option<Trouble>,
    /// Files beside the manifests that were read from the commit in force.
    pub(super) attachments: HashMap<String, Result<Arc<str>, String>>,
}

impl Follower {
    pub(super) fn new(options: GitOptions) -> Self {
        let options = Arc::new(options);
        Follower {
            shown: options.shown().into(),
            clone: LocalClone { path: options.clone_path(), in_force: options.in_force_ref() },
            soon: Notify::new(),
            fetcher: Fetcher::new(options.clone()),
            options,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches and puts the newest commit into force if it may be; true when `load` answers something new.
    pub(super) async fn refresh(self: &Arc<Self>) -> bool {
        let _one = self.fetching.lock().await;
        let first = !std::mem::replace(&mut self.state().started, true);
        if first {
            self.restore().await;
        }
        let mut outcome = self.fetch_and_consider().await;
        if outcome.as_ref().is_err_and(|trouble| trouble.damage) {
            tracing::warn!(repository = %self.shown, "the clone is damaged and made anew");
            let clone = self.clone.clone();
            outcome = match blocking(move || clone.make_anew().map(drop)).await {
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
        // Whoever names a revision wants that one, or to hear that it is not to be had.
        if self.options.revision.is_some() {
            return;
        }
        let follower = self.clone();
        let restored = blocking(move || match follower.clone.in_force() {
            Some(id) => commit::read(&follower.clone, &follower.options, id, None, &Files::new()).map(Some),
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
        let fetched = self.fetcher.fetch(&self.clone).await?;
        let now = self.state().in_force.clone();
        let follower = self.clone();
        blocking(move || follower.consider(fetched, now.as_ref())).await
    }

    /// Decides whether a fetched commit comes into force; none when it is already. Blocking.
    fn consider(&self, fetched: Oid, now: Option<&InForce>) -> Result<Option<InForce>, Trouble> {
        let id = self.clone.keep(fetched)?;
        if now.is_some_and(|now| now.commit == id) {
            return Ok(None);
        }
        let replaced = match now {
            Some(now) => self.rewrites(id, now.commit)?,
            None => None,
        };
        if let (Some(replaced), Rewritten::Refuse) = (replaced, self.options.rewritten) {
            let message = format!("history was rewritten: commit {id:.12} does not succeed {replaced:.12}");
            return Err(
                Trouble::new(message).hint("if that was meant to be, allow it once with `--git-rewritten follow`")
            );
        }
        let none = Files::new();
        let files = now.map_or(&none, |now| &now.files);
        let in_force = commit::read(&self.clone, &self.options, id, replaced, files)?;
        if !self.options.once {
            self.clone.put_in_force(id)?;
        }
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
}
