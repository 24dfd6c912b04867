//! What expressions are worth for a row, and rows as they come out of messages.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::sql::{Expr, Place, Select};
use super::text;
use super::wire::Refusal;

pub(super) type Row = BTreeMap<String, Value>;

/// The name of the column that holds the time of a row's message.
pub(super) const ROWTIME: &str = "ROWTIME";

/// Name and type of a column.
pub(super) type Column = (String, String);

/// Rows by the name under which a statement knows them.
pub(super) type Scope<'a> = [(&'a str, &'a Row)];

pub(super) fn value(expr: &Expr, scope: &Scope<'_>) -> Value {
    match expr {
        Expr::Column { source, name, .. } => scope
            .iter()
            .filter(|(alias, _)| source.as_deref().is_none_or(|source| source == *alias))
            .find_map(|(_, row)| row.get(name).cloned())
            .unwrap_or_default(),
        Expr::Text(text) => json!(text),
        Expr::Number(number) => serde_json::from_str(number).unwrap_or_default(),
        Expr::Null => Value::Null,
        Expr::Struct(fields) => {
            Value::Object(fields.iter().map(|(name, expr)| (name.clone(), value(expr, scope))).collect::<Map<_, _>>())
        }
        Expr::Cast(of, _) => value(of, scope),
        Expr::Subscript(of, index) => {
            let (of, index) = (value(of, scope), value(index, scope));
            index.as_str().and_then(|index| of.get(index).cloned()).unwrap_or_default()
        }
        Expr::Call(name, arguments) => {
            let mut values = arguments.iter().map(|argument| value(argument, scope));
            match name.as_str() {
                "CONCAT" => json!(values.filter_map(|value| value.as_str().map(str::to_owned)).collect::<String>()),
                "COALESCE" => values.find(|value| !value.is_null()).unwrap_or_default(),
                // Aggregates: the value that comes in.
                _ => values.next().unwrap_or_default(),
            }
        }
        Expr::Both(..) | Expr::IsNull(..) => json!(holds(expr, scope)),
    }
}

/// Whether a condition is true; what is not known is not.
pub(super) fn holds(expr: &Expr, scope: &Scope<'_>) -> bool {
    match expr {
        Expr::Both("AND", left, right) => holds(left, scope) && holds(right, scope),
        Expr::Both("OR", left, right) => holds(left, scope) || holds(right, scope),
        Expr::Both(sign, left, right) => {
            let (left, right) = (value(left, scope), value(right, scope));
            !left.is_null() && !right.is_null() && (left == right) == (*sign == "=")
        }
        Expr::IsNull(of, null) => value(of, scope).is_null() == *null,
        _ => value(expr, scope) == true,
    }
}

/// The columns that a statement may name, by the alias of their source.
pub(super) struct Known<'a> {
    pub(super) sources: Vec<(&'a str, &'a [Column])>,
    pub(super) rowtime: bool,
}

impl Known<'_> {
    /// The type of an expression.
    pub(super) fn kind(&self, expr: &Expr, sql: &str, clause: &str) -> Result<String, Refusal> {
        Ok(match expr {
            Expr::Column { name, .. } if self.rowtime && name == ROWTIME => "BIGINT".into(),
            Expr::Column { source, name, column: Place(column) } => {
                let found = self
                    .sources
                    .iter()
                    .filter(|(alias, _)| source.as_deref().is_none_or(|source| source == *alias))
                    .find_map(|(_, columns)| columns.iter().find(|(found, _)| found == name));
                match found {
                    Some((_, kind)) => kind.clone(),
                    None => {
                        let message = format!("Line: 1, Col: {column}: {clause} column '{name}' cannot be resolved.");
                        return Err(Refusal::statement(sql, message));
                    }
                }
            }
            Expr::Text(_) | Expr::Null => "STRING".into(),
            Expr::Number(_) => "INTEGER".into(),
            Expr::Cast(of, kind) => {
                self.kind(of, sql, clause)?;
                kind.clone()
            }
            Expr::Subscript(of, _) => {
                let of = self.kind(of, sql, clause)?;
                of.rsplit_once(", ").map_or("STRING", |(_, kind)| kind.trim_end_matches('>')).to_owned()
            }
            Expr::Struct(fields) => {
                let mut kinds = Vec::new();
                for (name, expr) in fields {
                    kinds.push(format!("`{name}` {}", self.kind(expr, sql, clause)?));
                }
                format!("STRUCT<{}>", kinds.join(", "))
            }
            Expr::Call(name, arguments) => {
                let mut kinds = Vec::new();
                for argument in arguments {
                    kinds.push(self.kind(argument, sql, clause)?);
                }
                match name.as_str() {
                    "CONCAT" => "STRING".into(),
                    "COALESCE" | "LATEST_BY_OFFSET" => kinds.swap_remove(0),
                    "COLLECT_LIST" => format!("ARRAY<{}>", kinds.swap_remove(0)),
                    _ => {
                        let message = format!(
                            "Could not determine output schema for query due to error: Can't find any functions with \
                             the name '{name}'"
                        );
                        return Err(Refusal::statement(sql, message));
                    }
                }
            }
            Expr::Both(_, left, right) => {
                self.kind(left, sql, clause)?;
                self.kind(right, sql, clause)?;
                "BOOLEAN".into()
            }
            Expr::IsNull(of, _) => {
                self.kind(of, sql, clause)?;
                "BOOLEAN".into()
            }
        })
    }
}

/// Name, expression and type of each column of a result, `*` spelled out.
pub(super) fn projection(
    select: &Select,
    known: &Known<'_>,
    sql: &str,
) -> Result<Vec<(String, Expr, String)>, Refusal> {
    let mut found = Vec::new();
    for (index, item) in select.items.iter().enumerate() {
        match item {
            None => {
                for (alias, columns) in &known.sources {
                    found.extend(columns.iter().map(|(name, kind)| {
                        let source = Some((*alias).to_owned());
                        (name.clone(), Expr::Column { source, name: name.clone(), column: Place(0) }, kind.clone())
                    }));
                }
            }
            Some((expr, name)) => {
                let kind = known.kind(expr, sql, "SELECT")?;
                found.push((text::alias(expr, name.as_ref(), index), expr.clone(), kind));
            }
        }
    }
    if let Some(condition) = &select.condition {
        known.kind(condition, sql, "WHERE")?;
    }
    Ok(found)
}

/// A message's value by the columns that a source declares, as the server's JSON format has it: a number or truth value
/// in a text column becomes text, names are not told apart by their case, what is missing is null. A value that does
/// not fit is none, and the server passes over its message.
pub(super) fn row(columns: &[Column], key: usize, key_text: Option<&str>, payload: &[u8], time: i64) -> Option<Row> {
    let Value::Object(fields) = serde_json::from_slice(payload).ok()? else { return None };
    let mut fields: BTreeMap<String, Value> =
        fields.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect();
    let mut row = Row::new();
    for (index, (name, kind)) in columns.iter().enumerate() {
        let value = if index == key {
            key_text.map_or(Value::Null, |text| json!(text))
        } else {
            coerce(kind, fields.remove(name).unwrap_or_default())?
        };
        row.insert(name.clone(), value);
    }
    row.insert(ROWTIME.into(), json!(time));
    Some(row)
}

fn coerce(kind: &str, value: Value) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    match kind {
        "STRING" => Some(match value {
            Value::String(text) => json!(text),
            other => json!(other.to_string()),
        }),
        "INTEGER" | "BIGINT" => match value {
            Value::Number(number) if number.is_i64() => Some(Value::Number(number)),
            Value::String(text) => text.trim().parse::<i64>().ok().map(Value::from),
            _ => None,
        },
        "TIMESTAMP" => match value {
            Value::Number(number) if number.is_i64() => Some(Value::Number(number)),
            _ => None,
        },
        "MAP<STRING, STRING>" => match value {
            Value::Object(map) => {
                let map: Option<Map<String, Value>> =
                    map.into_iter().map(|(name, value)| Some((name, coerce("STRING", value)?))).collect();
                Some(Value::Object(map?))
            }
            _ => None,
        },
        _ => Some(value),
    }
}

/// A value as a query shows it.
pub(super) fn shown(kind: &str, value: &Value) -> Value {
    let Some(millis) = value.as_u64().filter(|_| kind == "TIMESTAMP") else { return value.clone() };
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis);
    json!(ofop::clock::rfc3339(time).trim_end_matches('Z'))
}
