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
use super::options::Credentials;
use super::smart_http::Piece;
use super::{Trouble, known_hosts};

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
    pub(super) fn open(&self) -> Result<Repository, Trouble> {
        match Repository::open_bare(&self.path) {
            Ok(repository) => Ok(repository),
            Err(error) if error.code() == ErrorCode::Owner => {
                Err(Trouble::new(format!("the clone `{}` belongs to another user", self.path.display()))
                    .hint("remove it or choose another `--state-dir`"))
            }
            Err(_) => self.make_anew(),
        }
    }

    /// Removes the clone and makes an empty one. It holds nothing that cannot be fetched again.
    pub(super) fn make_anew(&self) -> Result<Repository, Trouble> {
        let cannot = |reason: String| {
            Trouble::new(format!("the clone `{}` cannot be made: {reason}", self.path.display()))
                .hint("check the directory's owner, mode and free space, or choose another `--state-dir`")
        };
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot(crate::desired::file::io_reason(&error)));
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&self.path).map_err(|error| cannot(crate::desired::file::io_reason(&error)))?;
        Repository::init_bare(&self.path).map_err(|error| cannot(error.message().to_owned()))
    }

    /// The commit that was in force when the operator last ran.
    pub(super) fn in_force(&self) -> Option<Oid> {
        let repository = Repository::open_bare(&self.path).ok()?;
        let commit = repository.find_reference(&self.in_force).ok()?.peel_to_commit().ok()?;
        Some(commit.id())
    }

    /// Puts a commit into force.
    pub(super) fn put_in_force(&self, commit: Oid) -> Result<(), Trouble> {
        self.open()?.reference(&self.in_force, commit, true, "in force").map_err(|error| local(&error))?;
        Ok(())
    }

    /// Keeps a fetched commit from being lost, and takes a tag for the commit that it names.
    pub(super) fn keep(&self, fetched: Oid) -> Result<Oid, Trouble> {
        let repository = self.open()?;
        let object = repository.find_object(fetched, None).map_err(|error| local(&error))?;
        let commit = object.peel_to_commit().map_err(|_| Trouble::new("the revision names no commit"))?;
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
    pub(super) fn find(&self, id: &str) -> Result<Option<Oid>, Trouble> {
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
    pub(super) fn take_pack(&self, mut pieces: mpsc::Receiver<Piece>) -> Result<(), Trouble> {
        let repository = self.open()?;
        let odb = repository.odb().map_err(|error| local(&error))?;
        let mut writer = odb.packwriter().map_err(|error| local(&error))?;
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Data(data) => writer.write_all(&data).map_err(|error| {
                    Trouble::new(format!(
                        "what was fetched cannot be kept: {}",
                        crate::desired::file::io_reason(&error)
                    ))
                    .hint("check the free space of the state directory")
                })?,
                Piece::End => {
                    writer.commit().map_err(|error| local(&error))?;
                    return Ok(());
                }
            }
        }
        Err(Trouble::new("the connection broke off"))
    }

    /// Fetches through libgit2: over SSH, or from a repository on this machine.
    pub(super) fn fetch(&self, url: &str, branch: Option<&str>, credentials: &Credentials) -> Result<Oid, Trouble> {
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
    refusal: &'a std::sync::Mutex<Option<Trouble>>,
) -> RemoteCallbacks<'a> {
    let refuse = move |trouble: Trouble| {
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
            return Err(refuse(Trouble::denied()));
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
        Err(refuse(Trouble::denied()))
    });
    callbacks.certificate_check(move |certificate, host| {
        let Some(key) = certificate.as_hostkey().and_then(|key| key.hostkey()) else {
            return Ok(CertificateCheckStatus::CertificatePassthrough);
        };
        let check = || -> Result<(), String> {
            let path = credentials.known_hosts.as_deref().ok_or("is not checked: name a known-hosts file")?;
            let text = fs::read_to_string(path).map_err(|error| {
                format!("cannot be checked: `{}` {}", path.display(), crate::desired::file::cannot_read(&error))
            })?;
            known_hosts::check(&text, host, port(url), key)
        };
        match check() {
            Ok(()) => Ok(CertificateCheckStatus::CertificateOk),
            Err(reason) => Err(refuse(Trouble::new(format!("the SSH server `{host}` {reason}")))),
        }
    });
    callbacks
}

/// The port of an `ssh://` URL.
fn port(url: &str) -> u16 {
    reqwest::Url::parse(url).ok().and_then(|url| url.port()).unwrap_or(22)
}

/// Something is wrong with the clone itself.
pub(super) fn local(error: &git2::Error) -> Trouble {
    Trouble { damage: true, ..Trouble::new(format!("the clone is damaged: {}", error.message())) }
}

fn away(error: &git2::Error) -> Trouble {
    match error.class() {
        ErrorClass::Odb
        | ErrorClass::Object
        | ErrorClass::Reference
        | ErrorClass::Tree
        | ErrorClass::Zlib
        | ErrorClass::Indexer => local(error),
        _ if error.code() == ErrorCode::Auth => Trouble::denied(),
        _ => Trouble::new(format!("the repository cannot be reached: {}", error.message())),
    }
}
