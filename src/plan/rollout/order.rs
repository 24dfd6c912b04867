//! What comes after what.

use super::{AllPrepared, changes};
use crate::model::{DesiredResource, Gate, Health, ResourceId, Sync};
use crate::plan::context::Context;
use crate::plan::resource::{self, Prepared};

/// How a resource stands that others come after.
enum Standing {
    /// It is as wanted, and runs.
    Runs,
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
) -> Option<(Gate, String)> {
    let described = resource.described?;
    let mut waiting = None;
    for after in &described.handling.after {
        let (why, stuck) = match standing(context, prepared, after) {
            Standing::Runs => continue,
            Standing::OnItsWay => ("which is on its way", false),
            Standing::Stuck(why) => (why, true),
        };
        let found = (Gate::Order { after: after.clone(), stuck }, message(described, after, why));
        if stuck {
            return Some(found);
        }
        waiting.get_or_insert(found);
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
    match prepared.get(id) {
        Some(Some(found)) => of(found),
        // At rest: that is why it was not looked at.
        None if context.in_scope(id) => Standing::Runs,
        // The plan is not about it: how it stands counts all the same.
        Some(None) | None => of(&resource::prepare_wanted(context, described, None)),
    }
}
