//! How changes of manifests go out: in order, a part at a time, and no further once one of them breaks something.
//!
//! # Flow
//!
//! ```text
//! a change of a manifest ─► what it comes after runs? ─► a place is free, canaries first? ─► it is noted ─► it goes out
//!                                                            ▲                                              │
//!                            the rollout is halted ◄─ it is broken ◄─────── it is watched ◄─────────────────┘
//!                                                            │
//!                                                            └─ it ran for the soak time: its place is free
//! ```
//!
//! # Guarantees
//!
//! - Repairs wait for nothing but windows of which their manifest says so. One that meets a resource that runs is watched like a change.
//! - Of the resources that ran before a revision changed them, no more are unproven or broken at a time than the
//!   rollout has places, whatever becomes of the operator: who goes out is noted first.
//! - What does not run anyway takes no place, and waits for none.

mod order;
mod removal;
mod repair;
mod watch;
mod waves;
mod window;

use std::collections::BTreeMap;

use self::repair::Repair;
use super::context::{Context, Recheck};
use super::draft::Draft;
use super::health::Ran;
use super::join::AllOrphans;
use super::resource::Prepared;
use crate::model::{
    ConditionKind, Gate, PlannedStep, Reason, RecordStep, ResourceId, Rollouts as State, ServiceStep, Step, Wait,
};

/// Everything that was prepared for a plan.
pub(super) type AllPrepared<'a> = BTreeMap<&'a ResourceId, Option<Prepared<'a>>>;

/// Which changes wait, for what, and how the rollouts stand.
#[derive(Default)]
pub(super) struct Rollouts<'a> {
    /// What is remembered and shown.
    pub(super) state: State,
    gates: BTreeMap<&'a ResourceId, Held>,
    /// Resources that halt a rollout, with the rollout's scope.
    culprits: BTreeMap<ResourceId, String>,
}

/// What a change waits for.
struct Held {
    gate: Gate,
    message: String,
    /// What is put back meanwhile.
    repair: Repair,
    /// Nothing is.
    repairs_wait: bool,
}

impl Held {
    fn new(gate: Gate, message: String) -> Self {
        Held { gate, message, repair: Repair::default(), repairs_wait: false }
    }
}

impl<'a> Rollouts<'a> {
    /// Decides over all changes together.
    pub(super) fn decide(
        context: &Context<'a>,
        prepared: &AllPrepared<'a>,
        orphans: &AllOrphans<'a>,
        recheck: &mut Recheck,
    ) -> Self {
        let mut rollouts = Rollouts::default();
        let all = prepared.iter().filter_map(|(id, prepared)| Some((*id, prepared.as_ref()?)));
        // A resource that is left alone takes no place: nothing of it goes out.
        let left_alone = |id: &ResourceId| context.is_suspended(id) || context.is_to_go(id);
        let dependants = removal::dependants(context, orphans);
        for (id, resource) in all.clone().filter(|(id, _)| !left_alone(id)) {
            let held = window::wait(context, id, resource, orphans.get(id), recheck)
                .or_else(|| removal::wait(id, resource, &dependants));
            rollouts.gates.extend(held.map(|held| (id, held)));
        }
        let mut changing: BTreeMap<&'a ResourceId, &Prepared<'a>> = all
            .filter(|(id, prepared)| !left_alone(id) && !rollouts.gates.contains_key(id) && changes(prepared))
            .collect();
        changing.retain(|id, resource| {
            let Some(held) = order::wait(context, prepared, resource, recheck) else { return true };
            rollouts.gates.insert(id, held);
            false
        });
        waves::decide(context, prepared, &changing, &mut rollouts, recheck);
        rollouts.state.steady = order::steady(context, prepared);
        for (id, held) in rollouts.gates.iter_mut().filter(|(_, held)| !held.repairs_wait) {
            if let Some(Some(found)) = prepared.get(id) {
                held.repair = repair::of(context, id, found, &held.gate);
            }
        }
        rollouts
    }

    /// Holds what of a resource does not go out yet, and says so.
    pub(super) fn hold(&mut self, draft: &mut Draft, id: &ResourceId, ran: Ran) {
        if let Some(scope) = self.culprits.get(id) {
            let message = format!(
                "changing it broke it, so that nothing else of the rollout ({scope}) goes out: a change of its manifest, or \
                 `ofop rollout resume`, goes on"
            );
            draft.note(ConditionKind::RolloutHalted, "Culprit", message);
        }
        let Some(Held { gate, message, repair, repairs_wait }) = self.gates.remove(id) else { return };
        let gate = &gate;
        let lost = matches!(gate, Gate::Order { .. });
        draft.await_rollout(gate, |step| {
            step.reason != Reason::Requested
                && (repairs_wait
                    || match &step.step {
                        Step::Service(_) => is_change(step) || lost && step.reason == Reason::Missing,
                        // What describes a service that stands already is repaired as ever.
                        Step::Record(RecordStep::Register { .. }) => {
                            ran == Ran::Nothing || step.reason == Reason::StaleRecord
                        }
                        Step::Record(RecordStep::Deregister { .. } | RecordStep::Forget { .. }) => {
                            step.reason == Reason::Orphaned
                        }
                    })
        });
        let (kind, reason) = match gate {
            Gate::Halted(_) => (ConditionKind::RolloutHalted, "Halted"),
            Gate::Order { stuck: true, .. } => (ConditionKind::Waiting, super::verdict::AFTER_STUCK),
            Gate::Order { stuck: false, .. } | Gate::ReverseOrder(_) => (ConditionKind::Progressing, "RolloutOrder"),
            Gate::Place => (ConditionKind::Progressing, "RolloutPlace"),
            Gate::Canary(_) => (ConditionKind::Progressing, "RolloutCanary"),
            Gate::Noted => (ConditionKind::Progressing, "RolloutNoted"),
            Gate::Window { .. } => (ConditionKind::Progressing, super::verdict::OUTSIDE_WINDOW),
        };
        draft.note(kind, reason, message);
        draft.steps.splice(..0, repair.steps);
        draft.drift.extend(repair.drift);
    }
}

/// Whether a resource has changes of its manifest to make, now or once they are noted.
fn changes(prepared: &Prepared<'_>) -> bool {
    // Of a device behind a coordinator there is nothing but its records.
    let has_no_service = prepared.described.is_some_and(|described| described.services.is_empty());
    let is_registered = |step: &PlannedStep| matches!(step.step, Step::Record(RecordStep::Register { .. }));
    steps(prepared).any(|step| is_change(step) || is_lost(step) || has_no_service && is_registered(step))
}

/// The steps that could be taken, and those whose attempt is being noted.
fn steps<'p>(prepared: &'p Prepared<'_>) -> impl Iterator<Item = &'p PlannedStep> {
    let noting = prepared.draft.held.iter().filter(|held| held.wait == Wait::AttemptNoted);
    prepared.draft.steps.iter().chain(noting.map(|held| &held.step))
}

/// Whether a step changes a service because a manifest did, the tag of its image moved, or it is taken over: all of them
/// may restart something that runs, or make something new.
fn is_change(step: &PlannedStep) -> bool {
    let for_the_manifest = match step.reason {
        Reason::New | Reason::ManifestChanged | Reason::ImageMoved | Reason::Adopt | Reason::Orphaned => true,
        Reason::Missing
        | Reason::Modified
        | Reason::Unregistered
        | Reason::StaleRecord
        | Reason::Expiring
        | Reason::Requested => false,
    };
    for_the_manifest
        && match &step.step {
            Step::Service(ServiceStep::Update { .. }) => restarts(step),
            Step::Service(ServiceStep::Create { .. } | ServiceStep::Remove { .. }) => true,
            Step::Record(_) => false,
        }
}

/// Whether a lost service is made again.
fn is_lost(step: &PlannedStep) -> bool {
    step.reason == Reason::Missing && matches!(step.step, Step::Service(ServiceStep::Create { .. }))
}

/// Whether an update changes more than what the operator itself writes on a service.
fn restarts(step: &PlannedStep) -> bool {
    step.changes.iter().any(|change| !change.is_of_mark())
}
