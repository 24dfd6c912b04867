//! `ofop run`: the daemon's arguments. What it is made of is in [`super::daemon`].

use std::path::PathBuf;

use clap::Args;

use super::args::{ConvergeArgs, DAEMON, LeaseArgs, PruneArgs};
use super::rollout_args::RolloutArgs;

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where to serve HTTP [env: OFOP_LISTEN] [default: 127.0.0.1:8420]
    #[arg(long, value_name = "ADDRESS", help_heading = DAEMON)]
    pub listen: Option<String>,
    /// Certificate of the HTTP server with its chain, in PEM; read again when it changes [env: OFOP_TLS_CERT] [default: plain HTTP]
    #[arg(long, value_name = "FILE", help_heading = DAEMON)]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM [env: OFOP_TLS_KEY]
    #[arg(long, value_name = "FILE", help_heading = DAEMON)]
    pub tls_key: Option<PathBuf>,
    /// Let everybody read the status page and the API who reaches an address that is not a loopback one [env: OFOP_PUBLIC_READ]
    #[arg(long, help_heading = DAEMON)]
    pub public_read: bool,
    /// How often to compare everything, events aside [env: OFOP_RESYNC] [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = DAEMON)]
    pub resync: Option<String>,
    /// Who acts.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// How often to fetch from the --git repository [env: OFOP_GIT_INTERVAL] [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = DAEMON)]
    pub interval: Option<String>,
    /// File with the tokens of the API, one or lines `NAME TOKEN [ROLE]` [env: OFOP_TOKEN_FILE, or OFOP_TOKEN for the token itself]
    #[arg(long, value_name = "FILE", help_heading = DAEMON)]
    pub token_file: Option<PathBuf>,
    /// File with the secret of POST /webhook [env: OFOP_WEBHOOK_SECRET_FILE, or OFOP_WEBHOOK_SECRET for the secret itself]
    #[arg(long, value_name = "FILE", help_heading = DAEMON)]
    pub webhook_secret_file: Option<PathBuf>,
    /// File that says who is told what needs a person, and how; read again when it changes [env: OFOP_NOTIFY]
    #[arg(long, value_name = "FILE", help_heading = DAEMON)]
    pub notify: Option<PathBuf>,
    /// What converging may do.
    #[command(flatten)]
    pub converge: ConvergeArgs,
    /// When removals wait.
    #[command(flatten)]
    pub prune: PruneArgs,
    /// When changes go out.
    #[command(flatten)]
    pub rollout: RolloutArgs,
}
