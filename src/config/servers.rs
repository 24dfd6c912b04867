//! How to reach Kafka and ksqlDB: credentials and TLS.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::values::{Reader, invalid};
use super::{ConfigError, Secret, credentials, secret_file};

/// How to reach Kafka and ksqlDB, beside their addresses.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    /// Options of librdkafka by their own names, from `KAFKA_…`.
    pub kafka_options: BTreeMap<&'static str, Secret>,
    /// `OFOP_KSQLDB_USERNAME`.
    pub ksqldb_username: Option<String>,
    /// `OFOP_KSQLDB_PASSWORD` or `OFOP_KSQLDB_PASSWORD_FILE`.
    pub ksqldb_password: Option<Secret>,
    /// `OFOP_KSQLDB_CA_FILE`.
    pub ksqldb_ca_file: Option<PathBuf>,
    /// `OFOP_KSQLDB_INSECURE_CREDENTIALS`: credentials may go over plain HTTP.
    pub ksqldb_insecure_credentials: bool,
}

/// Each option with the variable that gives it and, for what is secret, the one that names a file with it.
const KAFKA_OPTIONS: [(&str, &str, Option<&str>); 10] = [
    ("security.protocol", "KAFKA_SECURITY_PROTOCOL", None),
    ("sasl.mechanism", "KAFKA_SASL_MECHANISM", None),
    ("sasl.username", "KAFKA_SASL_USERNAME", None),
    ("sasl.password", "KAFKA_SASL_PASSWORD", Some("KAFKA_SASL_PASSWORD_FILE")),
    ("ssl.ca.location", "KAFKA_SSL_CA_LOCATION", None),
    ("ssl.certificate.location", "KAFKA_SSL_CERTIFICATE_LOCATION", None),
    ("ssl.key.location", "KAFKA_SSL_KEY_LOCATION", None),
    ("ssl.key.password", "KAFKA_SSL_KEY_PASSWORD", Some("KAFKA_SSL_KEY_PASSWORD_FILE")),
    ("ssl.endpoint.identification.algorithm", "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", None),
    ("client.id", "KAFKA_CLIENT_ID", None),
];

impl Reader<'_> {
    pub(super) fn servers(&self) -> Result<Servers, ConfigError> {
        let mut kafka_options = BTreeMap::new();
        for (option, name, file) in KAFKA_OPTIONS {
            if let Some(text) = self.secret(name, file)? {
                kafka_options.insert(option, text);
            }
        }
        let sasl = kafka_options
            .get("security.protocol")
            .is_some_and(|protocol| protocol.expose().to_ascii_uppercase().starts_with("SASL"));
        if sasl && !kafka_options.contains_key("sasl.mechanism") {
            // librdkafka would take GSSAPI, which it is built without here.
            return Err(ConfigError::Missing {
                what: "KAFKA_SECURITY_PROTOCOL with SASL",
                missing: "KAFKA_SASL_MECHANISM",
                hint: "set it to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
            });
        }
        let tls = kafka_options
            .get("security.protocol")
            .is_some_and(|protocol| matches!(protocol.expose().to_ascii_uppercase().as_str(), "SSL" | "SASL_SSL"));
        if tls && !kafka_options.contains_key("ssl.ca.location") {
            // A program that brings its own OpenSSL does not know where this machine keeps its authorities; librdkafka
            // does.
            let authorities = self.text("SSL_CERT_FILE").unwrap_or_else(|| "probe".into());
            kafka_options.insert("ssl.ca.location", Secret::new(authorities));
        }
        let ksqldb_insecure_credentials = match self.variable("OFOP_KSQLDB_INSECURE_CREDENTIALS") {
            None => false,
            Some(found) => match found.text.trim() {
                "true" => true,
                "false" => false,
                _ => return Err(invalid(found.from, "is neither true nor false", "write `true` or `false`")),
            },
        };
        Ok(Servers {
            kafka_options,
            ksqldb_username: self.text("OFOP_KSQLDB_USERNAME"),
            ksqldb_password: self.secret("OFOP_KSQLDB_PASSWORD", Some("OFOP_KSQLDB_PASSWORD_FILE"))?,
            ksqldb_ca_file: self.text("OFOP_KSQLDB_CA_FILE").map(PathBuf::from),
            ksqldb_insecure_credentials,
        })
    }

    /// A text from a variable, or from a file that another variable names.
    pub(super) fn secret(&self, name: &'static str, file: Option<&'static str>) -> Result<Option<Secret>, ConfigError> {
        debug_assert!(
            file.is_none() || credentials::SETTINGS.contains(&name),
            "{name} is missing in the list of credentials"
        );
        if let Some(found) = file.and_then(|file| self.variable(file)) {
            let path = PathBuf::from(found.text);
            let text = secret_file::read(&found.from, &path)?;
            return Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))));
        }
        Ok(self.variable(name).map(|found| Secret::new(found.text)))
    }
}
