//! An SSH server on loopback for the user who runs the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "support for tests"
)]

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

#[path = "port.rs"]
#[allow(clippy::duplicate_mod, reason = "several supports may be part of one test program")]
mod port;

/// Far more than it takes on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The server. It ends with the test.
pub(crate) struct Sshd {
    folder: PathBuf,
    child: Option<Child>,
    pub(crate) port: u16,
}

impl Sshd {
    /// Keeps its configuration and log in `folder`, shows `host_key`, and lets in whoever `authorized_keys` lists;
    /// that file is read at each attempt.
    pub(crate) fn start(folder: &Path, host_key: &Path, authorized_keys: &Path) -> Self {
        let port = port::claim();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            host_key.display(),
            authorized_keys.display()
        );
        fs::write(folder.join("sshd_config"), config).unwrap();
        // Where the server of a root user wants to be locked up; packages make it at boot.
        let _ = fs::create_dir_all("/run/sshd");
        let mut sshd = Sshd { folder: folder.to_owned(), child: None, port };
        sshd.resume();
        sshd
    }

    /// The address of a repository on this machine, by way of the server.
    pub(crate) fn url(&self, repository: &Path) -> String {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, repository.display())
    }

    /// Listens again on the same port, and waits until it does.
    pub(crate) fn resume(&mut self) {
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let child = Command::new(sshd.expect("sshd is installed"))
            .args(["-D", "-e", "-f"])
            .arg(self.folder.join("sshd_config"))
            .stderr(fs::File::create(self.log()).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen: {}", fs::read_to_string(self.log()).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Listens no more.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("sshd.log")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}
