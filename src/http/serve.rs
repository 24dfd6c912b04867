//! Connections: accepted, bounded, and ended.
//!
//! `axum::serve` bounds neither the number of connections nor the time that a client may take over its
//! request's head, so that anybody who reaches the port could hold every file descriptor.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::{debug, warn};

use super::auth::Peer;

/// How many connections may be open: browsers' tabs, scrapers and followers of events, with room to spare
/// under the usual limit of 1,024 descriptors.
const MAX_CONNECTIONS: usize = 256;

/// How long a client may take over a request's head, waiting for its first byte included. Longer than the
/// usual scrape interval, so that scrapers keep their connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How long to wait after an accept failed, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers connections until `shutdown` is done; then those in flight get the grace.
pub(super) async fn run(
    listener: TcpListener,
    router: Router,
    closing: CancellationToken,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = pin!(shutdown);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        let ((stream, peer), slot) = tokio::select! {
            () = &mut shutdown => break,
            (accepted, slot) = accepted => match accepted {
                Ok(accepted) => (accepted, slot),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let router = router.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer.ip()));
            router.clone().call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // A client that went away; nothing that we could mend.
                debug!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    closing.cancel();
    if tokio::time::timeout(super::SHUTDOWN_GRACE, graceful.shutdown()).await.is_err() {
        debug!("connections were cut at shutdown");
    }
}
