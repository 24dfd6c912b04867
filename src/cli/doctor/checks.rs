//! What facts about a machine and its cluster mean for the operator. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::PlatformKind;
use crate::platform::PlatformError;
use crate::platform::info::EngineInfo;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// In place.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// The operator cannot do its work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    #[serde(rename = "check")]
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Check { name, level: Level::Ok, message: message.into(), hint: None }
    }

    pub(super) fn warn(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { level: Level::Warn, hint: Some(hint.into()), ..Check::ok(name, message) }
    }

    pub(super) fn fail(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into()).filter(|hint: &String| !hint.is_empty());
        Check { level: Level::Fail, hint, ..Check::ok(name, message) }
    }
}

/// What went wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) message: String,
    pub(super) hint: String,
}

impl From<PlatformError> for Trouble {
    fn from(error: PlatformError) -> Self {
        Trouble { message: error.message, hint: error.hint.unwrap_or_default() }
    }
}

/// Everything that was gathered.
pub(super) struct Facts {
    pub(super) platform: PlatformKind,
    /// Where the engine is.
    pub(super) host: String,
    pub(super) engine: Result<EngineInfo, Trouble>,
    /// This machine's clock in the middle of the question.
    pub(super) now: Timestamp,
    /// How long the engine took to answer, in milliseconds.
    pub(super) took: i64,
    /// Networks that services can ask for; none where they could not be read.
    pub(super) networks: Option<BTreeSet<String>>,
    pub(super) manifests: Manifests,
    pub(super) git: Option<Git>,
    pub(super) registry: Vec<Check>,
    pub(super) state_dir: StateDir,
    pub(super) access: Access,
    pub(super) lease: Lease,
    pub(super) daemon: Daemon,
}

/// What the manifests say.
pub(super) enum Manifests {
    /// None are named.
    Unnamed,
    /// They cannot be read.
    Unreadable(Trouble),
    /// They were read.
    Read {
        files: usize,
        resources: usize,
        errors: usize,
        warnings: usize,
        /// Networks that their services ask for.
        networks: BTreeSet<String>,
    },
}

/// A repository.
pub(super) struct Git {
    /// The newest commit, or why it cannot be had.
    pub(super) commit: Result<String, Trouble>,
    /// Whether commits must be signed.
    pub(super) signed: bool,
}

/// The state directory.
pub(super) struct StateDir {
    pub(super) path: String,
    pub(super) state: Writable,
}

/// Whether it can be written to.
pub(super) enum Writable {
    /// It is there, with so many bytes free.
    Yes {
        free: Option<u64>,
    },
    /// It is not there, and can be made.
    CanBeMade,
    No(String),
}

/// Who may use the HTTP server.
pub(super) struct Access {
    pub(super) listen: String,
    pub(super) loopback: bool,
    pub(super) tls: bool,
    pub(super) tokens: usize,
    pub(super) public_read: bool,
}

/// The lease of the instance.
pub(super) enum Lease {
    /// It was not looked at, since the engine cannot be.
    Unseen,
    Unreadable(String),
    Free,
    Held {
        holder: String,
        lives: bool,
    },
}

/// The daemon.
pub(super) enum Daemon {
    Absent { address: String },
    Trouble(Trouble),
    Answers { address: String, version: Option<String>, ready: bool, reasons: Vec<String>, warnings: Vec<String> },
}

/// How far the engine's clock may be off before somebody should look, and before windows and ends of suspensions go by
/// another time than people mean, in milliseconds.
const SKEW: i64 = 2_000;
const LARGE_SKEW: i64 = 60_000;
/// Bytes below which a disk is nearly full.
const LITTLE: u64 = 512 << 20;

/// What all of it means.
pub(super) fn all(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![engine(facts)];
    if let Ok(engine) = &facts.engine {
        checks.push(swarm(engine, facts.platform));
        checks.push(clock(engine, facts));
    }
    checks.push(manifests(&facts.manifests));
    checks.extend(facts.git.as_ref().map(git));
    checks.extend(networks(facts));
    checks.extend(facts.registry.iter().cloned());
    checks.push(state_dir(&facts.state_dir));
    checks.extend(access(&facts.access));
    checks.push(lease(&facts.lease));
    checks.extend(daemon(&facts.daemon));
    checks
}

fn engine(facts: &Facts) -> Check {
    match &facts.engine {
        Ok(engine) => Check::ok(
            "engine",
            format!("Docker Engine {} at {} answers (API 1.{})", engine.version, facts.host, engine.api),
        ),
        Err(trouble) => Check::fail("engine", &trouble.message, &trouble.hint),
    }
}

fn swarm(engine: &EngineInfo, platform: PlatformKind) -> Check {
    const NAME: &str = "swarm";
    match (platform, engine.swarm.as_str(), engine.manager) {
        (PlatformKind::Docker, ..) => Check::ok(NAME, "not needed: services are plain containers"),
        (PlatformKind::Swarm, "active", true) if engine.managers > 0 && engine.managers.is_multiple_of(2) => {
            Check::warn(
                NAME,
                format!(
                    "manager of {} nodes; {} managers survive no more than {}",
                    engine.nodes,
                    engine.managers,
                    engine.managers - 1
                ),
                "use an odd number of managers: 1, 3 or 5",
            )
        }
        (PlatformKind::Swarm, "active", true) => {
            Check::ok(NAME, format!("manager, one of {}; {} nodes", engine.managers, engine.nodes))
        }
        (PlatformKind::Swarm, "active", false) => Check::fail(
            NAME,
            "this engine is a worker: it can neither show nor change services",
            "name a manager with --host (DOCKER_HOST), or promote this one: docker node promote",
        ),
        (PlatformKind::Swarm, "locked", _) => {
            Check::fail(NAME, "the swarm is locked", "docker swarm unlock, with the key of the swarm")
        }
        (PlatformKind::Swarm, state, _) => {
            let why = if engine.swarm_error.is_empty() { String::new() } else { format!(": {}", engine.swarm_error) };
            let state = if state.is_empty() { "inactive" } else { state };
            Check::fail(
                NAME,
                format!("this engine is in no working swarm ({state}{why})"),
                "docker swarm init makes one; `--platform docker` does without",
            )
        }
    }
}

fn clock(engine: &EngineInfo, facts: &Facts) -> Check {
    const NAME: &str = "clock";
    let Ok(time) = engine.time.parse::<Timestamp>() else {
        return Check::warn(NAME, "the engine does not say what time it is", "compare the clocks of both machines");
    };
    // What the question took may lie on either side.
    let skew = time.as_millisecond().saturating_sub(facts.now.as_millisecond());
    let sure = (skew.abs() - facts.took).max(0);
    let direction = if skew < 0 { "behind" } else { "ahead" };
    let said = format!("the engine's clock is {:.1} s {direction}", skew.abs() as f64 / 1000.0);
    let hint =
        "synchronise both machines (chrony, systemd-timesyncd): windows, ends of suspensions and events go by them";
    match sure {
        LARGE_SKEW.. => Check::fail(NAME, said, hint),
        SKEW.. => Check::warn(NAME, said, hint),
        _ => Check::ok(NAME, "the engine's clock and this machine's agree"),
    }
}

fn manifests(manifests: &Manifests) -> Check {
    const NAME: &str = "manifests";
    match manifests {
        Manifests::Unnamed => Check::warn(
            NAME,
            "none are named",
            "name their directory with --desired (OFOP_DESIRED) or their repository with --git (OFOP_GIT_URL)",
        ),
        Manifests::Unreadable(trouble) => Check::fail(NAME, &trouble.message, &trouble.hint),
        Manifests::Read { files, errors, .. } if *errors > 0 => {
            Check::fail(NAME, format!("{errors} errors in {files} files"), "`ofop validate` shows them")
        }
        Manifests::Read { files: 0, .. } => {
            Check::warn(NAME, "there are no manifests", "add app_*.yml or dev_*.yml files")
        }
        Manifests::Read { files, resources, warnings, .. } if *warnings > 0 => Check::warn(
            NAME,
            format!("{files} files describe {resources} resources, with {warnings} warnings"),
            "`ofop validate` shows them",
        ),
        Manifests::Read { files, resources, .. } => {
            Check::ok(NAME, format!("{files} files describe {resources} resources"))
        }
    }
}

fn git(git: &Git) -> Check {
    match &git.commit {
        Err(trouble) => Check::fail("git", &trouble.message, &trouble.hint),
        Ok(commit) if git.signed => Check::ok("git", format!("{commit}, signed by an allowed signer")),
        Ok(commit) => Check::warn(
            "git",
            format!("{commit}; any commit comes into force, signed or not"),
            "--verify-signatures names the keys that may sign (docs/gitops.md)",
        ),
    }
}

fn networks(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "networks";
    let (Manifests::Read { networks: wanted, .. }, Some(found)) = (&facts.manifests, &facts.networks) else {
        return Vec::new();
    };
    let missing: Vec<&str> = wanted.difference(found).map(String::as_str).collect();
    if missing.is_empty() {
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let said =
            if names.is_empty() { "the manifests name none".into() } else { format!("{} exist", names.join(", ")) };
        return vec![Check::ok(NAME, said)];
    }
    let driver = match facts.platform {
        PlatformKind::Swarm => "--driver overlay --attachable ",
        PlatformKind::Docker => "",
    };
    let make = |name: &str| {
        Check::fail(
            NAME,
            format!("{name} does not exist: what names it waits"),
            format!("docker network create {driver}{name}"),
        )
    };
    missing.into_iter().map(make).collect()
}

fn state_dir(directory: &StateDir) -> Check {
    const NAME: &str = "state";
    let path = &directory.path;
    match &directory.state {
        Writable::Yes { free: Some(free) } if *free < LITTLE => Check::warn(
            NAME,
            format!("`{path}` has {} MiB left", free >> 20),
            "make room: events, history, clones and the embedded registry are kept there",
        ),
        Writable::Yes { .. } => Check::ok(NAME, format!("`{path}` can be written to")),
        Writable::CanBeMade => Check::ok(NAME, format!("`{path}` will be made")),
        Writable::No(why) => Check::fail(
            NAME,
            format!("`{path}` cannot be written to: {why}"),
            "give it to the user that runs ofop, or name another one with --state-dir (OFOP_STATE_DIR)",
        ),
    }
}

fn access(access: &Access) -> Vec<Check> {
    const NAME: &str = "access";
    let listen = &access.listen;
    let mut checks = Vec::new();
    if !access.loopback && !access.tls {
        checks.push(Check::warn(
            NAME,
            format!("{listen} is no loopback address and has no TLS: tokens can be read on the way"),
            "--tls-cert and --tls-key, or a proxy with TLS before a loopback address",
        ));
    }
    if !access.loopback && access.public_read {
        checks.push(Check::warn(
            NAME,
            format!("everybody who reaches {listen} may read"),
            "leave --public-read out, so that reading needs a token",
        ));
    }
    if access.tokens == 0 {
        checks.push(Check::warn(
            NAME,
            "no token is set: nobody may give commands (reconcile, suspend, down)",
            "--token-file FILE (OFOP_TOKEN_FILE); make one with: head -c 32 /dev/urandom | base64",
        ));
    } else if checks.is_empty() {
        checks.push(Check::ok(NAME, format!("{} tokens, {listen}", access.tokens)));
    }
    checks
}

fn lease(lease: &Lease) -> Check {
    const NAME: &str = "lease";
    match lease {
        Lease::Unseen => Check::warn(NAME, "it was not looked at, since the engine cannot be asked", "mend that first"),
        Lease::Unreadable(why) => {
            Check::fail(NAME, format!("it cannot be read: {why}"), "see docs/high-availability.md")
        }
        Lease::Free => Check::ok(NAME, "nobody holds it"),
        Lease::Held { holder, lives: true } => Check::ok(NAME, format!("{holder} holds it and answers")),
        Lease::Held { holder, lives: false } => Check::warn(
            NAME,
            format!("{holder} held it last and does not answer from here"),
            "a daemon that starts takes over once that lease is over; one on a loopback address answers only there",
        ),
    }
}

fn daemon(daemon: &Daemon) -> Vec<Check> {
    const NAME: &str = "daemon";
    match daemon {
        Daemon::Absent { address } => vec![Check::ok(NAME, format!("none runs at {address}"))],
        Daemon::Trouble(trouble) => vec![Check::warn(NAME, &trouble.message, &trouble.hint)],
        Daemon::Answers { address, version, ready, reasons, warnings } => {
            let mut checks = Vec::new();
            if !ready {
                let hint = "its log and /readyz say more";
                checks.push(Check::fail(
                    NAME,
                    format!("the one at {address} is not ready: {}", reasons.join("; ")),
                    hint,
                ));
            }
            let ours = env!("CARGO_PKG_VERSION");
            if let Some(version) = version.as_deref().filter(|version| *version != ours) {
                checks.push(Check::warn(
                    NAME,
                    format!("the one at {address} is ofop {version}, and this program {ours}"),
                    "use the same version, or restart the daemon after an upgrade",
                ));
            }
            checks.extend(warnings.iter().map(|warning| Check::warn(NAME, warning, "`ofop get` and its log say more")));
            if checks.is_empty() {
                checks.push(Check::ok(NAME, format!("the one at {address} is ready")));
            }
            checks
        }
    }
}

#[cfg(test)]
mod tests;
