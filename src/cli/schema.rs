//! `ofop schema`: a JSON Schema of manifests, for editors.

use clap::{Args, ValueEnum};

use super::output::Output;
use super::{CliError, Exit};
use crate::desired::schema::{Scope, schema};

/// `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which kind of manifest [default: both]
    #[arg(value_enum)]
    pub kind: Option<SchemaKind>,
}

/// Which schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// Files with `apps:`.
    Apps,
    /// Files with `devices:`.
    Devices,
}

/// Prints the schema.
///
/// # Errors
/// When standard output fails.
pub fn run(args: &SchemaArgs, output: &Output) -> Result<Exit, CliError> {
    let scope = match args.kind {
        None => Scope::All,
        Some(SchemaKind::Apps) => Scope::Apps,
        Some(SchemaKind::Devices) => Scope::Devices,
    };
    output.json(&schema(scope))?;
    Ok(Exit::Success)
}
