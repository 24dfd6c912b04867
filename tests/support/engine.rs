//! A Docker Engine of one's own for tests: a swarm of one manager with the network `factory-net` and images
//! that need no registry.
//!
//! The engine lives in namespaces of its own (network, mounts, processes), so that any number of them run side by
//! side, nothing of them touches the machine, and one SIGKILL ends the engine with everything that it started.
//! A shell watches over it and clears up when the test process ends, however it ends: it waits for the end of
//! its standard input.
//!
//! Needs root, `dockerd` (docker.io), `iptables`, `busybox` (busybox-static), `unshare`. A test that cannot have
//! its engine fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub,
    reason = "support for tests"
)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// How long an engine may take to start; it takes half a second on an idle machine.
const START: Duration = Duration::from_secs(60);

/// An image whose containers do nothing and end at once when they are told to, also as an MTConnect agent.
pub const IDLE: &str = "idle:1";
/// The same under another tag, with another id.
pub const IDLE_2: &str = "idle:2";
/// An image whose containers end with an error after a moment.
pub const FAILING: &str = "failing:1";

/// What the idle images run. Process 1 of a container ignores signals that it does not handle, and would end only
/// after 10 s.
const IDLE_SCRIPT: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";

/// What the shell does: starts and kills the engine on command, clears up at the end of its input.
const KEEPER: &str = r#"
dir=$1 group=$2 engine=
stop() { [ -z "$engine" ] || { kill -KILL "$engine"; wait "$engine"; engine=; } 2>/dev/null; }
while read -r word; do
    case $word in
    start)
        unshare --net --mount --pid --fork --kill-child --mount-proc sh -c \
            "busybox ip link set lo up && exec dockerd --data-root $dir/data --exec-root $dir/exec \
             -H unix://$dir/docker.sock --pidfile $dir/pid --cgroup-parent /$group $3" >>"$dir/log" 2>&1 </dev/null &
        engine=$!
        echo $engine >"$dir/process" ;;
    stop)
        stop
        # What a machine forgets when it starts again, above all the numbers of processes.
        rm -rf "$dir/exec" "$dir/pid" ;;
    esac
    echo done
done
stop
rm -rf "$dir"
find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null
exit 0
"#;

/// A running engine. Ends when it is dropped.
pub struct TestEngine {
    dir: PathBuf,
    keeper: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
}

/// The engine that the tests of one binary share. It ends with its last user.
pub fn shared() -> Arc<TestEngine> {
    static SHARED: Mutex<Weak<TestEngine>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(engine) = shared.upgrade() {
        return engine;
    }
    let engine = Arc::new(TestEngine::swarm());
    *shared = Arc::downgrade(&engine);
    engine
}

impl TestEngine {
    /// An engine with a swarm, the network and the images.
    pub fn swarm() -> TestEngine {
        let engine = TestEngine::plain(&[]);
        engine.import_images();
        engine.ok("POST", "/swarm/init", r#"{"ListenAddr":"127.0.0.1:2377","AdvertiseAddr":"127.0.0.1"}"#);
        engine.ok("POST", "/networks/create", r#"{"Name":"factory-net","Driver":"overlay","Attachable":true}"#);
        engine
    }

    /// An engine and nothing else, with more arguments for `dockerd`.
    pub fn plain(arguments: &[&str]) -> TestEngine {
        // Short, since the path of a socket may have at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("ofe").tempdir().unwrap().keep();
        let group = format!("ofop-test-{}", dir.file_name().unwrap().to_str().unwrap());
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([dir.as_os_str(), group.as_ref(), arguments.join(" ").as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let commands = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().unwrap());
        let mut engine = TestEngine { dir, keeper, commands, answers };
        engine.start();
        engine.is_as_wanted();
        engine
    }

    /// Whoever chooses the engine by `PATH` says by `OFOP_TEST_API` which API it speaks, and `dockerd` itself takes the
    /// oldest that it accepts from `DOCKER_MIN_API_VERSION`: that another engine passes the tests would prove nothing.
    fn is_as_wanted(&self) {
        let version = self.get("/version");
        for (variable, field) in [("OFOP_TEST_API", "ApiVersion"), ("DOCKER_MIN_API_VERSION", "MinAPIVersion")] {
            if let Ok(wanted) = std::env::var(variable) {
                assert_eq!(version[field].as_str(), Some(&*wanted), "{variable}");
            }
        }
    }

    /// Starts the engine that was stopped, and waits until it answers.
    pub fn start(&mut self) {
        self.command("start");
        self.wait("the engine answers", || {
            self.try_call("GET", "/_ping", b"", "").is_ok_and(|(status, _)| status == 200)
        });
    }

    /// Kills the engine with everything that it runs, as a crash of the machine would. Its data stay.
    pub fn stop(&mut self) {
        self.command("stop");
    }

    fn command(&mut self, word: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{word}").expect("the keeper lives");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the keeper answers");
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// The engine's address, as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A process in the network namespace of the running engine.
    pub fn process(&self) -> u32 {
        std::fs::read_to_string(self.dir.join("process")).unwrap().trim().parse().unwrap()
    }

    /// What the engine has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Folder that goes away with the engine.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Calls the engine; the answer's status and body.
    pub fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, body) = self.try_call(method, path, body.as_bytes(), "application/json").unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    /// Calls the engine, which must agree.
    pub fn ok(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, answer) = self.call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// The answer to a question.
    pub fn get(&self, path: &str) -> serde_json::Value {
        self.ok("GET", path, "")
    }

    /// Edits the description of a service, as a person would by hand. Tries again when the engine, which changes
    /// services by itself, was quicker.
    pub fn edit_service(&self, id: &str, edit: impl Fn(&mut serde_json::Value)) {
        self.wait("the service is edited", || {
            let mut now = self.get(&format!("/services/{id}"));
            edit(&mut now["Spec"]);
            let path = format!("/services/{id}/update?version={}", now["Version"]["Index"]);
            let (status, answer) = self.call("POST", &path, &now["Spec"].to_string());
            assert!(status == 200 || answer.contains("update out of sequence"), "{answer}");
            status == 200
        });
    }

    fn try_call(&self, method: &str, path: &str, body: &[u8], kind: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(START))?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Length: {}\r\n", body.len());
        if !kind.is_empty() {
            write!(head, "Content-Type: {kind}\r\n").unwrap();
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let broken = || std::io::Error::other("the answer is no HTTP");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
        let status = std::str::from_utf8(&answer[..end]).ok().and_then(|head| head.split(' ').nth(1)?.parse().ok());
        Ok((status.ok_or_else(broken)?, answer.split_off(end + 4)))
    }

    /// Waits for something that must become true.
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + START;
        while !holds() {
            if Instant::now() > deadline {
                let log = self.log();
                let lines: Vec<&str> = log.lines().rev().take(20).collect();
                let lines: Vec<&str> = lines.into_iter().rev().collect();
                panic!("{what}: not within {} s; the engine's log ends with\n{}", START.as_secs(), lines.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes the images from busybox.
    pub fn import_images(&self) {
        let root = self.dir.join("image");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
        std::fs::copy(busybox.expect("busybox is installed"), root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "true", "false", "httpd", "cat"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        // What an MTConnect agent's container runs at last.
        let agent = root.join("bin/mtcagent");
        std::fs::write(&agent, format!("#!/bin/sh\n{IDLE_SCRIPT}\n")).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let idle_2 = format!("{IDLE_SCRIPT} # 2");
        for (image, script) in [(IDLE, IDLE_SCRIPT), (IDLE_2, &idle_2), (FAILING, "sleep 0.2; exit 3")] {
            self.import_image(image, script);
        }
    }

    /// Makes one more image, whose containers run this script.
    pub fn import_image(&self, image: &str, script: &str) {
        let root = self.dir.join("image");
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().expect("tar is installed").stdout;
        let (name, tag) = image.split_once(':').unwrap();
        let change = format!("CMD {}", serde_json::json!(["/bin/sh", "-c", script]));
        let path = format!("/images/create?fromSrc=-&repo={name}&tag={tag}&changes={}", percent(&change));
        let (status, answer) = self.try_call("POST", &path, &tar, "application/x-tar").unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        // The end of its input is what the keeper waits for.
        drop(self.commands.take());
        let _ = self.keeper.wait();
    }
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}
