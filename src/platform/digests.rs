//! The digests that followed tags point to, asked of their registries through the engine.
//!
//! A failure leaves what was last known: a registry that is away moves no tag.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::engine::Engine;
use super::{access, locked};

/// Registries asked at the same time.
const ASKED_AT_ONCE: usize = 4;
/// How long `observe` waits for images that it sees for the first time.
const FIRST_TIME: Duration = Duration::from_secs(5);

/// Where digests are wanted.
pub(super) trait Follower: Send + Sync + 'static {
    /// Whom to ask.
    fn engine(&self) -> &Engine;
    /// These images are followed from now on, and no others.
    fn follow_only(&self, images: &BTreeSet<String>);
    /// The digest that a tag points to now, or why that cannot be told.
    fn resolved(&self, image: &str, answer: Result<String, String>);
}

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Where tags point to, or pointed to when that could last be told.
    pub(super) digests: BTreeMap<String, String>,
    /// Why it could never be told where they point to.
    pub(super) unresolved: BTreeMap<String, String>,
}

impl Answers {
    /// Takes an answer in; whether it is news.
    pub(super) fn take(&mut self, image: &str, answer: Result<String, String>) -> bool {
        match answer {
            Ok(digest) => {
                let unresolved = self.unresolved.remove(image).is_some();
                self.digests.insert(image.to_owned(), digest.clone()) != Some(digest) || unresolved
            }
            // What was last known stays.
            Err(_) if self.digests.contains_key(image) => false,
            Err(reason) => self.unresolved.insert(image.to_owned(), reason.clone()) != Some(reason),
        }
    }

    /// Forgets all images but these; whether there were others.
    pub(super) fn keep_only(&mut self, images: &BTreeSet<String>) -> bool {
        let count = |answers: &Answers| answers.digests.len() + answers.unresolved.len();
        let before = count(self);
        self.digests.retain(|image, _| images.contains(image));
        self.unresolved.retain(|image, _| images.contains(image));
        count(self) != before
    }
}

/// See the module.
pub(super) struct Digests {
    interval: Duration,
    /// When each image was last asked for; never, for a new one.
    asked: Mutex<BTreeMap<String, Option<Instant>>>,
    /// Moves when images are added, and when images were asked for.
    moved: watch::Sender<()>,
}

impl Digests {
    pub(super) fn new(interval: Duration) -> Digests {
        Digests { interval, asked: Mutex::default(), moved: watch::Sender::default() }
    }

    /// Follows these images and no others. Waits a while for those that are new.
    pub(super) async fn follow(&self, images: &BTreeSet<String>, follower: &impl Follower) {
        let new = {
            let mut asked = locked(&self.asked);
            if asked.len() == images.len() && asked.keys().eq(images) {
                false
            } else {
                asked.retain(|image, _| images.contains(image));
                for image in images {
                    asked.entry(image.clone()).or_default();
                }
                follower.follow_only(images);
                asked.values().any(Option::is_none)
            }
        };
        if !new {
            return;
        }
        let mut moved = self.moved.subscribe();
        self.moved.send_replace(());
        let all_asked = async {
            while locked(&self.asked).values().any(Option::is_none) {
                if moved.changed().await.is_err() {
                    return;
                }
            }
        };
        // What is not known by then comes with a later observation.
        let _ = tokio::time::timeout(FIRST_TIME, all_asked).await;
    }

    /// Asks again and again, for ever.
    pub(super) async fn run(self: Arc<Self>, follower: Arc<impl Follower>) {
        let mut moved = self.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let now = Instant::now();
            let is_due = |asked: &Option<Instant>| asked.is_none_or(|asked| asked + self.interval <= now);
            let due: Vec<String> =
                locked(&self.asked).iter().filter(|(_, asked)| is_due(asked)).map(|(image, _)| image.clone()).collect();
            if due.is_empty() {
                let next = locked(&self.asked).values().flatten().min().map(|asked| *asked + self.interval);
                tokio::select! {
                    changed = moved.changed() => if changed.is_err() { return },
                    () = sleep_until(next.unwrap_or(now + self.interval)) => {}
                }
                continue;
            }
            futures_util::stream::iter(due)
                .for_each_concurrent(ASKED_AT_ONCE, |image| self.ask(image, &*follower))
                .await;
        }
    }

    async fn ask(&self, image: String, follower: &impl Follower) {
        let answer = access::digest(follower.engine(), &image).await;
        if let Err(error) = &answer {
            tracing::debug!(image, error, "cannot resolve a tag; what it last pointed to stays");
        }
        follower.resolved(&image, answer);
        if let Some(asked) = locked(&self.asked).get_mut(&image) {
            *asked = Some(Instant::now());
        }
        self.moved.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_why_until_a_digest_is_known_and_changes_nothing_from_then_on() {
        let mut answers = Answers::default();
        assert!(answers.take("app:1", Err("away".into())));
        assert!(!answers.take("app:1", Err("away".into())), "no news");
        assert!(answers.take("app:1", Ok("sha256:one".into())));
        assert!(answers.unresolved.is_empty());
        assert!(!answers.take("app:1", Err("away".into())));
        assert!(!answers.take("app:1", Ok("sha256:one".into())));
        assert_eq!(answers.digests["app:1"], "sha256:one");
        assert!(answers.unresolved.is_empty());
    }

    #[test]
    fn images_that_are_followed_no_longer_are_forgotten() {
        let mut answers = Answers::default();
        answers.take("a", Ok("sha256:one".into()));
        answers.take("b", Err("away".into()));
        assert!(answers.keep_only(&["a".to_owned()].into()));
        assert!(!answers.keep_only(&["a".to_owned()].into()));
        assert!(answers.unresolved.is_empty() && answers.digests.len() == 1);
    }
}
