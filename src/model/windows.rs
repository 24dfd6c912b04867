//! When changes that come from manifests may go out: rules of the form "from these moments on, for so long".
//!
//! Flow: a manifest or a setting says [`Windows`]; what a resource does not say is taken from the default
//! ([`Windows::over`]); the plan asks [`Windows::state`] with the wall time of its sighting.
//!
//! A rule covers the time from each of its starts on, for its length. It is open when an `allow` rule covers the moment (or
//! there are `deny` rules alone) and no `deny` rule does.
//!
//! # Guarantees
//!
//! - Pure: time zones come from a copy that is part of the program, the time is an argument.
//! - A window of six hours lasts six hours, whatever the clock on the wall does meanwhile.
//! - A start within the hour that a change of the clock leaves out is at the first moment after it; one within the hour that
//!   comes twice is at its first occurrence, unless the rule starts every hour (`*` as the hour): then at both.
//! - [`WindowState`] names the next change as it will be, if it is within [`HORIZON`].

mod cron;
mod length;
mod spans;
mod zone;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

pub use cron::{Cron, CronField, InvalidCron};
pub use length::{InvalidLength, LONGEST, WindowLength};
pub use zone::{Zone, zones};

use spans::open_spans;

/// How far ahead a change is looked for, in seconds: a year.
pub const HORIZON: i64 = 366 * 86_400;

/// A moment of a leap year that begins on a Saturday: whether a list ever opens does not depend on when it is read.
const REFERENCE: i64 = 1_830_297_600;

/// Whether a rule opens or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// `allow`.
    Allow,
    /// `deny`.
    Deny,
}

impl Effect {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        }
    }
}

/// Whether repairs of drift wait for a window as changes do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repairs {
    /// Repairs go on at any time.
    #[default]
    Always,
    /// Repairs wait as well.
    Window,
}

impl Repairs {
    /// What may be written.
    pub const ALL: [&'static str; 2] = ["always", "window"];

    /// `always` or `window`.
    pub fn as_str(self) -> &'static str {
        match self {
            Repairs::Always => "always",
            Repairs::Window => "window",
        }
    }
}

impl FromStr for Repairs {
    type Err = InvalidWindows;

    fn from_str(text: &str) -> Result<Self, InvalidWindows> {
        match text {
            "always" => Ok(Repairs::Always),
            "window" => Ok(Repairs::Window),
            _ => Err(InvalidWindows::Repairs),
        }
    }
}

/// One rule: from each moment that a cron pattern names, in a time zone, for so long.
#[derive(Debug, Clone)]
pub struct WindowRule {
    effect: Effect,
    cron: Cron,
    length: WindowLength,
    zone: Zone,
    /// What it covers of a day without a change of the clock, in seconds from midnight. Sorted, apart from one another.
    day: Arc<[(i64, i64)]>,
}

impl WindowRule {
    /// A rule.
    pub fn new(effect: Effect, cron: Cron, length: WindowLength, zone: Zone) -> Self {
        let mut day: Vec<(i64, i64)> = Vec::new();
        for start in cron.starts() {
            let end = start + length.seconds();
            match day.last_mut() {
                Some(last) if last.1 >= start => last.1 = end,
                Some(_) | None => day.push((start, end)),
            }
        }
        WindowRule { effect, cron, length, zone, day: day.into() }
    }

    /// Whether it opens or closes.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether it ever starts: `0 0 30 2 *` does not.
    pub fn starts(&self) -> bool {
        spans::RuleSpans::new(self, REFERENCE, REFERENCE + HORIZON).next().is_some()
    }
}

impl PartialEq for WindowRule {
    fn eq(&self, other: &Self) -> bool {
        (self.effect, &self.cron, self.length, &self.zone) == (other.effect, &other.cron, other.length, &other.zone)
    }
}

impl Eq for WindowRule {}

impl fmt::Display for WindowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} for {} in {}", self.effect.as_str(), self.cron, self.length, self.zone)
    }
}

impl FromStr for WindowRule {
    type Err = InvalidWindows;

    /// Reads `allow 0 22 * * MON-FRI for 6h in Europe/Berlin`.
    fn from_str(text: &str) -> Result<Self, InvalidWindows> {
        let form = || InvalidWindows::Form(text.to_owned());
        let (effect, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(form)?;
        let effect = match effect {
            "allow" => Effect::Allow,
            "deny" => Effect::Deny,
            _ => return Err(form()),
        };
        let (cron, rest) = rest.split_once(" for ").ok_or_else(form)?;
        let (length, zone) = rest.split_once(" in ").ok_or_else(form)?;
        let cron = cron.parse().map_err(|error| InvalidWindows::Cron(cron.trim().to_owned(), error))?;
        let length = length.parse().map_err(|error| InvalidWindows::Length(length.trim().to_owned(), error))?;
        let zone = Zone::new(zone).ok_or_else(|| InvalidWindows::Zone(zone.trim().to_owned()))?;
        Ok(WindowRule::new(effect, cron, length, zone))
    }
}

/// When changes from manifests may go out. The default says nothing: open at any time.
///
/// As text, in labels, settings and messages: rules and `repairs …` with `; ` between; `open` for a list without rules, and
/// nothing at all where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// In order; none when nothing is said of them. An empty list is open at any time, whatever the default is.
    rules: Option<Arc<[WindowRule]>>,
    /// None when nothing is said of it.
    repairs: Option<Repairs>,
}

/// Whether changes may go out at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowState {
    /// They may.
    Open {
        /// The first moment at which they may no longer; none when there is no such moment within [`HORIZON`].
        until: Option<Timestamp>,
    },
    /// They wait.
    Closed {
        /// The next moment at which they may; none when there is no such moment within [`HORIZON`].
        opens: Option<Timestamp>,
    },
}

impl WindowState {
    /// Whether changes may go out.
    pub fn is_open(self) -> bool {
        match self {
            WindowState::Open { .. } => true,
            WindowState::Closed { .. } => false,
        }
    }

    /// The next change, if there is one within [`HORIZON`].
    pub fn changes(self) -> Option<Timestamp> {
        match self {
            WindowState::Open { until } => until,
            WindowState::Closed { opens } => opens,
        }
    }
}

impl Windows {
    /// What one place says; none for what it does not speak of.
    ///
    /// # Errors
    ///
    /// A rule that never starts, or rules that leave no moment of a year open.
    pub fn new(rules: Option<Vec<WindowRule>>, repairs: Option<Repairs>) -> Result<Self, InvalidWindows> {
        if let Some(rules) = &rules {
            if let Some(index) = rules.iter().position(|rule| !rule.starts()) {
                return Err(InvalidWindows::NeverStarts(index, rules[index].cron.to_string()));
            }
            if open_spans(rules, REFERENCE, REFERENCE + HORIZON).next().is_none() {
                return Err(InvalidWindows::NeverOpens);
            }
        }
        Ok(Windows { rules: rules.map(Into::into), repairs })
    }

    /// What holds where `self` goes before `default`: its list replaces the other list, its `repairs` the other one.
    #[must_use]
    pub fn over(&self, default: &Windows) -> Windows {
        Windows {
            rules: self.rules.as_ref().or(default.rules.as_ref()).cloned(),
            repairs: self.repairs.or(default.repairs),
        }
    }

    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        self.rules.is_none() && self.repairs.is_none()
    }

    /// Whether it is open at any time, so that nobody has to look at the clock.
    pub fn is_always_open(&self) -> bool {
        self.rules().is_empty()
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[WindowRule] {
        self.rules.as_deref().unwrap_or_default()
    }

    /// Whether repairs wait as well.
    pub fn repairs(&self) -> Repairs {
        self.repairs.unwrap_or_default()
    }

    /// Whether changes may go out now, and until or from when. Fractions of a second do not count.
    pub fn state(&self, now: Timestamp) -> WindowState {
        if self.is_always_open() {
            return WindowState::Open { until: None };
        }
        let now = now.as_duration().as_secs() - i64::from(now.as_duration().subsec_nanos() < 0);
        let end = now.saturating_add(HORIZON);
        let within = |at: i64| Some(at).filter(|at| *at <= end).and_then(|at| Timestamp::from_second(at).ok());
        match open_spans(self.rules(), now, end).next() {
            Some((from, to)) if from <= now => WindowState::Open { until: within(to) },
            Some((from, _)) => WindowState::Closed { opens: within(from) },
            None => WindowState::Closed { opens: None },
        }
    }
}

/// What keeps windows from being taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindows {
    /// Not of the form of a rule.
    #[error("`{0}` is not of the form `allow CRON for LENGTH in ZONE` or `deny CRON for LENGTH in ZONE`")]
    Form(String),
    /// A cron pattern that cannot be read.
    #[error("`{0}`: {1}")]
    Cron(String, InvalidCron),
    /// A length that cannot be read.
    #[error("`for {0}`: {1}")]
    Length(String, InvalidLength),
    /// A time zone that there is not.
    #[error("there is no time zone `{0}`")]
    Zone(String),
    /// Neither `always` nor `window`.
    #[error("`repairs` must be `always` or `window`")]
    Repairs,
    /// The rule with this index names no day that there is.
    #[error("`{1}` names no day that there is: the rule never starts")]
    NeverStarts(usize, String),
    /// No moment of a year is open.
    #[error("the windows never open: within a whole year every moment is denied, or not allowed")]
    NeverOpens,
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        let mut part = |f: &mut fmt::Formatter<'_>, part: &dyn fmt::Display| {
            write!(f, "{between}{part}")?;
            between = "; ";
            Ok(())
        };
        match self.rules.as_deref() {
            Some([]) => part(f, &"open")?,
            Some(rules) => rules.iter().try_for_each(|rule| part(f, rule))?,
            None => {}
        }
        match self.repairs {
            Some(repairs) => part(f, &format_args!("repairs {}", repairs.as_str())),
            None => Ok(()),
        }
    }
}

impl FromStr for Windows {
    type Err = InvalidWindows;

    fn from_str(text: &str) -> Result<Self, InvalidWindows> {
        let (mut rules, mut repairs) = (None::<Vec<WindowRule>>, None);
        for part in text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
            match part.strip_prefix("repairs ") {
                Some(text) => repairs = Some(text.trim().parse()?),
                None if part == "open" => rules = Some(rules.unwrap_or_default()),
                None => rules.get_or_insert_default().push(part.parse()?),
            }
        }
        Windows::new(rules, repairs)
    }
}

impl Serialize for Windows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Windows {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
