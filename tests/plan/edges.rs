//! Rarer situations, one rule each.

use std::sync::Arc;
use std::time::Duration;

use ofop::model::record::{CoordinatorProtocol, DeviceCoordinator};
use ofop::model::{
    Availability, Condition, ConditionKind, DesiredResource, DriftType, Health, InstanceName, Mark, Observed,
    ObservedRecord, OtherFile, PruneBlock, PruneVerdict, Reason, Record, RecordId, ResourceId, Revision, ServiceId,
    ServiceStep, SpecHash, Step, StepVerb, Sync, TaskState, TaskView, UpdateState, Wait,
};
use ofop::plan::{Memory, Policy, plan};

use crate::world::{World, app, app_id, asset, desired, device, name, one, policy, uuid, verbs};

fn followed(id: &str) -> DesiredResource {
    let mut resource = app(id, |_| {});
    resource.services[0].follow_digest = true;
    resource
}

fn task(slot: u64, at: usize, state: TaskState, error: &str) -> TaskView {
    TaskView {
        id: format!("task-{slot}-{at}"),
        slot,
        state,
        wanted: state <= TaskState::Running,
        error: error.into(),
        node: String::new(),
        since: format!("2026-01-02T03:04:{at:02}Z"),
    }
}

fn set_tasks(world: &mut World, service: &str, tasks: Vec<TaskView>) {
    let id = world.services[&name(service)].id.clone();
    world.tasks.insert(id, tasks);
}

#[test]
fn a_followed_tag_is_pinned_and_updated_when_it_moves_and_left_when_its_digest_is_unknown() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([followed("A")]);
    world.digests.insert("registry/app:1".into(), "sha256:one".into());
    world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1@sha256:one");
    world.digests.insert("registry/app:1".into(), "sha256:two".into());
    let plans = world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(verbs(&plans[0]), [(StepVerb::Update, "service a".into(), Reason::ImageMoved)]);
    assert!(one(&plans[0], "A").drift.is_empty());
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1@sha256:two");
    world.digests.clear();
    assert!(world.pass(&wanted, &policy(), &mut memory).is_empty());
}

#[test]
fn a_followed_tag_that_nobody_could_resolve_runs_says_so_and_is_pinned_later() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([followed("A"), app("B", |_| {})]);
    world.unresolved.insert("registry/app:1".into(), "connection refused".into());
    let plan = world.settle(&wanted, &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1");
    let (a, b) = (one(&plan, "A"), one(&plan, "B"));
    assert_eq!((a.sync, a.health), (Sync::Synced, Health::Healthy));
    assert_eq!((a.conditions[0].kind, &*a.conditions[0].reason), (ConditionKind::Unresolved, "TagUnresolved"));
    assert!(a.conditions[0].message.ends_with("connection refused"), "{}", a.conditions[0].message);
    assert_eq!(b.conditions, [], "who follows no tag has nothing to resolve");
    world.unresolved.clear();
    world.digests.insert("registry/app:1".into(), "sha256:one".into());
    world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1@sha256:one");
}

#[test]
fn a_tag_that_moved_on_after_a_rollback_is_tried_again() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([followed("A")]);
    world.digests.insert("registry/app:1".into(), "sha256:one".into());
    world.converge(&wanted, &policy(), &mut memory);
    world.fails_update.insert(name("a"));
    world.digests.insert("registry/app:1".into(), "sha256:broken".into());
    assert_eq!(world.noted_pass(&wanted, &policy(), &mut memory).steps(), 1);
    assert_eq!(world.settle(&wanted, &policy(), &mut memory).steps(), 0);
    world.fails_update.clear();
    world.digests.insert("registry/app:1".into(), "sha256:fixed".into());
    world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1@sha256:fixed");
}

#[test]
fn a_change_of_other_fields_keeps_the_digest_that_somebody_pinned() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    world.edit("a", |service| service.spec_mut().image = "registry/app:1@sha256:pinned".into());
    world.converge(&desired([app("A", |spec| spec.replicas = 2)]), &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1@sha256:pinned");
}

#[test]
fn our_service_in_a_mode_that_no_update_changes_is_replaced_after_two_sightings() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.edit("a", |service| service.foreign_mode = Some("global mode".into()));
    let plans = world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(plans[0].steps(), 0);
    assert_eq!(one(&plans[0], "A").held[0].wait, Wait::SecondSighting);
    assert_eq!(one(&plans[0], "A").drift[0].fields, ["mode"]);
    let steps: Vec<StepVerb> = verbs(&plans[1]).into_iter().map(|(verb, ..)| verb).collect();
    assert_eq!(steps, [StepVerb::Remove, StepVerb::Create]);
    assert!(world.services[&name("a")].foreign_mode.is_none());
}

#[test]
fn what_another_instance_owns_is_a_conflict_service_or_record() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let (a, b) = (app("A", |_| {}), app("B", |_| {}));
    let other = InstanceName::new("other").unwrap();
    let mark = Mark {
        instance: other.clone(),
        resource: a.id.clone(),
        spec: a.services[0].hash.clone(),
        revision: Revision::default(),
        origin: String::new(),
        kept: Some(false),
        terms: ofop::model::RemovalTerms::default(),
        options: Vec::new(),
        run: None,
    };
    world.insert((*a.services[0].spec).clone(), Some(mark));
    let owner = ofop::model::record::RecordOwner { instance: other, resource: b.id.clone(), kept: false };
    let theirs = ObservedRecord { record: (*b.records[0]).clone(), owner: Some(owner) };
    world.records.insert(RecordId::Asset(uuid("B")), theirs.clone());
    let before = world.services.clone();
    let plan = world.settle(&desired([a, b]), &policy(), &mut memory);
    for id in ["A", "B"] {
        assert_eq!(one(&plan, id).conditions[0].reason, "OtherInstance");
    }
    assert_eq!(world.services[&name("a")], before[&name("a")]);
    assert_eq!(world.records[&RecordId::Asset(uuid("B"))], theirs);
}

#[test]
fn a_service_that_cannot_be_understood_is_neither_made_again_nor_touched() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.unreadable.insert("A".into(), "no task template".into());
    let plan = world.settle(&desired([app("A", |_| {})]), &policy(), &mut memory);
    let found = one(&plan, "A");
    assert_eq!((found.steps.len(), found.health), (0, Health::Unknown));
    assert_eq!(found.conditions[0].reason, "UnreadableService");
}

#[test]
fn an_unreadable_platform_makes_everything_unknown_and_a_registry_alone_only_its_part() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {}), app("B", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.remove_by_hand("b");
    let seen = world.observe();
    let blind = plan(&wanted, &Observed { platform: None, ..seen.clone() }, &policy(), &memory);
    assert_eq!(blind.steps(), 0);
    assert!(blind.resources.values().all(|found| (found.sync, found.health) == (Sync::Unknown, Health::Unknown)));
    let half = plan(&wanted, &Observed { registry: None, ..seen }, &policy(), &memory);
    assert_eq!(verbs(&half), [(StepVerb::Create, "service b".into(), Reason::Missing)]);
    assert_eq!((one(&half, "A").sync, one(&half, "B").sync), (Sync::Unknown, Sync::OutOfSync));
}

#[test]
fn an_asset_missing_from_a_cut_registry_is_not_missing() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.now += Duration::from_secs(60);
    world.records.clear();
    world.registry_complete = false;
    let plan = world.settle(&wanted, &policy(), &mut memory);
    assert_eq!((plan.steps(), one(&plan, "A").sync), (0, Sync::Unknown));
}

#[test]
fn what_stays_on_its_way_beyond_the_deadline_is_degraded_and_says_why() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    set_tasks(&mut world, "a", vec![task(1, 1, TaskState::Pending, "no suitable node (1 node not available)")]);
    let plan = world.pass(&wanted, &policy(), &mut memory);
    let found = one(&plan, "A");
    assert_eq!((found.sync, found.health), (Sync::Synced, Health::Progressing));
    assert_eq!(found.conditions[0].reason, "NoSuitableNode");
    let since = found.conditions[0].since;
    world.now += policy().progress_deadline;
    let plan = world.pass(&wanted, &policy(), &mut memory);
    let found = one(&plan, "A");
    assert_eq!(found.health, Health::Degraded);
    assert_eq!(found.conditions[0].since, since, "a condition that holds keeps its time");
    assert!(found.conditions.iter().any(|condition| condition.reason == "ProgressDeadlineExceeded"));
}

#[test]
fn a_restart_loop_is_degraded_and_not_healthy_in_between() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    let failed: Vec<TaskView> = (1..4).map(|at| task(1, at, TaskState::Failed, "task: non-zero exit (1)")).collect();
    let mut tasks = failed.clone();
    tasks.push(task(1, 9, TaskState::Ready, ""));
    set_tasks(&mut world, "a", tasks);
    let plan = world.pass(&wanted, &policy(), &mut memory);
    let found = one(&plan, "A");
    assert_eq!((found.health, found.conditions[0].reason.as_str()), (Health::Degraded, "RestartLoop"));
    let mut tasks = failed;
    tasks.push(task(1, 10, TaskState::Running, ""));
    set_tasks(&mut world, "a", tasks);
    assert_eq!(one(&world.pass(&wanted, &policy(), &mut memory), "A").health, Health::Progressing);
    world.now += Duration::from_secs(60);
    assert_eq!(one(&world.pass(&wanted, &policy(), &mut memory), "A").health, Health::Healthy);
}

#[test]
fn what_a_node_says_of_an_image_it_cannot_get_is_a_missing_image_on_every_engine() {
    let unresolved = "failed to resolve reference \"r:5000/plant/";
    for (error, reason) in [
        ("No such image: r:5000/plant/monitor:1".to_owned(), "ImageMissing"),
        (format!("{unresolved}monitor:1\": r:5000/plant/monitor:1: not found"), "ImageMissing"),
        (format!("{unresolved}network-monitor:1\": r:5000/plant/network-monitor:1: not found"), "ImageMissing"),
        (format!("{unresolved}monitor:1\": dial tcp 10.0.0.1:5000: connect: connection refused"), "ImageMissing"),
        (format!("{unresolved}m:1\": pull access denied, repository does not exist"), "ImageMissing"),
        ("network factory-net not found".to_owned(), "NetworkMissing"),
        ("no suitable node (scheduling constraints not satisfied on 1 node)".to_owned(), "NoSuitableNode"),
        ("invalid mount config".to_owned(), "TaskRejected"),
    ] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        let wanted = desired([app("A", |_| {})]);
        world.converge(&wanted, &policy(), &mut memory);
        set_tasks(&mut world, "a", vec![task(1, 1, TaskState::Rejected, &error)]);
        let plan = world.pass(&wanted, &policy(), &mut memory);
        assert_eq!(one(&plan, "A").conditions[0].reason, reason, "{error}");
    }
}

#[test]
fn an_update_that_the_engine_paused_is_degraded_and_not_pushed_again() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.edit("a", |service| service.update = UpdateState::Paused("task failed".into()));
    let plan = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!((plan.steps(), one(&plan, "A").health), (0, Health::Degraded));
}

fn opcua(id: &str) -> DesiredResource {
    let mut resource = device(id);
    resource.services.clear();
    let told =
        Record::CoordinatorDevice { device: uuid(id), protocol: CoordinatorProtocol::Opcua, config: "{}".into() };
    let connector = Record::Connector { device: uuid(id), config: "{}".into() };
    resource.records = vec![Arc::new(told), Arc::new(Record::Asset(asset(id, "Device", ""))), Arc::new(connector)];
    resource
}

#[test]
fn a_device_of_a_coordinator_waits_until_one_is_available() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let (id, wanted) = (ResourceId::device(uuid("PLC-1")), desired([opcua("PLC-1")]));
    let coordinator =
        ObservedRecord { record: Record::Asset(asset("COORD", "OPCUA.Coordinator", "coord")), owner: None };
    world.records.insert(RecordId::Asset(uuid("COORD")), coordinator);
    world.availability.insert(uuid("COORD"), Availability::Unavailable);
    let plan = world.settle(&wanted, &policy(), &mut memory);
    let found = &plan.resources[&id];
    assert_eq!((found.steps.len(), found.held.len(), found.health), (0, 3, Health::Waiting));
    assert_eq!(found.conditions[0].reason, "CoordinatorMissing");
    world.availability.insert(uuid("COORD"), Availability::Available);
    let plans = world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(verbs(&plans[0]).len(), 3);
    assert_eq!(plans.last().unwrap().resources[&id].health, Health::Healthy);
    // taken back: the coordinator lets go first
    let plans = world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    let first = plans.iter().map(verbs).find(|steps| steps.iter().any(|(verb, ..)| *verb == StepVerb::Deregister));
    let objects: Vec<String> = first
        .unwrap()
        .into_iter()
        .filter(|(verb, ..)| *verb == StepVerb::Deregister)
        .map(|(_, object, _)| object)
        .collect();
    assert_eq!(objects, ["coordinator-device PLC-1", "connector PLC-1", "asset PLC-1"]);
}

/// A coordinator, and a device that it was told of.
fn coordinated(world: &mut World, memory: &mut Memory) -> ResourceId {
    let coordinator =
        ObservedRecord { record: Record::Asset(asset("COORD", "OPCUA.Coordinator", "coord")), owner: None };
    world.records.insert(RecordId::Asset(uuid("COORD")), coordinator);
    world.availability.insert(uuid("COORD"), Availability::Available);
    world.converge(&desired([opcua("PLC-1"), app("A", |_| {})]), &policy(), memory);
    let known = DeviceCoordinator { uuid: uuid("COORD"), protocol: CoordinatorProtocol::Opcua };
    world.coordinators.insert(uuid("PLC-1"), known);
    ResourceId::device(uuid("PLC-1"))
}

/// The coordinator may know the device or not: telling it was cut short, or it has started anew.
fn unsure(world: &mut World) {
    let found = world.records.get_mut(&RecordId::CoordinatorDevice(uuid("PLC-1"))).unwrap();
    found.record = Record::CoordinatorDevice {
        device: uuid("PLC-1"),
        protocol: CoordinatorProtocol::Opcua,
        config: String::new(),
    };
}

#[test]
fn a_device_that_its_coordinator_may_not_know_is_told_again_or_taken_back() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    coordinated(&mut world, &mut memory);
    memory.expected.clear();
    unsure(&mut world);
    let wanted = desired([opcua("PLC-1"), app("A", |_| {})]);
    let plans = world.converge(&wanted, &policy(), &mut memory);
    let again = (StepVerb::Register, "coordinator-device PLC-1".to_owned(), Reason::Unregistered);
    assert_eq!(verbs(&plans[0]), [again]);

    // Nothing but the mark and the doubt is left when the manifest goes, as after a crash.
    unsure(&mut world);
    world.records.remove(&RecordId::Connector(uuid("PLC-1")));
    let Some(ObservedRecord { record: Record::Asset(asset), .. }) =
        world.records.get_mut(&RecordId::Asset(uuid("PLC-1")))
    else {
        panic!("no asset");
    };
    asset.asset_type.clear();
    let plans = world.converge(&desired([app("A", |_| {})]), &policy(), &mut Memory::default());
    let steps: Vec<_> = plans.iter().flat_map(verbs).map(|(verb, object, _)| (verb, object)).collect();
    assert_eq!(
        steps,
        [(StepVerb::Deregister, "coordinator-device PLC-1".to_owned()), (StepVerb::Forget, "asset PLC-1".to_owned())]
    );
}

#[test]
fn no_record_is_taken_away_on_a_sighting_that_merely_stands_in() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    coordinated(&mut world, &mut memory);
    let without = desired([app("A", |_| {})]);
    world.pass(&without, &policy(), &mut memory);
    world.now += Duration::from_secs(100);
    let seen = world.observe();
    let taken = |stands_in: bool| {
        let plan = plan(&without, &Observed { registry_stands_in: stands_in, ..seen.clone() }, &policy(), &memory);
        verbs(&plan).len()
    };
    assert_eq!((taken(true), taken(false)), (0, 3));
}

#[test]
fn a_device_waits_for_its_own_coordinator_while_that_one_is_registered() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let id = coordinated(&mut world, &mut memory);
    let other = ObservedRecord { record: Record::Asset(asset("OTHER", "OPCUA.Coordinator", "other")), owner: None };
    world.records.insert(RecordId::Asset(uuid("OTHER")), other);
    world.availability.insert(uuid("OTHER"), Availability::Available);
    world.availability.insert(uuid("COORD"), Availability::Unavailable);
    let wanted = desired([opcua("PLC-1"), app("A", |_| {})]);
    let found = world.settle(&wanted, &policy(), &mut memory).resources[&id].clone();
    assert_eq!((found.steps.len(), found.health), (0, Health::Waiting));
    assert!(found.conditions[0].message.contains("coordinator COORD"), "{:?}", found.conditions);
    let without = desired([app("A", |_| {})]);
    let found = world.settle(&without, &policy(), &mut memory).resources[&id].clone();
    assert!(found.conditions.iter().any(|note| note.message.contains("coordinator COORD")), "{:?}", found.conditions);
    assert!(world.records.contains_key(&RecordId::CoordinatorDevice(uuid("PLC-1"))), "nobody has let it go");
    // it is gone for good
    world.records.remove(&RecordId::Asset(uuid("COORD")));
    world.converge(&without, &policy(), &mut memory);
    assert!(!world.records.contains_key(&RecordId::CoordinatorDevice(uuid("PLC-1"))));
}

#[test]
fn nobody_is_told_of_a_device_whose_asset_is_somebody_elses() {
    let us = ofop::model::record::RecordOwner {
        instance: InstanceName::new("another").unwrap(),
        resource: ResourceId::device(uuid("PLC-1")),
        kept: false,
    };
    for (kind, owner) in [("Device", Some(us)), ("OpenFactoryApp", None)] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        for (name, kind, owner) in [("COORD", "OPCUA.Coordinator", None), ("PLC-1", kind, owner)] {
            let record = ObservedRecord { record: Record::Asset(asset(name, kind, "")), owner };
            world.records.insert(RecordId::Asset(uuid(name)), record);
        }
        world.availability.insert(uuid("COORD"), Availability::Available);
        let plan = world.settle(&desired([opcua("PLC-1")]), &policy(), &mut memory);
        let found = &plan.resources[&ResourceId::device(uuid("PLC-1"))];
        assert_eq!(found.steps, [], "{kind}");
        assert!(!world.records.contains_key(&RecordId::CoordinatorDevice(uuid("PLC-1"))), "{kind}");
    }
}

#[test]
fn records_wait_for_the_last_tasks_but_not_for_ever() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let without = desired([app("A", |_| {})]);
    let id = world.services[&name("b")].id.clone();
    world.pass(&without, &policy(), &mut memory);
    world.pass(&without, &policy(), &mut memory);
    assert!(!world.services.contains_key(&name("b")));
    // its node is cut off: the engine goes on to call the task running
    let started = world.now;
    let stuck = vec![task(1, 1, TaskState::Running, "")];
    for mut memory in [memory, Memory::default()] {
        let mut world = world.clone();
        let mut deregistered = None;
        while deregistered.is_none() {
            world.tasks.insert(id.clone(), stuck.clone());
            let plan = world.pass(&without, &policy(), &mut memory);
            if verbs(&plan).iter().any(|(verb, ..)| *verb == StepVerb::Deregister) {
                deregistered = Some(world.now - started);
            } else {
                assert_eq!(one(&plan, "B").held[0].wait, Wait::TasksEnding(vec![id.clone()]));
            }
        }
        let waited = deregistered.unwrap().as_secs();
        assert!((60..=80).contains(&waited), "waited {waited} s");
    }
}

#[test]
fn tasks_of_other_peoples_services_hold_up_nothing_that_we_remember() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {}), app("C", |_| {})]), &policy(), &mut memory);
    let without = desired([app("A", |_| {})]);
    world.pass(&without, &policy(), &mut memory);
    world.pass(&without, &policy(), &mut memory);
    let other = ServiceId("id-of-c-0000000000000000".into());
    memory.departing.insert(other.clone(), app_id("C"));
    world.tick();
    world.tasks.insert(other, vec![task(1, 1, TaskState::Running, "")]);
    let plan = world.pass(&without, &policy(), &mut memory);
    assert_eq!(one(&plan, "B").steps[0].step.verb(), StepVerb::Deregister);
    assert!(one(&plan, "C").steps.is_empty());
}

#[test]
fn rows_that_come_back_are_taken_back_again_before_the_mark_is_cleared() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let without = desired([app("A", |_| {})]);
    let id = RecordId::Asset(uuid("B"));
    let live = world.records[&id].clone();
    let (mut deregistered, mut back) = (Vec::new(), false);
    for _ in 0..60 {
        let plan = world.pass(&without, &policy(), &mut memory);
        for (verb, ..) in verbs(&plan) {
            if verb == StepVerb::Deregister {
                deregistered.push(world.now);
            }
        }
        // a late row, once, before the rows have stayed away for long enough
        if !back && deregistered.first().is_some_and(|at| world.now > *at + policy().forget_after() / 2) {
            assert!(world.records.contains_key(&id), "the mark was cleared too soon");
            world.records.insert(id.clone(), live.clone());
            back = true;
        }
    }
    assert_eq!(deregistered.len(), 2);
    assert!(!world.records.contains_key(&id));
}

#[test]
fn a_service_that_its_resource_needs_no_longer_goes_after_the_others_were_updated() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([device("CNC-1")]), &policy(), &mut memory);
    let mut external = device("CNC-1");
    external.services.remove(1);
    external.services.remove(0);
    let mut producer = (*external.services[0].spec).clone();
    producer.image = "registry/producer:2".into();
    external.services[0] = crate::world::service(producer);
    let wanted = desired([external]);
    let off = Policy { prune: false, ..policy() };
    let kept = world.settle(&wanted, &off, &mut memory.clone());
    assert_eq!((kept.steps(), kept.prune, world.services.len()), (0, PruneVerdict::Nothing, 3));
    let plans = world.converge(&wanted, &policy(), &mut memory);
    let steps: Vec<String> = plans.iter().flat_map(verbs).map(|(verb, object, _)| format!("{verb} {object}")).collect();
    assert_eq!(steps, ["remove service cnc-1-agent", "remove service cnc-1-adapter"]);
}

#[test]
fn a_leftover_stays_while_what_replaces_it_cannot_come() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([device("CNC-1")]), &policy(), &mut memory);
    let mut external = device("CNC-1");
    external.services.remove(1);
    let mut producer = (*external.services[1].spec).clone();
    producer.networks = vec!["absent-net".into()];
    external.services[1] = crate::world::service(producer);
    let plan = world.settle(&desired([external]), &policy(), &mut memory);
    assert_eq!((plan.steps(), world.services.len()), (0, 3));
}

#[test]
fn what_an_invalid_file_may_still_describe_is_kept_and_is_no_drift() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let mut invalid = desired([app("A", |_| {})]);
    invalid.complete = false;
    let plan = world.pass(&invalid, &policy(), &mut Memory::default());
    let found = one(&plan, "B");
    assert_eq!((found.sync, found.drift.len()), (Sync::Unknown, 0));
    let plan = world.pass(&desired([app("A", |_| {})]), &policy(), &mut Memory::default());
    assert_eq!(one(&plan, "B").drift[0].drift, DriftType::Orphaned);
}

#[test]
fn a_person_tears_down_what_the_manifests_describe_and_nothing_else_moves() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {}), app("B", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.edit("b", |service| service.spec_mut().replicas = 9);
    let down = Policy { remove: [app_id("A")].into(), scope: Some([app_id("A")].into()), prune: false, ..policy() };
    let plans = world.converge(&wanted, &down, &mut memory);
    assert!(plans.iter().flat_map(verbs).all(|(_, _, reason)| reason == Reason::Requested));
    assert_eq!(world.services.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(world.services[&name("b")].spec.replicas, 9, "out of scope");
}

#[test]
fn pruning_that_is_off_keeps_and_reports() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let off = Policy { prune: false, ..policy() };
    let plan = world.settle(&desired([app("A", |_| {})]), &off, &mut memory);
    assert_eq!(plan.prune, PruneVerdict::Blocked { resources: vec![app_id("B")], reason: PruneBlock::Disabled });
    assert_eq!(one(&plan, "B").sync, Sync::OutOfSync);
    assert_eq!(world.services.len(), 2);
}

#[test]
fn a_suspended_resource_counts_neither_as_removed_nor_as_managed() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let all = ["A", "B", "C"].map(|id| app(id, |_| {}));
    world.converge(&desired(all), &policy(), &mut memory);
    memory.command(
        &ofop::model::Command::Suspend(Some(app_id("A")), ofop::model::Term::default()),
        "2026-01-02T03:04:05Z",
    );
    let plan = world.settle(&desired([app("D", |_| {})]), &policy(), &mut memory);
    assert!(
        matches!(plan.prune, PruneVerdict::Blocked { reason: PruneBlock::Guard { removing: 2, .. }, .. }),
        "{:?}",
        plan.prune
    );
    memory.command(&ofop::model::Command::Reconcile { confirm_prune: true }, "");
    world.settle(&desired([app("D", |_| {})]), &policy(), &mut memory);
    assert_eq!(world.services.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["a", "d"]);
}

#[test]
fn another_folders_resources_do_not_make_a_removal_of_everything_look_small() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let other = desired(["X", "Y", "Z"].map(|id| app(id, |_| {})));
    let plan = world.settle(&other, &policy(), &mut memory);
    assert!(matches!(plan.prune, PruneVerdict::Blocked { reason: PruneBlock::Guard { removing: 2, managed: 2 }, .. }));
    assert_eq!(world.services.len(), 5);
    // the right folder again, less one: that is a wish
    let back = desired([app("A", |_| {}), app("X", |_| {}), app("Y", |_| {}), app("Z", |_| {})]);
    world.converge(&back, &policy(), &mut memory);
    assert_eq!(world.services.len(), 4);
}

#[test]
fn a_service_that_moves_to_another_resource_changes_its_mark_alone() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("press", |_| {}), app("Z", |_| {})]), &policy(), &mut memory);
    let id = world.services[&name("press")].id.clone();
    let renamed = app("PRESS", |spec| spec.env[0].value = "press".into());
    let plans = world.converge(&desired([renamed, app("Z", |_| {})]), &policy(), &mut memory);
    let update = one(&plans[0], "PRESS").steps.iter().find(|step| step.step.verb() == StepVerb::Update).unwrap();
    let fields: Vec<&str> = update.changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!((update.reason, fields), (Reason::ManifestChanged, vec!["mark.resource"]));
    assert!(matches!(&update.step, Step::Service(ServiceStep::Update { id: found, .. }) if *found == id));
    assert_eq!(world.services[&name("press")].id, id);
    assert!(!world.records.contains_key(&RecordId::Asset(uuid("press"))), "the old asset is taken back");
}

#[test]
fn two_resources_that_want_one_name_are_a_conflict_of_the_later() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let plan = world.settle(&desired([app("PRESS", |_| {}), app("press", |_| {})]), &policy(), &mut memory);
    assert_eq!(one(&plan, "PRESS").sync, Sync::Synced);
    assert_eq!(one(&plan, "press").conditions[0].reason, "NameTaken");
}

#[test]
fn registering_anew_what_was_just_taken_back_does_not_trust_the_old_row() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let both = desired([app("A", |_| {}), app("B", |_| {})]);
    world.converge(&both, &policy(), &mut memory);
    world.now += Duration::from_secs(60);
    let id = RecordId::Asset(uuid("B"));
    memory.expected.insert(id.clone(), (None, world.now + Duration::from_secs(10)));
    let plan = world.pass(&both, &policy(), &mut memory);
    assert_eq!(verbs(&plan).len(), 1, "the tombstone is on its way: the row that is still seen will go");
    assert_eq!(verbs(&plan)[0].1, "asset B");
}

#[test]
fn a_rollback_of_an_earlier_update_is_not_mistaken_for_one_of_the_update_just_sent() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    world.edit("a", |service| service.update = UpdateState::RollbackCompleted("long ago".into()));
    let wanted = desired([app("A", |spec| spec.image = "registry/app:2".into())]);
    // the answer is lost and the list is stale: the next pass sees the version that the update was planned on
    let observed = world.observe();
    let first = plan(&wanted, &observed, &policy(), &memory);
    memory.learn(&wanted, &observed, &first);
    let step = &one(&first, "A").steps[0];
    let lost = Err(ofop::model::StepFailure::new(ofop::model::FailureKind::Ambiguous, "timed out"));
    memory.step_done(&policy(), &app_id("A"), step, &lost, world.now);
    world.converge(&wanted, &policy(), &mut memory);
    assert!(memory.rolled_back.is_empty());
}

/// What another version asked for in other words.
fn other_hash(world: &mut World, kept: Option<bool>) {
    world.edit("a", |service| {
        let mark = service.mark.as_mut().unwrap();
        mark.spec = SpecHash("of another version".into());
        mark.kept = kept;
    });
}

#[test]
fn a_hash_that_another_version_computed_differently_restarts_nothing_on_swarm() {
    let wanted = desired([app("A", |_| {})]);
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&wanted, &policy(), &mut memory);
    other_hash(&mut world, Some(false));
    let before = world.services[&name("a")].spec.clone();
    let plan = world.pass(&wanted, &policy(), &mut memory);
    let [step] = one(&plan, "A").steps.as_slice() else { panic!("{plan:#?}") };
    let Step::Service(ServiceStep::Update { spec, .. }) = &step.step else { panic!("{step:?}") };
    assert_eq!(*spec, before, "the mark alone is written, with the spec as it was found");
    assert_eq!(step.changes.iter().map(|change| change.field.as_str()).collect::<Vec<_>>(), ["mark.spec"]);
    assert!(world.pass(&wanted, &policy(), &mut memory).is_empty());
}

#[test]
fn a_hash_that_another_version_computed_differently_replaces_no_container() {
    let wanted = desired([app("A", |_| {})]);
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&wanted, &policy(), &mut memory);
    other_hash(&mut world, None);
    let plan = world.pass(&wanted, &policy(), &mut memory);
    assert!(plan.is_empty() && one(&plan, "A").sync == Sync::Synced, "{plan:#?}");
    // A field that differs is another matter.
    world.edit("a", |service| service.spec_mut().image = "somebody/else".into());
    assert_eq!(world.pass(&wanted, &policy(), &mut memory).steps(), 1);
}

#[test]
fn a_file_that_is_there_and_no_manifest_any_more_keeps_what_it_described_also_after_a_restart() {
    let wanted = desired([app("A", |_| {}), app("B", |_| {}), app("C", |_| {})]);
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&wanted, &policy(), &mut memory);
    // The folder is named otherwise now, and nothing is remembered.
    let mut emptied = desired([app("A", |_| {})]);
    emptied.others = vec![OtherFile::new("/srv/plant/app_B.yml", "is empty"), OtherFile::new("xapp_C.yml", "is empty")];
    let mut memory = Memory::default();
    let plan = world.settle(&emptied, &policy(), &mut memory);
    let held = one(&plan, "B");
    let file = "/srv/plant/app_B.yml".into();
    assert_eq!(held.held[0].wait, Wait::Prune(PruneBlock::NoLongerManifest { file }));
    let blocked = |condition: &&Condition| condition.kind == ConditionKind::PruneBlocked;
    assert_eq!(held.conditions.iter().find(blocked).unwrap().reason, "NoLongerManifest");
    assert!(world.services.contains_key(&name("b")) && !world.services.contains_key(&name("c")));
    // A person may remove it all the same, and so does who deletes the file.
    let down = Policy { remove: [app_id("B")].into(), scope: Some([app_id("B")].into()), ..policy() };
    world.clone().converge(&emptied, &down, &mut memory.clone());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    assert!(!world.services.contains_key(&name("b")));
}
