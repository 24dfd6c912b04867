//! The command line: parses arguments, reads the configuration, runs one command, ends with its exit code.
//!
//! # Flow
//!
//! ```text
//! arguments ─► Cli ─► Config ─► the command ─► Exit (or CliError, shown with a hint) ─► exit code
//! ```
//!
//! One file per command: its arguments and what it does. [`daemon`] is the composition root of `ofop run`,
//! [`oneshot`] looks once for commands that act on nothing, [`apply`] and [`down`] converge once; all take their parts
//! from [`parts`].
//!
//! # Guarantees
//!
//! - Data goes to standard output, everything else to standard error; no colour and no redrawn line where
//!   there is no terminal; a reader that leaves early is no error.
//! - Exit codes are those of [`exit`]; an error of the user's making ends with a hint.

mod adapters;
pub mod adopt;
mod age;
pub mod apply;
pub mod args;
mod client;
mod complete;
pub mod completions;
mod confirm;
mod context;
mod control;
mod daemon;
pub mod describe;
pub mod diff;
pub mod doctor;
pub mod down;
mod error;
mod events;
pub mod exit;
pub mod get;
pub mod health;
pub mod history;
mod hold;
pub mod import;
mod lease;
mod logging;
pub mod logs;
pub mod man;
mod manifests;
pub mod notify;
mod obstacles;
mod oneshot;
mod output;
mod parts;
pub mod plan;
pub mod policy;
mod problems;
mod progress;
pub mod reference;
pub mod registry;
pub mod render;
pub mod rollout;
mod rollout_args;
pub mod run;
pub mod schema;
mod seen;
mod service_assets;
mod signals;
mod source_text;
mod sources;
mod state_directory;
mod suggest;
mod table;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod version;
mod wait;
pub mod wait_for;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Cli, Command};
use context::Context;
pub use error::{CliError, chain};
pub use exit::Exit;
pub use output::Output;

/// The whole program: takes the arguments (the program's name first), returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match completions::answer(&arguments) {
        Ok(false) => {}
        Ok(true) => return Exit::Success.into(),
        Err(error) => {
            let _ = error.print();
            return Exit::Failure.into();
        }
    }
    let cli = match Cli::parse_words(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stream is nobody's business; help and version go to standard output with code 0.
            let _ = error.print();
            return if error.use_stderr() { Exit::Failure.into() } else { Exit::Success.into() };
        }
    };
    let output = Output { verbose: cli.global.verbose > 0, ..Output::new(cli.global.color, cli.global.quiet) };
    match start(&cli, output) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.error(&chain(&error), error.hint().as_deref());
            Exit::Failure.into()
        }
    }
}

/// Runs commands that need no configuration, else reads it and goes on.
fn start(cli: &Cli, output: Output) -> Result<Exit, CliError> {
    match &cli.command {
        Command::Completions(args) => return completions::run(args, &output),
        Command::Schema(args) => return schema::run(args, &output),
        Command::Version(args) => return version::run(args, &output),
        Command::Man(args) => return man::run(args, &output),
        Command::Options => return man::options(&output),
        Command::Run(_)
        | Command::Validate(_)
        | Command::Render(_)
        | Command::Plan(_)
        | Command::Apply(_)
        | Command::Down(_)
        | Command::Get(_)
        | Command::Health(_)
        | Command::Describe(_)
        | Command::Events(_)
        | Command::History(_)
        | Command::Diff(_)
        | Command::Logs(_)
        | Command::Import(_)
        | Command::Wait(_)
        | Command::Doctor(_)
        | Command::Reconcile(_)
        | Command::Suspend(_)
        | Command::Freeze(_)
        | Command::Resume(_)
        | Command::Adopt(_)
        | Command::Policy(_)
        | Command::Notify(_)
        | Command::Rollout(_)
        | Command::Registry(_) => {}
    }
    let context = match (Context::new(cli, output), &cli.command) {
        (Err(error), Command::Doctor(args)) => return doctor::without_settings(args, &error, &output),
        (context, _) => context?,
    };
    for warning in context.config.variables.warnings() {
        output.note(&format!("{} {warning}", output.error_paint.yellow("warning:")));
    }
    let level = logging::Level {
        daemon: matches!(cli.command, Command::Run(_)),
        verbose: cli.global.verbose,
        quiet: cli.global.quiet,
    };
    logging::set_up(context.config.log_format, level, &output);
    // Fails only if there is a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Runtime { source })?;
    let exit = runtime.block_on(command(&cli.command, &context));
    // A read that hangs on a dead file system must not hold up the end.
    runtime.shutdown_background();
    exit
}

async fn command(command: &Command, context: &Context) -> Result<Exit, CliError> {
    use crate::model::Command as Word;
    match command {
        Command::Run(_) => daemon::run(context).await,
        Command::Validate(args) => validate::run(args, context).await,
        Command::Render(args) => render::run(args, context).await,
        Command::Plan(args) => plan::run(args, context).await,
        Command::Apply(args) => apply::apply(args, context).await,
        Command::Down(args) => down::run(args, context).await,
        Command::Get(args) => get::run(args, context).await,
        Command::Health(args) => health::run(args, context).await,
        Command::Describe(args) => describe::run(args, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::History(args) => history::run(args, context).await,
        Command::Diff(args) => diff::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Import(args) => import::run(args, context).await,
        Command::Wait(args) => wait_for::run(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Reconcile(args) => wait::reconcile(args, context).await,
        Command::Suspend(args) => control::run(&args.command()?, context).await,
        Command::Freeze(args) => control::run(&args.command()?, context).await,
        Command::Resume(args) => control::run(&Word::Resume(args.named("resume")?), context).await,
        Command::Adopt(args) => adopt::run(args, context).await,
        Command::Policy(args) => policy::run(args, context).await,
        Command::Notify(args) => notify::run(args, context).await,
        Command::Rollout(args) => rollout::run(args, context).await,
        Command::Registry(args) => registry::run(args, context).await,
        Command::Schema(args) => schema::run(args, &context.output),
        Command::Man(args) => man::run(args, &context.output),
        Command::Options => man::options(&context.output),
        Command::Completions(args) => completions::run(args, &context.output),
        Command::Version(args) => version::run(args, &context.output),
    }
}
