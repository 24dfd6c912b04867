//! The unified namespace: its schema file, and the place of a resource in it.

use std::sync::Arc;

use super::check::report;
use super::problems::Problems;
use super::yaml::{self, Data, Entry, Node, Span, key_text, push_index, push_key};
use super::{dump, fields};
use crate::model::record::{Scalar, Uns};
use crate::model::{Problem, Severity};

/// The last level of every template: it stands for an asset's attributes, never for a resource.
const ATTRIBUTE: &str = "attribute";
/// The level that ends a resource's place; the uuid by default.
const ASSET: &str = "asset";

/// What is known of the namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// No schema is configured: resources have no place in a namespace.
    #[default]
    None,
    /// The schema.
    Schema(Arc<Schema>),
    /// A schema is configured and cannot be read or is wrong: no resource can be placed.
    Invalid,
}

/// A schema: the levels, what they may be, and how they are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    separator: char,
    /// Levels in order, without the final `attribute`.
    template: Vec<String>,
    levels: Vec<(String, Constraint)>,
}

/// What a schema looks like.
const EXAMPLE: &str = "write `namespace_structure: [{site: ANY}, {asset: ANY}, {attribute: ANY}]` and \
     `uns_template: site/asset/attribute`";
/// What a template looks like.
const JOIN: &str = "join the levels by one character, such as `site/line/asset/attribute`";

/// What the values of a level may be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Constraint {
    Any,
    Constant(String),
    OneOf(Vec<String>),
}

impl Schema {
    /// Reads a schema file. Variables are not put in.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn parse(path: &Arc<str>, text: &str) -> Result<Schema, Vec<Problem>> {
        let mut problems = Problems::new(path.clone(), text);
        let schema = match yaml::read(text) {
            Ok(Some(Node { data: Data::Map(entries), .. })) => read_schema(entries, &mut problems),
            Ok(Some(node)) => {
                problems.error_hint(
                    node.at,
                    "",
                    "must be a map with `namespace_structure` and `uns_template`",
                    EXAMPLE,
                );
                None
            }
            Ok(None) => {
                problems.error_hint(Span::default(), "", "the namespace schema is empty", EXAMPLE);
                None
            }
            Err(errors) => {
                report(errors, Severity::Error, &mut problems);
                None
            }
        };
        match schema {
            Some(schema) if problems.errors() == 0 => Ok(schema),
            _ => Err(problems.finish()),
        }
    }

    fn constraint(&self, level: &str) -> Option<&Constraint> {
        // A level that is declared twice is what it is declared last, as in a Python dict.
        self.levels.iter().rev().find(|(name, _)| name == level).map(|(_, constraint)| constraint)
    }

    fn is_constant(&self, level: &str) -> bool {
        matches!(self.constraint(level), Some(Constraint::Constant(_)))
    }

    /// The place of a resource: what `uns` gives, completed by constants and the uuid, checked.
    pub(super) fn place(&self, uuid: &str, given: &Given<'_>, problems: &mut Problems<'_>) -> Option<Uns> {
        let before = problems.errors();
        let mut levels: Vec<(String, Scalar)> = Vec::new();
        for level in &self.template {
            // A template may name a level twice: it is one level, twice in the name.
            if levels.iter().any(|(name, _)| name == level) {
                continue;
            }
            let entry = given.entries.iter().find(|entry| matches!(&entry.key.data, Data::Text(text) if text == level));
            match (self.constraint(level), entry) {
                (Some(Constraint::Constant(constant)), entry) => {
                    if let Some(entry) = entry
                        && !matches!(&entry.value.data, Data::Text(text) if text == constant)
                    {
                        let message = format!("`{level}` is always `{constant}`");
                        problems.error_hint(
                            entry.value.at,
                            &given.path(level),
                            message,
                            "leave it out, it is filled in",
                        );
                    }
                    levels.push((level.clone(), Scalar::Text(constant.clone())));
                }
                (_, Some(entry)) => {
                    if let Some(value) = given.scalar(level, entry, problems) {
                        levels.push((level.clone(), value));
                    }
                }
                (_, None) => {}
            }
        }
        if !levels.iter().any(|(level, _)| level == ASSET) {
            levels.push((ASSET.into(), Scalar::Text(uuid.to_owned())));
        }
        self.warn_about_unknown(given, problems);
        if problems.errors() > before {
            return None;
        }
        self.check_order(&levels, given, problems);
        self.check_values(&levels, given, problems);
        // In the template's order: an `asset` that was filled in stands last among the levels, wherever it
        // belongs in the name.
        let value = |level: &String| levels.iter().find(|(name, _)| name == level).map(|(_, value)| value);
        let parts: Vec<String> = self.template.iter().filter_map(value).map(Scalar::python_str).collect();
        (problems.errors() == before).then(|| Uns { levels, uns_id: parts.join(&self.separator.to_string()) })
    }

    fn warn_about_unknown(&self, given: &Given<'_>, problems: &mut Problems<'_>) {
        for entry in given.entries {
            let level = key_text(&entry.key.data);
            if self.template.contains(&level) || entry.key.expanded {
                continue;
            }
            let hint = match fields::nearest(&level, self.template.iter().map(String::as_str)) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("the namespace has {}", list(&self.template)),
            };
            let message = format!("`{}` is no level of the namespace and has no effect", level.escape_debug());
            problems.warn(entry.key.at, &given.path(&level), message, Some(hint));
        }
    }

    /// The levels given must be the first of the template without a gap, and `asset` the last.
    fn check_order(&self, levels: &[(String, Scalar)], given: &Given<'_>, problems: &mut Problems<'_>) {
        let wanted: Vec<&str> =
            self.template.iter().map(String::as_str).filter(|level| !self.is_constant(level)).collect();
        let got: Vec<&str> =
            levels.iter().map(|(level, _)| level.as_str()).filter(|level| !self.is_constant(level)).collect();
        let fits = match got.split_last() {
            Some((&ASSET, got)) => {
                let wanted = &wanted[..wanted.len().saturating_sub(1)];
                got.len() <= wanted.len() && got.iter().zip(wanted).all(|(got, wanted)| got == wanted)
            }
            _ => false,
        };
        if !fits {
            let message = match &got[..] {
                [] => format!("fits no place: the namespace makes `{ASSET}` the same for everything"),
                got => format!("the levels {} have a gap or do not end in `{ASSET}`", list(got)),
            };
            problems.error_hint(
                given.at,
                &given.base,
                message,
                format!("the namespace has, in this order: {}", list(&wanted)),
            );
        }
    }

    fn check_values(&self, levels: &[(String, Scalar)], given: &Given<'_>, problems: &mut Problems<'_>) {
        for (level, value) in levels {
            let Some(Constraint::OneOf(allowed)) = self.constraint(level) else { continue };
            if matches!(value, Scalar::Text(text) if allowed.contains(text)) {
                continue;
            }
            let entry = given.entry(level);
            let hint = match value {
                Scalar::Text(text) => fields::nearest(text, allowed.iter().map(String::as_str)),
                Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) => None,
            };
            let hint = match hint {
                Some(name) => format!("did you mean `{name}`?"),
                None if allowed.is_empty() => "the namespace schema lists no value for it: add some there".into(),
                None => format!("it is one of {}", list(allowed)),
            };
            let at = entry.map_or(given.at, |entry| entry.value.at);
            problems.error_hint(at, &given.path(level), format!("this is no value of `{level}`"), hint);
        }
    }
}

/// What a resource gives as its `uns`.
pub(super) struct Given<'n> {
    pub(super) entries: &'n [Entry],
    /// Where it stands, or where the resource does.
    pub(super) at: Span,
    /// Path of `uns`.
    pub(super) base: String,
}

impl Given<'_> {
    fn entry(&self, level: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| matches!(&entry.key.data, Data::Text(text) if text == level))
    }

    fn path(&self, level: &str) -> String {
        let mut path = self.base.clone();
        push_key(&mut path, level);
        path
    }

    fn scalar(&self, level: &str, entry: &Entry, problems: &mut Problems<'_>) -> Option<Scalar> {
        let value = dump::scalar(&entry.value.data);
        match &value {
            Some(Scalar::Null) => problems.warn(
                entry.value.at,
                &self.path(level),
                "has no value, and reads `None` in the namespace",
                Some("give it a value, or remove it".into()),
            ),
            Some(_) => {}
            None => problems.error_hint(
                entry.value.at,
                &self.path(level),
                "must be a text, a number or a boolean",
                "put a date in quotes; a list or a map has no place in a name",
            ),
        }
        value
    }
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

fn read_schema(entries: Vec<Entry>, problems: &mut Problems<'_>) -> Option<Schema> {
    let mut structure = None;
    let mut template = None;
    for Entry { key, value } in entries {
        match &key.data {
            Data::Text(name) if name == "namespace_structure" => structure = Some(read_structure(value, problems)),
            Data::Text(name) if name == "uns_template" => match value.data {
                Data::Text(text) => template = Some((value.at, text)),
                other => {
                    let message = format!("must be a text, not {}", other.describe());
                    problems.error_hint(value.at, "uns_template", message, JOIN);
                    template = Some((value.at, String::new()));
                }
            },
            Data::Text(name) => {
                let hint = fields::nearest(name, ["namespace_structure", "uns_template"]);
                let message = format!("unknown field `{}` has no effect", name.escape_debug());
                problems.warn(key.at, name, message, hint.map(|name| format!("did you mean `{name}`?")));
            }
            _ => problems.error_hint(key.at, "", "a name must be a text", "put it in quotes"),
        }
    }
    let top = Span { line: 1, column: 1, width: 1 };
    if structure.is_none() {
        problems.error_hint(top, "namespace_structure", "`namespace_structure` is missing", EXAMPLE);
    }
    if template.is_none() {
        problems.error_hint(top, "uns_template", "`uns_template` is missing", EXAMPLE);
    }
    let (levels, (at, template)) = (structure?, template?);
    if problems.errors() > 0 {
        return None;
    }
    let (separator, template) = read_template(&template, at, &levels, problems)?;
    Some(Schema { separator, template, levels })
}

fn read_structure(node: Node, problems: &mut Problems<'_>) -> Vec<(String, Constraint)> {
    const PATH: &str = "namespace_structure";
    let Data::List(items) = node.data else {
        let message = format!("must be a list of levels, not {}", node.data.describe());
        problems.error_hint(node.at, PATH, message, "write each level as `- name: ANY`");
        return Vec::new();
    };
    let mut levels = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let mut path = PATH.to_owned();
        push_index(&mut path, index);
        let Data::Map(entries) = item.data else {
            let message = format!("must be a map with one level, not {}", item.data.describe());
            problems.error_hint(item.at, &path, message, "write it as `- name: ANY`");
            continue;
        };
        if entries.len() != 1 {
            let message = format!("must name exactly one level, not {}", entries.len());
            problems.error_hint(item.at, &path, message, "begin every level with `- `");
        }
        for Entry { key, value } in entries {
            let mut path = path.clone();
            push_key(&mut path, &key_text(&key.data));
            let Data::Text(level) = key.data else {
                problems.error_hint(key.at, &path, "the name of a level must be a text", "put it in quotes");
                continue;
            };
            if let Some(constraint) = read_constraint(value, &path, problems) {
                levels.push((level, constraint));
            }
        }
    }
    levels
}

fn read_constraint(node: Node, path: &str, problems: &mut Problems<'_>) -> Option<Constraint> {
    match node.data {
        Data::Text(text) if text == "ANY" => Some(Constraint::Any),
        Data::Text(text) => Some(Constraint::Constant(text)),
        Data::List(items) => {
            let mut allowed = Vec::new();
            for (index, item) in items.into_iter().enumerate() {
                let Data::Text(text) = item.data else {
                    let mut path = path.to_owned();
                    push_index(&mut path, index);
                    let message = format!("must be a text, not {}", item.data.describe());
                    let hint = match item.data {
                        Data::Null | Data::List(_) | Data::Map(_) => "write each value as a text",
                        _ => "put it in quotes",
                    };
                    problems.error_hint(item.at, &path, message, hint);
                    return None;
                };
                allowed.push(text);
            }
            Some(Constraint::OneOf(allowed))
        }
        other => {
            let message = format!("must be `ANY`, a text or a list of texts, not {}", other.describe());
            let hint = "write `ANY`, a text for a level that is always the same, or `[north, south]` for a choice";
            problems.error_hint(node.at, path, message, hint);
            None
        }
    }
}

fn read_template(
    template: &str,
    at: Span,
    levels: &[(String, Constraint)],
    problems: &mut Problems<'_>,
) -> Option<(char, Vec<String>)> {
    const PATH: &str = "uns_template";
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let Some(separator) = template.chars().find(|c| !is_word(*c)) else {
        problems.error_hint(at, PATH, "has no separator", JOIN);
        return None;
    };
    let mut parts: Vec<String> = template.split(separator).map(str::to_owned).collect();
    if parts.last().is_none_or(|last| last != ATTRIBUTE) {
        problems.error_hint(at, PATH, format!("must end in `{ATTRIBUTE}`"), JOIN);
        return None;
    }
    let unknown: Vec<&String> = parts.iter().filter(|part| !levels.iter().any(|(level, _)| level == *part)).collect();
    if !unknown.is_empty() {
        let hint = "declare every level in `namespace_structure`";
        problems.error_hint(at, PATH, format!("names levels that are not declared: {}", list(&unknown)), hint);
        return None;
    }
    let declared: Vec<&String> = levels.iter().map(|(level, _)| level).filter(|level| parts.contains(*level)).collect();
    if !declared.iter().copied().eq(&parts) {
        let message = format!("must name the levels in the order of `namespace_structure`: {}", list(&declared));
        problems.error_hint(at, PATH, message, "put them into the same order in both places");
        return None;
    }
    parts.retain(|part| part != ATTRIBUTE);
    Some((separator, parts))
}
