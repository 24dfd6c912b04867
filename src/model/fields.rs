//! The fields of a service that we own, each declared once.
//!
//! A row of [`ROWS`] says what a field is called, when what is found means what is wanted, how it is taken over from one spec
//! to another, and how a difference is told. From the rows come: comparing, what an update sends, what a plan shows, what
//! `ignore` takes and does, which fields of the engine's description an update touches, and which options go back to the
//! engine's default.
//!
//! What a row cannot say is held by the compiler: the canonical form (`compile/hash.rs`) takes a spec apart, and each
//! platform matches on every [`OwnedField`]. `docs/extending.md` adds one step by step.

mod named;
mod same;
mod take;
mod words;

use std::collections::BTreeMap;

pub use self::named::{Field, NoField};
pub use self::words::Words;

use self::same::{same_env, same_labels, same_mount, same_set};
use self::take::{leave_items, leave_labels, leave_variable, mount_target};
use self::words::{
    command, cpus, healthcheck, list, memory, mount_words, number, port_words, text, time, ulimit_words,
};
use super::image::ImageRef;
use super::options::{
    DEFAULT_CONDITION, DEFAULT_FAILURE_ACTION, DEFAULT_MONITOR, DEFAULT_ORDER, DEFAULT_PARALLELISM,
    DEFAULT_RESTART_DELAY, DEFAULT_STOP_GRACE, FailureAction, Healthcheck, RestartCondition, ServiceOptions,
    UpdateOrder,
};
use super::service::ServiceSpec;

/// A field that we own, in the order of plans and of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is what its row says")]
pub enum OwnedField {
    Image,
    Command,
    Args,
    Environment,
    User,
    Labels,
    ContainerLabels,
    Mounts,
    Ulimits,
    LimitsCpus,
    LimitsMemory,
    ReservationsCpus,
    ReservationsMemory,
    Constraints,
    Networks,
    Replicas,
    Ports,
    UpdateOrder,
    UpdateFailureAction,
    UpdateMonitor,
    UpdateParallelism,
    UpdateDelay,
    Healthcheck,
    StopGracePeriod,
    RestartCondition,
    RestartDelay,
    RestartMaxAttempts,
    RestartWindow,
    Hostname,
}

impl OwnedField {
    /// Its declaration.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

impl serde::Serialize for OwnedField {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.row().name)
    }
}

/// What is below a field, for `ignore`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// Nothing.
    Nothing,
    /// `environment.NAME`; holds what stands for the name.
    Key(&'static str),
    /// `mounts[/path]`; holds what stands for the path.
    Bracket(&'static str),
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Every field but these two.
    pub spec: &'a ServiceSpec,
    /// The image, which may be pinned where the spec's is not.
    pub image: &'a str,
    /// Our labels on the containers.
    pub container_labels: &'a BTreeMap<String, String>,
}

/// What fields are taken over into.
#[derive(Debug)]
pub struct Sketch<'a> {
    /// Every field but the labels of containers.
    pub spec: &'a mut ServiceSpec,
    /// Our labels on the containers.
    pub container_labels: &'a mut BTreeMap<String, String>,
}

/// The declaration of a field.
pub struct Row {
    /// The field.
    pub field: OwnedField,
    /// As plans and `ignore` have it. What stands before a dot is a group that can be ignored as one.
    pub name: &'static str,
    /// What of it can be ignored alone.
    pub below: Below,
    /// Whether what is found (second) means what is wanted (first). Allocates nothing when both are written the same.
    pub same: fn(View<'_>, View<'_>) -> bool,
    /// Whether two specs hold exactly the same.
    pub equal: fn(&ServiceSpec, &ServiceSpec) -> bool,
    /// Takes it over, or the part of it with this name.
    pub take: fn(&mut Sketch<'_>, View<'_>, Option<&str>),
    /// Tells how what is found (first) differs from what is wanted (second).
    pub tell: fn(&mut Words, View<'_>, View<'_>),
    /// What makes it an option, owned only while a manifest sets it.
    pub option: Option<OptionRow>,
}

/// What is special about a field that is owned only while a manifest sets it.
pub struct OptionRow {
    /// Whether it is set.
    pub is_set: fn(&ServiceOptions) -> bool,
    /// Sets it to the engine's default.
    pub reset: fn(&mut ServiceOptions),
}

/// A field whose values mean the same when they are equal.
macro_rules! plain {
    ($field:ident, $name:literal, $($path:ident).+, $shown:expr) => {
        Row {
            field: OwnedField::$field,
            name: $name,
            below: Below::Nothing,
            same: |wanted, found| wanted.spec.$($path).+ == found.spec.$($path).+,
            equal: |one, other| one.$($path).+ == other.$($path).+,
            take: |into, from, _| into.spec.$($path).+.clone_from(&from.spec.$($path).+),
            tell: |words, found, wanted| words.push($name, $shown(&found.spec.$($path).+), $shown(&wanted.spec.$($path).+)),
            option: None,
        }
    };
}

/// A list whose order means nothing to a running service.
macro_rules! listed {
    ($field:ident, $name:literal, $path:ident, $same:expr, $shown:expr) => {
        Row {
            same: |wanted, found| same_set(&wanted.spec.$path, &found.spec.$path, $same),
            ..plain!($field, $name, $path, $shown)
        }
    };
}

/// A field that is owned only while it is set; what is found without a value has the engine's default.
macro_rules! option {
    ($field:ident, $name:literal, $($path:ident).+, $default:expr, $shown:expr) => {
        Row {
            same: |wanted, found| match &wanted.spec.options.$($path).+ {
                None => true,
                Some(wanted) => found.spec.options.$($path).+.as_ref().map_or(*wanted == $default, |found| found == wanted),
            },
            tell: |words, found, wanted| {
                let shown = |spec: &ServiceSpec| match &spec.options.$($path).+ {
                    Some(value) => $shown(value),
                    None => $shown(&$default),
                };
                words.push($name, shown(found.spec), shown(wanted.spec));
            },
            option: Some(OptionRow {
                is_set: |options| options.$($path).+.is_some(),
                reset: |options| options.$($path).+ = Some($default),
            }),
            ..plain!($field, $name, options.$($path).+, |_| None)
        }
    };
}

/// Every field, in the order of [`OwnedField`].
pub static ROWS: [Row; 29] = [
    Row {
        same: |wanted, found| ImageRef::matches(found.image, wanted.image),
        take: |into, from, _| from.image.clone_into(&mut into.spec.image),
        tell: |words, found, wanted| words.push("image", text(found.image), text(wanted.image)),
        ..plain!(Image, "image", image, |image: &String| text(image))
    },
    plain!(Command, "command", command, |words: &Vec<String>| command(words)),
    plain!(Args, "args", args, |words: &Vec<String>| command(words)),
    Row {
        below: Below::Key("NAME"),
        same: |wanted, found| same_env(&wanted.spec.env, &found.spec.env),
        take: |into, from, name| match name {
            None => into.spec.env.clone_from(&from.spec.env),
            Some(name) => leave_variable(&mut into.spec.env, &from.spec.env, name),
        },
        tell: |words, found, wanted| words.env(&found.spec.env, &wanted.spec.env),
        ..plain!(Environment, "environment", env, |_| None)
    },
    plain!(User, "user", user, Option::clone),
    Row {
        below: Below::Key("KEY"),
        same: |wanted, found| same_labels(&wanted.spec.name, &wanted.spec.labels, &found.spec.labels),
        // Those of the containers as well: they are the same ones.
        take: |into, from, key| {
            leave_labels(&mut into.spec.labels, &from.spec.labels, key);
            leave_labels(into.container_labels, from.container_labels, key);
        },
        tell: |words, found, wanted| words.labels("labels", &found.spec.labels, &wanted.spec.labels, wanted.spec),
        ..plain!(Labels, "labels", labels, |_| None)
    },
    Row {
        below: Below::Key("KEY"),
        same: |wanted, found| same_labels(&wanted.spec.name, wanted.container_labels, found.container_labels),
        take: |into, from, key| leave_labels(into.container_labels, from.container_labels, key),
        tell: |words, found, wanted| {
            words.labels("container_labels", found.container_labels, wanted.container_labels, wanted.spec);
        },
        ..plain!(ContainerLabels, "container_labels", labels, |_| None)
    },
    Row {
        below: Below::Bracket("/path/in/the/container"),
        take: |into, from, target| match target {
            None => into.spec.mounts.clone_from(&from.spec.mounts),
            Some(target) => {
                leave_items(&mut into.spec.mounts, &from.spec.mounts, |mount| mount_target(mount) == target);
            }
        },
        tell: |words, found, wanted| {
            words.keyed("mounts", '[', "]", &found.spec.mounts, &wanted.spec.mounts, mount_words);
        },
        ..listed!(Mounts, "mounts", mounts, same_mount, |_| None)
    },
    Row {
        below: Below::Key("NAME"),
        take: |into, from, name| match name {
            None => into.spec.ulimits.clone_from(&from.spec.ulimits),
            Some(name) => leave_items(&mut into.spec.ulimits, &from.spec.ulimits, |limit| limit.name == *name),
        },
        tell: |words, found, wanted| {
            words.keyed("ulimits", '.', "", &found.spec.ulimits, &wanted.spec.ulimits, ulimit_words);
        },
        ..listed!(Ulimits, "ulimits", ulimits, PartialEq::eq, |_| None)
    },
    plain!(LimitsCpus, "limits.cpus", limits.nano_cpus, |nano: &Option<i64>| nano.map(cpus)),
    plain!(LimitsMemory, "limits.memory", limits.memory_bytes, |bytes: &Option<i64>| bytes.map(memory)),
    plain!(ReservationsCpus, "reservations.cpus", reservations.nano_cpus, |nano: &Option<i64>| nano.map(cpus)),
    plain!(ReservationsMemory, "reservations.memory", reservations.memory_bytes, |bytes: &Option<i64>| bytes
        .map(memory)),
    listed!(Constraints, "constraints", constraints, PartialEq::eq, |items: &Vec<String>| list(items)),
    listed!(Networks, "networks", networks, PartialEq::eq, |items: &Vec<String>| list(items)),
    Row {
        take: |into, from, _| {
            into.spec.replicas = from.spec.replicas;
            // It says the same to the tasks, and would restart them.
            leave_variable(&mut into.spec.env, &from.spec.env, SWARM_REPLICAS);
        },
        ..plain!(Replicas, "replicas", replicas, number)
    },
    listed!(Ports, "ports", ports, PartialEq::eq, |ports: &Vec<super::service::Port>| {
        list(&ports.iter().map(port_words).collect::<Vec<_>>())
    }),
    option!(UpdateOrder, "update.order", update.order, DEFAULT_ORDER, |order: &UpdateOrder| text(order.as_str())),
    option!(
        UpdateFailureAction,
        "update.failure_action",
        update.failure_action,
        DEFAULT_FAILURE_ACTION,
        |action: &FailureAction| text(action.as_str())
    ),
    option!(UpdateMonitor, "update.monitor", update.monitor, DEFAULT_MONITOR, time),
    option!(UpdateParallelism, "update.parallelism", update.parallelism, DEFAULT_PARALLELISM, number),
    option!(UpdateDelay, "update.delay", update.delay, std::time::Duration::ZERO, time),
    option!(Healthcheck, "healthcheck", healthcheck, Healthcheck::default(), healthcheck),
    option!(StopGracePeriod, "stop_grace_period", stop_grace_period, DEFAULT_STOP_GRACE, time),
    option!(
        RestartCondition,
        "restart.condition",
        restart.condition,
        DEFAULT_CONDITION,
        |condition: &RestartCondition| text(condition.as_str())
    ),
    option!(RestartDelay, "restart.delay", restart.delay, DEFAULT_RESTART_DELAY, time),
    option!(RestartMaxAttempts, "restart.max_attempts", restart.max_attempts, 0, number),
    option!(RestartWindow, "restart.window", restart.window, std::time::Duration::ZERO, time),
    option!(Hostname, "hostname", hostname, String::new(), |name: &String| text(name).filter(|name| !name.is_empty())),
];

/// The variable that tells a task of how many it is one.
const SWARM_REPLICAS: &str = "SWARM_REPLICAS";

/// Some fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldSet(u64);

impl FieldSet {
    /// The fields in which what is found does not mean what is wanted.
    pub fn differing(wanted: View<'_>, found: View<'_>) -> FieldSet {
        let differ = ROWS.iter().filter(|row| !(row.same)(wanted, found));
        FieldSet(differ.fold(0, |bits, row| bits | FieldSet::bit(row.field)))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a field is among them.
    pub fn contains(self, field: OwnedField) -> bool {
        self.0 & FieldSet::bit(field) != 0
    }

    /// Whether a field is the only one.
    pub fn is_only(self, field: OwnedField) -> bool {
        self.0 == FieldSet::bit(field)
    }

    /// Their declarations, in order.
    pub fn rows(self) -> impl Iterator<Item = &'static Row> {
        ROWS.iter().filter(move |row| self.contains(row.field))
    }

    fn bit(field: OwnedField) -> u64 {
        1 << (field as u64)
    }
}

impl ServiceOptions {
    /// Which options are set.
    pub fn set(&self) -> impl Iterator<Item = OwnedField> {
        let is_set = |row: &&Row| row.option.as_ref().is_some_and(|option| (option.is_set)(self));
        ROWS.iter().filter(is_set).map(|row| row.field)
    }

    /// Sets every option of a list that is not set to the engine's default.
    pub fn reset<'a>(&mut self, fields: impl IntoIterator<Item = &'a OwnedField>) {
        for option in fields.into_iter().filter_map(|field| field.row().option.as_ref()) {
            if !(option.is_set)(self) {
                (option.reset)(self);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_its_place_and_has_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(row.field as usize, at, "{}", row.name);
            assert!(names.insert(row.name), "{}", row.name);
        }
    }

    #[test]
    fn an_option_that_is_not_set_differs_from_nothing_and_one_with_the_default_from_nothing_that_is_left_out() {
        let spec = ServiceSpec::new(super::super::ServiceName::new("a").unwrap(), "i");
        let labels = BTreeMap::new();
        for row in ROWS.iter().filter(|row| row.option.is_some()) {
            let option = row.option.as_ref().unwrap();
            let mut set = spec.clone();
            (option.reset)(&mut set.options);
            assert!((option.is_set)(&set.options) && !(option.is_set)(&spec.options), "{}", row.name);
            let view = |spec| View { spec, image: "i", container_labels: &labels };
            assert!((row.same)(view(&spec), view(&set)) && (row.same)(view(&set), view(&spec)), "{}", row.name);
            assert_eq!(set.options.set().collect::<Vec<_>>(), [row.field]);
        }
    }
}
