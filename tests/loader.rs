//! The loader: what is parsed again, the namespace schema, and the files that manifests refer to, wherever they
//! are.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may stop the test")]

#[path = "support/https.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod https;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use https::{Answer, Server};
use ofop::desired::directory::{DirectorySource, Options};
use ofop::desired::{Loader, LoaderOptions, ParsedTree, RemoteOptions, Source, Tree};
use ofop::model::{HostRules, PlatformKind, SourceKind, SourcePlace, SourceTrouble};
use tempfile::TempDir;

/// A namespace schema.
const SCHEMA: &str = "namespace_structure:\n  - site: [north, south]\n  - asset: ANY\n  - attribute: ANY\n\
                      uns_template: site/asset/attribute\n";

/// Far more than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Factory {
    _dir: TempDir,
    root: PathBuf,
}

impl Factory {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        Factory { _dir: dir, root }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.root.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    fn loader(&self, change: impl FnOnce(&mut LoaderOptions)) -> Loader<DirectorySource> {
        let mut options = LoaderOptions::at_once(PlatformKind::Swarm);
        change(&mut options);
        Loader::new(DirectorySource::new([&self.root], Options::at_once()), options)
    }

    /// A loader of manifests that may name device models below these folders.
    fn with_models(&self, models: &[PathBuf]) -> Loader<DirectorySource> {
        let options = Options { models: models.to_vec(), ..Options::at_once() };
        Loader::new(DirectorySource::new([&self.root], options), LoaderOptions::at_once(PlatformKind::Swarm))
    }

    /// A loader that trusts a server of the test's.
    fn remote(&self, server: &Server, change: impl FnOnce(&mut RemoteOptions)) -> Loader<DirectorySource> {
        self.loader(|options| {
            options.remote.ca_file = Some(server.ca());
            options.remote.hosts = this_machine();
            change(&mut options.remote);
        })
    }
}

/// The servers of these tests, which no manifest reaches without a setting that names them.
fn this_machine() -> HostRules {
    HostRules::parse("127.0.0.1").unwrap()
}

const NOT_NAMED: &str =
    "is outside the folder of the manifests; if manifests may read it, name its folder in OFOP_MODEL_ROOTS";

fn app(uuid: &str) -> String {
    format!("apps:\n  one:\n    uuid: {uuid}\n    image: demo/app\n")
}

fn device(xml: &str) -> String {
    format!(
        "devices:\n  cnc:\n    uuid: CNC\n    connector:\n      type: mtconnect\n      agent:\n        port: 5000\n        \
         device_xml: {xml}\n        adapter:\n          ip: 10.0.0.5\n          port: 7878\n"
    )
}

/// The one attachment of a tree.
fn attachment(tree: &ParsedTree) -> Result<&str, &str> {
    assert_eq!(tree.attachments.len(), 1, "{:?}", tree.files);
    tree.attachments.values().next().unwrap().as_deref().map_err(String::as_str)
}

#[tokio::test]
async fn only_what_changed_is_parsed_and_an_unchanged_tree_is_the_very_same() {
    let factory = Factory::new();
    factory.write("a.yml", &app("A"));
    factory.write("b.yml", &app("B"));
    let mut loader = factory.loader(|_| {});
    let first = loader.load().await.unwrap();
    assert!(Arc::ptr_eq(&first, &loader.load().await.unwrap()));
    factory.write("b.yml", &app("B-2"));
    factory.write("c.yml", &app("C"));
    let second = loader.load().await.unwrap();
    let manifest = |tree: &ParsedTree, index: usize| tree.files[index].manifest.clone().unwrap();
    assert!(Arc::ptr_eq(&manifest(&first, 0), &manifest(&second, 0)), "a.yml was parsed again");
    assert_eq!(manifest(&second, 1).apps[0].uuid.as_str(), "B-2");
    assert_eq!(second.files.len(), 3);
    assert_ne!(first.revision, second.revision);
    fs::remove_file(factory.root.join("a.yml")).unwrap();
    assert_eq!(loader.load().await.unwrap().files.len(), 2);
}

#[tokio::test]
async fn many_files_are_parsed_in_their_order() {
    let factory = Factory::new();
    for number in 0..500 {
        factory.write(&format!("{number:03}.yml"), &app(&format!("APP-{number}")));
    }
    let tree = factory.loader(|_| {}).load().await.unwrap();
    for (number, file) in tree.files.iter().enumerate() {
        assert_eq!(file.manifest.as_ref().unwrap().apps[0].uuid.as_str(), format!("APP-{number}"));
    }
}

#[tokio::test]
async fn a_file_without_a_text_is_a_file_with_a_problem() {
    let factory = Factory::new();
    factory.write("a.yml", &app("A"));
    fs::write(factory.root.join("b.yml"), b"\xff").unwrap();
    let tree = factory.loader(|_| {}).load().await.unwrap();
    assert!(tree.files[0].manifest.is_some());
    assert!(tree.files[1].manifest.is_none());
    assert_eq!(tree.files[1].problems[0].message, "is not UTF-8: byte 0xff at line 1, column 1");
}

#[tokio::test]
async fn a_changed_namespace_schema_parses_everything_again_and_a_broken_one_is_a_problem() {
    let factory = Factory::new();
    factory.write("a.yml", &format!("{}    uns:\n      site: south\n", app("A")));
    let schema = factory.root.parent().unwrap().join("uns.yaml");
    let mut loader = factory.loader(|options| options.schema = Some(schema.clone()));
    let missing = loader.load().await.unwrap();
    assert_eq!(missing.problems[0].message, "the namespace schema does not exist");
    assert!(missing.files[0].manifest.is_none());
    fs::write(&schema, SCHEMA).unwrap();
    let good = loader.load().await.unwrap();
    assert!(good.problems.is_empty(), "{:?}", good.problems);
    let uns = good.files[0].manifest.as_ref().unwrap().apps[0].uns.clone().unwrap();
    assert_eq!(uns.uns_id, "south/A");
    fs::write(&schema, SCHEMA.replace("south", "west")).unwrap();
    let refused = loader.load().await.unwrap();
    assert!(refused.files[0].manifest.is_none(), "`south` is no longer allowed");
    assert_ne!(refused.files[0].digest, good.files[0].digest);
    assert_eq!(refused.revision, good.revision, "the manifests are the same");
    fs::write(&schema, "uns_template: [").unwrap();
    let broken = loader.load().await.unwrap();
    assert!(!broken.problems.is_empty());
    assert!(broken.files[0].manifest.is_none());
    fs::write(&schema, SCHEMA).unwrap();
    assert!(loader.load().await.unwrap().files[0].manifest.is_some());
}

#[tokio::test]
async fn local_attachments_are_read_beside_the_manifest_or_below_a_folder_that_is_named() {
    let factory = Factory::new();
    fs::create_dir(factory.root.join("xml")).unwrap();
    factory.write("xml/dev.xml", "<beside/>");
    let outside = factory.root.parent().unwrap().join("dev.xml");
    fs::write(&outside, "<absolute/>").unwrap();
    let named = factory.root.parent().unwrap().join("models");
    fs::create_dir(&named).unwrap();
    let model = named.join("dev.xml");
    fs::write(&model, "<model/>").unwrap();
    std::os::unix::fs::symlink(&outside, named.join("out.xml")).unwrap();
    let mut loader = factory.with_models(&[named.clone(), "/nowhere".into()]);
    factory.write("dev.yml", &device("xml/dev.xml"));
    let tree = loader.load().await.unwrap();
    assert_eq!(attachment(&tree), Ok("<beside/>"));
    assert_eq!(tree.attachments.keys().next().unwrap(), &(factory.path("dev.yml"), "xml/dev.xml".to_owned()));
    factory.write("xml/dev.xml", "<changed/>");
    assert_eq!(attachment(&loader.load().await.unwrap()), Ok("<changed/>"));
    for (path, content) in [
        (model.clone(), Ok("<model/>")),
        (factory.root.join("xml/dev.xml"), Ok("<changed/>")),
        (outside.clone(), Err(NOT_NAMED)),
        (named.join("out.xml"), Err(NOT_NAMED)),
        (named.join("../dev.xml"), Err(NOT_NAMED)),
        (named.join("none.xml"), Err("does not exist")),
        // Whether there is a file where none may be read is not told.
        (outside.with_file_name("none.xml"), Err(NOT_NAMED)),
        ("/etc/shadow".into(), Err(NOT_NAMED)),
        ("/proc/self/environ".into(), Err(NOT_NAMED)),
    ] {
        factory.write("dev.yml", &device(path.to_str().unwrap()));
        assert_eq!(attachment(&loader.load().await.unwrap()), content, "{}", path.display());
    }
    factory.write("dev.yml", &device("../dev.xml"));
    assert_eq!(attachment(&loader.load().await.unwrap()), Err("is outside the folder of the manifests"));
    factory.write("dev.yml", &device("xml/none.xml"));
    assert_eq!(attachment(&loader.load().await.unwrap()), Err("does not exist"));
    factory.write("dev.yml", &device("ftp://host/dev.xml"));
    assert!(attachment(&loader.load().await.unwrap()).unwrap_err().contains("`ftp://`"));
}

#[tokio::test]
async fn a_file_behind_https_is_fetched_and_then_asked_for_changes_only() {
    let (factory, server) = (Factory::new(), Server::start());
    factory.write("dev.yml", &device(&server.url("/dev.xml?token=secret")));
    server.answer(Answer::text("<one/>").header("ETag", "\"v1\""));
    let mut loader = factory.remote(&server, |remote| remote.refresh = Duration::ZERO);
    assert_eq!(attachment(&loader.load().await.unwrap()), Ok("<one/>"));
    server.answer(Answer::status(304));
    let mut changes = loader.changes();
    let seen = |server: &Server, count: usize| server.requests().len() >= count;
    until(|| seen(&server, 2), async || loader_load(&mut loader, Ok("<one/>")).await).await;
    assert!(server.requests()[1].iter().any(|line| line.eq_ignore_ascii_case("if-none-match: \"v1\"")));
    // A change arrives behind the scenes and is announced.
    server.answer(Answer::text("<two/>").header("ETag", "\"v2\""));
    let news = async {
        while attachment(&loader.load().await.unwrap()) != Ok("<two/>") {
            changes.next().await.expect("the hints ended");
        }
    };
    tokio::time::timeout(LONG, news).await.expect("the new text never came");
}

/// Loads and checks the attachment.
async fn loader_load(loader: &mut Loader<DirectorySource>, wanted: Result<&str, &str>) {
    assert_eq!(attachment(&loader.load().await.unwrap()), wanted);
}

/// Does something over and over until a condition holds.
async fn until(mut done: impl FnMut() -> bool, mut act: impl AsyncFnMut()) {
    let work = async {
        while !done() {
            act().await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, work).await.expect("it never came to be");
}

#[tokio::test]
async fn the_last_good_text_stays_in_force_while_the_server_fails_and_that_is_told() {
    let (factory, server) = (Factory::new(), Server::start());
    factory.write("dev.yml", &device(&server.url("/dev.xml?token=secret")));
    server.answer(Answer::text("<good/>"));
    let mut loader = factory.remote(&server, |remote| remote.refresh = Duration::ZERO);
    assert_eq!(attachment(&loader.load().await.unwrap()), Ok("<good/>"));
    for (answer, reason) in [
        (Answer::status(500), "the server says HTTP 500"),
        (Answer::status(404), "was not found (HTTP 404)"),
        (Answer::status(403), "may not be read (HTTP 403)"),
        (Answer { body: vec![b'x'; 1024 * 1024 + 1], ..Answer::status(200) }, "is more than 1048576 bytes"),
        (Answer { body: vec![0xff], ..Answer::status(200) }, "is not UTF-8"),
        (Answer::status(302).header("Location", "http://127.0.0.1/dev.xml"), "cannot be fetched"),
    ] {
        server.answer(answer);
        let told = async {
            loop {
                let tree = loader.load().await.unwrap();
                assert_eq!(attachment(&tree), Ok("<good/>"));
                if let [problem] = tree.problems.as_slice()
                    && problem.message.contains(reason)
                {
                    let text = format!("{problem:?}");
                    assert!(text.contains("Warning") && !text.contains("secret"), "{text}");
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, told).await.unwrap_or_else(|_| panic!("never told: {reason}"));
    }
    server.answer(Answer::text("<new/>"));
    let healed = async {
        loop {
            let tree = loader.load().await.unwrap();
            if attachment(&tree) == Ok("<new/>") && tree.problems.is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, healed).await.expect("the new text never came");
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_refused() {
    let (factory, server) = (Factory::new(), Server::start());
    factory.write("dev.yml", &device(&server.url("/dev.xml")));
    server.answer(Answer::text("<evil/>"));
    let tree = factory.loader(|options| options.remote.hosts = this_machine()).load().await.unwrap();
    let reason = attachment(&tree).unwrap_err();
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_daemon_does_not_wait_for_a_server_that_hangs() {
    let factory = Factory::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    factory.write("dev.yml", &device(&format!("https://127.0.0.1:{port}/dev.xml")));
    let mut loader = factory.loader(|options| {
        options.remote.hosts = this_machine();
        options.remote.patience = Duration::from_millis(10);
    });
    assert_eq!(attachment(&loader.load().await.unwrap()), Err("is still being fetched"));
    // A command waits, but not for ever.
    let mut loader = factory.loader(|options| {
        options.remote.hosts = this_machine();
        options.remote.timeout = Duration::from_millis(10);
    });
    loader_load(&mut loader, Err(UNREACHABLE)).await;
}

/// What is told of every host from which nothing came.
const UNREACHABLE: &str = "cannot be fetched: its server does not answer in time, or manifests may not reach it; hosts that \
     are not on the internet are named in OFOP_MODEL_HOSTS";

#[tokio::test]
async fn what_is_told_of_a_host_does_not_say_which_of_its_ports_are_open() {
    let (factory, server) = (Factory::new(), Server::start());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    server.answer(Answer::text("<inside/>"));
    let open = server.url("/dev.xml");
    for url in [
        open.clone(),
        format!("https://127.0.0.1:{closed}/dev.xml"),
        open.replace("127.0.0.1", "localhost"),
        open.replace("127.0.0.1", "2130706433"),
        open.replace("127.0.0.1", "[::1]"),
        open.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
    ] {
        factory.write("dev.yml", &device(&url));
        let mut loader = factory.remote(&server, |remote| remote.hosts = HostRules::default());
        loader_load(&mut loader, Err(UNREACHABLE)).await;
    }
    assert!(server.requests().is_empty());
    // Nor of one that may be reached.
    factory.write("dev.yml", &device(&format!("https://127.0.0.1:{closed}/dev.xml")));
    loader_load(&mut factory.remote(&server, |_| {}), Err(UNREACHABLE)).await;
    factory.write("dev.yml", &device(&open));
    let other_port = HostRules::parse(&format!("127.0.0.1:{closed}")).unwrap();
    loader_load(&mut factory.remote(&server, |remote| remote.hosts = other_port), Err(UNREACHABLE)).await;
    loader_load(&mut factory.remote(&server, |_| {}), Ok("<inside/>")).await;
}

#[tokio::test]
async fn every_host_on_a_way_of_redirects_must_be_one_that_may_be_reached() {
    let (factory, first, second) = (Factory::new(), Server::start(), Server::start());
    let authorities = factory.root.parent().unwrap().join("authorities.pem");
    fs::write(&authorities, [fs::read(first.ca()).unwrap(), fs::read(second.ca()).unwrap()].concat()).unwrap();
    let named = |server: &Server| server.url("").trim_start_matches("https://").to_owned();
    let loader = |hosts: &str| {
        factory.remote(&first, |remote| {
            remote.ca_file = Some(authorities.clone());
            remote.hosts = HostRules::parse(hosts).unwrap();
            remote.github_api = first.url("/api/v3");
            remote.github_token = Some("ghp_secret".into());
        })
    };
    first.answer(Answer::status(302).header("Location", second.url("/else.xml")));
    second.answer(Answer::text("<second/>"));
    factory.write("dev.yml", &device(&first.url("/dev.xml")));
    loader_load(&mut loader(&named(&first)), Err(UNREACHABLE)).await;
    assert!(second.requests().is_empty());
    loader_load(&mut loader("127.0.0.1"), Ok("<second/>")).await;
    // The token is for the host that it was given for.
    factory.write("dev.yml", &device("github://acme:plant@/xml/dev.xml"));
    loader_load(&mut loader("127.0.0.1"), Ok("<second/>")).await;
    let has_token = |request: &[String]| request.iter().any(|line| line.contains("ghp_secret"));
    assert!(has_token(first.requests().last().unwrap()));
    assert_eq!(second.requests().len(), 2);
    assert!(!second.requests().iter().any(|request| has_token(request)));
    // Without end.
    first.answer(Answer::status(301).header("Location", "again.xml"));
    let tree = loader("127.0.0.1").load().await.unwrap();
    assert_eq!(attachment(&tree), Err("cannot be fetched: it is redirected more than 5 times"));
    assert!(first.requests().last().unwrap()[0].contains("/again.xml"));
}

#[tokio::test]
async fn files_on_github_are_fetched_with_the_token_and_a_commit_only_once() {
    let (factory, server) = (Factory::new(), Server::start());
    let commit = "0123456789abcdef0123456789abcdef01234567";
    factory.write("dev.yml", &device(&format!("github://acme:plant@{commit}/xml/dev.xml")));
    server.answer(Answer::text("<github/>"));
    let mut loader = factory.remote(&server, |remote| {
        remote.github_api = server.url("/api/v3/");
        remote.github_token = Some("ghp_secret".into());
        remote.refresh = Duration::ZERO;
    });
    for _ in 0..3 {
        loader_load(&mut loader, Ok("<github/>")).await;
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "a commit never changes");
    assert_eq!(requests[0][0], format!("GET /api/v3/repos/acme/plant/contents/xml/dev.xml?ref={commit} HTTP/1.1"));
    assert!(requests[0].iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer ghp_secret")));
    // Without a token, from where everybody may read.
    factory.write("dev.yml", &device("github://acme:plant@/xml/dev.xml"));
    let mut loader = factory.remote(&server, |remote| remote.github_raw = server.url(""));
    loader_load(&mut loader, Ok("<github/>")).await;
    assert_eq!(server.requests()[1][0], "GET /acme/plant/HEAD/xml/dev.xml HTTP/1.1");
}

#[tokio::test]
async fn changes_of_the_schema_and_of_absolute_attachments_are_announced() {
    let factory = Factory::new();
    let beside = |name: &str| factory.root.parent().unwrap().join(name);
    let (schema, xml) = (beside("uns.yaml"), beside("dev.xml"));
    let placed =
        device(xml.to_str().unwrap()).replace("    connector:", "    uns:\n      plant: south\n    connector:");
    factory.write("dev.yml", &placed);
    fs::write(&schema, SCHEMA.replace("site", "plant")).unwrap();
    fs::write(&xml, "<one/>").unwrap();
    let models = Options { models: vec![xml.parent().unwrap().to_owned()], ..Options::at_once() };
    let options = LoaderOptions { schema: Some(schema.clone()), ..LoaderOptions::at_once(PlatformKind::Swarm) };
    let mut loader = Loader::new(DirectorySource::new([&factory.root], models), options);
    loader.load().await.unwrap();
    let mut changes = loader.changes();
    let mut expect = async |change: &Path, text: &str, wanted: fn(&ParsedTree) -> bool| {
        fs::write(change, text).unwrap();
        let seen = async {
            while !wanted(&loader.load().await.unwrap()) {
                changes.next().await.expect("the hints ended");
            }
        };
        tokio::time::timeout(LONG, seen).await.expect("the change was not announced");
    };
    expect(&xml, "<two/>", |tree| attachment(tree) == Ok("<two/>")).await;
    expect(&schema, "namespace_structure: 7\n", |tree| !tree.problems.is_empty()).await;
    expect(&schema, SCHEMA, |tree| tree.problems.is_empty()).await;
}

/// A source that tells of nothing.
struct Still;

impl Source for Still {
    async fn load(&self) -> Result<Tree, SourceTrouble> {
        Ok(Tree::default())
    }

    fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        futures_util::stream::pending()
    }

    fn place(&self) -> SourcePlace {
        SourcePlace { kind: SourceKind::Directory, location: "nowhere".into(), branch: None, path: "".into() }
    }

    fn read_ago(&self) -> Option<Duration> {
        None
    }

    async fn attachment(&self, _: &str, _: &str) -> Result<Arc<str>, String> {
        Err("is not there".into())
    }
}

#[tokio::test]
async fn nudges_that_come_together_are_a_hint_or_two() {
    let loader = Loader::new(Still, LoaderOptions::at_once(PlatformKind::Swarm));
    let mut changes = loader.changes();
    let mut quiet = async |limit| tokio::time::timeout(limit, changes.next()).await.is_err();
    while !quiet(Duration::from_millis(200)).await {}
    let nudge = loader.nudge();
    (0..100).for_each(|_| nudge());
    assert!(!quiet(LONG).await, "nobody was told");
    // The first one may have been taken before the others came.
    let second = !quiet(Duration::from_millis(200)).await;
    assert!(!second || quiet(Duration::from_millis(200)).await, "two looks at most were asked for");
}
