//! The daemon over a registry that comes and goes: the real program on a real engine and a real Kafka, whose topics were
//! made with the broker's defaults, with the stand-in for ksqlDB between them. Round by round ksqlDB is paused, restarted
//! or loses its metastore, and comes back as the real one does; the daemon is killed, or handed over to `ofop apply`, now
//! and then; manifests change, and others register and delete assets. All of it is drawn from a seed.
//!
//! What must be written follows from what was described and from what others deleted; every topic is consumed from its
//! oldest message, and whatever else was written is wrong. `tests/soak.sh` runs it for longer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where it cannot go on, and waits in real time"
)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;
#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/operator.rs"]
mod operator;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use engine::{IDLE, IDLE_2, TestEngine};
use kafka::Kafka;
use ksqldb::Ksqldb;
use ksqldb::recovery::{READ, Random, Server, Step};
use ledger::{Entry, Ledger, registration};
use operator::Operator;
use serde_json::Value;

/// How long it goes on unless told otherwise: the short form, a part of every test run.
const SHORT: Duration = Duration::from_secs(30);
/// Rounds that are made in any case.
const AT_LEAST: usize = 2;
/// How long a round may take to end as described: a killed daemon's lease runs for 15 s, gaps count as lasting after 60 s.
const PATIENCE: Duration = Duration::from_secs(300);
/// Apps at the start; there are never fewer than half of them.
const APPS: usize = 24;
/// Assets of another operator that our manifests describe as well, and others that nobody but their owner knows.
const CONTESTED: usize = 3;
const THEIRS: usize = 3;
const STRANGERS: usize = 16;
/// A node that no service finds: tasks would cost more than what is tested here.
const NOWHERE: &str = "placement: {constraints: ['node.labels.soak == none']}";

/// An app of ours as it is described now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct App {
    image: &'static str,
    line: u64,
}

/// What happened in the round, to be told with what is wrong.
#[derive(Default)]
struct Round {
    words: Vec<String>,
    /// Registrations that are asked for, by asset.
    registered: BTreeMap<String, usize>,
    /// Assets that are to go.
    removed: BTreeSet<String>,
}

#[derive(Default)]
struct Tally {
    rounds: usize,
    faults: BTreeMap<&'static str, usize>,
    changes: usize,
    messages: usize,
    registrations: usize,
    removals: usize,
    wrong: Vec<String>,
}

struct Plant {
    ofop: Operator,
    ledger: Ledger,
    ksqldb: Ksqldb,
    apps: BTreeMap<String, App>,
    strangers: BTreeSet<String>,
    named: usize,
    random: Random,
    tally: Tally,
    kafka: Kafka,
    _engine: TestEngine,
    // Last, since the stand-in runs on it.
    _runtime: tokio::runtime::Runtime,
}

fn manifest(uuid: &str, app: &App) -> String {
    format!(
        "apps:\n  a:\n    uuid: {uuid}\n    image: {}\n    networks: [factory-net]\n    uns: {{line: L{}}}\n    \
         deploy: {{{NOWHERE}}}\n",
        app.image, app.line
    )
}

impl Plant {
    fn new(seed: u64) -> Plant {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let engine = TestEngine::swarm();
        let kafka = Kafka::start();
        runtime.block_on(ledger::make_topics(&kafka.address()));
        let ksqldb = runtime.block_on(Ksqldb::start(&kafka.address()));
        let mut ofop = Operator::new(&engine.host());
        ofop.set("OFOP_PRUNE_DELAY", "1s");
        // The stand-in, which compiles its tables anew on a busy machine, takes up to 15 s to show what was written; what
        // stays invisible for longer than this is rightly written once more. By default it is a minute.
        ofop.set("OFOP_EXPECTATION", "30s");
        // Services here never run, and what goes waits for what comes in its place until that had its time to.
        ofop.set("OFOP_PROGRESS_DEADLINE", "5s");
        let settings = format!(
            "KAFKA_BROKER={}\nKSQLDB_URL={}\nMTCONNECT_PRODUCER_IMAGE={IDLE}\nMTCONNECT_AGENT_IMAGE={IDLE}\n\
             OPENFACTORY_UNS_SCHEMA=uns.yml\n",
            kafka.address(),
            ksqldb.url()
        );
        std::fs::write(ofop.folder().join(".ofaenv"), settings).unwrap();
        let schema = "namespace_structure:\n  - line: ANY\n  - asset: ANY\n  - attribute: ANY\n\
                      uns_template: line/asset/attribute\n";
        std::fs::write(ofop.folder().join("uns.yml"), schema).unwrap();
        let made = ofop.run(&["registry", "init"]);
        assert_eq!(made.code, Some(0), "{}", made.err);
        let mut plant = Plant {
            ledger: Ledger::new(&kafka.address()),
            ofop,
            ksqldb,
            apps: BTreeMap::new(),
            strangers: BTreeSet::new(),
            named: 0,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            tally: Tally::default(),
            kafka,
            _engine: engine,
            _runtime: runtime,
        };
        plant.populate();
        plant
    }

    /// Others have registered their assets before we come.
    fn populate(&mut self) {
        let name = |what: &str, at: usize| format!("{what}-{at}");
        let mut theirs: Vec<String> = (0..CONTESTED).map(|at| name("CONTESTED", at)).collect();
        theirs.extend((0..THEIRS).map(|at| name("THEIRS", at)));
        let resources: Vec<String> = theirs.iter().map(|uuid| format!("app/{uuid}")).collect();
        self.strangers = (0..STRANGERS).map(|at| name("STRANGER", at)).collect();
        let mut sayings = registration("COORD", "SHDR.Coordinator", "coord", None);
        for (uuid, resource) in theirs.iter().zip(&resources) {
            sayings.extend(registration(uuid, "OpenFactoryApp", "elsewhere", Some(("plant-b", resource))));
        }
        for uuid in &self.strangers {
            sayings.extend(registration(uuid, "Device", "", None));
        }
        self.ledger.says(&sayings);
        let rows = 1 + theirs.len() + STRANGERS;
        self.ofop.wait("others are registered", || {
            self.ksqldb.table("ASSETS_TYPE").len() == rows && self.ksqldb.table("ASSETS_AVAIL").len() == rows
        });
        for uuid in theirs.iter().take(CONTESTED) {
            self.ofop.write(&format!("{uuid}.yml"), &manifest(uuid, &App { image: IDLE, line: 0 }));
        }
        for _ in 0..APPS {
            self.add();
        }
        let devices = "devices:\n  m:\n    uuid: CNC-1\n    connector:\n      type: mtconnect\n      agent: {ip: 10.0.0.7, \
                       port: 5000}\n  s:\n    uuid: SHDR-1\n    connector:\n      type: shdr\n      host: 10.0.0.9\n      \
                       port: 7878\n      data:\n        temp: {tag: Temperature, type: Samples}\n";
        self.ofop.write("devices.yml", devices);
    }

    fn add(&mut self) -> String {
        let uuid = format!("APP-{:03}", self.named);
        self.named += 1;
        let app = App { image: IDLE, line: self.random.below(5) };
        self.ofop.write(&format!("{uuid}.yml"), &manifest(&uuid, &app));
        self.apps.insert(uuid.clone(), app);
        uuid
    }

    fn any_app(&mut self, but: &BTreeSet<String>) -> Option<String> {
        let free: Vec<&String> = self.apps.keys().filter(|uuid| !but.contains(*uuid)).collect();
        let at = usize::try_from(self.random.below(free.len() as u64)).unwrap();
        free.get(at).map(|uuid| (*uuid).clone())
    }

    /// Draws a change of what is described, or of what others do. Each asset has at most one in a round.
    fn change(&mut self, round: &mut Round) {
        let busy: BTreeSet<String> = round.registered.keys().chain(&round.removed).cloned().collect();
        self.tally.changes += 1;
        match self.random.below(7) {
            0 => {
                let uuid = self.add();
                round.words.push(format!("{uuid} is described"));
                round.registered.insert(uuid, 1);
            }
            1 if self.apps.len() > APPS / 2 && round.removed.is_empty() => {
                let Some(uuid) = self.any_app(&busy) else { return };
                self.ofop.delete(&format!("{uuid}.yml"));
                self.apps.remove(&uuid);
                round.words.push(format!("{uuid} is described no longer"));
                round.removed.insert(uuid);
            }
            2 => {
                let Some(uuid) = self.any_app(&busy) else { return };
                let app = self.apps.get_mut(&uuid).unwrap();
                app.image = if app.image == IDLE { IDLE_2 } else { IDLE };
                self.ofop.write(&format!("{uuid}.yml"), &manifest(&uuid, app));
                round.words.push(format!("{uuid} gets another image"));
            }
            3 => {
                let Some(uuid) = self.any_app(&busy) else { return };
                let app = self.apps.get_mut(&uuid).unwrap();
                app.line += 5;
                self.ofop.write(&format!("{uuid}.yml"), &manifest(&uuid, app));
                round.words.push(format!("{uuid} gets another place"));
                round.registered.insert(uuid, 1);
            }
            4 => {
                let Some(uuid) = self.any_app(&busy) else { return };
                self.ledger.says(&[(&uuid, "AssetType", "delete", "AssetType", "OpenFactory")]);
                round.words.push(format!("others delete {uuid}"));
                round.registered.insert(uuid, 1);
            }
            5 => {
                let uuid = format!("STRANGER-N{}", self.named);
                self.named += 1;
                self.ledger.says(&registration(&uuid, "Device", "", None));
                round.words.push(format!("others register {uuid}"));
                self.strangers.insert(uuid);
            }
            _ => {
                let Some(uuid) = self.strangers.iter().find(|uuid| uuid.contains("-N")).cloned() else { return };
                self.ledger.says(&[(&uuid, "AssetType", "delete", "AssetType", "OpenFactory")]);
                round.words.push(format!("others delete {uuid}"));
                self.strangers.remove(&uuid);
            }
        }
    }

    /// Is what is described in place, as the tables and the daemon say?
    fn differs(&self, round: &Round) -> Option<String> {
        let (types, attributes) = (self.ksqldb.table("ASSETS_TYPE"), self.ksqldb.table("ASSETS"));
        let services = self.ksqldb.table("DOCKER_SERVICES");
        let says = |uuid: &str, id: &str| {
            attributes.get(&format!("{uuid}|{id}")).and_then(|row| row["VALUE"].as_str()).unwrap_or_default().to_owned()
        };
        for (uuid, app) in &self.apps {
            let is_there = types.get(uuid).is_some_and(|row| row["TYPE"] == "OpenFactoryApp")
                && services.contains_key(uuid)
                && says(uuid, "managed_by") == "default"
                && says(uuid, "uns_id") == format!("L{}/{uuid}", app.line);
            if !is_there {
                return Some(format!("{uuid} is not registered as described"));
            }
        }
        for uuid in &round.removed {
            if types.contains_key(uuid) || services.contains_key(uuid) || !says(uuid, "managed_by").is_empty() {
                return Some(format!("{uuid} is not gone"));
            }
        }
        if self.ofop.metric("ofop_registry_up") != Some(1.0) {
            return Some("the daemon does not see the registry".into());
        }
        let Some(body) = self.ofop.try_get("/api/v1/resources") else {
            return Some("the daemon does not answer".into());
        };
        let body: Value = serde_json::from_str(&body).unwrap();
        let all = body["resources"].as_array().unwrap_or_else(|| panic!("{body}"));
        let uuid = |resource: &Value| resource["uuid"].as_str().unwrap_or_default().to_owned();
        let ours = self.apps.len() + 2 + CONTESTED;
        if all.len() != ours {
            return Some(format!("the daemon knows {} resources instead of {ours}", all.len()));
        }
        let open = all.iter().find(|resource| {
            let is_contested = uuid(resource).starts_with("CONTESTED");
            if is_contested { resource["sync"] != "OutOfSync" } else { resource["sync"] != "Synced" }
        });
        open.map(|resource| format!("{resource}"))
    }

    fn settle(&self, round: &Round) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(left) = self.differs(round) {
            if Instant::now() > deadline {
                let log = self.ofop.log();
                let lines: Vec<&str> = log.lines().rev().take(60).collect();
                panic!(
                    "{left}: not within {} s, after {:?}; the log, backwards:\n{}",
                    PATIENCE.as_secs(),
                    round.words,
                    lines.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What was written in the round, all that was asked for among it: ksqlDB may not have shown yet what must be mended.
    fn asked_for(&mut self, round: &Round) -> Vec<Entry> {
        let deadline = Instant::now() + PATIENCE;
        let mut others = self.ledger.others();
        let count =
            |others: &[Entry], uuid: &str| others.iter().filter(|entry| entry.registers() && entry.key == uuid).count();
        while let Some((uuid, _)) = round.registered.iter().find(|(uuid, times)| count(&others, uuid) < **times) {
            assert!(
                Instant::now() < deadline,
                "{uuid} was never registered, after {:?}\n{}",
                round.words,
                self.ofop.log()
            );
            std::thread::sleep(Duration::from_millis(300));
            self.settle(round);
            others.extend(self.ledger.others());
        }
        others
    }

    /// Whatever was written in the round, beside what was asked for, is wrong.
    fn account(&mut self, round: &Round) {
        let others = self.asked_for(round);
        let mut registered: BTreeMap<&str, usize> = BTreeMap::new();
        let mut wrong: Vec<String> = Vec::new();
        for entry in &others {
            let Entry { topic, key, payload } = entry;
            let is_mark =
                |value: &str| entry.attribute().is_some_and(|said| said == ("managed_by".to_owned(), value.to_owned()));
            let takes_back = payload.is_empty() && *topic == "assets_types_topic" || is_mark("");
            let is_asked_for = match (round.registered.contains_key(key), round.removed.contains(key)) {
                (true, _) => !takes_back,
                (_, true) => !entry.registers() && !is_mark("default"),
                (false, false) => false,
            };
            if !is_asked_for {
                wrong.push(format!("{topic} {key} {payload}"));
            } else if entry.registers() {
                *registered.entry(key).or_default() += 1;
            }
        }
        for (uuid, count) in registered {
            self.tally.registrations += count;
            if round.registered.get(uuid) != Some(&count) {
                wrong.push(format!("{uuid} was registered {count} times"));
            }
        }
        self.tally.messages += others.len();
        self.tally.removals += round.removed.len();
        if !wrong.is_empty() {
            println!("WRONG after {:?}: {wrong:#?}", round.words);
            let log = self.ofop.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"DEBUG\"")).collect();
            println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        self.tally.wrong.extend(wrong);
    }

    /// Plays steps while changes happen in between.
    fn play(&mut self, steps: Vec<Step>, changes: u64, round: &mut Round) {
        let count = steps.len();
        self.ksqldb.play(steps);
        let mut at: Vec<usize> =
            (0..changes).map(|_| usize::try_from(self.random.below(count as u64 + 1)).unwrap()).collect();
        at.sort_unstable();
        for at in at {
            while self.ksqldb.is_playing() && self.ksqldb.step() < at {
                std::thread::sleep(Duration::from_millis(10));
            }
            self.change(round);
        }
        while self.ksqldb.is_playing() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn round(&mut self) {
        let mut round = Round::default();
        let rows: BTreeMap<String, usize> =
            READ.into_iter().map(|(_, table)| (table.to_owned(), self.ksqldb.table(table).len())).collect();
        let mut steps = Step::seeded(self.random.next(), &rows);
        let mut fault = match steps[0].server {
            Server::Paused => "pauses of ksqlDB",
            _ => "restarts of ksqlDB",
        };
        let changes = self.random.below(3);
        if self.random.below(4) == 0 {
            fault = "lost metastores";
            self.ksqldb.lose_metastore();
            round.words.push(fault.into());
            std::thread::sleep(Duration::from_millis(self.random.below(4000)));
            // A busy machine may need longer than is waited for; it goes on where it ended.
            let mut made = self.ofop.run(&["registry", "init"]);
            for _ in 0..2 {
                if made.code != Some(0) {
                    made = self.ofop.run(&["registry", "init"]);
                }
            }
            assert_eq!(made.code, Some(0), "{}", made.err);
            // It is there again, and its tables fill.
            steps.retain(|step| step.server == Server::Up);
        }
        round.words.push(fault.into());
        *self.tally.faults.entry(fault).or_default() += 1;
        match self.random.below(6) {
            0 => {
                *self.tally.faults.entry("deaths of the daemon").or_default() += 1;
                round.words.push("the daemon is killed".into());
                self.ofop.kill();
                self.play(steps, changes, &mut round);
                self.ofop.start();
            }
            1 => {
                *self.tally.faults.entry("starts of the daemon").or_default() += 1;
                round.words.push("the daemon starts while ksqlDB comes back".into());
                assert_eq!(self.ofop.signal("TERM"), Some(0));
                let away = steps.iter().take_while(|step| step.server != Server::Up).count();
                let rest = steps.split_off(away);
                self.play(steps, 0, &mut round);
                self.ksqldb.play(rest.clone());
                self.ofop.start();
                self.play(rest, changes, &mut round);
            }
            2 => {
                *self.tally.faults.entry("ofop apply instead of the daemon").or_default() += 1;
                round.words.push("ofop apply while ksqlDB comes back".into());
                assert_eq!(self.ofop.signal("TERM"), Some(0));
                let away = steps.iter().take_while(|step| step.server != Server::Up).count();
                let rest = steps.split_off(away);
                for _ in 0..changes {
                    self.change(&mut round);
                }
                self.play(steps, 0, &mut round);
                self.ksqldb.play(rest);
                // It may end before the registry can be read.
                let ran = self.ofop.run(&["apply", "--timeout", "60s"]);
                assert!(ran.code.is_some(), "{ran:?}");
                self.ofop.start();
            }
            _ => self.play(steps, changes, &mut round),
        }
        while self.ksqldb.is_playing() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.settle(&round);
        self.account(&round);
        self.tally.rounds += 1;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn pauses_restarts_and_lost_metastores_lead_to_no_wrong_write() {
    let time = number("OFOP_SOAK_SECONDS").map_or(SHORT, Duration::from_secs);
    let seed = number("OFOP_SOAK_SEED").unwrap_or(1);
    let begun = Instant::now();
    let mut plant = Plant::new(seed);
    plant.ofop.start();
    let mut first = Round { words: vec!["the start".into()], ..Round::default() };
    first.registered = plant.apps.keys().map(|uuid| (uuid.clone(), 1)).collect();
    for uuid in ["CNC-1", "CNC-1-AGENT", "CNC-1-PRODUCER", "SHDR-1"] {
        first.registered.insert(uuid.into(), 1);
    }
    plant.settle(&first);
    // The coordinator is told of its device, once.
    plant.ledger.expect("COORD", "register_device_CMD", 1);
    plant.account(&first);
    assert_eq!(plant.tally.registrations, APPS + 4);
    println!("seed {seed}: set up within {:.0} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    while begun.elapsed() < time || plant.tally.rounds < AT_LEAST {
        let at = Instant::now();
        plant.round();
        let Tally { rounds, messages, registrations, wrong, .. } = &plant.tally;
        println!(
            "round {rounds}: {:.1} s; so far {messages} messages, {registrations} registrations, {} wrong",
            at.elapsed().as_secs_f64(),
            wrong.len()
        );
    }
    let Tally { rounds, faults, changes, messages, registrations, removals, wrong } = &plant.tally;
    println!(
        "soak: {:.0} min, seed {seed}, {rounds} rounds, {faults:?}, {changes} changes, {messages} messages of ofop, \
         {registrations} registrations, {removals} removals, {} wrong writes",
        begun.elapsed().as_secs_f64() / 60.0,
        wrong.len()
    );
    assert_eq!(plant.ofop.signal("TERM"), Some(0));
    assert!(wrong.is_empty(), "{wrong:#?}");
    let _ = &plant.kafka;
}
