//! Which commit comes after which, in a clone that holds only some of them. Everything here blocks.
//!
//! Parents are read from the commits themselves: libgit2 hides those of a commit that it takes for a boundary.

use std::collections::HashSet;

use git2::{ErrorCode, ObjectType, Odb, Oid, Repository};

/// A history of more commits than this is not looked through at each fetch: it comes from a release that fetched all
/// of it, or from a look at an old commit, and is given up when the clone is tidied up.
pub(super) const LONG: usize = 1_000;

/// Whether one commit comes after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Succeeds {
    /// The old one is among the ancestors of the new one.
    Yes,
    /// All ancestors of the new one are here, and the old one is none of them.
    No,
    /// Some of the ancestors are not here.
    Unseen,
}

impl Succeeds {
    /// The answer, if there is one.
    pub(super) fn decided(self) -> Option<bool> {
        match self {
            Succeeds::Yes => Some(true),
            Succeeds::No => Some(false),
            Succeeds::Unseen => None,
        }
    }
}

/// What can be seen of the history.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Commits of which at least one parent is not here.
    pub(super) boundaries: Vec<Oid>,
    /// How many commits are here.
    pub(super) commits: usize,
}

/// Looks through the history of some commits.
pub(super) fn seen(repository: &Repository, tips: &[Oid]) -> Result<Seen, git2::Error> {
    let odb = repository.odb()?;
    let mut seen = Seen::default();
    walk(&odb, tips, |commit, is_whole| {
        seen.commits += 1;
        if !is_whole {
            seen.boundaries.push(commit);
        }
        false
    })?;
    seen.boundaries.sort_unstable();
    Ok(seen)
}

/// Whether one commit comes after another, as far as can be seen.
pub(super) fn succeeds(repository: &Repository, new: Oid, old: Oid) -> Result<Succeeds, git2::Error> {
    let odb = repository.odb()?;
    let mut outcome = Succeeds::No;
    let mut found = false;
    // A parent may be named without being here.
    walk(&odb, &[new], |commit, is_whole| {
        found = parents(&odb, commit).is_ok_and(|parents| parents.is_some_and(|parents| parents.contains(&old)));
        if !is_whole {
            outcome = Succeeds::Unseen;
        }
        found
    })?;
    Ok(if found { Succeeds::Yes } else { outcome })
}

/// The commits that are new since another one, the newest first; none when some of the parents on the way are not here, so
/// that there may be more.
pub(super) fn between(repository: &Repository, new: Oid, old: Oid) -> Result<Option<Vec<Oid>>, git2::Error> {
    let odb = repository.odb()?;
    let mut known = HashSet::new();
    walk(&odb, &[old], |commit, _| {
        known.insert(commit);
        false
    })?;
    let (mut between, mut ahead) = (Vec::new(), vec![new]);
    while let Some(commit) = ahead.pop() {
        if !known.insert(commit) {
            continue;
        }
        let Some(parents) = parents(&odb, commit)? else { return Ok(None) };
        between.push(commit);
        ahead.extend(parents);
    }
    Ok(Some(between))
}

/// Walks from commits to their ancestors that are here. Each is visited once, with whether all of its parents are
/// here, until a visit says that it is enough.
fn walk(odb: &Odb<'_>, from: &[Oid], mut visit: impl FnMut(Oid, bool) -> bool) -> Result<(), git2::Error> {
    let mut known: HashSet<Oid> = from.iter().copied().collect();
    let mut ahead: Vec<Oid> = from.to_vec();
    while let Some(commit) = ahead.pop() {
        let Some(parents) = parents(odb, commit)? else { continue };
        let mut is_whole = true;
        for parent in parents {
            if !exists(odb, parent) {
                is_whole = false;
            } else if known.insert(parent) {
                ahead.push(parent);
            }
        }
        if visit(commit, is_whole) {
            break;
        }
    }
    Ok(())
}

/// Whether an object is here. The packs were listed when the repository was opened, and are not listed again for each.
pub(super) fn exists(odb: &Odb<'_>, id: Oid) -> bool {
    odb.exists_ext(id, git2::OdbLookupFlags::NO_REFRESH)
}

/// The parents of a commit; none when the commit is not here.
fn parents(odb: &Odb<'_>, commit: Oid) -> Result<Option<Vec<Oid>>, git2::Error> {
    let object = match odb.read(commit) {
        Ok(object) => object,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if object.kind() != ObjectType::Commit {
        return Ok(None);
    }
    let mut parents = Vec::new();
    for line in object.data().split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()) {
        if let Some(id) = line.strip_prefix(b"parent ") {
            parents.push(Oid::from_str(&String::from_utf8_lossy(id))?);
        }
    }
    Ok(Some(parents))
}
