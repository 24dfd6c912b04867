//! From the engine's words to ours: services, tasks, networks. Pure.
//!
//! What is observed gets the normal form of what is desired, so that equal things compare equal: networks by
//! name, constraints with one space around `==`, ports sorted, null and empty the same, what the engine fills
//! in gone.
//!
//! # Guarantees
//!
//! - A service that cannot be understood is said to be unreadable; it never fails the list that it is in.
//! - What a spec of ours cannot express is never taken for equal to one: it shows as a foreign mode, or as a
//!   mount of another kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{options, raw};
use crate::model::service::{EnvVar, LABEL_SELF, Mount, Port, Resources, Ulimit};
use crate::model::{
    Mark, ObservedService, Rollout, ServiceId, ServiceName, ServiceSpec, TaskState, TaskView, UpdateState,
};
use crate::platform::scrub::Scrubber;

/// Names of networks by their ids.
pub type NetworkNames = BTreeMap<String, String>;

/// What tells whether a service changed since it was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Full id.
    pub id: ServiceId,
    /// Moves with every change.
    pub version: u64,
}

/// What became of the text of one service.
#[derive(Debug)]
pub enum Converted {
    /// It was understood.
    Service {
        /// As we see it.
        service: Arc<ObservedService>,
        /// Ids of networks that have no name yet; they stand in the spec as they are.
        unknown_networks: Vec<String>,
    },
    /// It was not.
    Unreadable {
        /// Its name, or its id, or nothing.
        name: String,
        /// Why, without quoting it.
        reason: String,
    },
}

/// Reads id and version of a service, quickly.
pub fn header(text: &[u8]) -> Option<Header> {
    let raw: raw::Header = serde_json::from_slice(text).ok()?;
    (!raw.id.is_empty()).then_some(Header { id: ServiceId(raw.id), version: raw.version.index })
}

/// Reads a service.
pub fn service(text: &[u8], networks: &NetworkNames) -> Converted {
    let raw: raw::Service = match serde_json::from_slice(text) {
        Ok(raw) => raw,
        Err(error) => {
            // The text may hold environment values, and the parser quotes what it stumbles over.
            let reason = format!("its description has an unknown shape at byte {}", error.column());
            let header: raw::Header = serde_json::from_slice(text).unwrap_or_default();
            let name = if header.spec.name.is_empty() { header.id } else { header.spec.name };
            return Converted::Unreadable { name: name.to_lowercase(), reason };
        }
    };
    let unreadable = |reason: String| Converted::Unreadable { name: raw.spec.name.to_lowercase(), reason };
    let name = match ServiceName::new(&raw.spec.name) {
        Ok(name) => name,
        Err(error) => return unreadable(error.to_string()),
    };
    if raw.id.is_empty() {
        return unreadable("it has no id".into());
    }
    let mark = Mark::from_labels(|label| raw.spec.labels.get(label).map(String::as_str));
    let runs_operator = raw.spec.labels.contains_key(LABEL_SELF);
    let owned = |labels: BTreeMap<String, String>| -> BTreeMap<String, String> {
        labels.into_iter().filter(|(key, _)| ServiceSpec::owns_label(&name, key)).collect()
    };
    let rollout = rollout(&raw);
    let mut unknown_networks = Vec::new();
    let (foreign_mode, replicas) = mode(&raw.spec);
    let template = raw.spec.task_template;
    let container = template.container_spec.unwrap_or_default();
    let options = options::read(raw.spec.update_config.as_ref(), &template.restart_policy, &container);
    let attachments = if template.networks.is_empty() { raw.spec.networks } else { template.networks };
    let spec = ServiceSpec {
        image: container.image,
        command: container.command,
        args: container.args,
        env: container.env.iter().map(|variable| EnvVar::split(variable)).collect(),
        user: Some(container.user).filter(|user| !user.is_empty()),
        labels: owned(raw.spec.labels),
        mounts: container.mounts.into_iter().map(mount).collect(),
        ulimits: container.ulimits.into_iter().map(ulimit).collect(),
        limits: resources(&template.resources.limits),
        reservations: resources(&template.resources.reservations),
        constraints: template.placement.constraints.iter().map(|text| constraint(text)).collect(),
        networks: attachments
            .into_iter()
            .map(|attachment| match networks.get(&attachment.target) {
                Some(name) => name.clone(),
                None => {
                    unknown_networks.push(attachment.target.clone());
                    attachment.target
                }
            })
            .collect(),
        replicas,
        ports: ports(raw.spec.endpoint_spec.ports),
        options,
        name: name.clone(),
    };
    let update = match raw.update_status {
        said if said.message.is_empty() => update(said),
        said => update(raw::UpdateStatus { message: Scrubber::of(&spec).clean(&said.message), ..said }),
    };
    let service = ObservedService {
        id: ServiceId(raw.id),
        version: raw.version.index,
        spec: Arc::new(spec),
        foreign_mode,
        mark,
        runs_operator,
        container_labels: owned(container.labels),
        update,
        rollout,
        created_at: raw.created_at,
    };
    Converted::Service { service: Arc::new(service), unknown_networks }
}

/// What is foreign about a service's mode, and its number of replicas.
fn mode(spec: &raw::Spec) -> (Option<String>, u64) {
    let foreign = |what: &str| (Some(what.to_owned()), 0);
    let runtime = spec.task_template.runtime.as_str();
    if !matches!(runtime, "" | "container") {
        return (Some(format!("runtime {runtime}")), 0);
    }
    if spec.task_template.container_spec.is_none() {
        return foreign("no container");
    }
    let mode = &spec.mode;
    if mode.global.is_some() {
        return foreign("global mode");
    }
    if mode.replicated_job.is_some() {
        return foreign("replicated job mode");
    }
    if mode.global_job.is_some() {
        return foreign("global job mode");
    }
    match &mode.replicated {
        // Without a number the engine runs one (Docker Engine API).
        Some(replicated) => (None, replicated.replicas.unwrap_or(1)),
        None => foreign("unknown mode"),
    }
}

/// The normal form of a placement constraint: one space on both sides of `==` or `!=`.
pub fn constraint(text: &str) -> String {
    for operator in ["==", "!="] {
        if let Some((left, right)) = text.split_once(operator) {
            return format!("{} {operator} {}", left.trim(), right.trim());
        }
    }
    text.trim().to_owned()
}

fn ports(raw: Vec<raw::Port>) -> Vec<Port> {
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let mut ports: Vec<Port> = raw
        .into_iter()
        .map(|port| Port {
            protocol: or(port.protocol, "tcp"),
            target: port.target_port,
            published: port.published_port,
            mode: or(port.publish_mode, "ingress"),
        })
        .collect();
    ports.sort();
    ports
}

fn resources(raw: &raw::Amounts) -> Resources {
    let some = |amount: i64| Some(amount).filter(|amount| *amount != 0);
    Resources { nano_cpus: some(raw.nano_cpus), memory_bytes: some(raw.memory_bytes) }
}

fn ulimit(raw: raw::Ulimit) -> Ulimit {
    Ulimit { name: raw.name, soft: raw.soft, hard: raw.hard }
}

/// Reads a mount. One with options that a [`Mount`] cannot express is of another kind, so that it differs from
/// every mount that is wanted.
fn mount(raw: Value) -> Mount {
    let Value::Object(mut fields) = raw else {
        return Mount::Other { kind: "unknown".into(), target: String::new() };
    };
    let mut text = |key: &str| take_text(&mut fields, key);
    let (kind, source, target) = (text("Type"), text("Source"), text("Target"));
    let read_only = fields.remove("ReadOnly").and_then(|flag| flag.as_bool()).unwrap_or(false);
    let mut volume = match fields.remove("VolumeOptions") {
        Some(Value::Object(options)) => options,
        _ => Map::new(),
    };
    let mut config = match volume.remove("DriverConfig") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    let driver = take_text(&mut config, "Name");
    let options = match config.remove("Options") {
        Some(Value::Object(options)) => {
            options.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect()
        }
        _ => BTreeMap::new(),
    };
    // Absent, "default" and what the kernel does anyway mean the same.
    if fields.get("Consistency").and_then(Value::as_str) == Some("default") {
        fields.remove("Consistency");
    }
    if let Some(Value::Object(bind)) = fields.get_mut("BindOptions")
        && bind.get("Propagation").and_then(Value::as_str) == Some("rprivate")
    {
        bind.remove("Propagation");
    }
    let plain = fields.values().all(is_empty) && volume.values().all(is_empty) && config.values().all(is_empty);
    match kind.as_str() {
        "volume" if plain => Mount::Volume { source, target, driver, options, read_only },
        "bind" if plain => Mount::Bind { source, target, read_only },
        "volume" | "bind" => Mount::Other { kind: format!("{kind} with options"), target },
        _ => Mount::Other { kind, target },
    }
}

fn take_text(fields: &mut Map<String, Value>, key: &str) -> String {
    match fields.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Whether a value means the same as its absence.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn update(raw: raw::UpdateStatus) -> UpdateState {
    match raw.state.as_str() {
        "updating" => UpdateState::Updating,
        "paused" => UpdateState::Paused(raw.message),
        "completed" => UpdateState::Completed,
        "rollback_started" => UpdateState::RollbackStarted(raw.message),
        "rollback_paused" => UpdateState::RollbackPaused(raw.message),
        "rollback_completed" => UpdateState::RollbackCompleted(raw.message),
        _ => UpdateState::None,
    }
}

/// What swarmkit says in `UpdateStatus` while a rollback that a person ordered is under way
/// (`manager/controlapi/service.go`).
const ORDERED: &str = "manually requested rollback";

fn rollout(raw: &raw::Service) -> Rollout {
    let went_back = raw.update_status.state.starts_with("rollback_");
    // A rollback of Swarm's own leaves no previous spec; one that is ordered exchanges the two.
    let by_hand = went_back && (raw.previous_spec.is_some() || raw.update_status.message.contains(ORDERED));
    Rollout {
        rolls_back: raw.spec.update_config.as_ref().is_some_and(|config| config.failure_action == "rollback"),
        started: raw.update_status.started_at.clone(),
        by_hand,
    }
}

/// A task as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTask {
    /// Whose task it is.
    pub service: ServiceId,
    /// When it was made, in a form whose order is that of time.
    pub created: String,
    /// The task.
    pub view: TaskView,
}

/// Reads a task; none when it cannot be understood.
pub fn task(text: &[u8]) -> Option<ListedTask> {
    let raw: raw::Task = serde_json::from_slice(text).ok()?;
    if raw.id.is_empty() {
        return None;
    }
    let view = TaskView {
        id: raw.id,
        slot: raw.slot,
        state: task_state(&raw.status.state),
        wanted: !matches!(raw.desired_state.as_str(), "shutdown" | "remove"),
        error: error(raw.status.err, text),
        node: raw.node_id,
        since: raw.status.timestamp,
    };
    // The engine leaves out zeros at the end of a fraction: without the `Z`, texts sort like times.
    let created = raw.created_at.trim_end_matches('Z').to_owned();
    Some(ListedTask { service: ServiceId(raw.service_id), created, view })
}

/// Why a task does not run, without the values of the spec that it was made from, which the text of the task holds.
fn error(said: String, text: &[u8]) -> String {
    if said.is_empty() {
        return said;
    }
    let spec = serde_json::from_slice::<raw::TaskWithSpec>(text).unwrap_or_default().spec;
    let container = spec.container_spec.unwrap_or_default();
    let env: Vec<EnvVar> = container.env.iter().map(|variable| EnvVar::split(variable)).collect();
    let mounts: Vec<Mount> = container.mounts.into_iter().map(mount).collect();
    Scrubber::new(None, &env, &mounts).clean(&said)
}

fn task_state(word: &str) -> TaskState {
    match word {
        "new" => TaskState::New,
        "allocated" => TaskState::Allocated,
        "pending" => TaskState::Pending,
        "assigned" => TaskState::Assigned,
        "accepted" => TaskState::Accepted,
        "preparing" => TaskState::Preparing,
        "ready" => TaskState::Ready,
        "starting" => TaskState::Starting,
        "running" => TaskState::Running,
        "complete" => TaskState::Complete,
        "shutdown" => TaskState::Shutdown,
        "failed" => TaskState::Failed,
        "rejected" => TaskState::Rejected,
        "orphaned" => TaskState::Orphaned,
        "remove" => TaskState::Remove,
        _ => TaskState::Unknown,
    }
}

/// A network that services can be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Whether a service can be attached to it by name.
    pub attachable: bool,
}

/// Reads a network.
pub fn network(text: &[u8]) -> Option<Network> {
    let raw: raw::Network = serde_json::from_slice(text).ok()?;
    // `host` and `bridge` exist on every node and can be used by services (Docker Engine API).
    let everywhere = matches!(raw.name.as_str(), "host" | "bridge");
    let attachable = (raw.scope == "swarm" && !raw.ingress && !raw.config_only) || everywhere;
    (!raw.id.is_empty() && !raw.name.is_empty()).then_some(Network { id: raw.id, name: raw.name, attachable })
}

/// Host names of nodes by their ids.
pub type NodeNames = BTreeMap<String, String>;

/// What a list of nodes says: their names, and whether the managers among them can decide anything, for which one of
/// them leads and most can be reached.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Quorum {
    managers: usize,
    reachable: usize,
    leaders: usize,
    names: NodeNames,
}

impl Quorum {
    /// Takes in the text of one node; false when it cannot be understood.
    pub fn count(&mut self, text: &[u8]) -> bool {
        let Ok(node) = serde_json::from_slice::<raw::Node>(text) else { return false };
        if let Some(manager) = node.manager_status {
            self.managers += 1;
            self.reachable += usize::from(manager.reachability == "reachable");
            self.leaders += usize::from(manager.leader);
        }
        let is_named = !node.id.is_empty();
        if is_named && !node.description.hostname.is_empty() {
            self.names.insert(node.id, node.description.hostname);
        }
        is_named
    }

    /// Whether most managers are there and one leads.
    pub fn holds(&self) -> bool {
        self.leaders > 0 && self.reachable * 2 > self.managers
    }

    /// The host names of the nodes that were counted.
    pub fn into_names(self) -> NodeNames {
        self.names
    }
}

/// What an event of the engine says may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// A service was made or changed.
    Service(ServiceId),
    /// A service was removed.
    ServiceRemoved(ServiceId),
    /// A network came or went.
    Networks,
    /// A node changed: tasks may move, a quorum may be lost or found.
    Nodes,
    /// A container of a task of this service changed on the engine's own machine.
    Tasks(ServiceId),
    /// The config of this name changed.
    Config(String),
}

/// Reads an event; none when it does not concern us.
pub fn event(text: &[u8]) -> Option<Hint> {
    let raw: raw::Event = serde_json::from_slice(text).ok()?;
    match (raw.kind.as_str(), raw.action.as_str()) {
        ("service", "remove") => Some(Hint::ServiceRemoved(ServiceId(raw.actor.id))),
        ("service", _) => Some(Hint::Service(ServiceId(raw.actor.id))),
        ("network", _) => Some(Hint::Networks),
        ("node", _) => Some(Hint::Nodes),
        ("config", _) => raw.actor.attributes.get("name").cloned().map(Hint::Config),
        ("container", _) => {
            raw.actor.attributes.get("com.docker.swarm.service.id").map(|id| Hint::Tasks(ServiceId(id.clone())))
        }
        _ => None,
    }
}
