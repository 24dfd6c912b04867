//! Connections: accepted, bounded, and ended.
//!
//! `axum::serve` bounds neither the number of connections nor the time that a client may take over its
//! request's head, so that anybody who reaches the port could hold every file descriptor. The limits are in
//! [`super::connections`].

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::{debug, warn};

use super::auth::Peer;
use super::connections::{Connections, Lasting, NEXT_HEAD, PeerKey, Phase, Slot};
use super::head::AmbiguousLength;
use super::tls::Tls;
use super::wire::{Answer, Wire};
use crate::report::Report;

/// How long to wait after an accept failed, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers connections until `shutdown` is done; then those in flight get the grace.
pub(super) async fn run(
    listener: TcpListener,
    secure: Option<(Tls, Report)>,
    router: Router,
    closing: CancellationToken,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = pin!(shutdown);
    let connections = Connections::default();
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Some(slot) = connections.admit(PeerKey::of(peer.ip())).map(Arc::new) else {
            debug!(peer = %peer.ip(), "too many connections: one is closed");
            continue;
        };
        let (router, serving, secure) = (router.clone(), Arc::clone(&slot), secure.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            begin(&mut request, &serving);
            request.extensions_mut().insert(Peer(peer.ip()));
            let (answer, slot) = (router.clone().call(request), Arc::clone(&serving));
            async move {
                let answer = answer.await?;
                if answer.extensions().get::<Lasting>().is_some() {
                    slot.enter(Phase::Streaming);
                }
                Ok::<_, Infallible>(answer.map(|body| Answer::new(body, slot)))
            }
        });
        let (watcher, wire) = (graceful.watcher(), Arc::clone(&slot));
        let connection = async move {
            match secure {
                None => answer(stream, wire, service, watcher).await,
                Some((tls, report)) => match tls.accept(stream, &report).await {
                    Ok(stream) => answer(stream, wire, service, watcher).await,
                    Err(error) => debug!(%error, "a client did not come to speak TLS"),
                },
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = connection => {}
                () = slot.over() => debug!(peer = %peer.ip(), "a connection was ended"),
            }
        });
    }
    drop(listener);
    closing.cancel();
    if tokio::time::timeout(super::SHUTDOWN_GRACE, graceful.shutdown()).await.is_err() {
        debug!("connections were cut at shutdown");
    }
}

/// Answers the requests of one connection.
async fn answer<S, H>(stream: S, slot: Arc<Slot>, service: H, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Service<hyper::Request<Incoming>, Response = hyper::Response<Answer>, Error = Infallible>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_HEAD)
        .serve_connection(TokioIo::new(Wire::new(stream, slot)), service);
    if let Err(error) = watcher.watch(connection).await {
        // A client that went away; nothing that we could mend.
        debug!(%error, "a connection ended early");
    }
}

/// Notes that a request is being answered. The parser takes a request whose head names a length and chunks as well, and
/// drops the length: who is between us and the client may have read it the other way.
fn begin(request: &mut hyper::Request<Incoming>, slot: &Slot) {
    if request.headers().contains_key(header::TRANSFER_ENCODING)
        && slot.names_length(request.method().as_str()) != Some(false)
    {
        request.extensions_mut().insert(AmbiguousLength);
    }
    slot.enter(Phase::Answering);
}
