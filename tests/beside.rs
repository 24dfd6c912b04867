//! Files beside manifests: what is a manifest, what is not, and what could not be read.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop the test")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ofop::compile::Compiler;
use ofop::desired::directory::{DirectorySource, Options};
use ofop::desired::{Loader, LoaderOptions};
use ofop::model::{Desired, PlatformKind, Settings, Severity};
use tempfile::TempDir;

const COMPOSE: &str = "services:\n  web:\n    image: nginx\n";
const RULES: &str = "groups:\n  - name: plant\n    rules: []\n";
const SCHEMA: &str = "namespace_structure:\n  - asset: ANY\n  - attribute: ANY\nuns_template: asset/attribute\n";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";

fn app(uuid: &str) -> String {
    format!("apps:\n  one:\n    uuid: {uuid}\n    image: demo/app\n")
}

/// A folder that is read and compiled over and over, as a daemon does.
struct Plant {
    _dir: TempDir,
    root: PathBuf,
    loader: Loader<DirectorySource>,
    compiler: Compiler,
}

impl Plant {
    fn new() -> Self {
        Plant::with(|_, _| {})
    }

    fn with(change: impl FnOnce(&PathBuf, &mut LoaderOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("desired");
        fs::create_dir(&root).unwrap();
        let mut options = LoaderOptions::at_once(PlatformKind::Swarm);
        change(&root, &mut options);
        let loader = Loader::new(DirectorySource::new([&root], Options::at_once()), options);
        Plant { _dir: dir, root, loader, compiler: Compiler::new(Settings::default()) }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn desired(&mut self) -> Arc<Desired> {
        self.compiler.compile(&self.loader.load().await.unwrap())
    }
}

fn uuids(desired: &Desired) -> Vec<&str> {
    desired.resources.keys().map(|id| id.uuid.as_str()).collect()
}

/// Names of the files that are no manifests, with the reasons.
fn others(desired: &Desired) -> Vec<(&str, &str)> {
    desired.others.iter().map(|other| (other.file.rsplit('/').next().unwrap(), other.reason.as_str())).collect()
}

fn errors(desired: &Desired) -> Vec<String> {
    let errors = desired.problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(|problem| format!("{}: {}", problem.file.rsplit('/').next().unwrap(), problem.message)).collect()
}

#[tokio::test]
async fn other_yaml_beside_manifests_is_listed_and_holds_nothing_up() {
    let mut plant = Plant::new();
    plant.write("press.yml", app("PRESS"));
    plant.write("app_mill.yml", app("MILL"));
    plant.write("docker-compose.yml", COMPOSE);
    plant.write("rules/alerts.yaml", RULES);
    plant.write("uns.yml", SCHEMA);
    plant.write("topics.yml", "- name: a\n- name: b\n");
    plant.write("empty.yml", "# nothing\n");
    plant.write("template.yml", "{{- if .Values.x }}\nfoo: [\n");
    plant.write("values.json", "{}");
    plant.write("notes.txt", "apps:");
    let desired = plant.desired().await;
    assert_eq!((uuids(&desired), errors(&desired)), (vec!["MILL", "PRESS"], vec![]));
    assert!(desired.complete);
    assert_eq!(desired.files, 2);
    assert_eq!(
        others(&desired),
        [
            ("docker-compose.yml", "is a compose file: it has `services`"),
            ("empty.yml", "is empty"),
            ("alerts.yaml", "has neither `apps` nor `devices`"),
            ("template.yml", "cannot be read as YAML and has neither `apps` nor `devices`"),
            ("topics.yml", "is not a map"),
            ("uns.yml", "is a namespace schema"),
            ("values.json", "is JSON; manifests are YAML, in files that end in .yml or .yaml"),
        ]
    );
}

#[tokio::test]
async fn a_file_that_is_called_like_a_manifest_or_named_by_a_person_or_looks_like_one_is_one() {
    let mut plant = Plant::new();
    plant.write("app_a.yml", COMPOSE);
    plant.write("Dev_b.YAML", "");
    plant.write("half.yml", "x-note: 1\napps:\n  a: {uuid: [\n");
    let desired = plant.desired().await;
    assert!(desired.others.is_empty() && !desired.complete, "{:?}", desired.others);
    let files: std::collections::BTreeSet<String> =
        errors(&desired).iter().map(|error| error.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(files.into_iter().collect::<Vec<_>>(), ["Dev_b.YAML", "app_a.yml", "half.yml"]);

    let file = plant.root.join("rules.yml");
    fs::write(&file, RULES).unwrap();
    let options = LoaderOptions::at_once(PlatformKind::Swarm);
    let mut named = Loader::new(DirectorySource::new([&file], Options::at_once()), options);
    let desired = Compiler::new(Settings::default()).compile(&named.load().await.unwrap());
    assert!(desired.others.is_empty() && desired.errors() > 0, "{:?}", desired.problems);
}

#[tokio::test]
async fn a_manifest_that_is_emptied_or_broken_stays_one_until_it_is_deleted() {
    for text in ["", COMPOSE, "apps", "groups: [", POINTER] {
        let mut plant = Plant::new();
        plant.write("press.yml", app("PRESS"));
        plant.write("mill.yml", app("MILL"));
        assert!(plant.desired().await.complete);
        plant.write("press.yml", text);
        let desired = plant.desired().await;
        assert_eq!(uuids(&desired), ["MILL", "PRESS"], "{text:?}");
        assert!(!desired.complete && desired.errors() > 0 && desired.others.is_empty(), "{text:?}");
        fs::remove_file(plant.root.join("press.yml")).unwrap();
        let desired = plant.desired().await;
        assert_eq!(uuids(&desired), ["MILL"], "{text:?}");
        assert!(desired.complete);
        // What comes later under the same name never was a manifest.
        plant.write("press.yml", RULES);
        assert!(plant.desired().await.complete);
    }
}

#[tokio::test]
async fn a_slip_in_a_section_is_a_warning() {
    let mut plant = Plant::new();
    plant.write("press.yml", "app:\n  one: {uuid: PRESS, image: demo/app}\n");
    let desired = plant.desired().await;
    assert!(desired.complete && desired.errors() == 0);
    let [problem] = desired.problems.as_slice() else { panic!("{:?}", desired.problems) };
    assert_eq!(problem.severity, Severity::Warning);
    assert_eq!(problem.hint.as_deref(), Some("`app` is no section of a manifest; did you mean `apps`?"));
}

#[tokio::test]
async fn the_ending_counts_in_any_case() {
    let mut plant = Plant::new();
    plant.write("app_a.yml", app("A"));
    plant.write("B.YAML", app("B"));
    let desired = plant.desired().await;
    assert_eq!(uuids(&desired), ["A", "B"]);
    fs::rename(plant.root.join("app_a.yml"), plant.root.join("app_a.YML")).unwrap();
    let desired = plant.desired().await;
    assert_eq!((uuids(&desired), desired.complete), (vec!["A", "B"], true));
}

#[tokio::test]
async fn the_namespace_schema_is_never_a_manifest() {
    // The same file by another way, and under the name of a manifest.
    for name in ["app_uns.yml", "line/../app_uns.yml"] {
        let mut plant = Plant::with(|root, options| {
            fs::create_dir(root.join("line")).unwrap();
            options.schema = Some(root.join(name));
        });
        plant.write("app_uns.yml", SCHEMA);
        plant.write("app_a.yml", format!("{}    uns: {{}}\n", app("A")));
        let desired = plant.desired().await;
        assert_eq!((uuids(&desired), errors(&desired)), (vec!["A"], vec![]), "{name}");
        assert_eq!(others(&desired), [("app_uns.yml", "is the namespace schema")]);
        assert!(desired.complete);
    }
}

#[tokio::test]
async fn what_an_ignore_file_names_is_not_looked_at() {
    let mut plant = Plant::new();
    plant.write("app_a.yml", app("A"));
    plant.write("app_bad.yml", "apps: [");
    plant.write("templates/app_t.yml", "apps: [");
    plant.write("line/app_old.yml", app("OLD"));
    plant.write("line/app_new.yml", app("NEW"));
    plant.write("line/app_other.yml", app("OTHER"));
    std::os::unix::fs::symlink("nowhere", plant.root.join("cache")).unwrap();
    assert!(!plant.desired().await.complete);
    plant.write(".ofopignore", "# not ours\n/app_bad.yml\ntemplates/\ncache\n*_other.yml\n");
    plant.write("line/.ofopignore", "*.yml\n!app_new.yml\n");
    let desired = plant.desired().await;
    assert_eq!((uuids(&desired), desired.complete), (vec!["A", "NEW"], true), "{:?}", desired.problems);
    assert!(desired.others.is_empty());
    // One that cannot be read may name anything.
    fs::remove_file(plant.root.join(".ofopignore")).unwrap();
    fs::create_dir(plant.root.join(".ofopignore")).unwrap();
    let desired = plant.desired().await;
    assert!(!desired.complete && errors(&desired).contains(&".ofopignore: is not a file but a folder".to_owned()));
}

#[tokio::test]
async fn content_that_is_not_read_holds_removals() {
    let mut plant = Plant::new();
    plant.write("app_a.yml", app("A"));
    plant.write("hall/app_b.yml", app("B"));
    assert!(plant.desired().await.complete);
    // A folder that was mounted elsewhere and is gone.
    fs::remove_dir_all(plant.root.join("hall")).unwrap();
    std::os::unix::fs::symlink("/nowhere/hall", plant.root.join("hall")).unwrap();
    let desired = plant.desired().await;
    assert!(!desired.complete && desired.errors() == 0, "{:?}", desired.problems);
    assert_eq!(
        desired.problems[0].message,
        "is a symlink that leads nowhere, so that manifests behind it are not read"
    );
    fs::remove_file(plant.root.join("hall")).unwrap();
    assert!(plant.desired().await.complete);
    // A file that Git LFS did not fetch.
    plant.write("rules.yml", POINTER);
    let desired = plant.desired().await;
    assert!(!desired.complete && errors(&desired)[0].starts_with("rules.yml: is a Git LFS pointer"), "{desired:?}");
}

#[tokio::test]
async fn json_that_is_called_like_a_manifest_is_a_warning() {
    let mut plant = Plant::new();
    plant.write("app_a.json", "{\"apps\": {}}");
    let desired = plant.desired().await;
    assert!(desired.complete && desired.problems[0].severity == Severity::Warning);
    assert!(desired.problems[0].hint.as_ref().unwrap().contains("ends in .yml"), "{:?}", desired.problems);
}
