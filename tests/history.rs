//! Which revision was rolled out when: what is kept of it, for how long, and who reads it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/factory.rs"]
mod factory;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/repository.rs"]
mod repository;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{IDLE, IDLE_2, TestEngine};
use factory::{EPOCH, Factory, SECRET, app, instance, update_step};
use ofop::clock::Clock;
use ofop::model::{HiddenValues, Reason, ResourceId, Revision};
use ofop::report::Report;
use ofop::report::archive::Limits;
use ofop::report::history::{FILE, HistoryQuery, RevisionEntry, RevisionHistory, RevisionResult, read_file};
use operator::Operator;
use repository::Plant;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const ROOMY: Limits = Limits { keep: Duration::from_secs(365 * 24 * 3600), bytes: 64 << 20 };

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

/// One run of an operator on a state directory, and the world that it is told of.
struct Run {
    report: Report,
    factory: Factory,
}

impl Run {
    fn start(directory: Option<&Path>, limits: Limits, clock: &Arc<SetClock>) -> Run {
        let report = Report::new(instance());
        report.keep_history(RevisionHistory::open(directory, limits, Arc::clone(clock) as Arc<dyn Clock>));
        Run { report, factory: Factory::empty().with_app("ONE").with_app("TWO") }
    }

    fn roomy(directory: &Path) -> Run {
        Run::start(Some(directory), ROOMY, &Arc::default())
    }

    /// A commit changes an app, whose step is to be done.
    fn commit(&mut self, commit: &str, uuid: &str) {
        self.factory.commit(commit, &format!("Change {uuid}"));
        let id = app(uuid);
        let mut step = update_step(&self.factory.desired.resources[&id].services[0].spec, &id);
        step.reason = Reason::ManifestChanged;
        self.factory.planned(&id).steps = vec![step];
        self.factory.planned(&id).sync = ofop::model::Sync::OutOfSync;
        self.tell();
    }

    fn settle(&mut self, uuid: &str) {
        self.factory.heal(&app(uuid));
        self.tell();
    }

    fn tell(&mut self) {
        self.factory.tell(&self.report, SECOND);
    }

    fn read(&self, query: &HistoryQuery) -> Vec<RevisionEntry> {
        self.report.revisions(query)
    }

    /// Revisions and what became of them, newest first.
    fn all(&self) -> Vec<(String, RevisionResult)> {
        results(&self.read(&HistoryQuery::default()))
    }
}

fn results(entries: &[RevisionEntry]) -> Vec<(String, RevisionResult)> {
    entries.iter().map(|entry| (entry.revision.0.clone(), entry.result)).collect()
}

fn of_resource(resource: ResourceId) -> HistoryQuery {
    HistoryQuery { resource: Some(resource), ..HistoryQuery::default() }
}

fn revision(name: &str, result: RevisionResult) -> (String, RevisionResult) {
    (name.to_owned(), result)
}

#[test]
fn the_history_outlives_the_operator_and_goes_on_with_what_was_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::roomy(folder.path());
    run.commit("c1", "ONE");
    run.settle("ONE");
    run.commit("c2", "TWO");
    let open = [revision("c2", RevisionResult::OnItsWay), revision("c1", RevisionResult::Replaced)];
    assert_eq!(run.all(), open);
    run.report.close();
    let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(results(&read_file(folder.path(), &HistoryQuery::default()).unwrap()), open, "without a daemon");

    // The next one finds it settled.
    let mut next = Run::roomy(folder.path());
    next.factory.now += Duration::from_secs(30);
    next.factory.commit("c2", "Change TWO");
    next.tell();
    assert_eq!(next.all(), [revision("c2", RevisionResult::InForce), revision("c1", RevisionResult::Replaced)]);
    let entry = &next.read(&of_resource(app("TWO")))[0];
    assert_eq!((entry.changed, entry.first_seen.as_str()), (1, "2026-01-02T03:04:08.000Z"));
    assert_eq!(entry.milliseconds, Some(28_000), "from the first run's first sight on");
    assert_eq!(entry.commit.as_ref().unwrap().author, "Line Team");
    assert_eq!(entry.resources[0].steps[0].object, "service two");
}

#[test]
fn a_query_leaves_out_what_is_not_asked_for_and_goes_on_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::roomy(folder.path());
    for (commit, uuid) in [("aa1", "ONE"), ("ab2", "TWO"), ("ac3", "ONE")] {
        run.commit(commit, uuid);
        run.settle(uuid);
    }
    let names = |query: HistoryQuery| run.read(&query).iter().map(|entry| entry.revision.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(HistoryQuery::default()), ["ac3", "ab2", "aa1"]);
    assert_eq!(names(of_resource(app("ONE"))), ["ac3", "aa1"]);
    assert!(names(of_resource(app("NONE"))).is_empty());
    let of_revision = |begins: &str| HistoryQuery { revision: Some(begins.into()), ..HistoryQuery::default() };
    assert_eq!(names(of_revision("ab")), ["ab2"]);
    assert!(names(of_revision("%")).is_empty(), "no pattern");
    let page = |before| HistoryQuery { before, limit: 2, ..HistoryQuery::default() };
    let first = run.read(&page(None));
    assert_eq!(names(page(None)), ["ac3", "ab2"]);
    assert_eq!(names(page(Some(first[1].number))), ["aa1"]);
    // The list alone names no resources; a resource names itself.
    assert!(first.iter().all(|entry| entry.resources.is_empty()));
    let whole = run.read(&HistoryQuery { resources: true, ..of_revision("ab2") });
    assert_eq!(whole[0].resources.len(), 1);
    let shown = run.report.resource(&app("ONE")).unwrap().revisions.unwrap();
    assert_eq!(shown.len(), 2);
}

#[test]
fn no_value_of_a_variable_and_no_hidden_value_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::roomy(folder.path());
    let hidden = HiddenValues::default();
    hidden.add(["a-hidden-image"]);
    run.report.hide(hidden);
    run.factory.commit("c1", "Change");
    let id = app("ONE");
    let mut step = update_step(&run.factory.desired.resources[&id].services[0].spec, &id);
    step.reason = Reason::ManifestChanged;
    let mut image = step.changes[0].clone();
    (image.field, image.from, image.to, image.secret) =
        ("image".into(), Some("a:1".into()), Some("registry/a-hidden-image:2".into()), false);
    step.changes.push(image);
    run.factory.planned(&id).steps = vec![step];
    run.tell();
    run.report.close();
    let written: Vec<u8> = std::fs::read_dir(folder.path())
        .unwrap()
        .flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let text = String::from_utf8_lossy(&written);
    assert!(text.contains("environment.TOKEN") && text.contains("\"a:1\""), "{text}");
    assert!(!text.contains(SECRET) && !text.contains("a-hidden-image"), "{text}");
}

#[test]
fn old_revisions_go_after_their_days_and_when_the_file_is_full_but_the_newest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock::default());
    let limits = Limits { keep: 2 * DAY, ..ROOMY };
    let mut run = Run::start(Some(folder.path()), limits, &clock);
    run.commit("c1", "ONE");
    run.settle("ONE");
    clock.seconds.store(3 * 24 * 3600, Ordering::SeqCst);
    run.commit("c2", "TWO");
    assert_eq!(run.all(), [revision("c2", RevisionResult::OnItsWay)], "c2 is as old, and the newest");
    run.report.close();

    let clock = Arc::new(SetClock::default());
    let bytes = 256 << 10;
    let mut run = Run::start(Some(folder.path()), Limits { bytes, ..ROOMY }, &clock);
    for number in 0..600 {
        run.commit(&format!("{number:040}"), if number % 2 == 0 { "ONE" } else { "TWO" });
    }
    run.report.flush();
    let kept = run.read(&HistoryQuery { limit: 1000, ..HistoryQuery::default() });
    assert!(kept.len() < 600 && kept.len() > 50, "{}", kept.len());
    assert_eq!(kept[0].revision, Revision(format!("{:040}", 599)));
    run.report.close();
    let size = std::fs::metadata(folder.path().join(FILE)).unwrap().len();
    assert!(size <= bytes + (64 << 10), "{size}");
}

#[test]
fn without_a_directory_it_is_kept_in_memory() {
    let mut run = Run::start(None, ROOMY, &Arc::default());
    run.commit("c1", "ONE");
    run.settle("ONE");
    assert_eq!(run.all(), [revision("c1", RevisionResult::InForce)]);
    assert_eq!(run.report.status().warnings, Vec::<String>::new());
    // An operator that keeps none has none.
    assert!(Report::new(instance()).revisions(&HistoryQuery::default()).is_empty());
}

#[test]
fn a_file_that_cannot_be_used_stops_nobody_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("state");
    std::fs::write(&blocked, "a file where the directory should be").unwrap();
    let mut run = Run::roomy(&blocked);
    run.commit("c1", "ONE");
    run.settle("ONE");
    run.commit("c2", "TWO");
    let expected = [revision("c2", RevisionResult::OnItsWay), revision("c1", RevisionResult::Replaced)];
    assert_eq!(run.all(), expected, "in memory");
    let warnings = run.report.status().warnings.clone();
    assert!(warnings.iter().any(|warning| warning.contains("in memory only")), "{warnings:?}");

    std::fs::remove_file(&blocked).unwrap();
    run.tell();
    run.report.flush();
    assert_eq!(run.all(), expected);
    assert_eq!(run.report.status().warnings, Vec::<String>::new());
    run.report.close();
    let left = read_file(&blocked, &HistoryQuery::default()).unwrap();
    assert_eq!(results(&left), expected, "what was kept in memory is in the file");
}

#[test]
fn a_damaged_file_is_set_aside_and_one_of_others_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, "no database".repeat(500)).unwrap();
    let mut run = Run::roomy(folder.path());
    run.commit("c1", "ONE");
    assert_eq!(run.all().len(), 1);
    assert!(folder.path().join("history.db.damaged").exists());
    assert!(run.report.status().warnings.iter().any(|warning| warning.contains("history.db.damaged")));
    run.report.close();

    for statement in ["PRAGMA user_version = 99", "PRAGMA application_id = 7"] {
        rusqlite::Connection::open(&path).unwrap().execute_batch(statement).unwrap();
        let before = std::fs::read(&path).unwrap();
        let mut run = Run::roomy(folder.path());
        run.commit("c2", "ONE");
        assert_eq!(run.all(), [revision("c2", RevisionResult::OnItsWay)], "in memory");
        run.report.close();
        assert!(std::fs::read(&path).unwrap() == before, "{statement}: the file is not left alone");
        assert!(read_file(folder.path(), &HistoryQuery::default()).is_err());
        std::fs::remove_file(&path).unwrap();
        Run::roomy(folder.path()).report.close();
    }
}

#[test]
fn two_operators_on_one_file_write_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (Run::roomy(folder.path()), Run::roomy(folder.path()));
    other.factory.now += SECOND;
    one.commit("c1", "ONE");
    one.report.flush();
    other.commit("c1", "ONE");
    other.report.flush();
    one.settle("ONE");
    one.report.flush();
    other.settle("ONE");
    other.report.flush();
    let expected = [revision("c1", RevisionResult::InForce)];
    assert_eq!((one.all(), other.all()), (expected.to_vec(), expected.to_vec()));
    let entry = &other.read(&of_resource(app("ONE")))[0];
    assert_eq!(entry.first_seen, "2026-01-02T03:04:06.000Z", "as the first of them saw it");
    assert_eq!(entry.resources.len(), 1);
}

// ------------------------------------------------------------------------------------------ the real program

fn manifest(name: &str, image: &str, more: &str) -> String {
    let uuid = name.to_uppercase();
    format!("apps:\n  {name}:\n    uuid: {uuid}\n    image: {image}\n    networks: [factory-net]\n{more}")
}

fn with_variable(value: &str) -> String {
    format!("    environment:\n      - MODE={value}\n")
}

/// The history as the program prints it.
fn printed(ofop: &Operator, arguments: &[&str]) -> Value {
    let ran = ofop.run(&[&["history", "-o", "json"], arguments].concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    serde_json::from_str::<Value>(&ran.out).unwrap()["history"].clone()
}

/// Waits until the newest revision is this one and has come to this.
fn comes_to(ofop: &Operator, revision: &str, result: &str) -> Value {
    let newest = || {
        let answer: Value = serde_json::from_str(&ofop.try_get("/api/v1/history?resources=true")?).ok()?;
        Some(answer["history"][0].clone())
    };
    ofop.wait(&format!("{revision} is {result}"), || {
        newest().is_some_and(|entry| entry["revision"] == revision && entry["result"] == result)
    });
    newest().unwrap()
}

#[test]
fn every_commit_that_a_daemon_rolls_out_is_in_its_history() {
    let (engine, plant) = (TestEngine::swarm(), Plant::new());
    let mut ofop = Operator::new(&engine.host());
    let url = plant.url();
    let repository = ["--git", &url];
    let started = [&repository[..], &["--interval", "1s"]].concat();
    plant.write("press.yml", &manifest("press", IDLE, &with_variable("s3ntinel-1")));
    plant.write("other.yml", &manifest("other", IDLE, ""));
    let first = plant.push("The press and another");
    ofop.start_with(&started);
    let entry = comes_to(&ofop, &first, "in_force");
    assert_eq!((&entry["created"], &entry["changed"], &entry["removed"]), (&2.into(), &0.into(), &0.into()), "{entry}");
    assert_eq!(entry["commit"]["author"], "Line Team");
    assert!(entry["milliseconds"].as_u64() > Some(0), "{entry}");

    // A daemon that is killed in the middle of a rollout leaves it to its successor.
    plant.write("press.yml", &manifest("press", "nowhere:1", &with_variable("s3ntinel-2")));
    let second = plant.push("A tag that nobody pushed");
    ofop.wait("the second commit is in the history", || {
        ofop.try_get("/api/v1/history").is_some_and(|answer| answer.contains(&second))
    });
    ofop.kill();
    let left = printed(&ofop, &[]);
    assert_eq!((&left[0]["revision"], &left[1]["revision"]), (&second.clone().into(), &first.clone().into()));
    assert_eq!(left[1]["result"], "replaced");
    ofop.start_with(&started);
    let entry = comes_to(&ofop, &second, "failed");
    assert_eq!((&entry["obstacle"]["resource"], &entry["changed"]), (&"app/PRESS".into(), &1.into()), "{entry}");
    let reason = entry["obstacle"]["reason"].as_str().unwrap();
    assert!(["image_missing", "update_paused"].contains(&reason), "{reason}");
    assert_eq!(entry["first_seen"], left[0]["first_seen"], "it the second run goes on with it");

    // Mended, and another resource taken away: what failed stays so.
    plant.write("press.yml", &manifest("press", IDLE_2, &with_variable("s3ntinel-2")));
    plant.git(&plant.work, &["rm", "-q", "other.yml"]);
    let third = plant.push("Mended");
    let entry = comes_to(&ofop, &third, "in_force");
    assert_eq!((&entry["changed"], &entry["removed"]), (&1.into(), &1.into()), "{entry}");
    let all = printed(&ofop, &[]);
    let results: Vec<&str> = all.as_array().unwrap().iter().map(|entry| entry["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["in_force", "failed", "replaced"]);
    assert_eq!(all[1]["replaced_by"], third.as_str());

    // In words, of one resource, on the page, and where no daemon runs.
    let table = ofop.run(&["history"]);
    assert!(table.out.contains("in force") && table.out.contains("\"Mended\" by Line Team"), "{}", table.out);
    assert!(table.out.contains("app/PRESS: "), "{}", table.out);
    let own = ofop.run(&["history", "app/PRESS"]);
    let expected = format!("image  nowhere:1 -> {IDLE_2}");
    assert!(own.out.contains("update service press (manifest changed)") && own.out.contains(&expected), "{}", own.out);
    assert!(own.out.contains("environment.MODE  (hidden)"), "{}", own.out);
    let whole = ofop.run(&["history", "--revision", &third[..8]]);
    assert!(whole.out.contains("app/OTHER") && whole.out.contains("removed"), "{}", whole.out);
    let described = ofop.run(&[&["describe", "app/PRESS"], &repository[..]].concat());
    assert!(described.out.contains("Last revisions") && described.out.contains(&first[..12]), "{}", described.out);
    let page = ofop.try_get("/resources/app/PRESS").unwrap();
    assert!(page.contains("Last revisions") && page.contains("A tag that nobody pushed"), "{page}");
    let current = ofop.run(&[&["diff", &first, "current"], &repository[..]].concat());
    assert_eq!(current.code, Some(1), "{}{}", current.out, current.err);
    assert!(current.out.contains("remove service other"), "{}", current.out);
    assert_eq!(ofop.signal("TERM"), Some(0));
    let offline = ofop.run(&["history", "app/PRESS"]);
    assert!(offline.out == own.out && offline.err.contains("no daemon answers"), "{}\n{}", offline.out, own.out);
    let same = ofop.run(&[&["diff", "current", "main"], &repository[..]].concat());
    assert_eq!((same.code, same.out.contains("No difference")), (Some(0), true), "{}{}", same.out, same.err);
    let described = ofop.run(&[&["describe", "app/PRESS"], &repository[..]].concat());
    assert!(described.out.contains("Last revisions"), "{}", described.out);
    let yaml = ofop.run(&["history", "-o", "yaml"]).out;
    for text in [&table.out, &own.out, &whole.out, &described.out, &page, &current.out, &yaml, &ofop.log()] {
        assert!(!text.contains("s3ntinel"), "{text}");
    }
}
