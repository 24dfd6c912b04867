//! What a server that comes back answers, told to the judge of readings and to the planner: nothing is written on it.
//!
//! The captures in `tests/ksqldb_wire` say how many rows each table of a real ksqlDB answered, second by second, after it
//! was paused and after it was killed. They are replayed row for row, and in thousands of seeded variations: other rows,
//! other partitions, other errors, another order, other times.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "the world of the planner's own tests, of which a part is used here")]
#[path = "plan/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ofop::model::record::RecordOwner;
use ofop::model::{
    Desired, DoubtReason, InstanceName, Observed, ObservedRecord, Proof, Record, RecordId, RegistrySnapshot,
    ResourceId, Scalar, ServiceSpec, Source, Step, StepVerb,
};
use ofop::plan::{Memory, plan};
use ofop::registry::openfactory::evidence::{CONFIRM, CONFIRM_UNWITNESSED, Facts, Judge, SaidOf, Verdict};
use ofop::registry::openfactory::log::{Log, Trace, WITNESSES};
use ofop::registry::rows::{Attributes, Tables, records};
use ofop::testing::Rng;
use world::{World, app, asset, desired, device, name, policy, uuid};

const TABLES: [&str; 7] = ["T", "S", "V", "U", "C", "M", "A"];

/// A row of a table: of `A`, an attribute with its value; of others, the value alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Row {
    asset: String,
    id: String,
    value: String,
}

fn row(asset: &str, id: &str, value: &str) -> Row {
    Row { asset: asset.into(), id: id.into(), value: value.into() }
}

/// Every row that there is, by table.
#[derive(Debug, Clone, Default)]
struct Truth(BTreeMap<&'static str, Vec<Row>>);

impl Truth {
    /// The rows of these records.
    fn of(found: &BTreeMap<RecordId, ObservedRecord>) -> Truth {
        let mut truth = Truth(TABLES.map(|table| (table, Vec::new())).into());
        for found in found.values() {
            truth.record(found);
        }
        truth
    }

    fn add(&mut self, table: &str, row: Row) {
        self.0.get_mut(table).unwrap().push(row);
    }

    fn record(&mut self, found: &ObservedRecord) {
        match &found.record {
            Record::Asset(asset) => {
                let name = asset.uuid.as_str();
                self.add("T", row(name, "", &asset.asset_type));
                self.add("S", row(name, "", &asset.docker_service));
                if let Some(owner) = &found.owner {
                    self.add("A", row(name, "managed_by", owner.instance.as_str()));
                    self.add("A", row(name, "managed_resource", &owner.resource.to_string()));
                }
                self.add("A", row(name, "AssetType", &asset.asset_type));
                self.add("A", row(name, "DockerService", &asset.docker_service));
                self.add("A", row(name, "references_above", &asset.references_above.join(", ")));
                self.add("A", row(name, "references_below", &asset.references_below.join(", ")));
            }
            Record::Connector { device, config } => self.add("C", row(device.as_str(), "", config)),
            Record::MetricsTarget { .. } | Record::CoordinatorDevice { .. } => panic!("none here"),
        }
    }

    /// The topics of state, read to their end.
    fn log(&self) -> Log {
        let mut log = Log::new(WITNESSES.map(|source| (source, source.as_str().to_lowercase())));
        let sources = [("T", Source::AssetsType), ("S", Source::DockerServices), ("C", Source::DeviceConnectorSource)];
        for (table, source) in sources {
            for (offset, row) in (0..).zip(&self.0[table]) {
                log.take(source, offset, row.asset.as_bytes(), Trace::Row, None);
            }
        }
        log.is_caught_up();
        log
    }
}

/// What one reading answers: rows of each table, or an error in its place.
type Answer = BTreeMap<&'static str, Option<Vec<Row>>>;

/// A snapshot and the facts of an answer; none when a query failed.
fn read(answer: &Answer) -> Option<(RegistrySnapshot, Facts)> {
    let mut facts = Facts::default();
    let mut tables = Tables::default();
    let mut said: BTreeMap<&str, SaidOf> = BTreeMap::new();
    for (table, rows) in answer {
        for row in rows.as_ref()? {
            let name = uuid(&row.asset);
            match *table {
                "T" => {
                    facts.row(Source::AssetsType, &name);
                    tables.types.insert(name, row.value.clone());
                }
                "S" => {
                    facts.row(Source::DockerServices, &name);
                    tables.services.insert(name, row.value.clone());
                }
                "C" => {
                    facts.row(Source::DeviceConnectorSource, &name);
                    tables.connectors.insert(name, row.value.clone());
                }
                "A" => {
                    said.entry(&row.asset).or_default().take(&row.id, &row.value);
                    if Attributes::matters(&row.id, "") {
                        let value = Scalar::Text(row.value.clone());
                        tables.attributes.entry(name).or_default().take(&row.id, value, "", "OpenFactory");
                    }
                }
                _ => {}
            }
        }
    }
    for (name, said) in said {
        facts.said(uuid(name), said);
    }
    let snapshot = RegistrySnapshot { complete: true, records: records(tables), ..RegistrySnapshot::default() };
    Some((snapshot, facts))
}

/// A snapshot with its evidence; none when a query failed.
fn judged(judge: &mut Judge, answer: &Answer, log: &Log, at: Duration) -> Option<RegistrySnapshot> {
    let Some((mut snapshot, facts)) = read(answer) else {
        judge.failed();
        return None;
    };
    let Verdict { complete, evidence, .. } = judge.judge(facts, log, false, at);
    snapshot.complete = complete;
    snapshot.evidence = evidence;
    Some(snapshot)
}

/// A factory in sync: apps and a device of ours, an asset of another operator that our manifests describe as well, one
/// that we want and nobody has registered, and strangers.
struct Factory {
    world: World,
    desired: Desired,
    memory: Memory,
    truth: Truth,
}

impl Factory {
    fn new(strangers: usize) -> Factory {
        let mut world = World::default();
        let ours = || (0..4).map(|at| app(&format!("OURS-{at}"), |_| ()));
        let mut memory = Memory::default();
        world.converge(&desired(ours().chain([device("CNC-1")])), &policy(), &mut memory);
        let theirs = RecordOwner {
            instance: InstanceName::new("plant-b").unwrap(),
            resource: ResourceId::app(uuid("THEIRS")),
            kept: false,
        };
        let mut insert = |name: &str, owner: Option<RecordOwner>| {
            let record = Record::Asset(asset(name, "OpenFactoryApp", ""));
            world.records.insert(record.id(), ObservedRecord { record, owner });
        };
        insert("THEIRS", Some(theirs));
        (0..strangers).for_each(|at| insert(&format!("STRANGER-{at}"), None));
        let desired = desired(ours().chain([device("CNC-1"), app("THEIRS", |_| ())]));
        let truth = Truth::of(&world.records);
        Factory { world, desired, memory, truth }
    }

    fn observed(&mut self, registry: Option<RegistrySnapshot>, at: Duration) -> Observed {
        Observed { registry: registry.map(Arc::new), at: self.world.now + at, ..self.world.observe() }
    }

    /// What would be written to the registry after an answer.
    fn steps(&mut self, judge: &mut Judge, answer: &Answer, log: &Log, memory: &Memory, at: Duration) -> Vec<Step> {
        match judged(judge, answer, log, at) {
            Some(snapshot) => self.planned(snapshot, memory, at),
            None => Vec::new(),
        }
    }

    /// What would be written to the registry on a snapshot.
    fn planned(&mut self, snapshot: RegistrySnapshot, memory: &Memory, at: Duration) -> Vec<Step> {
        let observed = self.observed(Some(snapshot), at);
        let mut memory = memory.clone();
        memory.recall(&observed);
        let plan = plan(&self.desired, &observed, &policy(), &memory);
        let steps = plan.resources.values().flat_map(|resource| &resource.steps);
        let of_records = |step: &Step| matches!(step, Step::Record(_));
        steps.map(|step| step.step.clone()).filter(of_records).collect()
    }

    fn whole(&self) -> Answer {
        self.truth.0.iter().map(|(table, rows)| (*table, Some(rows.clone()))).collect()
    }
}

/// One line of a timeline: when, and for each table the number of rows; none for an error.
type Line = (Duration, BTreeMap<&'static str, Option<usize>>);

fn timeline(file: &str) -> Vec<Line> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ksqldb_wire").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter_map(|line| {
        let (time, rest) = line.split_once(' ')?;
        let [hours, minutes, seconds] = time.split(':').map(|part| part.parse::<u64>().ok()).collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let at = Duration::from_secs(hours? * 3600 + minutes? * 60 + seconds?);
        // What a line does not name was not asked any more, since a query before it failed.
        let mut tables: BTreeMap<&'static str, Option<usize>> = TABLES.map(|table| (table, None)).into();
        for token in rest.split_whitespace() {
            let Some(table) = TABLES.into_iter().find(|table| token.starts_with(table)) else { continue };
            if let Some(rows) = token[1..].strip_prefix('=') {
                tables.insert(table, Some(rows.parse().unwrap()));
            }
        }
        Some((at, tables))
    });
    let lines: Vec<Line> = lines.collect();
    assert!(lines.len() >= 4, "{file}");
    lines
}

/// So many rows of each table, of those that are there: from the front or from the back.
fn answer(truth: &Truth, line: &Line, from_back: bool) -> Answer {
    let full = line.1.iter().map(|(table, rows)| {
        let rows = rows.map(|rows| {
            let all = &truth.0[table];
            let rows = rows.min(all.len());
            if from_back { all[all.len() - rows..].to_vec() } else { all[..rows].to_vec() }
        });
        (*table, rows)
    });
    full.collect()
}

#[test]
fn the_captured_recoveries_lead_to_no_write() {
    for (file, strangers) in [("pause-timeline.txt", 1493), ("restart-timeline-kill9-cold-state.txt", 1493)] {
        let mut factory = Factory::new(strangers);
        let log = factory.truth.log();
        let lines = timeline(file);
        for from_back in [false, true] {
            for follows in [true, false] {
                let deaf = Log::default();
                let log = if follows { &log } else { &deaf };
                for at_start in [true, false] {
                    let mut judge = Judge::default();
                    let memory = if at_start { Memory::default() } else { factory.memory.clone() };
                    if !at_start {
                        confirm(&factory, &mut judge, log);
                    }
                    let begun = lines[0].0;
                    for line in &lines {
                        let now = Duration::from_secs(100) + line.0 - begun;
                        let answer = answer(&factory.truth, line, from_back);
                        let steps = factory.steps(&mut judge, &answer, log, &memory, now);
                        assert!(steps.is_empty(), "{file} {line:?} {from_back} {follows} {at_start}: {steps:#?}");
                    }
                }
            }
        }
    }
}

/// A daemon that has read everything and trusts it.
fn confirm(factory: &Factory, judge: &mut Judge, log: &Log) {
    let (_, facts) = read(&factory.whole()).unwrap();
    judge.judge(facts.clone(), log, false, Duration::ZERO);
    assert_eq!(judge.judge(facts, log, false, CONFIRM_UNWITNESSED).evidence.doubt, None);
}

/// Which rows of a table a variation shows.
fn some_rows(rows: &[Row], rng: &mut Rng) -> Vec<Row> {
    let hash = |row: &Row, salt: u64| {
        let mut hasher = DefaultHasher::new();
        (&row.asset, &row.id, salt).hash(&mut hasher);
        hasher.finish()
    };
    let salt = rng.below(1 << 20);
    match rng.below(5) {
        0 => Vec::new(),
        1 => rows.to_vec(),
        // As far as it is restored.
        2 => rows[..usize::try_from(rng.below(rows.len() as u64 + 1)).unwrap()].to_vec(),
        // Some partitions of six.
        3 => {
            let lost = 1 + rng.below(5);
            rows.iter().filter(|row| hash(row, 0) % 6 >= lost).cloned().collect()
        }
        // Any half of them.
        _ => rows.iter().filter(|row| hash(row, salt) % 2 == 0).cloned().collect(),
    }
}

#[test]
fn ten_thousand_variations_of_a_recovery_lead_to_no_write() {
    let mut factory = Factory::new(6);
    let log = factory.truth.log();
    let deaf = Log::default();
    let lines = timeline("pause-timeline.txt");
    let (mut held, mut planned) = (0, 0);
    for seed in 0..10_000 {
        let mut rng = Rng::new(seed);
        let follows = rng.below(4) != 0;
        let log = if follows { &log } else { &deaf };
        let mut judge = Judge::default();
        let at_start = rng.below(2) == 0;
        let memory = if at_start { Memory::default() } else { factory.memory.clone() };
        if !at_start {
            confirm(&factory, &mut judge, log);
        }
        // A server is back within this time.
        let pause = if follows { 5_000 } else { 1_500 };
        let mut now = Duration::from_secs(100);
        for _ in 0..lines.len() {
            let line = &lines[usize::try_from(rng.below(lines.len() as u64)).unwrap()];
            let mut answer = Answer::new();
            for (table, rows) in &line.1 {
                let failed = if rng.below(3) == 0 { rng.below(8) == 0 } else { rows.is_none() && rng.below(2) == 0 };
                let rows = (!failed).then(|| match rows {
                    Some(0) if rng.below(2) == 0 => Vec::new(),
                    _ => some_rows(&factory.truth.0[table], &mut rng),
                });
                answer.insert(table, rows);
            }
            if let Some(snapshot) = judged(&mut judge, &answer, log, now) {
                // Where everything is doubted the planner does nothing, whatever the rows are: a part of these is enough.
                if snapshot.evidence.doubt.is_none() || seed % 20 == 0 {
                    let steps = factory.planned(snapshot, &memory, now);
                    assert!(steps.is_empty(), "seed {seed} at {now:?}: {steps:#?}\n{answer:#?}");
                    planned += 1;
                }
                held += 1;
            }
            now += Duration::from_millis(rng.below(pause));
        }
        // And when it is back, everything is as it was.
        let whole = factory.whole();
        for _ in 0..if seed % 20 == 0 { 3 } else { 0 } {
            assert!(factory.steps(&mut judge, &whole, log, &memory, now).is_empty(), "seed {seed}");
            now += CONFIRM;
        }
    }
    assert!(held > 20_000 && planned > 1_000, "{held} {planned}");
}

/// The proof that the tests above can fail: what is planned when readings are believed as they come.
#[test]
fn believing_every_answer_takes_what_is_others() {
    let mut factory = Factory::new(12);
    let lines = timeline("pause-timeline.txt");
    let mut verbs = Vec::new();
    for line in &lines {
        let Some((snapshot, _)) = read(&answer(&factory.truth, line, false)) else { continue };
        let observed = factory.observed(Some(snapshot), Duration::ZERO);
        let plan = plan(&factory.desired, &observed, &policy(), &Memory::default());
        verbs.extend(
            plan.resources
                .values()
                .flat_map(|resource| &resource.steps)
                .map(|step| (step.step.verb(), step.step.object())),
        );
    }
    assert!(verbs.contains(&(StepVerb::Register, "asset THEIRS".to_owned())), "{verbs:?}");
}

#[test]
fn what_is_proven_to_be_absent_is_registered_and_what_is_unowned_adopted() {
    let mut factory = Factory::new(3);
    let mut apps: Vec<_> = factory.desired.resources.values().map(|resource| (**resource).clone()).collect();
    apps.push(app("NEW", |_| ()));
    apps.push(app("STRANGER-0", |_| ()));
    factory.desired = desired(apps);
    // The asset names the service that is wanted.
    for table in ["S", "A"] {
        for row in factory.truth.0.get_mut(table).unwrap() {
            if row.asset == "STRANGER-0" && (table == "S" || row.id == "DockerService") {
                row.value = "stranger-0".into();
            }
        }
    }
    let log = factory.truth.log();
    let whole = factory.whole();
    let memory = Memory::default();
    let mut judge = Judge::default();
    assert_eq!(factory.steps(&mut judge, &whole, &log, &memory, Duration::ZERO), []);
    // Of an asset without a mark no topic tells whether the mark is what the table does not show.
    let later = CONFIRM_UNWITNESSED - Duration::from_secs(1);
    for (at, expected) in [
        (CONFIRM, &["asset NEW"][..]),
        (later, &["asset NEW"]),
        (CONFIRM_UNWITNESSED, &["asset NEW", "asset STRANGER-0"]),
    ] {
        let steps = factory.steps(&mut judge, &whole, &log, &memory, at);
        let objects: Vec<String> = steps.iter().map(Step::object).collect();
        assert_eq!(objects, expected, "{at:?}");
    }
}

/// A server that shows everything but who owns an asset, to an operator that has never read it before.
#[test]
fn a_first_reading_that_lacks_the_owners_alone_takes_nothing() {
    let mut factory = Factory::new(6);
    let log = factory.truth.log();
    for hidden in [&["managed_by", "managed_resource"][..], &["managed_by"], &["managed_resource"]] {
        let mut judge = Judge::default();
        let mut answer = factory.whole();
        answer.get_mut("A").unwrap().as_mut().unwrap().retain(|row| !hidden.contains(&row.id.as_str()));
        let (mut at, whole) = (Duration::ZERO, factory.whole());
        while at < CONFIRM_UNWITNESSED {
            let steps = factory.steps(&mut judge, &answer, &log, &Memory::default(), at);
            assert!(steps.is_empty(), "{hidden:?} at {at:?}: {steps:#?}");
            at += Duration::from_millis(700);
        }
        // The rows come, and everything is as it was.
        for _ in 0..3 {
            assert!(factory.steps(&mut judge, &whole, &log, &Memory::default(), at).is_empty());
            at += CONFIRM;
        }
    }
}

#[test]
fn a_service_is_adopted_for_its_asset_when_the_reading_is_proven() {
    let mut factory = Factory::new(1);
    factory.world.insert(ServiceSpec::new(name("stranger-0"), "registry/old:1"), None);
    let mut apps: Vec<_> = factory.desired.resources.values().map(|resource| (**resource).clone()).collect();
    apps.push(app("STRANGER-0", |_| ()));
    factory.desired = desired(apps);
    for row in factory.truth.0.get_mut("S").unwrap().iter_mut().filter(|row| row.asset == "STRANGER-0") {
        row.value = "stranger-0".into();
    }
    let log = factory.truth.log();
    let whole = factory.whole();
    let mut judge = Judge::default();
    for (at, expected) in [(Duration::ZERO, 0), (CONFIRM, 0), (CONFIRM_UNWITNESSED, 1)] {
        let snapshot = judged(&mut judge, &whole, &log, at).unwrap();
        let observed = factory.observed(Some(snapshot), at);
        let plan = plan(&factory.desired, &observed, &policy(), &Memory::default());
        let stranger = &plan.resources[&ResourceId::app(uuid("STRANGER-0"))];
        let updates = stranger.steps.iter().filter(|step| step.step.verb() == StepVerb::Update);
        assert_eq!(updates.count(), expected, "{stranger:#?}");
    }
}

#[test]
fn a_held_record_says_why_and_of_what() {
    let mut factory = Factory::new(3);
    let log = factory.truth.log();
    let mut partial = factory.whole();
    partial.insert("T", Some(Vec::new()));
    let (mut snapshot, facts) = read(&partial).unwrap();
    let mut judge = Judge::default();
    let verdict = judge.judge(facts, &log, false, Duration::ZERO);
    let Proof::Unproven(doubt) = verdict.evidence.of(&uuid("OURS-0")) else { panic!("{verdict:?}") };
    assert_eq!(doubt.reason, DoubtReason::Unconfirmed);
    let doubt = &verdict.evidence.assets[&uuid("OURS-0")];
    assert!(doubt.message.contains("topic assets_type holds asset OURS-0 (offset "), "{}", doubt.message);
    snapshot.complete = verdict.complete;
    snapshot.evidence = verdict.evidence;
    snapshot.evidence.doubt = None;
    let observed = factory.observed(Some(snapshot), Duration::ZERO);
    let plan = plan(&factory.desired, &observed, &policy(), &Memory::default());
    let ours = &plan.resources[&ResourceId::app(uuid("OURS-0"))];
    assert_eq!((ours.steps.len(), ours.held.len()), (0, 1));
    assert!(ours.conditions.iter().any(|condition| condition.reason == "RegistryPartial"), "{ours:#?}");
    assert!(ours.drift.is_empty(), "what is not proven is no drift: {ours:#?}");
}
