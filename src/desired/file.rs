//! Reading one text file without trusting it: bounded in size, never blocking on something that is not a
//! file, never half of a write that is going on.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::kind;

/// The largest file that is read, in bytes: a manifest is some kilobytes, a device model rarely more than a
/// hundred, and a Swarm service takes less than this in all.
pub(crate) const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// How often a file that changes under the reader's hands is tried again within one read.
const TRIES: usize = 3;

/// What tells whether a file may have changed, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Signature {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether equal signatures may hide two contents: file systems that count whole seconds only.
    fn is_coarse(&self) -> bool {
        self.modified.1 == 0 && self.changed.1 == 0
    }
}

/// What was found at a path where there is something.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Of the file that was read; none when it could not be opened.
    pub(crate) signature: Option<Signature>,
    /// The text, or a sentence that says why there is none.
    pub(crate) content: Result<Arc<str>, String>,
    /// Hash of the content, or of the sentence.
    pub(crate) digest: [u8; 32],
}

impl Reading {
    fn text(signature: Signature, text: String) -> Self {
        let digest = Sha256::digest(text.as_bytes()).into();
        Reading { signature: Some(signature), content: Ok(text.into()), digest }
    }

    /// Something that is there and cannot be read.
    pub(crate) fn refused(signature: Option<Signature>, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let mut hash = Sha256::new();
        // No text begins with this byte, so that no file can pass for a refused one.
        hash.update([0xff]);
        hash.update(reason.as_bytes());
        Reading { signature, content: Err(reason), digest: hash.finalize().into() }
    }

    /// Whether the file there is the one that was read, going by its signature.
    pub(crate) fn is_still(&self, path: &Path) -> bool {
        let now = std::fs::metadata(path).ok().map(|metadata| Signature::of(&metadata));
        now.is_some_and(|now| self.has(now))
    }

    /// Whether this was read from a file with this signature, which hides no other content.
    pub(crate) fn has(&self, signature: Signature) -> bool {
        self.signature == Some(signature) && !signature.is_coarse()
    }

    /// Bytes of text; 0 for a refused file.
    pub(crate) fn len(&self) -> usize {
        self.content.as_ref().map_or(0, |text| text.len())
    }
}

/// Reads a file of at most [`MAX_FILE_BYTES`]; none when there is nothing at that path.
///
/// Symlinks are followed: whoever confines them resolves the path before.
pub(crate) fn read(path: &Path) -> Option<Reading> {
    for _ in 0..TRIES {
        match read_once(path) {
            Ok(Some(reading)) => return Some(reading),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Reading::refused(None, cannot_read(&error))),
        }
    }
    Some(Reading::refused(None, "is being changed while it is read"))
}

/// One try; `None` when the file changed in the meantime.
fn read_once(path: &Path) -> io::Result<Option<Reading>> {
    // O_NONBLOCK, because opening a FIFO waits for a writer otherwise. It means nothing to a file.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let before = file.metadata()?;
    let signature = Signature::of(&before);
    if let Some(reason) = refusal(&before) {
        return Ok(Some(Reading::refused(Some(signature), reason)));
    }
    let bytes = read_bounded(&file, before.len())?;
    if Signature::of(&file.metadata()?) != signature || bytes.len() as u64 != before.len() {
        return Ok(None);
    }
    Ok(Some(match String::from_utf8(bytes) {
        Ok(text) => match kind::stand_in(&text) {
            Some(reason) => Reading::refused(Some(signature), reason),
            None => Reading::text(signature, text),
        },
        Err(error) => Reading::refused(Some(signature), not_utf8(error.as_bytes())),
    }))
}

fn read_bounded(file: &File, expected: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0).saturating_add(1));
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why something is not read at all, going by what it is.
fn refusal(metadata: &Metadata) -> Option<String> {
    let kind = metadata.file_type();
    if kind.is_file() {
        let size = metadata.len();
        return (size > MAX_FILE_BYTES)
            .then(|| format!("is {size} bytes long; at most {MAX_FILE_BYTES} (1 MiB) are read"));
    }
    let what = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    };
    Some(format!("is not a file but {what}"))
}

/// The reason with the place of the first byte that is wrong.
pub(crate) fn not_utf8(bytes: &[u8]) -> String {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return "is UTF-16; save it as UTF-8".to_owned();
    }
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let good = String::from_utf8_lossy(&bytes[..valid]);
    let line = good.matches('\n').count() + 1;
    let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let byte = bytes.get(valid).copied().unwrap_or_default();
    format!("is not UTF-8: byte 0x{byte:02x} at line {line}, column {column}")
}

/// `cannot be read: Permission denied`.
pub(crate) fn cannot_read(error: &io::Error) -> String {
    format!("cannot be read: {}", io_reason(error))
}

/// An error of the operating system without its number.
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, bytes).unwrap();
        read(&path).unwrap().content.unwrap_err()
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_named_with_its_place() {
        assert_eq!(refused(b"a: b\nc: \xc3\xa4\xff"), "is not UTF-8: byte 0xff at line 2, column 5");
        assert_eq!(refused(b"\xff\xfea\0"), "is UTF-16; save it as UTF-8");
    }

    #[test]
    fn size_limit_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, vec![b'a'; 1024 * 1024]).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1024 * 1024);
        std::fs::write(&path, vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(
            read(&path).unwrap().content.unwrap_err(),
            "is 1048577 bytes long; at most 1048576 (1 MiB) are read"
        );
    }

    #[test]
    fn what_is_not_there_is_told_from_what_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("none")).is_none());
        let looped = dir.path().join("loop");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        assert_eq!(read(&looped).unwrap().content.unwrap_err(), "cannot be read: Too many levels of symbolic links");
        assert_eq!(read(dir.path()).unwrap().content.unwrap_err(), "is not a file but a folder");
    }

    #[test]
    fn a_refused_file_never_has_the_digest_of_a_text() {
        let reason = "is not a file but a folder";
        let signature = Signature { device: 0, inode: 0, size: 0, modified: (0, 0), changed: (0, 0) };
        assert_ne!(Reading::refused(None, reason).digest, Reading::text(signature, reason.into()).digest);
    }
}
