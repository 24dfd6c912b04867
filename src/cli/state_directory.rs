//! The form of the state directory: what is older than whatever wrote it must not touch it.

use std::io::ErrorKind;
use std::path::Path;

use super::CliError;

/// The form that this program reads and writes. Whatever an older program would misread, or spoil, gets the next number, and
/// the program that writes it says so in [`FILE`]. Files with a version of their own (databases) do not count.
const FORMAT: u32 = 1;

/// Name of the file that says the form. Without it, it is 1.
const FILE: &str = "format";

/// Refuses a state directory of a newer program.
///
/// # Errors
/// When it is one, or says what no program wrote.
pub(super) fn check(directory: &Path) -> Result<(), CliError> {
    let path = directory.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // Whatever keeps us from reading keeps those who need the directory too, who can say more of it.
        Err(error) if error.kind() != ErrorKind::InvalidData => return Ok(()),
        Err(_) => String::new(),
    };
    match text.trim().parse::<u32>() {
        Ok(1..=FORMAT) => Ok(()),
        Ok(format) => Err(CliError::usage(
            format!(
                "the state directory `{}` is of a newer ofop (format {format}; this one knows {FORMAT})",
                directory.display()
            ),
            "update this ofop, or name another directory with --state-dir",
        )),
        Err(_) => Err(CliError::usage(
            format!("`{}` does not say which form the state directory has", path.display()),
            "it holds a number; put back what ofop wrote, or name another directory with --state-dir",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_a_newer_program_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path()).is_ok() && check(Path::new("/nowhere")).is_ok());
        for (text, part) in
            [("1\n", ""), ("2\n", "is of a newer ofop (format 2; this one knows 1)"), ("x", "does not say")]
        {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let said = check(folder.path()).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(part) && said.is_empty() == part.is_empty(), "{said}");
        }
    }
}
