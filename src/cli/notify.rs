//! `ofop notify`: checks who is told what, and tries it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::args::TextOrJson;
use super::context::Context;
use super::{CliError, Exit, parts, problems};
use crate::clock::{Clock as _, SystemClock, rfc3339};
use crate::model::Problem;
use crate::notify::message::{
    Change, CommitState, CommitStatus, Counts, Item, Message, MessageStatus, Payload, VERSION,
};
use crate::notify::outcome::Outcome;
use crate::notify::send::Sender;
use crate::notify::settings::{Settings, Sink};
use crate::report::concerns::ConcernSeverity;

/// `notify`.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    /// What to do.
    #[command(subcommand)]
    pub act: NotifyAct,
}

/// What to do about notifications.
#[derive(Debug, Subcommand)]
pub enum NotifyAct {
    /// Say what is wrong with the notification file, and what it means
    Check(NotifyCheckArgs),
    /// Send a message to one sink or to all, and say what they say
    Test(NotifyTestArgs),
}

/// `notify check`.
#[derive(Debug, Args)]
pub struct NotifyCheckArgs {
    /// The notification file [env: OFOP_NOTIFY]
    #[arg(long, value_name = "FILE")]
    pub notify: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
}

/// `notify test`.
#[derive(Debug, Args)]
pub struct NotifyTestArgs {
    /// The sink [default: all]
    #[arg(value_name = "SINK")]
    pub sink: Option<String>,
    /// The notification file [env: OFOP_NOTIFY]
    #[arg(long, value_name = "FILE")]
    pub notify: Option<PathBuf>,
    /// The full id of a commit that hosts of repositories shall show a status for
    #[arg(long, value_name = "ID")]
    pub commit: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
}

impl NotifyArgs {
    /// The file that the command names.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        match &self.act {
            NotifyAct::Check(args) => args.notify.as_ref(),
            NotifyAct::Test(args) => args.notify.as_ref(),
        }
    }
}

/// What a sink said.
#[derive(Serialize)]
struct Said {
    sink: String,
    #[serde(rename = "type")]
    kind: &'static str,
    delivered: bool,
    said: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'static str,
}

#[derive(Serialize)]
struct Checked<'a> {
    valid: bool,
    sinks: Vec<CheckedSink<'a>>,
    rules: Vec<CheckedRule<'a>>,
    problems: Vec<&'a Problem>,
}

#[derive(Serialize)]
struct CheckedSink<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct CheckedRule<'a> {
    name: &'a str,
    to: &'a [String],
    severity: ConcernSeverity,
}

/// Checks or tries.
///
/// # Errors
/// When no file is named, or it is wrong.
pub(super) async fn run(args: &NotifyArgs, context: &Context) -> Result<Exit, CliError> {
    let Some(file) = parts::notify_file(context) else {
        return Err(CliError::usage("no notification file is named", "name it with --notify FILE or OFOP_NOTIFY"));
    };
    match &args.act {
        NotifyAct::Check(args) => {
            if let (TextOrJson::Json, Err(found)) = (args.output, file.read()) {
                let problems = problems::sorted(&found);
                context.output.json(&Checked { valid: false, sinks: Vec::new(), rules: Vec::new(), problems })?;
                return Ok(Exit::Failure);
            }
            let read = parts::notify_settings(context, &file)?;
            check(&read.settings, &read.warnings, args.output, context)
        }
        NotifyAct::Test(args) => {
            let read = parts::notify_settings(context, &file)?;
            problems::show(&read.warnings, &context.output);
            test(&read.settings, args, context).await
        }
    }
}

fn check(settings: &Settings, warnings: &[Problem], output: TextOrJson, context: &Context) -> Result<Exit, CliError> {
    if output == TextOrJson::Json {
        let sinks = settings.sinks.iter().map(|(name, sink)| CheckedSink { name, kind: sink.kind() });
        let rules = settings.rules.iter();
        let rules = rules.map(|rule| CheckedRule { name: &rule.name, to: &rule.to, severity: rule.severity });
        let (sinks, rules, problems) = (sinks.collect(), rules.collect(), problems::sorted(warnings));
        context.output.json(&Checked { valid: true, sinks, rules, problems })?;
        return Ok(Exit::Success);
    }
    context.output.data(&problems::render(warnings, context.output.paint.on))?;
    for (name, sink) in &settings.sinks {
        let told = match sink {
            Sink::Commit(_) => "the state of every commit".to_owned(),
            _ => {
                let rules = settings.rules.iter().filter(|rule| rule.to.contains(name));
                let rules: Vec<&str> = rules.map(|rule| rule.name.as_str()).collect();
                if rules.is_empty() { "nothing: no rule names it".to_owned() } else { rules.join(", ") }
            }
        };
        context.output.data_line(&format!("{name} ({sink}): {told}"))?;
    }
    context.output.data_line(&context.output.paint.green("valid"))?;
    Ok(Exit::Success)
}

async fn test(settings: &Settings, args: &NotifyTestArgs, context: &Context) -> Result<Exit, CliError> {
    let wanted = |name: &&String| args.sink.as_ref().is_none_or(|sink| sink == *name);
    let names: Vec<&String> = settings.sinks.keys().filter(wanted).collect();
    if let (Some(sink), true) = (&args.sink, names.is_empty()) {
        let all = settings.sinks.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(CliError::usage(format!("there is no sink `{sink}`"), format!("the sinks are {all}")));
    }
    let connections = parts::connections(context);
    let mut said = Vec::new();
    for name in names {
        let Some(sink) = settings.sinks.get(name) else { continue };
        let sender = Sender::new(sink, &connections);
        let outcome = match (sink, &args.commit) {
            (Sink::Commit(host), None) => sender.look(host).await,
            (Sink::Commit(_), Some(commit)) => sender.send(&commit_status(commit, settings, context)).await,
            (_, _) => sender.send(&Payload::Message(Box::new(message(name, settings, context)))).await,
        };
        said.push(told(name, sink, outcome));
    }
    let all = said.iter().all(|said| said.delivered);
    match args.output {
        TextOrJson::Json => context.output.json(&said)?,
        TextOrJson::Text => {
            for Said { sink, kind, delivered, said, hint } in &said {
                let paint = context.output.paint;
                let word = if *delivered { paint.green("delivered") } else { paint.red("failed") };
                context.output.data_line(&format!("{sink} ({kind}): {word}: {said}"))?;
                if !hint.is_empty() {
                    context.output.data_line(&format!("  hint: {hint}"))?;
                }
            }
        }
    }
    Ok(if all { Exit::Success } else { Exit::PartlyFailed })
}

fn told(name: &str, sink: &Sink, outcome: Outcome) -> Said {
    let (delivered, said, hint) = match outcome {
        Outcome::Delivered(said) => (true, said, ""),
        Outcome::Failed { reason, hint, .. } | Outcome::Refused { reason, hint } => (false, reason, hint),
    };
    Said { sink: name.to_owned(), kind: sink.kind(), delivered, said, hint }
}

fn commit_status(commit: &str, settings: &Settings, context: &Context) -> Payload {
    Payload::Commit(CommitStatus {
        commit: commit.to_owned(),
        state: CommitState::Success,
        description: "a test of notifications, which says nothing of this commit".to_owned(),
        link: settings.link.as_ref().map(|link| format!("{link}/")),
        instance: context.config.instance.to_string(),
    })
}

fn message(sink: &str, settings: &Settings, context: &Context) -> Message {
    let wall = SystemClock::new().wall();
    let (time, run) = (rfc3339(wall), context.run.to_string());
    let instance = context.config.instance.to_string();
    let title = format!("a test of the sink `{sink}` of ofop {instance}: nothing is wrong");
    let item = Item {
        subject: "operator".to_owned(),
        change: Change::News,
        kind: "test".to_owned(),
        severity: ConcernSeverity::Info,
        resource: None,
        file: None,
        message: title.clone(),
        hint: String::new(),
        since: time.clone(),
    };
    Message {
        version: VERSION,
        id: format!("{instance}-test-{}", run.replace(|c: char| !c.is_ascii_alphanumeric(), "-")),
        time,
        instance,
        rule: "test".to_owned(),
        group: String::new(),
        status: MessageStatus::Test,
        severity: ConcernSeverity::Info,
        title,
        counts: Counts { news: 1, ..Counts::default() },
        items: vec![item],
        omitted: 0,
        revision: String::new(),
        link: settings.link.as_ref().map(|link| format!("{link}/")),
    }
}
