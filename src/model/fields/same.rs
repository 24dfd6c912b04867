//! When lists of a service mean the same: the engine and its clients sort and re-sort them.

use std::collections::BTreeMap;

use crate::model::names::ServiceName;
use crate::model::service::{EnvVar, Mount, ServiceSpec};

/// Equal as sets; the usual case, equal as lists, is found first. Quadratic otherwise: these lists are short.
pub(super) fn same_set<T>(wanted: &[T], found: &[T], same: fn(&T, &T) -> bool) -> bool {
    if wanted.len() != found.len() {
        return false;
    }
    let as_listed = wanted.iter().zip(found).all(|(wanted, found)| same(wanted, found));
    as_listed
        || (wanted.iter().all(|item| found.iter().any(|other| same(item, other)))
            && found.iter().all(|item| wanted.iter().any(|other| same(other, item))))
}

/// The engine writes `local` where no volume driver was asked for.
pub(super) fn same_mount(wanted: &Mount, found: &Mount) -> bool {
    fn named(driver: &str) -> &str {
        if driver.is_empty() { "local" } else { driver }
    }
    match (wanted, found) {
        (
            Mount::Volume { source, target, driver, options, read_only },
            Mount::Volume {
                source: found_source,
                target: found_target,
                driver: found_driver,
                options: found_options,
                read_only: found_read_only,
            },
        ) => {
            source == found_source
                && target == found_target
                && named(driver) == named(found_driver)
                && options == found_options
                && read_only == found_read_only
        }
        (wanted, found) => wanted == found,
    }
}

/// Order counts only where a name occurs twice, since the last one wins then.
pub(super) fn same_env(wanted: &[EnvVar], found: &[EnvVar]) -> bool {
    if wanted == found {
        return true;
    }
    if wanted.len() != found.len() {
        return false;
    }
    let by_name = by_name(wanted);
    by_name.len() == wanted.len() && by_name == self::by_name(found)
}

pub(super) fn by_name(env: &[EnvVar]) -> BTreeMap<&str, &str> {
    env.iter().map(|var| (var.name.as_str(), var.value.as_str())).collect()
}

/// Every wanted label is there, and no other one that we would set.
pub(super) fn same_labels(
    of: &ServiceName,
    wanted: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> bool {
    *wanted == *found
        || (wanted.iter().all(|(key, value)| found.get(key) == Some(value))
            && found.keys().all(|key| wanted.contains_key(key) || !ServiceSpec::owns_label(of, key)))
}
