//! Asks a person on the terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::CliError;

/// Whether there is somebody to ask.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks, and whether the answer is yes.
///
/// # Errors
/// When there is nobody to ask; it says what `needs` a confirmation, and the `hint` how to give one.
pub(super) fn asked(question: &str, needs: &str, hint: &str) -> Result<bool, CliError> {
    if !can_ask() {
        return Err(CliError::usage(format!("{needs}, and there is no terminal to ask on"), hint));
    }
    let mut error = std::io::stderr().lock();
    // a standard error that is gone shows no question; the answer counts all the same
    let _ = write!(error, "{question} [y/N] ").and_then(|()| error.flush());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
