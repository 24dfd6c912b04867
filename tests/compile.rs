//! Compiling trees: what takes effect, what stays frozen, what is refused, and at what cost.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use ofop::compile::{Compiler, MAX_ENV_BYTES};
use ofop::desired::manifest::{
    Adapter, AdapterAt, After, Agent, App, Connector, Deploy, Device, Manifest, Metrics, Mtconnect, Place, PullPolicy,
    Routing,
};
use ofop::desired::{ParsedFile, ParsedTree};
use ofop::model::service::EnvVar;
use ofop::model::{
    AssetUuid, Desired, Handling, PlatformKind, Problem, Record, ResourceId, Revision, Settings, Severity,
};

fn app(uuid: &str) -> App {
    App {
        name: uuid.to_lowercase(),
        place: Place { line: 3, column: 3 },
        uuid: AssetUuid::new(uuid).unwrap(),
        image: "busybox:local".into(),
        pull: PullPolicy::Missing,
        user: None,
        uns: None,
        environment: Vec::new(),
        storage: None,
        routing: None,
        metrics: None,
        networks: Vec::new(),
        deploy: Deploy::default(),
        handling: Handling::default(),
        options: ofop::model::ServiceOptions::default(),
    }
}

fn device(uuid: &str, connector: Connector) -> Device {
    Device {
        name: uuid.to_lowercase(),
        place: Place { line: 2, column: 3 },
        uuid: AssetUuid::new(uuid).unwrap(),
        uns: None,
        connector,
        config_with_nulls: "{\"uuid\":null}".into(),
        config: "{}".into(),
        handling: Handling::default(),
        options: ofop::model::ServiceOptions::default(),
    }
}

fn own_agent(uuid: &str) -> Device {
    let adapter =
        Adapter { at: AdapterAt::Image("reg/adapter:1".into()), port: 7878, environment: Vec::new(), deploy: None };
    let agent = Agent::Ours { device_xml: "m.xml".into(), device_xml_place: Place { line: 7, column: 21 }, adapter };
    device(uuid, Connector::Mtconnect(Box::new(Mtconnect { agent, port: 3201, deploy: None })))
}

fn file(path: &str, version: u8, apps: Vec<App>, devices: Vec<Device>) -> ParsedFile {
    let manifest = Some(Arc::new(Manifest { apps, devices, ..Manifest::default() }));
    ParsedFile { path: path.into(), digest: [version; 32], manifest, problems: Vec::new(), rules: None, other: None }
}

fn broken(path: &str, version: u8) -> ParsedFile {
    let problems = vec![Problem::file(path, "is not YAML")];
    ParsedFile { path: path.into(), digest: [version; 32], manifest: None, problems, rules: None, other: None }
}

fn tree(files: Vec<ParsedFile>) -> ParsedTree {
    ParsedTree { revision: Revision("r".into()), files, ..ParsedTree::default() }
}

fn compiler() -> Compiler {
    Compiler::new(Settings::default())
}

fn ids(desired: &Desired) -> Vec<String> {
    let word = |frozen: bool| if frozen { " frozen" } else { "" };
    desired.resources.iter().map(|(id, resource)| format!("{id}{}", word(resource.frozen))).collect()
}

fn errors(desired: &Desired) -> Vec<String> {
    let errors = desired.problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(|problem| format!("{}:{} {} {}", problem.file, problem.line, problem.path, problem.message)).collect()
}

fn image(desired: &Desired, id: &str) -> String {
    desired.resources[&id.parse::<ResourceId>().unwrap()].services[0].spec.image.clone()
}

fn services(desired: &Desired, id: &str) -> Vec<String> {
    let resource = &desired.resources[&id.parse::<ResourceId>().unwrap()];
    resource.services.iter().map(|service| service.spec.name.to_string()).collect()
}

#[test]
fn an_unchanged_tree_yields_the_same_value() {
    let mut compiler = compiler();
    let tree = tree(vec![file("a.yml", 1, vec![app("A")], vec![])]);
    let first = compiler.compile(&tree);
    assert!(Arc::ptr_eq(&first, &compiler.compile(&tree)));
}

#[test]
fn a_changed_file_leaves_the_values_of_all_others_alone() {
    let mut compiler = compiler();
    let other = file("b.yml", 1, vec![app("B")], vec![]);
    let first = compiler.compile(&tree(vec![file("a.yml", 1, vec![app("A")], vec![]), other.clone()]));
    let changed = App { image: "busybox:2".into(), ..app("A") };
    let second = compiler.compile(&tree(vec![file("a.yml", 2, vec![changed], vec![]), other]));
    assert_eq!(image(&second, "app/A"), "busybox:2");
    let b: ResourceId = "app/B".parse().unwrap();
    assert!(Arc::ptr_eq(&first.resources[&b], &second.resources[&b]));
}

#[test]
fn an_invalid_file_keeps_what_it_last_said_and_others_converge() {
    let mut compiler = compiler();
    compiler.compile(&tree(vec![file("a.yml", 1, vec![app("A")], vec![]), file("b.yml", 1, vec![app("B")], vec![])]));
    let newer = App { image: "busybox:2".into(), ..app("B") };
    let desired = compiler.compile(&tree(vec![broken("a.yml", 2), file("b.yml", 2, vec![newer], vec![])]));
    assert_eq!(ids(&desired), ["app/A frozen", "app/B"]);
    assert_eq!(image(&desired, "app/B"), "busybox:2");
    assert!(!desired.complete);

    let mended =
        compiler.compile(&tree(vec![file("a.yml", 3, vec![], vec![]), file("b.yml", 3, vec![app("B")], vec![])]));
    assert_eq!(ids(&mended), ["app/B"]);
    assert!(mended.complete);
}

#[test]
fn a_file_that_was_never_valid_makes_the_state_incomplete() {
    let desired = compiler().compile(&tree(vec![broken("a.yml", 1), file("b.yml", 1, vec![app("B")], vec![])]));
    assert_eq!(ids(&desired), ["app/B"]);
    assert!(!desired.complete);
    assert_eq!(desired.errors(), 1);
}

#[test]
fn a_file_that_is_gone_takes_its_resources_with_it() {
    let mut compiler = compiler();
    compiler.compile(&tree(vec![file("a.yml", 1, vec![app("A")], vec![]), file("b.yml", 1, vec![app("B")], vec![])]));
    let desired = compiler.compile(&tree(vec![file("b.yml", 1, vec![app("B")], vec![])]));
    assert_eq!(ids(&desired), ["app/B"]);
    assert!(desired.complete);
}

#[test]
fn a_duplicate_uuid_is_an_error_on_both_files_and_freezes_them() {
    let mut compiler = compiler();
    compiler.compile(&tree(vec![
        file("a.yml", 1, vec![app("A"), app("X")], vec![]),
        file("b.yml", 1, vec![app("B")], vec![]),
        file("c.yml", 1, vec![app("C")], vec![]),
    ]));
    let desired = compiler.compile(&tree(vec![
        file("a.yml", 1, vec![app("A"), app("X")], vec![]),
        file("b.yml", 2, vec![app("X")], vec![]),
        file("c.yml", 2, vec![App { image: "busybox:2".into(), ..app("C") }], vec![]),
    ]));
    assert_eq!(ids(&desired), ["app/A frozen", "app/B frozen", "app/C", "app/X frozen"]);
    assert_eq!(image(&desired, "app/C"), "busybox:2");
    assert_eq!(
        errors(&desired),
        [
            "a.yml:3 apps.x.uuid uuid `X` is described twice: also in b.yml:3",
            "b.yml:3 apps.x.uuid uuid `X` is described twice: also in a.yml:3",
        ]
    );
    let mended = compiler.compile(&tree(vec![
        file("a.yml", 3, vec![app("A")], vec![]),
        file("b.yml", 2, vec![app("X")], vec![]),
        file("c.yml", 2, vec![app("C")], vec![]),
    ]));
    assert_eq!(ids(&mended), ["app/A", "app/C", "app/X"]);
    assert!(mended.complete);
}

#[test]
fn names_collide_by_case_across_kinds_and_by_derivation() {
    let replicated = |uuid: &str| App { deploy: Deploy { replicas: 2, ..Deploy::default() }, ..app(uuid) };
    let opcua = |uuid: &str| device(uuid, Connector::Opcua);
    let pairs: Vec<(Manifest, Manifest)> = vec![
        (
            Manifest { apps: vec![app("Press")], devices: vec![], ..Manifest::default() },
            Manifest { apps: vec![app("PRESS")], devices: vec![], ..Manifest::default() },
        ),
        (
            Manifest { apps: vec![app("Press")], devices: vec![], ..Manifest::default() },
            Manifest { apps: vec![], devices: vec![opcua("Press")], ..Manifest::default() },
        ),
        (
            Manifest { apps: vec![], devices: vec![own_agent("CNC")], ..Manifest::default() },
            Manifest { apps: vec![app("cnc-adapter")], devices: vec![], ..Manifest::default() },
        ),
        (
            Manifest { apps: vec![], devices: vec![own_agent("CNC")], ..Manifest::default() },
            Manifest { apps: vec![], devices: vec![opcua("CNC-PRODUCER")], ..Manifest::default() },
        ),
        (
            Manifest { apps: vec![replicated("Rep")], devices: vec![], ..Manifest::default() },
            Manifest { apps: vec![app("rep-2")], devices: vec![], ..Manifest::default() },
        ),
    ];
    for platform in [PlatformKind::Swarm, PlatformKind::Docker] {
        for (one, two) in &pairs {
            let mut tree = tree(vec![
                file("a.yml", 1, one.apps.clone(), one.devices.clone()),
                file("b.yml", 1, two.apps.clone(), two.devices.clone()),
            ]);
            for path in ["a.yml", "b.yml"] {
                tree.attachments.insert((path.into(), "m.xml".into()), Ok("<a/>".into()));
            }
            let desired = Compiler::new(Settings { platform, ..Settings::default() }).compile(&tree);
            let files: Vec<&str> = desired.problems.iter().map(|problem| &*problem.file).collect();
            assert_eq!(files, ["a.yml", "b.yml"], "{:?}", desired.problems);
            assert!(ids(&desired).is_empty());
        }
    }
}

#[test]
fn a_resource_may_move_to_another_file() {
    let mut compiler = compiler();
    compiler.compile(&tree(vec![
        file("a.yml", 1, vec![app("A"), app("X")], vec![]),
        file("b.yml", 1, vec![app("B")], vec![]),
    ]));
    for files in [
        vec![file("a.yml", 2, vec![app("A")], vec![]), file("b.yml", 2, vec![app("B"), app("X")], vec![])],
        vec![file("a.yml", 3, vec![app("A"), app("X")], vec![]), file("b.yml", 3, vec![app("B")], vec![])],
        vec![file("a.yml", 4, vec![app("A")], vec![]), file("z.yml", 4, vec![app("B"), app("X")], vec![])],
    ] {
        let desired = compiler.compile(&tree(files));
        assert_eq!(ids(&desired), ["app/A", "app/B", "app/X"]);
        assert!(desired.complete);
    }
}

#[test]
fn a_frozen_file_goes_on_claiming_what_it_last_said() {
    let mut compiler = compiler();
    compiler.compile(&tree(vec![
        file("a.yml", 1, vec![app("X")], vec![]),
        file("b.yml", 1, vec![app("B")], vec![]),
        file("c.yml", 1, vec![app("C")], vec![]),
    ]));
    // a cannot be read, b takes over X, c takes over B: nobody can tell whether a still describes X.
    let desired = compiler.compile(&tree(vec![
        broken("a.yml", 2),
        file("b.yml", 2, vec![App { image: "busybox:2".into(), ..app("X") }], vec![]),
        file("c.yml", 2, vec![app("C"), app("B")], vec![]),
    ]));
    assert_eq!(ids(&desired), ["app/B frozen", "app/C frozen", "app/X frozen"]);
    assert_eq!(image(&desired, "app/X"), "busybox:local");
    assert_eq!(errors(&desired).len(), 3);
}

#[test]
fn device_xml_that_cannot_be_read_freezes_its_file() {
    let mut compiler = compiler();
    let mut tree = tree(vec![file("d.yml", 1, vec![app("A")], vec![own_agent("CNC")])]);
    let key = ("d.yml".to_owned(), "m.xml".to_owned());
    tree.attachments.insert(key.clone(), Ok("<a/>".into()));
    assert_eq!(services(&compiler.compile(&tree), "device/CNC"), ["cnc-adapter", "cnc-agent", "cnc-producer"]);

    tree.attachments.insert(key.clone(), Err("no such file".into()));
    let desired = compiler.compile(&tree);
    assert_eq!(ids(&desired), ["app/A frozen", "device/CNC frozen"]);
    assert_eq!(
        errors(&desired),
        ["d.yml:7 devices.cnc.connector.agent.device_xml device XML `m.xml` cannot be read: no such file"]
    );

    tree.attachments.insert(key.clone(), Ok("<b/>".into()));
    let desired = compiler.compile(&tree);
    let agent = &desired.resources[&"device/CNC".parse::<ResourceId>().unwrap()].services[1];
    assert!(agent.spec.env.contains(&EnvVar::new("XML_MODEL", "<b/>")));

    tree.attachments.insert(key, Ok("x".repeat(MAX_ENV_BYTES).into()));
    let desired = compiler.compile(&tree);
    assert!(errors(&desired)[0].contains("too large"), "{:?}", desired.problems);
}

#[test]
fn oversized_environments_are_refused_without_showing_them() {
    let mut large = app("A");
    large.environment = vec![EnvVar::new("BIG", "s3cret".repeat(MAX_ENV_BYTES / 6))];
    let mut many = app("B");
    many.environment = (0..10).map(|n| EnvVar::new(format!("N{n}"), "x".repeat(100_000))).collect();
    let desired =
        compiler().compile(&tree(vec![file("a.yml", 1, vec![large], vec![]), file("b.yml", 1, vec![many], vec![])]));
    let errors = errors(&desired);
    assert!(errors[0].starts_with("a.yml:3 apps.a.environment environment variable `BIG`"), "{errors:?}");
    assert!(errors[1].starts_with("b.yml:3 apps.b service `b` would take"), "{errors:?}");
    assert!(!errors.concat().contains("s3cret"));
    assert!(ids(&desired).is_empty());
}

#[test]
fn replicas_on_docker_are_containers_of_their_own() {
    let settings = Settings { platform: PlatformKind::Docker, ..Settings::default() };
    let mut rep = app("Rep");
    rep.deploy.replicas = 3;
    rep.metrics = Some(Metrics { port: 4000, path: "/m".into() });
    rep.routing = Some(Routing { expose: true, port: Some(80), hostname: None });
    let desired = Compiler::new(settings).compile(&tree(vec![file("a.yml", 1, vec![rep], vec![])]));
    assert_eq!(services(&desired, "app/Rep"), ["rep-1", "rep-2", "rep-3"]);
    let resource = &desired.resources[&"app/Rep".parse::<ResourceId>().unwrap()];
    let second = &resource.services[1].spec;
    assert_eq!(second.env.last(), Some(&EnvVar::new("APP_UUID", "Rep-2")));
    assert!(second.labels.contains_key("traefik.http.routers.ofa-rep.rule"));
    let hosts: Vec<&str> = resource
        .records
        .iter()
        .filter_map(|record| match &**record {
            Record::MetricsTarget { host, .. } => Some(host.as_str()),
            Record::Asset(_) | Record::Connector { .. } | Record::CoordinatorDevice { .. } => None,
        })
        .collect();
    assert_eq!(hosts, ["rep-1", "rep-2", "rep-3"]);
}

#[test]
fn replicas_on_swarm_name_the_service_that_exists() {
    let mut rep = app("Rep");
    rep.deploy.replicas = 2;
    let desired = compiler().compile(&tree(vec![file("a.yml", 1, vec![rep], vec![])]));
    let resource = &desired.resources[&"app/Rep".parse::<ResourceId>().unwrap()];
    for (record, uuid) in resource.records.iter().zip(["Rep-1", "Rep-2"]) {
        let Record::Asset(asset) = &**record else { panic!("an asset, not {record:?}") };
        assert_eq!((asset.uuid.as_str(), asset.docker_service.as_str()), (uuid, "rep"));
    }
}

fn after(mut app: App, first: &[&str]) -> App {
    app.handling.after = first.iter().map(|id| id.parse().unwrap()).collect();
    app
}

/// A file whose `after` stands on line 9.
fn ordered(path: &str, version: u8, apps: Vec<App>) -> ParsedFile {
    let named: Vec<_> = apps.iter().flat_map(|app| app.handling.after.clone()).collect();
    let places = named.into_iter().map(|first| After {
        first,
        place: Place { line: 9, column: 12 },
        path: "x-ofop.after[0]".into(),
    });
    let manifest = Manifest { after: places.collect(), apps, ..Manifest::default() };
    ParsedFile { manifest: Some(Arc::new(manifest)), ..file(path, version, vec![], vec![]) }
}

#[test]
fn waits_that_can_never_end_are_errors_over_all_files() {
    let errors = |files: Vec<ParsedFile>| {
        let desired = compiler().compile(&tree(files));
        desired.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let fine = || ordered("db.yml", 1, vec![app("DB")]);
    assert_eq!(errors(vec![fine(), ordered("b.yml", 1, vec![after(app("A"), &["app/DB"])])]), [""; 0]);

    let unknown = errors(vec![fine(), ordered("b.yml", 1, vec![after(app("A"), &["app/db"])])]);
    assert_eq!(unknown.len(), 1);
    assert!(unknown[0].starts_with("b.yml:9:12: x-ofop.after[0]: "), "{unknown:?}");
    assert!(unknown[0].contains("no manifest describes app/db") && unknown[0].contains("did you mean `app/DB`"));

    let round = errors(vec![
        ordered("a.yml", 1, vec![after(app("A"), &["app/B"])]),
        ordered(
            "b.yml",
            1,
            vec![after(app("B"), &["app/C"]), after(app("C"), &["app/A"]), after(app("D"), &["app/A"])],
        ),
    ]);
    assert_eq!(round.len(), 3, "who comes after the round is in none itself: {round:#?}");
    assert!(round[0].contains("app/A after app/B after app/C after app/A"), "{round:#?}");
    assert_eq!(errors(vec![ordered("a.yml", 1, vec![after(app("A"), &["app/A"])])]).len(), 1);

    let mut left_alone = app("DB");
    left_alone.handling.suspend = true;
    let suspended =
        errors(vec![ordered("db.yml", 1, vec![left_alone]), ordered("b.yml", 1, vec![after(app("A"), &["app/DB"])])]);
    assert!(suspended.len() == 1 && suspended[0].contains("suspended by its manifest"), "{suspended:?}");
}

#[test]
fn what_an_unreadable_file_may_describe_is_waited_for_and_no_error() {
    let waits = || ordered("b.yml", 1, vec![after(app("A"), &["app/DB"])]);
    let mut compiler = compiler();
    let desired = compiler.compile(&tree(vec![waits(), broken("db.yml", 1)]));
    assert_eq!((desired.problems.len(), desired.resources.len()), (1, 1));
    // It turns out to describe something else: now it is an error, and what was in force stays.
    let desired = compiler.compile(&tree(vec![waits(), ordered("db.yml", 2, vec![app("OTHER")])]));
    assert_eq!((desired.errors(), desired.complete), (1, false));
    assert_eq!(ids(&desired), ["app/A frozen", "app/OTHER"]);
}

#[test]
fn what_a_manifest_says_of_a_device_holds_whatever_its_connector() {
    let external = Agent::External { ip: "10.0.0.7".into() };
    let mtconnect = Connector::Mtconnect(Box::new(Mtconnect { agent: external, port: 5000, deploy: None }));
    for connector in [mtconnect, Connector::Opcua, Connector::Shdr] {
        let handling = Handling { suspend: true, prune: false, ..Handling::default() };
        let device = Device { handling: handling.clone(), ..device("CNC", connector) };
        let desired = compiler().compile(&tree(vec![file("d.yml", 1, vec![], vec![device])]));
        assert_eq!(errors(&desired), Vec::<String>::new());
        assert_eq!(desired.resources[&"device/CNC".parse::<ResourceId>().unwrap()].handling, handling);
    }
}
