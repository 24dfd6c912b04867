//! Notes between what was last read of them and what was said since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::notes::{MAX_NOTES_BYTES, Note, NoteEdits, Notes, NotesView};

/// How long what was sent may still be overtaken: a Swarm manager gives a write up after 20 s, and the call itself
/// may take 30.
const UNTIL_SURE: Duration = Duration::from_secs(60);

/// The notes as they shall be: those that were read, changed by what was said since.
///
/// A change stays until it was seen and nothing that was sent before can come after it any more. So a write that was
/// lost is written again, one that comes late is corrected, and what somebody else notes beside us stays. Notes that
/// somebody threw away as a whole are written again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notebook {
    /// As they last were read; none before they were.
    read: Option<Arc<Notes>>,
    /// The version of that.
    version: u64,
    edits: BTreeMap<String, Edit>,
    /// None can be kept.
    unsupported: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    /// None to take the note away.
    text: Option<String>,
    /// Not settled before.
    until: Duration,
}

impl Notebook {
    /// The notes before anything was read, with what was said and is not noted yet.
    pub(super) fn reopened(&self) -> Notebook {
        let kept = |key: &String| self.read.as_ref().and_then(|read| read.get(key));
        // whoever acted in between may have noted the same attempt, and sent it
        let is_attempt = |key: &String| matches!(Note::of(key), Some(Note::Attempted(_)));
        let unsaved = self.edits.iter().filter(|(key, edit)| kept(key) != edit.text.as_ref() && !is_attempt(key));
        let edits = unsaved.map(|(key, edit)| (key.clone(), edit.clone())).collect();
        Notebook { edits, version: self.version, ..Notebook::default() }
    }

    /// Takes in what was read. Whether any note may have changed by that.
    pub(super) fn see(&mut self, view: &NotesView, now: Duration) -> bool {
        match view {
            // A manager that was cut off shows what was.
            NotesView::Read { version, .. } if *version > 0 && *version < self.version => false,
            NotesView::Read { version, notes } => {
                if *version == 0 && self.version > 0 {
                    self.say_again();
                }
                let news = self.read.as_ref().is_none_or(|read| !Arc::ptr_eq(read, notes) && read != notes);
                self.edits.retain(|key, edit| now < edit.until || notes.get(key) != edit.text.as_ref());
                self.read = Some(Arc::clone(notes));
                self.version = *version;
                self.unsupported = false;
                news
            }
            NotesView::Unsupported(_) => {
                self.unsupported = true;
                false
            }
            NotesView::Unread(_) => false,
        }
    }

    /// Turns everything that is noted into something to be noted.
    fn say_again(&mut self) {
        let read = self.read.take().unwrap_or_default();
        for (key, text) in read.iter().filter(|(key, _)| Note::of(key).is_some()) {
            let edit = || Edit { text: Some(text.clone()), until: Duration::ZERO };
            self.edits.entry(key.clone()).or_insert_with(edit);
        }
    }

    /// Whether there may be notes that nobody has read yet.
    pub(super) fn may_hide_something(&self, view: &NotesView) -> bool {
        self.read.is_none() && !self.unsupported && matches!(view, NotesView::Unread(_))
    }

    /// Whether the notes were read at least once.
    pub(super) fn is_read(&self) -> bool {
        self.read.is_some()
    }

    /// Whether no notes can be kept here.
    pub(super) fn is_unsupported(&self) -> bool {
        self.unsupported
    }

    /// Whether a note is kept with this text, and nothing else is to be noted in its place.
    pub(super) fn keeps(&self, note: &Note, text: &str) -> bool {
        let key = note.key();
        let kept = self.read.as_ref().and_then(|read| read.get(&key)).is_some_and(|kept| kept == text);
        kept && self.edits.get(&key).is_none_or(|edit| edit.text.as_deref() == Some(text))
    }

    /// Notes something, or takes a note away.
    pub(super) fn set(&mut self, note: &Note, text: Option<String>) {
        let key = note.key();
        let same = |read: &Notes| read.get(&key) == text.as_ref();
        match self.edits.get_mut(&key) {
            Some(edit) => edit.text = text,
            None if self.read.as_ref().is_some_and(|read| same(read)) => {}
            None => _ = self.edits.insert(key, Edit { text, until: Duration::ZERO }),
        }
    }

    /// Every note as it shall be.
    pub(super) fn notes(&self) -> impl Iterator<Item = (Note, &str)> {
        let read = self.read.iter().flat_map(|read| read.iter());
        let kept = read.filter(|(key, _)| !self.edits.contains_key(*key)).map(|(key, text)| (key, text.as_str()));
        let said = self.edits.iter().filter_map(|(key, edit)| Some((key, edit.text.as_deref()?)));
        kept.chain(said).filter_map(|(key, text)| Some((Note::of(key)?, text)))
    }

    /// How many notes are not kept as they shall be.
    pub fn unsaved(&self) -> usize {
        let kept = |key: &String| self.read.as_ref().and_then(|read| read.get(key));
        self.edits.iter().filter(|(key, edit)| self.read.is_none() || kept(key) != edit.text.as_ref()).count()
    }

    /// Whether more is to be noted than fits.
    pub fn is_full(&self) -> bool {
        self.read.is_some() && !self.unsupported && self.unsaved() > self.unsent().len()
    }

    /// What is to be written now. Nothing before the notes were read, since what was not seen cannot be changed with
    /// sense; a person's words first where not all fit.
    pub fn unsent(&self) -> NoteEdits {
        let Some(read) = self.read.as_ref().filter(|_| !self.unsupported && !self.edits.is_empty()) else {
            return NoteEdits::new();
        };
        let size = |key: &String, text: &String| key.len() + text.len();
        let mut bytes: usize =
            read.iter().filter(|(key, _)| !self.edits.contains_key(*key)).map(|(key, text)| size(key, text)).sum();
        let (mut first, mut rest): (Vec<_>, Vec<_>) = self
            .edits
            .iter()
            .partition(|(key, _)| !matches!(Note::of(key), Some(Note::RolledBack(_) | Note::Attempted(_))));
        first.append(&mut rest);
        let mut edits = NoteEdits::new();
        for (key, edit) in first {
            bytes += edit.text.as_ref().map_or(0, |text| size(key, text));
            if edit.text.is_some() && bytes > MAX_NOTES_BYTES {
                bytes -= edit.text.as_ref().map_or(0, |text| size(key, text));
            } else if read.get(key) != edit.text.as_ref() {
                edits.insert(key.clone(), edit.text.clone());
            }
        }
        edits
    }

    /// These were sent a moment ago, or just now.
    pub fn sent(&mut self, edits: &NoteEdits, now: Duration) {
        for key in edits.keys() {
            if let Some(edit) = self.edits.get_mut(key) {
                edit.until = edit.until.max(now + UNTIL_SURE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Note {
        Note::Suspended(format!("app/{name}").parse().unwrap())
    }

    fn view(notes: &[(&str, &str)]) -> NotesView {
        version(1, notes)
    }

    fn version(version: u64, notes: &[(&str, &str)]) -> NotesView {
        let notes: Notes = notes.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        NotesView::Read { version, notes: Arc::new(notes) }
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn shown(notebook: &Notebook) -> Vec<String> {
        let mut shown: Vec<String> = notebook.notes().map(|(note, text)| format!("{}={text}", note.key())).collect();
        shown.sort();
        shown
    }

    #[test]
    fn what_was_said_before_the_first_read_goes_before_what_is_read() {
        let mut notebook = Notebook::default();
        notebook.set(&resource("A"), None);
        notebook.set(&resource("B"), Some("now".into()));
        assert_eq!((notebook.unsent().len(), notebook.unsaved()), (0, 2));
        assert!(notebook.may_hide_something(&NotesView::Unread("no answer".into())));
        assert!(notebook.see(&view(&[("suspended/app/A", "then"), ("suspended/app/C", "then")]), seconds(1)));
        assert_eq!(shown(&notebook), ["suspended/app/B=now", "suspended/app/C=then"]);
        let unsent = notebook.unsent();
        assert_eq!(unsent.keys().collect::<Vec<_>>(), ["suspended/app/A", "suspended/app/B"]);
        assert_eq!(unsent["suspended/app/A"], None);
        assert!(!notebook.may_hide_something(&NotesView::Unread("no answer".into())), "they were read once");
    }

    #[test]
    fn a_change_is_settled_once_it_was_seen_and_nothing_older_can_come() {
        let mut notebook = Notebook::default();
        notebook.see(&view(&[]), seconds(0));
        notebook.set(&resource("A"), Some("now".into()));
        let first = notebook.unsent();
        notebook.sent(&first, seconds(1));
        // The answer was lost, and the person has changed their mind.
        notebook.set(&resource("A"), None);
        assert!(notebook.unsent().is_empty(), "what is not there need not be taken away");
        notebook.see(&view(&[]), seconds(2));
        // Late, but not too late.
        notebook.see(&view(&[("suspended/app/A", "now")]), seconds(20));
        assert_eq!(shown(&notebook), Vec::<String>::new());
        let again = notebook.unsent();
        assert_eq!(again["suspended/app/A"], None);
        notebook.sent(&again, seconds(20));
        notebook.see(&view(&[]), seconds(21));
        notebook.see(&view(&[]), seconds(90));
        // From now on somebody else's word counts.
        notebook.see(&view(&[("suspended/app/A", "theirs")]), seconds(91));
        assert_eq!(shown(&notebook), ["suspended/app/A=theirs"]);
        assert_eq!(notebook.unsaved(), 0);
    }

    #[test]
    fn a_write_that_is_lost_is_written_again() {
        let mut notebook = Notebook::default();
        notebook.see(&view(&[]), seconds(0));
        notebook.set(&Note::SuspendedAll, Some("now".into()));
        let first = notebook.unsent();
        notebook.sent(&first, seconds(1));
        for at in [2, 30, 300] {
            notebook.see(&view(&[]), seconds(at));
            assert_eq!(notebook.unsent(), first, "at {at} s");
        }
    }

    #[test]
    fn an_older_view_changes_nothing_and_notes_that_were_thrown_away_are_written_again() {
        let mut notebook = Notebook::default();
        notebook.see(&version(7, &[("suspended", "then"), ("lease", "theirs")]), seconds(0));
        assert!(!notebook.see(&version(6, &[]), seconds(1)));
        assert_eq!(shown(&notebook), ["suspended=then"]);
        notebook.see(&NotesView::default(), seconds(2));
        assert_eq!(shown(&notebook), ["suspended=then"]);
        assert_eq!(notebook.unsent().into_iter().collect::<Vec<_>>(), [("suspended".into(), Some("then".into()))]);
    }

    #[test]
    fn notes_of_others_are_neither_shown_nor_written() {
        let mut notebook = Notebook::default();
        notebook.see(&view(&[("lease", "somebody"), ("suspended/what/is/this", "")]), seconds(0));
        assert!(shown(&notebook).is_empty() && notebook.unsent().is_empty());
    }

    #[test]
    fn where_not_all_fits_a_persons_words_come_first() {
        let mut notebook = Notebook::default();
        notebook.see(&view(&[("other", "kept")]), seconds(0));
        let long = "x".repeat(MAX_NOTES_BYTES / 10);
        for at in 0..20 {
            let service = crate::model::ServiceName::new(&format!("s{at}")).unwrap();
            notebook.set(&Note::RolledBack(service), Some(long.clone()));
        }
        notebook.set(&resource("Z"), Some("now".into()));
        let unsent = notebook.unsent();
        assert!(unsent.contains_key("suspended/app/Z"));
        assert_eq!((unsent.len(), notebook.unsaved()), (10, 21));
        assert!(notebook.is_full());
    }
}
