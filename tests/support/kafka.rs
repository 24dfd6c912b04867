//! A real Kafka broker of the test's own: Apache Kafka in KRaft mode, one node, on loopback.
//!
//! The jars come from Maven once and stay in `target/kafka`; every broker has its own data directory, which goes
//! with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "support for tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

#[path = "port.rs"]
#[allow(clippy::duplicate_mod, reason = "several supports may be part of one test program")]
mod port;

/// Only one test process at a time may fetch the jars; within one process this lock sees to it.
static JARS: Mutex<()> = Mutex::new(());

/// A broker; dropping it ends it.
pub(crate) struct Kafka {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
    secure: Option<Secure>,
}

/// Ports of a broker that speak TLS, beside the one that does not.
#[derive(Clone, Copy)]
pub(crate) struct Secure {
    /// TLS alone.
    pub(crate) ssl: u16,
    /// TLS, and then SASL.
    pub(crate) sasl_ssl: u16,
}

/// Who may come in through SASL, by each mechanism.
pub(crate) const SASL_USER: &str = "ofop-user";
/// With this password.
pub(crate) const SASL_PASSWORD: &str = "correct-horse-7";
/// Who may come in by PLAIN, with the same password, and do nothing but what [`Kafka::allow`] allows.
pub(crate) const LIMITED_USER: &str = "ofop-limited";

impl Kafka {
    /// Starts a broker and waits until it answers.
    pub(crate) fn start() -> Kafka {
        Kafka::start_with(None)
    }

    /// Starts a broker that also speaks TLS and SASL, with the key and certificate in this file.
    pub(crate) fn start_secure(key_and_certificate: &Path) -> Kafka {
        Kafka::start_with(Some(key_and_certificate))
    }

    /// The ports that speak TLS.
    pub(crate) fn secure(&self) -> Secure {
        self.secure.expect("started as a secure one")
    }

    fn start_with(key_and_certificate: Option<&Path>) -> Kafka {
        let jars = jars();
        let directory = tempfile::Builder::new().prefix("kafka").tempdir().unwrap();
        let (port, controller) = (port::claim(), port::claim());
        let secure = key_and_certificate.map(|_| Secure { ssl: port::claim(), sasl_ssl: port::claim() });
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        if let Some(Secure { ssl, sasl_ssl }) = secure {
            listeners.push_str(&format!(",SSL://127.0.0.1:{ssl},SASL_SSL://127.0.0.1:{sasl_ssl}"));
        }
        let mut settings = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={listeners}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n",
            directory.path().join("data").display()
        );
        let mut format = vec!["format".to_owned(), "-t".into(), "b2Zvb3Atb3BlcmF0b3ItMQ".into()];
        if let Some(file) = key_and_certificate {
            let module = |name: &str| format!("org.apache.kafka.common.security.{name} required");
            settings.push_str(&format!(
                "ssl.keystore.type=PEM\nssl.keystore.location={}\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n\
                 listener.name.sasl_ssl.plain.sasl.jaas.config={} user_{SASL_USER}=\"{SASL_PASSWORD}\" \
                 user_{LIMITED_USER}=\"{SASL_PASSWORD}\";\n\
                 listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={};\n\
                 authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                 super.users=User:ANONYMOUS;User:{SASL_USER}\n",
                file.display(),
                module("plain.PlainLoginModule"),
                module("scram.ScramLoginModule"),
            ));
            let user = format!("SCRAM-SHA-256=[name={SASL_USER},password={SASL_PASSWORD}]");
            format.extend(["--add-scram".to_owned(), user]);
        }
        let config = directory.path().join("server.properties");
        fs::write(&config, settings).unwrap();
        let formatted = java(&jars, directory.path())
            .arg("kafka.tools.StorageTool")
            .args(format)
            .arg("-c")
            .arg(&config)
            .output()
            .expect("java runs (a JRE 17 or newer)");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let child = Kafka::spawn(&jars, directory.path());
        let kafka = Kafka { child, directory, port, secure };
        kafka.wait_until_up();
        kafka
    }

    fn spawn(jars: &Path, directory: &Path) -> Child {
        let log = fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
        java(jars, directory)
            .arg("kafka.Kafka")
            .arg(directory.join("server.properties"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait_until_up(&self) {
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.address()).create().unwrap();
        for _ in 0..180 {
            if client.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|found| !found.brokers().is_empty()) {
                return;
            }
        }
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        panic!("the broker does not answer:\n{log}");
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets [`LIMITED_USER`] do this to all topics.
    pub(crate) fn allow(&self, operations: &[&str]) {
        let mut command = java(&jars(), self.directory.path());
        command.args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", &self.address()]);
        command.args(["--add", "--topic", "*", "--allow-principal"]).arg(format!("User:{LIMITED_USER}"));
        let output = command.args(operations.iter().flat_map(|operation| ["--operation", operation])).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Ends the process at once, data kept.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with the same data under the same address.
    pub(crate) fn resume(&mut self) {
        self.child = Kafka::spawn(&jars(), self.directory.path());
        self.wait_until_up();
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.stop();
    }
}

fn java(jars: &Path, directory: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .current_dir(directory)
        .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", jars.display()));
    command
}

fn jars() -> PathBuf {
    let _lock = JARS.lock().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let jars = root.join("target/kafka/jars");
    let done = root.join("target/kafka/complete");
    let pom = include_str!("kafka/pom.xml");
    if fs::read_to_string(&done).is_ok_and(|fetched| fetched == pom) {
        return jars;
    }
    let output = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .arg("-f")
        .arg(root.join("tests/support/kafka/pom.xml"))
        .output()
        .expect("mvn runs (apt package maven)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    fs::write(done, pom).unwrap();
    jars
}

/// An asset says something of itself, as OpenFactory's library does.
pub(crate) fn says(brokers: &str, asset: &str, id: &str, value: &str, tag: &str, kind: &str) {
    let timestamp = ofop::clock::rfc3339(ofop::clock::Clock::wall(&ofop::clock::SystemClock::new()));
    let message = serde_json::json!({
        "ID": id, "VALUE": value, "TAG": tag, "TYPE": kind, "attributes": {"timestamp": timestamp},
    });
    produce(brokers, "ofa_assets", asset, Some(&message.to_string()));
}

/// Writes one message, a tombstone without a payload, and waits until the broker has it.
pub(crate) fn produce(brokers: &str, topic: &str, key: &str, payload: Option<&str>) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("partitioner", "murmur2_random").create().unwrap();
    let record = BaseRecord::to(topic).key(key);
    let record: BaseRecord<'_, str, str> = match payload {
        Some(payload) => record.payload(payload),
        None => record,
    };
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
}

/// Every message of a topic so far, as key and payload; a tombstone has an empty payload.
pub(crate) fn messages(brokers: &str, topic: &str) -> Vec<(String, String)> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "reader").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut partitions = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata.topics()[0].partitions() {
        let (first, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
        left += end - first;
        partitions.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let mut messages = Vec::new();
    while left > 0 {
        let message = consumer.poll(PATIENCE).expect("as many messages as the broker says").unwrap();
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        messages.push((text(message.key()), text(message.payload())));
        left -= 1;
    }
    messages
}
