//! `ofop logs`: what the programs of a resource print, as the engine keeps it.

mod print;

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::{CliError, Exit, complete, parts, seen, signals, suggest};
use crate::model::{ResourceId, TaskView};
use crate::platform::PlatformError;
use crate::platform::engine::Engine;
use crate::platform::logs::{self, LogLine, LogOptions, LogSource};
use crate::report::events::since;
use print::Printer;

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// app/UUID or device/UUID
    #[arg(value_name = "KIND/UUID", add = ArgValueCompleter::new(complete::resources))]
    pub resource: ResourceId,
    /// Go on with what is printed from now on
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines of each task, or `all` that the engine keeps [default: 100, with --since all]
    #[arg(long, value_name = "N|all", value_parser = tail)]
    pub tail: Option<Tail>,
    /// From when on: an age (30m, 2h, 7d) or a time (2026-01-02T03:04:05Z)
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub since: Option<String>,
    /// Only of this task: the number of its replica, or the beginning of its id
    #[arg(long, value_name = "N|ID")]
    pub task: Option<String>,
    /// Only of this service of the resource
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// With the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

/// How many of the last lines; none: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail(Option<u32>);

/// Lines of each task that are shown when nothing is said.
const TAIL: u32 = 100;
/// The most lines, and bytes of them, that are sorted by their times.
const MOST_LINES: usize = 100_000;
const MOST_BYTES: usize = 64 << 20;

fn tail(text: &str) -> Result<Tail, String> {
    match text.parse() {
        Ok(lines) => Ok(Tail(Some(lines))),
        Err(_) if text == "all" => Ok(Tail(None)),
        Err(_) => Err("write a number, or `all`".into()),
    }
}

/// Seconds since 1970 with their fraction, as the engine takes them.
fn seconds(text: &str) -> Result<String, String> {
    let time: Timestamp = since(text)?.parse().map_err(|error: jiff::Error| error.to_string())?;
    Ok(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}

impl LogsArgs {
    fn options(&self) -> LogOptions {
        let tail = match (self.tail, &self.since) {
            (Some(Tail(tail)), _) => tail,
            (None, Some(_)) => None,
            (None, None) => Some(TAIL),
        };
        LogOptions { follow: self.follow, tail, since: self.since.clone() }
    }
}

/// Prints what is kept, and with `--follow` what comes.
///
/// # Errors
/// When the engine cannot be read, or the resource has nothing that prints.
pub(super) async fn run(args: &LogsArgs, context: &Context) -> Result<Exit, CliError> {
    let engine = parts::engine(context)?;
    let sources = sources(args, &engine, context).await?;
    let mut printer = Printer::new(engine.clone(), &sources, args.timestamps, context.output);
    let options = args.options();
    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone());
    let mut opened = Vec::new();
    for source in &sources {
        opened.push(lines(logs::open(&engine, source, &options).await.map_err(CliError::Platform)?)); // I/O
    }
    let mut all = stream::select_all(opened);
    let mut kept = Kept::default();
    loop {
        let line = tokio::select! {
            line = all.next() => line,
            () = stop.cancelled() => return Ok(Exit::Interrupted),
        };
        match line {
            Some(line) if args.follow => {
                printer.print(&line.map_err(CliError::Platform)?).await?;
                if context.output.reader_left() {
                    return Ok(Exit::Success);
                }
            }
            Some(line) => kept.add(line.map_err(CliError::Platform)?),
            None => break,
        }
    }
    let (lines, left_out) = kept.sorted();
    if lines.is_empty() && !printer.has_printed() {
        context.output.note("nothing was printed");
    }
    for line in &lines {
        printer.print(line).await?;
        if context.output.reader_left() {
            return Ok(Exit::Success);
        }
    }
    if left_out > 0 {
        let hint = "a smaller --tail, a later --since or --task shows all of what it names";
        context.output.note(&format!("{left_out} earlier lines are left out; {hint}"));
    }
    if args.follow {
        context.output.note("nothing is left that could print");
    }
    Ok(Exit::Success)
}

/// What prints, as the arguments choose.
async fn sources(args: &LogsArgs, engine: &Engine, context: &Context) -> Result<Vec<LogSource>, CliError> {
    let config = &context.config;
    let platform = config.settings.platform;
    let found = logs::sources(engine, platform, &config.instance, &args.resource).await; // I/O
    let mut found = found.map_err(CliError::Platform)?;
    if found.is_empty() {
        return Err(without_service(&args.resource, context).await);
    }
    if let Some(name) = &args.service {
        let names: Vec<String> = found.iter().map(|source| source.service.clone()).collect();
        found.retain(|source| source.service.eq_ignore_ascii_case(name));
        if found.is_empty() {
            let what = format!("{} has no service `{}`", args.resource, name.escape_debug());
            return Err(CliError::usage(what, format!("it has {}", names.join(", "))));
        }
    }
    if let Some(task) = &args.task {
        let chosen: Vec<LogSource> = found.iter().flat_map(|source| source.tasks_called(task)).collect();
        if chosen.is_empty() {
            let what = format!("{} has no task `{}`", args.resource, task.escape_debug());
            return Err(CliError::usage(what, format!("`ofop describe {}` lists its tasks", args.resource)));
        }
        found = chosen;
    }
    Ok(found)
}

/// Why there is nothing to read: it is not deployed, carries another mark, or does not exist.
async fn without_service(id: &ResourceId, context: &Context) -> CliError {
    match seen::look(context).await {
        Ok(status) => match status.get(id) {
            Some(_) => CliError::usage(
                format!("{id} has no service of ours that could print anything"),
                format!("`ofop describe {id}` shows what it has"),
            ),
            None => suggest::unknown(id, &status),
        },
        // Neither manifests nor a daemon are there to ask: the engine has been.
        Err(_) => CliError::usage(
            format!("no service of {id} runs for the operator instance {}", context.config.instance),
            "check the name, --instance and --host",
        ),
    }
}

type Lines = BoxStream<'static, Result<LogLine, PlatformError>>;

/// Output as a stream, which ends after an error.
fn lines(logs: logs::Logs) -> Lines {
    stream::unfold(Some(logs), |logs| async {
        let mut logs = logs?;
        match logs.next().await {
            Ok(Some(line)) => Some((Ok(line), Some(logs))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// The last lines of what was read.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    left_out: usize,
}

impl Kept {
    fn add(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > MOST_LINES || self.bytes > MOST_BYTES {
            let Some(first) = self.lines.pop_front() else { return };
            self.bytes -= first.text.len();
            self.left_out += 1;
        }
    }

    /// By time, and how many were left out. What the engine says comes last.
    fn sorted(self) -> (Vec<LogLine>, usize) {
        let mut lines = Vec::from(self.lines);
        lines.sort_by(|one, other| (one.time.is_empty(), &one.time).cmp(&(other.time.is_empty(), &other.time)));
        (lines, self.left_out)
    }
}

/// How long `describe` waits for the last lines of a task.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many lines of a task `describe` shows, and how long they may be, in characters.
const LAST: u32 = 10;
const LONGEST: usize = 400;

/// The last lines of a task, fit for a terminal; none where the engine cannot be asked.
pub(super) async fn last_lines(task: &TaskView, context: &Context) -> Vec<String> {
    let Ok(engine) = parts::engine(context) else { return Vec::new() };
    let source = LogSource::task(&task.id, context.config.settings.platform);
    let options = LogOptions { tail: Some(LAST), ..LogOptions::default() };
    let mut kept = Kept::default();
    let read = async {
        let Ok(mut logs) = logs::open(&engine, &source, &options).await else { return };
        while let Ok(Some(line)) = logs.next().await {
            kept.add(line);
        }
    };
    // What has come until then is better than nothing.
    let _ = tokio::time::timeout(PATIENCE, read).await;
    let (lines, _) = kept.sorted();
    let said = lines.iter().filter(|line| line.stream != logs::LogStream::Engine);
    let texts: Vec<String> = said.map(|line| print::plain(&line.text, LONGEST)).collect();
    let first = texts.len().saturating_sub(LAST as usize);
    texts[first..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::logs::LogStream;

    fn line(time: &str, text: &str) -> LogLine {
        LogLine { time: time.into(), task: String::new(), stream: LogStream::Out, text: text.into() }
    }

    #[test]
    fn lines_of_several_tasks_are_sorted_and_the_oldest_are_left_out() {
        let mut kept = Kept::default();
        for (time, text) in [("2", "b"), ("", "engine"), ("1", "a"), ("2", "c")] {
            kept.add(line(time, text));
        }
        let (lines, left_out) = kept.sorted();
        assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "engine"]);
        assert_eq!(left_out, 0);
        let mut kept = Kept::default();
        (0..MOST_LINES + 3).for_each(|number| kept.add(line(&format!("{number:09}"), "x")));
        let mut long = Kept::default();
        (0..3).for_each(|_| long.add(line("1", &"x".repeat(MOST_BYTES / 2))));
        assert_eq!((kept.sorted().1, long.sorted().1), (3, 1));
    }

    #[test]
    fn tails_and_times_are_read_and_other_words_refused() {
        assert_eq!(tail("20"), Ok(Tail(Some(20))));
        assert_eq!(tail("all"), Ok(Tail(None)));
        assert!(tail("-1").is_err() && tail("many").is_err());
        assert_eq!(seconds("2026-01-02T03:04:05.678Z").unwrap(), "1767323045.678000000");
        assert!(seconds("soon").is_err());
    }
}
