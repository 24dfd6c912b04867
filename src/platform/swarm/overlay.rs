//! The body of an update: the service as found, with every field that we own set. Pure.
//!
//! # Guarantees
//!
//! - A field that already means what is wanted stays byte for byte, since the engine compares texts: another
//!   spelling of the same constraint would restart every task.
//! - What we do not own stays as found, known to us or not: health check, restart and update policy, secrets,
//!   configs, other people's labels, aliases of networks that stay.
//! - An image that somebody pinned to a digest of the wanted tag stays pinned.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::convert::{self, Converted, NetworkNames};
use crate::model::{ImageRef, Mark, ObservedService, ServiceSpec};

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
    /// create it, mark included.
    pub fn overlay(
        self,
        wanted: &ServiceSpec,
        container_labels: &BTreeMap<String, String>,
        body: &Map<String, Value>,
        networks: &NetworkNames,
    ) -> Value {
        let Found { service, mut spec } = self;
        let found = &service.spec;
        const CONTAINER: [&str; 2] = ["TaskTemplate", "ContainerSpec"];
        let mut set = |differs: bool, path: &[&str]| {
            if differs {
                put(&mut spec, path, at(body, path).filter(|value| !convert::is_empty(value)));
            }
        };
        let new_image = !same_image(&found.image, &wanted.image);
        set(new_image, &["TaskTemplate", "ContainerSpec", "Image"]);
        set(found.command != wanted.command, &[CONTAINER[0], CONTAINER[1], "Command"]);
        set(found.args != wanted.args, &[CONTAINER[0], CONTAINER[1], "Args"]);
        set(found.env != wanted.env, &[CONTAINER[0], CONTAINER[1], "Env"]);
        set(found.user != wanted.user, &[CONTAINER[0], CONTAINER[1], "User"]);
        set(found.mounts != wanted.mounts, &[CONTAINER[0], CONTAINER[1], "Mounts"]);
        set(found.ulimits != wanted.ulimits, &[CONTAINER[0], CONTAINER[1], "Ulimits"]);
        for (kind, found, wanted) in
            [("Limits", found.limits, wanted.limits), ("Reservations", found.reservations, wanted.reservations)]
        {
            set(found.nano_cpus != wanted.nano_cpus, &["TaskTemplate", "Resources", kind, "NanoCPUs"]);
            set(found.memory_bytes != wanted.memory_bytes, &["TaskTemplate", "Resources", kind, "MemoryBytes"]);
        }
        set(found.constraints != wanted.constraints, &["TaskTemplate", "Placement", "Constraints"]);
        set(found.ports != wanted.ports, &["EndpointSpec", "Ports"]);
        if new_image {
            // Docker's own client writes here the platforms of the image that it pinned.
            put(&mut spec, &["TaskTemplate", "Placement", "Platforms"], None);
        }
        if found.replicas != wanted.replicas {
            put(&mut spec, &["Mode", "Replicated", "Replicas"], Some(&wanted.replicas.into()));
        }
        if found.networks != wanted.networks {
            let attachments = attachments(&spec, &wanted.networks, networks);
            put(&mut spec, &["TaskTemplate", "Networks"], Some(&attachments));
            // Where old clients kept them; the engine reads only one of the two.
            put(&mut spec, &["Networks"], None);
        }
        let none = Map::new();
        let ours = body.get("Labels").and_then(Value::as_object).unwrap_or(&none);
        labels(&mut spec, &["Labels"], ours, wanted);
        let ours = container_labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        labels(&mut spec, &[CONTAINER[0], CONTAINER[1], "Labels"], &ours, wanted);
        Value::Object(spec)
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
