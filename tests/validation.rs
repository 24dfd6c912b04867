//! Every input whose judgement by OpenFactory was recorded is judged the same here, deliberate differences
//! aside. Those are listed below by name; `docs/compatibility.md` says why.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use ofop::desired::namespace::Schema;
use ofop::desired::{Namespace, ParseContext, parse};
use ofop::model::{PlatformKind, Severity};
use serde_json::Value;

/// Accepted by OpenFactory, refused by us: name, path of our error, section of `docs/compatibility.md`.
const REFUSED: &[(&str, &str, &str)] = &[
    ("app/set:apps.a.uns.line=list1", "apps.a.uns.line", "Namespace values"),
    ("uns/hidden-level/{area: 2024-01-02 03:04:05}", "apps.a.uns.area", "Namespace values"),
    ("uns/dup-yaml-key/{site: north}", "apps.a.uns", "Duplicate keys"),
    ("yaml/dup-app", "apps.a", "Duplicate keys"),
    ("yaml/key-alias", "k", "Top-level keys"),
    ("yaml/data-top-key", "data", "Top-level keys"),
    ("app/set:apps.a.routing.port=int0", "apps.a.routing.port", "Ports"),
    ("ext/set:devices.m.connector.agent.port=p65536", "devices.m.connector.agent.port", "Ports"),
    ("app/set:apps.a.deploy.placement.constraints=list1", "apps.a.deploy.placement.constraints.0", "Constraints"),
    (
        "mtc/set:devices.m.connector.agent.deploy.placement.constraints.0=uni",
        "devices.m.connector.agent.deploy.placement.constraints.0",
        "Constraints",
    ),
    ("mtc/set:devices.m.connector.agent.adapter.image=empty", "devices.m.connector.agent.adapter", "Empty texts"),
    ("opc/set:devices.o.uuid=empty", "devices.o.uuid", "Empty texts"),
    ("ext/set:devices.m.uuid=numstr_sp", "devices.m.uuid", "Names"),
    ("str/uuid='a#b'", "apps.a.uuid", "Names"),
    ("str/uuid='1.2.3.4'", "apps.a.uuid", "Names"),
    ("env/uuid-dollar-dollar", "apps.a.uuid", "Names"),
    ("routing/hostname='ΑΣ'", "apps.a.routing.hostname", "Names"),
    ("float/cpus='-1'", "apps.a.deploy.resources.limits.cpus", "Resources"),
    ("float/cpus='\"1e400\"'", "apps.a.deploy.resources.limits.cpus", "Resources"),
    ("yaml/env-colon-item", "apps.a.environment.0", "Environment"),
    ("env/envlist-default-empty-var", "apps.a.environment.1", "Environment"),
    ("env/envlist-prefix", "apps.a.environment.1", "Environment"),
    ("env/envlist-tab", "apps.a.environment.1", "Environment"),
];

struct Judgement {
    accepted: bool,
    paths: Vec<String>,
    text: String,
    /// Problems that leave their reader alone.
    helpless: Vec<String>,
}

fn judge(case: &Value) -> Judgement {
    let schema = case["uns_schema"].as_str().unwrap();
    let schema = Schema::parse(&"uns.yml".into(), schema);
    if case["kind"] == "uns" {
        return match schema {
            Ok(_) => Judgement { accepted: true, paths: Vec::new(), text: String::new(), helpless: Vec::new() },
            Err(problems) => judgement(&problems, false),
        };
    }
    let namespace = match schema {
        Ok(schema) => Namespace::Schema(Arc::new(schema)),
        Err(_) => Namespace::Invalid,
    };
    let variables: BTreeMap<String, String> = serde_json::from_value(case["env"].clone()).unwrap();
    let context = ParseContext {
        // The recordings judge files alone, and `local` storage is valid there.
        platform: PlatformKind::Docker,
        variables: Arc::new(variables),
        namespace,
        directory_exists: |path| std::path::Path::new(path).is_dir(),
        ..ParseContext::new(PlatformKind::Docker)
    };
    let parsed = parse(&"case.yml".into(), case["yaml"].as_str().unwrap(), [0; 32], &context);
    judgement(&parsed.problems, parsed.manifest.is_some())
}

fn judgement(problems: &[ofop::model::Problem], accepted: bool) -> Judgement {
    let errors: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    Judgement {
        accepted,
        paths: errors.iter().map(|problem| problem.path.clone()).collect(),
        text: errors.iter().map(|problem| format!("    {problem}\n")).collect(),
        // The words that are possible are in the message of a wrong one.
        helpless: problems
            .iter()
            .filter(|problem| problem.hint.is_none() && !problem.message.starts_with("must be `"))
            .map(|problem| format!("{problem}\n"))
            .collect(),
    }
}

/// Our path in the form of the recordings: dots for brackets.
fn plain(path: &str) -> String {
    path.replace('[', ".").replace([']', '"'], "")
}

/// A recorded path without the names of the types that pydantic tried.
fn without_types(path: &str) -> String {
    let parts = path.split('.').filter(|part| {
        !matches!(*part, "nfs" | "local" | "mtconnect" | "opcua" | "shdr" | "str" | "list[str]" | "[key]")
    });
    parts.collect::<Vec<_>>().join(".")
}

#[test]
fn files_are_judged_as_openfactory_judges_them() {
    let cases = std::fs::read_to_string("tests/examples/validation.jsonl").unwrap();
    let (mut wrong, mut helpless) = (String::new(), String::new());
    let mut count = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let ours = judge(&case);
        helpless.extend(ours.helpless.iter().map(String::as_str));
        let theirs = case["accepted"].as_bool().unwrap();
        count += 1;
        if let Some((_, path, _)) = REFUSED.iter().find(|(refused, _, _)| *refused == name) {
            if ours.accepted || !theirs || !ours.paths.iter().any(|ours| plain(ours) == *path) {
                wrong += &format!("{name}: listed as refused at {path}, but\n{}", ours.text);
            }
            continue;
        }
        if ours.accepted != theirs {
            wrong += &format!("{name}: accepted there {theirs}, here {}\n{}", ours.accepted, ours.text);
            continue;
        }
        for error in case["errors"].as_array().unwrap() {
            let path = without_types(error[0].as_str().unwrap());
            // We may say more exactly where: at a field instead of its map.
            let whole = ours.paths.iter().any(String::is_empty);
            let found = whole
                || ours.paths.iter().any(|ours| {
                    let ours = plain(ours);
                    ours == path || ours.starts_with(&format!("{path}.")) || path.is_empty()
                });
            if !found {
                wrong += &format!("{name}: no error at {path}\n{}", ours.text);
            }
        }
    }
    assert!(count > 300);
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(helpless.is_empty(), "a problem says what to do about it:\n{helpless}");
}
