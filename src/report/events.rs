//! One event for every change to the cluster, for every command, and for what changes where manifests come from.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::source::SourceEvent;
use crate::clock::{Clock as _, SystemClock, rfc3339, timestamp};
use crate::model::{
    Actor, CommandVerb, ConditionKind, FailureKind, Origin, PlannedStep, Reason, ResourceId, Revision, StepFailure,
    StepVerb, hold,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: counted on from the last event that the archive holds, from 1 without one.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandEvent {
    /// Its number, in one row with all other events.
    pub sequence: u64,
    /// Wall time, RFC 3339.
    pub time: String,
    /// What kind of command.
    pub command: CommandVerb,
    /// The resource that it is about; none when it is about everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
    /// Who gave it.
    pub actor: Actor,
    /// The command as people read it: `suspend app/PRESS-7`.
    pub message: String,
    /// Why it was refused, as a word for machines; none for one that was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How many more were refused before, since the last event that says so.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A command that was refused before the loop saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCommand {
    /// What kind of command.
    pub command: CommandVerb,
    /// Who gave it.
    pub actor: Actor,
    /// Why it was refused, as a word for machines.
    pub code: String,
    /// The same for people.
    pub message: String,
}

/// A condition of a resource that came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionEvent {
    /// Its number, in one row with all other events.
    pub sequence: u64,
    /// Wall time, RFC 3339.
    pub time: String,
    /// The resource.
    pub resource: ResourceId,
    /// What the condition is about.
    pub condition: ConditionKind,
    /// One word for machines.
    pub reason: String,
    /// Whether it came or went.
    pub change: ConditionChange,
    /// A sentence for people; empty for a condition that went.
    pub message: String,
}

/// Whether a condition came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionChange {
    /// It holds from now on.
    Raised,
    /// It no longer holds.
    Cleared,
}

impl ConditionChange {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionChange::Raised => "raised",
            ConditionChange::Cleared => "cleared",
        }
    }
}

/// A condition that came or went, before it has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConditionNews {
    pub(super) resource: ResourceId,
    pub(super) condition: ConditionKind,
    pub(super) reason: String,
    pub(super) change: ConditionChange,
    pub(super) message: String,
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// A step: a change to the cluster or the registry, whether it worked or not.
    Change,
    /// A command that a person or a program gave.
    Command,
    /// A condition of a resource that came or went.
    Condition,
    /// What changed where manifests come from.
    Source,
}

impl EventType {
    /// Every kind.
    pub const ALL: [EventType; 4] = [EventType::Change, EventType::Command, EventType::Condition, EventType::Source];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Change => "change",
            EventType::Command => "command",
            EventType::Condition => "condition",
            EventType::Source => "source",
        }
    }
}

/// Which events are asked for: the last ones that fit all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Those with higher numbers.
    pub after: u64,
    /// Those from this time on, RFC 3339 as [`crate::clock::rfc3339`] writes it.
    pub since: Option<String>,
    /// Those of one resource.
    pub resource: Option<ResourceId>,
    /// Those of one kind.
    pub kind: Option<EventType>,
    /// No more than this many.
    pub limit: usize,
}

impl Default for EventQuery {
    /// The last [`GLOBAL_EVENTS`] of any kind.
    fn default() -> Self {
        EventQuery { after: 0, since: None, resource: None, kind: None, limit: GLOBAL_EVENTS }
    }
}

impl EventQuery {
    /// Whether an event is asked for, its number and the limit aside.
    pub fn wants(&self, entry: &Entry) -> bool {
        self.since.as_deref().is_none_or(|since| entry.time() >= since)
            && self.resource.as_ref().is_none_or(|resource| entry.resource() == Some(resource))
            && self.kind.is_none_or(|kind| entry.kind() == kind)
    }
}

/// The time that `text` means, as events have theirs: RFC 3339 with any offset, or how long ago as `90s`, `30m`, `2h`,
/// `7d`.
///
/// # Errors
/// A sentence when it means none.
pub fn since(text: &str) -> Result<String, String> {
    since_at(text, SystemClock::new().wall())
}

fn since_at(text: &str, now: SystemTime) -> Result<String, String> {
    let problem =
        || format!("`{text}` is neither a time such as 2026-01-02T03:04:05Z nor an age such as 30m, 2h or 7d");
    if let Some((number, seconds)) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)]
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        && let Ok(number) = number.parse::<u64>()
    {
        let ago = Duration::from_secs(number.saturating_mul(*seconds));
        return Ok(rfc3339(now.checked_sub(ago).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH)));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| problem())?;
    let time = SystemTime::try_from(time).map_err(|_| problem())?;
    Ok(rfc3339(time.max(UNIX_EPOCH)))
}

/// The wall time that `text` means as an end: how long from now on as `45m`, `2h`, `1d12h`, or a time, RFC 3339 with any
/// offset.
///
/// # Errors
/// A sentence when it means none, when it is over already, and for a length of more than a year.
pub fn until(text: &str) -> Result<jiff::Timestamp, String> {
    until_at(text, timestamp(SystemClock::new().wall()))
}

fn until_at(text: &str, now: jiff::Timestamp) -> Result<jiff::Timestamp, String> {
    let end = match hold::seconds(text) {
        Some(0) => return Err("a length of nothing ends at once".into()),
        Some(seconds) if seconds > hold::LONGEST_TERM => return Err(format!("`{text}` is longer than a year")),
        Some(seconds) => {
            now.checked_add(jiff::SignedDuration::from_secs(seconds)).map_err(|error| error.to_string())?
        }
        None => text.trim().parse().map_err(|_| {
            let text = text.escape_debug();
            format!("`{text}` is neither a length such as 45m, 2h or 1d12h nor a time such as 2026-01-02T03:04:05Z")
        })?,
    };
    if end <= now {
        return Err(format!("{end} is over already: it is {}", now.round(jiff::Unit::Second).unwrap_or(now)));
    }
    Ok(end)
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Entry {
    /// A change to the cluster.
    Change(Arc<Event>),
    /// A command.
    Command(Arc<CommandEvent>),
    /// A condition that came or went.
    Condition(Arc<ConditionEvent>),
    /// A change of where manifests come from.
    Source(Arc<SourceEvent>),
}

impl Entry {
    /// Its number.
    pub fn sequence(&self) -> u64 {
        match self {
            Entry::Change(event) => event.sequence,
            Entry::Command(event) => event.sequence,
            Entry::Condition(event) => event.sequence,
            Entry::Source(event) => event.sequence,
        }
    }

    /// Its wall time, RFC 3339.
    pub fn time(&self) -> &str {
        match self {
            Entry::Change(event) => &event.time,
            Entry::Command(event) => &event.time,
            Entry::Condition(event) => &event.time,
            Entry::Source(event) => &event.time,
        }
    }

    /// What kind of event it is.
    pub fn kind(&self) -> EventType {
        match self {
            Entry::Change(_) => EventType::Change,
            Entry::Command(_) => EventType::Command,
            Entry::Condition(_) => EventType::Condition,
            Entry::Source(_) => EventType::Source,
        }
    }

    /// The change to the cluster, if it is one.
    pub fn change(&self) -> Option<&Arc<Event>> {
        match self {
            Entry::Change(event) => Some(event),
            Entry::Command(_) | Entry::Condition(_) | Entry::Source(_) => None,
        }
    }

    /// The resource that it is about, if it is about one.
    pub fn resource(&self) -> Option<&ResourceId> {
        match self {
            Entry::Change(event) => Some(&event.resource),
            Entry::Command(event) => event.resource.as_ref(),
            Entry::Condition(event) => Some(&event.resource),
            Entry::Source(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_an_age_says_since_when() {
        let now = UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        for (text, time) in [
            ("0s", "2026-01-02T03:04:05.000Z"),
            ("30m", "2026-01-02T02:34:05.000Z"),
            ("2h", "2026-01-02T01:04:05.000Z"),
            ("1d", "2026-01-01T03:04:05.000Z"),
            ("99999999999999999d", "1970-01-01T00:00:00.000Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
            ("2026-01-02T03:04:05.5+01:00", "2026-01-02T02:04:05.500Z"),
            ("1960-01-02T03:04:05Z", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(since_at(text, now).as_deref(), Ok(time), "{text}");
        }
        for wrong in ["", "h", "-2h", "2 h", "2w", "yesterday", "2026-01-02", "2026-13-02T03:04:05Z", "1.5h"] {
            assert!(since_at(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_end_is_a_length_from_now_on_or_a_time_that_is_to_come() {
        let now: jiff::Timestamp = "2026-01-02T03:04:05.5Z".parse().unwrap();
        for (text, end) in [
            ("2h", "2026-01-02T05:04:05.5Z"),
            (" 1d12h ", "2026-01-03T15:04:05.5Z"),
            ("2026-01-02T06:00:00+01:00", "2026-01-02T05:00:00Z"),
        ] {
            assert_eq!(until_at(text, now).unwrap().to_string(), end, "{text}");
        }
        for wrong in
            ["", "2", "0h", "367d", "-2h", "tomorrow", "2026-01-02", "2026-01-02T03:04:05Z", "99999999999999999999d"]
        {
            assert!(until_at(wrong, now).is_err(), "{wrong}");
        }
    }
}
