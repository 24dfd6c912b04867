//! A plan as Markdown, for a comment on a pull request.
//!
//! ````text
//! ### Plan: 1 to update, 1 held
//!
//! Revision `0123456789ab`; 7 of 9 resources in sync.
//!
//! <details>
//! <summary><code>app/SCHEDULER</code> 1 to update</summary>
//!
//! ```diff
//! @@ desired/app_scheduler.yml:2 @@
//! ! update service scheduler (manifest changed)
//! -     image: registry/app:1
//! +     image: registry/app:2
//! -     environment.MODE: (hidden)
//! +     environment.MODE: (hidden)
//! # remove service old (no longer described), waits for a second look
//! ```
//!
//! </details>
//! ````
//!
//! # Guarantees
//!
//! - Values of environment variables are not shown: a comment is read by everybody.
//! - Nothing from a manifest or the cluster becomes markup, a link or a mention: it only stands inside fenced blocks,
//!   whose fence is longer than any row of backticks in them, and as escaped text in a summary's `<code>`.
//! - It never has more than [`MAX_CHARACTERS`]; what does not fit is counted. Resources that lose something come
//!   first.

use super::removal::block_words;
use super::words::{around_difference, count_of, counts, in_sync, printable, way_out};
use crate::model::text::{cut, html};
use crate::model::{
    ConditionKind, FieldChange, Ignored, Plan, PlannedStep, Problem, PruneVerdict, ResourceId, ResourcePlan,
    ServiceStep, Severity, Step, StepVerb, Suspension, Wait,
};

/// The longest comment that GitHub takes, in characters; other hosts take longer ones.
pub const MAX_CHARACTERS: usize = 65_536;

/// Room for saying what is left out.
const CLOSING: usize = 200;

/// Most lines of one block. With the limits below, the head of the comment and one resource always fit.
const LINES: usize = 100;

/// Most characters of a value, a message or a name: whoever has longer ones looks at the plan itself.
const VALUE: usize = 200;

/// Most problems, and most names of held resources.
const LISTED: usize = 30;

/// A plan as Markdown, with what is wrong in the manifests. Resources that need nothing are only counted.
pub fn to_markdown(plan: &Plan, problems: &[Problem]) -> String {
    let mut page = Page::default();
    page.heading(plan);
    page.problems(problems);
    page.prune(&plan.prune);
    let (losing, others): (Vec<_>, Vec<_>) =
        plan.resources.iter().filter(|(_, resource)| is_told(resource)).partition(|(_, resource)| loses(resource));
    let all = losing.len() + others.len();
    let mut shown = 0;
    for (id, resource) in losing.into_iter().chain(others) {
        if !page.fits(&section(id, resource)) {
            break;
        }
        shown += 1;
    }
    if shown < all {
        let more = count_of(all - shown, "more resource");
        page.add(&format!("{more} did not fit into this comment; `ofop plan` shows them.\n"));
    }
    page.text
}

/// Whether there is anything to say of a resource.
fn is_told(resource: &ResourcePlan) -> bool {
    let plain = resource.steps.is_empty() && resource.held.is_empty() && resource.ignored.is_empty();
    !plain || told(resource).next().is_some()
}

/// What is known besides; the page's head tells the rest.
fn told(resource: &ResourcePlan) -> impl Iterator<Item = (ConditionKind, &str)> {
    resource
        .conditions
        .iter()
        .filter(|condition| condition.kind != ConditionKind::PruneBlocked)
        .filter(|condition| condition.reason != Suspension::Everything.as_str())
        .map(|condition| (condition.kind, condition.message.as_str()))
}

/// Whether something is taken away, now or later.
fn loses(resource: &ResourcePlan) -> bool {
    let held = resource.held.iter().map(|held| &held.step);
    resource.steps.iter().chain(held).any(|step| step.step.is_destructive())
}

/// The comment, with the number of its characters.
#[derive(Default)]
struct Page {
    text: String,
    length: usize,
}

impl Page {
    fn add(&mut self, text: &str) {
        self.length += text.chars().count();
        self.text.push_str(text);
    }

    /// Adds a text if there is room for it.
    fn fits(&mut self, text: &str) -> bool {
        let fits = self.length + text.chars().count() + CLOSING <= MAX_CHARACTERS;
        if fits {
            self.add(text);
        }
        fits
    }

    fn heading(&mut self, plan: &Plan) {
        let counts = counts(plan.resources.values().map(|resource| &**resource));
        let words = if counts.is_empty() { "nothing to do".to_owned() } else { counts.join(", ") };
        self.add(&format!("### Plan: {words}\n\n"));
        // A commit or a hash: letters and digits, and no others.
        let revision: String = plan.revision.short().chars().filter(char::is_ascii_alphanumeric).collect();
        let revision = if revision.is_empty() { String::new() } else { format!("Revision `{revision}`; ") };
        self.add(&format!("{revision}{}.\n\n", in_sync(plan)));
        if plan.suspended.is_some() {
            self.add("**Everything is suspended:** nothing is done until `ofop resume --all`.\n\n");
        }
        if plan.freeze.is_some() {
            self.add("**Changes from manifests are frozen**, until `ofop freeze --end`; repairs go on.\n\n");
        }
    }

    fn problems(&mut self, problems: &[Problem]) {
        if problems.is_empty() {
            return;
        }
        let of = |severity| problems.iter().filter(move |problem| problem.severity == severity);
        let (errors, warnings) = (of(Severity::Error).count(), of(Severity::Warning).count());
        let words = match (errors, warnings) {
            (0, _) => count_of(warnings, "warning"),
            (_, 0) => count_of(errors, "error"),
            (_, _) => format!("{} and {}", count_of(errors, "error"), count_of(warnings, "warning")),
        };
        let held = if errors > 0 { " A file with an error takes no part, and nothing is removed." } else { "" };
        self.add(&format!("**{words} in the manifests.**{held}\n\n"));
        let mut block = Block::new("text");
        for problem in of(Severity::Error).chain(of(Severity::Warning)).take(LISTED) {
            let severity = if problem.severity == Severity::Warning { "warning: " } else { "" };
            block.line("", &format!("{severity}{problem}"));
        }
        if problems.len() > LISTED {
            block.line("", &format!("and {} more", problems.len() - LISTED));
        }
        self.add(&block.fenced());
    }

    fn prune(&mut self, verdict: &PruneVerdict) {
        let PruneVerdict::Blocked { resources, reason } = verdict else { return };
        let count = count_of(resources.len(), "resource");
        self.add(&format!("**Removals are held ({count}):** {}. {}\n\n", block_words(reason), way_out(reason)));
        let mut block = Block::new("text");
        for id in resources.iter().take(LISTED) {
            block.line("", &id.to_string());
        }
        if resources.len() > LISTED {
            block.line("", &format!("and {} more", resources.len() - LISTED));
        }
        self.add(&block.fenced());
    }
}

/// One resource: folded, with its steps as a diff.
fn section(id: &ResourceId, resource: &ResourcePlan) -> String {
    let mut block = Block::new("diff");
    if let Some(origin) = &resource.origin {
        block.line("@@ ", &format!("{origin} @@"));
    }
    for step in &resource.steps {
        block.step(step, None);
    }
    for held in &resource.held {
        block.step(&held.step, Some(&held.wait));
    }
    for ignored in &resource.ignored {
        block.ignored(ignored);
    }
    for (kind, message) in told(resource) {
        block.line("! ", &format!("{}: {message}", kind.as_str()));
    }
    let counts = counts(std::iter::once(resource));
    let words = if counts.is_empty() { "nothing to do".to_owned() } else { counts.join(", ") };
    format!(
        "<details>\n<summary><code>{}</code> {words}</summary>\n\n{}</details>\n\n",
        html(&cut(&printable(&id.to_string()), VALUE)),
        block.fenced()
    )
}

/// A fenced block in the making.
struct Block {
    language: &'static str,
    lines: Vec<String>,
    left_out: usize,
}

impl Block {
    fn new(language: &'static str) -> Self {
        Block { language, lines: Vec::new(), left_out: 0 }
    }

    /// Adds one line, and never more: line ends are written out.
    fn line(&mut self, start: &str, text: &str) {
        if self.lines.len() < LINES {
            self.lines.push(format!("{start}{}", cut(&printable(text), VALUE)));
        } else {
            self.left_out += 1;
        }
    }

    fn step(&mut self, step: &PlannedStep, wait: Option<&Wait>) {
        let sign = match (step.step.verb(), wait) {
            // A comment of the diff: it is not done now.
            (_, Some(_)) => "# ",
            (StepVerb::Create | StepVerb::Register, None) => "+ ",
            (StepVerb::Update, None) => "! ",
            (StepVerb::Remove | StepVerb::Deregister | StepVerb::Forget, None) => "- ",
        };
        let waits = wait.map_or(String::new(), |wait| format!(", waits for {}", wait.as_str()));
        let (verb, object, reason) = (step.step.verb(), step.step.object(), step.reason.as_str());
        self.line(sign, &format!("{verb} {object} ({reason}){waits}"));
        if let Step::Service(ServiceStep::Create { spec, .. }) = &step.step {
            let replicas = if spec.replicas == 1 { String::new() } else { format!(" x {}", spec.replicas) };
            self.line(if wait.is_some() { "#     " } else { "+     " }, &format!("image: {}{replicas}", spec.image));
        }
        for change in &step.changes {
            self.change(change, wait.is_some());
        }
    }

    fn change(&mut self, change: &FieldChange, held: bool) {
        let (from, to) = match (shown(change, change.from.as_ref()), shown(change, change.to.as_ref())) {
            (Some(from), Some(to)) => {
                let (from, to) = around_difference(&from, &to, VALUE);
                (Some(from), Some(to))
            }
            other => other,
        };
        let field = printable(&change.field);
        let field = cut(&field, VALUE);
        let (minus, plus) = if held { ("# -   ", "# +   ") } else { ("-     ", "+     ") };
        for (sign, value) in [(minus, from), (plus, to)] {
            if let Some(value) = value {
                // The name has its own limit, so that it cannot push the value out.
                self.line(&format!("{sign}{field}: "), &value);
            }
        }
    }

    /// What is there, and what the manifest says that is ignored.
    fn ignored(&mut self, ignored: &Ignored) {
        self.line("  ", &format!("leave {} (ignored)", ignored.object));
        for change in &ignored.changes {
            let words =
                |value| shown(change, value).map_or("(none)".to_owned(), |value| cut(&value, VALUE).into_owned());
            let (live, wanted) = (words(change.from.as_ref()), words(change.to.as_ref()));
            let field = printable(&change.field);
            let field = cut(&field, VALUE);
            self.line(&format!("      {field}: {live}, not "), &wanted);
        }
    }

    /// The block between fences that nothing in it can close.
    fn fenced(mut self) -> String {
        if self.left_out > 0 {
            let more = count_of(self.left_out, "more line");
            self.lines.push(format!("# {more}; `ofop plan` shows them"));
        }
        let longest = self.lines.iter().map(|line| longest_row(line)).max().unwrap_or_default();
        let fence = "`".repeat(longest.max(2) + 1);
        format!("{fence}{}\n{}\n{fence}\n\n", self.language, self.lines.join("\n"))
    }
}

/// A value as it may be shown; none where there is none.
fn shown(change: &FieldChange, value: Option<&String>) -> Option<String> {
    value.map(|value| match value.as_str() {
        _ if change.secret => "(hidden)".to_owned(),
        "" => "\"\"".to_owned(),
        value => printable(value),
    })
}

/// The most backticks in a row.
fn longest_row(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}
