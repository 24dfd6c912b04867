//! Talks to the running daemon over its HTTP API.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use super::CliError;
use super::args::DAEMON;
use super::context::Context;
use crate::config::Config;

/// A daemon answers from memory; longer means that nobody is there.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Which daemon to talk to.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Where the daemon serves HTTP: HOST:PORT, or https://HOST:PORT for one with TLS, whose authority OFOP_CA_FILE may name
    /// [env: OFOP_ADDRESS, then OFOP_LISTEN] [default: 127.0.0.1:8420]
    #[arg(long, value_name = "ADDRESS", help_heading = DAEMON)]
    pub address: Option<String>,
    /// File with a token of the daemon; of several the first counts [env: OFOP_TOKEN_FILE, or OFOP_TOKEN for the token itself]
    #[arg(long, value_name = "FILE", help_heading = DAEMON)]
    pub token_file: Option<std::path::PathBuf>,
}

/// A daemon that may be there.
pub(super) struct Client<'a> {
    http: reqwest::Client,
    config: &'a Config,
    address: String,
}

impl<'a> Client<'a> {
    /// Whoever listens at the configured address. Nothing is sent yet.
    ///
    /// # Errors
    /// When the machine has no entropy or no sockets to offer.
    pub(super) fn new(context: &'a Context) -> Result<Self, CliError> {
        Client::at(context, &context.config.address)
    }

    /// Whoever listens at this address.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(super) fn at(context: &'a Context, address: &str) -> Result<Self, CliError> {
        // A proxy from the environment would be asked for an address that is ours alone.
        let mut http = reqwest::Client::builder().no_proxy().connect_timeout(TIMEOUT);
        if let (true, Some(path)) = (is_secure(address), &context.config.remote.ca_file) {
            http = http.tls_certs_merge(authorities(path)?);
        }
        let http = http.build().map_err(|error| CliError::Daemon {
            what: super::chain(&error),
            hint: "is there a certificate authority on this machine? OFOP_CA_FILE names one".into(),
        })?;
        Ok(Client { http, config: &context.config, address: address.to_owned() })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Reads something.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub(super) async fn get(&self, path: &str) -> Result<Value, CliError> {
        let response = self.send(self.reading(path).timeout(TIMEOUT)).await?;
        response.json().await.map_err(|error| self.broken(&error))
    }

    /// The same; none when nobody is there.
    ///
    /// # Errors
    /// When somebody is there and answers with an error.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Value>, CliError> {
        match self.reading(path).timeout(TIMEOUT).send().await {
            Ok(response) if response.status().is_success() => {
                response.json().await.map(Some).map_err(|error| self.broken(&error))
            }
            Ok(response) => Err(self.refused(response).await),
            Err(error) if error.is_connect() && tls_error(&error).is_none() => Ok(None),
            Err(error) if error.is_connect() => Err(self.unanswered(&error)),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Reads something that may not exist.
    ///
    /// # Errors
    /// When nobody answers, or with another error than that it does not exist.
    pub(super) async fn get_if_there(&self, path: &str) -> Result<Option<Value>, CliError> {
        let response = self.reading(path).timeout(TIMEOUT).send().await;
        match response.map_err(|error| self.unanswered(&error))? {
            response if response.status() == StatusCode::NOT_FOUND => Ok(None),
            response if response.status().is_success() => {
                response.json().await.map(Some).map_err(|error| self.broken(&error))
            }
            response => Err(self.refused(response).await),
        }
    }

    /// Whether the operator there is this run, and holds the lease. Not when it cannot be asked within `limit`.
    pub(super) async fn is_holder(&self, run: &str, limit: Duration) -> bool {
        let Ok(response) = self.request(Method::GET, "/leaderz").timeout(limit).send().await else { return false };
        let Ok(lease) = response.json::<Value>().await else { return false };
        lease["leader"] == true && lease["holder"]["run"] == run
    }

    /// Asks whether it works, in one of the ways that need no token.
    ///
    /// # Errors
    /// When nobody answers, or not with success.
    pub(super) async fn is_well(&self, path: &str) -> Result<(), CliError> {
        let response = self.request(Method::GET, path).timeout(TIMEOUT).send().await;
        let response = response.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = response.text().await.unwrap_or_default();
        let why = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(CliError::Daemon {
            what: format!("the daemon at {} answered {status}: {why}", self.address),
            hint: "look at its log, and at `ofop get all`".into(),
        })
    }

    /// Begins to read a stream that lasts.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub(super) async fn stream(&self, path: &str) -> Result<Response, CliError> {
        self.send(self.reading(path).header("accept", "text/event-stream")).await
    }

    /// Tells the daemon something, with the token; what it answers.
    ///
    /// # Errors
    /// When nobody answers, or refuses.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        let mut request = self.request(Method::POST, path).timeout(TIMEOUT).json(body);
        match self.config.tokens.first() {
            Some(token) => request = request.bearer_auth(token.secret.expose()),
            None => {
                return Err(CliError::Daemon {
                    what: "the daemon takes orders only from who has its token".into(),
                    hint: "name its file with --token-file or OFOP_TOKEN_FILE, or set OFOP_TOKEN".into(),
                });
            }
        }
        self.send(request).await?.json().await.map_err(|error| self.broken(&error))
    }

    /// A request to read, which needs the token where the daemon does not listen on a loopback address.
    fn reading(&self, path: &str) -> RequestBuilder {
        let request = self.request(Method::GET, path);
        match self.config.tokens.first() {
            Some(token) => request.bearer_auth(token.secret.expose()),
            None => request,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let scheme = if is_secure(&self.address) { "" } else { "http://" };
        self.http.request(method, format!("{scheme}{}{path}", self.address))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    fn unanswered(&self, error: &reqwest::Error) -> CliError {
        if let Some(reason) = tls_error(error) {
            CliError::Daemon {
                what: format!("{} cannot be trusted, or does not speak TLS: {reason}", self.address),
                hint: "the address must be a name in its certificate; OFOP_CA_FILE names the authority that signed it"
                    .into(),
            }
        } else if error.is_connect() {
            CliError::Daemon {
                what: format!("no daemon answers at {}", self.address),
                hint: "start one with `ofop run`, or name its address with --address".into(),
            }
        } else {
            self.broken(error)
        }
    }

    /// What the daemon says is wrong, with its own hint where there is one.
    async fn refused(&self, response: Response) -> CliError {
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        let text = |name: &str| body["error"][name].as_str().map(str::to_owned);
        // The daemon speaks to whoever sends requests; whoever runs this has files and variables.
        let hint = match (status, self.config.tokens.is_empty()) {
            (StatusCode::UNAUTHORIZED, true) => {
                "name the file with its token: --token-file FILE or OFOP_TOKEN_FILE, or set OFOP_TOKEN".into()
            }
            (StatusCode::UNAUTHORIZED, false) => {
                format!("is the first token of --token-file (or OFOP_TOKEN_FILE, OFOP_TOKEN) one of {}?", self.address)
            }
            _ => text("hint").unwrap_or_else(|| format!("is it an ofop that answers at {}?", self.address)),
        };
        if body["error"]["code"] == "busy" {
            return CliError::Busy { what: text("message").unwrap_or_default(), hint };
        }
        CliError::Daemon { what: text("message").unwrap_or_else(|| format!("the daemon answered {status}")), hint }
    }

    fn broken(&self, error: &reqwest::Error) -> CliError {
        CliError::Daemon {
            what: format!("the answer from {} was cut short: {}", self.address, super::chain(error)),
            hint: "look at the daemon's log".into(),
        }
    }
}

/// Whether a daemon at this address speaks TLS.
fn is_secure(address: &str) -> bool {
    address.starts_with("https://")
}

/// The authorities in a file, for a daemon whose certificate none of the system's has signed.
fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, CliError> {
    let pem = std::fs::read(path).map_err(|source| CliError::File { act: "read", path: path.to_owned(), source })?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| {
        CliError::usage(format!("OFOP_CA_FILE: `{}` holds no certificate", path.display()), "write certificates in PEM")
    })
}

/// Why TLS came to nothing, if that is why there is no answer.
fn tls_error(error: &reqwest::Error) -> Option<String> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<rustls::Error>() {
            return Some(found.to_string());
        }
        // What an error of the operating system wraps is not its source.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    None
}

/// A resource's path in the API, its uuid escaped.
pub(super) fn resource_path(id: &crate::model::ResourceId) -> String {
    let mut path = format!("/api/v1/resources/{}/", id.kind);
    escape(id.uuid.as_str(), &mut path);
    path
}

/// Appends a text with everything escaped that could mean something in a path or a query.
pub(super) fn escape(text: &str, to: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            to.push(char::from(byte));
        } else {
            to.push_str(&format!("%{byte:02X}"));
        }
    }
}
