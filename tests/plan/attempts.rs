//! Updates that the engine may undo are tried once, whatever happens to the operator.

use ofop::model::{Command, Desired, Health, Plan, Reason, ServiceStep, Step, StepVerb, UpdateState, Wait};
use ofop::plan::{Memory, plan};
use proptest::prelude::any;
use proptest::test_runner::Config;

use crate::world::{World, app, app_id, desired, name, one, policy, verbs};

fn of(image: &str) -> Desired {
    desired([app("A", |spec| spec.image = image.into()), app("B", |_| {})])
}

fn deployed() -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&of("registry/app:1"), &policy(), &mut memory);
    (world, memory)
}

fn pushes(plan: &Plan) -> usize {
    let steps = plan.resources.values().flat_map(|resource| &resource.steps);
    steps
        .filter(|step| matches!(&step.step, Step::Service(ServiceStep::Update { spec, .. }) if spec.name == name("a")))
        .count()
}

#[test]
fn an_update_that_may_be_undone_is_noted_and_sent_only_once_the_note_can_be_read() {
    let (mut world, mut memory) = deployed();
    world.rolls_back.insert(name("a"));
    let wanted = of("registry/app:2");
    world.notes_lost = true;
    for _ in 0..5 {
        let plan = world.pass(&wanted, &policy(), &mut memory);
        assert_eq!((pushes(&plan), &one(&plan, "A").held[0].wait), (0, &Wait::AttemptNoted));
    }
    world.notes_lost = false;
    world.pass(&wanted, &policy(), &mut memory);
    assert!(world.notes.contains_key("attempted/a"));
    assert_eq!(pushes(&world.pass(&wanted, &policy(), &mut memory)), 1);
    world.converge(&wanted, &policy(), &mut memory);
    world.settle(&wanted, &policy(), &mut memory);
    assert!(world.notes.is_empty(), "completed: {:?}", world.notes);
}

#[test]
fn an_update_that_cannot_be_undone_is_sent_at_once_and_not_noted() {
    let (mut world, mut memory) = deployed();
    let version = world.notes_version;
    assert_eq!(pushes(&world.pass(&of("registry/app:2"), &policy(), &mut memory)), 1);
    world.converge(&of("registry/app:2"), &policy(), &mut memory);
    assert_eq!(world.notes_version, version);
}

#[test]
fn an_attempt_that_was_noted_and_never_sent_is_sent_by_whoever_comes_next() {
    let (mut world, mut memory) = deployed();
    world.rolls_back.insert(name("a"));
    let wanted = of("registry/app:2");
    world.pass(&wanted, &policy(), &mut memory);
    assert!(world.notes.contains_key("attempted/a"));
    // The engine itself moves the version, as after a change of leader.
    world.edit("a", |_| {});
    let plan = world.pass(&wanted, &policy(), &mut Memory::default());
    assert_eq!(pushes(&plan), 1);
    world.settle(&wanted, &policy(), &mut Memory::default());
    assert_eq!(world.services[&name("a")].spec.image, "registry/app:2");
}

#[test]
fn an_attempt_of_which_nobody_saw_the_end_is_held_when_the_engine_undid_it_or_nothing_tells() {
    for somebody_changed_it in [false, true] {
        let (mut world, mut memory) = deployed();
        world.fails_update.insert(name("a"));
        let broken = of("registry/app:broken");
        world.pass(&broken, &policy(), &mut memory);
        let plan = world.pass(&broken, &policy(), &mut memory);
        assert_eq!(pushes(&plan), 1);
        if somebody_changed_it {
            world.edit("a", |service| {
                service.update = UpdateState::Completed;
                service.rollout.started = "later".into();
                service.spec_mut().replicas = 2;
            });
        }
        for _ in 0..3 {
            let plan = world.settle(&broken, &policy(), &mut Memory::default());
            assert_eq!(one(&plan, "A").health, Health::RolledBack);
            assert_eq!(one(&plan, "A").held[0].wait, Wait::RolledBack);
            assert_eq!(world.services[&name("a")].spec.image, "registry/app:1");
        }
        // A person may have it tried again, and another manifest is another try.
        let mut memory = Memory::default();
        world.pass(&broken, &policy(), &mut memory);
        memory.command(&Command::Resume(Some(app_id("A"))), "2026-01-02T03:04:05Z");
        let sent: usize = (0..4).map(|_| pushes(&world.pass(&broken, &policy(), &mut memory))).sum();
        assert_eq!(sent, 1);
        world.fails_update.clear();
        world.settle(&of("registry/app:2"), &policy(), &mut Memory::default());
        assert_eq!(world.services[&name("a")].spec.image, "registry/app:2");
        assert!(world.notes.is_empty(), "{:?}", world.notes);
    }
}

#[test]
fn what_a_person_rolled_back_is_drift_and_is_put_back() {
    for rolls_back in [false, true] {
        for restarted in [false, true] {
            let (mut world, mut memory) = deployed();
            if rolls_back {
                world.rolls_back.insert(name("a"));
            }
            let wanted = of("registry/app:2");
            let before = world.services[&name("a")].clone();
            while world.services[&name("a")].spec.image != "registry/app:2" {
                world.pass(&wanted, &policy(), &mut memory);
            }
            world.edit("a", |service| {
                (service.spec, service.mark) = (before.spec.clone(), before.mark.clone());
                service.update = UpdateState::RollbackCompleted("rollback completed".into());
                service.rollout.started = "by hand".into();
                service.rollout.by_hand = true;
            });
            let mut memory = if restarted { Memory::default() } else { memory };
            let observed = world.observe();
            memory.recall(&observed);
            let seen = plan(&wanted, &observed, &policy(), &memory);
            let found = one(&seen, "A");
            let step = found.steps.first().or(found.held.first().map(|held| &held.step)).unwrap();
            assert_eq!((step.step.verb(), step.reason), (StepVerb::Update, Reason::Modified));
            assert!(!found.drift.is_empty() && found.health != Health::RolledBack);
            world.settle(&wanted, &policy(), &mut memory);
            assert_eq!(world.services[&name("a")].spec.image, "registry/app:2");
            assert!(world.notes.is_empty(), "{:?}", world.notes);
        }
    }
}

#[test]
fn a_note_stays_while_an_earlier_run_may_have_sent_what_it_says() {
    let (mut world, mut memory) = deployed();
    world.fails_update.insert(name("a"));
    let broken = of("registry/app:broken");
    world.pass(&broken, &policy(), &mut memory);
    let observed = world.observe();
    memory.recall(&observed);
    let sent = plan(&broken, &observed, &policy(), &memory);
    assert_eq!(pushes(&sent), 1);
    // The next run looks before the call of the last one has come through, and has not seen its note yet.
    let notes = std::mem::take(&mut world.notes);
    let mut memory = Memory::default();
    assert_eq!(one(&world.pass(&broken, &policy(), &mut memory), "A").held[0].wait, Wait::AttemptNoted);
    world.notes = notes;
    world.fails_update.clear();
    world.rolls_back.insert(name("a"));
    world.apply(&one(&sent, "A").steps[0].step).unwrap();
    world.edit("a", |service| (service.update, service.rollout.started) = (UpdateState::None, String::new()));
    for _ in 0..3 {
        assert_eq!(pushes(&world.pass(&broken, &policy(), &mut memory)), 0);
        assert!(world.notes.contains_key("attempted/a"), "it is in force, and may still be undone");
    }
    let before = deployed().0.services[&name("a")].clone();
    world.edit("a", |service| {
        (service.spec, service.mark) = (before.spec, before.mark);
        service.update = UpdateState::RollbackCompleted("task failed".into());
        service.rollout.started = "t".into();
    });
    let last = world.settle(&broken, &policy(), &mut memory);
    assert_eq!((one(&last, "A").health, pushes(&last)), (Health::RolledBack, 0));
}

#[test]
fn a_suspended_resource_has_no_attempt_noted() {
    let (mut world, mut memory) = deployed();
    world.rolls_back.insert(name("a"));
    memory.command(&Command::Suspend(Some(app_id("A")), ofop::model::Term::default()), "2026-01-02T03:04:05Z");
    for _ in 0..3 {
        let plan = world.pass(&of("registry/app:2"), &policy(), &mut memory);
        assert_eq!(verbs(&plan), []);
        assert!(matches!(one(&plan, "A").held[0].wait, Wait::Suspended(_)));
    }
    assert!(!world.notes.contains_key("attempted/a"));
}

proptest::proptest! {
    #![proptest_config(Config { cases: 150, failure_persistence: None, ..Config::default() })]

    #[test]
    fn one_attempt_for_each_manifest_whatever_is_lost(
        dies in proptest::collection::vec(any::<bool>(), 12), loses_notes in proptest::collection::vec(any::<bool>(), 12),
        lost_answers in any::<bool>()
    ) {
        let (mut world, mut memory) = deployed();
        world.fails_update.insert(name("a"));
        let broken = of("registry/app:broken");
        let mut sent = 0;
        for (dies, loses) in dies.into_iter().zip(loses_notes) {
            world.notes_lost = loses;
            let observed = world.observe();
            memory.recall(&observed);
            let made = plan(&broken, &observed, &policy(), &memory);
            sent += pushes(&made);
            if lost_answers && pushes(&made) > 0 {
                // It is carried out, and the operator dies before the answer comes.
                for step in made.resources.values().flat_map(|resource| &resource.steps) {
                    world.apply(&step.step).unwrap();
                }
                memory = Memory::default();
                world.tick();
                continue;
            }
            world.pass(&broken, &policy(), &mut memory);
            if dies {
                memory = Memory::default();
            }
        }
        assert!(sent <= 1, "{sent} times");
        world.notes_lost = false;
        let last = world.settle(&broken, &policy(), &mut Memory::default());
        assert_eq!(one(&last, "A").health, Health::RolledBack);
    }
}
