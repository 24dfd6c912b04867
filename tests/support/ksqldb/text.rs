//! Statements as the server writes them again in its answers.

use std::collections::BTreeMap;

use super::sql::{Create, Expr, Select};

/// An expression with every column under the name of its source. `*` and what is qualified already stay as they are.
pub(super) fn expression(expr: &Expr, source: &str) -> String {
    let inside = |expr: &Expr| expression(expr, source);
    match expr {
        Expr::Column { source: Some(other), name, .. } => format!("{other}.{name}"),
        Expr::Column { source: None, name, .. } => format!("{source}.{name}"),
        Expr::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Expr::Number(number) => number.clone(),
        Expr::Null => "null".to_owned(),
        Expr::Call(name, arguments) => {
            format!("{name}({})", arguments.iter().map(inside).collect::<Vec<_>>().join(", "))
        }
        Expr::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:={}", inside(value))).collect();
            format!("STRUCT({})", fields.join(", "))
        }
        Expr::Cast(of, kind) => format!("CAST({} AS {kind})", inside(of)),
        Expr::Subscript(of, index) => format!("{}[{}]", inside(of), inside(index)),
        Expr::Both(sign, left, right) => format!("({} {sign} {})", inside(left), inside(right)),
        Expr::IsNull(of, true) => format!("({} IS NULL)", inside(of)),
        Expr::IsNull(of, false) => format!("({} IS NOT NULL)", inside(of)),
    }
}

/// The name that a column of a result gets.
pub(super) fn alias(expr: &Expr, alias: Option<&String>, index: usize) -> String {
    match (alias, expr) {
        (Some(alias), _) => alias.clone(),
        (None, Expr::Column { name, .. }) => name.clone(),
        (None, _) => format!("KSQL_COL_{index}"),
    }
}

fn select(select: &Select) -> String {
    let items: Vec<String> = select
        .items
        .iter()
        .enumerate()
        .map(|(index, item)| match item {
            None => "*".to_owned(),
            Some((expr, name)) => {
                format!("\n  {} {}", expression(expr, &select.alias), alias(expr, name.as_ref(), index))
            }
        })
        .collect();
    let items = items.join(",");
    let gap = if items.starts_with('*') { " " } else { "" };
    let mut text = format!("SELECT{gap}{items}\nFROM {} {}", select.from, select.alias);
    let inside = |expr: &Expr| expression(expr, &select.alias);
    if let Some(join) = &select.join {
        let (left, right) = (inside(&join.left), inside(&join.right));
        text.push_str(&format!("\nLEFT OUTER JOIN {} {} ON (({left} = {right}))", join.table, join.alias));
    }
    if let Some(condition) = &select.condition {
        text.push_str(&format!("\nWHERE {}", inside(condition)));
    }
    if let Some(by) = &select.partition_by {
        text.push_str(&format!("\nPARTITION BY {}", inside(by)));
    }
    if let Some(by) = &select.group_by {
        text.push_str(&format!("\nGROUP BY {}", inside(by)));
    }
    text + "\nEMIT CHANGES"
}

/// The whole statement, with the options that it ended up with.
pub(super) fn create(create: &Create, with: &BTreeMap<String, String>) -> String {
    let kind = if create.table { "TABLE" } else { "STREAM" };
    let source = if create.source { "SOURCE " } else { "" };
    let guard = if create.if_not_exists { "IF NOT EXISTS " } else { "" };
    let mut text = format!("CREATE {source}{kind} {guard}{} ", create.name);
    if !create.columns.is_empty() {
        let columns: Vec<String> = create
            .columns
            .iter()
            .map(|(name, kind, key)| match (key, create.table) {
                (false, _) => format!("{name} {kind}"),
                (true, false) => format!("{name} {kind} KEY"),
                (true, true) => format!("{name} {kind} PRIMARY KEY"),
            })
            .collect();
        text.push_str(&format!("({}) ", columns.join(", ")));
    }
    let options: Vec<String> = with.iter().map(|(name, value)| format!("{name}={value}")).collect();
    text.push_str(&format!("WITH ({})", options.join(", ")));
    if let Some(query) = &create.select {
        text.push_str(&format!(" AS {}", select(query)));
    }
    text + ";"
}

/// What a query that is inserted into another stream is called by.
pub(super) fn insert(into: &str, query: &Select) -> String {
    format!("INSERT INTO {into} {};", select(query))
}
