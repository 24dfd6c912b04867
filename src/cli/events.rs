//! `ofop events`: what the running daemon did.

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::args::TextOrJson;
use super::client::{Client, DaemonArgs, escape};
use super::context::Context;
use super::output::Paint;
use super::{CliError, Exit, complete};
use crate::model::ResourceId;
use crate::report::EventType;
use crate::report::events::since;

/// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Keep printing as they happen
    #[arg(short, long)]
    pub watch: bool,
    /// From when on: an age (30m, 2h, 7d) or a time (2026-01-02T03:04:05Z) [default: the last 1,000 events]
    #[arg(long, value_name = "TIME", value_parser = since_text)]
    pub since: Option<String>,
    /// Of one resource, app/UUID or device/UUID
    #[arg(long = "for", value_name = "KIND/UUID", add = ArgValueCompleter::new(complete::resources))]
    pub resource: Option<ResourceId>,
    /// Of one type
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<TypeArg>,
    /// How to print; JSON is one object a line, with times in UTC
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// The types of events, as `--type` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TypeArg {
    /// Steps: changes to the cluster and the registry, whether they worked or not
    #[value(alias = "step")]
    Change,
    /// Commands that people and programs gave, with who and from where
    Command,
    /// Conditions that came or went: degraded, rolled back, conflict, removals blocked, …
    Condition,
    /// New commits, and trouble with the source of the manifests
    Source,
}

impl TypeArg {
    fn event_type(self) -> EventType {
        match self {
            TypeArg::Change => EventType::Change,
            TypeArg::Command => EventType::Command,
            TypeArg::Condition => EventType::Condition,
            TypeArg::Source => EventType::Source,
        }
    }
}

/// Checks a time and leaves what it means to the daemon, whose clock counts.
fn since_text(text: &str) -> Result<String, String> {
    since(text).map(|_| text.to_owned())
}

/// The most events that one answer of the daemon holds.
const MOST: &str = "10000";

impl EventsArgs {
    /// The path and query that ask for these events.
    fn path(&self) -> String {
        let mut query = String::new();
        let resource = self.resource.as_ref().map(ToString::to_string);
        let kind = self.kind.map(|kind| kind.event_type().as_str().to_owned());
        let limit = self.since.is_some().then(|| MOST.to_owned());
        let follow = self.watch.then(|| "true".to_owned());
        let parts =
            [("since", self.since.clone()), ("for", resource), ("type", kind), ("limit", limit), ("follow", follow)];
        for (name, value) in parts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(name);
            query.push('=');
            escape(&value, &mut query);
        }
        format!("/api/v1/events{query}")
    }
}

/// Prints the kept events, and with `--watch` those to come until the daemon ends or the reader leaves.
///
/// # Errors
/// When no daemon answers.
pub(super) async fn run(args: &EventsArgs, context: &Context) -> Result<Exit, CliError> {
    let client = Client::new(context)?;
    let print = |event: &Value| {
        context.output.data_line(&match args.output {
            TextOrJson::Text => line(event, context.output.paint),
            TextOrJson::Json => event.to_string(),
        })
    };
    if !args.watch {
        let answer = client.get(&args.path()).await?;
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        for event in &events {
            print(event)?;
        }
        if events.is_empty() {
            context.output.note("no such events are kept");
        } else if events.len().to_string() == MOST {
            context
                .output
                .note(&format!("only the last {MOST} are shown: a later --since, --for or --type shows fewer"));
        }
        return Ok(Exit::Success);
    }
    let mut response = client.stream(&args.path()).await?;
    let mut buffer = Messages::default();
    while let Ok(Some(chunk)) = response.chunk().await {
        for event in buffer.take(&chunk) {
            if context.output.reader_left() {
                return Ok(Exit::Success);
            }
            print(&event)?;
        }
    }
    context.output.note("the daemon ended the stream");
    Ok(Exit::Success)
}

/// A time as people read it: local, with date and zone. What is no time stays as it is.
pub(super) fn local(time: &str, zone: &TimeZone) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
        Err(_) => time.to_owned(),
    }
}

/// One event on a line for people: local time, resource, what, why, outcome.
pub(super) fn line(event: &Value, paint: Paint) -> String {
    line_in(event, paint, &TimeZone::system())
}

fn line_in(event: &Value, paint: Paint, zone: &TimeZone) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    if let Some(skipped) = event["skipped"].as_u64() {
        return paint.yellow(&format!("({skipped} events were missed)"));
    }
    let time = local(&text("time"), zone);
    let time = time.as_str();
    match event["type"].as_str() {
        Some("source") => return source_line(event, time, paint),
        Some("command") => return command_line(event, time, paint),
        Some("condition") => return condition_line(event, time, paint),
        Some(_) | None => {}
    }
    let fields: Vec<&str> = event["fields"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(" [{}]", fields.join(", ")) };
    let is_race = matches!(event["outcome"]["kind"].as_str(), Some("conflict" | "exists" | "gone"));
    let outcome = match event["outcome"]["message"].as_str() {
        // A lost race is part of normal life: the next pass looks again.
        Some(message) if is_race => paint.dim(&format!("conflict: {message}")),
        Some(message) => paint.red(&format!("failed: {message}")),
        None => paint.green("done"),
    };
    let reason = text("reason").replace('_', " ");
    format!(
        "{} {} {} {} ({reason}){fields}: {outcome}",
        paint.dim(time),
        paint.bold(&text("resource")),
        text("verb"),
        text("object"),
    )
}

/// A command: what, and who gave it.
fn command_line(event: &Value, time: &str, paint: Paint) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let from = event["actor"]["address"].as_str().map(|address| format!(" from {address}")).unwrap_or_default();
    let more = event["more"].as_u64().filter(|more| *more > 0);
    let more = more.map(|more| format!(" (and {more} more before)")).unwrap_or_default();
    format!(
        "{} {} {}: by {}{from}{more}",
        paint.dim(time),
        paint.bold("command"),
        text(&event["message"]),
        text(&event["actor"]["name"])
    )
}

/// A condition that came or went.
fn condition_line(event: &Value, time: &str, paint: Paint) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let (condition, reason) = (text("condition"), text("reason"));
    let what = match event["change"].as_str() {
        Some("cleared") => paint.green(&format!("no longer {condition} ({reason})")),
        Some(_) | None => format!("{} ({reason}): {}", paint.yellow(&condition), text("message")),
    };
    format!("{} {} {what}", paint.dim(time), paint.bold(&text("resource")))
}

/// An event of where manifests come from: what happened to which commit.
fn source_line(event: &Value, time: &str, paint: Paint) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let commit = match &event["commit"] {
        Value::Object(commit) => {
            let field = |name: &str| commit.get(name).map(text).unwrap_or_default();
            format!(" commit {} \"{}\" by {}", field("short"), field("subject"), field("author"))
        }
        _ => String::new(),
    };
    let reason = event["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let message = match event["change"].as_str() {
        Some("refused" | "trouble") => paint.red(&text(&event["message"])),
        _ => paint.green(&text(&event["message"])),
    };
    format!("{} {}{commit}{reason}: {message}", paint.dim(time), paint.bold("source"))
}

/// Puts server-sent events together from the chunks that they arrive in.
#[derive(Debug, Default)]
struct Messages {
    rest: Vec<u8>,
}

impl Messages {
    fn take(&mut self, chunk: &[u8]) -> Vec<Value> {
        self.rest.extend_from_slice(chunk);
        let mut values = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let message: Vec<u8> = self.rest.drain(..end + 2).collect();
            for line in String::from_utf8_lossy(&message).lines() {
                if let Some(data) = line.strip_prefix("data:") {
                    values.extend(serde_json::from_str::<Value>(data.trim()).ok());
                }
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_put_together_from_any_chunks() {
        let stream = b": alive\n\nevent: change\nid: 1\ndata: {\"sequence\":1}\n\ndata:{\"skipped\":3}\n\nda";
        for size in 1..stream.len() {
            let mut messages = Messages::default();
            let values: Vec<Value> = stream.chunks(size).flat_map(|chunk| messages.take(chunk)).collect();
            assert_eq!(values, [json!({"sequence": 1}), json!({"skipped": 3})], "{size}");
        }
    }

    #[test]
    fn an_event_of_the_source_reads_as_a_sentence() {
        let event = json!({
            "type": "source", "sequence": 1, "time": "2026-01-02T03:04:05.678Z", "change": "refused",
            "commit": {"short": "1a2b3c4d5e6f", "subject": "Faster", "author": "Line Team"}, "reason": "unverified",
            "message": "commit 1a2b3c4d5e6f is not signed",
        });
        assert_eq!(
            line_in(&event, Paint { on: false }, &TimeZone::UTC),
            "2026-01-02 03:04:05 UTC source commit 1a2b3c4d5e6f \"Faster\" by Line Team (unverified): commit 1a2b3c4d5e6f is not signed"
        );
    }

    #[test]
    fn times_are_local_with_date_and_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(local("2026-01-02T23:04:05.678Z", &zone), "2026-01-03 00:04:05 +01");
        assert_eq!(local("2026-01-02T23:04:05.678Z", &TimeZone::UTC), "2026-01-02 23:04:05 UTC");
        assert_eq!(local("soon", &zone), "soon");
    }

    #[test]
    fn a_condition_reads_as_a_sentence() {
        let event = |change: &str| {
            json!({
                "type": "condition", "sequence": 1, "time": "2026-01-02T03:04:05.678Z", "resource": "app/A",
                "condition": "Degraded", "reason": "RestartLoop", "change": change, "message": "it ends again and again",
            })
        };
        let line = |change: &str| line_in(&event(change), Paint { on: false }, &TimeZone::UTC);
        assert_eq!(line("raised"), "2026-01-02 03:04:05 UTC app/A Degraded (RestartLoop): it ends again and again");
        assert_eq!(line("cleared"), "2026-01-02 03:04:05 UTC app/A no longer Degraded (RestartLoop)");
    }

    #[test]
    fn what_is_asked_for_becomes_a_query() {
        let daemon = || DaemonArgs { address: None, token_file: None };
        let all = EventsArgs {
            watch: false,
            since: None,
            resource: None,
            kind: None,
            output: TextOrJson::Text,
            daemon: daemon(),
        };
        assert_eq!(all.path(), "/api/v1/events");
        let some = EventsArgs {
            watch: true,
            since: Some("2026-01-02T03:04:05+01:00".into()),
            resource: "app/A&B".parse().ok(),
            kind: Some(TypeArg::Command),
            ..all
        };
        assert_eq!(
            some.path(),
            "/api/v1/events?since=2026-01-02T03%3A04%3A05%2B01%3A00&for=app%2FA%26B&type=command&limit=10000&follow=true"
        );
    }

    #[test]
    fn a_command_reads_as_a_sentence() {
        let event = json!({
            "type": "command", "sequence": 1, "time": "2026-01-02T03:04:05.678Z", "command": "suspend",
            "resource": "app/A", "actor": {"name": "anna", "address": "10.0.0.7"}, "message": "suspend app/A",
        });
        let paint = Paint { on: false };
        assert_eq!(
            line_in(&event, paint, &TimeZone::UTC),
            "2026-01-02 03:04:05 UTC command suspend app/A: by anna from 10.0.0.7"
        );
    }

    #[test]
    fn an_event_reads_as_a_sentence() {
        let event = json!({
            "time": "2026-01-02T03:04:05.678Z", "resource": "app/A", "verb": "update", "object": "service a",
            "reason": "manifest_changed", "fields": ["image"],
            "outcome": {"result": "failed", "kind": "rejected", "message": "no such image"},
        });
        assert_eq!(
            line_in(&event, Paint { on: false }, &TimeZone::UTC),
            "2026-01-02 03:04:05 UTC app/A update service a (manifest changed) [image]: failed: no such image"
        );
    }
}
