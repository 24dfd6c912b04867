//! One writer per instance.
//!
//! # Flow
//!
//! ```text
//!  LeaseStore ◄── read, write ── Keeper ── what it saw, what became of it ──► Machine   pure
//!  (labels of the Swarm                │                                        │
//!   config, or a file lock)            │◄── what to write, until when to act ───┘
//!                                      ├──► Fence: asked just before each write
//!                                      └──► LeaseStatus: the loop, the report
//! ```
//!
//! # Guarantees
//!
//! - Of the operators that share an instance, at most one is let through by its fence at any instant. A call that was let
//!   through ends before the lease does ([`Permit::within`]).
//! - What was decided under one acquisition is not carried out under another: terms are numbered, and the fence lets
//!   only the present one through.
//! - A holder that cannot renew stops by itself; a clean stop hands the lease back, and the next operator need not wait.
//!
//! # Caveats
//!
//! What the engine makes of a call that was cut short shows later: it may still be carried out. The machine's own page
//! says what is left where somebody removes the lease by hand.

mod fence;
mod keeper;
pub mod machine;

pub use self::fence::{Fence, Permit};
pub use self::keeper::{Keeper, Leadership};
pub use self::machine::{Candidate, InvalidTerms, Terms};
