//! Credentials of image registries, from where `docker login` puts them.
//!
//! # Flow
//!
//! ```text
//! image ─► its registry ─► config.json ─► a login, or a helper to ask ─► X-Registry-Auth
//! ```
//!
//! # Guarantees
//!
//! - What `docker login` and `docker logout` change counts from the next lookup on; only what a helper answered is
//!   kept, for a minute and as long as no registry refuses it.
//! - No user name, password or token is in an error or in `Debug`.
//! - A helper is bounded in time and in what it may answer, and is run without a shell.
//!
//! # Errors
//!
//! That credentials cannot be looked up is no failure of a lookup's caller: most images need none, and a
//! `config.json` often names helpers that a machine does not have. It is told once a registry refuses.

mod file;
mod helper;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use hyper::header::HeaderValue;
use serde_json::json;
use tokio::time::Instant;

use self::file::{Login, Place};
use super::engine::CallError;
use super::locked;
use super::scrub::Scrubber;
use crate::model::ImageRef;
use crate::model::image::DOCKER_HUB;

/// How long the answer of a helper is used, and a registry's that credentials are good for an image: short enough for
/// tokens that live for minutes, long enough that a hundred services of one image do not ask a hundred times.
const KEPT: Duration = Duration::from_secs(60);
/// What Docker calls its registry where credentials are kept (moby, registry/config.go).
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Where credentials are found.
#[derive(Debug, Default)]
pub struct Credentials {
    directory: Option<PathBuf>,
    /// What helpers answered, by registry.
    kept: Mutex<BTreeMap<String, (Option<RegistryAuth>, Instant)>>,
    /// What registries took, by image.
    accepted: Mutex<BTreeMap<String, (RegistryAuth, Instant)>>,
}

impl Credentials {
    /// Those of the `config.json` in a directory, as in `DOCKER_CONFIG`.
    pub fn of_directory(directory: impl Into<PathBuf>) -> Credentials {
        Credentials { directory: Some(directory.into()), ..Credentials::default() }
    }

    /// Looks for those of an image's registry.
    pub(super) async fn of(&self, image: &str) -> Found {
        let registry = Registry::of(image);
        let file = self.directory.as_ref().map(|directory| directory.join("config.json"));
        let auth = match &file {
            Some(file) => self.look_up(file, registry.key()).await,
            None => Ok(None),
        };
        Found { registry, file, auth }
    }

    /// A registry has refused what was found: whatever is kept of it is asked for again.
    pub(super) fn refused(&self, found: &Found) {
        locked(&self.kept).remove(found.registry.key());
    }

    /// A registry has taken these for an image.
    pub(super) fn accepted(&self, image: &str, auth: &RegistryAuth) {
        let mut accepted = locked(&self.accepted);
        accepted.retain(|_, (_, since)| since.elapsed() < KEPT);
        accepted.insert(image.to_owned(), (auth.clone(), Instant::now()));
    }

    /// Whether a registry has just taken these for an image: registries count how often they are asked.
    pub(super) fn are_accepted(&self, image: &str, auth: &RegistryAuth) -> bool {
        locked(&self.accepted).get(image).is_some_and(|(taken, since)| taken == auth && since.elapsed() < KEPT)
    }

    async fn look_up(&self, file: &Path, key: &str) -> Result<Option<RegistryAuth>, String> {
        let text = match tokio::fs::read(file).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read it: {error}")),
        };
        match file::find(&text, key)? {
            Place::Nowhere => Ok(None),
            Place::Login(login) => RegistryAuth::new(&login).map(Some),
            Place::Helper(name) => {
                if let Some((auth, since)) = locked(&self.kept).get(key)
                    && since.elapsed() < KEPT
                {
                    return Ok(auth.clone());
                }
                let login = helper::ask(&format!("docker-credential-{name}"), key, helper::TIME).await?;
                let auth = login.as_ref().map(RegistryAuth::new).transpose()?;
                locked(&self.kept).insert(key.to_owned(), (auth.clone(), Instant::now()));
                Ok(auth)
            }
        }
    }
}

/// What was found for an image.
#[derive(Debug)]
pub(super) struct Found {
    registry: Registry,
    file: Option<PathBuf>,
    /// What to send; or why it cannot be told whether there is something to send.
    auth: Result<Option<RegistryAuth>, String>,
}

impl Found {
    /// What to send.
    pub(super) fn auth(&self) -> Option<&RegistryAuth> {
        self.auth.as_ref().ok().and_then(Option::as_ref)
    }

    /// Says in the log that there may be something to send which cannot be had.
    pub(super) fn warn(&self) {
        if let Err(trouble) = &self.auth {
            tracing::warn!(registry = self.registry.0, trouble, "no credentials can be looked up; going on without");
        }
    }

    /// A failed call that sent what was found, with what to do about it if the registry wants other credentials.
    pub(super) fn explain(&self, error: &CallError) -> String {
        // A registry may repeat what it was sent.
        let error = &error.clean(&Scrubber::of_values(self.auth().into_iter().flat_map(RegistryAuth::values)));
        if !denies(error) {
            return error.to_string();
        }
        let (registry, login) = (&self.registry.0, self.registry.login());
        let file = match &self.file {
            Some(file) => file.display().to_string(),
            None => return format!("{error}; no credentials are known, since neither DOCKER_CONFIG nor HOME is set"),
        };
        match &self.auth {
            Ok(Some(_)) => format!(
                "{error}; {registry} refuses the credentials for it in {file}: `{login}` again as the user who runs ofop"
            ),
            Ok(None) => format!(
                "{error}; {file} holds no credentials for {registry}: if the image exists, `{login}` as the user who \
                 runs ofop"
            ),
            Err(trouble) => format!("{error}; {file} should hold credentials for {registry}, but {trouble}"),
        }
    }
}

/// Whether a registry wants other credentials, as the engine tells it: Docker Engine 20.10 passes on the registry's
/// words, with 401 or 500.
pub(super) fn denies(error: &CallError) -> bool {
    let says = |message: &str| {
        let message = message.to_lowercase();
        ["unauthorized", "no basic auth credentials", "authentication required", "denied", "forbidden"]
            .iter()
            .any(|words| message.contains(words))
    };
    error.refusal().is_some_and(|(status, message)| matches!(status, 401 | 403) || says(message))
}

/// A registry, by the name that images have in front.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registry(String);

impl Registry {
    /// The one that the engine asks.
    fn of(image: &str) -> Registry {
        Registry(ImageRef::registry_of(image).to_owned())
    }

    /// What its credentials are kept under.
    fn key(&self) -> &str {
        if self.0 == DOCKER_HUB { DOCKER_HUB_KEY } else { &self.0 }
    }

    /// The command that keeps credentials for it.
    fn login(&self) -> String {
        if self.0 == DOCKER_HUB { "docker login".into() } else { format!("docker login {}", self.0) }
    }
}

/// The value of `X-Registry-Auth`.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth(HeaderValue);

impl RegistryAuth {
    /// What is secret in it.
    fn values(&self) -> Vec<String> {
        let text = base64::engine::general_purpose::URL_SAFE.decode(self.0.as_bytes()).unwrap_or_default();
        let fields: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap_or_default();
        fields.into_iter().filter(|(name, _)| name != "serveraddress").map(|(_, value)| value).collect()
    }

    /// The alphabet is the one for URLs, which is what engines read; `bollard` writes the other one, and an engine
    /// then goes on without credentials.
    fn new(login: &Login) -> Result<RegistryAuth, String> {
        let Login { server, username, password, identity_token, registry_token } = login;
        let mut fields = serde_json::Map::new();
        let all = [
            ("username", username),
            ("password", password),
            ("identitytoken", identity_token),
            ("registrytoken", registry_token),
        ];
        for (name, value) in all {
            if !value.is_empty() {
                fields.insert(name.into(), json!(value));
            }
        }
        fields.insert("serveraddress".into(), json!(server));
        let text = base64::engine::general_purpose::URL_SAFE.encode(serde_json::Value::Object(fields).to_string());
        let mut value = HeaderValue::from_str(&text).map_err(|_| "they are not to be sent".to_owned())?;
        value.set_sensitive(true);
        Ok(RegistryAuth(value))
    }

    /// For the request.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::engine::Act;

    /// What an engine reads from the header.
    fn sent(found: &Found) -> serde_json::Value {
        let header = found.auth().unwrap().header();
        let text = base64::engine::general_purpose::URL_SAFE.decode(header.as_bytes()).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn directory(config: &str) -> (tempfile::TempDir, Credentials) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let credentials = Credentials::of_directory(directory.path());
        (directory, credentials)
    }

    #[test]
    fn the_registry_of_an_image_is_the_one_that_docker_asks() {
        for (image, registry) in [
            ("redis", DOCKER_HUB),
            ("ann/app:1", DOCKER_HUB),
            ("docker.io/library/redis", DOCKER_HUB),
            ("index.docker.io/ann/app", DOCKER_HUB),
            ("ghcr.io/plant/app@sha256:aa", "ghcr.io"),
            ("localhost/app", "localhost"),
            ("localhost:5000/app", "localhost:5000"),
            ("registry:5000/a/b/c:1", "registry:5000"),
        ] {
            assert_eq!(Registry::of(image).0, registry, "{image}");
        }
        assert_eq!(Registry::of("redis").key(), DOCKER_HUB_KEY);
        assert_eq!(Registry::of("redis").login(), "docker login");
    }

    #[tokio::test]
    async fn a_login_is_sent_in_the_alphabet_that_engines_read() {
        // Text whose base64 has the two characters in which the alphabets differ.
        let auth = base64::engine::general_purpose::STANDARD.encode("ann:~~~???>>>:x");
        let (_directory, credentials) = directory(&json!({"auths": {"ghcr.io": {"auth": auth}}}).to_string());
        let found = credentials.of("ghcr.io/plant/app:1").await;
        assert_eq!(sent(&found), json!({"username": "ann", "password": "~~~???>>>:x", "serveraddress": "ghcr.io"}));
        let header = found.auth().unwrap().header();
        assert!(header.to_str().unwrap().contains(['-', '_']), "the text tells the alphabets apart");
        assert!(credentials.of("quay.io/plant/app:1").await.auth().is_none());
        let debug = format!("{found:?} {header:?} {credentials:?}");
        assert!(!debug.contains("ann") && !debug.contains(header.to_str().unwrap()), "{debug}");
    }

    #[tokio::test]
    async fn without_a_directory_or_a_file_there_is_nothing_to_send() {
        assert!(Credentials::default().of("app:1").await.auth().is_none());
        let (directory, credentials) = directory("{}");
        assert!(credentials.of("app:1").await.auth().is_none());
        std::fs::remove_file(directory.path().join("config.json")).unwrap();
        let found = credentials.of("app:1").await;
        assert!(found.auth().is_none() && found.auth.is_ok());
    }

    #[tokio::test]
    async fn who_is_refused_learns_whose_credentials_were_sent_and_what_to_do() {
        let act = Act::write("pull the image");
        let denied = CallError::Refused { act, status: 401, message: "unauthorized: who are you?".into() };
        let auth = base64::engine::general_purpose::STANDARD.encode("ann:hunter2");
        let config = json!({"auths": {"ghcr.io": {"auth": auth}, "a.b": {"auth": "%"}}}).to_string();
        let (directory, credentials) = directory(&config);
        let file = directory.path().join("config.json").display().to_string();
        for (image, words) in [
            ("ghcr.io/app", format!("ghcr.io refuses the credentials for it in {file}: `docker login ghcr.io` again")),
            ("quay.io/app", format!("{file} holds no credentials for quay.io")),
            ("a.b/app", format!("{file} should hold credentials for a.b, but its login for a.b is not in base64")),
        ] {
            let found = credentials.of(image).await;
            let said = found.explain(&denied);
            assert!(said.contains(&words) && said.contains("who are you?"), "{said}");
            assert!(!said.contains("hunter2") && !said.contains(&auth), "{said}");
            let away = CallError::Refused { act, status: 500, message: "connection refused".into() };
            assert_eq!(found.explain(&away), away.to_string());
        }
    }
}
