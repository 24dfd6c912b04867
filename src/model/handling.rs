//! What a manifest's `x-ofop` says about how a resource is taken care of.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

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

/// A field of a service, in the words in which plans tell differences. A group without a name means all of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `image`.
    Image,
    /// `command`.
    Command,
    /// `args`.
    Args,
    /// `environment.NAME`, or `environment`.
    Environment(Option<String>),
    /// `user`.
    User,
    /// `labels.KEY`, or `labels`: routing labels of the service and of its containers.
    Labels(Option<String>),
    /// `container_labels.KEY`, or `container_labels`: those of the containers alone.
    ContainerLabels(Option<String>),
    /// `mounts[TARGET]`, or `mounts`.
    Mounts(Option<String>),
    /// `ulimits.NAME`, or `ulimits`.
    Ulimits(Option<String>),
    /// `limits.cpus`, `limits.memory`, or `limits`.
    Limits(Option<Amount>),
    /// `reservations.cpus`, `reservations.memory`, or `reservations`.
    Reservations(Option<Amount>),
    /// `constraints`.
    Constraints,
    /// `networks`.
    Networks,
    /// `replicas`.
    Replicas,
    /// `ports`.
    Ports,
}

/// What limits and reservations are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Amount {
    /// `cpus`.
    Cpus,
    /// `memory`.
    Memory,
}

/// A text that names no field that can be left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoField {
    /// There is no field of this name.
    #[error("there is no such field")]
    Unknown,
    /// The field has nothing below it.
    #[error("`{0}` has nothing below it")]
    NothingBelow(&'static str),
    /// What is below the field is not named, or not as it must be.
    #[error("write `{0}`")]
    Below(&'static str),
}

/// The names of all fields, each with how one below it is written, for the inside of backticks.
pub const FIELDS: [(&str, &str); 15] = [
    ("image", ""),
    ("command", ""),
    ("args", ""),
    ("environment", "environment.NAME"),
    ("user", ""),
    ("labels", "labels.KEY"),
    ("container_labels", "container_labels.KEY"),
    ("mounts", "mounts[/path/in/the/container]"),
    ("ulimits", "ulimits.NAME"),
    ("limits", "limits.cpus` or `limits.memory"),
    ("reservations", "reservations.cpus` or `reservations.memory"),
    ("constraints", ""),
    ("networks", ""),
    ("replicas", ""),
    ("ports", ""),
];

impl FromStr for Field {
    type Err = NoField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let end = text.find(['.', '[']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let Some((name, form)) = FIELDS.into_iter().find(|(field, _)| *field == name) else {
            return Err(NoField::Unknown);
        };
        let plain = |field: Field| if rest.is_empty() { Ok(field) } else { Err(NoField::NothingBelow(name)) };
        let key = || match rest.strip_prefix('.') {
            _ if rest.is_empty() => Ok(None),
            Some(key) if !key.is_empty() => Ok(Some(key.to_owned())),
            Some(_) | None => Err(NoField::Below(form)),
        };
        let amount = || match rest {
            "" => Ok(None),
            ".cpus" => Ok(Some(Amount::Cpus)),
            ".memory" => Ok(Some(Amount::Memory)),
            _ => Err(NoField::Below(form)),
        };
        match name {
            "image" => plain(Field::Image),
            "command" => plain(Field::Command),
            "args" => plain(Field::Args),
            "environment" => key().map(Field::Environment),
            "user" => plain(Field::User),
            "labels" => key().map(Field::Labels),
            "container_labels" => key().map(Field::ContainerLabels),
            "mounts" => match rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                _ if rest.is_empty() => Ok(Field::Mounts(None)),
                Some(target) if !target.is_empty() => Ok(Field::Mounts(Some(target.to_owned()))),
                Some(_) | None => Err(NoField::Below(form)),
            },
            "ulimits" => key().map(Field::Ulimits),
            "limits" => amount().map(Field::Limits),
            "reservations" => amount().map(Field::Reservations),
            "constraints" => plain(Field::Constraints),
            "networks" => plain(Field::Networks),
            "replicas" => plain(Field::Replicas),
            "ports" => plain(Field::Ports),
            _ => Err(NoField::Unknown),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, below) = match self {
            Field::Image => ("image", None),
            Field::Command => ("command", None),
            Field::Args => ("args", None),
            Field::Environment(name) => ("environment", name.as_deref()),
            Field::User => ("user", None),
            Field::Labels(key) => ("labels", key.as_deref()),
            Field::ContainerLabels(key) => ("container_labels", key.as_deref()),
            Field::Mounts(Some(target)) => return write!(f, "mounts[{target}]"),
            Field::Mounts(None) => ("mounts", None),
            Field::Ulimits(name) => ("ulimits", name.as_deref()),
            Field::Limits(amount) => ("limits", amount.map(Amount::as_str)),
            Field::Reservations(amount) => ("reservations", amount.map(Amount::as_str)),
            Field::Constraints => ("constraints", None),
            Field::Networks => ("networks", None),
            Field::Replicas => ("replicas", None),
            Field::Ports => ("ports", None),
        };
        match below {
            Some(below) => write!(f, "{name}.{below}"),
            None => f.write_str(name),
        }
    }
}

impl Amount {
    /// `cpus` or `memory`.
    pub fn as_str(self) -> &'static str {
        match self {
            Amount::Cpus => "cpus",
            Amount::Memory => "memory",
        }
    }
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

    #[test]
    fn a_field_reads_back_as_it_is_written() {
        for text in [
            "image",
            "command",
            "args",
            "environment",
            "environment.MODE",
            "environment.a.b/c",
            "user",
            "labels",
            "labels.traefik.http.routers.ofa-x.rule",
            "container_labels.traefik.enable",
            "mounts",
            "mounts[/data/x]",
            "ulimits.nofile",
            "limits",
            "limits.cpus",
            "reservations.memory",
            "constraints",
            "networks",
            "replicas",
            "ports",
        ] {
            assert_eq!(text.parse::<Field>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn every_listed_name_is_a_field_and_nothing_else_is() {
        for (name, form) in FIELDS {
            assert!(name.parse::<Field>().is_ok(), "{name}");
            assert_eq!(
                form.is_empty(),
                format!("{name}.x").parse::<Field>() == Err(NoField::NothingBelow(name)),
                "{name}"
            );
        }
        for text in [
            "",
            "mode",
            "mark.spec",
            "Image",
            "image ",
            "replicas.x",
            "environment.",
            "mounts[]",
            "mounts./x",
            "limits.x",
        ] {
            assert!(text.parse::<Field>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_field_of_one_service_concerns_no_other() {
        let (agent, producer) = (ServiceName::new("m-agent").unwrap(), ServiceName::new("m-producer").unwrap());
        let ignore = vec![
            IgnoredField { service: None, field: Field::Replicas },
            IgnoredField { service: Some(agent.clone()), field: Field::Image },
        ];
        let handling = Handling { ignore, ..Handling::default() };
        assert!(handling.ignores(&agent, &Field::Image) && !handling.ignores(&producer, &Field::Image));
        assert_eq!(handling.ignored(&producer).collect::<Vec<_>>(), [&Field::Replicas]);
    }
}
