//! How long it takes from texts to the desired state: 10,000 mixed resources in 1,000 files, cold; and one changed
//! file among them. Figures and the machine are in `docs/performance.md`.

#![expect(clippy::unwrap_used, reason = "a bench may stop at what cannot be")]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ofop::compile::Compiler;
use ofop::desired::namespace::Schema;
use ofop::desired::{Namespace, ParseContext, ParsedFile, ParsedTree, parse};
use ofop::model::{PlatformKind, Settings};

const FILES: usize = 1_000;
const PER_FILE: usize = 10;

/// A file of apps and devices as factories have them: most are apps, every kind of connector occurs.
fn file(at: usize, mode: &str) -> (Arc<str>, String) {
    let mut apps = String::from("apps:\n");
    let mut devices = String::from("devices:\n");
    for entry in 0..PER_FILE {
        let number = at * PER_FILE + entry;
        match entry {
            0 => write!(
                devices,
                "  mill{number}:\n    uuid: MILL-{number:05}\n    uns: {{site: north, line: L{line}}}\n    connector:\n      \
                 type: mtconnect\n      agent: {{ip: 10.0.0.{line}, port: 5000}}\n",
                line = number % 100
            ),
            1 => write!(
                devices,
                "  plc{number}:\n    uuid: PLC-{number:05}\n    connector:\n      type: opcua\n      server: {{uri: \
                 opc.tcp://plc{number}:4840}}\n      variables:\n        temp: {{node_id: ns=3;i=1050, tag: Temperature, \
                 deadband: 0.1}}\n        hum: {{browse_path: 0:Root/0:Objects/2:Humidity, tag: Humidity}}\n"
            ),
            2 => write!(
                devices,
                "  gauge{number}:\n    uuid: GAUGE-{number:05}\n    connector: {{type: shdr, host: 10.1.0.1, port: 7878, data: \
                 {{t: {{tag: T, type: Samples}}}}}}\n"
            ),
            _ => write!(
                apps,
                "  app{number}:\n    uuid: APP-{number:05}\n    image: ghcr.io/factory/app:{mode}\n    uns: {{site: \
                 south}}\n    environment:\n      - MODE={mode}\n      - LINE={line}\n    routing: {{expose: true, port: \
                 8000}}\n    networks: [factory-net]\n    deploy:\n      replicas: 2\n      resources:\n        limits: {{cpus: \
                 0.5, memory: 256Mi}}\n      placement:\n        constraints: [node.role == worker]\n",
                line = number % 100
            ),
        }
        .unwrap();
    }
    (format!("desired/line{:02}/file{at:04}.yml", at % 40).into(), apps + &devices)
}

fn digest(at: usize, version: u8) -> [u8; 32] {
    let mut digest = [version; 32];
    digest[..8].copy_from_slice(&at.to_le_bytes());
    digest
}

fn context() -> ParseContext {
    let schema = "{namespace_structure: [{inc: Acme}, {site: [north, south]}, {line: ANY}, {asset: ANY}, {attribute: ANY}], \
                  uns_template: inc/site/line/asset/attribute}";
    let mut context = ParseContext::new(PlatformKind::Swarm);
    context.namespace = Namespace::Schema(Arc::new(Schema::parse(&"uns.yml".into(), schema).unwrap()));
    context
}

fn parsed(texts: &[(Arc<str>, String)], context: &ParseContext) -> Vec<ParsedFile> {
    texts.iter().enumerate().map(|(at, (path, text))| parse(path, text, digest(at, 0), context)).collect()
}

fn manifests(criterion: &mut Criterion) {
    let context = context();
    let texts: Vec<(Arc<str>, String)> = (0..FILES).map(|at| file(at, "1.0")).collect();
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let files = parsed(&texts, &context);
    assert!(
        files.iter().all(|file| file.manifest.is_some()),
        "{:?}",
        files.iter().find(|file| file.manifest.is_none())
    );
    println!("{} resources, {FILES} files, {} KiB", FILES * PER_FILE, bytes / 1024);
    let tree = ParsedTree { files, ..ParsedTree::default() };

    let mut group = criterion.benchmark_group("manifests");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("parse 10,000 resources in 1,000 files", |bencher| {
        bencher.iter(|| black_box(parsed(&texts, &context)));
    });
    group.bench_function("parse and compile 10,000 resources, cold", |bencher| {
        bencher.iter(|| {
            let tree = ParsedTree { files: parsed(&texts, &context), ..ParsedTree::default() };
            black_box(Compiler::new(Settings::default()).compile(&tree))
        });
    });
    group.bench_function("parse and compile one changed file among 1,000", |bencher| {
        let mut compiler = Compiler::new(Settings::default());
        let mut tree = tree.clone();
        let desired = compiler.compile(&tree);
        assert_eq!(desired.resources.len(), FILES * PER_FILE, "{:?}", desired.problems.first());
        let versions = [file(500, "1.1").1, file(500, "1.2").1];
        let mut version = 0;
        bencher.iter(|| {
            version = 1 - version;
            let path = texts[500].0.clone();
            tree.files[500] = parse(&path, &versions[usize::from(version)], digest(500, 1 + version), &context);
            black_box(compiler.compile(&tree))
        });
    });
    group.finish();
}

criterion_group!(benches, manifests);
criterion_main!(benches);
