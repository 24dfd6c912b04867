//! What goes: resources that nothing describes any more, and what is left over of those that shrank.
//!
//! # Flow
//!
//! ```text
//! services, last started first ─► their tasks end ─► records ─► rows stay away for a while ─► our mark on them
//! ```
//!
//! Each arrow is a pass or more, and each pass looks again: a removal that is cut short anywhere goes on from
//! what is still there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    ConditionKind, DesiredService, DriftType, ObservedRecord, ObservedService, PruneBlock, PruneVerdict, Reason,
    Record, RecordId, RecordStep, ResourceId, Revision, ServiceId, ServiceSpec, ServiceStep, Step, Wait,
};

use super::context::Context;
use super::draft::Draft;
use super::join::{self, AllOrphans, Found, Orphans};
use super::proof;
use super::records::{self, Coordinator, is_taken_back};
use super::verdict;

/// How long tasks of a removed service may hold up the taking back of its records. The engine stops a container
/// after 10 s unless told otherwise; a node that is cut off never reports the end.
pub(super) const TASKS_END_WITHIN: Duration = Duration::from_secs(60);

/// Why nothing may be removed at all, as far as what was read decides it.
pub(super) fn wait_for_reads(context: &Context<'_>) -> Option<PruneBlock> {
    if context.desired.trouble.is_some() {
        Some(PruneBlock::SourceTrouble)
    } else if !context.desired.complete {
        Some(PruneBlock::InvalidManifests)
    } else if !context.platform.is_some_and(|platform| platform.complete) {
        Some(PruneBlock::IncompleteObservation)
    } else {
        None
    }
}

/// A removal waits unless an earlier full read has shown the same already.
pub(super) fn second_sighting(context: &Context<'_>, id: &ServiceId) -> Option<Wait> {
    let now = context.platform.map(|platform| platform.generation);
    match (context.memory.orphan_services.get(id), now) {
        (Some(first), Some(now)) if *first < now => None,
        (Some(_) | None, _) => Some(Wait::SecondSighting),
    }
}

fn second_sighting_of_record(context: &Context<'_>, id: &RecordId) -> Option<Wait> {
    let now = context.registry.map(|registry| registry.generation);
    match (context.memory.orphan_records.get(id), now) {
        (Some(first), Some(now)) if *first < now => None,
        (Some(_) | None, _) => Some(Wait::SecondSighting),
    }
}

/// Decides which of the resources that nothing describes may go.
pub(super) struct Pruning<'a> {
    pub(super) verdict: PruneVerdict,
    /// What was managed when the guard began to hold; empty when it does not.
    pub(super) guarded: BTreeSet<ResourceId>,
    block: Option<PruneBlock>,
    /// What stays because its manifest said so, while there was one.
    kept: BTreeSet<&'a ResourceId>,
    /// What stays because the file that described it is there and is no manifest any more, with the file.
    emptied: BTreeMap<&'a ResourceId, Arc<str>>,
}

impl<'a> Pruning<'a> {
    /// Looks at all removals together.
    pub(super) fn decide(context: &Context<'_>, orphans: &AllOrphans<'a>) -> Self {
        let described = |id: &ResourceId| context.desired.resources.contains_key(id);
        let kept: BTreeSet<&'a ResourceId> = orphans
            .iter()
            .filter(|(id, orphans)| !described(id) && !context.is_to_go(id) && orphans.are_kept())
            .map(|(id, _)| *id)
            .collect();
        let emptied = emptied(context, orphans);
        let counted: Vec<&ResourceId> = orphans
            .iter()
            .filter(|(id, orphans)| {
                !described(id)
                    && !context.is_to_go(id)
                    && !context.is_suspended(id)
                    && !kept.contains(*id)
                    && !emptied.contains_key(*id)
                    && orphans.is_alive()
            })
            .map(|(id, _)| *id)
            .collect();
        if counted.is_empty() {
            return Pruning { verdict: PruneVerdict::Nothing, guarded: BTreeSet::new(), block: None, kept, emptied };
        }
        let guarded = guard(context, &counted, &kept);
        let block =
            if context.policy.prune { wait_for_reads(context).or(guarded.block) } else { Some(PruneBlock::Disabled) };
        let unconfirmed = |id: &ResourceId| !context.memory.confirmed.contains(id);
        let verdict = match &block {
            None => PruneVerdict::Allowed(counted.into_iter().cloned().collect()),
            Some(reason) => {
                let held = |id: &&ResourceId| !matches!(reason, PruneBlock::Guard { .. }) || unconfirmed(id);
                let resources = counted.into_iter().filter(held).cloned().collect();
                PruneVerdict::Blocked { resources, reason: reason.clone() }
            }
        };
        Pruning { verdict, guarded: guarded.managed, block, kept, emptied }
    }

    /// Whether this resource stays although nothing describes it.
    pub(super) fn keeps(&self, id: &ResourceId) -> bool {
        self.kept.contains(id)
    }

    /// Why this resource may not go.
    fn block_of(&self, context: &Context<'_>, id: &ResourceId) -> Option<PruneBlock> {
        if context.is_to_go(id) {
            // a person named it: neither the guard nor another file's error is about it
            let complete = context.platform.is_some_and(|platform| platform.complete);
            return (!complete).then_some(PruneBlock::IncompleteObservation);
        }
        if let Some(file) = self.emptied.get(id) {
            return Some(PruneBlock::NoLongerManifest { file: Arc::clone(file) });
        }
        match &self.block {
            Some(PruneBlock::Guard { .. }) if context.memory.confirmed.contains(id) => None,
            Some(block) => Some(block.clone()),
            // what is left when only half-way assets remain is not counted, but obeys the same reads
            None if !context.policy.prune => Some(PruneBlock::Disabled),
            None => wait_for_reads(context),
        }
    }
}

/// Resources whose mark names a file that is there and that is no manifest: after a restart nothing else tells that it
/// was one. The marks of services alone name a file.
fn emptied<'a>(context: &Context<'_>, orphans: &AllOrphans<'a>) -> BTreeMap<&'a ResourceId, Arc<str>> {
    let others = &context.desired.others;
    let mut emptied = BTreeMap::new();
    if others.is_empty() {
        return emptied;
    }
    for (id, orphans) in orphans {
        if context.desired.resources.contains_key(*id) || context.is_to_go(id) {
            continue;
        }
        let origins = orphans.services.iter().filter_map(|service| service.mark.as_ref()?.origin.rsplit_once(':'));
        let found =
            origins.map(|(file, _)| file).find_map(|file| others.iter().find(|other| is_same(file, &other.file)));
        if let Some(other) = found {
            emptied.insert(*id, Arc::clone(&other.file));
        }
    }
    emptied
}

/// Whether two paths are those of one file. The folder of the manifests may have been named otherwise before, from
/// another working directory.
fn is_same(one: &str, other: &str) -> bool {
    let below =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    below(one, other) || below(other, one)
}

/// What the guard makes of a number of removals.
struct Guarded {
    block: Option<PruneBlock>,
    managed: BTreeSet<ResourceId>,
}

/// The guard: everything at once, or more than the policy allows. What a person confirmed does not count.
fn guard(context: &Context<'_>, removing: &[&ResourceId], kept: &BTreeSet<&ResourceId>) -> Guarded {
    let exempt = |id: &ResourceId| {
        kept.contains(id) || context.is_suspended(id) || context.memory.confirmed.contains(id) || context.is_to_go(id)
    };
    let removing: BTreeSet<&ResourceId> = removing.iter().copied().filter(|id| !exempt(id)).collect();
    if removing.is_empty() || context.policy.prune_confirmed || context.memory.confirm_next {
        return Guarded { block: None, managed: BTreeSet::new() };
    }
    let us = &context.policy.instance;
    let services = context.platform.into_iter().flat_map(|platform| platform.services.values());
    let records = context.registry.into_iter().flat_map(|registry| registry.records.values());
    let marks = services.filter_map(|service| service.mark.as_ref());
    let owners = records.filter(|record| !is_taken_back(&record.record)).filter_map(|record| record.owner.as_ref());
    // while the guard holds, what was deployed since does not count: another folder's resources must not make
    // the removal of all that was there look like a removal of half
    let began = &context.memory.guarded;
    let counts = |id: &ResourceId| began.is_empty() || began.contains(id) || removing.contains(id);
    let managed: BTreeSet<ResourceId> = marks
        .filter(|mark| mark.instance == *us)
        .map(|mark| &mark.resource)
        .chain(owners.filter(|owner| owner.instance == *us).map(|owner| &owner.resource))
        .filter(|id| !exempt(id) && counts(id))
        .cloned()
        .collect();
    let (gone, all) = (removing.len(), managed.len());
    // nothing described at all is the mark of a directory that is not mounted, not of a wish
    let everything = context.desired.resources.is_empty() || (gone >= all && all > 1);
    if everything || context.policy.guard.asks(gone, all) {
        Guarded { block: Some(PruneBlock::Guard { removing: gone, managed: all }), managed }
    } else {
        Guarded { block: None, managed: BTreeSet::new() }
    }
}

impl Orphans<'_> {
    /// Whether more than the mark on assets that were taken back is left.
    fn is_alive(&self) -> bool {
        !self.services.is_empty() || self.records.iter().any(|(_, found)| !is_taken_back(&found.record))
    }

    /// Whether a mark on any of it says that it stays. One that is being taken back says nothing any more.
    fn are_kept(&self) -> bool {
        let mut marks = self.services.iter().filter_map(|service| service.mark.as_ref());
        let live = self.records.iter().filter(|(_, found)| !is_taken_back(&found.record));
        let mut owners = live.filter_map(|(_, found)| found.owner.as_ref());
        marks.any(|mark| mark.kept == Some(true)) || owners.any(|owner| owner.kept)
    }
}

/// Plans the removal of a resource that nothing describes, or that a person wants gone.
pub(super) fn plan_removal(
    context: &Context<'_>,
    draft: &mut Draft,
    id: &ResourceId,
    orphans: &Orphans<'_>,
    pruning: &Pruning<'_>,
) {
    let requested = context.is_to_go(id);
    let remover = Remover {
        context,
        block: pruning.block_of(context, id),
        reason: if requested { Reason::Requested } else { Reason::Orphaned },
    };
    if let Some(block) = &remover.block {
        draft.note(ConditionKind::PruneBlocked, block_word(block), block_words(block));
    }
    let grace = if requested || remover.block.is_some() { None } else { grace(context, id, orphans) };
    match &grace {
        Some(Wait::PruneDelay(left)) => {
            let seconds = left.as_millis().div_ceil(1000);
            let message = format!("no longer described: it goes in {seconds} s unless a file describes it by then");
            draft.note(ConditionKind::Progressing, "PruneDelay", message);
        }
        Some(Wait::Successor(successor)) => {
            let message =
                format!("no longer described: it goes once {successor}, which came with the same revision, runs");
            draft.note(ConditionKind::Progressing, "Successor", message);
        }
        Some(_) | None => {}
    }
    draft.differs = true;
    // what a file that cannot be read just now may still describe is no orphan yet
    draft.unknown = !requested && !context.desired.complete;
    remover.services(draft, &orphans.services, grace.clone());
    let wait = if orphans.services.is_empty() {
        grace.or_else(|| remover.tasks_ending(id, &[]))
    } else {
        Some(Wait::Services)
    };
    remover.records(draft, &orphans.records, wait.as_ref());
}

/// Why a resource that may go does not go yet: its description may be on its way from one file to another, and what
/// takes its place is to run first. Neither is about what a person has confirmed.
fn grace(context: &Context<'_>, id: &ResourceId, orphans: &Orphans<'_>) -> Option<Wait> {
    let (policy, memory) = (context.policy, context.memory);
    if policy.prune_confirmed || memory.confirm_next || memory.confirmed.contains(id) || !orphans.is_alive() {
        return None;
    }
    let here = (context.at, context.desired.revision.clone());
    let (since, revision) = memory.orphaned.get(id).unwrap_or(&here);
    let left = policy.prune_delay.saturating_sub(context.at.saturating_sub(*since));
    if !left.is_zero() {
        return Some(Wait::PruneDelay(left));
    }
    if !policy.prune_last {
        return None;
    }
    successor(context, revision, orphans).map(Wait::Successor)
}

/// A resource that came with this revision and does not run yet. One whose time is up is no longer waited for, nor is
/// one that needs a port which what goes still has.
fn successor(context: &Context<'_>, revision: &Revision, orphans: &Orphans<'_>) -> Option<ResourceId> {
    let ports = |spec: &ServiceSpec| spec.ports.iter().map(|port| port.published).collect::<BTreeSet<u16>>();
    let taken: BTreeSet<u16> = orphans.services.iter().flat_map(|service| ports(&service.spec)).collect();
    let waits = |id: &ResourceId, since: Duration| {
        let Some(resource) = context.desired.resources.get(id) else { return false };
        let wants = |service: &DesiredService| ports(&service.spec).iter().any(|port| taken.contains(port));
        context.at.saturating_sub(since) < context.policy.progress_deadline
            && !context.is_suspended(id)
            && !resource.services.iter().any(wants)
    };
    let known = context.memory.newcomers.iter().filter(|(_, (_, brought_by))| brought_by == revision);
    let mut newcomers = known.map(|(id, (since, _))| (id, *since));
    newcomers.find(|(id, since)| waits(id, *since)).map(|(id, _)| id.clone())
}

/// Plans the removal of what a resource that is still described needs no longer.
pub(super) fn plan_leftovers(
    context: &Context<'_>,
    draft: &mut Draft,
    id: &ResourceId,
    orphans: &Orphans<'_>,
    found: &[Found<'_>],
) {
    let block = if context.policy.prune { wait_for_reads(context) } else { Some(PruneBlock::Disabled) };
    let remover = Remover { context, block, reason: Reason::Orphaned };
    // what takes its place comes first, and stays if that cannot come
    let pending = !draft.steps.is_empty() || !draft.held.is_empty() || draft.blocked;
    let stuck = (!draft.held.is_empty() || draft.blocked).then_some(Wait::Dependency);
    remover.services(draft, &orphans.services, stuck);
    let wait = if pending || !orphans.services.is_empty() {
        Some(Wait::Services)
    } else {
        let shrinking: Vec<&ServiceId> = found
            .iter()
            .filter(|found| found.tasks.iter().any(|task| !task.wanted && task.state.is_active()))
            .filter_map(|found| found.service.map(|service| &service.id))
            .collect();
        remover.tasks_ending(id, &shrinking)
    };
    remover.records(draft, &orphans.records, wait.as_ref());
}

struct Remover<'a> {
    context: &'a Context<'a>,
    block: Option<PruneBlock>,
    reason: Reason,
}

impl Remover<'_> {
    fn is_drift(&self) -> bool {
        self.reason != Reason::Requested && self.context.desired.complete
    }

    /// Last started first: names of one resource sort in the order in which its services start
    /// (`-adapter`, `-agent`, `-producer`), and nothing else tells the order once the manifest is gone.
    fn services(&self, draft: &mut Draft, services: &[&Arc<ObservedService>], stuck: Option<Wait>) {
        let mut earlier = stuck;
        for service in services.iter().rev() {
            let name = &service.spec.name;
            if self.is_drift() {
                draft.drift(DriftType::Orphaned, format!("service {name}"), &[]);
            }
            let wait = self
                .block
                .clone()
                .map(Wait::Prune)
                .or_else(|| second_sighting(self.context, &service.id))
                .or_else(|| earlier.clone());
            let step = Step::Service(ServiceStep::Remove { id: service.id.clone(), name: name.clone() });
            draft.step(step, self.reason, Vec::new(), wait.clone());
            earlier = wait;
        }
    }

    /// Waits while tasks of what was removed, or of what shrinks, may still write.
    fn tasks_ending(&self, id: &ResourceId, shrinking: &[&ServiceId]) -> Option<Wait> {
        let ids: Vec<ServiceId> = join::departed(self.context)
            // a task whose resource is unknown, after a restart, may be one of this resource
            .filter(|(_, resource)| resource.is_none_or(|resource| resource == id))
            .map(|(service, _)| service)
            .chain(shrinking.iter().copied())
            .filter(|service| {
                let since = self.context.memory.ending.get(*service).copied().unwrap_or(self.context.at);
                self.context.at.saturating_sub(since) < TASKS_END_WITHIN
            })
            .cloned()
            .collect();
        (!ids.is_empty()).then_some(Wait::TasksEnding(ids))
    }

    /// What keeps rows coming goes first (a coordinator's device), the asset, which carries the mark of the
    /// whole, goes last.
    fn records(&self, draft: &mut Draft, records: &[(&RecordId, &Arc<ObservedRecord>)], wait: Option<&Wait>) {
        let Some(registry) = self.context.registry else { return };
        let block = self
            .block
            .clone()
            .or_else(|| (!registry.complete).then_some(PruneBlock::IncompleteObservation))
            .map(Wait::Prune)
            // a newer read is under way: what it sees is what counts
            .or_else(|| self.context.registry_stands_in.then_some(Wait::SecondSighting));
        let (coordinated, rest): (Vec<_>, Vec<_>) =
            records.iter().partition(|(id, _)| matches!(id, RecordId::CoordinatorDevice(_)));
        let mut rows_left = false;
        for (id, found) in coordinated.into_iter().chain(rest.into_iter().rev()) {
            if is_taken_back(&found.record) {
                continue;
            }
            rows_left = true;
            draft.differs = true;
            if self.context.expectation(id).is_some_and(Option::is_none) {
                // taken back a moment ago; the rows are on their way out
                continue;
            }
            if self.is_drift() {
                draft.drift(DriftType::Orphaned, id.to_string(), &[]);
            }
            let step = Step::Record(RecordStep::Deregister { record: Arc::new(found.record.clone()) });
            let wait = block
                .clone()
                .or_else(|| wait.cloned())
                .or_else(|| second_sighting_of_record(self.context, id))
                .or_else(|| proof::wait_of_removal(registry, &step))
                .or_else(|| self.coordinator(draft, &found.record));
            draft.step(step, self.reason, Vec::new(), wait);
        }
        for (id, found) in records {
            if is_taken_back(&found.record) {
                let stayed_away =
                    self.context.memory.gone_since.get(id).is_some_and(|since| {
                        self.context.at.saturating_sub(*since) >= self.context.policy.forget_after()
                    });
                let step = Step::Record(RecordStep::Forget { record: (*id).clone() });
                let wait = block
                    .clone()
                    .or_else(|| wait.cloned())
                    .or_else(|| (rows_left || !stayed_away).then_some(Wait::RowsStayAway))
                    .or_else(|| proof::wait_of_removal(registry, &step));
                draft.step(step, self.reason, Vec::new(), wait);
            }
        }
    }

    fn coordinator(&self, draft: &mut Draft, record: &Record) -> Option<Wait> {
        let (Record::CoordinatorDevice { device, protocol, .. }, Some(registry)) = (record, self.context.registry)
        else {
            return None;
        };
        match records::coordinator_of(registry, device, || self.context.coordinator(*protocol)) {
            Coordinator::Available | Coordinator::None => return None,
            Coordinator::Away => {}
        }
        let message = match registry.coordinators.get(device) {
            Some(known) => format!("coordinator {}, which should let device {device} go, is not available", known.uuid),
            None => format!("no coordinator is available that could let device {device} go"),
        };
        draft.wait_for(verdict::COORDINATOR_MISSING, message);
        Some(Wait::Dependency)
    }
}

fn block_word(block: &PruneBlock) -> &'static str {
    match block {
        PruneBlock::Guard { .. } => "Guard",
        PruneBlock::InvalidManifests => "InvalidManifests",
        PruneBlock::SourceTrouble => "SourceTrouble",
        PruneBlock::IncompleteObservation => "IncompleteObservation",
        PruneBlock::Disabled => "PruneDisabled",
        PruneBlock::NoLongerManifest { .. } => "NoLongerManifest",
    }
}

/// Why removals wait, as a sentence.
pub(super) fn block_words(block: &PruneBlock) -> String {
    block.message()
}
