//! The words that every form of a plan for people shares.

use std::fmt::Write;

use crate::model::{Plan, PruneBlock, ResourcePlan, StepVerb, Sync};

/// How many steps of each verb, how many wait, and how many resources are in conflict: `2 to create`, `1 held`,
/// `1 conflict`; empty when nothing is to be done.
pub(super) fn counts<'a>(resources: impl IntoIterator<Item = &'a ResourcePlan>) -> Vec<String> {
    let resources: Vec<&ResourcePlan> = resources.into_iter().collect();
    let mut parts: Vec<String> = StepVerb::ALL
        .into_iter()
        .filter_map(|verb| {
            let steps = resources.iter().flat_map(|resource| &resource.steps);
            let count = steps.filter(|step| step.step.verb() == verb).count();
            (count > 0).then(|| format!("{count} to {verb}"))
        })
        .collect();
    let held: usize = resources.iter().map(|resource| resource.held.len()).sum();
    if held > 0 {
        parts.push(format!("{held} held"));
    }
    let conflicts = resources.iter().filter(|resource| resource.is_in_conflict()).count();
    if conflicts > 0 {
        parts.push(count_of(conflicts, "conflict"));
    }
    parts
}

/// How much of it all matches: `3 of 9 resources in sync`.
pub(super) fn in_sync(plan: &Plan) -> String {
    let count = |sync| plan.resources.values().filter(|resource| resource.sync == sync).count();
    let all = count_of(plan.resources.len(), "resource");
    let mut words = format!("{} of {all} in sync", count(Sync::Synced));
    let unknown = count(Sync::Unknown);
    if unknown > 0 {
        // Writing to memory does not fail.
        let _ = write!(words, ", {unknown} could not be read");
    }
    words
}

/// What to do about removals that wait.
pub(super) fn way_out(reason: &PruneBlock) -> &'static str {
    match reason {
        PruneBlock::Guard { .. } => {
            "If this is meant, confirm with `ofop reconcile --confirm-prune`, or `ofop apply --confirm-prune` where no daemon runs; if not, check that the manifests are there."
        }
        PruneBlock::InvalidManifests => "`ofop validate` shows what is wrong.",
        PruneBlock::SourceTrouble => "`ofop get` says what is wrong with their source.",
        PruneBlock::IncompleteObservation => "It goes on by itself once everything can be read.",
        PruneBlock::NoLongerManifest { .. } => "Restore the file, or delete it to remove what it described.",
        PruneBlock::Disabled => "They stay until they are removed by hand or pruning is switched on.",
    }
}

/// `1 resource`, `2 resources`.
pub(super) fn count_of(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Text from files and from the cluster, made harmless for a terminal and for a reader's eyes: control characters,
/// and those that show nothing or turn the direction of what follows, are written out.
pub(super) fn printable(text: &str) -> String {
    if !text.chars().any(is_unprintable) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_unprintable(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Cuts both values to `room` characters, around the first place where they differ.
pub(super) fn around_difference(from: &str, to: &str, room: usize) -> (String, String) {
    let same = from.chars().zip(to.chars()).take_while(|(left, right)| left == right).count();
    let skip = if same > room / 2 { same - room / 4 } else { 0 };
    let window = |text: &str| {
        let length = text.chars().count();
        let mut shown = String::new();
        let skip = if length > room { skip.min(length) } else { 0 };
        if skip > 0 {
            shown.push('…');
        }
        let rest = room - shown.chars().count();
        if length - skip > rest {
            shown.extend(text.chars().skip(skip).take(rest - 1));
            shown.push('…');
        } else {
            shown.extend(text.chars().skip(skip));
        }
        shown
    };
    (window(from), window(to))
}
