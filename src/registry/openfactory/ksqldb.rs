//! ksqlDB over HTTP/1.1.
//!
//! Every call has a deadline over the whole answer and a limit on its size. Answers that say "not now" (429,
//! 5xx, connection lost) are asked for again a few times; statements are sent one at a time, since several in one
//! request may half-succeed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Decoder, Query};
use crate::model::Source;
use crate::registry::RegistryError;

/// How long a query or statement may take, to the last byte: pull queries can hang (ksql#9161).
const CALL_TIME: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// The longest answer to a query, in bytes: 100,000 assets with their attributes stay below it.
const MAX_ANSWER: usize = 256 << 20;
/// The longest answer to a statement, in bytes.
const MAX_STATEMENT_ANSWER: usize = 8 << 20;
/// The longest part of a server's message that is shown, in characters.
const MAX_MESSAGE: usize = 300;
/// The format whose end can be told: a JSON list with its closing bracket.
const V1_JSON: &str = "application/vnd.ksql.v1+json";

/// Where ksqlDB is and how to talk to it.
#[derive(Clone, Default)]
pub struct KsqldbSettings {
    /// `http://HOST:PORT` or `https://…`, without a trailing slash. Credentials in it (`https://USER:PASSWORD@HOST`) are
    /// used, and not shown.
    pub url: String,
    /// User of Basic authentication.
    pub username: Option<String>,
    /// Password of Basic authentication.
    pub password: Option<String>,
    /// PEM file of the authority that signed the server's certificate; none for the system's.
    pub certificate_authority: Option<PathBuf>,
    /// Send credentials even over plain HTTP.
    pub insecure_credentials: bool,
}

impl std::fmt::Debug for KsqldbSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KsqldbSettings").finish_non_exhaustive()
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
    /// 429 or 5xx: later, perhaps.
    #[error("ksqlDB is not ready (HTTP {status}): {message}")]
    NotReady {
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It does not accept the statement.
    #[error("ksqlDB refuses the statement ({code}): {message}")]
    Statement {
        /// Its error code.
        code: i64,
        /// What it says.
        message: String,
    },
    /// It failed while it answered.
    #[error("ksqlDB failed while it answered ({code}): {message}")]
    Failed {
        /// Its error code.
        code: i64,
        /// What it says.
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
    fn is_passing(&self) -> bool {
        match self {
            KsqlError::Unreachable(_) | KsqlError::NotReady { .. } | KsqlError::Failed { .. } | KsqlError::Cut => true,
            KsqlError::Tls(_)
            | KsqlError::NotHttp
            | KsqlError::Refused(_)
            | KsqlError::Silent
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
            KsqlError::Refused(_) => {
                Some("set OFOP_KSQLDB_USERNAME and OFOP_KSQLDB_PASSWORD or OFOP_KSQLDB_PASSWORD_FILE".to_owned())
            }
            KsqlError::Statement { .. } => {
                Some("are OpenFactory's streams and tables there? `ofop registry check` tells".to_owned())
            }
            KsqlError::Answer(_) => Some(format!("does KSQLDB_URL={url} name a ksqlDB server?")),
            KsqlError::Silent => {
                Some(format!("the server at KSQLDB_URL={url} is overloaded or stuck: look at its log, and restart it"))
            }
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

/// A client.
#[derive(Clone)]
pub(super) struct Ksqldb {
    client: Client,
    settings: KsqldbSettings,
    /// The address without credentials.
    address: String,
}

impl Ksqldb {
    /// Prepares a client; nothing is sent yet.
    pub(super) fn new(settings: KsqldbSettings) -> Result<Ksqldb, RegistryError> {
        // Ends without effect if the program has chosen its provider before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (address, has_credentials) = without_credentials(&settings.url)?;
        let https = address.starts_with("https://");
        if (settings.password.is_some() || has_credentials) && !https && !settings.insecure_credentials {
            return Err(RegistryError {
                message: "the credentials of ksqlDB would cross the network unprotected".into(),
                hint: Some("use an https:// address, or set OFOP_KSQLDB_INSECURE_CREDENTIALS=true".into()),
            });
        }
        let mut builder = Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIME)
            .timeout(CALL_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(2);
        if let Some(path) = &settings.certificate_authority {
            let problem = |reason: String| RegistryError {
                message: format!("the certificate authority {} cannot be used: {reason}", path.display()),
                hint: Some("OFOP_KSQLDB_CA_FILE must name a file with certificates in PEM".into()),
            };
            let text = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&text).map_err(|error| problem(error.to_string()))?;
            builder = builder.tls_certs_only(certificates);
        } else if !https {
            // Without TLS the system's authorities are not needed, and a machine without any must do.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| RegistryError {
            message: format!("no client for ksqlDB can be made: {}", chain(&error)),
            hint: https.then(|| "install the system's certificate authorities, or set OFOP_KSQLDB_CA_FILE".into()),
        })?;
        Ok(Ksqldb { client, settings, address })
    }

    /// The address, for people.
    pub(super) fn url(&self) -> &str {
        &self.address
    }

    /// Asks a pull query, again if the failure is a passing one.
    pub(super) async fn pull<T: Default, const N: usize>(&self, query: &Query<T, N>) -> Result<Answer<T>, KsqlError> {
        (|| self.pull_once(query)).retry(patience()).when(KsqlError::is_passing).await
    }

    async fn pull_once<T: Default, const N: usize>(&self, query: &Query<T, N>) -> Result<Answer<T>, KsqlError> {
        let mut response = self.send("/query", query.sql, json!({})).await?;
        let mut decoder = Decoder::new(query);
        let mut size = 0;
        while let Some(chunk) = response.chunk().await.map_err(|error| of_reqwest(&error))? {
            size += chunk.len();
            if size > MAX_ANSWER {
                return Err(KsqlError::Answer(format!("it is longer than {} MiB", MAX_ANSWER >> 20)));
            }
            decoder.feed(&chunk)?;
        }
        decoder.finish()
    }

    /// Sends one statement, again if the failure is a passing one: only for statements that may be repeated.
    pub(super) async fn statement(&self, sql: &str) -> Result<Value, KsqlError> {
        (|| self.statement_once(sql, json!({}))).retry(patience()).when(KsqlError::is_passing).await
    }

    /// Sends a statement that makes a stream or table `IF NOT EXISTS`; true if that is done, false if it will be.
    ///
    /// A query behind it reads what its sources hold already, or begins with whatever comes next.
    pub(super) async fn make(&self, sql: &str, from_beginning: bool) -> Result<bool, KsqlError> {
        let begin = if from_beginning { "earliest" } else { "latest" };
        let properties = json!({"ksql.streams.auto.offset.reset": begin});
        let answer =
            (|| self.statement_once(sql, properties.clone())).retry(patience()).when(KsqlError::is_passing).await?;
        is_made(&answer)
    }

    async fn statement_once(&self, sql: &str, properties: Value) -> Result<Value, KsqlError> {
        let mut response = self.send("/ksql", sql, properties).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| of_reqwest(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_STATEMENT_ANSWER {
                return Err(KsqlError::Answer(format!("it is longer than {} MiB", MAX_STATEMENT_ANSWER >> 20)));
            }
        }
        serde_json::from_slice(&body).map_err(|error| KsqlError::Answer(error.to_string()))
    }

    /// The topic behind a stream or table.
    pub(super) async fn topic(&self, source: &str) -> Result<String, KsqlError> {
        #[derive(Deserialize)]
        struct Entity {
            #[serde(rename = "sourceDescription")]
            description: SourceDescription,
        }
        #[derive(Deserialize)]
        struct SourceDescription {
            topic: String,
        }
        let answer = self.statement(&format!("DESCRIBE {} EXTENDED;", identifier(source))).await?;
        let mut entities: Vec<Entity> =
            serde_json::from_value(answer).map_err(|error| KsqlError::Answer(error.to_string()))?;
        if entities.is_empty() {
            return Err(KsqlError::Answer("it describes nothing".into()));
        }
        Ok(entities.swap_remove(0).description.topic)
    }

    /// The topics of sources, without those that ksqlDB does not know.
    pub(super) async fn topics(&self, sources: &[Source]) -> Result<BTreeMap<Source, String>, KsqlError> {
        let mut found = BTreeMap::new();
        for source in sources {
            match self.topic(source.as_str()).await {
                Ok(topic) => drop(found.insert(*source, topic)),
                Err(KsqlError::Statement { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn send(&self, path: &str, sql: &str, properties: Value) -> Result<reqwest::Response, KsqlError> {
        // Credentials in the address count when there are no others.
        let address = if self.settings.username.is_some() { &self.address } else { &self.settings.url };
        let mut request = self
            .client
            .post(format!("{address}{path}"))
            .header(ACCEPT, V1_JSON)
            .header(CONTENT_TYPE, V1_JSON)
            .body(json!({"ksql": sql, "streamsProperties": properties}).to_string());
        if let Some(username) = &self.settings.username {
            request = request.basic_auth(username, self.settings.password.as_deref());
        }
        let response = request.send().await.map_err(|error| of_reqwest(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(of_status(status, &response.bytes().await.unwrap_or_default()))
    }
}

/// What became of a statement, which the server first takes and then carries out: it may answer before that is done,
/// and then says so.
fn is_made(answer: &Value) -> Result<bool, KsqlError> {
    let result = answer.get(0).and_then(|entity| entity.get("commandStatus"));
    let word = |name: &str| result.and_then(|result| result.get(name)).and_then(Value::as_str).unwrap_or_default();
    match word("status") {
        "ERROR" | "TERMINATED" => Err(KsqlError::Statement { code: 0, message: shorten(word("message")) }),
        "QUEUED" | "PARSING" | "EXECUTING" | "RUNNING" => Ok(false),
        // A warning that it exists already has no status.
        _ => Ok(true),
    }
}

/// A few tries within a second and a half: longer outages are for the next read.
fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(3)
        .with_jitter()
}

/// The address without the credentials that may be in it, and whether there were any.
fn without_credentials(url: &str) -> Result<(String, bool), RegistryError> {
    // The reason quotes nothing of the address.
    let mut parsed = Url::parse(url).map_err(|error| RegistryError {
        message: format!("KSQLDB_URL is no address: {error}"),
        hint: Some("write it like http://ksqldb-server:8088".into()),
    })?;
    let has_credentials = !parsed.username().is_empty() || parsed.password().is_some();
    if has_credentials {
        // Refused for addresses that can hold none.
        let _ = parsed.set_password(None);
        let _ = parsed.set_username("");
    }
    Ok((parsed.as_str().trim_end_matches('/').to_owned(), has_credentials))
}

fn of_status(status: StatusCode, body: &[u8]) -> KsqlError {
    #[derive(Deserialize)]
    struct Said {
        error_code: i64,
        message: String,
    }
    let said: Option<Said> = serde_json::from_slice(body).ok();
    match (status.as_u16(), said) {
        (refused @ (401 | 403), _) => KsqlError::Refused(refused),
        (status, said) if status == 429 || status >= 500 => KsqlError::NotReady {
            status,
            message: said.map_or_else(|| "no reason given".to_owned(), |said| shorten(&said.message)),
        },
        (_, Some(said)) => KsqlError::Statement { code: said.error_code, message: shorten(&said.message) },
        (status, None) => KsqlError::Answer(format!("HTTP {status}")),
    }
}

fn of_reqwest(error: &reqwest::Error) -> KsqlError {
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
fn chain(error: &dyn std::error::Error) -> String {
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

fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MAX_MESSAGE).collect()
}

/// A name in backticks, as ksqlDB takes any name; backticks inside are doubled. Names of sources are upper-case.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_so_that_nothing_in_them_ends_them() {
        assert_eq!(identifier("A`B"), "`A``B`");
    }

    #[test]
    fn statuses_tell_later_from_never() {
        let body = br#"{"@type":"generic_error","error_code":50303,"message":"shutting down\nmore"}"#;
        let error = of_status(StatusCode::SERVICE_UNAVAILABLE, body);
        assert_eq!(error, KsqlError::NotReady { status: 503, message: "shutting down".into() });
        assert!(error.is_passing());
        let body = br#"{"@type":"statement_error","error_code":40001,"message":"X does not exist"}"#;
        let error = of_status(StatusCode::BAD_REQUEST, body);
        assert_eq!(error, KsqlError::Statement { code: 40001, message: "X does not exist".into() });
        assert!(!error.is_passing());
        assert_eq!(of_status(StatusCode::UNAUTHORIZED, b""), KsqlError::Refused(401));
        assert!(matches!(of_status(StatusCode::NOT_FOUND, b"<html>"), KsqlError::Answer(_)));
    }

    #[test]
    fn credentials_do_not_cross_the_network_in_the_open_unless_told() {
        let settings = KsqldbSettings {
            url: "http://ksqldb:8088".into(),
            username: Some("u".into()),
            password: Some("p4ss".into()),
            ..KsqldbSettings::default()
        };
        assert!(Ksqldb::new(settings.clone()).is_err());
        assert!(!format!("{settings:?}").contains("p4ss"));
        let within = |url: &str| KsqldbSettings { url: url.into(), ..KsqldbSettings::default() };
        let settings = within("http://u:p4ss@ksqldb:8088");
        assert!(Ksqldb::new(settings.clone()).is_err());
        assert!(!format!("{settings:?}").contains("p4ss"));
        let allowed = Ksqldb::new(KsqldbSettings { insecure_credentials: true, ..settings }).unwrap();
        assert_eq!(allowed.url(), "http://ksqldb:8088");
        assert_eq!(Ksqldb::new(within("http://ksqldb:8088/path")).unwrap().url(), "http://ksqldb:8088/path");
        let error = Ksqldb::new(within("http://u:p4ss@ksqldb:80880")).err().unwrap();
        assert!(error.hint.is_some() && !error.message.contains("p4ss"), "{error}");
    }

    #[test]
    fn a_statement_is_carried_out_after_it_is_taken() {
        let answer = |status: &str| json!([{"commandStatus": {"status": status, "message": "no such topic\n  at"}}]);
        assert_eq!(is_made(&answer("SUCCESS")), Ok(true));
        assert_eq!(is_made(&answer("QUEUED")), Ok(false));
        assert_eq!(is_made(&json!([{"@type": "warning_entity", "message": "X exists already"}])), Ok(true));
        let refused = KsqlError::Statement { code: 0, message: "no such topic".into() };
        assert_eq!(is_made(&answer("ERROR")), Err(refused));
    }
}
