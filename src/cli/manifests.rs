//! Manifests for commands that read them once.

use std::path::PathBuf;
use std::sync::Arc;

use super::CliError;
use super::context::Context;
use super::parts;
use super::sources::AnySource;
use crate::compile::Compiler;
use crate::desired::Loader;
use crate::model::Desired;

/// What was read, and the reader for whoever goes on from there.
pub(super) struct Manifests {
    /// What the manifests mean.
    pub(super) desired: Arc<Desired>,
    /// Answers with the same commit, if the manifests come from a repository.
    pub(super) loader: Loader<AnySource>,
}

/// Reads, checks and compiles what lies at these paths, or where the configuration says.
///
/// # Errors
/// When there is no such place, or it cannot be read at all. What is wrong inside files is in
/// [`Desired::problems`].
pub(super) async fn read(context: &Context, given: &[PathBuf]) -> Result<Manifests, CliError> {
    let mut loader = parts::loader_at_once(context, given)?;
    let tree = loader.load().await.map_err(CliError::Source)?;
    let desired = Compiler::new(context.config.settings.clone()).compile(&tree);
    Ok(Manifests { desired, loader })
}

/// No manifests at all.
pub(super) fn none(context: &Context) -> Manifests {
    Manifests { desired: Arc::default(), loader: parts::loader_of_nothing(context) }
}
