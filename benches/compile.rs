//! How long it takes from the text of 1,000 files with 10,000 resources to what they mean: everything at first,
//! one changed file later, nothing changed. Figures and the machine are in `docs/performance.md`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ofop::compile::Compiler;
use ofop::desired::{ParseContext, ParsedFile, ParsedTree, parse};
use ofop::model::{PlatformKind, Settings};

const FILES: usize = 1_000;
/// Of each file: nine apps and a device.
const APPS: usize = 9;

/// A file as people write them. `version` changes what it says.
fn text(file: usize, version: usize) -> String {
    let mut text = String::from("apps:\n");
    for app in 0..APPS {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "  press-{app}:
    uuid: PRESS-{file:04}-{app}
    image: ghcr.io/factory/press:{version}
    environment:
      - MODE=production
      - LINE={file}
      - TARGET=opc.tcp://plc-{file}:4840
    routing: {{expose: true, port: 8000, hostname: press-{file}-{app}}}
    storage:
      data:
        type: nfs
        server: nas.plant.example
        remote_path: /export/{file}
        mount_point: /data
    networks: [factory-net]
    deploy:
      resources:
        reservations: {{cpus: 0.1, memory: 64Mi}}
        limits: {{cpus: 0.5, memory: 256Mi}}
      placement:
        constraints: [node.labels.zone=a]
"
        );
    }
    let _ = write!(
        text,
        "devices:
  cnc:
    uuid: CNC-{file:04}
    connector:
      type: mtconnect
      agent: {{ip: 10.0.0.7, port: 5000}}
"
    );
    text
}

fn digest(file: usize, version: usize) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&(file as u64).to_le_bytes());
    digest[8..16].copy_from_slice(&(version as u64).to_le_bytes());
    digest
}

fn parsed(file: usize, version: usize, context: &ParseContext) -> ParsedFile {
    let path: Arc<str> = format!("desired/app_{file:04}.yml").into();
    parse(&path, &text(file, version), digest(file, version), context)
}

fn bench(c: &mut Criterion) {
    let context = ParseContext::new(PlatformKind::Swarm);
    let settings = Settings { base_domain: "plant.example".into(), ..Settings::default() };
    let texts: Vec<(Arc<str>, String)> =
        (0..FILES).map(|file| (format!("desired/app_{file:04}.yml").into(), text(file, 1))).collect();
    let read_all = || -> ParsedTree {
        let files = texts.iter().enumerate().map(|(file, (path, text))| parse(path, text, digest(file, 1), &context));
        ParsedTree { files: files.collect(), ..ParsedTree::default() }
    };
    let tree = read_all();
    let mut compiler = Compiler::new(settings.clone());
    let desired = compiler.compile(&tree);
    assert_eq!(desired.resources.len(), FILES * (APPS + 1));
    assert!(desired.complete);

    let mut group = c.benchmark_group("compile");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(10));
    group.bench_function("1,000 files, 10,000 resources, cold: parse and compile", |b| {
        b.iter(|| black_box(Compiler::new(settings.clone()).compile(&read_all())));
    });
    group.bench_function("1,000 files, 10,000 resources, cold: compile alone", |b| {
        b.iter(|| black_box(Compiler::new(settings.clone()).compile(&tree)));
    });
    let mut version = 1;
    let mut changing = tree.clone();
    group.bench_function("one file of 1,000 changed: parse and compile", |b| {
        b.iter(|| {
            version += 1;
            changing.files[500] = parsed(500, version, &context);
            black_box(compiler.compile(&changing))
        });
    });
    let mut same = Compiler::new(settings.clone());
    same.compile(&tree);
    group.bench_function("nothing changed", |b| b.iter(|| black_box(same.compile(&tree))));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
