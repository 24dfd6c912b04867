//! `ofop suspend` and `ofop freeze`: what they hold back, until when, and why.

use clap::Args;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

use super::CliError;
use super::client::DaemonArgs;
use super::control::NamedArgs;
use super::output::Output;
use crate::clock::{Clock as _, SystemClock, timestamp};
use crate::model::hold::{LONGEST_REASON, LONGEST_TERM, seconds};
use crate::model::{Command, Term};
use crate::report::Status;

pub(super) const SUSPEND_EXAMPLES: &str = "\
Examples:
  ofop suspend app/PRESS-7
  ofop suspend app/PRESS-7 --for 2h --reason \"shift change\"
  ofop suspend --all                      no change to the cluster until `ofop resume --all`
  ofop suspend --all --until 06:00        ends by itself

Said again, it holds for as long as was said last. It survives a restart of the daemon, and goes by the clock on the
wall: one that jumps ends it early or late by the jump.";

pub(super) const FREEZE_EXAMPLES: &str = "\
Examples:
  ofop freeze --for 8h --reason \"audit\"
  ofop freeze --until 2026-12-27T06:00
  ofop freeze --end

Changes that come from manifests wait, of everything: creations, updates, removals. Repairs go on, unlike with
`ofop suspend --all`, and so does what a person asks for by name. A freeze has an end, unless --no-end says that somebody will end it.";

/// How long it holds, and why.
#[derive(Debug, Args)]
pub struct TermArgs {
    /// How long, by this machine's clock: 45m, 2h, 1d12h; it ends by itself
    #[arg(long = "for", value_name = "LENGTH", value_parser = length, conflicts_with = "until")]
    pub length: Option<i64>,
    /// Until when: 06:00 (the next one, local time), 2026-12-27T06:00 (local time), or with an offset or `Z`
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Why, for whoever looks
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
}

/// `suspend`.
#[derive(Debug, Args)]
pub struct SuspendArgs {
    /// What is left alone.
    #[command(flatten)]
    pub named: NamedArgs,
    /// For how long.
    #[command(flatten)]
    pub term: TermArgs,
}

/// `freeze`.
#[derive(Debug, Args)]
pub struct FreezeArgs {
    /// For how long.
    #[command(flatten)]
    pub term: TermArgs,
    /// It ends when somebody ends it
    #[arg(long, conflicts_with_all = ["length", "until"])]
    pub no_end: bool,
    /// End the freeze that holds
    #[arg(long, conflicts_with_all = ["length", "until", "no_end", "reason"])]
    pub end: bool,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

fn length(text: &str) -> Result<i64, String> {
    match seconds(text) {
        Some(seconds) if seconds > 0 && seconds <= LONGEST_TERM => Ok(seconds),
        Some(_) => Err("it lasts a second or longer, and a year at most".into()),
        None => Err("write a length with its unit: 45m, 2h, 1d12h".into()),
    }
}

fn reason(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=LONGEST_REASON => Ok(text.to_owned()),
        _ => Err(format!("a reason has {LONGEST_REASON} characters at most")),
    }
}

impl TermArgs {
    fn term(&self) -> Result<Term, CliError> {
        let now = timestamp(SystemClock::new().wall()).to_zoned_datetime(TimeZone::system());
        let end = match (&self.length, &self.until) {
            (Some(seconds), _) => now.checked_add(SignedDuration::from_secs(*seconds)).ok().map(|end| end.timestamp()),
            (None, Some(text)) => Some(moment(text, &now)?),
            (None, None) => None,
        };
        Ok(Term::new(end, self.reason.as_deref()))
    }
}

/// The moment to come that a text names.
fn moment(text: &str, now: &ZonedDateTime) -> Result<Timestamp, CliError> {
    let zone = now.time_zone();
    let local = |civil: DateTime| civil.to_zoned_datetime(zone.clone()).ok().map(|moment| moment.timestamp());
    let moment = if let Ok(moment) = text.parse::<Timestamp>() {
        Some(moment)
    } else if let (true, Ok(time)) = (text.len() <= "23:59:59".len(), text.parse::<Time>()) {
        let today = local(now.date().to_datetime(time)).filter(|moment| *moment > now.timestamp());
        today.or_else(|| local(now.date().tomorrow().ok()?.to_datetime(time)))
    } else {
        text.parse::<DateTime>().ok().and_then(local)
    };
    let wrong =
        |what: String| CliError::usage(what, "write `--until 06:00`, `--until 2026-12-27T06:00`, or `--for 2h`");
    match moment {
        Some(moment) if moment > now.timestamp() => Ok(moment),
        Some(moment) => Err(wrong(format!("{moment} is over already"))),
        None => Err(wrong(format!("`{}` is no time", text.escape_debug()))),
    }
}

/// Says what is held back of everything.
pub(super) fn note(status: &Status, output: &Output) {
    if let Some(suspended) = &status.suspended {
        output.note(&format!("everything is left alone {}", suspended.words("`ofop resume --all`")));
    }
    if let Some(freeze) = &status.freeze {
        output.note(&format!("changes from manifests wait {}; repairs go on", freeze.words("`ofop freeze --end`")));
    }
}

impl SuspendArgs {
    /// What is said to the daemon.
    ///
    /// # Errors
    /// When nothing is named, or a time that there is not.
    pub(super) fn command(&self) -> Result<Command, CliError> {
        Ok(Command::Suspend(self.named.named("suspend")?, self.term.term()?))
    }
}

impl FreezeArgs {
    /// What is said to the daemon.
    ///
    /// # Errors
    /// When no end is named, or a time that there is not.
    pub(super) fn command(&self) -> Result<Command, CliError> {
        if self.end {
            return Ok(Command::EndFreeze);
        }
        let term = self.term.term()?;
        if term.until.is_none() && !self.no_end {
            return Err(CliError::usage(
                "`ofop freeze` names no end: one that is forgotten keeps every change away",
                "write `ofop freeze --for 8h`, `--until 06:00`, or `--no-end` if somebody will end it",
            ));
        }
        Ok(Command::Freeze(term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_local_unless_it_says_otherwise() {
        let now: ZonedDateTime = "2026-03-28T20:00:00+01:00[Europe/Berlin]".parse().unwrap();
        for (text, moment_) in [
            ("22:30", "2026-03-28T21:30:00Z"),
            // Tomorrow, after the change of the clock.
            ("06:00", "2026-03-29T04:00:00Z"),
            ("20:00", "2026-03-29T18:00:00Z"),
            ("2026-04-01T06:00", "2026-04-01T04:00:00Z"),
            ("2026-04-01 06:00:30", "2026-04-01T04:00:30Z"),
            ("2026-04-01T06:00Z", "2026-04-01T06:00:00Z"),
            ("2026-04-01T06:00+05:30", "2026-04-01T00:30:00Z"),
        ] {
            assert_eq!(moment(text, &now).unwrap().to_string(), moment_, "{text}");
        }
        for wrong in ["", "25:00", "tomorrow", "2026-02-30T06:00", "2026-03-28T19:00", "2020-01-01T00:00:00Z"] {
            assert!(moment(wrong, &now).is_err(), "{wrong}");
        }
    }
}
