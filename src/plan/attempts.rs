//! Updates that the engine may undo, each of which is tried once.
//!
//! # Flow
//!
//! ```text
//! an update is needed ─► it is noted ─► the note is read back ─► it is sent ─► completed: the note goes
//!                                                                   │
//!                                                                   └─► undone: noted as rolled back, and held
//! ```
//!
//! Only updates whose failure action is `rollback` are noted before they are sent; the engine undoes no
//! others. The note names the update status that the service had (its time of start). So whoever finds the note later,
//! after a death at any moment in between, can tell whether the update was carried out: [`NotedAttempt::outcome`].
//!
//! # Guarantees
//!
//! - An update of such a service is sent only while a note of it can be read, whatever becomes of the operator.
//! - What the engine undid, and what may have been undone and cannot be told any more, is not sent again until the
//!   manifest changes or a person resumes the resource.
//! - What a person undid (`docker service rollback`) is drift like any other edit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::Memory;
use super::image;
use crate::model::{
    Desired, FailureAction, Mark, Note, Observed, ObservedService, Plan, PlatformSnapshot, ServiceId, ServiceName,
    ServiceSpec, ServiceStep, SpecHash, Step, UpdateState, Wait,
};

/// How long after an update Swarm may still begin to replace tasks: it does so within moments, once it has a leader.
const QUIET: Duration = Duration::from_secs(60);

/// An update that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was asked for: the hash in the mark, with the digest if one was pinned.
    pub spec: SpecHash,
    /// The service.
    pub id: ServiceId,
    /// The version that the update was planned on. Only what the engine says under a later one is about it.
    pub version: u64,
}

/// An update that is noted, and that may have been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedAttempt {
    /// What is asked for: the hash in the mark, with the digest if one is pinned.
    pub spec: SpecHash,
    /// The service.
    pub id: ServiceId,
    /// [`crate::model::Rollout::started`] of the service when this was noted.
    pub started: String,
}

/// What became of an update that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No update was carried out since it was noted.
    NotCarriedOut,
    /// It is in force, and the engine may still undo it.
    Open,
    /// It is in force for good.
    Completed,
    /// The engine undid it.
    Undone,
    /// A person undid it.
    UndoneByHand,
    /// Something else is in force, and nothing tells what became of it.
    Unknown,
}

impl NotedAttempt {
    /// What is to be noted before this update of a service as it is now.
    pub(super) fn of(found: &ObservedService, spec: &ServiceSpec, mark: &Mark) -> Self {
        NotedAttempt { spec: attempt(mark, spec), id: found.id.clone(), started: found.rollout.started.clone() }
    }

    /// Reads the text of a note; none when it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (spec, id) = (parts.next()?, parts.next()?);
        let started = parts.next().unwrap_or_default().to_owned();
        let whole = !spec.is_empty() && !id.is_empty();
        whole.then(|| NotedAttempt { spec: SpecHash(spec.to_owned()), id: ServiceId(id.to_owned()), started })
    }

    /// What became of it, as far as its service, which must be the same one, tells.
    pub(super) fn outcome(&self, found: &ObservedService) -> Outcome {
        let in_force = found.mark.as_ref().is_some_and(|mark| is_attempt_at(&self.spec, &mark.spec));
        if found.rollout.started == self.started {
            // Right after an update the engine reports on none, which is what it did if there never was one.
            return if in_force { Outcome::Open } else { Outcome::NotCarriedOut };
        }
        match &found.update {
            UpdateState::RollbackStarted(_) | UpdateState::RollbackPaused(_) | UpdateState::RollbackCompleted(_) => {
                if found.rollout.by_hand {
                    Outcome::UndoneByHand
                } else {
                    Outcome::Undone
                }
            }
            UpdateState::Completed if in_force => Outcome::Completed,
            UpdateState::None | UpdateState::Updating | UpdateState::Paused(_) if in_force => Outcome::Open,
            UpdateState::None | UpdateState::Updating | UpdateState::Paused(_) | UpdateState::Completed => {
                Outcome::Unknown
            }
        }
    }
}

impl fmt::Display for NotedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.spec.0, self.id.0, self.started)
    }
}

/// What identifies an update that may be rolled back: the hash of what was asked for, and the digest if the
/// image was pinned, so that a tag that has moved on is a new try.
pub(super) fn attempt(mark: &Mark, spec: &ServiceSpec) -> SpecHash {
    match image::digest(&spec.image) {
        Some(digest) => SpecHash(format!("{}@{digest}", mark.spec.0)),
        None => mark.spec.clone(),
    }
}

/// Whether the engine undoes this update when it fails: by the failure action that comes with it.
fn may_be_undone(found: &ObservedService, spec: &ServiceSpec) -> bool {
    spec.options.update.failure_action.map_or(found.rollout.rolls_back, |action| action == FailureAction::Rollback)
}

/// Whether something that was sent was an attempt at this hash, whatever the digest was.
pub(super) fn is_attempt_at(attempt: &SpecHash, hash: &SpecHash) -> bool {
    attempt.0.strip_prefix(&hash.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}

/// Whether the engine went back to an earlier spec by itself.
fn went_back(found: &ObservedService) -> bool {
    match &found.update {
        UpdateState::RollbackStarted(_) | UpdateState::RollbackPaused(_) | UpdateState::RollbackCompleted(_) => {
            !found.rollout.by_hand
        }
        UpdateState::None | UpdateState::Updating | UpdateState::Paused(_) | UpdateState::Completed => false,
    }
}

/// The updates that may still be undone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Those that were sent and whose end has not been seen.
    pub sent: BTreeMap<ServiceName, Attempt>,
    /// Those that are noted before they are sent, since the engine may undo them. Noted.
    pub noted: BTreeMap<ServiceName, NotedAttempt>,
    /// Those of them that this run has noted and not sent.
    pub unsent: BTreeSet<ServiceName>,
    /// Since when one of them is in force without a rollout.
    pub quiet_since: BTreeMap<ServiceName, Duration>,
}

impl Attempts {
    /// Takes in that an update was sent, or may have been.
    pub(super) fn was_sent(&mut self, service: &ServiceName, attempt: Attempt) {
        self.sent.insert(service.clone(), attempt);
        self.unsent.remove(service);
    }

    /// Whether the engine undid this very update of a service, or may have.
    fn is_undone(&self, found: &ObservedService, attempt: &SpecHash) -> bool {
        let name = &found.spec.name;
        if let Some(sent) = self.sent.get(name) {
            return went_back(found) && sent.spec == *attempt && sent.id == found.id && found.version > sent.version;
        }
        let noted = self.noted.get(name).filter(|noted| noted.spec == *attempt && noted.id == found.id);
        noted.is_some_and(|noted| {
            !self.unsent.contains(name) && matches!(noted.outcome(found), Outcome::Undone | Outcome::Unknown)
        })
    }

    /// Takes in what became of them. Which ones the engine undid goes to `rolled_back`. What the plan holds back until it
    /// is noted is noted, once notes `are_read`: before that there may be one of a forerunner, which says more.
    fn learn(
        &mut self,
        platform: &PlatformSnapshot,
        now: Duration,
        plan: &Plan,
        are_read: bool,
        rolled_back: &mut BTreeMap<ServiceName, SpecHash>,
    ) {
        self.learn_outcomes(platform, rolled_back);
        self.learn_quiet(platform, now);
        self.learn_notes(platform, plan, are_read);
    }

    /// What a person wants tried again counts as never tried.
    fn forget(&mut self, service: &ServiceName) {
        self.sent.remove(service);
        self.noted.remove(service);
    }

    fn learn_outcomes(&mut self, platform: &PlatformSnapshot, rolled_back: &mut BTreeMap<ServiceName, SpecHash>) {
        let noted = &self.noted;
        self.unsent.retain(|name| {
            // what is in force was sent, if not by this run then by one before it whose call was still under way
            let found = platform.services.get(name);
            let outcome = noted.get(name).zip(found).map(|(noted, found)| noted.outcome(found));
            !matches!(outcome, Some(Outcome::Open | Outcome::Completed))
        });
        let noted = &mut self.noted;
        self.sent.retain(|name, sent| {
            let Some(found) = platform.services.get(name).filter(|found| found.id == sent.id) else {
                return !platform.complete;
            };
            if found.version <= sent.version {
                return true;
            }
            match &found.update {
                UpdateState::RollbackStarted(_)
                | UpdateState::RollbackPaused(_)
                | UpdateState::RollbackCompleted(_) => {
                    if went_back(found) {
                        rolled_back.insert(name.clone(), sent.spec.clone());
                    }
                    noted.remove(name);
                    false
                }
                UpdateState::Completed => {
                    noted.remove(name);
                    false
                }
                UpdateState::None | UpdateState::Updating | UpdateState::Paused(_) => true,
            }
        });
        let (sent, unsent) = (&self.sent, &self.unsent);
        self.noted.retain(|name, noted| {
            if sent.contains_key(name) || unsent.contains(name) {
                return true;
            }
            let Some(found) = platform.services.get(name).filter(|found| found.id == noted.id) else {
                return !platform.complete;
            };
            match noted.outcome(found) {
                Outcome::NotCarriedOut | Outcome::Open => true,
                Outcome::Completed | Outcome::UndoneByHand => false,
                Outcome::Undone | Outcome::Unknown => {
                    rolled_back.insert(name.clone(), noted.spec.clone());
                    false
                }
            }
        });
        if platform.complete {
            // a service that is gone has nothing to go back to: it is simply made again
            rolled_back.retain(|name, _| platform.services.contains_key(name));
        }
    }

    /// The engine reports on no rollout where an update replaced no task: what is in force then, and stays so, cannot be
    /// undone any more.
    fn learn_quiet(&mut self, platform: &PlatformSnapshot, now: Duration) {
        let quiet = |name: &ServiceName, spec: &SpecHash| {
            platform.services.get(name).is_some_and(|found| {
                let in_force = found.mark.as_ref().is_some_and(|mark| is_attempt_at(spec, &mark.spec));
                in_force && found.update == UpdateState::None
            })
        };
        self.quiet_since.retain(|name, _| self.noted.get(name).is_some_and(|noted| quiet(name, &noted.spec)));
        for (name, _) in self.noted.iter().filter(|(name, noted)| quiet(name, &noted.spec)) {
            self.quiet_since.entry(name.clone()).or_insert(now);
        }
        for name in
            self.quiet_since.iter().filter(|(_, since)| now.saturating_sub(**since) > QUIET).map(|(name, _)| name)
        {
            if !self.unsent.contains(name) {
                self.noted.remove(name);
                self.sent.remove(name);
            }
        }
    }

    /// Notes what a plan holds back until it is noted. A note of an update that was never sent, and that no plan needs
    /// any more, goes.
    fn learn_notes(&mut self, platform: &PlatformSnapshot, plan: &Plan, are_read: bool) {
        let mut wanted = BTreeMap::new();
        for (_, resource) in plan.restless() {
            let held = resource.held.iter().filter(|held| held.wait == Wait::AttemptNoted);
            for step in held.map(|held| &held.step).chain(&resource.steps) {
                if let Step::Service(ServiceStep::Update { spec, mark, .. }) = &step.step
                    && let Some(found) = platform.services.get(&spec.name).filter(|found| may_be_undone(found, spec))
                {
                    wanted.insert(spec.name.clone(), NotedAttempt::of(found, spec, mark));
                }
            }
        }
        let unsent = &mut self.unsent;
        self.noted.retain(|name, _| !unsent.contains(name) || wanted.contains_key(name));
        unsent.retain(|name| wanted.contains_key(name));
        if !are_read {
            return;
        }
        for (name, attempt) in wanted {
            if self.noted.get(&name) != Some(&attempt) {
                self.unsent.insert(name.clone());
                self.noted.insert(name, attempt);
            }
        }
    }
}

impl Memory {
    /// Whether the engine undid this very update of a service, or may have, now or at an earlier time.
    pub(super) fn is_rolled_back(&self, found: &ObservedService, attempt: &SpecHash) -> bool {
        self.rolled_back.get(&found.spec.name) == Some(attempt) || self.attempts.is_undone(found, attempt)
    }

    /// Whether an update may be sent as far as notes are concerned: the engine undoes no update of this service, or a
    /// note of this one can be read.
    pub(super) fn is_noted(&self, found: &ObservedService, spec: &ServiceSpec, mark: &Mark) -> bool {
        !may_be_undone(found, spec)
            || self.notebook.is_unsupported()
            || self
                .notebook
                .keeps(&Note::Attempted(spec.name.clone()), &NotedAttempt::of(found, spec, mark).to_string())
    }

    /// Which of the updates that were sent or noted have ended, and how; and which are to be noted.
    pub(super) fn learn_updates(&mut self, desired: &Desired, observed: &Observed, plan: &Plan) {
        let (known, noted) = (self.rolled_back.clone(), self.attempts.noted.clone());
        self.learn_retries(desired);
        self.forget_other_manifests(desired, plan);
        if let Some(platform) = &observed.platform {
            let are_read = self.notebook.is_read();
            self.attempts.learn(platform, observed.at, plan, are_read, &mut self.rolled_back);
        }
        for service in known.keys().chain(self.rolled_back.keys()) {
            let held = self.rolled_back.get(service);
            if known.get(service) != held {
                self.notebook.set(&Note::RolledBack(service.clone()), held.map(|held| held.0.clone()));
            }
        }
        for service in noted.keys().chain(self.attempts.noted.keys()) {
            let now = self.attempts.noted.get(service);
            if noted.get(service) != now {
                self.notebook.set(&Note::Attempted(service.clone()), now.map(ToString::to_string));
            }
        }
    }

    /// What a person wants tried again counts as never tried.
    fn learn_retries(&mut self, desired: &Desired) {
        for id in &self.retry {
            let services = desired.resources.get(id).into_iter().flat_map(|resource| &resource.services);
            for service in services {
                self.rolled_back.remove(&service.spec.name);
                self.attempts.forget(&service.spec.name);
            }
        }
    }

    /// An update that was undone is held for as long as the manifest asks for it; whoever comes back to it later means
    /// it.
    fn forget_other_manifests(&mut self, desired: &Desired, plan: &Plan) {
        if self.rolled_back.is_empty() && self.attempts.noted.is_empty() {
            return;
        }
        let services = desired.resources.values().flat_map(|resource| &resource.services);
        let asked: BTreeMap<ServiceName, SpecHash> = services
            .filter(|service| {
                self.rolled_back.contains_key(&service.spec.name)
                    || self.attempts.noted.contains_key(&service.spec.name)
            })
            .map(|service| (service.spec.name.clone(), service.hash.clone()))
            .collect();
        let still_asked = |name: &ServiceName, held: &SpecHash| match asked.get(name) {
            Some(hash) => is_attempt_at(held, hash),
            None => plan.scoped || !desired.complete,
        };
        self.rolled_back.retain(|name, held| still_asked(name, held));
        self.attempts.noted.retain(|name, noted| still_asked(name, &noted.spec));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_rubbish_does_not() {
        for started in ["", "2026-01-02T03:04:05.678901234Z"] {
            let noted = NotedAttempt {
                spec: SpecHash("abc@sha256:def".into()),
                id: ServiceId("id1".into()),
                started: started.into(),
            };
            assert_eq!(NotedAttempt::parse(&noted.to_string()), Some(noted));
        }
        for rubbish in ["", "abc", "abc ", " id "] {
            assert_eq!(NotedAttempt::parse(rubbish), None, "{rubbish:?}");
        }
    }
}
