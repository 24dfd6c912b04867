//! What a service is compared with: what is wanted, with the live value in every field that the manifest's
//! `x-ofop` ignores.
//!
//! Everything behind this (comparing, merging, describing) knows nothing of ignored fields: they are equal by
//! construction, and what is sent holds what was found.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::diff::view;
use crate::model::fields::{Sketch, View};
use crate::model::{Field, ObservedService, OwnedField, ServiceSpec};

/// What a service shall be.
#[derive(Debug, Clone)]
pub(super) struct Target<'a> {
    /// Every field but the image.
    pub(super) spec: Cow<'a, ServiceSpec>,
    /// The image, pinned if its tag is followed.
    pub(super) image: Cow<'a, str>,
    /// Labels of its containers, where they are to differ from its own.
    container_labels: Option<BTreeMap<String, String>>,
}

impl<'a> Target<'a> {
    /// What the manifest wants of a service that was found. `pinned` is the image with the digest that its tag points to.
    ///
    /// Options that the manifest set, as the mark says, and sets no more have the engine's default.
    pub(super) fn wanted(spec: &'a ServiceSpec, pinned: Option<&'a str>, found: &ObservedService) -> Self {
        let image = Cow::Borrowed(pinned.unwrap_or(&spec.image));
        let mut spec = Cow::Borrowed(spec);
        if let Some(mark) = found.mark.as_ref().filter(|mark| !mark.options.is_empty()) {
            spec.to_mut().options.reset(&mark.options);
        }
        Target { spec, image, container_labels: None }
    }

    /// The same to compare with.
    pub(super) fn view(&self) -> View<'_> {
        View { spec: &self.spec, image: &self.image, container_labels: self.container_labels() }
    }

    /// The same, with these fields as they were found.
    pub(super) fn leaving(mut self, ignored: impl Iterator<Item = &'a Field>, found: &'a ObservedService) -> Self {
        for field in ignored {
            self.leave(field, found);
        }
        self
    }

    /// The labels that its containers shall carry.
    pub(super) fn container_labels(&self) -> &BTreeMap<String, String> {
        self.container_labels.as_ref().unwrap_or(&self.spec.labels)
    }

    fn leave(&mut self, field: &Field, found: &'a ObservedService) {
        let live = view(found);
        for (row, part) in field.rows() {
            let mut container_labels = self.container_labels().clone();
            let mut sketch = Sketch { spec: self.spec.to_mut(), container_labels: &mut container_labels };
            (row.take)(&mut sketch, live, part);
            if row.field == OwnedField::Image {
                self.image = Cow::Borrowed(live.image);
            }
            if matches!(row.field, OwnedField::Labels | OwnedField::ContainerLabels) {
                self.container_labels = Some(container_labels);
            }
        }
    }
}

/// How many replicas a service shall have: those that it has, where their number is ignored.
pub(super) fn replicas<'a>(wanted: u64, mut ignored: impl Iterator<Item = &'a Field>, found: &ObservedService) -> u64 {
    if ignored.any(|field| *field == Field::of(OwnedField::Replicas)) { found.spec.replicas } else { wanted }
}
