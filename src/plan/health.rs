//! Whether a resource runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{
    Availability, ConditionKind, DesiredResource, Health, Observed, ObservedService, Plan, PlannedStep, Record,
    ServiceId, ServiceName, ServiceStep, Step, TaskState, TaskView, UpdateState,
};

use super::Memory;
use super::context::Context;
use super::draft::Draft;
use super::join::Found;
use super::{target, verdict};

/// How many ended tasks of one replica make a restart loop. The engine keeps five per replica by default
/// (`TaskHistoryRetentionLimit`).
const RESTART_LOOP: usize = 3;

/// How long a task must run after its forerunners failed in a loop, before the loop counts as over. Longer than a
/// program needs to find that what it depends on is not there.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// How long an update may take to begin. The orchestrator begins within milliseconds and says so, but not of an update for
/// which no task has to go, as of other constraints that the node meets.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);

/// The reasons of conditions that time alone ends.
pub(super) const UPDATING: &str = "Updating";
pub(super) const RECENTLY_FAILED: &str = "RecentlyFailed";

/// Reasons of conditions while nothing that has a name keeps tasks from running.
const NO_TASKS: &str = "NoTasks";
const STARTING: &str = "Starting";
const TASK_FAILED: &str = "TaskFailed";

/// How it goes with one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pulse {
    Runs,
    OnItsWay,
    Fails,
}

/// How the services of a resource that exist do, whatever is wanted of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// None exists.
    Nothing,
    /// One does not run as it is meant to.
    Broken,
    /// All run.
    Runs,
}

/// How the services that exist do, each by its own spec: what is wanted of them may be more.
pub(super) fn ran(found: &[Found<'_>]) -> Ran {
    let mut worst = Ran::Nothing;
    for found in found {
        let Some(service) = found.service else { continue };
        let pulse = pulse(&mut Draft::default(), service, service.spec.replicas, found.tasks);
        if pulse != Pulse::Runs {
            return Ran::Broken;
        }
        worst = Ran::Runs;
    }
    worst
}

/// When the newest task of these services failed, as the engine writes it, whatever runs by now.
pub(super) fn newest_failure(found: &[Found<'_>]) -> Option<String> {
    found.iter().filter_map(|found| last_failure(found.tasks)).max().map(str::to_owned)
}

/// Health of a resource that is described.
pub(super) fn of_wanted(
    context: &Context<'_>,
    draft: &mut Draft,
    resource: &DesiredResource,
    found: &[Found<'_>],
) -> Health {
    if !resource.services.is_empty() && context.platform.is_none() {
        return Health::Unknown;
    }
    let mut worst = Pulse::Runs;
    for (service, found) in resource.services.iter().zip(found) {
        let pulse = match found.service {
            Some(existing) => {
                let ignored = resource.handling.ignored(&service.spec.name);
                let replicas = target::replicas(service.spec.replicas, ignored, existing);
                pulse(draft, existing, replicas, found.tasks)
                    .max(settling(context, draft, existing, found.tasks))
                    .max(beginning(context, draft, existing))
            }
            None => Pulse::OnItsWay,
        };
        worst = worst.max(pulse);
    }
    if worst == Pulse::Runs {
        worst = worst.max(availability(context, draft, resource));
    }
    if resource.services.is_empty() {
        if context.registry.is_none() {
            return Health::Unknown;
        }
        if draft.differs {
            worst = Pulse::OnItsWay;
        }
    }
    let unseen = draft.unknown && found.iter().any(|found| found.service.is_none());
    if draft.rolled_back {
        Health::RolledBack
    } else if draft.conflict || worst == Pulse::Fails {
        Health::Degraded
    } else if unseen {
        Health::Unknown
    } else if draft.waiting {
        Health::Waiting
    } else if worst == Pulse::OnItsWay {
        deadline(context, draft, resource)
    } else {
        Health::Healthy
    }
}

/// Health of a resource that goes: it runs as long as it is there.
pub(super) fn of_orphans<'a>(
    draft: &mut Draft,
    services: impl Iterator<Item = (&'a ObservedService, &'a [TaskView])>,
) -> Health {
    let going = !draft.steps.is_empty();
    let mut worst = None;
    for (service, tasks) in services {
        let pulse = pulse(draft, service, service.spec.replicas, tasks);
        worst = worst.max(Some(pulse));
    }
    match worst {
        _ if going => Health::Progressing,
        Some(Pulse::Runs) => Health::Healthy,
        Some(Pulse::Fails) => Health::Degraded,
        Some(Pulse::OnItsWay) | None => Health::Progressing,
    }
}

/// The engine sets no limit to how long a task may stay on its way, so we do.
fn deadline(context: &Context<'_>, draft: &mut Draft, resource: &DesiredResource) -> Health {
    let since = context.memory.progressing_since.get(&resource.id).copied().unwrap_or(context.at);
    let limit = context.policy.progress_deadline;
    if context.at.saturating_sub(since) < limit {
        return Health::Progressing;
    }
    draft.note(
        ConditionKind::Degraded,
        verdict::DEADLINE_EXCEEDED,
        format!("has been on its way for more than {} s", limit.as_secs()),
    );
    Health::Degraded
}

/// Tasks that run now, in place of others that failed in a loop.
pub(super) fn fragile(tasks: &[TaskView]) -> Vec<&str> {
    if tasks.len() <= RESTART_LOOP {
        return Vec::new();
    }
    let failures = failures(tasks);
    tasks
        .iter()
        .filter(|task| task.wanted && task.state == TaskState::Running)
        .filter(|task| failures.get(&task.slot).is_some_and(|count| *count >= RESTART_LOOP))
        .map(|task| task.id.as_str())
        .collect()
}

/// A task that only just came up after a loop of failures will likely fail again: without this, a resource in a
/// loop would count as healthy for a moment in each round.
fn settling(context: &Context<'_>, draft: &mut Draft, service: &ObservedService, tasks: &[TaskView]) -> Pulse {
    // What ran already when we first looked may have run for months: the engine tells since when in its own time, with
    // which ours has nothing to do.
    let fresh = |id: &&str| match context.memory.running_since.get(*id) {
        Some(since) => since.is_some_and(|since| context.at.saturating_sub(since) < STABLE_AFTER),
        None => context.memory.has_looked,
    };
    if !fragile(tasks).iter().any(fresh) {
        return Pulse::Runs;
    }
    draft.note(
        ConditionKind::Progressing,
        RECENTLY_FAILED,
        format!("{} runs again after failing {RESTART_LOOP} times or more", service.spec.name),
    );
    Pulse::OnItsWay
}

/// Right after an update was sent, the tasks of the version before run, and nothing tells that they will go.
fn beginning(context: &Context<'_>, draft: &mut Draft, service: &ObservedService) -> Pulse {
    let sent = context.memory.replacing.get(&service.spec.name);
    if !sent.is_some_and(|sent| is_yet_to_begin(service, sent, context.at)) {
        return Pulse::Runs;
    }
    updating(draft, &service.spec.name);
    Pulse::OnItsWay
}

/// Whether an update that was sent is still to begin: the engine forgets what it said of the update before as it takes in a new
/// one.
fn is_yet_to_begin(service: &ObservedService, (id, at): &(ServiceId, Duration), now: Duration) -> bool {
    service.id == *id && service.update == UpdateState::None && now.saturating_sub(*at) < BEGINS_WITHIN
}

fn updating(draft: &mut Draft, name: &ServiceName) {
    draft.note(ConditionKind::Progressing, UPDATING, format!("tasks of {name} are being replaced"));
}

fn failures(tasks: &[TaskView]) -> BTreeMap<u64, usize> {
    let mut failures: BTreeMap<u64, usize> = BTreeMap::new();
    for task in tasks {
        if matches!(task.state, TaskState::Failed | TaskState::Rejected) {
            *failures.entry(task.slot).or_default() += 1;
        }
    }
    failures
}

/// When the newest task failed, as the engine writes it.
fn last_failure(tasks: &[TaskView]) -> Option<&str> {
    let failed = tasks.iter().filter(|task| matches!(task.state, TaskState::Failed | TaskState::Rejected));
    failed.map(|task| task.since.as_str()).filter(|since| !since.is_empty()).max()
}

fn pulse(draft: &mut Draft, service: &ObservedService, replicas: u64, tasks: &[TaskView]) -> Pulse {
    let name = &service.spec.name;
    let running = tasks.iter().filter(|task| task.wanted && task.state == TaskState::Running).count() as u64;
    let paused = match &service.update {
        UpdateState::Paused(why) | UpdateState::RollbackPaused(why) => Some(why),
        UpdateState::None
        | UpdateState::Updating
        | UpdateState::Completed
        | UpdateState::RollbackStarted(_)
        | UpdateState::RollbackCompleted(_) => None,
    };
    if let Some(why) = paused {
        draft.note(
            ConditionKind::Degraded,
            verdict::UPDATE_PAUSED,
            format!("the engine stopped updating {name}: {why}"),
        );
        return Pulse::Fails;
    }
    let updating = matches!(service.update, UpdateState::Updating | UpdateState::RollbackStarted(_));
    if running >= replicas {
        if updating {
            self::updating(draft, name);
        }
        return if updating { Pulse::OnItsWay } else { Pulse::Runs };
    }
    let (pulse, reason, error) = trouble(tasks);
    draft.failed_at(last_failure(tasks));
    let kind = if pulse == Pulse::Fails { ConditionKind::Degraded } else { ConditionKind::Progressing };
    let error = if error.is_empty() { String::new() } else { format!(": {error}") };
    draft.note(kind, reason, format!("{running} of {replicas} tasks of {name} run{error}"));
    pulse
}

/// What keeps tasks from running: the newest error of those that should, or of those that tried.
fn trouble(tasks: &[TaskView]) -> (Pulse, &'static str, &str) {
    let with_error = |wanted: bool| {
        tasks
            .iter()
            .filter(move |task| task.wanted == wanted && !task.error.is_empty())
            .max_by(|left, right| left.since.cmp(&right.since).then_with(|| left.id.cmp(&right.id)))
    };
    let newest = with_error(true).or_else(|| with_error(false));
    let failures = failures(tasks);
    let runs =
        |slot: u64| tasks.iter().any(|task| task.slot == slot && task.wanted && task.state == TaskState::Running);
    let looping = failures.iter().any(|(slot, count)| *count >= RESTART_LOOP && !runs(*slot));
    let error = newest.map(|task| task.error.as_str()).unwrap_or_default();
    let reason = match newest {
        Some(task) => word(&task.error, task.state),
        None if tasks.is_empty() => NO_TASKS,
        None => STARTING,
    };
    match (looping, reason) {
        (true, TASK_FAILED | STARTING | NO_TASKS) => (Pulse::Fails, verdict::RESTART_LOOP, error),
        (true, reason) => (Pulse::Fails, reason, error),
        (false, reason) => (Pulse::OnItsWay, reason, error),
    }
}

/// What nodes say when they cannot get an image: those whose engine keeps images itself (the default up to Engine 28),
/// and those where containerd does (the default from Engine 29 on), whatever the cause behind it is.
const IMAGE_MISSING: [&str; 4] =
    ["no such image", "manifest unknown", "pull access denied", "failed to resolve reference"];

/// One word for what the engine says in a sentence. An image is looked for first: its name may hold any other word.
fn word(error: &str, state: TaskState) -> &'static str {
    let says = |part: &str| error.to_ascii_lowercase().contains(part);
    if IMAGE_MISSING.iter().any(|part| says(part)) {
        verdict::IMAGE_MISSING
    } else if says("no suitable node") {
        verdict::NO_SUITABLE_NODE
    } else if says("network") && says("not found") {
        verdict::NETWORK_MISSING
    } else if state == TaskState::Rejected {
        verdict::TASK_REJECTED
    } else {
        TASK_FAILED
    }
}

/// An app whose tasks run and that says of itself that it is not available is on its way.
fn availability(context: &Context<'_>, draft: &mut Draft, resource: &DesiredResource) -> Pulse {
    /// The type of the assets that say so as they start and stop, unlike devices, which are off at night.
    const APP: &str = "OpenFactoryApp";
    let Some(registry) = context.registry else { return Pulse::Runs };
    if registry.availability.is_empty() {
        return Pulse::Runs;
    }
    let absent: Vec<&str> = resource
        .records
        .iter()
        .filter_map(|record| match &**record {
            Record::Asset(asset) if asset.asset_type == APP => Some(&asset.uuid),
            Record::Asset(_)
            | Record::Connector { .. }
            | Record::MetricsTarget { .. }
            | Record::CoordinatorDevice { .. } => None,
        })
        .filter(|uuid| registry.availability.get(*uuid) == Some(&Availability::Unavailable))
        .map(|uuid| uuid.as_str())
        .collect();
    if absent.is_empty() {
        return Pulse::Runs;
    }
    draft.note(
        ConditionKind::Progressing,
        "AssetUnavailable",
        format!("runs, but says that it is unavailable: {}", absent.join(", ")),
    );
    Pulse::OnItsWay
}

impl Memory {
    /// Takes in that an update was sent.
    pub(super) fn await_beginning(&mut self, step: &PlannedStep, now: Duration) {
        let Step::Service(ServiceStep::Update { id, version, spec, .. }) = &step.step else { return };
        // Plain Docker, which knows no versions, replaces a container within the call.
        if *version > 0 && replaces_tasks(step) {
            self.replacing.insert(spec.name.clone(), (id.clone(), now));
        }
    }

    /// Takes in what runs.
    pub(super) fn learn_running(&mut self, observed: &Observed, plan: &Plan) {
        let Some(platform) = &observed.platform else { return };
        self.replacing.retain(|name, sent| {
            platform.services.get(name).is_some_and(|service| is_yet_to_begin(service, sent, observed.at))
        });
        let fragile: BTreeSet<&str> = plan.ledger.fragile.values().flatten().map(String::as_str).collect();
        self.running_since.retain(|id, _| fragile.contains(id.as_str()));
        let since = self.has_looked.then_some(observed.at);
        for id in fragile {
            if !self.running_since.contains_key(id) {
                self.running_since.insert(id.to_owned(), since);
            }
        }
        self.has_looked = true;
    }
}

/// Whether the engine replaces tasks for an update: not for what only the operator's mark says, or for another number of them.
fn replaces_tasks(step: &PlannedStep) -> bool {
    step.changes.iter().any(|change| !change.is_of_mark() && change.field != "replicas")
}
