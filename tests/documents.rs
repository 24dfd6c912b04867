//! What contributors and users are pointed at exists, and CI runs the test command and nothing else.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[allow(dead_code, reason = "its main function is cargo's")]
#[path = "../examples/plan.rs"]
mod example;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Every page, as a path below the root.
fn pages() -> Vec<PathBuf> {
    let folders = [".", "docs", "docs/decisions", ".github", ".github/ISSUE_TEMPLATE"];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    pages.sort();
    pages
}

/// The headings of a page as hosts of repositories make anchors of them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let (mut wrong, mut followed) = (Vec::new(), 0);
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', ' ', '\n']).next().unwrap();
            if target.contains("://") || target.is_empty() {
                continue;
            }
            followed += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let is_there = match std::fs::read_to_string(&path) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => anchor.is_empty() && path.exists(),
            };
            if !is_there {
                wrong.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(followed > 100, "{followed}: README.md alone has more");
}

/// Paths in backticks, in the pages for whoever changes the code.
#[test]
fn files_that_contributors_are_pointed_at_exist() {
    let (mut wrong, mut named) = (Vec::new(), 0);
    for page in pages() {
        let path = page.strip_prefix(root()).unwrap();
        if !(path.starts_with("docs/decisions")
            || path == Path::new("CONTRIBUTING.md")
            || path == Path::new("ARCHITECTURE.md"))
        {
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        for words in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "deploy/", "docs/"].iter().any(|folder| words.starts_with(folder));
            if !is_path || words.contains(['*', '…', '{', '\n']) {
                continue;
            }
            named += 1;
            if !root().join(words.split(' ').next().unwrap()).exists() {
                wrong.push(format!("{}: {words}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(named > 50, "{named}");
}

#[test]
fn both_hosts_of_repositories_run_the_test_command_and_show_the_same_forms() {
    for path in [".github/workflows/ci.yml", ".gitlab-ci.yml"] {
        let text = read(path);
        let runs =
            text.lines().map(|line| line.trim_start_matches([' ', '-'])).filter(|line| line.ends_with("tests/run.sh"));
        assert_eq!(runs.count(), 1, "{path}");
        let rust = read("Cargo.toml").lines().find_map(|line| Some(line.strip_prefix("rust-version = ")?.to_owned()));
        let rust = rust.unwrap().trim_matches('"').to_owned();
        assert!(text.contains(&format!("rust:{rust}-")), "{path} tests the oldest toolchain that works, {rust}");
    }
    assert_eq!(read(".github/pull_request_template.md"), read(".gitlab/merge_request_templates/default.md"));
    for name in ["bug", "idea"] {
        let (github, gitlab) =
            (read(&format!(".github/ISSUE_TEMPLATE/{name}.md")), read(&format!(".gitlab/issue_templates/{name}.md")));
        assert_eq!(github.splitn(3, "---").nth(2).unwrap().trim_start(), gitlab, "{name}");
    }
}

/// The list of decisions holds each of them, in order.
#[test]
fn every_decision_is_listed() {
    let list = read("docs/decisions/README.md");
    let mut names: Vec<String> = std::fs::read_dir(root().join("docs/decisions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    names.sort();
    for (at, name) in names.iter().enumerate() {
        let number = at + 1;
        assert!(name.starts_with(&format!("{number:04}-")), "{name}");
        assert!(list.contains(&format!("[{number}]({name})")), "{name}");
        assert!(read(&format!("docs/decisions/{name}")).starts_with(&format!("# {number}. ")), "{name}");
    }
}

#[test]
fn the_example_plans_a_service_that_is_missing() {
    let text = example::text().unwrap();
    assert!(text.contains("app/PRESS-7") && text.contains("create service press-7"), "{text}");
}
