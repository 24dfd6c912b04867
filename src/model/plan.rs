//! What a pass decided.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::desired::Origin;
use super::hold::Hold;
use super::ledger::{Examined, Ledger};
use super::names::{ResourceId, Revision};
use super::observed::ServiceId;
use super::rollout::{Gate, Rollouts};
use super::shared::SharedMap;
use super::status::{Condition, ConditionKind, Drift, Health, Sync};
use super::step::{FieldChange, PlannedStep};
use super::verdict::Verdict;

/// What a pass will do and what it found.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The revision planned for.
    pub revision: Revision,
    /// Every resource that is desired, or of which something exists under our mark.
    pub resources: SharedMap<ResourceId, Arc<ResourcePlan>>,
    /// What became of removals.
    pub prune: PruneVerdict,
    /// A person confirmed the removals of this plan.
    pub prune_confirmed: bool,
    /// Everything is suspended; none when it is not.
    pub suspended: Option<Hold>,
    /// Changes from manifests wait, of everything; none when they do not.
    pub freeze: Option<Hold>,
    /// It is about some resources only.
    pub scoped: bool,
    /// While the guard holds removals back: the resources that were managed when it began to. What was deployed
    /// since must not make a removal of everything look like one of a part.
    pub guarded: BTreeSet<ResourceId>,
    /// How changes of manifests go out.
    pub rollouts: Rollouts,
    /// Those that are not at rest.
    pub restless: BTreeSet<ResourceId>,
    /// Which resources were looked at. All that are restless are among them.
    pub examined: Examined,
    /// Both sides, matched.
    pub ledger: Arc<Ledger>,
    /// When to look again although nothing happens: something in this plan ripens with time (a second
    /// sighting, a deadline). Counted from [`super::Observed::at`].
    pub recheck: Option<Duration>,
}

impl Plan {
    /// The resources that are not at rest: something is to be done, or to be told, or on its way.
    pub fn restless(&self) -> impl Iterator<Item = (&ResourceId, &ResourcePlan)> {
        self.restless.iter().filter_map(|id| Some((id, &**self.resources.get(id)?)))
    }

    /// The resources that were looked at and are there.
    pub fn examined(&self) -> impl Iterator<Item = (&ResourceId, &ResourcePlan)> {
        self.examined.of(&self.resources).filter_map(|(id, planned)| Some((id, &**planned?)))
    }

    /// Whether nothing is to be done, neither now nor later.
    pub fn is_empty(&self) -> bool {
        self.restless().all(|(_, resource)| resource.steps.is_empty() && resource.held.is_empty())
    }

    /// Number of resources of which something belongs to somebody else. While there is one, the cluster is not as
    /// described, whether or not anything is to be done.
    pub fn conflicts(&self) -> usize {
        self.restless().filter(|(_, resource)| resource.is_in_conflict()).count()
    }

    /// Number of steps that can be taken now.
    pub fn steps(&self) -> usize {
        self.restless().map(|(_, resource)| resource.steps.len()).sum()
    }
}

/// One resource in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourcePlan {
    /// Where the manifests describe it; none for a resource that they no longer describe.
    pub origin: Option<Origin>,
    /// What to do, in order; empty when nothing can or need be done now.
    pub steps: Vec<PlannedStep>,
    /// What is needed but cannot be done now, and what it waits for.
    pub held: Vec<HeldStep>,
    /// Differences that no change of the manifests explains.
    pub drift: Vec<Drift>,
    /// Differences that the manifest wants left alone.
    pub ignored: Vec<Ignored>,
    /// Does it match?
    pub sync: Sync,
    /// Does it run?
    pub health: Health,
    /// What else is known.
    pub conditions: Vec<Condition>,
    /// Settled, in progress or blocked: what everything above comes to.
    pub verdict: Verdict,
}

impl ResourcePlan {
    /// Whether it matches and runs, and there is nothing to do and nothing to tell: what it is then it stays until
    /// something changes. What depends on time is never at rest.
    pub fn is_at_rest(&self) -> bool {
        let ResourcePlan { origin, steps, held, drift, ignored, sync, health, conditions, verdict } = self;
        origin.is_some()
            && steps.is_empty()
            && held.is_empty()
            && drift.is_empty()
            && ignored.is_empty()
            && *sync == Sync::Synced
            && *health == Health::Healthy
            && conditions.is_empty()
            && *verdict == Verdict::Settled
    }

    /// Whether something of it belongs to somebody else, or cannot be understood.
    pub fn is_in_conflict(&self) -> bool {
        self.conditions.iter().any(|condition| condition.kind == ConditionKind::Conflict)
    }
}

/// Differences of one object that are left alone, because the manifest's `x-ofop` says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// `service scheduler`.
    pub object: String,
    /// What is there, and what the manifest says.
    pub changes: Vec<FieldChange>,
}

/// Why a resource is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspension {
    /// Its manifest says so.
    Manifest,
    /// A person said so of everything.
    Everything,
    /// A person said so of it.
    Person,
    /// A person took it down: what exists of it goes, and stays away.
    TakenDown,
}

impl Suspension {
    /// The word, for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Suspension::Manifest => "Manifest",
            Suspension::Everything => "Everything",
            Suspension::Person => "Person",
            Suspension::TakenDown => "TakenDown",
        }
    }

    /// Whether a condition of this type and reason tells of it.
    pub fn is_told_by(self, kind: ConditionKind, reason: &str) -> bool {
        kind == ConditionKind::Suspended && reason == self.as_str()
    }

    /// What ends it, as people read it.
    pub fn until(self) -> &'static str {
        match self {
            Suspension::Manifest => "a manifest without `suspend: true`",
            Suspension::Everything | Suspension::Person | Suspension::TakenDown => "`resume`",
        }
    }
}

/// A step that is needed but must wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldStep {
    /// What will be done.
    pub step: PlannedStep,
    /// What it waits for.
    pub wait: Wait,
}

/// What a needed step waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// A removal rests on two sightings in a row; this was the first.
    SecondSighting,
    /// The services that keep the record alive must go first.
    Services,
    /// Tasks of these services (removed, or shrinking) are still ending; they may write once more.
    TasksEnding(Vec<ServiceId>),
    /// The rows that were taken back must stay away for a while.
    RowsStayAway,
    /// Something that it builds on is not there; a condition says what.
    Dependency,
    /// Something of the resource belongs to somebody else; a condition says what, and what to do about it.
    Conflict,
    /// The engine undid the same update before.
    RolledBack,
    /// The engine may undo it: that it is tried is noted first, so that it is tried once, whatever happens to the operator.
    AttemptNoted,
    /// Somebody undoes it again and again: the next repair comes later.
    Contested,
    /// It may be suspended, or what the engine undid: what was noted of it has not been read yet.
    Notes,
    /// The reading of the registry does not prove that the record is absent, or whose it is; a condition says why.
    Evidence {
        /// Another reading alone will not prove it.
        lasting: bool,
    },
    /// The resource is suspended.
    Suspended(Suspension),
    /// Removals wait.
    Prune(PruneBlock),
    /// Whatever is no longer described may turn up in another file for so long.
    PruneDelay(Duration),
    /// What the same revision brings in is to run first.
    Successor(ResourceId),
    /// It is a change of a manifest, and others go first.
    Rollout(Gate),
}

impl Wait {
    /// What it waits for, as people read it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Wait::SecondSighting => "a second look",
            Wait::Services => "its services to go",
            Wait::TasksEnding(_) => "its last tasks to end",
            Wait::RowsStayAway => "its rows to stay away",
            Wait::Dependency => "what it builds on",
            Wait::Conflict => "its conflict to be resolved",
            Wait::RolledBack => "another manifest, or `resume`",
            Wait::AttemptNoted => "a note of the attempt",
            Wait::Contested => "the next repair of what somebody undoes",
            Wait::Notes => "its notes to be read",
            Wait::Evidence { .. } => "a reading of the registry that proves it",
            Wait::Suspended(suspension) => suspension.until(),
            Wait::PruneDelay(_) => "the prune delay to pass",
            Wait::Successor(_) => "what the same revision brings in to run",
            Wait::Rollout(gate) => gate.as_str(),
            Wait::Prune(PruneBlock::Guard { .. }) => "a person's confirmation",
            Wait::Prune(PruneBlock::InvalidManifests) => "valid manifests",
            Wait::Prune(PruneBlock::SourceTrouble) => "the newest manifests",
            Wait::Prune(PruneBlock::IncompleteObservation) => "a complete reading",
            Wait::Prune(PruneBlock::Disabled) => "pruning to be switched on",
            Wait::Prune(PruneBlock::NoLongerManifest { .. }) => "its manifest to be restored or deleted",
        }
    }
}

/// What became of the removals that a plan would need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PruneVerdict {
    /// Nothing to remove.
    #[default]
    Nothing,
    /// These resources are being removed (or wait for their second sighting).
    Allowed(Vec<ResourceId>),
    /// These resources are kept, and why.
    Blocked {
        /// What would be removed.
        resources: Vec<ResourceId>,
        /// Why it is not.
        reason: PruneBlock,
    },
}

/// Why removals wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneBlock {
    /// Too many at once: a person must confirm.
    Guard {
        /// How many would be removed.
        removing: usize,
        /// Out of how many managed.
        managed: usize,
    },
    /// A manifest is invalid or could not be read.
    InvalidManifests,
    /// The source is in trouble: its newest state is not in force.
    SourceTrouble,
    /// A list was incomplete.
    IncompleteObservation,
    /// `Policy::prune` is off.
    Disabled,
    /// The file that described the resource is still there and is no manifest any more: somebody emptied or broke it.
    NoLongerManifest {
        /// The file.
        file: Arc<str>,
    },
}

impl PruneBlock {
    /// The word, for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            PruneBlock::Guard { .. } => "guard",
            PruneBlock::InvalidManifests => "invalid_manifests",
            PruneBlock::SourceTrouble => "source_trouble",
            PruneBlock::IncompleteObservation => "incomplete_observation",
            PruneBlock::Disabled => "disabled",
            PruneBlock::NoLongerManifest { .. } => "no_longer_manifest",
        }
    }

    /// The same as a sentence for people, in lower case and without a full stop.
    pub fn message(&self) -> String {
        match self {
            PruneBlock::Guard { removing, managed } => {
                format!("removing {removing} of {managed} managed resources at once needs a person's confirmation")
            }
            PruneBlock::InvalidManifests => "nothing is removed while a manifest is invalid or unreadable".into(),
            PruneBlock::SourceTrouble => {
                "nothing is removed while the newest manifests cannot be had or are refused".into()
            }
            PruneBlock::IncompleteObservation => {
                "nothing is removed while the cluster cannot be read completely".into()
            }
            PruneBlock::Disabled => "pruning is switched off".into(),
            PruneBlock::NoLongerManifest { file } => {
                format!("{file}, which described it, is still there and has neither `apps` nor `devices` any more")
            }
        }
    }
}
