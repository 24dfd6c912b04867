//! How far a reading of the registry may be relied on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::names::AssetUuid;

/// What a reading of the registry proves about that which it does not show.
///
/// A record that is shown exists. One that is not shown may be absent, or belong to rows that the server cannot show
/// right now; the mark of its owner likewise. Ownership is taken, and a record newly written, only where the reading is
/// [`Proof::Proven`]. By default everything is: a registry that is one file, or a fake, shows what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Why nothing may be concluded from what the reading lacks, whatever it is about.
    pub doubt: Option<Doubt>,
    /// Assets about which the reading contradicts itself, or the topics behind it.
    pub assets: BTreeMap<AssetUuid, Doubt>,
    /// Assets that are shown without any mark, and have not been for long enough: the mark may be what is not shown.
    pub unmarked: BTreeSet<AssetUuid>,
}

/// Why nobody may take an asset of [`Evidence::unmarked`].
static UNMARKED: LazyLock<Doubt> = LazyLock::new(|| Doubt {
    reason: DoubtReason::Unconfirmed,
    message:
        "an asset that is shown without an owner is nobody's only when readings over 20 s agree on it: no topic tells \
              whether its owner is what they do not show"
            .into(),
    lasting: false,
});

/// Whether something may be concluded about an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof<'a> {
    /// What is shown of it is all there is.
    Proven,
    /// There may be more than what is shown.
    Unproven(&'a Doubt),
}

/// Why a reading proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The kind, for programs.
    pub reason: DoubtReason,
    /// A sentence without a full stop: what does not fit.
    pub message: String,
    /// It has stayed the same for so long that another reading alone will not end it.
    pub lasting: bool,
}

/// The kinds of doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DoubtReason {
    /// Nothing contradicts the reading; a second one, some seconds later, has not confirmed it yet.
    Unconfirmed,
    /// Rows are missing that others, or the topics, say are there.
    Partial,
    /// Rows of the reading before are missing, and nothing says that somebody took them back.
    Lost,
}

impl DoubtReason {
    /// The word, for conditions.
    pub fn as_str(self) -> &'static str {
        match self {
            DoubtReason::Unconfirmed => "RegistryUnconfirmed",
            DoubtReason::Partial => "RegistryPartial",
            DoubtReason::Lost => "RegistryRowsLost",
        }
    }
}

impl Evidence {
    /// Whether the reading proves what it says of an asset.
    pub fn of(&self, asset: &AssetUuid) -> Proof<'_> {
        match self.doubt.as_ref().or_else(|| self.assets.get(asset)) {
            Some(doubt) => Proof::Unproven(doubt),
            None => Proof::Proven,
        }
    }

    /// Whether the reading proves whose an asset is.
    pub fn of_owner(&self, asset: &AssetUuid) -> Proof<'_> {
        match self.of(asset) {
            Proof::Proven if self.unmarked.contains(asset) => Proof::Unproven(&UNMARKED),
            proof => proof,
        }
    }

    /// Whether another reading may end the doubt about everything.
    pub fn awaits_reading(&self) -> bool {
        self.doubt.is_some() || self.assets.values().any(|doubt| !doubt.lasting)
    }
}
