//! The lease of an instance: who may change the cluster, as it is kept where every operator of the instance can read it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::run::RunId;

/// The shortest lease. Renewals must fit into it several times over, each of them a write through Swarm's raft.
pub const MIN_LEASE: Duration = Duration::from_secs(1);
/// The longest lease: as long may a cluster be without a writer after a crash. A longer one that is found is not
/// believed, since waiting for it to end would keep everybody out.
pub const MAX_LEASE: Duration = Duration::from_secs(600);

/// The most characters of a version or an address that are believed.
const MAX_TEXT: usize = 255;

/// One state of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it; none when it was handed back.
    pub holder: Option<RunId>,
    /// Counts acquisitions.
    pub epoch: u64,
    /// Counts writes of the lease. As long as it moves, the holder lives.
    pub renewals: u64,
    /// How long the holder may act after a renewal.
    pub lease: Duration,
    /// Version of the holder's `ofop`.
    pub version: String,
    /// Where the holder serves its API, `HOST:PORT`; none when it serves none.
    pub address: Option<String>,
    /// When the holder took the lease by its own wall clock, RFC 3339. For people: nothing is ever decided by it.
    pub since: Option<String>,
}

/// The names of the fields, as they are kept.
const HOLDER: &str = "holder";
const EPOCH: &str = "epoch";
const RENEWALS: &str = "renewals";
const LEASE: &str = "milliseconds";
const VERSION: &str = "version";
const ADDRESS: &str = "address";
const SINCE: &str = "since";

impl LeaseRecord {
    /// The fields as texts, by name.
    pub fn fields(&self) -> BTreeMap<&'static str, String> {
        [
            (HOLDER, self.holder.as_ref().map(ToString::to_string).unwrap_or_default()),
            (EPOCH, self.epoch.to_string()),
            (RENEWALS, self.renewals.to_string()),
            (LEASE, self.lease.as_millis().to_string()),
            (VERSION, self.version.clone()),
            (ADDRESS, self.address.clone().unwrap_or_default()),
            (SINCE, self.since.clone().unwrap_or_default()),
        ]
        .into()
    }

    /// Reads fields, whoever wrote them. Fields that nobody here knows are left alone.
    fn of(fields: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = |name: &str| fields.get(name).map(String::as_str).ok_or_else(|| format!("it has no `{name}`"));
        let number = |name: &str| text(name)?.parse::<u64>().map_err(|_| format!("its `{name}` is not a number"));
        let plain = |name: &str| {
            let text = fields.get(name).map(String::as_str).unwrap_or_default();
            let fits = text.len() <= MAX_TEXT && !text.chars().any(|c| c.is_control() || c.is_whitespace());
            if fits { Ok(text) } else { Err(format!("its `{name}` is not one word")) }
        };
        let holder = match text(HOLDER)? {
            "" => None,
            text => Some(RunId::found(text).ok_or("its `holder` is not the id of a run")?),
        };
        let lease = Duration::from_millis(number(LEASE)?);
        if !(MIN_LEASE..=MAX_LEASE).contains(&lease) {
            return Err(format!("it lasts {} ms, which is not between 1 s and 10 min", lease.as_millis()));
        }
        Ok(LeaseRecord {
            holder,
            epoch: number(EPOCH)?,
            renewals: number(RENEWALS)?,
            lease,
            version: plain(VERSION)?.to_owned(),
            address: Some(plain(ADDRESS)?.to_owned()).filter(|address| !address.is_empty()),
            since: Some(plain(SINCE)?.to_owned()).filter(|since| !since.is_empty()),
        })
    }
}

/// What stands where the lease is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseFound {
    /// Nothing: no operator that knows of leases has run yet, or somebody removed it.
    Absent,
    /// A lease.
    Record(LeaseRecord),
    /// Something that no `ofop` of this version wrote.
    Unreadable {
        /// What is wrong with it, for people.
        reason: String,
        /// All of it, so that a change shows.
        fields: BTreeMap<String, String>,
    },
}

impl LeaseFound {
    /// What these fields say.
    pub fn of(fields: BTreeMap<String, String>) -> Self {
        if fields.is_empty() {
            return LeaseFound::Absent;
        }
        match LeaseRecord::of(&fields) {
            Ok(record) => LeaseFound::Record(record),
            Err(reason) => LeaseFound::Unreadable { reason, fields },
        }
    }
}

/// One reading of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSeen {
    /// The version of the object that keeps it, which a write must name; none when there is no such object.
    pub at: Option<u64>,
    /// The id of that object, where one that was removed and made again has another; empty otherwise.
    pub object: String,
    /// What it says.
    pub found: LeaseFound,
}

/// Why the lease cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseUnread {
    /// No answer, no leader, no rights to a file: it may be read later.
    #[error("{0}")]
    Unavailable(String),
    /// Somebody else has an object of that name.
    #[error("{0}")]
    Foreign(String),
    /// No lease can be kept here: whoever guards the engine lets nobody keep one.
    #[error("{0}")]
    Unsupported(String),
}

/// How one operator stands to the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has not found out yet.
    Unknown,
    /// It holds the lease: it may change the cluster.
    Holder,
    /// Another operator holds the lease, or held it until a moment ago.
    Standby,
    /// It can neither hold the lease nor see who does: it changes nothing.
    Blocked,
    /// No lease can be kept here: it changes the cluster, alone as far as it knows.
    Unguarded,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Standing; 5] =
        [Standing::Unknown, Standing::Holder, Standing::Standby, Standing::Blocked, Standing::Unguarded];

    /// The word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Unknown => "unknown",
            Standing::Holder => "holder",
            Standing::Standby => "standby",
            Standing::Blocked => "blocked",
            Standing::Unguarded => "unguarded",
        }
    }

    /// Whether the operator may change the cluster.
    pub fn leads(self) -> bool {
        match self {
            Standing::Holder | Standing::Unguarded => true,
            Standing::Unknown | Standing::Standby | Standing::Blocked => false,
        }
    }
}

/// How one operator stands to the lease, and what it knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    /// How it stands.
    pub standing: Standing,
    /// Which acquisition its right to act stems from; none when it has no such right. Another number means that
    /// others may have acted in between.
    pub term: Option<u64>,
    /// The lease as it was last read or written; none when there is none that can be read.
    pub record: Option<LeaseRecord>,
    /// Another holder's renewals have been seen to go on: it lives.
    pub holder_lives: bool,
    /// What is wrong with the lease, and what to do about it.
    pub trouble: Option<String>,
}

impl Default for LeaseStatus {
    /// Nothing is known yet.
    fn default() -> Self {
        LeaseStatus { standing: Standing::Unknown, term: None, record: None, holder_lives: false, trouble: None }
    }
}

impl LeaseStatus {
    /// Of an operator that needs no lease.
    pub fn alone() -> Self {
        LeaseStatus { standing: Standing::Unguarded, term: Some(0), ..LeaseStatus::default() }
    }

    /// Who holds the lease, as far as it is known.
    pub fn holder(&self) -> Option<&RunId> {
        self.record.as_ref()?.holder.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LeaseRecord {
        LeaseRecord {
            holder: Some(RunId::new("host-a", 7, 9)),
            epoch: 3,
            renewals: 88,
            lease: Duration::from_secs(15),
            version: "1.2.3".into(),
            address: Some("127.0.0.1:8420".into()),
            since: Some("2026-01-02T03:04:05Z".into()),
        }
    }

    fn kept(record: &LeaseRecord) -> BTreeMap<String, String> {
        record.fields().into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
    }

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        let released = LeaseRecord { holder: None, address: None, since: None, ..record() };
        for record in [record(), released] {
            assert_eq!(LeaseFound::of(kept(&record)), LeaseFound::Record(record));
        }
        let mut newer = kept(&record());
        newer.insert("colour".into(), "blue".into());
        newer.insert("place".into(), "hall 2".into());
        assert_eq!(LeaseFound::of(newer), LeaseFound::Record(record()), "fields of a newer version are left alone");
        assert_eq!(LeaseFound::of(BTreeMap::new()), LeaseFound::Absent);
    }

    #[test]
    fn rubbish_is_no_lease_and_no_absence_of_one() {
        for (name, text) in [
            (HOLDER, Some("a\nb")),
            (HOLDER, None),
            (EPOCH, Some("-1")),
            (EPOCH, None),
            (RENEWALS, Some("99999999999999999999999")),
            (LEASE, Some("0")),
            (LEASE, Some("999999999999")),
            (LEASE, Some("15s")),
            (VERSION, Some("1 2")),
            (ADDRESS, Some("<script> x")),
        ] {
            let mut fields = kept(&record());
            match text {
                Some(text) => _ = fields.insert(name.into(), text.into()),
                None => _ = fields.remove(name),
            }
            let found = LeaseFound::of(fields);
            assert!(matches!(&found, LeaseFound::Unreadable { reason, .. } if reason.starts_with("it")), "{found:?}");
        }
    }
}
