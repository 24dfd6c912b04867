//! Manifests out of a commit's tree objects. Everything here blocks.
//!
//! A symlink counts as what it leads to, as long as that is in the repository; a folder counts once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use git2::{Commit, ObjectType, Oid, Repository, Tree};
use sha2::{Digest, Sha256};

use super::clone::local;
use super::trouble::{missing, other};
use crate::desired::file::{MAX_FILE_BYTES, not_utf8};
use crate::desired::ignored::{IGNORE_FILE, IgnoreRules, beside};
use crate::desired::kind::{is_called_like_a_manifest, is_json, is_yaml, stand_in};
use crate::desired::limits::TOO_MUCH;
use crate::desired::{Limits, ManifestFile};
use crate::model::{OtherFile, Problem, Severity, SourceTrouble};

/// Mode of a symlink in a tree (gitformat-index).
const SYMLINK: i32 = 0o120_000;

/// Deepest folder that is looked into; deeper ones are an accident.
const MAX_DEPTH: usize = 64;

/// Most symlinks on the way to one file, as on Linux.
const MAX_LINKS: usize = 40;

/// Files by path with the ids of their objects: what has the same id is not read again.
pub(super) type Files = BTreeMap<Arc<str>, (Oid, ManifestFile)>;

/// What a commit holds below a path.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// Every YAML file.
    pub(super) files: Arc<Files>,
    /// Files that are no YAML and look as if they were meant to be manifests.
    pub(super) others: Vec<OtherFile>,
    /// What is odd.
    pub(super) problems: Vec<Problem>,
    /// Something that may hold manifests was not read.
    pub(super) incomplete: bool,
}

/// Every YAML file of a commit below a path, and what is odd there.
pub(super) fn manifests(
    commit: &Commit<'_>,
    below: &str,
    known: &Files,
    limits: Limits,
    repository: &Repository,
) -> Result<Content, SourceTrouble> {
    let root = commit.tree().map_err(|error| local(&error))?;
    let mut reading = Reading {
        repository,
        root: root.id(),
        known,
        limits,
        files: Files::new(),
        content: Content::default(),
        entered: BTreeSet::new(),
        entries: 0,
        bytes: 0,
    };
    match resolve(repository, root.id(), below)? {
        Target::Folder(id, real) => reading.folder(id, below, real, 0, &IgnoreRules::default())?,
        Target::File(id) => {
            reading.file(id, below)?;
            reading.files.values_mut().for_each(|(_, file)| file.named = true);
        }
        Target::Submodule | Target::Outside | Target::Nowhere | Target::Endless => {
            let message = format!("the commit has no `{below}`");
            return Err(missing(message).hint("check `--path`, or bring the folder back"));
        }
    }
    Ok(Content { files: Arc::new(reading.files), ..reading.content })
}

struct Reading<'a> {
    repository: &'a Repository,
    root: Oid,
    known: &'a Files,
    limits: Limits,
    files: Files,
    /// Everything but the files.
    content: Content,
    /// Folders that were looked into, by their real paths: a symlink to a folder above ends here.
    entered: BTreeSet<String>,
    entries: usize,
    bytes: u64,
}

impl Reading<'_> {
    /// Looks into a folder that is shown as `shown` and really lies at `real`.
    fn folder(
        &mut self,
        id: Oid,
        shown: &str,
        real: String,
        depth: usize,
        above: &IgnoreRules,
    ) -> Result<(), SourceTrouble> {
        if !self.entered.insert(real.clone()) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return self.refuse(shown, format!("is more than {MAX_DEPTH} folders deep"));
        }
        let folder = self.repository.find_tree(id).map_err(|error| local(&error))?;
        let own = match folder.get_name(IGNORE_FILE) {
            Some(_) => Some(self.rules(&real, shown, above)?),
            None => None,
        };
        let rules = own.as_ref().unwrap_or(above);
        for entry in &folder {
            self.entries += 1;
            if let Some(what) = self.limits.exceeded_by_entries(self.entries) {
                return Err(too_much(&what));
            }
            let Ok(name) = entry.name() else {
                let name = String::from_utf8_lossy(entry.name_bytes());
                self.refuse(&beside(shown, &name), "has a name that is not UTF-8".into())?;
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            // Git makes no such tree; it would pass for a file of another folder.
            if name.contains('/') {
                let shown = beside(shown, &name.replace('/', "\u{fffd}"));
                self.refuse(&shown, "has a name with a `/`, which no file can have".into())?;
                continue;
            }
            let (path, real) = (beside(shown, name), beside(&real, name));
            if rules.hides(&path, matches!(entry.kind(), Some(ObjectType::Tree | ObjectType::Commit))) {
                continue;
            }
            match entry.kind() {
                Some(ObjectType::Tree) => self.folder(entry.id(), &path, real, depth + 1, rules)?,
                Some(ObjectType::Commit) => self.unread(&path, "is a submodule"),
                _ if entry.filemode() == SYMLINK => self.symlink(&path, &real, depth, rules)?,
                _ if is_manifest(name) => self.file(entry.id(), &path)?,
                _ if is_json(name.as_bytes()) => self.json(path),
                _ => {}
            }
        }
        Ok(())
    }

    /// The patterns in force in a folder that has an ignore file.
    fn rules(&mut self, real: &str, shown: &str, above: &IgnoreRules) -> Result<IgnoreRules, SourceTrouble> {
        let text = match resolve(self.repository, self.root, &beside(real, IGNORE_FILE))? {
            Target::File(id) => text(self.repository, id)?,
            Target::Folder(..) | Target::Submodule => Err("is not a file".into()),
            Target::Outside => Err("is a symlink that leads out of the repository; copy the file instead".into()),
            Target::Nowhere => Err("is a symlink that leads nowhere".into()),
            Target::Endless => Err("is a symlink that never ends".into()),
        };
        Ok(above.with(shown, text.as_deref().map_err(Clone::clone), &mut self.content.problems))
    }

    fn json(&mut self, shown: String) {
        let mut other = OtherFile::new(shown, "is JSON; manifests are YAML, in files that end in .yml or .yaml");
        if is_called_like_a_manifest(&other.file) {
            other.hint = Some("rename it so that it ends in .yml: JSON is YAML as well".into());
        }
        self.content.others.push(other);
    }

    fn symlink(&mut self, shown: &str, real: &str, depth: usize, rules: &IgnoreRules) -> Result<(), SourceTrouble> {
        match resolve(self.repository, self.root, real)? {
            Target::Folder(..) if rules.hides(shown, true) => Ok(()),
            Target::Folder(id, real) => self.folder(id, shown, real, depth + 1, rules),
            Target::File(id) if is_manifest(shown) => self.file(id, shown),
            Target::File(_) => Ok(()),
            // What it leads to might be a folder full of manifests.
            Target::Outside => {
                self.refuse(shown, "is a symlink that leads out of the repository; copy the file instead".into())
            }
            Target::Endless => self.refuse(shown, "is a symlink that never ends".into()),
            Target::Nowhere if is_manifest(shown) => self.refuse(shown, "is a symlink that leads nowhere".into()),
            // It may have led to a folder, and folders rarely have an ending.
            Target::Nowhere => {
                if !shown.rsplit('/').next().is_some_and(|name| name.contains('.')) {
                    self.unread(shown, "is a symlink that leads nowhere");
                }
                Ok(())
            }
            Target::Submodule => {
                self.unread(shown, "is a symlink into a submodule");
                Ok(())
            }
        }
    }

    /// Takes a file, from before if its object is the same.
    fn file(&mut self, id: Oid, shown: &str) -> Result<(), SourceTrouble> {
        match self.known.get_key_value(shown) {
            Some((name, (known, file))) if *known == id => self.add(name.clone(), id, file.clone()),
            Some(_) | None => {
                let content = text(self.repository, id)?;
                let digest = digest(&content);
                let path: Arc<str> = shown.into();
                self.add(path.clone(), id, ManifestFile { path, root: 0, content, digest, named: false })
            }
        }
    }

    fn refuse(&mut self, shown: &str, reason: String) -> Result<(), SourceTrouble> {
        let (path, content): (Arc<str>, _) = (shown.into(), Err(reason));
        let digest = digest(&content);
        // No object has this id: it is decided anew each time.
        self.add(path.clone(), Oid::ZERO_SHA1, ManifestFile { path, root: 0, content, digest, named: false })
    }

    /// Something that may be a folder of manifests cannot be looked into.
    fn unread(&mut self, shown: &str, what: &str) {
        let problem = Problem::file(shown, format!("{what}, so that manifests behind it are not read")).hint(format!(
            "nothing is removed meanwhile; copy the files instead, or name it in {IGNORE_FILE} if it holds none"
        ));
        self.content.problems.push(Problem { severity: Severity::Warning, ..problem });
        self.content.incomplete = true;
    }

    fn add(&mut self, path: Arc<str>, id: Oid, file: ManifestFile) -> Result<(), SourceTrouble> {
        self.bytes += file.content.as_ref().map_or(0, |text| text.len() as u64);
        if self.files.insert(Arc::clone(&path), (id, file)).is_some() {
            // Which of the two a person has looked at cannot be told.
            let content = Err("is in its folder twice".into());
            let file = ManifestFile { digest: digest(&content), path: path.clone(), root: 0, content, named: false };
            self.files.insert(path, (Oid::ZERO_SHA1, file));
        }
        match self.limits.exceeded_by(self.files.len(), self.bytes) {
            Some(what) => Err(too_much(&what)),
            None => Ok(()),
        }
    }
}

fn too_much(what: &str) -> SourceTrouble {
    other(format!("the commit has {what}")).hint(TOO_MUCH)
}

/// The text of a file that a commit has at this path, for manifests that refer to it.
pub(super) fn attachment(
    commit: &Commit<'_>,
    path: &str,
    repository: &Repository,
) -> Result<Result<Arc<str>, String>, SourceTrouble> {
    let root = commit.tree().map_err(|error| local(&error))?;
    Ok(match resolve(repository, root.id(), path)? {
        Target::File(id) => text(repository, id)?,
        Target::Folder(..) => Err("is not a file".into()),
        Target::Submodule => Err("is in a submodule, which is not read".into()),
        Target::Outside => Err("is outside the repository".into()),
        Target::Nowhere => Err("does not exist".into()),
        Target::Endless => Err("is a symlink that never ends".into()),
    })
}

/// What a path leads to.
enum Target {
    File(Oid),
    /// With its real path.
    Folder(Oid, String),
    Submodule,
    Outside,
    Nowhere,
    /// Symlinks that lead to one another.
    Endless,
}

/// Follows a path through the folders and symlinks of a tree, as an operating system would in a checkout.
fn resolve(repository: &Repository, root: Oid, path: &str) -> Result<Target, SourceTrouble> {
    let mut rest: VecDeque<String> = path.split('/').map(str::to_owned).collect();
    let mut way: Vec<(String, Oid)> = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                if way.pop().is_none() {
                    return Ok(Target::Outside);
                }
                continue;
            }
            _ => {}
        }
        let here = way.last().map_or(root, |(_, id)| *id);
        let folder: Tree<'_> = repository.find_tree(here).map_err(|error| local(&error))?;
        let Some(entry) = folder.get_name(&name) else { return Ok(Target::Nowhere) };
        match entry.kind() {
            Some(ObjectType::Tree) => way.push((name, entry.id())),
            Some(ObjectType::Commit) => return Ok(Target::Submodule),
            _ if entry.filemode() == SYMLINK => {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(Target::Endless);
                }
                let Ok(target) = text(repository, entry.id())? else { return Ok(Target::Nowhere) };
                if target.starts_with('/') {
                    return Ok(Target::Outside);
                }
                for name in target.split('/').rev() {
                    rest.push_front(name.to_owned());
                }
            }
            _ if rest.iter().all(|name| name.is_empty() || name == ".") => return Ok(Target::File(entry.id())),
            _ => return Ok(Target::Nowhere),
        }
    }
    let id = way.last().map_or(root, |(_, id)| *id);
    let real: Vec<String> = way.into_iter().map(|(name, _)| name).collect();
    Ok(Target::Folder(id, real.join("/")))
}

/// The text of a file, or why there is none.
fn text(repository: &Repository, id: Oid) -> Result<Result<Arc<str>, String>, SourceTrouble> {
    let odb = repository.odb().map_err(|error| local(&error))?;
    let (size, _) = odb.read_header(id).map_err(|error| local(&error))?;
    if size as u64 > MAX_FILE_BYTES {
        return Ok(Err(format!("is {size} bytes long; at most {MAX_FILE_BYTES} (1 MiB) are read")));
    }
    let blob = repository.find_blob(id).map_err(|error| local(&error))?;
    Ok(match std::str::from_utf8(blob.content()) {
        Ok(text) => stand_in(text).map_or_else(|| Ok(text.into()), |reason| Err(reason.into())),
        Err(_) => Err(not_utf8(blob.content())),
    })
}

fn digest(content: &Result<Arc<str>, String>) -> [u8; 32] {
    match content {
        Ok(text) => Sha256::digest(text.as_bytes()).into(),
        // No text begins with this byte, so that no file can pass for a refused one.
        Err(reason) => Sha256::new().chain_update([0xff]).chain_update(reason).finalize().into(),
    }
}

fn is_manifest(name: &str) -> bool {
    is_yaml(name.as_bytes())
}
