//! What to do, decided: a pure function from what should be and what is to a list of steps.
//!
//! # Flow
//!
//! ```text
//! Desired ──┐
//! Observed ─┼─► plan() ─► Plan { per resource: steps in order, drift, sync, health, conditions, verdict;
//! Policy ───┤                    what becomes of removals }
//! Memory ───┘        Memory::learn(observed, plan, outcomes) ─► the memory of the next pass
//!   ▲
//!   └─ Memory::recall(observed): what was noted before, by us or by a forerunner; before every plan
//! ```
//!
//! A plan examines what may have changed since the one that memory learned from, and takes the rest from there: see
//! `ledger`. From an empty memory it examines everything, with the same result.
//!
//! # Invariants
//!
//! - Idempotent: applying the plan and planning again yields no steps.
//! - A step leaves nothing to decide; it names full ids and versions from the snapshot.
//! - Only what carries our mark, or what adoption rightly takes over, is changed or removed.
//! - No asset is taken over, newly registered or told to a coordinator on a reading of the registry that does not prove
//!   that it is absent, or nobody's.
//! - Nothing is removed on an incomplete read, on one sighting, while any manifest is invalid, or beyond the
//!   guard without a person's word.

mod attempts;
mod contest;
mod context;
mod diff;
mod draft;
mod health;
mod holds;
mod image;
mod join;
mod json;
mod ledger;
mod markdown;
mod memory;
mod notebook;
mod ownership;
mod proof;
mod records;
mod removal;
mod resource;
mod revisions;
mod rollout;
mod services;
mod target;
mod text;
mod verdict;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use self::attempts::{Attempt, Attempts, NotedAttempt};
pub use self::contest::{Contest, Contests};
use self::context::{Context, Recheck};
pub use self::holds::{Ended, Ends, Held};
pub use self::json::to_json;
pub use self::markdown::{MAX_CHARACTERS, to_markdown};
pub use self::memory::{Adoption, Memory, Written};
pub use self::notebook::Notebook;
use self::removal::Pruning;
pub use self::revisions::between;
pub use self::text::{ShowSecrets, TextOptions, differences_to_text, to_text};
pub use self::verdict::judge;
use crate::model::{
    Desired, Examined, Handling, InstanceName, Observed, Plan, ResourceId, RolloutPolicy, RunId, Windows,
};

/// What an operator may do, and its limits. Values, not behaviour.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whose objects are ours.
    pub instance: InstanceName,
    /// Which run of the operator this is; it is written into every mark. None where nothing is written, or nobody asks.
    pub run: Option<RunId>,
    /// Remove what the manifests no longer describe.
    pub prune: bool,
    /// How many resources one plan may remove without a person's word.
    pub guard: Guard,
    /// How long a resource that nothing describes any more may still turn up in another file.
    pub prune_delay: Duration,
    /// A resource goes only when what the same revision brings in runs, or had its time to.
    pub prune_last: bool,
    /// When changes may go out where a manifest does not say.
    pub windows: Windows,
    /// A person has confirmed removals beyond the guard, for this plan.
    pub prune_confirmed: bool,
    /// Plan for these resources alone and leave all others as they are; none for every resource. `apply` and
    /// `down` with paths are scoped to what these paths describe.
    pub scope: Option<BTreeSet<ResourceId>>,
    /// Resources that a person asked to tear down: removed although the manifests describe them, with
    /// [`crate::model::Reason::Requested`], whatever `prune` and the guard say.
    pub remove: BTreeSet<ResourceId>,
    /// Resources whose services and records a person asked to take over, from strangers and from the instance that is
    /// named.
    pub adopt: BTreeMap<ResourceId, Option<InstanceName>>,
    /// How changes go out whose manifests say nothing of it.
    pub rollout: RolloutPolicy,
    /// How long a resource may be on its way before it counts as degraded.
    pub progress_deadline: Duration,
    /// How long something written to the registry may stay invisible before it counts as missing.
    pub expectation: Duration,
}

/// How long a resource may be on its way unless told otherwise: pulling a large image over a factory's line takes
/// minutes.
pub const DEFAULT_PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

/// How long a resource may be missing from all files unless told otherwise: two saves in an editor, a copy over the
/// network and two pushes are some seconds apart.
pub const DEFAULT_PRUNE_DELAY: Duration = Duration::from_secs(10);

/// How long a write may stay invisible unless told otherwise: ksqlDB follows its topics within seconds, and within a
/// minute while it rebalances.
pub const DEFAULT_EXPECTATION: Duration = Duration::from_secs(60);

impl Policy {
    /// The defaults: everything is planned for, and pruned within the default guard.
    pub fn new(instance: InstanceName) -> Self {
        Policy {
            instance,
            run: None,
            prune: true,
            guard: Guard::default(),
            prune_delay: DEFAULT_PRUNE_DELAY,
            prune_last: true,
            windows: Windows::default(),
            prune_confirmed: false,
            scope: None,
            remove: BTreeSet::new(),
            adopt: BTreeMap::new(),
            rollout: RolloutPolicy::default(),
            progress_deadline: DEFAULT_PROGRESS_DEADLINE,
            expectation: DEFAULT_EXPECTATION,
        }
    }

    /// When changes of a resource may go out.
    pub fn windows_of(&self, handling: &Handling) -> Windows {
        handling.windows.over(&self.windows)
    }

    /// How long rows that were taken back must stay away before we let go of the asset: half of the expectation,
    /// which is half a minute by default. An app says `UNAVAILABLE` as it stops, and rows that ksqlDB derives from
    /// earlier messages can come late; both take seconds, unless ksqlDB lags as far behind as the expectation allows.
    pub fn forget_after(&self) -> Duration {
        self.expectation / 2
    }
}

/// The prune guard: a plan that would remove everything, or more than `count` resources and more than
/// `fraction` of those managed, removes nothing. Nor does one that would remove more than half of a small plant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guard {
    /// Default 5.
    pub count: usize,
    /// From 0 to 1, default 0.3.
    pub fraction: f64,
}

/// A plan that removes more than half and leaves at most so many resources empties a small plant: no everyday change.
/// What is left stays the same while a removal goes on, so that one that was allowed is not held half-way.
pub const SMALL_REMAINDER: usize = 2;

impl Guard {
    /// Whether a person has to confirm that `gone` of `all` managed resources go.
    fn asks(self, gone: usize, all: usize) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "counts of resources are far below 2^52")]
        let beyond = |fraction: f64| gone as f64 > fraction * all as f64;
        let many = gone > self.count && beyond(self.fraction);
        let most_of_few = gone > 1 && all.saturating_sub(gone) <= SMALL_REMAINDER && beyond(self.fraction.max(0.5));
        many || most_of_few
    }
}

impl Default for Guard {
    fn default() -> Self {
        Guard { count: 5, fraction: 0.3 }
    }
}

/// Decides what to do. Pure: the same values give the same plan.
///
/// # Guarantees
///
/// - Every resource that is desired, or of which something exists under our mark, is in the plan; with a scope,
///   every such resource of the scope.
/// - Steps of a resource are in the order in which they must be taken; whoever takes them stops at the first that
///   fails. Resources do not depend on one another.
/// - A step that is needed and cannot be taken now is held, with what it waits for.
/// - What it costs grows with what has changed since the plan that memory learned from: a resource of which nothing has
///   changed, which was at rest, and of which memory says nothing is as that plan found it. From
///   [`Memory::default`] everything is looked at, with the same result.
pub fn plan(desired: &Desired, observed: &Observed, policy: &Policy, memory: &Memory) -> Plan {
    let context = Context::new(desired, observed, policy, memory);
    let (ledger, examined) = ledger::advance(&context, observed);
    let ledger = Arc::new(ledger);
    let context = context.with(&ledger);
    let orphans = join::orphans(&context);
    let pruning = Pruning::decide(&context, &orphans);
    let mut recheck = Recheck::default();
    let (mut resources, mut restless) = (memory.planned.clone(), BTreeSet::new());
    let ids: BTreeSet<&ResourceId> = match &examined {
        Examined::Everything => {
            memory.planned.keys().chain(desired.resources.keys()).chain(orphans.keys().copied()).collect()
        }
        Examined::Only(ids) => ids.iter().collect(),
    };
    let prepared = ids.into_iter().map(|id| (id, resource::prepare(&context, id, &orphans, &pruning))).collect();
    let mut rollouts = rollout::Rollouts::decide(&context, &prepared, &orphans, &mut recheck);
    for (id, prepared) in prepared {
        let Some(prepared) = prepared else {
            resources.remove(id);
            continue;
        };
        let plan = resource::finish(&context, id, prepared, &mut rollouts);
        recheck.look(&context, id, &plan);
        if !plan.is_at_rest() {
            restless.insert(id.clone());
        }
        if resources.get(id).is_none_or(|known| **known != plan) {
            resources.insert(id.clone(), Arc::new(plan));
        }
    }
    recheck.expectations(&context);
    recheck.holds(&context);
    Plan {
        revision: desired.revision.clone(),
        resources,
        rollouts: rollouts.state,
        restless,
        examined,
        ledger: Arc::clone(&ledger),
        prune: pruning.verdict,
        guarded: pruning.guarded,
        prune_confirmed: policy.prune_confirmed || memory.confirm_next,
        suspended: memory.suspended_all.clone(),
        freeze: memory.freeze.clone(),
        scoped: policy.scope.is_some(),
        recheck: recheck.soonest,
    }
}

/// What a plan says otherwise than one that examines everything, in words: nothing, or there is a mistake in what it
/// leaves out. It costs a plan of everything; debug builds ask after every plan that they carry out.
pub fn difference_from_whole(
    plan: &Plan,
    desired: &Desired,
    observed: &Observed,
    policy: &Policy,
    memory: &Memory,
) -> Option<String> {
    let whole = self::plan(desired, observed, policy, &memory.without_plans());
    let differs = |id: &&ResourceId| plan.resources.get(*id) != whole.resources.get(*id);
    if let Some(id) = plan.resources.keys().chain(whole.resources.keys()).find(differs) {
        let (one, other) = (plan.resources.get(id), whole.resources.get(id));
        return Some(format!("{id}: {one:#?}, and with everything examined {other:#?}"));
    }
    let rest =
        |plan: &Plan| format!("{:?}", (&plan.restless, plan.recheck, &plan.prune, &plan.guarded, &plan.rollouts));
    (rest(plan) != rest(&whole)).then(|| format!("{}, and with everything examined {}", rest(plan), rest(&whole)))
}
