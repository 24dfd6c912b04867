//! `ofop doctor`: is everything in place that the operator needs? Changes nothing.
//!
//! [`gather`] asks; [`checks`] judges what was gathered, and asks nothing.

mod checks;
mod gather;

use clap::Args;

use super::args::TextOrJson;
use super::client::DaemonArgs;
use super::context::Context;
use super::output::{Output, Paint};
use super::{CliError, Exit, chain};
use checks::{Check, Level};

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
    /// The daemon, which is asked how it is where one runs.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Looks at everything and says what it found.
///
/// # Errors
/// When standard output fails.
pub(super) async fn run(args: &DoctorArgs, context: &Context) -> Result<Exit, CliError> {
    let facts = gather::all(context).await;
    report(&checks::all(&facts), args, &context.output)
}

/// Settings that cannot be used are what is wrong; nothing else can be looked at.
///
/// # Errors
/// When standard output fails.
pub(super) fn without_settings(args: &DoctorArgs, error: &CliError, output: &Output) -> Result<Exit, CliError> {
    report(&[Check::fail("settings", chain(error), error.hint().unwrap_or_default())], args, output)
}

fn report(checks: &[Check], args: &DoctorArgs, output: &Output) -> Result<Exit, CliError> {
    match args.output {
        TextOrJson::Text => output.data(&text(checks, output.paint))?,
        TextOrJson::Json => output.json(&checks)?,
    }
    let fails = checks.iter().any(|check| check.level == Level::Fail);
    Ok(if fails { Exit::Changes } else { Exit::Success })
}

fn text(checks: &[Check], paint: Paint) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut out = String::new();
    for check in checks {
        let word = match check.level {
            Level::Ok => paint.green("OK  "),
            Level::Warn => paint.yellow("WARN"),
            Level::Fail => paint.red("FAIL"),
        };
        out.push_str(&format!("{word}  {:width$}  {}\n", check.name, check.message));
        if let Some(hint) = &check.hint {
            out.push_str(&format!("      {:width$}  {} {hint}\n", "", paint.cyan("->")));
        }
    }
    let count = |level: Level| checks.iter().filter(|check| check.level == level).count();
    let line = match (count(Level::Fail), count(Level::Warn)) {
        (0, 0) => "everything is in place".to_owned(),
        (0, warnings) => format!("nothing fails; {warnings} to look at"),
        (fails, 0) => format!("{fails} to mend"),
        (fails, warnings) => format!("{fails} to mend, {warnings} to look at"),
    };
    out.push_str(&format!("\n{}\n", paint.bold(&line)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_with_what_to_do_below() {
        let checks = [
            Check::ok("engine", "Docker Engine 29.0"),
            Check::warn("clock", "it is 3 s ahead", "use chrony"),
            Check::fail("networks", "factory-net is missing", "docker network create factory-net"),
        ];
        let all = text(&checks, Paint { on: false });
        assert_eq!(
            all,
            "OK    engine    Docker Engine 29.0\nWARN  clock     it is 3 s ahead\n                -> use chrony\n\
             FAIL  networks  factory-net is missing\n                -> docker network create factory-net\n\n\
             1 to mend, 1 to look at\n"
        );
        assert!(text(&checks[..1], Paint { on: false }).ends_with("\neverything is in place\n"));
    }
}
