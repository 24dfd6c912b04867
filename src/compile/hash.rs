//! One text per service that is equal exactly when the service is.
//!
//! # Form
//!
//! SHA-256 over a list of fields. A field is written as its name and its value, each with its length before it, and
//! only when the value differs from the field's default. So a version that owns one more field gives every service
//! that does not use it the hash that it had before: an update of the operator writes no service, restarts no
//! container and forgets no rolled-back update. Values that consist of fields (a mount, a port) follow the same rule.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::model::options::{
    FailureAction, Healthcheck, Probe, RestartCondition, RestartOptions, ServiceOptions, UpdateOptions, UpdateOrder,
};
use crate::model::service::{EnvVar, Mount, Port, Resources, Ulimit};
use crate::model::{ServiceSpec, SpecHash};

/// Changes when the form itself does. Every service would be written once more, so it must not.
const FORM: &str = "ofop spec 1";

/// The canonical hash of a spec. Equal specs have equal hashes on every machine and in every version.
pub fn spec_hash(spec: &ServiceSpec) -> SpecHash {
    hash_and_size(spec).0
}

/// The hash, and roughly how many bytes the engine stores for the spec.
pub(super) fn hash_and_size(spec: &ServiceSpec) -> (SpecHash, usize) {
    use std::fmt::Write as _;
    let bytes = canonical(spec).bytes;
    let hex = Sha256::digest(&bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    (SpecHash(hex), bytes.len())
}

/// The canonical form as far as it is written.
struct Canonical {
    bytes: Vec<u8>,
}

impl Canonical {
    /// A value with its length before it.
    fn framed(&mut self, write: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend([0; 8]);
        write(self);
        let length = (self.bytes.len() - at - 8) as u64;
        self.bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.framed(|out| out.bytes.extend_from_slice(text.as_bytes()));
    }

    /// A field, unless it has its default.
    fn field<T: PartialEq>(&mut self, name: &str, value: T, default: T, write: impl FnOnce(&mut Self, T)) {
        if value != default {
            self.text(name);
            self.framed(|out| write(out, value));
        }
    }

    /// A text that is left out when it is the default.
    fn word(&mut self, name: &str, value: &str, default: &str) {
        self.field(name, value, default, |out, text| out.bytes.extend_from_slice(text.as_bytes()));
    }

    /// A number that is left out when it is the default.
    fn number(&mut self, name: &str, value: i128, default: i128) {
        self.field(name, value, default, |out, number| out.bytes.extend(number.to_le_bytes()));
    }

    /// A number that may be missing.
    fn optional(&mut self, name: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.text(name);
            self.framed(|out| out.bytes.extend(i128::from(value).to_le_bytes()));
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.number(name, i128::from(value), 0);
    }

    /// A list, each item with its length before it. Left out when it is empty.
    fn list<T>(&mut self, name: &str, items: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        if items.len() > 0 {
            self.text(name);
            self.framed(|out| items.for_each(|item| out.framed(|out| write(out, item))));
        }
    }

    fn words(&mut self, name: &str, words: &[String]) {
        self.list(name, words.iter(), |out, word| out.bytes.extend_from_slice(word.as_bytes()));
    }

    fn pairs<'a>(&mut self, name: &str, pairs: impl ExactSizeIterator<Item = (&'a String, &'a String)>) {
        self.list(name, pairs, |out, (key, value)| {
            out.text(key);
            out.text(value);
        });
    }

    fn resources(&mut self, section: &str, resources: Resources) {
        let Resources { nano_cpus, memory_bytes } = resources;
        self.optional(&format!("{section}.cpus"), nano_cpus);
        self.optional(&format!("{section}.memory"), memory_bytes);
    }

    fn mount(&mut self, mount: &Mount) {
        match mount {
            Mount::Volume { source, target, driver, options, read_only } => {
                self.word("volume", source, "");
                self.word("target", target, "");
                self.word("driver", driver, "");
                self.pairs("options", options.iter());
                self.flag("read_only", *read_only);
            }
            Mount::Bind { source, target, read_only } => {
                self.word("bind", source, "");
                self.word("target", target, "");
                self.flag("read_only", *read_only);
            }
            Mount::Other { kind, target } => {
                self.word("kind", kind, "");
                self.word("target", target, "");
            }
        }
    }

    fn ulimit(&mut self, ulimit: &Ulimit) {
        let Ulimit { name, soft, hard } = ulimit;
        self.word("name", name, "");
        self.number("soft", i128::from(*soft), 0);
        self.number("hard", i128::from(*hard), 0);
    }

    fn port(&mut self, port: &Port) {
        let Port { protocol, target, published, mode } = port;
        self.word("protocol", protocol, "tcp");
        self.number("target", i128::from(*target), 0);
        self.number("published", i128::from(*published), 0);
        self.word("mode", mode, "ingress");
    }

    fn optional_word(&mut self, name: &str, word: Option<&str>) {
        if let Some(word) = word {
            self.text(name);
            self.text(word);
        }
    }

    fn time(&mut self, name: &str, time: Option<Duration>) {
        if let Some(time) = time {
            self.text(name);
            self.framed(|out| out.bytes.extend(time.as_nanos().to_le_bytes()));
        }
    }

    fn options(&mut self, options: &ServiceOptions) {
        let ServiceOptions { update, healthcheck, stop_grace_period, restart, hostname } = options;
        let UpdateOptions { order, failure_action, monitor, parallelism, delay } = update;
        let RestartOptions { condition, delay: restart_delay, max_attempts, window } = restart;
        let count = |number: &Option<u64>| number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        self.optional_word("update.order", order.map(UpdateOrder::as_str));
        self.optional_word("update.failure_action", failure_action.map(FailureAction::as_str));
        self.time("update.monitor", *monitor);
        self.optional("update.parallelism", count(parallelism));
        self.time("update.delay", *delay);
        if let Some(check) = healthcheck {
            self.text("healthcheck");
            self.framed(|out| out.healthcheck(check));
        }
        self.time("stop_grace_period", *stop_grace_period);
        self.optional_word("restart.condition", condition.map(RestartCondition::as_str));
        self.time("restart.delay", *restart_delay);
        self.optional("restart.max_attempts", count(max_attempts));
        self.time("restart.window", *window);
        self.optional_word("hostname", hostname.as_deref());
    }

    fn healthcheck(&mut self, check: &Healthcheck) {
        match check {
            Healthcheck::Disabled => self.flag("disabled", true),
            Healthcheck::Probe(Probe { test, interval, timeout, retries, start_period }) => {
                self.words("test", test);
                self.time("interval", *interval);
                self.time("timeout", *timeout);
                self.optional("retries", retries.map(i64::from));
                self.time("start_period", *start_period);
            }
        }
    }
}

fn canonical(spec: &ServiceSpec) -> Canonical {
    // Taken apart so that a new field cannot be forgotten here. Append it, and leave it out when it has its default.
    let ServiceSpec {
        name,
        image,
        command,
        args,
        env,
        user,
        labels,
        mounts,
        ulimits,
        limits,
        reservations,
        constraints,
        networks,
        replicas,
        ports,
        options,
    } = spec;
    let mut out = Canonical { bytes: Vec::with_capacity(2048) };
    out.text(FORM);
    out.word("name", name.as_str(), "");
    out.word("image", image, "");
    out.words("command", command);
    out.words("args", args);
    out.list("env", env.iter(), |out, EnvVar { name, value }| {
        out.text(name);
        out.text(value);
    });
    if let Some(user) = user {
        out.text("user");
        out.text(user);
    }
    out.pairs("labels", labels.iter());
    out.list("mounts", mounts.iter(), Canonical::mount);
    out.list("ulimits", ulimits.iter(), Canonical::ulimit);
    out.resources("limits", *limits);
    out.resources("reservations", *reservations);
    out.words("constraints", constraints);
    out.words("networks", networks);
    out.number("replicas", i128::from(*replicas), 1);
    out.list("ports", ports.iter(), Canonical::port);
    out.options(options);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceName;

    fn full() -> ServiceSpec {
        let mut spec = ServiceSpec::new(ServiceName::new("press_7").unwrap(), "reg.local/press:3.1");
        spec.command = vec!["sh".into()];
        spec.args = vec!["-c".into(), "true".into()];
        spec.env = vec![EnvVar::new("A", "1"), EnvVar::new("B", "")];
        spec.user = Some("1500:1600".into());
        spec.labels.insert("traefik.enable".into(), "true".into());
        spec.mounts = vec![
            Mount::Volume {
                source: "nfs_nas".into(),
                target: "/data".into(),
                driver: "local".into(),
                options: [("type".to_owned(), "nfs".to_owned())].into(),
                read_only: false,
            },
            Mount::Bind { source: "/srv".into(), target: "/srv".into(), read_only: true },
        ];
        spec.ulimits = vec![Ulimit { name: "nofile".into(), soft: 1024, hard: 1024 }];
        spec.limits = Resources { nano_cpus: Some(800_000_000), memory_bytes: Some(268_435_456) };
        spec.reservations = Resources { nano_cpus: Some(200_000_000), memory_bytes: None };
        spec.constraints = vec!["node.role == worker".into()];
        spec.networks = vec!["factory-net".into()];
        spec.replicas = 2;
        spec.ports = vec![Port::tcp(3202, 5000)];
        spec
    }

    /// The form in words: a spec with defaults alone writes its name and its image and nothing else, so that a field
    /// that is added with its default changes no hash.
    #[test]
    fn a_default_is_not_part_of_the_form() {
        let bare = ServiceSpec::new(ServiceName::new("press").unwrap(), "app:1");
        let mut expected = Canonical { bytes: Vec::new() };
        for text in [FORM, "name", "press", "image", "app:1"] {
            expected.text(text);
        }
        assert_eq!(canonical(&bare).bytes, expected.bytes);

        let with = |change: fn(&mut ServiceSpec)| {
            let mut spec = bare.clone();
            change(&mut spec);
            String::from_utf8_lossy(&canonical(&spec).bytes).into_owned()
        };
        let port = with(|spec| spec.ports = vec![Port::tcp(1, 2)]);
        assert!(port.contains("published") && !port.contains("protocol") && !port.contains("mode"), "{port:?}");
        let bind = Mount::Bind { source: "/s".into(), target: "/t".into(), read_only: false };
        let mut mounted = bare.clone();
        mounted.mounts = vec![bind];
        let mounted = String::from_utf8_lossy(&canonical(&mounted).bytes).into_owned();
        assert!(mounted.contains("target") && !mounted.contains("read_only"), "{mounted:?}");
        let limited = with(|spec| spec.limits.nano_cpus = Some(1));
        assert!(limited.contains("limits.cpus") && !limited.contains("memory"), "{limited:?}");
    }

    #[test]
    fn none_and_zero_and_empty_differ_where_the_engine_tells_them_apart() {
        let with = |change: fn(&mut ServiceSpec)| {
            let mut spec = full();
            change(&mut spec);
            spec_hash(&spec)
        };
        assert_ne!(with(|s| s.user = None), with(|s| s.user = Some(String::new())));
        assert_ne!(with(|s| s.limits.nano_cpus = None), with(|s| s.limits.nano_cpus = Some(0)));
        assert_ne!(with(|s| s.replicas = 0), with(|s| s.replicas = 1));
        assert_ne!(with(|s| s.networks = vec![]), with(|s| s.networks = vec![String::new()]));
    }

    fn probe(change: fn(&mut Probe)) -> Option<Healthcheck> {
        let mut probe = Probe::default();
        change(&mut probe);
        Some(Healthcheck::Probe(probe))
    }

    #[test]
    fn every_field_counts() {
        let base = full();
        let changes: Vec<fn(&mut ServiceSpec)> = vec![
            |s| s.name = ServiceName::new("press_8").unwrap(),
            |s| s.image.push('x'),
            |s| s.command.push("x".into()),
            |s| s.args.clear(),
            |s| s.env.swap(0, 1),
            |s| s.env[0].value.push('x'),
            |s| s.user = None,
            |s| s.labels.clear(),
            |s| s.mounts.swap(0, 1),
            |s| s.mounts[1] = Mount::Bind { source: "/srv".into(), target: "/srv".into(), read_only: false },
            |s| s.ulimits[0].hard = 2048,
            |s| s.limits.memory_bytes = None,
            |s| s.reservations.memory_bytes = Some(0),
            |s| s.constraints.clear(),
            |s| s.networks.push("mon".into()),
            |s| s.replicas = 3,
            |s| s.ports[0].published = 3203,
            |s| s.options.update.order = Some(UpdateOrder::StopFirst),
            |s| s.options.update.order = Some(UpdateOrder::StartFirst),
            |s| s.options.update.failure_action = Some(FailureAction::Pause),
            |s| s.options.update.monitor = Some(Duration::ZERO),
            |s| s.options.update.parallelism = Some(0),
            |s| s.options.update.delay = Some(Duration::ZERO),
            |s| s.options.healthcheck = Some(Healthcheck::Disabled),
            |s| s.options.healthcheck = Some(Healthcheck::default()),
            |s| s.options.healthcheck = probe(|probe| probe.test = vec!["CMD".into(), "x".into()]),
            |s| s.options.healthcheck = probe(|probe| probe.test = vec!["CMD".into(), "y".into()]),
            |s| s.options.healthcheck = probe(|probe| probe.interval = Some(Duration::from_secs(1))),
            |s| s.options.healthcheck = probe(|probe| probe.timeout = Some(Duration::from_secs(1))),
            |s| s.options.healthcheck = probe(|probe| probe.start_period = Some(Duration::from_secs(1))),
            |s| s.options.healthcheck = probe(|probe| probe.retries = Some(1)),
            |s| s.options.stop_grace_period = Some(Duration::ZERO),
            |s| s.options.restart.condition = Some(RestartCondition::Any),
            |s| s.options.restart.delay = Some(Duration::ZERO),
            |s| s.options.restart.max_attempts = Some(0),
            |s| s.options.restart.window = Some(Duration::ZERO),
            |s| s.options.hostname = Some(String::new()),
        ];
        let mut seen = std::collections::BTreeSet::from([spec_hash(&base)]);
        for (index, change) in changes.iter().enumerate() {
            let mut spec = full();
            change(&mut spec);
            assert!(seen.insert(spec_hash(&spec)), "change {index} went unnoticed");
        }
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        let mut one = full();
        one.env = vec![EnvVar::new("A", "1B"), EnvVar::new("2", "")];
        let mut two = full();
        two.env = vec![EnvVar::new("A", "1"), EnvVar::new("B2", "")];
        assert_ne!(spec_hash(&one), spec_hash(&two));
    }
}
