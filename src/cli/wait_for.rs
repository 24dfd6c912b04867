//! `ofop wait`: waits until resources are as somebody needs them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use tokio_util::sync::CancellationToken;

use super::client::DaemonArgs;
use super::context::Context;
use super::obstacles::{self, some};
use super::{CliError, Exit, apply, chain, complete, seen, signals, suggest};
use crate::model::{Block, ResourceId};
use crate::reconcile::{Goal, Waiting};
use crate::report::{ResourceStatus, Status};

/// `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// app/UUID or device/UUID
    #[arg(value_name = "KIND/UUID", required = true, add = ArgValueCompleter::new(complete::resources))]
    pub resources: Vec<ResourceId>,
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "WHAT", default_value_t)]
    pub goal: WaitFor,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub timeout: String,
    /// The daemon to ask where no manifests are named.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// It is as its manifest says
    Synced,
    /// It is as its manifest says, and runs
    #[default]
    Healthy,
    /// Nothing of it is left: no service, no record
    Removed,
}

/// Between two looks at the daemon's status, which it has in memory.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at the cluster itself, each of which reads all of it.
const OWN_PAUSE: Duration = Duration::from_secs(3);

/// Waits.
///
/// # Errors
/// When a resource does not exist, or nothing can be seen at first.
pub(super) async fn run(args: &WaitArgs, context: &Context) -> Result<Exit, CliError> {
    let limit = apply::timeout(&args.timeout)?;
    let first = seen::look(context).await?;
    if args.goal != WaitFor::Removed
        && let Some(missing) = args.resources.iter().find(|id| first.get(id).is_none())
    {
        return Err(suggest::unknown(missing, &first));
    }
    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone());
    let mut follower = Follower::new(args);
    let mut last = follower.look(&first);
    let waited = tokio::select! {
        waited = tokio::time::timeout(limit, follow(&mut follower, &mut last, context)) => Some(waited),
        () = stop.cancelled() => None,
    };
    context.output.live_line("");
    let total = args.resources.len();
    let reached = total - last.open.len() - last.stuck.len();
    let exit = match waited {
        None => Exit::Interrupted,
        Some(_) if reached == total => Exit::Success,
        Some(waited) => {
            obstacles::unfinished(&context.output, &last.open, waited.is_err());
            obstacles::blocked(&context.output, &last.stuck);
            Exit::PartlyFailed
        }
    };
    context.output.data_line(&format!("{reached} of {total} {}", args.goal.word()))?;
    Ok(exit)
}

/// Looks until all is reached or the rest can only end badly. `last` is kept up to date.
async fn follow(follower: &mut Follower, last: &mut Judged, context: &Context) {
    let pause = if seen::looks_itself(context) { OWN_PAUSE } else { PAUSE };
    let mut away = false;
    while !last.is_over {
        let open: Vec<String> = last.open.keys().map(ToString::to_string).collect();
        context.output.live_line(&format!("waiting for {}", some(&open)));
        tokio::time::sleep(pause).await;
        match seen::look(context).await {
            Ok(status) => *last = follower.look(&status),
            // A daemon that restarts, or an engine without a leader, comes back.
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    context.output.live_line("");
                    context.output.note(&format!("{}; waiting for it", chain(&error)));
                }
            }
        }
    }
}

impl WaitFor {
    fn word(self) -> &'static str {
        match self {
            WaitFor::Synced => "in sync",
            WaitFor::Healthy => "in sync and healthy",
            WaitFor::Removed => "removed",
        }
    }
}

/// Follows what is waited for.
struct Follower {
    resources: Vec<ResourceId>,
    goal: WaitFor,
    waiting: Waiting,
}

/// What one look comes to.
#[derive(Debug, Default)]
struct Judged {
    /// What may still get there, and what it waits for.
    open: BTreeMap<ResourceId, String>,
    /// What only somebody's action brings there.
    stuck: BTreeMap<ResourceId, Block>,
    /// There is nothing left to wait for.
    is_over: bool,
}

impl Follower {
    fn new(args: &WaitArgs) -> Self {
        let goal = if args.goal == WaitFor::Synced { Goal::InSync } else { Goal::Settled };
        Follower { resources: args.resources.clone(), goal: args.goal, waiting: Waiting::new(goal) }
    }

    fn look(&mut self, status: &Status) -> Judged {
        match self.goal {
            WaitFor::Synced | WaitFor::Healthy => self.settled(status),
            WaitFor::Removed => self.removed(status),
        }
    }

    fn settled(&mut self, status: &Status) -> Judged {
        let found = self.resources.iter().filter_map(|id| status.get(id));
        let verdicts: Vec<_> = found.map(|resource| (&resource.id, resource.verdict.clone())).collect();
        let outlook = self.waiting.look(verdicts);
        let mut is_over = outlook.is_over();
        let suspended = outlook.suspended.clone();
        let (mut stuck, mut open) = match is_over {
            true => outlook.at_the_end(),
            false => {
                let why = |verdict: &crate::model::Verdict| match verdict {
                    crate::model::Verdict::Settled => String::new(),
                    crate::model::Verdict::InProgress { message, .. } => message.clone(),
                    crate::model::Verdict::Blocked(block) => block.message.clone(),
                };
                let open = outlook.open.iter().map(|(id, verdict)| (id.clone(), why(verdict))).collect();
                (outlook.blocked, open)
            }
        };
        // What is left alone does not get there by itself.
        stuck.extend(suspended);
        for id in self.resources.iter().filter(|id| status.get(id).is_none()) {
            open.insert(id.clone(), "it is neither described nor deployed".into());
            is_over = false;
        }
        Judged { open, stuck, is_over }
    }

    fn removed(&self, status: &Status) -> Judged {
        let mut judged = Judged::default();
        for resource in self.resources.iter().filter_map(|id| status.get(id)) {
            let Some(left) = left(resource) else { continue };
            match resource.verdict.block().filter(|block| resource.origin.is_none() && !block.kind.may_settle()) {
                Some(block) => drop(judged.stuck.insert(resource.id.clone(), block.clone())),
                None => drop(judged.open.insert(resource.id.clone(), left)),
            }
        }
        judged.is_over = judged.open.is_empty();
        judged
    }
}

/// What is left of a resource, in words; none when nothing is.
fn left(resource: &ResourceStatus) -> Option<String> {
    let services = resource.services.iter().filter(|service| service.id.is_some()).count();
    let records = resource.records.iter().filter(|record| record.registered != Some(false)).count();
    match (services, records, &resource.origin) {
        (0, 0, _) => None,
        (_, _, Some(origin)) => {
            Some(format!("{services} services and {records} records are there, and {origin} describes it"))
        }
        (_, _, None) => Some(format!("{services} services and {records} records are left")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::status;

    fn follower(goal: WaitFor) -> Follower {
        Follower::new(&WaitArgs {
            resources: vec!["app/A".parse().unwrap(), "app/B".parse().unwrap()],
            goal,
            timeout: String::new(),
            daemon: DaemonArgs { address: None, token_file: None },
        })
    }

    fn verdict(kind: &str) -> crate::model::Verdict {
        serde_json::from_value(
            json!({ "state": "blocked", "kind": kind, "message": "why", "fixed_by": "manifests", "hint": "do" }),
        )
        .unwrap()
    }

    #[test]
    fn what_is_settled_is_reached_and_others_do_not_count() {
        let mut status = status(&["app/A", "app/B", "app/C"]);
        status.resources[2].verdict = verdict("conflict");
        let judged = follower(WaitFor::Healthy).look(&status);
        assert!(judged.is_over && judged.open.is_empty() && judged.stuck.is_empty());
    }

    #[test]
    fn what_only_ends_badly_ends_the_wait_and_what_is_on_its_way_does_not() {
        let mut status = status(&["app/A", "app/B"]);
        for (kind, over, stuck) in [("conflict", true, 1), ("missing_network", false, 0), ("suspended", true, 1)] {
            status.resources[1].verdict = verdict(kind);
            let judged = follower(WaitFor::Healthy).look(&status);
            assert_eq!((judged.is_over, judged.stuck.len()), (over, stuck), "{kind}");
        }
        status.resources[1].verdict =
            serde_json::from_value(json!({ "state": "in_progress", "why": "tasks", "message": "0 of 1 run" })).unwrap();
        let judged = follower(WaitFor::Healthy).look(&status);
        assert!(!judged.is_over && judged.open.len() == 1);
        assert!(follower(WaitFor::Synced).look(&status).is_over, "it is as described");
        status.resources.pop();
        let judged = follower(WaitFor::Healthy).look(&status);
        assert!(!judged.is_over && judged.open.values().any(|why| why.contains("neither described")));
    }

    #[test]
    fn removed_is_what_has_neither_service_nor_record() {
        let mut status = status(&["app/A"]);
        assert!(follower(WaitFor::Removed).look(&status).is_over, "nothing of it is there");
        status.resources[0].services = serde_json::from_value(json!([{
            "name": "a", "id": "s1", "presence": "orphaned", "image": "a:1", "replicas": { "wanted": 0, "running": 1 },
            "update": { "state": "none" }, "tasks": [],
        }]))
        .unwrap();
        let judged = follower(WaitFor::Removed).look(&status);
        assert!(!judged.is_over && judged.open.values().any(|why| why.contains("1 services")));
        status.resources[0].verdict = verdict("held_for_confirmation");
        let judged = follower(WaitFor::Removed).look(&status);
        assert!(judged.is_over && judged.stuck.len() == 1);
        status.resources.clear();
        assert!(follower(WaitFor::Removed).look(&status).is_over);
    }
}
