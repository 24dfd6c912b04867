//! The composition root of `ofop run`: puts the parts together, serves HTTP, and stops tidily.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::context::Context;
use super::{CliError, Exit, parts, signals};
use crate::clock::SystemClock;
use crate::compile::Compiler;
use crate::config::{Config, TlsFiles};
use crate::desired::Source as _;
use crate::http::{self, Door, MAKE_A_TOKEN, Tls, Token, Tokens};
use crate::notify;
use crate::plan::{DEFAULT_PRUNE_DELAY, Policy};
use crate::reconcile::{self, Keeper};

/// How many words of people may wait for the loop, which takes them within milliseconds.
const COMMANDS: usize = 64;

/// How long handing the lease back may take: one write. A supervisor waits ten seconds for the end of a process, and
/// calls in flight have most of that.
const HAND_BACK: Duration = Duration::from_secs(2);

/// How long a notification that is being delivered may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Reconciles until told to stop.
///
/// # Errors
/// When it cannot begin: no directory is named, the address is taken, the state directory cannot be used. An
/// engine that does not answer is no reason: it is looked for again and again.
pub(super) async fn run(context: &Context) -> Result<Exit, CliError> {
    let config = &context.config;
    let loader = parts::loader_watching(context)?;
    let source = Arc::clone(loader.source());
    let listener =
        TcpListener::bind(config.listen).await.map_err(|source| CliError::Listen { address: config.listen, source })?;
    let address = listener.local_addr().unwrap_or(config.listen);
    config.tls.as_ref().map(TlsFiles::guarded).transpose()?;
    let tls = config.tls.as_ref().map(|files| Tls::open(&files.certificate, &files.key)).transpose();
    let tls =
        tls.map_err(|error| CliError::usage(error.to_string(), "name both, in PEM, with --tls-cert and --tls-key"))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let door = match tls {
        Some(tls) => Door::secure(listener, tls),
        None => Door::from(listener),
    };
    let tokens = config.tokens.iter().map(|token| {
        Token::named(&token.name, token.secret.expose())
            .map(|named| named.role(token.role))
            .map_err(|error| CliError::usage(error.to_string(), "make one with: head -c 32 /dev/urandom | base64"))
    });
    let tokens = tokens.collect::<Result<Tokens, CliError>>()?.public_read(config.public_read);

    let notify = parts::notify_file(context)
        .map(|file| parts::notify_settings(context, &file).map(|read| (file, read)))
        .transpose()?;
    let report = parts::report(context).await;
    let webhook = parts::webhook(context, report.clone(), loader.nudge())?;
    let (sender, commands) = mpsc::channel(COMMANDS);
    let (platform, clock) = (parts::platform(context)?, Arc::new(SystemClock::new()));
    let me = parts::candidate(context, Some(address));
    let run = me.run.clone();
    let keeper =
        Keeper::start(Arc::new(platform.lease()), Arc::clone(&clock), me, parts::terms(config)?, Some(report.clone()));
    platform.guard(&keeper.leadership(), &clock);
    let parts = reconcile::Parts {
        loader,
        compiler: Compiler::new(config.settings.clone()),
        platform,
        registry: parts::registry(context)?,
        clock,
        report: report.clone(),
        commands: Some(commands),
        leadership: keeper.leadership(),
    };
    let prune_delay = config.prune_delay.unwrap_or(DEFAULT_PRUNE_DELAY);
    let options = parts::options(context, Policy { prune_delay, ..parts::policy(context) });

    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        desired = %source.place().location,
        platform = config.settings.platform.as_str(),
        registry = config.registry.as_str(),
        instance = %config.instance,
        run = %run,
        engine = parts::host(config),
        http = %format_args!("{scheme}://{address}/"),
        api_tokens = config.tokens.len(),
        webhook = config.webhook_secret.is_some(),
        "ofop keeps the cluster in the desired state"
    );
    if let Some(warning) = exposure(config, address) {
        warn!("{warning}");
    }
    let told = CancellationToken::new();
    let notifications = notify.map(|(file, read)| {
        let parts = notify::Parts {
            report: report.clone(),
            file,
            read,
            state_dir: config.state_dir.clone(),
            instance: config.instance.clone(),
            connections: parts::connections(context),
            clock: Arc::new(SystemClock::new()),
        };
        tokio::spawn(notify::run(parts, told.clone()))
    });
    let closing = stop.clone();
    let server = tokio::spawn(http::serve_with(door, report.clone(), sender, tokens, webhook.routes(), async move {
        closing.cancelled().await;
    }));
    let finished = reconcile::run(parts, options, stop.clone()).await;
    // While a call is in flight nobody else may act: then the lease runs out by itself.
    if finished {
        keeper.hand_back(HAND_BACK).await;
    }
    stop.cancel();
    told.cancel();
    if let Some(notifications) = notifications {
        // What is not delivered by then is kept, and delivered by the next run.
        let _ = tokio::time::timeout(LAST_WORDS, notifications).await;
    }
    // What the server says at its end is of no use to anybody any more.
    let _ = server.await;
    // It waits for a file.
    let _ = tokio::task::spawn_blocking(move || report.close()).await;
    info!(finished, "stopped");
    Ok(Exit::Success)
}

/// What to tell whoever starts the daemon on an address that others reach.
fn exposure(config: &Config, address: SocketAddr) -> Option<String> {
    if address.ip().is_loopback() {
        return None;
    }
    if config.public_read {
        return Some(format!(
            "--public-read: whoever reaches {address} reads the status page and the API without a token"
        ));
    }
    config.tokens.is_empty().then(|| {
        format!(
            "nobody may read the status page and the API at {address}, for want of a token: {MAKE_A_TOKEN}, or give \
             --public-read to let everybody read who reaches it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Variables};

    #[test]
    fn who_may_read_is_told_where_others_reach_the_daemon() {
        let warning = |flags: &[&'static str], variables: &[(&str, &str)], address: &str| {
            let flags: Flags = flags.iter().map(|flag| (*flag, String::new())).collect();
            let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            let config = Config::load(&flags, Variables::load(variables, None).unwrap()).unwrap();
            exposure(&config, address.parse().unwrap()).unwrap_or_default()
        };
        let token = ("OFOP_TOKEN", "0123456789abcdef");
        assert_eq!(warning(&[], &[], "127.0.0.1:8420"), "");
        assert_eq!(warning(&[], &[token], "0.0.0.0:8420"), "");
        assert!(warning(&[], &[], "0.0.0.0:8420").starts_with("nobody may read"));
        assert!(warning(&["--public-read"], &[token], "[::]:8420").starts_with("--public-read: whoever reaches"));
        assert!(warning(&[], &[("OFOP_PUBLIC_READ", "true")], "10.0.0.7:1").starts_with("--public-read"));
        assert_eq!(warning(&[], &[token, ("OFOP_PUBLIC_READ", "false")], "10.0.0.7:1"), "");
    }
}
