//! Commands that change the cluster take the lease of the instance for their run, as the daemon does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::adapters::AnyPlatform;
use super::context::Context;
use super::{CliError, parts};
use crate::clock::SystemClock;
use crate::model::{LeaseRecord, LeaseStatus, Standing};
use crate::platform::Platform as _;
use crate::reconcile::Keeper;

/// How long handing the lease back may take: one write.
const HAND_BACK: Duration = Duration::from_secs(2);

/// How long the lease may be out of reach before the engine itself is asked what is wrong.
const OUT_OF_REACH: Duration = Duration::from_secs(3);

/// The lease, held by this command.
pub(super) struct Held(Keeper);

impl Held {
    /// What lets the loop act.
    pub(super) fn leadership(&self) -> crate::reconcile::Leadership {
        self.0.leadership()
    }

    /// Hands it back, once no call is in flight any more.
    pub(super) async fn hand_back(self) {
        self.0.hand_back(HAND_BACK).await;
    }
}

/// Takes the lease. Waits for the end of a holder that died; with `take_over` for that of one that lives.
///
/// # Errors
/// When a living operator holds it, or it cannot be read or written.
pub(super) async fn hold(
    context: &Context,
    platform: &AnyPlatform,
    clock: &Arc<SystemClock>,
    take_over: bool,
) -> Result<Held, CliError> {
    let terms = parts::terms(&context.config)?;
    let store = Arc::new(platform.lease());
    let keeper = Keeper::start(store, Arc::clone(clock), parts::candidate(context, None), terms, None);
    if take_over {
        keeper.take_over();
    }
    let mut leadership = keeper.leadership();
    let mut told = false;
    loop {
        let status = leadership.status();
        match status.standing {
            Standing::Holder | Standing::Unguarded => return Ok(Held(keeper)),
            Standing::Standby if !take_over && status.holder_lives => {
                return Err(held(context, status.record.as_ref()));
            }
            Standing::Standby | Standing::Unknown if status.record.is_some() && !told => {
                told = true;
                let holder = status.record.as_ref().map(describe).unwrap_or_default();
                context.output.note(&match take_over {
                    true => format!(
                        "taking the lease over from {holder}; it has stopped for certain once its lease is over"
                    ),
                    false => {
                        format!("{holder} holds the lease; waiting for a sign of life, or for the end of its lease")
                    }
                });
            }
            Standing::Blocked => {
                // What cannot be reached for a moment may be reached the next.
                if tokio::time::timeout(OUT_OF_REACH, leadership.changed()).await.is_err() {
                    platform.observe(&BTreeSet::new()).await.map_err(CliError::Platform)?; // I/O
                    let blocked = leadership.status();
                    if blocked.standing == Standing::Blocked && !waits(&blocked) {
                        return Err(unreachable(&blocked));
                    }
                }
                continue;
            }
            Standing::Standby | Standing::Unknown => {}
        }
        leadership.changed().await;
    }
}

/// A lease that cannot be understood ends by itself.
fn waits(status: &LeaseStatus) -> bool {
    status.trouble.as_ref().is_some_and(|trouble| trouble.contains("cannot be understood"))
}

/// The holder in words.
fn describe(record: &LeaseRecord) -> String {
    let Some(run) = &record.holder else { return "nobody".into() };
    let process = run.as_str().split('/').nth(1).unwrap_or_default();
    let address = record.address.as_ref().map(|address| format!(", API at {address}")).unwrap_or_default();
    format!("another ofop on host {} (process {process}, version {}{address})", run.host(), record.version)
}

/// A daemon acts on its own manifests: what this command did, it would undo.
fn held(context: &Context, record: Option<&LeaseRecord>) -> CliError {
    let holder = record.map(describe).unwrap_or_default();
    let instance = &context.config.instance;
    CliError::usage(
        format!("{holder} holds the lease of instance {instance}: nothing was changed"),
        "put the change where that daemon reads its manifests and run `ofop reconcile --wait`; --take-over does it now, \
         and that daemon goes on with its own manifests afterwards",
    )
}

fn unreachable(status: &LeaseStatus) -> CliError {
    let trouble = status.trouble.as_deref().unwrap_or("it cannot be read or written");
    CliError::usage(
        format!("the lease cannot be taken, so that nothing was changed: {trouble}"),
        "see docs/high-availability.md; `docker config inspect` shows the labels that hold the lease",
    )
}
