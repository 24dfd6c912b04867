//! What runs services: Docker Swarm, or plain Docker on one host.
//!
//! Adapters act and observe; they never decide. [`Platform::execute`] gets a step that names full ids and
//! versions from the snapshot that it was planned on, and says what became of it in terms that decide what
//! comes next ([`crate::model::FailureKind`]).
//!
//! # Invariants
//!
//! - `observe` answers from a cache that the engine's events keep warm; a full list on a timer and after every
//!   reconnect corrects it. One list of services and one of tasks, never a call per service.
//! - What `execute` has done by the time it returns is seen by every `observe` that begins later, whatever
//!   becomes of the engine's events: otherwise the next pass would plan it once more.
//! - A snapshot that rests on a failing or possibly stale read says so (`complete: false`).
//! - Credentials of image registries go with whatever makes an engine pull or ask, and are never compared.
//! - An update starts from the service as the engine holds it, so that fields that we do not own survive.

mod access;
pub mod credentials;
mod digests;
pub mod docker;
pub mod engine;
pub mod info;
pub mod logs;
mod scrub;
pub mod swarm;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::Stream;

use crate::model::{LeaseRecord, LeaseSeen, LeaseUnread, NoteEdits, PlatformSnapshot, ServiceStep, StepFailure};

/// A platform.
pub trait Platform: Send + Sync + 'static {
    /// What runs now. `follow` names the images whose tag is followed, without digest.
    ///
    /// # Errors
    /// When nothing can be said: the engine cannot be reached, is no manager, or answers nonsense.
    fn observe(
        &self,
        follow: &BTreeSet<String>,
    ) -> impl Future<Output = Result<Arc<PlatformSnapshot>, PlatformError>> + Send;

    /// Asks that the next `observe` rest on a full read that begins after this call. Returns at once; asking
    /// twice before that read is asking once.
    fn refresh(&self);

    /// Carries out a step that concerns a service. Bounded in time by the adapter.
    ///
    /// # Errors
    /// What went wrong, classified.
    fn execute(&self, step: &ServiceStep) -> impl Future<Output = Result<(), StepFailure>> + Send;

    /// Changes notes: those with a text are set, those without are taken away, all others stay, whoever wrote them.
    /// Bounded in time. What it has done by the time it returns is seen by every `observe` that begins later.
    ///
    /// # Errors
    /// What went wrong, classified; after a lost answer the notes may be changed.
    fn note(&self, edits: &NoteEdits) -> impl Future<Output = Result<(), StepFailure>> + Send;

    /// Yields whenever `observe` may answer something new. A hint: it carries nothing.
    fn events(&self) -> impl Stream<Item = ()> + Send + 'static;
}

/// Where the lease of an instance is kept, so that every operator of the instance can reach it.
pub trait LeaseStore: Send + Sync + 'static {
    /// What it says now, or said a moment ago: a manager that was cut off may show an earlier state.
    ///
    /// # Errors
    /// When nothing can be said.
    fn read_lease(&self) -> impl Future<Output = Result<LeaseSeen, LeaseUnread>> + Send;

    /// Whether the lease is a lock that nobody else can get while its holder lives, even if the holder is stopped: then
    /// no call needs to end before the lease does.
    fn is_lock(&self) -> bool {
        false
    }

    /// Writes it if the object that keeps it still has the version `at`; none creates the object. Of several who name
    /// the same version one succeeds. Not bounded in time.
    ///
    /// # Errors
    /// What went wrong, classified: a race when the object has another version, and after a lost answer it may have
    /// worked.
    fn write_lease(
        &self,
        at: Option<u64>,
        record: &LeaseRecord,
    ) -> impl Future<Output = Result<(), StepFailure>> + Send;
}

/// Why a platform cannot be observed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlatformError {
    /// A sentence for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Locks a mutex. What is behind it is whole at every instant, so that a panic elsewhere does no harm to it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
