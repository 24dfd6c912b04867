//! Removals that take their time: a description may be on its way from one file to another, and what takes its place is
//! to run first.

use std::time::Duration;

use ofop::model::service::EnvVar;
use ofop::model::{
    Desired, DesiredResource, Field, Health, IgnoredField, OwnedField, PruneBlock, PruneVerdict, Revision, TaskState,
    Wait,
};
use ofop::plan::{Guard, Memory, Policy};

use crate::world::{World, app, app_id, desired, name, one, policy};

/// Time between two passes is 5 s.
const DELAY: Duration = Duration::from_secs(30);

fn gentle() -> Policy {
    Policy { prune_delay: DELAY, prune_last: true, ..policy() }
}

fn revision(text: &str, resources: impl IntoIterator<Item = DesiredResource>) -> Desired {
    Desired { revision: Revision(text.into()), ..desired(resources) }
}

fn apps(names: &[&str]) -> Vec<DesiredResource> {
    names.iter().map(|name| app(name, |_| {})).collect()
}

fn lived_in(resources: Vec<DesiredResource>) -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&revision("one", resources), &gentle(), &mut memory);
    (world, memory)
}

fn there(world: &World, service: &str) -> bool {
    world.services.contains_key(&name(service))
}

/// Tasks of a service do not run.
fn starting(world: &mut World, service: &str) {
    let id = world.services[&name(service)].id.clone();
    for task in world.tasks.get_mut(&id).unwrap() {
        task.state = TaskState::Preparing;
    }
}

#[test]
fn a_resource_that_turns_up_in_another_file_within_the_delay_is_not_touched() {
    let (mut world, mut memory) = lived_in(apps(&["A", "B", "C"]));
    let id = world.services[&name("b")].id.clone();
    let gone = revision("two", apps(&["A", "C"]));
    for _ in 0..5 {
        let plan = world.pass(&gone, &gentle(), &mut memory);
        let held = one(&plan, "B");
        assert!(held.steps.is_empty(), "{held:#?}");
        assert!(matches!(held.held[0].wait, Wait::PruneDelay(_) | Wait::SecondSighting), "{held:#?}");
        assert!(plan.recheck.is_some_and(|soon| soon <= Duration::from_secs(1)));
    }
    let plan = world.pass(&gone, &gentle(), &mut memory);
    let condition = one(&plan, "B").conditions.iter().find(|condition| condition.reason == "PruneDelay").unwrap();
    assert!(condition.message.contains("in 5 s"), "{}", condition.message);
    assert!(world.pass(&revision("three", apps(&["A", "B", "C"])), &gentle(), &mut memory).is_empty());
    assert_eq!(world.services[&name("b")].id, id);
    // The time begins anew, and ends.
    for _ in 0..3 {
        world.pass(&gone, &gentle(), &mut memory);
    }
    assert!(there(&world, "b"));
    world.converge(&gone, &gentle(), &mut memory);
    assert!(!there(&world, "b"));
}

#[test]
fn what_a_person_wants_gone_or_has_confirmed_does_not_wait() {
    let (mut world, mut memory) = lived_in(apps(&["A", "B", "C"]));
    let all = revision("one", apps(&["A", "B", "C"]));
    let down = Policy { remove: [app_id("B")].into(), scope: Some([app_id("B")].into()), ..gentle() };
    for _ in 0..3 {
        world.pass(&all, &down, &mut memory);
    }
    assert!(!there(&world, "b"), "after two sightings");
    let confirmed = Policy { prune_confirmed: true, ..gentle() };
    for _ in 0..3 {
        world.pass(&revision("two", apps(&["A"])), &confirmed, &mut memory);
    }
    assert!(!there(&world, "c"));
}

#[test]
fn while_a_file_cannot_be_read_the_delay_does_not_begin() {
    let (mut world, mut memory) = lived_in(apps(&["A", "B", "C"]));
    let cut = Desired { complete: false, ..revision("two", apps(&["A", "C"])) };
    for _ in 0..20 {
        world.pass(&cut, &gentle(), &mut memory);
    }
    assert!(memory.orphaned.is_empty());
    for _ in 0..5 {
        world.pass(&revision("two", apps(&["A", "C"])), &gentle(), &mut memory);
    }
    assert!(there(&world, "b"));
}

/// A rename, with the new half not running.
fn renamed(policy: &Policy) -> (World, Memory, Desired) {
    let (mut world, mut memory) = lived_in(apps(&["A", "B", "OLD"]));
    let next = revision("two", apps(&["A", "B", "NEW"]));
    world.pass(&next, policy, &mut memory);
    assert!(there(&world, "new"), "what is new is made at once");
    for _ in 0..12 {
        starting(&mut world, "new");
        world.pass(&next, policy, &mut memory);
    }
    (world, memory, next)
}

#[test]
fn the_old_half_of_a_rename_goes_once_the_new_one_runs() {
    let (mut world, mut memory, next) = renamed(&gentle());
    starting(&mut world, "new");
    let plan = world.pass(&next, &gentle(), &mut memory);
    let wait = &one(&plan, "OLD").held[0].wait;
    assert_eq!(*wait, Wait::Successor(app_id("NEW")));
    assert!(there(&world, "old"));
    let id = world.services[&name("new")].id.clone();
    world.tasks.get_mut(&id).unwrap()[0].state = TaskState::Running;
    world.converge(&next, &gentle(), &mut memory);
    assert!(!there(&world, "old"));
}

#[test]
fn a_new_half_that_never_runs_is_waited_for_until_its_deadline_also_over_a_restart() {
    for restarts in [false, true] {
        let (mut world, mut memory, next) = renamed(&gentle());
        if restarts {
            memory = Memory::default();
        }
        let mut passes = 0;
        while there(&world, "old") {
            starting(&mut world, "new");
            world.pass(&next, &gentle(), &mut memory);
            passes += 1;
            assert!(passes < 60, "it goes at some time");
        }
        // 120 s are the deadline of these tests; 65 s of it have passed before.
        assert!(passes >= 10, "restarts: {restarts}, {passes}");
    }
}

#[test]
fn nothing_is_waited_for_where_a_setting_says_so_or_the_new_half_needs_the_olds_port() {
    let (world, ..) = renamed(&Policy { prune_last: false, ..gentle() });
    assert!(!there(&world, "old"));

    let with_port = |name: &str| app(name, |spec| spec.ports = vec![ofop::model::service::Port::tcp(7878, 5000)]);
    let mut resources = apps(&["A", "B"]);
    resources.push(with_port("OLD"));
    let (mut world, mut memory) = lived_in(resources);
    let mut resources = apps(&["A", "B"]);
    resources.push(with_port("NEW"));
    let next = revision("two", resources);
    for _ in 0..12 {
        world.pass(&next, &gentle(), &mut memory);
        starting(&mut world, "new");
    }
    assert!(!there(&world, "old"));
}

#[test]
fn what_came_with_another_revision_or_is_suspended_is_not_waited_for() {
    let (mut world, mut memory) = lived_in(apps(&["A", "B", "OLD"]));
    let grown = revision("two", apps(&["A", "B", "NEW", "OLD"]));
    for _ in 0..3 {
        world.pass(&grown, &gentle(), &mut memory);
        starting(&mut world, "new");
    }
    let shrunk = revision("three", apps(&["A", "B", "NEW"]));
    for _ in 0..10 {
        world.pass(&shrunk, &gentle(), &mut memory);
        starting(&mut world, "new");
    }
    assert!(!there(&world, "old"));
}

#[test]
fn of_a_small_plant_more_than_half_is_asked_about() {
    let guard = Guard::default();
    for (all, gone, asks) in [
        (2, 1, false),
        (3, 1, false),
        (3, 2, true),
        (4, 2, false),
        (4, 3, true),
        (5, 3, true),
        (6, 3, false),
        (6, 5, true),
        (7, 5, true),
        (7, 4, false),
        (9, 5, false),
    ] {
        let names: Vec<String> = (0..all).map(|index| format!("A{index}")).collect();
        let of = |from: usize| names[from..].iter().map(|name| app(name, |_| {})).collect::<Vec<_>>();
        let (mut world, mut memory) = lived_in(of(0));
        let policy = Policy { guard, ..gentle() };
        let plan = world.pass(&revision("two", of(gone)), &policy, &mut memory);
        let held = matches!(plan.prune, PruneVerdict::Blocked { reason: PruneBlock::Guard { .. }, .. });
        assert_eq!(held, asks, "{gone} of {all}: {:?}", plan.prune);
    }
    // Who allows a larger share allows it of few as well.
    let (mut world, mut memory) = lived_in(apps(&["A", "B", "C"]));
    let policy = Policy { guard: Guard { fraction: 0.9, ..guard }, ..gentle() };
    let plan = world.pass(&revision("two", apps(&["A"])), &policy, &mut memory);
    assert!(matches!(plan.prune, PruneVerdict::Allowed(_)), "{:?}", plan.prune);
}

#[test]
fn an_app_that_failed_long_ago_runs_for_a_daemon_that_comes_up() {
    let wanted = revision("one", apps(&["A"]));
    let (mut world, _) = lived_in(apps(&["A"]));
    let id = world.services[&name("a")].id.clone();
    let running = world.tasks[&id][0].clone();
    for number in 0..3 {
        let mut failed = running.clone();
        failed.id = format!("failed-{number}");
        (failed.state, failed.wanted) = (TaskState::Failed, false);
        world.tasks.get_mut(&id).unwrap().push(failed);
    }
    let mut memory = Memory::default();
    for _ in 0..3 {
        assert_eq!(one(&world.pass(&wanted, &gentle(), &mut memory), "A").health, Health::Healthy);
    }
    // One that comes up while somebody looks is another matter.
    world.tasks.get_mut(&id).unwrap()[0].id = "fresh".into();
    let plan = world.pass(&wanted, &gentle(), &mut memory);
    assert_eq!(one(&plan, "A").health, Health::Progressing);
}

#[test]
fn where_replicas_are_ignored_the_variable_that_repeats_them_is_ignored_as_well() {
    let version = |replicas: u64| {
        let mut resource = app("A", |spec| {
            spec.replicas = replicas;
            spec.env.push(EnvVar::new("SWARM_REPLICAS", replicas.to_string()));
        });
        resource.handling.ignore = vec![IgnoredField { service: None, field: Field::of(OwnedField::Replicas) }];
        revision("one", [resource])
    };
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&version(2), &gentle(), &mut memory);
    world.edit("a", |service| service.spec_mut().replicas = 4);
    world.converge(&version(3), &gentle(), &mut memory);
    let spec = &world.services[&name("a")].spec;
    assert_eq!(spec.replicas, 4);
    assert_eq!(spec.env.last().unwrap().value, "2", "no task restarts for a number that nobody asked for");
}
