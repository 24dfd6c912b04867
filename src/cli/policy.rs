//! `ofop policy check`: is the policy valid, and do the manifests keep to it?

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::args::{RevisionArgs, TextOrJson};
use super::context::Context;
use super::{CliError, Exit, parts, problems};
use crate::compile::Compiler;
use crate::model::{Problem, Severity};

/// `policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub act: PolicyAct,
}

/// What to do with the policy.
#[derive(Debug, Subcommand)]
pub enum PolicyAct {
    /// Say what is wrong with the policy, and which manifests ask for more than it allows
    Check(PolicyCheckArgs),
}

/// `policy check`.
#[derive(Debug, Args)]
pub struct PolicyCheckArgs {
    /// Files and directories [default: --desired or --git; without any only the policy is checked]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Which commit.
    #[command(flatten)]
    pub revision: RevisionArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
}

#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    folders: Vec<Folder>,
    problems: Vec<&'a Problem>,
}

/// A folder of the policy.
#[derive(Debug, Default, Clone, Serialize)]
struct Folder {
    folder: String,
    /// Manifests that its rules hold for.
    files: usize,
    /// Those of them that are refused, for whatever reason.
    refused: usize,
}

/// Checks the policy, then the manifests.
///
/// # Errors
/// When no policy is set or it is wrong, or a path cannot be read at all.
pub(super) async fn run(args: &PolicyArgs, context: &Context) -> Result<Exit, CliError> {
    let PolicyAct::Check(args) = &args.act;
    if context.config.policy.is_none() {
        return Err(CliError::usage("no policy is named", "name it with --policy FILE or OFOP_POLICY"));
    }
    let policy = parts::policy_of(context, &args.paths)?;
    let mut folders: BTreeMap<String, Folder> = policy
        .folders()
        .map(|rules| (rules.folder.clone(), Folder { folder: rules.folder.clone(), ..Folder::default() }))
        .collect();
    let mut found = Vec::new();
    let mut valid = true;
    if !args.paths.is_empty() || context.config.manifests.is_some() {
        let tree = parts::loader_at_once(context, &args.paths)?.load().await.map_err(CliError::Source)?;
        for file in tree.files.iter().filter(|file| file.other.is_none()) {
            let folder = file.rules.as_ref().and_then(|rules| folders.get_mut(&rules.folder));
            if let Some(folder) = folder {
                folder.files += 1;
                folder.refused += usize::from(file.manifest.is_none());
            }
        }
        found.clone_from(&Compiler::new(context.config.settings.clone()).compile(&tree).problems);
        valid = tree.trouble.is_none() && found.iter().all(|problem| problem.severity != Severity::Error);
    }
    let folders: Vec<Folder> = folders.into_values().collect();
    match args.output {
        TextOrJson::Text => print(&folders, &found, valid, context)?,
        TextOrJson::Json => context.output.json(&Verdict { valid, folders, problems: problems::sorted(&found) })?,
    }
    Ok(if valid { Exit::Success } else { Exit::Failure })
}

fn print(folders: &[Folder], found: &[Problem], valid: bool, context: &Context) -> Result<(), CliError> {
    let paint = context.output.paint;
    context.output.data(&problems::render(found, paint.on))?;
    for Folder { folder, files, refused } in folders {
        let refused = if *refused > 0 { format!(", {refused} refused") } else { String::new() };
        let plural = if *files == 1 { "" } else { "s" };
        context.output.data_line(&format!("{folder}: {files} file{plural}{refused}"))?;
    }
    let count = problems::count(found);
    let word = if valid { paint.green("valid") } else { paint.red("invalid") };
    context.output.data_line(&if count.is_empty() { word } else { format!("{word}: {count}") })?;
    Ok(())
}
