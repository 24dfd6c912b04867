//! How suspensions and the freeze end by themselves: at their time, or with what they are about.
//!
//! A plan goes by the wall time of its sighting: what is over by then holds nothing back in it. Whoever may act takes the note
//! away after that, and says so; whoever may not leaves it as it is.

use std::time::Duration;

use jiff::Timestamp;

use super::memory::Memory;
use crate::model::{Desired, Hold, Note, Observed, Plan, ResourceId, Term};

/// How long a suspension outlives what it is about: files that are moved, and reads that lie, are over by then.
const FORGET_SUSPENSION_AFTER: Duration = Duration::from_secs(10 * 60);

/// A hold that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What it was about.
    pub what: Held,
    /// What a person had said.
    pub hold: Hold,
}

/// What a hold is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Everything that is done to one resource.
    Resource(ResourceId),
    /// Everything that is done.
    Everything,
    /// Changes that come from manifests.
    Changes,
}

impl Held {
    fn note(&self) -> Note {
        match self {
            Held::Resource(id) => Note::Suspended(id.clone()),
            Held::Everything => Note::SuspendedAll,
            Held::Changes => Note::Freeze,
        }
    }
}

/// Holds whose time is over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ends {
    /// Of this pass; their notes are still there.
    over: Vec<Ended>,
    /// They ended, and nobody was told yet.
    ended: Vec<Ended>,
}

/// What is held from now on: since a person first said so, for as long as was said last.
pub(super) fn hold(before: Option<&Hold>, time: &str, term: &Term) -> Hold {
    Hold::new(before.map_or(time, |before| &before.since), term.clone())
}

impl Memory {
    /// Lets go of what is over at this wall time.
    pub(super) fn drop_what_is_over(&mut self, wall: Timestamp) {
        let over = &mut self.ends.over;
        let mut stays = |hold: &Hold, what: &dyn Fn() -> Held| {
            let is_over = hold.term.is_over(wall);
            if is_over {
                over.push(Ended { what: what(), hold: hold.clone() });
            }
            !is_over
        };
        self.suspended.retain(|id, hold| stays(hold, &|| Held::Resource(id.clone())));
        self.suspended_all = self.suspended_all.take().filter(|hold| stays(hold, &|| Held::Everything));
        self.freeze = self.freeze.take().filter(|hold| stays(hold, &|| Held::Changes));
    }

    /// Takes the notes of what is over away.
    pub(super) fn learn_ends(&mut self) {
        for ended in std::mem::take(&mut self.ends.over) {
            self.notebook.set(&ended.what.note(), None);
            self.ends.ended.push(ended);
        }
    }

    /// A suspension ends with what it is about.
    pub(super) fn learn_suspensions(&mut self, desired: &Desired, observed: &Observed, plan: &Plan) {
        let all = desired.complete
            && !plan.scoped
            && observed.platform.as_ref().is_some_and(|platform| platform.complete)
            && observed.registry.as_ref().is_some_and(|registry| registry.complete && !observed.registry_stands_in);
        let absent = |id: &ResourceId| all && !plan.resources.contains_key(id);
        self.absent_since.retain(|id, _| absent(id));
        for id in self.suspended.keys().chain(self.taken_down.keys()).filter(|id| absent(id)) {
            self.absent_since.entry(id.clone()).or_insert(observed.at);
        }
        let (absent_since, notebook) = (&self.absent_since, &mut self.notebook);
        let mut stays = |id: &ResourceId, note: fn(ResourceId) -> Note| {
            let since = absent_since.get(id);
            let stays = since.is_none_or(|since| observed.at.saturating_sub(*since) < FORGET_SUSPENSION_AFTER);
            if !stays {
                notebook.set(&note(id.clone()), None);
            }
            stays
        };
        self.suspended.retain(|id, _| stays(id, Note::Suspended));
        self.taken_down.retain(|id, _| stays(id, Note::TakenDown));
    }

    /// What ended by itself since this was last asked, oldest first.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ends.ended)
    }

    /// How long until the next hold ends by itself.
    pub(super) fn next_end(&self, wall: Timestamp) -> Option<Duration> {
        let holds = self.suspended.values().chain(&self.suspended_all).chain(&self.freeze);
        let ends = holds.filter_map(|hold| hold.term.until).filter(|until| *until > wall);
        ends.min().map(|until| until.duration_since(wall).unsigned_abs())
    }
}
