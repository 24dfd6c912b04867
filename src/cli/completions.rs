//! `ofop completions`: a script that teaches a shell the commands.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::args::Cli;
use super::output::Output;
use super::{CliError, Exit};

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
    output.data(&script(args.shell))?;
    Ok(Exit::Success)
}

/// The script for a shell.
pub fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ofop", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
