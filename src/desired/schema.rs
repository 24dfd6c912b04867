//! JSON Schema of manifests, for editors: made from the declarations that the reader is driven by.
//!
//! It is meant to be kind: what the reader coerces (`"8080"` for a port) or ignores with a warning passes, and
//! rules between fields are left to `ofop validate`.

use serde_json::{Map, Value, json};

use super::fields::{self, Kind, Literal, Presence, Shape, Unknown};
use super::handling;
use super::shapes::{APP, DEVICE, X_OFOP};
use crate::model::Field;

/// What a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Files with `apps` or `devices` or both.
    All,
    /// Files with `apps`.
    Apps,
    /// Files with `devices`.
    Devices,
}

/// The JSON Schema (draft 2020-12) of manifest files.
pub fn schema(scope: Scope) -> Value {
    let mut shapes = Map::new();
    let mut properties = Map::new();
    let mut section = |name: &str, shape: &'static Shape| {
        let entry = reference(shape, &mut shapes);
        properties.insert(
            name.to_owned(),
            json!({
                "description": format!("{} by name", if name == "apps" { "Apps" } else { "Devices" }),
                "type": "object",
                "additionalProperties": entry,
            }),
        );
    };
    let required = match scope {
        Scope::All => {
            section("apps", &APP);
            section("devices", &DEVICE);
            json!({ "anyOf": [{ "required": ["apps"] }, { "required": ["devices"] }] })
        }
        Scope::Apps => {
            section("apps", &APP);
            json!({ "required": ["apps"] })
        }
        Scope::Devices => {
            section("devices", &DEVICE);
            json!({ "required": ["devices"] })
        }
    };
    let settings = reference(&X_OFOP, &mut shapes);
    properties.insert(
        handling::KEY.to_owned(),
        json!({ "description": X_OFOP.doc, "anyOf": [settings, { "type": "null" }] }),
    );
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OpenFactory manifest",
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": {} },
        "additionalProperties": false,
        "$defs": shapes,
    });
    if let (Some(root), Value::Object(required)) = (root.as_object_mut(), required) {
        root.extend(required);
    }
    root
}

/// A reference to a shape, which is put among the definitions.
fn reference(shape: &'static Shape, shapes: &mut Map<String, Value>) -> Value {
    if !shapes.contains_key(shape.name) {
        // Stands in while the fields are walked, in case a shape should come to hold itself.
        shapes.insert(shape.name.to_owned(), Value::Null);
        let definition = object(shape, shapes);
        shapes.insert(shape.name.to_owned(), definition);
    }
    json!({ "$ref": format!("#/$defs/{}", shape.name) })
}

fn object(shape: &'static Shape, shapes: &mut Map<String, Value>) -> Value {
    let properties: Map<String, Value> =
        shape.fields.iter().map(|field| (field.name.to_owned(), property(field, shapes))).collect();
    let required: Vec<&str> = shape
        .fields
        .iter()
        .filter(|field| matches!(field.presence, Presence::Required))
        .map(|field| field.name)
        .collect();
    let mut object = json!({ "description": shape.doc, "type": "object", "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    if shape.unknown == Unknown::Refuse {
        object["additionalProperties"] = json!(false);
    }
    object
}

fn property(field: &'static fields::Field, shapes: &mut Map<String, Value>) -> Value {
    let value = kind(field.kind, shapes);
    let mut property = match field.presence {
        Presence::Required | Presence::Default(_) => value,
        Presence::Optional | Presence::DefaultOrNull(_) => json!({ "anyOf": [value, { "type": "null" }] }),
    };
    property["description"] = json!(field.doc);
    if !field.example.is_empty() {
        property["examples"] = json!([example(field)]);
    }
    match field.presence {
        Presence::Required | Presence::Optional => {}
        Presence::Default(literal) | Presence::DefaultOrNull(literal) => property["default"] = default(literal),
    }
    property
}

/// What is no text is written as in JSON.
fn example(field: &fields::Field) -> Value {
    serde_json::from_str(field.example).unwrap_or_else(|_| json!(field.example))
}

fn default(literal: Literal) -> Value {
    match literal {
        Literal::Bool(value) => json!(value),
        Literal::Int(number) => json!(number),
        Literal::Float(number) => json!(number),
        Literal::Text(text) => json!(text),
        Literal::Empty => json!({}),
    }
}

fn kind(kind_: Kind, shapes: &mut Map<String, Value>) -> Value {
    match kind_ {
        Kind::Text(_) => json!({ "type": "string" }),
        Kind::Choice(choices) => json!({ "enum": choices }),
        // YAML 1.1 knows more booleans than JSON; an editor that reads YAML 1.2 sees texts.
        Kind::Bool => json!({ "anyOf": [
            { "type": "boolean" },
            { "enum": [0, 1] },
            { "type": "string", "pattern": "^(?:[01]|[Oo][Nn]|[Oo][Ff][Ff]|[TtFfYyNn]|[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy][Ee][Ss]|[Nn][Oo])$" },
        ]}),
        Kind::Int(min, max) => {
            let mut integer = json!({ "type": "integer" });
            if min > i64::MIN {
                integer["minimum"] = json!(min);
            }
            if max < i64::MAX {
                integer["maximum"] = json!(max);
            }
            json!({ "anyOf": [
                integer,
                { "type": "boolean" },
                { "type": "string", "pattern": "^\\s*[-+]?[0-9_]+(?:\\.0+)?\\s*$" },
            ]})
        }
        Kind::Float => json!({ "anyOf": [
            { "type": "number" },
            { "type": "boolean" },
            { "type": "string", "pattern": "^\\s*[-+]?(?:[0-9_]*\\.?[0-9_]+|[0-9_]+\\.)(?:[eE][-+]?[0-9_]+)?\\s*$" },
        ]}),
        Kind::List(item) => json!({ "type": "array", "items": kind(*item, shapes) }),
        Kind::Map(entry) => json!({ "type": "object", "additionalProperties": kind(*entry, shapes) }),
        Kind::Object(shape) => reference(shape, shapes),
        Kind::Union(variants) => {
            let variants: Vec<Value> = variants.iter().map(|(_, shape)| reference(shape, shapes)).collect();
            json!({ "oneOf": variants })
        }
        Kind::Levels => json!({ "type": "object" }),
        Kind::MountOptions => json!({ "anyOf": [{ "type": "array" }, { "type": "object" }] }),
        Kind::Amount => json!({ "type": ["string", "number"] }),
        Kind::Command => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
        Kind::OffOr(shape) => json!({ "anyOf": [{ "enum": [false, "off"] }, reference(shape, shapes)] }),
        Kind::FieldPath => json!({ "type": "string", "pattern": field_path() }),
        Kind::Length => json!({ "type": "string", "pattern": "^\\s*(?:[0-9]+d)?(?:[0-9]+h)?(?:[0-9]+m)?\\s*$" }),
    }
}

/// A field, of one service or of all.
fn field_path() -> String {
    let fields: Vec<String> = Field::names().into_iter().map(Field::pattern).collect();
    format!("^\\s*(?:[A-Za-z0-9][A-Za-z0-9_-]*/)?(?:{})\\s*$", fields.join("|"))
}
