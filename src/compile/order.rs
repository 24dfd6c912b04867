//! What comes after what, over all files: waits that can never end are errors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Files;
use super::file::{CompiledFile, Entry, located};
use crate::desired::manifest::After;
use crate::model::{Problem, ResourceId};

/// An entry, with the file that it stands in.
type Place<'a> = (&'a Arc<str>, &'a CompiledFile, &'a Entry);

/// What is wrong with the order of resources, by file. To be asked when every file is valid: what a file that is not
/// describes is not known.
pub(super) fn problems(files: &Files) -> BTreeMap<Arc<str>, Vec<Problem>> {
    let mut problems: BTreeMap<Arc<str>, Vec<Problem>> = BTreeMap::new();
    let candidates = || {
        files
            .iter()
            .filter(|(_, state)| !state.gone)
            .filter_map(|(path, state)| Some((path, state.candidate.as_ref()?)))
    };
    if candidates().all(|(_, file)| file.after.is_empty()) {
        return problems;
    }
    let all: BTreeMap<&ResourceId, Place<'_>> = candidates()
        .flat_map(|(path, file)| file.entries.iter().map(move |entry| (&entry.resource.id, (path, &**file, entry))))
        .collect();
    for (id, (path, file, entry)) in &all {
        for first in &entry.resource.handling.after {
            let Some((message, hint)) = what_is_wrong(&all, id, first) else { continue };
            let problem = match mention(file, first) {
                Some(after) => located(path, after.place, after.path.clone(), message),
                None => located(path, entry.place, entry.path.clone(), message),
            };
            let problem = problem.hint(hint);
            let known = problems.entry(Arc::clone(path)).or_default();
            if !known.contains(&problem) {
                known.push(problem);
            }
        }
    }
    problems
}

/// Where a file names a resource that others come after.
fn mention<'a>(file: &'a CompiledFile, first: &ResourceId) -> Option<&'a After> {
    file.after.iter().find(|after| after.first == *first)
}

fn what_is_wrong(
    all: &BTreeMap<&ResourceId, Place<'_>>,
    id: &ResourceId,
    first: &ResourceId,
) -> Option<(String, String)> {
    let Some((file, _, entry)) = all.get(first) else {
        let wrong = first.to_string();
        let meant = |other: &&&ResourceId| other.uuid.as_str().eq_ignore_ascii_case(first.uuid.as_str());
        let hint = match all.keys().find(meant) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => {
                "describe it in a manifest, or take it out of `after`; resources of another instance cannot be waited \
                     for"
                .to_owned()
            }
        };
        return Some((format!("{id} would wait for ever: no manifest describes {wrong}"), hint));
    };
    if entry.resource.handling.suspend {
        let line = entry.place.line;
        return Some((
            format!("{id} would wait for ever: {first} ({file}:{line}) is suspended by its manifest"),
            "take `suspend` or `after` out until it is taken care of again".to_owned(),
        ));
    }
    let round = way_back(all, id, first)?;
    let names: Vec<String> = round.iter().map(ToString::to_string).collect();
    Some((
        format!("{id} would come after itself: {}", names.join(" after ")),
        "take one of them out of `after`".to_owned(),
    ))
}

/// The way from `first` back to `id`, both ends included and `id` before it; none when there is none.
fn way_back<'a>(
    all: &BTreeMap<&'a ResourceId, Place<'a>>,
    id: &'a ResourceId,
    first: &'a ResourceId,
) -> Option<Vec<&'a ResourceId>> {
    let mut came_from: BTreeMap<&ResourceId, &ResourceId> = BTreeMap::new();
    let (mut seen, mut next) = (BTreeSet::from([first]), vec![first]);
    while let Some(here) = next.pop() {
        if here == id {
            let mut way = vec![here];
            let mut at = here;
            while let Some(before) = came_from.get(at) {
                way.push(before);
                at = before;
            }
            way.push(id);
            way.reverse();
            return Some(way);
        }
        let Some((_, _, entry)) = all.get(here) else { continue };
        for after in &entry.resource.handling.after {
            if seen.insert(after) {
                came_from.insert(after, here);
                next.push(after);
            }
        }
    }
    None
}
