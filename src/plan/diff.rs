//! What differs between a service as wanted and as found, field by field.
//!
//! Comparing comes first and allocates nothing when both sides are written the same; the words for people are
//! made only when something differs. What each field is, its row in [`crate::model::fields`] says.

use crate::model::fields::{Sketch, View, Words};
use crate::model::service::{LABEL_AFTER, LABEL_OPTIONS, LABEL_WINDOWS};
use crate::model::{FieldChange, FieldSet, Mark, ObservedService, OwnedField, ServiceSpec};

use super::target::Target;

/// A service as it was found.
pub(super) fn view(found: &ObservedService) -> View<'_> {
    View { spec: &found.spec, image: &found.spec.image, container_labels: &found.container_labels }
}

/// The fields that differ.
pub(super) fn compare(target: &Target<'_>, found: &ObservedService) -> FieldSet {
    FieldSet::differing(target.view(), view(found))
}

/// The spec to send: what is wanted where it differs, what was found where it does not, so that a field that
/// is merely written differently (an order, a digest behind our tag) restarts no task.
pub(super) fn merge(target: &Target<'_>, found: &ObservedService, differences: FieldSet) -> ServiceSpec {
    let mut spec = (*found.spec).clone();
    spec.name.clone_from(&target.spec.name);
    // Those of the containers travel beside it.
    let mut container_labels = target.container_labels().clone();
    let mut sketch = Sketch { spec: &mut spec, container_labels: &mut container_labels };
    // What was found may be more labels than those that are ours.
    let labels = std::iter::once(OwnedField::Labels.row());
    for row in labels.chain(differences.rows()) {
        (row.take)(&mut sketch, target.view(), None);
    }
    spec
}

/// The differences in words. Values of variables are in them, marked as secret.
pub(super) fn describe(target: &Target<'_>, found: &ObservedService, differences: FieldSet) -> Vec<FieldChange> {
    let mut words = Words::default();
    for row in differences.rows() {
        (row.tell)(&mut words, view(found), target.view());
    }
    words.changes
}

/// What of a mark differs, in words. The hash alone is named only when nothing else explains an update.
pub(super) fn describe_mark(wanted: &Mark, found: Option<&Mark>, hash_too: bool) -> Vec<FieldChange> {
    let mut words = Words::default();
    let (instance, resource) = (wanted.instance.to_string(), wanted.resource.to_string());
    let found_instance = found.map(|mark| mark.instance.to_string());
    let found_resource = found.map(|mark| mark.resource.to_string());
    let found_hash = found.map(|mark| mark.spec.0.clone());
    if found_instance.as_ref() != Some(&instance) {
        words.push("mark.instance", found_instance, Some(instance));
    }
    if found_resource.as_ref() != Some(&resource) {
        words.push("mark.resource", found_resource, Some(resource));
    }
    let prune = |mark: &Mark| mark.kept.map(|kept| (!kept).to_string());
    let found_prune = found.map_or(Some("true".to_owned()), prune);
    if found_prune.is_some() && found_prune != prune(wanted) {
        words.push("mark.prune", found_prune, prune(wanted));
    }
    let terms = |mark: &Mark| {
        let labels = mark.labels().into_iter().filter(|(key, _)| matches!(*key, LABEL_AFTER | LABEL_WINDOWS));
        labels.map(|(_, text)| text).collect::<Vec<_>>().join("; ")
    };
    let (found_terms, wanted_terms) = (found.map(terms).unwrap_or_default(), terms(wanted));
    if found_terms != wanted_terms {
        let shown = |text: String| Some(text).filter(|text| !text.is_empty());
        words.push("mark.removal", shown(found_terms), shown(wanted_terms));
    }
    let options = |mark: &Mark| mark.labels().into_iter().find(|(key, _)| *key == LABEL_OPTIONS).map(|(_, text)| text);
    let (found_options, wanted_options) = (found.and_then(options), options(wanted));
    if found_options != wanted_options {
        words.push("mark.options", found_options, wanted_options);
    }
    if hash_too && found_hash.as_ref() != Some(&wanted.spec.0) {
        words.push("mark.spec", found_hash, Some(wanted.spec.0.clone()));
    }
    words.changes
}
