//! Events, as a list or as a stream.
//!
//! `GET /api/v1/events` answers a JSON list, those of earlier runs of the operator included. With `?follow`, or when the
//! client accepts `text/event-stream`, it answers server-sent events: those that are asked for, then every new one.
//! `?after=N` and the header `Last-Event-ID: N` skip what is known already; a number that was never given skips nothing.
//! A reader that falls behind gets an event `skipped` with the number that it missed.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::{Stream, StreamExt, future, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use super::api::one_of;
use super::auth::Peer;
use super::connections::{Lasting, PeerKey};
use super::problem::Problem;
use crate::model::InvalidName;
use crate::report::events::since;
use crate::report::{Entry, EventQuery, EventType, Report};

/// How often a silent stream says that it is alive; proxies cut streams that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How many events one answer may have.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Present, whatever its value but `false`: stream.
    follow: Option<String>,
    after: Option<u64>,
    since: Option<String>,
    r#for: Option<String>,
    /// The same as `for`.
    resource: Option<String>,
    r#type: Option<String>,
    limit: Option<usize>,
}

impl Wanted {
    fn query(&self, last: Option<u64>) -> Result<EventQuery, Problem> {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let resource = text(&self.r#for).or_else(|| text(&self.resource));
        let resource = resource.map(|text| text.parse()).transpose();
        let since = text(&self.since).map(|text| since(&text)).transpose();
        let limit = self.limit.unwrap_or(EventQuery::default().limit);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::bad_request(format!("`limit` must be from 1 to {MOST}")));
        }
        Ok(EventQuery {
            after: last.or(self.after).unwrap_or(0),
            since: since.map_err(|error| Problem::bad_request(format!("`since`: {error}")))?,
            resource: resource.map_err(|error: InvalidName| Problem::bad_request(error.to_string()))?,
            kind: one_of("type", self.r#type.as_deref(), &EventType::ALL, EventType::as_str)?,
            limit,
        })
    }
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
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::bad_request(error.body_text()))?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let query = wanted.query(last)?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let follow = match wanted.follow.as_deref() {
        Some(value) => value != "false",
        None => accepts.is_some_and(|accepts| accepts.contains("text/event-stream")),
    };
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Extension(Peer(address))| address);
    let place = if follow { Some(shared.streams.begin(PeerKey::of(peer))) } else { None };
    if let Some(None) = place {
        let mut refused = Problem::too_many_streams().into_response();
        refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(refused);
    }
    let (report, asked) = (shared.report.clone(), query.clone());
    // A file is read.
    let read = tokio::task::spawn_blocking(move || report.history(&asked)).await;
    let (past, coming) = read.map_err(|_| Problem::stopping())?;
    let Some(place) = place.flatten() else {
        return Ok(Json(List { events: past }).into_response());
    };
    let report = shared.report.clone();
    let past = stream::iter(past).map(move |event| message(&event, &report));
    let messages = past.chain(new(coming, query, shared.report.clone())).map(Ok::<_, std::convert::Infallible>);
    // The place is free again when the answer ends.
    let messages = messages.take_until(shared.closing.cancelled_owned()).inspect(move |_| {
        let _ = &place;
    });
    let mut answer = Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    answer.extensions_mut().insert(Lasting);
    Ok(answer)
}

/// Every new event, and a note where some were missed.
fn new(coming: Receiver<Entry>, query: EventQuery, report: Report) -> impl Stream<Item = Message> + Send {
    let messages = stream::unfold(coming, |mut coming| async move {
        match coming.recv().await {
            Ok(event) => Some((Ok(event), coming)),
            Err(RecvError::Lagged(skipped)) => Some((Err(Skipped { skipped }), coming)),
            Err(RecvError::Closed) => None,
        }
    });
    messages.filter_map(move |received| {
        future::ready(match received {
            Ok(event) => query.wants(&event).then(|| message(&event, &report)),
            Err(skipped) => Some(data(Message::default().event("skipped"), &skipped, &report)),
        })
    })
}

fn message(entry: &Entry, report: &Report) -> Message {
    data(Message::default().event(entry.kind().as_str()).id(entry.sequence().to_string()), entry, report)
}

fn data(message: Message, value: &impl Serialize, report: &Report) -> Message {
    // Our own values are plain structs, which always serialise; JSON on one line is valid data.
    let text = serde_json::to_string(value).unwrap_or_default();
    message.data(report.masked(&text))
}
