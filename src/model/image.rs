//! References to images, as Docker reads them.

use std::fmt;

/// The registry of images that name none.
pub const DOCKER_HUB: &str = "docker.io";
/// What it was called once, and still is in old references.
const OLD_DOCKER_HUB: &str = "index.docker.io";
/// Where images of Docker's registry are that name no user.
const LIBRARY: &str = "library/";
/// The most bytes of a name, its registry included (distribution/reference, `NameTotalLengthMax`).
const MAX_NAME: usize = 255;
/// The most characters of a tag.
const MAX_TAG: usize = 128;
/// The digests that an engine knows, with their length in hexadecimal digits (opencontainers/go-digest).
const DIGESTS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// A reference to an image, taken apart by the grammar of the engine (distribution/reference, `ParseNormalizedNamed`),
/// with Docker's defaults filled in: `redis` is `docker.io/library/redis`.
///
/// ```
/// use ofop::model::ImageRef;
///
/// let image = ImageRef::parse("ghcr.io/plant/press:1.2").unwrap();
/// assert_eq!((image.registry(), image.repository(), image.tag()), ("ghcr.io", "plant/press", Some("1.2")));
/// assert!(ImageRef::parse("press:").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is no reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImage {
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// A URL.
    #[error("is a URL; an image is named without `http://` or `https://`")]
    Url,
    /// White space, before, after or inside.
    #[error("holds white space")]
    WhiteSpace,
    /// The colon is there and the tag is not.
    #[error("ends in a `:` without a tag behind it")]
    NoTag,
    /// What stands behind the last colon is no tag.
    #[error("has a tag that is none: letters, digits, `_`, `.` and `-`, at most 128, not beginning with `.` or `-`")]
    Tag,
    /// The `@` is there and no digest follows that the engine knows.
    #[error("has a digest that is none: `sha256:` and 64 hexadecimal digits in lower case")]
    Digest,
    /// A name of an image in capitals.
    #[error("has a name in capitals: registries know lower case only")]
    Capitals,
    /// The registry is no host name.
    #[error("names a registry that is no host name, or has a port that is no number")]
    Registry,
    /// The name is none.
    #[error("has a name that is none: lower-case letters and digits, with `.`, `_`, `__` or `-` between them")]
    Name,
    /// The name is too long.
    #[error("has a name of more than 255 characters")]
    Long,
    /// The id of an image.
    #[error("is the id of an image, which only the engine that holds it understands")]
    Id,
}

impl ImageRef {
    /// Takes a reference apart.
    ///
    /// # Errors
    /// When the engine would refuse it; the error says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidImage> {
        if text.trim().is_empty() {
            return Err(InvalidImage::Empty);
        }
        if text.contains("://") {
            return Err(InvalidImage::Url);
        }
        if text.chars().any(char::is_whitespace) {
            return Err(InvalidImage::WhiteSpace);
        }
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidImage::Id);
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(named);
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            Some(_) | None => (rest, None),
        };
        match tag {
            Some("") => return Err(InvalidImage::NoTag),
            Some(tag) if !is_tag(tag) => return Err(InvalidImage::Tag),
            Some(_) | None => {}
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(InvalidImage::Digest);
        }
        if registry.is_some_and(|registry| !is_registry(registry)) {
            return Err(InvalidImage::Registry);
        }
        if !repository.split('/').all(is_component) {
            let lower = repository.to_ascii_lowercase();
            let capitals = lower != repository && lower.split('/').all(is_component);
            return Err(if capitals { InvalidImage::Capitals } else { InvalidImage::Name });
        }
        let registry = match registry {
            None | Some(OLD_DOCKER_HUB) => DOCKER_HUB,
            Some(registry) => registry,
        };
        let of_library = registry == DOCKER_HUB && !repository.contains('/');
        let repository = if of_library { format!("{LIBRARY}{repository}") } else { repository.to_owned() };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(InvalidImage::Long);
        }
        let owned = |part: Option<&str>| part.map(str::to_owned);
        Ok(ImageRef { registry: registry.to_owned(), repository, tag: owned(tag), digest: owned(digest) })
    }

    /// Its registry, `docker.io` where none is named.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Its name in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Its tag; none where none is named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Its digest, `sha256:…`; none where none is named.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Whether both name the same tag of the same image; where none is named it is `latest`.
    pub fn has_tag_of(&self, other: &ImageRef) -> bool {
        let tag = |image: &ImageRef| image.tag.as_deref().unwrap_or("latest").to_owned();
        self.registry == other.registry && self.repository == other.repository && tag(self) == tag(other)
    }

    /// The text with the tag that is meant where neither a tag nor a digest is named: engines pull every tag then.
    pub fn with_tag(text: &str) -> String {
        match ImageRef::parse(text) {
            Ok(ImageRef { tag: None, digest: None, .. }) => format!("{text}:latest"),
            Ok(_) | Err(_) => text.to_owned(),
        }
    }

    /// The text with a digest behind it; none where it names one itself.
    pub fn pinned(text: &str, digest: &str) -> Option<String> {
        (!text.contains('@')).then(|| format!("{text}@{digest}"))
    }

    /// Whether `found` is `wanted`: the same repository and tag, and the same digest if `wanted` names one. A digest
    /// that somebody else put behind our tag (docker's own client does so on every create) is no difference.
    pub fn matches(found: &str, wanted: &str) -> bool {
        if found == wanted {
            return true;
        }
        let ((found, found_digest), (wanted, wanted_digest)) =
            (ImageRef::split_digest(found), ImageRef::split_digest(wanted));
        let same_tag = || match (ImageRef::parse(found), ImageRef::parse(wanted)) {
            (Ok(found), Ok(wanted)) => found.has_tag_of(&wanted),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => found == wanted,
        };
        (wanted_digest.is_none() || found_digest == wanted_digest) && same_tag()
    }

    /// Takes the digest off a text that names one: the text before it, and the digest.
    pub fn split_digest(text: &str) -> (&str, Option<&str>) {
        match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        }
    }

    /// The registry that an engine asks for an image, also for a text that it would refuse.
    pub fn registry_of(text: &str) -> &str {
        match split_registry(text).0 {
            None | Some(OLD_DOCKER_HUB) => DOCKER_HUB,
            Some(registry) => registry,
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The part before the first slash is a registry if it cannot be the name of a user.
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((host, rest))
            if host.contains(['.', ':'])
                || host == "localhost"
                || host.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (Some(host), rest)
        }
        Some(_) | None => (None, text),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let is_address =
                !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            return is_address && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_number));
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Letters and digits, with one `.`, one or two `_`, or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_part = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let edges = [bytes.first(), bytes.last()];
    if !edges.into_iter().all(|byte| byte.is_some_and(|byte| is_part(*byte))) {
        return false;
    }
    bytes
        .split(|byte| is_part(*byte))
        .all(|between| matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (Some(first), true) = (text.bytes().next(), text.len() <= MAX_TAG) else { return false };
    is_word(first) && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let length = DIGESTS.iter().find(|(known, _)| *known == algorithm).map(|(_, length)| *length);
    length == Some(hex.len()) && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases of distribution/reference's own tests among them.
    #[test]
    fn what_an_engine_takes_is_taken_apart_as_it_does() {
        let hex = "a".repeat(64);
        for (text, whole) in [
            ("redis", "docker.io/library/redis"),
            ("redis:7", "docker.io/library/redis:7"),
            ("docker.io/redis", "docker.io/library/redis"),
            ("index.docker.io/ann/app", "docker.io/ann/app"),
            ("docker/docker", "docker.io/docker/docker"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
            ("[2001:db8::1]:5000/app:1", "[2001:db8::1]:5000/app:1"),
            ("[::1]/app", "[::1]/app"),
            ("Registry/app", "Registry/app"),
            ("registry:5000/a/b/c:V1.2-x_y", "registry:5000/a/b/c:V1.2-x_y"),
            ("xn--n3h.com/myimage", "xn--n3h.com/myimage"),
            ("a.b/foo__bar/foo.bar/foo---bar", "a.b/foo__bar/foo.bar/foo---bar"),
            ("asd.asd/a_b", "asd.asd/a_b"),
            ("1.2.3.4", "docker.io/library/1.2.3.4"),
            ("docker.io/library/app:_1", "docker.io/library/app:_1"),
        ] {
            assert_eq!(ImageRef::parse(text).map(|image| image.to_string()).as_deref(), Ok(whole), "{text}");
        }
        let pinned = ImageRef::parse(&format!("app:1@sha256:{hex}")).unwrap();
        assert_eq!((pinned.tag(), pinned.digest()), (Some("1"), Some(&*format!("sha256:{hex}"))));
        assert!(ImageRef::parse(&format!("app@sha512:{}", "0".repeat(128))).is_ok());
        assert!(ImageRef::parse(&format!("{}/a", "a".repeat(236))).is_ok());
        assert!(ImageRef::parse(&format!("app:{}", "t".repeat(128))).is_ok());
    }

    #[test]
    fn what_an_engine_refuses_is_refused_with_the_part_that_is_wrong() {
        use InvalidImage::{Capitals, Digest, Empty, Id, Long, Name, NoTag, Registry, Tag, Url, WhiteSpace};
        let hex = "a".repeat(64);
        for (text, error) in [
            ("", Empty),
            (" ", Empty),
            ("http://reg.local/app", Url),
            ("https://app:1", Url),
            ("label :1", WhiteSpace),
            ("app:1 ", WhiteSpace),
            ("app: 1", WhiteSpace),
            ("app:1\n", WhiteSpace),
            ("x:", NoTag),
            ("reg:5000/x:", NoTag),
            ("Label:1", Capitals),
            ("reg.local/Plant/app", Capitals),
            ("app:-1", Tag),
            ("app:.1", Tag),
            ("app:ä", Tag),
            ("app:1+2", Tag),
            (&format!("app:{}", "t".repeat(129)), Tag),
            ("app@sha256:abc", Digest),
            ("app@sha256:", Digest),
            ("app@", Digest),
            (&format!("app@sha256:{}", "A".repeat(64)), Digest),
            (&format!("app@md5:{hex}"), Digest),
            (&format!("app@sha256:{hex}@sha256:{hex}"), Digest),
            (&hex, Id),
            ("reg.local:port/app", Registry),
            ("reg..local/app", Registry),
            ("-reg.local/app", Registry),
            ("[::g]/app", Registry),
            ("app//x", Name),
            ("/app", Name),
            ("app/", Name),
            ("a..b", Name),
            ("a___b", Name),
            ("-app", Name),
            ("app-", Name),
            ("a._b", Name),
            ("äpp", Name),
            ("app:1:2", Name),
            (":1", Name),
            ("reg.local/", Name),
            (&format!("{}/a", "a".repeat(250)), Long),
        ] {
            assert_eq!(ImageRef::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn texts_are_pinned_and_completed_without_another_change() {
        assert_eq!(ImageRef::with_tag("reg:5000/app"), "reg:5000/app:latest");
        for whole in ["app:1", "app@sha256:x", "reg:5000/app:1", "odd:"] {
            assert_eq!(ImageRef::with_tag(whole), whole);
        }
        assert_eq!(ImageRef::pinned("app:1", "sha256:aa").as_deref(), Some("app:1@sha256:aa"));
        assert_eq!(ImageRef::pinned("app:1@sha256:bb", "sha256:aa"), None);
        assert_eq!(ImageRef::split_digest("app:1@sha256:bb"), ("app:1", Some("sha256:bb")));
        assert_eq!(ImageRef::split_digest("app:1"), ("app:1", None));
    }

    #[test]
    fn a_digest_pinned_by_somebody_else_is_no_difference() {
        assert!(ImageRef::matches("ghcr.io/x/app:1@sha256:aa", "ghcr.io/x/app:1"));
        assert!(ImageRef::matches("redis:latest@sha256:aa", "redis"));
        assert!(ImageRef::matches("docker.io/library/redis:7", "redis:7"));
        assert!(ImageRef::matches("host:5000/app", "host:5000/app:latest"));
    }

    #[test]
    fn another_tag_repository_or_wanted_digest_is_a_difference() {
        for (found, wanted) in [
            ("app:2@sha256:aa", "app:1"),
            ("app:1@sha256:aa", "app:1@sha256:bb"),
            ("app:1", "app:1@sha256:bb"),
            ("other/app:1", "app:1"),
            ("host:5000/app:1", "host:5001/app:1"),
        ] {
            assert!(!ImageRef::matches(found, wanted), "{found} is not {wanted}");
        }
    }
}
