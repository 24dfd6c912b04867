//! Whose an asset is must be known before a service stands beside it: what a reading hides is nobody's to take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ofop::model::record::RecordOwner;
use ofop::model::{
    Desired, Doubt, DoubtReason, InstanceName, Observed, ObservedRecord, Plan, Proof, RecordId, RegistrySnapshot,
    ServiceStep, Step, Wait,
};
use ofop::plan::{Memory, plan};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::Config;

use crate::world::{World, app, app_id, desired, name, one, policy, uuid};

/// Whose an asset is in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Unmarked,
    Ours,
    Theirs,
}

/// What a reading shows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Whole,
    /// All but the mark.
    Unmarked,
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    owner: Owner,
    shown: Shown,
    lasting: bool,
}

fn cases() -> impl Strategy<Value = Vec<Case>> {
    let owner = prop_oneof![Just(Owner::Nobody), Just(Owner::Unmarked), Just(Owner::Ours), Just(Owner::Theirs)];
    let shown = prop_oneof![Just(Shown::Whole), Just(Shown::Unmarked), Just(Shown::Nothing)];
    let case = (owner, shown, any::<bool>()).prop_map(|(owner, shown, lasting)| Case { owner, shown, lasting });
    vec(case, 1..8)
}

fn id(at: usize) -> String {
    format!("APP-{at}")
}

fn doubt(lasting: bool) -> Doubt {
    Doubt { reason: DoubtReason::Partial, message: "rows are missing".into(), lasting }
}

/// The world as it is, and what is described.
fn world(cases: &[Case]) -> (World, Desired) {
    let mut world = World::default();
    let wanted = desired((0..cases.len()).map(|at| app(&id(at), |_| {})));
    for (at, case) in cases.iter().enumerate() {
        let resource = &wanted.resources[&app_id(&id(at))];
        let instance = match case.owner {
            Owner::Nobody => continue,
            Owner::Unmarked => None,
            Owner::Ours => Some("test"),
            Owner::Theirs => Some("plant-b"),
        };
        let owner = instance.map(|instance| RecordOwner {
            instance: InstanceName::new(instance).unwrap(),
            resource: resource.id.clone(),
            kept: false,
        });
        let record = (*resource.records[0]).clone();
        world.records.insert(record.id(), ObservedRecord { record, owner });
    }
    (world, wanted)
}

/// A reading that hides what the cases say. Whatever is hidden is doubted, as the judge of readings sees to.
fn hide(observed: &mut Observed, cases: &[Case], all: bool) {
    let registry: &mut RegistrySnapshot = Arc::make_mut(observed.registry.as_mut().unwrap());
    for (at, case) in cases.iter().enumerate() {
        let record = RecordId::Asset(uuid(&id(at)));
        match case.shown {
            Shown::Whole => continue,
            Shown::Unmarked => {
                if let Some(found) = registry.records.get_mut(&record) {
                    Arc::make_mut(found).owner = None;
                    registry.evidence.unmarked.insert(uuid(&id(at)));
                }
            }
            Shown::Nothing => {
                registry.records.remove(&record);
                registry.evidence.assets.insert(uuid(&id(at)), doubt(case.lasting));
            }
        }
    }
    registry.evidence.doubt = all.then(|| doubt(false));
}

fn created(plan: &Plan) -> BTreeMap<String, bool> {
    let steps = plan.resources.iter().map(|(id, resource)| {
        let creates = resource.steps.iter().any(|step| matches!(step.step, Step::Service(ServiceStep::Create { .. })));
        (id.uuid.to_string(), creates)
    });
    steps.collect()
}

proptest::proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    /// At the start, when nothing is remembered.
    #[test]
    fn no_service_is_created_beside_an_asset_whose_owner_a_reading_may_hide(cases in cases(), all in any::<bool>()) {
        let (mut world, wanted) = world(&cases);
        let mut observed = world.observe();
        hide(&mut observed, &cases, all);
        let plan = plan(&wanted, &observed, &policy(), &Memory::default());
        for (at, case) in cases.iter().enumerate() {
            let creates = created(&plan)[&id(at)];
            let is_shown_ours = case.owner == Owner::Ours && case.shown == Shown::Whole;
            if case.owner == Owner::Theirs {
                assert!(!creates, "{at}: {case:?}");
            }
            // What is shown to be ours is healed whatever else is missing, and what is proven at once.
            if is_shown_ours {
                assert!(creates, "{at}: {case:?}");
            }
            let evidence = &observed.registry.as_ref().unwrap().evidence;
            let is_proven = evidence.of_owner(&uuid(&id(at))) == Proof::Proven;
            if is_proven && matches!(case.owner, Owner::Nobody | Owner::Unmarked) {
                assert!(creates, "{at}: {case:?}");
            }
            if !creates && case.owner != Owner::Theirs {
                assert!(one(&plan, &id(at)).held.iter().any(|held| matches!(held.wait, Wait::Evidence { .. })));
            }
        }
    }

    /// Later: what was seen to be somebody else's stays so while the registry is away, and while it comes back.
    #[test]
    fn a_registry_that_goes_away_makes_nothing_ours(
        cases in cases(),
        readings in vec(proptest::option::of((cases(), any::<bool>())), 1..6),
    ) {
        let (mut world, wanted) = world(&cases);
        let mut memory = Memory::default();
        world.pass(&wanted, &policy(), &mut memory);
        for reading in readings {
            world.now += Duration::from_secs(5);
            let mut observed = world.observe();
            match reading {
                None => observed.registry = None,
                Some((hidden, all)) => {
                    // As many as there are; the last ones are shown in full.
                    let hidden: Vec<Case> = cases
                        .iter()
                        .enumerate()
                        .map(|(at, case)| Case { shown: hidden.get(at).map_or(Shown::Whole, |case| case.shown), ..*case })
                        .collect();
                    hide(&mut observed, &hidden, all);
                }
            }
            let plan = plan(&wanted, &observed, &policy(), &memory);
            memory.learn(&wanted, &observed, &plan);
            for (at, case) in cases.iter().enumerate().filter(|(_, case)| case.owner == Owner::Theirs) {
                assert!(!created(&plan)[&id(at)], "{at}: {case:?} {:#?}", one(&plan, &id(at)));
            }
        }
    }
}

#[test]
fn a_service_of_ours_that_is_missing_is_made_again_without_a_registry_and_on_a_doubtful_reading() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.remove_by_hand("a");
    let seen = world.observe();
    let mut doubtful = seen.clone();
    let registry = Arc::make_mut(doubtful.registry.as_mut().unwrap());
    registry.records.clear();
    registry.evidence.doubt = Some(doubt(false));
    for observed in [doubtful, Observed { registry: None, ..seen }] {
        assert!(created(&plan(&wanted, &observed, &policy(), &memory))["A"]);
    }
}

/// A registry that comes back shows a part, fails, and shows another part, all within seconds.
#[test]
fn a_reading_that_fails_after_a_doubtful_one_proves_no_more_than_that_one() {
    let mut world = World::default();
    let wanted = desired([app("A", |_| {})]);
    let mut memory = Memory::default();
    let mut doubtful = world.observe();
    Arc::make_mut(doubtful.registry.as_mut().unwrap()).evidence.doubt = Some(doubt(false));
    let at = doubtful.at;
    for (after, registry, creates) in [(0, true, false), (3, false, false), (60, false, false), (120, false, true)] {
        let registry = doubtful.registry.clone().filter(|_| registry);
        let observed = Observed { registry, at: at + Duration::from_secs(after), ..doubtful.clone() };
        let plan = plan(&wanted, &observed, &policy(), &memory);
        memory.learn(&wanted, &observed, &plan);
        assert_eq!(created(&plan)["A"], creates, "after {after} s");
    }
}

/// Production must not wait for a registry that does not answer. One that is being read for the first time says so soon.
#[test]
fn a_new_service_waits_for_the_first_reading_and_not_for_a_registry_that_is_away() {
    let mut world = World::default();
    let wanted = desired([app("A", |_| {})]);
    let memory = Memory::default();
    let seen = Observed { registry: None, at: Duration::from_secs(1), ..world.observe() };
    let first = Observed { registry_stands_in: true, ..seen.clone() };
    let waits = plan(&wanted, &first, &policy(), &memory);
    assert_eq!((waits.steps(), &one(&waits, "A").held[0].wait), (0, &Wait::Evidence { lasting: false }));
    let never = Observed { at: Duration::from_secs(20), ..first };
    for observed in [seen, never] {
        assert!(created(&plan(&wanted, &observed, &policy(), &memory))["A"]);
    }
    assert!(!world.services.contains_key(&name("a")));
}
