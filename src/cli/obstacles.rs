//! What keeps resources from where they should be, as every command that waits says it.

use std::collections::BTreeMap;

use super::output::Output;
use crate::model::{Block, BlockKind, ResourceId};

/// How many resources one line names.
const NAMED: usize = 5;

/// One error for each obstacle, with what to do; resources with the same one share it.
pub(super) fn blocked(output: &Output, blocked: &BTreeMap<ResourceId, Block>) {
    for (error, hint) in lines(blocked) {
        output.error(&error, Some(hint));
    }
}

fn lines(blocked: &BTreeMap<ResourceId, Block>) -> Vec<(String, &str)> {
    let mut same: BTreeMap<(BlockKind, &str, &str), Vec<String>> = BTreeMap::new();
    for (id, block) in blocked {
        same.entry((block.kind, &block.message, &block.hint)).or_default().push(id.to_string());
    }
    same.into_iter().map(|((_, message, hint), ids)| (format!("{}: {message}", some(&ids)), hint)).collect()
}

/// What was still on its way, each with what it waited for: errors when the time was over, else no more than notes.
pub(super) fn unfinished(output: &Output, unfinished: &BTreeMap<ResourceId, String>, timed_out: bool) {
    for (id, why) in unfinished.iter().take(NAMED) {
        if timed_out {
            let hint = format!("`ofop describe {id}` shows what it waits for; --timeout gives it longer");
            output.error(&format!("{id}: not done within the time: {why}"), Some(&hint));
        } else {
            output.note(&format!("{id} is still on its way: {why}"));
        }
    }
    if unfinished.len() > NAMED {
        output.note(&format!("and {} more", unfinished.len() - NAMED));
    }
}

/// The first few, and how many more.
pub(super) fn some(all: &[String]) -> String {
    let first = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED { format!("{first} and {} more", all.len() - NAMED) } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_with_the_same_obstacle_share_a_line() {
        let block = |kind: BlockKind, id: &str, message: &str| {
            let id: ResourceId = id.parse().unwrap();
            (id.clone(), Block::new(kind, &id, message.to_owned()))
        };
        let held = (0..7).map(|n| block(BlockKind::HeldForConfirmation, &format!("app/{n}"), "7 of 7"));
        let all: BTreeMap<_, _> = held.chain([block(BlockKind::ImageMissing, "app/X", "no image")]).collect();
        let said = lines(&all);
        let errors: Vec<&str> = said.iter().map(|(error, _)| error.as_str()).collect();
        assert_eq!(errors, ["app/X: no image", "app/0, app/1, app/2, app/3, app/4 and 2 more: 7 of 7"]);
        assert!(said.iter().all(|(_, hint)| !hint.is_empty()));
    }
}
