//! The reference of the command line, as `docs/cli.md` holds it: generated, and a test says when it is stale.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::args::Cli;

/// The whole page.
pub fn markdown() -> String {
    let command = Cli::command();
    let mut out = String::from(
        "# Command line\n\n\
         Generated from the command tree; `cargo test --test cli` says when it is stale and how to renew it.\n",
    );
    let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(out, "\n{about}\n\n## Options of every command\n");
    options(&mut out, &command, |_| true);
    if let Some(after) = command.get_after_help() {
        let _ = writeln!(out, "\n```text\n{after}\n```");
    }
    for sub in command.get_subcommands() {
        section(&mut out, sub);
    }
    out
}

fn section(out: &mut String, command: &Command) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let aliases: Vec<String> = command.get_all_aliases().map(|alias| format!("`ofop {alias}`")).collect();
    let aliases = if aliases.is_empty() { String::new() } else { format!(" Also {}.", aliases.join(", ")) };
    let _ = writeln!(out, "\n## ofop {}\n\n{about}.{aliases}\n", command.get_name());
    options(out, command, |argument| !argument.is_global_set());
    if let Some(after) = command.get_after_help() {
        let _ = writeln!(out, "\n```text\n{after}\n```");
    }
}

fn options(out: &mut String, command: &Command, wanted: impl Fn(&Arg) -> bool) {
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| wanted(argument) && !matches!(argument.get_id().as_str(), "help" | "version"))
        .collect();
    if arguments.is_empty() {
        return;
    }
    out.push_str("| option | meaning |\n|---|---|\n");
    for argument in arguments {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let mut more = String::new();
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if argument.get_action().takes_values() && !values.is_empty() {
            let _ = write!(more, ": {}", values.join(", "));
        }
        let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if argument.get_action().takes_values() && !default.is_empty() {
            let _ = write!(more, " [default: {}]", default.join(" "));
        }
        let _ = writeln!(out, "| `{}` | {}{} |", usage(argument), help.replace('|', "\\|"), more.replace('|', "\\|"));
    }
}

fn usage(argument: &Arg) -> String {
    let value = || {
        let names: Vec<String> =
            argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
        names.join(" ").replace('|', "\\|")
    };
    let takes = argument.get_action().takes_values();
    match (argument.get_short(), argument.get_long()) {
        (None, None) => value(),
        (short, long) => {
            let mut names: Vec<String> = Vec::new();
            names.extend(short.map(|short| format!("-{short}")));
            names.extend(long.map(|long| format!("--{long}")));
            let names = names.join(", ");
            if takes { format!("{names} {}", value()) } else { names }
        }
    }
}
