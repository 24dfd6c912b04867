//! One request for one file.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode, Url, redirect};

use super::hosts::{Filter, permitted_port, with_settings};
use super::{Reference, RemoteOptions};
use crate::desired::file::{MAX_FILE_BYTES, io_reason, not_utf8};
use crate::model::HostRules;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// As many as a browser of good will needs: raw files move once, releases twice.
const MAX_REDIRECTS: usize = 5;

/// How many ports are spoken to by clients that are kept. Servers of files have one of a few.
const MAX_PORTS: usize = 16;

/// What to say when nothing was read from a server: one text, so that whoever writes a manifest does not learn through it
/// which hosts and ports of the operator's network answer.
pub(super) const UNREACHABLE: &str = "cannot be fetched: its server does not answer in time, or manifests may not reach \
     it; hosts that are not on the internet are named in OFOP_MODEL_HOSTS";

/// GitHub's word for "the file itself" instead of a description of it (GitHub REST API, repository contents).
const GITHUB_RAW: &str = "application/vnd.github.raw+json";

/// What a server said.
pub(super) enum Fetched {
    /// The file is what it was.
    Unchanged,
    /// The file, with the server's mark for this version.
    Text { text: Arc<str>, etag: Option<String> },
}

/// A client that speaks TLS only.
pub(crate) fn client(options: &RemoteOptions) -> Result<Client, String> {
    finish(builder(options)?.redirect(redirect::Policy::limited(MAX_REDIRECTS)))
}

fn finish(builder: ClientBuilder) -> Result<Client, String> {
    builder.build().map_err(|error| format!("TLS cannot be set up: {}", chain(&error)))
}

fn builder(options: &RemoteOptions) -> Result<ClientBuilder, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails when somebody else was quicker, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let builder = Client::builder()
        .https_only(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("ofop/", env!("CARGO_PKG_VERSION")));
    let Some(path) = &options.ca_file else { return Ok(builder) };
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("`{shown}` cannot be read: {}", io_reason(&error)))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| format!("`{shown}`: {}", chain(&error)))?;
    if certificates.is_empty() {
        return Err(format!("`{shown}` holds no certificate"));
    }
    Ok(builder.tls_certs_merge(certificates))
}

/// Clients that connect to what manifests may reach, one for each port: a resolver is told the name alone. They follow no
/// redirect, so that where it leads is looked at as well.
#[derive(Debug)]
pub(super) struct Clients {
    rules: Arc<HostRules>,
    by_port: Mutex<BTreeMap<u16, Client>>,
}

impl Clients {
    pub(super) fn new(options: &RemoteOptions) -> Self {
        let settings = [options.github_api.as_str(), options.github_raw.as_str()];
        let rules = Arc::new(with_settings(&options.hosts, settings.into_iter()));
        Clients { rules, by_port: Mutex::default() }
    }

    /// The client for a URL. Making the first for a port fails on a machine without certificate authorities, which matters
    /// only to those who fetch something.
    fn towards(&self, url: &Url, options: &RemoteOptions) -> Result<Client, String> {
        let Some(port) = permitted_port(&self.rules, url) else {
            tracing::debug!(host = url.host_str(), "manifests may not reach the host");
            return Err(UNREACHABLE.into());
        };
        let mut by_port = self.by_port.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = by_port.get(&port) {
            return Ok(client.clone());
        }
        let filter = Filter::new(self.rules.clone(), port);
        let client = finish(builder(options)?.redirect(redirect::Policy::none()).dns_resolver(filter))?;
        if by_port.len() >= MAX_PORTS {
            by_port.clear();
        }
        Ok(by_port.entry(port).or_insert(client).clone())
    }
}

/// What to ask for a file: where, and with which headers.
pub(super) fn question(options: &RemoteOptions, reference: &Reference, etag: Option<&str>) -> (String, HeaderMap) {
    let mut headers = HeaderMap::new();
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(IF_NONE_MATCH, etag);
    }
    let url = match reference {
        Reference::Https(url) => url.clone(),
        Reference::Github { owner, repository, revision, path } => {
            let path = encode(path);
            match &options.github_token {
                Some(token) => {
                    let api = options.github_api.trim_end_matches('/');
                    let mut url = format!("{api}/repos/{owner}/{repository}/contents/{path}");
                    if !revision.is_empty() {
                        url.push_str("?ref=");
                        url.push_str(&encode(revision));
                    }
                    headers.insert(ACCEPT, HeaderValue::from_static(GITHUB_RAW));
                    if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", token.trim())) {
                        value.set_sensitive(true);
                        headers.insert(AUTHORIZATION, value);
                    }
                    url
                }
                None => {
                    let raw = options.github_raw.trim_end_matches('/');
                    let revision = if revision.is_empty() { "HEAD".to_owned() } else { encode(revision) };
                    format!("{raw}/{owner}/{repository}/{revision}/{path}")
                }
            }
        }
    };
    (url, headers)
}

/// Asks for a file, follows redirects, each to what may be reached, and reads the answer, as far as it may be long.
pub(super) async fn fetch(
    clients: &Clients,
    options: &RemoteOptions,
    reference: &Reference,
    etag: Option<&str>,
) -> Result<Fetched, String> {
    let (url, mut headers) = question(options, reference, etag);
    let mut url = Url::parse(&url).map_err(|error| format!("is not a valid URL: {error}"))?;
    for _ in 0..=MAX_REDIRECTS {
        let client = clients.towards(&url, options)?;
        let sent = client.get(url.clone()).headers(headers.clone()).send().await;
        let response = sent.map_err(|error| unanswered(&error))?;
        let Some(next) = redirected(&url, &response)? else { return read(response, reference).await };
        if next.origin() != url.origin() {
            headers.remove(AUTHORIZATION);
        }
        url = next;
    }
    Err(format!("cannot be fetched: it is redirected more than {MAX_REDIRECTS} times"))
}

/// Where a server sends us on to; none when it answers itself.
fn redirected(from: &Url, response: &Response) -> Result<Option<Url>, String> {
    let moved = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    let location = response.headers().get(LOCATION).filter(|_| moved.contains(&response.status()));
    let Some(location) = location else { return Ok(None) };
    match location.to_str().ok().and_then(|location| from.join(location).ok()) {
        Some(url) if url.scheme() == "https" => Ok(Some(url)),
        Some(_) => Err("cannot be fetched: it is redirected to where no TLS is spoken".into()),
        None => Err("cannot be fetched: it is redirected to what is no URL".into()),
    }
}

/// What to say of a request without an answer.
fn unanswered(error: &reqwest::Error) -> String {
    let reason = chain(error);
    // Who a server is shows only where it may be reached, and it is what has to be mended.
    if !is_about_tls(error) && (error.is_connect() || error.is_timeout()) {
        tracing::debug!(%reason, "a server cannot be reached");
        return UNREACHABLE.into();
    }
    format!("cannot be fetched: {reason}")
}

/// An error of the system's that wraps another has that one's source as its own, and not that one.
fn is_about_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|wrapped| is_about_tls(wrapped))
        || error.source().is_some_and(is_about_tls)
}

async fn read(response: Response, reference: &Reference) -> Result<Fetched, String> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED => return Ok(Fetched::Unchanged),
        StatusCode::NOT_FOUND => return Err(reference.not_found()),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            return Err(format!("may not be read (HTTP {}); a token may be missing or refused", status.as_u16()));
        }
        StatusCode::TOO_MANY_REQUESTS => return Err("was asked for too often (HTTP 429)".into()),
        status => return Err(format!("cannot be fetched: the server says HTTP {}", status.as_u16())),
    }
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    let text = String::from_utf8(body(response).await?).map_err(|error| not_utf8(error.as_bytes()))?;
    Ok(Fetched::Text { text: text.into(), etag })
}

async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| format!("broke off: {}", chain(&error)))? {
        if (bytes.len() + chunk.len()) as u64 > MAX_FILE_BYTES {
            return Err(format!("is more than {MAX_FILE_BYTES} bytes (1 MiB) long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Percent-encodes everything in a path that a URL would understand otherwise.
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The reasons behind an error, from the outermost on, without the URL, which may hold a credential.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut reasons: Vec<String> = Vec::new();
    let mut source: Option<&dyn Error> = error.source();
    while let Some(error) = source {
        let reason = error.to_string();
        if !reasons.iter().any(|known| known.contains(&reason)) {
            reasons.push(reason);
        }
        source = error.source();
    }
    if reasons.is_empty() { "the request could not be made".into() } else { reasons.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(reference: &str, token: Option<&str>) -> (String, HeaderMap) {
        let options = RemoteOptions { github_token: token.map(str::to_owned), ..RemoteOptions::default() };
        question(&options, &Reference::parse(reference).unwrap().unwrap(), Some("\"v1\""))
    }

    #[test]
    fn github_files_are_asked_for_where_github_has_them() {
        let (url, headers) = asked("github://o:r@/a b/dev.xml", None);
        assert_eq!(url, "https://raw.githubusercontent.com/o/r/HEAD/a%20b/dev.xml");
        assert_eq!(headers[IF_NONE_MATCH], "\"v1\"");
        let (url, headers) = asked("github://o:r@v1/dev.xml", Some("secret\n"));
        assert_eq!(url, "https://api.github.com/repos/o/r/contents/dev.xml?ref=v1");
        assert_eq!(headers[AUTHORIZATION], "Bearer secret");
        assert!(headers[AUTHORIZATION].is_sensitive());
    }
}
