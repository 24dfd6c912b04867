//! What the operator writes down beside the cluster's objects, because nothing else there remembers it: what people
//! told it, and what the engine undid.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::{ResourceId, ServiceName};

/// Notes by key. Keys that nobody here knows belong to somebody else (another version), and stay.
pub type Notes = BTreeMap<String, String>;

/// Changes of notes, by key; a note without a text is taken away.
pub type NoteEdits = BTreeMap<String, Option<String>>;

/// How many bytes all notes take at most, keys included. Swarm keeps them in one object, which travels whole through
/// its raft log (1.5 MiB a message) with every change.
pub const MAX_NOTES_BYTES: usize = 256 * 1024;

/// What is known of the notes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotesView {
    /// They were read.
    Read {
        /// Grows with every change; 0 when there is nothing in which to note anything.
        version: u64,
        /// All of them.
        notes: Arc<Notes>,
    },
    /// None can be kept here; a sentence why. There never were any.
    Unsupported(String),
    /// They could not be read; a sentence why. There may be some.
    Unread(String),
}

impl Default for NotesView {
    /// Nothing is noted.
    fn default() -> Self {
        NotesView::Read { version: 0, notes: Arc::default() }
    }
}

/// What a note is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Everything is suspended. Its text: since when, RFC 3339.
    SuspendedAll,
    /// A person suspended this resource. Its text: since when, RFC 3339.
    Suspended(ResourceId),
    /// A person had changes from manifests wait, for everything.
    Freeze,
    /// A person took this resource down: it stays away. Its text: since when, RFC 3339.
    TakenDown(ResourceId),
    /// A person said that this resource may be taken over. Its text: from which instance, or nothing.
    Adopting(ResourceId),
    /// The engine undid an update of this service. Its text: what had been asked for.
    RolledBack(ServiceName),
    /// A change of this resource goes out. Its text: [`super::rollout::Going`].
    Going(ResourceId),
    /// A person let the changes of this resource out, whatever its windows say. Its text: nothing.
    Started(ResourceId),
    /// A person gave up the rollout of a revision. Its text: the revision.
    RolloutAborted,
    /// An update of this service, which the engine may undo, is about to be sent or was. Its text: what is asked for, and
    /// of which service in which state.
    Attempted(ServiceName),
}

impl Note {
    /// The key under which it is kept.
    pub fn key(&self) -> String {
        match self {
            Note::SuspendedAll => "suspended".into(),
            Note::Freeze => "freeze".into(),
            Note::Suspended(id) => format!("suspended/{id}"),
            Note::TakenDown(id) => format!("taken-down/{id}"),
            Note::Adopting(id) => format!("adopting/{id}"),
            Note::RolledBack(service) => format!("rolled-back/{service}"),
            Note::Attempted(service) => format!("attempted/{service}"),
            Note::Going(id) => format!("going/{id}"),
            Note::RolloutAborted => "rollout-aborted".into(),
            Note::Started(id) => format!("started/{id}"),
        }
    }

    /// What a key is about; none for somebody else's.
    pub fn of(key: &str) -> Option<Note> {
        match key.split_once('/') {
            None if key == "suspended" => Some(Note::SuspendedAll),
            None if key == "rollout-aborted" => Some(Note::RolloutAborted),
            None if key == "freeze" => Some(Note::Freeze),
            Some(("suspended", id)) => id.parse().ok().map(Note::Suspended),
            Some(("taken-down", id)) => id.parse().ok().map(Note::TakenDown),
            Some(("started", id)) => id.parse().ok().map(Note::Started),
            Some(("going", id)) => id.parse().ok().map(Note::Going),
            Some(("adopting", id)) => id.parse().ok().map(Note::Adopting),
            Some(("rolled-back", name)) => service(name).map(Note::RolledBack),
            Some(("attempted", name)) => service(name).map(Note::Attempted),
            Some(_) | None => None,
        }
    }
}

/// The service of exactly this name.
fn service(name: &str) -> Option<ServiceName> {
    ServiceName::new(name).ok().filter(|service| service.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_again_under_its_key() {
        let notes = [
            Note::SuspendedAll,
            Note::Freeze,
            Note::Suspended("device/odd /ü%?#".parse().unwrap()),
            Note::TakenDown("device/odd /ü%?#".parse().unwrap()),
            Note::Adopting("app/ONE".parse().unwrap()),
            Note::Going("app/ONE".parse().unwrap()),
            Note::RolloutAborted,
            Note::Started("app/ONE".parse().unwrap()),
            Note::RolledBack(ServiceName::new("cnc-1-agent").unwrap()),
            Note::Attempted(ServiceName::new("cnc-1-agent").unwrap()),
        ];
        for note in notes {
            assert_eq!(Note::of(&note.key()), Some(note));
        }
        for others in [
            "",
            "lease",
            "freeze/",
            "suspended/",
            "suspended/pod/x",
            "taken-down",
            "rolled-back/",
            "rolled-back/UPPER",
            "suspend",
        ] {
            assert_eq!(Note::of(others), None, "{others}");
        }
    }
}
