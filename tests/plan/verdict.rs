//! One verdict on every resource: each kind through the planner, and what holds for all of them.

use std::sync::Arc;
use std::time::Duration;

use ofop::model::record::CoordinatorProtocol;
use ofop::model::{
    BlockKind, Command, DesiredResource, Doubt, DoubtReason, Health, OtherFile, Plan, Progress, Record, ResourceId,
    SourceTrouble, Sync, TaskState, TaskView, TroubleReason, UpdateState, Verdict,
};
use ofop::plan::{Guard, Memory, Policy, plan};

use crate::world::{TICK, World, app, app_id, asset, desired, device, name, one, policy, uuid};

const NOW: &str = "2026-01-02T03:04:05Z";

/// A world in which one app runs as described.
fn running() -> (World, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {})]), &policy(), &mut memory);
    (world, memory)
}

fn kind(plan: &Plan, id: &str) -> Option<BlockKind> {
    one(plan, id).verdict.block().map(|block| block.kind)
}

fn why(plan: &Plan, id: &str) -> Option<Progress> {
    match &one(plan, id).verdict {
        Verdict::InProgress { why, .. } => Some(*why),
        Verdict::Settled | Verdict::Blocked(_) => None,
    }
}

/// Tasks of one replica that ended one after the other with this error, and the one that is to follow.
fn failed(state: TaskState, error: &str, times: u64) -> Vec<TaskView> {
    let task = |number: u64| TaskView {
        id: format!("task-{number}"),
        slot: 1,
        state: if number < times { state } else { TaskState::Preparing },
        wanted: number == times,
        error: if number < times { error.into() } else { String::new() },
        node: "node".into(),
        since: format!("2026-01-02T03:04:{number:02}Z"),
    };
    (0..=times).map(task).collect()
}

fn with_tasks(tasks: Vec<TaskView>) -> Plan {
    let (mut world, mut memory) = running();
    let service = world.services[&name("a")].id.clone();
    world.tasks.insert(service, tasks);
    world.pass(&desired([app("A", |_| {})]), &policy(), &mut memory)
}

#[test]
fn a_new_resource_is_in_progress_until_it_is_settled() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    let first = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!(why(&first, "A"), Some(Progress::Steps));
    assert_eq!(one(&world.pass(&wanted, &policy(), &mut memory), "A").verdict, Verdict::Settled);
}

#[test]
fn what_time_alone_ends_is_in_progress() {
    let (mut world, mut memory) = running();
    // a removal that was seen once
    let (mut going, mut known) = (world.clone(), memory.clone());
    let confirmed = Policy { prune_confirmed: true, ..policy() };
    let plan_of_removal = going.pass(&desired([]), &confirmed, &mut known);
    assert_eq!(why(&plan_of_removal, "A"), Some(Progress::Held));
    // tasks that start
    assert_eq!(why(&with_tasks(failed(TaskState::Failed, "", 0)), "A"), Some(Progress::Tasks));
    // a platform that cannot be read
    let mut unseen = world.observe();
    unseen.platform = None;
    let blind = plan(&desired([app("A", |_| {})]), &unseen, &policy(), &memory);
    assert_eq!(why(&blind, "A"), Some(Progress::Unread));
    assert!(one(&blind, "A").verdict.needs_attention());
    // what came with the same revision is to run first
    let gentle =
        Policy { prune_last: true, prune_confirmed: false, guard: Guard { count: 9, fraction: 1.0 }, ..policy() };
    let mut wanted = desired([app("B", |spec| spec.networks = vec!["missing".into()]), app("C", |_| {})]);
    wanted.revision = ofop::model::Revision("fedcba".into());
    let plans: Vec<Plan> = (0..4).map(|_| world.pass(&wanted, &gentle, &mut memory)).collect();
    assert_eq!(why(plans.last().unwrap(), "A"), Some(Progress::Successor), "{:#?}", plans.last());
}

#[test]
fn tasks_that_fail_again_and_again_block_by_what_keeps_them_from_running() {
    for (state, error, expected) in [
        (TaskState::Rejected, "No such image: registry/app:1", BlockKind::ImageMissing),
        (TaskState::Failed, "task: non-zero exit (1)", BlockKind::RestartLoop),
        (TaskState::Failed, "", BlockKind::RestartLoop),
        (TaskState::Rejected, "invalid mount config", BlockKind::TaskRejected),
        (TaskState::Rejected, "network factory-net not found", BlockKind::TaskRejected),
        (TaskState::Rejected, "no suitable node (1 node not available)", BlockKind::NoSuitableNode),
    ] {
        let found = with_tasks(failed(state, error, 3));
        assert_eq!(kind(&found, "A"), Some(expected), "{error}");
        let block = one(&found, "A").verdict.block().unwrap();
        let last = expected.is_about_failed_tasks().then_some("2026-01-02T03:04:02Z");
        assert_eq!(block.last_failure.as_deref(), last, "{error}");
        assert!(block.message.contains(error) && !block.hint.is_empty(), "{block:?}");
        // two failures are no loop yet
        assert_eq!(why(&with_tasks(failed(state, error, 2)), "A"), Some(Progress::Tasks), "{error}");
    }
}

#[test]
fn an_update_that_the_engine_stopped_or_rolled_back_blocks() {
    let (mut world, mut memory) = running();
    world.edit("a", |service| service.update = UpdateState::Paused("task failed".into()));
    let paused = world.pass(&desired([app("A", |_| {})]), &policy(), &mut memory);
    assert_eq!(kind(&paused, "A"), Some(BlockKind::UpdatePaused));

    let (mut world, mut memory) = running();
    world.fails_update.insert(name("a"));
    let bad = desired([app("A", |spec| spec.image = "registry/app:broken".into())]);
    world.noted_pass(&bad, &policy(), &mut memory);
    assert_eq!(kind(&world.pass(&bad, &policy(), &mut memory), "A"), Some(BlockKind::RolledBack));
}

#[test]
fn an_update_that_was_sent_and_has_not_begun_is_in_progress() {
    let (mut world, mut memory) = running();
    let wanted = desired([app("A", |spec| spec.image = "registry/app:2".into())]);
    world.noted_pass(&wanted, &policy(), &mut memory);
    // What the engine shows before its orchestrator has looked: the new spec, no word of an update, the old tasks.
    world.edit("a", |service| service.update = UpdateState::None);
    world.now -= TICK - Duration::from_secs(1);
    let sent = world.pass(&wanted, &policy(), &mut memory);
    assert_eq!((one(&sent, "A").sync, why(&sent, "A")), (Sync::Synced, Some(Progress::Tasks)));
    assert!(sent.recheck.is_some(), "time alone ends it");
    for (update, expected) in
        [(UpdateState::Paused("no such image".into()), Some(BlockKind::UpdatePaused)), (UpdateState::Completed, None)]
    {
        let (mut world, mut memory) = (world.clone(), memory.clone());
        world.edit("a", |service| service.update = update.clone());
        let begun = world.pass(&wanted, &policy(), &mut memory);
        assert_eq!((kind(&begun, "A"), why(&begun, "A")), (expected, None), "{update:?}");
    }
    // An engine that has no task to replace never says that it began.
    world.now += Duration::from_secs(5);
    assert_eq!(one(&world.pass(&wanted, &policy(), &mut memory), "A").verdict, Verdict::Settled);
    assert!(memory.replacing.is_empty());
}

#[test]
fn tasks_that_take_too_long_block_by_the_reason_that_is_known() {
    for (error, expected) in [
        ("", BlockKind::ProgressDeadline),
        ("no suitable node (scheduling constraints not satisfied)", BlockKind::NoSuitableNode),
    ] {
        let (mut world, mut memory) = running();
        let wanted = desired([app("A", |_| {})]);
        let service = world.services[&name("a")].id.clone();
        let mut tasks = failed(TaskState::Failed, "", 0);
        tasks[0].error = error.into();
        world.tasks.insert(service, tasks);
        assert_eq!(why(&world.pass(&wanted, &policy(), &mut memory), "A"), Some(Progress::Tasks));
        world.now += policy().progress_deadline;
        let late = world.pass(&wanted, &policy(), &mut memory);
        assert_eq!(kind(&late, "A"), Some(expected));
        assert!(expected.may_settle());
    }
}

#[test]
fn what_belongs_to_somebody_else_blocks() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let mut other = (*app("A", |_| {}).services[0].spec).clone();
    other.image = "stranger:1".into();
    world.insert(other, None);
    let found = world.settle(&desired([app("A", |_| {})]), &policy(), &mut memory);
    assert_eq!(kind(&found, "A"), Some(BlockKind::Conflict));
}

#[test]
fn what_somebody_undoes_again_and_again_blocks() {
    let (mut world, mut memory) = running();
    let wanted = desired([app("A", |_| {})]);
    let mut last = None;
    for _ in 0..6 {
        world.edit("a", |service| service.spec_mut().replicas = 5);
        last = Some(world.pass(&wanted, &policy(), &mut memory));
    }
    assert_eq!(kind(&last.unwrap(), "A"), Some(BlockKind::Contested));
}

#[test]
fn what_is_missing_blocks_and_may_settle() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.networks.clear();
    let found = world.settle(&desired([app("A", |_| {})]), &policy(), &mut memory);
    assert_eq!(kind(&found, "A"), Some(BlockKind::MissingNetwork));

    let mut plc = device("PLC-1");
    plc.services.clear();
    let told = |device| Record::CoordinatorDevice { device, protocol: CoordinatorProtocol::Opcua, config: "{}".into() };
    plc.records = vec![Arc::new(told(uuid("PLC-1"))), Arc::new(Record::Asset(asset("PLC-1", "Device", "")))];
    let found = world.settle(&desired([plc]), &policy(), &mut memory);
    let block = found.resources[&ResourceId::device(uuid("PLC-1"))].verdict.block().unwrap();
    assert_eq!(block.kind, BlockKind::MissingCoordinator);

    for lasting in [true, false] {
        let mut observed = World::default().observe();
        let doubt = Doubt { reason: DoubtReason::Partial, message: "rows are missing".into(), lasting };
        Arc::make_mut(observed.registry.as_mut().unwrap()).evidence.assets.insert(uuid("A"), doubt);
        let mut memory = Memory::default();
        memory.recall(&observed);
        let found = plan(&desired([app("A", |_| {})]), &observed, &policy(), &memory);
        let expected = if lasting { (Some(BlockKind::RegistryUnproven), None) } else { (None, Some(Progress::Held)) };
        assert_eq!((kind(&found, "A"), why(&found, "A")), expected);
    }
    for kind in [BlockKind::MissingNetwork, BlockKind::MissingCoordinator, BlockKind::RegistryUnproven] {
        assert!(kind.may_settle());
    }
}

#[test]
fn a_removal_that_is_held_blocks_by_what_holds_it() {
    let apps = || desired([app("A", |_| {}), app("B", |_| {})]);
    let without = || desired([app("B", |_| {})]);
    let invalid = ofop::model::Desired { complete: false, ..without() };
    let troubled = ofop::model::Desired {
        trouble: Some(SourceTrouble::new(TroubleReason::Unverified, "not signed")),
        ..without()
    };
    let others = vec![OtherFile::new("app_A.yml", "is empty")];
    let emptied = ofop::model::Desired { others, ..without() };
    let off = Policy { prune: false, ..policy() };
    for (wanted, policy, expected) in [
        (desired([]), policy(), BlockKind::HeldForConfirmation),
        (without(), off, BlockKind::PruningDisabled),
        (invalid, policy(), BlockKind::InvalidManifest),
        (troubled, policy(), BlockKind::SourceTrouble),
        (emptied, policy(), BlockKind::NoLongerManifest),
    ] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        world.converge(&apps(), &crate::world::policy(), &mut memory);
        let found = world.settle(&wanted, &policy, &mut memory);
        assert_eq!(kind(&found, "A"), Some(expected));
        assert!(world.services.contains_key(&name("a")));
    }
}

#[test]
fn a_resource_whose_file_is_invalid_blocks_although_it_runs() {
    let (mut world, mut memory) = running();
    let frozen = DesiredResource { frozen: true, ..app("A", |_| {}) };
    let found = world.settle(&desired([frozen]), &policy(), &mut memory);
    assert_eq!((one(&found, "A").sync, one(&found, "A").health), (Sync::Synced, Health::Healthy));
    assert_eq!(kind(&found, "A"), Some(BlockKind::InvalidManifest));
}

#[test]
fn what_is_left_alone_blocks_as_suspended_whatever_else_holds() {
    let wanted = || desired([app("A", |_| {}), app("B", |_| {})]);
    let mut suspended = app("A", |spec| spec.networks = vec!["missing".into()]);
    suspended.handling.suspend = true;
    let (mut world, mut memory) = running();
    let by_manifest = world.settle(&desired([suspended]), &policy(), &mut memory);
    assert_eq!(kind(&by_manifest, "A"), Some(BlockKind::Suspended));
    for command in [
        Command::Suspend(Some(app_id("A")), ofop::model::Term::default()),
        Command::Suspend(None, ofop::model::Term::default()),
        Command::Down(app_id("A")),
    ] {
        let (mut world, mut memory) = (World::default(), Memory::default());
        world.converge(&wanted(), &policy(), &mut memory);
        memory.command(&command, NOW);
        let down = matches!(command, Command::Down(_));
        let first = world.pass(&wanted(), &policy(), &mut memory);
        assert_eq!(why(&first, "A").is_some(), down, "what is taken down is in progress until it is gone");
        let last = world.settle(&wanted(), &policy(), &mut memory);
        assert_eq!(kind(&last, "A"), Some(BlockKind::Suspended), "{command:?}");
        assert_eq!(world.services.contains_key(&name("a")), !down);
    }
}

#[test]
fn a_conflict_beside_leftovers_is_the_verdict_although_records_wait_for_services() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |spec| spec.replicas = 2)]), &policy(), &mut memory);
    world.services.get_mut(&name("a")).unwrap().mark = None;
    world.edit("a", |service| service.spec_mut().image = "stranger:1".into());
    for record in world.records.values_mut() {
        if let Record::Asset(asset) = &mut record.record {
            asset.docker_service = "elsewhere".into();
        }
    }
    let found = world.settle(&desired([app("A", |_| {})]), &policy(), &mut memory);
    assert_eq!(kind(&found, "A"), Some(BlockKind::Conflict), "{:#?}", one(&found, "A"));
}
