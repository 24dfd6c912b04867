//! What the running operator answers over HTTP: health, metrics, a read-only API, a page for people, and the
//! few words that a person may say to it.
//!
//! | path | answer |
//! |---|---|
//! | `GET /`, `/resources/KIND/UUID` | status pages |
//! | `GET /healthz` | 200 while the process answers |
//! | `GET /readyz` | 200 after the first complete pass while the platform is up, else 503 and why |
//! | `GET /leaderz` | 200 while this operator may change the cluster, else 503; who holds the lease |
//! | `GET /metrics` | Prometheus text format |
//! | `GET /api/v1/resources[/KIND/UUID]` | [`crate::report::Status`] as JSON |
//! | `GET /api/v1/plan` | what the last pass decided, as `ofop plan -o json` |
//! | `GET /api/v1/events` | events as a JSON list, or as server-sent events |
//! | `GET /api/v1/history` | which revision was rolled out when, and what became of it |
//! | `POST /api/v1/reconcile`, `suspend`, `resume`, `down`, `adopt` | 202; needs the bearer token |
//! | `POST /webhook` | 202; a host of git repositories tells of a push; needs its own secret |
//!
//! # Guarantees
//!
//! - Nothing that is answered holds an environment value: it all comes from [`Report`], which holds none.
//! - On an address that is not a loopback one, pages and API are read with a token alone, unless everybody may read; health
//!   and metrics need none.
//! - Without a configured token nothing can be changed, and a webhook, which has a secret of its own, changes
//!   nothing but when the manifests are looked at. A browser cannot be tricked into changing anything,
//!   since no cookie exists and the password of a browser allows only to read.
//! - On a loopback address only requests that name an IP address or `localhost` are answered, so that a web
//!   page whose name was re-pointed at this machine reads nothing.
//! - Requests are bounded in size and in time, connections and streams in number, in total and for each peer; a client
//!   that sends or reads nothing keeps nobody else out. A shutdown ends all within [`SHUTDOWN_GRACE`].
//! - A request whose head contradicts itself is refused.
//!
//! # Errors
//!
//! Every error is JSON: `{"error":{"code":"not_found","message":"…","hint":"…"}}`.

mod api;
mod assets;
mod auth;
mod connections;
mod events;
mod head;
mod history;
mod hold;
mod html;
mod page;
mod page_resource;
mod page_source;
mod problem;
mod serve;
mod tls;
pub mod webhook;
mod wire;

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::auth::{InvalidToken, MAKE_A_TOKEN, MIN_TOKEN, Token, Tokens};
use self::connections::{Lasting, Streams};
use self::problem::Problem;
pub use self::tls::{Door, Tls, TlsError};
use crate::model::Request;
use crate::report::Report;

/// The largest request body, in bytes: commands are a line of JSON.
const MAX_BODY: usize = 16 * 1024;

/// How long a request may take until its answer begins.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connections may last on after the shutdown began.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Nothing but our own files may be loaded, run, framed or posted to.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Headers of every answer.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// What the handlers share.
#[derive(Debug, Clone)]
struct Shared {
    report: Report,
    commands: mpsc::Sender<Request>,
    /// How often people asked for a look so far: the loop counts them as well.
    asked: Arc<Mutex<u64>>,
    tokens: Tokens,
    /// When it began to answer.
    began: Instant,
    /// Cancelled when the server goes down: endless answers end.
    closing: CancellationToken,
    /// It listens on a loopback address.
    loopback: bool,
    /// The streams that are being answered.
    streams: Streams,
}

/// Answers until `shutdown` is done, then lets answers in flight end. Commands need one of the `tokens`.
///
/// # Errors
/// When the listener's own address cannot be read. Errors of single connections concern nobody else.
pub async fn serve(
    listener: impl Into<Door>,
    report: Report,
    commands: mpsc::Sender<Request>,
    tokens: Tokens,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    serve_with(listener, report, commands, tokens, Router::new(), shutdown).await
}

/// The same with further routes, which get the same limits and headers: those of a
/// [`webhook::Webhook`].
///
/// # Errors
/// As [`serve()`].
pub async fn serve_with(
    listener: impl Into<Door>,
    report: Report,
    commands: mpsc::Sender<Request>,
    tokens: Tokens,
    further: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let closing = CancellationToken::new();
    let Door { listener, tls } = listener.into();
    let secure = tls.map(|tls| (tls, report.clone()));
    let shared = Shared {
        report,
        commands,
        asked: Arc::default(),
        tokens,
        began: Instant::now(),
        closing: closing.clone(),
        loopback: listener.local_addr()?.ip().is_loopback(),
        streams: Streams::default(),
    };
    let router = router(shared, further);
    serve::run(listener, secure, router, closing, shutdown).await;
    Ok(())
}

fn router(shared: Shared, further: Router) -> Router {
    let report = shared.report.clone();
    let commands = Router::new()
        .route("/api/v1/reconcile", post(api::reconcile))
        .route("/api/v1/suspend", post(api::suspend))
        .route("/api/v1/resume", post(api::resume))
        .route("/api/v1/freeze", post(hold::freeze))
        .route("/api/v1/adopt", post(api::adopt))
        .route("/api/v1/down", post(api::down))
        .route("/api/v1/rollout/abort", post(api::rollout_abort))
        .route("/api/v1/rollout/resume", post(api::rollout_resume))
        .route("/api/v1/rollout/start", post(api::rollout_start))
        .route_layer(middleware::from_fn_with_state(shared.clone(), auth::require_token))
        .route_layer(middleware::from_fn_with_state(shared.clone(), auth::account));
    let reading = Router::new()
        .route("/", get(page::overview))
        .route("/resources/{kind}/{uuid}", get(page_resource::resource))
        .route("/api/v1/resources", get(api::resources))
        .route("/api/v1/resources/{kind}/{uuid}", get(api::resource))
        .route("/api/v1/plan", get(api::plan))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/rollouts", get(api::rollouts))
        .route_layer(middleware::from_fn_with_state(shared.clone(), auth::require_reader));
    let loopback = shared.loopback;
    Router::new()
        .route("/assets/status.css", get(assets::css))
        .route("/assets/status.js", get(assets::js))
        .route("/favicon.ico", get(assets::icon))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/leaderz", get(api::leaderz))
        .route("/metrics", get(api::metrics))
        .merge(reading)
        .merge(commands)
        .with_state(shared)
        .merge(further)
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(move |request: axum::extract::Request, next: Next| async move {
            if let Err(problem) = head::check(&request, loopback) {
                return problem.into_response();
            }
            match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Problem::timeout().into_response(),
            }
        }))
        .layer(middleware::map_response_with_state(report, without_hidden))
        .layer(middleware::map_response(with_headers))
}

/// The answer without what may not be shown. A stream looks after itself.
async fn without_hidden(State(report): State<Report>, response: Response) -> Response {
    if !report.hides() || response.extensions().get::<Lasting>().is_some() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // Our own answers are whole before they are sent.
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else { return Problem::stopping().into_response() };
    match std::str::from_utf8(&bytes).map(|text| report.masked(text)) {
        Ok(Cow::Owned(text)) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(text))
        }
        Ok(Cow::Borrowed(_)) | Err(_) => Response::from_parts(parts, Body::from(bytes)),
    }
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        // An answer that says otherwise knows better.
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn nowhere(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at `{}`", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::wrong_method(format!("`{}` does not take {method}", uri.path()))
}
