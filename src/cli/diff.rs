//! `ofop diff`: what two revisions of the manifests describe otherwise, in terms of services and records.

use clap::Args;
use serde_json::{Value, json};

use super::args::TextOrJson;
use super::client::{Client, DaemonArgs};
use super::context::Context;
use super::manifests::{self, Manifests};
use super::plan::{self, PlanFormat};
use super::{CliError, Exit, history, problems, seen};
use crate::config;
use crate::desired::Source as _;
use crate::model::source::short;
use crate::model::{CommitInfo, Desired, Plan, ResourceId, SourceKind};
use crate::plan::{ShowSecrets, TextOptions, between, differences_to_text, to_json};
use crate::report::source::CommitStatus;

/// The commit that the daemon has in force, or had when it last ran.
const CURRENT: &str = "current";

/// What a plan says that means nothing without a cluster.
const OF_A_CLUSTER: [&str; 7] = ["sync", "health", "verdict", "held", "drift", "conditions", "ignored"];

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A commit of the --git repository: an id, a branch, a tag, `main~2`, `HEAD^`; or `current` for the one in force
    /// [default: compare the manifests with what runs, as `ofop plan`]
    #[arg(value_name = "REV1")]
    pub before: Option<String>,
    /// The one to compare it with
    #[arg(value_name = "REV2")]
    pub after: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextOrJson,
    /// Show the values of environment variables, and of secret ones wherever they are
    #[arg(long)]
    pub show_secrets: bool,
    /// The daemon to ask which commit is in force.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Reads and compiles both commits, and prints what differs.
///
/// # Errors
/// When the manifests come from a directory, a commit cannot be read, or nobody knows which one is in force.
pub(super) async fn run(args: &DiffArgs, context: &Context) -> Result<Exit, CliError> {
    match (&args.before, &args.after) {
        (Some(before), Some(after)) => compare(args, (before.as_str(), after.as_str()), context).await,
        (None, _) => {
            let format = match args.output {
                TextOrJson::Text => PlanFormat::Text,
                TextOrJson::Json => PlanFormat::Json,
            };
            plan::show(&[], format, args.show_secrets, context).await
        }
        (Some(revision), None) => Err(CliError::usage(
            "one revision alone is compared with nothing",
            format!(
                "write `ofop diff current {revision}` to compare it with the commit in force, or `ofop plan --revision {revision}` \
                 with what runs"
            ),
        )),
    }
}

async fn compare(args: &DiffArgs, names: (&str, &str), context: &Context) -> Result<Exit, CliError> {
    let Some(config::Manifests::Git(_)) = &context.config.manifests else {
        return Err(CliError::usage(
            "revisions are compared in a git repository, and none is named",
            "name it with --git URL or OFOP_GIT_URL. Of a directory only the present state is known: `ofop plan` compares \
             it with what runs, and `ofop history KIND/UUID` shows what earlier changes did",
        ));
    };
    let before = read(names.0, context).await?;
    let after = read(names.1, context).await?;
    let plan = between(&before, &after, &context.config.instance);
    let secrets = if args.show_secrets { ShowSecrets::Yes } else { ShowSecrets::No };
    let output = context.output.revealing(args.show_secrets);
    match args.output {
        TextOrJson::Text => {
            let width = context.output.width.unwrap_or_default();
            let options = TextOptions { color: context.output.paint.on, secrets, width };
            output.data(&differences_to_text(&plan, options))?;
        }
        TextOrJson::Json => output.json(&to_value(&before, &after, &plan, secrets))?,
    }
    for desired in [&before, &after] {
        problems::show(&desired.problems, &context.output);
    }
    for (name, desired) in [(names.0, &before), (names.1, &after)] {
        let commit = desired.commit.as_ref().map(line).unwrap_or_default();
        context.output.note(&format!("{name}: {commit}"));
        let errors = desired.errors();
        if errors > 0 {
            let what =
                format!("{name} has {errors} errors in its manifests: what the files with them describe is left out");
            context.output.error(&what, Some("`ofop validate --revision` shows one revision alone"));
        }
    }
    Ok(if before.errors() + after.errors() > 0 {
        Exit::Failure
    } else if plan.restless.is_empty() {
        Exit::Success
    } else {
        Exit::Changes
    })
}

fn line(commit: &CommitInfo) -> String {
    format!("commit {} \"{}\" by {}", commit.short(), commit.subject, commit.author)
}

/// What a commit describes.
async fn read(revision: &str, context: &Context) -> Result<std::sync::Arc<Desired>, CliError> {
    let id = if revision == CURRENT { in_force(context).await? } else { revision.to_owned() };
    let mut context = context.clone();
    if let Some(config::Manifests::Git(git)) = &mut context.config.manifests {
        git.revision = Some(id);
        git.from_clone = true;
    }
    let Manifests { desired, .. } = manifests::read(&context, &[]).await?;
    Ok(desired)
}

/// The id of the commit in force: as the daemon says, else as it left it in the state directory.
async fn in_force(context: &Context) -> Result<String, CliError> {
    let (address, directory) = (&context.config.address, &context.config.state_dir);
    let found = match Client::new(context)?.find("/api/v1/resources").await? {
        Some(answer) => {
            let source = seen::parse(answer, address)?.source;
            (source.kind, source.location, source.commit)
        }
        None => match history::newest_left(context) {
            Some(entry) => (Some(entry.source), entry.location, entry.commit),
            None => {
                return Err(CliError::usage(
                    format!(
                        "nobody knows which commit is in force: no daemon answers at {address}, and none left a history in {}",
                        directory.display()
                    ),
                    "name the daemon's address with --address, its state directory with --state-dir, or a commit",
                ));
            }
        },
    };
    let ours = super::parts::loader_at_once(context, &[])?.source().place().location;
    match found {
        (Some(SourceKind::Git), location, Some(CommitStatus { id, .. })) if *location == *ours => Ok(id),
        (Some(SourceKind::Git), location, Some(commit)) => Err(CliError::usage(
            format!("what is in force is commit {} of {location}, and not of {ours}", short(&commit.id)),
            "name the repository that the daemon follows with --git",
        )),
        (_, location, _) => Err(CliError::usage(
            format!("what is in force comes from {location}, which has no commits"),
            "name a commit in the place of `current`",
        )),
    }
}

/// The differences for programs: both commits, and the resources that differ.
fn to_value(before: &Desired, after: &Desired, plan: &Plan, secrets: ShowSecrets) -> Value {
    let mut resources = match to_json(plan, secrets) {
        Value::Object(mut map) => (map.remove("resources"), map.remove("summary")),
        _ => (None, None),
    };
    if let Some(Value::Object(all)) = &mut resources.0 {
        all.retain(|_, resource| resource["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
        for (id, resource) in all {
            let Value::Object(resource) = resource else { continue };
            for name in OF_A_CLUSTER {
                resource.remove(name);
            }
            let is_in = |desired: &Desired| id.parse().is_ok_and(|id: ResourceId| desired.resources.contains_key(&id));
            let change = match (is_in(before), is_in(after)) {
                (false, _) => "created",
                (true, true) => "changed",
                (true, false) => "removed",
            };
            resource.insert("change".into(), change.into());
        }
    }
    if let Some(Value::Object(summary)) = &mut resources.1 {
        summary.remove("held");
    }
    let side = |desired: &Desired| {
        let commit = desired.commit.as_ref();
        json!({
            "revision": desired.revision,
            "author": commit.map(|commit| &commit.author),
            "subject": commit.map(|commit| &commit.subject),
            "errors": desired.errors(),
        })
    };
    json!({ "from": side(before), "to": side(after), "summary": resources.1, "resources": resources.0 })
}
