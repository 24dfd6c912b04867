//! What comes back from tasks, and what people ask for.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::super::executor::{Done, End, Leave, Progress};
use super::super::trigger::{COMPANY, DEBOUNCE, Trigger};
use super::{Runner, Turn};
use crate::clock::{Clock, rfc3339};
use crate::desired::Source;
use crate::model::{Command, CommandVerb, Desired, FailureKind, PlannedStep, Request, ResourceId, StepFailure};
use crate::plan::{Ended, Held};
use crate::platform::Platform;
use crate::registry::Registry;
use crate::report::{Event, StepReport};

impl<S: Source, P: Platform, R: Registry, C: Clock> Runner<S, P, R, C> {
    pub(super) fn progressed(&mut self, progress: Progress) -> Turn {
        let now = self.clock.now();
        match progress {
            Progress::Step(done) => {
                let Done { resource, step, outcome, took } = *done;
                self.memory.step_done(&self.policy, &resource, &step, &outcome, now);
                if let Err(failure) = &outcome {
                    self.failed(&resource, &step, failure, now);
                }
                let origin = self.manifests.desired().resources.get(&resource).map(|wanted| wanted.origin.clone());
                log(&resource, &step, &outcome, self.manifests.desired(), took);
                let report = StepReport::of(
                    resource,
                    origin,
                    self.manifests.desired().revision.clone(),
                    &step,
                    outcome,
                    self.clock.wall(),
                    took,
                );
                Turn::Stepped(self.report.step(report))
            }
            Progress::RecordsLeft { resource } => {
                self.executor.records_left(&resource);
                Turn::Quiet
            }
            Progress::Ended { resource, end } => {
                let running = self.executor.ended(&resource);
                self.ended.insert(resource.clone());
                match (end, running) {
                    (End::Done, Some(running)) => self.retries.succeeded(&resource, running.fingerprint, now),
                    (End::Died, running) => {
                        warn!(%resource, "the task of this resource died");
                        let desired = running.and_then(|running| running.desired);
                        let kind = FailureKind::Ambiguous;
                        self.retries.failed(&resource, desired, kind, None, self.generations, now);
                    }
                    (End::Done | End::Failed | End::Stopped, _) => {}
                }
                let patience = if self.executor.is_idle() { DEBOUNCE } else { COMPANY };
                self.pending.add_within(Trigger::StepDone, now, patience);
                Turn::Quiet
            }
        }
    }

    fn failed(&mut self, resource: &ResourceId, step: &PlannedStep, failure: &StepFailure, now: Duration) {
        let desired = self.executor.running().get(resource).and_then(|running| running.desired.clone());
        self.retries.failed(resource, desired, failure.kind, Some(step), self.generations, now);
        self.retries.sent_before(resource, failure.since_sent);
        // What the last look saw is not what there is: the next one must be a new one.
        self.platform.refresh();
        self.registry.refresh();
    }

    pub(super) fn command(&mut self, request: Request) {
        let wall = self.clock.wall();
        let (name, address) = (&request.actor.name, request.actor.address.as_deref());
        info!(by = name, address, "command: {}", request.command);
        self.report.command(&request, wall);
        let Request { command, .. } = request;
        if let Command::Down(resource) | Command::Resume(Some(resource)) = &command
            && (matches!(command, Command::Down(_)) || self.memory.taken_down.contains_key(resource))
            && let Some(running) = self.executor.running().get(resource)
        {
            // What is under way is the opposite of what is wanted from now on.
            running.restrict(Leave::Nothing);
        }
        self.memory.command(&command, &rfc3339(wall));
        match command {
            Command::Reconcile { .. } => {
                self.asked += 1;
                self.retries.forgive_all();
                self.source.refresh();
                self.manifests.load();
            }
            Command::ReconcileOne(resource) => {
                self.asked += 1;
                self.retries.forgive(&resource);
                self.source.refresh();
                self.manifests.load();
            }
            Command::Suspend(Some(resource), _) => {
                if let Some(running) = self.executor.running().get(&resource) {
                    running.restrict(Leave::Nothing);
                }
            }
            // What is under way may be a change; repairs are planned again.
            Command::Suspend(None, _) | Command::Freeze(_) => self.executor.halt(),
            Command::Resume(Some(resource))
            | Command::RolloutStart(resource)
            | Command::Adopt { resource, .. }
            | Command::Down(resource) => {
                self.retries.forgive(&resource);
            }
            Command::Resume(None) | Command::EndFreeze | Command::RolloutResume | Command::RolloutAbort => {}
        }
        self.look_afresh(Trigger::Person, self.clock.now());
    }

    /// Says which suspensions, and whether the freeze, ended by themselves.
    pub(super) fn tell_ended(&mut self) {
        for Ended { what, hold } in self.memory.take_ended() {
            let (verb, resource, what) = match what {
                Held::Resource(id) => (CommandVerb::Resume, Some(id.clone()), format!("the suspension of {id}")),
                Held::Everything => (CommandVerb::Resume, None, "the suspension of everything".to_owned()),
                Held::Changes => (CommandVerb::Freeze, None, "the freeze".to_owned()),
            };
            let message = format!("{what} ended by itself: since {}{}", hold.since, hold.term);
            info!("{message}");
            self.report.ended(verb, resource, message, self.clock.wall());
        }
    }

    /// Deals with progress while something else is under way; whoever watches is told of it later.
    pub(super) fn note(&mut self, progress: Progress) {
        if let Turn::Stepped(event) = self.progressed(progress) {
            self.untold.push_back(event);
        }
    }

    /// A step that ended and of which whoever watches was not told, oldest first.
    pub(in crate::reconcile) fn untold(&mut self) -> Option<Arc<Event>> {
        self.untold.pop_front()
    }
}

fn log(
    resource: &ResourceId,
    step: &PlannedStep,
    outcome: &Result<(), StepFailure>,
    desired: &Desired,
    took: Duration,
) {
    let (verb, object, reason) = (step.step.verb().as_str(), step.step.object(), step.reason.as_str());
    let revision = desired.revision.short();
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    // Their names alone: values may be secrets.
    let changed: Vec<&str> = step.changes.iter().map(|change| change.field.as_str()).collect();
    let fields = (!changed.is_empty()).then(|| changed.join(", "));
    match outcome {
        Ok(()) => info!(%resource, verb, object, reason, fields, revision, outcome = "succeeded", milliseconds),
        Err(failure) => {
            let outcome = failure.kind.as_str();
            if failure.kind.is_race() {
                info!(%resource, verb, object, reason, fields, revision, outcome, milliseconds, "{failure}");
            } else {
                warn!(%resource, verb, object, reason, fields, revision, outcome, milliseconds, "{failure}");
            }
        }
    }
}
