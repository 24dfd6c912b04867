//! What of a pass belongs into the history: a pure function of what passes see.
//!
//! A revision is open from when it is first seen until another one is. What it touches is what plans made at it want
//! done for the manifests' sake: repairs of what somebody changed by hand, and what a person asked for,
//! belong to no revision. It is settled once each of these resources has been; a resource counts from the first plan
//! that wants something done to it until its first verdict of settled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::source::CommitStatus;
use super::entry::{Obstacle, ResourceChange, ResourceEntry, ResourceResult, RevisionEntry, RevisionResult, StepEntry};
use crate::clock::{parse_rfc3339, rfc3339};
use crate::model::shared::parts;
use crate::model::{
    BlockKind, Desired, Plan, PlannedStep, Progress, Reason, ResourceId, ResourcePlan, SourcePlace, StepVerb, Verdict,
};

/// How many steps are kept of one resource.
const MAX_STEPS: usize = 50;

/// What a pass saw.
pub(in crate::report) struct Sighting<'a> {
    /// Wall time, since 1970-01-01 UTC.
    pub(in crate::report) wall: Duration,
    /// Monotonic time.
    pub(in crate::report) at: Duration,
    /// What was wanted at the pass before; none at the first one.
    pub(in crate::report) before: Option<&'a Desired>,
    /// What is wanted.
    pub(in crate::report) desired: &'a Desired,
    /// Where the manifests come from.
    pub(in crate::report) place: &'a SourcePlace,
    /// What was decided; none when nothing could be observed.
    pub(in crate::report) plan: Option<&'a Plan>,
    /// Both sides were read completely.
    pub(in crate::report) complete: bool,
    /// This operator carries out what it plans. Another one may have done so before this one looked.
    pub(in crate::report) acts: bool,
}

/// What is to be written. A revision's key is its number in this process, 0 for one that an earlier run began.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::report) struct News {
    pub(super) revisions: Vec<(u64, RevisionEntry)>,
    pub(super) resources: Vec<(u64, ResourceEntry)>,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        self.revisions.is_empty() && self.resources.is_empty()
    }
}

/// Follows the revision in force.
#[derive(Debug, Default)]
pub(in crate::report) struct Recorder {
    open: Option<Open>,
    keys: u64,
}

/// The newest revision.
#[derive(Debug)]
struct Open {
    key: u64,
    /// Without its resources.
    entry: RevisionEntry,
    resources: BTreeMap<ResourceId, Touched>,
    /// Those that are neither settled nor failed, and those that failed.
    waiting: BTreeSet<ResourceId>,
    failed: BTreeSet<ResourceId>,
    /// What this revision describes otherwise than the one before, as far as that is known.
    edited: BTreeMap<ResourceId, ResourceChange>,
    /// How old it was at this monotonic time; none until the first pass of this process.
    age: Option<(Duration, Duration)>,
}

#[derive(Debug)]
struct Touched {
    own: ResourceEntry,
    /// How old the revision was then.
    begun: Duration,
}

impl Recorder {
    /// Goes on with the newest revision of an earlier run, its resources included.
    pub(in crate::report) fn restored(newest: Option<RevisionEntry>) -> Self {
        Recorder { open: newest.filter(|entry| entry.replaced_by.is_none()).map(Open::restored), keys: 0 }
    }

    /// The newest revision, without its resources.
    pub(in crate::report) fn newest(&self) -> Option<&RevisionEntry> {
        self.open.as_ref().map(|open| &open.entry)
    }

    /// Takes in a pass. `verdict` is the verdict on a resource, with what is known of steps that failed.
    pub(in crate::report) fn pass(
        &mut self,
        seen: &Sighting<'_>,
        verdict: impl Fn(&ResourceId, &ResourcePlan) -> Verdict,
    ) -> News {
        let mut news = News::default();
        if seen.desired.revision.0.is_empty() {
            // Nothing has been read yet.
            return news;
        }
        let is_new = self.open.as_ref().is_none_or(|open| open.entry.revision != seen.desired.revision);
        if is_new {
            if let Some(open) = self.open.take() {
                open.close(seen, &mut news);
            }
            self.keys += 1;
            self.open = Some(Open::new(self.keys, seen));
        }
        let Some(open) = &mut self.open else { return news };
        let before = open.entry.clone();
        open.grow_older(seen);
        if let Some(plan) = seen.plan {
            for (id, planned) in plan.examined.of(&plan.resources) {
                open.look(seen, id, planned.map(|planned| &**planned), &verdict, &mut news);
            }
        }
        open.conclude(seen);
        if is_new || open.entry != before {
            news.revisions.push((open.key, open.entry.clone()));
        }
        news
    }
}

impl Open {
    fn new(key: u64, seen: &Sighting<'_>) -> Self {
        let desired = seen.desired;
        let edited = seen.before.filter(|before| !before.revision.0.is_empty()).map(|before| edited(before, desired));
        Open {
            key,
            entry: RevisionEntry {
                number: 0,
                revision: desired.revision.clone(),
                source: seen.place.kind,
                location: seen.place.location.to_string(),
                commit: desired.commit.as_ref().map(CommitStatus::of),
                files: desired.files,
                errors: desired.errors(),
                first_seen: rfc3339(UNIX_EPOCH + seen.wall),
                settled: None,
                milliseconds: None,
                result: RevisionResult::OnItsWay,
                replaced_by: None,
                obstacle: None,
                created: 0,
                changed: 0,
                removed: 0,
                unsettled: 0,
                resources: Vec::new(),
            },
            resources: BTreeMap::new(),
            waiting: BTreeSet::new(),
            failed: BTreeSet::new(),
            edited: edited.unwrap_or_default(),
            age: Some((Duration::ZERO, seen.at)),
        }
    }

    fn restored(mut entry: RevisionEntry) -> Self {
        let began = since_epoch(&entry.first_seen);
        let resources: BTreeMap<ResourceId, Touched> = std::mem::take(&mut entry.resources)
            .into_iter()
            .map(|own| {
                let begun = since_epoch(&own.since).saturating_sub(began);
                (own.resource.clone(), Touched { own, begun })
            })
            .collect();
        let with = |result| {
            let of_it = resources.iter().filter(move |(_, touched)| touched.own.result == result);
            of_it.map(|(id, _)| id.clone()).collect::<BTreeSet<_>>()
        };
        let (waiting, failed) = (with(ResourceResult::OnItsWay), with(ResourceResult::Failed));
        Open { key: 0, entry, resources, waiting, failed, edited: BTreeMap::new(), age: None }
    }

    /// Time that passed while nobody ran counts by the wall clock, all other time by the monotonic one.
    fn grow_older(&mut self, seen: &Sighting<'_>) {
        if self.age.is_none() {
            self.age = Some((seen.wall.saturating_sub(since_epoch(&self.entry.first_seen)), seen.at));
        }
    }

    fn age(&self, seen: &Sighting<'_>) -> Duration {
        self.age.map_or(Duration::ZERO, |(age, at)| age + seen.at.saturating_sub(at))
    }

    /// Takes in what a plan says of one resource, which is gone where it says nothing.
    fn look(
        &mut self,
        seen: &Sighting<'_>,
        id: &ResourceId,
        planned: Option<&ResourcePlan>,
        verdict: &impl Fn(&ResourceId, &ResourcePlan) -> Verdict,
        news: &mut News,
    ) {
        let known = self.resources.get(id);
        if known.is_some_and(|touched| touched.own.settled.is_some()) {
            return;
        }
        let is_known = known.is_some();
        let Some(planned) = planned else {
            if !is_known && !seen.acts && self.edited.get(id) == Some(&ResourceChange::Removed) {
                self.touch(seen, id, ResourceChange::Removed, None);
            }
            self.become_settled(seen, id, news);
            return;
        };
        if !is_known {
            let Some(change) = self.change_of(seen, id, planned) else { return };
            self.touch(seen, id, change, Some(planned));
        }
        let (result, obstacle) = match verdict(id, planned) {
            Verdict::Settled => {
                self.become_settled(seen, id, news);
                return;
            }
            Verdict::InProgress { why, message } => (ResourceResult::OnItsWay, (word(why), message)),
            Verdict::Blocked(block) if waits(block.kind) => {
                (ResourceResult::OnItsWay, (block.kind.as_str(), block.message))
            }
            Verdict::Blocked(block) => (ResourceResult::Failed, (block.kind.as_str(), block.message)),
        };
        let Some(Touched { own, .. }) = self.resources.get_mut(id) else { return };
        let obstacle = Obstacle { resource: id.clone(), reason: obstacle.0.to_owned(), message: obstacle.1 };
        let added = add_steps(&mut own.steps, all_steps(planned));
        if !is_known || added || own.result != result || own.obstacle.as_ref() != Some(&obstacle) {
            own.result = result;
            own.obstacle = Some(obstacle);
            news.resources.push((self.key, own.clone()));
        }
        let (there, elsewhere) = if result == ResourceResult::Failed {
            (&mut self.failed, &mut self.waiting)
        } else {
            (&mut self.waiting, &mut self.failed)
        };
        if elsewhere.remove(id) {
            there.insert(id.clone());
        }
    }

    /// What this revision does to a resource that it did not touch so far; none when that is nothing.
    fn change_of(&self, seen: &Sighting<'_>, id: &ResourceId, planned: &ResourcePlan) -> Option<ResourceChange> {
        if planned.verdict.block().is_some_and(|block| is_left_alone(block.kind)) {
            return None;
        }
        let edited = self.edited.get(id).copied();
        let steps: Vec<&PlannedStep> = all_steps(planned).collect();
        let meant = steps.iter().any(|step| is_for_manifests(step.reason));
        let meant = meant || edited.is_some() && steps.iter().any(|step| step.reason != Reason::Requested);
        if !meant {
            return edited.filter(|_| !seen.acts);
        }
        let replaces = |step: &&PlannedStep| matches!(step.step.verb(), StepVerb::Update | StepVerb::Remove);
        Some(if planned.origin.is_none() {
            ResourceChange::Removed
        } else if steps.iter().any(|step| step.reason == Reason::New) && !steps.iter().any(replaces) {
            ResourceChange::Created
        } else {
            ResourceChange::Changed
        })
    }

    fn touch(&mut self, seen: &Sighting<'_>, id: &ResourceId, change: ResourceChange, planned: Option<&ResourcePlan>) {
        let begun = self.age(seen);
        let own = ResourceEntry {
            resource: id.clone(),
            change,
            origin: planned.and_then(|planned| planned.origin.clone()),
            since: rfc3339(UNIX_EPOCH + seen.wall),
            settled: None,
            milliseconds: None,
            result: ResourceResult::OnItsWay,
            obstacle: None,
            steps: Vec::new(),
        };
        *match change {
            ResourceChange::Created => &mut self.entry.created,
            ResourceChange::Changed => &mut self.entry.changed,
            ResourceChange::Removed => &mut self.entry.removed,
        } += 1;
        self.waiting.insert(id.clone());
        self.resources.insert(id.clone(), Touched { own, begun });
    }

    fn become_settled(&mut self, seen: &Sighting<'_>, id: &ResourceId, news: &mut News) {
        let age = self.age(seen);
        let Some(Touched { own, begun }) = self.resources.get_mut(id) else { return };
        own.settled = Some(rfc3339(UNIX_EPOCH + seen.wall));
        own.milliseconds = Some(milliseconds(age.saturating_sub(*begun)));
        own.result = ResourceResult::Settled;
        own.obstacle = None;
        self.waiting.remove(id);
        self.failed.remove(id);
        news.resources.push((self.key, own.clone()));
    }

    /// What the states of its resources come to.
    fn conclude(&mut self, seen: &Sighting<'_>) {
        let age = self.age(seen);
        let entry = &mut self.entry;
        entry.unsettled = self.waiting.len() + self.failed.len();
        let first = self.failed.first().or_else(|| self.waiting.first());
        let first = first.and_then(|id| self.resources.get(id));
        entry.obstacle = first.and_then(|touched| touched.own.obstacle.clone());
        let looked = seen.plan.is_some() && seen.complete;
        if entry.unsettled == 0 && entry.settled.is_none() && looked {
            entry.settled = Some(rfc3339(UNIX_EPOCH + seen.wall));
            entry.milliseconds = Some(milliseconds(age));
        }
        entry.result = if !self.failed.is_empty() {
            RevisionResult::Failed
        } else if entry.unsettled > 0 || entry.settled.is_none() {
            RevisionResult::OnItsWay
        } else {
            RevisionResult::InForce
        };
    }

    /// Another revision is there.
    fn close(mut self, seen: &Sighting<'_>, news: &mut News) {
        for id in &self.waiting {
            if let Some(Touched { own, .. }) = self.resources.get_mut(id) {
                own.result = ResourceResult::Superseded;
                news.resources.push((self.key, own.clone()));
            }
        }
        self.entry.replaced_by = Some(seen.desired.revision.clone());
        self.entry.result = match self.entry.result {
            RevisionResult::Failed => RevisionResult::Failed,
            RevisionResult::InForce => RevisionResult::Replaced,
            RevisionResult::OnItsWay | RevisionResult::Replaced | RevisionResult::Superseded => {
                RevisionResult::Superseded
            }
        };
        news.revisions.push((self.key, self.entry));
    }
}

/// What a revision describes otherwise than the one before it, as far as the cluster is concerned.
fn edited(before: &Desired, now: &Desired) -> BTreeMap<ResourceId, ResourceChange> {
    let differences = before.resources.diff(&now.resources).map(parts);
    let change = differences.filter_map(|(id, old, new)| match (old, new) {
        (None, Some(_)) => Some((id.clone(), ResourceChange::Created)),
        (Some(_), None) => Some((id.clone(), ResourceChange::Removed)),
        (Some(old), Some(new)) if old.services != new.services || old.records != new.records => {
            Some((id.clone(), ResourceChange::Changed))
        }
        (Some(_), Some(_)) | (None, None) => None,
    });
    change.collect()
}

fn all_steps(planned: &ResourcePlan) -> impl Iterator<Item = &PlannedStep> {
    planned.steps.iter().chain(planned.held.iter().map(|held| &held.step))
}

/// Adds what is not known yet; whether there was something.
fn add_steps<'a>(known: &mut Vec<StepEntry>, steps: impl Iterator<Item = &'a PlannedStep>) -> bool {
    let before = known.len();
    for step in steps {
        let verb = step.step.verb();
        if known.len() < MAX_STEPS
            && !known.iter().any(|known| known.verb == verb && known.object == step.step.object())
        {
            known.push(StepEntry::of(step));
        }
    }
    known.len() > before
}

/// Whether a step is planned because of what the manifests say, and not because of what happened to the cluster.
fn is_for_manifests(reason: Reason) -> bool {
    match reason {
        Reason::New | Reason::ManifestChanged | Reason::Adopt | Reason::Orphaned => true,
        Reason::Missing
        | Reason::Modified
        | Reason::ImageMoved
        | Reason::Unregistered
        | Reason::StaleRecord
        | Reason::Expiring
        | Reason::Requested => false,
    }
}

/// Nothing is done to such a resource, for long: no revision shall wait for it.
fn is_left_alone(kind: BlockKind) -> bool {
    matches!(kind, BlockKind::Suspended | BlockKind::PruningDisabled)
}

/// Nothing is wrong with what is wanted of it: a user's word, a reading, or another resource is waited for.
fn waits(kind: BlockKind) -> bool {
    is_left_alone(kind)
        || matches!(
            kind,
            BlockKind::HeldForConfirmation
                | BlockKind::SourceTrouble
                | BlockKind::RegistryUnproven
                | BlockKind::OutsideWindow
                | BlockKind::RolloutHalted
                | BlockKind::MissingDependency
        )
}

/// The word for machines, as `verdict` has it in JSON.
fn word(why: Progress) -> &'static str {
    match why {
        Progress::Steps => "steps",
        Progress::Held => "held",
        Progress::Successor => "successor",
        Progress::Rollout => "rollout",
        Progress::Tasks => "tasks",
        Progress::Unread => "unread",
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time that was written, since 1970-01-01 UTC; that year's beginning for what is none.
fn since_epoch(text: &str) -> Duration {
    parse_rfc3339(text).and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
