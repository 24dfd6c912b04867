//! What `get` shows, as tables, names and JSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::What;
use crate::cli::CliError;
use crate::cli::age::age;
use crate::cli::output::Paint;
use crate::cli::table::{Cell, Table};
use crate::model::{Availability, Kind, Verdict};
use crate::report::status::{Ownership, RecordStatus, ServiceStatus};
use crate::report::{ResourceStatus, Status};

/// The resources that are asked for.
pub(super) fn resources(status: &Status, what: What) -> impl Iterator<Item = &ResourceStatus> {
    let shows = move |kind| match what {
        What::Apps => kind == Kind::App,
        What::Devices => kind == Kind::Device,
        What::Resources | What::All => true,
        What::Services | What::Assets => false,
    };
    status.resources.iter().filter(move |resource| shows(resource.kind))
}

fn services(status: &Status) -> impl Iterator<Item = (&ResourceStatus, &ServiceStatus)> {
    status.resources.iter().flat_map(|resource| resource.services.iter().map(move |service| (resource, service)))
}

/// Assets with their resources, and other people's when assets are what is asked for.
fn assets(status: &Status, what: What) -> impl Iterator<Item = (Option<&ResourceStatus>, &RecordStatus)> {
    let others = if what == What::Assets { &status.other_assets[..] } else { &[] };
    status
        .resources
        .iter()
        .flat_map(|resource| resource.records.iter().map(move |record| (Some(resource), record)))
        .filter(|(_, record)| record.record.kind() == "asset")
        .chain(others.iter().map(|record| (None, record)))
}

pub(super) fn names(status: &Status, what: What) -> String {
    let mut names: Vec<String> = resources(status, what).map(|resource| resource.id.to_string()).collect();
    if matches!(what, What::Services | What::All) {
        names.extend(services(status).map(|(_, service)| format!("service/{}", service.name)));
    }
    if matches!(what, What::Assets | What::All) {
        names.extend(assets(status, what).map(|(_, record)| format!("asset/{}", record.record.asset())));
    }
    names.into_iter().map(|name| name + "\n").collect()
}

pub(super) fn value(status: &Status, what: What) -> Result<Value, CliError> {
    let with_resource = |resource: Option<&ResourceStatus>, part: Result<Value, serde_json::Error>| {
        let mut value = part.map_err(std::io::Error::from)?;
        if let Value::Object(map) = &mut value {
            map.insert("resource".into(), json!(resource.map(|resource| resource.id.to_string())));
        }
        Ok::<_, CliError>(value)
    };
    Ok(match what {
        What::All => serde_json::to_value(status).map_err(std::io::Error::from)?,
        What::Apps | What::Devices | What::Resources => {
            json!({ "resources": resources(status, what).collect::<Vec<_>>() })
        }
        What::Services => json!({ "services": services(status)
            .map(|(resource, service)| with_resource(Some(resource), serde_json::to_value(service)))
            .collect::<Result<Vec<_>, _>>()? }),
        What::Assets => json!({ "assets": assets(status, what)
            .map(|(resource, record)| with_resource(resource, serde_json::to_value(record)))
            .collect::<Result<Vec<_>, _>>()? }),
    })
}

/// The tables, one below the other, cut to `width`.
pub(super) fn text(status: &Status, what: What, paint: Paint, wide: bool, width: Option<usize>) -> String {
    let mut parts = Vec::new();
    if matches!(what, What::Apps | What::Devices | What::Resources | What::All) {
        parts.push(resource_table(resources(status, what), now(status), paint, wide));
    }
    if matches!(what, What::Services | What::All) {
        parts.push(service_table(status, now(status), wide));
    }
    if matches!(what, What::Assets | What::All) {
        parts.push(asset_table(status, what, wide));
    }
    let shown: Vec<String> =
        parts.iter().filter(|table| !table.is_empty()).map(|table| table.render(paint, width)).collect();
    if shown.is_empty() { "nothing found\n".into() } else { shown.join("\n") }
}

/// When what is shown was seen: by that clock ages are told.
pub(super) fn now(status: &Status) -> Option<Timestamp> {
    status.time.as_ref()?.parse().ok()
}

/// The table of resources.
pub(super) fn resource_table<'a>(
    resources: impl Iterator<Item = &'a ResourceStatus>,
    now: Option<Timestamp>,
    paint: Paint,
    wide: bool,
) -> Table {
    let mut table = if wide {
        Table::new(&["RESOURCE", "SYNC", "HEALTH", "RUNNING", "AGE", "SINCE", "STEPS", "REVISION", "FILE", "NOTE"])
    } else {
        Table::new(&["RESOURCE", "SYNC", "HEALTH", "RUNNING", "AGE", "NOTE"])
    };
    for resource in resources {
        let mut row = vec![
            Cell::plain(resource.id.to_string()),
            Cell::painted(resource.sync.as_str(), paint.sync(resource.sync)),
            Cell::painted(resource.health.as_str(), paint.health(resource.health)),
            Cell::plain(resource.running().map_or("-".into(), |running| running.to_string())),
            Cell::plain(ago(now, created(resource))),
        ];
        if wide {
            row.push(Cell::plain(ago(now, resource.health_since.as_deref())));
            row.push(Cell::plain(resource.pending_steps.to_string()));
            row.push(Cell::plain(resource.revision.as_ref().map_or("-", |revision| revision.short())));
            row.push(Cell::plain(resource.origin.as_ref().map_or("-".into(), ToString::to_string)));
        }
        row.push(Cell::plain(note(resource)));
        table.row(row);
    }
    table
}

/// When the first of its services was created.
pub(super) fn created(resource: &ResourceStatus) -> Option<&str> {
    let times = resource.services.iter().filter_map(|service| service.created.as_deref());
    times.min_by_key(|time| time.parse::<Timestamp>().ok())
}

fn ago(now: Option<Timestamp>, time: Option<&str>) -> String {
    now.zip(time).map_or_else(|| "-".to_owned(), |(now, time)| age(now, time))
}

/// The reason in one word and what the verdict says; of a settled resource, what else is known of it.
pub(super) fn note(resource: &ResourceStatus) -> String {
    let condition = resource.conditions.first();
    match &resource.verdict {
        Verdict::Blocked(block) => format!("{}: {}", word(block.kind.as_str()), block.message),
        Verdict::InProgress { message, .. } => match condition.filter(|condition| condition.message == *message) {
            Some(condition) => format!("{}: {message}", condition.reason),
            None => message.clone(),
        },
        Verdict::Settled => {
            let ignored = || {
                let ignored = resource.ignored.first()?;
                Some(format!("ignored: {} ({})", ignored.object, ignored.fields.join(", ")))
            };
            let condition = condition.map(|condition| format!("{}: {}", condition.reason, condition.message));
            condition.or_else(ignored).unwrap_or_default()
        }
    }
}

/// `restart_loop` as reasons are written: `RestartLoop`.
fn word(kind: &str) -> String {
    let capital = |part: &str| {
        let mut letters = part.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    kind.split('_').map(capital).collect()
}

fn service_table(status: &Status, now: Option<Timestamp>, wide: bool) -> Table {
    let mut table = if wide {
        Table::new(&["SERVICE", "RESOURCE", "STATE", "RUNNING", "AGE", "ID", "IMAGE"])
    } else {
        Table::new(&["SERVICE", "RESOURCE", "STATE", "RUNNING", "AGE", "IMAGE"])
    };
    for (resource, service) in services(status) {
        let mut row = vec![
            Cell::plain(&service.name),
            Cell::plain(resource.id.to_string()),
            Cell::plain(service.presence.as_str()),
            Cell::plain(service.running().to_string()),
            Cell::plain(ago(now, service.created.as_deref())),
        ];
        if wide {
            row.push(Cell::plain(service.id.as_deref().unwrap_or("-")));
        }
        row.push(Cell::plain(&service.image));
        table.row(row);
    }
    table
}

fn asset_table(status: &Status, what: What, wide: bool) -> Table {
    let mut table = if wide {
        Table::new(&["ASSET", "RESOURCE", "TYPE", "OWNER", "AVAILABLE", "SERVICE", "NAMESPACE"])
    } else {
        Table::new(&["ASSET", "RESOURCE", "TYPE", "OWNER", "AVAILABLE"])
    };
    for (resource, record) in assets(status, what) {
        let text = |text: &Option<String>| Cell::plain(text.as_deref().filter(|text| !text.is_empty()).unwrap_or("-"));
        let mut row = vec![
            Cell::plain(record.record.asset().as_str()),
            Cell::plain(resource.map_or_else(|| "-".to_owned(), |resource| resource.id.to_string())),
            text(&record.asset_type),
            Cell::plain(owner(record)),
            Cell::plain(match record.availability {
                Some(Availability::Available) => "yes",
                Some(Availability::Unavailable) => "no",
                None => "-",
            }),
        ];
        if wide {
            row.push(text(&record.docker_service));
            row.push(text(&record.uns_id));
        }
        table.row(row);
    }
    table
}

/// Whose an asset is, or why that cannot be said.
fn owner(record: &RecordStatus) -> String {
    match (record.registered, record.owner) {
        (None, _) => "unknown".into(),
        (Some(false), _) if record.wanted => "missing".into(),
        (Some(false), _) => "gone".into(),
        (Some(true), Some(Ownership::Ours) | None) => "ours".into(),
        (Some(true), Some(Ownership::Adoptable)) => "to adopt".into(),
        (Some(true), Some(Ownership::Foreign)) => "foreign".into(),
        (Some(true), Some(Ownership::Another)) => {
            record.instance.as_ref().map_or_else(|| "another".to_owned(), |instance| format!("by {instance}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlockKind;

    #[test]
    fn kinds_of_obstacles_are_one_word() {
        assert_eq!(word(BlockKind::RestartLoop.as_str()), "RestartLoop");
        for kind in BlockKind::ALL {
            let word = word(kind.as_str());
            assert!(word.starts_with(char::is_uppercase) && !word.contains(['_', ' ']), "{word}");
        }
    }
}
