//! What holds in every world: the promises that planning carries, against random manifests, random worlds and
//! random meddling.

use ofop::model::service::EnvVar;
use ofop::model::{
    ConditionKind, Desired, DesiredResource, Health, InstanceName, Mark, Observed, ObservedRecord, ObservedService,
    Plan, Progress, PruneVerdict, Record, RecordId, ResourceId, ServiceName, ServiceStep, Step, Sync, UpdateState,
    Verdict,
};
use ofop::plan::{Guard, Memory, Policy, judge, plan};
use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::Config;
use std::collections::{BTreeMap, BTreeSet};

use crate::world::{World, app, asset, desired, device, name, policy, uuid};

const APPS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];

/// One app as some manifest may describe it; 8 are devices.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    image: u8,
    replicas: u64,
    variable: Option<u8>,
    other_network: bool,
}

pub(crate) fn shapes() -> impl Strategy<Value = BTreeMap<usize, Shape>> {
    let shape = (0..3_u8, 1..4_u64, any::<Option<u8>>(), any::<bool>())
        .prop_map(|(image, replicas, variable, other_network)| Shape { image, replicas, variable, other_network });
    btree_map(0..APPS.len() + 2, shape, 0..APPS.len())
}

pub(crate) fn describe(shapes: &BTreeMap<usize, Shape>) -> Desired {
    desired(shapes.iter().map(|(at, shape)| match APPS.get(*at) {
        Some(id) => resource(id, shape),
        None => device(if *at == APPS.len() { "CNC-1" } else { "CNC-2" }),
    }))
}

fn resource(id: &str, shape: &Shape) -> DesiredResource {
    app(id, |spec| {
        spec.image = format!("registry/app:{}", shape.image);
        spec.replicas = shape.replicas;
        if let Some(value) = shape.variable {
            spec.env.push(EnvVar::new("MODE", value.to_string()));
        }
        if shape.other_network {
            spec.networks.push("other-net".into());
        }
    })
}

/// What people and accidents do to a cluster.
#[derive(Debug, Clone)]
pub(crate) enum Meddling {
    RemoveService(usize),
    Scale(usize, u64),
    EditEnvironment(usize),
    Reorder(usize),
    PinDigest(usize),
    StripMark(usize),
    GlobalMode(usize),
    Stranger(usize),
    OtherInstance(usize),
    RemoveRecord(usize),
    EditRecord(usize),
    TakeBackHalfway(usize),
    ForeignRecord(usize),
    LoseMemory,
}

pub(crate) fn meddling() -> impl Strategy<Value = Meddling> {
    let at = 0..24_usize;
    prop_oneof![
        at.clone().prop_map(Meddling::RemoveService),
        (at.clone(), 0..5_u64).prop_map(|(at, replicas)| Meddling::Scale(at, replicas)),
        at.clone().prop_map(Meddling::EditEnvironment),
        at.clone().prop_map(Meddling::Reorder),
        at.clone().prop_map(Meddling::PinDigest),
        at.clone().prop_map(Meddling::StripMark),
        at.clone().prop_map(Meddling::GlobalMode),
        at.clone().prop_map(Meddling::Stranger),
        at.clone().prop_map(Meddling::OtherInstance),
        at.clone().prop_map(Meddling::RemoveRecord),
        at.clone().prop_map(Meddling::EditRecord),
        at.clone().prop_map(Meddling::TakeBackHalfway),
        at.prop_map(Meddling::ForeignRecord),
        Just(Meddling::LoseMemory),
    ]
}

pub(crate) fn meddle(world: &mut World, memory: &mut Memory, act: &Meddling) {
    let services: Vec<ServiceName> = world.services.keys().cloned().collect();
    let records: Vec<RecordId> = world.records.keys().cloned().collect();
    let service = |at: &usize| services.get(at % services.len().max(1)).map(ServiceName::as_str);
    let record = |at: &usize| records.get(at % records.len().max(1));
    let edit = |world: &mut World, at: &usize, change: &dyn Fn(&mut ObservedService)| {
        if let Some(service) = service(at) {
            world.edit(service, change);
        }
    };
    match act {
        Meddling::RemoveService(at) => {
            if let Some(service) = service(at) {
                world.remove_by_hand(service);
            }
        }
        Meddling::Scale(at, replicas) => edit(world, at, &|service| service.spec_mut().replicas = *replicas),
        Meddling::EditEnvironment(at) => {
            edit(world, at, &|service| service.spec_mut().env.push(EnvVar::new("BY_HAND", "1")));
        }
        Meddling::Reorder(at) => edit(world, at, &|service| {
            service.spec_mut().env.reverse();
            service.spec_mut().networks.reverse();
        }),
        Meddling::PinDigest(at) => edit(world, at, &|service| {
            if !service.spec.image.contains('@') {
                service.spec_mut().image.push_str("@sha256:abcd");
            }
        }),
        Meddling::StripMark(at) => edit(world, at, &|service| service.mark = None),
        Meddling::GlobalMode(at) => edit(world, at, &|service| service.foreign_mode = Some("global".into())),
        Meddling::Stranger(at) => {
            let stranger = app(APPS[at % APPS.len()], |spec| spec.image = "somebody/else".into());
            let spec = (*stranger.services[0].spec).clone();
            if !world.services.contains_key(&spec.name) {
                world.insert(spec, None);
            }
        }
        Meddling::OtherInstance(at) => {
            let other = app(APPS[at % APPS.len()], |_| {});
            let spec = (*other.services[0].spec).clone();
            if !world.services.contains_key(&spec.name) {
                let mark = Mark {
                    instance: InstanceName::new("other").unwrap(),
                    resource: other.id,
                    spec: other.services[0].hash.clone(),
                    revision: ofop::model::Revision::default(),
                    origin: String::new(),
                    kept: Some(false),
                    terms: ofop::model::RemovalTerms::default(),
                    options: Vec::new(),
                    run: None,
                };
                world.insert(spec, Some(mark));
            }
        }
        Meddling::RemoveRecord(at) => {
            if let Some(id) = record(at) {
                world.records.remove(id);
            }
        }
        Meddling::EditRecord(at) => {
            if let Some(Record::Asset(asset)) =
                record(at).and_then(|id| world.records.get_mut(id)).map(|found| &mut found.record)
            {
                asset.references_above.push("SOMEBODY".into());
            }
        }
        Meddling::TakeBackHalfway(at) => {
            if let Some(Record::Asset(asset)) =
                record(at).and_then(|id| world.records.get_mut(id)).map(|found| &mut found.record)
            {
                asset.asset_type = String::new();
                asset.docker_service = String::new();
            }
        }
        Meddling::ForeignRecord(at) => {
            let id = APPS[at % APPS.len()];
            let record = Record::Asset(asset(id, "SomethingElse", ""));
            world.records.entry(record.id()).or_insert(ObservedRecord { record, owner: None });
        }
        Meddling::LoseMemory => *memory = Memory::default(),
    }
}

/// A world that was ours for a while and that others have been at.
fn lived_in(before: &BTreeMap<usize, Shape>, acts: &[Meddling]) -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.networks.insert("other-net".into());
    world.converge(&describe(before), &confirmed(), &mut memory);
    for act in acts {
        meddle(&mut world, &mut memory, act);
    }
    (world, memory)
}

fn confirmed() -> Policy {
    Policy { prune_confirmed: true, ..policy() }
}

fn destructive(plan: &Plan) -> Vec<&Step> {
    plan.resources
        .values()
        .flat_map(|resource| &resource.steps)
        .map(|step| &step.step)
        .filter(|step| step.is_destructive())
        .collect()
}

fn instance(service: &ObservedService) -> Option<&str> {
    service.mark.as_ref().map(|mark| mark.instance.as_str())
}

/// Everything that is not ours and that no manifest names.
fn strangers(world: &World, wanted: &Desired) -> (Vec<ObservedService>, Vec<ObservedRecord>) {
    let names: BTreeSet<&ServiceName> =
        wanted.resources.values().flat_map(|resource| &resource.services).map(|service| &service.spec.name).collect();
    let ids: BTreeSet<RecordId> =
        wanted.resources.values().flat_map(|resource| &resource.records).map(|record| record.id()).collect();
    let services = world.services.values().filter(|service| match instance(service) {
        None => !names.contains(&service.spec.name) && !is_named_by_ours(world, service),
        Some(instance) => instance != "test",
    });
    let records = world.records.iter().filter(|(id, record)| record.owner.is_none() && !ids.contains(id));
    (services.cloned().collect(), records.map(|(_, record)| record.clone()).collect())
}

/// Whether it lost its mark and the registry still says that it is ours.
fn is_named_by_ours(world: &World, service: &ObservedService) -> bool {
    world.records.values().any(|found| {
        let ours = found.owner.as_ref().filter(|owner| owner.instance.as_str() == "test");
        let Record::Asset(asset) = &found.record else { return false };
        ours.is_some_and(|owner| {
            asset.docker_service == service.spec.name.as_str()
                && service.spec.env.iter().any(|variable| {
                    variable.name == "APP_UUID"
                        && [asset.uuid.as_str(), owner.resource.uuid.as_str()].contains(&&*variable.value)
                })
        })
    })
}

fn undescribed(world: &World, wanted: &Desired) -> (BTreeSet<ResourceId>, BTreeSet<ResourceId>) {
    let marks = world
        .services
        .values()
        .filter_map(|service| service.mark.as_ref())
        .filter(|mark| mark.instance.as_str() == "test")
        .map(|mark| mark.resource.clone());
    let live =
        |record: &&ObservedRecord| !matches!(&record.record, Record::Asset(asset) if asset.asset_type.is_empty());
    let owners = world.records.values().filter(live).filter_map(|record| record.owner.as_ref());
    let managed: BTreeSet<ResourceId> = marks.chain(owners.map(|owner| owner.resource.clone())).collect();
    let gone = managed.iter().filter(|id| !wanted.resources.contains_key(*id)).cloned().collect();
    (gone, managed)
}

proptest::proptest! {
    #![proptest_config(Config { cases: 150, failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_world_settles_in_sync_and_then_stays_untouched(
        before in shapes(), after in shapes(), acts in vec(meddling(), 0..8)
    ) {
        let (mut world, mut memory) = lived_in(&before, &acts);
        let wanted = describe(&after);
        let last = world.settle(&wanted, &confirmed(), &mut memory);
        for (id, resource) in &last.resources {
            let in_the_way = resource.conditions.iter().any(|condition| condition.reason.starts_with("Strangers") || condition.reason == "OtherInstance");
            assert!(resource.sync == Sync::Synced || in_the_way, "{id}: {resource:#?}");
            assert!(resource.origin.is_some(), "{id} is still there");
        }
        let untouched = world.services.clone();
        world.settle(&wanted, &confirmed(), &mut memory);
        assert_eq!(untouched, world.services);
        // and a restart finds nothing to do either
        world.settle(&wanted, &confirmed(), &mut Memory::default());
        assert_eq!(untouched, world.services);
    }

    #[test]
    fn a_resource_is_settled_only_if_nothing_is_to_be_done_and_nothing_is_in_the_way(
        before in shapes(), after in shapes(), acts in vec(meddling(), 0..8), cut in 0..5_u8
    ) {
        let (mut world, mut memory) = lived_in(&before, &acts);
        let mut wanted = describe(&after);
        match cut {
            0 => wanted.complete = false,
            1 => world.platform_complete = false,
            2 => world.registry_complete = false,
            3 => world.networks.clear(),
            _ => {}
        }
        let checked = |plan: &Plan| {
            for (id, resource) in &plan.resources {
                assert_eq!(resource.verdict, judge(id, resource, None), "the same values give the same verdict");
                let nothing_to_do = resource.steps.is_empty() && resource.held.is_empty();
                let fine = resource.sync == Sync::Synced && resource.health == Health::Healthy;
                let in_the_way = resource.conditions.iter().any(|condition| {
                    !matches!(condition.kind, ConditionKind::Kept | ConditionKind::Unresolved | ConditionKind::Progressing)
                });
                match &resource.verdict {
                    Verdict::Settled => assert!(nothing_to_do && fine && !in_the_way, "{id}: {resource:#?}"),
                    Verdict::InProgress { why, message } => {
                        assert!(!(nothing_to_do && fine), "{id}: {resource:#?}");
                        assert_eq!(*why == Progress::Steps, !resource.steps.is_empty(), "{id}: {resource:#?}");
                        assert!(!message.is_empty());
                    }
                    Verdict::Blocked(block) => {
                        let is_settled = nothing_to_do && fine && !in_the_way;
                        assert!(resource.steps.is_empty() && !is_settled, "{id}: {resource:#?}");
                        assert!(!block.message.is_empty() && !block.hint.is_empty(), "{block:?}");
                    }
                }
            }
        };
        for _ in 0..8 {
            checked(&world.pass(&wanted, &policy(), &mut memory));
        }
        checked(&world.settle(&wanted, &policy(), &mut memory));
    }

    #[test]
    fn what_is_not_ours_is_never_touched(
        before in shapes(), after in shapes(), acts in vec(meddling(), 0..8)
    ) {
        let (mut world, mut memory) = lived_in(&before, &acts);
        let wanted = describe(&after);
        let foreign = strangers(&world, &wanted);
        world.settle(&wanted, &confirmed(), &mut memory);
        assert_eq!(foreign, strangers(&world, &wanted));
    }

    #[test]
    fn nothing_is_taken_away_on_one_sighting_a_cut_list_or_an_invalid_manifest(
        before in shapes(), after in shapes(), acts in vec(meddling(), 0..8), cut in 0..3_u8
    ) {
        let (mut world, mut memory) = lived_in(&before, &acts);
        let mut wanted = describe(&after);
        let first = plan(&wanted, &world.observe(), &confirmed(), &Memory::default());
        assert!(destructive(&first).is_empty(), "on one sighting: {:?}", destructive(&first));
        match cut {
            0 => wanted.complete = false,
            1 => world.platform_complete = false,
            _ => world.registry_complete = false,
        }
        for _ in 0..12 {
            let plan = world.pass(&wanted, &confirmed(), &mut memory);
            let services = destructive(&plan).into_iter().filter(|step| cut < 2 || !matches!(step, Step::Service(ServiceStep::Remove { .. })));
            assert_eq!(services.count(), 0);
        }
    }

    #[test]
    fn the_guard_holds_without_a_persons_word(before in shapes(), after in shapes()) {
        let (mut world, mut memory) = lived_in(&before, &[]);
        let wanted = describe(&after);
        let (removing, managed) = undescribed(&world, &wanted);
        let (gone, all) = (removing.len(), managed.len());
        let everything = gone > 0 && (wanted.resources.is_empty() || (gone == all && all > 1));
        let many = gone > 5 && gone * 10 > all * 3 || gone > 1 && gone * 2 > all && all - gone <= 2;
        let policy = Policy { guard: Guard::default(), ..policy() };
        for _ in 0..20 {
            let (still_there, _) = undescribed(&world, &wanted);
            let plan = world.pass(&wanted, &policy, &mut memory);
            let touched = plan
                .resources
                .iter()
                .filter(|(id, resource)| {
                    removing.contains(*id) && resource.steps.iter().any(|step| step.step.is_destructive())
                })
                .count();
            if everything || many {
                // whatever is deployed meanwhile
                assert_eq!(touched, 0, "{gone} of {all} at once");
                assert!(matches!(plan.prune, PruneVerdict::Blocked { .. }));
            } else if !still_there.is_empty() {
                assert!(matches!(plan.prune, PruneVerdict::Allowed(_)), "{gone} of {all}: {:?}", plan.prune);
            }
        }
    }

    #[test]
    fn the_same_values_give_the_same_plan_and_steps_name_what_the_snapshot_held(
        before in shapes(), after in shapes(), acts in vec(meddling(), 0..8)
    ) {
        let (mut world, memory) = lived_in(&before, &acts);
        let wanted = describe(&after);
        let observed: Observed = world.observe();
        let (one, two) = (plan(&wanted, &observed, &policy(), &memory), plan(&wanted, &observed, &policy(), &memory));
        assert_eq!(one.resources, two.resources);
        let services = &observed.platform.as_ref().unwrap().services;
        for step in one.resources.values().flat_map(|resource| &resource.steps) {
            match &step.step {
                Step::Service(ServiceStep::Create { spec, .. }) => assert!(!services.contains_key(&spec.name) || one_replaces(&one, &spec.name)),
                Step::Service(ServiceStep::Update { id, version, spec, .. }) => {
                    let found = &services[&spec.name];
                    assert_eq!((&found.id, found.version), (id, *version));
                    assert!(!step.changes.is_empty(), "an update without a difference");
                }
                Step::Service(ServiceStep::Remove { id, name }) => assert_eq!(&services[name].id, id),
                Step::Record(_) => {}
            }
        }
    }

    #[test]
    fn an_update_that_is_rolled_back_is_sent_once(shape in shapes(), image in 3..6_u8) {
        let (mut world, mut memory) = lived_in(&shape, &[]);
        world.fails_update = APPS.iter().map(|id| name(id)).collect();
        let mut broken = shape.clone();
        for shape in broken.values_mut() {
            shape.image = image;
        }
        let wanted = describe(&broken);
        let mut sent: BTreeMap<ServiceName, usize> = BTreeMap::new();
        for _ in 0..8 {
            let plan = world.pass(&wanted, &policy(), &mut memory);
            for step in plan.resources.values().flat_map(|resource| &resource.steps) {
                if let Step::Service(ServiceStep::Update { spec, .. }) = &step.step {
                    *sent.entry(spec.name.clone()).or_default() += 1;
                }
            }
        }
        assert!(sent.values().all(|count| *count == 1), "{sent:?}");
        let rolled_back = |service: &ObservedService| matches!(service.update, UpdateState::RollbackCompleted(_));
        assert_eq!(sent.len(), world.services.values().filter(|service| rolled_back(service)).count());
    }
}

fn one_replaces(plan: &Plan, service: &ServiceName) -> bool {
    plan.resources
        .values()
        .flat_map(|resource| &resource.steps)
        .any(|step| matches!(&step.step, Step::Service(ServiceStep::Remove { name, .. }) if name == service))
}

#[test]
fn worlds_of_the_properties_hold_what_they_speak_of() {
    // guards the generators: meddling must really reach services and records
    let before: BTreeMap<usize, Shape> =
        (0..4).map(|at| (at, Shape { image: 0, replicas: 1, variable: None, other_network: false })).collect();
    let (world, _) =
        lived_in(&before, &[Meddling::GlobalMode(0), Meddling::StripMark(1), Meddling::TakeBackHalfway(2)]);
    assert!(world.services[&name("a")].foreign_mode.is_some());
    assert!(world.services[&name("b")].mark.is_none());
    assert!(
        matches!(&world.records[&RecordId::Asset(uuid("C"))].record, Record::Asset(asset) if asset.asset_type.is_empty())
    );
}
