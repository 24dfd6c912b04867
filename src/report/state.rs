//! What a report keeps between passes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Retry;
use super::archive::Restored;
use super::event_log::EventLog;
use super::history::Recorder;
use super::refusals::Refusals;
use super::status::Status;
use super::track::{Parts, Tracker};
use crate::model::{Desired, InstanceName, LeaseStatus, Observed, Plan, ResourceId, SourcePlace};

#[derive(Debug)]
pub(super) struct State {
    pub(super) instance: InstanceName,
    /// How this operator stands to the lease; none when it tries for none.
    pub(super) lease: Option<LeaseStatus>,
    pub(super) last: Option<Arc<Last>>,
    pub(super) parts: Parts,
    /// Shared with a reader that is building a status; copied when it must change meanwhile.
    pub(super) tracker: Arc<Tracker>,
    pub(super) events: EventLog,
    /// What is wrong with the operator itself, by what it is about, for people.
    pub(super) troubles: BTreeMap<&'static str, String>,
    /// Follows what becomes of the revision in force, where that is kept.
    pub(super) recorder: Recorder,
    /// How many refused commands may still be told of.
    pub(super) refusals: Refusals,
    /// How many requests of people for a look have been answered.
    pub(super) answered: u64,
    /// Counts passes and steps: what a status rests on.
    pub(super) generation: u64,
    /// Of the present generation; none until somebody asks.
    pub(super) status: Option<Arc<Status>>,
}

/// What the last pass left.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) wall: SystemTime,
    pub(super) desired: Arc<Desired>,
    pub(super) observed: Observed,
    /// Of the last pass that had one.
    pub(super) plan: Option<Arc<Plan>>,
    /// The last pass had no plan.
    pub(super) blind: bool,
    pub(super) retries: BTreeMap<ResourceId, Retry>,
    pub(super) place: SourcePlace,
    pub(super) read_ago: Option<Duration>,
    pub(super) notes: Noted,
}

/// What became of the notes.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// How many are still to be written.
    pub(super) unsaved: usize,
    /// Why the last write failed.
    pub(super) error: Option<String>,
}

impl State {
    /// Nothing is known yet but the events of earlier runs.
    pub(super) fn new(instance: InstanceName, restored: Restored) -> Self {
        State {
            instance,
            lease: None,
            last: None,
            parts: Parts::default(),
            tracker: Arc::new(Tracker::restored(&restored.entries)),
            events: EventLog::restored(restored.sequence, restored.entries),
            troubles: BTreeMap::new(),
            recorder: Recorder::default(),
            refusals: Refusals::default(),
            answered: 0,
            generation: 0,
            status: None,
        }
    }

    /// What was built before is out of date.
    pub(super) fn changed(&mut self) {
        self.generation += 1;
        self.status = None;
    }
}
