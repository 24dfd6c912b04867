//! The directory source on real files: what counts as a manifest, what is refused, and that every way of
//! changing files is noticed without the help of the timer.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may stop the test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use ofop::desired::directory::{DirectorySource, Options};
use ofop::desired::{Limits, Source, Timing, Tree};
use ofop::model::SourceTrouble;
use tempfile::TempDir;

/// Far more than a hint takes on a busy machine, and far less than the timed scan of these tests.
const LONG: Duration = Duration::from_secs(60);

/// A source, its hints, and the folder.
struct Watched {
    source: DirectorySource,
    hints: Pin<Box<dyn Stream<Item = ()> + Send>>,
}

impl Watched {
    /// Watches a folder; what happens from here on must be noticed by events alone.
    async fn new(root: &Path) -> Self {
        let timing = Timing { rescan: Duration::from_secs(24 * 3600), ..Timing::default() };
        let source = DirectorySource::new([root], Options { timing, ..Options::watching(timing.rescan) });
        let hints = Box::pin(source.changes());
        let mut watched = Watched { source, hints };
        // The hint that tells that watching began, the look, and the hint that its folders are watched.
        watched.hint().await;
        let _ = watched.source.load().await;
        watched
    }

    async fn hint(&mut self) {
        tokio::time::timeout(LONG, self.hints.next()).await.expect("no hint came").expect("the hints ended");
    }

    /// Loads after each hint until the tree is as it should be.
    async fn until(&mut self, wanted: impl Fn(&Result<Tree, SourceTrouble>) -> bool) -> Result<Tree, SourceTrouble> {
        let watch = async {
            loop {
                let tree = self.source.load().await;
                if wanted(&tree) {
                    return tree;
                }
                self.hint().await;
            }
        };
        tokio::time::timeout(LONG, watch).await.expect("the tree never became what it should be")
    }

    async fn until_files(&mut self, wanted: &[(&str, &str)]) {
        self.until(|tree| tree.as_ref().is_ok_and(|tree| texts(tree) == owned(wanted))).await.unwrap();
    }
}

fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| (String::from(*name), String::from(*text))).collect()
}

/// Names below the root and texts, or reasons in angle brackets.
fn texts(tree: &Tree) -> Vec<(String, String)> {
    let common = tree.files.first().map_or(0, |file| {
        let tmp = file.path.find("root").expect("test folders are called root");
        tmp + "root".len() + 1
    });
    let text = |content: &Result<std::sync::Arc<str>, String>| match content {
        Ok(text) => text.to_string(),
        Err(reason) => format!("<{reason}>"),
    };
    tree.files.iter().map(|file| (file.path[common.min(file.path.len())..].to_owned(), text(&file.content))).collect()
}

fn root() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    (dir, root)
}

/// What is said of something that nobody may read.
const DENIED: &str = "<cannot be read: Permission denied>";

/// Whether permissions of files mean anything to this process. The superuser reads what it likes, so that the test
/// of this name is then run once more without that power, in a process of its own.
fn permissions_count(test: &str) -> bool {
    const POWERS: &str = "-dac_override,-dac_read_search";
    let (_dir, root) = root();
    let file = root.join("a");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&file).is_err() {
        return true;
    }
    let without = Command::new("setpriv")
        .args(["--inh-caps", POWERS, "--bounding-set", POWERS])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .output()
        .expect("setpriv runs (util-linux)");
    let said = String::from_utf8_lossy(&without.stdout);
    assert!(without.status.success() && said.contains("1 passed"), "{said}");
    false
}

async fn load(root: &Path) -> Tree {
    DirectorySource::new([root], Options::at_once()).load().await.unwrap()
}

#[tokio::test]
async fn every_yaml_file_below_the_root_counts_and_leftovers_of_editors_do_not() {
    let (_dir, root) = root();
    for folder in ["line1/cell", ".git", "..2026"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for name in ["b.yml", "a.yaml", "line1/cell/c.yml", "README.md", ".b.yml.swp", ".#b.yml", "#b.yml#", "b.yml~"] {
        fs::write(root.join(name), name).unwrap();
    }
    for name in [".git/x.yml", "..2026/x.yml", ".hidden.yml", "a.yml.bak"] {
        fs::write(root.join(name), name).unwrap();
    }
    let tree = load(&root).await;
    assert_eq!(
        texts(&tree),
        owned(&[("a.yaml", "a.yaml"), ("b.yml", "b.yml"), ("line1/cell/c.yml", "line1/cell/c.yml")])
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_in_the_tree_with_the_reason() {
    let (dir, root) = root();
    fs::write(dir.path().join("outside.yml"), "apps: {}").unwrap();
    symlink(dir.path().join("outside.yml"), root.join("a_out.yml")).unwrap();
    symlink("../outside.yml", root.join("b_out.yml")).unwrap();
    symlink(dir.path(), root.join("c_folder_out")).unwrap();
    symlink("nowhere.yml", root.join("d_dangling.yml")).unwrap();
    symlink("e_loop.yml", root.join("e_loop.yml")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("f_fifo.yml")).status().unwrap().success());
    fs::write(root.join("g_big.yml"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    fs::write(root.join("h_latin1.yml"), b"apps:\n  \xe4").unwrap();
    fs::write(root.join("i_good.yml"), "apps: {}").unwrap();
    let tree = load(&root).await;
    let out = "<is a symlink that leads out of the folder; copy the file instead>";
    assert_eq!(
        texts(&tree),
        owned(&[
            ("a_out.yml", out),
            ("b_out.yml", out),
            ("c_folder_out", out),
            ("d_dangling.yml", "<is a symlink that leads nowhere>"),
            ("e_loop.yml", "<cannot be read: Too many levels of symbolic links>"),
            ("f_fifo.yml", "<is not a file but a FIFO>"),
            ("g_big.yml", "<is 1048577 bytes long; at most 1048576 (1 MiB) are read>"),
            ("h_latin1.yml", "<is not UTF-8: byte 0xe4 at line 2, column 3>"),
            ("i_good.yml", "apps: {}"),
        ])
    );
}

#[tokio::test]
async fn a_file_without_read_permission_is_refused_and_counts_again_once_it_has_it() {
    if !permissions_count("a_file_without_read_permission_is_refused_and_counts_again_once_it_has_it") {
        return;
    }
    let (_dir, root) = root();
    let file = root.join("a.yml");
    fs::write(&file, "apps: {}").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let mut watched = Watched::new(&root).await;
    watched.until_files(&[("a.yml", DENIED)]).await;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    watched.until_files(&[("a.yml", "apps: {}")]).await;
}

#[tokio::test]
async fn files_in_a_folder_that_cannot_be_read_are_refused_and_not_gone() {
    if !permissions_count("files_in_a_folder_that_cannot_be_read_are_refused_and_not_gone") {
        return;
    }
    let (_dir, root) = root();
    let line = root.join("line");
    fs::create_dir_all(line.join("cell")).unwrap();
    for name in ["a.yml", "cell/b.yml"] {
        fs::write(line.join(name), "apps: {}").unwrap();
    }
    fs::write(root.join("z.yml"), "apps: {}").unwrap();
    let good = [("line/a.yml", "apps: {}"), ("line/cell/b.yml", "apps: {}"), ("z.yml", "apps: {}")];
    let mut watched = Watched::new(&root).await;
    watched.until_files(&good).await;

    // Its names cannot be listed: what was known below it is still there.
    let below = "<its folder cannot be read: Permission denied>";
    fs::set_permissions(&line, fs::Permissions::from_mode(0o300)).unwrap();
    let unlisted = [("line", DENIED), ("line/a.yml", below), ("line/cell/b.yml", below), ("z.yml", "apps: {}")];
    watched.until_files(&unlisted).await;
    // Who sees it for the first time knows at least that something is there.
    assert_eq!(texts(&load(&root).await), owned(&[("line", DENIED), ("z.yml", "apps: {}")]));

    // Its names can be listed, and nothing behind them can be reached.
    fs::set_permissions(&line, fs::Permissions::from_mode(0o400)).unwrap();
    let unreached = owned(&[("line/a.yml", DENIED), ("line/cell", DENIED), ("z.yml", "apps: {}")]);
    assert_eq!(texts(&load(&root).await), unreached);

    fs::set_permissions(&line, fs::Permissions::from_mode(0o700)).unwrap();
    watched.until_files(&good).await;
}

#[tokio::test]
async fn more_than_a_source_may_hold_is_an_error_and_takes_nothing_away() {
    let (_dir, root) = root();
    let names: Vec<String> = (0..4).map(|n| format!("f{n}.yml")).collect();
    for name in &names {
        fs::write(root.join(name), format!("x-pad: {}", "x".repeat(300 * 1024))).unwrap();
    }
    let usual = Limits::default();
    assert_eq!((usual.files, usual.bytes), (100_000, 256 << 20));
    for (limits, message) in [
        (Limits { files: 3, ..usual }, "there are more than 3 manifests"),
        (Limits { bytes: 1 << 20, ..usual }, "there are more than 1 MiB of manifests"),
        (Limits { entries: 3, ..usual }, "there are more than 3 files and folders"),
    ] {
        let source = DirectorySource::new([&root], Options { limits, ..Options::at_once() });
        let error = source.load().await.unwrap_err();
        assert_eq!(error.message, message);
        assert!(error.hint.unwrap().contains("only the manifests"));
        // Back below the limit, all is well again, and a file too many later on is the same error.
        fs::rename(root.join("f3.yml"), root.with_file_name("aside")).unwrap();
        assert_eq!(source.load().await.unwrap().files.len(), 3);
        fs::rename(root.with_file_name("aside"), root.join("f3.yml")).unwrap();
        assert_eq!(source.load().await.unwrap_err().message, message);
    }
}

#[tokio::test]
async fn an_empty_folder_is_a_state_and_a_missing_one_is_an_error() {
    let (_dir, root) = root();
    assert_eq!(load(&root).await.files.len(), 0);
    let error = DirectorySource::new([root.join("none")], Options::at_once()).load().await.unwrap_err();
    assert!(error.message.ends_with("root/none` does not exist"), "{error}");
    assert!(error.hint.is_some());
}

#[tokio::test]
async fn the_revision_follows_names_and_contents_and_not_the_place() {
    let (_one, first) = root();
    let (_two, second) = root();
    for root in [&first, &second] {
        fs::write(root.join("a.yml"), "a").unwrap();
    }
    let revision = load(&first).await.revision;
    assert_eq!(load(&second).await.revision, revision);
    fs::write(second.join("a.yml"), "b").unwrap();
    assert_ne!(load(&second).await.revision, revision);
    fs::rename(first.join("a.yml"), first.join("b.yml")).unwrap();
    assert_ne!(load(&first).await.revision, revision);
}

#[tokio::test]
async fn several_paths_and_single_files_are_one_source_and_nothing_counts_twice() {
    let (_dir, root) = root();
    fs::create_dir(root.join("line1")).unwrap();
    fs::write(root.join("line1/a.yml"), "a").unwrap();
    fs::write(root.join("b.conf"), "b").unwrap();
    symlink("..", root.join("line1/up")).unwrap();
    let paths = [root.join("line1"), root.join("b.conf"), root.join("line1")];
    let tree = DirectorySource::new(paths, Options::at_once()).load().await.unwrap();
    assert_eq!(tree.files.len(), 3, "{:?}", texts(&tree));
    let names: Vec<_> = tree.files.iter().map(|file| Path::new(&*file.path).file_name().unwrap()).collect();
    assert_eq!(names, ["b.conf", "a.yml", "up"], "a symlink to the folder above leads out of `line1`");
}

#[tokio::test]
async fn a_new_file_a_change_and_a_removal_are_noticed() {
    let (_dir, root) = root();
    let mut watched = Watched::new(&root).await;
    fs::write(root.join("a.yml"), "one").unwrap();
    watched.until_files(&[("a.yml", "one")]).await;
    fs::write(root.join("a.yml"), "two").unwrap();
    watched.until_files(&[("a.yml", "two")]).await;
    fs::remove_file(root.join("a.yml")).unwrap();
    watched.until_files(&[]).await;
}

#[tokio::test]
async fn a_load_that_somebody_asked_for_answers_what_is_there_now() {
    let (_dir, root) = root();
    fs::write(root.join("a.yml"), "one").unwrap();
    fs::write(root.join("b.yml"), "b").unwrap();
    let watched = Watched::new(&root).await;
    fs::write(root.join("a.yml"), "two").unwrap();
    fs::remove_file(root.join("b.yml")).unwrap();
    assert_eq!(texts(&watched.source.load().await.unwrap()), owned(&[("a.yml", "one"), ("b.yml", "b")]));
    watched.source.refresh();
    assert_eq!(texts(&watched.source.load().await.unwrap()), owned(&[("a.yml", "two")]));
}

#[tokio::test]
async fn an_atomic_rename_is_noticed_every_time() {
    let (_dir, root) = root();
    let mut watched = Watched::new(&root).await;
    for text in ["one", "two", "three"] {
        fs::write(root.join(".a.yml.tmp"), text).unwrap();
        fs::rename(root.join(".a.yml.tmp"), root.join("a.yml")).unwrap();
        watched.until_files(&[("a.yml", text)]).await;
    }
}

#[tokio::test]
async fn editors_that_move_the_file_away_and_write_it_anew_never_make_it_vanish() {
    let (_dir, root) = root();
    fs::write(root.join("a.yml"), "one").unwrap();
    let mut watched = Watched::new(&root).await;
    watched.until_files(&[("a.yml", "one")]).await;
    // As vim does it with a swap file, a probe, a backup and a new file.
    fs::write(root.join(".a.yml.swp"), "swap").unwrap();
    fs::write(root.join("4913"), "").unwrap();
    fs::remove_file(root.join("4913")).unwrap();
    fs::rename(root.join("a.yml"), root.join("a.yml~")).unwrap();
    // A look at the worst moment still sees the file.
    assert_eq!(texts(&watched.source.load().await.unwrap()), owned(&[("a.yml", "one")]));
    fs::write(root.join("a.yml"), "").unwrap();
    assert_eq!(texts(&watched.source.load().await.unwrap()), owned(&[("a.yml", "one")]));
    fs::write(root.join("a.yml"), "two").unwrap();
    fs::remove_file(root.join("a.yml~")).unwrap();
    fs::remove_file(root.join(".a.yml.swp")).unwrap();
    watched.until_files(&[("a.yml", "two")]).await;
    // As Emacs does it: a lock that leads nowhere, an auto-save file, a backup.
    symlink("user@host.1:2", root.join(".#a.yml")).unwrap();
    fs::write(root.join("#a.yml#"), "half").unwrap();
    fs::rename(root.join("a.yml"), root.join("a.yml~")).unwrap();
    fs::write(root.join("a.yml"), "three").unwrap();
    fs::remove_file(root.join("#a.yml#")).unwrap();
    fs::remove_file(root.join(".#a.yml")).unwrap();
    watched.until_files(&[("a.yml", "three")]).await;
}

#[tokio::test]
async fn a_swap_of_the_data_folder_is_one_change() {
    let (_dir, root) = root();
    let publish = |version: &str| {
        let folder = root.join(format!("..{version}"));
        fs::create_dir_all(folder.join("line1")).unwrap();
        fs::write(folder.join("a.yml"), version).unwrap();
        fs::write(folder.join("line1/b.yml"), version).unwrap();
        symlink(format!("..{version}"), root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    publish("v1");
    symlink("..data/a.yml", root.join("a.yml")).unwrap();
    symlink("..data/line1", root.join("line1")).unwrap();
    let mut watched = Watched::new(&root).await;
    watched.until_files(&[("a.yml", "v1"), ("line1/b.yml", "v1")]).await;
    for version in ["v2", "v3"] {
        publish(version);
        watched.until_files(&[("a.yml", version), ("line1/b.yml", version)]).await;
    }
    fs::remove_dir_all(root.join("..v1")).unwrap();
    fs::write(root.join("..v3/line1/b.yml"), "v3 patched").unwrap();
    watched.until_files(&[("a.yml", "v3"), ("line1/b.yml", "v3 patched")]).await;
}

#[tokio::test]
async fn files_in_new_folders_are_noticed_also_when_made_together_with_them() {
    let (dir, root) = root();
    let mut watched = Watched::new(&root).await;
    fs::create_dir_all(root.join("line1/cell")).unwrap();
    fs::write(root.join("line1/cell/a.yml"), "one").unwrap();
    watched.until_files(&[("line1/cell/a.yml", "one")]).await;
    fs::write(root.join("line1/cell/a.yml"), "second").unwrap();
    watched.until_files(&[("line1/cell/a.yml", "second")]).await;
    // A folder that is moved in brings its files along; one that is moved out takes them away.
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    fs::write(dir.path().join("elsewhere/b.yml"), "b").unwrap();
    fs::rename(dir.path().join("elsewhere"), root.join("line2")).unwrap();
    watched.until_files(&[("line1/cell/a.yml", "second"), ("line2/b.yml", "b")]).await;
    fs::rename(root.join("line1"), dir.path().join("away")).unwrap();
    watched.until_files(&[("line2/b.yml", "b")]).await;
    // The same name again is another folder.
    fs::create_dir_all(root.join("line1")).unwrap();
    fs::write(root.join("line1/c.yml"), "c").unwrap();
    watched.until_files(&[("line1/c.yml", "c"), ("line2/b.yml", "b")]).await;
    fs::write(root.join("line1/c.yml"), "c again").unwrap();
    watched.until_files(&[("line1/c.yml", "c again"), ("line2/b.yml", "b")]).await;
}

#[tokio::test]
async fn a_root_that_is_deleted_is_an_error_and_works_again_once_recreated() {
    let (_dir, root) = root();
    fs::write(root.join("a.yml"), "one").unwrap();
    let mut watched = Watched::new(&root).await;
    watched.until_files(&[("a.yml", "one")]).await;
    for text in ["second", "the third"] {
        fs::remove_dir_all(&root).unwrap();
        let error = watched.until(Result::is_err).await.unwrap_err();
        assert!(error.message.ends_with("does not exist"), "{error}");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.yml"), text).unwrap();
        watched.until_files(&[("a.yml", text)]).await;
        fs::write(root.join("a.yml"), format!("{text}, changed")).unwrap();
        watched.until_files(&[("a.yml", &format!("{text}, changed"))]).await;
    }
}

#[tokio::test]
async fn a_root_that_is_replaced_or_is_a_symlink_that_moves_is_noticed() {
    let (dir, root) = root();
    fs::write(root.join("a.yml"), "one").unwrap();
    let mut watched = Watched::new(&root).await;
    watched.until_files(&[("a.yml", "one")]).await;
    fs::create_dir(dir.path().join("next")).unwrap();
    fs::write(dir.path().join("next/a.yml"), "second").unwrap();
    fs::rename(&root, dir.path().join("previous")).unwrap();
    fs::rename(dir.path().join("next"), &root).unwrap();
    watched.until_files(&[("a.yml", "second")]).await;
    // From here on the root is a symlink.
    fs::rename(&root, dir.path().join("release-1")).unwrap();
    symlink("release-1", &root).unwrap();
    fs::write(dir.path().join("release-1/a.yml"), "release 1").unwrap();
    watched.until_files(&[("a.yml", "release 1")]).await;
    fs::create_dir(dir.path().join("release-2")).unwrap();
    fs::write(dir.path().join("release-2/a.yml"), "release 2").unwrap();
    symlink("release-2", dir.path().join("swap")).unwrap();
    fs::rename(dir.path().join("swap"), &root).unwrap();
    watched.until_files(&[("a.yml", "release 2")]).await;
}

#[tokio::test]
async fn nothing_is_missed_in_a_flood_of_events() {
    let (_dir, root) = root();
    let mut watched = Watched::new(&root).await;
    let flooded = root.clone();
    tokio::task::spawn_blocking(move || {
        for round in 0..10_000 {
            fs::write(flooded.join("noise.txt"), round.to_string()).unwrap();
            fs::rename(flooded.join("noise.txt"), flooded.join("other.txt")).unwrap();
        }
        fs::write(flooded.join("a.yml"), "after the flood").unwrap();
    })
    .await
    .unwrap();
    watched.until_files(&[("a.yml", "after the flood")]).await;
    fs::write(root.join("a.yml"), "and later on").unwrap();
    watched.until_files(&[("a.yml", "and later on")]).await;
}

#[tokio::test]
async fn the_timer_covers_what_events_lose() {
    let (_dir, root) = root();
    let timing = Timing { rescan: Duration::from_secs(30), ..Timing::default() };
    let source = DirectorySource::new([&root], Options { timing, ..Options::at_once() });
    let mut hints = Box::pin(source.changes());
    hints.next().await;
    source.load().await.unwrap();
    hints.next().await;
    tokio::time::pause();
    for _ in 0..3 {
        let before = tokio::time::Instant::now();
        hints.next().await.unwrap();
        assert_eq!(before.elapsed().as_secs(), 30);
    }
}

#[tokio::test]
async fn attachments_are_read_beside_the_manifest_and_confined_to_the_root() {
    let (dir, root) = root();
    fs::create_dir_all(root.join("line1")).unwrap();
    fs::create_dir_all(root.join("xml")).unwrap();
    fs::write(root.join("line1/dev.yml"), "devices: {}").unwrap();
    fs::write(root.join("xml/dev.xml"), "<Devices/>").unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    symlink(dir.path().join("secret"), root.join("xml/link.xml")).unwrap();
    let source = DirectorySource::new([&root], Options::at_once());
    let manifest = root.join("line1/dev.yml");
    let manifest = manifest.to_str().unwrap();
    assert_eq!(source.attachment(manifest, "../xml/dev.xml").await.as_deref(), Ok("<Devices/>"));
    let outside = Err("is outside the folder of the manifests".to_owned());
    assert_eq!(source.attachment(manifest, "../../secret").await, outside);
    assert_eq!(source.attachment(manifest, "../xml/link.xml").await, outside);
    assert_eq!(source.attachment(manifest, "none.xml").await, Err("does not exist".to_owned()));
    fs::write(root.join("xml/dev.xml"), "<Devices version='2'/>").unwrap();
    assert_eq!(source.attachment(manifest, "../xml/dev.xml").await.as_deref(), Ok("<Devices version='2'/>"));
}
