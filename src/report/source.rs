//! Where manifests come from: how that is shown, and what of it is news.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::status::{PartState, PartStatus};
use crate::clock::rfc3339;
use crate::model::{CommitInfo, Desired, OtherFile, SourceKind, SourcePlace, SourceTrouble, TroubleReason};

/// What a pass knows of the source beside what it read.
#[derive(Debug, Clone, Copy)]
pub struct SourceView<'a> {
    /// Where it is.
    pub place: &'a SourcePlace,
    /// How long ago it last could be read; none if it never could.
    pub read_ago: Option<Duration>,
}

/// Where manifests come from, and how that is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceStatus {
    /// How it is.
    #[serde(flatten)]
    pub part: PartStatus,
    /// What it is; none before the first pass.
    pub kind: Option<SourceKind>,
    /// Paths, or a URL without credentials.
    pub location: String,
    /// Branch, tag or commit that was asked for; none for a repository's default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Folder in the repository; empty for all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The commit in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitStatus>,
    /// Why the newest state is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<TroubleStatus>,
    /// When it last could be read, RFC 3339.
    pub last_read: Option<String>,
    /// Files beside the manifests that are none, the first [`MAX_NOT_MANIFESTS`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_manifests: Vec<OtherFile>,
    /// How many there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_manifests_total: usize,
}

/// How many files that are no manifests a status names: a folder of them by accident must not make it long.
const MAX_NOT_MANIFESTS: usize = 100;

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl SourceStatus {
    pub(super) fn new(
        part: PartStatus,
        view: &SourceView<'_>,
        desired: &Desired,
        wall: SystemTime,
        since: Option<SystemTime>,
    ) -> Self {
        let SourcePlace { kind, location, branch, path } = view.place;
        SourceStatus {
            part,
            kind: Some(*kind),
            location: location.to_string(),
            branch: branch.as_ref().map(ToString::to_string),
            path: path.to_string(),
            commit: desired.commit.as_ref().map(CommitStatus::of),
            trouble: desired.trouble.as_ref().map(|trouble| TroubleStatus::of(trouble, since)),
            last_read: view.read_ago.and_then(|ago| wall.checked_sub(ago)).map(rfc3339),
            not_manifests: desired.others.iter().take(MAX_NOT_MANIFESTS).cloned().collect(),
            not_manifests_total: desired.others.len(),
        }
    }
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatus {
    /// Its full id.
    pub id: String,
    /// The id as people write it.
    pub short: String,
    /// Name of its author.
    pub author: String,
    /// First line of its message.
    pub subject: String,
    /// When it was committed, RFC 3339.
    pub time: String,
    /// Id of the commit before it, which it does not succeed: history was rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
}

impl CommitStatus {
    pub(super) fn of(commit: &CommitInfo) -> Self {
        CommitStatus {
            id: commit.id.to_string(),
            short: commit.short().to_owned(),
            author: commit.author.clone(),
            subject: commit.subject.clone(),
            time: rfc3339(UNIX_EPOCH.checked_add(commit.time).unwrap_or(UNIX_EPOCH)),
            replaced: commit.replaced.as_ref().map(ToString::to_string),
        }
    }
}

/// Why the newest state of the source is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleStatus {
    /// One word for machines.
    pub reason: TroubleReason,
    /// A sentence for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The commit that is there and not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<CommitStatus>,
    /// Since when, RFC 3339; none without a daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl TroubleStatus {
    fn of(trouble: &SourceTrouble, since: Option<SystemTime>) -> Self {
        TroubleStatus {
            reason: trouble.reason,
            message: trouble.message.clone(),
            hint: trouble.hint.clone(),
            refused: trouble.refused.as_deref().map(CommitStatus::of),
            since: since.map(rfc3339),
        }
    }
}

/// Something about the source that people want to hear of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEvent {
    /// Its number, in one row with all other events.
    pub sequence: u64,
    /// Wall time, RFC 3339.
    pub time: String,
    /// What happened.
    pub change: SourceChange,
    /// The commit that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitStatus>,
    /// The kind of trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<TroubleReason>,
    /// A sentence for people.
    pub message: String,
}

/// What can happen to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceChange {
    /// A commit came into force.
    Commit,
    /// A commit is there and does not come into force.
    Refused,
    /// It cannot be read.
    Trouble,
    /// Nothing is in its way any more.
    Recovered,
}

impl SourceChange {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceChange::Commit => "commit",
            SourceChange::Refused => "refused",
            SourceChange::Trouble => "trouble",
            SourceChange::Recovered => "recovered",
        }
    }
}

/// What a pass found new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceNews {
    InForce(CommitInfo),
    Trouble(SourceTrouble),
    Recovered,
}

impl SourceEvent {
    pub(super) fn of(sequence: u64, time: String, news: SourceNews) -> Self {
        let event = SourceEvent {
            sequence,
            time,
            change: SourceChange::Recovered,
            commit: None,
            reason: None,
            message: "the newest manifests are in force again".into(),
        };
        match news {
            SourceNews::InForce(commit) => {
                let rewritten = if commit.replaced.is_some() { "in force; history was rewritten" } else { "in force" };
                let commit = Some(CommitStatus::of(&commit));
                SourceEvent { change: SourceChange::Commit, commit, message: rewritten.into(), ..event }
            }
            SourceNews::Trouble(trouble) => SourceEvent {
                change: if trouble.refused.is_some() { SourceChange::Refused } else { SourceChange::Trouble },
                commit: trouble.refused.as_deref().map(CommitStatus::of),
                reason: Some(trouble.reason),
                message: trouble.message,
                ..event
            },
            SourceNews::Recovered => event,
        }
    }
}

/// What was last known, to tell what is new.
#[derive(Debug, Clone, Default)]
pub(super) struct SourceTrack {
    /// Id of the commit in force.
    commit: Option<std::sync::Arc<str>>,
    /// What the trouble is about, and since when it has been about that.
    trouble: Option<(TroubleReason, Option<std::sync::Arc<str>>, SystemTime)>,
}

impl SourceTrack {
    /// Takes in a pass.
    pub(super) fn pass(&mut self, desired: &Desired, wall: SystemTime) -> Vec<SourceNews> {
        let mut news = Vec::new();
        let commit = desired.commit.as_ref();
        let came = commit.filter(|commit| self.commit.as_ref() != Some(&commit.id));
        if let Some(commit) = came {
            self.commit = Some(commit.id.clone());
            news.push(SourceNews::InForce(commit.clone()));
        }
        let about =
            |trouble: &SourceTrouble| (trouble.reason, trouble.refused.as_ref().map(|commit| commit.id.clone()));
        match (&desired.trouble, &self.trouble) {
            (Some(trouble), Some((reason, refused, _))) if about(trouble) == (*reason, refused.clone()) => {}
            (Some(trouble), _) => {
                let (reason, refused) = about(trouble);
                self.trouble = Some((reason, refused, wall));
                news.push(SourceNews::Trouble(trouble.clone()));
            }
            (None, Some(_)) => {
                self.trouble = None;
                // A new commit says as much.
                if came.is_none() {
                    news.push(SourceNews::Recovered);
                }
            }
            (None, None) => {}
        }
        news
    }

    /// The trouble's kind, and since when it has been like that.
    pub(super) fn trouble(&self) -> Option<(TroubleReason, SystemTime)> {
        self.trouble.as_ref().map(|(reason, _, since)| (*reason, *since))
    }
}

/// How the source is: down when it could not be read at all, partial when what is in force is not its newest state.
pub(super) fn state(desired: &Desired, error: Option<&SourceTrouble>) -> (PartState, Option<String>) {
    match (error, &desired.trouble) {
        (Some(error), _) => (PartState::Down, Some(error.to_string())),
        (None, Some(trouble)) => {
            let stays = desired.commit.as_ref().map(|commit| format!("; commit {} stays in force", commit.short()));
            (PartState::Partial, Some(format!("{trouble}{}", stays.unwrap_or_default())))
        }
        (None, None) => (PartState::Up, None),
    }
}
