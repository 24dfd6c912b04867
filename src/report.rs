//! What the operator says of itself: status, events, metrics.
//!
//! The reconcile loop tells a [`Report`] what each pass found and what became of each step; the HTTP server and
//! the command line read from it. Nothing here decides anything, and nothing here ever holds the value of an
//! environment variable.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::model::{Desired, FailureKind, Observed, Origin, Plan, Reason, ResourceId, Revision, StepVerb};

/// What one pass saw and decided.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Wall time of the pass.
    pub wall: SystemTime,
    /// How long the pass took.
    pub took: Duration,
    /// What is wanted.
    pub desired: &'a Desired,
    /// What is; its `at` is the monotonic time of the pass.
    pub observed: &'a Observed,
    /// What was decided; none when nothing could be observed.
    pub plan: Option<&'a Plan>,
    /// Why the source could not be read; the last good state is in force.
    pub source_error: Option<&'a str>,
    /// Why the platform could not be observed.
    pub platform_error: Option<&'a str>,
    /// Why the registry could not be observed.
    pub registry_error: Option<&'a str>,
}

/// What became of one step: one change to the cluster is one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Counts events since the operator started, from 1.
    pub sequence: u64,
    /// Wall time, RFC 3339.
    pub time: String,
    /// The resource.
    pub resource: ResourceId,
    /// What was done.
    pub verb: StepVerb,
    /// To what: `service scheduler`.
    pub object: String,
    /// Why.
    pub reason: Reason,
    /// Names of the fields that changed; values are never part of it.
    pub fields: Vec<String>,
    /// The manifest's place; none for a resource that is no longer described.
    pub origin: Option<Origin>,
    /// The manifest's revision.
    pub revision: Revision,
    /// How it ended.
    pub outcome: EventOutcome,
    /// How long the step took, in milliseconds.
    pub milliseconds: u64,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum EventOutcome {
    /// It worked.
    Succeeded,
    /// It did not.
    Failed {
        /// What follows from it.
        kind: FailureKind,
        /// A sentence for people.
        message: String,
    },
}
