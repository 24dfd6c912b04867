//! The policy file on the disk: the operator's own, read again when it changes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::file;
use super::policy::Policy;
use crate::model::Problem;

/// What lets others than the owner write a file.
const WRITABLE: u32 = 0o022;

/// The most symlinks on the way to a file, as on Linux.
const MAX_LINKS: usize = 40;

/// A policy and the file that it comes from. One that becomes invalid leaves what it last validly said in force.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    path: PathBuf,
    shown: Arc<str>,
    /// Where manifests come from: whoever writes there may not write the policy.
    sources: Vec<PathBuf>,
    /// What the file was found to be the last time.
    seen: Result<Arc<str>, String>,
    policy: Arc<Policy>,
    digest: [u8; 32],
    problems: Vec<Problem>,
}

impl PolicyFile {
    /// Reads the file, which may not lie below one of the sources. Blocking.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn open(path: &Path, sources: Vec<PathBuf>) -> Result<Self, Vec<Problem>> {
        let shown: Arc<str> = path.to_string_lossy().into();
        let text = match refusal(path, &sources) {
            Some(problem) => return Err(vec![problem]),
            None => file::read(path).map_or_else(|| Err("does not exist".into()), |reading| reading.content),
        };
        let text = text.map_err(|reason| vec![unreadable(&shown, &reason)])?;
        let policy = Arc::new(Policy::parse(&shown, &text)?);
        let digest = Sha256::digest(text.as_bytes()).into();
        Ok(PolicyFile { path: path.to_owned(), shown, sources, seen: Ok(text), policy, digest, problems: Vec::new() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in force.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// A hash of what is in force.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What is wrong with the newest state of the file.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Why the newest state of the file is not in force.
    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        let first = self.problems.first()?;
        Some(format!("the policy as it was read last stays in force: {first}").into())
    }

    /// Why the file may not be read as it is there now. Blocking.
    pub(super) fn refusal(&self) -> Option<Problem> {
        refusal(&self.path, &self.sources)
    }

    /// Takes in what the file was found to be. Whether another policy is in force then.
    pub(super) fn take(&mut self, refused: Option<Problem>, content: Result<Arc<str>, String>) -> bool {
        if let Some(problem) = refused {
            self.seen = Err(problem.message.clone());
            self.problems = vec![problem];
            return false;
        }
        if self.seen == content {
            return false;
        }
        let parsed = match &content {
            Ok(text) => Policy::parse(&self.shown, text).map(|policy| (policy, Sha256::digest(text.as_bytes()).into())),
            Err(reason) => Err(vec![unreadable(&self.shown, reason)]),
        };
        self.seen = content;
        match parsed {
            Ok((policy, digest)) => {
                self.problems.clear();
                let changed = self.digest != digest;
                (self.policy, self.digest) = (Arc::new(policy), digest);
                changed
            }
            Err(problems) => {
                self.problems = problems;
                false
            }
        }
    }
}

fn unreadable(shown: &Arc<str>, reason: &str) -> Problem {
    Problem::file(Arc::clone(shown), format!("the policy {reason}")).hint("--policy or OFOP_POLICY names it")
}

/// Why a file may not be the policy: it, or a symlink on the way to it, lies where manifests come from, or others may
/// write it.
fn refusal(path: &Path, sources: &[PathBuf]) -> Option<Problem> {
    let shown = path.to_string_lossy();
    if let Some(source) = source_that_holds(path, sources) {
        let message = format!(
            "the policy lies in `{}`, where manifests come from: whoever writes them could change it",
            source.display()
        );
        return Some(Problem::file(&*shown, message).hint("keep it elsewhere, such as in /etc/ofop/policy.yml"));
    }
    // What is not there is told where it is read.
    let mode = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.mode() & 0o7777;
    (mode & WRITABLE != 0).then(|| {
        Problem::file(&*shown, format!("others than its owner may write the policy (mode {mode:04o})"))
            .hint(format!("run `chmod go-w {shown}`"))
    })
}

/// Of these folders, the one that a file of the operator's own lies below, or a symlink on the way to it. Blocking.
pub(crate) fn source_that_holds(path: &Path, sources: &[PathBuf]) -> Option<PathBuf> {
    let real: Vec<PathBuf> = sources.iter().filter_map(|source| fs::canonicalize(source).ok()).collect();
    way(path).iter().find_map(|step| real.iter().find(|source| step.starts_with(source)).cloned())
}

/// Where a file lies, and each symlink on the way to it, without symlinks in the folders above.
fn way(path: &Path) -> Vec<PathBuf> {
    let mut way = Vec::new();
    let mut next = path.to_owned();
    while way.len() < MAX_LINKS {
        let folder = next.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (Ok(folder), Some(name)) = (fs::canonicalize(folder), next.file_name()) else { break };
        let here = folder.join(name);
        let leads_to = fs::read_link(&here);
        way.push(here);
        match leads_to {
            Ok(target) => next = folder.join(target),
            Err(_) => break,
        }
    }
    way
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const POLICY: &str = "folders: {.: {uuids: ['*']}}\n";

    #[test]
    fn a_policy_that_writers_of_manifests_could_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (source, own) = (dir.path().join("source"), dir.path().join("own"));
        for folder in [&source, &own] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("policy.yml"), POLICY).unwrap();
        }
        symlink(own.join("policy.yml"), source.join("out.yml")).unwrap();
        symlink(source.join("policy.yml"), own.join("in.yml")).unwrap();
        symlink(source.join("out.yml"), own.join("through.yml")).unwrap();
        symlink(&source, own.join("folder")).unwrap();
        let open = |path: PathBuf| PolicyFile::open(&path, vec![source.clone()]);
        assert!(open(own.join("policy.yml")).is_ok());
        assert!(open(own.join("../own/policy.yml")).is_ok());
        for path in [
            source.join("policy.yml"),
            source.join("out.yml"),
            own.join("in.yml"),
            own.join("through.yml"),
            own.join("folder/policy.yml"),
            own.join("../source/policy.yml"),
        ] {
            let problems = open(path.clone()).unwrap_err();
            assert!(problems[0].message.contains("where manifests come from"), "{path:?} {problems:?}");
        }
        for (mode, fine) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(own.join("policy.yml"), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open(own.join("policy.yml")).is_ok(), fine, "{mode:o}");
        }
        assert!(open(own.join("none.yml")).unwrap_err()[0].message.contains("does not exist"));
    }
}
