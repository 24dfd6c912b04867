//! Manifests out of a commit's tree objects. Everything here blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use git2::{Commit, ObjectType, Oid, Repository, Tree, TreeEntry};
use sha2::{Digest, Sha256};

use super::Trouble;
use super::clone::local;
use crate::desired::ManifestFile;
use crate::desired::file::{MAX_FILE_BYTES, not_utf8};

/// Mode of a symlink in a tree (gitformat-index).
const SYMLINK: i32 = 0o120_000;

/// As for a folder on disk.
const MAX_FILES: usize = 100_000;

/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 64;

/// Files by path with the ids of their objects: what has the same id is not read again.
pub(super) type Files = BTreeMap<Arc<str>, (Oid, ManifestFile)>;

/// Every manifest of a commit below a path.
pub(super) fn manifests(
    commit: &Commit<'_>,
    below: &str,
    known: &Files,
    repository: &Repository,
) -> Result<Files, Trouble> {
    let root = commit.tree().map_err(|error| local(&error))?;
    let mut reading = Reading { repository, root: &root, known, files: Files::new() };
    if below.is_empty() {
        reading.folder(&root, "", 0)?;
        return Ok(reading.files);
    }
    let entry = root.get_path(below.as_ref()).map_err(|_| {
        Trouble::new(format!("the commit has no `{below}`")).hint("check `--path`, or bring the folder back")
    })?;
    match entry.kind() {
        Some(ObjectType::Tree) => {
            let folder = repository.find_tree(entry.id()).map_err(|error| local(&error))?;
            reading.folder(&folder, below, 0)?;
        }
        _ => reading.file(&entry, below)?,
    }
    Ok(reading.files)
}

struct Reading<'a> {
    repository: &'a Repository,
    root: &'a Tree<'a>,
    known: &'a Files,
    files: Files,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &Tree<'_>, path: &str, depth: usize) -> Result<(), Trouble> {
        for entry in folder {
            let Ok(name) = entry.name() else {
                let shown = format!("{path}/{}", String::from_utf8_lossy(entry.name_bytes()));
                self.add(&shown, entry.id(), Err("has a name that is not UTF-8".into()))?;
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let is_manifest = name.ends_with(".yml") || name.ends_with(".yaml");
            match entry.kind() {
                Some(ObjectType::Tree) if depth < MAX_DEPTH => {
                    let folder = self.repository.find_tree(entry.id()).map_err(|error| local(&error))?;
                    self.folder(&folder, &path, depth + 1)?;
                }
                Some(ObjectType::Tree) => {
                    self.add(&path, entry.id(), Err(format!("is more than {MAX_DEPTH} folders deep")))?;
                }
                _ if is_manifest => self.file(&entry, &path)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, entry: &TreeEntry<'_>, path: &str) -> Result<(), Trouble> {
        // What a symlink leads to may change while the symlink stays: it is always followed.
        if entry.filemode() != SYMLINK
            && let Some((name, (id, known))) = self.known.get_key_value(path)
            && *id == entry.id()
        {
            self.files.insert(name.clone(), (*id, known.clone()));
            return Ok(());
        }
        let content = follow(self.repository, self.root, entry, path)?;
        self.add(path, entry.id(), content)
    }

    fn add(&mut self, path: &str, id: Oid, content: Result<Arc<str>, String>) -> Result<(), Trouble> {
        let digest = match &content {
            Ok(text) => Sha256::digest(text.as_bytes()),
            Err(reason) => Sha256::new().chain_update([0xff]).chain_update(reason).finalize(),
        };
        let path: Arc<str> = path.into();
        self.files.insert(path.clone(), (id, ManifestFile { path, content, digest: digest.into() }));
        if self.files.len() > MAX_FILES {
            return Err(Trouble::new(format!("the commit has more than {MAX_FILES} manifests")));
        }
        Ok(())
    }
}

/// The text of a file that a commit has at this path, for manifests that refer to it.
pub(super) fn attachment(
    commit: &Commit<'_>,
    path: &str,
    repository: &Repository,
) -> Result<Result<Arc<str>, String>, Trouble> {
    let root = commit.tree().map_err(|error| local(&error))?;
    match root.get_path(path.as_ref()) {
        Ok(entry) => follow(repository, &root, &entry, path),
        Err(_) => Ok(Err("does not exist".to_owned())),
    }
}

/// The text of a file, or of what a symlink leads to, if that is a file of the repository.
fn follow(
    repository: &Repository,
    root: &Tree<'_>,
    entry: &TreeEntry<'_>,
    path: &str,
) -> Result<Result<Arc<str>, String>, Trouble> {
    if entry.filemode() != SYMLINK {
        return text(repository, entry);
    }
    let target = match text(repository, entry)? {
        Ok(target) => target,
        Err(reason) => return Ok(Err(reason)),
    };
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let Some(target) = join(folder, target.trim_end()) else {
        return Ok(Err("is a symlink that leads out of the repository; copy the file instead".into()));
    };
    match root.get_path(target.as_ref()) {
        Ok(entry) if entry.filemode() == SYMLINK => {
            Ok(Err("is a symlink to a symlink; let it lead to the file".into()))
        }
        Ok(entry) => text(repository, &entry),
        Err(_) => Ok(Err("is a symlink that leads nowhere".into())),
    }
}

fn text(repository: &Repository, entry: &TreeEntry<'_>) -> Result<Result<Arc<str>, String>, Trouble> {
    if entry.kind() != Some(ObjectType::Blob) {
        return Ok(Err("is not a file".into()));
    }
    let odb = repository.odb().map_err(|error| local(&error))?;
    let (size, _) = odb.read_header(entry.id()).map_err(|error| local(&error))?;
    if size as u64 > MAX_FILE_BYTES {
        return Ok(Err(format!("is {size} bytes long; at most {MAX_FILE_BYTES} (1 MiB) are read")));
    }
    let blob = repository.find_blob(entry.id()).map_err(|error| local(&error))?;
    Ok(match std::str::from_utf8(blob.content()) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(not_utf8(blob.content())),
    })
}

/// A path relative to a folder of the repository; none when it leads out of it.
pub(super) fn join(folder: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_repository() {
        assert_eq!(join("line1/cell", "../xml/dev.xml").as_deref(), Some("line1/xml/dev.xml"));
        assert_eq!(join("", "./dev.xml").as_deref(), Some("dev.xml"));
        assert_eq!(join("line1", "../../secret"), None);
        assert_eq!(join("line1", "/etc/passwd"), None);
    }
}
