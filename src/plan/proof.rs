//! Whether a reading of the registry proves enough to write a record, or to let go of one.

use crate::model::record::RecordOwner;
use crate::model::{Doubt, ObservedRecord, Proof, Record, RecordId, RecordStep, RegistrySnapshot, Step, Wait};

/// Why a wanted record may not be written on this reading; none if it may.
///
/// One whose mark is ours is written also on a lasting contradiction: a mark is shown, so that nobody loses anything,
/// and writing is what mends a table that has lost a row.
pub(super) fn doubt_of<'a>(
    registry: &'a RegistrySnapshot,
    wanted: &Record,
    found: Option<&ObservedRecord>,
    owner: &RecordOwner,
) -> Option<&'a Doubt> {
    let id = wanted.id();
    let Proof::Unproven(doubt) = registry.evidence.of_owner(id.asset()) else { return of_coordinators(registry, &id) };
    let is_ours = found
        .and_then(|found| found.owner.as_ref())
        .is_some_and(|found| found.instance == owner.instance && found.resource == owner.resource);
    if doubt.lasting && is_ours { of_coordinators(registry, &id) } else { Some(doubt) }
}

/// Which coordinator serves a device is found among all assets: a row that is missing may be a coordinator's.
fn of_coordinators<'a>(registry: &'a RegistrySnapshot, id: &RecordId) -> Option<&'a Doubt> {
    match id {
        RecordId::CoordinatorDevice(_) => {
            registry.evidence.doubt.as_ref().or_else(|| registry.evidence.assets.values().find(|doubt| !doubt.lasting))
        }
        RecordId::Asset(_) | RecordId::Connector(_) | RecordId::MetricsTarget(_) => None,
    }
}

/// Why this reading does not prove whose the assets among these records are.
pub(super) fn doubt_of_owners<'a>(
    registry: &'a RegistrySnapshot,
    records: impl Iterator<Item = &'a Record>,
) -> Option<&'a Doubt> {
    let mut doubts = records.filter(|record| matches!(record, Record::Asset(_))).filter_map(|record| {
        match registry.evidence.of_owner(record.id().asset()) {
            Proof::Proven => None,
            Proof::Unproven(doubt) => Some(doubt),
        }
    });
    doubts.next()
}

/// What letting go of a record waits for, as far as the reading is concerned. A row that is shown is there, and is taken
/// back whatever else is missing; that one is not shown must be proven before the mark goes.
pub(super) fn wait_of_removal(registry: &RegistrySnapshot, step: &Step) -> Option<Wait> {
    let evidence = &registry.evidence;
    let doubt = match step {
        Step::Record(RecordStep::Deregister { record }) => match record.id() {
            id @ RecordId::CoordinatorDevice(_) => of_coordinators(registry, &id).or_else(|| unproven(registry, &id)),
            RecordId::Asset(_) | RecordId::Connector(_) | RecordId::MetricsTarget(_) => evidence.doubt.as_ref(),
        },
        Step::Record(RecordStep::Forget { record }) => unproven(registry, record),
        Step::Record(RecordStep::Register { .. }) | Step::Service(_) => None,
    };
    doubt.map(|doubt| Wait::Evidence { lasting: doubt.lasting })
}

fn unproven<'a>(registry: &'a RegistrySnapshot, id: &RecordId) -> Option<&'a Doubt> {
    match registry.evidence.of(id.asset()) {
        Proof::Proven => None,
        Proof::Unproven(doubt) => Some(doubt),
    }
}
