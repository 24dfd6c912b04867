//! From the rows of the registry's tables to records. Pure; the same for every registry that has these tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::messages::{MANAGED_BY, MANAGED_PRUNE, MANAGED_RESOURCE};
use crate::model::record::{AssetRecord, Attribute, RecordOwner, Uns};
use crate::model::{AssetUuid, InstanceName, ObservedRecord, Record, RecordId, Scalar};

/// What ksqlDB leaves in `ASSETS_TYPE` for an asset that was deleted while its type was being derived.
const DELETED: &str = "delete";

/// Attributes that are part of an asset's record by a name of their own.
const OWN_FIELDS: [&str; 8] = [
    "AssetType",
    "DockerService",
    "references_below",
    "references_above",
    "uns_id",
    MANAGED_BY,
    MANAGED_RESOURCE,
    MANAGED_PRUNE,
];

/// `TAG` of the attributes that repeat the levels of the namespace.
const LEVEL_TAG: &str = "UNSLevel";

/// The tables that tell which assets there are.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// `ASSETS`: attributes of each asset in the order in which they were written.
    pub attributes: BTreeMap<AssetUuid, Vec<Attribute>>,
    /// `ASSETS_TYPE`.
    pub types: BTreeMap<AssetUuid, String>,
    /// `DOCKER_SERVICES`.
    pub services: BTreeMap<AssetUuid, String>,
    /// `ASSET_TO_UNS_MAP`: `UNS_ID` and `UNS_LEVELS`.
    pub places: BTreeMap<AssetUuid, (String, Map<String, Value>)>,
    /// `DEVICE_CONNECTOR`.
    pub connectors: BTreeMap<AssetUuid, String>,
    /// `METRICS_TARGETS`: host, port and path.
    pub targets: BTreeMap<AssetUuid, (String, u16, String)>,
}

/// Every record that the tables hold, with our mark where it is.
///
/// An asset is there when it has a type, or a mark: one that was taken back half-way has the mark only.
pub fn records(tables: &Tables) -> BTreeMap<RecordId, Arc<ObservedRecord>> {
    let mut records = BTreeMap::new();
    let mut add = |record: Record| {
        let id = record.id();
        let owner = owner(tables, id.asset());
        records.insert(id, Arc::new(ObservedRecord { record, owner }));
    };
    let assets: BTreeSet<&AssetUuid> = tables.types.keys().chain(tables.attributes.keys()).collect();
    for uuid in assets {
        let asset_type = tables.types.get(uuid).filter(|kind| *kind != DELETED);
        if asset_type.is_some() || owner(tables, uuid).is_some() {
            add(Record::Asset(asset(tables, uuid, asset_type.cloned().unwrap_or_default())));
        }
    }
    for (device, config) in &tables.connectors {
        add(Record::Connector { device: device.clone(), config: config.clone() });
    }
    for (asset, (host, port, path)) in &tables.targets {
        let (host, path) = (host.clone(), path.clone());
        add(Record::MetricsTarget { asset: asset.clone(), host, port: *port, path });
    }
    records
}

fn asset(tables: &Tables, uuid: &AssetUuid, asset_type: String) -> AssetRecord {
    let attributes = tables.attributes.get(uuid).map_or(&[][..], Vec::as_slice);
    let references = |id| text(attributes, id).map(references).unwrap_or_default();
    AssetRecord {
        uuid: uuid.clone(),
        asset_type,
        docker_service: tables.services.get(uuid).cloned().unwrap_or_default(),
        references_above: references("references_above"),
        references_below: references("references_below"),
        uns: tables.places.get(uuid).map(|(uns_id, levels)| Uns {
            levels: levels.iter().map(|(level, value)| (level.clone(), scalar(value))).collect(),
            uns_id: uns_id.clone(),
        }),
        attributes: attributes
            .iter()
            .filter(|attribute| !OWN_FIELDS.contains(&attribute.id.as_str()) && attribute.tag != LEVEL_TAG)
            .cloned()
            .collect(),
    }
}

/// The mark on an asset; what belongs to the asset has no other one.
fn owner(tables: &Tables, uuid: &AssetUuid) -> Option<RecordOwner> {
    let attributes = tables.attributes.get(uuid)?;
    let instance = InstanceName::new(text(attributes, MANAGED_BY)?).ok()?;
    let resource = text(attributes, MANAGED_RESOURCE)?.parse().ok()?;
    let kept = text(attributes, MANAGED_PRUNE) == Some("false");
    Some(RecordOwner { instance, resource, kept })
}

fn text<'a>(attributes: &'a [Attribute], id: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.id == id).and_then(|attribute| match &attribute.value {
        Scalar::Text(text) => Some(text.as_str()),
        Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) => None,
    })
}

/// Reads `A, B`; what is empty between commas does not count.
fn references(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|uuid| !uuid.is_empty()).map(str::to_owned).collect()
}

/// A JSON value as the scalar that it came from; a list or map, which nobody writes, as its text.
pub fn scalar(value: &Value) -> Scalar {
    match value {
        Value::Null => Scalar::Null,
        Value::Bool(flag) => Scalar::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Scalar::Int(whole),
            None => Scalar::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Scalar::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Scalar::Text(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(text: &str) -> AssetUuid {
        AssetUuid::new(text).unwrap()
    }

    fn attribute(id: &str, value: &str) -> Attribute {
        Attribute { id: id.into(), value: value.into(), tag: String::new(), kind: "OpenFactory".into() }
    }

    #[test]
    fn an_asset_that_was_taken_back_half_way_is_found_by_its_mark() {
        let mut tables = Tables::default();
        tables.attributes.insert(
            uuid("A"),
            vec![attribute(MANAGED_BY, "plant"), attribute(MANAGED_RESOURCE, "app/A"), attribute("x", "1")],
        );
        tables.attributes.insert(uuid("B"), vec![attribute(MANAGED_BY, ""), attribute(MANAGED_RESOURCE, "")]);
        tables.attributes.insert(uuid("C"), vec![attribute("references_below", "")]);
        let records = records(&tables);
        assert_eq!(records.len(), 1, "{records:?}");
        let found = &records[&RecordId::Asset(uuid("A"))];
        assert_eq!(found.owner.as_ref().unwrap().resource.to_string(), "app/A");
        let Record::Asset(asset) = &found.record else { panic!("not an asset") };
        assert_eq!(asset.asset_type, "");
        assert_eq!(asset.attributes.len(), 1);
    }

    #[test]
    fn a_type_that_says_delete_is_no_type() {
        let mut tables = Tables::default();
        tables.types.insert(uuid("A"), "delete".into());
        assert!(records(&tables).is_empty());
    }
}
