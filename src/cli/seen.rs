//! What `get` and `describe` show: what a look of their own sees, or what the running daemon saw.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::client::Client;
use super::context::Context;
use super::oneshot::OneShot;
use super::{CliError, events};
use crate::report::Status;

/// How everything is. Where manifests are named, they and the cluster are looked at now; else, and where the daemon
/// alone is named on the command line, the daemon is asked, which knows the same and has looked a moment ago.
///
/// # Errors
/// When the manifests or the cluster cannot be read, and when neither manifests nor a daemon are there.
pub(super) async fn status(context: &Context) -> Result<Status, CliError> {
    let status = look(context).await?;
    if !looks_itself(context) {
        let time = status.time.as_ref().map(|time| events::local(time, &TimeZone::system())).unwrap_or_default();
        context.output.note(&format!("as the daemon at {} saw it at {time}", context.config.address));
    }
    Ok(status)
}

/// Whether this command looks at the cluster itself, and asks no daemon.
pub(super) fn looks_itself(context: &Context) -> bool {
    context.config.manifests.is_some() && !context.config.asks_daemon
}

/// The same as [`status`] without a word about where it comes from.
///
/// # Errors
/// As [`status`].
pub(super) async fn look(context: &Context) -> Result<Status, CliError> {
    if looks_itself(context) {
        return OneShot::open(context, &[]).await?.status().await;
    }
    let address = &context.config.address;
    let Some(answer) = Client::new(context)?.find("/api/v1/resources").await? else {
        return Err(CliError::usage(
            format!("no manifests are named, and no daemon answers at {address}"),
            "name the manifests with --desired DIR or --git URL (OFOP_DESIRED, OFOP_GIT_URL), or the daemon with \
             --address HOST:PORT (OFOP_ADDRESS)",
        ));
    };
    let status = parse(answer, address)?;
    if status.time.is_none() {
        return Err(CliError::Daemon {
            what: format!("the daemon at {address} has not looked at anything yet"),
            hint: "try again in a moment; its /readyz says what it waits for".into(),
        });
    }
    Ok(status)
}

/// Reads the status in a daemon's answer.
///
/// # Errors
/// When it is none that this program knows.
pub(super) fn parse(answer: Value, address: &str) -> Result<Status, CliError> {
    serde_json::from_value(answer).map_err(|error| CliError::Daemon {
        what: format!("the answer of the daemon at {address} cannot be understood: {error}"),
        hint: "it may be of another version than this program".into(),
    })
}
