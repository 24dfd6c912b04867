//! Who may say something to the operator, and under which name it may be called.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::Shared;
use super::problem::{Problem, Refusal};
use crate::model::command::UNNAMED;
use crate::model::{Actor, CommandVerb};
use crate::report::RefusedCommand;

/// The shortest token that is taken, in bytes: shorter ones can be guessed.
pub const MIN_TOKEN: usize = 8;

/// A secret that commands must carry, and the name of who carries it. Only the secret's hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    name: String,
    hash: [u8; 32],
}

/// A text that cannot be a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an API token must have at least {MIN_TOKEN} characters, all of them printable ASCII without spaces")]
pub struct InvalidToken;

impl Token {
    /// Checks a token that has no name; white space around it is not part of it, since files end with a line feed.
    ///
    /// # Errors
    /// When it is shorter than [`MIN_TOKEN`], or could not be sent in a header.
    pub fn new(text: &str) -> Result<Self, InvalidToken> {
        Token::named(UNNAMED, text)
    }

    /// The same for a token that only `name` knows.
    ///
    /// # Errors
    /// As for [`Token::new`].
    pub fn named(name: &str, text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.len() < MIN_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken);
        }
        Ok(Token { name: name.to_owned(), hash: Sha256::digest(text).into() })
    }

    /// Whether this is the token with that hash. Takes the same time wherever they differ.
    fn is(&self, hash: &[u8; 32]) -> bool {
        self.hash.iter().zip(hash).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, …)", self.name)
    }
}

/// The tokens that commands may carry. Without any, nobody may give commands.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Arc<[Token]>);

impl Tokens {
    /// Whose token `text` is. Takes the same time whichever it is, if any: hashes are compared, all of them.
    fn holder(&self, text: &[u8]) -> Option<&str> {
        let hash = Sha256::digest(text).into();
        self.0.iter().fold(None, |found, token| if token.is(&hash) { Some(token.name.as_str()) } else { found })
    }
}

impl FromIterator<Token> for Tokens {
    fn from_iter<T: IntoIterator<Item = Token>>(tokens: T) -> Self {
        Tokens(tokens.into_iter().collect())
    }
}

impl From<Option<Token>> for Tokens {
    fn from(token: Option<Token>) -> Self {
        token.into_iter().collect()
    }
}

/// The IP address that a connection came from, with every request of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Lets a request pass that carries a token, together with who that is.
pub(super) async fn require_token(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    if shared.tokens.0.is_empty() {
        return Problem::no_token().into_response();
    }
    let Some(name) = bearer(&request).and_then(|given| shared.tokens.holder(given)) else {
        return Problem::unauthorized().into_response();
    };
    let actor = Actor { name: name.to_owned(), address: address(&request) };
    request.extensions_mut().insert(actor.clone());
    let mut response = next.run(request).await;
    response.extensions_mut().insert(actor);
    response
}

/// The name of whoever proved none.
const NOBODY: &str = "nobody known";

/// Keeps account of commands that are refused for who gives them, or for when: without a token or with a wrong one, to a
/// standby, about what is left alone. One that makes no sense is the caller's own affair.
pub(super) async fn account(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.uri().path().rsplit('/').next();
    let command = CommandVerb::ALL.into_iter().find(|verb| Some(verb.as_str()) == path);
    let address = address(&request);
    let response = next.run(request).await;
    let counts = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::CONFLICT);
    if let (true, Some(command), Some(refusal)) = (counts, command, response.extensions().get::<Refusal>()) {
        let unknown = || Actor { name: NOBODY.to_owned(), address };
        let actor = response.extensions().get::<Actor>().cloned().unwrap_or_else(unknown);
        let (code, message) = (refusal.code.to_owned(), refusal.message.clone());
        shared.report.refused(RefusedCommand { command, actor, code, message }, shared.began.elapsed());
    }
    response
}

/// Where a request comes from. An address of IPv4 that came through a socket of IPv6 is still one of IPv4.
fn address(request: &Request) -> Option<String> {
    request.extensions().get::<Peer>().map(|Peer(address)| address.to_canonical().to_string())
}

fn bearer(request: &Request) -> Option<&[u8]> {
    let value = request.headers().get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(format!("{:?}", Token::new("0123456789abcdef").unwrap()), "Token(token, …)");
    }

    #[test]
    fn a_token_is_known_by_its_name_and_by_nothing_else() {
        let tokens: Tokens = [("anna", "0123456789abcdef"), ("ci", "fedcba9876543210")]
            .map(|(n, t)| Token::named(n, t).unwrap())
            .into_iter()
            .collect();
        assert_eq!(tokens.holder(b"0123456789abcdef"), Some("anna"));
        assert_eq!(tokens.holder(b"fedcba9876543210"), Some("ci"));
        for other in ["", "anna", "0123456789abcdeF", "0123456789abcdef0", "anna 0123456789abcdef"] {
            assert_eq!(tokens.holder(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Tokens::default().holder(b""), None);
    }
}
