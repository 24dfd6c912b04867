//! One file: what it says now, what it last validly said, what of it is in force.

use std::sync::Arc;

use super::claims::Claim;
use super::{Shared, app, device};
use crate::desired::ParsedFile;
use crate::desired::manifest::{After, Attachments, Place};
use crate::model::{DesiredResource, OtherFile, Problem, ResourceId, Settings, Severity};

/// A file that compiled without an error.
#[derive(Debug, Default)]
pub(super) struct CompiledFile {
    /// One per app or device, in the order of the file.
    pub(super) entries: Vec<Entry>,
    /// Where it names resources that others come after.
    pub(super) after: Vec<After>,
}

/// One app or device of a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) resource: Arc<DesiredResource>,
    /// Every name that nobody else may have.
    pub(super) claims: Vec<Claim>,
    pub(super) place: Place,
    /// `apps.x`, `devices.y`.
    pub(super) path: String,
}

/// What is known of one file.
#[derive(Debug, Default)]
pub(super) struct FileState {
    digest: [u8; 32],
    has_manifest: bool,
    parse_problems: Vec<Problem>,
    /// Why it is no manifest, going by what it is called and holds.
    other: Option<OtherFile>,
    compile_problems: Vec<Problem>,
    /// The attachments that it refers to, as they were when it was compiled.
    attachments: Vec<(String, Result<Arc<str>, String>)>,
    /// What it says now, if that is valid by itself.
    pub(super) candidate: Option<Shared>,
    /// What it said when it last took effect.
    pub(super) good: Option<Shared>,
    /// What the last answer holds of it.
    pub(super) in_force: InForce,
    /// It is no longer in the tree.
    pub(super) gone: bool,
}

/// What of a file is in force.
#[derive(Debug, Default)]
pub(super) enum InForce {
    #[default]
    Nothing,
    /// What it says now.
    Live(Shared),
    /// What it last validly said.
    Frozen(Shared),
}

impl PartialEq for InForce {
    /// By identity: compiling again makes a new file, and finding out that it says the same would cost more
    /// than treating it as new.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (InForce::Nothing, InForce::Nothing) => true,
            (InForce::Live(a), InForce::Live(b)) | (InForce::Frozen(a), InForce::Frozen(b)) => Arc::ptr_eq(a, b),
            (InForce::Nothing | InForce::Live(_) | InForce::Frozen(_), _) => false,
        }
    }
}

impl InForce {
    /// The resources, marked if they are frozen.
    pub(super) fn resources(&self) -> Vec<Arc<DesiredResource>> {
        match self {
            InForce::Nothing => Vec::new(),
            InForce::Live(file) => file.entries.iter().map(|entry| Arc::clone(&entry.resource)).collect(),
            InForce::Frozen(file) => file
                .entries
                .iter()
                .map(|entry| Arc::new(DesiredResource { frozen: true, ..(*entry.resource).clone() }))
                .collect(),
        }
    }

    /// Their ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = &ResourceId> {
        let file = match self {
            InForce::Nothing => None,
            InForce::Live(file) | InForce::Frozen(file) => Some(file),
        };
        file.into_iter().flat_map(|file| file.entries.iter().map(|entry| &entry.resource.id))
    }
}

impl FileState {
    /// Whether this was made from the same file and the same attachments.
    pub(super) fn is_current(&self, file: &ParsedFile, attachments: &Attachments) -> bool {
        self.digest == file.digest
            && self.has_manifest == file.manifest.is_some()
            && self.parse_problems == file.problems
            && self.other == file.other
            && self
                .attachments
                .iter()
                .all(|(reference, content)| *content == attached(attachments, &file.path, reference))
    }

    /// Compiles the file. `candidate` must have been taken out before.
    pub(super) fn take_up(&mut self, file: &ParsedFile, attachments: &Attachments, settings: &Settings) {
        self.digest = file.digest;
        self.has_manifest = file.manifest.is_some();
        self.parse_problems.clone_from(&file.problems);
        self.other.clone_from(&file.other);
        self.compile_problems.clear();
        self.attachments.clear();
        self.gone = false;
        let Some(manifest) = &file.manifest else { return };
        let mut context = Context { settings, file: &file.path, attachments, problems: Vec::new(), used: Vec::new() };
        let mut compiled = CompiledFile { after: manifest.after.clone(), ..CompiledFile::default() };
        for app in &manifest.apps {
            compiled.entries.extend(app::compile(app, &mut context));
        }
        for device in &manifest.devices {
            compiled.entries.extend(device::compile(device, &mut context));
        }
        self.attachments = context.used;
        self.compile_problems = context.problems;
        if self.problems().all(|problem| problem.severity != Severity::Error) {
            self.candidate = Some(Arc::new(compiled));
        }
    }

    /// Why this is no manifest: it does not look like one and never was one.
    pub(super) fn other(&self) -> Option<&OtherFile> {
        self.other.as_ref().filter(|_| self.good.is_none())
    }

    /// What is wrong or odd in this file by itself.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        let all = self.parse_problems.iter().chain(&self.compile_problems);
        all.filter(|_| self.other().is_none())
    }
}

/// What compiling an entry needs, and where it says what is wrong.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) file: &'a Arc<str>,
    attachments: &'a Attachments,
    problems: Vec<Problem>,
    used: Vec<(String, Result<Arc<str>, String>)>,
}

impl Context<'_> {
    /// Refuses the file.
    pub(super) fn error(&mut self, place: Place, path: String, message: impl Into<String>, hint: &str) {
        let problem = located(self.file, place, path, message.into());
        self.problems.push(problem.hint(hint));
    }

    /// Says that something has no effect or is odd.
    pub(super) fn warning(&mut self, place: Place, path: String, message: impl Into<String>, hint: &str) {
        let problem = located(self.file, place, path, message.into());
        self.problems.push(Problem { severity: Severity::Warning, ..problem.hint(hint) });
    }

    /// The text of a file that this one refers to.
    pub(super) fn attachment(&mut self, reference: &str) -> Result<Arc<str>, String> {
        let content = attached(self.attachments, self.file, reference);
        self.used.push((reference.to_owned(), content.clone()));
        content
    }
}

/// An error at a place.
pub(super) fn located(file: &Arc<str>, place: Place, path: String, message: String) -> Problem {
    Problem { line: place.line, column: place.column, path, ..Problem::file(Arc::clone(file), message) }
}

fn attached(attachments: &Attachments, file: &str, reference: &str) -> Result<Arc<str>, String> {
    match attachments.get(&(file.to_owned(), reference.to_owned())) {
        Some(content) => content.clone(),
        None => Err("it was not read".to_owned()),
    }
}
