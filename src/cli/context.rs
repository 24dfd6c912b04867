//! What every command gets: the validated configuration and where to write.

use super::output::Output;
use super::{CliError, args::Cli};
use crate::config::{Config, Variables};

/// What every command gets.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// Every setting.
    pub(super) config: Config,
    /// Where to write.
    pub(super) output: Output,
}

impl Context {
    /// Reads the environment, the dotenv file and the flags.
    ///
    /// # Errors
    /// When a setting is invalid.
    pub(super) fn new(cli: &Cli, output: Output) -> Result<Self, CliError> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let variables = Variables::load(environment, cli.global.env_file.as_deref())?;
        Ok(Context { config: Config::load(&cli.flags(), variables)?, output })
    }
}
