use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::service::{Mark, SpecHash};
use crate::model::{
    Block, DesiredResource, DesiredService, FieldChange, Handling, Health, HeldStep, InstanceName, Origin, Revision,
    ServiceId, ServiceName, ServiceSpec, ServiceStep, SourceKind, Step, Sync, Wait,
};

const SECRET: &str = "s3ntinel";

/// A world that passes look at; each test changes what it is about, and lets a second go by with each pass.
struct World {
    desired: Desired,
    before: Option<Desired>,
    plan: Plan,
    place: SourcePlace,
    wall: Duration,
    at: Duration,
    complete: bool,
    acts: bool,
}

fn id(name: &str) -> ResourceId {
    format!("app/{name}").parse().unwrap()
}

fn spec(name: &str, image: &str) -> Arc<ServiceSpec> {
    Arc::new(ServiceSpec::new(ServiceName::new(&name.to_lowercase()).unwrap(), image))
}

fn origin() -> Origin {
    Origin { file: "app_press.yml".into(), line: 3 }
}

fn mark(name: &str) -> Mark {
    Mark {
        instance: InstanceName::new("test").unwrap(),
        resource: id(name),
        spec: SpecHash("hash".into()),
        revision: Revision("r".into()),
        origin: origin().to_string(),
        kept: Some(false),
        terms: crate::model::RemovalTerms::default(),
        options: Vec::new(),
        run: None,
    }
}

fn create(name: &str, reason: Reason) -> PlannedStep {
    let step = ServiceStep::Create { spec: spec(name, "a:1"), mark: mark(name) };
    PlannedStep { step: Step::Service(step), reason, changes: Vec::new() }
}

fn update(name: &str, reason: Reason) -> PlannedStep {
    let step = ServiceStep::Update {
        id: ServiceId("x".into()),
        version: 1,
        spec: spec(name, "a:2"),
        container_labels: BTreeMap::new(),
        mark: mark(name),
    };
    let change = |field: &str, from: &str, to: &str, secret| FieldChange {
        field: field.into(),
        from: Some(from.into()),
        to: Some(to.into()),
        secret,
    };
    let changes = vec![
        change("image", "a:1", &"a:2".repeat(500), false),
        change("environment.TOKEN", SECRET, &format!("{SECRET}-2"), true),
    ];
    PlannedStep { step: Step::Service(step), reason, changes }
}

fn remove(name: &str) -> PlannedStep {
    let name = ServiceName::new(&name.to_lowercase()).unwrap();
    let step = Step::Service(ServiceStep::Remove { id: ServiceId("x".into()), name });
    PlannedStep { step, reason: Reason::Orphaned, changes: Vec::new() }
}

fn to_do() -> Verdict {
    Verdict::InProgress { why: Progress::Steps, message: "1 step to do".into() }
}

fn blocked(name: &str, kind: BlockKind) -> Verdict {
    Verdict::Blocked(Block::new(kind, &id(name), format!("{} it is", kind.as_str())))
}

impl World {
    fn new() -> Self {
        World {
            desired: Desired { complete: true, files: 2, ..Desired::default() },
            before: None,
            plan: Plan::default(),
            place: SourcePlace {
                kind: SourceKind::Git,
                location: "https://git.plant/plant.git".into(),
                branch: None,
                path: "".into(),
            },
            wall: Duration::from_secs(1_767_323_045),
            at: Duration::from_secs(100),
            complete: true,
            acts: true,
        }
    }

    fn at(revision: &str) -> Self {
        let mut world = World::new();
        world.revision(revision);
        world
    }

    /// The next revision is there, and describes what it is told to from now on.
    fn revision(&mut self, revision: &str) {
        self.desired.revision = Revision(revision.into());
    }

    fn describe(&mut self, name: &str, image: &str) {
        let service = DesiredService { spec: spec(name, image), hash: SpecHash(image.into()), follow_digest: false };
        let resource = DesiredResource {
            id: id(name),
            origin: origin(),
            services: vec![service],
            records: Vec::new(),
            handling: Handling::default(),
            frozen: false,
        };
        self.desired.resources.insert(id(name), Arc::new(resource));
    }

    /// What the plan says of a resource from now on.
    fn plan(&mut self, name: &str, steps: Vec<PlannedStep>, verdict: Verdict) {
        let described = !steps.iter().any(|step| step.reason == Reason::Orphaned);
        let planned = ResourcePlan {
            origin: described.then(origin),
            steps,
            held: Vec::new(),
            drift: Vec::new(),
            ignored: Vec::new(),
            sync: Sync::OutOfSync,
            health: Health::Healthy,
            conditions: Vec::new(),
            verdict,
        };
        self.plan.resources.insert(id(name), Arc::new(planned));
    }

    fn settle(&mut self, name: &str) {
        self.plan(name, Vec::new(), Verdict::Settled);
    }

    fn pass(&mut self, recorder: &mut Recorder) -> News {
        let seen = Sighting {
            wall: self.wall,
            at: self.at,
            before: self.before.as_ref(),
            desired: &self.desired,
            place: &self.place,
            plan: Some(&self.plan),
            complete: self.complete,
            acts: self.acts,
        };
        let news = recorder.pass(&seen, |_, planned| planned.verdict.clone());
        self.before = Some(self.desired.clone());
        self.wall += Duration::from_secs(1);
        self.at += Duration::from_secs(1);
        news
    }
}

/// The newest state of every revision and of every resource in one, by what was to be written so far.
#[derive(Debug, Default)]
struct Book {
    revisions: BTreeMap<u64, RevisionEntry>,
    resources: BTreeMap<(u64, String), ResourceEntry>,
}

impl Book {
    fn take(&mut self, news: News) {
        self.revisions.extend(news.revisions);
        let resources = news.resources.into_iter();
        self.resources.extend(resources.map(|(key, own)| ((key, own.resource.uuid.to_string()), own)));
    }

    fn counts(&self, key: u64) -> (usize, usize, usize, usize) {
        let entry = &self.revisions[&key];
        (entry.created, entry.changed, entry.removed, entry.unsettled)
    }

    fn result(&self, key: u64) -> RevisionResult {
        self.revisions[&key].result
    }

    fn of(&self, key: u64, name: &str) -> &ResourceEntry {
        &self.resources[&(key, name.to_owned())]
    }

    /// What a successor finds.
    fn whole(&self, key: u64) -> RevisionEntry {
        let own = self.resources.iter().filter(|((of, _), _)| *of == key);
        RevisionEntry { resources: own.map(|(_, own)| own.clone()).collect(), ..self.revisions[&key].clone() }
    }
}

#[test]
fn a_revision_is_in_force_once_everything_that_it_touches_was_settled() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("NEW", vec![create("NEW", Reason::New)], to_do());
    world.plan("OLD", vec![update("OLD", Reason::ManifestChanged)], to_do());
    world.plan("GONE", vec![remove("GONE")], to_do());
    world.plan("DRIFT", vec![update("DRIFT", Reason::Modified)], to_do());
    world.settle("SAME");
    book.take(world.pass(&mut recorder));
    assert_eq!((book.counts(1), book.result(1)), ((1, 1, 1, 3), RevisionResult::OnItsWay));
    assert_eq!(book.revisions[&1].first_seen, "2026-01-02T03:04:05.000Z");
    assert_eq!(book.revisions[&1].obstacle.as_ref().unwrap().resource, id("GONE"), "the first one that waits");
    assert_eq!(book.of(1, "NEW").change, ResourceChange::Created);
    assert!(!book.resources.contains_key(&(1, "DRIFT".into())), "a repair belongs to no revision");

    world.settle("NEW");
    world.plan.resources.remove(&id("GONE"));
    world.plan.examined = crate::model::Examined::Only([id("NEW"), id("OLD"), id("GONE")].into());
    book.take(world.pass(&mut recorder));
    assert_eq!((book.counts(1), book.result(1)), ((1, 1, 1, 1), RevisionResult::OnItsWay));
    world.settle("OLD");
    book.take(world.pass(&mut recorder));
    assert_eq!((book.counts(1), book.result(1)), ((1, 1, 1, 0), RevisionResult::InForce));
    assert_eq!(book.revisions[&1].settled.as_deref(), Some("2026-01-02T03:04:07.000Z"));
    assert_eq!(book.revisions[&1].milliseconds, Some(2000));
    assert_eq!(book.of(1, "NEW").milliseconds, Some(1000));
    assert_eq!(book.of(1, "GONE").result, ResourceResult::Settled);

    // What happens to the cluster afterwards is no matter of the revision's.
    world.plan("OLD", vec![update("OLD", Reason::Modified)], to_do());
    assert_eq!(world.pass(&mut recorder), News::default());
}

#[test]
fn what_changed_is_kept_without_the_values_of_variables() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("OLD", vec![update("OLD", Reason::ManifestChanged)], to_do());
    book.take(world.pass(&mut recorder));
    let steps = &book.of(1, "OLD").steps;
    assert_eq!((steps[0].verb, steps[0].object.as_str()), (StepVerb::Update, "service old"));
    let [image, token] = &steps[0].changes[..] else { panic!("{steps:?}") };
    assert_eq!((image.from.as_deref(), image.secret), (Some("a:1"), false));
    assert_eq!(image.to.as_ref().map(|to| to.chars().count()), Some(301), "long values are cut");
    assert_eq!((&token.from, &token.to, token.secret), (&None, &None, true));
    assert!(!format!("{book:?}").contains(SECRET));
}

#[test]
fn steps_that_show_later_are_added_once() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("A", vec![create("A", Reason::New)], to_do());
    book.take(world.pass(&mut recorder));
    world.plan("A", vec![create("A", Reason::New), create("B", Reason::New)], to_do());
    let news = world.pass(&mut recorder);
    assert_eq!(news.resources.len(), 1);
    book.take(news);
    assert_eq!(book.of(1, "A").steps.len(), 2);
    assert_eq!(world.pass(&mut recorder), News::default(), "nothing is new");
}

#[test]
fn a_revision_fails_with_the_first_resource_that_failed_and_recovers_when_that_does() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("A", vec![create("A", Reason::New)], to_do());
    world.plan("B", vec![update("B", Reason::ManifestChanged)], to_do());
    book.take(world.pass(&mut recorder));
    world.plan("B", Vec::new(), blocked("B", BlockKind::ImageMissing));
    book.take(world.pass(&mut recorder));
    assert_eq!((book.counts(1), book.result(1)), ((1, 1, 0, 2), RevisionResult::Failed));
    let obstacle = book.revisions[&1].obstacle.clone().unwrap();
    assert_eq!((obstacle.resource, obstacle.reason.as_str()), (id("B"), "image_missing"));
    assert_eq!(book.of(1, "B").result, ResourceResult::Failed);

    world.settle("A");
    world.settle("B");
    book.take(world.pass(&mut recorder));
    assert_eq!((book.result(1), &book.revisions[&1].obstacle), (RevisionResult::InForce, &None));
    assert_eq!(book.of(1, "B").result, ResourceResult::Settled);
}

#[test]
fn what_waits_for_others_is_on_its_way_and_what_broke_is_why_it_failed() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    for name in ["A", "B", "C", "D"] {
        world.plan(name, vec![update(name, Reason::ManifestChanged)], to_do());
    }
    book.take(world.pass(&mut recorder));
    world.plan("D", vec![update("D", Reason::ManifestChanged)], blocked("D", BlockKind::OutsideWindow));
    world.plan("A", vec![update("A", Reason::ManifestChanged)], blocked("A", BlockKind::RolloutHalted));
    world.plan("B", Vec::new(), blocked("B", BlockKind::RestartLoop));
    let message = "its place in the batch".to_owned();
    let waits = Verdict::InProgress { why: Progress::Rollout, message };
    world.plan("C", vec![update("C", Reason::ManifestChanged)], waits);
    book.take(world.pass(&mut recorder));
    assert_eq!((book.result(1), book.counts(1)), (RevisionResult::Failed, (0, 4, 0, 4)));
    assert_eq!(book.revisions[&1].obstacle.as_ref().unwrap().resource, id("B"));
    for name in ["A", "C", "D"] {
        assert_eq!(book.of(1, name).result, ResourceResult::OnItsWay, "{name}");
    }
    assert_eq!(book.of(1, "C").obstacle.as_ref().unwrap().reason, "rollout");
}

#[test]
fn the_next_revision_says_what_became_of_the_one_before() {
    for (verdict, result, own) in [
        (to_do(), RevisionResult::Superseded, ResourceResult::Superseded),
        (blocked("A", BlockKind::RestartLoop), RevisionResult::Failed, ResourceResult::Failed),
        (Verdict::Settled, RevisionResult::Replaced, ResourceResult::Settled),
    ] {
        let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
        world.plan("A", vec![create("A", Reason::New)], to_do());
        book.take(world.pass(&mut recorder));
        world.plan("A", vec![create("A", Reason::New)], verdict);
        book.take(world.pass(&mut recorder));
        world.revision("r2");
        world.settle("A");
        book.take(world.pass(&mut recorder));
        assert_eq!((book.result(1), book.of(1, "A").result), (result, own));
        assert_eq!(book.revisions[&1].replaced_by, Some(Revision("r2".into())));
        assert_eq!((book.counts(2), book.result(2)), ((0, 0, 0, 0), RevisionResult::InForce));
    }
}

#[test]
fn what_is_still_to_be_done_belongs_to_the_next_revision_as_well() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("A", vec![create("A", Reason::New)], to_do());
    book.take(world.pass(&mut recorder));
    world.revision("r2");
    book.take(world.pass(&mut recorder));
    assert_eq!((book.result(1), book.counts(2)), (RevisionResult::Superseded, (1, 0, 0, 1)));
}

#[test]
fn what_is_left_alone_holds_up_no_revision() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("A", vec![update("A", Reason::ManifestChanged)], blocked("A", BlockKind::Suspended));
    world.plan("B", vec![remove("B")], blocked("B", BlockKind::PruningDisabled));
    book.take(world.pass(&mut recorder));
    assert_eq!((book.counts(1), book.result(1)), ((0, 0, 0, 0), RevisionResult::InForce));
    // Resumed: it is rolled out now, and when everything was settled for the first time stays what it was.
    let settled = book.revisions[&1].settled.clone();
    world.plan("A", vec![update("A", Reason::ManifestChanged)], to_do());
    book.take(world.pass(&mut recorder));
    assert_eq!((book.counts(1), book.result(1)), ((0, 1, 0, 1), RevisionResult::OnItsWay));
    world.settle("A");
    book.take(world.pass(&mut recorder));
    assert_eq!((book.result(1), &book.revisions[&1].settled), (RevisionResult::InForce, &settled));
    assert_eq!(book.of(1, "A").milliseconds, Some(1000), "counted from the resumption");
}

#[test]
fn a_removal_that_waits_for_a_word_is_on_its_way() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("A", Vec::new(), blocked("A", BlockKind::HeldForConfirmation));
    let held = HeldStep { step: remove("A"), wait: Wait::SecondSighting };
    let planned = world.plan.resources.get_mut(&id("A")).map(Arc::make_mut).unwrap();
    (planned.origin, planned.held) = (None, vec![held]);
    book.take(world.pass(&mut recorder));
    assert_eq!((book.counts(1), book.result(1)), ((0, 0, 1, 1), RevisionResult::OnItsWay));
    assert_eq!(book.revisions[&1].obstacle.as_ref().unwrap().reason, "held_for_confirmation");
}

#[test]
fn nothing_is_in_force_before_both_sides_were_read_and_nothing_begins_before_a_source_was() {
    let (mut world, mut recorder, mut book) = (World::new(), Recorder::default(), Book::default());
    assert_eq!(world.pass(&mut recorder), News::default(), "nothing has been read");
    world.revision("r1");
    world.complete = false;
    book.take(world.pass(&mut recorder));
    assert_eq!(book.result(1), RevisionResult::OnItsWay);
    world.complete = true;
    book.take(world.pass(&mut recorder));
    assert_eq!(book.result(1), RevisionResult::InForce);
}

#[test]
fn records_count_when_their_resource_is_described_otherwise() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.describe("A", "a:1");
    world.describe("B", "a:1");
    book.take(world.pass(&mut recorder));
    world.revision("r2");
    world.describe("A", "a:2");
    for name in ["A", "B"] {
        world.plan(name, vec![update(name, Reason::StaleRecord)], to_do());
    }
    book.take(world.pass(&mut recorder));
    assert_eq!(book.counts(2), (0, 1, 0, 1), "B's record differs, and no manifest says so");
}

#[test]
fn a_successor_goes_on_with_the_revision_that_is_open() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("A", vec![create("A", Reason::New)], to_do());
    world.plan("B", vec![create("B", Reason::New)], to_do());
    book.take(world.pass(&mut recorder));
    world.settle("A");
    book.take(world.pass(&mut recorder));

    // A minute later another process goes on, with a clock of its own.
    let mut recorder = Recorder::restored(Some(book.whole(1)));
    (world.before, world.at) = (None, Duration::from_secs(3));
    world.wall += Duration::from_secs(60);
    let mut found = Book::default();
    found.take(world.pass(&mut recorder));
    assert!(found.revisions.is_empty() && found.resources.is_empty(), "nothing is new: {found:?}");
    world.settle("B");
    found.take(world.pass(&mut recorder));
    assert_eq!((found.counts(0), found.result(0)), ((2, 0, 0, 0), RevisionResult::InForce));
    assert_eq!(found.revisions[&0].milliseconds, Some(63_000));
    assert_eq!(found.of(0, "B").milliseconds, Some(63_000));
    assert_eq!(found.revisions[&0].first_seen, book.revisions[&1].first_seen);

    // One that finds another revision closes what it found.
    let mut recorder = Recorder::restored(Some(found.whole(0)));
    world.revision("r2");
    found.take(world.pass(&mut recorder));
    assert_eq!((found.result(0), found.result(1)), (RevisionResult::Replaced, RevisionResult::InForce));
}

#[test]
fn a_wall_clock_that_jumps_while_it_runs_changes_no_duration() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.plan("A", vec![create("A", Reason::New)], to_do());
    book.take(world.pass(&mut recorder));
    world.wall -= Duration::from_secs(3600);
    world.settle("A");
    book.take(world.pass(&mut recorder));
    assert_eq!((book.revisions[&1].milliseconds, book.of(1, "A").milliseconds), (Some(1000), Some(1000)));
}

#[test]
fn a_standby_takes_down_what_the_holder_did_before_it_looked() {
    let (mut world, mut recorder, mut book) = (World::at("r1"), Recorder::default(), Book::default());
    world.acts = false;
    for name in ["A", "GONE", "SAME"] {
        world.describe(name, "a:1");
        world.settle(name);
    }
    book.take(world.pass(&mut recorder));
    world.revision("r2");
    world.describe("A", "a:2");
    world.describe("NEW", "a:1");
    world.settle("NEW");
    world.desired.resources.remove(&id("GONE"));
    world.plan.resources.remove(&id("GONE"));
    world.plan.examined = crate::model::Examined::Only([id("A"), id("NEW"), id("GONE")].into());
    book.take(world.pass(&mut recorder));
    assert_eq!((book.counts(2), book.result(2)), ((1, 1, 1, 0), RevisionResult::InForce));
}
