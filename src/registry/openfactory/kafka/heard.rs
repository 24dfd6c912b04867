//! What librdkafka says of its connections. The code of a call that failed seldom tells why: a wrong password, a
//! certificate that nobody trusts and a broker that is away are all the same timeout. The reason is told aside.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

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

    // What matters of it comes as an error as well.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
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
                 SASL_PLAINTEXT or SASL_SSL) must be what the listener at {brokers} speaks"
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

/// librdkafka's word for an error that a call returned: it holds no credentials.
pub(super) fn reason(error: &KafkaError) -> String {
    match (error, error.rdkafka_error_code()) {
        // With the name of the option and without its value.
        (KafkaError::ClientConfig(_, problem, option, _), _) => format!("{problem} ({option})"),
        (_, Some(code)) => code.to_string(),
        (_, None) => error.to_string(),
    }
}

/// None for what says nothing new: that all brokers are down is the sum of what was said of each.
fn understand(code: RDKafkaErrorCode, reason: &str) -> Option<Trouble> {
    let kind = match code {
        RDKafkaErrorCode::AllBrokersDown => return None,
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::UnsupportedSASLMechanism => TroubleKind::Credentials,
        RDKafkaErrorCode::SSL if reason.contains("PLAINTEXT") => TroubleKind::Protocol,
        RDKafkaErrorCode::SSL if reason.contains("certificate verify failed") => TroubleKind::Certificate,
        RDKafkaErrorCode::SSL => TroubleKind::Tls,
        RDKafkaErrorCode::Resolve => TroubleKind::Name,
        _ if reason.contains("security.protocol") => TroubleKind::Protocol,
        _ => TroubleKind::Away,
    };
    Some(Trouble { kind, words: tidy(reason).to_owned() })
}

/// Without what differs from one time to the next.
fn tidy(reason: &str) -> &str {
    let end = [" (after ", " (connection ", " (_TRANSPORT)"].iter().filter_map(|mark| reason.find(mark)).min();
    reason.get(..end.unwrap_or(reason.len())).unwrap_or(reason)
}
