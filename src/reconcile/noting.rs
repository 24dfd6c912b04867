//! Writes down what is to outlive the operator, beside everything else: no pass and no step waits for it, and no
//! failure of it keeps any from being made.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::{info, warn};

use super::backoff::{LONGEST_OUTAGE, delay};
use super::lease::Permit;
use crate::clock::Clock;
use crate::model::{FailureKind, NoteEdits, StepFailure};
use crate::plan::Notebook;
use crate::platform::Platform;

type Write = Pin<Box<dyn Future<Output = Result<(), StepFailure>> + Send>>;

/// The write that is under way, if any, and what came of the last one.
pub(super) struct Noting<P, C> {
    platform: Arc<P>,
    clock: Arc<C>,
    seed: u64,
    writing: Option<Write>,
    /// What was written last, how often in a row, and when it may be written again.
    last: NoteEdits,
    attempts: u32,
    not_before: Duration,
    /// Why the last write failed; none when it worked.
    error: Option<String>,
}

impl<P: Platform, C: Clock> Noting<P, C> {
    pub(super) fn new(platform: Arc<P>, clock: Arc<C>, seed: u64) -> Self {
        let (last, not_before) = (NoteEdits::new(), Duration::ZERO);
        Noting { platform, clock, seed, writing: None, last, attempts: 0, not_before, error: None }
    }

    /// Begins to write what is not written yet. What was written a moment ago is not yet seen: that waits.
    pub(super) fn begin(&mut self, notebook: &mut Notebook, permit: Option<Permit>, now: Duration) {
        // Without the right to act, what is noted is another operator's matter.
        let Some(permit) = permit.filter(|_| self.writing.is_none()) else { return };
        let edits = notebook.unsent();
        if edits.is_empty() {
            (self.attempts, self.not_before) = (0, Duration::ZERO);
            return;
        }
        if edits == self.last && now < self.not_before {
            return;
        }
        self.attempts = if edits == self.last { self.attempts + 1 } else { 1 };
        self.not_before = now + delay(self.attempts, LONGEST_OUTAGE, self.seed);
        notebook.sent(&edits, now);
        self.last.clone_from(&edits);
        let (platform, clock) = (Arc::clone(&self.platform), Arc::clone(&self.clock));
        self.writing = Some(
            async move {
                let written = permit.within(&*clock, platform.note(&edits)).await;
                let late = "the notes were not written before the lease ended";
                written.unwrap_or_else(|| Err(StepFailure::new(FailureKind::Ambiguous, late)))
            }
            .boxed(),
        );
    }

    /// When to begin again although nothing happens.
    pub(super) fn due(&self, notebook: &Notebook) -> Option<Duration> {
        (self.writing.is_none() && !notebook.unsent().is_empty()).then_some(self.not_before)
    }

    /// Ends when the write that is under way does; never when there is none.
    pub(super) async fn ended(&mut self) {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let outcome = writing.await;
        self.writing = None;
        let error = outcome.err().map(|failure| failure.to_string());
        match (&error, &self.error) {
            (Some(error), before) if before.as_ref() != Some(error) => {
                warn!(%error, "what is to outlive the operator cannot be noted; it is tried again");
            }
            (None, Some(_)) => info!("notes can be written again"),
            (Some(_) | None, _) => {}
        }
        self.error = error;
    }

    /// Writes what is left, at the end.
    pub(super) async fn finish(&mut self, notebook: &mut Notebook, permit: Option<Permit>, now: Duration) {
        if self.writing.is_some() {
            self.ended().await;
        }
        if notebook.unsent() != self.last || self.error.is_some() {
            self.not_before = Duration::ZERO;
            self.begin(notebook, permit, now);
            if self.writing.is_some() {
                self.ended().await;
            }
        }
    }

    /// Why the last write failed.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}
