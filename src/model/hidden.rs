//! Values of secret variables, and texts without them.
//!
//! The value of an environment variable is hidden where it is printed: everything that prints one knows it. A value that a
//! manifest puts anywhere else (an image's tag, a label, a constraint, a URL) is part of texts that are told in many places,
//! by us and by the engine. Whatever leaves the program as text passes here, and such a value does not leave with it.
//!
//! # Guarantees
//!
//! - No value of [`SHORTEST`] or more characters remains, neither as it is nor as JSON, HTML, a URL or a host name writes it.
//! - JSON stays JSON with the same keys.
//! - Without such values, which is the usual case, a text costs nothing.
//! - What was once hidden stays so while the program runs, whatever becomes of the manifest that used it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::de::IgnoredAny;

use super::names::normal_name;
use super::text::html;

/// Shorter values are words such as `1` or `on`: they say nothing, and would leave holes everywhere.
pub const SHORTEST: usize = 4;

/// What stands for a value.
pub const HIDDEN: &str = "(hidden)";

/// The values that outputs must not show. Clones share them.
#[derive(Clone, Default)]
pub struct HiddenValues {
    shared: Arc<RwLock<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// In all their spellings, the longest first.
    everywhere: Vec<String>,
    /// Those that are values of environment variables, where such are shown at all.
    environment: Vec<String>,
}

/// Never a value.
impl fmt::Debug for HiddenValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HiddenValues").finish_non_exhaustive()
    }
}

impl HiddenValues {
    /// Hides values from now on, wherever they stand.
    pub fn add<'v>(&self, values: impl IntoIterator<Item = &'v str>) {
        self.insert(values, |shared| &mut shared.everywhere);
    }

    /// Hides values in environments that are printed.
    pub fn add_of_environment<'v>(&self, values: impl IntoIterator<Item = &'v str>) {
        self.insert(values, |shared| &mut shared.environment);
    }

    fn insert<'v>(&self, values: impl IntoIterator<Item = &'v str>, list: fn(&mut Shared) -> &mut Vec<String>) {
        let spellings: BTreeSet<String> = values.into_iter().flat_map(spellings).collect();
        if spellings.is_empty() {
            return;
        }
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let list = list(&mut shared);
        for spelling in spellings {
            // A value within another one must not take that one's middle away before.
            let at = list.partition_point(|other| (other.len(), other) > (spelling.len(), &spelling));
            if list.get(at) != Some(&spelling) {
                list.insert(at, spelling);
            }
        }
    }

    /// Whether there is nothing to hide outside environments.
    pub fn is_empty(&self) -> bool {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).everywhere.is_empty()
    }

    /// The text without any value.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        if !shared.everywhere.iter().any(|spelling| text.contains(spelling.as_str())) {
            return Cow::Borrowed(text);
        }
        // What only looks like JSON has more than texts in quotes.
        let is_json = text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok();
        Cow::Owned(if is_json { mask_json(text, &shared.everywhere) } else { replace(text, &shared.everywhere) })
    }

    /// The value of an environment variable as it may be printed.
    pub fn mask_environment<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        if !shared.environment.iter().any(|spelling| text.contains(spelling.as_str())) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(replace(text, &shared.environment))
    }
}

/// A value in every way in which it is written somewhere.
fn spellings(value: &str) -> Vec<String> {
    let long = |text: &str| text.chars().count() >= SHORTEST;
    let value = value.trim();
    if !long(value) {
        return Vec::new();
    }
    let mut all = vec![value.to_owned()];
    // Texts of several lines are told line by line too.
    all.extend(value.lines().map(|line| line.trim().to_owned()));
    let escaped = |text: &String| {
        let json = json_escaped(text);
        [
            text.to_lowercase(),
            normal_name(text),
            json_escaped(&json),
            json,
            html(text),
            url_escaped(text, false),
            url_escaped(text, true),
        ]
    };
    let more: Vec<String> = all.iter().flat_map(escaped).collect();
    all.extend(more);
    all.retain(|text| long(text));
    all
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    quoted.trim_start_matches('"').strip_suffix('"').map(str::to_owned).unwrap_or_default()
}

/// As a URL has it: all but letters, digits and `-._~`, or what a path may not have (WHATWG URL, path percent-encode set).
fn url_escaped(text: &str, path: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = if path {
            byte.is_ascii_graphic() && !b"\"#<>?^`{}".contains(&byte)
        } else {
            byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
        };
        if plain {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn replace(text: &str, spellings: &[String]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    // The first value that is there, and of those that begin in one place the longest.
    while let Some((at, length)) = spellings
        .iter()
        .filter_map(|spelling| rest.find(spelling.as_str()).map(|at| (at, spelling.len())))
        .min_by_key(|(at, length)| (*at, usize::MAX - length))
    {
        clean.push_str(&rest[..at]);
        clean.push_str(HIDDEN);
        rest = &rest[at + length..];
    }
    clean.push_str(rest);
    clean
}

/// Replaces within the texts of a JSON document, its keys aside.
fn mask_json(text: &str, spellings: &[String]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(quote) = rest.find('"') {
        let inside = &rest[quote + 1..];
        let Some(end) = end_of_text(inside) else { break };
        let after = &inside[end + 1..];
        clean.push_str(&rest[..=quote]);
        if after.trim_start().starts_with(':') {
            clean.push_str(&inside[..end]);
        } else {
            clean.push_str(&replace(&inside[..end], spellings));
        }
        clean.push('"');
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// Where the quote is that ends a text.
fn end_of_text(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(values: &[&str]) -> HiddenValues {
        let hidden = HiddenValues::default();
        hidden.add(values.iter().copied());
        hidden
    }

    #[test]
    fn values_are_hidden_however_they_are_written() {
        let hidden = hidden(&["hunter2", "Pa\"ss<1>&'\\/ \u{e4}", "line one\nline two", "My_Host 7"]);
        for (text, clean) in [
            ("plant/press:hunter2-r1 and vhunter2x", "plant/press:(hidden)-r1 and v(hidden)x"),
            ("Pa\"ss<1>&'\\/ \u{e4}", HIDDEN),
            (r#"x Pa\"ss<1>&'\\/ ä"#, "x (hidden)"),
            ("Pa&quot;ss&lt;1&gt;&amp;&#39;\\/ \u{e4}", HIDDEN),
            ("https://h/Pa%22ss%3C1%3E&'\\/%20%C3%A4", "https://h/(hidden)"),
            ("?t=Pa%22ss%3C1%3E%26%27%5C%2F%20%C3%A4", "?t=(hidden)"),
            ("first: line one", "first: (hidden)"),
            ("Host(`my-host-7.plant`)", "Host(`(hidden).plant`)"),
            ("nothing of it, hunter 2", "nothing of it, hunter 2"),
        ] {
            assert_eq!(hidden.mask(text), clean, "{text}");
        }
        assert!(matches!(hidden.mask("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn the_longest_of_overlapping_values_goes_first_and_short_ones_stay() {
        let hidden = hidden(&["abcd", "abcdef", "on", " 12 ", "cdefgh"]);
        assert_eq!(hidden.mask("abcdef abcd on 12 xcdefgh"), "(hidden) (hidden) on 12 x(hidden)");
    }

    #[test]
    fn json_stays_json_with_its_keys() {
        let hidden = hidden(&["image", "a\"b\\c"]);
        let text = r#"{"image": "image:1", "list": ["my image", "a\"b\\c", "\\"], "n": {"a\"b\\c" : 1}}"#;
        let clean = r#"{"image": "(hidden):1", "list": ["my (hidden)", "(hidden)", "\\"], "n": {"a\"b\\c" : 1}}"#;
        assert_eq!(hidden.mask(text), clean);
        serde_json::from_str::<serde_json::Value>(clean).unwrap();
    }

    #[test]
    fn what_only_looks_like_json_is_masked_as_a_whole() {
        let hidden = hidden(&["hunter2"]);
        for (text, clean) in [
            ("[hunter2] \"hunter2\"", "[(hidden)] \"(hidden)\""),
            ("{hunter2: 1}", "{(hidden): 1}"),
            ("{\"a\": \"hunter2\"}\n{\"b\": \"hunter2\"}\n", "{\"a\": \"(hidden)\"}\n{\"b\": \"(hidden)\"}\n"),
        ] {
            assert_eq!(hidden.mask(text), clean);
        }
    }

    #[test]
    fn values_of_the_environment_are_hidden_in_environments_alone() {
        let hidden = HiddenValues::default();
        hidden.add_of_environment(["factory"]);
        assert_eq!(hidden.mask("factory-net"), "factory-net");
        assert_eq!(hidden.mask_environment("amqp://me:factory@host"), "amqp://me:(hidden)@host");
    }
}
