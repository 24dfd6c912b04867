//! Names that only one resource may have, and which files may take effect.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::file::{CompiledFile, Entry, located};
use super::{Files, Shared};
use crate::model::{Problem, ServiceName};

/// A name that a resource needs for itself. Names are compared without regard to case, as Swarm does; an
/// asset and a service may share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Claim {
    /// An asset's uuid, lower-cased.
    Asset(String),
    /// A service's or a container's name.
    Service(ServiceName),
}

impl Claim {
    pub(super) fn asset(uuid: &str) -> Self {
        Claim::Asset(uuid.to_lowercase())
    }

    fn text(&self) -> String {
        match self {
            Claim::Asset(uuid) => format!("the asset `{uuid}`"),
            Claim::Service(name) => format!("the service name `{name}`"),
        }
    }
}

/// Who claims what: the candidates of all files. Kept up to date file by file, so that a change costs what it
/// touches.
#[derive(Debug, Default)]
pub(super) struct Claims {
    holders: HashMap<Claim, Vec<(Arc<str>, usize)>>,
    /// Names with more than one holder.
    contested: BTreeSet<Claim>,
}

impl Claims {
    /// Takes note of what a file claims.
    pub(super) fn insert(&mut self, path: &Arc<str>, file: &CompiledFile) {
        for (index, entry) in file.entries.iter().enumerate() {
            for claim in &entry.claims {
                let holders = self.holders.entry(claim.clone()).or_default();
                holders.push((Arc::clone(path), index));
                if holders.len() > 1 {
                    self.contested.insert(claim.clone());
                }
            }
        }
    }

    /// Forgets what a file claimed.
    pub(super) fn remove(&mut self, path: &Arc<str>, file: &CompiledFile) {
        for claim in file.entries.iter().flat_map(|entry| &entry.claims) {
            let Some(holders) = self.holders.get_mut(claim) else { continue };
            holders.retain(|(holder, _)| holder != path);
            if holders.len() < 2 {
                self.contested.remove(claim);
            }
            if holders.is_empty() {
                self.holders.remove(claim);
            }
        }
    }

    /// The files that must stay as they last were, with the conflicts that make it so (none for a file that is
    /// invalid by itself).
    ///
    /// A file that stays as it was goes on claiming what it last said, which may in turn keep others from
    /// taking effect; so this goes on until nothing follows. Files only ever join, so it ends.
    pub(super) fn frozen(&self, files: &Files) -> BTreeMap<Arc<str>, Vec<Problem>> {
        let mut frozen: BTreeMap<Arc<str>, Vec<Problem>> = BTreeMap::new();
        let mut reported = BTreeSet::new();
        for (path, _) in
            files.iter().filter(|(_, state)| state.candidate.is_none() && !state.gone && state.other().is_none())
        {
            frozen.insert(Arc::clone(path), Vec::new());
        }
        for claim in &self.contested {
            let holders: Vec<_> = self.holders.get(claim).into_iter().flatten().collect();
            for &(path, index) in &holders {
                for &(other, other_index) in &holders {
                    if (path, index) == (other, other_index) {
                        continue;
                    }
                    let (Some(entry), Some(their)) = (entry(files, path, *index), entry(files, other, *other_index))
                    else {
                        continue;
                    };
                    let problems = frozen.entry(Arc::clone(path)).or_default();
                    if reported.insert((Arc::clone(path), *index, Arc::clone(other), their.path.clone())) {
                        problems.push(conflict(path, entry, claim, other, their, false));
                    }
                }
            }
        }
        let mut waiting: Vec<Arc<str>> = frozen.keys().cloned().collect();
        while let Some(stuck) = waiting.pop() {
            let Some(last) = files.get(&stuck).and_then(|state| state.good.as_ref()) else { continue };
            for (their, claim) in last.entries.iter().flat_map(|e| e.claims.iter().map(move |claim| (e, claim))) {
                for (path, index) in self.holders.get(claim).into_iter().flatten() {
                    let Some(entry) = entry(files, path, *index) else { continue };
                    if *path == stuck {
                        continue;
                    }
                    if !frozen.contains_key(path) {
                        waiting.push(Arc::clone(path));
                    }
                    let problems = frozen.entry(Arc::clone(path)).or_default();
                    if reported.insert((Arc::clone(path), *index, Arc::clone(&stuck), their.path.clone())) {
                        problems.push(conflict(path, entry, claim, &stuck, their, true));
                    }
                }
            }
        }
        frozen
    }
}

fn entry<'a>(files: &'a Files, path: &Arc<str>, index: usize) -> Option<&'a Entry> {
    let candidate: &Shared = files.get(path)?.candidate.as_ref()?;
    candidate.entries.get(index)
}

fn conflict(
    file: &Arc<str>,
    entry: &Entry,
    claim: &Claim,
    other: &Arc<str>,
    their: &Entry,
    last_valid: bool,
) -> Problem {
    let (ours, theirs) = (&entry.resource.id, &their.resource.id);
    let line = their.place.line;
    let as_last_valid = if last_valid { ", as that file last was valid" } else { "" };
    let (message, hint) = if ours == theirs {
        (
            format!("uuid `{}` is described twice: also in {other}:{line}{as_last_valid}", ours.uuid),
            "a uuid belongs to one entry of one file; until this is mended both files stay as they last were valid",
        )
    } else if ours.kind == theirs.kind && ours.uuid.as_str().eq_ignore_ascii_case(theirs.uuid.as_str()) {
        (
            format!(
                "uuid `{}` differs only in case from `{}` in {other}:{line}{as_last_valid}",
                ours.uuid, theirs.uuid
            ),
            "uuids become service names, which are compared without regard to case: choose another uuid",
        )
    } else {
        (
            format!("needs {}, which {theirs} in {other}:{line} needs too{as_last_valid}", claim.text()),
            "replicas add `-1`, `-2`, … and MTConnect devices add `-agent`, `-adapter`, `-producer` to the uuid: choose another uuid",
        )
    };
    let path = format!("{}.uuid", entry.path);
    located(file, entry.place, path, message).hint(hint)
}
