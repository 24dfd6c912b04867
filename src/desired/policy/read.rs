//! From the text of a policy file to a [`Policy`], or to everything that is wrong in it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::pattern::Pattern;
use super::shapes::{POLICY, RULES};
use super::{Images, Maximum, Policy, Rules, Share};
use crate::desired::check::{Checker, report};
use crate::desired::checked::{Object, Typed, Value, empty};
use crate::desired::deploy::{memory, nano_cpus, normal_constraint};
use crate::desired::fields::{Kind, nearest};
use crate::desired::problems::Problems;
use crate::desired::shapes::X_OFOP;
use crate::desired::yaml::{self, Data, Node, Span, push_index, push_key};
use crate::model::{PlatformKind, Problem, Severity};

/// What a policy looks like.
const EXAMPLE: &str =
    "write `folders:` and below it, indented, a folder with its rules, such as `press: {uuids: [\"PRESS-*\"]}`";

impl Policy {
    /// Reads a policy file. Variables are not put in.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn parse(path: &Arc<str>, text: &str) -> Result<Policy, Vec<Problem>> {
        let mut problems = Problems::new(path.clone(), text);
        let policy = match yaml::read(text) {
            Ok(Some(node @ Node { data: Data::Map(_), .. })) => read(node, &mut problems),
            Ok(Some(node)) => {
                problems.error_hint(node.at, "", "must be a map with `folders`", EXAMPLE);
                None
            }
            Ok(None) => {
                problems.error_hint(Span::default(), "", "the policy is empty, and would allow nothing", EXAMPLE);
                None
            }
            Err(errors) => {
                report(errors, Severity::Error, &mut problems);
                None
            }
        };
        match policy {
            Some(policy) if problems.errors() == 0 => Ok(policy),
            Some(_) | None => Err(problems.finish()),
        }
    }
}

fn read(node: Node, problems: &mut Problems<'_>) -> Option<Policy> {
    let at = node.at;
    let value = Checker::new(problems, "").value(node, Kind::Object(&POLICY), at);
    let Typed::Object(object) = &value.typed else { return None };
    if object.is_null("folders") {
        problems.error_hint(at, "", "`folders` is missing, so that no manifest would be allowed", EXAMPLE);
    }
    let none = empty(&RULES, at);
    let defaults = rules(".", object.object("defaults").unwrap_or(&none), "defaults", problems);
    let mut folders = BTreeMap::new();
    for (name, value) in object.map("folders") {
        let Typed::Object(own) = &value.typed else { continue };
        let mut path = "folders".to_owned();
        push_key(&mut path, &name.shown);
        let Some(folder) = normal_folder(&name.text) else {
            let hint =
                "write a folder below the root of the source, such as `press` or `press/line-2`; `.` is the root";
            problems.error_hint(name.at, &path, "is no folder below the root of the source", hint);
            continue;
        };
        let shown = if folder.is_empty() { "." } else { &folder };
        let rules = inherit(rules(shown, own, &path, problems), own, &defaults);
        if folders.insert(folder, Arc::new(rules)).is_some() {
            problems.error_hint(name.at, &path, "the folder is there already", "remove one of the two");
        }
    }
    Some(Policy { folders })
}

/// A folder without `.` and doubled slashes; none for one that leads elsewhere.
fn normal_folder(text: &str) -> Option<String> {
    if text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return None;
    }
    Some(text.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/"))
}

/// What is given in one place.
fn rules(folder: &str, object: &Object, path: &str, problems: &mut Problems<'_>) -> Rules {
    let list = |name: &str| {
        let mut path = path.to_owned();
        push_key(&mut path, name);
        texts(object.list(name), &path)
    };
    let part = |name: &str| Some((object.object(name)?, format!("{path}.{name}")));
    let constraints = |name: &str| match part("constraints") {
        Some((object, path)) => texts(object.list(name), &format!("{path}.{name}")),
        None => Vec::new(),
    };
    Rules {
        folder: folder.to_owned(),
        uuids: lower(patterns(&list("uuids"), problems)),
        images: part("images").map(|(object, path)| images(object, &path, problems)).unwrap_or_default(),
        networks: patterns(&list("networks"), problems),
        nfs: list("nfs").iter().filter_map(|item| share(item, problems)).collect(),
        host_paths: paths(&list("host_paths"), problems),
        mount_points: paths(&list("mount_points"), problems),
        constraints: constraints("allow").iter().filter_map(|item| constraint_pattern(item, problems)).collect(),
        required_constraints: constraints("require")
            .iter()
            .filter_map(|item| required_constraint(item, problems))
            .collect(),
        hosts: patterns(&list("hosts"), problems),
        ports: list("ports").iter().filter_map(|item| port(item, problems)).collect(),
        environment: patterns(&list("environment"), problems),
        maximum: part("maximum").map(|(object, path)| maximum(object, &path, problems)).unwrap_or_default(),
        platforms: (!object.is_null("platforms")).then(|| platforms(object)),
        x_ofop: list("x-ofop").iter().filter_map(|item| setting(item, problems)).collect(),
    }
}

/// The rules of a folder, with those of the defaults for each field that it has none for.
fn inherit(own: Rules, object: &Object, defaults: &Rules) -> Rules {
    fn choose<T: Clone>(given: bool, own: T, default: &T) -> T {
        if given { own } else { default.clone() }
    }
    let given = |name: &str| !object.is_null(name);
    Rules {
        folder: own.folder,
        uuids: choose(given("uuids"), own.uuids, &defaults.uuids),
        images: choose(given("images"), own.images, &defaults.images),
        networks: choose(given("networks"), own.networks, &defaults.networks),
        nfs: choose(given("nfs"), own.nfs, &defaults.nfs),
        host_paths: choose(given("host_paths"), own.host_paths, &defaults.host_paths),
        mount_points: choose(given("mount_points"), own.mount_points, &defaults.mount_points),
        constraints: choose(given("constraints"), own.constraints, &defaults.constraints),
        required_constraints: choose(given("constraints"), own.required_constraints, &defaults.required_constraints),
        hosts: choose(given("hosts"), own.hosts, &defaults.hosts),
        ports: choose(given("ports"), own.ports, &defaults.ports),
        environment: choose(given("environment"), own.environment, &defaults.environment),
        maximum: choose(given("maximum"), own.maximum, &defaults.maximum),
        platforms: choose(given("platforms"), own.platforms, &defaults.platforms),
        x_ofop: choose(given("x-ofop"), own.x_ofop, &defaults.x_ofop),
    }
}

/// A text in a list, with its place.
struct Item {
    text: String,
    at: Span,
    path: String,
}

fn texts(list: &[Value], path: &str) -> Vec<Item> {
    let item = |(index, value): (usize, &Value)| {
        let Typed::Text(text) = &value.typed else { return None };
        let mut path = path.to_owned();
        push_index(&mut path, index);
        Some(Item { text: text.clone(), at: value.at, path })
    };
    list.iter().enumerate().filter_map(item).collect()
}

fn patterns(items: &[Item], problems: &mut Problems<'_>) -> Vec<Pattern> {
    items.iter().filter_map(|item| found(Pattern::parse(&item.text), item, problems)).collect()
}

/// Uuids are compared in lower case: it is what their services are called.
fn lower(patterns: Vec<Pattern>) -> Vec<Pattern> {
    patterns.iter().filter_map(|pattern| Pattern::parse(&pattern.as_str().to_lowercase())).collect()
}

fn found<T>(pattern: Option<T>, item: &Item, problems: &mut Problems<'_>) -> Option<T> {
    if pattern.is_none() {
        let hint = "write a name in which `*` stands for any characters, without blanks";
        problems.error_hint(item.at, &item.path, "is no pattern", hint);
    }
    pattern
}

fn paths(items: &[Item], problems: &mut Problems<'_>) -> Vec<Pattern> {
    items.iter().filter_map(|item| absolute(&item.text, item, problems)).collect()
}

fn absolute(text: &str, item: &Item, problems: &mut Problems<'_>) -> Option<Pattern> {
    let is_plain = text.starts_with('/') && !text.split('/').any(|part| part == ".." || part == ".");
    let pattern = Pattern::path(text).filter(|_| is_plain && !text.contains("//"));
    if pattern.is_none() {
        let hint =
            "write an absolute path without `..`, such as `/srv/press`: it stands for what lies below it as well";
        problems.error_hint(item.at, &item.path, "is no absolute path", hint);
    }
    pattern
}

fn share(item: &Item, problems: &mut Problems<'_>) -> Option<Share> {
    let Some((server, path)) = item.text.split_once(":/") else {
        let hint = "write the server and a path of it, such as `nas.plant.example:/exports/press`";
        problems.error_hint(item.at, &item.path, "names no path of an NFS server", hint);
        return None;
    };
    let path = absolute(&format!("/{path}"), item, problems)?;
    Some(Share { server: found(Pattern::parse(&server.to_ascii_lowercase()), item, problems)?, path })
}

fn constraint_pattern(item: &Item, problems: &mut Problems<'_>) -> Option<Pattern> {
    match normal_constraint(&item.text) {
        Some((key, operator, value)) => Pattern::words(&format!("{key} {operator} {value}")),
        None if item.text == "*" => Pattern::parse("**"),
        None => {
            no_constraint(item, problems);
            None
        }
    }
}

fn required_constraint(item: &Item, problems: &mut Problems<'_>) -> Option<String> {
    let normal = normal_constraint(&item.text).filter(|_| !item.text.contains('*'));
    if normal.is_none() {
        no_constraint(item, problems);
    }
    normal.map(|(key, operator, value)| format!("{key} {operator} {value}"))
}

fn no_constraint(item: &Item, problems: &mut Problems<'_>) {
    let hint = "write `node.role == worker`; in `allow` also with `*`, such as `node.labels.line == *`";
    problems.error_hint(item.at, &item.path, "is not a placement constraint", hint);
}

fn port(item: &Item, problems: &mut Problems<'_>) -> Option<RangeInclusive<u16>> {
    let (first, last) = item.text.split_once('-').unwrap_or((&item.text, &item.text));
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(first..=last),
        _ => {
            let hint = "write a port or a range in quotes, such as `\"5000\"` or `\"7000-7099\"`";
            problems.error_hint(item.at, &item.path, "is no port from 1 to 65535 and no range of them", hint);
            None
        }
    }
}

fn setting(item: &Item, problems: &mut Problems<'_>) -> Option<String> {
    let names = || X_OFOP.fields.iter().map(|field| field.name).filter(|name| *name != "resources");
    if names().any(|name| name == item.text) {
        return Some(item.text.clone());
    }
    let hint = match nearest(&item.text, names()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("it has {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    problems.error_hint(item.at, &item.path, "is no setting of `x-ofop`", hint);
    None
}

fn images(object: &Object, path: &str, problems: &mut Problems<'_>) -> Images {
    let allow = texts(object.list("allow"), &format!("{path}.allow"));
    for item in &allow {
        // The port of a registry stands before the first slash.
        let name = item.text.split_once('/').map_or(item.text.as_str(), |(_, name)| name);
        if name.contains([':', '@']) {
            let hint = "leave tag and digest out: `digest` and `forbid_tags` are about them";
            problems.error_hint(item.at, &item.path, "names a tag or a digest", hint);
        } else if !item.text.contains('/') && item.text != "**" {
            let hint = "begin it with the registry, such as `ghcr.io/plant/*`; Docker's own is `docker.io/library/*`";
            problems.error_hint(item.at, &item.path, "names no registry", hint);
        }
    }
    let tags = texts(object.list("forbid_tags"), &format!("{path}.forbid_tags"));
    Images {
        allow: patterns(&allow, problems),
        digest_required: object.text("digest") == Some("required"),
        forbidden_tags: patterns(&tags, problems),
    }
}

fn maximum(object: &Object, path: &str, problems: &mut Problems<'_>) -> Maximum {
    let mut wrong = |name: &str, message: &str, hint: &str| {
        problems.error_hint(object.at(name), &format!("{path}.{name}"), message, hint);
    };
    let count = |name: &str| object.int(name).filter(|number| *number >= 0);
    for name in ["replicas", "open_files"] {
        if object.int(name).is_some() && count(name).is_none() {
            wrong(name, "must be at least 0", "write how many there may be at most");
        }
    }
    let cpus = object.float("cpus").map(|cpus| nano_cpus(cpus).filter(|nano| *nano > 0));
    if cpus == Some(None) {
        wrong("cpus", "must be more than 0 and at most 1000000", "write a number of CPUs, such as `cpus: 2`");
    }
    let bytes = object.text("memory").map(|text| memory(text).filter(|bytes| *bytes > 0));
    if bytes == Some(None) {
        wrong("memory", "is not an amount of memory", "write a number and a unit, such as `2Gi`");
    }
    Maximum {
        replicas: count("replicas").and_then(|number| u64::try_from(number).ok()),
        nano_cpus: cpus.flatten(),
        memory_bytes: bytes.flatten(),
        open_files: count("open_files"),
    }
}

fn platforms(object: &Object) -> Vec<PlatformKind> {
    let kind = |value: &Value| match &value.typed {
        Typed::Text(text) if text == "swarm" => Some(PlatformKind::Swarm),
        Typed::Text(text) if text == "docker" => Some(PlatformKind::Docker),
        _ => None,
    };
    object.list("platforms").iter().filter_map(kind).collect()
}
