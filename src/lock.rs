//! A lock on a file, held by this process until it is dropped.
//!
//! Closing a locked file does not unlock it while another process has a copy of the descriptor, and every program that
//! this one starts has one between `fork` and `exec` (`flock(2)`). The lock therefore ends by being unlocked.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// A held lock; dropping it unlocks the file.
#[derive(Debug)]
pub(crate) struct FileLock(File);

impl FileLock {
    /// Waits until nobody holds the file alone, and then holds it together with others. The file is created if it
    /// does not exist.
    pub(crate) fn shared(path: &Path) -> io::Result<Self> {
        let file = create(path)?;
        file.lock_shared()?;
        Ok(FileLock(file))
    }

    /// Holds the file alone; none while anybody else holds it. The file is created if it does not exist.
    pub(crate) fn alone(path: &Path) -> io::Result<Option<Self>> {
        let file = create(path)?;
        taken(file.try_lock()).map(|is_ours| is_ours.then_some(FileLock(file)))
    }

    /// Whether somebody holds the file alone. A file that does not exist is held by nobody.
    pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let is_free = taken(file.try_lock_shared())?;
        if is_free {
            drop(FileLock(file));
        }
        Ok(!is_free)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing it is the next best thing, and follows anyway.
        let _ = self.0.unlock();
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options().create(true).write(true).truncate(false).open(path)
}

fn taken(outcome: Result<(), TryLockError>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_when_it_is_dropped_even_while_the_descriptor_has_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!FileLock::is_held(&path).unwrap());
        let alone = FileLock::alone(&path).unwrap().unwrap();
        // As a program that is being started has it.
        let copy = alone.0.try_clone().unwrap();
        assert!(FileLock::alone(&path).unwrap().is_none() && FileLock::is_held(&path).unwrap());
        drop(alone);
        let shared = FileLock::shared(&path).unwrap();
        let shared_copy = shared.0.try_clone().unwrap();
        assert!(FileLock::alone(&path).unwrap().is_none() && !FileLock::is_held(&path).unwrap());
        drop(shared);
        assert!(FileLock::alone(&path).unwrap().is_some());
        drop((copy, shared_copy));
    }
}
