//! Just enough of SQL, and no more than the server takes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Refusal, Row, malformed};

/// `COLUMN = 'text'` or `COLUMN != 'text'`.
#[derive(Clone)]
pub(super) struct Term {
    pub(super) column: String,
    pub(super) equal: bool,
    pub(super) text: String,
}

/// Splits SQL into words: names in capitals, texts with their quotes, single marks.
pub(super) fn tokens(sql: &str) -> Result<Vec<String>, Refusal> {
    let mut words = Vec::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '\'' | '`' => {
                let mut word = String::from(c);
                loop {
                    match chars.next() {
                        None => return Err(malformed("a text does not end")),
                        Some(end) if end == c && chars.next_if_eq(&c).is_none() => break,
                        Some(inside) => word.push(inside),
                    }
                }
                word.push(c);
                words.push(word);
            }
            '!' if chars.next_if_eq(&'=').is_some() => words.push("!=".into()),
            ':' if chars.next_if_eq(&'=').is_some() => words.push(":=".into()),
            ',' | '(' | ')' | '<' | '>' | '=' | '*' | '[' | ']' => words.push(c.into()),
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(more) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) {
                    word.push(more);
                }
                words.push(word.to_uppercase());
            }
            other => return Err(malformed(format!("extraneous input '{other}'"))),
        }
    }
    Ok(words)
}

/// `A = 'x' OR (B = 'y') AND …`: alternatives of terms that must all hold.
pub(super) fn condition(words: &[&str]) -> Result<Vec<Vec<Term>>, Refusal> {
    let flat: Vec<&str> = words.iter().copied().filter(|word| !matches!(*word, "(" | ")")).collect();
    // `(A OR B) AND C` means A AND C or B AND C; this is the one form with parentheses that is used.
    let distributed = words.first() == Some(&"(") && words.contains(&"AND");
    let alternatives = if distributed {
        let and = flat.iter().position(|word| *word == "AND").unwrap();
        let (either, both) = (&flat[..and], &flat[and + 1..]);
        either.split(|word| *word == "OR").map(|part| [part, &["AND"], both].concat()).collect()
    } else {
        flat.split(|word| *word == "OR").map(<[&str]>::to_vec).collect::<Vec<_>>()
    };
    alternatives
        .iter()
        .map(|alternative| {
            alternative
                .split(|word| *word == "AND")
                .map(|term| match term {
                    [column, sign @ ("=" | "!="), text] if text.starts_with('\'') => Ok(Term {
                        column: (*column).to_owned(),
                        equal: *sign == "=",
                        text: text.trim_matches('\'').to_owned(),
                    }),
                    _ => Err(malformed(format!("odd condition {term:?}"))),
                })
                .collect()
        })
        .collect()
}

pub(super) fn holds(condition: &[Vec<Term>], row: &Row) -> bool {
    let term = |term: &Term| {
        row.get(&term.column).and_then(Value::as_str).is_some_and(|text| (text == term.text) == term.equal)
    };
    condition.is_empty() || condition.iter().any(|all| all.iter().all(term))
}

/// `(NAME TYPE KEY, …)`.
pub(super) fn columns(words: &[&str]) -> Result<Vec<(String, String)>, Refusal> {
    let mut columns = Vec::new();
    let (mut depth, mut column): (usize, Vec<&str>) = (0, Vec::new());
    for word in words {
        match *word {
            "(" if depth == 0 => depth = 1,
            "<" => depth += 1,
            ">" => depth -= 1,
            ")" | "," if depth == 1 => {
                let [name, kind, ..] = column.as_slice() else { return Err(malformed("a column needs a type")) };
                columns.push(((*name).to_owned(), (*kind).replace("VARCHAR", "STRING")));
                column.clear();
                if *word == ")" {
                    return Ok(columns);
                }
                continue;
            }
            _ => {}
        }
        if depth > 0 && !matches!(*word, "(") {
            column.push(word);
        }
    }
    Err(malformed("columns are expected"))
}

/// `WITH (NAME='value', NAME=value)`.
pub(super) fn options(words: &[&str]) -> Result<BTreeMap<String, String>, Refusal> {
    let Some(with) = words.iter().position(|word| *word == "WITH") else { return Ok(BTreeMap::new()) };
    let inside = words[with + 1..]
        .strip_prefix(&["("])
        .and_then(|rest| rest.strip_suffix(&[")"]))
        .ok_or_else(|| malformed("options are expected in parentheses"))?;
    inside
        .split(|word| *word == ",")
        .map(|option| match option {
            [name @ ("KAFKA_TOPIC" | "VALUE_FORMAT" | "KEY_FORMAT" | "PARTITIONS"), "=", value] => {
                Ok(((*name).to_owned(), value.trim_matches('\'').to_owned()))
            }
            _ => Err(malformed(format!("odd option {option:?}"))),
        })
        .collect()
}
