//! `windows` and `repairs` of `x-ofop`: what a manifest says about when changes may go out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on")]

use std::sync::Arc;

use ofop::desired::{ParseContext, parse};
use ofop::model::{PlatformKind, Problem};

const ENTRIES: &str = "apps:\n  press: {uuid: PRESS-7, image: i}\n  saw: {uuid: SAW, image: i}\ndevices:\n  \
    plc:\n    uuid: PLC\n    connector: {type: shdr, host: h, port: 7878, data: {}}\n";
const NIGHT: &str = "{allow: 0 22 * * mon-fri, for: 6h, zone: europe/berlin}";

fn parsed(settings: &str, context: &ParseContext) -> (Option<Vec<String>>, Vec<Problem>) {
    let text = format!("{ENTRIES}x-ofop: {settings}\n");
    let file = parse(&"f.yml".into(), &text, [0; 32], context);
    let windows = file.manifest.map(|manifest| {
        let apps = manifest.apps.iter().map(|app| app.handling.windows.to_string());
        apps.chain(manifest.devices.iter().map(|device| device.handling.windows.to_string())).collect()
    });
    (windows, file.problems)
}

/// The windows of PRESS-7, SAW and PLC.
fn windows(settings: &str) -> Vec<String> {
    let (windows, problems) = parsed(settings, &ParseContext::new(PlatformKind::Swarm));
    assert!(problems.is_empty(), "{problems:?}");
    windows.unwrap()
}

#[test]
fn a_list_of_a_resource_replaces_that_of_the_file_and_repairs_are_said_on_their_own() {
    let night = "allow 0 22 * * MON-FRI for 6h in Europe/Berlin";
    assert_eq!(windows("{suspend: false}"), ["", "", ""]);
    assert_eq!(windows(&format!("{{windows: [{NIGHT}]}}")), [night; 3]);
    let noon = "{deny: 0 12 * * *, for: 1h30m, zone: UTC}";
    assert_eq!(
        windows(&format!(
            "{{windows: [{NIGHT}], repairs: window, resources: {{app/SAW: {{windows: [{NIGHT}, {noon}]}}, \
             device/PLC: {{windows: [], repairs: always}}}}}}"
        )),
        [
            format!("{night}; repairs window"),
            format!("{night}; deny 0 12 * * * for 1h30m in UTC; repairs window"),
            "open; repairs always".to_owned(),
        ]
    );
    assert_eq!(windows("{resources: {app/SAW: {repairs: window}}}"), ["", "repairs window", ""]);
}

#[test]
fn mistakes_are_refused_with_their_place_and_a_way_out() {
    let line = ENTRIES.lines().count() + 1;
    let mut wrong = Vec::new();
    for (settings, column, said) in [
        (
            "{windows: [{for: 6h, zone: UTC}]}",
            20,
            "x-ofop.windows[0]: has neither `allow` nor `deny` (add when it starts, such as `allow: \"0 22 * * MON-FRI\"`: \
             at 22:00 from Monday to Friday)",
        ),
        (
            "{windows: [{allow: 0 1 * * *, deny: 0 2 * * *, for: 6h, zone: UTC}]}",
            20,
            "x-ofop.windows[0]: has both `allow` and `deny` (write two rules, one with `allow` and one with `deny`, each \
             with its own `for`)",
        ),
        (
            "{windows: [{allow: 0 25 * * *, for: 6h, zone: UTC}]}",
            28,
            "x-ofop.windows[0].allow: there is no hour `25` (write 0 to 23, a list `6,22`, a range `8-16`, `*`, or `*/2`)",
        ),
        (
            "{windows: [{deny: 0 22 * * MOND, for: 6h, zone: UTC}]}",
            27,
            "x-ofop.windows[0].deny: there is no day of week `MOND` (write 0 to 7 (0 and 7 are Sunday) or `SUN` to `SAT`, a \
             list, a range `MON-FRI`, `*`, or `SUN#1` (the first))",
        ),
        (
            "{windows: [{allow: 22 * * *, for: 6h, zone: UTC}]}",
            28,
            "x-ofop.windows[0].allow: a cron pattern has five fields, not 4 (minute, hour, day of month, month, day of \
             week: `0 22 * * MON-FRI` is 22:00 from Monday to Friday)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, zone: UTC}]}",
            20,
            "x-ofop.windows[0].for: `for` is missing (add it, such as `for: 6h`: how long, from a minute to seven days)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 6, zone: UTC}]}",
            45,
            "x-ofop.windows[0].for: must be a text, not the number 6 (write it with its unit, such as `for: 6h`)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 6 hours, zone: UTC}]}",
            45,
            "x-ofop.windows[0].for: a length is written with its unit, such as `45m`, `6h`, `1h30m` or `2d` (minutes, hours \
             and days: `45m`, `6h`, `1h30m`, `2d`)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 0h, zone: UTC}]}",
            45,
            "x-ofop.windows[0].for: a window lasts a minute or longer (give it a length, such as `6h`, or remove the rule)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 200h, zone: UTC}]}",
            45,
            "x-ofop.windows[0].for: a window lasts seven days at most (for changes at any time write `windows: []`; for none \
             at all `suspend: true`)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 6h, zone: Europe/Berln}]}",
            55,
            "x-ofop.windows[0].zone: there is no time zone `Europe/Berln` (did you mean `Europe/Berlin`?)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 6h, zone: new york}]}",
            55,
            "x-ofop.windows[0].zone: there is no time zone `new york` (did you mean `America/New_York`?)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 6h, zone: '+01:00'}]}",
            55,
            "x-ofop.windows[0].zone: there is no time zone `+01:00` (a name of the tz database, such as `Europe/Berlin` or \
             `UTC`)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 6h}]}",
            20,
            "x-ofop.windows[0].zone: `zone` is missing (add it, such as `zone: Europe/Berlin`: time zone whose clock counts)",
        ),
        (
            "{windows: [{allow: 0 22 31 2 *, for: 6h, zone: UTC}]}",
            20,
            "x-ofop.windows[0]: never starts: its pattern names no day that there is (a day of month and a month that both \
             exist, such as `0 0 L 2 *` for the last day of February)",
        ),
        (
            "{windows: [{allow: 0 22 * * *, for: 1h, zone: UTC}, {deny: 0 20 * * *, for: 4h, zone: UTC}]}",
            10,
            "x-ofop.windows: never open: in a whole year there is no moment that is allowed and not denied (shorten the `deny` \
             rules, or `allow` a time that they leave free; to leave resources alone altogether write `suspend: true`)",
        ),
        (
            "{resources: {app/SAW: {windows: [{alow: 0 22 * * *, for: 6h, zone: UTC, deny: 0 1 * * *}]}}}",
            43,
            "x-ofop.resources.\"app/SAW\".windows[0].alow: unknown field `alow` (did you mean `allow`?)",
        ),
        (
            "{repairs: windows}",
            19,
            "x-ofop.repairs: must be `always` or `window`, not `windows` (did you mean `window`?)",
        ),
    ] {
        let (windows, problems) = parsed(settings, &ParseContext::new(PlatformKind::Swarm));
        assert!(windows.is_none(), "{settings}");
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let wanted = format!("f.yml:{line}:{column}: {said}");
        if found != [wanted.as_str()] {
            wrong.push(format!("{}\n{wanted}", found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn values_of_variables_are_not_quoted() {
    let variables = [("SECRET".to_owned(), "5ecret".to_owned())].into();
    let context = ParseContext { variables: Arc::new(variables), ..ParseContext::new(PlatformKind::Swarm) };
    for rule in [
        "{allow: '${SECRET} 22 * * *', for: 6h, zone: UTC}",
        "{allow: 0 22 * * *, for: '${SECRET}', zone: UTC}",
        "{allow: 0 22 * * *, for: 6h, zone: '${SECRET}'}",
    ] {
        let (windows, problems) = parsed(&format!("{{windows: [{rule}]}}"), &context);
        assert!(windows.is_none() && problems.len() == 1, "{problems:?}");
        assert!(!problems[0].to_string().contains("5ecret"), "{}", problems[0]);
    }
}
