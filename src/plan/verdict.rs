//! The verdict on one resource, from what was planned for it.
//!
//! # Order
//!
//! 1. A resource that is left alone is blocked, whatever else holds.
//! 2. Steps that can be taken, and held steps that time alone lets go, are progress: nobody needs to act before they
//!    are over, and what is in the way may be gone with them.
//! 3. Then conditions, and steps that are held until somebody acts, block it; of several the first by
//!    [`BlockKind`]'s order.
//! 4. What is left follows from sync and health.

use crate::model::{
    Block, BlockKind, Condition, ConditionKind, Gate, Health, HeldStep, Progress, PruneBlock, ResourceId, ResourcePlan,
    Suspension, Sync, Verdict, Wait,
};

/// Reasons of conditions that more than one place knows.
pub(super) const AFTER_STUCK: &str = "AfterStuck";
pub(super) const COORDINATOR_MISSING: &str = "CoordinatorMissing";
pub(super) const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
pub(super) const IMAGE_MISSING: &str = "ImageMissing";
pub(super) const NETWORK_MISSING: &str = "NetworkMissing";
pub(super) const NO_SUITABLE_NODE: &str = "NoSuitableNode";
pub(super) const OUTSIDE_WINDOW: &str = "RolloutWindow";
pub(super) const RESTART_LOOP: &str = "RestartLoop";
pub(super) const TASK_REJECTED: &str = "TaskRejected";
pub(super) const UPDATE_PAUSED: &str = "UpdatePaused";

/// Judges a resource by its steps, what is held, its conditions, sync and health. `last_failure` is when its newest
/// task failed.
pub fn judge(id: &ResourceId, planned: &ResourcePlan, last_failure: Option<&str>) -> Verdict {
    let blocked = |kind: BlockKind, message: String| {
        let last_failure = last_failure.filter(|_| kind.is_about_failed_tasks()).map(str::to_owned);
        Verdict::Blocked(Block { last_failure, ..Block::new(kind, id, message) })
    };
    if let Some(condition) = planned.conditions.iter().find(|condition| leaves_alone(condition)) {
        return blocked(BlockKind::Suspended, condition.message.clone());
    }
    if !planned.steps.is_empty() {
        return Verdict::InProgress { why: Progress::Steps, message: steps(planned) };
    }
    let block = first_block(planned);
    let goes_on = |held: &&HeldStep| match progress_of(&held.wait) {
        Some(_) => held.wait != Wait::Services || block.is_none(),
        None => false,
    };
    if let Some(held) = planned.held.iter().find(goes_on) {
        let why = progress_of(&held.wait).unwrap_or(Progress::Held);
        return Verdict::InProgress { why, message: waits(held) };
    }
    if let Some((kind, message)) = block {
        return blocked(kind, message);
    }
    let progress = |why: Progress, otherwise: &str| {
        let told = planned.conditions.iter().find(|condition| condition.kind == ConditionKind::Progressing);
        let message = told.map_or_else(|| otherwise.to_owned(), |condition| condition.message.clone());
        Verdict::InProgress { why, message }
    };
    if let Some(held) = planned.held.first() {
        return match planned.sync {
            Sync::Unknown => Verdict::InProgress { why: Progress::Unread, message: waits(held) },
            Sync::Synced | Sync::OutOfSync => blocked(BlockKind::MissingDependency, waits(held)),
        };
    }
    match (planned.sync, planned.health) {
        (_, Health::RolledBack) => blocked(BlockKind::RolledBack, "the engine rolled its last update back".into()),
        (_, Health::Waiting) => blocked(BlockKind::MissingDependency, "something that it needs is not there".into()),
        (_, Health::Degraded) => blocked(BlockKind::NotRunning, "it does not run".into()),
        (Sync::Synced, Health::Suspended) => {
            let told = planned.conditions.iter().find(|condition| condition.kind == ConditionKind::Suspended);
            blocked(BlockKind::Suspended, told.map_or_else(|| "left alone".into(), |told| told.message.clone()))
        }
        (Sync::Unknown, _) | (_, Health::Unknown) => progress(Progress::Unread, "not everything could be read"),
        (Sync::OutOfSync, Health::Healthy | Health::Progressing | Health::Suspended) => {
            progress(Progress::Held, &drift(planned).unwrap_or_else(|| "what was written does not show yet".into()))
        }
        (Sync::Synced, Health::Progressing) => progress(Progress::Tasks, "its tasks are on their way"),
        (Sync::Synced, Health::Healthy) => Verdict::Settled,
    }
}

/// Whether a condition says that the resource is left alone. One that is taken down is worked on until it is gone.
fn leaves_alone(condition: &Condition) -> bool {
    condition.kind == ConditionKind::Suspended && !Suspension::TakenDown.is_told_by(condition.kind, &condition.reason)
}

/// What is to be done, in a few words.
fn steps(planned: &ResourcePlan) -> String {
    drift(planned).unwrap_or_else(|| match planned.steps.len() {
        1 => "1 step to do".into(),
        steps => format!("{steps} steps to do"),
    })
}

/// The first difference that no change of a manifest explains.
fn drift(planned: &ResourcePlan) -> Option<String> {
    let drift = planned.drift.first()?;
    let fields = if drift.fields.is_empty() { String::new() } else { format!(" ({})", drift.fields.join(", ")) };
    Some(format!("{}: {}{fields}", drift.drift.as_str().replace('_', " "), drift.object))
}

fn waits(held: &HeldStep) -> String {
    format!("{} {} waits for {}", held.step.step.verb(), held.step.step.object(), held.wait.as_str())
}

/// How time and another look end a wait without anybody doing anything; none when they do not.
fn progress_of(wait: &Wait) -> Option<Progress> {
    match wait {
        Wait::SecondSighting
        | Wait::Services
        | Wait::TasksEnding(_)
        | Wait::RowsStayAway
        | Wait::PruneDelay(_)
        | Wait::Notes
        | Wait::Evidence { lasting: false }
        | Wait::AttemptNoted
        | Wait::Prune(PruneBlock::IncompleteObservation) => Some(Progress::Held),
        Wait::Successor(_) => Some(Progress::Successor),
        Wait::Rollout(
            Gate::Place | Gate::Canary(_) | Gate::Noted | Gate::ReverseOrder(_) | Gate::Order { stuck: false, .. },
        ) => Some(Progress::Rollout),
        Wait::Dependency
        | Wait::Conflict
        | Wait::Contested
        | Wait::RolledBack
        | Wait::Evidence { lasting: true }
        | Wait::Suspended(_)
        | Wait::Rollout(Gate::Halted(_) | Gate::Window { .. } | Gate::Order { stuck: true, .. })
        | Wait::Prune(
            PruneBlock::Guard { .. }
            | PruneBlock::InvalidManifests
            | PruneBlock::SourceTrouble
            | PruneBlock::Disabled
            | PruneBlock::NoLongerManifest { .. },
        ) => None,
    }
}

/// The obstacle that counts first, with everything that conditions, or else held steps, say of it.
fn first_block(planned: &ResourcePlan) -> Option<(BlockKind, String)> {
    let overdue = planned.conditions.iter().any(|condition| condition.reason == DEADLINE_EXCEEDED);
    let of_conditions =
        planned.conditions.iter().filter_map(|condition| Some((of_condition(condition, overdue)?, condition)));
    let of_held = planned.held.iter().filter_map(|held| Some((of_wait(&held.wait)?, held)));
    let kind = of_conditions.clone().map(|(kind, _)| kind).chain(of_held.clone().map(|(kind, _)| kind)).min()?;
    let mut messages: Vec<String> = Vec::new();
    for (_, condition) in of_conditions.filter(|(of, _)| *of == kind) {
        if !messages.contains(&condition.message) {
            messages.push(condition.message.clone());
        }
    }
    if messages.is_empty() {
        let first = of_held.clone().find(|(of, _)| *of == kind).map(|(_, held)| held);
        messages.extend(first.map(|held| if let Wait::Prune(why) = &held.wait { why.message() } else { waits(held) }));
    }
    Some((kind, messages.join("; ")))
}

/// What a condition says is in the way. What keeps tasks from starting counts once they are `overdue`.
fn of_condition(condition: &Condition, overdue: bool) -> Option<BlockKind> {
    match condition.kind {
        ConditionKind::Conflict => Some(BlockKind::Conflict),
        ConditionKind::Contested => Some(BlockKind::Contested),
        ConditionKind::RolloutHalted => Some(BlockKind::RolloutHalted),
        ConditionKind::RolledBack => Some(BlockKind::RolledBack),
        ConditionKind::Frozen => Some(BlockKind::InvalidManifest),
        ConditionKind::Waiting => Some(match condition.reason.as_str() {
            NETWORK_MISSING => BlockKind::MissingNetwork,
            COORDINATOR_MISSING => BlockKind::MissingCoordinator,
            AFTER_STUCK => BlockKind::MissingDependency,
            _ => BlockKind::RegistryUnproven,
        }),
        ConditionKind::Degraded => Some(match condition.reason.as_str() {
            IMAGE_MISSING => BlockKind::ImageMissing,
            RESTART_LOOP => BlockKind::RestartLoop,
            NETWORK_MISSING | TASK_REJECTED => BlockKind::TaskRejected,
            UPDATE_PAUSED => BlockKind::UpdatePaused,
            NO_SUITABLE_NODE => BlockKind::NoSuitableNode,
            DEADLINE_EXCEEDED => BlockKind::ProgressDeadline,
            _ => BlockKind::NotRunning,
        }),
        ConditionKind::Progressing if condition.reason == OUTSIDE_WINDOW => Some(BlockKind::OutsideWindow),
        ConditionKind::Progressing => {
            (overdue && condition.reason == NO_SUITABLE_NODE).then_some(BlockKind::NoSuitableNode)
        }
        // The wait of the steps that it holds says the same in types.
        ConditionKind::PruneBlocked
        // A resource that is being taken down, or is gone: its steps or its health tell.
        | ConditionKind::Suspended
        // How steps went is no matter of the plan: see `Verdict::given`.
        | ConditionKind::Failed
        | ConditionKind::Kept
        | ConditionKind::Unresolved => None,
    }
}

fn of_wait(wait: &Wait) -> Option<BlockKind> {
    match wait {
        Wait::Conflict => Some(BlockKind::Conflict),
        Wait::Contested => Some(BlockKind::Contested),
        Wait::RolledBack => Some(BlockKind::RolledBack),
        Wait::Evidence { lasting: true } => Some(BlockKind::RegistryUnproven),
        Wait::Suspended(_) => Some(BlockKind::Suspended),
        Wait::Rollout(Gate::Halted(_)) => Some(BlockKind::RolloutHalted),
        Wait::Rollout(Gate::Window { .. }) => Some(BlockKind::OutsideWindow),
        Wait::Rollout(Gate::Order { stuck: true, .. }) => Some(BlockKind::MissingDependency),
        Wait::Prune(PruneBlock::Guard { .. }) => Some(BlockKind::HeldForConfirmation),
        Wait::Prune(PruneBlock::InvalidManifests) => Some(BlockKind::InvalidManifest),
        Wait::Prune(PruneBlock::SourceTrouble) => Some(BlockKind::SourceTrouble),
        Wait::Prune(PruneBlock::Disabled) => Some(BlockKind::PruningDisabled),
        Wait::Prune(PruneBlock::NoLongerManifest { .. }) => Some(BlockKind::NoLongerManifest),
        // A condition says what is missing.
        Wait::Dependency
        | Wait::SecondSighting
        | Wait::Services
        | Wait::TasksEnding(_)
        | Wait::RowsStayAway
        | Wait::PruneDelay(_)
        | Wait::Successor(_)
        | Wait::Notes
        | Wait::Evidence { lasting: false }
        | Wait::AttemptNoted
        | Wait::Rollout(
            Gate::Place | Gate::Canary(_) | Gate::Noted | Gate::ReverseOrder(_) | Gate::Order { stuck: false, .. },
        )
        | Wait::Prune(PruneBlock::IncompleteObservation) => None,
    }
}
