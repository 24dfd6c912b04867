//! What verdicts mean to somebody who waits: `ofop apply`, and `ofop reconcile --wait` beside a daemon.
//!
//! # Rules
//!
//! - Settled is reached. What is in progress, and what is blocked and [may settle](BlockKind::may_settle), is waited for.
//! - What can only end badly ends the wait, with the reason, as soon as no resource has steps or held steps left that
//!   time alone lets go: what can be done is done first.
//! - Tasks that failed prove nothing by themselves: they stay in the engine's history while the next one pulls the image
//!   that was missing. Only one that fails while somebody waits, and after the last step, does.
//! - A resource that is left alone is nobody's to wait for.

use std::collections::BTreeMap;

use crate::model::{Block, BlockKind, Progress, ResourceId, Verdict};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Everything is as described, whether or not it runs.
    InSync,
    /// Everything is settled.
    Settled,
}

/// Follows the verdicts while somebody waits.
#[derive(Debug)]
pub struct Waiting {
    goal: Goal,
    /// When the newest task had failed as the resource was first seen blocked by failed tasks.
    failing: BTreeMap<ResourceId, Option<String>>,
}

/// What one look at all verdicts comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Resources that may still get there.
    pub open: BTreeMap<ResourceId, Verdict>,
    /// Resources that only get there when somebody acts.
    pub blocked: BTreeMap<ResourceId, Block>,
    /// Resources that are left alone.
    pub suspended: BTreeMap<ResourceId, Block>,
}

impl Outlook {
    /// What is left when nobody waits any longer: what somebody has to act on, and what each of the others waited for.
    /// What could have settled and did not is blocked like the rest.
    pub fn at_the_end(self) -> (BTreeMap<ResourceId, Block>, BTreeMap<ResourceId, String>) {
        let mut blocked = self.blocked;
        let mut unfinished = BTreeMap::new();
        for (id, verdict) in self.open {
            match verdict {
                Verdict::Settled => {}
                Verdict::InProgress { message, .. } => drop(unfinished.insert(id, message)),
                Verdict::Blocked(block) => drop(blocked.insert(id, block)),
            }
        }
        (blocked, unfinished)
    }

    /// Whether there is nothing left to wait for: all of it is reached, or it can only end badly.
    pub fn is_over(&self) -> bool {
        self.open.is_empty() || (!self.blocked.is_empty() && !self.open.values().any(is_worked_on))
    }
}

/// Whether steps are to be taken, now or in a moment.
fn is_worked_on(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::InProgress { why, .. } => match why {
            Progress::Steps | Progress::Held | Progress::Rollout => true,
            Progress::Successor | Progress::Tasks | Progress::Unread => false,
        },
        Verdict::Settled | Verdict::Blocked(_) => false,
    }
}

impl Waiting {
    /// Nothing has been seen yet.
    pub fn new(goal: Goal) -> Self {
        Waiting { goal, failing: BTreeMap::new() }
    }

    /// Takes in the verdicts of one look.
    pub fn look<'a>(&mut self, verdicts: impl IntoIterator<Item = (&'a ResourceId, Verdict)>) -> Outlook {
        let mut outlook = Outlook::default();
        for (id, verdict) in verdicts {
            match &verdict {
                Verdict::Settled => {}
                Verdict::InProgress { why: Progress::Tasks, .. } if self.goal == Goal::InSync => {}
                Verdict::InProgress { why, .. } => {
                    if *why == Progress::Steps {
                        self.failing.remove(id);
                    }
                    outlook.open.insert(id.clone(), verdict);
                }
                Verdict::Blocked(block) if block.kind == BlockKind::Suspended => {
                    outlook.suspended.insert(id.clone(), block.clone());
                }
                Verdict::Blocked(block) if block.kind.is_about_tasks() && self.goal == Goal::InSync => {}
                Verdict::Blocked(block) if self.may_settle(id, block) => {
                    outlook.open.insert(id.clone(), verdict);
                }
                Verdict::Blocked(block) => {
                    outlook.blocked.insert(id.clone(), block.clone());
                }
            }
        }
        outlook
    }

    fn may_settle(&mut self, id: &ResourceId, block: &Block) -> bool {
        if block.kind.is_about_failed_tasks() {
            let first = self.failing.entry(id.clone()).or_insert_with(|| block.last_failure.clone());
            return *first == block.last_failure;
        }
        // Without waiting for health nothing is gained by waiting for what somebody else may bring.
        self.goal == Goal::Settled && block.kind.may_settle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ResourceId {
        text.parse().unwrap()
    }

    fn blocked(kind: BlockKind, last_failure: Option<&str>) -> Verdict {
        let block = Block::new(kind, &id("app/A"), "why".into());
        Verdict::Blocked(Block { last_failure: last_failure.map(str::to_owned), ..block })
    }

    fn progress(why: Progress) -> Verdict {
        Verdict::InProgress { why, message: "why".into() }
    }

    fn look(waiting: &mut Waiting, verdicts: &[Verdict]) -> Outlook {
        let ids: Vec<ResourceId> = (0..verdicts.len()).map(|number| id(&format!("app/{number}"))).collect();
        waiting.look(ids.iter().zip(verdicts.iter().cloned()))
    }

    #[test]
    fn every_kind_that_cannot_settle_ends_the_wait_and_no_other_does() {
        for kind in BlockKind::ALL.into_iter().filter(|kind| !kind.is_about_failed_tasks()) {
            let seen = look(&mut Waiting::new(Goal::Settled), &[blocked(kind, None)]);
            assert_eq!(seen.is_over(), !kind.may_settle(), "{kind:?}");
            assert_eq!(seen.suspended.len(), usize::from(kind == BlockKind::Suspended), "{kind:?}");
            let seen = look(&mut Waiting::new(Goal::InSync), &[blocked(kind, None)]);
            assert!(seen.is_over(), "{kind:?}");
            assert_eq!(seen.blocked.is_empty(), kind.is_about_tasks() || kind == BlockKind::Suspended, "{kind:?}");
        }
    }

    #[test]
    fn failed_tasks_end_the_wait_once_another_one_fails_after_the_last_step() {
        for kind in BlockKind::ALL.into_iter().filter(|kind| kind.is_about_failed_tasks()) {
            let mut waiting = Waiting::new(Goal::Settled);
            let mut over = |verdict: Verdict| look(&mut waiting, &[verdict]).is_over();
            assert!(!over(blocked(kind, Some("1"))) && !over(blocked(kind, Some("1"))), "the history proves nothing");
            assert!(!over(progress(Progress::Steps)));
            assert!(!over(blocked(kind, Some("2"))), "it failed before the step, as far as can be told");
            assert!(!over(progress(Progress::Tasks)));
            assert!(over(blocked(kind, Some("3"))), "{kind:?}");
            assert!(look(&mut Waiting::new(Goal::InSync), &[blocked(kind, Some("1"))]).is_over());
        }
    }

    #[test]
    fn what_can_be_done_is_done_before_a_wait_ends_badly() {
        for (why, over) in [
            (Progress::Steps, false),
            (Progress::Held, false),
            (Progress::Rollout, false),
            (Progress::Successor, true),
            (Progress::Tasks, true),
            (Progress::Unread, true),
        ] {
            let verdicts = [blocked(BlockKind::Conflict, None), progress(why)];
            let seen = look(&mut Waiting::new(Goal::Settled), &verdicts);
            assert_eq!((seen.is_over(), seen.blocked.len(), seen.open.len()), (over, 1, 1), "{why:?}");
            assert!(!look(&mut Waiting::new(Goal::Settled), &verdicts[1..]).is_over(), "{why:?}");
        }
        assert!(look(&mut Waiting::new(Goal::Settled), &[Verdict::Settled]).is_over());
    }
}
