//! Converging once: the loop with an end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::runner::{Passed, Runner, Turn};
use super::waits::{SOON, is_held, ripens};
use super::{Options, Parts};
use crate::clock::Clock;
use crate::desired::Source;
use crate::model::{Desired, FailureKind, Health, Plan, ResourceId, ResourcePlan, StepFailure, Sync};
use crate::platform::Platform;
use crate::registry::Registry;
use crate::report::{Event, EventOutcome};

/// When converging ends.
#[derive(Debug, Clone, Copy)]
pub struct ConvergeOptions {
    /// Also wait until every resource is healthy.
    pub wait: bool,
    /// Give up after this time.
    pub timeout: Duration,
    /// Give a resource up after this many failures in a row. One that is refused as it is, is given up at once.
    pub attempts: u32,
}

impl Default for ConvergeOptions {
    /// Five minutes, three attempts, without waiting for health.
    fn default() -> Self {
        ConvergeOptions { wait: false, timeout: Duration::from_secs(300), attempts: 3 }
    }
}

/// Something that a person who watches may want to see.
#[derive(Debug)]
pub enum Happening<'a> {
    /// A pass was made.
    Planned(&'a Plan),
    /// A step ended.
    Step(&'a Event),
}

/// How a resource ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It is as it should be (or gone, as it should be).
    InSync,
    /// Its steps failed; given up.
    Failed(StepFailure),
    /// It stays as it is until somebody does something; the sentences say what.
    Held(Vec<String>),
    /// It is as described, and does not run.
    Unhealthy(Health),
    /// It was still on its way when the time was up.
    Unfinished,
}

/// What came of it.
#[derive(Debug)]
pub struct ConvergeReport {
    /// Every resource of the last plan.
    pub resources: BTreeMap<ResourceId, Ending>,
    /// Every step that was taken, in order.
    pub events: Vec<Arc<Event>>,
    /// The last plan.
    pub plan: Option<Arc<Plan>>,
    /// What was wanted.
    pub desired: Arc<Desired>,
    /// The time was up.
    pub timed_out: bool,
    /// Told to stop.
    pub interrupted: bool,
    /// The right to act was lost before the end.
    pub lost_lease: bool,
    /// Every call in flight ended.
    pub drained: bool,
    /// Why the manifests could not be read.
    pub source_error: Option<String>,
    /// Why the platform could not be observed at the end.
    pub platform_error: Option<String>,
    /// Why the registry could not be observed at the end.
    pub registry_error: Option<String>,
}

impl ConvergeReport {
    /// Whether everything is as it should be.
    pub fn is_success(&self) -> bool {
        !self.timed_out
            && !self.interrupted
            && !self.lost_lease
            && self.source_error.is_none()
            && self.platform_error.is_none()
            && self.registry_error.is_none()
            && self.resources.values().all(|ending| *ending == Ending::InSync)
    }
}

/// How often in a row a side may fail to answer before converging gives up.
const BLIND_LOOKS: u32 = 3;

/// How long the end waits for what was written to show in the registry: whoever asks next, this command told to take it
/// all down for one, knows only what can be seen.
const ROWS_WITHIN: Duration = Duration::from_secs(15);

/// Converges once: makes passes until nothing remains to be done and nothing is under way, then says how each
/// resource ended. Second sightings are obtained by full reads in between, not by waiting for a timer.
pub async fn converge<S: Source, P: Platform, R: Registry, C: Clock>(
    parts: Parts<S, P, R, C>,
    options: Options,
    until: ConvergeOptions,
    stop: CancellationToken,
    mut watch: impl FnMut(Happening<'_>),
) -> ConvergeReport {
    let grace = options.grace;
    let mut runner = Runner::new(parts, options, stop);
    let give_up = runner.now() + until.timeout;
    let mut course = Course { failures: BTreeMap::new(), events: Vec::new(), blind: 0, rows_by: None };
    let mut last: Option<Passed> = None;
    let mut timed_out = false;
    let mut interrupted = false;
    loop {
        runner.look_by(give_up);
        match runner.turn().await {
            Turn::Passed(passed) => {
                if let Some(plan) = &passed.plan {
                    watch(Happening::Planned(plan));
                }
                let over = course.is_over(&passed, &mut runner, &until);
                last = Some(passed);
                if over {
                    break;
                }
            }
            Turn::Stepped(event) => {
                watch(Happening::Step(&event));
                course.took(event);
            }
            Turn::Quiet => {}
            Turn::Stopped => {
                interrupted = true;
                break;
            }
        }
        if !runner.leads() {
            break;
        }
        if runner.now() >= give_up {
            timed_out = true;
            break;
        }
    }
    let lost_lease = !runner.leads();
    let drained = runner.finish(grace).await;
    while let Some(event) = runner.untold() {
        watch(Happening::Step(&event));
        course.took(event);
    }
    let passed = last.unwrap_or_else(|| runner.blank());
    let endings = passed.plan.as_ref().map(|plan| course.endings(plan, &runner, &until)).unwrap_or_default();
    ConvergeReport {
        resources: endings,
        events: course.events,
        plan: passed.plan,
        desired: passed.desired,
        timed_out,
        interrupted,
        lost_lease,
        drained,
        source_error: passed.source_error,
        platform_error: passed.platform_error,
        registry_error: passed.registry_error,
    }
}

/// What happened so far.
struct Course {
    /// The last failure of each resource that has not worked since.
    failures: BTreeMap<ResourceId, StepFailure>,
    events: Vec<Arc<Event>>,
    /// Looks in a row at which one side did not answer.
    blind: u32,
    /// When the end waits for rows no longer.
    rows_by: Option<Duration>,
}

impl Course {
    fn took(&mut self, event: Arc<Event>) {
        match &event.outcome {
            EventOutcome::Succeeded => {
                self.failures.remove(&event.resource);
            }
            EventOutcome::Failed { kind, message } => {
                self.failures.insert(event.resource.clone(), StepFailure::new(*kind, message));
            }
        }
        self.events.push(event);
    }

    fn is_over<S: Source, P: Platform, R: Registry, C: Clock>(
        &mut self,
        passed: &Passed,
        runner: &mut Runner<S, P, R, C>,
        until: &ConvergeOptions,
    ) -> bool {
        if runner.is_busy() {
            return false;
        }
        if passed.awaits_registry {
            return false;
        }
        if passed.platform_error.is_some() || passed.registry_error.is_some() {
            self.blind += 1;
            if self.blind >= BLIND_LOOKS {
                return true;
            }
            runner.look_by(runner.now() + SOON);
            return false;
        }
        self.blind = 0;
        let Some(plan) = &passed.plan else { return false };
        let open = plan.resources.iter().any(|(id, planned)| self.ending(id, planned, runner, until).is_none());
        let now = runner.now();
        let waits = open || (passed.awaits_rows && now < *self.rows_by.get_or_insert(now + ROWS_WITHIN));
        if waits {
            runner.look_by(now + SOON);
        }
        !waits
    }

    fn endings<S: Source, P: Platform, R: Registry, C: Clock>(
        &self,
        plan: &Plan,
        runner: &Runner<S, P, R, C>,
        until: &ConvergeOptions,
    ) -> BTreeMap<ResourceId, Ending> {
        let ending = |(id, planned): (&ResourceId, &ResourcePlan)| {
            (id.clone(), self.ending(id, planned, runner, until).unwrap_or(Ending::Unfinished))
        };
        plan.resources.iter().map(ending).collect()
    }

    /// How a resource ended; none while it is still on its way.
    fn ending<S: Source, P: Platform, R: Registry, C: Clock>(
        &self,
        id: &ResourceId,
        planned: &ResourcePlan,
        runner: &Runner<S, P, R, C>,
        until: &ConvergeOptions,
    ) -> Option<Ending> {
        if !planned.steps.is_empty() {
            let (failures, kind) = runner.retries().failures(id);
            let given_up = failures >= until.attempts.max(1) || kind == Some(FailureKind::Rejected);
            return given_up.then(|| self.failures.get(id).cloned().map(Ending::Failed)).flatten();
        }
        if planned.held.iter().any(|held| ripens(&held.wait)) {
            return None;
        }
        let reasons = || {
            let waits = planned.held.iter().map(|held| {
                format!("{} {} waits for {}", held.step.step.verb(), held.step.step.object(), held.wait.as_str())
            });
            let conditions = planned.conditions.iter().map(|condition| condition.message.clone());
            conditions.chain(waits).collect()
        };
        if !planned.held.is_empty() || is_held(planned) {
            return Some(Ending::Held(reasons()));
        }
        match (planned.sync, planned.health) {
            (Sync::Unknown | Sync::OutOfSync, _) => None,
            (Sync::Synced, Health::Healthy) => Some(Ending::InSync),
            (Sync::Synced, health @ (Health::RolledBack | Health::Waiting | Health::Suspended)) => {
                Some(if until.wait { Ending::Unhealthy(health) } else { Ending::InSync })
            }
            (Sync::Synced, Health::Progressing | Health::Degraded | Health::Unknown) if until.wait => None,
            (Sync::Synced, Health::Progressing | Health::Degraded | Health::Unknown) => Some(Ending::InSync),
        }
    }
}
