//! When an image as found is the image that is wanted.

use crate::model::ImageRef;

/// Joins an image and the digest that its tag points to. An image that names a digest itself stays as it is.
pub(super) fn pin(image: &str, digest: Option<&str>) -> Option<String> {
    ImageRef::pinned(image, digest?)
}

/// The digest that an image names.
pub(super) fn digest(image: &str) -> Option<&str> {
    ImageRef::split_digest(image).1
}

/// Whether `found` is `wanted`: the same repository and tag, and the same digest if `wanted` names one. A digest
/// that somebody else put behind our tag (docker's own client does so on every create) is no difference.
pub(super) fn matches(found: &str, wanted: &str) -> bool {
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
