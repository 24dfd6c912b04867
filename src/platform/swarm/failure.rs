//! What an engine's refusal means for a step. Pure.
//!
//! The status alone does not tell: an old version, a missing network and a lost leader are all 500.

use crate::model::{FailureKind, ServiceSpec, StepFailure};
use crate::platform::engine::{Act, CallError, without_leader};
use crate::platform::scrub::Scrubber;

/// Classifies a failed call about one service, whose values must not be repeated.
pub fn classify(error: &CallError, spec: Option<&ServiceSpec>) -> StepFailure {
    let scrubber = spec.map(Scrubber::of).unwrap_or_default();
    StepFailure::new(error.kind(refusal), error.clean(&scrubber).to_string())
}

fn refusal(act: Act, status: u16, message: &str) -> FailureKind {
    let says = |words: &str| message.contains(words);
    if says("update out of sequence") {
        return FailureKind::Conflict;
    }
    if names_missing_network(message) {
        return FailureKind::Dependency;
    }
    // Nothing was begun: there is nobody to begin it.
    if says("does not have a leader") || says("no elected cluster leader") {
        return FailureKind::Unavailable;
    }
    match status {
        404 => FailureKind::Gone,
        409 => FailureKind::Exists,
        503 => FailureKind::Unavailable,
        400..=499 | 501 => FailureKind::Rejected,
        _ if says("too large") || says("ResourceExhausted") || says("InvalidArgument") => FailureKind::Rejected,
        _ if !act.writes => FailureKind::Unavailable,
        // A manager looked at the request and did not like it, e.g. an invalid constraint.
        _ if says("code = Unknown desc = ") && !in_flight(message) => FailureKind::Rejected,
        _ => FailureKind::Ambiguous,
    }
}

/// Whether these words are `network NAME not found`. Both words may stand anywhere else, such as in an image's name or
/// in a value that is quoted.
fn names_missing_network(message: &str) -> bool {
    let words: Vec<&str> = message.split_whitespace().collect();
    words.windows(4).any(|words| words[0] == "network" && words[2] == "not" && words[3].starts_with("found"))
}

/// Whether the managers failed one another with the change in flight: another leader may still carry it out.
fn in_flight(message: &str) -> bool {
    ["leader", "raft", "transport", "connection", "deadline", "cancel", "EOF", "stopped"]
        .iter()
        .any(|word| message.contains(word))
}

/// Whether the failure says something about the cluster as a whole, so that what was read may be stale.
pub fn casts_doubt(error: &CallError) -> bool {
    match error {
        CallError::Connect { .. } | CallError::Lost { .. } | CallError::Silent { .. } | CallError::Answer { .. } => {
            true
        }
        CallError::Refused { status, message, .. } => *status == 503 || without_leader(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceName;
    use crate::model::service::EnvVar;

    const CREATE: Act = Act::write("create a service");
    const READ: Act = Act::read("read a service");

    fn refused(act: Act, status: u16, message: &str) -> FailureKind {
        classify(&CallError::Refused { act, status, message: message.into() }, None).kind
    }

    #[test]
    fn the_engines_words_decide_where_its_status_does_not() {
        let rpc = "rpc error: code = Unknown desc = ";
        for (status, message, kind) in [
            (500, format!("{rpc}update out of sequence"), FailureKind::Conflict),
            (409, format!("{rpc}name conflicts with an existing object"), FailureKind::Exists),
            (404, "service x not found".into(), FailureKind::Gone),
            (400, "port '80' is already in use by service".into(), FailureKind::Rejected),
            (501, "service mode change is not allowed".into(), FailureKind::Rejected),
            (500, "network nonet not found".into(), FailureKind::Dependency),
            (404, "network nonet not found".into(), FailureKind::Dependency),
            (400, format!("{rpc}expanding env \"A=network is not found\""), FailureKind::Rejected),
            (503, "This node is not a swarm manager.".into(), FailureKind::Unavailable),
            (500, format!("{rpc}The swarm does not have a leader."), FailureKind::Unavailable),
            (500, format!("{rpc}constraint expected one operator from ==, !="), FailureKind::Rejected),
            (500, format!("{rpc}node lost leader status"), FailureKind::Ambiguous),
            (500, "something else".into(), FailureKind::Ambiguous),
            (500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded".into(), FailureKind::Ambiguous),
            (500, format!("{rpc}raft: raft message is too large and can't be sent"), FailureKind::Rejected),
        ] {
            assert_eq!(refused(CREATE, status, &message), kind, "{status} {message}");
        }
        assert_eq!(refused(READ, 500, "rpc error: code = DeadlineExceeded"), FailureKind::Unavailable);
    }

    #[test]
    fn values_of_the_environment_are_taken_out_of_the_engines_words() {
        let mut spec = ServiceSpec::new(ServiceName::new("a").unwrap(), "i");
        spec.env = vec![EnvVar::new("TOKEN", "hunter2"), EnvVar::new("PIN", "42"), EnvVar::new("TEXT", "a \"b\"\nc")];
        let message = "invalid: hunter2, PIN=42 of 42, \"a \\\"b\\\"\\nc\"".to_owned();
        let error = CallError::Refused { act: CREATE, status: 400, message };
        let said = classify(&error, Some(&spec)).message;
        assert!(!said.contains("hunter2") && !said.contains("PIN=42") && !said.contains("b\\\""), "{said}");
        assert!(said.contains("PIN=<hidden> of 42"), "{said}");
    }
}
