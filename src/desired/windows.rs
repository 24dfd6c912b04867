//! `windows` and `repairs` of `x-ofop`: when changes may go out.

use super::checked::{Object, Typed, Value};
use super::fields::{Field, Kind, Presence, Shape, TEXT, Unknown, nearest};
use super::problems::Problems;
use super::yaml::push_index;
use crate::model::windows::{Cron, Effect, InvalidCron, InvalidLength, WindowLength, Zone, zones};
use crate::model::{InvalidWindows, Repairs, WindowRule, Windows};

pub(super) const WINDOWS: Kind = Kind::List(&Kind::Object(&WINDOW));
pub(super) const WINDOWS_DOC: &str = "When changes from manifests may go out, creations and removals included: while an \
     `allow` rule (where there is one) and no `deny` rule holds. `[]`: at any time, whatever the default is.";
pub(super) const WINDOWS_EXAMPLE: &str = r#"[{"allow": "0 22 * * MON-FRI", "for": "6h", "zone": "Europe/Berlin"}]"#;
pub(super) const REPAIRS: Kind = Kind::Choice(&Repairs::ALL);
pub(super) const REPAIRS_DOC: &str = "`always`: drift is repaired at any time. `window`: repairs wait for the windows as \
     well. The default is `always`.";

static WINDOW: Shape = Shape {
    name: "window",
    doc: "From each moment that a cron pattern names, for so long: `allow` or `deny`.",
    unknown: Unknown::Refuse,
    fields: &[
        field("allow", TEXT, Presence::Optional, "Changes may go out: minute, hour, day of month, month, day of week.")
            .such_as("0 22 * * MON-FRI"),
        field("deny", TEXT, Presence::Optional, "Changes wait; goes before every `allow`.").such_as("0 0 24 12 *"),
        field("for", Kind::Length, Presence::Required, "How long, from a minute to seven days.").such_as("6h"),
        field("zone", TEXT, Presence::Required, "Time zone whose clock counts.").such_as("Europe/Berlin"),
    ],
};

const fn field(name: &'static str, kind: Kind, presence: Presence, doc: &'static str) -> Field {
    Field { name, doc, example: "", kind, presence }
}

/// Reads what one place says of windows. What is wrong of it says nothing.
pub(super) fn said(object: &Object, path: &str, problems: &mut Problems<'_>) -> Windows {
    let repairs = object.text("repairs").and_then(|text| text.parse().ok());
    let path = format!("{path}.windows");
    let given = matches!(object.get("windows").map(|value| &value.typed), Some(Typed::List(_)));
    let items = object.list("windows");
    let rules: Vec<WindowRule> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            let mut path = path.clone();
            push_index(&mut path, index);
            rule(item, &path, problems)
        })
        .collect();
    // What a list means that lacks a rule is not what was meant.
    let rules = (given && rules.len() == items.len()).then_some(rules);
    match Windows::new(rules, repairs) {
        Ok(windows) => windows,
        Err(error) => {
            never(&error, object, &path, problems);
            Windows::default()
        }
    }
}

fn never(error: &InvalidWindows, object: &Object, path: &str, problems: &mut Problems<'_>) {
    match error {
        InvalidWindows::NeverStarts(index, _) => {
            let item = object.list("windows").get(*index);
            let at = item.map_or_else(|| object.at("windows"), |item| item.at);
            let mut path = path.to_owned();
            push_index(&mut path, *index);
            let hint = "a day of month and a month that both exist, such as `0 0 L 2 *` for the last day of February";
            problems.error_hint(at, &path, "never starts: its pattern names no day that there is", hint);
        }
        InvalidWindows::NeverOpens
        | InvalidWindows::Form(_)
        | InvalidWindows::Cron(..)
        | InvalidWindows::Length(..)
        | InvalidWindows::Zone(_)
        | InvalidWindows::Repairs => {
            let hint = "shorten the `deny` rules, or `allow` a time that they leave free; to leave resources alone \
                        altogether write `suspend: true`";
            let message = "never open: in a whole year there is no moment that is allowed and not denied";
            problems.error_hint(object.at("windows"), path, message, hint);
        }
    }
}

fn rule(item: &Value, path: &str, problems: &mut Problems<'_>) -> Option<WindowRule> {
    let Typed::Object(object) = &item.typed else { return None };
    let (allow, deny) = (!object.is_null("allow"), !object.is_null("deny"));
    let effect = match (allow, deny) {
        (true, false) => Some(Effect::Allow),
        (false, true) => Some(Effect::Deny),
        (true, true) => {
            let hint = "write two rules, one with `allow` and one with `deny`, each with its own `for`";
            problems.error_hint(item.at, path, "has both `allow` and `deny`", hint);
            None
        }
        (false, false) => {
            let hint = "add when it starts, such as `allow: \"0 22 * * MON-FRI\"`: at 22:00 from Monday to Friday";
            problems.error_hint(item.at, path, "has neither `allow` nor `deny`", hint);
            None
        }
    };
    let cron = effect.and_then(|effect| cron(object, effect, path, problems));
    let length = length(object, path, problems);
    let zone = zone(object, path, problems);
    Some(WindowRule::new(effect?, cron?, length?, zone?))
}

fn cron(object: &Object, effect: Effect, path: &str, problems: &mut Problems<'_>) -> Option<Cron> {
    let text = object.text(effect.as_str())?;
    let error = match text.parse::<Cron>() {
        Ok(cron) => return Some(cron),
        Err(error) => error,
    };
    let hidden = object.hidden(effect.as_str());
    let (message, hint) = match error {
        InvalidCron::Fields(found) => (
            format!("a cron pattern has five fields, not {found}"),
            "minute, hour, day of month, month, day of week: `0 22 * * MON-FRI` is 22:00 from Monday to Friday"
                .to_owned(),
        ),
        InvalidCron::Field(field, text) => {
            let what = if hidden { String::new() } else { format!(" `{}`", text.escape_debug()) };
            (format!("there is no {}{what}", field.as_str()), format!("write {}", field.values()))
        }
    };
    problems.error_hint(object.at(effect.as_str()), &format!("{path}.{}", effect.as_str()), message, hint);
    None
}

fn length(object: &Object, path: &str, problems: &mut Problems<'_>) -> Option<WindowLength> {
    let error = match object.text("for")?.parse::<WindowLength>() {
        Ok(length) => return Some(length),
        Err(error) => error,
    };
    let hint = match error {
        InvalidLength::Form => "minutes, hours and days: `45m`, `6h`, `1h30m`, `2d`",
        InvalidLength::Zero => "give it a length, such as `6h`, or remove the rule",
        InvalidLength::Long => "for changes at any time write `windows: []`; for none at all `suspend: true`",
    };
    problems.error_hint(object.at("for"), &format!("{path}.for"), error.to_string(), hint);
    None
}

fn zone(object: &Object, path: &str, problems: &mut Problems<'_>) -> Option<Zone> {
    let text = object.text("zone")?;
    if let Some(zone) = Zone::new(text) {
        return Some(zone);
    }
    let message = match object.hidden("zone") {
        true => "there is no such time zone".to_owned(),
        false => format!("there is no time zone `{}`", text.escape_debug()),
    };
    let hint = match meant(text).filter(|_| !object.hidden("zone")) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "a name of the tz database, such as `Europe/Berlin` or `UTC`".to_owned(),
    };
    problems.error_hint(object.at("zone"), &format!("{path}.zone"), message, hint);
    None
}

/// The zone that was meant: a place without its continent, or a slip of the finger.
fn meant(text: &str) -> Option<String> {
    let zones = zones();
    let place = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase().replace('_', " ");
    let wrong = place(text.trim());
    let named = zones.iter().find(|name| name.contains('/') && place(name) == wrong);
    named.cloned().or_else(|| nearest(text.trim(), zones.iter().map(String::as_str)).map(str::to_owned))
}
