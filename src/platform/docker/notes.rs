//! Notes, kept in a small file beside the embedded registry: plain Docker has no configs.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::notes::MAX_NOTES_BYTES;
use crate::model::{FailureKind, InstanceName, NoteEdits, Notes, NotesView, StepFailure};

/// The largest file that is read: all notes, and what JSON makes of them at worst.
const MAX_FILE_BYTES: u64 = 8 * MAX_NOTES_BYTES as u64;

/// Where the notes of an instance are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    file: PathBuf,
}

impl Place {
    /// A file in this folder, which need not exist.
    pub(super) fn of(folder: &Path, instance: &InstanceName) -> Self {
        Place { file: folder.join(format!("notes-{instance}.json")) }
    }

    /// What is noted.
    pub(super) async fn read(&self) -> NotesView {
        let place = self.clone();
        let read = tokio::task::spawn_blocking(move || place.read_now()).await;
        match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(notes) => {
                NotesView::Read { version: u64::from(notes.is_some()), notes: Arc::new(notes.unwrap_or_default()) }
            }
            Err(error) => NotesView::Unread(format!("cannot read {}: {error}", self.file.display())),
        }
    }

    /// Changes notes.
    pub(super) async fn write(&self, edits: NoteEdits) -> Result<(), StepFailure> {
        let place = self.clone();
        let written = tokio::task::spawn_blocking(move || place.write_now(&edits)).await;
        written.map_err(io::Error::other).and_then(|written| written).map_err(|error| {
            let message = format!("cannot write {}: {error}", self.file.display());
            StepFailure::new(FailureKind::Unavailable, message)
        })
    }

    /// None where there is no file.
    fn read_now(&self) -> io::Result<Option<Notes>> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not what ofop wrote; mend it or remove it"))
    }

    /// One writer at a time, and whole or not at all: another file, made sure of, then a rename over this one.
    fn write_now(&self, edits: &NoteEdits) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(self.file.with_extension("lock"))?;
        lock.lock()?;
        let before = self.read_now()?;
        let mut notes = before.clone().unwrap_or_default();
        for (key, text) in edits {
            match text {
                Some(text) => notes.insert(key.clone(), text.clone()),
                None => notes.remove(key),
            };
        }
        if before.as_ref().unwrap_or(&Notes::new()) == &notes {
            return Ok(());
        }
        let new = self.file.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(serde_json::to_string_pretty(&notes)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn edits(of: &[(&str, Option<&str>)]) -> NoteEdits {
        of.iter().map(|(key, text)| ((*key).to_owned(), text.map(str::to_owned))).collect()
    }

    fn read(place: &Place) -> Vec<String> {
        place.read_now().unwrap().unwrap_or_default().iter().map(|(key, text)| format!("{key}={text}")).collect()
    }

    #[test]
    fn notes_are_changed_one_by_one_and_survive() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::of(&folder.path().join("state"), &InstanceName::new("plant").unwrap());
        assert_eq!(read(&place), Vec::<String>::new());
        place.write_now(&edits(&[("a", Some("1")), ("b", Some("\"ü\"\n"))])).unwrap();
        place.write_now(&edits(&[("a", None), ("c", Some("3"))])).unwrap();
        assert_eq!(read(&place), ["b=\"ü\"\n", "c=3"]);
        let names: std::collections::BTreeSet<_> =
            fs::read_dir(folder.path().join("state")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["notes-plant.json", "notes-plant.lock"]);
        let mode = fs::metadata(folder.path().join("state")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "the state is nobody else's");
    }

    #[test]
    fn writers_at_the_same_time_undo_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::of(folder.path(), &InstanceName::new("plant").unwrap());
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let place = &place;
                scope.spawn(move || {
                    for at in 0..10 {
                        place.write_now(&edits(&[(&format!("{writer}/{at}"), Some("x"))])).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&place).len(), 80);
    }

    #[tokio::test]
    async fn a_file_that_somebody_spoiled_is_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::of(folder.path(), &InstanceName::new("plant").unwrap());
        for spoiled in ["", "[]", "{\"a\": 1}", "{\"a\": \"1\""] {
            fs::write(&place.file, spoiled).unwrap();
            assert!(matches!(place.read().await, NotesView::Unread(why) if why.contains("mend it or remove it")));
            assert!(place.write(edits(&[("a", Some("1"))])).await.is_err());
            assert_eq!(fs::read_to_string(&place.file).unwrap(), spoiled);
        }
    }
}
