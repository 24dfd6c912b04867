//! One event for every change to the cluster, for every command, and for what changes where manifests come from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::source::{SourceEvent, SourceNews};
use crate::clock::rfc3339;
use crate::model::{
    Actor, Command, CommandVerb, FailureKind, Origin, PlannedStep, Reason, ResourceId, Revision, StepFailure, StepVerb,
};

/// How many events are kept over all resources: an hour of a busy factory, under a megabyte.
pub const GLOBAL_EVENTS: usize = 1_000;

/// How many events are kept for one resource, even when others have long pushed them out of the common list.
pub const RESOURCE_EVENTS: usize = 10;

/// What became of a step, as the executor tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Wall time at the step's end.
    pub wall: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// The resource.
    pub resource: ResourceId,
    /// What was done.
    pub verb: StepVerb,
    /// To what: `service scheduler`.
    pub object: String,
    /// Why.
    pub reason: Reason,
    /// Names of the fields that changed, without values.
    pub fields: Vec<String>,
    /// The manifest's place; none for a resource that is no longer described.
    pub origin: Option<Origin>,
    /// The manifest's revision.
    pub revision: Revision,
    /// How it ended.
    pub outcome: Result<(), StepFailure>,
}

impl StepReport {
    /// The report of a planned step.
    pub fn of(
        resource: ResourceId,
        origin: Option<Origin>,
        revision: Revision,
        step: &PlannedStep,
        outcome: Result<(), StepFailure>,
        wall: SystemTime,
        took: Duration,
    ) -> Self {
        StepReport {
            wall,
            took,
            resource,
            verb: step.step.verb(),
            object: step.step.object(),
            reason: step.reason,
            fields: step.changes.iter().map(|change| change.field.clone()).collect(),
            origin,
            revision,
            outcome,
        }
    }
}

/// What became of one step: one change to the cluster is one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Counts events since the operator started, from 1.
    pub sequence: u64,
    /// Wall time, RFC 3339.
    pub time: String,
    /// The resource.
    pub resource: ResourceId,
    /// What was done.
    pub verb: StepVerb,
    /// To what: `service scheduler`.
    pub object: String,
    /// Why.
    pub reason: Reason,
    /// Names of the fields that changed; values are never part of it.
    pub fields: Vec<String>,
    /// The manifest's place; none for a resource that is no longer described.
    pub origin: Option<Origin>,
    /// The manifest's revision.
    pub revision: Revision,
    /// How it ended.
    pub outcome: EventOutcome,
    /// How long the step took, in milliseconds.
    pub milliseconds: u64,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum EventOutcome {
    /// It worked.
    Succeeded,
    /// It did not.
    Failed {
        /// What follows from it.
        kind: FailureKind,
        /// A sentence for people.
        message: String,
    },
}

/// A command that a person or a program gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandEvent {
    /// Counts events since the operator started, from 1, with those of the cluster.
    pub sequence: u64,
    /// Wall time, RFC 3339.
    pub time: String,
    /// What kind of command.
    pub command: CommandVerb,
    /// The resource that it is about; none when it is about everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
    /// Who gave it.
    pub actor: Actor,
    /// The command as people read it: `suspend app/PRESS-7`.
    pub message: String,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Entry {
    /// A change to the cluster.
    Change(Arc<Event>),
    /// A command.
    Command(Arc<CommandEvent>),
    /// A change of where manifests come from.
    Source(Arc<SourceEvent>),
}

impl Entry {
    /// Its number.
    pub fn sequence(&self) -> u64 {
        match self {
            Entry::Change(event) => event.sequence,
            Entry::Command(event) => event.sequence,
            Entry::Source(event) => event.sequence,
        }
    }

    /// The change to the cluster, if it is one.
    pub fn change(&self) -> Option<&Arc<Event>> {
        match self {
            Entry::Change(event) => Some(event),
            Entry::Command(_) | Entry::Source(_) => None,
        }
    }

    /// The resource that it is about, if it is about one.
    pub fn resource(&self) -> Option<&ResourceId> {
        match self {
            Entry::Change(event) => Some(&event.resource),
            Entry::Command(event) => event.resource.as_ref(),
            Entry::Source(_) => None,
        }
    }
}

/// The events that are still remembered.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    sequence: u64,
    all: VecDeque<Entry>,
    by_resource: BTreeMap<ResourceId, VecDeque<Entry>>,
}

impl EventLog {
    /// Numbers and keeps an event. `alive` says whether a resource still exists: the events of others go when
    /// the common list lets go of them.
    pub(super) fn push(&mut self, step: StepReport, alive: impl Fn(&ResourceId) -> bool) -> Arc<Event> {
        self.sequence += 1;
        let event = Arc::new(Event {
            sequence: self.sequence,
            time: rfc3339(step.wall),
            resource: step.resource,
            verb: step.verb,
            object: step.object,
            reason: step.reason,
            fields: step.fields,
            origin: step.origin,
            revision: step.revision,
            outcome: match step.outcome {
                Ok(()) => EventOutcome::Succeeded,
                Err(failure) => EventOutcome::Failed { kind: failure.kind, message: failure.message },
            },
            milliseconds: u64::try_from(step.took.as_millis()).unwrap_or(u64::MAX),
        });
        self.keep(Entry::Change(Arc::clone(&event)), alive);
        event
    }

    /// Numbers and keeps a command.
    pub(super) fn push_command(
        &mut self,
        command: &Command,
        actor: &Actor,
        wall: SystemTime,
        alive: impl Fn(&ResourceId) -> bool,
    ) -> Arc<CommandEvent> {
        self.sequence += 1;
        let event = Arc::new(CommandEvent {
            sequence: self.sequence,
            time: rfc3339(wall),
            command: command.verb(),
            resource: command.resource().cloned(),
            actor: actor.clone(),
            message: command.to_string(),
        });
        self.keep(Entry::Command(Arc::clone(&event)), alive);
        event
    }

    /// Numbers and keeps an event of the source.
    pub(super) fn push_source(
        &mut self,
        news: SourceNews,
        wall: SystemTime,
        alive: impl Fn(&ResourceId) -> bool,
    ) -> Arc<SourceEvent> {
        self.sequence += 1;
        let event = Arc::new(SourceEvent::of(self.sequence, rfc3339(wall), news));
        self.keep(Entry::Source(Arc::clone(&event)), alive);
        event
    }

    fn keep(&mut self, entry: Entry, alive: impl Fn(&ResourceId) -> bool) {
        if let Some(resource) = entry.resource() {
            let own = self.by_resource.entry(resource.clone()).or_default();
            if own.len() == RESOURCE_EVENTS {
                own.pop_front();
            }
            own.push_back(entry.clone());
        }
        self.all.push_back(entry);
        if self.all.len() > GLOBAL_EVENTS
            && let Some(oldest) = self.all.pop_front()
            && let Some(resource) = oldest.resource().filter(|resource| !alive(resource))
        {
            self.forget(std::slice::from_ref(resource));
        }
    }

    /// Lets go of the events of resources that vanished, once the common list no longer holds their last one.
    pub(super) fn forget(&mut self, vanished: &[ResourceId]) {
        let first_kept = self.all.front().map_or(u64::MAX, Entry::sequence);
        for resource in vanished {
            let last = self.by_resource.get(resource).and_then(VecDeque::back).map(Entry::sequence);
            if last.is_some_and(|last| last < first_kept) {
                self.by_resource.remove(resource);
            }
        }
    }

    /// The kept events with a higher number, oldest first; all of them for a number that was never given.
    pub(super) fn after(&self, sequence: u64) -> Vec<Entry> {
        let sequence = if sequence > self.sequence { 0 } else { sequence };
        let from = self.all.partition_point(|entry| entry.sequence() <= sequence);
        self.all.range(from..).cloned().collect()
    }

    /// The last events of one resource, oldest first.
    pub(super) fn of(&self, resource: &ResourceId) -> Vec<Entry> {
        self.by_resource.get(resource).map(|own| own.iter().cloned().collect()).unwrap_or_default()
    }
}
