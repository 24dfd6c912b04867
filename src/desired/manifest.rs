//! Manifests after validation: what later stages may rely on.

use std::collections::BTreeMap;

use crate::model::record::Uns;
use crate::model::service::{EnvVar, Mount, Resources};
use crate::model::{AssetUuid, Handling, ResourceId, ServiceOptions};

/// One valid manifest file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Manifest {
    /// Entries below `apps:` in the order of the file.
    pub apps: Vec<App>,
    /// Entries below `devices:` in the order of the file.
    pub devices: Vec<Device>,
    /// Resources that others come after, by each place that names one.
    pub after: Vec<After>,
}

/// A place that says after which resource others come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// The resource that comes first.
    pub first: ResourceId,
    /// Where that stands.
    pub place: Place,
    /// `x-ofop.after[0]`.
    pub path: String,
}

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

/// An application.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Key below `apps:`.
    pub name: String,
    /// Where the entry's key stands.
    pub place: Place,
    /// `uuid`; lower-cased it is a valid service name, replica suffixes included.
    pub uuid: AssetUuid,
    /// `image`.
    pub image: String,
    /// `image_pull_policy`.
    pub pull: PullPolicy,
    /// `runtime_uid` and `runtime_gid`.
    pub user: Option<(u64, u64)>,
    /// Place in the namespace, completed and checked; none when no schema is configured.
    pub uns: Option<Uns>,
    /// `environment` in order, trimmed, split at the first `=`; a name may repeat.
    pub environment: Vec<EnvVar>,
    /// `storage` in order, when given; an empty map is given as well.
    pub storage: Option<Vec<Storage>>,
    /// `routing`, when given.
    pub routing: Option<Routing>,
    /// `metrics`, when given.
    pub metrics: Option<Metrics>,
    /// `networks` in order.
    pub networks: Vec<String>,
    /// `deploy`, defaults filled in.
    pub deploy: Deploy,
    /// What the file's `x-ofop` says about it.
    pub handling: Handling,
    /// What the file's `x-ofop` says of its services.
    pub options: ServiceOptions,
}

/// `image_pull_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Pull when the node does not have the image; a running service is left alone.
    #[default]
    Missing,
    /// Follow the tag.
    Always,
}

/// One entry of `storage`.
#[derive(Debug, Clone, PartialEq)]
pub struct Storage {
    /// Its name below `storage:`.
    pub name: String,
    /// The entry as OpenFactory puts it into the `STORAGE` variable: JSON in Python's style (`", "` and `": "`),
    /// fields in the order of OpenFactory's model, nulls left out.
    pub json: String,
    /// The mount that it means.
    pub mount: Mount,
}

/// `routing`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// Reachable through the router. True only with a port.
    pub expose: bool,
    /// Port in the container, 1–65535.
    pub port: Option<u16>,
    /// Alias under the base domain, as written.
    pub hostname: Option<String>,
}

/// `metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// 1–65535.
    pub port: u16,
    /// URL path.
    pub path: String,
}

/// `deploy`.
#[derive(Debug, Clone, PartialEq)]
pub struct Deploy {
    /// Number of replicas.
    pub replicas: u64,
    /// `resources.limits`; zero CPUs stay apart from none given, since agents and adapters have a default.
    pub limits: Resources,
    /// `resources.reservations`.
    pub reservations: Resources,
    /// `resources.limits.open_files`.
    pub open_files: Option<i64>,
    /// `placement.constraints` in normal form.
    pub constraints: Vec<String>,
}

impl Default for Deploy {
    fn default() -> Self {
        Deploy {
            replicas: 1,
            limits: Resources::default(),
            reservations: Resources::default(),
            open_files: None,
            constraints: Vec::new(),
        }
    }
}

/// A device.
#[derive(Clone, PartialEq)]
pub struct Device {
    /// Key below `devices:`.
    pub name: String,
    /// Where the entry's key stands.
    pub place: Place,
    /// `uuid`; for MTConnect its service names are valid.
    pub uuid: AssetUuid,
    /// Place in the namespace, completed and checked; none when no schema is configured.
    pub uns: Option<Uns>,
    /// `connector`.
    pub connector: Connector,
    /// The device as OpenFactory's model dumps it with nulls: compact JSON, `uns` enriched. The coordinator's
    /// `device_config`.
    pub config_with_nulls: String,
    /// The same without nulls: `CONNECTOR_CONFIG`.
    pub config: String,
    /// What the file's `x-ofop` says about it.
    pub handling: Handling,
    /// What the file's `x-ofop` says of its services.
    pub options: ServiceOptions,
}

/// Without the configuration, which holds the environment of the adapter.
impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.name)
            .field("place", &self.place)
            .field("uuid", &self.uuid)
            .field("uns", &self.uns)
            .field("connector", &self.connector)
            .field("handling", &self.handling)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// `connector`.
#[derive(Debug, Clone, PartialEq)]
pub enum Connector {
    /// `type: mtconnect`.
    Mtconnect(Box<Mtconnect>),
    /// `type: opcua`: no service of its own; `Device::config_with_nulls` says everything.
    Opcua,
    /// `type: shdr`: no service of its own; `Device::config_with_nulls` says everything.
    Shdr,
}

/// An MTConnect connector.
#[derive(Debug, Clone, PartialEq)]
pub struct Mtconnect {
    /// Who runs the agent.
    pub agent: Agent,
    /// `agent.port`: of the external agent, or published by ours (0 = not published).
    pub port: u16,
    /// `agent.deploy`; none when not given. The producer takes its constraints from it.
    pub deploy: Option<Deploy>,
}

/// Who runs the MTConnect agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Agent {
    /// Somebody else, at this address.
    External {
        /// `agent.ip`.
        ip: String,
    },
    /// A service of ours.
    Ours {
        /// `agent.device_xml` as written: a path, `https://…` or `github://…`.
        device_xml: String,
        /// Where it is written.
        device_xml_place: Place,
        /// `agent.adapter`.
        adapter: Adapter,
    },
}

/// `agent.adapter`.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Exactly one of ip and image.
    pub at: AdapterAt,
    /// `port`.
    pub port: u16,
    /// `environment`, as for an app.
    pub environment: Vec<EnvVar>,
    /// `deploy`; none when not given.
    pub deploy: Option<Deploy>,
}

/// Where the adapter runs.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterAt {
    /// Outside, at this address.
    Ip(String),
    /// As a service of ours, from this image.
    Image(String),
}

/// The files that manifests refer to, by the manifest's path and the reference as written: the text, or a
/// sentence saying why it cannot be had.
pub type Attachments = BTreeMap<(String, String), Result<std::sync::Arc<str>, String>>;
