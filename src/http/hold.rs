//! Words that hold something back until an end: suspensions, and the freeze.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::api::{json, leads, try_send, whole};
use super::auth::Caller;
use super::problem::Problem;
use crate::model::hold::LONGEST_REASON;
use crate::model::{Command, Term};
use crate::report::events;

/// The answer: when it ends by itself.
#[derive(Serialize)]
struct Held {
    accepted: bool,
    /// RFC 3339; left out where somebody has to end it.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FreezeBody {
    /// How long, as `8h`.
    #[serde(rename = "for")]
    length: Option<String>,
    /// Until when, RFC 3339.
    until: Option<String>,
    /// Until somebody ends it.
    no_end: bool,
    reason: Option<String>,
    /// The freeze that holds ends.
    end: bool,
}

/// The term that a body names.
pub(super) fn term(length: Option<&str>, until: Option<&str>, reason: Option<&str>) -> Result<Term, Problem> {
    if reason.is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
        return Err(Problem::bad_request(format!("the reason has more than {LONGEST_REASON} characters")));
    }
    let end = match (length, until) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("both `for` and `until` say when it ends").hint("send one of them"));
        }
        (Some(text), None) | (None, Some(text)) => Some(events::until(text).map_err(Problem::bad_request)?),
        (None, None) => None,
    };
    Ok(Term::new(end, reason))
}

/// Hands a command over, and says when it ends by itself.
pub(super) fn taken(shared: &Shared, command: Command, term: &Term, caller: Caller) -> Result<Response, Problem> {
    try_send(shared, command, caller)?;
    let until = term.until.map(|until| until.to_string());
    Ok((StatusCode::ACCEPTED, Json(Held { accepted: true, until })).into_response())
}

pub(super) async fn freeze(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    leads(&shared)?;
    let body = whole(body)?;
    let wanted: FreezeBody = if body.is_empty() { FreezeBody::default() } else { json(&body)? };
    let said = [wanted.length.is_some(), wanted.until.is_some(), wanted.no_end, wanted.end];
    if said.into_iter().filter(|said| *said).count() != 1 {
        return Err(Problem::bad_request("a freeze has one end").hint(
            "send one of `{\"for\":\"8h\"}`, `{\"until\":\"2026-01-02T06:00:00Z\"}`, `{\"no_end\":true}`, or \
                   `{\"end\":true}` to end the one that holds",
        ));
    }
    if wanted.end {
        return taken(&shared, Command::EndFreeze, &Term::default(), caller);
    }
    let term = term(wanted.length.as_deref(), wanted.until.as_deref(), wanted.reason.as_deref())?;
    taken(&shared, Command::Freeze(term.clone()), &term, caller)
}
