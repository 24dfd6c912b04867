//! What came of a delivery: pure.

use std::time::Duration;

use super::message::Payload;
use super::settings::{HostKind, Sink};
use crate::model::text::cut;

/// How many characters of an answer are told.
const TOLD: usize = 200;

/// The longest time that a receiver may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The first and the longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// After so many tries a message that the receiver refuses as it is makes room for the next one.
const TRIES: u32 = 5;

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered(String),
    /// It may have it another time, or once the settings are right.
    Failed {
        /// Why.
        reason: String,
        /// What to do.
        hint: &'static str,
        /// How long the receiver asks us to wait.
        after: Option<Duration>,
    },
    /// The receiver refuses this message as it is.
    Refused {
        /// Why.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
}

impl Outcome {
    /// It may work another time.
    pub fn failed(reason: impl Into<String>, hint: &'static str) -> Self {
        Outcome::Failed { reason: reason.into(), hint, after: None }
    }

    /// Whether the message is to be given up after so many tries.
    pub fn gives_up(&self, tries: u32) -> bool {
        matches!(self, Outcome::Refused { .. }) && tries >= TRIES
    }

    /// How long to wait before the next try, after so many failures in a row.
    pub fn pause(&self, failures: u32) -> Duration {
        let pause =
            FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(LONGEST_PAUSE);
        match self {
            Outcome::Failed { after: Some(after), .. } => pause.max((*after).min(LONGEST_WAIT)),
            Outcome::Delivered(_) | Outcome::Failed { .. } | Outcome::Refused { .. } => pause,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
    /// The beginning of its body.
    pub body: String,
}

/// What an answer means.
pub fn judge(sink: &Sink, payload: &Payload, answer: &Answer) -> Outcome {
    let Answer { status, retry_after, body } = answer;
    let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
    let reason = match line.as_str() {
        "" => format!("HTTP {status}"),
        line => format!("HTTP {status}: {}", cut(line, TOLD)),
    };
    let failed = |hint| Outcome::Failed { reason: reason.clone(), hint, after: *retry_after };
    let host = match sink {
        Sink::Commit(host) => Some(host.kind),
        _ => None,
    };
    match status {
        200..=299 => Outcome::Delivered(reason),
        // GitLab knows no step from a state to the same one: it says already what we want to say.
        400 if host == Some(HostKind::GitLab) && line.contains("Cannot transition status") => {
            Outcome::Delivered(reason)
        }
        300..=399 => failed("it redirects, which is not followed: name the final address"),
        401 | 403 => failed("check the token, its rights and its end"),
        404 | 410 if matches!(payload, Payload::Commit(_)) => {
            Outcome::Refused { reason, hint: "check repository and rights of the token; is the commit there?" }
        }
        404 | 410 => failed("nobody is at this address any more: make a new one and name it"),
        408 | 425 | 429 | 500..=599 => failed("it is tried again"),
        _ => Outcome::Refused { reason, hint: "the receiver takes no such message" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::notify::message::{CommitState, CommitStatus};
    use crate::notify::settings::Host;

    fn commit() -> Payload {
        Payload::Commit(CommitStatus {
            commit: "c".into(),
            state: CommitState::Pending,
            description: String::new(),
            link: None,
            instance: "default".into(),
        })
    }

    fn judged(status: u16, body: &str) -> Outcome {
        let url = String::from("https://git.example");
        let host =
            Host { kind: HostKind::GitLab, url, repository: "a/b".into(), token: Secret::new("t"), context: None };
        judge(&Sink::Commit(host), &commit(), &Answer { status, retry_after: None, body: body.into() })
    }

    #[test]
    fn answers_mean_what_their_receivers_say_of_them() {
        let said = r#"{"message":"Cannot transition status via :enqueue from :pending"}"#;
        assert!(matches!(judged(201, ""), Outcome::Delivered(_)));
        assert!(matches!(judged(400, said), Outcome::Delivered(_)));
        assert!(matches!(judged(400, "else"), Outcome::Refused { .. }));
        assert!(matches!(judged(404, ""), Outcome::Refused { .. }));
        for status in [301, 401, 403, 408, 429, 500, 503] {
            assert!(matches!(judged(status, ""), Outcome::Failed { .. }), "{status}");
        }
        let Outcome::Failed { reason, .. } = judged(500, &"x\n".repeat(5_000)) else { panic!() };
        assert!(reason.chars().count() < 250, "{reason}");
    }

    #[test]
    fn pauses_grow_to_a_bound_and_a_receiver_may_ask_for_more() {
        let failed = Outcome::failed("x", "y");
        let pauses: Vec<u64> =
            [1, 2, 3, 9, 10, 1_000].iter().map(|failures| failed.pause(*failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 256, 300, 300]);
        let asked = |seconds| {
            let after = Some(Duration::from_secs(seconds));
            Outcome::Failed { reason: String::new(), hint: "", after }.pause(1).as_secs()
        };
        assert_eq!([asked(0), asked(30), asked(86_400)], [1, 30, 600]);
        let refused = Outcome::Refused { reason: String::new(), hint: "" };
        assert!(!refused.gives_up(4) && refused.gives_up(5) && !failed.gives_up(1_000));
    }
}
