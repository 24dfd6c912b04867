//! Hints that files may have changed, from inotify and, because NFS, bind mounts and full queues lose
//! events, from a timer.
//!
//! An event is never believed to say what changed; it only says that looking is worth while. Folders are
//! watched one by one rather than recursively: the library's recursion follows what it likes and reports
//! nothing of a file that was made together with its folder. Instead, whoever looks says which folders it saw
//! ([`Targets`]), these are armed, and because something may have happened between looking and arming, newly
//! armed folders are worth another look.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Most paths that are remembered as taken away between two looks; beyond, everything is armed again.
const MAX_TAKEN: usize = 1_000;

/// What to watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Targets {
    /// Paths whose coming, going or being replaced matters; they need not exist.
    pub(crate) anchors: Vec<PathBuf>,
    /// Folders whose entries matter, with what identifies them (device and inode).
    pub(crate) folders: BTreeMap<PathBuf, (u64, u64)>,
    /// When to look again whatever happens.
    pub(crate) again: Option<Instant>,
}

impl Targets {
    /// Asks for another look at this time, unless one is due sooner.
    pub(crate) fn ask(targets: &watch::Sender<Targets>, at: Option<Instant>) {
        let Some(at) = at else { return };
        let now = Instant::now();
        targets.send_if_modified(|targets| {
            let sooner = targets.again.is_none_or(|known| known <= now || at < known);
            if sooner {
                targets.again = Some(at);
            }
            sooner
        });
    }
}

/// When hints come.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Events that follow one another within this time are one hint.
    pub quiet: Duration,
    /// A hint is not held back for longer than this.
    pub longest: Duration,
    /// A hint comes at least this often.
    pub rescan: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            quiet: Duration::from_millis(50),
            longest: Duration::from_millis(500),
            rescan: Duration::from_secs(30),
        }
    }
}

/// Hints for what `targets` names at any time; the stream ends when nobody can change `targets` any more.
pub(crate) fn hints(targets: watch::Receiver<Targets>, timing: Timing) -> impl Stream<Item = ()> + Send + 'static {
    let watching = Watching {
        targets,
        timing,
        shared: Arc::default(),
        armed: Some(Armed::default()),
        fired: Instant::now(),
        rescan_at: Instant::now() + timing.rescan,
    };
    futures_util::stream::unfold(
        watching,
        |mut watching| async move { watching.hint().await.then_some(((), watching)) },
    )
}

struct Watching {
    targets: watch::Receiver<Targets>,
    timing: Timing,
    shared: Arc<Shared>,
    /// None only while a thread is at work on it.
    armed: Option<Armed>,
    fired: Instant,
    rescan_at: Instant,
}

impl Watching {
    /// Waits for the next hint; false when there will be none.
    async fn hint(&mut self) -> bool {
        loop {
            let targets = self.targets.borrow_and_update().clone();
            let again = targets.again.filter(|again| *again > self.fired);
            if self.arm(targets).await {
                break;
            }
            tokio::select! {
                () = self.shared.event.notified() => {
                    self.wait_for_quiet().await;
                    break;
                }
                changed = self.targets.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                }
                () = tokio::time::sleep_until(again.unwrap_or(self.rescan_at).min(self.rescan_at)) => break,
            }
        }
        self.fired = Instant::now();
        self.rescan_at = self.fired + self.timing.rescan;
        true
    }

    async fn wait_for_quiet(&self) {
        let longest = Instant::now() + self.timing.longest;
        loop {
            let quiet = Instant::now() + self.timing.quiet;
            tokio::select! {
                () = self.shared.event.notified() => {}
                () = tokio::time::sleep_until(quiet.min(longest)) => return,
            }
            if Instant::now() >= longest {
                return;
            }
        }
    }

    /// Watches what is not watched yet; true when there was such, which calls for a look.
    async fn arm(&mut self, targets: Targets) -> bool {
        let armed = self.armed.take().unwrap_or_default();
        let shared = self.shared.clone();
        // Arming a folder is a system call or two: quick each, but there may be thousands.
        match tokio::task::spawn_blocking(move || armed.update(&targets, &shared)).await {
            Ok((armed, grown)) => {
                self.armed = Some(armed);
                grown
            }
            Err(_) => false,
        }
    }
}

/// What the watcher's thread and ours share.
#[derive(Debug, Default)]
struct Shared {
    event: Notify,
    filter: Mutex<Filter>,
}

/// Which events matter, and what they say about the watches themselves.
#[derive(Debug, Default)]
struct Filter {
    folders: BTreeSet<PathBuf>,
    anchors: Vec<PathBuf>,
    /// Paths that were taken away or moved: a watch on them is worth nothing any more.
    taken: BTreeSet<PathBuf>,
    /// Events were lost: no watch can be relied on.
    lost: bool,
}

impl Shared {
    fn filter(&self) -> std::sync::MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called on the watcher's thread for each event.
    fn on_event(&self, event: notify::Result<Event>) {
        let mut filter = self.filter();
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            Ok(_) | Err(_) => {
                filter.lost = true;
                self.event.notify_one();
                return;
            }
        };
        let takes = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            // Our own reading among others.
            EventKind::Access(_) => return,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
            EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => false,
        };
        if takes {
            filter.taken.extend(event.paths.iter().cloned());
            filter.lost |= filter.taken.len() > MAX_TAKEN;
        }
        if event.paths.is_empty() || event.paths.iter().any(|path| filter.matters(path)) {
            self.event.notify_one();
        }
    }
}

impl Filter {
    fn matters(&self, path: &Path) -> bool {
        self.folders.contains(path)
            || path.parent().is_some_and(|parent| self.folders.contains(parent))
            || self.anchors.iter().any(|anchor| anchor.starts_with(path))
    }
}

/// The watches that are set.
#[derive(Default)]
struct Armed {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeMap<PathBuf, (u64, u64)>,
    /// A person was told that watching does not work; once is enough.
    complained: bool,
}

impl Armed {
    /// Sets and drops watches until they are as `targets` says. Blocking.
    fn update(mut self, targets: &Targets, shared: &Arc<Shared>) -> (Self, bool) {
        let anchors: Vec<PathBuf> = targets.anchors.iter().flat_map(|anchor| with_resolved(anchor)).collect();
        let mut wanted = targets.folders.clone();
        for anchor in &anchors {
            if let Some((folder, identity)) = nearest_folder(anchor) {
                wanted.entry(folder).or_insert(identity);
            }
        }
        let (taken, lost) = {
            let mut filter = shared.filter();
            filter.folders = targets.folders.keys().cloned().collect();
            filter.anchors = anchors;
            (std::mem::take(&mut filter.taken), std::mem::take(&mut filter.lost))
        };
        if lost {
            self.watcher = None;
            self.folders.clear();
        }
        for path in taken {
            if self.folders.remove(&path).is_some() {
                self.disarm(&path);
            }
        }
        let stale: Vec<PathBuf> = self
            .folders
            .iter()
            .filter(|(path, id)| wanted.get(*path) != Some(*id))
            .map(|(path, _)| path.clone())
            .collect();
        for path in stale {
            self.folders.remove(&path);
            self.disarm(&path);
        }
        wanted.retain(|path, _| !self.folders.contains_key(path));
        let grown = self.arm(wanted, shared);
        (self, grown)
    }

    fn arm(&mut self, folders: BTreeMap<PathBuf, (u64, u64)>, shared: &Arc<Shared>) -> bool {
        if folders.is_empty() {
            return false;
        }
        if self.watcher.is_none() {
            let shared = shared.clone();
            match notify::recommended_watcher(move |event| shared.on_event(event)) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => {
                    self.complain(&error);
                    return false;
                }
            }
        }
        let Some(watcher) = self.watcher.as_mut() else { return false };
        let mut grown = false;
        let mut failure = None;
        for (folder, identity) in folders {
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder, identity);
                    grown = true;
                }
                // Gone between looking and arming: the folder above says so.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            self.complain(&error);
        }
        grown
    }

    fn disarm(&mut self, path: &Path) {
        if let Some(watcher) = self.watcher.as_mut() {
            // Fails when the folder is gone, and the watch with it.
            let _ = watcher.unwatch(path);
        }
    }

    fn complain(&mut self, error: &notify::Error) {
        if !self.complained {
            self.complained = true;
            tracing::warn!(%error, "files cannot be watched; changes are found by the timed scan only");
        }
    }
}

/// A path as it was given and as it is once its symlinks are resolved, both absolute.
fn with_resolved(path: &Path) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    paths.extend(std::path::absolute(path));
    paths.extend(std::fs::canonicalize(path));
    paths
}

/// The nearest folder above a path that exists, with what identifies it.
fn nearest_folder(path: &Path) -> Option<(PathBuf, (u64, u64))> {
    use std::os::unix::fs::MetadataExt;
    path.ancestors().skip(1).find_map(|folder| {
        let metadata = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir)?;
        Some((folder.to_owned(), (metadata.dev(), metadata.ino())))
    })
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, RemoveKind};

    use super::*;

    /// Whether an event of this kind on this path is worth a look.
    fn counts(kind: EventKind, path: &str) -> bool {
        let shared = Shared::default();
        shared.filter().folders.insert("/plant/line1".into());
        shared.filter().anchors.push("/plant".into());
        shared.on_event(Ok(Event::new(kind).add_path(path.into())));
        let mut notified = std::pin::pin!(shared.event.notified());
        notified.as_mut().enable()
    }

    #[test]
    fn reading_is_no_event_and_writing_is() {
        for kind in [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read), AccessKind::Read] {
            assert!(!counts(EventKind::Access(kind), "/plant/line1/a.yml"), "{kind:?}");
        }
        assert!(counts(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/plant/line1/a.yml"));
        assert!(counts(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "/plant/line1/a.yml"));
    }

    #[test]
    fn neighbours_of_the_root_do_not_matter_and_the_root_itself_does() {
        let made = EventKind::Create(CreateKind::Folder);
        assert!(counts(made, "/plant"));
        assert!(counts(made, "/plant/line1/cell"));
        assert!(!counts(made, "/plants"));
        assert!(!counts(made, "/plant/.git/index.lock"));
    }

    #[test]
    fn lost_events_and_removed_folders_are_armed_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("root");
        std::fs::create_dir(&root).unwrap();
        let shared = Arc::new(Shared::default());
        let targets = Targets { folders: [nearest_folder(&root.join("x")).unwrap()].into(), ..Targets::default() };
        let (armed, grown) = Armed::default().update(&targets, &shared);
        assert!(grown);
        let (armed, grown) = armed.update(&targets, &shared);
        assert!(!grown);
        shared.on_event(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        let (armed, grown) = armed.update(&targets, &shared);
        assert!(grown, "after lost events");
        shared.on_event(Ok(Event::new(EventKind::Remove(RemoveKind::Folder)).add_path(root)));
        let (_, grown) = armed.update(&targets, &shared);
        assert!(grown, "after a removal, although the folder has the same inode");
    }
}
