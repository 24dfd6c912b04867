//! Whether a call really comes from whom the secret was given to. Pure: headers and bytes in, yes or no out.
//!
//! | sender | header | proof |
//! |---|---|---|
//! | GitHub | `X-Hub-Signature-256` | `sha256=` and the HMAC of the body, in hexadecimal |
//! | Gitea, Forgejo | `X-Gitea-Signature`, `X-Forgejo-Signature` | the HMAC of the body, in hexadecimal |
//! | GitLab, signing token | `webhook-signature` | Standard Webhooks: `v1,` and the HMAC of `ID.TIMESTAMP.BODY`, in base64 |
//! | GitLab, secret token | `X-Gitlab-Token` | the secret itself |
//! | anybody | `Authorization: Bearer` | the secret itself |
//!
//! Every HMAC is HMAC-SHA256. One good proof is enough, since nobody without the secret can make any; a sender that
//! is migrating sends two. Everything secret is compared in a time that does not depend on where it differs.
//!
//! Timestamps are not looked at: an old call that is sent again makes the source look once more, and no harm is done.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The shortest secret that is taken, in bytes: shorter ones can be guessed.
pub const MIN_SECRET: usize = 16;

/// What Standard Webhooks writes before a key in base64.
const KEY_PREFIX: &str = "whsec_";

/// How many signatures of one header are looked at: a sender that changes its key sends two.
const SIGNATURES: usize = 4;

type Keyed = Hmac<Sha256>;

/// An HMAC-SHA256.
type Tag = [u8; 32];

/// The secret that is shared with the sender.
#[derive(Clone)]
pub struct Secret {
    /// Keyed with the secret as it is written.
    plain: Keyed,
    /// Keyed with what a `whsec_…` secret stands for.
    signing: Option<Keyed>,
    /// The secret under its own key: what a token that is the secret comes to as well.
    token: Tag,
}

/// A text that cannot be a webhook's secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret must have at least {MIN_SECRET} characters and no control characters")]
pub struct InvalidSecret;

impl Secret {
    /// Checks a secret; white space around it is not part of it, since files end with a line feed.
    ///
    /// # Errors
    /// When it is shorter than [`MIN_SECRET`], or holds control characters.
    pub fn new(text: &str) -> Result<Self, InvalidSecret> {
        let text = text.trim();
        if text.len() < MIN_SECRET || text.chars().any(char::is_control) {
            return Err(InvalidSecret);
        }
        let plain = keyed(text.as_bytes())?;
        let key = text.strip_prefix(KEY_PREFIX).and_then(|key| BASE64.decode(key).ok()).filter(|key| !key.is_empty());
        let signing = key.map(|key| keyed(&key)).transpose()?;
        let token = plain.clone().chain_update(text).finalize().into_bytes().into();
        Ok(Secret { plain, signing, token })
    }

    /// Looks for proofs in a call's headers, which are asked for by their names in lower case.
    pub(super) fn claims<'a>(&self, header: impl Fn(&'static str) -> Option<&'a [u8]>) -> Claims {
        let is_secret = |token: &[u8]| self.plain.clone().chain_update(token).verify_slice(&self.token).is_ok();
        let proven = header("x-gitlab-token").is_some_and(is_secret)
            || header("authorization").and_then(bearer).is_some_and(is_secret);
        let mut signed = Vec::new();
        let hub = header("x-hub-signature-256").and_then(|value| value.strip_prefix(b"sha256="));
        let tags: Vec<Tag> = [hub, header("x-forgejo-signature"), header("x-gitea-signature")]
            .into_iter()
            .flatten()
            .filter_map(hexadecimal)
            .collect();
        if !tags.is_empty() {
            signed.push(Signed { mac: self.plain.clone(), tags });
        }
        if let (Some(key), Some(id), Some(timestamp), Some(signatures)) =
            (&self.signing, header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
        {
            let tags: Vec<Tag> = signatures
                .split(|byte| *byte == b' ')
                .filter_map(|signature| signature.strip_prefix(b"v1,"))
                .filter_map(|text| BASE64.decode(text).ok()?.try_into().ok())
                .take(SIGNATURES)
                .collect();
            if !tags.is_empty() {
                let mac = [id, b".", timestamp, b"."].into_iter().fold(key.clone(), Keyed::chain_update);
                signed.push(Signed { mac, tags });
            }
        }
        Claims { proven, signed }
    }
}

/// Never shows anything of it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// HMAC takes keys of any length, so that this does not fail.
fn keyed(key: &[u8]) -> Result<Keyed, InvalidSecret> {
    Keyed::new_from_slice(key).map_err(|_| InvalidSecret)
}

/// What a call claims to prove, while its body arrives.
pub(super) struct Claims {
    /// A token was right: the body need not be signed.
    proven: bool,
    signed: Vec<Signed>,
}

/// An HMAC in the making, and those that the sender says it will come to.
struct Signed {
    mac: Keyed,
    tags: Vec<Tag>,
}

impl Claims {
    /// Whether no body could prove anything any more.
    pub(super) fn hopeless(&self) -> bool {
        !self.proven && self.signed.is_empty()
    }

    /// Takes in a piece of the body.
    pub(super) fn update(&mut self, piece: &[u8]) {
        if !self.proven {
            for signed in &mut self.signed {
                signed.mac.update(piece);
            }
        }
    }

    /// Whether a claim holds, now that the body is complete.
    pub(super) fn hold(self) -> bool {
        let right = |signed: Signed| signed.tags.iter().any(|tag| signed.mac.clone().verify_slice(tag).is_ok());
        self.proven || self.signed.into_iter().any(right)
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// 64 hexadecimal digits, and nothing else.
fn hexadecimal(text: &[u8]) -> Option<Tag> {
    let mut tag = Tag::default();
    if text.len() != 2 * tag.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, pair) in tag.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's documentation.
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &str = "Hello, World!";
    const TAG: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn holds(secret: &str, headers: &[(&str, &str)], body: &str) -> bool {
        let secret = Secret::new(secret).unwrap();
        let mut claims =
            secret.claims(|name| headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_bytes()));
        for piece in body.as_bytes().chunks(5) {
            claims.update(piece);
        }
        claims.hold()
    }

    #[test]
    fn the_documented_example_of_github_holds_and_nothing_near_it() {
        let signed = |value: &str| holds(SECRET, &[("x-hub-signature-256", value)], BODY);
        assert!(signed(&format!("sha256={TAG}")));
        assert!(signed(&format!("sha256={}", TAG.to_uppercase())));
        for wrong in ["", "sha256=", TAG, &format!("sha1={TAG}")] {
            assert!(!signed(wrong), "{wrong}");
        }
        for wrong in [
            TAG.replace('7', "8"),
            TAG.replace('7', "g"),
            TAG[2..].to_owned(),
            format!("{TAG}00"),
            format!("+{}", &TAG[1..]),
        ] {
            assert!(!signed(&format!("sha256={wrong}")), "{wrong}");
        }
        assert!(!holds(SECRET, &[("x-hub-signature-256", &format!("sha256={TAG}"))], "Hello, World?"));
        assert!(!holds("It's a Secret to Nobody", &[("x-hub-signature-256", &format!("sha256={TAG}"))], BODY));
    }

    #[test]
    fn gitea_and_forgejo_send_the_bare_digits_and_one_good_proof_is_enough() {
        assert!(holds(SECRET, &[("x-gitea-signature", TAG)], BODY));
        assert!(holds(SECRET, &[("x-forgejo-signature", TAG)], BODY));
        assert!(holds(SECRET, &[("x-forgejo-signature", &TAG.replace('7', "1")), ("x-gitea-signature", TAG)], BODY));
        assert!(!holds(SECRET, &[("x-hub-signature-256", TAG)], BODY));
    }

    #[test]
    fn the_reference_vector_of_standard_webhooks_holds() {
        const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        const BODY: &str = r#"{"test": 2432232314}"#;
        const RIGHT: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let with = |secret: &str, id: &str, timestamp: &str, signature: &str| {
            let headers = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
            holds(secret, &headers, BODY)
        };
        let (id, time) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        assert!(with(SECRET, id, time, RIGHT));
        assert!(with(SECRET, id, time, &format!("v1,AAAA v2,x {RIGHT}")));
        assert!(!with(SECRET, "msg_other", time, RIGHT));
        assert!(!with(SECRET, id, "1614265331", RIGHT));
        assert!(!with(SECRET, id, time, &RIGHT.replace("v1,", "v1a,")));
        assert!(!with(SECRET, id, time, "v1,"));
        assert!(!with("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", id, time, RIGHT), "a secret that is no key signs nothing");
    }

    #[test]
    fn a_token_must_be_the_secret() {
        assert!(holds(SECRET, &[("x-gitlab-token", SECRET)], BODY));
        assert!(holds(SECRET, &[("authorization", &format!("bearer  {SECRET}"))], ""));
        for wrong in ["", "It's a Secret to Everybod", "it's a secret to everybody", SECRET] {
            assert!(!holds(SECRET, &[("authorization", wrong)], BODY), "{wrong}");
        }
        assert!(!holds(SECRET, &[("x-gitlab-token", "It's a Secret to Everybody!")], BODY));
        assert!(!holds(SECRET, &[("authorization", &format!("Basic {SECRET}"))], BODY));
    }

    #[test]
    fn what_holds_no_proof_is_hopeless_before_its_body() {
        let secret = Secret::new(SECRET).unwrap();
        let claims = |name: &'static str, value: &'static str| {
            secret.claims(move |asked| (asked == name).then_some(value.as_bytes()))
        };
        assert!(claims("x-github-event", "push").hopeless());
        assert!(claims("x-hub-signature-256", "sha256=12").hopeless());
        assert!(claims("x-gitlab-token", "wrong").hopeless());
        assert!(claims("webhook-signature", "v1,AAAA").hopeless());
        assert!(!claims("x-gitlab-token", SECRET).hopeless());
        assert!(!claims("x-gitea-signature", TAG).hopeless());
    }

    #[test]
    fn secrets_are_long_enough_and_never_shown() {
        assert!(Secret::new(" 0123456789abcdef\n").is_ok());
        for bad in ["", "0123456789abcde", "0123456789\n0123456789"] {
            assert_eq!(Secret::new(bad).map(drop), Err(InvalidSecret), "{bad:?}");
        }
        assert_eq!(format!("{:?}", Secret::new(SECRET).unwrap()), "Secret(…)");
    }
}
