//! Why a call failed, and what to tell a person.

use std::error::Error;
use std::fmt;

use super::address::Address;
use crate::model::FailureKind;
use crate::model::text::causes;
use crate::platform::PlatformError;
use crate::platform::scrub::{Scrubber, without_quotes};

/// The longest text of the engine that we pass on, in characters.
const MAX_TEXT: usize = 500;

/// What a call is for, in words: `list services`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// A verb and its object, for messages.
    pub words: &'static str,
    /// Whether the call changes something, so that a lost answer leaves its outcome open.
    pub writes: bool,
}

impl Act {
    /// A call that only reads.
    pub const fn read(words: &'static str) -> Act {
        Act { words, writes: false }
    }

    /// A call that changes something.
    pub const fn write(words: &'static str) -> Act {
        Act { words, writes: true }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words)
    }
}

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection: nothing was sent.
    #[error("{act}: cannot connect: {message}")]
    Connect {
        /// What was tried.
        act: Act,
        /// Why, in the system's words.
        message: String,
        /// The system's class of the error, when it has one.
        class: Option<std::io::ErrorKind>,
    },
    /// The connection broke after the request went out.
    #[error("{act}: the connection was lost: {message}")]
    Lost {
        /// What was tried.
        act: Act,
        /// Why.
        message: String,
    },
    /// No answer, or no end of it, in time.
    #[error("{act}: no answer within {} s", super::CALL_TIME.as_secs())]
    Silent {
        /// What was tried.
        act: Act,
    },
    /// The engine answered with an error.
    #[error("{act}: {} (HTTP {status})", one_line(&without_quotes(message)))]
    Refused {
        /// What was tried.
        act: Act,
        /// HTTP status.
        status: u16,
        /// The engine's words as they are: they may quote what was sent. [`CallError::clean`] before they are shown.
        message: String,
    },
    /// The answer makes no sense.
    #[error("{act}: the answer cannot be understood: {message}")]
    Answer {
        /// What was tried.
        act: Act,
        /// Why.
        message: String,
    },
}

impl CallError {
    /// An answer that is not the JSON it should be. The answer itself may hold secrets and is not shown.
    pub(super) fn answer(act: Act, error: &serde_json::Error) -> CallError {
        CallError::Answer { act, message: format!("{:?} error in JSON at byte {}", error.classify(), error.column()) }
    }

    /// What a failure of `bollard` means.
    pub fn of_bollard(act: Act, error: bollard::errors::Error) -> CallError {
        match error {
            bollard::errors::Error::HyperLegacyError { err } => of_client(act, &err),
            bollard::errors::Error::DockerResponseServerError { status_code, message } => {
                CallError::Refused { act, status: status_code, message }
            }
            bollard::errors::Error::RequestTimeoutError => CallError::Silent { act },
            bollard::errors::Error::JsonSerdeError { err } => CallError::answer(act, &err),
            other => CallError::Lost { act, message: other.to_string() },
        }
    }

    /// The error as it may be shown: without the values that the scrubber knows.
    pub(in crate::platform) fn clean(&self, scrubber: &Scrubber) -> CallError {
        let clean = |message: &String| one_line(&scrubber.clean(message));
        match self {
            CallError::Connect { act, message, class } => {
                CallError::Connect { act: *act, message: clean(message), class: *class }
            }
            CallError::Lost { act, message } => CallError::Lost { act: *act, message: clean(message) },
            CallError::Silent { act } => CallError::Silent { act: *act },
            CallError::Refused { act, status, message } => {
                CallError::Refused { act: *act, status: *status, message: clean(message) }
            }
            CallError::Answer { act, message } => CallError::Answer { act: *act, message: clean(message) },
        }
    }

    /// A connection that broke.
    pub(in crate::platform) fn lost(act: Act, error: &(dyn Error + 'static)) -> CallError {
        CallError::Lost { act, message: causes(error) }
    }

    /// The status and the words of an engine that answered.
    pub fn refusal(&self) -> Option<(u16, &str)> {
        match self {
            CallError::Refused { status, message, .. } => Some((*status, message)),
            CallError::Connect { .. }
            | CallError::Lost { .. }
            | CallError::Silent { .. }
            | CallError::Answer { .. } => None,
        }
    }

    /// Whether the engine refuses the API version of the call. It does so before it looks at anything else.
    pub(super) fn is_about_version(&self) -> bool {
        self.refusal().is_some_and(|(status, message)| {
            status == 400
                && message.contains("client version")
                && (message.contains("is too old") || message.contains("is too new"))
        })
    }

    /// Whether the engine says that the object does not exist.
    pub fn is_absent(&self) -> bool {
        self.refusal().is_some_and(|(status, _)| status == 404)
    }

    /// What it means for a step. Only an engine that answered has words to read, and each platform reads them in its
    /// own way: `refused` gets the act, the status and the message.
    pub fn kind(&self, refused: impl FnOnce(Act, u16, &str) -> FailureKind) -> FailureKind {
        match self {
            CallError::Connect { .. } => FailureKind::Unavailable,
            CallError::Lost { act, .. } | CallError::Silent { act } | CallError::Answer { act, .. } => {
                if act.writes {
                    FailureKind::Ambiguous
                } else {
                    FailureKind::Unavailable
                }
            }
            // Nothing is wrong with what was asked for, and the next call agrees on a version anew.
            CallError::Refused { .. } if self.is_about_version() => FailureKind::Unavailable,
            CallError::Refused { act, status, message } => refused(*act, *status, message),
        }
    }

    /// For people: what it means, and what to do about it.
    pub fn explain(&self, address: &Address) -> PlatformError {
        let (message, hint) = match self {
            CallError::Connect { message, class, .. } => (
                format!("no Docker Engine can be reached at {address}: {message}"),
                Some(match class {
                    Some(std::io::ErrorKind::PermissionDenied) => {
                        "run ofop as a user of the group `docker`, or as root"
                    }
                    Some(std::io::ErrorKind::NotFound) => {
                        "start Docker (systemctl start docker), or name another engine with --host"
                    }
                    Some(std::io::ErrorKind::InvalidData) => {
                        "check the certificates in DOCKER_CERT_PATH against those of the engine"
                    }
                    _ => "check that the Docker Engine runs there and that --host (DOCKER_HOST) names it",
                }),
            ),
            CallError::Refused { message, .. } => {
                (format!("the Docker Engine at {address} cannot {self}"), swarm_hint(message))
            }
            CallError::Lost { .. } | CallError::Silent { .. } | CallError::Answer { .. } => {
                (format!("the Docker Engine at {address} gave no proper answer: {self}"), None)
            }
        };
        PlatformError { message, hint: hint.map(str::to_owned) }
    }
}

/// Whether these words of an engine say that the cluster cannot decide anything at present.
pub fn without_leader(message: &str) -> bool {
    ["does not have a leader", "lost leader status", "no elected cluster leader", "context deadline exceeded"]
        .iter()
        .any(|words| message.to_lowercase().contains(words))
        || message.contains("DeadlineExceeded")
}

/// What to do about words of the engine that concern the swarm as a whole.
fn swarm_hint(message: &str) -> Option<&'static str> {
    if message.contains("Worker nodes") {
        return Some("point --host at a manager, or make this node one with `docker node promote` on a manager");
    }
    if message.contains("not a swarm manager") {
        return Some("make a swarm with `docker swarm init`, or point --host at a manager of one");
    }
    if message.contains("needs to be unlocked") {
        return Some("unlock the swarm with `docker swarm unlock`");
    }
    if without_leader(message) {
        return Some("the swarm has lost most of its managers: bring them back; `docker node ls` shows them");
    }
    None
}

/// What a failure of the HTTP client means.
pub(super) fn of_client(act: Act, error: &hyper_util::client::legacy::Error) -> CallError {
    if error.is_connect() {
        let inner = error.source().unwrap_or(error);
        return CallError::Connect { act, message: deepest(inner).to_string(), class: io_class(inner) };
    }
    CallError::lost(act, error)
}

/// The system's class of the first I/O error in a chain.
fn io_class(error: &(dyn Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

/// The cause of all causes.
fn deepest<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last
}

/// A text on one line, without control characters, cut to a sensible length.
pub(in crate::platform) fn one_line(text: &str) -> String {
    let mut line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect();
    if text.trim().chars().count() > MAX_TEXT {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> CallError {
        CallError::Refused { act: Act::read("list services"), status, message: message.into() }
    }

    #[test]
    fn people_are_told_what_to_do_about_a_missing_swarm() {
        let address = Address::Unix("/run/docker.sock".into());
        let hint = |message: &str| refused(503, message).explain(&address).hint;
        let none = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                    this node to swarm and try again.";
        assert!(hint(none).unwrap().contains("docker swarm init"));
        let worker = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.";
        assert!(hint(worker).unwrap().contains("promote"));
        let headless = "The swarm does not have a leader. It's possible that too few managers are online.";
        assert!(hint(headless).unwrap().contains("managers"));
        assert_eq!(hint("anything else"), None);
    }

    #[test]
    fn people_are_told_about_permissions() {
        let address = Address::Unix("/run/docker.sock".into());
        let class = Some(std::io::ErrorKind::PermissionDenied);
        let error = CallError::Connect { act: Act::read("version"), message: "Permission denied".into(), class };
        let told = error.explain(&address);
        assert!(told.message.contains("unix:///run/docker.sock"));
        assert!(told.hint.unwrap().contains("group `docker`"));
    }

    #[test]
    fn a_lost_answer_is_ambiguous_only_for_a_call_that_writes() {
        let unread = |_: Act, _: u16, _: &str| -> FailureKind { unreachable!("nothing was answered") };
        for (act, kind) in [
            (Act::write("create a service"), FailureKind::Ambiguous),
            (Act::read("read a service"), FailureKind::Unavailable),
        ] {
            assert_eq!(CallError::Silent { act }.kind(unread), kind);
            assert_eq!(CallError::Lost { act, message: String::new() }.kind(unread), kind);
            assert_eq!(CallError::Answer { act, message: String::new() }.kind(unread), kind);
            // Nothing was sent.
            let connect = CallError::Connect { act, message: String::new(), class: None };
            assert_eq!(connect.kind(unread), FailureKind::Unavailable);
        }
    }

    #[test]
    fn what_an_engine_answered_is_read_by_whoever_asked() {
        let kind = refused(418, "odd").kind(|act, status, message| {
            assert_eq!((act, status, message), (Act::read("list services"), 418, "odd"));
            FailureKind::Conflict
        });
        assert_eq!(kind, FailureKind::Conflict);
    }

    #[test]
    fn long_and_wild_texts_become_one_short_line() {
        let line = one_line(&format!("a\nb\u{1b}[0m{}", "x".repeat(5_000)));
        assert!(line.starts_with("a b [0mx") && line.chars().count() == MAX_TEXT + 1);
    }
}
