//! Where manifests come from, in words for people.

use std::sync::Arc;

use super::output::Output;
use crate::model::{Desired, Problem, SourceKind, SourceTrouble};
use crate::report::SourceStatus;
use crate::report::source::CommitStatus;

/// The source on one line: what it is, where, and the commit in force.
pub(super) fn line(source: &SourceStatus) -> String {
    let mut line = format!("{} {}", source.kind.map_or("source", SourceKind::as_str), source.location);
    for part in source.branch.iter().chain(Some(&source.path).filter(|path| !path.is_empty())) {
        line.push_str(", ");
        line.push_str(part);
    }
    if let Some(commit) = &source.commit {
        line.push_str(": ");
        line.push_str(&self::commit(commit));
    }
    line
}

/// A commit on one line.
pub(super) fn commit(commit: &CommitStatus) -> String {
    let time = commit.time.split_once('.').map_or(commit.time.clone(), |(time, _)| format!("{time}Z"));
    format!("commit {} \"{}\" by {}, {time}", commit.short, commit.subject, commit.author)
}

/// Says below a table where the manifests come from, if that is a repository, and what is wrong with it.
pub(super) fn note(source: &SourceStatus, output: &Output) {
    if source.kind == Some(SourceKind::Git) {
        output.note(&line(source));
    }
    if let (Some(trouble), Some(message)) = (&source.trouble, &source.part.message) {
        let word = output.error_paint.yellow("warning:");
        output.note(&format!("{word} the newest manifests are not in force ({}): {message}", trouble.reason.as_str()));
        if let Some(hint) = &trouble.hint {
            output.note(&format!("{} {hint}", output.error_paint.cyan("hint:")));
        }
    }
}

/// Says why these may not be the newest manifests, as an error; whether they may not.
pub(super) fn show_trouble(desired: &Desired, output: &Output) -> bool {
    let Some(trouble) = &desired.trouble else { return false };
    output.error(&not_the_newest(desired, trouble), trouble.hint.as_deref());
    true
}

/// The same as a problem of the place that they come from.
pub(super) fn as_problem(desired: &Desired, location: &Arc<str>) -> Option<Problem> {
    let trouble = desired.trouble.as_ref()?;
    let problem = Problem::file(Arc::clone(location), not_the_newest(desired, trouble));
    Some(Problem { hint: trouble.hint.clone(), ..problem })
}

fn not_the_newest(desired: &Desired, trouble: &SourceTrouble) -> String {
    let stays = desired.commit.as_ref().map(|commit| format!("; commit {} stays in force", commit.short()));
    format!("these are not the newest manifests: {trouble}{}", stays.unwrap_or_default())
}
