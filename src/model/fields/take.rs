//! Taking over a part of a list: the items that are meant come from one side, the others stay.

use std::collections::BTreeMap;

use crate::model::service::{EnvVar, Mount};

/// A variable keeps its place in the order of what is wanted, since a name that occurs twice has a meaning there.
pub(super) fn leave_variable(wanted: &mut Vec<EnvVar>, live: &[EnvVar], name: &str) {
    leave_items(wanted, live, |variable| variable.name == name);
}

/// Puts the items of `live` that are meant in the place of those of `wanted`, one by one; surplus ones go, further
/// ones come last.
pub(super) fn leave_items<T: Clone>(wanted: &mut Vec<T>, live: &[T], is_meant: impl Fn(&T) -> bool) {
    let mut found = live.iter().filter(|item| is_meant(item));
    let mut left = Vec::with_capacity(wanted.len());
    for item in wanted.drain(..) {
        if is_meant(&item) {
            left.extend(found.next().cloned());
        } else {
            left.push(item);
        }
    }
    left.extend(found.cloned());
    *wanted = left;
}

pub(super) fn leave_labels(wanted: &mut BTreeMap<String, String>, live: &BTreeMap<String, String>, key: Option<&str>) {
    let Some(key) = key else {
        wanted.clone_from(live);
        return;
    };
    match live.get(key) {
        Some(value) => wanted.insert(key.to_owned(), value.clone()),
        None => wanted.remove(key),
    };
}

pub(super) fn mount_target(mount: &Mount) -> &str {
    match mount {
        Mount::Volume { target, .. } | Mount::Bind { target, .. } | Mount::Other { target, .. } => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(texts: &[&str]) -> Vec<EnvVar> {
        texts.iter().map(|text| EnvVar::split(text)).collect()
    }

    #[test]
    fn a_variable_keeps_its_place_and_its_live_value() {
        for (wanted, live, left) in [
            (vec!["A=1", "B=2", "C=3"], vec!["A=x", "B=y", "C=z"], vec!["A=1", "B=y", "C=3"]),
            (vec!["A=1", "B=2", "C=3"], vec!["A=1", "C=3"], vec!["A=1", "C=3"]),
            (vec!["A=1", "C=3"], vec!["A=1", "B=y", "C=3"], vec!["A=1", "C=3", "B=y"]),
            (vec!["B=1", "A=1", "B=2"], vec!["B=x", "A=1"], vec!["B=x", "A=1"]),
            (vec!["B=1", "A=1"], vec!["B=x", "A=1", "B=y"], vec!["B=x", "A=1", "B=y"]),
        ] {
            let mut result = variables(&wanted);
            leave_variable(&mut result, &variables(&live), "B");
            assert_eq!(result, variables(&left), "{wanted:?} {live:?}");
        }
    }
}
