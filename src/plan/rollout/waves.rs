//! How many at a time, who goes first, and what stops the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::{AllPrepared, Held, Rollouts, is_change, steps, watch};
use crate::model::{
    DesiredResource, Gate, Going, Note, PlannedStep, Reason, ResourceId, RolloutFailure, RolloutPolicy, RolloutScope,
    RolloutSettings, RolloutStatus, ServiceStep, Share, Step,
};
use crate::plan::context::{Context, Recheck};
use crate::plan::health::Ran;
use crate::plan::resource::Prepared;

/// The changes of one scope.
struct Wave<'a> {
    settings: &'a RolloutSettings,
    /// Resources that run and are to be changed.
    pending: BTreeMap<&'a ResourceId, &'a DesiredResource>,
    /// Resources that take a place, and those that failed.
    going: BTreeSet<ResourceId>,
    failed: BTreeMap<ResourceId, String>,
    /// How many resources it changes, those that are proven included.
    members: BTreeSet<ResourceId>,
}

/// Decides which of the changes whose turn has come go out.
pub(super) fn decide<'a>(
    context: &Context<'a>,
    prepared: &AllPrepared<'a>,
    changing: &BTreeMap<&'a ResourceId, &Prepared<'a>>,
    rollouts: &mut Rollouts<'a>,
    recheck: &mut Recheck,
) {
    let mut going = watch::all(context, prepared, recheck);
    let mut waves: BTreeMap<RolloutScope, Wave<'a>> = BTreeMap::new();
    for (id, resource) in changing {
        let Some(described) = resource.described else { continue };
        let Some((scope, settings)) = scope(context, described) else { continue };
        if steps(resource).any(is_change) && (resource.ran == Ran::Runs || going.contains_key(*id)) {
            wave(&mut waves, scope, settings).pending.insert(id, described);
        }
    }
    // A repair of what runs is not held, and watched like a change.
    for (id, resource) in prepared {
        let Some((resource, described)) = resource.as_ref().and_then(|it| Some((it, it.described?))) else { continue };
        if resource.ran == Ran::Runs
            && !going.contains_key(*id)
            && !changing.contains_key(id)
            && !context.is_suspended(id)
            && resource.draft.steps.iter().any(is_repair)
            && scope(context, described).is_some()
        {
            going.insert((*id).clone(), Going::new(watch::wish(context, described)));
        }
    }
    for (id, known) in &going {
        let described = context.desired.resources.get(id);
        let Some((scope, settings)) = described.and_then(|described| scope(context, described)) else { continue };
        let wave = wave(&mut waves, scope, settings);
        wave.members.insert(id.clone());
        if let Some(message) = &known.failed {
            wave.failed.insert(id.clone(), message.clone());
        }
        if !known.proven {
            wave.going.insert(id.clone());
        }
    }
    for (scope, wave) in waves {
        let is_over = wave.pending.is_empty() && wave.going.is_empty();
        if is_over {
            going.retain(|id, _| !wave.members.contains(id));
            continue;
        }
        wave.decide(context, scope, &mut going, rollouts);
    }
    rollouts.state.going = going;
}

fn wave<'m, 'a>(
    waves: &'m mut BTreeMap<RolloutScope, Wave<'a>>,
    scope: RolloutScope,
    settings: &'a RolloutSettings,
) -> &'m mut Wave<'a> {
    waves.entry(scope).or_insert_with(|| Wave {
        settings,
        pending: BTreeMap::new(),
        going: BTreeSet::new(),
        failed: BTreeMap::new(),
        members: BTreeSet::new(),
    })
}

/// Whose limit a resource counts towards; none when its changes go out at once.
pub(super) fn scope<'a>(
    context: &Context<'a>,
    described: &'a DesiredResource,
) -> Option<(RolloutScope, &'a RolloutSettings)> {
    let own = described.handling.rollout.as_deref();
    match own.unwrap_or(&context.policy.rollout) {
        RolloutPolicy::Off => None,
        RolloutPolicy::Batches(settings) => Some((RolloutScope::of(&described.origin, own.is_some()), settings)),
    }
}

impl<'a> Wave<'a> {
    fn decide(
        mut self,
        context: &Context<'a>,
        scope: RolloutScope,
        going: &mut BTreeMap<ResourceId, Going>,
        rollouts: &mut Rollouts<'a>,
    ) {
        self.members.extend(self.pending.keys().map(|id| (*id).clone()));
        let known = context.memory.rollout_sizes.get(&scope).copied().unwrap_or(0);
        let size = self.members.len().max(known);
        let places = self.settings.places(size);
        let aborted = context.memory.aborted.as_ref() == Some(&context.desired.revision);
        // Where nobody waits nothing is lost with the operator.
        let counts = self.members.len() > places;
        // A change of what broke goes out at once: it has its place already.
        let culprit = self.failed.keys().next().cloned();
        let is_open = |id: &&ResourceId| self.pending.contains_key(*id) || self.going.contains(*id);
        let canary = self.settings.canary.iter().find(is_open).cloned();
        let mut waiting = Vec::new();
        let mut free = places.saturating_sub(self.going.len());
        let message = |gate: &Gate| {
            let limit = limit(self.settings, size, places);
            match gate {
                Gate::Halted(Some(culprit)) => {
                    let why = self.failed.get(culprit).map(String::as_str).unwrap_or_default();
                    format!(
                        "keeps its old version: {culprit} broke when it was changed ({why}), which halts the rollout \
                         ({scope}); a change of its manifest, or `ofop rollout resume`, goes on"
                    )
                }
                Gate::Halted(None) => format!(
                    "keeps its old version: the rollout of revision {} was aborted; the next revision, or `ofop rollout \
                     resume`, goes on",
                    context.desired.revision.short()
                ),
                Gate::Canary(canary) => {
                    format!("goes out once {canary}, a canary of the rollout ({scope}), has proven it")
                }
                Gate::Noted => "goes out once that is noted".to_owned(),
                Gate::Place | Gate::Order { .. } | Gate::ReverseOrder(_) | Gate::Window { .. } => {
                    format!("goes out in a later batch: {limit} of the rollout ({scope})")
                }
            }
        };
        for (id, described) in &self.pending {
            let wish = watch::wish(context, described);
            let takes_part = self.going.contains(*id);
            let gate = if aborted {
                Some(Gate::Halted(None))
            } else if takes_part {
                None
            } else if culprit.is_some() {
                Some(Gate::Halted(culprit.clone()))
            } else if let Some(canary) = canary.as_ref().filter(|_| !self.settings.canary.contains(*id)) {
                Some(Gate::Canary(canary.clone()))
            } else if free == 0 {
                Some(Gate::Place)
            } else {
                free -= 1;
                None
            };
            if let Some(gate) = gate {
                let message = message(&gate);
                rollouts.gates.insert(id, Held::new(gate, message));
                waiting.push((*id).clone());
                continue;
            }
            let known = going.entry((*id).clone()).or_insert_with(|| Going::new(wish.clone()));
            if known.wish != wish {
                *known = Going { counts: known.counts, ..Going::new(wish) };
            }
            known.counts |= counts;
            if known.counts && !is_noted(context, id, known) {
                let message = message(&Gate::Noted);
                rollouts.gates.insert(id, Held::new(Gate::Noted, message));
            }
        }
        if counts {
            for id in &self.going {
                going.entry(id.clone()).and_modify(|known| known.counts = true);
            }
        }
        let on_their_way = going.iter().filter(|(id, known)| {
            !known.proven && known.failed.is_none() && self.members.contains(*id) && !waiting.contains(id)
        });
        let on_their_way = on_their_way.map(|(id, _)| id.clone()).collect();
        rollouts.culprits.extend(self.failed.keys().map(|id| (id.clone(), scope.to_string())));
        rollouts.state.sizes.insert(scope.clone(), size);
        let failed = self.failed.into_iter().map(|(resource, message)| RolloutFailure { resource, message }).collect();
        rollouts.state.scopes.push(RolloutStatus { scope, size, places, on_their_way, waiting, failed, aborted });
    }
}

/// How many at a time, in words.
fn limit(settings: &RolloutSettings, size: usize, places: usize) -> String {
    let share = match settings.max_unhealthy {
        Share::Percent(percent) => format!("{percent} % of {size}"),
        Share::Count(count) => format!("at most {count}"),
    };
    format!("{places} at a time ({share})")
}

/// Whether a resource may go out as far as notes are concerned: whoever takes over finds it in them.
fn is_noted(context: &Context<'_>, id: &ResourceId, going: &Going) -> bool {
    let notebook = &context.memory.notebook;
    context.policy.run.is_none()
        || notebook.is_unsupported()
        || notebook.keeps(&Note::Going(id.clone()), &going.to_string())
}

/// Whether a step puts back what somebody changed.
fn is_repair(step: &PlannedStep) -> bool {
    step.reason == Reason::Modified && matches!(step.step, Step::Service(ServiceStep::Update { .. }))
}
