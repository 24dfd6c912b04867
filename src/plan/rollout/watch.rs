//! What became of the resources that went out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AllPrepared, is_change, steps, waves};
use crate::model::{ConditionKind, DesiredResource, Going, Health, Note, Plan, ResourceId, SpecHash, Sync};
use crate::plan::Memory;
use crate::plan::context::{Context, Recheck};
use crate::plan::resource::Prepared;
use crate::plan::verdict;

/// How long a resource that broke must run by itself before it counts as proven: longer than the pauses between restarts
/// of a program that ends again and again.
const RECOVERED: Duration = Duration::from_secs(60);

/// How long a task that failed before a change was seen in force may have been one of the version before: longer than a node
/// needs to tell of a new one. What does not run by then is broken by the change.
const BENEFIT: Duration = Duration::from_secs(15);

/// Most characters that are kept of what is wrong with a resource.
const WORDS: usize = 200;

/// What is wanted of the services of a resource: another wish is another try.
pub(super) fn wish(context: &Context<'_>, described: &DesiredResource) -> SpecHash {
    let digest = |image: &str| context.platform.and_then(|platform| platform.digests.get(image));
    let of_service = described.services.iter().map(|service| {
        let pinned = Some(&service.spec.image).filter(|_| service.follow_digest).and_then(|image| digest(image));
        match pinned {
            Some(digest) => format!("{}@{digest}", service.hash.0),
            None => service.hash.0.clone(),
        }
    });
    SpecHash(of_service.collect::<Vec<_>>().join("+"))
}

/// Everything that went out, as it stands now. What is gone, left alone, or out of all rollouts is left out.
pub(super) fn all<'a>(
    context: &Context<'a>,
    prepared: &AllPrepared<'a>,
    recheck: &mut Recheck,
) -> BTreeMap<ResourceId, Going> {
    let mut all = BTreeMap::new();
    for (id, known) in &context.memory.going {
        let Some(described) = context.desired.resources.get(id) else { continue };
        let Some((_, settings)) = waves::scope(context, described) else { continue };
        if context.is_to_go(id) || context.is_suspended(id) && known.failed.is_none() {
            continue;
        }
        let Some(found) = prepared.get(id).and_then(Option::as_ref) else {
            // Not looked at: it is at rest, or the plan is not about it.
            all.insert(id.clone(), known.clone());
            continue;
        };
        let changes = steps(found).any(is_change);
        if known.proven && changes && known.wish != wish(context, described) {
            // It is done with what it went out for, and queues anew.
            continue;
        }
        let now = now(context, described, found, changes, known, settings.soak);
        if let Some(since) = now.runs_since.filter(|_| !now.proven) {
            recheck.soon(needs(&now, settings.soak).saturating_sub(context.at.saturating_sub(since)));
        }
        if let Some(since) = now.in_force_since.filter(|_| now.failed.is_none() && now.runs_since.is_none()) {
            let left = BENEFIT.saturating_sub(context.at.saturating_sub(since));
            if !left.is_zero() {
                recheck.soon(left);
            }
        }
        all.insert(id.clone(), now);
    }
    all
}

fn now(
    context: &Context<'_>,
    described: &DesiredResource,
    found: &Prepared<'_>,
    changes: bool,
    known: &Going,
    soak: Duration,
) -> Going {
    let wish = wish(context, described);
    let known = match known.wish == wish {
        true => known,
        // Something else is wanted by now: that has yet to go out, in the same place.
        false if changes => return Going { failed: None, runs_since: None, proven: false, ..known.clone() },
        // And it is in force already.
        false => &Going { counts: known.counts, ..Going::new(wish) },
    };
    // Until the change is in force, and as long as it takes to see that, tasks of the version before may fail.
    let known = match changes {
        true => &Going { in_force_since: None, ..known.clone() },
        false if known.in_force_since.is_some() => known,
        false => {
            &Going { in_force_since: Some(context.at), failed_before: found.newest_failure.clone(), ..known.clone() }
        }
    };
    let broke = match found.health {
        Health::RolledBack => true,
        Health::Degraded => !changes && fails_anew(context, found, known),
        Health::Healthy | Health::Progressing | Health::Waiting | Health::Suspended | Health::Unknown => false,
    };
    if broke {
        let failed = known.failed.clone().or_else(|| Some(what_is_wrong(found)));
        return Going { failed, runs_since: None, proven: false, ..known.clone() };
    }
    if found.health == Health::Unknown || found.sync == Sync::Unknown {
        // Nothing is known of it just now.
        return Going { runs_since: None, ..known.clone() };
    }
    let runs = found.sync == Sync::Synced && found.health == Health::Healthy;
    if !runs {
        return Going { runs_since: None, proven: false, ..known.clone() };
    }
    let since = known.runs_since.unwrap_or(context.at);
    let proven = known.proven || context.at.saturating_sub(since) >= needs(known, soak);
    let failed = known.failed.clone().filter(|_| !proven);
    Going { failed, runs_since: Some(since), proven, counts: known.counts && !proven, ..known.clone() }
}

/// How long a resource must run without a break before it is proven.
fn needs(known: &Going, soak: Duration) -> Duration {
    if known.failed.is_some() { soak.max(RECOVERED) } else { soak }
}

/// Whether what does not run has failed since it was changed: the engine goes on showing tasks of the version before.
fn fails_anew(context: &Context<'_>, found: &Prepared<'_>, known: &Going) -> bool {
    let in_force = known.in_force_since.map_or(Duration::ZERO, |since| context.at.saturating_sub(since));
    if in_force >= BENEFIT {
        return true;
    }
    let of_no_task = [verdict::UPDATE_PAUSED, verdict::DEADLINE_EXCEEDED];
    match (&found.newest_failure, &known.failed_before) {
        (Some(newest), Some(before)) if newest <= before => {
            found.draft.notes.iter().any(|note| of_no_task.contains(&note.reason))
        }
        (_, _) => true,
    }
}

/// A few words on one line.
fn what_is_wrong(found: &Prepared<'_>) -> String {
    let told = |kind: ConditionKind| found.draft.notes.iter().find(|note| note.kind == kind);
    let message = told(ConditionKind::RolledBack).or_else(|| told(ConditionKind::Degraded));
    let message = message.map_or("it does not run", |note| note.message.as_str());
    message.chars().map(|character| if character.is_control() { ' ' } else { character }).take(WORDS).collect()
}

impl Memory {
    /// What is remembered of rollouts.
    pub(in crate::plan) fn learn_rollouts(&mut self, plan: &Plan) {
        self.rollout_sizes.clone_from(&plan.rollouts.sizes);
        self.steady.clone_from(&plan.rollouts.steady);
        self.planned_for.clone_from(&plan.revision);
        let before = std::mem::replace(&mut self.going, plan.rollouts.going.clone());
        let text = |known: Option<&Going>| known.filter(|known| known.counts).map(ToString::to_string);
        for id in before.keys().chain(self.going.keys()) {
            let (then, now) = (text(before.get(id)), text(self.going.get(id)));
            if then != now {
                self.notebook.set(&Note::Going(id.clone()), now);
            }
        }
        let is_done = |id: &ResourceId| plan.resources.get(id).is_none_or(|resource| resource.sync == Sync::Synced);
        let done: Vec<ResourceId> = self.started.iter().filter(|id| !plan.scoped && is_done(id)).cloned().collect();
        for id in done {
            self.started.remove(&id);
            self.notebook.set(&Note::Started(id), None);
        }
        if self.aborted.as_ref().is_some_and(|aborted| *aborted != plan.revision) {
            self.aborted = None;
            self.notebook.set(&Note::RolloutAborted, None);
        }
    }

    /// A person goes on without what broke, and with what was given up.
    pub(in crate::plan) fn resume_rollouts(&mut self) {
        let failed = self.going.iter().filter(|(_, known)| known.failed.is_some()).map(|(id, _)| id.clone());
        for id in failed.collect::<Vec<_>>() {
            self.going.remove(&id);
            self.notebook.set(&Note::Going(id), None);
        }
        self.aborted = None;
        self.notebook.set(&Note::RolloutAborted, None);
    }

    /// A person gives up what is left of the revision that was planned for last.
    pub(in crate::plan) fn abort_rollouts(&mut self) {
        self.notebook.set(&Note::RolloutAborted, Some(self.planned_for.0.clone()));
        self.aborted = Some(self.planned_for.clone());
    }

    /// A person wants the update of this resource tried again: it has not failed yet.
    pub(in crate::plan) fn give_another_try(&mut self, id: &ResourceId) {
        if let Some(known) = self.going.get_mut(id).filter(|known| known.failed.is_some()) {
            known.failed = None;
            if known.counts {
                self.notebook.set(&Note::Going(id.clone()), Some(known.to_string()));
            }
        }
    }

    /// What is noted of rollouts, beside what is known of the same resources and not noted.
    pub(in crate::plan) fn recollect_rollouts(&mut self, mut noted: BTreeMap<ResourceId, Going>) {
        let known = std::mem::take(&mut self.going);
        for (id, known) in known {
            match noted.get_mut(&id) {
                Some(noted) if noted.wish == known.wish && noted.failed == known.failed => *noted = known,
                Some(_) => {}
                None if !known.counts => _ = noted.insert(id, known),
                None => {}
            }
        }
        self.going = noted;
    }
}
