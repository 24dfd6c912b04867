//! OpenFactory's streams and tables, and the statements that make them.

/// The message of its source with which a query begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// The oldest that is still there.
    Earliest,
    /// The next one.
    Latest,
}

/// A stream or table that OpenFactory works with.
pub(super) struct Needed {
    pub(super) name: &'static str,
    /// The topic behind it, if its name is not ksqlDB's to choose.
    pub(super) topic: Option<&'static str>,
    /// Whether the topic holds state, and must keep it for ever.
    pub(super) is_state: bool,
    /// Whether it is there for OpenFactory's other parts alone.
    pub(super) for_others: bool,
    statement: &'static str,
}

impl Needed {
    /// Where its query begins to read its source; `derived_before` says that its topic has held messages.
    ///
    /// A stream writes what it reads once more. What its topic holds already must not be written again: that would come
    /// after the tombstones of what was taken back since, and bring it back. A table only gathers what its source says,
    /// and knows nothing unless it reads all of it.
    pub(super) fn begins(&self, derived_before: bool) -> Begin {
        let writes = self.statement.starts_with("CREATE STREAM") && self.reads().is_some();
        let writes_again = writes && derived_before;
        // What was taken back long ago may be there again: a tombstone that comes late would take it back once more.
        if self.name.ends_with("_TOMBSTONES") || writes_again { Begin::Latest } else { Begin::Earliest }
    }

    /// The stream or table that its query reads; none where it is made over a topic.
    pub(super) fn reads(&self) -> Option<&'static str> {
        self.statement.split(" FROM ").nth(1)?.split([' ', ';']).next()
    }

    /// The stream or table that its query calls by this name: a join has a short one for each side.
    pub(super) fn joined(&self, alias: &str) -> Option<&'static str> {
        let mut words = self.statement.split(" FROM ").nth(1)?.split(' ');
        let (left, left_alias) = (words.next()?, words.next()?);
        let (right, right_alias) = (words.nth(2)?, words.next()?);
        [(left_alias, left), (right_alias, right)].into_iter().find(|(known, _)| *known == alias).map(|(_, name)| name)
    }

    /// The statement that makes it, over a topic with so many partitions: ksqlDB refuses any other number than that of
    /// a topic that exists.
    pub(super) fn statement(&self, partitions: usize) -> String {
        self.statement.replace("PARTITIONS=1", &format!("PARTITIONS={partitions}"))
    }
}

/// In the order in which they depend on each other. Those for others come last: ofop works without them.
pub(super) const NEEDED: [Needed; 20] = [
    Needed {
        name: "ASSETS_STREAM",
        topic: Some("ofa_assets"),
        is_state: false,
        for_others: false,
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_STREAM (ASSET_UUID VARCHAR KEY, ID VARCHAR, VALUE VARCHAR, \
                    TAG VARCHAR, TYPE VARCHAR, ATTRIBUTES MAP<VARCHAR, VARCHAR>) \
                    WITH (KAFKA_TOPIC='ofa_assets', PARTITIONS=1, VALUE_FORMAT='JSON');",
    },
    Needed {
        name: "ENRICHED_ASSETS_STREAM",
        topic: Some("enriched_assets_stream_topic"),
        is_state: false,
        for_others: false,
        statement: "CREATE STREAM IF NOT EXISTS ENRICHED_ASSETS_STREAM \
                    WITH (KAFKA_TOPIC='enriched_assets_stream_topic', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT CONCAT(ASSET_UUID, '|', ID) AS KEY, ASSET_UUID, ID, VALUE, TYPE, TAG, \
                    COALESCE(ATTRIBUTES['timestamp'], 'UNAVAILABLE') AS TIMESTAMP \
                    FROM ASSETS_STREAM PARTITION BY CONCAT(ASSET_UUID, '|', ID) EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS",
        topic: None,
        is_state: false,
        for_others: false,
        statement: "CREATE TABLE IF NOT EXISTS ASSETS AS \
                    SELECT KEY, LATEST_BY_OFFSET(ASSET_UUID) AS ASSET_UUID, LATEST_BY_OFFSET(ID) AS ID, \
                    LATEST_BY_OFFSET(VALUE) AS VALUE, LATEST_BY_OFFSET(TYPE) AS TYPE, \
                    LATEST_BY_OFFSET(TAG) AS TAG, LATEST_BY_OFFSET(TIMESTAMP) AS TIMESTAMP \
                    FROM ENRICHED_ASSETS_STREAM GROUP BY KEY EMIT CHANGES;",
    },
    Needed {
        name: "DOCKER_SERVICES_STREAM",
        topic: Some("docker_services_topic"),
        is_state: true,
        for_others: false,
        statement: "CREATE STREAM IF NOT EXISTS DOCKER_SERVICES_STREAM \
                    WITH (KAFKA_TOPIC='docker_services_topic', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT ASSET_UUID, VALUE AS DOCKER_SERVICE FROM ASSETS_STREAM \
                    WHERE ID='DockerService' AND TYPE='OpenFactory' EMIT CHANGES;",
    },
    Needed {
        name: "DOCKER_SERVICES",
        topic: Some("docker_services_topic"),
        is_state: false,
        for_others: false,
        statement: "CREATE SOURCE TABLE IF NOT EXISTS DOCKER_SERVICES (ASSET_UUID VARCHAR PRIMARY KEY, \
                    DOCKER_SERVICE VARCHAR) WITH (KAFKA_TOPIC='docker_services_topic', VALUE_FORMAT='JSON');",
    },
    Needed {
        name: "ASSETS_TYPE_STREAM",
        topic: Some("assets_types_topic"),
        is_state: true,
        for_others: false,
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_TYPE_STREAM \
                    WITH (KAFKA_TOPIC='assets_types_topic', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT ASSET_UUID, VALUE AS TYPE FROM ASSETS_STREAM \
                    WHERE ID='AssetType' AND TYPE='OpenFactory' EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_TYPE",
        topic: Some("assets_types_topic"),
        is_state: false,
        for_others: false,
        statement: "CREATE SOURCE TABLE IF NOT EXISTS ASSETS_TYPE (ASSET_UUID VARCHAR PRIMARY KEY, TYPE VARCHAR) \
                    WITH (KAFKA_TOPIC='assets_types_topic', VALUE_FORMAT='JSON');",
    },
    Needed {
        name: "ASSETS_AVAIL_STREAM",
        topic: Some("assets_avail_topic"),
        is_state: true,
        for_others: false,
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_AVAIL_STREAM \
                    WITH (KAFKA_TOPIC='assets_avail_topic', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT ASSET_UUID, VALUE AS AVAILABILITY FROM ASSETS_STREAM \
                    WHERE (ID='avail' OR ID='agent_avail') AND VALUE!='delete' EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_AVAIL",
        topic: Some("assets_avail_topic"),
        is_state: false,
        for_others: false,
        statement: "CREATE SOURCE TABLE IF NOT EXISTS ASSETS_AVAIL (ASSET_UUID VARCHAR PRIMARY KEY, \
                    AVAILABILITY VARCHAR) WITH (KAFKA_TOPIC='assets_avail_topic', VALUE_FORMAT='JSON');",
    },
    Needed {
        name: "ASSET_TO_UNS_MAP_RAW",
        topic: Some("asset_to_uns_map_topic"),
        is_state: true,
        for_others: false,
        statement: "CREATE TABLE IF NOT EXISTS ASSET_TO_UNS_MAP_RAW (ASSET_UUID VARCHAR PRIMARY KEY, \
                    UNS_ID VARCHAR, UNS_LEVELS MAP<VARCHAR, VARCHAR>, UPDATED_AT TIMESTAMP) \
                    WITH (KAFKA_TOPIC='asset_to_uns_map_topic', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON', \
                    PARTITIONS=1);",
    },
    Needed {
        name: "ASSET_TO_UNS_MAP",
        topic: None,
        is_state: false,
        for_others: false,
        statement: "CREATE TABLE IF NOT EXISTS ASSET_TO_UNS_MAP AS \
                    SELECT * FROM ASSET_TO_UNS_MAP_RAW EMIT CHANGES;",
    },
    Needed {
        name: "DEVICE_CONNECTOR_SOURCE",
        topic: Some("device_connector_topic"),
        is_state: true,
        for_others: false,
        statement: "CREATE TABLE IF NOT EXISTS DEVICE_CONNECTOR_SOURCE (ASSET_UUID VARCHAR PRIMARY KEY, \
                    CONNECTOR_CONFIG VARCHAR) \
                    WITH (KAFKA_TOPIC='device_connector_topic', VALUE_FORMAT='JSON', PARTITIONS=1);",
    },
    Needed {
        name: "DEVICE_CONNECTOR",
        topic: None,
        is_state: false,
        for_others: false,
        statement: "CREATE TABLE IF NOT EXISTS DEVICE_CONNECTOR AS \
                    SELECT * FROM DEVICE_CONNECTOR_SOURCE EMIT CHANGES;",
    },
    Needed {
        name: "METRICS_TARGETS_SOURCE",
        topic: Some("metrics_targets_topic"),
        is_state: true,
        for_others: false,
        statement: "CREATE TABLE IF NOT EXISTS METRICS_TARGETS_SOURCE (APPLICATION_UUID VARCHAR PRIMARY KEY, \
                    HOST VARCHAR, PORT INTEGER, PATH VARCHAR) \
                    WITH (KAFKA_TOPIC='metrics_targets_topic', VALUE_FORMAT='JSON', PARTITIONS=1);",
    },
    Needed {
        name: "METRICS_TARGETS",
        topic: None,
        is_state: false,
        for_others: false,
        statement: "CREATE TABLE IF NOT EXISTS METRICS_TARGETS AS \
                    SELECT * FROM METRICS_TARGETS_SOURCE EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_TYPE_TOMBSTONES",
        topic: Some("assets_types_topic"),
        is_state: true,
        for_others: true,
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_TYPE_TOMBSTONES \
                    WITH (KAFKA_TOPIC='assets_types_topic', PARTITIONS=1, VALUE_FORMAT='KAFKA') AS \
                    SELECT ASSET_UUID, CAST(NULL AS VARCHAR) AS TYPE FROM ASSETS_STREAM \
                    WHERE ID='AssetType' AND TYPE='OpenFactory' AND VALUE='delete' EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_AVAIL_TOMBSTONES",
        topic: Some("assets_avail_topic"),
        is_state: true,
        for_others: true,
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_AVAIL_TOMBSTONES \
                    WITH (KAFKA_TOPIC='assets_avail_topic', PARTITIONS=1, VALUE_FORMAT='KAFKA') AS \
                    SELECT ASSET_UUID, CAST(NULL AS VARCHAR) AS AVAILABILITY FROM ASSETS_STREAM \
                    WHERE (ID='avail' OR ID='agent_avail') AND VALUE='delete' EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_AGGREGATED_BY_ASSET_UUID",
        topic: None,
        is_state: false,
        for_others: true,
        statement: "CREATE TABLE IF NOT EXISTS ASSETS_AGGREGATED_BY_ASSET_UUID AS \
                    SELECT ASSET_UUID, COLLECT_LIST(STRUCT(ID := ID, VALUE := VALUE, TYPE := TYPE, TAG := TAG, \
                    TIMESTAMP := TIMESTAMP)) AS READINGS \
                    FROM ASSETS GROUP BY ASSET_UUID EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_STREAM_UNS",
        topic: Some("ofa_assets_uns"),
        is_state: false,
        for_others: true,
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_STREAM_UNS \
                    WITH (KAFKA_TOPIC='ofa_assets_uns', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT M.UNS_ID AS UNS_ID, A.ASSET_UUID AS ASSET_UUID, A.ID AS ID, A.VALUE AS VALUE, \
                    A.TAG AS TAG, A.TYPE AS TYPE, A.ATTRIBUTES AS ATTRIBUTES \
                    FROM ASSETS_STREAM A LEFT JOIN ASSET_TO_UNS_MAP M ON A.ASSET_UUID = M.ASSET_UUID \
                    WHERE M.UNS_ID IS NOT NULL PARTITION BY M.UNS_ID EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_UNS",
        topic: None,
        is_state: false,
        for_others: true,
        statement: "CREATE TABLE IF NOT EXISTS ASSETS_UNS AS \
                    SELECT CONCAT(M.UNS_ID, '|', A.ID) AS KEY, A.KEY AS ASSET_UUID_KEY, M.UNS_ID AS UNS_ID, \
                    A.ASSET_UUID AS ASSET_UUID, A.ID AS ID, A.VALUE AS VALUE, A.TYPE AS TYPE, A.TAG AS TAG, \
                    A.TIMESTAMP AS TIMESTAMP \
                    FROM ASSETS A LEFT JOIN ASSET_TO_UNS_MAP M ON A.ASSET_UUID = M.ASSET_UUID \
                    WHERE M.UNS_ID IS NOT NULL EMIT CHANGES;",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_over_a_topic_that_holds_nothing_is_derived_from_the_beginning() {
        for needed in &NEEDED {
            let is_stream = needed.statement.starts_with("CREATE STREAM") && needed.name != "ASSETS_STREAM";
            let is_tombstones = needed.name.ends_with("_TOMBSTONES");
            let fresh = if is_tombstones { Begin::Latest } else { Begin::Earliest };
            assert_eq!(needed.begins(false), fresh, "{}", needed.name);
            let again = if is_stream { Begin::Latest } else { Begin::Earliest };
            assert_eq!(needed.begins(true), again, "{}", needed.name);
        }
    }

    #[test]
    fn what_a_query_reads_was_made_before_it() {
        for (index, needed) in NEEDED.iter().enumerate() {
            let made = |name: &str| NEEDED[..index].iter().any(|before| before.name == name);
            assert!(needed.reads().is_none_or(made), "{}", needed.name);
        }
        let reads = |name: &str| NEEDED.iter().find(|needed| needed.name == name).unwrap().reads();
        assert_eq!(reads("ASSETS_TYPE_STREAM"), Some("ASSETS_STREAM"));
        assert_eq!(reads("DEVICE_CONNECTOR"), Some("DEVICE_CONNECTOR_SOURCE"));
        assert_eq!(reads("ASSETS_TYPE"), None);
        let joined =
            |alias: &str| NEEDED.iter().find(|needed| needed.name == "ASSETS_STREAM_UNS").unwrap().joined(alias);
        assert_eq!((joined("A"), joined("M"), joined("X")), (Some("ASSETS_STREAM"), Some("ASSET_TO_UNS_MAP"), None));
        assert_eq!(NEEDED[2].joined("A"), None, "no join");
    }
}
