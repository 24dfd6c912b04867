//! Converging once: the loop with an end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::runner::{Passed, Runner, Turn};
use super::waiting::{Goal, Outlook, Waiting};
use super::waits::SOON;
use super::{Options, Parts};
use crate::clock::Clock;
use crate::desired::Source;
use crate::model::{Block, Desired, Failing, GIVE_UP_AFTER, Plan, ResourceId, ResourcePlan, StepFailure, Verdict};
use crate::platform::Platform;
use crate::registry::Registry;
use crate::report::{Event, EventOutcome};

/// When converging ends.
#[derive(Debug, Clone, Copy)]
pub struct ConvergeOptions {
    /// What is waited for.
    pub goal: Goal,
    /// Give up after this time.
    pub timeout: Duration,
    /// Give a resource up after this many failures in a row. One that is refused as it is, is given up at once.
    pub attempts: u32,
}

impl Default for ConvergeOptions {
    /// Five minutes, three attempts, without waiting for health.
    fn default() -> Self {
        ConvergeOptions { goal: Goal::InSync, timeout: Duration::from_secs(300), attempts: GIVE_UP_AFTER }
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
    /// It stays as it is until somebody acts.
    Blocked(Block),
    /// It was still on its way at the end; what it waited for.
    Unfinished(String),
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
    let waiting = Waiting::new(until.goal);
    let mut course = Course { failures: BTreeMap::new(), events: Vec::new(), blind: 0, rows_by: None, waiting };
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
    waiting: Waiting,
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
        let outlook = passed.plan.as_ref().map(|plan| self.look(plan, runner, until));
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
        let Some(outlook) = outlook else { return false };
        let over = outlook.is_over();
        let now = runner.now();
        let waits = !over || (passed.awaits_rows && now < *self.rows_by.get_or_insert(now + ROWS_WITHIN));
        if waits {
            runner.look_by(now + SOON);
        }
        !waits
    }

    /// Judges every resource.
    fn look<S: Source, P: Platform, R: Registry, C: Clock>(
        &mut self,
        plan: &Plan,
        runner: &Runner<S, P, R, C>,
        until: &ConvergeOptions,
    ) -> Outlook {
        let failures = &self.failures;
        let verdicts = plan.resources.iter().map(|(id, planned)| (id, verdict(id, planned, failures, runner, until)));
        self.waiting.look(verdicts)
    }

    fn endings<S: Source, P: Platform, R: Registry, C: Clock>(
        &mut self,
        plan: &Plan,
        runner: &Runner<S, P, R, C>,
        until: &ConvergeOptions,
    ) -> BTreeMap<ResourceId, Ending> {
        let seen = self.look(plan, runner, until);
        let suspended = seen.suspended.clone();
        let (mut blocked, mut unfinished) = seen.at_the_end();
        // Whoever names resources to this command wants them changed: one that is left alone is not.
        blocked.extend(suspended);
        let mut ending = |id: &ResourceId| match (blocked.remove(id), unfinished.remove(id)) {
            (Some(block), _) => Ending::Blocked(block),
            (None, Some(why)) => Ending::Unfinished(why),
            (None, None) => Ending::InSync,
        };
        plan.resources.keys().map(|id| (id.clone(), ending(id))).collect()
    }
}

/// The verdict on a resource, its failures included.
fn verdict<S: Source, P: Platform, R: Registry, C: Clock>(
    id: &ResourceId,
    planned: &ResourcePlan,
    failures: &BTreeMap<ResourceId, StepFailure>,
    runner: &Runner<S, P, R, C>,
    until: &ConvergeOptions,
) -> Verdict {
    let (attempts, kind) = runner.retries().failures(id);
    match failures.get(id) {
        Some(failure) => {
            planned.verdict.given(id, Failing { attempts, kind, message: &failure.message, limit: until.attempts })
        }
        None => planned.verdict.clone(),
    }
}
