//! Finding the manifest files below a root. Blocking; called on a thread that may block.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Root;
use crate::desired::Limits;
use crate::desired::file::{self, Reading, Signature};
use crate::desired::limits::TOO_MUCH;
use crate::model::{SourceTrouble, TroubleReason};

/// Deepest folder that is looked into; deeper ones are an accident.
const MAX_DEPTH: usize = 64;

/// What is known of the files from before, so that only changed ones are read.
pub(super) struct Known {
    pub(super) accepted: Arc<BTreeMap<Arc<str>, Reading>>,
    /// Files whose change is being watched: always read again.
    pub(super) pending: BTreeSet<Arc<str>>,
    /// For each root, the device that it was on when something was found there.
    pub(super) devices: Vec<Option<u64>>,
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Every manifest file by the name that people know it by.
    pub(super) files: BTreeMap<Arc<str>, Reading>,
    /// Every folder whose entries matter, resolved, with what identifies it.
    pub(super) folders: BTreeMap<PathBuf, (u64, u64)>,
    pub(super) devices: Vec<Option<u64>>,
}

/// Looks at every root.
pub(super) fn walk(roots: &[Root], known: &Known, limits: Limits) -> Result<Found, SourceTrouble> {
    let mut walk = Walk { known, limits, found: Found::default(), resolved: HashSet::new(), bytes: 0, entries: 0 };
    for (index, root) in roots.iter().enumerate() {
        let device = walk.root(root, known.devices.get(index).copied().flatten())?;
        walk.found.devices.push(device);
    }
    Ok(walk.found)
}

struct Walk<'a> {
    known: &'a Known,
    limits: Limits,
    found: Found,
    /// Folders that were looked into and files that were given by name, resolved: nothing counts twice, and a
    /// symlink to a folder above ends here.
    resolved: HashSet<PathBuf>,
    bytes: u64,
    entries: usize,
}

impl Walk<'_> {
    fn root(&mut self, root: &Root, device_before: Option<u64>) -> Result<Option<u64>, SourceTrouble> {
        let shown = &root.shown;
        let real = fs::canonicalize(&root.path).map_err(|error| missing(shown, &error))?;
        let metadata = fs::metadata(&real).map_err(|error| missing(shown, &error))?;
        if !metadata.is_dir() {
            if self.resolved.insert(real.clone()) {
                self.file(shown.as_str().into(), &real, Signature::of(&metadata))?;
            }
            return Ok(None);
        }
        let before = self.found.files.len();
        self.folder(&real, &real, shown, 0).map_err(|error| match error {
            Stop::Unreadable(error) => missing(shown, &error),
            Stop::TooMuch(error) => error,
        })?;
        let device = metadata.dev();
        let empty = self.found.files.len() == before;
        if empty && device_before.is_some_and(|before| before != device) {
            let message = format!("`{shown}` is empty and on another device than before: it looks unmounted");
            return Err(SourceTrouble::new(TroubleReason::Missing, message)
                .hint("mount it again; if it is meant to be empty, restart the operator"));
        }
        Ok(if empty { device_before } else { Some(device) })
    }

    /// Looks into one folder, already resolved. `shown` is its name as people know it.
    fn folder(&mut self, root: &Path, folder: &Path, shown: &str, depth: usize) -> Result<(), Stop> {
        if !self.resolved.insert(folder.to_owned()) {
            return Ok(());
        }
        let metadata = fs::metadata(folder)?;
        self.found.folders.insert(folder.to_owned(), (metadata.dev(), metadata.ino()));
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            self.entries += 1;
            if let Some(what) = self.limits.exceeded_by_entries(self.entries) {
                return Err(Stop::TooMuch(too_much(&what)));
            }
            let entry = entry?;
            if !is_hidden(&entry.file_name()) {
                entries.push(entry);
            }
        }
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            self.entry(root, &entry, shown, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, root: &Path, entry: &DirEntry, shown: &str, depth: usize) -> Result<(), Stop> {
        let name = entry.file_name();
        let shown = format!("{}/{}", shown.trim_end_matches('/'), name.to_string_lossy());
        let path = entry.path();
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return self.refuse(shown, file::cannot_read(&error)),
        };
        if name.to_str().is_none() && (is_manifest(&name) || metadata.is_dir()) {
            return self.refuse(shown, "has a name that is not UTF-8");
        }
        if metadata.is_symlink() {
            return self.symlink(root, &path, &name, shown, depth);
        }
        if metadata.is_dir() {
            return self.sub_folder(root, &path, shown, depth);
        }
        if !is_manifest(&name) {
            return Ok(());
        }
        Ok(self.file(shown.into(), &path, Signature::of(&metadata))?)
    }

    fn symlink(&mut self, root: &Path, path: &Path, name: &OsStr, shown: String, depth: usize) -> Result<(), Stop> {
        let (target, metadata) = match resolve(path) {
            Ok(resolved) => resolved,
            Err(_) if !is_manifest(name) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.refuse(shown, "is a symlink that leads nowhere");
            }
            Err(error) => return self.refuse(shown, file::cannot_read(&error)),
        };
        if !metadata.is_dir() && !is_manifest(name) {
            return Ok(());
        }
        if !target.starts_with(root) {
            return self.refuse(shown, "is a symlink that leads out of the folder; copy the file instead");
        }
        if metadata.is_dir() {
            return self.sub_folder(root, &target, shown, depth);
        }
        if let Some(parent) = target.parent()
            && let Ok(folder) = fs::metadata(parent)
        {
            self.found.folders.insert(parent.to_owned(), (folder.dev(), folder.ino()));
        }
        Ok(self.file(shown.into(), &target, Signature::of(&metadata))?)
    }

    /// A folder that cannot be read hides files that are still there: they are refused, not gone.
    fn sub_folder(&mut self, root: &Path, folder: &Path, shown: String, depth: usize) -> Result<(), Stop> {
        if depth >= MAX_DEPTH {
            return self.refuse(shown, format!("is more than {MAX_DEPTH} folders deep"));
        }
        match self.folder(root, folder, &shown, depth + 1) {
            Ok(()) => Ok(()),
            Err(Stop::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(Stop::Unreadable(error)) => {
                let below = format!("{shown}/");
                let known = self.known.accepted.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
                for (name, _) in known.take_while(|(name, _)| name.starts_with(&below)) {
                    let reading = Reading::refused(None, format!("its folder {}", file::cannot_read(&error)));
                    self.found.files.entry(name.clone()).or_insert(reading);
                }
                self.refuse(shown, file::cannot_read(&error))
            }
            Err(stop @ Stop::TooMuch(_)) => Err(stop),
        }
    }

    fn refuse(&mut self, shown: String, reason: impl Into<String>) -> Result<(), Stop> {
        Ok(self.add(shown.into(), Reading::refused(None, reason))?)
    }

    fn file(&mut self, shown: Arc<str>, path: &Path, signature: Signature) -> Result<(), SourceTrouble> {
        let known = self.known.accepted.get(&shown).filter(|_| !self.known.pending.contains(&shown));
        let unchanged = known.filter(|known| known.has(signature));
        match unchanged.cloned().or_else(|| file::read(path)) {
            Some(reading) => self.add(shown, reading),
            // Gone since its folder was listed.
            None => Ok(()),
        }
    }

    fn add(&mut self, shown: Arc<str>, reading: Reading) -> Result<(), SourceTrouble> {
        self.bytes += reading.len() as u64;
        self.found.files.insert(shown, reading);
        match self.limits.exceeded_by(self.found.files.len(), self.bytes) {
            Some(what) => Err(too_much(&what)),
            None => Ok(()),
        }
    }
}

/// Why a folder is not looked at any further.
enum Stop {
    /// It cannot be read.
    Unreadable(io::Error),
    /// The whole tree is refused.
    TooMuch(SourceTrouble),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Unreadable(error)
    }
}

impl From<SourceTrouble> for Stop {
    fn from(error: SourceTrouble) -> Self {
        Stop::TooMuch(error)
    }
}

fn resolve(path: &Path) -> io::Result<(PathBuf, Metadata)> {
    let target = fs::canonicalize(path)?;
    let metadata = fs::metadata(&target)?;
    Ok((target, metadata))
}

/// Hidden files and folders: version control, editors' swap and lock files (`.a.yml.swp`, `.#a.yml`), and the
/// `..data` folders that Kubernetes swaps.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// `*.yml` and `*.yaml`; not Emacs' `#a.yml#`, `a.yml~` and other leftovers, which end otherwise.
fn is_manifest(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.ends_with(b".yml") || name.ends_with(b".yaml")
}

fn missing(shown: &str, error: &io::Error) -> SourceTrouble {
    let (reason, message) = match error.kind() {
        io::ErrorKind::NotFound => (TroubleReason::Missing, format!("`{shown}` does not exist")),
        io::ErrorKind::PermissionDenied => (TroubleReason::Denied, format!("`{shown}` {}", file::cannot_read(error))),
        _ => (TroubleReason::Unreachable, format!("`{shown}` {}", file::cannot_read(error))),
    };
    SourceTrouble::new(reason, message).hint("create it, mount it, or name another one; nothing is removed meanwhile")
}

fn too_much(what: &str) -> SourceTrouble {
    SourceTrouble::new(TroubleReason::Other, format!("there are {what}")).hint(TOO_MUCH)
}
