//! What a shell offers where the command line cannot know the words: names of resources, as the daemon, or else the
//! manifests, have them.
//!
//! A shell waits for the answer while somebody types, and has no place for errors: whatever fails or takes long offers
//! nothing.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::ValueEnum as _;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::args::{self, Cli};
use super::client::Client;
use super::context::Context;
use super::get::{FORMATS, What};
use super::{CliError, Output, manifests};
use crate::report::Status;

/// The variable that has `ofop` complete a command line instead of running it.
pub(super) const VARIABLE: &str = "OFOP_COMPLETE";

/// How long a shell waits at most.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The most names that are offered.
const MOST: usize = 1_000;

/// Flags with a value that say where to look for names.
const PLACES: [&str; 9] = [
    "--address",
    "--token-file",
    "--desired",
    "--git",
    "--branch",
    "--path",
    "--env-file",
    "--state-dir",
    "--platform",
];

/// What `ofop get` lists: kinds and resources.
pub(super) fn listed(current: &OsStr) -> Vec<CompletionCandidate> {
    let kinds = What::value_variants().iter().filter_map(|what| {
        let value = what.to_possible_value()?;
        let help = value.get_help().cloned();
        Some((value.get_name().to_owned(), help))
    });
    let typed = current.to_string_lossy();
    let kinds = kinds.filter(|(name, _)| name.starts_with(&*typed));
    kinds.map(|(name, help)| CompletionCandidate::new(name).help(help)).chain(resources(current)).collect()
}

/// Names of resources.
pub(super) fn resources(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    starting_with(names(), &typed).map(CompletionCandidate::new).collect()
}

/// What is a file or the name of a resource.
pub(super) fn paths_and_resources(current: &OsStr) -> Vec<CompletionCandidate> {
    use clap_complete::engine::ValueCompleter as _;
    let paths = clap_complete::engine::PathCompleter::any().complete(current);
    paths.into_iter().chain(resources(current)).collect()
}

/// One of a few words.
pub(super) fn words(words: &'static [&'static str]) -> ArgValueCandidates {
    ArgValueCandidates::new(|| words.iter().map(CompletionCandidate::new).collect())
}

/// How `ofop get` prints.
pub(super) fn get_formats() -> Vec<CompletionCandidate> {
    FORMATS.into_iter().chain(["custom-columns="]).map(CompletionCandidate::new).collect()
}

fn starting_with(names: Vec<String>, typed: &str) -> impl Iterator<Item = String> {
    names.into_iter().filter(move |name| name.starts_with(typed)).take(MOST)
}

fn names() -> Vec<String> {
    let words = places(std::env::args_os());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, find(words)).await });
    runtime.shutdown_background();
    found.ok().and_then(Result::ok).unwrap_or_default()
}

async fn find(words: Vec<OsString>) -> Result<Vec<String>, CliError> {
    // Fails only if there is a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Ok(cli) = Cli::parse_words(words) else { return Ok(Vec::new()) };
    let context = Context::new(&cli, Output::new(args::ColorWhen::Never, true))?;
    if let Ok(Some(answer)) = Client::new(&context)?.find("/api/v1/resources").await {
        let status: Option<Status> = serde_json::from_value(answer).ok();
        let ids = status.into_iter().flat_map(|status| status.resources).map(|resource| resource.id.to_string());
        return Ok(ids.collect());
    }
    let manifests = manifests::read(&context, &[]).await?;
    Ok(manifests.desired.resources.keys().map(ToString::to_string).collect())
}

/// A command with those words of the line that say where to look.
fn places(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["ofop".into(), "get".into()];
    // The shell's line follows `--`.
    let mut line = line.into_iter().skip_while(|word| word != "--").skip(1);
    while let Some(word) = line.next() {
        let Some(text) = word.to_str() else { continue };
        if PLACES.contains(&text) {
            let Some(value) = line.next() else { break };
            words.extend([word, value]);
        } else if text.split_once('=').is_some_and(|(name, _)| PLACES.contains(&name)) {
            words.push(word);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_where_to_look_is_taken_from_the_line() {
        let line =
            ["ofop", "--", "ofop", "describe", "--address", "10.0.0.7:8420", "--desired=d", "-o", "json", "app/"];
        let words = places(line.into_iter().map(OsString::from));
        assert_eq!(words, ["ofop", "get", "--address", "10.0.0.7:8420", "--desired=d"].map(OsString::from));
        assert_eq!(places(["ofop", "--", "ofop", "--desired"].into_iter().map(OsString::from)).len(), 2);
    }

    #[test]
    fn names_are_offered_by_what_is_typed() {
        let names = || vec!["app/A".to_owned(), "app/B".to_owned(), "device/C".to_owned()];
        let offered = |typed| starting_with(names(), typed).collect::<Vec<_>>();
        assert_eq!(offered("app/"), ["app/A", "app/B"]);
        assert_eq!(offered("").len(), 3);
        assert!(offered("x").is_empty());
    }
}
