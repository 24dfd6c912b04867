//! The Swarm adapter when the engine or the way to it misbehaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/proxy.rs"]
mod proxy;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::{IDLE, TestEngine, shared};
use futures_util::StreamExt;
use ofop::model::{
    FailureKind, InstanceName, Mark, NotesView, PlatformSnapshot, Revision, ServiceId, ServiceName, ServiceSpec,
    ServiceStep, SpecHash,
};
use ofop::platform::engine::Engine;
use ofop::platform::swarm::{Pace, Swarm};
use ofop::platform::{Platform, PlatformError};
use proxy::{Fault, Proxy};
use serde_json::json;

const NEVER: Pace = Pace { resync: Duration::from_secs(3600), follow: Duration::from_secs(3600) };
const LONG: Duration = Duration::from_secs(60);

/// An engine, a proxy in front of it, and the adapter behind that.
struct World {
    engine: Arc<TestEngine>,
    proxy: Proxy,
    swarm: Swarm,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    world_of(shared())
}

/// A world where nobody else makes or removes services, for tests that count reads.
fn world_alone() -> World {
    world_of(Arc::new(TestEngine::swarm()))
}

fn world_of(engine: Arc<TestEngine>) -> World {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(&engine.socket(), dir.path());
    let swarm = Swarm::start(Engine::new(&proxy.host(), None).unwrap(), NEVER, &InstanceName::new("tests").unwrap());
    World { engine, proxy, swarm, _dir: dir }
}

impl World {
    async fn observe(&self) -> Result<Arc<PlatformSnapshot>, PlatformError> {
        self.swarm.observe(&BTreeSet::new()).await
    }

    /// A service made by hand, past the proxy.
    fn by_hand(&self, name: &str) -> String {
        let body = json!({"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": IDLE},
            "Placement": {"Constraints": ["node.labels.none==x"]}}});
        self.engine.ok("POST", "/services/create", &body.to_string())["ID"].as_str().unwrap().to_owned()
    }

    fn remove(&self, id: &str) {
        self.engine.ok("DELETE", &format!("/services/{id}"), "");
    }

    async fn until(&self, what: &str, holds: impl Fn(&Result<Arc<PlatformSnapshot>, PlatformError>) -> bool) {
        let mut events = std::pin::pin!(self.swarm.events());
        let wait = async {
            while !holds(&self.observe().await) {
                events.next().await.expect("the events go on");
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}: not within {} s", LONG.as_secs()));
    }
}

fn create(name: &str) -> ServiceStep {
    let mut spec = ServiceSpec::new(ServiceName::new(name).unwrap(), IDLE);
    spec.constraints = vec!["node.labels.none == x".into()];
    let mark = Mark {
        instance: InstanceName::new("tests").unwrap(),
        resource: "app/X".parse().unwrap(),
        spec: SpecHash("hash".into()),
        revision: Revision("r1".into()),
        origin: "a.yml:1".into(),
        kept: Some(false),
        terms: ofop::model::RemovalTerms::default(),
        options: Vec::new(),
        run: None,
    };
    ServiceStep::Create { spec: Arc::new(spec), mark }
}

fn has(observed: &Result<Arc<PlatformSnapshot>, PlatformError>, name: &str) -> bool {
    observed.as_ref().is_ok_and(|snapshot| snapshot.services.contains_key(name))
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_ambiguous_and_found_by_the_next_observation() {
    let world = world();
    world.observe().await.unwrap();
    world.proxy.fault("POST /services/create", Fault::LoseAnswer);
    let failure = world.swarm.execute(&create("lost")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Ambiguous, "{failure}");
    let snapshot = world.observe().await.unwrap();
    assert!(snapshot.generation > 1, "the next observation rests on a new full read");
    world.remove(&snapshot.services["lost"].id.0);
}

#[tokio::test]
async fn a_list_that_was_cut_is_never_a_shorter_list() {
    let world = world();
    let ids = ["cut-1", "cut-2"].map(|name| world.by_hand(name));
    let whole = world.engine.call("GET", "/services", "").1.len();
    // Behind the head of the answer: inside the list, and just before its end.
    for length in [whole / 2, whole] {
        world.swarm.refresh();
        assert!(has(&world.observe().await, "cut-1"));
        world.proxy.fault("GET /services ", Fault::CutAnswer(length));
        world.swarm.refresh();
        let failed = world.observe().await;
        assert!(failed.is_err(), "{failed:?}");
        world.proxy.heal();
        world.until("it is whole again", |observed| has(observed, "cut-1") && has(observed, "cut-2")).await;
    }
    ids.iter().for_each(|id| world.remove(id));
}

#[tokio::test]
async fn a_stream_of_events_that_went_silent_is_opened_anew() {
    let world = world_alone();
    world.proxy.fault("GET /events", Fault::Mute);
    world.observe().await.unwrap();
    let first = world.by_hand("silent-1");
    world.proxy.heal();
    // A full read, as the timer would make one, shows a change that no event told of.
    world.swarm.refresh();
    world.until("the full read shows it", |observed| has(observed, "silent-1")).await;
    world.until("the stream was doubted", |observed| observed.as_ref().is_ok_and(|it| !it.complete)).await;
    world.until("all is well", |observed| observed.as_ref().is_ok_and(|it| it.complete)).await;
    let generation = world.observe().await.unwrap().generation;
    let second = world.by_hand("silent-2");
    world.until("events come again", |observed| has(observed, "silent-2")).await;
    assert_eq!(world.observe().await.unwrap().generation, generation);
    [first, second].iter().for_each(|id| world.remove(id));
}

#[tokio::test]
async fn a_swarm_without_a_leader_is_said_so_and_recovers() {
    let world = world();
    let id = world.by_hand("headless");
    world.swarm.refresh();
    assert!(has(&world.observe().await, "headless"));
    let message = "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few \
                   managers are online. Make sure more than half of the managers are online.";
    world.proxy.fault("/services", Fault::Say(500, json!({ "message": message }).to_string()));
    world.swarm.refresh();
    let error = world.observe().await.unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("managers")), "{error:?}");
    let failure = world.swarm.execute(&create("headless-2")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    world.proxy.heal();
    world.until("it is back", |observed| has(observed, "headless")).await;
    world.remove(&id);
}

#[tokio::test]
async fn reads_without_a_quorum_are_not_complete() {
    let world = world();
    assert!(world.observe().await.unwrap().complete);
    let node = |reachability: &str, leader: bool| json!({"ID": "n", "ManagerStatus": {"Leader": leader, "Reachability": reachability}});
    let nodes = json!([node("reachable", true), node("unreachable", false), node("unreachable", false)]);
    world.proxy.fault("GET /nodes", Fault::Say(200, nodes.to_string()));
    world.swarm.refresh();
    assert!(!world.observe().await.unwrap().complete);
    world.proxy.heal();
    world.swarm.refresh();
    assert!(world.observe().await.unwrap().complete);
}

#[tokio::test]
async fn an_odd_service_harms_no_other() {
    let world = world();
    let good = json!({"ID": "g".repeat(25), "Version": {"Index": 1}, "Spec": {"Name": "good",
        "TaskTemplate": {"ContainerSpec": {"Image": "i"}}, "Mode": {"Replicated": {"Replicas": 1}}}});
    let odd = json!({"ID": "o".repeat(25), "Version": {"Index": 1}, "Spec": {"Name": "odd", "TaskTemplate": 7}});
    world.proxy.fault("GET /services ", Fault::Say(200, json!([odd, good]).to_string()));
    world.swarm.refresh();
    let snapshot = world.observe().await.unwrap();
    assert_eq!(snapshot.services.keys().map(ServiceName::as_str).collect::<Vec<_>>(), ["good"]);
    assert_eq!(snapshot.unreadable.keys().collect::<Vec<_>>(), ["odd"]);
    assert!(snapshot.complete);

    // One without an id could be any service.
    world.proxy.heal();
    world.proxy.fault("GET /services ", Fault::Say(200, json!([{}, good]).to_string()));
    world.swarm.refresh();
    assert!(!world.observe().await.unwrap().complete);
}

#[tokio::test]
async fn a_service_said_to_be_absent_is_believed_only_with_a_list_or_an_event() {
    let world = world();
    let id = world.by_hand("doubted");
    world.swarm.refresh();
    assert!(has(&world.observe().await, "doubted"));
    let absent = Fault::Say(404, json!({"message": "service not found"}).to_string());
    world.proxy.fault(&format!("GET /services/{id}"), absent);
    let before = world.observe().await.unwrap().generation;
    world.engine.edit_service(&id, |spec| spec["Labels"] = json!({"team": "blue"}));
    world.until("a list was read", |observed| observed.as_ref().is_ok_and(|it| it.generation > before)).await;
    assert!(has(&world.observe().await, "doubted"));
    world.remove(&id);
    world.until("it goes with its event", |observed| observed.is_ok() && !has(observed, "doubted")).await;
}

#[tokio::test]
async fn an_event_does_not_wait_for_a_long_read() {
    let world = world_alone();
    world.observe().await.unwrap();
    world.proxy.fault("GET /tasks", Fault::Mute);
    let first = world.by_hand("long-1");
    world.until("it is seen", |observed| has(observed, "long-1")).await;
    // Its tasks are looked at next, for ever.
    while world.proxy.met("GET /tasks") == 0 {
        tokio::task::yield_now().await;
    }
    let second = world.by_hand("long-2");
    world.until("it is seen", |observed| has(observed, "long-2")).await;
    assert_eq!(world.proxy.met("GET /tasks"), 1, "that read still goes on");
    [first, second].iter().for_each(|id| world.remove(id));
}

#[tokio::test]
async fn what_an_event_is_about_is_read_and_no_list_of_all() {
    const LISTS: [&str; 2] = ["GET /services ", "GET /tasks "];
    let world = world_alone();
    // Passes everything on, and is counted.
    let carry = || Fault::CutAnswer(usize::MAX);
    let note = |text: &str| [("suspended".to_owned(), Some(text.to_owned()))].into();
    let has_task = |observed: &Result<Arc<PlatformSnapshot>, PlatformError>, id: &str| {
        let id = ServiceId(id.to_owned());
        observed.as_ref().is_ok_and(|snapshot| snapshot.tasks.get(&id).is_some_and(|tasks| !tasks.is_empty()))
    };
    world.observe().await.unwrap();
    // A node that reports itself is a reason for lists that has nothing to do with what is tested here: one time of
    // several must do without.
    let mut counts = Vec::new();
    for time in 1..=5 {
        world.proxy.heal();
        LISTS.into_iter().chain(["GET /tasks?", "GET /tasks/"]).for_each(|call| world.proxy.fault(call, carry()));
        // What every renewal of a lease does as well.
        world.swarm.note(&note(&time.to_string())).await.unwrap();
        let name = format!("single-{time}");
        let id = world.by_hand(&name);
        world.until("it is seen", |observed| has(observed, &name)).await;
        world.until("its task is seen", |observed| has_task(observed, &id)).await;
        world.remove(&id);
        world.until("it is gone", |observed| !has(observed, &name)).await;
        world.until("its task is gone", |observed| !has_task(observed, &id)).await;
        assert!(world.proxy.met("GET /tasks?") > 0 && world.proxy.met("GET /tasks/") > 0);
        let lists = LISTS.map(|call| world.proxy.met(call));
        if lists == [0, 0] {
            return;
        }
        counts.push(lists);
    }
    panic!("each time lists were read: {counts:?}");
}

#[tokio::test]
async fn notes_that_cannot_be_read_or_written_say_so_and_hold_up_nothing_else() {
    let world = world_alone();
    let note = |text: &str| [("suspended".to_owned(), Some(text.to_owned()))].into();
    let id = world.by_hand("beside");
    // The answer is lost: it may have worked, and the next look shows whether it did.
    world.proxy.fault("POST /configs/create", Fault::LoseAnswer);
    assert_eq!(world.swarm.note(&note("first")).await.unwrap_err().kind, FailureKind::Ambiguous);
    let seen = |observed: &Result<Arc<PlatformSnapshot>, PlatformError>| match &observed.as_ref().unwrap().notes {
        NotesView::Read { notes, .. } => notes.get("suspended").cloned().unwrap_or_default(),
        other => format!("{other:?}"),
    };
    assert_eq!(seen(&world.observe().await), "first");
    world.proxy.heal();
    // Somebody who is faster all the time is a race, and only that.
    let faster = r#"{"message":"rpc error: code = Unknown desc = update out of sequence"}"#;
    world.proxy.fault("/update?version=", Fault::Say(500, faster.into()));
    assert_eq!(world.swarm.note(&note("second")).await.unwrap_err().kind, FailureKind::Conflict);
    assert!(world.proxy.met("/update?version=") > 1, "it looks again and tries again");
    world.proxy.heal();
    world.swarm.note(&note("second")).await.unwrap();
    assert_eq!(seen(&world.observe().await), "second");

    // They cannot be read for a while: everything else can.
    world.proxy.fault(
        "GET /configs",
        Fault::Say(500, r#"{"message":"rpc error: code = Unavailable desc = transport"}"#.into()),
    );
    world.swarm.refresh();
    let observed = world.observe().await;
    assert!(observed.as_ref().unwrap().complete && has(&observed, "beside"));
    assert!(seen(&observed).starts_with("Unread("), "{}", seen(&observed));
    world.proxy.heal();
    world.swarm.refresh();
    assert_eq!(seen(&world.observe().await), "second");

    // Somebody in front of the engine lets no config through: then none are kept.
    world.proxy.fault("GET /configs", Fault::Say(403, r#"{"message":"forbidden by the proxy"}"#.into()));
    world.swarm.refresh();
    assert!(seen(&world.observe().await).starts_with("Unsupported("));
    world.remove(&id);
}
