//! The clone: a bare repository that holds what was fetched, and the one reference that says which commit is in
//! force. Everything here blocks.
//!
//! Nothing is ever checked out, so that no filter, hook or submodule of anybody's runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use git2::{
    AutotagOption, CertificateCheckStatus, Cred, CredentialType, Direction, ErrorClass, ErrorCode, FetchOptions, Oid,
    RemoteCallbacks, Repository,
};
use tokio::sync::mpsc;

use super::fetch::pick;
use super::known_hosts;
use super::options::Credentials;
use super::smart_http::Piece;
use super::trouble::{denied, disk, missing, unreachable};
use crate::desired::file::{cannot_read, io_reason};
use crate::model::{SourceTrouble, TroubleReason};

/// Where fetched commits are kept from being lost.
const FETCHED: &str = "refs/ofop/fetched";

/// How often a server may ask for credentials before it is taken as a no.
const ASKS: usize = 3;

/// References that are ours.
const OURS: &str = "refs/ofop/*";

/// A clone on disk.
#[derive(Debug, Clone)]
pub(super) struct Clone {
    pub(super) path: PathBuf,
    /// The reference of the commit that is in force, for the next start of the operator.
    pub(super) in_force: String,
}

impl Clone {
    /// Opens the clone; makes it when there is none, and anew when it is damaged beyond opening.
    pub(super) fn open(&self) -> Result<Repository, SourceTrouble> {
        match Repository::open_bare(&self.path) {
            Ok(repository) => Ok(repository),
            Err(error) if error.code() == ErrorCode::Owner => {
                Err(disk(format!("the clone `{}` belongs to another user", self.path.display()))
                    .hint("remove it or choose another `--state-dir`"))
            }
            Err(_) => self.make_anew(),
        }
    }

    /// Removes the clone and makes an empty one. It holds nothing that cannot be fetched again.
    pub(super) fn make_anew(&self) -> Result<Repository, SourceTrouble> {
        let cannot = |reason: String| disk(format!("the clone `{}` cannot be made: {reason}", self.path.display()));
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot(io_reason(&error)));
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&self.path).map_err(|error| cannot(io_reason(&error)))?;
        Repository::init_bare(&self.path).map_err(|error| cannot(error.message().to_owned()))
    }

    /// Another clone beside this one.
    pub(super) fn beside(&self) -> Self {
        Clone { path: self.path.with_extension("new"), in_force: self.in_force.clone() }
    }

    /// Takes the place of another one.
    pub(super) fn replace(&self, other: &Clone) -> Result<(), SourceTrouble> {
        let cannot = |error: std::io::Error| {
            disk(format!("the clone `{}` cannot be replaced: {}", other.path.display(), io_reason(&error)))
        };
        let old = other.path.with_extension("old");
        let gone = |result: std::io::Result<()>| match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cannot(error)),
            Ok(()) | Err(_) => Ok(()),
        };
        gone(fs::remove_dir_all(&old))?;
        gone(fs::rename(&other.path, &old))?;
        fs::rename(&self.path, &other.path).map_err(cannot)?;
        gone(fs::remove_dir_all(&old))
    }

    /// How many packs there are.
    pub(super) fn packs(&self) -> usize {
        let Ok(folder) = fs::read_dir(self.path.join("objects/pack")) else { return 0 };
        folder.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "pack")).count()
    }

    /// The commit that was in force when the operator last ran.
    pub(super) fn in_force(&self) -> Option<Oid> {
        let repository = Repository::open_bare(&self.path).ok()?;
        let commit = repository.find_reference(&self.in_force).ok()?.peel_to_commit().ok()?;
        Some(commit.id())
    }

    /// Puts a commit into force.
    pub(super) fn put_in_force(&self, commit: Oid) -> Result<(), SourceTrouble> {
        self.open()?.reference(&self.in_force, commit, true, "in force").map_err(|error| local(&error))?;
        Ok(())
    }

    /// Keeps a fetched commit from being lost, and takes a tag for the commit that it names.
    pub(super) fn keep(&self, fetched: Oid) -> Result<Oid, SourceTrouble> {
        let repository = self.open()?;
        let object = repository.find_object(fetched, None).map_err(|error| local(&error))?;
        let commit = object.peel_to_commit().map_err(|_| missing("the revision names no commit"))?;
        repository.reference(FETCHED, commit.id(), true, "fetched").map_err(|error| local(&error))?;
        Ok(commit.id())
    }

    /// Whether a commit is here with everything that it needs.
    pub(super) fn has(&self, commit: Oid) -> bool {
        self.open().is_ok_and(|repository| {
            repository.find_object(commit, None).is_ok_and(|object| object.peel_to_tree().is_ok())
        })
    }

    /// The commit with an id that begins like this, if there is one and no other.
    pub(super) fn find(&self, id: &str) -> Result<Option<Oid>, SourceTrouble> {
        match self.open()?.find_commit_by_prefix(id) {
            Ok(commit) => Ok(Some(commit.id())),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::Ambiguous) => Ok(None),
            Err(error) => Err(local(&error)),
        }
    }

    /// Ids of the commits that are here, for a server to leave out what leads to them.
    pub(super) fn tips(&self) -> Vec<String> {
        let Ok(repository) = self.open() else { return Vec::new() };
        let Ok(references) = repository.references_glob(OURS) else { return Vec::new() };
        let commits = references.filter_map(|reference| reference.ok()?.peel_to_commit().ok());
        let tips: BTreeSet<String> = commits.map(|commit| commit.id().to_string()).collect();
        tips.into_iter().collect()
    }

    /// Takes in a pack that arrives in pieces. One that breaks off leaves nothing behind.
    pub(super) fn take_pack(&self, mut pieces: mpsc::Receiver<Piece>) -> Result<(), SourceTrouble> {
        let repository = self.open()?;
        let odb = repository.odb().map_err(|error| local(&error))?;
        let mut writer = odb.packwriter().map_err(|error| local(&error))?;
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Data(data) => writer
                    .write_all(&data)
                    .map_err(|error| disk(format!("what was fetched cannot be kept: {}", io_reason(&error))))?,
                Piece::End => {
                    writer.commit().map_err(|error| local(&error))?;
                    return Ok(());
                }
            }
        }
        Err(unreachable("the connection broke off"))
    }

    /// Fetches through libgit2: over SSH, or from a repository on this machine.
    pub(super) fn fetch(
        &self,
        url: &str,
        branch: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Oid, SourceTrouble> {
        let repository = self.open()?;
        let mut remote = repository.remote_anonymous(url).map_err(|error| away(&error))?;
        let refusal = std::sync::Mutex::new(None);
        let connection = remote.connect_auth(Direction::Fetch, Some(callbacks(url, credentials, &refusal)), None);
        let refused = || refusal.lock().ok().and_then(|mut refusal| refusal.take());
        let connection = connection.map_err(|error| refused().unwrap_or_else(|| away(&error)))?;
        let refs: BTreeMap<String, String> = connection
            .list()
            .map_err(|error| away(&error))?
            .iter()
            .map(|head| (head.name().to_owned(), head.oid().to_string()))
            .collect();
        let head = connection.default_branch().ok().and_then(|name| name.as_str().ok().map(str::to_owned));
        drop(connection);
        let (name, id) = pick(&refs, head.as_deref(), branch)?;
        let oid = Oid::from_str(&id).map_err(|error| away(&error))?;
        if self.has(oid) {
            return Ok(oid);
        }
        let mut options = FetchOptions::new();
        options.remote_callbacks(callbacks(url, credentials, &refusal)).download_tags(AutotagOption::None);
        let spec = format!("+{name}:{FETCHED}");
        remote
            .fetch(&[spec.as_str()], Some(&mut options), None)
            .map_err(|error| refused().unwrap_or_else(|| away(&error)))?;
        Ok(oid)
    }
}

fn callbacks<'a>(
    url: &'a str,
    credentials: &'a Credentials,
    refusal: &'a std::sync::Mutex<Option<SourceTrouble>>,
) -> RemoteCallbacks<'a> {
    let refuse = move |trouble: SourceTrouble| {
        if let Ok(mut refusal) = refusal.lock() {
            *refusal = Some(trouble);
        }
        git2::Error::from_str("refused")
    };
    let mut asked = 0;
    let mut callbacks = RemoteCallbacks::new();
    callbacks.credentials(move |_, user, allowed| {
        asked += 1;
        if asked > ASKS {
            return Err(refuse(denied()));
        }
        let user = user.unwrap_or("git");
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(user);
        }
        if allowed.contains(CredentialType::SSH_KEY) {
            return match &credentials.ssh_key {
                Some(key) => Cred::ssh_key(user, None, key, credentials.ssh_passphrase.as_deref()),
                None => Cred::ssh_key_from_agent(user),
            };
        }
        Err(refuse(denied()))
    });
    callbacks.certificate_check(move |certificate, host| {
        let Some(key) = certificate.as_hostkey().and_then(|key| key.hostkey()) else {
            return Ok(CertificateCheckStatus::CertificatePassthrough);
        };
        let check = || -> Result<(), String> {
            let path = credentials.known_hosts.as_deref().ok_or("is not checked: name a known-hosts file")?;
            let text = fs::read_to_string(path)
                .map_err(|error| format!("cannot be checked: `{}` {}", path.display(), cannot_read(&error)))?;
            known_hosts::check(&text, host, port(url), key)
        };
        match check() {
            Ok(()) => Ok(CertificateCheckStatus::CertificateOk),
            Err(reason) => Err(refuse(unreachable(format!("the SSH server `{host}` {reason}")))),
        }
    });
    callbacks
}

/// The port of an `ssh://` URL.
fn port(url: &str) -> u16 {
    reqwest::Url::parse(url).ok().and_then(|url| url.port()).unwrap_or(22)
}

/// Something is wrong with the clone itself, or with the disk that it lies on.
pub(super) fn local(error: &git2::Error) -> SourceTrouble {
    if is_of_the_disk(error) {
        return disk(format!("the clone cannot be read or written: {}", error.message()));
    }
    SourceTrouble::new(TroubleReason::Damaged, format!("the clone is damaged: {}", error.message()))
}

/// Whether another clone would fare no better. libgit2 tells by its texts alone, which end with those of the C library.
fn is_of_the_disk(error: &git2::Error) -> bool {
    const REASONS: [&str; 6] = [
        "No space left on device",
        "Disk quota exceeded",
        "Read-only file system",
        "Permission denied",
        "Too many open files",
        "Input/output error",
    ];
    REASONS.iter().any(|reason| error.message().contains(reason))
}

fn away(error: &git2::Error) -> SourceTrouble {
    match error.class() {
        ErrorClass::Odb
        | ErrorClass::Object
        | ErrorClass::Reference
        | ErrorClass::Tree
        | ErrorClass::Zlib
        | ErrorClass::Indexer => local(error),
        ErrorClass::Os | ErrorClass::Filesystem if is_of_the_disk(error) => local(error),
        _ if error.code() == ErrorCode::Auth => denied(),
        _ => {
            let message = format!("the repository cannot be reached: {}", error.message());
            if error.code() == ErrorCode::NotFound { missing(message) } else { unreachable(message) }
        }
    }
}
