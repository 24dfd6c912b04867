//! Where manifests come from, behind one type: a directory, or a git repository.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};

use super::CliError;
use super::context::Context;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Git, Manifests, Rewritten};
use crate::desired::directory::{self, DirectorySource};
use crate::desired::git::{self, Credentials, GitOptions, GitSource, SignedCommits, Wall};
use crate::desired::{Source, Tree};
use crate::model::{SourcePlace, SourceTrouble};

/// Where manifests come from.
pub(super) enum AnySource {
    /// Folders and files.
    Directory(Box<DirectorySource>),
    /// A repository.
    Git {
        /// The repository.
        git: GitSource,
        /// The folder of its clone where that is for this command alone: it goes with the source.
        _folder: Option<Temporary>,
    },
}

/// What a source is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Read once: what is there now counts.
    Once,
    /// Watched: a change is taken once it has lasted.
    Watch,
}

impl AnySource {
    /// No folder and no file.
    pub(super) fn nothing() -> Self {
        let nowhere: [PathBuf; 0] = [];
        AnySource::Directory(Box::new(DirectorySource::new(nowhere, directory::Options::at_once())))
    }

    /// The paths that a command was given, else what is configured. Nothing is read yet.
    ///
    /// # Errors
    /// When there is neither, or paths and a repository were both asked for.
    pub(super) fn new(context: &Context, given: &[PathBuf], purpose: Use) -> Result<Self, CliError> {
        let config = &context.config;
        let directory = |paths: Vec<PathBuf>| {
            let options = match purpose {
                Use::Once => directory::Options::at_once(),
                Use::Watch => directory::Options::watching(config.resync),
            };
            let options = directory::Options { models: config.model_roots.clone(), ..options };
            AnySource::Directory(Box::new(DirectorySource::new(paths, options)))
        };
        match (&config.manifests, given) {
            (Some(Manifests::Git(git)), [_, ..]) if git.by_flag => Err(CliError::usage(
                "PATH and --git exclude each other",
                "leave PATH out, and name a folder of the repository with --path",
            )),
            (_, [_, ..]) => Ok(directory(given.to_vec())),
            (Some(Manifests::Directory(path)), []) => Ok(directory(vec![path.clone()])),
            (Some(Manifests::Git(git)), []) => {
                let (folder, own) = match purpose {
                    Use::Once => clones(&config.state_dir)?,
                    Use::Watch => (config.state_dir.clone(), None),
                };
                let options = GitOptions { once: purpose == Use::Once, ..git_options(config, git, folder) };
                Ok(AnySource::Git { git: GitSource::new(options), _folder: own })
            }
            (None, []) => Err(CliError::usage(
                "no manifests are named",
                "name their directory with --desired DIR or OFOP_DESIRED, e.g. --desired desired/, or their \
                 repository with --git URL or OFOP_GIT_URL",
            )),
        }
    }
}

/// Where on this machine manifests come from: given paths, the configured directory, a repository with its clone.
pub(super) fn folders(config: &Config, given: &[PathBuf]) -> Vec<PathBuf> {
    let configured = match &config.manifests {
        Some(Manifests::Directory(path)) => vec![path.clone()],
        Some(Manifests::Git(git)) => {
            let path = git.url.strip_prefix("file://").unwrap_or(&git.url);
            vec![PathBuf::from(path), config.state_dir.join("git")]
        }
        None => Vec::new(),
    };
    configured.into_iter().chain(given.iter().cloned()).collect()
}

fn git_options(config: &Config, git: &Git, state_dir: PathBuf) -> GitOptions {
    GitOptions {
        branch: git.branch.clone(),
        revision: git.revision.clone(),
        from_clone: git.from_clone,
        path: git.path.clone(),
        interval: git.interval,
        timeout: git.timeout,
        credentials: Credentials {
            user: git.user.clone(),
            token: git.token.as_ref().map(|token| token.expose().to_owned()),
            token_file: git.token_file.clone(),
            ssh_key: git.ssh_key.clone(),
            ssh_passphrase: git.ssh_passphrase.as_ref().map(|passphrase| passphrase.expose().to_owned()),
            known_hosts: git.known_hosts.clone(),
        },
        ca_file: config.remote.ca_file.clone(),
        allowed_signers: git.allowed_signers.clone(),
        revoked_signers: git.revoked_signers.clone(),
        signed: if git.all_signed { SignedCommits::All } else { SignedCommits::Head },
        wall: Some(Wall::new(|| SystemClock::new().wall().duration_since(UNIX_EPOCH).unwrap_or_default())),
        rewritten: match git.rewritten {
            Rewritten::Follow => git::Rewritten::Follow,
            Rewritten::Refuse => git::Rewritten::Refuse,
        },
        ..GitOptions::new(&git.url, state_dir)
    }
}

impl Source for AnySource {
    async fn load(&self) -> Result<Tree, SourceTrouble> {
        match self {
            AnySource::Directory(directory) => directory.load().await,
            AnySource::Git { git, .. } => git.load().await,
        }
    }

    fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        let changes: BoxStream<'static, ()> = match self {
            AnySource::Directory(directory) => directory.changes().boxed(),
            AnySource::Git { git, .. } => git.changes().boxed(),
        };
        changes
    }

    fn refresh(&self) {
        match self {
            AnySource::Directory(directory) => directory.refresh(),
            AnySource::Git { git, .. } => git.refresh(),
        }
    }

    fn place(&self) -> SourcePlace {
        match self {
            AnySource::Directory(directory) => directory.place(),
            AnySource::Git { git, .. } => git.place(),
        }
    }

    fn read_ago(&self) -> Option<Duration> {
        match self {
            AnySource::Directory(directory) => directory.read_ago(),
            AnySource::Git { git, .. } => git.read_ago(),
        }
    }

    async fn attachment(&self, manifest: &str, path: &str) -> Result<Arc<str>, String> {
        match self {
            AnySource::Directory(directory) => directory.attachment(manifest, path).await,
            AnySource::Git { git, .. } => git.attachment(manifest, path).await,
        }
    }
}

/// A folder for one command, which goes with it.
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// A folder of its own that nobody else may look into.
    ///
    /// # Errors
    /// When it cannot be made, also because somebody made one of that name.
    pub(super) fn new(purpose: &str) -> Result<Self, CliError> {
        let folder = std::env::temp_dir().join(format!("ofop-{purpose}{}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => Ok(Temporary(folder)),
            Err(source) => Err(CliError::File { act: "create", path: folder, source }),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left behind is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a command that looks once clones to: the state directory, so that the next one need not fetch everything
/// again; a temporary folder where this user may not write to that.
fn clones(state_dir: &Path) -> Result<(PathBuf, Option<Temporary>), CliError> {
    let probe = state_dir.join("git").join(format!(".probe-{}", std::process::id()));
    let writable = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir.join("git"))
        .and_then(|()| fs::File::create(&probe));
    if writable.is_ok() {
        let _ = fs::remove_file(&probe);
        return Ok((state_dir.to_owned(), None));
    }
    let folder = Temporary::new("")?;
    Ok((folder.path().to_owned(), Some(folder)))
}
