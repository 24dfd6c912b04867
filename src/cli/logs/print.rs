//! How lines of programs are printed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::CliError;
use crate::cli::output::Output;
use crate::model::text::cut;
use crate::platform::engine::Engine;
use crate::platform::logs::{self, LogLine, LogSource, LogStream};

/// Prints lines, each with the task that it is from where there are several.
pub(super) struct Printer {
    engine: Engine,
    sources: Vec<LogSource>,
    /// Names of tasks by id, as wide as the widest.
    names: BTreeMap<String, String>,
    named: bool,
    timestamps: bool,
    output: Output,
    printed: bool,
}

impl Printer {
    pub(super) fn new(engine: Engine, sources: &[LogSource], timestamps: bool, output: Output) -> Self {
        let names = names(sources);
        let mut distinct: Vec<&String> = names.values().collect();
        distinct.sort_unstable();
        distinct.dedup();
        let named = distinct.len() > 1;
        Printer { engine, sources: sources.to_vec(), names, named, timestamps, output, printed: false }
    }

    /// Whether anything was printed.
    pub(super) fn has_printed(&self) -> bool {
        self.printed
    }

    /// Prints one line.
    ///
    /// # Errors
    /// When standard output fails.
    pub(super) async fn print(&mut self, line: &LogLine) -> Result<(), CliError> {
        if line.stream == LogStream::Engine {
            self.output.note(&format!("{} {}", self.output.error_paint.yellow("engine:"), line.text.trim_end()));
            return Ok(());
        }
        self.printed = true;
        let terminal = self.output.width.is_some();
        let mut text = String::new();
        if self.named {
            if !self.names.contains_key(&line.task) {
                self.learn(&line.task).await;
            }
            let name = self.names.get(&line.task).map_or_else(|| short(&line.task), |name| name.as_str());
            text.push_str(&self.output.paint.cyan(name));
            text.push_str(" | ");
        }
        if self.timestamps {
            text.push_str(&self.output.paint.dim(&local(&line.time)));
            text.push(' ');
        }
        match terminal {
            true => text.push_str(&tame(&line.text)),
            false => text.push_str(&line.text),
        }
        Ok(self.output.data_line(&text)?)
    }

    /// A task that came while lines were followed.
    async fn learn(&mut self, task: &str) {
        for source in &mut self.sources {
            // It is shown by its id where that fails.
            let _ = logs::refresh(&self.engine, source).await;
        }
        self.names = names(&self.sources);
        self.names.entry(task.to_owned()).or_insert_with(|| short(task).to_owned());
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// `press.1@hall-2` for each task, all of them equally wide.
fn names(sources: &[LogSource]) -> BTreeMap<String, String> {
    let name = |source: &LogSource, slot: u64, host: &str| match host {
        "" => source.service.clone(),
        host => format!("{}.{slot}@{host}", source.service),
    };
    let all = sources.iter().flat_map(|source| source.tasks.iter().map(move |(id, task)| (source, id, task)));
    let names: Vec<(String, String)> =
        all.map(|(source, id, task)| (id.clone(), name(source, task.slot, &task.host))).collect();
    let width = names.iter().map(|(_, name)| name.chars().count()).max().unwrap_or_default();
    names.into_iter().map(|(id, name)| (id, format!("{name:width$}"))).collect()
}

/// A time of the engine in local time with its offset.
fn local(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string(),
        Err(_) => time.to_owned(),
    }
}

/// What a terminal may get: colours stay, whatever else would move the cursor, ring or rename the window is written out.
fn tame(text: &str) -> String {
    let mut tame = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        tame.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = colour(rest) {
            tame.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let mut letters = rest.chars();
        tame.extend(letters.next().into_iter().flat_map(char::escape_default));
        rest = letters.as_str();
    }
    tame.push_str(rest);
    // A colour that a program left on would dye everything after it.
    if tame.contains('\u{1b}') {
        tame.push_str("\u{1b}[0m");
    }
    tame
}

/// The length of the sequence for a colour that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let inside = text.strip_prefix("\u{1b}[")?;
    let end = inside.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    inside[end..].starts_with('m').then_some("\u{1b}[".len() + end + 1)
}

/// A line without colours or anything else that is not text, cut to so many characters.
pub(super) fn plain(text: &str, longest: usize) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(char::is_control) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        match colour(rest) {
            Some(length) => rest = &rest[length..],
            None => {
                let mut letters = rest.chars();
                match letters.next() {
                    Some('\t') => plain.push_str("    "),
                    other => plain.extend(other.into_iter().flat_map(char::escape_default)),
                }
                rest = letters.as_str();
            }
        }
    }
    plain.push_str(rest);
    cut(&plain, longest).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PlatformKind;
    use crate::platform::logs::LogTask;

    #[test]
    fn a_terminal_gets_colours_and_nothing_else_that_is_no_text() {
        assert_eq!(tame("plain\ttext"), "plain\ttext");
        assert_eq!(tame("\u{1b}[1;31mred"), "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(tame("\u{1b}]0;title\u{7}"), "\\u{1b}]0;title\\u{7}");
        assert_eq!(tame("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\r");
        assert_eq!(plain("\u{1b}[1;31mred\u{1b}[0m\tx\u{7}", 40), "red    x\\u{7}");
        assert_eq!(plain("too long", 4), "too…");
    }

    #[test]
    fn tasks_are_named_by_service_number_and_host() {
        let mut press = LogSource::service("s1", "press", PlatformKind::Swarm);
        press.tasks.insert("t1".into(), LogTask { slot: 1, host: "hall-1".into() });
        press.tasks.insert("t2".into(), LogTask { slot: 12, host: "hall-2".into() });
        let names = names(&[press]);
        assert_eq!(names["t1"], "press.1@hall-1 ");
        assert_eq!(names["t2"], "press.12@hall-2");
    }
}
