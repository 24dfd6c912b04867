//! A service and its records have one owner.

use ofop::model::record::RecordOwner;
use ofop::model::{
    Condition, ConditionKind, DesiredResource, InstanceName, Mark, ObservedRecord, Plan, Record, RecordId,
    ResourcePlan, Revision, StepVerb, Wait,
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
