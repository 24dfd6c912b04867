//! `ofop get`: what is wanted beside what is there.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::DaemonArgs;
use super::context::Context;
use super::hold;
use super::output::Paint;
use super::table::{Cell, NARROW, Table};
use super::{CliError, Exit, lease, problems, seen, service_assets, source_text};
use crate::model::{Availability, Kind, Standing, Verdict};
use crate::render::yaml as render_yaml;
use crate::report::status::{Ownership, RecordStatus, ServiceStatus};
use crate::report::{LeaseSummary, ResourceStatus, Status};

/// `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// What to list
    #[arg(value_enum, default_value_t)]
    pub what: What,
    /// Only the assets that this service embodies: `cam`, a replica `cam-2`, or a task `cam.2` [with: assets]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: GetFormat,
    /// The daemon to ask where no manifests are named.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// What `get` lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Apps.
    #[value(alias = "app")]
    Apps,
    /// Devices.
    #[value(alias = "device")]
    Devices,
    /// The services of apps and devices.
    #[value(alias = "service")]
    Services,
    /// The assets of apps and devices, and everybody else's.
    #[value(alias = "asset")]
    Assets,
    /// Everything.
    #[default]
    All,
}

/// How `get` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum GetFormat {
    /// A table that fits 80 columns.
    #[default]
    Table,
    /// A table with more columns, as wide as they need.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// One name a line.
    Name,
}

/// Looks once, or asks the daemon, and prints.
///
/// # Errors
/// When the engine or the source cannot be read, and no daemon answers instead.
pub(super) async fn run(args: &GetArgs, context: &Context) -> Result<Exit, CliError> {
    let mut status = seen::status(context).await?;
    if let Some(service) = &args.service {
        if args.what != What::Assets {
            return Err(CliError::usage(
                "--service is about assets",
                format!("write `ofop get assets --service {service}`"),
            ));
        }
        service_assets::keep(&mut status, service);
    }
    context.output.data(&render(&status, args.what, args.output, context.output.paint)?)?;
    if matches!(args.output, GetFormat::Table | GetFormat::Wide) {
        source_text::note(&status.source, &context.output);
        hold::note(&status, &context.output);
        if let Some(lease) = &status.lease {
            context.output.note(&lease_line(lease, context).await);
        }
    }
    if !status.problems.is_empty() {
        context
            .output
            .note(&format!("{} in the manifests; `ofop validate` shows them", problems::count(&status.problems)));
    }
    Ok(Exit::Success)
}

/// Who holds the lease. Of a command's own look, which sees the lease once, the holder is asked whether it lives.
async fn lease_line(lease: &LeaseSummary, context: &Context) -> String {
    let (Some(line), Some(holder)) = (lease.holder_line(), &lease.holder) else {
        return "lease: nobody holds it".into();
    };
    let seen_by_daemon = lease.standing != Standing::Unknown.as_str();
    match &holder.address {
        Some(address) if !seen_by_daemon && !lease::lives(context, &holder.run, address).await => {
            format!("lease: last held by {line}, which does not answer there")
        }
        Some(_) | None => format!("lease: held by {line}"),
    }
}

/// The text of a status in a format.
///
/// # Errors
/// None in practice: a status always serialises.
pub fn render(status: &Status, what: What, format: GetFormat, paint: Paint) -> Result<String, CliError> {
    Ok(match format {
        GetFormat::Table => tables(status, what, paint, false),
        GetFormat::Wide => tables(status, what, paint, true),
        GetFormat::Json => serde_json::to_string_pretty(&value(status, what)?).map_err(std::io::Error::from)? + "\n",
        GetFormat::Yaml => render_yaml(&value(status, what)?),
        GetFormat::Name => names(status, what),
    })
}

fn resources(status: &Status, what: What) -> impl Iterator<Item = &ResourceStatus> {
    let shows = move |kind| match what {
        What::Apps => kind == Kind::App,
        What::Devices => kind == Kind::Device,
        What::All => true,
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

fn names(status: &Status, what: What) -> String {
    let mut names: Vec<String> = resources(status, what).map(|resource| resource.id.to_string()).collect();
    if matches!(what, What::Services | What::All) {
        names.extend(services(status).map(|(_, service)| format!("service/{}", service.name)));
    }
    if matches!(what, What::Assets | What::All) {
        names.extend(assets(status, what).map(|(_, record)| format!("asset/{}", record.record.asset())));
    }
    names.into_iter().map(|name| name + "\n").collect()
}

fn value(status: &Status, what: What) -> Result<Value, CliError> {
    let with_resource = |resource: Option<&ResourceStatus>, part: Result<Value, serde_json::Error>| {
        let mut value = part.map_err(std::io::Error::from)?;
        if let Value::Object(map) = &mut value {
            map.insert("resource".into(), json!(resource.map(|resource| resource.id.to_string())));
        }
        Ok::<_, CliError>(value)
    };
    Ok(match what {
        What::All => serde_json::to_value(status).map_err(std::io::Error::from)?,
        What::Apps | What::Devices => json!({ "resources": resources(status, what).collect::<Vec<_>>() }),
        What::Services => json!({ "services": services(status)
            .map(|(resource, service)| with_resource(Some(resource), serde_json::to_value(service)))
            .collect::<Result<Vec<_>, _>>()? }),
        What::Assets => json!({ "assets": assets(status, what)
            .map(|(resource, record)| with_resource(resource, serde_json::to_value(record)))
            .collect::<Result<Vec<_>, _>>()? }),
    })
}

fn tables(status: &Status, what: What, paint: Paint, wide: bool) -> String {
    let mut parts = Vec::new();
    if matches!(what, What::Apps | What::Devices | What::All) {
        parts.push(resource_table(status, what, paint, wide));
    }
    if matches!(what, What::Services | What::All) {
        parts.push(service_table(status, wide));
    }
    if matches!(what, What::Assets | What::All) {
        parts.push(asset_table(status, what, wide));
    }
    let width = (!wide).then_some(NARROW);
    let shown: Vec<String> =
        parts.iter().filter(|table| !table.is_empty()).map(|table| table.render(paint, width)).collect();
    if shown.is_empty() { "nothing found\n".into() } else { shown.join("\n") }
}

fn resource_table(status: &Status, what: What, paint: Paint, wide: bool) -> Table {
    let mut table = if wide {
        Table::new(&["RESOURCE", "SYNC", "HEALTH", "RUNNING", "STEPS", "REVISION", "FILE", "NOTE"])
    } else {
        Table::new(&["RESOURCE", "SYNC", "HEALTH", "RUNNING", "NOTE"])
    };
    for resource in resources(status, what) {
        let mut row = vec![
            Cell::plain(resource.id.to_string()),
            Cell::painted(resource.sync.as_str(), paint.sync(resource.sync)),
            Cell::painted(resource.health.as_str(), paint.health(resource.health)),
            Cell::plain(resource.running().map_or("-".into(), |running| running.to_string())),
        ];
        if wide {
            row.push(Cell::plain(resource.pending_steps.to_string()));
            row.push(Cell::plain(resource.revision.as_ref().map_or("-", |revision| revision.short())));
            row.push(Cell::plain(resource.origin.as_ref().map_or("-".into(), ToString::to_string)));
        }
        row.push(Cell::plain(note(resource)));
        table.row(row);
    }
    table
}

/// What the verdict says; of a settled resource, what else is known of it.
fn note(resource: &ResourceStatus) -> String {
    match &resource.verdict {
        Verdict::Blocked(block) => block.message.clone(),
        Verdict::InProgress { message, .. } => message.clone(),
        Verdict::Settled => {
            let condition = resource.conditions.first().map(|condition| condition.message.clone());
            let ignored = || {
                let ignored = resource.ignored.first()?;
                Some(format!("ignored: {} ({})", ignored.object, ignored.fields.join(", ")))
            };
            condition.or_else(ignored).unwrap_or_default()
        }
    }
}

fn service_table(status: &Status, wide: bool) -> Table {
    let mut table = if wide {
        Table::new(&["SERVICE", "RESOURCE", "STATE", "RUNNING", "ID", "IMAGE"])
    } else {
        Table::new(&["SERVICE", "RESOURCE", "STATE", "RUNNING", "IMAGE"])
    };
    for (resource, service) in services(status) {
        let mut row = vec![
            Cell::plain(&service.name),
            Cell::plain(resource.id.to_string()),
            Cell::plain(service.presence.as_str()),
            Cell::plain(service.running().to_string()),
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
