//! Connections: a Unix socket, TCP, or TCP with TLS.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use http_body_util::{Either, Full, StreamBody};
use hyper::Uri;
use hyper::body::{Bytes, Frame};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::address::Address;
use crate::platform::PlatformError;

/// How long connecting may take, TLS included.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long an unused connection stays open. Short, since a restarted engine leaves dead ones behind.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// How many unused connections stay open: a few more than calls that run at once.
const IDLE_CONNECTIONS: usize = 16;

/// A body of a request, the very type that `bollard` sends, so that both share one pool.
type Body = Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>>>;

/// A pool of connections.
pub(super) type Client = hyper_util::client::legacy::Client<Connector, Body>;

/// Whether calls that change something may be sent, asked at the very moment when their bytes would leave.
///
/// A call is handed to the task of its connection, and whoever waits for it cannot take it back from there in time: a
/// process that was stopped in between would send it when it goes on. Until somebody guards it, a gate is open. Clones
/// share it.
#[derive(Clone, Default)]
pub struct Gate(Arc<RwLock<Option<Passes>>>);

type Passes = Box<dyn Fn() -> bool + Send + Sync>;

impl Gate {
    /// From now on what may be sent is what `passes` says.
    pub fn guard(&self, passes: impl Fn() -> bool + Send + Sync + 'static) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(passes));
    }

    fn is_open(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(|passes| passes())
    }
}

/// A pool of connections.
pub(super) fn client(connector: Connector) -> Client {
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(hyper_util::rt::TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build(connector)
}

/// What is needed to begin TLS.
#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Reads the certificates of Docker's convention.
fn tls(directory: &Path, host: &str) -> Result<Tls, PlatformError> {
    let broken = |file: &str, error: &dyn std::fmt::Display| PlatformError {
        message: format!("cannot use {}: {error}", directory.join(file).display()),
        hint: Some("DOCKER_CERT_PATH names the directory of ca.pem, cert.pem and key.pem".into()),
    };
    let read = |file: &'static str| {
        CertificateDer::pem_file_iter(directory.join(file))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| broken(file, &error))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in read("ca.pem")? {
        roots.add(certificate).map_err(|error| broken("ca.pem", &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).map_err(|error| broken("key.pem", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| broken("ca.pem", &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(read("cert.pem")?, key)
        .map_err(|error| broken("cert.pem", &error))?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| PlatformError {
        message: format!("`{host}` cannot be the name on a certificate: {error}"),
        hint: None,
    })?;
    Ok(Tls { connector: TlsConnector::from(Arc::new(config)), name })
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    address: Arc<Address>,
    tls: Option<Tls>,
    gate: Gate,
}

impl Connector {
    /// To `address`, through no gate.
    ///
    /// # Errors
    /// When the certificates cannot be read.
    pub(super) fn new(address: &Address) -> Result<Self, PlatformError> {
        let tls = match address {
            Address::Unix(_) | Address::Tcp { .. } => None,
            Address::Tls { certificates, host, .. } => Some(tls(certificates, host)?),
        };
        Ok(Connector { address: Arc::new(address.clone()), tls, gate: Gate::default() })
    }

    /// The same through a gate.
    pub(super) fn through(self, gate: Gate) -> Self {
        Connector { gate, ..self }
    }

    async fn open(self) -> io::Result<TokioIo<Wire>> {
        let open = async {
            let wire: Box<dyn Duplex> = match (&*self.address, self.tls) {
                (Address::Unix(path), _) => Box::new(UnixStream::connect(path).await?),
                (Address::Tcp { host, port }, _) | (Address::Tls { host, port, .. }, None) => {
                    Box::new(tcp(host, *port).await?)
                }
                (Address::Tls { host, port, .. }, Some(tls)) => {
                    Box::new(tls.connector.connect(tls.name, tcp(host, *port).await?).await?)
                }
            };
            Ok(TokioIo::new(Wire { wire, gate: self.gate }))
        };
        match tokio::time::timeout(CONNECT_TIME, open).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} s", CONNECT_TIME.as_secs()),
            )),
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Wire>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().open())
    }
}

/// Anything that bytes go through in both directions.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection of any kind.
pub(super) struct Wire {
    wire: Box<dyn Duplex>,
    gate: Gate,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.gate.is_open() {
            let late = "the right to change anything ended before the call was sent";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, late)));
        }
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
