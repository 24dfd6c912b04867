//! The command tree, for `clap`.
//!
//! Flags carry no defaults and read no environment here: [`crate::config`] does both, since settings also come
//! from `.ofaenv`, and names what is wrong as the user wrote it.

mod flags;
mod shared;

use std::path::PathBuf;

use std::ffi::OsString;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use super::adopt::AdoptArgs;
use super::apply::ApplyArgs;
use super::complete;
use super::completions::CompletionsArgs;
use super::control::{NamedArgs, ReconcileArgs};
use super::describe::DescribeArgs;
use super::diff::DiffArgs;
use super::doctor::DoctorArgs;
use super::down::DownArgs;
use super::events::EventsArgs;
use super::get::GetArgs;
use super::health::HealthArgs;
use super::history::HistoryArgs;
use super::hold::{FREEZE_EXAMPLES, FreezeArgs, SUSPEND_EXAMPLES, SuspendArgs};
use super::import::ImportArgs;
use super::logs::LogsArgs;
use super::man::ManArgs;
use super::notify::NotifyArgs;
use super::plan::PlanArgs;
use super::policy::PolicyArgs;
use super::registry::RegistryArgs;
use super::render::RenderArgs;
use super::rollout::RolloutsArgs;
use super::run::RunArgs;
use super::schema::SchemaArgs;
use super::validate::ValidateArgs;
use super::version::VersionArgs;
use super::wait_for::WaitArgs;

pub use self::shared::{ConvergeArgs, LeaseArgs, PruneArgs, RevisionArgs, TakeOverArgs};

const CLUSTER: &str = "Cluster";
const MANIFESTS: &str = "Manifests";
const OUTPUT: &str = "Output";
pub(super) const DAEMON: &str = "Daemon";
pub(super) const PRUNING: &str = "Removals";

const EXAMPLES: &str = "\
Examples:
  ofop validate desired/            check files, no server needed
  ofop plan --desired desired/      what would be done, and why
  ofop run --desired desired/       keep the cluster in that state, for ever
  ofop get all --desired desired/   what is wanted beside what is there

`ofop options` lists what every command understands: where manifests, engine and registry are, and how to print.
Settings come from flags, then the environment, then .ofaenv in the working directory. OpenFactory's own
variables (KAFKA_BROKER, KSQLDB_URL, OPENFACTORY_…) keep their names and meaning; ours begin with OFOP_.

Exit codes: 0 done, 1 plan found something to do, diff a difference or doctor something to mend, 2 it could not be done,
3 some resources failed, 130 stopped by a signal before it was done.";

/// Keeps an OpenFactory cluster in the state that a directory or git repository of YAML describes.
#[derive(Debug, Parser)]
#[command(
    name = "ofop",
    version,
    about,
    long_about = "Keeps an OpenFactory cluster in the state that a directory or git repository of YAML describes.\n\n\
        It reads the `apps:` and `devices:` files of OpenFactory's own command line, compares them with the \
        services that run on Docker Swarm and with the assets that are registered, and converges: it deploys, \
        updates and tears down, and puts back what somebody changed by hand.",
    after_help = EXAMPLES,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The command tree. What every command understands is told once, by `ofop options`, and not by each command's help.
    pub fn tree() -> clap::Command {
        Cli::command().mut_args(|argument| match argument.is_global_set() {
            true => argument.hide_short_help(true).hide_long_help(true),
            false => argument,
        })
    }

    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// When it means nothing, or asks for help or the version.
    pub(super) fn parse_words(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut matches = Cli::tree().try_get_matches_from(words)?;
        Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut Cli::tree()))
    }
}

/// What every command understands.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// Directory with the manifests: YAML with apps or devices [env: OFOP_DESIRED]
    #[arg(long, value_name = "DIR", global = true, help_heading = MANIFESTS)]
    pub desired: Option<PathBuf>,
    /// Git repository with the manifests: https://…, ssh://…, user@host:path, a path
    /// [env: OFOP_GIT_URL]
    #[arg(long, value_name = "URL", global = true, help_heading = MANIFESTS)]
    pub git: Option<String>,
    /// Branch or tag of the repository [env: OFOP_GIT_BRANCH] [default: its default branch]
    #[arg(long, value_name = "BRANCH", global = true, help_heading = MANIFESTS)]
    pub branch: Option<String>,
    /// Folder of the repository [env: OFOP_GIT_PATH] [default: all of it]
    #[arg(long, value_name = "PATH", global = true, help_heading = MANIFESTS)]
    pub path: Option<String>,
    /// Allowed-signers file: only commits that one of these keys signed come into force
    /// [env: OFOP_GIT_VERIFY_SIGNATURES]
    #[arg(long, value_name = "FILE", global = true, help_heading = MANIFESTS)]
    pub verify_signatures: Option<PathBuf>,
    /// File with public keys, one a line, whose signatures no longer count [env: OFOP_GIT_REVOKED_SIGNERS]
    #[arg(long, value_name = "FILE", global = true, help_heading = MANIFESTS)]
    pub revoked_signers: Option<PathBuf>,
    /// Which commits must be signed: the newest, or each since the one in force [env: OFOP_GIT_SIGNED_COMMITS] [default: head]
    #[arg(long, value_name = "head|all", add = complete::words(&["head", "all"]), global = true, help_heading = MANIFESTS)]
    pub signed_commits: Option<String>,
    /// What to do when the branch's history was rewritten [env: OFOP_GIT_REWRITTEN]
    /// [default: refuse with --verify-signatures, else follow]
    #[arg(long, value_name = "follow|refuse", add = complete::words(&["follow", "refuse"]), global = true, help_heading = MANIFESTS)]
    pub git_rewritten: Option<String>,
    /// Hosts, addresses and networks that URLs of device models may lead to although they are not on the internet:
    /// `nas.plant`, `10.0.0.0/8`, each for every port or with `:8443` for one [env: OFOP_MODEL_HOSTS]
    #[arg(long, value_name = "HOST,…", global = true, help_heading = MANIFESTS)]
    pub model_hosts: Option<String>,
    /// The operator's own file that says what the manifests of each folder may ask for [env: OFOP_POLICY]
    /// [default: everything]
    #[arg(long, value_name = "FILE", global = true, help_heading = MANIFESTS)]
    pub policy: Option<PathBuf>,
    /// Dotenv file with settings and `${VARIABLES}` [default: .ofaenv if it exists]
    #[arg(long, value_name = "FILE", global = true, help_heading = MANIFESTS)]
    pub env_file: Option<PathBuf>,
    /// What runs the services [env: DEPLOYMENT_PLATFORM] [default: swarm]
    #[arg(long, value_name = "swarm|docker", add = complete::words(&["swarm", "docker"]), global = true, help_heading = CLUSTER)]
    pub platform: Option<String>,
    /// What holds the records [env: OFOP_REGISTRY] [default: openfactory if KSQLDB_URL is set, else embedded]
    #[arg(long, value_name = "openfactory|embedded", add = complete::words(&["openfactory", "embedded"]), global = true, help_heading = CLUSTER)]
    pub registry: Option<String>,
    /// The engine, as unix://… or tcp://… [env: OPENFACTORY_MANAGER_NODE_DOCKER_URL, then DOCKER_HOST]
    #[arg(long, value_name = "URL", global = true, help_heading = CLUSTER)]
    pub host: Option<String>,
    /// Whose objects are ours; two operators on one cluster need two names [env: OFOP_INSTANCE] [default: default]
    #[arg(long, value_name = "NAME", global = true, help_heading = CLUSTER)]
    pub instance: Option<String>,
    /// Where the embedded registry, clones of git repositories and, on plain Docker, notes live [env: OFOP_STATE_DIR] [default: .ofop]
    #[arg(long, value_name = "DIR", global = true, help_heading = CLUSTER)]
    pub state_dir: Option<PathBuf>,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, global = true, help_heading = OUTPUT)]
    pub color: ColorWhen,
    /// Only data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = OUTPUT)]
    pub quiet: bool,
    /// More about what happens; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = OUTPUT)]
    pub verbose: u8,
    /// How log lines look [env: OFOP_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "text|json", add = complete::words(&["text", "json"]), global = true, help_heading = OUTPUT)]
    pub log_format: Option<String>,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorWhen {
    /// Whether a stream that is (not) a terminal gets colours.
    pub fn decide(self, terminal: bool) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            ColorWhen::Auto => {
                terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
            ColorWhen::Always => true,
            ColorWhen::Never => false,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the cluster in the desired state, for ever
    #[command(after_help = "\
Examples:
  ofop run --desired desired/
  ofop run --desired /etc/openfactory --listen 0.0.0.0:8420 --token-file /etc/ofop/api_tokens
  ofop run --git https://git.example/plant.git --branch live --path factory

A repository is fetched at each --interval, on `ofop reconcile` and on a webhook. Credentials come from
OFOP_GIT_TOKEN_FILE (or OFOP_GIT_TOKEN) and OFOP_GIT_USER, for SSH from OFOP_GIT_SSH_KEY,
OFOP_GIT_SSH_PASSPHRASE_FILE (or OFOP_GIT_SSH_PASSPHRASE) and OFOP_GIT_KNOWN_HOSTS; never from the command line.

SIGTERM or Ctrl-C lets the calls in flight finish, then ends with 0; a second one ends at once.
The address serves /healthz, /readyz, /metrics and /api/v1/resources; with a webhook secret also POST /webhook,
which makes it look at the manifests at once. Commands need a token; so does reading, health and metrics aside, where
the address is not a loopback one, unless --public-read is given.")]
    Run(RunArgs),
    /// Check files, without a server
    #[command(after_help = "\
Examples:
  ofop validate desired/
  ofop validate app_press.yml -o json

Every problem of every file is shown: the place, the path in the file, the reason, and what to do. With -v also the
files that are no manifests.
Exit code 0 when every file is valid, 2 when one is not.")]
    Validate(ValidateArgs),
    /// Print what files compile to, without a server
    #[command(after_help = "\
Examples:
  ofop render desired/app_press.yml
  ofop render desired/ -o json | jq '.resources[].services[].Name'

The values of environment variables are printed as the files give them.")]
    Render(RenderArgs),
    /// Show what would be done, and why
    #[command(after_help = "\
Examples:
  ofop plan --desired desired/
  ofop plan --desired desired/ -o json
  ofop plan --desired . -o markdown       a comment for a pull request
  ofop plan desired/app_press.yml         only what this file describes
  ofop plan --git https://git.example/plant.git --revision new-press

Exit code 0 when there is nothing to do, 1 when there is or when a resource is in conflict with somebody else, 2 when it
cannot be told.")]
    Plan(PlanArgs),
    /// Converge once
    #[command(after_help = "\
Examples:
  ofop apply --desired desired/ --wait
  ofop apply desired/app_press.yml        only what this file describes; removes nothing else
  ofop apply --desired desired/ --confirm-prune
  ofop apply --git https://git.example/plant.git --revision 3f9c2d1
  ofop apply --desired desired/ --take-over    although a daemon runs, which waits meanwhile

It refuses while a daemon of the instance runs, which would undo it: put the change where that daemon reads its
manifests, and run `ofop reconcile --wait`.

Exit code 0 when everything was converged, 2 when it could not begin, 3 when some resources failed or
a file was refused. With --wait it ends early when it can only end badly, once every step was taken: the last error
says why, and what to do.")]
    Apply(ApplyArgs),
    /// Tear down what files describe, or single resources
    #[command(
        alias = "delete",
        after_help = "\
Examples:
  ofop down desired/app_press.yml
  ofop down desired/ --dry-run            what would go; changes nothing
  ofop down app/PRESS-7                   also when no file describes it any more
  ofop down app/PRESS-7 --yes             in a script, where nobody can be asked
  ofop down --all                         everything of the instance

While a daemon of the instance runs, it is asked to do it (its token is needed, as for `suspend`), and keeps the resource
away although its manifests describe it, until `ofop resume KIND/UUID`. It is found by the address in its lease, or by
--address. Without a daemon this command does it, once: a daemon that starts later deploys again what its manifests
describe. --take-over does it here although a daemon runs, which waits meanwhile and then goes on.

Exit code 0 when all of it is gone, 2 when it could not begin, 3 when some of it is not gone."
    )]
    Down(DownArgs),
    /// List what is wanted beside what is there
    #[command(aliases = ["ls", "status"], after_help = "\
Examples:
  ofop get all --desired desired/
  ofop get app/PRESS-7 device/CNC-1       these alone; also `ofop get app PRESS-7`
  ofop get apps --health Degraded,Progressing --sort-by health
  ofop get resources --file line-2/ -w    what changes of these files' resources, until Ctrl-C
  ofop get apps -o custom-columns=NAME:.resource,IMAGE:.services[0].image
  ofop get services -o name | head -3
  ofop get --address 10.0.0.5:8420        no manifests at hand: as the daemon there sees it

Listed is what the manifests describe, and whatever else carries the operator's mark. AGE is the time since the first
service of a resource was created, SINCE (-o wide) how long its health is what it is. A table fits the terminal; where
there is none, and with -o wide, nothing is cut.")]
    Get(GetArgs),
    /// Show everything about one resource
    #[command(
        alias = "show",
        after_help = "\
Examples:
  ofop describe app/PRESS-7 --desired desired/
  ofop describe device/CNC-1 -o yaml

Conditions, services, tasks, records, the last five revisions that touched it; the last lines of a program that ends
with an error, where the engine can be asked; and the last events when a daemon answers at --address. Where no manifests are named, or --address is and they are not beside it, all of it is as that daemon sees
it."
    )]
    Describe(DescribeArgs),
    /// Print what the programs of a resource wrote
    #[command(
        alias = "log",
        after_help = "\
Examples:
  ofop logs app/PRESS-7
  ofop logs app/PRESS-7 -f --tail 20      and what comes, until Ctrl-C
  ofop logs device/CNC-1 --service cnc-1-producer --since 1h -t
  ofop logs app/PRESS-7 --task 2          of the second replica alone

The engine is asked (--host), which keeps what its logging driver can read. Lines are the program's own: ofop hides no
secret that a program prints, except values of secret variables that it knows itself. Of a line at most 64 KiB are
shown; on a terminal everything but text, tabs and colours is written out."
    )]
    Logs(LogsArgs),
    /// Wait until resources are in sync, healthy or removed
    #[command(after_help = "\
Examples:
  ofop wait app/PRESS-7                   until it is in sync and healthy
  ofop wait app/PRESS-7 app/CAM-7 --for synced --timeout 90s
  ofop wait app/OLD --for removed

It ends early when it can only end badly (an image is missing, a program ends again and again, a conflict): the last
error says why, and what to do. It changes nothing, and has nobody look: `ofop reconcile --wait` does.
Exit code 0 when all of them are, 3 when the time is over or it can only end badly.")]
    Wait(WaitArgs),
    /// Print what the running daemon did
    #[command(after_help = "\
Examples:
  ofop events
  ofop events --since 2h --for app/PRESS-7
  ofop events --type command              who gave which command, from where
  ofop events --watch -o json

They are kept in the daemon's state directory, for OFOP_EVENTS_KEEP (90d) and up to OFOP_EVENTS_MAX (64MiB), and shown
in local time.")]
    Events(EventsArgs),
    /// Show which revision was rolled out when, and what became of it
    #[command(after_help = "\
Examples:
  ofop history
  ofop history app/PRESS-7                what each revision changed of it
  ofop history --revision 3f9c2d1         everything that one revision touched
  ofop history -o json --limit 100

The daemon answers, or where none runs the file in its state directory (--state-dir). Kept for OFOP_HISTORY_KEEP (365d)
and up to OFOP_HISTORY_MAX (64MiB).")]
    History(HistoryArgs),
    /// Compare two commits in terms of services; without commits, the manifests with what runs
    #[command(after_help = "\
Examples:
  ofop diff --desired desired/            the same as `ofop plan`
  ofop diff --git https://git.example/plant.git current main
  ofop diff --git . HEAD~1 HEAD           in a clone
  ofop diff v1.4 v1.5 -o json             the repository is OFOP_GIT_URL

Exit code 0 when both describe the same, 1 when they differ, 2 when it cannot be told.")]
    Diff(DiffArgs),
    /// Tell the running daemon to look again now
    #[command(
        alias = "sync",
        after_help = "\
Examples:
  ofop reconcile
  ofop reconcile app/PRESS-7 --wait       it is tried at once, and alone waited for
  ofop reconcile --wait                   until the newest manifests are in sync and healthy
  ofop reconcile --confirm-prune          removals beyond the guard are meant; for the next plan only

A repository is fetched. With --wait the exit code is 0 when everything is in sync and healthy, resources that are
suspended aside, and 3 when the time is over or it can only end badly (an image is missing, a program ends again and
again, a conflict): the last error says why, and what to do."
    )]
    Reconcile(ReconcileArgs),
    /// Tell the running daemon to leave a resource alone, or everything
    #[command(after_help = SUSPEND_EXAMPLES)]
    Suspend(SuspendArgs),
    /// Tell the running daemon to let changes from manifests wait, or to end that
    #[command(after_help = FREEZE_EXAMPLES)]
    Freeze(FreezeArgs),
    /// Tell the running daemon to take care of a resource again, or of everything
    #[command(after_help = "\
Examples:
  ofop resume app/PRESS-7                 an update that was rolled back is tried once more
  ofop resume app/PRESS-7                 after `ofop down`: it is deployed again
  ofop resume --all                       ends `ofop suspend --all`; what was suspended or taken down by itself stays so

What a manifest suspends (`x-ofop`) stays suspended until the manifest says otherwise.")]
    Resume(NamedArgs),
    /// Take over a resource whose service or asset belongs to a stranger or to another instance
    #[command(after_help = "\
Examples:
  ofop adopt app/PRESS-7                  a service or an asset in its place that carries no owner
  ofop adopt app/PRESS-7 --from plant2    what belongs to the operator instance plant2
  ofop adopt app/PRESS-7 --dry-run        what would change, field by field

A manifest must describe the resource. What differs from it is shown first; then the mark and the differences are
written. A task restarts when a field of its service differs, and not for the mark alone. The running daemon is asked
to do it; without one it is done here, once. `x-ofop: {adopt: true}` in a manifest does the same for what carries no
owner.")]
    Adopt(AdoptArgs),
    /// Write manifests for what runs already
    #[command(after_help = "\
Examples:
  ofop import > factory.yml
  ofop import --into desired/             one file for each resource
  ofop import app/PRESS-7 device/CNC-1
  ofop import --desired desired/          only what these manifests do not describe yet

Services of a Swarm that OpenFactory or ofop deployed, and devices that are registered, become manifests. Each is compiled
and compared with what runs before it is written: one under which anything would change is left out, and the fields that
would are listed (--inexact writes it all the same). Nothing of the cluster is changed; `ofop plan` then shows what
would be: our mark, and nothing else. Values of environment variables are written as they are.
Exit code 0 when everything found is written exactly, 3 when something would change.")]
    Import(ImportArgs),
    /// See how changes go out, go on where one broke something, or stop
    #[command(after_help = "\
Examples:
  ofop rollout status                     what is on its way, what waits, what broke
  ofop rollout resume                     go on without what broke
  ofop rollout start app/PRESS-7 --now    its changes go out although its window is closed
  ofop rollout abort                      nothing more of this revision goes out

Changes of manifests go out a part at a time (`--rollout` of `ofop run`, `rollout` in a manifest's `x-ofop`). When one
breaks a resource, everything not yet changed keeps its old version until a commit changes what broke.")]
    Rollout(RolloutsArgs),
    /// Check or set up Kafka and ksqlDB
    #[command(after_help = "\
Examples:
  ofop registry check
  ofop registry init

The addresses are KAFKA_BROKER and KSQLDB_URL, as for OpenFactory itself; credentials and TLS are set by
KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_…, KAFKA_SSL_… and OFOP_KSQLDB_USERNAME, …_PASSWORD_FILE, …_CA_FILE.
`check` changes nothing. `init` makes the streams and tables that are missing and leaves others as they are.
Exit code 0 when all is well, 2 when something must be mended.")]
    Registry(RegistryArgs),
    /// Check the policy, and what the manifests ask for against it
    #[command(after_help = "\
Examples:
  ofop policy check --policy /etc/ofop/policy.yml
  ofop policy check --policy ../ofop/policy.yml .      the checkout of a proposal

The policy is the operator's own file: it may not lie among the manifests. Every command that reads manifests respects
it. Listed is how many files each folder of the policy governs; docs/security.md says what a policy can hold.
Exit code 0 when the policy and every manifest are valid, 2 when not.")]
    Policy(PolicyArgs),
    /// Check who is told what needs a person, and try it
    #[command(after_help = "\
Examples:
  ofop notify check --notify /etc/ofop/notify.yml
  ofop notify test --notify /etc/ofop/notify.yml         a message to every sink, and what it says to that
  ofop notify test line-2-chat
  ofop notify test github --commit 0123abcd…             a status on that commit; without it the repository is only looked at

The file is the operator's own: it may not lie among the manifests. docs/notifications.md says what it can hold.
Exit code 0 when all is well, 2 when the file is not valid, 3 when a sink did not take the message.")]
    Notify(NotifyArgs),
    /// Print a JSON Schema of manifests, for editors
    #[command(after_help = "\
Example:
  ofop schema > openfactory.schema.json
  then begin a manifest with
  # yaml-language-server: $schema=openfactory.schema.json")]
    Schema(SchemaArgs),
    /// Look whether everything is in place that the operator needs
    #[command(after_help = "\
Examples:
  ofop doctor --desired desired/
  ofop doctor -o json | jq '.[] | select(.level != \"ok\")'

Looked at are the settings, the engine and its swarm, clocks, manifests, the repository and its signatures, networks that
manifests name, the registry, the state directory, tokens and addresses, the lease, and the daemon where one runs. One
line each: OK, WARN or FAIL, and below it what to do. Nothing is changed.
Exit code 0 when nothing fails, 1 when something does.")]
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    #[command(
        alias = "completion",
        after_help = "\
Examples:
  ofop completions bash > /etc/bash_completion.d/ofop
  ofop completions zsh > \"${fpath[1]}/_ofop\"
  ofop completions fish > ~/.config/fish/completions/ofop.fish

The script asks `ofop` itself, which also knows the names of resources: those of the daemon, else of the manifests. Make it
anew after an upgrade."
    )]
    Completions(CompletionsArgs),
    /// Ask the running daemon whether it works, for supervisors
    #[command(after_help = "\
Examples:
  ofop health                             HEALTHCHECK of the container image
  ofop health --ready --address 10.0.0.5:8420

It asks /healthz, or /readyz with --ready; neither takes a token. Exit code 0 when the daemon answers that it is well, 2 when
not.")]
    Health(HealthArgs),
    /// Print the version, and what it was built from
    #[command(after_help = "\
Examples:
  ofop version
  ofop version -o json

Commit and date are those of a release; a program that was built in another way has none. `engine_api` holds the oldest and
the newest version of the engine's API that it speaks.")]
    Version(VersionArgs),
    /// Write the manual pages
    #[command(after_help = "\
Example:
  ofop man /usr/local/share/man/man1

One page for ofop and one for each command, as `man ofop` and `man ofop-apply` show them.")]
    Man(ManArgs),
    /// List the options that every command understands
    #[command(after_help = "\
Example:
  ofop options")]
    Options,
}

/// How text is printed when there is a choice of text or JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TextOrJson {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How text is printed when there is a choice of text, JSON or YAML.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TextJsonYaml {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// The same as JSON, to read.
    Yaml,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_and_every_argument_a_help() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example") && after.contains(&format!("ofop {name}")), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
        }
    }
}
