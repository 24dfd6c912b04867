//! The hash of every service of the corpus, held against `tests/recordings/hashes.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ofop::compile::Compiler;
use ofop::desired::{ParseContext, ParsedTree, parse};
use ofop::model::{Desired, PlatformKind, Settings};

use super::{Case, load};

/// What somebody who breaks it has to know.
const BROKEN: &str = "\
a spec hash has changed. The hash is in a label of every running service: with another one, an update of the operator
writes every service of every user once more and forgets which updates the engine rolled back, so that a broken one is
sent again. A field that is added must be left out of the canonical form where it has its default
(src/compile/hash.rs). Only if what a service *is* has changed on purpose (another image, variable, label) may a line of
tests/recordings/hashes.txt be replaced; `OFOP_WRITE_HASHES=1` writes the file anew";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/hashes.txt")
}

fn note(found: &mut BTreeMap<String, String>, of: &str, desired: &Desired) {
    for service in desired.resources.values().flat_map(|resource| &resource.services) {
        found.insert(format!("{of} {}", service.spec.name), service.hash.0.clone());
    }
}

fn yaml_files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            found.insert(path);
        }
    }
}

/// The shipped example, with the settings of a fresh installation.
fn example(platform: PlatformKind) -> Arc<Desired> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeSet::new();
    yaml_files(&root.join("desired"), &mut files);
    let mut tree = ParsedTree::default();
    for file in files {
        let shown: Arc<str> = file.strip_prefix(root).unwrap().to_string_lossy().into();
        let text = std::fs::read_to_string(&file).unwrap();
        tree.files.push(parse(&shown, &text, [0; 32], &ParseContext::new(platform)));
    }
    Compiler::new(Settings { platform, ..Settings::default() }).compile(&tree)
}

#[test]
fn the_hash_of_every_service_of_the_corpus_stays_what_it_is() {
    let mut found = BTreeMap::new();
    note(&mut found, "desired/swarm", &example(PlatformKind::Swarm));
    note(&mut found, "desired/docker", &example(PlatformKind::Docker));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/recordings");
    for case in std::fs::read_dir(folder).unwrap() {
        let case = Case::read(&case.unwrap().path());
        let name = case.folder.file_name().unwrap().to_string_lossy().into_owned();
        let files: BTreeSet<&str> =
            case.expected["steps"].as_array().unwrap().iter().filter_map(|step| step["file"].as_str()).collect();
        for file in files {
            let (_, desired) = load::load(&case.folder, file, case.env());
            note(&mut found, &format!("{name}/{file}"), &desired);
        }
    }
    let text: String = found.iter().map(|(service, hash)| format!("{hash} {service}\n")).collect();
    if std::env::var_os("OFOP_WRITE_HASHES").is_some() {
        std::fs::write(golden(), &text).unwrap();
    }
    let golden = std::fs::read_to_string(golden()).unwrap();
    assert!(golden.lines().count() >= 40, "the file of golden hashes is cut");
    let lost: Vec<&str> = golden
        .lines()
        .filter(|line| line.split_once(' ').is_none_or(|(hash, of)| found.get(of).is_none_or(|now| now != hash)))
        .collect();
    assert!(lost.is_empty(), "{BROKEN}:\n{}", lost.join("\n"));
}
