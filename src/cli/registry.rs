//! `ofop registry check` and `init`: are Kafka and ksqlDB as OpenFactory needs them?

use clap::{Args, Subcommand};

use super::context::Context;
use super::{CliError, Exit, parts};
use crate::config::RegistryKind;
use crate::registry::openfactory::{self, FindingKind};

/// `registry`.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    /// What to do.
    #[command(subcommand)]
    pub act: RegistryAct,
}

/// What to do with the registry.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum RegistryAct {
    /// Say in plain words what fits and what does not; change nothing
    Check,
    /// Make the streams and tables that are missing
    Init,
}

/// Looks, or sets up.
///
/// # Errors
/// When the registry is not Kafka and ksqlDB, or setting up is refused.
pub(super) async fn run(args: &RegistryArgs, context: &Context) -> Result<Exit, CliError> {
    if context.config.registry != RegistryKind::Openfactory {
        return Err(CliError::usage(
            "the embedded registry needs no checking and no setting up",
            "set KSQLDB_URL and KAFKA_BROKER to look at OpenFactory's own registry",
        ));
    }
    let settings = parts::openfactory(&context.config);
    match args.act {
        RegistryAct::Check => {
            let findings = openfactory::check(&settings).await;
            let mut text = String::new();
            for finding in &findings {
                let word = match finding.kind {
                    FindingKind::Good => "ok      ",
                    FindingKind::Warning => "warning ",
                    FindingKind::Bad => "wrong   ",
                };
                text.push_str(&format!("{word} {}\n", finding.message));
                if let Some(hint) = &finding.hint {
                    text.push_str(&format!("         hint: {hint}\n"));
                }
            }
            context.output.data(&text)?;
            let bad = findings.iter().any(|finding| finding.kind == FindingKind::Bad);
            Ok(if bad { Exit::Failure } else { Exit::Success })
        }
        RegistryAct::Init => {
            openfactory::init(&settings, |line| context.output.note(line)).await.map_err(CliError::SetUp)?;
            Ok(Exit::Success)
        }
    }
}
