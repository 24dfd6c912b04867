//! Two commits compared in terms of services: `ofop diff`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/https.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod https;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/repository.rs"]
mod repository;

use https::Server;
use operator::{Operator, Ran};
use repository::Plant;
use serde_json::Value;

fn manifest(name: &str, more: &str) -> String {
    let uuid = name.to_uppercase();
    format!("apps:\n  {name}:\n    uuid: {uuid}\n{more}")
}

/// Three commits: the second changes one app, adds one and takes one away, the third changes what nobody deploys.
struct Story {
    plant: Plant,
    ofop: Operator,
    ids: [String; 3],
}

impl Story {
    fn new() -> Self {
        let plant = Plant::new();
        let variables = "    environment:\n      - TOKEN=s3ntinel-1\n      - MODE=auto\n";
        plant.write("press.yml", &manifest("press", &format!("    image: a:1\n{variables}")));
        plant.write("gone.yml", &manifest("gone", "    image: a:1\n"));
        plant.write("same.yml", &manifest("same", "    image: a:1\n"));
        let first = plant.push("First");
        let variables = "    environment:\n      - TOKEN=s3ntinel-2\n      - MODE=auto\n";
        plant.write(
            "press.yml",
            &manifest("press", &format!("    image: a:2\n    deploy:\n      replicas: 2\n{variables}")),
        );
        plant.write("new.yml", &manifest("new", "    image: a:1\n"));
        plant.git(&plant.work, &["rm", "-q", "gone.yml"]);
        let second = plant.push("Second");
        plant.git(&plant.work, &["tag", "-a", "-m", "A release", "v2"]);
        plant.git(&plant.work, &["push", "-q", "origin", "v2"]);
        plant.write("README.md", "Nothing of this is deployed.\n");
        let third = plant.push("Third");
        // Nobody answers there: no cluster is looked at.
        let ofop = Operator::new("tcp://127.0.0.1:9");
        Story { plant, ofop, ids: [first, second, third] }
    }

    fn diff(&self, arguments: &[&str]) -> Ran {
        self.diff_of(&self.plant.url(), arguments)
    }

    fn diff_of(&self, url: &str, arguments: &[&str]) -> Ran {
        self.ofop.run(&[&["diff", "--git", url], arguments].concat())
    }
}

#[test]
fn two_commits_differ_in_services_and_records_without_values_of_variables() {
    let story = Story::new();
    let [first, second, third] = &story.ids;
    let ran = story.diff(&[first, second]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    for line in [
        "+ create service new (new)",
        "+ register asset NEW (new)",
        "~ update service press (manifest changed)",
        "- remove service gone (no longer described)",
        "- deregister asset GONE (no longer described)",
        "1 to create, 1 to update, 1 to remove",
        "1 of 4 resources the same.",
    ] {
        assert!(ran.out.contains(line), "{line}\n{}", ran.out);
    }
    let field = |name: &str, values: &str| {
        ran.out.lines().any(|line| line.trim_start().starts_with(name) && line.ends_with(values))
    };
    assert!(field("image", "  a:1 -> a:2") && field("replicas", "  1 -> 2"), "{}", ran.out);
    assert!(field("environment.TOKEN", "(hidden) -> (hidden)"), "{}", ran.out);
    assert!(!ran.out.contains("s3ntinel") && !ran.err.contains("s3ntinel") && !ran.out.contains("same.yml"));
    assert!(ran.err.contains("\"First\" by Line Team") && ran.err.contains("\"Second\" by Line Team"), "{}", ran.err);
    let shown = story.diff(&[first, second, "--show-secrets"]);
    assert!(shown.out.contains("s3ntinel-1 -> s3ntinel-2"), "{}", shown.out);

    // The other way round, what was added goes.
    let back = story.diff(&[second, first]);
    assert!(back.out.contains("- remove service new") && back.out.contains("+ create service gone"), "{}", back.out);
    // A commit that changes nothing of what is deployed differs in nothing.
    let none = story.diff(&[second, third]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), "No difference; 3 of 3 resources the same.\n"));
}

#[test]
fn programs_get_the_same_as_json() {
    let story = Story::new();
    let [first, second, _] = &story.ids;
    let ran = story.diff(&[first, second, "-o", "json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["from"]["revision"], &json["to"]["subject"]), (&first.as_str().into(), &"Second".into()));
    let changes: Vec<(&String, &Value)> =
        json["resources"].as_object().unwrap().iter().map(|(id, own)| (id, &own["change"])).collect();
    let expected = [("app/GONE", "removed"), ("app/NEW", "created"), ("app/PRESS", "changed")];
    assert_eq!(changes.len(), 3);
    for ((id, change), expected) in changes.into_iter().zip(expected) {
        assert_eq!((id.as_str(), change.as_str().unwrap()), expected);
    }
    assert_eq!((&json["summary"]["update"], &json["summary"]["remove"]), (&1.into(), &1.into()));
    let press = &json["resources"]["app/PRESS"];
    assert!(press.get("health").is_none() && press["steps"][0]["verb"] == "update", "{press}");
    let mut changes = press["steps"][0]["changes"].as_array().unwrap().iter();
    let token = changes.find(|change| change["field"] == "environment.TOKEN").unwrap();
    assert_eq!((&token["secret"], &token["to"]), (&true.into(), &Value::Null));
}

#[test]
fn a_commit_is_named_as_for_git() {
    let mut story = Story::new();
    let [first, second, third] = &story.ids.clone();
    let server = Server::start();
    server.serve_git(&story.plant.dir.path().join("hub"), None);
    story.ofop.set("OFOP_CA_FILE", server.ca().to_str().unwrap());
    let work = story.plant.work.to_str().unwrap().to_owned();
    for url in [story.plant.url(), work, server.url("/git/plant.git")] {
        for (name, id) in [
            ("HEAD", third),
            ("main", third),
            ("main~1", second),
            ("HEAD^", second),
            ("HEAD~2", first),
            ("@~2", first),
            ("v2", second),
            ("v2~1", first),
            (&second[..9], second),
            (&format!("{}~1", &second[..9]), first),
            (first.as_str(), first),
        ] {
            let ran = story.diff_of(&url, &[name, "main", "-o", "json"]);
            let json: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{url} {name}: {}", ran.err));
            assert_eq!(json["from"]["revision"], id.as_str(), "{url} {name}");
        }
        let ran = story.diff_of(&url, &["main~3", "main"]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.err.contains("no commit `~3`"), "{url}: {}", ran.err);
        assert_eq!(story.diff_of(&url, &["nobody", "main"]).code, Some(2));
    }
}

#[test]
fn what_the_clone_holds_needs_no_server() {
    let story = Story::new();
    let [first, second, _] = &story.ids;
    assert_eq!(story.diff(&[first, second]).code, Some(1));
    std::fs::rename(story.plant.hub(), story.plant.dir.path().join("away")).unwrap();
    let ran = story.diff(&[&first[..10], second]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert_eq!(story.diff(&[first, "main"]).code, Some(2));
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_to_do() {
    let story = Story::new();
    let [first, _, _] = &story.ids;
    let of_a_directory = story.ofop.run(&["diff", "HEAD~1", "HEAD"]);
    assert_eq!(of_a_directory.code, Some(2));
    assert!(of_a_directory.err.contains("--git") && of_a_directory.err.contains("ofop plan"), "{}", of_a_directory.err);
    let unknown = story.diff(&["current", "main"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("nobody knows which commit is in force"), "{}", unknown.err);
    // What a file with a mistake describes is nothing that can be compared.
    story.plant.write("new.yml", &manifest("new", "    imgae: a:1\n"));
    story.plant.push("A typo");
    let broken = story.diff(&[first, "main"]);
    assert_eq!(broken.code, Some(2), "{}", broken.out);
    assert!(broken.err.contains("did you mean `image`") && broken.err.contains("main has 2 errors"), "{}", broken.err);
    assert!(broken.out.contains("update service press"), "{}", broken.out);
}
