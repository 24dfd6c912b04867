//! Files with a secret: read only where others can neither read nor change them, as ssh does with its keys. Secrets of Swarm,
//! which the engine mounts into the container, are read as the engine made them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;

use super::{ConfigError, From};

/// What a file with a secret may not allow: others to read or write it, or its group to write it. A group that may read
/// is a common way to let a service's account do so.
const EXPOSED: u32 = 0o026;

/// What a secret that the engine put into a container may not allow: Docker's own mode for it is 0444 (`docker service
/// create --secret`), and those who read it there are the processes of that container alone.
const EXPOSED_IN_CONTAINER: u32 = 0o022;

/// Where the engine puts the secrets of a container.
const CONTAINER_SECRETS: &str = "/run/secrets";

/// The type of a file system in memory (`TMPFS_MAGIC` of linux/magic.h).
const TMPFS: u64 = 0x0102_1994;

/// What decides whether a file may hold a secret.
#[derive(Debug, Clone, Copy)]
struct Seen {
    mode: u32,
    /// It belongs to root.
    roots: bool,
    /// It lies where the engine puts secrets, in memory. A file of the host that Compose mounts there does not.
    engines: bool,
}

impl Seen {
    fn of(path: &Path, file: &File, metadata: &Metadata) -> io::Result<Self> {
        let in_memory = || u64::try_from(fstatfs(file)?.f_type).map(|kind| kind == TMPFS).map_err(io::Error::other);
        let engines = fs::canonicalize(path)?.starts_with(CONTAINER_SECRETS) && in_memory()?;
        Ok(Seen { mode: metadata.mode() & 0o7777, roots: metadata.uid() == 0, engines })
    }

    fn is_exposed(self) -> bool {
        let forbidden = if self.engines && self.roots { EXPOSED_IN_CONTAINER } else { EXPOSED };
        self.mode & forbidden != 0
    }
}

/// The text of a file that `from` names. What is no plain file, such as a pipe of the shell, has no mode that says anything.
///
/// # Errors
/// When it cannot be read, or when others may.
pub(super) fn read(from: &From, path: &Path) -> Result<String, ConfigError> {
    let text = || -> io::Result<(String, Option<u32>)> {
        // The file that is looked at is the one that is read, whatever happens to its name.
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let seen = if metadata.is_file() { Some(Seen::of(path, &file, &metadata)?) } else { None };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok((text, seen.filter(|seen| seen.is_exposed()).map(|seen| seen.mode)))
    };
    match text() {
        Ok((text, None)) => Ok(text),
        Ok((_, Some(mode))) => Err(ConfigError::Exposed { from: from.clone(), path: PathBuf::from(path), mode }),
        Err(source) => Err(ConfigError::File { from: from.clone(), path: PathBuf::from(path), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_may_read_or_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "sentinel").unwrap();
        let from = From::Environment("OFOP_TOKEN_FILE");
        for (mode, fine) in [
            (0o400, true),
            (0o600, true),
            (0o640, true),
            (0o700, true),
            (0o604, false),
            (0o644, false),
            (0o602, false),
            (0o620, false),
            (0o666, false),
        ] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read(&from, &path) {
                Ok(text) => assert!(fine && text == "sentinel", "{mode:o}"),
                Err(error) => {
                    let shown = format!("{error} {}", error.hint());
                    assert!(!fine && shown.contains(&format!("{mode:04o}")) && shown.contains("chmod 600"), "{shown}");
                    assert!(shown.contains("OFOP_TOKEN_FILE") && !shown.contains("sentinel"), "{shown}");
                }
            }
        }
    }

    #[test]
    fn what_the_engine_put_into_a_container_may_be_read_there() {
        for (mode, elsewhere, in_container) in [
            (0o400, true, true),
            (0o444, false, true),
            (0o440, true, true),
            (0o644, false, true),
            (0o464, false, false),
            (0o446, false, false),
            (0o666, false, false),
        ] {
            let fine = |roots, engines| !Seen { mode, roots, engines }.is_exposed();
            assert_eq!(fine(true, true), in_container, "{mode:o}");
            for (roots, engines) in [(true, false), (false, true), (false, false)] {
                assert_eq!(fine(roots, engines), elsewhere, "{mode:o} {roots} {engines}");
            }
        }
    }
}
