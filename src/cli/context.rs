//! What every command gets: the validated configuration and where to write.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::output::Output;
use super::{CliError, args::Cli, state_directory};
use crate::config::{Config, Variables};
use crate::model::RunId;

/// What every command gets.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// Every setting.
    pub(super) config: Config,
    /// Where to write.
    pub(super) output: Output,
    /// Which run of `ofop` this is.
    pub(super) run: RunId,
}

impl Context {
    /// Reads the environment, the dotenv file and the flags.
    ///
    /// # Errors
    /// When a setting is invalid, or the state directory is a newer program's.
    pub(super) fn new(cli: &Cli, output: Output) -> Result<Self, CliError> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let variables = Variables::load(environment, cli.global.env_file.as_deref())?;
        let config = Config::load(&cli.flags(), variables)?;
        state_directory::check(&config.state_dir)?;
        Ok(Context { config, output, run: this_run() })
    }
}

/// The id of this process: where it runs, and a number that no other one draws.
fn this_run() -> RunId {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // the operating system seeds every `RandomState`
    let random = RandomState::new().build_hasher().finish();
    RunId::new(host.trim(), std::process::id(), random)
}
