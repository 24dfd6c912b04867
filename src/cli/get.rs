//! `ofop get`: what is wanted beside what is there.

mod columns;
mod select;
mod tables;
mod wanted;
mod watch;

use clap::{Args, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use serde_json::Value;

use super::client::DaemonArgs;
use super::context::Context;
use super::output::Paint;
use super::{CliError, Exit, complete, hold, lease, problems, seen, service_assets, source_text};
use crate::model::{Health, Standing, Sync};
use crate::render::yaml as render_yaml;
use crate::report::{LeaseSummary, Status};
use columns::Column;
use select::Selection;
pub use select::SortBy;
use wanted::Wanted;

/// `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// What to list: apps, devices, services, assets or all; or single resources as app/UUID and device/UUID [default: all]
    #[arg(value_name = "WHAT|KIND/UUID", add = ArgValueCompleter::new(complete::listed))]
    pub what: Vec<String>,
    /// Only the assets that this service embodies: `cam`, a replica `cam-2`, or a task `cam.2` [with: assets]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only resources of this health; several with commas between them
    #[arg(long, value_name = "HEALTH", value_delimiter = ',', value_parser = select::health(), ignore_case = true)]
    pub health: Vec<Health>,
    /// Only resources in this state of sync; several with commas between them
    #[arg(long, value_name = "SYNC", value_delimiter = ',', value_parser = select::sync(), ignore_case = true)]
    pub sync: Vec<Sync>,
    /// Only resources that this file, or files below this folder, describe
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub file: Option<String>,
    /// In which order
    #[arg(long, value_enum, value_name = "ORDER", default_value_t)]
    pub sort_by: SortBy,
    /// Go on, and show what changes: on a terminal the table is drawn anew, elsewhere a line is printed for each change
    #[arg(short, long)]
    pub watch: bool,
    /// How to print: table, wide, json, yaml, name, or custom-columns=HEADER:.path,… with paths into the JSON
    #[arg(short, long, value_name = "FORMAT", value_parser = format, default_value = "table",
          add = ArgValueCandidates::new(complete::get_formats))]
    pub output: GetFormat,
    /// The daemon to ask where no manifests are named.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// What `get` lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Apps.
    #[value(aliases = ["app"])]
    Apps,
    /// Devices.
    #[value(aliases = ["device", "dev"])]
    Devices,
    /// The services of apps and devices.
    #[value(aliases = ["service", "svc"])]
    Services,
    /// The assets of apps and devices, and everybody else's.
    #[value(aliases = ["asset"])]
    Assets,
    /// Apps and devices.
    #[value(aliases = ["resource"])]
    Resources,
    /// Everything.
    #[default]
    All,
}

/// How `get` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetFormat {
    /// A table that fits the terminal.
    Table,
    /// A table with more columns, as wide as they need.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// One name a line.
    Name,
    /// A table of what is asked for.
    Columns(Vec<Column>),
}

/// The formats, custom columns aside.
pub(super) const FORMATS: [&str; 5] = ["table", "wide", "json", "yaml", "name"];

fn format(text: &str) -> Result<GetFormat, String> {
    match text {
        "table" => Ok(GetFormat::Table),
        "wide" => Ok(GetFormat::Wide),
        "json" => Ok(GetFormat::Json),
        "yaml" => Ok(GetFormat::Yaml),
        "name" => Ok(GetFormat::Name),
        _ => match text.strip_prefix("custom-columns") {
            Some(columns) => columns::parse(columns.strip_prefix('=').unwrap_or_default()).map(GetFormat::Columns),
            None => Err(format!("it is none of {}, custom-columns=HEADER:.path,…", FORMATS.join(", "))),
        },
    }
}

/// Looks once, or asks the daemon, and prints.
///
/// # Errors
/// When the engine or the source cannot be read and no daemon answers instead, or a resource that is named does not exist.
pub(super) async fn run(args: &GetArgs, context: &Context) -> Result<Exit, CliError> {
    let wanted = Wanted::parse(&args.what)?;
    let selection = Selection::of(args);
    if args.service.is_some() && wanted.what != What::Assets {
        let service = args.service.as_deref().unwrap_or_default();
        return Err(CliError::usage(
            "--service is about assets",
            format!("write `ofop get assets --service {service}`"),
        ));
    }
    if args.watch {
        return watch::run(&wanted, &selection, &args.output, context).await;
    }
    let mut status = seen::status(context).await?;
    if let Some(service) = &args.service {
        service_assets::keep(&mut status, service);
    }
    wanted.check(&status)?;
    selection.keep(&mut status, &wanted);
    let output = &context.output;
    output.data(&render(&status, wanted.what, &args.output, output.paint, output.width)?)?;
    if matches!(args.output, GetFormat::Table | GetFormat::Wide) {
        source_text::note(&status.source, output);
        hold::note(&status, output);
        if let Some(lease) = &status.lease {
            output.note(&lease_line(lease, context).await);
        }
    }
    if !status.problems.is_empty() {
        output.note(&format!("{} in the manifests; `ofop validate` shows them", problems::count(&status.problems)));
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

/// The text of a status in a format. Tables are cut to `width`; without one nothing is.
///
/// # Errors
/// None in practice: a status always serialises.
pub fn render(
    status: &Status,
    what: What,
    format: &GetFormat,
    paint: Paint,
    width: Option<usize>,
) -> Result<String, CliError> {
    Ok(match format {
        GetFormat::Table => tables::text(status, what, paint, false, width),
        GetFormat::Wide => tables::text(status, what, paint, true, None),
        GetFormat::Json => {
            serde_json::to_string_pretty(&tables::value(status, what)?).map_err(std::io::Error::from)? + "\n"
        }
        GetFormat::Yaml => render_yaml(&tables::value(status, what)?),
        GetFormat::Name => tables::names(status, what),
        GetFormat::Columns(columns) => columns::table(columns, &items(tables::value(status, what)?), paint),
    })
}

/// What custom columns are about: the one list of the answer, and of everything the resources.
fn items(value: Value) -> Vec<Value> {
    let Value::Object(mut fields) = value else { return Vec::new() };
    let list = ["resources", "services", "assets"].into_iter().find_map(|name| fields.remove(name));
    match list {
        Some(Value::Array(items)) => items,
        Some(_) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_what_is_none_is_refused() {
        for (text, format_) in [("table", GetFormat::Table), ("wide", GetFormat::Wide), ("name", GetFormat::Name)] {
            assert_eq!(format(text), Ok(format_));
        }
        assert!(matches!(format("custom-columns=A:.a,B:.b"), Ok(GetFormat::Columns(columns)) if columns.len() == 2));
        for wrong in ["csv", "", "custom-columns", "custom-columns=", "jsonpath={.a}"] {
            assert!(format(wrong).is_err(), "{wrong}");
        }
    }
}
