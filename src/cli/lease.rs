//! Commands that change the cluster take the lease of the instance for their run, as the daemon does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::adapters::AnyPlatform;
use super::client::Client;
use super::context::Context;
use super::{CliError, parts};
use crate::clock::SystemClock;
use crate::model::{LeaseRecord, LeaseStatus, Standing};
use crate::platform::{LeaseStore as _, Platform as _};
use crate::reconcile::Keeper;

/// How long handing the lease back may take: one write.
const HAND_BACK: Duration = Duration::from_secs(2);

/// How long the lease may be out of reach before the engine itself is asked what is wrong.
const OUT_OF_REACH: Duration = Duration::from_secs(3);

/// How long the holder of a lease may take to answer at its own address: it answers from memory.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

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

/// How a command stands to the lease.
pub(super) enum Stand {
    /// It holds it.
    Held(Held),
    /// A living operator does.
    Lives(LeaseRecord),
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
    match stand(context, platform, clock, take_over).await? {
        Stand::Held(held) => Ok(held),
        Stand::Lives(record) => Err(held(context, &record)),
    }
}

/// The same; that a living operator holds it is no error.
///
/// # Errors
/// When it cannot be read or written, or `take_over` is wanted where no lease can be taken from anybody.
pub(super) async fn stand(
    context: &Context,
    platform: &AnyPlatform,
    clock: &Arc<SystemClock>,
    take_over: bool,
) -> Result<Stand, CliError> {
    let terms = parts::terms(&context.config)?;
    let store = Arc::new(platform.lease());
    // A lock ends with the process that has it, and no sooner: whoever is seen to hold it lives.
    let lock = store.is_lock();
    let wants = take_over;
    let take_over = take_over && !lock;
    let keeper = Keeper::start(store, Arc::clone(clock), parts::candidate(context, None), terms, None);
    if take_over {
        keeper.take_over();
    }
    let mut leadership = keeper.leadership();
    platform.guard(&leadership, clock);
    let (mut told, mut asked) = (false, None);
    loop {
        let status = leadership.status();
        if !take_over
            && status.standing == Standing::Standby
            && let Some(record) = &status.record
        {
            let mut lives = status.holder_lives || lock;
            if !lives && asked != record.holder {
                asked.clone_from(&record.holder);
                lives = answers(context, record).await; // I/O
            }
            if lives && lock && wants {
                return Err(locked(context, record));
            }
            if lives {
                return Ok(Stand::Lives(record.clone()));
            }
        }
        match status.standing {
            Standing::Holder | Standing::Unguarded => return Ok(Stand::Held(Held(keeper))),
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

/// Whether the holder of the lease answers at the address that it gives, which tells sooner than its next renewal.
async fn answers(context: &Context, record: &LeaseRecord) -> bool {
    let (Some(run), Some(address)) = (&record.holder, &record.address) else { return false };
    lives(context, run.as_str(), address).await
}

/// Whether this run of an operator answers at this address, as the holder of the lease.
pub(super) async fn lives(context: &Context, run: &str, address: &str) -> bool {
    match Client::at(context, address) {
        Ok(client) => client.is_holder(run, ANSWERS_WITHIN).await,
        Err(_) => false,
    }
}

/// Where the daemon that holds the lease can be asked: at the address that the settings name or at that of its lease.
/// None where neither answers as this very holder.
///
/// # Errors
/// When the machine has no sockets to offer.
pub(super) async fn daemon_of(context: &Context, record: &LeaseRecord) -> Result<Option<String>, CliError> {
    let Some(run) = &record.holder else { return Ok(None) };
    for address in record.address.iter().chain([&context.config.address]) {
        if Client::at(context, address)?.is_holder(run.as_str(), ANSWERS_WITHIN).await {
            return Ok(Some(address.clone()));
        }
    }
    Ok(None)
}

/// The operator that holds the lease cannot be asked.
pub(super) fn no_daemon(context: &Context, record: &LeaseRecord) -> CliError {
    let (holder, instance) = (describe(record), &context.config.instance);
    let what = format!("{holder} holds the lease of instance {instance}: nothing was changed");
    match &record.address {
        Some(address) => CliError::usage(
            format!("{what}, since it answers neither at {address} nor at {}", context.config.address),
            "name an address at which it can be reached from here with --address; --take-over does it without asking",
        ),
        // Another `apply` or `down`.
        None => CliError::usage(what, "try again once that command has ended"),
    }
}

/// A lock cannot be taken from a process that lives.
fn locked(context: &Context, record: &LeaseRecord) -> CliError {
    let (holder, config) = (describe(record), &context.config);
    let file = config.state_dir.join(format!("lease-{}.lock", config.instance));
    let process = record.holder.as_ref().and_then(|run| run.as_str().split('/').nth(1)).unwrap_or("PID");
    CliError::usage(
        format!("{holder} has locked {}: nothing was changed, and --take-over breaks no lock", file.display()),
        format!(
            "stop that process (`systemctl stop` where it is a service, else `kill {process}`; `kill -CONT {process}` \
             first if it was stopped with SIGSTOP), run this command, and start it again"
        ),
    )
}

/// A daemon acts on its own manifests: what this command did, it would undo.
fn held(context: &Context, record: &LeaseRecord) -> CliError {
    let holder = describe(record);
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
