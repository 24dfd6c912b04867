//! Services of a resource, wanted beside found.

use serde::Serialize;

use crate::model::{
    DesiredService, Field, Handling, ObservedService, PlatformSnapshot, TaskState, TaskView, UpdateState,
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
