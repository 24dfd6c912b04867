//! Every scenario in `tests/ksqldb_scenarios/`, and every captured timeline of a recovery, is played by the stand-in to the
//! real reader and the real loop, over a real Kafka. What was written is counted by consuming every topic: nothing may be
//! written that nobody asked for.
//!
//! A file that is put into the folder is a test from then on. One with the extension `txt` is a timeline as it was
//! captured: a time, then for each table its letter and the number of rows, or the status, that it answered; numbers are
//! scaled to the rows that there are here. One with the extension `jsonl` has a line of JSON for each moment:
//!
//! | line | meaning |
//! |---|---|
//! | `{"note": …}` | for people |
//! | `{"server": …, "ms": …}` | the server as a whole is `refused`, `not_ready`, `paused`, `bad_gateway` or `page` for that time |
//! | `{"tables": {TABLE: …}, "ms": …, "seed": …}` | for that time a table answers with so many rows, or `full`, `internal`, `not_ready`, `no_host`, `ending`, `not_queryable`, `missing`, `cut`, `unmarked`; `*` is every table, and the seed says which rows are a part |
//! | `{"do": "register" / "delete", "asset": …}` | somebody else registers or deletes an asset |
//! | `{"do": "samples", "count": …}` | machines send so many samples |
//! | `{"do": "lag", "ms": {TABLE: …}}` | so far the query of a table lies behind its topic |
//! | `{"do": "race", "last": …}` | `row`, `tombstone` or `either` comes last when an asset is deleted |
//! | `{"do": "lose_metastore"}`, `{"do": "init"}` | ksqlDB forgets its streams and tables; `ofop registry init` makes them |
//! | `{"do": "expect", "asset": …}` | by the end, this asset of ours has been registered once more |
//!
//! Each is met by an operator that has run all along, and by one that starts when every table first answers. (One that starts
//! before that knows nothing of the registry, and deploys what its manifests describe.)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where it cannot go on, and waits in real time"
)]

#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;
#[path = "support/ledger.rs"]
mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka::Kafka;
use ksqldb::Ksqldb;
use ksqldb::recovery::{Answering, READ, Server, Step};
use ledger::{Entry, Ledger, registration};
use ofop::clock::SystemClock;
use ofop::model::{Evidence, RegistrySnapshot, Sync};
use ofop::reconcile::{self, Parts};
use ofop::registry::Registry;
use ofop::registry::openfactory::{KafkaSettings, KsqldbSettings, OpenfactoryRegistry, OpenfactorySettings, init};
use ofop::report::Report;
use ofop::testing::{World, app};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// How long anything may take before the test gives up on it.
const LONG: Duration = Duration::from_secs(180);
/// Assets of ours: apps, and what belongs to the two devices.
const APPS: [&str; 4] = ["OURS-0", "OURS-1", "OURS-2", "OURS-3"];
const OTHERS_OF_OURS: [&str; 4] = ["CNC-1", "CNC-1-AGENT", "CNC-1-PRODUCER", "SHDR-1"];
/// Described by our manifests, and owned by another operator.
const THEIRS: [&str; 2] = ["THEIRS-0", "THEIRS-1"];
const STRANGERS: usize = 10;

/// Someone who reconciles.
struct Operator {
    registry: Arc<OpenfactoryRegistry>,
    report: Report,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<bool>,
}

struct Plant {
    ksqldb: Ksqldb,
    ledger: Ledger,
    world: World,
    settings: OpenfactorySettings,
    /// What was in the way when it was last looked.
    last: std::sync::Mutex<String>,
    // Last: others talk to it.
    kafka: Kafka,
}

impl Plant {
    /// A factory whose topics were made with the broker's defaults, in which others have registered their assets.
    async fn new() -> Plant {
        let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
        ledger::make_topics(&kafka.address()).await;
        let ksqldb = Ksqldb::start(&kafka.address()).await;
        let settings = OpenfactorySettings {
            kafka: KafkaSettings { brokers: kafka.address(), options: BTreeMap::new() },
            ksqldb: KsqldbSettings { url: ksqldb.url(), ..KsqldbSettings::default() },
            interval: Duration::from_millis(500),
        };
        init(&settings, |_| {}).await.unwrap();
        let mut world = World::new(7);
        world.options.resync = Duration::from_secs(1);
        let mut plant = Plant {
            ledger: Ledger::new(&kafka.address()),
            ksqldb,
            world,
            settings,
            last: std::sync::Mutex::default(),
            kafka,
        };
        let mut sayings = Vec::new();
        for name in THEIRS {
            let resource = ["app/THEIRS-0", "app/THEIRS-1"].into_iter().find(|id| id.ends_with(name));
            sayings.extend(registration(name, "OpenFactoryApp", "elsewhere", Some(("plant-b", resource.unwrap()))));
        }
        let strangers: Vec<String> = (0..STRANGERS).map(|number| format!("STRANGER-{number}")).collect();
        for name in &strangers {
            sayings.extend(registration(name, "Device", "", None));
        }
        sayings.extend(registration("COORD", "SHDR.Coordinator", "coord", None));
        tokio::task::block_in_place(|| plant.ledger.says(&sayings));
        let rows = THEIRS.len() + STRANGERS + 1;
        plant
            .until("others are registered", |plant| {
                plant.ksqldb.table("ASSETS_TYPE").len() == rows && plant.ksqldb.table("ASSETS_AVAIL").len() == rows
            })
            .await;
        for name in APPS.into_iter().chain(THEIRS) {
            plant.world.source.write(&format!("{name}.yml"), app(name, "example/app:1", ""));
        }
        let devices = "devices:\n  m: {uuid: CNC-1, connector: {type: mtconnect, agent: {ip: 10.0.0.7, port: 5000}}}\n  \
                       s: {uuid: SHDR-1, connector: {type: shdr, host: 10.0.0.9, port: 7878, data: {temp: {tag: \
                       Temperature, type: Samples}}}}\n";
        plant.world.source.write("devices.yml", devices);
        plant
    }

    fn operator(&self) -> Operator {
        let (parts, _) = self.world.parts();
        let Parts { loader, compiler, platform, clock, report, leadership, .. } = parts;
        let registry = Arc::new(OpenfactoryRegistry::new(self.settings.clone(), Arc::new(SystemClock::new())).unwrap());
        let stop = CancellationToken::new();
        let (of_report, of_registry) = (report.clone(), Arc::clone(&registry));
        let parts = Parts {
            loader,
            compiler,
            platform,
            registry: of_registry,
            clock,
            report: of_report,
            commands: None,
            leadership,
        };
        let task = tokio::spawn(reconcile::run(parts, self.world.options.clone(), stop.clone()));
        Operator { registry, report, stop, task }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Plant) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let within = tokio::time::timeout(LONG, waiting).await;
        assert!(within.is_ok(), "{what}: not within {} s", LONG.as_secs());
    }

    fn others(&mut self) -> Vec<Entry> {
        tokio::task::block_in_place(|| self.ledger.others())
    }

    /// Plays the lines one after the other; starts an operator when the server first answers.
    async fn play(&mut self, lines: &[Value], with_fresh: bool) -> (Option<Operator>, Vec<String>) {
        let (mut fresh, mut expected, mut is_set_up) = (None, Vec::new(), true);
        let text = |line: &Value, name: &str| {
            line[name].as_str().map(str::to_owned).unwrap_or_else(|| panic!("{name}: {line}"))
        };
        for line in lines.iter().filter(|line| line["note"].is_null()) {
            match line["do"].as_str() {
                None => {
                    let mut step = Step::of(line);
                    step.one_reading = line["one_reading"].as_bool().unwrap_or(false);
                    if with_fresh && is_set_up && answers(&step) && fresh.is_none() {
                        fresh = Some(self.operator());
                    }
                    self.step(step).await;
                }
                Some("register") => {
                    let asset = text(line, "asset");
                    let sayings = registration(&asset, "Device", "", None);
                    tokio::task::block_in_place(|| self.ledger.says(&sayings));
                }
                Some("delete") => {
                    let asset = text(line, "asset");
                    let sayings = [(asset.as_str(), "AssetType", "delete", "AssetType", "OpenFactory")];
                    tokio::task::block_in_place(|| self.ledger.says(&sayings));
                }
                Some("samples") => {
                    let count = usize::try_from(line["count"].as_u64().unwrap()).unwrap();
                    let machines: Vec<String> = (0..STRANGERS).map(|number| format!("STRANGER-{number}")).collect();
                    let values: Vec<String> = (0..count).map(|number| number.to_string()).collect();
                    let sayings: Vec<_> = values
                        .iter()
                        .enumerate()
                        .map(|(at, value)| (machines[at % STRANGERS].as_str(), "temp", value.as_str(), "T", "Samples"))
                        .collect();
                    tokio::task::block_in_place(|| self.ledger.says(&sayings));
                }
                Some("lag") => {
                    let lags = line["ms"].as_object().unwrap().iter();
                    *self.ksqldb.faults().lags.lock().unwrap() =
                        lags.map(|(table, ms)| (table.clone(), Duration::from_millis(ms.as_u64().unwrap()))).collect();
                }
                Some("race") => {
                    let last = match text(line, "last").as_str() {
                        "row" => 1,
                        "tombstone" => 2,
                        "either" => 0,
                        other => panic!("nothing called {other} comes last"),
                    };
                    self.ksqldb.faults().race.store(last, Ordering::SeqCst);
                }
                Some("lose_metastore") => {
                    self.ksqldb.lose_metastore();
                    is_set_up = false;
                }
                Some("init") => {
                    init(&self.settings, |_| {}).await.unwrap();
                    is_set_up = true;
                }
                Some("expect") => expected.push(text(line, "asset")),
                Some(other) => panic!("nobody can do {other}"),
            }
        }
        (fresh, expected)
    }

    async fn step(&self, step: Step) {
        self.ksqldb.play(vec![step]);
        while self.ksqldb.is_playing() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A captured timeline, with as many rows of each table as it had of those that there were.
    fn scaled(&self, text: &str) -> Vec<Step> {
        let mut steps = Step::timeline(text);
        for (_, table) in READ {
            let rows = |step: &Step| match step.tables.get(table) {
                Some(Answering::Rows(rows)) => Some(*rows),
                _ => None,
            };
            let most = steps.iter().filter_map(rows).max().unwrap_or_default();
            let ours = self.ksqldb.table(table).len();
            for step in &mut steps {
                if let Some(Answering::Rows(rows)) = step.tables.get_mut(table) {
                    *rows = (*rows * ours).div_ceil(most.max(1));
                }
            }
        }
        for step in &mut steps {
            (step.one_reading, step.at_most) = (false, Duration::from_millis(800));
        }
        steps
    }

    /// Everything is shown, proven and in sync again, as far as it is ours.
    async fn settled(&self, operator: &Operator, name: &str) {
        let settling = async {
            loop {
                operator.registry.refresh();
                let seen = operator.registry.observe().await;
                let proven = |snapshot: &RegistrySnapshot| {
                    let Evidence { doubt, assets, .. } = &snapshot.evidence;
                    snapshot.complete && doubt.is_none() && assets.is_empty()
                };
                let status = operator.report.status();
                let ours = status.resources.iter().filter(|resource| !resource.id.uuid.as_str().starts_with("THEIRS"));
                let left: Vec<String> = ours
                    .filter(|resource| resource.sync != Sync::Synced)
                    .map(|resource| format!("{} {:?}", resource.id, resource.conditions))
                    .collect();
                if seen.as_ref().is_ok_and(|snapshot| proven(snapshot))
                    && left.is_empty()
                    && !status.resources.is_empty()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
                *self.last.lock().unwrap() = format!("{left:?} {:?}", seen.map(|snapshot| snapshot.evidence.clone()));
            }
        };
        if tokio::time::timeout(LONG, settling).await.is_err() {
            panic!("{name}: never in sync again; {}", self.last.lock().unwrap());
        }
    }
}

impl Plant {
    /// With the timers an hour away: once nothing is in doubt nothing more is asked, and a change in the registry alone
    /// leads to a pass that mends it.
    async fn events_alone_are_enough_and_nothing_is_asked_without_them(&mut self) {
        const IDLE: Duration = Duration::from_secs(8);
        let hour = Duration::from_secs(3600);
        (self.settings.interval, self.world.options.resync) = (hour, hour);
        let operator = self.operator();
        let proven = async {
            while !operator.registry.observe().await.is_ok_and(|snapshot| snapshot.evidence == Evidence::default()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LONG, proven).await.expect("a reading is proven without anybody asking for it");
        let asked = self.ksqldb.requests();
        tokio::time::sleep(IDLE).await;
        assert_eq!(self.ksqldb.requests(), asked, "nothing is asked while nothing changes");

        let brokers = self.settings.kafka.brokers.clone();
        let tombstone = || kafka::produce(&brokers, "assets_types_topic", "OURS-0", None);
        tokio::task::block_in_place(tombstone);
        let begun = std::time::Instant::now();
        while !judge(&self.others()).0.contains_key("OURS-0") {
            assert!(begun.elapsed() < LONG, "it is never registered again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("a row that somebody took away was back within {:.2} s", begun.elapsed().as_secs_f64());
        operator.stop.cancel();
        operator.task.await.unwrap();
    }
}

/// Every table answers, if with a part of its rows.
fn answers(step: &Step) -> bool {
    let is_answer = |table: &Answering| matches!(table, Answering::Full | Answering::Rows(_) | Answering::Unmarked);
    step.server == Server::Up && step.tables.values().all(is_answer)
}

/// What ours have registered, by asset, and everything else that was written.
fn judge(others: &[Entry]) -> (BTreeMap<String, usize>, Vec<&Entry>) {
    let mut registered = BTreeMap::new();
    for entry in others {
        if entry.registers() {
            *registered.entry(entry.key.clone()).or_default() += 1;
        }
    }
    let stray = others.iter().filter(|entry| !registered.contains_key(&entry.key)).collect();
    (registered, stray)
}

fn scenarios() -> Vec<PathBuf> {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let of = |folder: &str| {
        std::fs::read_dir(tests.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let is_timeline = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains("-timeline");
    let mut files = of("ksqldb_scenarios");
    files.extend(of("ksqldb_wire").into_iter().filter(is_timeline));
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn no_scenario_of_a_recovery_leads_to_a_wrong_write() {
    let mut plant = Plant::new().await;
    let ours: BTreeSet<&str> = APPS.into_iter().chain(OTHERS_OF_OURS).collect();
    let all_along = plant.operator();
    plant.settled(&all_along, "at the start").await;
    let (registered, stray) = {
        let others = plant.others();
        let (registered, stray) = judge(&others);
        (registered, stray.into_iter().cloned().collect::<Vec<_>>())
    };
    let once: BTreeMap<String, usize> = ours.iter().map(|name| ((*name).to_owned(), 1)).collect();
    assert_eq!(registered, once);
    // The device's coordinator is told of it.
    assert!(stray.iter().all(|entry| entry.key == "COORD" && entry.payload.contains("register_device")), "{stray:#?}");
    assert_eq!(stray.len(), 1);
    let services = plant.world.swarm.writes();

    let files = scenarios();
    assert!(files.len() >= 10, "{files:?}");
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let begun = std::time::Instant::now();
        let text = std::fs::read_to_string(&path).unwrap();
        let (fresh, expected) = if name.ends_with(".jsonl") {
            let lines: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}")))
                .collect();
            // Two operators would both heal it: they are not bound by a lease here.
            let heals = lines.iter().any(|line| line["do"] == "expect");
            plant.play(&lines, !heals).await
        } else {
            let mut fresh = None;
            for step in plant.scaled(&text) {
                if answers(&step) && fresh.is_none() {
                    fresh = Some(plant.operator());
                }
                plant.step(step).await;
            }
            (fresh, Vec::new())
        };
        // ksqlDB may still be at work on what came before.
        let mut others = plant.others();
        let begun_waiting = std::time::Instant::now();
        while !expected.iter().all(|asset| judge(&others).0.contains_key(asset)) {
            assert!(begun_waiting.elapsed() < LONG, "{name}: {expected:?} are not registered: {others:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
            others.extend(plant.others());
        }
        plant.settled(&all_along, &name).await;
        if let Some(fresh) = fresh {
            plant.settled(&fresh, &format!("{name}, from its start")).await;
            fresh.stop.cancel();
            fresh.task.await.unwrap();
        }
        others.extend(plant.others());
        let (registered, stray) = judge(&others);
        let expected: BTreeMap<String, usize> = expected.into_iter().map(|asset| (asset, 1)).collect();
        assert_eq!(registered, expected, "{name}: {others:#?}");
        assert!(stray.is_empty(), "{name}: {stray:#?}");
        assert_eq!(plant.world.swarm.writes(), services, "{name}: {:#?}", plant.world.swarm.calls());
        println!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
    }

    // Those that counted can count: what is asked for is written, once.
    plant.world.source.write("new.yml", app("NEW", "example/app:1", ""));
    plant.until("it is registered", |plant| plant.ksqldb.table("ASSETS_TYPE").contains_key("NEW")).await;
    plant.settled(&all_along, "at the end").await;
    let others = plant.others();
    let (registered, stray) = judge(&others);
    assert_eq!(registered, [("NEW".to_owned(), 1)].into());
    assert!(stray.is_empty(), "{stray:#?}");
    all_along.stop.cancel();
    assert!(all_along.task.await.unwrap());
    // It reads for as long as anybody holds it.
    drop(all_along.registry);
    plant.events_alone_are_enough_and_nothing_is_asked_without_them().await;
    let _ = &plant.kafka;
}
