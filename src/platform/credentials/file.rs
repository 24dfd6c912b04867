//! What a `config.json` of Docker's says about a registry. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;

/// Somebody's right to use a registry. No `Debug`.
pub(super) struct Login {
    pub(super) server: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) identity_token: String,
    pub(super) registry_token: String,
}

/// Where the login of a registry is.
pub(super) enum Place {
    /// There is none.
    Nowhere,
    /// In the file.
    Login(Login),
    /// With the program `docker-credential-NAME`.
    Helper(String),
}

/// As far as we read it. No `Debug`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Finds the login of a registry, as Docker's own client does: its helper goes before the store for all, and that
/// before the file. The text is not repeated in an error.
///
/// # Errors
/// Why it cannot be told, as the end of a sentence.
pub(super) fn find(text: &[u8], key: &str) -> Result<Place, String> {
    let config: Config = serde_json::from_slice(text)
        .map_err(|error| format!("it is not what Docker writes, at line {}", error.line()))?;
    let helper = config.helpers.as_ref().and_then(|helpers| helpers.get(key)).or(config.store.as_ref());
    if let Some(helper) = helper.filter(|helper| !helper.is_empty()) {
        let plain = helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if !plain {
            return Err("it names a credential helper that can be no program".into());
        }
        return Ok(Place::Helper(helper.clone()));
    }
    let mut auths = config.auths.unwrap_or_default();
    // Old clients wrote addresses, with a scheme and a path.
    let name = auths.keys().find(|name| *name == key).or_else(|| auths.keys().find(|name| host(name) == host(key)));
    let Some(entry) = name.cloned().and_then(|name| auths.remove(&name)).flatten() else { return Ok(Place::Nowhere) };
    let Entry { auth, mut username, mut password, identitytoken, registrytoken } = entry;
    if !auth.is_empty() {
        let not_base64 = || format!("its login for {key} is not in base64");
        let plain = base64::engine::general_purpose::STANDARD.decode(auth.trim()).map_err(|_| not_base64())?;
        let plain = String::from_utf8(plain).map_err(|_| not_base64())?;
        let Some((name, secret)) = plain.split_once(':') else {
            return Err(format!("its login for {key} has no password"));
        };
        (username, password) = (name.to_owned(), secret.trim_matches('\0').to_owned());
    }
    if [&username, &password, &identitytoken, &registrytoken].iter().all(|text| text.is_empty()) {
        return Ok(Place::Nowhere);
    }
    let server = key.to_owned();
    Ok(Place::Login(Login { server, username, password, identity_token: identitytoken, registry_token: registrytoken }))
}

/// An address without its scheme and path.
fn host(address: &str) -> &str {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, key: &str) -> String {
        match find(text.as_bytes(), key) {
            Ok(Place::Nowhere) => "nowhere".into(),
            Ok(Place::Helper(name)) => format!("helper {name}"),
            Ok(Place::Login(login)) => format!(
                "{} {} {} {}{}",
                login.server, login.username, login.password, login.identity_token, login.registry_token
            ),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn logins_are_found_as_docker_writes_them() {
        // ann:pass:word
        let text = r#"{"auths": {
            "ghcr.io": {"auth": "YW5uOnBhc3M6d29yZA=="},
            "https://old.example/v1/": {"username": "bob", "password": "x"},
            "https://index.docker.io/v1/": {"auth": "YW5uOg==", "identitytoken": "token"},
            "empty.example": {}, "null.example": null
        }, "HttpHeaders": {"User-Agent": "x"}}"#;
        assert_eq!(found(text, "ghcr.io"), "ghcr.io ann pass:word ");
        assert_eq!(found(text, "old.example"), "old.example bob x ");
        assert_eq!(found(text, "https://index.docker.io/v1/"), "https://index.docker.io/v1/ ann  token");
        for none in ["empty.example", "null.example", "other.example", "ghcr.io:443"] {
            assert_eq!(found(text, none), "nowhere", "{none}");
        }
    }

    #[test]
    fn the_helper_of_a_registry_goes_before_the_store_and_that_before_the_file() {
        let text =
            r#"{"auths": {"a.b": {"auth": "YW5uOng="}}, "credHelpers": {"c.d": "ecr-login"}, "credsStore": "pass"}"#;
        assert_eq!(found(text, "c.d"), "helper ecr-login");
        assert_eq!(found(text, "a.b"), "helper pass");
        let text = r#"{"auths": {"a.b": {"auth": "YW5uOng="}}, "credHelpers": {"c.d": "ecr-login"}, "credsStore": ""}"#;
        assert_eq!(found(text, "a.b"), "a.b ann x ");
    }

    #[test]
    fn what_makes_no_sense_is_said_without_repeating_it() {
        for text in [
            r#"{"auths": {"a.b": {"auth": "hunter2"}}}"#,
            r#"{"auths": {"a.b": {"auth": "aHVudGVyMg=="}}}"#,
            r#"{"auths": {"a.b": {"auth": ["hunter2"]}}}"#,
            r#"{"auths": "hunter2""#,
            r#"{"credsStore": "../hunter2"}"#,
        ] {
            let said = found(text, "a.b");
            assert!(said.starts_with("error: ") && !said.contains("hunter2") && !said.contains("aHVu"), "{said}");
        }
    }
}
