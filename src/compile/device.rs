//! Devices: the part that all connectors share, and the connectors that need no service of their own.

use super::app::{Parts, finish};
use super::file::{Context, Entry};
use super::mtconnect;
use crate::desired::manifest::{Connector, Device};
use crate::model::record::{AssetRecord, CoordinatorProtocol};
use crate::model::{Record, ResourceId};

/// Compiles a device; none after an error, which the context then holds.
pub(super) fn compile(device: &Device, context: &mut Context<'_>) -> Option<Entry> {
    let path = format!("devices.{}", device.name);
    let mut parts = Parts { handling: device.handling.clone(), ..Parts::default() };
    match &device.connector {
        Connector::Mtconnect(connector) => mtconnect::compile(device, connector, &path, context, &mut parts)?,
        Connector::Opcua => parts.records = coordinated(device, CoordinatorProtocol::Opcua),
        Connector::Shdr => parts.records = coordinated(device, CoordinatorProtocol::Shdr),
    }
    for (spec, _) in &mut parts.services {
        spec.options.clone_from(&device.options);
    }
    parts.records.push(Record::Connector { device: device.uuid.clone(), config: device.config.clone() });
    finish(ResourceId::device(device.uuid.clone()), parts, device.place, path, context)
}

/// A device that a coordinator app serves: the command that makes it known to one, then the asset.
fn coordinated(device: &Device, protocol: CoordinatorProtocol) -> Vec<Record> {
    let known =
        Record::CoordinatorDevice { device: device.uuid.clone(), protocol, config: device.config_with_nulls.clone() };
    vec![known, Record::Asset(asset(device, Vec::new()))]
}

/// The device's own asset. No service embodies it.
pub(super) fn asset(device: &Device, references_below: Vec<String>) -> AssetRecord {
    AssetRecord {
        uuid: device.uuid.clone(),
        asset_type: "Device".into(),
        docker_service: String::new(),
        references_above: Vec::new(),
        references_below,
        uns: device.uns.clone(),
        attributes: Vec::new(),
    }
}
