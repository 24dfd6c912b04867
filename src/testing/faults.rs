//! What may go wrong.

/// What a fake does to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request never arrives, and the caller knows.
    Refused,
    /// The request never arrives, and the caller cannot know.
    RequestLost,
    /// It is carried out; the answer is lost.
    AnswerLost,
    /// The answer is lost, and it is carried out only seconds later.
    LateCommit,
    /// Somebody else changes the object just before.
    Overtaken,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 5] =
        [Fault::Refused, Fault::RequestLost, Fault::AnswerLost, Fault::LateCommit, Fault::Overtaken];
}

/// How often things go wrong, each in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write meets one of [`Fault::ALL`].
    pub writes: u64,
    /// A read fails as a whole.
    pub reads_fail: u64,
    /// A read is cut short and says so.
    pub reads_incomplete: u64,
    /// A full read misses objects and does not know.
    pub reads_partial: u64,
    /// A full read shows an earlier state and does not know.
    pub reads_stale: u64,
    /// The notes cannot be read.
    pub notes_unread: u64,
    /// A change is not told.
    pub events_lost: u64,
    /// A call takes seconds.
    pub slow: u64,
    /// What was taken back comes back by itself, once.
    pub resurrections: u64,
}

impl Faults {
    /// Everything, often.
    pub const STORM: Faults = Faults {
        writes: 25,
        reads_fail: 10,
        reads_incomplete: 10,
        reads_partial: 10,
        reads_stale: 10,
        notes_unread: 10,
        events_lost: 30,
        slow: 10,
        resurrections: 30,
    };
}
