//! Several operators of one instance in one world: one acts, the others watch.

#[path = "support/fakes.rs"]
mod fakes;

use std::time::Duration;

use fakes::{beside, id, seconds};
use ofop::model::{Command, ConditionKind, Health, LeaseFound, LeaseUnread, Standing};
use ofop::report::Entry;
use ofop::report::events::ConditionChange;
use ofop::testing::{FakeLease, Operator, World, app};
use tokio::time::{Instant, sleep};

/// A world whose operators share a lease.
fn world_of(seed: u64, uuids: &[&str]) -> World {
    let mut world = fakes::world_of(seed, uuids);
    world.lease = Some(FakeLease::new());
    world
}

fn standing(operator: &Operator) -> Standing {
    operator.report.lease_status().standing
}

fn leader(operator: &Operator) -> bool {
    operator.report.metrics().lines().any(|line| line == "ofop_leader 1")
}

/// Waits until this operator holds the lease.
async fn leads(operator: &Operator) {
    while standing(operator) != Standing::Holder {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_operators_acts_and_the_other_one_watches_and_says_so() {
    let world = world_of(1, &["ONE", "TWO"]);
    let one = world.start();
    leads(&one).await;
    let other = world.start();
    world.settled().await;
    sleep(seconds(60)).await;
    let writes = world.writes();
    assert_eq!((standing(&one), standing(&other)), (Standing::Holder, Standing::Standby));
    assert_eq!((leader(&one), leader(&other)), (true, false));
    assert_eq!(other.report.lease_status().holder(), Some(&one.run));
    let status = other.report.status();
    assert_eq!(
        (status.summary.resources, status.summary.synced, status.ready),
        (2, 2, true),
        "it observes all the same"
    );

    // The holder dies: nothing is done by anybody until its lease is over, and then the other one does it.
    one.crash().await;
    let died = Instant::now();
    world.swarm.remove("one");
    world.writes_reach(writes + 1).await;
    assert!(died.elapsed() <= seconds(16), "{:?}", died.elapsed());
    assert!(died.elapsed() >= seconds(9), "the lease of a holder that died runs out first: {:?}", died.elapsed());
    assert_eq!(standing(&other), Standing::Holder);
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_hands_the_lease_back_and_the_next_operator_takes_over_within_a_second() {
    let world = world_of(2, &["ONE"]);
    let one = world.start();
    world.settled().await;
    let other = world.start();
    sleep(seconds(30)).await;
    assert!(one.stop().await);
    let stopped = Instant::now();
    leads(&other).await;
    assert!(stopped.elapsed() < seconds(1), "{:?}", stopped.elapsed());
    // A restart takes over at once, since nobody else holds it.
    assert!(other.stop().await);
    let again = world.start();
    let started = Instant::now();
    leads(&again).await;
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn two_operators_that_see_different_manifests_do_not_fight() {
    let world = world_of(3, &["ONE", "TWO"]);
    let elsewhere = beside(&world, 4, &["ONE", "THREE"]);
    let one = world.start();
    leads(&one).await;
    let _other = elsewhere.start();
    world.settled().await;
    sleep(seconds(120)).await;
    let writes = world.writes();
    sleep(seconds(600)).await;
    assert_eq!(world.writes(), writes, "{:?}", world.swarm.calls());
    assert_eq!(world.differences().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_people_said_and_second_sightings_outlive_a_hand_over_as_they_should() {
    let world = world_of(5, &["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX"]);
    let one = world.start();
    let other = world.start();
    leads(&one).await;
    world.settled().await;
    one.tell(Command::Suspend(Some(id("app/ONE")), ofop::model::Term::default())).await;
    sleep(seconds(5)).await;
    world.source.write("ONE.yml", app("ONE", "example/app:2", ""));
    one.crash().await;
    leads(&other).await;
    sleep(seconds(60)).await;
    assert_eq!(world.swarm.service("one").unwrap().spec.image, "example/app:1", "it is still suspended");
    assert_eq!(other.report.status().get(&id("app/ONE")).unwrap().health, Health::Suspended);
}

#[tokio::test(start_paused = true)]
async fn a_word_that_could_not_be_noted_outlives_a_lapse_of_the_lease() {
    let world = world_of(6, &["ONE"]);
    let one = world.start();
    world.settled().await;
    sleep(seconds(30)).await;
    world.swarm.leader(false);
    world.lease.as_ref().unwrap().away(true);
    sleep(seconds(2)).await;
    one.tell(Command::Suspend(Some(id("app/ONE")), ofop::model::Term::default())).await;
    sleep(seconds(60)).await;
    assert_eq!((standing(&one), leader(&one)), (Standing::Blocked, false), "without a leader nobody writes");
    world.swarm.leader(true);
    world.lease.as_ref().unwrap().away(false);
    leads(&one).await;
    sleep(seconds(60)).await;
    world.source.write("ONE.yml", app("ONE", "example/app:2", ""));
    sleep(seconds(60)).await;
    assert_eq!(world.swarm.service("one").unwrap().spec.image, "example/app:1");
    assert!(world.swarm.notes().contains_key("suspended/app/ONE"), "{:?}", world.swarm.notes());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_the_lease_cannot_be_renewed() {
    let world = world_of(7, &["ONE"]);
    let _one = world.start();
    world.settled().await;
    sleep(seconds(30)).await;
    world.lease.as_ref().unwrap().away(true);
    sleep(seconds(14)).await;
    let writes = world.writes();
    world.swarm.remove("one");
    sleep(seconds(300)).await;
    assert_eq!(world.writes(), writes);
    world.lease.as_ref().unwrap().away(false);
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn manifests_and_both_sides_are_read_afresh_before_the_first_write_after_a_take_over() {
    let world = world_of(8, &["ONE"]);
    let one = world.start();
    leads(&one).await;
    let other = world.start();
    world.settled().await;
    sleep(seconds(30)).await;
    // Nobody tells the standby of what happened since its last look, and its holder is gone.
    one.crash().await;
    sleep(seconds(5)).await;
    world.source.write_silently("ONE.yml", app("ONE", "example/app:2", ""));
    world.swarm.remove_silently("one");
    let loads = world.source.loads();
    leads(&other).await;
    sleep(seconds(1)).await;
    assert!(world.source.loads() > loads);
    assert_eq!(world.swarm.service("one").unwrap().spec.image, "example/app:2", "made as it is described now");
    let images: Vec<_> = world.swarm.calls().iter().map(|call| call.verb).collect();
    assert_eq!(images.len(), 2, "the first deployment, and this one: {images:?}");
}

#[tokio::test(start_paused = true)]
async fn a_take_over_by_force_waits_for_the_end_of_the_holder_who_becomes_a_standby_and_takes_over_again() {
    let world = world_of(9, &["ONE"]);
    let daemon = world.start();
    world.settled().await;
    sleep(seconds(30)).await;
    let person = world.start();
    // At once, before it has looked even once.
    person.take_over();
    let asked = Instant::now();
    while standing(&daemon) != Standing::Standby {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(asked.elapsed() <= seconds(6), "it notices at its next renewal: {:?}", asked.elapsed());
    assert_ne!(standing(&person), Standing::Holder, "a call of the daemon may still be in flight");
    leads(&person).await;
    assert!(asked.elapsed() >= seconds(15) && asked.elapsed() < seconds(17), "{:?}", asked.elapsed());
    assert!(person.stop().await);
    let stopped = Instant::now();
    leads(&daemon).await;
    assert!(stopped.elapsed() < seconds(1));
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_config_of_that_name_that_is_somebody_elses_stops_every_write_and_says_what_to_do() {
    let world = world_of(10, &["ONE"]);
    let lease = world.lease.clone().unwrap();
    lease.refuse(Some(LeaseUnread::Foreign("config ofop-factory exists and is not ours".into())));
    let one = world.start();
    sleep(seconds(300)).await;
    assert_eq!((standing(&one), world.writes(), lease.writes()), (Standing::Blocked, 0, 0));
    assert!(one.report.lease_status().trouble.unwrap().contains("is not ours"));
    lease.refuse(None);
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn where_no_lease_can_be_kept_the_operator_acts_and_says_that_nothing_protects_it() {
    let world = world_of(11, &["ONE"]);
    world.lease.as_ref().unwrap().refuse(Some(LeaseUnread::Unsupported("the engine lets no config be read".into())));
    let one = world.start();
    world.settled().await;
    assert_eq!((standing(&one), leader(&one)), (Standing::Unguarded, true));
    assert!(one.report.lease_status().trouble.is_some());
}

#[tokio::test(start_paused = true)]
async fn labels_edited_to_rubbish_and_a_lease_from_the_future_cost_time_and_nothing_else() {
    for (name, text) in [("holder", "\u{1b}[31m"), ("epoch", "many"), ("milliseconds", "99999999999"), ("renewals", "")]
    {
        let world = world_of(12, &["ONE", "TWO"]);
        let one = world.start();
        let _other = world.start();
        world.settled().await;
        sleep(seconds(30)).await;
        let (lease, writes) = (world.lease.clone().unwrap(), world.writes());
        lease.spoil(|fields| _ = fields.insert(name.into(), text.into()));
        sleep(seconds(10)).await;
        let told = one.report.lease_status();
        assert!(told.trouble.is_some_and(|trouble| trouble.contains("cannot be understood")), "{name}");
        sleep(seconds(120)).await;
        assert!(matches!(lease.found(), LeaseFound::Record(_)), "{name}: it is written anew");
        assert_eq!(world.writes(), writes, "{name}");
        world.swarm.remove("one");
        world.settled().await;
    }
    // A holder of a far future, which never existed: its numbers are the greatest there are.
    let world = world_of(13, &["ONE"]);
    let lease = world.lease.clone().unwrap();
    lease.spoil(|fields| {
        for (name, text) in [
            ("holder", "mars/1/0000000000000001"),
            ("epoch", "18446744073709551615"),
            ("renewals", "18446744073709551615"),
            ("milliseconds", "15000"),
            ("version", "99.0.0"),
            ("address", ""),
        ] {
            fields.insert(name.into(), text.into());
        }
    });
    let one = world.start();
    sleep(seconds(14)).await;
    assert_eq!((standing(&one), world.writes()), (Standing::Standby, 0));
    leads(&one).await;
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn an_hours_jump_of_the_wall_clock_changes_nothing() {
    let world = world_of(14, &["ONE"]);
    let one = world.start();
    leads(&one).await;
    let other = world.start();
    world.settled().await;
    for jump in [3600, -7200] {
        one.clock.jump(jump);
        other.clock.jump(-jump);
        sleep(seconds(60)).await;
        assert_eq!((standing(&one), standing(&other)), (Standing::Holder, Standing::Standby));
    }
    assert_eq!(world.lease.as_ref().unwrap().holder().map(|(_, epoch)| epoch), Some(1));
}

#[tokio::test(start_paused = true)]
async fn many_operators_hand_over_again_and_again_and_lose_nothing() {
    let world = world_of(15, &["ONE", "TWO", "THREE"]);
    let mut operators = vec![world.start(), world.start(), world.start()];
    for round in 0..20_u32 {
        world.settled().await;
        let writes = world.writes();
        let at = operators.iter().position(|operator| standing(operator) == Standing::Holder);
        let Some(at) = at else {
            sleep(seconds(1)).await;
            continue;
        };
        let holder = operators.remove(at);
        if round.is_multiple_of(2) {
            holder.crash().await
        } else {
            _ = holder.stop().await
        }
        operators.push(world.start());
        world.swarm.remove("two");
        world.settled().await;
        sleep(seconds(30)).await;
        assert_eq!(world.writes(), writes + 1, "round {round}: one service was lost, and one was made");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_down_and_a_word_to_adopt_outlive_a_hand_over() {
    let world = world_of(21, &["ONE", "TWO"]);
    let one = world.start();
    leads(&one).await;
    world.settled().await;
    let other = world.start();
    sleep(seconds(20)).await;
    one.tell(Command::Down(id("app/ONE"))).await;
    sleep(seconds(3)).await;
    assert!(world.swarm.notes().contains_key("taken-down/app/ONE"), "{:?}", world.swarm.notes());
    // It dies half-way: the records are still there.
    one.crash().await;
    leads(&other).await;
    world.settled().await;
    assert!(world.swarm.service("one").is_none() && world.swarm.service("two").is_some());
    sleep(seconds(600)).await;
    assert!(world.swarm.service("one").is_none(), "it stays away");
    let status = other.report.status();
    assert_eq!(status.get(&id("app/ONE")).unwrap().health, Health::Suspended);
    other.tell(Command::Resume(Some(id("app/ONE")))).await;
    sleep(seconds(5)).await;
    assert!(world.swarm.notes().is_empty());
    world.settled().await;
    assert!(world.swarm.service("one").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_person_may_change_their_mind_while_something_is_taken_down() {
    for after in [0, 5, 500, 1_000, 2_000, 5_000, 12_000, 35_000] {
        let world = world_of(22, &["ONE", "TWO"]);
        world.swarm.latency(Duration::from_millis(300));
        let one = world.start();
        leads(&one).await;
        world.settled().await;
        one.tell(Command::Down(id("app/ONE"))).await;
        sleep(Duration::from_millis(after)).await;
        one.tell(Command::Resume(Some(id("app/ONE")))).await;
        sleep(seconds(5)).await;
        world.settled().await;
        assert!(world.swarm.service("one").is_some(), "after {after} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn contested_is_told_as_it_begins_and_as_it_ends() {
    // Operators of a version that knows of no lease.
    let world = fakes::world_of(23, &["ONE", "TWO"]);
    let elsewhere = beside(&world, 24, &["ONE", "TWO"]);
    let (one, other) = (world.start(), elsewhere.start());
    let told = |operator: &Operator, change: ConditionChange| {
        let (events, _) = operator.report.events(0);
        let is_it = |entry: &Entry| matches!(entry, Entry::Condition(event) if event.condition == ConditionKind::Contested && event.change == change);
        events.iter().any(is_it)
    };
    let warned = |operator: &Operator| {
        let status = operator.report.status();
        status.warnings.iter().any(|warning| warning.contains("undoes changes again and again: app/ONE"))
    };
    while !(told(&one, ConditionChange::Raised) && told(&other, ConditionChange::Raised)) {
        sleep(seconds(1)).await;
    }
    assert!(warned(&one) && warned(&other), "/readyz says so");
    assert!(one.report.metrics().contains("\nofop_contested 1\n"));
    assert!(!told(&one, ConditionChange::Cleared));
    assert!(other.stop().await);
    while !told(&one, ConditionChange::Cleared) {
        sleep(seconds(1)).await;
    }
    assert!(!warned(&one) && one.report.metrics().contains("\nofop_contested 0\n"));
    world.settled().await;
}
