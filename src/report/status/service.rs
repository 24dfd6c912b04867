//! Services of a resource, wanted beside found.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    DesiredService, Field, Handling, ObservedService, OwnedField, PlatformSnapshot, TaskState, TaskView, UpdateState,
};

/// One service that a resource needs or still has.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Host names of the nodes that its tasks are on, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, String>,
    /// When it was created, as the engine writes it (RFC 3339); none when it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// Whether a service is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// How many are wanted, which is what there is where their number is ignored; 0 for an orphan.
    pub wanted: u64,
    /// How many run and are meant to.
    pub running: u64,
}

/// How many replicas run, of how many: `1/2`, and `1/–` where none is wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// How many run.
    pub running: u64,
    /// How many are wanted; none for what is no longer described.
    pub wanted: Option<u64>,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wanted {
            Some(wanted) => write!(f, "{}/{wanted}", self.running),
            None => write!(f, "{}/–", self.running),
        }
    }
}

impl Running {
    /// Those of several services; none where there is no service. What is no longer wanted counts only where
    /// nothing else is there: it has a line of its own.
    pub(super) fn all(services: &[ServiceStatus]) -> Option<Self> {
        let each = || services.iter().map(ServiceStatus::running);
        let add = |one: Running, other: Running| Running {
            running: one.running + other.running,
            wanted: one.wanted.zip(other.wanted).map(|(one, other)| one + other),
        };
        each().filter(|running| running.wanted.is_some()).reduce(add).or_else(|| each().reduce(add))
    }
}

impl ServiceStatus {
    /// Where a task is: the host name of its node, or the node's id where that is not known; empty until it is placed.
    pub fn host<'a>(&'a self, task: &'a TaskView) -> &'a str {
        self.nodes.get(&task.node).map_or(&task.node, String::as_str)
    }

    /// How many replicas run, of how many.
    pub fn running(&self) -> Running {
        let wanted = (self.presence != ServicePresence::Orphaned).then_some(self.replicas.wanted);
        Running { running: self.replicas.running, wanted }
    }

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
            nodes: BTreeMap::new(),
            created: None,
        };
        if let (Some(platform), Some(found)) = (platform, found) {
            status.fill(found, platform);
            if handling.ignores(&spec.name, &Field::of(OwnedField::Replicas)) {
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
            nodes: BTreeMap::new(),
            created: None,
        };
        status.fill(found, platform);
        status
    }

    fn fill(&mut self, found: &ObservedService, platform: &PlatformSnapshot) {
        let tasks = platform.tasks.get(&found.id).map(|tasks| &**tasks).unwrap_or_default();
        let running = tasks.iter().filter(|task| task.wanted && task.state == TaskState::Running).count();
        self.id = Some(found.id.0.clone());
        self.image.clone_from(&found.spec.image);
        self.replicas.running = u64::try_from(running).unwrap_or(u64::MAX);
        self.update = found.update.clone();
        self.tasks = tasks.to_vec();
        let named = |id: &String| Some((id.clone(), platform.nodes.get(id)?.clone()));
        self.nodes = tasks.iter().filter_map(|task| named(&task.node)).collect();
        self.created = Some(found.created_at.clone()).filter(|time| !time.is_empty());
    }
}
