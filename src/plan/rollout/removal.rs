//! What goes, goes in reverse: what comes after something before that.

use std::collections::{BTreeMap, BTreeSet};

use super::{Held, steps};
use crate::model::{Gate, PlannedStep, Reason, ResourceId, ServiceStep, Step};
use crate::plan::context::Context;
use crate::plan::join::AllOrphans;
use crate::plan::resource::Prepared;

/// Resources that nothing describes any more, by those that their marks say they come after.
pub(super) type Dependants<'a> = BTreeMap<&'a ResourceId, BTreeSet<&'a ResourceId>>;

/// Looks through what goes once.
pub(super) fn dependants<'a>(context: &Context<'_>, orphans: &AllOrphans<'a>) -> Dependants<'a> {
    let mut dependants = Dependants::new();
    for (id, orphans) in orphans.iter().filter(|(id, _)| !context.desired.resources.contains_key(**id)) {
        let marks = orphans.services.iter().filter_map(|service| service.mark.as_ref());
        for first in marks.flat_map(|mark| &mark.terms.after) {
            dependants.entry(first).or_default().insert(id);
        }
    }
    dependants
}

/// What is to be gone before this resource goes: one that comes after it. A round, which no valid manifests make, does not
/// hold anything.
pub(super) fn wait(id: &ResourceId, found: &Prepared<'_>, dependants: &Dependants<'_>) -> Option<Held> {
    let goes = |step: &PlannedStep| {
        step.reason == Reason::Orphaned && matches!(step.step, Step::Service(ServiceStep::Remove { .. }))
    };
    if found.described.is_some() || !steps(found).any(goes) {
        return None;
    }
    let comes_after = |other: &ResourceId| dependants.get(other).is_some_and(|after| after.contains(id));
    let dependant = dependants.get(id)?.iter().find(|other| ***other != *id && !comes_after(other))?;
    let message = format!("goes once {dependant} is gone, which comes after it");
    Some(Held::new(Gate::ReverseOrder((*dependant).clone()), message))
}
