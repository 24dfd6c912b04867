//! Whose an existing service is, and whether we may take it over.

use std::sync::Arc;

use crate::model::{DesiredResource, InstanceName, ObservedRecord, ObservedService, Record, ServiceName};

/// Whose a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim<'a> {
    /// It carries our mark.
    Ours,
    /// It carries no mark and nothing speaks for us: it is taken over only if something does.
    Unmarked,
    /// It carries another operator's mark.
    Theirs(&'a InstanceName),
}

/// Reads the mark.
pub(super) fn claim<'a>(service: &'a ObservedService, us: &InstanceName) -> Claim<'a> {
    match &service.mark {
        Some(mark) if mark.instance == *us => Claim::Ours,
        Some(mark) => Claim::Theirs(&mark.instance),
        None => Claim::Unmarked,
    }
}

/// Whether the registry says that this service embodies one of the resource's assets. It does so for what
/// OpenFactory's command line deployed, and for what we deployed and somebody took the labels off.
pub(super) fn registry_names(
    resource: &DesiredResource,
    found: &[Option<&Arc<ObservedRecord>>],
    service: &ServiceName,
    us: &InstanceName,
) -> bool {
    resource.records.iter().zip(found).any(|(wanted, found)| {
        let (Record::Asset(wanted), Some(found)) = (&**wanted, found) else { return false };
        let Record::Asset(asset) = &found.record else { return false };
        wanted.docker_service == service.as_str()
            && asset.docker_service == service.as_str()
            && !asset.asset_type.is_empty()
            && found.owner.as_ref().is_none_or(|owner| owner.instance == *us)
    })
}
