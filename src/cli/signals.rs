//! SIGTERM and SIGINT: the first one asks to finish, the second one ends the process.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Exit;

/// Cancels `stop` at the first signal; at the second, ends the process at once.
pub(super) fn cancel_on_signal(stop: CancellationToken) {
    let (Some(mut terminate), Some(mut interrupt)) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        info!(signal = name, "finishing what is under way; a second signal ends at once");
        stop.cancel();
        let name = either(&mut terminate, &mut interrupt).await;
        warn!(signal = name, "ending at once");
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
}

/// Without a handler the signal ends the process, as it would have without us.
fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind).map_err(|error| warn!(%error, "signals cannot be handled")).ok()
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
