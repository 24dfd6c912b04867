//! From the rows of the registry's tables to records. Pure; the same for every registry that has these tables.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::messages::{MANAGED_BY, MANAGED_PRUNE, MANAGED_RESOURCE};
use crate::model::record::{AssetRecord, Attribute, RecordOwner, Uns};
use crate::model::{AssetUuid, InstanceName, ObservedRecord, Record, RecordId, Scalar, SharedMap};

/// What ksqlDB leaves in `ASSETS_TYPE` for an asset that was deleted while its type was being derived.
pub(super) const DELETED: &str = "delete";

/// Attributes that repeat what the other tables say: ksqlDB makes those of the same messages.
const IN_OTHER_TABLES: [&str; 2] = ["AssetType", "DockerService"];

/// The attribute that repeats an asset's place in the namespace.
const UNS_ID: &str = "uns_id";

/// `TAG` of the attributes that repeat the levels of the namespace.
const LEVEL_TAG: &str = "UNSLevel";

/// The tables that tell which assets there are.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// `ASSETS`.
    pub attributes: BTreeMap<AssetUuid, Attributes>,
    /// `ASSETS_TYPE`.
    pub types: BTreeMap<AssetUuid, String>,
    /// `DOCKER_SERVICES`.
    pub services: BTreeMap<AssetUuid, String>,
    /// `ASSET_TO_UNS_MAP`.
    pub places: BTreeMap<AssetUuid, Uns>,
    /// `DEVICE_CONNECTOR`.
    pub connectors: BTreeMap<AssetUuid, String>,
    /// `METRICS_TARGETS`: host, port and path.
    pub targets: BTreeMap<AssetUuid, (String, u16, String)>,
}

/// What the attributes of one asset say, as far as its record is concerned.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    managed_by: Option<String>,
    managed_resource: Option<String>,
    kept: bool,
    references_above: Vec<String>,
    references_below: Vec<String>,
    further: Vec<Attribute>,
    /// The place in the namespace once more, each level by its name.
    uns_id: Option<Scalar>,
    levels: Vec<(String, Scalar)>,
}

impl Attributes {
    /// Whether an attribute says something that nothing else says.
    pub fn matters(id: &str, tag: &str) -> bool {
        !IN_OTHER_TABLES.contains(&id) || tag == LEVEL_TAG
    }

    /// Takes one in, in the order in which they were written.
    pub fn take(&mut self, id: &str, value: Scalar, tag: &str, kind: &str) {
        let text = |value| match value {
            Scalar::Text(text) => Some(text),
            Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) => None,
        };
        let listed = |value| text(value).map(|text| references(&text)).unwrap_or_default();
        match id {
            _ if tag == LEVEL_TAG => self.levels.push((id.to_owned(), value)),
            MANAGED_BY => self.managed_by = text(value),
            MANAGED_RESOURCE => self.managed_resource = text(value),
            MANAGED_PRUNE => self.kept = text(value).as_deref() == Some("false"),
            UNS_ID => self.uns_id = Some(value),
            "references_above" => self.references_above = listed(value),
            "references_below" => self.references_below = listed(value),
            _ if !Attributes::matters(id, tag) => {}
            _ => self.further.push(Attribute { id: id.to_owned(), value, tag: tag.to_owned(), kind: kind.to_owned() }),
        }
    }

    /// The place that a table shows, as the attributes have it where they differ: who reads the one must find what who
    /// reads the other does. Levels that the table does not know are left over from an earlier place.
    fn correct(&self, mut place: Uns) -> Uns {
        if let Some(uns_id) = self.uns_id.as_ref().filter(|uns_id| uns_id.as_kept() != place.uns_id) {
            place.uns_id = uns_id.as_kept();
        }
        for (level, value) in &mut place.levels {
            let said = self.levels.iter().rev().find(|(name, _)| name == level);
            if let Some((_, said)) = said.filter(|(_, said)| said.as_kept() != value.as_kept()) {
                *value = said.clone();
            }
        }
        place
    }

    /// The mark on an asset; what belongs to the asset has no other one.
    fn owner(&self) -> Option<RecordOwner> {
        let instance = InstanceName::new(self.managed_by.as_deref()?).ok()?;
        let resource = self.managed_resource.as_deref()?.parse().ok()?;
        Some(RecordOwner { instance, resource, kept: self.kept })
    }
}

/// Every record that the tables hold, with our mark where it is.
///
/// An asset is there when it has a type, or a mark: one that was taken back half-way has the mark only.
pub fn records(tables: Tables) -> SharedMap<RecordId, Arc<ObservedRecord>> {
    let Tables { attributes, mut types, services, places, connectors, targets } = tables;
    types.retain(|_, kind| kind != DELETED);
    let said: BTreeMap<AssetUuid, (Attributes, Option<RecordOwner>)> = attributes
        .into_iter()
        .map(|(uuid, said)| {
            let owner = said.owner();
            (uuid, (said, owner))
        })
        .collect();
    let marked = said.iter().filter(|(_, (_, owner))| owner.is_some()).map(|(uuid, _)| uuid);
    let assets: BTreeSet<AssetUuid> = types.keys().chain(marked).cloned().collect();
    let (mut said, mut types, mut services, mut places) =
        (Ascending::new(said), Ascending::new(types), Ascending::new(services), Ascending::new(places));
    let mut records = SharedMap::new();
    for uuid in assets {
        let (said, owner) = said.take(&uuid).unwrap_or_default();
        let place = places.take(&uuid).map(|place| said.correct(place));
        let record = Record::Asset(AssetRecord {
            asset_type: types.take(&uuid).unwrap_or_default(),
            docker_service: services.take(&uuid).unwrap_or_default(),
            references_above: said.references_above,
            references_below: said.references_below,
            uns: place,
            attributes: said.further,
            uuid,
        });
        records.insert(record.id(), Arc::new(ObservedRecord { record, owner }));
    }
    let further = connectors.into_iter().map(|(device, config)| Record::Connector { device, config }).chain(
        targets.into_iter().map(|(asset, (host, port, path))| Record::MetricsTarget { asset, host, port, path }),
    );
    for record in further {
        let id = record.id();
        let asset = records.get(&RecordId::Asset(id.asset().clone()));
        let owner = asset.and_then(|asset: &Arc<ObservedRecord>| asset.owner.clone());
        records.insert(id, Arc::new(ObservedRecord { record, owner }));
    }
    records
}

/// Values that are taken out one after the other, in ascending order of the assets: no search for each.
struct Ascending<T>(Peekable<btree_map::IntoIter<AssetUuid, T>>);

impl<T> Ascending<T> {
    fn new(values: BTreeMap<AssetUuid, T>) -> Self {
        Ascending(values.into_iter().peekable())
    }

    /// The value of an asset, which comes after all that were asked for before.
    fn take(&mut self, asset: &AssetUuid) -> Option<T> {
        while self.0.next_if(|(uuid, _)| uuid < asset).is_some() {}
        self.0.next_if(|(uuid, _)| uuid == asset).map(|(_, value)| value)
    }
}

/// A place in the namespace, from the level map of a table.
pub fn place(uns_id: String, levels: &Map<String, Value>) -> Uns {
    Uns { levels: levels.iter().map(|(level, value)| (level.clone(), scalar(value))).collect(), uns_id }
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

    fn said(attributes: &[(&str, &str)]) -> Attributes {
        let mut said = Attributes::default();
        for (id, value) in attributes {
            said.take(id, Scalar::Text((*value).into()), "", "OpenFactory");
        }
        said
    }

    #[test]
    fn an_asset_that_was_taken_back_half_way_is_found_by_its_mark() {
        let mut tables = Tables::default();
        let half = said(&[(MANAGED_BY, "plant"), (MANAGED_RESOURCE, "app/A"), ("x", "1")]);
        tables.attributes.insert(uuid("A"), half);
        tables.attributes.insert(uuid("B"), said(&[(MANAGED_BY, ""), (MANAGED_RESOURCE, "")]));
        tables.attributes.insert(uuid("C"), said(&[("references_below", "")]));
        let records = records(tables);
        assert_eq!(records.len(), 1, "{records:?}");
        let found = &records[&RecordId::Asset(uuid("A"))];
        assert_eq!(found.owner.as_ref().unwrap().resource.to_string(), "app/A");
        let Record::Asset(asset) = &found.record else { panic!("not an asset") };
        assert_eq!(asset.asset_type, "");
        assert_eq!(asset.attributes.len(), 1);
    }

    #[test]
    fn a_place_that_the_attributes_contradict_is_not_the_one_that_the_table_shows() {
        let place = || Uns {
            levels: vec![("inc".into(), Scalar::Text("Acme".into())), ("line".into(), Scalar::Text("7".into()))],
            uns_id: "Acme/7".into(),
        };
        let with = |change: &dyn Fn(&mut Attributes)| {
            let mut tables = Tables::default();
            let mut attributes = said(&[(UNS_ID, "Acme/7")]);
            attributes.take("line", Scalar::Int(7), LEVEL_TAG, "OpenFactory");
            attributes.take("site", Scalar::Text("left over".into()), LEVEL_TAG, "OpenFactory");
            change(&mut attributes);
            tables.attributes.insert(uuid("A"), attributes);
            tables.types.insert(uuid("A"), "Device".into());
            tables.places.insert(uuid("A"), place());
            let Record::Asset(asset) = &records(tables)[&RecordId::Asset(uuid("A"))].record else { panic!() };
            asset.uns.clone().unwrap()
        };
        assert_eq!(with(&|_| ()), place());
        let other = with(&|said| said.take(UNS_ID, Scalar::Text("Other/x".into()), "UNSId", "OpenFactory"));
        assert_eq!(other.uns_id, "Other/x");
        let other = with(&|said| said.take("line", Scalar::Text("8".into()), LEVEL_TAG, "OpenFactory"));
        assert_eq!(other.levels[1].1, Scalar::Text("8".into()));
        assert_eq!(with(&|said| (said.uns_id, said.levels) = (None, Vec::new())), place(), "missing says nothing");
    }

    #[test]
    fn a_type_that_says_delete_is_no_type() {
        let mut tables = Tables::default();
        tables.types.insert(uuid("A"), "delete".into());
        assert!(records(tables).is_empty());
    }

    #[test]
    fn what_other_tables_say_is_no_attribute_and_the_last_word_counts() {
        let mut said = said(&[("AssetType", "x"), ("uns_id", "a/b"), ("references_above", "A, ,B,")]);
        said.take("line", Scalar::Int(7), LEVEL_TAG, "OpenFactory");
        said.take(MANAGED_BY, Scalar::Text("a level".into()), LEVEL_TAG, "OpenFactory");
        assert_eq!(said.owner(), None, "a level of that name is no mark");
        said.take(MANAGED_PRUNE, Scalar::Text("false".into()), "", "");
        assert_eq!((said.references_above.len(), said.kept, said.further.len()), (2, true, 0));
        said.take(MANAGED_PRUNE, Scalar::Text(String::new()), "", "");
        assert!(!said.kept);
    }
}
