//! What differs between a service as wanted and as found, field by field.
//!
//! Comparing comes first and allocates nothing when both sides are written the same; the words for people are
//! made only when something differs. Lists whose order means nothing to a running service (networks, ports,
//! mounts, constraints, variables with distinct names) are compared as sets: the engine and its clients sort and
//! re-sort them.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::service::{EnvVar, LABEL_AFTER, LABEL_WINDOWS, Mount, Port, Resources};
use crate::model::{FieldChange, Mark, ObservedService, ServiceSpec};

use super::target::Target;

/// Which fields differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per field that we own")]
pub(super) struct Differences {
    pub(super) image: bool,
    command: bool,
    args: bool,
    env: bool,
    user: bool,
    labels: bool,
    container_labels: bool,
    mounts: bool,
    ulimits: bool,
    limits: bool,
    reservations: bool,
    constraints: bool,
    pub(super) networks: bool,
    replicas: bool,
    ports: bool,
}

impl Differences {
    /// Whether nothing differs.
    pub(super) fn none(self) -> bool {
        self == Differences::default()
    }

    /// Whether the image is all that differs.
    pub(super) fn only_image(self) -> bool {
        self == Differences { image: true, ..Differences::default() }
    }
}

/// Compares.
pub(super) fn compare(target: &Target<'_>, found: &ObservedService) -> Differences {
    let (wanted, spec) = (&*target.spec, &found.spec);
    Differences {
        image: !target.has_image_of(found),
        command: wanted.command != spec.command,
        args: wanted.args != spec.args,
        env: !same_env(&wanted.env, &spec.env),
        user: wanted.user != spec.user,
        labels: !same_labels(wanted, &wanted.labels, &spec.labels),
        container_labels: !same_labels(wanted, target.container_labels(), &found.container_labels),
        mounts: !same_set(&wanted.mounts, &spec.mounts, same_mount),
        ulimits: !same_set(&wanted.ulimits, &spec.ulimits, PartialEq::eq),
        limits: wanted.limits != spec.limits,
        reservations: wanted.reservations != spec.reservations,
        constraints: !same_set(&wanted.constraints, &spec.constraints, PartialEq::eq),
        networks: !same_set(&wanted.networks, &spec.networks, PartialEq::eq),
        replicas: wanted.replicas != spec.replicas,
        ports: !same_set(&wanted.ports, &spec.ports, PartialEq::eq),
    }
}

/// The spec to send: what is wanted where it differs, what was found where it does not, so that a field that
/// is merely written differently (an order, a digest behind our tag) restarts no task.
pub(super) fn merge(target: &Target<'_>, found: &ObservedService, differences: Differences) -> ServiceSpec {
    fn pick<T: Clone>(differs: bool, wanted: &T, found: &T) -> T {
        if differs { wanted.clone() } else { found.clone() }
    }
    let (wanted, spec) = (&*target.spec, &found.spec);
    ServiceSpec {
        name: wanted.name.clone(),
        image: if differences.image { target.image.clone().into_owned() } else { spec.image.clone() },
        command: wanted.command.clone(),
        args: wanted.args.clone(),
        env: pick(differences.env, &wanted.env, &spec.env),
        user: wanted.user.clone(),
        labels: wanted.labels.clone(),
        mounts: pick(differences.mounts, &wanted.mounts, &spec.mounts),
        ulimits: pick(differences.ulimits, &wanted.ulimits, &spec.ulimits),
        limits: wanted.limits,
        reservations: wanted.reservations,
        constraints: pick(differences.constraints, &wanted.constraints, &spec.constraints),
        networks: pick(differences.networks, &wanted.networks, &spec.networks),
        replicas: wanted.replicas,
        ports: pick(differences.ports, &wanted.ports, &spec.ports),
    }
}

/// Equal as sets; the usual case, equal as lists, is found first. Quadratic otherwise: these lists are short.
fn same_set<T>(wanted: &[T], found: &[T], same: fn(&T, &T) -> bool) -> bool {
    if wanted.len() != found.len() {
        return false;
    }
    let as_listed = wanted.iter().zip(found).all(|(wanted, found)| same(wanted, found));
    as_listed
        || (wanted.iter().all(|item| found.iter().any(|other| same(item, other)))
            && found.iter().all(|item| wanted.iter().any(|other| same(other, item))))
}

/// The engine writes `local` where no volume driver was asked for.
fn same_mount(wanted: &Mount, found: &Mount) -> bool {
    fn named(driver: &str) -> &str {
        if driver.is_empty() { "local" } else { driver }
    }
    match (wanted, found) {
        (
            Mount::Volume { source, target, driver, options, read_only },
            Mount::Volume {
                source: found_source,
                target: found_target,
                driver: found_driver,
                options: found_options,
                read_only: found_read_only,
            },
        ) => {
            source == found_source
                && target == found_target
                && named(driver) == named(found_driver)
                && options == found_options
                && read_only == found_read_only
        }
        (wanted, found) => wanted == found,
    }
}

/// Order counts only where a name occurs twice, since the last one wins then.
fn same_env(wanted: &[EnvVar], found: &[EnvVar]) -> bool {
    if wanted == found {
        return true;
    }
    if wanted.len() != found.len() {
        return false;
    }
    let by_name = by_name(wanted);
    by_name.len() == wanted.len() && by_name == self::by_name(found)
}

fn by_name(env: &[EnvVar]) -> BTreeMap<&str, &str> {
    env.iter().map(|var| (var.name.as_str(), var.value.as_str())).collect()
}

/// Every wanted label is there, and no other one that we would set.
fn same_labels(of: &ServiceSpec, wanted: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> bool {
    *wanted == *found
        || (wanted.iter().all(|(key, value)| found.get(key) == Some(value))
            && found.keys().all(|key| wanted.contains_key(key) || !ServiceSpec::owns_label(&of.name, key)))
}

/// The differences in words. Values of variables are in them, marked as secret.
pub(super) fn describe(target: &Target<'_>, found: &ObservedService, differences: Differences) -> Vec<FieldChange> {
    let mut words = Words::default();
    let (wanted, spec) = (&*target.spec, &found.spec);
    if differences.image {
        words.push("image", Some(spec.image.clone()), Some(target.image.clone().into_owned()));
    }
    if differences.command {
        words.push("command", words_of(&spec.command), words_of(&wanted.command));
    }
    if differences.args {
        words.push("args", words_of(&spec.args), words_of(&wanted.args));
    }
    if differences.env {
        words.env(&spec.env, &wanted.env);
    }
    if differences.user {
        words.push("user", spec.user.clone(), wanted.user.clone());
    }
    if differences.labels {
        words.labels("labels", &spec.labels, &wanted.labels, wanted);
    }
    if differences.container_labels {
        words.labels("container_labels", &found.container_labels, target.container_labels(), wanted);
    }
    if differences.mounts {
        words.keyed("mounts", '[', "]", &spec.mounts, &wanted.mounts, mount_words);
    }
    if differences.ulimits {
        words.keyed("ulimits", '.', "", &spec.ulimits, &wanted.ulimits, |limit| {
            (limit.name.clone(), format!("{}:{}", limit.soft, limit.hard))
        });
    }
    if differences.limits {
        words.resources("limits", spec.limits, wanted.limits);
    }
    if differences.reservations {
        words.resources("reservations", spec.reservations, wanted.reservations);
    }
    if differences.constraints {
        words.push("constraints", list(&spec.constraints), list(&wanted.constraints));
    }
    if differences.networks {
        words.push("networks", list(&spec.networks), list(&wanted.networks));
    }
    if differences.replicas {
        words.push("replicas", Some(spec.replicas.to_string()), Some(wanted.replicas.to_string()));
    }
    if differences.ports {
        let ports = |ports: &[Port]| list(&ports.iter().map(port_words).collect::<Vec<_>>());
        words.push("ports", ports(&spec.ports), ports(&wanted.ports));
    }
    words.changes
}

/// What of a mark differs, in words. The hash alone is named only when nothing else explains an update.
pub(super) fn describe_mark(wanted: &Mark, found: Option<&Mark>, hash_too: bool) -> Vec<FieldChange> {
    let mut words = Words::default();
    let (instance, resource) = (wanted.instance.to_string(), wanted.resource.to_string());
    let found_instance = found.map(|mark| mark.instance.to_string());
    let found_resource = found.map(|mark| mark.resource.to_string());
    let found_hash = found.map(|mark| mark.spec.0.clone());
    if found_instance.as_ref() != Some(&instance) {
        words.push("mark.instance", found_instance, Some(instance));
    }
    if found_resource.as_ref() != Some(&resource) {
        words.push("mark.resource", found_resource, Some(resource));
    }
    let prune = |mark: &Mark| mark.kept.map(|kept| (!kept).to_string());
    let found_prune = found.map_or(Some("true".to_owned()), prune);
    if found_prune.is_some() && found_prune != prune(wanted) {
        words.push("mark.prune", found_prune, prune(wanted));
    }
    let terms = |mark: &Mark| {
        let labels = mark.labels().into_iter().filter(|(key, _)| matches!(*key, LABEL_AFTER | LABEL_WINDOWS));
        labels.map(|(_, text)| text).collect::<Vec<_>>().join("; ")
    };
    let (found_terms, wanted_terms) = (found.map(terms).unwrap_or_default(), terms(wanted));
    if found_terms != wanted_terms {
        let shown = |text: String| Some(text).filter(|text| !text.is_empty());
        words.push("mark.removal", shown(found_terms), shown(wanted_terms));
    }
    if hash_too && found_hash.as_ref() != Some(&wanted.spec.0) {
        words.push("mark.spec", found_hash, Some(wanted.spec.0.clone()));
    }
    words.changes
}

#[derive(Default)]
struct Words {
    changes: Vec<FieldChange>,
}

impl Words {
    fn push(&mut self, field: impl Into<String>, from: Option<String>, to: Option<String>) {
        self.changes.push(FieldChange { field: field.into(), from, to, secret: false });
    }

    fn env(&mut self, found: &[EnvVar], wanted: &[EnvVar]) {
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

    fn labels(
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

    fn keyed<T>(
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

    fn resources(&mut self, field: &str, found: Resources, wanted: Resources) {
        if found.nano_cpus != wanted.nano_cpus {
            self.push(format!("{field}.cpus"), found.nano_cpus.map(cpus), wanted.nano_cpus.map(cpus));
        }
        if found.memory_bytes != wanted.memory_bytes {
            self.push(format!("{field}.memory"), found.memory_bytes.map(memory), wanted.memory_bytes.map(memory));
        }
    }
}

fn list(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| items.join(", "))
}

/// Words of a command, those with white space quoted.
fn words_of(words: &[String]) -> Option<String> {
    let quote = |word: &String| {
        if word.is_empty() || word.contains(char::is_whitespace) { format!("{word:?}") } else { word.clone() }
    };
    (!words.is_empty()).then(|| words.iter().map(quote).collect::<Vec<_>>().join(" "))
}

fn mount_words(mount: &Mount) -> (String, String) {
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

fn port_words(port: &Port) -> String {
    let mode = if port.mode == "ingress" { String::new() } else { format!(" ({})", port.mode) };
    format!("{}->{}/{}{mode}", port.published, port.target, port.protocol)
}

/// Billionths of a CPU as CPUs, without trailing zeros.
fn cpus(nano: i64) -> String {
    const NANO: i64 = 1_000_000_000;
    let fraction = format!("{:09}", (nano % NANO).abs());
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { (nano / NANO).to_string() } else { format!("{}.{fraction}", nano / NANO) }
}

/// Bytes in the largest unit that leaves a whole number.
fn memory(bytes: i64) -> String {
    for (size, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes != 0 && bytes % size == 0 {
            return format!("{} {unit}", bytes / size);
        }
    }
    format!("{bytes} B")
}
