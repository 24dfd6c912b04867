//! Fields whose live value is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ofop::model::options::{Healthcheck, RestartOptions, UpdateOptions, UpdateOrder};
use ofop::model::service::{EnvVar, Mount, Port, Resources, Ulimit};
use ofop::model::{
    Desired, DesiredResource, DriftType, Field, Health, IgnoredField, OwnedField, Reason, ServiceOptions, ServiceSpec,
    ServiceStep, Step, Suspension, Sync, Wait,
};
use ofop::plan::{Memory, ShowSecrets, TextOptions, to_json, to_text};
use proptest::collection::{btree_set, vec};
use proptest::prelude::{Strategy, any};
use proptest::sample::{select, subsequence};
use proptest::test_runner::Config;

use crate::world::{World, app, app_id, desired, device, name, one, policy, service};

fn ignoring(mut resource: DesiredResource, fields: &[&str]) -> DesiredResource {
    let ignored = |text: &&str| match text.split_once('/').filter(|(service, _)| !service.contains('[')) {
        Some((service, field)) => IgnoredField { service: Some(name(service)), field: field.parse().unwrap() },
        None => IgnoredField { service: None, field: text.parse().unwrap() },
    };
    resource.handling.ignore = fields.iter().map(ignored).collect();
    resource
}

fn lived_in(wanted: &Desired) -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(wanted, &policy(), &mut memory);
    (world, memory)
}

#[test]
fn what_is_ignored_is_no_drift_and_is_shown() {
    let wanted = desired([ignoring(app("A", |_| {}), &["replicas", "environment.TOKEN"])]);
    let (mut world, mut memory) = lived_in(&wanted);
    world.edit("a", |service| {
        service.spec_mut().replicas = 7;
        service.spec_mut().env[1].value = "by-hand".into();
    });
    let plan = world.settle(&wanted, &policy(), &mut memory);
    let found = one(&plan, "A");
    assert!(plan.is_empty() && found.drift.is_empty() && found.sync == Sync::Synced, "{found:#?}");
    assert_eq!(found.ignored[0].object, "service a");
    let text = to_text(&plan, TextOptions::default());
    assert!(text.contains("  = leave service a (ignored)\n"), "{text}");
    assert!(text.contains("      environment.TOKEN  (hidden), not (hidden)\n"), "{text}");
    assert!(text.contains("      replicas           7, not 1\n"), "{text}");
    let json = to_json(&plan, ShowSecrets::No);
    let changes = &json["resources"]["app/A"]["ignored"][0]["changes"];
    assert_eq!(changes[1], serde_json::json!({"field": "replicas", "from": "7", "to": "1", "secret": false}));
    assert_eq!(changes[0]["from"], serde_json::Value::Null);

    // What is not ignored is put back, and nothing else.
    world.edit("a", |service| service.spec_mut().image = "somebody/else".into());
    let plan = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!(one(&plan, "A").drift[0].fields, ["image"]);
    let service = &world.services[&name("a")];
    assert_eq!((service.spec.replicas, service.spec.image.as_str()), (7, "registry/app:1"));
    assert_eq!(service.spec.env[1].value, "by-hand");
}

#[test]
fn a_new_manifest_moves_what_is_ignored_only_by_making_the_service_anew() {
    let version = |image: &str, replicas: u64| {
        let resource = app("A", |spec| {
            spec.image = image.into();
            spec.replicas = replicas;
        });
        desired([ignoring(resource, &["replicas"])])
    };
    let (mut world, mut memory) = lived_in(&version("registry/app:1", 2));
    assert_eq!(world.services[&name("a")].spec.replicas, 2, "the manifest decides as it is made");
    world.edit("a", |service| service.spec_mut().replicas = 5);
    world.converge(&version("registry/app:2", 2), &policy(), &mut memory);
    let service = &world.services[&name("a")];
    assert_eq!((service.spec.image.as_str(), service.spec.replicas), ("registry/app:2", 5));
    let plans = world.converge(&version("registry/app:2", 3), &policy(), &mut memory);
    assert_eq!(one(&plans[0], "A").steps[0].reason, Reason::ManifestChanged);
    assert_eq!(world.services[&name("a")].spec.replicas, 5);
    world.remove_by_hand("a");
    world.converge(&version("registry/app:2", 3), &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.replicas, 3);
}

#[test]
fn what_is_ignored_no_longer_is_put_back() {
    let wanted = desired([ignoring(app("A", |_| {}), &["replicas"])]);
    let (mut world, mut memory) = lived_in(&wanted);
    world.edit("a", |service| service.spec_mut().replicas = 4);
    assert_eq!(world.pass(&wanted, &policy(), &mut memory).steps(), 0);
    let plan = world.pass(&desired([app("A", |_| {})]), &policy(), &mut memory);
    assert_eq!(one(&plan, "A").drift[0].drift, DriftType::Modified);
    assert_eq!(world.services[&name("a")].spec.replicas, 1);
}

#[test]
fn a_service_that_was_scaled_by_hand_runs_when_as_many_run_as_there_are() {
    let wanted = desired([ignoring(app("A", |spec| spec.replicas = 3), &["replicas"])]);
    let (mut world, mut memory) = lived_in(&wanted);
    world.edit("a", |service| service.spec_mut().replicas = 1);
    let id = world.services[&name("a")].id.clone();
    world.tasks.get_mut(&id).unwrap().truncate(1);
    let plan = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!(one(&plan, "A").health, Health::Healthy, "{:?}", one(&plan, "A").conditions);
}

#[test]
fn a_field_of_one_service_of_a_device_is_left_alone_and_its_namesakes_are_not() {
    let wanted = desired([ignoring(device("CNC-1"), &["cnc-1-agent/image"])]);
    let (mut world, mut memory) = lived_in(&wanted);
    for service in ["cnc-1-agent", "cnc-1-producer"] {
        world.edit(service, |service| service.spec_mut().image = "by/hand:1".into());
    }
    world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(world.services[&name("cnc-1-agent")].spec.image, "by/hand:1");
    assert_eq!(world.services[&name("cnc-1-producer")].spec.image, "registry/producer:1");
}

#[test]
fn a_tag_that_is_followed_is_not_where_the_image_is_ignored() {
    let mut resource = ignoring(app("A", |_| {}), &["image"]);
    resource.services[0].follow_digest = true;
    let wanted = desired([resource]);
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.digests.insert("registry/app:1".into(), "sha256:aa".into());
    world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1@sha256:aa");
    world.digests.insert("registry/app:1".into(), "sha256:bb".into());
    assert!(world.settle(&wanted, &policy(), &mut memory).is_empty());
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1@sha256:aa");
}

#[test]
fn a_stranger_is_not_adopted_for_what_is_ignored() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let stranger = app("A", |spec| spec.image = "somebody/else".into());
    world.insert((*stranger.services[0].spec).clone(), None);
    let wanted = desired([ignoring(app("A", |_| {}), &["image"])]);
    let plan = world.settle(&wanted, &policy(), &mut memory);
    assert_eq!(one(&plan, "A").conditions[0].reason, "StrangersService");
}

#[test]
fn a_resource_that_its_manifest_suspends_is_left_alone_whatever_a_person_says() {
    let mut suspended = app("A", |_| {});
    suspended.handling.suspend = true;
    let (mut world, mut memory) = lived_in(&desired([app("A", |_| {})]));
    world.edit("a", |service| service.spec_mut().replicas = 7);
    let wanted = desired([suspended.clone()]);
    for _ in 0..3 {
        let plan = world.pass(&wanted, &policy(), &mut memory);
        let found = one(&plan, "A");
        assert_eq!((plan.steps(), found.health), (0, Health::Suspended));
        assert_eq!(found.held[0].wait, Wait::Suspended(Suspension::Manifest));
        let condition = &found.conditions[0];
        assert_eq!(condition.reason, "Manifest");
        assert_eq!(condition.message, "left alone: `x-ofop` in app_A.yml says `suspend: true`");
        let text = to_text(&plan, TextOptions { width: 0, ..TextOptions::default() });
        assert!(text.contains("waits for a manifest without `suspend: true`"), "{text}");
        memory.command(&ofop::model::Command::Resume(Some(app_id("A"))), "2026-01-02T03:04:05Z");
    }
    // Neither made anew nor torn down.
    world.remove_by_hand("a");
    assert_eq!(world.settle(&wanted, &policy(), &mut memory).steps(), 0);
    let down = ofop::plan::Policy { remove: [app_id("A")].into(), ..policy() };
    assert_eq!(world.settle(&wanted, &down, &mut memory).steps(), 0);
    assert_eq!(world.records.len(), 1);
    // In a changed form, it waits as well.
    suspended.handling.suspend = false;
    world.converge(&desired([suspended]), &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.replicas, 1);
}

/// Every field that is drawn below.
const FIELDS: [&str; 36] = [
    "image",
    "command",
    "args",
    "environment",
    "environment.A",
    "environment.B",
    "user",
    "labels",
    "labels.traefik.enable",
    "labels.traefik.http.routers.a.rule",
    "container_labels",
    "container_labels.traefik.enable",
    "mounts",
    "mounts[/a]",
    "mounts[/b]",
    "ulimits",
    "ulimits.nofile",
    "limits",
    "limits.cpus",
    "limits.memory",
    "reservations",
    "reservations.cpus",
    "reservations.memory",
    "constraints",
    "networks",
    "replicas",
    "ports",
    "a/image",
    "update",
    "update.order",
    "update.parallelism",
    "healthcheck",
    "stop_grace_period",
    "restart",
    "restart.max_attempts",
    "hostname",
];

fn texts(from: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(from, 0..=from.len()).prop_map(|texts| texts.into_iter().map(str::to_owned).collect())
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    const KEYS: [&str; 2] = ["traefik.enable", "traefik.http.routers.a.rule"];
    proptest::collection::btree_map(select(&KEYS[..]).prop_map(str::to_owned), "[xy]", 0..=2)
}

/// Any service, in a few values of each field.
fn specs() -> impl Strategy<Value = ServiceSpec> {
    let amount = || (proptest::option::of(1..3_i64), proptest::option::of(1..3_i64));
    let lists = (
        texts(&["sh", "-c"]),
        texts(&["x", "y"]),
        vec((select(&["A", "B", "C"][..]), "[12]"), 0..5),
        btree_set(select(&["/a", "/b", "/c"][..]), 0..3),
        btree_set(select(&["nofile", "core"][..]), 0..2),
        texts(&["node.role == worker", "node.labels.x == 1"]),
        texts(&["factory-net", "other-net"]),
        btree_set(80..83_u16, 0..3),
    );
    let options = (
        proptest::option::of(select(&[UpdateOrder::StopFirst, UpdateOrder::StartFirst][..])),
        proptest::option::of(0..3_u64),
        proptest::option::of(select(vec![Healthcheck::Disabled, Healthcheck::default()])),
        proptest::option::of(select(&[10, 20, 30][..]).prop_map(Duration::from_secs)),
        proptest::option::of(0..3_u64),
        proptest::option::of("[hk]"),
    );
    let options = options.prop_map(|(order, parallelism, healthcheck, stop_grace_period, max_attempts, hostname)| {
        let update = UpdateOptions { order, parallelism, ..UpdateOptions::default() };
        let restart = RestartOptions { max_attempts, ..RestartOptions::default() };
        ServiceOptions { update, healthcheck, stop_grace_period, restart, hostname }
    });
    let rest = ("app:[123]", proptest::option::of("[12]:1"), labels(), amount(), amount(), 0..3_u64, any::<bool>());
    (lists, rest, options).prop_map(|(lists, rest, options)| {
        let (command, args, env, mounts, ulimits, constraints, networks, ports) = lists;
        let (image, user, labels, limits, reservations, replicas, read_only) = rest;
        let mount = |target: &str| Mount::Bind { source: "/src".into(), target: target.to_owned(), read_only };
        let resources = |(nano_cpus, memory_bytes)| Resources { nano_cpus, memory_bytes };
        ServiceSpec {
            command,
            args,
            env: env.into_iter().map(|(name, value)| EnvVar::new(name, value)).collect(),
            user,
            labels,
            mounts: mounts.into_iter().map(mount).collect(),
            ulimits: ulimits.into_iter().map(|name| Ulimit { name: name.into(), soft: 1, hard: 2 }).collect(),
            limits: resources(limits),
            reservations: resources(reservations),
            constraints,
            networks,
            replicas,
            ports: ports.into_iter().map(|port| Port::tcp(port, 80)).collect(),
            options,
            ..ServiceSpec::new(name("a"), image)
        }
    })
}

/// What a service holds in a field, as text.
fn value(field: &Field, spec: &ServiceSpec, containers: &BTreeMap<String, String>) -> String {
    field.rows().map(|(row, part)| part_of(row.field, part, spec, containers) + "\n").collect()
}

fn part_of(field: OwnedField, part: Option<&str>, spec: &ServiceSpec, containers: &BTreeMap<String, String>) -> String {
    let of = |labels: &BTreeMap<String, String>| match part {
        Some(key) => format!("{:?}", labels.get(key)),
        None => format!("{labels:?}"),
    };
    let options = &spec.options;
    match field {
        OwnedField::Image => spec.image.clone(),
        OwnedField::Command => format!("{:?}", spec.command),
        OwnedField::Args => format!("{:?}", spec.args),
        OwnedField::Environment => {
            let meant = spec.env.iter().filter(|variable| part.is_none_or(|name| variable.name == *name));
            meant.map(|variable| variable.joined() + "\n").collect()
        }
        OwnedField::User => format!("{:?}", spec.user),
        OwnedField::Labels => of(&spec.labels) + &of(containers),
        OwnedField::ContainerLabels => of(containers),
        OwnedField::Mounts => {
            let bind = |mount: &&Mount| matches!(mount, Mount::Bind { target: of, .. } if part.is_none_or(|target| of == target));
            format!("{:?}", spec.mounts.iter().filter(bind).collect::<Vec<_>>())
        }
        OwnedField::Ulimits => {
            let meant = spec.ulimits.iter().filter(|limit| part.is_none_or(|name| limit.name == *name));
            format!("{:?}", meant.collect::<Vec<_>>())
        }
        OwnedField::LimitsCpus => format!("{:?}", spec.limits.nano_cpus),
        OwnedField::LimitsMemory => format!("{:?}", spec.limits.memory_bytes),
        OwnedField::ReservationsCpus => format!("{:?}", spec.reservations.nano_cpus),
        OwnedField::ReservationsMemory => format!("{:?}", spec.reservations.memory_bytes),
        OwnedField::Constraints => format!("{:?}", spec.constraints),
        OwnedField::Networks => format!("{:?}", spec.networks),
        OwnedField::Replicas => spec.replicas.to_string(),
        OwnedField::Ports => format!("{:?}", spec.ports),
        OwnedField::UpdateOrder => format!("{:?}", options.update.order),
        OwnedField::UpdateFailureAction => format!("{:?}", options.update.failure_action),
        OwnedField::UpdateMonitor => format!("{:?}", options.update.monitor),
        OwnedField::UpdateParallelism => format!("{:?}", options.update.parallelism),
        OwnedField::UpdateDelay => format!("{:?}", options.update.delay),
        OwnedField::Healthcheck => format!("{:?}", options.healthcheck),
        OwnedField::StopGracePeriod => format!("{:?}", options.stop_grace_period),
        OwnedField::RestartCondition => format!("{:?}", options.restart.condition),
        OwnedField::RestartDelay => format!("{:?}", options.restart.delay),
        OwnedField::RestartMaxAttempts => format!("{:?}", options.restart.max_attempts),
        OwnedField::RestartWindow => format!("{:?}", options.restart.window),
        OwnedField::Hostname => format!("{:?}", options.hostname),
    }
}

fn resource_of(spec: &ServiceSpec) -> DesiredResource {
    DesiredResource { services: vec![service(spec.clone())], records: Vec::new(), ..app("A", |_| {}) }
}

proptest::proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_step_ever_changes_an_ignored_field(
        made in specs(), by_hand in specs(), containers in labels(), later in specs(), fields in subsequence(&FIELDS[..], 0..5), ours: bool
    ) {
        let mut world = World::default();
        world.networks.insert("other-net".into());
        let mut memory = Memory::default();
        world.converge(&desired([resource_of(&made)]), &policy(), &mut memory);
        world.edit("a", |service| {
            service.spec = Arc::new(by_hand.clone());
            service.container_labels = containers.clone();
        });
        if !ours {
            memory = Memory::default();
        }
        let wanted = desired([ignoring(resource_of(&later), &fields)]);
        let ignored: Vec<Field> = fields.iter().map(|field| field.trim_start_matches("a/").parse().unwrap()).collect();
        let before: Vec<String> = ignored.iter().map(|field| value(field, &by_hand, &containers)).collect();
        for _ in 0..3 {
            let plan = world.pass(&wanted, &policy(), &mut memory);
            for step in plan.resources.values().flat_map(|resource| &resource.steps) {
                let Step::Service(ServiceStep::Update { spec, container_labels, .. }) = &step.step else { panic!("{step:?}") };
                let after: Vec<String> = ignored.iter().map(|field| value(field, spec, container_labels)).collect();
                assert_eq!(before, after, "{fields:?}");
                let told = step.changes.iter().find(|change| fields.contains(&change.field.as_str()));
                assert!(told.is_none(), "{told:?}");
            }
        }
        // One update at most, and everything else is as the manifest says.
        let last = world.pass(&wanted, &policy(), &mut memory);
        assert!(last.is_empty(), "{last:#?}");
        let found = one(&last, "A");
        assert_eq!((found.sync, found.drift.len()), (Sync::Synced, 0));
        let bare = world.pass(&desired([resource_of(&later)]), &policy(), &mut Memory::default());
        for change in bare.resources.values().flat_map(|resource| &resource.steps).flat_map(|step| &step.changes) {
            let field: Field = change.field.parse().unwrap();
            assert_eq!(field.to_string(), change.field, "what a plan tells can be ignored");
            let covered = ignored.iter().any(|ignored| covers(ignored, &field));
            assert!(covered, "{change:?} differs and is not ignored: {fields:?}");
        }
        // What a plan tells is told of what is ignored too, field by field.
        let told: Vec<&String> = found.ignored.iter().flat_map(|ignored| &ignored.changes).map(|change| &change.field).collect();
        let differ: Vec<&String> = bare.resources.values().flat_map(|resource| &resource.steps).flat_map(|step| &step.changes).map(|change| &change.field).collect();
        assert_eq!(told, differ);
    }
}

/// Whether to ignore one field is to ignore the other.
fn covers(ignored: &Field, field: &Field) -> bool {
    let (ignored, field) = (ignored.to_string(), field.to_string());
    let below = |group: &str| {
        field == group || field.starts_with(&format!("{group}.")) || field.starts_with(&format!("{group}["))
    };
    // A difference in the order of variables is told for all of them.
    below(&ignored)
        || below(&format!("container_{ignored}"))
        || (field == "environment" && ignored.starts_with("environment"))
}

#[test]
fn the_worlds_of_the_property_differ_in_every_field() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let mut draw = || proptest::strategy::ValueTree::current(&specs().new_tree(&mut runner).unwrap());
        let (one, other) = (draw(), draw());
        for text in FIELDS {
            let field: Field = text.trim_start_matches("a/").parse().unwrap();
            if value(&field, &one, &one.labels) != value(&field, &other, &other.labels) {
                seen.insert(text);
            }
        }
    }
    assert_eq!(seen.len(), FIELDS.len());
}
