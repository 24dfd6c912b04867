//! Manifests for commands that read them once.

use std::path::PathBuf;
use std::sync::Arc;

use super::CliError;
use super::context::Context;
use super::parts;
use crate::compile::Compiler;
use crate::model::Desired;

/// The paths that a command was given, else the directory that is configured.
///
/// # Errors
/// When there is neither.
pub(super) fn paths(context: &Context, given: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    match &context.config.desired {
        Some(directory) => Ok(vec![directory.clone()]),
        None => Err(CliError::usage(
            "no manifests are named",
            "name their directory with --desired DIR or OFOP_DESIRED, e.g. --desired desired/",
        )),
    }
}

/// Reads, checks and compiles what lies at these paths, or in the configured directory.
///
/// # Errors
/// When a path cannot be read at all. What is wrong inside files is in [`Desired::problems`].
pub(super) async fn compile(context: &Context, given: &[PathBuf]) -> Result<Arc<Desired>, CliError> {
    let mut loader = parts::loader_at_once(context, paths(context, given)?);
    let tree = loader.load().await.map_err(CliError::Source)?;
    Ok(Compiler::new(context.config.settings.clone()).compile(&tree))
}
