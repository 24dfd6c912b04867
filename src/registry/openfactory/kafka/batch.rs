//! Messages that are sent together and waited for together.
//!
//! rdkafka's own future is one for each message: with thousands on their way, waking their tasks costs more than the
//! broker does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tokio::sync::Notify;

use super::heard::Heard;

/// What becomes of some messages.
pub(super) struct Batch {
    /// How many are on their way.
    open: AtomicUsize,
    /// The first failure, with the topic.
    failure: Mutex<Option<(KafkaError, String)>>,
    done: Notify,
}

impl Batch {
    /// So many messages, none of which has ended.
    pub(super) fn new(messages: usize) -> Batch {
        Batch { open: AtomicUsize::new(messages), failure: Mutex::default(), done: Notify::new() }
    }

    /// Takes note that one has ended.
    pub(super) fn ended(&self, how: Result<(), (KafkaError, &str)>) {
        if let Err((error, topic)) = how {
            self.lock().get_or_insert_with(|| (error, topic.to_owned()));
        }
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Whoever asks later finds the permit.
            self.done.notify_one();
        }
    }

    /// Waits until all have ended; the first failure, if there was one.
    pub(super) async fn all(&self) -> Option<(KafkaError, String)> {
        if self.open.load(Ordering::SeqCst) > 0 {
            self.done.notified().await;
        }
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(KafkaError, String)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producer's own thread tells how each message ended.
impl ProducerContext for Heard {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        batch.ended(match result {
            Ok(_) => Ok(()),
            Err((error, message)) => Err((error.clone(), message.topic())),
        });
    }
}
