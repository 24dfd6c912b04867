//! The loop that keeps what is as it should be.
//!
//! # Flow
//!
//! ```text
//! triggers ([`Trigger`]: why, never what) ─► Pending: debounced, coalesced, rested
//!      │
//!      ▼ pass
//!   1. Loader::load                      I/O    only when the source changed or the timer rings; in the background
//!   2. Compiler::compile                 pure
//!   3. Platform::observe                 I/O
//!      Registry::observe                 I/O    a slow one goes on in the background
//!   4. Memory::recall, plan::plan, Memory::learn   pure
//!   5. Retries::select                   pure   leaves out what must wait
//!   6. Executor::submit                  spawns: one task per resource, a bounded number
//!   7. Platform::note                    I/O    in the background: what is to outlive the operator
//!   8. Report::pass
//!      ▲
//!      └── Progress: each step's outcome ─► Memory, Retries, Report, and a trigger for the next pass
//! ```
//!
//! The daemon ([`run`]) and the commands that converge once ([`converge()`]) are the same loop with another end.
//!
//! # Guarantees
//!
//! - Never two passes at once; a pass never waits for a step, nor for a source or a registry that hangs.
//! - Never two tasks for one resource. What waits for a free task is replaced by every pass; what is under way
//!   stops before its next step when the latest pass no longer stands behind it, and before its next
//!   destructive step when a read is incomplete or a manifest invalid.
//! - No step is retried inside a task: a failure ends it, and the next pass plans on what then is.
//! - After a lost answer nothing is done to that resource until the engine has either shown what became of it
//!   or had the time to ([`backoff::AMBIGUITY_WINDOW`]).
//! - Told to stop, the loop starts no further step, waits for calls in flight for a bounded time, and returns.
//!
//! # Errors
//!
//! None: a source, a platform or a registry that cannot be read is reported ([`crate::report`]) and looked at
//! again; a step that fails is an event and a reason to wait.

pub mod backoff;
mod converge;
mod executor;
pub mod lease;
mod look;
mod manifests;
mod noting;
mod retries;
mod runner;
pub mod trigger;
mod waiting;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::converge::{ConvergeOptions, ConvergeReport, Ending, Happening, converge};
pub use self::lease::{Keeper, Leadership};
pub use self::trigger::Trigger;
pub use self::waiting::{Goal, Outlook, Waiting};

use self::runner::{Runner, Turn};
use crate::clock::Clock;
use crate::compile::Compiler;
use crate::desired::{Loader, Source};
use crate::model::Request;
use crate::plan::Policy;
use crate::platform::Platform;
use crate::registry::Registry;
use crate::report::Report;

/// What the loop works with. The composition root puts it together; tests hand in fakes.
pub struct Parts<S, P, R, C> {
    /// Reads manifests.
    pub loader: Loader<S>,
    /// Turns them into what is desired.
    pub compiler: Compiler,
    /// Runs services.
    pub platform: Arc<P>,
    /// Holds records.
    pub registry: Arc<R>,
    /// Tells the time.
    pub clock: Arc<C>,
    /// Is told everything.
    pub report: Report,
    /// What people ask for; none when nobody can.
    pub commands: Option<mpsc::Receiver<Request>>,
    /// Whether and how long this operator may act.
    pub leadership: Leadership,
}

/// How the loop behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// What may be done.
    pub policy: Policy,
    /// How often everything is read again, whatever events say.
    pub resync: Duration,
    /// How many resources whose services change are worked on at a time, at least 1.
    pub concurrency: usize,
    /// How long calls in flight may take when told to stop.
    pub grace: Duration,
    /// Varies the jitter of retries between operators; any number will do.
    pub seed: u64,
}

/// Everything is read again this often: Docker's event stream loses events when a reader is slow or a daemon
/// restarts, and half a minute is what a person waits before looking into it.
pub const DEFAULT_RESYNC: Duration = Duration::from_secs(30);

/// Resources whose services change, worked on at a time. A Swarm manager takes about 10 ms per write and handles them one after the
/// other; this many keep it busy across a network, and leave room for one or two that hang.
pub const DEFAULT_CONCURRENCY: usize = 10;

/// `docker stop` kills ten seconds after it asked; this leaves three to report, and to let go of brokers that are away,
/// which has been seen to take nearly two.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(7);

impl Options {
    /// The defaults, for a policy.
    pub fn new(policy: Policy) -> Self {
        Options {
            policy,
            resync: DEFAULT_RESYNC,
            concurrency: DEFAULT_CONCURRENCY,
            grace: DEFAULT_GRACE,
            seed: u64::from(std::process::id()),
        }
    }
}

/// The daemon: reconciles until `stop` is cancelled. Returns whether every call in flight ended in time.
pub async fn run<S: Source, P: Platform, R: Registry, C: Clock>(
    parts: Parts<S, P, R, C>,
    options: Options,
    stop: CancellationToken,
) -> bool {
    let grace = options.grace;
    let mut runner = Runner::new(parts, options, stop);
    while let Turn::Passed(_) | Turn::Stepped(_) | Turn::Quiet = runner.turn().await {}
    info!("stopping: calls in flight are finished, nothing new is started");
    let ended = runner.finish(grace).await;
    if !ended {
        warn!(?grace, "a call in flight took too long and was abandoned; the next start looks at what became of it");
    }
    ended
}
