//! What a person asks of a running operator, and who asks.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hold::Term;
use super::names::{InstanceName, ResourceId};

/// The name of whoever uses the one API token that has no name of its own.
pub const UNNAMED: &str = "token";

/// In place of a name: nobody gave this command, a word of somebody's ended by itself.
pub const NOBODY: &str = "nobody";

/// A word from a person, through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Look again now, forgetting backoff.
    Reconcile {
        /// Removals beyond the prune guard are confirmed, for the next plan only.
        confirm_prune: bool,
    },
    /// Look again now, forgetting backoff of this resource alone.
    ReconcileOne(ResourceId),
    /// Leave a resource alone until the term is over or it is resumed; none: everything.
    Suspend(Option<ResourceId>, Term),
    /// Take care of a resource again; a rolled-back update may be tried again. None: end the suspension of everything,
    /// which is apart from those of single resources.
    Resume(Option<ResourceId>),
    /// Let no change from manifests go out, of anything, until the term is over or somebody ends it. Repairs go on.
    Freeze(Term),
    /// End the freeze.
    EndFreeze,
    /// Take a resource down, and keep it away until it is resumed, although a manifest describes it.
    Down(ResourceId),
    /// Go on with rollouts that are halted, without what broke, or were given up.
    RolloutResume,
    /// Change nothing more for the revision that is in force.
    RolloutAbort,
    /// Let the changes of a resource out now, whatever its windows say.
    RolloutStart(ResourceId),
    /// Take a resource over: its services and records that carry no owner, and those of the instance that is named.
    Adopt {
        /// The resource, which a manifest describes.
        resource: ResourceId,
        /// From which instance, beside what carries no owner.
        from: Option<InstanceName>,
    },
}

/// The kind of a command: one word for logs, events and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandVerb {
    /// [`Command::Reconcile`] and [`Command::ReconcileOne`].
    Reconcile,
    /// [`Command::Suspend`].
    Suspend,
    /// [`Command::Resume`].
    Resume,
    /// [`Command::Freeze`] and [`Command::EndFreeze`].
    Freeze,
    /// [`Command::Down`].
    Down,
    /// [`Command::Adopt`].
    Adopt,
    /// [`Command::RolloutResume`].
    RolloutResume,
    /// [`Command::RolloutAbort`].
    RolloutAbort,
    /// [`Command::RolloutStart`].
    RolloutStart,
}

impl CommandVerb {
    /// Every kind.
    pub const ALL: [CommandVerb; 9] = [
        CommandVerb::Reconcile,
        CommandVerb::Suspend,
        CommandVerb::Resume,
        CommandVerb::Freeze,
        CommandVerb::Down,
        CommandVerb::Adopt,
        CommandVerb::RolloutResume,
        CommandVerb::RolloutAbort,
        CommandVerb::RolloutStart,
    ];

    /// The word, as the command line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            CommandVerb::Reconcile => "reconcile",
            CommandVerb::Suspend => "suspend",
            CommandVerb::Resume => "resume",
            CommandVerb::Freeze => "freeze",
            CommandVerb::Down => "down",
            CommandVerb::Adopt => "adopt",
            CommandVerb::RolloutResume => "rollout-resume",
            CommandVerb::RolloutAbort => "rollout-abort",
            CommandVerb::RolloutStart => "rollout-start",
        }
    }
}

/// What a token of the API allows. Each role allows what the ones before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To read.
    Read,
    /// To have the operator look again, suspend, resume and freeze.
    Operate,
    /// To remove and to take over: confirmed removals, `down`, `adopt`.
    Confirm,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Role; 3] = [Role::Read, Role::Operate, Role::Confirm];

    /// The word in the token file.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Confirm => "confirm",
        }
    }
}

impl Command {
    /// The least role that allows it.
    pub fn needs(&self) -> Role {
        match self {
            Command::Reconcile { confirm_prune: false }
            | Command::ReconcileOne(_)
            | Command::Suspend(..)
            | Command::Resume(_)
            | Command::Freeze(_)
            | Command::EndFreeze
            | Command::RolloutResume
            | Command::RolloutAbort => Role::Operate,
            Command::Reconcile { confirm_prune: true }
            | Command::Down(_)
            | Command::Adopt { .. }
            | Command::RolloutStart(_) => Role::Confirm,
        }
    }

    /// Its kind.
    pub fn verb(&self) -> CommandVerb {
        match self {
            Command::Reconcile { .. } | Command::ReconcileOne(_) => CommandVerb::Reconcile,
            Command::Suspend(..) => CommandVerb::Suspend,
            Command::Resume(_) => CommandVerb::Resume,
            Command::Freeze(_) | Command::EndFreeze => CommandVerb::Freeze,
            Command::Down(_) => CommandVerb::Down,
            Command::Adopt { .. } => CommandVerb::Adopt,
            Command::RolloutResume => CommandVerb::RolloutResume,
            Command::RolloutAbort => CommandVerb::RolloutAbort,
            Command::RolloutStart(_) => CommandVerb::RolloutStart,
        }
    }

    /// The resource that it is about; none when it is about everything.
    pub fn resource(&self) -> Option<&ResourceId> {
        match self {
            Command::Reconcile { .. }
            | Command::Freeze(_)
            | Command::EndFreeze
            | Command::RolloutResume
            | Command::RolloutAbort => None,
            Command::Suspend(resource, _) | Command::Resume(resource) => resource.as_ref(),
            Command::Adopt { resource, .. }
            | Command::ReconcileOne(resource)
            | Command::Down(resource)
            | Command::RolloutStart(resource) => Some(resource),
        }
    }
}

/// As people read it: `suspend app/PRESS-7`.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb().as_str())?;
        match self {
            Command::Reconcile { confirm_prune: true } => f.write_str(", removals beyond the guard confirmed"),
            Command::Reconcile { confirm_prune: false } | Command::RolloutResume | Command::RolloutAbort => Ok(()),
            Command::Suspend(Some(resource), term) => write!(f, " {resource}{term}"),
            Command::Suspend(None, term) => write!(f, " everything{term}"),
            Command::Resume(Some(resource)) => write!(f, " {resource}"),
            Command::Resume(None) => f.write_str(" everything"),
            Command::Freeze(term) => write!(f, " changes from manifests{term}"),
            Command::EndFreeze => f.write_str(" ended"),
            Command::Adopt { resource, from: Some(from) } => write!(f, " {resource} from instance {from}"),
            Command::Adopt { resource, from: None }
            | Command::ReconcileOne(resource)
            | Command::Down(resource)
            | Command::RolloutStart(resource) => write!(f, " {resource}"),
        }
    }
}

/// Who gave a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The name of the token that came with it, [`UNNAMED`] where that has none. Nothing that a client says of
    /// itself is taken for its name.
    pub name: String,
    /// The IP address that the connection came from, which is that of the proxy where one is in between; none when
    /// the command did not come over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// As people read it: `anna from 10.0.0.7`.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.address {
            Some(address) => write!(f, " from {address}"),
            None => Ok(()),
        }
    }
}

/// A command and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub command: Command,
    /// Who wants it.
    pub actor: Actor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_actors_read_as_words() {
        let app: ResourceId = "app/PRESS-7".parse().unwrap();
        for (command, text) in [
            (Command::Reconcile { confirm_prune: false }, "reconcile"),
            (Command::Reconcile { confirm_prune: true }, "reconcile, removals beyond the guard confirmed"),
            (Command::ReconcileOne(app.clone()), "reconcile app/PRESS-7"),
            (Command::Suspend(Some(app.clone()), Term::default()), "suspend app/PRESS-7"),
            (
                Command::Suspend(None, Term::new("2026-01-02T05:04:05Z".parse().ok(), Some("shift change"))),
                "suspend everything until 2026-01-02T05:04:05Z (shift change)",
            ),
            (Command::Freeze(Term::default()), "freeze changes from manifests"),
            (Command::EndFreeze, "freeze ended"),
            (Command::Adopt { resource: app.clone(), from: None }, "adopt app/PRESS-7"),
            (
                Command::Adopt { resource: app.clone(), from: Some(InstanceName::new("plant2").unwrap()) },
                "adopt app/PRESS-7 from instance plant2",
            ),
            (Command::Down(app.clone()), "down app/PRESS-7"),
            (Command::Resume(Some(app)), "resume app/PRESS-7"),
            (Command::Resume(None), "resume everything"),
        ] {
            assert_eq!(command.to_string(), text);
        }
        let actor = |address: Option<&str>| Actor { name: "anna".into(), address: address.map(str::to_owned) };
        assert_eq!(actor(Some("10.0.0.7")).to_string(), "anna from 10.0.0.7");
        assert_eq!(actor(None).to_string(), "anna");
    }
}
