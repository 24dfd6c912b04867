//! What a service is compared with: what is wanted, with the live value in every field that the manifest's
//! `x-ofop` ignores.
//!
//! Everything behind this (comparing, merging, describing) knows nothing of ignored fields: they are equal by
//! construction, and what is sent holds what was found.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::image;
use crate::model::handling::Amount;
use crate::model::service::{EnvVar, Mount, Resources};
use crate::model::{Field, ObservedService, ServiceSpec};

/// The variable that tells a task of how many it is one.
const SWARM_REPLICAS: &str = "SWARM_REPLICAS";

/// What a service shall be.
#[derive(Debug, Clone)]
pub(super) struct Target<'a> {
    /// Every field but the image.
    pub(super) spec: Cow<'a, ServiceSpec>,
    /// The image, pinned if its tag is followed.
    pub(super) image: Cow<'a, str>,
    /// Labels of its containers, where they are to differ from its own.
    container_labels: Option<BTreeMap<String, String>>,
}

impl<'a> Target<'a> {
    /// What the manifest wants. `pinned` is the image with the digest that its tag points to.
    pub(super) fn wanted(spec: &'a ServiceSpec, pinned: Option<&'a str>) -> Self {
        let image = Cow::Borrowed(pinned.unwrap_or(&spec.image));
        Target { spec: Cow::Borrowed(spec), image, container_labels: None }
    }

    /// The same, with these fields as they were found.
    pub(super) fn leaving(mut self, ignored: impl Iterator<Item = &'a Field>, found: &'a ObservedService) -> Self {
        for field in ignored {
            self.leave(field, found);
        }
        self
    }

    /// The labels that its containers shall carry.
    pub(super) fn container_labels(&self) -> &BTreeMap<String, String> {
        self.container_labels.as_ref().unwrap_or(&self.spec.labels)
    }

    fn leave(&mut self, field: &Field, found: &'a ObservedService) {
        let live = &found.spec;
        match field {
            Field::Image => {
                self.image = Cow::Borrowed(&live.image);
                self.spec.to_mut().image.clone_from(&live.image);
            }
            Field::Command => self.spec.to_mut().command.clone_from(&live.command),
            Field::Args => self.spec.to_mut().args.clone_from(&live.args),
            Field::Environment(None) => self.spec.to_mut().env.clone_from(&live.env),
            Field::Environment(Some(name)) => leave_variable(&mut self.spec.to_mut().env, &live.env, name),
            Field::User => self.spec.to_mut().user.clone_from(&live.user),
            Field::Labels(key) => {
                let mut containers = self.container_labels().clone();
                leave_labels(&mut containers, &found.container_labels, key.as_ref());
                leave_labels(&mut self.spec.to_mut().labels, &live.labels, key.as_ref());
                self.container_labels = Some(containers);
            }
            Field::ContainerLabels(key) => {
                let mut containers = self.container_labels().clone();
                leave_labels(&mut containers, &found.container_labels, key.as_ref());
                self.container_labels = Some(containers);
            }
            Field::Mounts(None) => self.spec.to_mut().mounts.clone_from(&live.mounts),
            Field::Mounts(Some(target)) => {
                leave_items(&mut self.spec.to_mut().mounts, &live.mounts, |mount| mount_target(mount) == target);
            }
            Field::Ulimits(None) => self.spec.to_mut().ulimits.clone_from(&live.ulimits),
            Field::Ulimits(Some(name)) => {
                leave_items(&mut self.spec.to_mut().ulimits, &live.ulimits, |limit| limit.name == *name);
            }
            Field::Limits(amount) => leave_amount(&mut self.spec.to_mut().limits, live.limits, *amount),
            Field::Reservations(amount) => {
                leave_amount(&mut self.spec.to_mut().reservations, live.reservations, *amount);
            }
            Field::Constraints => self.spec.to_mut().constraints.clone_from(&live.constraints),
            Field::Networks => self.spec.to_mut().networks.clone_from(&live.networks),
            Field::Replicas => {
                let spec = self.spec.to_mut();
                spec.replicas = live.replicas;
                // It says the same to the tasks, and would restart them.
                leave_variable(&mut spec.env, &live.env, SWARM_REPLICAS);
            }
            Field::Ports => self.spec.to_mut().ports.clone_from(&live.ports),
        }
    }

    /// Whether the image that runs is the wanted one.
    pub(super) fn has_image_of(&self, found: &ObservedService) -> bool {
        image::matches(&found.spec.image, &self.image)
    }
}

/// How many replicas a service shall have: those that it has, where their number is ignored.
pub(super) fn replicas<'a>(wanted: u64, mut ignored: impl Iterator<Item = &'a Field>, found: &ObservedService) -> u64 {
    if ignored.any(|field| *field == Field::Replicas) { found.spec.replicas } else { wanted }
}

/// A variable keeps its place in the order of what is wanted, since a name that occurs twice has a meaning there.
fn leave_variable(wanted: &mut Vec<EnvVar>, live: &[EnvVar], name: &str) {
    leave_items(wanted, live, |variable| variable.name == name);
}

/// Puts the items of `live` that are meant in the place of those of `wanted`, one by one; surplus ones go, further
/// ones come last.
fn leave_items<T: Clone>(wanted: &mut Vec<T>, live: &[T], is_meant: impl Fn(&T) -> bool) {
    let mut found = live.iter().filter(|item| is_meant(item));
    let mut left = Vec::with_capacity(wanted.len());
    for item in wanted.drain(..) {
        if is_meant(&item) {
            left.extend(found.next().cloned());
        } else {
            left.push(item);
        }
    }
    left.extend(found.cloned());
    *wanted = left;
}

fn leave_labels(wanted: &mut BTreeMap<String, String>, live: &BTreeMap<String, String>, key: Option<&String>) {
    let Some(key) = key else {
        wanted.clone_from(live);
        return;
    };
    match live.get(key) {
        Some(value) => wanted.insert(key.clone(), value.clone()),
        None => wanted.remove(key),
    };
}

fn leave_amount(wanted: &mut Resources, live: Resources, amount: Option<Amount>) {
    if amount != Some(Amount::Memory) {
        wanted.nano_cpus = live.nano_cpus;
    }
    if amount != Some(Amount::Cpus) {
        wanted.memory_bytes = live.memory_bytes;
    }
}

fn mount_target(mount: &Mount) -> &str {
    match mount {
        Mount::Volume { target, .. } | Mount::Bind { target, .. } | Mount::Other { target, .. } => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(texts: &[&str]) -> Vec<EnvVar> {
        texts.iter().map(|text| EnvVar::split(text)).collect()
    }

    #[test]
    fn a_variable_keeps_its_place_and_its_live_value() {
        for (wanted, live, left) in [
            (vec!["A=1", "B=2", "C=3"], vec!["A=x", "B=y", "C=z"], vec!["A=1", "B=y", "C=3"]),
            (vec!["A=1", "B=2", "C=3"], vec!["A=1", "C=3"], vec!["A=1", "C=3"]),
            (vec!["A=1", "C=3"], vec!["A=1", "B=y", "C=3"], vec!["A=1", "C=3", "B=y"]),
            (vec!["B=1", "A=1", "B=2"], vec!["B=x", "A=1"], vec!["B=x", "A=1"]),
            (vec!["B=1", "A=1"], vec!["B=x", "A=1", "B=y"], vec!["B=x", "A=1", "B=y"]),
        ] {
            let mut result = variables(&wanted);
            leave_variable(&mut result, &variables(&live), "B");
            assert_eq!(result, variables(&left), "{wanted:?} {live:?}");
        }
    }

    #[test]
    fn one_of_two_amounts_is_left_alone() {
        let live = Resources { nano_cpus: Some(1), memory_bytes: Some(2) };
        let after = |amount| {
            let mut wanted = Resources { nano_cpus: Some(8), memory_bytes: None };
            leave_amount(&mut wanted, live, amount);
            wanted
        };
        assert_eq!(after(Some(Amount::Cpus)), Resources { nano_cpus: Some(1), memory_bytes: None });
        assert_eq!(after(Some(Amount::Memory)), Resources { nano_cpus: Some(8), memory_bytes: Some(2) });
        assert_eq!(after(None), live);
    }
}
