//! Local files that manifests refer to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::directory::PATIENCE;
use super::file::{self, Reading};
use super::settle::{Settle, Settling};
use super::watch::Targets;

/// Where a file must lie, once its symlinks are resolved.
#[derive(Debug, Clone)]
pub(crate) enum Within {
    /// Wherever it is: whoever names it may read every file.
    Anywhere,
    /// Below the folder of the manifests.
    Manifests(PathBuf),
    /// Below the folder of the manifests or one of those that the operator's settings name.
    Models(Vec<PathBuf>),
}

impl Within {
    fn holds(&self, real: &Path) -> io::Result<bool> {
        match self {
            Within::Anywhere => Ok(true),
            Within::Manifests(folder) => Ok(real.starts_with(fs::canonicalize(folder)?)),
            // A folder that is not there holds nothing.
            Within::Models(folders) => Ok(folders
                .iter()
                .filter_map(|folder| fs::canonicalize(folder).ok())
                .any(|folder| real.starts_with(folder))),
        }
    }

    fn refusal(&self) -> &'static str {
        match self {
            Within::Anywhere | Within::Manifests(_) => "is outside the folder of the manifests",
            Within::Models(_) => {
                "is outside the folder of the manifests; if manifests may read it, name its folder in OFOP_MODEL_ROOTS"
            }
        }
    }
}

/// Reads files and believes their changes as those of manifests: once they lasted. The first sight of a file
/// counts at once.
#[derive(Debug)]
pub(crate) struct LocalFiles {
    settling: Arc<Mutex<Settling>>,
    settle: Settle,
    targets: watch::Sender<Targets>,
}

impl LocalFiles {
    /// Files whose pending changes ask for another look through `targets`.
    pub(crate) fn new(settle: Settle, targets: watch::Sender<Targets>) -> Self {
        LocalFiles { settling: Arc::default(), settle, targets }
    }

    /// Reads a file, unless it lies elsewhere than where it must. A file that may not be read is not looked at either: the
    /// answer does not say whether it exists.
    ///
    /// # Errors
    /// A sentence that says why there is no text.
    pub(crate) async fn read(&self, path: PathBuf, within: Within) -> Result<Arc<str>, String> {
        let name: Arc<str> = path.to_string_lossy().into();
        let known = {
            let settling = self.settling();
            let settled = !settling.is_pending(&name);
            settling.accepted().get(&name).filter(|_| settled).cloned()
        };
        let read = tokio::task::spawn_blocking(move || read_within(&path, &within, known));
        let reading = match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(_)) => return Err("reading it was cut short".into()),
            Err(_) => return Err(format!("reading it took more than {} s", PATIENCE.as_secs())),
        };
        let now = Instant::now();
        let (believed, again) = {
            let mut settling = self.settling();
            let first = !settling.accepted().contains_key(&name);
            let settle = if first { Settle::AT_ONCE } else { self.settle };
            settling.see(name.clone(), Some(reading), now, &settle);
            let believed = settling.accepted().get(&name).map(|reading| reading.content.clone());
            (believed, settling.next(&self.settle))
        };
        Targets::ask(&self.targets, again);
        believed.unwrap_or_else(|| Err("does not exist".into()))
    }

    fn settling(&self) -> MutexGuard<'_, Settling> {
        self.settling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_within(path: &Path, within: &Within, known: Option<Reading>) -> Reading {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) => return missing(path, within, &error),
    };
    match within.holds(&real) {
        Ok(true) => match known.filter(|known| known.is_still(&real)) {
            Some(known) => known,
            None => file::read(&real).unwrap_or_else(|| Reading::refused(None, "does not exist")),
        },
        Ok(false) => Reading::refused(None, within.refusal()),
        Err(error) => Reading::refused(None, file::cannot_read(&error)),
    }
}

/// What to say of a file that cannot be found. Of a path outside, whoever wrote the manifest does not learn whether
/// something is there.
fn missing(path: &Path, within: &Within, error: &io::Error) -> Reading {
    let parent = path.ancestors().skip(1).find_map(|folder| fs::canonicalize(folder).ok()).unwrap_or_default();
    if !within.holds(&parent).unwrap_or(false) {
        return Reading::refused(None, within.refusal());
    }
    if error.kind() == io::ErrorKind::NotFound {
        return Reading::refused(None, "does not exist");
    }
    Reading::refused(None, file::cannot_read(error))
}
