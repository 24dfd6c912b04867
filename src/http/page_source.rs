//! The parts of the pages about where manifests come from, and about what happened.

use super::html::Html;
use super::page::{fields, link, time};
use crate::report::source::{CommitStatus, SourceChange, TroubleStatus};
use crate::report::{CommandEvent, ConditionEvent, Entry, Event, EventOutcome, SourceEvent, SourceStatus};

/// Where the source is, and the commit in force.
pub(super) fn place(html: &mut Html, source: &SourceStatus) {
    if let Some(kind) = source.kind {
        html.raw("<br><span class=\"soft\">").text(kind.as_str()).raw("</span> <code>").text(&source.location);
        html.raw("</code>");
    }
    for part in source.branch.iter().chain(Some(&source.path).filter(|path| !path.is_empty())) {
        html.raw(" <code>").text(part).raw("</code>");
    }
    if let Some(commit) = &source.commit {
        html.raw("<br>");
        self::commit(html, commit);
        html.raw(" <span class=\"soft\">");
        time(html, &commit.time);
        html.raw("</span>");
    }
}

/// Files beside the manifests that are none.
pub(super) fn not_manifests(html: &mut Html, source: &SourceStatus) {
    if source.not_manifests.is_empty() {
        return;
    }
    html.raw("<details class=\"soft\"><summary>").text(source.not_manifests_total);
    html.raw(" files are not manifests</summary><ul>");
    for other in &source.not_manifests {
        html.raw("<li><code>").text(&other.file).raw("</code> ").text(&other.reason).raw("</li>");
    }
    html.raw("</ul></details>");
}

fn commit(html: &mut Html, commit: &CommitStatus) {
    html.raw("commit <code title=\"").text(&commit.id).raw("\">").text(&commit.short).raw("</code> ");
    html.text(&commit.subject).raw(" <span class=\"soft\">by ").text(&commit.author).raw("</span>");
}

/// Why the newest manifests are not in force.
pub(super) fn trouble(html: &mut Html, trouble: &TroubleStatus) {
    html.raw("<div class=\"note bad\"><strong>The newest manifests are not in force (").text(trouble.reason.as_str());
    html.raw("); nothing is removed.</strong><ul><li>").text(&trouble.message);
    if let Some(hint) = &trouble.hint {
        html.raw(" <span class=\"soft\">— ").text(hint).raw("</span>");
    }
    html.raw("</li>");
    if let Some(refused) = &trouble.refused {
        html.raw("<li>refused: ");
        commit(html, refused);
        html.raw("</li>");
    }
    if let Some(since) = &trouble.since {
        html.raw("<li>since ");
        time(html, since);
        html.raw("</li>");
    }
    html.raw("</ul></div>");
}

/// Events, newest first.
pub(super) fn event_table<'a>(
    html: &mut Html,
    heading: &'static str,
    events: impl Iterator<Item = &'a Entry>,
    with_resource: bool,
) {
    let mut events = events.peekable();
    html.element("<h2>", heading, "</h2>");
    if events.peek().is_none() {
        html.raw("<p class=\"soft\">Nothing yet.</p>");
        return;
    }
    html.raw("<table><thead><tr><th>When</th>").raw(if with_resource { "<th>Resource</th>" } else { "" });
    html.raw("<th>What</th><th>Why</th><th>Outcome</th></tr></thead><tbody>");
    for event in events {
        match event {
            Entry::Change(event) => change_row(html, event, with_resource),
            Entry::Command(event) => command_row(html, event, with_resource),
            Entry::Condition(event) => condition_row(html, event, with_resource),
            Entry::Source(event) => source_row(html, event, with_resource),
        }
    }
    html.raw("</tbody></table>");
}

fn change_row(html: &mut Html, event: &Event, with_resource: bool) {
    html.raw("<tr><td>");
    time(html, &event.time);
    html.raw("</td>");
    if with_resource {
        html.raw("<td class=\"name\">");
        link(html, event.resource.kind.as_str(), event.resource.uuid.as_str());
        html.raw("</td>");
    }
    html.raw("<td class=\"what\">")
        .text(event.verb)
        .raw(" ")
        .text(&event.object)
        .raw("</td><td data-label=\"because:\">");
    html.text(event.reason.as_str());
    fields(html, &event.fields);
    html.raw("</td><td>");
    match &event.outcome {
        EventOutcome::Succeeded => html.raw("<span class=\"badge good\">✓ done</span>"),
        EventOutcome::Failed { kind, message } => {
            let open = if kind.is_race() { "<span class=\"badge\">" } else { "<span class=\"badge bad\">✗ " };
            html.element(open, kind.as_str(), "</span>").raw(" ").text(message)
        }
    };
    html.raw(" <span class=\"soft\">").text(event.milliseconds).raw(" ms</span></td></tr>");
}

fn command_row(html: &mut Html, event: &CommandEvent, with_resource: bool) {
    html.raw("<tr><td>");
    time(html, &event.time);
    html.raw("</td>");
    if with_resource {
        html.raw("<td class=\"name\">");
        match &event.resource {
            Some(resource) => link(html, resource.kind.as_str(), resource.uuid.as_str()),
            None if event.refused.is_some() => {}
            None => _ = html.raw("everything"),
        }
        html.raw("</td>");
    }
    html.raw("<td class=\"what\">").text(&event.message).raw("</td><td data-label=\"because:\">command</td>");
    html.raw("<td>by ").text(&event.actor);
    if event.more > 0 {
        html.raw(" (and ").text(event.more).raw(" more before)");
    }
    html.raw("</td></tr>");
}

fn condition_row(html: &mut Html, event: &ConditionEvent, with_resource: bool) {
    html.raw("<tr><td>");
    time(html, &event.time);
    html.raw("</td>");
    if with_resource {
        html.raw("<td class=\"name\">");
        link(html, event.resource.kind.as_str(), event.resource.uuid.as_str());
        html.raw("</td>");
    }
    html.raw("<td class=\"what\">").text(event.condition.as_str()).raw(" ").text(event.change.as_str());
    html.raw("</td><td data-label=\"because:\">").text(&event.reason);
    html.raw("</td><td>").text(&event.message).raw("</td></tr>");
}

fn source_row(html: &mut Html, event: &SourceEvent, with_resource: bool) {
    html.raw("<tr><td>");
    time(html, &event.time);
    html.raw("</td>").raw(if with_resource { "<td class=\"name\">source</td>" } else { "" });
    html.raw("<td class=\"what\">");
    if let Some(commit) = &event.commit {
        self::commit(html, commit);
    }
    html.raw("</td><td data-label=\"because:\">");
    html.text(event.reason.map_or("", |reason| reason.as_str())).raw("</td><td>");
    let open = match event.change {
        SourceChange::Commit | SourceChange::Recovered => "<span class=\"badge good\">✓ ",
        SourceChange::Refused | SourceChange::Trouble => "<span class=\"badge bad\">✗ ",
    };
    html.element(open, event.change.as_str(), "</span>").raw(" ").text(&event.message).raw("</td></tr>");
}
