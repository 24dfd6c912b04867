//! OpenFactory's own runs, held against ours: `tests/examples/recordings/NNN-name/`.
//!
//! Each folder holds what OpenFactory's command line was given and what it did. What we would do must mean the
//! same, except where [`ALLOWED`] says otherwise; `docs/compatibility.md` explains every exception to users.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod hashes;
mod load;
mod normal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ofop::model::{Desired, Severity};
use ofop::registry::messages;
use ofop::render::render;
use serde_json::{Value, json};

use normal::{Facts, Messages};

/// Differences that are meant: the case, what differs (a part of the difference's text), and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("080-apps-replicas-3", "DockerService", "the service's real name, not one per replica"),
    ("295-apps-everything", "DockerService", "the service's real name, not one per replica"),
    ("206-dev-mtc-external", "CNC-1-AGENT DockerService", "no service embodies an external agent"),
    ("245-dev-ksql-tables", "CNC-1-AGENT DockerService", "no service embodies an external agent"),
    ("088-apps-memory-units", "MEM-2", "the engine refuses 100 bytes; the original then registers nothing"),
    ("124-apps-logging-loki", "app-1: env", "OPENFACTORY_TEXT_LOG_DIRECTORY is passed on, as was meant"),
    ("215-dev-mtc-resources", "cnc-1-adapter: limits", "the memory limit is honoured"),
    ("232-dev-mtc-docker", "", "the original crashes on MTConnect devices without Swarm"),
    ("240-dev-mtc-down", "down: ", "the original crashes when it tears an MTConnect device down"),
    ("286-dev-mixed", "down: ", "the original crashes when it tears an MTConnect device down"),
];

/// Every case with `name` in it behaves as recorded.
#[test]
fn every_recording_is_reproduced() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/recordings");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 40, "only {} recordings are there", cases.len());
    let mut unexpected = Vec::new();
    let mut used = BTreeSet::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        for difference in Case::read(case).differences() {
            let allowed = ALLOWED.iter().position(|(of, part, _)| *of == name && difference.contains(part));
            match allowed {
                Some(index) => _ = used.insert(index),
                None => unexpected.push(format!("{name}: {difference}")),
            }
        }
    }
    assert!(unexpected.is_empty(), "{} differences:\n{}", unexpected.len(), unexpected.join("\n"));
    let stale: Vec<_> = (0..ALLOWED.len()).filter(|index| !used.contains(index)).map(|index| ALLOWED[index]).collect();
    assert!(stale.is_empty(), "exceptions that nothing needs: {stale:?}");
}

/// One recording.
struct Case {
    folder: PathBuf,
    case: Value,
    expected: Value,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let json = |file: &str| -> Value {
            serde_json::from_str(&std::fs::read_to_string(folder.join(file)).unwrap()).unwrap()
        };
        Case { folder: folder.to_owned(), case: json("case.json"), expected: json("expected.json") }
    }

    fn env(&self) -> BTreeMap<String, String> {
        let base = [
            ("KAFKA_BROKER", "broker-1:9092,broker-2:9092"),
            ("KSQLDB_URL", "http://ksqldb:8088"),
            ("ASSET_ROUTER_URL", "http://asset-router:8000"),
            ("OPENFACTORY_BASE_DOMAIN", "plant.example"),
            ("OPENFACTORY_UNS_SCHEMA", "uns.yml"),
            ("OPENFACTORY_VERSION", "v0.6.6"),
        ];
        let own = self.case["env"].as_object().unwrap();
        base.into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .chain(own.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())))
            .collect()
    }

    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for step in self.expected["steps"].as_array().unwrap() {
            let file = step["file"].as_str().unwrap();
            let (settings, desired) = load::load(&self.folder, file, self.env());
            let (accepted, refused) = (step["accepted"] == json!(true), desired.errors() > 0);
            if accepted == refused {
                let problems: Vec<String> = desired.problems.iter().map(ToString::to_string).collect();
                found.push(format!("accepted: {accepted}, ours says {problems:?}"));
                continue;
            }
            if refused {
                found.extend(self.wrong_place(&desired));
                continue;
            }
            match step["do"].as_str().unwrap() {
                "deploy_apps" | "deploy_devices" => {
                    let ours = render(&desired, settings.platform);
                    found.extend(self.deployed(step, &ours));
                }
                "shut_down_apps" | "shut_down_devices" => found.extend(self.shut_down(step, &desired)),
                other => panic!("a step that nothing is known of: {other}"),
            }
        }
        found
    }

    /// The part of a list of the recording that a step produced.
    fn slice(&self, step: &Value, list: &str) -> &[Value] {
        let range = &step["ranges"][list];
        let bound = |index: usize| usize::try_from(range[index].as_u64().unwrap()).unwrap();
        &self.expected[list].as_array().unwrap()[bound(0)..bound(1)]
    }

    fn deployed(&self, step: &Value, ours: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let bodies = collect(ours, "services");
        if self.case["env"]["DEPLOYMENT_PLATFORM"] == json!("docker") {
            let theirs = self.slice(step, "containers").iter();
            let theirs = theirs.map(|one| (one["name"].as_str().unwrap().to_owned(), one["body"].clone()));
            let ours = bodies.into_iter().map(|body| (body["Name"].as_str().unwrap().to_owned(), body));
            compare(&normal::containers(theirs), &normal::containers(ours), &mut found);
        } else {
            compare(&normal::services(self.slice(step, "services")), &normal::services(&bodies), &mut found);
        }
        let theirs = Messages::recorded(self.slice(step, "kafka"), self.slice(step, "ksql"));
        let mut said = Messages::default();
        for record in collect(ours, "records") {
            said.add(record["source"].as_str().unwrap(), record["key"].as_str(), &record["value"]);
        }
        for key in theirs.0.keys().chain(said.0.keys()).collect::<BTreeSet<_>>() {
            let (theirs, ours) = (theirs.0.get(key), said.0.get(key));
            if theirs != ours {
                found.push(format!("{key}: recorded {}, ours {}", show(theirs), show(ours)));
            }
        }
        found
    }

    /// Everything that the original takes back we take back too, with the same words; where it leaves rows
    /// behind, ours go on.
    fn shut_down(&self, step: &Value, desired: &Desired) -> Vec<String> {
        let mut found = Vec::new();
        if !step["exception"].is_null() {
            found.push(format!("down: the original crashes: {}", step["exception"]["message"]));
        }
        let mut said = Messages::default();
        let records = desired.resources.values().flat_map(|resource| &resource.records);
        for message in records.flat_map(|record| messages::deregister(record, None)) {
            let key = message.key.known().map(|uuid| uuid.as_str());
            said.add(message.source.as_str(), key, &json!(message.value));
        }
        let theirs = Messages::recorded(self.slice(step, "kafka"), self.slice(step, "ksql"));
        for (key, value) in &theirs.0 {
            if said.0.get(key) != Some(value) {
                found.push(format!("down: {key}: recorded {value}, ours {}", show(said.0.get(key))));
            }
        }
        for removed in self.slice(step, "removed") {
            let name = removed["name"].as_str().unwrap();
            let mut services = desired.resources.values().flat_map(|resource| &resource.services);
            if !services.any(|service| service.spec.name.as_str() == name) {
                found.push(format!("down: {name} is removed, ours does not know it"));
            }
        }
        found
    }

    /// A refusal names the place that the original names.
    fn wrong_place(&self, desired: &Desired) -> Option<String> {
        let said: Vec<&str> =
            self.expected["messages"].as_array().unwrap().iter().filter_map(|one| one["text"].as_str()).collect();
        let place = said.iter().find_map(|text| {
            let entry = text.strip_prefix("App '").map(|rest| ("apps", rest));
            let entry = entry.or_else(|| text.strip_prefix("Device '").map(|rest| ("devices", rest)));
            if let Some((kind, rest)) = entry {
                return Some(format!("{kind}.{}", rest.split_once('\'')?.0));
            }
            let mut lines = text.lines().skip_while(|line| !line.contains("validation error"));
            lines.nth(1).map(str::to_owned)
        })?;
        let errors = desired.problems.iter().filter(|problem| problem.severity == Severity::Error);
        let paths: Vec<&str> = errors.map(|problem| problem.path.as_str()).collect();
        let right = paths.iter().any(|path| path.starts_with(&place));
        (!right).then(|| format!("refused at {paths:?} instead of {place}"))
    }
}

/// All items of a list of every rendered resource.
fn collect(rendered: &Value, list: &str) -> Vec<Value> {
    let resources = rendered["resources"].as_array().unwrap().iter();
    resources.flat_map(|resource| resource[list].as_array().unwrap().clone()).collect()
}

fn compare(theirs: &BTreeMap<String, Facts>, ours: &BTreeMap<String, Facts>, found: &mut Vec<String>) {
    for name in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        match (theirs.get(name), ours.get(name)) {
            (Some(theirs), Some(ours)) => {
                for (field, theirs) in theirs {
                    let ours = &ours[field];
                    if theirs != ours {
                        found.push(format!("{name}: {field}: recorded {theirs}, ours {ours}"));
                    }
                }
            }
            (Some(_), None) => found.push(format!("{name}: missing")),
            (None, _) => found.push(format!("{name}: not in the recording")),
        }
    }
}

fn show(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
