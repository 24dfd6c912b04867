//! Files that manifests refer to by URL: `https://…`, and `github://OWNER:REPOSITORY@REF/PATH` as OpenFactory
//! writes it (an empty REF is the default branch).
//!
//! # Guarantees
//!
//! - Whoever asks waits at most for the first fetch of a file, and no longer than it is told to: later fetches
//!   happen behind the scenes, and what they bring is announced.
//! - What was fetched once stays in force while its server is away, refuses us or sends nonsense; that is told.
//! - Sizes, times, redirects and the number of fetches at a time are bounded. Only TLS is spoken.
//! - Whoever writes a manifest reaches nothing through it that is not on the internet, whatever a name is resolved to at the
//!   moment of a connection and wherever a server sends us on to, unless the operator's settings name it. Of a host that
//!   may not be reached, does not answer or takes too long, one and the same is told.
//! - A server that says how to tell versions apart (`ETag`) is asked for changes only; what a commit id names is
//!   fetched once.

mod fetch;
mod hosts;
mod reference;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use self::fetch::{Clients, Fetched, UNREACHABLE};
pub(crate) use self::fetch::{chain, client};
pub(crate) use self::reference::{Reference, shown};
use crate::model::HostRules;

/// How many files are fetched at a time: enough to hide their servers' latency, few enough to be polite.
const FETCHES: usize = 8;

/// How long after a failure a fetch is tried again, the first time; it doubles up to the usual interval.
const FIRST_RETRY: Duration = Duration::from_secs(15);

/// How remote files are fetched.
#[derive(Clone)]
pub struct RemoteOptions {
    /// Certificate authorities (PEM) that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Hosts that manifests may name although they are not on the internet.
    pub hosts: HostRules,
    /// Sent to GitHub, for private repositories and a higher rate limit.
    pub github_token: Option<String>,
    /// Address of GitHub's API, used with a token; another one for GitHub Enterprise (`https://HOST/api/v3`).
    pub github_api: String,
    /// Address of GitHub's plain files, used without a token.
    pub github_raw: String,
    /// How often a file is looked at again.
    pub refresh: Duration,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// How long to wait for a file that was never fetched before.
    pub patience: Duration,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        RemoteOptions {
            ca_file: None,
            hosts: HostRules::default(),
            github_token: None,
            github_api: "https://api.github.com".into(),
            github_raw: "https://raw.githubusercontent.com".into(),
            // Device models change rarely; GitHub answers "not modified" without counting it.
            refresh: Duration::from_secs(300),
            timeout: Duration::from_secs(20),
            patience: Duration::from_secs(25),
        }
    }
}

impl RemoteOptions {
    /// For a daemon, which gets on with its work while a file is on its way.
    #[must_use]
    pub fn watching(self) -> Self {
        RemoteOptions { patience: Duration::from_secs(2), ..self }
    }
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteOptions")
            .field("ca_file", &self.ca_file)
            .field("hosts", &self.hosts)
            .field("github_token", &self.github_token.as_ref().map(|_| "…"))
            .field("github_api", &self.github_api)
            .field("refresh", &self.refresh)
            .finish_non_exhaustive()
    }
}

/// A remote file as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The text, or a sentence that says why there is none.
    pub(crate) text: Result<Arc<str>, String>,
    /// Why the text may be out of date.
    pub(crate) stale: Option<String>,
}

/// Fetches and keeps remote files.
#[derive(Debug)]
pub(crate) struct Remote {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: RemoteOptions,
    clients: Clients,
    entries: Mutex<HashMap<Reference, Entry>>,
    /// Something that was fetched behind the scenes differs from before.
    news: Arc<Notify>,
    permits: Semaphore,
}

#[derive(Debug)]
struct Entry {
    good: Option<Good>,
    trouble: Option<String>,
    failures: u32,
    /// When to fetch again; none for what cannot change.
    next: Option<Instant>,
    /// Closes when the fetch that is going on has ended.
    fetching: Option<watch::Receiver<()>>,
    /// Somebody has waited for the first fetch; nobody waits twice.
    waited: bool,
}

#[derive(Debug, Clone)]
struct Good {
    text: Arc<str>,
    etag: Option<String>,
}

impl Remote {
    /// Nothing is fetched before it is asked for. `news` tells when something changed.
    pub(crate) fn new(options: RemoteOptions, news: Arc<Notify>) -> Self {
        let shared = Shared {
            clients: Clients::new(&options),
            options,
            entries: Mutex::default(),
            news,
            permits: Semaphore::new(FETCHES),
        };
        Remote { shared: Arc::new(shared) }
    }

    /// The file as it is known; fetches it when that is due.
    pub(crate) async fn get(&self, reference: &Reference) -> Answer {
        let first = {
            let mut entries = self.shared.entries();
            let now = Instant::now();
            let entry = entries.entry(reference.clone()).or_insert_with(|| Entry::new(now));
            if entry.fetching.is_none() && entry.next.is_some_and(|next| next <= now) {
                entry.fetching = Some(self.shared.spawn(reference.clone(), entry.good.clone()));
            }
            let unknown = entry.good.is_none() && entry.trouble.is_none();
            let wait = unknown && !std::mem::replace(&mut entry.waited, true);
            entry.fetching.clone().filter(|_| wait)
        };
        if let Some(mut ended) = first {
            // Both ways out are answered below.
            let _ = tokio::time::timeout(self.shared.options.patience, ended.changed()).await;
        }
        match self.shared.entries().get(reference) {
            Some(entry) => entry.answer(),
            None => Answer { text: Err("is being fetched".into()), stale: None },
        }
    }

    /// Forgets every file that is not among these.
    pub(crate) fn retain(&self, wanted: &BTreeSet<Reference>) {
        self.shared.entries().retain(|reference, _| wanted.contains(reference));
    }

    /// When the next file is to be looked at again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.shared.entries().values().filter(|entry| entry.fetching.is_none()).filter_map(|entry| entry.next).min()
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        Entry { good: None, trouble: None, failures: 0, next: Some(now), fetching: None, waited: false }
    }

    fn answer(&self) -> Answer {
        match (&self.good, &self.trouble) {
            (Some(good), trouble) => Answer { text: Ok(good.text.clone()), stale: trouble.clone() },
            (None, Some(trouble)) => Answer { text: Err(trouble.clone()), stale: None },
            (None, None) => Answer { text: Err("is still being fetched".into()), stale: None },
        }
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, HashMap<Reference, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches behind the scenes; the answer closes when the outcome is known.
    fn spawn(self: &Arc<Self>, reference: Reference, known: Option<Good>) -> watch::Receiver<()> {
        let (done, ended) = watch::channel(());
        let shared = self.clone();
        tokio::spawn(async move {
            let outcome = match shared.permits.acquire().await {
                Ok(_permit) => shared.fetch(&reference, known.as_ref()).await,
                Err(closed) => Err(closed.to_string()),
            };
            if shared.settle(&reference, outcome) {
                shared.news.notify_one();
            }
            drop(done);
        });
        ended
    }

    async fn fetch(&self, reference: &Reference, known: Option<&Good>) -> Result<Option<Good>, String> {
        let etag = known.and_then(|known| known.etag.as_deref());
        let fetch = fetch::fetch(&self.clients, &self.options, reference, etag);
        match tokio::time::timeout(self.options.timeout, fetch).await {
            Ok(Ok(Fetched::Unchanged)) => Ok(None),
            Ok(Ok(Fetched::Text { text, etag })) => Ok(Some(Good { text, etag })),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(UNREACHABLE.into()),
        }
    }

    /// Writes down what came of a fetch; true when the answer to [`Remote::get`] is another one now.
    fn settle(&self, reference: &Reference, outcome: Result<Option<Good>, String>) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(reference) else { return false };
        let before = entry.answer();
        let now = Instant::now();
        entry.fetching = None;
        match outcome {
            Ok(good) => {
                entry.good = good.or(entry.good.take());
                entry.trouble = None;
                entry.failures = 0;
                entry.next = (!reference.is_immutable()).then(|| now + self.options.refresh);
            }
            Err(reason) => {
                let delay = FIRST_RETRY.saturating_mul(1 << entry.failures.min(8)).min(self.options.refresh);
                tracing::debug!(%reference, %reason, "fetching failed");
                entry.trouble = Some(reason);
                entry.failures += 1;
                entry.next = Some(now + delay);
            }
        }
        entry.answer() != before
    }
}
