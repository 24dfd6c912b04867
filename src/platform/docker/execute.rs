//! Creating, replacing, starting and removing one container.
//!
//! # Replacing, and what a death in between leaves
//!
//! | done so far | left behind | next pass |
//! |---|---|---|
//! | the new one is created under [`next_name`] | the old one, running | the update again; the leftover goes first |
//! | the old one is stopped | the old one, stopped | the update again |
//! | … and set aside under [`old_name`] | nobody bears the name | creates it |
//! | … the new one bears the name | it does not run | starts it |
//! | … and runs | the old one, stopped, aside | removes it as an orphan |
//!
//! Leftovers carry the mark of their resource and names that nothing desires, so planning removes them.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::watch::Shared;
use super::{body, convert, raw};
use crate::model::{FailureKind, ImageRef, Mark, ServiceId, ServiceName, ServiceSpec, ServiceStep, StepFailure};
use crate::platform::access;
use crate::platform::credentials::{RegistryAuth, denies};
use crate::platform::engine::{Act, CallError, Engine, encode};
use crate::platform::scrub::Scrubber;

const INSPECT: Act = Act::read("inspect the container");
const PULL: Act = Act::write("pull the image");
const CREATE: Act = Act::write("create the container");
const CONNECT: Act = Act::write("connect the container to a network");
const START: Act = Act::write("start the container");
const UNPAUSE: Act = Act::write("unpause the container");
const STOP: Act = Act::write("stop the container");
const RENAME: Act = Act::write("rename the container");
const REMOVE: Act = Act::write("remove the container");

/// Length of a container's id. The engine takes a prefix of an id, or a name, for the id itself; a text of this
/// length from a snapshot is neither.
const ID_LENGTH: usize = 64;
/// How long a container has to end after it was asked to, in seconds, where it says nothing itself: Docker's own default.
const GRACE_SECONDS: u32 = 10;
/// The longest time that it is given, in seconds: the call must end within the time limit of calls.
const LONGEST_GRACE_SECONDS: u32 = 25;
/// How long a pull may take: images of a few gigabytes over a plant's uplink.
const PULL_TIME: Duration = Duration::from_secs(900);

/// Carries out a step.
pub(super) async fn execute(engine: &Engine, shared: &Shared, step: &ServiceStep) -> Result<(), StepFailure> {
    let result = match step {
        ServiceStep::Create { spec, mark } => create(engine, shared, spec, mark).await,
        // A container and its service are one here, and so are their labels.
        ServiceStep::Update { id, version: _, spec, container_labels: _, mark } => {
            update(engine, shared, id, spec, mark).await
        }
        ServiceStep::Remove { id, name: _ } => remove_step(engine, shared, id).await,
    };
    // Events will tell as well; but what was done is in the next observation even if they are late.
    if result.is_err() {
        shared.all_dirty();
    }
    shared.notify();
    result
}

/// Makes a container that does not exist, and starts it.
async fn create(engine: &Engine, shared: &Shared, spec: &ServiceSpec, mark: &Mark) -> Result<(), StepFailure> {
    let id = make(engine, spec, mark, spec.name.as_str()).await?;
    if let Err(error) = start(engine, &id).await {
        // Gone again, so that the next try finds the name free. If this fails too, the next pass starts it.
        let _ = remove(engine, &id).await;
        return Err(classify(&error, spec));
    }
    shared.dirty(&id);
    shared.started(&spec.name);
    Ok(())
}

/// Starts a container that is as it should be, or replaces it.
async fn update(
    engine: &Engine,
    shared: &Shared,
    id: &ServiceId,
    spec: &ServiceSpec,
    mark: &Mark,
) -> Result<(), StepFailure> {
    let fail = |error: &CallError| classify(error, spec);
    check_id(id)?;
    let old = inspect(engine, &id.0).await.map_err(|error| fail(&error))?;
    if old.name.trim_start_matches('/') != spec.name.as_str() {
        let message = format!("container {} no longer bears the name {}", short(&id.0), spec.name);
        return Err(StepFailure::new(FailureKind::Conflict, message));
    }
    if is_as_asked(&old, spec, mark) {
        if old.state.status == "paused" {
            post(engine, UNPAUSE, &format!("/containers/{}/unpause", id.0)).await.map_err(|error| fail(&error))?;
        } else {
            start(engine, &id.0).await.map_err(|error| fail(&error))?;
        }
    } else {
        let new = replace(engine, &old, spec, mark).await?;
        shared.dirty(&new);
    }
    shared.dirty(&id.0);
    shared.started(&spec.name);
    Ok(())
}

/// Whether a container was made from exactly this, so that starting it is all there is to do. The fields decide and
/// not their hash, which another version may have computed.
fn is_as_asked(old: &raw::Container, spec: &ServiceSpec, mark: &Mark) -> bool {
    if convert::needs_image(old) {
        return false;
    }
    let (found, _) =
        convert::container(spec.name.clone(), old, &raw::Config::default(), &std::collections::BTreeMap::new());
    let marked =
        found.mark.as_ref().is_some_and(|found| found.instance == mark.instance && found.resource == mark.resource);
    let idle = found.spec.replicas == 0;
    idle && marked && ServiceSpec { replicas: spec.replicas, ..(*found.spec).clone() } == *spec
}

/// Puts a new container in the place of an old one, and returns the new one's id.
async fn replace(
    engine: &Engine,
    old: &raw::Container,
    spec: &ServiceSpec,
    mark: &Mark,
) -> Result<String, StepFailure> {
    let (next, aside) = (next_name(&spec.name), old_name(&spec.name));
    let fail = |error: &CallError| classify(error, spec);
    clear_leftover(engine, &next, mark).await?;
    clear_leftover(engine, &aside, mark).await?;
    let new = make(engine, spec, mark, &next).await?;
    let was_running = old.state.status == "running";
    let swapped = async {
        stop(engine, old).await?;
        rename(engine, &old.id, &aside).await?;
        rename(engine, &new, spec.name.as_str()).await?;
        start(engine, &new).await
    };
    match swapped.await {
        Ok(()) => {
            // It does not run and is an orphan by its name: if this fails, planning removes it.
            let _ = remove(engine, &old.id).await;
            Ok(new)
        }
        Err(error) if outcome_unknown(&error) => Err(fail(&error)),
        Err(error) => {
            // Back to how it was; each part may fail, and a later pass goes on from wherever this ends.
            let _ = remove(engine, &new).await;
            let _ = rename(engine, &old.id, spec.name.as_str()).await;
            if was_running {
                let _ = start(engine, &old.id).await;
            }
            Err(fail(&error))
        }
    }
}

/// Removes what an update that was cut short left under a name of ours. A stranger's container under such a
/// name is left alone, and in the way.
async fn clear_leftover(engine: &Engine, name: &str, mark: &Mark) -> Result<(), StepFailure> {
    let found = match inspect(engine, name).await {
        Ok(found) => found,
        Err(error) if error.is_absent() => return Ok(()),
        Err(error) => return Err(StepFailure::new(kind(&error), error)),
    };
    let left_by_us = found.name.trim_start_matches('/') == name
        && found.state.status != "running"
        && Mark::from_labels(|label| found.config.labels.get(label).map(String::as_str))
            .is_some_and(|found| found.instance == mark.instance);
    if !left_by_us {
        let message = format!("container {name} is in the way and not ours, or runs");
        return Err(StepFailure::new(FailureKind::Exists, message));
    }
    remove(engine, &found.id).await.map_err(|error| StepFailure::new(kind(&error), error))
}

/// Creates a container, pulling its image if the engine does not have it, and connects its further networks.
async fn make(engine: &Engine, spec: &ServiceSpec, mark: &Mark, name: &str) -> Result<String, StepFailure> {
    let body = marked_body(spec, mark);
    let id = match create_call(engine, &body, name).await {
        Err(error) if says_no_image(&error) => {
            fetch(engine, spec).await?;
            create_call(engine, &body, name).await
        }
        answer => answer,
    }
    .map_err(|error| classify(&error, spec))?;
    for network in body::further_networks(spec) {
        let path = format!("/networks/{}/connect", encode(network));
        let request = serde_json::json!({"Container": id}).to_string();
        if let Err(error) = engine.send(CONNECT, Method::POST, &path, Bytes::from(request)).await {
            let _ = remove(engine, &id).await;
            return Err(classify(&error, spec));
        }
    }
    Ok(id)
}

/// The body with our mark and, since an image brings things along, with what was asked for.
fn marked_body(spec: &ServiceSpec, mark: &Mark) -> Value {
    let mut body = body::create_body(spec, Some(mark));
    let asked = serde_json::to_string(&convert::Asked::of(spec)).unwrap_or_default();
    body["Labels"][convert::LABEL_ASKED] = Value::String(asked);
    body
}

async fn create_call(engine: &Engine, body: &Value, name: &str) -> Result<String, CallError> {
    let path = format!("/containers/create?name={}", encode(name));
    let answer = engine.send(CREATE, Method::POST, &path, Bytes::from(body.to_string())).await?;
    serde_json::from_slice::<raw::Created>(&answer)
        .map(|created| created.id)
        .map_err(|_| CallError::Answer { act: CREATE, message: "it holds no id".into() })
}

/// Pulls the image with the credentials that there are for its registry.
async fn fetch(engine: &Engine, spec: &ServiceSpec) -> Result<(), StepFailure> {
    let credentials = engine.credentials();
    let found = credentials.of(&spec.image).await;
    found.warn();
    let error = match pull(engine, &spec.image, found.auth()).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    if denies(&error) {
        if found.auth().is_some() {
            credentials.refused(&found);
            // What everybody may have needs no credentials.
            if pull(engine, &spec.image, None).await.is_ok() {
                return Ok(());
            }
        }
        return Err(access::refused(&found, &error.clean(&Scrubber::of(spec))));
    }
    let failure = classify(&error, spec);
    let kind = if failure.kind == FailureKind::Gone { FailureKind::Dependency } else { failure.kind };
    Err(StepFailure::new(kind, failure.message))
}

/// Pulls an image; the engine reports progress, and failures, line by line.
async fn pull(engine: &Engine, image: &str, auth: Option<&RegistryAuth>) -> Result<(), CallError> {
    #[derive(serde::Deserialize)]
    struct Line {
        error: Option<String>,
    }
    let path = format!("/images/create?fromImage={}", encode(&ImageRef::with_tag(image)));
    let whole = async {
        let mut progress = engine.progress(PULL, &path, auth).await?;
        while let Some(line) = progress.next().await? {
            if let Ok(Line { error: Some(message) }) = serde_json::from_slice(&line) {
                // The status of an answer is sent before its end is known.
                return Err(CallError::Refused { act: PULL, status: 200, message });
            }
        }
        Ok(())
    };
    tokio::time::timeout(PULL_TIME, whole).await.unwrap_or(Err(CallError::Silent { act: PULL }))
}

async fn remove_step(engine: &Engine, shared: &Shared, id: &ServiceId) -> Result<(), StepFailure> {
    check_id(id)?;
    let fail = |error: CallError| StepFailure::new(kind(&error), error);
    // An app says goodbye when it is asked to end; killing it would leave it available for ever.
    let container = inspect(engine, &id.0).await.map_err(fail)?;
    stop(engine, &container).await.map_err(fail)?;
    remove(engine, &id.0).await.map_err(fail)?;
    shared.dirty(&id.0);
    Ok(())
}

async fn inspect(engine: &Engine, id: &str) -> Result<raw::Container, CallError> {
    engine.get(INSPECT, &format!("/containers/{}/json", encode(id))).await
}

/// Starts; one that runs already is fine (304).
async fn start(engine: &Engine, id: &str) -> Result<(), CallError> {
    already(post(engine, START, &format!("/containers/{id}/start")).await)
}

/// Asks it to end and waits until it has; one that does not run is fine (304).
async fn stop(engine: &Engine, container: &raw::Container) -> Result<(), CallError> {
    let grace = container.config.stop_timeout.unwrap_or(GRACE_SECONDS).min(LONGEST_GRACE_SECONDS);
    already(post(engine, STOP, &format!("/containers/{}/stop?t={grace}", container.id)).await)
}

async fn rename(engine: &Engine, id: &str, name: &str) -> Result<(), CallError> {
    post(engine, RENAME, &format!("/containers/{id}/rename?name={}", encode(name))).await
}

/// Removes, with the volumes that have no name, as Swarm does.
async fn remove(engine: &Engine, id: &str) -> Result<(), CallError> {
    engine.send(REMOVE, Method::DELETE, &format!("/containers/{id}?force=true&v=true"), Bytes::new()).await.map(drop)
}

async fn post(engine: &Engine, act: Act, path: &str) -> Result<(), CallError> {
    engine.send(act, Method::POST, path, Bytes::new()).await.map(drop)
}

fn already(result: Result<(), CallError>) -> Result<(), CallError> {
    match result {
        Err(CallError::Refused { status: 304, .. }) => Ok(()),
        result => result,
    }
}

fn check_id(id: &ServiceId) -> Result<(), StepFailure> {
    if id.0.len() == ID_LENGTH && id.0.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let message = format!("`{}` is not a full container id", id.0);
    Err(StepFailure::new(FailureKind::Rejected, message))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Where a new container waits until the old one has stopped: 22 characters, so that it is a valid name of its
/// own whatever the length of the service's.
fn next_name(name: &ServiceName) -> String {
    format!("ofop-next-{}", digest(name))
}

/// Where an old container waits until the new one runs.
fn old_name(name: &ServiceName) -> String {
    format!("ofop-old-{}", digest(name))
}

fn digest(name: &ServiceName) -> String {
    Sha256::digest(name.as_str()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn says_no_image(error: &CallError) -> bool {
    error.refusal().is_some_and(|(status, message)| status == 404 && message.to_lowercase().contains("no such image"))
}

/// Whether the call may have worked although it failed.
fn outcome_unknown(error: &CallError) -> bool {
    match error {
        CallError::Lost { .. } | CallError::Silent { .. } | CallError::Answer { .. } | CallError::Connect { .. } => {
            true
        }
        CallError::Refused { .. } => false,
    }
}

fn classify(error: &CallError, spec: &ServiceSpec) -> StepFailure {
    StepFailure::new(kind(error), error.clean(&Scrubber::of(spec)).to_string())
}

fn kind(error: &CallError) -> FailureKind {
    error.kind(refusal)
}

fn refusal(_: Act, status: u16, message: &str) -> FailureKind {
    let message = message.to_lowercase();
    let missing = |what: &str| message.contains(what) && message.contains("not found");
    let dependency = missing("network")
        || missing("manifest")
        || message.contains("no such image")
        || message.contains("port is already allocated")
        || message.contains("address already in use")
        || message.contains("pull access denied")
        || message.contains("bind source path does not exist");
    match status {
        _ if dependency => FailureKind::Dependency,
        404 => FailureKind::Gone,
        409 => FailureKind::Exists,
        503 => FailureKind::Unavailable,
        400..=499 => FailureKind::Rejected,
        _ => FailureKind::Dependency,
    }
}
