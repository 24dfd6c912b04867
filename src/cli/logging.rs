//! Log lines: to standard error, as text for people or one JSON object a line.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use super::output::Output;
use crate::config::LogFormat;
use crate::model::HiddenValues;

/// How much is logged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    /// The daemon says what it does; other commands only what is wrong, since they print what they do.
    pub(super) daemon: bool,
    /// Number of `-v`.
    pub(super) verbose: u8,
    /// `-q`.
    pub(super) quiet: bool,
}

/// Sets logging up for the process. `RUST_LOG` overrules the level. Does nothing the second time.
pub(super) fn set_up(format: LogFormat, level: Level, output: &Output) {
    let words = match (level.quiet, level.verbose, level.daemon) {
        (true, _, _) => "error",
        (false, 0, true) => "warn,ofop=info",
        (false, 0, false) => "error",
        (false, 1, true) => "info,ofop=debug",
        (false, 1, false) => "warn,ofop=info",
        (false, _, _) => "debug,ofop=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(words));
    let hidden = output.hidden;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || Masked(hidden));
    let result = match format {
        LogFormat::Text => builder.with_ansi(output.error_paint.on).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    // Only a second call fails, and then the first one stands.
    let _ = result;
}

/// Standard error without what no output may show. A line of the log comes in one piece.
struct Masked(&'static HiddenValues);

impl Write for Masked {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        io::stderr().lock().write_all(self.0.mask(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
