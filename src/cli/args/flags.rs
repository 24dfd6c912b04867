//! The settings among the flags, as [`crate::config`] takes them.

use std::path::PathBuf;

use super::super::adopt::AdoptArgs;
use super::super::control::{NamedArgs, ReconcileArgs};
use super::super::describe::DescribeArgs;
use super::super::diff::DiffArgs;
use super::super::doctor::DoctorArgs;
use super::super::events::EventsArgs;
use super::super::get::GetArgs;
use super::super::health::HealthArgs;
use super::super::history::HistoryArgs;
use super::super::hold::{FreezeArgs, SuspendArgs};
use super::super::policy::PolicyAct;
use super::super::render::RenderArgs;
use super::super::validate::ValidateArgs;
use super::super::wait_for::WaitArgs;
use super::{Cli, Command, ConvergeArgs, GlobalArgs, LeaseArgs, PruneArgs, RevisionArgs};
use crate::config::Flags;

impl Cli {
    /// The settings among the flags, as [`crate::config`] takes them.
    pub fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        self.global.add(&mut flags);
        match &self.command {
            Command::Run(args) => {
                put(&mut flags, "--listen", args.listen.as_ref());
                if args.public_read {
                    flags.insert("--public-read", String::new());
                }
                put_path(&mut flags, "--tls-cert", args.tls_cert.as_ref());
                put_path(&mut flags, "--tls-key", args.tls_key.as_ref());
                put(&mut flags, "--resync", args.resync.as_ref());
                args.lease.add(&mut flags);
                put(&mut flags, "--interval", args.interval.as_ref());
                put_path(&mut flags, "--token-file", args.token_file.as_ref());
                put_path(&mut flags, "--webhook-secret-file", args.webhook_secret_file.as_ref());
                put_path(&mut flags, "--notify", args.notify.as_ref());
                args.converge.add(&mut flags);
                args.prune.add(&mut flags);
                args.rollout.add(&mut flags);
            }
            Command::Apply(args) => {
                args.lease.times.add(&mut flags);
                args.revision.add(&mut flags);
                args.converge.add(&mut flags);
                args.prune.add(&mut flags);
                args.rollout.add(&mut flags);
            }
            Command::Plan(args) => {
                args.revision.add(&mut flags);
                args.prune.add(&mut flags);
                args.rollout.add(&mut flags);
            }
            Command::Validate(ValidateArgs { revision, .. }) | Command::Render(RenderArgs { revision, .. }) => {
                revision.add(&mut flags);
            }
            Command::Adopt(AdoptArgs { daemon, .. })
            | Command::Get(GetArgs { daemon, .. })
            | Command::Health(HealthArgs { daemon, .. })
            | Command::Describe(DescribeArgs { daemon, .. })
            | Command::Events(EventsArgs { daemon, .. })
            | Command::History(HistoryArgs { daemon, .. })
            | Command::Diff(DiffArgs { daemon, .. })
            | Command::Doctor(DoctorArgs { daemon, .. })
            | Command::Wait(WaitArgs { daemon, .. })
            | Command::Reconcile(ReconcileArgs { daemon, .. })
            | Command::Suspend(SuspendArgs { named: NamedArgs { daemon, .. }, .. })
            | Command::Freeze(FreezeArgs { daemon, .. })
            | Command::Resume(NamedArgs { daemon, .. }) => {
                put(&mut flags, "--address", daemon.address.as_ref());
                put_path(&mut flags, "--token-file", daemon.token_file.as_ref());
            }
            Command::Rollout(args) => {
                let daemon = args.daemon();
                put(&mut flags, "--address", daemon.address.as_ref());
                put_path(&mut flags, "--token-file", daemon.token_file.as_ref());
            }
            Command::Down(args) => {
                args.lease.times.add(&mut flags);
                put(&mut flags, "--address", args.daemon.address.as_ref());
                put_path(&mut flags, "--token-file", args.daemon.token_file.as_ref());
            }
            Command::Policy(args) => {
                let PolicyAct::Check(args) = &args.act;
                args.revision.add(&mut flags);
            }
            Command::Notify(args) => put_path(&mut flags, "--notify", args.file()),
            Command::Import(_)
            | Command::Logs(_)
            | Command::Registry(_)
            | Command::Schema(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Options
            | Command::Version(_) => {}
        }
        flags
    }
}

impl GlobalArgs {
    fn add(&self, flags: &mut Flags) {
        put_path(flags, "--desired", self.desired.as_ref());
        put(flags, "--git", self.git.as_ref());
        put(flags, "--branch", self.branch.as_ref());
        put(flags, "--path", self.path.as_ref());
        put_path(flags, "--verify-signatures", self.verify_signatures.as_ref());
        put_path(flags, "--revoked-signers", self.revoked_signers.as_ref());
        put(flags, "--signed-commits", self.signed_commits.as_ref());
        put(flags, "--git-rewritten", self.git_rewritten.as_ref());
        put(flags, "--model-hosts", self.model_hosts.as_ref());
        put_path(flags, "--policy", self.policy.as_ref());
        put(flags, "--platform", self.platform.as_ref());
        put(flags, "--registry", self.registry.as_ref());
        put(flags, "--host", self.host.as_ref());
        put(flags, "--instance", self.instance.as_ref());
        put_path(flags, "--state-dir", self.state_dir.as_ref());
        put(flags, "--log-format", self.log_format.as_ref());
    }
}

impl RevisionArgs {
    fn add(&self, flags: &mut Flags) {
        put(flags, "--revision", self.revision.as_ref());
    }
}

impl ConvergeArgs {
    fn add(&self, flags: &mut Flags) {
        put(flags, "--concurrency", self.concurrency.as_ref());
        put(flags, "--progress-deadline", self.progress_deadline.as_ref());
        put(flags, "--expectation", self.expectation.as_ref());
    }
}

impl LeaseArgs {
    fn add(&self, flags: &mut Flags) {
        put(flags, "--lease", self.lease.as_ref());
        put(flags, "--lease-renew", self.lease_renew.as_ref());
    }
}

impl PruneArgs {
    fn add(&self, flags: &mut Flags) {
        if self.no_prune {
            flags.insert("--no-prune", String::new());
        }
        put(flags, "--prune-delay", self.prune_delay.as_ref());
        if self.no_prune_last {
            flags.insert("--no-prune-last", String::new());
        }
        put(flags, "--prune-guard-count", self.prune_guard_count.as_ref());
        put(flags, "--prune-guard-fraction", self.prune_guard_fraction.as_ref());
    }
}

fn put(flags: &mut Flags, flag: &'static str, text: Option<&String>) {
    if let Some(text) = text {
        flags.insert(flag, text.clone());
    }
}

/// A path that is not UTF-8 is kept as well as it can be shown; opening it will say so.
fn put_path(flags: &mut Flags, flag: &'static str, path: Option<&PathBuf>) {
    put(flags, flag, path.map(|path| path.to_string_lossy().into_owned()).as_ref());
}
