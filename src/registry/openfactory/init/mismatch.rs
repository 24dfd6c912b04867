//! Topics that are not as ksqlDB needs them, told from the messages with which it refuses: one that differs from what a
//! statement asks for (500, code 50000), and two that cannot be joined. Pure.

/// A setting of a topic: what it must be and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    wanted: i64,
    actual: i64,
}

impl Setting {
    fn fits(self) -> bool {
        self.wanted == self.actual
    }
}

/// A topic that exists, and differs from what a statement asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    topic: String,
    partitions: Setting,
    replicas: Setting,
    /// Milliseconds; -1 for ever.
    retention: Setting,
}

impl Mismatch {
    /// `A Kafka topic with the name 'T' already exists, with different … KSQL expects 3 partitions (topic has 3), 1
    /// replication factor (topic has 1), and 2592000000 retention (topic has 604800000).`
    pub(super) fn parse(message: &str) -> Option<Mismatch> {
        let (_, rest) = message.split_once("A Kafka topic with the name '")?;
        let (topic, rest) = rest.split_once("' already exists, with different ")?;
        let (_, rest) = rest.split_once("KSQL expects ")?;
        let (partitions, rest) = setting(rest, " partitions (topic has ")?;
        let (replicas, rest) = setting(rest.trim_start_matches([',', ' ']), " replication factor (topic has ")?;
        let (retention, _) = setting(rest.trim_start_matches(", and "), " retention (topic has ")?;
        Some(Mismatch { topic: topic.to_owned(), partitions, replicas, retention })
    }

    /// What does not fit, for people; `source` is the topic that the other is derived from.
    pub(super) fn sentence(&self, source: Option<&str>) -> String {
        let Mismatch { topic, partitions, replicas, retention } = self;
        let mut differs = Vec::new();
        if !partitions.fits() {
            differs.push(format!("topic {topic} has {} partitions and needs {}", partitions.actual, partitions.wanted));
        }
        if !replicas.fits() {
            differs.push(format!(
                "topic {topic} has replication factor {} and needs {}",
                replicas.actual, replicas.wanted
            ));
        }
        if !retention.fits() {
            let other = source.map(|source| format!(", that of topic {source}")).unwrap_or_default();
            differs.push(format!(
                "topic {topic} has retention.ms={} and needs retention.ms={}{other}",
                retention.actual, retention.wanted
            ));
        }
        if differs.is_empty() {
            return format!("ksqlDB does not take topic {topic} as it is, and does not say what differs");
        }
        differs.join("; ")
    }

    /// The commands that mend it.
    pub(super) fn hint(&self, brokers: &str) -> String {
        let Mismatch { topic, partitions, replicas, retention } = self;
        let mut acts = Vec::new();
        if !retention.fits() {
            acts.push(format!(
                "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} \
                 --add-config retention.ms={}",
                retention.wanted
            ));
        }
        if partitions.actual < partitions.wanted {
            acts.push(format!(
                "kafka-topics.sh --bootstrap-server {brokers} --alter --topic {topic} --partitions {}",
                partitions.wanted
            ));
        } else if !partitions.fits() {
            acts.push(format!(
                "partitions cannot be taken away: save what topic {topic} holds, then kafka-topics.sh --bootstrap-server \
                 {brokers} --delete --topic {topic}"
            ));
        }
        if !replicas.fits() {
            acts.push(format!(
                "kafka-reassign-partitions.sh --bootstrap-server {brokers} --execute --reassignment-json-file FILE, with {} \
                 replicas for each partition of topic {topic}",
                replicas.wanted
            ));
        }
        acts.push("run `ofop registry init` again, which goes on from there".to_owned());
        acts.join("; then ")
    }
}

/// Two topics that a query joins, and that have different numbers of partitions: keys of the one are not where those of the
/// other are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry::openfactory) struct JoinMismatch {
    /// The topic that the other must be like, and its partitions: that of all attributes, which nobody makes anew.
    pub(in crate::registry::openfactory) left: (String, i64),
    /// The topic of state that differs from it.
    pub(in crate::registry::openfactory) right: (String, i64),
}

impl JoinMismatch {
    /// `Can't join `A` with `M` since the number of partitions don't match. `A` partitions = 3; `M` partitions = 1. …`;
    /// `topic` tells which topic is behind such a name.
    pub(super) fn parse(message: &str, topic: impl Fn(&str) -> Option<&'static str>) -> Option<JoinMismatch> {
        let (_, rest) = message.split_once("since the number of partitions don't match. ")?;
        let side = |text: &str| {
            let (name, rest) = text.split_once(" partitions = ")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some((topic(name.trim_matches('`'))?.to_owned(), digits.parse().ok()?))
        };
        let (left, right) = rest.split_once("; ")?;
        Some(JoinMismatch { left: side(left)?, right: side(right)? })
    }

    /// What does not fit, for people.
    pub(in crate::registry::openfactory) fn sentence(&self) -> String {
        let JoinMismatch { left: (left, wanted), right: (right, actual) } = self;
        format!(
            "topic {right} has {actual} partition{} and needs {wanted}, as many as topic {left}: ksqlDB joins no others",
            if *actual == 1 { "" } else { "s" }
        )
    }

    /// The commands that mend it. Partitions that are added to a topic of state would leave its keys where they are, and
    /// later messages about them elsewhere, so it is made anew.
    pub(in crate::registry::openfactory) fn hint(&self, brokers: &str) -> String {
        let JoinMismatch { left: _, right: (right, _) } = self;
        format!(
            "in ksqlDB: DROP TABLE ASSET_TO_UNS_MAP DELETE TOPIC; DROP TABLE ASSET_TO_UNS_MAP_RAW; then kafka-topics.sh \
             --bootstrap-server {brokers} --delete --topic {right}; then run `ofop registry init` again, which makes all of \
             them; ofop writes the places of its own assets again, others must register theirs"
        )
    }
}

/// `3 partitions (topic has 3)`: both numbers, and what follows.
fn setting<'t>(text: &'t str, between: &str) -> Option<(Setting, &'t str)> {
    let (wanted, rest) = text.split_once(between)?;
    let (actual, rest) = rest.split_once(')')?;
    Some((Setting { wanted: wanted.parse().ok()?, actual: actual.parse().ok()? }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A real server's, with other numbers.
    fn message(partitions: (i64, i64), replicas: (i64, i64), retention: (i64, i64)) -> String {
        format!(
            "A Kafka topic with the name 'docker_services_topic' already exists, with different \
             partition/replica/retention configuration than required. KSQL expects {} partitions (topic has {}), {} \
             replication factor (topic has {}), and {} retention (topic has {}).",
            partitions.0, partitions.1, replicas.0, replicas.1, retention.0, retention.1
        )
    }

    #[test]
    fn the_messages_of_a_real_server_are_understood() {
        let captured = |text: &'static str| {
            let body = text.lines().find(|line| line.starts_with('{')).unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            Mismatch::parse(body["message"].as_str().unwrap()).unwrap()
        };
        let retention = captured(include_str!("../../../../tests/ksqldb_wire/ksql-csas-retention-mismatch.txt"));
        assert_eq!(retention.topic, "assets_types_topic");
        assert_eq!(retention.retention, Setting { wanted: 1000, actual: 604_800_000 });
        assert!(retention.partitions.fits() && retention.replicas.fits());
        let partitions = captured(include_str!("../../../../tests/ksqldb_wire/ksql-create-partitions-mismatch.txt"));
        assert_eq!(partitions.partitions, Setting { wanted: 7, actual: 1 });
        assert_eq!(Mismatch::parse("KSQL is not yet ready to serve requests."), None);
    }

    #[test]
    fn topics_that_cannot_be_joined_are_told_by_their_names() {
        let topic = |alias: &str| match alias {
            "A" => Some("ofa_assets"),
            "M" => Some("asset_to_uns_map_topic"),
            _ => None,
        };
        // As ksqlDB has written it: with aliases in quotes, and before 0.8 without.
        for quote in ["`", ""] {
            let message = format!(
                "Can't join {quote}A{quote} with {quote}M{quote} since the number of partitions don't match. {quote}A{quote} \
                 partitions = 3; {quote}M{quote} partitions = 1. Please repartition either one so that the number of \
                 partitions match."
            );
            let found = JoinMismatch::parse(&message, topic).unwrap();
            assert_eq!(
                found.sentence(),
                "topic asset_to_uns_map_topic has 1 partition and needs 3, as many as topic ofa_assets: ksqlDB joins no others"
            );
            let hint = found.hint("b:1");
            assert!(hint.contains("kafka-topics.sh --bootstrap-server b:1 --delete --topic asset_to_uns_map_topic"));
            assert_eq!(JoinMismatch::parse(&message, |_| None), None);
        }
        assert_eq!(JoinMismatch::parse("Can't join a stream", topic), None);
    }

    #[test]
    fn the_hint_holds_the_command_for_each_setting_that_differs() {
        let about = |partitions, replicas, retention| {
            let found = Mismatch::parse(&message(partitions, replicas, retention)).unwrap();
            (found.sentence(Some("ofa_assets")), found.hint("b:1"))
        };
        let (sentence, hint) = about((3, 3), (1, 1), (-1, 604_800_000));
        for part in ["docker_services_topic", "retention.ms=604800000", "retention.ms=-1", "ofa_assets"] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        let command = "kafka-configs.sh --bootstrap-server b:1 --alter --entity-type topics --entity-name \
                       docker_services_topic --add-config retention.ms=-1";
        assert!(hint.starts_with(command), "{hint}");
        let (_, hint) = about((3, 2), (1, 1), (9, 9));
        assert!(hint.starts_with(
            "kafka-topics.sh --bootstrap-server b:1 --alter --topic docker_services_topic --partitions 3"
        ));
        let (_, hint) = about((2, 3), (1, 1), (9, 9));
        assert!(hint.contains("--delete --topic docker_services_topic") && !hint.contains("--partitions"), "{hint}");
        let (sentence, hint) = about((3, 3), (3, 1), (9, 9));
        assert!(sentence.contains("replication factor 1") && hint.contains("kafka-reassign-partitions.sh"), "{hint}");
    }
}
