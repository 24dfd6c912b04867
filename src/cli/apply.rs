//! `ofop apply`: converges once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::adapters::AnyPlatform;
use super::args::{ConvergeArgs, PRUNING, PruneArgs, RevisionArgs, TakeOverArgs};
use super::context::Context;
use super::lease::Held;
use super::manifests::Manifests;
use super::progress::Progress;
use super::rollout_args::RolloutArgs;
use super::{CliError, Exit, lease, manifests, obstacles, parts, problems, signals};
use crate::clock::SystemClock;
use crate::compile::Compiler;
use crate::config::parse_duration;
use crate::model::{Desired, Severity};
use crate::plan::Policy;
use crate::reconcile::{self, ConvergeOptions, ConvergeReport, Ending, Goal};
use crate::report::Report;

/// `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Only what these files and directories describe [default: everything in --desired or --git]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Which commit.
    #[command(flatten)]
    pub revision: RevisionArgs,
    /// Wait until everything is in sync and healthy
    #[arg(long)]
    pub wait: bool,
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub timeout: String,
    /// Removals beyond the guard are meant
    #[arg(long, help_heading = PRUNING)]
    pub confirm_prune: bool,
    /// Who acts.
    #[command(flatten)]
    pub lease: TakeOverArgs,
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

/// Converges everything, or what the paths describe.
///
/// # Errors
/// When it cannot begin.
pub(super) async fn apply(args: &ApplyArgs, context: &Context) -> Result<Exit, CliError> {
    let manifests = checked(context, &args.paths).await?;
    let mut policy = parts::policy(context);
    policy.prune_confirmed = args.confirm_prune;
    if !args.paths.is_empty() {
        policy.scope = Some(manifests.desired.resources.keys().cloned().collect());
    }
    let goal = if args.wait { Goal::Settled } else { Goal::InSync };
    let until = ConvergeOptions { goal, timeout: timeout(&args.timeout)?, ..ConvergeOptions::default() };
    let report = converge(context, manifests, policy, until, args.lease.take_over).await?;
    let goal = if args.wait { "in sync and healthy" } else { "in sync" };
    conclude(context, &report, report.resources.len(), goal)
}

/// The manifests, which must not be wholly wrong: a person waits, so that what is wrong is shown first. What
/// is valid is converged all the same, as the daemon would.
pub(super) async fn checked(context: &Context, paths: &[PathBuf]) -> Result<Manifests, CliError> {
    let manifests = manifests::read(context, paths).await?;
    let desired = &manifests.desired;
    if let Some(trouble) = &desired.trouble {
        // A daemon goes on with the last good commit; a person asked for the newest, or for this one.
        return Err(CliError::Source(trouble.clone()));
    }
    problems::show(&desired.problems, &context.output);
    if desired.resources.is_empty() && desired.errors() > 0 {
        return Err(CliError::usage("no file is valid", "mend what is shown above; `ofop validate` checks again"));
    }
    Ok(manifests)
}

/// How many files an error refuses.
fn refused(desired: &Desired) -> usize {
    let errors = desired.problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(|problem| &problem.file).collect::<BTreeSet<_>>().len()
}

pub(super) fn timeout(text: &str) -> Result<Duration, CliError> {
    parse_duration(text).filter(|time| !time.is_zero()).ok_or_else(|| {
        CliError::usage(format!("--timeout: `{text}` is not a time"), "write a number with its unit, e.g. 90s or 5m")
    })
}

pub(super) async fn converge(
    context: &Context,
    manifests: Manifests,
    policy: Policy,
    until: ConvergeOptions,
    take_over: bool,
) -> Result<ConvergeReport, CliError> {
    let (platform, clock) = (parts::platform(context)?, Arc::new(SystemClock::new()));
    let held = lease::hold(context, &platform, &clock, take_over).await?;
    converge_as(held, context, (platform, clock), manifests, policy, until).await
}

/// The same with the lease in hand.
pub(super) async fn converge_as(
    held: Held,
    context: &Context,
    (platform, clock): (Arc<AnyPlatform>, Arc<SystemClock>),
    manifests: Manifests,
    policy: Policy,
    until: ConvergeOptions,
) -> Result<ConvergeReport, CliError> {
    let config = &context.config;
    let report = Report::new(config.instance.clone());
    let parts = reconcile::Parts {
        loader: manifests.loader,
        compiler: Compiler::new(config.settings.clone()),
        platform,
        registry: parts::registry(context)?,
        clock,
        report,
        commands: None,
        leadership: held.leadership(),
    };
    let options = parts::options(context, policy);
    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone());
    let mut progress = Progress::new(context.output, until.goal == Goal::Settled);
    let report = reconcile::converge(parts, options, until, stop, |happening| progress.show(&happening)).await;
    progress.end();
    // While a call is in flight nobody else may act: then the lease runs out by itself.
    if report.drained {
        held.hand_back().await;
    }
    Ok(report)
}

/// Says what came of it, resource by resource where something is not as it should be, and how many of `total`
/// reached the goal. What a refused file describes was left as it is, which is no success.
pub(super) fn conclude(context: &Context, report: &ConvergeReport, total: usize, goal: &str) -> Result<Exit, CliError> {
    let output = &context.output;
    let causes = [
        ("the manifests cannot be read", &report.source_error),
        ("the engine cannot be observed", &report.platform_error),
        ("the registry cannot be observed", &report.registry_error),
    ];
    for (what, cause) in causes {
        if let Some(cause) = cause {
            output.error(&format!("{what}: {cause}"), None);
        }
    }
    let refused = refused(&report.desired);
    if report.lost_lease {
        let hint =
            "`ofop get all --address ADDRESS` shows how things are; the same command goes on where this one stopped";
        output.error("another operator took the lease, or it could not be renewed: stopped", Some(hint));
    }
    let (mut blocked, mut unfinished) = (BTreeMap::new(), BTreeMap::new());
    for (id, ending) in &report.resources {
        match ending {
            Ending::InSync => {}
            Ending::Blocked(block) => drop(blocked.insert(id.clone(), block.clone())),
            Ending::Unfinished(why) => drop(unfinished.insert(id.clone(), why.clone())),
        }
    }
    let failed = blocked.len() + unfinished.len();
    if report.interrupted || report.lost_lease {
        let open: Vec<String> = unfinished.keys().map(ToString::to_string).collect();
        if !open.is_empty() {
            let hint = "the same command goes on where this one stopped";
            output.error(&format!("stopped before these were done: {}", obstacles::some(&open)), Some(hint));
        }
    } else {
        obstacles::unfinished(output, &unfinished, report.timed_out);
    }
    if refused > 0 {
        let files = if refused == 1 { "1 file was".to_owned() } else { format!("{refused} files were") };
        let message = format!("{files} refused, as shown above: what is described there was left as it is");
        output.error(&message, Some("correct what is shown; `ofop validate` checks again"));
    }
    obstacles::blocked(output, &blocked);
    let steps = report.events.len();
    let did = match steps {
        0 if failed > 0 => "no step was taken".to_owned(),
        0 => "nothing to do".to_owned(),
        1 => "1 step".to_owned(),
        _ => format!("{steps} steps"),
    };
    let reached = if report.plan.is_none() { 0 } else { total.saturating_sub(failed) };
    output.data_line(&format!("{did}; {reached} of {total} {goal}"))?;
    Ok(if report.interrupted {
        Exit::Interrupted
    } else if report.plan.is_none() {
        Exit::Failure
    } else if failed > 0 || refused > 0 || !report.is_success() {
        Exit::PartlyFailed
    } else {
        Exit::Success
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_file_never_ends_with_success() {
        use crate::config::{Config, Flags, Variables};
        use crate::model::{Plan, Problem};
        let config = Config::load(&Flags::default(), Variables::default()).unwrap();
        let output = crate::cli::Output::new(crate::cli::args::ColorWhen::Never, true);
        let context = Context { config, output, run: crate::model::RunId::new("host", 1, 1) };
        let desired = |problems: &[(&str, Severity)]| Desired {
            problems: problems
                .iter()
                .map(|(file, severity)| Problem { severity: *severity, ..Problem::file(*file, "odd") })
                .collect(),
            ..Desired::default()
        };
        let (bad, odd) = (Severity::Error, Severity::Warning);
        for (problems, files, expected) in [
            (vec![], 0, Exit::Success),
            (vec![("a.yml", odd)], 0, Exit::Success),
            (vec![("a.yml", bad), ("a.yml", bad), ("b.yml", odd)], 1, Exit::PartlyFailed),
        ] {
            let report = ConvergeReport {
                resources: BTreeMap::new(),
                events: Vec::new(),
                plan: Some(Arc::new(Plan::default())),
                desired: Arc::new(desired(&problems)),
                timed_out: false,
                interrupted: false,
                lost_lease: false,
                drained: true,
                source_error: None,
                platform_error: None,
                registry_error: None,
            };
            assert_eq!(refused(&report.desired), files);
            assert_eq!(conclude(&context, &report, 0, "in sync").unwrap(), expected);
        }
    }
}
