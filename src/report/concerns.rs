//! What needs a person at the moment, as one value: what notifications are made of.
//!
//! A concern is a state and no event: whoever compares two of these values misses nothing that lasts, however many passes
//! lie between them, and after a restart as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Report;
use super::history::{RevisionEntry, RevisionResult};
use super::state::Last;
use super::status::{PartState, verdict_of};
use super::track::Part;
use crate::model::{
    Block, BlockKind, Health, PruneBlock, PruneVerdict, ResourceId, ResourcePlan, Severity as ProblemSeverity, Verdict,
};

/// How much a concern matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConcernSeverity {
    /// Nothing is wrong.
    Info,
    /// Somebody should look at it; what ran goes on.
    Warning,
    /// Something does not run, or nothing goes on.
    Critical,
}

impl ConcernSeverity {
    /// Every severity, the least first.
    pub const ALL: [ConcernSeverity; 3] = [ConcernSeverity::Info, ConcernSeverity::Warning, ConcernSeverity::Critical];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            ConcernSeverity::Info => "info",
            ConcernSeverity::Warning => "warning",
            ConcernSeverity::Critical => "critical",
        }
    }
}

/// What kind of concern it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConcernKind {
    /// A resource is blocked.
    Blocked(BlockKind),
    /// The newest manifests cannot be had.
    Source,
    /// A commit is there and does not come into force.
    CommitRefused,
    /// A manifest is invalid.
    Manifest,
    /// The engine cannot be read, or not in full.
    Engine,
    /// The asset registry cannot be read, or not in full.
    Registry,
    /// Something is wrong with the operator itself.
    Operator,
}

impl ConcernKind {
    /// Every kind that a concern can have.
    pub fn all() -> impl Iterator<Item = ConcernKind> {
        let blocked = BlockKind::ALL.into_iter().filter(|kind| is_concern(*kind) != Weight::None);
        blocked.chain([BlockKind::RolloutHalted, BlockKind::HeldForConfirmation]).map(ConcernKind::Blocked).chain([
            ConcernKind::Source,
            ConcernKind::CommitRefused,
            ConcernKind::Manifest,
            ConcernKind::Engine,
            ConcernKind::Registry,
            ConcernKind::Operator,
        ])
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            ConcernKind::Blocked(kind) => kind.as_str(),
            ConcernKind::Source => "source",
            ConcernKind::CommitRefused => "commit_refused",
            ConcernKind::Manifest => "manifest",
            ConcernKind::Engine => "engine",
            ConcernKind::Registry => "registry",
            ConcernKind::Operator => "operator",
        }
    }

    /// How much it matters.
    pub fn severity(self) -> ConcernSeverity {
        match self {
            ConcernKind::Blocked(BlockKind::RolloutHalted) | ConcernKind::Engine => ConcernSeverity::Critical,
            ConcernKind::Blocked(kind) if is_concern(kind) == Weight::Critical => ConcernSeverity::Critical,
            ConcernKind::Blocked(_)
            | ConcernKind::Source
            | ConcernKind::CommitRefused
            | ConcernKind::Manifest
            | ConcernKind::Registry
            | ConcernKind::Operator => ConcernSeverity::Warning,
        }
    }
}

impl fmt::Display for ConcernKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a blocked resource means to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Something else tells it once, or it is meant.
    None,
    Warning,
    Critical,
}

fn is_concern(kind: BlockKind) -> Weight {
    match kind {
        // A person wants it so.
        BlockKind::Suspended | BlockKind::OutsideWindow | BlockKind::PruningDisabled
        // One cause with many resources: the rollout, the file, the source, the guard is told.
        | BlockKind::RolloutHalted
        | BlockKind::HeldForConfirmation
        | BlockKind::InvalidManifest
        | BlockKind::SourceTrouble => Weight::None,
        BlockKind::ImageMissing
        | BlockKind::RestartLoop
        | BlockKind::TaskRejected
        | BlockKind::NoSuitableNode
        | BlockKind::ProgressDeadline
        | BlockKind::NotRunning => Weight::Critical,
        BlockKind::Conflict
        | BlockKind::Contested
        | BlockKind::RolledBack
        | BlockKind::StepRefused
        | BlockKind::StepFailing
        | BlockKind::UpdatePaused
        | BlockKind::MissingNetwork
        | BlockKind::MissingCoordinator
        | BlockKind::MissingDependency
        | BlockKind::RegistryUnproven
        | BlockKind::NoLongerManifest => Weight::Warning,
    }
}

/// Something that needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// What kind.
    pub kind: ConcernKind,
    /// The resource, where it is about one: of a halted rollout the one that broke.
    pub resource: Option<ResourceId>,
    /// The manifest, where there is one.
    pub file: Option<String>,
    /// A sentence, in lower case and without a full stop. Never holds an environment value.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// What becomes of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitProgress {
    /// Its full id.
    pub id: String,
    /// How it stands; none for one that is refused.
    pub result: Option<RevisionResult>,
    /// The same for people.
    pub message: String,
}

/// What needs a person at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concerns {
    /// By what they are about: `resource app/PRESS-7`, `file desired/app_x.yml`, `engine`, …
    pub open: BTreeMap<String, Concern>,
    /// What may be in order again and is not for certain: a resource that is on its way, or cannot be read.
    pub undecided: BTreeSet<String>,
    /// Not everything is known of the resources: the engine cannot be read, or was not read in full yet. What is not open
    /// may be so all the same.
    pub blind: bool,
    /// The revision in force.
    pub revision: String,
    /// The commit in force, and one that is refused.
    pub commits: Vec<CommitProgress>,
}

/// Begins what a concern about a resource is about.
pub const OF_RESOURCE: &str = "resource ";

impl Report {
    /// A number that changes with each pass and event: while it stays, so does what [`Report::concerns`] says.
    pub fn generation(&self) -> u64 {
        self.state().generation
    }

    /// What needs a person; none before the first pass.
    pub fn concerns(&self) -> Option<Concerns> {
        let state = self.state();
        let last = state.last.clone()?;
        let blind = last.blind || !state.parts.seen_all;
        let mut found = Concerns { blind, revision: last.desired.revision.0.clone(), ..Concerns::default() };
        let (parts, tracker) = (state.parts.clone(), state.tracker.clone());
        found.commits.extend(state.recorder.newest().and_then(progress));
        for (about, trouble) in &state.troubles {
            found.add(format!("operator {about}"), ConcernKind::Operator, trouble.clone(), "");
        }
        drop(state);
        found.of_parts(&last, &parts.source, &parts.platform, &parts.registry);
        if let Some(plan) = last.plan.as_deref() {
            for (id, planned) in plan.restless().filter(|_| !last.blind) {
                let verdict = verdict_of(planned, id, last.retries.get(id), tracker.get(id));
                found.of_resource(id, planned, &verdict, &last);
            }
            found.of_plan(&last);
        }
        for concern in found.open.values_mut() {
            concern.message = self.masked(&concern.message).into_owned();
            concern.hint = self.masked(&concern.hint).into_owned();
        }
        for commit in &mut found.commits {
            commit.message = self.masked(&commit.message).into_owned();
        }
        Some(found)
    }
}

/// What becomes of the commit of a revision.
fn progress(entry: &RevisionEntry) -> Option<CommitProgress> {
    let commit = entry.commit.as_ref()?;
    let touched = entry.created + entry.changed + entry.removed;
    let message = match (entry.result, &entry.obstacle) {
        (RevisionResult::Failed, Some(obstacle)) => format!("{}: {}", obstacle.resource, obstacle.message),
        (RevisionResult::OnItsWay, Some(obstacle)) => {
            format!("{} of {touched} on their way; {}: {}", entry.unsettled, obstacle.resource, obstacle.message)
        }
        (RevisionResult::InForce | RevisionResult::Replaced, _) => {
            format!("in force: {} created, {} changed, {} removed", entry.created, entry.changed, entry.removed)
        }
        (result, _) => result.words().to_owned(),
    };
    Some(CommitProgress { id: commit.id.clone(), result: Some(entry.result), message })
}

impl Concerns {
    fn add(&mut self, subject: String, kind: ConcernKind, message: String, hint: &str) {
        let concern = Concern { kind, resource: None, file: None, message, hint: hint.to_owned() };
        self.open.insert(subject, concern);
    }

    fn of_parts(&mut self, last: &Last, source: &Part, platform: &Part, registry: &Part) {
        let is_bad = |part: &Part| matches!(part.state, PartState::Down | PartState::Partial);
        let message = |part: &Part, what: &str| {
            part.message.clone().unwrap_or_else(|| format!("{what} could not be read in full"))
        };
        if is_bad(source) {
            let trouble = last.desired.trouble.as_ref();
            let refused = trouble.and_then(|trouble| trouble.refused.as_deref());
            let kind = if refused.is_some() { ConcernKind::CommitRefused } else { ConcernKind::Source };
            let hint = trouble.and_then(|trouble| trouble.hint.as_deref()).unwrap_or("`ofop get` says more");
            let said = message(source, "the manifests");
            if let Some(refused) = refused {
                let message = trouble.map(|trouble| trouble.message.clone()).unwrap_or_default();
                self.commits.push(CommitProgress { id: refused.id.to_string(), result: None, message });
            }
            self.add("source".into(), kind, said, hint);
        }
        if is_bad(platform) {
            let said = message(platform, "the engine");
            self.add(
                "engine".into(),
                ConcernKind::Engine,
                said,
                "is the engine up, a manager, and has the Swarm a leader?",
            );
        }
        if is_bad(registry) {
            let said = message(registry, "the asset registry");
            self.add(
                "registry".into(),
                ConcernKind::Registry,
                said,
                "are Kafka and ksqlDB up? `ofop registry check` says more",
            );
        }
        let errors = last.desired.problems.iter().filter(|problem| problem.severity == ProblemSeverity::Error);
        for problem in errors {
            // Of several in a file the first.
            self.open.entry(format!("file {}", problem.file)).or_insert_with(|| Concern {
                kind: ConcernKind::Manifest,
                resource: None,
                file: Some(problem.file.to_string()),
                message: problem.to_string(),
                hint: problem.hint.clone().unwrap_or_else(|| "`ofop validate` shows every problem".to_owned()),
            });
        }
    }

    fn of_resource(&mut self, id: &ResourceId, planned: &ResourcePlan, verdict: &Verdict, last: &Last) {
        let subject = format!("{OF_RESOURCE}{id}");
        match verdict {
            Verdict::Settled => {}
            Verdict::InProgress { .. } => {
                self.undecided.insert(subject);
            }
            Verdict::Blocked(Block { kind, message, hint, .. }) if is_concern(*kind) != Weight::None => {
                let described = last.desired.resources.get(id).map(|resource| resource.origin.file.to_string());
                let concern = Concern {
                    kind: ConcernKind::Blocked(*kind),
                    resource: Some(id.clone()),
                    file: described,
                    message: message.clone(),
                    hint: hint.clone(),
                };
                self.open.insert(subject, concern);
            }
            // Whoever suspends it knows of it.
            Verdict::Blocked(Block { kind: BlockKind::Suspended, .. }) => {}
            Verdict::Blocked(_) => {
                // It runs as it last was, unless its tasks say otherwise.
                if planned.health != Health::Healthy {
                    self.undecided.insert(subject);
                }
            }
        }
    }

    fn of_plan(&mut self, last: &Last) {
        let Some(plan) = last.plan.as_deref() else { return };
        for rollout in plan.rollouts.scopes.iter().filter(|rollout| !rollout.aborted) {
            let Some(culprit) = rollout.failed.first() else { continue };
            let more = match rollout.failed.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let waiting = rollout.waiting.len();
            let concern = Concern {
                kind: ConcernKind::Blocked(BlockKind::RolloutHalted),
                resource: Some(culprit.resource.clone()),
                file: last.desired.resources.get(&culprit.resource).map(|resource| resource.origin.file.to_string()),
                message: format!(
                    "the rollout is halted: {}{more}: {}; {waiting} keep their old version",
                    culprit.resource, culprit.message
                ),
                hint: "correct the manifest of what broke, or go on without it: `ofop rollout resume`".to_owned(),
            };
            self.open.insert(format!("rollout {}", rollout.scope), concern);
        }
        if let PruneVerdict::Blocked { reason: reason @ PruneBlock::Guard { .. }, .. } = &plan.prune {
            let kind = ConcernKind::Blocked(BlockKind::HeldForConfirmation);
            let hint = "`ofop plan` shows them; `ofop reconcile --confirm-prune` if they are meant";
            self.add("removals".into(), kind, reason.message(), hint);
        }
    }
}
