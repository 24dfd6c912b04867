//! A page whose blocks of commands are run, one by one and in order.
//!
//! A step is a block of `sh` behind a comment with its name; a block of `console` behind it is what it prints, as far
//! as it is shown: each line must be in the output, blanks aside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "support for tests"
)]

use std::collections::VecDeque;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "port.rs"]
#[allow(clippy::duplicate_mod, reason = "several supports may be part of one test program")]
mod port;

/// How long anything may take; on an idle machine it is a second or two.
const PATIENCE: Duration = Duration::from_secs(90);

/// A block of commands.
struct Step {
    name: String,
    commands: String,
    shown: Vec<String>,
}

/// The steps of a page, in order.
pub(crate) struct Page(VecDeque<Step>);

impl Page {
    /// Takes the steps out of a page. A block of commands without a name is a mistake of the page.
    pub(crate) fn parse(text: &str) -> Self {
        let mut steps = VecDeque::<Step>::new();
        let (mut name, mut lines) = (None, text.lines());
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("<!-- step: ") {
                name = Some(rest.strip_suffix(" -->").expect("a step's comment ends").to_owned());
            }
            let Some(kind) = line.strip_prefix("```") else { continue };
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            match kind {
                "sh" => {
                    let name = name.take().unwrap_or_else(|| panic!("no step is named before {block:?}"));
                    assert!(steps.iter().all(|step| step.name != name), "two steps are named {name}");
                    steps.push_back(Step { name, commands: block.join("\n") + "\n", shown: Vec::new() });
                }
                "console" => steps.back_mut().unwrap().shown = block.into_iter().map(str::to_owned).collect(),
                _ => {}
            }
            assert!(name.is_none(), "no commands follow the step {name:?}");
        }
        Page(steps)
    }

    /// The commands of a step as they stand on the page.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.iter().find(|step| step.name == name).map(|step| step.commands.clone())
    }
}

/// Somebody who does what the page says, on a machine where names are others. What runs ends with it.
pub(crate) struct Walk {
    page: Page,
    folder: PathBuf,
    replaced: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    daemon: Option<Child>,
    /// What started the daemon.
    started: Option<Step>,
    began: Instant,
    /// Where the daemon shall listen.
    pub(crate) port: u16,
}

impl Walk {
    pub(crate) fn new(folder: &Path, page: Page) -> Self {
        let port = port::claim();
        let programs = folder.join("bin");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ofop"), programs.join("ofop")).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let variables = vec![("PATH".to_owned(), path)];
        Walk {
            page,
            folder: folder.to_owned(),
            replaced: Vec::new(),
            variables,
            daemon: None,
            started: None,
            began: Instant::now(),
            port,
        }
    }

    /// What the page calls so is called otherwise here. It must be on the page.
    pub(crate) fn replace(&mut self, name: &str, other: &str) {
        assert!(self.page.0.iter().any(|step| step.commands.contains(name)), "no step says {name}");
        self.replaced.push((name.to_owned(), other.to_owned()));
    }

    /// Sets a variable for whatever runs from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn next(&mut self, name: &str) -> Step {
        let step = self.page.0.pop_front().unwrap_or_else(|| panic!("the page ends before {name}"));
        assert_eq!(step.name, name, "the page has another step here");
        println!("{:5.1} s: {name}", self.began.elapsed().as_secs_f64());
        step
    }

    /// A shell with the commands of a step.
    fn shell(&self, step: &Step) -> Command {
        let here = |text: &String| self.replaced.iter().fold(text.clone(), |text, (from, to)| text.replace(from, to));
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &here(&step.commands)]).current_dir(&self.folder).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Runs the next step, which must be this one and succeed; what it printed.
    pub(crate) fn step(&mut self, name: &str) -> String {
        let step = self.next(name);
        let output = self.shell(&step).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {}\n{out}{err}\n{}", output.status, self.log());
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (printed, said) = (words(&out), words(&err));
        for line in &step.shown {
            let line = words(line);
            assert!(printed.contains(&line) || said.contains(&line), "{name} does not print {line}:\n{out}{err}");
        }
        assert!(!format!("{out}{err}").contains("sentinel"), "{name} shows a secret");
        out.into_owned()
    }

    /// Runs the next step, which does not end, and waits until the daemon answers.
    pub(crate) fn start(&mut self, name: &str) {
        assert!(self.daemon.is_none(), "a daemon runs already");
        self.started = Some(self.next(name));
        self.run();
    }

    /// Stops the daemon and starts it in the same way.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.run();
    }

    fn run(&mut self) {
        let step = self.started.as_ref().expect("a step has started the daemon");
        let log = fs::File::create(self.folder.join("log")).unwrap();
        // A group of its own, so that the shell's child can be told to end.
        let child = self.shell(step).process_group(0).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.daemon = Some(child);
        self.wait("the daemon answers", |walk| walk.try_get("/healthz").is_some());
    }

    /// Ends the daemon as a system does.
    pub(crate) fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let group = format!("-{}", daemon.id());
        let _ = Command::new("kill").args(["-s", "TERM", "--", &group]).status();
        let _ = daemon.wait();
    }

    /// Nothing on the page is left.
    pub(crate) fn end(&self) {
        let left: Vec<&str> = self.page.0.iter().map(|step| step.name.as_str()).collect();
        assert!(left.is_empty(), "the page has more steps: {left:?}");
    }

    /// What the daemon has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What the daemon answers, with whatever status.
    fn try_get(&self, path: &str) -> Option<String> {
        let address = format!("127.0.0.1:{}", self.port);
        let mut stream = TcpStream::connect(&address).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Sends the daemon something; the status of its answer.
    pub(crate) fn post(&self, path: &str, headers: &str, body: &str) -> u16 {
        let address = format!("127.0.0.1:{}", self.port);
        let mut stream = TcpStream::connect(&address).unwrap();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// What the daemon answers, as JSON; null while it does not.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.try_get(path).and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default()
    }

    /// Everything as the daemon sees it.
    pub(crate) fn status(&self) -> Value {
        self.get("/api/v1/resources")
    }

    /// A resource as the daemon sees it; null when it knows none.
    pub(crate) fn resource(&self, id: &str) -> Value {
        let resource = self.get(&format!("/api/v1/resources/{id}"));
        if resource["resource"] == id { resource } else { Value::Null }
    }

    /// Waits until a resource is in sync and healthy.
    pub(crate) fn settled(&self, id: &str) {
        self.wait(&format!("{id} is in sync and healthy"), |walk| {
            let resource = walk.resource(id);
            resource["sync"] == "Synced" && resource["health"] == "Healthy"
        });
    }

    /// Waits until the daemon has looked at everything twice more, so that one look began after this call.
    pub(crate) fn looked_again(&self) {
        let mut last = self.status()["time"].clone();
        for _ in 0..2 {
            self.wait("the daemon looks again", |walk| walk.status()["time"] != last);
            last = self.status()["time"].clone();
        }
    }

    /// Waits for something that must become true.
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut(&Walk) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > deadline {
                panic!("{what}: not within {} s; {}\nthe log:\n{}", PATIENCE.as_secs(), self.status(), self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.stop();
    }
}
