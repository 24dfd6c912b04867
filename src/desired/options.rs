//! `service` of `x-ofop`: what OpenFactory's own keys cannot say of a service.

use std::time::Duration;

use super::checked::{Object, Typed, Value};
use super::fields::{Field, Kind, Presence, Shape, TEXT, Unknown};
use super::problems::Problems;
use crate::model::options::{
    FailureAction, Healthcheck, Probe, RestartCondition, RestartOptions, UpdateOptions, UpdateOrder,
};
use crate::model::{PlatformKind, ServiceOptions, parse_duration};

pub(super) const KEY: &str = "service";
pub(super) const SERVICE: Kind = Kind::Object(&SHAPE);
pub(super) const SERVICE_DOC: &str = "What every service of it has beside OpenFactory's own keys. What is not said is left as \
     it is found; what is said no longer goes back to the engine's default.";
pub(super) const SERVICE_EXAMPLE: &str =
    r#"{"stop_grace_period": "30s", "update": {"order": "start-first", "failure_action": "rollback"}}"#;

static SHAPE: Shape = Shape {
    name: "service",
    doc: "What a service has beside OpenFactory's own keys.",
    unknown: Unknown::Refuse,
    fields: &[
        field("update", Kind::Object(&UPDATE), "How Swarm replaces tasks.").such_as(r#"{"order": "start-first"}"#),
        field("healthcheck", Kind::Object(&HEALTHCHECK), "How the engine finds out whether a container works.")
            .such_as(r#"{"test": "curl -f http://localhost:8000/", "interval": "10s"}"#),
        field(
            "stop_grace_period",
            Kind::Amount,
            "How long a container has to end before it is killed; `10s` by default.",
        )
        .such_as("30s"),
        field("restart", Kind::Object(&RESTART), "When Swarm starts another task after one has ended.")
            .such_as(r#"{"condition": "on-failure"}"#),
        field(
            "hostname",
            TEXT,
            "Name of the container's host, as it sees it; on Swarm with `{{.Task.Slot}}` and the like.",
        )
        .such_as("press-7"),
    ],
};

static UPDATE: Shape = Shape {
    name: "service_update",
    doc: "How Swarm replaces tasks. Changing it replaces none.",
    unknown: Unknown::Refuse,
    fields: &[
        field("order", Kind::Choice(&UpdateOrder::WORDS), "Which task comes first; `stop-first` by default.")
            .such_as("start-first"),
        field(
            "failure_action",
            Kind::Choice(&FailureAction::WORDS),
            "What Swarm does when an update fails; `pause` by default.",
        )
        .such_as("rollback"),
        field("monitor", Kind::Amount, "How long Swarm watches each new task; `5s` by default.").such_as("30s"),
        field("parallelism", Kind::Int(0, MOST), "How many tasks are replaced at a time; 0 for all, 1 by default.")
            .such_as("2"),
        field("delay", Kind::Amount, "How long to wait from one to the next; none by default.").such_as("10s"),
    ],
};

static HEALTHCHECK: Shape = Shape {
    name: "service_healthcheck",
    doc: "How the engine finds out whether a container works. What is not said is as the image says.",
    unknown: Unknown::Refuse,
    fields: &[
        field(
            "test",
            Kind::Command,
            "A line for the container's shell, or a list that begins with `CMD` or `CMD-SHELL`; `[NONE]` for no check.",
        )
        .such_as(r#"["CMD", "/bin/check", "--quick"]"#),
        field("interval", Kind::Amount, "From one run to the next; the engine's default is `30s`.").such_as("10s"),
        field("timeout", Kind::Amount, "How long a run may take; the engine's default is `30s`.").such_as("5s"),
        field(
            "retries",
            Kind::Int(1, MOST),
            "After how many failures in a row it is unhealthy; the engine's default is 3.",
        )
        .such_as("3"),
        field("start_period", Kind::Amount, "How long after the start failures do not count; none by default.")
            .such_as("1m"),
        field("disable", Kind::Bool, "`true`: no check, whatever the image says.").such_as("true"),
    ],
};

static RESTART: Shape = Shape {
    name: "service_restart",
    doc: "When Swarm starts another task after one has ended.",
    unknown: Unknown::Refuse,
    fields: &[
        field("condition", Kind::Choice(&RestartCondition::WORDS), "After which end; `any` by default.")
            .such_as("on-failure"),
        field("delay", Kind::Amount, "How long after it; `5s` by default.").such_as("10s"),
        field("max_attempts", Kind::Int(0, MOST), "How many times within the window; 0, the default, without bound.")
            .such_as("5"),
        field("window", Kind::Amount, "Within which time attempts are counted; for ever by default.").such_as("2m"),
    ],
};

/// The largest number that makes any sense.
const MOST: i64 = 10_000;
/// The longest of all times.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The longest time to end on plain Docker: the engine answers only once the container has ended, and a call to it has
/// 30 s.
const LONGEST_DOCKER_GRACE: Duration = Duration::from_secs(25);

const fn field(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, doc, example: "", kind, presence: Presence::Optional }
}

/// What one place speaks of.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub(super) platform: PlatformKind,
    /// How many services it may concern.
    pub(super) services: Services,
}

/// How many services a place may concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Services {
    /// All of the file.
    File,
    /// So many of one resource; none where that cannot be told.
    Resource(Option<usize>),
}

/// Reads what one place says of services. What is wrong of it says nothing.
pub(super) fn said(object: &Object, path: &str, about: About, problems: &mut Problems<'_>) -> ServiceOptions {
    let Some(object) = object.object(KEY) else { return ServiceOptions::default() };
    let mut reader = Reader { path: format!("{path}.{KEY}"), about, problems };
    let first = object.shape.fields.iter().find(|field| !object.is_null(field.name));
    if let (Services::Resource(Some(0)), Some(first)) = (about.services, first) {
        let hint = "a coordinator serves this device; say it of the app that is the coordinator";
        reader.problems.warn(
            object.at(first.name),
            &reader.path,
            "has no effect: it has no service",
            Some(hint.into()),
        );
        return ServiceOptions::default();
    }
    ServiceOptions {
        update: reader.update(object),
        healthcheck: reader.below(object, "healthcheck", Reader::healthcheck),
        stop_grace_period: reader.stop_grace_period(object),
        restart: reader.restart(object),
        hostname: reader.hostname(object),
    }
}

struct Reader<'r, 't> {
    path: String,
    about: About,
    problems: &'r mut Problems<'t>,
}

impl Reader<'_, '_> {
    /// Reads an object below; none when it is not given.
    fn below<T>(&mut self, object: &Object, name: &str, read: impl FnOnce(&mut Self, &Object) -> T) -> Option<T> {
        let inner = object.object(name)?;
        let length = self.path.len();
        self.path.push('.');
        self.path.push_str(name);
        let result = read(self, inner);
        self.path.truncate(length);
        Some(result)
    }

    fn error(&mut self, object: &Object, name: &str, message: impl Into<String>, hint: impl Into<String>) {
        let path = format!("{}.{name}", self.path);
        self.problems.error_hint(object.at(name), &path, message.into(), hint.into());
    }

    /// Reads a group that only a Swarm knows; `elsewhere` is what people are told where it has no effect.
    fn of_swarm<T: Default>(
        &mut self,
        object: &Object,
        name: &str,
        elsewhere: &str,
        read: impl FnOnce(&mut Self, &Object) -> T,
    ) -> T {
        if self.about.platform == PlatformKind::Swarm {
            return self.below(object, name, read).unwrap_or_default();
        }
        if !object.is_null(name) {
            let (path, hint) = (format!("{}.{name}", self.path), Some(elsewhere.to_owned()));
            self.problems.warn(object.at(name), &path, "has no effect on the docker platform", hint);
        }
        T::default()
    }

    fn update(&mut self, object: &Object) -> UpdateOptions {
        let elsewhere = "there each replica is a container of its own, which ofop replaces by itself";
        self.of_swarm(object, "update", elsewhere, |reader, update| UpdateOptions {
            order: update.text("order").and_then(UpdateOrder::parse),
            failure_action: update.text("failure_action").and_then(FailureAction::parse),
            monitor: reader.positive(update, "monitor"),
            parallelism: count(update, "parallelism"),
            delay: reader.time(update, "delay"),
        })
    }

    fn restart(&mut self, object: &Object) -> RestartOptions {
        let elsewhere =
            "there ofop starts a container that ended again, after a time that grows while it goes on ending";
        self.of_swarm(object, "restart", elsewhere, |reader, restart| RestartOptions {
            condition: restart.text("condition").and_then(RestartCondition::parse),
            delay: reader.time(restart, "delay"),
            max_attempts: count(restart, "max_attempts"),
            window: reader.time(restart, "window"),
        })
    }

    fn healthcheck(&mut self, object: &Object) -> Healthcheck {
        let test = object.get("test").and_then(|value| self.test(object, value));
        let probe = Probe {
            interval: self.positive(object, "interval"),
            timeout: self.positive(object, "timeout"),
            retries: object.int("retries").and_then(|number| u32::try_from(number).ok()),
            start_period: self.positive(object, "start_period"),
            test: Vec::new(),
        };
        let others = ["interval", "timeout", "retries", "start_period"];
        let none = test.as_ref().is_some_and(|words| words.first().is_some_and(|kind| kind == "NONE"));
        if object.bool("disable") != Some(true) && !none {
            return Healthcheck::Probe(Probe { test: test.unwrap_or_default(), ..probe });
        }
        let beside: &[&str] = if none { &others } else { &["test", "interval", "timeout", "retries", "start_period"] };
        if let Some(name) = beside.iter().find(|name| !object.is_null(name)) {
            let hint = "remove it, or have the container checked";
            self.error(object, name, "has no meaning where there is no check", hint);
        }
        Healthcheck::Disabled
    }

    /// The test as the engine takes it; none when it is not given or wrong.
    fn test(&mut self, object: &Object, value: &Value) -> Option<Vec<String>> {
        let words = match &value.typed {
            Typed::Text(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            Typed::List(items) => items
                .iter()
                .map(|item| match &item.typed {
                    Typed::Text(word) => Some(word.clone()),
                    _ => None,
                })
                .collect::<Option<Vec<String>>>()?,
            _ => return None,
        };
        let right = match words.first().map(String::as_str) {
            Some("NONE") => words.len() == 1,
            Some("CMD") => words.len() > 1 && !words[1].is_empty(),
            Some("CMD-SHELL") => words.len() == 2 && !words[1].trim().is_empty(),
            Some(_) | None => false,
        };
        if !right {
            let hint = "write a line such as `curl -f http://localhost:8000/`, `[CMD, program, argument]`, or `[NONE]` for \
                        no check";
            self.error(object, "test", "is no test", hint);
        }
        right.then_some(words)
    }

    fn stop_grace_period(&mut self, object: &Object) -> Option<Duration> {
        let grace = self.time(object, "stop_grace_period")?;
        if self.about.platform == PlatformKind::Swarm {
            return Some(grace);
        }
        let whole = Duration::from_secs(grace.as_secs() + u64::from(grace.subsec_nanos() > 0));
        if whole > LONGEST_DOCKER_GRACE {
            let hint = "ofop waits for the end of a container that it replaces, and at most so long";
            self.error(object, "stop_grace_period", "is longer than 25 s, the most on the docker platform", hint);
        }
        Some(whole)
    }

    fn hostname(&mut self, object: &Object) -> Option<String> {
        let name = object.text("hostname")?.trim();
        let is_template = name.contains("{{");
        let several = match self.about.services {
            Services::File => true,
            Services::Resource(services) => services.is_some_and(|services| services > 1),
        };
        let (message, hint) = if is_template && self.about.platform == PlatformKind::Docker {
            ("holds a template, which plain Docker does not fill in", "write a name such as `press-7`")
        } else if !is_template && !is_hostname(name) {
            ("is no name of a host", "up to 63 letters, digits and `-`, with `.` between several of them")
        } else if !is_template && several {
            let hint = "say it of a resource with one service, or write a template such as `{{.Service.Name}}`";
            ("would be the name of several services", hint)
        } else {
            return Some(name.to_owned());
        };
        self.error(object, "hostname", message, hint);
        None
    }

    /// A time that may be none at all.
    fn time(&mut self, object: &Object, name: &str) -> Option<Duration> {
        let value = object.get(name)?;
        let Typed::Text(text) = &value.typed else { return None };
        let shown = if value.hidden { "it".to_owned() } else { format!("`{}`", text.escape_debug()) };
        match parse_duration(text) {
            Some(time) if time <= LONGEST => return Some(time),
            Some(_) => self.error(object, name, format!("{shown} is longer than a day"), "write at most `24h`"),
            None => {
                let hint = "write a number and a unit, such as `500ms`, `30s` or `5m`";
                self.error(object, name, format!("{shown} is no time"), hint);
            }
        }
        None
    }

    /// A time that is at least a millisecond, which is the least that the engine takes.
    fn positive(&mut self, object: &Object, name: &str) -> Option<Duration> {
        let time = self.time(object, name)?;
        if time < Duration::from_millis(1) {
            self.error(object, name, "is shorter than a millisecond", "write at least `1ms`, or remove it");
        }
        Some(time)
    }
}

fn count(object: &Object, name: &str) -> Option<u64> {
    object.int(name).and_then(|number| u64::try_from(number).ok())
}

/// Whether a text is a name of a host (RFC 1123), as the kernel takes it.
fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        let inside = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inside && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 64 && name.split('.').all(label)
}
