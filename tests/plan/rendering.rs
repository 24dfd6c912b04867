//! Plans as people and programs read them.

use ofop::model::service::EnvVar;
use ofop::plan::{Memory, ShowSecrets, TextOptions, to_json, to_text};

use crate::world::{World, app, desired, device, policy};

/// Compares with a file; with `UPDATE_GOLDEN` set, writes it.
fn golden(file: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan_golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
}

/// A world in which everything happens at once, and the manifests for it.
fn busy() -> (World, ofop::model::Desired, Memory) {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let steady: Vec<_> = ["S1", "S2", "S3"].into_iter().map(|id| app(id, |_| {})).collect();
    let before = steady.iter().cloned().chain([app("EDITED", |_| {}), app("GONE", |_| {}), app("LOST", |_| {})]);
    world.converge(&desired(before), &policy(), &mut memory);
    world.edit("edited", |service| {
        service.spec.env = vec![EnvVar::new("APP_UUID", "EDITED"), EnvVar::new("TOKEN", "stolen-value")];
        service.spec.replicas = 4;
        service.spec.image = format!("registry/{}:2", "a-very-long-name/".repeat(5));
    });
    world.remove_by_hand("lost");
    let stranger = app("TAKEN", |spec| spec.image = "somebody/else".into());
    world.insert((*stranger.services[0].spec).clone(), None);
    let after = steady.into_iter().chain([
        app("EDITED", |_| {}),
        app("LOST", |_| {}),
        app("TAKEN", |_| {}),
        app("NOWHERE", |spec| spec.networks = vec!["absent-net".into()]),
        device("CNC-1"),
    ]);
    (world, desired(after), memory)
}

#[test]
fn a_plan_reads_like_a_diff_with_reasons_and_no_secret() {
    let (mut world, wanted, memory) = busy();
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    let text = to_text(&plan, TextOptions::default());
    golden("busy.txt", &text);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn values_of_the_environment_show_only_when_asked_for() {
    let (mut world, wanted, memory) = busy();
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    for secrets in [ShowSecrets::No, ShowSecrets::Yes] {
        let shown = secrets == ShowSecrets::Yes;
        let text = to_text(&plan, TextOptions { secrets, width: 0, color: true });
        let json = to_json(&plan, secrets).to_string();
        for value in ["s3cret-value", "stolen-value"] {
            assert_eq!(text.contains(value), shown, "{text}");
            assert_eq!(json.contains(value), shown, "{json}");
        }
    }
}

#[test]
fn json_names_every_resource_with_its_steps_and_what_they_wait_for() {
    let (mut world, wanted, memory) = busy();
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    let json = to_json(&plan, ShowSecrets::No);
    assert_eq!(json["resources"].as_object().unwrap().len(), 9);
    assert_eq!(json["summary"]["update"], 1);
    assert_eq!(json["prune"]["state"], "allowed");
    assert_eq!(json["prune"]["resources"][0], "app/GONE");
    let gone = &json["resources"]["app/GONE"]["held"];
    assert_eq!(gone[0]["waits_for"], "a second look");
    assert_eq!(gone[1]["waits_for"], "its services to go");
    let edited = &json["resources"]["app/EDITED"]["steps"][0];
    assert_eq!((&edited["verb"], &edited["reason"]), (&"update".into(), &"modified".into()));
    let token = edited["changes"].as_array().unwrap().iter().find(|change| change["field"] == "environment.TOKEN");
    assert_eq!(token.unwrap()["secret"], true);
}

#[test]
fn nothing_to_do_is_one_line() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    assert_eq!(to_text(&plan, TextOptions::default()), "Nothing to do; 1 of 1 resource in sync.\n");
}

#[test]
fn a_blocked_removal_says_what_to_do() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let plan = ofop::plan::plan(&desired([]), &world.observe(), &policy(), &memory);
    let text = to_text(&plan, TextOptions::default());
    golden("blocked.txt", &text);
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    world.edit("a", |service| service.spec.image = "evil\u{1b}[2J:1".into());
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    let text = to_text(&plan, TextOptions::default());
    assert!(text.contains("evil\\u{1b}[2J:1") && !text.contains('\u{1b}'), "{text}");
}
