//! TLS of the listener: a certificate chain and its key, read again when the files change.
//!
//! # Guarantees
//!
//! - Whether the files have changed is looked at for each new connection; no restart and no signal is needed.
//! - A pair that cannot be used leaves the one before in force, and the report's warnings say so until there is a good one.
//!   Between the replacement of one file and that of the other that is what happens.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::report::Report;

/// How long a look at the files may take before a connection goes on with what was read last.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the trouble with the files is called in the report.
const TROUBLE: &str = "tls";

/// Where connections come from: a listener, behind TLS or not.
#[derive(Debug)]
pub struct Door {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Tls>,
}

impl Door {
    /// A listener behind TLS.
    pub fn secure(listener: TcpListener, tls: Tls) -> Self {
        Door { listener, tls: Some(tls) }
    }
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Door { listener, tls: None }
    }
}

/// Why a certificate and a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file with the certificates holds none.
    #[error("`{}` holds no certificate in PEM", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// The file with the key holds none.
    #[error("`{}` holds no private key in PEM that is not encrypted", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// Both can be read, and do not belong together or are of a kind that is not supported.
    #[error("the certificate and the key cannot be used together: {reason}")]
    Pair {
        /// Why.
        reason: String,
    },
}

/// The certificate and the key that are in force, with the files that they come from. Clones share them.
#[derive(Clone)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Mutex<Current>>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// How the files looked when they were last read.
    seen: [Option<Signature>; 2],
    trouble: Option<TlsError>,
}

/// Without what it holds.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).field("key", &self.key).finish_non_exhaustive()
    }
}

/// What tells whether a file may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature([i64; 6], u64);

impl Signature {
    fn of(metadata: &Metadata) -> Self {
        let number = |value: u64| i64::from_ne_bytes(value.to_ne_bytes());
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        let [modified, nanoseconds, changed, of_change] = times;
        Signature(
            [number(metadata.dev()), number(metadata.ino()), modified, nanoseconds, changed, of_change],
            metadata.len(),
        )
    }
}

impl Tls {
    /// Reads a certificate chain and its key, both in PEM. Blocks.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let seen = signatures(certificate, key);
        let current = Current { config: read(certificate, key)?, seen, trouble: None };
        let current = Arc::new(Mutex::new(current));
        Ok(Tls { certificate: certificate.to_owned(), key: key.to_owned(), current })
    }

    /// Greets a client, with what the files hold now.
    ///
    /// # Errors
    /// When the client breaks off or speaks something else.
    pub(super) async fn accept(&self, stream: TcpStream, report: &Report) -> io::Result<TlsStream<TcpStream>> {
        let (tls, told) = (self.clone(), report.clone());
        // A file system that hangs holds up nobody for longer than that.
        let _ = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(move || tls.renew(&told))).await;
        TlsAcceptor::from(self.config()).accept(stream).await
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Reads the files if they have changed. Blocks.
    fn renew(&self, report: &Report) {
        let seen = signatures(&self.certificate, &self.key);
        if self.current.lock().unwrap_or_else(PoisonError::into_inner).seen == seen {
            return;
        }
        let found = read(&self.certificate, &self.key);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.seen = seen;
        let trouble = match found {
            Ok(config) => {
                info!(certificate = %self.certificate.display(), "another certificate is in force");
                current.config = config;
                None
            }
            Err(error) => Some(error),
        };
        if current.trouble == trouble {
            return;
        }
        if let Some(error) = &trouble {
            warn!(%error, "the certificate that was read last stays in force");
        }
        report.trouble(
            TROUBLE,
            trouble.as_ref().map(|error| format!("TLS: the certificate that was read last stays in force: {error}")),
        );
        current.trouble = trouble;
    }
}

fn signatures(certificate: &Path, key: &Path) -> [Option<Signature>; 2] {
    [certificate, key].map(|path| fs::metadata(path).ok().map(|metadata| Signature::of(&metadata)))
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let bytes = |path: &Path| {
        fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), reason: error.to_string() })
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| TlsError::NoCertificate { path: certificate.to_owned() })?;
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|_| TlsError::NoKey { path: key.to_owned() })?;
    let pair = |error: rustls::Error| TlsError::Pair { reason: error.to_string() };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
