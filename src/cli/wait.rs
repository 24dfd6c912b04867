//! `ofop reconcile --wait`: has the daemon look again, and waits for what comes of it.
//!
//! What is judged is the daemon's own status, once it rests on a pass that began after the request with manifests
//! that were read after it: before that, everything may look fine only because nobody has looked.

use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::context::Context;
use super::control::{self, ReconcileArgs};
use super::{CliError, Exit, apply};
use crate::model::Command;

/// Time between two looks at the daemon's status, which it has in memory.
const PAUSE: Duration = Duration::from_millis(250);
/// A resource whose steps failed so often in a row is not waited for any longer.
const FAILURES: u64 = 3;
/// How many resources one line of progress names.
const NAMED: usize = 5;

/// Sends the word, and waits where that is asked for.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub(super) async fn reconcile(args: &ReconcileArgs, context: &Context) -> Result<Exit, CliError> {
    let limit = apply::timeout(&args.timeout)?;
    let answer = control::send(&Command::Reconcile { confirm_prune: args.confirm_prune }, context).await?;
    if !args.wait {
        return Ok(Exit::Success);
    }
    let Some(request) = answer["request"].as_u64() else {
        return Err(CliError::Daemon {
            what: "the daemon does not say what it has looked at".into(),
            hint: "it is older than this program: watch `ofop get all` instead".into(),
        });
    };
    let mut open = vec!["the daemon has not looked since".to_owned()];
    let judged = tokio::time::timeout(limit, settle(request, &mut open, context)).await;
    let failed = match judged {
        Ok(failed) => failed?,
        Err(_) => {
            let hint = "`ofop describe` shows what a resource waits for; --timeout gives it longer";
            context.output.error(&format!("not done within {}: {}", args.timeout, open.join("; ")), Some(hint));
            return Ok(Exit::PartlyFailed);
        }
    };
    for one in &failed {
        context.output.error(one, None);
    }
    Ok(if failed.is_empty() { Exit::Success } else { Exit::PartlyFailed })
}

/// Looks at the status until nothing is on its way any more; what is in the way then. `open` is kept up to date.
async fn settle(request: u64, open: &mut Vec<String>, context: &Context) -> Result<Vec<String>, CliError> {
    let client = Client::new(context)?;
    loop {
        let status = client.get("/api/v1/resources").await?;
        if status["answered"].as_u64().is_some_and(|answered| answered >= request) {
            let judged = judge(&status);
            if judged.open.is_empty() || !judged.failed.is_empty() {
                let done = judged.failed.is_empty().then(|| summary(&status));
                done.iter().for_each(|done| context.output.note(done));
                return Ok(judged.failed);
            }
            if *open != judged.open {
                *open = judged.open;
                context.output.note(&format!("waiting for {}", some(open)));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a status means to somebody who waits.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judgement {
    /// What is on its way, or may still come.
    open: Vec<String>,
    /// What only a person can mend.
    failed: Vec<String>,
}

/// Judges a status.
fn judge(status: &Value) -> Judgement {
    let mut judged = Judgement::default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let source = &status["source"];
    match (source["trouble"]["message"].as_str(), source["commit"]["short"].as_str()) {
        (Some(trouble), Some(commit)) => judged.failed.push(format!("{trouble}; commit {commit} stays in force")),
        (Some(trouble), None) => judged.failed.push(format!("the manifests cannot be read: {trouble}")),
        (None, _) if source["state"] == "down" => {
            judged.failed.push(format!("the manifests cannot be read: {}", text(&source["message"])));
        }
        (None, _) => {}
    }
    for problem in list(&status["problems"]).iter().filter(|problem| problem["severity"] != "warning") {
        let place = problem["line"].as_u64().map_or_else(String::new, |line| format!(":{line}"));
        judged.failed.push(format!("{}{place}: {}", text(&problem["file"]), text(&problem["message"])));
    }
    for side in ["platform", "registry"] {
        let (state, message) = (text(&status[side]["state"]), text(&status[side]["message"]));
        if state != "up" {
            judged.open.push(format!("the {side}, which is {state} {message}").trim_end().to_owned());
        }
    }
    if let Some(since) = status["suspended"]["since"].as_str() {
        judged.failed.push(format!("everything is suspended since {since}; `ofop resume --all` ends that"));
    }
    let prune = &status["prune"];
    if prune["state"] == "blocked" && (prune["reason"] == "guard" || prune["reason"] == "disabled") {
        judged.failed.push(format!("removals are held: {}", text(&prune["message"])));
    }
    for resource in list(&status["resources"]) {
        let id = text(&resource["resource"]);
        let (sync, health) = (&resource["sync"], &resource["health"]);
        let conditions = list(&resource["conditions"]);
        let said = |kind: &str| {
            let found = conditions.iter().find(|condition| condition["type"] == kind);
            found.map(|condition| format!("{id}: {}", text(&condition["message"])))
        };
        let given_up = resource["retry"]["failures"].as_u64().is_some_and(|failures| failures >= FAILURES);
        let held = list(&prune["resources"]).contains(&resource["resource"]) && prune["state"] == "blocked";
        if health == "Suspended" {
            continue;
        } else if let Some(why) = said("Conflict").or_else(|| said("RolledBack")) {
            judged.failed.push(why);
        } else if let Some(why) = said("Failed").filter(|_| given_up) {
            judged.failed.push(why);
        } else if !(held || sync == "Synced" && health == "Healthy") {
            judged.open.push(format!("{id} ({}, {})", text(sync), text(health)));
        }
    }
    judged
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The first few, and how many more.
fn some(all: &[String]) -> String {
    let first = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED { format!("{first} and {} more", all.len() - NAMED) } else { first }
}

fn summary(status: &Value) -> String {
    let (summary, revision) = (&status["summary"], status["revision"].as_str().unwrap_or_default());
    let revision = revision.get(..12).unwrap_or(revision);
    format!("{} of {} in sync and healthy at {revision}", summary["healthy"], summary["resources"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(resources: &Value) -> Value {
        let up = json!({ "state": "up" });
        json!({ "source": up, "platform": up, "registry": up, "problems": [], "prune": { "state": "nothing" },
            "resources": resources })
    }

    fn with(mut status: Value, name: &str, value: Value) -> Value {
        status[name] = value;
        status
    }

    #[test]
    fn what_is_in_sync_and_healthy_or_suspended_is_not_waited_for() {
        let fine = json!([
            { "resource": "app/A", "sync": "Synced", "health": "Healthy" },
            { "resource": "app/B", "sync": "OutOfSync", "health": "Suspended" },
        ]);
        assert_eq!(judge(&status(&fine)), Judgement::default());
        let warned = json!([{ "file": "a.yml", "message": "odd", "severity": "warning" }]);
        assert_eq!(judge(&with(status(&fine), "problems", warned)), Judgement::default());
    }

    #[test]
    fn what_is_on_its_way_is_waited_for() {
        let mut on_its_way = json!([
            { "resource": "app/A", "sync": "Synced", "health": "Progressing" },
            { "resource": "app/B", "sync": "OutOfSync", "health": "Healthy" },
            { "resource": "app/C", "sync": "Synced", "health": "Degraded" },
            { "resource": "app/D", "sync": "OutOfSync", "health": "Unknown", "retry": { "failures": 1 },
                "conditions": [{ "type": "Failed", "message": "no answer" }] },
        ]);
        let judged = judge(&status(&on_its_way));
        assert_eq!((judged.open.len(), judged.failed.len()), (4, 0), "{judged:?}");
        assert_eq!(some(&judged.open[..1]), "app/A (Synced, Progressing)");
        on_its_way[3]["retry"]["failures"] = FAILURES.into();
        assert_eq!(judge(&status(&on_its_way)).failed, ["app/D: no answer"]);
        let down = with(status(&json!([])), "platform", json!({ "state": "down", "message": "no leader" }));
        assert_eq!(judge(&down).open, ["the platform, which is down no leader"]);
    }

    #[test]
    fn what_a_person_must_mend_ends_the_waiting() {
        let none = status(&json!([]));
        for (name, value, said) in [
            ("source", json!({ "state": "down", "message": "no branch" }), "the manifests cannot be read: no branch"),
            (
                "source",
                json!({ "state": "partial", "commit": { "short": "3f9c" }, "trouble": { "message": "not signed" } }),
                "not signed; commit 3f9c stays in force",
            ),
            ("problems", json!([{ "file": "a.yml", "line": 3, "message": "wrong" }]), "a.yml:3: wrong"),
            (
                "prune",
                json!({ "state": "blocked", "reason": "guard", "message": "6 of 6" }),
                "removals are held: 6 of 6",
            ),
            (
                "suspended",
                json!({ "since": "2026-01-02T03:04:05Z" }),
                "everything is suspended since 2026-01-02T03:04:05Z; `ofop resume --all` ends that",
            ),
            (
                "resources",
                json!([{ "resource": "app/A", "sync": "Synced", "health": "RolledBack",
                    "conditions": [{ "type": "RolledBack", "message": "undone" }] }]),
                "app/A: undone",
            ),
        ] {
            assert_eq!(judge(&with(none.clone(), name, value)).failed, [said]);
        }
    }
}
