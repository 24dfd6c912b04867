//! Which connections are open, what each of them waits for, and which one gives way to a new one.
//!
//! # Guarantees
//!
//! - At most [`MAX_CONNECTIONS`] connections are open, and at most [`PER_PEER`] of one peer ([`PER_LOOPBACK`] where the peer
//!   is this machine, which may be a proxy for many). One more takes the place of the connection whose client has been
//!   waited for longest; without such a connection it is closed. So clients that send nothing, or read nothing, keep nobody
//!   out, while a request that is being answered is never given up for another.
//! - At most [`MAX_STREAMS`] connections are streams, of one peer [`STREAMS_PER_PEER`] or [`STREAMS_PER_LOOPBACK`]: the
//!   other places are reserved for short requests.
//! - A connection ends when its client exceeds the time of its [`Phase`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many connections may be open: browsers' tabs, scrapers and followers of events, with room to spare
/// under the usual limit of 1,024 descriptors.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// How many of them one peer may have: six for each tab of a browser, and some tabs.
const PER_PEER: usize = 64;

/// The same for this machine itself: a proxy speaks for all its clients. Less than all, so that a proxy leaves some to
/// those who come directly.
const PER_LOOPBACK: usize = 192;

/// How many connections may be streams.
const MAX_STREAMS: usize = 64;
/// How many of them one peer may have.
const STREAMS_PER_PEER: usize = 16;
/// The same for this machine itself.
const STREAMS_PER_LOOPBACK: usize = 48;

/// How long a new connection may take until the head of its first request is there: whoever connects has something to ask.
const FIRST_HEAD: Duration = Duration::from_secs(10);

/// How long a client may take over each later head, waiting for its first byte included. Longer than the usual scrape
/// interval, so that scrapers keep their connection.
pub(super) const NEXT_HEAD: Duration = Duration::from_secs(75);

/// How long a request may take from its head to the last byte of its answer that leaves our buffers.
const ANSWER: Duration = Duration::from_secs(60);

/// After how long an answer under way waits for its client and for nothing else: our own part of it is bounded by
/// [`super::REQUEST_TIMEOUT`].
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// How often the time of a phase is looked at, where it does not end before.
const LOOK: Duration = Duration::from_secs(5);

/// How much of a head is kept to be looked at, in bytes; no request of ours comes near it.
const KEPT_HEAD: usize = 16 * 1024;

/// Whom limits count as one: an IPv4 address; an IPv6 network of 64 bits, which is what one customer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerKey(IpAddr);

impl PeerKey {
    pub(super) fn of(address: IpAddr) -> PeerKey {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = u128::from(address) & (u128::MAX << 64);
                PeerKey(Ipv6Addr::from(network).into())
            }
            address => PeerKey(address),
        }
    }

    fn pick(self, peer: usize, loopback: usize) -> usize {
        if self.0.is_loopback() { loopback } else { peer }
    }
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is new, and no head has arrived.
    FirstHead,
    /// It waits for another head.
    NextHead,
    /// A request is being read or answered.
    Answering,
    /// Its answer lasts.
    Streaming,
}

impl Phase {
    /// How long it may last.
    fn limit(self) -> Option<Duration> {
        match self {
            Phase::FirstHead => Some(FIRST_HEAD),
            Phase::NextHead => Some(NEXT_HEAD),
            Phase::Answering => Some(ANSWER),
            Phase::Streaming => None,
        }
    }

    /// Whether a connection that has been in it for `time` waits for its client.
    fn gives_way(self, time: Duration) -> bool {
        match self {
            Phase::FirstHead | Phase::NextHead => true,
            Phase::Answering => time > ANSWER_PATIENCE,
            Phase::Streaming => false,
        }
    }
}

#[derive(Debug)]
struct Open {
    peer: PeerKey,
    phase: Phase,
    since: Instant,
    cut: CancellationToken,
}

/// All open connections.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Open>,
}

/// The open connections, shared.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Table>>);

impl Connections {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of this peer; none when every place is taken by requests that are being answered.
    pub(super) fn admit(&self, peer: PeerKey) -> Option<Slot> {
        let mut table = self.table();
        let now = Instant::now();
        let of_peer = table.open.values().filter(|open| open.peer == peer).count();
        let peer_full = of_peer >= peer.pick(PER_PEER, PER_LOOPBACK);
        if peer_full || table.open.len() >= MAX_CONNECTIONS {
            let gives_way =
                |open: &Open| (!peer_full || open.peer == peer) && open.phase.gives_way(now.duration_since(open.since));
            let candidates = table.open.iter().filter(|(_, open)| gives_way(open));
            let victim = candidates.min_by_key(|(_, open)| open.since).map(|(number, _)| *number)?;
            if let Some(open) = table.open.remove(&victim) {
                open.cut.cancel();
            }
        }
        let (number, cut) = (table.next, CancellationToken::new());
        table.next += 1;
        table.open.insert(number, Open { peer, phase: Phase::FirstHead, since: now, cut: cut.clone() });
        Some(Slot { connections: self.clone(), number, cut, head: Mutex::default() })
    }
}

/// The place of one connection; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Connections,
    number: u64,
    cut: CancellationToken,
    /// What arrived since the last answer ended: the beginning of the next request.
    head: Mutex<Vec<u8>>,
}

impl Slot {
    pub(super) fn enter(&self, phase: Phase) {
        if let Some(open) = self.connections.table().open.get_mut(&self.number) {
            (open.phase, open.since) = (phase, Instant::now());
        }
        match phase {
            Phase::FirstHead | Phase::NextHead => self.head().clear(),
            Phase::Answering | Phase::Streaming => {}
        }
    }

    /// Ends when the connection has to: it gives way to another, or its client took too long.
    pub(super) async fn over(&self) {
        let overdue = async {
            loop {
                let due = self.due();
                let now = Instant::now();
                match due {
                    Some(due) if due <= now => return,
                    Some(due) => tokio::time::sleep_until(due.min(now + LOOK)).await,
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        };
        tokio::select! {
            () = self.cut.cancelled() => {}
            () = overdue => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        let table = self.connections.table();
        let open = table.open.get(&self.number)?;
        open.phase.limit().map(|limit| open.since + limit)
    }

    fn head(&self) -> MutexGuard<'_, Vec<u8>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what arrives where a head is waited for.
    pub(super) fn arrived(&self, bytes: &[u8]) {
        let phase = self.connections.table().open.get(&self.number).map(|open| open.phase);
        if matches!(phase, Some(Phase::FirstHead | Phase::NextHead)) {
            let mut head = self.head();
            let room = KEPT_HEAD.saturating_sub(head.len());
            head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// Whether the head that arrived for a request of this method names a length. None where that cannot be told: the
    /// request came before the answer to an earlier one ended, or its head is too long.
    pub(super) fn names_length(&self, method: &str) -> Option<bool> {
        let head = self.head();
        let text = head.trim_ascii_start();
        let rest = text.strip_prefix(method.as_bytes())?;
        rest.first().filter(|byte| **byte == b' ')?;
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n")?;
        let names_it = |line: &[u8]| {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"content-length")
        };
        Some(rest[..end].split(|byte| *byte == b'\n').any(names_it))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.table().open.remove(&self.number);
    }
}

/// The streams that are being answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<BTreeMap<PeerKey, usize>>>);

impl Streams {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<PeerKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a stream to this peer, if there is one.
    pub(super) fn begin(&self, peer: PeerKey) -> Option<StreamPlace> {
        let mut counts = self.counts();
        let all: usize = counts.values().sum();
        let of_peer = counts.get(&peer).copied().unwrap_or_default();
        if all >= MAX_STREAMS || of_peer >= peer.pick(STREAMS_PER_PEER, STREAMS_PER_LOOPBACK) {
            return None;
        }
        counts.insert(peer, of_peer + 1);
        Some(StreamPlace { streams: self.clone(), peer })
    }
}

/// The place of one stream; free again when it is dropped.
#[derive(Debug)]
pub(super) struct StreamPlace {
    streams: Streams,
    peer: PeerKey,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut counts = self.streams.counts();
        match counts.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.peer);
            }
        }
    }
}

/// Marks an answer that lasts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lasting;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> PeerKey {
        PeerKey::of(text.parse().unwrap())
    }

    fn fill(connections: &Connections, peer: PeerKey, count: usize, phase: Phase) -> Vec<Slot> {
        (0..count)
            .map(|_| {
                let slot = connections.admit(peer).unwrap();
                slot.enter(phase);
                slot
            })
            .collect()
    }

    #[test]
    fn one_customer_counts_as_one_peer() {
        assert_eq!(peer("::ffff:10.0.0.7"), peer("10.0.0.7"));
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_ne!(peer("10.0.0.7"), peer("10.0.0.8"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_takes_the_place_of_who_sends_nothing_and_never_of_who_is_answered() {
        let connections = Connections::default();
        let here = peer("127.0.0.1");
        let busy = fill(&connections, here, PER_LOOPBACK - 1, Phase::Answering);
        let idle = fill(&connections, here, 1, Phase::NextHead);
        let new = connections.admit(here).unwrap();
        assert!(idle[0].cut.is_cancelled() && busy.iter().all(|slot| !slot.cut.is_cancelled()));
        new.enter(Phase::Answering);
        assert!(connections.admit(here).is_none(), "everybody is being answered");
        // Others are let in all the same, up to the limit of all.
        let other = fill(&connections, peer("10.0.0.7"), PER_PEER, Phase::Streaming);
        assert!(connections.admit(peer("10.0.0.7")).is_none());
        assert!(connections.admit(peer("10.0.0.8")).is_none(), "{MAX_CONNECTIONS} are open");
        // Whoever does not read an answer gives way in the end.
        tokio::time::advance(ANSWER_PATIENCE + Duration::from_secs(1)).await;
        assert!(connections.admit(peer("10.0.0.8")).is_some());
        assert_eq!(busy.iter().filter(|slot| slot.cut.is_cancelled()).count(), 1);
        drop(other);
        assert!(connections.admit(peer("10.0.0.7")).is_some(), "what is closed makes room");
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_ends_in_its_time() {
        for (phase, limit) in [(Phase::FirstHead, FIRST_HEAD), (Phase::NextHead, NEXT_HEAD), (Phase::Answering, ANSWER)]
        {
            let slot = Connections::default().admit(peer("10.0.0.7")).unwrap();
            slot.enter(phase);
            let began = Instant::now();
            slot.over().await;
            assert_eq!(began.elapsed().as_secs(), limit.as_secs(), "{phase:?}");
        }
        let slot = Connections::default().admit(peer("10.0.0.7")).unwrap();
        slot.enter(Phase::Streaming);
        assert!(tokio::time::timeout(Duration::from_secs(86_400), slot.over()).await.is_err());
    }

    #[test]
    fn streams_leave_places_for_others() {
        let streams = Streams::default();
        let here: Vec<_> = std::iter::from_fn(|| streams.begin(peer("127.0.0.1"))).collect();
        assert_eq!(here.len(), STREAMS_PER_LOOPBACK);
        let mut there: Vec<_> = std::iter::from_fn(|| streams.begin(peer("10.0.0.7"))).collect();
        assert_eq!(there.len(), STREAMS_PER_PEER);
        assert!(streams.begin(peer("10.0.0.8")).is_none(), "{MAX_STREAMS} in total");
        there.pop();
        assert!(streams.begin(peer("10.0.0.8")).is_some());
        drop((here, there));
        assert!(streams.counts().is_empty());
    }

    #[test]
    fn a_length_is_found_in_the_head_of_this_request_alone() {
        let slot = Connections::default().admit(peer("10.0.0.7")).unwrap();
        slot.arrived(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-");
        assert_eq!(slot.names_length("POST"), None, "the head is not complete");
        slot.arrived(b"LENGTH: 3\r\n\r\nabc");
        assert_eq!(slot.names_length("POST"), Some(true));
        slot.enter(Phase::Answering);
        slot.enter(Phase::NextHead);
        slot.arrived(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nContent-Length: 3");
        assert_eq!(slot.names_length("POST"), Some(false));
        slot.enter(Phase::Answering);
        slot.enter(Phase::NextHead);
        assert_eq!(slot.names_length("POST"), None, "it came along with an earlier one");
    }
}
