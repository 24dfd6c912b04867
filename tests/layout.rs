//! The house keeps its shape: who may import what, as the front page of the crate says.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each module may import of ours, itself aside.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &[]),
    ("config", &["model"]),
    ("lock", &[]),
    ("desired", &["model", "lock"]),
    ("compile", &["model", "desired"]),
    ("plan", &["model", "desired", "compile"]),
    ("elements", &[]),
    ("platform", &["model", "clock", "elements", "lock"]),
    ("registry", &["model", "clock", "elements"]),
    ("render", &["model", "platform", "registry"]),
    ("report", &["model", "clock"]),
    ("notify", &["report", "desired", "config", "model", "clock"]),
    ("http", &["report", "model"]),
    ("reconcile", &["desired", "compile", "plan", "platform", "registry", "report", "model", "clock"]),
    ("testing", &["desired", "compile", "plan", "platform", "registry", "reconcile", "report", "model", "clock"]),
    (
        "cli",
        &[
            "config",
            "desired",
            "compile",
            "plan",
            "platform",
            "registry",
            "render",
            "reconcile",
            "report",
            "http",
            "notify",
            "model",
            "clock",
        ],
    ),
];

/// Adapters that the loop must not know by name: it knows the seams alone.
const ADAPTERS: &[&str] =
    &["crate::platform::swarm", "crate::platform::docker", "crate::registry::embedded", "crate::registry::openfactory"];

/// Files that decide, and therefore neither wait, nor ask the time, nor touch the world.
const PURE: &[&str] = &[
    "src/model",
    "src/compile",
    "src/plan",
    "src/desired/manifest.rs",
    "src/desired/yaml",
    "src/desired/check.rs",
    "src/desired/checked.rs",
    "src/desired/hints.rs",
    "src/desired/coerce.rs",
    "src/desired/policy",
    "src/registry/messages",
    "src/render",
    "src/platform/credentials/file",
    "src/platform/swarm/convert",
    "src/platform/swarm/body",
    "src/platform/docker/convert",
    "src/platform/docker/body",
    "src/reconcile/backoff",
    "src/reconcile/lease/machine",
    "src/report/history/recorder",
    "src/notify/decide",
    "src/notify/format",
    "src/notify/message",
    "src/notify/outcome",
    "src/notify/rules",
    "src/notify/settings",
    "src/notify/shapes",
    "src/notify/template",
];

/// What a pure file does not mention.
const IMPURE: &[&str] = &[
    "tokio",
    "bollard",
    "rdkafka",
    "reqwest",
    "rusqlite",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "SystemTime",
    "Instant",
    "async fn",
    "tracing",
];

struct Source {
    path: String,
    module: String,
    /// The lines that ship: without comments, and without what is compiled for tests alone.
    lines: Vec<(usize, String)>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files(&root().join("src"), &mut paths);
    paths
        .iter()
        .filter(|path| path.file_stem().is_none_or(|name| name != "tests"))
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let module = path.split('/').nth(1).unwrap().trim_end_matches(".rs").to_owned();
            let lines = text
                .lines()
                .enumerate()
                .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
                .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default().to_owned()))
                .collect();
            Source { path, module, lines }
        })
        .collect()
}

/// Modules of ours that a line names.
fn imports(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .map(|(at, _)| &line[at + "crate::".len()..])
        .map(|rest| rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_module_imports_only_what_it_may() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        if matches!(source.module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(allowed) = table.get(source.module.as_str()) else {
            wrong.push(format!("{}: the module is not in the table", source.path));
            continue;
        };
        for (number, line) in &source.lines {
            for name in imports(line) {
                if name != source.module && !allowed.contains(&name) {
                    wrong.push(format!("{}:{number}: {} may not import {name}", source.path, source.module));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_loop_knows_no_adapter() {
    for source in sources().iter().filter(|source| source.module == "reconcile") {
        for (number, line) in &source.lines {
            let known = ADAPTERS.iter().find(|adapter| line.contains(*adapter));
            assert!(known.is_none(), "{}:{number}: {known:?}", source.path);
        }
    }
}

#[test]
fn what_decides_does_not_touch_the_world() {
    let mut wrong = Vec::new();
    for source in sources() {
        let pure = |stem: &&&str| {
            source.path.strip_prefix(**stem).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
        };
        if PURE.iter().find(pure).is_none() {
            continue;
        }
        for (number, line) in &source.lines {
            for word in IMPURE {
                if line.contains(word) {
                    wrong.push(format!("{}:{number}: a pure file mentions {word}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    const FILE: usize = 600;
    for source in sources() {
        let length = std::fs::read_to_string(root().join(&source.path)).unwrap().lines().count();
        assert!(length <= FILE, "{} has {length} lines; split it", source.path);
    }
}

#[test]
fn the_front_page_names_every_module_of_the_table() {
    let page = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for line in page.lines() {
        if let Some(module) = line.strip_prefix("pub mod ") {
            let module = module.trim_end_matches(';');
            assert!(MAY_IMPORT.iter().any(|(name, _)| *name == module), "{module} is not in the table of this test");
        }
    }
}

/// `file::test` in backticks, where `tests/file.rs` or a folder of that name exists.
#[test]
fn the_tests_that_the_documentation_names_exist() {
    let text_of = |name: &str| -> Option<String> {
        let (file, folder) = (root().join(format!("tests/{name}.rs")), root().join("tests").join(name));
        let mut paths = vec![file.clone()];
        if folder.join("main.rs").exists() {
            paths.clear();
            files(&folder, &mut paths);
        } else if !file.exists() {
            return None;
        }
        Some(paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect())
    };
    let (mut named, mut missing) = (0, Vec::new());
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for words in text.split('`').skip(1).step_by(2) {
            let Some((file, test)) = words.split_once("::") else { continue };
            let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let Some(tests) = (is_name(file) && is_name(test)).then(|| text_of(file)).flatten() else { continue };
            named += 1;
            if !tests.contains(&format!("fn {test}(")) {
                missing.push(format!("{}: {words}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
    assert!(named > 30, "{named}: docs/security.md names more");
}
