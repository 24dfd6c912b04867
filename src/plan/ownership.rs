//! Whose an existing service or record is, whether we may take it over, and what to tell people when we may not.
//!
//! A service and its records have one owner. Nothing is made or changed on one side while the other belongs to somebody
//! else, so that no resource is ever split between two operators by us; one that is split already is reported on both
//! sides, each with the command that ends it.

use std::sync::Arc;

use super::Memory;
use super::context::Context;
use super::draft::Draft;
use super::join::Found;
use super::records::is_taken_back;
use crate::model::record::AssetRecord;
use crate::model::service::LABEL_SELF;
use crate::model::{
    ConditionKind, DesiredResource, HeldStep, InstanceName, Observed, ObservedRecord, ObservedService, Plan, Record,
    ResourceId, ServiceName, ServiceStep, Step, Wait,
};

/// Whose a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim<'a> {
    /// It carries our mark.
    Ours,
    /// It carries no mark and nothing speaks for us: it is taken over only if something does.
    Unmarked,
    /// It carries another operator's mark.
    Theirs(&'a InstanceName),
    /// An operator runs in it: it is never taken over, whatever a person says.
    Operator,
}

/// Reads the mark.
pub(super) fn claim<'a>(service: &'a ObservedService, us: &InstanceName) -> Claim<'a> {
    match &service.mark {
        _ if service.runs_operator => Claim::Operator,
        Some(mark) if mark.instance == *us => Claim::Ours,
        Some(mark) => Claim::Theirs(&mark.instance),
        None => Claim::Unmarked,
    }
}

/// Whose a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordClaim<'a> {
    /// Ours, or nobody's that we could not take over.
    Free,
    /// Another operator owns it.
    Theirs(&'a InstanceName),
    /// Nobody's, and of a type that the manifest does not describe.
    Strangers(&'a str),
}

impl RecordClaim<'_> {
    /// Whether somebody else has it.
    pub(super) fn is_foreign(self) -> bool {
        match self {
            RecordClaim::Free => false,
            RecordClaim::Theirs(_) | RecordClaim::Strangers(_) => true,
        }
    }
}

/// Reads the owner of a record that is found where `wanted` shall be.
pub(super) fn record_claim<'a>(
    wanted: &Record,
    found: &'a ObservedRecord,
    us: &InstanceName,
    grant: Grant<'_>,
) -> RecordClaim<'a> {
    match (&found.owner, wanted, &found.record) {
        (Some(owner), ..) if owner.instance == *us || grant.covers(&owner.instance) => RecordClaim::Free,
        (Some(owner), ..) => RecordClaim::Theirs(&owner.instance),
        (None, Record::Asset(wanted), Record::Asset(asset))
            if !is_taken_back(&found.record) && wanted.asset_type != asset.asset_type && !grant.covers_strangers() =>
        {
            RecordClaim::Strangers(&asset.asset_type)
        }
        (None, ..) => RecordClaim::Free,
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

/// Whether a service without a mark is the one that a record of ours was registered for: the record names it, and it
/// carries the uuid of the asset or of the resource in its environment, as every service of ours with an asset does
/// (`APP_UUID`, `MTC_AGENT_UUID`, `KAFKA_PRODUCER_UUID`). The name alone is not enough: a stranger may have taken it
/// after our service went.
pub(super) fn is_ours_without_mark(service: &ObservedService, id: &ResourceId, asset: &AssetRecord) -> bool {
    let uuids = [asset.uuid.as_str(), id.uuid.as_str()];
    service.mark.is_none()
        && !service.runs_operator
        && !asset.asset_type.is_empty()
        && service
            .spec
            .env
            .iter()
            .any(|variable| variable.name.ends_with("_UUID") && uuids.contains(&variable.value.as_str()))
}

/// What a person, or the manifest, says may be taken over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Grant<'a> {
    /// What carries no owner.
    strangers: bool,
    /// What belongs to this instance.
    from: Option<&'a InstanceName>,
}

impl<'a> Grant<'a> {
    /// What holds for a resource.
    pub(super) fn of(context: &Context<'a>, resource: &DesiredResource) -> Self {
        let asked = context
            .policy
            .adopt
            .get(&resource.id)
            .or_else(|| context.memory.adopting.get(&resource.id).map(|adoption| &adoption.from));
        Grant { strangers: asked.is_some() || resource.handling.adopt, from: asked.and_then(Option::as_ref) }
    }

    /// Whether what carries no owner may be taken over.
    pub(super) fn covers_strangers(self) -> bool {
        self.strangers
    }

    /// Whether what belongs to this instance may be taken over.
    pub(super) fn covers(self, instance: &InstanceName) -> bool {
        self.from == Some(instance)
    }
}

/// Notes every record of a resource that somebody else has, before anything is planned for its services.
pub(super) fn check_records(
    context: &Context<'_>,
    draft: &mut Draft,
    resource: &DesiredResource,
    services: &[Found<'_>],
    found: &[Option<&Arc<ObservedRecord>>],
) {
    let (us, grant) = (&context.policy.instance, Grant::of(context, resource));
    for (wanted, found) in resource.records.iter().zip(found) {
        let Some(found) = found else { continue };
        let (reason, message) = match record_claim(wanted, found, us, grant) {
            RecordClaim::Free => continue,
            RecordClaim::Theirs(other) => {
                let ours = services.iter().filter_map(|found| found.service).find(|service| is_ours(service, us));
                ("OtherInstance", their_record(resource, wanted, other, us, ours.map(|service| &service.spec.name)))
            }
            RecordClaim::Strangers(kind) => {
                let id = &resource.id;
                let described = match &**wanted {
                    Record::Asset(asset) => asset.asset_type.as_str(),
                    Record::Connector { .. } | Record::CoordinatorDevice { .. } | Record::MetricsTarget { .. } => "",
                };
                let message = format!(
                    "{} is registered by somebody else as {kind}, not as {described}, so that nothing is deployed for {id}; \
                     choose another uuid, or take it over with `ofop adopt {id}`",
                    wanted.id()
                );
                ("StrangersAsset", message)
            }
        };
        draft.blocked = true;
        draft.foreign_record = true;
        draft.conflict(reason, message);
    }
}

fn is_ours(service: &ObservedService, us: &InstanceName) -> bool {
    claim(service, us) == Claim::Ours
}

/// What to tell of a record that another instance owns. `service`: one of the same resource that is ours.
fn their_record(
    resource: &DesiredResource,
    record: &Record,
    other: &InstanceName,
    us: &InstanceName,
    service: Option<&ServiceName>,
) -> String {
    let (id, record) = (&resource.id, record.id());
    match service {
        Some(service) => format!(
            "{id} is split: service {service} belongs to this operator (instance {us}), and {record} to instance {other}; \
             end it with `ofop adopt {id} --from {other} --instance {us}`, or with \
             `ofop adopt {id} --from {us} --instance {other}` where the manifests of {other} are"
        ),
        None => format!(
            "{record} belongs to operator instance {other}, so that nothing is deployed for {id}; \
             choose another uuid, or take it over with `ofop adopt {id} --from {other}`"
        ),
    }
}

/// What to tell of a service that another instance owns. `fields` are those in which it differs from the manifest.
pub(super) fn their_service(
    context: &Context<'_>,
    resource: &DesiredResource,
    records: &[Option<&Arc<ObservedRecord>>],
    service: &ServiceName,
    other: &InstanceName,
    fields: &[String],
) -> String {
    let (id, us) = (&resource.id, &context.policy.instance);
    let ours = records
        .iter()
        .flatten()
        .find(|found| !is_taken_back(&found.record) && found.owner.as_ref().is_some_and(|owner| owner.instance == *us));
    match ours {
        Some(record) => format!(
            "{id} is split: {} belongs to this operator (instance {us}), and service {service} to instance {other}, \
             which {}; end it with `ofop adopt {id} --from {other} --instance {us}`, or with \
             `ofop adopt {id} --from {us} --instance {other}` where the manifests of {other} are",
            record.record.id(),
            compared(fields)
        ),
        None => format!(
            "service {service} belongs to operator instance {other} and {}; \
             rename one of the two, or take it over with `ofop adopt {id} --from {other}`",
            compared(fields)
        ),
    }
}

/// What to tell of a service without a mark that may not be adopted.
pub(super) fn strangers_service(id: &ResourceId, service: &ServiceName, fields: &[String]) -> String {
    format!(
        "service {service} exists, carries no mark of an operator, and {}; \
         remove or rename it, or take it over with `ofop adopt {id}`",
        compared(fields)
    )
}

/// What to tell of a service in which an operator runs.
pub(super) fn operators_service(id: &ResourceId, service: &ServiceName) -> String {
    format!(
        "an operator runs in service {service}, which its label {LABEL_SELF} says, so that it is never adopted, changed or \
         removed; choose another uuid for {id}"
    )
}

/// How many fields a message names.
const NAMED: usize = 8;

fn compared(fields: &[String]) -> String {
    if fields.is_empty() {
        return "is as the manifest describes it".into();
    }
    let more = if fields.len() > NAMED { format!(" and {} more", fields.len() - NAMED) } else { String::new() };
    let named: Vec<&str> = fields.iter().take(NAMED).map(String::as_str).collect();
    format!("differs from the manifest in {}{more}", named.join(", "))
}

impl Memory {
    /// A conflict over a record stays until a reading that proves something shows none, and so does a doubt.
    pub(super) fn learn_others(&mut self, observed: &Observed, plan: &Plan) {
        if observed.registry.is_none() {
            return;
        }
        let is_doubted = |held: &HeldStep| matches!(held.wait, Wait::Evidence { .. });
        let creates = |held: &HeldStep| matches!(held.step.step, Step::Service(ServiceStep::Create { .. }));
        let since = std::mem::take(&mut self.doubted);
        for (id, resource) in plan.restless() {
            if resource.held.iter().any(|held| creates(held) && is_doubted(held)) {
                self.doubted.insert(id.clone(), since.get(id).copied().unwrap_or(observed.at));
            }
        }
        let mut before = std::mem::take(&mut self.others);
        for (id, resource) in plan.restless() {
            let found = resource.conditions.iter().find_map(|condition| {
                let reasons = ["OtherInstance", "StrangersAsset"];
                let reason = reasons.into_iter().find(|reason| condition.reason == *reason)?;
                (condition.kind == ConditionKind::Conflict).then(|| (reason, condition.message.clone()))
            });
            let known = || before.remove(id).filter(|_| resource.held.iter().any(is_doubted));
            if let Some(conflict) = found.or_else(known) {
                self.others.insert(id.clone(), conflict);
            }
        }
    }
}
