//! The writer against librdkafka's mock cluster, which speaks the protocol and fails on demand.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;

const TOPIC: &str = "ofa_assets";

struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    writer: Writer,
}

fn world() -> World {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let settings = KafkaSettings { brokers: cluster.bootstrap_servers(), options: BTreeMap::new() };
    World { cluster, writer: Writer { message_time: Duration::from_secs(3), ..Writer::new(settings) } }
}

impl World {
    async fn send(&self, payload: &str) -> Result<(), StepFailure> {
        let message = |key| Outgoing { topic: TOPIC, key, payload: Some(payload.into()) };
        self.writer.ended(self.writer.send(&[message("A"), message("B")])?).await
    }

    /// How many messages the topic holds.
    fn messages(&self) -> i64 {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "counts")
            .create()
            .unwrap();
        consumer.fetch_watermarks(TOPIC, 0, Duration::from_secs(10)).unwrap().1
    }

    fn producer(&self) -> Arc<ThreadedProducer<Heard>> {
        self.writer.producer().unwrap().producer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_costs_one_attempt_and_no_more() {
    let world = world();
    world.send("1").await.unwrap();
    let first = world.producer();
    world.send("2").await.unwrap();
    assert!(Arc::ptr_eq(&first, &world.producer()), "one that works is kept");
    drop(first);

    // The broker forgets who the producer was, and does not let it say so again.
    *world.writer.lock() = None;
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    world.cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied]);
    let dead = world.producer();
    let failure = world.send("3").await.unwrap_err();
    assert!(dead.client().fatal_error().is_some(), "{failure}");
    assert!(failure.message.contains(TOPIC), "{failure}");
    assert!(!Arc::ptr_eq(&dead, &world.producer()), "it is made anew");
    world.send("4").await.unwrap();
    assert_eq!(world.messages(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_senders_that_meet_one_fatal_error_make_one_new_producer() {
    let world = world();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    world.cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied]);
    let (one, other) = tokio::join!(world.send("1"), world.send("2"));
    assert!(one.is_err() && other.is_err());
    let made = world.producer();
    let (one, other) = tokio::join!(world.send("3"), world.send("4"));
    assert_eq!((one, other), (Ok(()), Ok(())));
    assert!(Arc::ptr_eq(&made, &world.producer()));
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_errors_are_ridden_out_and_others_say_what_they_are() {
    use RDKafkaRespErr as E;
    for passing in [
        E::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        E::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        E::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        E::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ] {
        let world = world();
        world.cluster.request_errors(RDKafkaApiKey::Produce, &[passing, passing]);
        assert_eq!(world.send("x").await, Ok(()), "{passing:?}");
    }
    for (lasting, kind) in [
        (E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, FailureKind::Rejected),
        (E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, FailureKind::Rejected),
        (E::RD_KAFKA_RESP_ERR_INVALID_RECORD, FailureKind::Unavailable),
    ] {
        let world = world();
        world.cluster.request_errors(RDKafkaApiKey::Produce, &[lasting]);
        let failure = world.send("x").await.unwrap_err();
        assert_eq!(failure.kind, kind, "{lasting:?}: {failure}");
        let again = async { while world.send("y").await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(20), again).await.expect("a later attempt works");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_is_something_to_wait_for() {
    let world = world();
    world.cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let failure = world.send("x").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Dependency, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_not_made_by_writing_to_it() {
    let world = world();
    let message = Outgoing { topic: "nowhere", key: "A", payload: Some("x".into()) };
    let failure = world.writer.ended(world.writer.send(&[message]).unwrap()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Dependency, "{failure}");
    let topics = world.writer.partitions().unwrap();
    assert!(!topics.contains_key("nowhere"), "{topics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_in_the_middle_is_a_failure_in_time_and_none_when_it_is_back() {
    let world = world();
    world.send("1").await.unwrap();
    world.cluster.broker_down(1).unwrap();
    let began = tokio::time::Instant::now();
    let failure = world.send("2").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable, "{failure}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(failure.message.contains("timed out"), "{failure}");
    world.cluster.broker_up(1).unwrap();
    assert_eq!(world.send("3").await, Ok(()));
}
