//! What `POST /containers/create` receives.

use serde_json::{Map, Value, json};

use crate::model::service::Port;
use crate::model::{Mark, ServiceOptions, ServiceSpec};
use crate::platform::swarm::body::{entry, env, labels, mount, put, ulimits};
use crate::platform::swarm::options;

/// The body that creates a container; its name travels beside it. Of the options those count that plain Docker has: the
/// operator itself replaces containers and starts them again.
///
/// The first network is part of it, further
/// ones are connected before the container starts ([`further_networks`]), since engines before 25.0 take
/// only one.
pub fn create_body(spec: &ServiceSpec, mark: Option<&Mark>) -> Value {
    let mut labels = labels(spec);
    // A container keeps its labels for life: what may change while it runs is not written into them.
    let mark = mark.map(|mark| Mark { kept: None, ..mark.clone() });
    for (key, value) in mark.iter().flat_map(Mark::labels) {
        labels.insert(key.to_owned(), json!(value));
    }
    let mut body = Map::new();
    body.insert("Image".into(), json!(spec.image));
    put(&mut body, "Entrypoint", json!(spec.command));
    put(&mut body, "Cmd", json!(spec.args));
    put(&mut body, "Env", env(spec));
    if let Some(user) = &spec.user {
        body.insert("User".into(), json!(user));
    }
    put(&mut body, "Labels", Value::Object(labels));
    let exposed: Map<String, Value> = spec.ports.iter().map(|port| (inside(port), json!({}))).collect();
    put(&mut body, "ExposedPorts", Value::Object(exposed));
    let ServiceOptions { update: _, healthcheck, stop_grace_period, restart: _, hostname } = &spec.options;
    body.extend(healthcheck.as_ref().and_then(options::healthcheck).map(entry("Healthcheck")));
    body.extend(stop_grace_period.map(|grace| json!(grace.as_secs())).map(entry("StopTimeout")));
    body.extend(hostname.iter().filter(|name| !name.is_empty()).map(|name| json!(name)).map(entry("Hostname")));
    body.insert("HostConfig".into(), host_config(spec));
    if let Some(network) = spec.networks.first() {
        body.insert("NetworkingConfig".into(), json!({"EndpointsConfig": {network: {}}}));
    }
    Value::Object(body)
}

/// The networks to connect after creation.
pub fn further_networks(spec: &ServiceSpec) -> &[String] {
    spec.networks.get(1..).unwrap_or_default()
}

fn host_config(spec: &ServiceSpec) -> Value {
    let mut host = Map::new();
    let network = spec.networks.first().map_or("default", String::as_str);
    host.insert("NetworkMode".into(), json!(network));
    put(&mut host, "Mounts", spec.mounts.iter().map(mount).collect());
    put(&mut host, "Ulimits", ulimits(spec));
    if let Some(cpus) = spec.limits.nano_cpus {
        host.insert("NanoCpus".into(), json!(cpus));
    }
    if let Some(bytes) = spec.limits.memory_bytes {
        host.insert("Memory".into(), json!(bytes));
    }
    let mut bindings = Map::new();
    for port in &spec.ports {
        bindings.insert(inside(port), json!([{"HostPort": port.published.to_string()}]));
    }
    put(&mut host, "PortBindings", Value::Object(bindings));
    Value::Object(host)
}

fn inside(port: &Port) -> String {
    format!("{}/{}", port.target, port.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceName;
    use crate::model::service::EnvVar;

    #[test]
    fn a_container_takes_its_first_network_at_creation_and_the_rest_after() {
        let mut spec = ServiceSpec::new(ServiceName::new("cnc-agent").unwrap(), "agent:1");
        spec.command = vec!["sh".into(), "-c".into(), "true".into()];
        spec.env = vec![EnvVar::new("A", "1")];
        spec.networks = vec!["factory-net".into(), "mon".into()];
        spec.ports = vec![Port::tcp(3202, 5000)];
        spec.limits.nano_cpus = Some(1_000_000_000);
        assert_eq!(
            create_body(&spec, None),
            json!({
                "Image": "agent:1",
                "Entrypoint": ["sh", "-c", "true"],
                "Env": ["A=1"],
                "ExposedPorts": {"5000/tcp": {}},
                "HostConfig": {
                    "NetworkMode": "factory-net",
                    "NanoCpus": 1_000_000_000,
                    "PortBindings": {"5000/tcp": [{"HostPort": "3202"}]},
                },
                "NetworkingConfig": {"EndpointsConfig": {"factory-net": {}}},
            })
        );
        assert_eq!(further_networks(&spec), ["mon"]);
    }
}
