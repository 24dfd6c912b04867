//! How long ago something was, in the short form that `kubectl` has: `45s`, `9m30s`, `5h12m`, `3d4h`, `90d`.

use jiff::Timestamp;

/// How long before `now` a time (RFC 3339) was; `-` for what is no time. What lies ahead, since two clocks differ, is 0 s ago.
pub(super) fn age(now: Timestamp, time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => short(now.as_second().saturating_sub(time.as_second()).max(0)),
        Err(_) => "-".into(),
    }
}

fn short(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ => format!("{}d", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_at_most_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (570, "9m30s"),
            (3_600, "60m"),
            (18_720, "5h12m"),
            (100_000, "27h"),
            (273_600, "3d4h"),
            (7_776_000, "90d"),
        ] {
            assert_eq!(short(seconds), text);
        }
    }

    #[test]
    fn an_age_is_of_a_time_and_never_negative() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(age(now, "2026-01-02T03:03:05.5Z"), "60s");
        assert_eq!(age(now, "2026-01-02T04:00:00+01:00"), "4m5s");
        assert_eq!(age(now, "2026-01-02T03:05:00Z"), "0s");
        assert_eq!(age(now, ""), "-");
    }
}
