//! `ofop reconcile`, `suspend`, `freeze`, `resume`: words to the running daemon.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::client::{Client, DaemonArgs};
use super::context::Context;
use super::{CliError, Exit, complete};
use crate::model::{Command, ResourceId, Term};

/// `reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// app/UUID or device/UUID that is tried again at once, and alone is waited for [default: everything]
    #[arg(value_name = "KIND/UUID", conflicts_with = "confirm_prune", add = ArgValueCompleter::new(complete::resources))]
    pub resource: Option<ResourceId>,
    /// Removals beyond the guard are meant; for the next plan only
    #[arg(long)]
    pub confirm_prune: bool,
    /// Wait until everything that the newest manifests describe is in sync and healthy
    #[arg(long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m", requires = "wait")]
    pub timeout: String,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// What `suspend` and `resume` name.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// app/UUID or device/UUID
    #[arg(value_name = "KIND/UUID", add = ArgValueCompleter::new(complete::resources))]
    pub resource: Option<ResourceId>,
    /// Everything
    #[arg(long, conflicts_with = "resource")]
    pub all: bool,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

impl NamedArgs {
    /// The resource; none for everything, which must be said.
    ///
    /// # Errors
    /// When neither is named.
    pub(super) fn named(&self, verb: &str) -> Result<Option<ResourceId>, CliError> {
        if self.resource.is_none() && !self.all {
            return Err(CliError::usage(
                format!("`ofop {verb}` names no resource"),
                format!("write `ofop {verb} KIND/UUID`, or `ofop {verb} --all` for everything"),
            ));
        }
        Ok(self.resource.clone())
    }
}

/// What names a resource, or everything, in a request.
fn body(resource: Option<&ResourceId>) -> Value {
    resource.map_or_else(|| json!({ "all": true }), |id| json!({ "resource": id }))
}

/// The same with when it ends, and why.
fn with_term(mut body: Value, term: &Term) -> Value {
    if let Some(until) = term.until {
        body["until"] = json!(until.to_string());
    }
    if let Some(reason) = term.reason() {
        body["reason"] = json!(reason);
    }
    body
}

/// What ends it: a time, or a command.
fn until(term: &Term, command: &str) -> String {
    term.until.map_or_else(|| command.to_owned(), |until| format!("{until}, or {command}"))
}

/// Sends a word and says that it was taken.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub(super) async fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    send(command, context).await.map(|_| Exit::Success)
}

/// The same; what the daemon answers.
///
/// # Errors
/// As for [`run`].
pub(super) async fn send(command: &Command, context: &Context) -> Result<Value, CliError> {
    let client = Client::new(context)?;
    let answer;
    let said = match command {
        Command::Reconcile { confirm_prune } => {
            answer = client.post("/api/v1/reconcile", &json!({ "confirm_prune": confirm_prune })).await?;
            if *confirm_prune { "looking again; removals are confirmed".to_owned() } else { "looking again".into() }
        }
        Command::ReconcileOne(id) => {
            answer = client.post("/api/v1/reconcile", &body(Some(id))).await?;
            format!("looking again; {id} is tried at once")
        }
        Command::Suspend(resource, term) => {
            answer = client.post("/api/v1/suspend", &with_term(body(resource.as_ref()), term)).await?;
            let (what, end) = match resource {
                Some(id) => (id.to_string(), format!("`ofop resume {id}`")),
                None => ("everything".into(), "`ofop resume --all`".into()),
            };
            format!("{what} is left alone until {}", until(term, &end))
        }
        Command::Freeze(term) => {
            let body = if term.until.is_some() { json!({}) } else { json!({ "no_end": true }) };
            answer = client.post("/api/v1/freeze", &with_term(body, term)).await?;
            format!("changes from manifests wait until {}; repairs go on", until(term, "`ofop freeze --end`"))
        }
        Command::EndFreeze => {
            answer = client.post("/api/v1/freeze", &json!({ "end": true })).await?;
            "the freeze is ended: changes go out".into()
        }
        Command::Down(id) => {
            answer = client.post("/api/v1/down", &body(Some(id))).await?;
            format!("{id} is being taken down, and stays away until `ofop resume {id}`")
        }
        Command::RolloutStart(id) => {
            answer = client.post("/api/v1/rollout/start", &json!({ "resource": id })).await?;
            format!("the changes of {id} go out now, whatever its windows say")
        }
        Command::RolloutResume => {
            answer = client.post("/api/v1/rollout/resume", &json!({})).await?;
            "rollouts go on; what broke stays as it is until its manifest changes".into()
        }
        Command::RolloutAbort => {
            answer = client.post("/api/v1/rollout/abort", &json!({})).await?;
            "nothing more goes out of this revision; the next one, or `ofop rollout resume`, goes on".into()
        }
        Command::Adopt { resource, from } => {
            let instance = &context.config.instance;
            let body = json!({ "resource": resource, "from": from, "instance": instance });
            answer = client.post("/api/v1/adopt", &body).await?;
            format!("{resource} is being taken over; `ofop describe {resource}` shows what became of it")
        }
        Command::Resume(resource) => {
            answer = client.post("/api/v1/resume", &body(resource.as_ref())).await?;
            let said = match resource {
                Some(id) => format!("{id} is resumed"),
                None => "everything is resumed".into(),
            };
            match answer["note"].as_str() {
                Some(note) => format!("{said}; but {note}"),
                None => said,
            }
        }
    };
    context.output.note(&said);
    Ok(answer)
}
