//! What the manifests say, read in the background: a source that hangs holds up nothing but news from itself.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tracing::{info, warn};

use crate::compile::Compiler;
use crate::desired::{Loader, ParsedTree, Source};
use crate::model::{Desired, SourceTrouble};

type Load<S> = Pin<Box<dyn Future<Output = (Box<Loader<S>>, Result<Arc<ParsedTree>, SourceTrouble>)> + Send>>;

/// The loader is here, or away reading.
enum Reader<S> {
    Idle(Box<Loader<S>>),
    Reading {
        load: Load<S>,
        /// Something changed since: read once more after this.
        again: bool,
    },
    /// Only while changing from one to the other.
    Moving,
}

/// The manifests as they last could be read.
pub(super) struct Manifests<S> {
    reader: Reader<S>,
    compiler: Compiler,
    desired: Arc<Desired>,
    follow: Arc<BTreeSet<String>>,
    read: bool,
    error: Option<SourceTrouble>,
}

impl<S: Source> Manifests<S> {
    /// Nothing is known before the first load; nothing may be removed then.
    pub(super) fn new(loader: Loader<S>, compiler: Compiler) -> Self {
        Manifests {
            reader: Reader::Idle(Box::new(loader)),
            compiler,
            desired: Arc::new(Desired { complete: false, ..Desired::default() }),
            follow: Arc::default(),
            read: false,
            error: None,
        }
    }

    /// What they mean.
    pub(super) fn desired(&self) -> &Arc<Desired> {
        &self.desired
    }

    /// The images whose tag is followed.
    pub(super) fn follow(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.follow)
    }

    /// Whether they were read at least once, well or not.
    pub(super) fn is_read(&self) -> bool {
        self.read
    }

    /// Whether no read is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.reader, Reader::Idle(_))
    }

    /// Why they could not be read the last time.
    pub(super) fn error(&self) -> Option<&SourceTrouble> {
        self.error.as_ref()
    }

    /// Starts reading, unless that is under way: then once more after it.
    pub(super) fn load(&mut self) {
        self.reader = match std::mem::replace(&mut self.reader, Reader::Moving) {
            Reader::Idle(mut loader) => {
                let load = async move {
                    let parsed = loader.load().await; // I/O
                    (loader, parsed)
                };
                Reader::Reading { load: load.boxed(), again: false }
            }
            Reader::Reading { load, .. } => Reader::Reading { load, again: true },
            Reader::Moving => Reader::Moving,
        };
    }

    /// Ends when the read that is under way does; never when there is none. Whether anything changed.
    pub(super) async fn loaded(&mut self) -> bool {
        let Reader::Reading { load, again } = &mut self.reader else {
            return std::future::pending().await;
        };
        let (loader, parsed) = load.await;
        let again = *again;
        self.reader = Reader::Idle(loader);
        let changed = match parsed {
            Ok(parsed) => self.parsed(&parsed),
            Err(error) => self.failed(&error),
        };
        self.read = true;
        if again {
            self.load();
        }
        changed
    }

    fn parsed(&mut self, parsed: &ParsedTree) -> bool {
        let recovered = self.error.take().is_some();
        if recovered {
            info!("the manifests can be read again");
        }
        let desired = self.compiler.compile(parsed); // pure
        if self.read && Arc::ptr_eq(&desired, &self.desired) {
            return recovered;
        }
        if desired.revision != self.desired.revision {
            info!(
                revision = %desired.revision.short(),
                files = desired.files,
                resources = desired.resources.len(),
                errors = desired.errors(),
                "manifests changed"
            );
        }
        if let Some(trouble) =
            desired.trouble.as_ref().filter(|trouble| self.desired.trouble.as_ref() != Some(*trouble))
        {
            warn!(reason = trouble.reason.as_str(), "the newest manifests are not in force: {trouble}");
        }
        for problem in desired.problems.iter().filter(|problem| !self.desired.problems.contains(problem)) {
            warn!(severity = ?problem.severity, "{problem}");
        }
        let services = desired.resources.values().flat_map(|resource| &resource.services);
        let follow: BTreeSet<_> =
            services.filter(|service| service.follow_digest).map(|service| service.spec.image.clone()).collect();
        if *self.follow != follow {
            self.follow = Arc::new(follow);
        }
        self.desired = desired;
        true
    }

    fn failed(&mut self, error: &SourceTrouble) -> bool {
        if self.error.as_ref() == Some(error) {
            return false;
        }
        warn!(%error, "the manifests cannot be read; what was read last stays in force");
        self.error = Some(error.clone());
        // Nothing may be pruned while it is unknown what is described.
        let trouble = Some(error.clone());
        self.desired = Arc::new(Desired { complete: false, trouble, ..Desired::clone(&self.desired) });
        true
    }
}
