//! Flags, environment and `.ofaenv` → one validated [`Config`].
//!
//! # Flow
//!
//! ```text
//! flags > process environment > .ofaenv > default  ─► text with its origin ─► Config, or the first error
//! ```
//!
//! OpenFactory's own variables keep their names, so that an existing `.ofaenv` works unchanged; ours begin with
//! `OFOP_`. An empty variable counts as not set.
//!
//! # Guarantees
//!
//! - A `Config` that exists is valid; only files and servers that it names may still disappoint.
//! - No error and no `Debug` output shows a value of a variable that could be a secret.

mod credentials;
pub mod dotenv;
mod git;
mod patterns;
mod rollout;
mod secret_file;
mod servers;
mod tokens;
mod values;
mod variables;
mod windows;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::model::parse_duration;
use crate::model::{HostRules, InstanceName, RolloutPolicy, Settings, Windows};
pub use git::{DEFAULT_FETCH_TIMEOUT, DEFAULT_INTERVAL, Git, Manifests, Rewritten};
pub use patterns::VariableLimits;
pub use servers::Servers;
pub use tokens::ApiToken;
use values::Reader;
pub use variables::{DEFAULT_FILE, From, Variables};

/// Where the HTTP server listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8420";
/// How often everything is listed and compared whether or not something was reported: facts about lost
/// events call for 10 to 30 s.
pub const DEFAULT_RESYNC: Duration = Duration::from_secs(30);
/// How often the digest behind a followed image tag is asked for: often enough for a deployment by tag, and
/// rare enough for registries that count requests.
pub const DEFAULT_FOLLOW: Duration = Duration::from_secs(60);
/// How many resources are worked on at a time: enough to keep a Swarm manager busy (a create takes some
/// 10 ms), few enough to leave it room for others.
pub const DEFAULT_CONCURRENCY: usize = 8;
/// Where the embedded registry and clones of git repositories live unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = ".ofop";
/// The owner that marks carry unless told otherwise.
pub const DEFAULT_INSTANCE: &str = "default";
/// How long a resource may be on its way before it counts as degraded.
pub const DEFAULT_PROGRESS_DEADLINE: Duration = Duration::from_secs(300);
/// How long something written to the registry may stay invisible: ksqlDB follows Kafka with a lag of
/// seconds, and of minutes while it fails over.
pub const DEFAULT_EXPECTATION: Duration = Duration::from_secs(60);

/// For how long events are kept: a quarter of a year, as reviews of incidents ask for.
pub const DEFAULT_EVENTS_KEEP: Duration = Duration::from_secs(90 * 24 * 3600);
/// How many bytes of events are kept: some 200,000 of them.
pub const DEFAULT_EVENTS_MAX: u64 = 64 << 20;
/// For how long the history of revisions is kept: a year, as audits ask for.
pub const DEFAULT_HISTORY_KEEP: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many bytes of it are kept: some 100,000 changes of resources.
pub const DEFAULT_HISTORY_MAX: u64 = 64 << 20;

/// Everything that can be set, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// What shapes services.
    pub settings: Settings,
    /// Which registry holds the records.
    pub registry: RegistryKind,
    /// `--desired` or `--git`: where manifests come from.
    pub manifests: Option<Manifests>,
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// `--instance`.
    pub instance: InstanceName,
    /// `--host`: the engine's address as in `DOCKER_HOST`; none for the engine's default socket.
    pub host: Option<Host>,
    /// `DOCKER_CERT_PATH`: directory with `ca.pem`, `cert.pem`, `key.pem` for an engine behind TLS.
    pub tls_directory: Option<PathBuf>,
    /// `DOCKER_CONFIG`: directory with the `config.json` that credentials of image registries are in.
    pub docker_config: Option<PathBuf>,
    /// `--listen`: where the daemon serves HTTP.
    pub listen: SocketAddr,
    /// `--tls-cert` and `--tls-key`: what the HTTP server shows its clients; none for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// `--address`: where the commands that talk to the daemon look for it, `host:port` or `https://host:port`.
    pub address: String,
    /// The daemon is named on the command line and manifests are not, whatever the environment says: what is looked at
    /// is what the daemon sees.
    pub asks_daemon: bool,
    /// `--lease` and `--lease-renew`.
    pub lease: LeaseTimes,
    /// `--resync`.
    pub resync: Duration,
    /// `OFOP_FOLLOW_INTERVAL`: how often a followed image tag is looked up.
    pub follow: Duration,
    /// `--concurrency`.
    pub concurrency: NonZeroUsize,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `--no-prune` not given.
    pub prune: bool,
    /// The prune guard's number of resources.
    pub prune_guard_count: usize,
    /// The prune guard's share of the managed resources, 0 to 1.
    pub prune_guard_fraction: f64,
    /// `--prune-delay`; none where it is not given.
    pub prune_delay: Option<Duration>,
    /// `--no-prune-last` not given.
    pub prune_last: bool,
    /// `--windows`: when changes may go out where manifests do not say.
    pub windows: Windows,
    /// `--rollout`.
    pub rollout: RolloutPolicy,
    /// `--progress-deadline`.
    pub progress_deadline: Duration,
    /// How long a record may stay invisible after it was written.
    pub expectation: Duration,
    /// The API's bearer tokens, at most one of each name. A client sends the first.
    pub tokens: Vec<ApiToken>,
    /// `--public-read`: whoever reaches an address that is not a loopback one may read without a token.
    pub public_read: bool,
    /// `OFOP_EVENTS_KEEP`: for how long events are kept in the state directory.
    pub events_keep: Duration,
    /// `OFOP_EVENTS_MAX`: how many bytes of events are kept there; 0: none at all.
    pub events_max: u64,
    /// `OFOP_HISTORY_KEEP`: for how long the history of revisions is kept in the state directory.
    pub history_keep: Duration,
    /// `OFOP_HISTORY_MAX`: how many bytes of it are kept there; 0: in memory alone.
    pub history_max: u64,
    /// The secret that webhooks prove to know.
    pub webhook_secret: Option<Secret>,
    /// How files that manifests refer to are fetched.
    pub remote: Remote,
    /// `OFOP_MODEL_ROOTS`: folders below which manifests of a directory may name device models by absolute paths.
    pub model_roots: Vec<PathBuf>,
    /// `--policy`: the file that says what manifests may ask for.
    pub policy: Option<PathBuf>,
    /// `--notify`: the file that says who is told what.
    pub notify: Option<PathBuf>,
    /// How to reach Kafka and ksqlDB.
    pub servers: Servers,
    /// What `${NAME}` in a manifest may refer to.
    pub variables: Variables,
    /// What of it no manifest is given, and what is shown nowhere.
    pub limits: VariableLimits,
}

/// The files for TLS, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those of the authorities between it and one that clients trust.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    named_by: From,
}

impl TlsFiles {
    /// Whether the key is one that nobody else can read, for whoever is about to use it.
    ///
    /// # Errors
    /// When it cannot be read, or when others may.
    pub fn guarded(&self) -> Result<(), ConfigError> {
        secret_file::read(&self.named_by, &self.key).map(drop)
    }
}

/// How long a lease lasts, and how often it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// `--lease`: how long after a renewal its holder may act.
    pub lease: Duration,
    /// `--lease-renew`: time between renewals, at most a third of it.
    pub renew: Duration,
}

/// How files that manifests refer to by `https://` or `github://` are fetched.
#[derive(Debug, Clone, Default)]
pub struct Remote {
    /// `OFOP_CA_FILE`: certificate authorities (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// `--model-hosts`: hosts that manifests may name although they are not on the internet.
    pub hosts: HostRules,
    /// `OFOP_GITHUB_TOKEN`, then `GITHUB_TOKEN`.
    pub github_token: Option<Secret>,
    /// `OFOP_GITHUB_API`: GitHub's API, for GitHub Enterprise.
    pub github_api: Option<String>,
    /// `OFOP_GITHUB_RAW`: GitHub's plain files.
    pub github_raw: Option<String>,
}

/// Where the engine is said to be. A way to it that we have not, `ssh://`, is one that OpenFactory's files may name:
/// it stops whoever needs the engine, and nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    text: String,
    from: From,
}

impl Host {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, for whoever is about to talk to the engine.
    ///
    /// # Errors
    /// When it is behind SSH.
    pub fn reachable(&self) -> Result<&str, ConfigError> {
        let Some(server) = self.text.strip_prefix("ssh://") else { return Ok(&self.text) };
        Err(ConfigError::Invalid {
            from: self.from.clone(),
            reason: format!("`{}`: ofop does not speak ssh to an engine", self.text),
            hint: format!(
                "forward its socket, ssh -nNT -L /run/ofop-engine.sock:/var/run/docker.sock {server}, and name \
                 unix:///run/ofop-engine.sock; or let the engine listen with TLS and name tcp://HOST:2376"
            ),
        })
    }
}

/// Which registry holds the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    /// Kafka and ksqlDB.
    Openfactory,
    /// A SQLite file.
    Embedded,
}

impl RegistryKind {
    /// `openfactory` or `embedded`.
    pub fn as_str(self) -> &'static str {
        match self {
            RegistryKind::Openfactory => "openfactory",
            RegistryKind::Embedded => "embedded",
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text, for whoever must send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// The text of a file with a secret that the notification file names, or of that file itself. Blocking.
///
/// # Errors
/// When it cannot be read, or when others may.
pub fn read_secret(path: &Path) -> Result<String, ConfigError> {
    secret_file::read(&From::Environment("OFOP_NOTIFY"), path)
}

/// What the command line says: the text of each flag that was given, by the flag (`--resync`).
pub type Flags = BTreeMap<&'static str, String>;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The dotenv file cannot be read.
    #[error("cannot read the environment file `{}`", path.display())]
    EnvFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The dotenv file cannot be understood.
    #[error("{}:{line}: {reason}", path.display())]
    EnvFileLine {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u32,
        /// What is wrong with the line.
        reason: &'static str,
    },
    /// A variable that the dotenv file requires is not set.
    #[error("{}:{line}: `{name}` is not set{}", path.display(), colon(message))]
    Unset {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u32,
        /// The variable.
        name: String,
        /// What the file says about it.
        message: String,
    },
    /// A setting has a text that means nothing.
    #[error("{from}: {reason}")]
    Invalid {
        /// Who says so.
        from: From,
        /// What is wrong.
        reason: String,
        /// What to write instead.
        hint: String,
    },
    /// A file that a setting names cannot be read.
    #[error("{from}: cannot read `{}`", path.display())]
    File {
        /// Which setting.
        from: From,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file with a secret that others may read or write.
    #[error("{from}: others may read or write `{}`, which holds a secret (mode {mode:04o})", path.display())]
    Exposed {
        /// Which setting.
        from: From,
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Two settings exclude each other.
    #[error("{one} and {other} exclude each other")]
    Exclusive {
        /// The one.
        one: From,
        /// The other.
        other: From,
        /// What to do.
        hint: &'static str,
    },
    /// A setting needs another one.
    #[error("{what} needs {missing}")]
    Missing {
        /// What was asked for.
        what: &'static str,
        /// The name of the setting that it needs.
        missing: &'static str,
        /// What to do.
        hint: &'static str,
    },
}

fn colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {}", message.escape_debug()) }
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            ConfigError::EnvFile { .. } => "name an existing file with --env-file, or leave the flag out".into(),
            ConfigError::EnvFileLine { .. } => {
                "write one NAME=value a line; a value with blanks around it or line breaks goes in quotes".into()
            }
            ConfigError::Unset { name, .. } => format!("set `{name}` in the environment, or above in the file"),
            ConfigError::Invalid { hint, .. } => hint.clone(),
            ConfigError::File { .. } => "check the path and who may read the file".into(),
            ConfigError::Exposed { path, .. } => {
                format!(
                    "run `chmod 600 {}`; of a file that is mounted into a container, where it comes from",
                    path.display()
                )
            }
            ConfigError::Exclusive { hint, .. } | ConfigError::Missing { hint, .. } => (*hint).into(),
        }
    }
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    /// The first setting that is invalid, named as the user wrote it.
    pub fn load(flags: &Flags, variables: Variables) -> Result<Config, ConfigError> {
        let read = Reader { flags, variables: &variables };
        let settings = read.settings()?;
        let registry = read.registry(&settings)?;
        Ok(Config {
            registry,
            manifests: read.manifests()?,
            state_dir: read.path("--state-dir", "OFOP_STATE_DIR").unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR)),
            instance: read.instance()?,
            host: read.host()?,
            tls_directory: read.tls_directory(),
            docker_config: read.docker_config(),
            listen: read.listen()?,
            tls: read.tls()?,
            address: read.address()?,
            asks_daemon: read.asks_daemon(),
            lease: read.lease()?,
            resync: read.duration("--resync", "OFOP_RESYNC", DEFAULT_RESYNC)?,
            follow: read.duration("OFOP_FOLLOW_INTERVAL", "OFOP_FOLLOW_INTERVAL", DEFAULT_FOLLOW)?,
            concurrency: read.concurrency()?,
            log_format: read.log_format()?,
            prune: read.switch("--no-prune", "OFOP_PRUNE")?,
            prune_guard_count: read.guard_count()?,
            prune_guard_fraction: read.guard_fraction()?,
            prune_delay: read.prune_delay()?,
            prune_last: read.switch("--no-prune-last", "OFOP_PRUNE_LAST")?,
            windows: read.windows()?,
            rollout: read.rollout()?,
            progress_deadline: read.duration(
                "--progress-deadline",
                "OFOP_PROGRESS_DEADLINE",
                DEFAULT_PROGRESS_DEADLINE,
            )?,
            expectation: read.duration("--expectation", "OFOP_EXPECTATION", DEFAULT_EXPECTATION)?,
            tokens: read.tokens()?,
            public_read: read.public_read()?,
            events_keep: read.kept("OFOP_EVENTS_KEEP", DEFAULT_EVENTS_KEEP)?,
            events_max: read.kept_size("OFOP_EVENTS_MAX", DEFAULT_EVENTS_MAX)?,
            history_keep: read.kept("OFOP_HISTORY_KEEP", DEFAULT_HISTORY_KEEP)?,
            history_max: read.kept_size("OFOP_HISTORY_MAX", DEFAULT_HISTORY_MAX)?,
            webhook_secret: read.webhook_secret()?,
            remote: read.remote()?,
            model_roots: read.model_roots()?,
            policy: read.path("--policy", "OFOP_POLICY"),
            notify: read.path("--notify", "OFOP_NOTIFY"),
            limits: read.variable_limits()?,
            servers: read.servers()?,
            settings,
            variables,
        })
    }
}

#[cfg(test)]
mod tests;
