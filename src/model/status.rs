//! Whether a resource matches, whether it runs, and what is known about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Does what exists match what is described?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sync {
    /// It matches.
    Synced,
    /// It does not match, or exists without being described.
    OutOfSync,
    /// One side could not be read.
    Unknown,
}

impl Sync {
    /// Every value.
    pub const ALL: [Sync; 3] = [Sync::Synced, Sync::OutOfSync, Sync::Unknown];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Sync::Synced => "Synced",
            Sync::OutOfSync => "OutOfSync",
            Sync::Unknown => "Unknown",
        }
    }
}

/// Does it run?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    /// Every task runs.
    Healthy,
    /// On its way within the progress deadline.
    Progressing,
    /// Not running, or not on its way any more.
    Degraded,
    /// The engine undid our last update; held until the manifest changes or a person says so.
    RolledBack,
    /// Somebody it depends on is not there: it waits, and says for what.
    Waiting,
    /// A person told us to leave it alone.
    Suspended,
    /// Could not be read.
    Unknown,
}

impl Health {
    /// Every value.
    pub const ALL: [Health; 7] = [
        Health::Healthy,
        Health::Progressing,
        Health::Degraded,
        Health::RolledBack,
        Health::Waiting,
        Health::Suspended,
        Health::Unknown,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Healthy => "Healthy",
            Health::Progressing => "Progressing",
            Health::Degraded => "Degraded",
            Health::RolledBack => "RolledBack",
            Health::Waiting => "Waiting",
            Health::Suspended => "Suspended",
            Health::Unknown => "Unknown",
        }
    }
}

/// A difference between desired and observed that no change of the manifests explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftType {
    /// A service that we deployed is gone.
    Missing,
    /// A service that we deployed was edited.
    Modified,
    /// A service or record carries our mark and nothing describes it.
    Orphaned,
    /// A service runs whose record is not in the registry.
    Unregistered,
    /// A record says something else than it should, or speaks of a service that does not exist.
    StaleRecord,
}

impl DriftType {
    /// Every type.
    pub const ALL: [DriftType; 5] =
        [DriftType::Missing, DriftType::Modified, DriftType::Orphaned, DriftType::Unregistered, DriftType::StaleRecord];

    /// The word, as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            DriftType::Missing => "missing",
            DriftType::Modified => "modified",
            DriftType::Orphaned => "orphaned",
            DriftType::Unregistered => "unregistered",
            DriftType::StaleRecord => "stale_record",
        }
    }
}

/// One piece of drift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Its type.
    #[serde(rename = "type")]
    pub drift: DriftType,
    /// `service scheduler`, `asset SCHEDULER`.
    pub object: String,
    /// Names of the fields that differ; values are never part of it.
    pub fields: Vec<String>,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The last steps failed.
    Failed,
    /// A stranger's service or record is in the way.
    Conflict,
    /// The manifest is invalid and the resource is kept as it last was valid.
    Frozen,
    /// A removal waits: for a person, for valid manifests, for complete reads.
    PruneBlocked,
    /// Something it needs does not exist: a network, a coordinator.
    Waiting,
    /// The engine undid our update.
    RolledBack,
    /// Tasks do not run.
    Degraded,
    /// Tasks are on their way.
    Progressing,
    /// It is left alone: its manifest or a person says so.
    Suspended,
    /// No longer described, and kept, as its manifest wanted.
    Kept,
    /// Something cannot be found out; it goes on with what is known.
    Unresolved,
    /// Somebody undoes our changes again and again.
    Contested,
    /// A rollout goes no further: changing a resource broke it, or a person gave it up.
    RolloutHalted,
}

impl ConditionKind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionKind::Failed => "Failed",
            ConditionKind::Conflict => "Conflict",
            ConditionKind::Frozen => "Frozen",
            ConditionKind::PruneBlocked => "PruneBlocked",
            ConditionKind::Waiting => "Waiting",
            ConditionKind::RolledBack => "RolledBack",
            ConditionKind::Degraded => "Degraded",
            ConditionKind::Progressing => "Progressing",
            ConditionKind::Suspended => "Suspended",
            ConditionKind::Kept => "Kept",
            ConditionKind::Unresolved => "Unresolved",
            ConditionKind::Contested => "Contested",
            ConditionKind::RolloutHalted => "RolloutHalted",
        }
    }
}

/// Something that holds for a resource and that a person may want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// One word in CamelCase, for machines: `NetworkMissing`, `NoSuitableNode`, …
    pub reason: String,
    /// A sentence for people. Never holds an environment value.
    pub message: String,
    /// Since when, on the operator's monotonic clock.
    #[serde(skip)]
    pub since: Duration,
}
