//! `ofop render`: what files compile to, without a server.
//!
//! The values of environment variables are in it, since they are in the files: who may read these may read that. What
//! comes from a secret variable is not in the files, and is shown when a person asks for it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::RevisionArgs;
use super::context::Context;
use super::{CliError, Exit, manifests, problems, source_text};
use crate::render;

/// `render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Files and directories [default: --desired or --git]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Which commit.
    #[command(flatten)]
    pub revision: RevisionArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: RenderFormat,
    /// Show the values of secret variables too
    #[arg(long)]
    pub show_secrets: bool,
}

/// How `render` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum RenderFormat {
    /// For people.
    #[default]
    Yaml,
    /// For programs.
    Json,
}

/// Reads, compiles and prints. What is wrong is part of the output, and shown to people as well.
///
/// # Errors
/// When a path cannot be read at all.
pub(super) async fn run(args: &RenderArgs, context: &Context) -> Result<Exit, CliError> {
    let desired = manifests::read(context, &args.paths).await?.desired;
    let mut value = render::render(&desired, context.config.settings.platform);
    if !args.show_secrets {
        render::mask_environments(&mut value, context.output.hidden);
    }
    let output = context.output.revealing(args.show_secrets);
    match args.output {
        RenderFormat::Json => output.json(&value)?,
        RenderFormat::Yaml => output.data(&render::yaml(&value))?,
    }
    problems::show(&desired.problems, &context.output);
    let troubled = source_text::show_trouble(&desired, &context.output);
    Ok(if desired.errors() == 0 && !troubled { Exit::Success } else { Exit::Failure })
}
