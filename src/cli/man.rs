//! `ofop man` and `ofop options`: what the command tree says, as manual pages and as a list.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use super::args::Cli;
use super::output::Output;
use super::{CliError, Exit};

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory that the pages are written to; it is made if it does not exist
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub directory: PathBuf,
}

/// Writes the pages.
///
/// # Errors
/// When the directory cannot be made or written to.
pub(super) fn run(args: &ManArgs, output: &Output) -> Result<Exit, CliError> {
    let failed = |act| move |source| CliError::File { act, path: args.directory.clone(), source };
    std::fs::create_dir_all(&args.directory).map_err(failed("create"))?;
    // The options of every command are on the page of ofop itself.
    let tree = Cli::tree().disable_help_subcommand(true).mut_args(|argument| match argument.is_global_set() {
        true => argument.hide_short_help(false).hide_long_help(false).global(false),
        false => argument,
    });
    clap_mangen::generate_to(tree, &args.directory).map_err(failed("write"))?;
    output.note(&format!("the pages are in {}", args.directory.display()));
    Ok(Exit::Success)
}

/// Prints the options that every command understands.
///
/// # Errors
/// When standard output fails.
pub(super) fn options(output: &Output) -> Result<Exit, CliError> {
    output.data(&options_text(output.width))?;
    Ok(Exit::Success)
}

fn options_text(width: Option<usize>) -> String {
    let tree = Cli::command();
    let global = tree.get_arguments().filter(|argument| argument.is_global_set()).cloned();
    let command = clap::Command::new("ofop").args(global).disable_help_flag(true).help_template("{all-args}");
    let mut command = match width {
        Some(width) => command.term_width(width),
        None => command,
    };
    let text = command.render_help().to_string();
    format!("These options go with every command, before it or after it:\n\n{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_every_command_are_listed_once_and_no_command_repeats_them() {
        let text = options_text(Some(80));
        for option in ["--desired", "--git", "--host", "--state-dir", "--color", "--quiet"] {
            assert!(text.contains(option), "{option}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let mut tree = Cli::tree();
        tree.build();
        for command in tree.get_subcommands_mut() {
            let name = command.get_name().to_owned();
            for help in [command.render_help(), command.render_long_help()] {
                assert!(!help.to_string().contains("--git-rewritten"), "{name}");
            }
        }
    }
}
