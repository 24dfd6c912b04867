//! Why a commit is not to be had.

/// Why a commit is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The clone is to blame, and helps by being made anew.
    pub(super) damage: bool,
}

impl Trouble {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Trouble { message: message.into(), hint: None, damage: false }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Trouble { hint: Some(hint.into()), ..self }
    }

    pub(super) fn denied() -> Self {
        Trouble::new("the server refuses our credentials, or wants some")
            .hint("check that the token or key is valid and may read the repository")
    }
}
