//! One text per service that is equal exactly when the service is.

use sha2::{Digest, Sha256};

use crate::model::service::{Mount, Resources};
use crate::model::{ServiceSpec, SpecHash};

/// Changes when the canonical form does: every service would be written once more, so it should not.
const FORM: &str = "ofop service 1";

/// The canonical hash of a spec: SHA-256 over its fields in a fixed order, each text with its length before
/// it. Equal specs have equal hashes on every machine and in every version that knows the same fields.
pub fn spec_hash(spec: &ServiceSpec) -> SpecHash {
    SpecHash(canonical(spec).hex())
}

/// The hash, and roughly how many bytes the engine stores for the spec.
pub(super) fn hash_and_size(spec: &ServiceSpec) -> (SpecHash, usize) {
    let canonical = canonical(spec);
    let size = canonical.size;
    (SpecHash(canonical.hex()), size)
}

struct Canonical {
    hasher: Sha256,
    size: usize,
}

impl Canonical {
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.hasher.update(text.as_bytes());
        self.size += text.len();
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(number.to_le_bytes());
        self.size += 8;
    }

    fn signed(&mut self, number: i64) {
        self.hasher.update(number.to_le_bytes());
        self.size += 8;
    }

    fn flag(&mut self, flag: bool) {
        self.number(u64::from(flag));
    }

    fn list<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    fn optional(&mut self, number: Option<i64>) {
        self.flag(number.is_some());
        self.signed(number.unwrap_or_default());
    }

    fn resources(&mut self, resources: Resources) {
        let Resources { nano_cpus, memory_bytes } = resources;
        self.optional(nano_cpus);
        self.optional(memory_bytes);
    }

    fn mount(&mut self, mount: &Mount) {
        match mount {
            Mount::Volume { source, target, driver, options, read_only } => {
                self.text("volume");
                self.text(source);
                self.text(target);
                self.text(driver);
                self.list(options.iter(), |out, (key, value)| {
                    out.text(key);
                    out.text(value);
                });
                self.flag(*read_only);
            }
            Mount::Bind { source, target, read_only } => {
                self.text("bind");
                self.text(source);
                self.text(target);
                self.flag(*read_only);
            }
            Mount::Other { kind, target } => {
                self.text("other");
                self.text(kind);
                self.text(target);
            }
        }
    }

    fn hex(self) -> String {
        use std::fmt::Write as _;
        self.hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

fn canonical(spec: &ServiceSpec) -> Canonical {
    // Taken apart so that a new field cannot be forgotten here.
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
    } = spec;
    let mut out = Canonical { hasher: Sha256::new(), size: 0 };
    out.text(FORM);
    out.text(name.as_str());
    out.text(image);
    out.list(command.iter(), |out, text| out.text(text));
    out.list(args.iter(), |out, text| out.text(text));
    out.list(env.iter(), |out, variable| {
        out.text(&variable.name);
        out.text(&variable.value);
    });
    out.list(user.iter(), |out, user| out.text(user));
    out.list(labels.iter(), |out, (key, value)| {
        out.text(key);
        out.text(value);
    });
    out.list(mounts.iter(), Canonical::mount);
    out.list(ulimits.iter(), |out, ulimit| {
        out.text(&ulimit.name);
        out.signed(ulimit.soft);
        out.signed(ulimit.hard);
    });
    out.resources(*limits);
    out.resources(*reservations);
    out.list(constraints.iter(), |out, text| out.text(text));
    out.list(networks.iter(), |out, text| out.text(text));
    out.number(*replicas);
    out.list(ports.iter(), |out, port| {
        out.text(&port.protocol);
        out.number(u64::from(port.target));
        out.number(u64::from(port.published));
        out.text(&port.mode);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::{EnvVar, Port, Ulimit};
    use crate::model::{ServiceName, ServiceSpec};

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

    /// A golden value: when it changes, every service in the field is written once more.
    #[test]
    fn the_hash_of_a_spec_stays_what_it_is() {
        assert_eq!(spec_hash(&full()).0, "36075e50b7e8274b3ebdc2557466813f6bd669c5b47c199e600d7ff79b24e803");
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
