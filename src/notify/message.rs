//! What is sent: one value for all sinks. As JSON it is what webhooks and Kafka get.

use serde::{Deserialize, Serialize};

use crate::report::concerns::ConcernSeverity;

/// The version of the JSON.
pub const VERSION: u32 = 1;

/// How many items a message names; the others are counted.
pub const MAX_ITEMS: usize = 50;

/// What a message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageStatus {
    /// Something needs a person.
    Failing,
    /// Nothing of what was told needs one any more.
    Recovered,
    /// Something happened; nothing is wrong.
    News,
    /// `ofop notify test`.
    Test,
}

impl MessageStatus {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            MessageStatus::Failing => "failing",
            MessageStatus::Recovered => "recovered",
            MessageStatus::News => "news",
            MessageStatus::Test => "test",
        }
    }
}

/// What became of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Told for the first time.
    Failing,
    /// Told before, and still so.
    Still,
    /// Over.
    Recovered,
    /// Something that happened.
    News,
}

impl Change {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Failing => "failing",
            Change::Still => "still failing",
            Change::Recovered => "recovered",
            Change::News => "news",
        }
    }
}

/// How many of each there are, whether they are named or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Told for the first time.
    pub new: usize,
    /// Over since the last message.
    pub recovered: usize,
    /// In all: what needs a person now.
    pub failing: usize,
    /// Things that happened.
    pub news: usize,
}

/// One thing that a message tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is about: `resource app/PRESS-7`, `file desired/app_x.yml`, `engine`, `rollout everywhere`, …
    pub subject: String,
    /// What became of it.
    pub change: Change,
    /// One word for machines: `image_missing`, `rollout_halted`, `commit`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// How much it matters.
    pub severity: ConcernSeverity,
    /// The resource, `app/PRESS-7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A sentence for people.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// [`VERSION`].
    pub version: u32,
    /// The same for each delivery of this message, and for no other message.
    pub id: String,
    /// When it was decided, RFC 3339.
    pub time: String,
    /// The operator instance.
    pub instance: String,
    /// The rule that it comes from.
    pub rule: String,
    /// What its items have in common, by the rule's `group_by`; empty for all of a rule.
    pub group: String,
    /// What it tells.
    pub status: MessageStatus,
    /// The highest of its items.
    pub severity: ConcernSeverity,
    /// One line for people.
    pub title: String,
    /// How many of each.
    pub counts: Counts,
    /// The first [`MAX_ITEMS`], what is new first.
    pub items: Vec<Item>,
    /// How many more there are.
    pub omitted: usize,
    /// The revision in force.
    pub revision: String,
    /// Where the status page is; of a single resource, its page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// How a commit stands, as hosts of repositories show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitState {
    /// It goes out.
    Pending,
    /// It is in force.
    Success,
    /// Something of it cannot be brought to where it should be, or it is refused.
    Failure,
    /// Another one came before it was in force.
    Superseded,
}

/// What a host of repositories is told of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatus {
    /// The commit's full id.
    pub commit: String,
    /// How it stands.
    pub state: CommitState,
    /// The reason, in one line.
    pub description: String,
    /// Where to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The operator instance.
    pub instance: String,
}

/// What waits for a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "what")]
pub enum Payload {
    /// A message.
    Message(Box<Message>),
    /// The state of a commit.
    Commit(CommitStatus),
}
