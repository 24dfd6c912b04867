//! What the operator promises, each promise a test by its number and name: the real loop on fakes, with paused time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on")]

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ofop::model::record::{AssetRecord, Record, RecordOwner};
use ofop::model::service::{LABEL_INSTANCE, LABEL_ORIGIN, LABEL_RESOURCE, LABEL_REVISION, LABEL_SPEC};
use ofop::model::{
    AssetUuid, Command, ConditionKind, FailureKind, Health, InstanceName, Mark, Reason, RecordId, ResourceId,
    ServiceSpec, SourceTrouble, StepVerb, Sync, TroubleReason,
};
use ofop::report::status::PruneState;
use ofop::report::{Entry, EventOutcome};
use ofop::testing::{FakeSwarm, Fault, World, app};
use tokio::time::sleep;

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// A world with some apps, and an operator that has brought them up.
async fn with_apps(seed: u64, uuids: &[&str]) -> (World, ofop::testing::Operator) {
    let world = World::new(seed);
    for uuid in uuids {
        world.source.write(&format!("app_{uuid}.yml"), app(uuid, "example/app:1", ""));
    }
    let operator = world.start();
    world.settled().await;
    sleep(seconds(10)).await;
    (world, operator)
}

/// Steps that the last plan holds.
fn pending(operator: &ofop::testing::Operator) -> usize {
    operator.report.status().resources.iter().map(|resource| resource.pending_steps + resource.held.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn promise_1_idempotent() {
    let (world, operator) = with_apps(1, &["ONE", "TWO", "THREE"]).await;
    let (writes, records) = (world.swarm.writes(), world.registry.writes());
    assert_eq!(writes, 3);
    assert_eq!(pending(&operator), 0);

    // What an engine makes of a spec is not a difference.
    world.swarm.edit("one", |service| service.spec.image.push_str("@sha256:0123456789abcdef"));
    sleep(seconds(3600)).await;
    assert_eq!(world.swarm.writes(), writes, "an hour of looking changes nothing");
    assert_eq!(world.registry.writes(), records);
    assert_eq!(pending(&operator), 0);

    // Nor is a restart.
    operator.crash().await;
    let operator = world.start();
    sleep(seconds(3600)).await;
    assert_eq!((world.swarm.writes(), world.registry.writes()), (writes, records));
    assert!(operator.report.status().resources.iter().all(|resource| resource.sync == Sync::Synced));
}

/// Deploys, changes and removes, and crashes once in between: when the call with this number is under way, or just
/// after it. Returns the number of calls.
async fn story_with_a_crash(number: usize, after: Duration) -> usize {
    let world = World::new(number as u64);
    for uuid in ["ONE", "TWO", "THREE", "FOUR"] {
        world.source.write(&format!("app_{uuid}.yml"), app(uuid, "example/app:1", ""));
    }
    let mut operator = world.start();
    let mut crashed = false;
    for chapter in ["deploy", "change", "remove"] {
        match chapter {
            "change" => world.source.write("app_TWO.yml", app("TWO", "example/app:2", "    deploy: {replicas: 2}\n")),
            "remove" => world.source.remove("app_ONE.yml"),
            _ => {}
        }
        tokio::select! {
            biased;
            () = world.writes_reach(number), if !crashed => {
                sleep(after).await;
                operator.crash().await;
                operator = world.start();
                crashed = true;
            }
            () = world.settled() => {}
        }
        world.settled().await;
    }
    operator.stop().await;
    let created = world.swarm.count(StepVerb::Create);
    assert!(created <= 8, "a crash repeats at most the calls that it cut, four at a time: {created}");
    world.writes()
}

#[tokio::test(start_paused = true)]
async fn promise_3_crash_only() {
    let whole = story_with_a_crash(usize::MAX, Duration::ZERO).await;
    assert!(whole > 10);
    for number in 1..=whole {
        for milliseconds in [0, 6, 20] {
            story_with_a_crash(number, Duration::from_millis(milliseconds)).await;
        }
    }
}

const COORDINATED: &str = "devices:\n  s:\n    uuid: SHDR-1\n    connector:\n      type: shdr\n      host: 10.0.0.9\n      port: 7878\n      data:\n        temp: {tag: Temperature, type: Samples}\n";

/// The operator dies while it talks to a coordinator, and when it is back a person has changed their mind.
#[tokio::test(start_paused = true)]
async fn promise_3_crash_only_while_a_coordinator_is_told() {
    for (parts, verb) in (0..3).flat_map(|parts| [(parts, StepVerb::Register), (parts, StepVerb::Deregister)]) {
        let (world, operator) = with_apps(parts as u64, &["ONE", "TWO"]).await;
        let coordinator = AssetUuid::new("COORD").unwrap();
        let asset = AssetRecord {
            uuid: coordinator.clone(),
            asset_type: "SHDR.Coordinator".into(),
            docker_service: String::new(),
            references_above: Vec::new(),
            references_below: Vec::new(),
            uns: None,
            attributes: Vec::new(),
        };
        world.registry.write(Record::Asset(asset), None);
        world.registry.coordinator_starts(&coordinator, false);
        if verb == StepVerb::Deregister {
            world.source.write("device.yml", COORDINATED);
            world.settled().await;
            sleep(seconds(10)).await;
        }
        world.registry.cut(parts);
        let before = world.registry.writes();
        if verb == StepVerb::Register {
            world.source.write("device.yml", COORDINATED);
        } else {
            world.source.remove("device.yml");
        }
        let cut = |call: &ofop::testing::Call| call.verb == verb && call.object == "coordinator-device SHDR-1";
        while !world.registry.calls()[before..].iter().any(cut) {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(50)).await;
        operator.crash().await;
        if verb == StepVerb::Register {
            world.source.remove("device.yml");
        } else {
            world.source.write("device.yml", COORDINATED);
        }
        let operator = world.start();
        let left = world.settle(seconds(300)).await;
        assert_eq!(left, Vec::<String>::new(), "{verb} cut after {parts} parts: {:#?}", world.registry.calls());
        operator.crash().await;
    }
}

#[tokio::test(start_paused = true)]
async fn promise_4_only_what_is_ours() {
    let world = World::new(4);
    let theirs = Mark {
        instance: InstanceName::new("another-factory").unwrap(),
        resource: id("app/TAKEN"),
        spec: ofop::model::SpecHash("x".into()),
        revision: ofop::model::Revision("x".into()),
        origin: "x:1".into(),
        kept: Some(false),
        terms: ofop::model::RemovalTerms::default(),
        options: Vec::new(),
        run: None,
    };
    world.swarm.deploy(FakeSwarm::stranger("bystander"), None);
    world.swarm.deploy(FakeSwarm::stranger("wanted"), None);
    world.swarm.deploy(FakeSwarm::stranger("taken"), Some(theirs.clone()));
    world.swarm.deploy(FakeSwarm::stranger("orphan-of-theirs"), Some(theirs));
    let asset = |uuid: &str| {
        Record::Asset(AssetRecord {
            uuid: AssetUuid::new(uuid).unwrap(),
            asset_type: "Robot".into(),
            docker_service: String::new(),
            references_above: Vec::new(),
            references_below: Vec::new(),
            uns: None,
            attributes: Vec::new(),
        })
    };
    world.registry.write(asset("BYSTANDER"), None);
    let owner = RecordOwner {
        instance: InstanceName::new("another-factory").unwrap(),
        resource: id("app/THEIRS"),
        kept: false,
    };
    world.registry.write(asset("THEIRS"), Some(owner));
    let before: Vec<_> = world.swarm.services();
    let records = world.registry.records();

    for uuid in ["WANTED", "TAKEN", "FREE"] {
        world.source.write(&format!("{uuid}.yml"), app(uuid, "example/app:1", ""));
    }
    let operator = world.start();
    sleep(seconds(600)).await;
    for service in &before {
        assert_eq!(world.swarm.service(service.spec.name.as_str()).as_ref(), Some(service), "untouched");
    }
    for (record, found) in &records {
        assert_eq!(world.registry.records().get(record), Some(found), "untouched");
    }
    assert!(world.swarm.service("free").is_some(), "a conflict hinders nobody else");
    for uuid in ["app/WANTED", "app/TAKEN"] {
        let status = operator.report.status();
        let resource = status.get(&id(uuid)).unwrap();
        assert!(resource.conditions.iter().any(|condition| condition.kind == ConditionKind::Conflict), "{uuid}");
    }

    // The files go: what was never ours stays.
    world.source.remove("WANTED.yml");
    world.source.remove("TAKEN.yml");
    sleep(seconds(600)).await;
    for service in &before {
        assert_eq!(world.swarm.service(service.spec.name.as_str()).as_ref(), Some(service), "untouched");
    }
}

#[tokio::test(start_paused = true)]
async fn promise_4_what_the_command_line_deployed_is_adopted() {
    let world = World::new(41);
    world.source.write("app.yml", app("OLD", "example/app:1", ""));
    // OpenFactory's command line deployed the same service, without any mark.
    let wanted = world.desired().await.resources[&id("app/OLD")].services[0].spec.clone();
    let theirs = world.swarm.deploy(ServiceSpec::clone(&wanted), None);
    let _operator = world.start();
    world.settled().await;
    assert_eq!(world.swarm.service("old").unwrap().id, theirs, "taken over, not replaced");
}

#[tokio::test(start_paused = true)]
async fn promise_5_a_bad_file_hurts_nobody() {
    let (world, operator) = with_apps(5, &["GOOD", "TYPO", "GONE", "HALF"]).await;

    world.source.write("app_TYPO.yml", "apps:\n  typo:\n    uuid: TYPO\n    imagge: x\n");
    world.source.write("app_HALF.yml", "apps:\n  half:\n    uu");
    world.source.remove("app_GONE.yml");
    world.source.write("app_GOOD.yml", app("GOOD", "example/app:2", ""));
    world.source.write("app_NEW.yml", app("NEW", "example/app:1", ""));
    sleep(seconds(900)).await;
    assert_eq!(world.swarm.count(StepVerb::Remove), 0);
    assert!(world.registry.calls().iter().all(|call| call.verb == StepVerb::Register));
    for name in ["typo", "half", "gone"] {
        assert_eq!(world.swarm.service(name).unwrap().spec.image, "example/app:1", "{name} stays as it was");
    }
    assert_eq!(world.swarm.service("good").unwrap().spec.image, "example/app:2", "others still converge");
    assert!(world.swarm.service("new").is_some(), "new ones too");
    let status = operator.report.status();
    assert_eq!(status.prune.state, PruneState::Blocked);
    assert!(status.problems.iter().any(|problem| &*problem.file == "app_TYPO.yml"));

    // What is frozen is still taken care of.
    world.swarm.remove("typo");
    sleep(seconds(5)).await;
    assert!(world.swarm.service("typo").is_some());

    world.source.write("app_TYPO.yml", app("TYPO", "example/app:1", ""));
    world.source.write("app_HALF.yml", app("HALF", "example/app:1", ""));
    world.settled().await;
    assert!(world.swarm.service("gone").is_none(), "pruned once every file is valid");
}

#[tokio::test(start_paused = true)]
async fn promise_5_a_source_or_registry_out_of_reach_removes_nothing() {
    let (world, _operator) = with_apps(55, &["ONE", "TWO", "THREE"]).await;
    world.source.fail(Some("the remote does not answer"));
    sleep(seconds(300)).await;
    world.source.remove("app_ONE.yml");
    sleep(seconds(300)).await;
    assert_eq!(world.swarm.count(StepVerb::Remove), 0);

    world.registry.down(true);
    world.source.fail(None);
    world.source.write("app_FOUR.yml", app("FOUR", "example/app:1", ""));
    sleep(seconds(300)).await;
    assert!(world.swarm.service("four").is_some(), "the platform goes on without a registry");
    world.registry.down(false);
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn promise_5_what_may_not_be_the_newest_manifests_removes_nothing() {
    let (world, operator) = with_apps(56, &["ONE", "TWO", "THREE"]).await;
    world.source.trouble(Some(SourceTrouble::new(TroubleReason::Unverified, "the newest commit is not signed")));
    world.source.remove("app_ONE.yml");
    world.source.write("app_FOUR.yml", app("FOUR", "example/app:1", ""));
    sleep(seconds(300)).await;
    assert!(world.swarm.service("four").is_some(), "what is in force is converged");
    assert_eq!(world.swarm.count(StepVerb::Remove), 0);
    let status = operator.report.status();
    assert_eq!(status.prune.reason.as_deref(), Some("source_trouble"));
    assert_eq!(status.source.trouble.as_ref().unwrap().reason, TroubleReason::Unverified);
    world.source.trouble(None);
    sleep(seconds(60)).await;
    assert!(world.swarm.service("one").is_none());
}

#[tokio::test(start_paused = true)]
async fn promise_6_no_mass_deletion_by_accident() {
    let uuids: Vec<String> = (0..10).map(|n| format!("APP{n}")).collect();
    let (world, operator) = with_apps(6, &uuids.iter().map(String::as_str).collect::<Vec<_>>()).await;

    for uuid in &uuids {
        world.source.remove(&format!("app_{uuid}.yml"));
    }
    sleep(seconds(3600)).await;
    assert_eq!(world.swarm.count(StepVerb::Remove), 0, "everything at once");
    assert_eq!(operator.report.status().prune.state, PruneState::Blocked);

    for uuid in &uuids[..4] {
        world.source.write(&format!("app_{uuid}.yml"), app(uuid, "example/app:2", ""));
    }
    sleep(seconds(3600)).await;
    assert_eq!(world.swarm.count(StepVerb::Remove), 0, "six of ten is still more than the guard allows");
    assert_eq!(world.swarm.service("app0").unwrap().spec.image, "example/app:2", "other steps go on");

    operator.tell(Command::Reconcile { confirm_prune: true }).await;
    world.settled().await;
    assert_eq!(world.swarm.count(StepVerb::Remove), 6);

    // The word held for these alone.
    for uuid in &uuids[..4] {
        world.source.remove(&format!("app_{uuid}.yml"));
    }
    sleep(seconds(600)).await;
    assert_eq!(world.swarm.services().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn promise_6_few_removals_need_nobody() {
    let (world, _operator) = with_apps(66, &["ONE", "TWO", "THREE"]).await;
    world.source.remove("app_TWO.yml");
    world.settled().await;
    assert!(world.swarm.service("two").is_none());
}

#[tokio::test(start_paused = true)]
async fn promise_7_never_a_blind_retry() {
    for (fault, creates) in [(Fault::AnswerLost, 1), (Fault::LateCommit, 1), (Fault::RequestLost, 2)] {
        let world = World::new(7);
        world.swarm.script([Some(fault)]);
        world.source.write("app.yml", app("ONE", "example/app:1", ""));
        let _operator = world.start();
        world.settled().await;
        sleep(seconds(120)).await;
        let calls = world.swarm.calls();
        assert_eq!(world.swarm.count(StepVerb::Create), creates, "{fault:?}: {calls:#?}");
        assert_eq!(calls.len(), creates, "what is found is what was asked for: nothing to correct");
        if let [first, second, ..] = &calls[..] {
            assert!(second.at - first.at >= seconds(20), "not before the engine would have given up itself");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promise_7_a_version_conflict_is_looked_at_again_at_once() {
    let (world, operator) = with_apps(77, &["ONE"]).await;
    world.swarm.script([Some(Fault::Overtaken), Some(Fault::Overtaken)]);
    world.source.write("app_ONE.yml", app("ONE", "example/app:2", ""));
    sleep(seconds(1)).await;
    assert_eq!(world.differences().await, Vec::<String>::new(), "no backoff for a race");
    let (events, _) = operator.report.events(0);
    let events = events.iter().filter_map(Entry::change);
    let races =
        events.filter(|event| matches!(event.outcome, EventOutcome::Failed { kind: FailureKind::Conflict, .. }));
    assert_eq!(races.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn promise_7_a_failing_resource_backs_off_and_delays_no_other() {
    let world = World::new(78);
    world.source.write("bad.yml", app("BAD", "example/app:1", "    networks: [nowhere]\n"));
    world.source.write("refused.yml", app("REFUSED", "example/app:forbidden", ""));
    let operator = world.start();
    sleep(seconds(60)).await;
    world.source.write("good.yml", app("GOOD", "example/app:1", ""));
    sleep(seconds(1)).await;
    assert!(world.swarm.service("good").is_some());
    sleep(seconds(1200)).await;
    let tries = |name: &str| {
        let object = format!("service {name}");
        world.swarm.calls().iter().filter(|call| call.object == object).count()
    };
    assert!(tries("refused") <= 2, "what is refused is not sent again and again: {}", tries("refused"));
    assert!(tries("bad") <= 60, "{}", tries("bad"));
    assert!(operator.report.status().get(&id("app/REFUSED")).unwrap().retry.is_some());
    world.source.write("refused.yml", app("REFUSED", "example/app:1", ""));
    sleep(seconds(1)).await;
    assert!(world.swarm.service("refused").is_some(), "a new manifest is tried at once");
    world.swarm.network("nowhere", true);
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn promise_7_removal_names_full_ids_and_waits_for_a_leader() {
    let (world, _operator) = with_apps(79, &["ONE", "TWO", "THREE"]).await;
    let known: BTreeSet<_> = world.swarm.services().into_iter().map(|service| service.id).collect();
    world.swarm.leader(false);
    world.source.remove("app_TWO.yml");
    sleep(seconds(300)).await;
    assert_eq!(world.swarm.count(StepVerb::Remove), 0);
    world.swarm.leader(true);
    world.settled().await;
    let removals: Vec<_> = world.swarm.calls().into_iter().filter(|call| call.verb == StepVerb::Remove).collect();
    assert_eq!(removals.len(), 1);
    assert!(removals.iter().all(|call| call.sound && call.id.as_ref().is_some_and(|id| known.contains(id))));
}

#[tokio::test(start_paused = true)]
async fn promise_8_no_fight_with_swarm() {
    let (world, operator) = with_apps(8, &["ONE"]).await;
    world.swarm.edit("one", |service| service.rollout.rolls_back = true);
    world.source.write("app_ONE.yml", app("ONE", "example/app:broken", ""));
    sleep(seconds(1800)).await;
    assert_eq!(world.swarm.count(StepVerb::Update), 1, "pushed once, rolled back, left alone");
    assert_eq!(operator.report.status().get(&id("app/ONE")).unwrap().health, Health::RolledBack);
    world.source.write("app_ONE.yml", app("ONE", "example/app:3", ""));
    world.settled().await;
    assert_eq!(world.swarm.service("one").unwrap().spec.image, "example/app:3");
}

#[tokio::test(start_paused = true)]
async fn promise_8_holds_over_a_restart() {
    for fault in
        [None, Some(Fault::Refused), Some(Fault::AnswerLost), Some(Fault::RequestLost), Some(Fault::LateCommit)]
    {
        let (world, operator) = with_apps(81, &["ONE"]).await;
        world.swarm.edit("one", |service| service.rollout.rolls_back = true);
        world.swarm.script_notes([fault]);
        world.source.write("app_ONE.yml", app("ONE", "example/app:broken", ""));
        sleep(seconds(300)).await;
        operator.crash().await;
        let operator = world.start();
        sleep(seconds(1800)).await;
        assert_eq!(world.swarm.count(StepVerb::Update), 1, "{fault:?}: not even once more");
        assert_eq!(operator.report.status().get(&id("app/ONE")).unwrap().health, Health::RolledBack);
        operator.tell(Command::Resume(Some(id("app/ONE")))).await;
        sleep(seconds(300)).await;
        assert_eq!(world.swarm.count(StepVerb::Update), 2, "a person may have it tried once more");
    }
}

#[tokio::test(start_paused = true)]
async fn promise_8_one_attempt_at_whatever_moment_the_operator_dies() {
    // From before the note to after the rollback; the operator comes back at once, soon, or when all is over.
    let moments = (0..50).step_by(2).chain((50..200).step_by(30)).chain([1000, 4900, 5100, 9000]);
    for after in moments {
        for back_after in [0, 700, 30_000] {
            let (world, mut operator) = with_apps(82, &["ONE"]).await;
            world.swarm.edit("one", |service| service.rollout.rolls_back = true);
            sleep(seconds(20)).await;
            world.source.write("app_ONE.yml", app("ONE", "example/app:broken", ""));
            for _ in 0..2 {
                sleep(Duration::from_millis(after)).await;
                operator.crash().await;
                sleep(Duration::from_millis(back_after)).await;
                operator = world.start();
            }
            sleep(seconds(600)).await;
            let when = format!("dies after {after} ms, back after {back_after} ms");
            let service = world.swarm.service("one").unwrap();
            assert_eq!((service.updates, service.spec.image.as_str()), (1, "example/app:1"), "{when}");
            assert_eq!(operator.report.status().get(&id("app/ONE")).unwrap().health, Health::RolledBack, "{when}");
            world.source.write("app_ONE.yml", app("ONE", "example/app:3", ""));
            world.settled().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promise_8_services_that_are_not_rolled_back_cost_no_note() {
    let (world, _operator) = with_apps(83, &["ONE"]).await;
    let before = world.swarm.note_writes();
    world.source.write("app_ONE.yml", app("ONE", "example/app:2", ""));
    world.settled().await;
    assert_eq!(world.swarm.note_writes(), before);
}

#[tokio::test(start_paused = true)]
async fn promise_8_a_rollback_by_hand_is_put_back_like_any_edit() {
    for rolls_back in [false, true] {
        for after in [50, 3000, 20_000] {
            let (world, operator) = with_apps(84, &["ONE"]).await;
            world.swarm.edit("one", |service| service.rollout.rolls_back = rolls_back);
            world.source.write("app_ONE.yml", app("ONE", "example/app:2", ""));
            while world.swarm.service("one").unwrap().spec.image != "example/app:2" {
                sleep(Duration::from_millis(10)).await;
            }
            sleep(Duration::from_millis(after)).await;
            world.swarm.roll_back("one");
            assert_eq!(world.swarm.service("one").unwrap().spec.image, "example/app:1");
            world.settled().await;
            sleep(seconds(120)).await;
            assert_eq!(operator.report.status().get(&id("app/ONE")).unwrap().health, Health::Healthy);
            assert!(world.swarm.notes().is_empty(), "{:?}", world.swarm.notes());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promise_3_what_people_said_outlives_the_process() {
    for fault in [
        None,
        Some(Fault::Refused),
        Some(Fault::AnswerLost),
        Some(Fault::RequestLost),
        Some(Fault::LateCommit),
        Some(Fault::Overtaken),
    ] {
        for ends_well in [false, true] {
            let (world, operator) = with_apps(33, &["ONE", "TWO"]).await;
            world.swarm.script_notes([fault]);
            operator.tell(Command::Suspend(Some(id("app/ONE")), ofop::model::Term::default())).await;
            sleep(seconds(90)).await;
            // Another word a moment before the end: only who ends well has had the time to note it.
            if ends_well {
                operator.tell(Command::Suspend(None, ofop::model::Term::default())).await;
                sleep(Duration::from_millis(1)).await;
                assert!(operator.stop().await);
            } else {
                operator.crash().await;
            }
            world.swarm.remove("one");
            world.swarm.remove("two");
            let operator = world.start();
            sleep(seconds(600)).await;
            let status = operator.report.status();
            assert!(world.swarm.service("one").is_none(), "{fault:?}");
            assert_eq!((world.swarm.service("two").is_none(), status.suspended.is_some()), (ends_well, ends_well));
            assert_eq!((status.notes.unsaved, &status.notes.message), (0, &None));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promise_3_notes_that_cannot_be_written_stop_nothing_else() {
    let (world, operator) = with_apps(34, &["ONE", "TWO"]).await;
    world.swarm.script_notes(vec![Some(Fault::Refused); 1000]);
    operator.tell(Command::Suspend(Some(id("app/ONE")), ofop::model::Term::default())).await;
    sleep(seconds(600)).await;
    let tries = world.swarm.note_writes();
    assert!((10..200).contains(&tries), "tried again, and not all the time: {tries}");
    world.swarm.remove("one");
    world.swarm.remove("two");
    sleep(seconds(5)).await;
    assert!(world.swarm.service("one").is_none(), "what was said holds while the process lives");
    assert!(world.swarm.service("two").is_some());
    let notes = &operator.report.status().notes;
    assert_eq!((notes.unsaved, notes.message.as_deref()), (1, Some("the engine cannot be reached")));
    assert!(operator.report.metrics().contains("\nofop_notes_unsaved 1\n"));
}

/// Collects everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn promise_9_no_secret_in_sight() {
    const SECRET: &str = "5entine1-va1ue";
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let secretive = |value: &str| format!("    environment: [TOKEN={value}, MODE=fast]\n");
    let (world, operator) = with_apps(9, &["ONE"]).await;
    let mut shown = String::new();
    let look = |shown: &mut String| {
        let report = &operator.report;
        shown.push_str(&serde_json::to_string(&report.status()).unwrap());
        shown.push_str(&serde_json::to_string(&report.plan()).unwrap());
        for event in report.events(0).0 {
            shown.push_str(&serde_json::to_string(&event).unwrap());
        }
        shown.push_str(&report.metrics());
        shown.push_str(&format!("{report:?} {:?}", report.status()));
    };
    // Created, changed, edited by hand, refused, in a broken file, and taken away again.
    world.source.write("app_S.yml", app("S", "example/app:1", &secretive(SECRET)));
    world.settled().await;
    look(&mut shown);
    world.swarm.script([Some(Fault::Refused), Some(Fault::AnswerLost)]);
    world.source.write("app_S.yml", app("S", "example/app:1", &secretive(&format!("{SECRET}-2"))));
    sleep(Duration::from_millis(4)).await;
    look(&mut shown);
    world.settled().await;
    world.swarm.edit("s", |service| service.spec.env[0].value = format!("{SECRET}-3"));
    look(&mut shown);
    world.settled().await;
    world.source.write("app_S.yml", app("S", "example/app:forbidden", &secretive(SECRET)));
    sleep(seconds(10)).await;
    look(&mut shown);
    world.source.write(
        "app_S.yml",
        format!("apps:\n  s:\n    uuid: S\n    image: x\n{}    nonsense: {SECRET}\n", secretive(SECRET)),
    );
    sleep(seconds(10)).await;
    look(&mut shown);
    world.source.write("app_S.yml", format!("apps: [TOKEN={SECRET}\n  }}"));
    sleep(seconds(10)).await;
    look(&mut shown);
    world.source.remove("app_S.yml");
    sleep(seconds(120)).await;
    look(&mut shown);
    // A device's connector configuration holds the environment of its adapter.
    let device = |secret: &str| {
        format!(
            "devices:\n  m:\n    uuid: M\n    connector:\n      type: mtconnect\n      agent:\n        port: 5001\n        \
             device_xml: m.xml\n        adapter:\n          image: example/adapter:1\n          port: 7878\n          \
             environment: [TOKEN={secret}]\n"
        )
    };
    world.source.attach("m.xml", "<MTConnectDevices/>");
    world.source.write("dev_M.yml", device(SECRET));
    world.settled().await;
    look(&mut shown);
    world.source.write("dev_M.yml", device(&format!("{SECRET}-4")));
    world.settled().await;
    look(&mut shown);
    operator.stop().await;

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("service s") && shown.contains("service m-adapter"), "the test sees what it judges");
    for (place, text) in [("the log", &log), ("a status, plan, event or metric", &shown)] {
        if let Some(line) = text.lines().find(|line| line.contains(SECRET)) {
            let at = line.find(SECRET).unwrap();
            panic!("{place} shows a secret: …{}…", &line[at.saturating_sub(200)..at + SECRET.len()]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promise_10_says_what_it_does() {
    let (world, operator) = with_apps(10, &["ONE", "TWO", "THREE"]).await;
    world.source.write("app_ONE.yml", app("ONE", "example/app:2", ""));
    world.settled().await;
    world.swarm.remove("two");
    sleep(seconds(30)).await;
    world.source.remove("app_THREE.yml");
    world.settled().await;
    sleep(seconds(60)).await;
    let revision = world.desired().await.revision.clone();

    let events: Vec<_> = operator.report.events(0).0.iter().filter_map(Entry::change).cloned().collect();
    let told: Vec<_> = events.iter().map(|event| (event.verb, event.object.clone())).collect();
    for call in world.swarm.calls().into_iter().chain(world.registry.calls()) {
        assert!(told.contains(&(call.verb, call.object.clone())), "{call:?}");
    }
    assert_eq!(told.len(), world.swarm.writes() + world.registry.writes(), "one event for each change");
    assert!(events.iter().all(|event| event.outcome == EventOutcome::Succeeded));
    let find = |verb: StepVerb, object: &str| {
        events.iter().rfind(|event| event.verb == verb && event.object == object).unwrap()
    };
    let update = find(StepVerb::Update, "service one");
    assert_eq!((update.reason, &update.resource), (Reason::ManifestChanged, &id("app/ONE")));
    assert_eq!(update.fields, ["image"]);
    let origin = update.origin.as_ref().unwrap();
    assert_eq!((&*origin.file, origin.line), ("app_ONE.yml", 2));
    assert_eq!(find(StepVerb::Create, "service two").reason, Reason::Missing);
    let removal = find(StepVerb::Remove, "service three");
    assert_eq!((removal.reason, &removal.revision), (Reason::Orphaned, &revision));
}

#[tokio::test(start_paused = true)]
async fn our_mark_is_on_services_and_assets() {
    let (world, _operator) = with_apps(11, &["ONE"]).await;
    let mark = world.swarm.service("one").unwrap().mark.unwrap();
    assert_eq!(mark.resource, id("app/ONE"));
    let labels: Vec<_> = mark.labels().into_iter().map(|(label, _)| label).collect();
    assert_eq!(labels, [LABEL_INSTANCE, LABEL_RESOURCE, LABEL_SPEC, LABEL_REVISION, LABEL_ORIGIN]);
    let asset = &world.registry.records()[&RecordId::Asset(AssetUuid::new("ONE").unwrap())];
    assert_eq!(asset.owner.as_ref().unwrap().resource, id("app/ONE"));
}
