//! What a notification file consists of.

use super::rules::GroupBy;
use crate::desired::fields::{Field, Kind, Literal, PORT, Presence, Shape, TEXT, Unknown};

const fn field(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, doc, example: "", kind, presence: Presence::Optional }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, doc, example: "", kind, presence: Presence::Required }
}

const TEXTS: Kind = Kind::List(&TEXT);

const TYPE: Field = required("type", TEXT, "What kind of sink it is.");
const URL: Field = field("url", TEXT, "The address, which is a secret.");
const URL_FILE: Field = field("url_file", TEXT, "File with the address.").such_as("/etc/ofop/slack.url");
const TOKEN: Field = field("token", TEXT, "The token.").such_as("${CHAT_TOKEN}");
const TOKEN_FILE: Field = field("token_file", TEXT, "File with the token.").such_as("/etc/ofop/chat.token");

const fn shape(name: &'static str, doc: &'static str, fields: &'static [Field]) -> Shape {
    Shape { name, doc, unknown: Unknown::Refuse, fields }
}

/// The whole file.
pub(super) static NOTIFICATIONS: Shape = shape(
    "notifications",
    "Who is told what.",
    &[
        field("sinks", Kind::Map(&Kind::Union(SINKS)), "Where messages go, by names of your own."),
        field("rules", Kind::List(&Kind::Object(&RULE)), "What goes where."),
        field("link", TEXT, "Where people reach the status page.").such_as("https://ofop.plant.example"),
    ],
);

/// The kinds of sinks.
pub(super) static SINKS: &[(&str, &Shape)] = &[
    ("webhook", &WEBHOOK),
    ("slack", &SLACK),
    ("teams", &TEAMS),
    ("mattermost", &MATTERMOST),
    ("matrix", &MATRIX),
    ("email", &EMAIL),
    ("kafka", &KAFKA),
    ("github", &HOST),
    ("gitlab", &HOST),
    ("gitea", &HOST),
    ("forgejo", &HOST),
];

static WEBHOOK: Shape = shape(
    "webhook",
    "JSON by HTTP.",
    &[
        TYPE,
        URL,
        URL_FILE,
        field("secret", TEXT, "Signs each message.").such_as("${NOTIFY_SECRET}"),
        field("secret_file", TEXT, "File with the secret.").such_as("/etc/ofop/notify.secret"),
        field("token", TEXT, "Goes with each message as `Authorization: Bearer`."),
        TOKEN_FILE,
        field("template", TEXT, "The body, with `{{ title }}` and the other fields of a message."),
        field("content_type", TEXT, "What the template yields; JSON unless given.").such_as("text/plain"),
    ],
);

static SLACK: Shape = shape("slack", "A channel of Slack.", &[TYPE, URL, URL_FILE]);

static TEAMS: Shape = shape("teams", "A workflow of Microsoft Teams.", &[TYPE, URL, URL_FILE]);

static MATTERMOST: Shape = shape(
    "mattermost",
    "A channel of Mattermost.",
    &[TYPE, URL, URL_FILE, field("channel", TEXT, "Another channel than the webhook's own.").such_as("line-2")],
);

static MATRIX: Shape = shape(
    "matrix",
    "A room of Matrix.",
    &[
        TYPE,
        required("homeserver", TEXT, "The server.").such_as("https://matrix.plant.example"),
        required("room", TEXT, "The room's id.").such_as("\"!AbCdEf:plant.example\""),
        TOKEN,
        TOKEN_FILE,
    ],
);

static EMAIL: Shape = shape(
    "email",
    "Mail by SMTP.",
    &[
        TYPE,
        required("server", TEXT, "The server's name.").such_as("mail.plant.example"),
        field("port", PORT, "Its port: 587, of `tls` 465, of `none` 25 unless given."),
        Field {
            presence: Presence::Default(Literal::Text("starttls")),
            ..field("tls", Kind::Choice(&["starttls", "tls", "none"]), "How the connection is protected.")
        },
        field("username", TEXT, "Who signs in."),
        field("password", TEXT, "With what."),
        field("password_file", TEXT, "File with the password.").such_as("/etc/ofop/mail.password"),
        required("from", TEXT, "The sender.").such_as("ofop@plant.example"),
        required("to", TEXTS, "Who gets it.").such_as("[line-2@plant.example]"),
    ],
);

static KAFKA: Shape = shape(
    "kafka",
    "A topic of Kafka.",
    &[
        TYPE,
        required("topic", TEXT, "The topic, which must exist unless the brokers make it.")
            .such_as("ofop_notifications"),
        field("brokers", TEXT, "HOST:PORT, with commas between them; KAFKA_BROKER with its credentials unless given."),
        field("options", Kind::Map(&TEXT), "Options of its client, where `brokers` is given."),
    ],
);

static HOST: Shape = shape(
    "commit status",
    "The state of commits, on the repository's host.",
    &[
        TYPE,
        field("url", TEXT, "The API's address; of github.com and gitlab.com unless given.")
            .such_as("https://git.plant.example"),
        required("repository", TEXT, "OWNER/NAME, on GitLab GROUP/…/NAME or a number.").such_as("plant/factory"),
        TOKEN,
        TOKEN_FILE,
        field("context", TEXT, "The name of the status; `ofop/INSTANCE` unless given."),
    ],
);

/// A rule.
static RULE: Shape = shape(
    "rule",
    "What goes where.",
    &[
        field("name", TEXT, "By which what was told is remembered; the rule's number unless given."),
        required("to", TEXTS, "Sinks.").such_as("[chat]"),
        Field {
            presence: Presence::Default(Literal::Text("warning")),
            ..field("severity", Kind::Choice(&["info", "warning", "critical"]), "The least severity.")
        },
        field("types", TEXTS, "Types; all unless given.").such_as("[rollout_halted, image_missing]"),
        field("kinds", Kind::List(&Kind::Choice(&["app", "device"])), "Apps or devices; all unless given."),
        field("resources", TEXTS, "Patterns of resources; all unless given.").such_as("[\"app/PRESS-*\"]"),
        field("files", TEXTS, "Patterns of manifests; all unless given.").such_as("[\"press/**\"]"),
        field(
            "group_by",
            Kind::List(&Kind::Choice(GroupBy::WORDS)),
            "What is told in one message; by type unless given.",
        ),
        field("wait", Kind::Length, "How long to wait for more.").such_as("10s"),
        field("interval", Kind::Length, "The least time between two messages of a group.").such_as("5m"),
        field("repeat", Kind::Length, "How often what still fails is told again; never unless given.").such_as("12h"),
    ],
);
