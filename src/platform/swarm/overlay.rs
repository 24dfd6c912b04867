//! The body of an update: the service as found, with every field that we own set. Pure.
//!
//! # Guarantees
//!
//! - A field that already means what is wanted stays byte for byte, since the engine compares texts: another
//!   spelling of the same constraint would restart every task.
//! - What we do not own stays as found, known to us or not: options that no manifest sets (health check, restart and
//!   update policy, …), secrets, configs, other people's labels, aliases of networks that stay.
//! - An image that somebody pinned to a digest of the wanted tag stays pinned.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::convert::{self, Converted, NetworkNames};
use super::options;
use crate::model::fields::{ROWS, Row};
use crate::model::options::DEFAULT_PARALLELISM;
use crate::model::{ImageRef, Mark, ObservedService, OwnedField, ServiceSpec};

/// A service as found, ready to be changed.
pub struct Found {
    /// As we see it.
    pub service: ObservedService,
    /// Its `Spec` as the engine wrote it.
    spec: Map<String, Value>,
}

impl Found {
    /// Reads the answer of `GET /services/ID`.
    ///
    /// # Errors
    /// Why the service cannot be updated by us, as the end of a sentence.
    pub fn read(text: &[u8], networks: &NetworkNames) -> Result<Found, String> {
        let service = match convert::service(text, networks) {
            Converted::Service { service, .. } => std::sync::Arc::unwrap_or_clone(service),
            Converted::Unreadable { reason, .. } => return Err(reason),
        };
        if let Some(mode) = &service.foreign_mode {
            return Err(format!("it is of a kind that ofop does not manage: {mode}"));
        }
        let mut whole: Map<String, Value> =
            serde_json::from_slice(text).map_err(|_| "its description is not JSON".to_owned())?;
        let Some(Value::Object(spec)) = whole.remove("Spec") else { return Err("it has no description".into()) };
        Ok(Found { service, spec })
    }

    /// The body that makes the service what is wanted, and its containers' labels these. `body` is what would
    /// create it, mark included. Options that are not set in `wanted` stay as found.
    pub fn overlay(
        self,
        wanted: &ServiceSpec,
        container_labels: &BTreeMap<String, String>,
        body: &Map<String, Value>,
        networks: &NetworkNames,
    ) -> Value {
        let Found { service, mut spec } = self;
        let found = &service.spec;
        let new_image = !same_image(&found.image, &wanted.image);
        let is_owned = |row: &&Row| row.option.as_ref().is_none_or(|option| (option.is_set)(&wanted.options));
        for row in ROWS.iter().filter(is_owned).filter(|row| !(row.equal)(found, wanted)) {
            match place(row.field) {
                Place::At(path) if row.field == OwnedField::Image => {
                    if new_image {
                        put(&mut spec, path, at(body, path));
                        // Docker's own client writes here the platforms of the image that it pinned.
                        put(&mut spec, &["TaskTemplate", "Placement", "Platforms"], None);
                    }
                }
                Place::At(path) => put(&mut spec, path, at(body, path).filter(|value| !convert::is_empty(value))),
                Place::Option(path) => put(&mut spec, path, at(body, path)),
                Place::Replicas => {
                    put(&mut spec, &["Mode", "Replicated", "Replicas"], Some(&wanted.replicas.into()));
                }
                Place::Networks => {
                    let attachments = attachments(&spec, &wanted.networks, networks);
                    put(&mut spec, &["TaskTemplate", "Networks"], Some(&attachments));
                    // Where old clients kept them; the engine reads only one of the two.
                    put(&mut spec, &["Networks"], None);
                }
                Place::Labels => {}
            }
        }
        if spec.get("UpdateConfig").is_some_and(Value::is_object) && at(&spec, &options::PARALLELISM).is_none() {
            put(&mut spec, &options::PARALLELISM, Some(&DEFAULT_PARALLELISM.into()));
        }
        let none = Map::new();
        let ours = body.get("Labels").and_then(Value::as_object).unwrap_or(&none);
        labels(&mut spec, &["Labels"], ours, wanted);
        let ours = container_labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        labels(&mut spec, &["TaskTemplate", "ContainerSpec", "Labels"], &ours, wanted);
        Value::Object(spec)
    }
}

/// Where a field stands in the description of a service.
enum Place {
    /// There; empty is the same as absent.
    At(&'static [&'static str]),
    /// There; empty and absent differ.
    Option(&'static [&'static str]),
    /// The number of replicas: 0 is no absence.
    Replicas,
    /// Attachments, which hold more than the network's name.
    Networks,
    /// Among other people's labels.
    Labels,
}

fn place(field: OwnedField) -> Place {
    match field {
        OwnedField::Image => Place::At(&["TaskTemplate", "ContainerSpec", "Image"]),
        OwnedField::Command => Place::At(&["TaskTemplate", "ContainerSpec", "Command"]),
        OwnedField::Args => Place::At(&["TaskTemplate", "ContainerSpec", "Args"]),
        OwnedField::Environment => Place::At(&["TaskTemplate", "ContainerSpec", "Env"]),
        OwnedField::User => Place::At(&["TaskTemplate", "ContainerSpec", "User"]),
        OwnedField::Labels | OwnedField::ContainerLabels => Place::Labels,
        OwnedField::Mounts => Place::At(&["TaskTemplate", "ContainerSpec", "Mounts"]),
        OwnedField::Ulimits => Place::At(&["TaskTemplate", "ContainerSpec", "Ulimits"]),
        OwnedField::LimitsCpus => Place::At(&["TaskTemplate", "Resources", "Limits", "NanoCPUs"]),
        OwnedField::LimitsMemory => Place::At(&["TaskTemplate", "Resources", "Limits", "MemoryBytes"]),
        OwnedField::ReservationsCpus => Place::At(&["TaskTemplate", "Resources", "Reservations", "NanoCPUs"]),
        OwnedField::ReservationsMemory => Place::At(&["TaskTemplate", "Resources", "Reservations", "MemoryBytes"]),
        OwnedField::Constraints => Place::At(&["TaskTemplate", "Placement", "Constraints"]),
        OwnedField::Networks => Place::Networks,
        OwnedField::Replicas => Place::Replicas,
        OwnedField::Ports => Place::At(&["EndpointSpec", "Ports"]),
        OwnedField::UpdateOrder => Place::Option(&["UpdateConfig", "Order"]),
        OwnedField::UpdateFailureAction => Place::Option(&["UpdateConfig", "FailureAction"]),
        OwnedField::UpdateMonitor => Place::Option(&["UpdateConfig", "Monitor"]),
        OwnedField::UpdateParallelism => Place::Option(&options::PARALLELISM),
        OwnedField::UpdateDelay => Place::Option(&["UpdateConfig", "Delay"]),
        OwnedField::Healthcheck => Place::Option(&["TaskTemplate", "ContainerSpec", "Healthcheck"]),
        OwnedField::StopGracePeriod => Place::Option(&["TaskTemplate", "ContainerSpec", "StopGracePeriod"]),
        OwnedField::RestartCondition => Place::Option(&["TaskTemplate", "RestartPolicy", "Condition"]),
        OwnedField::RestartDelay => Place::Option(&["TaskTemplate", "RestartPolicy", "Delay"]),
        OwnedField::RestartMaxAttempts => Place::Option(&["TaskTemplate", "RestartPolicy", "MaxAttempts"]),
        OwnedField::RestartWindow => Place::Option(&["TaskTemplate", "RestartPolicy", "Window"]),
        OwnedField::Hostname => Place::Option(&["TaskTemplate", "ContainerSpec", "Hostname"]),
    }
}

/// Whether the image that runs is the wanted one. A digest that is not asked for does not count.
pub(super) fn same_image(found: &str, wanted: &str) -> bool {
    found == wanted || matches!(ImageRef::split_digest(found), (tag, Some(_)) if tag == wanted)
}

/// The attachments to the wanted networks; those that exist are kept with their aliases and options.
fn attachments(spec: &Map<String, Value>, wanted: &[String], networks: &NetworkNames) -> Value {
    let mut existing: Vec<&Value> = [&["TaskTemplate", "Networks"][..], &["Networks"][..]]
        .iter()
        .filter_map(|path| at(spec, path)?.as_array())
        .flatten()
        .collect();
    let attach = |name: &String| {
        let is_it = |attachment: &&Value| {
            let target = attachment.get("Target").and_then(Value::as_str);
            target.is_some_and(|target| target == name || networks.get(target) == Some(name))
        };
        match existing.iter().position(is_it) {
            Some(at) => existing.remove(at).clone(),
            None => serde_json::json!({ "Target": name }),
        }
    };
    wanted.iter().map(attach).collect()
}

/// Sets the labels at `path` and takes away other ones that are ours to set.
fn labels(spec: &mut Map<String, Value>, path: &[&str], ours: &Map<String, Value>, wanted: &ServiceSpec) {
    let found: BTreeSet<String> =
        at(spec, path).and_then(Value::as_object).map(|labels| labels.keys().cloned().collect()).unwrap_or_default();
    let owned = |key: &str| ServiceSpec::owns_label(&wanted.name, key) || Mark::owns_label(key);
    let stale = found.iter().filter(|key| owned(key) && !ours.contains_key(*key));
    for key in stale {
        put(spec, &[path, &[key.as_str()]].concat(), None);
    }
    for (key, value) in ours {
        put(spec, &[path, &[key.as_str()]].concat(), Some(value));
    }
}

/// The value at a path of keys.
fn at<'a>(fields: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(fields.get(*first)?, |value, key| value.get(key))
}

/// Sets the value at a path of keys, making objects on the way, or takes it away.
fn put(fields: &mut Map<String, Value>, path: &[&str], new: Option<&Value>) {
    match (path, new) {
        ([], _) => {}
        ([last], Some(new)) => {
            fields.insert((*last).to_owned(), new.clone());
        }
        ([last], None) => {
            fields.shift_remove(*last);
        }
        ([first, rest @ ..], new) => {
            if new.is_some() && !fields.get(*first).is_some_and(Value::is_object) {
                fields.insert((*first).to_owned(), Value::Object(Map::new()));
            }
            if let Some(Value::Object(inner)) = fields.get_mut(*first) {
                put(inner, rest, new);
            }
        }
    }
}
