//! Fakes and builders for tests: a source, a Swarm, a registry, a clock, and a world that puts them together.
//!
//! The fakes are models, not mocks: [`FakeSwarm`] keeps services with ids, versions and tasks as the engine
//! does, [`FakeRegistry`] shows what was written only after a while. Each takes [`Faults`] to make it lose, delay,
//! forget and lie, drawn from a seed, and records every call. Time is tokio's, which a test may pause.
//!
//! They outlive the operator that talks to them: dropping its future in the middle of a call is a crash.

mod clock;
mod faults;
mod lease;
mod registry;
mod rng;
mod source;
mod swarm;
mod world;

pub use self::clock::TestClock;
pub use self::faults::{Fault, Faults};
pub use self::lease::FakeLease;
pub use self::registry::FakeRegistry;
pub use self::rng::Rng;
pub use self::source::FakeSource;
pub use self::swarm::{Call, FakeService, FakeSwarm};
pub use self::world::{FakeParts, Operator, World, app};

use futures_util::Stream;
use tokio::sync::watch;

/// A stream that yields once for any number of changes since it last yielded.
fn hints(changed: &watch::Sender<u64>) -> impl Stream<Item = ()> + Send + 'static {
    let receiver = changed.subscribe();
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    })
}
