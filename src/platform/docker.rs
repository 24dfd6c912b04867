//! Plain containers on one host.
//!
//! # Flow
//!
//! ```text
//! engine's events ─► what is dirty ─┐
//! a timer, refresh() ─► everything ─┴─► observe(): list, inspect what is dirty ─► convert ─► snapshot
//! execute(step) ─► pull ─► create ─► connect ─► (stop and set aside the old one) ─► start ─► remove the old one
//! ```
//!
//! One container is one service of the model; an app with three replicas is three containers. The mark is kept
//! in the container's labels, the only place there is, together with what was asked for: an image brings
//! variables, labels and a command of its own, which must not be taken for ours.
//!
//! # Invariants
//!
//! - Only containers with exactly the wanted name are touched, by full id: never a prefix of a name or an id.
//! - Labels and environment of a container cannot be changed, so an update replaces it. The new one is complete
//!   before the old one stops, and two never run at once. The old one is set aside and comes back when the new
//!   one does not start.
//! - An update that was cut short leaves containers under names that nothing desires but that carry our mark:
//!   planning removes them as it removes anything of ours that nobody needs.
//! - A container that ended counts as a service without replicas once a delay has passed, which grows while it
//!   keeps ending: starting it again is an update like any other.

pub mod body;
mod cache;
mod convert;
mod execute;
mod lease;
mod notes;
mod raw;
mod watch;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures_util::Stream;
use tokio::task::JoinHandle;

use self::cache::Cache;
pub use self::lease::FileLease;
use self::watch::Shared;
use super::digests::Digests;
use super::engine::{Engine, Gate};
use super::swarm::Pace;
use super::{Platform, PlatformError};
use crate::model::{InstanceName, NoteEdits, PlatformSnapshot, ServiceStep, StepFailure};

/// Containers of one engine.
pub struct DockerPlatform {
    engine: Engine,
    shared: Arc<Shared>,
    digests: Arc<Digests>,
    cache: tokio::sync::Mutex<Cache>,
    notes: notes::Place,
    lease: FileLease,
    tasks: [JoinHandle<()>; 2],
}

impl DockerPlatform {
    /// Begins to follow an engine, and keeps what this instance notes in the folder `state`. Must be called inside a
    /// tokio runtime; ends when it is dropped. Whether the engine can be reached shows when it is observed.
    pub fn start(engine: Engine, pace: Pace, state: &Path, instance: &InstanceName) -> Self {
        let shared = Arc::new(Shared::new(engine.clone()));
        let digests = Arc::new(Digests::new(pace.follow));
        let tasks = [
            tokio::spawn(watch::watch(Arc::clone(&shared), pace.resync)),
            tokio::spawn(Arc::clone(&digests).run(Arc::clone(&shared))),
        ];
        let notes = notes::Place::of(state, instance);
        let lease = FileLease::new(state, instance);
        DockerPlatform { engine, shared, digests, cache: tokio::sync::Mutex::default(), notes, lease, tasks }
    }

    /// What its changes pass on their way to the engine.
    pub fn gate(&self) -> &Gate {
        self.engine.gate()
    }

    /// Where the lease of this instance is kept.
    pub fn lease(&self) -> FileLease {
        self.lease.clone()
    }
}

impl Drop for DockerPlatform {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Platform for DockerPlatform {
    async fn observe(&self, follow: &BTreeSet<String>) -> Result<Arc<PlatformSnapshot>, PlatformError> {
        let read = |error: super::engine::CallError| error.explain(self.engine.address());
        // An engine that cannot be read has no use for digests.
        self.cache.lock().await.read(&self.engine, &self.shared).await.map_err(read)?;
        self.digests.follow(follow, &*self.shared).await;
        let notes = self.notes.read().await;
        Ok(Arc::new(PlatformSnapshot { notes, ..self.cache.lock().await.snapshot(&self.shared) }))
    }

    fn refresh(&self) {
        self.shared.all_dirty();
    }

    async fn execute(&self, step: &ServiceStep) -> Result<(), StepFailure> {
        execute::execute(&self.engine, &self.shared, step).await
    }

    async fn note(&self, edits: &NoteEdits) -> Result<(), StepFailure> {
        self.notes.write(edits.clone()).await?;
        self.shared.notify();
        Ok(())
    }

    fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        let changed = self.shared.changed.subscribe();
        futures_util::stream::unfold(changed, |mut changed| async move {
            changed.changed().await.ok()?;
            Some(((), changed))
        })
    }
}
