//! A swarm of three managers on one machine: each in a network namespace of its own, on one bridge.
//!
//! All of it lives in one outer namespace of networks, mounts and processes: nothing of it touches the machine, and the
//! end of one process ends all of it, however the test ends. A shell watches over it and clears up at the end of its
//! standard input; signals from a terminal do not end it before.
//!
//! Needs root, `dockerd` (docker.io), `ip` (iproute2), `iptables`, `unshare` and `nsenter` (util-linux).

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::Hand;

/// How many managers there are: one may be lost.
pub const MANAGERS: usize = 3;

/// How long an engine or a swarm may take to come up.
const START: Duration = Duration::from_secs(90);

/// How long a call of the test's own waits for a manager.
const CALL: Duration = Duration::from_secs(25);

/// The outer shell: clears up at the end of its input.
const KEEPER: &str = r#"
dir=$1 group=$2
trap '' INT TERM HUP
unshare --net --mount --pid --fork --kill-child --mount-proc sh -c "$3" inner "$dir" "$group"
rm -rf "$dir"
find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null
exit 0
"#;

/// The inner shell: makes the network, and does what it is asked to. Its end is the end of everything.
const INNER: &str = r#"
dir=$1 group=$2
mount -t tmpfs tmpfs /run && mkdir -p /run/netns || exit 1
ip link set lo up
ip link add br0 type bridge && ip addr add 10.79.0.1/24 dev br0 && ip link set br0 up || exit 1
for n in 1 2 3; do
    ip netns add n$n && ip -n n$n link set lo up || exit 1
    ip link add o$n type veth peer name i$n netns n$n || exit 1
    ip link set o$n master br0 && ip link set o$n up
    ip -n n$n addr add 10.79.0.1$n/24 dev i$n && ip -n n$n link set i$n up || exit 1
    ip -n n$n route add default via 10.79.0.1
    mkdir -p $dir/n$n
done
echo ready
while read -r word n; do
    case $word in
    start)
        nsenter --net=/run/netns/n$n unshare --mount --pid --fork --kill-child --mount-proc \
            dockerd --data-root $dir/n$n/data --exec-root $dir/n$n/exec -H unix://$dir/n$n/docker.sock \
            --pidfile $dir/n$n/pid --cgroup-parent /$group/n$n >>"$dir/n$n/log" 2>&1 </dev/null &
        eval engine$n=$! ;;
    kill)
        eval kill -KILL \$engine$n; eval wait \$engine$n
        # What a machine forgets when it starts again.
        rm -rf $dir/n$n/exec $dir/n$n/pid ;;
    down) ip link set o$n down ;;
    up) ip link set o$n up ;;
    esac 2>/dev/null
    echo done
done
"#;

/// A swarm. Ends when it is dropped.
pub struct Cluster {
    dir: PathBuf,
    keeper: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
}

impl Cluster {
    /// Three managers with the network `factory-net`.
    ///
    /// # Panics
    /// When this is not root, or a program is missing: it says which.
    pub fn start() -> Cluster {
        for program in ["dockerd", "ip", "iptables", "unshare", "nsenter"] {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .any(|folder| folder.join(program).exists());
            assert!(found, "`{program}` is missing: tests/run.sh packages installs what the tests need");
        }
        let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        assert!(root, "namespaces and engines need root: run this as root");
        let dir = tempfile::Builder::new().prefix("ofc").tempdir().unwrap().keep();
        let group = format!("ofop-test-{}", dir.file_name().unwrap().to_str().unwrap());
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([dir.as_os_str(), group.as_ref(), INNER.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = keeper.stdin.take();
        let mut answers = BufReader::new(keeper.stdout.take().unwrap());
        let mut ready = String::new();
        answers.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "namespaces, a bridge and veth pairs can be made");
        let mut cluster = Cluster { dir, keeper, commands, answers };
        for manager in 0..MANAGERS {
            cluster.engine_start(manager);
        }
        let address = |manager: usize| format!("10.79.0.1{}", manager + 1);
        let init = json!({"ListenAddr": format!("{}:2377", address(0)), "AdvertiseAddr": address(0)});
        cluster.ok(0, "POST", "/swarm/init", &init.to_string());
        let token = cluster.ok(0, "GET", "/swarm", "")["JoinTokens"]["Manager"].clone();
        for manager in 1..MANAGERS {
            let join = json!({"ListenAddr": format!("{}:2377", address(manager)), "AdvertiseAddr": address(manager),
                "RemoteAddrs": [format!("{}:2377", address(0))], "JoinToken": token});
            cluster.ok(manager, "POST", "/swarm/join", &join.to_string());
        }
        cluster.ok(0, "POST", "/networks/create", r#"{"Name":"factory-net","Driver":"overlay","Attachable":true}"#);
        cluster
    }

    fn command(&mut self, word: &str, manager: usize) {
        writeln!(self.commands.as_mut().unwrap(), "{word} {}", manager + 1).expect("the keeper lives");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the keeper answers");
        assert_eq!(answer, "done\n", "the keeper lives");
    }

    /// Starts a manager's engine, and waits until it answers.
    pub fn engine_start(&mut self, manager: usize) {
        self.command("start", manager);
        let began = Instant::now();
        while !self.try_call(manager, "GET", "/_ping", "").is_ok_and(|(status, _)| status == 200) {
            assert!(began.elapsed() < START, "manager {manager} does not answer; its log:\n{}", self.log(manager));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills a manager's engine with everything that it runs.
    pub fn engine_kill(&mut self, manager: usize) {
        self.command("kill", manager);
    }

    /// Cuts a manager off from the others, or joins it again. Its own socket goes on answering.
    pub fn link(&mut self, manager: usize, up: bool) {
        self.command(if up { "up" } else { "down" }, manager);
    }

    /// Stops a manager's engine where it is (SIGSTOP), or lets it go on (SIGCONT).
    pub fn engine_freeze(&self, manager: usize, frozen: bool) {
        let mark = self.dir.join(format!("n{}/pid", manager + 1));
        let mark = mark.to_str().unwrap();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            if words.next() == Some(b"dockerd") && line.windows(mark.len()).any(|part| part == mark.as_bytes()) {
                let signal = if frozen { "STOP" } else { "CONT" };
                assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
            }
        }
    }

    /// A manager's socket.
    pub fn socket(&self, manager: usize) -> PathBuf {
        self.dir.join(format!("n{}/docker.sock", manager + 1))
    }

    /// Folder that goes away with the swarm.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a manager has logged.
    pub fn log(&self, manager: usize) -> String {
        let log = std::fs::read_to_string(self.dir.join(format!("n{}/log", manager + 1))).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    /// Which manager leads, as the first that answers says.
    pub fn leader(&self) -> Option<usize> {
        (0..MANAGERS).find_map(|asked| {
            let (_, text) = self.try_call(asked, "GET", "/nodes", "").ok().filter(|(status, _)| *status == 200)?;
            let nodes: Vec<Value> = serde_json::from_str(&text).ok()?;
            let leader = nodes.iter().find(|node| node["ManagerStatus"]["Leader"] == true)?;
            let address = leader["ManagerStatus"]["Addr"].as_str()?;
            (0..MANAGERS).find(|manager| address.starts_with(&format!("10.79.0.1{}:", manager + 1)))
        })
    }

    /// Waits until writes work again.
    pub fn has_quorum(&self) {
        let began = Instant::now();
        let all_reachable = || {
            let (_, text) = self.try_call(0, "GET", "/nodes", "").ok().filter(|(status, _)| *status == 200)?;
            let nodes: Vec<Value> = serde_json::from_str(&text).ok()?;
            let reachable = nodes.iter().filter(|node| node["ManagerStatus"]["Reachability"] == "reachable").count();
            (reachable == MANAGERS && self.leader().is_some()).then_some(())
        };
        while all_reachable().is_none() {
            assert!(began.elapsed() < START, "the swarm has no quorum again:\n{}", self.log(0));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn ok(&self, manager: usize, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.try_call(manager, method, path, body).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// One call to a manager.
    pub fn try_call(&self, manager: usize, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(self.socket(manager))?;
        stream.set_read_timeout(Some(CALL))?;
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Length: {}\r\n", body.len());
        write!(request, "Content-Type: application/json\r\n\r\n{body}").unwrap();
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let broken = || std::io::Error::other("the answer is no HTTP");
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
        Ok((status, body.to_owned()))
    }
}

/// A person at the first manager that answers with success.
impl Hand for Cluster {
    fn call(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        (0..MANAGERS).rev().find_map(|manager| {
            self.try_call(manager, method, path, body).ok().filter(|(status, _)| (200..500).contains(status))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for manager in 0..MANAGERS {
            self.engine_freeze(manager, false);
        }
        drop(self.commands.take());
        let _ = self.keeper.wait();
    }
}
