//! Asking image registries through the engine, with the credentials that there are.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde::Deserialize;

use super::credentials::{Found, RegistryAuth, denies};
use super::engine::{Act, CallError, Engine, encode};
use crate::model::{FailureKind, StepFailure};

const RESOLVE: Act = Act::read("ask a registry for a digest");
const ACCESS: Act = Act::read("ask the image's registry");
const IMAGE: Act = Act::read("look for the image");

/// How long a registry may take to say whether it takes credentials, before a service is written without its word.
const ACCESS_TIME: Duration = Duration::from_secs(10);

/// The digest that a tag points to now.
///
/// # Errors
/// Why it cannot be told.
pub(super) async fn digest(engine: &Engine, image: &str) -> Result<String, String> {
    let credentials = engine.credentials();
    let found = credentials.of(image).await;
    let answer = match ask(engine, RESOLVE, image, found.auth()).await {
        Err(error) if denies(&error) && found.auth().is_some() => {
            credentials.refused(&found);
            // What everybody may have needs no credentials.
            ask(engine, RESOLVE, image, None).await.map_err(|_| error)
        }
        answer => answer,
    };
    answer.map_err(|error| found.explain(&error))
}

/// What the nodes of a swarm get to pull an image with; nothing where nothing is known, or needed.
///
/// An engine takes a service with any credentials, and its nodes then say no more than that there is no such image.
/// So the registry is asked first.
///
/// # Errors
/// When the registry refuses the credentials, the image is not for everybody, and the engine does not have it.
pub(super) async fn for_nodes(engine: &Engine, image: &str) -> Result<Option<RegistryAuth>, StepFailure> {
    let credentials = engine.credentials();
    let found = credentials.of(image).await;
    found.warn();
    let Some(auth) = found.auth() else { return Ok(None) };
    if credentials.are_accepted(image, auth) {
        return Ok(Some(auth.clone()));
    }
    let in_time = async |auth| {
        let asked = ask(engine, ACCESS, image, auth);
        tokio::time::timeout(ACCESS_TIME, asked).await.unwrap_or(Err(CallError::Silent { act: ACCESS }))
    };
    match in_time(Some(auth)).await {
        Ok(_) => credentials.accepted(image, auth),
        Err(error) if denies(&error) => {
            credentials.refused(&found);
            // With credentials that are refused, a node would not get what is for everybody.
            if has(engine, image).await || in_time(None).await.is_ok() {
                return Ok(None);
            }
            return Err(refused(&found, &error));
        }
        // A registry that is away, or has no such image, says nothing about credentials.
        Err(_) => {}
    }
    Ok(Some(auth.clone()))
}

/// A registry wants other credentials: a matter of the world around the cluster, which may be mended at any time.
pub(super) fn refused(found: &Found, error: &CallError) -> StepFailure {
    StepFailure::new(FailureKind::Dependency, found.explain(error))
}

/// Whether the engine itself has an image.
async fn has(engine: &Engine, image: &str) -> bool {
    engine.send(IMAGE, Method::GET, &format!("/images/{}/json", path(image)), Bytes::new()).await.is_ok()
}

async fn ask(engine: &Engine, act: Act, image: &str, auth: Option<&RegistryAuth>) -> Result<String, CallError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Descriptor")]
        descriptor: Descriptor,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        #[serde(default)]
        digest: String,
    }
    let path = format!("/distribution/{}/json", path(image));
    let text = engine.send_with(act, Method::GET, &path, Bytes::new(), auth).await?;
    let answer: Answer = serde_json::from_slice(&text)
        .map_err(|_| CallError::Answer { act, message: "it holds no description of an image".into() })?;
    Some(answer.descriptor.digest)
        .filter(|digest| digest.starts_with("sha256:"))
        .ok_or_else(|| CallError::Answer { act, message: "it holds no digest".into() })
}

/// An image in a path; its slashes are those of the path.
fn path(image: &str) -> String {
    image.split('/').map(encode).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::platform::credentials::Credentials;

    const DENIED: (u16, &str) = (401, r#"{"message":"unauthorized: who are you?"}"#);
    const MISSING: (u16, &str) = (404, r#"{"message":"manifest unknown"}"#);
    const AWAY: (u16, &str) = (500, r#"{"message":"connection refused"}"#);
    const THERE: (u16, &str) = (200, r#"{"Descriptor":{"digest":"sha256:aa"}}"#);

    /// An engine in front of a registry that gives these answers with and without credentials, and that has the image
    /// itself or not.
    async fn engine(with: (u16, &'static str), without: (u16, &'static str), has: bool) -> (Engine, tempfile::TempDir) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let (status, body) = if head.starts_with("get /v1.41/distribution/ghcr.io/plant/app%3a1/json ") {
                    if head.contains("x-registry-auth: ") { with } else { without }
                } else if head.starts_with("get /version ") {
                    (200, r#"{"ApiVersion":"1.41","MinAPIVersion":"1.12"}"#)
                } else {
                    assert!(head.starts_with("get /v1.41/images/ghcr.io/plant/app%3a1/json "), "{head}");
                    (if has { 200 } else { 404 }, "{}")
                };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let config = r#"{"auths": {"ghcr.io": {"username": "ann", "password": "hunter2"}}}"#;
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let engine = Engine::new(&format!("tcp://{address}"), None).unwrap();
        (engine.with_credentials(Credentials::of_directory(directory.path())), directory)
    }

    #[tokio::test]
    async fn nodes_get_credentials_unless_the_registry_refuses_them() {
        const IMAGE: &str = "ghcr.io/plant/app:1";
        for (with, without, has, sent) in [
            (THERE, DENIED, false, Ok(true)),
            (MISSING, DENIED, false, Ok(true)),
            (AWAY, AWAY, false, Ok(true)),
            // What is for everybody, or here already, needs none.
            (DENIED, THERE, false, Ok(false)),
            (DENIED, DENIED, true, Ok(false)),
            (DENIED, DENIED, false, Err("ghcr.io refuses the credentials")),
            (DENIED, AWAY, false, Err("`docker login ghcr.io`")),
        ] {
            let (engine, _directory) = engine(with, without, has).await;
            match (for_nodes(&engine, IMAGE).await, sent) {
                (Ok(auth), Ok(sent)) => assert_eq!(auth.is_some(), sent, "{with:?} {without:?} {has}"),
                (Err(failure), Err(words)) => {
                    assert_eq!(failure.kind, FailureKind::Dependency);
                    assert!(failure.message.contains(words) && !failure.message.contains("hunter2"), "{failure}");
                }
                (got, _) => panic!("{with:?} {without:?} {has}: {got:?}"),
            }
        }
        let (engine, directory) = engine(THERE, DENIED, false).await;
        assert!(for_nodes(&engine, "quay.io/plant/app:1").await.unwrap().is_none(), "and nobody is asked");

        // What was just taken is not asked about again; others are.
        let asked = async || {
            let before = engine.credentials().of(IMAGE).await;
            engine.credentials().are_accepted(IMAGE, before.auth().unwrap())
        };
        assert!(!asked().await);
        for_nodes(&engine, IMAGE).await.unwrap();
        assert!(asked().await);
        let config = r#"{"auths": {"ghcr.io": {"username": "ann", "password": "hunter3"}}}"#;
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        assert!(!asked().await);
    }

    #[tokio::test]
    async fn a_digest_is_told_with_credentials_or_without_or_it_is_said_why_not() {
        const IMAGE: &str = "ghcr.io/plant/app:1";
        for (with, without) in [(THERE, DENIED), (DENIED, THERE)] {
            let (engine, _directory) = engine(with, without, false).await;
            assert_eq!(digest(&engine, IMAGE).await.as_deref(), Ok("sha256:aa"));
        }
        let (engine, _directory) = engine(DENIED, DENIED, false).await;
        let said = digest(&engine, IMAGE).await.unwrap_err();
        assert!(said.contains("who are you?") && said.contains("ghcr.io refuses the credentials"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
