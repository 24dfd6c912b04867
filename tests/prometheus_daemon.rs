//! The whole of it: a real Swarm, the real daemon, a real Prometheus with the shipped alerts.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/prometheus.rs"]
mod prometheus;

use std::path::Path;

use engine::{IDLE, TestEngine};
use operator::Operator;
use prometheus::{AlertState, Prometheus};

/// Somebody edits a service of a resource that a person told the operator to leave alone: the drift persists, and
/// somebody must be told. When the resource is taken care of again, the alert goes.
#[tokio::test(flavor = "multi_thread")]
async fn drift_that_persists_raises_an_alert_that_goes_with_it() {
    let engine = TestEngine::swarm();
    let mut ofop = Operator::new(&engine.host());
    let manifest = format!("apps:\n  press:\n    uuid: PRESS-7\n    image: {IDLE}\n    networks: [factory-net]\n");
    ofop.write("press.yml", &manifest);
    ofop.start();
    ofop.settles("app/PRESS-7");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/ofop.rules.yml");
    let prometheus = Prometheus::start(ofop.address().unwrap().parse().unwrap(), &rules).await;
    prometheus.sees_target_up().await;
    assert_eq!(prometheus.alert("OfopDriftPersists").await, AlertState::Inactive);

    assert_eq!(ofop.run(&["suspend", "app/PRESS-7"]).code, Some(0));
    ofop.wait("the resource is suspended", || ofop.resource("app/PRESS-7")["health"] == "Suspended");
    let service = ofop.resource("app/PRESS-7")["services"][0]["id"].as_str().unwrap().to_owned();
    engine.edit_service(&service, |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["Env"] = serde_json::json!(["EDITED=by-hand"]);
    });
    ofop.wait("the drift is seen", || ofop.resource("app/PRESS-7")["drift"][0]["type"] == "modified");
    prometheus.waits_for("OfopDriftPersists", AlertState::Pending).await;

    assert_eq!(ofop.run(&["resume", "app/PRESS-7"]).code, Some(0));
    ofop.settles("app/PRESS-7");
    prometheus.waits_for("OfopDriftPersists", AlertState::Inactive).await;
    assert!(!ofop.log().contains("by-hand"), "an environment value reached the log:\n{}", ofop.log());
    assert_eq!(ofop.metric("ofop_platform_up"), Some(1.0));
    prometheus.stop().await;
}
