//! Manifests from folders and files.
//!
//! # Flow
//!
//! ```text
//! load ─► walk ─► (changed files are read) ─► settle ─► Tree        blocking work on its own thread
//!              └► the folders that were seen ─► watch ─► changes
//! ```
//!
//! # Guarantees
//!
//! - Every `*.yml` and `*.yaml`, in any case, below a root counts, sorted by path; hidden files and folders, and what
//!   `.ofopignore` names, aside. A file that cannot be read is in the tree with the reason; so are those in a folder
//!   that cannot be read.
//! - A symlink counts as what it leads to, as long as that is below the root; a folder counts once.
//! - A change counts once it lasted ([`Settle`]): neither half of a write nor the moment between two steps of an
//!   editor, a checkout or a swap of `..data` is taken for the new state.
//! - A root that is gone, looks unmounted or holds more than it should is an error of the whole source. An empty
//!   folder is a state like any other.
//! - A file system that does not answer stops no one for longer than [`PATIENCE`], and is asked once at a time.

mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::walk::{Beside, Found, Known};
use super::attached::{LocalFiles, Within};
use super::file::Reading;
use super::settle::{Settle, Settling};
use super::watch::{Targets, Timing, hints};
use super::{Limits, ManifestFile, Source, Tree};
use crate::model::{Revision, SourceKind, SourcePlace, SourceTrouble, TroubleReason};

/// How long the file system may take to answer: more than a busy NFS server needs, less than a person waits.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A folder or file that was named.
#[derive(Debug, Clone)]
struct Root {
    /// As it was named.
    path: PathBuf,
    /// The same as text, the beginning of every name below it.
    shown: String,
}

/// How a directory is read and watched.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a change has to last.
    pub settle: Settle,
    /// When changes are announced.
    pub timing: Timing,
    /// How much there may be.
    pub limits: Limits,
    /// Folders below which manifests may name device models by absolute paths, besides their own.
    pub models: Vec<PathBuf>,
}

impl Options {
    /// For a daemon, with a full look at least this often.
    pub fn watching(rescan: Duration) -> Self {
        let timing = Timing { rescan, ..Timing::default() };
        Options { settle: Settle::WATCHING, timing, ..Options::at_once() }
    }

    /// For a command that loads once.
    pub fn at_once() -> Self {
        Options { settle: Settle::AT_ONCE, timing: Timing::default(), limits: Limits::default(), models: Vec::new() }
    }
}

/// Folders and files with manifests.
#[derive(Debug)]
pub struct DirectorySource {
    roots: Arc<[Root]>,
    options: Options,
    state: Mutex<State>,
    /// When the last look ended well.
    looked: std::sync::Mutex<Option<Instant>>,
    targets: watch::Sender<Targets>,
    attachments: LocalFiles,
    /// Somebody wants to hear of what is there now: the next load waits until changes have lasted.
    wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    settling: Settling,
    devices: Vec<Option<u64>>,
    named: BTreeSet<Arc<str>>,
    beside: Beside,
    tree: Option<Tree>,
    /// A look that has not come back yet.
    walk: Option<JoinHandle<Result<Found, SourceTrouble>>>,
}

impl DirectorySource {
    /// A source of every manifest below these folders, and of these files whatever their names.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>, options: Options) -> Self {
        let roots: Arc<[Root]> = paths
            .into_iter()
            .map(|path| {
                let path = path.into();
                Root { shown: path.to_string_lossy().into_owned(), path }
            })
            .collect();
        let anchors = roots.iter().map(|root| root.path.clone()).collect();
        let targets = watch::Sender::new(Targets { anchors, ..Targets::default() });
        let attachments = LocalFiles::new(options.settle, targets.clone());
        DirectorySource {
            roots,
            options,
            state: Mutex::default(),
            looked: std::sync::Mutex::default(),
            targets,
            attachments,
            wanted: AtomicBool::new(false),
        }
    }

    /// Looks at the files once.
    async fn look(&self, state: &mut State) -> Result<bool, SourceTrouble> {
        // A look that somebody gave up on still runs; its answer is old, and two at once help nobody.
        if let Some(walk) = state.walk.as_mut() {
            let _ = tokio::time::timeout(PATIENCE, walk).await.map_err(|_| self.silent())?;
            state.walk = None;
        }
        let known = Known {
            accepted: state.settling.accepted().clone(),
            pending: state.settling.pending().cloned().collect(),
            devices: state.devices.clone(),
        };
        let (roots, limits) = (self.roots.clone(), self.options.limits);
        let walk = state.walk.insert(tokio::task::spawn_blocking(move || walk::walk(&roots, &known, limits)));
        let found = tokio::time::timeout(PATIENCE, walk).await.map_err(|_| self.silent());
        let found = found?;
        state.walk = None;
        let cut = |_| SourceTrouble::new(TroubleReason::Other, "reading the files was cut short");
        let found = found.map_err(cut)??;
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let mut changed = state.settling.see_all(found.files, Instant::now(), &self.options.settle);
        changed |= state.beside != found.beside || state.named != found.named;
        (state.beside, state.named) = (found.beside, found.named);
        state.devices = found.devices;
        let again = state.settling.next(&self.options.settle);
        self.targets.send_if_modified(|targets| {
            let modified = targets.folders != found.folders || targets.again != again;
            targets.folders = found.folders;
            targets.again = again;
            modified
        });
        Ok(changed)
    }

    fn silent(&self) -> SourceTrouble {
        let names: Vec<String> = self.roots.iter().map(|root| format!("`{}`", root.shown)).collect();
        let message = format!("{} did not answer within {} s", names.join(", "), PATIENCE.as_secs());
        SourceTrouble::new(TroubleReason::Unreachable, message)
            .hint("look for a network file system whose server is away")
    }

    /// The root that a manifest belongs to.
    fn root_of(&self, manifest: &str) -> Option<&Root> {
        self.roots.iter().find(|root| below(root, manifest).is_some())
    }
}

impl Source for DirectorySource {
    async fn load(&self) -> Result<Tree, SourceTrouble> {
        let state = &mut *self.state.lock().await;
        let wanted = self.wanted.swap(false, Ordering::Relaxed);
        let mut changed = self.look(state).await?;
        // The first state has nothing before it that could stay in force, so it is waited for.
        while state.tree.is_none()
            && let Some(next) = state.settling.next(&self.options.settle)
        {
            tokio::time::sleep_until(next).await;
            changed |= self.look(state).await?;
            if state.settling.pending().all(|name| state.settling.accepted().contains_key(name)) {
                break;
            }
        }
        let until = Instant::now() + self.options.settle.restless;
        while wanted && let Some(next) = state.settling.next(&self.options.settle).filter(|next| *next < until) {
            tokio::time::sleep_until(next).await;
            changed |= self.look(state).await?;
        }
        match &state.tree {
            Some(tree) if !changed => Ok(tree.clone()),
            Some(_) | None => {
                let tree = tree(&self.roots, state.settling.accepted(), &state.named, state.beside.clone());
                state.tree = Some(tree.clone());
                Ok(tree)
            }
        }
    }

    fn refresh(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        hints(self.targets.subscribe(), self.options.timing)
    }

    fn place(&self) -> SourcePlace {
        let names: Vec<&str> = self.roots.iter().map(|root| root.shown.as_str()).collect();
        let location = names.join(", ").into();
        SourcePlace { kind: SourceKind::Directory, location, branch: None, path: "".into() }
    }

    fn read_ago(&self) -> Option<Duration> {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.map(|looked| looked.elapsed())
    }

    async fn attachment(&self, manifest: &str, path: &str) -> Result<Arc<str>, String> {
        let root = self.root_of(manifest).ok_or("belongs to no folder of this source")?;
        let beside = Path::new(manifest).parent().unwrap_or(Path::new(""));
        let named = root.shown == manifest;
        let within = if Path::new(path).is_absolute() {
            let own = if named { beside.to_path_buf() } else { root.path.clone() };
            Within::Models(self.options.models.iter().cloned().chain([own]).collect())
        } else if named {
            // A file that was named by itself has no folder that would confine what is beside it.
            Within::Anywhere
        } else {
            Within::Manifests(root.path.clone())
        };
        self.attachments.read(beside.join(path), within).await
    }
}

/// The name of a file below a root.
fn below<'a>(root: &Root, name: &'a str) -> Option<&'a str> {
    if name == root.shown {
        return Some(name);
    }
    name.strip_prefix(root.shown.trim_end_matches('/'))?.strip_prefix('/')
}

fn tree(roots: &[Root], accepted: &BTreeMap<Arc<str>, Reading>, named: &BTreeSet<Arc<str>>, beside: Beside) -> Tree {
    let mut hash = Sha256::new();
    let mut files = Vec::with_capacity(accepted.len());
    for (name, reading) in accepted {
        // Names below the root, so that a copy of the folder elsewhere has the same revision.
        let below = roots.iter().find_map(|root| below(root, name)).unwrap_or(name);
        hash.update((below.len() as u64).to_be_bytes());
        hash.update(below.as_bytes());
        hash.update(reading.digest);
        let root = name.len() - below.len();
        let (content, digest) = (reading.content.clone(), reading.digest);
        files.push(ManifestFile { path: name.clone(), root, content, digest, named: named.contains(name) });
    }
    let hash = hash.finalize();
    let revision = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let Beside { others, problems, incomplete } = beside;
    Tree { revision: Revision(revision), files, problems, others, incomplete, ..Tree::default() }
}
