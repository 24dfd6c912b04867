//! Following a branch: one fetch at a time, and what comes of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use git2::{Oid, Repository};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clone::{Clone as LocalClone, local};
use super::commit::{self, InForce};
use super::fetch::Fetcher;
use super::options::{GitOptions, Rewritten, SignedCommits};
use super::tidy::Tidying;
use super::tree::Files;
use super::work::blocking;
use crate::model::{SourceTrouble, TroubleReason};

/// While the repository cannot be reached, it is tried at least this often: who fetches once an hour since a webhook
/// tells the rest shall not wait an hour for the end of an outage of a minute.
const RETRY: Duration = Duration::from_secs(60);

/// How long the history is looked at, at most, when the commit comes into force either way.
const LOOK: Duration = Duration::from_secs(10);

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
    pub(super) fetching: tokio::sync::Mutex<()>,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The first fetch has begun.
    pub(super) started: bool,
    /// Somebody wants to hear of what is there now: the next load fetches.
    pub(super) wanted: bool,
    /// When a fetch last worked.
    pub(super) fetched: Option<Instant>,
    pub(super) in_force: Option<InForce>,
    /// Why the newest commit is not in force, or is not known.
    pub(super) trouble: Option<SourceTrouble>,
    /// Files beside the manifests that were read from the commit in force.
    pub(super) attachments: HashMap<String, Result<Arc<str>, String>>,
    pub(super) tidying: Tidying,
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

    /// Until the next fetch, unless somebody wants it sooner.
    pub(super) fn pause(&self) -> Duration {
        let away = |trouble: &SourceTrouble| trouble.reason == TroubleReason::Unreachable;
        let interval = self.options.interval;
        if self.state().trouble.as_ref().is_some_and(away) { interval.min(RETRY) } else { interval }
    }

    /// Fetches and puts the newest commit into force if it may be; true when `load` answers something new.
    pub(super) async fn refresh(self: &Arc<Self>) -> bool {
        let _one = self.fetching.lock().await;
        let clone = self.clone.clone();
        let shared = blocking(move || Ok(clone.share())).await;
        let first = !std::mem::replace(&mut self.state().started, true);
        if first {
            self.restore().await;
        }
        let mut outcome = self.fetch_and_consider(&self.clone).await;
        if outcome.as_ref().is_err_and(|trouble| trouble.reason == TroubleReason::Damaged) {
            tracing::warn!(repository = %self.shown, "the clone is damaged and made anew");
            outcome = self.fetch_anew().await;
        }
        drop(shared);
        let is_new = matches!(outcome, Ok(Some(_)));
        let news = self.learn(outcome, first);
        if is_new && !self.options.once {
            self.tidy_soon();
        }
        news
    }

    /// Takes over what came of a fetch; true when that is something new.
    fn learn(&self, outcome: Result<Option<InForce>, SourceTrouble>, first: bool) -> bool {
        let mut state = self.state();
        let (news, trouble) = match outcome {
            Ok(None) => (false, None),
            Ok(Some(in_force)) => {
                let info = &in_force.info;
                tracing::info!(
                    repository = %self.shown, commit = info.short(), author = info.author, subject = info.subject,
                    rewritten = info.replaced.is_some(), "new commit"
                );
                state.in_force = Some(in_force);
                state.attachments.clear();
                (true, None)
            }
            Err(trouble) => (false, Some(trouble)),
        };
        let news = news || state.trouble != trouble || first;
        if let Some(trouble) = trouble.as_ref().filter(|_| news) {
            tracing::warn!(
                repository = %self.shown, reason = trouble.reason.as_str(), "no new commit: {}", trouble.message
            );
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

    async fn fetch_and_consider(self: &Arc<Self>, clone: &LocalClone) -> Result<Option<InForce>, SourceTrouble> {
        let fetched = self.fetcher.fetch(clone).await?;
        self.state().fetched = Some(Instant::now());
        let now = self.state().in_force.clone();
        let keeping = clone.clone();
        let id = blocking(move || keeping.keep(fetched)).await?;
        let replaced = match &now {
            Some(now) if now.commit != id => self.rewrites(clone, fetched, id, now.commit).await?,
            Some(_) | None => None,
        };
        if let Some(now) = now.as_ref().filter(|now| now.commit != id && self.asks_for_each_signature()) {
            let (old, options) = (now.commit, self.options.clone());
            let look = move |repository: &Repository| commit::verify_between(repository, id, old, &options);
            let verified = self.fetcher.with_history(clone, fetched, look).await;
            if let Err(trouble) = verified {
                return Err(self.about(clone, id, trouble).await);
            }
        }
        let (follower, clone) = (self.clone(), clone.clone());
        blocking(move || follower.consider(&clone, id, replaced, now.as_ref())).await
    }

    fn asks_for_each_signature(&self) -> bool {
        self.options.allowed_signers.is_some() && self.options.signed == SignedCommits::All
    }

    /// The trouble, with the commit that does not come into force for it.
    async fn about(&self, clone: &LocalClone, id: Oid, trouble: SourceTrouble) -> SourceTrouble {
        let clone = clone.clone();
        let info = blocking(move || Ok(commit::info(&clone.open()?.find_commit(id).map_err(|error| local(&error))?)));
        match info.await {
            Ok(info) if trouble.reason == TroubleReason::Unverified => trouble.about(info),
            Ok(_) | Err(_) => trouble,
        }
    }

    /// The commit that is left behind when the new one does not succeed it, or may not.
    async fn rewrites(
        &self,
        clone: &LocalClone,
        fetched: Oid,
        new: Oid,
        old: Oid,
    ) -> Result<Option<Oid>, SourceTrouble> {
        let succeeds = self.fetcher.succeeds(clone, fetched, new, old);
        let succeeds = match self.options.rewritten {
            Rewritten::Refuse => succeeds.await?,
            Rewritten::Follow => match tokio::time::timeout(LOOK, succeeds).await {
                Ok(Err(trouble)) if trouble.reason == TroubleReason::Damaged => return Err(trouble),
                Ok(Ok(succeeds)) => succeeds,
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(
                        repository = %self.shown, commit = %new, replaced = %old,
                        "the history between the commits cannot be looked at, and is taken for rewritten"
                    );
                    false
                }
            },
        };
        Ok((!succeeds).then_some(old))
    }

    /// The same into a clone beside the present one, whose place it takes once it holds everything: what can still be
    /// read of a damaged one is better than nothing while the repository is away.
    async fn fetch_anew(self: &Arc<Self>) -> Result<Option<InForce>, SourceTrouble> {
        let fresh = self.clone.beside("new");
        let making = fresh.clone();
        blocking(move || making.make_anew().map(drop)).await?;
        let outcome = self.fetch_and_consider(&fresh).await?;
        let old = self.clone.clone();
        blocking(move || fresh.replace(&old)).await?;
        Ok(outcome)
    }

    /// Decides whether a fetched commit comes into force; none when it is already. Blocking.
    fn consider(
        &self,
        clone: &LocalClone,
        id: Oid,
        replaced: Option<Oid>,
        now: Option<&InForce>,
    ) -> Result<Option<InForce>, SourceTrouble> {
        if let (Some(replaced), Rewritten::Refuse) = (replaced, self.options.rewritten) {
            let message = format!("history was rewritten: commit {id:.12} does not succeed {replaced:.12}");
            let commit = commit::info(&clone.open()?.find_commit(id).map_err(|error| local(&error))?);
            return Err(SourceTrouble::new(TroubleReason::Rewritten, message)
                .hint("if that was meant to be, allow it once with `--git-rewritten follow`")
                .about(commit));
        }
        let none = Files::new();
        let in_force = match now {
            Some(now) if now.commit == id => {
                // A key that was revoked or left the file: what is in force stays, and people hear of it.
                commit::verify(&clone.open()?, &[id], &self.options)
                    .map_err(|trouble| trouble.about(now.info.clone()))?;
                None
            }
            Some(now) => Some(commit::read(clone, &self.options, id, replaced, &now.content.files)?),
            None => Some(commit::read(clone, &self.options, id, None, &none)?),
        };
        if !self.options.once && clone.in_force() != Some(id) {
            clone.put_in_force(id)?;
        }
        Ok(in_force)
    }
}
