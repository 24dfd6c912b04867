//! Creating, updating and removing one service.

use std::collections::BTreeMap;

use hyper::Method;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::body;
use super::convert::NetworkNames;
use super::failure::classify;
use super::overlay::{self, Found};
use crate::model::{FailureKind, Mark, ServiceId, ServiceSpec, StepFailure};
use crate::platform::access;
use crate::platform::credentials::RegistryAuth;
use crate::platform::engine::{Act, CallError, Engine};

/// Length of the id of a service. The engine takes a prefix of an id, or a name, for the id itself; a text of
/// this length from a snapshot is neither.
const ID_LENGTH: usize = 25;

const CREATE: Act = Act::write("create the service");
const READ: Act = Act::read("read the service");
const UPDATE: Act = Act::write("update the service");
const REMOVE: Act = Act::write("remove the service");

/// A failed call: what it means for the step, and the call's own error when there was one.
pub(super) struct Failed {
    pub(super) failure: StepFailure,
    pub(super) error: Option<CallError>,
}

impl Failed {
    pub(super) fn by(error: CallError, spec: Option<&ServiceSpec>) -> Failed {
        Failed { failure: classify(&error, spec), error: Some(error) }
    }

    /// A write that failed after it was sent at `sent`.
    pub(super) fn after(sent: Instant, error: CallError, spec: Option<&ServiceSpec>) -> Failed {
        let mut failed = Failed::by(error, spec);
        failed.failure.since_sent = sent.elapsed();
        failed
    }

    pub(super) fn before(kind: FailureKind, message: String) -> Failed {
        Failed { failure: StepFailure::new(kind, message), error: None }
    }
}

/// Creates a service and returns its id.
pub(super) async fn create(engine: &Engine, spec: &ServiceSpec, mark: &Mark) -> Result<ServiceId, Failed> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(rename = "ID")]
        id: String,
    }
    let body = body::create_body(spec, Some(mark));
    let auth = credentials(engine, spec).await?;
    let sent = Instant::now();
    let failed = |error| Failed::after(sent, error, Some(spec));
    let answer = engine
        .send_with(CREATE, Method::POST, "/services/create", bytes(&body), auth.as_ref())
        .await
        .map_err(failed)?;
    serde_json::from_slice::<Created>(&answer)
        .map(|created| ServiceId(created.id))
        .map_err(|_| failed(CallError::Answer { act: CREATE, message: "it holds no id".into() }))
}

/// The text of one service.
pub(super) async fn read(engine: &Engine, id: &ServiceId) -> Result<Bytes, CallError> {
    engine.send(READ, Method::GET, &format!("/services/{}", id.0), Bytes::new()).await
}

/// Updates a service that still has the version that was planned on.
pub(super) async fn update(
    engine: &Engine,
    networks: &NetworkNames,
    (id, version): (&ServiceId, u64),
    (spec, container_labels): (&ServiceSpec, &BTreeMap<String, String>),
    mark: &Mark,
) -> Result<(), Failed> {
    full(id)?;
    let failed = |error| Failed::by(error, Some(spec));
    let text = read(engine, id).await.map_err(failed)?;
    let found = Found::read(&text, networks)
        .map_err(|reason| Failed::before(FailureKind::Rejected, format!("cannot update the service: {reason}")))?;
    if found.service.id != *id {
        return Err(Failed::before(FailureKind::Gone, "the service is gone".into()));
    }
    if found.service.version != version {
        let message = format!("the service changed from version {version} to {}", found.service.version);
        return Err(Failed::before(FailureKind::Conflict, message));
    }
    let Value::Object(body) = body::create_body(spec, Some(mark)) else {
        return Err(Failed::before(FailureKind::Rejected, "the service has no description".into()));
    };
    let image_stays = overlay::same_image(&found.service.spec.image, &spec.image);
    let body = found.overlay(spec, container_labels, &body, networks);
    let path = format!("/services/{}/update?version={version}", id.0);
    let auth = match credentials(engine, spec).await {
        // Without any, the service keeps those that it has, and nodes the image.
        Err(failed) if image_stays => {
            tracing::warn!(
                service = spec.name.as_str(),
                reason = failed.failure.message,
                "no credentials for its image"
            );
            None
        }
        answer => answer?,
    };
    let sent = Instant::now();
    let answer = engine.send_with(UPDATE, Method::POST, &path, bytes(&body), auth.as_ref()).await;
    answer.map_err(|error| Failed::after(sent, error, Some(spec)))?;
    Ok(())
}

/// What the nodes need to pull the image. The engine shows nobody what a service has of it, so that it is never
/// compared; and sending others restarts no task that runs.
async fn credentials(engine: &Engine, spec: &ServiceSpec) -> Result<Option<RegistryAuth>, Failed> {
    access::for_nodes(engine, &spec.image).await.map_err(|failure| Failed { failure, error: None })
}

/// Removes a service by its full id.
pub(super) async fn remove(engine: &Engine, id: &ServiceId) -> Result<(), Failed> {
    full(id)?;
    let path = format!("/services/{}", id.0);
    let sent = Instant::now();
    let answer = engine.send(REMOVE, Method::DELETE, &path, Bytes::new()).await;
    answer.map_err(|error| Failed::after(sent, error, None))?;
    Ok(())
}

/// Refuses everything that the engine could take for something else than one full id.
fn full(id: &ServiceId) -> Result<(), Failed> {
    if id.0.len() == ID_LENGTH && id.0.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(Failed::before(FailureKind::Rejected, format!("`{}` is not the full id of a service", id.0.escape_debug())))
}

fn bytes(body: &Value) -> Bytes {
    Bytes::from(body.to_string())
}
