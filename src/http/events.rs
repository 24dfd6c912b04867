//! Events, as a list or as a stream.
//!
//! `GET /api/v1/events` answers a JSON list. With `?follow`, or when the client accepts `text/event-stream`, it
//! answers server-sent events: those that are still kept, then every new one. `?after=N` and the header
//! `Last-Event-ID: N` skip what is known already; a number from an earlier life of the operator, higher than
//! any of this life, skips nothing. A reader that falls behind gets an event `skipped` with the number that it
//! missed.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, future, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use super::problem::Problem;
use crate::model::ResourceId;
use crate::report::Entry;

/// How often a silent stream says that it is alive; proxies cut streams that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Present, whatever its value but `false`: stream.
    follow: Option<String>,
    after: Option<u64>,
    resource: Option<String>,
}

#[derive(Serialize)]
struct List {
    events: Vec<Entry>,
}

#[derive(Serialize)]
struct Skipped {
    skipped: u64,
}

pub(super) async fn events(
    State(shared): State<Shared>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::bad_request(error.body_text()))?;
    let resource: Option<ResourceId> = match &wanted.resource {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|error: crate::model::InvalidName| Problem::bad_request(error.to_string()))?)
        }
    };
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let after = last.or(wanted.after).unwrap_or(0);
    let (mut past, coming) = shared.report.events(after);
    let concerns = move |entry: &Entry| resource.as_ref().is_none_or(|resource| entry.resource() == Some(resource));
    past.retain(|event| concerns(event));

    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let follow = match wanted.follow.as_deref() {
        Some(value) => value != "false",
        None => accepts.is_some_and(|accepts| accepts.contains("text/event-stream")),
    };
    if !follow {
        return Ok(Json(List { events: past }).into_response());
    }
    let past = stream::iter(past).map(|event| message(&event));
    let messages = past.chain(new(coming, concerns)).map(Ok::<_, std::convert::Infallible>);
    let messages = messages.take_until(shared.closing.cancelled_owned());
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// Every new event, and a note where some were missed.
fn new(coming: Receiver<Entry>, concerns: impl Fn(&Entry) -> bool + Send) -> impl Stream<Item = Message> + Send {
    let messages = stream::unfold(coming, |mut coming| async move {
        match coming.recv().await {
            Ok(event) => Some((Ok(event), coming)),
            Err(RecvError::Lagged(skipped)) => Some((Err(Skipped { skipped }), coming)),
            Err(RecvError::Closed) => None,
        }
    });
    messages.filter_map(move |received| {
        future::ready(match received {
            Ok(event) => concerns(&event).then(|| message(&event)),
            Err(skipped) => Some(data(Message::default().event("skipped"), &skipped)),
        })
    })
}

fn message(entry: &Entry) -> Message {
    let kind = match entry {
        Entry::Change(_) => "change",
        Entry::Command(_) => "command",
        Entry::Source(_) => "source",
    };
    data(Message::default().event(kind).id(entry.sequence().to_string()), entry)
}

fn data(message: Message, value: &impl Serialize) -> Message {
    // Our own values are plain structs, which always serialise; JSON on one line is valid data.
    message.data(serde_json::to_string(value).unwrap_or_default())
}
