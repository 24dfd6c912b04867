//! The part of a Swarm service (or container) that a manifest decides.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fields::{OwnedField, ROWS};
use super::names::{InstanceName, ResourceId, Revision, ServiceName};
use super::options::ServiceOptions;
use super::run::RunId;
use super::windows::Windows;

/// Every field that we own, and nothing else. Two equal specs mean the same service.
///
/// On the docker platform one container is one spec with `replicas` 1: an app with three replicas compiles
/// to three specs `NAME-1`, `NAME-2`, `NAME-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Name of the service or container.
    pub name: ServiceName,
    /// Image reference as the manifest writes it (desired), or as found, digest included (observed).
    pub image: String,
    /// What replaces the image's entry point; empty for the image's own.
    pub command: Vec<String>,
    /// What replaces the image's arguments; empty for the image's own.
    pub args: Vec<String>,
    /// `NAME=value` in order. The engine compares them in order too, so order is part of the meaning.
    pub env: Vec<EnvVar>,
    /// `uid:gid`, or none for the image's own.
    pub user: Option<String>,
    /// Labels that we set on the service and on its containers alike (routing).
    pub labels: BTreeMap<String, String>,
    /// In order.
    pub mounts: Vec<Mount>,
    /// In order.
    pub ulimits: Vec<Ulimit>,
    /// Upper bounds.
    pub limits: Resources,
    /// What a node must have free.
    pub reservations: Resources,
    /// Placement constraints in normal form, `node.role == worker`, in order.
    pub constraints: Vec<String>,
    /// Networks by name, in order.
    pub networks: Vec<String>,
    /// Number of tasks.
    pub replicas: u64,
    /// Published ports.
    pub ports: Vec<Port>,
    /// What is owned only while a manifest sets it.
    pub options: ServiceOptions,
}

impl ServiceSpec {
    /// A spec with a name and an image and nothing else, one replica.
    pub fn new(name: ServiceName, image: impl Into<String>) -> Self {
        ServiceSpec {
            name,
            image: image.into(),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            labels: BTreeMap::new(),
            mounts: Vec::new(),
            ulimits: Vec::new(),
            limits: Resources::default(),
            reservations: Resources::default(),
            constraints: Vec::new(),
            networks: Vec::new(),
            replicas: 1,
            ports: Vec::new(),
            options: ServiceOptions::default(),
        }
    }

    /// Whether a label of the service called `name` is one that OpenFactory would set: only those are
    /// compared and removed; all others belong to other people.
    pub fn owns_label(name: &ServiceName, key: &str) -> bool {
        let Some(rest) = key.strip_prefix("traefik.") else { return false };
        if rest == "enable" {
            return true;
        }
        let Some((section, object)) = rest.strip_prefix("http.").and_then(|rest| rest.split_once('.')) else {
            return false;
        };
        if !matches!(section, "routers" | "services" | "middlewares") {
            return false;
        }
        let object = object.split('.').next().unwrap_or(object);
        let stem = object.strip_prefix("ofa-").map(|stem| {
            ["-external", "-slash", "-strip"].iter().find_map(|tail| stem.strip_suffix(tail)).unwrap_or(stem)
        });
        object == name.as_str() || stem.is_some_and(|stem| stem == name.normal())
    }
}

/// One environment variable. `Debug` hides the value, so that no log can show it by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Left of the first `=`.
    pub name: String,
    /// Right of the first `=`. Possibly a secret: never printed unless a person asks for it.
    pub value: String,
}

impl EnvVar {
    /// A variable.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        EnvVar { name: name.into(), value: value.into() }
    }

    /// Splits `NAME=value` at the first `=`; a text without `=` is a name with an empty value.
    pub fn split(text: &str) -> Self {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        EnvVar::new(name, value)
    }

    /// `NAME=value`, as the engine takes it.
    pub fn joined(&self) -> String {
        format!("{}={}", self.name, self.value)
    }
}

impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=<{} bytes>", self.name, self.value.len())
    }
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Mount {
    /// A named volume, created on demand by a driver.
    Volume {
        /// Volume name.
        source: String,
        /// Absolute path in the container.
        target: String,
        /// Volume driver; empty for the engine's default.
        driver: String,
        /// Driver options.
        options: BTreeMap<String, String>,
        /// Mounted read-only.
        read_only: bool,
    },
    /// A directory of the host.
    Bind {
        /// Absolute path on the host.
        source: String,
        /// Absolute path in the container.
        target: String,
        /// Mounted read-only.
        read_only: bool,
    },
    /// Any other kind, as found on a service that somebody edited; never desired.
    Other {
        /// The engine's word for it: `tmpfs`, `npipe`, …
        kind: String,
        /// Absolute path in the container.
        target: String,
    },
}

/// One ulimit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// `nofile`, …
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// CPU and memory; `None` is unlimited or unreserved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Billionths of a CPU.
    pub nano_cpus: Option<i64>,
    /// Bytes.
    pub memory_bytes: Option<i64>,
}

impl Resources {
    /// Without bounds of zero: to the engine they are none.
    pub fn without_zeros(self) -> Self {
        let some = |bound: Option<i64>| bound.filter(|bound| *bound != 0);
        Resources { nano_cpus: some(self.nano_cpus), memory_bytes: some(self.memory_bytes) }
    }
}

/// One published TCP port in ingress mode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Port {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Port in the container.
    pub target: u16,
    /// Port on the nodes.
    pub published: u16,
    /// `ingress` or `host`.
    pub mode: String,
}

impl Port {
    /// A TCP port published through the ingress network.
    pub fn tcp(published: u16, target: u16) -> Self {
        Port { protocol: "tcp".into(), target, published, mode: "ingress".into() }
    }
}

/// A hash of a [`ServiceSpec`] in a canonical form; equal specs have equal hashes on every machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SpecHash(pub String);

/// Label: whose service it is. The only label that ownership is decided by.
pub const LABEL_INSTANCE: &str = "io.openfactory.operator/instance";
/// Label: the resource that the service belongs to, `app/UUID`.
pub const LABEL_RESOURCE: &str = "io.openfactory.operator/resource";
/// Label: hash of what was asked for.
pub const LABEL_SPEC: &str = "io.openfactory.operator/spec";
/// Label: the revision at which what was asked for last changed.
pub const LABEL_REVISION: &str = "io.openfactory.operator/revision";
/// Label: `file:line` in the manifests.
pub const LABEL_ORIGIN: &str = "io.openfactory.operator/origin";
/// Label: `false` when the service stays although the manifests no longer describe its resource; absent otherwise.
pub const LABEL_PRUNE: &str = "io.openfactory.operator/prune";
/// Label: the resources that this one comes after, with commas between: it goes before they do. Absent when there are none.
pub const LABEL_AFTER: &str = "io.openfactory.operator/after";
/// Label: when its manifest let changes out, as [`Windows`] are written: a removal waits for that. Absent when it did not say.
pub const LABEL_WINDOWS: &str = "io.openfactory.operator/windows";
/// Label: the options that the manifest sets, with commas between. Absent when there are none.
pub const LABEL_OPTIONS: &str = "io.openfactory.operator/options";
/// Label: which run of the operator wrote the service last.
pub const LABEL_RUN: &str = "io.openfactory.operator/run";
/// Label that people put on the service (on plain Docker: the container) in which an operator runs. Whatever its value and
/// whatever else it carries, no operator adopts, changes or removes it.
pub const LABEL_SELF: &str = "io.openfactory.operator/self";

/// Our mark on a service. It is kept in labels of the service alone, never of its containers, since a
/// changed container label restarts every task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// Owner.
    pub instance: InstanceName,
    /// The resource that needs the service.
    pub resource: ResourceId,
    /// Hash of what was asked for.
    pub spec: SpecHash,
    /// Revision of the source.
    pub revision: Revision,
    /// `file:line`.
    pub origin: String,
    /// Whether the service stays when the manifests no longer describe its resource. None where a mark cannot
    /// say so: a label of a container cannot change without its container.
    pub kept: Option<bool>,
    /// What its removal waits for.
    pub terms: RemovalTerms,
    /// The options that its manifest sets, in order: one that is set no longer goes back to the engine's default.
    pub options: Vec<OwnedField>,
    /// The run that wrote the mark; none where it cannot be told. It travels with every write that happens anyway. It
    /// is never compared: another run is no difference and no reason to write.
    pub run: Option<RunId>,
}

/// What the removal of a resource waits for, when no manifest is there any more to say so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RemovalTerms {
    /// It goes before these. Sorted, each once.
    pub after: Vec<ResourceId>,
    /// It goes when these are open.
    pub windows: Windows,
}

impl Mark {
    /// The labels that carry this mark.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        let mut labels = vec![
            (LABEL_INSTANCE, self.instance.to_string()),
            (LABEL_RESOURCE, self.resource.to_string()),
            (LABEL_SPEC, self.spec.0.clone()),
            (LABEL_REVISION, self.revision.0.clone()),
            (LABEL_ORIGIN, self.origin.clone()),
        ];
        if self.kept == Some(true) {
            labels.push((LABEL_PRUNE, "false".into()));
        }
        let RemovalTerms { after, windows } = &self.terms;
        if !after.is_empty() {
            labels.push((LABEL_AFTER, after.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")));
        }
        if !windows.is_default() {
            labels.push((LABEL_WINDOWS, windows.to_string()));
        }
        if !self.options.is_empty() {
            let names: Vec<&str> = self.options.iter().map(|field| field.row().name).collect();
            labels.push((LABEL_OPTIONS, names.join(",")));
        }
        if let Some(run) = &self.run {
            labels.push((LABEL_RUN, run.to_string()));
        }
        labels
    }

    /// Whether a label of a service may be part of a mark.
    pub fn owns_label(key: &str) -> bool {
        matches!(
            key,
            LABEL_INSTANCE
                | LABEL_RESOURCE
                | LABEL_SPEC
                | LABEL_REVISION
                | LABEL_ORIGIN
                | LABEL_PRUNE
                | LABEL_AFTER
                | LABEL_WINDOWS
                | LABEL_OPTIONS
                | LABEL_RUN
        )
    }

    /// Reads a mark back. A service without a readable instance and resource carries no mark, and what runs an operator is
    /// nobody's resource.
    pub fn from_labels<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Mark> {
        if get(LABEL_SELF).is_some() {
            return None;
        }
        Some(Mark {
            instance: InstanceName::new(get(LABEL_INSTANCE)?).ok()?,
            resource: get(LABEL_RESOURCE)?.parse().ok()?,
            spec: SpecHash(get(LABEL_SPEC).unwrap_or_default().to_owned()),
            revision: Revision(get(LABEL_REVISION).unwrap_or_default().to_owned()),
            origin: get(LABEL_ORIGIN).unwrap_or_default().to_owned(),
            kept: Some(get(LABEL_PRUNE) == Some("false")),
            terms: RemovalTerms {
                after: get(LABEL_AFTER).map(read_after).unwrap_or_default(),
                windows: get(LABEL_WINDOWS).and_then(|text| text.parse().ok()).unwrap_or_default(),
            },
            options: get(LABEL_OPTIONS).map(read_options).unwrap_or_default(),
            run: get(LABEL_RUN).and_then(RunId::found),
        })
    }
}

/// The options that a label names. One that a newer version knows is passed over.
fn read_options(text: &str) -> Vec<OwnedField> {
    let known = |name| ROWS.iter().find(|row| row.option.is_some() && row.name == name).map(|row| row.field);
    text.split(',').filter_map(known).collect()
}

/// The resources that a label names. A uuid may hold a comma: then more than one part is a resource.
fn read_after(text: &str) -> Vec<ResourceId> {
    let mut after: Vec<ResourceId> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let begins = |at: &usize| ["app/", "device/"].iter().any(|kind| rest[at + 1..].starts_with(kind));
        let end = rest.match_indices(',').map(|(at, _)| at).find(begins).unwrap_or(rest.len());
        after.extend(rest[..end].parse().ok());
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routing_labels_of_the_service_itself_are_owned() {
        let name = ServiceName::new("press_7").unwrap();
        for ours in [
            "traefik.enable",
            "traefik.http.routers.ofa-press-7.rule",
            "traefik.http.routers.ofa-press-7-external.rule",
            "traefik.http.middlewares.ofa-press-7-strip.stripprefix.prefixes",
            "traefik.http.services.ofa-press-7.loadbalancer.server.port",
        ] {
            assert!(ServiceSpec::owns_label(&name, ours), "{ours}");
        }
        for theirs in [
            "team",
            "traefik.http.routers.ofa-press-70.rule",
            "traefik.http.routers.mine.rule",
            "traefik.tcp.routers.ofa-press-7.rule",
            "io.openfactory.operator/instance",
        ] {
            assert!(!ServiceSpec::owns_label(&name, theirs), "{theirs}");
        }
        let agent = ServiceName::new("cnc-1-agent").unwrap();
        assert!(ServiceSpec::owns_label(&agent, "traefik.http.routers.cnc-1-agent.rule"));
    }

    #[test]
    fn a_mark_reads_back_with_the_run_that_wrote_it_and_one_without_a_run_is_still_a_mark() {
        let mark = |run| Mark {
            instance: InstanceName::new("plant").unwrap(),
            resource: "app/A".parse().unwrap(),
            spec: SpecHash("h".into()),
            revision: Revision("r".into()),
            origin: "a.yml:1".into(),
            kept: Some(true),
            terms: RemovalTerms {
                after: vec!["app/DB, the old one".parse().unwrap(), "device/CNC,1".parse().unwrap()],
                windows: "allow 0 22 * * MON-FRI for 6h in Europe/Berlin; repairs window".parse().unwrap(),
            },
            options: vec![OwnedField::UpdateOrder, OwnedField::Hostname],
            run,
        };
        for mark in [mark(None), mark(Some(RunId::new("host", 7, 9)))] {
            let labels = mark.labels();
            assert!(labels.iter().all(|(key, _)| Mark::owns_label(key)));
            let get = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
            assert_eq!(Mark::from_labels(get), Some(mark));
        }
    }

    #[test]
    fn debug_never_shows_an_environment_value() {
        assert_eq!(format!("{:?}", EnvVar::new("TOKEN", "s3cret")), "TOKEN=<6 bytes>");
    }
}
