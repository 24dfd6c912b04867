//! Why a command cannot do its work. Each error ends with a hint that says what to do.

use std::error::Error;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::model::SourceTrouble;
use crate::platform::PlatformError;
use crate::registry::RegistryError;

/// Why a command cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A command needs to be told something.
    #[error("{what}")]
    Usage {
        /// What is missing or wrong.
        what: String,
        /// What to write.
        hint: String,
    },
    /// The policy is wrong; its problems have been shown.
    #[error("the policy `{}` cannot be used", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
    },
    /// The notification file is wrong; its problems have been shown.
    #[error("the notification file `{}` cannot be used", path.display())]
    Notify {
        /// The file.
        path: PathBuf,
    },
    /// The manifests cannot be read.
    #[error("cannot read the manifests: {0}")]
    Source(SourceTrouble),
    /// The engine cannot be observed.
    #[error("cannot see what runs: {0}")]
    Platform(PlatformError),
    /// The registry cannot be observed.
    #[error("cannot see what is registered: {0}")]
    Registry(RegistryError),
    /// The registry cannot be set up.
    #[error("cannot set up the registry: {0}")]
    SetUp(RegistryError),
    /// The running daemon cannot be asked.
    #[error("{what}")]
    Daemon {
        /// What went wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The running daemon has too many commands to take another one now.
    #[error("{what}")]
    Busy {
        /// What it says.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The HTTP address is taken or refused.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The machine gives no threads or no event queue.
    #[error("cannot start")]
    Runtime {
        /// Why.
        source: std::io::Error,
    },
    /// A file or directory of ours cannot be used.
    #[error("cannot {act} `{}`", path.display())]
    File {
        /// `create`, `write`, …
        act: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Standard output failed for another reason than a reader that left.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// An error of usage.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        CliError::Usage { what: what.into(), hint: hint.into() }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            CliError::Config(error) => Some(error.hint()),
            CliError::Usage { hint, .. } | CliError::Daemon { hint, .. } | CliError::Busy { hint, .. } => {
                Some(hint.clone())
            }
            CliError::Policy { .. } => {
                Some("mend it, and look with `ofop policy check`; without a policy everything would be allowed".into())
            }
            CliError::Notify { .. } => Some("mend it, and look with `ofop notify check`".into()),
            CliError::Source(error) => error.hint.clone(),
            CliError::Platform(error) => error.hint.clone(),
            CliError::Registry(error) | CliError::SetUp(error) => error.hint.clone(),
            CliError::Listen { source, .. } => Some(match source.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program (another ofop?) uses it; choose another one with --listen".into()
                }
                std::io::ErrorKind::PermissionDenied => "choose a port above 1023 with --listen".into(),
                _ => "choose an address of this machine with --listen".into(),
            }),
            CliError::File { .. } => Some("check the path and its permissions".into()),
            CliError::Runtime { .. } => Some("check the limits of the process: ulimit -a".into()),
            CliError::Output(_) => None,
        }
    }
}

/// An error with everything that caused it: `cannot read x: no such file`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
