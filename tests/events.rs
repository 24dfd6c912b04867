//! Events that outlive the operator: the file, its bounds, and what may be wrong with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/factory.rs"]
mod factory;
#[path = "support/operator.rs"]
mod operator;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use factory::{EPOCH, Factory, app, instance};
use ofop::clock::Clock;
use ofop::model::{Actor, Command, ConditionKind, Request, ResourceId, Revision};
use ofop::report::archive::{Archive, FILE, Limits};
use ofop::report::{Entry, EventQuery, EventType, Report, StepReport};
use operator::Operator;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const ROOMY: Limits = Limits { keep: Duration::from_secs(90 * 24 * 3600), bytes: 64 << 20 };

/// A clock whose monotonic time goes on by itself and whose wall time a test sets, in seconds after [`EPOCH`].
#[derive(Debug, Default)]
struct SetClock {
    seconds: AtomicU64,
    ticks: AtomicU64,
}

impl Clock for SetClock {
    fn now(&self) -> Duration {
        // Every question finds time for another try.
        Duration::from_secs(60 * self.ticks.fetch_add(1, Ordering::SeqCst))
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + EPOCH + Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }
}

/// A report of one run on a state directory, and the world that it is told of.
struct Run {
    report: Report,
    factory: Factory,
}

impl Run {
    fn start(directory: &Path, run: &str, limits: Limits, clock: &Arc<SetClock>) -> Run {
        let (archive, restored) = Archive::open(directory, limits, run.into(), Arc::clone(clock) as Arc<dyn Clock>);
        let report = Report::archived(instance(), archive, restored);
        let mut factory = Factory::empty().with_app("ONE").with_app("TWO");
        factory.tell(&report, SECOND);
        Run { report, factory }
    }

    fn roomy(directory: &Path, run: &str) -> Run {
        Run::start(directory, run, ROOMY, &Arc::default())
    }

    fn step(&self, uuid: &str, wall: SystemTime) {
        let id = app(uuid);
        let planned = factory::update_step(&self.factory.desired.resources[&id].services[0].spec, &id);
        self.report.step(StepReport::of(id, None, Revision("r".into()), &planned, Ok(()), wall, SECOND));
    }

    fn command(&self, command: Command) {
        let actor = Actor { name: "anna".into(), address: Some("10.0.0.7".into()) };
        self.report.command(&Request { command, actor }, self.factory.wall());
    }

    fn history(&self, query: &EventQuery) -> Vec<Entry> {
        self.report.history(query).0
    }

    fn numbers(&self, query: &EventQuery) -> Vec<u64> {
        self.history(query).iter().map(Entry::sequence).collect()
    }
}

fn of_resource(resource: ResourceId) -> EventQuery {
    EventQuery { resource: Some(resource), ..EventQuery::default() }
}

fn of_type(kind: EventType) -> EventQuery {
    EventQuery { kind: Some(kind), ..EventQuery::default() }
}

#[test]
fn events_outlive_the_operator_and_their_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Run::roomy(folder.path(), "first");
    first.step("ONE", first.factory.wall());
    first.command(Command::Suspend(Some(app("TWO")), ofop::model::Term::default()));
    first.factory.condition(&app("TWO"), ConditionKind::Degraded, "RestartLoop", "it ends again and again");
    first.factory.tell(&first.report, SECOND);
    let before = first.history(&EventQuery::default());
    assert_eq!(
        before.iter().map(Entry::kind).collect::<Vec<_>>(),
        [EventType::Change, EventType::Command, EventType::Condition]
    );
    first.report.close();
    assert_eq!(first.history(&EventQuery::default()), before, "also when the file is closed");

    let mut second = Run::roomy(folder.path(), "second");
    assert_eq!(second.history(&EventQuery::default())[..3], before);
    let (in_memory, _) = second.report.events(0);
    assert_eq!(in_memory[..3], before, "the page shows them as well");
    assert_eq!(second.report.resource(&app("TWO")).unwrap().events.unwrap()[..2], before[1..]);
    second.command(Command::Resume(None));
    // The condition that held when the first run ended no longer holds.
    let after = second.history(&EventQuery { after: 3, ..EventQuery::default() });
    assert_eq!(
        after.iter().map(|entry| (entry.sequence(), entry.kind())).collect::<Vec<_>>(),
        [(4, EventType::Condition), (5, EventType::Command)]
    );
    second.factory.condition(&app("TWO"), ConditionKind::Degraded, "RestartLoop", "it ends again and again");
    second.factory.tell(&second.report, SECOND);
    second.report.close();

    let mut third = Run::roomy(folder.path(), "third");
    third.factory.condition(&app("TWO"), ConditionKind::Degraded, "RestartLoop", "it ends again and again");
    third.factory.tell(&third.report, SECOND);
    assert_eq!(third.numbers(&of_type(EventType::Condition)).len(), 5, "two runs, and what changed in this one");
}

#[test]
fn a_query_leaves_out_what_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let first = Run::roomy(folder.path(), "first");
    let wall = |seconds: u64| UNIX_EPOCH + EPOCH + Duration::from_secs(seconds);
    for (index, uuid) in ["ONE", "TWO", "ONE", "TWO"].into_iter().enumerate() {
        first.step(uuid, wall(index as u64 * 60));
    }
    first.report.close();
    let second = Run::roomy(folder.path(), "second");
    second.step("ONE", wall(240));
    second.command(Command::Suspend(Some(app("ONE")), ofop::model::Term::default()));
    second.command(Command::Reconcile { confirm_prune: false });

    assert_eq!(second.numbers(&EventQuery::default()), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(second.numbers(&of_resource(app("ONE"))), [1, 3, 5, 6]);
    assert_eq!(second.numbers(&of_type(EventType::Command)), [6, 7]);
    assert_eq!(second.numbers(&of_type(EventType::Source)), [0; 0]);
    assert_eq!(second.numbers(&EventQuery { after: 3, ..EventQuery::default() }), [4, 5, 6, 7]);
    assert_eq!(second.numbers(&EventQuery { after: 8, ..EventQuery::default() }), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(second.numbers(&EventQuery { limit: 2, ..of_resource(app("ONE")) }), [5, 6]);
    let since = EventQuery { since: Some("2026-01-02T03:07:05.000Z".into()), ..of_type(EventType::Change) };
    assert_eq!(second.numbers(&since), [4, 5]);
}

#[test]
fn what_the_file_holds_and_what_still_waits_is_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::roomy(folder.path(), "run");
    let wall = run.factory.wall();
    // More than are kept in memory, written while they are read.
    for number in 1..=3_000_u64 {
        run.step("ONE", wall);
        if number % 250 == 0 {
            let limit = 100;
            let wanted: Vec<u64> = (number - 99..=number).collect();
            assert_eq!(run.numbers(&EventQuery { limit, ..EventQuery::default() }), wanted);
        }
    }
    run.report.close();
    let all = run.numbers(&EventQuery { limit: 10_000, ..EventQuery::default() });
    assert_eq!(all, (1..=3_000).collect::<Vec<_>>());
}

#[test]
fn old_events_go_after_their_days() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock::default());
    let limits = Limits { keep: 10 * DAY, ..ROOMY };
    let first = Run::start(folder.path(), "first", limits, &clock);
    first.step("ONE", clock.wall());
    clock.seconds.store(9 * 24 * 3600, Ordering::SeqCst);
    first.step("TWO", clock.wall());
    first.report.close();
    let second = Run::start(folder.path(), "second", limits, &clock);
    assert_eq!(second.numbers(&EventQuery::default()), [1, 2]);
    second.report.close();
    clock.seconds.store(11 * 24 * 3600, Ordering::SeqCst);
    let third = Run::start(folder.path(), "third", limits, &clock);
    assert_eq!(third.numbers(&EventQuery::default()), [2]);
}

#[test]
fn the_oldest_events_go_when_the_file_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 1 << 20, ..ROOMY };
    let run = Run::start(folder.path(), "run", limits, &Arc::default());
    let wall = run.factory.wall();
    for number in 1..=6_000_u64 {
        run.step("ONE", wall);
        if number % 500 == 0 {
            // The queue is never full: what was handed over is in the file before more is.
            run.report.flush();
        }
    }
    run.report.close();
    let kept = run.numbers(&EventQuery { limit: 10_000, ..EventQuery::default() });
    assert_eq!(kept.last(), Some(&6_000));
    assert!(kept.len() > 1_000 && kept.len() < 6_000, "{}", kept.len());
    assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the newest ones without a gap");
    let size = std::fs::metadata(folder.path().join(FILE)).unwrap().len();
    assert!(size <= limits.bytes + (64 << 10), "{size}");
    assert!(run.report.status().warnings.is_empty(), "{:?}", run.report.status().warnings);
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_begins() {
    let damages: [fn(&Path); 2] = [
        |path| std::fs::write(path, b"these are no events, and this is no database either".repeat(100)).unwrap(),
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let length = bytes.len();
            bytes[4096..length].fill(0xa5);
            std::fs::write(path, bytes).unwrap();
        },
    ];
    for damage in damages {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let first = Run::roomy(folder.path(), "first");
        for _ in 0..100 {
            first.step("ONE", first.factory.wall());
        }
        first.report.close();
        damage(&path);
        let second = Run::roomy(folder.path(), "second");
        second.step("ONE", second.factory.wall());
        let aside = folder.path().join("events.db.damaged");
        let warnings = second.report.status().warnings.clone();
        assert!(warnings.iter().any(|text| text.contains(aside.to_str().unwrap())), "{warnings:?}");
        assert!(aside.exists());
        second.report.close();
        let third = Run::roomy(folder.path(), "third");
        assert_eq!(third.numbers(&of_type(EventType::Change)), [1]);
        assert!(third.report.status().warnings.is_empty());
    }
}

#[test]
fn a_file_that_is_not_ours_or_newer_is_left_alone() {
    for statements in [
        "CREATE TABLE recipes (name TEXT)",
        "CREATE TABLE events (id INTEGER); PRAGMA application_id = 1330005334; PRAGMA user_version = 2",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        rusqlite::Connection::open(&path).unwrap().execute_batch(statements).unwrap();
        let before = |path: &Path| {
            let sql = "SELECT group_concat(sql) FROM sqlite_schema";
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()
        };
        let schema = before(&path);
        let run = Run::roomy(folder.path(), "run");
        run.step("ONE", run.factory.wall());
        let warnings = run.report.status().warnings.clone();
        assert!(warnings[0].contains("in memory only") && warnings[0].contains(FILE), "{warnings:?}");
        assert_eq!(run.numbers(&EventQuery::default()), [1]);
        run.report.close();
        assert_eq!(before(&path), schema);
    }
}

#[test]
fn a_file_that_cannot_be_written_stops_nobody_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    // Something is where the directory should be: also root cannot write there.
    std::fs::write(&state, "").unwrap();
    let run = Run::roomy(&state, "run");
    run.step("ONE", run.factory.wall());
    let warnings = run.report.status().warnings.clone();
    assert!(warnings[0].contains("in memory only"), "{warnings:?}");
    assert_eq!(run.numbers(&EventQuery::default()), [1]);
    assert_eq!(run.report.resource(&app("ONE")).unwrap().events.unwrap().len(), 1);

    std::fs::remove_file(&state).unwrap();
    run.step("TWO", run.factory.wall());
    run.report.flush();
    assert!(run.report.status().warnings.is_empty(), "{:?}", run.report.status().warnings);
    run.report.close();
    assert_eq!(Run::roomy(&state, "next").numbers(&EventQuery::default()), [1, 2]);
}

#[test]
fn a_file_that_somebody_deletes_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::roomy(folder.path(), "run");
    run.step("ONE", run.factory.wall());
    run.report.flush();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("{FILE}{suffix}")));
    }
    run.step("TWO", run.factory.wall());
    run.report.flush();
    run.step("ONE", run.factory.wall());
    run.report.flush();
    assert_eq!(run.numbers(&EventQuery::default()), [1, 2, 3], "what is in memory is not lost");
    run.report.close();
    assert_eq!(Run::roomy(folder.path(), "next").numbers(&EventQuery::default()), [2, 3]);
}

#[test]
fn two_runs_may_use_one_file_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let one = Run::roomy(folder.path(), "one");
    let other = Run::roomy(folder.path(), "other");
    for _ in 0..50 {
        one.step("ONE", one.factory.wall());
        other.step("TWO", other.factory.wall());
    }
    one.report.flush();
    other.report.flush();
    for run in [&one, &other] {
        assert_eq!(run.numbers(&EventQuery::default()).len(), 100);
        assert_eq!(run.numbers(&of_resource(app("ONE"))), (1..=50).collect::<Vec<_>>());
        assert!(run.report.status().warnings.is_empty());
    }
}

#[test]
fn a_killed_daemon_has_left_who_commanded_what() {
    // No engine is there: commands are taken all the same.
    let mut operator = Operator::new("unix:///nonexistent/docker.sock");
    let tokens = operator.folder().join("tokens");
    std::fs::write(&tokens, "anna token-of-anna-0123456789\nci token-of-ci-0123456789\n").unwrap();
    // On plain Docker the lease is a file, which needs no engine.
    let tokens_file = tokens.to_str().unwrap().to_owned();
    let arguments = ["--platform", "docker", "--token-file", &tokens_file];
    let of_ci = operator.folder().join("ci");
    std::fs::write(&of_ci, "ci token-of-ci-0123456789\n").unwrap();
    for path in [&tokens, &of_ci] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    operator.start_with(&arguments);
    operator.wait("it may change the cluster", || operator.metric("ofop_leader") == Some(1.0));
    let command = |arguments: &[&str], token: &Path| {
        let arguments = [arguments, &["--token-file", token.to_str().unwrap()]].concat();
        let ran = operator.run(&arguments);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    command(&["reconcile"], &of_ci);
    command(&["reconcile", "--confirm-prune"], &tokens);
    operator.wait("the commands are events", || {
        let ran = operator.run(&["events", "--type", "command", "-o", "json"]);
        ran.out.lines().count() == 2
    });
    let log = operator.log();
    let line = log.lines().find(|line| line.contains("command: reconcile")).expect("the log has the command");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((line["by"].as_str(), line["address"].as_str()), (Some("ci"), Some("127.0.0.1")), "{line}");
    assert!(!log.contains("Reconcile {") && !log.contains("token-of-"), "{log}");
    // What was handed over is on its way to the file; a moment later it is there.
    operator.wait("the file has both", || {
        let path = operator.folder().join(".ofop").join(FILE);
        let connection = rusqlite::Connection::open(path).unwrap();
        let count = connection.query_row("SELECT COUNT(*) FROM events", [], |row| row.get::<_, i64>(0));
        count.unwrap_or_default() >= 2
    });
    operator.kill();
    operator.start_with(&arguments);
    operator.wait("it may change the cluster", || operator.metric("ofop_leader") == Some(1.0));
    let ran = operator.run(&["events", "--type", "command", "--since", "1h"]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(lines[0].contains("command reconcile: by ci from 127.0.0.1"), "{ran:?}");
    assert!(lines[1].contains("removals beyond the guard confirmed: by anna from 127.0.0.1"), "{ran:?}");
    assert!(lines[0].contains(" UTC "), "{ran:?}");
    for (arguments, code) in [(["--type", "wish"], 2), (["--since", "yesterday"], 2), (["--for", "app"], 2)] {
        assert_eq!(operator.run(&["events", arguments[0], arguments[1]]).code, Some(code), "{arguments:?}");
    }
    assert_eq!(operator.run(&["events", "--type", "step"]).code, Some(0), "another word for changes");
    assert_eq!(operator.signal("TERM"), Some(0));
}
