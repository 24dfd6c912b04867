//! Docker Swarm.
//!
//! # Flow
//!
//! ```text
//! events, timers ─► reads ─► convert ─► state ─► observe()
//!                                         ▲
//! execute() ─► calls ─► body, overlay ────┘ the service is read back
//! ```
//!
//! # Guarantees
//!
//! - What `execute` has written is in what `observe` answers next.
//! - Only full ids are removed; an update names the version that was planned on, and starts from the service as
//!   it is, so that what we do not own survives.
//! - Values of the environment appear in no error.
//!
//! # Reading order
//!
//! `convert` and `overlay` hold what there is to know about services; `failure` what the engine's refusals
//! mean; `state` what is known; `cache` keeps it warm; `notes` is where the operator writes things down,
//! and `lease` where operators agree on who acts.

pub mod body;
mod cache;
mod calls;
pub mod convert;
pub mod failure;
mod lease;
mod notes;
pub(in crate::platform) mod options;
pub mod overlay;
pub(in crate::platform) mod raw;
mod reads;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::task::JoinHandle;

use super::digests::{Digests, Follower};
use super::engine::{Engine, Gate};
use super::{Platform, PlatformError};
use crate::model::{FailureKind, InstanceName, NoteEdits, PlatformSnapshot, ServiceStep, StepFailure};
use cache::Cache;
use calls::Failed;
pub use lease::SwarmLease;

/// How often things are looked at that events should have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between full reads of services and tasks.
    pub resync: Duration,
    /// Between questions to a registry where a followed tag points.
    pub follow: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { resync: Duration::from_secs(30), follow: Duration::from_secs(60) }
    }
}

/// The services of a swarm.
pub struct Swarm {
    cache: Arc<Cache>,
    digests: Arc<Digests>,
    tasks: [JoinHandle<()>; 2],
}

impl Swarm {
    /// Begins to follow the swarm that `engine` manages, and what this instance notes in it. Must be called inside a
    /// tokio runtime; ends when it is dropped. Whether the engine can be reached shows when it is observed.
    pub fn start(engine: Engine, pace: Pace, instance: &InstanceName) -> Swarm {
        let cache = Arc::new(Cache::new(engine, pace.resync, instance));
        let digests = Arc::new(Digests::new(pace.follow));
        let tasks =
            [tokio::spawn(Arc::clone(&cache).run()), tokio::spawn(Arc::clone(&digests).run(Arc::clone(&cache)))];
        Swarm { cache, digests, tasks }
    }

    /// Where the lease of this instance is kept.
    pub fn lease(&self) -> SwarmLease {
        SwarmLease::new(self.cache.engine().ungated(), self.cache.place().clone())
    }

    /// What its changes pass on their way to the engine; the lease's own do not.
    pub fn gate(&self) -> &Gate {
        self.cache.engine().gate()
    }

    /// After a failed call: makes sure that the next observation knows better.
    fn look_again(&self, failed: Failed) -> StepFailure {
        let ambiguous = failed.failure.kind == FailureKind::Ambiguous;
        if ambiguous || failed.error.as_ref().is_some_and(failure::casts_doubt) {
            self.cache.doubt();
        } else if failed.failure.kind.is_race() {
            self.cache.refresh();
        }
        failed.failure
    }
}

impl Follower for Cache {
    fn engine(&self) -> &Engine {
        Cache::engine(self)
    }

    fn follow_only(&self, images: &BTreeSet<String>) {
        self.with(|state| state.follow_only(images));
    }

    fn resolved(&self, image: &str, answer: Result<String, String>) {
        self.with(|state| state.resolved(image, answer));
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Platform for Swarm {
    async fn observe(&self, follow: &BTreeSet<String>) -> Result<Arc<PlatformSnapshot>, PlatformError> {
        // A cluster that cannot be read has no use for digests.
        self.cache.snapshot().await?;
        self.digests.follow(follow, &*self.cache).await;
        self.cache.snapshot().await
    }

    fn refresh(&self) {
        self.cache.refresh();
    }

    async fn execute(&self, step: &ServiceStep) -> Result<(), StepFailure> {
        let engine = self.cache.engine();
        match step {
            ServiceStep::Create { spec, mark } => {
                let id = calls::create(engine, spec, mark).await.map_err(|failed| self.look_again(failed))?;
                self.cache.created(id, spec, mark);
            }
            ServiceStep::Update { id, version, spec, container_labels, mark } => {
                let names = self.cache.network_names();
                calls::update(engine, &names, (id, *version), (spec, container_labels), mark)
                    .await
                    .map_err(|failed| self.look_again(failed))?;
                self.cache.wrote(id).await;
            }
            ServiceStep::Remove { id, .. } => {
                calls::remove(engine, id).await.map_err(|failed| self.look_again(failed))?;
                self.cache.removed(id);
            }
        }
        Ok(())
    }

    async fn note(&self, edits: &NoteEdits) -> Result<(), StepFailure> {
        let written = self.cache.place().write(self.cache.engine(), edits).await;
        // Whatever became of it: what there is now is read before anybody looks again.
        self.cache.read_notes().await;
        written.map_err(|failed| failed.failure)
    }

    fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        futures_util::stream::unfold(self.cache.changes(), |mut changes| async move {
            changes.changed().await.ok()?;
            Some(((), changes))
        })
    }
}
