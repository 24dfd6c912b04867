//! The operator's policy: what manifests may ask for, folder by folder.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ofop::compile::Compiler;
use ofop::desired::directory::{DirectorySource, Options};
use ofop::desired::{Loader, LoaderOptions, ParseContext, ParsedTree, Policy, PolicyFile, Source as _, parse};
use ofop::model::service::Mount;
use ofop::model::{Desired, ImageRef, InstanceName, Observed, PlatformKind, Problem, ServiceSpec, Settings, Severity};
use ofop::report::{SourceView, Status};
use proptest::prelude::*;
use tempfile::TempDir;

/// The file that is shipped.
const EXAMPLE: &str = include_str!("../deploy/policy.yml");

fn policy(text: &str) -> Policy {
    Policy::parse(&"policy.yml".into(), text).unwrap()
}

/// What is wrong with a manifest under a policy, as `PATH: MESSAGE` with the line.
fn problems_on(platform: PlatformKind, policy_text: &str, path: &str, text: &str) -> Vec<(u32, String, String)> {
    let context = ParseContext { policy: Some(Arc::new(policy(policy_text))), ..ParseContext::new(platform) };
    let parsed = parse(&path.into(), text, [0; 32], &context);
    let errors = parsed.problems.into_iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(|problem| (problem.line, problem.path, problem.message)).collect()
}

fn problems(policy_text: &str, path: &str, text: &str) -> Vec<(u32, String, String)> {
    problems_on(PlatformKind::Swarm, policy_text, path, text)
}

/// The paths that errors name.
fn wrong(policy_text: &str, path: &str, text: &str) -> Vec<String> {
    problems(policy_text, path, text).into_iter().map(|(_, path, _)| path).collect()
}

/// An app of the press shop that the shipped policy allows, with one line replaced.
fn press(replace: &str, with: &str) -> String {
    let text = "\
apps:
  press:
    uuid: PRESS-7
    image: ghcr.io/plant/press/monitor:1.2
    environment: ['MODE=auto']
    networks: [factory-net, press-net]
    storage: {data: {type: nfs, server: nas.plant.example, remote_path: /exports/press/7, mount_point: /data/7}}
    routing: {expose: true, port: 80, hostname: press-line}
    deploy:
      replicas: 2
      resources:
        limits: {cpus: 1, memory: 1Gi, open_files: 1024}
        reservations: {cpus: 0.5, memory: 512Mi}
      placement: {constraints: [node.role == worker, node.labels.line == a]}
x-ofop: {suspend: false}
";
    assert!(text.contains(replace), "{replace}");
    text.replacen(replace, with, 1)
}

fn cnc(replace: &str, with: &str) -> String {
    let text = "\
devices:
  cnc:
    uuid: CNC-1
    connector:
      type: mtconnect
      agent:
        port: 0
        device_xml: cnc.xml
        deploy: {resources: {limits: {memory: 1Gi}}, placement: {constraints: [node.role == worker]}}
        adapter:
          image: registry.plant.example:5000/mill/adapter@sha256:DIGEST
          port: 7878
          environment: ['A=1']
          deploy: {resources: {limits: {memory: 1Gi}}, placement: {constraints: [node.role == worker]}}
"
    .replace("DIGEST", &"a".repeat(64));
    assert!(text.contains(replace), "{replace}");
    text.replacen(replace, with, 1)
}

#[test]
fn the_shipped_policy_does_what_its_comments_say() {
    for (folder, text) in [("press", press("", "")), ("mill", cnc("", "")), ("press/line-2", press("", ""))] {
        assert_eq!(problems(EXAMPLE, &format!("{folder}/a.yml"), &text), [], "{folder}");
    }
    // What is changed in the press shop's app, and the place of the error that it leads to.
    for (replace, with, place) in [
        ("PRESS-7", "MILL-7", "apps.press.uuid"),
        ("ghcr.io/plant/press/monitor:1.2", "ghcr.io/plant/mill/monitor:1.2", "apps.press.image"),
        ("ghcr.io/plant/press/monitor:1.2", "evil.example/ghcr.io/plant/press/monitor:1.2", "apps.press.image"),
        ("ghcr.io/plant/press/monitor:1.2", "postgres:16", "apps.press.image"),
        ("monitor:1.2", "monitor:latest", "apps.press.image"),
        ("monitor:1.2", "monitor", "apps.press.image"),
        ("factory-net, press-net", "mill-net", "apps.press.networks[0]"),
        ("nas.plant.example", "nas.evil.example", "apps.press.storage.data.server"),
        ("/exports/press/7", "/exports/mill", "apps.press.storage.data.server"),
        ("/exports/press/7", "/exports/press/../mill", "apps.press.storage.data.server"),
        ("/exports/press/7", "/exports/pressed", "apps.press.storage.data.server"),
        ("/data/7", "/etc/cron.d", "apps.press.storage.data.mount_point"),
        ("press-line", "mill-line", "apps.press.routing.hostname"),
        ("replicas: 2", "replicas: 11", "apps.press.deploy.replicas"),
        ("cpus: 1,", "cpus: 5,", "apps.press.deploy.resources.limits.cpus"),
        ("cpus: 1,", "cpus: 0,", "apps.press.deploy.resources.limits.cpus"),
        ("cpus: 1,", "", "apps.press.deploy.resources.limits.cpus"),
        ("memory: 1Gi,", "memory: 5Gi,", "apps.press.deploy.resources.limits.memory"),
        ("memory: 1Gi,", "", "apps.press.deploy.resources.limits.memory"),
        ("memory: 512Mi", "memory: 5Gi", "apps.press.deploy.resources.reservations.memory"),
        ("open_files: 1024", "open_files: 65537", "apps.press.deploy.resources.limits.open_files"),
        ("node.role == worker", "node.role == manager", "apps.press.deploy.placement.constraints[0]"),
        ("node.role == worker, ", "", "apps.press.deploy.placement.constraints"),
        ("{suspend: false}", "{adopt: true}", "x-ofop.adopt"),
        ("{suspend: false}", "{resources: {app/PRESS-7: {prune: false}}}", "x-ofop.resources.app/PRESS-7.prune"),
    ] {
        let found = wrong(EXAMPLE, "press/a.yml", &press(replace, with));
        let plain: Vec<String> = found.iter().map(|path| path.replace('"', "")).collect();
        assert!(plain.contains(&place.to_owned()), "{replace} -> {with}: {found:?}");
    }
    // Redis may run, and a host's folder may not be mounted: on plain Docker nothing of the press shop runs at all.
    assert_eq!(
        wrong(EXAMPLE, "press/a.yml", &press("ghcr.io/plant/press/monitor:1.2", "redis:7")),
        Vec::<String>::new()
    );
    let docker = problems_on(PlatformKind::Docker, EXAMPLE, "press/a.yml", &press("", ""));
    assert!(docker.iter().any(|(line, _, message)| *line == 0 && message.contains("platform")), "{docker:?}");
    // The mill: digests, no names, no ports.
    let digest = format!("@sha256:{}", "a".repeat(64));
    for (replace, with, place) in [
        (digest.as_str(), ":1", "devices.cnc.connector.agent.adapter.image"),
        ("mill/adapter", "mill/sub/adapter", "devices.cnc.connector.agent.adapter.image"),
        ("port: 0", "port: 7000", "devices.cnc.connector.agent.port"),
        ("CNC-1", "PRESS-1", "devices.cnc.uuid"),
    ] {
        assert_eq!(wrong(EXAMPLE, "mill/a.yml", &cnc(replace, with)), [place], "{replace} -> {with}");
    }
    let routed = "apps: {m: {uuid: MILL-1, image: 'registry.plant.example:5000/mill/a@sha256:DIGEST', routing: {expose: true, \
                  port: 1}, deploy: {resources: {limits: {cpus: 1, memory: 1Gi}}, placement: {constraints: [node.role == \
                  worker]}}}}"
        .replace("DIGEST", &"b".repeat(64));
    assert_eq!(wrong(EXAMPLE, "mill/a.yml", &routed), ["apps.m.routing.expose"]);
    // The operator's own folder, where what the teams may not do is allowed.
    let own = "apps: {m: {uuid: Any, image: 'evil/x', networks: [any], routing: {expose: true, port: 1}, storage: {d: \
               {type: nfs, server: any, remote_path: /x, mount_point: /etc}}, deploy: {resources: {limits: {cpus: 1, \
               memory: 1Gi}}, placement: {constraints: [node.role == manager]}}}}\nx-ofop: {adopt: true, prune: false}";
    assert_eq!(wrong(EXAMPLE, "platform/a.yml", own), Vec::<String>::new());
    // What lies in none of the folders.
    for path in ["a.yml", "pressed/a.yml", "other/press/a.yml", "x/../press/a.yml"] {
        let found = problems(EXAMPLE, path, &press("", ""));
        assert!(found.len() == 1 && found[0].0 == 0 && found[0].2.contains("no folder"), "{path}: {found:?}");
    }
}

#[test]
fn errors_stand_where_the_manifest_asks_for_what_is_not_allowed_and_hide_secrets() {
    let found = problems(EXAMPLE, "press/a.yml", &press("factory-net, press-net", "factory-net, mill-net"));
    assert_eq!(
        found.iter().map(|(line, path, _)| (*line, path.as_str())).collect::<Vec<_>>(),
        [(6, "apps.press.networks[1]")]
    );
    assert!(found[0].2.contains("mill-net") && found[0].2.contains("press"), "{found:?}");
    let mut context = ParseContext::new(PlatformKind::Swarm);
    context.policy = Some(Arc::new(policy("folders: {.: {uuids: [OK]}}")));
    context.variables = Arc::new([("HIDDEN".to_owned(), "hunter2".to_owned())].into());
    let text = "apps: {a: {uuid: '${HIDDEN}', image: 'x/${HIDDEN}', networks: ['${HIDDEN}'], environment: ['${HIDDEN}=1'], \
                routing: {expose: true, port: 1, hostname: '${HIDDEN}'}, storage: {d: {type: nfs, server: '${HIDDEN}', \
                remote_path: '/${HIDDEN}', mount_point: '/${HIDDEN}'}}, deploy: {placement: {constraints: \
                ['node.id == ${HIDDEN}']}}}}";
    let parsed = parse(&"a.yml".into(), text, [0; 32], &context);
    let told = parsed.problems.iter().map(|problem| format!("{problem}\n")).collect::<String>();
    assert!(parsed.problems.len() >= 8 && !told.contains("hunter2"), "{told}");
}

#[test]
fn the_id_of_an_image_and_a_symlink_out_of_an_allowed_folder_are_refused() {
    let policy = "folders: {.: {uuids: ['*'], images: {allow: ['docker.io/library/*']}, host_paths: [/srv/press], mount_points: [/]}}";
    let docker = |text: &str| -> Vec<String> {
        let mut context = ParseContext::new(PlatformKind::Docker);
        context.policy = Some(Arc::new(self::policy(policy)));
        context.real_directory = |path| Some(if path == "/srv/press/link" { "/etc".into() } else { path.to_owned() });
        let parsed = parse(&"a.yml".into(), text, [0; 32], &context);
        parsed.problems.into_iter().filter(|p| p.severity == Severity::Error).map(|problem| problem.path).collect()
    };
    let app = |image: &str, folder: &str| {
        format!(
            "apps: {{a: {{uuid: A, image: '{image}', storage: {{d: {{type: local, local_path: '{folder}', mount_point: /d}}}}}}}}"
        )
    };
    assert_eq!(docker(&app("redis:7", "/srv/press/a")), Vec::<String>::new());
    assert_eq!(docker(&app(&"a".repeat(64), "/srv/press")), ["apps.a.image"]);
    for folder in ["/", "/srv", "/srv/press/link", "/srv/press/../mill", "/srv/pressed"] {
        assert_eq!(docker(&app("redis:7", folder)), ["apps.a.storage.d.local_path"], "{folder}");
    }
}

#[test]
fn what_is_wrong_in_a_policy_is_told_with_its_place() {
    for (text, line, path, message) in [
        ("", 0, "", "is empty"),
        ("- a", 1, "", "must be a map"),
        ("defaults: {}", 1, "", "`folders` is missing"),
        ("folders:\n  press:\n    image: {}", 3, "folders.press.image", "unknown field"),
        ("folders:\n  ../press: {}", 2, "folders.\"../press\"", "no folder below"),
        ("folders:\n  press: {}\n  press/: {}", 3, "folders.\"press/\"", "already"),
        ("folders: {p: {uuids: ['']}}", 1, "folders.p.uuids[0]", "is no pattern"),
        ("folders: {p: {images: {allow: [press]}}}", 1, "folders.p.images.allow[0]", "no registry"),
        ("folders: {p: {images: {allow: ['ghcr.io/press:1']}}}", 1, "folders.p.images.allow[0]", "tag or a digest"),
        ("folders: {p: {images: {digest: yes}}}", 1, "folders.p.images.digest", "must be `required` or `optional`"),
        ("folders: {p: {nfs: [nas]}}", 1, "folders.p.nfs[0]", "no path of an NFS server"),
        ("folders: {p: {host_paths: [/srv/../etc]}}", 1, "folders.p.host_paths[0]", "no absolute path"),
        (
            "folders: {p: {constraints: {require: ['node.role == *']}}}",
            1,
            "folders.p.constraints.require[0]",
            "placement",
        ),
        ("folders: {p: {ports: ['7-6']}}", 1, "folders.p.ports[0]", "no port"),
        ("folders: {p: {ports: ['0']}}", 1, "folders.p.ports[0]", "no port"),
        ("folders: {p: {maximum: {memory: much}}}", 1, "folders.p.maximum.memory", "not an amount"),
        ("folders: {p: {maximum: {cpus: 0}}}", 1, "folders.p.maximum.cpus", "more than 0"),
        ("folders: {p: {x-ofop: [adpot]}}", 1, "folders.p.x-ofop[0]", "no setting"),
        ("defaults: {ports: [x]}\nfolders: {p: {}, q: {}}", 1, "defaults.ports[0]", "no port"),
    ] {
        let found = Policy::parse(&"policy.yml".into(), text).unwrap_err();
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(
            found.len() == 1 && found[0].line == line && found[0].path == path && found[0].message.contains(message),
            "{text:?}: {shown:?}"
        );
        assert!(found[0].hint.is_some() || message.starts_with("must be `"), "{shown:?}");
    }
}

/// A manifest made of pieces, some of which a policy made of pieces allows.
fn manifest() -> impl Strategy<Value = String> {
    let image = prop::sample::select(vec![
        "redis",
        "redis:7",
        "ghcr.io/a/x:1",
        "ghcr.io/a/b/x",
        "evil.example/ghcr.io/a/x:1",
        "ghcr.io/a/x:latest",
    ]);
    let network = prop::sample::select(vec!["", "n1", "n2", "n1, n2"]);
    let variable = prop::sample::select(vec!["", "'A=1'", "'A=1', 'B=2'", "'LD_PRELOAD=x'", "' A =1'"]);
    let mount = prop::sample::select(vec![
        "",
        "{type: nfs, server: nas, remote_path: /e/a, mount_point: /data}",
        "{type: nfs, server: NAS, remote_path: //e//a/./b, mount_point: /data//x}",
        "{type: nfs, server: nas, remote_path: /e/a/../b, mount_point: /data}",
        "{type: nfs, server: nas2, remote_path: /e/a, mount_point: /etc}",
        "{type: nfs, server: nas, remote_path: /e/ab, mount_point: /}",
    ]);
    let constraint = prop::sample::select(vec![
        "",
        "node.role==worker",
        "node.role = worker",
        "node.role != worker",
        "node.role == manager",
        "node.labels.l == a",
    ]);
    let route = prop::sample::select(vec!["", "a1", "b_1", "A1", "x-1"]);
    let limits = prop::sample::select(vec![
        "",
        "cpus: 1",
        "cpus: 0, memory: 1Gi",
        "cpus: 1, memory: 1Gi",
        "cpus: 9, memory: 9Gi, open_files: 9",
    ]);
    let uuid = prop::sample::select(vec!["A-1", "a-1", "B-1"]);
    let replicas = 0u32..4;
    (uuid, image, network, variable, mount, constraint, (route, limits, replicas)).prop_map(
        |(uuid, image, network, variable, mount, constraint, (route, limits, replicas))| {
            let routing = if route.is_empty() { String::new() } else { format!(", routing: {{expose: true, port: 1, hostname: '{route}'}}") };
            let storage = if mount.is_empty() { String::new() } else { format!(", storage: {{d: {mount}}}") };
            format!(
                "apps: {{a: {{uuid: {uuid}, image: '{image}', networks: [{network}], environment: [{variable}]{routing}{storage}, \
                 deploy: {{replicas: {replicas}, resources: {{limits: {{{limits}}}}}, placement: {{constraints: ['{constraint}']}}}}}}}}"
            )
            .replace("constraints: ['']", "constraints: []")
        },
    )
}

/// What a policy's list may hold; the second is what it means, by a judge that knows nothing of patterns.
#[derive(Debug, Clone)]
struct Pieces {
    uuids: Vec<&'static str>,
    images: Vec<&'static str>,
    digest: bool,
    no_latest: bool,
    networks: Vec<&'static str>,
    environment: Vec<&'static str>,
    nfs: Vec<&'static str>,
    mount_points: Vec<&'static str>,
    constraints: Vec<&'static str>,
    required: bool,
    hosts: Vec<&'static str>,
    bounded: bool,
}

fn pieces() -> impl Strategy<Value = Pieces> {
    fn some(from: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        // Mostly all of it, or else nearly every manifest would be refused.
        prop_oneof![3 => Just(from.to_vec()), 1 => prop::sample::subsequence(from.to_vec(), 0..=from.len())]
    }
    let first =
        (some(&["A-*", "B-1"]), some(&["docker.io/library/redis", "ghcr.io/a/*"]), any::<bool>(), any::<bool>());
    let second = (some(&["n1", "n2"]), some(&["A", "B"]), some(&["nas:/e/a"]), some(&["/data", "/"]));
    let third = (
        some(&["node.role == worker", "node.labels.l == *"]),
        any::<bool>(),
        some(&["a-1", "a1", "b-1", "x*"]),
        any::<bool>(),
    );
    (first, second, third).prop_map(
        |(
            (uuids, images, digest, no_latest),
            (networks, environment, nfs, mount_points),
            (constraints, required, hosts, bounded),
        )| {
            // So that not nearly everything is refused.
            let digest = digest && no_latest;
            Pieces {
                uuids,
                images,
                digest,
                no_latest,
                networks,
                environment,
                nfs,
                mount_points,
                constraints,
                required,
                hosts,
                bounded,
            }
        },
    )
}

impl Pieces {
    fn text(&self) -> String {
        let list = |items: &[&str]| items.iter().map(|item| format!("'{item}'")).collect::<Vec<_>>().join(", ");
        let digest = if self.digest { "required" } else { "optional" };
        let tags = if self.no_latest { "latest" } else { "" };
        let required = if self.required { "node.role == worker" } else { "" };
        let maximum = if self.bounded { "{replicas: 2, cpus: 2, memory: 2Gi, open_files: 8}" } else { "{}" };
        format!(
            "folders:\n  .:\n    uuids: [{}]\n    images: {{allow: [{}], digest: {digest}, forbid_tags: [{tags}]}}\n    networks: [{}]\n    \
             environment: [{}]\n    nfs: [{}]\n    mount_points: [{}]\n    constraints: {{allow: [{}], require: [{required}]}}\n    \
             hosts: [{}]\n    maximum: {maximum}\n",
            list(&self.uuids),
            list(&self.images),
            list(&self.networks),
            list(&self.environment),
            list(&self.nfs),
            list(&self.mount_points),
            list(&self.constraints),
            list(&self.hosts)
        )
    }

    /// Whether a service is within the policy. What it is made of is looked at after compiling, by other means.
    fn allow(&self, spec: &ServiceSpec) -> bool {
        let name = spec.name.as_str();
        let uuid = self.uuids.iter().any(|known| match *known {
            "A-*" => name.starts_with("a-"),
            known => name == known.to_lowercase(),
        });
        let image = ImageRef::parse(&spec.image).unwrap();
        let (registry, repository) = (image.registry(), image.repository());
        let known_image = self.images.iter().any(|known| match *known {
            "ghcr.io/a/*" => {
                registry == "ghcr.io" && repository.starts_with("a/") && repository.matches('/').count() == 1
            }
            _ => registry == "docker.io" && repository == "library/redis",
        });
        let pinned = image.digest().is_some() || !self.digest;
        let tagged = !(self.no_latest && image.tag().unwrap_or("latest") == "latest");
        // Those of the manifests; others come from the operator's settings.
        let mut own = spec.env.iter().filter(|variable| ["A", "B", "LD_PRELOAD"].contains(&variable.name.as_str()));
        let mounts = spec.mounts.iter().all(|mount| {
            let Mount::Volume { target, options, .. } = mount else { return false };
            let device = options["device"].trim_start_matches(':');
            let parts: Vec<&str> = device.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            let server =
                options["o"].split(',').find_map(|option| option.strip_prefix("addr=")).unwrap().to_lowercase();
            let remote = server == "nas" && parts.starts_with(&["e", "a"]) && !parts.contains(&"..");
            let below = self.mount_points.contains(&"/")
                || (self.mount_points.contains(&"/data") && (target == "/data" || target.starts_with("/data/")));
            !self.nfs.is_empty() && remote && below
        });
        let constraints = spec.constraints.iter().all(|constraint| match constraint.as_str() {
            "node.role == worker" => self.constraints.contains(&"node.role == worker"),
            "node.labels.l == a" => self.constraints.contains(&"node.labels.l == *"),
            _ => false,
        });
        let rules = spec.labels.iter().filter(|(label, _)| label.ends_with(".rule"));
        let mut hosts = rules.flat_map(|(_, rule)| rule.split('`').skip(1).step_by(2));
        let known_host = |host: &str| {
            self.hosts.iter().any(|known| if *known == "x*" { host.starts_with('x') } else { *known == host })
        };
        let bounded = !self.bounded
            || (spec.replicas <= 2
                && spec.limits.nano_cpus.is_some_and(|nano| nano <= 2_000_000_000)
                && spec.limits.memory_bytes.is_some_and(|bytes| bytes <= 2 << 30)
                && spec.ulimits.iter().all(|limit| limit.soft <= 8));
        uuid && known_image
            && pinned
            && tagged
            && spec.networks.iter().all(|network| self.networks.contains(&network.as_str()))
            && own.all(|variable| self.environment.contains(&variable.name.as_str()))
            && mounts
            && constraints
            && (!self.required || spec.constraints.iter().any(|constraint| constraint == "node.role == worker"))
            && hosts.all(known_host)
            && bounded
    }
}

fn compile(text: &str, policy: Option<Policy>) -> Option<ServiceSpec> {
    let context = ParseContext { policy: policy.map(Arc::new), ..ParseContext::new(PlatformKind::Swarm) };
    let tree = ParsedTree { files: vec![parse(&"a.yml".into(), text, [0; 32], &context)], ..ParsedTree::default() };
    let desired = Compiler::new(Settings::default()).compile(&tree);
    let resource = desired.resources.values().next()?;
    Some(ServiceSpec::clone(&resource.services[0].spec))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever compiles under a policy asks for nothing that the policy does not allow; whatever a policy allows compiles.
    #[test]
    fn what_takes_effect_is_what_the_policy_allows(text in manifest(), pieces in pieces()) {
        let Some(spec) = compile(&text, None) else {
            return Err(TestCaseError::fail(format!("not a valid manifest: {text}")));
        };
        let compiled = compile(&text, Some(policy(&pieces.text())));
        prop_assert_eq!(compiled.is_some(), pieces.allow(&spec), "{}\n{}", text, pieces.text());
        if let Some(compiled) = compiled {
            prop_assert_eq!(compiled, spec);
        }
    }

    /// No text makes reading a policy panic; the errors stand in the file.
    #[test]
    fn any_text_is_a_policy_or_has_errors(text in "[a-z:\\[\\]{}'\",*/ .\n-]{0,120}") {
        if let Err(problems) = Policy::parse(&"policy.yml".into(), &format!("folders:\n  press: {text}\n")) {
            prop_assert!(!problems.is_empty());
        }
    }
}

/// A folder with manifests and, beside it, a policy.
struct Factory {
    dir: TempDir,
}

impl Factory {
    fn new() -> Self {
        let factory = Factory { dir: tempfile::tempdir().unwrap() };
        factory.write("desired/press/app.yml", &app("PRESS"));
        factory.write("desired/mill/app.yml", &app("MILL"));
        factory.write("policy.yml", PLAIN);
        factory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn loader(&self) -> Loader<DirectorySource> {
        let desired = self.path("desired");
        let policy = PolicyFile::open(&self.path("policy.yml"), vec![desired.clone()]).unwrap();
        let options = LoaderOptions { policy: Some(policy), ..LoaderOptions::at_once(PlatformKind::Swarm) };
        Loader::new(DirectorySource::new([desired], Options::at_once()), options)
    }

    fn ofop(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ofop"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("DOCKER_HOST", "unix:///nowhere.sock")
            .output()
            .unwrap()
    }
}

const PLAIN: &str = "defaults: {images: {allow: ['docker.io/demo/*']}}\n\
                     folders: {press: {uuids: ['PRESS*']}, mill: {uuids: ['MILL*']}}\n";

fn app(uuid: &str) -> String {
    format!("apps:\n  one:\n    uuid: {uuid}\n    image: demo/app:1\n")
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn resources(desired: &Desired) -> Vec<String> {
    desired
        .resources
        .values()
        .map(|resource| format!("{}{}", resource.id, if resource.frozen { " frozen" } else { "" }))
        .collect()
}

#[tokio::test]
async fn a_manifest_that_asks_for_more_leaves_what_it_last_said_in_force() {
    let factory = Factory::new();
    let (mut loader, mut compiler) = (factory.loader(), Compiler::new(Settings::default()));
    let desired = compiler.compile(&loader.load().await.unwrap());
    assert_eq!((resources(&desired), desired.complete), (vec!["app/MILL".to_owned(), "app/PRESS".to_owned()], true));
    factory.write("desired/press/app.yml", &app("PRESS").replace("demo/app:1", "evil/app:2"));
    let desired = compiler.compile(&loader.load().await.unwrap());
    assert_eq!(
        (resources(&desired), desired.complete),
        (vec!["app/MILL".to_owned(), "app/PRESS frozen".to_owned()], false)
    );
    assert!(told(&desired.problems).contains("press/app.yml:4:12: apps.one.image: "), "{:?}", desired.problems);
    let images: Vec<&str> =
        desired.resources.values().map(|resource| resource.services[0].spec.image.as_str()).collect();
    assert_eq!(images, ["demo/app:1", "demo/app:1"]);
}

#[tokio::test]
async fn the_policy_is_read_again_and_an_invalid_one_leaves_the_last_in_force() {
    let factory = Factory::new();
    let (mut loader, mut compiler) = (factory.loader(), Compiler::new(Settings::default()));
    let first = loader.load().await.unwrap();
    assert!(Arc::ptr_eq(&first, &loader.load().await.unwrap()), "nothing changed");
    // Another one, which no longer allows the mill's app.
    factory.write("policy.yml", &PLAIN.replace("['MILL*']", "['DRILL*']"));
    let desired = compiler.compile(&loader.load().await.unwrap());
    assert!(told(&desired.problems).contains("mill/app.yml:3:11: apps.one.uuid: ") && desired.policy_trouble.is_none());
    // One that is wrong: the one before still holds, for files that change too.
    factory.write("policy.yml", "folders: {press: {uuid: ['*']}}\n");
    factory.write("desired/press/app.yml", &app("OTHER"));
    let desired = compiler.compile(&loader.load().await.unwrap());
    let shown = told(&desired.problems);
    assert!(shown.contains("policy.yml:1:19: folders.press.uuid: unknown field") && !desired.complete, "{shown}");
    assert!(shown.contains("mill/app.yml:3:11") && shown.contains("press/app.yml:3:11"), "{shown}");
    let trouble = desired.policy_trouble.clone().unwrap();
    assert!(trouble.contains("stays in force") && trouble.contains("policy.yml:1:19"), "{trouble}");
    let (instance, place) = (InstanceName::new("plant").unwrap(), loader.source().place());
    let view = SourceView { place: &place, read_ago: None };
    let status = Status::of(&instance, UNIX_EPOCH, &desired, &Observed::default(), view, None);
    assert!(status.warnings.iter().any(|warning| **warning == *trouble), "{:?}", status.warnings);
    // One that is gone, and one that others may write.
    fs::remove_file(factory.path("policy.yml")).unwrap();
    let desired = compiler.compile(&loader.load().await.unwrap());
    assert!(desired.policy_trouble.as_ref().unwrap().contains("does not exist") && !desired.complete);
    factory.write("policy.yml", PLAIN);
    Command::new("chmod").arg("666").arg(factory.path("policy.yml")).status().unwrap();
    let desired = compiler.compile(&loader.load().await.unwrap());
    assert!(desired.policy_trouble.as_ref().unwrap().contains("0666"), "{:?}", desired.policy_trouble);
    // And a good one.
    Command::new("chmod").arg("644").arg(factory.path("policy.yml")).status().unwrap();
    factory.write("desired/press/app.yml", &app("PRESS-2"));
    let desired = compiler.compile(&loader.load().await.unwrap());
    assert!(desired.policy_trouble.is_none() && desired.complete, "{}", told(&desired.problems));
    assert_eq!(resources(&desired), ["app/MILL", "app/PRESS-2"]);
}

#[test]
fn every_command_that_reads_manifests_respects_the_policy() {
    let factory = Factory::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ofop = |arguments: &[&str]| {
        let output = factory.ofop(&[arguments, &["--policy", "policy.yml", "--desired", "desired"]].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(ofop(&["validate"]).0, Some(0));
    let (code, out, _) = ofop(&["policy", "check"]);
    assert_eq!((code, out.as_str()), (Some(0), "mill: 1 file\npress: 1 file\nvalid\n"));
    factory.write("desired/press/app.yml", &app("MILL-2"));
    for command in ["validate", "render"] {
        let (code, out, err) = ofop(&[command]);
        assert!(code == Some(2) && format!("{out}{err}").contains("apps.one.uuid"), "{command}: {out}{err}");
    }
    let (code, out, _) = ofop(&["policy", "check"]);
    assert!(code == Some(2) && out.contains("press: 1 file, 1 refused\ninvalid: 1 error\n"), "{out}");
    let (_, out, _) = ofop(&["policy", "check", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["valid"], &json["folders"][1]["refused"]), (&false.into(), &1.into()));
    assert_eq!(json["problems"][0]["path"], "apps.one.uuid");
    // Paths that are given are looked at from where they begin.
    let (code, _, err) = ofop(&["validate", "desired"]);
    assert_eq!(code, Some(2), "{err}");
    let (code, out, _) = ofop(&["validate", "desired/press/../mill/app.yml"]);
    assert!(code == Some(2) && out.contains("no folder"), "{out}");
    // A policy that is wrong, or lies where it must not, ends the start with its place.
    factory.write("policy.yml", "folders: {press: {uuid: ['*']}}\n");
    for arguments in
        [&["run", "--listen", "127.0.0.1:0"][..], &["plan"], &["apply"], &["validate"], &["policy", "check"]]
    {
        let (code, _, err) = ofop(arguments);
        assert_eq!(code, Some(2), "{arguments:?} {err}");
        assert!(err.contains("policy.yml:1:19") && err.contains("did you mean `uuids`?"), "{arguments:?} {err}");
    }
    factory.write("desired/policy.yml", PLAIN);
    let output = factory.ofop(&["validate", "--policy", "desired/policy.yml", "--desired", "desired"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("where manifests come from"));
    let output = factory.ofop(&["policy", "check", "--desired", "desired"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("OFOP_POLICY"));
    assert!(Path::new(&factory.path("policy.yml")).exists());
}
