//! YAML 1.1 as PyYAML's safe loader reads it, with the place of everything.
//!
//! OpenFactory reads its files with PyYAML, so a manifest must mean to us what it means there, or be refused
//! with a clear error. The grammar comes from `saphyr-parser`'s events; what a plain scalar is (`yes`, `0755`,
//! `1:30`, `2024-01-02`) is decided by [`scalar`], `${VAR}` is put in by [`expand`].
//!
//! # Invariants
//!
//! - Stricter than PyYAML, never different where that can read a text at all: duplicate keys, several documents, recursive aliases, and tags
//!   other than those of the YAML 1.1 core are refused.
//! - Work and memory are bounded by [`MAX_BYTES`], [`MAX_DEPTH`] and [`MAX_NODES`], whatever the text.
//! - No error quotes a value that came out of a variable.

mod characters;
pub mod expand;
mod reader;
mod required;
mod scalar;

/// The largest manifest, in bytes. OpenFactory's own are a few KiB; a service spec may not pass 700 KiB.
pub const MAX_BYTES: usize = 1 << 20;
/// How deep lists and maps may nest. Manifests need nine levels.
pub const MAX_DEPTH: usize = 64;
/// How many nodes a file may mean, those that aliases repeat included.
pub const MAX_NODES: usize = 200_000;
/// About what a node takes in memory, in bytes: a longer text counts as so many nodes more, or else aliases to a
/// long text would be a bomb too.
const NODE_BYTES: usize = 100;

/// Where something stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// In characters, at least 1, within the line.
    pub width: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Span,
    /// What it is.
    pub data: Data,
    /// Whether any of it came out of a variable: then it may not be quoted in a message.
    pub expanded: bool,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `yes`, `on`, …
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that does not fit, as near as a float comes to it.
    BigInt(f64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(String),
    /// A date or a time, as written.
    Timestamp(String),
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file; keys are scalars and occur once.
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key; never a list or a map.
    pub key: Node,
    /// The value.
    pub value: Node,
}

impl Data {
    /// What it is, for people: `a list`, `the number 7`, …
    pub fn describe(&self) -> String {
        match self {
            Data::Null => "nothing".into(),
            Data::Bool(value) => format!("the boolean `{value}`"),
            Data::Int(value) => format!("the number {value}"),
            Data::BigInt(_) => "a very large number".into(),
            Data::Float(value) => format!("the number {value:?}"),
            Data::Text(_) => "a text".into(),
            Data::Timestamp(text) => format!("the date or time `{text}`"),
            Data::List(_) => "a list".into(),
            Data::Map(_) => "a map".into(),
        }
    }
}

/// Why a text is not a YAML document that we take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// Where.
    pub at: Span,
    /// Keys and indices on the way there, where known.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl YamlError {
    fn new(at: Span, message: impl Into<String>) -> Self {
        YamlError { at, path: String::new(), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Reads one document. `None` is a text without one: empty, or comments only.
///
/// # Errors
/// Everything that is wrong; after a mistake in the grammar the rest of the file is unknown.
pub fn read(text: &str) -> Result<Option<Node>, Vec<YamlError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    characters::check(text)?;
    reader::read(text).map_err(|errors| {
        errors.into_iter().map(|error| if is_mixed(text, error.at.line) { error.hint(MIXED) } else { error }).collect()
    })
}

const MIXED: &str = "the lines below one name are either a list or a map, all with `- ` or none; `environment` is a list \
                     of `- NAME=value`";

/// Whether an error in the grammar comes from items of a list and entries of a map under one another.
fn is_mixed(text: &str, line: u32) -> bool {
    let line = line as usize;
    let near: Vec<&str> = text
        .lines()
        .skip(line.saturating_sub(3))
        .take(5)
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_item = |line: &str| line.trim_start().starts_with("- ");
    let is_entry = |line: &str| !is_item(line) && line.contains(':');
    near.windows(2).any(|pair| match pair {
        [one, other] => {
            indent(one) == indent(other)
                && indent(one) > 0
                && (is_item(one) && is_entry(other) || is_entry(one) && is_item(other))
        }
        _ => false,
    })
}

/// Appends `.key` to a path; a key that holds odd characters is quoted.
pub(crate) fn push_key(path: &mut String, key: &str) {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '[' | ']'));
    if !path.is_empty() {
        path.push('.');
    }
    if plain {
        path.push_str(key);
    } else {
        path.push_str(&format!("{key:?}"));
    }
}

/// Appends `[index]` to a path.
pub(crate) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}

/// A key as people write it.
pub(super) fn key_text(key: &Data) -> String {
    match key {
        Data::Null => "null".into(),
        Data::Bool(value) => value.to_string(),
        Data::Int(value) => value.to_string(),
        Data::BigInt(_) => "(a very large number)".into(),
        Data::Float(value) => format!("{value:?}"),
        Data::Text(text) | Data::Timestamp(text) => text.clone(),
        Data::List(_) => "[…]".into(),
        Data::Map(_) => "{…}".into(),
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
