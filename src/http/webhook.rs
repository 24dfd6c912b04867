//! `POST /webhook`: whoever hosts the repository tells of a push, so that the manifests are looked at now and not at
//! the next interval.
//!
//! # Flow
//!
//! ```text
//! headers ─► may they prove anything? ─► body, hashed as it arrives ─► proven? ─► what happened, and where?
//!                    no: 401                  too long: 413              no: 401       push to our branch: 202, tell
//!                                                                                      ping, anything else: 200
//! ```
//!
//! # Guarantees
//!
//! - Without a configured secret every call is refused. A refusal does not say what was wrong, and neither the secret
//!   nor a signature ever reaches a log. See [`proof`] for what counts as a proof.
//! - A call costs at most [`KEPT`] bytes of memory, however long its body: the body is hashed as it arrives, and only
//!   its beginning is kept for finding out which branch was pushed to.
//! - A call carries no instruction: all that follows from it is one look at the source, as the timer makes them.
//!   One that is sent again does no harm. Whoever is told joins calls that come together.
//!
//! In doubt the source looks: a push whose branch cannot be told (the body is no JSON, or too long to be kept) counts
//! as one to ours.

mod proof;

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tracing::{debug, info};

use self::proof::Claims;
pub use self::proof::{InvalidSecret, MIN_SECRET, Secret};
use super::api::Accepted;
use super::problem::Problem;
use crate::report::{Report, WebhookResult};

/// The longest body that is taken, in bytes: GitHub, whose limit is the highest, sends at most 25 MB.
pub const MAX_BODY: usize = 25 * 1024 * 1024;

/// How much of a body is kept to be understood, in bytes. A push of some commits has a few KiB; with every
/// connection that the server serves at a time, this comes to 16 MiB.
const KEPT: usize = 64 * 1024;

/// The webhook: who may call it, which pushes count, and whom to tell.
#[derive(Clone)]
pub struct Webhook {
    report: Report,
    tell: Arc<dyn Fn() + Send + Sync>,
    secret: Option<Secret>,
    reference: Option<Arc<str>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("secret", &self.secret)
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// A webhook that refuses everybody; `tell` is called for each push that counts, and must not wait.
    pub fn new(report: Report, tell: impl Fn() + Send + Sync + 'static) -> Self {
        Webhook { report, tell: Arc::new(tell), secret: None, reference: None }
    }

    /// Takes calls of those who have this secret.
    #[must_use]
    pub fn secret(self, secret: Option<Secret>) -> Self {
        Webhook { secret, ..self }
    }

    /// Only pushes to this branch, tag or full reference count; without one, any does.
    #[must_use]
    pub fn reference(self, reference: Option<&str>) -> Self {
        Webhook { reference: reference.map(Arc::from), ..self }
    }

    /// The route, for [`super::serve_with`].
    pub fn routes(self) -> Router {
        Router::new().route("/webhook", post(receive)).with_state(self)
    }

    async fn judge(&self, request: Request) -> WebhookResult {
        let Some(secret) = &self.secret else { return WebhookResult::NoSecret };
        let (head, body) = request.into_parts();
        let claims = secret.claims(|name| head.headers.get(name).map(|value| value.as_bytes()));
        if claims.hopeless() {
            return WebhookResult::Unauthorized;
        }
        match read(&head.headers, body, claims).await {
            Ok(kept) => verdict(event(&head.headers), self.reference.as_deref(), kept.as_deref()),
            Err(refused) => refused,
        }
    }
}

async fn receive(State(webhook): State<Webhook>, request: Request) -> Response {
    let result = webhook.judge(request).await;
    webhook.report.webhook(result);
    match result {
        WebhookResult::Triggered => {
            info!("a webhook tells of a push");
            (webhook.tell)();
            (StatusCode::ACCEPTED, Json(Accepted { accepted: true, reason: None })).into_response()
        }
        WebhookResult::Ping | WebhookResult::OtherEvent | WebhookResult::OtherReference => {
            debug!(result = result.as_str(), "a webhook tells of nothing that matters here");
            Json(Accepted { accepted: false, reason: Some(result.as_str()) }).into_response()
        }
        WebhookResult::NoSecret => Problem::no_webhook_secret().into_response(),
        WebhookResult::Unauthorized => {
            debug!("a webhook proves nothing");
            Problem::not_proven().into_response()
        }
        WebhookResult::TooLarge => Problem::too_large(MAX_BODY).into_response(),
        WebhookResult::BrokenOff => Problem::bad_request("the body could not be read").into_response(),
    }
}

/// Reads a body that is to prove something; what is kept of it, if it is short enough to be kept whole.
async fn read(headers: &HeaderMap, body: Body, mut claims: Claims) -> Result<Option<Vec<u8>>, WebhookResult> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        return Err(WebhookResult::TooLarge);
    }
    let (mut length, mut kept) = (0, Some(Vec::new()));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| WebhookResult::BrokenOff)?;
        length += piece.len();
        if length > MAX_BODY {
            return Err(WebhookResult::TooLarge);
        }
        claims.update(&piece);
        match &mut kept {
            Some(kept) if length <= KEPT => kept.extend_from_slice(&piece),
            _ => kept = None,
        }
    }
    if claims.hold() { Ok(kept) } else { Err(WebhookResult::Unauthorized) }
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Push,
    Ping,
    Other,
}

/// What a call is about, by its headers; one that does not say so comes from a script and means a push.
fn event(headers: &HeaderMap) -> Event {
    let name = ["x-github-event", "x-forgejo-event", "x-gitea-event", "x-gitlab-event"]
        .into_iter()
        .find_map(|name| headers.get(name));
    match name.map(|value| value.as_bytes()) {
        // A system hook of GitLab tells of pushes, among other things.
        None | Some(b"push" | b"Push Hook" | b"Tag Push Hook" | b"System Hook") => Event::Push,
        Some(b"ping") => Event::Ping,
        Some(_) => Event::Other,
    }
}

/// The part of a push that all hosts write the same way.
#[derive(Deserialize)]
struct Push {
    r#ref: String,
}

/// What follows from a call that is proven.
fn verdict(event: Event, wanted: Option<&str>, body: Option<&[u8]>) -> WebhookResult {
    match event {
        Event::Ping => WebhookResult::Ping,
        Event::Other => WebhookResult::OtherEvent,
        Event::Push => {
            let pushed = body.and_then(|body| serde_json::from_slice(body).ok()).map(|push: Push| push.r#ref);
            match (wanted, pushed) {
                (Some(wanted), Some(pushed)) if !concerns(wanted, &pushed) => WebhookResult::OtherReference,
                _ => WebhookResult::Triggered,
            }
        }
    }
}

/// Whether a push to a full reference concerns a branch, tag or full reference.
fn concerns(wanted: &str, pushed: &str) -> bool {
    let short = pushed.strip_prefix("refs/heads/").or_else(|| pushed.strip_prefix("refs/tags/"));
    pushed == wanted || short == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_concerns_its_branch_or_tag_alone() {
        for (wanted, pushed) in [
            ("main", "refs/heads/main"),
            ("line/1", "refs/heads/line/1"),
            ("v1", "refs/tags/v1"),
            ("refs/heads/main", "refs/heads/main"),
        ] {
            assert!(concerns(wanted, pushed), "{wanted} {pushed}");
        }
        for (wanted, pushed) in [
            ("main", "refs/heads/main2"),
            ("main", "refs/heads/line/main"),
            ("refs/heads/v1", "refs/tags/v1"),
            ("main", "refs/remotes/main"),
            ("main", ""),
        ] {
            assert!(!concerns(wanted, pushed), "{wanted} {pushed}");
        }
    }

    #[test]
    fn in_doubt_the_source_looks() {
        let push = |body: Option<&str>| verdict(Event::Push, Some("main"), body.map(str::as_bytes));
        assert_eq!(push(Some(r#"{"ref":"refs/heads/other"}"#)), WebhookResult::OtherReference);
        for body in [Some(r#"{"ref":"refs/heads/main"}"#), Some("payload=%7B%7D"), Some(r#"{"ref":7}"#), Some(""), None]
        {
            assert_eq!(push(body), WebhookResult::Triggered, "{body:?}");
        }
        let any = verdict(Event::Push, None, Some(br#"{"ref":"refs/heads/other"}"#));
        assert_eq!(any, WebhookResult::Triggered);
    }

    #[test]
    fn events_of_every_host_are_told_apart() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            event(&headers)
        };
        for (name, value, meant) in [
            ("x-github-event", "push", Event::Push),
            ("x-github-event", "ping", Event::Ping),
            ("x-github-event", "issues", Event::Other),
            ("x-gitlab-event", "Push Hook", Event::Push),
            ("x-gitlab-event", "Tag Push Hook", Event::Push),
            ("x-gitlab-event", "Issue Hook", Event::Other),
            ("x-gitea-event", "push", Event::Push),
            ("x-forgejo-event", "pull_request", Event::Other),
            ("user-agent", "curl", Event::Push),
        ] {
            assert_eq!(of(name, value), meant, "{name}: {value}");
        }
    }
}
