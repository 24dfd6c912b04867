//! The Docker Engine API, as far as both platforms need it.
//!
//! One pool of connections for calls that read, and one for calls that change something, serve raw calls
//! ([`Engine::get`], [`Engine::list`], [`Engine::send`], [`Engine::lines`]) and the `bollard` client
//! ([`Engine::bollard`]). Raw calls are for everything that must survive a round trip: what `bollard` decodes has lost
//! the fields that it does not know, and one unknown word fails a whole list.
//!
//! # Invariants
//!
//! - Every path carries the negotiated version, `/v1.NN`, those of `bollard` included. Before the first
//!   negotiation it is the oldest that we support.
//! - Every call is bounded in time from the first byte to the last, [`Engine::progress`] aside, and so is
//!   connecting; an answer is bounded in size, a list in the size of one element.
//! - Lists are read element by element: memory does not grow with the cluster, one odd element harms no other,
//!   and a list that was cut is an error, never a shorter list.
//! - While the engine's [`Gate`] is closed, no byte of a call that changes something leaves.
//! - No body of a request and no credential appears in an error.

mod address;
mod failure;
mod lines;
mod wire;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bollard::{BollardRequest, ClientVersion, Docker};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::de::DeserializeOwned;

pub use address::Address;
#[cfg(test)]
pub(in crate::platform) use failure::one_line;
pub use failure::{Act, CallError, without_leader};
pub use lines::Lines;
pub use wire::Gate;

use crate::platform::PlatformError;
use crate::platform::credentials::{Credentials, RegistryAuth};

/// The oldest API that has every field we own (ulimits of services came with 1.41, Engine 20.10).
pub const OLDEST_API: u32 = 41;
/// The newest API whose changes we have read (Engine 29, moby v2.0.0-beta.24); newer engines are spoken to in this
/// version. An update in an older version than the engine's own drops the fields that came later, where somebody else
/// set them: so this follows the engine.
pub const NEWEST_API: u32 = 56;
/// How long a call may take. The engine itself gives up on its own managers after 20 s, and a leader that died
/// blocks calls for up to 14 s.
pub const CALL_TIME: Duration = Duration::from_secs(30);
/// The largest answer of a single call; a service is at most 1.5 MiB, since it must fit a message of the raft log.
const MAX_ANSWER: usize = 8 << 20;

/// A connection to an engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    credentials: Arc<Credentials>,
    /// Whether calls that change something go through the gate.
    gated: bool,
}

struct Shared {
    address: Address,
    /// For calls that read, and for those that no gate keeps back.
    client: wire::Client,
    /// For calls that change something.
    writer: wire::Client,
    gate: Gate,
    /// Minor number of the version agreed on; the major one is 1. Zero while nothing is agreed on.
    minor: AtomicU32,
}

impl Engine {
    /// Prepares connections to `host`, written as in `DOCKER_HOST`. `certificates` is the directory of
    /// `ca.pem`, `cert.pem` and `key.pem`, as in `DOCKER_CERT_PATH`; with it, `tcp://` means TLS.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When the text is no address, or the certificates cannot be read.
    pub fn new(host: &str, certificates: Option<&Path>) -> Result<Engine, PlatformError> {
        let address = Address::parse(host, certificates)?;
        let gate = Gate::default();
        let connector = wire::Connector::new(&address)?;
        let client = wire::client(connector.clone());
        let writer = wire::client(connector.through(gate.clone()));
        let shared = Arc::new(Shared { address, client, writer, gate, minor: AtomicU32::new(0) });
        Ok(Engine { shared, credentials: Arc::default(), gated: true })
    }

    /// The same engine, with credentials for the registries that it gets images from.
    pub fn with_credentials(self, credentials: Credentials) -> Engine {
        Engine { credentials: Arc::new(credentials), ..self }
    }

    /// What calls that change something pass.
    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// The same engine past the gate: for what decides who may pass it.
    pub fn ungated(&self) -> Engine {
        Engine { gated: false, ..self.clone() }
    }

    fn pool(&self, writes: bool) -> &wire::Client {
        if writes && self.gated { &self.shared.writer } else { &self.shared.client }
    }

    /// Credentials for the registries that it gets images from.
    pub(in crate::platform) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Where the engine is.
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Minor number of the API version in use: the oldest one until a version is agreed on.
    pub fn api(&self) -> u32 {
        self.shared.minor.load(Ordering::Relaxed).max(OLDEST_API)
    }

    /// Agrees on an API version unless one is agreed on already. A failure is left to the call that follows, which
    /// meets the same engine and says what is wrong with it.
    async fn agree(&self) {
        if self.shared.minor.load(Ordering::Relaxed) == 0 {
            let _ = self.negotiate().await;
        }
    }

    /// Agrees on an API version. To be repeated after every loss of the connection, since another engine may
    /// answer then.
    ///
    /// # Errors
    /// When the engine cannot be reached or speaks no version that we know.
    pub async fn negotiate(&self) -> Result<u32, PlatformError> {
        let act = Act::read("ask for its version");
        let ask = async {
            let docker = self.bollard().map_err(|error| CallError::of_bollard(act, error))?;
            docker.version().await.map_err(|error| CallError::of_bollard(act, error))
        };
        let version = tokio::time::timeout(CALL_TIME, ask)
            .await
            .unwrap_or(Err(CallError::Silent { act }))
            .map_err(|error| error.explain(&self.shared.address))?;
        let newest = version.api_version.as_deref().and_then(minor).unwrap_or(0);
        let oldest = version.min_api_version.as_deref().and_then(minor).unwrap_or(0);
        let agreed = newest.min(NEWEST_API);
        if newest < OLDEST_API || oldest > agreed {
            return Err(PlatformError {
                message: format!(
                    "the engine at {} speaks API 1.{oldest} to 1.{newest}; ofop needs 1.{OLDEST_API} to 1.{NEWEST_API}",
                    self.shared.address
                ),
                hint: Some(if newest < OLDEST_API {
                    "use Docker Engine 20.10 or newer".into()
                } else {
                    "this engine is newer than ofop: update ofop".into()
                }),
            });
        }
        self.shared.minor.store(agreed, Ordering::Relaxed);
        Ok(agreed)
    }

    /// A client of `bollard` over the same connections.
    ///
    /// # Errors
    /// When `bollard` refuses its own settings.
    pub fn bollard(&self) -> Result<Docker, bollard::errors::Error> {
        let engine = self.clone();
        let transport = move |request: BollardRequest| {
            let engine = engine.clone();
            async move {
                let (mut parts, body) = request.into_parts();
                parts.uri = engine.versioned(&parts.uri)?;
                let writes = !parts.method.is_safe();
                Ok(engine.pool(writes).request(Request::from_parts(parts, body)).await?)
            }
        };
        let version = ClientVersion { major_version: 1, minor_version: self.api() as usize };
        let host = format!("http://{}", self.shared.address.authority());
        Docker::connect_with_custom_transport(transport, Some(host), CALL_TIME.as_secs(), &version)
    }

    /// `GET` of one object.
    ///
    /// # Errors
    /// What the engine says, or why it said nothing.
    pub async fn get<T: DeserializeOwned>(&self, act: Act, path: &str) -> Result<T, CallError> {
        let bytes = self.send(act, Method::GET, path, Bytes::new()).await?;
        serde_json::from_slice(&bytes).map_err(|error| CallError::answer(act, &error))
    }

    /// Any call with a small answer.
    ///
    /// # Errors
    /// What the engine says, or why it said nothing.
    pub async fn send(&self, act: Act, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
        self.send_with(act, method, path, body, None).await
    }

    /// The same with credentials for a registry.
    ///
    /// # Errors
    /// What the engine says, or why it said nothing.
    pub async fn send_with(
        &self,
        act: Act,
        method: Method,
        path: &str,
        body: Bytes,
        auth: Option<&RegistryAuth>,
    ) -> Result<Bytes, CallError> {
        let whole = async {
            let response = self.begin(act, method, path, body, auth).await?;
            collect(act, response.into_body(), MAX_ANSWER).await
        };
        tokio::time::timeout(CALL_TIME, whole).await.unwrap_or(Err(CallError::Silent { act }))
    }

    /// `GET` of a list; `each` gets the text of one element after the other.
    ///
    /// # Errors
    /// As for a call, and when the list ends before its end. `each` may have seen some elements then.
    pub async fn list(&self, act: Act, path: &str, mut each: impl FnMut(&[u8]) + Send) -> Result<(), CallError> {
        let whole = async {
            let mut body = self.begin(act, Method::GET, path, Bytes::new(), None).await?.into_body();
            let mut elements = crate::elements::Elements::default();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| CallError::lost(act, &error))?;
                if let Ok(data) = frame.into_data() {
                    elements.feed(&data, &mut each).map_err(|message| CallError::Answer { act, message })?;
                }
            }
            elements.end().map_err(|message| CallError::Answer { act, message })
        };
        tokio::time::timeout(CALL_TIME, whole).await.unwrap_or(Err(CallError::Silent { act }))
    }

    /// `GET` of a stream of lines that never ends by itself. Only its beginning is bounded in time.
    ///
    /// # Errors
    /// As for a call.
    pub async fn lines(&self, act: Act, path: &str) -> Result<Lines, CallError> {
        let begin = self.begin(act, Method::GET, path, Bytes::new(), None);
        let response = tokio::time::timeout(CALL_TIME, begin).await.unwrap_or(Err(CallError::Silent { act }))?;
        Ok(Lines::new(act, response.into_body()))
    }

    /// `GET` of a stream of bytes that may never end. Only its beginning is bounded in time.
    ///
    /// # Errors
    /// As for a call.
    pub(in crate::platform) async fn stream(&self, act: Act, path: &str) -> Result<Incoming, CallError> {
        let begin = self.begin(act, Method::GET, path, Bytes::new(), None);
        let response = tokio::time::timeout(CALL_TIME, begin).await.unwrap_or(Err(CallError::Silent { act }))?;
        Ok(response.into_body())
    }

    /// `POST` of something that takes as long as it takes, with its progress in lines. Not bounded in time.
    ///
    /// # Errors
    /// As for a call.
    pub async fn progress(&self, act: Act, path: &str, auth: Option<&RegistryAuth>) -> Result<Lines, CallError> {
        let response = self.begin(act, Method::POST, path, Bytes::new(), auth).await?;
        Ok(Lines::new(act, response.into_body()))
    }

    /// Sends a request and waits for the head of a successful answer.
    ///
    /// Before the first one, a version is agreed on. An engine that was replaced under a running operator refuses the
    /// version that its forerunner spoke, before it looks at anything else in the request: such a call is sent once more.
    async fn begin(
        &self,
        act: Act,
        method: Method,
        path: &str,
        body: Bytes,
        auth: Option<&RegistryAuth>,
    ) -> Result<Response<Incoming>, CallError> {
        self.agree().await;
        match self.begin_as_agreed(act, method.clone(), path, body.clone(), auth).await {
            Err(error) if error.is_about_version() => {
                self.shared.minor.store(0, Ordering::Relaxed);
                self.agree().await;
                self.begin_as_agreed(act, method, path, body, auth).await
            }
            outcome => outcome,
        }
    }

    /// Sends a request in the version that was agreed on.
    async fn begin_as_agreed(
        &self,
        act: Act,
        method: Method,
        path: &str,
        body: Bytes,
        auth: Option<&RegistryAuth>,
    ) -> Result<Response<Incoming>, CallError> {
        let uri = format!("http://{}{path}", self.shared.address.authority())
            .parse::<Uri>()
            .and_then(|uri| self.versioned(&uri))
            .map_err(|error| CallError::Answer { act, message: error.to_string() })?;
        let mut builder =
            Request::builder().method(method).uri(uri).header(hyper::header::CONTENT_TYPE, "application/json");
        if let Some(auth) = auth {
            builder = builder.header("X-Registry-Auth", auth.header());
        }
        let request = builder
            .body(bollard::body_full(body))
            .map_err(|error| CallError::Answer { act, message: error.to_string() })?;
        let response = self.pool(act.writes).request(request).await.map_err(|error| failure::of_client(act, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = collect(act, response.into_body(), MAX_ANSWER).await.unwrap_or_default();
        Err(refused(act, status, &text))
    }

    /// The same address with the API version in front of its path.
    fn versioned(&self, uri: &Uri) -> Result<Uri, hyper::http::uri::InvalidUri> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map_or("localhost", |authority| authority.as_str());
        // The two calls that must work before a version is agreed on.
        if path == "/version" || path == "/_ping" {
            return format!("http://{authority}{path}").parse();
        }
        format!("http://{authority}/v1.{}{path}", self.api()).parse()
    }
}

/// Minor number of a version such as `1.41`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.parse().ok()
}

/// The engine's own words for a refusal.
fn refused(act: Act, status: StatusCode, text: &[u8]) -> CallError {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    let message = serde_json::from_slice::<Said>(text)
        .map_or_else(|_| String::from_utf8_lossy(text).into_owned(), |said| said.message);
    CallError::Refused { act, status: status.as_u16(), message }
}

/// Reads a body of at most `limit` bytes.
async fn collect(act: Act, body: Incoming, limit: usize) -> Result<Bytes, CallError> {
    match http_body_util::Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(CallError::Answer { act, message: format!("it is longer than {} MiB", limit >> 20) })
        }
        Err(error) => Err(CallError::lost(act, error.as_ref())),
    }
}

/// Percent-encodes a text for the inside of a path or a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
