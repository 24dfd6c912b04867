//! One request for one file.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode, redirect};

use super::{Reference, RemoteOptions};
use crate::desired::file::{MAX_FILE_BYTES, io_reason, not_utf8};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// As many as a browser of good will needs: raw files move once, releases twice.
const MAX_REDIRECTS: usize = 5;

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
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails when somebody else was quicker, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = Client::builder()
        .https_only(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::limited(MAX_REDIRECTS))
        .user_agent(concat!("ofop/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &options.ca_file {
        let shown = path.display();
        let pem = std::fs::read(path).map_err(|error| format!("`{shown}` cannot be read: {}", io_reason(&error)))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|error| format!("`{shown}`: {}", chain(&error)))?;
        if certificates.is_empty() {
            return Err(format!("`{shown}` holds no certificate"));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| format!("TLS cannot be set up: {}", chain(&error)))
}

/// What to ask for a file.
pub(super) fn request(
    client: &Client,
    options: &RemoteOptions,
    reference: &Reference,
    etag: Option<&str>,
) -> RequestBuilder {
    let mut request = match reference {
        Reference::Https(url) => client.get(url),
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
                    let request = client.get(url).header(ACCEPT, GITHUB_RAW);
                    match HeaderValue::from_str(&format!("Bearer {}", token.trim())) {
                        Ok(mut value) => {
                            value.set_sensitive(true);
                            request.header(AUTHORIZATION, value)
                        }
                        Err(_) => request,
                    }
                }
                None => {
                    let raw = options.github_raw.trim_end_matches('/');
                    let revision = if revision.is_empty() { "HEAD".to_owned() } else { encode(revision) };
                    client.get(format!("{raw}/{owner}/{repository}/{revision}/{path}"))
                }
            }
        }
    };
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    request
}

/// Sends a request and reads the answer, as far as it may be long.
pub(super) async fn fetch(request: RequestBuilder, reference: &Reference) -> Result<Fetched, String> {
    let response = request.send().await.map_err(|error| format!("cannot be fetched: {}", chain(&error)))?;
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

    fn url(reference: &str, token: Option<&str>) -> reqwest::Request {
        let options = RemoteOptions { github_token: token.map(str::to_owned), ..RemoteOptions::default() };
        let client = client(&options).unwrap();
        let reference = Reference::parse(reference).unwrap().unwrap();
        request(&client, &options, &reference, Some("\"v1\"")).build().unwrap()
    }

    #[test]
    fn github_files_are_asked_for_where_github_has_them() {
        let plain = url("github://o:r@/a b/dev.xml", None);
        assert_eq!(plain.url().as_str(), "https://raw.githubusercontent.com/o/r/HEAD/a%20b/dev.xml");
        assert_eq!(plain.headers()[IF_NONE_MATCH], "\"v1\"");
        let with_token = url("github://o:r@v1/dev.xml", Some("secret\n"));
        assert_eq!(with_token.url().as_str(), "https://api.github.com/repos/o/r/contents/dev.xml?ref=v1");
        assert_eq!(with_token.headers()[AUTHORIZATION], "Bearer secret");
        assert!(with_token.headers()[AUTHORIZATION].is_sensitive());
    }
}
