//! Coordinators serve devices that have no service of their own. They are told by commands; what they were told
//! is remembered as an attribute of the device, so that anybody can see it and a restart forgets nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::tables::{MANAGED_COORDINATOR, Told};
use crate::model::record::CoordinatorProtocol;
use crate::model::{AssetUuid, Availability, Record, RecordId, RegistrySnapshot, Source};
use crate::registry::messages::{Key, Message, Stamp};

/// The coordinator to talk to: of several, the first by uuid, so that every operator chooses the same.
pub(super) fn available(snapshot: &RegistrySnapshot, protocol: CoordinatorProtocol) -> Option<&AssetUuid> {
    coordinators(snapshot, protocol).find(|uuid| snapshot.availability.get(*uuid) == Some(&Availability::Available))
}

/// Whether one exists, available or not.
pub(super) fn registered(snapshot: &RegistrySnapshot, protocol: CoordinatorProtocol) -> bool {
    coordinators(snapshot, protocol).next().is_some()
}

fn coordinators(snapshot: &RegistrySnapshot, protocol: CoordinatorProtocol) -> impl Iterator<Item = &AssetUuid> {
    snapshot.records.iter().filter_map(move |(id, found)| match (id, &found.record) {
        (RecordId::Asset(uuid), Record::Asset(asset)) if asset.asset_type == protocol.coordinator_type() => Some(uuid),
        _ => None,
    })
}

/// The message that notes what a coordinator was told of a device.
pub(super) fn remember(
    device: &AssetUuid,
    coordinator: &AssetUuid,
    protocol: CoordinatorProtocol,
    config: &str,
    stamp: &Stamp,
) -> Message {
    let told = Told {
        coordinator: coordinator.to_string(),
        protocol: protocol.coordinator_type().to_owned(),
        device_config: config.to_owned(),
    };
    note(device, &json!(told).to_string(), stamp)
}

/// The message that clears the note.
pub(super) fn forget(device: &AssetUuid, stamp: &Stamp) -> Message {
    note(device, "", stamp)
}

fn note(device: &AssetUuid, value: &str, stamp: &Stamp) -> Message {
    Message {
        source: Source::AssetsStream,
        key: Key::Asset(device.clone()),
        value: Some(json!({
            "ID": MANAGED_COORDINATOR,
            "VALUE": value,
            "TAG": "ManagedBy",
            "TYPE": "OpenFactory",
            "attributes": {"timestamp": stamp.timestamp},
        })),
    }
}

/// A fresh uuid (version 4 in form) for a command: nobody else uses the same object, time, process and count.
pub(super) fn correlation_id(object: &str, since_epoch: Duration) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hash = Sha256::new();
    hash.update(object.as_bytes());
    hash.update(since_epoch.as_nanos().to_le_bytes());
    hash.update(std::process::id().to_le_bytes());
    hash.update(COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_ids_are_fresh_and_have_the_form_of_a_uuid() {
        let one = correlation_id("PLC-1", Duration::from_secs(1));
        let other = correlation_id("PLC-1", Duration::from_secs(1));
        assert_ne!(one, other);
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&one[14..15], "4");
    }
}
