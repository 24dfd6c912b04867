//! Programs that keep credentials: `docker-credential-NAME get` reads the registry from its standard input and answers
//! with JSON (docker/docker-credential-helpers).

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::file::Login;

/// How long a helper may take: those of clouds ask their servers.
pub(super) const TIME: Duration = Duration::from_secs(15);
/// The longest answer that is read; tokens have a few kilobytes.
const MAX_ANSWER: u64 = 256 * 1024;
/// What a helper says when it has none (docker-credential-helpers, credentials/error.go).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name that says that the secret is an identity token.
const TOKEN: &str = "<token>";

/// No `Debug`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks a helper for the login of a registry. What it says is not repeated in an error, since it may hold secrets.
///
/// # Errors
/// Why there is no answer, as the end of a sentence.
pub(super) async fn ask(program: &str, key: &str, time: Duration) -> Result<Option<Login>, String> {
    let exchange = async {
        let mut helper = tokio::process::Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program} cannot be run: {error}"))?;
        if let Some(mut stdin) = helper.stdin.take() {
            // One that does not read has its reasons; its answer tells.
            let _ = stdin.write_all(key.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = helper.stdout.take() {
            let read = stdout.take(MAX_ANSWER).read_to_end(&mut answer).await;
            read.map_err(|error| format!("the answer of {program} cannot be read: {error}"))?;
        }
        let status = helper.wait().await.map_err(|error| format!("{program} is lost: {error}"))?;
        Ok((status, answer))
    };
    let (status, answer) = tokio::time::timeout(time, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("{program} has not answered within {} s", time.as_secs_f32())))?;
    if !status.success() {
        if String::from_utf8_lossy(&answer).trim() == NOT_FOUND {
            return Ok(None);
        }
        return Err(format!("{program} failed ({status}); try `{program} list` as the user who runs ofop"));
    }
    let Ok(Answer { username, secret }) = serde_json::from_slice(&answer) else {
        return Err(format!("{program} answers with something else than a login"));
    };
    if secret.is_empty() {
        return Ok(None);
    }
    let mut login = Login {
        server: key.to_owned(),
        username: String::new(),
        password: String::new(),
        identity_token: String::new(),
        registry_token: String::new(),
    };
    if username == TOKEN {
        login.identity_token = secret;
    } else {
        (login.username, login.password) = (username, secret);
    }
    Ok(Some(login))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a shell script.
    async fn answer(script: &str) -> Result<Option<Login>, String> {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-test");
        // Written by another process: a file that this one has open while a test starts a program cannot be run.
        let written = std::process::Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" >\"$0\" && chmod 755 \"$0\""])
            .args([program.as_os_str(), script.as_ref()])
            .status();
        assert!(written.unwrap().success());
        ask(program.to_str().unwrap(), "ghcr.io", Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_registry_on_its_standard_input() {
        let script = r#"read -r server; [ "$1" = get ] && echo "{\"ServerURL\":\"$server\",\"Username\":\"ann\",\"Secret\":\"$server-x\"}""#;
        let login = answer(&format!("{script} || exit 1")).await.unwrap().unwrap();
        assert_eq!(
            (login.server.as_str(), login.username.as_str(), login.password.as_str()),
            ("ghcr.io", "ann", "ghcr.io-x")
        );
        let login = answer(r#"echo '{"Username":"<token>","Secret":"t"}'"#).await.unwrap().unwrap();
        assert_eq!((login.username.as_str(), login.identity_token.as_str()), ("", "t"));
        assert!(answer("echo credentials not found in native keychain; exit 1").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_a_helper_says_is_never_repeated() {
        for (script, words) in [
            ("echo hunter2; exit 3", "failed (exit status: 3)"),
            ("echo hunter2", "something else than a login"),
            ("echo '{\"Secret\":[\"hunter2\"]}'", "something else than a login"),
            ("exec sleep 60", "has not answered within 5 s"),
        ] {
            let said = answer(script).await.err().unwrap();
            assert!(said.contains(words) && !said.contains("hunter2"), "{script}: {said}");
        }
        let said = ask("docker-credential-of-nobody", "x", TIME).await.err().unwrap();
        assert!(said.contains("docker-credential-of-nobody cannot be run"), "{said}");
    }
}
