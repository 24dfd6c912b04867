//! From files to validated manifests.
//!
//! # Flow
//!
//! ```text
//! Source::load ─► Tree (files, or why one could not be read)                         I/O
//!      │
//!      ▼
//! Loader ── parses changed files only; reads what manifests refer to (device XML);   pure + I/O
//!      │    reads the namespace schema
//!      ▼
//! ParsedTree ── per file: a Manifest, or the problems that refuse it  ─► compile
//! ```
//!
//! # Invariants
//!
//! - A file is taken or refused as a whole; a refused one is still *there*: it is never mistaken for an empty one.
//! - All problems of a file are found in one go, each with line, column and path inside the file.
//! - A [`manifest::Manifest`] is fully validated: compiling it cannot fail for a reason that the file alone shows.

mod app;
mod attached;
pub(crate) mod check;
pub(crate) mod checked;
mod coerce;
mod deploy;
mod device;
pub mod directory;
mod dump;
pub(crate) mod fields;
pub(crate) mod file;
pub mod git;
mod handling;
mod hints;
mod ignored;
mod kind;
mod limits;
pub mod loader;
pub mod manifest;
pub mod namespace;
mod opcua;
mod options;
pub mod parse;
pub mod policy;
mod policy_file;
pub(crate) mod problems;
mod python;
pub mod remote;
mod rollout;
pub mod schema;
mod settle;
mod shapes;
mod storage;
mod watch;
mod windows;
pub mod yaml;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;

pub use self::limits::Limits;
pub use self::loader::{Loader, LoaderOptions};
use self::manifest::{Attachments, Manifest};
pub use self::namespace::Namespace;
pub use self::parse::{ParseContext, parse};
pub use self::policy::Policy;
pub use self::policy_file::PolicyFile;
pub(crate) use self::policy_file::source_that_holds;
pub use self::remote::RemoteOptions;
pub use self::settle::Settle;
pub use self::watch::Timing;
pub use crate::model::CommitInfo;
use crate::model::{OtherFile, Problem, Revision, SourcePlace, SourceTrouble};

/// Where manifests come from: a directory or a git repository.
pub trait Source: Send + Sync + 'static {
    /// Reads the current state: every YAML file, each with its content or the reason why it has none. Which of them are
    /// manifests is decided by whoever parses them.
    ///
    /// # Errors
    /// When the source as a whole cannot be read (directory gone, repository never fetched). What was loaded before
    /// stays in force; nothing is pruned.
    fn load(&self) -> impl Future<Output = Result<Tree, SourceTrouble>> + Send;

    /// Yields whenever something may have changed. A hint: it carries nothing, and a timer covers its losses.
    fn changes(&self) -> impl Stream<Item = ()> + Send + 'static;

    /// Has the next [`Source::load`] look for something new, if that takes more than it does otherwise.
    fn refresh(&self) {}

    /// Where that is, as people know it.
    fn place(&self) -> SourcePlace;

    /// How long ago it was last looked at without trouble; none if it never was.
    fn read_ago(&self) -> Option<Duration>;

    /// Reads a file that a manifest refers to by a path relative to the manifest, confined to the root.
    ///
    /// # Errors
    /// A sentence saying why it cannot be read.
    fn attachment(&self, manifest: &str, path: &str) -> impl Future<Output = Result<Arc<str>, String>> + Send;
}

/// One state of the source.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Commit id, or a hash over names and contents.
    pub revision: Revision,
    /// Every YAML file, sorted by path.
    pub files: Vec<ManifestFile>,
    /// What is odd about the source; errors hold pruning.
    pub problems: Vec<Problem>,
    /// Files that are no YAML and look as if they were meant to be manifests.
    pub others: Vec<OtherFile>,
    /// Something that may hold manifests was not read: a submodule, a symlink that leads nowhere. Holds pruning; the
    /// problems say what.
    pub incomplete: bool,
    /// Why this may not be its newest state; holds pruning.
    pub trouble: Option<SourceTrouble>,
    /// The commit, if the source has such.
    pub commit: Option<CommitInfo>,
}

/// One YAML file.
#[derive(Debug, Clone)]
pub struct ManifestFile {
    /// Path as people know it: the directory as it was given, then the path below it.
    pub path: Arc<str>,
    /// How many bytes of the path name the root of the source, the slash behind it included.
    pub root: usize,
    /// The text, or a sentence saying why there is none (not UTF-8, too large, a symlink out of the root, …).
    pub content: Result<Arc<str>, String>,
    /// Hash of the content, to tell changed files from unchanged ones.
    pub digest: [u8; 32],
    /// A person named this very file: it is meant to be a manifest, whatever it is called and holds.
    pub named: bool,
}

/// One state of the source, parsed.
#[derive(Debug, Clone, Default)]
pub struct ParsedTree {
    /// The state of the source.
    pub revision: Revision,
    /// Every YAML file, sorted by path.
    pub files: Vec<ParsedFile>,
    /// What the manifests refer to.
    pub attachments: Attachments,
    /// Problems that belong to no manifest file: the namespace schema, the policy, the tree as a whole.
    pub problems: Vec<Problem>,
    /// Why the newest policy is not in force; then an older one is.
    pub policy_trouble: Option<Arc<str>>,
    /// As in [`Tree`], and the namespace schema where it lies among the manifests.
    pub others: Vec<OtherFile>,
    /// As in [`Tree`].
    pub incomplete: bool,
    /// As in [`Tree`].
    pub trouble: Option<SourceTrouble>,
    /// The commit, if the source has such.
    pub commit: Option<CommitInfo>,
}

/// One YAML file, parsed.
#[derive(Debug, Clone)]
pub struct ParsedFile {
    /// As in [`ManifestFile`].
    pub path: Arc<str>,
    /// As in [`ManifestFile`]; changes also when something changed that parsing depends on.
    pub digest: [u8; 32],
    /// What it says; none when an error refuses it.
    pub manifest: Option<Arc<Manifest>>,
    /// Errors (then there is no manifest) and warnings.
    pub problems: Vec<Problem>,
    /// What the operator allows in its folder; none where there is no policy, or none for this folder.
    pub rules: Option<Arc<policy::Rules>>,
    /// Why this is no manifest; none for one. The problems are those that it has if it was a manifest before.
    pub other: Option<OtherFile>,
}
