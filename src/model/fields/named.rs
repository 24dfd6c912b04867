//! The names by which `ignore` takes fields, and plans tell them.

use std::fmt;
use std::str::FromStr;

use super::{Below, OwnedField, ROWS, Row};

/// A field of a service, or a group of them, in the words in which plans tell differences.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `replicas`, `limits.cpus`; with a name below it `environment.NAME`, `mounts[/path]`.
    One(OwnedField, Option<String>),
    /// `limits`: every field whose name begins with it and a dot.
    Group(&'static str),
}

/// A text that names no field that can be left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoField {
    /// There is no field of this name.
    #[error("there is no such field")]
    Unknown,
    /// The field has nothing below it.
    #[error("`{0}` has nothing below it")]
    NothingBelow(&'static str),
    /// What is below the field is not named, or not as it must be. How it is written, for the inside of backticks.
    #[error("write `{0}`")]
    Below(String),
}

impl Field {
    /// The whole of a field.
    pub const fn of(field: OwnedField) -> Field {
        Field::One(field, None)
    }

    /// The fields that it means, each with the part of it that is meant.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Row, Option<&str>)> {
        ROWS.iter().filter_map(move |row| match self {
            Field::One(field, below) => (row.field == *field).then_some((row, below.as_deref())),
            Field::Group(name) => (row.group() == Some(name)).then_some((row, None)),
        })
    }

    /// The first part of every name, each once, in order.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.group().unwrap_or(row.name)).collect();
        names.dedup();
        names
    }

    /// What a text that begins with this name may be, as a regular expression.
    pub fn pattern(name: &str) -> String {
        let rows = ROWS.iter().filter(|row| row.name == name || row.group() == Some(name));
        let parts: Vec<String> = rows
            .filter_map(|row| match (row.below, row.name.split_once('.')) {
                (Below::Nothing, None) => None,
                (Below::Nothing, Some((_, part))) => Some(part.to_owned()),
                (Below::Key(_), _) => Some(".+".to_owned()),
                (Below::Bracket(_), _) => Some("[]".to_owned()),
            })
            .collect();
        match &parts[..] {
            [] => name.to_owned(),
            [one] if one == "[]" => format!("{name}(?:\\[.+\\])?"),
            [one] if one == ".+" => format!("{name}(?:\\..+)?"),
            parts => format!("{name}(?:\\.(?:{}))?", parts.join("|")),
        }
    }
}

impl Row {
    /// The group that the field belongs to.
    pub fn group(&self) -> Option<&'static str> {
        Some(self.name.split_once('.')?.0)
    }
}

impl FromStr for Field {
    type Err = NoField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
        let group = ROWS.iter().find_map(|row| row.group().filter(|group| *group == name));
        if let Some(group) = group {
            let members = || ROWS.iter().filter(|row| row.group() == Some(group));
            return match members().find(|row| row.name == text) {
                _ if rest.is_empty() => Ok(Field::Group(group)),
                Some(row) => Ok(Field::of(row.field)),
                None => Err(NoField::Below(members().map(|row| row.name).collect::<Vec<_>>().join("` or `"))),
            };
        }
        let row = ROWS.iter().find(|row| row.name == name).ok_or(NoField::Unknown)?;
        if rest.is_empty() {
            return Ok(Field::of(row.field));
        }
        let key = match row.below {
            Below::Nothing => return Err(NoField::NothingBelow(row.name)),
            Below::Key(_) => rest.strip_prefix('.'),
            Below::Bracket(_) => rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')),
        };
        match key.filter(|key| !key.is_empty()) {
            Some(key) => Ok(Field::One(row.field, Some(key.to_owned()))),
            None => Err(NoField::Below(match row.below {
                Below::Bracket(what) => format!("{name}[{what}]"),
                Below::Key(what) => format!("{name}.{what}"),
                Below::Nothing => name.to_owned(),
            })),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (field, below) = match self {
            Field::Group(name) => return f.write_str(name),
            Field::One(field, below) => (field.row(), below),
        };
        f.write_str(field.name)?;
        match (below, field.below) {
            (None, _) => Ok(()),
            (Some(below), Below::Bracket(_)) => write!(f, "[{below}]"),
            (Some(below), Below::Nothing | Below::Key(_)) => write!(f, ".{below}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_reads_back_as_it_is_written() {
        let mut texts: Vec<String> = ROWS.iter().map(|row| row.name.to_owned()).collect();
        texts.extend(Field::names().into_iter().map(str::to_owned));
        texts.extend(
            [
                "environment.MODE",
                "environment.a.b/c",
                "labels.traefik.http.routers.ofa-x.rule",
                "container_labels.traefik.enable",
                "mounts[/data/x]",
                "ulimits.nofile",
            ]
            .map(str::to_owned),
        );
        for text in texts {
            assert_eq!(text.parse::<Field>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_group_means_every_field_below_it() {
        let names =
            |text: &str| -> Vec<&str> { text.parse::<Field>().unwrap().rows().map(|(row, _)| row.name).collect() };
        assert_eq!(names("limits"), ["limits.cpus", "limits.memory"]);
        assert_eq!(names("limits.memory"), ["limits.memory"]);
        assert_eq!(names("mounts[/x]"), ["mounts"]);
        assert_eq!(names("update").len(), 5);
    }

    #[test]
    fn nothing_else_is_a_field() {
        for text in [
            "",
            "mode",
            "mark.spec",
            "Image",
            "image ",
            "replicas.x",
            "environment.",
            "mounts[]",
            "mounts./x",
            "limits.x",
            "limits.cpus.x",
            "update.",
        ] {
            assert!(text.parse::<Field>().is_err(), "{text}");
        }
        assert_eq!("replicas.x".parse::<Field>(), Err(NoField::NothingBelow("replicas")));
        assert_eq!("limits.x".parse::<Field>(), Err(NoField::Below("limits.cpus` or `limits.memory".into())));
        assert_eq!("mounts[]".parse::<Field>(), Err(NoField::Below("mounts[/path/in/the/container]".into())));
    }
}
