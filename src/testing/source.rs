//! A directory of manifests in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::desired::{ManifestFile, Source, Tree};
use crate::model::{CommitInfo, Revision, SourceKind, SourcePlace, SourceTrouble, TroubleReason};

/// Files that a test edits. Clones share them.
#[derive(Debug, Clone)]
pub struct FakeSource {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, File>,
    attachments: BTreeMap<String, String>,
    error: Option<String>,
    trouble: Option<SourceTrouble>,
    commit: Option<CommitInfo>,
    hangs: bool,
    loads: u64,
    refreshes: u64,
}

#[derive(Debug)]
struct File {
    content: Result<Arc<str>, String>,
    digest: [u8; 32],
}

impl File {
    fn new(content: Result<String, String>) -> Self {
        let digest = match &content {
            Ok(text) => Sha256::digest(text.as_bytes()),
            Err(reason) => Sha256::digest(format!("unreadable: {reason}").as_bytes()),
        };
        File { content: content.map(Arc::from), digest: digest.into() }
    }
}

impl Default for FakeSource {
    fn default() -> Self {
        FakeSource::new()
    }
}

impl FakeSource {
    /// An empty directory.
    pub fn new() -> Self {
        FakeSource { state: Arc::default(), changed: watch::Sender::new(0) }
    }

    /// Writes a file and tells about it.
    pub fn write(&self, path: &str, text: impl Into<String>) {
        self.write_silently(path, text);
        self.tell();
    }

    /// Writes a file without a word, as on a network file system.
    pub fn write_silently(&self, path: &str, text: impl Into<String>) {
        self.state().files.insert(path.to_owned(), File::new(Ok(text.into())));
    }

    /// Makes a file unreadable.
    pub fn spoil(&self, path: &str, reason: &str) {
        self.state().files.insert(path.to_owned(), File::new(Err(reason.to_owned())));
        self.tell();
    }

    /// Deletes a file and tells about it.
    pub fn remove(&self, path: &str) {
        self.state().files.remove(path);
        self.tell();
    }

    /// Puts a file beside the manifests that they can refer to.
    pub fn attach(&self, path: &str, text: impl Into<String>) {
        self.state().attachments.insert(path.to_owned(), text.into());
    }

    /// The source as a whole cannot be read (or can again).
    pub fn fail(&self, error: Option<&str>) {
        self.state().error = error.map(str::to_owned);
        self.tell();
    }

    /// What there is may not be the newest state (or is again).
    pub fn trouble(&self, trouble: Option<SourceTrouble>) {
        self.state().trouble = trouble;
        self.tell();
    }

    /// The files are those of a commit from now on.
    pub fn commit(&self, commit: CommitInfo) {
        self.state().commit = Some(commit);
        self.tell();
    }

    /// Reads never end (or do again, from the next one on).
    pub fn hang(&self, hangs: bool) {
        self.state().hangs = hangs;
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<String> {
        self.state().files.keys().cloned().collect()
    }

    /// A file's text; none when it is not there or unreadable.
    pub fn text(&self, path: &str) -> Option<Arc<str>> {
        self.state().files.get(path).and_then(|file| file.content.clone().ok())
    }

    /// How often the source was read.
    pub fn loads(&self) -> u64 {
        self.state().loads
    }

    /// How often it was asked to look for something new.
    pub fn refreshes(&self) -> u64 {
        self.state().refreshes
    }

    /// Tells that something may have changed.
    pub fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for FakeSource {
    async fn load(&self) -> Result<Tree, SourceTrouble> {
        let hangs = {
            let mut state = self.state();
            state.loads += 1;
            state.hangs
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let state = self.state();
        if let Some(error) = &state.error {
            return Err(SourceTrouble::new(TroubleReason::Other, error.clone()));
        }
        let mut whole = Sha256::new();
        let files = state.files.iter().map(|(path, file)| {
            whole.update(path.as_bytes());
            whole.update(file.digest);
            let (path, content) = (Arc::from(path.as_str()), file.content.clone());
            ManifestFile { path, root: 0, content, digest: file.digest, named: false }
        });
        let files = files.collect();
        let revision = whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let (revision, commit) = match &state.commit {
            Some(commit) => (commit.id.to_string(), Some(commit.clone())),
            None => (revision, None),
        };
        Ok(Tree { revision: Revision(revision), files, commit, trouble: state.trouble.clone(), ..Tree::default() })
    }

    fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        super::hints(&self.changed)
    }

    fn refresh(&self) {
        self.state().refreshes += 1;
    }

    fn place(&self) -> SourcePlace {
        SourcePlace { kind: SourceKind::Directory, location: "memory".into(), branch: None, path: "".into() }
    }

    fn read_ago(&self) -> Option<Duration> {
        (self.state().loads > 0).then_some(Duration::ZERO)
    }

    async fn attachment(&self, _manifest: &str, path: &str) -> Result<Arc<str>, String> {
        match self.state().attachments.get(path) {
            Some(text) => Ok(Arc::from(text.as_str())),
            None => Err(format!("`{path}` is not there")),
        }
    }
}
