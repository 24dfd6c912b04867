//! Who may read, and who may say something to the operator, under which name.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::Shared;
use super::problem::{Problem, Refusal};
use crate::model::command::UNNAMED;
use crate::model::{Actor, Command, CommandVerb, Role};
use crate::report::RefusedCommand;

/// The shortest token that is taken, in bytes: shorter ones can be guessed.
pub const MIN_TOKEN: usize = 8;

/// What to do where a token is missing.
pub const MAKE_A_TOKEN: &str = "make one with `(umask 077; head -c 32 /dev/urandom | base64 > api_token)` and start the \
     operator with `--token-file api_token`";

/// A secret that requests must carry, the name of who carries it, and what it allows. Only the secret's hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    name: String,
    role: Role,
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
        Ok(Token { name: name.to_owned(), role: Role::Confirm, hash: Sha256::digest(text).into() })
    }

    /// The same token with another role than the highest.
    #[must_use]
    pub fn role(self, role: Role) -> Self {
        Token { role, ..self }
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

/// The tokens that requests may carry. Without any, nobody may give commands.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    all: Arc<[Token]>,
    public_read: bool,
}

impl Tokens {
    /// Reading needs no token wherever the server listens.
    #[must_use]
    pub fn public_read(self, public_read: bool) -> Self {
        Tokens { public_read, ..self }
    }

    /// Whose token `text` is. Takes the same time whichever it is, if any: hashes are compared, all of them.
    fn holder(&self, text: &[u8]) -> Option<&Token> {
        let hash = Sha256::digest(text).into();
        self.all.iter().fold(None, |found, token| if token.is(&hash) { Some(token) } else { found })
    }
}

impl FromIterator<Token> for Tokens {
    fn from_iter<T: IntoIterator<Item = Token>>(tokens: T) -> Self {
        Tokens { all: tokens.into_iter().collect(), public_read: false }
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

/// Who gives a command, and what their token allows.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) actor: Actor,
    role: Role,
}

impl Caller {
    /// # Errors
    /// When the token does not allow this command.
    pub(super) fn may(&self, command: &Command) -> Result<(), Problem> {
        self.has(command.needs())
    }

    fn has(&self, needed: Role) -> Result<(), Problem> {
        if self.role < needed { Err(Problem::not_permitted(&self.actor.name, self.role, needed)) } else { Ok(()) }
    }
}

/// Lets a request to read pass: on a loopback address, where everybody may read, or with a token of whatever role. Browsers
/// send the token as the password that they ask for; they would also send it along with what other pages make them send,
/// so that it counts nowhere but here.
pub(super) async fn require_reader(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if shared.loopback || shared.tokens.public_read {
        return next.run(request).await;
    }
    if shared.tokens.all.is_empty() {
        return Problem::no_token_to_read().into_response();
    }
    let password = password(&request);
    match bearer(&request).or(password.as_deref()).and_then(|given| shared.tokens.holder(given)) {
        Some(_) => next.run(request).await,
        None => Problem::unauthorized_reader(),
    }
}

/// Lets a request pass that carries a token which allows commands, together with who that is.
pub(super) async fn require_token(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    if shared.tokens.all.is_empty() {
        return Problem::no_token().into_response();
    }
    let Some(token) = bearer(&request).and_then(|given| shared.tokens.holder(given)) else {
        return Problem::unauthorized().into_response();
    };
    let actor = Actor { name: token.name.clone(), address: address(&request) };
    let caller = Caller { actor: actor.clone(), role: token.role };
    let mut response = match caller.has(Role::Operate) {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
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

/// The password of a request with one (RFC 7617).
fn password(request: &Request) -> Option<Vec<u8>> {
    let value = request.headers().get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, pair) = value.split_at_checked("Basic ".len())?;
    let pair = BASE64.decode(pair.trim_ascii()).ok().filter(|_| scheme.eq_ignore_ascii_case(b"basic "))?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
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
        let name = |token: &[u8]| tokens.holder(token).map(|token| token.name.as_str());
        assert_eq!(name(b"0123456789abcdef"), Some("anna"));
        assert_eq!(name(b"fedcba9876543210"), Some("ci"));
        for other in ["", "anna", "0123456789abcdeF", "0123456789abcdef0", "anna 0123456789abcdef"] {
            assert_eq!(tokens.holder(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Tokens::default().holder(b""), None);
    }
}
