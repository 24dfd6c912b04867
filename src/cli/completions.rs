//! `ofop completions`: a script that has a shell ask `ofop` itself what can follow.

use std::ffi::OsString;

use clap::Args;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use super::args::Cli;
use super::output::Output;
use super::{CliError, Exit, complete};

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When standard output fails.
pub fn run(args: &CompletionsArgs, output: &Output) -> Result<Exit, CliError> {
    output.data(&script(args.shell)?)?;
    Ok(Exit::Success)
}

/// The script for a shell. Whichever `ofop` comes first on the path then answers.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn script(shell: Shell) -> Result<String, CliError> {
    let mut script = Vec::new();
    if let Some(completer) = Shells::builtins().completer(&shell.to_string()) {
        completer.write_registration(complete::VARIABLE, "ofop", "ofop", "ofop", &mut script)?;
    }
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Completes a line when the variable of the script says so; whether it did.
///
/// # Errors
/// When the shell is unknown, or standard output fails.
pub(super) fn answer(arguments: &[OsString]) -> Result<bool, clap::Error> {
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(Cli::tree).var(complete::VARIABLE).try_complete(arguments.to_vec(), here.as_deref())
}
