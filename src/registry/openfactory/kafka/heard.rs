//! What librdkafka says of its connections. The code of a call that failed seldom tells why: a wrong password, a
//! certificate that nobody trusts and a broker that is away are all the same timeout. The reason is told aside.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::KafkaSettings;
use crate::registry::RegistryError;

/// What went wrong last between a client and its brokers; copies share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Trouble>>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    kind: TroubleKind,
    words: String,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TroubleKind {
    /// The broker does not accept who we are.
    Credentials,
    /// The broker's certificate is not trusted.
    Certificate,
    /// One side speaks TLS and the other does not, or SASL is expected and not offered.
    Protocol,
    /// Something else about TLS.
    Tls,
    /// The name of the broker cannot be resolved.
    Name,
    /// No connection.
    Away,
}

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(trouble) = error.rdkafka_error_code().and_then(|code| understand(code, reason)) {
            tracing::debug!(reason = trouble.words, "Kafka");
            *self.lock() = Some(trouble);
        }
    }

    /// A connection that the broker closes is told nowhere else.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL"
            && let Some(trouble) = understand_closed(message)
        {
            tracing::debug!(reason = trouble.words, "Kafka");
            *self.lock() = Some(trouble);
        }
    }
}

impl ConsumerContext for Heard {}

impl Heard {
    /// All is well again.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    /// Whether waiting longer will not help.
    pub(super) fn is_decided(&self) -> bool {
        self.lock().as_ref().is_some_and(|trouble| match trouble.kind {
            TroubleKind::Credentials
            | TroubleKind::Certificate
            | TroubleKind::Protocol
            | TroubleKind::Tls
            | TroubleKind::Name => true,
            TroubleKind::Away => false,
        })
    }

    /// In librdkafka's words.
    pub(super) fn words(&self) -> Option<String> {
        self.lock().as_ref().map(|trouble| trouble.words.clone())
    }

    /// Why Kafka cannot be used, and what to do about it.
    pub(super) fn explain(&self, error: &KafkaError, brokers: &str) -> RegistryError {
        let trouble = self.lock().clone();
        let hint = match trouble.as_ref().map_or(TroubleKind::Away, |trouble| trouble.kind) {
            TroubleKind::Credentials => {
                "are KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD (or KAFKA_SASL_PASSWORD_FILE) right, and does the \
                 broker offer KAFKA_SASL_MECHANISM?"
                    .to_owned()
            }
            TroubleKind::Certificate => "KAFKA_SSL_CA_LOCATION must name a PEM file with the authority that signed \
                                         the brokers' certificates, and these must hold the name in KAFKA_BROKER"
                .to_owned(),
            TroubleKind::Protocol => format!(
                "one side speaks TLS or SASL and the other does not: KAFKA_SECURITY_PROTOCOL (PLAINTEXT, SSL, \
                 SASL_PLAINTEXT or SASL_SSL) must be what the listener at {brokers} speaks, and that must be a broker's"
            ),
            TroubleKind::Tls => format!(
                "does the listener at {brokers} speak TLS, and does it want a certificate from its clients \
                 (KAFKA_SSL_CERTIFICATE_LOCATION, KAFKA_SSL_KEY_LOCATION)?"
            ),
            TroubleKind::Name => format!("is KAFKA_BROKER={brokers} right?"),
            TroubleKind::Away => format!(
                "is a broker running at KAFKA_BROKER={brokers}, and does it want TLS or SASL \
                 (KAFKA_SECURITY_PROTOCOL, …)?"
            ),
        };
        let why = trouble.map_or_else(|| reason(error), |trouble| trouble.words);
        RegistryError { message: format!("Kafka cannot be used: {why}"), hint: Some(hint) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why no client can be made with these settings, and which one is to blame.
pub(super) fn unmakeable(error: &KafkaError, settings: &KafkaSettings) -> RegistryError {
    let why = match error {
        KafkaError::ClientCreation(why) => why.clone(),
        other => reason(other),
    };
    // Those whose values are no secret.
    let option = ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "security.protocol"]
        .into_iter()
        .chain(["sasl.mechanism", "sasl.username", "ssl.endpoint.identification.algorithm", "client.id"])
        .find(|option| why.contains(option))
        .or_else(|| why.contains("SASL mechanism").then_some("sasl.mechanism"));
    let hint = match option {
        Some(option) => {
            let value = settings.options.get(option).map(String::as_str).unwrap_or_default();
            let name = option.to_uppercase().replace('.', "_");
            let file = option.ends_with("location").then(|| std::fs::metadata(value));
            match file {
                Some(Err(missing)) => format!("KAFKA_{name} names {value}: {missing}"),
                Some(Ok(_)) => format!("does {value}, which KAFKA_{name} names, hold what it should, in PEM?"),
                None => format!("check KAFKA_{name}={value}"),
            }
        }
        None => "check the settings that begin with KAFKA_SSL_ and KAFKA_SASL_".to_owned(),
    };
    RegistryError { message: format!("Kafka cannot be used: {}", tidy(&why)), hint: Some(hint) }
}

/// librdkafka's word for an error that a call returned: it holds no credentials.
pub(super) fn reason(error: &KafkaError) -> String {
    match (error, error.rdkafka_error_code()) {
        // With the name of the option and without its value.
        (KafkaError::ClientConfig(_, problem, option, _), _) => format!("{problem} ({option})"),
        (_, Some(code)) => words_of(code),
        (_, None) => error.to_string(),
    }
}

/// `MessageTimedOut (Local: Message timed out)` in its words alone.
pub(super) fn words_of(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    let words = text.split_once(" (").and_then(|(_, words)| words.strip_suffix(')'));
    words.and_then(|words| words.split_once(": ")).map_or(text.clone(), |(_, words)| words.to_owned())
}

/// None for what says nothing new: that all brokers are down is the sum of what was said of each.
fn understand(code: RDKafkaErrorCode, reason: &str) -> Option<Trouble> {
    let kind = match code {
        RDKafkaErrorCode::AllBrokersDown => return None,
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::UnsupportedSASLMechanism => TroubleKind::Credentials,
        _ if reason.contains("PLAINTEXT broker") => TroubleKind::Protocol,
        // The beginning of an answer in TLS or HTTP, read as its length.
        _ if reason.contains("Invalid response size") => TroubleKind::Protocol,
        RDKafkaErrorCode::SSL if reason.contains("certificate verify failed") => TroubleKind::Certificate,
        RDKafkaErrorCode::SSL => TroubleKind::Tls,
        RDKafkaErrorCode::Resolve => TroubleKind::Name,
        _ => TroubleKind::Away,
    };
    Some(Trouble { kind, words: tidy(reason) })
}

/// A connection that is closed within so many milliseconds was not understood; a later one is an outage.
const AT_ONCE: u64 = 1000;

/// What a log line about a connection that was closed means: `[thrd:b:1/bootstrap]: b:1/bootstrap: Disconnected:
/// connection closed by peer: receive 0 after POLLIN (after 1ms in state APIVERSION_QUERY)`. A broker that expects TLS
/// closes it after the first request, one that expects SASL after the second.
fn understand_closed(message: &str) -> Option<Trouble> {
    let (words, state) = message.split_once(" (after ")?;
    let words = words.split_once("]: ").map_or(words, |(_, words)| words);
    let (time, state) = state.split_once("ms in state ")?;
    let at_once = time.parse().is_ok_and(|milliseconds: u64| milliseconds < AT_ONCE);
    let early = state.starts_with("APIVERSION_QUERY") || state.starts_with("UP");
    if !(words.contains("Disconnected") && at_once && early) {
        return None;
    }
    let words = words.split_once(": receive ").map_or(words, |(words, _)| words);
    Some(Trouble { kind: TroubleKind::Protocol, words: words.to_owned() })
}

/// Without what differs from one time to the next, and without the codes and the advice of libraries.
fn tidy(reason: &str) -> String {
    let ends = [" (after ", " (connection ", " (_TRANSPORT)", ", verify that ssl.ca.location", ": increase"];
    let end = ends.iter().filter_map(|mark| reason.find(mark)).min().unwrap_or(reason.len());
    let text = reason.get(..end).unwrap_or(reason);
    // `error:0A000086:SSL routines::certificate verify failed`
    match (text.find("error:"), text.rfind("::")) {
        (Some(code), Some(words)) if code < words => format!("{}{}", &text[..code], &text[words + 2..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_without_what_changes_and_say_what_to_do() {
        use RDKafkaErrorCode as Code;
        for (code, reason, kind, words) in [
            (
                Code::SSL,
                "ssl://b:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: \
                 broker certificate could not be verified, verify that ssl.ca.location is correctly configured or \
                 root CA certificates are installed (install ca-certificates package) (after 7ms in state SSL)",
                TroubleKind::Certificate,
                "ssl://b:1/bootstrap: SSL handshake failed: certificate verify failed: broker certificate could not be \
                 verified",
            ),
            (
                Code::SSL,
                "b:1: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener? (after 1ms)",
                TroubleKind::Protocol,
                "b:1: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
            ),
            (
                Code::BadMessage,
                "b:1: Receive failed: Invalid response size 1213486160 (0..100000000): increase \
                 receive.message.max.bytes (after 1ms)",
                TroubleKind::Protocol,
                "b:1: Receive failed: Invalid response size 1213486160 (0..100000000)",
            ),
            (Code::Resolve, "b:1: Failed to resolve 'b:1'", TroubleKind::Name, "b:1: Failed to resolve 'b:1'"),
            (
                Code::BrokerTransportFailure,
                "b:1: Connection refused (after 2ms)",
                TroubleKind::Away,
                "b:1: Connection refused",
            ),
        ] {
            assert_eq!(understand(code, reason), Some(Trouble { kind, words: words.into() }));
        }
        assert_eq!(understand(Code::AllBrokersDown, "1/1 brokers are down"), None);
        let closed = |state: &str| {
            let line =
                "[thrd:b:1/bootstrap]: b:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN";
            understand_closed(&format!("{line} (after {state})")).map(|trouble| (trouble.kind, trouble.words))
        };
        let words = "b:1/bootstrap: Disconnected: connection closed by peer".to_owned();
        assert_eq!(closed("1ms in state APIVERSION_QUERY"), Some((TroubleKind::Protocol, words.clone())));
        assert_eq!(closed("3ms in state UP, 1 identical error(s) suppressed"), Some((TroubleKind::Protocol, words)));
        assert_eq!(closed("360000ms in state UP"), None, "a broker that is stopped");
    }

    #[test]
    fn codes_are_told_in_words() {
        assert_eq!(words_of(RDKafkaErrorCode::MessageTimedOut), "Message timed out");
        assert_eq!(words_of(RDKafkaErrorCode::TopicAuthorizationFailed), "Topic authorization failed");
    }

    #[test]
    fn a_value_that_may_be_secret_is_not_shown() {
        let settings = KafkaSettings {
            brokers: "b:1".into(),
            options: [("ssl.key.password".to_owned(), "s3cret".to_owned())].into(),
        };
        let error = KafkaError::ClientCreation("ssl.key.password failed".into());
        let found = unmakeable(&error, &settings);
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
    }
}
