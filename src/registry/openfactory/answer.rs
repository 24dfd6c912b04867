//! What ksqlDB answers to a pull query, decoded. Pure.
//!
//! The answer (`application/vnd.ksql.v1+json`) is one JSON list: a header with the schema, then rows, possibly a
//! final message. A server that fails half-way sends an error in place of a row, or simply stops: only a list
//! with its closing bracket and without an error is an answer.

use serde::Deserialize;
use serde_json::Value;

use super::ksqldb::KsqlError;
use crate::elements::Elements;

/// The rows of one answer.
#[derive(Debug, Default)]
pub(super) struct Rows {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    key: bool,
}

impl Rows {
    /// The rows, each by the given columns, `None` for a column that the answer does not have. `*` is the
    /// column that is the key, whatever its name, since OpenFactory's own scripts do not agree on it; the first
    /// one if none says that it is the key.
    pub(super) fn select<const N: usize>(&self, names: [&str; N]) -> impl Iterator<Item = [Option<&Value>; N]> {
        let places = names.map(|name| {
            if name == "*" {
                return Some(self.columns.iter().position(|column| column.key).unwrap_or(0));
            }
            self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
        });
        self.rows.iter().map(move |row| places.map(|place| row.get(place?)))
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Takes an answer in chunks.
#[derive(Default)]
pub(super) struct Decoder {
    elements: Elements,
    rows: Rows,
    headed: bool,
    failure: Option<KsqlError>,
}

/// One element of the list.
#[derive(Deserialize)]
struct Element {
    header: Option<Header>,
    row: Option<Row>,
    error_code: Option<i64>,
    message: Option<String>,
    #[serde(rename = "errorMessage")]
    error_message: Option<ErrorMessage>,
}

#[derive(Deserialize)]
struct Header {
    schema: String,
}

#[derive(Deserialize)]
struct Row {
    columns: Option<Vec<Value>>,
    #[serde(default)]
    tombstone: bool,
}

#[derive(Deserialize)]
struct ErrorMessage {
    error_code: Option<i64>,
    message: Option<String>,
}

impl Decoder {
    /// The next chunk.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), KsqlError> {
        let Decoder { elements, rows, headed, failure } = self;
        elements
            .feed(chunk, &mut |element| {
                if failure.is_none()
                    && let Err(error) = take(element, rows, headed)
                {
                    *failure = Some(error);
                }
            })
            .map_err(KsqlError::Answer)?;
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// The rows, if the list was whole.
    pub(super) fn finish(self) -> Result<Rows, KsqlError> {
        self.elements.end().map_err(|_| KsqlError::Cut)?;
        if !self.headed {
            return Err(KsqlError::Answer("it has no header".into()));
        }
        Ok(self.rows)
    }
}

fn take(element: &[u8], rows: &mut Rows, headed: &mut bool) -> Result<(), KsqlError> {
    let element: Element =
        serde_json::from_slice(element).map_err(|error| KsqlError::Answer(format!("an element is odd: {error}")))?;
    if let Some(error) = element.error_message {
        return Err(KsqlError::Failed {
            code: error.error_code.unwrap_or_default(),
            message: error.message.unwrap_or_default(),
        });
    }
    if let Some(code) = element.error_code {
        return Err(KsqlError::Failed { code, message: element.message.unwrap_or_default() });
    }
    if let Some(header) = element.header {
        rows.columns = columns(&header.schema);
        *headed = true;
    }
    if let Some(Row { columns: Some(columns), tombstone: false }) = element.row {
        if columns.len() != rows.columns.len() {
            return Err(KsqlError::Answer(format!(
                "a row has {} values for {} columns",
                columns.len(),
                rows.columns.len()
            )));
        }
        rows.rows.push(columns);
    }
    Ok(())
}

/// Reads a schema such as `` `ASSET_UUID` STRING KEY, `UNS_LEVELS` MAP<STRING, STRING> ``.
fn columns(schema: &str) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut depth = 0_usize;
    let mut part = String::new();
    let mut quoted = false;
    for c in schema.chars().chain([',']) {
        match c {
            '`' => quoted = !quoted,
            '<' | '(' if !quoted => depth += 1,
            '>' | ')' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                let text = part.trim();
                let name = match text.strip_prefix('`') {
                    Some(rest) => name_in_backticks(rest),
                    None => text.split_whitespace().next().unwrap_or_default().to_owned(),
                };
                columns.push(Column { name, key: text.ends_with(" KEY") });
                part.clear();
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    columns
}

/// The name up to the closing backtick; a doubled one stands for itself.
fn name_in_backticks(rest: &str) -> String {
    let mut name = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '`' && chars.next_if_eq(&'`').is_none() {
            break;
        }
        name.push(c);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, size: usize) -> Result<Rows, KsqlError> {
        let mut decoder = Decoder::default();
        for chunk in text.as_bytes().chunks(size) {
            decoder.feed(chunk)?;
        }
        decoder.finish()
    }

    const ANSWER: &str = r#"[{"header":{"queryId":"q","schema":"`ASST_UUID` STRING KEY, `CONNECTOR_CONFIG` STRING"}},
{"row":{"columns":["CNC-1","{\"a\":[1]}"]}},
{"row":{"columns":["CNC,2",null]}},
{"finalMessage":"Query Completed"}]
"#;

    #[test]
    fn rows_are_read_by_column_in_chunks_of_any_size() {
        for size in [1, 7, 4096] {
            let rows = decode(ANSWER, size).unwrap();
            let found: Vec<_> = rows
                .select(["*", "connector_config", "absent"])
                .map(|[key, config, absent]| (key.and_then(Value::as_str), config.and_then(Value::as_str), absent))
                .collect();
            assert_eq!(found, [(Some("CNC-1"), Some(r#"{"a":[1]}"#), None), (Some("CNC,2"), None, None)]);
            assert_eq!(rows.len(), 2);
        }
    }

    #[test]
    fn an_answer_that_was_cut_is_no_answer() {
        let text = ANSWER.trim_end();
        for end in 0..text.len() {
            assert!(decode(&text[..end], 64).is_err(), "{}", &text[..end]);
        }
    }

    #[test]
    fn an_error_among_the_rows_is_an_error() {
        let text = r#"[{"header":{"schema":"`A` STRING KEY"}},{"row":{"columns":["x"]}},
            {"@type":"generic_error","error_code":50000,"message":"Partition 0 failed to find valid host"}]"#;
        assert!(matches!(decode(text, 16), Err(KsqlError::Failed { code: 50000, .. })));
    }

    #[test]
    fn unknown_fields_are_passed_over_and_wrong_rows_are_not() {
        let text = r#"[{"header":{"schema":"`A` STRING KEY","new":1}},{"row":{"columns":["x"],"new":true},"more":{}}]"#;
        assert_eq!(decode(text, 16).unwrap().len(), 1);
        let text = r#"[{"header":{"schema":"`A` STRING KEY"}},{"row":{"columns":["x","y"]}}]"#;
        assert!(decode(text, 16).is_err());
        assert!(decode("[]", 16).is_err(), "an answer without a header says nothing");
    }

    #[test]
    fn schemas_with_nested_types_and_odd_names_are_read() {
        let names: Vec<_> =
            columns("`A``,B` STRING KEY, `M` MAP<STRING, STRUCT<`x` INT, `y` STRING>>, C DECIMAL(4, 2)")
                .into_iter()
                .map(|column| (column.name, column.key))
                .collect();
        assert_eq!(names, [("A`,B".into(), true), ("M".into(), false), ("C".into(), false)]);
    }
}
