//! One look at everything, for commands that act on nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::CliError;
use super::adapters::{AnyPlatform, AnyRegistry};
use super::context::Context;
use super::manifests::{self, Manifests};
use super::output::Output;
use super::parts;
use super::sources::AnySource;
use crate::clock::{Clock as _, SystemClock, timestamp};
use crate::desired::Source as _;
use crate::model::{
    Desired, InstanceName, LeaseFound, LeaseStatus, Observed, Plan, Proof, RegistrySnapshot, ResourceId,
};
use crate::plan::{self, Memory, Policy};
use crate::platform::{LeaseStore as _, Platform as _};
use crate::registry::Registry as _;
use crate::report::{LeaseSummary, SourceView, Status};

/// How long a command that acts on nothing waits for a reading of the registry that is proven: longer than the second
/// reading takes where topics are not followed.
const EVIDENCE_WITHIN: Duration = Duration::from_secs(30);
/// After what time a person is told what is waited for.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked, if nothing tells earlier.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What is wanted, and whom to ask what is there.
pub(super) struct OneShot {
    desired: Arc<Desired>,
    source: Arc<AnySource>,
    platform: Arc<AnyPlatform>,
    registry: Arc<AnyRegistry>,
    policy: Policy,
    clock: SystemClock,
}

/// What one look saw and would do.
pub(super) struct Look {
    /// What is wanted.
    pub(super) desired: Arc<Desired>,
    /// What is.
    pub(super) observed: Observed,
    /// What a pass would do.
    pub(super) plan: Plan,
}

impl OneShot {
    /// Reads the manifests. With paths, only what they describe counts.
    ///
    /// # Errors
    /// When a path cannot be read, or the state directory cannot be used.
    pub(super) async fn open(context: &Context, given: &[PathBuf]) -> Result<Self, CliError> {
        let Manifests { desired, loader } = manifests::read(context, given).await?;
        let mut policy = parts::policy(context);
        if !given.is_empty() {
            policy.scope = Some(desired.resources.keys().cloned().collect());
        }
        OneShot::of(context, &Manifests { desired, loader }, policy)
    }

    /// The same for manifests that were read.
    ///
    /// # Errors
    /// When the state directory cannot be used.
    pub(super) fn of(context: &Context, manifests: &Manifests, policy: Policy) -> Result<Self, CliError> {
        // It writes nothing, and has nothing noted.
        let policy = Policy { run: None, ..policy };
        Ok(OneShot {
            desired: Arc::clone(&manifests.desired),
            source: Arc::clone(manifests.loader.source()),
            platform: parts::platform(context)?,
            registry: parts::registry(context)?,
            policy,
            clock: SystemClock::new(),
        })
    }

    /// Every resource that is described, or of which something carries our mark.
    ///
    /// # Errors
    /// As [`OneShot::look`].
    pub(super) async fn ours(&mut self) -> Result<BTreeSet<ResourceId>, CliError> {
        Ok(self.look().await?.plan.resources.keys().cloned().collect())
    }

    /// The same for one resource, which is looked at as if a person had asked to take it over.
    ///
    /// # Errors
    /// As [`OneShot::open`].
    pub(super) async fn adopting(
        context: &Context,
        resource: &ResourceId,
        from: Option<&InstanceName>,
    ) -> Result<Self, CliError> {
        let mut oneshot = OneShot::open(context, &[]).await?;
        oneshot.policy.scope = Some([resource.clone()].into());
        oneshot.policy.adopt = [(resource.clone(), from.cloned())].into();
        Ok(oneshot)
    }

    /// Where the manifests come from, as people know it.
    pub(super) fn location(&self) -> Arc<str> {
        self.source.place().location
    }

    /// Waits until a reading of the registry is proven: a first one proves nothing of what it does not show. Not for ever,
    /// since a plan that says what it waits for is of use as well.
    pub(super) async fn await_evidence(&self, output: &Output) {
        let mut changes = Box::pin(self.registry.events());
        let begun = self.clock.now();
        let mut told = false;
        // A registry that cannot be read is an error of the look.
        while let Ok(snapshot) = self.registry.observe().await
            && let Some(why) = self.unproven(&snapshot)
        {
            let waited = self.clock.now().saturating_sub(begun);
            if waited >= EVIDENCE_WITHIN {
                return;
            }
            if waited >= TOLD_AFTER && !told {
                told = true;
                output.note(&format!("reading the registry once more: {why}"));
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, changes.next()).await;
        }
    }

    /// Why another reading may prove more: of the whole, or of an asset that the manifests describe.
    fn unproven<'a>(&self, snapshot: &'a RegistrySnapshot) -> Option<&'a str> {
        let evidence = &snapshot.evidence;
        let doubted = || evidence.assets.values().find(|doubt| !doubt.lasting);
        if let Some(doubt) = evidence.doubt.as_ref().or_else(doubted) {
            return Some(&doubt.message);
        }
        if evidence.unmarked.is_empty() {
            return None;
        }
        let mut wanted = self.desired.resources.values().flat_map(|resource| &resource.records);
        wanted.find_map(|record| match evidence.of_owner(record.id().asset()) {
            Proof::Unproven(doubt) if !doubt.lasting => Some(doubt.message.as_str()),
            Proof::Unproven(_) | Proof::Proven => None,
        })
    }

    /// Looks at both sides and plans.
    ///
    /// # Errors
    /// When the engine or the registry cannot be read.
    pub(super) async fn look(&mut self) -> Result<Look, CliError> {
        let follow: BTreeSet<String> = self
            .desired
            .resources
            .values()
            .flat_map(|resource| &resource.services)
            .filter(|service| service.follow_digest)
            .map(|service| service.spec.image.clone())
            .collect();
        let platform = self.platform.observe(&follow).await.map_err(CliError::Platform)?; // I/O
        let registry = self.registry.observe().await.map_err(CliError::Registry)?; // I/O
        let observed = Observed {
            at: self.clock.now(),
            wall: timestamp(self.clock.wall()),
            platform: Some(platform),
            registry: Some(registry),
            registry_stands_in: false,
        };
        let mut memory = Memory::default();
        memory.recall(&observed); // pure
        let plan = plan::plan(&self.desired, &observed, &self.policy, &memory); // pure
        Ok(Look { desired: Arc::clone(&self.desired), observed, plan })
    }

    /// Who holds the lease; none where none is kept, or it cannot be read.
    pub(super) async fn lease(&self) -> Option<LeaseSummary> {
        let seen = self.platform.lease().read_lease().await.ok()?; // I/O
        match seen.found {
            LeaseFound::Record(record) => {
                Some(LeaseSummary::of(&LeaseStatus { record: Some(record), ..LeaseStatus::default() }))
            }
            LeaseFound::Absent | LeaseFound::Unreadable { .. } => None,
        }
    }

    /// Looks at both sides and says how everything is.
    ///
    /// # Errors
    /// As [`OneShot::look`].
    pub(super) async fn status(&mut self) -> Result<Status, CliError> {
        let look = self.look().await?;
        let Look { desired, observed, plan } = &look;
        let place = self.source.place();
        let source = SourceView { place: &place, read_ago: self.source.read_ago() };
        let lease = self.lease().await;
        let status = Status::of(&self.policy.instance, self.clock.wall(), desired, observed, source, Some(plan));
        Ok(Status { lease, ..status })
    }
}
