//! How a status is put together.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::record::RecordStatus;
use super::service::ServiceStatus;
use super::{
    ConditionStatus, DriftStatus, HeldStatus, IgnoredStatus, NotesState, NotesStatus, PartState, PartStatus,
    PruneStatus, ResourceStatus, RetryStatus, Status, Summary,
};
use crate::clock::rfc3339;
use crate::model::{
    Condition, ConditionKind, Desired, DesiredResource, Drift, Failing, FailureKind, GIVE_UP_AFTER, Health, HeldStep,
    HoldStatus, Ignored, InstanceName, NotesView, Observed, ObservedRecord, ObservedService, Plan, Progress, Record,
    RecordId, ResourceId, ResourcePlan, RolloutStatus, Suspension, Sync, Verdict,
};
use crate::report::Retry;
use crate::report::source::{self, SourceStatus, SourceView};
use crate::report::state::Noted;
use crate::report::track::{Part, Parts, Tracked, Tracker};

/// One resource as a pass sees it.
#[derive(Debug, Clone, Copy)]
pub(in crate::report) struct Row<'a> {
    pub(in crate::report) id: &'a ResourceId,
    pub(in crate::report) sync: Sync,
    pub(in crate::report) health: Health,
    pub(in crate::report) drift: &'a [Drift],
    pub(in crate::report) conditions: &'a [Condition],
    plan: Option<&'a ResourcePlan>,
    blind: bool,
}

impl Row<'_> {
    /// Whether its changes are undone again and again.
    pub(in crate::report) fn is_contested(&self) -> bool {
        self.conditions.iter().any(|one| one.kind == ConditionKind::Contested)
    }

    /// Whether a person took it down.
    pub(in crate::report) fn is_taken_down(&self) -> bool {
        self.conditions.iter().any(|one| Suspension::TakenDown.is_told_by(one.kind, &one.reason))
    }
}

/// Every resource, or those of `only` that are there, sorted. A blind pass shows what was planned last, and what is
/// described since, as unknown.
pub(in crate::report) fn rows<'a>(
    desired: &'a Desired,
    plan: Option<&'a Plan>,
    blind: bool,
    only: Option<&BTreeSet<ResourceId>>,
) -> Vec<Row<'a>> {
    let planned = plan.map(|plan| &plan.resources);
    let row = |id: &'a ResourceId, plan: Option<&'a ResourcePlan>| Row {
        id,
        sync: plan.filter(|_| !blind).map_or(Sync::Unknown, |plan| plan.sync),
        health: plan.filter(|_| !blind).map_or(Health::Unknown, |plan| plan.health),
        drift: plan.map_or(&[], |plan| &plan.drift),
        conditions: plan.map_or(&[], |plan| &plan.conditions),
        plan,
        blind,
    };
    match (planned, only) {
        (Some(planned), Some(only)) if !blind => {
            let there = only.iter().filter_map(|id| planned.get_key_value(id));
            there.map(|(id, plan)| row(id, Some(plan))).collect()
        }
        (Some(planned), _) if !blind => planned.iter().map(|(id, plan)| row(id, Some(plan))).collect(),
        (Some(planned), _) => {
            let ids: BTreeSet<_> = planned.keys().chain(desired.resources.keys()).collect();
            ids.into_iter().map(|id| row(id, planned.get(id).map(|plan| &**plan))).collect()
        }
        (None, _) => desired.resources.keys().map(|id| row(id, None)).collect(),
    }
}

/// What a status is put together from.
pub(in crate::report) struct View<'a> {
    pub(in crate::report) instance: &'a InstanceName,
    pub(in crate::report) wall: SystemTime,
    pub(in crate::report) desired: &'a Desired,
    pub(in crate::report) observed: &'a Observed,
    pub(in crate::report) source: SourceView<'a>,
    pub(in crate::report) plan: Option<&'a Plan>,
    pub(in crate::report) blind: bool,
    /// None without a daemon.
    pub(in crate::report) history: Option<History<'a>>,
}

/// What only a daemon knows.
pub(in crate::report) struct History<'a> {
    pub(in crate::report) parts: &'a Parts,
    pub(in crate::report) tracker: &'a Tracker,
    pub(in crate::report) answered: u64,
    pub(in crate::report) retries: &'a BTreeMap<ResourceId, Retry>,
    pub(in crate::report) notes: &'a Noted,
}

/// Services and records that carry our mark, by the resource that the mark names.
#[derive(Default)]
struct Marked<'a> {
    services: BTreeMap<&'a ResourceId, Vec<&'a ObservedService>>,
    records: BTreeMap<&'a ResourceId, Vec<&'a Arc<ObservedRecord>>>,
}

impl<'a> Marked<'a> {
    fn find(instance: &InstanceName, observed: &'a Observed) -> Self {
        let mut marked = Marked::default();
        for service in observed.platform.iter().flat_map(|platform| platform.services.values()) {
            if let Some(mark) = service.mark.as_ref().filter(|mark| mark.instance == *instance) {
                marked.services.entry(&mark.resource).or_default().push(service);
            }
        }
        for record in observed.registry.iter().flat_map(|registry| registry.records.values()) {
            if let Some(owner) = record.owner.as_ref().filter(|owner| owner.instance == *instance) {
                marked.records.entry(&owner.resource).or_default().push(record);
            }
        }
        marked
    }
}

/// How many resources a warning names.
const NAMED: usize = 5;

/// Puts a status together.
pub(in crate::report) fn build(view: &View<'_>) -> Status {
    let marked = Marked::find(view.instance, view.observed);
    let rows = rows(view.desired, view.plan, view.blind, None);
    let resources: Vec<_> = rows.iter().map(|row| resource(view, &marked, row)).collect();
    let (source, platform, registry) = parts(view);
    let mut not_ready = Vec::new();
    if view.history.as_ref().is_some_and(|history| !history.parts.seen_all) {
        not_ready.push("no complete pass yet".into());
    }
    for (name, part) in [("source", &source.part), ("platform", &platform), ("registry", &registry)] {
        let needed = name == "platform" || !not_ready.is_empty();
        if needed && part.state != PartState::Up {
            let why = part.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            not_ready.push(format!("{name} is {}{why}", part.state.as_str()));
        }
    }
    let mut warnings: Vec<String> = Vec::new();
    if matches!(registry.state, PartState::Down | PartState::Partial) && not_ready.is_empty() {
        let why = registry.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        warnings.push(format!("the registry is {}{why}", registry.state.as_str()));
    }
    let write_error = view.observed.registry.as_ref().and_then(|registry| registry.write_error.as_ref());
    warnings.extend(write_error.map(|error| format!("the registry cannot be written to: {error}")));
    let troubles = source.trouble.iter().map(|trouble| {
        let since = trouble.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        format!("the newest manifests are not in force ({}{since}): {}", trouble.reason.as_str(), trouble.message)
    });
    let contested: Vec<String> = rows
        .iter()
        .filter(|row| row.conditions.iter().any(|condition| condition.kind == ConditionKind::Contested))
        .map(|row| row.id.to_string())
        .collect();
    let contested = (!contested.is_empty()).then(|| {
        let named = contested.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more =
            if contested.len() > NAMED { format!(" and {} more", contested.len() - NAMED) } else { String::new() };
        format!("somebody undoes changes again and again: {named}{more}; `ofop describe` says which")
    });
    warnings.extend(troubles);
    warnings.extend(view.desired.policy_trouble.iter().map(ToString::to_string));
    warnings.extend(contested);
    let rollouts = view.plan.map(|plan| plan.rollouts.scopes.clone()).unwrap_or_default();
    warnings.extend(rollouts.iter().filter_map(halted));
    Status {
        time: Some(rfc3339(view.wall)),
        warnings,
        revision: view.desired.revision.clone(),
        answered: view.history.as_ref().map(|history| history.answered),
        lease: None,
        ready: not_ready.is_empty(),
        not_ready,
        last_success: view.history.as_ref().and_then(|history| history.parts.last_success).map(rfc3339),
        source,
        platform,
        registry,
        files: view.desired.files,
        problems: view.desired.problems.clone(),
        notes: notes(view),
        suspended: view.plan.and_then(|plan| plan.suspended.as_ref()).map(HoldStatus::from),
        freeze: view.plan.and_then(|plan| plan.freeze.as_ref()).map(HoldStatus::from),
        prune: view.plan.map(|plan| PruneStatus::of(&plan.prune)).unwrap_or_default(),
        rollouts,
        summary: summary(&resources, view.desired),
        other_assets: other_assets(view, &resources),
        resources,
    }
}

/// What a person should know of a rollout that goes no further.
fn halted(rollout: &RolloutStatus) -> Option<String> {
    let failure = rollout.failed.first()?;
    let waiting = rollout.waiting.len();
    Some(format!(
        "the rollout ({}) is halted, {waiting} resources keep their old version: changing {} broke it ({})",
        rollout.scope, failure.resource, failure.message
    ))
}

/// Assets that belong to no resource that is shown.
fn other_assets(view: &View<'_>, resources: &[ResourceStatus]) -> Vec<RecordStatus> {
    let Some(registry) = view.observed.registry.as_deref() else { return Vec::new() };
    let shown: HashSet<&RecordId> =
        resources.iter().flat_map(|resource| &resource.records).map(|record| &record.record).collect();
    let is_other = |found: &&Arc<ObservedRecord>| {
        matches!(&found.record, Record::Asset(asset) if !asset.asset_type.is_empty())
            && !shown.contains(&found.record.id())
    };
    let others = registry.records.values().filter(is_other);
    others.map(|found| RecordStatus::unwanted(found, view.instance, registry)).collect()
}

fn notes(view: &View<'_>) -> NotesStatus {
    let noted = view.history.as_ref().map(|history| history.notes);
    let (state, unread) = match view.observed.platform.as_ref().map(|platform| &platform.notes) {
        None => (NotesState::Unknown, None),
        Some(NotesView::Read { .. }) => (NotesState::Kept, None),
        Some(NotesView::Unsupported(why)) => (NotesState::Unsupported, Some(why)),
        Some(NotesView::Unread(why)) => (NotesState::Unread, Some(why)),
    };
    let message = noted.and_then(|noted| noted.error.as_ref()).or(unread).cloned();
    NotesStatus { state, unsaved: noted.map_or(0, |noted| noted.unsaved), message }
}

fn parts(view: &View<'_>) -> (SourceStatus, PartStatus, PartStatus) {
    let source_status = |part, since| SourceStatus::new(part, &view.source, view.desired, view.wall, since);
    let warnings = view.observed.registry.as_ref().map(|registry| registry.warnings.clone()).unwrap_or_default();
    if let Some(history) = &view.history {
        let status = |part: &Part, warnings| PartStatus {
            state: part.state,
            since: part.since.map(rfc3339),
            message: part.message.clone(),
            warnings,
        };
        let parts = history.parts;
        let since = parts.source_track.trouble().map(|(_, since)| since);
        (
            source_status(status(&parts.source, vec![]), since),
            status(&parts.platform, vec![]),
            status(&parts.registry, warnings),
        )
    } else {
        let status = |complete: Option<bool>, warnings| PartStatus {
            state: match complete {
                None => PartState::Down,
                Some(true) => PartState::Up,
                Some(false) => PartState::Partial,
            },
            since: None,
            message: None,
            warnings,
        };
        let platform = view.observed.platform.as_ref().map(|seen| seen.complete);
        let registry = view.observed.registry.as_ref().map(|seen| seen.complete);
        let (state, message) = source::state(view.desired, None);
        let source = PartStatus { state, message, ..PartStatus::default() };
        (source_status(source, None), status(platform, vec![]), status(registry, warnings))
    }
}

fn summary(resources: &[ResourceStatus], desired: &Desired) -> Summary {
    let count = |test: &dyn Fn(&ResourceStatus) -> bool| resources.iter().filter(|resource| test(resource)).count();
    Summary {
        resources: resources.len(),
        synced: count(&|resource| resource.sync == Sync::Synced),
        out_of_sync: count(&|resource| resource.sync == Sync::OutOfSync),
        healthy: count(&|resource| resource.health == Health::Healthy),
        progressing: count(&|resource| resource.health == Health::Progressing),
        degraded: count(&|resource| matches!(resource.health, Health::Degraded | Health::RolledBack)),
        drifted: count(&|resource| !resource.drift.is_empty()),
        manifest_errors: desired.errors(),
    }
}

fn resource(view: &View<'_>, marked: &Marked<'_>, row: &Row<'_>) -> ResourceStatus {
    let desired = view.desired.resources.get(row.id).map(Arc::as_ref);
    let tracked = view.history.as_ref().and_then(|history| history.tracker.get(row.id));
    let ours = marked.services.get(row.id).map(Vec::as_slice).unwrap_or_default();
    // What a person took down is described, and none of it is wanted.
    let wanted = desired.filter(|_| !row.is_taken_down());
    ResourceStatus {
        id: row.id.clone(),
        kind: row.id.kind,
        uuid: row.id.uuid.to_string(),
        origin: row.plan.and_then(|plan| plan.origin.clone()).or_else(|| desired.map(|d| d.origin.clone())),
        revision: ours.iter().find_map(|service| service.mark.as_ref()).map(|mark| mark.revision.clone()),
        frozen: desired.is_some_and(|desired| desired.frozen),
        sync: row.sync,
        sync_since: tracked.map(|tracked| rfc3339(tracked.sync_since)),
        health: row.health,
        health_since: tracked.map(|tracked| rfc3339(tracked.health_since)),
        verdict: verdict(view, row, tracked),
        drift: row.drift.iter().map(|piece| drift(piece, tracked)).collect(),
        handling: desired.map(|desired| desired.handling.clone()).unwrap_or_default(),
        ignored: row.plan.map(|plan| plan.ignored.iter().map(ignored).collect()).unwrap_or_default(),
        conditions: conditions(row, tracked),
        pending_steps: row.plan.map_or(0, |plan| plan.steps.len()),
        held: row.plan.map(|plan| plan.held.iter().map(held).collect()).unwrap_or_default(),
        services: services(view, wanted, ours),
        records: records(view, wanted, marked.records.get(row.id).map(Vec::as_slice).unwrap_or_default()),
        retry: view
            .history
            .as_ref()
            .and_then(|history| history.retries.get(row.id))
            .map(|retry| RetryStatus { failures: retry.failures, at: rfc3339(moment(view, retry.at)) }),
        events: None,
        revisions: None,
    }
}

/// The verdict of the plan, and what is known of steps that failed since. What cannot be seen is in progress.
fn verdict(view: &View<'_>, row: &Row<'_>, tracked: Option<&Tracked>) -> Verdict {
    let Some(plan) = row.plan.filter(|_| !row.blind) else {
        return Verdict::InProgress { why: Progress::Unread, message: "it could not be read".into() };
    };
    verdict_of(plan, row.id, view.history.as_ref().and_then(|history| history.retries.get(row.id)), tracked)
}

/// The verdict of a plan on a resource, and what is known of steps that failed since.
pub(in crate::report) fn verdict_of(
    plan: &ResourcePlan,
    id: &ResourceId,
    retry: Option<&Retry>,
    tracked: Option<&Tracked>,
) -> Verdict {
    match retry.zip(tracked.and_then(|tracked| tracked.failure.as_ref())) {
        Some((retry, (failure, _))) => {
            let (attempts, kind) = (retry.attempts, retry.last);
            plan.verdict.given(id, Failing { attempts, kind, message: &failure.message, limit: GIVE_UP_AFTER })
        }
        None => plan.verdict.clone(),
    }
}

/// The wall time of a monotonic one, by the two times of the pass.
fn moment(view: &View<'_>, at: Duration) -> SystemTime {
    view.wall + at.saturating_sub(view.observed.at)
}

fn drift(piece: &Drift, tracked: Option<&Tracked>) -> DriftStatus {
    DriftStatus {
        drift: piece.drift,
        object: piece.object.clone(),
        fields: piece.fields.clone(),
        since: tracked.and_then(|tracked| tracked.drift_since(piece)).map(rfc3339),
    }
}

fn ignored(ignored: &Ignored) -> IgnoredStatus {
    let fields = ignored.changes.iter().map(|change| change.field.clone()).collect();
    IgnoredStatus { object: ignored.object.clone(), fields }
}

fn held(held: &HeldStep) -> HeldStatus {
    let step = &held.step.step;
    HeldStatus { step: format!("{} {}", step.verb(), step.object()), waits_for: held.wait.as_str().into() }
}

fn conditions(row: &Row<'_>, tracked: Option<&Tracked>) -> Vec<ConditionStatus> {
    let planned = row.conditions.iter().map(|condition| ConditionStatus {
        kind: condition.kind,
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: tracked.and_then(|tracked| tracked.condition_since(condition)).map(rfc3339),
    });
    let mut conditions: Vec<_> = planned.collect();
    let told = conditions.iter().any(|condition| condition.kind == ConditionKind::Failed);
    if let Some((failure, since)) = tracked.and_then(|tracked| tracked.failure.as_ref()).filter(|_| !told) {
        conditions.push(ConditionStatus {
            kind: ConditionKind::Failed,
            reason: failure_reason(failure.kind).to_owned(),
            message: failure.message.clone(),
            since: Some(rfc3339(*since)),
        });
    }
    conditions
}

/// The word for machines that a failed step leaves.
fn failure_reason(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Conflict => "Conflict",
        FailureKind::Exists => "Exists",
        FailureKind::Gone => "Gone",
        FailureKind::Rejected => "Rejected",
        FailureKind::Dependency => "DependencyMissing",
        FailureKind::Unavailable => "Unavailable",
        FailureKind::Ambiguous => "AnswerLost",
        FailureKind::Revoked => "Revoked",
    }
}

fn services(view: &View<'_>, desired: Option<&DesiredResource>, ours: &[&ObservedService]) -> Vec<ServiceStatus> {
    let platform = view.observed.platform.as_deref();
    let wanted = desired.map(|desired| desired.services.as_slice()).unwrap_or_default();
    let mut services: Vec<_> = desired
        .into_iter()
        .flat_map(|desired| desired.services.iter().map(|wanted| (wanted, &desired.handling)))
        .map(|(wanted, handling)| {
            let ours = ours.iter().any(|service| service.spec.name == wanted.spec.name);
            ServiceStatus::wanted(wanted, handling, ours, platform)
        })
        .collect();
    if let Some(platform) = platform {
        let orphans = ours.iter().filter(|found| !wanted.iter().any(|wanted| wanted.spec.name == found.spec.name));
        services.extend(orphans.map(|found| ServiceStatus::orphaned(found, platform)));
    }
    services
}

fn records(view: &View<'_>, desired: Option<&DesiredResource>, ours: &[&Arc<ObservedRecord>]) -> Vec<RecordStatus> {
    let registry = view.observed.registry.as_deref();
    let wanted = desired.map(|desired| desired.records.as_slice()).unwrap_or_default();
    let mut records: Vec<_> =
        wanted.iter().map(|record| RecordStatus::wanted(record, view.instance, registry)).collect();
    if let Some(registry) = registry {
        let orphans = ours.iter().filter(|found| !wanted.iter().any(|wanted| wanted.id() == found.record.id()));
        records.extend(orphans.map(|found| RecordStatus::unwanted(found, view.instance, registry)));
    }
    records
}
