//! What every part of planning looks at, and when to look again.

use std::cell::OnceCell;
use std::time::Duration;

use jiff::Timestamp;

use super::contest;
use super::health::{RECENTLY_FAILED, UPDATING};
use super::records::{self, Coordinator};
use super::{Memory, Policy, Written};
use crate::model::record::CoordinatorProtocol;
use crate::model::{
    Desired, Health, Ledger, Observed, PlatformSnapshot, RecordId, RecordStep, RegistrySnapshot, ResourceId,
    ResourcePlan, ServiceName, Step, Wait,
};

/// How soon to look again for a second sighting, or for tasks that are ending.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What every part of planning looks at.
pub(super) struct Context<'a> {
    pub(super) desired: &'a Desired,
    pub(super) policy: &'a Policy,
    pub(super) memory: &'a Memory,
    pub(super) at: Duration,
    /// Wall time.
    pub(super) wall: Timestamp,
    pub(super) platform: Option<&'a PlatformSnapshot>,
    pub(super) registry: Option<&'a RegistrySnapshot>,
    /// A newer read of the registry is under way.
    pub(super) registry_stands_in: bool,
    /// Both sides, matched. While it is brought up to date it is that of the last plan.
    pub(super) ledger: &'a Ledger,
    coordinators: [OnceCell<Coordinator>; 2],
}

impl<'a> Context<'a> {
    /// The values that a plan rests on.
    pub(super) fn new(desired: &'a Desired, observed: &'a Observed, policy: &'a Policy, memory: &'a Memory) -> Self {
        Context {
            desired,
            policy,
            memory,
            at: observed.at,
            wall: observed.wall,
            platform: observed.platform.as_deref(),
            registry: observed.registry.as_deref(),
            registry_stands_in: observed.registry_stands_in,
            ledger: &memory.ledger,
            coordinators: Default::default(),
        }
    }

    /// The same with the ledger of this plan.
    pub(super) fn with(self, ledger: &'a Ledger) -> Self {
        Context { ledger, ..self }
    }

    /// Whether the plan is about this resource.
    pub(super) fn in_scope(&self, id: &ResourceId) -> bool {
        self.policy.scope.as_ref().is_none_or(|scope| scope.contains(id)) || self.policy.remove.contains(id)
    }

    /// Whether what was noted may say more than memory knows.
    pub(super) fn notes_may_hide_something(&self) -> bool {
        self.platform.is_some_and(|platform| self.memory.notebook.may_hide_something(&platform.notes))
    }

    /// Whether a person wants this resource gone, whether or not it is described: it was named to the command that plans,
    /// or taken down at the running operator.
    pub(super) fn is_to_go(&self, id: &ResourceId) -> bool {
        self.policy.remove.contains(id) || self.memory.taken_down.contains_key(id)
    }

    /// Whether this resource is left alone.
    pub(super) fn is_suspended(&self, id: &ResourceId) -> bool {
        self.memory.is_suspended(id) || self.desired.resources.get(id).is_some_and(|resource| resource.handling.suspend)
    }

    /// Why the service of this name cannot be understood, if it exists and cannot. The engine tells names apart
    /// without regard to case.
    pub(super) fn unreadable(&self, name: &ServiceName) -> Option<&'a str> {
        let (_, reason) =
            self.platform?.unreadable.iter().find(|(found, _)| found.eq_ignore_ascii_case(name.as_str()))?;
        Some(reason)
    }

    /// Whether a coordinator of this protocol is there; looked for once per plan.
    pub(super) fn coordinator(&self, protocol: CoordinatorProtocol) -> Coordinator {
        let [opcua, shdr] = &self.coordinators;
        let found = match protocol {
            CoordinatorProtocol::Opcua => opcua,
            CoordinatorProtocol::Shdr => shdr,
        };
        *found.get_or_init(|| {
            let candidates = self.ledger.coordinators.iter();
            self.registry
                .map_or(Coordinator::None, |registry| records::find_coordinator(registry, candidates, protocol))
        })
    }

    /// What was written to the registry so recently that it may not be visible yet: a record, or its absence.
    pub(super) fn expectation(&self, id: &RecordId) -> Option<&'a Option<Written>> {
        let (record, until) = self.memory.expected.get(id)?;
        (*until > self.at).then_some(record)
    }
}

/// When time alone will change the plan.
#[derive(Default)]
pub(super) struct Recheck {
    pub(super) soonest: Option<Duration>,
}

impl Recheck {
    fn after(&mut self, wait: Duration) {
        self.soonest = Some(self.soonest.map_or(wait, |soonest| soonest.min(wait)));
    }

    /// Something ripens after this time.
    pub(super) fn soon(&mut self, wait: Duration) {
        self.after(wait.max(LOOK_AGAIN));
    }

    /// What a person held back goes on.
    pub(super) fn holds(&mut self, context: &Context<'_>) {
        if let Some(left) = context.memory.next_end(context.wall) {
            self.soon(left);
        }
    }

    /// What was written a moment ago stops counting as written.
    pub(super) fn expectations(&mut self, context: &Context<'_>) {
        for (_, until) in context.memory.expected.values() {
            if *until > context.at {
                self.after((*until - context.at).max(LOOK_AGAIN));
            }
        }
    }

    /// Whatever in the plan of a resource ripens with time.
    pub(super) fn look(&mut self, context: &Context<'_>, id: &ResourceId, plan: &ResourcePlan) {
        for held in &plan.held {
            match &held.wait {
                Wait::SecondSighting
                | Wait::TasksEnding(_)
                | Wait::AttemptNoted
                | Wait::Evidence { lasting: false } => self.after(LOOK_AGAIN),
                Wait::Contested => {
                    if let Some(pause) = contest::pause(context, id, &held.step) {
                        self.after(pause.max(LOOK_AGAIN));
                    }
                }
                // Whole seconds of what is left are shown.
                Wait::PruneDelay(left) => self.after((*left).min(LOOK_AGAIN)),
                Wait::RowsStayAway => {
                    let since = match &held.step.step {
                        Step::Record(RecordStep::Forget { record }) => context.memory.gone_since.get(record),
                        Step::Service(_)
                        | Step::Record(RecordStep::Register { .. } | RecordStep::Deregister { .. }) => None,
                    };
                    let stayed = since.map_or(Duration::ZERO, |since| context.at.saturating_sub(*since));
                    self.after(context.policy.forget_after().saturating_sub(stayed).max(LOOK_AGAIN));
                }
                Wait::Services
                | Wait::Dependency
                | Wait::Conflict
                | Wait::RolledBack
                | Wait::Notes
                | Wait::Evidence { lasting: true }
                | Wait::Suspended(_)
                | Wait::Successor(_)
                // What they wait for has a time of its own.
                | Wait::Rollout(_)
                | Wait::Prune(_) => {}
            }
        }
        if plan.health == Health::Progressing {
            let since = context.memory.progressing_since.get(id).copied().unwrap_or(context.at);
            let spent = context.at.saturating_sub(since);
            self.after(context.policy.progress_deadline.saturating_sub(spent).max(LOOK_AGAIN));
            if plan.conditions.iter().any(|condition| [RECENTLY_FAILED, UPDATING].contains(&&*condition.reason)) {
                self.after(LOOK_AGAIN * 5);
            }
        }
    }
}
