use proptest::prelude::*;

use super::*;
use crate::model::ServiceName;

fn spec(env: &[(&str, &str)]) -> ServiceSpec {
    let mut spec = ServiceSpec::new(ServiceName::new("app-34").unwrap(), "i");
    spec.env = env.iter().map(|(name, value)| EnvVar::new(*name, *value)).collect();
    spec
}

fn clean(env: &[(&str, &str)], text: &str) -> String {
    Scrubber::of(&spec(env)).clean(text)
}

/// Go's `strconv.Quote`.
fn go_quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Go's `fmt.Sprintf` of a format without arguments (Go 1.26, `fmt/print.go`).
fn go_format(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        while chars.next_if(|c| matches!(c, '+' | '-' | '#' | ' ' | '0')).is_some() {}
        while chars.next_if(char::is_ascii_digit).is_some() {}
        if chars.next_if_eq(&'.').is_some() {
            while chars.next_if(char::is_ascii_digit).is_some() {}
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    out
}

fn json(text: &str) -> String {
    // Go's encoder escapes these, too.
    serde_json::to_string(text).unwrap().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}

fn rewrite(text: &str, how: &[u8]) -> String {
    how.iter().fold(text.to_owned(), |text, how| match how {
        0 => go_quote(&text),
        1 => go_format(&text),
        2 => json(&text),
        3 => html(&text),
        _ => text,
    })
}

fn has_word(text: &str, word: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !glyphs::is_word(c));
    text.match_indices(word).any(|(at, _)| {
        (edge(word.chars().next()) || edge(text[..at].chars().next_back()))
            && (edge(word.chars().next_back()) || edge(text[at + word.len()..].chars().next()))
    })
}

#[test]
fn words_around_a_value_are_never_cut() {
    let env = [
        ("OPENFACTORY_LOG_BACKEND", "text"),
        ("DOCKER_SERVICE", "app-34"),
        ("APP_UUID", "APP-34"),
        ("PORT", "8080"),
        ("FORMAT", "text"),
    ];
    for text in [
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        "service app-34 already exists",
        "port '8080' is already in use by service 'x'",
    ] {
        assert_eq!(clean(&env, text), text);
    }
    // A user's value is hidden, as a word.
    assert_eq!(clean(&env, "in context of text, text_1 and (text)"), "in context of <hidden>, text_1 and (<hidden>)");
}

#[test]
fn what_the_operator_sets_is_no_secret_and_what_a_user_sets_in_its_place_is_one() {
    for (name, own) in
        [("DOCKER_SERVICE", "app-34"), ("OPENFACTORY_LOG_BACKEND", "text"), ("KSQLDB_LOG_LEVEL", "WARNING")]
    {
        assert_eq!(clean(&[(name, own)], own), own);
        assert_eq!(clean(&[(name, "hunter2")], "hunter2"), HIDDEN);
    }
    assert_eq!(clean(&[("KAFKA_BROKER", "kafka.plant:9092")], "no kafka.plant:9092"), "no <hidden>");
}

#[test]
fn short_values_are_hidden_beside_their_names() {
    assert_eq!(
        clean(&[("PIN", "42")], "invalid PIN=42 of 42, SPIN=42, PIN=423"),
        "invalid PIN=<hidden> of 42, SPIN=42, PIN=423"
    );
    assert_eq!(clean(&[("PIN", "4\"")], r#"invalid "PIN=4\"""#), r#"invalid "PIN=<hidden>""#);
}

#[test]
fn everything_behind_the_words_of_a_template_error_is_dropped() {
    let name = |text: &str| Scrubber::default().clean(text);
    let rpc = "rpc error: code = InvalidArgument desc = ";
    assert_eq!(
        name(&format!(
            "{rpc}expanding env failed: expanding env \"MASK={{{{Kirsch \\\"x\\\" %!G(MISSING)\": template: expansion:1: \
             function \"Kirsch\" not defined"
        )),
        format!("{rpc}expanding env failed: expanding env \"MASK=<hidden>\"")
    );
    for quote in
        ["expanding map entry \"o\"=\"hunter2", "expanding mount source \"hunter2\"", "expanding env \\\"A B=x"]
    {
        let cleaned = name(quote);
        assert!(cleaned.ends_with("<hidden>") && !cleaned.contains("hunter2") && !cleaned.contains("B=x"), "{cleaned}");
    }
    assert_eq!(
        name("template: expansion:1:2: executing \"expansion\" at <.Kirsch>: can't"),
        "template: expansion:1:2: <hidden>"
    );
    let other = "invalid log tag: template: log-tag:1: unexpected EOF";
    assert_eq!(name(other), other);
}

#[test]
fn words_of_a_template_are_hidden_wherever_they_are_named() {
    let env = [("MASK", "a {{ .Kirsch \"Torte\" }} b {{Sahne")];
    assert_eq!(
        clean(&env, "function \"Kirsch\" or Torte or Sahne not defined"),
        "function \"<hidden>\" or <hidden> or <hidden> not defined"
    );
}

#[test]
fn truncated_values_are_hidden() {
    let env = [("TOKEN", "hunter2-and-more-of-it")];
    for text in ["bad hunter2-and…", "bad hunter2-and...", "bad …more-of-it", "bad ...more-of-it"] {
        let cleaned = clean(&env, text);
        assert!(cleaned.starts_with("bad ") && !cleaned.contains("hunt") && !cleaned.contains("more"), "{cleaned}");
    }
    assert_eq!(clean(&env, "a hunter…"), "a <hidden>…");
    assert_eq!(clean(&env, "no hunter"), "no hunter");
}

#[test]
fn values_in_addresses_are_hidden() {
    let value = "p w/ä%d";
    let text = format!("GET http://x/?t={}&u=1", crate::platform::engine::encode(value));
    assert_eq!(clean(&[("TOKEN", value)], &text), "GET http://x/?t=<hidden>&u=1");
}

#[test]
fn values_of_volume_options_are_hidden() {
    let options = [("o".to_owned(), "addr=10.0.0.5,password=x".to_owned())].into();
    let mount =
        Mount::Volume { source: "v".into(), target: "/v".into(), driver: "local".into(), options, read_only: false };
    let text = "failed to mount, data: addr=10.0.0.5,password=x: refused";
    assert_eq!(Scrubber::new(None, &[], &[mount]).clean(text), "failed to mount, data: <hidden>: refused");
}

#[test]
fn a_long_text_is_cut_between_words() {
    let long = format!("{} hunter2", "x ".repeat(LONGEST_TEXT));
    assert!(clean(&[("A", "hunter2")], &long).len() <= LONGEST_TEXT);
    let one = "x".repeat(2 * LONGEST_TEXT);
    assert_eq!(clean(&[("A", &one)], &one), "");
}

/// What engines say, with a place for a quoted text.
const SAID: [&str; 6] = [
    "rpc error: code = InvalidArgument desc = invalid {} in spec",
    "{}",
    "starting container failed: {}: no such file or directory",
    "invalid mount config: {} (HTTP 400)",
    "rpc error: code = InvalidArgument desc = expanding env failed: expanding env \"NAME={}\": template: expansion:1: bad",
    "value '{}' is invalid",
];

/// Values with everything in them that programs rewrite.
fn values() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        4 => "[a-zA-Z0-9_]{1,6}",
        2 => "[%\\\\\"'<>&{}.:/=+ -]{1,3}",
        1 => Just("%d".to_owned()),
        1 => Just("%-5.2f".to_owned()),
        1 => Just("100%".to_owned()),
        1 => Just("\\n".to_owned()),
        1 => Just("\n".to_owned()),
        1 => Just("ä€😀".to_owned()),
        1 => Just("{{ .X }}".to_owned()),
    ];
    proptest::collection::vec(pieces, 1..6)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("4 characters, and not what stands for a value", |value| {
            value.trim().chars().count() >= SHORTEST_VALUE && !HIDDEN.contains(value.trim())
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_value_is_in_a_text_in_any_rewriting(
        value in values(),
        said in 0..SAID.len(),
        how in proptest::collection::vec(0u8..5, 0..4),
        whole in any::<bool>(),
    ) {
        let (head, tail) = SAID[said].split_once("{}").unwrap();
        let rewritten = rewrite(&value, &how);
        // The words around are no values by accident.
        prop_assume!(!has_word(head, value.trim()) && !has_word(tail, value.trim()));
        let text = if whole { rewrite(&format!("{head}{value}{tail}"), &how) } else { format!("{head}{rewritten}{tail}") };
        let cleaned = clean(&[("NAME", &value)], &text);
        prop_assert!(!has_word(&cleaned, value.trim()), "{value:?} in {cleaned:?}");
        let as_written = crate::platform::engine::one_line(&rewritten);
        if rewritten != value && as_written.trim().len() > 4 && !whole {
            prop_assert!(!has_word(&cleaned, as_written.trim()), "{rewritten:?} in {cleaned:?}");
        }
    }

    #[test]
    fn a_text_without_values_stays(text in "[ a-zA-Z0-9%\\\\\"'(){}:=_.…-]{0,80}", value in "[q]{4}[a-z]{0,8}") {
        prop_assume!(!text.contains("qqqq") && without_quotes(&text) == text);
        prop_assert_eq!(clean(&[("NAME", &value)], &text), text);
    }
}
