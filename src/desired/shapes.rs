//! What apps and devices consist of: the fields, their kinds, defaults and descriptions.

use super::fields::{Field, INT, Kind, Literal, PORT, Presence, Shape, Strip, TEXT, Unknown};

use super::options::{self, SERVICE, SERVICE_DOC, SERVICE_EXAMPLE};
use super::windows::{REPAIRS, REPAIRS_DOC, WINDOWS, WINDOWS_DOC, WINDOWS_EXAMPLE};

use Presence::{Default, DefaultOrNull, Optional, Required};

const fn field(name: &'static str, kind: Kind, presence: Presence, doc: &'static str) -> Field {
    Field { name, doc, example: "", kind, presence }
}

const STRIPPED: Kind = Kind::Text(Strip::Both);
const PLACE: Kind = Kind::Text(Strip::Python);
/// A number that counts something.
const POSITIVE: Kind = Kind::Int(1, i64::MAX);
const TEXTS: Kind = Kind::List(&TEXT);

/// An entry below `apps:`.
pub(super) static APP: Shape = Shape {
    name: "app",
    doc: "An application: one service on the cluster and its assets in the registry.",
    unknown: Unknown::Refuse,
    fields: &[
        field("uuid", TEXT, Required, "Unique name of the app. Lower-cased it is the name of the service.")
            .such_as("PRESS-7"),
        field("uns", Kind::Levels, Optional, "Place in the unified namespace: level → value."),
        field("image", TEXT, Required, "Container image.").such_as("ghcr.io/plant/press:1.2"),
        field(
            "image_pull_policy",
            Kind::Choice(&["missing", "always"]),
            Default(Literal::Text("missing")),
            "`missing`: pull the image only where it is absent. `always`: follow the tag.",
        ),
        field("runtime_uid", Kind::Int(1, i64::MAX), Optional, "User id of the process; needs `runtime_gid`.")
            .such_as("1000"),
        field("runtime_gid", Kind::Int(1, i64::MAX), Optional, "Group id of the process; needs `runtime_uid`.")
            .such_as("1000"),
        field("environment", TEXTS, Optional, "Environment variables, each written as `NAME=value`."),
        field("storage", Kind::Map(&STORAGE), Optional, "Storage backends by name (letters, digits, `_`, `-`)."),
        field("routing", Kind::Object(&ROUTING), Optional, "How the app is reached through the router."),
        field("metrics", Kind::Object(&METRICS), Optional, "Where the app offers Prometheus metrics."),
        field("networks", TEXTS, Optional, "Docker networks to join, in order."),
        field("deploy", Kind::Object(&DEPLOY), DefaultOrNull(Literal::Empty), "Replicas, resources and placement."),
    ],
};

static ROUTING: Shape = Shape {
    name: "routing",
    doc: "How an app is reached through the router.",
    unknown: Unknown::Warn,
    fields: &[
        field("expose", Kind::Bool, Default(Literal::Bool(false)), "Whether the router forwards requests to the app.")
            .such_as("true"),
        field("port", PORT, Optional, "Port in the container; needed when exposed.").such_as("8000"),
        field("hostname", TEXT, Optional, "A further host name below the base domain.").such_as("press"),
        field("canonical_hostname", TEXT, Optional, "Has no effect: it is made of the uuid."),
        field("alias_hostname", TEXT, Optional, "Has no effect: it is made of `hostname`."),
    ],
};

static METRICS: Shape = Shape {
    name: "metrics",
    doc: "Where an app offers Prometheus metrics.",
    unknown: Unknown::Warn,
    fields: &[
        field("port", PORT, Required, "Port of the metrics endpoint.").such_as("9100"),
        field("path", TEXT, Default(Literal::Text("/metrics")), "Path of the metrics endpoint."),
    ],
};

/// `deploy`, of apps, agents and adapters alike.
pub(super) static DEPLOY: Shape = Shape {
    name: "deploy",
    doc: "Replicas, resources and placement.",
    unknown: Unknown::Warn,
    fields: &[
        field("replicas", INT, DefaultOrNull(Literal::Int(1)), "Number of replicas.").such_as("2"),
        field("resources", Kind::Object(&RESOURCES), Optional, "CPU and memory."),
        field("placement", Kind::Object(&PLACEMENT), Optional, "Which nodes may run it."),
    ],
};

static RESOURCES: Shape = Shape {
    name: "resources",
    doc: "CPU and memory.",
    unknown: Unknown::Warn,
    fields: &[
        field("reservations", Kind::Object(&RESERVATIONS), Optional, "What a node must have free."),
        field("limits", Kind::Object(&LIMITS), Optional, "What may be used at most."),
    ],
};

static RESERVATIONS: Shape = Shape {
    name: "reservations",
    doc: "What a node must have free.",
    unknown: Unknown::Warn,
    fields: &[
        field("cpus", Kind::Float, Optional, "Number of CPUs, such as 0.5.").such_as("0.5"),
        field("memory", TEXT, Optional, "Memory, such as `512Mi` or `1Gi`; without a unit bytes.").such_as("512Mi"),
        field("open_files", POSITIVE, Optional, "Has no effect here: it is a limit."),
    ],
};

static LIMITS: Shape = Shape {
    name: "limits",
    doc: "What may be used at most.",
    unknown: Unknown::Warn,
    fields: &[
        field("cpus", Kind::Float, Optional, "Number of CPUs, such as 0.5.").such_as("0.5"),
        field("memory", TEXT, Optional, "Memory, such as `512Mi` or `1Gi`; without a unit bytes.").such_as("512Mi"),
        field("open_files", POSITIVE, Optional, "Number of open files (ulimit nofile, soft and hard).").such_as("1024"),
    ],
};

static PLACEMENT: Shape = Shape {
    name: "placement",
    doc: "Which nodes may run it.",
    unknown: Unknown::Warn,
    fields: &[field("constraints", TEXTS, Optional, "Constraints on nodes.").such_as("[\"node.role == worker\"]")],
};

const STORAGE: Kind = Kind::Union(&[("nfs", &NFS), ("local", &LOCAL)]);

static NFS: Shape = Shape {
    name: "nfs",
    doc: "A directory of an NFS server.",
    unknown: Unknown::Refuse,
    fields: &[
        field("type", Kind::Choice(&["nfs"]), Required, "Kind of storage."),
        field("description", STRIPPED, Optional, "For people."),
        field("server", PLACE, Required, "Host name, IPv4 address or IPv6 address in brackets.")
            .such_as("nas.plant.example"),
        field("remote_path", PLACE, Required, "Absolute path on the server.").such_as("/exports/press"),
        field("mount_point", STRIPPED, Required, "Absolute path in the container.").such_as("/data"),
        field("mount_options", Kind::MountOptions, Optional, "NFS mount options, such as `ro`."),
    ],
};

static LOCAL: Shape = Shape {
    name: "local",
    doc: "A directory of the host; on the docker platform only.",
    unknown: Unknown::Refuse,
    fields: &[
        field("type", Kind::Choice(&["local"]), Required, "Kind of storage."),
        field("description", STRIPPED, Optional, "For people."),
        field("local_path", PLACE, Required, "Absolute path of an existing directory on the host.")
            .such_as("/srv/press"),
        field("mount_point", TEXT, Required, "Absolute path in the container.").such_as("/data"),
    ],
};

/// An entry below `devices:`.
pub(super) static DEVICE: Shape = Shape {
    name: "device",
    doc: "A device: what connects it, and its assets in the registry.",
    unknown: Unknown::Refuse,
    fields: &[
        field("uuid", TEXT, Required, "Unique name of the device. Lower-cased it begins the names of its services.")
            .such_as("CNC-1"),
        field("uns", Kind::Levels, Optional, "Place in the unified namespace: level → value."),
        field("connector", CONNECTOR, Required, "What connects the device."),
        field(
            "ksql_tables",
            Kind::List(&Kind::Choice(&["device", "producer", "agent"])),
            Optional,
            "ksqlDB tables of the device.",
        ),
    ],
};

const CONNECTOR: Kind = Kind::Union(&[("mtconnect", &MTCONNECT), ("opcua", &OPCUA), ("shdr", &SHDR)]);

static MTCONNECT: Shape = Shape {
    name: "mtconnect",
    doc: "An MTConnect agent, ours or somebody else's.",
    unknown: Unknown::Warn,
    fields: &[
        field("type", Kind::Choice(&["mtconnect"]), Required, "Kind of connector."),
        field("agent", Kind::Object(&AGENT), Required, "The MTConnect agent."),
    ],
};

static AGENT: Shape = Shape {
    name: "agent",
    doc: "An MTConnect agent: with `ip` an external one, else one of ours, with `device_xml` and `adapter`.",
    unknown: Unknown::Refuse,
    fields: &[
        field("ip", TEXT, Optional, "Address of an external agent.").such_as("10.0.0.7"),
        field(
            "port",
            Kind::Int(0, 65535),
            Required,
            "Port of the external agent, or the published port of ours (0: none).",
        )
        .such_as("5000"),
        field("device_xml", TEXT, Optional, "Device model: a path relative to this file, an absolute path, or a URL.")
            .such_as("models/cnc-1.xml"),
        field("adapter", Kind::Object(&ADAPTER), Optional, "The adapter that the agent reads from."),
        field("deploy", Kind::Object(&DEPLOY), Optional, "Resources and placement of agent and producer."),
    ],
};

static ADAPTER: Shape = Shape {
    name: "adapter",
    doc: "An MTConnect adapter: with `ip` an external one, with `image` one of ours.",
    unknown: Unknown::Refuse,
    fields: &[
        field("ip", TEXT, Optional, "Address of an external adapter.").such_as("10.0.0.7"),
        field("image", TEXT, Optional, "Container image of an adapter of ours.").such_as("ghcr.io/plant/adapter:1.0"),
        field("port", PORT, Required, "Port of the adapter.").such_as("7878"),
        field("environment", TEXTS, Optional, "Environment variables, each written as `NAME=value`."),
        field("deploy", Kind::Object(&DEPLOY), Optional, "Resources and placement."),
    ],
};

static OPCUA: Shape = Shape {
    name: "opcua",
    doc: "An OPC UA server, served by a coordinator app.",
    unknown: Unknown::Refuse,
    fields: &[
        field("type", Kind::Choice(&["opcua"]), Required, "Kind of connector."),
        field("server", Kind::Object(&OPCUA_SERVER), Required, "The OPC UA server."),
        field("constants", Kind::Map(&Kind::Object(&OPCUA_CONSTANT)), Optional, "Nodes that are read once."),
        field("variables", Kind::Map(&Kind::Object(&OPCUA_VARIABLE)), Optional, "Nodes that are followed."),
        field("events", Kind::Map(&Kind::Object(&OPCUA_NODE)), Optional, "Nodes that emit events."),
        field("methods", Kind::Map(&Kind::Object(&OPCUA_NODE)), Optional, "Nodes whose methods are offered."),
    ],
};

static OPCUA_SERVER: Shape = Shape {
    name: "opcua_server",
    doc: "An OPC UA server.",
    unknown: Unknown::Refuse,
    fields: &[
        field("uri", TEXT, Required, "Endpoint, such as `opc.tcp://plc:4840`.").such_as("opc.tcp://plc:4840"),
        field(
            "subscription",
            Kind::Object(&OPCUA_SUBSCRIPTION),
            DefaultOrNull(Literal::Empty),
            "Defaults for all variables.",
        ),
    ],
};

/// `server.subscription`.
pub(super) static OPCUA_SUBSCRIPTION: Shape = Shape {
    name: "opcua_subscription",
    doc: "How variables are followed.",
    unknown: Unknown::Refuse,
    fields: &[
        field(
            "publishing_interval",
            Kind::Float,
            DefaultOrNull(Literal::Float(100.0)),
            "Milliseconds between publications.",
        )
        .such_as("100.0"),
        field("queue_size", INT, DefaultOrNull(Literal::Int(1)), "Values kept between publications.").such_as("1"),
        field(
            "sampling_interval",
            Kind::Float,
            DefaultOrNull(Literal::Float(0.0)),
            "Milliseconds between samples; 0: by event.",
        )
        .such_as("50.0"),
    ],
};

const NODE_ID: Field = field("node_id", TEXT, Optional, "Node id.").such_as("ns=3;i=1050");
const BROWSE_PATH: Field = field("browse_path", TEXT, Optional, "Path from the root.").such_as("0:Root/0:Objects/2:X");
const TAG: Field = field("tag", TEXT, Required, "Tag of the data.").such_as("Temperature");

static OPCUA_CONSTANT: Shape = Shape {
    name: "opcua_constant",
    doc: "A node that is read once: `node_id` or `browse_path`, and a tag.",
    unknown: Unknown::Refuse,
    fields: &[NODE_ID, BROWSE_PATH, TAG],
};

static OPCUA_VARIABLE: Shape = Shape {
    name: "opcua_variable",
    doc: "A node that is followed: `node_id` or `browse_path`, and a tag.",
    unknown: Unknown::Refuse,
    fields: &[
        NODE_ID,
        BROWSE_PATH,
        TAG,
        field(
            "access_level",
            Kind::Choice(&["ro", "rw"]),
            Default(Literal::Text("ro")),
            "Read only, or read and write.",
        ),
        field("queue_size", INT, Optional, "Values kept between publications; the server's by default.").such_as("1"),
        field("sampling_interval", Kind::Float, Optional, "Milliseconds between samples; the server's by default.")
            .such_as("50.0"),
        field("deadband", Kind::Float, Default(Literal::Float(0.0)), "Smaller changes are not reported.")
            .such_as("0.1"),
    ],
};

static OPCUA_NODE: Shape = Shape {
    name: "opcua_node",
    doc: "A node: `node_id` or `browse_path`.",
    unknown: Unknown::Refuse,
    fields: &[NODE_ID, BROWSE_PATH],
};

static SHDR: Shape = Shape {
    name: "shdr",
    doc: "An SHDR data source, served by a coordinator app.",
    unknown: Unknown::Refuse,
    fields: &[
        field("type", Kind::Choice(&["shdr"]), Required, "Kind of connector."),
        field("host", TEXT, Required, "Address of the data source.").such_as("10.0.0.9"),
        field("port", PORT, Required, "Port of the data source.").such_as("7878"),
        field("data", Kind::Map(&Kind::Object(&SHDR_DATA)), Default(Literal::Empty), "Data items by name."),
    ],
};

static SHDR_DATA: Shape = Shape {
    name: "shdr_data",
    doc: "A data item.",
    unknown: Unknown::Refuse,
    fields: &[
        field("tag", TEXT, Required, "Tag of the data.").such_as("Temperature"),
        field("type", Kind::Choice(&["Samples", "Events"]), Required, "Kind of data."),
    ],
};

/// `x-ofop`, at the top of a file.
pub(super) static X_OFOP: Shape = Shape {
    name: "x-ofop",
    doc: "How ofop takes care of what this file describes. OpenFactory's own command line ignores it.",
    unknown: Unknown::Refuse,
    fields: &[
        field(
            "suspend",
            Kind::Bool,
            Optional,
            "`true`: everything in this file is left alone, until it says otherwise.",
        )
        .such_as("true"),
        field("prune", Kind::Bool, Optional, "`false`: what this file no longer describes stays, and is not removed.")
            .such_as("false"),
        field("adopt", Kind::Bool, Optional, ADOPT_DOC).such_as("true"),
        field("ignore", IGNORED, Optional, IGNORE_DOC).such_as("[\"replicas\"]"),
        field("windows", WINDOWS, Optional, WINDOWS_DOC).such_as(WINDOWS_EXAMPLE),
        field("repairs", REPAIRS, Optional, REPAIRS_DOC).such_as("window"),
        field("after", TEXTS, Optional, AFTER_DOC).such_as("[\"app/DB\"]"),
        field(options::KEY, SERVICE, Optional, SERVICE_DOC).such_as(SERVICE_EXAMPLE),
        field("rollout", Kind::OffOr(&ROLLOUT), Optional, "How changes of what this file describes go out.")
            .such_as("{\"max_unhealthy\": \"10%\"}"),
        field(
            "resources",
            Kind::Map(&Kind::Object(&X_OFOP_RESOURCE)),
            Optional,
            "The same for single resources of this file, by `app/UUID` or `device/UUID`; it goes before the file's.",
        ),
    ],
};

const ADOPT_DOC: &str = "`true`: services and assets in its place that carry no owner are taken over. What belongs to \
     another instance is taken over by `ofop adopt` alone.";
const IGNORED: Kind = Kind::List(&Kind::FieldPath);
const IGNORE_DOC: &str = "Fields whose live value is left alone, as `ofop plan` writes them: `replicas`, \
     `environment.MODE`, `mounts[/data]`; of one service `cnc-1-agent/image`.";

static X_OFOP_RESOURCE: Shape = Shape {
    name: "x-ofop-resource",
    doc: "How ofop takes care of one resource.",
    unknown: Unknown::Refuse,
    fields: &[
        field("suspend", Kind::Bool, Optional, "`true`: the resource is left alone, until the file says otherwise.")
            .such_as("true"),
        field("prune", Kind::Bool, Optional, "`false`: it stays when this file no longer describes it.")
            .such_as("false"),
        field("adopt", Kind::Bool, Optional, ADOPT_DOC).such_as("true"),
        field("ignore", IGNORED, Optional, IGNORE_DOC).such_as("[\"replicas\"]"),
        field("windows", WINDOWS, Optional, WINDOWS_DOC).such_as(WINDOWS_EXAMPLE),
        field("repairs", REPAIRS, Optional, REPAIRS_DOC).such_as("window"),
        field("after", TEXTS, Optional, AFTER_DOC).such_as("[\"app/DB\"]"),
        field(options::KEY, SERVICE, Optional, SERVICE_DOC).such_as(SERVICE_EXAMPLE),
    ],
};

const AFTER_DOC: &str = "It is created or changed only when these are in sync and run: `app/UUID` or `device/UUID`, of any \
     file. What is said of the file and of the resource adds up.";

static ROLLOUT: Shape = Shape {
    name: "rollout",
    doc: "How changes of what a file describes go out: so many at a time, and no further once one of them breaks \
          something.",
    unknown: Unknown::Refuse,
    fields: &[
        field(
            "max_unhealthy",
            Kind::Amount,
            Optional,
            "How many of the changed resources may be unproven or broken at a time: a number, or a part of them. \
             `25%` unless it is set.",
        )
        .such_as("10%"),
        field("batch", Kind::Int(1, 500), Optional, "How many are changed at a time at most.").such_as("5"),
        field("soak", Kind::Amount, Optional, "How long each must run before the next one; `10s` unless it is set.")
            .such_as("30s"),
        field("canary", TEXTS, Optional, "These go first: `app/UUID` or `device/UUID` of this file.")
            .such_as("[\"app/PRESS-1\"]"),
    ],
};
