//! `ofop version`: what this program is and was built from.

use clap::Args;
use serde::Serialize;

use super::args::TextOrJson;
use super::output::Output;
use super::{CliError, Exit};
use crate::platform::engine::{NEWEST_API, OLDEST_API};

/// `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// How to print it
    #[arg(short, long, value_name = "text|json", value_enum, default_value_t)]
    pub output: TextOrJson,
}

/// What the program knows of itself. Commit and date are those that `deploy/release.sh` gives: a program that was built in
/// another way has none.
#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    commit: Option<&'static str>,
    date: Option<&'static str>,
    os: &'static str,
    arch: &'static str,
    engine_api: EngineApi,
}

/// Versions of the engine's API that it speaks.
#[derive(Debug, Serialize)]
struct EngineApi {
    oldest: String,
    newest: String,
}

impl Version {
    fn of_this_program() -> Version {
        Version {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("OFOP_BUILD_COMMIT").filter(|commit| !commit.is_empty()),
            date: option_env!("OFOP_BUILD_DATE").filter(|date| !date.is_empty()),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            engine_api: EngineApi { oldest: format!("1.{OLDEST_API}"), newest: format!("1.{NEWEST_API}") },
        }
    }

    fn text(&self) -> String {
        let short = |commit: &'static str| commit.get(..12).unwrap_or(commit);
        let built = match (self.commit, self.date) {
            (None, None) => String::new(),
            (commit, date) => {
                let parts: Vec<&str> = commit.map(short).into_iter().chain(date).collect();
                format!(" ({})", parts.join(", "))
            }
        };
        format!("ofop {}{built}\n", self.version)
    }
}

/// Prints it.
///
/// # Errors
/// When standard output fails.
pub fn run(args: &VersionArgs, output: &Output) -> Result<Exit, CliError> {
    let version = Version::of_this_program();
    match args.output {
        TextOrJson::Text => output.data(&version.text())?,
        TextOrJson::Json => output.json(&version)?,
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_is_known_of_the_build() {
        let version = |commit, date| Version { version: "1.2.3", commit, date, ..Version::of_this_program() }.text();
        assert_eq!(version(None, None), "ofop 1.2.3\n");
        let (commit, date) = ("0123456789abcdef0123", "2026-01-02T03:04:05Z");
        assert_eq!(version(Some(commit), Some(date)), "ofop 1.2.3 (0123456789ab, 2026-01-02T03:04:05Z)\n");
        assert_eq!(version(None, Some(date)), "ofop 1.2.3 (2026-01-02T03:04:05Z)\n");
    }
}
