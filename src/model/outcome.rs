//! What became of a step.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a call failed, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Somebody else changed the object since it was read: observe and plan again at once, no error.
    Conflict,
    /// The name is taken: observe and plan again.
    Exists,
    /// The object is gone: observe and plan again.
    Gone,
    /// The other side refuses the request as it is; only another manifest (or a person) helps.
    Rejected,
    /// Something that it needs does not exist yet, e.g. a network.
    Dependency,
    /// No answer, no leader, no connection before the request was sent: nothing happened.
    Unavailable,
    /// The answer was lost: it may have worked. Look before acting again.
    Ambiguous,
    /// We lost the right to act between planning and acting.
    Revoked,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [FailureKind; 8] = [
        FailureKind::Conflict,
        FailureKind::Exists,
        FailureKind::Gone,
        FailureKind::Rejected,
        FailureKind::Dependency,
        FailureKind::Unavailable,
        FailureKind::Ambiguous,
        FailureKind::Revoked,
    ];

    /// The word, as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Conflict => "conflict",
            FailureKind::Exists => "exists",
            FailureKind::Gone => "gone",
            FailureKind::Rejected => "rejected",
            FailureKind::Dependency => "dependency",
            FailureKind::Unavailable => "unavailable",
            FailureKind::Ambiguous => "ambiguous",
            FailureKind::Revoked => "revoked",
        }
    }

    /// Whether this is part of normal life: the next pass looks again at once, without backoff or alarm.
    pub fn is_race(self) -> bool {
        match self {
            FailureKind::Conflict | FailureKind::Exists | FailureKind::Gone => true,
            FailureKind::Rejected
            | FailureKind::Dependency
            | FailureKind::Unavailable
            | FailureKind::Ambiguous
            | FailureKind::Revoked => false,
        }
    }
}

/// A step that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StepFailure {
    /// What follows from it.
    pub kind: FailureKind,
    /// A sentence for people. Never holds an environment value or a credential.
    pub message: String,
    /// How long before the failure the call was sent whose outcome is open; zero where nobody measured it.
    pub since_sent: Duration,
}

impl StepFailure {
    /// A failure.
    pub fn new(kind: FailureKind, message: impl fmt::Display) -> Self {
        StepFailure { kind, message: message.to_string(), since_sent: Duration::ZERO }
    }
}
