//! Small things that OpenFactory's Python decides and that are easy to decide otherwise: which characters are white
//! space, which are digits, where a level stands in a name, which fields its models know.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;

use ofop::compile::Compiler;
use ofop::desired::namespace::Schema;
use ofop::desired::{Namespace, ParseContext, ParsedFile, ParsedTree, parse};
use ofop::model::{PlatformKind, Settings, Severity};
use ofop::render::render;
use serde_json::Value;

fn parsed(text: &str, context: &ParseContext) -> ParsedFile {
    parse(&"case.yml".into(), text, [0; 32], context)
}

fn context(platform: PlatformKind, schema: Option<&str>) -> ParseContext {
    let namespace = schema.map_or(Namespace::None, |text| {
        let schema = Schema::parse(&"uns.yml".into(), text);
        Namespace::Schema(Arc::new(schema.unwrap_or_else(|problems| panic!("{problems:?}"))))
    });
    ParseContext { namespace, ..ParseContext::new(platform) }
}

/// The only resource of a text, rendered.
fn rendered(text: &str, platform: PlatformKind, schema: Option<&str>) -> Value {
    let mut tree = ParsedTree::default();
    tree.files.push(parsed(text, &context(platform, schema)));
    let desired = Compiler::new(Settings { platform, ..Settings::default() }).compile(&tree);
    assert_eq!(desired.errors(), 0, "{text}: {:?}", desired.problems);
    render(&desired, platform)["resources"][0].clone()
}

/// An app with some more fields.
fn app(fields: &str) -> String {
    format!("apps: {{a: {{uuid: APP-1, image: i, {fields}}}}}")
}

fn rendered_app(fields: &str) -> Value {
    rendered(&app(fields), PlatformKind::Swarm, None)
}

/// Places of the errors and, behind a `?`, of the warnings of a text.
fn places(text: &str) -> Vec<String> {
    let problems = parsed(text, &context(PlatformKind::Swarm, None)).problems;
    let mark = |severity| if severity == Severity::Error { "" } else { "?" };
    problems.iter().map(|problem| format!("{}{}", mark(problem.severity), problem.path)).collect()
}

fn environment(service: &Value) -> Vec<&str> {
    let list = service.pointer("/TaskTemplate/ContainerSpec/Env").or_else(|| service.get("Env")).unwrap();
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

fn attribute(resource: &Value, id: &str) -> Value {
    let records = resource["records"].as_array().unwrap();
    records.iter().find(|record| record["value"]["ID"] == id).unwrap()["value"]["VALUE"].clone()
}

#[test]
fn the_name_in_the_namespace_follows_the_template_wherever_asset_stands() {
    let schema = "{namespace_structure: [{area: ANY}, {asset: ANY}, {inc: Acme}, {attribute: ANY}], \
                  uns_template: area/asset/inc/attribute}";
    for (uns, name) in [("{area: hall}", "hall/APP-1/Acme"), ("{}", "APP-1/Acme"), ("{asset: Press}", "Press/Acme")] {
        let resource = rendered(&app(&format!("uns: {uns}")), PlatformKind::Swarm, Some(schema));
        assert_eq!(attribute(&resource, "uns_id"), name, "{uns}");
    }
}

#[test]
fn a_level_that_the_template_names_twice_is_one_level() {
    let schema = "{namespace_structure: [{area: ANY}, {area: ANY}, {asset: ANY}, {attribute: ANY}], \
                  uns_template: area/area/asset/attribute}";
    let text = "devices: {d: {uuid: D-1, uns: {area: x}, connector: {type: shdr, host: h, port: 1}}}";
    let resource = rendered(text, PlatformKind::Swarm, Some(schema));
    assert_eq!(attribute(&resource, "uns_id"), "x/x/D-1");
    let config = resource["records"].as_array().unwrap().last().unwrap()["value"]["CONNECTOR_CONFIG"].clone();
    assert!(config.as_str().unwrap().contains(r#""levels":{"area":"x","asset":"D-1"}"#), "{config}");
}

#[test]
fn white_space_is_what_python_strips() {
    let resource = rendered_app(
        r#"environment: ["A\x1f=\x1c b \x1e"],
           storage: {d: {type: nfs, server: "\x1fnas", remote_path: "/r\x1f", mount_point: /m, mount_options: ["ro\x1f"]}}"#,
    );
    let service = &resource["services"][0];
    assert!(environment(service).contains(&"A=b"));
    let options = &service["TaskTemplate"]["ContainerSpec"]["Mounts"][0]["VolumeOptions"]["DriverConfig"]["Options"];
    assert_eq!(options["o"], "addr=nas,ro,nfsvers=4");
    assert_eq!(options["device"], ":/r");
    for blank in [r#""\x1f""#, r#""\u00a0""#, "' '"] {
        assert_eq!(places(&app(&format!("networks: [{blank}]"))), ["apps.a.networks[0]"], "{blank}");
    }
}

#[test]
fn the_replicas_of_an_app_on_plain_docker_know_their_own_uuid_only() {
    let text = app("environment: [APP_UUID=mine, B=1], deploy: {replicas: 2}");
    let resource = rendered(&text, PlatformKind::Docker, None);
    let second = environment(&resource["services"][1]);
    assert_eq!(second.iter().filter(|item| item.starts_with("APP_UUID=")).collect::<Vec<_>>(), [&"APP_UUID=APP-1-2"]);
    assert_eq!(second.last(), Some(&"APP_UUID=APP-1-2"));
}

#[test]
fn fields_that_the_models_know_and_nothing_uses_are_checked_all_the_same() {
    assert_eq!(
        places(&app("deploy: {resources: {reservations: {open_files: many}}}")),
        ["apps.a.deploy.resources.reservations.open_files"]
    );
    assert_eq!(places(&app("routing: {canonical_hostname: 5}")), ["apps.a.routing.canonical_hostname"]);
    assert_eq!(places(&app("routing: {alias_hostname: [x]}")), ["apps.a.routing.alias_hostname"]);
    assert_eq!(
        places(&app(
            "routing: {expose: true, port: 80, alias_hostname: x}, deploy: {resources: {reservations: {open_files: 5}}}"
        )),
        ["?apps.a.routing.alias_hostname", "?apps.a.deploy.resources.reservations.open_files"]
    );
    let text = "devices: {d: {uuid: D-1, connector: {type: mtconnect, agent: {ip: h, port: 5000, \
                deploy: {resources: {reservations: {open_files: '5'}}}}}}}";
    let resource = rendered(text, PlatformKind::Swarm, None);
    let config = resource["records"].as_array().unwrap().last().unwrap()["value"]["CONNECTOR_CONFIG"].clone();
    assert!(config.as_str().unwrap().contains(r#""reservations":{"open_files":5}"#), "{config}");
}

#[test]
fn keys_that_are_no_texts_are_unknown_fields_like_any_other() {
    assert_eq!(places(&app("deploy: {null: 1, 5: x}")), ["?apps.a.deploy.null", "?apps.a.deploy.5"]);
    assert_eq!(places(&app("null: 1")), ["apps.a.null"]);
    assert_eq!(places(&app("storage: {null: {type: s3}}")), ["apps.a.storage.null", "apps.a.storage.null.type"]);
}

#[test]
fn names_that_nobody_can_mean_are_refused() {
    for (name, place) in [(r#""d\n""#, r#"apps.a.storage."d\n""#), ("'a b'", r#"apps.a.storage."a b""#)] {
        let text = app(&format!("storage: {{{name}: {{type: nfs, server: s, remote_path: /r, mount_point: /m}}}}"));
        assert_eq!(places(&text), [place], "{name}");
    }
    for uuid in [r#""a\tb""#, &format!("'{}'", "u".repeat(254))] {
        let text = format!("devices: {{d: {{uuid: {uuid}, connector: {{type: shdr, host: h, port: 1}}}}}}");
        assert_eq!(places(&text), ["devices.d.uuid"], "{uuid}");
    }
    assert_eq!(places(&app("networks: [n, n]")), ["?apps.a.networks[1]"]);
}

#[test]
fn every_level_of_a_schema_that_is_wrong_is_shown_where_it_stands() {
    let schema = "{namespace_structure: [{inc: 1, area: 2}, {5: ANY}, {asset: ANY}, {attribute: ANY}], uns_template: asset/attribute}";
    let problems = Schema::parse(&"uns.yml".into(), schema).unwrap_err();
    let places: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        places,
        [
            "namespace_structure[0]",
            "namespace_structure[0].inc",
            "namespace_structure[0].area",
            "namespace_structure[1].5",
        ]
    );
}

#[test]
fn a_mistyped_section_leaves_the_file_without_any() {
    assert_eq!(places("appz: {}"), ["", "appz"]);
    assert_eq!(places("services: {}\nversion: '3'\n"), ["", "services", "version"]);
}

#[test]
fn numbers_of_any_size_are_floats_where_a_float_is_wanted() {
    let device = |interval: &str| {
        format!(
            "devices: {{d: {{uuid: D-1, connector: {{type: opcua, server: {{uri: u, \
             subscription: {{publishing_interval: {interval}}}}}}}}}}}"
        )
    };
    let resource = rendered(&device("18446744073709551616"), PlatformKind::Swarm, None);
    let config = resource["records"].as_array().unwrap().last().unwrap()["value"]["CONNECTOR_CONFIG"].clone();
    assert!(config.as_str().unwrap().contains(r#""publishing_interval":1.8446744073709552e+19"#), "{config}");
    let beyond = format!("1{}", "0".repeat(400));
    assert_eq!(places(&device(&beyond)).len(), 1);
}

#[test]
fn no_cpus_at_all_are_no_bound_even_where_there_is_a_default() {
    let resources = |fields: &str| {
        let text = format!(
            "devices: {{d: {{uuid: D-1, connector: {{type: mtconnect, agent: {{ip: h, port: 1, deploy: {{resources: {fields}}}}}}}}}}}"
        );
        rendered(&text, PlatformKind::Swarm, None)["services"][0]["TaskTemplate"]["Resources"].clone()
    };
    let some = resources("{limits: {cpus: 0}, reservations: {cpus: 0.25}}");
    assert_eq!((&some["Limits"]["NanoCPUs"], &some["Reservations"]["NanoCPUs"]), (&Value::Null, &250_000_000.into()));
    let default = resources("{limits: {memory: 64Mi}}");
    assert_eq!(default["Limits"]["NanoCPUs"], 1_000_000_000);
    assert_eq!(default["Reservations"]["NanoCPUs"], 500_000_000);
}

#[test]
fn a_storage_is_told_in_pythons_json() {
    let resource = rendered_app(
        r#"storage: {d: {type: nfs, description: "\x7f \u00fc \U0001f3ed", server: s, remote_path: /r, mount_point: /m}}"#,
    );
    let storage = environment(&resource["services"][0]).into_iter().find(|item| item.starts_with("STORAGE=")).unwrap();
    assert!(storage.contains(r#""description": "\u007f \u00fc \ud83c\udfed", "#), "{storage}");
}

#[test]
fn memory_without_a_unit_is_a_whole_number_of_bytes() {
    let limit = |text: &str| {
        let resource = rendered_app(&format!("deploy: {{resources: {{limits: {{memory: '{text}'}}}}}}"));
        resource["services"][0]["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"].clone()
    };
    assert_eq!(limit("10_000_000"), 10_000_000);
    assert_eq!(limit("1e1M"), 10 << 20);
    for text in ["0.5", "16777216.0", "1e9"] {
        let text = app(&format!("deploy: {{resources: {{limits: {{memory: '{text}'}}}}}}"));
        assert_eq!(places(&text), ["apps.a.deploy.resources.limits.memory"], "{text}");
    }
}
