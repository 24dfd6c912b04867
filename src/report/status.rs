//! What is known, as one value: for the API, the page, `get` and `describe`.

mod build;
mod record;
mod service;

use std::borrow::Cow;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub(super) use self::build::{History, Row, View, build, rows, verdict_of};
pub use self::record::{Ownership, RecordStatus};
pub use self::service::{Running, ServicePresence, ServiceStatus};

use super::events::Entry;
use super::history::RevisionEntry;
use super::source::{SourceStatus, SourceView};
use crate::model::{
    ConditionKind, Desired, DriftType, Handling, Health, HoldStatus, InstanceName, Kind, LeaseStatus, Observed, Origin,
    Plan, Problem, PruneVerdict, ResourceId, Revision, RolloutStatus, Sync, Verdict,
};

/// What is known. Holds no environment value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Wall time of the pass that this rests on, RFC 3339; none before the first.
    pub time: Option<String>,
    /// The revision of the source that is in force.
    pub revision: Revision,
    /// How many requests for a look, from the first on, this rests on: it began after them, with manifests read
    /// after them. None without a daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<u64>,
    /// Who may change the cluster, and how this operator stands to that: `unknown` for a command, which tries for nothing.
    /// None where no lease is kept or it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseSummary>,
    /// A first complete pass is done and the platform is up.
    pub ready: bool,
    /// Why not; empty when ready.
    pub not_ready: Vec<String>,
    /// What does not keep it from its work and needs a person all the same.
    pub warnings: Vec<String>,
    /// When everything was last read and planned, RFC 3339.
    pub last_success: Option<String>,
    /// Where manifests come from.
    pub source: SourceStatus,
    /// What runs services.
    pub platform: PartStatus,
    /// The asset registry.
    pub registry: PartStatus,
    /// Number of manifest files, valid or not.
    pub files: usize,
    /// What is wrong or odd in the manifests.
    pub problems: Vec<Problem>,
    /// What is to outlive the operator, and whether it will.
    #[serde(default)]
    pub notes: NotesStatus,
    /// Everything is suspended; none when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<HoldStatus>,
    /// Changes from manifests wait, of everything; none when they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<HoldStatus>,
    /// What becomes of removals.
    pub prune: PruneStatus,
    /// Rollouts that are not over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<RolloutStatus>,
    /// Number of resources by sync and by health.
    pub summary: Summary,
    /// Every resource that is described, or of which something exists under our mark, sorted.
    pub resources: Vec<ResourceStatus>,
    /// Assets of the registry that belong to none of these resources, sorted: they are left alone.
    pub other_assets: Vec<RecordStatus>,
}

/// How an operator stands to the lease, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSummary {
    /// [`crate::model::Standing::as_str`].
    pub standing: String,
    /// Whether it may change the cluster.
    pub leader: bool,
    /// Who holds the lease, as far as it is known; none when nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderSummary>,
    /// Which acquisition of the lease that is; 0 when none is known.
    pub epoch: u64,
    /// What is wrong with the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Who holds the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderSummary {
    /// The id of its run: `HOST/PID/RANDOM`.
    pub run: String,
    /// Its host.
    pub host: String,
    /// Where it serves its API; none when it serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The version of its `ofop`.
    pub version: String,
    /// Since when it holds the lease, by its own clock, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl LeaseSummary {
    /// Of a status.
    pub fn of(lease: &LeaseStatus) -> Self {
        let holder = lease.record.as_ref().and_then(|record| {
            let run = record.holder.as_ref()?;
            Some(HolderSummary {
                run: run.to_string(),
                host: run.host().to_owned(),
                address: record.address.clone(),
                version: record.version.clone(),
                since: record.since.clone(),
            })
        });
        LeaseSummary {
            standing: lease.standing.as_str().to_owned(),
            leader: lease.standing.leads(),
            holder,
            epoch: lease.record.as_ref().map_or(0, |record| record.epoch),
            trouble: lease.trouble.clone(),
        }
    }

    /// Who holds the lease, as people read it; none when nobody is known to.
    pub fn holder_line(&self) -> Option<String> {
        let holder = self.holder.as_ref()?;
        let address = holder.address.as_ref().map(|address| format!(", API at {address}")).unwrap_or_default();
        let since = holder.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        Some(format!("{} (ofop {}{address}){since}", holder.run, holder.version))
    }

    /// A sentence for people, where the operator may not act, or acts without protection.
    pub fn notice(&self) -> Option<String> {
        let holder = self.holder.as_ref().map(|holder| {
            let address = holder.address.as_ref().map(|address| format!(", API at {address}")).unwrap_or_default();
            format!("{} (ofop {}{address})", holder.run, holder.version)
        });
        let trouble = self.trouble.as_deref().unwrap_or_default();
        match (self.standing.as_str(), holder) {
            ("holder", _) => None,
            ("standby", Some(holder)) => Some(format!("this operator is a standby: {holder} holds the lease")),
            ("unguarded", _) if trouble.is_empty() => None,
            ("unguarded", _) => Some(format!("no lease protects this operator from a second one: {trouble}")),
            (_, _) if trouble.is_empty() => Some("this operator changes nothing before it holds the lease".to_owned()),
            (_, _) => Some(format!("this operator changes nothing, since it cannot hold the lease: {trouble}")),
        }
    }
}

/// Something that the operator depends on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PartStatus {
    /// Its state.
    pub state: PartState,
    /// Since when, RFC 3339; none without a daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Things that a person should mend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The state of something that the operator depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// It was read completely.
    Up,
    /// It was read in part, or what it said may be stale: nothing is removed.
    Partial,
    /// It could not be read.
    Down,
    /// It has not been read yet.
    #[default]
    Unknown,
}

impl PartState {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            PartState::Up => "up",
            PartState::Partial => "partial",
            PartState::Down => "down",
            PartState::Unknown => "unknown",
        }
    }
}

/// What the operator notes: suspensions, and updates that the engine undid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotesStatus {
    /// Whether notes are kept.
    pub state: NotesState,
    /// How many are still to be written.
    pub unsaved: usize,
    /// Why they cannot be read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether notes are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotesState {
    /// They can be read.
    Kept,
    /// The platform keeps none: what people said ends with the process.
    Unsupported,
    /// They cannot be read at the moment.
    Unread,
    /// Nobody has looked yet, or the platform cannot be read.
    #[default]
    Unknown,
}

/// What becomes of removals.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PruneStatus {
    /// The verdict.
    pub state: PruneState,
    /// The resources that it is about.
    pub resources: Vec<ResourceId>,
    /// Why removals wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The same as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The verdict over removals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PruneState {
    /// Nothing to remove.
    #[default]
    Nothing,
    /// Being removed.
    Allowed,
    /// Held back.
    Blocked,
}

impl PruneStatus {
    /// The status of a verdict.
    pub fn of(verdict: &PruneVerdict) -> Self {
        match verdict {
            PruneVerdict::Nothing => PruneStatus::default(),
            PruneVerdict::Allowed(resources) => {
                PruneStatus { state: PruneState::Allowed, resources: resources.clone(), reason: None, message: None }
            }
            PruneVerdict::Blocked { resources, reason } => PruneStatus {
                state: PruneState::Blocked,
                resources: resources.clone(),
                reason: Some(reason.as_str().into()),
                message: Some(reason.message()),
            },
        }
    }
}

/// Numbers of resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// All.
    pub resources: usize,
    /// Those that match.
    pub synced: usize,
    /// Those that do not.
    pub out_of_sync: usize,
    /// Those that run.
    pub healthy: usize,
    /// Those on their way.
    pub progressing: usize,
    /// Those that do not run, the rolled-back ones included.
    pub degraded: usize,
    /// Those with drift.
    pub drifted: usize,
    /// Errors in the manifests.
    pub manifest_errors: usize,
}

/// One resource.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// `app/UUID`.
    #[serde(rename = "resource")]
    pub id: ResourceId,
    /// App or device.
    pub kind: Kind,
    /// The uuid in the manifest.
    pub uuid: String,
    /// Where the manifests describe it; none for a resource that they no longer describe.
    pub origin: Option<Origin>,
    /// The revision at which what was last asked for last changed, by the marks on its services.
    pub revision: Option<Revision>,
    /// Its file is invalid at the moment; this is how it last was valid.
    pub frozen: bool,
    /// Does it match?
    pub sync: Sync,
    /// Since when, RFC 3339; none without a daemon, as all times here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_since: Option<String>,
    /// Does it run?
    pub health: Health,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_since: Option<String>,
    /// Settled, in progress or blocked: what everything else here comes to.
    pub verdict: Verdict,
    /// Differences that no change of the manifests explains.
    pub drift: Vec<DriftStatus>,
    /// What its manifest says about how it is taken care of.
    #[serde(default, skip_serializing_if = "Handling::is_default")]
    pub handling: Handling,
    /// Differences that are left alone because its manifest says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<IgnoredStatus>,
    /// What else is known.
    pub conditions: Vec<ConditionStatus>,
    /// Number of steps that are planned and not done.
    pub pending_steps: usize,
    /// Steps that are needed and must wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldStatus>,
    /// Its services, wanted and found.
    pub services: Vec<ServiceStatus>,
    /// Its records, wanted and found.
    pub records: Vec<RecordStatus>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryStatus>,
    /// Its last events, oldest first; none in a list of resources, see [`crate::report::Report::resource`].
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub events: Option<Vec<Entry>>,
    /// What became of it in the last revisions that touched it, newest first; none in a list of resources, as events.
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub revisions: Option<Vec<RevisionEntry>>,
}

/// One piece of drift.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DriftStatus {
    /// Its type.
    #[serde(rename = "type")]
    pub drift: DriftType,
    /// `service scheduler`, `asset SCHEDULER`.
    pub object: String,
    /// Names of the fields that differ.
    pub fields: Vec<String>,
    /// When it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// Differences of one object that are left alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IgnoredStatus {
    /// `service scheduler`.
    pub object: String,
    /// Names of the fields.
    pub fields: Vec<String>,
}

/// Something that holds for a resource.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConditionStatus {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// One word for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// A step that is needed and must wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldStatus {
    /// What will be done: `remove service x`.
    pub step: String,
    /// What it waits for, as people read it.
    pub waits_for: Cow<'static, str>,
}

/// When a resource is tried again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RetryStatus {
    /// How many attempts have failed in a row.
    pub failures: u32,
    /// When the next one may begin, RFC 3339.
    pub at: String,
}

impl Status {
    /// The status without a daemon: what one observation and one plan show.
    pub fn of(
        instance: &InstanceName,
        wall: SystemTime,
        desired: &Desired,
        observed: &Observed,
        source: SourceView<'_>,
        plan: Option<&Plan>,
    ) -> Self {
        build(&View { instance, wall, desired, observed, source, plan, blind: plan.is_none(), history: None })
    }

    /// The status before the first pass.
    pub(super) fn unknown() -> Self {
        Status {
            time: None,
            revision: Revision::default(),
            answered: None,
            lease: None,
            ready: false,
            not_ready: vec!["the first pass is not done".into()],
            warnings: Vec::new(),
            last_success: None,
            source: SourceStatus::default(),
            platform: PartStatus::default(),
            registry: PartStatus::default(),
            files: 0,
            problems: Vec::new(),
            notes: NotesStatus::default(),
            suspended: None,
            rollouts: Vec::new(),
            freeze: None,
            prune: PruneStatus::default(),
            summary: Summary::default(),
            resources: Vec::new(),
            other_assets: Vec::new(),
        }
    }

    /// One resource.
    pub fn get(&self, id: &ResourceId) -> Option<&ResourceStatus> {
        self.resources.binary_search_by(|resource| resource.id.cmp(id)).ok().map(|index| &self.resources[index])
    }
}

impl ResourceStatus {
    /// How many replicas of its services run, of how many; none where it has no service.
    pub fn running(&self) -> Option<Running> {
        Running::all(&self.services)
    }
}
