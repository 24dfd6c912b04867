//! The engine's events: what has to be read again, and when somebody should look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::raw;
use crate::model::ServiceName;
use crate::platform::digests::{Answers, Follower};
use crate::platform::engine::{Act, CallError, Engine, encode};
use crate::platform::locked;

/// How long to wait before listening again after the engine hung up, doubling up to the last.
const RECONNECT: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];
/// How long a container that ended is left alone before it is started again, doubling up to the last while it
/// keeps ending. Swarm waits 5 s.
const RESTART: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];
/// A container that ran so long before it ended starts over with the shortest delay.
const RAN_WELL: Duration = Duration::from_secs(60);

/// What watcher, observation and execution tell each other.
pub(super) struct Shared {
    engine: Engine,
    inner: Mutex<Inner>,
    /// Moves whenever `observe` may answer something new.
    pub(super) changed: watch::Sender<u64>,
    /// Wakes the watcher when a restart has been put off.
    later: tokio::sync::Notify,
}

impl Shared {
    pub(super) fn new(engine: Engine) -> Self {
        let inner = Inner { dirty: Dirty { all: true, ids: BTreeSet::new() }, ..Inner::default() };
        Shared { engine, inner: Mutex::new(inner), changed: watch::Sender::new(0), later: tokio::sync::Notify::new() }
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// Where followed tags point.
    answers: Answers,
    dirty: Dirty,
    /// Containers that ended, by id: when they may be started again.
    ended: BTreeMap<String, Instant>,
    /// Starts by name: how many in a row that did not last, and the last one's time.
    starts: BTreeMap<ServiceName, (u32, Instant)>,
}

/// What has to be read again.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) all: bool,
    pub(super) ids: BTreeSet<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }

    /// Everything is to be read again.
    pub(super) fn all_dirty(&self) {
        self.lock().dirty.all = true;
    }

    /// This container is to be read again.
    pub(super) fn dirty(&self, id: &str) {
        self.lock().dirty.ids.insert(id.to_owned());
    }

    /// Takes what is dirty.
    pub(super) fn take_dirty(&self) -> Dirty {
        std::mem::take(&mut self.lock().dirty)
    }

    /// Gives back what could not be read.
    pub(super) fn put_back(&self, dirty: Dirty) {
        let mut inner = self.lock();
        inner.dirty.all |= dirty.all;
        inner.dirty.ids.extend(dirty.ids);
    }

    /// Where followed tags point, and why that cannot be told of others.
    pub(super) fn answers(&self) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let inner = self.lock();
        (inner.answers.digests.clone(), inner.answers.unresolved.clone())
    }

    /// Somebody should look.
    pub(super) fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A container was started by us.
    pub(super) fn started(&self, name: &ServiceName) {
        let now = Instant::now();
        let mut inner = self.lock();
        let (count, last) = inner.starts.get(name).copied().unwrap_or((0, now));
        let count = if now.duration_since(last) > RAN_WELL { 0 } else { count };
        inner.starts.insert(name.clone(), (count.saturating_add(1), now));
    }

    /// Whether a container that does not run may be started again by now. The first call for it sets the time.
    pub(super) fn may_restart(&self, name: &ServiceName, id: &str) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        let delay = restart_delay(
            inner.starts.get(name).map_or(
                0,
                |(count, last)| {
                    if now.duration_since(*last) > RAN_WELL { 0 } else { *count }
                },
            ),
        );
        let at = *inner.ended.entry(id.to_owned()).or_insert(now + delay);
        drop(inner);
        self.later.notify_one();
        now >= at
    }

    /// Forgets the ends of containers that run again or are gone.
    pub(super) fn keep_ended(&self, still: impl Fn(&str) -> bool) {
        self.lock().ended.retain(|id, _| still(id));
    }

    fn next_restart(&self) -> Option<Instant> {
        let now = Instant::now();
        self.lock().ended.values().filter(|at| **at > now).min().copied()
    }
}

impl Follower for Shared {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn follow_only(&self, images: &BTreeSet<String>) {
        self.lock().answers.keep_only(images);
    }

    fn resolved(&self, image: &str, answer: Result<String, String>) {
        let news = self.lock().answers.take(image, answer);
        if news {
            self.notify();
        }
    }
}

/// The delay after so many starts in a row that did not last.
fn restart_delay(starts: u32) -> Duration {
    let factor = 2u32.saturating_pow(starts.saturating_sub(1).min(16));
    RESTART[0].saturating_mul(factor).min(RESTART[1])
}

/// Listens for ever, and lets everything be read again every `resync` and after every silence.
pub(super) async fn watch(shared: Arc<Shared>, resync: Duration) {
    let mut wait = RECONNECT[0];
    loop {
        let began = Instant::now();
        let ended = listen(&shared, resync).await;
        tracing::debug!(reason = ?ended.err().map(|error| error.to_string()), "the engine's events ended");
        // What happened meanwhile is lost.
        shared.all_dirty();
        shared.notify();
        if began.elapsed() > RECONNECT[1] {
            wait = RECONNECT[0];
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RECONNECT[1]);
    }
}

async fn listen(shared: &Shared, resync: Duration) -> Result<(), CallError> {
    const LISTEN: Act = Act::read("listen for events");
    let engine = &shared.engine;
    // Another engine may answer than before.
    if engine.negotiate().await.is_err() {
        return Ok(());
    }
    let filters = encode(r#"{"type":["container","network"]}"#);
    let mut lines = engine.lines(LISTEN, &format!("/events?filters={filters}")).await?;
    shared.all_dirty();
    shared.notify();
    let mut timer = tokio::time::interval_at(Instant::now() + resync, resync);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let restart = shared.next_restart();
        tokio::select! {
            line = lines.next() => match line? {
                Some(line) => take(&line, shared),
                None => return Ok(()),
            },
            _ = timer.tick() => shared.all_dirty(),
            () = sleep_until(restart) => {}
            () = shared.later.notified() => continue,
        }
        shared.notify();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Notes what an event makes dirty. One that cannot be understood makes everything so.
fn take(line: &[u8], shared: &Shared) {
    let event: Option<raw::Event> = serde_json::from_slice(line).ok();
    let id = event.and_then(|event| match event.kind.as_str() {
        "container" => Some(event.actor.id),
        // Connecting and disconnecting name the container; other events of networks change the list of them.
        "network" => event.actor.attributes.get("container").cloned(),
        _ => None,
    });
    let mut inner = shared.lock();
    match id {
        Some(id) if !id.is_empty() => _ = inner.dirty.ids.insert(id),
        Some(_) | None => inner.dirty.all = true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared::new(Engine::new("unix:///nonexistent/docker.sock", None).unwrap())
    }

    #[test]
    fn restarts_wait_longer_while_they_do_not_help() {
        let delays: Vec<u64> = (0..9).map(|starts| restart_delay(starts).as_secs()).collect();
        assert_eq!(delays, [5, 5, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_ended_is_left_alone_for_a_while() {
        let shared = shared();
        let name = ServiceName::new("app").unwrap();
        shared.started(&name);
        assert!(!shared.may_restart(&name, "one"));
        tokio::time::advance(RESTART[0]).await;
        assert!(shared.may_restart(&name, "one"));
        shared.started(&name);
        shared.keep_ended(|_| false);
        assert!(!shared.may_restart(&name, "one"));
        tokio::time::advance(RESTART[0]).await;
        assert!(!shared.may_restart(&name, "one"), "twice as long the second time");
        tokio::time::advance(RESTART[0]).await;
        assert!(shared.may_restart(&name, "one"));
    }

    #[test]
    fn events_say_what_to_read_again() {
        let shared = shared();
        assert!(shared.take_dirty().all, "at first, everything");
        take(br#"{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{}}}"#, &shared);
        take(
            br#"{"Type":"network","Action":"disconnect","Actor":{"ID":"n","Attributes":{"container":"def"}}}"#,
            &shared,
        );
        let dirty = shared.take_dirty();
        assert!(!dirty.all);
        assert_eq!(dirty.ids, BTreeSet::from(["abc".to_owned(), "def".to_owned()]));
        take(br#"{"Type":"network","Action":"create","Actor":{"ID":"n"}}"#, &shared);
        assert!(shared.take_dirty().all);
        take(b"nonsense", &shared);
        assert!(shared.take_dirty().all);
    }
}
