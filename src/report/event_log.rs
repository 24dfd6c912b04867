//! The events that are kept in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use super::events::{
    CommandEvent, ConditionEvent, ConditionNews, Entry, Event, EventOutcome, GLOBAL_EVENTS, RESOURCE_EVENTS,
    RefusedCommand, StepReport,
};
use super::source::{SourceEvent, SourceNews};
use crate::clock::rfc3339;
use crate::model::{Actor, Command, CommandVerb, NOBODY, ResourceId};

/// The events that are still remembered.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    sequence: u64,
    all: VecDeque<Entry>,
    by_resource: BTreeMap<ResourceId, VecDeque<Entry>>,
}

impl EventLog {
    /// Goes on from events of an earlier run, of which `sequence` is the highest number.
    pub(super) fn restored(sequence: u64, entries: Vec<Entry>) -> Self {
        let mut log = EventLog { sequence, ..EventLog::default() };
        for entry in entries {
            log.keep(entry, |_| false);
        }
        log
    }

    /// The number of the last event.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

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
            refused: None,
            more: 0,
        });
        self.keep(Entry::Command(Arc::clone(&event)), alive);
        event
    }

    /// Numbers and keeps the end of a person's word that nobody ended.
    pub(super) fn push_ended(
        &mut self,
        command: CommandVerb,
        resource: Option<ResourceId>,
        message: String,
        wall: SystemTime,
        alive: impl Fn(&ResourceId) -> bool,
    ) -> Arc<CommandEvent> {
        self.sequence += 1;
        let actor = Actor { name: NOBODY.to_owned(), address: None };
        let (sequence, time) = (self.sequence, rfc3339(wall));
        let event =
            Arc::new(CommandEvent { sequence, time, command, resource, actor, message, refused: None, more: 0 });
        self.keep(Entry::Command(Arc::clone(&event)), alive);
        event
    }

    /// Numbers and keeps a command that was refused.
    pub(super) fn push_refused(&mut self, refused: RefusedCommand, more: u64, wall: SystemTime) -> Arc<CommandEvent> {
        self.sequence += 1;
        let event = Arc::new(CommandEvent {
            sequence: self.sequence,
            time: rfc3339(wall),
            command: refused.command,
            resource: None,
            actor: refused.actor,
            message: format!("{} refused: {}", refused.command.as_str(), refused.message),
            refused: Some(refused.code),
            more,
        });
        self.keep(Entry::Command(Arc::clone(&event)), |_| true);
        event
    }

    /// Numbers and keeps a condition that came or went.
    pub(super) fn push_condition(
        &mut self,
        news: ConditionNews,
        wall: SystemTime,
        alive: impl Fn(&ResourceId) -> bool,
    ) -> Arc<ConditionEvent> {
        let ConditionNews { resource, condition, reason, change, message } = news;
        self.sequence += 1;
        let (sequence, time) = (self.sequence, rfc3339(wall));
        let event = Arc::new(ConditionEvent { sequence, time, resource, condition, reason, change, message });
        self.keep(Entry::Condition(Arc::clone(&event)), alive);
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
