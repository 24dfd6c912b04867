//! Steps for the services of one wanted resource.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    ConditionKind, DesiredService, Doubt, DriftType, FieldChange, FieldSet, Ignored, ImageRef, Mark, ObservedRecord,
    ObservedService, OwnedField, PlatformSnapshot, Reason, RemovalTerms, ServiceStep, SpecHash, Step, UpdateState,
    Wait,
};
use crate::model::{DesiredResource, Record, ServiceSpec};

use super::attempts::attempt;
use super::context::Context;
use super::diff;
use super::draft::Draft;
use super::join::Found;
use super::ownership::{self, Claim, Grant};
use super::target::Target;
use super::{image, proof, removal, verdict};

/// How long a registry that showed a part of what it holds, and fails now, is waited for: the one that took longest to
/// come back took two minutes.
const RECOVERY: Duration = Duration::from_secs(120);
/// How long the first reading of the registry may be under way: an adapter answers, or fails, within 15 s.
const FIRST_READING: Duration = Duration::from_secs(20);

/// Plans every service of a wanted resource, in the order in which they start.
pub(super) fn plan_services(
    context: &Context<'_>,
    draft: &mut Draft,
    resource: &DesiredResource,
    found: &[Found<'_>],
    records: &[Option<&Arc<ObservedRecord>>],
) {
    if resource.services.is_empty() {
        return;
    }
    let Some(platform) = context.platform else {
        draft.unknown = true;
        draft.blocked = true;
        return;
    };
    let grant = Grant::of(context, resource);
    for (service, found) in resource.services.iter().zip(found) {
        let planner = Planner { context, platform, resource, service, records, grant };
        planner.note_unresolved(draft);
        match (found.rival, found.service) {
            (Some(rival), _) => {
                draft.blocked = true;
                draft.conflict("NameTaken", format!("{rival} wants service {} as well", service.spec.name));
            }
            (None, Some(existing)) => planner.existing(draft, existing),
            (None, None) => planner.absent(draft),
        }
    }
}

/// Whether a person had Swarm go back to an earlier spec of ours, whose mark is back with it.
fn was_undone_by_hand(found: &ObservedService) -> bool {
    found.rollout.by_hand && found.mark.is_some()
}

/// The names of the fields in which a service differs from what is wanted, for a message.
fn changed_fields(changes: &[FieldChange], found: &ObservedService) -> Vec<String> {
    let mode = found.foreign_mode.as_ref().map(|mode| format!("mode ({mode})"));
    mode.into_iter().chain(changes.iter().map(|change| change.field.clone())).collect()
}

/// What keeps a service from being made.
enum Doubted<'a> {
    /// The reading proves too little.
    Reading(&'a Doubt),
    /// There is none.
    Wait(Wait),
}

struct Planner<'a> {
    context: &'a Context<'a>,
    platform: &'a PlatformSnapshot,
    resource: &'a DesiredResource,
    service: &'a DesiredService,
    records: &'a [Option<&'a Arc<ObservedRecord>>],
    grant: Grant<'a>,
}

impl Planner<'_> {
    /// The wanted image, pinned if its tag is followed and the digest is known.
    fn pinned(&self) -> Option<String> {
        let digest = || self.platform.digests.get(&self.service.spec.image).map(String::as_str);
        if self.service.follow_digest { image::pin(&self.service.spec.image, digest()) } else { None }
    }

    /// Says why the tag is not followed just now. What runs is what the engine has of it.
    fn note_unresolved(&self, draft: &mut Draft) {
        let image = &self.service.spec.image;
        if self.service.follow_digest
            && let Some(why) = self.platform.unresolved.get(image)
        {
            let message = format!("cannot tell where the tag of {image} points, so that it is not pinned: {why}");
            draft.note(ConditionKind::Unresolved, "TagUnresolved", message);
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            instance: self.context.policy.instance.clone(),
            resource: self.resource.id.clone(),
            spec: self.service.hash.clone(),
            revision: self.context.desired.revision.clone(),
            origin: self.resource.origin.to_string(),
            kept: Some(!self.resource.handling.prune),
            terms: RemovalTerms {
                after: self.resource.handling.after.clone(),
                windows: self.resource.handling.windows.clone(),
            },
            options: self.service.spec.options.set().collect(),
            run: self.context.policy.run.clone(),
        }
    }

    fn missing_networks(&self) -> Option<String> {
        let missing: Vec<&str> = self
            .service
            .spec
            .networks
            .iter()
            .filter(|network| !self.platform.networks.contains(*network))
            .map(String::as_str)
            .collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    fn absent(&self, draft: &mut Draft) {
        let name = &self.service.spec.name;
        if let Some(reason) = self.context.unreadable(name) {
            draft.unknown = true;
            draft.blocked = true;
            draft.note(
                ConditionKind::Conflict,
                "UnreadableService",
                format!("service {name} exists and cannot be understood: {reason}"),
            );
            return;
        }
        if !self.platform.complete {
            // absent from a list that is cut is not absent
            draft.unknown = true;
            draft.blocked = true;
            return;
        }
        let lost = self.was_deployed();
        if lost {
            draft.drift(DriftType::Missing, format!("service {name}"), &[]);
        }
        let reason = if lost { Reason::Missing } else { Reason::New };
        let wait = self.wait_before_create(draft);
        match self.owner_in_doubt(draft, wait.as_ref()) {
            Some(Doubted::Reading(doubt)) => draft.unproven(self.creation(), reason, Vec::new(), doubt),
            Some(Doubted::Wait(wait)) => draft.step(self.creation(), reason, Vec::new(), Some(wait)),
            None => draft.step(self.creation(), reason, Vec::new(), wait),
        }
    }

    /// What the creation of a service waits for that stood nowhere yet, since an asset of it may be another operator's.
    ///
    /// A conflict must be seen before a service stands beside the asset. So a reading that hides something about an asset
    /// holds it, for seconds as a rule, also when the next one fails; so does the first reading, and what the last one
    /// showed to be somebody else's while there is none. A registry that does not answer at all holds nothing else:
    /// production must not wait for it.
    fn owner_in_doubt(&self, draft: &mut Draft, wait: Option<&Wait>) -> Option<Doubted<'_>> {
        let was_in_sync = self.context.memory.synced.contains_key(&self.resource.id);
        let has_assets = self.resource.records.iter().any(|record| matches!(**record, Record::Asset(_)));
        if wait.is_some() || was_in_sync || !has_assets {
            return None;
        }
        let Some(registry) = self.context.registry else {
            if let Some((reason, message)) = self.context.memory.others.get(&self.resource.id) {
                draft.blocked = true;
                draft.foreign_record = true;
                draft.conflict(reason, format!("{message} (as of the last reading of the registry)"));
                return Some(Doubted::Wait(Wait::Conflict));
            }
            let first = self.context.registry_stands_in && self.context.at < FIRST_READING;
            let doubted = self.context.memory.doubted.get(&self.resource.id);
            let recovers = doubted.is_some_and(|since| self.context.at.saturating_sub(*since) < RECOVERY);
            return (first || recovers).then_some(Doubted::Wait(Wait::Evidence { lasting: false }));
        };
        // An asset that is shown under our mark is ours, whatever else is missing.
        let us = &self.context.policy.instance;
        let is_ours = |found: &ObservedRecord| found.owner.as_ref().is_some_and(|owner| owner.instance == *us);
        let records = self.resource.records.iter().zip(self.records);
        let others = records.filter(|(_, found)| !found.is_some_and(|found| is_ours(found)));
        proof::doubt_of_owners(registry, others.map(|(wanted, _)| &**wanted)).map(Doubted::Reading)
    }

    fn wait_before_create(&self, draft: &mut Draft) -> Option<Wait> {
        if let Some(missing) = self.missing_networks() {
            draft.wait_for(
                verdict::NETWORK_MISSING,
                format!("service {} needs network {missing}, which does not exist", self.service.spec.name),
            );
            draft.blocked = true;
        }
        if draft.foreign_record {
            return Some(Wait::Conflict);
        }
        draft.blocked.then_some(Wait::Dependency)
    }

    fn creation(&self) -> Step {
        let spec = match self.pinned() {
            Some(image) => Arc::new(ServiceSpec { image, ..(*self.service.spec).clone() }),
            None => Arc::clone(&self.service.spec),
        };
        Step::Service(ServiceStep::Create { spec, mark: self.mark() })
    }

    /// Whether there is evidence that this service existed: we saw the resource in sync with it, or the
    /// registry holds an asset of ours that names it.
    fn was_deployed(&self) -> bool {
        let name = &self.service.spec.name;
        let seen = self
            .context
            .memory
            .synced
            .get(&self.resource.id)
            .is_some_and(|synced| synced.services.iter().any(|service| service.spec.name == *name));
        seen || self.records.iter().flatten().any(|found| {
            let Record::Asset(asset) = &found.record else { return false };
            asset.docker_service == name.as_str()
                && !asset.asset_type.is_empty()
                && found.owner.as_ref().is_some_and(|owner| owner.instance == self.context.policy.instance)
        })
    }

    fn existing(&self, draft: &mut Draft, found: &ObservedService) {
        let name = &self.service.spec.name;
        let pinned = self.pinned();
        let wanted = Target::wanted(&self.service.spec, pinned.as_deref(), found);
        let differences = diff::compare(&wanted, found);
        let adopt = match ownership::claim(found, &self.context.policy.instance) {
            Claim::Operator => {
                draft.blocked = true;
                draft.conflict("OperatorsService", ownership::operators_service(&self.resource.id, name));
                return;
            }
            Claim::Ours => false,
            Claim::Theirs(other) if self.grant.covers(other) => true,
            Claim::Theirs(other) => {
                draft.blocked = true;
                let fields = changed_fields(&diff::describe(&wanted, found, differences), found);
                let message = ownership::their_service(self.context, self.resource, self.records, name, other, &fields);
                draft.conflict("OtherInstance", message);
                return;
            }
            Claim::Unmarked => {
                let named =
                    || ownership::registry_names(self.resource, self.records, name, &self.context.policy.instance);
                let taken = self.grant.covers_strangers();
                if !taken && (found.foreign_mode.is_some() || !(differences.is_empty() || named())) {
                    draft.blocked = true;
                    let fields = changed_fields(&diff::describe(&wanted, found, differences), found);
                    draft.conflict("StrangersService", ownership::strangers_service(&self.resource.id, name, &fields));
                    return;
                }
                true
            }
        };
        if let Some(mode) = &found.foreign_mode {
            self.replace(draft, found, mode);
            return;
        }
        let (target, differences) = self.leave_alone(draft, wanted, differences, found);
        let same_mark = found.mark.as_ref().is_some_and(|mark| {
            mark.instance == self.context.policy.instance
                // A mark that cannot say whether the service stays is part of the container: writing another hash would
                // restart what already is as it is wanted.
                && (mark.spec == self.service.hash || mark.kept.is_none())
                && mark.resource == self.resource.id
                && mark.kept.is_none_or(|kept| {
                    let wanted = self.mark();
                    kept != self.resource.handling.prune && mark.terms == wanted.terms && mark.options == wanted.options
                })
        });
        if differences.is_empty() && same_mark {
            return;
        }
        self.update(draft, found, &target, differences, adopt);
    }

    /// Takes the live value of what the manifest ignores, and notes what that hides.
    fn leave_alone<'t>(
        &'t self,
        draft: &mut Draft,
        wanted: Target<'t>,
        differences: FieldSet,
        found: &'t ObservedService,
    ) -> (Target<'t>, FieldSet) {
        if differences.is_empty() || self.resource.handling.ignore.is_empty() {
            return (wanted, differences);
        }
        let ignored = self.resource.handling.ignored(&self.service.spec.name);
        let target = wanted.clone().leaving(ignored, found);
        let rest = diff::compare(&target, found);
        let told = diff::describe(&target, found, rest);
        let mut changes = diff::describe(&wanted, found, differences);
        changes.retain(|change| !told.contains(change));
        if !changes.is_empty() {
            draft.ignored.push(Ignored { object: format!("service {}", self.service.spec.name), changes });
        }
        (target, rest)
    }

    fn update(
        &self,
        draft: &mut Draft,
        found: &ObservedService,
        target: &Target<'_>,
        differences: FieldSet,
        adopt: bool,
    ) {
        let mark = self.mark();
        let spec = diff::merge(target, found, differences);
        let mut changes = diff::describe(target, found, differences);
        let asked_before =
            found.mark.as_ref().is_some_and(|mark| mark.spec == self.service.hash) || was_undone_by_hand(found);
        let reason = if adopt {
            Reason::Adopt
        } else if !asked_before || differences.is_empty() {
            Reason::ManifestChanged
        } else if self.service.follow_digest && differences.is_only(OwnedField::Image) && self.same_tag(found) {
            Reason::ImageMoved
        } else {
            Reason::Modified
        };
        let wait = self.wait_before_update(draft, found, &spec, &mark, differences);
        if reason == Reason::Modified && wait != Some(Wait::RolledBack) {
            draft.drift(DriftType::Modified, format!("service {}", self.service.spec.name), &changes);
        }
        changes.extend(diff::describe_mark(&mark, found.mark.as_ref(), differences.is_empty()));
        let step = Step::Service(ServiceStep::Update {
            id: found.id.clone(),
            version: found.version,
            spec: Arc::new(spec),
            container_labels: target.container_labels().clone(),
            mark,
        });
        match self.doubt().filter(|_| adopt) {
            Some(doubt) => draft.unproven(step, reason, changes, doubt),
            None => draft.step(step, reason, changes, wait),
        }
    }

    /// Why the registry does not prove whose an asset of the resource is: a service goes to whoever its assets belong to.
    fn doubt(&self) -> Option<&Doubt> {
        proof::doubt_of_owners(self.context.registry?, self.resource.records.iter().map(|record| &**record))
    }

    /// The image differs in nothing but its digest.
    fn same_tag(&self, found: &ObservedService) -> bool {
        ImageRef::matches(&found.spec.image, &self.service.spec.image)
    }

    fn wait_before_update(
        &self,
        draft: &mut Draft,
        found: &ObservedService,
        spec: &ServiceSpec,
        mark: &Mark,
        differences: FieldSet,
    ) -> Option<Wait> {
        if draft.foreign_record {
            return Some(Wait::Conflict);
        }
        // changed labels alone restart no task: there is nothing that could fail again
        if !differences.is_empty() && self.is_rolled_back(found, &attempt(mark, spec)) {
            draft.rolled_back = true;
            let why = match &found.update {
                UpdateState::RollbackStarted(why)
                | UpdateState::RollbackPaused(why)
                | UpdateState::RollbackCompleted(why) => {
                    Some(if why.is_empty() { String::new() } else { format!(": {why}") })
                }
                UpdateState::None | UpdateState::Updating | UpdateState::Paused(_) | UpdateState::Completed => None,
            };
            draft.note(
                ConditionKind::RolledBack,
                "UpdateRolledBack",
                match why {
                    Some(why) => format!("the engine rolled the last update of service {} back{why}", spec.name),
                    None => format!(
                        "the engine rolled an update of service {} back, or somebody changed the service before it could be \
                         seen what became of it; it is not sent again",
                        spec.name
                    ),
                },
            );
            return Some(Wait::RolledBack);
        }
        if differences.contains(OwnedField::Networks)
            && let Some(missing) = self.missing_networks()
        {
            draft.wait_for(
                verdict::NETWORK_MISSING,
                format!("service {} needs network {missing}, which does not exist", spec.name),
            );
            draft.blocked = true;
            return Some(Wait::Dependency);
        }
        // until the notes were read it waits for that
        let notes_read = !self.context.notes_may_hide_something();
        if !differences.is_empty() && notes_read && !self.context.memory.is_noted(found, spec, mark) {
            return Some(Wait::AttemptNoted);
        }
        None
    }

    /// Whether the engine undid this very update, now or at an earlier time.
    fn is_rolled_back(&self, found: &ObservedService, attempt: &SpecHash) -> bool {
        let memory = self.context.memory;
        !memory.retry.contains(&self.resource.id) && memory.is_rolled_back(found, attempt)
    }

    /// A service of ours that somebody re-made in a mode that no update can change (Swarm answers 501): it goes,
    /// like anything that goes after two sightings, and is made anew.
    fn replace(&self, draft: &mut Draft, found: &ObservedService, mode: &str) {
        let name = &self.service.spec.name;
        let change = FieldChange {
            field: "mode".into(),
            from: Some(mode.to_owned()),
            to: Some("replicated".into()),
            secret: false,
        };
        draft.drift(DriftType::Modified, format!("service {name}"), std::slice::from_ref(&change));
        let wait = removal::wait_for_reads(self.context)
            .map(Wait::Prune)
            .or_else(|| removal::second_sighting(self.context, &found.id))
            .or_else(|| self.wait_before_create(draft));
        let remove = Step::Service(ServiceStep::Remove { id: found.id.clone(), name: name.clone() });
        draft.step(remove, Reason::Modified, vec![change], wait.clone());
        draft.step(self.creation(), Reason::Modified, Vec::new(), wait.map(|_| Wait::Dependency));
    }
}
