//! What outlives the operator.

use ofop::model::{Command, Desired, Health, ServiceSpec, Wait};
use ofop::plan::{Memory, Policy};

use crate::world::{World, app, app_id, desired, device, name, one, policy};

const NOW: &str = "2026-01-02T03:04:05Z";

fn of(image: &str) -> Desired {
    let change = |spec: &mut ServiceSpec| spec.image = image.into();
    desired([app("A", change), app("B", |_| {})])
}

fn lived_in() -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&of("registry/app:1"), &policy(), &mut memory);
    (world, memory)
}

#[test]
fn what_a_person_said_survives_a_restart() {
    let (mut world, mut memory) = lived_in();
    memory.command(&Command::Suspend(Some(app_id("A")), ofop::model::Term::default()), NOW);
    memory.command(&Command::Suspend(None, ofop::model::Term::default()), NOW);
    world.pass(&of("registry/app:1"), &policy(), &mut memory);
    world.edit("a", |service| service.spec_mut().replicas = 4);
    world.edit("b", |service| service.spec_mut().replicas = 4);
    let mut memory = Memory::default();
    let plan = world.pass(&of("registry/app:1"), &policy(), &mut memory);
    assert_eq!((plan.steps(), plan.suspended.as_ref().map(|hold| hold.since.as_str())), (0, Some(NOW)));
    assert!(one(&plan, "A").conditions.iter().any(|condition| condition.message.contains(NOW)));
    memory.command(&Command::Resume(None), NOW);
    world.pass(&of("registry/app:1"), &policy(), &mut memory);
    assert_eq!(world.services[&name("b")].spec.replicas, 1);
    let mut memory = Memory::default();
    let plan = world.pass(&of("registry/app:1"), &policy(), &mut memory);
    assert_eq!((one(&plan, "A").health, one(&plan, "B").health), (Health::Suspended, Health::Healthy));
    memory.command(&Command::Resume(Some(app_id("A"))), NOW);
    world.pass(&of("registry/app:1"), &policy(), &mut memory);
    world.pass(&of("registry/app:1"), &policy(), &mut memory);
    assert!(world.notes.is_empty());
}

#[test]
fn an_update_that_was_rolled_back_is_not_sent_again_after_a_restart() {
    let (mut world, mut memory) = lived_in();
    world.fails_update.insert(name("a"));
    let broken = of("registry/app:broken");
    world.settle(&broken, &policy(), &mut memory);
    for _ in 0..3 {
        let mut memory = Memory::default();
        let plan = world.settle(&broken, &policy(), &mut memory);
        assert_eq!(one(&plan, "A").health, Health::RolledBack);
        assert_eq!(one(&plan, "A").held[0].wait, Wait::RolledBack);
    }
    // A plan for other files alone says nothing about it.
    let scoped = Policy { scope: Some([app_id("B")].into()), ..policy() };
    world.settle(&desired([app("B", |_| {})]), &scoped, &mut Memory::default());
    assert_eq!(world.notes.len(), 1);
    // Another manifest is another try; whoever comes back to the first one means it.
    world.fails_update.clear();
    world.settle(&of("registry/app:2"), &policy(), &mut Memory::default());
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:2");
    assert!(world.notes.is_empty());
    world.settle(&broken, &policy(), &mut Memory::default());
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:broken");
}

#[test]
fn a_person_may_have_it_tried_again_after_a_restart() {
    let (mut world, mut memory) = lived_in();
    world.fails_update.insert(name("a"));
    let broken = of("registry/app:broken");
    world.settle(&broken, &policy(), &mut memory);
    world.fails_update.clear();
    let mut memory = Memory::default();
    memory.command(&Command::Resume(Some(app_id("A"))), NOW);
    // Said before the notes could be read, it counts once they can.
    world.notes_unread = true;
    for _ in 0..3 {
        assert_eq!(one(&world.pass(&broken, &policy(), &mut memory), "A").held[0].wait, Wait::Notes);
    }
    world.notes_unread = false;
    world.settle(&broken, &policy(), &mut memory);
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:broken");
    assert!(world.notes.is_empty());
}

#[test]
fn until_the_notes_were_read_once_nothing_is_made_changed_or_taken_away() {
    let (mut world, mut memory) = lived_in();
    memory.command(&Command::Suspend(Some(app_id("A")), ofop::model::Term::default()), NOW);
    world.pass(&of("registry/app:1"), &policy(), &mut memory);
    let wanted = desired([app("A", |spec| spec.replicas = 3), app("NEW", |_| {}), device("CNC-1")]);
    world.notes_unread = true;
    let mut memory = Memory::default();
    for _ in 0..20 {
        let plan = world.pass(&wanted, &policy(), &mut memory);
        assert_eq!(plan.steps(), 0, "what is missing may have been taken down");
        assert_eq!((&one(&plan, "A").held[0].wait, &one(&plan, "NEW").held[0].wait), (&Wait::Notes, &Wait::Notes));
    }
    assert!(!world.services.contains_key(&name("new")) && !world.services.contains_key(&name("cnc-1-agent")));
    assert!(world.services.contains_key(&name("b")), "described no longer, and not removed");
    world.notes_unread = false;
    let plan = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!(one(&plan, "A").health, Health::Suspended);
    world.settle(&wanted, &policy(), &mut memory);
    assert!(!world.services.contains_key(&name("b")) && world.services.contains_key(&name("cnc-1-agent")));
    // Read once, they are known: an outage later holds nothing.
    world.notes_unread = true;
    world.edit("new", |service| service.spec_mut().replicas = 3);
    world.settle(&wanted, &policy(), &mut memory);
    assert_eq!(world.services[&name("new")].spec.replicas, 1);
    assert_eq!(world.services[&name("a")].spec.replicas, 1, "suspended as before");
}

#[test]
fn where_no_notes_are_kept_everything_else_goes_on() {
    let (mut world, mut memory) = lived_in();
    let mut observed = world.observe();
    let platform = std::sync::Arc::make_mut(observed.platform.as_mut().unwrap());
    platform.notes = ofop::model::NotesView::Unsupported("no configs here".into());
    memory = Memory { notebook: ofop::plan::Notebook::default(), ..memory };
    memory.command(&Command::Suspend(Some(app_id("A")), ofop::model::Term::default()), NOW);
    memory.recall(&observed);
    let wanted = of("registry/app:2");
    let plan = ofop::plan::plan(&wanted, &observed, &policy(), &memory);
    assert_eq!(one(&plan, "A").held[0].wait, Wait::Suspended(ofop::model::Suspension::Person));
    let plan = ofop::plan::plan(&wanted, &observed, &policy(), &Memory::default());
    assert_eq!(one(&plan, "A").steps.len(), 1);
    assert!(memory.notebook.unsent().is_empty() && memory.notebook.unsaved() == 1);
}

#[test]
fn lost_writes_are_made_again_and_change_no_plan() {
    let (mut world, mut memory) = lived_in();
    world.notes_lost = true;
    memory.command(&Command::Suspend(Some(app_id("A")), ofop::model::Term::default()), NOW);
    for _ in 0..5 {
        world.edit("a", |service| service.spec_mut().replicas = 4);
        assert_eq!(world.pass(&of("registry/app:1"), &policy(), &mut memory).steps(), 0);
    }
    assert!(world.notes.is_empty());
    world.notes_lost = false;
    world.pass(&of("registry/app:1"), &policy(), &mut memory);
    assert_eq!(world.notes["suspended/app/A"], NOW);
}

#[test]
fn a_suspension_ends_with_what_it_is_about_but_not_at_once() {
    let (mut world, mut memory) = lived_in();
    memory.command(&Command::Suspend(Some(app_id("A")), ofop::model::Term::default()), NOW);
    let without = desired([app("B", |_| {})]);
    world.settle(&without, &policy(), &mut memory);
    assert!(world.services.contains_key(&name("a")), "it is not removed either");
    world.remove_by_hand("a");
    world.records.retain(|id, _| id.asset().as_str() != "A");
    world.forgets_its_note(&without, &mut memory);
}
