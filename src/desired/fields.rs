//! The words in which the shapes of manifests are declared.
//!
//! One declaration per field, in [`super::shapes`], drives the reader ([`super::check`]), the suggestions for
//! mistyped names, what OpenFactory's model would dump, and the JSON Schema for editors ([`super::schema`]).
//! So these cannot drift apart.

use super::python;
use crate::model::nearest::distance;
pub(super) use crate::model::nearest::nearest;

/// The fields of an entry.
#[derive(Debug)]
pub(crate) struct Shape {
    /// For people and for references in the JSON Schema.
    pub(crate) name: &'static str,
    /// What it describes.
    pub(crate) doc: &'static str,
    /// In the order in which OpenFactory's model declares them, which is the order of its dumps.
    pub(crate) fields: &'static [Field],
    /// What becomes of a field that is not declared.
    pub(crate) unknown: Unknown,
}

/// What becomes of a field that a shape does not declare: OpenFactory refuses it or ignores it without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    Refuse,
    Warn,
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// A value as it may be written; empty where there is nothing to show.
    pub(crate) example: &'static str,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
}

/// Whether a field may be missing or null, and what it is then.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Presence {
    Required,
    /// Missing and null are the same.
    Optional,
    /// May be missing, may not be null.
    Default(Literal),
    /// May be missing; null is taken as null.
    DefaultOrNull(Literal),
}

/// A default.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Literal {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'static str),
    /// An empty map; for a shape: every field as when it is missing.
    Empty,
}

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text(Strip),
    /// One of these texts.
    Choice(&'static [&'static str]),
    Bool,
    Int(i64, i64),
    Float,
    List(&'static Kind),
    /// Any names, each with such a value.
    Map(&'static Kind),
    Object(&'static Shape),
    /// A shape chosen by the field `type`.
    Union(&'static [(&'static str, &'static Shape)]),
    /// Names with whatever values; what they must be is decided elsewhere.
    Levels,
    /// A list of texts that OpenFactory trims and cleans of everything else.
    MountOptions,
    /// A text that names a field of a service; whether it does is decided elsewhere.
    FieldPath,
    /// A text such as `6h`; whether it is one is decided elsewhere.
    Length,
    /// A text or a number, taken as it is written: `10%`, `30s`, `5`. What it means is decided elsewhere.
    Amount,
    /// A text, or a list of texts. What they mean is decided elsewhere.
    Command,
    /// `off`, or such a shape.
    OffOr(&'static Shape),
}

/// Whether white space around a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strip {
    Keep,
    /// What pydantic strips.
    Both,
    /// What Python's `strip()` takes: a little more.
    Python,
}

impl Strip {
    /// The text without what goes.
    pub(crate) fn of(self, text: &str) -> &str {
        match self {
            Strip::Keep => text,
            Strip::Both => text.trim(),
            Strip::Python => python::strip(text),
        }
    }
}

/// A text as it is.
pub(crate) const TEXT: Kind = Kind::Text(Strip::Keep);
/// Any whole number.
pub(crate) const INT: Kind = Kind::Int(i64::MIN, i64::MAX);
/// A TCP port.
pub(crate) const PORT: Kind = Kind::Int(1, 65535);

impl Field {
    /// The same with an example.
    pub(crate) const fn such_as(self, example: &'static str) -> Field {
        Field { example, ..self }
    }
}

impl Shape {
    /// The index of a field.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// Whether a text is a name but for one slip of the finger.
pub(crate) fn is_slip(wrong: &str, name: &str) -> bool {
    wrong != name && distance(&wrong.to_lowercase().replace('_', "-"), name) <= 1
}
