//! Operators on fakes: worlds with some apps, alone or several that share a cluster.

#![allow(clippy::unwrap_used, dead_code, reason = "support for tests")]

use std::time::Duration;

use ofop::model::ResourceId;
use ofop::testing::{World, app};

/// The resource of this name.
pub(crate) fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

/// So many seconds.
pub(crate) fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// A world whose manifests describe these apps.
pub(crate) fn world_of(seed: u64, uuids: &[&str]) -> World {
    let world = World::new(seed);
    for uuid in uuids {
        world.source.write(&format!("{uuid}.yml"), app(uuid, "example/app:1", ""));
    }
    world
}

/// Another view of the same cluster, and of its lease if it has one: manifests of its own, which describe these apps, the
/// first one with another image.
pub(crate) fn beside(world: &World, seed: u64, uuids: &[&str]) -> World {
    let mut other = world_of(seed, uuids);
    other.swarm = world.swarm.clone();
    other.registry = world.registry.clone();
    other.lease.clone_from(&world.lease);
    if let Some(first) = uuids.first() {
        other.source.write(&format!("{first}.yml"), app(first, "example/app:9", ""));
    }
    other
}
