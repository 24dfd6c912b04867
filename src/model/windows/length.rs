//! How long a window lasts.

use std::fmt;
use std::str::FromStr;

use crate::model::hold;

/// The longest window, in seconds: seven days. A longer one is a mistake in the unit, or no window.
pub const LONGEST: i64 = 7 * DAY;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long a window lasts: whole minutes, at least one and at most [`LONGEST`]. Written `45m`, `6h`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowLength(i64);

/// A text that is no length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLength {
    /// Not numbers with units.
    #[error("a length is written with its unit, such as `45m`, `6h`, `1h30m` or `2d`")]
    Form,
    /// Nothing.
    #[error("a window lasts a minute or longer")]
    Zero,
    /// More than [`LONGEST`].
    #[error("a window lasts seven days at most")]
    Long,
}

impl WindowLength {
    /// In seconds.
    pub fn seconds(self) -> i64 {
        self.0
    }
}

impl FromStr for WindowLength {
    type Err = InvalidLength;

    fn from_str(text: &str) -> Result<Self, InvalidLength> {
        // A window counts in minutes, as the pattern does that begins it.
        let seconds = hold::seconds(text).filter(|_| !text.contains('s')).ok_or(InvalidLength::Form)?;
        match seconds {
            0 => Err(InvalidLength::Zero),
            _ if seconds > LONGEST => Err(InvalidLength::Long),
            _ => Ok(WindowLength(seconds)),
        }
    }
}

impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (unit, sign) in [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm')] {
            if rest >= unit {
                write!(f, "{}{sign}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}
