//! Reads a dotenv file the way OpenFactory's own command line does, so that an existing `.ofaenv` works as it is.
//!
//! The rules are those of the `python-dotenv` package: `NAME=value` a line, an optional `export`, comments behind
//! `#` (in an unquoted value only after white space), single quotes (`\'` and `\\` are escapes), double quotes
//! (`\n`, `\t`, `\"`, … are escapes), quoted values over several lines, and `${NAME}` or `${NAME:-default}` in any
//! value. A name without `=` sets nothing. A line that cannot be read is an error here, where Python only warns.

use std::collections::BTreeMap;

/// One `NAME=value` of a file, as written, before `${…}` is replaced.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Left of the `=`.
    pub name: String,
    /// Right of it, quotes and escapes gone.
    pub value: String,
    /// Line of the name, from 1.
    pub line: u32,
}

/// A line that cannot be read. Never quotes the line: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub line: u32,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Reads a file's text.
///
/// # Errors
/// At the first line that has no meaning.
pub fn parse(text: &str) -> Result<Vec<Entry>, BadLine> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { rest: text, line: 1 };
    let mut entries = Vec::new();
    loop {
        reader.skip(char::is_whitespace);
        if reader.rest.is_empty() {
            return Ok(entries);
        }
        if reader.rest.starts_with('#') {
            reader.skip(|c| !is_line_end(c));
            continue;
        }
        entries.extend(reader.binding()?);
    }
}

/// A variable that is not set, and that another one's value stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unset {
    /// Whose value it is in.
    pub entry: String,
    /// Line of that, from 1.
    pub line: u32,
    /// The variable that is not set.
    pub name: String,
    /// What its author wants said then: `${NAME?message}`.
    pub required: Option<String>,
}

/// Values by name, each with the line of its entry, from 1.
pub type Values = BTreeMap<String, (String, u32)>;

/// Replaces `${NAME}` and `${NAME:-default}` by what `lookup` or an entry further up says. Later entries of
/// the same name win, as they do when a file is loaded in Python. Also says which variables are not set.
pub fn resolve(entries: &[Entry], lookup: impl Fn(&str) -> Option<String>) -> (Values, Vec<Unset>) {
    let mut values = Values::new();
    let mut all_unset: Vec<Unset> = Vec::new();
    for entry in entries {
        let mut unset = Vec::new();
        let lookup = |name: &str| lookup(name).or_else(|| values.get(name).map(|(value, _)| value.clone()));
        let value = interpolate(&entry.value, lookup, &mut unset);
        values.insert(entry.name.clone(), (value, entry.line));
        // The last entry of a name is the one that counts.
        all_unset.retain(|other| other.entry != entry.name);
        let of_entry = |(name, required)| Unset { entry: entry.name.clone(), line: entry.line, name, required };
        all_unset.extend(unset.into_iter().map(of_entry));
    }
    (values, all_unset)
}

fn interpolate(
    value: &str,
    lookup: impl Fn(&str) -> Option<String>,
    unset: &mut Vec<(String, Option<String>)>,
) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = from.find('}') else {
            out.push_str(from);
            return out;
        };
        let inside = &from[2..end];
        let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, text)| (name, Some(text)));
        let required = inside.split_once('?').map(|(name, message)| (name.strip_suffix(':').unwrap_or(name), message));
        match required {
            // A form that Python does not know; its author wants it set.
            Some((name, message)) if is_name(name) && lookup(name).is_none_or(|value| value.is_empty()) => {
                unset.push((name.to_owned(), Some(message.trim().to_owned())));
            }
            Some(_) | None if name.contains(':') => out.push_str(&from[..=end]),
            Some(_) | None => match lookup(name).or(default.map(str::to_owned)) {
                Some(value) => out.push_str(&value),
                None if required.is_none() => unset.push((name.to_owned(), None)),
                None => {}
            },
        }
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    out
}

/// The variables that a value as written refers to.
pub fn references(value: &str) -> impl Iterator<Item = &str> {
    let inside = value.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    inside.map(|(inside, _)| inside.split([':', '?']).next().unwrap_or_default())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

struct Reader<'a> {
    rest: &'a str,
    line: u32,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.line += u32::try_from(taken.matches('\n').count()).unwrap_or(u32::MAX);
        self.rest = rest;
        taken
    }

    fn skip_blanks(&mut self) {
        self.skip(|c| c.is_whitespace() && !is_line_end(c));
    }

    fn binding(&mut self) -> Result<Option<Entry>, BadLine> {
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with(|c: char| c.is_whitespace() && !is_line_end(c))
        {
            self.rest = rest;
            self.skip_blanks();
        }
        let line = self.line;
        let name = if let Some(quoted) = self.rest.strip_prefix('\'') {
            self.rest = quoted;
            let name = self.skip(|c| c != '\'' && !is_line_end(c));
            self.rest = self.rest.strip_prefix('\'').ok_or(BadLine { line, reason: "a quoted name does not end" })?;
            name
        } else {
            self.skip(|c| !c.is_whitespace() && c != '=' && c != '#')
        };
        if name.is_empty() {
            return Err(BadLine { line, reason: "there is no name before `=`" });
        }
        self.skip_blanks();
        let value = match self.rest.strip_prefix('=') {
            Some(rest) => {
                self.rest = rest;
                self.skip_blanks();
                Some(self.value(line)?)
            }
            None => None,
        };
        self.skip_blanks();
        if self.rest.starts_with('#') {
            self.skip(|c| !is_line_end(c));
        }
        if !(self.rest.is_empty() || self.rest.starts_with(is_line_end)) {
            return Err(BadLine {
                line,
                reason: if value.is_some() { "something follows the quoted value" } else { "there is no `=`" },
            });
        }
        Ok(value.map(|value| Entry { name: name.to_owned(), value, line }))
    }

    fn value(&mut self, line: u32) -> Result<String, BadLine> {
        for quote in ['\'', '"'] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                self.rest = rest;
                return self.quoted(quote).ok_or(BadLine { line, reason: "a quoted value does not end" });
            }
        }
        let text = self.skip(|c| !is_line_end(c));
        let comment = text
            .char_indices()
            .zip(std::iter::once(' ').chain(text.chars()))
            .find(|((at, c), before)| *c == '#' && *at > 0 && before.is_whitespace());
        let comment = comment.map(|((at, _), _)| at);
        let text = if text.starts_with('#') { "" } else { &text[..comment.unwrap_or(text.len())] };
        Ok(text.trim_end().to_owned())
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.line += u32::try_from(self.rest[..at].matches('\n').count()).unwrap_or(u32::MAX);
                self.rest = &self.rest[at + 1..];
                return Some(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let (_, escaped) = chars.next()?;
            match (quote, escaped) {
                (_, '\\' | '\'') => out.push(escaped),
                ('"', '"') => out.push('"'),
                ('"', 'n') => out.push('\n'),
                ('"', 'r') => out.push('\r'),
                ('"', 't') => out.push('\t'),
                ('"', 'a') => out.push('\u{7}'),
                ('"', 'b') => out.push('\u{8}'),
                ('"', 'f') => out.push('\u{c}'),
                ('"', 'v') => out.push('\u{b}'),
                (_, other) => out.extend(['\\', other]),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let entries = parse(text).unwrap_or_else(|bad| panic!("line {}: {}", bad.line, bad.reason));
        let outside = |name: &str| (name == "OUTSIDE").then(|| "out".to_owned());
        resolve(&entries, outside).0.into_iter().map(|(name, (value, _))| (name, value)).collect()
    }

    #[test]
    fn values_read_as_python_dotenv_reads_them() {
        for (text, value) in [
            ("A=b", "b"),
            ("export A = b ", "b"),
            ("export\tA=b\r\n", "b"),
            ("\u{feff}A=b", "b"),
            ("A=b c # comment", "b c"),
            ("A=b#c", "b#c"),
            ("A=#c", ""),
            ("A= # c", ""),
            ("A=", ""),
            ("A=''", ""),
            ("A='b # c' # d", "b # c"),
            (r"A='b\'c\\d\n'", r"b'c\d\n"),
            (r#"A="b\"c\n\t\\\x""#, "b\"c\n\t\\\\x"),
            ("A=\"b\nc\"", "b\nc"),
            ("'A'=b", "b"),
            ("A=http://x?a=b&c=d", "http://x?a=b&c=d"),
            ("A=${OUTSIDE}-${NONE:-d}-${NONE}-$OUTSIDE", "out-d--$OUTSIDE"),
            ("A='${OUTSIDE}'", "out"),
            ("A=1\nA=2", "2"),
        ] {
            assert_eq!(read(text), [("A".to_owned(), value.to_owned())], "{text:?}");
        }
        assert_eq!(
            read("# head\n\nA=1\nB=${A}2 \n C=3\nD"),
            [("A", "1"), ("B", "12"), ("C", "3")].map(|(a, b)| (a.into(), b.into()))
        );
    }

    #[test]
    fn variables_that_are_not_set_are_named_with_whose_value_they_are_in() {
        let unset = |text: &str| {
            let unset = resolve(&parse(text).unwrap(), |name| (name == "OUTSIDE").then(|| "out".to_owned())).1;
            unset.into_iter().map(|one| (one.entry, one.line, one.name, one.required)).collect::<Vec<_>>()
        };
        let one = |line, name: &str, required: Option<&str>| {
            vec![("A".to_owned(), line, name.to_owned(), required.map(str::to_owned))]
        };
        assert_eq!(unset("A=${HOST_IP}:9092"), one(1, "HOST_IP", None));
        assert_eq!(unset("A=${X}\n\nA=${Y}"), one(3, "Y", None), "only the last entry of a name counts");
        assert_eq!(unset("A=${X?who is it}"), one(1, "X", Some("who is it")));
        assert_eq!(unset("A=${X:?}"), one(1, "X", Some("")));
        for text in ["A=${X:-}", "A=${X:-d}", "A=${OUTSIDE}", "B=1\nA=${B}", "A=${OUTSIDE?x}", "A=${OUTSIDE:?x}"] {
            assert!(unset(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_line_without_meaning_is_an_error_with_its_number() {
        for (text, line) in [("A=1\n=2", 2), ("A='x\nB=2", 1), ("A=1\n\nB C=3", 3), ("A='x' y", 1)] {
            assert_eq!(parse(text).map(|_| ()).unwrap_err().line, line, "{text:?}");
        }
    }
}
