//! `ofop adopt`: takes over what a person says is ours.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;

use super::client::{self, Client, DaemonArgs};
use super::context::Context;
use super::oneshot::OneShot;
use super::{CliError, Exit, apply, complete, confirm, control, manifests, parts};
use crate::model::{Command, InstanceName, ResourceId};
use crate::plan::{ShowSecrets, TextOptions, to_text};
use crate::reconcile::ConvergeOptions;

/// `adopt`.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// app/UUID or device/UUID
    #[arg(value_name = "KIND/UUID", add = ArgValueCompleter::new(complete::resources))]
    pub resource: ResourceId,
    /// Also what belongs to this operator instance
    #[arg(long, value_name = "INSTANCE")]
    pub from: Option<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Shows what taking over changes, asks, and has the daemon do it, or does it where none runs.
///
/// # Errors
/// When the resource is described nowhere, nothing can be read, nobody can be asked, or the daemon refuses.
pub(super) async fn run(args: &AdoptArgs, context: &Context) -> Result<Exit, CliError> {
    let from = args.from.as_deref().map(InstanceName::new).transpose().map_err(|error| {
        CliError::usage(format!("--from: {error}"), "name the instance that a conflict names, as in `ofop plan`")
    })?;
    if from.as_ref() == Some(&context.config.instance) {
        return Err(CliError::usage(
            format!("--from names the instance {}, which is this operator's own", context.config.instance),
            "name the instance to take the resource from; --instance says who takes it",
        ));
    }
    let id = &args.resource;
    let daemon = Client::new(context)?.find(&client::resource_path(id)).await?; // I/O
    let here = context.config.manifests.is_some();
    match &daemon {
        _ if here => show(id, from.as_ref(), context).await?,
        Some(resource) => show_conflicts(id, resource, context)?,
        None => {
            return Err(CliError::usage(
                format!("no manifests are named, and no daemon answers at {}", context.config.address),
                "name the manifests with --desired DIR or --git URL, or the daemon with --address HOST:PORT",
            ));
        }
    }
    if args.dry_run {
        return Ok(Exit::Success);
    }
    let needs = format!("taking over {id} needs a confirmation");
    let hint = "--yes confirms; --dry-run shows what would change";
    if !args.yes && !confirm::asked(&format!("take over {id}?"), &needs, hint)? {
        context.output.note("nothing was changed");
        return Ok(Exit::Failure);
    }
    if daemon.is_some() {
        return control::run(&Command::Adopt { resource: id.clone(), from }, context).await;
    }
    let mut policy = parts::policy(context);
    policy.scope = Some([id.clone()].into());
    policy.adopt = [(id.clone(), from)].into();
    let manifests = manifests::read(context, &[]).await?;
    let report = apply::converge(context, manifests, policy, ConvergeOptions::default(), false).await?;
    apply::conclude(context, &report, 1, "in sync")
}

/// Shows the plan for one resource as if it were taken over.
async fn show(id: &ResourceId, from: Option<&InstanceName>, context: &Context) -> Result<(), CliError> {
    let look = OneShot::adopting(context, id, from).await?.look().await?;
    if !look.desired.resources.contains_key(id) {
        return Err(CliError::usage(
            format!("no valid manifest describes {id}"),
            "write one for it first: what is taken over is brought in line with it",
        ));
    }
    let width = context.output.width.unwrap_or_default();
    let options = TextOptions { color: context.output.paint.on, secrets: ShowSecrets::No, width };
    Ok(context.output.data(&to_text(&look.plan, options))?)
}

/// Shows what the daemon says is in the way, where its manifests are out of reach.
fn show_conflicts(id: &ResourceId, resource: &Value, context: &Context) -> Result<(), CliError> {
    let conditions = resource["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let conflicts = conditions.iter().filter(|condition| condition["type"] == "Conflict");
    let messages: Vec<&str> = conflicts.filter_map(|condition| condition["message"].as_str()).collect();
    if messages.is_empty() {
        context.output.data_line(&format!("{id} is in no conflict"))?;
    }
    for message in messages {
        context.output.data_line(&format!("{id}: {message}"))?;
    }
    Ok(())
}
