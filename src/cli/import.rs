//! `ofop import`: manifests for what runs already.
//!
//! # Flow
//!
//! ```text
//! services and records ─► proposals (manifest) ─► a temporary folder ─► read, compiled and planned like any other
//!                                                                              │
//!                       printed  ◄── nothing but our mark would be written ◄───┤
//!                       listed   ◄── anything else, with the fields that differ ┘
//! ```

mod manifest;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Map, Value};

use super::context::Context;
use super::oneshot::OneShot;
use super::sources::Temporary;
use super::{CliError, Exit, complete, manifests, parts};
use crate::model::{
    Desired, Kind, ObservedRecord, Plan, PlatformKind, PlatformSnapshot, Reason, Record, RecordId, RegistrySnapshot,
    ResourceId, ResourcePlan, SharedMap,
};
use crate::platform::Platform as _;
use crate::registry::Registry as _;
use crate::render::yaml as render_yaml;

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Only these, as app/UUID or device/UUID [default: all that no manifest describes]
    #[arg(value_name = "KIND/UUID", add = ArgValueCompleter::new(complete::resources))]
    pub resources: Vec<ResourceId>,
    /// Write one file for each resource into this directory, which is made if it does not exist; no file is overwritten
    /// [default: all of it to standard output]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub into: Option<PathBuf>,
    /// Also write what would not stay as it is: the fields that would change are listed
    #[arg(long)]
    pub inexact: bool,
}

/// What may become a manifest.
struct Proposal {
    entry: Value,
    /// Why it would not stay as it is; empty when it would.
    differs: Vec<String>,
}

type Proposals = BTreeMap<ResourceId, Proposal>;

/// Looks, proposes, checks and writes.
///
/// # Errors
/// When the engine or the registry cannot be read, or a file cannot be written.
pub(super) async fn run(args: &ImportArgs, context: &Context) -> Result<Exit, CliError> {
    let config = &context.config;
    if config.settings.platform == PlatformKind::Docker {
        return Err(CliError::usage(
            "only services of a Swarm can be imported",
            "containers do not say which of their settings came from a manifest",
        ));
    }
    let described = match &config.manifests {
        Some(_) => manifests::read(context, &[]).await?.desired,
        None => Arc::default(),
    };
    let platform = parts::platform(context)?.observe(&std::collections::BTreeSet::new()).await; // I/O
    let platform = platform.map_err(CliError::Platform)?;
    let registry = parts::registry(context)?.observe().await.map_err(CliError::Registry)?; // I/O
    let (mut proposals, mut left_out) = propose(&platform, &registry, context);
    proposals.retain(|id, _| !described.resources.contains_key(id));
    if !args.resources.is_empty() {
        left_out.retain(|(name, _)| args.resources.iter().any(|id| id.to_string() == *name));
        for id in args.resources.iter().filter(|id| !proposals.contains_key(id)) {
            left_out.push((id.to_string(), "nothing of it runs, or a manifest describes it already".into()));
        }
        proposals.retain(|id, _| args.resources.contains(id));
    }
    judge(&mut proposals, context).await?;
    write(args, &proposals, &left_out, context)
}

/// A manifest entry for each app that runs and for each device that is registered, and what has none.
fn propose(
    platform: &PlatformSnapshot,
    registry: &RegistrySnapshot,
    context: &Context,
) -> (Proposals, Vec<(String, String)>) {
    let (mut proposals, mut left_out) = (Proposals::new(), Vec::new());
    for (id, config) in devices(&registry.records) {
        match manifest::device(&id, config, uns(&registry.records, &id)) {
            Ok(entry) => _ = proposals.insert(id, Proposal { entry, differs: Vec::new() }),
            Err(why) => left_out.push((id.to_string(), why)),
        }
    }
    let of_device = |name: &str| {
        let tails = ["-producer", "-agent", "-adapter"];
        let device = tails.iter().find_map(|tail| name.strip_suffix(tail));
        device.is_some_and(|device| proposals.keys().any(|id| id.uuid.as_str().eq_ignore_ascii_case(device)))
    };
    let mut apps = Vec::new();
    for service in platform.services.values() {
        match manifest::id_of_app(&service.spec) {
            Some(id) => apps.push((id, service)),
            None if of_device(service.spec.name.as_str()) => {}
            None => left_out.push((
                format!("service {}", service.spec.name),
                "it is no app of OpenFactory: its environment has no APP_UUID that is its name".into(),
            )),
        }
    }
    for (id, service) in apps {
        let entry = manifest::app(&id, &service.spec, uns(&registry.records, &id), &context.config.settings);
        let mode = service.foreign_mode.iter().map(|mode| format!("it runs in {mode}, which a manifest cannot say"));
        proposals.insert(id, Proposal { entry, differs: mode.collect() });
    }
    (proposals, left_out)
}

type Records = SharedMap<RecordId, Arc<ObservedRecord>>;

/// Devices that are registered, each with its configuration.
fn devices(records: &Records) -> Vec<(ResourceId, &str)> {
    let mut devices = Vec::new();
    for found in records.values() {
        match &found.record {
            Record::Connector { device, config } => devices.push((ResourceId::device(device.clone()), config.as_str())),
            Record::Asset(_) | Record::MetricsTarget { .. } | Record::CoordinatorDevice { .. } => {}
        }
    }
    devices
}

/// The place of a resource's asset in the namespace; of an app with replicas that of the first.
fn uns<'a>(records: &'a Records, id: &ResourceId) -> Option<&'a crate::model::record::Uns> {
    let first = crate::model::AssetUuid::new(format!("{}-1", id.uuid)).ok();
    let found =
        [Some(id.uuid.clone()), first].into_iter().flatten().find_map(|uuid| records.get(&RecordId::Asset(uuid)));
    match &found?.record {
        Record::Asset(asset) => asset.uns.as_ref(),
        Record::Connector { .. } | Record::MetricsTarget { .. } | Record::CoordinatorDevice { .. } => None,
    }
}

/// Has every proposal read, compiled and planned as a manifest, and notes what would not stay as it is.
async fn judge(proposals: &mut Proposals, context: &Context) -> Result<(), CliError> {
    if proposals.is_empty() {
        return Ok(());
    }
    let folder = Temporary::new("import")?;
    let mut files = BTreeMap::new();
    for (number, (id, proposal)) in proposals.iter().enumerate() {
        let file = folder.path().join(format!("{number}.yml"));
        let failed = |source| CliError::File { act: "write", path: file.clone(), source };
        std::fs::write(&file, document([(id, proposal)].into_iter())).map_err(failed)?;
        files.insert(format!("{number}.yml"), id.clone());
    }
    // What somebody has to put below the operator's policy is not known yet.
    let mut alone = context.clone();
    (alone.config.manifests, alone.config.policy) = (None, None);
    let mut oneshot = OneShot::open(&alone, &[folder.path().to_owned()]).await?;
    oneshot.await_evidence(&context.output).await;
    let look = oneshot.look().await?;
    note_problems(&look.desired, &files, proposals);
    note_differences(&look.plan, proposals);
    Ok(())
}

fn note_problems(desired: &Desired, files: &BTreeMap<String, ResourceId>, proposals: &mut Proposals) {
    for problem in desired.problems.iter().filter(|problem| problem.severity == crate::model::Severity::Error) {
        let name = Path::new(&*problem.file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(proposal) = files.get(name).and_then(|id| proposals.get_mut(id)) {
            proposal.differs.push(format!("{}: {}", problem.path, problem.message));
        }
    }
}

fn note_differences(plan: &Plan, proposals: &mut Proposals) {
    for (id, proposal) in proposals {
        if let Some(planned) = plan.resources.get(id) {
            proposal.differs.extend(differences(planned));
        } else if proposal.differs.is_empty() {
            proposal.differs.push("it cannot be planned".into());
        }
    }
}

/// What a pass would change, putting our mark on it aside.
fn differences(planned: &ResourcePlan) -> Vec<String> {
    let steps = planned.steps.iter().chain(planned.held.iter().map(|held| &held.step));
    let change = |step: &crate::model::PlannedStep| {
        let changes = step.changes.iter().filter(|change| !change.is_of_mark());
        let fields: Vec<&str> = changes.map(|change| change.field.as_str()).collect();
        let marks = step.reason == Reason::Adopt && fields.is_empty();
        (!marks).then(|| match fields.is_empty() {
            true => format!("{} {} ({})", step.step.verb(), step.step.object(), step.reason.as_str()),
            false => format!("{} {}: {}", step.step.verb(), step.step.object(), fields.join(", ")),
        })
    };
    let conflicts = planned.conditions.iter().filter(|one| one.kind == crate::model::ConditionKind::Conflict);
    steps.filter_map(change).chain(conflicts.map(|conflict| conflict.message.clone())).collect()
}

/// One manifest for these resources.
fn document<'a>(proposals: impl Iterator<Item = (&'a ResourceId, &'a Proposal)>) -> String {
    let (mut apps, mut devices) = (Map::new(), Map::new());
    for (id, proposal) in proposals {
        let section = match id.kind {
            Kind::App => &mut apps,
            Kind::Device => &mut devices,
        };
        section.insert(id.uuid.as_str().to_lowercase(), proposal.entry.clone());
    }
    let sections = [("apps", apps), ("devices", devices)];
    let sections = sections.into_iter().filter(|(_, entries)| !entries.is_empty());
    render_yaml(&Value::Object(sections.map(|(name, entries)| (name.to_owned(), Value::Object(entries))).collect()))
}

fn write(
    args: &ImportArgs,
    proposals: &Proposals,
    left_out: &[(String, String)],
    context: &Context,
) -> Result<Exit, CliError> {
    let output = &context.output;
    let chosen = || proposals.iter().filter(|(_, proposal)| args.inexact || proposal.differs.is_empty());
    match &args.into {
        None if chosen().next().is_some() => output.data(&document(chosen()))?,
        None => {}
        Some(directory) => {
            let failed = |act, path: &Path| {
                let path = path.to_owned();
                move |source| CliError::File { act, path, source }
            };
            std::fs::create_dir_all(directory).map_err(failed("create", directory))?;
            for (id, proposal) in chosen() {
                let path = directory.join(file_name(id));
                let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
                let mut file = file.map_err(failed("create", &path))?;
                let text = document([(id, proposal)].into_iter());
                std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed("write", &path))?;
                output.data_line(&path.display().to_string())?;
            }
        }
    }
    for (id, proposal) in proposals.iter().filter(|(_, proposal)| !proposal.differs.is_empty()) {
        let word = if args.inexact { "would change" } else { "is left out, since it would change" };
        output.note(&format!("{} {id} {word}: {}", output.error_paint.yellow("!"), proposal.differs.join("; ")));
    }
    for (name, why) in left_out {
        output.note(&format!("{} {name} is left out: {why}", output.error_paint.yellow("!")));
    }
    let exact = proposals.values().filter(|proposal| proposal.differs.is_empty()).count();
    output.note(&format!(
        "{exact} of {} resources stay as they are under these manifests; values of environment variables are in them",
        proposals.len()
    ));
    // What was named and is not there is nothing that was done.
    let all_named = args.resources.is_empty() || left_out.is_empty();
    Ok(if exact == proposals.len() && all_named { Exit::Success } else { Exit::PartlyFailed })
}

/// `app_press-7.yml`: what OpenFactory's own command line takes for a manifest as well.
fn file_name(id: &ResourceId) -> String {
    let kind = match id.kind {
        Kind::App => "app",
        Kind::Device => "dev",
    };
    let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c.to_ascii_lowercase() } else { '_' };
    format!("{kind}_{}.yml", id.uuid.as_str().chars().map(fit).collect::<String>())
}
