//! What checking a YAML tree yields: typed values that remember where they are written.

use super::fields::{Field, Kind, Literal, Presence, Shape};
use super::yaml::{Entry, Span};

/// A checked value.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// Where it is written, or where that is which lacks it.
    pub(crate) at: Span,
    /// Whether it may not be quoted.
    pub(crate) hidden: bool,
    pub(crate) typed: Typed,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Typed {
    /// Wrong; a problem says why.
    Invalid,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(Name, Value)>),
    Object(Object),
    /// Not looked into; see [`Kind::Levels`].
    Raw(Vec<Entry>),
}

/// A key that people choose.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) at: Span,
    pub(crate) text: String,
    /// As it may stand in a path.
    pub(crate) shown: String,
}

/// A value for every field of a shape, in the shape's order.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) shape: &'static Shape,
    pub(crate) values: Vec<Value>,
}

impl Value {
    /// The object, when it is one, to change it.
    pub(crate) fn as_object_mut(&mut self) -> Option<&mut Object> {
        match &mut self.typed {
            Typed::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Makes a missing `deploy`, and missing replicas in it, what OpenFactory's model makes of them.
    pub(crate) fn fill_in_deploy(&mut self, owner: Span) {
        match &mut self.typed {
            Typed::Null => self.typed = Typed::Object(empty(&super::shapes::DEPLOY, owner)),
            Typed::Object(object) => {
                if let Some(value) = object.get_mut("replicas").filter(|value| matches!(value.typed, Typed::Null)) {
                    value.typed = Typed::Int(1);
                }
            }
            _ => {}
        }
    }
}

impl Object {
    /// The value of a field; none for a name that the shape does not declare.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(self.shape.index(name)?)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.values.get_mut(self.shape.index(name)?)
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static Field, &Value)> {
        self.shape.fields.iter().zip(&self.values)
    }

    /// The text in a field, when there is one.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.typed {
            Typed::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.get(name)?.typed {
            Typed::Int(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        match self.get(name)?.typed {
            Typed::Float(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)?.typed {
            Typed::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn object(&self, name: &str) -> Option<&Object> {
        match &self.get(name)?.typed {
            Typed::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The items of a list; empty when there is none.
    pub(crate) fn list(&self, name: &str) -> &[Value] {
        match self.get(name).map(|value| &value.typed) {
            Some(Typed::List(items)) => items,
            _ => &[],
        }
    }

    /// The entries of a map; empty when there is none.
    pub(crate) fn map(&self, name: &str) -> &[(Name, Value)] {
        match self.get(name).map(|value| &value.typed) {
            Some(Typed::Map(entries)) => entries,
            _ => &[],
        }
    }

    /// Whether a field is missing or null. A wrong value is neither.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        matches!(self.get(name).map(|value| &value.typed), Some(Typed::Null))
    }

    /// Where a field is written, or where the object is when it is not.
    pub(crate) fn at(&self, name: &str) -> Span {
        self.get(name).map_or_else(Span::default, |value| value.at)
    }

    /// Whether a field may be quoted in a message.
    pub(crate) fn hidden(&self, name: &str) -> bool {
        self.get(name).is_none_or(|value| value.hidden)
    }
}

/// What a field is that is not given.
pub(crate) fn default(literal: Literal, kind: Kind, owner: Span) -> Typed {
    match (literal, kind) {
        (Literal::Bool(value), _) => Typed::Bool(value),
        (Literal::Int(number), _) => Typed::Int(number),
        (Literal::Float(number), _) => Typed::Float(number),
        (Literal::Text(text), _) => Typed::Text(text.to_owned()),
        (Literal::Empty, Kind::Object(shape)) => Typed::Object(empty(shape, owner)),
        (Literal::Empty, _) => Typed::Map(Vec::new()),
    }
}

/// A shape of which nothing is given. None of its fields is required.
pub(crate) fn empty(shape: &'static Shape, owner: Span) -> Object {
    let values = shape.fields.iter().map(|field| {
        let typed = match field.presence {
            Presence::Required | Presence::Optional => Typed::Null,
            Presence::Default(literal) | Presence::DefaultOrNull(literal) => default(literal, field.kind, owner),
        };
        Value { at: owner, hidden: false, typed }
    });
    Object { shape, values: values.collect() }
}
