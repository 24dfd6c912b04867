//! From a service that runs, and from what the registry holds, back to the manifest entry that would make them. Pure.
//!
//! What is written here is a proposal: whether it compiles to what runs is found out by compiling it.

use serde_json::{Map, Value, json};

use crate::model::record::{Scalar, Uns};
use crate::model::service::{EnvVar, Resources};
use crate::model::{AssetUuid, ResourceId, ServiceSpec, Settings};

/// Variables that OpenFactory puts before those of the manifest, in this order.
const BEFORE: [&str; 9] = [
    "APP_UUID",
    "KAFKA_BROKER",
    "KSQLDB_URL",
    "ASSET_ROUTER_URL",
    "DOCKER_SERVICE",
    "OPENFACTORY_LOG_BACKEND",
    "OPENFACTORY_TEXT_LOG_DIRECTORY",
    "PORT",
    "OPENFACTORY_ROOT_PATH",
];
/// The variable that holds `storage`, which comes after those.
const STORAGE: &str = "STORAGE";
/// The variable that comes after those of the manifest, unless the manifest sets it.
const LOG_LEVEL: &str = "KSQLDB_LOG_LEVEL";
/// What the variables begin with that Swarm fills in, at the end.
const AFTER: &str = "SWARM_";
/// One MiB.
const MEBIBYTE: i64 = 1 << 20;

/// The resource whose app a service is; none for a service that is no app of OpenFactory's.
pub(super) fn id_of_app(spec: &ServiceSpec) -> Option<ResourceId> {
    let uuid = spec.env.iter().find(|variable| variable.name == "APP_UUID")?;
    let is_named = uuid.value.eq_ignore_ascii_case(spec.name.as_str());
    AssetUuid::new(uuid.value.as_str()).ok().filter(|_| is_named).map(ResourceId::app)
}

/// The entry below `apps:` of the app that a service is.
pub(super) fn app(id: &ResourceId, spec: &ServiceSpec, uns: Option<&Uns>, settings: &Settings) -> Value {
    let mut entry = Map::new();
    entry.insert("uuid".into(), json!(id.uuid));
    entry.extend(uns.map(|uns| ("uns".to_owned(), levels(uns, id.uuid.as_str()))));
    entry.insert("image".into(), json!(without_digest(&spec.image)));
    if let Some((uid, gid)) = spec.user.as_ref().and_then(|user| user.split_once(':'))
        && let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>())
    {
        entry.insert("runtime_uid".into(), json!(uid));
        entry.insert("runtime_gid".into(), json!(gid));
    }
    let environment = Environment::of(&spec.env, settings);
    if !environment.own.is_empty() {
        entry.insert("environment".into(), json!(environment.own));
    }
    entry.extend(environment.storage.map(|storage| (STORAGE.to_lowercase(), storage)));
    entry.extend(routing(spec, environment.port).map(|routing| ("routing".to_owned(), routing)));
    if !spec.networks.is_empty() {
        entry.insert("networks".into(), json!(spec.networks));
    }
    entry.extend(deploy(spec).map(|deploy| ("deploy".to_owned(), deploy)));
    Value::Object(entry)
}

/// The entry below `devices:` of a device, out of the configuration that is registered for it.
pub(super) fn device(id: &ResourceId, config: &str, uns: Option<&Uns>) -> Result<Value, String> {
    let config: Value =
        serde_json::from_str(config).map_err(|_| "its registered configuration is no JSON".to_owned())?;
    let Value::Object(mut entry) = config else { return Err("its registered configuration is no object".into()) };
    entry.remove("uns");
    entry.extend(uns.map(|uns| ("uns".to_owned(), levels(uns, id.uuid.as_str()))));
    entry.insert("uuid".into(), json!(id.uuid));
    Ok(Value::Object(entry))
}

/// The levels of a place, without the one that the uuid fills in.
fn levels(uns: &Uns, uuid: &str) -> Value {
    let own = uns.levels.iter().filter(|(level, value)| level != "asset" || value.python_str() != uuid);
    let value = |value: &Scalar| match value {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => json!(value),
        Scalar::Int(number) => json!(number),
        Scalar::Float(number) => json!(number),
        Scalar::Text(text) => json!(text),
    };
    Value::Object(own.map(|(level, scalar)| (level.clone(), value(scalar))).collect())
}

/// A reference without the digest that an engine pinned; one that is nothing but a digest keeps it.
fn without_digest(image: &str) -> &str {
    match image.split_once("@sha256:") {
        Some((name, _)) if name.rsplit('/').next().is_some_and(|last| last.contains(':')) => name,
        _ => image,
    }
}

/// What the environment of a service says.
#[derive(Default)]
struct Environment {
    /// What the manifest sets, `NAME=value`.
    own: Vec<String>,
    storage: Option<Value>,
    port: Option<u16>,
}

impl Environment {
    fn of(all: &[EnvVar], settings: &Settings) -> Self {
        let mut found = Environment::default();
        let mut rest = all;
        let mut before = &BEFORE[..];
        while let Some((first, others)) = rest.split_first()
            && let Some(at) = before.iter().position(|name| *name == first.name)
        {
            if first.name == "PORT" {
                found.port = first.value.parse().ok();
            }
            before = &before[at + 1..];
            rest = others;
        }
        if let Some((first, others)) = rest.split_first()
            && first.name == STORAGE
            && let Ok(storage) = serde_json::from_str::<Value>(&first.value)
        {
            found.storage = Some(without_nulls(storage));
            rest = others;
        }
        while let Some((last, others)) = rest.split_last()
            && last.name.starts_with(AFTER)
        {
            rest = others;
        }
        if let Some((last, others)) = rest.split_last()
            && last.name == LOG_LEVEL
            && last.value == settings.ksqldb_log_level
        {
            rest = others;
        }
        found.own = rest.iter().map(EnvVar::joined).collect();
        found
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let given = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

/// How an app is reached: its labels say whether it is exposed, and under which further name.
fn routing(spec: &ServiceSpec, port: Option<u16>) -> Option<Value> {
    let port = port?;
    let exposed = spec.labels.get("traefik.enable").is_some_and(|enabled| enabled == "true");
    let rule = spec.labels.iter().find(|(key, _)| key.ends_with(".rule") && !key.contains("-external."));
    // ``Host(`press.plant`) || Host(`presses.plant`)``: the second is the further one.
    let alias = rule
        .and_then(|(_, rule)| rule.split_once("||"))
        .and_then(|(_, second)| second.trim().strip_prefix("Host(`")?.split(['.', '`']).next().map(str::to_owned));
    let mut routing = Map::from_iter([("expose".to_owned(), json!(exposed)), ("port".to_owned(), json!(port))]);
    routing.extend(alias.map(|alias| ("hostname".to_owned(), json!(alias))));
    Some(Value::Object(routing))
}

fn deploy(spec: &ServiceSpec) -> Option<Value> {
    let mut deploy = Map::new();
    if spec.replicas != 1 {
        deploy.insert("replicas".into(), json!(spec.replicas));
    }
    let mut limits = amounts(&spec.limits);
    let files = spec.ulimits.iter().find(|ulimit| ulimit.name == "nofile" && ulimit.soft == ulimit.hard);
    limits.extend(files.map(|files| ("open_files".to_owned(), json!(files.soft))));
    let reservations = amounts(&spec.reservations);
    let resources: Map<String, Value> = [("reservations", reservations), ("limits", limits)]
        .into_iter()
        .filter(|(_, amounts)| !amounts.is_empty())
        .map(|(name, amounts)| (name.to_owned(), Value::Object(amounts)))
        .collect();
    if !resources.is_empty() {
        deploy.insert("resources".into(), Value::Object(resources));
    }
    if !spec.constraints.is_empty() {
        deploy.insert("placement".into(), json!({ "constraints": spec.constraints }));
    }
    (!deploy.is_empty()).then_some(Value::Object(deploy))
}

#[expect(clippy::cast_precision_loss, reason = "billionths of a CPU are far below what a float holds exactly")]
fn amounts(resources: &Resources) -> Map<String, Value> {
    let memory = |bytes: i64| match bytes % MEBIBYTE {
        0 => format!("{}Mi", bytes / MEBIBYTE),
        _ => bytes.to_string(),
    };
    let mut amounts = Map::new();
    amounts.extend(resources.nano_cpus.map(|nano| ("cpus".to_owned(), json!(nano as f64 / 1e9))));
    amounts.extend(resources.memory_bytes.map(|bytes| ("memory".to_owned(), json!(memory(bytes)))));
    amounts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::compile::Compiler;
    use crate::desired::directory::{DirectorySource, Options};
    use crate::desired::{Loader, LoaderOptions};
    use crate::model::{DesiredResource, PlatformKind};

    fn settings() -> Settings {
        Settings { kafka_broker: "broker:9092".into(), ksqldb_url: "http://ksqldb:8088".into(), ..Settings::default() }
    }

    /// What a manifest compiles to.
    async fn compiled(text: &str) -> Vec<Arc<DesiredResource>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yml"), text).unwrap();
        let source = DirectorySource::new([folder.path().to_owned()], Options::at_once());
        let mut loader = Loader::new(source, LoaderOptions::at_once(PlatformKind::Swarm));
        let tree = loader.load().await.unwrap();
        let desired = Compiler::new(settings()).compile(&tree);
        assert_eq!(desired.errors(), 0, "{:?}", desired.problems);
        desired.resources.values().cloned().collect()
    }

    #[tokio::test]
    async fn an_app_comes_back_as_the_manifest_that_compiles_to_it() {
        for text in [
            "apps: {a: {uuid: PRESS, image: 'press:1'}}",
            "apps: {a: {uuid: PRESS, image: 'press:1', environment: [MODE=auto, PORT=7, KSQLDB_LOG_LEVEL=DEBUG]}}",
            "apps: {a: {uuid: PRESS, image: 'press:1', runtime_uid: 7, runtime_gid: 8, networks: [factory-net, other]}}",
            "apps: {a: {uuid: PRESS, image: 'press:1', routing: {expose: true, port: 8000, hostname: presses}}}",
            "apps: {a: {uuid: PRESS, image: 'press:1', routing: {expose: false, port: 8000}, environment: [MODE=1]}}",
            "apps: {a: {uuid: PRESS, image: 'press:1', storage: {data: {type: nfs, server: nas.plant, remote_path: /x, \
             mount_point: /data, mount_options: [ro]}}}}",
            "apps: {a: {uuid: PRESS, image: 'press:1', deploy: {replicas: 3, placement: {constraints: ['node.role == worker']}, \
             resources: {limits: {cpus: 0.5, memory: 512Mi, open_files: 1024}, reservations: {memory: '1000'}}}}}",
        ] {
            let before = compiled(text).await;
            let spec = &before[0].services[0].spec;
            let id = id_of_app(spec).unwrap();
            assert_eq!(id, before[0].id);
            let entry = app(&id, spec, None, &settings());
            let after = compiled(&json!({ "apps": { "a": entry } }).to_string()).await;
            assert_eq!(after[0].services, before[0].services, "{text}\n{entry}");
            assert_eq!(after[0].records, before[0].records, "{text}\n{entry}");
        }
    }

    #[test]
    fn what_is_no_app_of_openfactory_has_no_entry() {
        let mut spec = ServiceSpec::new(crate::model::ServiceName::new("press").unwrap(), "press:1");
        assert_eq!(id_of_app(&spec), None);
        spec.env = vec![EnvVar::new("APP_UUID", "OTHER")];
        assert_eq!(id_of_app(&spec), None, "its name is another one's");
        spec.env = vec![EnvVar::new("APP_UUID", "Press")];
        assert_eq!(id_of_app(&spec).unwrap().to_string(), "app/Press");
    }

    #[test]
    fn images_lose_the_digest_beside_a_tag() {
        let digest = format!("@sha256:{}", "0".repeat(64));
        assert_eq!(without_digest(&format!("reg:5000/press:1{digest}")), "reg:5000/press:1");
        let alone = format!("reg:5000/press{digest}");
        assert_eq!(without_digest(&alone), alone);
        assert_eq!(without_digest("press:1"), "press:1");
    }

    #[test]
    fn a_device_comes_back_with_its_levels() {
        let id: ResourceId = "device/CNC".parse().unwrap();
        let levels = vec![("site".to_owned(), Scalar::Text("S".into())), ("asset".into(), Scalar::Text("CNC".into()))];
        let uns = Uns { levels, uns_id: "S/CNC".into() };
        let config = r#"{"uuid":"CNC","uns":{"levels":{},"uns_id":""},"connector":{"type":"shdr"}}"#;
        let entry = device(&id, config, Some(&uns)).unwrap();
        assert_eq!(entry, json!({ "uuid": "CNC", "connector": { "type": "shdr" }, "uns": { "site": "S" } }));
        assert!(device(&id, "", None).is_err());
    }
}
