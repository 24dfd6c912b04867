//! Files with a secret: read only where others can neither read nor change them, as ssh does with its keys.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{ConfigError, From};

/// What a file with a secret may not allow: others to read or write it, or its group to write it. A group that may read
/// is a common way to let a service's account do so.
const EXPOSED: u32 = 0o026;

/// The text of a file that `from` names. What is no plain file, such as a pipe of the shell, has no mode that says anything.
///
/// # Errors
/// When it cannot be read, or when others may.
pub(super) fn read(from: &From, path: &Path) -> Result<String, ConfigError> {
    let text = || -> std::io::Result<(String, Option<u32>)> {
        // The file that is looked at is the one that is read, whatever happens to its name.
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mode = metadata.permissions().mode() & 0o7777;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok((text, (metadata.is_file() && mode & EXPOSED != 0).then_some(mode)))
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
}
