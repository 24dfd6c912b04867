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

    /// Reads a file; one that is to be below a folder is refused when its symlinks lead out of it.
    ///
    /// # Errors
    /// A sentence that says why there is no text.
    pub(crate) async fn read(&self, path: PathBuf, within: Option<PathBuf>) -> Result<Arc<str>, String> {
        let name: Arc<str> = path.to_string_lossy().into();
        let known = {
            let settling = self.settling();
            let settled = !settling.is_pending(&name);
            settling.accepted().get(&name).filter(|_| settled).cloned()
        };
        let read = tokio::task::spawn_blocking(move || read_within(&path, within.as_deref(), known));
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

fn read_within(path: &Path, within: Option<&Path>, known: Option<Reading>) -> Reading {
    let resolve = || -> io::Result<Option<PathBuf>> {
        let real = fs::canonicalize(path)?;
        let confined = match within {
            Some(folder) => real.starts_with(fs::canonicalize(folder)?),
            None => true,
        };
        Ok(confined.then_some(real))
    };
    match resolve() {
        Ok(Some(real)) => match known.filter(|known| known.is_still(&real)) {
            Some(known) => known,
            None => file::read(&real).unwrap_or_else(|| Reading::refused(None, "does not exist")),
        },
        Ok(None) => Reading::refused(None, "is outside the folder of the manifests"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::refused(None, "does not exist"),
        Err(error) => Reading::refused(None, file::cannot_read(&error)),
    }
}
