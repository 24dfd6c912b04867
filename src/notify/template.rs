//! Bodies of webhooks as their receivers want them.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

use super::message::{Change, Counts, Item, Message, MessageStatus, VERSION};
use crate::report::concerns::ConcernSeverity;

/// How much work a template may be, in steps of its engine: a loop over all items takes some thousand.
const FUEL: u64 = 200_000;

/// The longest body that a template may yield, in bytes.
const MAX_BODY: usize = 256 * 1024;

/// The body that a template makes of a message.
///
/// # Errors
/// A sentence that says what is wrong and where.
pub(super) fn render(template: &str, message: &Message) -> Result<String, String> {
    // Its filters (`tojson`, `join`, `length`) read neither files nor the environment.
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let body = environment.render_str(template, Serde(context(message))).map_err(|error| {
        let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
        let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        format!("the template cannot be used{line}: {detail}")
    })?;
    if body.len() > MAX_BODY {
        return Err(format!("the template yields more than {MAX_BODY} bytes"));
    }
    Ok(body)
}

/// The message with a value for each field: a template that names another one is wrong, and none fails for what is missing.
fn context(message: &Message) -> Value {
    let mut value = serde_json::to_value(message).unwrap_or_default();
    let fill = |value: &mut Value, names: &[&str]| {
        for name in names {
            if value.get(name).is_none() {
                value[*name] = Value::from("");
            }
        }
    };
    fill(&mut value, &["link"]);
    for item in value["items"].as_array_mut().into_iter().flatten() {
        fill(item, &["resource", "file", "hint"]);
    }
    value
}

/// Tries a template with a message that has everything.
///
/// # Errors
/// A sentence that says what is wrong and where.
pub(super) fn check(template: &str, json: bool) -> Result<(), String> {
    let body = render(template, &sample())?;
    if json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&body) {
        return Err(format!("the template yields no JSON: {error}"));
    }
    Ok(())
}

/// A message with every field, and characters that JSON must quote.
fn sample() -> Message {
    Message {
        version: VERSION,
        id: "default-1-1".into(),
        time: "2026-01-02T03:04:05.000Z".into(),
        instance: "default".into(),
        rule: "rule 1".into(),
        group: "image_missing".into(),
        status: MessageStatus::Failing,
        severity: ConcernSeverity::Critical,
        title: "app/A: image_missing: no such \"image\"".into(),
        counts: Counts { new: 1, recovered: 0, failing: 1, news: 0 },
        items: vec![Item {
            subject: "resource app/A".into(),
            change: Change::Failing,
            kind: "image_missing".into(),
            severity: ConcernSeverity::Critical,
            resource: Some("app/A".into()),
            file: Some("app_a.yml".into()),
            message: "no such \"image\"\n".into(),
            hint: "push it".into(),
            since: "2026-01-02T03:04:05.000Z".into(),
        }],
        omitted: 0,
        revision: "0123abcd".into(),
        link: Some("https://ofop.example/".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_the_fields_of_a_message_and_nothing_else() {
        for (template, json) in [
            (r#"{"text": {{ title | tojson }}}"#, true),
            (r#"[{% for item in items %}{{ item | tojson }}{% if not loop.last %},{% endif %}{% endfor %}]"#, true),
            ("{{ severity }}: {{ title }} {{ counts.failing }} {{ link }}", false),
        ] {
            assert_eq!(check(template, json), Ok(()), "{template}");
        }
        for (template, json, word) in [
            (r#"{"text": "{{ title }}"}"#, true, "no JSON"),
            ("{{ tilte }}", false, "line 1"),
            ("{{ title", false, "line 1"),
            (
                "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
                false,
                "cannot be used",
            ),
            ("{% include '/etc/passwd' %}", false, "cannot be used"),
            ("{% for a in range(1000) %}{{ 'x' * 1000 }}{% endfor %}", false, ""),
        ] {
            let problem = check(template, json).unwrap_err();
            assert!(problem.contains(word), "{template}: {problem}");
        }
    }
}
