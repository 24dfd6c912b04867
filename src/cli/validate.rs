//! `ofop validate`: checks files, without a server.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::args::{RevisionArgs, TextOrJson};
use super::context::Context;
use super::manifests;
use super::{CliError, Exit, problems, source_text};
use crate::model::Problem;

/// `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Files and directories [default: --desired or --git]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Which commit.
    #[command(flatten)]
    pub revision: RevisionArgs,
    /// How to print problems
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
}

#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    files: usize,
    resources: usize,
    problems: Vec<&'a Problem>,
    /// Why these may not be the newest manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'a str>,
}

/// Reads, checks and prints every problem.
///
/// # Errors
/// When a path cannot be read at all.
pub(super) async fn run(args: &ValidateArgs, context: &Context) -> Result<Exit, CliError> {
    let desired = manifests::read(context, &args.paths).await?.desired;
    let troubled = source_text::show_trouble(&desired, &context.output);
    let valid = desired.errors() == 0 && !troubled;
    match args.output {
        TextOrJson::Text => {
            let paint = context.output.paint;
            context.output.data(&problems::render(&desired.problems, paint.on))?;
            let found = problems::count(&desired.problems);
            let files = format!("{} file{}", desired.files, if desired.files == 1 { "" } else { "s" });
            let resources =
                format!("{} resource{}", desired.resources.len(), if desired.resources.len() == 1 { "" } else { "s" });
            context.output.data_line(&match (valid, found.is_empty()) {
                (true, true) => format!("{}: {files}, {resources}", paint.green("valid")),
                (true, false) => format!("{}: {files}, {resources}, {found}", paint.green("valid")),
                (false, _) => format!("{}: {files}, {found}", paint.red("invalid")),
            })?;
        }
        TextOrJson::Json => context.output.json(&Verdict {
            valid,
            files: desired.files,
            resources: desired.resources.len(),
            problems: problems::sorted(&desired.problems),
            trouble: desired.trouble.as_ref().map(|trouble| trouble.message.as_str()),
        })?,
    }
    Ok(if valid { Exit::Success } else { Exit::Failure })
}
