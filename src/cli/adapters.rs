//! The platforms and registries behind one type each, chosen by the configuration at run time.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};

use crate::clock::{Clock as _, SystemClock};
use crate::model::{
    LeaseRecord, LeaseSeen, LeaseUnread, NoteEdits, PlatformSnapshot, RecordStep, RegistrySnapshot, ServiceStep,
    StepFailure,
};
use crate::platform::docker::{DockerPlatform, FileLease};
use crate::platform::swarm::{Swarm, SwarmLease};
use crate::platform::{LeaseStore, Platform, PlatformError};
use crate::reconcile::Leadership;
use crate::registry::embedded::EmbeddedRegistry;
use crate::registry::openfactory::OpenfactoryRegistry;
use crate::registry::{Registry, RegistryError};

/// What runs services.
pub(super) enum AnyPlatform {
    /// Docker Swarm.
    Swarm(Swarm),
    /// Plain containers.
    Docker(Box<DockerPlatform>),
}

impl AnyPlatform {
    /// Lets no change reach the engine while this operator may not act.
    pub(super) fn guard(&self, leadership: &Leadership, clock: &Arc<SystemClock>) {
        let gate = match self {
            AnyPlatform::Swarm(swarm) => swarm.gate(),
            AnyPlatform::Docker(docker) => docker.gate(),
        };
        let (fence, clock) = (leadership.fence(), Arc::clone(clock));
        gate.guard(move || fence.passes(clock.now()));
    }

    /// Where the lease of the instance is kept.
    pub(super) fn lease(&self) -> AnyLease {
        match self {
            AnyPlatform::Swarm(swarm) => AnyLease::Swarm(swarm.lease()),
            AnyPlatform::Docker(docker) => AnyLease::File(docker.lease()),
        }
    }
}

impl Platform for AnyPlatform {
    async fn observe(&self, follow: &BTreeSet<String>) -> Result<Arc<PlatformSnapshot>, PlatformError> {
        match self {
            AnyPlatform::Swarm(swarm) => swarm.observe(follow).await,
            AnyPlatform::Docker(docker) => docker.observe(follow).await,
        }
    }

    fn refresh(&self) {
        match self {
            AnyPlatform::Swarm(swarm) => swarm.refresh(),
            AnyPlatform::Docker(docker) => docker.refresh(),
        }
    }

    async fn execute(&self, step: &ServiceStep) -> Result<(), StepFailure> {
        match self {
            AnyPlatform::Swarm(swarm) => swarm.execute(step).await,
            AnyPlatform::Docker(docker) => docker.execute(step).await,
        }
    }

    async fn note(&self, edits: &NoteEdits) -> Result<(), StepFailure> {
        match self {
            AnyPlatform::Swarm(swarm) => swarm.note(edits).await,
            AnyPlatform::Docker(docker) => docker.note(edits).await,
        }
    }

    fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        let events: BoxStream<'static, ()> = match self {
            AnyPlatform::Swarm(swarm) => swarm.events().boxed(),
            AnyPlatform::Docker(docker) => docker.events().boxed(),
        };
        events
    }
}

/// Where the lease is kept.
pub(super) enum AnyLease {
    /// In the labels of a Swarm config.
    Swarm(SwarmLease),
    /// In a locked file.
    File(FileLease),
}

impl LeaseStore for AnyLease {
    async fn read_lease(&self) -> Result<LeaseSeen, LeaseUnread> {
        match self {
            AnyLease::Swarm(swarm) => swarm.read_lease().await,
            AnyLease::File(file) => file.read_lease().await,
        }
    }

    fn is_lock(&self) -> bool {
        match self {
            AnyLease::Swarm(swarm) => swarm.is_lock(),
            AnyLease::File(file) => file.is_lock(),
        }
    }

    async fn write_lease(&self, at: Option<u64>, record: &LeaseRecord) -> Result<(), StepFailure> {
        match self {
            AnyLease::Swarm(swarm) => swarm.write_lease(at, record).await,
            AnyLease::File(file) => file.write_lease(at, record).await,
        }
    }
}

/// What holds records.
pub(super) enum AnyRegistry {
    /// A SQLite file.
    Embedded(EmbeddedRegistry),
    /// Kafka and ksqlDB.
    Openfactory(Box<OpenfactoryRegistry>),
}

impl Registry for AnyRegistry {
    async fn observe(&self) -> Result<Arc<RegistrySnapshot>, RegistryError> {
        match self {
            AnyRegistry::Embedded(embedded) => embedded.observe().await,
            AnyRegistry::Openfactory(openfactory) => openfactory.observe().await,
        }
    }

    fn refresh(&self) {
        match self {
            AnyRegistry::Embedded(embedded) => embedded.refresh(),
            AnyRegistry::Openfactory(openfactory) => openfactory.refresh(),
        }
    }

    async fn execute(&self, step: &RecordStep) -> Result<(), StepFailure> {
        match self {
            AnyRegistry::Embedded(embedded) => embedded.execute(step).await,
            AnyRegistry::Openfactory(openfactory) => openfactory.execute(step).await,
        }
    }

    fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        let events: BoxStream<'static, ()> = match self {
            AnyRegistry::Embedded(embedded) => embedded.events().boxed(),
            AnyRegistry::Openfactory(openfactory) => openfactory.events().boxed(),
        };
        events
    }
}
