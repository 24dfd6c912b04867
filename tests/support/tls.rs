//! Certificates of a test's own, and TLS in front of a server that speaks none.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "support for tests")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

/// A certificate authority, and a certificate for loopback that it signed.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path());
        // One file with both, as Kafka takes it.
        let both = ["leaf.key", "leaf.pem"].map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
        fs::write(folder.path().join("both.pem"), both.concat()).unwrap();
        Authority { folder }
    }

    /// The authority's own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The key and the certificate of a server on loopback.
    pub(crate) fn key_and_certificate(&self) -> PathBuf {
        self.folder.path().join("both.pem")
    }

    /// Speaks TLS on a port of loopback and hands everything on to `server`, for as long as the runtime lives.
    pub(crate) async fn in_front_of(&self, server: SocketAddr) -> u16 {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_file_iter(self.folder.path().join("leaf.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.folder.path().join("leaf.key")).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // What a client breaks off is not the server's problem.
                    let (Ok(mut client), Ok(mut server)) =
                        tokio::join!(acceptor.accept(client), TcpStream::connect(server))
                    else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        port
    }
}

/// `ca.pem`, and `leaf.pem` with `leaf.key`, in a folder.
pub(crate) fn make_certificates(folder: &Path) {
    fs::write(folder.join("leaf.ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    const KEY: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test authority"];
    openssl(folder, &[&ca, KEY].concat());
    let request = ["req", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost"];
    openssl(folder, &[&request, KEY].concat());
    let sign = ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(folder, &[&sign[..], &["-out", "leaf.pem", "-days", "2", "-extfile", "leaf.ext"]].concat());
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
