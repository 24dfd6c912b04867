//! The metrics, all of whose labels come from enums, resources' uuids and the revision aside.

mod notifications;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use self::notifications::Notifications;
pub use self::notifications::NotifyResult;
use super::Pass;
use super::events::StepReport;
use super::status::{PartState, Row};
use super::track::{Changes, Counts, Parts, Totals};
use crate::model::{
    DriftType, FailureKind, Health, Kind, LeaseStatus, Plan, PruneVerdict, ResourceId, Standing, StepVerb, Sync,
    TroubleReason,
};

/// The content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds in seconds: from a warm pass without work to one that waits for a slow engine.
const PASS_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds in seconds: from a service put back at once to an image pulled over a slow line.
const CONVERGENCE_BUCKETS: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// How a pass went: the first thing that kept it from being complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassResult {
    /// Everything could be read, and a plan was made.
    Success,
    /// The source could not be read; the last good state is in force.
    SourceFailed,
    /// The platform could not be observed, or not completely.
    PlatformFailed,
    /// The registry could not be observed, or not completely.
    RegistryFailed,
    /// Everything could be read, yet no plan was made.
    NotPlanned,
}

impl PassResult {
    /// Every result.
    pub const ALL: [PassResult; 5] = [
        PassResult::Success,
        PassResult::SourceFailed,
        PassResult::PlatformFailed,
        PassResult::RegistryFailed,
        PassResult::NotPlanned,
    ];

    /// The word, as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            PassResult::Success => "success",
            PassResult::SourceFailed => "source_failed",
            PassResult::PlatformFailed => "platform_failed",
            PassResult::RegistryFailed => "registry_failed",
            PassResult::NotPlanned => "not_planned",
        }
    }
}

/// What became of a call of the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookResult {
    /// The source looks for news.
    Triggered,
    /// The sender only tried whether somebody answers.
    Ping,
    /// Something else happened than a push.
    OtherEvent,
    /// The push was to another branch or tag.
    OtherReference,
    /// No right signature or token.
    Unauthorized,
    /// No secret is configured.
    NoSecret,
    /// The body is too long.
    TooLarge,
    /// The body broke off.
    BrokenOff,
}

impl WebhookResult {
    /// Every result.
    pub const ALL: [WebhookResult; 8] = [
        WebhookResult::Triggered,
        WebhookResult::Ping,
        WebhookResult::OtherEvent,
        WebhookResult::OtherReference,
        WebhookResult::Unauthorized,
        WebhookResult::NoSecret,
        WebhookResult::TooLarge,
        WebhookResult::BrokenOff,
    ];

    /// The word, as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            WebhookResult::Triggered => "triggered",
            WebhookResult::Ping => "ping",
            WebhookResult::OtherEvent => "other_event",
            WebhookResult::OtherReference => "other_reference",
            WebhookResult::Unauthorized => "unauthorized",
            WebhookResult::NoSecret => "no_secret",
            WebhookResult::TooLarge => "too_large",
            WebhookResult::BrokenOff => "broken_off",
        }
    }
}

/// The label of a step that worked; others carry [`FailureKind::as_str`].
const SUCCEEDED: &str = "succeeded";

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    reconcile_total: IntCounterVec,
    reconcile_duration: Histogram,
    resources: IntGaugeVec,
    drift: IntGaugeVec,
    drift_detected: IntCounterVec,
    steps: IntCounterVec,
    convergence: Histogram,
    manifest_errors: IntGauge,
    prune_blocked: IntGauge,
    refused: IntCounter,
    suspended: IntGauge,
    frozen: IntGauge,
    taken_down: IntGauge,
    contested: IntGauge,
    rollouts_halted: IntGauge,
    rollouts_waiting: IntGauge,
    notes_unsaved: IntGauge,
    revision: IntGaugeVec,
    last_success: Gauge,
    source_up: IntGauge,
    source_trouble: IntGaugeVec,
    source_trouble_since: Gauge,
    source_read: Gauge,
    platform_up: IntGauge,
    registry_up: IntGauge,
    webhooks: IntCounterVec,
    leader: IntGauge,
    lease_epoch: IntGauge,
    lease_changes: IntCounterVec,
    notifications: Notifications,
    /// Series that exist, so that those of vanished resources and revisions can go.
    exported: std::sync::Mutex<Exported>,
}

#[derive(Debug, Default)]
struct Exported {
    drift: BTreeSet<(ResourceId, DriftType)>,
    resources: Option<Counts>,
    revision: Option<String>,
}

/// A metric of ours, registered. Names and labels are constants that a test registers once, so that neither
/// step can fail at run time; a metric that failed would be missing, never fatal.
fn made<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    #[expect(clippy::expect_used, reason = "names and labels are constants of this file; every test runs this")]
    let collector = collector.expect("a metric's name and labels are well formed");
    #[expect(clippy::expect_used, reason = "as above")]
    registry.register(Box::new(collector.clone())).expect("a metric is registered once");
    collector
}

impl Metrics {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let gauge = |name: &str, help: &str| made(r, IntGauge::new(name, help));
        let gauges = |name: &str, help: &str, labels: &[&str]| made(r, IntGaugeVec::new(Opts::new(name, help), labels));
        let counters =
            |name: &str, help: &str, labels: &[&str]| made(r, IntCounterVec::new(Opts::new(name, help), labels));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            made(r, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
        };
        let metrics = Metrics {
            reconcile_total: counters("ofop_reconcile_total", "Passes by how they went.", &["result"]),
            reconcile_duration: histogram(
                "ofop_reconcile_duration_seconds",
                "How long a pass took, the steps that it starts not included.",
                PASS_BUCKETS,
            ),
            resources: gauges(
                "ofop_resources",
                "Resources by kind, by whether they match and by whether they run.",
                &["kind", "sync", "health"],
            ),
            drift: gauges(
                "ofop_drift",
                "Differences that no change of the manifests explains, by resource and type.",
                &["kind", "uuid", "type"],
            ),
            drift_detected: counters(
                "ofop_drift_detected_total",
                "Differences that no change of the manifests explains, counted when first seen.",
                &["type"],
            ),
            steps: counters(
                "ofop_steps_total",
                "Steps by verb and by how they ended; conflict, exists and gone are races, not errors.",
                &["verb", "result"],
            ),
            convergence: histogram(
                "ofop_convergence_seconds",
                "From the first sight of a difference until the resource matches, or is gone if it had to go.",
                CONVERGENCE_BUCKETS,
            ),
            manifest_errors: gauge("ofop_manifest_errors", "Errors in the manifests."),
            prune_blocked: gauge("ofop_prune_blocked", "Resources whose removal is held back."),
            refused: made(
                r,
                IntCounter::new(
                    "ofop_commands_refused_total",
                    "Commands that were refused for who gave them or for when, by the API.",
                ),
            ),
            suspended: gauge("ofop_suspended", "1 while a person has everything left alone."),
            frozen: gauge("ofop_frozen", "1 while a person has changes from manifests wait."),
            taken_down: gauge("ofop_taken_down", "Number of resources that a person took down and that are kept away."),
            contested: gauge("ofop_contested", "Resources whose changes somebody undoes again and again."),
            rollouts_halted: gauge(
                "ofop_rollouts_halted",
                "Rollouts that go no further, since a change broke a resource.",
            ),
            rollouts_waiting: gauge("ofop_rollouts_waiting", "Resources whose change waits for others of its rollout."),
            notes_unsaved: gauge(
                "ofop_notes_unsaved",
                "Notes that are still to be written and would not survive a restart.",
            ),
            revision: gauges("ofop_source_revision_info", "The revision in force, always 1.", &["revision"]),
            last_success: made(
                r,
                Gauge::new(
                    "ofop_last_success_timestamp_seconds",
                    "Unix time of the last pass that read everything and made a plan; 0 before the first.",
                ),
            ),
            source_up: gauge("ofop_source_up", "1 when the newest state of the manifests' source is in force."),
            source_trouble: gauges(
                "ofop_source_trouble",
                "1 for the reason why the newest state of the manifests' source is not in force.",
                &["reason"],
            ),
            source_trouble_since: made(
                r,
                Gauge::new(
                    "ofop_source_trouble_since_timestamp_seconds",
                    "Unix time since when the source has been in its present trouble; 0 without any.",
                ),
            ),
            source_read: made(
                r,
                Gauge::new(
                    "ofop_source_last_fetch_timestamp_seconds",
                    "Unix time of the last look at the source that worked; 0 before the first.",
                ),
            ),
            platform_up: gauge("ofop_platform_up", "1 when the last pass read the platform completely."),
            registry_up: gauge("ofop_registry_up", "1 when the last pass read the asset registry completely."),
            webhooks: counters("ofop_webhook_total", "Calls of the webhook by what became of them.", &["result"]),
            leader: gauge(
                "ofop_leader",
                "1 when this operator may change the cluster: it holds the lease, or needs none.",
            ),
            lease_epoch: gauge("ofop_lease_epoch", "Which acquisition of the lease was last seen; 0 before the first."),
            lease_changes: counters(
                "ofop_lease_changes_total",
                "Changes of how this operator stands to the lease, by how it stood then.",
                &["to"],
            ),
            notifications: Notifications::new(r),
            exported: std::sync::Mutex::default(),
            registry: registry.clone(),
        };
        gauges("ofop_build_info", "The operator's version, always 1.", &["version"])
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        metrics.at_zero();
        metrics
    }

    /// Every series whose labels are known beforehand exists from the start: a counter that appears with its
    /// first increment hides that increment from `increase()`.
    fn at_zero(&self) {
        for result in PassResult::ALL {
            self.reconcile_total.with_label_values(&[result.as_str()]);
        }
        for drift in DriftType::ALL {
            self.drift_detected.with_label_values(&[drift.as_str()]);
        }
        for verb in StepVerb::ALL {
            self.steps.with_label_values(&[verb.as_str(), SUCCEEDED]);
            for kind in FailureKind::ALL {
                self.steps.with_label_values(&[verb.as_str(), kind.as_str()]);
            }
        }
        for result in WebhookResult::ALL {
            self.webhooks.with_label_values(&[result.as_str()]);
        }
        for standing in Standing::ALL {
            self.lease_changes.with_label_values(&[standing.as_str()]);
        }
        // Until a lease says otherwise.
        self.leader.set(1);
        self.set_trouble(None);
        self.set_resources(&Counts::default());
    }

    pub(super) fn lease(&self, before: Option<&LeaseStatus>, now: &LeaseStatus) {
        self.leader.set(i64::from(now.standing.leads()));
        self.lease_epoch.set(now.record.as_ref().map_or(0, |record| i64::try_from(record.epoch).unwrap_or(i64::MAX)));
        if before.is_none_or(|before| (before.standing, before.term) != (now.standing, now.term)) {
            self.lease_changes.with_label_values(&[now.standing.as_str()]).inc();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one pass, seen from every side; called from one place")]
    pub(super) fn pass(
        &self,
        pass: &Pass<'_>,
        result: PassResult,
        parts: &Parts,
        rows: &[Row<'_>],
        totals: &Totals,
        changes: &Changes,
        plan: Option<&Plan>,
    ) {
        self.reconcile_total.with_label_values(&[result.as_str()]).inc();
        self.reconcile_duration.observe(pass.took.as_secs_f64());
        for drift in &changes.drift {
            self.drift_detected.with_label_values(&[drift.as_str()]).inc();
        }
        for took in &changes.converged {
            self.convergence.observe(took.as_secs_f64());
        }
        self.manifest_errors.set(count(pass.desired.errors()));
        self.prune_blocked.set(match plan.map(|plan| &plan.prune) {
            None | Some(PruneVerdict::Nothing | PruneVerdict::Allowed(_)) => 0,
            Some(PruneVerdict::Blocked { resources, .. }) => count(resources.len()),
        });
        self.notes_unsaved.set(count(pass.notes_unsaved));
        self.suspended.set(i64::from(plan.is_some_and(|plan| plan.suspended.is_some())));
        self.frozen.set(i64::from(plan.is_some_and(|plan| plan.freeze.is_some())));
        self.taken_down.set(totals.taken_down);
        self.contested.set(totals.contested);
        let rollouts = plan.map(|plan| &plan.rollouts.scopes[..]).unwrap_or_default();
        self.rollouts_halted.set(count(rollouts.iter().filter(|rollout| !rollout.failed.is_empty()).count()));
        self.rollouts_waiting.set(count(rollouts.iter().map(|rollout| rollout.waiting.len()).sum()));
        self.source_up.set(i64::from(parts.source.state == PartState::Up));
        self.set_trouble(parts.source_track.trouble());
        if let Some(at) = pass.source.read_ago.and_then(|ago| pass.wall.checked_sub(ago)) {
            self.source_read.set(unix(at));
        }
        self.platform_up.set(i64::from(parts.platform.state == PartState::Up));
        self.registry_up.set(i64::from(parts.registry.state == PartState::Up));
        if let Some(at) = parts.last_success {
            self.last_success.set(unix(at));
        }
        let mut exported = self.exported.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if exported.resources != Some(totals.resources) {
            exported.resources = Some(totals.resources);
            self.set_resources(&totals.resources);
        }
        if pass.plan.is_some() {
            self.set_drift(rows, &changes.vanished, &mut exported.drift);
        }
        let revision = &pass.desired.revision.0;
        if exported.revision.as_ref() != Some(revision) {
            if let Some(old) = exported.revision.replace(revision.clone()) {
                // It was exported, hence it is there.
                let _ = self.revision.remove_label_values(&[&old]);
            }
            self.revision.with_label_values(&[revision]).set(1);
        }
    }

    pub(super) fn step(&self, step: &StepReport) {
        let result = match &step.outcome {
            Ok(()) => SUCCEEDED,
            Err(failure) => failure.kind.as_str(),
        };
        self.steps.with_label_values(&[step.verb.as_str(), result]).inc();
    }

    pub(super) fn webhook(&self, result: WebhookResult) {
        self.webhooks.with_label_values(&[result.as_str()]).inc();
    }

    /// These are the sinks of notifications.
    pub(super) fn notify_sinks(&self, names: &[String]) {
        self.notifications.sinks(names);
    }

    pub(super) fn notified(&self, sink: &str, result: NotifyResult) {
        self.notifications.count(sink, result);
    }

    pub(super) fn notify_queue(&self, sink: &str, count: usize, oldest: Option<std::time::Duration>) {
        self.notifications.waiting(sink, count, oldest);
    }

    pub(super) fn notify_settings(&self, valid: bool) {
        self.notifications.settings(valid);
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    fn set_trouble(&self, trouble: Option<(TroubleReason, SystemTime)>) {
        for reason in TroubleReason::ALL {
            let here = trouble.is_some_and(|(present, _)| present == reason);
            self.source_trouble.with_label_values(&[reason.as_str()]).set(i64::from(here));
        }
        self.source_trouble_since.set(trouble.map_or(0.0, |(_, since)| unix(since)));
    }

    fn set_resources(&self, counts: &Counts) {
        for kind in Kind::ALL {
            for sync in Sync::ALL {
                for health in Health::ALL {
                    let number = counts[kind as usize][sync as usize][health as usize];
                    self.resources.with_label_values(&[kind.as_str(), sync.as_str(), health.as_str()]).set(number);
                }
            }
        }
    }

    /// What cannot be seen keeps the drift that was last seen.
    fn set_drift(&self, rows: &[Row<'_>], vanished: &[ResourceId], exported: &mut BTreeSet<(ResourceId, DriftType)>) {
        for id in vanished {
            self.end_drift(id, &DriftType::ALL, exported);
        }
        for row in rows {
            // Most have none, pass after pass.
            if row.drift.is_empty() && exported.is_empty() {
                continue;
            }
            for drift in DriftType::ALL {
                let number = row.drift.iter().filter(|piece| piece.drift == drift).count();
                if number > 0 {
                    let labels = [row.id.kind.as_str(), row.id.uuid.as_str(), drift.as_str()];
                    self.drift.with_label_values(&labels).set(count(number));
                    exported.insert((row.id.clone(), drift));
                } else if row.sync != Sync::Unknown {
                    self.end_drift(row.id, &[drift], exported);
                }
            }
        }
    }

    fn end_drift(&self, id: &ResourceId, drift: &[DriftType], exported: &mut BTreeSet<(ResourceId, DriftType)>) {
        for drift in drift.iter().filter(|drift| exported.remove(&(id.clone(), **drift))) {
            // It was exported, hence it is there.
            let _ = self.drift.remove_label_values(&[id.kind.as_str(), id.uuid.as_str(), drift.as_str()]);
        }
    }
}

/// The text format of gathered metrics.
pub(super) fn encode(families: &[MetricFamily]) -> String {
    let mut text = Vec::new();
    // Writing to memory does not fail, and every family has a name and a type.
    let _ = TextEncoder::new().encode(families, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
