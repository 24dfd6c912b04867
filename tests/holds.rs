//! Suspensions and the freeze in the running loop: they end by themselves, and that is told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on")]

use std::time::Duration;

use jiff::SignedDuration;
use ofop::clock::{Clock as _, timestamp};
use ofop::model::{Command, Health, NOBODY, ResourceId, Term};
use ofop::report::Entry;
use ofop::testing::{Operator, World, app};
use tokio::time::sleep;

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

fn hours(operator: &Operator, hours: i64) -> Term {
    Term::new(Some(timestamp(operator.clock.wall()) + SignedDuration::from_hours(hours)), Some("shift change"))
}

/// The commands in the log: who, and what.
fn commands(operator: &Operator) -> Vec<(String, String)> {
    let (events, _) = operator.report.events(0);
    let commands = events.into_iter().filter_map(|entry| match entry {
        Entry::Command(event) => Some((event.actor.name.clone(), event.message.clone())),
        Entry::Change(_) | Entry::Condition(_) | Entry::Source(_) => None,
    });
    commands.collect()
}

#[tokio::test(start_paused = true)]
async fn a_suspension_ends_by_itself_and_the_log_says_so() {
    let world = World::new(4);
    world.source.write("ONE.yml", app("ONE", "example/app:1", ""));
    let operator = world.start();
    world.settled().await;
    operator.tell(Command::Suspend(Some(id("app/ONE")), hours(&operator, 2))).await;
    sleep(Duration::from_secs(60)).await;
    world.swarm.remove("one");
    sleep(Duration::from_secs(7200 - 120)).await;
    assert!(world.swarm.service("one").is_none());
    let status = operator.report.status();
    let one = status.get(&id("app/ONE")).unwrap();
    assert!(one.health == Health::Suspended && one.conditions.iter().any(|it| it.message.contains("(shift change)")));
    // Well before the next listing by timer would notice it.
    sleep(Duration::from_secs(65)).await;
    assert!(world.swarm.service("one").is_some());
    let commands = commands(&operator);
    let [(_, said), (who, ended)] = &commands[..] else { panic!("{commands:?}") };
    assert!(
        said.contains("(shift change)") && ended.starts_with("the suspension of app/ONE ended by itself"),
        "{ended}"
    );
    assert_eq!(who, NOBODY);
}

#[tokio::test(start_paused = true)]
async fn a_freeze_outlives_the_operator_and_ends_by_itself() {
    let world = World::new(5);
    world.source.write("ONE.yml", app("ONE", "example/app:1", ""));
    let operator = world.start();
    world.settled().await;
    operator.tell(Command::Freeze(hours(&operator, 2))).await;
    sleep(Duration::from_secs(60)).await;
    let until = operator.report.status().freeze.clone().unwrap().until;
    assert!(until.is_some());
    operator.stop().await;
    let operator = world.start();
    // Each operator of these tests begins its own day.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(operator.report.status().freeze.clone().unwrap().until, until);
    operator.clock.jump(7200);
    sleep(Duration::from_secs(60)).await;
    assert!(operator.report.status().freeze.is_none());
    let commands = commands(&operator);
    assert!(commands.iter().any(|(who, what)| who == NOBODY && what.starts_with("the freeze ended by itself")));
}
