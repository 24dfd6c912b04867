//! Reading what the engine lists: 2,000 services, all new, and none changed.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ofop::platform::swarm::convert::{self, NetworkNames};
use serde_json::{Value, json};

/// As many services as a large plant has.
const SERVICES: usize = 2_000;

fn service(number: usize) -> Value {
    let name = format!("press-{number}");
    let router = format!("traefik.http.routers.ofa-{name}.rule");
    let labels = json!({
        "io.openfactory.operator/instance": "plant",
        "io.openfactory.operator/resource": format!("app/PRESS-{number}"),
        "io.openfactory.operator/spec": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "traefik.enable": "true",
        router: "Host(`press.plant.example`)"
    });
    let env: Vec<String> = (0..16).map(|at| format!("VARIABLE_{at}=value {at} of {name}")).collect();
    let template = json!({
        "ContainerSpec": {"Image": "reg.local/press:3.1", "Labels": labels, "Env": env, "User": "1500:1600",
            "Init": false, "DNSConfig": {}, "Isolation": "default", "Mounts": [{"Type": "volume", "Source": "nfs",
            "Target": "/data", "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}}]},
        "Resources": {"Limits": {"NanoCPUs": 800_000_000, "MemoryBytes": 268_435_456}, "Reservations": {}},
        "Placement": {"Constraints": ["node.labels.zone == a", "node.role == worker"]},
        "Networks": [{"Target": "hqo6ko58h49g8w0c9okva0yfu"}], "ForceUpdate": 0, "Runtime": "container"
    });
    let spec = json!({"Name": name, "Labels": labels, "TaskTemplate": template, "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "vip"}});
    json!({
        "ID": format!("{number:0>25}"), "Version": {"Index": number}, "CreatedAt": "2026-11-22T12:38:34.056131741Z",
        "UpdatedAt": "2026-11-22T12:38:34.059724818Z", "Spec": spec, "PreviousSpec": spec,
        "Endpoint": {"Spec": {"Mode": "vip"}, "VirtualIPs": [{"NetworkID": "hqo6ko58h49g8w0c9okva0yfu", "Addr": "10.0.1.2/24"}]}
    })
}

fn convert(criterion: &mut Criterion) {
    let list: Vec<String> = (0..SERVICES).map(|number| service(number).to_string()).collect();
    let networks: NetworkNames = [("hqo6ko58h49g8w0c9okva0yfu".to_owned(), "factory-net".to_owned())].into();
    let mut group = criterion.benchmark_group("convert");
    group.throughput(Throughput::Bytes(list.iter().map(|text| text.len() as u64).sum()));
    group.bench_function("2000 services, all new", |bencher| {
        bencher.iter(|| {
            for text in &list {
                black_box(convert::service(text.as_bytes(), &networks));
            }
        });
    });
    group.bench_function("2000 services, none changed", |bencher| {
        bencher.iter(|| {
            for text in &list {
                black_box(convert::header(text.as_bytes()));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, convert);
criterion_main!(benches);
