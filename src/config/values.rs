//! One function per setting: from a text with its origin to a value.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::variables::{Found, From, Variables};
use super::{
    ApiToken, ConfigError, DEFAULT_CONCURRENCY, DEFAULT_INSTANCE, DEFAULT_LISTEN, Flags, Host, LeaseTimes, LogFormat,
    RegistryKind, Remote, Secret, TlsFiles, credentials, secret_file, tokens,
};
use crate::model::lease::{MAX_LEASE, MIN_LEASE};
use crate::model::{HostRules, ImageRef, InstanceName, InvalidImage, PlatformKind, Settings, parse_duration};

/// How the address of a daemon with TLS begins.
const HTTPS: &str = "https://";

/// The most a time setting may say; longer is a slip of the unit.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long a lease lasts: a cluster is without a writer for as long after a crash, and a Swarm may be without a leader for
/// most of it without anybody losing anything.
const DEFAULT_LEASE: Duration = Duration::from_secs(15);

/// No shorter secret of a webhook is taken: shorter ones can be guessed.
const SHORTEST_SECRET: usize = 16;

/// Bounds of the time for which events are kept: less would lose a shift's, more is a slip.
const SHORTEST_KEPT: Duration = Duration::from_secs(3600);
const LONGEST_KEPT: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Bounds of the size of the kept events: less would hold a few hundred, more is a slip of the unit.
const SMALLEST_KEPT: u64 = 1 << 20;
const LARGEST_KEPT: u64 = 16 << 30;

pub(super) struct Reader<'a> {
    pub(super) flags: &'a Flags,
    pub(super) variables: &'a Variables,
}

pub(super) fn invalid(from: From, reason: impl Into<String>, hint: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { from, reason: reason.into(), hint: hint.into() }
}

impl Reader<'_> {
    /// The text of a variable; empty counts as not set.
    pub(super) fn variable(&self, name: &'static str) -> Option<Found> {
        self.variables.get(name).filter(|found| !found.text.trim().is_empty())
    }

    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        self.variable(name).map(|found| found.text.trim().to_owned())
    }

    /// The text of a flag, else of a variable.
    pub(super) fn setting(&self, flag: &'static str, name: &'static str) -> Option<Found> {
        match self.flags.get(flag) {
            Some(text) => Some(Found { text: text.clone(), from: From::Flag(flag) }),
            None => self.variable(name),
        }
    }

    pub(super) fn path(&self, flag: &'static str, name: &'static str) -> Option<PathBuf> {
        self.setting(flag, name).map(|found| PathBuf::from(found.text))
    }

    pub(super) fn duration(
        &self,
        flag: &'static str,
        name: &'static str,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(found) = self.setting(flag, name) else { return Ok(default) };
        match parse_duration(&found.text) {
            Some(duration) if duration <= LONGEST && !duration.is_zero() => Ok(duration),
            _ => Err(invalid(
                found.from,
                format!("`{}` is not a time between 1ms and 24h", found.text),
                "write a number with its unit: 500ms, 30s, 5m or 1h",
            )),
        }
    }

    pub(super) fn lease(&self) -> Result<LeaseTimes, ConfigError> {
        let lease = self.duration("--lease", "OFOP_LEASE", DEFAULT_LEASE)?;
        if !(MIN_LEASE..=MAX_LEASE).contains(&lease) {
            let from = self.setting("--lease", "OFOP_LEASE").map_or(From::Flag("--lease"), |found| found.from);
            return Err(invalid(
                from,
                format!("a lease lasts between {} s and {} min", MIN_LEASE.as_secs(), MAX_LEASE.as_secs() / 60),
                "write how long a cluster may be without a writer after a crash, e.g. 15s; the same for every operator \
                 of the instance",
            ));
        }
        // Two renewals may fail before the holder stops.
        let renew = self.duration("--lease-renew", "OFOP_LEASE_RENEW", lease / 3)?;
        if renew > lease / 3 {
            let from = self
                .setting("--lease-renew", "OFOP_LEASE_RENEW")
                .map_or(From::Flag("--lease-renew"), |found| found.from);
            return Err(invalid(
                from,
                "a lease is renewed at least three times while it lasts",
                "write at most a third of the lease, e.g. 5s for a lease of 15s",
            ));
        }
        Ok(LeaseTimes { lease, renew })
    }

    pub(super) fn platform(&self) -> Result<PlatformKind, ConfigError> {
        let Some(found) = self.setting("--platform", "DEPLOYMENT_PLATFORM") else { return Ok(PlatformKind::Swarm) };
        match found.text.trim().to_ascii_lowercase().as_str() {
            "swarm" => Ok(PlatformKind::Swarm),
            "docker" => Ok(PlatformKind::Docker),
            _ => Err(invalid(found.from, format!("`{}` is not a platform", found.text), "write `swarm` or `docker`")),
        }
    }

    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        let default = Settings::default();
        let version = self.text("OPENFACTORY_VERSION").unwrap_or(default.version);
        let producer = format!("ghcr.io/openfactoryio/kafka-mtc-producer:{version}");
        Ok(Settings {
            platform: self.platform()?,
            kafka_broker: self.kafka_broker()?,
            ksqldb_url: self.ksqldb_url()?,
            asset_router_url: self.text("ASSET_ROUTER_URL").unwrap_or_default(),
            base_domain: self.text("OPENFACTORY_BASE_DOMAIN").unwrap_or_default(),
            network: self.text("OPENFACTORY_NETWORK").unwrap_or(default.network),
            version,
            dev: self.text("OPENFACTORY_ENV").is_some_and(|text| text == "dev"),
            log_backend: self.text("OPENFACTORY_LOG_BACKEND").or(default.log_backend),
            text_log_directory: self.text("OPENFACTORY_TEXT_LOG_DIRECTORY"),
            ksqldb_log_level: self.text("KSQLDB_LOG_LEVEL").unwrap_or(default.ksqldb_log_level),
            mtconnect_agent_image: self.image("MTCONNECT_AGENT_IMAGE")?.unwrap_or(default.mtconnect_agent_image),
            mtconnect_producer_image: self.image("MTCONNECT_PRODUCER_IMAGE")?.unwrap_or(producer),
            mtconnect_agent_config: self.agent_config()?,
            uns_schema: self.text("OPENFACTORY_UNS_SCHEMA"),
        })
    }

    fn image(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(found) = self.variable(name) else { return Ok(None) };
        let text = found.text.trim().to_owned();
        match ImageRef::parse(&text) {
            Ok(_) | Err(InvalidImage::Id) => Ok(Some(text)),
            Err(error) => {
                let reason = self.blame(name, &error.to_string());
                Err(invalid(found.from, reason, "name an image with its tag, such as ghcr.io/plant/agent:1.2"))
            }
        }
    }

    fn kafka_broker(&self) -> Result<String, ConfigError> {
        let Some(found) = self.variable("KAFKA_BROKER") else { return Ok(String::new()) };
        let brokers = found.text.trim();
        let mut hosts = brokers.split(',').map(str::trim).filter(|broker| !broker.is_empty()).peekable();
        let is_address = |broker: &str| {
            // librdkafka takes the protocol here as well.
            let protocols = ["PLAINTEXT://", "SSL://", "SASL_PLAINTEXT://", "SASL_SSL://"];
            let host = protocols.iter().find_map(|protocol| broker.strip_prefix(protocol)).unwrap_or(broker);
            !host.is_empty() && !host.starts_with(':') && !host.contains(['/', '@', ' '])
        };
        if hosts.peek().is_some() && hosts.all(is_address) {
            return Ok(brokers.to_owned());
        }
        let reason = self.blame("KAFKA_BROKER", "is not a list of brokers");
        Err(invalid(found.from, reason, "write it like broker-1:9092,broker-2:9092"))
    }

    fn ksqldb_url(&self) -> Result<String, ConfigError> {
        let Some(found) = self.variable("KSQLDB_URL") else { return Ok(String::new()) };
        let url = found.text.trim().trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_some_and(|host| !host.is_empty() && !host.starts_with(':')) {
            return Ok(url.to_owned());
        }
        let reason = self.blame("KSQLDB_URL", "is not an http or https address");
        Err(invalid(found.from, reason, "write it like http://ksqldb-server:8088"))
    }

    /// What is wrong with a variable, and which variables that it stands for are not set.
    fn blame(&self, name: &str, wrong: &str) -> String {
        self.variables
            .unset_in(name)
            .into_iter()
            .fold(wrong.to_owned(), |text, name| format!("{text}; `{name}` is not set"))
    }

    fn agent_config(&self) -> Result<Option<String>, ConfigError> {
        let Some(found) = self.variable("OFOP_MTCONNECT_AGENT_CONFIG") else { return Ok(None) };
        let path = PathBuf::from(&found.text);
        std::fs::read_to_string(&path).map(Some).map_err(|source| ConfigError::File { from: found.from, path, source })
    }

    pub(super) fn registry(&self, settings: &Settings) -> Result<RegistryKind, ConfigError> {
        let kind = match self.setting("--registry", "OFOP_REGISTRY") {
            None if settings.ksqldb_url.is_empty() => RegistryKind::Embedded,
            None => RegistryKind::Openfactory,
            Some(found) => match found.text.trim() {
                "openfactory" => RegistryKind::Openfactory,
                "embedded" => RegistryKind::Embedded,
                _ => {
                    return Err(invalid(
                        found.from,
                        format!("`{}` is not a registry", found.text),
                        "write `openfactory` (Kafka and ksqlDB) or `embedded` (a SQLite file)",
                    ));
                }
            },
        };
        if kind == RegistryKind::Openfactory {
            let missing = match (settings.ksqldb_url.is_empty(), settings.kafka_broker.is_empty()) {
                (true, _) => Some("KSQLDB_URL"),
                (false, true) => Some("KAFKA_BROKER"),
                (false, false) => None,
            };
            if let Some(missing) = missing {
                return Err(ConfigError::Missing {
                    what: "the openfactory registry",
                    missing,
                    hint: "set it in the environment or in .ofaenv, or use --registry embedded",
                });
            }
        }
        Ok(kind)
    }

    pub(super) fn instance(&self) -> Result<InstanceName, ConfigError> {
        let found = self
            .setting("--instance", "OFOP_INSTANCE")
            .unwrap_or(Found { text: DEFAULT_INSTANCE.into(), from: From::Flag("--instance") });
        InstanceName::new(found.text.trim())
            .map_err(|error| invalid(found.from, error.to_string(), "write something like `plant-1`"))
    }

    /// OpenFactory's variable goes before Docker's: it is about this cluster, while `DOCKER_HOST` is about
    /// whatever the shell last worked with.
    pub(super) fn host(&self) -> Result<Option<Host>, ConfigError> {
        let found =
            self.setting("--host", "OPENFACTORY_MANAGER_NODE_DOCKER_URL").or_else(|| self.variable("DOCKER_HOST"));
        let Some(found) = found else { return Ok(None) };
        let host = found.text.trim();
        if ["/", "unix://", "tcp://", "http://", "https://", "ssh://"].iter().any(|scheme| host.starts_with(scheme)) {
            return Ok(Some(Host { text: host.to_owned(), from: found.from }));
        }
        Err(invalid(
            found.from,
            format!("`{host}` is not an engine's address"),
            "write it like unix:///var/run/docker.sock or tcp://manager:2376",
        ))
    }

    pub(super) fn tls_directory(&self) -> Option<PathBuf> {
        self.variable("DOCKER_TLS_VERIFY")?;
        match self.text("DOCKER_CERT_PATH") {
            Some(path) => Some(PathBuf::from(path)),
            None => Some(PathBuf::from(self.text("HOME")?).join(".docker")),
        }
    }

    /// As for Docker's own client.
    pub(super) fn docker_config(&self) -> Option<PathBuf> {
        match self.text("DOCKER_CONFIG") {
            Some(path) => Some(PathBuf::from(path)),
            None => Some(PathBuf::from(self.text("HOME")?).join(".docker")),
        }
    }

    pub(super) fn listen(&self) -> Result<SocketAddr, ConfigError> {
        let found = self
            .setting("--listen", "OFOP_LISTEN")
            .unwrap_or(Found { text: DEFAULT_LISTEN.into(), from: From::Flag("--listen") });
        let text = found.text.trim();
        let text = text.strip_prefix(':').map_or(text.to_owned(), |port| format!("0.0.0.0:{port}"));
        let text = text.strip_prefix("localhost:").map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
        text.parse().map_err(|_| {
            invalid(
                found.from,
                format!("`{}` is not an address with a port", found.text),
                format!("write it like {DEFAULT_LISTEN}, or 0.0.0.0:8420 for every interface"),
            )
        })
    }

    /// Where the daemon is: told, or where it would listen; an address that stands for every interface is
    /// reached through the loopback one.
    pub(super) fn address(&self) -> Result<String, ConfigError> {
        let Some(found) = self.setting("--address", "OFOP_ADDRESS") else {
            let mut listen = self.listen()?;
            if listen.ip().is_unspecified() {
                listen.set_ip(if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
            }
            // The daemon that has these settings is meant.
            let scheme = if self.tls()?.is_some() { HTTPS } else { "" };
            return Ok(format!("{scheme}{listen}"));
        };
        let text = found.text.trim().trim_end_matches('/');
        let text = text.strip_prefix("http://").unwrap_or(text);
        let port = text
            .strip_prefix(HTTPS)
            .unwrap_or(text)
            .rsplit_once(':')
            .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok()));
        match port.flatten() {
            Some(_) => Ok(text.to_owned()),
            None => Err(invalid(
                found.from,
                format!("`{}` is not a host with a port", found.text),
                format!("write it like {DEFAULT_LISTEN}, or https://ofop.plant.example:8420 for one with TLS"),
            )),
        }
    }

    pub(super) fn tls(&self) -> Result<Option<TlsFiles>, ConfigError> {
        let certificate = self.path("--tls-cert", "OFOP_TLS_CERT");
        let key = self.setting("--tls-key", "OFOP_TLS_KEY");
        let missing = |what, missing| ConfigError::Missing {
            what,
            missing,
            hint: "name both, the certificate with its chain and the key, in PEM",
        };
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(TlsFiles { certificate, key: PathBuf::from(key.text), named_by: key.from }))
            }
            (Some(_), None) => Err(missing("--tls-cert (OFOP_TLS_CERT)", "--tls-key (OFOP_TLS_KEY)")),
            (None, Some(_)) => Err(missing("--tls-key (OFOP_TLS_KEY)", "--tls-cert (OFOP_TLS_CERT)")),
        }
    }

    /// See [`super::Config::asks_daemon`].
    pub(super) fn asks_daemon(&self) -> bool {
        let named = |flag| self.flags.contains_key(flag);
        named("--address") && !named("--desired") && !named("--git")
    }

    pub(super) fn concurrency(&self) -> Result<NonZeroUsize, ConfigError> {
        const MOST: usize = 256;
        let Some(found) = self.setting("--concurrency", "OFOP_CONCURRENCY") else {
            return Ok(NonZeroUsize::new(DEFAULT_CONCURRENCY).unwrap_or(NonZeroUsize::MIN));
        };
        found.text.trim().parse().ok().filter(|count: &NonZeroUsize| count.get() <= MOST).ok_or_else(|| {
            invalid(
                found.from,
                format!("`{}` is not a number from 1 to {MOST}", found.text),
                format!("write how many resources may be worked on at a time; {DEFAULT_CONCURRENCY} is the default"),
            )
        })
    }

    pub(super) fn log_format(&self) -> Result<LogFormat, ConfigError> {
        let Some(found) = self.setting("--log-format", "OFOP_LOG_FORMAT") else { return Ok(LogFormat::Text) };
        match found.text.trim() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(invalid(found.from, format!("`{}` is not a log format", found.text), "write `text` or `json`")),
        }
    }

    /// Something that is on unless a flag or a variable says otherwise.
    pub(super) fn switch(&self, off: &'static str, name: &'static str) -> Result<bool, ConfigError> {
        if self.flags.contains_key(off) {
            return Ok(false);
        }
        let Some(found) = self.variable(name) else { return Ok(true) };
        match found.text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(invalid(found.from, format!("`{}` is neither true nor false", found.text), "write true or false")),
        }
    }

    pub(super) fn prune_delay(&self) -> Result<Option<Duration>, ConfigError> {
        let Some(found) = self.setting("--prune-delay", "OFOP_PRUNE_DELAY") else { return Ok(None) };
        match parse_duration(&found.text) {
            Some(duration) if duration <= LONGEST => Ok(Some(duration)),
            _ => Err(invalid(
                found.from,
                format!("`{}` is not a time up to 24h", found.text),
                "write a number with its unit, such as 10s; 0 removes at once",
            )),
        }
    }

    pub(super) fn guard_count(&self) -> Result<usize, ConfigError> {
        const DEFAULT: usize = 5;
        let Some(found) = self.setting("--prune-guard-count", "OFOP_PRUNE_GUARD_COUNT") else { return Ok(DEFAULT) };
        found.text.trim().parse().map_err(|_| {
            invalid(
                found.from,
                format!("`{}` is not a whole number", found.text),
                "write how many resources may go at once without a person's word, e.g. 5",
            )
        })
    }

    pub(super) fn guard_fraction(&self) -> Result<f64, ConfigError> {
        const DEFAULT: f64 = 0.3;
        let Some(found) = self.setting("--prune-guard-fraction", "OFOP_PRUNE_GUARD_FRACTION") else {
            return Ok(DEFAULT);
        };
        let text = found.text.trim();
        let number = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|number| number / 100.0),
            None => text.parse(),
        };
        number.ok().filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| {
            invalid(
                found.from,
                format!("`{text}` is not between 0 and 1"),
                "write the share of resources that may go at once, e.g. 0.3 or 30%",
            )
        })
    }

    pub(super) fn remote(&self) -> Result<Remote, ConfigError> {
        Ok(Remote {
            hosts: self.model_hosts()?,
            ca_file: self.text("OFOP_CA_FILE").map(PathBuf::from),
            github_token: self.credential("OFOP_GITHUB_TOKEN").or_else(|| self.credential("GITHUB_TOKEN")),
            github_api: self.text("OFOP_GITHUB_API"),
            github_raw: self.text("OFOP_GITHUB_RAW"),
        })
    }

    fn model_hosts(&self) -> Result<HostRules, ConfigError> {
        let Some(Found { text, from }) = self.setting("--model-hosts", "OFOP_MODEL_HOSTS") else {
            return Ok(HostRules::default());
        };
        HostRules::parse(&text).map_err(|bad| {
            let hint = "write for example nas.plant.example,10.1.0.0/16,192.168.7.7:8443; an IPv6 address with a port as \
                        [fd00::7]:8443";
            invalid(from, bad.to_string(), hint)
        })
    }

    pub(super) fn model_roots(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let Some(found) = self.variable("OFOP_MODEL_ROOTS") else { return Ok(Vec::new()) };
        let roots: Vec<PathBuf> = std::env::split_paths(found.text.trim()).collect();
        match roots.iter().find(|root| !root.is_absolute()) {
            None => Ok(roots),
            Some(root) => Err(invalid(
                found.from,
                format!("`{}` is not an absolute path", root.display()),
                "write folders with `:` between them, such as /etc/factory/models:/srv/models",
            )),
        }
    }

    /// The text of a variable that is a credential.
    pub(super) fn credential(&self, name: &'static str) -> Option<Secret> {
        debug_assert!(credentials::SETTINGS.contains(&name), "{name} is missing in the list of credentials");
        self.text(name).map(Secret::new)
    }

    pub(super) fn tokens(&self) -> Result<Vec<ApiToken>, ConfigError> {
        let Some(Found { text, from }) = self.secret_text("--token-file", "OFOP_TOKEN_FILE", "OFOP_TOKEN")? else {
            return Ok(Vec::new());
        };
        tokens::parse(&text).map_err(|problem| {
            invalid(
                from,
                problem,
                "write one token, or one line `NAME TOKEN` or `NAME TOKEN ROLE` for each person and program; make a \
                 token with: \
                 head -c 32 /dev/urandom | base64",
            )
        })
    }

    pub(super) fn public_read(&self) -> Result<bool, ConfigError> {
        if self.flags.contains_key("--public-read") {
            return Ok(true);
        }
        if self.variable("OFOP_PUBLIC_READ").is_none() {
            return Ok(false);
        }
        self.switch("--public-read", "OFOP_PUBLIC_READ")
    }

    /// For how long something is kept in the state directory.
    pub(super) fn kept(&self, name: &'static str, default: Duration) -> Result<Duration, ConfigError> {
        let Some(Found { text, from }) = self.variable(name) else { return Ok(default) };
        let days = text.trim().strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok());
        let keep = match days {
            Some(days) => Some(Duration::from_secs(u64::from(days) * 24 * 3600)),
            None => parse_duration(&text),
        };
        keep.filter(|keep| (SHORTEST_KEPT..=LONGEST_KEPT).contains(keep)).ok_or_else(|| {
            let reason = format!("`{text}` is not a time from 1h to 3650d");
            invalid(from, reason, "write for example 30d or 36h")
        })
    }

    /// How much of something is kept in the state directory, in bytes.
    pub(super) fn kept_size(&self, name: &'static str, default: u64) -> Result<u64, ConfigError> {
        let Some(Found { text, from }) = self.variable(name) else { return Ok(default) };
        parse_size(&text).filter(|bytes| *bytes == 0 || (SMALLEST_KEPT..=LARGEST_KEPT).contains(bytes)).ok_or_else(
            || {
                let reason = format!("`{text}` is neither 0 nor a size from 1MiB to 16GiB");
                invalid(from, reason, "write for example 256MiB, or 0 to keep nothing on disk")
            },
        )
    }

    pub(super) fn webhook_secret(&self) -> Result<Option<Secret>, ConfigError> {
        let found = self.secret_text("--webhook-secret-file", "OFOP_WEBHOOK_SECRET_FILE", "OFOP_WEBHOOK_SECRET")?;
        let Some(Found { text, from }) = found else { return Ok(None) };
        let secret = text.trim();
        // Blanks are fine: most hosts take any phrase, and send its HMAC.
        if secret.len() < SHORTEST_SECRET || secret.chars().any(char::is_control) {
            return Err(invalid(
                from,
                format!("the webhook secret has fewer than {SHORTEST_SECRET} characters, or several lines"),
                "make one with: head -c 32 /dev/urandom | base64",
            ));
        }
        Ok(Some(Secret::new(secret)))
    }

    /// A secret out of the file that a flag or a variable names, else out of a variable.
    fn secret_text(
        &self,
        flag: &'static str,
        file: &'static str,
        name: &'static str,
    ) -> Result<Option<Found>, ConfigError> {
        debug_assert!(credentials::SETTINGS.contains(&name), "{name} is missing in the list of credentials");
        let Some(Found { text, from }) = self.setting(flag, file) else { return Ok(self.variable(name)) };
        let path = PathBuf::from(text);
        secret_file::read(&from, &path).map(|text| Some(Found { text, from }))
    }
}

/// `1048576`, `1024KiB`, `64MiB`, `2GiB`, in bytes.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
