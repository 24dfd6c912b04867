//! What comes after what.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AllPrepared, Held, changes, waves};
use crate::model::{DesiredResource, Gate, Health, ResourceId, Sync};
use crate::plan::context::{Context, Recheck};
use crate::plan::resource::{self, Prepared};

/// How a resource stands that others come after.
enum Standing {
    /// It is as wanted, and runs.
    Runs,
    /// The same, for less than its rollout asks for; how long it has to go on.
    Settles(Duration),
    /// It is on its way there.
    OnItsWay,
    /// It stays as it is until somebody acts; a few words why.
    Stuck(&'static str),
}

/// What a resource that is to be made or changed waits for, and the same as a sentence.
pub(super) fn wait(
    context: &Context<'_>,
    prepared: &AllPrepared<'_>,
    resource: &Prepared<'_>,
    recheck: &mut Recheck,
) -> Option<Held> {
    let described = resource.described?;
    let mut waiting = None;
    for after in &described.handling.after {
        let (why, stuck) = match standing(context, prepared, after) {
            Standing::Runs => continue,
            Standing::Settles(left) => {
                recheck.soon(left);
                ("which has only just begun to", false)
            }
            Standing::OnItsWay => ("which is on its way", false),
            Standing::Stuck(why) => (why, true),
        };
        let held = Held::new(Gate::Order { after: after.clone(), stuck }, message(described, after, why));
        if stuck {
            return Some(held);
        }
        waiting.get_or_insert(held);
    }
    waiting
}

fn message(described: &DesiredResource, after: &ResourceId, why: &str) -> String {
    let verb = if described.services.is_empty() { "is registered" } else { "is made or changed" };
    format!("{verb} only when {after} runs as wanted (`after` in its manifest), {why}")
}

fn standing(context: &Context<'_>, prepared: &AllPrepared<'_>, id: &ResourceId) -> Standing {
    let Some(described) = context.desired.resources.get(id) else {
        return Standing::Stuck("which no manifest describes");
    };
    if context.memory.taken_down.contains_key(id) {
        return Standing::Stuck("which was taken down");
    }
    if context.is_suspended(id) {
        return Standing::Stuck("which is suspended");
    }
    let of = |found: &Prepared<'_>| {
        let waits = changes(found) || !found.draft.steps.is_empty();
        match (found.sync, found.health) {
            (_, Health::Degraded) => Standing::Stuck("which does not run"),
            (_, Health::RolledBack) => Standing::Stuck("whose update was rolled back"),
            (_, Health::Waiting) => Standing::Stuck("which lacks something that it needs"),
            (Sync::Synced, Health::Healthy) if !waits => Standing::Runs,
            (Sync::Synced | Sync::OutOfSync | Sync::Unknown, _) => Standing::OnItsWay,
        }
    };
    let standing = match prepared.get(id) {
        Some(Some(found)) => of(found),
        // At rest: that is why it was not looked at.
        None if context.in_scope(id) => Standing::Runs,
        // The plan is not about it: how it stands counts all the same.
        Some(None) | None => of(&resource::prepare_wanted(context, described, None)),
    };
    // A program that ends again and again runs for a moment each time.
    let soak = waves::scope(context, described).map(|(_, settings)| settings.soak).unwrap_or_default();
    let since = context.memory.steady.get(id).copied().unwrap_or(context.at);
    match standing {
        Standing::Runs if context.at.saturating_sub(since) < soak => Standing::Settles(soak - (context.at - since)),
        Standing::Runs | Standing::Settles(_) | Standing::OnItsWay | Standing::Stuck(_) => standing,
    }
}

/// Since when resources that others come after are in sync and run, as far as that has been seen.
pub(super) fn steady(context: &Context<'_>, prepared: &AllPrepared<'_>) -> BTreeMap<ResourceId, Duration> {
    let known = &context.memory.steady;
    let runs = |id: &ResourceId| match prepared.get(id) {
        Some(Some(found)) => found.sync == Sync::Synced && found.health == Health::Healthy,
        Some(None) => false,
        None => context.memory.planned.contains_key(id),
    };
    let firsts = context.ledger.firsts.keys().filter(|id| runs(id));
    firsts.map(|id| (id.clone(), known.get(id).copied().unwrap_or(context.at))).collect()
}
