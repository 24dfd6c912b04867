//! `ofop down`: takes resources down, here or by the daemon that runs.
//!
//! Where no daemon holds the lease, this command does it, once. A daemon would deploy again what its manifests describe:
//! so it is asked to do it, and keeps the resource away until `ofop resume`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::apply::{self, checked, conclude, timeout};
use super::args::TakeOverArgs;
use super::client::{self, Client, DaemonArgs};
use super::context::Context;
use super::lease::Stand;
use super::manifests::{self, Manifests};
use super::oneshot::OneShot;
use super::{CliError, Exit, complete, confirm, lease, parts, signals};
use crate::clock::SystemClock;
use crate::model::{BlockKind, ConditionKind, ResourceId, Suspension};
use crate::plan::{ShowSecrets, TextOptions, to_text};
use crate::reconcile::{ConvergeOptions, Goal};
use crate::report::ResourceStatus;

/// `down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Files and directories whose resources shall go, or single resources as app/UUID or device/UUID
    #[arg(value_name = "PATH|KIND/UUID", add = ArgValueCompleter::new(complete::paths_and_resources))]
    pub what: Vec<PathBuf>,
    /// Everything of the instance
    #[arg(long, conflicts_with = "what")]
    pub all: bool,
    /// Show what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub timeout: String,
    /// The daemon; named here, it is asked whatever holds the lease.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Who acts.
    #[command(flatten)]
    pub lease: TakeOverArgs,
}

/// Time between two looks at the daemon's status, which it has in memory.
const PAUSE: Duration = Duration::from_millis(250);
/// How often one more command is offered to a daemon that has too many, and how long to wait in between.
const OFFERS: usize = 40;

/// Tears down what is named.
///
/// # Errors
/// When nothing is named, nobody can be asked, it cannot begin, or the daemon refuses.
pub(super) async fn run(args: &DownArgs, context: &Context) -> Result<Exit, CliError> {
    let limit = timeout(&args.timeout)?;
    if args.what.is_empty() && !args.all {
        return Err(CliError::usage(
            "nothing is named that should be taken down",
            format!(
                "name resources (app/PRESS-7), files or directories; --all takes down everything of instance {}",
                context.config.instance
            ),
        ));
    }
    let (paths, named) = paths_and_resources(&args.what);
    let manifests = if paths.is_empty() { manifests::none(context) } else { checked(context, &paths).await? };
    let mut wanted: BTreeSet<ResourceId> = manifests.desired.resources.keys().cloned().chain(named).collect();
    if args.daemon.address.is_some() {
        // That daemon is meant, wherever the engine is.
        let client = Client::new(context)?;
        if args.all {
            wanted = everything_of(&client).await?;
        }
        if args.dry_run {
            return show_there(&client, &wanted, context).await;
        }
        return match confirmed(args, &wanted)? {
            true => ask(&client, &wanted, args, limit, context).await,
            false => Ok(unchanged(context)),
        };
    }
    if args.all {
        wanted = OneShot::of(context, &manifests, parts::policy(context))?.ours().await?;
    }
    let asks = !args.yes && confirm::can_ask();
    if args.dry_run || asks {
        show(&manifests, &wanted, context).await?;
    }
    if args.dry_run {
        return Ok(Exit::Success);
    }
    if !confirmed(args, &wanted)? {
        return Ok(unchanged(context));
    }
    let (platform, clock) = (parts::platform(context)?, Arc::new(SystemClock::new()));
    let held = match lease::stand(context, &platform, &clock, args.lease.take_over).await? {
        Stand::Held(held) => held,
        Stand::Lives(record) => {
            let Some(address) = lease::daemon_of(context, &record).await? else {
                return Err(lease::no_daemon(context, &record));
            };
            let client = Client::at(context, &address)?;
            if args.all {
                wanted.extend(everything_of(&client).await?);
            }
            return ask(&client, &wanted, args, limit, context).await;
        }
    };
    let mut policy = parts::policy(context);
    policy.remove.clone_from(&wanted);
    policy.scope = Some(wanted.clone());
    let until = ConvergeOptions { goal: Goal::InSync, timeout: limit, ..ConvergeOptions::default() };
    let report = apply::converge_as(held, context, (platform, clock), manifests, policy, until).await?;
    // What is wholly gone is in the report no more.
    conclude(context, &report, wanted.len(), "gone")
}

/// What exists at its path is a file or a directory, whatever it looks like.
fn paths_and_resources(what: &[PathBuf]) -> (Vec<PathBuf>, Vec<ResourceId>) {
    let (mut paths, mut resources) = (Vec::new(), Vec::new());
    for one in what {
        match one.to_str().and_then(|text| text.parse().ok()) {
            Some(resource) if !one.exists() => resources.push(resource),
            Some(_) | None => paths.push(one.clone()),
        }
    }
    (paths, resources)
}

/// How many resources a question names.
const NAMED: usize = 5;

fn some(resources: &BTreeSet<ResourceId>) -> String {
    let first: Vec<String> = resources.iter().take(NAMED).map(ToString::to_string).collect();
    let more = resources.len().saturating_sub(NAMED);
    let first = first.join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

fn confirmed(args: &DownArgs, wanted: &BTreeSet<ResourceId>) -> Result<bool, CliError> {
    if args.yes || wanted.is_empty() {
        return Ok(true);
    }
    let what = if wanted.len() == 1 { String::new() } else { format!("{} resources: ", wanted.len()) };
    confirm::asked(
        &format!("take down {what}{}?", some(wanted)),
        &format!("taking down {what}{} needs a confirmation", some(wanted)),
        "--yes confirms; --dry-run shows what would go",
    )
}

fn unchanged(context: &Context) -> Exit {
    context.output.note("nothing was changed");
    Exit::Failure
}

/// Shows the plan for these resources as if they were taken down.
async fn show(manifests: &Manifests, wanted: &BTreeSet<ResourceId>, context: &Context) -> Result<(), CliError> {
    let mut policy = parts::policy(context);
    policy.remove.clone_from(wanted);
    policy.scope = Some(wanted.clone());
    let look = OneShot::of(context, manifests, policy)?.look().await?;
    let width = context.output.width.unwrap_or_default();
    let options = TextOptions { color: context.output.paint.on, secrets: ShowSecrets::No, width };
    Ok(context.output.data(&to_text(&look.plan, options))?)
}

/// Shows what a daemon knows of these resources, where the engine is out of reach.
async fn show_there(client: &Client<'_>, wanted: &BTreeSet<ResourceId>, context: &Context) -> Result<Exit, CliError> {
    for id in wanted {
        let resource = status_of(client, id).await?.ok_or_else(|| unknown(id))?;
        for service in resource.services.iter().filter(|service| service.id.is_some()) {
            context.output.data_line(&format!("- {id} remove service {}", service.name))?;
        }
        for record in resource.records.iter().filter(|record| record.registered == Some(true)) {
            context.output.data_line(&format!("- {id} deregister {}", record.record))?;
        }
    }
    Ok(Exit::Success)
}

fn unknown(id: &ResourceId) -> CliError {
    CliError::usage(
        format!("the daemon knows of no {id}"),
        "`ofop get all -o name` lists what is described or deployed",
    )
}

/// Everything that a daemon describes or has deployed.
async fn everything_of(client: &Client<'_>) -> Result<BTreeSet<ResourceId>, CliError> {
    let status = client.get("/api/v1/resources").await?;
    let resources = status["resources"].as_array().into_iter().flatten();
    Ok(resources.filter_map(|resource| resource["resource"].as_str()?.parse().ok()).collect())
}

/// One resource as the daemon knows it; none when there is none.
async fn status_of(client: &Client<'_>, id: &ResourceId) -> Result<Option<ResourceStatus>, CliError> {
    let Some(value) = client.get_if_there(&client::resource_path(id)).await? else { return Ok(None) };
    let resource = serde_json::from_value(value).map_err(|error| CliError::Daemon {
        what: format!("the answer of the daemon cannot be understood: {error}"),
        hint: "it may be of another version than this program".into(),
    })?;
    Ok(Some(resource))
}

/// Has the daemon take these resources down, and waits until they are gone.
async fn ask(
    client: &Client<'_>,
    wanted: &BTreeSet<ResourceId>,
    args: &DownArgs,
    limit: Duration,
    context: &Context,
) -> Result<Exit, CliError> {
    for id in wanted {
        let body = json!({ "resource": id, "instance": context.config.instance });
        let mut offers = 0;
        // A daemon takes a handful of commands while it looks at a slow engine.
        while let Err(error) = client.post("/api/v1/down", &body).await {
            offers += 1;
            if !matches!(&error, CliError::Busy { .. }) || offers >= OFFERS {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    let asked = match wanted.len() {
        1 => format!("{} is being taken down by the daemon at {}", some(wanted), client.address()),
        number => format!("{number} resources are being taken down by the daemon at {}", client.address()),
    };
    context.output.note(&asked);
    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone());
    let mut open: Vec<(ResourceId, String)> =
        wanted.iter().map(|id| (id.clone(), "the daemon has not looked since".to_owned())).collect();
    let mut failed = BTreeSet::new();
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, settle(client, &mut open, &mut failed, context)) => Some(ended),
        () = stop.cancelled() => None,
    };
    context.output.live_line("");
    let total = wanted.len();
    let done = total - open.len() - failed.len();
    let exit = match ended {
        None => {
            let hint =
                "it goes on: `ofop describe KIND/UUID` shows how far it is, `ofop resume KIND/UUID` takes it back";
            context.output.error("stopped waiting for the daemon", Some(hint));
            Exit::Interrupted
        }
        Some(Ok(Err(error))) => return Err(error),
        Some(Ok(Ok(()))) if failed.is_empty() => Exit::Success,
        Some(Ok(Ok(()))) => Exit::PartlyFailed,
        Some(Err(_)) => {
            for (id, why) in &open {
                let hint = format!("`ofop describe {id}` shows what it waits for; --timeout waits longer");
                context.output.error(&format!("{id}: not gone within {}: {why}", args.timeout), Some(&hint));
            }
            Exit::PartlyFailed
        }
    };
    context.output.data_line(&format!("{done} of {total} gone, and kept away until `ofop resume`"))?;
    Ok(exit)
}

/// Looks until each of these is gone or only a person can help; these go to `failed`. `open` is kept up to date.
async fn settle(
    client: &Client<'_>,
    open: &mut Vec<(ResourceId, String)>,
    failed: &mut BTreeSet<ResourceId>,
    context: &Context,
) -> Result<(), CliError> {
    let total = open.len();
    let mut away = false;
    while !open.is_empty() {
        let mut left = Vec::new();
        for (id, before) in open.iter() {
            let state = match status_of(client, id).await {
                Ok(resource) => judge(resource.as_ref()),
                // A daemon that restarts, or whose place another one takes, knows what it was told.
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        context.output.note(&format!("{}; waiting for it", super::chain(&error)));
                    }
                    State::Open(before.clone())
                }
            };
            match state {
                State::Gone => context.output.note(&format!("{id} is gone")),
                State::Stuck(why) => {
                    failed.insert(id.clone());
                    context.output.error(&format!("{id}: {why}"), None);
                }
                State::Open(why) => {
                    if why != *before {
                        context.output.live_line("");
                        context.output.note(&format!("  {id}: {why}"));
                    }
                    left.push((id.clone(), why));
                }
            }
        }
        *open = left;
        if let Some((first, why)) = open.first() {
            let gone = total - open.len() - failed.len();
            context.output.live_line(&format!("{gone}/{total} gone; {first}: {why}"));
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// How far a resource is on its way out.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Gone,
    /// Only a person can help.
    Stuck(String),
    /// It is on its way; what comes next.
    Open(String),
}

fn judge(resource: Option<&ResourceStatus>) -> State {
    let Some(resource) = resource else { return State::Gone };
    let suspended = resource.conditions.iter().filter(|condition| condition.kind == ConditionKind::Suspended);
    let (taken_down, others): (Vec<_>, Vec<_>) =
        suspended.partition(|condition| Suspension::TakenDown.is_told_by(condition.kind, &condition.reason));
    if taken_down.is_empty() {
        return State::Open("the daemon has not looked since".into());
    }
    if let Some(other) = others.first() {
        return State::Stuck(other.message.clone());
    }
    if resource.sync == crate::model::Sync::Synced {
        return State::Gone;
    }
    let block = resource.verdict.block();
    if let Some(block) = block.filter(|block| matches!(block.kind, BlockKind::StepRefused | BlockKind::StepFailing)) {
        return State::Stuck(block.message.clone());
    }
    let services = resource.services.iter().filter(|service| service.id.is_some()).count();
    let held = resource.held.first().map(|held| format!("{} waits for {}", held.step, held.waits_for));
    State::Open(match (services, held) {
        (_, Some(held)) => held,
        (0, None) => "its records go".into(),
        (1, None) => "its service goes".into(),
        (more, None) => format!("its {more} services go"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_exists_is_a_path_and_the_name_of_a_resource_is_one() {
        let given: Vec<PathBuf> = ["app/PRESS-7", "device/CNC-1", "src/cli", "app_press.yml"].map(PathBuf::from).into();
        let (paths, resources) = paths_and_resources(&given);
        assert_eq!(paths, [PathBuf::from("src/cli"), PathBuf::from("app_press.yml")]);
        let named: Vec<String> = resources.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["app/PRESS-7", "device/CNC-1"]);
    }

    fn resource(change: impl FnOnce(&mut Value)) -> ResourceStatus {
        let mut value = json!({
            "resource": "app/A", "kind": "app", "uuid": "A", "origin": null, "revision": null, "frozen": false,
            "sync": "OutOfSync", "health": "Progressing", "verdict": { "state": "settled" }, "drift": [], "pending_steps": 1, "services": [], "records": [],
            "conditions": [{ "type": "Suspended", "reason": "TakenDown", "message": "taken down since now" }],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_resource_is_gone_once_the_daemon_has_seen_that_it_is() {
        assert_eq!(judge(None), State::Gone);
        assert_eq!(judge(Some(&resource(|value| value["sync"] = "Synced".into()))), State::Gone);
        // What was so before the daemon looked counts for nothing.
        let before = resource(|value| {
            value["sync"] = "Synced".into();
            value["conditions"] = json!([]);
        });
        assert!(matches!(judge(Some(&before)), State::Open(_)));
        assert_eq!(judge(Some(&resource(|_| {}))), State::Open("its records go".into()));
        let held = resource(|value| value["held"] = json!([{ "step": "forget asset A", "waits_for": "its rows" }]));
        assert_eq!(judge(Some(&held)), State::Open("forget asset A waits for its rows".into()));
    }

    #[test]
    fn what_only_a_person_can_mend_ends_the_waiting() {
        let suspended = resource(|value| {
            let more = json!({ "type": "Suspended", "reason": "Person", "message": "left alone" });
            value["conditions"].as_array_mut().unwrap().push(more);
        });
        assert_eq!(judge(Some(&suspended)), State::Stuck("left alone".into()));
        let blocked = |kind: &str| {
            resource(|value| {
                value["verdict"] =
                    json!({ "state": "blocked", "kind": kind, "message": "no", "fixed_by": "cluster", "hint": "" });
            })
        };
        assert!(matches!(judge(Some(&blocked("missing_coordinator"))), State::Open(_)), "it may come back");
        assert_eq!(judge(Some(&blocked("step_failing"))), State::Stuck("no".into()));
        assert_eq!(judge(Some(&blocked("step_refused"))), State::Stuck("no".into()));
    }
}
