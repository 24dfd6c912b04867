//! `prune: false`: what stays although nothing describes it any more.

use std::collections::BTreeSet;

use ofop::model::{
    ConditionKind, Desired, DesiredResource, Health, Plan, PruneVerdict, Reason, Record, RecordId, ResourceId,
    ResourcePlan, StepVerb, Sync,
};
use ofop::plan::{Memory, Policy, TextOptions, to_text};
use proptest::collection::btree_set;
use proptest::test_runner::Config;

use crate::world::{World, app, app_id, desired, device, name, policy, uuid, verbs};

fn kept(mut resource: DesiredResource) -> DesiredResource {
    resource.handling.prune = false;
    resource
}

/// A device without a service of its own.
fn served(id: &str) -> DesiredResource {
    let mut resource = device(id);
    resource.services.clear();
    let is_part = |record: &RecordId| record.asset().as_str() != id;
    resource.records.retain(|record| !is_part(&record.id()));
    resource
}

fn others() -> Vec<DesiredResource> {
    ["S1", "S2", "S3"].into_iter().map(|id| app(id, |_| {})).collect()
}

fn with(resources: impl IntoIterator<Item = DesiredResource>) -> Desired {
    desired(others().into_iter().chain(resources))
}

fn found<'a>(plan: &'a Plan, id: &ResourceId) -> &'a ResourcePlan {
    &plan.resources[id]
}

#[test]
fn what_is_kept_stays_with_its_records_and_says_how_to_remove_it() {
    for resource in [app("A", |spec| spec.replicas = 2), device("A"), served("A")] {
        let id = resource.id.clone();
        let (mut world, mut memory) = (World::default(), Memory::default());
        world.converge(&with([kept(resource.clone())]), &policy(), &mut memory);
        let (services, records) = (world.services.clone(), world.records.clone());
        for restarted in [false, true] {
            if restarted {
                memory = Memory::default();
            }
            let plan = world.settle(&with([]), &policy(), &mut memory);
            assert!(plan.is_empty() && plan.prune == PruneVerdict::Nothing, "{plan:#?}");
            let orphan = found(&plan, &id);
            assert_eq!((orphan.sync, orphan.health, orphan.drift.len()), (Sync::Synced, Health::Healthy, 0));
            assert_eq!(orphan.conditions[0].kind, ConditionKind::Kept);
            let text = to_text(&plan, TextOptions { width: 0, ..TextOptions::default() });
            let how =
                format!("! Kept: no longer described, and kept as its manifest wanted; `ofop down {id}` removes it");
            assert!(text.contains(&how), "{text}");
            assert_eq!((&world.services, &world.records), (&services, &records));
        }
        // Described again, it is taken care of as before.
        let plans = world.converge(&with([kept(resource.clone())]), &policy(), &mut memory);
        assert_eq!(plans.len(), 1);
        world.settle(&with([]), &policy(), &mut memory);
        // A person has it removed.
        let down =
            Policy { remove: BTreeSet::from([id.clone()]), scope: Some(BTreeSet::from([id.clone()])), ..policy() };
        let last = world.settle(&with([]), &down, &mut Memory::default());
        assert!(!last.resources.contains_key(&id), "{last:#?}");
        assert_eq!((world.services.len(), world.records.len()), (3, 3));
    }
}

#[test]
fn to_be_kept_is_said_in_labels_and_records_and_restarts_nothing() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&with([app("A", |_| {})]), &policy(), &mut memory);
    world.now += std::time::Duration::from_secs(60);
    let before = world.services[&name("a")].clone();
    for keep in [true, false] {
        let mut resource = app("A", |_| {});
        resource.handling.prune = !keep;
        let wanted = with([resource]);
        let plan = world.pass(&wanted, &policy(), &mut memory);
        let reason = Reason::ManifestChanged;
        assert_eq!(
            verbs(&plan),
            [(StepVerb::Update, "service a".into(), reason), (StepVerb::Register, "asset A".into(), reason)]
        );
        let changes = |at: usize| {
            let change = &found(&plan, &app_id("A")).steps[at].changes[0];
            (change.field.clone(), change.from.clone().unwrap(), change.to.clone().unwrap())
        };
        let (from, to) = (keep.to_string(), (!keep).to_string());
        assert_eq!(changes(0), ("mark.prune".into(), from.clone(), to.clone()));
        assert_eq!(changes(1), ("managed_prune".into(), from, to));
        assert!(found(&plan, &app_id("A")).drift.is_empty(), "nobody meddled");
        let after = &world.services[&name("a")];
        assert_eq!((&after.spec, after.mark.as_ref().unwrap().kept), (&before.spec, Some(keep)));
        let asset = &world.records[&RecordId::Asset(uuid("A"))];
        assert_eq!(asset.owner.as_ref().unwrap().kept, keep);
        assert!(world.pass(&wanted, &policy(), &mut memory).is_empty());
        world.now += std::time::Duration::from_secs(60);
        assert!(world.pass(&wanted, &policy(), &mut memory).is_empty());
    }
    // The last word was that it goes.
    world.settle(&with([]), &policy(), &mut memory);
    assert!(!world.services.contains_key(&name("a")) && !world.records.contains_key(&RecordId::Asset(uuid("A"))));
}

#[test]
fn where_a_label_cannot_change_the_record_alone_says_it() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let plain_docker = |world: &mut World| {
        for service in world.services.values_mut() {
            service.mark.as_mut().unwrap().kept = None;
        }
    };
    world.converge(&with([app("A", |_| {})]), &policy(), &mut memory);
    plain_docker(&mut world);
    world.now += std::time::Duration::from_secs(60);
    let plan = world.pass(&with([kept(app("A", |_| {}))]), &policy(), &mut memory);
    assert_eq!(verbs(&plan), [(StepVerb::Register, "asset A".into(), Reason::ManifestChanged)]);
    let plan = world.settle(&with([]), &policy(), &mut Memory::default());
    assert_eq!(found(&plan, &app_id("A")).conditions[0].kind, ConditionKind::Kept);
    assert!(world.services.contains_key(&name("a")));
}

#[test]
fn a_word_that_the_registry_does_not_show_yet_is_not_sent_again() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = with([kept(app("A", |_| {}))]);
    world.converge(&with([app("A", |_| {})]), &policy(), &mut memory);
    let stale = world.records[&RecordId::Asset(uuid("A"))].clone();
    assert_eq!(world.pass(&wanted, &policy(), &mut memory).steps(), 2, "although it was written a moment ago");
    world.records.insert(RecordId::Asset(uuid("A")), stale);
    assert_eq!(world.pass(&wanted, &policy(), &mut memory).steps(), 0);
    world.now += std::time::Duration::from_secs(60);
    assert_eq!(world.pass(&wanted, &policy(), &mut memory).steps(), 1, "lost");
}

#[test]
fn what_a_resource_no_longer_needs_goes_although_the_resource_is_kept() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&with([kept(device("CNC-1"))]), &policy(), &mut memory);
    let mut smaller = kept(device("CNC-1"));
    smaller.services.remove(0);
    world.settle(&with([smaller]), &policy(), &mut memory);
    assert!(!world.services.contains_key(&name("cnc-1-adapter")) && world.services.contains_key(&name("cnc-1-agent")));
}

#[test]
fn what_is_kept_counts_on_neither_side_of_the_guard() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let all = ["A", "B", "C"].map(|id| kept(app(id, |_| {})));
    world.converge(&with(all), &policy(), &mut memory);
    world.settle(&with([]), &policy(), &mut memory);
    // Two of three that could go are fine; all three would be everything, whatever is kept beside them.
    let one = desired([app("S1", |_| {})]);
    let plan = world.settle(&one, &policy(), &mut memory);
    assert_eq!(plan.prune, PruneVerdict::Nothing);
    assert_eq!(world.services.len(), 4);
    let plan = world.settle(&desired([]), &policy(), &mut memory);
    assert!(matches!(&plan.prune, PruneVerdict::Blocked { resources, .. } if resources == &[app_id("S1")]));
}

#[test]
fn a_service_removed_by_hand_is_not_made_again_and_its_records_stay() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&with([kept(app("A", |_| {}))]), &policy(), &mut memory);
    world.settle(&with([]), &policy(), &mut memory);
    world.remove_by_hand("a");
    let plan = world.settle(&with([]), &policy(), &mut memory);
    assert_eq!(found(&plan, &app_id("A")).health, Health::Healthy);
    assert!(
        matches!(&world.records[&RecordId::Asset(uuid("A"))].record, Record::Asset(asset) if !asset.asset_type.is_empty())
    );
}

proptest::proptest! {
    #![proptest_config(Config { cases: 60, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_is_kept_is_never_taken_away(
        keeps in btree_set(0..6_usize, 0..6), stays in btree_set(0..6_usize, 0..6), forgets: bool, confirmed: bool
    ) {
        let all = |at: usize| if at < 4 { app(["A", "B", "C", "D"][at], |_| {}) } else { device(["CNC-1", "CNC-2"][at - 4]) };
        let described = |keep: &BTreeSet<usize>, at: usize| if keep.contains(&at) { kept(all(at)) } else { all(at) };
        let (mut world, mut memory) = (World::default(), Memory::default());
        world.converge(&desired((0..6).map(|at| described(&keeps, at))), &policy(), &mut memory);
        let before = world.clone();
        if forgets {
            memory = Memory::default();
        }
        let policy = Policy { prune_confirmed: confirmed, ..policy() };
        world.settle(&desired(stays.iter().map(|at| described(&keeps, *at))), &policy, &mut memory);
        for at in 0..6 {
            let resource = all(at);
            let remains = keeps.contains(&at) || stays.contains(&at);
            for service in &resource.services {
                let now = world.services.get(&service.spec.name);
                if remains {
                    assert_eq!(now, before.services.get(&service.spec.name));
                } else if confirmed {
                    assert_eq!(now, None);
                }
            }
            for record in &resource.records {
                if remains {
                    assert_eq!(world.records.get(&record.id()), before.records.get(&record.id()));
                }
            }
        }
    }
}
