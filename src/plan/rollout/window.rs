//! Changes go out when their windows are open, and not while a person has them frozen.

use std::time::Duration;

use jiff::Timestamp;

use super::{Held, is_change, steps};
use crate::model::windows::{Repairs, WindowState};
use crate::model::{Gate, Reason, ResourceId, Windows};
use crate::plan::context::{Context, Recheck};
use crate::plan::join::Orphans;
use crate::plan::resource::Prepared;

/// The longest time after which a closed window is looked at again: the clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What a resource with changes, or repairs that wait as well, waits for; none when its windows are open.
pub(super) fn wait(
    context: &Context<'_>,
    id: &ResourceId,
    found: &Prepared<'_>,
    orphans: Option<&Orphans<'_>>,
    recheck: &mut Recheck,
) -> Option<Held> {
    let windows = windows(context, found, orphans);
    let freeze = context.memory.freeze.as_ref();
    if freeze.is_none() && windows.is_always_open() || context.memory.started.contains(id) {
        return None;
    }
    // What is on its way out ends, so that nothing stays that says of itself that it runs.
    let is_half_gone = found.described.is_none() && orphans.is_some_and(|orphans| orphans.services.is_empty());
    let waits = steps(found).any(|step| match windows.repairs() {
        Repairs::Always => is_change(step),
        Repairs::Window => step.reason != Reason::Requested,
    });
    if is_half_gone || !waits {
        return None;
    }
    if let Some(hold) = freeze.filter(|_| steps(found).any(is_change)) {
        // Its end is a time of the plan's own.
        let message = format!("changes from manifests are frozen {}", hold.words("`ofop freeze --end`"));
        return Some(held(hold.term.until, message, &windows));
    }
    let WindowState::Closed { opens } = windows.state(context.wall) else { return None };
    let left = opens.and_then(|opens| Duration::try_from(opens.duration_since(context.wall)).ok());
    let left = left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
    recheck.soon(left);
    let message = match opens {
        Some(opens) => format!("waits for its window, which opens at {opens} ({windows})"),
        None => format!("waits for its window, which does not open within a year ({windows})"),
    };
    Some(held(opens, message, &windows))
}

fn held(opens: Option<Timestamp>, message: String, windows: &Windows) -> Held {
    Held { repairs_wait: windows.repairs() == Repairs::Window, ..Held::new(Gate::Window { opens }, message) }
}

/// The windows of a resource: those of its manifest, and of one that has none any more those that its mark remembers.
fn windows(context: &Context<'_>, found: &Prepared<'_>, orphans: Option<&Orphans<'_>>) -> Windows {
    if let Some(described) = found.described {
        return context.policy.windows_of(&described.handling);
    }
    let marks = orphans.into_iter().flat_map(|orphans| &orphans.services).filter_map(|service| service.mark.as_ref());
    let own = marks.map(|mark| &mark.terms.windows).find(|windows| !windows.is_default());
    own.map_or_else(|| context.policy.windows.clone(), |own| own.over(&context.policy.windows))
}
