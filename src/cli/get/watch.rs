//! `ofop get --watch`: on a terminal the table again and again, elsewhere a line for each change.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::select::Selection;
use super::wanted::Wanted;
use super::{GetFormat, What, tables};
use crate::cli::context::Context;
use crate::cli::output::{self, Paint};
use crate::cli::table::Table;
use crate::cli::{CliError, Exit, chain, seen, signals};
use crate::model::text::cut;
use crate::model::{Health, ResourceId, Sync};
use crate::report::{ResourceStatus, Status};

/// Between two looks at the daemon's status, which it has in memory.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at the cluster itself, each of which reads all of it.
const OWN_PAUSE: Duration = Duration::from_secs(5);
/// Lines of the terminal that are not rows of the table: its header, how many more there are, the summary, the cursor.
const OTHER_LINES: usize = 4;

/// Shows until a signal ends it, or nobody reads any more.
///
/// # Errors
/// When what is asked for cannot be watched, and when the first look fails.
pub(super) async fn run(
    wanted: &Wanted,
    selection: &Selection,
    format: &GetFormat,
    context: &Context,
) -> Result<Exit, CliError> {
    let wide = match (format, wanted.what) {
        (_, What::Services | What::Assets) => {
            return Err(CliError::usage(
                "services and assets cannot be watched",
                "watch their resources: `ofop get resources --watch`",
            ));
        }
        (GetFormat::Table, _) => false,
        (GetFormat::Wide, _) => true,
        (GetFormat::Json | GetFormat::Yaml | GetFormat::Name | GetFormat::Columns(_), _) => {
            return Err(CliError::usage(
                "--watch shows a table",
                "leave -o out, or write -o wide; for programs there is `ofop events --watch -o json`",
            ));
        }
    };
    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone());
    let mut view = View { wide, ..View::default() };
    let pause = if seen::looks_itself(context) { OWN_PAUSE } else { PAUSE };
    let mut first = true;
    loop {
        let looked = tokio::select! {
            looked = seen::look(context) => looked,
            () = stop.cancelled() => return Ok(Exit::Interrupted),
        };
        match looked {
            Ok(mut status) => {
                if std::mem::take(&mut first) {
                    wanted.check(&status)?;
                }
                selection.keep(&mut status, wanted);
                view.show(&status, wanted.what, context)?;
            }
            Err(error) if first => return Err(error),
            // A daemon that restarts, or an engine without a leader, comes back.
            Err(error) => view.lost(&chain(&error), context),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Ok(Exit::Interrupted),
        }
        if context.output.reader_left() {
            return Ok(Exit::Success);
        }
    }
}

/// What makes a row another one; ages alone do not.
type State = (Sync, Health, String, String);

/// What has been shown.
#[derive(Default)]
struct View {
    wide: bool,
    states: Option<BTreeMap<ResourceId, State>>,
    lost: bool,
}

impl View {
    fn show(&mut self, status: &Status, what: What, context: &Context) -> Result<(), CliError> {
        self.lost = false;
        let output = &context.output;
        let now = tables::now(status);
        if output.width.is_some() {
            let width = (!self.wide).then(|| output::columns(std::io::stdout()));
            let table = tables::resource_table(tables::resources(status, what), now, output.paint, self.wide);
            output.data(&screen(&table, output.paint, width, output::rows(), &line(status)))?;
            return Ok(());
        }
        let is_first = self.states.is_none();
        let (changed, gone) = self.changes(tables::resources(status, what));
        let table = tables::resource_table(changed.into_iter(), now, output.paint, self.wide);
        let text = match is_first {
            true => table.render(output.paint, None),
            false => table.without_header(output.paint, None),
        };
        output.data(&text)?;
        for id in gone {
            output.note(&format!("{id} is gone"));
        }
        Ok(())
    }

    /// What differs from what was shown before, and what is there no more. It counts as shown from now on.
    fn changes<'a>(
        &mut self,
        listed: impl Iterator<Item = &'a ResourceStatus>,
    ) -> (Vec<&'a ResourceStatus>, Vec<ResourceId>) {
        let listed: Vec<(&ResourceStatus, State)> = listed.map(|resource| (resource, state(resource))).collect();
        let before = self.states.take().unwrap_or_default();
        let is_new = |(resource, state): &&(&ResourceStatus, State)| before.get(&resource.id) != Some(state);
        let changed = listed.iter().filter(is_new).map(|(resource, _)| *resource).collect();
        let now: BTreeMap<ResourceId, State> =
            listed.into_iter().map(|(resource, state)| (resource.id.clone(), state)).collect();
        let gone = before.into_keys().filter(|id| !now.contains_key(id)).collect();
        self.states = Some(now);
        (changed, gone)
    }

    /// Says once that nothing can be seen.
    fn lost(&mut self, why: &str, context: &Context) {
        if !std::mem::replace(&mut self.lost, true) {
            context.output.note(&format!("{why}; waiting for it"));
        }
    }
}

fn state(resource: &ResourceStatus) -> State {
    let running = resource.running().map(|running| running.to_string()).unwrap_or_default();
    (resource.sync, resource.health, running, tables::note(resource))
}

/// What the line below the table says.
fn line(status: &Status) -> String {
    let summary = &status.summary;
    let time = status.time.as_ref().and_then(|time| time.parse::<Timestamp>().ok());
    let time =
        time.map(|time| time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M:%S %Z").to_string());
    format!(
        "{} resources: {} in sync, {} healthy, {} degraded; seen at {}; Ctrl-C ends",
        summary.resources,
        summary.synced,
        summary.healthy,
        summary.degraded,
        time.unwrap_or_default()
    )
}

/// The whole screen: as many rows as fit, and the line.
fn screen(table: &Table, paint: Paint, width: Option<usize>, rows: usize, line: &str) -> String {
    // To the upper left corner, and away with everything below.
    let mut text = String::from("\u{1b}[H\u{1b}[J");
    let all = if table.is_empty() { "nothing found\n".to_owned() } else { table.render(paint, width) };
    let room = rows.saturating_sub(OTHER_LINES).max(1);
    let count = all.lines().count().saturating_sub(1);
    let shown = if count > room { room } else { count };
    for row in all.lines().take(shown + 1) {
        text.push_str(row);
        text.push('\n');
    }
    if count > shown {
        text.push_str(&paint.dim(&format!("… and {} more; --health and --sort-by choose\n", count - shown)));
    }
    let line = match width {
        Some(width) => cut(line, width).into_owned(),
        None => line.to_owned(),
    };
    text.push_str(&paint.dim(&line));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::status;

    #[test]
    fn only_what_changed_is_shown_again() {
        let before = status(&["app/A", "app/B", "app/C"]);
        let mut view = View::default();
        let ids = |list: &[&ResourceStatus]| list.iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&view.changes(before.resources.iter()).0), ["app/A", "app/B", "app/C"]);
        assert!(view.changes(before.resources.iter()).0.is_empty());
        let mut after = status(&["app/A", "app/B", "app/D"]);
        after.resources[1].health = Health::Degraded;
        let (changed, gone) = view.changes(after.resources.iter());
        assert_eq!(ids(&changed), ["app/B", "app/D"]);
        assert_eq!(gone, ["app/C".parse().unwrap()]);
    }

    #[test]
    fn a_screen_holds_what_fits() {
        let names: Vec<String> = (0..50).map(|number| format!("app/{number}")).collect();
        let status = status(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let paint = Paint { on: false };
        let table = tables::resource_table(status.resources.iter(), None, paint, false);
        let text = screen(&table, paint, Some(80), 24, &line(&status));
        assert_eq!(text.lines().count(), 23, "the cursor is on the last line");
        assert!(text.contains("… and 30 more") && text.lines().all(|line| line.chars().count() <= 80 + 6), "{text}");
        let text = screen(&table, paint, Some(80), 100, "");
        assert!(!text.contains("more"));
    }
}
