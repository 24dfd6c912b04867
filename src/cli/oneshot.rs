//! One look at everything, for commands that act on nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::CliError;
use super::adapters::{AnyPlatform, AnyRegistry};
use super::context::Context;
use super::manifests::{self, Manifests};
use super::parts;
use super::sources::AnySource;
use crate::clock::{Clock as _, SystemClock};
use crate::desired::Source as _;
use crate::model::{Desired, Observed, Plan};
use crate::plan::{self, Memory, Policy};
use crate::platform::Platform as _;
use crate::registry::Registry as _;
use crate::report::{SourceView, Status};

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
        Ok(OneShot {
            desired,
            source: Arc::clone(loader.source()),
            platform: parts::platform(context)?,
            registry: parts::registry(context)?,
            policy,
            clock: SystemClock::new(),
        })
    }

    /// Where the manifests come from, as people know it.
    pub(super) fn location(&self) -> Arc<str> {
        self.source.place().location
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
            platform: Some(platform),
            registry: Some(registry),
            registry_stands_in: false,
        };
        let mut memory = Memory::default();
        memory.recall(&observed); // pure
        let plan = plan::plan(&self.desired, &observed, &self.policy, &memory); // pure
        Ok(Look { desired: Arc::clone(&self.desired), observed, plan })
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
        Ok(Status::of(&self.policy.instance, self.clock.wall(), desired, observed, source, Some(plan)))
    }
}
