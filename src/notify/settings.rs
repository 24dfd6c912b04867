//! What a notification file says, validated.

use std::collections::BTreeMap;
use std::fmt;

use super::rules::Rule;
use crate::config::Secret;

/// Who is told what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Where messages go.
    pub sinks: BTreeMap<String, Sink>,
    /// What goes where.
    pub rules: Vec<Rule>,
    /// Where people reach the status page, without a slash at its end.
    pub link: Option<String>,
}

impl Settings {
    /// The names of sinks that are told of commits.
    pub fn hosts(&self) -> impl Iterator<Item = &String> {
        self.sinks.iter().filter(|(_, sink)| matches!(sink, Sink::Commit(_))).map(|(name, _)| name)
    }

    /// Every secret, for whoever must not show it.
    pub fn secrets(&self) -> Vec<&str> {
        self.sinks.values().flat_map(Sink::secrets).map(Secret::expose).collect()
    }
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// JSON by HTTP.
    Webhook(Webhook),
    /// An incoming webhook of Slack.
    Slack(Secret),
    /// A workflow of Teams.
    Teams(Secret),
    /// An incoming webhook of Mattermost.
    Mattermost {
        /// The address.
        url: Secret,
        /// Another channel than the webhook's own.
        channel: Option<String>,
    },
    /// A room of Matrix.
    Matrix {
        /// The server, without a slash at its end.
        homeserver: String,
        /// The room's id.
        room: String,
        /// Of the account that writes.
        token: Secret,
    },
    /// Mail.
    Email(Email),
    /// A topic of Kafka.
    Kafka(Kafka),
    /// The state of commits.
    Commit(Host),
}

/// JSON by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The address.
    pub url: Secret,
    /// Signs each message.
    pub secret: Option<Secret>,
    /// Goes with each message.
    pub token: Option<Secret>,
    /// The body; the message's JSON where there is none.
    pub template: Option<String>,
    /// What the template yields.
    pub content_type: String,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// Begins in clear and must become TLS before anything is said.
    StartTls,
    /// TLS from the start.
    Tls,
    /// Not at all.
    None,
}

/// Mail by SMTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// The server's name.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// Who signs in, and with what.
    pub credentials: Option<(String, Secret)>,
    /// The sender.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
}

/// A topic of Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// The topic.
    pub topic: String,
    /// The brokers; the registry's with its options where there are none.
    pub brokers: Option<String>,
    /// Options of librdkafka.
    pub options: BTreeMap<String, Secret>,
}

/// Which host of repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// GitHub.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea and Forgejo, whose API is the same.
    Gitea,
}

/// A repository on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Which one.
    pub kind: HostKind,
    /// The API's address without a slash at its end.
    pub url: String,
    /// OWNER/NAME.
    pub repository: String,
    /// Who writes.
    pub token: Secret,
    /// The name of the status; none for the usual one.
    pub context: Option<String>,
}

impl Sink {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Sink::Webhook(_) => "webhook",
            Sink::Slack(_) => "slack",
            Sink::Teams(_) => "teams",
            Sink::Mattermost { .. } => "mattermost",
            Sink::Matrix { .. } => "matrix",
            Sink::Email(_) => "email",
            Sink::Kafka(_) => "kafka",
            Sink::Commit(Host { kind: HostKind::GitHub, .. }) => "github",
            Sink::Commit(Host { kind: HostKind::GitLab, .. }) => "gitlab",
            Sink::Commit(Host { kind: HostKind::Gitea, .. }) => "gitea",
        }
    }

    fn secrets(&self) -> Vec<&Secret> {
        match self {
            Sink::Webhook(Webhook { url, secret, token, .. }) => {
                std::iter::once(url).chain(secret).chain(token).collect()
            }
            Sink::Slack(url) | Sink::Teams(url) | Sink::Mattermost { url, .. } => vec![url],
            Sink::Matrix { token, .. } | Sink::Commit(Host { token, .. }) => vec![token],
            Sink::Email(email) => email.credentials.iter().map(|(_, password)| password).collect(),
            Sink::Kafka(kafka) => {
                kafka.options.iter().filter(|(name, _)| is_secret_option(name)).map(|(_, value)| value).collect()
            }
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Whether an option of librdkafka holds a secret.
pub(super) fn is_secret_option(name: &str) -> bool {
    ["password", "secret", "key.pem", "keytab"].iter().any(|mark| name.contains(mark))
}
