//! The troubles that a repository can be in, each with its reason.

use crate::model::{SourceTrouble, TroubleReason};

/// It does not answer, breaks off, or makes no sense.
pub(super) fn unreachable(message: impl Into<String>) -> SourceTrouble {
    SourceTrouble::new(TroubleReason::Unreachable, message)
}

/// The server does not let us in.
pub(super) fn denied() -> SourceTrouble {
    SourceTrouble::new(TroubleReason::Denied, "the server refuses our credentials, or wants some")
        .hint("check that the token or key is valid and may read the repository")
}

/// The repository, the branch or the path is not there.
pub(super) fn missing(message: impl Into<String>) -> SourceTrouble {
    SourceTrouble::new(TroubleReason::Missing, message)
}

/// What is fetched cannot be kept.
pub(super) fn disk(message: impl Into<String>) -> SourceTrouble {
    SourceTrouble::new(TroubleReason::Disk, message)
        .hint("check the owner, mode and free space of the state directory, or choose another `--state-dir`")
}

/// Anything else.
pub(super) fn other(message: impl Into<String>) -> SourceTrouble {
    SourceTrouble::new(TroubleReason::Other, message)
}
