//! Time zones, from the copy of the tz database that is part of the program.

use std::fmt;
use std::sync::LazyLock;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone with its changes, by its name in the tz database: `Europe/Berlin`, `UTC`.
#[derive(Clone)]
pub struct Zone(TimeZone);

/// The names of all zones.
pub fn zones() -> Vec<String> {
    DATABASE.available().map(|name| name.as_str().to_owned()).collect()
}

impl Zone {
    /// The zone of this name, in whatever case it is written; none where there is no such zone.
    pub fn new(name: &str) -> Option<Zone> {
        let zone = DATABASE.get(name.trim()).ok()?;
        zone.iana_name().is_some().then_some(Zone(zone))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// What the clock on the wall shows at a moment, in seconds since the epoch. None at the end of the calendar.
    pub(super) fn civil(&self, at: i64) -> Option<DateTime> {
        let at = Timestamp::from_second(at).ok()?;
        Some(self.0.to_offset(at).to_datetime(at))
    }

    /// When the clock on the wall shows this, in seconds since the epoch: the first time, and the second one if it comes
    /// twice. What it leaves out is at the first moment after that. None at the end of the calendar.
    pub(super) fn moments(&self, civil: DateTime) -> Option<(i64, Option<i64>)> {
        match self.0.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => Some((offset.to_timestamp(civil).ok()?.as_second(), None)),
            AmbiguousOffset::Fold { before, after } => {
                Some((before.to_timestamp(civil).ok()?.as_second(), Some(after.to_timestamp(civil).ok()?.as_second())))
            }
            AmbiguousOffset::Gap { before, .. } => {
                // By the old offset it is at the change or after it.
                let after = before.to_timestamp(civil).ok()?.checked_add(SignedDuration::from_secs(1)).ok()?;
                Some((self.0.preceding(after).next()?.timestamp().as_second(), None))
            }
        }
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.name()).finish()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
