//! How differences are told to people.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::same::by_name;
use crate::model::options::{Healthcheck, Probe};
use crate::model::service::{EnvVar, Mount, Port, ServiceSpec, Ulimit};
use crate::model::step::FieldChange;

/// Differences as they are collected.
#[derive(Debug, Default)]
pub struct Words {
    /// Those so far.
    pub changes: Vec<FieldChange>,
}

impl Words {
    /// Adds one; none for nothing there.
    pub fn push(&mut self, field: impl Into<String>, from: Option<String>, to: Option<String>) {
        self.changes.push(FieldChange { field: field.into(), from, to, secret: false });
    }

    pub(super) fn env(&mut self, found: &[EnvVar], wanted: &[EnvVar]) {
        let (before, after) = (by_name(found), by_name(wanted));
        let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
        let start = self.changes.len();
        for name in names {
            let (from, to) = (before.get(name), after.get(name));
            if from != to {
                self.changes.push(FieldChange {
                    field: format!("environment.{name}"),
                    from: from.map(|value| (*value).to_owned()),
                    to: to.map(|value| (*value).to_owned()),
                    secret: true,
                });
            }
        }
        if self.changes.len() == start {
            // the same last values: names occur twice, or in another order among such
            let names = |env: &[EnvVar]| list(&env.iter().map(|var| var.name.clone()).collect::<Vec<_>>());
            self.push("environment", names(found), names(wanted));
        }
    }

    pub(super) fn labels(
        &mut self,
        field: &str,
        found: &BTreeMap<String, String>,
        wanted: &BTreeMap<String, String>,
        of: &ServiceSpec,
    ) {
        let keys: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
        for key in keys {
            let (from, to) = (found.get(key), wanted.get(key));
            if from != to && (to.is_some() || ServiceSpec::owns_label(&of.name, key)) {
                self.push(format!("{field}.{key}"), from.cloned(), to.cloned());
            }
        }
    }

    pub(super) fn keyed<T>(
        &mut self,
        field: &str,
        open: char,
        close: &str,
        found: &[T],
        wanted: &[T],
        words: fn(&T) -> (String, String),
    ) {
        let before: BTreeMap<String, String> = found.iter().map(words).collect();
        let after: BTreeMap<String, String> = wanted.iter().map(words).collect();
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let (from, to) = (before.get(key), after.get(key));
            if from != to {
                self.push(format!("{field}{open}{key}{close}"), from.cloned(), to.cloned());
            }
        }
    }
}

pub(super) fn list(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| items.join(", "))
}

/// Words of a command, those with white space quoted.
pub(super) fn command(words: &[String]) -> Option<String> {
    let quote = |word: &String| {
        if word.is_empty() || word.contains(char::is_whitespace) { format!("{word:?}") } else { word.clone() }
    };
    (!words.is_empty()).then(|| words.iter().map(quote).collect::<Vec<_>>().join(" "))
}

pub(super) fn mount_words(mount: &Mount) -> (String, String) {
    let mode = |read_only: &bool| if *read_only { ", read-only" } else { "" };
    match mount {
        Mount::Volume { source, target, driver, options, read_only } => {
            let options: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let options = if options.is_empty() { String::new() } else { format!(" {}", options.join(" ")) };
            let driver = if driver.is_empty() { "local" } else { driver };
            (target.clone(), format!("volume {source} ({driver}{options}{})", mode(read_only)))
        }
        Mount::Bind { source, target, read_only } => (target.clone(), format!("bind {source}{}", mode(read_only))),
        Mount::Other { kind, target } => (target.clone(), kind.clone()),
    }
}

pub(super) fn port_words(port: &Port) -> String {
    let mode = if port.mode == "ingress" { String::new() } else { format!(" ({})", port.mode) };
    format!("{}->{}/{}{mode}", port.published, port.target, port.protocol)
}

/// Billionths of a CPU as CPUs, without trailing zeros.
pub(super) fn cpus(nano: i64) -> String {
    const NANO: i64 = 1_000_000_000;
    let fraction = format!("{:09}", (nano % NANO).abs());
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { (nano / NANO).to_string() } else { format!("{}.{fraction}", nano / NANO) }
}

/// Bytes in the largest unit that leaves a whole number.
pub(super) fn memory(bytes: i64) -> String {
    for (size, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes != 0 && bytes % size == 0 {
            return format!("{} {unit}", bytes / size);
        }
    }
    format!("{bytes} B")
}

pub(super) fn ulimit_words(limit: &Ulimit) -> (String, String) {
    (limit.name.clone(), format!("{}:{}", limit.soft, limit.hard))
}

#[expect(clippy::unnecessary_wraps, reason = "as everything that shows a value")]
pub(super) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[expect(clippy::unnecessary_wraps, clippy::trivially_copy_pass_by_ref, reason = "as everything that shows a value")]
pub(super) fn number(number: &u64) -> Option<String> {
    Some(number.to_string())
}

#[expect(clippy::unnecessary_wraps, reason = "as everything that shows a value")]
pub(super) fn time(time: &Duration) -> Option<String> {
    Some(format!("{time:?}"))
}

/// A health check on one line; none for the image's own.
pub(super) fn healthcheck(check: &Healthcheck) -> Option<String> {
    let Healthcheck::Probe(probe) = check else { return text("disabled") };
    let Probe { test, interval, timeout, retries, start_period } = probe;
    let times = [("interval", interval), ("timeout", timeout), ("start_period", start_period)];
    let mut rest: Vec<String> =
        times.into_iter().filter_map(|(name, time)| Some(format!("{name} {:?}", (*time)?))).collect();
    rest.extend(retries.map(|retries| format!("retries {retries}")));
    match (command(test), rest.is_empty()) {
        (None, true) => None,
        (Some(test), true) => Some(test),
        (None, false) => Some(rest.join(", ")),
        (Some(test), false) => Some(format!("{test} ({})", rest.join(", "))),
    }
}
