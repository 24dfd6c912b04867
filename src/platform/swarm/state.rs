//! What is known of the cluster, and how new knowledge joins it. Pure: no call, no clock.
//!
//! Full reads, single reads and our own writes overlap in time. A counter orders them: a full read carries the
//! count at which it began, and never undoes what was learnt after that.
//!
//! # Guarantees
//!
//! - `generation` counts full reads that succeeded, and nothing else.
//! - Between two changes everybody gets the same snapshot; it is built when it is first asked for, and shares with the
//!   one before what did not change in between. Nothing here walks over everything but what takes in a full read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::convert::{Converted, Header, NetworkNames, NodeNames};
use super::reads::TaskLists;
use crate::model::{
    NotesView, ObservedService, PlatformSnapshot, ServiceId, ServiceName, SharedMap, TaskState, TaskView, UpdateState,
    shared,
};
use crate::platform::digests::Answers;

/// A point in the order of things learnt.
pub(super) type Moment = u64;

/// What is known.
#[derive(Default)]
pub(super) struct State {
    now: Moment,
    services: BTreeMap<ServiceId, Entry>,
    /// Services that were removed, and when that was learnt: until a full read that began later confirms it.
    removed: BTreeMap<ServiceId, Moment>,
    /// Those that are understood, as a snapshot shows them.
    shown: SharedMap<ServiceName, Arc<ObservedService>>,
    /// Those that are not, by name, with the reason.
    unreadable: BTreeMap<String, String>,
    tasks: TaskLists,
    /// When tasks of a single service were learnt: until a list of all that began later.
    tasks_learnt: BTreeMap<ServiceId, Moment>,
    /// Services with tasks on their way.
    restless: BTreeSet<ServiceId>,
    /// Names of networks by id, also of those that no service can ask for and of those that are gone: an id
    /// never means another network.
    names: NetworkNames,
    attachable: BTreeSet<String>,
    networks_learnt: Moment,
    nodes: NodeNames,
    notes: NotesView,
    notes_learnt: Moment,
    answers: Answers,
    generation: u64,
    /// The last full read saw a quorum and understood everything.
    whole: bool,
    /// Something happened after which what is known may be stale; a full read that begins later ends that.
    doubt: Option<Moment>,
    snapshot: Option<Arc<PlatformSnapshot>>,
}

struct Entry {
    version: u64,
    learnt: Moment,
    known: Known,
}

/// One service.
#[derive(Clone, PartialEq)]
pub(super) enum Known {
    /// Understood. The ids of networks whose names are not known stand in its spec as they are.
    Service { service: Arc<ObservedService>, unknown_networks: Vec<String> },
    /// Not understood.
    Unreadable { name: String, reason: String },
}

impl Known {
    /// Holds a spec that is as it was once and not twice: of one that we wrote, the same object as what is desired.
    fn share_with(&mut self, before: &Known) {
        if let (Known::Service { service, .. }, Known::Service { service: before, .. }) = (self, before)
            && service.spec == before.spec
        {
            Arc::make_mut(service).spec = Arc::clone(&before.spec);
        }
    }

    /// Equality that is quick for what was passed on unchanged.
    fn is(&self, other: &Known) -> bool {
        match (self, other) {
            (Known::Service { service: one, .. }, Known::Service { service: two, .. }) if Arc::ptr_eq(one, two) => true,
            (one, two) => one == two,
        }
    }
}

impl From<Converted> for Known {
    fn from(converted: Converted) -> Known {
        match converted {
            Converted::Service { service, unknown_networks } => Known::Service { service, unknown_networks },
            Converted::Unreadable { name, reason } => Known::Unreadable { name, reason },
        }
    }
}

/// A full read, as it comes in.
#[derive(Default)]
pub(super) struct Reading {
    began: Moment,
    pub(super) services: BTreeMap<ServiceId, (u64, Known)>,
    pub(super) tasks: TaskLists,
    pub(super) names: NetworkNames,
    pub(super) attachable: BTreeSet<String>,
    pub(super) nodes: NodeNames,
    pub(super) notes: NotesView,
    /// Everything was understood and the managers have a quorum.
    pub(super) whole: bool,
}

impl State {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// Begins a full read.
    pub(super) fn begin(&mut self) -> Reading {
        Reading { began: self.tick(), whole: true, names: self.names.clone(), ..Reading::default() }
    }

    /// What is known of a service, if that is still true for this version.
    pub(super) fn same(&self, header: &Header) -> Option<Known> {
        let entry = self.services.get(&header.id)?;
        let settled = match &entry.known {
            Known::Service { unknown_networks, .. } => unknown_networks.is_empty(),
            Known::Unreadable { .. } => true,
        };
        (entry.version == header.version && settled).then(|| entry.known.clone())
    }

    /// Names of the networks that are known.
    pub(super) fn names(&self) -> &NetworkNames {
        &self.names
    }

    /// Takes in a full read that succeeded; says whether services differ from what was known, and whether
    /// anything does.
    pub(super) fn finish(&mut self, reading: Reading) -> Changed {
        let Reading { began, services, tasks, names, attachable, nodes, notes, whole } = reading;
        let mut changed = Changed::default();
        self.removed.retain(|_, learnt| *learnt > began);
        let gone = self.services.iter().filter(|(id, entry)| !services.contains_key(*id) && entry.learnt <= began);
        let gone: Vec<ServiceId> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            changed.services |= self.leave(&id);
        }
        for (id, (version, known)) in services {
            if self.removed.contains_key(&id) {
                continue;
            }
            changed.services |= self.enter(id, version, known, began);
        }
        changed.others |= self.take_tasks(tasks, began);
        self.names.extend(names);
        if self.networks_learnt < began {
            changed.others |= self.attachable != attachable;
            self.attachable = attachable;
        }
        changed.others |= self.nodes != nodes;
        self.nodes = nodes;
        if self.notes_learnt < began {
            changed.others |= self.notes != notes;
            self.notes = notes;
        }
        changed.others |= self.whole != whole;
        self.whole = whole;
        if self.doubt.is_some_and(|since| since < began) {
            self.doubt = None;
            changed.others = true;
        }
        self.generation += 1;
        self.snapshot = None;
        changed
    }

    /// Takes in one service as just read.
    pub(super) fn learn(&mut self, id: ServiceId, version: u64, known: Known) -> bool {
        let learnt = self.tick();
        let changed = self.enter(id, version, known, learnt);
        self.touched(changed)
    }

    /// Takes in that a service is gone.
    pub(super) fn forget(&mut self, id: &ServiceId) -> bool {
        let learnt = self.tick();
        let changed = self.leave(id);
        self.removed.insert(id.clone(), learnt);
        self.touched(changed)
    }

    /// Begins a read of all tasks.
    pub(super) fn begin_tasks(&mut self) -> Moment {
        self.tick()
    }

    /// Takes in a list of all tasks whose read began at that moment.
    pub(super) fn tasks(&mut self, tasks: TaskLists, began: Moment) -> bool {
        let changed = self.take_tasks(tasks, began);
        self.touched(changed)
    }

    /// Takes in the tasks of one service as just read.
    pub(super) fn tasks_of(&mut self, id: &ServiceId, tasks: Arc<[TaskView]>) -> bool {
        let learnt = self.tick();
        self.tasks_learnt.insert(id.clone(), learnt);
        let changed = match self.tasks.get(id) {
            _ if tasks.is_empty() => self.tasks.remove(id).is_some(),
            Some(known) if *known == tasks => false,
            Some(_) | None => {
                self.tasks.insert(id.clone(), tasks);
                true
            }
        };
        if changed {
            self.settle(id);
        }
        self.touched(changed)
    }

    /// The tasks that are known of a service.
    pub(super) fn known_tasks(&self, id: &ServiceId) -> Arc<[TaskView]> {
        self.tasks.get(id).cloned().unwrap_or_default()
    }

    /// Takes in names of networks that no list shows.
    pub(super) fn learn_names(&mut self, names: NetworkNames) {
        self.names.extend(names);
    }

    /// Whether a service is known.
    pub(super) fn is_there(&self, id: &ServiceId) -> bool {
        self.services.contains_key(id)
    }

    /// Whether it is known already that a service is gone.
    pub(super) fn is_removed(&self, id: &ServiceId) -> bool {
        self.removed.contains_key(id)
    }

    /// Takes in a list of all networks.
    pub(super) fn networks(&mut self, names: NetworkNames, attachable: BTreeSet<String>) -> bool {
        self.networks_learnt = self.tick();
        let changed = self.attachable != attachable;
        self.names.extend(names);
        self.attachable = attachable;
        self.touched(changed)
    }

    /// Takes in the notes as just read.
    pub(super) fn notes(&mut self, notes: NotesView) -> bool {
        self.notes_learnt = self.tick();
        // The lease moves the version of the same object every few seconds: that is nothing to look at.
        let same = matches!((&self.notes, &notes), (NotesView::Read { notes: one, .. }, NotesView::Read { notes: other, .. }) if one == other);
        let changed = self.notes != notes && !same;
        self.notes = notes;
        self.touched(changed)
    }

    /// Takes in where a tag points to.
    pub(super) fn resolved(&mut self, image: &str, answer: Result<String, String>) -> bool {
        let changed = self.answers.take(image, answer);
        self.touched(changed)
    }

    /// Drops the digests of images that are no longer followed.
    pub(super) fn follow_only(&mut self, images: &BTreeSet<String>) -> bool {
        let changed = self.answers.keep_only(images);
        self.touched(changed)
    }

    /// Something happened after which what is known may be stale.
    pub(super) fn doubt(&mut self) -> bool {
        let changed = self.doubt.is_none();
        self.doubt = Some(self.tick());
        self.touched(changed)
    }

    /// Whether tasks are on their way, those of some services aside: too few run, some still have to end, or an update
    /// goes on.
    pub(super) fn is_restless_beside(&self, others: &BTreeSet<ServiceId>) -> bool {
        self.restless.iter().any(|id| !others.contains(id))
    }

    /// Whether tasks of a service are on their way.
    pub(super) fn is_on_its_way(&self, id: &ServiceId) -> bool {
        self.restless.contains(id)
    }

    /// Whether tasks of one service are on their way.
    fn moves(&self, id: &ServiceId) -> bool {
        let tasks = self.tasks.get(id).map_or(&[][..], |tasks| &**tasks);
        let alive = |wanted: bool| tasks.iter().any(|task| task.wanted == wanted && task.state.is_active());
        match self.services.get(id).map(|entry| &entry.known) {
            _ if alive(false) => true,
            None => alive(true),
            Some(Known::Unreadable { .. }) => false,
            Some(Known::Service { service, .. }) => {
                let running = tasks.iter().filter(|task| task.wanted && task.state == TaskState::Running).count();
                let moving = matches!(service.update, UpdateState::Updating | UpdateState::RollbackStarted(_));
                moving || (service.foreign_mode.is_none() && running as u64 != service.spec.replicas)
            }
        }
    }

    /// Takes note of whether tasks of a service are on their way, after something of it changed.
    fn settle(&mut self, id: &ServiceId) {
        if self.moves(id) {
            self.restless.insert(id.clone());
        } else {
            self.restless.remove(id);
        }
    }

    /// Everything that is known.
    pub(super) fn snapshot(&mut self) -> Arc<PlatformSnapshot> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.clone();
        }
        let snapshot = Arc::new(PlatformSnapshot {
            generation: self.generation,
            complete: self.whole && self.doubt.is_none(),
            services: self.shown.clone(),
            tasks: self.tasks.clone(),
            networks: self.attachable.clone(),
            nodes: self.nodes.clone(),
            notes: self.notes.clone(),
            digests: self.answers.digests.clone(),
            unresolved: self.answers.unresolved.clone(),
            unreadable: self.unreadable.clone(),
        });
        self.snapshot = Some(snapshot.clone());
        snapshot
    }

    /// Puts a service in, unless a newer version of it is known.
    fn enter(&mut self, id: ServiceId, version: u64, mut known: Known, mut learnt: Moment) -> bool {
        if let Some(entry) = self.services.get_mut(&id) {
            if entry.version > version {
                return false;
            }
            learnt = entry.learnt.max(learnt);
            if entry.known.is(&known) {
                (entry.version, entry.learnt) = (version, learnt);
                return false;
            }
            known.share_with(&entry.known);
            self.leave(&id);
        }
        match &known {
            Known::Service { service, .. } => {
                self.shown.insert(service.spec.name.clone(), Arc::clone(service));
            }
            Known::Unreadable { name, reason } => {
                self.unreadable.insert(name.clone(), reason.clone());
            }
        }
        self.services.insert(id.clone(), Entry { version, learnt, known });
        self.settle(&id);
        true
    }

    /// Lets a service go, if it is known. One that has taken its name since stays.
    fn leave(&mut self, id: &ServiceId) -> bool {
        let Some(entry) = self.services.remove(id) else { return false };
        match &entry.known {
            Known::Service { service, .. } => {
                if self.shown.get(&service.spec.name).is_some_and(|shown| shown.id == *id) {
                    self.shown.remove(&service.spec.name);
                }
            }
            Known::Unreadable { name, .. } => {
                self.unreadable.remove(name);
            }
        }
        self.settle(id);
        true
    }

    fn take_tasks(&mut self, mut tasks: TaskLists, began: Moment) -> bool {
        self.tasks_learnt.retain(|_, learnt| *learnt > began);
        for id in self.tasks_learnt.keys() {
            match self.tasks.get(id) {
                Some(known) => drop(tasks.insert(id.clone(), Arc::clone(known))),
                None => drop(tasks.remove(id)),
            }
        }
        let changed = shared::replace(&mut self.tasks, &tasks);
        for id in &changed {
            self.settle(id);
        }
        !changed.is_empty()
    }

    fn touched(&mut self, changed: bool) -> bool {
        if changed {
            self.snapshot = None;
        }
        changed
    }
}

/// What a full read changed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    /// A service appeared, changed or went.
    pub(super) services: bool,
    /// Anything else.
    pub(super) others: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Rollout, ServiceName, ServiceSpec};

    fn id(name: &str) -> ServiceId {
        ServiceId(format!("id-{name}"))
    }

    fn known(name: &str, version: u64) -> Known {
        let service = ObservedService {
            id: id(name),
            version,
            spec: Arc::new(ServiceSpec::new(ServiceName::new(name).unwrap(), "i")),
            foreign_mode: None,
            mark: None,
            runs_operator: false,
            container_labels: BTreeMap::new(),
            update: UpdateState::None,
            rollout: Rollout::default(),
            created_at: String::new(),
        };
        Known::Service { service: Arc::new(service), unknown_networks: Vec::new() }
    }

    fn read(state: &mut State, names: &[(&str, u64)]) -> Reading {
        let mut reading = state.begin();
        reading.services = names.iter().map(|(name, version)| (id(name), (*version, known(name, *version)))).collect();
        reading
    }

    fn names(state: &mut State) -> Vec<(String, u64)> {
        let snapshot = state.snapshot();
        snapshot.services.iter().map(|(name, service)| (name.to_string(), service.version)).collect()
    }

    #[test]
    fn a_full_read_never_undoes_what_was_learnt_after_it_began() {
        let mut state = State::default();
        let first = read(&mut state, &[("a", 1), ("b", 2)]);
        state.finish(first);

        let slow = read(&mut state, &[("a", 1), ("b", 2)]);
        state.learn(id("a"), 5, known("a", 5));
        state.learn(id("c"), 6, known("c", 6));
        state.forget(&id("b"));
        state.finish(slow);
        assert_eq!(names(&mut state), [("a".into(), 5), ("c".into(), 6)]);

        // One that begins later decides, also about what we believed.
        let later = read(&mut state, &[("a", 5), ("b", 7)]);
        assert!(state.finish(later).services);
        assert_eq!(names(&mut state), [("a".into(), 5), ("b".into(), 7)]);
    }

    #[test]
    fn an_older_version_never_replaces_a_newer_one() {
        let mut state = State::default();
        assert!(state.learn(id("a"), 5, known("a", 5)));
        assert!(!state.learn(id("a"), 4, known("a", 4)));
        assert_eq!(names(&mut state), [("a".into(), 5)]);
    }

    #[test]
    fn doubt_lasts_until_a_full_read_that_began_after_it() {
        let mut state = State::default();
        let first = read(&mut state, &[]);
        state.finish(first);
        assert!(state.snapshot().complete);
        let early = read(&mut state, &[]);
        state.doubt();
        assert!(!state.snapshot().complete);
        state.finish(early);
        assert!(!state.snapshot().complete);
        let late = read(&mut state, &[]);
        state.finish(late);
        assert!(state.snapshot().complete);
        assert_eq!(state.snapshot().generation, 3);
    }

    #[test]
    fn what_did_not_change_is_not_read_again_and_makes_no_new_snapshot() {
        let mut state = State::default();
        let first = read(&mut state, &[("a", 1)]);
        state.finish(first);
        let header = Header { id: id("a"), version: 1 };
        assert!(state.same(&header).is_some());
        assert!(state.same(&Header { version: 2, ..header }).is_none());
        let before = state.snapshot();
        state.learn(id("a"), 1, known("a", 1));
        assert!(Arc::ptr_eq(&before, &state.snapshot()));
        let again = read(&mut state, &[("a", 1)]);
        assert_eq!(state.finish(again), Changed::default());
    }

    #[test]
    fn a_service_that_took_the_name_of_another_stays_when_the_other_goes() {
        let mut state = State::default();
        let first = read(&mut state, &[("a", 1)]);
        state.finish(first);
        let Known::Service { service, .. } = known("a", 2) else { panic!() };
        let heir = ObservedService { id: id("heir"), ..(*service).clone() };
        state.learn(id("heir"), 2, Known::Service { service: Arc::new(heir), unknown_networks: Vec::new() });
        state.forget(&id("a"));
        assert_eq!(names(&mut state), [("a".into(), 2)]);
        assert_eq!(state.snapshot().services[&ServiceName::new("a").unwrap()].id, id("heir"));
        state.forget(&id("heir"));
        assert!(names(&mut state).is_empty());
    }

    #[test]
    fn a_cluster_rests_only_when_every_task_is_where_it_should_be() {
        let task = |state, wanted| TaskView {
            id: "t".into(),
            slot: 1,
            state,
            wanted,
            error: String::new(),
            node: String::new(),
            since: String::new(),
        };
        let is_restless = |state: &State| state.is_restless_beside(&BTreeSet::new());
        let mut state = State::default();
        assert!(!is_restless(&state));
        state.learn(id("a"), 1, known("a", 1));
        assert!(is_restless(&state), "its task is missing");
        assert!(!state.is_restless_beside(&BTreeSet::from([id("a")])));
        let mut with = |tasks: Vec<TaskView>| {
            let began = state.begin_tasks();
            state.tasks(TaskLists::unit(id("a"), tasks.into()), began);
            is_restless(&state)
        };
        assert!(!with(vec![task(TaskState::Failed, false), task(TaskState::Running, true)]));
        assert!(with(vec![task(TaskState::Running, false), task(TaskState::Running, true)]), "one has to end");
        assert!(with(vec![task(TaskState::Preparing, true)]));
        assert!(!with(vec![task(TaskState::Running, true)]));
        state.forget(&id("a"));
        assert!(is_restless(&state), "the task of a removed service still runs");
        assert!(state.tasks_of(&id("a"), Arc::default()));
        assert!(!is_restless(&state), "it is gone");
    }

    #[test]
    fn a_list_of_all_tasks_never_undoes_what_was_learnt_of_one_service_after_it_began() {
        let tasks = |states: &[TaskState]| {
            let view = |(slot, state): (u64, &TaskState)| TaskView {
                id: format!("t{slot}"),
                slot,
                state: *state,
                wanted: true,
                error: String::new(),
                node: String::new(),
                since: String::new(),
            };
            (1..).zip(states).map(view).collect::<Arc<[TaskView]>>()
        };
        let mut state = State::default();
        let began = state.begin_tasks();
        let old = TaskLists::from_iter([(id("a"), tasks(&[TaskState::New])), (id("b"), tasks(&[TaskState::New]))]);
        assert!(state.tasks_of(&id("a"), tasks(&[TaskState::Running])));
        assert!(!state.tasks_of(&id("b"), Arc::default()), "nothing was known of it");
        assert!(!state.tasks(old.clone(), began), "all of it is older than what is known");
        assert_eq!(state.known_tasks(&id("a")), tasks(&[TaskState::Running]));
        assert!(state.known_tasks(&id("b")).is_empty());
        let mut reading = state.begin();
        reading.tasks = old;
        state.finish(reading);
        assert_eq!(state.known_tasks(&id("b")), tasks(&[TaskState::New]), "one that begins later decides");
    }
}
