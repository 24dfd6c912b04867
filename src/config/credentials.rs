//! Which variables are credentials. Whoever may write a manifest may not read them through it.

use std::collections::BTreeSet;

/// Settings that hold a credential, or an address with one.
pub(super) const SETTINGS: [&str; 10] = [
    "GITHUB_TOKEN",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_KEY_PASSWORD",
    "OFOP_GITHUB_TOKEN",
    "OFOP_GIT_SSH_PASSPHRASE",
    "OFOP_GIT_TOKEN",
    "OFOP_GIT_URL",
    "OFOP_KSQLDB_PASSWORD",
    "OFOP_TOKEN",
    "OFOP_WEBHOOK_SECRET",
];

/// What the name of a credential of another program holds.
const MARKS: [&str; 4] = ["TOKEN", "SECRET", "PASSWORD", "PASSPHRASE"];

/// The variables that no manifest may refer to: the operator's own credentials wherever they are set, and what has the
/// name of a credential in the environment of the process. That environment comes with the machine; a variable in the
/// dotenv file was written there for the manifests.
pub(super) fn withheld<'a>(
    environment: impl Iterator<Item = &'a str>,
    stands_in_file: impl Fn(&str) -> bool,
) -> BTreeSet<String> {
    let is_foreign = |name: &&str| is_marked(name) && !stands_in_file(name);
    environment.filter(is_foreign).chain(SETTINGS).map(str::to_owned).collect()
}

/// Whether a variable has the name of a credential.
pub(super) fn is_marked(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    MARKS.iter().any(|mark| upper.contains(mark))
}
