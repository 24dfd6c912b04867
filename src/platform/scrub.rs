//! The one scrubber: takes values of manifests and settings out of texts of the engine. Pure.
//!
//! Every text that an engine writes in its own words (a refusal, the error of a task, the message of an update) passes
//! here in the conversion where it meets the spec that it speaks of, and nowhere else. What is behind that conversion
//! may be shown to anybody.
//!
//! # Guarantees
//!
//! - No value of [`SHORTEST_VALUE`] or more characters remains as a whole word: neither as it is, nor quoted or escaped
//!   (Go, JSON, HTML, URL; several times over), nor with `%` directives that a Go format call found no argument for,
//!   nor as the beginning or the end of it beside a mark of truncation. `NAME=value` is hidden whatever its length.
//! - Whatever follows the words by which Swarm's template errors quote a value is dropped, and so is what such an error
//!   repeats of the template itself.
//! - Only whole words are replaced, and a text without values stays as it is, byte for byte.
//! - Values that the operator derives from public facts (names, numbers, its own defaults) are no secrets.
//!
//! A word is a run of letters, digits and `_`.

mod glyphs;

use glyphs::Levels;

use crate::model::service::{EnvVar, Mount};
use crate::model::{ServiceSpec, Settings};

/// Shorter values are words such as `1` or `on`: they say nothing, and would leave holes everywhere.
pub(super) const SHORTEST_VALUE: usize = 4;

/// What stands for a value.
const HIDDEN: &str = "<hidden>";

/// The longest text that is searched, in bytes; what is beyond is dropped. An engine quotes a value of the largest
/// service that there can be (1.5 MiB) at most once, and a person reads a few hundred characters.
const LONGEST_TEXT: usize = 64 << 10;

/// Words of Swarm's template package, each followed by a quoted value (swarmkit, `template/expand.go`).
const QUOTES: [&str; 5] = [
    "expanding env ",
    "expanding map entry ",
    "expanding mount source ",
    "expanding mount target ",
    "expanding hostname ",
];

/// What errors of Go's `text/template` begin with; `expansion` is Swarm's name for each of its templates. The rest
/// repeats words of the template.
const TEMPLATE: &str = "template: expansion:";

/// The values that a text must not show.
#[derive(Default)]
pub(super) struct Scrubber {
    patterns: Vec<Pattern>,
}

/// One value in all its readings.
struct Pattern {
    /// Each as the characters to search for.
    readings: Vec<Vec<char>>,
    /// How many characters at the beginning are not the value but its name, and stay.
    kept: usize,
}

impl Scrubber {
    /// For texts about a service: the values of its environment, and the options of its volumes.
    pub(super) fn of(spec: &ServiceSpec) -> Scrubber {
        Scrubber::new(Some(spec.name.as_str()), &spec.env, &spec.mounts)
    }

    /// The same from the parts of a spec. `name` is the service's, where it is known.
    pub(super) fn new(name: Option<&str>, env: &[EnvVar], mounts: &[Mount]) -> Scrubber {
        let mut scrubber = Scrubber::default();
        // OpenFactory puts it before what a user sets.
        let first = || env.iter().find(|variable| variable.name == "DOCKER_SERVICE").map(|found| found.value.as_str());
        let name = name.or_else(first).unwrap_or_default();
        for variable in env.iter().filter(|variable| !is_public(name, variable)) {
            scrubber.hide_variable(variable);
        }
        for mount in mounts {
            match mount {
                Mount::Volume { options, .. } => options.values().for_each(|value| scrubber.hide(value)),
                Mount::Bind { .. } | Mount::Other { .. } => {}
            }
        }
        scrubber
    }

    /// For texts that may repeat any of these.
    pub(super) fn of_values(values: impl IntoIterator<Item = String>) -> Scrubber {
        let mut scrubber = Scrubber::default();
        values.into_iter().for_each(|value| scrubber.hide(&value));
        scrubber
    }

    fn hide_variable(&mut self, variable: &EnvVar) {
        if variable.value.trim().chars().count() >= SHORTEST_VALUE {
            self.hide(&variable.value);
        } else if !variable.value.is_empty() {
            let kept = variable.name.chars().count() + 1;
            self.patterns.push(Pattern { readings: glyphs::readings(&variable.joined()), kept });
        }
    }

    fn hide(&mut self, value: &str) {
        let value = value.trim();
        if value.chars().count() >= SHORTEST_VALUE {
            self.patterns.push(Pattern { readings: glyphs::readings(value), kept: 0 });
            for word in words_of_actions(value) {
                self.patterns.push(Pattern { readings: glyphs::readings(word), kept: 0 });
            }
        }
    }

    /// The text without values.
    pub(super) fn clean(&self, text: &str) -> String {
        let text = without_quotes(cut(text, LONGEST_TEXT));
        if self.patterns.is_empty() {
            return text;
        }
        let levels = Levels::of(&text);
        let mut holes: Vec<(usize, usize)> = Vec::new();
        for pattern in &self.patterns {
            for reading in &pattern.readings {
                levels.find(reading, pattern.kept, SHORTEST_VALUE, &mut holes);
            }
        }
        fill(&text, holes)
    }
}

/// The text without what Swarm's template errors quote. Needs to know no value.
pub(super) fn without_quotes(text: &str) -> String {
    if let Some((words, rest)) =
        QUOTES.iter().filter_map(|words| quoted(text, words)).min_by_key(|(head, _)| head.len())
    {
        // The name of a variable helps to find the place, and is shown everywhere.
        let unquoted = rest.trim_start_matches(['\\', '"']);
        let name = unquoted.split_once('=').map_or("", |(name, _)| name);
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        return if plain && words.ends_with(QUOTES[0]) {
            format!("{words}\"{name}={HIDDEN}\"")
        } else {
            format!("{words}{HIDDEN}")
        };
    }
    let Some(at) = text.find(TEMPLATE) else { return text.to_owned() };
    let rest = &text[at + TEMPLATE.len()..];
    let place = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':').len();
    format!("{} {HIDDEN}", &text[..at + TEMPLATE.len() + place])
}

/// Splits a text behind words that quote something: `expanding env failed: ` quotes nothing.
fn quoted<'a>(text: &'a str, words: &str) -> Option<(&'a str, &'a str)> {
    let ends = text.match_indices(words).map(|(at, _)| at + words.len());
    ends.map(|end| text.split_at(end)).find(|(_, rest)| !rest.starts_with("failed"))
}

/// Whether the operator itself sets a variable of the service called `name` to this value, from nothing but facts that
/// it shows anyway. A user who sets the same variable to something else has a secret there as everywhere.
fn is_public(name: &str, variable: &EnvVar) -> bool {
    let value = variable.value.as_str();
    // `cnc-agent` and `cnc-producer` belong to the device `CNC`.
    let stem = ["-agent", "-producer", "-adapter"].iter().find_map(|tail| name.strip_suffix(tail)).unwrap_or(name);
    let is_name = |value: &str| !name.is_empty() && [name, stem].iter().any(|own| own.eq_ignore_ascii_case(value));
    let number = || value.bytes().all(|byte| byte.is_ascii_digit()) && value.len() <= 5;
    let defaults = Settings::default;
    match variable.name.as_str() {
        "APP_UUID" | "DOCKER_SERVICE" | "MTC_AGENT_UUID" | "ADAPTER_UUID" | "KAFKA_PRODUCER_UUID" => is_name(value),
        "ADAPTER_IP" => !stem.is_empty() && value.strip_suffix("-adapter") == Some(stem),
        "MTC_AGENT" => {
            value.strip_prefix("http://").and_then(|rest| rest.split_once("-agent:")).is_some_and(|(agent, port)| {
                !stem.is_empty() && agent == stem && port.bytes().all(|byte| byte.is_ascii_digit())
            })
        }
        "OPENFACTORY_ROOT_PATH" => value.strip_prefix('/').is_some_and(is_name),
        "PORT" | "ADAPTER_PORT" | "SWARM_REPLICAS" => number(),
        "SWARM_TASK_SLOT" => value == "{{.Task.Slot}}",
        "SWARM_TASK_ID" => value == "{{.Task.ID}}",
        "SWARM_SERVICE_NAME" => value == "{{.Service.Name}}",
        "SWARM_NODE_HOSTNAME" => value == "{{.Node.Hostname}}",
        "OPENFACTORY_LOG_BACKEND" => defaults().log_backend.as_deref() == Some(value),
        "KSQLDB_LOG_LEVEL" => defaults().ksqldb_log_level == value,
        _ => false,
    }
}

/// The words inside `{{…}}`, and after a `{{` that nothing closes: errors about a template name them one by one.
fn words_of_actions(value: &str) -> impl Iterator<Item = &str> {
    value
        .split("{{")
        .skip(1)
        .map(|action| action.split("}}").next().unwrap_or_default())
        .flat_map(|action| action.split(|c: char| !glyphs::is_word(c)))
        .filter(|word| word.chars().count() >= SHORTEST_VALUE)
}

/// The beginning of a text, at most `limit` bytes of it.
fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    // A value that is cut in two would not be found: what is cut ends between two words.
    let end = text[..end].rfind(char::is_whitespace).unwrap_or(0);
    &text[..end]
}

/// Replaces ranges of bytes; those that overlap or touch become one.
fn fill(text: &str, mut holes: Vec<(usize, usize)>) -> String {
    holes.sort_unstable();
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    let mut open = false;
    for (start, end) in holes {
        if start > at || !open {
            clean.push_str(&text[at.min(start)..start]);
            clean.push_str(HIDDEN);
            open = true;
        }
        at = at.max(end);
    }
    clean.push_str(&text[at..]);
    clean
}

#[cfg(test)]
mod tests;
