//! The git source against real repositories: behind HTTPS through git's own server program, and on this machine.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may stop the test")]

#[path = "support/https.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod https;
#[path = "support/repository.rs"]
mod repository;
#[path = "support/sshd.rs"]
mod sshd;

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use https::{Answer, Server};
use ofop::desired::git::{GitOptions, GitSource, Rewritten, SignedCommits, Wall};
use ofop::desired::{Limits, Loader, LoaderOptions, ParsedTree, Source, Tree};
use ofop::model::{PlatformKind, Severity, TroubleReason};
use repository::Plant;
use sshd::Sshd;

/// Far more than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Options for the repository on this machine. Nothing is fetched by itself.
fn local(plant: &Plant) -> GitOptions {
    options(plant, plant.url())
}

fn options(plant: &Plant, url: String) -> GitOptions {
    let interval = Duration::from_secs(24 * 3600);
    GitOptions { interval, ..GitOptions::new(url, plant.dir.path().join("state")) }
}

fn serve(plant: &Plant, server: &Server) -> GitOptions {
    server.serve_git(&plant.dir.path().join("hub"), None);
    GitOptions { ca_file: Some(server.ca()), ..options(plant, server.url("/git/plant.git")) }
}

/// A source that is fetched on demand.
struct Followed {
    source: GitSource,
    hints: Pin<Box<dyn Stream<Item = ()> + Send>>,
}

impl Followed {
    fn new(options: GitOptions) -> Self {
        let source = GitSource::new(options);
        let hints = Box::pin(source.changes());
        Followed { source, hints }
    }

    async fn load(&self) -> Tree {
        self.source.load().await.unwrap()
    }

    /// Fetches; there must be news.
    async fn fetched(&mut self) -> Tree {
        self.source.fetch_soon();
        tokio::time::timeout(LONG, self.hints.next()).await.expect("no news").expect("the hints ended");
        self.load().await
    }
}

/// Paths and texts, or reasons in angle brackets.
fn texts(tree: &Tree) -> Vec<(&str, String)> {
    let text = |file: &ofop::desired::ManifestFile| match &file.content {
        Ok(text) => text.to_string(),
        Err(reason) => format!("<{reason}>"),
    };
    tree.files.iter().map(|file| (&*file.path, text(file))).collect()
}

fn errors(tree: &Tree) -> Vec<String> {
    tree.trouble.iter().map(ToString::to_string).chain(tree.problems.iter().map(ToString::to_string)).collect()
}

/// The kind of trouble that a tree is in.
fn reason(tree: &Tree) -> Option<TroubleReason> {
    tree.trouble.as_ref().map(|trouble| trouble.reason)
}

#[tokio::test]
async fn a_repository_behind_https_is_followed_commit_by_commit() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("factory/app_a.yml", "one");
    plant.write("factory/line1/app_b.yaml", "b");
    plant.write("factory/.hidden/app_c.yml", "c");
    plant.write("README.md", "text");
    plant.write("elsewhere.yml", "x");
    let first = plant.push("First light");
    let mut followed = Followed::new(GitOptions { path: "factory".into(), ..serve(&plant, &server) });
    let tree = followed.load().await;
    assert_eq!(texts(&tree), [("factory/app_a.yml", "one".into()), ("factory/line1/app_b.yaml", "b".into())]);
    assert_eq!(tree.revision.0, first);
    let commit = tree.commit.clone().unwrap();
    assert_eq!((commit.author.as_str(), commit.subject.as_str()), ("Line Team", "First light"));
    assert!(errors(&tree).is_empty());
    plant.write("factory/app_a.yml", "two");
    let second = plant.push("Second");
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.as_str(), texts(&tree)[0].1.as_str()), (second.as_str(), "two"));
    plant.git(&plant.work, &["revert", "--no-edit", "HEAD"]);
    plant.push("after the revert");
    assert_eq!(texts(&followed.fetched().await)[0].1, "one");
    // What is had already is not sent again, and that is found out in one request.
    let before = server.requests().len();
    followed.source.fetch_soon();
    let nothing = async {
        tokio::select! {
            _ = followed.hints.next() => panic!("there is no news"),
            () = async { while server.requests().len() == before { tokio::task::yield_now().await } } => {}
        }
    };
    tokio::time::timeout(LONG, nothing).await.expect("nobody asked");
    assert!(server.requests()[before][0].starts_with("GET /git/plant.git/info/refs?service=git-upload-pack "));
    // Dropping the fetch here would hide a second request: the next one follows on its heels.
    plant.push("One more");
    followed.fetched().await;
    let kinds: Vec<String> = server.requests()[before..].iter().map(|request| request[0][..4].to_owned()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "POST").count(), 1, "{kinds:?}");
}

#[tokio::test]
async fn a_load_that_somebody_asked_for_answers_what_is_there_now() {
    let plant = Plant::new();
    plant.write("app.yml", "one");
    let first = plant.push("One");
    let source = GitSource::new(local(&plant));
    source.load().await.unwrap();
    plant.write("app.yml", "two");
    let second = plant.push("Two");
    assert_eq!(source.load().await.unwrap().revision.0, first);
    source.refresh();
    assert_eq!(source.load().await.unwrap().revision.0, second);
}

/// Names of the files whose text, and of those whose manifest, is not the very one of the tree before.
fn anew<'a>(before: &(Tree, Arc<ParsedTree>), after: &'a (Tree, Arc<ParsedTree>)) -> (Vec<&'a str>, Vec<&'a str>) {
    let texts = before.0.files.iter().zip(&after.0.files);
    let read = texts.filter(|(one, other)| match (&one.content, &other.content) {
        (Ok(one), Ok(other)) => !Arc::ptr_eq(one, other),
        _ => true,
    });
    let manifests = before.1.files.iter().zip(&after.1.files);
    let parsed = manifests.filter(|(one, other)| match (&one.manifest, &other.manifest) {
        (Some(one), Some(other)) => !Arc::ptr_eq(one, other),
        _ => true,
    });
    (read.map(|(_, file)| &*file.path).collect(), parsed.map(|(_, file)| &*file.path).collect())
}

#[tokio::test]
async fn a_fetch_costs_one_request_and_a_commit_the_files_that_it_changes() {
    let (plant, server) = (Plant::new(), Server::start());
    let app = |at: usize, tag: &str| format!("apps: {{a{at}: {{uuid: A-{at:03}, image: 'demo:{tag}'}}}}\n");
    for at in 0..300 {
        plant.write(&format!("line{:02}/app{at:03}.yml", at / 20), &app(at, "1"));
    }
    plant.push("All of them");
    let mut loader = Loader::new(GitSource::new(serve(&plant, &server)), LoaderOptions::at_once(PlatformKind::Swarm));
    let nudge = loader.nudge();
    let mut look = async || {
        // As many words as may be: they are one fetch.
        (0..100).for_each(|_| nudge());
        let requests = server.requests().len();
        let parsed = loader.load().await.unwrap();
        let tree = loader.source().load().await.unwrap();
        let lines = server.requests()[requests..].iter().map(|request| request[0].clone()).collect::<Vec<_>>();
        ((tree, parsed), lines)
    };
    const ASK: &str = "GET /git/plant.git/info/refs?service=git-upload-pack HTTP/1.1";
    const FETCH: &str = "POST /git/plant.git/git-upload-pack HTTP/1.1";
    let (first, requests) = look().await;
    assert_eq!((first.1.files.len(), requests), (300, vec![ASK.to_owned(), FETCH.to_owned()]));
    assert!(first.1.files.iter().all(|file| file.manifest.is_some()));

    let (again, requests) = look().await;
    assert_eq!(requests, [ASK]);
    assert!(Arc::ptr_eq(&first.1, &again.1), "nothing is parsed, nor even put together anew");
    assert_eq!(anew(&first, &again), (vec![], vec![]));

    plant.write("line03/app077.yml", &app(77, "2"));
    plant.push("One of them");
    let (second, requests) = look().await;
    assert_eq!(requests, [ASK, FETCH]);
    assert_eq!(anew(&again, &second), (vec!["line03/app077.yml"], vec!["line03/app077.yml"]));
}

#[tokio::test]
async fn while_the_remote_is_away_the_last_commit_stays_in_force_also_over_a_restart() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("app.yml", "one");
    let commit = plant.push("One");
    let options = serve(&plant, &server);
    let mut followed = Followed::new(options.clone());
    followed.load().await;
    let hub = plant.dir.path().join("hub");
    fs::rename(&hub, plant.dir.path().join("away")).unwrap();
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.as_str(), tree.files.len()), (commit.as_str(), 1));
    assert_eq!(reason(&tree), Some(TroubleReason::Missing));
    assert!(errors(&tree)[0].contains("HTTP 404"), "{tree:?}");
    let mut restarted = Followed::new(options);
    let tree = restarted.load().await;
    assert_eq!((tree.revision.0.as_str(), tree.problems.len()), (commit.as_str(), 0));
    assert_eq!(reason(&tree), Some(TroubleReason::Missing));
    fs::rename(plant.dir.path().join("away"), &hub).unwrap();
    assert!(errors(&restarted.fetched().await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_is_away_is_tried_again_within_a_minute_whatever_the_interval() {
    let plant = Plant::new();
    plant.write("app.yml", "one");
    plant.push("One");
    fs::rename(plant.hub(), plant.dir.path().join("away")).unwrap();
    let mut followed = Followed::new(local(&plant));
    let error = followed.source.load().await.unwrap_err();
    assert_eq!(error.reason, TroubleReason::Unreachable);
    fs::rename(plant.dir.path().join("away"), plant.hub()).unwrap();
    tokio::time::timeout(Duration::from_secs(61), followed.hints.next()).await.expect("nobody tried");
    assert_eq!(texts(&followed.load().await), [("app.yml", "one".into())]);
}

#[tokio::test]
async fn a_source_that_never_had_a_commit_is_an_error() {
    let plant = Plant::new();
    let error = GitSource::new(local(&plant)).load().await.unwrap_err();
    assert!(error.message.contains("has no default branch"), "{error}");
    let error = GitSource::new(options(&plant, "http://127.0.0.1/a.git".into())).load().await.unwrap_err();
    assert!(error.message.contains("without encryption"), "{error}");
    let error = GitSource::new(options(&plant, "file:///none".into())).load().await.unwrap_err();
    assert!(error.message.contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn a_branch_or_a_path_that_is_gone_removes_nothing() {
    let plant = Plant::new();
    plant.write("factory/app.yml", "one");
    plant.write("keep.yml", "x");
    let commit = plant.push("One");
    let mut followed = Followed::new(GitOptions { path: "factory".into(), ..local(&plant) });
    followed.load().await;
    fs::remove_dir_all(plant.work.join("factory")).unwrap();
    plant.push("The folder is gone");
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.as_str(), tree.files.len()), (commit.as_str(), 1));
    assert!(errors(&tree)[0].contains("the commit has no `factory`"), "{tree:?}");
    plant.git(&plant.hub(), &["update-ref", "-d", "refs/heads/main"]);
    let tree = followed.fetched().await;
    assert_eq!(tree.files.len(), 1);
    assert!(errors(&tree)[0].contains("no default branch"), "{tree:?}");
    plant.write("factory/app.yml", "two");
    plant.push("Back again");
    assert_eq!(texts(&followed.fetched().await), [("factory/app.yml", "two".into())]);
}

#[tokio::test]
async fn a_commit_that_holds_too_much_does_not_come_into_force() {
    let plant = Plant::new();
    plant.write("a.yml", &"x".repeat(600 * 1024));
    let commit = plant.push("One");
    for (limits, message) in [
        (Limits { files: 1, ..Limits::default() }, "the commit has more than 1 manifests"),
        (Limits { bytes: 1 << 20, ..Limits::default() }, "the commit has more than 1 MiB of manifests"),
        (Limits { entries: 1, ..Limits::default() }, "the commit has more than 1 files and folders"),
    ] {
        let mut followed = Followed::new(GitOptions { limits, ..local(&plant) });
        followed.load().await;
        plant.write("b.yml", &"y".repeat(600 * 1024));
        plant.push("Two");
        let tree = followed.fetched().await;
        assert_eq!((tree.revision.0.as_str(), tree.files.len()), (commit.as_str(), 1));
        assert!(errors(&tree)[0].contains(message), "{tree:?}");
        plant.git(&plant.work, &["reset", "--hard", &commit]);
        plant.git(&plant.work, &["push", "-q", "--force", "origin", "HEAD"]);
        assert!(errors(&followed.fetched().await).is_empty());
    }
}

#[tokio::test]
async fn a_damaged_clone_is_made_anew() {
    let plant = Plant::new();
    plant.write("app.yml", "one");
    plant.push("One");
    let mut followed = Followed::new(local(&plant));
    followed.load().await;
    let clone = clone_of(&plant);
    for damage in ["objects", "HEAD"] {
        match damage {
            "objects" => fs::remove_dir_all(clone.join("objects")).unwrap(),
            _ => fs::write(clone.join(damage), "nonsense").unwrap(),
        }
        plant.write("app.yml", damage);
        plant.push(damage);
        let tree = followed.fetched().await;
        assert_eq!(texts(&tree), [("app.yml", damage.into())], "{:?}", errors(&tree));
        assert_eq!(reason(&tree), None);
    }
}

#[tokio::test]
async fn credentials_are_needed_sent_and_never_shown() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("app.yml", "one");
    plant.push("One");
    let mut options = serve(&plant, &server);
    // "x-access-token:s3cret"
    server.serve_git(&plant.dir.path().join("hub"), Some("Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"));
    options.credentials.token = Some("wr0ng".into());
    let error = GitSource::new(options.clone()).load().await.unwrap_err();
    assert!(error.message.contains("refuses our credentials"), "{error}");
    options.credentials.token = Some("s3cret".into());
    assert!(!format!("{options:?}").contains("s3cret"));
    assert_eq!(GitSource::new(options.clone()).load().await.unwrap().files.len(), 1);
    let with_password = server.url("/git/none.git").replace("https://", "https://x-access-token:s3cret@");
    let error = GitSource::new(GitOptions { url: with_password, ..options }).load().await.unwrap_err();
    assert!(error.message.contains("HTTP 404") && !error.message.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn a_redirect_elsewhere_gets_no_credentials() {
    let (plant, server, elsewhere) = (Plant::new(), Server::start(), Server::start());
    server.answer(Answer::status(302).header("Location", elsewhere.url("/x/info/refs?service=git-upload-pack")));
    let mut options = options(&plant, server.url("/plant.git"));
    // Only one authority is trusted: the other server is not even spoken to.
    options.ca_file = Some(server.ca());
    options.credentials.token = Some("s3cret".into());
    assert!(GitSource::new(options).load().await.is_err());
    assert!(server.requests()[0].iter().any(|line| line.to_lowercase().starts_with("authorization: basic")));
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn only_commits_that_an_allowed_signer_signed_come_into_force() {
    let plant = Plant::new();
    let (ann, eve) = (plant.key("ann"), plant.key("eve"));
    let signers = plant.dir.path().join("allowed_signers");
    let public = fs::read_to_string(ann.with_extension("pub")).unwrap();
    fs::write(&signers, format!("line@plant.example namespaces=\"git\" {public}")).unwrap();
    plant.sign_with(&ann);
    plant.write("app.yml", "signed");
    let good = plant.push_with("Signed", &["-S"]);
    let mut followed = Followed::new(GitOptions { allowed_signers: Some(signers), ..local(&plant) });
    assert_eq!(followed.load().await.revision.0, good);
    plant.write("app.yml", "unsigned");
    plant.push("Unsigned");
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.as_str(), texts(&tree)[0].1.as_str()), (good.as_str(), "signed"));
    assert!(errors(&tree)[0].contains("is not signed"), "{tree:?}");
    plant.sign_with(&eve);
    plant.push_with("Signed by somebody else", &["-S"]);
    let tree = followed.fetched().await;
    assert_eq!(tree.revision.0, good);
    assert!(errors(&tree)[0].contains("not an allowed signer's"), "{tree:?}");
    // A good signature on another commit than the one that was signed.
    plant.sign_with(&ann);
    plant.push_with("Signed again", &["-S"]);
    let text = plant.git(&plant.work, &["cat-file", "commit", "HEAD"]).replace("Signed again", "Signed never");
    fs::write(plant.dir.path().join("forged"), format!("{text}\n")).unwrap();
    let forged = plant.git(&plant.work, &["hash-object", "-t", "commit", "-w", "../forged"]);
    plant.git(&plant.work, &["push", "-q", "--force", "origin", &format!("{forged}:refs/heads/main")]);
    let tree = followed.fetched().await;
    assert_eq!(tree.revision.0, good);
    assert!(errors(&tree)[0].contains("has a wrong signature"), "{tree:?}");
    let last = plant.push_with("Properly signed", &["-S"]);
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.clone(), errors(&tree)), (last, vec![]));
}

#[tokio::test]
async fn an_older_commit_that_is_signed_as_well_does_not_come_back() {
    let plant = Plant::new();
    let ann = plant.key("ann");
    let public = fs::read_to_string(ann.with_extension("pub")).unwrap();
    let signers = plant.dir.path().join("allowed_signers");
    fs::write(&signers, format!("ann@plant.example {public}")).unwrap();
    plant.sign_with(&ann);
    plant.write("app.yml", "one");
    let old = plant.push_with("Old and vulnerable", &["-S"]);
    plant.write("app.yml", "two");
    let fixed = plant.push_with("Fixed", &["-S"]);
    let options = GitOptions { allowed_signers: Some(signers), rewritten: Rewritten::Refuse, ..local(&plant) };
    let mut followed = Followed::new(options);
    assert_eq!(followed.load().await.revision.0, fixed);
    plant.git(&plant.work, &["push", "-q", "--force", "origin", &format!("{old}:refs/heads/main")]);
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.as_str(), reason(&tree)), (fixed.as_str(), Some(TroubleReason::Rewritten)));
    assert_eq!(texts(&tree)[0].1, "two");
    // Over the last good commit, on.
    plant.git(&plant.work, &["push", "-q", "--force", "origin", &format!("{fixed}:refs/heads/main")]);
    plant.write("app.yml", "three");
    let next = plant.push_with("Next", &["-S"]);
    let tree = followed.fetched().await;
    assert_eq!((&tree.revision.0, reason(&tree)), (&next, None));
}

/// An allowed-signers file with these lines, `PRINCIPAL [OPTIONS]` each followed by a key.
fn allow(plant: &Plant, lines: &[(&str, &Path)]) -> PathBuf {
    let path = plant.dir.path().join("allowed_signers");
    let line = |(who, key): &(&str, &Path)| format!("{who} {}", fs::read_to_string(key.with_extension("pub")).unwrap());
    fs::write(&path, lines.iter().map(line).collect::<String>()).unwrap();
    path
}

#[tokio::test]
async fn a_key_that_was_revoked_or_left_the_file_signs_nothing_more() {
    let plant = Plant::new();
    let (ann, bob) = (plant.key("ann"), plant.key("bob"));
    let signers = allow(&plant, &[("ann", &ann), ("bob", &bob)]);
    let revoked = plant.dir.path().join("revoked");
    fs::write(&revoked, "# nobody\n").unwrap();
    plant.sign_with(&ann);
    plant.write("app.yml", "one");
    let one = plant.push_with("By Ann", &["-S"]);
    let options =
        GitOptions { allowed_signers: Some(signers), revoked_signers: Some(revoked.clone()), ..local(&plant) };
    let mut followed = Followed::new(options.clone());
    assert_eq!((followed.load().await.revision.0, reason(&followed.load().await)), (one.clone(), None));
    // What is in force stays, and people hear of it; what else she signs does not come into force.
    fs::copy(ann.with_extension("pub"), &revoked).unwrap();
    let tree = followed.fetched().await;
    assert_eq!((&tree.revision.0, reason(&tree)), (&one, Some(TroubleReason::Unverified)));
    assert!(errors(&tree)[0].contains("revoked"), "{tree:?}");
    plant.write("app.yml", "two");
    let two = plant.push_with("By Ann again", &["-S"]);
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.as_str(), texts(&tree)[0].1.as_str()), (one.as_str(), "one"));
    assert_eq!(tree.trouble.unwrap().refused.unwrap().id.as_ref(), two);
    // Nor is it taken up by the next run.
    assert!(GitSource::new(options.clone()).load().await.unwrap_err().message.contains("revoked"));
    plant.sign_with(&bob);
    plant.write("app.yml", "three");
    let three = plant.push_with("By Bob", &["-S"]);
    let tree = followed.fetched().await;
    assert_eq!((&tree.revision.0, reason(&tree)), (&three, None));
    // A key that is gone from the file, and files that cannot be understood.
    allow(&plant, &[("ann", &ann)]);
    let tree = followed.fetched().await;
    assert!(tree.revision.0 == three && errors(&tree)[0].contains("not an allowed signer's"), "{tree:?}");
    allow(&plant, &[("bob", &bob)]);
    assert_eq!(reason(&followed.fetched().await), None);
    for (text, said) in [(&b"SSHKRL\n\0"[..], "binary list"), (b"nonsense", "line 1: is no public key")] {
        fs::write(&revoked, text).unwrap();
        let tree = followed.fetched().await;
        assert!(tree.revision.0 == three && errors(&tree)[0].contains(said), "{tree:?}");
    }
    fs::remove_file(&revoked).unwrap();
    assert!(errors(&followed.fetched().await)[0].contains("cannot be read"));
}

#[tokio::test]
async fn the_end_of_a_key_is_held_against_when_a_commit_was_first_seen() {
    // Seconds of 2029 and 2031; the commits' own clock, today's, is before either.
    const BEFORE: u64 = 1_861_920_000;
    const AFTER: u64 = 1_925_000_000;
    let plant = Plant::new();
    let ann = plant.key("ann");
    let signers = allow(&plant, &[("ann valid-before=\"20300101\"", &ann)]);
    let now = Arc::new(AtomicU64::new(BEFORE));
    let clock = Arc::clone(&now);
    let wall = Wall::new(move || Duration::from_secs(clock.load(Ordering::Relaxed)));
    let options = GitOptions { allowed_signers: Some(signers), wall: Some(wall), ..local(&plant) };
    plant.sign_with(&ann);
    plant.write("app.yml", "one");
    let one = plant.push_with("While the key counted", &["-S"]);
    let mut followed = Followed::new(options.clone());
    assert_eq!(followed.load().await.revision.0, one);
    now.store(AFTER, Ordering::Relaxed);
    plant.write("app.yml", "two");
    plant.push_with("Said to be from before", &["-S"]);
    let tree = followed.fetched().await;
    assert_eq!((&tree.revision.0, reason(&tree)), (&one, Some(TroubleReason::Unverified)));
    assert!(errors(&tree)[0].contains("first seen"), "{tree:?}");
    // The commit that was seen in time counts in later runs as well, where the state directory is kept.
    plant.git(&plant.work, &["push", "-q", "--force", "origin", &format!("{one}:refs/heads/main")]);
    let tree = GitSource::new(options.clone()).load().await.unwrap();
    assert_eq!((&tree.revision.0, reason(&tree)), (&one, None));
    let fresh = GitOptions { state_dir: plant.dir.path().join("fresh"), ..options.clone() };
    assert!(GitSource::new(fresh).load().await.unwrap_err().message.contains("first seen"));
    let clockless = GitOptions { wall: None, ..options };
    assert!(GitSource::new(clockless).load().await.unwrap_err().message.contains("first seen"));
}

#[tokio::test]
async fn each_commit_since_the_one_in_force_may_have_to_be_signed() {
    let ways = Ways::new();
    let plant = &ways.plant;
    let ann = plant.key("ann");
    let signers = allow(plant, &[("ann", &ann)]);
    plant.sign_with(&ann);
    let merge = |signed: &str, side: &str| {
        plant.git(&plant.work, &["merge", "-q", "--no-ff", "--no-edit", "-S", side]);
        plant.git(&plant.work, &["push", "-q", "--force", "origin", "main"]);
        (signed.to_owned(), plant.git(&plant.work, &["rev-parse", "HEAD"]))
    };
    for way in WAYS {
        plant.write("app.yml", way);
        plant.push_with("An older one", &["-S"]);
        plant.write("app.yml", "good");
        let good = plant.push_with("Good", &["-S"]);
        let all = GitOptions {
            allowed_signers: Some(signers.clone()),
            rewritten: Rewritten::Refuse,
            signed: SignedCommits::All,
            ..ways.options(way)
        };
        let (mut each, head) = (Followed::new(all.clone()), GitOptions { signed: SignedCommits::Head, ..all.clone() });
        let mut newest = Followed::new(GitOptions { state_dir: plant.dir.path().join(format!("head-{way}")), ..head });
        assert_eq!((each.load().await.revision.0, newest.load().await.revision.0), (good.clone(), good.clone()));
        plant.write("app.yml", "unsigned");
        let unsigned = plant.push("Unsigned");
        plant.write("app.yml", "signed");
        let signed = plant.push_with("Signed, on top of it", &["-S"]);
        let tree = newest.fetched().await;
        assert_eq!((&tree.revision.0, reason(&tree)), (&signed, None), "{way}");
        let tree = each.fetched().await;
        assert_eq!((&tree.revision.0, reason(&tree)), (&good, Some(TroubleReason::Unverified)), "{way}");
        assert!(errors(&tree)[0].contains(&format!("{} is not signed", &unsigned[..12])), "{way} {tree:?}");
        assert_eq!(tree.trouble.unwrap().refused.unwrap().id.as_ref(), signed, "{way}");
        // One that came by way of a merge, from beside the commit in force.
        plant.git(&plant.work, &["switch", "-q", "-C", "side", &format!("{good}~1")]);
        plant.write(&format!("side-{}.txt", way.len()), way);
        plant.git(&plant.work, &["add", "."]);
        plant.git(&plant.work, &["commit", "-q", "-m", "Unsigned, beside"]);
        plant.git(&plant.work, &["switch", "-q", "main"]);
        plant.git(&plant.work, &["reset", "-q", "--hard", &good]);
        let (_, merged) = merge("merge", "side");
        let tree = each.fetched().await;
        assert_eq!((&tree.revision.0, reason(&tree)), (&good, Some(TroubleReason::Unverified)), "{way}");
        assert_eq!(tree.trouble.unwrap().refused.unwrap().id.as_ref(), merged, "{way}");
        // The same with every commit signed.
        plant.git(&plant.work, &["switch", "-q", "side"]);
        plant.git(&plant.work, &["commit", "-q", "--amend", "--no-edit", "-S"]);
        plant.git(&plant.work, &["switch", "-q", "main"]);
        plant.git(&plant.work, &["reset", "-q", "--hard", &good]);
        let (_, merged) = merge("merge", "side");
        let tree = each.fetched().await;
        assert_eq!((&tree.revision.0, reason(&tree)), (&merged, None), "{way} {tree:?}");
    }
}

#[tokio::test]
async fn rewritten_history_is_followed_or_refused_and_told_either_way() {
    for rewritten in [Rewritten::Follow, Rewritten::Refuse] {
        let plant = Plant::new();
        plant.write("app.yml", "one");
        plant.push("One");
        plant.write("app.yml", "two");
        let old = plant.push("Two");
        let mut followed = Followed::new(GitOptions { rewritten, ..local(&plant) });
        followed.load().await;
        plant.write("app.yml", "another two");
        let new = plant.push_with("Two, rewritten", &["--amend"]);
        let tree = followed.fetched().await;
        assert!(errors(&tree)[0].contains("history was rewritten"), "{tree:?}");
        match rewritten {
            Rewritten::Follow => {
                assert_eq!((&tree.revision.0, reason(&tree)), (&new, None));
                assert_eq!(tree.commit.unwrap().replaced.as_deref(), Some(&*old));
                assert_eq!(tree.problems[0].severity, Severity::Warning);
            }
            Rewritten::Refuse => {
                assert_eq!((&tree.revision.0, reason(&tree)), (&old, Some(TroubleReason::Rewritten)));
                assert_eq!(tree.trouble.unwrap().refused.unwrap().subject, "Two, rewritten");
            }
        }
    }
}

#[tokio::test]
async fn odd_files_are_in_the_tree_with_the_reason_and_attachments_stay_in_the_repository() {
    let plant = Plant::new();
    plant.write("line1/app.yml", "app");
    plant.write("xml/dev.xml", "<Devices/>");
    std::os::unix::fs::symlink("line1/app.yml", plant.work.join("link.yml")).unwrap();
    std::os::unix::fs::symlink("../../etc/passwd", plant.work.join("out.yml")).unwrap();
    std::os::unix::fs::symlink("none.yml", plant.work.join("nowhere.yml")).unwrap();
    fs::write(plant.work.join("latin1.yml"), b"a: \xe4").unwrap();
    fs::write(plant.work.join("big.yml"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    plant.push("Odd");
    let source = GitSource::new(local(&plant));
    let tree = source.load().await.unwrap();
    assert_eq!(
        texts(&tree),
        [
            ("big.yml", "<is 1048577 bytes long; at most 1048576 (1 MiB) are read>".to_owned()),
            ("latin1.yml", "<is not UTF-8: byte 0xe4 at line 1, column 4>".to_owned()),
            ("line1/app.yml", "app".to_owned()),
            ("link.yml", "app".to_owned()),
            ("nowhere.yml", "<is a symlink that leads nowhere>".to_owned()),
            ("out.yml", "<is a symlink that leads out of the repository; copy the file instead>".to_owned()),
        ]
    );
    assert_eq!(source.attachment("line1/app.yml", "../xml/dev.xml").await.as_deref(), Ok("<Devices/>"));
    assert_eq!(source.attachment("line1/app.yml", "none.xml").await, Err("does not exist".into()));
    assert_eq!(source.attachment("line1/app.yml", "../../x").await, Err("is outside the repository".into()));
}

#[tokio::test]
async fn a_commit_reads_no_file_of_this_machine_through_an_absolute_path() {
    let plant = Plant::new();
    let key = plant.work.join("key");
    fs::write(&key, "PRIVATE KEY").unwrap();
    let device = "devices:\n  cnc:\n    uuid: CNC\n    connector:\n      type: mtconnect\n      agent: {port: 5000, \
                  device_xml: 'KEY', adapter: {ip: 10.0.0.5, port: 7878}}\n";
    plant.write("dev.yml", &device.replace("KEY", key.to_str().unwrap()));
    plant.push("A device");
    let mut loader = Loader::new(GitSource::new(local(&plant)), LoaderOptions::at_once(PlatformKind::Swarm));
    let tree = loader.load().await.unwrap();
    let read: Vec<_> = tree.attachments.values().collect();
    assert_eq!(read.len(), 1, "{:?}", tree.files);
    assert!(read[0].as_ref().is_err_and(|reason| reason.starts_with("is an absolute path")), "{read:?}");
}

#[tokio::test]
async fn ignore_files_and_pointers_of_lfs_count_in_a_commit_and_a_submodule_may_be_ignored() {
    let plant = Plant::new();
    plant.write("app_a.yml", "a");
    plant.write("B.YML", "b");
    plant.write("app_c.json", "{}");
    plant.write("old/app_x.yml", "x");
    plant.write("line/app_y.yml", "y");
    plant.write("line/app_z.yml", "z");
    plant.write("lfs.yml", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n");
    plant.write(".ofopignore", "/old\nmodule/\n*_y.yml\n");
    plant.write("line/.ofopignore", "app_z.yml\n!app_y.yml\n");
    plant.git(&plant.work, &["add", "-A"]);
    let id = plant
        .git(&plant.work, &["commit-tree", "-m", "another repository", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"]);
    plant.git(&plant.work, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},module")]);
    plant.git(&plant.work, &["commit", "-q", "-m", "Files"]);
    plant.git(&plant.work, &["push", "-q", "origin", "HEAD"]);
    let tree = GitSource::new(local(&plant)).load().await.unwrap();
    let paths: Vec<&str> = tree.files.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, ["B.YML", "app_a.yml", "lfs.yml", "line/app_y.yml"]);
    assert!(tree.files[2].content.as_ref().unwrap_err().starts_with("is a Git LFS pointer"));
    assert_eq!(tree.others.iter().map(|other| &*other.file).collect::<Vec<_>>(), ["app_c.json"]);
    assert!(!tree.incomplete && tree.problems.is_empty(), "{:?}", tree.problems);
}

#[tokio::test]
async fn symlinked_folders_are_followed_inside_the_repository_and_named_where_they_cannot_be() {
    let plant = Plant::new();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, plant.work.join(name)).unwrap();
    plant.write("factory/own.yml", "own");
    plant.write("shared/deep/app.yml", "shared");
    plant.write("shared/dev.xml", "<Devices/>");
    plant.write("notes.txt", "text");
    link("../shared/deep", "factory/line");
    link("line/app.yml", "factory/one.yml");
    // What leads back up, or to what was seen already, ends there.
    link("..", "shared/deep/up");
    link("../notes.txt", "factory/notes");
    link("../../elsewhere", "factory/outside");
    link("/srv/factory", "factory/absolute");
    link("../gone", "factory/nowhere");
    link("turn", "factory/round.yml");
    link("round.yml", "factory/turn");
    plant.git(&plant.work, &["add", "-A"]);
    let id = plant
        .git(&plant.work, &["commit-tree", "-m", "another repository", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"]);
    plant.git(&plant.work, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},factory/module")]);
    plant.git(&plant.work, &["commit", "-q", "-m", "Links"]);
    plant.git(&plant.work, &["push", "-q", "origin", "HEAD"]);
    let source = GitSource::new(GitOptions { path: "factory".into(), ..local(&plant) });
    let tree = source.load().await.unwrap();
    let out = "<is a symlink that leads out of the repository; copy the file instead>";
    assert_eq!(
        texts(&tree),
        [
            ("factory/absolute", out.to_owned()),
            ("factory/line/app.yml", "shared".to_owned()),
            ("factory/one.yml", "shared".to_owned()),
            ("factory/outside", out.to_owned()),
            ("factory/own.yml", "own".to_owned()),
            ("factory/round.yml", "<is a symlink that never ends>".to_owned()),
            ("factory/turn", "<is a symlink that never ends>".to_owned()),
        ]
    );
    assert_eq!(
        errors(&tree),
        [
            "factory/module: is a submodule, so that manifests behind it are not read (nothing is removed meanwhile; \
             copy the files instead, or name it in .ofopignore if it holds none)",
            "factory/nowhere: is a symlink that leads nowhere, so that manifests behind it are not read (nothing is \
             removed meanwhile; copy the files instead, or name it in .ofopignore if it holds none)",
        ]
    );
    assert!(tree.incomplete);
    assert!(tree.problems.iter().all(|problem| problem.severity == Severity::Warning));
    // As in a checkout, `..` leads up from where the folder really lies.
    assert_eq!(source.attachment("factory/line/app.yml", "../dev.xml").await.as_deref(), Ok("<Devices/>"));
    let linked = GitSource::new(GitOptions { path: "factory/line".into(), ..local(&plant) });
    assert_eq!(texts(&linked.load().await.unwrap()), [("factory/line/app.yml", "shared".to_owned())]);
}

#[tokio::test]
async fn a_commit_with_more_folders_than_any_disk_could_hold_is_refused() {
    let plant = Plant::new();
    plant.write("app.yml", "one");
    let first = plant.push("One");
    let mut followed = Followed::new(local(&plant));
    followed.load().await;
    // Each folder holds the one below it ten times: a dozen objects, and a billion files.
    let mut tree = String::from("leaf");
    fs::write(plant.work.join("leaf"), "").unwrap();
    plant.git(&plant.work, &["add", "leaf"]);
    for level in 0..9 {
        let kind = if level == 0 { "100644 blob" } else { "040000 tree" };
        let id = if level == 0 { plant.git(&plant.work, &["rev-parse", ":leaf"]) } else { tree };
        let lines: String = (0..10).map(|n| format!("{kind} {id}\t{n}\n")).collect();
        fs::write(plant.dir.path().join("lines"), lines).unwrap();
        tree = plant.git(&plant.work, &["-c", "alias.mk=!git mktree <../lines", "mk"]);
    }
    let bomb = plant.git(&plant.work, &["commit-tree", "-p", &first, "-m", "Many", &tree]);
    plant.git(&plant.work, &["push", "-q", "origin", &format!("{bomb}:refs/heads/main")]);
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.as_str(), reason(&tree)), (first.as_str(), Some(TroubleReason::Other)));
    assert!(errors(&tree)[0].contains("more than 1000000 files and folders"), "{:?}", errors(&tree));
}

/// A tree object with these entries, as git itself would not make it.
fn raw_tree(repository: &git2::Repository, entries: &[(&str, &str, git2::Oid)]) -> git2::Oid {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        bytes.extend_from_slice(id.as_bytes());
    }
    repository.odb().unwrap().write(git2::ObjectType::Tree, &bytes).unwrap()
}

#[tokio::test]
async fn a_tree_that_git_would_not_make_passes_for_nothing_else() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("press/app.yml", "good");
    let good = plant.push("Good");
    let hub = git2::Repository::open(plant.hub()).unwrap();
    let text = hub.blob(b"evil").unwrap();
    let inner = raw_tree(&hub, &[("100644", "app.yml", text)]);
    let mill = raw_tree(
        &hub,
        &[
            ("100644", "../press/app.yml", text),
            ("100644", ".git", text),
            ("100644", "x/../../press/app.yml", text),
            ("40000", "x/y", inner),
        ],
    );
    let root = raw_tree(
        &hub,
        &[
            ("40000", "..", inner),
            ("40000", ".git", inner),
            ("40000", "mill", mill),
            ("100644", "press/app.yml", text),
            ("100644", "twice.yml", text),
            ("100644", "twice.yml", text),
        ],
    );
    let commit = plant.git(&plant.hub(), &["commit-tree", &root.to_string(), "-p", &good, "-m", "Odd"]);
    for options in [local(&plant), serve(&plant, &server)] {
        let state_dir = plant.dir.path().join(format!("odd-{}", options.url.len()));
        plant.git(&plant.hub(), &["update-ref", "refs/heads/main", &good]);
        let mut followed = Followed::new(GitOptions { state_dir, ..options });
        followed.load().await;
        plant.git(&plant.hub(), &["update-ref", "refs/heads/main", &commit]);
        let tree = followed.fetched().await;
        assert_eq!(tree.revision.0, commit, "{:?}", tree.trouble);
        let refused = |text: &String| text.contains("with a `/`") || text.contains("twice");
        let texts = texts(&tree);
        let paths: Vec<&str> = texts.iter().map(|(path, _)| *path).collect();
        assert!(texts.iter().all(|(_, text)| refused(text)), "{texts:?}");
        assert_eq!(
            paths,
            [
                "mill/x\u{fffd}..\u{fffd}..\u{fffd}press\u{fffd}app.yml",
                "mill/x\u{fffd}y",
                "press\u{fffd}app.yml",
                "twice.yml"
            ]
        );
    }
}

#[tokio::test]
async fn what_a_repository_replaces_or_lends_changes_no_commit() {
    let plant = Plant::new();
    plant.write("app.yml", "evil");
    let evil = plant.push("Evil");
    plant.write("app.yml", "good");
    let good = plant.push("Good");
    plant.git(&plant.hub(), &["replace", &good, &evil]);
    let blob =
        |commit: &str| plant.git(&plant.hub(), &["--no-replace-objects", "rev-parse", &format!("{commit}:app.yml")]);
    plant.git(&plant.hub(), &["replace", &blob(&good), &blob(&evil)]);
    // Objects that are elsewhere, and nowhere.
    fs::write(plant.hub().join("objects/info/alternates"), "/nowhere/objects\n../../../work/.git/objects\n").unwrap();
    let server = Server::start();
    for options in [local(&plant), serve(&plant, &server)] {
        let state_dir = plant.dir.path().join(format!("replaced-{}", options.url.len()));
        let tree = GitSource::new(GitOptions { state_dir, ..options }).load().await.unwrap();
        assert_eq!((&tree.revision.0, texts(&tree)), (&good, vec![("app.yml", "good".to_owned())]));
    }
}

#[tokio::test]
async fn files_that_differ_in_case_alone_are_two_files() {
    let plant = Plant::new();
    plant.write("App.yml", "one");
    plant.write("app.yml", "two");
    plant.push("Both");
    let tree = GitSource::new(local(&plant)).load().await.unwrap();
    assert_eq!(texts(&tree), [("App.yml", "one".to_owned()), ("app.yml", "two".to_owned())]);
}

#[tokio::test]
async fn a_server_that_answers_nonsense_is_a_trouble_and_no_more() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("app.yml", "one");
    let one = plant.push("One");
    let followed = Followed::new(GitOptions { timeout: LONG, ..serve(&plant, &server) });
    assert_eq!(followed.load().await.revision.0, one);
    server.serve_git_no_longer();
    let id = "1".repeat(40);
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let service = line("# service=git-upload-pack\n");
    let advertise = |reference: &str| format!("{service}0000{}0000", line(reference));
    for body in [
        String::new(),
        "nonsense".into(),
        "0001".into(),
        "ffff".into(),
        "zzzz".into(),
        "-001".into(),
        service.clone(),
        format!("{service}0000"),
        advertise("\0"),
        advertise(&format!("{id} HEAD\0side-band-64k\n")),
        advertise(&format!("{id} refs/heads/main\0 symref=HEAD:refs/heads/main\n")),
        advertise(&format!("{} refs/heads/main\0 shallow symref=HEAD:refs/heads/main\n", "g".repeat(40))),
        advertise(&format!("{id} refs/heads/../../x\0 symref=HEAD:refs/heads/../../x\n")),
        "\u{0}".repeat(100_000),
        line(&"x".repeat(60_000)).repeat(20),
    ] {
        let answer = Answer::text(&body).header("Content-Type", "application/x-git-upload-pack-advertisement");
        server.answer(answer);
        followed.source.refresh();
        let tree = followed.load().await;
        assert_eq!((&tree.revision.0, texts(&tree)[0].1.as_str()), (&one, "one"), "{body:.60?}");
        assert!(tree.trouble.is_some(), "{body:.60?}");
    }
    // Once it is well again, so is the source.
    server.serve_git(&plant.dir.path().join("hub"), None);
    plant.write("app.yml", "two");
    let two = plant.push("Two");
    followed.source.refresh();
    let tree = followed.load().await;
    assert_eq!((&tree.revision.0, reason(&tree)), (&two, None));
}

#[tokio::test]
async fn a_file_that_was_a_symlink_is_read_as_a_file() {
    let plant = Plant::new();
    std::os::unix::fs::symlink("none.yml", plant.work.join("app.yml")).unwrap();
    plant.push("A symlink");
    let mut followed = Followed::new(local(&plant));
    assert_eq!(texts(&followed.load().await), [("app.yml", "<is a symlink that leads nowhere>".to_owned())]);
    fs::remove_file(plant.work.join("app.yml")).unwrap();
    // The same object, and another meaning.
    fs::write(plant.work.join("app.yml"), "none.yml").unwrap();
    plant.push("A file");
    assert_eq!(texts(&followed.fetched().await), [("app.yml", "none.yml".to_owned())]);
}

/// A file system of half a megabyte, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "none"]).arg(&path).status();
        assert!(mounted.unwrap().success(), "mounting needs root");
        SmallDisk(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_commit_in_force_and_the_clone_as_it_is() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("app.yml", "one");
    let first = plant.push("One");
    for options in [local(&plant), serve(&plant, &server)] {
        let disk = SmallDisk::new(plant.dir.path().join("small"));
        let mut followed = Followed::new(GitOptions { state_dir: disk.0.clone(), ..options.clone() });
        assert_eq!(errors(&followed.load().await), [""; 0]);
        // More than fits, and nothing that could be compressed.
        let mut noise = vec![0; 2_000_000];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
        fs::write(plant.work.join("noise.bin"), noise).unwrap();
        plant.write("app.yml", "two");
        plant.push("Large");
        let tree = followed.fetched().await;
        assert_eq!((tree.revision.0.as_str(), reason(&tree)), (first.as_str(), Some(TroubleReason::Disk)), "{tree:?}");
        let restarted = GitSource::new(GitOptions { state_dir: disk.0.clone(), ..options });
        let tree = restarted.load().await.unwrap();
        assert_eq!((tree.revision.0.as_str(), reason(&tree)), (first.as_str(), Some(TroubleReason::Disk)));
        plant.git(&plant.work, &["reset", "-q", "--hard", &first]);
        plant.git(&plant.work, &["push", "-q", "--force", "origin", "HEAD"]);
    }
}

/// The clone of a source that keeps its state in the usual place.
fn clone_of(plant: &Plant) -> PathBuf {
    let folders = fs::read_dir(plant.dir.path().join("state/git")).unwrap();
    let clones: Vec<PathBuf> =
        folders.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_none()).collect();
    assert_eq!(clones.len(), 1, "{clones:?}");
    clones.into_iter().next().unwrap()
}

fn packs(clone: &Path) -> usize {
    let files = fs::read_dir(clone.join("objects/pack")).unwrap();
    files.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "pack")).count()
}

/// More packs than a clone may have, one for each of as many commits, and all of them sound.
fn make_untidy(plant: &Plant, clone: &Path) {
    let script = "for number in $(seq 51); do echo $number | git hash-object -w --stdin | \
                  git pack-objects -q objects/pack/pack > /dev/null || exit 1; done; git prune-packed -q";
    plant.git(clone, &["-c", &format!("alias.packs=!{script}"), "packs"]);
    assert!(packs(clone) > 50);
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect(what);
}

/// Every object that the clone's references lead to is there, but for the history that it says it lacks.
fn check(plant: &Plant, clone: &Path) {
    plant.git(clone, &["fsck", "--full", "--connectivity-only"]);
}

#[tokio::test]
async fn a_clone_of_many_packs_is_tidied_up_in_the_background_without_the_remote() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("app.yml", "one");
    plant.write("line/other.yml", "other");
    plant.push("One");
    let options = serve(&plant, &server);
    let mut followed = Followed::new(options.clone());
    followed.load().await;
    let clone = clone_of(&plant);
    make_untidy(&plant, &clone);
    plant.write("app.yml", "two");
    plant.push("Two");
    let before = server.requests().len();
    let two = followed.fetched().await;
    assert_eq!(texts(&two), [("app.yml", "two".into()), ("line/other.yml", "other".into())]);
    until("it is tidied up", || packs(&clone) < 3).await;
    until("nothing is left beside it", || fs::read_dir(clone.parent().unwrap()).unwrap().count() == 2).await;
    assert_eq!(server.requests().len() - before, 2, "nothing is fetched for it");
    check(&plant, &clone);
    // What is fetched next builds on it, and so does the next start.
    plant.write("app.yml", "three");
    plant.push("Three");
    assert_eq!(texts(&followed.fetched().await)[0].1, "three");
    check(&plant, &clone);
    plant.write("app.yml", "one");
    plant.push("As it was");
    let tree = Followed::new(options).load().await;
    assert_eq!((texts(&tree)[0].1.as_str(), errors(&tree)), ("one", vec![]));
    check(&plant, &clone);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_cannot_be_tidied_up_delays_no_commit_and_is_tried_again_later() {
    let plant = Plant::new();
    plant.write("app.yml", "0");
    plant.push("0");
    let mut followed = Followed::new(local(&plant));
    followed.load().await;
    let clone = clone_of(&plant);
    make_untidy(&plant, &clone);
    let in_the_way = clone.with_extension("tidy");
    let lock = fs::File::options().write(true).open(clone.with_extension("lock")).unwrap();
    let mut number = 0;
    for obstacle in ["no place for the copy", "another process uses the clone", "none"] {
        match obstacle {
            "no place for the copy" => fs::write(&in_the_way, "").unwrap(),
            "another process uses the clone" => lock.lock_shared().unwrap(),
            _ => {}
        }
        for _ in 0..3 {
            number += 1;
            plant.write("app.yml", &number.to_string());
            plant.push(&number.to_string());
            assert_eq!(texts(&followed.fetched().await), [("app.yml", number.to_string())]);
            // Whatever goes on in the background ends before the clock moves.
            tokio::time::sleep(Duration::from_secs(1)).await;
            check(&plant, &clone);
        }
        assert!(obstacle == "none" || packs(&clone) > 50, "{obstacle}");
        let _ = fs::remove_file(&in_the_way);
        lock.unlock().unwrap();
        // Longer than the longest wait after a failure.
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    until("it is tidied up", || packs(&clone) < 10).await;
    check(&plant, &clone);
}

/// The ways to one repository: over HTTPS from a server that can leave out files and from one that cannot, over SSH,
/// and on this machine.
struct Ways {
    plant: Plant,
    server: Server,
    sshd: Sshd,
}

impl Ways {
    fn new() -> Self {
        let (plant, server) = (Plant::new(), Server::start());
        let (host, user) = (plant.key("host"), plant.key("user"));
        let sshd = Sshd::start(plant.dir.path(), &host, &user.with_extension("pub"));
        let public = fs::read_to_string(host.with_extension("pub")).unwrap();
        fs::write(plant.dir.path().join("known_hosts"), format!("[127.0.0.1]:{} {public}", sshd.port)).unwrap();
        Ways { plant, server, sshd }
    }

    fn options(&self, way: &str) -> GitOptions {
        let plant = &self.plant;
        let filters = if way == "https, commits alone" { "true" } else { "false" };
        plant.git(&plant.hub(), &["config", "uploadpack.allowFilter", filters]);
        let mut options = match way {
            "file" => local(plant),
            "ssh" => options(plant, self.sshd.url(&plant.hub())),
            _ => serve(plant, &self.server),
        };
        options.credentials.ssh_key = Some(plant.dir.path().join("user"));
        options.credentials.known_hosts = Some(plant.dir.path().join("known_hosts"));
        options.state_dir = plant.dir.path().join(format!("state-{way}"));
        options
    }
}

const WAYS: [&str; 4] = ["https", "https, commits alone", "ssh", "file"];

fn clone_in(state_dir: &Path) -> PathBuf {
    let folders = fs::read_dir(state_dir.join("git")).unwrap();
    folders.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_none()).unwrap()
}

fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| if entry.path().is_dir() { bytes(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    noise
}

#[tokio::test]
async fn of_a_long_history_the_newest_commit_alone_is_fetched() {
    let ways = Ways::new();
    let plant = &ways.plant;
    plant.write("app.yml", "before");
    plant.write("line/same.yml", "same");
    fs::write(plant.work.join("noise.bin"), noise(2_000_000)).unwrap();
    plant.push("Much");
    fs::remove_file(plant.work.join("noise.bin")).unwrap();
    plant.push("Little");
    plant.write("app.yml", "0");
    let first = plant.push("0");
    for way in WAYS {
        plant.git(&plant.work, &["reset", "-q", "--hard", &first]);
        plant.git(&plant.work, &["push", "-q", "--force", "origin", "HEAD"]);
        let options = ways.options(way);
        let mut followed = Followed::new(options.clone());
        assert_eq!(texts(&followed.load().await)[0].1, "0");
        let clone = clone_in(&options.state_dir);
        let history = |clone: &Path| plant.git(clone, &["rev-list", "--count", "--all"]);
        assert_eq!(history(&clone), "1", "{way}");
        assert!(bytes(&clone) < 200_000, "{way}: {} bytes", bytes(&clone));
        for number in 1..4 {
            plant.write("app.yml", &number.to_string());
            plant.push(&number.to_string());
            let tree = followed.fetched().await;
            assert_eq!((texts(&tree)[0].1.clone(), errors(&tree)), (number.to_string(), vec![]), "{way}");
            check(plant, &clone);
        }
        // A file that only the history has, which the server must not take for known.
        plant.write("app.yml", "before");
        plant.push("As before");
        let tree = followed.fetched().await;
        assert_eq!((texts(&tree)[0].1.as_str(), errors(&tree)), ("before", vec![]), "{way}");
        check(plant, &clone);
        assert_eq!(history(&clone), "5", "{way}");
        assert!(bytes(&clone) < 200_000, "{way}: {} bytes", bytes(&clone));
    }
}

#[tokio::test]
async fn a_history_that_is_not_here_is_looked_at_to_tell_a_push_of_many_commits_from_a_rewritten_one() {
    let ways = Ways::new();
    let plant = &ways.plant;
    let push = |text: &str| {
        plant.write("app.yml", text);
        plant.push(text)
    };
    let empty = |count: usize| {
        for number in 0..count {
            plant.git(&plant.work, &["commit", "-q", "--allow-empty", "-m", &format!("Small step {number}")]);
        }
    };
    push("root");
    let early = push("early");
    let first = push("first");
    for way in WAYS {
        for rewritten in [Rewritten::Follow, Rewritten::Refuse] {
            let reset = |to: &str| {
                plant.git(&plant.work, &["checkout", "-q", "-B", "main", to]);
                plant.git(&plant.work, &["push", "-q", "--force", "origin", "HEAD"]);
            };
            reset(&first);
            let mut options = ways.options(way);
            options.state_dir = options.state_dir.join(format!("{rewritten:?}"));
            let mut followed = Followed::new(GitOptions { rewritten, ..options.clone() });
            followed.load().await;
            let is_followed = |tree: &Tree, commit: &str| {
                assert_eq!((tree.revision.0.as_str(), errors(tree)), (commit, vec![]), "{way}, {rewritten:?}");
            };
            empty(3);
            let some = push("some");
            is_followed(&followed.fetched().await, &some);
            // More than the first look over SSH, if it matters.
            empty(if rewritten == Rewritten::Refuse { 70 } else { 3 });
            let many = push("many");
            is_followed(&followed.fetched().await, &many);
            // A branch from before the commit in force, merged.
            let now = plant.git(&plant.work, &["rev-parse", "HEAD"]);
            plant.git(&plant.work, &["checkout", "-q", "-b", "side", &early]);
            plant.git(&plant.work, &["commit", "-q", "--allow-empty", "-m", "Beside"]);
            plant.git(&plant.work, &["checkout", "-q", "main"]);
            plant.git(&plant.work, &["merge", "-q", "--no-ff", "-m", "Merged", "side"]);
            plant.git(&plant.work, &["branch", "-q", "-D", "side"]);
            let merged = push("merged");
            is_followed(&followed.fetched().await, &merged);
            let rewrites = |tree: &Tree, new: &str| {
                let (in_force, trouble) = match rewritten {
                    Rewritten::Follow => (new, None),
                    Rewritten::Refuse => (merged.as_str(), Some(TroubleReason::Rewritten)),
                };
                assert_eq!((tree.revision.0.as_str(), reason(tree)), (in_force, trouble), "{way}, {rewritten:?}");
                assert!(errors(tree)[0].contains("history was rewritten"), "{way}: {tree:?}");
            };
            // Back to an older commit; a branch from there; a history of its own.
            reset(&now);
            rewrites(&followed.fetched().await, &now);
            reset(&early);
            empty(2);
            let other = push("another way");
            rewrites(&followed.fetched().await, &other);
            plant.git(&plant.work, &["checkout", "-q", "--orphan", "orphan"]);
            let orphan = {
                plant.write("app.yml", "orphan");
                plant.git(&plant.work, &["add", "-A"]);
                plant.git(&plant.work, &["commit", "-q", "-m", "Orphan"]);
                plant.git(&plant.work, &["push", "-q", "--force", "origin", "HEAD:main"]);
                plant.git(&plant.work, &["rev-parse", "HEAD"])
            };
            rewrites(&followed.fetched().await, &orphan);
            let clone = clone_in(&options.state_dir);
            check(plant, &clone);
            assert!(!clone.with_extension("history").exists());
            reset(&first);
            plant.git(&plant.work, &["branch", "-q", "-D", "orphan"]);
        }
    }
}

#[tokio::test]
async fn a_clone_with_the_whole_history_of_an_earlier_release_is_taken_up_and_cut_when_it_is_tidied_up() {
    let ways = Ways::new();
    let plant = &ways.plant;
    for number in 0..5 {
        plant.write("app.yml", &number.to_string());
        plant.push(&number.to_string());
    }
    for way in WAYS {
        let options = ways.options(way);
        Followed::new(options.clone()).load().await;
        let clone = clone_in(&options.state_dir);
        // As such a release left it.
        plant.git(&clone, &["fetch", "-q", "--unshallow", plant.hub().to_str().unwrap(), "main"]);
        assert!(!clone.join("shallow").exists());
        let count = || plant.git(&clone, &["rev-list", "--count", "--all"]).parse::<usize>().unwrap();
        let before = count();
        assert!(before >= 5, "{way}");
        let mut followed = Followed::new(GitOptions { rewritten: Rewritten::Refuse, ..options });
        followed.load().await;
        for text in [format!("{way} again"), "0".to_owned()] {
            plant.write("app.yml", &text);
            plant.push("Next");
            let tree = followed.fetched().await;
            assert_eq!((texts(&tree)[0].1.clone(), errors(&tree)), (text, vec![]), "{way}");
            check(plant, &clone);
        }
        assert_eq!(count(), before + 2, "{way}");
        make_untidy(plant, &clone);
        plant.write("app.yml", "tidy");
        plant.push("Tidy");
        followed.fetched().await;
        until("it is cut", || packs(&clone) < 10).await;
        assert!(count() < 3, "{way}: {}", count());
        check(plant, &clone);
    }
}

#[tokio::test]
async fn a_damaged_clone_still_serves_while_the_remote_is_away() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("factory/app.yml", "one");
    plant.write("beside/b.yml", "b");
    let first = plant.push("One");
    let options = GitOptions { path: "factory".into(), ..serve(&plant, &server) };
    let mut followed = Followed::new(options.clone());
    followed.load().await;
    plant.write("factory/app.yml", "two");
    let second = plant.push("Two");
    assert_eq!(followed.fetched().await.revision.0, second);
    // What came with the first commit cannot be read any more. What the path shows of the second still can.
    let clone = clone_of(&plant);
    let files: Vec<PathBuf> =
        fs::read_dir(clone.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path()).collect();
    for index in files.iter().filter(|path| path.extension().is_some_and(|end| end == "idx")) {
        if plant.git(&plant.work, &["verify-pack", "-v", index.to_str().unwrap()]).contains(&first) {
            fs::remove_file(index).unwrap();
        }
    }
    fs::rename(plant.hub(), plant.dir.path().join("away")).unwrap();
    let tree = GitSource::new(options.clone()).load().await.unwrap();
    assert_eq!((tree.revision.0.as_str(), reason(&tree)), (second.as_str(), Some(TroubleReason::Missing)));
    fs::rename(plant.dir.path().join("away"), plant.hub()).unwrap();
    // The server has no reason to send a file that we say we have.
    fs::rename(plant.work.join("beside/b.yml"), plant.work.join("factory/b.yml")).unwrap();
    let third = plant.push("Three");
    let tree = followed.fetched().await;
    assert_eq!((tree.revision.0.as_str(), reason(&tree)), (third.as_str(), None), "{:?}", errors(&tree));
    assert_eq!(texts(&tree), [("factory/app.yml", "two".into()), ("factory/b.yml", "b".into())]);
    check(&plant, &clone);
}

#[tokio::test]
async fn a_tag_a_branch_and_a_commit_can_be_looked_at() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("app.yml", "one");
    let first = plant.push("One");
    plant.git(&plant.work, &["tag", "-a", "v1", "-m", "Version 1"]);
    plant.git(&plant.work, &["push", "-q", "origin", "v1"]);
    plant.write("app.yml", "two");
    let second = plant.push("Two");
    plant.git(&plant.work, &["push", "-q", "origin", "HEAD:refs/heads/feature"]);
    plant.write("app.yml", "three");
    let third = plant.push_to("Proposed", "refs/heads/proposal");
    plant.write("app.yml", "four");
    // As hosts of repositories list what somebody proposes, on whatever branch it lies.
    let proposed = plant.push_to("Proposed better", "refs/pull/7/head");
    plant.git(&plant.work, &["push", "-q", "origin", ":refs/heads/proposal", &format!("{proposed}:refs/heads/next")]);
    for options in [local(&plant), serve(&plant, &server)] {
        for (branch, revision, commit) in [
            (None, "v1", &first),
            (None, "feature", &second),
            (None, &first[..10], &first),
            (None, &second, &second),
            (None, &proposed[..7], &proposed),
            (Some("next"), &third, &third),
        ] {
            let options = GitOptions { revision: Some(revision.to_owned()), once: true, ..options.clone() };
            // A clone of its own, so that nothing is found that was not fetched for it.
            let state_dir = plant.dir.path().join(format!("state-{}-{revision}", options.url.len()));
            let source = GitSource::new(GitOptions { branch: branch.map(str::to_owned), state_dir, ..options });
            assert_eq!(source.load().await.unwrap().revision.0, *commit, "{revision}");
        }
        let gone = GitOptions { revision: Some("0123456789".into()), once: true, ..options.clone() };
        let error = GitSource::new(gone).load().await.unwrap_err();
        assert!(error.message.contains("no branch, tag or commit `0123456789`"), "{error}");
    }
}

#[tokio::test]
async fn a_command_that_looks_once_changes_nothing_for_the_daemon_on_the_same_clone() {
    let plant = Plant::new();
    plant.write("app.yml", "one");
    let first = plant.push("One");
    Followed::new(local(&plant)).load().await;
    plant.write("app.yml", "two");
    let second = plant.push_with("Two, rewritten", &["--amend"]);
    let once = GitOptions { once: true, ..local(&plant) };
    assert_eq!(GitSource::new(once.clone()).load().await.unwrap().revision.0, second);
    let refusing = GitOptions { rewritten: Rewritten::Refuse, ..local(&plant) };
    let tree = GitSource::new(refusing).load().await.unwrap();
    assert_eq!(tree.revision.0, first, "{:?}", errors(&tree));
    assert!(errors(&tree)[0].contains("history was rewritten"), "{tree:?}");
    // Nor does it look again by itself.
    let mut followed = Followed::new(once);
    followed.load().await;
    followed.source.fetch_soon();
    let news = tokio::time::timeout(Duration::from_millis(200), followed.hints.next()).await;
    assert!(news.is_err(), "{news:?}");
}

#[tokio::test]
async fn a_token_in_a_file_may_be_replaced_while_the_source_is_in_use() {
    let (plant, server) = (Plant::new(), Server::start());
    plant.write("app.yml", "one");
    plant.push("One");
    let mut options = serve(&plant, &server);
    // "x-access-token:s3cret"
    server.serve_git(&plant.dir.path().join("hub"), Some("Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"));
    let token = plant.dir.path().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    options.credentials.token_file = Some(token.clone());
    let mut followed = Followed::new(options);
    assert_eq!(errors(&followed.load().await), [""; 0]);
    fs::write(&token, "expired").unwrap();
    let tree = followed.fetched().await;
    assert!(errors(&tree)[0].contains("refuses our credentials"), "{tree:?}");
    fs::remove_file(&token).unwrap();
    let tree = followed.fetched().await;
    assert!(errors(&tree)[0].contains("token` cannot be read"), "{tree:?}");
    fs::write(&token, "s3cret").unwrap();
    assert_eq!(errors(&followed.fetched().await), [""; 0]);
}

#[tokio::test]
async fn a_repository_behind_ssh_is_fetched_with_a_key_from_a_server_that_is_known() {
    let plant = Plant::new();
    plant.write("app.yml", "one");
    plant.push("One");
    let folder = plant.dir.path();
    let (host, _, _) = (plant.key("host"), plant.key("user"), plant.key("stranger"));
    let sshd = Sshd::start(folder, &host, &folder.join("user.pub"));
    let url = sshd.url(&plant.hub());
    let known = folder.join("known_hosts");
    let public = |name: &str| fs::read_to_string(folder.join(format!("{name}.pub"))).unwrap();
    let line = |name: &str| format!("[127.0.0.1]:{} {}", sshd.port, public(name));
    let mut options = options(&plant, url);
    options.credentials.ssh_key = Some(folder.join("user"));
    let refused = async |options: &GitOptions| GitSource::new(options.clone()).load().await.unwrap_err().message;
    assert!(refused(&options).await.contains("name a known-hosts file"));
    options.credentials.known_hosts = Some(known.clone());
    fs::write(&known, "").unwrap();
    assert!(refused(&options).await.contains("is not in the known-hosts file"));
    fs::write(&known, line("stranger")).unwrap();
    assert!(refused(&options).await.contains("shows another key"));
    fs::write(&known, line("host")).unwrap();
    let mut followed = Followed::new(options.clone());
    assert_eq!(texts(&followed.load().await), [("app.yml", "one".into())]);
    plant.write("app.yml", "two");
    plant.push("Two");
    assert_eq!(texts(&followed.fetched().await), [("app.yml", "two".into())]);
    options.credentials.ssh_key = Some(folder.join("stranger"));
    let tree = GitSource::new(options).load().await.unwrap();
    assert!(errors(&tree)[0].contains("refuses our credentials"), "{:?}", errors(&tree));
}

/// How many commits the short form of the soak follows.
const SOAK: usize = 300;

/// From how many commits on the memory may no longer grow.
const SETTLED: usize = 100;

/// Over how many commits the least memory counts: while the clone is tidied up it is some megabytes more.
const WINDOW: usize = 60;

/// Commits that each change one of 1,000 files, after some megabytes of history that are no longer in the newest one.
fn prepare_soak(plant: &Plant, commits: usize, megabytes: usize) -> Vec<String> {
    if megabytes > 0 {
        for _ in 0..3 {
            fs::write(plant.work.join("noise.bin"), noise(megabytes * 1_000_000 / 3)).unwrap();
            plant.git(&plant.work, &["add", "-A"]);
            plant.git(&plant.work, &["commit", "-q", "-m", "Noise"]);
        }
        plant.git(&plant.work, &["rm", "-q", "noise.bin"]);
        plant.push_to("Quiet", "refs/heads/steps");
    }
    let mut stream = String::new();
    let text = |at: usize, tag: usize| format!("apps: {{a{at}: {{uuid: A-{at:04}, image: 'demo:{tag}'}}}}\n");
    for commit in 0..=commits {
        let at = |at: usize| format!("M 644 inline line{:02}/app{at:04}.yml\n", at / 50);
        stream.push_str("commit refs/heads/steps\ncommitter Line Team <line@plant.example> ");
        stream.push_str(&format!("{} +0000\ndata 4\nStep\n", 1_700_000_000 + commit));
        if commit == 0 && megabytes > 0 {
            stream.push_str("from refs/heads/steps^0\n");
        }
        for file in if commit == 0 { 0..1_000 } else { commit % 1_000..commit % 1_000 + 1 } {
            let text = text(file, commit);
            stream.push_str(&format!("{}data {}\n{text}\n", at(file), text.len()));
        }
    }
    fs::write(plant.dir.path().join("stream"), stream).unwrap();
    plant.git(&plant.hub(), &["-c", "alias.take=!git fast-import --quiet <../../stream", "take"]);
    let newest = format!("--max-count={}", commits + 1);
    let list = plant.git(&plant.hub(), &["rev-list", &newest, "refs/heads/steps"]);
    list.lines().rev().map(str::to_owned).collect()
}

/// Follows the commits in a process of its own, whose memory nothing else uses: see the test below, and
/// `benches/git-soak.sh`.
#[test]
#[ignore = "the process of another test"]
fn soak() {
    let given = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let commits: Vec<String> = fs::read_to_string(given("SOAK_COMMITS")).unwrap().lines().map(str::to_owned).collect();
    let head = PathBuf::from(given("SOAK_HEAD"));
    let mut options = GitOptions::new(given("SOAK_URL"), given("SOAK_STATE"));
    options.interval = Duration::from_secs(24 * 3600);
    options.ca_file = Some(given("SOAK_CA").into());
    options.credentials.ssh_key = Some(given("SOAK_KEY").into());
    options.credentials.known_hosts = Some(given("SOAK_KNOWN_HOSTS").into());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut loader = Loader::new(GitSource::new(options), LoaderOptions::at_once(PlatformKind::Swarm));
    let memory = |name: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ', '\t']).trim_end_matches("kB").trim().parse::<u64>().unwrap()
    };
    for (number, commit) in commits.iter().enumerate() {
        fs::write(&head, format!("{commit}\n")).unwrap();
        loader.source().refresh();
        let tree = runtime.block_on(loader.load()).unwrap();
        assert_eq!(tree.files.len(), 1_000);
        assert_eq!(&*tree.commit.as_ref().unwrap().id, commit.as_str());
        let in_window = |from: usize| (from..from + WINDOW).contains(&number);
        if in_window(SETTLED) || in_window(commits.len() - WINDOW) || number % 500 == 0 {
            println!("soak: {number} commits, {} KiB", memory("VmRSS"));
        }
        if number == 0 {
            println!("the first commit: {} KiB at the most", memory("VmHWM"));
        }
    }
    println!("all: {} KiB at the most", memory("VmHWM"));
}

#[test]
fn memory_does_not_grow_with_the_number_of_commits() {
    let commits = std::env::var("OFOP_SOAK_COMMITS").map_or(SOAK, |text| text.parse().expect("a number"));
    let way = std::env::var("OFOP_SOAK_WAY").unwrap_or_else(|_| "https".into());
    let ways = Ways::new();
    let megabytes = std::env::var("OFOP_SOAK_HISTORY").map_or(0, |text| text.parse().expect("a number of MB"));
    let list = prepare_soak(&ways.plant, commits, megabytes);
    assert_eq!(list.len(), commits + 1);
    let options = ways.options(&way);
    let folder = ways.plant.dir.path();
    fs::write(folder.join("commits"), list.join("\n")).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "soak", "--nocapture", "--test-threads", "1"])
        .envs([("SOAK_URL", options.url.as_str()), ("SOAK_STATE", options.state_dir.to_str().unwrap())])
        .env("SOAK_COMMITS", folder.join("commits"))
        .env("SOAK_HEAD", ways.plant.hub().join("refs/heads/main"))
        .env("SOAK_CA", ways.server.ca())
        .env("SOAK_KEY", folder.join("user"))
        .env("SOAK_KNOWN_HOSTS", folder.join("known_hosts"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let figures: Vec<(usize, u64)> = text
        .lines()
        .filter_map(|line| line.split_once("soak: ")?.1.strip_suffix(" KiB")?.split_once(" commits, "))
        .map(|(commits, memory)| (commits.parse().unwrap(), memory.parse().unwrap()))
        .collect();
    print!("{text}");
    let least = |from: usize| {
        let window = figures.iter().filter(|(number, _)| (from..from + WINDOW).contains(number));
        window.map(|(_, memory)| *memory).min().expect("it got that far")
    };
    assert_eq!(figures.last().unwrap().0, commits);
    let (settled, last) = (least(SETTLED), least(commits + 1 - WINDOW));
    assert!(last * 10 <= settled * 11, "{settled} KiB after {SETTLED} commits, {last} KiB after {commits}");
    let clone = clone_in(&options.state_dir);
    assert!(packs(&clone) <= 100, "{}", packs(&clone));
}
