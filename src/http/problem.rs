//! Errors as the API tells them.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::auth::MAKE_A_TOKEN;
use crate::model::Role;
use crate::report::LeaseSummary;

/// An error as the API tells it.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<Cow<'static, str>>,
}

/// Why a request was refused, for whoever keeps account of it.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

#[derive(Serialize)]
struct Body {
    error: Problem,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Problem { status, code, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn wrong_method(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body exceeds {limit} bytes"))
    }

    pub(super) fn timeout() -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "the request took too long")
    }

    pub(super) fn not_yet(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_yet", message)
    }

    pub(super) fn busy() -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many commands are waiting")
            .hint("try again in a second")
    }

    pub(super) fn too_many_streams() -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", "too many streams are being read")
            .hint("close some, or ask for a list again and again: /api/v1/events?after=N")
    }

    pub(super) fn standby(lease: &LeaseSummary) -> Self {
        let why = lease.notice().unwrap_or_default();
        let problem = Problem::new(StatusCode::CONFLICT, "standby", format!("commands are not taken here: {why}"));
        match lease.holder.as_ref().and_then(|holder| holder.address.as_ref()) {
            Some(address) => problem.hint(format!("ask the operator at {address}, e.g. with --address {address}")),
            None => problem.hint("try again once an operator holds the lease; /leaderz shows which one does"),
        }
    }

    /// A resource that is left alone, which a person would have taken down.
    pub(super) fn left_alone(why: &str, hint: String) -> Self {
        Problem::new(StatusCode::CONFLICT, "suspended", why).hint(hint)
    }

    pub(super) fn nothing_named(verb: &str) -> Self {
        Problem::bad_request(format!("`{verb}` names neither a resource nor everything"))
            .hint("send `{\"resource\":\"KIND/UUID\"}`, or `{\"all\":true}` for everything")
    }

    pub(super) fn stopping() -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the operator is going down")
    }

    pub(super) fn no_token() -> Self {
        Problem::new(
            StatusCode::FORBIDDEN,
            "no_token_configured",
            "commands are switched off: the operator was started without an API token",
        )
        .hint("start it with OFOP_TOKEN set, and send `Authorization: Bearer TOKEN`")
    }

    pub(super) fn unauthorized() -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "the bearer token is missing or wrong")
            .hint("send `Authorization: Bearer TOKEN` with the operator's API token")
    }

    pub(super) fn no_webhook_secret() -> Self {
        Problem::new(
            StatusCode::FORBIDDEN,
            "no_webhook_secret_configured",
            "webhooks are switched off: the operator was started without a webhook secret",
        )
        .hint("start it with OFOP_WEBHOOK_SECRET_FILE set, and give the same secret to the host of the repository")
    }

    pub(super) fn no_token_to_read() -> Self {
        Problem::new(
            StatusCode::FORBIDDEN,
            "no_token_configured",
            "reading is switched off: the operator does not listen on a loopback address and has no API token",
        )
        .hint(format!("{MAKE_A_TOKEN}, or start it with --public-read to let everybody read who reaches it"))
    }

    /// A browser asks for a password then, which is the token.
    pub(super) fn unauthorized_reader() -> Response {
        let mut response = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or wrong")
            .hint("send `Authorization: Bearer TOKEN`; in a browser the token is the password, with any user name")
            .into_response();
        response
            .headers_mut()
            .append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"ofop\", charset=\"UTF-8\""));
        response
    }

    pub(super) fn not_permitted(name: &str, role: Role, needed: Role) -> Self {
        Problem::new(
            StatusCode::FORBIDDEN,
            "not_permitted",
            format!("the token of `{name}` has the role `{}`; this needs `{}`", role.as_str(), needed.as_str()),
        )
        .hint("use the token of somebody who may, or change the role behind the token in the operator's token file")
    }

    /// Says neither what was missing nor what differed.
    pub(super) fn not_proven() -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "the signature or token is missing or wrong")
            .hint("the secret of the webhook must be the operator's webhook secret")
    }

    pub(super) fn foreign_host() -> Self {
        Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "foreign_host",
            "the operator listens on a loopback address and answers only to `localhost` or an IP address",
        )
        .hint("let a proxy send `Host: localhost`, or listen on another address")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let refusal = Refusal { code: self.code, message: self.message.clone() };
        let mut response = (status, Json(Body { error: self })).into_response();
        response.extensions_mut().insert(refusal);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ofop\""));
        }
        response
    }
}
