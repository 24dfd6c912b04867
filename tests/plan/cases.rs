//! One rule each, on a world in memory. Every case that applies a plan ends with an empty one.

use std::time::Duration;

use ofop::model::{
    ConditionKind, DriftType, Health, PruneBlock, PruneVerdict, Reason, Record, RecordId, ServiceStep, Step, StepVerb,
    Sync, Wait,
};
use ofop::plan::Memory;

use crate::world::{World, app, app_id, desired, device, name, one, policy, uuid, verbs};

#[test]
fn a_new_app_is_created_then_registered_and_then_left_alone() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("SCHEDULER", |_| {})]);
    let plans = world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(
        verbs(&plans[0]),
        [
            (StepVerb::Create, "service scheduler".into(), Reason::New),
            (StepVerb::Register, "asset SCHEDULER".into(), Reason::New),
        ]
    );
    assert_eq!(plans.len(), 2);
    let after = one(&plans[1], "SCHEDULER");
    assert_eq!((after.sync, after.health), (Sync::Synced, Health::Healthy));
    assert!(after.drift.is_empty());
}

#[test]
fn a_record_that_will_expire_is_written_again_and_is_no_drift() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("SCHEDULER", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.now += policy().expectation;
    // What was written long ago is expected no longer, and what was compared is not compared again.
    assert!((0..2).all(|_| world.pass(&wanted, &policy(), &mut memory).is_empty()));
    world.expiring.insert(RecordId::Asset(uuid("SCHEDULER")));
    let plan = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!(verbs(&plan), [(StepVerb::Register, "asset SCHEDULER".into(), Reason::Expiring)]);
    assert!(one(&plan, "SCHEDULER").drift.is_empty());
    let again = world.pass(&wanted, &policy(), &mut memory);
    assert!(verbs(&again).is_empty(), "what was just written is not written again until it shows: {again:?}");
}

#[test]
fn a_device_starts_adapter_agent_producer_and_ends_in_reverse_before_its_records() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let plans = world.converge(&desired([device("CNC-1"), app("A", |_| {})]), &policy(), &mut memory);
    let objects: Vec<String> = verbs(&plans[0]).into_iter().map(|(_, object, _)| object).collect();
    assert_eq!(
        objects[2..],
        [
            "service cnc-1-adapter",
            "service cnc-1-agent",
            "service cnc-1-producer",
            "asset CNC-1",
            "asset CNC-1-AGENT",
            "asset CNC-1-PRODUCER",
            "connector CNC-1",
        ]
    );
    let plans = world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    let removals: Vec<Vec<String>> = plans
        .iter()
        .map(|plan| verbs(plan).into_iter().map(|(verb, object, _)| format!("{verb} {object}")).collect())
        .filter(|steps: &Vec<String>| !steps.is_empty())
        .collect();
    assert_eq!(
        removals,
        [
            vec!["remove service cnc-1-producer", "remove service cnc-1-agent", "remove service cnc-1-adapter"],
            vec![
                "deregister connector CNC-1",
                "deregister asset CNC-1-PRODUCER",
                "deregister asset CNC-1-AGENT",
                "deregister asset CNC-1"
            ],
            vec!["forget asset CNC-1", "forget asset CNC-1-AGENT", "forget asset CNC-1-PRODUCER"],
        ]
    );
    assert!(
        plans[0].resources.values().any(|resource| resource.held.iter().any(|held| held.wait == Wait::SecondSighting))
    );
    assert_eq!(world.services.len(), 1);
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_changed_manifest_updates_and_is_no_drift() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    let wanted = desired([app("A", |spec| spec.image = "registry/app:2".into())]);
    let plans = world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(verbs(&plans[0]), [(StepVerb::Update, "service a".into(), Reason::ManifestChanged)]);
    assert!(one(&plans[0], "A").drift.is_empty());
    assert_eq!(one(&plans[0], "A").sync, Sync::OutOfSync);
}

#[test]
fn an_edit_by_hand_is_drift_and_is_put_back() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.edit("a", |service| {
        service.spec_mut().env[1].value = "other".into();
        service.spec_mut().replicas = 3;
    });
    let plans = world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(verbs(&plans[0]), [(StepVerb::Update, "service a".into(), Reason::Modified)]);
    let drift = &one(&plans[0], "A").drift;
    assert_eq!(
        (drift[0].drift, drift[0].fields.clone()),
        (DriftType::Modified, vec!["environment.TOKEN".into(), "replicas".into()])
    );
    assert!(!format!("{:?}", plans[0]).contains("s3cret"), "a value of the environment shows");
}

#[test]
fn a_service_removed_by_hand_is_missing_and_is_made_again() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.remove_by_hand("a");
    // also when nothing is remembered: the registry still names it
    for mut memory in [memory, Memory::default()] {
        let mut world = world.clone();
        let plans = world.converge(&wanted, &policy(), &mut memory);
        assert_eq!(verbs(&plans[0]), [(StepVerb::Create, "service a".into(), Reason::Missing)]);
        assert_eq!(one(&plans[0], "A").drift[0].drift, DriftType::Missing);
    }
}

#[test]
fn defaults_orders_digests_and_other_peoples_labels_are_no_difference() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |spec| {
        spec.networks.push("other-net".into());
        spec.constraints = vec!["node.role == worker".into(), "node.labels.x == 1".into()];
    })]);
    world.networks.insert("other-net".into());
    world.converge(&wanted, &policy(), &mut memory);
    world.edit("a", |service| {
        service.spec_mut().networks.reverse();
        service.spec_mut().constraints.reverse();
        service.spec_mut().env.reverse();
        service.spec_mut().image = "registry/app:1@sha256:aaaa".into();
        service.spec_mut().labels.insert("team".into(), "blue".into());
        service.container_labels.insert("team".into(), "blue".into());
    });
    assert!(world.pass(&wanted, &policy(), &mut memory).is_empty());
}

#[test]
fn a_strangers_service_under_our_name_is_a_conflict_and_left_alone() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let resource = app("A", |_| {});
    let mut foreign = (*resource.services[0].spec).clone();
    foreign.image = "somebody/else:1".into();
    world.insert(foreign, None);
    let before = world.services.clone();
    let plan = world.settle(&desired([resource]), &policy(), &mut memory);
    assert_eq!(plan.steps(), 0);
    let found = one(&plan, "A");
    assert_eq!((found.sync, found.health), (Sync::OutOfSync, Health::Degraded));
    assert_eq!(found.conditions[0].kind, ConditionKind::Conflict);
    assert_eq!(world.services, before);
    assert!(world.records.is_empty(), "nothing may point at a stranger's service");
}

#[test]
fn nothing_is_removed_when_a_manifest_is_invalid_or_a_list_is_cut() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let mut invalid = desired([app("A", |_| {})]);
    invalid.complete = false;
    let plan = world.settle(&invalid, &policy(), &mut memory);
    assert_eq!(
        plan.prune,
        PruneVerdict::Blocked { resources: vec![app_id("B")], reason: PruneBlock::InvalidManifests }
    );
    assert!(world.services.contains_key(&name("b")));
    world.platform_complete = false;
    let plan = world.settle(&desired([app("A", |_| {})]), &policy(), &mut memory);
    assert_eq!(
        plan.prune,
        PruneVerdict::Blocked { resources: vec![app_id("B")], reason: PruneBlock::IncompleteObservation }
    );
    assert!(world.services.contains_key(&name("b")));
}

#[test]
fn everything_at_once_is_guarded_until_a_person_confirms_and_then_goes_to_the_end() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let empty = desired([]);
    let plan = world.settle(&empty, &policy(), &mut memory);
    assert!(matches!(plan.prune, PruneVerdict::Blocked { reason: PruneBlock::Guard { removing: 2, managed: 2 }, .. }));
    assert_eq!(world.services.len(), 2);
    memory.command(&ofop::model::Command::Reconcile { confirm_prune: true }, "");
    world.converge(&empty, &policy(), &mut memory);
    assert!(world.services.is_empty());
    assert!(world.records.is_empty());
}

#[test]
fn the_last_resource_of_an_empty_directory_is_guarded_and_one_of_several_is_not() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    world.settle(&desired([]), &policy(), &mut memory);
    assert_eq!(world.services.len(), 1);
    world.converge(&desired([app("B", |_| {})]), &policy(), &mut memory);
    assert_eq!(world.services.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn an_update_that_the_engine_rolled_back_is_sent_once_and_held_until_the_manifest_changes() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    world.fails_update.insert(name("a"));
    let bad = desired([app("A", |spec| spec.image = "registry/app:broken".into())]);
    assert_eq!(world.noted_pass(&bad, &policy(), &mut memory).steps(), 1);
    for _ in 0..5 {
        let plan = world.pass(&bad, &policy(), &mut memory);
        assert_eq!(plan.steps(), 0);
        assert_eq!(one(&plan, "A").health, Health::RolledBack);
        assert_eq!(one(&plan, "A").held[0].wait, Wait::RolledBack);
    }
    memory.command(&ofop::model::Command::Resume(Some(app_id("A"))), "2026-01-02T03:04:05Z");
    assert_eq!(world.noted_pass(&bad, &policy(), &mut memory).steps(), 1, "a person may have it tried again");
    world.fails_update.clear();
    let good = desired([app("A", |spec| spec.image = "registry/app:good".into())]);
    world.converge(&good, &policy(), &mut memory);
}

#[test]
fn a_suspended_resource_shows_its_drift_and_is_left_alone() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    memory.command(
        &ofop::model::Command::Suspend(Some(app_id("A")), ofop::model::Term::default()),
        "2026-01-02T03:04:05Z",
    );
    world.edit("a", |service| service.spec_mut().replicas = 7);
    let plan = world.settle(&wanted, &policy(), &mut memory);
    let found = one(&plan, "A");
    assert_eq!((found.health, found.sync), (Health::Suspended, Sync::OutOfSync));
    assert_eq!(found.drift[0].drift, DriftType::Modified);
    memory.command(&ofop::model::Command::Resume(Some(app_id("A"))), "2026-01-02T03:04:05Z");
    world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.replicas, 1);
}

#[test]
fn a_missing_network_is_waited_for() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.networks.clear();
    let wanted = desired([app("A", |_| {})]);
    let plan = world.settle(&wanted, &policy(), &mut memory);
    let found = one(&plan, "A");
    assert_eq!((found.steps.len(), found.health), (0, Health::Waiting));
    assert_eq!(found.conditions[0].reason, "NetworkMissing");
    world.networks.insert("factory-net".into());
    world.converge(&wanted, &policy(), &mut memory);
}

#[test]
fn surplus_replicas_lose_their_assets_after_the_service_has_shrunk() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |spec| spec.replicas = 3)]), &policy(), &mut memory);
    let plans = world.converge(&desired([app("A", |spec| spec.replicas = 2)]), &policy(), &mut memory);
    assert_eq!(verbs(&plans[0]), [(StepVerb::Update, "service a".into(), Reason::ManifestChanged)]);
    assert!(plans.iter().all(|plan| plan.prune == PruneVerdict::Nothing), "the resource itself stays");
    assert!(!world.records.contains_key(&RecordId::Asset(uuid("A-3"))));
    assert!(world.records.contains_key(&RecordId::Asset(uuid("A-2"))));
}

#[test]
fn what_was_just_written_counts_as_written_for_a_bounded_time() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    // the registry loses sight of what was written, as one that follows with a lag does
    let record = world.records.remove(&RecordId::Asset(uuid("A"))).unwrap();
    assert!(world.pass(&wanted, &policy(), &mut memory).is_empty());
    world.now += Duration::from_secs(60);
    let plan = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!(verbs(&plan), [(StepVerb::Register, "asset A".into(), Reason::Unregistered)]);
    assert_eq!(world.records[&RecordId::Asset(uuid("A"))], record);
}

#[test]
fn a_stale_record_is_drift_and_is_written_again() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.now += Duration::from_secs(60);
    if let Record::Asset(asset) = &mut world.records.get_mut(&RecordId::Asset(uuid("A"))).unwrap().record {
        asset.docker_service = "elsewhere".into();
    }
    let plan = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!(verbs(&plan), [(StepVerb::Register, "asset A".into(), Reason::StaleRecord)]);
    assert_eq!(one(&plan, "A").drift[0].drift, DriftType::StaleRecord);
}

#[test]
fn a_service_of_the_command_line_is_adopted_by_its_asset_or_by_being_equal() {
    let resource = app("A", |_| {});
    let asset = (*resource.records[0]).clone();
    for (differs, registered) in [(false, false), (true, true)] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        let mut spec = (*resource.services[0].spec).clone();
        if differs {
            spec.env.pop();
        }
        world.insert(spec, None);
        if registered {
            let record = ofop::model::ObservedRecord { record: asset.clone(), owner: None };
            world.records.insert(RecordId::Asset(uuid("A")), record);
        }
        let id = world.services[&name("a")].id.clone();
        let plans = world.converge(&desired([resource.clone()]), &policy(), &mut memory);
        let step = &one(&plans[0], "A").steps[0];
        assert_eq!(step.reason, Reason::Adopt);
        assert!(matches!(&step.step, Step::Service(ServiceStep::Update { id: found, .. }) if *found == id));
        assert_eq!(step.changes.iter().any(|change| change.field.starts_with("environment.")), differs);
        assert_eq!(world.services.len(), 1);
    }
}
