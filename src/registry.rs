//! The asset registry: which assets exist, how they relate, where they stand in the namespace.
//!
//! OpenFactory keeps it in Kafka topics behind ksqlDB; a machine without them keeps the same facts in a
//! SQLite file (`embedded`). Both sit behind [`Registry`], and both speak of [`crate::model::Record`]s: how a
//! record becomes messages or rows is theirs to know.
//!
//! # Invariants
//!
//! - Every write is absolute state under a key and may be sent again.
//! - A read that is cut, failing or suspiciously small says so (`complete: false`): absence needs evidence.

pub mod embedded;
pub mod messages;
pub mod openfactory;
pub mod rows;

use std::future::Future;
use std::sync::Arc;

use futures_util::Stream;

use crate::model::{RecordStep, RegistrySnapshot, StepFailure};

/// A registry.
pub trait Registry: Send + Sync + 'static {
    /// What is registered now.
    ///
    /// # Errors
    /// When nothing can be said.
    fn observe(&self) -> impl Future<Output = Result<Arc<RegistrySnapshot>, RegistryError>> + Send;

    /// Asks that the next `observe` rest on a full read that begins after this call. Returns at once; asking
    /// twice before that read is asking once.
    fn refresh(&self);

    /// Carries out a step that concerns a record. Bounded in time by the adapter.
    ///
    /// # Errors
    /// What went wrong, classified.
    fn execute(&self, step: &RecordStep) -> impl Future<Output = Result<(), StepFailure>> + Send;

    /// Yields whenever `observe` may answer something new. A hint: it carries nothing.
    fn events(&self) -> impl Stream<Item = ()> + Send + 'static;
}

/// Why a registry cannot be observed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RegistryError {
    /// A sentence for people; never holds a credential.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl RegistryError {
    /// With the hint within the message, for where there is one line only.
    pub fn in_full(self) -> Self {
        let RegistryError { message, hint } = self;
        RegistryError { message: hint.map_or(message.clone(), |hint| format!("{message}; {hint}")), hint: None }
    }
}
