//! The clone: a bare repository that holds what was fetched, and the one reference that says which commit is in
//! force. Everything here blocks.
//!
//! The clone is shallow: it holds the newest commits without their history. Whatever commit it holds is there with all
//! of its folders and files, because packs are taken in whole or not at all; whether a commit's parents are there is
//! found out by looking for them ([`super::history`]).
//!
//! Nothing is ever checked out, so that no filter, hook or submodule of anybody's runs.
//!
//! A lock file beside the clone keeps processes on the same state directory from exchanging it under one another: who
//! fetches or reads shares it, who exchanges the clone has it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use git2::{
    AutotagOption, CertificateCheckStatus, Cred, CredentialType, Direction, ErrorClass, ErrorCode, FetchOptions, Oid,
    RemoteCallbacks, Repository,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::sync::mpsc;

use super::copy::copy;
use super::fetch::{no_such_place, pick};
use super::history;
use super::known_hosts;
use super::options::Credentials;
use super::smart_http::Piece;
use super::trouble::{denied, disk, missing, unreachable};
use crate::desired::file::{cannot_read, io_reason};
use crate::lock::FileLock;
use crate::model::{SourceTrouble, TroubleReason};

/// Where fetched commits are kept from being lost.
const FETCHED: &str = "refs/ofop/fetched";

/// How often a server may ask for credentials before it is taken as a no.
const ASKS: usize = 3;

/// References that are ours.
const OURS: &str = "refs/ofop/*";

/// Each fetch that brings something leaves a pack, and each read looks through all of them. From this number on the
/// clone is tidied up.
const MAX_PACKS: usize = 50;

/// How much of a branch's history is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The newest commits, as many as this.
    Newest(i32),
    /// All of it.
    All,
}

impl Depth {
    /// The newest commit alone.
    pub(super) const ONE: Depth = Depth::Newest(1);

    /// As git's protocol has it, where this number stands for no limit.
    pub(super) fn commits(self) -> i32 {
        match self {
            Depth::Newest(commits) => commits,
            Depth::All => i32::MAX,
        }
    }
}

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
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(|error| cannot(io_reason(&error)))?;
        Repository::init_bare(&self.path).map_err(|error| cannot(error.message().to_owned()))
    }

    /// Another clone beside this one.
    pub(super) fn beside(&self, name: &str) -> Self {
        Clone { path: self.path.with_extension(name), in_force: self.in_force.clone() }
    }

    /// Keeps others from exchanging the clone until the lock is dropped. None when locks cannot be had here, on a disk
    /// that is full or read-only.
    pub(super) fn share(&self) -> Option<FileLock> {
        FileLock::shared(&self.lock_path()?).ok()
    }

    /// Keeps others from reading and fetching until the lock is dropped. None while somebody does.
    fn claim(&self) -> Option<FileLock> {
        FileLock::alone(&self.lock_path()?).ok()?
    }

    /// The file that is locked; its folder exists.
    fn lock_path(&self) -> Option<PathBuf> {
        let path = self.path.with_extension("lock");
        DirBuilder::new().recursive(true).mode(0o700).create(path.parent()?).ok()?;
        Some(path)
    }

    /// Takes the place of another one, at once where the file system can do that.
    pub(super) fn replace(&self, other: &Clone) -> Result<(), SourceTrouble> {
        let cannot = |error: std::io::Error| {
            disk(format!("the clone `{}` cannot be replaced: {}", other.path.display(), io_reason(&error)))
        };
        let gone = |result: std::io::Result<()>| match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cannot(error)),
            Ok(()) | Err(_) => Ok(()),
        };
        if renameat_with(CWD, &self.path, CWD, &other.path, RenameFlags::EXCHANGE).is_ok() {
            return gone(fs::remove_dir_all(&self.path));
        }
        let old = other.path.with_extension("old");
        gone(fs::remove_dir_all(&old))?;
        gone(fs::rename(&other.path, &old))?;
        fs::rename(&self.path, &other.path).map_err(cannot)?;
        gone(fs::remove_dir_all(&old))
    }

    /// Whether it has become slow to read, or holds a history that nobody needs.
    pub(super) fn is_untidy(&self) -> bool {
        let Ok(folder) = fs::read_dir(self.path.join("objects/pack")) else { return false };
        let packs = folder.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"));
        packs.count() > MAX_PACKS
            || self.open().is_ok_and(|repository| {
                history::seen(&repository, &tips(&repository)).is_ok_and(|seen| seen.commits > history::LONG)
            })
    }

    /// Copies what our references name into a clone beside this one, and the references. What that one has already is
    /// not copied again.
    pub(super) fn copy_to(&self, fresh: &Clone) -> Result<(), SourceTrouble> {
        let (from, to) = (self.open()?, fresh.open()?);
        let of_here = |error: git2::Error| local(&error);
        let references = from.references_glob(OURS).map_err(of_here)?;
        let mut named = Vec::new();
        for reference in references {
            let reference = reference.map_err(of_here)?;
            let (Ok(name), Ok(commit)) = (reference.name(), reference.peel_to_commit()) else { continue };
            named.push((name.to_owned(), commit.id()));
        }
        let commits: Vec<Oid> = named.iter().map(|(_, commit)| *commit).collect();
        copy(&from, &to, &commits)?;
        for (name, commit) in named {
            to.reference(&name, commit, true, "tidied up").map_err(of_here)?;
        }
        fresh.mark_boundaries().map(drop)
    }

    /// Takes the place of another clone that this is a copy of, with what came in meanwhile.
    ///
    /// # Errors
    /// The other one is in use.
    pub(super) fn replace_idle(&self, other: &Clone) -> Result<(), SourceTrouble> {
        let _alone = other.claim().ok_or_else(|| super::trouble::other("the clone is in use"))?;
        other.copy_to(self)?;
        self.replace(other)
    }

    /// Removes it.
    pub(super) fn remove(&self) {
        // What is left is removed when it is made the next time.
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Notes in the repository which commits lack parents, as git and libgit2 want it. Returns them.
    fn mark_boundaries(&self) -> Result<Vec<Oid>, SourceTrouble> {
        let repository = self.open()?;
        let seen = history::seen(&repository, &tips(&repository)).map_err(|error| local(&error))?;
        let text: String = seen.boundaries.iter().map(|commit| format!("{commit}\n")).collect();
        let path = self.path.join("shallow");
        if fs::read_to_string(&path).unwrap_or_default() != text {
            let beside = self.path.join("shallow.new");
            fs::write(&beside, text)
                .and_then(|()| fs::rename(&beside, &path))
                .map_err(|error| disk(format!("`{}` cannot be written: {}", path.display(), io_reason(&error))))?;
        }
        Ok(seen.boundaries)
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
        let before = repository.find_reference(FETCHED).ok().and_then(|reference| reference.target());
        if before != Some(commit.id()) {
            repository.reference(FETCHED, commit.id(), true, "fetched").map_err(|error| local(&error))?;
            self.mark_boundaries()?;
        }
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

    /// The commit at a place of the history of `tip`: an id, an id and the way back from it, or the way back from `tip`.
    pub(super) fn at(&self, tip: Oid, place: &str) -> Result<Option<Oid>, SourceTrouble> {
        // What was taken for a boundary may have its parents by now.
        self.mark_boundaries()?;
        at(&self.open()?, tip, place).map_err(|error| local(&error))
    }

    /// What is here, for a server to leave it out.
    pub(super) fn held(&self) -> Result<Held, SourceTrouble> {
        let shallow = self.mark_boundaries()?;
        let ids = |commits: &[Oid]| commits.iter().map(Oid::to_string).collect();
        Ok(Held { tips: ids(&tips(&self.open()?)), shallow: ids(&shallow) })
    }

    /// Whether one commit comes after another, as far as can be seen here.
    pub(super) fn succeeds(&self, new: Oid, old: Oid) -> Result<history::Succeeds, SourceTrouble> {
        history::succeeds(&self.open()?, new, old).map_err(|error| local(&error))
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

    /// Fetches through libgit2: over SSH.
    pub(super) fn fetch(
        &self,
        url: &str,
        branch: Option<&str>,
        credentials: &Credentials,
        depth: Depth,
    ) -> Result<Oid, SourceTrouble> {
        let repository = self.open()?;
        let mut remote = repository.remote_anonymous(url).map_err(|error| away(&error))?;
        let refusal = std::sync::Mutex::new(None);
        let (name, oid) = wanted(&mut remote, url, branch, credentials, &refusal)?;
        if depth == Depth::ONE && self.has(oid) {
            return Ok(oid);
        }
        self.mark_boundaries()?;
        // Opened again, since the boundaries are read only then.
        let repository = self.open()?;
        let mut remote = repository.remote_anonymous(url).map_err(|error| away(&error))?;
        let mut options = FetchOptions::new();
        options.remote_callbacks(callbacks(url, credentials, &refusal)).download_tags(AutotagOption::None);
        options.depth(depth.commits());
        let spec = format!("+{name}:{FETCHED}");
        remote
            .fetch(&[spec.as_str()], Some(&mut options), None)
            .map_err(|error| refused(&refusal).unwrap_or_else(|| away(&error)))?;
        // libgit2 notes every commit that the server was asked to stop at, also where its parents are here.
        self.mark_boundaries()?;
        Ok(oid)
    }

    /// Copies a branch's newest commit from a repository on this machine, or the commit of that branch whose id begins
    /// like `id`.
    pub(super) fn fetch_beside(
        &self,
        url: &str,
        path: &Path,
        branch: Option<&str>,
        place: Option<&str>,
    ) -> Result<Oid, SourceTrouble> {
        let to = self.open()?;
        let credentials = Credentials::default();
        let mut remote = to.remote_anonymous(url).map_err(|error| away(&error))?;
        let (_, mut oid) = wanted(&mut remote, url, branch, &credentials, &std::sync::Mutex::new(None))?;
        drop(remote);
        let source = Repository::open(path).map_err(|error| away(&error))?;
        if let Some(place) = place {
            let none = || no_such_place(place);
            let commit = at(&source, oid, place).map_err(|error| away(&error))?.ok_or_else(none)?;
            let tip = source.find_object(oid, None).and_then(|object| object.peel_to_commit());
            let tip = tip.map_err(|error| away(&error))?.id();
            if tip != commit && !source.graph_descendant_of(tip, commit).map_err(|error| away(&error))? {
                return Err(none());
            }
            oid = commit;
        }
        if !self.has(oid) {
            // The source's objects are read by way of a repository with our own limits of memory.
            let from = self.open()?;
            let objects = source.commondir().join("objects");
            from.odb()
                .and_then(|odb| odb.add_disk_alternate(&objects.to_string_lossy()))
                .map_err(|error| away(&error))?;
            copy(&from, &to, &[oid])?;
        }
        Ok(oid)
    }
}

/// The commit at a place of the history of `tip`, see [`Clone::at`].
fn at(repository: &Repository, tip: Oid, place: &str) -> Result<Option<Oid>, git2::Error> {
    let found = if place.starts_with(['~', '^']) {
        repository.revparse_single(&format!("{tip}{place}"))
    } else if place.contains(['~', '^']) {
        repository.revparse_single(place)
    } else {
        repository.find_commit_by_prefix(place).map(git2::Commit::into_object)
    };
    match found.and_then(|object| object.peel_to_commit()) {
        Ok(commit) => Ok(Some(commit.id())),
        Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::Ambiguous | ErrorCode::InvalidSpec) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What a clone holds, as ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// The commits that are named by our references.
    pub(super) tips: Vec<String>,
    /// Commits whose parents are not here.
    pub(super) shallow: Vec<String>,
}

/// The commits that our references name.
fn tips(repository: &Repository) -> Vec<Oid> {
    let Ok(references) = repository.references_glob(OURS) else { return Vec::new() };
    let commits = references.filter_map(|reference| reference.ok()?.peel_to_commit().ok());
    let tips: BTreeSet<Oid> = commits.map(|commit| commit.id()).collect();
    tips.into_iter().collect()
}

/// Whether one commit of a repository on this machine comes after another.
pub(super) fn succeeds_beside(path: &Path, new: Oid, old: Oid) -> Result<bool, SourceTrouble> {
    let source = Repository::open(path).map_err(|error| away(&error))?;
    if source.find_commit(old).is_err() {
        return Ok(false);
    }
    source.graph_descendant_of(new, old).map_err(|error| away(&error))
}

/// Full name and id of what is wanted of a remote.
fn wanted(
    remote: &mut git2::Remote<'_>,
    url: &str,
    branch: Option<&str>,
    credentials: &Credentials,
    refusal: &std::sync::Mutex<Option<SourceTrouble>>,
) -> Result<(String, Oid), SourceTrouble> {
    let connection = remote
        .connect_auth(Direction::Fetch, Some(callbacks(url, credentials, refusal)), None)
        .map_err(|error| refused(refusal).unwrap_or_else(|| away(&error)))?;
    let refs: BTreeMap<String, String> = connection
        .list()
        .map_err(|error| away(&error))?
        .iter()
        .map(|head| (head.name().to_owned(), head.oid().to_string()))
        .collect();
    let head = connection.default_branch().ok().and_then(|name| name.as_str().ok().map(str::to_owned));
    let (name, id) = pick(&refs, head.as_deref(), branch)?;
    Ok((name, Oid::from_str(&id).map_err(|error| away(&error))?))
}

fn refused(refusal: &std::sync::Mutex<Option<SourceTrouble>>) -> Option<SourceTrouble> {
    refusal.lock().ok().and_then(|mut refusal| refusal.take())
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
