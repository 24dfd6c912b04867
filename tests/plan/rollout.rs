//! Changes go out in order, a part at a time, and no further once one of them breaks something.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ofop::model::{
    BlockKind, Command, ConditionKind, Desired, Gate, Health, Plan, Progress, ResourceId, Revision, RolloutPolicy,
    RolloutSettings, RunId, ServiceStep, Share, Step, Sync, Term, Verdict, Wait,
};
use ofop::plan::{Memory, Policy};
use ofop::testing::Rng;

use crate::world::{World, app, app_id, desired, device, name, one, policy};

const GOOD: [&str; 3] = ["registry/app:1", "registry/app:2", "registry/app:3"];
const BAD: &str = "registry/app:missing";

/// Somebody who carries plans out, so that what goes out is noted.
fn acting() -> Policy {
    Policy { run: Some(RunId::new("host", 7, 1)), ..policy() }
}

fn uuids(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("A{index:02}")).collect()
}

/// So many apps of one image; `revision` tells it from others.
fn all(count: usize, image: &str, revision: &str) -> Desired {
    let apps = uuids(count).into_iter().map(|uuid| app(&uuid, |spec| spec.image = image.into()));
    Desired { revision: Revision(revision.into()), ..desired(apps) }
}

/// The same of a map.
fn mixed(images: &BTreeMap<String, &str>, revision: &str) -> Desired {
    let apps = images.iter().map(|(uuid, image)| app(uuid, |spec| spec.image = (*image).into()));
    Desired { revision: Revision(revision.into()), ..desired(apps) }
}

fn handled(mut wanted: Desired, change: impl Fn(&ResourceId, &mut ofop::model::Handling)) -> Desired {
    let changed = wanted.resources.iter().map(|(id, resource)| {
        let mut resource = (**resource).clone();
        change(id, &mut resource.handling);
        (id.clone(), Arc::new(resource))
    });
    wanted.resources = changed.collect();
    wanted
}

fn rollout(settings: RolloutSettings) -> Policy {
    Policy { rollout: RolloutPolicy::Batches(settings), ..acting() }
}

/// The apps that a plan updates.
fn updated(plan: &Plan) -> BTreeSet<String> {
    let updates = plan.resources.iter().filter(|(_, resource)| {
        resource.steps.iter().any(|step| matches!(step.step, Step::Service(ServiceStep::Update { .. })))
    });
    updates.map(|(id, _)| id.uuid.to_string()).collect()
}

fn down(world: &World, count: usize) -> usize {
    uuids(count).iter().filter(|uuid| !world.runs(&uuid.to_lowercase())).count()
}

fn gate<'a>(plan: &'a Plan, id: &str) -> Option<&'a Gate> {
    one(plan, id).held.iter().find_map(|held| match &held.wait {
        Wait::Rollout(gate) => Some(gate),
        _ => None,
    })
}

fn deployed(count: usize) -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&all(count, GOOD[0], "one"), &acting(), &mut memory);
    (world, memory)
}

#[test]
fn a_first_deployment_is_not_slowed() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let plan = world.pass(&all(20, GOOD[0], "one"), &acting(), &mut memory);
    assert_eq!(plan.resources.values().filter(|resource| !resource.steps.is_empty()).count(), 20);
    assert!(world.notes.is_empty() && plan.rollouts.scopes.is_empty());
}

#[test]
fn a_change_goes_out_in_batches_each_once_the_one_before_ran_for_a_while() {
    let (mut world, mut memory) = deployed(12);
    let wanted = all(12, GOOD[1], "two");
    let mut batches = Vec::new();
    for _ in 0..60 {
        let plan = world.pass(&wanted, &acting(), &mut memory);
        let batch = updated(&plan);
        if !batch.is_empty() {
            batches.push((world.now, batch.len()));
        }
        if plan.is_empty() && plan.rollouts.scopes.is_empty() {
            break;
        }
    }
    assert_eq!(batches.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [3, 3, 3, 3]);
    assert!(batches.windows(2).all(|pair| pair[1].0 - pair[0].0 >= Duration::from_secs(10)), "{batches:?}");
    assert!(world.notes.is_empty(), "what is over is forgotten: {:?}", world.notes);
    assert!(memory.going.is_empty() && memory.rollout_sizes.is_empty());
}

#[test]
fn one_that_breaks_halts_the_rest_and_everything_says_so() {
    let (mut world, mut memory) = deployed(60);
    world.image(BAD, true);
    let wanted = all(60, BAD, "two");
    let plan = world.settle(&wanted, &acting(), &mut memory);
    assert_eq!(down(&world, 60), 15, "a quarter");
    let [status] = &plan.rollouts.scopes[..] else { panic!("{:?}", plan.rollouts.scopes) };
    assert!(status.is_halted());
    assert_eq!((status.size, status.places, status.failed.len(), status.waiting.len()), (60, 15, 15, 45));
    assert!(status.failed[0].message.contains("No such image"), "{:?}", status.failed[0]);
    let held = one(&plan, "A59");
    assert_eq!((held.sync, held.health), (Sync::OutOfSync, Health::Healthy));
    let condition = &held.conditions[0];
    assert_eq!((condition.kind, condition.reason.as_str()), (ConditionKind::RolloutHalted, "Halted"));
    assert!(condition.message.contains("app/A00") && condition.message.contains("No such image"), "{condition:?}");
    assert_eq!(held.verdict.block().map(|block| block.kind), Some(BlockKind::RolloutHalted));
    let culprit = one(&plan, "A00");
    assert!(culprit.conditions.iter().any(|condition| condition.reason == "Culprit"), "{culprit:?}");
    assert_eq!(culprit.verdict.block().map(|block| block.kind), Some(BlockKind::ImageMissing));
}

#[test]
fn the_next_commit_that_changes_what_broke_goes_on_by_itself() {
    let (mut world, mut memory) = deployed(8);
    world.image(BAD, true);
    world.settle(&all(8, BAD, "two"), &acting(), &mut memory);
    assert_eq!(down(&world, 8), 2);
    // A commit that changes something else alone lets nothing out.
    let mut images: BTreeMap<String, &str> = uuids(8).into_iter().map(|uuid| (uuid, BAD)).collect();
    images.insert("A07".into(), GOOD[1]);
    let plan = world.settle(&mixed(&images, "three"), &acting(), &mut memory);
    assert_eq!((down(&world, 8), one(&plan, "A07").sync), (2, Sync::OutOfSync));
    // What broke goes out at once, and the others once it is proven.
    let wanted = all(8, GOOD[2], "four");
    let plan = world.pass(&wanted, &acting(), &mut memory);
    assert_eq!(updated(&plan).len(), if updated(&plan).is_empty() { 0 } else { 2 });
    let plan = world.settle(&wanted, &acting(), &mut memory);
    assert_eq!((down(&world, 8), plan.is_empty(), plan.rollouts.scopes.len()), (0, true, 0));
}

#[test]
fn what_broke_and_runs_again_by_itself_for_a_minute_lets_the_others_go() {
    let (mut world, mut memory) = deployed(8);
    world.image(BAD, true);
    let wanted = all(8, BAD, "two");
    world.settle(&wanted, &acting(), &mut memory);
    world.image(BAD, false);
    let began = world.now;
    while world.services.values().any(|service| service.spec.image != BAD) {
        world.pass(&wanted, &acting(), &mut memory);
        let changed = world.services.values().filter(|service| service.spec.image == BAD).count();
        assert!(changed == 2 || world.now - began >= Duration::from_secs(60), "after {:?}", world.now - began);
        assert!(world.now - began < Duration::from_secs(600), "never goes on");
    }
}

#[test]
fn a_halted_rollout_survives_the_operator() {
    let (mut world, mut memory) = deployed(12);
    world.image(BAD, true);
    let wanted = all(12, BAD, "two");
    world.settle(&wanted, &acting(), &mut memory);
    for _ in 0..5 {
        let mut successor = Memory::default();
        let plan = world.settle(&wanted, &acting(), &mut successor);
        assert_eq!((down(&world, 12), updated(&plan).len()), (3, 0));
        assert!(plan.rollouts.scopes[0].is_halted());
    }
}

#[test]
fn an_operator_that_dies_at_any_moment_does_not_make_room_for_more() {
    for passes in 0..6 {
        let (mut world, mut memory) = deployed(12);
        world.image(BAD, true);
        let wanted = all(12, BAD, "two");
        for _ in 0..8 {
            for _ in 0..passes {
                world.pass(&wanted, &acting(), &mut memory);
            }
            memory = Memory::default();
        }
        world.settle(&wanted, &acting(), &mut memory);
        assert_eq!(down(&world, 12), 3, "dead after each {passes} passes");
    }
}

#[test]
fn nothing_goes_out_whose_note_is_lost_while_others_wait_for_it() {
    let (mut world, mut memory) = deployed(8);
    let wanted = all(8, GOOD[1], "two");
    world.notes_lost = true;
    for _ in 0..5 {
        let plan = world.pass(&wanted, &acting(), &mut memory);
        assert_eq!((updated(&plan).len(), gate(&plan, "A00")), (0, Some(&Gate::Noted)));
    }
    world.notes_lost = false;
    world.pass(&wanted, &acting(), &mut memory);
    assert_eq!(updated(&world.pass(&wanted, &acting(), &mut memory)).len(), 2);
}

#[test]
fn canaries_go_first_and_alone() {
    let (mut world, mut memory) = deployed(8);
    let canary = BTreeSet::from([app_id("A05")]);
    let policy = rollout(RolloutSettings { canary, ..RolloutSettings::default() });
    let wanted = all(8, GOOD[1], "two");
    let mut seen = Vec::new();
    for _ in 0..40 {
        let plan = world.pass(&wanted, &policy, &mut memory);
        if seen.is_empty()
            && let Some(Gate::Canary(canary)) = gate(&plan, "A00")
        {
            assert_eq!(*canary, app_id("A05"));
        }
        let batch = updated(&plan);
        if !batch.is_empty() {
            seen.push(batch);
        }
    }
    assert_eq!(seen.iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 2, 2, 2, 1]);
    assert!(seen[0].contains("A05"));
}

#[test]
fn a_number_and_a_batch_limit_what_is_on_its_way() {
    let settings = |max_unhealthy: &str, batch| RolloutSettings {
        max_unhealthy: max_unhealthy.parse().unwrap(),
        batch: NonZeroU32::new(batch),
        ..RolloutSettings::default()
    };
    for (settings, first) in
        [(settings("1", 0), 1), (settings("50%", 0), 4), (settings("50%", 3), 3), (settings("6", 2), 2)]
    {
        let (mut world, mut memory) = deployed(8);
        let (policy, wanted) = (rollout(settings), all(8, GOOD[1], "two"));
        let mut most = 0;
        for _ in 0..10 {
            most = most.max(updated(&world.pass(&wanted, &policy, &mut memory)).len());
        }
        assert_eq!(most, first);
    }
}

#[test]
fn off_is_all_at_once_and_costs_no_note() {
    let (mut world, mut memory) = deployed(8);
    let policy = Policy { rollout: RolloutPolicy::Off, ..acting() };
    let version = world.notes_version;
    assert_eq!(updated(&world.pass(&all(8, GOOD[1], "two"), &policy, &mut memory)).len(), 8);
    assert_eq!(world.notes_version, version);
}

#[test]
fn a_file_has_a_rollout_of_its_own() {
    let (mut world, mut memory) = deployed(8);
    let own = Arc::new(RolloutPolicy::Batches(RolloutSettings {
        max_unhealthy: Share::Count(NonZeroU32::MIN),
        ..RolloutSettings::default()
    }));
    // Four share a file that says something.
    let in_file = |id: &ResourceId| id.uuid.as_str() < "A04";
    let mut wanted = handled(all(8, BAD, "two"), |id, handling| {
        handling.rollout = in_file(id).then(|| Arc::clone(&own));
    });
    let moved = wanted.resources.iter().map(|(id, resource)| {
        let mut resource = (**resource).clone();
        if in_file(id) {
            resource.origin.file = "critical.yml".into();
        }
        (id.clone(), Arc::new(resource))
    });
    wanted.resources = moved.collect();
    world.image(BAD, true);
    let plan = world.settle(&wanted, &acting(), &mut memory);
    let broken: Vec<String> = uuids(8).into_iter().filter(|uuid| !world.runs(&uuid.to_lowercase())).collect();
    assert_eq!(broken, ["A00", "A04"], "one of the file, and a quarter of the four others");
    let scopes: Vec<String> = plan.rollouts.scopes.iter().map(|status| status.scope.to_string()).collect();
    assert_eq!(scopes, ["everywhere", "critical.yml"]);
}

#[test]
fn repairs_do_not_wait_and_one_that_breaks_something_counts() {
    let (mut world, mut memory) = deployed(8);
    let same = all(8, GOOD[0], "one");
    let edit = |world: &mut World, uuid: &str| {
        world.edit(&uuid.to_lowercase(), |service| service.spec_mut().user = Some("1000:1000".into()));
    };
    uuids(8).iter().for_each(|uuid| edit(&mut world, uuid));
    assert_eq!(updated(&world.pass(&same, &acting(), &mut memory)).len(), 8, "repairs wait for no place");
    world.settle(&same, &acting(), &mut memory);
    // The image is gone by the time of the next repair: two broken by it take both places.
    world.image(GOOD[0], true);
    ["A03", "A05"].iter().for_each(|uuid| edit(&mut world, uuid));
    world.pass(&same, &acting(), &mut memory);
    assert_eq!(down(&world, 8), 2);
    let plan = world.settle(&all(8, GOOD[0], "one"), &acting(), &mut memory);
    assert!(plan.rollouts.scopes[0].is_halted());
    let mut images: BTreeMap<String, &str> = uuids(8).into_iter().map(|uuid| (uuid, GOOD[1])).collect();
    images.extend([("A03".to_owned(), GOOD[0]), ("A05".to_owned(), GOOD[0])]);
    let plan = world.settle(&mixed(&images, "two"), &acting(), &mut memory);
    assert_eq!((updated(&plan).len(), plan.rollouts.scopes[0].waiting.len()), (0, 6));
}

#[test]
fn what_waits_is_put_back_as_it_was_meanwhile() {
    let (mut world, mut memory) = deployed(8);
    world.image(BAD, true);
    let wanted = all(8, BAD, "two");
    let plan = world.settle(&wanted, &acting(), &mut memory);
    let edited = plan.rollouts.scopes[0].waiting[0].uuid.to_string();
    world.edit(&edited.to_lowercase(), |service| service.spec_mut().user = Some("1000:1000".into()));
    let plan = world.pass(&wanted, &acting(), &mut memory);
    assert_eq!(one(&plan, &edited).drift.len(), 1);
    assert_eq!((one(&plan, &edited).steps.len(), one(&plan, &edited).held.len()), (1, 1));
    world.settle(&wanted, &acting(), &mut memory);
    let service = &world.services[&name(&edited.to_lowercase())];
    assert_eq!((service.spec.image.as_str(), &service.spec.user), (GOOD[0], &None));
    assert_eq!(down(&world, 8), 2);
}

#[test]
fn what_does_not_run_anyway_waits_for_no_place() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.image(BAD, true);
    world.settle(&all(8, BAD, "one"), &acting(), &mut memory);
    assert_eq!(down(&world, 8), 8);
    assert_eq!(updated(&world.pass(&all(8, GOOD[1], "two"), &acting(), &mut memory)).len(), 8);
}

#[test]
fn resume_goes_on_without_what_broke_and_abort_stops_what_is_left_of_a_revision() {
    let (mut world, mut memory) = deployed(8);
    world.image(BAD, true);
    let images: BTreeMap<String, &str> =
        uuids(8).into_iter().map(|uuid| if uuid == "A00" { (uuid, BAD) } else { (uuid, GOOD[1]) }).collect();
    let wanted = mixed(&images, "two");
    world.settle(&wanted, &acting(), &mut memory);
    assert!(world.services.values().any(|service| service.spec.image == GOOD[0]));
    memory.command(&Command::RolloutAbort, "2026-01-02T03:04:05Z");
    memory.command(&Command::RolloutResume, "2026-01-02T03:04:05Z");
    let plan = world.settle(&wanted, &acting(), &mut memory);
    assert!(world.services.values().all(|service| service.spec.image != GOOD[0]), "{:?}", plan.rollouts.scopes);

    let wanted = all(8, GOOD[2], "three");
    world.pass(&wanted, &acting(), &mut memory);
    memory.command(&Command::RolloutAbort, "2026-01-02T03:04:05Z");
    let mut heir = Memory::default();
    world.pass(&wanted, &acting(), &mut memory);
    let plan = world.settle(&wanted, &acting(), &mut heir);
    assert_eq!(updated(&plan).len(), 0);
    assert!(plan.rollouts.scopes.iter().any(|status| status.aborted && !status.waiting.is_empty()), "{plan:#?}");
    // The next revision begins anew.
    world.settle(&all(8, GOOD[2], "four"), &acting(), &mut heir);
    assert!(world.services.values().all(|service| service.spec.image == GOOD[2]));
    assert!(world.notes.is_empty(), "{:?}", world.notes);
}

#[test]
fn what_comes_after_another_is_made_and_changed_only_once_that_runs() {
    let order = |wanted: Desired| {
        handled(wanted, |id, handling| {
            if id.uuid.as_str() != "DB" {
                handling.after = vec![app_id("DB")];
            }
        })
    };
    let of = |image: &str| {
        let image = image.to_owned();
        order(desired([
            app("DB", |spec| spec.image = image.clone()),
            app("A", |spec| spec.image = image.clone()),
            device("CNC"),
        ]))
    };
    let (mut world, mut memory) = (World::default(), Memory::default());
    let plan = world.pass(&of(GOOD[0]), &acting(), &mut memory);
    assert_eq!(gate(&plan, "A"), Some(&Gate::Order { after: app_id("DB"), stuck: false }));
    assert!(one(&plan, "A").steps.is_empty(), "no record of what is not there");
    assert!(matches!(&one(&plan, "A").verdict, Verdict::InProgress { why: Progress::Rollout, .. }));
    world.converge(&of(GOOD[0]), &acting(), &mut memory);
    assert_eq!(world.services.len(), 5);

    // The one that it needs breaks: it stays as it is, and says why.
    world.image(BAD, true);
    let plan = world.settle(&of(BAD), &acting(), &mut memory);
    assert!(world.runs("a") && !world.runs("db"));
    assert_eq!(gate(&plan, "A"), Some(&Gate::Order { after: app_id("DB"), stuck: true }));
    assert_eq!(one(&plan, "A").verdict.block().map(|block| block.kind), Some(BlockKind::MissingDependency));
    world.settle(&of(GOOD[1]), &acting(), &mut memory);
    assert!(world.runs("a") && world.services.values().filter(|service| service.spec.image == GOOD[1]).count() == 2);
}

#[test]
fn what_comes_after_something_that_nobody_describes_waits_and_says_so() {
    let wanted = handled(desired([app("A", |_| {})]), |_, handling| handling.after = vec![app_id("GONE")]);
    let (mut world, mut memory) = (World::default(), Memory::default());
    let plan = world.settle(&wanted, &acting(), &mut memory);
    assert!(world.services.is_empty());
    let block = one(&plan, "A").verdict.block().unwrap();
    assert!(block.kind == BlockKind::MissingDependency && block.message.contains("app/GONE"), "{block:?}");
}

/// What happened in one history.
#[derive(Debug, Default)]
struct Tally {
    commits: usize,
    deaths: usize,
    broken: usize,
}

/// Commits with good and bad images, deaths and hand-overs of the operator, edits by hand. Never are more of the apps that
/// ran before a revision changed them out of service than the rollout has places; and when the last commit is good,
/// everything is in force in the end.
fn history(seed: u64, tally: &mut Tally) {
    const APPS: usize = 9;
    let mut random = Rng::new(seed);
    let shares = ["1", "2", "10%", "25%", "50%"];
    let settings = RolloutSettings {
        max_unhealthy: shares[random.below(5) as usize].parse().unwrap(),
        batch: NonZeroU32::new(random.below(4) as u32),
        ..RolloutSettings::default()
    };
    let places = settings.places(APPS);
    let policy = rollout(settings);
    let (mut world, mut memory) = (World::default(), Memory::default());
    let mut images: BTreeMap<String, &str> = uuids(APPS).into_iter().map(|uuid| (uuid, GOOD[0])).collect();
    let mut wanted = mixed(&images, "start");
    world.converge(&wanted, &policy, &mut memory);
    world.image(BAD, true);
    // Which revision changed an app when it last ran.
    let mut changed_by: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..40 {
        match random.below(10) {
            0..2 => {
                tally.commits += 1;
                for image in images.values_mut() {
                    if random.chance(60) {
                        *image = if random.chance(30) { BAD } else { GOOD[random.below(3) as usize] };
                    }
                }
                wanted = mixed(&images, &format!("{seed}-{round}"));
            }
            2 => {
                tally.deaths += 1;
                memory = Memory::default();
            }
            3 => memory = memory.after_a_gap(),
            4 => world.notes_lost = random.chance(30),
            5 => {
                let uuid = uuids(APPS)[random.below(APPS as u64) as usize].to_lowercase();
                if world.runs(&uuid) {
                    world.edit(&uuid, |service| {
                        service.spec_mut().labels.insert("by".into(), "hand".into()).map_or((), drop)
                    });
                }
            }
            _ => {}
        }
        let ran: BTreeSet<String> = uuids(APPS).into_iter().filter(|uuid| world.runs(&uuid.to_lowercase())).collect();
        let plan = world.pass(&wanted, &policy, &mut memory);
        changed_by.extend(updated(&plan).intersection(&ran).map(|uuid| (uuid.clone(), wanted.revision.0.clone())));
        let mut broken: BTreeMap<&str, usize> = BTreeMap::new();
        for (uuid, revision) in &changed_by {
            if !world.runs(&uuid.to_lowercase()) {
                *broken.entry(revision).or_default() += 1;
            }
        }
        let most = broken.values().copied().max().unwrap_or(0);
        tally.broken = tally.broken.max(most);
        assert!(most <= places, "seed {seed}, round {round}: {broken:?} are down, {places} may be");
    }
    world.notes_lost = false;
    for image in images.values_mut() {
        *image = GOOD[2];
    }
    let wanted = mixed(&images, "end");
    for _ in 0..120 {
        let plan = world.pass(&wanted, &policy, &mut memory);
        if plan.is_empty() && plan.rollouts.scopes.is_empty() {
            assert!(world.services.values().all(|service| service.spec.image == GOOD[2]), "seed {seed}");
            assert!(world.notes.is_empty(), "seed {seed}: {:?}", world.notes);
            return;
        }
    }
    panic!("seed {seed}: it never ends");
}

#[test]
fn no_history_breaks_more_than_a_rollout_has_places_and_each_ends_when_the_faults_do() {
    let number = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse::<u64>().unwrap());
    let (histories, first) = (number("OFOP_ROLLOUT_HISTORIES", 120), number("OFOP_ROLLOUT_SEED", 0));
    let mut tally = Tally::default();
    for seed in first..first + histories {
        history(seed, &mut tally);
    }
    assert!(histories < 20 || tally.commits > 0 && tally.deaths > 0 && tally.broken > 1, "{tally:?}");
}

/// Somebody sets the clock.
fn set_clock(world: &mut World, time: &str) {
    let wanted: jiff::Timestamp = time.parse().unwrap();
    world.jumped += wanted.as_second() - world.wall().as_second();
}

const NIGHTS: &str = "allow 0 22 * * * for 6h in UTC";

fn in_windows(wanted: Desired, windows: &str) -> Desired {
    handled(wanted, |_, handling| handling.windows = windows.parse().unwrap())
}

#[test]
fn changes_wait_for_their_window_and_repairs_do_not() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    set_clock(&mut world, "2026-11-26T12:00:00Z");
    let first = in_windows(all(2, GOOD[0], "one"), NIGHTS);
    let plan = world.settle(&first, &acting(), &mut memory);
    assert!(world.services.is_empty(), "a first deployment is a change");
    let block = one(&plan, "A00").verdict.block().unwrap();
    assert!(block.kind == BlockKind::OutsideWindow && block.message.contains("2026-11-26T22:00:00Z"), "{block:?}");
    assert!(!one(&plan, "A00").verdict.needs_attention());

    set_clock(&mut world, "2026-11-26T22:00:00Z");
    world.converge(&first, &acting(), &mut memory);
    set_clock(&mut world, "2026-11-27T04:00:00Z");
    let second = in_windows(all(2, GOOD[1], "two"), NIGHTS);
    world.edit("a00", |service| service.spec_mut().user = Some("1000:1000".into()));
    world.remove_by_hand("a01");
    world.settle(&second, &acting(), &mut memory);
    let image = |world: &World, service: &str| world.services[&name(service)].spec.image.clone();
    assert_eq!((image(&world, "a00"), &world.services[&name("a00")].spec.user), (GOOD[0].to_owned(), &None));
    assert!(world.services.contains_key(&name("a01")), "what is lost is made again");

    // Down over the whole window, and back after it: it waits for the next one.
    set_clock(&mut world, "2026-11-28T12:00:00Z");
    let mut successor = Memory::default();
    world.settle(&second, &acting(), &mut successor);
    assert_eq!(image(&world, "a00"), GOOD[0]);
    // The clock jumps into it.
    set_clock(&mut world, "2026-11-28T23:00:00Z");
    world.converge(&second, &acting(), &mut successor);
    assert_eq!(image(&world, "a00"), GOOD[1]);
}

#[test]
fn a_removal_waits_for_the_window_that_its_manifest_had_and_comes_in_reverse_order() {
    let order = |wanted: Desired| {
        handled(wanted, |id, handling| {
            handling.windows = NIGHTS.parse().unwrap();
            if id.uuid.as_str() == "A00" {
                handling.after = vec![app_id("B")];
            }
        })
    };
    let (mut world, mut memory) = (World::default(), Memory::default());
    set_clock(&mut world, "2026-11-26T22:00:00Z");
    let kept = || app("KEPT", |_| {});
    world.converge(&order(desired([app("A00", |_| {}), app("B", |_| {}), kept()])), &acting(), &mut memory);
    set_clock(&mut world, "2026-11-27T12:00:00Z");
    let without = order(desired([kept()]));
    // Whoever comes next knows it from the marks alone.
    let mut successor = Memory::default();
    world.settle(&without, &acting(), &mut successor);
    assert_eq!(world.services.len(), 3);
    set_clock(&mut world, "2026-11-27T22:00:00Z");
    let mut gone = Vec::new();
    for _ in 0..20 {
        let before: BTreeSet<_> = world.services.keys().cloned().collect();
        world.pass(&without, &acting(), &mut successor);
        gone.extend(before.into_iter().filter(|name| !world.services.contains_key(name)).map(|name| name.to_string()));
    }
    assert_eq!(gone, ["a00", "b"], "what needs the other goes first");
    // A removal that was begun ends, also when the window closes.
    assert!(!world.records.is_empty());
    set_clock(&mut world, "2026-11-28T12:00:00Z");
    world.converge(&without, &acting(), &mut successor);
    assert_eq!(world.records.len(), 1);
}

#[test]
fn what_a_person_lets_out_does_not_wait_and_repairs_may_be_told_to() {
    let (mut world, mut memory) = deployed(2);
    set_clock(&mut world, "2026-11-26T12:00:00Z");
    let wanted = in_windows(all(2, GOOD[1], "two"), &format!("{NIGHTS}; repairs window"));
    world.edit("a01", |service| service.spec_mut().user = Some("1000:1000".into()));
    world.settle(&wanted, &acting(), &mut memory);
    assert!(world.services[&name("a01")].spec.user.is_some(), "repairs wait as well");
    memory.command(&Command::RolloutStart(app_id("A00")), "2026-11-26T12:00:00Z");
    world.settle(&wanted, &acting(), &mut memory);
    assert_eq!(world.services[&name("a00")].spec.image, GOOD[1]);
    assert_eq!(world.services[&name("a01")].spec.image, GOOD[0]);
    assert!(memory.started.is_empty() && world.notes.is_empty(), "it is done: {:?}", world.notes);
}

#[test]
fn a_freeze_holds_changes_until_it_ends_and_repairs_go_on() {
    let (mut world, mut memory) = deployed(2);
    set_clock(&mut world, "2026-11-26T12:00:00Z");
    let term = Term::new("2026-11-26T20:00:00Z".parse().ok(), Some("inventory"));
    memory.command(&Command::Freeze(term), "2026-11-26T12:00:00Z");
    let wanted = all(2, GOOD[1], "two");
    world.edit("a01", |service| service.spec_mut().user = Some("1000:1000".into()));
    let plan = world.settle(&wanted, &acting(), &mut memory);
    assert!(world.services.values().all(|service| service.spec.image == GOOD[0] && service.spec.user.is_none()));
    let block = one(&plan, "A00").verdict.block().unwrap();
    assert!(block.kind == BlockKind::OutsideWindow && block.message.contains("inventory"), "{block:?}");
    // Whoever comes next knows of it, and of its end.
    let mut successor = Memory::default();
    world.settle(&wanted, &acting(), &mut successor);
    assert!(world.services.values().all(|service| service.spec.image == GOOD[0]));
    set_clock(&mut world, "2026-11-26T20:00:00Z");
    world.settle(&wanted, &acting(), &mut successor);
    assert!(world.services.values().all(|service| service.spec.image == GOOD[1]));
}
