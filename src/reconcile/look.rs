//! Reading both sides, beside whatever else the loop does: a pass begins when there is something to make it of.
//!
//! ```text
//! begun ── the platform answers, or its time is up ──► the registry answers, or GRACE is over ──► a pass
//! ```
//!
//! The platform is waited for. The registry may be slow or hang without holding anybody up: a read that takes
//! longer than [`GRACE`] goes on in the background, and until it ends what was seen last stands in for it. Nothing
//! is taken away on a stand-in, and one that has stood in for [`STANDS_IN`] stands for nothing any more: the registry
//! then counts as out of reach.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::trigger::Trigger;
use crate::model::{PlatformSnapshot, RegistrySnapshot};
use crate::platform::{Platform, PlatformError};
use crate::registry::{Registry, RegistryError};

/// How long a pass waits for the registry. A read from a cache takes microseconds; a pull query that takes
/// longer than this is better waited for in the background.
pub(super) const GRACE: Duration = Duration::from_millis(250);
/// How long what was seen last may stand in for a read under way. An adapter gives up earlier; this is for one that
/// does not.
pub(super) const STANDS_IN: Duration = Duration::from_secs(20);
/// After this time without an answer the platform counts as unreachable: longer than a Swarm without leader
/// takes to say so (20 s).
pub(super) const PLATFORM_LIMIT: Duration = Duration::from_secs(30);

type Read<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(super) type PlatformAnswer = Result<Arc<PlatformSnapshot>, PlatformError>;
type RegistryAnswer = Result<Arc<RegistrySnapshot>, RegistryError>;

/// A look that is under way.
pub(super) struct Look {
    /// When it began.
    pub(super) begun: Duration,
    /// What it was begun for.
    pub(super) reasons: BTreeSet<Trigger>,
    /// How many requests of people the pass answers that it leads to.
    pub(super) answers: u64,
    /// The images whose digests it asks for.
    pub(super) follow: Arc<BTreeSet<String>>,
    stage: Stage,
}

enum Stage {
    /// The platform is being read.
    Platform(Read<PlatformAnswer>),
    /// It was; the registry is waited for until then.
    Registry { platform: PlatformAnswer, until: Duration },
}

impl Look {
    /// Begins to read the platform.
    pub(super) fn begin<P: Platform>(
        begun: Duration,
        reasons: BTreeSet<Trigger>,
        answers: u64,
        side: Arc<P>,
        follow: Arc<BTreeSet<String>>,
    ) -> Self {
        let read = platform(side, Arc::clone(&follow)).boxed();
        Look { begun, reasons, answers, follow, stage: Stage::Platform(read) }
    }

    /// The answer of the platform, once; never afterwards, and never when there is no look.
    pub(super) async fn platform(look: &mut Option<Look>) -> PlatformAnswer {
        match look {
            Some(Look { stage: Stage::Platform(read), .. }) => read.await,
            Some(Look { stage: Stage::Registry { .. }, .. }) | None => std::future::pending().await,
        }
    }

    /// Takes in what the platform answered by `now`; what is left is the registry.
    pub(super) fn take(&mut self, platform: PlatformAnswer, now: Duration) {
        self.stage = Stage::Registry { platform, until: now + GRACE };
    }

    /// Until when the registry is waited for; none while the platform is being read.
    pub(super) fn until(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Platform(_) => None,
            Stage::Registry { until, .. } => Some(*until),
        }
    }

    /// What the platform answered; none while it is being read.
    pub(super) fn answer(self) -> Option<PlatformAnswer> {
        match self.stage {
            Stage::Platform(_) => None,
            Stage::Registry { platform, .. } => Some(platform),
        }
    }
}

/// What one look saw of the registry.
#[derive(Debug)]
pub(super) struct RegistrySighting {
    /// None while the first read is under way.
    pub(super) answer: Option<RegistryAnswer>,
    /// The answer is an earlier one that stands in for a read under way.
    pub(super) stands_in: bool,
}

impl RegistrySighting {
    /// Whether everything could be seen, if only a moment ago.
    pub(super) fn is_complete(&self) -> bool {
        matches!(&self.answer, Some(Ok(snapshot)) if snapshot.complete)
    }
}

async fn platform<P: Platform>(platform: Arc<P>, follow: Arc<BTreeSet<String>>) -> PlatformAnswer {
    match tokio::time::timeout(PLATFORM_LIMIT, platform.observe(&follow)).await {
        Ok(answer) => answer,
        Err(_) => Err(PlatformError {
            message: format!("the engine has not answered for {} s", PLATFORM_LIMIT.as_secs()),
            hint: Some("is this node a manager, and does the Swarm have a leader?".into()),
        }),
    }
}

/// The read of the registry that is under way, if any, and what the last one saw.
pub(super) struct RegistryReader<R> {
    registry: Arc<R>,
    /// With the time at which it began.
    reading: Option<(Read<RegistryAnswer>, Duration)>,
    /// The answer of a read that ended between two passes.
    ready: Option<RegistryAnswer>,
    /// What the last read that ended saw.
    last: Option<RegistryAnswer>,
}

impl<R: Registry> RegistryReader<R> {
    pub(super) fn new(registry: Arc<R>) -> Self {
        RegistryReader { registry, reading: None, ready: None, last: None }
    }

    /// Whether no read has ended yet.
    pub(super) fn awaits_first(&self) -> bool {
        self.last.is_none()
    }

    /// Ends when the read that is under way does; never when there is none. Whether it saw everything.
    pub(super) async fn finished(&mut self) -> bool {
        match &mut self.reading {
            Some((reading, _)) => {
                let answer = reading.await;
                let sound = answer.as_ref().is_ok_and(|snapshot| snapshot.complete);
                self.reading = None;
                self.ready = Some(answer);
                sound
            }
            None => std::future::pending().await,
        }
    }

    /// Begins to read, unless a read is under way or has ended since the last look. Whether there is an answer.
    pub(super) fn begin(&mut self, now: Duration) -> bool {
        if self.ready.is_none() && self.reading.is_none() {
            let registry = Arc::clone(&self.registry);
            self.reading = Some((async move { registry.observe().await.map_err(RegistryError::in_full) }.boxed(), now));
        }
        // What a cache answers is there at once.
        self.is_ready() || self.finished().now_or_never().is_some()
    }

    /// Whether a read has ended since the last look.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// What to work with at `now`: the answer of a read that ended a moment ago, or else what was last seen.
    pub(super) fn look(&mut self, now: Duration) -> RegistrySighting {
        if let Some(answer) = self.ready.take() {
            self.last = Some(answer.clone());
            return RegistrySighting { answer: Some(answer), stands_in: false };
        }
        let begun = self.reading.as_ref().map_or(now, |(_, begun)| *begun);
        let answer = match &self.last {
            // While it is asked again, what it said last still holds: an outage is one outage.
            Some(Err(error)) => Some(Err(error.clone())),
            _ if now.saturating_sub(begun) >= STANDS_IN => Some(Err(no_answer())),
            Some(Ok(last)) => Some(Ok(Arc::clone(last))),
            None => None,
        };
        RegistrySighting { answer, stands_in: true }
    }
}

fn no_answer() -> RegistryError {
    RegistryError { message: format!("the registry has not answered for {} s", STANDS_IN.as_secs()), hint: None }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{Stream, stream};

    use super::*;
    use crate::model::{RecordStep, StepFailure};

    /// Answers after a time, each read with its own answer; the last one never ends.
    struct Slow {
        asked: AtomicUsize,
        answers: Vec<(Duration, RegistryAnswer)>,
    }

    impl Slow {
        fn new(answers: Vec<(Duration, RegistryAnswer)>) -> RegistryReader<Slow> {
            RegistryReader::new(Arc::new(Slow { asked: AtomicUsize::new(0), answers }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_told_with_what_to_do_about_it() {
        let error = RegistryError { message: "away".into(), hint: Some("is it running?".into()) };
        let mut reader = Slow::new(vec![(Duration::ZERO, Err(error))]);
        let seen = read(&mut reader, Duration::ZERO).await;
        assert_eq!(seen.answer.unwrap().unwrap_err().to_string(), "away; is it running?");
    }

    fn seen(generation: u64) -> RegistryAnswer {
        Ok(Arc::new(RegistrySnapshot { generation, complete: true, ..RegistrySnapshot::default() }))
    }

    fn away() -> RegistryAnswer {
        Err(RegistryError { message: "away".into(), hint: None })
    }

    impl Registry for Slow {
        async fn observe(&self) -> RegistryAnswer {
            let Some((time, answer)) = self.answers.get(self.asked.fetch_add(1, Ordering::SeqCst)) else {
                return std::future::pending().await;
            };
            tokio::time::sleep(*time).await;
            answer.clone()
        }

        fn refresh(&self) {}

        async fn execute(&self, _: &RecordStep) -> Result<(), StepFailure> {
            Ok(())
        }

        fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
            stream::pending()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// As the loop does it.
    async fn read(reader: &mut RegistryReader<Slow>, now: Duration) -> RegistrySighting {
        if !reader.begin(now) {
            // Running out of time leaves the read as it is, to be waited for between passes.
            let _ = tokio::time::timeout(GRACE, reader.finished()).await;
        }
        reader.look(now)
    }

    /// What a look sees: nothing yet, a generation and whether it stands in, or an error.
    async fn look(reader: &mut RegistryReader<Slow>, now: Duration) -> Option<Result<(u64, bool), String>> {
        let RegistrySighting { answer, stands_in } = read(reader, now).await;
        answer.map(|answer| match answer {
            Ok(snapshot) => Ok((snapshot.generation, stands_in)),
            Err(error) => Err(error.message),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_stays_the_same_outage_while_it_is_asked_again() {
        let mut reader = Slow::new(vec![(Duration::ZERO, away())]);
        for _ in 0..3 {
            assert_eq!(look(&mut reader, Duration::ZERO).await, Some(Err("away".into())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_last_stands_in_for_a_slow_read_and_for_no_longer_than_a_while() {
        let mut reader = Slow::new(vec![(SECOND, seen(1)), (SECOND, seen(2)), (Duration::ZERO, seen(3))]);
        assert_eq!(look(&mut reader, Duration::ZERO).await, None, "the first read is under way");
        assert!(reader.finished().await);
        assert_eq!(look(&mut reader, SECOND).await, Some(Ok((1, false))));
        assert_eq!(look(&mut reader, SECOND * 2).await, Some(Ok((1, true))));
        assert!(reader.finished().await);
        assert_eq!(look(&mut reader, SECOND * 3).await, Some(Ok((2, false))));
        assert_eq!(look(&mut reader, SECOND * 4).await, Some(Ok((3, false))), "a quick read needs no stand-in");
        assert_eq!(look(&mut reader, SECOND * 5).await, Some(Ok((3, true))), "a read that never ends begins");
        assert_eq!(look(&mut reader, SECOND * 24).await, Some(Ok((3, true))));
        let late = look(&mut reader, SECOND * 25).await.unwrap().unwrap_err();
        assert!(late.contains("has not answered"), "{late}");
    }
}
