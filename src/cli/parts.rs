//! The parts that commands and the daemon are put together from, as the configuration says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::CliError;
use super::adapters::{AnyPlatform, AnyRegistry};
use super::context::Context;
use super::problems;
use super::sources::{self, AnySource, Use};
use crate::clock::{Clock as _, SystemClock, rfc3339};
use crate::config::{Config, Host, LeaseTimes, Manifests, RegistryKind};
use crate::desired::{self, remote::RemoteOptions};
use crate::desired::{Loader, LoaderOptions, PolicyFile};
use crate::http::webhook::{Secret, Webhook};
use crate::model::PlatformKind;
use crate::notify;
use crate::notify::file::NotifyFile;
use crate::notify::send::{Connections, KafkaServers};
use crate::plan::{Guard, Policy};
use crate::platform::credentials::Credentials;
use crate::platform::docker::DockerPlatform;
use crate::platform::engine::Engine;
use crate::platform::swarm::{Pace, Swarm};
use crate::reconcile;
use crate::reconcile::lease::{Candidate, Terms};
use crate::registry::embedded::EmbeddedRegistry;
use crate::registry::openfactory::{KafkaSettings, KsqldbSettings, OpenfactoryRegistry, OpenfactorySettings};
use crate::report::Report;
use crate::report::archive::{Archive, Limits};
use crate::report::history::RevisionHistory;

/// The engine's socket when nothing names another address.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Where the engine is, for people.
pub(super) fn host(config: &Config) -> &str {
    config.host.as_ref().map_or(DEFAULT_HOST, Host::as_str)
}

/// What may be done, from the settings.
pub(super) fn policy(context: &Context) -> Policy {
    let config = &context.config;
    Policy {
        instance: config.instance.clone(),
        run: Some(context.run.clone()),
        prune: config.prune,
        guard: Guard { count: config.prune_guard_count, fraction: config.prune_guard_fraction },
        // A command reads the manifests once: nothing can turn up later.
        prune_delay: config.prune_delay.unwrap_or_default(),
        prune_last: config.prune_last,
        windows: config.windows.clone(),
        prune_confirmed: false,
        scope: None,
        remove: std::collections::BTreeSet::new(),
        adopt: std::collections::BTreeMap::new(),
        rollout: config.rollout.clone(),
        progress_deadline: config.progress_deadline,
        expectation: config.expectation,
    }
}

/// The daemon's account of itself, with the events and the history of earlier runs where they are kept.
pub(super) async fn report(context: &Context) -> Report {
    let report = kept_report(context).await;
    report.hide(context.output.hidden.clone());
    let config = &context.config;
    let limits = Limits { keep: config.history_keep, bytes: config.history_max };
    let directory = (config.history_max > 0).then(|| config.state_dir.clone());
    let clock = Arc::new(SystemClock::new());
    let opened = tokio::task::spawn_blocking(move || RevisionHistory::open(directory.as_deref(), limits, clock)).await;
    // It never panics; and without it the daemon works all the same.
    if let Ok(opened) = opened {
        report.keep_history(opened);
    }
    report
}

async fn kept_report(context: &Context) -> Report {
    let config = &context.config;
    let instance = config.instance.clone();
    if config.events_max == 0 {
        return Report::new(instance);
    }
    let limits = Limits { keep: config.events_keep, bytes: config.events_max };
    let clock = SystemClock::new();
    // Two runs that write to one file differ in one or the other.
    let run = format!("{}/{}", std::process::id(), rfc3339(clock.wall()));
    let directory = config.state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Archive::open(&directory, limits, run, Arc::new(clock))).await;
    match opened {
        Ok((archive, restored)) => Report::archived(instance, archive, restored),
        // It never panics; and without it the daemon works all the same.
        Err(_) => Report::new(instance),
    }
}

/// How the loop behaves, from the settings.
pub(super) fn options(context: &Context, policy: Policy) -> reconcile::Options {
    reconcile::Options {
        resync: context.config.resync,
        concurrency: context.config.concurrency.get(),
        ..reconcile::Options::new(policy)
    }
}

/// A reader of the manifests at these paths, or where the configuration says, that answers with what is there now.
///
/// # Errors
/// As [`AnySource::new`].
pub(super) fn loader_at_once(context: &Context, given: &[PathBuf]) -> Result<Loader<AnySource>, CliError> {
    let options = LoaderOptions { policy: policy_file(context, given)?, ..loader_options(context) };
    Ok(Loader::new(AnySource::new(context, given, Use::Once)?, options))
}

/// A reader of nothing.
pub(super) fn loader_of_nothing(context: &Context) -> Loader<AnySource> {
    Loader::new(AnySource::nothing(), loader_options(context))
}

/// What the policy that is set says; nothing is allowed where none is.
///
/// # Errors
/// As [`policy_file`].
pub(super) fn policy_of(context: &Context, given: &[PathBuf]) -> Result<Arc<desired::Policy>, CliError> {
    Ok(policy_file(context, given)?.map(|file| Arc::clone(file.policy())).unwrap_or_default())
}

/// The policy that is set, for manifests at these paths, or where the configuration says.
///
/// # Errors
/// When it cannot be read, is wrong, or may not lie where it does; what is wrong is shown.
fn policy_file(context: &Context, given: &[PathBuf]) -> Result<Option<PolicyFile>, CliError> {
    let Some(path) = &context.config.policy else { return Ok(None) };
    PolicyFile::open(path, sources::folders(&context.config, given)).map(Some).map_err(|problems| {
        problems::show(&problems, &context.output);
        CliError::Policy { path: path.clone() }
    })
}

/// The notification file that is set.
pub(super) fn notify_file(context: &Context) -> Option<NotifyFile> {
    let config = &context.config;
    let path = config.notify.as_ref()?;
    Some(NotifyFile::new(path, sources::folders(config, &[]), config.variables.all()))
}

/// What a notification file says.
///
/// # Errors
/// When it cannot be read, is wrong, or may not lie where it does; what is wrong is shown.
pub(super) fn notify_settings(context: &Context, file: &NotifyFile) -> Result<notify::file::Read, CliError> {
    let read = file.read().map_err(|problems| {
        problems::show(&problems, &context.output);
        CliError::Notify { path: file.path().to_owned() }
    })?;
    context.output.hidden.add(read.settings.secrets());
    Ok(read)
}

/// What connections to sinks are made with.
pub(super) fn connections(context: &Context) -> Connections {
    let config = &context.config;
    let options = config.servers.kafka_options.iter();
    Connections {
        kafka: KafkaServers {
            brokers: config.settings.kafka_broker.clone(),
            options: options.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        },
        authorities: config.remote.ca_file.clone(),
        hidden: context.output.hidden.clone(),
    }
}

/// A reader of the configured manifests that takes a change once it has lasted.
///
/// # Errors
/// As [`AnySource::new`].
pub(super) fn loader_watching(context: &Context) -> Result<Loader<AnySource>, CliError> {
    let options = LoaderOptions { policy: policy_file(context, &[])?, ..loader_options(context) };
    Ok(Loader::new(AnySource::new(context, &[], Use::Watch)?, options.watching()))
}

fn loader_options(context: &Context) -> LoaderOptions {
    let config = &context.config;
    let mut remote = RemoteOptions { ca_file: config.remote.ca_file.clone(), ..RemoteOptions::default() };
    remote.hosts.clone_from(&config.remote.hosts);
    remote.github_token = config.remote.github_token.as_ref().map(|token| token.expose().to_owned());
    if let Some(api) = &config.remote.github_api {
        remote.github_api.clone_from(api);
    }
    if let Some(raw) = &config.remote.github_raw {
        remote.github_raw.clone_from(raw);
    }
    let mut withheld = config.limits.withheld.clone();
    // What the notification file refers to is the operator's, whatever it is called.
    withheld.extend(notify_file(context).into_iter().flat_map(|file| file.variables()));
    LoaderOptions {
        variables: Arc::new(config.variables.all()),
        withheld: Arc::new(withheld),
        unlisted: Arc::new(config.limits.unlisted.clone()),
        secret: Arc::new(config.limits.secret.clone()),
        hidden: context.output.hidden.clone(),
        schema: config.settings.uns_schema.as_ref().map(PathBuf::from),
        remote,
        ..LoaderOptions::at_once(config.settings.platform)
    }
}

/// The engine. Nothing is asked of it yet.
///
/// # Errors
/// When its address means nothing, or its certificates cannot be read.
pub(super) fn engine(context: &Context) -> Result<Engine, CliError> {
    let config = &context.config;
    let host = config.host.as_ref().map_or(Ok(DEFAULT_HOST), Host::reachable)?;
    Ok(Engine::new(host, config.tls_directory.as_deref())
        .map_err(CliError::Platform)?
        .with_credentials(config.docker_config.as_ref().map(Credentials::of_directory).unwrap_or_default()))
}

/// What runs services. Nothing is asked of the engine yet; must be called within the runtime.
///
/// # Errors
/// As [`engine`].
pub(super) fn platform(context: &Context) -> Result<Arc<AnyPlatform>, CliError> {
    let config = &context.config;
    let engine = engine(context)?;
    let pace = Pace { resync: config.resync, follow: config.follow };
    Ok(Arc::new(match config.settings.platform {
        PlatformKind::Swarm => AnyPlatform::Swarm(Swarm::start(engine, pace, &config.instance)),
        PlatformKind::Docker => {
            AnyPlatform::Docker(Box::new(DockerPlatform::start(engine, pace, &config.state_dir, &config.instance)))
        }
    }))
}

/// Who this run is, as the lease says it; `listens` is where it serves its API.
pub(super) fn candidate(context: &Context, listens: Option<SocketAddr>) -> Candidate {
    let scheme = if context.config.tls.is_some() { "https://" } else { "" };
    let address = listens.map(|address| match address.ip().is_unspecified() {
        true => format!("{scheme}{}:{}", context.run.host(), address.port()),
        false => format!("{scheme}{address}"),
    });
    Candidate { run: context.run.clone(), version: env!("CARGO_PKG_VERSION").into(), address }
}

/// How long the lease lasts.
///
/// # Errors
/// When the times do not go together, which the configuration has checked.
pub(super) fn terms(config: &Config) -> Result<Terms, CliError> {
    let LeaseTimes { lease, renew } = config.lease;
    Terms::new(lease, renew).map_err(|error| CliError::usage(error.to_string(), "change --lease or --lease-renew"))
}

/// Where Kafka and ksqlDB are and how to talk to them.
pub(super) fn openfactory(config: &Config) -> OpenfactorySettings {
    let servers = &config.servers;
    let options = servers.kafka_options.iter();
    OpenfactorySettings {
        kafka: KafkaSettings {
            brokers: config.settings.kafka_broker.clone(),
            options: options.map(|(name, value)| ((*name).to_owned(), value.expose().to_owned())).collect(),
        },
        ksqldb: KsqldbSettings {
            url: config.settings.ksqldb_url.clone(),
            username: servers.ksqldb_username.clone(),
            password: servers.ksqldb_password.as_ref().map(|password| password.expose().to_owned()),
            certificate_authority: servers.ksqldb_ca_file.clone(),
            insecure_credentials: servers.ksqldb_insecure_credentials,
        },
        interval: config.resync,
    }
}

/// What holds records. Nothing is asked of it yet; must be called within the runtime.
///
/// # Errors
/// When the registry cannot be used with these settings.
pub(super) fn registry(context: &Context) -> Result<Arc<AnyRegistry>, CliError> {
    let config = &context.config;
    match config.registry {
        RegistryKind::Embedded => {
            Ok(Arc::new(AnyRegistry::Embedded(EmbeddedRegistry::new(&config.state_dir, Arc::new(SystemClock::new())))))
        }
        RegistryKind::Openfactory => {
            let registry = OpenfactoryRegistry::new(openfactory(config), Arc::new(SystemClock::new()));
            Ok(Arc::new(AnyRegistry::Openfactory(Box::new(registry.map_err(CliError::Registry)?))))
        }
    }
}

/// What hosts of repositories call. Pushes to another branch than the one that is followed do not count; to a
/// directory, and to a repository's default branch, whose name may change, any push may matter.
///
/// # Errors
/// When the secret cannot be one.
pub(super) fn webhook(
    context: &Context,
    report: Report,
    tell: impl Fn() + Send + Sync + 'static,
) -> Result<Webhook, CliError> {
    let config = &context.config;
    let secret = config.webhook_secret.as_ref().map(|secret| Secret::new(secret.expose())).transpose();
    let secret = secret
        .map_err(|error| CliError::usage(error.to_string(), "make one with: head -c 32 /dev/urandom | base64"))?;
    let reference = match &config.manifests {
        Some(Manifests::Git(git)) => git.branch.as_deref(),
        Some(Manifests::Directory(_)) | None => None,
    };
    Ok(Webhook::new(report, tell).secret(secret).reference(reference))
}
