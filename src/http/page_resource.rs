//! The page of one resource.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::api::{resource_id, with_events};
use super::html::Html;
use super::page::{fields, foot, head, health_badge, page, running, sync_badge, time};
use super::page_source::event_table;
use crate::model::UpdateState;
use crate::report::ResourceStatus;
use crate::report::history::{ResourceResult, RevisionEntry};
use crate::report::status::{RecordStatus, ServicePresence, ServiceStatus};

pub(super) async fn resource(State(shared): State<Shared>, Path((kind, uuid)): Path<(String, String)>) -> Response {
    let status = shared.report.status();
    let found = match resource_id(&kind, &uuid) {
        Ok(id) => with_events(&shared, &id).await.ok().flatten(),
        Err(_) => None,
    };
    let mut html = Html::default();
    let Some(resource) = found else {
        head(&mut html, "Not found", &status);
        html.raw("<h2>").text(kind).raw("/").text(uuid).raw("</h2>");
        html.raw("<p>No such resource is described or deployed. <a href=\"/\">Show all</a></p>");
        foot(&mut html);
        return (StatusCode::NOT_FOUND, page(html)).into_response();
    };
    head(&mut html, &resource.id.to_string(), &status);
    summary(&mut html, &resource);
    known(&mut html, &resource);
    services(&mut html, &resource.services);
    records(&mut html, &resource.records);
    let events = resource.events.as_deref().unwrap_or_default();
    event_table(&mut html, "What was done last", events.iter().rev(), false);
    revisions(&mut html, resource.revisions.as_deref().unwrap_or_default());
    foot(&mut html);
    page(html)
}

fn summary(html: &mut Html, resource: &ResourceStatus) {
    html.element("<h2>", &resource.id, "</h2><dl><dt>Sync</dt><dd>");
    sync_badge(html, resource.sync);
    since(html, resource.sync_since.as_deref());
    html.raw("</dd><dt>Health</dt><dd>");
    health_badge(html, resource.health);
    since(html, resource.health_since.as_deref());
    html.raw("</dd><dt>Described in</dt><dd>");
    match &resource.origin {
        Some(origin) => html.element("<code>", origin, "</code>"),
        None => html.raw("nowhere any more"),
    };
    if resource.frozen {
        html.raw(" <span class=\"badge warn\">! invalid at the moment, kept as it last was valid</span>");
    }
    html.raw("</dd>");
    if let Some(revision) = &resource.revision {
        html.raw("<dt>Deployed at</dt><dd>revision <code title=\"").text(revision).raw("\">");
        html.text(revision.short()).raw("</code></dd>");
    }
    let handling = &resource.handling;
    if !handling.is_default() {
        html.raw("<dt>Its manifest says</dt><dd>");
        let said =
            [("suspend: true", handling.suspend), ("prune: false", !handling.prune), ("adopt: true", handling.adopt)];
        for (said, _) in said.into_iter().filter(|(_, holds)| *holds) {
            html.element("<code>", said, "</code> ");
        }
        for field in &handling.ignore {
            html.raw("<code>ignore ").text(field).raw("</code> ");
        }
        if !handling.windows.is_default() {
            html.raw("<code>windows ").text(&handling.windows).raw("</code>");
        }
        for first in &handling.after {
            html.raw("<code>after ").text(first).raw("</code> ");
        }
        if let Some(rollout) = &handling.rollout {
            html.raw("<code>rollout ").text(rollout).raw("</code> ");
        }
        html.raw("</dd>");
    }
    if resource.pending_steps > 0 {
        html.element("<dt>Steps to do</dt><dd>", resource.pending_steps, "</dd>");
    }
    for held in &resource.held {
        html.raw("<dt>To do</dt><dd>").text(&held.step).raw(", waits for ").text(&held.waits_for).raw("</dd>");
    }
    if let Some(retry) = &resource.retry {
        html.raw("<dt>Next try</dt><dd>");
        time(html, &retry.at);
        html.raw(" after ").text(retry.failures).raw(" failed</dd>");
    }
    html.raw("</dl>");
}

fn since(html: &mut Html, at: Option<&str>) {
    if let Some(at) = at {
        html.raw(" <span class=\"soft\">since ");
        time(html, at);
        html.raw("</span>");
    }
}

fn known(html: &mut Html, resource: &ResourceStatus) {
    if resource.conditions.is_empty() && resource.drift.is_empty() && resource.ignored.is_empty() {
        return;
    }
    html.raw("<h2>What is known</h2><table><thead><tr><th>What</th><th>Details</th><th>Since</th></tr></thead><tbody>");
    for condition in &resource.conditions {
        html.raw("<tr><td><strong>").text(condition.kind.as_str()).raw("</strong> ").text(&condition.reason);
        html.raw("</td><td>").text(&condition.message).raw("</td><td data-label=\"since\">");
        if let Some(at) = &condition.since {
            time(html, at);
        }
        html.raw("</td></tr>");
    }
    for drift in &resource.drift {
        html.raw("<tr><td><strong>Drift</strong> ").text(drift.drift.as_str().replace('_', " "));
        html.raw("</td><td>").text(&drift.object);
        fields(html, &drift.fields);
        html.raw("</td><td data-label=\"since\">");
        if let Some(at) = &drift.since {
            time(html, at);
        }
        html.raw("</td></tr>");
    }
    for ignored in &resource.ignored {
        html.raw("<tr><td><strong>Ignored</strong></td><td>").text(&ignored.object);
        fields(html, &ignored.fields);
        html.raw("</td><td></td></tr>");
    }
    html.raw("</tbody></table>");
}

fn services(html: &mut Html, services: &[ServiceStatus]) {
    for service in services {
        html.raw("<h2>Service ").text(&service.name).raw(" <small>");
        running(html, service.running(), " running");
        html.raw("</small></h2><dl>");
        let open = match service.presence {
            ServicePresence::Present => "<span class=\"badge good\">✓ ",
            ServicePresence::Missing | ServicePresence::Orphaned => "<span class=\"badge warn\">≠ ",
            ServicePresence::Foreign | ServicePresence::Unreadable => "<span class=\"badge bad\">✗ ",
            ServicePresence::Unknown => "<span class=\"badge\">? ",
        };
        html.raw("<dt>Presence</dt><dd>").element(open, service.presence.as_str(), "</span></dd>");
        html.raw("<dt>Image</dt><dd>").element("<code>", &service.image, "</code></dd>");
        if let Some(id) = &service.id {
            html.raw("<dt>Id</dt><dd>").element("<code>", id, "</code></dd>");
        }
        if let Some((word, message)) = update(&service.update) {
            html.raw("<dt>Update</dt><dd>").text(word).raw(" ").text(message).raw("</dd>");
        }
        html.raw("</dl>");
        tasks(html, service);
    }
}

/// The engine's last update, as people read it.
fn update(update: &UpdateState) -> Option<(&'static str, &str)> {
    match update {
        UpdateState::None => None,
        UpdateState::Updating => Some(("tasks are being replaced", "")),
        UpdateState::Paused(message) => Some(("stopped half-way:", message)),
        UpdateState::Completed => Some(("completed", "")),
        UpdateState::RollbackStarted(message) => Some(("is being rolled back:", message)),
        UpdateState::RollbackPaused(message) => Some(("its rollback stopped half-way:", message)),
        UpdateState::RollbackCompleted(message) => Some(("was rolled back:", message)),
    }
}

fn tasks(html: &mut Html, service: &ServiceStatus) {
    if service.tasks.is_empty() {
        return;
    }
    html.raw(
        "<table><thead><tr><th>Task</th><th>State</th><th>Since</th><th>Node</th><th>Error</th></tr></thead><tbody>",
    );
    for task in &service.tasks {
        html.raw("<tr><td>slot ").text(task.slot).raw(" <code class=\"soft\">");
        html.text(task.id.get(..12).unwrap_or(&task.id)).raw("</code></td><td>").text(task.state.as_str());
        html.raw(if task.wanted { "" } else { " <span class=\"soft\">(leaving)</span>" });
        html.raw("</td><td>");
        time(html, &task.since);
        html.raw("</td><td data-label=\"node\"><span title=\"").text(&task.node).raw("\">");
        html.text(service.host(task)).raw("</span>");
        html.raw("</td><td>").text(&task.error).raw("</td></tr>");
    }
    html.raw("</tbody></table>");
}

fn records(html: &mut Html, records: &[RecordStatus]) {
    if records.is_empty() {
        return;
    }
    html.raw("<h2>Records in the asset registry</h2><table><thead><tr><th>Record</th><th>State</th><th>Type</th>")
        .raw("<th>Service</th><th>Place in the namespace</th></tr></thead><tbody>");
    for record in records {
        html.raw("<tr><td>").text(&record.record).raw("</td><td>");
        html.raw(match (record.wanted, record.registered) {
            (true, Some(true)) => "<span class=\"badge good\">✓ registered</span>",
            (true, Some(false)) => "<span class=\"badge warn\">≠ missing</span>",
            (false, _) => "<span class=\"badge warn\">≠ no longer wanted</span>",
            (true, None) => "<span class=\"badge\">? unknown</span>",
        });
        if let Some(availability) = &record.availability {
            html.raw(" ").text(availability.as_str());
        }
        html.raw("</td><td>").text(record.asset_type.as_deref().unwrap_or_default());
        html.raw("</td><td>").text(record.docker_service.as_deref().unwrap_or_default());
        html.raw("</td><td>").text(record.uns_id.as_deref().unwrap_or_default()).raw("</td></tr>");
    }
    html.raw("</tbody></table>");
}

/// The last revisions that touched it, newest first.
fn revisions(html: &mut Html, revisions: &[RevisionEntry]) {
    if revisions.is_empty() {
        return;
    }
    html.raw("<h2>Last revisions</h2><table><thead><tr><th>First seen</th><th>Revision</th><th>What became of it</th>")
        .raw("<th>What changed</th></tr></thead><tbody>");
    for (entry, own) in revisions.iter().filter_map(|entry| Some((entry, entry.resources.first()?))) {
        html.raw("<tr><td>");
        time(html, &entry.first_seen);
        html.raw("</td><td><code title=\"").text(&entry.revision).raw("\">").text(entry.revision.short());
        html.raw("</code>");
        if let Some(commit) = &entry.commit {
            html.raw(" ").text(&commit.subject).raw(" <span class=\"soft\">by ").text(&commit.author).raw("</span>");
        }
        html.raw("</td><td>").raw(match own.result {
            ResourceResult::Settled => "<span class=\"badge good\">✓ ",
            ResourceResult::OnItsWay => "<span class=\"badge warn\">… ",
            ResourceResult::Failed => "<span class=\"badge bad\">✗ ",
            ResourceResult::Superseded => "<span class=\"badge\">",
        });
        html.text(own.change.as_str()).raw(", ").text(own.result.words()).raw("</span>");
        if let Some(obstacle) = &own.obstacle {
            html.raw(" ").text(&obstacle.message);
        }
        html.raw("</td><td>");
        for step in &own.steps {
            html.text(step.verb).raw(" ").text(&step.object);
            let names: Vec<String> = step.changes.iter().map(|change| change.field.clone()).collect();
            fields(html, &names);
            html.raw("<br>");
        }
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table>");
}
