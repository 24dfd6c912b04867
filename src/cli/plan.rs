//! `ofop plan`: what would be done, and why.

use std::path::PathBuf;

use clap::Args;

use super::args::{PruneArgs, RevisionArgs, TextOrJson};
use super::context::Context;
use super::oneshot::OneShot;
use super::{CliError, Exit, problems};
use crate::plan::{ShowSecrets, TextOptions, to_json, to_text};

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Only what these files and directories describe [default: everything in --desired or --git]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Which commit.
    #[command(flatten)]
    pub revision: RevisionArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
    /// Show the values of environment variables
    #[arg(long)]
    pub show_secrets: bool,
    /// When removals wait.
    #[command(flatten)]
    pub prune: PruneArgs,
}

/// Looks once, plans and prints.
///
/// # Errors
/// When the engine, the registry or the source cannot be read.
pub(super) async fn run(args: &PlanArgs, context: &Context) -> Result<Exit, CliError> {
    let mut oneshot = OneShot::open(context, &args.paths).await?;
    let look = oneshot.look().await?;
    let secrets = if args.show_secrets { ShowSecrets::Yes } else { ShowSecrets::No };
    match args.output {
        TextOrJson::Text => {
            let width = if context.output.terminal { super::table::NARROW } else { 0 };
            let options = TextOptions { color: context.output.paint.on, secrets, width };
            context.output.data(&to_text(&look.plan, options))?;
        }
        TextOrJson::Json => context.output.json(&to_json(&look.plan, secrets))?,
    }
    problems::show(&look.desired.problems, &context.output);
    Ok(if look.desired.errors() > 0 {
        Exit::Failure
    } else if look.plan.is_empty() {
        Exit::Success
    } else {
        Exit::Changes
    })
}
