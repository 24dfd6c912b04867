//! What a policy file consists of.

use crate::desired::fields::{Field, INT, Kind, Presence, Shape, TEXT, Unknown};

const fn field(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, doc, example: "", kind, presence: Presence::Optional }
}

const TEXTS: Kind = Kind::List(&TEXT);

/// The whole file.
pub(super) static POLICY: Shape = Shape {
    name: "policy",
    doc: "What the manifests of each folder may ask for.",
    unknown: Unknown::Refuse,
    fields: &[
        field("defaults", Kind::Object(&RULES), "Rules of every folder that has none of its own."),
        field("folders", Kind::Map(&Kind::Object(&RULES)), "Rules by folder, `.` for the root of the source."),
    ],
};

/// The rules of a folder.
pub(super) static RULES: Shape = Shape {
    name: "rules",
    doc: "What the manifests of a folder may ask for.",
    unknown: Unknown::Refuse,
    fields: &[
        field("uuids", TEXTS, "Uuids of apps and devices.").such_as("[\"PRESS-*\"]"),
        field("images", Kind::Object(&IMAGES), "Images of apps and adapters."),
        field("networks", TEXTS, "Networks that apps may join.").such_as("[\"press-net\"]"),
        field("nfs", TEXTS, "NFS servers with a path.").such_as("[\"nas.plant.example:/exports/press\"]"),
        field("host_paths", TEXTS, "Folders of the host, on the docker platform.").such_as("[\"/srv/press\"]"),
        field("mount_points", TEXTS, "Where storage may appear in a container.").such_as("[\"/data\"]"),
        field("constraints", Kind::Object(&CONSTRAINTS), "Placement constraints."),
        field("hosts", TEXTS, "Names of exposed apps below the base domain.").such_as("[\"press-*\"]"),
        field("ports", TEXTS, "Ports that agents may publish.").such_as("[\"7000-7099\"]"),
        field("environment", TEXTS, "Names of environment variables.").such_as("[\"*\"]"),
        field("maximum", Kind::Object(&MAXIMUM), "The most of what can be counted."),
        field(
            "platforms",
            Kind::List(&Kind::Choice(&["swarm", "docker"])),
            "Platforms on which the folder may be used.",
        )
        .such_as("[swarm]"),
        field("x-ofop", TEXTS, "Settings of `x-ofop` that may be used.").such_as("[suspend]"),
    ],
};

static IMAGES: Shape = Shape {
    name: "images",
    doc: "Which images may run.",
    unknown: Unknown::Refuse,
    fields: &[
        field("allow", TEXTS, "`REGISTRY/REPOSITORY`, without tag and digest.").such_as("[\"ghcr.io/plant/**\"]"),
        field("digest", Kind::Choice(&["required", "optional"]), "Whether an image must be named by its digest."),
        field("forbid_tags", TEXTS, "Tags that an image without a digest may not have.").such_as("[latest]"),
    ],
};

static CONSTRAINTS: Shape = Shape {
    name: "constraints",
    doc: "Placement constraints.",
    unknown: Unknown::Refuse,
    fields: &[
        field("allow", TEXTS, "Those that may be used.").such_as("[\"node.labels.line == *\"]"),
        field("require", TEXTS, "Those that each service must have.").such_as("[\"node.role == worker\"]"),
    ],
};

static MAXIMUM: Shape = Shape {
    name: "maximum",
    doc: "The most of what can be counted.",
    unknown: Unknown::Refuse,
    fields: &[
        field("replicas", INT, "Replicas of one app.").such_as("10"),
        field("cpus", Kind::Float, "CPUs of each task; its limit must be named.").such_as("2"),
        field("memory", TEXT, "Memory of each task; its limit must be named.").such_as("2Gi"),
        field("open_files", INT, "Open files of each task.").such_as("65536"),
    ],
};
