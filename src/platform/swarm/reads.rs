//! The reads that fill the cache, each a call or a few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use hyper::Method;
use hyper::body::Bytes;

use super::calls;
use super::convert::{self, NetworkNames, NodeNames, Quorum};
use super::notes::Place;
use super::state::{Known, Reading, State};
use crate::model::{ServiceId, SharedMap, TaskView};
use crate::platform::engine::{Act, CallError, Engine, encode};
use crate::platform::locked;

const SERVICES: Act = Act::read("list the services");
const TASKS: Act = Act::read("list the tasks");
const TASK: Act = Act::read("read a task");
const NETWORKS: Act = Act::read("list the networks");
const NETWORK: Act = Act::read("read a network");
const NODES: Act = Act::read("list the nodes");

/// Reads everything. Services that did not change since they were last read are taken from `state`.
pub(super) async fn everything(engine: &Engine, place: &Place, state: &Mutex<State>) -> Result<Reading, CallError> {
    let mut reading = locked(state).begin();
    let ((quorum, nodes), networks) = tokio::try_join!(quorum(engine), networks(engine))?;
    reading.whole &= quorum;
    reading.nodes = nodes;
    reading.names.extend(networks.0);
    reading.attachable = networks.1;
    let notes = async { Ok(place.read(engine).await) };
    let (list, tasks, notes) = tokio::try_join!(services(engine, state, &reading.names), tasks(engine), notes)?;
    reading.notes = notes;
    reading.whole &= list.whole;
    reading.services = list.services;
    reading.tasks = tasks.0;
    reading.whole &= tasks.1;
    for (_, known) in reading.services.values_mut() {
        name_networks(engine, known, &mut reading.names).await?;
    }
    Ok(reading)
}

#[derive(Default)]
struct Services {
    services: BTreeMap<ServiceId, (u64, Known)>,
    whole: bool,
}

async fn services(engine: &Engine, state: &Mutex<State>, names: &NetworkNames) -> Result<Services, CallError> {
    let mut list = Services { whole: true, ..Services::default() };
    let each = |text: &[u8]| match convert::header(text) {
        Some(header) => {
            let same = locked(state).same(&header);
            let known = same.unwrap_or_else(|| convert::service(text, names).into());
            list.services.insert(header.id, (header.version, known));
        }
        // Without an id nobody can say which service it is.
        None => list.whole = false,
    };
    engine.list(SERVICES, "/services", each).await?;
    Ok(list)
}

/// Tasks by the id of their service.
pub(super) type TaskLists = SharedMap<ServiceId, Arc<[TaskView]>>;

/// All tasks by service, in order of slot and age, the newest last; false when one was not understood.
pub(super) async fn tasks(engine: &Engine) -> Result<(TaskLists, bool), CallError> {
    list_tasks(engine, "/tasks").await
}

/// The tasks of these services; none if one of them is gone, for which the engine refuses to answer.
pub(super) async fn tasks_of(engine: &Engine, services: &BTreeSet<ServiceId>) -> Result<Option<TaskLists>, CallError> {
    let filters = serde_json::json!({ "service": services }).to_string();
    match list_tasks(engine, &format!("/tasks?filters={}", encode(&filters))).await {
        Ok((tasks, _)) => Ok(Some(tasks)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Those of the tasks that the engine still has, as they are now: the way to follow what is left of a removed service.
pub(super) async fn tasks_left(engine: &Engine, known: &[TaskView]) -> Result<Arc<[TaskView]>, CallError> {
    let mut left = Vec::new();
    for task in known {
        match engine.send(TASK, Method::GET, &format!("/tasks/{}", encode(&task.id)), Bytes::new()).await {
            Ok(text) => left.extend(convert::task(&text).map(|task| task.view).filter(|found| found.id == task.id)),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(left.into())
}

async fn list_tasks(engine: &Engine, path: &str) -> Result<(TaskLists, bool), CallError> {
    let mut found: BTreeMap<ServiceId, Vec<(String, TaskView)>> = BTreeMap::new();
    let mut whole = true;
    let each = |text: &[u8]| match convert::task(text) {
        Some(task) => found.entry(task.service).or_default().push((task.created, task.view)),
        None => whole = false,
    };
    engine.list(TASKS, path, each).await?;
    let sorted = found.into_iter().map(|(service, mut tasks)| {
        tasks.sort_by(|(created, task), (other_created, other)| {
            (task.slot, created, &task.id).cmp(&(other.slot, other_created, &other.id))
        });
        (service, tasks.into_iter().map(|(_, task)| task).collect::<Arc<[TaskView]>>())
    });
    Ok((sorted.collect(), whole))
}

/// Names by id, and the names that services can ask for.
pub(super) async fn networks(engine: &Engine) -> Result<(NetworkNames, BTreeSet<String>), CallError> {
    let (mut names, mut attachable) = (NetworkNames::new(), BTreeSet::new());
    let each = |text: &[u8]| {
        if let Some(network) = convert::network(text) {
            if network.attachable {
                attachable.insert(network.name.clone());
            }
            names.insert(network.id, network.name);
        }
    };
    engine.list(NETWORKS, "/networks", each).await?;
    Ok((names, attachable))
}

/// Whether the cluster can decide anything, and the names of its nodes.
pub(super) async fn quorum(engine: &Engine) -> Result<(bool, NodeNames), CallError> {
    let (mut quorum, mut understood) = (Quorum::default(), true);
    engine.list(NODES, "/nodes", |text| understood &= quorum.count(text)).await?;
    Ok((understood && quorum.holds(), quorum.into_names()))
}

/// Reads one service; none when the engine says that it does not exist.
pub(super) async fn service(
    engine: &Engine,
    id: &ServiceId,
    names: &mut NetworkNames,
) -> Result<Option<(u64, Known)>, CallError> {
    let text = match calls::read(engine, id).await {
        Ok(text) => text,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(header) = convert::header(&text).filter(|header| header.id == *id) else { return Ok(None) };
    let mut known = convert::service(&text, names).into();
    name_networks(engine, &mut known, names).await?;
    Ok(Some((header.version, known)))
}

/// Puts names in place of ids of networks that no list showed: networks that were made a moment ago, and those
/// that exist on every node, such as `host`. An id that the engine does not know either stays.
async fn name_networks(engine: &Engine, known: &mut Known, names: &mut NetworkNames) -> Result<(), CallError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Named {
        id: String,
        name: String,
    }
    let Known::Service { service, unknown_networks } = known else { return Ok(()) };
    let mut still_unknown = Vec::new();
    for id in std::mem::take(unknown_networks) {
        if !names.contains_key(&id) {
            match engine.get::<Named>(NETWORK, &format!("/networks/{}", encode(&id))).await {
                Ok(network) if network.id == id => _ = names.insert(network.id, network.name),
                Ok(_) => {}
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        match names.get(&id) {
            Some(name) => {
                let spec = Arc::make_mut(service).spec_mut();
                for network in spec.networks.iter_mut().filter(|network| **network == id) {
                    network.clone_from(name);
                }
            }
            None => still_unknown.push(id),
        }
    }
    *unknown_networks = still_unknown;
    Ok(())
}
