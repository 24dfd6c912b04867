//! `ofop validate`: checks files, without a server.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::args::{RevisionArgs, TextOrJson};
use super::context::Context;
use super::manifests;
use super::{CliError, Exit, problems, source_text};
use crate::model::{OtherFile, Problem};

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
    /// Files beside the manifests that are none.
    not_manifests: &'a [OtherFile],
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
            let beside = not_manifests(&desired.others, context)?;
            context.output.data_line(&match (valid, found.is_empty()) {
                (true, true) => format!("{}: {files}, {resources}{beside}", paint.green("valid")),
                (true, false) => format!("{}: {files}, {resources}, {found}{beside}", paint.green("valid")),
                (false, _) => format!("{}: {files}, {found}{beside}", paint.red("invalid")),
            })?;
        }
        TextOrJson::Json => context.output.json(&Verdict {
            valid,
            files: desired.files,
            resources: desired.resources.len(),
            problems: problems::sorted(&desired.problems),
            not_manifests: &desired.others,
            trouble: desired.trouble.as_ref().map(|trouble| trouble.message.as_str()),
        })?,
    }
    Ok(if valid { Exit::Success } else { Exit::Failure })
}

/// Says which files are no manifests, or, where nobody asked, how many.
fn not_manifests(others: &[OtherFile], context: &Context) -> Result<String, CliError> {
    if context.output.verbose {
        for other in others {
            context.output.data_line(&format!("not a manifest: {}: {}", other.file, other.reason))?;
        }
        return Ok(String::new());
    }
    Ok(match others.len() {
        0 => String::new(),
        1 => "; 1 other file is not a manifest (-v names it)".into(),
        count => format!("; {count} other files are not manifests (-v names them)"),
    })
}
