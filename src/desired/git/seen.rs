//! When this operator first saw a commit: its author's clock says whatever the author wants. Everything here blocks.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use git2::Oid;

/// How many commits are remembered: those of years. One that is forgotten counts as seen now, which refuses rather than
/// trusts.
const REMEMBERED: usize = 4_096;

/// A file of lines `COMMIT SECONDS`, beside the clone.
#[derive(Debug)]
pub(super) struct FirstSeen {
    path: PathBuf,
}

impl FirstSeen {
    /// Nothing is read yet.
    pub(super) fn at(path: PathBuf) -> Self {
        FirstSeen { path }
    }

    /// When each of these commits was first seen, in seconds since 1970; `now` for one that was not.
    pub(super) fn times(&self, commits: &[Oid], now: i64) -> Vec<i64> {
        let mut known = self.read();
        let before = known.len();
        // A time to come is none that this operator's clock gave.
        let times = commits.iter().map(|commit| (*known.entry(*commit).or_insert(now)).min(now)).collect();
        if known.len() > before
            && let Err(error) = self.write(known)
        {
            tracing::warn!(file = %self.path.display(), %error, "when commits were first seen cannot be noted");
        }
        times
    }

    /// A line that cannot be read is forgotten.
    fn read(&self) -> BTreeMap<Oid, i64> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let entry = |line: &str| {
            let (commit, seconds) = line.split_once(' ')?;
            Some((Oid::from_str(commit).ok().filter(|_| commit.len() == 40)?, seconds.parse().ok()?))
        };
        text.lines().filter_map(entry).collect()
    }

    fn write(&self, known: BTreeMap<Oid, i64>) -> io::Result<()> {
        let mut newest: Vec<(i64, Oid)> = known.into_iter().map(|(commit, seconds)| (seconds, commit)).collect();
        newest.sort_unstable_by(|one, other| other.cmp(one));
        newest.truncate(REMEMBERED);
        let text: String = newest.iter().map(|(seconds, commit)| format!("{commit} {seconds}\n")).collect();
        let fresh = self.path.with_extension(format!("seen-{}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(number: usize) -> Oid {
        Oid::from_str(&format!("{number:040x}")).unwrap()
    }

    #[test]
    fn the_first_time_counts_and_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clone.seen");
        assert_eq!(FirstSeen::at(path.clone()).times(&[commit(1)], 100), [100]);
        assert_eq!(FirstSeen::at(path.clone()).times(&[commit(2), commit(1)], 200), [200, 100]);
        assert_eq!(FirstSeen::at(path.clone()).times(&[commit(1), commit(2)], 50), [50, 50], "a clock that went back");
        assert_eq!(FirstSeen::at(path.clone()).times(&[commit(1)], 300), [100]);
        // What is damaged is seen anew.
        fs::write(&path, format!("nonsense\n{} never\n{} 7\n", commit(1), commit(2))).unwrap();
        assert_eq!(FirstSeen::at(path).times(&[commit(1), commit(2)], 400), [400, 7]);
        assert_eq!(FirstSeen::at("/nowhere/clone.seen".into()).times(&[commit(1)], 9), [9]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let seen = FirstSeen::at(folder.path().join("clone.seen"));
        for (number, now) in (0..3).zip(1..) {
            let from = number * 2_000;
            seen.times(&(from..from + 2_000).map(commit).collect::<Vec<_>>(), now);
        }
        assert_eq!(seen.read().len(), REMEMBERED);
        assert_eq!(seen.times(&[commit(5_999), commit(2_500), commit(0)], 9), [3, 2, 9]);
    }
}
