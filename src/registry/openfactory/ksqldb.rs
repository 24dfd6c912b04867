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
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Decoder, Query};
pub(super) use super::failure::KsqlError;
use super::failure::{CALL_TIME, Endpoint, chain, of_reqwest, of_status, shorten};
use crate::model::Source;
use crate::registry::RegistryError;

/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// The longest answer to a query, in bytes: 100,000 assets with their attributes stay below it.
const MAX_ANSWER: usize = 256 << 20;
/// The longest answer to a statement, in bytes.
const MAX_STATEMENT_ANSWER: usize = 8 << 20;
/// The longest refusal that is read, in bytes.
const MAX_REFUSAL: usize = 64 << 10;
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
    pub(super) async fn pull<T: Default, const N: usize>(
        &self,
        query: &Query<'_, T, N>,
    ) -> Result<Answer<T>, KsqlError> {
        (|| self.pull_once(query)).retry(patience()).when(KsqlError::is_passing).await
    }

    /// Asks a pull query once: part of a reading, which begins anew as a whole.
    pub(super) async fn pull_once<T: Default, const N: usize>(
        &self,
        query: &Query<'_, T, N>,
    ) -> Result<Answer<T>, KsqlError> {
        let mut response = self.send(Endpoint::Query, query.sql, json!({})).await?;
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
        let mut response = self.send(Endpoint::Ksql, sql, properties).await?;
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
        Ok(self.describe(source).await?.topic)
    }

    /// What a stream or table is made of.
    pub(super) async fn describe(&self, source: &str) -> Result<Described, KsqlError> {
        described(self.statement(&describe_statement(source)).await?)
    }

    /// The topics of sources, without those that ksqlDB does not know.
    pub(super) async fn topics(&self, sources: &[Source]) -> Result<BTreeMap<Source, String>, KsqlError> {
        let mut found = BTreeMap::new();
        for source in sources {
            match self.topic(source.as_str()).await {
                Ok(topic) => drop(found.insert(*source, topic)),
                Err(KsqlError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn send(&self, endpoint: Endpoint, sql: &str, properties: Value) -> Result<reqwest::Response, KsqlError> {
        // Credentials in the address count when there are no others.
        let address = if self.settings.username.is_some() { &self.address } else { &self.settings.url };
        let mut request = self
            .client
            .post(format!("{address}{}", endpoint.path()))
            .header(ACCEPT, V1_JSON)
            .header(CONTENT_TYPE, V1_JSON)
            .body(json!({"ksql": sql, "streamsProperties": properties}).to_string());
        if let Some(username) = &self.settings.username {
            request = request.basic_auth(username, self.settings.password.as_deref());
        }
        let response = request.send().await.map_err(|error| of_reqwest(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(of_status(endpoint, status, &limited(response).await));
        }
        // A proxy may answer for the server, and call its page a success.
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/html") {
            return Err(KsqlError::Answer("it is a web page, not JSON".to_owned()));
        }
        Ok(response)
    }
}

/// The body of a refusal, as far as it is looked at.
async fn limited(mut response: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_REFUSAL {
            break;
        }
    }
    body
}

/// What ksqlDB tells of a stream or table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// The topic behind it.
    pub(super) topic: String,
    /// The column that is its key, where the server names one.
    pub(super) key: Option<String>,
}

/// The statement that asks for it.
pub(super) fn describe_statement(source: &str) -> String {
    format!("DESCRIBE {} EXTENDED;", identifier(source))
}

fn described(answer: Value) -> Result<Described, KsqlError> {
    #[derive(Deserialize)]
    struct Entity {
        #[serde(rename = "sourceDescription")]
        description: SourceDescription,
    }
    #[derive(Deserialize)]
    struct SourceDescription {
        topic: String,
        #[serde(default)]
        fields: Vec<Field>,
    }
    #[derive(Deserialize)]
    struct Field {
        name: String,
        #[serde(rename = "type")]
        role: Option<String>,
    }
    let mut entities: Vec<Entity> =
        serde_json::from_value(answer).map_err(|error| KsqlError::Answer(error.to_string()))?;
    if entities.is_empty() {
        return Err(KsqlError::Answer("it describes nothing".into()));
    }
    let SourceDescription { topic, fields } = entities.swap_remove(0).description;
    let key = fields.into_iter().find(|field| field.role.as_deref() == Some("KEY")).map(|field| field.name);
    Ok(Described { topic, key })
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
pub(super) fn patience() -> ExponentialBuilder {
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

/// A name in backticks, as ksqlDB takes any name; backticks inside are doubled. Names of sources are upper-case.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::super::wire::capture;
    use super::*;

    #[test]
    fn names_are_quoted_so_that_nothing_in_them_ends_them() {
        assert_eq!(identifier("A`B"), "`A``B`");
    }

    #[test]
    fn the_key_of_a_table_is_the_one_that_the_server_names() {
        let answer = serde_json::from_str(&capture("describe-assets_type.txt").body).unwrap();
        let found = Described { topic: "assets_types_topic".into(), key: Some("ASSET_UUID".into()) };
        assert_eq!(described(answer), Ok(found));
        let bare = json!([{"sourceDescription": {"topic": "t"}}]);
        assert_eq!(described(bare), Ok(Described { topic: "t".into(), key: None }));
        for odd in [json!([]), json!({}), json!([{"@type": "warning_entity"}]), json!("page")] {
            assert!(matches!(described(odd.clone()), Err(KsqlError::Answer(_))), "{odd}");
        }
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
