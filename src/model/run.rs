//! The identity of one run of the operator.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest host name that becomes part of an id, in bytes: as long as a DNS label may be.
const MAX_HOST: usize = 63;

/// Identifies one run of one operator process: `HOST/PID/RANDOM`. Whoever reads a lease, or the mark on an object,
/// can tell writes of this process from those of any other, an earlier run on the same host included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Builds an id. `random` must differ between any two runs with the same host and process id.
    /// Characters of `host` other than ASCII letters, digits, `-`, `_` and `.` become `-`.
    pub fn new(host: &str, pid: u32, random: u64) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let host: String = host.chars().map(plain).take(MAX_HOST).collect();
        let host = if host.is_empty() { "unknown" } else { &host };
        RunId(format!("{host}/{pid}/{random:016x}"))
    }

    /// An id as it was found in a label, whoever wrote it; none when the text is empty or longer than any id that
    /// [`RunId::new`] builds.
    pub fn found(text: &str) -> Option<Self> {
        const MAX: usize = MAX_HOST + 1 + 10 + 1 + 16;
        (!text.is_empty() && text.len() <= MAX && !text.chars().any(char::is_control)).then(|| RunId(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, for people.
    pub fn host(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_host_process_and_run() {
        let id = RunId::new("plant a.local", 42, 7);
        assert_eq!(id.as_str(), "plant-a.local/42/0000000000000007");
        assert_eq!(id.host(), "plant-a.local");
        assert_eq!(RunId::new("", 1, 0).host(), "unknown");
    }

    #[test]
    fn what_was_built_can_be_found_and_rubbish_cannot() {
        let longest = RunId::new(&"x".repeat(300), u32::MAX, u64::MAX);
        assert_eq!(RunId::found(longest.as_str()), Some(longest));
        for rubbish in ["", "a\nb", &"x".repeat(1000)] {
            assert_eq!(RunId::found(rubbish), None);
        }
    }
}
