//! The lease as a pure state machine: what was read and what became of a write goes in, what to write and until when
//! this operator may act comes out. It neither waits nor asks the time.
//!
//! # Flow
//!
//! ```text
//! due ─► the caller reads the lease ─► read(now, what it saw) ─► None: nothing to write
//!                                                             └► Some(Write) ─► the caller writes ─► wrote(now, outcome)
//! ```
//!
//! A write names the version that was read, and takes effect only while the object still has that version: the store
//! (Swarm's raft, or a file lock) is the arbiter between operators.
//!
//! # Why there are never two writers
//!
//! - A holder counts its time from the moment before a renewal was sent, and only from renewals that are known to have
//!   taken effect. It stops a tenth of the lease early ([`Terms::margin`]), so that clocks may differ in rate.
//! - A candidate counts how long the lease has not moved from the moment after a reading that showed it was answered,
//!   hence from after the renewal took effect. It waits the longer of its own and the holder's lease time, and its
//!   write then takes effect only if no renewal came in between.
//! - Nobody's wall clock counts. A candidate that has not read the lease for longer than a renewal takes counts nothing
//!   of that time, so that a clock that jumps ahead proves nothing.
//! - Whoever takes the lease by force waits for the end of the holder before acting, and says so in the lease time that
//!   it writes meanwhile, so that others wait as long.
//! - An answer that was lost changes nothing: the lease is read before anything follows from it.
//!
//! One gap is left: where somebody removes the object by hand while a holder lives, and an operator starts that has
//! never seen the lease, that operator takes the lease at once. The other holder notices at its next renewal.

use std::time::Duration;

use crate::model::lease::{MAX_LEASE, MIN_LEASE};
use crate::model::{FailureKind, LeaseFound, LeaseRecord, LeaseSeen, RunId};

/// What cannot be read, or was removed by hand, says nothing of how long its holder may act: it is waited for this many
/// times one's own lease.
const UNKNOWN_LEASE: u32 = 4;

/// The shortest and the longest time between two readings by a candidate. The longest leaves room to take over within
/// a second of a clean stop; a reading is one small request to the engine.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// How long a lease lasts and how often it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    lease: Duration,
    renew: Duration,
}

/// A lease time and a renewal time that do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTerms {
    /// The lease is too short or too long.
    #[error("a lease lasts between 1s and 10m")]
    Lease,
    /// Too few renewals fit into the lease.
    #[error("a lease is renewed at least three times while it lasts")]
    Renew,
}

impl Terms {
    /// Checks times.
    ///
    /// # Errors
    /// When the lease is shorter than 1 s or longer than 10 min, or `renew` is zero or more than a third of it.
    pub fn new(lease: Duration, renew: Duration) -> Result<Self, InvalidTerms> {
        if !(MIN_LEASE..=MAX_LEASE).contains(&lease) {
            return Err(InvalidTerms::Lease);
        }
        if renew.is_zero() || renew > lease / 3 {
            return Err(InvalidTerms::Renew);
        }
        // As it is written: what is cut off here is cut off for everybody.
        let lease = lease - Duration::from_nanos(u64::from(lease.subsec_nanos() % 1_000_000));
        Ok(Terms { lease, renew })
    }

    /// How long a renewal lasts for whoever waits for its end.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Time between renewals.
    pub fn renew(&self) -> Duration {
        self.renew
    }

    /// How much earlier a holder stops: the sum of what two clocks may differ in rate, 10 %.
    pub fn margin(&self) -> Duration {
        self.lease / 10
    }

    /// Time between two readings by a candidate, and before a holder tries a failed renewal again.
    pub fn look(&self) -> Duration {
        (self.renew / 10).clamp(SHORTEST_LOOK, LONGEST_LOOK)
    }
}

impl Default for Terms {
    /// 15 s, renewed every 5 s: two renewals may fail before the holder stops.
    fn default() -> Self {
        Terms { lease: Duration::from_secs(15), renew: Duration::from_secs(5) }
    }
}

/// Who this operator is, as the lease says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The run.
    pub run: RunId,
    /// Version of `ofop`.
    pub version: String,
    /// Where its API is served; none when it serves none.
    pub address: Option<String>,
}

/// A write of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The version that it names; none to create the object.
    pub at: Option<u64>,
    /// What it says.
    pub record: LeaseRecord,
    /// When the writer gives up waiting for the answer, on its monotonic clock.
    pub until: Duration,
}

/// What this operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The lease, once nobody else holds it.
    Hold,
    /// The lease now, whoever holds it: a person asked for that.
    TakeOver,
    /// To be rid of it.
    HandBack,
}

/// The right to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// The epoch of the lease.
    pub number: u64,
    /// When it begins: at once, but for a holder who was not waited for.
    pub from: Duration,
    /// When it ends unless it is renewed.
    pub until: Duration,
}

impl Term {
    /// Whether it is `now` in force.
    pub fn holds(&self, now: Duration) -> bool {
        (self.from..self.until).contains(&now)
    }
}

/// How long what was read has not moved.
#[derive(Debug, Clone)]
struct Watched {
    seen: LeaseSeen,
    /// When it was last seen so.
    last: Duration,
    /// For how long, without gaps between readings.
    still: Duration,
}

/// A write whose answer is awaited.
#[derive(Debug, Clone)]
struct Sent {
    record: LeaseRecord,
    /// A moment before it was sent.
    at: Duration,
    /// How long another holder must be waited for if it takes effect.
    owed: Duration,
}

/// One operator's side of the lease. Times are its own monotonic ones.
#[derive(Debug, Clone)]
pub struct Machine {
    me: Candidate,
    terms: Terms,
    /// What time it is, for people who read the lease.
    wall: Option<String>,
    wish: Wish,
    term: Option<Term>,
    watched: Option<Watched>,
    /// The longest lease that another holder was seen to have since it was last ours.
    others_lease: Duration,
    /// The highest epoch that was seen.
    highest: u64,
    /// How long another holder must still be waited for once the lease is ours: it was taken before that holder's end.
    owed: Duration,
    sent: Option<Sent>,
    /// The last write, while nothing else was read since.
    attempt: Option<Sent>,
    due: Duration,
    /// Races lost in a row.
    races: u32,
    /// Another holder's renewals were seen to go on.
    moved: bool,
    /// The lease is known to be no longer ours, as wished.
    handed_back: bool,
}

/// Races that are run again at once; further ones wait for the next look.
const FREE_RACES: u32 = 3;

impl Machine {
    /// A candidate that has seen nothing yet.
    pub fn new(me: Candidate, terms: Terms) -> Self {
        Machine {
            me,
            terms,
            wall: None,
            wish: Wish::Hold,
            term: None,
            watched: None,
            others_lease: Duration::ZERO,
            highest: 0,
            owed: Duration::ZERO,
            sent: None,
            attempt: None,
            due: Duration::ZERO,
            races: 0,
            moved: false,
            handed_back: false,
        }
    }

    /// Who this is.
    pub fn me(&self) -> &Candidate {
        &self.me
    }

    /// Takes note of the wall clock's time, RFC 3339: the lease says since when it is held. Nothing follows from it.
    pub fn wall(&mut self, wall: String) {
        self.wall = Some(wall);
    }

    /// When to read the lease next.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// The right to act; it may not have begun, or be over.
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// Whether another holder's renewals were seen to go on since the lease was last ours.
    pub fn holder_lives(&self) -> bool {
        self.moved
    }

    /// Whether the lease is known to be another's or nobody's, as wished by [`Wish::HandBack`].
    pub fn is_handed_back(&self) -> bool {
        self.handed_back
    }

    /// Wishes something else. Handing back ends the right to act at once.
    pub fn wish(&mut self, wish: Wish, now: Duration) {
        self.wish = wish;
        self.due = now;
        if wish == Wish::HandBack {
            self.term = None;
        }
    }

    /// Takes in a reading that was answered by `now`; what to write.
    pub fn read(&mut self, now: Duration, seen: &LeaseSeen) -> Option<Write> {
        self.sent = None;
        self.due = now + self.terms.look();
        if let LeaseFound::Record(record) = &seen.found {
            let past = self.is_in_force(now) && record.epoch < self.highest;
            if past {
                // A manager that lags behind: what it shows was before our own acquisition.
                return None;
            }
            self.highest = self.highest.max(record.epoch);
            if record.holder.as_ref() == Some(&self.me.run) {
                self.end_if_over(now);
                match &self.attempt {
                    // It has taken effect, whatever became of the answer.
                    Some(attempt) if attempt.record == *record => self.owed = attempt.owed,
                    // A request of long ago has taken effect, after somebody removed the lease of another holder; or the
                    // lease was ours all the time, and a reading of the past said otherwise.
                    Some(_) | None if self.term.is_none() => {
                        let others = if self.others_lease.is_zero() { Duration::ZERO } else { self.patience() };
                        self.owed = self.owed.max(others);
                    }
                    Some(_) | None => {}
                }
                return self.renew(now, seen, record.epoch);
            }
            self.term = None;
        }
        self.attempt = None;
        // Where there is no record, somebody else may have written one that is gone as well: what we have lasts to its
        // end, and is not renewed.
        self.end_if_over(now);
        if self.wish == Wish::HandBack {
            self.handed_back = true;
            return None;
        }
        self.watch(now, seen);
        let still = self.watched.as_ref().map_or(Duration::ZERO, |watched| watched.still);
        // Whoever has seen a holder waits for it, whatever became of the object meanwhile.
        let (free, begins) = match &seen.found {
            LeaseFound::Record(LeaseRecord { holder: None, .. }) => (true, true),
            // What is absent has no version: that it was absent all the time cannot be known. So it is written first,
            // which shows everybody who comes, and waited for then.
            LeaseFound::Absent => (self.highest == 0 && self.others_lease.is_zero(), !self.is_in_force(now)),
            LeaseFound::Record(_) | LeaseFound::Unreadable { .. } => {
                let over = still >= self.patience();
                (over, over)
            }
        };
        if !begins && self.wish != Wish::TakeOver {
            return None;
        }
        // What was read may be of the past: it counts once a write on top of it has taken effect.
        let owed = if free { Duration::ZERO } else { self.patience() };
        Some(self.write(now, seen, self.highest.wrapping_add(1), now + self.terms.lease, owed))
    }

    /// Takes note that the lease could not be read.
    pub fn unread(&mut self, now: Duration) {
        self.due = now + self.terms.look();
        self.end_if_over(now);
    }

    /// Takes in what became of the write that [`Machine::read`] asked for, known by `now`.
    pub fn wrote(&mut self, now: Duration, outcome: Result<(), FailureKind>) {
        let Some(sent) = self.sent.take() else { return };
        match outcome {
            Ok(()) if sent.record.holder.is_none() => {
                self.term = None;
                self.handed_back = true;
            }
            Ok(()) => {
                self.races = 0;
                self.taken(now, &sent);
            }
            // Somebody wrote something else into the same object, or this very write came twice: look.
            Err(kind) if kind.is_race() && self.races < FREE_RACES => {
                self.races += 1;
                self.due = now;
            }
            // Whatever became of it: the next reading tells.
            Err(_) => {
                self.races = 0;
                self.due = now + self.terms.look();
            }
        }
        self.end_if_over(now);
    }

    fn taken(&mut self, now: Duration, sent: &Sent) {
        self.owed = sent.owed;
        let until = sent.at + self.terms.lease - self.terms.margin();
        let from = match self.term {
            Some(term) if term.number == sent.record.epoch => term.from,
            Some(_) | None if self.owed.is_zero() => sent.at,
            Some(_) | None => now + self.owed,
        };
        (self.watched, self.moved, self.others_lease) = (None, false, Duration::ZERO);
        if self.wish == Wish::HandBack {
            self.due = now;
            return;
        }
        self.wish = Wish::Hold;
        self.highest = self.highest.max(sent.record.epoch);
        self.term = Some(Term { number: sent.record.epoch, from, until });
        self.due = sent.at + self.terms.renew;
    }

    /// The lease is ours: renew it, or hand it back.
    fn renew(&mut self, now: Duration, seen: &LeaseSeen, epoch: u64) -> Option<Write> {
        let epoch = match self.term {
            Some(term) if term.number == epoch => {
                if now >= term.from {
                    self.owed = Duration::ZERO;
                }
                epoch
            }
            // It ran out, or an answer was lost: what was decided before may be out of date.
            Some(_) | None => {
                self.term = None;
                epoch.wrapping_add(1)
            }
        };
        if self.wish == Wish::HandBack && !self.owed.is_zero() {
            // Another holder may still act: what is written makes everybody wait for it.
            self.handed_back = true;
            return None;
        }
        // A renewal that comes after the end is of no use, nor is one whose answer nobody awaits any more.
        let until = self.term.map_or(now + self.terms.lease, |term| term.until);
        Some(self.write(now, seen, epoch, until, self.owed))
    }

    fn write(&mut self, now: Duration, seen: &LeaseSeen, epoch: u64, until: Duration, owed: Duration) -> Write {
        let renewals = match &seen.found {
            LeaseFound::Record(record) => record.renewals.wrapping_add(1),
            LeaseFound::Absent | LeaseFound::Unreadable { .. } => 1,
        };
        let held = self.wish != Wish::HandBack;
        let since = match &seen.found {
            LeaseFound::Record(record) if record.epoch == epoch && record.since.is_some() => record.since.clone(),
            LeaseFound::Record(_) | LeaseFound::Absent | LeaseFound::Unreadable { .. } => self.wall.clone(),
        };
        let record = LeaseRecord {
            holder: held.then(|| self.me.run.clone()),
            epoch,
            renewals,
            lease: self.terms.lease.max(owed),
            version: self.me.version.clone(),
            address: self.me.address.clone().filter(|_| held),
            since: since.filter(|_| held),
        };
        self.sent = Some(Sent { record: record.clone(), at: now, owed });
        self.attempt.clone_from(&self.sent);
        Write { at: seen.at, record, until }
    }

    /// Takes note of what another's lease looks like, and for how long it has looked so.
    fn watch(&mut self, now: Duration, seen: &LeaseSeen) {
        let found = &seen.found;
        match found {
            // Nobody's now, or in the past: what was seen of others counts until the lease is ours.
            LeaseFound::Record(LeaseRecord { holder: None, .. }) => {}
            LeaseFound::Record(record) => self.others_lease = self.others_lease.max(record.lease),
            // Nobody has had it yet.
            LeaseFound::Absent if self.highest == 0 && self.others_lease.is_zero() => {}
            // Whose it was last, and for how long, may never have been seen here.
            LeaseFound::Absent | LeaseFound::Unreadable { .. } => {
                self.others_lease = self.others_lease.max(self.terms.lease * UNKNOWN_LEASE);
            }
        }
        match &mut self.watched {
            // Within one object, renewals make each record one of its kind, whatever else was written beside it; what cannot
            // be read may look the same again. In an object that was made anew, an old record may: a request to create
            // it came twice.
            Some(watched)
                if watched.seen == *seen
                    || watched.seen.found == *found
                        && watched.seen.object == seen.object
                        && matches!(found, LeaseFound::Record(_)) =>
            {
                let step = now.saturating_sub(watched.last);
                watched.still += if step <= self.terms.renew { step } else { Duration::ZERO };
                watched.last = now;
            }
            watched => {
                let held = |found: &LeaseFound| match found {
                    LeaseFound::Record(record) => record.holder.clone(),
                    LeaseFound::Absent | LeaseFound::Unreadable { .. } => None,
                };
                self.moved = watched.as_ref().is_some_and(|watched| {
                    held(&watched.seen.found).is_some() && held(&watched.seen.found) == held(found)
                });
                *watched = Some(Watched { seen: seen.clone(), last: now, still: Duration::ZERO });
            }
        }
    }

    /// How long a lease that does not move is waited for.
    fn patience(&self) -> Duration {
        self.terms.lease.max(self.others_lease)
    }

    fn is_in_force(&self, now: Duration) -> bool {
        self.term.is_some_and(|term| now < term.until)
    }

    fn end_if_over(&mut self, now: Duration) {
        if !self.is_in_force(now) {
            self.term = None;
        }
    }
}
