//! Brings what waits to one sink: a task of its own, so that one that is dead holds up no other, and nothing else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::outbox::{Letter, Outbox};
use super::outcome::Outcome;
use super::send::Sender;
use crate::report::{NotifyResult, Report};

/// How long an empty queue waits without being woken: a bound for what a lost wake-up could cost.
const IDLE: Duration = Duration::from_secs(30);

/// What is wrong with a sink, for people; none while it takes messages.
pub(super) type Complaint = Option<String>;

/// One task.
pub(super) struct Courier {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) sender: Sender,
    pub(super) outbox: Arc<Mutex<Outbox>>,
    pub(super) report: Report,
    pub(super) wake: Arc<Notify>,
    pub(super) complaint: watch::Sender<Complaint>,
    pub(super) stop: CancellationToken,
}

pub(super) fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    // A panic while it was held leaves the file as it was: its transactions are whole or not there.
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something with the file, away from the tasks that must not wait for it.
pub(super) async fn with<T: Send + 'static>(
    outbox: &Arc<Mutex<Outbox>>,
    act: impl FnOnce(&mut Outbox) -> T + Send + 'static,
) -> Option<T> {
    let outbox = Arc::clone(outbox);
    tokio::task::spawn_blocking(move || act(&mut lock(&outbox))).await.ok()
}

impl Courier {
    /// Delivers until told to stop; a delivery under way is brought to its end.
    pub(super) async fn run(self) {
        let mut failures: u32 = 0;
        while !self.stop.is_cancelled() {
            let name = self.name.clone();
            let next = with(&self.outbox, move |outbox| outbox.next(&name)).await.flatten();
            let Some(letter) = next else {
                self.rest(IDLE).await;
                continue;
            };
            let outcome = self.sender.send(&letter.payload).await;
            let pause = self.conclude(letter, outcome, &mut failures).await;
            if let Some(pause) = pause {
                // A new message is no reason to try a dead sink sooner.
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }

    async fn rest(&self, at_most: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.wake.notified() => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    /// What a try comes to; how long to wait before the next one, if that was a failure.
    async fn conclude(&self, letter: Letter, outcome: Outcome, failures: &mut u32) -> Option<Duration> {
        let Letter { id, attempts, .. } = letter;
        let (sink, kind) = (self.name.as_str(), self.kind);
        let (reason, hint) = match &outcome {
            Outcome::Delivered(said) => {
                with(&self.outbox, move |outbox| outbox.remove(id)).await;
                self.report.notified(sink, NotifyResult::Delivered);
                if *failures > 0 {
                    info!(sink, kind, after = *failures, "the sink takes notifications again: {said}");
                }
                *failures = 0;
                self.complain(None);
                return None;
            }
            Outcome::Failed { reason, hint, .. } | Outcome::Refused { reason, hint } => (reason, hint),
        };
        *failures = failures.saturating_add(1);
        self.report.notified(sink, NotifyResult::Failed);
        self.complain(Some(format!("{kind} sink `{sink}` takes no notifications: {reason}; {hint}")));
        if outcome.gives_up(attempts.saturating_add(1)) {
            warn!(sink, kind, "notification dropped: {reason}; {hint}");
            with(&self.outbox, move |outbox| outbox.remove(id)).await;
            self.report.notified(sink, NotifyResult::Dropped);
        } else {
            if *failures == 1 {
                warn!(sink, kind, "notification not delivered, and tried again: {reason}; {hint}");
            }
            with(&self.outbox, move |outbox| outbox.tried(id)).await;
        }
        Some(outcome.pause(*failures))
    }

    fn complain(&self, complaint: Complaint) {
        self.complaint.send_if_modified(|present| {
            // Another reason for the same failure is no news.
            let changed = present.is_some() != complaint.is_some();
            if changed {
                *present = complaint;
            }
            changed
        });
    }
}
