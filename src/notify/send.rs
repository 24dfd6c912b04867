//! One connection to one sink.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, redirect};

use super::email::Mailer;
use super::format::{self, Method, Request};
use super::message::Payload;
use super::outcome::{Answer, Outcome, judge};
use super::settings::{Host, Kafka, Settings, Sink};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Secret;
use crate::model::HiddenValues;
use crate::model::text::causes;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long one delivery may take in all. A chat answers within a second; Teams's workflows take some more.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How long a message may take until Kafka's brokers have it.
const KAFKA_TIME: Duration = Duration::from_secs(15);

/// How much of an answer is read, in bytes.
const MAX_ANSWER: usize = 8 * 1024;

/// Where Kafka is unless a sink says so.
#[derive(Debug, Clone, Default)]
pub struct KafkaServers {
    /// `KAFKA_BROKER`.
    pub brokers: String,
    /// Options of librdkafka with credentials and TLS.
    pub options: BTreeMap<String, Secret>,
}

/// What connections are made with.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    /// Where Kafka is unless a sink says so.
    pub kafka: KafkaServers,
    /// Authorities (PEM) that are trusted besides the system's.
    pub authorities: Option<PathBuf>,
    /// What is shown nowhere.
    pub hidden: HiddenValues,
}

/// One connection to one sink.
pub struct Sender {
    sink: Sink,
    way: Way,
    hidden: HiddenValues,
}

enum Way {
    Http(Client),
    Mail(Box<Mailer>),
    Kafka(FutureProducer),
    /// It cannot be used as it is set up.
    Broken(String),
}

impl Sender {
    /// Nothing is sent yet.
    pub fn new(sink: &Sink, connections: &Connections) -> Self {
        let authorities = connections.authorities.as_deref();
        let way = match sink {
            Sink::Email(email) => Mailer::new(email, authorities).map(|mailer| Way::Mail(Box::new(mailer))),
            Sink::Kafka(kafka) => producer(kafka, &connections.kafka).map(Way::Kafka),
            Sink::Webhook(_)
            | Sink::Slack(_)
            | Sink::Teams(_)
            | Sink::Mattermost { .. }
            | Sink::Matrix { .. }
            | Sink::Commit(_) => client(authorities).map(Way::Http),
        };
        Sender { sink: sink.clone(), way: way.unwrap_or_else(Way::Broken), hidden: connections.hidden.clone() }
    }

    /// Delivers one message; what comes of it shows no secret.
    pub async fn send(&self, payload: &Payload) -> Outcome {
        let sent = tokio::time::timeout(LIMIT, self.try_send(payload)).await;
        let outcome = sent.unwrap_or_else(|_| {
            Outcome::failed(
                format!("no answer within {} s", LIMIT.as_secs()),
                "is the receiver up, and reachable from here?",
            )
        });
        self.masked(outcome)
    }

    /// Asks a host of repositories for the repository: whether address and token are right.
    pub async fn look(&self, host: &Host) -> Outcome {
        let Way::Http(client) = &self.way else { return self.masked(Outcome::failed("no client", "")) };
        let outcome = match tokio::time::timeout(LIMIT, exchange(client, format::look(host))).await {
            Ok(Ok(answer)) if (200..300).contains(&answer.status) => {
                Outcome::Delivered(format!("HTTP {}", answer.status))
            }
            Ok(Ok(answer)) => judge(&self.sink, &nothing(), &answer),
            Ok(Err(outcome)) => outcome,
            Err(_) => Outcome::failed("no answer", "is the server up, and reachable from here?"),
        };
        self.masked(outcome)
    }

    async fn try_send(&self, payload: &Payload) -> Outcome {
        match (&self.way, payload) {
            (Way::Broken(reason), _) => Outcome::failed(reason.clone(), "mend the notification file"),
            (Way::Http(client), _) => {
                let now = SystemClock::new().wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let request = match format::request(&self.sink, payload, now) {
                    Ok(Some(request)) => request,
                    Ok(None) => return Outcome::Delivered("nothing to tell".into()),
                    Err(reason) => return Outcome::Refused { reason, hint: "mend the template" },
                };
                match exchange(client, request).await {
                    Ok(answer) => judge(&self.sink, payload, &answer),
                    Err(outcome) => outcome,
                }
            }
            (Way::Mail(mailer), Payload::Message(message)) => mailer.send(message).await,
            (Way::Kafka(producer), Payload::Message(message)) => {
                let Sink::Kafka(kafka) = &self.sink else { return Outcome::failed("no topic", "") };
                let (key, value) = format::kafka(message);
                let record = FutureRecord::to(&kafka.topic).key(&key).payload(&value);
                match producer.send(record, Timeout::After(KAFKA_TIME)).await {
                    Ok(delivered) => {
                        Outcome::Delivered(format!("partition {}, offset {}", delivered.partition, delivered.offset))
                    }
                    Err((error, _)) => {
                        Outcome::failed(error.to_string(), "is Kafka up, does the topic exist, and may we write to it?")
                    }
                }
            }
            (Way::Mail(_) | Way::Kafka(_), Payload::Commit(_)) => Outcome::Delivered("nothing to tell".into()),
        }
    }

    fn masked(&self, outcome: Outcome) -> Outcome {
        let mask = |text: String| self.hidden.mask(&text).into_owned();
        match outcome {
            Outcome::Delivered(said) => Outcome::Delivered(mask(said)),
            Outcome::Failed { reason, hint, after } => Outcome::Failed { reason: mask(reason), hint, after },
            Outcome::Refused { reason, hint } => Outcome::Refused { reason: mask(reason), hint },
        }
    }
}

/// What an answer to a question about a repository is about.
fn nothing() -> Payload {
    Payload::Commit(super::message::CommitStatus {
        commit: String::new(),
        state: super::message::CommitState::Pending,
        description: String::new(),
        link: None,
        instance: String::new(),
    })
}

/// Connections to every sink.
pub fn senders(settings: &Settings, connections: &Connections) -> BTreeMap<String, Sender> {
    settings.sinks.iter().map(|(name, sink)| (name.clone(), Sender::new(sink, connections))).collect()
}

fn client(authorities: Option<&Path>) -> Result<Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails when somebody else was quicker, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = Client::builder()
        // Where a redirect leads, the token of this receiver has no business.
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(LIMIT)
        .user_agent(concat!("ofop/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = authorities {
        let shown = path.display();
        let pem = std::fs::read(path).map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|error| format!("`{shown}`: {}", causes(&error)))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| format!("TLS cannot be set up: {}", causes(&error)))
}

async fn exchange(client: &Client, request: Request) -> Result<Answer, Outcome> {
    let Request { method, url, headers, content_type, body } = request;
    let mut builder = match method {
        Method::Post => client.post(&url),
        Method::Put => client.put(&url),
        Method::Get => client.get(&url),
    };
    if !body.is_empty() {
        builder = builder.header(CONTENT_TYPE, content_type).body(body);
    }
    for (name, value) in headers {
        let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            return Err(Outcome::failed(
                format!("`{name}` holds a character that a header may not"),
                "check the secret",
            ));
        };
        value.set_sensitive(true);
        builder = builder.header(name, value);
    }
    let response = builder.send().await.map_err(|error| {
        // The address is a secret.
        let error = error.without_url();
        Outcome::failed(format!("no answer: {}", causes(&error)), "is the receiver up, and reachable from here?")
    })?;
    let status = response.status().as_u16();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked = header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let body = beginning(response).await;
    // Matrix says it in the body, in milliseconds.
    let in_body = || -> Option<Duration> {
        let value: serde_json::Value = serde_json::from_str(&body).ok()?;
        value["retry_after_ms"].as_u64().map(Duration::from_millis)
    };
    let retry_after = asked.or_else(in_body);
    Ok(Answer { status, retry_after, body })
}

/// The beginning of a body; what is broken off or endless ends there.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - bytes.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn producer(kafka: &Kafka, servers: &KafkaServers) -> Result<FutureProducer, String> {
    let mut config = ClientConfig::new();
    config.set("client.id", "ofop-notify");
    let (brokers, options) = match &kafka.brokers {
        Some(brokers) => (brokers, &kafka.options),
        None => (&servers.brokers, &servers.options),
    };
    for (name, value) in options {
        config.set(name, value.expose());
    }
    config
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // As Java's clients place keys, so that others can read them by key.
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", KAFKA_TIME.as_millis().to_string())
        .set("topic.metadata.propagation.max.ms", (KAFKA_TIME / 3).as_millis().to_string());
    config.create().map_err(|error| format!("Kafka's client cannot be set up: {error}"))
}
