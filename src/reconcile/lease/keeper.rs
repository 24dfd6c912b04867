//! Reads, renews and hands back the lease, beside everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::fence::{Fence, Permit};
use super::machine::{Candidate, Machine, Term, Terms, Wish, Write};
use crate::clock::{Clock, rfc3339};
use crate::model::{FailureKind, LeaseFound, LeaseRecord, LeaseSeen, LeaseStatus, LeaseUnread, Standing, StepFailure};
use crate::platform::LeaseStore;
use crate::report::Report;

/// What the loop is told about its right to act.
#[derive(Debug, Clone)]
pub struct Leadership {
    status: watch::Receiver<LeaseStatus>,
    fence: Fence,
}

impl Leadership {
    /// Of an operator that shares its instance with nobody.
    pub fn alone() -> Self {
        // Nothing will ever change, and a receiver outlives its sender.
        let (_, status) = watch::channel(LeaseStatus::alone());
        Leadership { status, fence: Fence::open() }
    }

    /// The acquisition that the present right to act stems from; none without such a right.
    pub fn term(&self) -> Option<u64> {
        self.status.borrow().term
    }

    /// How this operator stands to the lease.
    pub fn status(&self) -> LeaseStatus {
        self.status.borrow().clone()
    }

    /// What lets writes through.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Ends when the status has changed since this was last called; never when it cannot change any more.
    pub async fn changed(&mut self) {
        if self.status.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Keeps the lease of one operator, in a task of its own that ends when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    leadership: Leadership,
    wish: watch::Sender<Wish>,
    handed_back: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Begins to try for the lease. Must be called within a tokio runtime.
    pub fn start<L: LeaseStore, C: Clock>(
        store: Arc<L>,
        clock: Arc<C>,
        me: Candidate,
        terms: Terms,
        report: Option<Report>,
    ) -> Self {
        let (status, receiver) = watch::channel(LeaseStatus::default());
        if let Some(report) = &report {
            report.lease(&LeaseStatus::default());
        }
        let (wish, wishes) = watch::channel(Wish::Hold);
        let (done, handed_back) = watch::channel(false);
        let fence = Fence::closed();
        let task = Task {
            store,
            clock,
            machine: Machine::new(me, terms),
            terms,
            fence: fence.clone(),
            status,
            wishes,
            done,
            report,
            seen: None,
            trouble: None,
            unsupported: false,
        };
        let leadership = Leadership { status: receiver, fence };
        Keeper { leadership, wish, handed_back, task: tokio::spawn(task.run()) }
    }

    /// What the loop is told.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Takes the lease from whoever holds it. The right to act begins when that holder has stopped for certain.
    pub fn take_over(&self) {
        self.wish.send_replace(Wish::TakeOver);
    }

    /// Gives up the right to act, and hands the lease back so that the next operator need not wait. To be called when no
    /// call is in flight any more. Whether that was done within `limit`; otherwise the lease runs out by itself.
    pub async fn hand_back(mut self, limit: Duration) -> bool {
        self.wish.send_replace(Wish::HandBack);
        let done = tokio::time::timeout(limit, self.handed_back.wait_for(|done| *done)).await;
        let done = matches!(done, Ok(Ok(_)));
        self.task.abort();
        done
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task<L, C> {
    store: Arc<L>,
    clock: Arc<C>,
    machine: Machine,
    terms: Terms,
    fence: Fence,
    status: watch::Sender<LeaseStatus>,
    wishes: watch::Receiver<Wish>,
    done: watch::Sender<bool>,
    report: Option<Report>,
    /// What the lease said when it was last read or written.
    seen: Option<LeaseFound>,
    /// Why the last reading or writing failed.
    trouble: Option<Trouble>,
    /// No lease can be kept here.
    unsupported: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    Unread(LeaseUnread),
    Unwritten(String),
}

impl<L: LeaseStore, C: Clock> Task<L, C> {
    async fn run(mut self) {
        let mut wished = Wish::Hold;
        loop {
            // It may have been wished for before this task began.
            let wish = *self.wishes.borrow_and_update();
            if wish != wished {
                wished = wish;
                self.machine.wish(wish, self.clock.now()); // pure
                self.publish();
            }
            self.work(wish).await;
            // A right to act that begins or ends meanwhile is told when it does.
            let now = self.clock.now();
            let term = self.machine.term();
            let edges = term.into_iter().flat_map(|term| [term.from, term.until]).filter(|at| *at > now);
            let wake = edges.fold(self.machine.due(), Duration::min);
            tokio::select! {
                changed = self.wishes.changed() => match changed {
                    Ok(()) => {}
                    // The keeper is gone.
                    Err(_) => return,
                },
                () = tokio::time::sleep(wake.saturating_sub(now)) => {}
            }
        }
    }

    /// Reads and writes the lease if that is due, and tells what follows.
    async fn work(&mut self, wish: Wish) {
        let now = self.clock.now();
        if now < self.machine.due() || self.unsupported && wish != Wish::HandBack {
            self.publish();
            return;
        }
        if self.unsupported {
            self.done.send_replace(true);
            return;
        }
        // A holder that cannot read in time has lost its right, and whoever asks shall see that.
        let until =
            self.machine.term().map_or(now + self.terms.renew(), |term| term.until.min(now + self.terms.renew()));
        let seen = Permit::until(until).within(&*self.clock, self.store.read_lease()).await; // I/O
        match seen.unwrap_or_else(|| Err(LeaseUnread::Unavailable("the lease could not be read in time".into()))) {
            Ok(seen) => self.read(seen).await,
            Err(error) => {
                self.unsupported = matches!(error, LeaseUnread::Unsupported(_)) && self.seen.is_none();
                self.machine.unread(self.clock.now()); // pure
                self.note(Trouble::Unread(error));
            }
        }
        if self.machine.is_handed_back() {
            self.done.send_replace(true);
        }
        self.publish();
    }

    async fn read(&mut self, seen: LeaseSeen) {
        if let LeaseFound::Unreadable { reason, .. } = &seen.found
            && self.seen.as_ref() != Some(&seen.found)
        {
            warn!(%reason, "the lease cannot be understood; it is written anew once nobody can hold it any more");
        }
        self.machine.wall(rfc3339(self.clock.wall()));
        if seen.at.is_some() && seen.found == LeaseFound::Absent && self.seen.is_none() {
            warn!(
                "there are notes of this instance and no lease beside them: an ofop that knows of no lease wrote them; \
                 end it if it still runs, since this one cannot see it and both would act"
            );
        }
        let write = self.machine.read(self.clock.now(), &seen); // pure
        self.seen = Some(seen.found);
        self.publish();
        let Some(Write { at, record, until }) = write else {
            self.well();
            return;
        };
        let sent = Permit::until(until).within(&*self.clock, self.store.write_lease(at, &record)).await; // I/O
        let lost = || Err(StepFailure::new(FailureKind::Ambiguous, "the lease could not be written in time"));
        let outcome = sent.unwrap_or_else(lost);
        let result = outcome.as_ref().map_or_else(|failure| Err(failure.kind), |()| Ok(()));
        self.machine.wrote(self.clock.now(), result); // pure
        match outcome {
            Ok(()) => {
                self.seen = Some(LeaseFound::Record(record));
                self.well();
            }
            Err(failure) if failure.kind.is_race() => {
                debug!(%failure, "the lease was written by somebody else meanwhile")
            }
            Err(failure) => self.note(Trouble::Unwritten(failure.message)),
        }
    }

    fn note(&mut self, trouble: Trouble) {
        if self.trouble.as_ref() != Some(&trouble) {
            match &trouble {
                Trouble::Unread(LeaseUnread::Unsupported(error)) if self.unsupported => {
                    warn!(%error, "no lease can be kept here: nothing keeps a second operator of this instance from \
                           changing the same things");
                }
                Trouble::Unread(error) => warn!(%error, "the lease cannot be read"),
                Trouble::Unwritten(error) => warn!(%error, "the lease cannot be written"),
            }
        }
        self.trouble = Some(trouble);
    }

    fn well(&mut self) {
        if self.trouble.take().is_some() {
            info!("the lease can be read and written again");
        }
    }

    /// Tells the fence first, then everybody else.
    fn publish(&self) {
        if self.unsupported {
            self.fence.set_open();
        } else {
            let lock = self.store.is_lock();
            self.fence.set(
                self.machine.term().map(|term| Term { until: if lock { Duration::MAX } else { term.until }, ..term }),
            );
        }
        let status = self.standing();
        let before = self.status.borrow().clone();
        if before == status {
            return;
        }
        tell(&before, &status);
        if let Some(report) = &self.report {
            report.lease(&status);
        }
        self.status.send_replace(status);
    }

    fn standing(&self) -> LeaseStatus {
        let now = self.clock.now();
        let trouble = self.trouble.as_ref().map(|trouble| match trouble {
            Trouble::Unread(error) => error.to_string(),
            Trouble::Unwritten(error) => error.clone(),
        });
        if self.unsupported {
            return LeaseStatus { trouble, ..LeaseStatus::alone() };
        }
        let record = match &self.seen {
            Some(LeaseFound::Record(record)) => Some(record.clone()),
            Some(LeaseFound::Absent | LeaseFound::Unreadable { .. }) | None => None,
        };
        let unreadable = match &self.seen {
            Some(LeaseFound::Unreadable { reason, .. }) => Some(format!("the lease cannot be understood: {reason}")),
            Some(LeaseFound::Absent | LeaseFound::Record(_)) | None => None,
        };
        let term = self.machine.term().filter(|term| term.holds(now)).map(|term| term.number);
        let others = record.as_ref().and_then(|record| record.holder.as_ref());
        let standing = match others {
            _ if term.is_some() => Standing::Holder,
            _ if trouble.is_some() || unreadable.is_some() => Standing::Blocked,
            Some(holder) if *holder != self.machine.me().run => Standing::Standby,
            // Taken from somebody who is still waited for.
            Some(_) => Standing::Unknown,
            None => Standing::Unknown,
        };
        let trouble = trouble.or(unreadable);
        LeaseStatus { standing, term, record, holder_lives: self.machine.holder_lives(), trouble }
    }
}

/// Logs what changed for this operator.
fn tell(before: &LeaseStatus, status: &LeaseStatus) {
    let epoch = status.record.as_ref().map_or(0, |record| record.epoch);
    match (before.standing, status.standing) {
        (Standing::Holder, Standing::Holder) if before.term != status.term => {
            info!(epoch, "this operator holds the lease again; everything is read afresh before the next write");
        }
        (old, new) if old == new && before.holder() == status.holder() => {}
        (_, Standing::Holder) => info!(epoch, "this operator holds the lease: it changes the cluster"),
        (Standing::Holder, Standing::Unknown) => info!("this operator hands the lease back"),
        (_, Standing::Standby) => {
            let holder = status.record.as_ref().map(describe).unwrap_or_default();
            info!(epoch, %holder, "this operator is a standby: another one holds the lease, and it changes nothing");
        }
        (Standing::Holder, Standing::Blocked) => {
            warn!("the lease could not be renewed in time: nothing is changed until it can be");
        }
        (_, Standing::Blocked | Standing::Unknown | Standing::Unguarded) => {}
    }
}

/// The holder for a log line.
fn describe(record: &LeaseRecord) -> String {
    let holder = record.holder.as_ref().map(ToString::to_string).unwrap_or_default();
    let address = record.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
    format!("{holder}{address} (ofop {})", record.version)
}
