//! The real `ofop` with a folder of manifests of its own, against an engine: commands, and the daemon.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub,
    reason = "support for tests"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take; on an idle machine it is a second.
const PATIENCE: Duration = Duration::from_secs(90);

/// The token that the daemon takes.
pub const TOKEN: &str = "token-for-tests-0123456789";

/// A folder with manifests and state, and whoever works on it. What runs ends when it is dropped.
pub struct Operator {
    folder: tempfile::TempDir,
    host: String,
    variables: Vec<(String, String)>,
    daemon: Option<Child>,
}

impl Operator {
    /// A folder for the engine at `host`. Nothing runs yet.
    pub fn new(host: &str) -> Operator {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("desired")).unwrap();
        Operator { folder, host: host.into(), variables: Vec::new(), daemon: None }
    }

    /// Sets a variable for whatever runs from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.into(), value.into()));
    }

    /// The folder; `desired/` and `log` lie in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a manifest as an editor does: another file, then a rename over the old one.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.manifest(name);
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// Deletes a manifest.
    pub fn delete(&self, name: &str) {
        std::fs::remove_file(self.manifest(name)).unwrap();
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.folder.path().join("desired").join(name)
    }

    /// `ofop` with these arguments, as run in the folder with an environment of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // A long run keeps a copy of its own, which nobody builds anew meanwhile.
        let program = std::env::var_os("OFOP_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_ofop").into());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DOCKER_HOST", &self.host)
            .env("OFOP_DESIRED", "desired")
            .env("OFOP_TOKEN", TOKEN)
            .env("OFOP_RESYNC", "2s")
            // Also half of what a mark outlives its rows by: the default would be most of what a story takes.
            .env("OFOP_EXPECTATION", "10s")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if let Some(address) = self.address() {
            command.env("OFOP_ADDRESS", address);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().unwrap())
    }

    /// Runs a command on a terminal of its own, and types `keys` once it has written `prompt`. What it prints, errors as
    /// well, is `out`.
    pub fn run_on_terminal(&self, arguments: &[&str], prompt: &str, keys: &str) -> Ran {
        let inner = self.command(arguments);
        let words: Vec<&str> =
            std::iter::once(inner.get_program()).chain(inner.get_args()).map(|word| word.to_str().unwrap()).collect();
        // Whoever runs the tests in the background has Ctrl-C ignored, and so would have everything that they start.
        let mut outer = Command::new("env");
        outer.args([
            "--default-signal=INT",
            "script",
            "--quiet",
            "--return",
            "--command",
            &words.join(" "),
            "/dev/null",
        ]);
        outer.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.current_dir(self.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = outer.spawn().unwrap();
        let (mut input, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut some = [0; 1024];
            while let Ok(read @ 1..) = output.read(&mut some) {
                let _ = sender.send(some[..read].to_vec());
            }
        });
        let (mut printed, mut typed) = (Vec::new(), false);
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(some) => printed.extend(some),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    script.kill().unwrap();
                    panic!("neither an end nor a word for {PATIENCE:?}: {}", String::from_utf8_lossy(&printed));
                }
            }
            if !typed && String::from_utf8_lossy(&printed).contains(prompt) {
                input.write_all(keys.as_bytes()).unwrap();
                typed = true;
            }
        }
        reader.join().unwrap();
        let out = String::from_utf8_lossy(&printed).replace('\r', "");
        assert!(typed, "no prompt `{prompt}`: {out}");
        Ran { code: script.wait().unwrap().code(), out, err: String::new() }
    }

    /// Starts the daemon on a free port and waits until it answers.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with more arguments.
    pub fn start_with(&mut self, arguments: &[&str]) {
        assert!(self.daemon.is_none(), "a daemon runs already");
        let _ = std::fs::remove_file(self.log_file());
        let log = std::fs::File::create(self.log_file()).unwrap();
        let arguments = [&["run", "--listen", "127.0.0.1:0", "--log-format", "json"], arguments].concat();
        let mut command = self.command(&arguments);
        self.daemon = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        self.wait("the daemon answers", || self.try_get("/healthz").is_some());
    }

    /// Ends the daemon at once, as a crash would.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Sends the daemon a signal and waits for its end; its exit code.
    pub fn signal(&mut self, name: &str) -> Option<i32> {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        let sent = Command::new("kill").args(["-s", name, &daemon.id().to_string()]).status().unwrap();
        assert!(sent.success());
        daemon.wait().unwrap().code()
    }

    /// Stops the daemon where it is (SIGSTOP), or lets it go on (SIGCONT).
    pub fn freeze(&self, frozen: bool) {
        let daemon = self.daemon.as_ref().expect("a daemon runs");
        let name = if frozen { "STOP" } else { "CONT" };
        let sent = Command::new("kill").args(["-s", name, &daemon.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The daemon's process.
    pub fn process(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the daemon has logged since it started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Where the daemon serves HTTP, as its log says.
    pub fn address(&self) -> Option<String> {
        self.daemon.as_ref()?;
        let log = self.log();
        let line = log.lines().find(|line| line.contains("\"http\""))?;
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line["http"].as_str()?.trim_start_matches("http://").trim_end_matches('/').to_owned())
    }

    /// What the daemon answers, if it does with success.
    pub fn try_get(&self, path: &str) -> Option<String> {
        let address = self.address()?;
        let mut stream = TcpStream::connect(&address).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// The value of a metric, as the daemon shows it.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.try_get("/metrics")?;
        metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// A resource as the daemon sees it; null while it knows none.
    pub fn resource(&self, id: &str) -> Value {
        self.try_get(&format!("/api/v1/resources/{id}"))
            .and_then(|body| serde_json::from_str(&body).ok())
            .unwrap_or_default()
    }

    /// Waits until the daemon says that a resource is in sync and healthy.
    pub fn settles(&self, id: &str) {
        self.wait(&format!("{id} is in sync and healthy"), || {
            let resource = self.resource(id);
            resource["sync"] == "Synced" && resource["health"] == "Healthy"
        });
    }

    /// Waits for something that must become true.
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            if Instant::now() > deadline {
                panic!("{what}: not within {} s; the log:\n{}", PATIENCE.as_secs(), self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Ran {
    /// Takes a finished command's output apart.
    pub fn of(output: &Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
