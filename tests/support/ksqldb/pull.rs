//! Queries: of a table as it is, of a stream as far as it goes, and of what comes, up to a limit.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::Shared;
use super::catalog::{Source, lookup};
use super::eval::{self, Known, ROWTIME, Row, holds, projection, shown, value};
use super::recovery::{Answering, not_queryable};
use super::sql::{Expr, Select, Statement, parse};
use super::streams::Kept;
use super::wire::{Refusal, Rows};

/// How long a query of what comes waits for as many rows as it wants.
const PUSH: Duration = Duration::from_secs(10);

/// What to answer, and whether the answer stops in the middle.
pub(super) async fn query(shared: &Shared, sql: &str, earliest: bool) -> Result<(Rows, bool), Refusal> {
    let Statement::Select(select) = parse(sql)? else {
        return Err(Refusal::statement(sql, "Only SELECT and PRINT statements can be sent to this endpoint."));
    };
    let source = lookup(shared, sql, &select.from)?;
    if !source.table || select.changes {
        return follow(shared, sql, &select, &source, earliest).await;
    }
    // A query for ages is none of the seven of a reading.
    let ages =
        select.items.iter().flatten().any(|(expr, _)| matches!(expr, Expr::Column { name, .. } if name == ROWTIME));
    let (answering, seed) = shared.asked(&source.name, !ages);
    let result = pull(shared, sql, &select, &source, answering, seed);
    let (status, rows) = match &result {
        Ok(rows) => (200, rows.rows.len()),
        Err(refusal) => (refusal.status, 0),
    };
    if !ages {
        shared.answered(&source.name, status, rows);
    }
    Ok((result?, answering == Answering::Cut))
}

fn pull(
    shared: &Shared,
    sql: &str,
    select: &Select,
    source: &Source,
    answering: Answering,
    seed: u64,
) -> Result<Rows, Refusal> {
    if !source.queryable {
        return Err(not_queryable(&source.name, sql));
    }
    if select.items.len() > 1 && select.items.iter().any(Option::is_none) {
        let message = "Pull queries only support wildcards in the projects if they are the only expression";
        return Err(Refusal::statement(sql, message).planner());
    }
    let known = Known { sources: vec![(&select.alias, &source.columns)], rowtime: true };
    let items = projection(select, &known, sql).map_err(Refusal::planner)?;
    if let Some(refusal) = answering.refusal(&source.name, sql) {
        return Err(refusal);
    }
    let stores = shared.stores.lock().unwrap();
    let nothing = BTreeMap::new();
    let matches = |kept: &&Kept| {
        select.condition.as_ref().is_none_or(|condition| holds(condition, &[(&select.alias, &kept.row)]))
    };
    let mut found: Vec<&Kept> = stores.get(&source.name).unwrap_or(&nothing).values().filter(matches).collect();
    if let Answering::Rows(part) = answering {
        let place = |kept: &&Kept| if seed == 0 { kept.order } else { (kept.order ^ seed).wrapping_mul(seed | 1) };
        found.sort_by_key(place);
        found.truncate(part);
    }
    if answering == Answering::Unmarked {
        found.retain(|kept| !kept.row["ID"].as_str().is_some_and(|id| id.starts_with("managed_")));
    }
    let key = &source.columns[0].0;
    found.sort_by(|a, b| (a.partition, a.row[key].as_str()).cmp(&(b.partition, b.row[key].as_str())));
    found.truncate(select.limit.unwrap_or(usize::MAX));
    let is_key = |expr: &Expr| matches!(expr, Expr::Column { name, .. } if name == key);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let columns = items.iter().map(|(name, expr, kind)| (name.clone(), kind.clone(), is_key(expr))).collect();
    let rows = found.iter().map(|kept| project(&items, select, &kept.row)).collect();
    Ok(Rows { query: format!("query_{now}"), columns, rows, limit_reached: false })
}

fn project(items: &[(String, Expr, String)], select: &Select, row: &Row) -> Vec<Value> {
    items.iter().map(|(_, expr, kind)| shown(kind, &value(expr, &[(&select.alias, row)]))).collect()
}

/// The messages of a stream, or the changes of a table, from the beginning or from now on. Without `EMIT CHANGES` it
/// ends where the stream ends now.
async fn follow(
    shared: &Shared,
    sql: &str,
    select: &Select,
    source: &Source,
    earliest: bool,
) -> Result<(Rows, bool), Refusal> {
    let known = Known { sources: vec![(&select.alias, &source.columns)], rowtime: true };
    let items = projection(select, &known, sql).map_err(Refusal::planner)?;
    let length = || shared.logs.lock().unwrap().get(&source.topic).map_or(0, Vec::len);
    let from = if select.changes && !earliest { length() } else { 0 };
    let deadline = tokio::time::Instant::now() + PUSH;
    let (mut rows, mut at, end) = (Vec::new(), from, length());
    let limit = select.limit.unwrap_or(usize::MAX);
    while rows.len() < limit && (select.changes || at < end) && tokio::time::Instant::now() < deadline {
        let message = shared.logs.lock().unwrap().get(&source.topic).and_then(|log| log.get(at).cloned());
        let Some(message) = message else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        at += 1;
        let Some(payload) = &message.payload else { continue };
        let key = if source.keyed { 0 } else { usize::MAX };
        let Some(row) = eval::row(&source.columns, key, message.key.as_deref(), payload, message.time) else {
            continue;
        };
        if select.condition.as_ref().is_none_or(|condition| holds(condition, &[(&select.alias, &row)])) {
            rows.push(project(&items, select, &row));
        }
    }
    let columns = items.into_iter().map(|(name, _, kind)| (name, kind, false)).collect();
    let limit_reached = rows.len() >= limit;
    let query = format!("transient_{}_{}", source.name, shared.next_number());
    Ok((Rows { query, columns, rows, limit_reached: limit_reached || !select.changes }, false))
}
