//! A git repository, and somebody who works on it.

#![allow(clippy::unwrap_used, dead_code, reason = "support for tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Somebody's work tree and the bare repository that it is pushed to.
pub(crate) struct Plant {
    pub(crate) dir: TempDir,
    pub(crate) work: PathBuf,
}

impl Plant {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plant = Plant { work: dir.path().join("work"), dir };
        plant.git(plant.dir.path(), &["init", "-q", "--bare", "-b", "main", "hub/plant.git"]);
        plant.git(plant.dir.path(), &["init", "-q", "-b", "main", "work"]);
        plant.git(&plant.work, &["remote", "add", "origin", "../hub/plant.git"]);
        plant
    }

    pub(crate) fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(folder)
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "Line Team"), ("GIT_AUTHOR_EMAIL", "line@plant.example")])
            .envs([("GIT_COMMITTER_NAME", "Line Team"), ("GIT_COMMITTER_EMAIL", "line@plant.example")])
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.work.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The address of the repository on this machine.
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.hub().display())
    }

    /// Makes a key pair `NAME` and `NAME.pub` for SSH and signatures, and returns the path of the private one.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
        assert!(made.unwrap().success());
        path
    }

    /// From now on `git commit -S` signs with this key.
    pub(crate) fn sign_with(&self, key: &Path) {
        self.git(&self.work, &["config", "gpg.format", "ssh"]);
        self.git(&self.work, &["config", "user.signingkey", key.to_str().unwrap()]);
    }

    /// Commits everything and pushes it; the new commit's id.
    pub(crate) fn push(&self, subject: &str) -> String {
        self.push_with(subject, &[])
    }

    pub(crate) fn push_with(&self, subject: &str, options: &[&str]) -> String {
        self.git(&self.work, &["add", "-A"]);
        self.git(&self.work, &[&["commit", "-q", "--allow-empty", "-m", subject], options].concat());
        self.git(&self.work, &["push", "-q", "--force", "origin", "HEAD"]);
        self.git(&self.work, &["rev-parse", "HEAD"])
    }

    /// Commits everything and pushes it under a full reference; the new commit's id.
    pub(crate) fn push_to(&self, subject: &str, reference: &str) -> String {
        self.git(&self.work, &["add", "-A"]);
        self.git(&self.work, &["commit", "-q", "--allow-empty", "-m", subject]);
        self.git(&self.work, &["push", "-q", "--force", "origin", &format!("HEAD:{reference}")]);
        self.git(&self.work, &["rev-parse", "HEAD"])
    }

    pub(crate) fn hub(&self) -> PathBuf {
        self.dir.path().join("hub/plant.git")
    }
}
