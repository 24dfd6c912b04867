//! What ksqlDB answers to a pull query, decoded. Pure.
//!
//! The answer (`application/vnd.ksql.v1+json`) is one JSON list: a header with the schema, then rows, possibly a
//! final message. A server that fails half-way sends an error in place of a row, or simply stops: only a list
//! with its closing bracket and without an error is an answer.
//!
//! Rows are handed on one by one as they come, without a copy of their texts: the attributes of ten thousand assets
//! are a hundred thousand rows, of which little is kept.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::failure::{KsqlError, shorten};
use crate::elements::Elements;

/// A pull query, and what is made of each of its rows.
pub(super) struct Query<'a, T, const N: usize> {
    /// The statement.
    pub(super) sql: &'a str,
    /// The columns that matter; an answer that lacks one is none. `*` is the column that is the key, whatever its name, since OpenFactory's own scripts
    /// do not agree on it; the first one if none says that it is the key.
    pub(super) columns: [&'static str; N],
    /// Takes a row in: its values by these columns.
    pub(super) take: fn(&mut T, [Option<&Cell<'_>>; N]),
}

/// What came of a query.
#[derive(Debug, Default)]
pub(super) struct Answer<T> {
    /// What was made of the rows.
    pub(super) value: T,
    /// How many there were.
    pub(super) rows: usize,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Value>),
    /// In a box, as it is larger than the others and rare.
    Map(Box<Map<String, Value>>),
}

impl Cell<'_> {
    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Cell::Text(text) => Some(text),
            Cell::Null | Cell::Bool(_) | Cell::Number(_) | Cell::List(_) | Cell::Map(_) => None,
        }
    }

    /// A value as text, since ksqlDB keeps what was a number or a truth value as text or as itself.
    pub(super) fn words(&self) -> Option<Cow<'_, str>> {
        match self {
            Cell::Text(text) => Some(Cow::Borrowed(text)),
            Cell::Number(number) => Some(number.to_string().into()),
            Cell::Bool(truth) => Some(truth.to_string().into()),
            Cell::Null | Cell::List(_) | Cell::Map(_) => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Cell<'de>, E> {
        Ok(Cell::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Cell<'de>, E> {
        Ok(Cell::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Cell<'de>, E> {
        Ok(Number::from_f64(number).map_or(Cell::Null, Cell::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Cell::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Cell<'de>, A::Error> {
        let mut map = Map::new();
        while let Some((name, value)) = entries.next_entry()? {
            map.insert(name, value);
        }
        Ok(Cell::Map(Box::new(map)))
    }
}

/// The values of a row. The first ones have their places here, which spares a list for each of a hundred thousand rows.
struct Cells<'a> {
    first: [Cell<'a>; WIDTH],
    further: Vec<Cell<'a>>,
    /// How many there are.
    count: usize,
}

/// The columns of the widest of our queries.
const WIDTH: usize = 6;

impl Cells<'_> {
    fn get(&self, place: usize) -> Option<&Cell<'_>> {
        match self.first.get(place) {
            Some(cell) => (place < self.count).then_some(cell),
            None => self.further.get(place - WIDTH),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cells<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CellsVisitor)
    }
}

struct CellsVisitor;

impl<'de> Visitor<'de> for CellsVisitor {
    type Value = Cells<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Cells<'de>, A::Error> {
        let mut cells = Cells { first: [const { Cell::Null }; WIDTH], further: Vec::new(), count: 0 };
        while let Some(cell) = values.next_element()? {
            match cells.first.get_mut(cells.count) {
                Some(place) => *place = cell,
                None => cells.further.push(cell),
            }
            cells.count += 1;
        }
        Ok(cells)
    }
}

/// So many columns are named where one is missing.
const MAX_NAMED: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    key: bool,
}

/// Takes an answer in chunks.
pub(super) struct Decoder<'q, T, const N: usize> {
    query: &'q Query<'q, T, N>,
    elements: Elements,
    heading: Option<Heading<N>>,
    answer: Answer<T>,
    failure: Option<KsqlError>,
}

/// What the header says.
struct Heading<const N: usize> {
    width: usize,
    places: [usize; N],
}

impl<const N: usize> Heading<N> {
    fn new(schema: &str, names: &[&str; N]) -> Result<Self, KsqlError> {
        let columns = columns(schema);
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            let found = match *name {
                "*" => Some(columns.iter().position(|column| column.key).unwrap_or(0)),
                name => columns.iter().position(|column| column.name.eq_ignore_ascii_case(name)),
            };
            *place = found.ok_or_else(|| {
                let there: Vec<&str> = columns.iter().map(|column| column.name.as_str()).take(MAX_NAMED).collect();
                KsqlError::Answer(format!("it has no column {name}, only {}", shorten(&there.join(", "))))
            })?;
        }
        Ok(Heading { width: columns.len(), places })
    }
}

/// One element of the list.
#[derive(Deserialize)]
struct Element<'a> {
    header: Option<Header>,
    #[serde(borrow)]
    row: Option<Row<'a>>,
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
struct Row<'a> {
    #[serde(borrow)]
    columns: Option<Cells<'a>>,
    #[serde(default)]
    tombstone: bool,
}

#[derive(Deserialize)]
struct ErrorMessage {
    error_code: Option<i64>,
    message: Option<String>,
}

impl<'q, T: Default, const N: usize> Decoder<'q, T, N> {
    /// Nothing has come yet.
    pub(super) fn new(query: &'q Query<'q, T, N>) -> Self {
        Decoder { query, elements: Elements::default(), heading: None, answer: Answer::default(), failure: None }
    }

    /// The next chunk.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), KsqlError> {
        let Decoder { query, elements, heading, answer, failure } = self;
        elements
            .feed(chunk, &mut |element| {
                if failure.is_none()
                    && let Err(error) = take(element, query, heading, answer)
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

    /// What was made of the rows, if the list was whole.
    pub(super) fn finish(self) -> Result<Answer<T>, KsqlError> {
        self.elements.end().map_err(|_| KsqlError::Cut)?;
        if self.heading.is_none() {
            return Err(KsqlError::Answer("it has no header".into()));
        }
        Ok(self.answer)
    }
}

fn take<T, const N: usize>(
    element: &[u8],
    query: &Query<'_, T, N>,
    heading: &mut Option<Heading<N>>,
    answer: &mut Answer<T>,
) -> Result<(), KsqlError> {
    let element: Element<'_> =
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
        *heading = Some(Heading::new(&header.schema, &query.columns)?);
    }
    if let Some(Row { columns: Some(cells), tombstone: false }) = element.row {
        let Some(Heading { width, places }) = heading else {
            return Err(KsqlError::Answer("a row comes before the header".into()));
        };
        if cells.count != *width {
            return Err(KsqlError::Answer(format!("a row has {} values for {width} columns", cells.count)));
        }
        (query.take)(&mut answer.value, places.map(|place| cells.get(place)));
        answer.rows += 1;
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

    type Seen = Vec<Vec<Option<String>>>;

    /// Keeps the words of every row.
    const ALL: Query<'static, Seen, 2> = Query {
        sql: "",
        columns: ["*", "connector_config"],
        take: |seen, cells| seen.push(cells.map(|cell| cell?.words().map(Cow::into_owned)).to_vec()),
    };

    fn decode(text: &str, size: usize) -> Result<Answer<Seen>, KsqlError> {
        let mut decoder = Decoder::new(&ALL);
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
            let Answer { value, rows } = decode(ANSWER, size).unwrap();
            let words = |text: &str| Some(text.to_owned());
            assert_eq!(value, [[words("CNC-1"), words(r#"{"a":[1]}"#)], [words("CNC,2"), None]]);
            assert_eq!(rows, 2);
        }
    }

    #[test]
    fn an_answer_that_was_cut_is_no_answer() {
        let text = ANSWER.trim_end();
        for end in 0..text.len() {
            assert!(decode(&text[..end], 64).is_err(), "{}", &text[..end]);
        }
    }

    /// The schema that these tests ask for.
    const SCHEMA: &str = "`A` STRING KEY, `CONNECTOR_CONFIG` STRING";

    fn list(schema: &str, rows: &str) -> String {
        format!(r#"[{{"header":{{"schema":"{schema}"}}}}{rows}]"#)
    }

    #[test]
    fn an_error_among_the_rows_is_an_error() {
        let rows = r#",{"row":{"columns":["x","y"]}},
            {"@type":"generic_error","error_code":50000,"message":"Partition 0 failed to find valid host"}"#;
        assert!(matches!(decode(&list(SCHEMA, rows), 16), Err(KsqlError::Failed { code: 50000, .. })));
        let rows = r#",{"errorMessage":{"error_code":50000,"message":"x"}}"#;
        assert!(matches!(decode(&list(SCHEMA, rows), 16), Err(KsqlError::Failed { code: 50000, .. })));
    }

    #[test]
    fn unknown_fields_are_passed_over_and_wrong_rows_are_not() {
        let text = format!(
            r#"[{{"header":{{"schema":"{SCHEMA}","new":1}}}},{{"row":{{"columns":["x",""],"new":true}},"more":{{}}}}]"#
        );
        assert_eq!(decode(&text, 16).unwrap().rows, 1);
        for row in [r#"["x"]"#, r#"["x","y","z"]"#, r#""x""#, "7", r#"{"A":"x"}"#] {
            let text = list(SCHEMA, &format!(r#",{{"row":{{"columns":{row}}}}}"#));
            assert!(matches!(decode(&text, 16), Err(KsqlError::Answer(_))), "{row}");
        }
        for row in [r#"{"row":7}"#, "7", r#""row""#] {
            assert!(decode(&list(SCHEMA, &format!(",{row}")), 16).is_err(), "{row}");
        }
        assert!(decode("[]", 16).is_err(), "an answer without a header says nothing");
        assert!(decode(r#"[{"row":{"columns":["x","y"]}}]"#, 16).is_err(), "a row without a header says nothing");
        let passed = list(SCHEMA, r#",{"row":{"columns":null,"tombstone":true}},{"finalMessage":"Limit Reached"}"#);
        assert_eq!(decode(&passed, 16).unwrap().rows, 0);
    }

    #[test]
    fn columns_are_found_by_their_name_wherever_they_are_and_a_missing_one_is_named() {
        let words = |text: &str| Some(text.to_owned());
        let row = r#",{"row":{"columns":["{}",1,"CNC-1"]}}"#;
        let schema = "`connector_config` STRING, `MORE` INTEGER, `ID` STRING KEY";
        assert_eq!(decode(&list(schema, row), 16).unwrap().value, [[words("CNC-1"), words("{}")]]);
        let error = decode(&list("`A` STRING KEY, `CONFIG` STRING", ""), 16).unwrap_err();
        assert_eq!(error, KsqlError::Answer("it has no column connector_config, only A, CONFIG".into()));
        assert!(decode(&list("", ""), 16).is_err());
    }

    #[test]
    fn null_keys_and_keys_of_another_case_and_long_values_are_rows_of_their_own() {
        let long = "x".repeat(1 << 20);
        let rows = format!(
            r#",{{"row":{{"columns":[null,"1"]}}}},{{"row":{{"columns":["cnc","2"]}}}},{{"row":{{"columns":["CNC","{long}"]}}}}"#
        );
        for size in [997, 1 << 16] {
            let Answer { value, rows } = decode(&list(SCHEMA, &rows), size).unwrap();
            assert_eq!((rows, &value[0][0]), (3, &None));
            assert_eq!((value[1][0].as_deref(), value[2][0].as_deref()), (Some("cnc"), Some("CNC")));
            assert_eq!(value[2][1].as_ref().unwrap().len(), 1 << 20);
        }
    }

    #[test]
    fn a_page_and_other_json_are_no_answer() {
        let pages = [
            "<html><body><h1>Sign in</h1></body></html>",
            "",
            "null",
            "ok",
            r#"{"@type":"generic_error","error_code":50302,"message":"KSQL is not yet ready to serve requests."}"#,
            r#"{"rows":[]}"#,
            r#"["rate limited"]"#,
            r#"[{"message":"rate limited"}]"#,
            r#"[{"header":null}]"#,
        ];
        for page in pages {
            assert!(decode(page, 16).is_err(), "{page}");
        }
        let mut decoder = Decoder::new(&ALL);
        assert!(decoder.feed(b"[{\"header\":{\"schema\":\"\xff\xfe\"}}]").is_err());
    }

    #[test]
    fn a_row_may_have_more_columns_than_any_query_asks_for() {
        let names = ["A", "B", "C", "D", "E", "F", "G", "CONNECTOR_CONFIG"];
        let schema: Vec<String> = names.iter().map(|name| format!("`{name}` STRING")).collect();
        let row = |values: &str| format!(r#",{{"row":{{"columns":[{values}]}}}}"#);
        let list = list(&schema.join(", "), &row(r#""a","b","c","d","e","f","g","h""#));
        let words = |text: &str| Some(text.to_owned());
        assert_eq!(decode(&list, 16).unwrap().value, [[words("a"), words("h")]]);
        let short = list.replace(r#","h""#, "");
        assert!(matches!(decode(&short, 16), Err(KsqlError::Answer(_))));
    }

    #[test]
    fn values_of_every_kind_are_read_and_shown_as_words() {
        let text = r#"["plain","with \"quotes\" ü",7,-1.5,true,null,[1],{"a":null}]"#;
        let cells: Vec<Cell<'_>> = serde_json::from_str(text).unwrap();
        let words: Vec<_> = cells.iter().map(|cell| cell.words().map(Cow::into_owned)).collect();
        let some = |text: &str| Some(text.to_owned());
        let shown = [some("plain"), some("with \"quotes\" ü"), some("7"), some("-1.5"), some("true"), None, None, None];
        assert_eq!(words, shown);
        assert!(matches!(cells[0], Cell::Text(Cow::Borrowed(_))), "not copied");
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
