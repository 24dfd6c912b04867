//! `ofop events`: what the running daemon did.

use clap::Args;
use serde_json::Value;

use super::args::TextOrJson;
use super::client::{Client, DaemonArgs};
use super::context::Context;
use super::output::Paint;
use super::{CliError, Exit};

/// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Keep printing as they happen
    #[arg(short, long)]
    pub watch: bool,
    /// How to print; JSON is one object a line
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
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
        let answer = client.get("/api/v1/events").await?;
        for event in answer["events"].as_array().into_iter().flatten() {
            print(event)?;
        }
        return Ok(Exit::Success);
    }
    let mut response = client.stream("/api/v1/events?follow").await?;
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

/// One event on a line for people: time, resource, what, why, outcome.
pub(super) fn line(event: &Value, paint: Paint) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    if let Some(skipped) = event["skipped"].as_u64() {
        return paint.yellow(&format!("({skipped} events were missed)"));
    }
    let time = text("time");
    let time = time.get(11..19).unwrap_or(&time);
    match event["type"].as_str() {
        Some("source") => return source_line(event, time, paint),
        Some("command") => return command_line(event, time, paint),
        Some(_) | None => {}
    }
    let fields: Vec<&str> = event["fields"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(" [{}]", fields.join(", ")) };
    let outcome = match event["outcome"]["message"].as_str() {
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
    format!(
        "{} {} {}: by {}{from}",
        paint.dim(time),
        paint.bold("command"),
        text(&event["message"]),
        text(&event["actor"]["name"])
    )
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
            line(&event, Paint { on: false }),
            "03:04:05 source commit 1a2b3c4d5e6f \"Faster\" by Line Team (unverified): commit 1a2b3c4d5e6f is not signed"
        );
    }

    #[test]
    fn a_command_reads_as_a_sentence() {
        let event = json!({
            "type": "command", "sequence": 1, "time": "2026-01-02T03:04:05.678Z", "command": "suspend",
            "resource": "app/A", "actor": {"name": "anna", "address": "10.0.0.7"}, "message": "suspend app/A",
        });
        let paint = Paint { on: false };
        assert_eq!(line(&event, paint), "03:04:05 command suspend app/A: by anna from 10.0.0.7");
    }

    #[test]
    fn an_event_reads_as_a_sentence() {
        let event = json!({
            "time": "2026-01-02T03:04:05.678Z", "resource": "app/A", "verb": "update", "object": "service a",
            "reason": "manifest_changed", "fields": ["image"],
            "outcome": {"result": "failed", "kind": "rejected", "message": "no such image"},
        });
        assert_eq!(
            line(&event, Paint { on: false }),
            "03:04:05 app/A update service a (manifest changed) [image]: failed: no such image"
        );
    }
}
