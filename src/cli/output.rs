//! Where a command writes: data to standard output, everything else to standard error.
//!
//! A reader that leaves early (`ofop get apps | head -1`) is no error: what comes after is dropped.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use super::args::ColorWhen;
use crate::model::text::cut;
use crate::model::{Health, HiddenValues, Sync};

/// Standard output is one for the process, and so is the reader that left it.
static READER_LEFT: AtomicBool = AtomicBool::new(false);

/// Columns of a terminal that does not say how many it has.
const NARROW: usize = 80;

/// Columns of a terminal: as `COLUMNS` says, else as the terminal does.
pub(super) fn columns(stream: impl rustix::fd::AsFd) -> usize {
    let said = rustix::termios::tcgetwinsize(stream).map(|size| size.ws_col).unwrap_or_default();
    columns_of(std::env::var("COLUMNS").ok().as_deref(), said)
}

fn columns_of(variable: Option<&str>, said: u16) -> usize {
    let variable = variable.and_then(|text| text.trim().parse().ok());
    variable.or(Some(usize::from(said))).filter(|columns| *columns > 0).unwrap_or(NARROW)
}

/// Rows of the terminal that standard output is.
pub(super) fn rows() -> usize {
    let said = rustix::termios::tcgetwinsize(io::stdout()).map(|size| size.ws_row).unwrap_or_default();
    if said == 0 { 24 } else { usize::from(said) }
}

/// Both streams and how they may look.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Colours on standard output.
    pub paint: Paint,
    /// Colours on standard error.
    pub error_paint: Paint,
    /// No notes, no progress.
    pub quiet: bool,
    /// More than usual.
    pub verbose: bool,
    /// Columns of the terminal that standard output is; none where it is no terminal, so that nothing is cut.
    pub width: Option<usize>,
    /// Columns of the terminal that standard error is.
    pub live_width: usize,
    /// Standard error is a terminal: lines may be redrawn.
    pub live: bool,
    /// What neither stream may show.
    pub hidden: &'static HiddenValues,
    /// A person asked to see it on standard output.
    pub reveal: bool,
}

impl Output {
    /// Decides once what each stream may show.
    pub fn new(color: ColorWhen, quiet: bool) -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Output {
            paint: Paint { on: color.decide(out) },
            error_paint: Paint { on: color.decide(err) },
            quiet,
            verbose: false,
            width: out.then(|| columns(io::stdout())),
            live_width: if err { columns(io::stderr()) } else { NARROW },
            hidden: Box::leak(Box::default()),
            reveal: false,
            live: err && !quiet && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }

    /// Writes data.
    ///
    /// # Errors
    /// When standard output fails for another reason than a reader that left.
    pub fn data(&self, text: &str) -> io::Result<()> {
        let text = if self.reveal { Cow::Borrowed(text) } else { self.hidden.mask(text) };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                READER_LEFT.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }

    /// Whether nobody reads standard output any more.
    pub fn reader_left(&self) -> bool {
        READER_LEFT.load(Ordering::Relaxed)
    }

    /// Writes data and a line end.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub fn data_line(&self, text: &str) -> io::Result<()> {
        self.data(&format!("{text}\n"))
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub fn json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.data_line(&serde_json::to_string_pretty(value)?)
    }

    /// Writes a line for a person, unless told to be quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.write_error(text);
        }
    }

    /// The same with secrets in data, where a person asked for them.
    #[must_use]
    pub fn revealing(self, reveal: bool) -> Self {
        Output { reveal, ..self }
    }

    /// Replaces the live line at the bottom of the terminal, cut to its width; an empty text takes it away. Does nothing
    /// where there is no terminal.
    pub fn live_line(&self, text: &str) {
        if self.live {
            let text = self.hidden.mask(text);
            let _ = write!(io::stderr().lock(), "\r\u{1b}[K{}", cut(&text, self.live_width.saturating_sub(1)));
        }
    }

    /// Writes what went wrong and what to do about it; never kept quiet.
    pub fn error(&self, message: &str, hint: Option<&str>) {
        let paint = self.error_paint;
        self.write_error(&format!("{} {message}", paint.red_bold("error:")));
        if let Some(hint) = hint {
            self.write_error(&format!("{} {hint}", paint.cyan("hint:")));
        }
    }

    /// A standard error that is gone is nobody's business.
    fn write_error(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", self.hidden.mask(text));
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    /// Whether to colour.
    pub on: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Bold.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Faint.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Red.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Red and bold.
    pub fn red_bold(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// Green.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Yellow.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Cyan.
    pub fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// Does it match: green, yellow, red.
    pub fn sync(self, sync: Sync) -> String {
        match sync {
            Sync::Synced => self.green(sync.as_str()),
            Sync::OutOfSync => self.yellow(sync.as_str()),
            Sync::Unknown => self.red(sync.as_str()),
        }
    }

    /// Does it run: green, yellow, red.
    pub fn health(self, health: Health) -> String {
        match health {
            Health::Healthy => self.green(health.as_str()),
            Health::Progressing | Health::Waiting | Health::Suspended => self.yellow(health.as_str()),
            Health::Degraded | Health::RolledBack | Health::Unknown => self.red(health.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_what_the_variable_or_the_terminal_says() {
        for (variable, said, columns) in [
            (None, 160, 160),
            (Some("120"), 160, 120),
            (Some("wide"), 160, 160),
            (Some("0"), 160, NARROW),
            (None, 0, NARROW),
        ] {
            assert_eq!(columns_of(variable, said), columns, "{variable:?} {said}");
        }
    }
}
