//! What `apply` and `down` show while they work: a line a step, and a line whenever a resource's state changes.
//! On a terminal the last line says how far it is and is redrawn.

use std::collections::BTreeMap;

use super::output::{Output, Paint};
use crate::model::{DoubtReason, Health, Plan, ResourceId, StepVerb, Sync, Wait};
use crate::reconcile::Happening;
use crate::report::{Event, EventOutcome};

/// What has been shown.
pub(super) struct Progress {
    output: Output,
    wait: bool,
    states: BTreeMap<ResourceId, (Sync, Health)>,
    /// A person was told that the registry must prove what it shows.
    awaits_proof: bool,
}

impl Progress {
    /// Nothing shown yet. With `wait`, health counts too.
    pub(super) fn new(output: Output, wait: bool) -> Self {
        Progress { output, wait, states: BTreeMap::new(), awaits_proof: false }
    }

    /// Shows what happened.
    pub(super) fn show(&mut self, happening: &Happening<'_>) {
        match happening {
            Happening::Step(event) => self.step(event),
            Happening::Planned(plan) => self.planned(plan),
        }
    }

    /// Takes the live line away.
    pub(super) fn end(&self) {
        self.output.live_line("");
    }

    fn step(&self, event: &Event) {
        let paint = self.output.error_paint;
        let fields = if event.fields.is_empty() { String::new() } else { format!(" [{}]", event.fields.join(", ")) };
        let (mark, end) = match &event.outcome {
            EventOutcome::Succeeded => (sign(event.verb, paint), String::new()),
            EventOutcome::Failed { kind, .. } if kind.is_race() => return,
            EventOutcome::Failed { message, .. } => (paint.red("!"), paint.red(&format!(": {message}"))),
        };
        self.line(&format!(
            "{mark} {} {} {} ({}){fields}{end}",
            paint.bold(&event.resource.to_string()),
            event.verb,
            event.object,
            event.reason.as_str()
        ));
    }

    fn planned(&mut self, plan: &Plan) {
        let paint = self.output.error_paint;
        let mut held = plan
            .resources
            .values()
            .filter(|resource| resource.held.iter().any(|held| held.wait == Wait::Evidence { lasting: false }));
        if let Some(first) = held.next()
            && !self.awaits_proof
        {
            self.awaits_proof = true;
            let reasons = [DoubtReason::Unconfirmed, DoubtReason::Partial, DoubtReason::Lost].map(DoubtReason::as_str);
            let why = first.conditions.iter().find(|condition| reasons.contains(&condition.reason.as_str()));
            let why = why.map(|condition| condition.message.as_str()).unwrap_or_default();
            self.line(&format!("  reading the registry once more: {why}"));
        }
        for (id, resource) in &plan.resources {
            let state = (resource.sync, resource.health);
            let earlier = self.states.insert(id.clone(), state);
            if self.wait && earlier != Some(state) {
                let why = resource.conditions.first().map(|condition| format!(": {}", condition.message));
                self.line(&format!(
                    "  {} {}, {}{}",
                    paint.bold(&id.to_string()),
                    paint.sync(resource.sync),
                    paint.health(resource.health),
                    why.unwrap_or_default()
                ));
            }
        }
        self.states.retain(|id, _| plan.resources.contains_key(id));
        self.output.live_line(&self.summary());
    }

    /// `3/5 in sync, 2/5 healthy; waits for app/A, app/B`.
    fn summary(&self) -> String {
        let total = self.states.len();
        let synced = self.states.values().filter(|(sync, _)| *sync == Sync::Synced).count();
        let healthy = self.states.values().filter(|(_, health)| *health == Health::Healthy).count();
        let done = |(sync, health): (Sync, Health)| sync == Sync::Synced && (!self.wait || health == Health::Healthy);
        let open: Vec<String> =
            self.states.iter().filter(|(_, state)| !done(**state)).map(|(id, _)| id.to_string()).collect();
        let mut line = format!("{synced}/{total} in sync");
        if self.wait {
            line.push_str(&format!(", {healthy}/{total} healthy"));
        }
        if !open.is_empty() {
            line.push_str("; waits for ");
            line.push_str(&open.join(", "));
        }
        line
    }

    /// A line that stays, above the live one.
    fn line(&self, text: &str) {
        self.output.live_line("");
        self.output.note(text);
        self.output.live_line(&self.summary());
    }
}

/// The sign of a step and its colour, as a plan has them.
fn sign(verb: StepVerb, paint: Paint) -> String {
    match verb {
        StepVerb::Create | StepVerb::Register => paint.green("+"),
        StepVerb::Update => paint.yellow("~"),
        StepVerb::Remove | StepVerb::Deregister | StepVerb::Forget => paint.red("-"),
    }
}
