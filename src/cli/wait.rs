//! `ofop reconcile --wait`: has the daemon look again, and waits for what comes of it.
//!
//! What counts is the daemon's own status, once it rests on a pass that began after the request with manifests
//! that were read after it: before that, everything may look fine only because nobody has looked. What the verdict on each
//! resource means is decided where `ofop apply` decides it ([`Waiting`]).

use std::time::Duration;

use super::client::Client;
use super::context::Context;
use super::control::{self, ReconcileArgs};
use super::obstacles::{self, some};
use super::{CliError, Exit, apply, seen};
use crate::model::{Command, ResourceId, Severity};
use crate::reconcile::{Goal, Outlook, Waiting};
use crate::report::Status;
use crate::report::status::{PartState, PartStatus};

/// Time between two looks at the daemon's status, which it has in memory.
const PAUSE: Duration = Duration::from_millis(250);

/// Sends the word, and waits where that is asked for.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub(super) async fn reconcile(args: &ReconcileArgs, context: &Context) -> Result<Exit, CliError> {
    let limit = apply::timeout(&args.timeout)?;
    let command = match &args.resource {
        Some(resource) => Command::ReconcileOne(resource.clone()),
        None => Command::Reconcile { confirm_prune: args.confirm_prune },
    };
    let answer = control::send(&command, context).await?;
    if !args.wait {
        return Ok(Exit::Success);
    }
    let Some(request) = answer["request"].as_u64() else {
        return Err(CliError::Daemon {
            what: "the daemon does not say what it has looked at".into(),
            hint: "it is older than this program: watch `ofop get all` instead".into(),
        });
    };
    let mut last = None;
    let judged = tokio::time::timeout(limit, settle(request, args.resource.as_ref(), &mut last, context)).await;
    let timed_out = judged.is_err();
    if let Ok(judged) = judged {
        judged?;
    }
    let output = &context.output;
    let Some(judged) = last else {
        let hint = "its /readyz says what it waits for; --timeout gives it longer";
        output.error("not done within the time: the daemon has not looked since", Some(hint));
        return Ok(Exit::PartlyFailed);
    };
    if judged.is_reached() {
        return Ok(Exit::Success);
    }
    if timed_out && !judged.away.is_empty() {
        let hint = "--timeout gives it longer; /readyz of the daemon says more";
        output.error(&format!("not done within the time: {}", judged.away.join("; ")), Some(hint));
    }
    let (blocked, unfinished) = judged.outlook.at_the_end();
    obstacles::unfinished(output, &unfinished, timed_out);
    for (error, hint) in &judged.failed {
        output.error(error, hint.as_deref());
    }
    obstacles::blocked(output, &blocked);
    Ok(Exit::PartlyFailed)
}

/// Looks at the status until nothing is on its way any more, or it can only end badly. `last` is kept up to date.
async fn settle(
    request: u64,
    only: Option<&ResourceId>,
    last: &mut Option<Judgement>,
    context: &Context,
) -> Result<(), CliError> {
    let client = Client::new(context)?;
    let mut waiting = Waiting::new(Goal::Settled);
    let mut told = Vec::new();
    loop {
        let status = seen::parse(client.get("/api/v1/resources").await?, client.address())?;
        if status.answered.is_some_and(|answered| answered >= request) {
            let status = of_one(status, only);
            let judged = Judgement::of(&status, &mut waiting);
            let (is_over, open) = (judged.is_over(), judged.open());
            if judged.is_reached() {
                context.output.note(&summary(&status, judged.outlook.suspended.len()));
            }
            *last = Some(judged);
            if is_over {
                return Ok(());
            }
            if told != open {
                context.output.note(&format!("waiting for {}", some(&open)));
                told = open;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The status without what is not waited for: other resources, and problems of other files.
fn of_one(mut status: Status, only: Option<&ResourceId>) -> Status {
    if let Some(only) = only {
        status.resources.retain(|resource| resource.id == *only);
        let file =
            status.resources.first().and_then(|resource| resource.origin.as_ref()).map(|origin| origin.file.clone());
        status.problems.retain(|problem| file.as_deref() == Some(&*problem.file));
    }
    status
}

/// What a status means to somebody who waits.
#[derive(Debug, Default)]
struct Judgement {
    /// The sides that cannot be read, or not completely.
    away: Vec<String>,
    /// What is wrong with the manifests or with everything, each with what to do.
    failed: Vec<(String, Option<String>)>,
    /// What the verdicts on all resources come to.
    outlook: Outlook,
}

impl Judgement {
    fn of(status: &Status, waiting: &mut Waiting) -> Self {
        let verdicts = status.resources.iter().map(|resource| (&resource.id, resource.verdict.clone()));
        let mut judged = Judgement { outlook: waiting.look(verdicts), ..Judgement::default() };
        judged.source(status);
        for (side, part) in [("platform", &status.platform), ("registry", &status.registry)] {
            judged.side(side, part);
        }
        if let Some(suspended) = &status.suspended {
            let error = format!("everything is suspended {}", suspended.words("`ofop resume --all`"));
            judged.failed.push((error, Some("`ofop resume --all` ends that".into())));
        }
        judged
    }

    fn source(&mut self, status: &Status) {
        let source = &status.source;
        match (&source.trouble, &source.commit) {
            (Some(trouble), Some(commit)) => {
                let error = format!("{}; commit {} stays in force", trouble.message, commit.short);
                self.failed.push((error, trouble.hint.clone()));
            }
            (Some(trouble), None) => {
                let error = format!("the manifests cannot be read: {}", trouble.message);
                self.failed.push((error, trouble.hint.clone()));
            }
            (None, _) if source.part.state == PartState::Down => {
                let message = source.part.message.as_deref().unwrap_or_default();
                self.failed.push((format!("the manifests cannot be read: {message}"), None));
            }
            (None, _) => {}
        }
        for problem in status.problems.iter().filter(|problem| problem.severity == Severity::Error) {
            let place = if problem.line > 0 { format!(":{}", problem.line) } else { String::new() };
            let error = format!("{}{place}: {}", problem.file, problem.message);
            self.failed.push((error, problem.hint.clone()));
        }
    }

    fn side(&mut self, side: &str, part: &PartStatus) {
        if part.state != PartState::Up {
            let message = part.message.as_deref().unwrap_or_default();
            self.away.push(format!("the {side}, which is {} {message}", part.state.as_str()).trim_end().to_owned());
        }
    }

    /// Whether everything is as described and runs, what is left alone aside.
    fn is_reached(&self) -> bool {
        self.failed.is_empty()
            && self.away.is_empty()
            && self.outlook.open.is_empty()
            && self.outlook.blocked.is_empty()
    }

    /// Whether there is nothing left to wait for.
    fn is_over(&self) -> bool {
        !self.failed.is_empty() || self.outlook.is_over() && (self.away.is_empty() || !self.outlook.blocked.is_empty())
    }

    /// What is waited for.
    fn open(&self) -> Vec<String> {
        let resources = self.outlook.open.keys().map(ToString::to_string);
        self.away.iter().cloned().chain(resources).collect()
    }
}

fn summary(status: &Status, suspended: usize) -> String {
    let settled = status.resources.iter().filter(|resource| resource.verdict.is_settled()).count();
    let suspended = if suspended > 0 { format!(", {suspended} left alone") } else { String::new() };
    let (all, revision) = (status.resources.len(), status.revision.short());
    format!("{settled} of {all} in sync and healthy at {revision}{suspended}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::InstanceName;
    use crate::report::Report;

    /// The status of a daemon that reads everything, with these resources, each by its verdict.
    fn status(verdicts: &[Value]) -> Status {
        let report = Report::new(InstanceName::new("test").unwrap());
        let mut status = Status::clone(&report.status());
        for part in [&mut status.source.part, &mut status.platform, &mut status.registry] {
            part.state = PartState::Up;
        }
        let resource = |(number, verdict): (usize, &Value)| {
            serde_json::from_value(json!({
                "resource": format!("app/{number}"), "kind": "app", "uuid": number.to_string(), "origin": null,
                "revision": null, "frozen": false, "sync": "Synced", "health": "Healthy", "verdict": verdict,
                "drift": [], "conditions": [], "pending_steps": 0, "services": [], "records": [],
            }))
        };
        status.resources = verdicts.iter().enumerate().map(|each| resource(each).unwrap()).collect();
        status
    }

    fn blocked(kind: &str) -> Value {
        json!({ "state": "blocked", "kind": kind, "message": "why", "fixed_by": "manifests", "hint": "what to do" })
    }

    fn judge(status: &Status) -> Judgement {
        Judgement::of(status, &mut Waiting::new(Goal::Settled))
    }

    #[test]
    fn what_is_settled_or_left_alone_is_not_waited_for() {
        let fine = status(&[json!({ "state": "settled" }), blocked("suspended")]);
        let judged = judge(&fine);
        assert!(judged.is_reached() && judged.is_over());
        assert_eq!(summary(&fine, judged.outlook.suspended.len()), "1 of 2 in sync and healthy at , 1 left alone");
    }

    #[test]
    fn of_one_resource_only_its_own_file_counts() {
        let mut all = status(&[json!({ "state": "settled" }), blocked("conflict")]);
        all.resources[0].origin = serde_json::from_value(json!({ "file": "a.yml", "line": 1 })).unwrap();
        all.problems = ["a.yml", "b.yml"].map(|file| crate::model::Problem::file(file, "wrong")).to_vec();
        let one: ResourceId = "app/0".parse().unwrap();
        let seen = of_one(all.clone(), Some(&one));
        assert_eq!((seen.resources.len(), seen.problems.len()), (1, 1));
        assert!(judge(&seen).outlook.blocked.is_empty());
        assert_eq!(of_one(all, None).resources.len(), 2);
    }

    #[test]
    fn what_is_in_progress_or_cannot_be_read_is_waited_for() {
        let steps = json!({ "state": "in_progress", "why": "steps", "message": "1 step to do" });
        let judged = judge(&status(&[steps, blocked("missing_network")]));
        assert!(!judged.is_over());
        assert_eq!(judged.open(), ["app/0", "app/1"]);
        let mut down = status(&[json!({ "state": "settled" })]);
        down.platform = PartStatus { state: PartState::Down, message: Some("no leader".into()), ..down.platform };
        let judged = judge(&down);
        assert!(!judged.is_over() && !judged.is_reached());
        assert_eq!(judged.open(), ["the platform, which is down no leader"]);
        // What can only end badly does so whatever cannot be read.
        down.resources = status(&[blocked("conflict")]).resources;
        assert!(judge(&down).is_over());
    }

    #[test]
    fn what_is_wrong_with_everything_ends_the_waiting() {
        type Change = (&'static str, fn(&mut Status));
        let changes: [Change; 4] = [
            ("the manifests cannot be read: no branch", |status| {
                status.source.part =
                    PartStatus { state: PartState::Down, message: Some("no branch".into()), ..PartStatus::default() };
            }),
            ("not signed; commit 3f9c stays in force", |status| {
                status.source = serde_json::from_value(json!({
                    "state": "partial", "kind": "git", "location": "", "last_read": null,
                    "commit": { "id": "3f9c1", "short": "3f9c", "author": "", "subject": "", "time": "" },
                    "trouble": { "reason": "unverified", "message": "not signed" },
                }))
                .unwrap();
            }),
            ("a.yml:3: wrong", |status| {
                let problem = crate::model::Problem { line: 3, ..crate::model::Problem::file("a.yml", "wrong") };
                status.problems.push(problem);
            }),
            ("everything is suspended since now, until `ofop resume --all`", |status| {
                status.suspended =
                    Some(crate::model::HoldStatus { since: "now".into(), ..crate::model::HoldStatus::default() });
            }),
        ];
        for (expected, change) in changes {
            let mut status = status(&[json!({ "state": "settled" })]);
            change(&mut status);
            let judged = judge(&status);
            assert!(judged.is_over() && !judged.is_reached(), "{expected}");
            assert_eq!(judged.failed[0].0, expected);
        }
    }

    #[test]
    fn a_status_without_verdicts_is_an_error_and_no_success() {
        let mut json = serde_json::to_value(status(&[json!({ "state": "settled" })])).unwrap();
        assert!(seen::parse(json.clone(), "here").is_ok());
        json["resources"][0].as_object_mut().unwrap().remove("verdict");
        assert!(seen::parse(json, "here").is_err());
    }
}
