//! What an entry of a manifest asks for, with the place of each thing.

use std::sync::Arc;

use super::Rules;
use super::judge::{Ask, Violation};
use crate::desired::checked::{Object, Typed, Value};
use crate::desired::deploy::{self, Replicas};
use crate::desired::manifest::Deploy;
use crate::desired::parse::ParseContext;
use crate::desired::problems::Problems;
use crate::desired::python::strip;
use crate::desired::storage::normal_path;
use crate::desired::yaml::{Span, push_index, push_key};
use crate::model::PlatformKind;
use crate::model::names::normal_name;

/// Reports what is not allowed.
struct Judge<'r, 'p, 't> {
    rules: &'r Rules,
    platform: PlatformKind,
    problems: &'p mut Problems<'t>,
}

/// Judges a manifest as a whole.
pub(in crate::desired) fn check_file(rules: Option<&Arc<Rules>>, platform: PlatformKind, problems: &mut Problems<'_>) {
    let Some(rules) = rules else {
        let hint = "move it into a folder that the policy names; the policy is the operator's to change";
        problems.error_hint(Span::default(), "", "lies in no folder that the policy allows manifests in", hint);
        return;
    };
    let mut judge = Judge { rules, platform, problems };
    judge.ask(&Ask::Platform(platform), Span::default(), "", false);
}

/// Judges a checked app.
pub(in crate::desired) fn check_app(
    rules: &Rules,
    object: &Object,
    path: &str,
    context: &ParseContext,
    problems: &mut Problems<'_>,
) {
    let platform = context.platform;
    let mut judge = Judge { rules, platform, problems };
    judge.text(object, "uuid", path, Ask::Uuid);
    judge.text(object, "image", path, Ask::Image);
    judge.texts(object, "networks", path, |name| Some(Ask::Network(name.to_owned())));
    judge.environment(object, path);
    for (name, value) in object.map("storage") {
        let Typed::Object(storage) = &value.typed else { continue };
        let mut path = format!("{path}.storage");
        push_key(&mut path, &name.shown);
        judge.storage(storage, &path, context);
    }
    if let Some(routing) = object.object("routing") {
        let path = format!("{path}.routing");
        judge.routing(routing, object, &path);
    }
    let given = object.object("deploy");
    let deploy = read_deploy(given, Replicas::Count);
    let path = format!("{path}.deploy");
    let at = given.map_or(object.at("deploy"), |given| given.at("replicas"));
    judge.ask(&Ask::Replicas(deploy.replicas), at, &format!("{path}.replicas"), false);
    judge.ask(&Ask::CpuLimit(deploy.limits.nano_cpus), object.at("deploy"), &limit(&path, "cpus"), false);
    // Plain Docker has no use for it, and so there is no limit to ask for.
    if platform == PlatformKind::Swarm || deploy.limits.memory_bytes.is_some() {
        judge.ask(&Ask::MemoryLimit(deploy.limits.memory_bytes), object.at("deploy"), &limit(&path, "memory"), false);
    }
    judge.deploy(given, &deploy, object.at("deploy"), &path);
}

/// Judges a checked device.
pub(in crate::desired) fn check_device(
    rules: &Rules,
    object: &Object,
    path: &str,
    platform: PlatformKind,
    problems: &mut Problems<'_>,
) {
    let mut judge = Judge { rules, platform, problems };
    judge.text(object, "uuid", path, Ask::Uuid);
    // The others have no service of their own.
    let connector = object.object("connector").filter(|connector| connector.shape.name == "mtconnect");
    let Some(agent) = connector.and_then(|connector| connector.object("agent")) else { return };
    let path = format!("{path}.connector.agent");
    let ours = agent.is_null("ip");
    if let Some(port) = agent.int("port").and_then(|port| u16::try_from(port).ok()).filter(|port| ours && *port != 0) {
        judge.ask(&Ask::Port(port), agent.at("port"), &format!("{path}.port"), agent.hidden("port"));
    }
    // The producer has the agent's limits but for memory, which it cannot be given.
    judge.part(agent, &path, ours);
    let adapter =
        agent.object("adapter").filter(|adapter| ours && adapter.text("image").is_some_and(|image| !image.is_empty()));
    if let Some(adapter) = adapter {
        let path = format!("{path}.adapter");
        judge.text(adapter, "image", &path, Ask::Image);
        judge.environment(adapter, &path);
        judge.part(adapter, &path, true);
    }
}

/// Judges what is given of `x-ofop`, for the file or a resource.
pub(in crate::desired) fn check_handling(rules: &Rules, object: &Object, path: &str, problems: &mut Problems<'_>) {
    for (field, value) in object.fields().filter(|(field, value)| field.name != "resources" && is_given(value)) {
        if let Err(violation) = rules.judge(&Ask::Handling(field.name.to_owned())) {
            report(violation, value.at, &format!("{path}.{}", field.name), false, problems);
        }
    }
}

fn is_given(value: &Value) -> bool {
    !matches!(value.typed, Typed::Null)
}

fn limit(path: &str, name: &str) -> String {
    format!("{path}.resources.limits.{name}")
}

/// Reads `deploy` once more; what is wrong in it is told where it is read the first time.
fn read_deploy(object: Option<&Object>, replicas: Replicas) -> Deploy {
    let mut told = Problems::new("".into(), "");
    object.map(|object| deploy::deploy(object, "", replicas, &mut told)).unwrap_or_default()
}

fn report(violation: Violation, at: Span, path: &str, hidden: bool, problems: &mut Problems<'_>) {
    let Violation { message, hint, asked } = violation;
    let message = match asked.filter(|_| !hidden) {
        Some(asked) => format!("{message}: `{}`", asked.escape_debug()),
        None => message,
    };
    problems.error_hint(at, path, message, hint);
}

impl Judge<'_, '_, '_> {
    fn ask(&mut self, ask: &Ask, at: Span, path: &str, hidden: bool) {
        if let Err(violation) = self.rules.judge(ask) {
            report(violation, at, path, hidden, self.problems);
        }
    }

    fn text(&mut self, object: &Object, field: &str, path: &str, ask: fn(String) -> Ask) {
        if let Some(text) = object.text(field).filter(|text| !text.is_empty()) {
            self.ask(&ask(text.to_owned()), object.at(field), &format!("{path}.{field}"), object.hidden(field));
        }
    }

    fn texts(&mut self, object: &Object, field: &str, path: &str, ask: impl Fn(&str) -> Option<Ask>) {
        for (index, item) in object.list(field).iter().enumerate() {
            let Typed::Text(text) = &item.typed else { continue };
            let mut path = format!("{path}.{field}");
            push_index(&mut path, index);
            if let Some(ask) = ask(text) {
                self.ask(&ask, item.at, &path, item.hidden);
            }
        }
    }

    fn environment(&mut self, object: &Object, path: &str) {
        self.texts(object, "environment", path, |text| Some(Ask::Variable(strip(text.split_once('=')?.0).to_owned())));
    }

    fn storage(&mut self, storage: &Object, path: &str, context: &ParseContext) {
        let place = |field: &str| (storage.at(field), format!("{path}.{field}"), storage.hidden(field));
        if let Some(text) = storage.text("mount_point") {
            let (at, path, hidden) = place("mount_point");
            self.ask(&Ask::MountPoint(normal_path(text)), at, &path, hidden);
        }
        if let Some(text) = storage.text("local_path") {
            let (at, path, hidden) = place("local_path");
            let written = normal_path(text);
            // The engine follows symlinks, too.
            let real = (context.real_directory)(&written).unwrap_or_else(|| written.clone());
            let allowed = |path: &String| self.rules.judge(&Ask::HostPath(path.clone())).is_ok();
            let asked = if allowed(&written) { real } else { written };
            self.ask(&Ask::HostPath(asked), at, &path, hidden);
        }
        if let (Some(server), Some(remote)) = (storage.text("server"), storage.text("remote_path")) {
            let (at, path, hidden) = place("server");
            let ask = Ask::Nfs { server: server.to_owned(), path: remote.to_owned() };
            self.ask(&ask, at, &path, hidden || storage.hidden("remote_path"));
        }
    }

    fn routing(&mut self, routing: &Object, app: &Object, path: &str) {
        if routing.bool("expose") != Some(true) {
            return;
        }
        if let Some(uuid) = app.text("uuid") {
            let hidden = routing.hidden("expose") || app.hidden("uuid");
            // Lower-cased first, as the name of the service is.
            let name = normal_name(&uuid.to_lowercase());
            self.ask(&Ask::Host(name), routing.at("expose"), &format!("{path}.expose"), hidden);
        }
        let alias = routing.text("hostname").map(normal_name).filter(|name| !name.is_empty());
        if let Some(name) = alias {
            let hidden = routing.hidden("hostname");
            self.ask(&Ask::Host(name), routing.at("hostname"), &format!("{path}.hostname"), hidden);
        }
    }

    /// An agent or an adapter. Where nothing is said of its CPUs it has OpenFactory's limit.
    fn part(&mut self, object: &Object, path: &str, has_memory: bool) {
        let given = object.object("deploy");
        let deploy = read_deploy(given, Replicas::Ignore);
        let (at, path) = (object.at("deploy"), format!("{path}.deploy"));
        if deploy.limits.nano_cpus.is_some() {
            self.ask(&Ask::CpuLimit(deploy.limits.nano_cpus), at, &limit(&path, "cpus"), false);
        }
        if deploy.limits.memory_bytes.is_some() || (has_memory && self.platform == PlatformKind::Swarm) {
            self.ask(&Ask::MemoryLimit(deploy.limits.memory_bytes), at, &limit(&path, "memory"), false);
        }
        self.deploy(given, &deploy, at, &path);
    }

    /// What apps, agents and adapters have in common.
    fn deploy(&mut self, given: Option<&Object>, deploy: &Deploy, at: Span, path: &str) {
        let reserved = format!("{path}.resources.reservations");
        if let Some(nano) = deploy.reservations.nano_cpus {
            self.ask(&Ask::CpuReservation(nano), at, &format!("{reserved}.cpus"), false);
        }
        if let Some(bytes) = deploy.reservations.memory_bytes {
            self.ask(&Ask::MemoryReservation(bytes), at, &format!("{reserved}.memory"), false);
        }
        if let Some(number) = deploy.open_files {
            self.ask(&Ask::OpenFiles(number), at, &limit(path, "open_files"), false);
        }
        let placement = given.and_then(|given| given.object("placement"));
        if let Some(placement) = placement {
            self.texts(placement, "constraints", &format!("{path}.placement"), |text| {
                let (key, operator, value) = deploy::normal_constraint(text)?;
                Some(Ask::Constraint(format!("{key} {operator} {value}")))
            });
        }
        // Plain Docker has no use for constraints.
        if self.platform == PlatformKind::Swarm {
            let path = format!("{path}.placement.constraints");
            self.ask(&Ask::Constraints(deploy.constraints.clone()), at, &path, false);
        }
    }
}
