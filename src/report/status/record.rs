//! Records of the registry: those of a resource, wanted beside found, and other people's assets.

use serde::{Deserialize, Serialize};

use crate::model::{Availability, InstanceName, ObservedRecord, Record, RecordId, RegistrySnapshot};

/// One record that a resource needs or still has, or an asset of somebody else's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordStatus {
    /// `asset SCHEDULER`, `connector CNC-1`, …
    pub record: RecordId,
    /// The manifests want it.
    pub wanted: bool,
    /// The registry holds it; none when the registry could not be read, or not in full.
    pub registered: Option<bool>,
    /// Whose it is; none when it is not registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Ownership>,
    /// The operator instance whose it is, when that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceName>,
    /// Type of an asset, as registered, or as wanted when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset_type: Option<String>,
    /// The service that an asset names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_service: Option<String>,
    /// Place of an asset in the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uns_id: Option<String>,
    /// What an asset says of its availability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
}

/// Whose a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// It carries our mark; records that were adopted do.
    Ours,
    /// Somebody registered what a manifest describes, without a mark: it is taken over.
    Adoptable,
    /// Nobody's mark is on it, and it is left alone.
    Foreign,
    /// It carries the mark of another operator instance.
    Another,
}

impl RecordStatus {
    pub(super) fn wanted(record: &Record, us: &InstanceName, registry: Option<&RegistrySnapshot>) -> Self {
        let id = record.id();
        let found = registry.and_then(|registry| registry.records.get(&id));
        let registered = match registry {
            None => None,
            Some(_) if found.is_some_and(|found| is_there(&found.record)) => Some(true),
            // Absent from a reading that contradicts itself is not absent.
            Some(registry) => {
                let doubted = registry.evidence.assets.contains_key(id.asset());
                ((registry.complete || found.is_some()) && !doubted).then_some(false)
            }
        };
        let shown = found.map_or(record, |found| &found.record);
        let mut status = RecordStatus::new(id, true, registered, shown, registry);
        if let Some(found) = found.filter(|_| registered == Some(true)) {
            status.own(found, Some(record), us);
        }
        status
    }

    /// A record that no manifest wants: left over, or somebody else's.
    pub(super) fn unwanted(found: &ObservedRecord, us: &InstanceName, registry: &RegistrySnapshot) -> Self {
        let registered = Some(is_there(&found.record));
        let mut status = RecordStatus::new(found.record.id(), false, registered, &found.record, Some(registry));
        status.own(found, None, us);
        status
    }

    fn own(&mut self, found: &ObservedRecord, wanted: Option<&Record>, us: &InstanceName) {
        self.owner = Some(match &found.owner {
            Some(owner) if owner.instance == *us => Ownership::Ours,
            Some(owner) => {
                self.instance = Some(owner.instance.clone());
                Ownership::Another
            }
            None if wanted.is_some_and(|wanted| same_type(wanted, &found.record)) => Ownership::Adoptable,
            None => Ownership::Foreign,
        });
    }

    fn new(
        id: RecordId,
        wanted: bool,
        registered: Option<bool>,
        record: &Record,
        registry: Option<&RegistrySnapshot>,
    ) -> Self {
        let mut status = RecordStatus {
            record: id,
            wanted,
            registered,
            owner: None,
            instance: None,
            asset_type: None,
            docker_service: None,
            uns_id: None,
            availability: None,
        };
        match record {
            Record::Asset(asset) => {
                status.asset_type = Some(asset.asset_type.clone());
                status.docker_service = Some(asset.docker_service.clone()).filter(|name| !name.is_empty());
                status.uns_id = asset.uns.as_ref().map(|uns| uns.uns_id.clone());
                status.availability = registry.and_then(|registry| registry.availability.get(&asset.uuid)).copied();
            }
            // Their content is configuration that a manifest holds; it may carry credentials.
            Record::Connector { .. } | Record::MetricsTarget { .. } | Record::CoordinatorDevice { .. } => {}
        }
        status
    }
}

/// Whether more is left of a record than our mark, or a doubt.
fn is_there(record: &Record) -> bool {
    match record {
        Record::Asset(asset) => !asset.asset_type.is_empty(),
        Record::CoordinatorDevice { config, .. } => !config.is_empty(),
        Record::Connector { .. } | Record::MetricsTarget { .. } => true,
    }
}

fn same_type(wanted: &Record, found: &Record) -> bool {
    match (wanted, found) {
        (Record::Asset(wanted), Record::Asset(found)) => wanted.asset_type == found.asset_type,
        (_, _) => true,
    }
}
