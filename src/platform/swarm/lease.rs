//! The lease, kept in the labels of the config that notes are kept in too.
//!
//! Swarm's raft is the arbiter: an update names the version that it was made on, and of two that name the same one
//! succeeds.

use std::collections::BTreeMap;
use std::sync::Mutex;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::calls::Failed;
use super::notes::{CONTENT, Foreign, Found, Place};
use crate::model::service::LABEL_INSTANCE;
use crate::model::{FailureKind, LeaseFound, LeaseRecord, LeaseSeen, LeaseUnread, StepFailure};
use crate::platform::engine::{Act, CallError, Engine, encode};
use crate::platform::{LeaseStore, locked};

/// What the labels of the lease begin with.
const LABEL_LEASE: &str = "io.openfactory.operator/lease/";

const CREATE: Act = Act::write("create the lease");
const UPDATE: Act = Act::write("write the lease");

/// The lease of one instance in one swarm.
pub struct SwarmLease {
    engine: Engine,
    place: Place,
    /// The config as it was last read: a write sends all of it back.
    found: Mutex<Option<Found>>,
}

impl SwarmLease {
    pub(super) fn new(engine: Engine, place: Place) -> Self {
        SwarmLease { engine, place, found: Mutex::default() }
    }
}

impl LeaseStore for SwarmLease {
    async fn read_lease(&self) -> Result<LeaseSeen, LeaseUnread> {
        let found = match self.place.find(&self.engine).await {
            Ok(Ok(found)) => found,
            Ok(Err(Foreign::Strangers(why))) => {
                return Err(LeaseUnread::Foreign(format!(
                    "{why}: without a lease nothing is changed; rename that config, or run this operator with \
                     another --instance"
                )));
            }
            Ok(Err(Foreign::Newer(why))) => {
                return Err(LeaseUnread::Foreign(format!("{why}: nothing is changed; update this ofop")));
            }
            Err(CallError::Refused { status: 403 | 404 | 405 | 501, message, .. }) => {
                return Err(LeaseUnread::Unsupported(format!("the engine lets no config be read: {message}")));
            }
            Err(error) => return Err(LeaseUnread::Unavailable(error.to_string())),
        };
        let seen = match &found {
            None => LeaseSeen { at: None, object: String::new(), found: LeaseFound::Absent },
            Some(found) => LeaseSeen {
                at: Some(found.version),
                object: found.id.clone(),
                found: LeaseFound::of(fields(&found.labels)),
            },
        };
        *locked(&self.found) = found;
        Ok(seen)
    }

    async fn write_lease(&self, at: Option<u64>, record: &LeaseRecord) -> Result<(), StepFailure> {
        let found = locked(&self.found).take();
        let (act, path, body) = match (at, found) {
            (None, _) => {
                let labels = with(BTreeMap::from([(LABEL_INSTANCE.into(), self.place.instance().to_string())]), record);
                let body = json!({"Name": self.place.name(), "Labels": labels, "Data": CONTENT});
                (CREATE, "/configs/create".to_owned(), body)
            }
            (Some(at), Some(Found { id, version, mut spec, labels })) if version == at => {
                spec.insert("Labels".into(), json!(with(labels, record)));
                (UPDATE, format!("/configs/{}/update?version={version}", encode(&id)), Value::Object(spec))
            }
            (Some(_), _) => return Err(StepFailure::new(FailureKind::Conflict, "the lease was read anew meanwhile")),
        };
        let sent = self.engine.send(act, Method::POST, &path, Bytes::from(body.to_string())).await;
        sent.map(|_| ()).map_err(|error| Failed::by(error, None).failure)
    }
}

/// The fields of the lease among the labels.
fn fields(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let field = |(label, text): (&String, &String)| Some((label.strip_prefix(LABEL_LEASE)?.to_owned(), text.clone()));
    labels.iter().filter_map(field).collect()
}

/// The labels with this lease; whatever else they say stays.
fn with(mut labels: BTreeMap<String, String>, record: &LeaseRecord) -> BTreeMap<String, String> {
    labels.extend(record.fields().into_iter().map(|(name, text)| (format!("{LABEL_LEASE}{name}"), text)));
    labels
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::RunId;

    #[test]
    fn the_lease_and_what_others_wrote_leave_each_other_alone() {
        let before = [
            ("team", "blue"),
            ("io.openfactory.operator/note/a", "1"),
            ("io.openfactory.operator/lease/colour", "red"),
        ];
        let record = LeaseRecord {
            holder: Some(RunId::new("a", 1, 2)),
            epoch: 3,
            renewals: 4,
            lease: Duration::from_secs(15),
            version: "1.0.0".into(),
            address: None,
            since: Some("2026-01-02T03:04:05Z".into()),
        };
        let after = with(before.map(|(label, text)| (label.to_owned(), text.to_owned())).into(), &record);
        for (label, text) in before {
            assert_eq!(after.get(label).map(String::as_str), Some(text));
        }
        assert_eq!(LeaseFound::of(fields(&after)), LeaseFound::Record(record));
    }
}
