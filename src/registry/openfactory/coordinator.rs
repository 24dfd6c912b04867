//! Coordinators serve devices that have no service of their own. They are told by commands; which one was told
//! what is noted as an attribute of the device, so that anybody can see it and a restart forgets nothing.
//!
//! # Flow
//!
//! ```text
//! our mark and the note "unsure" on the device ─► the command ─► the note "told", with the configuration
//! the note "unsure" ─► the command to let the device go ─► the note is cleared
//! ```
//!
//! Each arrow waits until the brokers have what stands before it. Wherever this is cut short, a coordinator that may
//! know a device, or may not, is noted on it under our mark, so that the device is told again, or taken back.
//!
//! A device stays with its coordinator for as long as that one is registered: two that serve one device would
//! double its data.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::tables::{MANAGED_COORDINATOR, Told};
use crate::model::record::{CoordinatorProtocol, DeviceCoordinator, RecordOwner};
use crate::model::{AssetUuid, Availability, FailureKind, Record, RecordId, RegistrySnapshot, StepFailure};
use crate::registry::messages::{self, Message, Stamp};

/// Messages that are sent one group after the other, each when the brokers have the one before it.
pub(super) type Stages = Vec<Vec<Message>>;

/// The coordinator to tell of a device: the one that was told before, while it is registered; else, of those that
/// are available, the first by uuid, so that every operator chooses the same.
pub(super) fn choose(
    snapshot: &RegistrySnapshot,
    device: &AssetUuid,
    protocol: CoordinatorProtocol,
) -> Result<AssetUuid, StepFailure> {
    match snapshot.coordinators.get(device).filter(|known| known.protocol == protocol) {
        Some(known) if is_registered(snapshot, known) => {
            if is_available(snapshot, &known.uuid) {
                Ok(known.uuid.clone())
            } else {
                Err(away(&known.uuid, device))
            }
        }
        Some(_) | None => available(snapshot, protocol).cloned().ok_or_else(|| none_available(protocol)),
    }
}

/// Everything that makes a device known to a coordinator. `before` is the one that is noted now: if that is another
/// one, it lets the device go first, even if it cannot be seen any more, since a query may miss a row.
pub(super) fn tell(
    record: &Record,
    owner: &RecordOwner,
    coordinator: &AssetUuid,
    before: Option<&DeviceCoordinator>,
    stamp: &Stamp,
) -> Stages {
    let Record::CoordinatorDevice { device, protocol, config } = record else { return Stages::new() };
    let chosen = DeviceCoordinator { uuid: coordinator.clone(), protocol: *protocol };
    let unsure = |coordinator: &DeviceCoordinator| {
        let mut messages = messages::mark(device, owner, Some(stamp));
        messages.push(note(device, Some((coordinator, None)), stamp));
        messages
    };
    let mut stages = Stages::new();
    if let Some(before) = before.filter(|before| **before != chosen) {
        stages.push(unsure(before));
        stages.push(let_go(device, before, stamp));
    }
    stages.push(unsure(&chosen));
    stages.push(messages::addressed(messages::register(record, None, Some(stamp)), coordinator));
    stages.push(vec![note(device, Some((&chosen, Some(config))), stamp)]);
    stages
}

/// Everything that takes a device from its coordinator.
///
/// # Errors
/// When the coordinator is registered and not available: it would not hear it.
pub(super) fn take_back(
    snapshot: &RegistrySnapshot,
    device: &AssetUuid,
    protocol: CoordinatorProtocol,
    stamp: &Stamp,
) -> Result<Stages, StepFailure> {
    let mut stages = Stages::new();
    match snapshot.coordinators.get(device) {
        Some(known) if is_registered(snapshot, known) && !is_available(snapshot, &known.uuid) => {
            return Err(away(&known.uuid, device));
        }
        // One that is not registered is told as well: a query may have missed its row.
        Some(known) => {
            stages.push(vec![note(device, Some((known, None)), stamp)]);
            stages.push(let_go(device, known, stamp));
        }
        None => match available(snapshot, protocol) {
            Some(uuid) => stages.push(let_go(device, &DeviceCoordinator { uuid: uuid.clone(), protocol }, stamp)),
            None if coordinators(snapshot, protocol).next().is_some() || !snapshot.complete => {
                return Err(none_available(protocol));
            }
            // Nobody is left who could know the device.
            None => {}
        },
    }
    stages.push(vec![note(device, None, stamp)]);
    Ok(stages)
}

fn let_go(device: &AssetUuid, coordinator: &DeviceCoordinator, stamp: &Stamp) -> Vec<Message> {
    let record =
        Record::CoordinatorDevice { device: device.clone(), protocol: coordinator.protocol, config: String::new() };
    messages::addressed(messages::deregister(&record, Some(stamp)), &coordinator.uuid)
}

fn available(snapshot: &RegistrySnapshot, protocol: CoordinatorProtocol) -> Option<&AssetUuid> {
    coordinators(snapshot, protocol).find(|uuid| is_available(snapshot, uuid))
}

fn is_available(snapshot: &RegistrySnapshot, uuid: &AssetUuid) -> bool {
    snapshot.availability.get(uuid) == Some(&Availability::Available)
}

fn is_registered(snapshot: &RegistrySnapshot, coordinator: &DeviceCoordinator) -> bool {
    snapshot
        .records
        .get(&RecordId::Asset(coordinator.uuid.clone()))
        .is_some_and(|found| serves(&found.record, coordinator.protocol))
}

fn coordinators(snapshot: &RegistrySnapshot, protocol: CoordinatorProtocol) -> impl Iterator<Item = &AssetUuid> {
    snapshot.records.iter().filter_map(move |(id, found)| match id {
        RecordId::Asset(uuid) if serves(&found.record, protocol) => Some(uuid),
        _ => None,
    })
}

fn serves(record: &Record, protocol: CoordinatorProtocol) -> bool {
    matches!(record, Record::Asset(asset) if asset.asset_type == protocol.coordinator_type())
}

fn none_available(protocol: CoordinatorProtocol) -> StepFailure {
    let kind = protocol.coordinator_type();
    StepFailure::new(FailureKind::Dependency, format!("no asset of type {kind} is available"))
}

fn away(coordinator: &AssetUuid, device: &AssetUuid) -> StepFailure {
    let message = format!("coordinator {coordinator}, which serves device {device}, is not available");
    StepFailure::new(FailureKind::Dependency, message)
}

/// The message that notes which coordinator was told what of a device; a coordinator without a configuration may
/// know the device or not.
fn note(device: &AssetUuid, told: Option<(&DeviceCoordinator, Option<&str>)>, stamp: &Stamp) -> Message {
    let value = match told {
        Some((coordinator, config)) => json!(Told {
            coordinator: coordinator.uuid.to_string(),
            protocol: coordinator.protocol.coordinator_type().to_owned(),
            device_config: config.map(str::to_owned),
        })
        .to_string(),
        None => String::new(),
    };
    messages::managed(device, MANAGED_COORDINATOR, value, Some(stamp))
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
    use std::sync::Arc;

    use super::super::tables;
    use super::*;
    use crate::model::record::AssetRecord;
    use crate::model::{InstanceName, ObservedRecord};

    fn uuid(text: &str) -> AssetUuid {
        AssetUuid::new(text).unwrap()
    }

    fn stamp() -> Stamp {
        Stamp { timestamp: "2026-01-02T03:04:05.678Z".into(), epoch_millis: 0, correlation_id: "c".into() }
    }

    fn owner() -> RecordOwner {
        RecordOwner {
            instance: InstanceName::new("plant").unwrap(),
            resource: "device/PLC-1".parse().unwrap(),
            kept: false,
        }
    }

    fn record() -> Record {
        Record::CoordinatorDevice {
            device: uuid("PLC-1"),
            protocol: CoordinatorProtocol::Opcua,
            config: r#"{"uuid":"PLC-1"}"#.into(),
        }
    }

    /// Coordinators with what they say of themselves; none says nothing.
    fn registry(coordinators: &[(&str, Option<Availability>)]) -> RegistrySnapshot {
        let mut snapshot = RegistrySnapshot { complete: true, ..RegistrySnapshot::default() };
        for (name, availability) in coordinators {
            let asset = AssetRecord {
                uuid: uuid(name),
                asset_type: "OPCUA.Coordinator".into(),
                docker_service: String::new(),
                references_above: Vec::new(),
                references_below: Vec::new(),
                uns: None,
                attributes: Vec::new(),
            };
            let found = ObservedRecord { record: Record::Asset(asset), owner: None };
            snapshot.records.insert(found.record.id(), Arc::new(found));
            if let Some(availability) = availability {
                snapshot.availability.insert(uuid(name), *availability);
            }
        }
        snapshot
    }

    fn noted(mut snapshot: RegistrySnapshot, coordinator: &str) -> RegistrySnapshot {
        let known = DeviceCoordinator { uuid: uuid(coordinator), protocol: CoordinatorProtocol::Opcua };
        snapshot.coordinators.insert(uuid("PLC-1"), known);
        snapshot
    }

    const UP: Option<Availability> = Some(Availability::Available);
    const DOWN: Option<Availability> = Some(Availability::Unavailable);

    fn json(message: &Message) -> serde_json::Value {
        serde_json::to_value(message.value.as_ref().unwrap()).unwrap()
    }

    /// Who is told what, in order.
    fn commands(stages: &[Vec<Message>]) -> Vec<(String, String)> {
        let is_command = |message: &&Message| json(message)["TAG"] == "Method.Command";
        stages
            .iter()
            .flatten()
            .filter(is_command)
            .map(|message| {
                let id = json(message)["ID"].as_str().unwrap().to_owned();
                (message.key.known().unwrap().to_string(), id)
            })
            .collect()
    }

    #[test]
    fn a_device_stays_with_its_coordinator_while_that_one_is_registered() {
        let chosen = |snapshot: RegistrySnapshot| {
            choose(&snapshot, &uuid("PLC-1"), CoordinatorProtocol::Opcua).map(|uuid| uuid.to_string())
        };
        assert_eq!(chosen(registry(&[("B", UP), ("A", DOWN), ("C", UP)])).unwrap(), "B");
        assert_eq!(chosen(noted(registry(&[("A", UP), ("B", UP)]), "B")).unwrap(), "B");
        assert_eq!(chosen(noted(registry(&[("A", UP)]), "B")).unwrap(), "A", "its own is gone");
        let failure = chosen(noted(registry(&[("A", UP), ("B", DOWN)]), "B")).unwrap_err();
        assert!(failure.kind == FailureKind::Dependency && failure.message.contains("coordinator B"), "{failure}");
        assert!(chosen(registry(&[("A", DOWN), ("B", None)])).is_err());
    }

    #[test]
    fn a_device_that_moves_leaves_its_former_coordinator_first() {
        let before = DeviceCoordinator { uuid: uuid("OLD"), protocol: CoordinatorProtocol::Shdr };
        let stages = tell(&record(), &owner(), &uuid("NEW"), Some(&before), &stamp());
        let told = [("OLD".into(), "deregister_device_CMD".into()), ("NEW".into(), "register_device_CMD".into())];
        assert_eq!(commands(&stages), told);
        assert_eq!(commands(&stages[..2]), told[..1], "before the new one is noted");
        let again = DeviceCoordinator { uuid: uuid("NEW"), protocol: CoordinatorProtocol::Opcua };
        assert_eq!(commands(&tell(&record(), &owner(), &uuid("NEW"), Some(&again), &stamp())), told[1..]);
    }

    #[test]
    fn the_coordinator_that_was_told_is_the_one_that_lets_the_device_go() {
        let told = |snapshot: RegistrySnapshot| {
            take_back(&snapshot, &uuid("PLC-1"), CoordinatorProtocol::Opcua, &stamp()).map(|stages| {
                assert_eq!(json(&stages.last().unwrap()[0])["VALUE"], "", "the note goes last");
                commands(&stages).into_iter().map(|(coordinator, _)| coordinator).collect::<Vec<_>>()
            })
        };
        assert_eq!(told(noted(registry(&[("A", UP), ("B", UP)]), "B")).unwrap(), ["B"]);
        assert_eq!(told(noted(registry(&[("A", UP)]), "B")).unwrap(), ["B"], "it may only be hidden");
        assert!(told(noted(registry(&[("A", UP), ("B", DOWN)]), "B")).is_err());
        assert_eq!(told(registry(&[("A", UP)])).unwrap(), ["A"]);
        assert!(told(registry(&[("A", DOWN)])).is_err());
        assert!(told(registry(&[])).unwrap().is_empty());
        let doubted = RegistrySnapshot { complete: false, ..registry(&[]) };
        assert!(told(doubted).is_err(), "absent from a reading that is doubted is not absent");
    }

    /// What can be read after the first `sent` messages, with the coordinators still registered.
    fn after(messages: &[Message], sent: usize) -> RegistrySnapshot {
        let attributes: Vec<_> =
            messages[..sent].iter().map(|message| (message.key.known().unwrap().as_str(), json(message))).collect();
        tables::tests::snapshot(&[("COORD", "OPCUA.Coordinator"), ("OLD", "SHDR.Coordinator")], &attributes)
    }

    fn has(messages: &[Message], sent: usize, key: &str, id: &str) -> bool {
        messages[..sent].iter().any(|message| message.key.known().unwrap().as_str() == key && json(message)["ID"] == id)
    }

    #[test]
    fn telling_that_is_cut_short_anywhere_leaves_a_trace() {
        let old = DeviceCoordinator { uuid: uuid("OLD"), protocol: CoordinatorProtocol::Shdr };
        for before in [None, Some(&old)] {
            let messages = tell(&record(), &owner(), &uuid("COORD"), before, &stamp()).concat();
            for sent in 0..=messages.len() {
                let snapshot = after(&messages, sent);
                let found = snapshot.records.get(&record().id());
                for coordinator in ["OLD", "COORD"] {
                    if has(&messages, sent, coordinator, "register_device_CMD") {
                        // whoever may know the device can be found under our mark
                        assert_eq!(found.unwrap().owner, Some(owner()), "after {sent} messages");
                        assert_eq!(snapshot.coordinators[&uuid("PLC-1")].uuid, uuid(coordinator));
                    }
                }
                let counts = found.is_some_and(|found| found.record == record());
                assert_eq!(counts, sent == messages.len(), "told in full or not at all, after {sent} messages");
            }
        }
    }

    #[test]
    fn taking_back_that_is_cut_short_anywhere_is_gone_on_with() {
        let told = tell(&record(), &owner(), &uuid("COORD"), None, &stamp()).concat();
        let known = after(&told, told.len());
        let availability = [(uuid("COORD"), Availability::Available)].into_iter().collect();
        let known = RegistrySnapshot { availability, ..known };
        let back = take_back(&known, &uuid("PLC-1"), CoordinatorProtocol::Opcua, &stamp()).unwrap().concat();
        let all = [told.clone(), back.clone()].concat();
        for sent in 0..=back.len() {
            let snapshot = after(&all, told.len() + sent);
            let found = snapshot.records.get(&record().id());
            assert_eq!(found.is_some(), sent < back.len(), "after {sent} messages");
            assert!(found.is_none_or(|found| found.owner == Some(owner())));
            if has(&back, sent, "COORD", "deregister_device_CMD") {
                // a manifest that comes back must have the device told again
                assert!(found.is_none_or(|found| found.record != record()), "after {sent} messages");
            }
        }
    }

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
