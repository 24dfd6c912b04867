//! The status page: what matters first, everything else a click away. It works without scripts.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Shared;
use super::html::Html;
use super::page_source::{self, event_table};
use crate::model::{Health, HoldStatus, Severity, Sync};
use crate::report::status::{PartState, PartStatus, PruneState, ResourceStatus, Running};
use crate::report::{LeaseSummary, Status};

/// How many resources one page shows; more make a browser slow.
const PAGE: usize = 200;

/// How many problems the page shows; the rest is counted.
const PROBLEMS: usize = 20;

/// How many events the page shows.
const EVENTS: usize = 15;

/// The reason for which a person's word helps (`PruneBlock::as_str`).
const GUARDED: &str = "guard";

/// Which resources to show.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    /// A part of the name.
    #[serde(default)]
    q: String,
    /// `all` or `attention`.
    #[serde(default)]
    show: String,
    /// From 1.
    #[serde(default)]
    page: Option<usize>,
}

pub(super) async fn overview(State(shared): State<Shared>, wanted: Result<Query<Wanted>, QueryRejection>) -> Response {
    // Whatever a person typed, the page shows something.
    let wanted = wanted.map(|Query(wanted)| wanted).unwrap_or_default();
    let status = shared.report.status();
    let (events, _) = shared.report.events(0);
    let mut html = Html::default();
    head(&mut html, &title(&status), &status);
    numbers(&mut html, &status);
    parts(&mut html, &status);
    notes(&mut html, &status);
    resources(&mut html, &status, &wanted);
    let from = events.len().saturating_sub(EVENTS);
    event_table(&mut html, "What was done last", events[from..].iter().rev(), true);
    foot(&mut html);
    page(html)
}

/// The number that needs a person first, for a tab in the background.
fn title(status: &Status) -> String {
    let waiting = status.resources.iter().filter(|resource| resource.verdict.needs_attention()).count();
    match waiting + status.summary.manifest_errors + status.warnings.len() {
        0 => "OpenFactory operator".to_owned(),
        number => format!("({number}) OpenFactory operator"),
    }
}

pub(super) fn page(html: Html) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html.into_string()).into_response()
}

pub(super) fn head(html: &mut Html, title: &str, status: &Status) {
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .element("<title>", title, "</title>")
        .raw("<link rel=\"stylesheet\" href=\"/assets/status.css\"><link rel=\"icon\" href=\"/favicon.ico\">")
        .raw("<script src=\"/assets/status.js\" defer></script>")
        .raw("<noscript><meta http-equiv=\"refresh\" content=\"15\"></noscript></head><body>")
        .raw("<header><h1><a href=\"/\">OpenFactory operator</a></h1></header><main><p class=\"soft\">");
    if status.revision.0.is_empty() {
        html.raw("no revision yet");
    } else {
        html.raw("revision <code title=\"").text(&status.revision).raw("\">");
        html.text(status.revision.short()).raw("</code>");
    }
    if let Some(at) = &status.time {
        html.raw(" · last look ");
        time(html, at);
    }
    html.raw("</p>");
}

pub(super) fn foot(html: &mut Html) {
    html.raw("</main><footer><a href=\"/api/v1/resources\">resources</a> · <a href=\"/api/v1/plan\">plan</a> · ")
        .raw("<a href=\"/api/v1/events\">events</a> · <a href=\"/metrics\">metrics</a> · ")
        .raw("<a href=\"/readyz\">ready?</a> · version ")
        .text(env!("CARGO_PKG_VERSION"))
        .raw("</footer><p id=\"lost\" class=\"bad\" hidden>The operator does not answer.</p></body></html>\n");
}

/// A time; the script turns it into the reader's own.
pub(super) fn time(html: &mut Html, at: &str) {
    html.raw("<time datetime=\"").text(at).raw("\">").text(at).raw("</time>");
}

fn numbers(html: &mut Html, status: &Status) {
    let summary = &status.summary;
    html.raw("<ul class=\"numbers\">");
    for (name, number) in [
        ("resources", summary.resources),
        ("in sync", summary.synced),
        ("healthy", summary.healthy),
        ("out of sync", summary.out_of_sync),
        ("degraded", summary.degraded),
        ("with drift", summary.drifted),
        ("manifest errors", summary.manifest_errors),
    ] {
        html.raw("<li><b>").text(number).raw("</b>").text(name).raw("</li>");
    }
    html.raw("</ul>");
}

fn parts(html: &mut Html, status: &Status) {
    html.raw("<ul class=\"parts\">");
    for (name, part) in
        [("Source", &status.source.part), ("Platform", &status.platform), ("Registry", &status.registry)]
    {
        html.raw("<li>").text(name).raw(" ");
        part_badge(html, part);
        if let Some(since) = &part.since {
            html.raw(" <span class=\"soft\">since ");
            time(html, since);
            html.raw("</span>");
        }
        for message in part.message.iter().chain(&part.warnings) {
            html.raw("<br>").text(message);
        }
        if name == "Source" {
            page_source::place(html, &status.source);
            page_source::not_manifests(html, &status.source);
        }
        html.raw("</li>");
    }
    if let Some(lease) = &status.lease {
        lease_part(html, lease);
    }
    html.raw("</ul>");
}

/// Who may change the cluster, since when, and where that operator is asked.
fn lease_part(html: &mut Html, lease: &LeaseSummary) {
    let open = match lease.standing.as_str() {
        "holder" => "<span class=\"badge good\">✓ ",
        "standby" => "<span class=\"badge\">‖ ",
        "unguarded" => "<span class=\"badge warn\">! ",
        "blocked" => "<span class=\"badge bad\">✗ ",
        _ => "<span class=\"badge\">? ",
    };
    html.raw("<li>Lease ").element(open, &lease.standing, "</span>");
    if let Some(holder) = &lease.holder {
        if let Some(since) = &holder.since {
            html.raw(" <span class=\"soft\">held since ");
            time(html, since);
            html.raw("</span>");
        }
        html.raw("<br>by <code>").text(&holder.run).raw("</code>, ofop ").text(&holder.version);
        if let Some(address) = &holder.address {
            html.raw(", API at <code>").text(address).raw("</code>");
        }
    }
    html.raw("</li>");
}

fn part_badge(html: &mut Html, part: &PartStatus) {
    let open = match part.state {
        PartState::Up => "<span class=\"badge good\">✓ ",
        PartState::Partial => "<span class=\"badge warn\">! ",
        PartState::Down => "<span class=\"badge bad\">✗ ",
        PartState::Unknown => "<span class=\"badge\">? ",
    };
    html.element(open, part.state.as_str(), "</span>");
}

/// Since when, until when and why.
fn hold(html: &mut Html, hold: &HoldStatus) {
    html.raw(" since ");
    time(html, &hold.since);
    if let Some(until) = &hold.until {
        html.raw(", until ");
        time(html, until);
    }
    if let Some(reason) = &hold.reason {
        html.raw(" (").text(reason).raw(")");
    }
}

/// What stands in the way: a person's word, manifests that are wrong, removals that wait.
fn notes(html: &mut Html, status: &Status) {
    if let Some(notice) = status.lease.as_ref().and_then(LeaseSummary::notice) {
        html.raw("<div class=\"note warn\"><strong>Who changes the cluster:</strong> ").text(notice).raw("</div>");
    }
    if let Some(suspended) = &status.suspended {
        html.raw("<div class=\"note warn\"><strong>Everything is suspended</strong>");
        hold(html, suspended);
        html.raw(": nothing is changed. <code>ofop resume --all</code> ends that.</div>");
    }
    if let Some(freeze) = &status.freeze {
        html.raw("<div class=\"note warn\"><strong>Changes from manifests are frozen</strong>");
        hold(html, freeze);
        html.raw(": repairs go on. <code>ofop freeze --end</code> ends that.</div>");
    }
    if let Some(trouble) = &status.source.trouble {
        page_source::trouble(html, trouble);
    }
    if let Some(message) = &status.notes.message {
        html.raw("<div class=\"note warn\"><strong>What people said may not survive a restart:</strong> ");
        html.text(message).raw("</div>");
    }
    if !status.problems.is_empty() {
        let errors = status.summary.manifest_errors;
        let open = if errors > 0 { "<div class=\"note bad\">" } else { "<div class=\"note warn\">" };
        html.raw(open).raw("<strong>");
        match errors {
            0 => html.raw("The manifests have warnings."),
            1 => html.raw("One error in the manifests: its file stays as it last was valid, and nothing is removed."),
            more => html
                .text(more)
                .raw(" errors in the manifests: their files stay as they last were valid, and nothing is removed."),
        };
        html.raw("</strong><ul>");
        let (mut sorted, shown): (Vec<_>, _) = (status.problems.iter().collect(), PROBLEMS);
        sorted.sort_by_key(|problem| problem.severity);
        for problem in sorted.iter().take(shown) {
            html.raw("<li>");
            if problem.severity == Severity::Warning {
                html.raw("warning: ");
            }
            html.raw("<code>").text(&problem.file);
            if problem.line > 0 {
                html.text(format_args!(":{}:{}", problem.line, problem.column));
            }
            html.raw("</code> ");
            if !problem.path.is_empty() {
                html.element("<code>", &problem.path, "</code> ");
            }
            html.text(&problem.message);
            if let Some(hint) = &problem.hint {
                html.raw(" <span class=\"soft\">— ").text(hint).raw("</span>");
            }
            html.raw("</li>");
        }
        if sorted.len() > shown {
            html.raw("<li>and ").text(sorted.len() - shown).raw(" more</li>");
        }
        html.raw("</ul></div>");
    }
    if status.prune.state == PruneState::Blocked {
        html.raw("<div class=\"note warn\"><strong>Removal of ").text(status.prune.resources.len());
        html.raw(if status.prune.resources.len() == 1 { " resource" } else { " resources" }).raw(" waits:</strong> ");
        html.text(status.prune.message.as_deref().unwrap_or_default());
        if status.prune.reason.as_deref() == Some(GUARDED) {
            html.raw(
                ". If this is meant, confirm it with <code>ofop reconcile --confirm-prune</code>; if not, check that ",
            )
            .raw("the manifests are there.");
        }
        html.raw("</div>");
    }
}

fn resources(html: &mut Html, status: &Status, wanted: &Wanted) {
    let needle = wanted.q.trim().to_lowercase();
    let attention = wanted.show == "attention";
    let mut shown: Vec<_> = status
        .resources
        .iter()
        .filter(|resource| needle.is_empty() || resource.id.to_string().to_lowercase().contains(&needle))
        .filter(|resource| !attention || resource.verdict.needs_attention())
        .collect();
    // Stable: inside both groups the order stays that of the names.
    shown.sort_by_key(|resource| !resource.verdict.needs_attention());
    let pages = shown.len().div_ceil(PAGE).max(1);
    let page = wanted.page.unwrap_or(1).clamp(1, pages);

    html.raw("<h2>Resources</h2><form method=\"get\" action=\"/\">")
        .raw("<input type=\"search\" name=\"q\" placeholder=\"Part of a name\" aria-label=\"Part of a name\" value=\"")
        .text(&wanted.q)
        .raw("\"><select name=\"show\" aria-label=\"Which\"><option value=\"all\">all</option><option value=\"attention\"")
        .raw(if attention { " selected" } else { "" })
        .raw(">that need attention</option></select><button>Show</button></form>");
    if shown.is_empty() {
        html.raw("<p class=\"soft\">").raw(if status.resources.is_empty() {
            "Nothing is described, and nothing exists under our mark."
        } else {
            "No resource is like that."
        });
        html.raw("</p>");
        return;
    }
    html.raw("<table><thead><tr><th>Resource</th><th>Sync</th><th>Health</th><th>Running</th><th>What is known</th>")
        .raw("<th>Described in</th></tr></thead><tbody>");
    for resource in shown.iter().skip((page - 1) * PAGE).take(PAGE) {
        row(html, resource);
    }
    html.raw("</tbody></table>");
    if pages > 1 {
        html.raw("<p class=\"pages\">");
        if page > 1 {
            page_link(html, wanted, page - 1, "‹ earlier");
        }
        html.raw("<span class=\"soft\">page ").text(page).raw(" of ").text(pages).raw("</span>");
        if page < pages {
            page_link(html, wanted, page + 1, "later ›");
        }
        html.raw("</p>");
    }
}

fn page_link(html: &mut Html, wanted: &Wanted, page: usize, text: &'static str) {
    html.raw("<a href=\"/?q=").segment(&wanted.q).raw("&amp;show=").segment(&wanted.show).raw("&amp;page=").text(page);
    html.raw("\">").raw(text).raw("</a>");
}

fn row(html: &mut Html, resource: &ResourceStatus) {
    html.raw("<tr><td class=\"name\">");
    link(html, resource.kind.as_str(), &resource.uuid);
    html.raw("</td><td class=\"badges\">");
    sync_badge(html, resource.sync);
    html.raw("</td><td class=\"badges\">");
    health_badge(html, resource.health);
    html.raw("</td><td data-label=\"running\">");
    match resource.running() {
        Some(replicas) => running(html, replicas, ""),
        None => drop(html.raw("<span class=\"soft\">no service</span>")),
    }
    html.raw("</td><td>");
    for condition in &resource.conditions {
        html.raw("<p><strong>").text(&condition.reason).raw("</strong> ").text(&condition.message).raw("</p>");
    }
    for drift in &resource.drift {
        html.raw("<p><strong>drift</strong> ")
            .text(&drift.object)
            .raw(" ")
            .text(drift.drift.as_str().replace('_', " "));
        fields(html, &drift.fields);
        html.raw("</p>");
    }
    for ignored in &resource.ignored {
        html.raw("<p class=\"soft\">ignored: ").text(&ignored.object);
        fields(html, &ignored.fields);
        html.raw("</p>");
    }
    for held in &resource.held {
        html.raw("<p class=\"soft\">").text(&held.step).raw(" waits for ").text(&held.waits_for).raw("</p>");
    }
    if let Some(block) = resource.verdict.block() {
        html.raw("<p>→ ").text(&block.hint).raw("</p>");
    }
    if let Some(retry) = &resource.retry {
        html.raw("<p class=\"soft\">next try ");
        time(html, &retry.at);
        html.raw("</p>");
    }
    html.raw("</td><td class=\"origin\">");
    match &resource.origin {
        Some(origin) => html.element("<code>", origin, "</code>"),
        None => html.raw("<span class=\"soft\">nowhere any more</span>"),
    };
    html.raw("</td></tr>");
}

/// How many replicas run, of how many; with the verb where no heading says it.
pub(super) fn running(html: &mut Html, replicas: Running, verb: &'static str) {
    html.text(replicas.running);
    match replicas.wanted {
        Some(wanted) => html.raw(" of ").text(wanted).raw(verb),
        None => html.raw(verb).raw(", none wanted"),
    };
}

/// A link to a resource's own page, which bears its name.
pub(super) fn link(html: &mut Html, kind: &str, uuid: &str) {
    html.raw("<a href=\"/resources/").segment(kind).raw("/").segment(uuid).raw("\">");
    html.text(kind).raw("/").text(uuid).raw("</a>");
}

/// Names of fields, in brackets.
pub(super) fn fields(html: &mut Html, fields: &[String]) {
    if !fields.is_empty() {
        html.raw(" <span class=\"soft\">(").text(fields.join(", ")).raw(")</span>");
    }
}

pub(super) fn sync_badge(html: &mut Html, sync: Sync) {
    let (open, text) = match sync {
        Sync::Synced => ("<span class=\"badge good\">✓ ", "in sync"),
        Sync::OutOfSync => ("<span class=\"badge warn\">≠ ", "out of sync"),
        Sync::Unknown => ("<span class=\"badge\">? ", "unknown"),
    };
    html.element(open, text, "</span>");
}

pub(super) fn health_badge(html: &mut Html, health: Health) {
    let (open, text) = match health {
        Health::Healthy => ("<span class=\"badge good\">✓ ", "healthy"),
        Health::Progressing => ("<span class=\"badge warn\">… ", "progressing"),
        Health::Degraded => ("<span class=\"badge bad\">✗ ", "degraded"),
        Health::RolledBack => ("<span class=\"badge bad\">↶ ", "rolled back"),
        Health::Waiting => ("<span class=\"badge warn\">… ", "waiting"),
        Health::Suspended => ("<span class=\"badge\">‖ ", "suspended"),
        Health::Unknown => ("<span class=\"badge\">? ", "unknown"),
    };
    html.element(open, text, "</span>");
}
