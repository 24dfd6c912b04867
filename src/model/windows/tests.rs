use std::collections::BTreeSet;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZoneDatabase;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn windows(text: &str) -> Windows {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn open_until(text: &str) -> WindowState {
    WindowState::Open { until: Some(at(text)) }
}

fn opens(text: &str) -> WindowState {
    WindowState::Closed { opens: Some(at(text)) }
}

/// What a list of rules is at each moment, as the first differs from the second.
fn changes(windows: &Windows, from: &str, to: &str) -> Vec<String> {
    let (mut now, to) = (at(from), at(to));
    let mut found = Vec::new();
    while let Some(next) = windows.state(now).changes().filter(|next| *next < to) {
        found.push(format!("{} {next}", if windows.state(next).is_open() { "opens" } else { "closes" }));
        now = next;
    }
    found
}

#[test]
fn nothing_said_is_open_and_so_is_an_empty_list() {
    let now = at("2026-03-29T01:00:00Z");
    for text in ["", "open", "repairs window", "open; repairs always"] {
        assert_eq!(windows(text).state(now), WindowState::Open { until: None }, "{text}");
    }
    assert!(Windows::default().is_default() && !windows("open").is_default());
}

#[test]
fn a_night_shift_opens_in_the_evening_and_closes_in_the_morning() {
    let night = windows("allow 0 22 * * mon-fri for 6h in europe/berlin");
    // Friday, 2026-01-09.
    assert_eq!(night.state(at("2026-01-09T12:00:00Z")), opens("2026-01-09T21:00:00Z"));
    assert_eq!(night.state(at("2026-01-09T20:59:59.999Z")), opens("2026-01-09T21:00:00Z"));
    assert_eq!(night.state(at("2026-01-09T21:00:00Z")), open_until("2026-01-10T03:00:00Z"));
    assert_eq!(night.state(at("2026-01-10T02:59:59Z")), open_until("2026-01-10T03:00:00Z"));
    assert_eq!(night.state(at("2026-01-10T03:00:00Z")), opens("2026-01-12T21:00:00Z"));
}

#[test]
fn a_deny_rule_goes_before_any_allow_rule() {
    let list = "deny 0 23 * * * for 1h in UTC; allow 0 22 * * * for 4h in UTC";
    assert_eq!(
        changes(&windows(list), "2026-01-01T00:00:00Z", "2026-01-02T12:00:00Z"),
        [
            "closes 2026-01-01T02:00:00Z",
            "opens 2026-01-01T22:00:00Z",
            "closes 2026-01-01T23:00:00Z",
            "opens 2026-01-02T00:00:00Z",
            "closes 2026-01-02T02:00:00Z",
        ]
    );
    // Deny rules alone leave everything else open.
    let holidays = windows("deny 0 0 24 12 * for 7d in Europe/Berlin");
    assert_eq!(holidays.state(at("2026-12-01T00:00:00Z")), open_until("2026-12-23T23:00:00Z"));
    assert_eq!(holidays.state(at("2026-12-24T00:00:00Z")), opens("2026-12-30T23:00:00Z"));
}

#[test]
fn windows_that_touch_or_overlap_are_one() {
    let shifts =
        windows("allow 0 6 * * * for 8h in UTC; allow 0 14 * * * for 8h in UTC; allow 0 20 * * * for 4h in UTC");
    assert_eq!(shifts.state(at("2026-01-01T07:00:00Z")), open_until("2026-01-02T00:00:00Z"));
    // Longer than from one start to the next.
    let week = windows("allow 0 0 * * MON-WED for 2d in UTC");
    assert_eq!(week.state(at("2026-01-05T12:00:00Z")), open_until("2026-01-09T00:00:00Z"));
    assert_eq!(
        windows("allow * * * * * for 1m in UTC").state(at("2026-01-05T12:00:00Z")),
        WindowState::Open { until: None }
    );
}

/// 2026-03-29: 02:00 to 03:00 is left out in Berlin. 2026-10-25: 02:00 to 03:00 comes twice.
#[test]
fn six_hours_last_six_hours_when_the_clock_changes() {
    let night = windows("allow 0 22 * * * for 6h in Europe/Berlin");
    assert_eq!(
        changes(&night, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
        // 22:00 to 05:00 by the clock, then 22:00 to 04:00 again.
        [
            "opens 2026-03-28T21:00:00Z",
            "closes 2026-03-29T03:00:00Z",
            "opens 2026-03-29T20:00:00Z",
            "closes 2026-03-30T02:00:00Z",
        ]
    );
    assert_eq!(
        changes(&night, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
        // 22:00 to 03:00 by the clock.
        [
            "opens 2026-10-24T20:00:00Z",
            "closes 2026-10-25T02:00:00Z",
            "opens 2026-10-25T21:00:00Z",
            "closes 2026-10-26T03:00:00Z",
        ]
    );
}

#[test]
fn a_start_in_the_missing_hour_is_at_the_first_moment_after_it() {
    for start in ["0 2", "30 2", "59 2", "0 3"] {
        let window = windows(&format!("allow {start} * * * for 1h in Europe/Berlin"));
        assert_eq!(window.state(at("2026-03-29T00:00:00Z")), opens("2026-03-29T01:00:00Z"), "{start}");
        assert_eq!(window.state(at("2026-03-29T01:00:00Z")), open_until("2026-03-29T02:00:00Z"), "{start}");
    }
    let new_york = windows("allow 15 2 * * * for 30m in America/New_York");
    assert_eq!(
        changes(&new_york, "2026-03-08T00:00:00Z", "2026-03-09T12:00:00Z"),
        [
            "opens 2026-03-08T07:00:00Z",
            "closes 2026-03-08T07:30:00Z",
            "opens 2026-03-09T06:15:00Z",
            "closes 2026-03-09T06:45:00Z",
        ]
    );
}

#[test]
fn a_start_in_the_doubled_hour_is_at_its_first_occurrence() {
    let window = windows("allow 30 2 * * * for 30m in Europe/Berlin");
    assert_eq!(
        changes(&window, "2026-10-25T00:00:00Z", "2026-10-26T02:00:00Z"),
        [
            "opens 2026-10-25T00:30:00Z",
            "closes 2026-10-25T01:00:00Z",
            "opens 2026-10-26T01:30:00Z",
            "closes 2026-10-26T02:00:00Z",
        ][..3]
    );
    let new_york = windows("allow 0 1 * * * for 3h in America/New_York");
    assert_eq!(
        changes(&new_york, "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"),
        ["opens 2026-11-01T05:00:00Z", "closes 2026-11-01T08:00:00Z"]
    );
    // Every hour is every hour that the clock shows, the second one included.
    let hourly = windows("deny 0 * * * * for 10m in Europe/Berlin");
    assert!(!hourly.state(at("2026-10-25T00:05:00Z")).is_open() && !hourly.state(at("2026-10-25T01:05:00Z")).is_open());
}

#[test]
fn a_zone_without_changes_has_the_same_hours_all_year() {
    let window = windows("allow 30 2 * * * for 1h in Asia/Kolkata");
    for day in ["2026-03-29", "2026-10-25", "2026-07-01"] {
        let start = format!("{day}T02:30:00+05:30");
        assert_eq!(window.state(at(&start)).changes(), Some(at(&start) + SignedDuration::from_hours(1)), "{day}");
        assert_eq!(window.state(at(&start) - SignedDuration::from_secs(1)), opens(&start), "{day}");
    }
}

#[test]
fn what_opens_in_no_year_is_refused_and_what_opens_later_than_in_a_year_is_said() {
    let never = |text: &str| text.parse::<Windows>().unwrap_err();
    assert_eq!(never("allow 0 0 * * * for 1h in UTC; deny 0 0 * * * for 2h in UTC"), InvalidWindows::NeverOpens);
    assert_eq!(never("deny * * * * * for 1m in Europe/Berlin"), InvalidWindows::NeverOpens);
    assert_eq!(never("deny 0 0 * * MON for 7d in UTC"), InvalidWindows::NeverOpens);
    assert!(matches!(never("deny 0 0 30 2 * for 2h in UTC"), InvalidWindows::NeverStarts(0, _)));
    let leap = windows("allow 0 0 29 2 * for 1d in UTC");
    assert_eq!(leap.state(at("2025-03-01T00:00:00Z")), WindowState::Closed { opens: None });
    assert_eq!(leap.state(at("2027-03-01T00:00:00Z")), opens("2028-02-29T00:00:00Z"));
    assert_eq!(
        windows("deny 0 0 29 2 * for 1d in UTC").state(at("2025-01-01T00:00:00Z")),
        WindowState::Open { until: None }
    );
}

#[test]
fn the_ends_of_the_calendar_are_no_trouble() {
    let window = windows("allow 0 22 * * * for 6h in Europe/Berlin; deny 0 23 * * * for 1h in America/New_York");
    for now in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
        if let Some(change) = window.state(now).changes() {
            assert!(change > now);
        }
    }
}

#[test]
fn what_a_resource_says_goes_before_the_file_and_the_setting() {
    let setting = windows("allow 0 22 * * * for 6h in UTC; repairs window");
    let file = windows("deny 0 12 * * * for 1h in UTC");
    assert_eq!(file.over(&setting), windows("deny 0 12 * * * for 1h in UTC; repairs window"));
    assert_eq!(
        windows("repairs always").over(&file.over(&setting)),
        windows("deny 0 12 * * * for 1h in UTC; repairs always")
    );
    assert!(windows("open").over(&setting).is_always_open());
    assert_eq!(Windows::default().over(&setting), setting);
}

#[test]
fn a_text_reads_back_as_it_was_written() {
    for text in [
        "",
        "open",
        "repairs window",
        "open; repairs always",
        "allow 0 22 * * MON-FRI for 6h in Europe/Berlin",
        "allow */15 8-16 1,15 6-8 SUN#1 for 1d2h3m in UTC; deny 0 0 L * * for 7d in Asia/Kolkata; repairs window",
    ] {
        assert_eq!(windows(text).to_string(), text);
        let json = serde_json::to_string(&windows(text)).unwrap();
        assert_eq!(json, format!("{text:?}"));
        assert_eq!(serde_json::from_str::<Windows>(&json).unwrap(), windows(text));
    }
    let untidy = " allow  0 22 *  * mon-fri for 90m in europe/berlin ;;\n repairs  always";
    assert_eq!(windows(untidy).to_string(), "allow 0 22 * * MON-FRI for 1h30m in Europe/Berlin; repairs always");
}

#[test]
fn a_pattern_that_cannot_be_read_is_refused_with_the_field_that_is_wrong() {
    use CronField::*;
    for (text, field) in [
        ("60 * * * *", Minute),
        ("-1 * * * *", Minute),
        ("JAN * * * *", Minute),
        ("5/10 * * * *", Minute),
        ("1,,2 * * * *", Minute),
        (", * * * *", Minute),
        ("*/0 * * * *", Minute),
        ("0 24 * * *", Hour),
        ("0 22-4 * * *", Hour),
        ("0 L * * *", Hour),
        ("0 0 0 * *", DayOfMonth),
        ("0 0 32 * *", DayOfMonth),
        ("0 0 MON * *", DayOfMonth),
        ("0 0 * 13 *", Month),
        ("0 0 * MAI *", Month),
        ("0 0 * * 8", DayOfWeek),
        ("0 0 * * FRI-MON", DayOfWeek),
        ("0 0 * * MONDAY", DayOfWeek),
        ("0 0 * * +MON", DayOfWeek),
        ("0 0 * * ١", DayOfWeek),
    ] {
        match text.parse::<Cron>() {
            Err(InvalidCron::Field(wrong, _)) => assert_eq!(wrong, field, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for (text, number) in [("", 0), ("@daily", 1), ("0 22 * *", 4), ("0 0 22 * * *", 6)] {
        assert_eq!(text.parse::<Cron>(), Err(InvalidCron::Fields(number)), "{text}");
    }
}

#[test]
fn a_length_has_units_and_bounds() {
    let length = |text: &str| text.parse::<WindowLength>();
    for (text, seconds) in [("1m", 60), ("6h", 21_600), ("1h30m", 5400), ("7d", LONGEST), ("168h", LONGEST)] {
        assert_eq!(length(text).map(WindowLength::seconds), Ok(seconds), "{text}");
    }
    for text in ["", "6", "h", "6 h", "6s", "-1h", "1.5h", "30m1h", "1h1h", "6hours", "1d "] {
        let result = length(text);
        assert!(text == "1d " || result == Err(InvalidLength::Form), "{text}: {result:?}");
    }
    assert_eq!(length("0m"), Err(InvalidLength::Zero));
    assert_eq!(length("0d0h"), Err(InvalidLength::Zero));
    for text in ["8d", "169h", "7d1m", "99999999999999999999d", "9223372036854775807d"] {
        assert_eq!(length(text), Err(InvalidLength::Long), "{text}");
    }
}

#[test]
fn a_zone_is_known_by_its_name_alone() {
    assert_eq!(Zone::new("america/NEW_YORK").unwrap().name(), "America/New_York");
    for name in ["", "Europe/Berlim", "CEST", "+01:00", "local", "/etc/localtime", "../UTC", "Europe"] {
        assert!(Zone::new(name).is_none(), "{name}");
    }
    assert!(zones().len() > 400 && zones().contains(&"Europe/Berlin".to_owned()));
}

/// A pattern, and what it means, read by nobody's parser.
#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    hourly: bool,
    days: Day,
}

/// Whether it starts on the day of a moment.
type Day = fn(DateTime) -> bool;

impl Pattern {
    fn matches(&self, civil: DateTime) -> bool {
        self.minutes.contains(&civil.minute()) && self.hours.contains(&civil.hour()) && (self.days)(civil)
    }
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let every = |last: i8, step: usize| (0..=last).step_by(step).collect::<BTreeSet<i8>>();
    let minutes = vec![
        ("0", BTreeSet::from([0])),
        ("30", BTreeSet::from([30])),
        ("5,45", BTreeSet::from([5, 45])),
        ("*/15", every(59, 15)),
        ("*", every(59, 1)),
    ];
    let hours = vec![
        ("0", BTreeSet::from([0])),
        ("2", BTreeSet::from([2])),
        ("1-3", BTreeSet::from([1, 2, 3])),
        ("22", BTreeSet::from([22])),
        ("0,23", BTreeSet::from([0, 23])),
        ("*/6", every(23, 6)),
        ("*", every(23, 1)),
    ];
    let days: Vec<(&str, Day)> = vec![
        ("* * *", |_| true),
        ("* * SUN", |civil| civil.weekday() == Weekday::Sunday),
        ("* * MON-FRI", |civil| !matches!(civil.weekday(), Weekday::Saturday | Weekday::Sunday)),
        ("L * *", |civil| civil.day() == civil.date().days_in_month()),
        ("1,29 * *", |civil| [1, 29].contains(&civil.day())),
        ("30 * 0", |civil| civil.day() == 30 || civil.weekday() == Weekday::Sunday),
        ("* 3,10 *", |civil| [3, 10].contains(&civil.month())),
    ];
    (select(minutes), select(hours), select(days)).prop_map(|(minutes, hours, days)| Pattern {
        text: format!("{} {} {}", minutes.0, hours.0, days.0),
        hourly: hours.0.starts_with('*'),
        minutes: minutes.1,
        hours: hours.1,
        days: days.1,
    })
}

/// Days around which clocks change: in Europe, in North America and Cuba (at midnight), on Lord Howe (by half an hour), and on Samoa,
/// which left out a whole day.
const AROUND: [&str; 7] = [
    "2026-03-29T00:00:00Z",
    "2026-10-25T00:00:00Z",
    "2026-03-08T00:00:00Z",
    "2026-11-01T00:00:00Z",
    "2026-04-04T00:00:00Z",
    "2026-10-03T00:00:00Z",
    "2011-12-30T00:00:00Z",
];
const ZONES: [&str; 6] =
    ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Havana", "Australia/Lord_Howe", "Pacific/Apia"];

/// Minutes before and after a change of the clock that are looked at, one by one.
const BEFORE: i64 = 11 * 1440;
const AFTER: i64 = 5 * 1440;

/// For every minute of the stretch, whether a rule covers it.
fn covered(pattern: &Pattern, minutes: i64, zone: &str, middle: Timestamp) -> Vec<bool> {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let civil = |minute: i64| {
        let at = middle + SignedDuration::from_mins(minute);
        zone.to_offset(at).to_datetime(at)
    };
    let (mut seen, mut last) = (BTreeSet::new(), None);
    let mut before = civil(-BEFORE - 1);
    (-BEFORE..AFTER)
        .map(|minute| {
            let now = civil(minute);
            let mut skipped = before;
            let mut starts = pattern.matches(now) && (seen.insert(now) || pattern.hourly);
            while let Some(next) = skipped.checked_add(SignedDuration::from_mins(1)).ok().filter(|next| *next < now) {
                starts |= pattern.matches(next);
                skipped = next;
            }
            before = now;
            last = if starts { Some(minute) } else { last };
            last.is_some_and(|start| minute < start + minutes)
        })
        .collect()
}

type Drawn = (bool, Pattern, i64, &'static str);

fn rule() -> impl Strategy<Value = Drawn> {
    let minutes = select(vec![1_i64, 15, 45, 60, 90, 360, 1440, 2000, 7 * 1440]);
    (any::<bool>(), pattern(), minutes, select(&ZONES[..]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Held against a reader that looks at every single minute.
    #[test]
    fn a_list_is_open_in_the_minutes_of_its_rules_and_names_the_next_change(
        drawn in prop::collection::vec(rule(), 1..4),
        around in select(&AROUND[..]),
        minutes in prop::collection::vec((-3 * 1440..AFTER, 0..60_i64), 12),
    ) {
        let middle = at(around);
        let text = |(allow, pattern, minutes, zone): &Drawn| {
            format!("{} {} for {minutes}m in {zone}", if *allow { "allow" } else { "deny" }, pattern.text)
        };
        let rules: Vec<String> = drawn.iter().map(text).collect();
        let rules: Vec<WindowRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let by_rule: Vec<(bool, Vec<bool>)> = drawn
            .iter()
            .map(|(allow, pattern, minutes, zone)| (*allow, covered(pattern, *minutes, zone, middle)))
            .collect();
        let denies_alone = drawn.iter().all(|(allow, ..)| !allow);
        let open = |index: usize| {
            let any = |effect: bool| by_rule.iter().any(|(allow, covered)| *allow == effect && covered[index]);
            (denies_alone || any(true)) && !any(false)
        };
        // What never opens is refused before it comes here.
        let list = Windows { rules: Some(rules.into()), repairs: None };
        for (minute, second) in minutes {
            let index = usize::try_from(minute + BEFORE).unwrap();
            let now = middle + SignedDuration::from_secs(minute * 60 + second);
            let state = list.state(now);
            prop_assert_eq!(state.is_open(), open(index), "{} at {}: {:?}", list, now, state);
            let next = (index..usize::try_from(BEFORE + AFTER).unwrap()).find(|next| open(*next) != open(index));
            match next {
                Some(next) => {
                    let next = middle + SignedDuration::from_mins(i64::try_from(next).unwrap() - BEFORE);
                    prop_assert_eq!(state.changes(), Some(next), "{} at {}", list, now);
                }
                None => {
                    let last = middle + SignedDuration::from_mins(AFTER);
                    prop_assert!(state.changes().is_none_or(|change| change >= last), "{} at {}: {:?}", list, now, state);
                }
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused_and_what_was_read_reads_back(
        text in "(allow|deny|open|repairs)[ 0-9A-Za-z*/,#+;:-]{0,40}( for [0-9]{0,3}[mhd]?)?( in (UTC|Europe/Berlin|Mars))?",
        cron in "([0-9*]{1,2}[-/,LW#]?[0-9A-Z]{0,3} ?){4,6}",
    ) {
        if let Ok(windows) = text.parse::<Windows>() {
            prop_assert_eq!(windows.to_string().parse::<Windows>(), Ok(windows));
        }
        if let Ok(rule) = format!("allow {cron} for 6h in Europe/Berlin").parse::<WindowRule>() {
            prop_assert_eq!(rule.to_string().parse::<WindowRule>(), Ok(rule.clone()));
            rule.starts();
        }
    }
}
