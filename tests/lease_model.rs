//! The lease as a pure state machine, played for three operators over a store that loses, delays, repeats and reorders
//! what they send.
//!
//! Each history is drawn from a seed. Operators have clocks of different rate, are stopped and go on, jump ahead in
//! time, die and are started anew, hand the lease back and take it over by force; the store answers from the past, has
//! no leader for a while, and is spoiled by hand. At every instant at most one operator may act; and once faults stop,
//! one can.
//!
//! `OFOP_LEASE_HISTORIES` sets how many histories are played, `OFOP_LEASE_SEED` where they begin.

#![expect(clippy::panic, reason = "a test ends where it cannot go on")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use ofop::model::{FailureKind, LeaseFound, LeaseSeen, RunId};
use ofop::reconcile::lease::machine::{Machine, Term, Wish, Write};
use ofop::reconcile::lease::{Candidate, Terms};
use ofop::testing::Rng;

/// How many histories a plain run plays.
const HISTORIES: u64 = 20_000;
const OPERATORS: usize = 3;
/// Real microseconds.
type Micros = u64;
const MILLI: Micros = 1_000;
/// The lease that most operators have, the shortest there is. As by default, it is renewed three times while it lasts.
const LEASE: Micros = 1_000 * MILLI;
/// How long faults go on, and how long it may take after them until one operator acts.
const STORM: Micros = 5 * LEASE;
const QUIET: Micros = 20 * LEASE;

fn duration(micros: Micros) -> Duration {
    Duration::from_micros(micros)
}

fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

/// A clock that differs from real time in rate and in what it began with.
#[derive(Debug, Clone, Copy)]
struct LocalClock {
    /// Parts in a thousand.
    rate: u64,
    ahead: Micros,
}

impl LocalClock {
    fn read(self, real: Micros) -> Duration {
        duration(real * self.rate / 1000 + self.ahead)
    }

    /// When this clock shows a time, or a moment later.
    fn shows(self, local: Duration) -> Micros {
        micros(local).saturating_sub(self.ahead) * 1000 / self.rate + 1
    }
}

#[derive(Debug)]
struct Operator {
    machine: Machine,
    clock: LocalClock,
    alive: bool,
    /// It has seen a lease: from then on it waits for a holder although the object is gone.
    has_seen: bool,
    /// It is stopped until then; what arrives waits.
    stopped_until: Micros,
    /// The call whose answer it awaits.
    awaits: Option<u64>,
    /// Wakes that were set before this one count no longer.
    wake: u64,
}

/// The object as it was from one moment on.
#[derive(Debug)]
struct Version {
    since: Micros,
    /// Counts how often the object was made.
    object: u64,
    fields: BTreeMap<String, String>,
    seen: Rc<LeaseSeen>,
}

impl Version {
    fn new(since: Micros, object: u64, at: Option<u64>, fields: BTreeMap<String, String>) -> Version {
        let (found, id) = (LeaseFound::of(fields.clone()), at.map(|_| object.to_string()).unwrap_or_default());
        Version { since, object, fields, seen: Rc::new(LeaseSeen { at, object: id, found }) }
    }
}

/// Small, since the queue moves it about.
#[derive(Debug)]
enum Happening {
    /// An operator's timer rings.
    Wake {
        operator: usize,
        wake: u64,
    },
    /// A request to read arrives.
    ReadArrives {
        operator: usize,
        call: u64,
    },
    /// A request to write arrives; again if it was repeated on the way.
    WriteArrives {
        operator: usize,
        call: u64,
        write: Rc<Write>,
    },
    /// An answer arrives.
    Read {
        operator: usize,
        call: u64,
        seen: Option<Rc<LeaseSeen>>,
    },
    Wrote {
        operator: usize,
        call: u64,
        outcome: Result<(), FailureKind>,
    },
    /// The caller gives up.
    GiveUp {
        operator: usize,
        call: u64,
        writes: bool,
    },
    /// Something goes wrong, or somebody does something.
    Trouble,
    /// The end of a stop of the quorum.
    Leader,
}

struct Queued(Micros, u64, Happening);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct History {
    seed: u64,
    rng: Rng,
    now: Micros,
    queue: BinaryHeap<Reverse<Queued>>,
    number: u64,
    runs: u64,
    operators: Vec<Operator>,
    /// Every state of the object, the present one last; the past serves stale readings.
    versions: Vec<Version>,
    index: u64,
    leader: bool,
    /// Somebody may remove the object: no operator that has never seen the lease starts then.
    removable: bool,
    /// How often somebody could act that could not before.
    terms: u64,
    last_terms: Vec<Option<u64>>,
}

fn terms(lease: Micros) -> Terms {
    Terms::new(duration(lease), duration(lease / 3)).unwrap_or_else(|error| panic!("{error}"))
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let removable = rng.chance(20);
        let mut history = History {
            seed,
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            number: 0,
            runs: 0,
            operators: Vec::new(),
            versions: vec![Version::new(0, 0, None, BTreeMap::new())],
            index: 10,
            leader: true,
            removable,
            terms: 0,
            last_terms: vec![None; OPERATORS],
        };
        for operator in 0..OPERATORS {
            let made = history.operator();
            history.operators.push(made);
            let begins = history.rng.below(LEASE);
            // All have seen the lease before anybody can remove it.
            let begins = if history.removable { operator as u64 } else { begins };
            history.at(begins, Happening::Wake { operator, wake: 0 });
        }
        history.at(LEASE / 2, Happening::Trouble);
        history
    }

    fn operator(&mut self) -> Operator {
        self.runs += 1;
        let lease = if self.rng.chance(80) { LEASE } else { LEASE + self.rng.below(LEASE) };
        // Holder and candidate differ by less than a tenth.
        let clock = LocalClock { rate: 955 + self.rng.below(90), ahead: self.rng.below(1_000 * LEASE) };
        let me = Candidate { run: RunId::new("host", 1, self.runs), version: "1".into(), address: None };
        let machine = Machine::new(me, terms(lease));
        Operator { machine, clock, alive: true, has_seen: false, stopped_until: 0, awaits: None, wake: 0 }
    }

    fn at(&mut self, delay: Micros, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse(Queued(self.now + delay, self.number, happening)));
    }

    fn local(&self, operator: usize) -> Duration {
        self.operators[operator].clock.read(self.now)
    }

    /// The right to act as this operator itself would judge it now.
    fn acts(&self, operator: usize) -> Option<Term> {
        let now = self.local(operator);
        self.operators[operator].machine.term().filter(|term| term.holds(now))
    }

    /// From when to when in real time an operator can act, as far as that lies ahead.
    fn real(&self, operator: usize, term: Term) -> (Micros, Micros) {
        let clock = self.operators[operator].clock;
        (clock.shows(term.from).max(self.now), clock.shows(term.until))
    }

    fn stormy(&self) -> bool {
        self.now < STORM
    }

    fn play(mut self) -> u64 {
        while let Some(Reverse(Queued(time, _, happening))) = self.queue.pop() {
            if time > STORM + QUIET {
                break;
            }
            self.now = time;
            if self.happens(happening) {
                self.check();
            }
            // What was sent before the end of the storm has arrived by then.
            if self.now > STORM + 3 * LEASE && (0..OPERATORS).any(|operator| self.acts(operator).is_some()) {
                return self.terms;
            }
        }
        panic!("seed {}: nobody can act long after the last fault", self.seed)
    }

    /// Of no two operators can both act at one instant, now or later, unless something happens first.
    fn check(&mut self) {
        let mut rights: [Option<(Micros, Micros)>; OPERATORS] = [None; OPERATORS];
        for (operator, right) in rights.iter_mut().enumerate() {
            let term = self.operators[operator].machine.term();
            let number = term.map(|term| term.number);
            if number.is_some() && number != self.last_terms[operator] {
                self.terms += 1;
            }
            self.last_terms[operator] = number;
            // One that would end before it begins is none until it is renewed.
            *right = term.map(|term| self.real(operator, term)).filter(|(begins, ends)| begins < ends);
        }
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            if let (Some((begins, ends)), Some((from, until))) = (rights[one], rights[other]) {
                assert!(
                    ends <= from || until <= begins,
                    "seed {}: at {} {one} can act from {begins} to {ends}, {other} from {from} to {until}",
                    self.seed,
                    self.now
                );
            }
        }
    }

    /// Takes in what happens. Whether anybody's right to act may be another one now.
    fn happens(&mut self, happening: Happening) -> bool {
        let Some(happening) = self.unless_stopped(happening) else { return false };
        match happening {
            Happening::Wake { operator, wake } => {
                let now = self.local(operator);
                let one = &self.operators[operator];
                if one.alive && one.wake == wake && one.awaits.is_none() {
                    if one.machine.due() <= now {
                        self.send_read(operator);
                    } else {
                        self.sleep(operator);
                    }
                }
                false
            }
            Happening::ReadArrives { operator, call } => {
                let seen = self.see();
                let delay = self.delay();
                if !self.is_lost() {
                    self.at(delay, Happening::Read { operator, call, seen });
                }
                false
            }
            Happening::WriteArrives { operator, call, write } => {
                let outcome = self.commit(&write);
                let delay = self.delay();
                if !self.is_lost() {
                    self.at(delay, Happening::Wrote { operator, call, outcome });
                }
                false
            }
            Happening::Read { operator, call, seen } => {
                let answered = self.answered(operator, call);
                if answered {
                    self.read(operator, seen);
                }
                answered
            }
            Happening::Wrote { operator, call, outcome } => {
                let answered = self.answered(operator, call);
                if answered {
                    let now = self.local(operator);
                    self.operators[operator].machine.wrote(now, outcome);
                    self.sleep(operator);
                }
                answered
            }
            Happening::GiveUp { operator, call, writes } => {
                let answered = self.answered(operator, call);
                if answered {
                    let now = self.local(operator);
                    let machine = &mut self.operators[operator].machine;
                    if writes {
                        machine.wrote(now, Err(FailureKind::Ambiguous));
                    } else {
                        machine.unread(now);
                    }
                    self.sleep(operator);
                }
                answered
            }
            Happening::Trouble if self.stormy() => {
                self.trouble();
                true
            }
            Happening::Trouble => {
                self.calm();
                true
            }
            Happening::Leader => {
                self.leader = true;
                false
            }
        }
    }

    /// An operator that is stopped takes nothing in before it goes on.
    fn unless_stopped(&mut self, happening: Happening) -> Option<Happening> {
        let operator = match &happening {
            Happening::Wake { operator, .. }
            | Happening::Read { operator, .. }
            | Happening::Wrote { operator, .. }
            | Happening::GiveUp { operator, .. } => *operator,
            Happening::ReadArrives { .. } | Happening::WriteArrives { .. } | Happening::Trouble | Happening::Leader => {
                return Some(happening);
            }
        };
        let until = self.operators[operator].stopped_until;
        if self.operators[operator].alive && until > self.now {
            self.at(until - self.now, happening);
            return None;
        }
        Some(happening)
    }

    /// Whether this is the answer that is awaited.
    fn answered(&mut self, operator: usize, call: u64) -> bool {
        let one = &mut self.operators[operator];
        let awaited = one.alive && one.awaits == Some(call);
        if awaited {
            one.awaits = None;
        }
        awaited
    }

    fn sleep(&mut self, operator: usize) {
        let now = self.now;
        let one = &mut self.operators[operator];
        one.wake += 1;
        let (wake, due) = (one.wake, one.clock.shows(one.machine.due()));
        self.at(due.saturating_sub(now).max(1), Happening::Wake { operator, wake });
    }

    fn send_read(&mut self, operator: usize) {
        let call = self.call(operator);
        let delay = self.delay();
        if !self.is_lost() {
            self.at(delay, Happening::ReadArrives { operator, call });
        }
        self.at(LEASE / 3, Happening::GiveUp { operator, call, writes: false });
    }

    fn read(&mut self, operator: usize, seen: Option<Rc<LeaseSeen>>) {
        let now = self.local(operator);
        let Some(seen) = seen else {
            self.operators[operator].machine.unread(now);
            return self.sleep(operator);
        };
        self.operators[operator].has_seen |= matches!(seen.found, LeaseFound::Record(_));
        let Some(write) = self.operators[operator].machine.read(now, &seen) else {
            return self.sleep(operator);
        };
        let write = Rc::new(write);
        // It may be stopped between deciding and sending; a call whose time is over is not sent.
        if self.stormy() && self.rng.chance(3) {
            self.operators[operator].stopped_until = self.now + self.rng.below(2 * LEASE);
        }
        let (clock, stopped) = (self.operators[operator].clock, self.operators[operator].stopped_until);
        let call = self.call(operator);
        let sent = stopped.max(self.now);
        let until = clock.shows(write.until);
        if sent < until && !self.is_lost() {
            let delay = sent - self.now + self.delay();
            self.at(delay, Happening::WriteArrives { operator, call, write: Rc::clone(&write) });
            if self.stormy() && self.rng.chance(5) {
                // The same request once more, however late.
                let delay = delay + self.rng.below(2 * LEASE);
                self.at(delay, Happening::WriteArrives { operator, call: 0, write });
            }
        }
        self.at(until.saturating_sub(self.now), Happening::GiveUp { operator, call, writes: true });
    }

    fn call(&mut self, operator: usize) -> u64 {
        self.number += 1;
        self.operators[operator].awaits = Some(self.number);
        self.number
    }

    fn delay(&mut self) -> Micros {
        match self.rng.below(100) {
            0..=4 if self.stormy() => self.rng.below(2 * LEASE),
            5..=19 if self.stormy() => self.rng.below(LEASE / 3),
            _ => MILLI + self.rng.below(5 * MILLI),
        }
    }

    fn is_lost(&mut self) -> bool {
        self.stormy() && self.rng.chance(4)
    }

    /// What a manager shows: the present, or, when it is behind, the past.
    fn see(&mut self) -> Option<Rc<LeaseSeen>> {
        if self.stormy() && self.rng.chance(3) {
            return None;
        }
        let behind = if self.stormy() && self.rng.chance(15) { self.rng.below(2 * LEASE) } else { 0 };
        let then = self.now.saturating_sub(behind);
        let version = self.versions.iter().rev().find(|version| version.since <= then);
        version.map(|version| Rc::clone(&version.seen))
    }

    fn present(&self) -> &Version {
        self.versions.last().unwrap_or_else(|| unreachable!("there is always one"))
    }

    fn commit(&mut self, write: &Write) -> Result<(), FailureKind> {
        if !self.leader {
            return Err(FailureKind::Unavailable);
        }
        if self.present().seen.at != write.at {
            return Err(if write.at.is_none() { FailureKind::Exists } else { FailureKind::Conflict });
        }
        let fields = write.record.fields().into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        self.put(Some(()), fields);
        Ok(())
    }

    fn put(&mut self, exists: Option<()>, fields: BTreeMap<String, String>) {
        self.index += 1;
        let at = exists.map(|()| self.index);
        let was_there = self.present().seen.at.is_some();
        let object = self.present().object + u64::from(at.is_some() && !was_there);
        self.versions.push(Version::new(self.now, object, at, fields));
        if self.versions.len() > 64 {
            self.versions.drain(..32);
        }
    }

    /// One of the many things that may happen to an operator or to the store.
    fn trouble(&mut self) {
        let operator = usize::try_from(self.rng.below(OPERATORS as u64)).unwrap_or(0);
        match self.rng.below(10) {
            0 | 1 => {
                let until = self.now + self.rng.below(3 * LEASE);
                self.operators[operator].stopped_until = until;
            }
            // A clock that jumps ahead although no time has passed.
            2 => {
                let jump = LEASE + self.rng.below(100 * LEASE);
                self.operators[operator].clock.ahead += jump;
                self.sleep(operator);
            }
            3 if !self.removable => {
                let made = self.operator();
                self.operators[operator] = made;
                self.at(0, Happening::Wake { operator, wake: 0 });
            }
            4 => {
                self.leader = false;
                let back = self.rng.below(2 * LEASE);
                self.at(back, Happening::Leader);
            }
            5 => {
                let now = self.local(operator);
                if self.operators[operator].stopped_until <= self.now {
                    self.operators[operator].machine.wish(Wish::TakeOver, now);
                    if self.operators[operator].awaits.is_none() {
                        self.sleep(operator);
                    }
                }
            }
            6 => self.hand_back(operator),
            // Somebody writes into the same object.
            7 => {
                let (at, fields) = (self.present().seen.at, self.present().fields.clone());
                self.put(at.map(|_| ()), fields);
            }
            8 => {
                let (at, mut fields) = (self.present().seen.at, self.present().fields.clone());
                if at.is_some() && !fields.is_empty() {
                    let name = ["holder", "epoch", "renewals", "milliseconds"]
                        [usize::try_from(self.rng.below(4)).unwrap_or(0)];
                    fields.insert(name.into(), "rub bish".repeat(40));
                    self.put(Some(()), fields);
                }
            }
            9 if self.removable && self.operators.iter().all(|operator| operator.has_seen) => {
                self.put(None, BTreeMap::new())
            }
            _ => {}
        }
        let next = self.rng.below(LEASE);
        self.at(next, Happening::Trouble);
    }

    /// A clean stop: the operator hands the lease back, dies, and another takes its place.
    fn hand_back(&mut self, operator: usize) {
        let now = self.local(operator);
        let one = &mut self.operators[operator];
        if one.stopped_until > self.now || one.awaits.is_some() || self.removable {
            return;
        }
        one.machine.wish(Wish::HandBack, now);
        let seen = self.see();
        if let Some(seen) = seen
            && let Some(write) = self.operators[operator].machine.read(now, &seen)
        {
            let delay = self.delay();
            self.at(delay, Happening::WriteArrives { operator, call: 0, write: Rc::new(write) });
        }
        let made = self.operator();
        self.operators[operator] = made;
        let begins = self.rng.below(LEASE);
        self.at(begins, Happening::Wake { operator, wake: 0 });
    }

    /// The storm is over: everybody who was stopped goes on.
    fn calm(&mut self) {
        self.leader = true;
        for operator in &mut self.operators {
            operator.stopped_until = operator.stopped_until.min(self.now);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn never_two_writers_and_one_again_once_faults_stop() {
    let (histories, first) = (number("OFOP_LEASE_HISTORIES", HISTORIES), number("OFOP_LEASE_SEED", 0));
    let threads = u64::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    let terms: u64 = std::thread::scope(|scope| {
        let play = |thread: u64| {
            (first..first + histories)
                .skip_while(move |seed| seed % threads != thread)
                .step_by(usize::try_from(threads).unwrap_or(1))
                .map(|seed| History::new(seed).play())
                .sum::<u64>()
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || play(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panic!("a history failed"))).sum()
    });
    // Histories in which nothing is ever handed over prove nothing.
    assert!(terms >= histories * 3, "{terms} acquisitions in {histories} histories");
}

/// Histories that once had two writers: the object was removed by hand under a holder whose lease was longer than any that
/// the next one had seen; one that had taken the lease by force forgot, over a reading of the past, that it had to wait; and
/// after a removal by hand, a request to create the object that came twice looked like a lease that had never moved.
#[test]
fn histories_that_had_two_writers_have_one() {
    for seed in [392_046, 1_105_797, 1_110_816, 1_279_303] {
        History::new(seed).play();
    }
}
