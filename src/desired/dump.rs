//! Checked values as JSON, byte for byte as OpenFactory's models dump them.

use super::checked::{Object, Typed, Value};
use super::yaml::Data;
use crate::model::record::{Scalar, Uns, python_float};

/// Whether fields without a value appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    Keep,
    LeaveOut,
}

/// Compact JSON, as pydantic's `model_dump_json` writes it. `uns` stands in for the field of that name.
pub(super) fn compact(object: &Object, uns: Option<&Uns>, nulls: Nulls) -> String {
    let mut json = String::new();
    write_object(&mut json, object, nulls, Some(uns));
    json
}

fn write_object(json: &mut String, object: &Object, nulls: Nulls, uns: Option<Option<&Uns>>) {
    json.push('{');
    let mut first = true;
    for (field, value) in object.fields() {
        let uns = if field.name == "uns" { uns } else { None };
        let null = match uns {
            Some(uns) => uns.is_none(),
            None => matches!(value.typed, Typed::Null),
        };
        if null && nulls == Nulls::LeaveOut {
            continue;
        }
        separate(json, &mut first);
        write_text(json, field.name);
        json.push(':');
        match uns {
            Some(Some(uns)) => write_uns(json, uns),
            Some(None) => json.push_str("null"),
            None => write_value(json, value, nulls),
        }
    }
    json.push('}');
}

fn separate(json: &mut String, first: &mut bool) {
    if !*first {
        json.push(',');
    }
    *first = false;
}

fn write_uns(json: &mut String, uns: &Uns) {
    json.push_str("{\"levels\":{");
    let mut first = true;
    for (level, value) in &uns.levels {
        separate(json, &mut first);
        write_text(json, level);
        json.push(':');
        match value {
            Scalar::Null => json.push_str("null"),
            Scalar::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
            Scalar::Int(number) => json.push_str(&number.to_string()),
            Scalar::Float(number) => write_float(json, *number),
            Scalar::Text(text) => write_text(json, text),
        }
    }
    json.push_str("},\"uns_id\":");
    write_text(json, &uns.uns_id);
    json.push('}');
}

fn write_value(json: &mut String, value: &Value, nulls: Nulls) {
    match &value.typed {
        Typed::Null | Typed::Invalid | Typed::Raw(_) => json.push_str("null"),
        Typed::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
        Typed::Int(number) => json.push_str(&number.to_string()),
        Typed::Float(number) => write_float(json, *number),
        Typed::Text(text) => write_text(json, text),
        Typed::List(items) => {
            json.push('[');
            let mut first = true;
            for item in items {
                separate(json, &mut first);
                write_value(json, item, nulls);
            }
            json.push(']');
        }
        Typed::Map(entries) => {
            json.push('{');
            let mut first = true;
            for (name, value) in entries {
                separate(json, &mut first);
                write_text(json, &name.text);
                json.push(':');
                write_value(json, value, nulls);
            }
            json.push('}');
        }
        Typed::Object(object) => write_object(json, object, nulls, None),
    }
}

/// JSON text with the escapes that JSON demands and no others.
fn write_text(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

/// A float as pydantic's serializer writes it: plain from 1e-5 up to 1e16, with an exponent elsewhere; what is
/// no number becomes null.
fn write_float(json: &mut String, number: f64) {
    if !number.is_finite() {
        json.push_str("null");
        return;
    }
    let size = number.abs();
    if size == 0.0 || (1e-5..1e16).contains(&size) {
        let text = number.to_string();
        json.push_str(&text);
        if !text.contains('.') {
            json.push_str(".0");
        }
        return;
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    json.push_str(digits);
    json.push('e');
    if !exponent.starts_with('-') {
        json.push('+');
    }
    json.push_str(exponent);
}

/// JSON as Python's `json.dumps` writes it: a space behind `,` and `:`, and nothing but ASCII. Nulls are left out.
pub(super) fn python(object: &Object) -> String {
    let mut json = String::from("{");
    let mut first = true;
    for (field, value) in object.fields().filter(|(_, value)| !matches!(value.typed, Typed::Null)) {
        if !first {
            json.push_str(", ");
        }
        first = false;
        python_text(&mut json, field.name);
        json.push_str(": ");
        python_value(&mut json, value);
    }
    json.push('}');
    json
}

fn python_value(json: &mut String, value: &Value) {
    match &value.typed {
        Typed::Null | Typed::Invalid | Typed::Raw(_) => json.push_str("null"),
        Typed::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
        Typed::Int(number) => json.push_str(&number.to_string()),
        Typed::Float(number) => json.push_str(&python_float(*number)),
        Typed::Text(text) => python_text(json, text),
        Typed::List(items) => {
            json.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    json.push_str(", ");
                }
                python_value(json, item);
            }
            json.push(']');
        }
        Typed::Map(entries) => {
            json.push('{');
            for (index, (name, value)) in entries.iter().enumerate() {
                if index > 0 {
                    json.push_str(", ");
                }
                python_text(json, &name.text);
                json.push_str(": ");
                python_value(json, value);
            }
            json.push('}');
        }
        Typed::Object(object) => json.push_str(&python(object)),
    }
}

fn python_text(json: &mut String, text: &str) {
    let escaped = serde_json::Value::from(text).to_string();
    for c in escaped.chars() {
        // Python leaves only what can be seen as it is: DEL is escaped too.
        if matches!(c, ' '..='~') {
            json.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                json.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

/// A scalar out of YAML, as far as messages can carry it.
pub(super) fn scalar(data: &Data) -> Option<Scalar> {
    match data {
        Data::Null => Some(Scalar::Null),
        Data::Bool(value) => Some(Scalar::Bool(*value)),
        Data::Int(number) => Some(Scalar::Int(*number)),
        Data::Float(number) if number.is_finite() => Some(Scalar::Float(*number)),
        Data::Text(text) => Some(Scalar::Text(text.clone())),
        Data::Float(_) | Data::BigInt(_) | Data::Timestamp(_) | Data::List(_) | Data::Map(_) => None,
    }
}
