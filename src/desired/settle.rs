//! When a change may be believed.
//!
//! Editors, `cp`, `git checkout` and network copies write a file in several steps, or move it away before
//! they write it anew. A reader in between sees half of it, or nothing, and both can be valid: the first half
//! of a list of apps is a list of fewer apps. So a change counts once it was read twice, unchanged, some time
//! apart; what takes text away has to last longer than what adds some. Until then the file stays as it was.
//!
//! Pure: the time is a value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::file::Reading;

/// How long changes have to last.
#[derive(Debug, Clone, Copy)]
pub struct Settle {
    /// A new or changed file; zero to believe everything at once.
    pub change: Duration,
    /// A file that vanished or became shorter.
    pub shrink: Duration,
    /// A file that changes all the time is refused after this long.
    pub restless: Duration,
}

impl Settle {
    /// For a daemon. A tenth of a second is more than an editor needs between two writes; a second is more
    /// than it leaves a file away, and than a checkout needs between taking files away and writing them.
    pub const WATCHING: Settle =
        Settle { change: Duration::from_millis(100), shrink: Duration::from_secs(1), restless: Duration::from_secs(5) };

    /// For a command that a person calls when the files are as they should be.
    pub const AT_ONCE: Settle =
        Settle { change: Duration::ZERO, shrink: Duration::ZERO, restless: Duration::from_secs(5) };
}

/// Files as they last were believed, and the changes that still have to last.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    accepted: Arc<BTreeMap<Arc<str>, Reading>>,
    pending: BTreeMap<Arc<str>, Pending>,
}

/// A change that has to last.
#[derive(Debug)]
struct Pending {
    /// What was read; none when the file is gone.
    seen: Option<Reading>,
    /// Since when it was read like that.
    since: Instant,
    /// Since when the file differs from what is believed.
    first: Instant,
}

impl Settling {
    /// The files as they are believed to be.
    pub(crate) fn accepted(&self) -> &Arc<BTreeMap<Arc<str>, Reading>> {
        &self.accepted
    }

    /// Whether a change of this file is being watched, so that a look at its signature is not enough.
    pub(crate) fn is_pending(&self, name: &str) -> bool {
        self.pending.contains_key(name)
    }

    /// Names of changes that are being watched.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pending.keys()
    }

    /// Takes in all files at once: what is not in `found` is gone. Answers whether anything that is believed
    /// changed.
    pub(crate) fn see_all(&mut self, mut found: BTreeMap<Arc<str>, Reading>, now: Instant, settle: &Settle) -> bool {
        let mut gone: Vec<Arc<str>> = self.accepted.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        gone.extend(self.pending.keys().filter(|name| !found.contains_key(*name)).cloned());
        let mut changed = false;
        for name in gone {
            changed |= self.see(name, None, now, settle);
        }
        while let Some((name, reading)) = found.pop_first() {
            changed |= self.see(name, Some(reading), now, settle);
        }
        changed
    }

    /// Takes in one file. Answers whether what is believed of it changed.
    pub(crate) fn see(&mut self, name: Arc<str>, seen: Option<Reading>, now: Instant, settle: &Settle) -> bool {
        let known = self.accepted.get(&name);
        if known.map(|known| known.digest) == seen.as_ref().map(|seen| seen.digest) {
            self.pending.remove(&name);
            let renewed = known.map(|known| known.signature) != seen.as_ref().map(|seen| seen.signature);
            if renewed {
                self.accept(name, seen);
            }
            return false;
        }
        let wait = wait(known, seen.as_ref(), settle);
        let pending = self.pending.remove(&name);
        let first = pending.as_ref().map_or(now, |pending| pending.first);
        let since = match &pending {
            Some(pending) if same(pending.seen.as_ref(), seen.as_ref()) => pending.since,
            Some(_) | None => now,
        };
        if now.duration_since(since) >= wait {
            self.accept(name, seen);
            return true;
        }
        let restless = since == now && now.duration_since(first) >= settle.restless;
        self.pending.insert(name.clone(), Pending { seen, since, first });
        if !restless {
            return false;
        }
        let reading = Reading::refused(None, "keeps changing; it counts once it stays the same for a moment");
        let news = self.accepted.get(&name).is_none_or(|known| known.digest != reading.digest);
        if news {
            self.accept(name, Some(reading));
        }
        news
    }

    /// When the next change may have lasted long enough.
    pub(crate) fn next(&self, settle: &Settle) -> Option<Instant> {
        let due = |(name, pending): (&Arc<str>, &Pending)| {
            pending.since + wait(self.accepted.get(name), pending.seen.as_ref(), settle)
        };
        self.pending.iter().map(due).min()
    }

    fn accept(&mut self, name: Arc<str>, seen: Option<Reading>) {
        let accepted = Arc::make_mut(&mut self.accepted);
        match seen {
            Some(reading) => accepted.insert(name, reading),
            None => accepted.remove(&name),
        };
    }
}

fn wait(known: Option<&Reading>, seen: Option<&Reading>, settle: &Settle) -> Duration {
    let shrinks = match (known, seen) {
        (Some(_), None) => true,
        (Some(known), Some(seen)) => seen.content.is_ok() && seen.len() < known.len(),
        (None, _) => false,
    };
    if shrinks { settle.shrink } else { settle.change }
}

fn same(one: Option<&Reading>, other: Option<&Reading>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.digest == other.digest && one.signature == other.signature,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Settle = Settle::WATCHING;

    /// A file whose text is told from another one's; its signature does not matter here.
    fn file(text: &str) -> Reading {
        let mut reading = Reading::refused(None, text);
        reading.content = Ok(text.into());
        reading
    }

    struct Story {
        settling: Settling,
        now: Instant,
    }

    impl Story {
        fn beginning_with(text: &str) -> Self {
            let mut story = Story { settling: Settling::default(), now: Instant::now() };
            story.settling.see("f".into(), Some(file(text)), story.now, &Settle::AT_ONCE);
            story
        }

        fn after(&mut self, millis: u64, text: Option<&str>) -> Option<String> {
            self.now += Duration::from_millis(millis);
            self.settling.see("f".into(), text.map(file), self.now, &SETTLE);
            self.settling.accepted().get("f").map(|reading| match &reading.content {
                Ok(text) => text.to_string(),
                Err(reason) => format!("refused: {reason}"),
            })
        }
    }

    #[test]
    fn a_change_counts_once_it_was_read_twice_some_time_apart() {
        let mut story = Story::beginning_with("one");
        assert_eq!(story.after(0, Some("three")).as_deref(), Some("one"));
        assert_eq!(story.settling.next(&SETTLE), Some(story.now + SETTLE.change));
        assert_eq!(story.after(99, Some("three")).as_deref(), Some("one"));
        assert_eq!(story.after(1, Some("three")).as_deref(), Some("three"));
        assert_eq!(story.settling.next(&SETTLE), None);
    }

    #[test]
    fn half_a_file_never_counts_while_the_other_half_follows() {
        let mut story = Story::beginning_with("a long list");
        assert_eq!(story.after(0, Some("")).as_deref(), Some("a long list"));
        assert_eq!(story.after(500, Some("a long")).as_deref(), Some("a long list"));
        assert_eq!(story.after(900, Some("a long list and more")).as_deref(), Some("a long list"));
        assert_eq!(story.after(100, Some("a long list and more")).as_deref(), Some("a long list and more"));
    }

    #[test]
    fn a_file_that_is_moved_away_and_written_anew_was_never_gone() {
        let mut story = Story::beginning_with("one");
        assert_eq!(story.after(0, None).as_deref(), Some("one"));
        assert_eq!(story.after(999, Some("two")).as_deref(), Some("one"));
        assert_eq!(story.after(100, Some("two")).as_deref(), Some("two"));
        assert_eq!(story.after(0, None).as_deref(), Some("two"));
        assert_eq!(story.after(1000, None), None);
    }

    #[test]
    fn a_file_that_changes_all_the_time_is_refused_until_it_is_quiet() {
        let mut story = Story::beginning_with("one");
        for round in 0..51 {
            story.after(99, Some(&format!("text {round}")));
        }
        assert!(story.after(99, Some("still")).unwrap().starts_with("refused: keeps changing"));
        assert_eq!(story.after(100, Some("still")).as_deref(), Some("still"));
    }

    #[test]
    fn going_back_to_what_is_believed_is_no_change() {
        let mut story = Story::beginning_with("one");
        story.after(0, Some("two"));
        story.after(50, Some("one"));
        assert_eq!(story.settling.next(&SETTLE), None);
    }
}
