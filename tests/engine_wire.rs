//! The ways to an engine over a network: plain TCP, TLS with certificates on both sides, and what is said when
//! the two do not fit together.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ofop::platform::engine::Engine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

const ENGINE_20_10: &str = r#"{"ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;

/// Certificates in Docker's layout, all made by one authority: for a client, and for a server at `localhost`.
fn certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        let output =
            Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().expect("openssl runs");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca-key.pem -out ca.pem -subj /CN=authority -days 2"));
    for (cert, key_file) in [("server.pem", "server-key.pem"), ("cert.pem", "key.pem")] {
        openssl(&format!(
            "req {key} -keyout {key_file} -out request.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        ));
        openssl(&format!(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -copy_extensions copy -out {cert} -days 2"
        ));
    }
}

/// Answers every request on a connection's first line with this text.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    assert!(request.starts_with(b"GET /version HTTP/1.1"));
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", text.len());
    stream.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
}

/// Something that speaks like an engine, without TLS; its port.
async fn plain(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream, text).await;
        }
    });
    port
}

/// The same with TLS; it lets only clients in whose certificate its own authority made.
async fn secured(dir: &Path) -> u16 {
    let read = |file: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(dir.join(file)).unwrap().map(Result::unwrap).collect()
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(read("ca.pem").remove(0)).unwrap();
    let clients =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(read("server.pem"), PrivateKeyDer::from_pem_file(dir.join("server-key.pem")).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, ENGINE_20_10).await;
            }
        }
    });
    port
}

#[tokio::test]
async fn tcp_with_certificates_is_tls_on_both_sides() {
    let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(ours.path());
    certificates(others.path());
    let host = format!("tcp://localhost:{}", secured(ours.path()).await);

    let engine = Engine::new(&host, Some(ours.path())).unwrap();
    assert_eq!(engine.negotiate().await.unwrap(), 41);

    // An engine of another authority is not believed, and what to check is said.
    let error = Engine::new(&host, Some(others.path())).unwrap().negotiate().await.unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("DOCKER_CERT_PATH")), "{error:?}");

    // Nor does one get in without TLS.
    assert!(Engine::new(&host, None).unwrap().negotiate().await.is_err());

    std::fs::write(ours.path().join("key.pem"), "not a key").unwrap();
    let error = Engine::new(&host, Some(ours.path())).err().unwrap();
    assert!(error.message.contains("key.pem"), "{error:?}");
}

#[tokio::test]
async fn the_version_is_what_both_sides_speak() {
    for (text, agreed) in [
        (ENGINE_20_10, 41),
        (r#"{"ApiVersion":"1.47","MinAPIVersion":"1.24"}"#, 47),
        (r#"{"ApiVersion":"1.99","MinAPIVersion":"1.44"}"#, ofop::platform::engine::NEWEST_API),
    ] {
        let engine = Engine::new(&format!("tcp://127.0.0.1:{}", plain(text).await), None).unwrap();
        assert_eq!(engine.negotiate().await.unwrap(), agreed, "{text}");
        assert_eq!(engine.api(), agreed);
    }
    for (text, hint) in [
        (r#"{"ApiVersion":"1.40","MinAPIVersion":"1.12"}"#, "20.10"),
        (r#"{"ApiVersion":"1.99","MinAPIVersion":"1.90"}"#, "update ofop"),
    ] {
        let engine = Engine::new(&format!("tcp://127.0.0.1:{}", plain(text).await), None).unwrap();
        let error = engine.negotiate().await.unwrap_err();
        assert!(error.hint.as_deref().is_some_and(|said| said.contains(hint)), "{error:?}");
    }
}

/// An engine that refuses every version but those from its minimum to its newest one, as Engine 29 does; its port. The
/// versions can change under an operator, as when the engine is updated.
async fn strict(versions: Arc<std::sync::Mutex<(u32, u32)>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let (oldest, newest) = *versions.lock().unwrap();
            let request = String::from_utf8_lossy(&request);
            let path = request.split(' ').nth(1).unwrap_or_default();
            let asked: Option<u32> =
                path.strip_prefix("/v1.").and_then(|rest| rest.split('/').next()).and_then(|minor| minor.parse().ok());
            let (status, body) = match asked {
                None => (200, format!(r#"{{"ApiVersion":"1.{newest}","MinAPIVersion":"1.{oldest}"}}"#)),
                Some(minor) if minor < oldest => (
                    400,
                    format!(
                        r#"{{"message":"client version 1.{minor} is too old. Minimum supported API version is 1.{oldest}, please upgrade your client to a newer version"}}"#
                    ),
                ),
                Some(minor) => (200, format!(r#"{{"version":{minor}}}"#)),
            };
            let head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test]
async fn the_first_call_agrees_on_a_version_and_so_does_the_first_one_to_an_engine_that_was_replaced() {
    use hyper::Method;
    use hyper::body::Bytes;
    use ofop::platform::engine::Act;

    let versions = Arc::new(std::sync::Mutex::new((44, 56)));
    let engine = Engine::new(&format!("tcp://127.0.0.1:{}", strict(Arc::clone(&versions)).await), None).unwrap();
    let write = || engine.send(Act::write("create a service"), Method::POST, "/services/create", Bytes::new());
    assert_eq!(write().await.unwrap(), r#"{"version":56}"#, "a write before anything was read");

    *versions.lock().unwrap() = (60, 60);
    let error = write().await.unwrap_err();
    let kind = error.kind(|_, _, _| panic!("it is no refusal of what was asked for"));
    assert_eq!(kind, ofop::model::FailureKind::Unavailable, "{error}");

    *versions.lock().unwrap() = (45, 50);
    assert_eq!(write().await.unwrap(), r#"{"version":50}"#);
    *versions.lock().unwrap() = (51, 52);
    assert_eq!(write().await.unwrap(), r#"{"version":52}"#, "replaced between two calls");
}

/// An engine that keeps its connections open; what it was asked, a line each.
async fn recording() -> (u16, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
                    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                        bytes.drain(..end + 4);
                        let line = head.lines().next().unwrap_or_default();
                        seen.lock().unwrap().push(line.trim_end_matches(" HTTP/1.1").to_owned());
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", ENGINE_20_10.len());
                        stream.write_all(format!("{answer}{ENGINE_20_10}").as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_call_that_waits_in_its_connection_is_not_sent_once_the_gate_is_closed() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use hyper::Method;
    use hyper::body::Bytes;
    use ofop::platform::engine::Act;

    let (port, asked) = recording().await;
    let engine = Engine::new(&format!("tcp://127.0.0.1:{port}"), None).unwrap();
    let remove = |engine: Engine| async move {
        engine.send(Act::write("remove a service"), Method::DELETE, "/services/x", Bytes::new()).await
    };
    let deletes = || asked.lock().unwrap().iter().filter(|line| line.starts_with("DELETE")).count();
    // Nobody guards it yet; and there is an open connection from now on.
    remove(engine.clone()).await.unwrap();
    assert_eq!(deletes(), 1);

    let open = Arc::new(AtomicBool::new(true));
    let passes = Arc::clone(&open);
    engine.gate().guard(move || passes.load(Ordering::SeqCst));
    // The connection's task has the call, and has not run yet: as when the process is stopped in just this moment.
    let mut late = Box::pin(remove(engine.clone()));
    assert!(futures_util::poll!(&mut late).is_pending());
    open.store(false, Ordering::SeqCst);
    let error = late.await.unwrap_err();
    assert!(error.to_string().contains("the right to change anything ended"), "{error}");
    let kind = error.kind(|_, _, _| panic!("the engine refused nothing"));
    assert_eq!(kind, ofop::model::FailureKind::Ambiguous, "{error}");
    assert_eq!(deletes(), 1, "{:?}", asked.lock().unwrap());

    // Reading goes on, and what decides about the right is not kept back by it.
    engine.send(Act::read("list services"), Method::GET, "/services", Bytes::new()).await.unwrap();
    remove(engine.ungated()).await.unwrap();
    remove(engine.clone()).await.unwrap_err();
    assert_eq!(deletes(), 2);
    open.store(true, Ordering::SeqCst);
    remove(engine).await.unwrap();
    assert_eq!(deletes(), 3);
}
