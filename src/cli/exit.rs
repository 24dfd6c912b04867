//! Exit codes, and the one place that chooses among them.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `plan`: nothing to do; for `diff`: no difference |
//! | 1 | `plan`: there is something to do, or a conflict for a person to resolve; `diff`: there is a difference; `doctor`: something fails |
//! | 2 | it could not be done: wrong usage or settings, invalid manifests, a server that does not answer |
//! | 3 | `apply`, `down`, `wait`, `reconcile --wait`: some resources could not be converged; `notify test`: a sink did not take the message |
//! | 130 | `apply`, `down`, `wait`, `logs -f`, `get -w`: stopped by a signal before it was done; `run`: by a second signal |

use std::process::ExitCode;

/// How a command ended, errors aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Success,
    /// `plan` found something to do, or a conflict; `diff` found a difference; `doctor` something to mend.
    Changes,
    /// It could not be done; what is wrong has been printed.
    Failure,
    /// Some resources could not be converged; which ones has been printed.
    PartlyFailed,
    /// A second signal while finishing.
    Interrupted,
}

impl Exit {
    /// Every way to end.
    pub const ALL: [Exit; 5] = [Exit::Success, Exit::Changes, Exit::Failure, Exit::PartlyFailed, Exit::Interrupted];

    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Changes => 1,
            Exit::Failure => 2,
            Exit::PartlyFailed => 3,
            // What a shell reports for a process that SIGINT ended: 128 + 2.
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 130]);
    }
}
