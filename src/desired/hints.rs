//! What to do about a value that does not fit: what belongs in its place, with an example.

use super::fields::{Field, Kind, Presence, Shape};
use super::yaml::Data;

/// What to do about a required field that is not given.
pub(super) fn missing(field: &Field) -> String {
    let how = match field.kind {
        Kind::Object(shape) | Kind::OffOr(shape) => {
            format!("`{}:` with {} below it, indented", field.name, inside(shape))
        }
        Kind::Union(shapes) => {
            let types: Vec<String> = shapes.iter().map(|(name, _)| format!("`type: {name}`")).collect();
            format!("`{}:` with {} below it, indented", field.name, types.join(" or "))
        }
        Kind::Choice(choices) => {
            choices.iter().map(|choice| format!("`{}: {choice}`", field.name)).collect::<Vec<_>>().join(" or ")
        }
        Kind::Text(_)
        | Kind::Bool
        | Kind::Int(..)
        | Kind::Float
        | Kind::List(_)
        | Kind::Map(_)
        | Kind::Levels
        | Kind::MountOptions
        | Kind::Amount
        | Kind::Command
        | Kind::FieldPath
        | Kind::Length => match written(field) {
            Some(written) => format!("it, such as {written}"),
            None => format!("`{}`", field.name),
        },
    };
    format!("add {how}: {}", clause(field.doc))
}

/// What to do about a value that is not of the kind that is wanted. `field` is the one whose value it is; none for
/// an item of a list and an entry of a map.
pub(super) fn wrong(kind: Kind, field: Option<&Field>, data: &Data) -> Option<String> {
    wrong_in(kind, field, data, field.is_some_and(|field| field.name == ENVIRONMENT))
}

/// The field whose items are `NAME=value`.
const ENVIRONMENT: &str = "environment";

/// As [`wrong`]; `is_environment` for that field and its items.
pub(super) fn wrong_in(kind: Kind, field: Option<&Field>, data: &Data, is_environment: bool) -> Option<String> {
    let such = || field.and_then(written).map(|written| format!(", such as {written}")).unwrap_or_default();
    if *data == Data::Null {
        let required = field.is_some_and(|field| matches!(field.presence, Presence::Required));
        return Some(match kind {
            _ if required => format!("give it a value{}", such()),
            Kind::Text(_) => "give it a value, or put `\"\"` for an empty text".into(),
            _ => "give it a value, or remove it".into(),
        });
    }
    let inside_of_it = |what: &str| Some(format!("write {what} below it, indented"));
    match kind {
        Kind::Text(_) | Kind::FieldPath => match data {
            Data::Map(_) if field.is_none() && is_environment => {
                Some("write `- NAME=value`, with `=` between name and value and not with `:`".into())
            }
            Data::List(_) if field.is_none() => Some(
                "lists do not merge: an anchor of a list, or brackets, put a list inside this one; write its items one \
                 by one, or use the anchor for the list as a whole"
                    .into(),
            ),
            Data::List(_) | Data::Map(_) => Some(format!("write a single text{}", such())),
            Data::Null
            | Data::Bool(_)
            | Data::Int(_)
            | Data::BigInt(_)
            | Data::Float(_)
            | Data::Text(_)
            | Data::Timestamp(_) => Some("put it in quotes".into()),
        },
        Kind::Length => Some(format!("write it with its unit{}", such())),
        // The words that are possible are in the message.
        Kind::Choice(_) | Kind::Bool => None,
        Kind::Amount => Some(format!("write a single value{}", such())),
        Kind::Command => Some(format!("write a text or a list of texts{}", such())),
        Kind::Int(..) => Some(format!("write it in digits{}", such())),
        Kind::Float => Some(format!("write it in digits, with a point for the fraction{}", such())),
        Kind::List(_) => Some(match data {
            Data::Map(_) if is_environment => {
                "write `- NAME=value` on a line of its own for each variable, instead of `NAME: value`".into()
            }
            Data::Map(_) => "write each item on a line of its own that begins with `- `".into(),
            _ => "write it as `[a, b]`, or one item a line, each beginning with `- `".into(),
        }),
        Kind::Map(_) => inside_of_it("one entry a line, each with a name and a `:`,"),
        Kind::Object(shape) | Kind::OffOr(shape) => inside_of_it(&inside(shape)),
        Kind::Union(shapes) => {
            let (name, _) = shapes.first()?;
            inside_of_it(&format!("`type: {name}` and its other fields"))
        }
        Kind::Levels => inside_of_it("one level a line, such as `line: L1`,"),
        Kind::MountOptions => Some("write a list, such as `[ro, noatime]`".into()),
    }
}

/// How a field is written, with its example.
fn written(field: &Field) -> Option<String> {
    (!field.example.is_empty()).then(|| format!("`{}: {}`", field.name, field.example))
}

/// What belongs into a shape: what it cannot do without, else any of its fields.
fn inside(shape: &Shape) -> String {
    let required = |field: &&Field| matches!(field.presence, Presence::Required);
    let name = |field: &Field| written(field).unwrap_or_else(|| format!("`{}: …`", field.name));
    let fields: Vec<String> = match shape.fields.iter().any(|field| required(&field)) {
        true => shape.fields.iter().filter(required).map(name).collect(),
        false => shape.fields.iter().take(1).map(name).collect(),
    };
    match &fields[..] {
        [one] => format!("fields such as {one}"),
        [most @ .., last] => format!("fields such as {} and {last}", most.join(", ")),
        [] => "its fields".into(),
    }
}

/// A description as a part of a sentence.
fn clause(doc: &str) -> String {
    let doc = doc.strip_suffix('.').unwrap_or(doc);
    let mut chars = doc.chars();
    match (chars.next(), chars.next()) {
        // Abbreviations keep their capitals.
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            format!("{}{}", first.to_lowercase(), &doc[first.len_utf8()..])
        }
        _ => doc.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::shapes::{APP, DEVICE};

    #[test]
    fn every_field_that_must_be_given_has_a_hint_that_shows_how() {
        fn walk(shape: &'static Shape) {
            for field in shape.fields {
                if matches!(field.presence, Presence::Required) {
                    let hint = missing(field);
                    assert!(hint.contains(&format!("`{}:", field.name)), "{}.{}: {hint}", shape.name, field.name);
                }
                let mut kind = field.kind;
                while let Kind::Map(inner) | Kind::List(inner) = kind {
                    kind = *inner;
                }
                match kind {
                    Kind::Object(shape) | Kind::OffOr(shape) => walk(shape),
                    Kind::Union(shapes) => shapes.iter().for_each(|(_, shape)| walk(shape)),
                    Kind::Text(_)
                    | Kind::Choice(_)
                    | Kind::Bool
                    | Kind::Int(..)
                    | Kind::Float
                    | Kind::List(_)
                    | Kind::Map(_)
                    | Kind::Levels
                    | Kind::MountOptions
                    | Kind::Amount
                    | Kind::Command
                    | Kind::FieldPath
                    | Kind::Length => {}
                }
            }
        }
        walk(&APP);
        walk(&DEVICE);
    }

    #[test]
    fn hints_read_as_sentences() {
        let field = |shape: &'static Shape, name: &str| shape.fields.iter().find(|field| field.name == name).unwrap();
        assert_eq!(missing(field(&APP, "image")), "add it, such as `image: ghcr.io/plant/press:1.2`: container image");
        let connector = field(&DEVICE, "connector");
        assert_eq!(
            missing(connector),
            "add `connector:` with `type: mtconnect` or `type: opcua` or `type: shdr` below it, indented: what connects \
             the device"
        );
        let metrics = field(&APP, "metrics");
        assert_eq!(
            wrong(metrics.kind, Some(metrics), &Data::Int(7)).unwrap(),
            "write fields such as `port: 9100` below it, indented"
        );
        assert_eq!(clause("CPU and memory."), "CPU and memory");
    }
}
