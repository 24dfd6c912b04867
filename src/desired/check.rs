//! Holds a YAML tree against a declared shape: coerces scalars, fills in defaults, and finds everything that
//! does not fit.

use super::checked::{Name, Object, Typed, Value, default};
use super::coerce::{self, NotInt};
use super::fields::{Field, Kind, Presence, Shape, Strip, TEXT, Unknown, nearest};
use super::hints;
use super::problems::Problems;
use super::yaml::{self, Data, Entry, Node, Span, key_text, push_index, push_key};

/// Walks a tree, and remembers where it is.
pub(crate) struct Checker<'p, 't> {
    pub(crate) problems: &'p mut Problems<'t>,
    pub(crate) path: String,
    /// Below `environment` nothing may be quoted.
    hide: bool,
    /// The field whose value is looked at; none for an item of a list and an entry of a map.
    field: Option<&'static Field>,
}

impl<'p, 't> Checker<'p, 't> {
    pub(crate) fn new(problems: &'p mut Problems<'t>, path: &str) -> Self {
        Checker { problems, path: path.to_owned(), hide: false, field: None }
    }

    /// Runs something one step further down.
    pub(crate) fn below<T>(&mut self, key: &str, run: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        push_key(&mut self.path, key);
        let result = run(self);
        self.path.truncate(length);
        result
    }

    fn at_index<T>(&mut self, index: usize, run: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        push_index(&mut self.path, index);
        let result = run(self);
        self.path.truncate(length);
        result
    }

    /// Checks a node against a kind. `owner` is where its key stands.
    pub(crate) fn value(&mut self, node: Node, kind: Kind, owner: Span) -> Value {
        let at = if matches!(node.data, Data::Map(_) | Data::List(_) | Data::Null) { owner } else { node.at };
        let hidden = node.expanded || self.hide;
        let typed = match kind {
            Kind::Text(strip) => match node.data {
                Data::Text(text) => Typed::Text(strip.of(&text).to_owned()),
                other => self.wrong(at, kind, "a text", &other, hidden),
            },
            Kind::FieldPath | Kind::Length => match node.data {
                Data::Text(text) => Typed::Text(text.trim().to_owned()),
                other => self.wrong(at, kind, "a text", &other, hidden),
            },
            Kind::Amount => match node.data {
                Data::Text(text) => Typed::Text(text.trim().to_owned()),
                Data::Int(number) => Typed::Text(number.to_string()),
                Data::Float(number) => Typed::Text(number.to_string()),
                other => self.wrong(at, kind, "a text or a number", &other, hidden),
            },
            Kind::Command => match node.data {
                Data::Text(text) => Typed::Text(text),
                Data::List(items) => Typed::List(self.items(items, TEXT)),
                other => self.wrong(at, kind, "a text or a list of texts", &other, hidden),
            },
            Kind::OffOr(shape) => match node.data {
                Data::Map(entries) => Typed::Object(self.object(entries, shape, owner)),
                data if bool_of(&data) == Some(false) => Typed::Bool(false),
                other => self.wrong(at, kind, &format!("`off` or a map with {}", fields_of(shape)), &other, hidden),
            },
            Kind::Choice(choices) => self.choice(at, node.data, choices, hidden),
            Kind::Bool => match bool_of(&node.data) {
                Some(value) => Typed::Bool(value),
                None => self.wrong(at, kind, "`true` or `false`", &node.data, hidden),
            },
            Kind::Int(min, max) => self.int(at, &node.data, min, max, hidden),
            Kind::Float => match float_of(&node.data) {
                Some(number) => Typed::Float(number),
                None => self.wrong(at, kind, "a number", &node.data, hidden),
            },
            Kind::List(item) => match node.data {
                Data::List(items) => Typed::List(self.items(items, *item)),
                other => self.wrong(at, kind, "a list", &other, hidden),
            },
            Kind::Map(entry) => match node.data {
                Data::Map(entries) => Typed::Map(self.entries(entries, *entry)),
                other => self.wrong(at, kind, "a map of names to values", &other, hidden),
            },
            Kind::Object(shape) => match node.data {
                Data::Map(entries) => Typed::Object(self.object(entries, shape, owner)),
                other => self.wrong(at, kind, &format!("a map with {}", fields_of(shape)), &other, hidden),
            },
            Kind::Union(shapes) => match node.data {
                Data::Map(entries) => self.union(entries, shapes, owner),
                other => self.wrong(at, kind, &format!("a map with `type` {}", types_of(shapes)), &other, hidden),
            },
            Kind::Levels => match node.data {
                Data::Map(entries) => self.levels(entries),
                other => self.wrong(at, kind, "a map of levels to values", &other, hidden),
            },
            Kind::MountOptions => self.mount_options(at, node.data, hidden),
        };
        Value { at, hidden, typed }
    }

    fn items(&mut self, items: Vec<Node>, kind: Kind) -> Vec<Value> {
        self.field = None;
        items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                let at = item.at;
                self.at_index(index, |checker| checker.value(item, kind, at))
            })
            .collect()
    }

    /// Checks the entries of a map whose keys people choose.
    pub(crate) fn entries(&mut self, entries: Vec<Entry>, kind: Kind) -> Vec<(Name, Value)> {
        self.field = None;
        let mut checked = Vec::with_capacity(entries.len());
        for Entry { key, value } in entries {
            let at = key.at;
            let text = key_text(&key.data);
            let shown = shown(&key);
            if !matches!(key.data, Data::Text(_)) {
                self.below(&shown, |checker| {
                    checker.problems.error_hint(
                        at,
                        &checker.path,
                        format!("a name must be a text, not {}", describe(&key.data, key.expanded)),
                        "put it in quotes",
                    );
                });
            }
            let value = self.below(&shown, |checker| checker.value(value, kind, at));
            checked.push((Name { at, text, shown }, value));
        }
        checked
    }

    /// Checks a map against the fields of a shape.
    pub(crate) fn object(&mut self, entries: Vec<Entry>, shape: &'static Shape, owner: Span) -> Object {
        let mut values: Vec<Option<Value>> = shape.fields.iter().map(|_| None).collect();
        for Entry { key, value } in entries {
            let text = key_text(&key.data);
            let index = if matches!(key.data, Data::Text(_)) { shape.index(&text) } else { None };
            let Some((index, field)) = index.and_then(|index| Some((index, shape.fields.get(index)?))) else {
                self.unknown(&key, &text, shape);
                continue;
            };
            let value = self.below(field.name, |checker| checker.field(value, field, key.at));
            values[index] = Some(value);
        }
        let values = shape.fields.iter().zip(values).map(|(field, value)| match value {
            Some(value) => value,
            None => self.absent(field, owner),
        });
        Object { shape, values: values.collect() }
    }

    fn field(&mut self, node: Node, field: &'static Field, owner: Span) -> Value {
        let (outer, outer_field) = (self.hide, self.field.replace(field));
        self.hide |= field.name == "environment";
        let value = match field.presence {
            Presence::Optional | Presence::DefaultOrNull(_) if node.data == Data::Null => {
                Value { at: owner, hidden: false, typed: Typed::Null }
            }
            Presence::Required | Presence::Optional | Presence::Default(_) | Presence::DefaultOrNull(_) => {
                self.value(node, field.kind, owner)
            }
        };
        self.hide = outer;
        self.field = outer_field;
        value
    }

    fn absent(&mut self, field: &'static Field, owner: Span) -> Value {
        let typed = match field.presence {
            Presence::Required => {
                self.below(field.name, |checker| {
                    checker.problems.error_hint(
                        owner,
                        &checker.path,
                        format!("`{}` is missing", field.name),
                        hints::missing(field),
                    );
                });
                Typed::Invalid
            }
            Presence::Optional => Typed::Null,
            Presence::Default(literal) | Presence::DefaultOrNull(literal) => default(literal, field.kind, owner),
        };
        Value { at: owner, hidden: false, typed }
    }

    fn unknown(&mut self, key: &Node, text: &str, shape: &'static Shape) {
        let hint = match nearest(text, shape.fields.iter().map(|field| field.name)) {
            // As device files of early versions of OpenFactory have it.
            _ if text == "agent" && shape.index("connector").is_some() => {
                "put it below `connector:`, together with `type: mtconnect`".into()
            }
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("possible here: {}", fields_of(shape)),
        };
        let name = if key.expanded { "this name".into() } else { format!("`{}`", text.escape_debug()) };
        self.below(&shown(key), |checker| match shape.unknown {
            Unknown::Refuse => {
                checker.problems.error_hint(key.at, &checker.path, format!("unknown field {name}"), hint);
            }
            Unknown::Warn => {
                checker.problems.warn(key.at, &checker.path, format!("unknown field {name} has no effect"), Some(hint));
            }
        });
    }

    fn union(&mut self, entries: Vec<Entry>, shapes: &'static [(&'static str, &'static Shape)], owner: Span) -> Typed {
        let tag = entries.iter().find(|entry| matches!(&entry.key.data, Data::Text(text) if text == "type"));
        let Some(tag) = tag else {
            self.problems.error_hint(owner, &self.path, "`type` is missing", format!("it is {}", types_of(shapes)));
            return Typed::Invalid;
        };
        let name = match &tag.value.data {
            Data::Text(text) => text.as_str(),
            _ => "",
        };
        if let Some((_, shape)) = shapes.iter().find(|(candidate, _)| *candidate == name) {
            return Typed::Object(self.object(entries, shape, owner));
        }
        let hint = match nearest(name, shapes.iter().map(|(name, _)| *name)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("it is {}", types_of(shapes)),
        };
        let at = if tag.value.data == Data::Null { tag.key.at } else { tag.value.at };
        let what = describe_quoted(&tag.value.data, tag.value.expanded);
        self.below("type", |checker| {
            let message = match &tag.value.data {
                Data::Text(text) if text.is_empty() => "is empty".to_owned(),
                Data::Text(_) => format!("there is no type {what}"),
                _ => format!("must be a text, not {what}"),
            };
            checker.problems.error_hint(at, &checker.path, message, hint);
        });
        Typed::Invalid
    }

    fn levels(&mut self, entries: Vec<Entry>) -> Typed {
        for entry in &entries {
            if !matches!(entry.key.data, Data::Text(_)) {
                self.below(&shown(&entry.key), |checker| {
                    checker.problems.error_hint(
                        entry.key.at,
                        &checker.path,
                        format!("a level must be a text, not {}", describe(&entry.key.data, entry.key.expanded)),
                        "put it in quotes",
                    );
                });
            }
        }
        Typed::Raw(entries)
    }

    fn choice(&mut self, at: Span, data: Data, choices: &'static [&'static str], hidden: bool) -> Typed {
        if let Data::Text(text) = &data
            && choices.contains(&text.as_str())
        {
            return Typed::Text(text.clone());
        }
        let all = choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(" or ");
        let hint = match &data {
            Data::Text(text) => nearest(text, choices.iter().copied()).map(|name| format!("did you mean `{name}`?")),
            _ => None,
        };
        let what = describe_quoted(&data, hidden);
        self.problems.push(crate::model::Severity::Error, at, &self.path, format!("must be {all}, not {what}"), hint);
        Typed::Invalid
    }

    fn int(&mut self, at: Span, data: &Data, min: i64, max: i64, hidden: bool) -> Typed {
        let number = match data {
            Data::Int(number) => Ok(*number),
            Data::Bool(value) => Ok(i64::from(*value)),
            Data::Float(number) => coerce::int_of_float(*number),
            Data::Text(text) => coerce::int_of_text(text),
            Data::BigInt(_) => Err(NotInt::Small),
            Data::Null | Data::Timestamp(_) | Data::List(_) | Data::Map(_) => Err(NotInt::Number),
        };
        match number {
            Ok(number) if number < min || number > max => {
                let message = match max {
                    i64::MAX => format!("must be at least {min}"),
                    _ => format!("must be from {min} to {max}"),
                };
                let hint = hints::wrong(Kind::Int(min, max), self.field, data);
                self.problems.push(crate::model::Severity::Error, at, &self.path, message, hint);
            }
            Ok(number) => return Typed::Int(number),
            Err(NotInt::Small) => self.problems.error(at, &self.path, "is too large"),
            Err(NotInt::Number) => return self.wrong(at, Kind::Int(min, max), "a whole number", data, hidden),
        }
        Typed::Invalid
    }

    /// OpenFactory keeps the texts of whatever it can walk through, trimmed, and drops the rest without a word.
    fn mount_options(&mut self, at: Span, data: Data, hidden: bool) -> Typed {
        let items: Vec<Node> = match data {
            Data::List(items) => items,
            Data::Map(entries) => {
                self.problems.warn(
                    at,
                    &self.path,
                    "is a map: its names are the options, its values have no effect",
                    hints::wrong(Kind::MountOptions, None, &Data::Map(Vec::new())),
                );
                entries.into_iter().map(|entry| entry.key).collect()
            }
            other => return self.wrong(at, Kind::MountOptions, "a list", &other, hidden),
        };
        let mut options = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let Data::Text(text) = item.data else {
                let what = describe(&item.data, item.expanded);
                self.at_index(index, |checker| {
                    checker.problems.warn(
                        item.at,
                        &checker.path,
                        format!("a mount option is a text; {what} has no effect"),
                        Some("put it in quotes".into()),
                    );
                });
                continue;
            };
            let text = Strip::Python.of(&text);
            if !text.is_empty() {
                let typed = Typed::Text(text.to_owned());
                options.push(Value { at: item.at, hidden: item.expanded, typed });
            }
        }
        Typed::List(options)
    }

    fn wrong(&mut self, at: Span, kind: Kind, wanted: &str, data: &Data, hidden: bool) -> Typed {
        let message = format!("must be {wanted}, not {}", describe(data, hidden));
        let hint = hints::wrong_in(kind, self.field, data, self.hide);
        self.problems.push(crate::model::Severity::Error, at, &self.path, message, hint);
        Typed::Invalid
    }
}

fn bool_of(data: &Data) -> Option<bool> {
    match data {
        Data::Bool(value) => Some(*value),
        Data::Int(0) => Some(false),
        Data::Int(1) => Some(true),
        Data::Float(number) if *number == 0.0 => Some(false),
        Data::Float(number) if (number - 1.0).abs() == 0.0 => Some(true),
        Data::Text(text) => coerce::bool_of_text(text),
        Data::Int(_)
        | Data::Float(_)
        | Data::Null
        | Data::BigInt(_)
        | Data::Timestamp(_)
        | Data::List(_)
        | Data::Map(_) => None,
    }
}

fn float_of(data: &Data) -> Option<f64> {
    match data {
        Data::Float(number) => Some(*number),
        // Python has no float for what is infinite in one.
        Data::BigInt(number) => Some(*number).filter(|number| number.is_finite()),
        #[expect(clippy::cast_precision_loss, reason = "as Python's float() of an int")]
        Data::Int(number) => Some(*number as f64),
        Data::Bool(value) => Some(f64::from(u8::from(*value))),
        Data::Text(text) => coerce::float_of_text(text),
        Data::Null | Data::Timestamp(_) | Data::List(_) | Data::Map(_) => None,
    }
}

/// A key in a path; nothing of it is quoted when it came out of a variable.
pub(crate) fn shown(key: &Node) -> String {
    if key.expanded { "${…}".into() } else { key_text(&key.data) }
}

/// What a value is; nothing of it is quoted when it is hidden.
fn describe(data: &Data, hidden: bool) -> String {
    let kind = match data {
        Data::Bool(_) => "a boolean",
        Data::Int(_) | Data::BigInt(_) | Data::Float(_) => "a number",
        Data::Timestamp(_) => "a date or a time",
        Data::Null | Data::Text(_) | Data::List(_) | Data::Map(_) => return data.describe(),
    };
    if hidden { kind.to_owned() } else { data.describe() }
}

fn describe_quoted(data: &Data, hidden: bool) -> String {
    match data {
        Data::Text(text) if !hidden && text.chars().count() <= 40 => format!("`{}`", text.escape_debug()),
        _ => describe(data, hidden),
    }
}

fn fields_of(shape: &Shape) -> String {
    shape.fields.iter().map(|field| format!("`{}`", field.name)).collect::<Vec<_>>().join(", ")
}

fn types_of(shapes: &[(&str, &Shape)]) -> String {
    shapes.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// Turns errors of the YAML reader into problems.
pub(crate) fn report(errors: Vec<yaml::YamlError>, severity: crate::model::Severity, problems: &mut Problems<'_>) {
    for error in errors {
        problems.push(severity, error.at, &error.path, error.message, error.hint);
    }
}
