//! How a resource stands, in one value: settled, in progress, or blocked until somebody acts.
//!
//! The plan computes it once per resource (`plan::judge`). Whoever waits for a resource, lists it or draws it uses this
//! value and judges nothing by itself.

use serde::{Deserialize, Serialize};

use super::names::ResourceId;
use super::outcome::FailureKind;

/// After so many failures in a row nobody should wait for a step any longer, although a daemon goes on trying.
pub const GIVE_UP_AFTER: u32 = 3;

/// How a resource stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Verdict {
    /// It is as described and runs; nothing is to be done and nothing is held.
    Settled,
    /// Steps of the operator, or time, bring it further.
    InProgress {
        /// What it waits for.
        why: Progress,
        /// The same as a sentence, in lower case and without a full stop. Never holds an environment value.
        message: String,
    },
    /// It stays as it is until somebody acts.
    Blocked(Block),
}

/// What a resource in progress waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Steps are planned and not done.
    Steps,
    /// A step is held, or a write does not show yet, which time and another read end.
    Held,
    /// What the same revision brings in is to run first.
    Successor,
    /// Others go first: what it comes after, or the batch before.
    Rollout,
    /// It is in sync, and its tasks are on their way.
    Tasks,
    /// One side could not be read.
    Unread,
}

/// Why a resource stays as it is, and what ends that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What kind of obstacle it is.
    pub kind: BlockKind,
    /// The same as a sentence, in lower case and without a full stop. Never holds an environment value.
    pub message: String,
    /// Where it can be fixed.
    pub fixed_by: FixedBy,
    /// What to do.
    pub hint: String,
    /// When the newest task failed, as the engine writes it (RFC 3339): while it changes, tasks go on failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// Kinds of obstacles. Of several, the first in this order is the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// A user or a manifest has it left alone, or had it taken down.
    Suspended,
    /// Something of it belongs to somebody else, or cannot be understood.
    Conflict,
    /// Somebody undoes changes again and again.
    Contested,
    /// The engine rolled the update back.
    RolledBack,
    /// The engine or the registry refuses a step as it is.
    StepRefused,
    /// A step failed [`GIVE_UP_AFTER`] times in a row.
    StepFailing,
    /// Nodes cannot get the image.
    ImageMissing,
    /// Tasks end again and again.
    RestartLoop,
    /// Nodes refuse the task again and again.
    TaskRejected,
    /// The engine stopped an update half-way.
    UpdatePaused,
    /// No node fulfils what the service asks for.
    NoSuitableNode,
    /// Its tasks have been on their way for longer than the progress deadline.
    ProgressDeadline,
    /// It does not run, for a reason that no other kind names.
    NotRunning,
    /// A network that it needs does not exist.
    MissingNetwork,
    /// A device has no coordinator that is available.
    MissingCoordinator,
    /// Something else that it builds on is not there.
    MissingDependency,
    /// The registry does not prove whose an asset is, and another reading alone will not.
    RegistryUnproven,
    /// Its rollout goes no further.
    RolloutHalted,
    /// Its changes wait for a window, or for the end of a freeze.
    OutsideWindow,
    /// A removal needs a user's confirmation.
    HeldForConfirmation,
    /// A removal waits, since pruning is switched off.
    PruningDisabled,
    /// A file is invalid: what it describes stays as it last was valid, and nothing is removed.
    InvalidManifest,
    /// The file that described it is there and is no manifest any more.
    NoLongerManifest,
    /// A removal waits, since the newest manifests cannot be had or are refused.
    SourceTrouble,
}

/// Where an obstacle can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FixedBy {
    /// In the manifests, or in what they refer to: an image, a program.
    Manifests,
    /// In the cluster: a node, a network, another tool.
    Cluster,
    /// With a command to the operator.
    Command,
}

/// How a resource's steps failed, as far as it is known beside the plan.
#[derive(Debug, Clone, Copy)]
pub struct Failing<'a> {
    /// Failures in a row, races aside.
    pub attempts: u32,
    /// What the last one was.
    pub kind: Option<FailureKind>,
    /// Its message.
    pub message: &'a str,
    /// After how many failures in a row nobody waits any longer.
    pub limit: u32,
}

impl Verdict {
    /// Whether nothing is to be done, nothing is held, and all of it runs.
    pub fn is_settled(&self) -> bool {
        matches!(self, Verdict::Settled)
    }

    /// The obstacle; none for a resource that is not blocked.
    pub fn block(&self) -> Option<&Block> {
        match self {
            Verdict::Blocked(block) => Some(block),
            Verdict::Settled | Verdict::InProgress { .. } => None,
        }
    }

    /// Whether a person should look at the resource.
    pub fn needs_attention(&self) -> bool {
        match self {
            Verdict::Settled => false,
            Verdict::InProgress { why, .. } => *why == Progress::Unread,
            // It goes out by itself, when it shall.
            Verdict::Blocked(block) => block.kind != BlockKind::OutsideWindow,
        }
    }

    /// The verdict on a resource whose steps failed: the plan knows which steps are needed, and not how they went.
    #[must_use]
    pub fn given(&self, id: &ResourceId, failing: Failing<'_>) -> Verdict {
        let Verdict::InProgress { why: Progress::Steps, .. } = self else { return self.clone() };
        let message = failing.message.to_owned();
        if failing.attempts > 0 && failing.kind == Some(FailureKind::Rejected) {
            Verdict::Blocked(Block::new(BlockKind::StepRefused, id, message))
        } else if failing.attempts >= failing.limit.max(1) {
            Verdict::Blocked(Block::new(BlockKind::StepFailing, id, message))
        } else if failing.attempts > 0 {
            Verdict::InProgress { why: Progress::Steps, message }
        } else {
            self.clone()
        }
    }
}

impl Block {
    /// An obstacle of a resource; where it can be fixed and what to do follow from its kind.
    pub fn new(kind: BlockKind, id: &ResourceId, message: String) -> Self {
        Block { kind, message, fixed_by: kind.fixed_by(), hint: kind.hint(id), last_failure: None }
    }
}

impl BlockKind {
    /// Every kind, in order.
    pub const ALL: [BlockKind; 24] = [
        BlockKind::Suspended,
        BlockKind::Conflict,
        BlockKind::Contested,
        BlockKind::RolledBack,
        BlockKind::StepRefused,
        BlockKind::StepFailing,
        BlockKind::ImageMissing,
        BlockKind::RestartLoop,
        BlockKind::TaskRejected,
        BlockKind::UpdatePaused,
        BlockKind::NoSuitableNode,
        BlockKind::ProgressDeadline,
        BlockKind::NotRunning,
        BlockKind::MissingNetwork,
        BlockKind::MissingCoordinator,
        BlockKind::MissingDependency,
        BlockKind::RegistryUnproven,
        BlockKind::RolloutHalted,
        BlockKind::OutsideWindow,
        BlockKind::HeldForConfirmation,
        BlockKind::PruningDisabled,
        BlockKind::InvalidManifest,
        BlockKind::NoLongerManifest,
        BlockKind::SourceTrouble,
    ];

    /// The word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            BlockKind::Suspended => "suspended",
            BlockKind::Conflict => "conflict",
            BlockKind::Contested => "contested",
            BlockKind::RolledBack => "rolled_back",
            BlockKind::StepRefused => "step_refused",
            BlockKind::StepFailing => "step_failing",
            BlockKind::ImageMissing => "image_missing",
            BlockKind::RestartLoop => "restart_loop",
            BlockKind::TaskRejected => "task_rejected",
            BlockKind::UpdatePaused => "update_paused",
            BlockKind::NoSuitableNode => "no_suitable_node",
            BlockKind::ProgressDeadline => "progress_deadline",
            BlockKind::NotRunning => "not_running",
            BlockKind::MissingNetwork => "missing_network",
            BlockKind::MissingCoordinator => "missing_coordinator",
            BlockKind::MissingDependency => "missing_dependency",
            BlockKind::RegistryUnproven => "registry_unproven",
            BlockKind::RolloutHalted => "rollout_halted",
            BlockKind::OutsideWindow => "outside_window",
            BlockKind::HeldForConfirmation => "held_for_confirmation",
            BlockKind::PruningDisabled => "pruning_disabled",
            BlockKind::InvalidManifest => "invalid_manifest",
            BlockKind::NoLongerManifest => "no_longer_manifest",
            BlockKind::SourceTrouble => "source_trouble",
        }
    }

    /// Whether it can end although nobody acts on the resource or its manifest: what is missing may be on its way.
    pub fn may_settle(self) -> bool {
        match self {
            BlockKind::NoSuitableNode
            | BlockKind::ProgressDeadline
            | BlockKind::NotRunning
            | BlockKind::MissingNetwork
            | BlockKind::MissingCoordinator
            | BlockKind::MissingDependency
            | BlockKind::RegistryUnproven
            | BlockKind::SourceTrouble => true,
            BlockKind::Suspended
            | BlockKind::Conflict
            | BlockKind::Contested
            | BlockKind::RolledBack
            | BlockKind::StepRefused
            | BlockKind::StepFailing
            | BlockKind::ImageMissing
            | BlockKind::RestartLoop
            | BlockKind::TaskRejected
            | BlockKind::UpdatePaused
            | BlockKind::RolloutHalted
            | BlockKind::OutsideWindow
            | BlockKind::HeldForConfirmation
            | BlockKind::PruningDisabled
            | BlockKind::InvalidManifest
            | BlockKind::NoLongerManifest => false,
        }
    }

    /// Whether it is about tasks alone: what exists is as described, and does not run.
    pub fn is_about_tasks(self) -> bool {
        self.is_about_failed_tasks()
            || matches!(
                self,
                BlockKind::UpdatePaused
                    | BlockKind::NoSuitableNode
                    | BlockKind::ProgressDeadline
                    | BlockKind::NotRunning
            )
    }

    /// Whether it is known from tasks that failed, which the engine still shows when the next one works.
    pub fn is_about_failed_tasks(self) -> bool {
        matches!(self, BlockKind::ImageMissing | BlockKind::RestartLoop | BlockKind::TaskRejected)
    }

    fn fixed_by(self) -> FixedBy {
        match self {
            BlockKind::RolledBack
            | BlockKind::StepRefused
            | BlockKind::ImageMissing
            | BlockKind::RestartLoop
            | BlockKind::UpdatePaused
            | BlockKind::RolloutHalted
            | BlockKind::InvalidManifest
            | BlockKind::NoLongerManifest
            | BlockKind::SourceTrouble => FixedBy::Manifests,
            BlockKind::Contested
            | BlockKind::StepFailing
            | BlockKind::TaskRejected
            | BlockKind::NoSuitableNode
            | BlockKind::ProgressDeadline
            | BlockKind::NotRunning
            | BlockKind::MissingNetwork
            | BlockKind::MissingCoordinator
            | BlockKind::MissingDependency
            | BlockKind::RegistryUnproven => FixedBy::Cluster,
            BlockKind::Suspended
            | BlockKind::Conflict
            | BlockKind::OutsideWindow
            | BlockKind::HeldForConfirmation
            | BlockKind::PruningDisabled => FixedBy::Command,
        }
    }

    fn hint(self, id: &ResourceId) -> String {
        match self {
            BlockKind::Suspended => {
                format!("`ofop resume {id}` (or `--all`) ends it, unless the manifest's `x-ofop` says `suspend: true`")
            }
            BlockKind::Conflict => format!(
                "`ofop describe {id}` shows whose it is; take it over with `ofop adopt`, remove it, or choose another name \
                 in the manifest"
            ),
            BlockKind::Contested => {
                format!("stop the other tool, or have the resource left alone: `ofop suspend {id}`")
            }
            BlockKind::RolledBack => {
                format!("change the manifest, or try the same again with `ofop resume {id}`")
            }
            BlockKind::StepRefused => "correct the manifest: the same request would be refused again".to_owned(),
            BlockKind::StepFailing => format!("`ofop events --for {id}` shows every attempt"),
            BlockKind::ImageMissing => {
                "push the image, correct `image` in the manifest, or `docker login` to its registry".to_owned()
            }
            BlockKind::RestartLoop => {
                format!("`ofop logs {id}` shows what the program says, `ofop describe {id}` its tasks")
            }
            BlockKind::TaskRejected | BlockKind::NotRunning => format!("`ofop describe {id}` shows its tasks"),
            BlockKind::UpdatePaused => {
                format!("correct the manifest; `ofop describe {id}` shows the tasks that failed")
            }
            BlockKind::NoSuitableNode => {
                "`docker node ls` shows the nodes; correct `constraints` or `resources` in the manifest".to_owned()
            }
            BlockKind::ProgressDeadline => format!("`ofop describe {id}` shows its tasks and their errors"),
            BlockKind::MissingNetwork => {
                "create the network (`docker network create --driver overlay NAME`), or correct the manifest".to_owned()
            }
            BlockKind::MissingCoordinator => {
                "deploy the coordinator, or see why it is not available: `ofop get assets`".to_owned()
            }
            BlockKind::MissingDependency => format!("`ofop describe {id}` shows what it waits for"),
            BlockKind::RegistryUnproven => {
                "see why the registry shows only a part: `ofop get assets`, and the registry's own logs".to_owned()
            }
            BlockKind::RolloutHalted => {
                "correct the manifest of what broke, or go on without it: `ofop rollout resume`".to_owned()
            }
            BlockKind::OutsideWindow => {
                format!("it goes out by itself; `ofop rollout start {id} --now` does not wait for that")
            }
            BlockKind::HeldForConfirmation => {
                "check that the manifests are there; `--confirm-prune` (of `ofop reconcile`, or of `ofop apply` without a \
                 daemon) confirms the removal"
                    .to_owned()
            }
            BlockKind::PruningDisabled => format!("`ofop down {id}` removes it; or switch pruning on"),
            BlockKind::InvalidManifest => "`ofop validate` shows what is wrong".to_owned(),
            BlockKind::NoLongerManifest => "restore the file, or delete it to remove what it described".to_owned(),
            BlockKind::SourceTrouble => "`ofop get` says what is wrong with the source of the manifests".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ResourceId {
        "app/A".parse().unwrap()
    }

    #[test]
    fn every_kind_is_in_order_and_named_as_in_json() {
        assert!(BlockKind::ALL.is_sorted());
        for kind in BlockKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            let verdict = Verdict::Blocked(Block::new(kind, &id(), "why".into()));
            let json = serde_json::to_value(&verdict).unwrap();
            assert_eq!((&json["state"], &json["kind"]), (&"blocked".into(), &kind.as_str().into()));
            assert!(!json["hint"].as_str().unwrap().is_empty());
            assert_eq!(serde_json::from_value::<Verdict>(json).unwrap(), verdict);
        }
        assert_eq!(serde_json::to_value(Verdict::Settled).unwrap(), serde_json::json!({ "state": "settled" }));
    }

    #[test]
    fn failed_steps_block_once_they_are_refused_or_failed_often_enough() {
        let steps = Verdict::InProgress { why: Progress::Steps, message: "1 step to do".into() };
        let given = |verdict: &Verdict, attempts, kind| {
            verdict.given(&id(), Failing { attempts, kind: Some(kind), message: "no", limit: GIVE_UP_AFTER })
        };
        let kind = |verdict: Verdict| verdict.block().map(|block| block.kind);
        assert_eq!(given(&steps, 0, FailureKind::Conflict), steps);
        assert_eq!(kind(given(&steps, 2, FailureKind::Unavailable)), None);
        assert_eq!(kind(given(&steps, 3, FailureKind::Unavailable)), Some(BlockKind::StepFailing));
        assert_eq!(kind(given(&steps, 1, FailureKind::Rejected)), Some(BlockKind::StepRefused));
        assert_eq!(given(&Verdict::Settled, 3, FailureKind::Rejected), Verdict::Settled);
    }
}
