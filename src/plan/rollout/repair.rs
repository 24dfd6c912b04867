//! What is put back although the newest version of its manifest waits.

use super::is_change;
use crate::model::{Drift, Gate, PlannedStep, Reason, ResourceId};
use crate::plan::context::Context;
use crate::plan::resource::{self, Prepared};

/// What somebody changed of a resource whose change waits, as it was last seen in sync.
#[derive(Default)]
pub(super) struct Repair {
    pub(super) steps: Vec<PlannedStep>,
    pub(super) drift: Vec<Drift>,
}

/// The repairs of a resource that is held. Nothing where it is not known what it was: after a restart, the mark on a
/// service tells that it is an older version, and not which.
pub(super) fn of(context: &Context<'_>, id: &ResourceId, found: &Prepared<'_>, gate: &Gate) -> Repair {
    // What is about to go out is put right by that.
    let goes_on = matches!(gate, Gate::Noted);
    let Some(before) = context.memory.synced.get(id).filter(|_| !goes_on) else { return Repair::default() };
    let is_in_force = before.services.iter().all(|service| {
        let found = context.platform.and_then(|platform| platform.services.get(&service.spec.name));
        found.is_none_or(|found| found.mark.as_ref().is_some_and(|mark| mark.spec == service.hash))
    });
    if !is_in_force {
        return Repair::default();
    }
    let draft = resource::prepare_wanted(context, before, None).draft;
    let is_lost = |step: &PlannedStep| step.reason == Reason::Missing;
    // In order, what is lost comes after what it needs, as ever.
    let waits = |step: &PlannedStep| matches!(gate, Gate::Order { .. }) && is_lost(step);
    let is_repair = |step: &PlannedStep| match step.reason {
        Reason::Missing | Reason::Modified | Reason::Unregistered | Reason::StaleRecord | Reason::Expiring => true,
        Reason::New
        | Reason::ManifestChanged
        | Reason::Adopt
        | Reason::ImageMoved
        | Reason::Orphaned
        | Reason::Requested => false,
    };
    // What the newest version says of the same object goes before, unless that waits.
    let goes = |other: &&PlannedStep| !is_change(other);
    let is_planned = |step: &PlannedStep| {
        found.draft.steps.iter().filter(goes).any(|other| other.step.object() == step.step.object())
    };
    let steps = draft.steps.into_iter().take_while(|step| !waits(step));
    let steps = steps.filter(|step| is_repair(step) && !is_planned(step)).collect();
    let drift = draft.drift.into_iter().filter(|drift| !found.draft.drift.contains(drift)).collect();
    Repair { steps, drift }
}
