//! `ofop rollout`: how changes go out, and words to the daemon about it.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::client::{Client, DaemonArgs};
use super::context::Context;
use super::output::Paint;
use super::table::{Cell, Table};
use super::{CliError, Exit, complete, control};
use crate::model::{Command as Word, ResourceId, RolloutStatus};
use crate::render::yaml as render_yaml;

/// `rollout`.
#[derive(Debug, Args)]
pub struct RolloutsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RolloutCommand,
}

/// What can be asked of rollouts.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Show the rollouts that are not over: what is on its way, what waits, what broke
    Status(StatusArgs),
    /// Go on with rollouts that are halted, without what broke, or were aborted
    Resume(WordArgs),
    /// Let the changes of a resource out although its window is closed
    Start(StartArgs),
    /// Change nothing more for the revision in force; the next one begins anew
    Abort(WordArgs),
}

/// `rollout status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: StatusFormat,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// `rollout start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// app/UUID or device/UUID
    #[arg(value_name = "KIND/UUID", add = ArgValueCompleter::new(complete::resources))]
    pub resource: ResourceId,
    /// Outside its window is meant
    #[arg(long, required = true)]
    pub now: bool,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// `rollout resume` and `rollout abort`.
#[derive(Debug, Args)]
pub struct WordArgs {
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// How `rollout status` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl RolloutsArgs {
    /// The daemon that is asked.
    pub(super) fn daemon(&self) -> &DaemonArgs {
        match &self.command {
            RolloutCommand::Status(args) => &args.daemon,
            RolloutCommand::Start(args) => &args.daemon,
            RolloutCommand::Resume(args) | RolloutCommand::Abort(args) => &args.daemon,
        }
    }
}

/// Asks the daemon, or tells it.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub(super) async fn run(args: &RolloutsArgs, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        RolloutCommand::Status(args) => status(args, context).await,
        RolloutCommand::Resume(_) => control::run(&Word::RolloutResume, context).await,
        RolloutCommand::Start(args) => control::run(&Word::RolloutStart(args.resource.clone()), context).await,
        RolloutCommand::Abort(_) => control::run(&Word::RolloutAbort, context).await,
    }
}

async fn status(args: &StatusArgs, context: &Context) -> Result<Exit, CliError> {
    let client = Client::new(context)?;
    let answer = client.get("/api/v1/rollouts").await?;
    match args.output {
        StatusFormat::Json => context.output.data(&format!("{answer:#}\n"))?,
        StatusFormat::Yaml => context.output.data(&render_yaml(&answer))?,
        StatusFormat::Text => {
            let rollouts: Vec<RolloutStatus> = serde_json::from_value(answer).map_err(|error| CliError::Daemon {
                what: format!("the answer of the daemon at {} cannot be understood: {error}", client.address()),
                hint: "it may be of another version than this program".into(),
            })?;
            if rollouts.is_empty() {
                context.output.note("no rollout is under way");
            } else {
                context.output.data(&text(&rollouts, context.output.paint, context.output.width))?;
            }
        }
    }
    Ok(Exit::Success)
}

/// How many resources of one kind of line are named.
const NAMED: usize = 6;

/// The rollouts as a table, and below it what broke.
fn text(rollouts: &[RolloutStatus], paint: Paint, width: Option<usize>) -> String {
    let mut table = Table::new(&["ROLLOUT", "STATE", "SIZE", "PLACES", "ON-THEIR-WAY", "WAITING", "BROKEN"]);
    for rollout in rollouts {
        let count = |number: usize| Cell::plain(number.to_string());
        table.row(vec![
            Cell::plain(rollout.scope.to_string()),
            Cell::plain(rollout.state()),
            count(rollout.size),
            count(rollout.places),
            count(rollout.on_their_way.len()),
            count(rollout.waiting.len()),
            count(rollout.failed.len()),
        ]);
    }
    let mut text = table.render(paint, width);
    for rollout in rollouts {
        for failure in rollout.failed.iter().take(NAMED) {
            text.push_str(&format!("\n{} broke: {}", failure.resource, failure.message));
        }
        let more = rollout.failed.len().saturating_sub(NAMED);
        if more > 0 {
            text.push_str(&format!("\nand {more} more broke"));
        }
        for (what, ids) in [("on their way", &rollout.on_their_way), ("waiting", &rollout.waiting)] {
            if !ids.is_empty() {
                text.push_str(&format!("\n{what} ({}): {}", rollout.scope, named(ids)));
            }
        }
    }
    text.push('\n');
    text
}

fn named(ids: &[ResourceId]) -> String {
    let first: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", first.join(", ")) } else { first.join(", ") }
}
