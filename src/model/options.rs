//! What a manifest may set of a service beyond OpenFactory's own keys: `x-ofop: {service: …}`.
//!
//! Every option is owned while it is set, and left as it is found otherwise. An option that was set and is set no longer goes
//! back to the engine's default once; the mark of the service remembers which were ([`super::Mark::options`]).
//!
//! What is observed has a value only where it differs from the engine's default, so that a default that the engine writes
//! out and one that it leaves out compare equal.

use std::time::Duration;

use serde::Serialize;

/// A closed set of words: the variants, how each is written, and all of them.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),*
        }

        impl $name {
            /// How each is written.
            pub const WORDS: [&'static str; [$($word),*].len()] = [$($word),*];

            /// How it is written, by manifests and by the engine alike.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word),*
                }
            }

            /// The one that is written like this.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

choice!(
    /// Which task comes first when one replaces another.
    UpdateOrder {
        /// The old one ends, then the new one starts.
        StopFirst = "stop-first",
        /// The new one runs, then the old one ends.
        StartFirst = "start-first",
    }
);

choice!(
    /// What Swarm does when an update fails.
    FailureAction {
        /// It stops where it is.
        Pause = "pause",
        /// It goes on.
        Continue = "continue",
        /// It goes back to the spec before.
        Rollback = "rollback",
    }
);

choice!(
    /// After which end of a task Swarm starts another one.
    RestartCondition {
        /// After none.
        None = "none",
        /// After an exit code other than 0.
        OnFailure = "on-failure",
        /// After any.
        Any = "any",
    }
);

/// Swarm's order of an update that says nothing of it (swarmkit, `api/defaults`).
pub const DEFAULT_ORDER: UpdateOrder = UpdateOrder::StopFirst;
/// What Swarm does by default when an update fails.
pub const DEFAULT_FAILURE_ACTION: FailureAction = FailureAction::Pause;
/// How long Swarm watches each updated task by default.
pub const DEFAULT_MONITOR: Duration = Duration::from_secs(5);
/// How many tasks Swarm updates at a time by default. An update policy that leaves the number out means all at once.
pub const DEFAULT_PARALLELISM: u64 = 1;
/// How long a task has to end by default, on Swarm and on plain Docker.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);
/// When Swarm starts another task by default.
pub const DEFAULT_CONDITION: RestartCondition = RestartCondition::Any;
/// How long Swarm waits by default before it starts another task.
pub const DEFAULT_RESTART_DELAY: Duration = Duration::from_secs(5);

/// The options of one service. None: as it is found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServiceOptions {
    /// How tasks are replaced.
    pub update: UpdateOptions,
    /// How the engine finds out whether a container works. Owned as a whole.
    pub healthcheck: Option<Healthcheck>,
    /// How long a container has to end before it is killed.
    pub stop_grace_period: Option<Duration>,
    /// When a task that ended is followed by another.
    pub restart: RestartOptions,
    /// Name of the container's host, as it sees it; a template on Swarm. Empty for the engine's choice.
    pub hostname: Option<String>,
}

/// How Swarm replaces tasks. Changing it replaces none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UpdateOptions {
    /// Which task comes first.
    pub order: Option<UpdateOrder>,
    /// What happens when it fails.
    pub failure_action: Option<FailureAction>,
    /// How long each new task is watched for failure.
    pub monitor: Option<Duration>,
    /// How many tasks are replaced at a time; 0 for all.
    pub parallelism: Option<u64>,
    /// How long to wait from one to the next.
    pub delay: Option<Duration>,
}

/// When Swarm starts another task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RestartOptions {
    /// After which end.
    pub condition: Option<RestartCondition>,
    /// How long after it.
    pub delay: Option<Duration>,
    /// How many times within the window; 0 without bound.
    pub max_attempts: Option<u64>,
    /// Within which time attempts are counted; 0 for ever.
    pub window: Option<Duration>,
}

/// How the engine finds out whether a container works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Healthcheck {
    /// Not at all, whatever the image says.
    Disabled,
    /// By a command.
    Probe(Probe),
}

impl Default for Healthcheck {
    /// As the image says.
    fn default() -> Self {
        Healthcheck::Probe(Probe::default())
    }
}

/// A command that tells whether a container works. What is none is as the image says, else the engine's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// `CMD` and its words, or `CMD-SHELL` and a line for the shell; empty for the image's own.
    pub test: Vec<String>,
    /// From one run to the next.
    pub interval: Option<Duration>,
    /// How long a run may take.
    pub timeout: Option<Duration>,
    /// After how many failures in a row the container counts as unhealthy.
    pub retries: Option<u32>,
    /// How long after the start failures do not count.
    pub start_period: Option<Duration>,
}

impl ServiceOptions {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == ServiceOptions::default()
    }

    /// These, and where they say nothing, those `below`.
    #[must_use]
    pub fn over(self, below: &ServiceOptions) -> ServiceOptions {
        let below = below.clone();
        ServiceOptions {
            update: UpdateOptions {
                order: self.update.order.or(below.update.order),
                failure_action: self.update.failure_action.or(below.update.failure_action),
                monitor: self.update.monitor.or(below.update.monitor),
                parallelism: self.update.parallelism.or(below.update.parallelism),
                delay: self.update.delay.or(below.update.delay),
            },
            healthcheck: self.healthcheck.or(below.healthcheck),
            stop_grace_period: self.stop_grace_period.or(below.stop_grace_period),
            restart: RestartOptions {
                condition: self.restart.condition.or(below.restart.condition),
                delay: self.restart.delay.or(below.restart.delay),
                max_attempts: self.restart.max_attempts.or(below.restart.max_attempts),
                window: self.restart.window.or(below.restart.window),
            },
            hostname: self.hostname.or(below.hostname),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_resource_goes_before_what_is_said_of_the_file_option_by_option() {
        let own = ServiceOptions {
            update: UpdateOptions { order: Some(UpdateOrder::StartFirst), ..UpdateOptions::default() },
            healthcheck: Some(Healthcheck::Disabled),
            ..ServiceOptions::default()
        };
        let file = ServiceOptions {
            update: UpdateOptions {
                order: Some(UpdateOrder::StopFirst),
                monitor: Some(Duration::from_secs(9)),
                ..UpdateOptions::default()
            },
            healthcheck: Some(Healthcheck::default()),
            hostname: Some("h".into()),
            ..ServiceOptions::default()
        };
        let both = own.over(&file);
        assert_eq!(both.update.order, Some(UpdateOrder::StartFirst));
        assert_eq!(both.update.monitor, Some(Duration::from_secs(9)));
        assert_eq!(both.healthcheck, Some(Healthcheck::Disabled));
        assert_eq!(both.hostname.as_deref(), Some("h"));
    }

    #[test]
    fn words_read_back() {
        for word in UpdateOrder::WORDS {
            assert_eq!(UpdateOrder::parse(word).map(UpdateOrder::as_str), Some(word));
        }
        for word in FailureAction::WORDS {
            assert_eq!(FailureAction::parse(word).map(FailureAction::as_str), Some(word));
        }
        for word in RestartCondition::WORDS {
            assert_eq!(RestartCondition::parse(word).map(RestartCondition::as_str), Some(word));
        }
        assert_eq!(FailureAction::parse("Rollback"), None);
    }
}
