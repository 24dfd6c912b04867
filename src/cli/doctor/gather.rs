//! Asks for the facts: the engine, the manifests, the registry, the disk, the daemon.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::checks::{Access, Check, Daemon, Facts, Git, Lease, Manifests, StateDir, Trouble, Writable};
use crate::cli::client::Client;
use crate::cli::context::Context;
use crate::cli::{CliError, chain, lease, manifests, parts, seen};
use crate::clock::{Clock as _, SystemClock, timestamp};
use crate::config::{self, RegistryKind};
use crate::model::{Desired, LeaseFound, Severity};
use crate::platform::info::{self, EngineInfo};
use crate::platform::{LeaseStore as _, Platform as _};
use crate::registry::Registry as _;
use crate::registry::openfactory::{self, FindingKind};

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// Gathers everything. What cannot be asked is a fact as well.
pub(super) async fn all(context: &Context) -> Facts {
    let config = &context.config;
    let state_dir = state_dir(&config.state_dir);
    let clock = SystemClock::new();
    let began = clock.now();
    let engine = engine(context).await;
    let took = clock.now().saturating_sub(began);
    let now = timestamp(clock.wall());
    let half = jiff::SignedDuration::try_from(took / 2).unwrap_or_default();
    let (networks, lease) = match &engine {
        Ok(_) => cluster(context).await,
        Err(_) => (None, Lease::Unseen),
    };
    let (manifests, git) = manifests_and_git(context).await;
    Facts {
        platform: config.settings.platform,
        host: parts::host(config).to_owned(),
        engine,
        now: now.checked_sub(half).unwrap_or(now),
        took: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
        networks,
        manifests,
        git,
        registry: registry(context).await,
        state_dir,
        access: Access {
            listen: config.listen.to_string(),
            loopback: config.listen.ip().is_loopback(),
            tls: config.tls.is_some(),
            tokens: config.tokens.len(),
            public_read: config.public_read,
        },
        lease,
        daemon: daemon(context).await,
    }
}

fn trouble(error: &CliError) -> Trouble {
    Trouble { message: chain(error), hint: error.hint().unwrap_or_default() }
}

fn silent(what: &str) -> Trouble {
    Trouble { message: format!("{what} did not answer within {} s", PATIENCE.as_secs()), hint: "try again".into() }
}

async fn engine(context: &Context) -> Result<EngineInfo, Trouble> {
    let engine = parts::engine(context).map_err(|error| trouble(&error))?;
    let said = tokio::time::timeout(PATIENCE, info::info(&engine)).await; // I/O
    said.map_err(|_| silent("the engine"))?.map_err(Trouble::from)
}

/// The networks and the lease, as the platform shows them.
async fn cluster(context: &Context) -> (Option<BTreeSet<String>>, Lease) {
    let platform = match parts::platform(context) {
        Ok(platform) => platform,
        Err(error) => return (None, Lease::Unreadable(chain(&error))),
    };
    let seen = platform.observe(&BTreeSet::new()).await; // I/O
    let networks = seen.ok().map(|seen| seen.networks.clone());
    let lease = match platform.lease().read_lease().await {
        Err(error) => Lease::Unreadable(error.to_string()),
        Ok(seen) => match seen.found {
            LeaseFound::Unreadable { .. } => Lease::Unreadable("its labels cannot be understood".into()),
            LeaseFound::Absent => Lease::Free,
            LeaseFound::Record(record) => match &record.holder {
                None => Lease::Free,
                Some(run) => {
                    let address = record.address.clone().unwrap_or_default();
                    let lives = !address.is_empty() && lease::lives(context, run.as_str(), &address).await;
                    let at = if address.is_empty() { String::new() } else { format!(", API at {address}") };
                    Lease::Held { holder: format!("ofop {} on host {}{at}", record.version, run.host()), lives }
                }
            },
        },
    };
    (networks, lease)
}

async fn manifests_and_git(context: &Context) -> (Manifests, Option<Git>) {
    let Some(place) = &context.config.manifests else { return (Manifests::Unnamed, None) };
    let read = tokio::time::timeout(PATIENCE, manifests::read(context, &[])).await; // I/O
    let read =
        read.map_err(|_| silent("the source of the manifests")).and_then(|read| read.map_err(|error| trouble(&error)));
    let git = match place {
        config::Manifests::Directory(_) => None,
        config::Manifests::Git(git) => Some(Git {
            commit: read.as_ref().map_err(Clone::clone).and_then(|read| commit(&read.desired)),
            signed: git.allowed_signers.is_some(),
        }),
    };
    match read {
        // What is wrong with a repository is said there.
        Err(_) if git.is_some() => {
            (Manifests::Unreadable(Trouble { message: "see git".into(), hint: "mend that first".into() }), git)
        }
        Err(trouble) => (Manifests::Unreadable(trouble), git),
        Ok(read) => (facts(&read.desired), git),
    }
}

fn commit(desired: &Desired) -> Result<String, Trouble> {
    if let Some(trouble) = &desired.trouble {
        return Err(Trouble {
            message: trouble.message.clone(),
            hint: trouble.hint.clone().unwrap_or_else(|| "the last good commit stays in force".into()),
        });
    }
    Ok(match &desired.commit {
        Some(commit) => format!("commit {} \"{}\" by {}", commit.short(), commit.subject, commit.author),
        None => "no commit yet".into(),
    })
}

fn facts(desired: &Desired) -> Manifests {
    let specs = desired.resources.values().flat_map(|resource| &resource.services).map(|service| &service.spec);
    Manifests::Read {
        files: desired.files,
        resources: desired.resources.len(),
        errors: desired.errors(),
        warnings: desired.problems.iter().filter(|problem| problem.severity == Severity::Warning).count(),
        networks: specs.flat_map(|spec| spec.networks.iter().cloned()).collect(),
    }
}

async fn registry(context: &Context) -> Vec<Check> {
    const NAME: &str = "registry";
    match context.config.registry {
        RegistryKind::Openfactory => {
            let settings = parts::openfactory(&context.config);
            let Ok(findings) = tokio::time::timeout(PATIENCE, openfactory::check(&settings)).await else {
                let Trouble { message, hint } = silent("Kafka or ksqlDB");
                return vec![Check::fail(NAME, message, hint)];
            };
            let check = |finding: openfactory::Finding| {
                let hint = finding.hint.unwrap_or_else(|| "`ofop registry check` says more".into());
                match finding.kind {
                    FindingKind::Good => Check::ok(NAME, finding.message),
                    FindingKind::Warning => Check::warn(NAME, finding.message, hint),
                    FindingKind::Bad => Check::fail(NAME, finding.message, hint),
                }
            };
            findings.into_iter().map(check).collect()
        }
        RegistryKind::Embedded => {
            let observed = match parts::registry(context) {
                Ok(registry) => registry.observe().await.map_err(CliError::Registry).map(drop), // I/O
                Err(error) => Err(error),
            };
            vec![match observed {
                Ok(()) => Check::ok(
                    NAME,
                    "the embedded one, a file in the state directory: for one machine, trials and tests",
                ),
                Err(error) => Check::fail(NAME, chain(&error), error.hint().unwrap_or_default()),
            }]
        }
    }
}

async fn daemon(context: &Context) -> Daemon {
    let address = context.config.address.clone();
    let answer = match Client::new(context) {
        Ok(client) => client.find("/api/v1/resources").await, // I/O
        Err(error) => Err(error),
    };
    match answer {
        Ok(None) => Daemon::Absent { address },
        Err(error) => Daemon::Trouble(trouble(&error)),
        Ok(Some(answer)) => match seen::parse(answer, &address) {
            Err(error) => Daemon::Trouble(trouble(&error)),
            Ok(status) => Daemon::Answers {
                address,
                version: status
                    .lease
                    .filter(|lease| lease.leader)
                    .and_then(|lease| lease.holder)
                    .map(|holder| holder.version),
                ready: status.ready,
                reasons: status.not_ready,
                warnings: status.warnings,
            },
        },
    }
}

fn state_dir(path: &Path) -> StateDir {
    StateDir { path: path.display().to_string(), state: writable(path) }
}

/// Whether the directory can be written to, or made. What is written is taken away again.
fn writable(path: &Path) -> Writable {
    if !path.exists() {
        let above = path.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.exists());
        let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return match rustix::fs::access(above, rustix::fs::Access::WRITE_OK) {
            Ok(()) => Writable::CanBeMade,
            Err(error) => Writable::No(format!("`{}`: {}", above.display(), std::io::Error::from(error))),
        };
    }
    let probe = path.join(format!(".probe-{}", std::process::id()));
    let written = std::fs::File::create(&probe).and_then(|mut file| file.write_all(b"ofop"));
    // Where it could not be made there is nothing to take away.
    let _ = std::fs::remove_file(&probe);
    match written {
        Err(error) => Writable::No(error.to_string()),
        Ok(()) => {
            let space = rustix::fs::statvfs(path).ok();
            Writable::Yes { free: space.map(|space| space.f_bavail.saturating_mul(space.f_frsize)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_writable_can_be_made_or_neither() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(writable(folder.path()), Writable::Yes { free: Some(1..) }));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        assert!(matches!(writable(&folder.path().join("a/b")), Writable::CanBeMade));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(writable(&file), Writable::No(_)));
    }
}
