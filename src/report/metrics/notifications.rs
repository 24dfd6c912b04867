//! What becomes of notifications. The names of sinks are the operator's own, few, and checked.

use std::time::Duration;

use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::made;

/// What became of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyResult {
    /// Its sink has it.
    Delivered,
    /// A try that its sink did not take.
    Failed,
    /// It was given up.
    Dropped,
}

impl NotifyResult {
    /// Every result.
    pub const ALL: [NotifyResult; 3] = [NotifyResult::Delivered, NotifyResult::Failed, NotifyResult::Dropped];

    /// The word, as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            NotifyResult::Delivered => "delivered",
            NotifyResult::Failed => "failed",
            NotifyResult::Dropped => "dropped",
        }
    }
}

#[derive(Debug)]
pub(super) struct Notifications {
    total: IntCounterVec,
    queue: IntGaugeVec,
    oldest: GaugeVec,
    settings: IntGauge,
}

impl Notifications {
    pub(super) fn new(r: &Registry) -> Self {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let notifications = Notifications {
            total: made(
                r,
                IntCounterVec::new(
                    opts("ofop_notifications_total", "Notifications by sink and by what became of them."),
                    &["sink", "result"],
                ),
            ),
            queue: made(
                r,
                IntGaugeVec::new(opts("ofop_notify_queue", "Notifications that wait for their sink."), &["sink"]),
            ),
            oldest: made(
                r,
                GaugeVec::new(
                    opts(
                        "ofop_notify_oldest_timestamp_seconds",
                        "When the oldest notification that waits for its sink was decided; 0 while none waits.",
                    ),
                    &["sink"],
                ),
            ),
            settings: made(
                r,
                IntGauge::new(
                    "ofop_notify_settings_valid",
                    "1 while the newest state of the notification file is in force, or there is none.",
                ),
            ),
        };
        notifications.settings.set(1);
        notifications
    }

    /// These are the sinks: every series of them exists, and no other one.
    pub(super) fn sinks(&self, names: &[String]) {
        self.queue.reset();
        self.oldest.reset();
        for name in names {
            for result in NotifyResult::ALL {
                self.total.with_label_values(&[name.as_str(), result.as_str()]);
            }
            self.waiting(name, 0, None);
        }
    }

    pub(super) fn count(&self, sink: &str, result: NotifyResult) {
        self.total.with_label_values(&[sink, result.as_str()]).inc();
    }

    pub(super) fn waiting(&self, sink: &str, count: usize, oldest: Option<Duration>) {
        self.queue.with_label_values(&[sink]).set(i64::try_from(count).unwrap_or(i64::MAX));
        self.oldest.with_label_values(&[sink]).set(oldest.map_or(0.0, |at| at.as_secs_f64()));
    }

    pub(super) fn settings(&self, valid: bool) {
        self.settings.set(i64::from(valid));
    }
}
