//! A service and its records have one owner.

use ofop::model::record::RecordOwner;
use ofop::model::{
    Command, Condition, ConditionKind, DesiredResource, InstanceName, Mark, ObservedRecord, Plan, Record, RecordId,
    ResourcePlan, Revision, ServiceSpec, StepVerb, Wait,
};
use ofop::plan::{Memory, Policy};

use crate::world::{World, app, app_id, asset, desired, device, name, one, policy, uuid, verbs};

fn instance(name: &str) -> InstanceName {
    InstanceName::new(name).unwrap()
}

fn other() -> Policy {
    Policy { instance: instance("other"), ..policy() }
}

fn conflict(resource: &ResourcePlan) -> &Condition {
    resource.conditions.iter().find(|condition| condition.kind == ConditionKind::Conflict).unwrap()
}

/// An app that the other instance deployed, with this image.
fn theirs(world: &mut World, image: &str) -> DesiredResource {
    let wanted = app("A", |spec| spec.image = image.into());
    world.converge(&desired([wanted.clone()]), &other(), &mut Memory::default());
    wanted
}

fn touches_services(plan: &Plan) -> bool {
    verbs(plan).iter().any(|(verb, ..)| matches!(verb, StepVerb::Create | StepVerb::Update | StepVerb::Remove))
}

#[test]
fn no_service_is_created_under_the_name_of_an_asset_that_another_instance_owns() {
    let mut world = World::default();
    theirs(&mut world, "registry/app:1");
    world.remove_by_hand("a");
    let before = world.records.clone();
    let plan = world.settle(&desired([app("A", |_| {})]), &policy(), &mut Memory::default());
    assert!(world.services.is_empty());
    assert_eq!(world.records, before);
    let found = one(&plan, "A");
    assert_eq!(conflict(found).reason, "OtherInstance");
    assert_eq!(found.held[0].wait, Wait::Conflict);
    assert_eq!(plan.conflicts(), 1);
    // The owner repairs it.
    world.converge(&desired([app("A", |_| {})]), &other(), &mut Memory::default());
    assert_eq!(world.services[&name("a")].mark.as_ref().unwrap().instance, instance("other"));
}

#[test]
fn no_part_of_a_device_is_deployed_while_one_of_its_assets_belongs_to_somebody_else() {
    let wanted = device("CNC-1");
    for at in 0..3 {
        let record = (*wanted.records[at]).clone();
        let mut world = World::default();
        let owner = RecordOwner { instance: instance("other"), resource: wanted.id.clone(), kept: false };
        world.records.insert(record.id(), ObservedRecord { record, owner: Some(owner) });
        let before = world.records.clone();
        let plan = world.settle(&desired([wanted.clone()]), &policy(), &mut Memory::default());
        assert!(world.services.is_empty(), "record {at}");
        assert_eq!(world.records, before);
        assert_eq!(plan.conflicts(), 1);
    }
}

#[test]
fn no_service_is_created_for_an_asset_that_a_stranger_registered_as_something_else() {
    let mut world = World::default();
    let record = Record::Asset(asset("A", "Robot", ""));
    world.records.insert(record.id(), ObservedRecord { record, owner: None });
    let plan = world.settle(&desired([app("A", |_| {})]), &policy(), &mut Memory::default());
    assert!(world.services.is_empty());
    assert_eq!(conflict(one(&plan, "A")).reason, "StrangersAsset");
    assert!(conflict(one(&plan, "A")).message.contains("Robot"));
    // Once it is gone, everything goes its way.
    world.records.clear();
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut Memory::default());
}

#[test]
fn a_service_of_ours_is_neither_updated_nor_replaced_while_its_asset_belongs_to_another_instance() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    let record = world.records.get_mut(&RecordId::Asset(uuid("A"))).unwrap();
    record.owner = Some(RecordOwner { instance: instance("other"), resource: app_id("A"), kept: false });
    let changed = desired([app("A", |spec| spec.image = "registry/app:2".into())]);
    for global in [false, true] {
        world.edit("a", |service| service.foreign_mode = global.then(|| "global mode".to_owned()));
        let before = world.services.clone();
        let plan = world.settle(&changed, &policy(), &mut memory);
        assert_eq!(world.services, before);
        assert_eq!(conflict(one(&plan, "A")).reason, "OtherInstance");
        assert!(one(&plan, "A").held.iter().all(|held| held.wait != Wait::RolledBack));
    }
}

#[test]
fn a_split_is_reported_on_both_sides_with_the_command_that_ends_it_and_nobody_acts() {
    for service_is_ours in [false, true] {
        let mut world = World::default();
        theirs(&mut world, "registry/app:2");
        let (one_side, other_side) = (instance("test"), instance("other"));
        let service = world.services.get_mut(&name("a")).unwrap().mark.as_mut().unwrap();
        let record = world.records.get_mut(&RecordId::Asset(uuid("A"))).unwrap().owner.as_mut().unwrap();
        if service_is_ours {
            service.instance = one_side;
            record.instance = other_side;
        } else {
            service.instance = other_side;
            record.instance = one_side;
        }
        let before = (world.services.clone(), world.records.clone());
        let here = desired([app("A", |_| {})]);
        let there = desired([app("A", |spec| spec.image = "registry/app:2".into())]);
        for (wanted, policy, from) in [(&here, policy(), "other"), (&there, other(), "test")] {
            let plan = world.settle(wanted, &policy, &mut Memory::default());
            let message = &conflict(one(&plan, "A")).message;
            let command = format!("`ofop adopt app/A --from {from} --instance {}`", policy.instance);
            assert!(message.contains("split") && message.contains(&command), "{message}");
        }
        assert_eq!(before, (world.services.clone(), world.records.clone()));
    }
}

#[test]
fn a_conflict_names_the_fields_that_differ_and_no_value_of_the_environment() {
    let wanted = app("A", |_| {});
    let mut spec = (*wanted.services[0].spec).clone();
    spec.image = "somebody/else:1".into();
    spec.replicas = 3;
    spec.env[1].value = "their-s3cret-value".into();
    let mark = Mark {
        instance: instance("other"),
        resource: app_id("A"),
        spec: wanted.services[0].hash.clone(),
        revision: Revision::default(),
        origin: String::new(),
        kept: Some(false),
        terms: ofop::model::RemovalTerms::default(),
        options: Vec::new(),
        run: None,
    };
    for (mark, global, command) in [
        (None, false, "`ofop adopt app/A`"),
        (None, true, "`ofop adopt app/A`"),
        (Some(mark), false, "`ofop adopt app/A --from other`"),
    ] {
        let mut world = World::default();
        world.insert(spec.clone(), mark);
        world.edit("a", |service| service.foreign_mode = global.then(|| "global mode".to_owned()));
        let plan = world.settle(&desired([wanted.clone()]), &policy(), &mut Memory::default());
        assert!(!touches_services(&plan));
        let message = &conflict(one(&plan, "A")).message;
        for part in ["image", "environment.TOKEN", "replicas", command] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(message.contains("global mode"), global);
        assert!(!message.contains("s3cret"), "{message}");
    }
}

fn adopting(from: Option<&str>) -> Policy {
    Policy { adopt: [(app_id("A"), from.map(instance))].into(), ..policy() }
}

#[test]
fn a_person_may_have_another_instances_resource_taken_over_and_nobody_elses() {
    for image in ["registry/app:1", "registry/app:2"] {
        let mut world = World::default();
        theirs(&mut world, image);
        let before = (world.services.clone(), world.records.clone());
        let wanted = desired([app("A", |_| {})]);
        for from in [None, Some("third")] {
            world.settle(&wanted, &adopting(from), &mut Memory::default());
            assert_eq!(before, (world.services.clone(), world.records.clone()), "{from:?}");
        }
        let tasks = world.services[&name("a")].id.clone();
        let plans = world.converge(&wanted, &adopting(Some("other")), &mut Memory::default());
        assert_eq!(world.services[&name("a")].mark.as_ref().unwrap().instance, instance("test"));
        assert_eq!(world.records[&RecordId::Asset(uuid("A"))].owner.as_ref().unwrap().instance, instance("test"));
        assert_eq!(world.services[&name("a")].id, tasks, "the same service goes on");
        let fields: Vec<&str> = one(&plans[0], "A").steps[0].changes.iter().map(|change| &*change.field).collect();
        assert_eq!(fields.contains(&"image"), image != "registry/app:1");
        assert!(fields.contains(&"mark.instance"));
        // Without the word it stays ours, and the other one leaves it alone.
        world.converge(&wanted, &policy(), &mut Memory::default());
        let plan =
            world.settle(&desired([app("A", |spec| spec.image = image.into())]), &other(), &mut Memory::default());
        assert_eq!(plan.conflicts(), 1);
    }
}

#[test]
fn a_split_resource_is_made_whole_by_a_persons_word() {
    for service_is_ours in [false, true] {
        let mut world = World::default();
        theirs(&mut world, "registry/app:1");
        if service_is_ours {
            world.services.get_mut(&name("a")).unwrap().mark.as_mut().unwrap().instance = instance("test");
        } else {
            let record = world.records.get_mut(&RecordId::Asset(uuid("A"))).unwrap();
            record.owner.as_mut().unwrap().instance = instance("test");
        }
        world.converge(&desired([app("A", |_| {})]), &adopting(Some("other")), &mut Memory::default());
        assert_eq!(world.services[&name("a")].mark.as_ref().unwrap().instance, instance("test"));
        assert_eq!(world.records[&RecordId::Asset(uuid("A"))].owner.as_ref().unwrap().instance, instance("test"));
    }
}

#[test]
fn strangers_things_are_taken_over_by_a_persons_word_or_the_manifests() {
    for by_manifest in [false, true] {
        let mut wanted = app("A", |_| {});
        wanted.handling.adopt = by_manifest;
        let mut world = World::default();
        let mut spec = (*wanted.services[0].spec).clone();
        spec.image = "somebody/else:1".into();
        let id = world.insert(spec, None);
        let record = Record::Asset(asset("A", "Robot", ""));
        world.records.insert(record.id(), ObservedRecord { record, owner: None });
        let policy = if by_manifest { policy() } else { adopting(None) };
        world.converge(&desired([wanted]), &policy, &mut Memory::default());
        assert_eq!(world.services[&name("a")].id, id);
        assert_eq!(world.services[&name("a")].spec.image, "registry/app:1");
        assert!(
            matches!(&world.records[&RecordId::Asset(uuid("A"))].record, Record::Asset(asset) if asset.asset_type == "OpenFactoryApp")
        );
    }
}

#[test]
fn a_manifest_alone_takes_nothing_from_another_instance() {
    let mut world = World::default();
    theirs(&mut world, "registry/app:1");
    let before = (world.services.clone(), world.records.clone());
    let mut wanted = app("A", |_| {});
    wanted.handling.adopt = true;
    let plan = world.settle(&desired([wanted]), &policy(), &mut Memory::default());
    assert_eq!(plan.conflicts(), 1);
    assert_eq!(before, (world.services.clone(), world.records.clone()));
}

#[test]
fn a_running_operator_adopts_once_and_forgets_the_word() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    theirs(&mut world, "registry/app:2");
    let wanted = desired([app("A", |_| {})]);
    world.settle(&wanted, &policy(), &mut memory);
    let command = ofop::model::Command::Adopt { resource: app_id("A"), from: Some(instance("other")) };
    memory.command(&command, "2026-01-02T03:04:05Z");
    world.converge(&wanted, &policy(), &mut memory);
    world.pass(&wanted, &policy(), &mut memory);
    assert!(memory.adopting.is_empty());
    // A word that cannot be carried out does not wait for ever.
    memory.command(&command, "2026-01-02T03:04:05Z");
    world.services.get_mut(&name("a")).unwrap().mark.as_mut().unwrap().instance = instance("third");
    for _ in 0..3 {
        world.now += std::time::Duration::from_secs(400);
        world.pass(&wanted, &policy(), &mut memory);
    }
    assert!(memory.adopting.is_empty());
}

#[test]
fn a_service_that_lost_its_mark_while_its_manifest_went_goes_before_its_records() {
    for comes_back in [false, true] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
        world.edit("b", |service| service.mark = None);
        let without = desired([app("A", |_| {})]);
        for mut memory in [memory, Memory::default()] {
            let mut world = world.clone();
            for _ in 0..3 {
                let plan = world.pass(&without, &policy(), &mut memory);
                let steps = verbs(&plan);
                let records = steps.iter().any(|(verb, ..)| *verb == StepVerb::Deregister);
                assert!(!records || !world.services.contains_key(&name("b")), "{steps:?}");
                if comes_back {
                    break;
                }
            }
            let back = desired([app("A", |_| {}), app("B", |spec| spec.image = "registry/app:2".into())]);
            world.converge(if comes_back { &back } else { &without }, &policy(), &mut memory);
            assert_eq!(world.services.contains_key(&name("b")), comes_back);
            assert_eq!(world.records.contains_key(&RecordId::Asset(uuid("B"))), comes_back);
        }
    }
}

#[test]
fn a_strangers_service_that_took_the_name_of_one_of_ours_survives_the_removal_of_the_record() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    world.remove_by_hand("b");
    let mut spec = (*app("B", |_| {}).services[0].spec).clone();
    spec.env.clear();
    let id = world.insert(spec, None);
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    assert_eq!(world.services[&name("b")].id, id);
    assert!(!world.records.contains_key(&RecordId::Asset(uuid("B"))));
}

#[test]
fn a_word_to_adopt_survives_a_restart_and_ends_when_it_is_carried_out() {
    for from in [None, Some(InstanceName::new("plant2").unwrap())] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        let wanted = desired([app("A", |_| {})]);
        let mark = from.as_ref().map(|instance| {
            let mut elsewhere = World::default();
            let theirs = Policy { instance: instance.clone(), ..policy() };
            elsewhere.converge(&wanted, &theirs, &mut Memory::default());
            elsewhere.services[&name("a")].mark.clone().unwrap()
        });
        let stranger = ServiceSpec {
            image: "registry/other:1".into(),
            ..(*wanted.resources[&app_id("A")].services[0].spec).clone()
        };
        world.insert(stranger, mark);
        world.settle(&wanted, &policy(), &mut memory);
        assert_eq!(world.services[&name("a")].spec.image, "registry/other:1", "a conflict");
        memory.command(&Command::Adopt { resource: app_id("A"), from: from.clone() }, "2026-01-02T03:04:05Z");
        // It dies right after the word was noted.
        let observed = world.observe();
        memory.recall(&observed);
        for (key, text) in memory.notebook.unsent() {
            world.notes.insert(key, text.unwrap());
        }
        let mut memory = Memory::default();
        world.settle(&wanted, &policy(), &mut memory);
        let found = &world.services[&name("a")];
        assert_eq!(found.spec.image, wanted.resources[&app_id("A")].services[0].spec.image, "{from:?}");
        assert_eq!(found.mark.as_ref().unwrap().instance, policy().instance);
        assert!(world.notes.is_empty(), "{:?}", world.notes);
    }
}

/// Nothing leads to a step: not what the registry names, nor the manifest's word, nor a person's, nor that everything is equal.
#[test]
fn a_service_in_which_an_operator_runs_is_never_adopted_changed_or_removed() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let mut wanted = app("A", |_| {});
    world.converge(&desired([wanted.clone()]), &policy(), &mut memory);
    // What the engine shows of a service that somebody labels: no mark counts any more.
    world.edit("a", |service| (service.mark, service.runs_operator) = (None, true));
    let before = world.services.clone();
    wanted.handling.adopt = true;
    let changed = app("A", |spec| spec.image = "registry/app:2".into());
    for (wanted, policy) in [(wanted, policy()), (app("A", |_| {}), adopting(None)), (changed, adopting(Some("other")))]
    {
        let plan = world.settle(&desired([wanted]), &policy, &mut Memory::default());
        assert_eq!(world.services, before);
        assert_eq!(conflict(one(&plan, "A")).reason, "OperatorsService");
        assert!(!touches_services(&plan));
    }
    // Nor is it an orphan, although a record of ours names it.
    for _ in 0..4 {
        world.pass(&desired([]), &Policy { prune_confirmed: true, ..policy() }, &mut memory);
        world.tick();
    }
    assert_eq!(world.services, before);
}
