//! What to do, decided: a pure function from what should be and what is to a list of steps.
//!
//! # Flow
//!
//! ```text
//! Desired ──┐
//! Observed ─┼─► plan() ─► Plan { per resource: steps in order, drift, sync, health, conditions; the prune verdict }
//! Policy ───┤
//! Memory ───┘        Memory::learn(observed, plan, outcomes) ─► the memory of the next pass
//! ```
//!
//! # Invariants
//!
//! - Idempotent: applying the plan and planning again yields no steps.
//! - A step leaves nothing to decide; it names full ids and versions from the snapshot.
//! - Only what carries our mark, or what adoption rightly takes over, is changed or removed.
//! - Nothing is removed on an incomplete read, on one sighting, while any manifest is invalid, or beyond the
//!   guard without a person's word.

mod diff;
mod draft;
mod health;
mod image;
mod join;
mod json;
mod memory;
mod ownership;
mod records;
mod removal;
mod services;
mod text;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::model::record::CoordinatorProtocol;
use crate::model::{
    ConditionKind, Desired, DesiredResource, Health, InstanceName, Observed, Plan, PlatformSnapshot, Record, RecordId,
    RegistrySnapshot, ResourceId, ResourcePlan, ServiceId, ServiceName, Step, Sync, Wait,
};

use self::draft::Draft;
use self::join::{Joined, Orphans, Wanted};
pub use self::json::to_json;
pub use self::memory::{Attempt, Memory};
use self::records::Coordinator;
use self::removal::Pruning;
pub use self::text::{ShowSecrets, TextOptions, to_text};

/// What an operator may do, and its limits. Values, not behaviour.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whose objects are ours.
    pub instance: InstanceName,
    /// Remove what the manifests no longer describe.
    pub prune: bool,
    /// How many resources one plan may remove without a person's word.
    pub guard: Guard,
    /// A person has confirmed removals beyond the guard, for this plan.
    pub prune_confirmed: bool,
    /// Plan for these resources alone and leave all others as they are; none for every resource. `apply` and
    /// `down` with paths are scoped to what these paths describe.
    pub scope: Option<BTreeSet<ResourceId>>,
    /// Resources that a person asked to tear down: removed although the manifests describe them, with
    /// [`crate::model::Reason::Requested`], whatever `prune` and the guard say.
    pub remove: BTreeSet<ResourceId>,
    /// How long a resource may be on its way before it counts as degraded.
    pub progress_deadline: Duration,
    /// How long something written to the registry may stay invisible before it counts as missing.
    pub expectation: Duration,
}

/// The prune guard: a plan that would remove everything, or more than `count` resources and more than
/// `fraction` of those managed, removes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guard {
    /// Default 5.
    pub count: usize,
    /// From 0 to 1, default 0.3.
    pub fraction: f64,
}

impl Default for Guard {
    fn default() -> Self {
        Guard { count: 5, fraction: 0.3 }
    }
}

/// How soon to look again for a second sighting, or for tasks that are ending.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Decides what to do. Pure: the same values give the same plan.
///
/// # Guarantees
///
/// - Every resource that is desired, or of which something exists under our mark, is in the plan; with a scope,
///   every such resource of the scope.
/// - Steps of a resource are in the order in which they must be taken; whoever takes them stops at the first that
///   fails. Resources do not depend on one another.
/// - A step that is needed and cannot be taken now is held, with what it waits for.
pub fn plan(desired: &Desired, observed: &Observed, policy: &Policy, memory: &Memory) -> Plan {
    let context = Context::new(desired, observed, policy, memory);
    let joined = join::join(&context);
    let pruning = Pruning::decide(&context, &joined);
    let mut recheck = Recheck::default();
    let mut resources: Vec<(ResourceId, ResourcePlan)> = Vec::with_capacity(joined.wanted.len());
    for wanted in &joined.wanted {
        if context.in_scope(&wanted.resource.id) {
            let plan = plan_wanted(&context, &joined, wanted);
            recheck.look(&context, &wanted.resource.id, &plan);
            resources.push((wanted.resource.id.clone(), plan));
        }
    }
    for (id, orphans) in &joined.orphans {
        if policy.remove.contains(*id) || !desired.resources.contains_key(*id) {
            let plan = plan_unwanted(&context, id, orphans, &pruning);
            recheck.look(&context, id, &plan);
            resources.push(((*id).clone(), plan));
        }
    }
    for (_, until) in memory.expected.values() {
        if *until > context.at {
            recheck.after((*until - context.at).max(LOOK_AGAIN));
        }
    }
    Plan {
        revision: desired.revision.clone(),
        resources: resources.into_iter().collect(),
        prune: pruning.verdict,
        prune_confirmed: policy.prune_confirmed || memory.confirm_next,
        recheck: recheck.soonest,
    }
}

fn plan_wanted<'a>(context: &Context<'a>, joined: &Joined<'a>, wanted: &Wanted<'a>) -> ResourcePlan {
    let resource: &DesiredResource = wanted.resource;
    let (found, records) = (joined.services(wanted), joined.records(wanted));
    let mut draft = Draft::default();
    services::plan_services(context, &mut draft, resource, found, records);
    records::plan_records(context, &mut draft, resource, records, found);
    if !joined.orphans.is_empty()
        && let Some(orphans) = joined.orphans.get(&resource.id)
    {
        removal::plan_leftovers(context, &mut draft, &resource.id, orphans, found);
    }
    let health = health::of_wanted(context, &mut draft, resource, found);
    if resource.frozen {
        let message = format!("{} is invalid; the resource stays as it last was valid", resource.origin.file);
        draft.note(ConditionKind::Frozen, "InvalidManifest", message);
    }
    let blind = !resource.services.is_empty() && context.platform.is_none();
    let sync = match () {
        () if blind => Sync::Unknown,
        () if draft.differs => Sync::OutOfSync,
        () if draft.unknown => Sync::Unknown,
        () => Sync::Synced,
    };
    finish(context, draft, &resource.id, Some(resource), sync, health)
}

fn plan_unwanted(context: &Context<'_>, id: &ResourceId, orphans: &Orphans<'_>, pruning: &Pruning) -> ResourcePlan {
    let mut draft = Draft::default();
    removal::plan_removal(context, &mut draft, id, orphans, pruning);
    let tasks = |service: &ServiceId| context.platform.and_then(|platform| platform.tasks.get(service));
    let services =
        orphans.services.iter().map(|service| (&***service, tasks(&service.id).map(Vec::as_slice).unwrap_or_default()));
    let health = health::of_orphans(&mut draft, services);
    let described = context.desired.resources.get(id).map(|resource| &**resource);
    finish(context, draft, id, described, Sync::OutOfSync, health)
}

fn finish(
    context: &Context<'_>,
    mut draft: Draft,
    id: &ResourceId,
    described: Option<&DesiredResource>,
    sync: Sync,
    mut health: Health,
) -> ResourcePlan {
    if !context.memory.suspended.is_empty() && context.memory.suspended.contains(id) {
        draft.suspend();
        health = Health::Suspended;
    }
    let conditions = draft.conditions(context, id);
    ResourcePlan {
        origin: described.map(|resource| resource.origin.clone()),
        steps: draft.steps,
        held: draft.held,
        drift: draft.drift,
        sync,
        health,
        conditions,
    }
}

/// What every part of planning looks at.
struct Context<'a> {
    desired: &'a Desired,
    policy: &'a Policy,
    memory: &'a Memory,
    at: Duration,
    platform: Option<&'a PlatformSnapshot>,
    registry: Option<&'a RegistrySnapshot>,
    coordinators: [OnceCell<Coordinator>; 2],
}

impl<'a> Context<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed, policy: &'a Policy, memory: &'a Memory) -> Self {
        Context {
            desired,
            policy,
            memory,
            at: observed.at,
            platform: observed.platform.as_deref(),
            registry: observed.registry.as_deref(),
            coordinators: Default::default(),
        }
    }

    fn in_scope(&self, id: &ResourceId) -> bool {
        self.policy.scope.as_ref().is_none_or(|scope| scope.contains(id)) || self.policy.remove.contains(id)
    }

    /// Why the service of this name cannot be understood, if it exists and cannot. The engine tells names apart
    /// without regard to case.
    fn unreadable(&self, name: &ServiceName) -> Option<&'a str> {
        let (_, reason) =
            self.platform?.unreadable.iter().find(|(found, _)| found.eq_ignore_ascii_case(name.as_str()))?;
        Some(reason)
    }

    /// Whether a coordinator of this protocol is there; looked for once per plan.
    fn coordinator(&self, protocol: CoordinatorProtocol) -> Coordinator {
        let [opcua, shdr] = &self.coordinators;
        let found = match protocol {
            CoordinatorProtocol::Opcua => opcua,
            CoordinatorProtocol::Shdr => shdr,
        };
        *found.get_or_init(|| {
            self.registry.map_or(Coordinator::None, |registry| records::find_coordinator(registry, protocol))
        })
    }

    /// What was written to the registry so recently that it may not be visible yet: a record, or its absence.
    fn expectation(&self, id: &RecordId) -> Option<&'a Option<Arc<Record>>> {
        let (record, until) = self.memory.expected.get(id)?;
        (*until > self.at).then_some(record)
    }
}

/// When time alone will change the plan.
#[derive(Default)]
struct Recheck {
    soonest: Option<Duration>,
}

impl Recheck {
    fn after(&mut self, wait: Duration) {
        self.soonest = Some(self.soonest.map_or(wait, |soonest| soonest.min(wait)));
    }

    fn look(&mut self, context: &Context<'_>, id: &ResourceId, plan: &ResourcePlan) {
        for held in &plan.held {
            match &held.wait {
                Wait::SecondSighting | Wait::TasksEnding(_) => self.after(LOOK_AGAIN),
                Wait::RowsStayAway => {
                    let since = match &held.step.step {
                        Step::ForgetRecord { record } => context.memory.gone_since.get(record),
                        Step::CreateService { .. }
                        | Step::UpdateService { .. }
                        | Step::RemoveService { .. }
                        | Step::Register { .. }
                        | Step::Deregister { .. } => None,
                    };
                    let stayed = since.map_or(Duration::ZERO, |since| context.at.saturating_sub(*since));
                    self.after(removal::FORGET_AFTER.saturating_sub(stayed).max(LOOK_AGAIN));
                }
                Wait::Services | Wait::Dependency | Wait::RolledBack | Wait::Suspended | Wait::Prune(_) => {}
            }
        }
        if plan.health == Health::Progressing {
            let since = context.memory.progressing_since.get(id).copied().unwrap_or(context.at);
            let spent = context.at.saturating_sub(since);
            self.after(context.policy.progress_deadline.saturating_sub(spent).max(LOOK_AGAIN));
            if plan.conditions.iter().any(|condition| condition.reason == health::RECENTLY_FAILED) {
                self.after(LOOK_AGAIN * 5);
            }
        }
    }
}
