//! Plans as people and programs read them.

use std::sync::Arc;

use ofop::model::service::EnvVar;
use ofop::model::{Condition, ConditionKind, Problem, Severity};
use ofop::plan::{MAX_CHARACTERS, Memory, ShowSecrets, TextOptions, to_json, to_markdown, to_text};

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
        service.spec_mut().env = vec![EnvVar::new("APP_UUID", "EDITED"), EnvVar::new("TOKEN", "stolen-value")];
        service.spec_mut().replicas = 4;
        service.spec_mut().image = format!("registry/{}:2", "a-very-long-name/".repeat(5));
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
    world.edit("a", |service| service.spec_mut().image = "evil\u{1b}[2J:1".into());
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    let text = to_text(&plan, TextOptions::default());
    assert!(text.contains("evil\\u{1b}[2J:1") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_comment_folds_each_resource_and_shows_no_secret() {
    let (mut world, wanted, memory) = busy();
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    let warning = Problem { severity: Severity::Warning, ..Problem::file("app_EDITED.yml", "`dev` is not read") };
    let error =
        Problem { line: 4, column: 5, path: "apps.x.imgae".into(), ..Problem::file("app_X.yml", "unknown field") };
    let text = to_markdown(&plan, &[warning, error.hint("did you mean `image`?")]);
    golden("busy.md", &text);
    for value in ["s3cret-value", "stolen-value"] {
        assert!(!text.contains(value), "{text}");
    }
}

#[test]
fn a_comment_names_removals_that_are_held() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&desired([app("A", |_| {}), app("B", |_| {})]), &policy(), &mut memory);
    let plan = ofop::plan::plan(&desired([]), &world.observe(), &policy(), &memory);
    golden("blocked.md", &to_markdown(&plan, &[]));
    let nothing = ofop::plan::plan(&desired([]), &World::default().observe(), &policy(), &Memory::default());
    let quiet = "### Plan: nothing to do\n\nRevision `0123456789ab`; 0 of 0 resources in sync.\n\n";
    assert_eq!(to_markdown(&nothing, &[]), quiet);
}

/// What of a Markdown text is not inside a fenced block, by the rules of CommonMark: a fence ends with a row of at
/// least as many backticks and nothing else.
fn outside_of_fences(text: &str) -> String {
    let mut open: Option<usize> = None;
    let mut outside = String::new();
    for line in text.lines() {
        let row = line.chars().take_while(|c| *c == '`').count();
        let rest = &line[row..];
        match open {
            Some(length) if row >= length && rest.trim().is_empty() => open = None,
            Some(_) => {}
            None if row >= 3 && !rest.contains('`') => open = Some(row),
            None => outside.push_str(&format!("{line}\n")),
        }
    }
    assert_eq!(open, None, "a fence is left open in {text}");
    outside
}

#[test]
fn nothing_in_a_comment_becomes_markup_a_link_or_a_mention() {
    const NASTY: [&str; 6] = [
        "<script>alert(1)</script></code></summary>",
        "@everybody #1 GH-1 https://evil.example www.evil.example a@evil.example",
        "`a` ``b`` ```c ````d~~~~",
        "| a | b |\n|---|---|\n- [ ] **bold** [text](https://evil.example) ![x](y)",
        "\n```\n</details>\n# Heading\n\n<img src=x onerror=y>\n````\n",
        "left\u{202e}right\u{2066}\u{200b}\u{2028}line\r\nline",
    ];
    let (mut world, mut memory) = (World::default(), Memory::default());
    let wanted = desired([app("A", |_| {}), app("B", |_| {})]);
    world.converge(&wanted, &policy(), &mut memory);
    for nasty in NASTY {
        let mut world = world.clone();
        world.edit("a", |service| {
            service.spec_mut().image = nasty.into();
            service.spec_mut().command = vec![nasty.into()];
            service.spec_mut().env.push(EnvVar::new(nasty, nasty));
            service.spec_mut().labels.insert(format!("traefik.http.routers.a.{nasty}"), nasty.into());
        });
        let mut plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
        let mut told = (*plan.resources.remove(&crate::world::app_id("A")).unwrap()).clone();
        // Uuids hold any printable character.
        let uuid: String = nasty.chars().filter(|c| !c.is_control() && *c != '\u{2028}').take(100).collect();
        let id = ofop::model::ResourceId::app(crate::world::uuid(uuid.trim()));
        let kind = ConditionKind::Conflict;
        told.conditions.push(Condition {
            kind,
            reason: nasty.into(),
            message: nasty.into(),
            since: std::time::Duration::ZERO,
        });
        told.origin.as_mut().unwrap().file = nasty.into();
        plan.resources.insert(id.clone(), Arc::new(told));
        plan.prune = ofop::model::PruneVerdict::Blocked {
            resources: vec![id],
            reason: ofop::model::PruneBlock::InvalidManifests,
        };
        let problem = Problem { path: nasty.into(), line: 1, column: 1, ..Problem::file(nasty, nasty) }.hint(nasty);
        let text = to_markdown(&plan, &[problem]);
        assert!(!text.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}', '\r']), "{text}");
        let outside = outside_of_fences(&text);
        for line in outside.lines() {
            let own = line.is_empty()
                || line == "<details>"
                || line == "</details>"
                || line.starts_with("### Plan: ")
                || line.starts_with("Revision `0123456789ab`; ")
                || line == "**1 error in the manifests.** A file with an error takes no part, and nothing is removed."
                || line.starts_with("**Removals are held (1 resource):** ");
            let Some(summary) = line.strip_prefix("<summary><code>") else {
                assert!(own, "{line:?} in {text}");
                continue;
            };
            let (name, words) = summary.split_once("</code>").unwrap();
            assert!(!name.contains(['<', '>', '"']), "{line}");
            assert_eq!(words, " 1 to update, 1 conflict</summary>");
        }
        assert_eq!(outside.matches("<summary>").count(), 1, "{text}");
    }
}

#[test]
fn a_comment_keeps_within_the_limit_and_counts_the_rest() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let many: Vec<_> = (0..2_000).map(|number| app(&format!("NEW-{number:04}"), |_| {})).collect();
    world.converge(&desired([app("A", |_| {}), app("GONE", |_| {})]), &policy(), &mut memory);
    world.edit("a", |service| {
        // The longest that a single resource can be.
        service.spec_mut().image = "é".repeat(5_000);
        service.spec_mut().env = (0..500).map(|at| EnvVar::new(format!("{}{at}", "ü".repeat(300)), "x")).collect();
    });
    let wanted = desired(many.into_iter().chain([app("A", |_| {})]));
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    let problem = |at| Problem::file(format!("{at}{}", "d/".repeat(400)), "is wrong").hint("mend it".repeat(100));
    let problems: Vec<_> = (0..100).map(problem).collect();
    for problems in [&problems[..], &[]] {
        let text = to_markdown(&plan, problems);
        let length = text.chars().count();
        assert!(length <= MAX_CHARACTERS && length > MAX_CHARACTERS - 2_000, "{length}");
        outside_of_fences(&text);
        let shown = text.matches("<summary>").count();
        let closing =
            format!("{} more resources did not fit into this comment; `ofop plan` shows them.\n", 2_002 - shown);
        assert!(text.ends_with(&closing), "{shown}");
        assert!(text.find("app/GONE").unwrap() < text.find("app/A<").unwrap(), "what goes comes first");
        assert!(text.contains("more lines; `ofop plan` shows them"));
        assert_eq!(text.contains("and 70 more\n"), !problems.is_empty());
    }
}

#[test]
fn a_suspension_of_everything_is_said_once() {
    let (mut world, wanted, mut memory) = busy();
    memory.command(&ofop::model::Command::Suspend(None, ofop::model::Term::default()), "2026-01-02T03:04:05Z");
    let plan = ofop::plan::plan(&wanted, &world.observe(), &policy(), &memory);
    assert_eq!(plan.steps(), 0);
    let text = to_text(&plan, TextOptions::default());
    let end = "! Everything is suspended since 2026-01-02T03:04:05Z.\n  `ofop resume --all` ends that.\n";
    assert!(text.ends_with(end) && text.matches("Suspended").count() == 0, "{text}");
    assert!(text.contains("update service edited (modified outside the manifests), waits for `resume`"), "{text}");
    let comment = to_markdown(&plan, &[]);
    let told = "**Everything is suspended:** nothing is done until `ofop resume --all`.";
    assert!(comment.contains(told) && !comment.contains("Suspended"), "{comment}");
}
