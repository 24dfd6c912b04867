//! What the operator says of itself, driven by a manual clock.

#[path = "support/factory.rs"]
mod factory;

use std::sync::Arc;
use std::time::Duration;

use factory::{Factory, app, commit, instance};
use ofop::model::{
    Actor, AssetUuid, Availability, BlockKind, Command, ConditionKind, FailureKind, Health, InstanceName, Observed,
    ObservedRecord, Problem, PruneBlock, PruneVerdict, Record, RecordId, Request, Revision, Severity, SourceKind,
    SourceTrouble, StepFailure, StepVerb, Sync, TroubleReason,
};
use ofop::report::source::SourceChange;
use ofop::report::status::{Ownership, PartState, PruneState, ServicePresence};
use ofop::report::{Entry, EventOutcome, Report, Retry, SourceView, Status, StepReport, events};

const MINUTE: Duration = Duration::from_secs(60);

fn step(factory: &Factory, uuid: &str, outcome: Result<(), StepFailure>) -> StepReport {
    let id = app(uuid);
    let spec = &factory.desired.resources[&id].services[0].spec;
    let planned = factory::update_step(spec, &id);
    let revision = Revision("0123456789abcdef".into());
    StepReport::of(id, None, revision, &planned, outcome, factory.wall(), Duration::from_millis(12))
}

/// The value of one series in the metrics text; none when it does not exist.
fn metric(report: &Report, series: &str) -> Option<f64> {
    let text = report.metrics();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn since_when_is_kept_while_nothing_changes_and_moves_when_it_does() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&report, MINUTE);
    factory.tell(&report, MINUTE);
    let first = report.status();
    let press = first.get(&app("PRESS-7")).unwrap();
    assert_eq!(press.sync_since.as_deref(), Some("2026-01-02T03:04:06.000Z"));

    factory.drift(&app("PRESS-7"));
    factory.condition(&app("PRESS-7"), ConditionKind::Waiting, "NetworkMissing", "network `x` does not exist");
    factory.tell(&report, MINUTE);
    factory.tell(&report, MINUTE);
    let second = report.status();
    let press = second.get(&app("PRESS-7")).unwrap();
    assert_eq!(press.sync, Sync::OutOfSync);
    assert_eq!(press.sync_since.as_deref(), Some("2026-01-02T03:06:06.000Z"));
    assert_eq!(press.drift[0].since.as_deref(), Some("2026-01-02T03:06:06.000Z"));
    assert_eq!(press.conditions[0].since.as_deref(), Some("2026-01-02T03:06:06.000Z"));
    assert_eq!(press.health_since.as_deref(), Some("2026-01-02T03:04:06.000Z"), "its health did not change");
}

#[test]
fn convergence_is_measured_from_the_first_sight_of_a_difference() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, "ofop_convergence_seconds_count"), Some(0.0), "it was never out of sync");
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, Duration::from_secs(20));
    factory.tell(&report, Duration::from_secs(10));
    factory.heal(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, "ofop_convergence_seconds_count"), Some(1.0));
    assert_eq!(metric(&report, "ofop_convergence_seconds_sum"), Some(30.0));
}

#[test]
fn a_removal_converges_when_the_resource_is_gone() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.planned(&app("PRESS-7")).sync = Sync::OutOfSync;
    factory.tell(&report, Duration::from_secs(5));
    factory.remove(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, "ofop_convergence_seconds_sum"), Some(5.0));
}

#[test]
fn suspension_is_no_convergence() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    factory.planned(&app("PRESS-7")).health = Health::Suspended;
    factory.tell(&report, MINUTE);
    factory.planned(&app("PRESS-7")).health = Health::Healthy;
    factory.tell(&report, Duration::from_secs(2));
    factory.heal(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, "ofop_convergence_seconds_sum"), Some(2.0), "counted from the resumption");
}

#[test]
fn drift_has_a_series_while_it_lasts_and_is_counted_once() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7").with_app("PRESS-8");
    let series = r#"ofop_drift{kind="app",type="modified",uuid="PRESS-7"}"#;
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, series), None);
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, series), Some(1.0));
    assert_eq!(metric(&report, r#"ofop_drift_detected_total{type="modified"}"#), Some(1.0));
    factory.heal(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, series), None, "the series of drift that is gone is gone");
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, r#"ofop_drift_detected_total{type="modified"}"#), Some(2.0));
    factory.remove(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, series), None, "the series of a resource that vanished is gone");
}

#[test]
fn drift_that_cannot_be_seen_for_a_while_is_not_new_afterwards() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    let series = r#"ofop_drift{kind="app",type="modified",uuid="PRESS-7"}"#;
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    // The registry can be read, the platform cannot: there is a plan, which knows little.
    factory.heal(&app("PRESS-7"));
    factory.planned(&app("PRESS-7")).sync = Sync::Unknown;
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, series), Some(1.0));
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, r#"ofop_drift_detected_total{type="modified"}"#), Some(1.0));
    let since = report.status().get(&app("PRESS-7")).unwrap().drift[0].since.clone();
    assert_eq!(since.as_deref(), Some("2026-01-02T03:04:06.000Z"));
}

#[test]
fn only_the_revision_in_force_has_a_series() {
    let report = Report::new(instance());
    let mut factory = Factory::empty();
    factory.tell(&report, MINUTE);
    factory.desired.revision = Revision("fedcba".into());
    factory.tell(&report, MINUTE);
    assert_eq!(metric(&report, r#"ofop_source_revision_info{revision="fedcba"}"#), Some(1.0));
    assert_eq!(report.metrics().matches("\nofop_source_revision_info{").count(), 1);
}

#[test]
fn a_pass_that_read_not_everything_is_no_success_and_makes_the_rest_unknown() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    let success = metric(&report, "ofop_last_success_timestamp_seconds");
    assert_eq!(success, Some(1_767_323_046.0));

    factory.platform = None;
    let plan = factory.plan.take();
    factory.platform_error = Some("no connection to the engine".into());
    factory.tell(&report, MINUTE);
    let status = report.status();
    assert_eq!(status.platform.state, PartState::Down);
    assert_eq!(status.platform.message.as_deref(), Some("no connection to the engine"));
    assert_eq!(status.platform.since.as_deref(), Some("2026-01-02T03:05:06.000Z"));
    assert!(!status.ready);
    assert_eq!(status.not_ready, ["platform is down: no connection to the engine"]);
    let press = status.get(&app("PRESS-7")).unwrap();
    assert_eq!((press.sync, press.health), (Sync::Unknown, Health::Unknown));
    assert_eq!(press.drift.len(), 1, "what was known is still shown");
    assert_eq!(press.services[0].presence, ServicePresence::Unknown);
    assert_eq!(metric(&report, "ofop_platform_up"), Some(0.0));
    assert_eq!(metric(&report, "ofop_registry_up"), Some(1.0));
    assert_eq!(metric(&report, r#"ofop_reconcile_total{result="platform_failed"}"#), Some(1.0));
    assert_eq!(metric(&report, "ofop_last_success_timestamp_seconds"), success);
    assert_eq!(metric(&report, r#"ofop_resources{health="Unknown",kind="app",sync="Unknown"}"#), Some(1.0));
    assert_eq!(metric(&report, r#"ofop_drift{kind="app",type="modified",uuid="PRESS-7"}"#), Some(1.0));

    factory.platform = Some(ofop::model::PlatformSnapshot { complete: true, ..Default::default() });
    factory.platform_error = None;
    factory.plan = plan;
    factory.heal(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    assert!(report.status().ready);
    assert_eq!(metric(&report, "ofop_convergence_seconds_sum"), Some(120.0), "an outage does not stop that clock");
}

#[test]
fn readiness_waits_for_a_first_complete_pass() {
    let report = Report::new(instance());
    assert_eq!(report.status().not_ready, ["the first pass is not done"]);
    let mut factory = Factory::empty();
    factory.registry = None;
    factory.registry_error = Some("ksqlDB does not answer".into());
    factory.tell(&report, MINUTE);
    assert_eq!(report.status().not_ready, ["no complete pass yet", "registry is down: ksqlDB does not answer"]);
    factory.registry = Some(ofop::model::RegistrySnapshot { complete: true, ..Default::default() });
    factory.registry_error = None;
    factory.tell(&report, MINUTE);
    assert!(report.status().ready);
    factory.registry = None;
    factory.registry_error = Some("ksqlDB does not answer".into());
    factory.tell(&report, MINUTE);
    assert!(report.status().ready, "afterwards only the platform decides");
}

/// What the report tells of the source, each as one word with the commit that it is about.
fn told(report: &Report) -> Vec<(SourceChange, Option<String>)> {
    let entries = report.events(0).0;
    let of_source = entries.into_iter().filter_map(|entry| match entry {
        Entry::Source(event) => Some((event.change, event.commit.as_ref().map(|commit| commit.short.clone()))),
        Entry::Change(_) | Entry::Command(_) | Entry::Condition(_) => None,
    });
    of_source.collect()
}

#[test]
fn a_commit_in_force_is_shown_everywhere_and_told_once() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    let id = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";
    factory.commit(id, "A faster press");
    factory.read_ago = Some(Duration::from_secs(30));
    factory.tell(&report, MINUTE);
    factory.tell(&report, MINUTE);
    let status = report.status();
    let source = &status.source;
    assert_eq!((source.part.state, source.kind, source.trouble.as_ref()), (PartState::Up, Some(SourceKind::Git), None));
    assert_eq!((source.location.as_str(), source.path.as_str()), ("https://git.plant/plant.git", "factory"));
    let commit = source.commit.as_ref().unwrap();
    assert_eq!((commit.id.as_str(), commit.short.as_str()), (id, "1a2b3c4d5e6f"));
    assert_eq!((commit.author.as_str(), commit.subject.as_str()), ("Line Team", "A faster press"));
    assert_eq!(commit.time, "2026-01-02T03:03:05.000Z");
    assert_eq!(source.last_read.as_deref(), Some("2026-01-02T03:04:36.000Z"));
    assert_eq!(metric(&report, "ofop_source_up"), Some(1.0));
    assert_eq!(metric(&report, "ofop_source_last_fetch_timestamp_seconds"), Some(1_767_323_076.0));
    assert_eq!(metric(&report, &format!(r#"ofop_source_revision_info{{revision="{id}"}}"#)), Some(1.0));
    assert_eq!(told(&report), [(SourceChange::Commit, Some("1a2b3c4d5e6f".into()))]);
}

#[test]
fn a_registry_on_a_full_disk_is_a_warning_of_readiness_for_as_long_as_it_lasts() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&report, MINUTE);
    assert!(report.status().warnings.is_empty());
    factory.registry.as_mut().unwrap().write_error = Some("the disk of the embedded registry is full".into());
    factory.tell(&report, MINUTE);
    let status = report.status();
    assert!(status.ready, "what runs is looked after");
    assert!(status.warnings.iter().any(|warning| warning.contains("is full")), "{:?}", status.warnings);
    factory.registry.as_mut().unwrap().write_error = None;
    factory.tell(&report, MINUTE);
    assert!(report.status().warnings.is_empty());
}

#[test]
fn a_resource_without_events_is_told_from_one_whose_events_nobody_knows() {
    use ofop::cli::Output;
    use ofop::cli::args::ColorWhen;
    use ofop::cli::describe::{Events, text};
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&report, MINUTE);
    let status = report.status();
    let shown =
        |events| text(&status.resources[0], &status.source, &events, &[], Output::new(ColorWhen::Never, true).paint);
    let none = shown(Events::Known(Vec::new()));
    assert!(none.ends_with("Events\n  none\n"), "{none}");
    let unknown = shown(Events::Unknown("no daemon answered".into()));
    assert!(unknown.ends_with("Events\n  unknown: no daemon answered\n"), "{unknown}");
}

#[test]
fn a_source_in_trouble_is_a_condition_a_metric_and_an_event_with_the_reason_and_since_when() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.commit("1111111111111111", "Good");
    factory.tell(&report, MINUTE);
    let success = metric(&report, "ofop_last_success_timestamp_seconds");

    let refused = SourceTrouble::new(TroubleReason::Unverified, "commit 222222222222 is not signed").hint("sign it");
    factory.desired.trouble = Some(refused.about(commit("2222222222222222", "Unsigned")));
    for _ in 0..2 {
        factory.tell(&report, MINUTE);
    }
    let status = report.status();
    assert_eq!(status.source.part.state, PartState::Partial);
    let message = "commit 222222222222 is not signed; commit 111111111111 stays in force";
    assert_eq!(status.source.part.message.as_deref(), Some(message));
    let trouble = status.source.trouble.as_ref().unwrap();
    assert_eq!((trouble.reason, trouble.hint.as_deref()), (TroubleReason::Unverified, Some("sign it")));
    assert_eq!(trouble.since.as_deref(), Some("2026-01-02T03:05:06.000Z"));
    assert_eq!(trouble.refused.as_ref().unwrap().subject, "Unsigned");
    assert!(status.ready && status.not_ready.is_empty(), "what is in force is looked after");
    assert!(status.warnings[0].contains("unverified since 2026-01-02T03:05:06.000Z"), "{:?}", status.warnings);
    assert!(metric(&report, "ofop_last_success_timestamp_seconds") > success);
    assert_eq!(metric(&report, "ofop_source_up"), Some(0.0));
    assert_eq!(metric(&report, r#"ofop_source_trouble{reason="unverified"}"#), Some(1.0));
    assert_eq!(metric(&report, r#"ofop_source_trouble{reason="unreachable"}"#), Some(0.0));
    assert_eq!(metric(&report, "ofop_source_trouble_since_timestamp_seconds"), Some(1_767_323_106.0));
    assert_eq!(metric(&report, "ofop_manifest_errors"), Some(0.0), "the manifests are not to blame");

    // Another reason begins anew; the same with other words does not.
    for message in ["the repository did not answer", "the connection broke off"] {
        factory.desired.trouble = Some(SourceTrouble::new(TroubleReason::Unreachable, message));
        factory.tell(&report, MINUTE);
    }
    let trouble = report.status().source.trouble.clone().unwrap();
    assert_eq!(trouble.since.as_deref(), Some("2026-01-02T03:07:06.000Z"));
    factory.desired.trouble = None;
    factory.tell(&report, MINUTE);
    assert_eq!(report.status().source.part.state, PartState::Up);
    assert_eq!(metric(&report, "ofop_source_trouble_since_timestamp_seconds"), Some(0.0));
    factory.desired.trouble = Some(SourceTrouble::new(TroubleReason::Denied, "the token has expired"));
    factory.tell(&report, MINUTE);
    factory.desired.trouble = None;
    factory.commit("3333333333333333", "Better");
    factory.tell(&report, MINUTE);
    assert_eq!(
        told(&report),
        [
            (SourceChange::Commit, Some("111111111111".into())),
            (SourceChange::Refused, Some("222222222222".into())),
            (SourceChange::Trouble, None),
            (SourceChange::Recovered, None),
            (SourceChange::Trouble, None),
            (SourceChange::Commit, Some("333333333333".into())),
        ]
    );
}

#[test]
fn a_source_that_cannot_be_read_at_all_is_down() {
    let report = Report::new(instance());
    let mut factory = Factory::empty();
    let gone = SourceTrouble::new(TroubleReason::Missing, "`desired` does not exist");
    factory.desired.trouble = Some(gone.clone());
    factory.source_error = Some(gone);
    factory.tell(&report, MINUTE);
    let status = report.status();
    assert_eq!(status.not_ready, ["no complete pass yet", "source is down: `desired` does not exist"]);
    assert_eq!(metric(&report, r#"ofop_source_trouble{reason="missing"}"#), Some(1.0));
    assert_eq!(metric(&report, r#"ofop_reconcile_total{result="source_failed"}"#), Some(1.0));
}

#[test]
fn a_failed_step_is_a_condition_until_one_works() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    let refused = StepFailure::new(FailureKind::Rejected, "the engine refuses the image name");
    report.step(step(&factory, "PRESS-7", Err(refused.clone())));
    factory.retries.insert(
        app("PRESS-7"),
        Retry { failures: 1, attempts: 1, last: Some(FailureKind::Rejected), at: factory.now + MINUTE },
    );
    factory.tell(&report, MINUTE);
    report.step(step(&factory, "PRESS-7", Err(refused)));
    let status = report.status();
    let press = status.get(&app("PRESS-7")).unwrap();
    assert_eq!(press.conditions[0].kind, ConditionKind::Failed);
    assert_eq!(press.conditions[0].reason, "Rejected");
    assert_eq!(press.conditions[0].since.as_deref(), Some("2026-01-02T03:05:06.000Z"), "since it first failed so");
    assert_eq!(press.retry.as_ref().unwrap().at, "2026-01-02T03:06:06.000Z");
    let block = press.verdict.block().unwrap();
    assert_eq!((block.kind, block.message.as_str()), (BlockKind::StepRefused, "the engine refuses the image name"));
    assert_eq!(metric(&report, r#"ofop_steps_total{result="rejected",verb="update"}"#), Some(2.0));

    report.step(step(&factory, "PRESS-7", Ok(())));
    assert!(report.status().get(&app("PRESS-7")).unwrap().conditions.is_empty());
}

#[test]
fn a_lost_race_is_no_condition() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&report, MINUTE);
    report.step(step(&factory, "PRESS-7", Err(StepFailure::new(FailureKind::Conflict, "version 7 is old"))));
    assert!(report.status().get(&app("PRESS-7")).unwrap().conditions.is_empty());
}

#[test]
fn a_command_is_an_event_with_who_gave_it_and_from_where() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&report, MINUTE);
    assert_eq!(report.resource(&app("PRESS-7")).unwrap().events, Some(vec![]), "nothing happened to it yet");
    let actor = Actor { name: "anna".into(), address: Some("10.0.0.7".into()) };
    for command in [
        Command::Suspend(Some(app("PRESS-7")), ofop::model::Term::default()),
        Command::Reconcile { confirm_prune: true },
    ] {
        report.command(&Request { command, actor: actor.clone() }, factory.wall());
    }
    let entries = report.events(0).0;
    let json: Vec<_> = entries.iter().map(|entry| serde_json::to_value(entry).unwrap()).collect();
    assert_eq!(json[0]["type"], "command");
    assert_eq!(json[0]["command"], "suspend");
    assert_eq!(json[0]["resource"], "app/PRESS-7");
    assert_eq!(json[0]["message"], "suspend app/PRESS-7");
    assert_eq!(json[0]["actor"], serde_json::json!({"name": "anna", "address": "10.0.0.7"}));
    assert_eq!(json[1]["message"], "reconcile, removals beyond the guard confirmed");
    assert!(json[1].get("resource").is_none());
    assert_eq!(report.resource(&app("PRESS-7")).unwrap().events.unwrap(), entries[..1], "it is about this resource");
}

#[test]
fn events_are_numbered_bounded_and_kept_per_resource() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("QUIET").with_app("BUSY");
    factory.tell(&report, MINUTE);
    let quiet = report.step(step(&factory, "QUIET", Ok(())));
    assert_eq!((quiet.sequence, quiet.verb), (1, StepVerb::Update));
    assert_eq!(quiet.outcome, EventOutcome::Succeeded);
    for _ in 0..events::GLOBAL_EVENTS {
        report.step(step(&factory, "BUSY", Ok(())));
    }
    let (kept, _) = report.events(0);
    assert_eq!(kept.len(), events::GLOBAL_EVENTS);
    assert_eq!(kept[0].sequence(), 2);
    assert_eq!(report.resource(&app("QUIET")).unwrap().events.unwrap(), [Entry::Change(quiet)]);
    assert_eq!(report.resource(&app("BUSY")).unwrap().events.unwrap().len(), events::RESOURCE_EVENTS);
    let (after, _) = report.events(events::GLOBAL_EVENTS as u64 - 1);
    assert_eq!(after.iter().map(Entry::sequence).collect::<Vec<_>>(), [1000, 1001]);
    let (earlier_life, _) = report.events(5_000_000);
    assert_eq!(earlier_life.len(), events::GLOBAL_EVENTS, "a number from an earlier life skips nothing");
}

#[test]
fn the_status_needs_no_daemon() {
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.drift(&app("PRESS-7"));
    let observed = Observed {
        at: Duration::ZERO,
        wall: ofop::clock::timestamp(factory.wall()),
        platform: factory.platform.clone().map(Into::into),
        registry: factory.registry.clone().map(Into::into),
        registry_stands_in: false,
    };
    let source = SourceView { place: &factory.place, read_ago: None };
    let status = Status::of(&instance(), factory.wall(), &factory.desired, &observed, source, factory.plan.as_ref());
    let press = status.get(&app("PRESS-7")).unwrap();
    assert_eq!((press.sync, press.drift.len(), press.pending_steps), (Sync::OutOfSync, 1, 1));
    assert_eq!((press.services[0].replicas.running, press.services[0].replicas.wanted), (1, 1));
    assert_eq!(press.records[0].registered, Some(true));
    assert_eq!(press.sync_since, None);
    assert_eq!(status.summary.out_of_sync, 1);
}

#[test]
fn assets_say_whose_they_are_and_other_peoples_are_listed_apart() {
    let names = ["OURS", "ADOPT", "TAKEN", "ANOTHER", "MISSING", "HALF"];
    let mut factory = names.iter().fold(Factory::empty(), |factory, name| factory.with_app(name));
    let registry = factory.registry.as_mut().unwrap();
    let id = |name: &str| RecordId::Asset(AssetUuid::new(name).unwrap());
    let mut change = |name: &str, with: &dyn Fn(&mut ObservedRecord)| {
        with(std::sync::Arc::make_mut(registry.records.get_mut(&id(name)).unwrap()));
    };
    let set_type = |found: &mut ObservedRecord, kind: &str| {
        let Record::Asset(asset) = &mut found.record else { panic!("not an asset") };
        asset.asset_type = kind.into();
    };
    let another = |found: &mut ObservedRecord| {
        found.owner.as_mut().unwrap().instance = InstanceName::new("plant-b").unwrap();
    };
    change("ADOPT", &|found| found.owner = None);
    change("TAKEN", &|found| {
        found.owner = None;
        set_type(found, "Robot");
    });
    change("ANOTHER", &another);
    change("HALF", &|found| set_type(found, ""));
    let stranger = ObservedRecord { owner: None, ..(*registry.records[&id("TAKEN")]).clone() };
    let rename = |found: &ObservedRecord, name: &str| {
        let mut found = found.clone();
        let Record::Asset(asset) = &mut found.record else { panic!("not an asset") };
        asset.uuid = AssetUuid::new(name).unwrap();
        std::sync::Arc::new(found)
    };
    let theirs = rename(&registry.records[&id("ANOTHER")], "THEIRS");
    registry.records.insert(id("THEIRS"), theirs);
    registry.records.insert(id("STRANGER"), rename(&stranger, "STRANGER"));
    registry.availability.insert(AssetUuid::new("STRANGER").unwrap(), Availability::Available);
    registry.records.remove(&id("MISSING"));

    let report = Report::new(instance());
    factory.tell(&report, MINUTE);
    let status = report.status();
    let owner = |name: &str| {
        let record = &status.get(&app(name)).unwrap().records[0];
        (record.registered, record.owner)
    };
    assert_eq!(owner("OURS"), (Some(true), Some(Ownership::Ours)));
    assert_eq!(owner("ADOPT"), (Some(true), Some(Ownership::Adoptable)));
    assert_eq!(owner("TAKEN"), (Some(true), Some(Ownership::Foreign)), "another type is no asset to adopt");
    assert_eq!(owner("ANOTHER"), (Some(true), Some(Ownership::Another)));
    assert_eq!(owner("MISSING"), (Some(false), None));
    assert_eq!(owner("HALF"), (Some(false), None), "only our mark is left of it");
    let others: Vec<_> =
        status.other_assets.iter().map(|found| (found.record.asset().as_str(), found.owner.unwrap())).collect();
    assert_eq!(others, [("STRANGER", Ownership::Foreign), ("THEIRS", Ownership::Another)]);
    assert_eq!(status.other_assets[0].availability, Some(Availability::Available));
    assert_eq!(status.other_assets[1].instance.as_ref().unwrap().as_str(), "plant-b");

    factory.registry.as_mut().unwrap().complete = false;
    factory.tell(&report, MINUTE);
    assert_eq!(report.status().get(&app("MISSING")).unwrap().records[0].registered, None, "it may only be hidden");
}

#[test]
fn a_status_reads_back_as_the_api_writes_it() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7").with_app("GONE");
    factory.commit("1111111111111111", "Good");
    factory.drift(&app("PRESS-7"));
    factory.condition(&app("PRESS-7"), ConditionKind::Waiting, "NetworkMissing", "there is no network x");
    factory.platform.as_mut().unwrap().services.remove("gone");
    let records = &mut factory.registry.as_mut().unwrap().records;
    let first = records.keys().next().unwrap().clone();
    let foreign = records.get_mut(&first).unwrap();
    Arc::make_mut(foreign).owner = None;
    let gone = Arc::make_mut(factory.desired.resources.get_mut(&app("GONE")).unwrap());
    gone.handling.ignore = vec!["replicas".parse().unwrap(), "gone/image".parse().unwrap()];
    let warning = Problem { severity: Severity::Warning, ..Problem::file("desired/b.yml", "is odd") };
    factory.desired.problems = vec![Problem::file("desired/a.yml", "is not UTF-8").hint("mend it"), warning];
    let refused = SourceTrouble::new(TroubleReason::Unverified, "it is not signed");
    factory.desired.trouble = Some(refused.about(commit("2222222222222222", "Unsigned")));
    let reason = PruneBlock::InvalidManifests;
    factory.plan.as_mut().unwrap().prune = PruneVerdict::Blocked { resources: vec![app("GONE")], reason };
    factory.tell(&report, MINUTE);
    for status in [&*report.status(), &*Report::new(instance()).status()] {
        let written = serde_json::to_value(status).unwrap();
        let read: Status = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), written);
    }
}

#[test]
fn services_say_whether_they_are_there_and_whose_they_are() {
    let mut factory = Factory::empty().with_app("HERE").with_app("GONE").with_app("THEIRS").with_app("LEFT");
    let platform = factory.platform.as_mut().unwrap();
    platform.services.remove("gone");
    let theirs = std::sync::Arc::make_mut(platform.services.get_mut("theirs").unwrap());
    theirs.mark = None;
    factory.desired.resources.remove(&app("LEFT"));
    let report = Report::new(instance());
    factory.tell(&report, MINUTE);
    let status = report.status();
    let presence = |uuid| status.get(&app(uuid)).unwrap().services[0].presence;
    assert_eq!(presence("HERE"), ServicePresence::Present);
    assert_eq!(presence("GONE"), ServicePresence::Missing);
    assert_eq!(presence("THEIRS"), ServicePresence::Foreign);
    assert_eq!(presence("LEFT"), ServicePresence::Orphaned);
    assert!(!status.get(&app("LEFT")).unwrap().records[0].wanted);
}

#[test]
fn blocked_removals_and_manifest_errors_show() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7").with_app("PRESS-8");
    factory.desired.problems.push(Problem::file("desired/app_x.yml", "is not UTF-8"));
    let reason = PruneBlock::Guard { removing: 2, managed: 2 };
    factory.plan.as_mut().unwrap().prune =
        PruneVerdict::Blocked { resources: vec![app("PRESS-7"), app("PRESS-8")], reason };
    factory.tell(&report, MINUTE);
    let status = report.status();
    assert_eq!(status.prune.state, PruneState::Blocked);
    assert_eq!(status.prune.reason.as_deref(), Some("guard"));
    assert_eq!(status.summary.manifest_errors, 1);
    assert_eq!(metric(&report, "ofop_prune_blocked"), Some(2.0));
    assert_eq!(metric(&report, "ofop_manifest_errors"), Some(1.0));
}

#[test]
fn every_documented_metric_exists_from_the_start() {
    let report = Report::new(instance());
    let text = report.metrics();
    for name in [
        "ofop_reconcile_total{result=\"success\"} 0",
        "ofop_reconcile_duration_seconds_count 0",
        "ofop_resources{health=\"Healthy\",kind=\"app\",sync=\"Synced\"} 0",
        "ofop_drift_detected_total{type=\"orphaned\"} 0",
        "ofop_steps_total{result=\"succeeded\",verb=\"create\"} 0",
        "ofop_convergence_seconds_count 0",
        "ofop_manifest_errors 0",
        "ofop_prune_blocked 0",
        "ofop_last_success_timestamp_seconds 0",
        "ofop_platform_up 0",
        "ofop_registry_up 0",
        "ofop_leader 1",
        "ofop_build_info{version=",
    ] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
}

#[test]
fn no_secret_in_status_plan_or_metrics() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, MINUTE);
    report.step(step(&factory, "PRESS-7", Ok(())));
    let told = [
        serde_json::to_string(&*report.status()).unwrap(),
        serde_json::to_string(&report.resource(&app("PRESS-7"))).unwrap(),
        serde_json::to_string(&report.plan()).unwrap(),
        serde_json::to_string(&report.events(0).0).unwrap(),
        report.metrics(),
        format!("{report:?}"),
    ];
    for text in told {
        assert!(!text.contains(factory::SECRET), "{text}");
        assert!(text.contains("environment.TOKEN") || text.contains("ofop_") || text.contains("PRESS-7"), "{text}");
    }
}

#[test]
fn what_runs_and_is_no_longer_wanted_is_not_counted_with_the_rest() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7").with_app("PRESS-8");
    factory.desired.resources.remove(&app("PRESS-8"));
    factory.tell(&report, Duration::from_secs(1));
    let status = report.status();
    let running = |uuid| status.get(&app(uuid)).unwrap().running().unwrap().to_string();
    assert_eq!((running("PRESS-7").as_str(), running("PRESS-8").as_str()), ("1/1", "1/–"));
    let orphan = &status.get(&app("PRESS-8")).unwrap().services[0];
    assert_eq!((orphan.presence.as_str(), orphan.running().to_string().as_str()), ("orphaned", "1/–"));
    // Beside services that are wanted it has a line of its own.
    let mut press = status.get(&app("PRESS-7")).unwrap().clone();
    press.services.push(orphan.clone());
    assert_eq!(press.running().unwrap().to_string(), "1/1");
    press.services.clear();
    assert_eq!(press.running(), None);
}
