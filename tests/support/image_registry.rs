//! A real image registry of the test's own: Debian's `docker-registry` on the loopback of a test engine's network
//! namespace, where the engine takes it without TLS.
//!
//! A shell watches over it and ends it when the test process ends, however it ends: it waits for the end of its
//! standard input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub,
    reason = "support for tests"
)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;

use crate::engine::TestEngine;

/// Where it listens. The namespace is the engine's alone, and so is the port.
pub const ADDRESS: &str = "127.0.0.1:5000";

/// Who may use a registry that is protected.
pub const USER: &str = "ann";
/// What that user proves it with; its base64 tells the alphabets apart.
pub const PASSWORD: &str = "~~~?open sesame>>>";
/// The two as `htpasswd -B` writes them.
const HTPASSWD: &str = "ann:$2b$04$YLYRAwdMc6TgtIPJUFeol.cEkgQyZajkvCq8hWA2KhgbsMuwP4MK.\n";

/// Enters the network of the process `$1`, serves `$2`, and ends with its input.
const KEEPER: &str = r#"
nsenter --net --target "$1" docker-registry serve "$2" >>"$2.log" 2>&1 </dev/null &
registry=$!
cat >/dev/null
kill -KILL "$registry"
wait "$registry"
exit 0
"#;

/// A registry, running or stopped. Its images stay while it is stopped. Ends when it is dropped.
pub struct ImageRegistry<'a> {
    engine: &'a TestEngine,
    config: PathBuf,
    keeper: Option<Child>,
}

impl<'a> ImageRegistry<'a> {
    /// Starts an empty registry beside an engine.
    pub fn start(engine: &'a TestEngine) -> ImageRegistry<'a> {
        Self::serving(engine, "")
    }

    /// Starts an empty registry beside an engine that nobody but [`USER`] may use.
    pub fn protected(engine: &'a TestEngine) -> ImageRegistry<'a> {
        let users = engine.dir().join("htpasswd");
        std::fs::write(&users, HTPASSWD).unwrap();
        Self::serving(engine, &format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", users.display()))
    }

    fn serving(engine: &'a TestEngine, more: &str) -> ImageRegistry<'a> {
        let config = engine.dir().join("registry.yml");
        let data = engine.dir().join("registry");
        // `secret` is only named so that the registry does not warn of making one up.
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{ADDRESS}', secret: tests}}\n{more}",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let docker = engine.dir().join("docker");
        std::fs::create_dir_all(&docker).unwrap();
        std::fs::write(docker.join("config.json"), login(PASSWORD)).unwrap();
        let mut registry = ImageRegistry { engine, config, keeper: None };
        registry.resume();
        registry
    }

    /// Starts it again and waits until it answers.
    pub fn resume(&mut self) {
        assert!(self.keeper.is_none(), "the registry runs already");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &self.engine.process().to_string()])
            .arg(&self.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        self.keeper = Some(keeper);
        self.engine.wait("docker-registry answers (package docker-registry)", || {
            let mut ask = Command::new("nsenter");
            ask.args(["--net", "--target", &self.engine.process().to_string()]);
            ask.args([
                "curl",
                "-sf",
                "-u",
                &format!("{USER}:{PASSWORD}"),
                "-o",
                "/dev/null",
                &format!("http://{ADDRESS}/v2/"),
            ]);
            ask.status().expect("nsenter is installed").success()
        });
    }

    /// Kills it; its connections are refused from now on.
    pub fn stop(&mut self) {
        let mut keeper = self.keeper.take().expect("the registry runs");
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }

    /// Pushes an image of the engine under a name and tag; the digest that the registry gave it.
    pub fn push(&self, image: &str, name: &str) -> String {
        let target = format!("{ADDRESS}/{name}");
        self.docker(&["tag", image, &target]);
        let said = self.docker(&["push", &target]);
        let digest = said.split_once("digest: ").and_then(|(_, rest)| rest.split_whitespace().next());
        digest.unwrap_or_else(|| panic!("no digest in {said}")).to_owned()
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker")
            .args(["-H", &self.engine.host()])
            .args(arguments)
            .env("DOCKER_CONFIG", self.engine.dir().join("docker"))
            .stdin(Stdio::null())
            .output()
            .expect("docker is installed");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "docker {arguments:?}: {out}{err}");
        out.into_owned()
    }
}

/// A `config.json` as `docker login` writes it.
pub fn login(password: &str) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
    serde_json::json!({"auths": {ADDRESS: {"auth": auth}}}).to_string()
}

impl Drop for ImageRegistry<'_> {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.stop();
        }
    }
}
