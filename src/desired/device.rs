//! `devices:`.

use super::app::{environment, image, place, port, service_name, uuid};
use super::checked::{Name, Object, Value};
use super::deploy::{self, Replicas};
use super::dump::{self, Nulls};
use super::manifest::{Adapter, AdapterAt, Agent, Connector, Deploy, Device, Mtconnect, Place};
use super::opcua;
use super::parse::{Names, ParseContext};
use super::problems::Problems;
use crate::model::{AssetUuid, Handling, PlatformKind, ServiceOptions};

/// Reads a checked device. None when it is wrong; problems say why.
pub(super) fn device(
    name: &Name,
    object: &Object,
    path: &str,
    context: &ParseContext,
    names: &mut Names,
    problems: &mut Problems<'_>,
) -> Option<Device> {
    let mut object = object.clone();
    let uuid = uuid(&object, path, problems);
    let at = object.at("uuid");
    let hidden = object.hidden("uuid");
    let uuid_path = format!("{path}.uuid");
    if let Some(uuid) = &uuid {
        names.asset(uuid.as_str(), at, &uuid_path, problems);
    }
    let uns = uuid.as_ref().and_then(|uuid| place(uuid, &object, path, context, problems));
    let path = format!("{path}.connector");
    let connector = match connector_of(&mut object) {
        Some(connector) if connector.shape.name == "mtconnect" => {
            let mtconnect = mtconnect(connector, &path, context.platform, problems);
            if let (Some(uuid), Some(mtconnect)) = (&uuid, &mtconnect) {
                for tail in service_tails(mtconnect) {
                    if let Some(name) = service_name(&format!("{uuid}{tail}"), at, &uuid_path, hidden, problems) {
                        names.service(name.as_str(), at, &uuid_path, problems);
                    }
                }
                claim_assets(uuid, &uuid_path, at, names, problems);
            }
            mtconnect.map(|mtconnect| Connector::Mtconnect(Box::new(mtconnect)))
        }
        Some(connector) if connector.shape.name == "opcua" => {
            opcua::normalise(connector, &path, problems);
            Some(Connector::Opcua)
        }
        Some(_) => Some(Connector::Shdr),
        None => None,
    };
    Some(Device {
        name: name.text.clone(),
        place: Place { line: name.at.line, column: name.at.column },
        uuid: uuid?,
        connector: connector?,
        config_with_nulls: dump::compact(&object, uns.as_ref(), Nulls::Keep),
        config: dump::compact(&object, uns.as_ref(), Nulls::LeaveOut),
        uns,
        handling: Handling::default(),
        options: ServiceOptions::default(),
    })
}

fn connector_of(device: &mut Object) -> Option<&mut Object> {
    device.get_mut("connector").and_then(Value::as_object_mut)
}

/// What the names of a device's services end in.
pub(super) fn service_tails(mtconnect: &Mtconnect) -> Vec<&'static str> {
    let mut tails = Vec::new();
    if let Agent::Ours { adapter, .. } = &mtconnect.agent {
        if matches!(adapter.at, AdapterAt::Image(_)) {
            tails.push("-adapter");
        }
        tails.push("-agent");
    }
    tails.push("-producer");
    tails
}

fn claim_assets(uuid: &AssetUuid, path: &str, at: super::yaml::Span, names: &mut Names, problems: &mut Problems<'_>) {
    for tail in ["-AGENT", "-PRODUCER"] {
        names.asset(&format!("{}{tail}", uuid.as_str().to_uppercase()), at, path, problems);
    }
}

fn mtconnect(
    connector: &mut Object,
    path: &str,
    platform: PlatformKind,
    problems: &mut Problems<'_>,
) -> Option<Mtconnect> {
    let at = connector.at("agent");
    let agent = connector.get_mut("agent").and_then(Value::as_object_mut)?;
    let path = format!("{path}.agent");
    let deploy = deploy_of(agent, &path, problems);
    let port = port(agent, "port");
    let external = !agent.is_null("ip");
    let who = if external {
        for field in ["adapter", "device_xml"] {
            if !agent.is_null(field) && agent.text(field) != Some("") {
                let hint = format!("remove `{field}`, or remove `ip` to run an agent of ours");
                problems.error_hint(agent.at(field), &path, format!("an external agent has no `{field}`"), hint);
            }
        }
        if agent.text("ip").is_some_and(|ip| ip.trim().is_empty()) {
            let hint = "write the agent's address, or remove `ip` to run an agent of ours";
            problems.error_hint(agent.at("ip"), &format!("{path}.ip"), "is empty", hint);
        }
        if port == Some(0) {
            problems.error(agent.at("port"), &format!("{path}.port"), "must be at least 1 for an external agent");
        }
        agent.text("ip").map(|ip| Agent::External { ip: ip.to_owned() })
    } else {
        for field in ["device_xml", "adapter"] {
            if agent.is_null(field) {
                let hint = "an agent of ours needs `device_xml` and `adapter`; an external one needs `ip`";
                problems.error_hint(at, &path, format!("`{field}` is missing"), hint);
            }
        }
        if agent.text("device_xml").is_some_and(|xml| xml.trim().is_empty()) {
            let hint = "name the device model, such as `models/cnc-1.xml`";
            problems.error_hint(agent.at("device_xml"), &format!("{path}.device_xml"), "is empty", hint);
        }
        let place = agent.at("device_xml");
        let device_xml = agent.text("device_xml").map(str::to_owned);
        let adapter_at = agent.at("adapter");
        let adapter = agent.get_mut("adapter").and_then(Value::as_object_mut);
        let adapter =
            adapter.and_then(|object| adapter_of(object, adapter_at, &format!("{path}.adapter"), platform, problems));
        match (device_xml, adapter) {
            (Some(device_xml), Some(adapter)) => Some(Agent::Ours {
                device_xml,
                device_xml_place: Place { line: place.line, column: place.column },
                adapter,
            }),
            _ => None,
        }
    };
    Some(Mtconnect { agent: who?, port: port?, deploy })
}

fn adapter_of(
    object: &mut Object,
    at: super::yaml::Span,
    path: &str,
    platform: PlatformKind,
    problems: &mut Problems<'_>,
) -> Option<Adapter> {
    let deploy = deploy_of(object, path, problems);
    let environment = environment(object, path, problems);
    let given = |field: &str| object.text(field).filter(|text| !text.is_empty());
    let place = match (given("ip"), given("image")) {
        (Some(_), Some(_)) => {
            let hint = "`ip` is for an adapter elsewhere, `image` for one of ours";
            problems.error_hint(object.at("image"), path, "has both `ip` and `image`", hint);
            None
        }
        (Some(ip), None) => Some(AdapterAt::Ip(ip.to_owned())),
        (None, Some(_)) => image(object, "image", path, platform, problems).map(AdapterAt::Image),
        (None, None) => {
            let hint = "`ip` is for an adapter elsewhere, `image` for one of ours";
            problems.error_hint(at, path, "needs `ip` or `image`", hint);
            None
        }
    };
    Some(Adapter { at: place?, port: port(object, "port")?, environment, deploy })
}

/// `deploy` as far as it is given. OpenFactory's model fills it in, and so it appears in dumps.
fn deploy_of(object: &mut Object, path: &str, problems: &mut Problems<'_>) -> Option<Deploy> {
    let deploy = object.object("deploy").map(|given| {
        let path = format!("{path}.deploy");
        if given.int("replicas").is_some_and(|replicas| replicas != 1) {
            let at = given.at("replicas");
            problems.warn(
                at,
                &format!("{path}.replicas"),
                "has no effect: it always runs once",
                Some("remove it".into()),
            );
        }
        deploy::deploy(given, &path, Replicas::Ignore, problems)
    });
    let at = object.at("deploy");
    if let Some(value) = object.get_mut("deploy") {
        value.fill_in_deploy(at);
    }
    deploy
}
