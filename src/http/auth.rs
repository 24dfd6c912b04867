//! Who may say something to the operator, and under which name it may be called.

use std::fmt;
use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::Shared;
use super::problem::Problem;

/// The shortest token that is taken, in bytes: shorter ones can be guessed.
pub const MIN_TOKEN: usize = 8;

/// The secret that commands must carry. Only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

/// A text that cannot be a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the API token must have at least {MIN_TOKEN} characters, all of them printable ASCII without spaces")]
pub struct InvalidToken;

impl Token {
    /// Checks a token; white space around it is not part of it, since files end with a line feed.
    ///
    /// # Errors
    /// When it is shorter than [`MIN_TOKEN`], or could not be sent in a header.
    pub fn new(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.len() < MIN_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken);
        }
        Ok(Token(Sha256::digest(text).into()))
    }

    /// Whether `text` is the token. Takes the same time wherever it differs: hashes are compared, all of them.
    fn is(&self, text: &[u8]) -> bool {
        let other: [u8; 32] = Sha256::digest(text).into();
        self.0.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Lets a request pass that carries the token.
pub(super) async fn require_token(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let Some(token) = &shared.token else { return Problem::no_token().into_response() };
    match bearer(&request) {
        Some(given) if token.is(given) => next.run(request).await,
        Some(_) | None => Problem::unauthorized().into_response(),
    }
}

fn bearer(request: &Request) -> Option<&[u8]> {
    let value = request.headers().get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether a request names us by an IP address or as `localhost`: names that no foreign name server can
/// point elsewhere. HTTP/1.0 requests may name nobody.
pub(super) fn is_local_host(request: &Request) -> bool {
    let Some(host) = request.headers().get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(host: &str) -> Request {
        Request::builder().header(header::HOST, host).body(Body::empty()).unwrap()
    }

    #[test]
    fn only_names_that_nobody_can_re_point_are_local() {
        for local in
            ["localhost", "LOCALHOST:8420", "127.0.0.1", "127.0.0.1:8420", "[::1]:8420", "10.0.0.7", "ofop.localhost"]
        {
            assert!(is_local_host(&request(local)), "{local}");
        }
        for foreign in ["evil.example", "evil.example:8420", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!is_local_host(&request(foreign)), "{foreign}");
        }
    }

    #[test]
    fn tokens_are_long_enough_and_fit_a_header() {
        assert!(Token::new("01234567").is_ok());
        assert_eq!(Token::new("0123456789abcdef\n"), Token::new("0123456789abcdef"));
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcdefä"] {
            assert_eq!(Token::new(bad), Err(InvalidToken), "{bad:?}");
        }
    }

    #[test]
    fn debug_never_shows_a_token() {
        assert_eq!(format!("{:?}", Token::new("0123456789abcdef").unwrap()), "Token(…)");
    }
}
