//! `ofop describe`: everything about one resource.

use std::fmt::Write as _;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::args::TextJsonYaml;
use super::client::{Client, DaemonArgs, resource_path};
use super::context::Context;
use super::output::Paint;
use super::{CliError, Exit, complete, events, history, logs, seen, source_text, suggest};
use crate::model::{Availability, ResourceId, TaskState, TaskView, UpdateState};
use crate::render::yaml as render_yaml;
use crate::report::history::RevisionEntry;
use crate::report::status::ServiceStatus;
use crate::report::{RESOURCE_REVISIONS, ResourceStatus, SourceStatus};

/// `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// app/UUID or device/UUID
    #[arg(value_name = "KIND/UUID", add = ArgValueCompleter::new(complete::resources))]
    pub resource: ResourceId,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextJsonYaml,
    /// The daemon to ask for events, and for all the rest where no manifests are named.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Looks once, or asks the daemon; asks it for the resource's events and revisions if one answers; and prints.
///
/// # Errors
/// When the engine or the source cannot be read, or there is no such resource.
pub(super) async fn run(args: &DescribeArgs, context: &Context) -> Result<Exit, CliError> {
    let status = seen::status(context).await?;
    let Some(resource) = status.get(&args.resource) else {
        return Err(suggest::unknown(&args.resource, &status));
    };
    let answer = Client::new(context)?.get(&resource_path(&args.resource)).await;
    // Without a daemon, what the last one left is in the state directory.
    let revisions = match &answer {
        Ok(answer) => serde_json::from_value(answer["revisions"].clone()).unwrap_or_default(),
        Err(_) => history::left_of(&args.resource, RESOURCE_REVISIONS, context).unwrap_or_default(),
    };
    let events = match answer {
        Ok(answer) => Events::Known(answer["events"].as_array().cloned().unwrap_or_default()),
        Err(error) => Events::Unknown(error.to_string()),
    };
    match args.output {
        TextJsonYaml::Text => {
            let mut text = text(resource, &status.source, &events, &revisions, context.output.paint);
            text.push_str(&last_words(resource, context).await);
            context.output.data(&text)?;
        }
        TextJsonYaml::Json | TextJsonYaml::Yaml => {
            let mut value = serde_json::to_value(resource).map_err(std::io::Error::from)?;
            if let Some(map) = value.as_object_mut() {
                map.insert("source".into(), serde_json::to_value(&status.source).map_err(std::io::Error::from)?);
                if let Events::Known(events) = events {
                    map.insert("events".into(), Value::Array(events));
                }
                map.insert("revisions".into(), serde_json::to_value(&revisions).map_err(std::io::Error::from)?);
            }
            match args.output {
                TextJsonYaml::Yaml => context.output.data(&render_yaml(&value))?,
                TextJsonYaml::Text | TextJsonYaml::Json => context.output.json(&value)?,
            }
        }
    }
    Ok(Exit::Success)
}

/// What the program of a task that fails printed last, where the engine can be asked; else how to see it.
async fn last_words(resource: &ResourceStatus, context: &Context) -> String {
    let mut out = String::new();
    let paint = context.output.paint;
    for (service, task) in resource.services.iter().filter_map(|service| Some((service, crashed(service)?))) {
        heading(&mut out, &format!("Last lines of {} (task {})", service.name, task.slot), paint);
        let lines = logs::last_lines(task, context).await;
        if lines.is_empty() {
            let _ = writeln!(out, "  none at hand: `ofop logs {}` asks for them", resource.id);
        }
        for line in lines {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

/// The newest task that ended with an error, of a service whose tasks do not all run.
fn crashed(service: &ServiceStatus) -> Option<&TaskView> {
    let running = service.running();
    if running.wanted.is_none_or(|wanted| running.running >= wanted) {
        return None;
    }
    let failed = service.tasks.iter().filter(|task| matches!(task.state, TaskState::Failed | TaskState::Complete));
    failed.max_by(|one, other| one.since.cmp(&other.since))
}

/// The last events of a resource.
#[derive(Debug)]
pub enum Events {
    /// As the daemon answered, oldest first.
    Known(Vec<Value>),
    /// No daemon could be asked, or it refused; why.
    Unknown(String),
}

/// The text for people.
pub fn text(
    resource: &ResourceStatus,
    source: &SourceStatus,
    events: &Events,
    revisions: &[RevisionEntry],
    paint: Paint,
) -> String {
    let mut out = String::new();
    head(&mut out, resource, source, paint);
    conditions(&mut out, resource, paint);
    ignored(&mut out, resource, paint);
    services(&mut out, resource, paint);
    records(&mut out, resource, paint);
    if !revisions.is_empty() {
        heading(&mut out, "Last revisions", paint);
        for line in history::details(revisions, paint, &TimeZone::system()).lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    heading(&mut out, "Events", paint);
    match events {
        Events::Unknown(why) => {
            let _ = writeln!(out, "  unknown: {why}");
        }
        Events::Known(list) if list.is_empty() => out.push_str("  none\n"),
        Events::Known(list) => {
            for event in list {
                let _ = writeln!(out, "  {}", events::line(event, paint));
            }
        }
    }
    out
}

fn heading(out: &mut String, text: &str, paint: Paint) {
    let _ = writeln!(out, "\n{}", paint.bold(text));
}

fn field(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{name:<12}{text}");
}

fn head(out: &mut String, resource: &ResourceStatus, source: &SourceStatus, paint: Paint) {
    let origin = resource.origin.as_ref().map_or("no longer described".into(), ToString::to_string);
    field(out, "Resource", &paint.bold(&resource.id.to_string()));
    field(out, "Manifest", &origin);
    field(out, "Source", &source_text::line(source));
    if let (Some(trouble), Some(message)) = (&source.trouble, &source.part.message) {
        let since = trouble.since.as_ref().map(|since| format!(" since {}", to_seconds(since))).unwrap_or_default();
        field(out, "", &paint.yellow(&format!("not the newest ({}{since}): {message}", trouble.reason.as_str())));
    }
    if let Some(revision) = &resource.revision {
        field(out, "Revision", revision.short());
    }
    field(out, "Sync", &paint.sync(resource.sync));
    field(out, "Health", &paint.health(resource.health));
    if resource.pending_steps > 0 {
        field(out, "Steps to do", &resource.pending_steps.to_string());
    }
    let handling = &resource.handling;
    let said =
        [("suspend: true", handling.suspend), ("prune: false", !handling.prune), ("adopt: true", handling.adopt)];
    for (said, _) in said.into_iter().filter(|(_, holds)| *holds) {
        field(out, "Manifest", &format!("says `{said}`"));
    }
    if !handling.ignore.is_empty() {
        let fields: Vec<String> = handling.ignore.iter().map(ToString::to_string).collect();
        field(out, "Ignored", &fields.join(", "));
    }
    if !handling.windows.is_default() {
        field(out, "Windows", &handling.windows.to_string());
    }
    if !handling.after.is_empty() {
        let after: Vec<String> = handling.after.iter().map(ToString::to_string).collect();
        field(out, "Comes after", &after.join(", "));
    }
    if let Some(rollout) = &handling.rollout {
        field(out, "Rollout", &rollout.to_string());
    }
    if let Some(retry) = &resource.retry {
        field(out, "Next try", &format!("{} (failed {} times)", retry.at, retry.failures));
    }
}

fn conditions(out: &mut String, resource: &ResourceStatus, paint: Paint) {
    if !resource.conditions.is_empty() {
        heading(out, "Conditions", paint);
        for condition in &resource.conditions {
            let since =
                condition.since.as_ref().map(|since| format!(" since {}", to_seconds(since))).unwrap_or_default();
            let kind = paint.yellow(condition.kind.as_str());
            let _ = writeln!(out, "  {kind} ({}){since}: {}", condition.reason, condition.message);
        }
    }
    if !resource.drift.is_empty() {
        heading(out, "Drift", paint);
        for drift in &resource.drift {
            let word = drift.drift.as_str().replace('_', " ");
            let fields = if drift.fields.is_empty() { String::new() } else { format!(": {}", drift.fields.join(", ")) };
            let _ = writeln!(out, "  {} {}{fields}", drift.object, paint.yellow(&word));
        }
    }
}

fn ignored(out: &mut String, resource: &ResourceStatus, paint: Paint) {
    if resource.ignored.is_empty() {
        return;
    }
    heading(out, "Differences that are ignored", paint);
    for ignored in &resource.ignored {
        let _ = writeln!(out, "  {}: {}", ignored.object, ignored.fields.join(", "));
    }
}

fn services(out: &mut String, resource: &ResourceStatus, paint: Paint) {
    heading(out, "Services", paint);
    if resource.services.is_empty() {
        out.push_str("  none\n");
    }
    for service in &resource.services {
        let (presence, running) = (service.presence.as_str(), service.running());
        let _ = writeln!(out, "  {} {presence}, {running} running", paint.bold(&service.name));
        let _ = writeln!(out, "    image {}", service.image);
        if let Some(id) = &service.id {
            let _ = writeln!(out, "    id    {id}");
        }
        if let Some(update) = update(&service.update) {
            let _ = writeln!(out, "    last update {update}");
        }
        for task in service.tasks.iter().filter(|task| task.wanted || !task.error.is_empty()) {
            let word = serde_json::to_value(task.state).ok();
            let word = word.as_ref().and_then(Value::as_str).unwrap_or("unknown");
            let node = if task.node.is_empty() { String::new() } else { format!(" on {}", service.host(task)) };
            let error = if task.error.is_empty() { String::new() } else { paint.red(&format!(": {}", task.error)) };
            let _ = writeln!(out, "    task {} {word}{node} since {}{error}", task.slot, to_seconds(&task.since));
        }
    }
}

/// A time as people read it: without its fraction of a second.
fn to_seconds(time: &str) -> String {
    match (time.split_once('.'), time.strip_suffix('Z')) {
        (Some((whole, _)), Some(_)) => format!("{whole}Z"),
        _ => time.to_owned(),
    }
}

fn update(state: &UpdateState) -> Option<String> {
    let said = |word: &str, message: &String| {
        Some(if message.is_empty() { word.to_owned() } else { format!("{word}: {message}") })
    };
    match state {
        UpdateState::None => None,
        UpdateState::Updating => Some("under way".into()),
        UpdateState::Completed => Some("completed".into()),
        UpdateState::Paused(message) => said("paused", message),
        UpdateState::RollbackStarted(message) => said("is being rolled back", message),
        UpdateState::RollbackPaused(message) => said("stopped while being rolled back", message),
        UpdateState::RollbackCompleted(message) => said("was rolled back", message),
    }
}

fn records(out: &mut String, resource: &ResourceStatus, paint: Paint) {
    heading(out, "Records", paint);
    if resource.records.is_empty() {
        out.push_str("  none\n");
    }
    for record in &resource.records {
        let state = match (record.wanted, record.registered) {
            (_, None) => "unknown",
            (true, Some(true)) => "registered",
            (true, Some(false)) => "not registered",
            (false, Some(true)) => "still registered",
            (false, Some(false)) => "gone",
        };
        let mut more = Vec::new();
        more.extend(record.asset_type.clone().filter(|text| !text.is_empty()));
        more.extend(
            record.docker_service.as_ref().filter(|text| !text.is_empty()).map(|name| format!("service {name}")),
        );
        more.extend(record.uns_id.clone());
        more.extend(record.availability.map(|availability| {
            match availability {
                Availability::Available => "available",
                Availability::Unavailable => "unavailable",
            }
            .to_owned()
        }));
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        let _ = writeln!(out, "  {} {state}{more}", record.record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lose_their_fraction_and_other_words_stay() {
        assert_eq!(to_seconds("2026-11-22T14:40:06.05682992Z"), "2026-11-22T14:40:06Z");
        for other in ["2026-11-22T14:40:06Z", "2026-11-22T14:40:06.5+01:00", ""] {
            assert_eq!(to_seconds(other), other);
        }
    }
}
