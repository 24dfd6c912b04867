//! How the server goes and comes back: for each moment, what it answers to whom. The steps come from a timeline that was
//! captured, from lines of JSON, or from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::wire::Refusal;

/// How long a moment of a captured timeline waits for somebody who asks.
const MOMENT: Duration = Duration::from_secs(15);
/// So often a table answers with its error before the next moment comes, where a reading begins anew with each.
const ERRORS: u8 = 2;

/// The server as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Server {
    /// Answers, each table as it is.
    #[default]
    Up,
    /// Nobody listens.
    Refused,
    /// 503: it has just begun.
    NotReady,
    /// Takes connections and does not answer, as one that is stopped; answers when this is over.
    Paused,
    /// Something before it answers 502 with HTML.
    BadGateway,
    /// Something before it answers 200 with HTML.
    Page,
}

/// A table, and whatever else can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answering {
    /// All that it has.
    #[default]
    Full,
    /// HTTP 200 with so many rows and the closing bracket.
    Rows(usize),
    /// 500/50000.
    Internal,
    /// 503/50302.
    NotReady,
    /// 400/40001: no host has the partitions.
    NoHost,
    /// 400/40001: the streams are ending.
    Ending,
    /// 400/40001: the table is not queryable.
    NotQueryable,
    /// 400/40001: the source does not exist.
    Missing,
    /// The answer stops in the middle.
    Cut,
    /// All that it has, without the attributes that say whose an asset is.
    Unmarked,
}

impl Answering {
    fn of(word: &Value) -> Answering {
        match (word.as_u64(), word.as_str()) {
            (Some(rows), _) => Answering::Rows(usize::try_from(rows).unwrap()),
            (None, Some("full")) => Answering::Full,
            (None, Some("internal")) => Answering::Internal,
            (None, Some("not_ready")) => Answering::NotReady,
            (None, Some("no_host")) => Answering::NoHost,
            (None, Some("ending")) => Answering::Ending,
            (None, Some("not_queryable")) => Answering::NotQueryable,
            (None, Some("missing")) => Answering::Missing,
            (None, Some("cut")) => Answering::Cut,
            (None, Some("unmarked")) => Answering::Unmarked,
            _ => panic!("no table answers {word}"),
        }
    }

    /// The error, if it is one.
    pub(super) fn refusal(self, table: &str, sql: &str) -> Option<Refusal> {
        Some(match self {
            Answering::Full | Answering::Rows(_) | Answering::Cut | Answering::Unmarked => return None,
            Answering::Internal => Refusal::internal(),
            Answering::NotReady => Refusal::not_ready(),
            Answering::NoHost => Refusal::statement(
                sql,
                "Error starting pull query: Cannot determine which host contains the required partitions to serve the \
                 pull query. \nThe underlying persistent query may be restarting (e.g. as a result of ALTER SYSTEM) \
                 view the status of your by issuing <DESCRIBE foo>.",
            )
            .planner(),
            Answering::Ending => Refusal::statement(
                sql,
                "Error starting pull query: KafkaStreams is not running. State is PENDING_SHUTDOWN.",
            )
            .planner(),
            Answering::NotQueryable => not_queryable(table, sql),
            Answering::Missing => {
                Refusal::statement(sql, format!("Exception while preparing statement: {table} does not exist."))
            }
        })
    }
}

pub(super) fn not_queryable(table: &str, sql: &str) -> Refusal {
    let message = format!(
        "The `{table}` table isn't queryable. To derive a queryable table, you can do 'CREATE TABLE QUERYABLE_{table} AS \
         SELECT * FROM {table}'. See https://cnfl.io/queries for more info.\nAdd EMIT CHANGES if you intended to issue a \
         push query."
    );
    Refusal::statement(sql, message).planner()
}

/// The tables that one reading asks, by the letters of the captured timelines.
pub(crate) const READ: [(&str, &str); 7] = [
    ("T", "ASSETS_TYPE"),
    ("S", "DOCKER_SERVICES"),
    ("V", "ASSETS_AVAIL"),
    ("U", "ASSET_TO_UNS_MAP"),
    ("C", "DEVICE_CONNECTOR"),
    ("M", "METRICS_TARGETS"),
    ("A", "ASSETS"),
];

/// What holds for a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    /// The server as a whole.
    pub(crate) server: Server,
    /// Tables that do not answer in full.
    pub(crate) tables: BTreeMap<String, Answering>,
    /// It ends at the latest after this time.
    pub(crate) at_most: Duration,
    /// It ends when a reading is through: all of [`READ`] were asked, or one that was answered is asked again, or
    /// one is asked once more after it answered [`ERRORS`] times with its error.
    pub(crate) one_reading: bool,
    /// Which rows of a part are seen: the oldest, or any others.
    pub(crate) seed: u64,
}

impl Step {
    /// For everybody the same, for a time.
    pub(crate) fn server(server: Server, time: Duration) -> Step {
        Step { server, at_most: time, ..Step::default() }
    }

    /// One line of a scenario.
    pub(crate) fn of(line: &Value) -> Step {
        for name in line.as_object().unwrap().keys() {
            assert!(
                ["server", "tables", "ms", "one_reading", "seed", "note"].contains(&name.as_str()),
                "what is {name}?"
            );
        }
        let server = match line["server"].as_str() {
            None => Server::Up,
            Some("refused") => Server::Refused,
            Some("not_ready") => Server::NotReady,
            Some("paused") => Server::Paused,
            Some("bad_gateway") => Server::BadGateway,
            Some("page") => Server::Page,
            Some(other) => panic!("no server is {other}"),
        };
        let mut tables = BTreeMap::new();
        for (name, word) in line["tables"].as_object().into_iter().flatten() {
            if name == "*" {
                tables.extend(READ.map(|(_, table)| (table.to_owned(), Answering::of(word))));
            }
        }
        for (name, word) in line["tables"].as_object().into_iter().flatten().filter(|(name, _)| *name != "*") {
            tables.insert(name.clone(), Answering::of(word));
        }
        Step {
            server,
            tables,
            at_most: Duration::from_millis(line["ms"].as_u64().unwrap_or(2000)),
            one_reading: line["one_reading"].as_bool().unwrap_or(server == Server::Up),
            seed: line["seed"].as_u64().unwrap_or_default(),
        }
    }

    /// The steps of a captured timeline: `HH:MM:SS T=1 S:500 T:503 …`, `T!Connection refused`.
    pub(crate) fn timeline(text: &str) -> Vec<Step> {
        let is_time =
            |line: &&str| line.get(..8).is_some_and(|time| time.split(':').all(|part| part.parse::<u8>().is_ok()));
        text.lines()
            .filter(is_time)
            .map(|line| {
                let mut step = Step { at_most: MOMENT, one_reading: true, ..Step::default() };
                let words: Vec<&str> = line[8..].split_whitespace().collect();
                for (letter, table) in READ {
                    let Some(rest) = words
                        .iter()
                        .find_map(|word| word.strip_prefix(letter).filter(|rest| rest.starts_with(['=', ':', '!'])))
                    else {
                        continue;
                    };
                    if rest.starts_with('!') {
                        step.server = Server::Refused;
                    } else if rest == ":503" {
                        // The server came up while it was asked for the others.
                        step.tables.insert(table.to_owned(), Answering::NotReady);
                    } else if rest == ":500" {
                        step.tables.insert(table.to_owned(), Answering::Internal);
                    } else {
                        let rows = rest.strip_prefix('=').and_then(|rows| rows.parse().ok());
                        step.tables.insert(table.to_owned(), Answering::Rows(rows.expect("a number of rows")));
                    }
                }
                if words.iter().filter(|word| word.ends_with(":503")).count() == READ.len() {
                    step = Step { server: Server::NotReady, tables: BTreeMap::new(), ..step };
                }
                if step.server != Server::Up {
                    (step.at_most, step.one_reading) = (Duration::from_secs(1), false);
                }
                step
            })
            .collect()
    }

    /// A recovery as it might have gone: a pause or a restart, tables that come back one by one and in parts.
    /// `rows` says how many each table has in truth.
    pub(crate) fn seeded(seed: u64, rows: &BTreeMap<String, usize>) -> Vec<Step> {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let ms = Duration::from_millis;
        let mut steps = Vec::new();
        match random.below(3) {
            0 => steps.push(Step::server(Server::Paused, ms(500 + random.below(2500)))),
            1 => {
                steps.push(Step {
                    tables: READ.map(|(_, table)| (table.to_owned(), Answering::Ending)).into(),
                    at_most: ms(500),
                    ..Step::default()
                });
                steps.push(Step::server(Server::Refused, ms(500 + random.below(2000))));
                steps.push(Step::server(Server::NotReady, ms(500 + random.below(2000))));
            }
            _ => {
                steps.push(Step::server(Server::Refused, ms(200 + random.below(1000))));
                steps.push(Step::server(Server::NotReady, ms(200 + random.below(1000))));
            }
        }
        let rounds = 3 + random.below(8);
        // Each table is whole from some round on; until then it is whatever it is at that moment.
        let whole: BTreeMap<&str, u64> = READ.map(|(_, table)| (table, random.below(rounds + 1))).into();
        for round in 0..rounds {
            let mut tables = BTreeMap::new();
            for (_, table) in READ {
                if round >= whole[table] {
                    continue;
                }
                let truth = u64::try_from(rows.get(table).copied().unwrap_or_default()).unwrap();
                tables.insert(
                    table.to_owned(),
                    match random.below(6) {
                        0 => Answering::Internal,
                        1 => Answering::NoHost,
                        2 | 3 => Answering::Rows(0),
                        _ => Answering::Rows(usize::try_from(random.below(truth + 1)).unwrap()),
                    },
                );
            }
            let at_most = ms(300 + random.below(1500));
            steps.push(Step {
                tables,
                at_most,
                one_reading: random.below(2) == 0,
                seed: random.next(),
                ..Step::default()
            });
        }
        steps
    }
}

/// Numbers from a seed (xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// An answer that was given while steps were played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The step's number.
    pub(crate) step: usize,
    /// Who was asked.
    pub(crate) table: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// How many rows came with it.
    pub(crate) rows: usize,
}

/// Steps that are being played.
pub(super) struct Playing {
    steps: Vec<Step>,
    at: usize,
    began: Instant,
    /// How often each table was asked in this step, and whether it answered.
    asked: BTreeMap<String, (bool, u8)>,
    pub(super) answered: Vec<Answered>,
}

impl Playing {
    pub(super) fn new(steps: Vec<Step>) -> Playing {
        Playing { steps, at: 0, began: Instant::now(), asked: BTreeMap::new(), answered: Vec::new() }
    }

    fn go_on(&mut self) {
        self.at += 1;
        self.began = Instant::now();
        self.asked.clear();
    }

    /// What holds now; none when everything was played.
    pub(super) fn now(&mut self) -> Option<&Step> {
        while self.steps.get(self.at).is_some_and(|step| self.began.elapsed() >= step.at_most) {
            self.go_on();
        }
        self.steps.get(self.at)
    }

    pub(super) fn step(&mut self) -> usize {
        self.now();
        self.at
    }

    /// The same, when a table is asked by a reading.
    pub(super) fn asked(&mut self, table: &str) -> Option<&Step> {
        let step = self.now()?;
        let every: BTreeSet<&str> = READ.iter().map(|(_, table)| *table).collect();
        let one_reading = step.one_reading;
        let through = self.asked.len() == every.len()
            || self.asked.get(table).is_some_and(|(answered, times)| *answered || *times >= ERRORS);
        if one_reading && through {
            self.go_on();
        }
        self.now()
    }

    pub(super) fn answered(&mut self, table: &str, status: u16, rows: usize) {
        if self.at < self.steps.len() {
            let times = self.asked.get(table).map_or(0, |(_, times)| *times);
            self.asked.insert(table.to_owned(), (status == 200, times + 1));
        }
        self.answered.push(Answered { step: self.at, table: table.to_owned(), status, rows });
    }
}
