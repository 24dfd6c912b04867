//! `after` and `rollout` of `x-ofop`: in which order changes go out, and how many at a time.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::checked::{Object, Typed, Value};
use super::handling::{Described, which_resource};
use super::manifest::{After, Place};
use super::problems::Problems;
use super::yaml::push_index;
use crate::model::{ResourceId, RolloutPolicy, RolloutSettings, Share, parse_duration};

/// The longest time that a changed resource can be asked to run before the next one.
const LONGEST_SOAK: Duration = Duration::from_secs(24 * 3600);

/// After what the resources come of which `object` speaks.
pub(super) fn after(object: &Object, path: &str, problems: &mut Problems<'_>) -> Vec<After> {
    let named = resources(object, path, "after", problems);
    let after = |(first, item, path): (ResourceId, &Value, String)| {
        let place = Place { line: item.at.line, column: item.at.column };
        After { first, place, path }
    };
    named.into_iter().map(after).collect()
}

/// How changes go out, if the file says so. What is wrong in it is left at its default: the file is refused anyway.
pub(super) fn read(
    object: &Object,
    path: &str,
    described: &Described,
    problems: &mut Problems<'_>,
) -> Option<RolloutPolicy> {
    let path = format!("{path}.rollout");
    let object = match &object.get("rollout")?.typed {
        Typed::Bool(_) => return Some(RolloutPolicy::Off),
        Typed::Object(object) => object,
        _ => return None,
    };
    let defaults = RolloutSettings::default();
    let max_unhealthy = amount(object, "max_unhealthy", &path, problems, |text| {
        text.parse::<Share>().map_err(|error| (error.to_string(), "write a number from 1 on, or `1%` to `100%`"))
    });
    let soak = amount(object, "soak", &path, problems, |text| match parse_duration(text) {
        Some(soak) if soak <= LONGEST_SOAK => Ok(soak),
        Some(_) => Err(("is longer than a day".to_owned(), "write at most `24h`")),
        None => Err(("is no time".to_owned(), "write a number and a unit, such as `30s` or `5m`")),
    });
    let mut canary = BTreeSet::new();
    for (id, item, path) in resources(object, &path, "canary", problems) {
        if described.ids.contains(&id.to_string()) || described.blind {
            canary.insert(id);
        } else {
            let message = format!("this file describes no resource `{id}`");
            problems.error_hint(item.at, &path, message, which_resource(&id.to_string(), &described.ids));
        }
    }
    let batch = object.int("batch").and_then(|batch| u32::try_from(batch).ok()).and_then(NonZeroU32::new);
    Some(RolloutPolicy::Batches(RolloutSettings {
        max_unhealthy: max_unhealthy.unwrap_or(defaults.max_unhealthy),
        batch,
        soak: soak.unwrap_or(defaults.soak),
        canary,
    }))
}

/// A value with a meaning of its own; none when it is not given or wrong.
fn amount<T>(
    object: &Object,
    field: &str,
    path: &str,
    problems: &mut Problems<'_>,
    parse: impl FnOnce(&str) -> Result<T, (String, &'static str)>,
) -> Option<T> {
    let value = object.get(field)?;
    let Typed::Text(text) = &value.typed else { return None };
    match parse(text) {
        Ok(meant) => Some(meant),
        Err((error, hint)) => {
            let shown = if value.hidden { "it".to_owned() } else { format!("`{}`", text.escape_debug()) };
            problems.error_hint(value.at, &format!("{path}.{field}"), format!("{shown} {error}"), hint);
            None
        }
    }
}

/// The resources that a list names, each with its value and its path.
fn resources<'v>(
    object: &'v Object,
    path: &str,
    field: &str,
    problems: &mut Problems<'_>,
) -> Vec<(ResourceId, &'v Value, String)> {
    let mut named = Vec::new();
    for (index, item) in object.list(field).iter().enumerate() {
        let Typed::Text(text) = &item.typed else { continue };
        let mut path = format!("{path}.{field}");
        push_index(&mut path, index);
        match text.trim().parse::<ResourceId>() {
            Ok(id) => named.push((id, item, path)),
            Err(_) => {
                let shown = if item.hidden { String::new() } else { format!("`{}` ", text.escape_debug()) };
                let message = format!("{shown}is no resource");
                problems.error_hint(item.at, &path, message, "write `app/UUID` or `device/UUID`");
            }
        }
    }
    named
}
