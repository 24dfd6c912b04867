//! What tests of several commands look at.

use serde_json::json;

use crate::model::InstanceName;
use crate::report::status::PartState;
use crate::report::{Report, Status};

/// The status of a daemon that reads everything, with these resources, all of them settled.
pub(super) fn status(ids: &[&str]) -> Status {
    let report = Report::new(InstanceName::new("test").unwrap());
    let mut status = Status::clone(&report.status());
    for part in [&mut status.source.part, &mut status.platform, &mut status.registry] {
        part.state = PartState::Up;
    }
    let resource = |id: &&str| {
        let (kind, uuid) = id.split_once('/').unwrap();
        serde_json::from_value(json!({
            "resource": id, "kind": kind, "uuid": uuid, "origin": null, "revision": null, "frozen": false,
            "sync": "Synced", "health": "Healthy", "verdict": { "state": "settled" }, "drift": [], "conditions": [],
            "pending_steps": 0, "services": [], "records": [],
        }))
        .unwrap()
    };
    status.resources = ids.iter().map(resource).collect();
    status
}
