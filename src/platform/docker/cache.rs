//! What the engine last said of every container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use hyper::Method;
use hyper::body::Bytes;

use super::watch::{Dirty, Shared};
use super::{convert, raw};
use crate::model::{ObservedService, PlatformSnapshot, ServiceId, ServiceName, TaskState, TaskView};
use crate::platform::engine::{Act, CallError, Engine};

const LIST: Act = Act::read("list containers");
const INSPECT: Act = Act::read("inspect a container");
const NETWORKS: Act = Act::read("list networks");
const IMAGE: Act = Act::read("inspect an image");

/// How many containers are inspected at a time: an engine answers one in a few milliseconds.
const AT_ONCE: usize = 8;

/// Everything that was read, kept until an event says otherwise.
#[derive(Debug, Default)]
pub(super) struct Cache {
    generation: u64,
    seen: BTreeMap<String, Seen>,
    /// Names of networks by id.
    networks: BTreeMap<String, String>,
    /// What images bring along, by id; only those of containers that we did not make.
    images: BTreeMap<String, Arc<raw::Config>>,
}

/// One container.
#[derive(Debug)]
enum Seen {
    /// As we see it.
    Service(Box<(ObservedService, TaskView)>),
    /// Nobody could want its name.
    Irrelevant,
    /// It has a name that could be wanted, and a shape that we do not know.
    Unreadable { name: String },
}

/// An answer with no shape that we know still has a name.
#[derive(serde::Deserialize)]
struct Named {
    #[serde(rename = "Name")]
    name: String,
}

impl Cache {
    /// Reads what is dirty.
    pub(super) async fn read(&mut self, engine: &Engine, shared: &Shared) -> Result<(), CallError> {
        let dirty = shared.take_dirty();
        let read = if dirty.all { self.read_all(engine).await } else { self.read_some(engine, &dirty).await };
        if let Err(error) = read {
            shared.put_back(dirty);
            return Err(error);
        }
        Ok(())
    }

    async fn read_all(&mut self, engine: &Engine) -> Result<(), CallError> {
        if self.generation == 0 {
            // The first call of all; from then on the watcher negotiates whenever it connects.
            let _ = engine.negotiate().await;
        }
        let mut networks = BTreeMap::new();
        engine
            .list(NETWORKS, "/networks", |text| {
                if let Ok(network) = serde_json::from_slice::<raw::Network>(text) {
                    networks.insert(network.id, network.name);
                }
            })
            .await?;
        let mut ids = BTreeSet::new();
        let mut odd = 0usize;
        engine
            .list(LIST, "/containers/json?all=true", |text| match serde_json::from_slice::<raw::Listed>(text) {
                Ok(listed) => _ = ids.insert(listed.id),
                Err(_) => odd += 1,
            })
            .await?;
        if odd > 0 {
            return Err(CallError::Answer { act: LIST, message: format!("{odd} containers have no id") });
        }
        self.networks = networks;
        self.inspect(engine, &ids).await?;
        self.seen.retain(|id, _| ids.contains(id));
        self.generation += 1;
        Ok(())
    }

    async fn read_some(&mut self, engine: &Engine, dirty: &Dirty) -> Result<(), CallError> {
        self.inspect(engine, &dirty.ids).await
    }

    /// Reads these containers; one that is gone is forgotten.
    async fn inspect(&mut self, engine: &Engine, ids: &BTreeSet<String>) -> Result<(), CallError> {
        let mut answers = stream::iter(ids.clone())
            .map(|id| async move {
                let answer = engine.send(INSPECT, Method::GET, &format!("/containers/{id}/json"), Bytes::new()).await;
                (id, answer)
            })
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        answers.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (id, answer) in answers {
            match answer {
                Ok(text) => {
                    let seen = self.see(engine, &text).await?;
                    self.seen.insert(id, seen);
                }
                Err(error) if error.is_absent() => _ = self.seen.remove(&id),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn see(&mut self, engine: &Engine, text: &[u8]) -> Result<Seen, CallError> {
        let Ok(container) = serde_json::from_slice::<raw::Container>(text) else {
            let name = serde_json::from_slice::<Named>(text).map(|named| named.name).unwrap_or_default();
            return Ok(Seen::Unreadable { name: name.trim_start_matches('/').to_owned() });
        };
        let Some(name) = convert::name(&container) else { return Ok(Seen::Irrelevant) };
        let image =
            if convert::needs_image(&container) { self.image(engine, &container.image).await? } else { Arc::default() };
        let (service, task) = convert::container(name, &container, &image, &self.networks);
        Ok(Seen::Service(Box::new((service, task))))
    }

    /// What an image brings along; nothing for one that is gone.
    async fn image(&mut self, engine: &Engine, id: &str) -> Result<Arc<raw::Config>, CallError> {
        if let Some(known) = self.images.get(id) {
            return Ok(Arc::clone(known));
        }
        let config = match engine.get::<raw::Image>(IMAGE, &format!("/images/{id}/json")).await {
            Ok(image) => Arc::new(image.config),
            Err(error) if error.is_absent() => Arc::default(),
            Err(error) => return Err(error),
        };
        self.images.insert(id.to_owned(), Arc::clone(&config));
        Ok(config)
    }

    /// Puts the picture together.
    pub(super) fn snapshot(&self, shared: &Shared) -> PlatformSnapshot {
        let (digests, unresolved) = shared.answers();
        let mut snapshot = PlatformSnapshot {
            generation: self.generation,
            complete: true,
            networks: self.networks.values().cloned().collect(),
            digests,
            unresolved,
            ..PlatformSnapshot::default()
        };
        let mut ended: BTreeSet<&str> = BTreeSet::new();
        for (id, seen) in &self.seen {
            match seen {
                Seen::Irrelevant => {}
                Seen::Unreadable { name } => {
                    let reason = "its description has an unknown shape".to_owned();
                    snapshot.unreadable.insert(name.clone(), reason);
                }
                Seen::Service(seen) => {
                    let (service, task) = &**seen;
                    let mut service = service.clone();
                    // One that was never started was cut short on its way, and is not in a loop of ending.
                    if service.spec.replicas == 0 && task.state != TaskState::Ready {
                        ended.insert(id);
                        if !shared.may_restart(&service.spec.name, id) {
                            service.spec_mut().replicas = 1;
                        }
                    }
                    let name: ServiceName = service.spec.name.clone();
                    snapshot.tasks.insert(ServiceId(id.clone()), Arc::new([task.clone()]));
                    snapshot.services.insert(name, Arc::new(service));
                }
            }
        }
        shared.keep_ended(|id| ended.contains(id));
        snapshot
    }
}
