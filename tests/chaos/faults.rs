//! Single faults on a real engine, each met by one request of a real daemon.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{IDLE, IDLE_2, TestEngine, shared};
use crate::gate::{Asked, Gate, Lie, Written};
use crate::operator::Operator;

/// A daemon behind a proxy, on an engine of its own.
struct Site {
    engine: std::sync::Arc<TestEngine>,
    gate: Gate,
    ofop: Operator,
    name: String,
}

impl Site {
    /// One app of this name, deployed and settled.
    fn with_app(name: &str) -> Site {
        let mut site = Site::new(name);
        site.describe(IDLE);
        site.ofop.start();
        site.settles(IDLE);
        site
    }

    /// Nothing runs yet. Each has an instance of its own, so that several may share the engine.
    fn new(name: &str) -> Site {
        let engine = shared();
        let gate = Gate::start(&engine.socket(), &engine.dir().join(format!("{name}.sock")), 1);
        let mut ofop = Operator::new(&gate.host());
        ofop.set("OFOP_INSTANCE", name);
        Site { engine, gate, ofop, name: name.into() }
    }

    fn describe(&self, image: &str) {
        let text = format!(
            "apps:\n  {0}:\n    uuid: {1}\n    image: {image}\n    networks: [factory-net]\n    deploy: {{placement: \
             {{constraints: ['node.labels.none == x']}}}}\n",
            self.name,
            self.name.to_uppercase()
        );
        self.ofop.write("app.yml", &text);
    }

    /// The services of this name; more than one there cannot be, unless the engine is wrong about itself.
    fn services(&self) -> Vec<Value> {
        let all = self.engine.get("/services");
        all.as_array().unwrap().iter().filter(|it| it["Spec"]["Name"] == self.name).cloned().collect()
    }

    fn id(&self) -> String {
        self.services().first().map(|it| it["ID"].as_str().unwrap().to_owned()).unwrap_or_default()
    }

    fn resource(&self) -> Value {
        self.ofop.resource(&format!("app/{}", self.name.to_uppercase()))
    }

    fn settles(&self, image: &str) {
        self.ofop.wait("it is as described", || {
            let services = self.services();
            let container = &services.first().cloned().unwrap_or_default()["Spec"]["TaskTemplate"]["ContainerSpec"];
            let resource = self.resource();
            services.len() == 1
                && container["Image"].as_str().unwrap_or_default().starts_with(image)
                && resource["sync"] == "Synced"
                && resource["pending_steps"] == 0
        });
    }

    /// The writes of a kind that the engine carried out.
    fn done(&self, asked: Asked) -> Vec<Written> {
        self.gate.writes().into_iter().filter(|it| it.asked == asked && (200..300).contains(&it.status)).collect()
    }

    /// Nothing more is written over two looks at everything.
    fn stays_quiet(&self) {
        let before = self.gate.writes().len();
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(self.gate.writes().len(), before, "{:?}", self.gate.writes());
    }
}

#[test]
fn an_update_whose_answer_is_lost_is_found_done_and_not_sent_again() {
    let site = Site::with_app("lost-update");
    let id = site.id();
    site.gate.next(Asked::Update, Lie::LoseAnswer, 1);
    site.describe(IDLE_2);
    site.settles(IDLE_2);
    site.stays_quiet();
    assert!(site.gate.has_told());
    assert_eq!((site.done(Asked::Update).len(), site.id()), (1, id));
}

#[test]
fn a_removal_whose_answer_is_lost_is_found_done_and_not_sent_again() {
    let site = Site::with_app("lost-removal");
    // A second app, so that removing the first is not removing everything.
    let keep = "apps:\n  kept-1:\n    uuid: KEPT-1\n    image: idle:1\n    networks: [factory-net]\n    deploy: {placement: \
                {constraints: ['node.labels.none == x']}}\n";
    site.ofop.write("keep.yml", keep);
    site.ofop.wait("the other app is there", || site.ofop.resource("app/KEPT-1")["sync"] == "Synced");
    site.gate.next(Asked::Remove, Lie::LoseAnswer, 1);
    site.ofop.delete("app.yml");
    site.ofop.wait("it is gone and forgotten", || site.services().is_empty() && site.resource().is_null());
    site.stays_quiet();
    assert!(site.gate.has_told());
    assert_eq!(site.done(Asked::Remove).len(), 1);
    assert_eq!(site.ofop.resource("app/KEPT-1")["sync"], "Synced");
}

#[test]
fn a_create_that_is_carried_out_late_leaves_one_service() {
    let mut site = Site::new("late-create");
    site.describe(IDLE);
    site.gate.next(Asked::Create, Lie::LateCommit, 1);
    site.ofop.start();
    site.settles(IDLE);
    site.ofop.wait("what was late has arrived", || site.gate.pending() == 0);
    site.stays_quiet();
    assert_eq!((site.done(Asked::Create).len(), site.services().len()), (1, 1));
}

#[test]
fn a_service_that_exists_because_we_made_it_is_ours() {
    let mut site = Site::new("exists-ours");
    site.describe(IDLE);
    // The network carries the request twice; the answer to the second one is all that arrives.
    site.gate.next(Asked::Create, Lie::Twice, 1);
    site.ofop.start();
    site.settles(IDLE);
    site.stays_quiet();
    let statuses: Vec<u16> =
        site.gate.writes().iter().filter(|it| it.asked == Asked::Create).map(|it| it.status).collect();
    assert_eq!(statuses, [201, 409], "the engine said that it exists");
    let conditions = site.resource()["conditions"].clone();
    assert!(!conditions.to_string().contains("Conflict"), "{conditions}");
}

#[test]
fn a_list_of_the_past_removes_no_newer_service_and_makes_none_twice() {
    let site = Site::with_app("past-list");
    // By hand it is made anew: the past knows another id.
    let old = site.id();
    site.engine.ok("DELETE", &format!("/services/{old}"), "");
    site.ofop.wait("it is back", || !site.id().is_empty() && site.id() != old);
    site.settles(IDLE);
    let (new, writes) = (site.id(), site.gate.writes().len());
    site.gate.next(Asked::List, Lie::Past, 6);
    site.ofop.wait("the past was read often enough", || site.gate.has_told());
    site.settles(IDLE);
    assert_eq!(site.id(), new);
    let since = site.gate.writes().split_off(writes);
    let on_new = since.iter().find(|it| it.path.contains(&new) && it.asked == Asked::Remove);
    assert!(on_new.is_none() && since.iter().all(|it| !(200..300).contains(&it.status)), "{since:?}");
}

#[test]
fn events_that_come_twice_cause_no_write() {
    let mut site = Site::new("twice-events");
    site.gate.next(Asked::Events, Lie::Double, 5);
    site.describe(IDLE);
    site.ofop.start();
    site.settles(IDLE);
    site.describe(IDLE_2);
    site.settles(IDLE_2);
    let id = site.id();
    site.engine.ok("DELETE", &format!("/services/{id}"), "");
    site.ofop.wait("it is back", || !site.id().is_empty() && site.id() != id);
    site.settles(IDLE_2);
    site.stays_quiet();
    let writes = site.gate.writes();
    let count = |asked: Asked| writes.iter().filter(|it| it.asked == asked).count();
    assert_eq!((count(Asked::Create), count(Asked::Update), count(Asked::Remove)), (2, 1, 0), "{writes:?}");
}

#[test]
fn a_network_that_is_made_anew_is_taken_by_its_new_id() {
    let engine = TestEngine::swarm();
    let gate = Gate::start(&engine.socket(), &engine.dir().join("net.sock"), 1);
    let mut ofop = Operator::new(&gate.host());
    let site = |ofop, gate| Site { engine: std::sync::Arc::new(engine), gate, ofop, name: "net-anew".into() };
    ofop.set("OFOP_INSTANCE", "net-anew");
    let mut site = site(ofop, gate);
    let network = || site_network(&site.engine);
    let first = network();
    site.describe(IDLE);
    site.ofop.start();
    site.settles(IDLE);
    let of_service = |site: &Site| {
        site.services()[0]["Spec"]["TaskTemplate"]["Networks"][0]["Target"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(of_service(&site), first);

    // An engine lets go of a network only when no service is on it: the operator is not there meanwhile.
    site.ofop.kill();
    let id = site.id();
    site.engine.ok("DELETE", &format!("/services/{id}"), "");
    site.engine.wait("the network can go", || site.engine.call("DELETE", "/networks/factory-net", "").0 < 300);
    site.ofop.start();
    site.ofop.wait("it waits for its network", || site.resource()["conditions"].to_string().contains("NetworkMissing"));
    assert!(site.services().is_empty());
    site.engine.ok("POST", "/networks/create", r#"{"Name":"factory-net","Driver":"overlay","Attachable":true}"#);
    site.settles(IDLE);
    let second = site_network(&site.engine);
    assert_ne!(first, second);
    assert_eq!(of_service(&site), second);
    site.stays_quiet();
}

fn site_network(engine: &TestEngine) -> String {
    let networks = engine.get("/networks");
    let found = networks.as_array().unwrap().iter().find(|it| it["Name"] == "factory-net").cloned();
    found.unwrap_or_default()["Id"].as_str().unwrap_or_default().to_owned()
}

/// A small file system in memory; it is gone when this is dropped.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(path: &Path) -> SmallDisk<'_> {
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(path).status().unwrap();
        assert!(mounted.success(), "a small file system can be mounted: this needs root");
        SmallDisk(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_of_the_registry_removes_nothing_and_is_caught_up_on() {
    let mut site = Site::new("full-disk");
    let state = site.ofop.folder().join(".ofop");
    let _disk = SmallDisk::mount(&state);
    site.describe(IDLE);
    site.ofop.start();
    site.settles(IDLE);
    let id = site.id();
    let filler = state.join("filler");
    let full = || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        for size in [64 << 10, 4 << 10, 512, 1] {
            while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
        }
    };
    full();
    let more = "apps:\n  full-more:\n    uuid: FULL-MORE\n    image: idle:1\n    networks: [factory-net]\n    deploy: {placement: \
                {constraints: ['node.labels.none == x']}}\n";
    site.ofop.write("more.yml", more);
    site.ofop.wait("what cannot be registered says so", || {
        site.ofop.resource("app/FULL-MORE")["conditions"].to_string().contains("full")
    });
    site.describe(IDLE_2);
    site.ofop.wait("the platform is looked after all the same", || {
        let services = site.services();
        services[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().starts_with(IDLE_2)
    });
    assert_eq!(site.id(), id);
    assert!(site.done(Asked::Remove).is_empty());
    // A daemon that is killed and finds its disk full at its start removes nothing either.
    site.ofop.kill();
    full();
    site.ofop.start();
    site.ofop.wait("it has looked", || site.ofop.try_get("/api/v1/plan").is_some());
    site.stays_quiet();
    assert_eq!(site.id(), id);
    std::fs::remove_file(&filler).unwrap();
    site.settles(IDLE_2);
    site.ofop.wait("the other app is registered", || site.ofop.resource("app/FULL-MORE")["sync"] == "Synced");
    assert!(site.done(Asked::Remove).is_empty());
    let ready: Value = serde_json::from_str(&site.ofop.try_get("/readyz").unwrap()).unwrap();
    site.ofop.wait("no warning is left", || {
        let ready = site.ofop.try_get("/readyz").unwrap_or_default();
        serde_json::from_str::<Value>(&ready).is_ok_and(|ready| ready["warnings"] == json!([]))
    });
    assert_eq!(ready["ready"], true);
    // The daemon lets go of its files before the disk goes.
    site.ofop.kill();
}
