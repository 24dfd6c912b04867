//! What somebody undoes again and again.

use std::time::Duration;

use ofop::model::{Command, Condition, ConditionKind, Plan, Record, RecordId, RunId, StepVerb, Wait};
use ofop::plan::{Memory, Policy};

use crate::world::{World, app, app_id, desired, name, one, policy, uuid, verbs};

const NOW: &str = "2026-01-02T03:04:05Z";

fn run(number: u64) -> RunId {
    RunId::new("host", 7, number)
}

fn policy_of(number: u64) -> Policy {
    Policy { run: Some(run(number)), ..policy() }
}

fn contested<'a>(plan: &'a Plan, id: &str) -> Option<&'a Condition> {
    plan.resources.get(&app_id(id))?.conditions.iter().find(|condition| condition.kind == ConditionKind::Contested)
}

/// An autoscaler that scales whenever it sees another number; how many writes were made in this time.
fn scaled(world: &mut World, memory: &mut Memory, passes: usize) -> (usize, Plan) {
    let wanted = desired([app("A", |_| {})]);
    let mut writes = 0;
    let mut last = None;
    for _ in 0..passes {
        if world.services[&name("a")].spec.replicas != 5 {
            world.edit("a", |service| service.spec_mut().replicas = 5);
        }
        let plan = world.pass(&wanted, &policy_of(1), memory);
        writes += verbs(&plan).len();
        last = Some(plan);
    }
    (writes, last.unwrap())
}

#[test]
fn a_field_that_somebody_sets_back_three_times_is_contested_and_repairs_back_off() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy_of(1), &mut memory);
    let (writes, plan) = scaled(&mut world, &mut memory, 3);
    assert_eq!(writes, 3);
    assert!(contested(&plan, "A").is_none());
    let (writes, plan) = scaled(&mut world, &mut memory, 1);
    assert_eq!((writes, &one(&plan, "A").held[0].wait), (0, &Wait::Contested));
    let (_, plan) = scaled(&mut world, &mut memory, 2);
    assert_eq!(one(&plan, "A").held[0].wait, Wait::Contested);
    let condition = contested(&plan, "A").unwrap();
    for part in ["replicas", "1", "5"] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
    assert_eq!(condition.reason, "UndoneByOthers", "the mark is our own");
    // An hour: 10 s, 20 s, … 5 min apart.
    let (writes, _) = scaled(&mut world, &mut memory, 720);
    assert!((10..=18).contains(&writes), "{writes}");
    // It ends: one more repair, and ten quiet minutes later it is forgotten.
    let wanted = desired([app("A", |_| {})]);
    for _ in 0..61 {
        world.pass(&wanted, &policy_of(1), &mut memory);
    }
    assert_eq!(world.services[&name("a")].spec.replicas, 1);
    let plan = world.pass(&wanted, &policy_of(1), &mut memory);
    assert!(contested(&plan, "A").is_some());
    world.now += Duration::from_secs(660);
    world.pass(&wanted, &policy_of(1), &mut memory);
    let plan = world.pass(&wanted, &policy_of(1), &mut memory);
    assert!(contested(&plan, "A").is_none() && plan.is_empty());
}

#[test]
fn a_persons_word_or_another_manifest_ends_the_pause() {
    for word in [
        Some(Command::Reconcile { confirm_prune: false }),
        Some(Command::Resume(Some(app_id("A")))),
        Some(Command::Resume(None)),
        None,
    ] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        world.converge(&desired([app("A", |_| {})]), &policy_of(1), &mut memory);
        let (_, plan) = scaled(&mut world, &mut memory, 40);
        assert!(contested(&plan, "A").is_some());
        world.edit("a", |service| service.spec_mut().replicas = 5);
        let wanted = match &word {
            Some(word) => {
                memory.command(word, NOW);
                desired([app("A", |_| {})])
            }
            None => desired([app("A", |spec| spec.image = "registry/app:2".into())]),
        };
        assert_eq!(verbs(&world.pass(&wanted, &policy_of(1), &mut memory)).len(), 1, "{word:?}");
    }
}

#[test]
fn edits_now_and_then_are_repaired_at_once() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy_of(1), &mut memory);
    for _ in 0..20 {
        world.now += Duration::from_secs(360);
        world.edit("a", |service| service.spec_mut().replicas = 5);
        assert_eq!(verbs(&world.pass(&wanted, &policy_of(1), &mut memory)).len(), 1);
    }
    // Another field each time is no fight over one.
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&wanted, &policy_of(1), &mut memory);
    for at in 0..20 {
        world
            .edit("a", |service| service.spec_mut().env.push(ofop::model::service::EnvVar::new(format!("V{at}"), "1")));
        assert_eq!(verbs(&world.pass(&wanted, &policy_of(1), &mut memory)).len(), 1);
    }
}

#[test]
fn secrets_of_a_contested_field_are_hidden() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy_of(1), &mut memory);
    let mut last = None;
    for _ in 0..6 {
        world.edit("a", |service| service.spec_mut().env[1].value = "stolen-value".into());
        last = Some(world.pass(&wanted, &policy_of(1), &mut memory));
    }
    let message = contested(last.as_ref().unwrap(), "A").unwrap().message.clone();
    assert!(message.contains("environment.TOKEN") && message.contains("(hidden)"), "{message}");
    assert!(!message.contains("s3cret") && !message.contains("stolen"), "{message}");
}

#[test]
fn two_operators_of_one_instance_on_different_commits_calm_down_and_name_one_another() {
    let mut world = World::default();
    let (old, new) = (app("A", |_| {}), app("A", |spec| spec.image = "registry/app:2".into()));
    // The newer one also describes an app that the older one takes for an orphan.
    let (old, new) = (desired([old, app("B", |_| {})]), desired([new, app("B", |_| {}), app("C", |_| {})]));
    let (mut one_memory, mut two_memory) = (Memory::default(), Memory::default());
    let mut writes = Vec::new();
    let mut plans = Vec::new();
    for _ in 0..360 {
        let first = world.pass(&old, &policy_of(1), &mut one_memory);
        let second = world.pass(&new, &policy_of(2), &mut two_memory);
        let services = |plan: &Plan| {
            let of_services = |verb: StepVerb| matches!(verb, StepVerb::Create | StepVerb::Update | StepVerb::Remove);
            verbs(plan).into_iter().filter(|(verb, ..)| of_services(*verb)).count()
        };
        writes.push(services(&first) + services(&second));
        plans = vec![first, second];
    }
    // An hour of 720 passes; the last half hour is calm.
    let late: usize = writes[180..].iter().sum();
    assert!(late <= 40, "{late} writes in half an hour");
    let told: Vec<&Condition> =
        plans.iter().flat_map(|plan| [contested(plan, "A"), contested(plan, "C")]).flatten().collect();
    assert!(!told.is_empty());
    let other = told.iter().filter(|condition| condition.reason == "OtherOperator");
    assert!(other.clone().count() > 0, "{told:?}");
    for condition in other {
        assert!(condition.message.contains("host/7/"), "{}", condition.message);
    }
}

#[test]
fn an_orphan_that_another_hand_makes_again_and_again_is_contested() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy_of(1), &mut memory);
    let orphan = world.services[&name("b")].clone();
    let wanted = desired([app("A", |_| {})]);
    let mut removed = 0;
    let mut last = None;
    for _ in 0..720 {
        if !world.services.contains_key(&name("b")) {
            world.insert((*orphan.spec).clone(), orphan.mark.clone());
        }
        let plan = world.pass(&wanted, &policy_of(1), &mut memory);
        removed += verbs(&plan).iter().filter(|(verb, ..)| *verb == StepVerb::Remove).count();
        last = Some(plan);
    }
    assert!((4..=20).contains(&removed), "{removed} removals in an hour");
    assert!(contested(last.as_ref().unwrap(), "B").is_some());
}

#[test]
fn a_record_that_somebody_rewrites_is_contested_and_a_registry_that_lags_is_not() {
    for lags in [false, true] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        let wanted = desired([app("A", |_| {})]);
        world.converge(&wanted, &policy_of(1), &mut memory);
        let id = RecordId::Asset(uuid("A"));
        for _ in 0..40 {
            if lags {
                world.records.remove(&id);
            } else {
                // Seen as we wrote it, then changed.
                world.pass(&wanted, &policy_of(1), &mut memory);
                if let Some(Record::Asset(asset)) = world.records.get_mut(&id).map(|found| &mut found.record) {
                    asset.docker_service = "elsewhere".into();
                }
            }
            world.now += policy().expectation;
            world.pass(&wanted, &policy_of(1), &mut memory);
            if lags {
                world.records.remove(&id);
            }
        }
        let plan = world.pass(&wanted, &policy_of(1), &mut memory);
        assert_eq!(contested(&plan, "A").is_some(), !lags);
    }
}

#[test]
fn another_run_in_the_mark_is_no_difference() {
    let mut world = World::default();
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy_of(1), &mut Memory::default());
    assert_eq!(world.services[&name("a")].mark.as_ref().unwrap().run, Some(run(1)));
    let plan = world.pass(&wanted, &policy_of(2), &mut Memory::default());
    assert!(plan.is_empty());
    assert_eq!(world.services[&name("a")].mark.as_ref().unwrap().run, Some(run(1)));
}
