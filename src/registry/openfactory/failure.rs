//! Why ksqlDB gave no answer that can be used, in classes that decide what happens next. Pure.
//!
//! | class | what the server sends | what follows |
//! |---|---|---|
//! | passing | 429, 503, 500 of a query, 400 `Error starting pull query: …`, a lost connection | the reading begins anew |
//! | passing or missing | 400 `… table isn't queryable`, `… does not exist` | the same, with a hint for both |
//! | refusing | 400 of the planner, 500 `statement_error` of a statement | nothing is repeated |
//! | unauthorised | 401, 403 | nothing is repeated |
//!
//! The bodies are those of ksqlDB 7.7.0; the tests read them from `tests/ksqldb_wire`.

use reqwest::StatusCode;
use serde::Deserialize;

use crate::registry::RegistryError;

/// How long a query or statement may take, to the last byte: pull queries can hang (ksql#9161).
pub(super) const CALL_TIME: std::time::Duration = std::time::Duration::from_secs(10);
/// The longest part of a server's message that is shown, in characters.
const MAX_MESSAGE: usize = 300;

/// Which of the server's two doors a statement went through: the same status means different things behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `/query`: pull queries.
    Query,
    /// `/ksql`: `DESCRIBE` and `CREATE`.
    Ksql,
}

impl Endpoint {
    pub(super) fn path(self) -> &'static str {
        match self {
            Endpoint::Query => "/query",
            Endpoint::Ksql => "/ksql",
        }
    }
}

/// Why ksqlDB gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KsqlError {
    /// No connection.
    #[error("ksqlDB cannot be reached: {0}")]
    Unreachable(String),
    /// TLS could not be agreed on.
    #[error("no secure connection to ksqlDB: {0}")]
    Tls(String),
    /// What answers does not speak HTTP.
    #[error("what answers for ksqlDB does not speak HTTP")]
    NotHttp,
    /// 401 or 403.
    #[error("ksqlDB refuses the credentials (HTTP {0})")]
    Refused(u16),
    /// It takes too long.
    #[error("ksqlDB did not answer within {} s", CALL_TIME.as_secs())]
    Silent,
    /// It starts, stops or rebalances: later, perhaps.
    #[error("ksqlDB is not ready (HTTP {status}): {message}")]
    NotReady {
        /// HTTP status.
        status: u16,
        /// The server's reason.
        message: String,
    },
    /// The table has no state that a pull query could read: now, while its query stops, or ever.
    #[error("ksqlDB cannot read the table: {0}")]
    NotQueryable(String),
    /// A source, or the topic that it needs, does not exist: now, while the server stops, or at all.
    #[error("ksqlDB does not have it: {0}")]
    Missing(String),
    /// It does not accept the statement.
    #[error("ksqlDB refuses the statement ({code}): {message}")]
    Statement {
        /// Its error code.
        code: i64,
        /// The server's reason.
        message: String,
    },
    /// It failed while it answered.
    #[error("ksqlDB failed while it answered ({code}): {message}")]
    Failed {
        /// Its error code.
        code: i64,
        /// The server's reason.
        message: String,
    },
    /// The answer stopped before its end.
    #[error("the answer of ksqlDB was cut")]
    Cut,
    /// The answer is none that ksqlDB would give.
    #[error("the answer is not one of ksqlDB's: {0}")]
    Answer(String),
}

impl KsqlError {
    /// Whether the same call may work in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            KsqlError::Unreachable(_) | KsqlError::NotReady { .. } | KsqlError::Failed { .. } | KsqlError::Cut => true,
            KsqlError::Tls(_)
            | KsqlError::NotHttp
            | KsqlError::Refused(_)
            | KsqlError::Silent
            | KsqlError::NotQueryable(_)
            | KsqlError::Missing(_)
            | KsqlError::Statement { .. }
            | KsqlError::Answer(_) => false,
        }
    }

    /// With what to do about it.
    pub(super) fn explain(&self, url: &str) -> RegistryError {
        let hint = match self {
            KsqlError::Unreachable(_) => Some(format!("is ksqlDB running, and KSQLDB_URL={url} right?")),
            KsqlError::Tls(reason) if reason.contains("certificate") => Some(
                "OFOP_KSQLDB_CA_FILE must name a PEM file with the authority that signed the server's certificate, and \
                 that must hold the name in KSQLDB_URL"
                    .to_owned(),
            ),
            KsqlError::Tls(_) => {
                Some(format!("does the server at KSQLDB_URL={url} speak TLS? If not, write http:// there"))
            }
            KsqlError::NotHttp => Some(format!("if the server at KSQLDB_URL={url} speaks TLS, write https:// there")),
            KsqlError::Refused(403) => Some(
                "the user of OFOP_KSQLDB_USERNAME is known and lacks rights: allow DESCRIBE and pull queries".to_owned(),
            ),
            KsqlError::Refused(_) => {
                Some("set OFOP_KSQLDB_USERNAME and OFOP_KSQLDB_PASSWORD or OFOP_KSQLDB_PASSWORD_FILE".to_owned())
            }
            KsqlError::Statement { .. } => Some("`ofop registry check` shows what does not fit".to_owned()),
            KsqlError::NotQueryable(_) => Some(
                "it passes while ksqlDB starts or stops; if it stays, the table must be made with CREATE TABLE … AS \
                 SELECT or CREATE SOURCE TABLE: `ofop registry check` shows which"
                    .to_owned(),
            ),
            KsqlError::Missing(_) => Some(
                "it passes while ksqlDB starts or stops; if it stays, `ofop registry init` makes what is missing"
                    .to_owned(),
            ),
            KsqlError::Answer(_) => {
                Some(format!("does KSQLDB_URL={url} name a ksqlDB server, and does no proxy answer in its place?"))
            }
            KsqlError::Silent => Some(format!(
                "the server at KSQLDB_URL={url} is paused, stuck, or its machine is busy: a busy machine needs time; \
                 restart the server only if its log shows no progress"
            )),
            KsqlError::NotReady { .. } => Some(format!(
                "the server at KSQLDB_URL={url} is starting, stopping or overloaded; if it stays so, its log says why"
            )),
            KsqlError::Failed { .. } => Some(format!("the log of the server at KSQLDB_URL={url} says more")),
            KsqlError::Cut => Some(format!(
                "the server at KSQLDB_URL={url}, or a proxy before it, ended the connection: did it stop just now?"
            )),
        };
        RegistryError { message: self.to_string(), hint }
    }
}

/// What a status other than 2xx and its body mean.
pub(super) fn of_status(endpoint: Endpoint, status: StatusCode, body: &[u8]) -> KsqlError {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "@type", default)]
        kind: String,
        error_code: i64,
        message: String,
    }
    let body: Option<Body> = serde_json::from_slice(body).ok();
    match (status.as_u16(), body) {
        (refused @ (401 | 403), _) => KsqlError::Refused(refused),
        // The server took the statement apart and cannot carry it out: the topic behind it has another shape.
        (500, Some(body)) if endpoint == Endpoint::Ksql && body.kind == "statement_error" => {
            KsqlError::Statement { code: body.error_code, message: shorten(&body.message) }
        }
        (status, body) if status == 429 || status >= 500 => KsqlError::NotReady {
            status,
            message: body.map_or_else(|| "no reason given".to_owned(), |body| shorten(&body.message)),
        },
        (status, Some(body)) => {
            let message = shorten(&body.message);
            if body.message.starts_with("Error starting pull query") {
                KsqlError::NotReady { status, message }
            } else if endpoint == Endpoint::Query && body.message.contains("isn't queryable") {
                KsqlError::NotQueryable(message)
            } else if is_missing(&body.message) {
                KsqlError::Missing(message)
            } else {
                KsqlError::Statement { code: body.error_code, message }
            }
        }
        (status, None) => KsqlError::Answer(format!("HTTP {status}")),
    }
}

/// `Exception while preparing statement: X does not exist.`, `Could not find STREAM/TABLE 'X' in the Metastore` and
/// `Topic 'x' does not exist. …`.
fn is_missing(message: &str) -> bool {
    message.starts_with("Could not find STREAM/TABLE")
        || (message.starts_with("Exception while preparing statement:") && message.ends_with("does not exist."))
        || (message.starts_with("Topic '") && message.contains("' does not exist"))
}

/// What a call that got no status means.
pub(super) fn of_reqwest(error: &reqwest::Error) -> KsqlError {
    let text = chain(error);
    let tls = ["certificate", "tls", "handshake", "corrupt message", "InvalidContentType"];
    if error.is_timeout() && !error.is_connect() {
        KsqlError::Silent
    } else if tls.iter().any(|word| text.contains(word)) {
        KsqlError::Tls(text)
    } else if error.is_connect() || error.is_timeout() {
        KsqlError::Unreachable(text)
    } else if error.is_body() || error.is_decode() {
        KsqlError::Cut
    } else if text.contains("invalid HTTP version") || text.contains("invalid HTTP status") {
        KsqlError::NotHttp
    } else {
        KsqlError::Unreachable(text)
    }
}

/// An error with its sources, without the address: an address may hold credentials.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        let words = error.to_string();
        // The client's own frame, which says nothing.
        if !words.starts_with("client error (") {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        next = error.source();
    }
    if text.is_empty() { "the request could not be made".to_owned() } else { text }
}

/// The first line of a server's message, as far as it is shown.
pub(super) fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::super::wire::{answers, capture};
    use super::*;

    fn of(endpoint: Endpoint, file: &str) -> KsqlError {
        let answer = capture(file);
        of_status(endpoint, StatusCode::from_u16(answer.status).unwrap(), answer.body.as_bytes())
    }

    #[test]
    fn every_captured_refusal_of_a_statement_has_its_class() {
        use Endpoint::{Ksql, Query};
        let statement = |code: i64| move |error: &KsqlError| matches!(error, KsqlError::Statement { code: found, .. } if *found == code);
        type Class = Box<dyn Fn(&KsqlError) -> bool>;
        let missing: fn() -> Class = || Box::new(|error| matches!(error, KsqlError::Missing(_)));
        let cases: Vec<(Endpoint, &str, Class)> = vec![
            (Query, "ages-star-rowtime-refused.txt", Box::new(statement(40001))),
            (Query, "query-v1-malformed.txt", Box::new(statement(40001))),
            (Query, "query-v1-no-semicolon.txt", Box::new(statement(40001))),
            (Query, "query-v1-unknown-column.txt", Box::new(statement(40001))),
            (Query, "bad-body.txt", Box::new(statement(40000))),
            (Query, "not-json.txt", Box::new(statement(40000))),
            (Query, "query-v1-unknown-source.txt", missing()),
            (Query, "query-v1-on-raw-table.txt", Box::new(|error| matches!(error, KsqlError::NotQueryable(_)))),
            (Query, "auth-none.txt", Box::new(|error| *error == KsqlError::Refused(401))),
            (Query, "auth-wrong.txt", Box::new(|error| *error == KsqlError::Refused(401))),
            (Query, "nowhere.txt", Box::new(|error| matches!(error, KsqlError::Answer(_)))),
            (Query, "query-get.txt", Box::new(|error| matches!(error, KsqlError::Answer(_)))),
            (Ksql, "describe-missing.txt", missing()),
            (Ksql, "describe-lowercase-quoted.txt", missing()),
            (Ksql, "ksql-create-missing-topic.txt", missing()),
            (Ksql, "ksql-create-existing.txt", Box::new(statement(40001))),
            (Ksql, "ksql-malformed.txt", Box::new(statement(40001))),
            (Ksql, "ksql-select.txt", Box::new(statement(40002))),
            (Ksql, "ksql-create-partitions-mismatch.txt", Box::new(statement(50000))),
            (Ksql, "ksql-csas-retention-mismatch.txt", Box::new(statement(50000))),
        ];
        for (endpoint, file, is_class) in cases {
            let error = of(endpoint, file);
            assert!(is_class(&error), "{file}: {error:?}");
            assert!(!error.is_passing(), "{file}: {error:?}");
        }
    }

    #[test]
    fn what_a_server_sends_while_it_stops_and_starts_is_passing() {
        let mut passing = 0;
        for (statement, answer) in answers("errors-seen-live.txt") {
            let endpoint = if statement.starts_with("SELECT") { Endpoint::Query } else { Endpoint::Ksql };
            let status = StatusCode::from_u16(answer.status).unwrap();
            let error = of_status(endpoint, status, answer.body.as_bytes());
            let expected = ["PENDING_SHUTDOWN", "not yet ready", "internal error", "Cannot determine which host"];
            assert_eq!(error.is_passing(), expected.iter().any(|text| answer.body.contains(text)), "{error:?}");
            passing += usize::from(error.is_passing());
        }
        assert_eq!(passing, 4);
    }

    #[test]
    fn only_a_server_without_progress_is_to_be_restarted() {
        let hint = |error: KsqlError| error.explain("http://ksqldb:8088").hint.unwrap();
        assert!(hint(KsqlError::Silent).contains("only if its log shows no progress"));
        let not_ready = KsqlError::NotReady { status: 503, message: String::new() };
        for error in [not_ready, KsqlError::Cut, KsqlError::NotQueryable(String::new())] {
            assert!(!hint(error.clone()).contains("restart"), "{error:?}");
        }
        assert_ne!(hint(KsqlError::Refused(401)), hint(KsqlError::Refused(403)));
    }

    #[test]
    fn a_web_page_is_no_reason() {
        let error = of_status(Endpoint::Query, StatusCode::BAD_GATEWAY, b"<html><h1>502 Bad Gateway</h1></html>");
        assert_eq!(error, KsqlError::NotReady { status: 502, message: "no reason given".into() });
    }
}
