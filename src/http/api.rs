//! Health, metrics and the JSON API.

use std::sync::{Arc, PoisonError};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;

use super::Shared;
use super::auth::Caller;
use super::hold;
use super::problem::Problem;
use crate::model::nearest::nearest;
use crate::model::{Command, Health, InstanceName, Kind, Request, ResourceId, Suspension, Sync};
use crate::report::{LeaseSummary, ResourceStatus, Status, metrics};

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    reasons: &'a [String],
    warnings: &'a [String],
}

pub(super) async fn readyz(State(shared): State<Shared>) -> Response {
    let status = shared.report.status();
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Ready { ready: status.ready, reasons: &status.not_ready, warnings: &status.warnings })).into_response()
}

pub(super) async fn leaderz(State(shared): State<Shared>) -> Response {
    let lease = LeaseSummary::of(&shared.report.lease_status());
    let code = if lease.leader { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(lease)).into_response()
}

/// What only the operator that may change the cluster takes.
pub(super) fn leads(shared: &Shared) -> Result<(), Problem> {
    let lease = LeaseSummary::of(&shared.report.lease_status());
    if lease.leader { Ok(()) } else { Err(Problem::standby(&lease)) }
}

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], shared.report.metrics()).into_response()
}

/// Which resources are asked for; all by default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    kind: Option<String>,
    sync: Option<String>,
    health: Option<String>,
}

/// The text of a query that must be one of a few words.
pub(super) fn one_of<T: Copy>(
    name: &str,
    text: Option<&str>,
    all: &[T],
    word: fn(T) -> &'static str,
) -> Result<Option<T>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let found = all.iter().copied().find(|value| word(*value).eq_ignore_ascii_case(text));
    found.map(Some).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|value| word(*value)).collect();
        Problem::bad_request(format!("`{name}` must be one of {}", words.join(", ")))
    })
}

pub(super) async fn resources(
    State(shared): State<Shared>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(filter) = filter.map_err(|error| Problem::bad_request(error.body_text()))?;
    let kind = one_of("kind", filter.kind.as_deref(), &Kind::ALL, Kind::as_str)?;
    let sync = one_of("sync", filter.sync.as_deref(), &Sync::ALL, Sync::as_str)?;
    let health = one_of("health", filter.health.as_deref(), &Health::ALL, Health::as_str)?;
    let status = shared.report.status();
    if kind.is_none() && sync.is_none() && health.is_none() {
        return Ok(Json(&*status).into_response());
    }
    let mut status = Status::clone(&status);
    status.resources.retain(|resource: &ResourceStatus| {
        kind.is_none_or(|kind| resource.kind == kind)
            && sync.is_none_or(|sync| resource.sync == sync)
            && health.is_none_or(|health| resource.health == health)
    });
    Ok(Json(status).into_response())
}

/// The resource that a path names; axum has decoded the percent signs.
pub(super) fn resource_id(kind: &str, uuid: &str) -> Result<ResourceId, Problem> {
    format!("{kind}/{uuid}").parse().map_err(|error: crate::model::InvalidName| Problem::not_found(error.to_string()))
}

pub(super) async fn resource(
    State(shared): State<Shared>,
    Path((kind, uuid)): Path<(String, String)>,
) -> Result<Json<ResourceStatus>, Problem> {
    let id = resource_id(&kind, &uuid)?;
    with_events(&shared, &id).await?.map(Json).ok_or_else(|| unknown(&id))
}

/// A resource with its last events, of which some may have to be read from a file.
pub(super) async fn with_events(shared: &Shared, id: &ResourceId) -> Result<Option<ResourceStatus>, Problem> {
    let (report, id) = (shared.report.clone(), id.clone());
    tokio::task::spawn_blocking(move || report.resource(&id)).await.map_err(|_| Problem::stopping())
}

fn unknown(id: &ResourceId) -> Problem {
    Problem::not_found(format!("no resource `{id}` is described or deployed"))
}

pub(super) async fn plan(State(shared): State<Shared>) -> Result<Json<serde_json::Value>, Problem> {
    shared.report.plan().map(Json).ok_or_else(|| Problem::not_yet("no plan has been made yet"))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReconcileBody {
    confirm_prune: bool,
    /// What is tried again at once; everything when none is named.
    resource: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ResourceBody {
    resource: Option<String>,
    /// Everything is meant.
    all: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SuspendBody {
    resource: Option<String>,
    all: bool,
    /// How long, as `2h`.
    #[serde(rename = "for")]
    length: Option<String>,
    /// Until when, RFC 3339.
    until: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Accepted {
    pub(super) accepted: bool,
    /// Why not, where that is no error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Asked {
    accepted: bool,
    /// The status says when this one, or a later one, has been answered.
    request: u64,
}

pub(super) async fn reconcile(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = whole(body)?;
    let wanted: ReconcileBody = if body.is_empty() { ReconcileBody::default() } else { json(&body)? };
    // To look again does no harm; a confirmed removal is for whoever removes.
    if wanted.confirm_prune {
        leads(&shared)?;
    }
    let command = match wanted.resource {
        Some(_) if wanted.confirm_prune => {
            return Err(Problem::bad_request("`resource` and `confirm_prune` exclude each other")
                .hint("removals are confirmed all at once"));
        }
        Some(id) => Command::ReconcileOne(known(&shared.report.status(), &id)?),
        None => Command::Reconcile { confirm_prune: wanted.confirm_prune },
    };
    // Sent and counted as one, so that the numbers are in the order in which the loop takes the requests.
    let mut asked = shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
    try_send(&shared, command, caller)?;
    *asked += 1;
    Ok((StatusCode::ACCEPTED, Json(Asked { accepted: true, request: *asked })).into_response())
}

/// The answer to a word about suspension.
#[derive(Serialize)]
struct Said {
    accepted: bool,
    /// What else a person should know about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(super) async fn suspend(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    leads(&shared)?;
    let body = whole(body)?;
    let SuspendBody { resource, all, length, until, reason } =
        if body.is_empty() { SuspendBody::default() } else { json(&body)? };
    let term = hold::term(length.as_deref(), until.as_deref(), reason.as_deref())?;
    let (id, _) = of_status(&shared, "suspend", ResourceBody { resource, all })?;
    hold::taken(&shared, Command::Suspend(id, term.clone()), &term, caller)
}

pub(super) async fn resume(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    leads(&shared)?;
    let (id, status) = named(&shared, "resume", body)?;
    let note = still_suspended(&status, id.as_ref());
    say(&shared, Command::Resume(id), caller, note)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdoptBody {
    resource: String,
    #[serde(default)]
    from: Option<String>,
    /// Whose it shall be; another operator than this one refuses.
    #[serde(default)]
    instance: Option<String>,
}

pub(super) async fn adopt(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    leads(&shared)?;
    let wanted: AdoptBody = json(&whole(body)?)?;
    let invalid = |error: crate::model::InvalidName| Problem::bad_request(error.to_string());
    let resource: ResourceId = wanted.resource.parse().map_err(invalid)?;
    let from = wanted.from.as_deref().map(InstanceName::new).transpose().map_err(invalid)?;
    let us = is_meant(&shared, wanted.instance)?;
    if from.as_ref() == Some(&us) {
        return Err(Problem::bad_request(format!("what belongs to {us} is this operator's own already")));
    }
    let status = shared.report.status();
    let described = status.get(&resource).is_some_and(|resource| resource.origin.is_some());
    if !described {
        return Err(Problem::not_found(format!("no manifest describes `{resource}`")));
    }
    say(&shared, Command::Adopt { resource, from }, caller, None)
}

/// The resource that a command names, none for everything, and what is known. It must exist: a typo shall not look
/// like success. Nor shall a name that was left out mean everything.
fn named(
    shared: &Shared,
    verb: &str,
    body: Result<Bytes, BytesRejection>,
) -> Result<(Option<ResourceId>, Arc<Status>), Problem> {
    let body = whole(body)?;
    of_status(shared, verb, if body.is_empty() { ResourceBody::default() } else { json(&body)? })
}

fn of_status(shared: &Shared, verb: &str, wanted: ResourceBody) -> Result<(Option<ResourceId>, Arc<Status>), Problem> {
    let status = shared.report.status();
    match (wanted.resource, wanted.all) {
        (None, true) => Ok((None, status)),
        (None, false) | (Some(_), true) => Err(Problem::nothing_named(verb)),
        (Some(id), false) => Ok((Some(known(&status, &id)?), status)),
    }
}

/// The resource of this name, which must exist or be described.
fn known(status: &Status, id: &str) -> Result<ResourceId, Problem> {
    let id = id.parse().map_err(|error: crate::model::InvalidName| Problem::bad_request(error.to_string()))?;
    if status.get(&id).is_some() {
        return Ok(id);
    }
    let names: Vec<String> = status.resources.iter().map(|resource| resource.id.to_string()).collect();
    match nearest(&id.to_string(), names.iter().map(String::as_str)) {
        Some(meant) => Err(unknown(&id).hint(format!("did you mean `{meant}`?"))),
        None => Err(unknown(&id).hint("GET /api/v1/resources (`ofop get resources`) lists what is there")),
    }
}

/// Another operator than the one that is meant refuses.
fn is_meant(shared: &Shared, instance: Option<String>) -> Result<InstanceName, Problem> {
    let us = shared.report.instance();
    match instance.filter(|instance| instance != us.as_str()) {
        Some(instance) => {
            let message = format!("this operator is of the instance {us}, not of {}", instance.escape_debug());
            Err(Problem::bad_request(message))
        }
        None => Ok(us),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneBody {
    resource: String,
    /// Whose it is; another operator than this one refuses.
    #[serde(default)]
    instance: Option<String>,
}

/// The one resource that a command must name, and what is known.
fn one(shared: &Shared, body: Result<Bytes, BytesRejection>) -> Result<(ResourceId, Arc<Status>), Problem> {
    let wanted: OneBody = json(&whole(body)?)?;
    is_meant(shared, wanted.instance)?;
    let status = shared.report.status();
    Ok((known(&status, &wanted.resource)?, status))
}

pub(super) async fn down(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    leads(&shared)?;
    let (id, status) = one(&shared, body)?;
    if let Some((why, hint)) = left_alone(&status, &id) {
        return Err(Problem::left_alone(&why, hint));
    }
    say(&shared, Command::Down(id), caller, None)
}

pub(super) async fn rollout_resume(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    leads(&shared)?;
    say(&shared, Command::RolloutResume, caller, None)
}

pub(super) async fn rollout_abort(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    leads(&shared)?;
    say(&shared, Command::RolloutAbort, caller, None)
}

pub(super) async fn rollout_start(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    leads(&shared)?;
    let (id, _) = one(&shared, body)?;
    say(&shared, Command::RolloutStart(id), caller, None)
}

pub(super) async fn rollouts(State(shared): State<Shared>) -> Response {
    Json(&shared.report.status().rollouts).into_response()
}

/// Why nothing is done to a resource, and what ends that; none for one that is taken care of, or taken down.
fn left_alone(status: &Status, id: &ResourceId) -> Option<(String, String)> {
    if let Some(suspended) = &status.suspended {
        let why = format!("everything is suspended {}", suspended.words("`ofop resume --all`"));
        return Some((why, "`ofop resume --all` ends that".into()));
    }
    let resource = status.get(id)?;
    if resource.handling.suspend {
        return Some((format!("{id} is suspended: {}", by_manifest(resource)), "change the manifest first".into()));
    }
    let person = because(resource, Suspension::Person);
    person.then(|| (format!("{id} is suspended"), format!("`ofop resume {id}` ends that; then take it down")))
}

/// How many resources a note names.
const NAMED: usize = 5;

/// Whether a resource is suspended for this reason.
fn because(resource: &ResourceStatus, reason: Suspension) -> bool {
    resource.conditions.iter().any(|condition| reason.is_told_by(condition.kind, &condition.reason))
}

fn by_manifest(resource: &ResourceStatus) -> String {
    let file = resource.origin.as_ref().map(|origin| format!(" in {}", origin.file)).unwrap_or_default();
    format!("`x-ofop`{file} says `suspend: true`")
}

/// What stays suspended although a person resumes this resource, or everything.
fn still_suspended(status: &Status, resumed: Option<&ResourceId>) -> Option<String> {
    let Some(id) = resumed else {
        let stays: Vec<&ResourceStatus> = status
            .resources
            .iter()
            .filter(|resource| {
                [Suspension::Person, Suspension::Manifest, Suspension::TakenDown]
                    .iter()
                    .any(|why| because(resource, *why))
            })
            .collect();
        let why = |resource: &&ResourceStatus| match because(resource, Suspension::Manifest) {
            true => format!("{} ({})", resource.id, by_manifest(resource)),
            false => format!("{} (`ofop resume {}`)", resource.id, resource.id),
        };
        let named: Vec<String> = stays.iter().take(NAMED).map(why).collect();
        let more = if stays.len() > NAMED { format!(" and {} more", stays.len() - NAMED) } else { String::new() };
        return (!stays.is_empty()).then(|| format!("still suspended by themselves: {}{more}", named.join(", ")));
    };
    let mut notes = Vec::new();
    if let Some(resource) = status.get(id).filter(|resource| resource.handling.suspend) {
        notes.push(format!("{id} stays suspended: {}", by_manifest(resource)));
    }
    if let Some(suspended) = &status.suspended {
        notes.push(format!("everything is suspended {}", suspended.words("`ofop resume --all`")));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn say(shared: &Shared, command: Command, caller: Caller, note: Option<String>) -> Result<Response, Problem> {
    try_send(shared, command, caller)?;
    Ok((StatusCode::ACCEPTED, Json(Said { accepted: true, note })).into_response())
}

pub(super) fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::too_large(super::MAX_BODY)
        } else {
            Problem::bad_request("the body could not be read")
        }
    })
}

pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("the body is not as expected: {error}")))
}

pub(super) fn try_send(shared: &Shared, command: Command, caller: Caller) -> Result<(), Problem> {
    caller.may(&command)?;
    shared.commands.try_send(Request { command, actor: caller.actor }).map_err(|error| match error {
        TrySendError::Full(_) => Problem::busy(),
        TrySendError::Closed(_) => Problem::stopping(),
    })
}
