//! What a manifest's `x-ofop` says about how a resource is taken care of.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::fields::{Field, NoField};
use super::names::{ResourceId, ServiceName};
use super::rollout::RolloutPolicy;
use super::windows::Windows;

/// How a resource is taken care of, beside what it shall look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    /// It is left alone: no step at all.
    pub suspend: bool,
    /// It goes when the manifests no longer describe it. False: it stays.
    pub prune: bool,
    /// Services and assets in its place that carry no owner are taken over. What belongs to another instance is not: two
    /// instances whose manifests both said so would take it from each other for ever.
    #[serde(default)]
    pub adopt: bool,
    /// Fields whose live value is left alone. Sorted, each once.
    pub ignore: Vec<IgnoredField>,
    /// When its changes may go out. What it does not say is taken from the setting (`Windows::over`).
    #[serde(default, skip_serializing_if = "Windows::is_default")]
    pub windows: Windows,
    /// It is created or changed only when these are in sync and run. Sorted, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ResourceId>,
    /// How changes of what its file describes go out; none as everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Arc<RolloutPolicy>>,
}

impl Default for Handling {
    fn default() -> Self {
        Handling {
            suspend: false,
            prune: true,
            adopt: false,
            ignore: Vec::new(),
            after: Vec::new(),
            rollout: None,
            windows: Windows::default(),
        }
    }
}

impl Handling {
    /// Whether the manifest says nothing special.
    pub fn is_default(&self) -> bool {
        *self == Handling::default()
    }

    /// The fields of one service that are left alone.
    pub fn ignored<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a Field> + Clone {
        let concerns = move |ignored: &&IgnoredField| ignored.service.as_ref().is_none_or(|only| only == service);
        self.ignore.iter().filter(concerns).map(|ignored| &ignored.field)
    }

    /// Whether a field of a service is left alone.
    pub fn ignores(&self, service: &ServiceName, field: &Field) -> bool {
        !self.ignore.is_empty() && self.ignored(service).any(|ignored| ignored == field)
    }
}

/// A field that is left alone, of one service of the resource or of all. Written `replicas`,
/// `environment.MODE`, `cnc-1-agent/image`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IgnoredField {
    /// Of this service alone; none for every service of the resource.
    pub service: Option<ServiceName>,
    /// The field.
    pub field: Field,
}

impl fmt::Display for IgnoredField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "{service}/")?;
        }
        write!(f, "{}", self.field)
    }
}

impl FromStr for IgnoredField {
    type Err = NoField;

    /// `FIELD` or `SERVICE/FIELD`. What can be read as a field is one.
    fn from_str(text: &str) -> Result<Self, NoField> {
        match (text.parse(), text.split_once('/')) {
            (Ok(field), _) => Ok(IgnoredField { service: None, field }),
            (Err(NoField::Unknown), Some((service, field))) => match ServiceName::new(service) {
                Ok(service) => Ok(IgnoredField { service: Some(service), field: field.parse()? }),
                Err(_) => Err(NoField::Unknown),
            },
            (Err(error), _) => Err(error),
        }
    }
}

impl<'de> Deserialize<'de> for IgnoredField {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for IgnoredField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fields::OwnedField;

    #[test]
    fn a_field_of_one_service_concerns_no_other() {
        let (agent, producer) = (ServiceName::new("m-agent").unwrap(), ServiceName::new("m-producer").unwrap());
        let ignore = vec![
            IgnoredField { service: None, field: Field::of(OwnedField::Replicas) },
            IgnoredField { service: Some(agent.clone()), field: Field::of(OwnedField::Image) },
        ];
        let handling = Handling { ignore, ..Handling::default() };
        assert!(
            handling.ignores(&agent, &Field::of(OwnedField::Image))
                && !handling.ignores(&producer, &Field::of(OwnedField::Image))
        );
        assert_eq!(handling.ignored(&producer).collect::<Vec<_>>(), [&Field::of(OwnedField::Replicas)]);
    }
}
