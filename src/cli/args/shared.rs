//! Options that several commands share.

use clap::Args;

use super::{DAEMON, MANIFESTS, PRUNING};

/// Which commit a command looks at.
#[derive(Debug, Args)]
pub struct RevisionArgs {
    /// Commit, branch or tag of the --git repository to look at instead of the branch's newest commit, or `main~2`,
    /// `HEAD^`. A commit is found by whatever branch, tag or pull request points to it, else in the history of --branch
    #[arg(long, value_name = "REV", help_heading = MANIFESTS)]
    pub revision: Option<String>,
}

/// What `run` and `apply` share.
#[derive(Debug, Args)]
pub struct ConvergeArgs {
    /// How many resources to work on at a time [env: OFOP_CONCURRENCY] [default: 8]
    #[arg(long, value_name = "N", help_heading = DAEMON)]
    pub concurrency: Option<String>,
    /// How long a resource may take to run before it counts as degraded [env: OFOP_PROGRESS_DEADLINE] [default: 5m]
    #[arg(long, value_name = "TIME", help_heading = DAEMON)]
    pub progress_deadline: Option<String>,
    /// How long a record may stay invisible after it was written [env: OFOP_EXPECTATION] [default: 1m]
    #[arg(long, value_name = "TIME", help_heading = DAEMON, hide_short_help = true)]
    pub expectation: Option<String>,
}

/// How operators of one instance agree on who acts.
#[derive(Debug, Args)]
pub struct LeaseArgs {
    /// How long after a renewal the one operator that may change the cluster may do so; the same for every operator of
    /// the instance [env: OFOP_LEASE] [default: 15s]
    #[arg(long, value_name = "TIME", help_heading = DAEMON, hide_short_help = true)]
    pub lease: Option<String>,
    /// How often it renews its lease, at most a third of it [env: OFOP_LEASE_RENEW] [default: a third of the lease]
    #[arg(long, value_name = "TIME", help_heading = DAEMON, hide_short_help = true)]
    pub lease_renew: Option<String>,
}

/// What `apply` and `down` do beside a daemon.
#[derive(Debug, Args)]
pub struct TakeOverArgs {
    /// How long the daemons' leases last.
    #[command(flatten)]
    pub times: LeaseArgs,
    /// Take the lease from the operator that holds it, which stops acting until this command has ended
    #[arg(long)]
    pub take_over: bool,
}

/// When removals wait.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Remove nothing that the manifests no longer describe [env: OFOP_PRUNE=false]
    #[arg(long, help_heading = PRUNING)]
    pub no_prune: bool,
    /// How long what is no longer described may still turn up in another file; 0 removes at once
    /// [env: OFOP_PRUNE_DELAY] [default: 10s for `run`, else 0]
    #[arg(long, value_name = "TIME", help_heading = PRUNING)]
    pub prune_delay: Option<String>,
    /// Remove without waiting until what the same revision brings in runs [env: OFOP_PRUNE_LAST=false]
    #[arg(long, help_heading = PRUNING)]
    pub no_prune_last: bool,
    /// Removing more than this many resources at once … [env: OFOP_PRUNE_GUARD_COUNT] [default: 5]
    #[arg(long, value_name = "N", help_heading = PRUNING)]
    pub prune_guard_count: Option<String>,
    /// … and more than this share of all waits for a person's word; so does removing more than half and leaving at most 2
    /// [env: OFOP_PRUNE_GUARD_FRACTION] [default: 0.3]
    #[arg(long, value_name = "SHARE", help_heading = PRUNING)]
    pub prune_guard_fraction: Option<String>,
}
