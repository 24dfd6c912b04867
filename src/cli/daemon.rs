//! The composition root of `ofop run`: puts the parts together, serves HTTP, and stops tidily.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::context::Context;
use super::{CliError, Exit, parts, signals};
use crate::clock::SystemClock;
use crate::compile::Compiler;
use crate::desired::Source as _;
use crate::http::{self, Token, Tokens};
use crate::plan::{DEFAULT_PRUNE_DELAY, Policy};
use crate::reconcile::{self, Keeper};

/// How many words of people may wait for the loop, which takes them within milliseconds.
const COMMANDS: usize = 64;

/// How long handing the lease back may take: one write. A supervisor waits ten seconds for the end of a process, and
/// calls in flight have most of that.
const HAND_BACK: Duration = Duration::from_secs(2);

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
    let tokens = config.tokens.iter().map(|token| {
        Token::named(&token.name, token.secret.expose())
            .map_err(|error| CliError::usage(error.to_string(), "make one with: head -c 32 /dev/urandom | base64"))
    });
    let tokens = tokens.collect::<Result<Tokens, CliError>>()?;

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
        http = %format_args!("http://{address}/"),
        api_tokens = config.tokens.len(),
        webhook = config.webhook_secret.is_some(),
        "ofop keeps the cluster in the desired state"
    );
    let closing = stop.clone();
    let server =
        tokio::spawn(http::serve_with(listener, report.clone(), sender, tokens, webhook.routes(), async move {
            closing.cancelled().await;
        }));
    let finished = reconcile::run(parts, options, stop.clone()).await;
    // While a call is in flight nobody else may act: then the lease runs out by itself.
    if finished {
        keeper.hand_back(HAND_BACK).await;
    }
    stop.cancel();
    // What the server says at its end is of no use to anybody any more.
    let _ = server.await;
    // It waits for a file.
    let _ = tokio::task::spawn_blocking(move || report.close()).await;
    info!(finished, "stopped");
    Ok(Exit::Success)
}
