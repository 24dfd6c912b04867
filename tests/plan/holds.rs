//! Suspensions and the freeze that end by themselves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ofop::model::{Command, Desired, Health, Hold, Term};
use ofop::plan::{Ended, Held, Memory};

use crate::world::{World, app, app_id, desired, name, one, policy};

const NOW: &str = "2026-01-02T03:04:05Z";
const HOUR: Duration = Duration::from_secs(3600);

fn wanted() -> Desired {
    desired([app("A", |_| {}), app("B", |_| {})])
}

fn lived_in() -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&wanted(), &policy(), &mut memory);
    (world, memory)
}

/// Ends so long after the world's clock of now.
fn for_hours(world: &World, hours: i64) -> Term {
    Term::new(Some(world.wall() + SignedDuration::from_hours(hours)), Some("shift change"))
}

fn ended(memory: &mut Memory) -> Vec<Held> {
    memory.take_ended().into_iter().map(|Ended { what, .. }| what).collect()
}

/// Somebody changes both apps, and the next pass repairs which.
fn repairs(world: &mut World, memory: &mut Memory) -> Vec<&'static str> {
    for service in ["a", "b"] {
        world.edit(service, |service| service.spec_mut().replicas = 4);
    }
    world.pass(&wanted(), &policy(), memory);
    ["a", "b"].into_iter().filter(|service| world.services[&name(service)].spec.replicas == 1).collect()
}

#[test]
fn a_suspension_ends_by_itself_at_its_time_and_not_before() {
    let (mut world, mut memory) = lived_in();
    let term = for_hours(&world, 2);
    let until = term.until.unwrap();
    memory.command(&Command::Suspend(Some(app_id("A")), term), NOW);
    assert_eq!(repairs(&mut world, &mut memory), ["b"]);
    let plan = world.pass(&wanted(), &policy(), &mut memory);
    let message = &one(&plan, "A").conditions[0].message;
    assert!(message.contains(&until.to_string()) && message.contains("shift change"), "{message}");
    // The loop looks again when it ends.
    let wall = world.wall();
    world.settle(&wanted(), &policy(), &mut memory);
    let plan = world.pass(&wanted(), &policy(), &mut memory);
    let left = plan.recheck.unwrap();
    assert!(left > HOUR && left <= until.duration_since(wall).unsigned_abs(), "{left:?}");
    world.now += until.duration_since(world.wall()).unsigned_abs() - Duration::from_secs(1);
    assert_eq!(repairs(&mut world, &mut memory), ["b"]);
    assert!(ended(&mut memory).is_empty());
    assert_eq!(repairs(&mut world, &mut memory), ["a", "b"]);
    assert_eq!(ended(&mut memory), [Held::Resource(app_id("A"))]);
    world.pass(&wanted(), &policy(), &mut memory);
    assert!(world.notes.is_empty() && ended(&mut memory).is_empty());
}

#[test]
fn its_end_and_its_reason_survive_a_restart() {
    let (mut world, mut memory) = lived_in();
    let term = for_hours(&world, 2);
    memory.command(&Command::Suspend(None, term.clone()), NOW);
    memory.command(&Command::Freeze(for_hours(&world, 3)), NOW);
    world.pass(&wanted(), &policy(), &mut memory);
    let mut memory = Memory::default();
    let plan = world.pass(&wanted(), &policy(), &mut memory);
    assert_eq!(plan.suspended, Some(Hold::new(NOW, term)));
    assert_eq!(plan.freeze.unwrap().term.reason(), Some("shift change"));
    // An operator that was down when it ended finds it over.
    world.now += 2 * HOUR;
    let mut memory = Memory::default();
    assert_eq!(repairs(&mut world, &mut memory), ["a", "b"]);
    assert_eq!((ended(&mut memory), memory.freeze.is_some()), (vec![Held::Everything], true));
    world.now += HOUR;
    let plan = world.pass(&wanted(), &policy(), &mut memory);
    assert_eq!((ended(&mut memory), plan.freeze), (vec![Held::Changes], None));
    world.pass(&wanted(), &policy(), &mut memory);
    assert!(world.notes.is_empty());
}

#[test]
fn a_clock_that_jumps_ends_it_early_or_late_by_the_jump() {
    let (mut world, mut memory) = lived_in();
    memory.command(&Command::Suspend(Some(app_id("A")), for_hours(&world, 2)), NOW);
    world.jumped = -3600;
    world.now += 2 * HOUR;
    assert_eq!(repairs(&mut world, &mut memory), ["b"], "an hour late");
    world.jumped = 0;
    assert_eq!(repairs(&mut world, &mut memory), ["a", "b"]);
    // Once it has ended, a clock that goes back brings nothing back.
    world.pass(&wanted(), &policy(), &mut memory);
    world.jumped = -10 * 3600;
    assert_eq!(repairs(&mut world, &mut memory), ["a", "b"]);
    assert_eq!(repairs(&mut world, &mut Memory::default()), ["a", "b"]);
    // Nor does one that was wrong when it was said keep it for ever.
    memory.command(&Command::Suspend(Some(app_id("A")), for_hours(&world, 1)), NOW);
    world.jumped = 0;
    assert_eq!(repairs(&mut world, &mut memory), ["a", "b"]);
}

#[test]
fn notes_of_earlier_versions_have_no_end() {
    let (mut world, _) = lived_in();
    world.notes.insert("suspended/app/A".into(), NOW.into());
    world.notes.insert("suspended".into(), NOW.into());
    world.notes_version += 1;
    world.now += 10_000 * HOUR;
    let mut memory = Memory::default();
    assert_eq!(repairs(&mut world, &mut memory), [""; 0]);
    assert_eq!(memory.suspended_all, Some(Hold::new(NOW, Term::default())));
    memory.command(&Command::Resume(None), NOW);
    assert_eq!(repairs(&mut world, &mut memory), ["b"]);
}

#[test]
fn what_was_said_last_says_how_long_and_what_was_said_first_since_when() {
    let (mut world, mut memory) = lived_in();
    memory.command(&Command::Suspend(None, for_hours(&world, 1)), NOW);
    memory.command(&Command::Suspend(None, for_hours(&world, 5)), "2026-01-02T03:30:00Z");
    world.now += 2 * HOUR;
    assert_eq!(repairs(&mut world, &mut memory), [""; 0]);
    assert_eq!(memory.suspended_all.as_ref().unwrap().since, NOW);
    memory.command(&Command::Suspend(None, Term::default()), "2026-01-02T06:00:00Z");
    world.now += 100 * HOUR;
    assert_eq!(repairs(&mut world, &mut memory), [""; 0]);
}

#[test]
fn whoever_may_not_act_takes_no_note_away_and_tells_nobody() {
    let (mut world, mut memory) = lived_in();
    memory.command(&Command::Suspend(Some(app_id("A")), for_hours(&world, 1)), NOW);
    world.pass(&wanted(), &policy(), &mut memory);
    let mut standby = Memory::default();
    world.now += HOUR;
    for _ in 0..3 {
        let observed = world.observe();
        standby.recall(&observed);
        let plan = ofop::plan::plan(&wanted(), &observed, &policy(), &standby);
        assert_eq!(one(&plan, "A").health, Health::Healthy, "it shows what the holder will do");
        let notebook = standby.notebook.clone();
        standby.learn(&wanted(), &observed, &plan);
        standby.restore_notes(notebook);
        assert!(standby.take_ended().is_empty() && standby.notebook.unsaved() == 0);
    }
    // Somebody has it last longer meanwhile: the word of the standby's clock is nobody's.
    memory.command(&Command::Suspend(Some(app_id("A")), for_hours(&world, 5)), NOW);
    world.pass(&wanted(), &policy(), &mut memory);
    assert_eq!(repairs(&mut world, &mut standby.after_a_gap()), ["b"]);
}

#[test]
fn a_freeze_ends_by_a_word_as_well() {
    let (mut world, mut memory) = lived_in();
    memory.command(&Command::Freeze(Term::default()), NOW);
    let plan = world.pass(&wanted(), &policy(), &mut memory);
    assert_eq!(plan.freeze, Some(Hold::new(NOW, Term::default())));
    assert_eq!(repairs(&mut world, &mut memory), ["a", "b"], "repairs go on");
    memory.command(&Command::EndFreeze, NOW);
    let plan = world.pass(&wanted(), &policy(), &mut memory);
    assert_eq!((plan.freeze, world.notes.len()), (None, 0));
    assert!(Timestamp::UNIX_EPOCH < world.wall() && ended(&mut memory).is_empty());
}
