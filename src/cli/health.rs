//! `ofop health`: asks the running daemon whether it works, for supervisors that can run a program and no more.

use clap::Args;

use super::client::{Client, DaemonArgs};
use super::context::Context;
use super::{CliError, Exit};

/// `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Whether it is ready, not only alive: manifests, engine and registry can be read
    #[arg(long)]
    pub ready: bool,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Asks it.
///
/// # Errors
/// When it does not answer, or not with success.
pub(super) async fn run(args: &HealthArgs, context: &Context) -> Result<Exit, CliError> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    Client::new(context)?.is_well(path).await?;
    Ok(Exit::Success)
}
