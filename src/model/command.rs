//! What a person tells a running operator.

use super::names::ResourceId;

/// A word from a person, through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Look again now, forgetting backoff.
    Reconcile {
        /// Removals beyond the prune guard are confirmed, for the next plan only.
        confirm_prune: bool,
    },
    /// Leave a resource alone until it is resumed; none: everything.
    Suspend(Option<ResourceId>),
    /// Take care of a resource again; a rolled-back update may be tried again. None: end the suspension of everything,
    /// which is apart from those of single resources.
    Resume(Option<ResourceId>),
}
