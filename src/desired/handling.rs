//! `x-ofop:`, what a manifest says to the operator alone. OpenFactory's command line ignores top-level keys that
//! it does not know, so that it takes such a file as before.
//!
//! What is said of a resource goes before what is said of the whole file; fields to ignore add up, and a list of windows
//! replaces the file's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::Checker;
use super::checked::{Object, Typed, Value};
use super::device::service_tails;
use super::fields::{Kind, nearest};
use super::manifest::{After, App, Connector, Device, Manifest};
use super::options::{self, About, Services};
use super::parse::ParseContext;
use super::policy::{self, Rules};
use super::problems::Problems;
use super::rollout;
use super::shapes;
use super::windows;
use super::yaml::{Data, Node, Span, push_index, push_key};
use crate::model::fields::NoField;
use crate::model::{
    Field, Handling, IgnoredField, OwnedField, PlatformKind, ResourceId, ServiceName, ServiceOptions, Windows,
};

/// The key at the top of a manifest.
pub(super) const KEY: &str = "x-ofop";

/// The resources of a file, as far as they could be read.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) ids: Vec<String>,
    /// There are entries whose uuid cannot be read.
    pub(super) blind: bool,
}

impl Described {
    /// Takes note of an entry by its uuid, valid otherwise or not.
    pub(super) fn entry(&mut self, kind: crate::model::Kind, uuid: Option<&str>) {
        match uuid {
            Some(uuid) => self.ids.push(format!("{kind}/{uuid}")),
            None => self.blind = true,
        }
    }

    /// Takes note of entries that could not be read at all.
    pub(super) fn unreadable(&mut self) {
        self.blind = true;
    }
}

/// What is said in one place.
#[derive(Debug, Default)]
struct Said {
    suspend: Option<bool>,
    prune: Option<bool>,
    adopt: Option<bool>,
    ignore: Vec<IgnoredField>,
    windows: Windows,
    after: Vec<After>,
    options: ServiceOptions,
}

/// `x-ofop` as it is written.
pub(super) struct Section<'r> {
    pub(super) node: Node,
    /// Where its key stands.
    pub(super) at: Span,
    /// What the operator's policy says; none where there is none.
    pub(super) rules: Option<&'r Rules>,
}

/// Reads `x-ofop` and hands it to the resources of the file.
pub(super) fn read(
    section: Section<'_>,
    manifest: &mut Manifest,
    described: &Described,
    context: &ParseContext,
    problems: &mut Problems<'_>,
) {
    let Section { node, at, rules } = section;
    if node.data == Data::Null {
        return;
    }
    let value = Checker::new(problems, KEY).value(node, Kind::Object(&shapes::X_OFOP), at);
    let Typed::Object(object) = &value.typed else { return };
    let allowed = |object: &Object, path: &str, problems: &mut Problems<'_>| {
        if let Some(rules) = rules {
            policy::check_handling(rules, object, path, problems);
        }
    };
    allowed(object, KEY, problems);
    let services = services(manifest, context.platform);
    let all: Vec<&ServiceName> = services.values().flatten().collect();
    // With errors in other places the list may lack some, and what is missing there is no mistake here.
    let certain = problems.errors() == 0;
    let mut whole = said(object, KEY, certain.then_some(&all), context, problems);
    let about = |services: Services| About { platform: context.platform, services };
    whole.options = options::said(object, KEY, about(Services::File), problems);
    let rollout = rollout::read(object, KEY, described, problems).map(Arc::new);
    let mut single: BTreeMap<ResourceId, Said> = BTreeMap::new();
    for (name, value) in object.map("resources") {
        let Typed::Object(object) = &value.typed else { continue };
        let mut path = format!("{KEY}.resources");
        push_key(&mut path, &name.shown);
        allowed(object, &path, problems);
        let id = name.text.parse::<ResourceId>().ok().filter(|id| described.ids.contains(&id.to_string()));
        let Some(id) = id else {
            if !described.blind {
                let shown =
                    if name.shown == name.text { format!(" `{}`", name.text.escape_debug()) } else { String::new() };
                let message = format!("this file describes no resource{shown}");
                problems.error_hint(name.at, &path, message, which_resource(&name.text, &described.ids));
            }
            continue;
        };
        let own = services.get(&id);
        let known: Vec<&ServiceName> = own.into_iter().flatten().collect();
        let mut said = said(object, &path, own.map(|_| &known), context, problems);
        said.options = options::said(object, &path, about(Services::Resource(own.map(Vec::len))), problems);
        if own.is_some() && known.is_empty() && !said.ignore.is_empty() {
            let hint = "fields of services can be ignored; a coordinator serves this device";
            let at = object.at("ignore");
            problems.warn(
                at,
                &format!("{path}.ignore"),
                format!("has no effect: {id} has no service"),
                Some(hint.into()),
            );
        }
        single.insert(id, said);
    }
    let nothing = Said::default();
    let handling = |id: &ResourceId| {
        let handling = whole.with(single.get(id).unwrap_or(&nothing), id, services.get(id));
        Handling { rollout: rollout.clone(), ..handling }
    };
    let options = |id: &ResourceId| single.get(id).unwrap_or(&nothing).options.clone().over(&whole.options);
    for app in &mut manifest.apps {
        let id = ResourceId::app(app.uuid.clone());
        (app.handling, app.options) = (handling(&id), options(&id));
    }
    for device in &mut manifest.devices {
        let id = ResourceId::device(device.uuid.clone());
        (device.handling, device.options) = (handling(&id), options(&id));
    }
    manifest.after = whole.after.iter().chain(single.values().flat_map(|said| &said.after)).cloned().collect();
}

impl Said {
    /// What holds for a resource with these services.
    fn with(&self, own: &Said, id: &ResourceId, services: Option<&Vec<ServiceName>>) -> Handling {
        let concerns = |ignored: &&IgnoredField| match &ignored.service {
            Some(service) => services.is_some_and(|services| services.contains(service)),
            None => true,
        };
        let mut ignore: Vec<IgnoredField> = self.ignore.iter().filter(concerns).chain(&own.ignore).cloned().collect();
        ignore.sort();
        ignore.dedup();
        // What the file as a whole comes after may stand in it.
        let others = self.after.iter().filter(|after| after.first != *id);
        let mut after: Vec<ResourceId> = others.chain(&own.after).map(|after| after.first.clone()).collect();
        after.sort();
        after.dedup();
        Handling {
            suspend: own.suspend.or(self.suspend).unwrap_or(false),
            prune: own.prune.or(self.prune).unwrap_or(true),
            adopt: own.adopt.or(self.adopt).unwrap_or(false),
            ignore,
            windows: own.windows.over(&self.windows),
            after,
            rollout: None,
        }
    }
}

/// Names of the services of every resource that is valid.
fn services(manifest: &Manifest, platform: PlatformKind) -> BTreeMap<ResourceId, Vec<ServiceName>> {
    let named = |names: Vec<String>| names.iter().filter_map(|name| ServiceName::new(name).ok()).collect();
    let apps = manifest.apps.iter().map(|app| (ResourceId::app(app.uuid.clone()), named(of_app(app, platform))));
    let devices =
        manifest.devices.iter().map(|device| (ResourceId::device(device.uuid.clone()), named(of_device(device))));
    apps.chain(devices).collect()
}

fn of_app(app: &App, platform: PlatformKind) -> Vec<String> {
    match (platform, app.deploy.replicas) {
        (PlatformKind::Swarm, _) | (PlatformKind::Docker, 1) => vec![app.uuid.to_string()],
        (PlatformKind::Docker, replicas) => (1..=replicas).map(|replica| format!("{}-{replica}", app.uuid)).collect(),
    }
}

fn of_device(device: &Device) -> Vec<String> {
    match &device.connector {
        Connector::Mtconnect(mtconnect) => {
            service_tails(mtconnect).into_iter().map(|tail| format!("{}{tail}", device.uuid)).collect()
        }
        Connector::Opcua | Connector::Shdr => Vec::new(),
    }
}

/// Reads what is said in one place. `services` are those that may be named; none when that cannot be told.
fn said(
    object: &Object,
    path: &str,
    services: Option<&Vec<&ServiceName>>,
    context: &ParseContext,
    problems: &mut Problems<'_>,
) -> Said {
    let mut ignore = Vec::new();
    for (index, item) in object.list("ignore").iter().enumerate() {
        let Typed::Text(text) = &item.typed else { continue };
        let mut path = format!("{path}.ignore");
        push_index(&mut path, index);
        match text.parse::<IgnoredField>() {
            Ok(ignored) => {
                let unknown = |service: &&ServiceName| services.is_some_and(|services| !services.contains(service));
                if let Some(service) = ignored.service.as_ref().filter(unknown) {
                    no_service(item, &path, service, services.map(Vec::as_slice).unwrap_or_default(), problems);
                } else if context.platform == PlatformKind::Docker && ignored.field == Field::of(OwnedField::Replicas) {
                    let hint = "there each replica is a container of its own, and one that ended is started again";
                    problems.warn(item.at, &path, "has no effect on the docker platform", Some(hint.to_owned()));
                } else {
                    ignore.push(ignored);
                }
            }
            Err(error) => no_field(item, &path, text, &error, problems),
        }
    }
    Said {
        suspend: object.bool("suspend"),
        prune: object.bool("prune"),
        adopt: object.bool("adopt"),
        ignore,
        windows: windows::said(object, path, problems),
        after: rollout::after(object, path, problems),
        options: ServiceOptions::default(),
    }
}

fn no_service(item: &Value, path: &str, service: &ServiceName, known: &[&ServiceName], problems: &mut Problems<'_>) {
    let message = match item.hidden {
        true => "there is no such service here".to_owned(),
        false => format!("there is no service `{service}` here"),
    };
    let hint = match nearest(service.as_str(), known.iter().map(|name| name.as_str())) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "write the field alone".to_owned(),
        None => format!("there is {}", listed(known.iter().map(|name| name.as_str()))),
    };
    problems.error_hint(item.at, path, message, hint);
}

fn no_field(item: &Value, path: &str, text: &str, error: &NoField, problems: &mut Problems<'_>) {
    let (service, rest) = match text.split_once('/') {
        Some((service, rest)) if !service.contains(['.', '[']) => (Some(service), rest),
        Some(_) | None => (None, text),
    };
    let name = rest.split(['.', '[']).next().unwrap_or(rest);
    let message = match error {
        NoField::Unknown if item.hidden => "there is no such field".to_owned(),
        NoField::Unknown => format!("there is no field `{}`", name.escape_debug()),
        NoField::NothingBelow(_) | NoField::Below(_) => error.to_string(),
    };
    let hint = match (error, nearest(name, Field::names())) {
        (NoField::Unknown, Some(right)) if !item.hidden => {
            let before = service.map(|service| format!("{service}/")).unwrap_or_default();
            format!("did you mean `{before}{right}{}`?", &rest[name.len()..]).escape_debug().to_string()
        }
        (NoField::Unknown, _) => {
            format!("{}; as `ofop plan` writes them", listed(Field::names().into_iter()))
        }
        (NoField::NothingBelow(field), _) => format!("write `{field}`"),
        (NoField::Below(_), _) => "as `ofop plan` writes it".to_owned(),
    };
    problems.error_hint(item.at, path, message, hint);
}

pub(super) fn which_resource(wrong: &str, ids: &[String]) -> String {
    let uuid = wrong.split_once('/').map_or(wrong, |(_, uuid)| uuid);
    let same = ids.iter().find(|id| id.split_once('/').is_some_and(|(_, other)| other.eq_ignore_ascii_case(uuid)));
    match same.map(String::as_str).or_else(|| nearest(wrong, ids.iter().map(String::as_str))) {
        Some(id) => format!("did you mean `{id}`?"),
        None => "write `app/UUID` or `device/UUID` of an entry of this file".to_owned(),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
