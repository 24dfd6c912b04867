//! What really runs and what is really registered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::names::{AssetUuid, ServiceName};
use super::notes::NotesView;
use super::record::{Availability, DeviceCoordinator, Record, RecordId, RecordOwner};
use super::service::{Mark, ServiceSpec};
use super::shared::{self, SharedMap};

/// One sighting of the world, on which one plan is made.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Monotonic time since the operator started.
    pub at: Duration,
    /// Wall time; it may jump between two sightings, either way. For what people say by the clock alone: windows, and ends of
    /// suspensions.
    pub wall: Timestamp,
    /// Services and tasks; `None` when they could not be read, in which case nothing is planned for them.
    pub platform: Option<Arc<PlatformSnapshot>>,
    /// Records; `None` when they could not be read, in which case nothing is planned for them.
    pub registry: Option<Arc<RegistrySnapshot>>,
    /// The records are those of an earlier sighting, which stand in for a read that is under way: no record is taken
    /// away on them.
    pub registry_stands_in: bool,
}

/// Services and tasks at one moment.
#[derive(Debug, Clone, Default)]
pub struct PlatformSnapshot {
    /// Counts full reads of the engine's list: two sightings of an absence need two generations.
    pub generation: u64,
    /// False when a read failed, timed out or may be stale (no leader): nothing is removed then.
    pub complete: bool,
    /// Every service on the cluster by its name, ours and strangers'.
    pub services: SharedMap<ServiceName, Arc<ObservedService>>,
    /// Tasks by the id of their service, those of removed services that have not ended yet included.
    pub tasks: SharedMap<ServiceId, Arc<[TaskView]>>,
    /// Names of the networks that services can be attached to.
    pub networks: BTreeSet<String>,
    /// Host names of the nodes by their ids; empty on plain Docker.
    pub nodes: BTreeMap<String, String>,
    /// For images whose tag is followed: the digest that the tag points to now, `sha256:…`.
    pub digests: BTreeMap<String, String>,
    /// Followed images whose digest was asked for and never learnt, each with the reason.
    pub unresolved: BTreeMap<String, String>,
    /// Services that could not be understood (an answer of an unknown shape), by name with the reason: they
    /// exist, so nothing is created in their place, and they are never changed.
    pub unreadable: BTreeMap<String, String>,
    /// What the operator of this instance has noted.
    pub notes: NotesView,
}

/// Full id that the engine gave a service (25 characters) or a container (64).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceId(pub String);

/// A service that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedService {
    /// Full id.
    pub id: ServiceId,
    /// Version that an update must name; 0 on the docker platform.
    pub version: u64,
    /// The fields that we own, as found, in the normal form of a desired spec: networks by name,
    /// constraints and ports in normal form, engine defaults gone. The image keeps its digest.
    pub spec: Arc<ServiceSpec>,
    /// What the owned fields cannot say about it: `global mode`, `job mode`, … Such a service is never
    /// equal to a desired one and never updated in place.
    pub foreign_mode: Option<String>,
    /// Our mark, or another operator's; none on a service that no operator wrote.
    pub mark: Option<Mark>,
    /// An operator runs in it, as its label says: nobody adopts, changes or removes it.
    pub runs_operator: bool,
    /// The routing labels that the containers carry; they should equal `spec.labels`.
    pub container_labels: BTreeMap<String, String>,
    /// What the engine says of its last update.
    pub update: UpdateState,
    /// What else the engine says about updates of it.
    pub rollout: Rollout,
    /// Wall time of creation as the engine writes it (RFC 3339), for people.
    pub created_at: String,
}

impl ObservedService {
    /// The spec to change; whoever else holds it keeps it as it was.
    pub fn spec_mut(&mut self) -> &mut ServiceSpec {
        Arc::make_mut(&mut self.spec)
    }
}

/// What the engine says of a service's last update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "message")]
pub enum UpdateState {
    /// No update, or one that the engine does not report on.
    #[default]
    None,
    /// Tasks are being replaced.
    Updating,
    /// The engine stopped half-way after a failure.
    Paused(String),
    /// Tasks were replaced.
    Completed,
    /// The engine is going back to the previous spec.
    RollbackStarted(String),
    /// The rollback stopped half-way.
    RollbackPaused(String),
    /// The engine went back to the previous spec, whose labels are the old ones too.
    RollbackCompleted(String),
}

/// What the engine says about updates of a service beside the state of the last one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The engine goes back to the previous spec by itself when an update fails (`FailureAction: rollback`).
    pub rolls_back: bool,
    /// When the last update or rollback that replaced tasks began, as the engine writes it (RFC 3339); empty when it
    /// reports on none. Another value means that an update was carried out in between.
    pub started: String,
    /// The last rollback was ordered by a person (`docker service rollback`). Swarm keeps the spec that it left as the
    /// previous one then, and none after a rollback of its own.
    pub by_hand: bool,
}

/// One task (or container) as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Full id.
    pub id: String,
    /// Replica number, from 1.
    pub slot: u64,
    /// Where it is.
    pub state: TaskState,
    /// Whether it is meant to run, as opposed to a remnant that is being shut down.
    pub wanted: bool,
    /// The engine's reason, e.g. `no suitable node (…)`; empty for none.
    pub error: String,
    /// Node id; empty until it is placed.
    pub node: String,
    /// When this state began, RFC 3339.
    pub since: String,
}

/// The states of a Swarm task, in the order in which a task goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Made, not yet looked at.
    New,
    /// Resources are being allocated.
    Allocated,
    /// Waits for a node.
    Pending,
    /// A node was chosen.
    Assigned,
    /// The node took it.
    Accepted,
    /// The image is being pulled.
    Preparing,
    /// About to start.
    Ready,
    /// Starting.
    Starting,
    /// Runs.
    Running,
    /// Ended by itself with success.
    Complete,
    /// Was stopped.
    Shutdown,
    /// Ended with an error.
    Failed,
    /// The node refused it.
    Rejected,
    /// Its node is gone.
    Orphaned,
    /// About to be deleted.
    Remove,
    /// A word that we do not know.
    Unknown,
}

impl TaskState {
    /// The engine's word.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::New => "new",
            TaskState::Allocated => "allocated",
            TaskState::Pending => "pending",
            TaskState::Assigned => "assigned",
            TaskState::Accepted => "accepted",
            TaskState::Preparing => "preparing",
            TaskState::Ready => "ready",
            TaskState::Starting => "starting",
            TaskState::Running => "running",
            TaskState::Complete => "complete",
            TaskState::Shutdown => "shutdown",
            TaskState::Failed => "failed",
            TaskState::Rejected => "rejected",
            TaskState::Orphaned => "orphaned",
            TaskState::Remove => "remove",
            TaskState::Unknown => "unknown",
        }
    }

    /// Whether a container may still be alive in this state.
    pub fn is_active(self) -> bool {
        self <= TaskState::Running
    }
}

/// Records at one moment.
#[derive(Debug, Clone, Default)]
pub struct RegistrySnapshot {
    /// Counts full reads.
    pub generation: u64,
    /// False when the reading contradicts itself or the one before: nothing is removed then.
    pub complete: bool,
    /// What may be concluded from that which the reading does not show: whether something is absent, or nobody's.
    pub evidence: Evidence,
    /// Every record, ours and other people's.
    pub records: SharedMap<RecordId, Arc<ObservedRecord>>,
    /// What each asset says of its availability.
    pub availability: SharedMap<AssetUuid, Availability>,
    /// For each device that a coordinator was told of, or was about to be: which one.
    pub coordinators: BTreeMap<AssetUuid, DeviceCoordinator>,
    /// Records that will be lost by their age unless they are written again soon.
    pub expiring: BTreeSet<RecordId>,
    /// Things about the registry itself that a person should mend, each a sentence.
    pub warnings: Vec<String>,
    /// Why the last write failed, as a sentence; none once one has worked. What is read may be right all the same.
    pub write_error: Option<String>,
}

impl RegistrySnapshot {
    /// Lets what is as it was before keep its place in memory: whoever compares the two then sees the rest alone.
    pub fn share_with(&mut self, before: &RegistrySnapshot) {
        let mut records = before.records.clone();
        shared::replace(&mut records, &self.records);
        self.records = records;
        let mut availability = before.availability.clone();
        shared::replace(&mut availability, &self.availability);
        self.availability = availability;
    }
}

/// A record that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRecord {
    /// The record as found. An asset that was taken back half-way has an empty `asset_type`.
    pub record: Record,
    /// Our mark.
    pub owner: Option<RecordOwner>,
}
