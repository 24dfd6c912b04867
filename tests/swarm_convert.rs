//! What the engine says about services, tasks and networks, in our words.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ofop::model::fields::ROWS;
use ofop::model::options::{Healthcheck, Probe, RestartCondition, UpdateOrder};
use ofop::model::service::{
    EnvVar, LABEL_INSTANCE, LABEL_RESOURCE, LABEL_SELF, LABEL_SPEC, Mount, Port, Resources, Ulimit,
};
use ofop::model::{
    FailureAction, ObservedService, OwnedField, ServiceId, ServiceName, ServiceOptions, ServiceSpec, TaskState,
    UpdateState,
};
use ofop::platform::swarm::body;
use ofop::platform::swarm::convert::{self, Converted, NetworkNames};
use ofop::platform::swarm::overlay::Found;
use serde_json::{Value, json};

fn networks() -> NetworkNames {
    [("netid1".to_owned(), "factory-net".to_owned())].into()
}

fn read(service: &Value) -> ObservedService {
    match convert::service(service.to_string().as_bytes(), &networks()) {
        Converted::Service { service, .. } => Arc::unwrap_or_clone(service),
        Converted::Unreadable { name, reason } => panic!("{name}: {reason}"),
    }
}

fn minimal() -> Value {
    json!({
        "ID": "agy2sgdl0avh2yzk4i1te2iul",
        "Version": {"Index": 14},
        "CreatedAt": "2026-11-22T12:38:34.056131741Z",
        "Spec": {
            "Name": "press_7",
            "Labels": {},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "press:1", "Init": false, "DNSConfig": {}, "Isolation": "default"},
                "Resources": {"Limits": {}, "Reservations": {}},
                "Placement": {},
                "ForceUpdate": 0,
                "Runtime": "container"
            },
            "Mode": {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "vip"}
        },
        "Endpoint": {"Spec": {"Mode": "vip"}}
    })
}

#[test]
fn what_the_engine_fills_in_is_not_seen() {
    let plain = read(&minimal());
    let mut padded = minimal();
    padded["Spec"]["Labels"] = Value::Null;
    padded["UpdateStatus"] = Value::Null;
    padded["Spec"]["TaskTemplate"]["Networks"] = Value::Null;
    padded["Spec"]["TaskTemplate"]["RestartPolicy"] = json!({"Condition": "any", "Delay": 5_000_000_000u64});
    padded["Spec"]["UpdateConfig"] = json!({"Parallelism": 1, "FailureAction": "pause"});
    let container = &mut padded["Spec"]["TaskTemplate"]["ContainerSpec"];
    container["Command"] = Value::Null;
    container["Args"] = json!([]);
    container["Env"] = Value::Null;
    container["Mounts"] = Value::Null;
    container["User"] = json!("");
    container["StopGracePeriod"] = json!(10_000_000_000u64);
    padded["Spec"]["EndpointSpec"]["Ports"] = Value::Null;
    assert_eq!(read(&padded), plain);
    assert_eq!(plain.id, ServiceId("agy2sgdl0avh2yzk4i1te2iul".into()));
    assert_eq!((plain.version, plain.spec.replicas, plain.update), (14, 1, UpdateState::None));
}

#[test]
fn every_owned_field_is_read_in_normal_form() {
    let mut raw = minimal();
    let spec = &mut raw["Spec"];
    spec["Labels"] = json!({
        "traefik.enable": "true", "team": "blue", LABEL_INSTANCE: "plant", LABEL_RESOURCE: "app/PRESS_7", LABEL_SPEC: "h"
    });
    spec["TaskTemplate"]["ContainerSpec"] = json!({
        "Image": "press:1@sha256:abc", "Command": ["run"], "Args": ["-v"], "Env": ["A=1", "B=x=y", "C"],
        "User": "10:20", "Labels": {"traefik.enable": "true", "other": "x"},
        "Mounts": [
            {"Type": "volume", "Source": "nfs_a", "Target": "/a", "VolumeOptions": {"Labels": null, "DriverConfig": {
                "Name": "local", "Options": {"type": "nfs", "o": "addr=h"}}}},
            {"Type": "bind", "Source": "/h", "Target": "/c", "ReadOnly": true, "BindOptions": {"Propagation": "rprivate"}}
        ],
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}]
    });
    spec["TaskTemplate"]["Resources"] =
        json!({"Limits": {"NanoCPUs": 5, "MemoryBytes": 0, "Pids": 9}, "Reservations": {"MemoryBytes": 7}});
    spec["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.role==worker", " node.labels.z  !=  a "]});
    spec["TaskTemplate"]["Networks"] = json!([{"Target": "netid1", "Aliases": ["p"]}, {"Target": "netid2"}]);
    spec["Mode"] = json!({"Replicated": {"Replicas": 3}});
    spec["EndpointSpec"] = json!({"Mode": "vip", "Ports": [
        {"Protocol": "udp", "TargetPort": 1, "PublishedPort": 2, "PublishMode": "host"},
        {"TargetPort": 5000, "PublishedPort": 80}
    ]});
    let service = read(&raw);
    let spec = &service.spec;
    assert_eq!((spec.image.as_str(), spec.user.as_deref()), ("press:1@sha256:abc", Some("10:20")));
    assert_eq!((spec.command.as_slice(), spec.args.as_slice()), (&["run".to_owned()][..], &["-v".to_owned()][..]));
    let env: Vec<String> = spec.env.iter().map(ofop::model::service::EnvVar::joined).collect();
    assert_eq!(env, ["A=1", "B=x=y", "C="]);
    assert_eq!(spec.labels, BTreeMap::from([("traefik.enable".to_owned(), "true".to_owned())]));
    assert_eq!(service.container_labels, spec.labels);
    assert_eq!(
        spec.mounts,
        [
            Mount::Volume {
                source: "nfs_a".into(),
                target: "/a".into(),
                driver: "local".into(),
                options: [("type".to_owned(), "nfs".to_owned()), ("o".to_owned(), "addr=h".to_owned())].into(),
                read_only: false
            },
            Mount::Bind { source: "/h".into(), target: "/c".into(), read_only: true }
        ]
    );
    assert_eq!(spec.ulimits, [Ulimit { name: "nofile".into(), soft: 10, hard: 20 }]);
    assert_eq!(spec.limits, Resources { nano_cpus: Some(5), memory_bytes: None });
    assert_eq!(spec.reservations, Resources { nano_cpus: None, memory_bytes: Some(7) });
    assert_eq!(spec.constraints, ["node.role == worker", "node.labels.z != a"]);
    assert_eq!(spec.networks, ["factory-net", "netid2"]);
    assert_eq!(spec.replicas, 3);
    let udp = Port { protocol: "udp".into(), target: 1, published: 2, mode: "host".into() };
    assert_eq!(spec.ports, [Port::tcp(80, 5000), udp]);
    let mark = service.mark.unwrap();
    assert_eq!((mark.instance.as_str(), mark.spec.0.as_str()), ("plant", "h"));
}

#[test]
fn a_service_in_which_an_operator_runs_carries_no_mark_whatever_its_labels_say() {
    let mut raw = minimal();
    raw["Spec"]["Labels"] = json!({LABEL_INSTANCE: "plant", LABEL_RESOURCE: "app/PRESS_7", LABEL_SELF: ""});
    let service = read(&raw);
    assert!(service.runs_operator && service.mark.is_none());
}

#[test]
fn mounts_that_cannot_be_expressed_differ_from_every_wanted_one() {
    for odd in [
        json!({"Type": "tmpfs", "Target": "/t"}),
        json!({"Type": "volume", "Source": "v", "Target": "/t", "VolumeOptions": {"NoCopy": true}}),
        json!({"Type": "volume", "Source": "v", "Target": "/t", "VolumeOptions": {"Subpath": "x"}}),
        json!({"Type": "bind", "Source": "/v", "Target": "/t", "BindOptions": {"Propagation": "rshared"}}),
        json!({"Type": "bind", "Source": "/v", "Target": "/t", "NewOption": 1}),
        json!(7),
    ] {
        let mut raw = minimal();
        raw["Spec"]["TaskTemplate"]["ContainerSpec"]["Mounts"] = json!([odd]);
        let mounts = read(&raw).spec.mounts.clone();
        assert!(matches!(mounts.as_slice(), [Mount::Other { .. }]), "{odd}: {mounts:?}");
    }
}

#[test]
fn modes_that_are_not_ours_are_foreign() {
    for (mode, word) in [
        (json!({"Global": {}}), "global mode"),
        (json!({"ReplicatedJob": {"MaxConcurrent": 1}}), "replicated job mode"),
        (json!({"GlobalJob": {}}), "global job mode"),
        (json!({"Later": {}}), "unknown mode"),
        (Value::Null, "unknown mode"),
    ] {
        let mut raw = minimal();
        raw["Spec"]["Mode"] = mode;
        assert_eq!(read(&raw).foreign_mode.as_deref(), Some(word));
    }
    let mut plugin = minimal();
    plugin["Spec"]["TaskTemplate"] = json!({"Runtime": "plugin", "PluginSpec": {"Name": "x"}});
    assert_eq!(read(&plugin).foreign_mode.as_deref(), Some("runtime plugin"));
}

#[test]
fn what_the_engine_says_of_an_update_is_kept() {
    let mut raw = minimal();
    raw["UpdateStatus"] = json!({"State": "rollback_completed", "Message": "rollback completed"});
    assert_eq!(read(&raw).update, UpdateState::RollbackCompleted("rollback completed".into()));
    raw["UpdateStatus"] = json!({"State": "a new word"});
    assert_eq!(read(&raw).update, UpdateState::None);
}

#[test]
fn a_service_of_an_unknown_shape_is_unreadable_by_name_and_quotes_nothing() {
    let mut raw = minimal();
    raw["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"] = json!({"TOKEN": "s3cret"});
    for (text, name) in [
        (raw.to_string(), "press_7"),
        (json!({"ID": "x", "Spec": {"Name": "Old.Name"}}).to_string(), "old.name"),
        (json!({"ID": "y", "Spec": []}).to_string(), ""),
        ("not json".into(), ""),
    ] {
        match convert::service(text.as_bytes(), &networks()) {
            Converted::Unreadable { name: found, reason } => {
                assert_eq!(found, name, "{text}");
                assert!(!reason.contains("s3cret"), "{reason}");
            }
            Converted::Service { .. } => panic!("{text}"),
        }
    }
}

#[test]
fn tasks_are_read_and_unknown_words_stay_unknown() {
    let text = json!({
        "ID": "t1", "Version": {"Index": 21}, "ServiceID": "s1", "Slot": 2, "NodeID": "n1",
        "Status": {"Timestamp": "2026-01-01T00:00:00Z", "State": "rejected", "Err": "no such image"},
        "DesiredState": "shutdown"
    });
    let listed = convert::task(text.to_string().as_bytes()).unwrap();
    assert_eq!(listed.service, ServiceId("s1".into()));
    let task = listed.view;
    assert_eq!((task.slot, task.state, task.wanted), (2, TaskState::Rejected, false));
    assert_eq!((task.error.as_str(), task.node.as_str()), ("no such image", "n1"));
    let odd = json!({"ID": "t2", "ServiceID": "s1", "Status": {"State": "dreaming"}, "DesiredState": "running"});
    let task = convert::task(odd.to_string().as_bytes()).unwrap().view;
    assert_eq!((task.state, task.wanted), (TaskState::Unknown, true));
    assert!(convert::task(b"[]").is_none());
}

#[test]
fn texts_of_the_engine_lose_the_values_of_the_spec_that_they_speak_of() {
    let env = json!(["DOCKER_SERVICE=press_7", "OPENFACTORY_LOG_BACKEND=text", "TOKEN=s3cret-value", "PIN=42"]);
    let said = "cannot start press_7 with s3cret-value and PIN=42: context deadline exceeded";
    let shown = "cannot start press_7 with <hidden> and PIN=<hidden>: context deadline exceeded";
    let task = json!({
        "ID": "t1", "ServiceID": "s1", "Status": {"State": "failed", "Err": said}, "DesiredState": "shutdown",
        "Spec": {"ContainerSpec": {"Image": "i", "Env": env}}
    });
    assert_eq!(convert::task(task.to_string().as_bytes()).unwrap().view.error, shown);
    let mut service = minimal();
    service["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"] = env;
    service["UpdateStatus"] = json!({"State": "paused", "Message": said});
    assert_eq!(read(&service).update, UpdateState::Paused(shown.into()));
}

#[test]
fn only_networks_of_the_swarm_can_be_attached_to() {
    let attachable = |network: Value| convert::network(network.to_string().as_bytes()).unwrap().attachable;
    assert!(attachable(json!({"Name": "factory-net", "Id": "a", "Scope": "swarm"})));
    assert!(attachable(json!({"Name": "host", "Id": "a", "Scope": "local"})));
    assert!(!attachable(json!({"Name": "ingress", "Id": "a", "Scope": "swarm", "Ingress": true})));
    assert!(!attachable(json!({"Name": "docker_gwbridge", "Id": "a", "Scope": "local"})));
}

#[test]
fn a_quorum_needs_a_leader_and_most_managers() {
    let holds = |nodes: &[(&str, bool)]| {
        let mut quorum = convert::Quorum::default();
        for (reachability, leader) in nodes {
            let node = json!({"ID": "n", "ManagerStatus": {"Reachability": reachability, "Leader": leader}});
            assert!(quorum.count(node.to_string().as_bytes()));
        }
        assert!(quorum.count(br#"{"ID":"worker"}"#));
        quorum.holds()
    };
    assert!(holds(&[("reachable", true)]));
    assert!(holds(&[("reachable", true), ("unreachable", false), ("reachable", false)]));
    assert!(!holds(&[("reachable", true), ("unreachable", false), ("unreachable", false)]));
    assert!(!holds(&[("reachable", false), ("reachable", false), ("reachable", false)]));
}

/// A service with another value than usual in one field.
fn varied(field: OwnedField, second: bool) -> ServiceSpec {
    let mut spec = ServiceSpec::new(ServiceName::new("press_7").unwrap(), "press:1");
    let two = u64::from(second);
    let time = Duration::from_secs(20 + two);
    let text = if second { "b" } else { "a" };
    let (update, restart) = (&mut spec.options.update, &mut spec.options.restart);
    match field {
        OwnedField::Image => spec.image = format!("press:{text}"),
        OwnedField::Command => spec.command = vec![text.into()],
        OwnedField::Args => spec.args = vec![text.into(), String::new()],
        OwnedField::Environment => spec.env = vec![EnvVar::new("A", text)],
        OwnedField::User => spec.user = Some(format!("{two}:1")),
        OwnedField::Labels | OwnedField::ContainerLabels => {
            spec.labels.insert("traefik.enable".into(), text.into());
        }
        OwnedField::Mounts => {
            spec.mounts = vec![Mount::Bind { source: "/s".into(), target: "/t".into(), read_only: second }];
        }
        OwnedField::Ulimits => {
            spec.ulimits = vec![Ulimit { name: "nofile".into(), soft: 7, hard: 8 + i64::from(second) }]
        }
        OwnedField::LimitsCpus => spec.limits.nano_cpus = Some(1 + i64::from(second)),
        OwnedField::LimitsMemory => spec.limits.memory_bytes = Some(1 + i64::from(second)),
        OwnedField::ReservationsCpus => spec.reservations.nano_cpus = Some(1 + i64::from(second)),
        OwnedField::ReservationsMemory => spec.reservations.memory_bytes = Some(1 + i64::from(second)),
        OwnedField::Constraints => spec.constraints = vec![format!("node.labels.x == {text}")],
        OwnedField::Networks => spec.networks = vec![if second { "factory-net" } else { "other-net" }.into()],
        OwnedField::Replicas => spec.replicas = if second { 0 } else { 3 },
        OwnedField::Ports => spec.ports = vec![Port::tcp(80 + u16::from(second), 5000)],
        OwnedField::UpdateOrder => update.order = Some(UpdateOrder::StartFirst),
        OwnedField::UpdateFailureAction => {
            update.failure_action = Some(if second { FailureAction::Rollback } else { FailureAction::Continue });
        }
        OwnedField::UpdateMonitor => update.monitor = Some(time),
        OwnedField::UpdateParallelism => update.parallelism = Some(two * 2),
        OwnedField::UpdateDelay => update.delay = Some(time),
        OwnedField::Healthcheck => {
            let probe = Probe { test: vec!["CMD".into(), "x".into()], retries: Some(2), ..Probe::default() };
            spec.options.healthcheck = Some(if second { Healthcheck::Probe(probe) } else { Healthcheck::Disabled });
        }
        OwnedField::StopGracePeriod => {
            spec.options.stop_grace_period = Some(if second { time } else { Duration::ZERO })
        }
        OwnedField::RestartCondition => {
            restart.condition = Some(if second { RestartCondition::OnFailure } else { RestartCondition::None });
        }
        OwnedField::RestartDelay => restart.delay = Some(if second { time } else { Duration::ZERO }),
        OwnedField::RestartMaxAttempts => restart.max_attempts = Some(2 + two),
        OwnedField::RestartWindow => restart.window = Some(time),
        OwnedField::Hostname => spec.options.hostname = Some(text.into()),
    }
    spec
}

/// A service of the engine with this description.
fn described(spec: &Value) -> Value {
    json!({"ID": "agy2sgdl0avh2yzk4i1te2iul", "Version": {"Index": 14}, "Spec": spec})
}

/// For every row of the table of fields, and from every one to every other.
#[test]
fn a_service_reads_back_as_it_was_wanted_after_an_update_of_any_field() {
    let plain = ServiceSpec::new(ServiceName::new("press_7").unwrap(), "press:1");
    let each = ROWS.iter().flat_map(|row| [false, true].map(|second| varied(row.field, second)));
    let specs: Vec<ServiceSpec> = std::iter::once(plain).chain(each).collect();
    for found in &specs {
        let text = described(&body::create_body(found, None));
        assert_eq!(*read(&text).spec, *found, "as it is created");
        for wanted in &specs {
            let service = Found::read(text.to_string().as_bytes(), &networks()).unwrap();
            let Value::Object(body) = body::create_body(wanted, None) else { unreachable!() };
            let updated = read(&described(&service.overlay(wanted, &wanted.labels, &body, &networks())));
            // What is not set stays.
            let options = wanted.options.clone().over(&found.options);
            assert_eq!(*updated.spec, ServiceSpec { options, ..wanted.clone() }, "from {found:?}");
            assert_eq!(updated.container_labels, wanted.labels);
        }
    }
}

#[test]
fn an_option_goes_back_to_the_default_and_the_number_of_parallel_updates_is_always_said() {
    for row in ROWS.iter() {
        let Some(option) = &row.option else { continue };
        let text = described(&body::create_body(&varied(row.field, true), None));
        let mut wanted = varied(row.field, true);
        wanted.options = ServiceOptions::default();
        (option.reset)(&mut wanted.options);
        let Value::Object(body) = body::create_body(&wanted, None) else { unreachable!() };
        let service = Found::read(text.to_string().as_bytes(), &networks()).unwrap();
        let spec = service.overlay(&wanted, &wanted.labels, &body, &networks());
        assert_eq!(read(&described(&spec)).spec.options, ServiceOptions::default(), "{}", row.name);
        for config in [spec.get("UpdateConfig"), body.get("UpdateConfig"), text["Spec"].get("UpdateConfig")] {
            assert!(config.is_none_or(|config| config["Parallelism"].is_u64()), "{}: {config:?}", row.name);
        }
    }
    // Of a service that nobody has set any on, an update sets the number as well: without it, all go at once.
    let service = Found::read(minimal().to_string().as_bytes(), &networks()).unwrap();
    let wanted = varied(OwnedField::UpdateOrder, false);
    let Value::Object(body) = body::create_body(&wanted, None) else { unreachable!() };
    let spec = service.overlay(&wanted, &wanted.labels, &body, &networks());
    assert_eq!(spec["UpdateConfig"], json!({"Order": "start-first", "Parallelism": 1}));
}
