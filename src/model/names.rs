//! Names, validated where they are made.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name Swarm takes for a service, in bytes (Docker Engine 20.10: `validateServiceSpec`).
pub const MAX_SERVICE_NAME: usize = 63;

/// A text that cannot be the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {reason}")]
pub struct InvalidName {
    /// What the text should have been: "service name", "uuid", …
    pub what: &'static str,
    /// Why it cannot be that, as the end of a sentence.
    pub reason: String,
}

impl InvalidName {
    fn new(what: &'static str, reason: impl Into<String>) -> Self {
        InvalidName { what, reason: reason.into() }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The uuid of an OpenFactory asset: the key of everything that the registry knows about it.
    /// Any text without control characters that is not empty; case matters.
    AssetUuid
}

impl AssetUuid {
    /// Checks a uuid.
    ///
    /// # Errors
    /// When it is empty, longer than 253 bytes, or holds a control character.
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, InvalidName> {
        let uuid = text.as_ref();
        if uuid.is_empty() {
            return Err(InvalidName::new("uuid", "is empty"));
        }
        if uuid.len() > 253 {
            return Err(InvalidName::new("uuid", "is longer than 253 bytes"));
        }
        if uuid.chars().any(char::is_control) {
            return Err(InvalidName::new("uuid", "holds a control character"));
        }
        Ok(AssetUuid(text.into()))
    }
}

name! {
    /// The name of a service (or container), already lower-cased as OpenFactory does.
    ServiceName
}

impl ServiceName {
    /// Lower-cases and checks a service name by Swarm's rule: letters and digits, with single or repeated
    /// `-` or `_` inside, at most [`MAX_SERVICE_NAME`] bytes. Swarm compares names without regard to case.
    ///
    /// # Errors
    /// When Swarm would refuse the name.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        const WHAT: &str = "service name";
        let text = text.to_lowercase();
        if text.is_empty() {
            return Err(InvalidName::new(WHAT, "is empty"));
        }
        if text.len() > MAX_SERVICE_NAME {
            return Err(InvalidName::new(
                WHAT,
                format!("`{text}` has {} characters; Swarm takes at most {MAX_SERVICE_NAME}", text.len()),
            ));
        }
        let bytes = text.as_bytes();
        if let Some(odd) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
            return Err(InvalidName::new(
                WHAT,
                format!("`{}` holds {odd:?}; only letters, digits, `-` and `_` are allowed", text.escape_debug()),
            ));
        }
        if !bytes[0].is_ascii_alphanumeric() || !bytes[bytes.len() - 1].is_ascii_alphanumeric() {
            return Err(InvalidName::new(WHAT, format!("`{text}` must begin and end with a letter or a digit")));
        }
        Ok(ServiceName(text.into()))
    }

    /// The name as OpenFactory writes it into routing rules: everything outside `[a-z0-9-]` becomes `-`,
    /// runs of `-` collapse, ends are trimmed.
    pub fn normal(&self) -> String {
        normal_name(&self.0)
    }
}

/// OpenFactory's normal form of a name for host names and routers: lower case, everything outside
/// `[a-z0-9-]` replaced by `-`, runs collapsed, ends trimmed. May be empty.
pub fn normal_name(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for c in text.to_lowercase().chars() {
        let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        if c == '-' && (normal.is_empty() || normal.ends_with('-')) {
            continue;
        }
        normal.push(c);
    }
    normal.truncate(normal.trim_end_matches('-').len());
    normal
}

name! {
    /// The name of an operator instance: the owner that marks carry. Two operators with different
    /// instance names share a cluster without touching each other's objects.
    InstanceName
}

impl InstanceName {
    /// Checks an instance name: 1 to 63 of `[A-Za-z0-9._-]`.
    ///
    /// # Errors
    /// When it is empty, too long or holds another character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > 63 || !text.chars().all(allowed) {
            return Err(InvalidName::new("instance name", "must be 1 to 63 of `A-Z a-z 0-9 . _ -`"));
        }
        Ok(InstanceName(text.into()))
    }
}

impl<'de> Deserialize<'de> for InstanceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        InstanceName::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// App or device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An entry below `apps:`.
    App,
    /// An entry below `devices:`.
    Device,
}

impl Kind {
    /// Both kinds, in the order in which they are shown.
    pub const ALL: [Kind; 2] = [Kind::App, Kind::Device];

    /// `app` or `device`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::App => "app",
            Kind::Device => "device",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One app or one device, the unit of planning, status, retry and suspension. Written `app/UUID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// App or device.
    pub kind: Kind,
    /// The uuid in the manifest.
    pub uuid: AssetUuid,
}

impl ResourceId {
    /// An app.
    pub fn app(uuid: AssetUuid) -> Self {
        ResourceId { kind: Kind::App, uuid }
    }

    /// A device.
    pub fn device(uuid: AssetUuid) -> Self {
        ResourceId { kind: Kind::Device, uuid }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.uuid)
    }
}

impl std::str::FromStr for ResourceId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (kind, uuid) = text
            .split_once('/')
            .ok_or_else(|| InvalidName::new("resource", "must be written as `app/UUID` or `device/UUID`"))?;
        let kind = match kind {
            "app" | "apps" => Kind::App,
            "device" | "devices" => Kind::Device,
            _ => return Err(InvalidName::new("resource", "must begin with `app/` or `device/`")),
        };
        Ok(ResourceId { kind, uuid: AssetUuid::new(uuid)? })
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which state of the source something comes from: a commit id, or a hash of a directory's content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

impl Revision {
    /// The first 12 characters, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_follow_swarms_rule() {
        for good in ["a", "press_7", "A-1", "a__b", "x".repeat(63).as_str()] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "_a", "a.b", "ä", "a b", "x".repeat(64).as_str()] {
            assert!(ServiceName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn normal_names_collapse_and_trim() {
        assert_eq!(normal_name("PRESS_7"), "press-7");
        assert_eq!(normal_name("__a..b--c__"), "a-b-c");
        assert_eq!(normal_name("___"), "");
    }

    #[test]
    fn resources_read_back_what_they_print() {
        let id: ResourceId = "device/CNC-1".parse().unwrap();
        assert_eq!(id.to_string(), "device/CNC-1");
        assert!("cnc".parse::<ResourceId>().is_err());
        assert!("pod/x".parse::<ResourceId>().is_err());
    }
}
