//! Which assets a service embodies, by the service's name, a replica's or a task's.

use std::collections::BTreeSet;

use crate::model::RecordId;
use crate::report::Status;
use crate::report::status::RecordStatus;

/// Leaves only the assets that a service embodies.
///
/// `cam` is a service, with the assets of all its replicas; `cam-2` is a container of plain Docker, or what OpenFactory
/// calls the second replica of a service; `cam.2` and `cam.2.x7k…` are how Swarm names a task and its container.
pub(super) fn keep(status: &mut Status, name: &str) {
    let kept = embodied(assets(status), name);
    let is_kept = |record: &RecordStatus| kept.contains(&record.record);
    for resource in &mut status.resources {
        resource.records.retain(is_kept);
    }
    status.other_assets.retain(is_kept);
}

fn assets(status: &Status) -> Vec<(RecordId, String)> {
    let of_resources = status.resources.iter().flat_map(|resource| &resource.records);
    of_resources
        .chain(&status.other_assets)
        .filter_map(|record| Some((record.record.clone(), record.docker_service.clone()?)))
        .filter(|(id, service)| matches!(id, RecordId::Asset(_)) && !service.is_empty())
        .collect()
}

fn embodied(assets: Vec<(RecordId, String)>, name: &str) -> BTreeSet<RecordId> {
    let of = |service: &str| -> Vec<RecordId> {
        let named = assets.iter().filter(|(_, of)| of.eq_ignore_ascii_case(service));
        named.map(|(id, _)| id.clone()).collect()
    };
    let whole = of(name);
    if !whole.is_empty() {
        return whole.into_iter().collect();
    }
    let Some((service, slot)) = replica(name) else { return BTreeSet::new() };
    let all = of(service);
    let single = all.len() == 1 && slot == "1";
    let is_replica = |id: &RecordId| id.asset().as_str().rsplit_once('-').is_some_and(|(_, number)| number == slot);
    all.into_iter().filter(|id| single || is_replica(id)).collect()
}

/// The service and the number in the name of a replica.
fn replica(name: &str) -> Option<(&str, &str)> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((service, rest)) = name.split_once('.') {
        let slot = rest.split('.').next().unwrap_or(rest);
        return is_number(slot).then_some((service, slot));
    }
    name.rsplit_once('-').filter(|(_, slot)| is_number(slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AssetUuid;

    #[test]
    fn assets_are_found_by_service_replica_and_task() {
        let asset = |uuid: &str, service: &str| (RecordId::Asset(AssetUuid::new(uuid).unwrap()), service.to_owned());
        let all = || {
            vec![
                asset("CAM-1", "cam"),
                asset("CAM-2", "cam"),
                asset("CAM-12", "cam"),
                asset("PRESS", "press"),
                asset("LINE-7", "line-7"),
                asset("M1-AGENT", "m1-agent"),
            ]
        };
        for (name, found) in [
            ("cam", vec!["CAM-1", "CAM-12", "CAM-2"]),
            ("CAM", vec!["CAM-1", "CAM-12", "CAM-2"]),
            ("cam-1", vec!["CAM-1"]),
            ("cam.2", vec!["CAM-2"]),
            ("cam.12.x7k2", vec!["CAM-12"]),
            ("press", vec!["PRESS"]),
            ("press.1.abc", vec!["PRESS"]),
            ("press.2", vec![]),
            ("line-7", vec!["LINE-7"]),
            ("m1-agent.1", vec!["M1-AGENT"]),
            ("ca", vec![]),
            ("cam-", vec![]),
            ("", vec![]),
        ] {
            let uuids: Vec<String> = embodied(all(), name).iter().map(|id| id.asset().to_string()).collect();
            assert_eq!(uuids, found, "{name}");
        }
    }
}
