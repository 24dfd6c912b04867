//! How the loop behaves around what it promises: quick, patient, stoppable, and converging once.

#[path = "support/fakes.rs"]
mod fakes;

use std::time::Duration;

use fakes::{id, seconds, world_of};
use ofop::model::{Block, BlockKind, Command, Health, StepVerb, Sync};
use ofop::reconcile::{ConvergeOptions, ConvergeReport, Ending, Goal, Happening, Options, Waiting, converge};
use ofop::report::Entry;
use ofop::report::status::PartState;
use ofop::testing::{FakeSwarm, Fault, World, app};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Converges once, and counts passes.
async fn once(world: &World, options: Options, until: ConvergeOptions) -> (ConvergeReport, usize) {
    let (parts, _commands) = world.parts();
    let mut passes = 0;
    let report = converge(parts, options, until, CancellationToken::new(), |happening| match happening {
        Happening::Planned(_) => passes += 1,
        Happening::Step(_) => {}
    })
    .await;
    (report, passes)
}

/// What a resource is blocked by at the end.
fn block(report: &ConvergeReport, resource: &str) -> Option<Block> {
    match &report.resources[&id(resource)] {
        Ending::Blocked(block) => Some(block.clone()),
        Ending::InSync | Ending::Unfinished(_) => None,
    }
}

fn kind(report: &ConvergeReport, resource: &str) -> Option<BlockKind> {
    block(report, resource).map(|block| block.kind)
}

#[tokio::test(start_paused = true)]
async fn a_service_removed_by_hand_is_created_within_milliseconds() {
    let world = world_of(1, &["ONE", "TWO"]);
    let _operator = world.start();
    world.settled().await;
    sleep(seconds(100)).await;
    let writes = world.writes();
    let removed = Instant::now();
    world.swarm.remove("one");
    world.writes_reach(writes + 1).await;
    assert!(removed.elapsed() < Duration::from_millis(10), "{:?}", removed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn converging_once_ends_when_what_it_wrote_can_be_seen_and_waits_for_that_no_longer_than_a_while() {
    for (lag, least, most) in [(0, 0, 2), (4, 4, 6), (3600, 15, 20)] {
        let world = world_of(7, &["ONE"]);
        world.registry.lag(seconds(lag));
        let began = Instant::now();
        let (report, _) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
        assert!(report.is_success(), "{report:?}");
        let took = began.elapsed();
        assert!(took >= seconds(least) && took <= seconds(most), "{lag}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_no_event_told_of_is_found_by_the_timer() {
    let world = world_of(2, &["ONE", "TWO"]);
    let _operator = world.start();
    world.settled().await;
    sleep(seconds(100)).await;
    world.swarm.remove_silently("one");
    sleep(seconds(31)).await;
    assert!(world.swarm.service("one").is_some());
    world.source.write_silently("TWO.yml", app("TWO", "example/app:2", ""));
    sleep(seconds(31)).await;
    assert_eq!(world.swarm.service("two").unwrap().spec.image, "example/app:2");
}

#[tokio::test(start_paused = true)]
async fn only_a_person_who_asks_has_the_source_look_for_something_new() {
    let world = world_of(20, &["ONE"]);
    let operator = world.start();
    world.settled().await;
    sleep(seconds(100)).await;
    assert!(world.source.loads() > 3, "{} loads", world.source.loads());
    assert_eq!(world.source.refreshes(), 0);
    operator.tell(Command::Reconcile { confirm_prune: false }).await;
    sleep(seconds(1)).await;
    assert_eq!(world.source.refreshes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_as_answered_once_a_pass_rests_on_manifests_that_were_read_since() {
    let world = world_of(21, &["ONE"]);
    let operator = world.start();
    world.settled().await;
    sleep(seconds(100)).await;
    assert_eq!(operator.report.status().answered, Some(0));
    // What nobody told of is in it.
    world.source.write_silently("ONE.yml", app("ONE", "example/app:2", ""));
    operator.tell(Command::Reconcile { confirm_prune: false }).await;
    operator.tell(Command::Reconcile { confirm_prune: false }).await;
    while operator.report.status().answered != Some(2) {
        sleep(Duration::from_millis(1)).await;
    }
    let status = operator.report.status();
    assert!(status.summary.out_of_sync == 1 || world.swarm.service("one").unwrap().spec.image == "example/app:2");
    // While the manifests cannot be read, passes are made and answer nothing.
    world.source.hang(true);
    operator.tell(Command::Reconcile { confirm_prune: false }).await;
    sleep(seconds(1)).await;
    let time = operator.report.status().time.clone();
    sleep(seconds(100)).await;
    let status = operator.report.status();
    assert!(status.time != time);
    assert_eq!(status.answered, Some(2));
}

#[tokio::test(start_paused = true)]
async fn many_changes_at_once_are_few_passes() {
    let world = world_of(3, &["ONE"]);
    let _operator = world.start();
    world.settled().await;
    sleep(seconds(100)).await;
    let loads = world.source.loads();
    for n in 0..200 {
        world.source.write(&format!("app{n}.yml"), app(&format!("APP{n}"), "example/app:1", ""));
    }
    world.settled().await;
    assert!(world.source.loads() - loads < 10, "{} loads", world.source.loads() - loads);
    assert_eq!(world.swarm.count(StepVerb::Create), 201);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_registry_holds_up_no_repair() {
    let world = world_of(4, &["ONE"]);
    let operator = world.start();
    world.settled().await;
    world.registry.hang(true);
    sleep(seconds(60)).await;
    world.swarm.remove("one");
    sleep(seconds(1)).await;
    assert!(world.swarm.service("one").is_some());
    world.registry.hang(false);
    operator.crash().await;
    let _operator = world.start();
    world.settled().await;
}

/// Reads that take longer than a pass waits, for ever and at each look, change nothing of what is said.
#[tokio::test(start_paused = true)]
async fn a_slow_registry_neither_flickers_nor_keeps_anything_from_going() {
    let world = world_of(4, &["ONE", "TWO"]);
    world.registry.slow(seconds(3));
    let operator = world.start();
    world.settled().await;
    sleep(seconds(30)).await;
    for _ in 0..3000 {
        sleep(Duration::from_millis(100)).await;
        let status = operator.report.status();
        assert_eq!((status.registry.state, status.summary.synced), (PartState::Up, 2), "{:?}", status.registry);
        assert!(operator.report.metrics().contains("ofop_registry_up 1"));
    }
    assert!(world.registry.reads() > 10, "it is read at each look: {} times", world.registry.reads());

    // Removals still come to their end, and never on what merely stands in.
    world.source.remove("TWO.yml");
    world.settled().await;
    let began = world.registry.calls().iter().map(|call| (call.verb, call.at)).collect::<Vec<_>>();
    let taken = began.iter().filter(|(verb, _)| *verb != StepVerb::Register).count();
    assert_eq!(taken, 2, "{began:?}");
    assert_eq!(operator.report.status().registry.state, PartState::Up);
    operator.crash().await;

    // One that gets slower than can be waited for is out of reach, and one that has never answered is not known.
    world.registry.slow(seconds(60));
    let operator = world.start();
    sleep(seconds(10)).await;
    assert_eq!(operator.report.status().registry.state, PartState::Unknown);
    sleep(seconds(35)).await;
    assert_eq!(operator.report.status().registry.state, PartState::Down);
}

#[tokio::test(start_paused = true)]
async fn a_slow_registry_is_waited_for_by_apply() {
    let world = world_of(6, &["ONE"]);
    world.registry.slow(seconds(6));
    let (report, _) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
    assert!(report.is_success(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_source_holds_up_no_repair() {
    let world = world_of(5, &["ONE"]);
    let _operator = world.start();
    world.settled().await;
    world.source.hang(true);
    sleep(seconds(60)).await;
    world.swarm.remove("one");
    sleep(seconds(1)).await;
    assert!(world.swarm.service("one").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slow_resource_delays_no_other() {
    let world = world_of(6, &["A"]);
    // Its request is lost, which is known only after a long time.
    world.swarm.script([Some(Fault::RequestLost)]);
    let _operator = world.start();
    world.writes_reach(1).await;
    world.source.write("B.yml", app("B", "example/app:1", ""));
    sleep(Duration::from_millis(100)).await;
    assert!(world.swarm.service("b").is_some());
    assert!(world.swarm.service("a").is_none());
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn work_under_way_stops_when_the_manifest_no_longer_wants_it() {
    let world = World::new(7);
    world.swarm.latency(seconds(5));
    world.source.write("anchor.yml", app("ANCHOR", "example/app:1", ""));
    world.source.write("app.yml", app("GONE", "example/app:1", ""));
    let _operator = world.start();
    world.writes_reach(2).await;
    world.source.remove("app.yml");
    world.settled().await;
    let registered = world.registry.calls().iter().filter(|call| call.object == "asset GONE").count();
    assert_eq!(registered, 0, "the step after the call in flight was never taken");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_resource_is_left_alone_until_it_is_resumed() {
    let world = world_of(8, &["ONE", "TWO"]);
    let operator = world.start();
    world.settled().await;
    operator.tell(Command::Suspend(Some(id("app/ONE")), ofop::model::Term::default())).await;
    sleep(seconds(1)).await;
    world.swarm.remove("one");
    world.source.write("ONE.yml", app("ONE", "example/app:2", ""));
    sleep(seconds(300)).await;
    assert!(world.swarm.service("one").is_none());
    assert_eq!(operator.report.status().get(&id("app/ONE")).unwrap().health, Health::Suspended);
    operator.tell(Command::Resume(Some(id("app/ONE")))).await;
    sleep(seconds(1)).await;
    assert_eq!(world.swarm.service("one").unwrap().spec.image, "example/app:2");
}

#[tokio::test(start_paused = true)]
async fn somebody_who_undoes_us_is_not_fought_at_full_speed() {
    let world = world_of(9, &["ONE"]);
    let _operator = world.start();
    world.settled().await;
    for _ in 0..600 {
        world.swarm.remove("one");
        sleep(seconds(1)).await;
    }
    assert!(world.swarm.count(StepVerb::Create) < 120, "{}", world.swarm.count(StepVerb::Create));
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_finishes_the_call_in_flight_and_starts_no_other() {
    let world = World::new(10);
    world.swarm.latency(seconds(4));
    world.source.write("app.yml", app("ONE", "example/app:1", ""));
    let operator = world.start();
    world.writes_reach(1).await;
    let asked = Instant::now();
    assert!(operator.stop().await);
    assert!(asked.elapsed() <= seconds(4));
    assert!(world.swarm.service("one").is_some(), "the call was finished");
    assert_eq!(world.writes(), 1, "the record was left to the next start");
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_does_not_wait_for_ever() {
    let world = World::new(11);
    world.swarm.latency(seconds(600));
    world.source.write("app.yml", app("ONE", "example/app:1", ""));
    let operator = world.start();
    world.writes_reach(1).await;
    let asked = Instant::now();
    assert!(!operator.stop().await, "the call did not end in time, and that is said");
    assert!(asked.elapsed() <= seconds(10));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_cut_by_stopping_is_looked_at_by_the_next_start() {
    let world = World::new(12);
    world.swarm.latency(seconds(30));
    world.source.write("app.yml", app("ONE", "example/app:1", ""));
    let operator = world.start();
    world.writes_reach(1).await;
    operator.stop().await;
    world.swarm.latency(Duration::from_millis(10));
    let _operator = world.start();
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn apply_ends_when_everything_is_as_described() {
    let world = world_of(20, &["ONE", "TWO", "THREE"]);
    let (report, passes) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(world.differences().await, Vec::<String>::new());
    assert_eq!(report.events.len(), 6);
    assert!(passes >= 2, "the last pass sees what the steps have done");

    let (again, passes) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
    assert!(again.is_success() && again.events.is_empty());
    assert_eq!(passes, 1, "nothing to do is seen at once");
}

/// Steps that end while the engine is being read are told as well.
#[tokio::test(start_paused = true)]
async fn apply_tells_of_every_step() {
    let uuids: Vec<String> = (0..100).map(|number| format!("APP-{number}")).collect();
    let world = world_of(7, &uuids.iter().map(String::as_str).collect::<Vec<_>>());
    world.swarm.reads_take(Duration::from_millis(50));
    let (parts, _commands) = world.parts();
    let mut told = 0;
    let options = (world.options.clone(), ConvergeOptions::default());
    let report = converge(parts, options.0, options.1, CancellationToken::new(), |happening| {
        told += usize::from(matches!(happening, Happening::Step(_)));
    })
    .await;
    assert!(report.is_success(), "{report:?}");
    let written = world.swarm.calls().len() + world.registry.calls().len();
    assert_eq!((report.events.len(), told), (written, written));
}

#[tokio::test(start_paused = true)]
async fn apply_waits_for_health_only_when_asked_to() {
    let wait = ConvergeOptions { goal: Goal::Settled, timeout: seconds(60), ..ConvergeOptions::default() };
    let world = world_of(21, &["ONE"]);
    let began = Instant::now();
    let (report, _) = once(&world, world.options.clone(), wait).await;
    assert!(report.is_success() && began.elapsed() >= seconds(2), "tasks take two seconds to start");

    let world = World::new(22);
    world.source.write("bad.yml", app("BAD", "example/app:broken", ""));
    let (report, _) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
    assert!(report.is_success());
    let (report, _) = once(&world, world.options.clone(), wait).await;
    assert!(report.timed_out && !report.is_success());
    assert!(matches!(&report.resources[&id("app/BAD")], Ending::Unfinished(why) if why.contains("No such image")));
}

#[tokio::test(start_paused = true)]
async fn apply_says_what_failed_and_does_the_rest() {
    let world = World::new(23);
    world.source.write("good.yml", app("GOOD", "example/app:1", ""));
    world.source.write("refused.yml", app("REFUSED", "example/app:forbidden", ""));
    world.swarm.deploy(FakeSwarm::stranger("taken"), None);
    world.source.write("taken.yml", app("TAKEN", "example/app:1", ""));
    let (report, _) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
    assert!(!report.is_success() && !report.timed_out);
    assert_eq!(report.resources[&id("app/GOOD")], Ending::InSync);
    assert_eq!(kind(&report, "app/REFUSED"), Some(BlockKind::StepRefused), "{report:?}");
    assert_eq!(kind(&report, "app/TAKEN"), Some(BlockKind::Conflict));
}

#[tokio::test(start_paused = true)]
async fn apply_gives_a_failing_resource_up_after_some_attempts() {
    let world = world_of(24, &["ONE"]);
    world.swarm.script((0..20).map(|_| Some(Fault::Refused)));
    let until = ConvergeOptions { attempts: 3, ..ConvergeOptions::default() };
    let (report, _) = once(&world, world.options.clone(), until).await;
    assert_eq!(kind(&report, "app/ONE"), Some(BlockKind::StepFailing));
    assert_eq!(world.swarm.writes(), 3);
}

#[tokio::test(start_paused = true)]
async fn apply_with_paths_touches_nothing_else() {
    let world = world_of(25, &["ONE", "TWO", "THREE"]);
    once(&world, world.options.clone(), ConvergeOptions::default()).await;
    for uuid in ["ONE", "TWO"] {
        world.source.write(&format!("{uuid}.yml"), app(uuid, "example/app:2", ""));
    }
    world.source.remove("THREE.yml");
    let mut options = world.options.clone();
    options.policy.scope = Some([id("app/ONE")].into());
    let (report, _) = once(&world, options, ConvergeOptions::default()).await;
    assert!(report.is_success());
    let image = |name: &str| world.swarm.service(name).unwrap().spec.image;
    assert_eq!((image("one"), image("two"), image("three")).0, "example/app:2");
    assert_eq!((image("two"), image("three")), ("example/app:1".into(), "example/app:1".into()));
}

#[tokio::test(start_paused = true)]
async fn down_tears_down_what_it_is_told_and_nothing_else_without_waiting_for_timers() {
    let world = world_of(26, &["ONE", "TWO", "THREE"]);
    once(&world, world.options.clone(), ConvergeOptions::default()).await;
    sleep(seconds(10)).await;
    let mut options = world.options.clone();
    options.policy.scope = Some([id("app/ONE"), id("app/TWO")].into());
    options.policy.remove = [id("app/ONE"), id("app/TWO")].into();
    let began = Instant::now();
    let (report, _) = once(&world, options, ConvergeOptions::default()).await;
    assert!(report.is_success(), "{report:?}");
    let names: Vec<_> = world.swarm.services().into_iter().map(|service| service.spec.name.to_string()).collect();
    assert_eq!(names, ["three"]);
    assert_eq!(world.registry.records().len(), 1, "records too: {:?}", world.registry.records());
    assert!(began.elapsed() < seconds(60), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn converging_without_an_engine_ends_and_says_why() {
    let world = world_of(27, &["ONE"]);
    world.swarm.leader(false);
    let (report, _) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
    assert!(!report.is_success());
    assert!(report.platform_error.is_some());
    assert!(world.swarm.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn converging_prunes_within_the_guard_and_says_what_it_holds_back() {
    let uuids: Vec<String> = (0..10).map(|n| format!("APP{n}")).collect();
    let world = world_of(28, &uuids.iter().map(String::as_str).collect::<Vec<_>>());
    once(&world, world.options.clone(), ConvergeOptions::default()).await;
    for uuid in &uuids[..8] {
        world.source.remove(&format!("{uuid}.yml"));
    }
    let (report, _) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
    assert!(!report.is_success());
    assert_eq!(kind(&report, "app/APP0"), Some(BlockKind::HeldForConfirmation));
    assert_eq!(world.swarm.services().len(), 10);
    let mut options = world.options.clone();
    options.policy.prune_confirmed = true;
    let (report, _) = once(&world, options, ConvergeOptions::default()).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(world.differences().await, Vec::<String>::new());
}

/// A look at an engine that hangs takes half a minute; what a person says holds before that.
#[tokio::test(start_paused = true)]
async fn a_person_is_heard_while_the_engine_is_waited_for() {
    let world = world_of(30, &["ONE"]);
    let operator = world.start();
    world.settled().await;
    world.swarm.reads_take(seconds(25));
    world.swarm.poke();
    sleep(seconds(1)).await;
    operator.tell(Command::Suspend(Some(id("app/ONE")), ofop::model::Term::default())).await;
    sleep(seconds(2)).await;
    assert_eq!(world.swarm.notes().len(), 1, "noted, so that it outlives the operator: {:?}", world.swarm.notes());
    let (events, _) = operator.report.events(0);
    assert!(events.iter().any(|entry| matches!(entry, Entry::Command(_))), "{events:?}");
    world.swarm.reads_take(Duration::ZERO);
    world.swarm.edit("one", |service| service.spec.replicas = 7);
    sleep(seconds(120)).await;
    assert_eq!(world.swarm.service("one").unwrap().spec.replicas, 7, "it is left alone");
}

/// A loop that waits for an engine runs: what it knows stays true.
#[tokio::test(start_paused = true)]
async fn reads_that_take_longer_than_the_time_between_two_looks_hold_up_no_change_and_no_removal() {
    let mut world = world_of(31, &["ONE", "TWO", "THREE", "FOUR", "FIVE"]);
    world.options.resync = seconds(2);
    world.swarm.reads_take(seconds(6));
    let _operator = world.start();
    world.settled().await;
    world.source.write("ONE.yml", app("ONE", "example/app:2", ""));
    world.source.remove("TWO.yml");
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn everything_is_in_sync_and_ready_once_converged() {
    let world = world_of(29, &["ONE", "TWO"]);
    let operator = world.start();
    world.settled().await;
    sleep(seconds(5)).await;
    let status = operator.report.status();
    assert!(status.ready, "{:?}", status.not_ready);
    assert!(
        status.resources.iter().all(|resource| resource.sync == Sync::Synced && resource.health == Health::Healthy)
    );
    // A jump of the wall clock changes nothing.
    operator.clock.jump(-3600);
    let writes = world.writes();
    sleep(seconds(300)).await;
    operator.clock.jump(7200);
    sleep(seconds(300)).await;
    assert_eq!(world.writes(), writes);
}

const LIMIT: Duration = Duration::from_secs(300);

/// What keeps an app `ONE` of this world from being settled, as a command that converges once sees it, and as somebody
/// sees it who waits beside a daemon; with the time that each took.
async fn both_ways(world: impl Fn() -> World) -> [(Option<Block>, Duration); 2] {
    let applied = world();
    let began = Instant::now();
    let until = ConvergeOptions { goal: Goal::Settled, timeout: LIMIT, ..ConvergeOptions::default() };
    let (report, _) = once(&applied, applied.options.clone(), until).await;
    assert_eq!(block(&report, "app/TWO"), None, "{report:?}");
    let first = (block(&report, "app/ONE"), began.elapsed());

    let beside = world();
    let operator = beside.start();
    let (mut waiting, began) = (Waiting::new(Goal::Settled), Instant::now());
    let mut outlook = ofop::reconcile::Outlook::default();
    while began.elapsed() < LIMIT {
        sleep(Duration::from_millis(250)).await;
        let status = operator.report.status();
        if status.time.is_none() {
            continue;
        }
        let verdicts = status.resources.iter().map(|resource| (&resource.id, resource.verdict.clone()));
        outlook = waiting.look(verdicts);
        if outlook.is_over() {
            break;
        }
    }
    let second = (outlook.at_the_end().0.remove(&id("app/ONE")), began.elapsed());
    [first, second]
}

fn world_with(one: &str) -> World {
    let world = world_of(31, &["TWO"]);
    world.source.write("ONE.yml", one);
    world
}

/// The last failure is not the same in two worlds; everything that people read is.
fn said(block: Option<Block>) -> Option<Block> {
    block.map(|block| Block { last_failure: None, ..block })
}

#[tokio::test(start_paused = true)]
async fn both_commands_that_wait_end_early_when_it_can_only_end_badly_and_say_the_same() {
    let absent = || world_with(&app("ONE", "example/app:absent", ""));
    let taken = || {
        let world = world_with(&app("ONE", "example/app:1", ""));
        world.swarm.deploy(FakeSwarm::stranger("one"), None);
        world
    };
    let refused = || world_with(&app("ONE", "example/app:forbidden", ""));
    let worlds: [(BlockKind, &dyn Fn() -> World); 3] =
        [(BlockKind::ImageMissing, &absent), (BlockKind::Conflict, &taken), (BlockKind::StepRefused, &refused)];
    for (expected, world) in worlds {
        let [(applied, took), (beside, waited)] = both_ways(world).await;
        assert_eq!(applied.as_ref().map(|block| block.kind), Some(expected));
        assert_eq!(said(applied), said(beside));
        assert!(took < LIMIT / 4 && waited < LIMIT / 4, "{expected:?}: {took:?}, {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn both_commands_wait_for_what_may_still_come_and_say_what_is_missing_in_the_end() {
    let manifest = app("ONE", "example/app:1", "    networks: [not-yet]\n");
    let [(applied, took), (beside, waited)] = both_ways(|| world_with(&manifest)).await;
    assert_eq!(applied.as_ref().map(|block| block.kind), Some(BlockKind::MissingNetwork));
    assert_eq!(said(applied), said(beside));
    assert!(took >= LIMIT && waited >= LIMIT, "{took:?}, {waited:?}");
    // Without waiting for health there is nothing to wait for.
    let world = world_with(&manifest);
    let (report, _) = once(&world, world.options.clone(), ConvergeOptions::default()).await;
    assert_eq!((kind(&report, "app/ONE"), report.timed_out), (Some(BlockKind::MissingNetwork), false));
}
