//! What is kept of a revision, as the API shows it. Holds no environment value.

use serde::{Deserialize, Serialize};

use super::super::source::CommitStatus;
use crate::model::{FieldChange, Origin, PlannedStep, Reason, ResourceId, Revision, SourceKind, StepVerb};

/// Longest value of a field that is kept, in characters: an image, a mount, a command of usual length.
const MAX_VALUE: usize = 300;

/// What became of one revision of the manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionEntry {
    /// Its number in the history: the higher the newer. 0 before it is written.
    #[serde(default)]
    pub number: u64,
    /// The revision.
    pub revision: Revision,
    /// What the manifests come from.
    pub source: SourceKind,
    /// Paths, or a URL without credentials.
    pub location: String,
    /// The commit; none for a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitStatus>,
    /// Number of manifest files.
    pub files: usize,
    /// Number of errors in the manifests: what an invalid file describes stays as it last was valid.
    pub errors: usize,
    /// When the operator first saw the revision, RFC 3339.
    pub first_seen: String,
    /// When everything that it touches was settled for the first time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<String>,
    /// How long that took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
    /// What became of it.
    pub result: RevisionResult,
    /// The revision that came after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<Revision>,
    /// What is, or was, in its way: of several resources the first one that failed, else the first one that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
    /// Number of resources that it creates.
    pub created: usize,
    /// Number of resources that it changes.
    pub changed: usize,
    /// Number of resources that it removes.
    pub removed: usize,
    /// How many of these are not settled.
    pub unsettled: usize,
    /// The resources that it touches, sorted, where they are asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceEntry>,
}

/// What becomes of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevisionResult {
    /// Everything that it touches was settled, and no other revision came since.
    InForce,
    /// Something that it touches is not settled yet, or waits for a user's word.
    OnItsWay,
    /// Something that it touches cannot be brought to where it should be.
    Failed,
    /// It was in force; another revision came since.
    Replaced,
    /// Another revision came before it was settled.
    Superseded,
}

impl RevisionResult {
    /// The word for people.
    pub fn words(self) -> &'static str {
        match self {
            RevisionResult::InForce => "in force",
            RevisionResult::OnItsWay => "on its way",
            RevisionResult::Failed => "failed",
            RevisionResult::Replaced => "replaced",
            RevisionResult::Superseded => "superseded",
        }
    }
}

/// What becomes of one resource in a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceResult {
    /// It matched and ran, or was gone.
    Settled,
    /// It is not settled yet, or waits for a user's word.
    OnItsWay,
    /// It cannot be brought to where it should be.
    Failed,
    /// Another revision came before it was settled.
    Superseded,
}

impl ResourceResult {
    /// The word for people.
    pub fn words(self) -> &'static str {
        match self {
            ResourceResult::Settled => "settled",
            ResourceResult::OnItsWay => "on its way",
            ResourceResult::Failed => "failed",
            ResourceResult::Superseded => "superseded",
        }
    }
}

/// Why something does not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The resource.
    pub resource: ResourceId,
    /// One word for machines: a kind of obstacle, or what a resource in progress waits for (`verdict` in the API).
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// What a revision does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceChange {
    /// It was not there before.
    Created,
    /// It was there and is described otherwise.
    Changed,
    /// It is no longer described.
    Removed,
}

impl ResourceChange {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            ResourceChange::Created => "created",
            ResourceChange::Changed => "changed",
            ResourceChange::Removed => "removed",
        }
    }
}

/// What became of one resource in a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceEntry {
    /// The resource.
    pub resource: ResourceId,
    /// What the revision does to it.
    pub change: ResourceChange,
    /// Where the manifests describe it; none for one that is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// When it was first seen to need something, RFC 3339.
    pub since: String,
    /// When it was settled for the first time, or gone, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<String>,
    /// How long that took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
    /// What became of it.
    pub result: ResourceResult,
    /// What is, or was, in its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
    /// What was to be done, in order.
    pub steps: Vec<StepEntry>,
}

/// Something that was to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEntry {
    /// What.
    pub verb: StepVerb,
    /// To what: `service scheduler`.
    pub object: String,
    /// Why.
    pub reason: Reason,
    /// What differed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldEntry>,
}

/// One field that differed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldEntry {
    /// `image`, `environment.MODE`, …
    pub field: String,
    /// Value before; none where there was none, and for a secret one.
    pub from: Option<String>,
    /// Value after; none where the field was taken away, and for a secret one.
    pub to: Option<String>,
    /// The values are those of environment variables, and not kept.
    pub secret: bool,
}

impl StepEntry {
    /// What is kept of a planned step.
    pub(super) fn of(step: &PlannedStep) -> Self {
        StepEntry {
            verb: step.step.verb(),
            object: step.step.object(),
            reason: step.reason,
            changes: step.changes.iter().map(FieldEntry::of).collect(),
        }
    }
}

impl FieldEntry {
    fn of(change: &FieldChange) -> Self {
        let kept = |value: &Option<String>| value.as_deref().filter(|_| !change.secret).map(shortened);
        FieldEntry {
            field: change.field.clone(),
            from: kept(&change.from),
            to: kept(&change.to),
            secret: change.secret,
        }
    }
}

fn shortened(value: &str) -> String {
    match value.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

impl ResourceEntry {
    /// The same, with what another process on the same file saw of it earlier.
    pub(super) fn merged(mut self, earlier: ResourceEntry) -> Self {
        if earlier.steps.len() > self.steps.len() {
            self.steps = earlier.steps;
        }
        self.since = self.since.min(earlier.since);
        if earlier.settled.is_some() {
            self.settled = earlier.settled;
            self.milliseconds = earlier.milliseconds;
            self.result = earlier.result;
            self.obstacle = None;
        }
        self
    }
}
