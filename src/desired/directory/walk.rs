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
use crate::desired::ignored::{IGNORE_FILE, IgnoreRules};
use crate::desired::kind::{is_called_like_a_manifest, is_json, is_yaml};
use crate::desired::limits::TOO_MUCH;
use crate::model::{OtherFile, Problem, Severity, SourceTrouble, TroubleReason};

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
    /// Every YAML file by the name that people know it by.
    pub(super) files: BTreeMap<Arc<str>, Reading>,
    /// Those of them that a person named.
    pub(super) named: BTreeSet<Arc<str>>,
    /// What else there is to say.
    pub(super) beside: Beside,
    /// Every folder whose entries matter, resolved, with what identifies it.
    pub(super) folders: BTreeMap<PathBuf, (u64, u64)>,
    pub(super) devices: Vec<Option<u64>>,
}

/// What there is to say of a folder beside its files.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Beside {
    /// Files that are no YAML and look as if they were meant to be manifests.
    pub(super) others: Vec<OtherFile>,
    /// What is odd.
    pub(super) problems: Vec<Problem>,
    /// Something that may hold manifests was not read.
    pub(super) incomplete: bool,
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
                self.found.named.insert(shown.as_str().into());
                self.file(shown.as_str().into(), &real, Signature::of(&metadata))?;
            }
            return Ok(None);
        }
        let before = self.found.files.len();
        self.folder(&real, &real, shown, 0, &IgnoreRules::default()).map_err(|error| match error {
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
    fn folder(
        &mut self,
        root: &Path,
        folder: &Path,
        shown: &str,
        depth: usize,
        rules: &IgnoreRules,
    ) -> Result<(), Stop> {
        if !self.resolved.insert(folder.to_owned()) {
            return Ok(());
        }
        let metadata = fs::metadata(folder)?;
        self.found.folders.insert(folder.to_owned(), (metadata.dev(), metadata.ino()));
        let mut entries = Vec::new();
        let mut ignores = false;
        for entry in fs::read_dir(folder)? {
            self.entries += 1;
            if let Some(what) = self.limits.exceeded_by_entries(self.entries) {
                return Err(Stop::TooMuch(too_much(&what)));
            }
            let entry = entry?;
            ignores |= entry.file_name() == IGNORE_FILE;
            if !is_hidden(&entry.file_name()) {
                entries.push(entry);
            }
        }
        let own = ignores.then(|| self.rules(root, folder, shown, rules));
        let rules = own.as_ref().unwrap_or(rules);
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            self.entry(root, &entry, shown, depth, rules)?;
        }
        Ok(())
    }

    /// The patterns in force in a folder that has an ignore file.
    fn rules(&mut self, root: &Path, folder: &Path, shown: &str, above: &IgnoreRules) -> IgnoreRules {
        let path = folder.join(IGNORE_FILE);
        let text = match fs::canonicalize(&path) {
            Ok(real) if real.starts_with(root) => file::read(&real).map_or(Ok("".into()), |reading| reading.content),
            Ok(_) => Err("is a symlink that leads out of the folder; copy the file instead".into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err("is a symlink that leads nowhere".into()),
            Err(error) => Err(file::cannot_read(&error)),
        };
        above.with(shown, text.as_deref().map_err(Clone::clone), &mut self.found.beside.problems)
    }

    fn entry(
        &mut self,
        root: &Path,
        entry: &DirEntry,
        shown: &str,
        depth: usize,
        rules: &IgnoreRules,
    ) -> Result<(), Stop> {
        let name = entry.file_name();
        let shown = format!("{}/{}", shown.trim_end_matches('/'), name.to_string_lossy());
        let path = entry.path();
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return self.refuse(shown, file::cannot_read(&error)),
        };
        if rules.hides(&shown, metadata.is_dir()) {
            return Ok(());
        }
        if name.to_str().is_none() && (is_manifest(&name) || metadata.is_dir()) {
            return self.refuse(shown, "has a name that is not UTF-8");
        }
        if metadata.is_symlink() {
            return self.symlink(root, &path, &name, shown, depth, rules);
        }
        if metadata.is_dir() {
            return self.sub_folder(root, &path, shown, depth, rules);
        }
        if !is_manifest(&name) {
            if is_json(name.as_encoded_bytes()) {
                self.json(shown);
            }
            return Ok(());
        }
        Ok(self.file(shown.into(), &path, Signature::of(&metadata))?)
    }

    fn json(&mut self, shown: String) {
        let mut other = OtherFile::new(shown, "is JSON; manifests are YAML, in files that end in .yml or .yaml");
        if is_called_like_a_manifest(&other.file) {
            other.hint = Some("rename it so that it ends in .yml: JSON is YAML as well".into());
        }
        self.found.beside.others.push(other);
    }

    /// Something that may be a folder of manifests cannot be looked into.
    fn unread(&mut self, shown: &str, what: &str) {
        let problem = Problem::file(shown, format!("{what}, so that manifests behind it are not read")).hint(format!(
            "nothing is removed meanwhile; bring it back, or remove it, or name it in {IGNORE_FILE} if it holds none"
        ));
        self.found.beside.problems.push(Problem { severity: Severity::Warning, ..problem });
        self.found.beside.incomplete = true;
    }

    fn symlink(
        &mut self,
        root: &Path,
        path: &Path,
        name: &OsStr,
        shown: String,
        depth: usize,
        rules: &IgnoreRules,
    ) -> Result<(), Stop> {
        let (target, metadata) = match resolve(path) {
            Ok(resolved) => resolved,
            // It may have led to a folder, and folders rarely have an ending.
            Err(_) if !is_manifest(name) && Path::new(name).extension().is_some() => return Ok(()),
            Err(error) if !is_manifest(name) && error.kind() == io::ErrorKind::NotFound => {
                self.unread(&shown, "is a symlink that leads nowhere");
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.refuse(shown, "is a symlink that leads nowhere");
            }
            Err(error) => return self.refuse(shown, file::cannot_read(&error)),
        };
        if !metadata.is_dir() && !is_manifest(name) || rules.hides(&shown, metadata.is_dir()) {
            return Ok(());
        }
        if !target.starts_with(root) {
            return self.refuse(shown, "is a symlink that leads out of the folder; copy the file instead");
        }
        if metadata.is_dir() {
            return self.sub_folder(root, &target, shown, depth, rules);
        }
        if let Some(parent) = target.parent()
            && let Ok(folder) = fs::metadata(parent)
        {
            self.found.folders.insert(parent.to_owned(), (folder.dev(), folder.ino()));
        }
        Ok(self.file(shown.into(), &target, Signature::of(&metadata))?)
    }

    /// A folder that cannot be read hides files that are still there: they are refused, not gone.
    fn sub_folder(
        &mut self,
        root: &Path,
        folder: &Path,
        shown: String,
        depth: usize,
        rules: &IgnoreRules,
    ) -> Result<(), Stop> {
        if depth >= MAX_DEPTH {
            return self.refuse(shown, format!("is more than {MAX_DEPTH} folders deep"));
        }
        match self.folder(root, folder, &shown, depth + 1, rules) {
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

fn is_manifest(name: &OsStr) -> bool {
    is_yaml(name.as_encoded_bytes())
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
