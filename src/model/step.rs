//! Actions as data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::names::ServiceName;
use super::observed::ServiceId;
use super::record::{Record, RecordId, RecordOwner};
use super::service::{Mark, ServiceSpec};

/// One action on one side. Whoever executes it has nothing left to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there are few steps at a time, and most are about services")]
pub enum Step {
    /// On the platform.
    Service(ServiceStep),
    /// On the asset registry.
    Record(RecordStep),
}

/// An action on a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceStep {
    /// Create a service that does not exist. Never under another name, never a second one.
    Create {
        /// What to create, image pinned if its tag is followed.
        spec: Arc<ServiceSpec>,
        /// The mark it shall carry.
        mark: Mark,
    },
    /// Set every owned field of an existing service; everything else stays as found.
    Update {
        /// Full id.
        id: ServiceId,
        /// The version that was planned on; another one is a conflict.
        version: u64,
        /// What it shall be.
        spec: Arc<ServiceSpec>,
        /// The labels that its containers shall carry: those of `spec`, but for ignored ones.
        container_labels: BTreeMap<String, String>,
        /// The mark it shall carry.
        mark: Mark,
    },
    /// Remove a service by its full id.
    Remove {
        /// Full id.
        id: ServiceId,
        /// Its name, for people.
        name: ServiceName,
    },
}

/// An action on a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordStep {
    /// Write a record, whole.
    Register {
        /// What to write.
        record: Arc<Record>,
        /// The mark it shall carry.
        owner: RecordOwner,
    },
    /// Take a record back.
    Deregister {
        /// The record as it was last seen.
        record: Arc<Record>,
    },
    /// Clear our mark from a record whose rows have stayed away for a while: the end of taking it back.
    Forget {
        /// Which.
        record: RecordId,
    },
}

impl Step {
    /// The verb, for labels and events.
    pub fn verb(&self) -> StepVerb {
        match self {
            Step::Service(step) => step.verb(),
            Step::Record(step) => step.verb(),
        }
    }

    /// What the step acts on: `service scheduler`, `asset SCHEDULER`.
    pub fn object(&self) -> String {
        match self {
            Step::Service(step) => step.object(),
            Step::Record(step) => step.object(),
        }
    }

    /// Whether the step takes something away. Such steps rest on two sightings and on complete reads.
    pub fn is_destructive(&self) -> bool {
        match self {
            Step::Service(step) => matches!(step, ServiceStep::Remove { .. }),
            Step::Record(step) => matches!(step, RecordStep::Deregister { .. } | RecordStep::Forget { .. }),
        }
    }
}

impl ServiceStep {
    /// The verb, for labels and events.
    pub fn verb(&self) -> StepVerb {
        match self {
            ServiceStep::Create { .. } => StepVerb::Create,
            ServiceStep::Update { .. } => StepVerb::Update,
            ServiceStep::Remove { .. } => StepVerb::Remove,
        }
    }

    /// What it acts on: `service scheduler`.
    pub fn object(&self) -> String {
        format!("service {}", self.name())
    }

    /// The service that it acts on.
    pub fn name(&self) -> &ServiceName {
        match self {
            ServiceStep::Create { spec, .. } | ServiceStep::Update { spec, .. } => &spec.name,
            ServiceStep::Remove { name, .. } => name,
        }
    }
}

impl RecordStep {
    /// The verb, for labels and events.
    pub fn verb(&self) -> StepVerb {
        match self {
            RecordStep::Register { .. } => StepVerb::Register,
            RecordStep::Deregister { .. } => StepVerb::Deregister,
            RecordStep::Forget { .. } => StepVerb::Forget,
        }
    }

    /// What it acts on: `asset SCHEDULER`.
    pub fn object(&self) -> String {
        self.record().to_string()
    }

    /// The record that it acts on.
    pub fn record(&self) -> RecordId {
        match self {
            RecordStep::Register { record, .. } | RecordStep::Deregister { record } => record.id(),
            RecordStep::Forget { record } => record.clone(),
        }
    }
}

/// The verbs, as labels of metrics and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepVerb {
    /// Create a service.
    Create,
    /// Update a service.
    Update,
    /// Remove a service.
    Remove,
    /// Write a record.
    Register,
    /// Take a record back.
    Deregister,
    /// Clear the mark of a record that was taken back.
    Forget,
}

impl StepVerb {
    /// Every verb.
    pub const ALL: [StepVerb; 6] = [
        StepVerb::Create,
        StepVerb::Update,
        StepVerb::Remove,
        StepVerb::Register,
        StepVerb::Deregister,
        StepVerb::Forget,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            StepVerb::Create => "create",
            StepVerb::Update => "update",
            StepVerb::Remove => "remove",
            StepVerb::Register => "register",
            StepVerb::Deregister => "deregister",
            StepVerb::Forget => "forget",
        }
    }
}

impl fmt::Display for StepVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a step is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A manifest describes something that was never deployed.
    New,
    /// The manifest changed since the service was last written.
    ManifestChanged,
    /// A service that was deployed is gone.
    Missing,
    /// A service differs from what was last asked for: somebody edited it.
    Modified,
    /// A service that OpenFactory's command line deployed is taken over.
    Adopt,
    /// The tag that is followed points to another image.
    ImageMoved,
    /// The manifest no longer describes the resource, or the resource no longer needs this object.
    Orphaned,
    /// The registry does not hold a record that it should.
    Unregistered,
    /// The registry holds other content than it should.
    StaleRecord,
    /// The record would be lost by its age: the registry's topic does not keep state for ever.
    Expiring,
    /// A person asked for it.
    Requested,
}

impl Reason {
    /// The reason as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::New => "new",
            Reason::ManifestChanged => "manifest changed",
            Reason::Missing => "missing",
            Reason::Modified => "modified outside the manifests",
            Reason::Adopt => "adopt",
            Reason::ImageMoved => "image tag moved",
            Reason::Orphaned => "no longer described",
            Reason::Unregistered => "not registered",
            Reason::StaleRecord => "record differs",
            Reason::Expiring => "written again before it expires",
            Reason::Requested => "requested",
        }
    }
}

/// A step with why it is planned and, field by field, what it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// What to do.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// What differs; empty for steps that create or remove.
    pub changes: Vec<FieldChange>,
}

/// One field that differs. Values of environment variables are in it: whoever prints a change must honour
/// `secret`.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// `image`, `environment.MODE`, `deploy.replicas`, `labels.traefik.enable`, …
    pub field: String,
    /// Value that exists; none when the field is added.
    pub from: Option<String>,
    /// Value that is wanted; none when the field is taken away.
    pub to: Option<String>,
    /// The values are environment values: shown only when a person asks.
    pub secret: bool,
}

impl FieldChange {
    /// Whether it is about the operator's mark, which nothing that runs sees.
    pub fn is_of_mark(&self) -> bool {
        self.field.starts_with("mark.")
    }
}

impl fmt::Debug for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.field)?;
        if !self.secret {
            write!(f, ": {:?} -> {:?}", self.from, self.to)?;
        }
        Ok(())
    }
}
