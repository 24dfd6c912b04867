//! What following a repository costs: a fetch that finds nothing, and a commit that changes one file, with 10 and with
//! 10,000 manifests, over HTTPS on loopback. Before anything is measured it is counted: the first costs one request
//! and parses nothing, the second parses one file.
//!
//! Figures and the machine are in `docs/performance.md`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a bench may stop at what cannot be")]

#[path = "../tests/support/https.rs"]
#[allow(dead_code, reason = "shared with tests")]
mod https;
#[path = "../tests/support/repository.rs"]
mod repository;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use https::Server;
use ofop::desired::git::{GitOptions, GitSource};
use ofop::desired::{Loader, LoaderOptions, ParsedTree, Source};
use ofop::model::PlatformKind;
use repository::Plant;
use tokio::runtime::Runtime;

/// As many manifests as a large plant has, and as few as a small one.
const FILES: [usize; 2] = [10, 10_000];
/// Manifests in one folder.
const PER_FOLDER: usize = 100;

/// A repository behind a server, and who follows it.
struct Followed {
    plant: Plant,
    server: Server,
    loader: Loader<GitSource>,
    runtime: Runtime,
}

fn write(plant: &Plant, at: usize, tag: usize) {
    let text = format!(
        "apps:\n  press:\n    uuid: PRESS-{at:05}\n    image: ghcr.io/factory/press:{tag}\n    environment: \
         [MODE=auto]\n    networks: [factory-net]\n"
    );
    plant.write(&format!("factory/line{:03}/press{at:05}.yml", at / PER_FOLDER), &text);
}

impl Followed {
    fn new(files: usize) -> Self {
        let (plant, server, runtime) = (Plant::new(), Server::start(), Runtime::new().unwrap());
        for at in 0..files {
            write(&plant, at, 0);
        }
        plant.push("All of them");
        server.serve_git(&plant.dir.path().join("hub"), None);
        let options = GitOptions {
            ca_file: Some(server.ca()),
            path: "factory".into(),
            // Nothing is fetched but what is measured.
            interval: Duration::from_secs(24 * 3600),
            timeout: Duration::from_secs(600),
            ..GitOptions::new(server.url("/git/plant.git"), plant.dir.path().join("state"))
        };
        let loader = Loader::new(GitSource::new(options), LoaderOptions::at_once(PlatformKind::Swarm));
        let mut followed = Followed { plant, server, loader, runtime };
        let tree = followed.fetch();
        assert!(tree.files.len() == files && tree.files.iter().all(|file| file.manifest.is_some()));
        followed
    }

    /// From the fetch to the parsed tree.
    fn fetch(&mut self) -> Arc<ParsedTree> {
        self.loader.source().refresh();
        self.runtime.block_on(self.loader.load()).unwrap()
    }

    /// Commits a change of one file.
    fn change(&self, tag: usize) {
        write(&self.plant, 7, tag);
        self.plant.push(&format!("Version {tag}"));
    }

    fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

/// How many files were parsed for the second tree that the first one has not.
fn parsed_anew(before: &ParsedTree, after: &ParsedTree) -> usize {
    let pairs = before.files.iter().zip(&after.files);
    pairs
        .filter(|(before, after)| match (&before.manifest, &after.manifest) {
            (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
            _ => true,
        })
        .count()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn git(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("git");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for files in FILES {
        let mut followed = Followed::new(files);
        let before = followed.fetch();
        let mut tag = 0;
        for _ in 0..3 {
            tag += 1;
            followed.change(tag);
            let requests = followed.requests();
            let after = followed.fetch();
            assert_eq!(followed.requests() - requests, 2, "what there is, and what is missing");
            assert_eq!(parsed_anew(&before, &after), 1);
        }
        group.bench_function(
            format!("a commit that changes one of {files} files, from the fetch to the tree"),
            |bench| {
                bench.iter_custom(|times| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times {
                        tag += 1;
                        followed.change(tag);
                        let began = Instant::now();
                        black_box(followed.fetch());
                        spent += began.elapsed();
                    }
                    spent
                });
            },
        );

        followed.server.remember();
        let before = followed.fetch();
        for _ in 0..3 {
            let requests = followed.requests();
            assert!(Arc::ptr_eq(&before, &followed.fetch()), "the very tree of the last load");
            assert_eq!(followed.requests() - requests, 1);
        }
        group.bench_function(format!("a fetch that finds nothing new among {files} files"), |bench| {
            bench.iter(|| black_box(followed.fetch()));
        });
    }
    group.finish();
}

criterion_group!(benches, git);
criterion_main!(benches);
