//! The engine's JSON, as far as we read it.
//!
//! Only for reading: an update goes by the text as found (`overlay`). Everything may be missing or null, and
//! a word that we do not know stays a word.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Null means the same as absent.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A struct that is read from an object of the engine's with keys in its spelling, `TaskTemplate`.
macro_rules! raw {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty $(= $key:literal)?),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub(in crate::platform) struct $name {
            $(
                #[serde(deserialize_with = "or_default" $(, rename = $key)?)]
                pub(in crate::platform) $field: $kind,
            )*
        }
    };
}

raw!(Version { index: u64 });

raw!(
    /// What tells whether a service changed, without reading the rest.
    Header { id: String = "ID", version: Version, spec: HeaderSpec }
);
raw!(HeaderSpec { name: String });

raw!(Service {
    id: String = "ID",
    version: Version,
    created_at: String,
    spec: Spec,
    previous_spec: Option<IgnoredAny>,
    update_status: UpdateStatus,
});

raw!(Spec {
    name: String,
    labels: BTreeMap<String, String>,
    task_template: TaskTemplate,
    mode: Mode,
    endpoint_spec: EndpointSpec,
    networks: Vec<Attachment>,
    update_config: Option<UpdateConfig>,
});

raw!(UpdateConfig { parallelism: Option<u64>, delay: i64, failure_action: String, monitor: i64, order: String });

raw!(TaskTemplate {
    container_spec: Option<ContainerSpec>,
    resources: Requirements,
    placement: Placement,
    networks: Vec<Attachment>,
    restart_policy: RestartPolicy,
    runtime: String,
});

raw!(RestartPolicy { condition: String, delay: Option<i64>, max_attempts: u64, window: i64 });

raw!(ContainerSpec {
    image: String,
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<String>,
    user: String,
    labels: BTreeMap<String, String>,
    mounts: Vec<Value>,
    ulimits: Vec<Ulimit>,
    healthcheck: HealthConfig,
    stop_grace_period: Option<i64>,
    hostname: String,
});

raw!(
    /// A health check, of a service and of a container alike. Times are in nanoseconds, 0 for the image's own.
    #[derive(PartialEq, Eq)]
    HealthConfig { test: Vec<String>, interval: i64, timeout: i64, retries: i64, start_period: i64 }
);

raw!(Ulimit { name: String, soft: i64, hard: i64 });

raw!(Requirements { limits: Amounts, reservations: Amounts });
raw!(Amounts { nano_cpus: i64 = "NanoCPUs", memory_bytes: i64 });

raw!(Placement { constraints: Vec<String> });

raw!(Attachment { target: String });

raw!(Mode { replicated: Option<Replicated>, global: Option<Value>, replicated_job: Option<Value>, global_job: Option<Value> });
raw!(Replicated { replicas: Option<u64> });

raw!(EndpointSpec { ports: Vec<Port> });
raw!(Port { protocol: String, target_port: u16, published_port: u16, publish_mode: String });

raw!(UpdateStatus { state: String, started_at: String, message: String });

raw!(Task {
    id: String = "ID",
    version: Version,
    service_id: String = "ServiceID",
    slot: u64,
    node_id: String = "NodeID",
    status: TaskStatus,
    desired_state: String,
    created_at: String,
});
raw!(
    /// The spec that a task was made from.
    TaskWithSpec { spec: TaskTemplate }
);
raw!(TaskStatus { timestamp: String, state: String, err: String });

raw!(
    /// One network. Lists call the id `Id`.
    Network { name: String, id: String, scope: String, ingress: bool, config_only: bool }
);

raw!(Config { id: String = "ID", version: Version, spec: ConfigSpec });
raw!(ConfigSpec { name: String, labels: BTreeMap<String, String> });

raw!(Node { id: String = "ID", description: Description, manager_status: Option<ManagerStatus> });
raw!(Description { hostname: String });
raw!(ManagerStatus { leader: bool, reachability: String });

raw!(Event { kind: String = "Type", action: String, actor: Actor });
raw!(Actor { id: String = "ID", attributes: BTreeMap<String, String> });
