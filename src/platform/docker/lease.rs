//! The lease on plain Docker: a lock on a file in the state directory, and beside it a file that says who holds it.
//!
//! The lock is the arbiter. It ends with the process that holds it, so that nobody waits for an operator that died; an
//! operator that is merely stopped keeps it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::lock::FileLock;
use crate::model::{FailureKind, InstanceName, LeaseFound, LeaseRecord, LeaseSeen, LeaseUnread, StepFailure};
use crate::platform::{LeaseStore, locked};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The lease of one instance in one state directory.
#[derive(Debug, Clone)]
pub struct FileLease {
    lock: PathBuf,
    file: PathBuf,
    /// The lock, while this operator holds the lease.
    held: Arc<Mutex<Option<FileLock>>>,
}

/// What the file says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Counts writes.
    at: u64,
    lease: BTreeMap<String, String>,
}

impl FileLease {
    /// The lease in this folder, which need not exist.
    pub fn new(folder: &Path, instance: &InstanceName) -> Self {
        FileLease {
            lock: folder.join(format!("lease-{instance}.lock")),
            file: folder.join(format!("lease-{instance}.json")),
            held: Arc::default(),
        }
    }

    fn read_now(&self) -> io::Result<LeaseSeen> {
        let free = locked(&self.held).is_none() && !FileLock::is_held(&self.lock)?;
        let (at, found) = match self.kept()? {
            Ok(None) => (None, LeaseFound::Absent),
            Ok(Some(kept)) => (Some(kept.at), LeaseFound::of(kept.lease)),
            Err(text) => (Some(0), LeaseFound::of(BTreeMap::from([("unreadable".to_owned(), text)]))),
        };
        let found = match found {
            // Whoever held it is gone: a lock never outlives its process.
            LeaseFound::Record(record) if free => LeaseFound::Record(LeaseRecord { holder: None, ..record }),
            found => found,
        };
        Ok(seen(at, found))
    }

    /// What the file says; none where there is no file, and the text where it cannot be understood.
    fn kept(&self) -> io::Result<Result<Option<Kept>, String>> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text).map(Some).map_err(|_| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Whether it was written; not when another operator holds the lock or has written meanwhile.
    fn write_now(&self, at: Option<u64>, record: &LeaseRecord) -> io::Result<bool> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut held = locked(&self.held);
        if held.is_none() {
            let Some(lock) = FileLock::alone(&self.lock)? else { return Ok(false) };
            *held = Some(lock);
        }
        let present = self.kept()?.map_or(Some(0), |kept| kept.map(|kept| kept.at));
        if present != at {
            *held = None;
            return Ok(false);
        }
        let lease = record.fields().into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        let kept = Kept { at: at.map_or(1, |at| at.wrapping_add(1)), lease };
        let new = self.file.with_extension("new");
        File::create(&new)?.write_all(serde_json::to_string_pretty(&kept)?.as_bytes())?;
        fs::rename(&new, &self.file)?;
        if record.holder.is_none() {
            *held = None;
        }
        Ok(true)
    }
}

/// A reading of a file, which has no id of its own.
fn seen(at: Option<u64>, found: LeaseFound) -> LeaseSeen {
    LeaseSeen { at, object: String::new(), found }
}

impl LeaseStore for FileLease {
    async fn read_lease(&self) -> Result<LeaseSeen, LeaseUnread> {
        let lease = self.clone();
        let read = tokio::task::spawn_blocking(move || lease.read_now()).await;
        read.map_err(io::Error::other).and_then(|read| read).map_err(|error| {
            LeaseUnread::Unavailable(format!("cannot read the lease {}: {error}", self.file.display()))
        })
    }

    fn is_lock(&self) -> bool {
        true
    }

    async fn write_lease(&self, at: Option<u64>, record: &LeaseRecord) -> Result<(), StepFailure> {
        let (lease, record) = (self.clone(), record.clone());
        let written = tokio::task::spawn_blocking(move || lease.write_now(at, &record)).await;
        match written.map_err(io::Error::other).and_then(|written| written) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StepFailure::new(FailureKind::Conflict, "another operator holds the lock of the lease")),
            Err(error) => {
                let message = format!("cannot write the lease {}: {error}", self.file.display());
                Err(StepFailure::new(FailureKind::Unavailable, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::RunId;

    fn record(run: u64, renewals: u64) -> LeaseRecord {
        LeaseRecord {
            holder: Some(RunId::new("host", 1, run)),
            epoch: 1,
            renewals,
            lease: Duration::from_secs(15),
            version: "1".into(),
            address: None,
            since: None,
        }
    }

    #[test]
    fn one_operator_holds_the_lock_and_it_ends_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let instance = InstanceName::new("plant").unwrap();
        let lease = || FileLease::new(&folder.path().join("state"), &instance);
        let (one, other) = (lease(), lease());
        assert_eq!(one.read_now().unwrap(), seen(None, LeaseFound::Absent));
        assert!(one.write_now(None, &record(1, 1)).unwrap());
        assert!(!other.write_now(None, &record(2, 1)).unwrap());
        assert!(!other.write_now(Some(1), &record(2, 1)).unwrap(), "however long it did not move");
        assert!(one.write_now(Some(1), &record(1, 2)).unwrap());
        assert_eq!(other.read_now().unwrap(), seen(Some(2), LeaseFound::Record(record(1, 2))));

        // Its end is the end of all its files.
        drop(one);
        let released = LeaseFound::Record(LeaseRecord { holder: None, ..record(1, 2) });
        assert_eq!(other.read_now().unwrap(), seen(Some(2), released));
        assert!(other.write_now(Some(2), &record(2, 3)).unwrap());

        // Handed back: the next one need not wait.
        let third = lease();
        assert!(other.write_now(Some(3), &LeaseRecord { holder: None, ..record(2, 4) }).unwrap());
        assert!(third.write_now(Some(4), &record(3, 5)).unwrap());
    }

    #[test]
    fn a_file_that_somebody_spoiled_is_written_anew_by_whoever_gets_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let lease = FileLease::new(folder.path(), &InstanceName::new("plant").unwrap());
        for spoiled in ["", "[]", "{\"at\": -1}", "\u{0}\u{1}"] {
            fs::write(&lease.file, spoiled).unwrap();
            let seen = lease.read_now().unwrap();
            assert!(matches!(seen.found, LeaseFound::Unreadable { .. }), "{seen:?}");
            assert!(lease.write_now(seen.at, &record(1, 1)).unwrap());
            assert_eq!(lease.read_now().unwrap().found, LeaseFound::Record(record(1, 1)));
        }
    }
}
