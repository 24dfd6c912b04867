//! Who asked an engine for what and when, over several operators, and which of these calls came from one that was not
//! the holder of the lease.
//!
//! # What a stale call is
//!
//! Every process has a proxy of its own, all proxies live in one process and read one clock, and each call is entered
//! with the moment at which the proxy had it in full, which is no earlier than it was sent.
//!
//! A *write of the lease* is a write of the config `ofop-INSTANCE` whose lease (holder, epoch, renewals) nobody has read
//! or successfully written before: renewals, acquisitions and hand-backs. Every other request that is not a question (a
//! service made, changed or removed, a note, whatever else) is a *call*. A call that arrives at `t` is *stale* unless both
//! hold:
//!
//! 1. its sender holds the lease: there is a write of the lease by this sender and in its own name, which had been
//!    answered with success by `t` and had arrived less than a lease time before `t`; and the sender has not sent a
//!    hand-back since;
//! 2. nobody before it does: for every other process that held the lease under a lower epoch, the lease time since its
//!    last successful write has passed by `t`, or it has sent a hand-back.
//!
//! An operator stops a tenth of the lease early and has at most the rest of the lease for a call. What the engine makes
//! of a call that it was sent in time, and when, is another matter: the world is looked at for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

const LEASE: &str = "io.openfactory.operator/lease/";

/// What a config says of the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Nobody, if it was handed back.
    pub holder: String,
    pub epoch: u64,
    pub renewals: u64,
    pub time: Duration,
}

impl Lease {
    /// The lease among the labels of a config's description.
    fn of(spec: &Value) -> Option<Lease> {
        let field = |name: &str| spec["Labels"][format!("{LEASE}{name}")].as_str();
        let number = |name: &str| field(name)?.parse().ok();
        let time = Duration::from_millis(number("milliseconds")?);
        Some(Lease { holder: field("holder")?.into(), epoch: number("epoch")?, renewals: number("renewals")?, time })
    }
}

/// One request that is not a question.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which process sent it.
    pub sender: usize,
    /// When the proxy had it.
    pub at: Instant,
    /// When the proxy had the engine's answer, and its status; 0 if it had none.
    pub answer: Option<(Instant, u16)>,
    pub method: String,
    pub path: String,
    /// The lease that it writes, if it is a write of the lease.
    pub lease: Option<Lease>,
}

impl Call {
    fn is_done(&self) -> bool {
        self.answer.is_some_and(|(_, status)| (200..300).contains(&status))
    }

    /// Whether it asks for a change to services.
    pub fn is_of_services(&self) -> bool {
        self.path.contains("/services/")
    }
}

#[derive(Default)]
struct Book {
    calls: Vec<Call>,
    /// Leases that took effect, and since when that is known.
    known: HashMap<Lease, Instant>,
    judged: usize,
}

/// Clones share it.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

/// A call whose answer is awaited.
pub struct Entry(Option<usize>);

impl Ledger {
    /// A proxy has a request in full.
    pub fn asked(&self, sender: usize, method: &str, path: &str, body: &[u8]) -> Entry {
        if matches!(method, "GET" | "HEAD") {
            return Entry(None);
        }
        let mut book = self.0.lock().unwrap();
        let at = Instant::now();
        let of_config = path.contains("/configs/");
        let lease = of_config.then(|| Lease::of(&serde_json::from_slice(body).unwrap_or_default())).flatten();
        let lease = lease.filter(|lease| !book.known.contains_key(lease));
        book.calls.push(Call { sender, at, answer: None, method: method.into(), path: path.into(), lease });
        Entry(Some(book.calls.len() - 1))
    }

    /// The engine has answered, or has not: status 0.
    pub fn answered(&self, entry: &Entry, path: &str, status: u16, body: &[u8]) {
        let now = Instant::now();
        let mut book = self.0.lock().unwrap();
        match entry.0 {
            Some(index) => {
                book.calls[index].answer = Some((now, status));
                if let Some(lease) = book.calls[index].lease.clone().filter(|_| book.calls[index].is_done()) {
                    book.known.entry(lease).or_insert(now);
                }
            }
            None if path.contains("/configs") && status == 200 => {
                let answer: Value = serde_json::from_slice(body).unwrap_or_default();
                let configs = answer.as_array().cloned().unwrap_or_else(|| vec![answer]);
                for lease in configs.iter().filter_map(|config| Lease::of(&config["Spec"])) {
                    book.known.entry(lease).or_insert(now);
                }
            }
            None => {}
        }
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().calls.clone()
    }

    /// Changes to services that were asked for since a moment.
    pub fn changes_since(&self, since: Instant) -> Vec<Call> {
        let book = self.0.lock().unwrap();
        book.calls.iter().filter(|call| call.at > since && call.is_of_services()).cloned().collect()
    }

    /// The last write of the lease that was done.
    pub fn lease(&self) -> Option<(usize, Lease)> {
        let book = self.0.lock().unwrap();
        let done = book.calls.iter().filter(|call| call.is_done());
        let leases = done.filter_map(|call| Some((call.sender, call.lease.clone()?)));
        leases.max_by_key(|(_, lease)| (lease.epoch, lease.renewals))
    }

    /// The first write that takes the lease under a higher epoch: who sent it, and when it was answered.
    pub fn taken_after(&self, epoch: u64) -> Option<(usize, Instant)> {
        let book = self.0.lock().unwrap();
        let takes = |call: &&Call| {
            let lease = call.lease.as_ref();
            call.is_done() && lease.is_some_and(|lease| lease.epoch > epoch && !lease.holder.is_empty())
        };
        book.calls.iter().find(takes).and_then(|call| Some((call.sender, call.answer?.0)))
    }

    /// The calls since the last look that were stale, each with why.
    pub fn stale(&self) -> Vec<String> {
        let mut book = self.0.lock().unwrap();
        let from = book.judged;
        book.judged = book.calls.len();
        stale(&book.calls, from)
    }

    /// How many calls and how many writes of the lease there were.
    pub fn counts(&self) -> (usize, usize) {
        let book = self.0.lock().unwrap();
        let leases = book.calls.iter().filter(|call| call.lease.is_some()).count();
        (book.calls.len() - leases, leases)
    }
}

/// Which of the calls from this one on were stale. See the module.
fn stale(calls: &[Call], from: usize) -> Vec<String> {
    let writes: Vec<(&Call, &Lease)> = calls.iter().filter_map(|call| Some((call, call.lease.as_ref()?))).collect();
    let hands_back = |sender: usize, after: Instant, by: Instant| {
        let mut own = writes.iter().filter(|(call, lease)| call.sender == sender && lease.holder.is_empty());
        own.any(|(call, _)| call.at >= after && call.at <= by)
    };
    let mut stale = Vec::new();
    for call in calls[from.min(calls.len())..].iter().filter(|call| call.lease.is_none()) {
        let t = call.at;
        let mut tell = |why: String| {
            stale.push(format!("{} {} by process {}: {why}", call.method, call.path, call.sender));
        };
        // What it was told of before.
        let told = |write: &Call| {
            write.is_done() && write.answer.is_some_and(|(at, _)| at <= t) && write.sender == call.sender
        };
        let own = writes.iter().rev().find(|(write, lease)| told(write) && !lease.holder.is_empty());
        let Some((write, lease)) = own else {
            tell("it never held the lease".into());
            continue;
        };
        let since = t.saturating_duration_since(write.at);
        if since >= lease.time {
            tell(format!("it last wrote the lease {since:?} before"));
            continue;
        }
        if hands_back(call.sender, write.at, t) {
            tell("it had handed the lease back".into());
            continue;
        }
        let mut before: HashMap<usize, (Instant, &Lease)> = HashMap::new();
        for (write, held) in &writes {
            let counts = write.is_done() && write.at <= t && write.sender != call.sender;
            if counts && held.epoch < lease.epoch && !held.holder.is_empty() {
                before.insert(write.sender, (write.at, held));
            }
        }
        for (other, (at, held)) in before {
            let left = (at + held.time).saturating_duration_since(t);
            if !left.is_zero() && !hands_back(other, at, t) {
                tell(format!("the lease of process {other} goes on for {left:?}"));
            }
        }
    }
    stale
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        began: Instant,
        calls: Vec<Call>,
    }

    impl Story {
        fn new() -> Story {
            Story { began: Instant::now(), calls: Vec::new() }
        }

        fn at(&mut self, seconds: f64, sender: usize, status: u16, lease: Option<(&str, u64, u64)>) {
            let at = self.began + Duration::from_secs_f64(seconds);
            let time = Duration::from_secs(6);
            let lease = lease.map(|(holder, epoch, renewals)| Lease { holder: holder.into(), epoch, renewals, time });
            let answer = Some((at + Duration::from_millis(100), status));
            self.calls.push(Call { sender, at, answer, method: "POST".into(), path: "/x".into(), lease });
        }

        fn says(&self) -> Vec<String> {
            let why = |text: String| text.split(": ").nth(1).unwrap_or_default().to_owned();
            stale(&self.calls, 0).into_iter().map(why).collect()
        }
    }

    #[test]
    fn calls_within_the_lease_and_after_those_before_it_are_in_order() {
        let mut story = Story::new();
        story.at(0.0, 1, 200, Some(("a", 1, 1)));
        story.at(0.2, 1, 200, None);
        story.at(2.0, 1, 200, Some(("a", 1, 2)));
        story.at(7.9, 1, 200, None);
        // Process 2 waits for its end.
        story.at(8.2, 2, 200, Some(("b", 2, 3)));
        story.at(8.4, 2, 200, None);
        // Handed back: process 3 need not wait.
        story.at(9.0, 2, 200, Some(("", 2, 4)));
        story.at(9.2, 3, 200, Some(("c", 3, 5)));
        story.at(9.4, 3, 200, None);
        // Taken by force: the holder acts until the end of its lease, the other one from then on.
        story.at(10.0, 4, 200, Some(("d", 4, 6)));
        story.at(15.0, 3, 200, None);
        story.at(15.1, 4, 200, Some(("d", 4, 7)));
        story.at(15.3, 4, 200, None);
        assert_eq!(story.says(), [""; 0]);
    }

    #[test]
    fn every_kind_of_stale_call_is_seen() {
        let one = |act: fn(&mut Story)| {
            let mut story = Story::new();
            story.at(0.0, 1, 200, Some(("a", 1, 1)));
            act(&mut story);
            story.says()
        };
        assert_eq!(one(|story| story.at(1.0, 2, 200, None)), ["it never held the lease"]);
        assert_eq!(one(|story| story.at(0.05, 1, 200, None)), ["it never held the lease"], "before the answer");
        assert_eq!(one(|story| story.at(6.0, 1, 200, None)), ["it last wrote the lease 6s before"]);
        let failed = |story: &mut Story| {
            story.at(2.0, 1, 500, Some(("a", 1, 2)));
            story.at(7.0, 1, 200, None);
        };
        assert_eq!(one(failed), ["it last wrote the lease 7s before"]);
        let handed_back = |story: &mut Story| {
            story.at(1.0, 1, 0, Some(("", 1, 2)));
            story.at(1.2, 1, 200, None);
        };
        assert_eq!(one(handed_back), ["it had handed the lease back"]);
        let too_early = |story: &mut Story| {
            story.at(1.0, 2, 200, Some(("b", 2, 2)));
            story.at(4.0, 2, 200, None);
        };
        assert_eq!(one(too_early), ["the lease of process 1 goes on for 2s"]);
    }
}
