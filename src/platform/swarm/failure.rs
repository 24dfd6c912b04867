//! What an engine's refusal means for a step. Pure.
//!
//! The status alone does not tell: an old version, a missing network and a lost leader are all 500.

use crate::model::service::Mount;
use crate::model::{FailureKind, ServiceSpec, StepFailure};
use crate::platform::engine::{Act, CallError, without_leader};

/// Values shorter than this are not searched for in the engine's words: they would be found everywhere, and
/// `NAME=value` is hidden whatever its length.
const SHORTEST_SECRET: usize = 4;

/// Classifies a failed call about one service. `hidden` is what must not be repeated.
pub fn classify(error: &CallError, spec: Option<&ServiceSpec>) -> StepFailure {
    StepFailure::new(error.kind(refusal), scrub(&error.to_string(), spec))
}

fn refusal(act: Act, status: u16, message: &str) -> FailureKind {
    let says = |words: &str| message.contains(words);
    if says("update out of sequence") {
        return FailureKind::Conflict;
    }
    if says("network") && says("not found") {
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

/// Takes values of the environment and of volume options out of a text of the engine's.
pub(in crate::platform) fn scrub(text: &str, spec: Option<&ServiceSpec>) -> String {
    const HIDDEN: &str = "<hidden>";
    let Some(spec) = spec else { return text.to_owned() };
    let mut clean = text.to_owned();
    for variable in spec.env.iter().filter(|variable| !variable.value.is_empty()) {
        clean = clean.replace(&variable.joined(), &format!("{}={HIDDEN}", variable.name));
    }
    let mut secrets: Vec<&str> = spec.env.iter().map(|variable| variable.value.as_str()).collect();
    for mount in &spec.mounts {
        match mount {
            Mount::Volume { options, .. } => secrets.extend(options.values().map(String::as_str)),
            Mount::Bind { .. } | Mount::Other { .. } => {}
        }
    }
    // Longest first, so that a value inside another one leaves no rest of it.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
        // As it is, and as Go and JSON quote it.
        let quoted = serde_json::to_string(secret).unwrap_or_default();
        clean = clean.replace(quoted.trim_matches('"'), HIDDEN).replace(secret, HIDDEN);
    }
    clean
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
