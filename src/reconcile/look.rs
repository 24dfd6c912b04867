//! Reading both sides.
//!
//! The platform is waited for. The registry may be slow or hang without holding anybody up: a read that takes
//! longer than [`GRACE`] goes on in the background, and until it ends the last snapshot stands in for it,
//! marked as incomplete, so that nothing is removed on it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::model::{PlatformSnapshot, RegistrySnapshot};
use crate::platform::{Platform, PlatformError};
use crate::registry::{Registry, RegistryError};

/// How long a pass waits for the registry. A read from a cache takes microseconds; a pull query that takes
/// longer than this is better waited for in the background.
pub(super) const GRACE: Duration = Duration::from_millis(250);
/// After this time without an answer the platform counts as unreachable: longer than a Swarm without leader
/// takes to say so (20 s).
pub(super) const PLATFORM_LIMIT: Duration = Duration::from_secs(30);

type Read<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type RegistryAnswer = Result<Arc<RegistrySnapshot>, RegistryError>;

/// What one look saw.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) platform: Result<Arc<PlatformSnapshot>, PlatformError>,
    pub(super) registry: RegistryAnswer,
}

/// Reads the platform.
pub(super) async fn platform<P: Platform>(
    platform: Arc<P>,
    follow: Arc<BTreeSet<String>>,
) -> Result<Arc<PlatformSnapshot>, PlatformError> {
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
    reading: Option<Read<RegistryAnswer>>,
    /// The answer of a read that ended between two passes.
    ready: Option<RegistryAnswer>,
    last: Option<Arc<RegistrySnapshot>>,
    /// Why the read that ended last saw nothing; none if it saw something.
    error: Option<RegistryError>,
}

impl<R: Registry> RegistryReader<R> {
    pub(super) fn new(registry: Arc<R>) -> Self {
        RegistryReader { registry, reading: None, ready: None, last: None, error: None }
    }

    /// Ends when the read that is under way does; never when there is none. Whether it saw everything.
    pub(super) async fn finished(&mut self) -> bool {
        match &mut self.reading {
            Some(reading) => {
                let answer = reading.await;
                let sound = answer.as_ref().is_ok_and(|snapshot| snapshot.complete);
                self.reading = None;
                self.ready = Some(answer);
                sound
            }
            None => std::future::pending().await,
        }
    }

    /// The answer to work with now: of a read that ended a moment ago, of a new one, or else what was last
    /// seen.
    pub(super) async fn read(&mut self) -> RegistryAnswer {
        if self.ready.is_none() {
            if self.reading.is_none() {
                let registry = Arc::clone(&self.registry);
                self.reading = Some(async move { registry.observe().await }.boxed());
            }
            // Running out of time leaves the read as it is, to be waited for between passes.
            let _ = tokio::time::timeout(GRACE, self.finished()).await;
        }
        match (self.ready.take(), &self.error, &self.last) {
            (Some(answer), _, _) => {
                self.error = answer.as_ref().err().cloned();
                if let Ok(snapshot) = &answer {
                    self.last = Some(Arc::clone(snapshot));
                }
                answer
            }
            // While it is asked again, what it said last still holds: an outage is one outage.
            (None, Some(error), _) => Err(error.clone()),
            (None, None, Some(last)) => {
                Ok(Arc::new(RegistrySnapshot { complete: false, ..RegistrySnapshot::clone(last) }))
            }
            (None, None, None) => Err(no_answer()),
        }
    }
}

fn no_answer() -> RegistryError {
    RegistryError { message: "the registry has not answered yet".into(), hint: None }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{Stream, stream};

    use super::*;
    use crate::model::{Step, StepFailure};

    /// Refuses at first, and does not answer after that.
    #[derive(Default)]
    struct Away {
        asked: AtomicUsize,
    }

    impl Registry for Away {
        async fn observe(&self) -> RegistryAnswer {
            if self.asked.fetch_add(1, Ordering::SeqCst) > 0 {
                std::future::pending::<()>().await;
            }
            Err(RegistryError { message: "away".into(), hint: None })
        }

        fn refresh(&self) {}

        async fn execute(&self, _: &Step) -> Result<(), StepFailure> {
            Ok(())
        }

        fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
            stream::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_stays_the_same_outage_while_it_is_asked_again() {
        let mut reader = RegistryReader::new(Arc::new(Away::default()));
        for _ in 0..3 {
            assert_eq!(reader.read().await.unwrap_err().message, "away");
        }
    }
}
