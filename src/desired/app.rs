//! `apps:`.

use super::checked::{Name, Object, Typed, Value};
use super::deploy::{self, Replicas};
use super::manifest::{App, Metrics, Place, PullPolicy, Routing};
use super::namespace::{Given, Namespace};
use super::parse::{Names, ParseContext};
use super::problems::Problems;
use super::python::strip;
use super::storage;
use super::yaml::{Entry, Span, push_index};
use crate::model::names::normal_name;
use crate::model::record::Uns;
use crate::model::service::EnvVar;
use crate::model::{AssetUuid, Handling, ImageRef, InvalidImage, PlatformKind, ServiceName, ServiceOptions};

/// The longest label of a host name (RFC 1035).
const MAX_LABEL: usize = 63;

/// Reads a checked app. None when it is wrong; problems say why.
pub(super) fn app(
    name: &Name,
    object: &Object,
    path: &str,
    context: &ParseContext,
    names: &mut Names,
    problems: &mut Problems<'_>,
) -> Option<App> {
    let deploy = match object.object("deploy") {
        Some(object) => deploy::deploy(object, &format!("{path}.deploy"), Replicas::Count, problems),
        None => super::manifest::Deploy::default(),
    };
    let uuid = uuid(object, path, problems);
    if let Some(uuid) = &uuid {
        claim(uuid, object, path, deploy.replicas, context, names, problems);
    }
    let image = image(object, "image", path, context.platform, problems);
    let environment = environment(object, path, problems);
    let routing = routing(object, path, &environment, problems);
    let networks = networks(object, path, context.platform, problems);
    let storage =
        (!object.is_null("storage")).then(|| storage::storage(object.map("storage"), path, context, problems));
    let uns = uuid.as_ref().and_then(|uuid| place(uuid, object, path, context, problems));
    Some(App {
        name: name.text.clone(),
        place: Place { line: name.at.line, column: name.at.column },
        uuid: uuid?,
        image: image?,
        pull: if object.text("image_pull_policy") == Some("always") { PullPolicy::Always } else { PullPolicy::Missing },
        user: user(object, path, name.at, problems),
        uns,
        environment,
        storage,
        routing,
        metrics: object.object("metrics").and_then(metrics),
        networks,
        deploy,
        handling: Handling::default(),
        options: ServiceOptions::default(),
    })
}

/// `uuid`, as far as it can be one at all.
pub(super) fn uuid(object: &Object, path: &str, problems: &mut Problems<'_>) -> Option<AssetUuid> {
    match AssetUuid::new(object.text("uuid")?) {
        Ok(uuid) => Some(uuid),
        Err(error) => {
            let hint = "give it a name that nothing else has, such as `PRESS-7`";
            problems.error_hint(object.at("uuid"), &format!("{path}.uuid"), error.reason, hint);
            None
        }
    }
}

/// A reference to an image, as the engine takes it. A single engine also knows images by their ids.
pub(super) fn image(
    object: &Object,
    field: &str,
    path: &str,
    platform: PlatformKind,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let text = object.text(field)?;
    match (ImageRef::parse(text), platform) {
        (Ok(_), _) | (Err(InvalidImage::Id), PlatformKind::Docker) => Some(text.to_owned()),
        (Err(error), PlatformKind::Swarm | PlatformKind::Docker) => {
            let hint = "name an image with its tag, such as `ghcr.io/plant/press:1.2`";
            problems.error_hint(object.at(field), &format!("{path}.{field}"), error.to_string(), hint);
            None
        }
    }
}

/// Takes the names of an app's services and assets.
fn claim(
    uuid: &AssetUuid,
    object: &Object,
    path: &str,
    replicas: u64,
    context: &ParseContext,
    names: &mut Names,
    problems: &mut Problems<'_>,
) {
    let at = object.at("uuid");
    let path = format!("{path}.uuid");
    let hidden = object.hidden("uuid");
    if !names.replicas(replicas) {
        let message = format!("the apps of this file have more than {} replicas", deploy::MAX_REPLICAS);
        problems.error_hint(at, &path, message, "split the file, or is `replicas` a slip of the finger?");
        return;
    }
    match context.platform {
        PlatformKind::Docker if replicas > 1 => {
            // The last replica has the longest name.
            if service_name(&format!("{uuid}-{replicas}"), at, &path, hidden, problems).is_none() {
                return;
            }
            for replica in 1..=replicas {
                names.service(&format!("{uuid}-{replica}").to_lowercase(), at, &path, problems);
            }
        }
        PlatformKind::Swarm | PlatformKind::Docker => {
            if let Some(name) = service_name(uuid.as_str(), at, &path, hidden, problems) {
                names.service(name.as_str(), at, &path, problems);
            }
        }
    }
    names.asset(uuid.as_str(), at, &path, problems);
    if replicas > 1 {
        for replica in 1..=replicas {
            names.asset(&format!("{uuid}-{replica}"), at, &path, problems);
        }
    }
}

/// Checks the name of a service that a uuid leads to.
pub(super) fn service_name(
    text: &str,
    at: Span,
    path: &str,
    hidden: bool,
    problems: &mut Problems<'_>,
) -> Option<ServiceName> {
    match ServiceName::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            let message = if hidden {
                "makes no name for a service".to_owned()
            } else {
                format!("makes no name for a service: {}", error.reason)
            };
            let hint = "use letters and digits with `-` or `_` between them, at most 63";
            problems.error_hint(at, path, message, hint);
            None
        }
    }
}

/// `environment`: `NAME=value`, split at the first `=`, trimmed.
pub(super) fn environment(object: &Object, path: &str, problems: &mut Problems<'_>) -> Vec<EnvVar> {
    let mut all: Vec<EnvVar> = Vec::new();
    for (index, item) in object.list("environment").iter().enumerate() {
        let Typed::Text(text) = &item.typed else { continue };
        let mut path = format!("{path}.environment");
        push_index(&mut path, index);
        let Some((name, value)) = text.split_once('=').map(|(name, value)| (strip(name), strip(value))) else {
            problems.error_hint(item.at, &path, "has no `=`", "write `NAME=value`, or `NAME=` for an empty value");
            continue;
        };
        // Both are taken as OpenFactory takes them: what they mean is the engine's and the program's business.
        if name.is_empty() {
            let hint = "Swarm takes such a variable and then starts no task with it";
            problems.warn(item.at, &path, "has no name before the `=`", Some(hint.to_owned()));
        } else if all.iter().any(|other| other.name == name) {
            let hint = "which of the two counts depends on the program; remove one";
            problems.warn(item.at, &path, "a variable is set twice", Some(hint.to_owned()));
        }
        all.push(EnvVar::new(name, value));
    }
    all
}

fn user(object: &Object, path: &str, at: Span, problems: &mut Problems<'_>) -> Option<(u64, u64)> {
    let (uid, gid) = (object.int("runtime_uid"), object.int("runtime_gid"));
    if object.is_null("runtime_uid") != object.is_null("runtime_gid") {
        let (given, missing) =
            if uid.is_some() { ("runtime_uid", "runtime_gid") } else { ("runtime_gid", "runtime_uid") };
        let at = if object.is_null(given) { at } else { object.at(given) };
        let hint = "give both, or neither";
        problems.error_hint(at, path, format!("`{given}` needs `{missing}` beside it"), hint);
    }
    Some((u64::try_from(uid?).ok()?, u64::try_from(gid?).ok()?))
}

fn routing(object: &Object, path: &str, environment: &[EnvVar], problems: &mut Problems<'_>) -> Option<Routing> {
    let routing = object.object("routing")?;
    let path = format!("{path}.routing");
    let at = object.at("routing");
    let expose = routing.bool("expose").unwrap_or_default();
    if expose && routing.is_null("port") {
        problems.error_hint(at, &path, "is exposed without a port", "add `port`, the port in the container");
    }
    if environment.iter().any(|variable| variable.name == "PORT") {
        problems.error_hint(
            at,
            &path,
            "sets `PORT`, and `environment` sets it too",
            "remove `PORT` from `environment`",
        );
    }
    for field in ["canonical_hostname", "alias_hostname"] {
        if routing.text(field).is_some() {
            let hint = "both are worked out; `hostname` is yours to choose";
            problems.warn(routing.at(field), &format!("{path}.{field}"), "has no effect", Some(hint.to_owned()));
        }
    }
    let hostname = routing.text("hostname").filter(|name| !name.is_empty());
    if expose && let Some(hostname) = hostname {
        let normal = normal_name(hostname);
        let problem = if normal.is_empty() {
            Some("holds no letter or digit that a host name may have".to_owned())
        } else if normal.len() > MAX_LABEL {
            Some(format!("has {} characters as a host name; at most {MAX_LABEL} are allowed", normal.len()))
        } else {
            None
        };
        if let Some(problem) = problem {
            let hint = "use letters and digits with `-` between them, such as `press`";
            problems.error_hint(routing.at("hostname"), &format!("{path}.hostname"), problem, hint);
        }
    }
    Some(Routing { expose, port: port(routing, "port"), hostname: hostname.map(str::to_owned) })
}

/// A port whose range has been checked.
pub(super) fn port(object: &Object, field: &str) -> Option<u16> {
    u16::try_from(object.int(field)?).ok()
}

fn metrics(object: &Object) -> Option<Metrics> {
    Some(Metrics { port: port(object, "port")?, path: object.text("path")?.to_owned() })
}

/// The network through which Swarm publishes ports; no service may join it (swarmkit, `validateNetworks`).
const INGRESS: &str = "ingress";

fn networks(object: &Object, path: &str, platform: PlatformKind, problems: &mut Problems<'_>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (index, item) in object.list("networks").iter().enumerate() {
        let Typed::Text(name) = &item.typed else { continue };
        let mut path = format!("{path}.networks");
        push_index(&mut path, index);
        if strip(name).is_empty() {
            problems.error_hint(item.at, &path, "the name of a network is empty", "name a network, or remove the item");
        } else if name == INGRESS && platform == PlatformKind::Swarm {
            let hint = "Swarm publishes ports through it by itself: remove the item, or make a network of your own with \
                        `docker network create --driver overlay NAME`";
            problems.error_hint(item.at, &path, "no service can join the ingress network", hint);
        } else if all.contains(name) {
            problems.warn(item.at, &path, "the network is named twice", Some("remove one".into()));
        } else {
            all.push(name.clone());
        }
    }
    all
}

/// The place of a resource in the namespace.
pub(super) fn place(
    uuid: &AssetUuid,
    object: &Object,
    path: &str,
    context: &ParseContext,
    problems: &mut Problems<'_>,
) -> Option<Uns> {
    let entries: &[Entry] = match object.get("uns") {
        Some(Value { typed: Typed::Raw(entries), .. }) => entries,
        Some(Value { typed: Typed::Invalid, .. }) => return None,
        _ => &[],
    };
    let given = Given { entries, at: object.at("uns"), base: format!("{path}.uns") };
    match &context.namespace {
        Namespace::None if entries.is_empty() => None,
        Namespace::None => {
            let hint = "set OPENFACTORY_UNS_SCHEMA to the file that describes the namespace, or remove `uns`";
            problems.error_hint(given.at, &given.base, "no namespace is configured", hint);
            None
        }
        Namespace::Invalid => {
            let hint = "repair the file that OPENFACTORY_UNS_SCHEMA names";
            problems.error_hint(given.at, &given.base, "the namespace schema cannot be read or is wrong", hint);
            None
        }
        Namespace::Schema(schema) => schema.place(uuid.as_str(), &given, problems),
    }
}
