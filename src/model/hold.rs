//! What a person said to hold back, since when, until when and why: a suspension, or a freeze.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest reason that is kept, in characters: notes share a Swarm config's labels.
pub const LONGEST_REASON: usize = 200;

/// The longest time that can be said as a length, in seconds: a year. What shall last longer has no end.
pub const LONGEST_TERM: i64 = 366 * 86_400;

/// How long a person's word holds, and why it was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Term {
    /// Wall time at which it ends by itself; none: it ends when somebody says so.
    pub until: Option<Timestamp>,
    /// For people.
    reason: Option<String>,
}

impl Term {
    /// A term. White space and control characters in the reason become single blanks; what is longer than [`LONGEST_REASON`]
    /// is cut.
    pub fn new(until: Option<Timestamp>, reason: Option<&str>) -> Self {
        let words = |text: &str| {
            let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let words: Vec<&str> = printable.split_whitespace().collect();
            words.join(" ").chars().take(LONGEST_REASON).collect::<String>()
        };
        // Notes and messages have whole seconds.
        let until = until.map(|until| Timestamp::from_second(until.as_second()).unwrap_or(until));
        Term { until, reason: reason.map(words).filter(|reason| !reason.is_empty()) }
    }

    /// Why it was said.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether it is over at a wall time.
    pub fn is_over(&self, wall: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= wall)
    }
}

/// ` until 2026-01-02T05:04:05Z (shift change)`, with nothing for what is not said.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

/// A person's word that holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hold {
    /// Wall time at which it was said, RFC 3339.
    pub since: String,
    /// How long, and why.
    pub term: Term,
}

impl Hold {
    /// A word that was said at this wall time, RFC 3339.
    pub fn new(since: &str, term: Term) -> Self {
        Hold { since: since.to_owned(), term }
    }

    /// Reads what [`Hold::note`] wrote. Operators of earlier versions wrote since when alone.
    pub fn parse(text: &str) -> Self {
        let (since, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (until, reason) = match rest.split_once(' ') {
            Some((until, reason)) => (until, Some(reason)),
            None => (rest, None),
        };
        Hold { since: since.to_owned(), term: Term::new(until.parse().ok(), reason) }
    }

    /// As it is noted: since when, until when (`-` for no end), and the reason.
    pub fn note(&self) -> String {
        let until = self.term.until.map_or_else(|| "-".to_owned(), |until| until.to_string());
        match (&self.term.reason, self.term.until) {
            (Some(reason), _) => format!("{} {until} {reason}", self.since),
            (None, Some(_)) => format!("{} {until}", self.since),
            (None, None) => self.since.clone(),
        }
    }

    /// Since when, until when or until which command, and why: `since …, until … or `ofop resume --all` (shift change)`.
    pub fn words(&self, end: &str) -> String {
        let until = match self.term.until {
            Some(until) => format!("{until} or {end}"),
            None => end.to_owned(),
        };
        let reason = self.term.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("since {}, until {until}{reason}", self.since)
    }
}

/// A hold as the API shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Since when, RFC 3339.
    pub since: String,
    /// When it ends by itself, RFC 3339; left out where somebody has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why; left out where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<&Hold> for HoldStatus {
    fn from(hold: &Hold) -> Self {
        HoldStatus {
            since: hold.since.clone(),
            until: hold.term.until.map(|until| until.to_string()),
            reason: hold.term.reason.clone(),
        }
    }
}

impl HoldStatus {
    /// The same in words: see [`Hold::words`].
    pub fn words(&self, end: &str) -> String {
        let until = self.until.as_deref().and_then(|until| until.parse().ok());
        Hold::new(&self.since, Term::new(until, self.reason.as_deref())).words(end)
    }
}

/// The seconds in a text such as `90m`, `2h`, `1d12h`, `45s`: days, hours, minutes and seconds in this order, each at most
/// once. None for another text; more than fits counts as very long.
pub fn seconds(text: &str) -> Option<i64> {
    const UNITS: [(char, i64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    let (mut rest, mut seconds, mut units) = (text.trim(), 0_i64, &UNITS[..]);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next()?;
        let at = units.iter().position(|(known, _)| *known == unit)?;
        let factor = units[at].1;
        units = &units[at + 1..];
        seconds = seconds.saturating_add(number.parse::<i64>().unwrap_or(i64::MAX).saturating_mul(factor));
        rest = &tail[1..];
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_hold_reads_back_as_it_was_noted_and_so_does_one_of_an_earlier_version() {
        const SINCE: &str = "2026-01-02T03:04:05.678Z";
        for (until, reason) in [
            (None, None),
            (at("2026-01-02T05:04:05Z"), None),
            (None, Some("shift change")),
            (at("2026-01-02T05:04:05Z"), Some("2026-01-01T00:00:00Z - or so")),
        ] {
            let hold = Hold::new(SINCE, Term::new(until, reason));
            assert_eq!(Hold::parse(&hold.note()), hold, "{}", hold.note());
        }
        assert_eq!(Hold::new(SINCE, Term::default()).note(), SINCE);
        assert_eq!(Hold::parse(SINCE), Hold::new(SINCE, Term::default()));
        for odd in ["", " ", "then", "then never", "then - ", "then  x"] {
            assert_eq!(Hold::parse(odd).term.until, None, "{odd:?}");
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let reason = |text: &str| Term::new(None, Some(text)).reason().map(str::to_owned);
        assert_eq!(reason(" shift\n\tchange\u{7} "), Some("shift change".into()));
        assert_eq!(reason(" \n "), None);
        assert_eq!(reason(&"ä".repeat(500)).map(|reason| reason.chars().count()), Some(LONGEST_REASON));
    }

    #[test]
    fn it_is_over_from_its_end_on() {
        let term = Term::new(at("2026-01-02T05:04:05.9Z"), None);
        assert!(!term.is_over("2026-01-02T05:04:04.999Z".parse().unwrap()));
        assert!(term.is_over("2026-01-02T05:04:05Z".parse().unwrap()));
        assert!(!Term::default().is_over(Timestamp::MAX));
    }

    #[test]
    fn words_say_since_when_until_when_and_why() {
        let hold = |until, reason| Hold::new("then", Term::new(until, reason)).words("`ofop resume app/A`");
        assert_eq!(hold(None, None), "since then, until `ofop resume app/A`");
        assert_eq!(
            hold(at("2026-01-02T05:04:05Z"), Some("shift change")),
            "since then, until 2026-01-02T05:04:05Z or `ofop resume app/A` (shift change)"
        );
    }

    #[test]
    fn lengths_have_units_in_order() {
        for (text, number) in [("2h", 7200), (" 1d12h ", 129_600), ("1h30m15s", 5415), ("0s", 0), ("007m", 420)] {
            assert_eq!(seconds(text), Some(number), "{text}");
        }
        for text in ["", "2", "h", "2 h", "-2h", "1.5h", "30m1h", "1h1h", "2w", "2ö", "1hours"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(seconds("99999999999999999999d"), Some(i64::MAX));
    }
}
