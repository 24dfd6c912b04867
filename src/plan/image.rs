//! Digests of images.

use crate::model::ImageRef;

/// Joins an image and the digest that its tag points to. An image that names a digest itself stays as it is.
pub(super) fn pin(image: &str, digest: Option<&str>) -> Option<String> {
    ImageRef::pinned(image, digest?)
}

/// The digest that an image names.
pub(super) fn digest(image: &str) -> Option<&str> {
    ImageRef::split_digest(image).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_image_without_digest_is_pinned() {
        assert_eq!(pin("app:1", Some("sha256:aa")).as_deref(), Some("app:1@sha256:aa"));
        assert_eq!(pin("app:1@sha256:bb", Some("sha256:aa")), None);
        assert_eq!(pin("app:1", None), None);
    }
}
