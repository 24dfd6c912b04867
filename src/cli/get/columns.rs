//! `-o custom-columns=HEADER:.path,…`: a table of what the JSON output holds, as `kubectl` has it.

use serde_json::Value;

use crate::cli::output::Paint;
use crate::cli::table::{Cell, Table};

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    header: String,
    path: Vec<Part>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `.name`
    Field(String),
    /// `[0]`
    Index(usize),
    /// `[*]`
    Each,
}

/// The most columns: what nobody writes by hand is a slip.
const MOST: usize = 64;

/// Reads `NAME:.resource,IMAGE:.services[0].image`.
///
/// # Errors
/// A sentence when a column has no header or its path cannot be read.
pub(super) fn parse(text: &str) -> Result<Vec<Column>, String> {
    let columns: Vec<Column> = text.split(',').map(column).collect::<Result<_, _>>()?;
    if columns.len() > MOST {
        return Err(format!("{} columns are more than {MOST}", columns.len()));
    }
    Ok(columns)
}

fn column(text: &str) -> Result<Column, String> {
    let wrong = || {
        format!(
            "`{}` is no column: write HEADER:.path, e.g. NAME:.resource or IMAGE:.services[0].image",
            text.escape_debug()
        )
    };
    let (header, path) = text.split_once(':').filter(|(header, _)| !header.trim().is_empty()).ok_or_else(wrong)?;
    let path = path.trim().trim_start_matches('{').trim_end_matches('}');
    let path = parts(path.trim_start_matches('.')).ok_or_else(wrong)?;
    Ok(Column { header: header.trim().to_owned(), path })
}

fn parts(path: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    for step in path.split('.') {
        let (field, mut rest) = step.find('[').map_or((step, ""), |at| step.split_at(at));
        if field.is_empty() && rest.is_empty() {
            return None;
        }
        if !field.is_empty() {
            parts.push(Part::Field(field.to_owned()));
        }
        while !rest.is_empty() {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            parts.push(if inside == "*" { Part::Each } else { Part::Index(inside.parse().ok()?) });
            rest = after;
        }
    }
    Some(parts)
}

/// The table of these values, one a row.
pub(super) fn table(columns: &[Column], values: &[Value], paint: Paint) -> String {
    let mut table = Table::named(columns.iter().map(|column| column.header.clone()).collect());
    for value in values {
        table.row(columns.iter().map(|column| Cell::plain(shown(&column.path, value))).collect());
    }
    table.render(paint, None)
}

/// What a path leads to: several values with commas between them, `<none>` where there is nothing.
fn shown(path: &[Part], value: &Value) -> String {
    let mut found = Vec::new();
    collect(path, value, &mut found);
    let texts: Vec<String> = found.into_iter().filter_map(text).collect();
    if texts.is_empty() { "<none>".into() } else { texts.join(",") }
}

fn collect<'v>(path: &[Part], value: &'v Value, found: &mut Vec<&'v Value>) {
    let Some((first, rest)) = path.split_first() else {
        found.push(value);
        return;
    };
    match first {
        Part::Field(name) => value.get(name).into_iter().for_each(|value| collect(rest, value, found)),
        Part::Index(index) => value.get(index).into_iter().for_each(|value| collect(rest, value, found)),
        Part::Each => value.as_array().into_iter().flatten().for_each(|value| collect(rest, value, found)),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let texts: Vec<String> = items.iter().filter_map(text).collect();
            (!texts.is_empty()).then(|| texts.join(","))
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_show_what_their_paths_lead_to() {
        let values = [
            json!({ "resource": "app/A", "services": [{ "name": "a", "tasks": [1, 2] }, { "name": "b" }], "steps": 0 }),
            json!({ "resource": "app/B", "services": [], "revision": null }),
        ];
        let columns = parse(
            "NAME:.resource,ALL:{.services[*].name},FIRST:services[0].name,N:.steps,R:.revision,T:.services[0].tasks",
        );
        let text = table(&columns.unwrap(), &values, Paint { on: false });
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["NAME", "ALL", "FIRST", "N", "R", "T"]);
        assert_eq!(lines[1], ["app/A", "a,b", "a", "0", "<none>", "1,2"]);
        assert_eq!(lines[2], ["app/B", "<none>", "<none>", "<none>", "<none>", "<none>"]);
    }

    #[test]
    fn what_is_no_column_is_refused_with_an_example() {
        for wrong in ["", "NAME", ":.resource", "NAME:", "NAME:.a..b", "NAME:.a[x]", "NAME:.a[0", "A:.b,", "A:.b[0]c"] {
            assert!(parse(wrong).is_err_and(|error| error.contains("NAME:.resource")), "{wrong}");
        }
        assert!(parse(&vec!["A:.b"; MOST + 1].join(",")).is_err());
    }
}
