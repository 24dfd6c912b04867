//! When an image as found is the image that is wanted.

/// Joins an image and the digest that its tag points to. An image that names a digest itself stays as it is.
pub(super) fn pin(image: &str, digest: Option<&str>) -> Option<String> {
    match digest {
        Some(digest) if !image.contains('@') => Some(format!("{image}@{digest}")),
        Some(_) | None => None,
    }
}

/// The digest that an image names.
pub(super) fn digest(image: &str) -> Option<&str> {
    image.split_once('@').map(|(_, digest)| digest)
}

/// Whether `found` is `wanted`: the same repository and tag, and the same digest if `wanted` names one. A digest
/// that somebody else put behind our tag (docker's own client does so on every create) is no difference.
pub(super) fn matches(found: &str, wanted: &str) -> bool {
    if found == wanted {
        return true;
    }
    let (found_name, found_digest) = split(found);
    let (wanted_name, wanted_digest) = split(wanted);
    (wanted_digest.is_none() || found_digest == wanted_digest) && parts(found_name) == parts(wanted_name)
}

fn split(image: &str) -> (&str, Option<&str>) {
    match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    }
}

/// Repository and tag with docker's defaults taken out: `docker.io/library/redis:latest` is `redis`.
fn parts(name: &str) -> (&str, &str) {
    let name = name.strip_prefix("index.docker.io/").or_else(|| name.strip_prefix("docker.io/")).unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    match name.rsplit_once(':') {
        // a colon before the last slash belongs to a registry's port
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        Some(_) | None => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_pinned_by_somebody_else_is_no_difference() {
        assert!(matches("ghcr.io/x/app:1@sha256:aa", "ghcr.io/x/app:1"));
        assert!(matches("redis:latest@sha256:aa", "redis"));
        assert!(matches("docker.io/library/redis:7", "redis:7"));
        assert!(matches("host:5000/app", "host:5000/app:latest"));
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
            assert!(!matches(found, wanted), "{found} is not {wanted}");
        }
    }

    #[test]
    fn only_an_image_without_digest_is_pinned() {
        assert_eq!(pin("app:1", Some("sha256:aa")).as_deref(), Some("app:1@sha256:aa"));
        assert_eq!(pin("app:1@sha256:bb", Some("sha256:aa")), None);
        assert_eq!(pin("app:1", None), None);
    }
}
