//! A plan as text, for people.
//!
//! ```text
//! app/SCHEDULER  desired/app_scheduler.yml:2
//!   ~ update service scheduler (modified outside the manifests)
//!       image             registry/app:1 -> registry/app:2
//!       environment.MODE  (hidden) -> (hidden)
//!   - remove service old (no longer described), waits for a second look
//!   = leave service scheduler (ignored)
//!       replicas  4, not 2
//!
//! 1 to update, 1 held.
//! ```

use super::removal::block_words;
use super::words::{around_difference, count_of, counts, in_sync, printable, way_out};
use crate::model::text::cut;
use crate::model::{
    ConditionKind, FieldChange, Hold, Ignored, Plan, PlannedStep, PruneVerdict, ResourceId, ResourcePlan, ServiceStep,
    Step, StepVerb, Suspension, Wait,
};

/// Whether values of environment variables are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShowSecrets {
    /// Names only.
    #[default]
    No,
    /// A person asked for them with a flag.
    Yes,
}

/// How a plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextOptions {
    /// With ANSI colours.
    pub color: bool,
    /// Values of environment variables.
    pub secrets: ShowSecrets,
    /// Columns of the terminal; longer values are cut with `…`. 0 cuts nothing.
    pub width: usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        TextOptions { color: false, secrets: ShowSecrets::No, width: 80 }
    }
}

/// A plan as text: what will be done, resource by resource, what waits and for what, and what to do about it.
/// Resources that need nothing are only counted.
pub fn to_text(plan: &Plan, options: TextOptions) -> String {
    let mut text = Text { out: String::new(), options };
    for (id, resource) in &plan.resources {
        text.resource(id, resource);
    }
    text.summary(plan);
    text.held_back(plan);
    text.prune(&plan.prune);
    text.out
}

/// The differences of two revisions ([`super::between`]) as text, in the same words.
pub fn differences_to_text(plan: &Plan, options: TextOptions) -> String {
    let mut text = Text { out: String::new(), options };
    for (id, resource) in &plan.resources {
        text.resource(id, resource);
    }
    let mut parts = counts(plan.resources.values().map(|resource| &**resource));
    if parts.is_empty() {
        parts.push("No difference".into());
    }
    let (all, same) = (plan.resources.len(), plan.resources.len() - plan.restless.len());
    let line = format!("{}; {same} of {} the same.", parts.join(", "), count_of(all, "resource"));
    let line = text.paint(Paint::Bold, &line);
    text.wrapped("", 0, &line);
    text.out
}

#[derive(Clone, Copy)]
enum Paint {
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
    Cyan,
}

impl Paint {
    fn code(self) -> u8 {
        match self {
            Paint::Bold => 1,
            Paint::Dim => 2,
            Paint::Red => 31,
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Cyan => 36,
        }
    }
}

struct Text {
    out: String,
    options: TextOptions,
}

impl Text {
    fn paint(&self, paint: Paint, text: &str) -> String {
        if self.options.color { format!("\u{1b}[{}m{text}\u{1b}[0m", paint.code()) } else { text.to_owned() }
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    fn resource(&mut self, id: &ResourceId, resource: &ResourcePlan) {
        let told = resource
            .conditions
            .iter()
            // the steps and the summary tell these already
            .filter(|condition| condition.kind != ConditionKind::PruneBlocked)
            .filter(|condition| condition.reason != Suspension::Everything.as_str())
            .map(|condition| (condition.kind, &condition.message));
        let told: Vec<_> = told.collect();
        if resource.steps.is_empty() && resource.held.is_empty() && resource.ignored.is_empty() && told.is_empty() {
            return;
        }
        let place = resource.origin.as_ref().map(ToString::to_string).unwrap_or_default();
        let heading = format!(
            "{}  {}",
            self.paint(Paint::Bold, &printable(&id.to_string())),
            self.paint(Paint::Dim, &printable(&place))
        );
        self.line(&heading);
        for step in &resource.steps {
            self.step(step, None);
        }
        for held in &resource.held {
            self.step(&held.step, Some(&held.wait));
        }
        for ignored in &resource.ignored {
            self.ignored(ignored);
        }
        for (kind, message) in told {
            let paint = match kind {
                ConditionKind::Failed
                | ConditionKind::Conflict
                | ConditionKind::Contested
                | ConditionKind::RolledBack
                | ConditionKind::RolloutHalted
                | ConditionKind::Degraded => Paint::Red,
                ConditionKind::Frozen
                | ConditionKind::PruneBlocked
                | ConditionKind::Waiting
                | ConditionKind::Progressing
                | ConditionKind::Suspended
                | ConditionKind::Kept
                | ConditionKind::Unresolved => Paint::Yellow,
            };
            let sign = self.paint(paint, "!");
            self.wrapped(&format!("  {sign} "), 4, &format!("{}: {}", kind.as_str(), printable(message)));
        }
        self.out.push('\n');
    }

    fn step(&mut self, step: &PlannedStep, wait: Option<&Wait>) {
        let (sign, paint) = match step.step.verb() {
            StepVerb::Create | StepVerb::Register => ("+", Paint::Green),
            StepVerb::Update => ("~", Paint::Yellow),
            StepVerb::Remove | StepVerb::Deregister | StepVerb::Forget => ("-", Paint::Red),
        };
        let waits = wait.map_or(String::new(), |wait| format!(", waits for {}", wait.as_str()));
        let sign = self.paint(if wait.is_some() { Paint::Dim } else { paint }, sign);
        let what = format!("{} {} ({}){waits}", step.step.verb(), printable(&step.step.object()), step.reason.as_str());
        self.wrapped(&format!("  {sign} "), 4, &what);
        if let Step::Service(ServiceStep::Create { spec, .. }) = &step.step {
            let replicas = if spec.replicas == 1 { String::new() } else { format!(" x {}", spec.replicas) };
            self.field("image", 5, &format!("{}{replicas}", printable(&spec.image)));
        }
        let width = step.changes.iter().map(|change| change.field.chars().count()).max().unwrap_or_default();
        for change in &step.changes {
            self.change(change, width.min(FIELD));
        }
    }

    /// What is there, and what the manifest says that is ignored.
    fn ignored(&mut self, ignored: &Ignored) {
        let sign = self.paint(Paint::Dim, "=");
        self.wrapped(&format!("  {sign} "), 4, &format!("leave {} (ignored)", printable(&ignored.object)));
        let width = ignored.changes.iter().map(|change| change.field.chars().count()).max().unwrap_or_default();
        for change in &ignored.changes {
            let live = self.shown(change, change.from.as_ref());
            let wanted = self.shown(change, change.to.as_ref());
            self.field(&printable(&change.field), width.min(FIELD), &format!("{live}, not {wanted}"));
        }
    }

    fn shown(&self, change: &FieldChange, value: Option<&String>) -> String {
        match value {
            None => "(none)".to_owned(),
            Some(_) if change.secret && self.options.secrets == ShowSecrets::No => "(hidden)".to_owned(),
            Some(value) if value.is_empty() => "\"\"".to_owned(),
            Some(value) => printable(value),
        }
    }

    fn field(&mut self, field: &str, width: usize, value: &str) {
        let line = format!("      {field:width$}  {value}");
        let line = self.cut(&line);
        self.line(&line);
    }

    fn change(&mut self, change: &FieldChange, width: usize) {
        let (from, to) = (self.shown(change, change.from.as_ref()), self.shown(change, change.to.as_ref()));
        let field = printable(&change.field);
        let column = field.chars().count().max(width);
        let room = match self.options.width {
            0 => usize::MAX,
            columns => columns.saturating_sub("      ".len() + column + "  ".len() + " -> ".len()),
        };
        if from.chars().count() + to.chars().count() <= room {
            self.field(&field, width, &format!("{from} -> {to}"));
        } else {
            // too long for one line: one below the other, so that what differs can be seen
            self.field(&field, width, "");
            let before = self.paint(Paint::Red, "-");
            let after = self.paint(Paint::Green, "+");
            let (from, to) = self.around_difference(&from, &to);
            self.line(&format!("        {before} {from}"));
            self.line(&format!("        {after} {to}"));
        }
    }

    /// Cuts both values to the terminal, around the first place where they differ.
    fn around_difference(&self, from: &str, to: &str) -> (String, String) {
        match self.options.width {
            0 => (from.to_owned(), to.to_owned()),
            width => around_difference(from, to, width.saturating_sub(10).max(20)),
        }
    }

    fn cut(&self, line: &str) -> String {
        match self.options.width {
            0 => line.to_owned(),
            width => cut(line, width).into_owned(),
        }
    }

    /// Words on lines of the terminal's width; lines after the first are indented.
    fn wrapped(&mut self, first: &str, indent: usize, text: &str) {
        let room = match self.options.width {
            0 => usize::MAX,
            width => width.saturating_sub(indent).max(20),
        };
        let mut lines: Vec<String> = vec![String::new()];
        for word in text.split(' ') {
            let fits = |line: &String| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= room;
            match lines.last_mut().filter(|line| fits(line)) {
                Some(line) if line.is_empty() => line.push_str(word),
                Some(line) => {
                    line.push(' ');
                    line.push_str(word);
                }
                None => lines.push(word.to_owned()),
            }
        }
        for (at, line) in lines.iter().enumerate() {
            let prefix = if at == 0 { first.to_owned() } else { " ".repeat(indent) };
            self.line(&format!("{prefix}{line}"));
        }
    }

    fn summary(&mut self, plan: &Plan) {
        let mut parts = counts(plan.resources.values().map(|resource| &**resource));
        if parts.is_empty() {
            parts.push("Nothing to do".into());
        }
        let line = format!("{}; {}.", parts.join(", "), in_sync(plan));
        let line = self.paint(Paint::Bold, &line);
        self.wrapped("", 0, &line);
    }

    fn held_back(&mut self, plan: &Plan) {
        let of = |what: &str, hold: &Hold| {
            let until = hold.term.until.map(|until| format!(", until {until}")).unwrap_or_default();
            let reason = hold.term.reason().map(|reason| format!(" ({})", printable(reason))).unwrap_or_default();
            format!("{what} since {}{until}{reason}.", printable(&hold.since))
        };
        let all = plan.suspended.as_ref().map(|hold| (of("Everything is suspended", hold), "ofop resume --all"));
        let changes =
            plan.freeze.as_ref().map(|hold| (of("Changes from manifests are frozen", hold), "ofop freeze --end"));
        for (said, end) in all.into_iter().chain(changes) {
            let sign = self.paint(Paint::Yellow, "!");
            self.wrapped(&format!("{sign} "), 2, &said);
            let way_out = self.paint(Paint::Cyan, &format!("`{end}` ends that."));
            self.wrapped("  ", 2, &way_out);
        }
    }

    fn prune(&mut self, verdict: &PruneVerdict) {
        let PruneVerdict::Blocked { resources, reason } = verdict else { return };
        let sign = self.paint(Paint::Yellow, "!");
        let text = format!("Removals are held ({}): {}.", count_of(resources.len(), "resource"), block_words(reason));
        self.wrapped(&format!("{sign} "), 2, &text);
        let way_out = self.paint(Paint::Cyan, way_out(reason));
        self.wrapped("  ", 2, &way_out);
    }
}

/// Widest column of field names.
const FIELD: usize = 32;
