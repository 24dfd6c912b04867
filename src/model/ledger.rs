//! Both sides matched by name, and how that is kept from plan to plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::desired::DesiredResource;
use super::names::{InstanceName, ResourceId, ServiceName};
use super::observed::{PlatformSnapshot, RegistrySnapshot, ServiceId};
use super::record::RecordId;
use super::shared::SharedMap;

/// An ordered set whose copies share everything that they have in common.
pub type SharedSet<T> = imbl::OrdSet<T>;

/// What is wanted and what is found, matched by name, as of one plan.
///
/// The next plan brings it up to date by what has changed since, so that its cost grows with the change and not with
/// the factory. A copy costs nothing. The default knows nothing: the plan after it looks at everything.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// What it was made of.
    pub(crate) basis: Option<Basis>,
    /// For each service that is wanted: the resources that want it, in order. More than one is a conflict.
    pub(crate) services: imbl::HashMap<ServiceName, Vec<ResourceId>>,
    /// The same for records.
    pub(crate) records: imbl::HashMap<RecordId, Vec<ResourceId>>,
    /// What exists under our mark and that nobody wants, by the resource that it was made for.
    pub(crate) orphans: SharedMap<ResourceId, Left>,
    /// Names of the services that exist, by id.
    pub(crate) present: imbl::HashMap<ServiceId, ServiceName>,
    /// Services that are gone while a task of theirs may still run.
    pub(crate) departed: SharedSet<ServiceId>,
    /// Tasks that run in place of others which failed again and again, by their service.
    pub(crate) fragile: SharedMap<ServiceId, Vec<String>>,
    /// Assets that were taken back half-way: their rows are gone, our mark is not.
    pub(crate) taken_back: SharedSet<RecordId>,
    /// Assets that are coordinators.
    pub(crate) coordinators: SharedSet<RecordId>,
    /// Wanted resources with a device of a coordinator.
    pub(crate) coordinated: SharedSet<ResourceId>,
    /// Wanted resources that follow the tag of an image.
    pub(crate) followers: SharedSet<ResourceId>,
    /// Resources that others come after, and how many do.
    pub(crate) firsts: imbl::OrdMap<ResourceId, usize>,
    /// Resources that memory spoke of.
    pub(crate) mentioned: BTreeSet<ResourceId>,
}

/// Two that say the same are equal, of whatever snapshots they were made.
impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        let Ledger {
            basis: _,
            services,
            records,
            orphans,
            present,
            departed,
            fragile,
            taken_back,
            coordinators,
            coordinated,
            followers,
            firsts,
            mentioned,
        } = self;
        *services == other.services
            && *records == other.records
            && *orphans == other.orphans
            && *present == other.present
            && *departed == other.departed
            && *fragile == other.fragile
            && *taken_back == other.taken_back
            && *coordinators == other.coordinators
            && *coordinated == other.coordinated
            && *followers == other.followers
            && *firsts == other.firsts
            && *mentioned == other.mentioned
    }
}

impl Eq for Ledger {}

/// What a ledger was made of.
#[derive(Debug, Clone)]
pub(crate) struct Basis {
    pub(crate) instance: InstanceName,
    pub(crate) scope: Option<BTreeSet<ResourceId>>,
    pub(crate) remove: BTreeSet<ResourceId>,
    pub(crate) taken_down: BTreeSet<ResourceId>,
    pub(crate) suspended_all: bool,
    pub(crate) desired: SharedMap<ResourceId, Arc<DesiredResource>>,
    pub(crate) platform: Option<Arc<PlatformSnapshot>>,
    pub(crate) registry: Option<Arc<RegistrySnapshot>>,
}

/// What is left of a resource, or of an earlier form of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) services: BTreeSet<ServiceName>,
    pub(crate) records: BTreeSet<RecordId>,
}

/// Which resources a plan looked at. All others are as the plan before it found them, and at rest: in sync, healthy,
/// nothing to do, nothing to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Examined {
    /// All of them.
    #[default]
    Everything,
    /// These, those that are gone since included.
    Only(BTreeSet<ResourceId>),
}

impl Examined {
    /// Entries of `all` for what was examined; none for what is not, or no longer, there.
    pub fn of<'a, T>(
        &'a self,
        all: &'a SharedMap<ResourceId, T>,
    ) -> Box<dyn Iterator<Item = (&'a ResourceId, Option<&'a T>)> + 'a> {
        match self {
            Examined::Everything => Box::new(all.iter().map(|(id, entry)| (id, Some(entry)))),
            Examined::Only(ids) => Box::new(ids.iter().map(|id| (id, all.get(id)))),
        }
    }
}
