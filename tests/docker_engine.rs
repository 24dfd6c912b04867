//! Plain containers on a real engine: manifests in, passes of the real planner, containers out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support {
    pub mod engine;
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ofop::clock::{Clock, SystemClock};
use ofop::compile::Compiler;
use ofop::desired::{ParseContext, ParsedTree, parse};
use ofop::model::{
    Desired, InstanceName, Observed, Plan, PlatformKind, PlatformSnapshot, Revision, Settings, Step, StepFailure,
};
use ofop::plan::{Guard, Memory, Policy, plan};
use ofop::platform::Platform;
use ofop::platform::docker::DockerPlatform;
use ofop::platform::engine::Engine;
use ofop::platform::swarm::Pace;
use ofop::registry::Registry;
use ofop::registry::embedded::EmbeddedRegistry;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::engine::{IDLE, IDLE_2, TestEngine, shared};

/// No timer helps in these tests: what they see comes from events or from reads that they ask for.
const NEVER: Pace = Pace { resync: Duration::from_secs(3600), follow: Duration::from_secs(3600) };
/// What the idle image runs: it ends at once when it is told to.
const IDLE_COMMAND: &str = r#"CMD ["/bin/sh","-c","trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"]"#;
/// How long something that must happen may take.
const LONG: Duration = Duration::from_secs(90);

/// One operator on an engine. Each test uses names of its own, so that all can share one engine.
struct Operator {
    engine: Arc<TestEngine>,
    platform: DockerPlatform,
    registry: EmbeddedRegistry,
    state: tempfile::TempDir,
    clock: Arc<SystemClock>,
    compiler: Compiler,
    policy: Policy,
    memory: Memory,
    revision: u8,
    failures: Vec<StepFailure>,
}

impl Operator {
    fn start(instance: &str) -> Self {
        let engine = shared();
        let clock = Arc::new(SystemClock::new());
        let state = tempfile::tempdir().unwrap();
        let settings = Settings {
            platform: PlatformKind::Docker,
            kafka_broker: "broker:9092".into(),
            base_domain: "plant.example".into(),
            mtconnect_agent_image: "mtcagent:1".into(),
            mtconnect_producer_image: IDLE.into(),
            ..Settings::default()
        };
        let name = InstanceName::new(instance).unwrap();
        Operator {
            platform: DockerPlatform::start(Engine::new(&engine.host(), None).unwrap(), NEVER, state.path(), &name),
            registry: EmbeddedRegistry::new(state.path(), clock.clone()),
            state,
            clock,
            compiler: Compiler::new(settings),
            policy: Policy {
                instance: name,
                run: None,
                prune: true,
                guard: Guard::default(),
                prune_delay: Duration::ZERO,
                prune_last: false,
                windows: ofop::model::Windows::default(),
                prune_confirmed: true,
                scope: None,
                remove: BTreeSet::new(),
                adopt: std::collections::BTreeMap::new(),
                progress_deadline: Duration::from_secs(300),
                rollout: ofop::model::RolloutPolicy::default(),
                // How long a removal waits for rows to stay away.
                expectation: Duration::from_millis(500),
            },
            memory: Memory::default(),
            revision: 0,
            failures: Vec::new(),
            engine,
        }
    }

    /// The operator dies and another one takes its place: nothing is remembered.
    fn restart(&mut self) {
        let (engine, state) = (Engine::new(&self.engine.host(), None).unwrap(), self.state.path());
        self.platform = DockerPlatform::start(engine, NEVER, state, &self.policy.instance);
        self.registry = EmbeddedRegistry::new(self.state.path(), self.clock.clone());
        self.memory = Memory::default();
    }

    fn desired(&mut self, manifest: &str) -> Arc<Desired> {
        self.revision += 1;
        let context = ParseContext::new(PlatformKind::Docker);
        let file = parse(&"test.yml".into(), manifest, [self.revision; 32], &context);
        let mut tree = ParsedTree { revision: Revision(format!("r{}", self.revision)), ..ParsedTree::default() };
        tree.attachments.insert(("test.yml".into(), "m.xml".into()), Ok("<Devices/>".into()));
        tree.files.push(file);
        let desired = self.compiler.compile(&tree);
        assert_eq!(desired.errors(), 0, "{:?}", desired.problems);
        desired
    }

    /// One pass: observe, plan, act.
    async fn pass(&mut self, desired: &Desired) -> (Plan, Arc<PlatformSnapshot>) {
        let observed = Observed {
            at: self.clock.now(),
            wall: ofop::clock::timestamp(self.clock.wall()),
            platform: Some(self.platform.observe(&BTreeSet::new()).await.unwrap()),
            registry: Some(self.registry.observe().await.unwrap()),
            registry_stands_in: false,
        };
        self.memory.recall(&observed);
        let plan = plan(desired, &observed, &self.policy, &self.memory);
        self.memory.learn(desired, &observed, &plan);
        for (id, resource) in &plan.resources {
            for step in &resource.steps {
                let outcome = match &step.step {
                    Step::Service(step) => self.platform.execute(step).await,
                    Step::Record(step) => self.registry.execute(step).await,
                };
                self.memory.step_done(&self.policy, id, step, &outcome, self.clock.now());
                if let Err(failure) = outcome {
                    self.failures.push(failure);
                    break;
                }
            }
        }
        (plan, observed.platform.unwrap())
    }

    /// Passes until one finds everything as `holds` wants it and has nothing left to do.
    async fn settle(&mut self, desired: &Desired, what: &str, holds: impl Fn(&PlatformSnapshot) -> bool) {
        let deadline = tokio::time::Instant::now() + LONG;
        // What was done by hand a moment ago may still be on its way as an event.
        self.platform.refresh();
        loop {
            let (plan, snapshot) = self.pass(desired).await;
            let idle = plan.resources.values().all(|resource| resource.steps.is_empty() && resource.held.is_empty());
            if idle && holds(&snapshot) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{what}: not within {} s; last plan {:#?}; failures {:?}",
                LONG.as_secs(),
                plan.resources,
                self.failures
            );
            // Whatever happens next is an event; a second sighting is another look.
            let mut events = std::pin::pin!(self.platform.events());
            let _ = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
            self.platform.refresh();
            self.registry.refresh();
        }
    }

    /// Brings a manifest about.
    async fn apply(&mut self, manifest: &str) -> Arc<Desired> {
        let desired = self.desired(manifest);
        self.settle(&desired, "apply", |_| true).await;
        desired
    }

    fn container(&self, name: &str) -> Option<Value> {
        let (status, text) = self.engine.call("GET", &format!("/containers/{name}/json"), "");
        (status == 200).then(|| serde_json::from_str(&text).unwrap())
    }

    fn id(&self, name: &str) -> String {
        self.container(name).unwrap()["Id"].as_str().unwrap().to_owned()
    }

    /// Names and states of all containers whose name or mark speaks of this test.
    fn containers(&self, about: &str) -> BTreeMap<String, String> {
        let all = self.engine.get("/containers/json?all=true");
        let all = all.as_array().unwrap().iter().filter(|container| container.to_string().contains(about));
        all.map(|container| {
            let name = container["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned();
            (name, container["State"].as_str().unwrap().to_owned())
        })
        .collect()
    }
}

fn states(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect()
}

/// An image made from the idle one by running a script in it, with these changes.
fn derive(engine: &TestEngine, image: &str, script: &str, changes: &[&str]) {
    let body = json!({"Image": IDLE, "Cmd": ["/bin/sh", "-c", script]});
    let id = engine.ok("POST", "/containers/create", &body.to_string())["Id"].clone();
    let (id, (repo, tag)) = (id.as_str().unwrap(), image.split_once(':').unwrap());
    engine.ok("POST", &format!("/containers/{id}/start"), "");
    assert_eq!(engine.ok("POST", &format!("/containers/{id}/wait"), "")["StatusCode"], 0);
    let changes: String = changes.iter().map(|change| format!("&changes={}", encode(change))).collect();
    engine.ok("POST", &format!("/commit?container={id}&repo={repo}&tag={tag}{changes}"), "{}");
    engine.ok("DELETE", &format!("/containers/{id}?force=true"), "");
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn network(engine: &TestEngine, name: &str) {
    engine.ok("POST", "/networks/create", &json!({"Name": name, "Driver": "bridge"}).to_string());
}

#[tokio::test]
async fn what_a_manifest_says_exists_and_the_next_plan_is_empty() {
    let mut operator = Operator::start("full");
    let engine = Arc::clone(&operator.engine);
    network(&engine, "full-a");
    network(&engine, "full-b");
    // An image that brings along everything that could be taken for ours, down to the very same variable.
    let brought = [
        "ENV KSQLDB_LOG_LEVEL=WARNING",
        "ENV MORE=1",
        "LABEL traefik.enable=true",
        "LABEL traefik.http.routers.ofa-full.rule=x",
        "USER 7:7",
        r#"ENTRYPOINT ["/bin/sh","-c"]"#,
        r#"CMD ["trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"]"#,
        "VOLUME /scratch",
        "EXPOSE 99",
    ];
    derive(&engine, "loud:1", "true", &brought);
    // Stands in for the real agent: it is the last thing that the agent's container runs.
    let agent = "printf '#!/bin/sh\\nsleep 3600' > /bin/mtcagent && busybox chmod +x /bin/mtcagent";
    derive(&engine, "mtcagent:1", agent, &[r#"CMD ["/bin/false"]"#]);
    let desired = operator
        .apply(
            r#"
apps:
  full:
    uuid: FULL
    image: loud:1
    runtime_uid: 1000
    runtime_gid: 1000
    environment: [MODE=production]
    routing: {expose: true, port: 8000}
    networks: [full-b, full-a]
    storage:
      data: {type: local, local_path: /tmp, mount_point: /data}
    deploy: {resources: {limits: {cpus: 0.5, open_files: 2048}}}
  plain: {uuid: FULL-PLAIN, image: loud:1}
  many: {uuid: FULL-MANY, image: loud:1, routing: {expose: true, port: 80}, deploy: {replicas: 2}}
devices:
  m:
    uuid: FULL-M
    connector:
      type: mtconnect
      agent: {port: 3299, device_xml: m.xml, adapter: {image: "idle:1", port: 7878}}
"#,
        )
        .await;
    assert_eq!(
        operator.containers("full"),
        states(&[
            ("full", "running"),
            ("full-many-1", "running"),
            ("full-many-2", "running"),
            ("full-m-adapter", "running"),
            ("full-m-agent", "running"),
            ("full-m-producer", "running"),
            ("full-plain", "running"),
        ])
    );
    let full = operator.container("full").unwrap();
    assert_eq!(full["HostConfig"]["NetworkMode"], "full-b");
    assert!(full["NetworkSettings"]["Networks"]["full-a"].is_object());
    assert_eq!(full["Config"]["User"], "1000:1000");
    assert_eq!(full["HostConfig"]["Ulimits"][0], json!({"Name": "nofile", "Soft": 2048, "Hard": 2048}));
    assert_eq!(full["HostConfig"]["NanoCpus"], 500_000_000);
    let agent = operator.container("full-m-agent").unwrap();
    assert_eq!(agent["HostConfig"]["PortBindings"]["5000/tcp"][0]["HostPort"], "3299");
    assert_eq!(agent["Config"]["Entrypoint"][0], "sh");

    // Another operator, which remembers nothing, finds nothing to do either.
    operator.restart();
    operator.settle(&desired, "after a restart", |_| true).await;
    let (plan, _) = operator.pass(&desired).await;
    assert!(plan.resources.values().all(|resource| resource.steps.is_empty()), "{:#?}", plan.resources);
    assert_eq!(operator.failures, []);

    operator.apply("apps: {}\n").await;
    assert_eq!(operator.containers("full"), states(&[]));
}

#[tokio::test]
async fn a_changed_manifest_replaces_its_container_and_no_other() {
    let mut operator = Operator::start("swap");
    let engine = Arc::clone(&operator.engine);
    // A name that begins like ours, and nobody's mark.
    let viewer = engine.ok("POST", "/containers/create?name=swap-cam-viewer", &json!({"Image": IDLE}).to_string());
    operator.apply("apps: {c: {uuid: SWAP-CAM, image: 'idle:1'}, d: {uuid: SWAP-D, image: 'idle:1'}}\n").await;
    let before = (operator.id("swap-cam"), operator.id("swap-d"));
    operator.apply("apps: {c: {uuid: SWAP-CAM, image: 'idle:2'}, d: {uuid: SWAP-D, image: 'idle:1'}}\n").await;
    assert_ne!(operator.id("swap-cam"), before.0);
    assert_eq!(operator.container("swap-cam").unwrap()["Config"]["Image"], IDLE_2);
    assert_eq!(operator.id("swap-d"), before.1);
    assert_eq!(
        operator.containers("swap"),
        states(&[("swap-cam", "running"), ("swap-d", "running"), ("swap-cam-viewer", "created")])
    );
    operator.apply("apps: {d: {uuid: SWAP-D, image: 'idle:1'}}\n").await;
    assert_eq!(operator.containers("swap"), states(&[("swap-d", "running"), ("swap-cam-viewer", "created")]));
    operator.apply("apps: {}\n").await;
    assert_eq!(operator.id("swap-cam-viewer"), viewer["Id"].as_str().unwrap());
    engine.ok("DELETE", "/containers/swap-cam-viewer", "");
}

#[tokio::test]
async fn what_is_done_by_hand_is_put_back() {
    let mut operator = Operator::start("hand");
    let engine = Arc::clone(&operator.engine);
    let desired = operator.apply("apps: {a: {uuid: HAND, image: 'idle:1', networks: [factory-net]}}\n").await;
    let runs = |snapshot: &PlatformSnapshot| {
        snapshot.services.iter().any(|(name, service)| {
            name.as_str() == "hand" && service.spec.replicas == 1 && service.spec.networks == ["factory-net"]
        })
    };

    engine.ok("DELETE", "/containers/hand?force=true", "");
    operator.settle(&desired, "removed by hand", runs).await;
    let first = operator.id("hand");

    engine.ok("POST", "/networks/factory-net/disconnect", r#"{"Container":"hand","Force":true}"#);
    operator.settle(&desired, "disconnected by hand", runs).await;
    assert_ne!(operator.id("hand"), first, "networks are part of what is asked for: it was replaced");

    let second = operator.id("hand");
    engine.ok("POST", "/containers/hand/stop?t=1", "");
    operator
        .settle(&desired, "stopped by hand", |snapshot| {
            let tasks = snapshot.tasks.values().flat_map(|tasks| &**tasks);
            runs(snapshot) && tasks.filter(|task| task.id == second).all(|task| task.state.is_active())
        })
        .await;
    assert_eq!(operator.id("hand"), second, "starting it was enough");
    assert_eq!(operator.containers("hand"), states(&[("hand", "running")]));
    operator.apply("apps: {}\n").await;
}

#[tokio::test]
async fn what_a_manifest_ignores_is_left_alone_and_what_it_keeps_stays_without_a_restart() {
    let mut operator = Operator::start("alone");
    let engine = Arc::clone(&operator.engine);
    let manifest = |image: &str, settings: &str| {
        format!(
            "apps: {{a: {{uuid: ALONE, image: '{image}', deploy: {{resources: {{limits: {{cpus: 1}}}}}}}}}}\nx-ofop: {settings}\n"
        )
    };
    operator.apply(&manifest(IDLE, "{ignore: [limits.cpus]}")).await;
    let cpus = |operator: &Operator| operator.container("alone").unwrap()["HostConfig"]["NanoCpus"].clone();
    assert_eq!(cpus(&operator), 1_000_000_000);
    engine.ok("POST", "/containers/alone/update", r#"{"NanoCpus":500000000}"#);
    let first = operator.id("alone");
    operator.apply(&manifest(IDLE, "{ignore: [limits.cpus]}")).await;
    assert_eq!((operator.id("alone"), cpus(&operator)), (first.clone(), json!(500_000_000)));
    operator.apply(&manifest(IDLE_2, "{ignore: [limits.cpus]}")).await;
    assert_eq!(operator.container("alone").unwrap()["Config"]["Image"], IDLE_2);
    assert_eq!(cpus(&operator), 500_000_000, "as it was, in the container that took its place");

    let second = operator.id("alone");
    operator.apply(&manifest(IDLE_2, "{ignore: [limits.cpus], prune: false}")).await;
    assert_eq!(operator.id("alone"), second);
    operator.restart();
    let nothing = operator.apply("apps: {}\n").await;
    assert_eq!(operator.containers("alone"), states(&[("alone", "running")]));
    assert_eq!(operator.id("alone"), second);
    let id: ofop::model::ResourceId = "app/ALONE".parse().unwrap();
    operator.policy.remove = [id.clone()].into();
    operator.settle(&nothing, "a person has it removed", |snapshot| !snapshot.services.contains_key("alone")).await;
    assert_eq!(operator.containers("alone"), states(&[]));
}

#[tokio::test]
async fn what_a_person_said_is_known_to_the_next_operator() {
    let mut operator = Operator::start("said");
    let manifest = "apps: {a: {uuid: SAID, image: 'idle:1'}}\n";
    operator.apply(manifest).await;
    let engine = Arc::clone(&operator.engine);
    let suspend = ofop::model::Command::Suspend(Some("app/SAID".parse().unwrap()), ofop::model::Term::default());
    operator.memory.command(&suspend, "2026-01-02T03:04:05Z");
    operator.platform.note(&operator.memory.notebook.unsent()).await.unwrap();
    engine.ok("DELETE", "/containers/said?force=true", "");
    operator.restart();
    operator.platform.refresh();
    let desired = operator.desired(manifest);
    for _ in 0..3 {
        let (plan, _) = operator.pass(&desired).await;
        assert_eq!(plan.steps(), 0);
        operator.platform.refresh();
    }
    assert_eq!(operator.containers("said"), states(&[]));
    operator.memory.command(&ofop::model::Command::Resume(Some("app/SAID".parse().unwrap())), "");
    operator.platform.note(&operator.memory.notebook.unsent()).await.unwrap();
    operator.apply(manifest).await;
    assert_eq!(operator.containers("said"), states(&[("said", "running")]));
    operator.apply("apps: {}\n").await;
}

/// Where an update may die, in the order of its calls.
#[tokio::test]
async fn an_update_that_dies_anywhere_is_finished_by_the_next_operator() {
    let mut operator = Operator::start("dies");
    let engine = Arc::clone(&operator.engine);
    let manifest = |image: &str| format!("apps: {{a: {{uuid: DIES, image: '{image}'}}}}\n");
    for died_after in 0..5 {
        operator.apply(&manifest(IDLE)).await;
        // The new container, exactly as an update makes it: taken from a real one.
        operator.apply(&manifest(IDLE_2)).await;
        let made = operator.container("dies").unwrap();
        let body = json!({"Image": IDLE_2, "Env": made["Config"]["Env"], "Labels": made["Config"]["Labels"]});
        operator.apply(&manifest(IDLE)).await;
        let old = operator.id("dies");
        let stem = stem("dies");
        let next = format!("ofop-next-{stem}");
        let new = engine.ok("POST", &format!("/containers/create?name={next}"), &body.to_string());
        let new = new["Id"].as_str().unwrap();
        let calls = [
            format!("/containers/{old}/stop?t=5"),
            format!("/containers/{old}/rename?name=ofop-old-{stem}"),
            format!("/containers/{new}/rename?name=dies"),
            format!("/containers/{new}/start"),
        ];
        for call in &calls[..died_after] {
            engine.ok("POST", call, "");
        }
        operator.restart();
        operator.apply(&manifest(IDLE_2)).await;
        assert_eq!(operator.containers("DIES"), states(&[("dies", "running")]), "died after {died_after} calls");
        assert_eq!(operator.container("dies").unwrap()["Config"]["Image"], IDLE_2);
    }
    operator.apply("apps: {}\n").await;
}

/// What the names under which an update keeps containers aside end in.
fn stem(name: &str) -> String {
    Sha256::digest(name).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn when_the_new_container_does_not_start_the_old_one_goes_on() {
    let mut operator = Operator::start("back");
    let engine = Arc::clone(&operator.engine);
    derive(&engine, "broken:1", "true", &[r#"ENTRYPOINT ["/no/such/program"]"#]);
    operator.apply("apps: {a: {uuid: BACK, image: 'idle:1'}}\n").await;
    let old = operator.id("back");
    let desired = operator.desired("apps: {a: {uuid: BACK, image: 'broken:1', environment: [TOKEN=s3cret-token]}}\n");
    operator.pass(&desired).await;
    assert_eq!(operator.failures.len(), 1, "{:?}", operator.failures);
    assert!(!format!("{:?}", operator.failures).contains("s3cret"), "{:?}", operator.failures);
    assert_eq!(operator.id("back"), old);
    assert_eq!(operator.containers("BACK"), states(&[("back", "running")]));
    operator.failures.clear();
    operator.apply("apps: {}\n").await;
}

#[tokio::test]
async fn a_strangers_container_under_a_wanted_name_is_left_alone() {
    let mut operator = Operator::start("strange");
    let engine = Arc::clone(&operator.engine);
    let theirs = engine.ok("POST", "/containers/create?name=strange", &json!({"Image": IDLE_2}).to_string());
    let desired = operator.desired("apps: {a: {uuid: STRANGE, image: 'idle:1'}}\n");
    for _ in 0..3 {
        let (plan, _) = operator.pass(&desired).await;
        let resource = plan.resources.values().next().unwrap();
        assert!(resource.steps.is_empty(), "{:#?}", resource.steps);
        assert_eq!(resource.conditions[0].reason, "StrangersService");
        operator.platform.refresh();
    }
    assert_eq!(operator.id("strange"), theirs["Id"].as_str().unwrap());
    engine.ok("DELETE", "/containers/strange", "");
}

#[tokio::test]
async fn a_word_to_adopt_a_strangers_container_is_heeded_by_the_next_operator() {
    let mut operator = Operator::start("heeded");
    let engine = Arc::clone(&operator.engine);
    engine.ok("POST", "/containers/create?name=heeded", &json!({"Image": IDLE_2}).to_string());
    let manifest = "apps: {a: {uuid: HEEDED, image: 'idle:1'}}\n";
    let desired = operator.desired(manifest);
    let (plan, _) = operator.pass(&desired).await;
    assert_eq!(plan.conflicts(), 1);
    let adopt = ofop::model::Command::Adopt { resource: "app/HEEDED".parse().unwrap(), from: None };
    operator.memory.command(&adopt, "2026-01-02T03:04:05Z");
    operator.platform.note(&operator.memory.notebook.unsent()).await.unwrap();
    operator.restart();
    operator.settle(&desired, "adopt", |snapshot| snapshot.services.values().any(|found| found.mark.is_some())).await;
    assert_eq!(operator.container("heeded").unwrap()["Config"]["Image"], "idle:1");
    assert!(operator.memory.adopting.is_empty(), "carried out");
    let edits = operator.memory.notebook.unsent();
    assert_eq!(edits.into_iter().collect::<Vec<_>>(), [("adopting/app/HEEDED".to_owned(), None)], "the note goes");
    operator.apply("apps: {}\n").await;
    assert_eq!(operator.containers("heeded"), states(&[]));
}

#[tokio::test]
async fn what_openfactorys_own_command_line_deployed_is_taken_over() {
    let mut operator = Operator::start("adopt");
    let engine = Arc::clone(&operator.engine);
    let manifest = "apps: {a: {uuid: ADOPT, image: 'loudly:1', environment: [MODE=x]}}\n";
    derive(&engine, "loudly:1", "true", &["ENV FROM_IMAGE=1", "LABEL a=b", IDLE_COMMAND]);
    // As `ofa` makes it: no mark, nothing that says what was asked for.
    let desired = operator.desired(manifest);
    let spec = &desired.resources.values().next().unwrap().services[0].spec;
    let env: Vec<String> = spec.env.iter().map(|variable| variable.joined()).collect();
    let body = json!({"Image": "loudly:1", "Env": env, "HostConfig": {"NetworkMode": "default", "Mounts": []}});
    engine.ok("POST", "/containers/create?name=adopt", &body.to_string());
    engine.ok("POST", "/containers/adopt/start", "");
    operator
        .settle(&desired, "adopt", |snapshot| {
            snapshot.services.values().any(|service| service.spec.name.as_str() == "adopt" && service.mark.is_some())
        })
        .await;
    assert_eq!(operator.containers("adopt"), states(&[("adopt", "running")]));
    operator.apply("apps: {}\n").await;
    assert_eq!(operator.containers("adopt"), states(&[]));
}
