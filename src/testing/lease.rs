//! A lease that operators of one world share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{FailureKind, LeaseFound, LeaseRecord, LeaseSeen, LeaseUnread, StepFailure};
use crate::platform::LeaseStore;

/// How long a reading or a writing takes.
const LATENCY: Duration = Duration::from_millis(5);

/// An object with a version in memory, whose writes name the version that they were made on. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FakeLease {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    at: Option<u64>,
    fields: BTreeMap<String, String>,
    away: bool,
    refused: Option<LeaseUnread>,
    writes: usize,
}

impl FakeLease {
    /// One that does not exist yet.
    pub fn new() -> Self {
        FakeLease::default()
    }

    /// What it says.
    pub fn found(&self) -> LeaseFound {
        LeaseFound::of(self.inner().fields.clone())
    }

    /// Who holds it, and since which acquisition.
    pub fn holder(&self) -> Option<(String, u64)> {
        match self.found() {
            LeaseFound::Record(record) => Some((record.holder?.to_string(), record.epoch)),
            LeaseFound::Absent | LeaseFound::Unreadable { .. } => None,
        }
    }

    /// How often it was written.
    pub fn writes(&self) -> usize {
        self.inner().writes
    }

    /// Whether it can be read and written.
    pub fn away(&self, away: bool) {
        self.inner().away = away;
    }

    /// Why it can never be read; none when it can.
    pub fn refuse(&self, why: Option<LeaseUnread>) {
        self.inner().refused = why;
    }

    /// Somebody writes into it by hand.
    pub fn spoil(&self, edit: impl FnOnce(&mut BTreeMap<String, String>)) {
        let mut inner = self.inner();
        edit(&mut inner.fields);
        inner.at = Some(inner.at.unwrap_or(0) + 1);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaseStore for FakeLease {
    async fn read_lease(&self) -> Result<LeaseSeen, LeaseUnread> {
        tokio::time::sleep(LATENCY).await;
        let inner = self.inner();
        if let Some(why) = &inner.refused {
            return Err(why.clone());
        }
        if inner.away {
            return Err(LeaseUnread::Unavailable("the swarm has no leader".into()));
        }
        // Nobody removes this object, so that it is always the same one.
        Ok(LeaseSeen { at: inner.at, object: "lease".into(), found: LeaseFound::of(inner.fields.clone()) })
    }

    async fn write_lease(&self, at: Option<u64>, record: &LeaseRecord) -> Result<(), StepFailure> {
        tokio::time::sleep(LATENCY).await;
        let mut inner = self.inner();
        if inner.away {
            return Err(StepFailure::new(FailureKind::Unavailable, "the swarm has no leader"));
        }
        if inner.at != at {
            return Err(StepFailure::new(FailureKind::Conflict, "update out of sequence"));
        }
        inner.at = Some(at.unwrap_or(0) + 1);
        inner.fields = record.fields().into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        inner.writes += 1;
        Ok(())
    }
}
