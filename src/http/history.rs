//! What became of revisions, as a JSON list.
//!
//! `GET /api/v1/history` answers the newest revisions first. `?for=KIND/UUID` leaves those that touched one resource, with
//! what became of it; `?revision=REV` those of revisions that begin like this; `?resources=true` adds every resource that
//! each touched. `next` is what `?before=` takes for the page after this one, null after the last.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::problem::Problem;
use crate::model::InvalidName;
use crate::report::history::{HistoryQuery, MOST, RevisionEntry};

/// How many revisions one answer may have with all of their resources, each of which may be thousands.
const MOST_WHOLE: usize = 50;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    r#for: Option<String>,
    /// The same as `for`.
    resource: Option<String>,
    revision: Option<String>,
    before: Option<u64>,
    #[serde(default)]
    resources: bool,
    limit: Option<usize>,
}

impl Wanted {
    fn query(self) -> Result<HistoryQuery, Problem> {
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let resource = text(self.r#for).or_else(|| text(self.resource)).map(|text| text.parse()).transpose();
        let resource = resource.map_err(|error: InvalidName| Problem::bad_request(error.to_string()))?;
        let most = if self.resources && resource.is_none() { MOST_WHOLE } else { MOST };
        let limit = self.limit.unwrap_or(HistoryQuery::default().limit);
        if !(1..=most).contains(&limit) {
            return Err(Problem::bad_request(format!("`limit` must be from 1 to {most}")));
        }
        let (before, resources) = (self.before, self.resources);
        Ok(HistoryQuery { resource, revision: text(self.revision), before, resources, limit })
    }
}

#[derive(Serialize)]
pub(super) struct List {
    history: Vec<RevisionEntry>,
    next: Option<u64>,
}

pub(super) async fn history(
    State(shared): State<Shared>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<List>, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::bad_request(error.body_text()))?;
    let query = wanted.query()?;
    let (report, limit) = (shared.report.clone(), query.limit);
    // One more says whether there is another page. A file is read.
    let query = HistoryQuery { limit: limit + 1, ..query };
    let read = tokio::task::spawn_blocking(move || report.revisions(&query)).await;
    let mut history = read.map_err(|_| Problem::stopping())?;
    let more = history.len() > limit;
    history.truncate(limit);
    let next = history.last().filter(|_| more).map(|entry| entry.number);
    Ok(Json(List { history, next }))
}
