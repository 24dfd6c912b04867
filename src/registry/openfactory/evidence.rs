//! Judges a reading of the tables: whether what it does not show is absent. Pure.
//!
//! A server that comes back from a pause or a restart answers `200` with a part of the rows, or none, table by table and
//! partition by partition. So an answer alone proves that a row is there, and never that one is not.
//!
//! # Rules
//!
//! - *One reading.* Rows of `ASSETS_TYPE` and `DOCKER_SERVICES` are made of the same messages as the attributes `AssetType`
//!   and `DockerService` in `ASSETS`: one without the other is a gap. So is a mark of which a half is missing.
//! - *The log.* Where Kafka can be followed, the last message of each key in the topics of state ([`super::log`]) is the
//!   witness: a row that the log holds and the answer lacks exists, one that neither has does not.
//! - *The reading before.* A row that was there is gone only when a message took it away. Any number of rows lost without
//!   one is a gap; rows of `ASSETS` are never taken away.
//! - *Confirmation.* At the start, after a reading that failed, and after one during which a query failed, a reading
//!   without gaps counts when a second one, [`CONFIRM`] later, agrees with it. Where topics are not followed,
//!   [`CONFIRM_UNWITNESSED`] later.
//! - *Owners.* Attributes, the mark among them, have no witness. So an asset that is shown without any mark counts as
//!   nobody's only after it was shown so over [`CONFIRM_UNWITNESSED`], also while everything else about it is confirmed.
//!
//! # When the log and the answer differ
//!
//! The log is the truth about what exists, since ksqlDB only derives its tables from it and is the one that may be behind.
//! The answer is the truth about what other parts of OpenFactory can see. So a record is absent when both say so, and as
//! long as they differ about an asset nothing is concluded about it.
//!
//! # Lasting gaps
//!
//! A gap that stays the same for [`BELIEF`], while no reading fails, is no recovery any more but how things are: rows that
//! a topic with `cleanup.policy=delete` has lost, a message that ksqlDB cannot read. Then the others count again. An asset
//! of which a table shows less than there is stays unproven; it is written only where it carries our mark.
//!
//! # Limits
//!
//! Attributes are not witnessed by a log. A server that hides the mark of an asset alone, for more than
//! [`CONFIRM_UNWITNESSED`], while it shows every other row of every asset, is believed by who never saw the mark.

use std::collections::{BTreeMap, btree_map};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::Peekable;
use std::time::Duration;

use super::log::{Log, WITNESSES};
use crate::model::{AssetUuid, Doubt, DoubtReason, Evidence, Source};
use crate::registry::messages::{MANAGED_BY, MANAGED_RESOURCE};
use crate::registry::rows::DELETED;

/// How far apart two readings must be of which the second confirms the first: a table of a server that came back showed
/// nothing for up to two seconds in a row, beside others that did.
pub const CONFIRM: Duration = Duration::from_secs(3);
/// The same where topics are not followed: a server that lost its state answered with an empty table for 13 seconds.
pub const CONFIRM_UNWITNESSED: Duration = Duration::from_secs(20);
/// How long gaps must stay the same until they count as lasting: working off a backlog of 27,000 messages took ksqlDB
/// 50 seconds, during which they changed all the time.
pub const BELIEF: Duration = Duration::from_secs(60);
/// How long tables may lie behind a message without being doubted as a whole; an idle server takes up to 1.5 seconds.
pub const GRACE: Duration = Duration::from_secs(10);

/// What a reading shows of one asset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    /// One bit for each of [`WITNESSES`]: a row that counts.
    rows: u8,
    /// What the attributes in `ASSETS` say.
    said: SaidOf,
}

/// What the attributes of an asset say, as far as evidence goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaidOf {
    kind: Option<Said>,
    service: bool,
    by: Option<Said>,
    resource: Option<Said>,
}

/// What an attribute says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Something, by its hash.
    Value(u64),
    /// That there is nothing any more.
    Nothing,
}

impl SaidOf {
    /// Whether an attribute with this id and TYPE is one that counts.
    pub fn matters(id: &str, kind: &str) -> bool {
        kind == "OpenFactory" && matches!(id, "AssetType" | "DockerService" | MANAGED_BY | MANAGED_RESOURCE)
    }

    /// Takes in an attribute that OpenFactory wrote.
    pub fn take(&mut self, id: &str, value: &str) {
        let said = || match value {
            "" | DELETED => Said::Nothing,
            value => {
                let mut hasher = DefaultHasher::new();
                value.hash(&mut hasher);
                Said::Value(hasher.finish())
            }
        };
        match id {
            "AssetType" => self.kind = Some(said()),
            "DockerService" => self.service = true,
            MANAGED_BY => self.by = Some(said()),
            MANAGED_RESOURCE => self.resource = Some(said()),
            _ => {}
        }
    }

    fn is_half_marked(self) -> bool {
        let value = |said| matches!(said, Some(Said::Value(_)));
        value(self.by) != value(self.resource)
    }
}

impl Shown {
    /// Has a row that counts.
    pub fn has(self, source: Source) -> bool {
        self.rows & bit(source) != 0
    }
}

fn bit(source: Source) -> u8 {
    WITNESSES.iter().position(|witness| *witness == source).map_or(0, |at| 1 << at)
}

/// What a reading shows of every asset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<AssetUuid, Shown>);

impl Facts {
    /// A row of the table behind a source.
    pub fn row(&mut self, source: Source, uuid: &AssetUuid) {
        match self.0.get_mut(uuid) {
            Some(shown) => shown.rows |= bit(source),
            None => drop(self.0.insert(uuid.clone(), Shown { rows: bit(source), said: SaidOf::default() })),
        }
    }

    /// What the attributes of an asset say.
    pub fn said(&mut self, uuid: AssetUuid, said: SaidOf) {
        self.0.entry(uuid).or_default().said = said;
    }

    fn of(&self, uuid: &AssetUuid) -> Shown {
        self.0.get(uuid).copied().unwrap_or_default()
    }

    fn walk(&self) -> Walk<'_> {
        Walk(self.0.iter().peekable())
    }
}

/// Facts of one asset after the other in ascending order: one walk instead of a search for each.
struct Walk<'a>(Peekable<btree_map::Iter<'a, AssetUuid, Shown>>);

impl Walk<'_> {
    /// What is shown of an asset, which comes after all that were asked for before.
    fn of(&mut self, uuid: &AssetUuid) -> Shown {
        while self.0.next_if(|(shown, _)| *shown < uuid).is_some() {}
        self.0.next_if(|(shown, _)| *shown == uuid).map(|(_, shown)| *shown).unwrap_or_default()
    }
}

/// What does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    /// The log holds a row that the table does not show.
    NotShown(Source),
    /// The log has taken a row back that the table still shows.
    NotGone,
    /// It has a type or a service, and no attribute that says so.
    NoAttributes,
    /// One half of its mark is missing.
    HalfMarked,
    /// Other tables know it, and `ASSETS_TYPE` does not; no log tells whether it was taken back.
    NoType,
    /// A row of the reading before is missing, and no message took it back.
    Lost,
}

impl Gap {
    /// Whether it makes the whole reading doubtful, or what it says of this asset alone.
    fn is_of_all(self) -> bool {
        match self {
            Gap::NotShown(_) | Gap::NotGone => false,
            Gap::NoAttributes | Gap::HalfMarked | Gap::NoType | Gap::Lost => true,
        }
    }

    /// Whether the asset stays unproven when the gap has lasted.
    fn stays(self) -> bool {
        match self {
            Gap::NotShown(_) | Gap::NotGone | Gap::NoAttributes | Gap::HalfMarked => true,
            Gap::NoType | Gap::Lost => false,
        }
    }

    fn reason(self) -> DoubtReason {
        match self {
            Gap::Lost => DoubtReason::Lost,
            Gap::NotShown(_) | Gap::NotGone | Gap::NoAttributes | Gap::HalfMarked | Gap::NoType => DoubtReason::Partial,
        }
    }

    fn message(self, uuid: &AssetUuid, log: &Log) -> String {
        match self {
            Gap::NotShown(source) => {
                let offset = log.last(source, uuid).map_or(-1, |last| last.offset);
                let topic = log.topic(source);
                format!("topic {topic} holds asset {uuid} (offset {offset}), and ksqlDB does not show it")
            }
            Gap::NotGone => format!(
                "topic {} has taken asset {uuid} back, and ksqlDB still shows it in ASSETS_TYPE",
                log.topic(Source::AssetsType)
            ),
            Gap::NoAttributes => {
                format!(
                    "asset {uuid} is in ASSETS_TYPE or DOCKER_SERVICES, and ASSETS does not show the attribute of it"
                )
            }
            Gap::HalfMarked => {
                format!("asset {uuid} has one of the attributes managed_by and managed_resource without the other")
            }
            Gap::NoType => format!(
                "other tables show asset {uuid} and ASSETS_TYPE does not; whether it was taken back cannot be told \
                 without Read on the topics of state"
            ),
            Gap::Lost => format!("rows of asset {uuid} are missing that were there, and no message took them back"),
        }
    }
}

type Gaps = BTreeMap<AssetUuid, Gap>;

/// What comes of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Nothing contradicts it as a whole.
    pub complete: bool,
    /// What it proves.
    pub evidence: Evidence,
    /// What has lasted, for people: a sentence.
    pub warning: Option<String>,
}

/// Remembers what was read before.
#[derive(Debug, Default)]
pub struct Judge {
    before: Facts,
    /// A second reading has confirmed a first one since the start or the last failure.
    confirmed: bool,
    /// The reading that waits to be confirmed, and its time.
    first: Option<(Facts, Duration)>,
    /// Gaps that have not lasted yet, and since when they are the same.
    open: Option<(Gaps, Duration)>,
    /// Gaps that have lasted.
    lasting: Gaps,
    /// Since when assets are shown without any mark.
    unmarked: BTreeMap<AssetUuid, Duration>,
}

impl Judge {
    /// A reading failed: what comes next must be confirmed.
    pub fn failed(&mut self) {
        self.confirmed = false;
        self.first = None;
        self.open = None;
        self.lasting = Gaps::new();
        self.unmarked.clear();
    }

    /// Judges a reading. `disturbed` says that a query failed in it, and it was begun anew.
    pub fn judge(&mut self, facts: Facts, log: &Log, disturbed: bool, now: Duration) -> Verdict {
        if disturbed {
            self.failed();
        }
        let mut evidence = Evidence::default();
        let mut open = Gaps::new();
        let mut lasting = Gaps::new();
        for (uuid, gap) in self.gaps(&facts, log) {
            if self.lasting.get(&uuid) == Some(&gap) {
                lasting.insert(uuid, gap);
            } else if self.is_fresh(gap, &uuid, log, now) {
                let doubt = Doubt { reason: gap.reason(), message: gap.message(&uuid, log), lasting: false };
                evidence.assets.insert(uuid, doubt);
            } else {
                open.insert(uuid, gap);
            }
        }
        let since = match &self.open {
            Some((before, since)) if *before == open => *since,
            Some(_) | None => now,
        };
        if now.saturating_sub(since) >= BELIEF {
            lasting.append(&mut open);
        }
        let all = open.iter().find(|(_, gap)| gap.is_of_all()).map(|(uuid, gap)| {
            let others = match open.len() - 1 {
                0 => String::new(),
                others => format!("; so it is with {others} more"),
            };
            Doubt { reason: gap.reason(), message: format!("{}{others}", gap.message(uuid, log)), lasting: false }
        });
        for (uuid, gap) in open.iter().chain(lasting.iter().filter(|(_, gap)| gap.stays())) {
            let doubt =
                Doubt { reason: gap.reason(), message: gap.message(uuid, log), lasting: lasting.contains_key(uuid) };
            evidence.assets.insert(uuid.clone(), doubt);
        }
        self.look_for_owners(&facts, now);
        let is_new = |since: &Duration| now.saturating_sub(*since) < CONFIRM_UNWITNESSED;
        evidence.unmarked =
            self.unmarked.iter().filter(|(_, since)| is_new(since)).map(|(uuid, _)| uuid.clone()).collect();
        let complete = all.is_none();
        evidence.doubt = all.or_else(|| self.confirm(&facts, log, now));
        if !complete {
            self.first = None;
        }
        let mut staying = lasting.iter().filter(|(_, gap)| gap.stays());
        let warning = staying.next().map(|(uuid, gap)| {
            let others = match staying.count() {
                0 => String::new(),
                others => format!("; so it is with {others} more"),
            };
            format!("{} for {} s{others}", gap.message(uuid, log), BELIEF.as_secs())
        });
        self.remember(facts, &open);
        self.open = Some((open, since));
        self.lasting = lasting;
        Verdict { complete, evidence, warning }
    }

    /// Takes in which assets are shown without any mark. One that says that it has no owner is not among them.
    fn look_for_owners(&mut self, facts: &Facts, now: Duration) {
        let before = std::mem::take(&mut self.unmarked);
        let unmarked = facts.0.iter().filter(|(_, shown)| {
            shown.has(Source::AssetsType) && shown.said.by.is_none() && shown.said.resource.is_none()
        });
        self.unmarked = unmarked.map(|(uuid, _)| (uuid.clone(), before.get(uuid).copied().unwrap_or(now))).collect();
    }

    /// What was lost stays in mind for as long as it is doubted.
    fn remember(&mut self, facts: Facts, open: &Gaps) {
        let mut before = facts;
        for (uuid, _) in open.iter().filter(|(_, gap)| **gap == Gap::Lost) {
            let was = self.before.of(uuid);
            let is = before.0.entry(uuid.clone()).or_default();
            is.rows |= was.rows;
            is.said.kind = is.said.kind.or(was.said.kind);
            is.said.service |= was.said.service;
            is.said.by = is.said.by.or(was.said.by);
            is.said.resource = is.said.resource.or(was.said.resource);
        }
        self.before = before;
    }

    /// Why a reading without gaps does not count yet.
    fn confirm(&mut self, facts: &Facts, log: &Log, now: Duration) -> Option<Doubt> {
        if self.confirmed {
            return None;
        }
        let wait = if log.is_whole() { CONFIRM } else { CONFIRM_UNWITNESSED };
        let agreed = self.first.as_ref().filter(|(first, at)| agrees(first, facts, log, *at)).map(|(_, at)| *at);
        match agreed {
            Some(at) if now.saturating_sub(at) >= wait => {
                self.confirmed = true;
                self.first = None;
                return None;
            }
            Some(_) => {}
            None => self.first = Some((facts.clone(), now)),
        }
        Some(Doubt {
            reason: DoubtReason::Unconfirmed,
            message: format!(
                "the registry was read once since the start or a failure: a second reading, {} s later, must agree",
                wait.as_secs()
            ),
            lasting: false,
        })
    }

    /// At most one for each asset: the one that says most.
    fn gaps(&self, facts: &Facts, log: &Log) -> Gaps {
        let mut gaps = Gaps::new();
        for source in WITNESSES {
            let mut facts = facts.walk();
            for (uuid, _) in log.rows(source) {
                if !facts.of(uuid).has(source) {
                    gaps.entry(uuid.clone()).or_insert(Gap::NotShown(source));
                }
            }
        }
        // An asset that nothing but the log knows has no attributes either.
        let mut walk = facts.walk();
        for (uuid, _) in log.rows(Source::AssetsType) {
            if walk.of(uuid).said.kind.is_none() {
                gaps.insert(uuid.clone(), Gap::NoAttributes);
            }
        }
        let mut walk = facts.walk();
        for (uuid, was) in &self.before.0 {
            if is_lost(uuid, *was, walk.of(uuid), log) {
                gaps.insert(uuid.clone(), Gap::Lost);
            }
        }
        for (uuid, shown) in &facts.0 {
            if let Some(gap) = contradiction(uuid, *shown, log) {
                gaps.entry(uuid.clone()).or_insert(gap);
            }
        }
        gaps
    }

    /// Whether a gap may be the time that ksqlDB needs to follow.
    fn is_fresh(&self, gap: Gap, uuid: &AssetUuid, log: &Log, now: Duration) -> bool {
        let begun = now.saturating_sub(GRACE);
        // What came before the log was followed is old.
        let heard = log.changed_since(uuid, begun);
        let was = self.before.of(uuid);
        match gap {
            Gap::NotShown(_) | Gap::NotGone => heard,
            Gap::NoAttributes => heard || (!log.is_whole() && self.confirmed && was.rows == 0),
            Gap::NoType => self.confirmed && was == Shown::default(),
            Gap::HalfMarked => heard || (self.confirmed && !was.said.is_half_marked()),
            Gap::Lost => false,
        }
    }
}

/// What one reading contradicts itself in about an asset.
fn contradiction(uuid: &AssetUuid, shown: Shown, log: &Log) -> Option<Gap> {
    let typed = shown.has(Source::AssetsType);
    let is_let_go = shown.said.by == Some(Said::Nothing) || shown.said.kind == Some(Said::Nothing);
    if typed && log.last(Source::AssetsType, uuid).is_some_and(|last| !last.is_row) {
        return Some(Gap::NotGone);
    }
    if (typed && shown.said.kind.is_none()) || (shown.has(Source::DockerServices) && !shown.said.service) {
        return Some(Gap::NoAttributes);
    }
    if shown.said.is_half_marked() {
        return Some(Gap::HalfMarked);
    }
    let is_known = shown.rows != 0 || matches!(shown.said.kind, Some(Said::Value(_)));
    let is_told = log.is_whole() || log.is_taken_back(Source::AssetsType, uuid) || is_let_go;
    (!typed && is_known && !is_told).then_some(Gap::NoType)
}

/// Whether something of an asset was there before and is not, although nobody took it back.
fn is_lost(uuid: &AssetUuid, was: Shown, is: Shown, log: &Log) -> bool {
    let row = WITNESSES.into_iter().any(|source| {
        let removed = source == Source::AssetsType && is.said.kind == Some(Said::Nothing);
        let held = || log.last(source, uuid).is_some_and(|last| last.is_row);
        was.has(source) && !is.has(source) && !removed && !held() && !log.is_taken_back(source, uuid)
    });
    let attribute = |was: Option<Said>, is: Option<Said>| was.is_some() && is.is_none();
    row || attribute(was.said.kind, is.said.kind)
        || (was.said.service && !is.said.service)
        || attribute(was.said.by, is.said.by)
        || attribute(was.said.resource, is.said.resource)
}

/// Whether a reading shows what an earlier one did, and nothing that nobody has written since.
fn agrees(first: &Facts, second: &Facts, log: &Log, at: Duration) -> bool {
    let is_in = |one: &Facts, other: &Facts| {
        let mut other = other.walk();
        let mut all = one.0.iter();
        all.all(|(uuid, shown)| *shown == other.of(uuid) || log.changed_since(uuid, at.saturating_sub(GRACE)))
    };
    is_in(first, second) && is_in(second, first)
}

#[cfg(test)]
mod tests;
