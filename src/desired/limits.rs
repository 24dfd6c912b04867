//! How much one source may hold. More is an accident: a folder too high up, a generator gone wild.

/// What to do about a source that holds more.
pub(super) const TOO_MUCH: &str = "point to the folder that holds only the manifests, or split them between operators";

/// How much one source may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Manifest files.
    pub files: usize,
    /// Bytes of text in them.
    pub bytes: u64,
    /// Entries of folders that are looked at, manifests or not: a root such as `/` has millions, and a commit may
    /// have the same folder many times over.
    pub entries: usize,
}

impl Default for Limits {
    /// Ten times what a very large plant has, and what fits into the memory of a small machine.
    fn default() -> Self {
        Limits { files: 100_000, bytes: 256 * 1024 * 1024, entries: 1_000_000 }
    }
}

impl Limits {
    /// What there is too much of.
    pub(super) fn exceeded_by(&self, files: usize, bytes: u64) -> Option<String> {
        if files > self.files {
            return Some(format!("more than {} manifests", self.files));
        }
        (bytes > self.bytes).then(|| format!("more than {} MiB of manifests", self.bytes / 1024 / 1024))
    }

    /// The same of entries.
    pub(super) fn exceeded_by_entries(&self, entries: usize) -> Option<String> {
        (entries > self.entries).then(|| format!("more than {} files and folders", self.entries))
    }
}
