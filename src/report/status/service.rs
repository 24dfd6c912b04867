//! Services and records of a resource, wanted beside found.

use std::sync::Arc;

use serde::Serialize;

use crate::model::{
    Availability, DesiredService, Field, Handling, ObservedService, PlatformSnapshot, Record, RecordId,
    RegistrySnapshot, TaskState, TaskView, UpdateState,
};

/// One service that a resource needs or still has.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Full id; none when it does not exist.
    pub id: Option<String>,
    /// Is it there?
    pub presence: ServicePresence,
    /// The image that runs, digest included; the wanted one when it does not exist.
    pub image: String,
    /// Replicas.
    pub replicas: Replicas,
    /// What the engine says of its last update.
    pub update: UpdateState,
    /// Its tasks.
    pub tasks: Vec<TaskView>,
}

/// Whether a service is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServicePresence {
    /// Wanted and there.
    Present,
    /// Wanted and not there.
    Missing,
    /// There under our mark, and not wanted.
    Orphaned,
    /// There without our mark.
    Foreign,
    /// There, and not to be understood.
    Unreadable,
    /// The platform could not be read.
    Unknown,
}

impl ServicePresence {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            ServicePresence::Present => "present",
            ServicePresence::Missing => "missing",
            ServicePresence::Orphaned => "orphaned",
            ServicePresence::Foreign => "foreign",
            ServicePresence::Unreadable => "unreadable",
            ServicePresence::Unknown => "unknown",
        }
    }
}

/// Replicas of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Replicas {
    /// How many are wanted, which is what there is where their number is ignored; 0 for an orphan.
    pub wanted: u64,
    /// How many run and are meant to.
    pub running: u64,
}

/// One record that a resource needs or still has.
#[derive(Debug, Clone, Serialize)]
pub struct RecordStatus {
    /// `asset SCHEDULER`, `connector CNC-1`, …
    pub record: RecordId,
    /// The manifests want it.
    pub wanted: bool,
    /// The registry holds it; none when the registry could not be read.
    pub registered: Option<bool>,
    /// Type of an asset, as registered, or as wanted when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset_type: Option<String>,
    /// The service that an asset names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_service: Option<String>,
    /// Place of an asset in the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uns_id: Option<String>,
    /// What an asset says of its availability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
}

impl ServiceStatus {
    pub(super) fn wanted(
        wanted: &DesiredService,
        handling: &Handling,
        ours: bool,
        platform: Option<&PlatformSnapshot>,
    ) -> Self {
        let spec = &wanted.spec;
        let found = platform.and_then(|platform| platform.services.get(&spec.name));
        let presence = match (platform, found) {
            (None, _) => ServicePresence::Unknown,
            (Some(_), Some(_)) if ours => ServicePresence::Present,
            (Some(_), Some(_)) => ServicePresence::Foreign,
            (Some(platform), None) if platform.unreadable.contains_key(spec.name.as_str()) => {
                ServicePresence::Unreadable
            }
            (Some(_), None) => ServicePresence::Missing,
        };
        let mut status = ServiceStatus {
            name: spec.name.to_string(),
            id: None,
            presence,
            image: spec.image.clone(),
            replicas: Replicas { wanted: spec.replicas, running: 0 },
            update: UpdateState::None,
            tasks: Vec::new(),
        };
        if let (Some(platform), Some(found)) = (platform, found) {
            status.fill(found, platform);
            if handling.ignores(&spec.name, &Field::Replicas) {
                status.replicas.wanted = found.spec.replicas;
            }
        }
        status
    }

    pub(super) fn orphaned(found: &ObservedService, platform: &PlatformSnapshot) -> Self {
        let mut status = ServiceStatus {
            name: found.spec.name.to_string(),
            id: None,
            presence: ServicePresence::Orphaned,
            image: String::new(),
            replicas: Replicas { wanted: 0, running: 0 },
            update: UpdateState::None,
            tasks: Vec::new(),
        };
        status.fill(found, platform);
        status
    }

    fn fill(&mut self, found: &ObservedService, platform: &PlatformSnapshot) {
        let tasks = platform.tasks.get(&found.id).map(Vec::as_slice).unwrap_or_default();
        let running = tasks.iter().filter(|task| task.wanted && task.state == TaskState::Running).count();
        self.id = Some(found.id.0.clone());
        self.image.clone_from(&found.spec.image);
        self.replicas.running = u64::try_from(running).unwrap_or(u64::MAX);
        self.update = found.update.clone();
        self.tasks = tasks.to_vec();
    }
}

impl RecordStatus {
    pub(super) fn wanted(record: &Record, registry: Option<&RegistrySnapshot>) -> Self {
        let id = record.id();
        let found = registry.and_then(|registry| registry.records.get(&id));
        let registered = registry.map(|_| found.is_some());
        RecordStatus::new(id, true, registered, found.map_or(record, |found| &found.record), registry)
    }

    pub(super) fn orphaned(record: &Arc<crate::model::ObservedRecord>, registry: &RegistrySnapshot) -> Self {
        RecordStatus::new(record.record.id(), false, Some(true), &record.record, Some(registry))
    }

    fn new(
        id: RecordId,
        wanted: bool,
        registered: Option<bool>,
        record: &Record,
        registry: Option<&RegistrySnapshot>,
    ) -> Self {
        let mut status = RecordStatus {
            record: id,
            wanted,
            registered,
            asset_type: None,
            docker_service: None,
            uns_id: None,
            availability: None,
        };
        match record {
            Record::Asset(asset) => {
                status.asset_type = Some(asset.asset_type.clone());
                status.docker_service = Some(asset.docker_service.clone()).filter(|name| !name.is_empty());
                status.uns_id = asset.uns.as_ref().map(|uns| uns.uns_id.clone());
                status.availability = registry.and_then(|registry| registry.availability.get(&asset.uuid)).copied();
            }
            // Their content is configuration that a manifest holds; it may carry credentials.
            Record::Connector { .. } | Record::MetricsTarget { .. } | Record::CoordinatorDevice { .. } => {}
        }
        status
    }
}
