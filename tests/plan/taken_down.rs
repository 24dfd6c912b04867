//! What a person took down at the running operator goes, and stays away until it is resumed.

use ofop::model::{
    Command, ConditionKind, Desired, DesiredResource, Health, PruneVerdict, Reason, ResourceId, Suspension, Sync, Wait,
};
use ofop::plan::{Memory, Policy};

use crate::world::{World, app, app_id, desired, device, name, policy, verbs};

const NOW: &str = "2026-01-02T03:04:05Z";

fn with(resource: &DesiredResource) -> Desired {
    desired([resource.clone(), app("S1", |_| {}), app("S2", |_| {})])
}

/// Both are deployed, and then a person takes the resource down.
fn taken_down(resource: &DesiredResource) -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&with(resource), &policy(), &mut memory);
    memory.command(&Command::Down(resource.id.clone()), NOW);
    (world, memory)
}

fn left_of(world: &World, id: &ResourceId) -> usize {
    let services = world.services.values().filter(|service| service.mark.as_ref().unwrap().resource == *id).count();
    let records = world.records.values().filter_map(|record| record.owner.as_ref());
    services + records.filter(|owner| owner.resource == *id).count()
}

#[test]
fn what_is_taken_down_goes_in_reverse_order_and_is_in_a_state_that_alarms_nobody() {
    for resource in [app("A", |spec| spec.replicas = 2), device("A")] {
        let (mut world, mut memory) = taken_down(&resource);
        let plans = world.converge(&with(&resource), &policy(), &mut memory);
        assert_eq!(left_of(&world, &resource.id), 0);
        let done: Vec<_> = plans.iter().flat_map(verbs).collect();
        assert!(done.iter().all(|(_, _, reason)| *reason == Reason::Requested), "{done:?}");
        let services: Vec<&str> = done.iter().filter_map(|(_, object, _)| object.strip_prefix("service ")).collect();
        let mut reverse = services.clone();
        reverse.sort_by(|one, other| other.cmp(one));
        assert_eq!(services, reverse, "the last one that was started goes first");
        let plan = plans.last().unwrap();
        let found = &plan.resources[&resource.id];
        assert!(plan.is_empty() && plan.prune == PruneVerdict::Nothing, "{plan:#?}");
        assert_eq!((found.sync, found.health, found.drift.len()), (Sync::Synced, Health::Suspended, 0));
        let said = &found.conditions[0];
        assert_eq!((said.kind, said.reason.as_str()), (ConditionKind::Suspended, Suspension::TakenDown.as_str()));
        assert!(
            said.message.contains(NOW) && said.message.contains(&format!("ofop resume {}", resource.id)),
            "{said:?}"
        );
        for plan in &plans {
            assert!(plan.resources[&resource.id].drift.is_empty(), "no drift on the way either: {plan:#?}");
        }
        assert_eq!(world.services.len(), 2, "the others stay");
    }
}

#[test]
fn it_stays_away_over_a_restart_and_other_manifests_and_comes_back_when_it_is_resumed() {
    let resource = device("A");
    let (mut world, mut memory) = taken_down(&resource);
    world.converge(&with(&resource), &policy(), &mut memory);
    assert_eq!(world.notes[&format!("taken-down/{}", resource.id)], NOW);
    let mut memory = Memory::default();
    let mut changed = resource.clone();
    for service in &mut changed.services {
        *service =
            crate::world::service(ofop::model::ServiceSpec { image: "registry/x:2".into(), ..(*service.spec).clone() });
    }
    for wanted in [&resource, &changed] {
        for _ in 0..5 {
            assert!(world.pass(&with(wanted), &policy(), &mut memory).is_empty());
        }
    }
    memory.command(&Command::Resume(Some(resource.id.clone())), NOW);
    let plans = world.converge(&with(&resource), &policy(), &mut memory);
    let drift: usize = plans.iter().map(|plan| plan.resources[&resource.id].drift.len()).sum();
    let reasons: Vec<Reason> = plans.iter().flat_map(verbs).map(|(_, _, reason)| reason).collect();
    assert!(drift == 0 && reasons.iter().all(|reason| *reason == Reason::New), "{reasons:?}");
    assert_eq!(left_of(&world, &resource.id), resource.services.len() + resource.records.len());
    assert!(world.notes.is_empty());
}

#[test]
fn before_the_notes_were_read_nothing_is_made_that_may_have_been_taken_down() {
    let resource = app("A", |_| {});
    let (mut world, mut memory) = taken_down(&resource);
    world.converge(&with(&resource), &policy(), &mut memory);
    world.notes_unread = true;
    let mut memory = Memory::default();
    for _ in 0..3 {
        let plan = world.pass(&with(&resource), &policy(), &mut memory);
        assert_eq!(plan.resources[&resource.id].held[0].wait, Wait::Notes);
    }
    world.notes_unread = false;
    assert!(world.pass(&with(&resource), &policy(), &mut memory).is_empty());
    assert_eq!(left_of(&world, &resource.id), 0);
}

#[test]
fn a_file_with_an_error_elsewhere_and_the_guard_do_not_hold_what_a_person_named() {
    let resource = app("A", |_| {});
    let (mut world, mut memory) = taken_down(&resource);
    for other in ["S1", "S2"] {
        memory.command(&Command::Down(app_id(other)), NOW);
    }
    let broken = Desired { complete: false, ..with(&resource) };
    let policy = Policy { prune: false, ..policy() };
    world.settle(&broken, &policy, &mut memory);
    assert!(world.services.is_empty() && world.records.values().all(|record| record.owner.is_none()));
}

#[test]
fn what_is_suspended_is_not_removed_before_that_is_lifted() {
    let resource = app("A", |_| {});
    let (mut world, mut memory) = taken_down(&resource);
    memory.command(&Command::Suspend(None, ofop::model::Term::default()), NOW);
    for _ in 0..5 {
        let plan = world.pass(&with(&resource), &policy(), &mut memory);
        assert_eq!(plan.steps(), 0);
        let held = &plan.resources[&resource.id].held;
        assert!(held.iter().any(|held| held.step.reason == Reason::Requested), "{held:?}");
    }
    assert!(world.services.contains_key(&name("a")));
    memory.command(&Command::Resume(None), NOW);
    world.settle(&with(&resource), &policy(), &mut memory);
    assert!(!world.services.contains_key(&name("a")), "the end of the one does not end the other");
}

#[test]
fn the_word_ends_with_what_it_is_about_but_not_at_once() {
    let resource = app("A", |_| {});
    let (mut world, mut memory) = taken_down(&resource);
    world.converge(&with(&resource), &policy(), &mut memory);
    let without = desired([app("S1", |_| {}), app("S2", |_| {})]);
    world.forgets_its_note(&without, &mut memory);
}
