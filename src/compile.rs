//! From validated manifests to the exact services and records that they mean.
//!
//! # Flow
//!
//! ```text
//! ParsedTree ─► per changed file: app, mtconnect, device ─► CompiledFile { entries, warnings }   or errors
//!                    │                                          │
//!                    │ no manifest, or an error                 ▼
//!                    └────────────────► conflicts: which files may take effect, which stay as they last were
//!                                                               │
//!                                                               ▼
//!                                        Desired { resources, problems, complete }
//! ```
//!
//! # Invariants
//!
//! - Pure: the same trees in the same order yield the same results; nothing is read, no clock is asked.
//! - A file takes effect as a whole or not at all. One that cannot (unreadable, invalid, contested) keeps what
//!   it last said, `frozen`; no other file is disturbed by it, unless both claim the same name.
//! - Two files never claim the same uuid, service name or derived name: both are refused, with the place of
//!   either in the other's error. Against a file that is frozen, what it last said counts.
//! - A file that is no manifest ([`ParsedFile::other`](crate::desired::ParsedFile::other)) is listed and disturbs
//!   nobody, unless it was a manifest when it last took effect: then it is invalid, and keeps what it last said.
//! - A file that is gone takes its resources with it; whether they may be removed is for planning to decide,
//!   and `complete` tells it.
//! - Only what changed is compiled: one file out of thousands costs one file.

mod app;
mod claims;
mod device;
mod environment;
mod file;
mod hash;
mod mtconnect;
mod order;
mod routing;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::claims::Claims;
use self::file::{CompiledFile, FileState, InForce};
use crate::desired::ParsedTree;
use crate::model::{Desired, DesiredResource, OtherFile, Problem, ResourceId, Revision, Settings, Severity, SharedMap};

pub use self::hash::spec_hash;

/// The largest service that is written, in bytes: an update stores the spec twice, and Swarm's raft log takes
/// about 1.5 MiB in one message (swarmkit: `MaxTransactionBytes`).
pub const MAX_SPEC_BYTES: usize = 700 * 1024;

/// The longest single environment string `NAME=value` that Linux hands to a program, its closing NUL included
/// (`MAX_ARG_STRLEN`, 32 pages).
pub const MAX_ENV_BYTES: usize = 128 * 1024;

/// Compiles trees, and remembers what each file last validly said.
///
/// ```
/// use ofop::compile::Compiler;
/// use ofop::desired::ParsedTree;
/// use ofop::model::Settings;
///
/// let desired = Compiler::new(Settings::default()).compile(&ParsedTree::default());
/// assert!(desired.resources.is_empty() && desired.complete);
/// ```
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    files: BTreeMap<Arc<str>, FileState>,
    claims: Claims,
    last: Option<Last>,
}

/// What the last call was asked and answered.
#[derive(Debug)]
struct Last {
    revision: Revision,
    problems: Vec<Problem>,
    others: Vec<OtherFile>,
    incomplete: bool,
    desired: Arc<Desired>,
}

impl Compiler {
    /// A compiler that remembers nothing yet.
    pub fn new(settings: Settings) -> Self {
        Compiler { settings, files: BTreeMap::new(), claims: Claims::default(), last: None }
    }

    /// What the tree means. The same `Arc` as last time when nothing changed.
    pub fn compile(&mut self, tree: &ParsedTree) -> Arc<Desired> {
        let files_changed = !self.take_up(tree);
        if !files_changed
            && let Some(last) = &self.last
            && last.revision == tree.revision
            && last.problems == tree.problems
            && last.others == tree.others
            && last.incomplete == tree.incomplete
            && last.desired.trouble == tree.trouble
            && last.desired.policy_trouble == tree.policy_trouble
            && last.desired.commit == tree.commit
        {
            return Arc::clone(&last.desired);
        }

        let mut resources = self.last.as_ref().map(|last| last.desired.resources.clone()).unwrap_or_default();
        let mut frozen = self.claims.frozen(&self.files);
        if frozen.is_empty() && !tree.incomplete && tree.trouble.is_none() {
            frozen = order::problems(&self.files);
        }
        self.settle(&frozen, &mut resources);

        let all_in_force = frozen.is_empty();
        let mut problems: Vec<Problem> = tree.problems.clone();
        problems.extend(self.files.values().flat_map(|file| file.problems().cloned()));
        problems.extend(frozen.into_values().flatten());
        let beside = self.files.values().filter_map(FileState::other);
        let mut others: Vec<OtherFile> = tree.others.iter().chain(beside).cloned().collect();
        others.sort_by(|a, b| a.file.cmp(&b.file));
        let meant = |other: &OtherFile| {
            Some(Problem::file(Arc::clone(&other.file), &*other.reason).hint(other.hint.as_deref()?))
        };
        problems
            .extend(others.iter().filter_map(meant).map(|problem| Problem { severity: Severity::Warning, ..problem }));
        problems.sort_by(|a, b| (&a.file, a.line, a.column, &a.path).cmp(&(&b.file, b.line, b.column, &b.path)));
        let sound = all_in_force && tree.trouble.is_none() && !tree.incomplete;
        let complete = sound && problems.iter().all(|problem| problem.severity != Severity::Error);

        let desired = Arc::new(Desired {
            revision: tree.revision.clone(),
            resources,
            problems,
            complete,
            files: self.files.values().filter(|file| file.other().is_none()).count(),
            others,
            commit: tree.commit.clone(),
            trouble: tree.trouble.clone(),
            policy_trouble: tree.policy_trouble.clone(),
        });
        self.last = Some(Last {
            revision: tree.revision.clone(),
            problems: tree.problems.clone(),
            others: tree.others.clone(),
            incomplete: tree.incomplete,
            desired: Arc::clone(&desired),
        });
        desired
    }

    /// Compiles what changed and forgets what is gone; resources of files that are gone leave with
    /// [`Compiler::settle`]. Returns whether everything is as it was.
    fn take_up(&mut self, tree: &ParsedTree) -> bool {
        let same = self.files.len() == tree.files.len()
            && self
                .files
                .iter()
                .zip(&tree.files)
                .all(|((path, state), file)| *path == file.path && state.is_current(file, &tree.attachments));
        if same {
            return self.last.is_some();
        }
        for file in &tree.files {
            let known = self.files.get(&file.path);
            if known.is_some_and(|state| !state.gone && state.is_current(file, &tree.attachments)) {
                continue;
            }
            let mut state = self.files.remove(&file.path).unwrap_or_default();
            if let Some(old) = state.candidate.take() {
                self.claims.remove(&file.path, &old);
            }
            state.take_up(file, &tree.attachments, &self.settings);
            if let Some(new) = &state.candidate {
                self.claims.insert(&file.path, new);
            }
            self.files.insert(Arc::clone(&file.path), state);
        }
        if self.files.len() > tree.files.len() {
            let present: BTreeSet<&Arc<str>> = tree.files.iter().map(|file| &file.path).collect();
            for (path, state) in &mut self.files {
                if !present.contains(path) {
                    state.gone = true;
                    if let Some(old) = state.candidate.take() {
                        self.claims.remove(path, &old);
                    }
                }
            }
        }
        false
    }

    /// Puts into force what may be, and brings `resources` from the last state to this one.
    fn settle(
        &mut self,
        frozen: &BTreeMap<Arc<str>, Vec<Problem>>,
        resources: &mut SharedMap<ResourceId, Arc<DesiredResource>>,
    ) {
        let mut incoming: Vec<Arc<DesiredResource>> = Vec::new();
        for (path, state) in &mut self.files {
            let next = match &state.candidate {
                _ if state.gone => InForce::Nothing,
                Some(candidate) if !frozen.contains_key(path) => {
                    state.good = Some(Arc::clone(candidate));
                    InForce::Live(Arc::clone(candidate))
                }
                Some(_) | None => state.good.clone().map_or(InForce::Nothing, InForce::Frozen),
            };
            if next == state.in_force {
                continue;
            }
            for id in state.in_force.ids() {
                resources.remove(id);
            }
            incoming.extend(next.resources());
            state.in_force = next;
        }
        self.files.retain(|_, state| !state.gone);
        // Only now, so that a resource that moved from one file to another is not taken out again.
        resources.extend(incoming.into_iter().map(|resource| (resource.id.clone(), resource)));
    }
}

/// The files behind [`Compiler::files`], for the claims to look at.
type Files = BTreeMap<Arc<str>, FileState>;

/// A file's compiled content, shared between what it could be and what is in force.
type Shared = Arc<CompiledFile>;
