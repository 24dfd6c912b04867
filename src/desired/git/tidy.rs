//! Tidying up the clone, in the background.
//!
//! # Flow
//!
//! ```text
//! a commit came into force ── many packs? ─► copy what our references name beside the clone ─► exchange the two
//! ```
//!
//! # Guarantees
//!
//! - Nothing is fetched for it, and no commit waits for it but for the moment of the exchange.
//! - No pack is ever written over another: the copy is a repository of its own.
//! - What is fetched meanwhile is kept: it is copied as well, before the exchange, while nobody fetches.
//! - A clone that cannot be tidied up is left as it is and tried again later, ever more rarely.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::follow::Follower;
use super::work::blocking;
use crate::model::SourceTrouble;

/// How long to wait after a failure, and how long at most after many of them.
const WAIT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Tidying {
    is_running: bool,
    /// How often in turn it failed.
    failures: u32,
    not_before: Option<Instant>,
}

impl Tidying {
    /// True when it may begin, and then it has begun.
    fn begin(&mut self, now: Instant) -> bool {
        let may = !self.is_running && self.not_before.is_none_or(|time| time <= now);
        self.is_running |= may;
        may
    }

    fn end(&mut self, worked: bool, now: Instant) {
        self.is_running = false;
        self.failures = if worked { 0 } else { self.failures.saturating_add(1) };
        self.not_before = self.failures.checked_sub(1).map(|earlier| {
            let (first, longest) = WAIT;
            now + first.saturating_mul(1 << earlier.min(16)).min(longest)
        });
    }
}

impl Follower {
    /// Tidies up if that is needed and nobody is at it.
    pub(super) fn tidy_soon(self: &Arc<Self>) {
        if !self.state().tidying.begin(Instant::now()) {
            return;
        }
        let follower = self.clone();
        tokio::spawn(async move {
            let outcome = follower.tidy().await;
            if let Err(trouble) = &outcome {
                tracing::warn!(
                    repository = %follower.shown, reason = %trouble.message, "the clone is not tidied up yet"
                );
            }
            follower.state().tidying.end(outcome.is_ok(), Instant::now());
        });
    }

    async fn tidy(&self) -> Result<(), SourceTrouble> {
        let (clone, copy) = (self.clone.clone(), self.clone.beside("tidy"));
        let is_copied = blocking(move || {
            let _shared = clone.share();
            if !clone.is_untidy() {
                return Ok(false);
            }
            copy.make_anew()?;
            clone.copy_to(&copy).inspect_err(|_| copy.remove())?;
            Ok(true)
        });
        if !is_copied.await? {
            return Ok(());
        }
        let _one = self.fetching.lock().await;
        let (clone, copy) = (self.clone.clone(), self.clone.beside("tidy"));
        blocking(move || copy.replace_idle(&clone).inspect_err(|_| copy.remove())).await?;
        tracing::debug!(repository = %self.shown, "the clone is tidied up");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use git2::{Oid, Repository, Signature, Time};

    use super::super::clone::Clone as LocalClone;
    use super::*;

    #[test]
    fn what_comes_in_while_the_copy_is_made_is_kept_and_a_clone_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let source = Repository::init_bare(folder.path().join("source")).unwrap();
        let commit = |text: &str, parents: &[Oid]| {
            let mut tree = source.treebuilder(None).unwrap();
            tree.insert("app.yml", source.blob(text.as_bytes()).unwrap(), 0o100_644).unwrap();
            let tree = source.find_tree(tree.write().unwrap()).unwrap();
            let who = Signature::new("Line Team", "line@plant.example", &Time::new(1_700_000_000, 0)).unwrap();
            let parents: Vec<_> = parents.iter().map(|id| source.find_commit(*id).unwrap()).collect();
            let parents: Vec<_> = parents.iter().collect();
            source.commit(Some("refs/heads/main"), &who, &who, text, &tree, &parents).unwrap()
        };
        let url = format!("file://{}", source.path().display());
        let in_force = "refs/ofop/in-force/main".to_owned();
        let clone = LocalClone { path: folder.path().join("state/clone"), in_force };
        let fetch = || {
            let fetched = clone.fetch_beside(&url, source.path(), Some("main"), None).unwrap();
            clone.keep(fetched).unwrap();
            clone.put_in_force(fetched).unwrap();
            fetched
        };
        let one = commit("one", &[]);
        assert_eq!(fetch(), one);
        let two = commit("two", &[one]);
        assert_eq!(fetch(), two);
        let copy = clone.beside("tidy");
        copy.make_anew().unwrap();
        clone.copy_to(&copy).unwrap();
        // A new commit, and then back to one that is here although nothing named it when the copy was made.
        let three = commit("three", &[two]);
        assert_eq!(fetch(), three);
        source.reference("refs/heads/main", one, true, "back").unwrap();
        assert_eq!(fetch(), one);
        assert!(copy.has(two) && !copy.has(one));

        let shared = clone.share().unwrap();
        assert!(copy.replace_idle(&clone).is_err());
        assert!(clone.has(three));
        drop(shared);
        copy.replace_idle(&clone).unwrap();
        assert!(!copy.path.exists() && !clone.has(three));
        let repository = clone.open().unwrap();
        let tree = repository.find_commit(clone.in_force().unwrap()).unwrap().tree().unwrap();
        let file = repository.find_blob(tree.get_name("app.yml").unwrap().id()).unwrap();
        assert_eq!((clone.in_force(), file.content()), (Some(one), &b"one"[..]));
    }

    #[test]
    fn it_runs_once_at_a_time_and_waits_ever_longer_after_failures() {
        let now = Instant::now();
        let mut tidying = Tidying::default();
        assert!(tidying.begin(now) && !tidying.begin(now));
        tidying.end(false, now);
        assert!(!tidying.begin(now + Duration::from_secs(59)) && tidying.begin(now + Duration::from_secs(60)));
        tidying.end(false, now);
        assert!(!tidying.begin(now + Duration::from_secs(119)) && tidying.begin(now + Duration::from_secs(120)));
        for _ in 0..40 {
            tidying.end(false, now);
        }
        assert!(tidying.begin(now + Duration::from_secs(3600)));
        tidying.end(true, now);
        assert!(tidying.begin(now));
    }
}
