//! From a source to parsed manifests, with everything that they refer to.
//!
//! # Flow
//!
//! ```text
//! Source::load ─► files ─┬─ unchanged: parsed before ─┐
//! namespace schema ──────┴─ parse ────────────────────┴─► what they refer to ─► ParsedTree
//! ```
//!
//! # Guarantees
//!
//! - Only what changed is parsed; a change of the namespace schema or the policy parses everything again. A load that finds
//!   nothing new answers with the very tree of the last one.
//! - A file without a text is in the tree with its problem; so is a schema that cannot be read or is wrong.
//! - What manifests refer to is read anew with every load as cheaply as its place allows: a look at a local
//!   file, a request now and then for a remote one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};

use super::attached::{LocalFiles, Within};
use super::manifest::{Agent, Attachments, Connector, Manifest};
use super::namespace::Schema;
use super::parse::parse_below;
use super::policy_file::PolicyFile;
use super::remote::{Reference, Remote, RemoteOptions};
use super::settle::Settle;
use super::watch::{Targets, Timing, hints};
use super::{ManifestFile, Namespace, ParseContext, ParsedFile, ParsedTree, Source, Tree};
use crate::model::{HiddenValues, OtherFile, PlatformKind, Problem, Severity, SourceTrouble, TroubleReason};

/// How many files that manifests refer to are read at a time.
const READS: usize = 16;

/// Below this number of files, parsing is over before a second thread has started.
const PARALLEL_FROM: usize = 64;

/// The source has a timer of its own, and whoever loads sees local files anew: this one only exists because
/// a watch has to end at some time.
const NO_RESCAN: Duration = Duration::from_secs(24 * 3600);

/// What parsing and following references depend on.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// What will run the services.
    pub platform: PlatformKind,
    /// What `${VAR}` in a manifest stands for.
    pub variables: Arc<BTreeMap<String, String>>,
    /// Variables that no manifest may refer to: credentials.
    pub withheld: Arc<BTreeSet<String>>,
    /// Variables that no manifest is given, since a setting does not list them.
    pub unlisted: Arc<BTreeSet<String>>,
    /// Variables whose values are secrets wherever a manifest puts them.
    pub secret: Arc<BTreeSet<String>>,
    /// Gets the values of secret variables that manifests use.
    pub hidden: HiddenValues,
    /// `OPENFACTORY_UNS_SCHEMA`: the file with the namespace schema.
    pub schema: Option<PathBuf>,
    /// What the operator allows; none where everything is allowed.
    pub policy: Option<PolicyFile>,
    /// How remote files are fetched.
    pub remote: RemoteOptions,
    /// How long a change of a local file has to last.
    pub settle: Settle,
}

impl LoaderOptions {
    /// For a command that loads once: what there is counts at once, and remote files are waited for.
    pub fn at_once(platform: PlatformKind) -> Self {
        LoaderOptions {
            platform,
            variables: Arc::default(),
            withheld: Arc::default(),
            unlisted: Arc::default(),
            secret: Arc::default(),
            hidden: HiddenValues::default(),
            schema: None,
            policy: None,
            remote: RemoteOptions::default(),
            settle: Settle::AT_ONCE,
        }
    }

    /// For a daemon.
    #[must_use]
    pub fn watching(self) -> Self {
        LoaderOptions { settle: Settle::WATCHING, remote: self.remote.watching(), ..self }
    }
}

/// Loads and parses, keeping what did not change.
#[derive(Debug)]
pub struct Loader<S> {
    source: Arc<S>,
    schema: Option<Arc<str>>,
    policy: Option<PolicyFile>,
    context: ParseContext,
    /// What came of the schema file when it was last read.
    schema_state: SchemaState,
    /// Parsed files by path, with the digest of the text alone.
    parsed: BTreeMap<Arc<str>, ([u8; 32], ParsedFile)>,
    last: Option<Arc<ParsedTree>>,
    local: LocalFiles,
    remote: Remote,
    targets: watch::Sender<Targets>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct SchemaState {
    /// The text or the reason why there is none; none before the first look.
    content: Option<Result<Arc<str>, String>>,
    problems: Vec<Problem>,
    /// Part of every parsed file's digest, since parsing depends on it.
    digest: [u8; 32],
}

impl<S: Source> Loader<S> {
    /// Nothing is read before the first load.
    pub fn new(source: S, options: LoaderOptions) -> Self {
        let targets = watch::Sender::new(Targets::default());
        let news = Arc::new(Notify::new());
        let context = ParseContext {
            platform: options.platform,
            variables: options.variables,
            withheld: options.withheld,
            unlisted: options.unlisted,
            secret: options.secret,
            hidden: options.hidden,
            namespace: Namespace::None,
            directory_exists: |path| Path::new(path).is_dir(),
            real_directory: |path| Some(std::fs::canonicalize(path).ok()?.to_string_lossy().into_owned()),
            policy: options.policy.as_ref().map(|file| Arc::clone(file.policy())),
        };
        Loader {
            source: Arc::new(source),
            schema: options.schema.map(|path| path.to_string_lossy().into()),
            policy: options.policy,
            context,
            schema_state: SchemaState::default(),
            parsed: BTreeMap::new(),
            last: None,
            local: LocalFiles::new(options.settle, targets.clone()),
            remote: Remote::new(options.remote, news.clone()),
            targets,
            news,
        }
    }

    /// Where the files come from; to be spoken to also while a load is under way.
    pub fn source(&self) -> &Arc<S> {
        &self.source
    }

    /// Reads the current state of everything.
    ///
    /// # Errors
    /// When the source as a whole cannot be read. What was loaded before stays in force.
    pub async fn load(&mut self) -> Result<Arc<ParsedTree>, SourceTrouble> {
        let tree = self.source.load().await?;
        let (schema_changed, policy_changed) = (self.read_schema().await, self.read_policy().await);
        if schema_changed || policy_changed {
            self.parsed.clear();
        }
        let Tree { revision, files, mut problems, mut others, incomplete, trouble, commit } = tree;
        let (schema, files) = self.without_schema(files).await;
        others.extend(schema.into_iter().map(|file| OtherFile::new(file.path, "is the namespace schema")));
        let files = self.parse(&files).await?;
        let (attachments, stale) = self.attachments(&files).await;
        problems.extend(self.schema_state.problems.iter().cloned().chain(stale));
        problems.extend(self.policy.iter().flat_map(PolicyFile::problems).cloned());
        let policy_trouble = self.policy.as_ref().and_then(PolicyFile::trouble);
        let fresh =
            ParsedTree { revision, files, attachments, problems, policy_trouble, others, incomplete, trouble, commit };
        match &self.last {
            Some(last) if same(last, &fresh) => Ok(last.clone()),
            Some(_) | None => Ok(self.last.insert(Arc::new(fresh)).clone()),
        }
    }

    /// Yields whenever `load` may answer something new. A hint: it carries nothing.
    pub fn changes(&self) -> BoxStream<'static, ()> {
        let timing = Timing { rescan: NO_RESCAN, ..Timing::default() };
        let local = hints(self.targets.subscribe(), timing);
        let remote = futures_util::stream::unfold(self.news.clone(), |news| async {
            news.notified().await;
            Some(((), news))
        });
        let others = futures_util::stream::select(local, remote);
        futures_util::stream::select(self.source.changes(), others).boxed()
    }

    /// Has the source look for news at once, and whoever listens to the changes load: for webhooks. Calls that come
    /// together are one.
    pub fn nudge(&self) -> impl Fn() + Send + Sync + 'static + use<S> {
        let (source, news) = (self.source.clone(), self.news.clone());
        move || {
            source.refresh();
            news.notify_one();
        }
    }

    /// Reads the schema file; true when something changed that parsing depends on.
    async fn read_schema(&mut self) -> bool {
        let Some(path) = &self.schema else { return false };
        let content = self.local.read(PathBuf::from(&**path), Within::Anywhere).await;
        if self.schema_state.content.as_ref() == Some(&content) {
            return false;
        }
        let (namespace, problems) = match &content {
            Ok(text) => match Schema::parse(path, text) {
                Ok(schema) => (Namespace::Schema(Arc::new(schema)), Vec::new()),
                Err(problems) => (Namespace::Invalid, problems),
            },
            Err(reason) => {
                let problem = Problem::file(path.clone(), format!("the namespace schema {reason}"));
                (Namespace::Invalid, vec![problem.hint("OPENFACTORY_UNS_SCHEMA names it")])
            }
        };
        let changed = self.context.namespace != namespace;
        self.context.namespace = namespace;
        let mut hash = Sha256::new();
        match &content {
            Ok(text) => hash.update(text.as_bytes()),
            Err(_) => hash.update([0xff]),
        }
        self.schema_state = SchemaState { content: Some(content), problems, digest: hash.finalize().into() };
        changed
    }

    /// Reads the policy; true when another one is in force.
    async fn read_policy(&mut self) -> bool {
        let Some(file) = &mut self.policy else { return false };
        let content = self.local.read(file.path().to_owned(), Within::Anywhere).await;
        let looked_at = file.clone();
        let refused = tokio::task::spawn_blocking(move || looked_at.refusal()).await.ok().flatten();
        let changed = file.take(refused, content);
        self.context.policy = Some(Arc::clone(file.policy()));
        changed
    }

    /// Takes the namespace schema, which is never a manifest, out of the files that lie with it.
    async fn without_schema(&self, files: Vec<ManifestFile>) -> (Option<ManifestFile>, Vec<ManifestFile>) {
        let Some(schema) = self.schema.clone() else { return (None, files) };
        let name = |path: &str| Path::new(path).file_name().map(ToOwned::to_owned);
        let candidates: Vec<Arc<str>> =
            files.iter().map(|file| &file.path).filter(|path| name(path) == name(&schema)).cloned().collect();
        if candidates.is_empty() {
            return (None, files);
        }
        let find = tokio::task::spawn_blocking(move || {
            let real = std::fs::canonicalize(&*schema).ok()?;
            candidates.into_iter().find(|path| std::fs::canonicalize(&**path).is_ok_and(|path| path == real))
        });
        let found = find.await.ok().flatten();
        let (schema, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| Some(&file.path) == found.as_ref());
        (schema.into_iter().next(), files)
    }

    async fn parse(&mut self, files: &[ManifestFile]) -> Result<Vec<ParsedFile>, SourceTrouble> {
        let is_known =
            |file: &&ManifestFile| self.parsed.get(&file.path).is_some_and(|(digest, _)| *digest == file.digest);
        let changed: Vec<ManifestFile> = files.iter().filter(|file| !is_known(file)).cloned().collect();
        if !changed.is_empty() {
            let policy = self.policy.as_ref().map(PolicyFile::digest).unwrap_or_default();
            let salt = Sha256::new().chain_update(self.schema_state.digest).chain_update(policy).finalize().into();
            let context = self.context.clone();
            let parse = tokio::task::spawn_blocking(move || parse_all(&changed, salt, &context));
            let cut = "parsing was cut short by an error of the operator";
            let parsed = parse.await.map_err(|_| {
                SourceTrouble::new(TroubleReason::Other, cut).hint("please report it with the files that were there")
            })?;
            for (digest, file) in parsed {
                self.parsed.insert(file.path.clone(), (digest, file));
            }
        }
        if self.parsed.len() > files.len() {
            let there: BTreeSet<&Arc<str>> = files.iter().map(|file| &file.path).collect();
            self.parsed.retain(|path, _| there.contains(path));
        }
        Ok(files.iter().filter_map(|file| self.parsed.get(&file.path)).map(|(_, file)| file.clone()).collect())
    }

    /// Reads what the manifests refer to, and says what may be out of date.
    async fn attachments(&self, files: &[ParsedFile]) -> (Attachments, Vec<Problem>) {
        let mut wanted: BTreeSet<(Arc<str>, String)> = BTreeSet::new();
        for file in files {
            if let Some(manifest) = &file.manifest {
                wanted.extend(references(manifest).map(|reference| (file.path.clone(), reference.to_owned())));
            }
        }
        let remote: BTreeSet<Reference> =
            wanted.iter().filter_map(|(_, reference)| Reference::parse(reference).ok().flatten()).collect();
        self.remote.retain(&remote);
        self.watch(wanted.iter().map(|(_, reference)| reference.as_str()));
        let reads = futures_util::stream::iter(wanted).map(async |(path, reference)| {
            let (content, stale) = self.attachment(&path, &reference).await;
            ((path.to_string(), reference), content, stale)
        });
        let read: Vec<_> = reads.buffer_unordered(READS).collect().await;
        Targets::ask(&self.targets, self.remote.next());
        let mut attachments = Attachments::new();
        let mut stale = BTreeMap::new();
        for ((path, reference), content, why) in read {
            if let Some(why) = why {
                stale.insert(reference.clone(), why);
            }
            attachments.insert((path, reference), content);
        }
        (attachments, stale.into_values().collect())
    }

    async fn attachment(&self, manifest: &str, reference: &str) -> (Result<Arc<str>, String>, Option<Problem>) {
        match Reference::parse(reference) {
            Ok(Some(remote)) => {
                let answer = self.remote.get(&remote).await;
                let stale = answer.stale.map(|why| Problem {
                    severity: Severity::Warning,
                    ..Problem::file(remote.to_string(), why).hint("the text that was fetched last stays in force")
                });
                (answer.text, stale)
            }
            Ok(None) => (self.source.attachment(manifest, reference).await, None),
            Err(reason) => (Err(reason), None),
        }
    }

    /// Watches the local files that are not the source's.
    fn watch<'a>(&self, references: impl Iterator<Item = &'a str>) {
        let absolute = references.filter(|reference| Path::new(reference).is_absolute());
        let mut anchors: BTreeSet<PathBuf> = absolute.map(PathBuf::from).collect();
        anchors.extend(self.schema.as_deref().map(PathBuf::from));
        anchors.extend(self.policy.as_ref().map(|file| file.path().to_owned()));
        let anchors: Vec<PathBuf> = anchors.into_iter().collect();
        self.targets.send_if_modified(|targets| {
            let modified = targets.anchors != anchors;
            targets.anchors = anchors;
            modified
        });
    }
}

/// Parses on as many threads as are worth it. Blocking.
fn parse_all(files: &[ManifestFile], salt: [u8; 32], context: &ParseContext) -> Vec<([u8; 32], ParsedFile)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunk = files.len().div_ceil(threads).max(PARALLEL_FROM);
    let parse_chunk = |files: &[ManifestFile]| -> Vec<_> {
        files.iter().map(|file| (file.digest, parse_one(file, salt, context))).collect()
    };
    if files.len() <= chunk {
        return parse_chunk(files);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = files.chunks(chunk).map(|files| scope.spawn(move || parse_chunk(files))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn parse_one(file: &ManifestFile, salt: [u8; 32], context: &ParseContext) -> ParsedFile {
    let below = file.path.get(file.root..).unwrap_or(&file.path);
    match &file.content {
        Ok(text) => {
            let digest = Sha256::new().chain_update(file.digest).chain_update(salt).finalize().into();
            let parsed = parse_below(&file.path, below, text, digest, context);
            ParsedFile { other: parsed.other.filter(|_| !file.named), ..parsed }
        }
        Err(reason) => ParsedFile {
            path: file.path.clone(),
            digest: file.digest,
            manifest: None,
            problems: vec![Problem::file(file.path.clone(), reason.clone())],
            rules: context.policy.as_ref().and_then(|policy| policy.rules(below)).cloned(),
            other: None,
        },
    }
}

/// Everything that a manifest refers to by a path or URL.
fn references(manifest: &Manifest) -> impl Iterator<Item = &str> {
    manifest.devices.iter().filter_map(|device| match &device.connector {
        Connector::Mtconnect(mtconnect) => match &mtconnect.agent {
            Agent::Ours { device_xml, .. } => Some(device_xml.as_str()),
            Agent::External { .. } => None,
        },
        Connector::Opcua | Connector::Shdr => None,
    })
}

/// Whether two trees say the same; a file's digest stands for what parsing made of it.
fn same(one: &ParsedTree, other: &ParsedTree) -> bool {
    one.revision == other.revision
        && one.commit == other.commit
        && one.trouble == other.trouble
        && one.problems == other.problems
        && one.policy_trouble == other.policy_trouble
        && one.others == other.others
        && one.incomplete == other.incomplete
        && one.files.len() == other.files.len()
        && one.files.iter().zip(&other.files).all(|(one, other)| one.path == other.path && one.digest == other.digest)
        && one.attachments == other.attachments
}
