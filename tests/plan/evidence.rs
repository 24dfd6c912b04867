//! What counts as evidence, and what does not.

use std::sync::Arc;
use std::time::Duration;

use ofop::model::record::RecordOwner;
use ofop::model::{
    ConditionKind, FailureKind, InstanceName, ObservedRecord, Reason, RecordId, ServiceStep, Step, StepFailure,
    StepVerb, UpdateState, Wait,
};
use ofop::plan::{Memory, plan};

use crate::world::{World, app, app_id, desired, device, name, one, policy, uuid, verbs};

#[test]
fn two_plans_on_one_reading_are_one_sighting_of_services_and_of_records() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let wanted = desired([app("A", |_| {})]);
    // Events, timers and people ask for passes between two readings: what is seen is the same reading again.
    let observed = world.observe();
    for _ in 0..5 {
        let again = plan(&wanted, &observed, &policy(), &memory);
        memory.learn(&wanted, &observed, &again);
        assert_eq!(again.steps(), 0);
        assert!(one(&again, "B").held.iter().any(|held| held.wait == Wait::SecondSighting));
    }
    let next = plan(&wanted, &world.observe(), &policy(), &memory);
    assert_eq!(verbs(&next), [(StepVerb::Remove, "service b".into(), Reason::Orphaned)]);

    // The same for a record whose service is gone.
    world.remove_by_hand("b");
    let mut memory = Memory::default();
    let mut observed = world.observe();
    for at in 0..5 {
        // The platform is read anew each time; the registry is not.
        Arc::make_mut(observed.platform.as_mut().unwrap()).generation += at;
        let again = plan(&wanted, &observed, &policy(), &memory);
        memory.learn(&wanted, &observed, &again);
        assert_eq!(again.steps(), 0, "on reading {at}");
    }
    world.converge(&wanted, &policy(), &mut memory);
    assert!(!world.records.contains_key(&RecordId::Asset(uuid("B"))));
}

#[test]
fn nothing_is_created_that_is_absent_from_a_list_that_is_not_complete() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {}), app("NEW", |_| {}), device("CNC-1")]);
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    world.platform_complete = false;
    let hidden = world.services.remove(&name("a")).unwrap();
    for mut memory in [memory.clone(), Memory::default()] {
        for _ in 0..5 {
            let plan = world.pass(&wanted, &policy(), &mut memory);
            let creates = verbs(&plan).into_iter().filter(|(verb, ..)| *verb == StepVerb::Create);
            assert_eq!(creates.count(), 0);
        }
    }
    world.platform_complete = true;
    world.services.insert(name("a"), hidden);
    world.converge(&wanted, &policy(), &mut memory);
    assert_eq!(world.services.len(), 5);
}

#[test]
fn a_record_that_another_instance_owns_lets_nobody_adopt_the_service_that_it_names() {
    let resource = app("A", |_| {});
    let record = (*resource.records[0]).clone();
    let (mut world, mut memory) = (World::default(), Memory::default());
    let mut spec = (*resource.services[0].spec).clone();
    spec.image = "registry/app:0".into();
    world.insert(spec, None);
    let owner = RecordOwner { instance: InstanceName::new("other").unwrap(), resource: app_id("A"), kept: false };
    world.records.insert(RecordId::Asset(uuid("A")), ObservedRecord { record, owner: Some(owner) });
    let before = (world.services.clone(), world.records.clone());
    let plan = world.settle(&desired([resource.clone()]), &policy(), &mut memory);
    assert!(one(&plan, "A").conditions.iter().any(|condition| condition.kind == ConditionKind::Conflict));
    assert_eq!(before, (world.services.clone(), world.records.clone()));
    // With the other instance's mark gone, the record names it for whoever describes it.
    world.records.get_mut(&RecordId::Asset(uuid("A"))).unwrap().owner = None;
    world.converge(&desired([resource]), &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1");
}

#[test]
fn an_update_whose_answer_was_lost_is_an_attempt_and_its_rollback_is_held() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    world.fails_update.insert(name("a"));
    let broken = desired([app("A", |spec| spec.image = "registry/app:broken".into())]);
    assert_eq!(one(&world.pass(&broken, &policy(), &mut memory), "A").held[0].wait, Wait::AttemptNoted);
    let observed = world.observe();
    memory.recall(&observed);
    let first = plan(&broken, &observed, &policy(), &memory);
    memory.learn(&broken, &observed, &first);
    let [step] = &*one(&first, "A").steps else { panic!("{first:#?}") };
    assert!(matches!(step.step, Step::Service(ServiceStep::Update { .. })));
    // It worked, and nobody was told.
    world.apply(&step.step).unwrap();
    let lost = Err(StepFailure::new(FailureKind::Ambiguous, "the answer was lost"));
    memory.step_done(&policy(), &app_id("A"), step, &lost, world.now);
    assert!(matches!(world.services[&name("a")].update, UpdateState::RollbackCompleted(_)));
    let version = world.services[&name("a")].version;
    world.now += Duration::from_secs(5);
    let after = world.settle(&broken, &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].version, version, "it is not sent again");
    assert_eq!(one(&after, "A").held[0].wait, Wait::RolledBack);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:1");
}
