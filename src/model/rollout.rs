//! How changes of manifests go out: how many resources at a time, and what stops the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::desired::Origin;
use super::names::ResourceId;
use super::service::SpecHash;

/// How long a changed resource must run before it counts as a success, unless told otherwise: longer than a program takes
/// to find that its configuration is wrong.
pub const DEFAULT_SOAK: Duration = Duration::from_secs(10);

/// At most so many changed resources are watched at a time: each of them is noted.
pub const MOST_AT_A_TIME: u32 = 500;

/// Whether changes of manifests go out in batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutPolicy {
    /// All at once, and nothing stops them.
    Off,
    /// In batches.
    Batches(RolloutSettings),
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        RolloutPolicy::Batches(RolloutSettings::default())
    }
}

/// As the setting has it: `off`, `max_unhealthy=25%,soak=10s`.
impl fmt::Display for RolloutPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RolloutPolicy::Batches(RolloutSettings { max_unhealthy, batch, soak, canary }) = self else {
            return f.write_str("off");
        };
        write!(f, "max_unhealthy={max_unhealthy}")?;
        batch.iter().try_for_each(|batch| write!(f, ",batch={batch}"))?;
        write!(f, ",soak={soak:?}")?;
        let canaries: Vec<String> = canary.iter().map(ToString::to_string).collect();
        if canaries.is_empty() { Ok(()) } else { write!(f, ",canary={}", canaries.join("+")) }
    }
}

/// How a rollout in batches goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSettings {
    /// How many of the changed resources may be unproven or broken by the change at a time.
    pub max_unhealthy: Share,
    /// How many are changed at a time at most; none for as many as `max_unhealthy` allows.
    #[serde(default)]
    pub batch: Option<NonZeroU32>,
    /// How long a changed resource must run without a break before the next one takes its place.
    pub soak: Duration,
    /// These go first; all others wait until they are proven.
    #[serde(default)]
    pub canary: BTreeSet<ResourceId>,
}

impl Default for RolloutSettings {
    /// A quarter of what a revision changes, at least one; ten seconds.
    fn default() -> Self {
        RolloutSettings { max_unhealthy: Share::Percent(25), batch: None, soak: DEFAULT_SOAK, canary: BTreeSet::new() }
    }
}

impl RolloutSettings {
    /// How many resources of a rollout of `size` may be on their way at a time; at least one.
    pub fn places(&self, size: usize) -> usize {
        let batch = self.batch.map_or(MOST_AT_A_TIME, NonZeroU32::get).min(MOST_AT_A_TIME);
        self.max_unhealthy.of(size).min(usize::try_from(batch).unwrap_or(usize::MAX))
    }
}

/// A number of resources, or a part of those that a rollout changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Share {
    /// So many.
    Count(NonZeroU32),
    /// So many of a hundred, from 1 to 100; rounded down, and at least one.
    Percent(u8),
}

impl Share {
    /// How many of `size` that is; at least one.
    pub fn of(self, size: usize) -> usize {
        match self {
            Share::Count(count) => usize::try_from(count.get()).unwrap_or(usize::MAX),
            Share::Percent(percent) => (size.saturating_mul(usize::from(percent)) / 100).max(1),
        }
    }
}

/// A text that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is neither a number of resources from 1 on nor a percentage from 1 % to 100 %")]
pub struct NoShare;

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.trim_end().parse().map_err(|_| NoShare)?;
                if (1..=100).contains(&percent) { Ok(Share::Percent(percent)) } else { Err(NoShare) }
            }
            None => text.parse().map(Share::Count).map_err(|_| NoShare),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Count(count) => write!(f, "{count}"),
            Share::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl TryFrom<String> for Share {
    type Error = NoShare;

    fn try_from(text: String) -> Result<Self, NoShare> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

/// The resources that share one limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RolloutScope {
    /// All whose manifests say nothing of rollouts.
    Everywhere,
    /// Those of one file that says something.
    File(Arc<str>),
}

impl RolloutScope {
    /// The scope that holds for a resource of this place, if its manifest says something of rollouts.
    pub fn of(origin: &Origin, says_something: bool) -> Self {
        if says_something { RolloutScope::File(Arc::clone(&origin.file)) } else { RolloutScope::Everywhere }
    }
}

impl Serialize for RolloutScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RolloutScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text == EVERYWHERE { RolloutScope::Everywhere } else { RolloutScope::File(text.into()) })
    }
}

/// How the scope of all others is written.
const EVERYWHERE: &str = "everywhere";

impl fmt::Display for RolloutScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RolloutScope::Everywhere => EVERYWHERE,
            RolloutScope::File(file) => file,
        })
    }
}

/// How the rollout of one scope stands. As JSON it is what the API shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Whose changes they are.
    pub scope: RolloutScope,
    /// How many resources it changes, as far as is known.
    pub size: usize,
    /// How many may be on their way at a time.
    pub places: usize,
    /// Changed, or being changed, and not proven yet. In order.
    pub on_their_way: Vec<ResourceId>,
    /// Not changed yet. In order.
    pub waiting: Vec<ResourceId>,
    /// Changed, and broken by it: while there is one, nothing else goes out. In order, each with what is wrong.
    pub failed: Vec<RolloutFailure>,
    /// A person gave it up.
    pub aborted: bool,
}

/// A resource that a change broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutFailure {
    /// The resource.
    pub resource: ResourceId,
    /// What is wrong with it, in a few words.
    pub message: String,
}

impl RolloutStatus {
    /// How it stands, in one word: `aborted`, `halted` or `going`.
    pub fn state(&self) -> &'static str {
        match self {
            RolloutStatus { aborted: true, .. } => "aborted",
            RolloutStatus { failed, .. } if !failed.is_empty() => "halted",
            RolloutStatus { .. } => "going",
        }
    }

    /// Whether nothing more goes out until somebody acts.
    pub fn is_halted(&self) -> bool {
        self.aborted || !self.failed.is_empty()
    }
}

/// How changes of manifests go out, as of one plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollouts {
    /// Every rollout that is not over.
    pub scopes: Vec<RolloutStatus>,
    /// What is to be remembered of resources that go out, or went out in a rollout that is not over.
    pub going: BTreeMap<ResourceId, Going>,
    /// How many resources each rollout changes.
    pub sizes: BTreeMap<RolloutScope, usize>,
    /// Since when resources that others come after are in sync and run.
    pub steady: BTreeMap<ResourceId, Duration>,
}

/// A resource that a rollout changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// What is wanted of its services: their hashes, and the digests that are pinned.
    pub wish: SpecHash,
    /// What is wrong with it since; none while nothing is known to be.
    pub failed: Option<String>,
    /// Since when it is in sync and runs.
    pub runs_since: Option<Duration>,
    /// It ran for long enough: it takes no place any more.
    pub proven: bool,
    /// When its newest task had failed as the change was first seen in force, as the engine writes it: what failed before
    /// says nothing of the change.
    pub failed_before: Option<String>,
    /// Since when the change has been seen in force.
    pub in_force_since: Option<Duration>,
    /// It is to be noted: others wait for it, also after the operator's death.
    pub counts: bool,
}

impl Going {
    /// A resource of which this is wanted goes out.
    pub fn new(wish: SpecHash) -> Self {
        Going {
            wish,
            failed: None,
            runs_since: None,
            proven: false,
            failed_before: None,
            in_force_since: None,
            counts: false,
        }
    }

    /// Reads what was noted; none for what is no such note.
    pub fn parse(text: &str) -> Option<Self> {
        let (wish, failed) = text.split_once(' ').map_or((text, None), |(wish, message)| (wish, Some(message)));
        let failed = failed.map(str::to_owned);
        (!wish.is_empty()).then(|| Going { failed, counts: true, ..Going::new(SpecHash(wish.to_owned())) })
    }
}

/// What is noted of it: `WISH`, or `WISH MESSAGE` once it failed.
impl fmt::Display for Going {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wish.0)?;
        self.failed.iter().try_for_each(|message| write!(f, " {message}"))
    }
}

/// Why a change of a manifest does not go out yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Another resource is to be in sync and run first.
    Order {
        /// The resource.
        after: ResourceId,
        /// It stays as it is until somebody acts.
        stuck: bool,
    },
    /// Another resource, which needs this one, is to go first.
    ReverseOrder(ResourceId),
    /// Every place is taken.
    Place,
    /// A canary is to be proven first.
    Canary(ResourceId),
    /// That it goes out is being noted, so that whoever takes over counts it.
    Noted,
    /// Its windows are closed.
    Window {
        /// When they open next; none when they do not within a year.
        opens: Option<Timestamp>,
    },
    /// The rollout is halted, by this resource or by a person.
    Halted(Option<ResourceId>),
}

impl Gate {
    /// What is waited for, as people read it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Gate::Order { .. } => "what it comes after",
            Gate::ReverseOrder(_) => "what comes after it to go",
            Gate::Place => "its turn in the rollout",
            Gate::Canary(_) => "the canaries of the rollout",
            Gate::Noted => "a note of the rollout",
            Gate::Window { .. } => "its window to open",
            Gate::Halted(_) => "the halted rollout",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_reads_back_as_it_is_written_and_nothing_else_is_one() {
        for text in ["1", "7", "4294967295", "1%", "25%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        assert_eq!("10 %".parse(), Ok(Share::Percent(10)));
        for text in ["", "0", "-1", "0%", "101%", "-5%", "%", "ten", "1.5", "12.5%", "4294967296", " 1"] {
            assert_eq!(text.parse::<Share>(), Err(NoShare), "{text:?}");
        }
    }

    #[test]
    fn a_part_is_rounded_down_and_never_nothing() {
        let percent = |percent, size| Share::Percent(percent).of(size);
        assert_eq!(
            [percent(25, 60), percent(25, 7), percent(25, 1), percent(1, 60), percent(100, 3)],
            [15, 1, 1, 1, 3]
        );
        assert_eq!(percent(25, 0), 1);
        let count = "3".parse::<Share>().unwrap();
        assert_eq!([count.of(1), count.of(60)], [3, 3]);
    }

    #[test]
    fn a_batch_limits_the_places() {
        let settings = |batch| RolloutSettings { batch: NonZeroU32::new(batch), ..RolloutSettings::default() };
        assert_eq!([settings(0), settings(5), settings(50)].map(|settings| settings.places(60)), [15, 5, 15]);
        assert_eq!(settings(0).places(10_000), 500);
    }
}
