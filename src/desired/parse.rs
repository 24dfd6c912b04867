//! One manifest file: from text to a validated [`Manifest`], or to every reason why not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::check::{Checker, report, shown};
use super::checked::Typed;
use super::deploy::MAX_REPLICAS;
use super::fields::{Kind, Shape, is_slip, nearest};
use super::handling::{self, Described};
use super::manifest::Manifest;
use super::namespace::Namespace;
use super::policy::{self, Policy, Rules};
use super::problems::Problems;
use super::yaml::expand::{self, Given};
use super::yaml::{Data, Entry, Node, Span, key_text};
use super::{ParsedFile, app, device, kind, shapes};
use crate::model::Kind as ResourceKind;
use crate::model::{HiddenValues, OtherFile, PlatformKind, Severity};

/// What parsing depends on beside the text.
#[derive(Debug, Clone)]
pub struct ParseContext {
    /// What will run the services.
    pub platform: PlatformKind,
    /// What `${VAR}` stands for.
    pub variables: Arc<BTreeMap<String, String>>,
    /// Variables that no manifest may refer to.
    pub withheld: Arc<BTreeSet<String>>,
    /// Variables that no manifest is given, since a setting does not list them.
    pub unlisted: Arc<BTreeSet<String>>,
    /// Variables whose values are secrets wherever they land.
    pub secret: Arc<BTreeSet<String>>,
    /// Gets those values.
    pub hidden: HiddenValues,
    /// The unified namespace.
    pub namespace: Namespace,
    /// Whether an absolute path is a directory on this host; asked for `local` storage on the docker platform.
    pub directory_exists: fn(&str) -> bool,
    /// Where a directory of this host really lies, its symlinks resolved; asked where a policy allows some of them.
    pub real_directory: fn(&str) -> Option<String>,
    /// What the operator allows; none where everything is allowed.
    pub policy: Option<Arc<Policy>>,
}

impl ParseContext {
    /// For a platform, with no variables, no namespace, and a host that has every directory.
    pub fn new(platform: PlatformKind) -> Self {
        ParseContext {
            platform,
            variables: Arc::default(),
            withheld: Arc::default(),
            unlisted: Arc::default(),
            secret: Arc::default(),
            hidden: HiddenValues::default(),
            namespace: Namespace::None,
            directory_exists: |_| true,
            real_directory: |path| Some(path.to_owned()),
            policy: None,
        }
    }
}

/// Parses one manifest file.
///
/// The file is taken or refused as a whole: when any problem is an error, there is no manifest.
pub fn parse(path: &Arc<str>, text: &str, digest: [u8; 32], context: &ParseContext) -> ParsedFile {
    parse_below(path, path, text, digest, context)
}

/// Parses one manifest file that lies at `below` under the root of its source, which decides what rules of the policy
/// hold for it.
pub(super) fn parse_below(
    path: &Arc<str>,
    below: &str,
    text: &str,
    digest: [u8; 32],
    context: &ParseContext,
) -> ParsedFile {
    let mut problems = Problems::new(path.clone(), text);
    let mut nature = Nature::Manifest;
    let rules = context.policy.as_ref().and_then(|policy| policy.rules(below));
    let allowed = Allowed { policy: context.policy.is_some(), rules };
    let manifest = read(text, context, allowed, &mut problems, &mut nature);
    let manifest = manifest.filter(|_| problems.errors() == 0).map(Arc::new);
    let other = match nature {
        Nature::Other(..) if kind::is_called_like_a_manifest(path) => None,
        Nature::Other(reason, hint) => Some(OtherFile { hint, ..OtherFile::new(path.clone(), reason) }),
        Nature::Manifest => None,
    };
    let (path, rules) = (path.clone(), rules.cloned());
    ParsedFile { path, digest, manifest, problems: problems.finish(), rules, other }
}

/// What the operator allows in a file.
#[derive(Debug, Clone, Copy)]
struct Allowed<'a> {
    /// There is a policy.
    policy: bool,
    /// Its rules for the file's folder.
    rules: Option<&'a Arc<Rules>>,
}

/// What a file is, going by what it holds.
enum Nature {
    Manifest,
    /// Something else: what, and what may have been meant.
    Other(String, Option<String>),
}

fn read(
    text: &str,
    context: &ParseContext,
    allowed: Allowed<'_>,
    problems: &mut Problems<'_>,
    nature: &mut Nature,
) -> Option<Manifest> {
    let given = Given {
        variables: &context.variables,
        withheld: &context.withheld,
        unlisted: &context.unlisted,
        secret: &context.secret,
    };
    let reading = match expand::read(text, given) {
        Ok(reading) => reading,
        Err(errors) => {
            if !kind::looks_like_a_manifest(text) {
                *nature = Nature::Other("cannot be read as YAML and has neither `apps` nor `devices`".into(), None);
            }
            report(errors, Severity::Error, problems);
            return None;
        }
    };
    report(reading.warnings, Severity::Warning, problems);
    report(reading.refused, Severity::Error, problems);
    context.hidden.add(reading.secrets.iter().map(String::as_str));
    context.hidden.add_of_environment(reading.secrets.iter().chain(&reading.environment_secrets).map(String::as_str));
    problems.unset(reading.unset);
    const HINT: &str = "begin it with `apps:` or `devices:`; to remove what it described, delete the file";
    let entries = match reading.root {
        Some(Node { data: Data::Map(entries), .. }) => entries,
        Some(Node { data: Data::Null, .. }) | None => {
            *nature = Nature::Other("is empty".into(), None);
            problems.error_hint(Span::default(), "", "describes nothing", HINT);
            return None;
        }
        Some(node) => {
            *nature = Nature::Other("is not a map".into(), None);
            problems.error_hint(node.at, "", "must be a map with `apps` or `devices`", HINT);
            return None;
        }
    };
    let is_section =
        |entry: &Entry| matches!(&entry.key.data, Data::Text(name) if kind::SECTIONS.contains(&name.as_str()));
    if !entries.iter().any(is_section) {
        let (reason, hint) = kind::describe(&entries);
        *nature = Nature::Other(reason, hint);
    }
    let compose = kind::is_compose(&entries);
    if allowed.policy && matches!(nature, Nature::Manifest) {
        policy::check_file(allowed.rules, context.platform, problems);
    }
    let mut manifest = Manifest::default();
    let mut names = Names::default();
    let mut described = Described::default();
    let mut settings = None;
    let mut empty = true;
    for Entry { key, value } in entries {
        match &key.data {
            Data::Text(name) if name == "apps" => {
                empty = false;
                section(name, value, key.at, &shapes::APP, problems, |name, object, path, problems| {
                    let Some(object) = object else { return described.unreadable() };
                    described.entry(ResourceKind::App, object.text("uuid"));
                    if let Some(rules) = allowed.rules {
                        policy::check_app(rules, object, path, context, problems);
                    }
                    manifest.apps.extend(app::app(name, object, path, context, &mut names, problems));
                });
            }
            Data::Text(name) if name == "devices" => {
                empty = false;
                section(name, value, key.at, &shapes::DEVICE, problems, |name, object, path, problems| {
                    let Some(object) = object else { return described.unreadable() };
                    described.entry(ResourceKind::Device, object.text("uuid"));
                    if let Some(rules) = allowed.rules {
                        policy::check_device(rules, object, path, context.platform, problems);
                    }
                    manifest.devices.extend(device::device(name, object, path, context, &mut names, problems));
                });
            }
            Data::Text(name) if name == handling::KEY => settings = Some((value, key.at)),
            // Keys for other tools, and places to put anchors.
            Data::Text(name) if name.starts_with("x-") => {
                if is_slip(name, handling::KEY) && !key.expanded {
                    let hint = format!("did you mean `{}`?", handling::KEY);
                    problems.warn(key.at, name, "is for other tools and has no effect here", Some(hint));
                }
            }
            other => {
                let name = key_text(other);
                let hint = match nearest(&name, ["apps", "devices", handling::KEY]) {
                    _ if compose => "this is a compose file: write each of its services as an app below `apps:`, with \
                                     a `uuid`, or give the file another name than a manifest's"
                        .into(),
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "a manifest has `apps` and `devices`; names that begin with `x-` are free".into(),
                };
                let what = if key.expanded { String::new() } else { format!(" `{}`", name.escape_debug()) };
                problems.error_hint(key.at, &shown(&key), format!("unknown field{what}"), hint);
            }
        }
    }
    if let Some((node, at)) = settings {
        let place = handling::Section { node, at, rules: allowed.rules.map(|rules| &**rules) };
        handling::read(place, &mut manifest, &described, context, problems);
    }
    if empty {
        problems.error_hint(Span::default(), "", "has neither `apps` nor `devices`", HINT);
    }
    Some(manifest)
}

/// Checks the entries below `apps:` or `devices:` and hands them on, those that have the right shape with what
/// they hold.
fn section(
    section: &str,
    node: Node,
    at: Span,
    shape: &'static Shape,
    problems: &mut Problems<'_>,
    mut take: impl FnMut(&super::checked::Name, Option<&super::checked::Object>, &str, &mut Problems<'_>),
) {
    let Data::Map(entries) = node.data else {
        let message = format!("must be a map of names to entries, not {}", node.data.describe());
        let hint = match node.data {
            Data::List(_) => format!(
                "give each entry a name of its own instead of `- `, such as `{}:`, and its fields below it, indented",
                if section == "apps" { "press" } else { "mill" }
            ),
            _ => format!("write `{section}: {{}}` if there are none"),
        };
        problems.error_hint(at, section, message, hint);
        return;
    };
    for (name, value) in Checker::new(problems, section).entries(entries, Kind::Object(shape)) {
        let object = match &value.typed {
            Typed::Object(object) => Some(object),
            _ => None,
        };
        let mut path = section.to_owned();
        super::yaml::push_key(&mut path, &name.shown);
        take(&name, object, &path, problems);
    }
}

/// The names that resources of one file have taken: of services without regard to case, and of assets.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashMap<(&'static str, String), (String, Span)>,
    replicas: u64,
}

impl Names {
    /// Counts the replicas of an app. False when the file has too many by now.
    pub(super) fn replicas(&mut self, replicas: u64) -> bool {
        self.replicas = self.replicas.saturating_add(replicas);
        self.replicas <= MAX_REPLICAS.unsigned_abs()
    }

    /// Takes the name of a service, in lower case.
    pub(super) fn service(&mut self, name: &str, at: Span, path: &str, problems: &mut Problems<'_>) {
        self.take("service", name, at, path, problems);
    }

    /// Takes the uuid of an asset.
    pub(super) fn asset(&mut self, uuid: &str, at: Span, path: &str, problems: &mut Problems<'_>) {
        self.take("asset", uuid, at, path, problems);
    }

    fn take(&mut self, kind: &'static str, name: &str, at: Span, path: &str, problems: &mut Problems<'_>) {
        use std::collections::hash_map::Entry;
        match self.taken.entry((kind, name.to_owned())) {
            Entry::Vacant(vacant) => {
                vacant.insert((path.to_owned(), at));
            }
            // One clash of two resources is told once, not for every service and asset of theirs.
            Entry::Occupied(first) if first.get().0 == path => {}
            Entry::Occupied(mut first) => {
                let (other, place) = first.get_mut();
                let message = format!("leads to the same {kind} as `{other}` in line {}", place.line);
                problems.error_hint(at, path, message, "uuids must differ in more than upper and lower case");
                path.clone_into(other);
            }
        }
    }
}
