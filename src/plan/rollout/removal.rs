//! What goes, goes in reverse: what comes after something before that.

use super::steps;
use crate::model::{Gate, Reason, ResourceId, ServiceStep, Step};
use crate::plan::context::Context;
use crate::plan::join::AllOrphans;
use crate::plan::resource::Prepared;

/// Which resource is to be gone before this one goes: one that nothing describes either, and whose mark says that it comes
/// after this one. A round, which no valid manifests make, does not hold anything.
pub(super) fn wait(
    context: &Context<'_>,
    id: &ResourceId,
    found: &Prepared<'_>,
    orphans: &AllOrphans<'_>,
) -> Option<(Gate, String)> {
    let goes = |step: &crate::model::PlannedStep| {
        step.reason == Reason::Orphaned && matches!(step.step, Step::Service(ServiceStep::Remove { .. }))
    };
    if found.described.is_some() || !steps(found).any(goes) {
        return None;
    }
    let comes_after = |other: &ResourceId, first: &ResourceId| {
        let services = orphans.get(other).into_iter().flat_map(|orphans| &orphans.services);
        let mut marks = services.filter_map(|service| service.mark.as_ref());
        marks.any(|mark| mark.terms.after.contains(first))
    };
    let goes_too = |other: &&ResourceId| !context.desired.resources.contains_key(*other) && **other != *id;
    let dependant =
        orphans.keys().copied().filter(goes_too).find(|other| comes_after(other, id) && !comes_after(id, other))?;
    let message = format!("goes once {dependant} is gone, which comes after it");
    Some((Gate::ReverseOrder(dependant.clone()), message))
}
