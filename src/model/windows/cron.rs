//! When a rule starts: a cron pattern of five fields.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use croner::parser::{CronParser, Seconds, Year};
use croner::{CronComponent, CronPattern, Weekday};
use jiff::civil::Date;

/// A cron pattern: minute, hour, day of month, month, day of week. When both days are named, either suffices.
#[derive(Clone)]
pub struct Cron {
    /// In capitals, with single blanks.
    text: Arc<str>,
    pattern: Arc<CronPattern>,
    /// The starts of a day that matches, in seconds from midnight. Sorted.
    starts: Arc<[i64]>,
}

/// A field of a cron pattern, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CronField {
    /// The first.
    Minute,
    /// The second.
    Hour,
    /// The third.
    DayOfMonth,
    /// The fourth.
    Month,
    /// The fifth.
    DayOfWeek,
}

/// A text that is no cron pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// Not five fields.
    #[error("a cron pattern has five fields (minute, hour, day of month, month, day of week), not {0}")]
    Fields(usize),
    /// One field cannot be read.
    #[error("the {} `{}` must be {}", .0.as_str(), .1.escape_debug(), .0.values())]
    Field(CronField, String),
}

impl CronField {
    const ALL: [CronField; 5] =
        [CronField::Minute, CronField::Hour, CronField::DayOfMonth, CronField::Month, CronField::DayOfWeek];

    /// Its name in a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            CronField::Minute => "minute",
            CronField::Hour => "hour",
            CronField::DayOfMonth => "day of month",
            CronField::Month => "month",
            CronField::DayOfWeek => "day of week",
        }
    }

    /// What it may be.
    pub fn values(self) -> &'static str {
        match self {
            CronField::Minute => "0 to 59, a list `0,30`, a range `0-29`, `*`, or `*/15`",
            CronField::Hour => "0 to 23, a list `6,22`, a range `8-16`, `*`, or `*/2`",
            CronField::DayOfMonth => "1 to 31, a list `1,15`, a range `1-7`, `*`, `L` (the last), or `15W` (a weekday)",
            CronField::Month => "1 to 12 or `JAN` to `DEC`, a list, a range `6-8`, or `*`",
            CronField::DayOfWeek => {
                "0 to 7 (0 and 7 are Sunday) or `SUN` to `SAT`, a list, a range `MON-FRI`, `*`, or `SUN#1` (the first)"
            }
        }
    }

    /// Words that may stand in it.
    fn knows(self, word: &str) -> bool {
        const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
        const DAYS: [&str; 8] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"];
        match self {
            CronField::Minute | CronField::Hour => false,
            CronField::DayOfMonth => matches!(word, "L" | "W" | "LW"),
            CronField::Month => MONTHS.contains(&word),
            CronField::DayOfWeek => DAYS.contains(&word),
        }
    }

    /// Whether the reader of patterns takes a text in this place as what it is meant to be.
    fn reads(self, text: &str) -> bool {
        // It skips empty items, and reads names of months and days in every field.
        let items = text.split(',').all(|item| !item.is_empty());
        let words = text.split(|c: char| !c.is_ascii_alphabetic()).all(|word| word.is_empty() || self.knows(word));
        let at = CronField::ALL.iter().position(|field| *field == self);
        let whole: Vec<&str> = (0..5).map(|index| if Some(index) == at { text } else { "*" }).collect();
        text.is_ascii() && !text.contains(['+', '@']) && items && words && parser().parse(&whole.join(" ")).is_ok()
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        let text = text.to_uppercase();
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != CronField::ALL.len() {
            return Err(InvalidCron::Fields(fields.len()));
        }
        if let Some((field, text)) = CronField::ALL.into_iter().zip(&fields).find(|(field, text)| !field.reads(text)) {
            return Err(InvalidCron::Field(field, (*text).to_owned()));
        }
        let text = fields.join(" ");
        let Ok(cron) = parser().parse(&text) else { return Err(InvalidCron::Fields(fields.len())) };
        let mut pattern = cron.pattern;
        // Five thousand of them, all set.
        pattern.years = CronComponent::default();
        let minutes = pattern.minutes.values();
        let starts = pattern
            .hours
            .values()
            .into_iter()
            .flat_map(|hour| minutes.iter().map(move |minute| i64::from(hour) * 3600 + i64::from(*minute) * 60));
        let starts = starts.collect();
        Ok(Cron { text: text.into(), pattern: Arc::new(pattern), starts })
    }
}

impl Cron {
    /// The starts of a day that matches, in seconds from midnight. Sorted.
    pub(super) fn starts(&self) -> impl Iterator<Item = i64> {
        self.starts.iter().copied()
    }

    /// Whether it starts in every hour that the clock shows (`*`, `*/2`), as opposed to at hours that it names.
    pub(super) fn is_hourly(&self) -> bool {
        self.pattern.hours.from_wildcard
    }

    /// Whether it starts on a day.
    pub(super) fn matches(&self, day: Date) -> bool {
        let number = |part: i8| u32::from(part.unsigned_abs());
        let weekday = Weekday::from_days_from_sunday(number(day.weekday().to_sunday_zero_offset()));
        let (month, day_of_month) = (number(day.month()), number(day.day()));
        // Neither fails for a day that exists.
        self.pattern.month_match(month).unwrap_or(false)
            && self.pattern.day_match(i32::from(day.year()), month, day_of_month, weekday).unwrap_or(false)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cron").field(&self.text).finish()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
