//! Copies commits with their folders and files, and without their history, from one repository on this machine to
//! another: from a `file://` remote, and into a clone that is tidied up. Everything here blocks.

use std::collections::HashSet;
use std::io::Write;

use git2::{ObjectType, Oid, Repository};

use super::clone::local;
use super::history::exists;
use super::trouble::disk;
use crate::desired::file::io_reason;
use crate::model::SourceTrouble;

/// Most bytes that are held at once to find what is alike in files.
const WINDOW_BYTES: i64 = 16 * 1024 * 1024;

/// Files from this size on are copied as they are, bytes. libgit2 takes the setting `pack.deltaCacheSize` for both.
const LARGE_FILE_BYTES: i64 = 4 * 1024 * 1024;

/// Copies what `to` lacks of some commits, in one pack, all of it or nothing. Objects that `to` has are taken to be
/// there with all that they refer to.
pub(super) fn copy(from: &Repository, to: &Repository, commits: &[Oid]) -> Result<(), SourceTrouble> {
    let of_here = |error: git2::Error| local(&error);
    let has = to.odb().map_err(of_here)?;
    let mut config = from.config().map_err(of_here)?;
    for (name, value) in [("pack.windowMemory", WINDOW_BYTES), ("pack.deltaCacheSize", LARGE_FILE_BYTES)] {
        if config.get_i64(name) != Ok(value) {
            config.set_i64(name, value).map_err(of_here)?;
        }
    }
    let mut builder = from.packbuilder().map_err(of_here)?;
    builder.set_threads(1);
    let mut folders: Vec<Oid> = Vec::new();
    let mut known: HashSet<Oid> = HashSet::new();
    for id in commits.iter().filter(|id| !exists(&has, **id)) {
        let mut object = from.find_object(*id, None).map_err(of_here)?;
        builder.insert_object(*id, None).map_err(of_here)?;
        // A tag of a tag of a commit.
        while let Some(tag) = object.as_tag() {
            let target = tag.target().map_err(of_here)?;
            builder.insert_object(target.id(), None).map_err(of_here)?;
            object = target;
        }
        if let Some(commit) = object.as_commit() {
            folders.push(commit.tree_id());
        }
    }
    while let Some(folder) = folders.pop() {
        if exists(&has, folder) || !known.insert(folder) {
            continue;
        }
        let tree = from.find_tree(folder).map_err(of_here)?;
        builder.insert_object(folder, None).map_err(of_here)?;
        for entry in &tree {
            match entry.kind() {
                Some(ObjectType::Tree) => folders.push(entry.id()),
                Some(ObjectType::Blob) if !exists(&has, entry.id()) && known.insert(entry.id()) => {
                    builder.insert_object(entry.id(), entry.name().ok()).map_err(of_here)?;
                }
                // A submodule's commit is another repository's.
                _ => {}
            }
        }
    }
    if builder.object_count() == 0 {
        return Ok(());
    }
    let mut writer = has.packwriter().map_err(of_here)?;
    let mut broken = None;
    let built = builder.foreach(|piece| {
        broken = writer.write_all(piece).err();
        broken.is_none()
    });
    if let Some(error) = broken {
        return Err(disk(format!("what was fetched cannot be kept: {}", io_reason(&error))));
    }
    built.map_err(of_here)?;
    writer.commit().map_err(of_here)?;
    Ok(())
}
