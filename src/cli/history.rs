//! `ofop history`: which revision was rolled out when, and what became of it.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::json;

use super::client::{Client, DaemonArgs, escape};
use super::context::Context;
use super::events::local;
use super::output::{Output, Paint};
use super::table::{Cell, Table};
use super::{CliError, Exit, complete};
use crate::model::ResourceId;
use crate::render::yaml;
use crate::report::history::{
    DEFAULT_LIMIT, FieldEntry, HistoryQuery, MOST, ResourceEntry, ResourceResult, RevisionEntry, RevisionResult,
    read_file,
};

/// `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Of one resource: app/UUID or device/UUID, with what changed in each revision [default: every revision]
    #[arg(value_name = "KIND/UUID", add = ArgValueCompleter::new(complete::resources))]
    pub resource: Option<ResourceId>,
    /// Of one revision, by the beginning of its id, with everything that it touched
    #[arg(long, value_name = "REV", value_parser = beginning_of_id)]
    pub revision: Option<String>,
    /// How many revisions to show, at most 1000
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = limit)]
    pub limit: usize,
    /// Those before the revision with this number, for the page after one
    #[arg(long, value_name = "NUMBER")]
    pub before: Option<u64>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: HistoryFormat,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// How `history` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum HistoryFormat {
    /// A table; of a resource or a revision, what changed.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number from 1 to {MOST}"))
}

fn beginning_of_id(text: &str) -> Result<String, String> {
    let is_id = (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(format!("`{text}` is not the beginning of a revision's id, which has 4 to 64 hexadecimal digits"));
    }
    Ok(text.to_ascii_lowercase())
}

/// One page of the history.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    /// Newest first.
    pub(super) history: Vec<RevisionEntry>,
    /// What the next page is before.
    next: Option<u64>,
}

/// Asks the daemon, or reads what the last one left in the state directory, and prints.
///
/// # Errors
/// When a daemon refuses, and when there is neither a daemon nor a history.
pub(super) async fn run(args: &HistoryArgs, context: &Context) -> Result<Exit, CliError> {
    let whole = args.revision.is_some() && args.resource.is_none();
    let query = HistoryQuery {
        resource: args.resource.clone(),
        revision: args.revision.clone(),
        before: args.before,
        resources: whole,
        // A beginning of an id may be that of several revisions, each with thousands of resources.
        limit: if whole { args.limit.min(DEFAULT_LIMIT) } else { args.limit },
    };
    let page = match ask(&query, context).await? {
        Some(page) => page,
        None => left(&query, context)?,
    };
    let output = &context.output;
    let as_json = || json!({ "history": page.history, "next": page.next });
    match args.output {
        HistoryFormat::Json => output.json(&as_json())?,
        HistoryFormat::Yaml => output.data(&yaml(&as_json()))?,
        HistoryFormat::Table if page.history.is_empty() => output.note("no such revision is in the history"),
        HistoryFormat::Table => {
            let zone = TimeZone::system();
            if args.resource.is_some() || whole {
                output.data(&details(&page.history, output.paint, &zone))?;
            } else {
                output.data(&table(&page.history, output, &zone))?;
            }
            if let Some(next) = page.next {
                output.note(&format!("older ones: --before {next}"));
            }
        }
    }
    Ok(Exit::Success)
}

/// What the daemon answers; none where no daemon is there.
async fn ask(query: &HistoryQuery, context: &Context) -> Result<Option<Page>, CliError> {
    let client = Client::new(context)?;
    let Some(answer) = client.find(&path(query)).await? else { return Ok(None) };
    serde_json::from_value(answer).map(Some).map_err(|error| CliError::Daemon {
        what: format!("the answer of the daemon at {} cannot be understood: {error}", client.address()),
        hint: "it may be of another version than this program".into(),
    })
}

/// The path and query that ask for these revisions.
fn path(query: &HistoryQuery) -> String {
    let mut path = format!("/api/v1/history?limit={}", query.limit);
    let resource = query.resource.as_ref().map(ToString::to_string);
    let before = query.before.map(|before| before.to_string());
    let resources = query.resources.then(|| "true".to_owned());
    let parts = [("for", resource), ("revision", query.revision.clone()), ("before", before), ("resources", resources)];
    for (name, value) in parts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let _ = write!(path, "&{name}=");
        escape(&value, &mut path);
    }
    path
}

/// What the last daemon left in the state directory.
fn left(query: &HistoryQuery, context: &Context) -> Result<Page, CliError> {
    let (address, directory) = (&context.config.address, &context.config.state_dir);
    let more = HistoryQuery { limit: query.limit + 1, ..query.clone() };
    let mut history = read_file(directory, &more).map_err(|why| {
        CliError::usage(
            format!("no daemon answers at {address}, and {why}"),
            "name the daemon's address with --address, or its state directory with --state-dir",
        )
    })?;
    context.output.note(&format!("no daemon answers at {address}: as the last one left it in {}", directory.display()));
    let next = (history.len() > query.limit).then(|| history.truncate(query.limit));
    let next = next.and_then(|()| history.last().map(|entry| entry.number));
    Ok(Page { history, next })
}

/// The last revisions of one resource, from the state directory; none where no daemon left any.
pub(super) fn left_of(resource: &ResourceId, limit: usize, context: &Context) -> Option<Vec<RevisionEntry>> {
    let query = HistoryQuery { resource: Some(resource.clone()), limit, ..HistoryQuery::default() };
    read_file(&context.config.state_dir, &query).ok()
}

/// The revision that came into force last, by the same.
pub(super) fn newest_left(context: &Context) -> Option<RevisionEntry> {
    let query = HistoryQuery { limit: 1, ..HistoryQuery::default() };
    read_file(&context.config.state_dir, &query).ok()?.pop()
}

/// A line for each revision.
fn table(history: &[RevisionEntry], output: &Output, zone: &TimeZone) -> String {
    let mut table =
        Table::new(&["FIRST SEEN", "REVISION", "RESULT", "CREATED", "CHANGED", "REMOVED", "TOOK", "COMMIT"]);
    for entry in history {
        let took = entry.milliseconds.map_or_else(|| "–".to_owned(), took);
        table.row(vec![
            Cell::plain(local_to_seconds(&entry.first_seen, zone)),
            Cell::plain(entry.revision.short()),
            Cell::painted(entry.result.words(), paint_result(entry.result, output.paint)),
            Cell::plain(entry.created.to_string()),
            Cell::plain(entry.changed.to_string()),
            Cell::plain(entry.removed.to_string()),
            Cell::plain(took),
            Cell::plain(remark(entry)),
        ]);
    }
    table.render(output.paint, output.width)
}

/// What else a person should know of a revision: by whom it is, and what is in its way.
fn remark(entry: &RevisionEntry) -> String {
    let mut parts = Vec::new();
    parts.extend(entry.obstacle.as_ref().map(|obstacle| format!("{}: {}", obstacle.resource, obstacle.message)));
    if entry.unsettled > 1 {
        parts.push(format!("{} resources not settled", entry.unsettled));
    }
    if entry.errors > 0 {
        parts.push(format!("{} errors in its manifests", entry.errors));
    }
    if let Some(by) = entry.replaced_by.as_ref().filter(|_| entry.result == RevisionResult::Superseded) {
        parts.push(format!("superseded by {} before it ended", by.short()));
    }
    parts.extend(by_whom(entry));
    parts.join("; ")
}

fn by_whom(entry: &RevisionEntry) -> Option<String> {
    entry.commit.as_ref().map(|commit| format!("\"{}\" by {}", commit.subject, commit.author))
}

/// Every revision with the resources that it touched.
pub(super) fn details(history: &[RevisionEntry], paint: Paint, zone: &TimeZone) -> String {
    let mut out = String::new();
    for entry in history {
        let whom = by_whom(entry).map(|whom| format!(" {whom}")).unwrap_or_default();
        let took = entry.milliseconds.map(|time| format!(", settled within {}", took(time))).unwrap_or_default();
        let by = entry.replaced_by.as_ref().map(|by| format!(", {} came after it", by.short())).unwrap_or_default();
        let _ = writeln!(
            out,
            "{} {}{whom}: {}{took}{by}",
            paint.dim(&local(&entry.first_seen, zone)),
            paint.bold(entry.revision.short()),
            paint_result(entry.result, paint),
        );
        for resource in &entry.resources {
            one(&mut out, resource, paint);
        }
    }
    out
}

/// One resource in a revision.
fn one(out: &mut String, own: &ResourceEntry, paint: Paint) {
    let result = match own.result {
        ResourceResult::Settled => paint.green(own.result.words()),
        ResourceResult::OnItsWay | ResourceResult::Superseded => paint.yellow(own.result.words()),
        ResourceResult::Failed => paint.red(own.result.words()),
    };
    let took = own.milliseconds.map(|time| format!(" after {}", took(time))).unwrap_or_default();
    let origin = own.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
    let (resource, change) = (own.resource.to_string(), own.change.as_str());
    let why = own.obstacle.as_ref().map(|obstacle| format!(": {}", obstacle.message)).unwrap_or_default();
    let _ = writeln!(out, "  {} {change}{origin}, {result}{took}{why}", paint.bold(&resource));
    for step in &own.steps {
        let _ = writeln!(out, "    {} {} ({})", step.verb, step.object, step.reason.as_str());
        for change in &step.changes {
            let _ = writeln!(out, "      {}  {}", change.field, values(change));
        }
    }
}

fn values(change: &FieldEntry) -> String {
    if change.secret {
        return "(hidden)".to_owned();
    }
    let shown = |value: &Option<String>| match value {
        None => "(none)".to_owned(),
        Some(value) if value.is_empty() => "\"\"".to_owned(),
        Some(value) => value.escape_debug().to_string(),
    };
    format!("{} -> {}", shown(&change.from), shown(&change.to))
}

fn paint_result(result: RevisionResult, paint: Paint) -> String {
    let words = result.words();
    match result {
        RevisionResult::InForce => paint.green(words),
        RevisionResult::OnItsWay => paint.yellow(words),
        RevisionResult::Failed => paint.red(words),
        RevisionResult::Replaced => words.to_owned(),
        RevisionResult::Superseded => paint.yellow(words),
    }
}

/// A time in the user's zone, to the second and without the zone's name.
fn local_to_seconds(time: &str, zone: &TimeZone) -> String {
    let text = local(time, zone);
    text.get(..19).map_or(text.clone(), str::to_owned)
}

/// How long something took, as people read it.
fn took(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..10 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        for (milliseconds, text) in [
            (0, "0.0 s"),
            (950, "0.9 s"),
            (12_345, "12 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(took(milliseconds), text);
        }
    }

    #[test]
    fn what_asks_a_daemon_is_escaped() {
        let query = HistoryQuery {
            resource: Some("app/A".parse().unwrap()),
            revision: Some("0a1b".into()),
            before: Some(7),
            resources: true,
            limit: 3,
        };
        assert_eq!(path(&query), "/api/v1/history?limit=3&for=app%2FA&revision=0a1b&before=7&resources=true");
        assert_eq!(path(&HistoryQuery::default()), "/api/v1/history?limit=20");
    }

    #[test]
    fn a_revision_is_named_by_the_beginning_of_its_id() {
        assert_eq!(beginning_of_id("0A1b").as_deref(), Ok("0a1b"));
        for wrong in ["", "0a1", "main", "HEAD~1", &"0".repeat(65)] {
            assert!(beginning_of_id(wrong).is_err(), "{wrong}");
        }
        assert!(limit("0").is_err() && limit("1001").is_err() && limit("x").is_err());
        assert_eq!(limit("1000"), Ok(1000));
    }
}
