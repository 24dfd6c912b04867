//! The only place that asks the system for the time.
//!
//! Decisions get a time as a value; whoever needs to know the time is handed a [`Clock`], so that a test can
//! move it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// Time since the operator started; never goes back, whatever happens to the system's clock.
    fn now(&self) -> Duration;

    /// Wall time, for people and messages; may jump.
    fn wall(&self) -> SystemTime;
}

/// The machine's clock. It goes on while the machine is suspended, unlike [`std::time::Instant`]: to others, whose
/// leases run out meanwhile, that time passes.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Duration,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        SystemClock { start: since_boot() }
    }
}

/// Time since the machine started, suspensions included.
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is ever negative, nor are there more nanoseconds than a second has.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        since_boot().saturating_sub(self.start)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Wall time as decisions get it.
pub fn timestamp(time: SystemTime) -> jiff::Timestamp {
    // No clock shows a year beyond 9999.
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX)
}

/// Wall time as RFC 3339 in UTC with milliseconds, as OpenFactory writes it: `2026-01-02T03:04:05.678Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_from_days(days);
    // Every message and every event carries one: with `format!` they would take longer than what they stand beside.
    let mut text = String::with_capacity("2026-01-02T03:04:05.678Z".len());
    for (number, digits, end) in [
        (year, 4, '-'),
        (month, 2, '-'),
        (day, 2, 'T'),
        (second / 3600, 2, ':'),
        (second / 60 % 60, 2, ':'),
        (second % 60, 2, '.'),
        (u64::from(since.subsec_millis()), 3, 'Z'),
    ] {
        push_digits(&mut text, number, digits);
        text.push(end);
    }
    text
}

/// The time that [`rfc3339`] wrote as this text; none for any other text.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let days = days_from_civil(year, month, day)?;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(seconds.checked_mul(1000)? + number(20, 23)?))?;
    // What is odd about the text, a 30th of February included, is not written back.
    (rfc3339(time) == text).then_some(time)
}

/// The inverse of [`civil_from_days`]; none for days before 1970 and months that there are not.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) {
        return None;
    }
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Appends the last digits of a number, with zeros in front.
fn push_digits(text: &mut String, number: u64, digits: u32) {
    for place in (0..digits).rev() {
        let [digit, ..] = (number / 10_u64.pow(place) % 10).to_le_bytes();
        text.push(char::from(b'0' + digit));
    }
}

/// Day of the proleptic Gregorian calendar for a number of days since 1970-01-01, by counting from a year
/// that begins in March, so that the leap day comes last.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_reads_as_rfc_3339() {
        let at = |millis| rfc3339(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_767_323_045_678), "2026-01-02T03:04:05.678Z");
        assert_eq!(at(1_709_164_800_000), "2024-02-29T00:00:00.000Z");
        assert_eq!(at(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_was_written_can_be_read_and_nothing_else() {
        for millis in
            (0..4_000_000_000_000).step_by(86_399_123_456 / 17).chain([0, 1, 1_709_164_800_000, 253_402_300_799_999])
        {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time), "{millis}");
        }
        for odd in [
            "",
            "2026",
            "2026-01-02T03:04:05Z",
            "2026-02-30T03:04:05.678Z",
            "2026-01-02T03:04:05.678+01:00",
            "1969-12-31T23:59:59.000Z",
            "2026-13-02T03:04:05.678Z",
            "ä026-01-02T03:04:05.678Z",
        ] {
            assert_eq!(parse_rfc3339(odd), None, "{odd}");
        }
    }
}
