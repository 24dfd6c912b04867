//! The Swarm adapter against a real engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/engine.rs"]
mod engine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine::{IDLE, IDLE_2, TestEngine, shared};
use futures_util::StreamExt;
use ofop::model::fields::ROWS;
use ofop::model::notes::MAX_NOTES_BYTES;
use ofop::model::options::{Healthcheck, Probe, RestartCondition, UpdateOrder};
use ofop::model::service::{EnvVar, LABEL_PRUNE, Mount, Port, Resources, Ulimit};
use ofop::model::{
    FailureAction, FailureKind, InstanceName, Mark, NoteEdits, NotesView, ObservedService, OwnedField,
    PlatformSnapshot, Revision, ServiceId, ServiceName, ServiceOptions, ServiceSpec, ServiceStep, SpecHash,
    StepFailure, TaskState,
};
use ofop::platform::Platform;
use ofop::platform::engine::Engine;
use ofop::platform::swarm::{Pace, Swarm};
use serde_json::{Value, json};

/// No timer helps in these tests: what they see comes from events or from reads that they ask for.
const NEVER: Pace = Pace { resync: Duration::from_secs(3600), follow: Duration::from_secs(3600) };
/// How long something that must happen may take.
const LONG: Duration = Duration::from_secs(60);

fn adapter(engine: &TestEngine) -> Swarm {
    Swarm::start(Engine::new(&engine.host(), None).unwrap(), NEVER, &instance())
}

async fn observe(swarm: &Swarm) -> Arc<PlatformSnapshot> {
    swarm.observe(&BTreeSet::new()).await.unwrap()
}

/// Follows events until what is observed is as it must be.
async fn until(swarm: &Swarm, what: &str, holds: impl Fn(&PlatformSnapshot) -> bool) -> Arc<PlatformSnapshot> {
    let mut events = std::pin::pin!(swarm.events());
    let wait = async {
        loop {
            if let Ok(snapshot) = swarm.observe(&BTreeSet::new()).await
                && holds(&snapshot)
            {
                return snapshot;
            }
            events.next().await.expect("the events go on");
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}: not within {} s", LONG.as_secs()))
}

fn name(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

/// A service whose tasks wait for ever, so that none has to start.
fn spec(service: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::new(name(service), IDLE);
    spec.constraints = vec!["node.labels.none == x".into()];
    spec
}

fn instance() -> InstanceName {
    InstanceName::new("tests").unwrap()
}

fn mark() -> Mark {
    Mark {
        instance: instance(),
        resource: "app/X".parse().unwrap(),
        spec: SpecHash("hash".into()),
        revision: Revision("r1".into()),
        origin: "a.yml:1".into(),
        kept: Some(false),
        terms: ofop::model::RemovalTerms::default(),
        options: Vec::new(),
        run: None,
    }
}

async fn create(swarm: &Swarm, spec: &ServiceSpec) -> Result<Arc<ObservedService>, StepFailure> {
    swarm.execute(&ServiceStep::Create { spec: Arc::new(spec.clone()), mark: mark() }).await?;
    assert_eq!(*observe(swarm).await.services[&spec.name].spec, *spec, "what was written is seen at once");
    // And a moment later as the engine has it.
    let read = |snapshot: &PlatformSnapshot| snapshot.services.get(&spec.name).is_some_and(|found| found.version > 0);
    Ok(until(swarm, "it is read back", read).await.services[&spec.name].clone())
}

async fn update(swarm: &Swarm, found: &ObservedService, spec: &ServiceSpec) -> Result<(), StepFailure> {
    let (id, version) = (found.id.clone(), found.version);
    let (spec, container_labels) = (Arc::new(spec.clone()), spec.labels.clone());
    swarm.execute(&ServiceStep::Update { id, version, spec, container_labels, mark: mark() }).await
}

async fn remove(swarm: &Swarm, id: &ServiceId, service: &ServiceName) -> Result<(), StepFailure> {
    swarm.execute(&ServiceStep::Remove { id: id.clone(), name: service.clone() }).await
}

/// One variation of a spec for each field that we own.
fn variations(service: &str) -> Vec<(&'static str, ServiceSpec)> {
    let mut all = Vec::new();
    let mut vary = |field: &'static str, change: &dyn Fn(&mut ServiceSpec)| {
        let mut spec = spec(service);
        change(&mut spec);
        all.push((field, spec));
    };
    vary("nothing", &|_| {});
    vary("image", &|spec| spec.image = IDLE_2.into());
    vary("command", &|spec| spec.command = vec!["/bin/sh".into(), "-c".into(), "echo \"$X\"".into()]);
    vary("args", &|spec| spec.args = vec!["-v".into(), String::new(), "x y".into()]);
    vary("env", &|spec| {
        spec.env = vec![EnvVar::new("B", "2=3"), EnvVar::new("A", ""), EnvVar::new("SLOT", "{{.Task.Slot}}")];
    });
    vary("user", &|spec| spec.user = Some("1000:1001".into()));
    vary("labels", &|spec| spec.labels = [("traefik.enable".to_owned(), "true".to_owned())].into());
    vary("mounts", &|spec| {
        let options = [("type", "nfs"), ("o", "addr=10.0.0.1,nfsvers=4"), ("device", ":/x")];
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let volume = |source: &str, driver: &str, options| Mount::Volume {
            source: source.into(),
            target: format!("/{source}"),
            driver: driver.into(),
            options,
            read_only: driver.is_empty(),
        };
        spec.mounts = vec![
            volume("nfs_x", "local", options),
            volume("plain", "", BTreeMap::new()),
            Mount::Bind { source: "/tmp".into(), target: "/host".into(), read_only: true },
        ];
    });
    vary("ulimits", &|spec| spec.ulimits = vec![Ulimit { name: "nofile".into(), soft: 1024, hard: 2048 }]);
    vary("limits", &|spec| {
        spec.limits = Resources { nano_cpus: Some(500_000_000), memory_bytes: Some(64 << 20) };
    });
    vary("reservations", &|spec| spec.reservations = Resources { nano_cpus: None, memory_bytes: Some(8 << 20) });
    vary("constraints", &|spec| {
        spec.constraints = vec!["node.labels.none == x".into(), "node.role != worker".into()];
    });
    vary("networks", &|spec| spec.networks = vec!["other-net".into(), "factory-net".into()]);
    vary("host network", &|spec| spec.networks = vec!["host".into()]);
    vary("replicas", &|spec| spec.replicas = 3);
    vary("no replicas", &|spec| spec.replicas = 0);
    for row in ROWS.iter().filter(|row| row.option.is_some()) {
        vary(row.name, &|spec| set_option(row.field, &mut spec.options));
    }
    vary("every part of a health check", &|spec| {
        spec.options.healthcheck = Some(Healthcheck::Probe(Probe {
            test: vec!["CMD-SHELL".into(), "true".into()],
            interval: Some(Duration::from_secs(7)),
            timeout: Some(Duration::from_secs(2)),
            retries: Some(4),
            start_period: Some(Duration::from_secs(1)),
        }));
    });
    vary("ports", &|spec| spec.ports = vec![Port::tcp(18_001, 80), Port::tcp(18_002, 81)]);
    all
}

/// A value other than the engine's default.
fn set_option(field: OwnedField, options: &mut ServiceOptions) {
    let (update, restart) = (&mut options.update, &mut options.restart);
    match field {
        OwnedField::UpdateOrder => update.order = Some(UpdateOrder::StartFirst),
        OwnedField::UpdateFailureAction => update.failure_action = Some(FailureAction::Continue),
        OwnedField::UpdateMonitor => update.monitor = Some(Duration::from_secs(7)),
        OwnedField::UpdateParallelism => update.parallelism = Some(0),
        OwnedField::UpdateDelay => update.delay = Some(Duration::from_millis(1500)),
        OwnedField::Healthcheck => options.healthcheck = Some(Healthcheck::Disabled),
        OwnedField::StopGracePeriod => options.stop_grace_period = Some(Duration::ZERO),
        OwnedField::RestartCondition => restart.condition = Some(RestartCondition::None),
        OwnedField::RestartDelay => restart.delay = Some(Duration::ZERO),
        OwnedField::RestartMaxAttempts => restart.max_attempts = Some(3),
        OwnedField::RestartWindow => restart.window = Some(Duration::from_secs(60)),
        OwnedField::Hostname => options.hostname = Some("{{.Service.Name}}-{{.Task.Slot}}".into()),
        _ => panic!("{field:?} is no option"),
    }
}

fn other_network(engine: &TestEngine) {
    let (status, answer) =
        engine.call("POST", "/networks/create", r#"{"Name":"other-net","Driver":"overlay","CheckDuplicate":true}"#);
    assert!(matches!(status, 201 | 409), "{answer}");
}

#[tokio::test]
async fn what_is_created_is_observed_as_it_was_asked_for_in_every_field() {
    let engine = shared();
    other_network(&engine);
    let swarm = adapter(&engine);
    for (field, spec) in variations("created") {
        let found = create(&swarm, &spec).await.unwrap_or_else(|error| panic!("{field}: {error}"));
        assert_eq!(*found.spec, spec, "{field}");
        assert_eq!(found.container_labels, spec.labels, "{field}");
        assert_eq!((found.mark.clone(), &found.foreign_mode), (Some(mark()), &None), "{field}");
        remove(&swarm, &found.id, &spec.name).await.unwrap();
        assert!(!observe(&swarm).await.services.contains_key(&spec.name), "{field}");
    }
}

#[tokio::test]
async fn an_update_from_any_field_to_any_other_leaves_exactly_what_is_wanted() {
    let engine = shared();
    other_network(&engine);
    let swarm = adapter(&engine);
    let mut found = create(&swarm, &spec("updated")).await.unwrap();
    for (field, spec) in variations("updated") {
        while let Err(failure) = update(&swarm, &found, &spec).await {
            // The engine changes a service that was just written once more by itself.
            assert_eq!(failure.kind, FailureKind::Conflict, "{field}: {failure}");
            found = observe(&swarm).await.services[&spec.name].clone();
        }
        let before = found.spec.options.clone();
        found = observe(&swarm).await.services[&spec.name].clone();
        // What is not set is left as it is.
        let spec = ServiceSpec { options: spec.options.clone().over(&before), ..spec };
        assert_eq!(*found.spec, spec, "{field}");
        assert_eq!(found.container_labels, spec.labels, "{field}");
    }
    let every = ServiceOptions::default();
    let mut defaults = spec("updated");
    let options: Vec<OwnedField> = found.spec.options.set().collect();
    assert_eq!(options.len(), ROWS.iter().filter(|row| row.option.is_some()).count());
    defaults.options.reset(&options);
    while let Err(failure) = update(&swarm, &found, &defaults).await {
        assert_eq!(failure.kind, FailureKind::Conflict, "{failure}");
        found = observe(&swarm).await.services[&defaults.name].clone();
    }
    found = observe(&swarm).await.services[&defaults.name].clone();
    assert_eq!(found.spec.options, every, "set to the engine's default they are as if nobody had ever set them");
    remove(&swarm, &found.id, &found.spec.name).await.unwrap();
}

#[tokio::test]
async fn an_update_keeps_what_is_not_ours() {
    let engine = shared();
    let id_of = |answer: Value| answer["ID"].as_str().unwrap().to_owned();
    let secret = id_of(engine.ok("POST", "/secrets/create", r#"{"Name":"pw","Data":"c2VjcmV0"}"#));
    let config = id_of(engine.ok("POST", "/configs/create", r#"{"Name":"cfg","Data":"Y29uZmln"}"#));
    let file = json!({"Name": "f", "UID": "0", "GID": "0", "Mode": 292});
    let body = json!({
        "Name": "kept",
        "Labels": {"team": "blue", "traefik.enable": "true"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": IDLE,
                "Labels": {"inner": "1"},
                "Hostname": "h",
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000u64, "Retries": 3},
                "StopGracePeriod": 3_000_000_000u64,
                "Secrets": [{"File": file, "SecretID": secret, "SecretName": "pw"}],
                "Configs": [{"File": file, "ConfigID": config, "ConfigName": "cfg"}]
            },
            "Resources": {"Limits": {"Pids": 50}},
            "RestartPolicy": {"Condition": "on-failure", "MaxAttempts": 2},
            "Placement": {"Constraints": ["node.labels.none==x"], "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.z"}}]},
            "Networks": [{"Target": "factory-net", "Aliases": ["alias"]}],
            "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}}
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {"Parallelism": 2, "FailureAction": "rollback", "MaxFailureRatio": 0.15, "Order": "start-first"},
        "EndpointSpec": {"Mode": "dnsrr"}
    });
    let id = id_of(engine.ok("POST", "/services/create", &body.to_string()));
    let before = engine.get(&format!("/services/{id}"))["Spec"].clone();

    let swarm = adapter(&engine);
    let found = observe(&swarm).await.services[&name("kept")].clone();
    let mut wanted = spec("kept");
    wanted.env = vec![EnvVar::new("NEW", "1")];
    wanted.networks = vec!["factory-net".into()];
    wanted.limits.memory_bytes = Some(16 << 20);
    update(&swarm, &found, &wanted).await.unwrap();

    let mut after = engine.get(&format!("/services/{id}"))["Spec"].clone();
    let kept = found.spec.options.clone();
    assert_eq!((kept.update.parallelism, kept.restart.max_attempts), (Some(2), Some(2)));
    assert_eq!(*observe(&swarm).await.services[&name("kept")].spec, ServiceSpec { options: kept, ..wanted });
    assert_eq!(after["TaskTemplate"]["ContainerSpec"]["Env"], json!(["NEW=1"]));
    assert_eq!(after["Labels"]["team"], "blue");
    assert_eq!(after["Labels"].get("traefik.enable"), None, "a routing label that is not wanted goes");
    // All that differs is what was asked for; the constraint keeps its spelling.
    after["Labels"] = before["Labels"].clone();
    after["TaskTemplate"]["ContainerSpec"].as_object_mut().unwrap().shift_remove("Env");
    after["TaskTemplate"]["Resources"]["Limits"].as_object_mut().unwrap().shift_remove("MemoryBytes");
    assert_eq!(after, before);
    engine.ok("DELETE", &format!("/services/{id}"), "");
}

#[tokio::test]
async fn an_update_of_labels_alone_restarts_no_task() {
    let engine = shared();
    let swarm = adapter(&engine);
    let mut wanted = ServiceSpec::new(name("labelled"), IDLE);
    create(&swarm, &wanted).await.unwrap();
    let running = |snapshot: &PlatformSnapshot| {
        let tasks = snapshot.services.get("labelled").and_then(|service| snapshot.tasks.get(&service.id));
        tasks.is_some_and(|tasks| tasks.iter().any(|task| task.state == TaskState::Running))
    };
    let snapshot = until(&swarm, "the task runs", running).await;
    let found = snapshot.services["labelled"].clone();

    // Somebody pinned the image, and wrote the constraint in another way; neither is what this update is about.
    let before = snapshot.tasks[&found.id].clone();
    let mut adopted = mark();
    adopted.revision = Revision("r2".into());
    let step = ServiceStep::Update {
        id: found.id.clone(),
        version: found.version,
        spec: Arc::new(wanted.clone()),
        container_labels: wanted.labels.clone(),
        mark: adopted.clone(),
    };
    swarm.execute(&step).await.unwrap();
    swarm.refresh();
    let snapshot = observe(&swarm).await;
    assert_eq!(snapshot.services["labelled"].mark, Some(adopted.clone()));
    assert_eq!(snapshot.tasks[&found.id], before);
    // Neither does a mark that says that the service stays, and later that it does not.
    for kept in [true, false] {
        adopted.kept = Some(kept);
        let found = observe(&swarm).await.services["labelled"].clone();
        let step = ServiceStep::Update {
            id: found.id.clone(),
            version: found.version,
            spec: Arc::new(wanted.clone()),
            container_labels: wanted.labels.clone(),
            mark: adopted.clone(),
        };
        swarm.execute(&step).await.unwrap();
        swarm.refresh();
        let snapshot = observe(&swarm).await;
        assert_eq!(snapshot.services["labelled"].mark, Some(adopted.clone()));
        assert_eq!(snapshot.tasks[&found.id], before);
        let labels = engine.get(&format!("/services/{}", found.id.0))["Spec"]["Labels"].clone();
        assert_eq!(labels.get(LABEL_PRUNE), kept.then(|| json!("false")).as_ref());
    }
    let snapshot = observe(&swarm).await;

    // That a change that matters does replace the task shows that the above could have failed.
    wanted.env = vec![EnvVar::new("A", "1")];
    update(&swarm, &snapshot.services["labelled"], &wanted).await.unwrap();
    let replaced = |snapshot: &PlatformSnapshot| snapshot.tasks.get(&found.id).is_some_and(|tasks| tasks.len() == 2);
    until(&swarm, "the task is replaced", replaced).await;
    remove(&swarm, &found.id, &found.spec.name).await.unwrap();
}

#[tokio::test]
async fn an_update_may_leave_labels_of_containers_other_than_those_of_their_service() {
    const ENABLE: &str = "traefik.enable";
    let engine = shared();
    let swarm = adapter(&engine);
    let mut wanted = spec("two-labels");
    wanted.labels.insert(ENABLE.into(), "true".into());
    let found = create(&swarm, &wanted).await.unwrap();
    let containers =
        |value: Option<&str>| value.map(|value| (ENABLE.to_owned(), value.to_owned())).into_iter().collect();
    for value in [Some("false"), None, Some("true")] {
        let container_labels: BTreeMap<String, String> = containers(value);
        // The orchestrator itself moves the version of a service that it has just seen change.
        let after = loop {
            let found = observe(&swarm).await.services[&found.spec.name].clone();
            let step = ServiceStep::Update {
                id: found.id.clone(),
                version: found.version,
                spec: Arc::new(wanted.clone()),
                container_labels: container_labels.clone(),
                mark: mark(),
            };
            match swarm.execute(&step).await {
                Ok(()) => break observe(&swarm).await.services[&found.spec.name].clone(),
                Err(failure) => assert_eq!(failure.kind, FailureKind::Conflict, "{failure}"),
            }
        };
        assert_eq!((&after.spec.labels, &after.container_labels), (&wanted.labels, &container_labels));
    }
    remove(&swarm, &found.id, &found.spec.name).await.unwrap();
}

#[tokio::test]
async fn a_stale_version_is_a_conflict_and_changes_nothing() {
    let engine = shared();
    let swarm = adapter(&engine);
    let found = create(&swarm, &spec("stale")).await.unwrap();
    let mut wanted = spec("stale");
    wanted.replicas = 2;
    update(&swarm, &found, &wanted).await.unwrap();
    wanted.replicas = 3;
    let failure = update(&swarm, &found, &wanted).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Conflict, "{failure}");
    assert_eq!(observe(&swarm).await.services["stale"].spec.replicas, 2);

    // The engine itself says the same of a version that is too new.
    let path = format!("/services/{}/update?version=1", found.id.0);
    let body = engine.get(&format!("/services/{}", found.id.0))["Spec"].to_string();
    let (status, answer) = engine.call("POST", &path, &body);
    assert!(status == 500 && answer.contains("update out of sequence"), "{status} {answer}");
    remove(&swarm, &found.id, &found.spec.name).await.unwrap();
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let engine = shared();
    let swarm = adapter(&engine);
    let found = create(&swarm, &spec("taken")).await.unwrap();
    let failed = async |spec: &ServiceSpec| create(&swarm, spec).await.unwrap_err();

    assert_eq!(failed(&spec("taken")).await.kind, FailureKind::Exists);

    let mut nowhere = spec("nowhere");
    nowhere.networks = vec!["no-such-net".into()];
    nowhere.env = vec![EnvVar::new("TOKEN", "no-such-net")];
    let failure = failed(&nowhere).await;
    assert_eq!(failure.kind, FailureKind::Dependency, "{failure}");
    assert!(!failure.message.contains("no-such-net"), "a value of the environment was repeated: {failure}");

    let mut odd = spec("odd");
    odd.constraints = vec!["node.role ~ worker".into()];
    let failure = failed(&odd).await;
    assert_eq!(failure.kind, FailureKind::Rejected, "{failure}");

    let mut port = spec("port-1");
    port.ports = vec![Port::tcp(18_010, 80)];
    let holder = create(&swarm, &port).await.unwrap();
    port.name = name("port-2");
    assert_eq!(failed(&port).await.kind, FailureKind::Rejected);

    let gone = ServiceId("0".repeat(25));
    assert_eq!(remove(&swarm, &gone, &name("gone")).await.unwrap_err().kind, FailureKind::Gone);
    for found in [found, holder] {
        remove(&swarm, &found.id, &found.spec.name).await.unwrap();
    }
}

/// What an adapter sees noted.
async fn notes(swarm: &Swarm) -> (u64, Vec<String>) {
    match &observe(swarm).await.notes {
        NotesView::Read { version, notes } => {
            (*version, notes.iter().map(|(key, text)| format!("{key}={text}")).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn edits(of: &[(&str, Option<&str>)]) -> NoteEdits {
    of.iter().map(|(key, text)| ((*key).to_owned(), text.map(str::to_owned))).collect()
}

#[tokio::test]
async fn notes_are_seen_by_whoever_looks_and_two_who_write_undo_nothing() {
    let engine = shared();
    let instance = InstanceName::new("Notes-of-2").unwrap();
    let adapter = || Swarm::start(Engine::new(&engine.host(), None).unwrap(), NEVER, &instance);
    let (one, two) = (adapter(), adapter());
    assert_eq!(notes(&one).await, (0, vec![]));
    assert_eq!(notes(&two).await, (0, vec![]));
    // Taking away what is not there makes nothing.
    one.note(&edits(&[("suspended", None)])).await.unwrap();
    assert_eq!(notes(&one).await, (0, vec![]));

    const ODD: &str = "suspended/device/odd /ü%?#\"\\ \u{1f600}";
    one.note(&edits(&[(ODD, Some("2026-01-02T03:04:05Z")), ("rolled-back/a", Some("hash@sha256:x"))])).await.unwrap();
    let (version, seen) = notes(&one).await;
    assert_eq!(seen, ["rolled-back/a=hash@sha256:x".to_owned(), format!("{ODD}=2026-01-02T03:04:05Z")]);
    let shows = |snapshot: &PlatformSnapshot, what: &str| matches!(&snapshot.notes, NotesView::Read { notes, .. } if notes.contains_key(what));
    until(&two, "an event tells the other one", |snapshot| shows(snapshot, ODD)).await;

    // Somebody labels the config; and both write at the same time, over and over.
    let filter = "/configs?filters=%7B%22label%22%3A%5B%22io.openfactory.operator%2Finstance%3DNotes-of-2%22%5D%7D";
    let config = engine.get(filter)[0].clone();
    let id = config["ID"].as_str().unwrap().to_owned();
    let mut spec = config["Spec"].clone();
    spec["Labels"]["team"] = json!("blue");
    engine.ok("POST", &format!("/configs/{id}/update?version={}", config["Version"]["Index"]), &spec.to_string());
    let write = async |swarm: &Swarm, who: &str| {
        for at in 0..10 {
            let key = format!("rolled-back/{who}-{at}");
            while let Err(failure) = swarm.note(&edits(&[(&key, Some("x"))])).await {
                assert_eq!(failure.kind, FailureKind::Conflict, "{failure}");
            }
        }
    };
    tokio::join!(write(&one, "one"), write(&two, "two"));
    one.note(&edits(&[(ODD, None)])).await.unwrap();
    let (after, seen) = notes(&one).await;
    assert!(after > version && seen.len() == 21, "{seen:?}");
    until(&two, "both see the same", |snapshot| !shows(snapshot, ODD)).await;
    assert_eq!(notes(&two).await.1, seen);
    assert_eq!(engine.get(&format!("/configs/{id}"))["Spec"]["Labels"]["team"], "blue");

    // As much as there may ever be, and then somebody throws it all away.
    let long = "x".repeat(MAX_NOTES_BYTES / 4 - 20);
    one.note(&edits(&[("rolled-back/w", Some(&long)), ("rolled-back/x", Some(&long)), ("rolled-back/y", Some(&long))]))
        .await
        .unwrap();
    one.note(&edits(&[("rolled-back/z", Some(&long))])).await.unwrap();
    assert_eq!(notes(&one).await.1.len(), 25);
    engine.ok("DELETE", &format!("/configs/{id}"), "");
    until(&two, "they are gone", |snapshot| snapshot.notes == NotesView::default()).await;
    one.note(&edits(&[("suspended", Some("again"))])).await.unwrap();
    assert_eq!(notes(&one).await.1, ["suspended=again"]);
    engine.ok("DELETE", &format!("/configs/{}", engine.get(filter)[0]["ID"].as_str().unwrap()), "");
}

#[tokio::test]
async fn a_strangers_config_under_our_name_is_left_alone() {
    let engine = shared();
    let body = json!({"Name": "ofop-stranger", "Labels": {"team": "blue"}, "Data": "eA=="});
    let made = engine.ok("POST", "/configs/create", &body.to_string());
    let id = made["ID"].as_str().unwrap();
    // What names Swarm takes decides how ours are made.
    for (name, status) in [("OFOP-STRANGER", 409), ("ofop-stranger-", 400), (&"x".repeat(65), 400)] {
        let body = json!({"Name": name, "Data": "eA=="}).to_string();
        assert_eq!(engine.call("POST", "/configs/create", &body).0, status, "{name}");
    }
    let before = engine.get(&format!("/configs/{id}"));
    let swarm =
        Swarm::start(Engine::new(&engine.host(), None).unwrap(), NEVER, &InstanceName::new("stranger").unwrap());
    let NotesView::Unsupported(why) = observe(&swarm).await.notes.clone() else { panic!("it was read") };
    assert_eq!(why, "config ofop-stranger exists and is not ours");
    let failure = swarm.note(&edits(&[("suspended", Some("now"))])).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Rejected);
    assert_eq!(engine.get(&format!("/configs/{id}")), before);
    engine.ok("DELETE", &format!("/configs/{id}"), "");
}

#[tokio::test]
async fn only_a_full_id_is_ever_removed() {
    let engine = shared();
    let swarm = adapter(&engine);
    let found = create(&swarm, &spec("whole")).await.unwrap();
    for odd in [&found.id.0[..3], &found.id.0[..24], "whole", "", "../nodes"] {
        let failure = remove(&swarm, &ServiceId(odd.into()), &found.spec.name).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Rejected, "{odd}");
    }
    swarm.refresh();
    assert!(observe(&swarm).await.services.contains_key("whole"));
    remove(&swarm, &found.id, &found.spec.name).await.unwrap();
    swarm.refresh();
    assert!(!observe(&swarm).await.services.contains_key("whole"));
}

#[tokio::test]
async fn tasks_of_a_removed_service_are_seen_until_they_have_ended() {
    let engine = shared();
    let swarm = adapter(&engine);
    let found = create(&swarm, &ServiceSpec::new(name("leaving"), IDLE)).await.unwrap();
    let active = |snapshot: &PlatformSnapshot| {
        snapshot.tasks.get(&found.id).is_some_and(|tasks| tasks.iter().any(|task| task.state.is_active()))
    };
    let runs = |snapshot: &PlatformSnapshot| {
        snapshot.tasks.get(&found.id).is_some_and(|tasks| tasks.iter().any(|task| task.state == TaskState::Running))
    };
    until(&swarm, "the task runs", runs).await;
    remove(&swarm, &found.id, &found.spec.name).await.unwrap();
    let snapshot = observe(&swarm).await;
    assert!(!snapshot.services.contains_key("leaving") && active(&snapshot));
    until(&swarm, "the task has ended", |snapshot| !active(snapshot)).await;
}

/// What others do to a service and a network of these names, seen by the adapter; how many full reads that took.
async fn reads_for_what_others_do(engine: &TestEngine, swarm: &Swarm, service: &str, network: &str) -> u64 {
    let first = observe(swarm).await.generation;
    let body = json!({
        "Name": service,
        "TaskTemplate": {
            "ContainerSpec": {"Image": IDLE}, "Placement": {"Constraints": ["node.labels.none==x"]},
            "Networks": [{"Target": network}]
        },
        "Mode": {"Replicated": {"Replicas": 1}}
    });
    // Its network is new as well: its name must be known as soon as the service is.
    engine.ok("POST", "/networks/create", &json!({"Name": network, "Driver": "overlay"}).to_string());
    let id = engine.ok("POST", "/services/create", &body.to_string())["ID"].as_str().unwrap().to_owned();
    let snapshot = until(swarm, "it appears", |snapshot| snapshot.services.contains_key(service)).await;
    assert_eq!(snapshot.services[service].spec.networks, [network]);
    until(swarm, "its network appears", |snapshot| snapshot.networks.contains(network)).await;

    engine.edit_service(&id, |spec| spec["Mode"]["Replicated"]["Replicas"] = json!(4));
    until(swarm, "it changes", |snapshot| snapshot.services[service].spec.replicas == 4).await;

    engine.ok("DELETE", &format!("/services/{id}"), "");
    let snapshot = until(swarm, "it goes", |snapshot| !snapshot.services.contains_key(service)).await;
    assert!(snapshot.complete);
    snapshot.generation - first
}

#[tokio::test]
async fn what_others_do_is_seen_through_events_alone() {
    // Its own engine: services of other tests that come and go make full reads necessary.
    let engine = TestEngine::swarm();
    let swarm = adapter(&engine);
    // A node that reports itself, and a service that is gone when its last change is looked into, are reasons for a
    // full read that have nothing to do with what is tested here: one time of several must do without.
    for time in 1..=5 {
        let (service, network) = (format!("by-hand-{time}"), format!("late-net-{time}"));
        if reads_for_what_others_do(&engine, &swarm, &service, &network).await == 0 {
            return;
        }
    }
    panic!("each time a full read was needed");
}

#[tokio::test]
async fn a_refresh_makes_the_next_observation_rest_on_a_new_full_read() {
    let engine = shared();
    let swarm = adapter(&engine);
    let first = observe(&swarm).await.generation;
    swarm.refresh();
    swarm.refresh();
    assert!(observe(&swarm).await.generation > first);
}

#[tokio::test]
async fn a_restarted_engine_is_found_again() {
    let mut engine = TestEngine::swarm();
    let swarm = adapter(&engine);
    let found = create(&swarm, &spec("survivor")).await.unwrap();
    engine.stop();
    // A node that reports itself is read about at any time, until here.
    let last = swarm.observe(&BTreeSet::new()).await.map_or(1, |snapshot| snapshot.generation);
    let gone = async {
        loop {
            match swarm.observe(&BTreeSet::new()).await {
                Ok(snapshot) => assert!(!snapshot.complete || snapshot.generation == last),
                Err(error) => return error,
            }
            tokio::task::yield_now().await;
        }
    };
    let error = tokio::time::timeout(LONG, gone).await.expect("it shows that the engine is gone");
    assert!(error.message.contains("docker.sock") && error.hint.is_some(), "{error:?}");
    let failure = create(&swarm, &spec("early")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable, "{failure}");

    engine.start();
    let snapshot = until(&swarm, "it is back", |snapshot| snapshot.complete && snapshot.generation > last).await;
    assert_eq!(snapshot.services["survivor"].id, found.id);
    create(&swarm, &spec("later")).await.unwrap();
    engine.ok("DELETE", &format!("/services/{}", found.id.0), "");
    until(&swarm, "events come again", |snapshot| !snapshot.services.contains_key("survivor")).await;
}

#[tokio::test]
async fn an_engine_without_a_swarm_says_what_to_do() {
    let engine = TestEngine::plain(&[]);
    let error = adapter(&engine).observe(&BTreeSet::new()).await.unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("docker swarm init")), "{error:?}");
}

#[tokio::test]
async fn an_address_without_an_engine_says_what_to_do() {
    let nowhere = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/docker.sock", nowhere.path().display());
    let swarm = Swarm::start(Engine::new(&host, None).unwrap(), NEVER, &instance());
    let error = swarm.observe(&BTreeSet::new()).await.unwrap_err();
    assert!(error.message.contains(&host) && error.hint.is_some(), "{error:?}");
}
