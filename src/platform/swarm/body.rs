//! What `POST /services/create` receives.

use serde_json::{Map, Value, json};

use super::options;
use crate::model::service::{Mount, Resources};
use crate::model::{Mark, ServiceSpec};

/// The body that creates a service: the fields that we own, and our mark. Fields that are empty are left out,
/// as OpenFactory does; the engine takes both alike.
pub fn create_body(spec: &ServiceSpec, mark: Option<&Mark>) -> Value {
    let mut labels = labels(spec);
    for (key, value) in mark.iter().flat_map(|mark| mark.labels()) {
        labels.insert(key.to_owned(), json!(value));
    }
    let mut body = Map::new();
    body.insert("Name".into(), json!(spec.name));
    put(&mut body, "Labels", Value::Object(labels));
    body.insert("TaskTemplate".into(), task_template(spec));
    body.insert("Mode".into(), json!({"Replicated": {"Replicas": spec.replicas}}));
    if !spec.ports.is_empty() {
        body.insert("EndpointSpec".into(), json!({"Ports": ports(spec)}));
    }
    body.extend(options::update_config(&spec.options.update).map(entry("UpdateConfig")));
    Value::Object(body)
}

/// `TaskTemplate`, owned fields only, empty ones left out.
fn task_template(spec: &ServiceSpec) -> Value {
    let mut container = Map::new();
    container.insert("Image".into(), json!(spec.image));
    put(&mut container, "Command", json!(spec.command));
    put(&mut container, "Args", json!(spec.args));
    put(&mut container, "Env", env(spec));
    if let Some(user) = &spec.user {
        container.insert("User".into(), json!(user));
    }
    put(&mut container, "Labels", Value::Object(labels(spec)));
    put(&mut container, "Mounts", spec.mounts.iter().map(mount).collect());
    put(&mut container, "Ulimits", ulimits(spec));
    container.extend(spec.options.healthcheck.as_ref().and_then(options::healthcheck).map(entry("Healthcheck")));
    container.extend(spec.options.stop_grace_period.map(options::nanos).map(entry("StopGracePeriod")));
    let hostname = spec.options.hostname.as_ref().filter(|name| !name.is_empty());
    container.extend(hostname.map(|name| json!(name)).map(entry("Hostname")));

    let mut template = Map::new();
    template.insert("ContainerSpec".into(), Value::Object(container));
    let mut bounds = Map::new();
    put(&mut bounds, "Limits", resources(spec.limits));
    put(&mut bounds, "Reservations", resources(spec.reservations));
    put(&mut template, "Resources", Value::Object(bounds));
    if !spec.constraints.is_empty() {
        template.insert("Placement".into(), json!({"Constraints": spec.constraints}));
    }
    put(&mut template, "Networks", networks(spec));
    template.extend(options::restart_policy(&spec.options.restart).map(entry("RestartPolicy")));
    Value::Object(template)
}

/// Our labels, the same on service and containers.
pub(in crate::platform) fn labels(spec: &ServiceSpec) -> Map<String, Value> {
    spec.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}

/// `NAME=value` in order.
pub(in crate::platform) fn env(spec: &ServiceSpec) -> Value {
    spec.env.iter().map(|variable| variable.joined()).collect()
}

/// Ulimits as both the service and the container API take them.
pub(in crate::platform) fn ulimits(spec: &ServiceSpec) -> Value {
    spec.ulimits.iter().map(|ulimit| json!({"Name": ulimit.name, "Soft": ulimit.soft, "Hard": ulimit.hard})).collect()
}

/// A mount as both the service and the container API take it.
pub(in crate::platform) fn mount(mount: &Mount) -> Value {
    let mut body = match mount {
        Mount::Volume { source, target, driver, options, read_only: _ } => {
            let mut body = json!({"Type": "volume", "Source": source, "Target": target});
            if !driver.is_empty() || !options.is_empty() {
                body["VolumeOptions"] = json!({"DriverConfig": {"Name": driver, "Options": options}});
            }
            body
        }
        Mount::Bind { source, target, read_only: _ } => json!({"Type": "bind", "Source": source, "Target": target}),
        Mount::Other { kind, target } => json!({"Type": kind, "Target": target}),
    };
    if matches!(mount, Mount::Volume { read_only: true, .. } | Mount::Bind { read_only: true, .. }) {
        body["ReadOnly"] = json!(true);
    }
    body
}

/// Networks by name; the engine turns them into ids.
fn networks(spec: &ServiceSpec) -> Value {
    spec.networks.iter().map(|name| json!({"Target": name})).collect()
}

/// Published ports; the ingress mode is the engine's default and left out.
fn ports(spec: &ServiceSpec) -> Value {
    spec.ports
        .iter()
        .map(|port| {
            let mut body =
                json!({"Protocol": port.protocol, "PublishedPort": port.published, "TargetPort": port.target});
            if port.mode != "ingress" {
                body["PublishMode"] = json!(port.mode);
            }
            body
        })
        .collect()
}

/// CPU and memory, those that are bounded.
fn resources(resources: Resources) -> Value {
    let mut body = Map::new();
    if let Some(cpus) = resources.nano_cpus {
        body.insert("NanoCPUs".into(), json!(cpus));
    }
    if let Some(bytes) = resources.memory_bytes {
        body.insert("MemoryBytes".into(), json!(bytes));
    }
    Value::Object(body)
}

/// A value under its key.
pub(in crate::platform) fn entry(key: &str) -> impl Fn(Value) -> (String, Value) {
    move |value| (key.to_owned(), value)
}

/// Inserts a list or an object unless it is empty.
pub(in crate::platform) fn put(body: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    if !empty {
        body.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::{EnvVar, Port};
    use crate::model::{Revision, ServiceName, SpecHash};

    fn spec() -> ServiceSpec {
        let mut spec = ServiceSpec::new(ServiceName::new("app-1").unwrap(), "busybox:local");
        spec.env = vec![EnvVar::new("B", "2"), EnvVar::new("A", "1")];
        spec
    }

    #[test]
    fn a_minimal_service_says_nothing_that_was_not_asked_for() {
        assert_eq!(
            create_body(&spec(), None).to_string(),
            r#"{"Name":"app-1","TaskTemplate":{"ContainerSpec":{"Image":"busybox:local","Env":["B=2","A=1"]}},"Mode":{"Replicated":{"Replicas":1}}}"#
        );
    }

    #[test]
    fn the_mark_is_on_the_service_and_never_on_its_containers() {
        let mut spec = spec();
        spec.labels.insert("traefik.enable".into(), "true".into());
        let mark = Mark {
            instance: crate::model::InstanceName::new("plant").unwrap(),
            resource: "app/APP-1".parse().unwrap(),
            spec: SpecHash("abc".into()),
            revision: Revision("r".into()),
            origin: "a.yml:3".into(),
            kept: Some(false),
            terms: crate::model::RemovalTerms::default(),
            options: Vec::new(),
            run: None,
        };
        let body = create_body(&spec, Some(&mark));
        assert_eq!(body["Labels"]["io.openfactory.operator/instance"], "plant");
        assert_eq!(body["Labels"]["traefik.enable"], "true");
        assert_eq!(body["TaskTemplate"]["ContainerSpec"]["Labels"], json!({"traefik.enable": "true"}));
    }

    #[test]
    fn every_owned_field_has_its_place() {
        let mut spec = spec();
        spec.command = vec!["sh".into()];
        spec.args = vec!["x".into()];
        spec.user = Some("1:2".into());
        spec.mounts = vec![
            Mount::Bind { source: "/a".into(), target: "/b".into(), read_only: true },
            Mount::Volume {
                source: "v".into(),
                target: "/v".into(),
                driver: "local".into(),
                options: [("type".to_owned(), "nfs".to_owned())].into(),
                read_only: false,
            },
        ];
        spec.ulimits = vec![crate::model::service::Ulimit { name: "nofile".into(), soft: 9, hard: 9 }];
        spec.limits = Resources { nano_cpus: Some(5), memory_bytes: Some(6) };
        spec.reservations.memory_bytes = Some(4);
        spec.constraints = vec!["node.role == worker".into()];
        spec.networks = vec!["b".into(), "a".into()];
        spec.replicas = 3;
        spec.ports = vec![Port::tcp(3202, 5000), Port { mode: "host".into(), ..Port::tcp(1, 2) }];
        let body = create_body(&spec, None);
        let container = &body["TaskTemplate"]["ContainerSpec"];
        assert_eq!(container["Command"], json!(["sh"]));
        assert_eq!(container["Args"], json!(["x"]));
        assert_eq!(container["User"], "1:2");
        assert_eq!(container["Ulimits"], json!([{"Name": "nofile", "Soft": 9, "Hard": 9}]));
        assert_eq!(
            container["Mounts"],
            json!([
                {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true},
                {"Type": "volume", "Source": "v", "Target": "/v",
                 "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}},
            ])
        );
        assert_eq!(
            body["TaskTemplate"]["Resources"],
            json!({"Limits": {"NanoCPUs": 5, "MemoryBytes": 6}, "Reservations": {"MemoryBytes": 4}})
        );
        assert_eq!(body["TaskTemplate"]["Placement"], json!({"Constraints": ["node.role == worker"]}));
        assert_eq!(body["TaskTemplate"]["Networks"], json!([{"Target": "b"}, {"Target": "a"}]));
        assert_eq!(body["Mode"], json!({"Replicated": {"Replicas": 3}}));
        assert_eq!(
            body["EndpointSpec"]["Ports"],
            json!([
                {"Protocol": "tcp", "PublishedPort": 3202, "TargetPort": 5000},
                {"Protocol": "tcp", "PublishedPort": 1, "TargetPort": 2, "PublishMode": "host"},
            ])
        );
    }
}
