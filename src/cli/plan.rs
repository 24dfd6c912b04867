//! `ofop plan`: what would be done, and why.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{PruneArgs, RevisionArgs};
use super::context::Context;
use super::oneshot::OneShot;
use super::rollout_args::RolloutArgs;
use super::{CliError, Exit, problems, source_text};
use crate::plan::{ShowSecrets, TextOptions, to_json, to_markdown, to_text};

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
    pub output: PlanFormat,
    /// Show the values of environment variables, and of secret ones wherever they are; not in a comment, which everybody
    /// reads
    #[arg(long)]
    pub show_secrets: bool,
    /// When removals wait.
    #[command(flatten)]
    pub prune: PruneArgs,
    /// When changes go out.
    #[command(flatten)]
    pub rollout: RolloutArgs,
}

/// How `plan` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

/// Looks once, plans and prints.
///
/// # Errors
/// When the engine, the registry or the source cannot be read.
pub(super) async fn run(args: &PlanArgs, context: &Context) -> Result<Exit, CliError> {
    show(&args.paths, args.output, args.show_secrets, context).await
}

/// The same for these paths.
///
/// # Errors
/// As for [`run`].
pub(super) async fn show(
    paths: &[PathBuf],
    format: PlanFormat,
    show_secrets: bool,
    context: &Context,
) -> Result<Exit, CliError> {
    if format == PlanFormat::Markdown && show_secrets {
        return Err(CliError::usage(
            "--show-secrets and -o markdown exclude each other",
            "a comment is for everybody: leave --show-secrets out, or print text",
        ));
    }
    let mut oneshot = OneShot::open(context, paths).await?;
    oneshot.await_evidence(&context.output).await;
    let look = oneshot.look().await?;
    let secrets = if show_secrets { ShowSecrets::Yes } else { ShowSecrets::No };
    let output = context.output.revealing(show_secrets);
    match format {
        PlanFormat::Text => {
            let width = context.output.width.unwrap_or_default();
            let options = TextOptions { color: context.output.paint.on, secrets, width };
            output.data(&to_text(&look.plan, options))?;
        }
        PlanFormat::Json => output.json(&to_json(&look.plan, secrets))?,
        PlanFormat::Markdown => {
            let mut told = look.desired.problems.clone();
            told.extend(source_text::as_problem(&look.desired, &oneshot.location()));
            output.data(&to_markdown(&look.plan, &told))?;
        }
    }
    problems::show(&look.desired.problems, &context.output);
    let troubled = source_text::show_trouble(&look.desired, &context.output);
    Ok(if troubled || look.desired.errors() > 0 {
        Exit::Failure
    } else if look.plan.is_empty() && look.plan.conflicts() == 0 {
        Exit::Success
    } else {
        Exit::Changes
    })
}
