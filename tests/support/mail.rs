//! A mail server on loopback that speaks SMTP with STARTTLS and keeps what it gets.

#![allow(clippy::unwrap_used, dead_code, reason = "support for tests")]

#[path = "tls.rs"]
mod tls;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A mail that came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mail {
    /// What was signed in with: `\0USER\0PASSWORD`.
    pub(crate) login: String,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// Headers and body, as they came.
    pub(crate) text: String,
}

#[derive(Default)]
struct Shared {
    mails: Mutex<Vec<Mail>>,
    /// What came before TLS.
    in_clear: Mutex<String>,
    no_tls: AtomicBool,
}

/// The server. It runs for as long as the runtime.
pub(crate) struct Server {
    pub(crate) port: u16,
    authority: tls::Authority,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        let authority = tls::Authority::new();
        let file = authority.key_and_certificate();
        let chain = CertificateDer::pem_file_iter(&file).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&file).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // What a client breaks off is not the server's problem.
                tokio::spawn(converse(stream, acceptor.clone(), Arc::clone(&serving)));
            }
        });
        Server { port, authority, shared }
    }

    /// The authority that signed its certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// Whether it offers STARTTLS from now on.
    pub(crate) fn offer_tls(&self, offer: bool) {
        self.shared.no_tls.store(!offer, Ordering::SeqCst);
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.shared.mails.lock().unwrap().clone()
    }

    /// Everything that came before TLS.
    pub(crate) fn in_clear(&self) -> String {
        self.shared.in_clear.lock().unwrap().clone()
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 localhost ESMTP\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        shared.in_clear.lock().unwrap().push_str(&line);
        let no_tls = shared.no_tls.load(Ordering::SeqCst);
        match line.split_whitespace().next().unwrap_or_default() {
            "EHLO" if no_tls => stream.write_all(b"250-localhost\r\n250 AUTH PLAIN\r\n").await?,
            "EHLO" => stream.write_all(b"250-localhost\r\n250 STARTTLS\r\n").await?,
            "STARTTLS" if !no_tls => {
                stream.write_all(b"220 go ahead\r\n").await?;
                let secure = acceptor.accept(stream.into_inner()).await?;
                return in_secret(BufReader::new(secure), &shared).await;
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n").await,
            _ => stream.write_all(b"530 5.7.0 Must issue a STARTTLS command first\r\n").await?,
        }
    }
}

async fn in_secret<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<S>,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut mail = Mail::default();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => "250-localhost\r\n250-8BITMIME\r\n250 AUTH PLAIN",
            "AUTH" => {
                let given = STANDARD.decode(line.trim_start_matches("AUTH PLAIN ")).unwrap();
                mail.login = String::from_utf8(given).unwrap();
                "235 2.7.0 welcome"
            }
            "MAIL" if mail.login.is_empty() => "530 5.7.0 Authentication required",
            "MAIL" => {
                mail.from = line["MAIL FROM:".len()..].split(' ').next().unwrap().to_owned();
                "250 ok"
            }
            "RCPT" => {
                mail.to.push(line["RCPT TO:".len()..].to_owned());
                "250 ok"
            }
            "DATA" => {
                stream.write_all(b"354 end with a dot\r\n").await?;
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await? == 0 {
                        return Ok(());
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    mail.text.push_str(&line);
                }
                let login = mail.login.clone();
                shared.mails.lock().unwrap().push(std::mem::take(&mut mail));
                mail.login = login;
                "250 2.0.0 queued as 4711"
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n").await,
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}
