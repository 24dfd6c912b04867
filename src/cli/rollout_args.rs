//! Flags that say when and how changes from manifests go out.

use clap::Args;

use crate::config::Flags;

const ROLLOUTS: &str = "Rollouts";

/// When and how changes go out where manifests do not say.
#[derive(Debug, Args)]
pub struct RolloutArgs {
    /// How changes of manifests go out: `off`, or some of `max_unhealthy=25%,batch=5,soak=10s,canary=app/PRESS-1`
    /// [env: OFOP_ROLLOUT] [default: max_unhealthy=25%,soak=10s]
    #[arg(long, value_name = "HOW", help_heading = ROLLOUTS)]
    pub rollout: Option<String>,
    /// When changes from manifests may go out where a manifest says nothing of it: rules `allow CRON for LENGTH in ZONE` and
    /// `deny …` with `;` between them, and `repairs window` where repairs wait as well, as in
    /// "allow 0 22 * * MON-FRI for 6h in Europe/Berlin" [env: OFOP_WINDOWS] [default: at any time]
    #[arg(long, value_name = "RULES", help_heading = ROLLOUTS)]
    pub windows: Option<String>,
}

impl RolloutArgs {
    pub(super) fn add(&self, flags: &mut Flags) {
        if let Some(rollout) = &self.rollout {
            flags.insert("--rollout", rollout.clone());
        }
        if let Some(windows) = &self.windows {
            flags.insert("--windows", windows.clone());
        }
    }
}
