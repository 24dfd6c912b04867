//! From the text of a notification file to [`Settings`], or to everything that is wrong in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::rules::{GroupBy, Rule};
use super::settings::{Email, Host, HostKind, Kafka, MailTls, Settings, Sink, Webhook};
use super::shapes::NOTIFICATIONS;
use super::{decide, template};
use crate::config::Secret;
use crate::desired::check::{Checker, report};
use crate::desired::checked::{Name, Object, Typed, Value};
use crate::desired::fields::Kind as Shape;
use crate::desired::policy::Pattern;
use crate::desired::problems::Problems;
use crate::desired::yaml::expand::{self, Given};
use crate::desired::yaml::{Data, Node, Span, push_index, push_key};
use crate::model::nearest::nearest;
use crate::model::{Kind, Problem, Severity, parse_duration};
use crate::report::concerns::{ConcernKind, ConcernSeverity};

/// How long to wait for more unless a rule says so: a bad commit breaks its resources within seconds of one another.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// The least time between two messages of a group unless a rule says so.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(300);

/// The longest time that a rule may name.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Types of what happens and is no concern.
pub(super) const NEWS: [&str; 3] = ["commit", decide::DEPLOYED, "command"];

/// How many sinks and rules there may be: each sink has a task of its own.
const MOST: usize = 50;

const EXAMPLE: &str =
    "write `sinks: {chat: {type: slack, url_file: /etc/ofop/slack.url}}` and below it `rules: [{to: [chat]}]`";

/// What a text says.
#[derive(Debug)]
pub struct Parsed {
    /// What it says; none when something is wrong.
    pub settings: Option<Settings>,
    /// What is wrong or odd.
    pub problems: Vec<Problem>,
    /// Secrets stand in the text itself, so that nobody else may read the file.
    pub holds_secrets: bool,
}

/// Reads a secret out of the file that somebody names.
pub trait ReadSecret {
    /// The text.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    fn read(&self, path: &Path) -> Result<String, (String, String)>;
}

/// Reads a notification file. `${NAME}` stands for any variable, and files with secrets are read.
pub fn parse(shown: &Arc<str>, text: &str, variables: &BTreeMap<String, String>, files: &dyn ReadSecret) -> Parsed {
    let mut problems = Problems::new(Arc::clone(shown), text);
    let mut reader = Reader { problems: &mut problems, files, holds_secrets: false };
    let settings = reader.file(text, variables);
    let holds_secrets = reader.holds_secrets;
    let failed = problems.errors() > 0;
    let problems = problems.finish().into_iter().map(discreet).collect();
    Parsed { settings: settings.filter(|_| !failed), problems, holds_secrets }
}

/// A problem that shows no secret: neither the value of a field that holds one, nor a line that may.
fn discreet(mut problem: Problem) -> Problem {
    const MARKS: [&str; 9] = ["url", "secret", "token", "password", "options", "username", "://", "credential", "key"];
    let field = problem.path.rsplit(['.', '[']).next().unwrap_or_default();
    let is_secret = ["url", "secret", "token", "password"].contains(&field) || problem.path.contains(".options.");
    if is_secret && problem.message.starts_with("must be") {
        "must be a text".clone_into(&mut problem.message);
        problem.hint = Some("put it in quotes".to_owned());
    }
    let may_show = |line: &str| {
        let lower = line.to_lowercase();
        (line.contains(':') || line.trim_start().starts_with("- ")) && !MARKS.iter().any(|mark| lower.contains(mark))
    };
    problem.source_line = problem.source_line.filter(|line| may_show(line));
    problem
}

struct Reader<'r, 'p, 't> {
    problems: &'p mut Problems<'t>,
    files: &'r dyn ReadSecret,
    holds_secrets: bool,
}

/// An object and the path to it.
#[derive(Clone, Copy)]
struct At<'o> {
    object: &'o Object,
    path: &'o str,
}

impl At<'_> {
    fn path(self, name: &str) -> String {
        let mut path = self.path.to_owned();
        push_key(&mut path, name);
        path
    }
}

impl Reader<'_, '_, '_> {
    fn file(&mut self, text: &str, variables: &BTreeMap<String, String>) -> Option<Settings> {
        let none = BTreeSet::new();
        let given = Given { variables, withheld: &none, unlisted: &none, secret: &none };
        let reading = match expand::read(text, given) {
            Ok(reading) => reading,
            Err(errors) => {
                report(errors, Severity::Error, self.problems);
                return None;
            }
        };
        report(reading.warnings, Severity::Warning, self.problems);
        self.problems.unset(reading.unset);
        let node = match reading.root {
            Some(node @ Node { data: Data::Map(_), .. }) => node,
            Some(node) => {
                self.problems.error_hint(node.at, "", "must be a map with `sinks` and `rules`", EXAMPLE);
                return None;
            }
            None => {
                self.problems.error_hint(Span::default(), "", "the file is empty: nobody would be told", EXAMPLE);
                return None;
            }
        };
        let at = node.at;
        let value = Checker::new(self.problems, "").value(node, Shape::Object(&NOTIFICATIONS), at);
        let Typed::Object(object) = &value.typed else { return None };
        let root = At { object, path: "" };
        let sinks = self.sinks(root, at);
        let rules = self.rules(root, &sinks, at);
        let link = self.address(root, "link").map(|url| url.as_str().trim_end_matches('/').to_owned());
        Some(Settings { sinks, rules, link })
    }

    fn sinks(&mut self, root: At<'_>, at: Span) -> BTreeMap<String, Sink> {
        let mut sinks = BTreeMap::new();
        let entries = root.object.map("sinks");
        if entries.is_empty() && !matches!(root.object.get("sinks").map(|it| &it.typed), Some(Typed::Invalid)) {
            self.problems.error_hint(at, "sinks", "there is no sink: nobody would be told", EXAMPLE);
        }
        if entries.len() > MOST {
            self.problems.error_hint(
                root.object.at("sinks"),
                "sinks",
                format!("more than {MOST} sinks"),
                "leave some out",
            );
        }
        for (name, value) in entries {
            let mut path = "sinks".to_owned();
            push_key(&mut path, &name.shown);
            self.check_name(name, &path);
            let Typed::Object(object) = &value.typed else { continue };
            if let Some(sink) = self.sink(At { object, path: &path }) {
                sinks.insert(name.text.clone(), sink);
            }
        }
        sinks
    }

    /// Names are labels of metrics.
    fn check_name(&mut self, name: &Name, path: &str) {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.text.is_empty() || name.text.len() > 40 || !name.text.chars().all(fine) {
            let hint = "write up to 40 small letters, digits, `-` and `_`, such as `line-2-chat`";
            self.problems.error_hint(name.at, path, "is no name for a sink", hint);
        }
    }

    fn sink(&mut self, at: At<'_>) -> Option<Sink> {
        match at.object.text("type")? {
            "webhook" => self.webhook(at).map(Sink::Webhook),
            "slack" => self.secret_address(at).map(Sink::Slack),
            "teams" => self.secret_address(at).map(Sink::Teams),
            "mattermost" => {
                let channel = at.object.text("channel").map(str::to_owned);
                self.secret_address(at).map(|url| Sink::Mattermost { url, channel })
            }
            "matrix" => self.matrix(at),
            "email" => self.email(at).map(Sink::Email),
            "kafka" => self.kafka(at).map(Sink::Kafka),
            "github" => self.host(at, HostKind::GitHub, Some("https://api.github.com")),
            "gitlab" => self.host(at, HostKind::GitLab, Some("https://gitlab.com")),
            "gitea" | "forgejo" => self.host(at, HostKind::Gitea, None),
            _ => None,
        }
    }

    fn webhook(&mut self, at: At<'_>) -> Option<Webhook> {
        let url = self.secret_address(at);
        let (secret, token) = (self.secret(at, "secret"), self.secret(at, "token"));
        if let Some(secret) = &secret
            && super::format::signing_key(secret.expose()).is_none()
        {
            let hint =
                "make one with: head -c 32 /dev/urandom | base64; one that begins with `whsec_` is Base64 behind it";
            self.wrong(at, "secret", "has fewer than 16 characters, or is no Base64 behind `whsec_`", hint);
        }
        let content_type = at.object.text("content_type").unwrap_or("application/json").to_owned();
        if reqwest::header::HeaderValue::from_str(&content_type).is_err() || !content_type.contains('/') {
            self.wrong(
                at,
                "content_type",
                "is no content type",
                "write one such as `application/json` or `text/plain`",
            );
        }
        let template = at.object.text("template").map(str::to_owned);
        if let Some(text) = &template
            && let Err(problem) = template::check(text, content_type.contains("json"))
        {
            let hint =
                "the fields are those of docs/notifications.md; `{{ title | tojson }}` puts quotes around a text";
            self.wrong(at, "template", &problem, hint);
        }
        if template.is_none() && !at.object.is_null("content_type") {
            self.wrong(at, "content_type", "is about a template, and there is none", "leave it out: JSON is sent");
        }
        Some(Webhook { url: url?, secret, token, template, content_type })
    }

    fn matrix(&mut self, at: At<'_>) -> Option<Sink> {
        let homeserver = self.address(at, "homeserver").map(|url| url.as_str().trim_end_matches('/').to_owned());
        let room = at.object.text("room").unwrap_or_default().to_owned();
        if !room.is_empty() && !room.starts_with('!') {
            let hint = "write the room's id, which begins with `!`; clients show it in the settings of the room";
            self.wrong(at, "room", "is no id of a room", hint);
        }
        let token = self.secret_needed(at, "token");
        Some(Sink::Matrix { homeserver: homeserver?, room, token: token? })
    }

    fn email(&mut self, at: At<'_>) -> Option<Email> {
        let tls = match at.object.text("tls") {
            Some("tls") => MailTls::Tls,
            Some("none") => MailTls::None,
            _ => MailTls::StartTls,
        };
        let usual = match tls {
            MailTls::StartTls => 587,
            MailTls::Tls => 465,
            MailTls::None => 25,
        };
        let port = at.object.int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(usual);
        let password = self.secret(at, "password");
        let username = at.object.text("username").map(str::to_owned);
        let credentials = match (username, password) {
            (Some(username), Some(password)) => Some((username, password)),
            (None, None) => None,
            (Some(_), None) => {
                self.wrong(at, "username", "has no password", "add `password_file`, or leave both out");
                None
            }
            (None, Some(_)) => {
                self.problems.error_hint(
                    at.object.at("type"),
                    at.path,
                    "a password without `username`",
                    "add `username`",
                );
                None
            }
        };
        if credentials.is_some() && tls == MailTls::None {
            let hint = "leave `tls` out, or the password out if the server takes mail without one";
            self.wrong(at, "tls", "would send the password readable for everybody", hint);
        }
        for (name, text) in std::iter::once(("from", at.object.text("from")))
            .chain(at.object.list("to").iter().map(|value| ("to", text(value))))
        {
            if let Some(text) = text
                && super::email::mailbox(text).is_none()
            {
                self.wrong(at, name, "is no mail address", "write `name@host`, or `Words <name@host>`");
            }
        }
        let to: Vec<String> = at.object.list("to").iter().filter_map(text).map(str::to_owned).collect();
        if to.is_empty() && !at.object.is_null("to") {
            self.wrong(at, "to", "names nobody", "write at least one address");
        }
        let server = at.object.text("server").unwrap_or_default().trim().to_owned();
        if server.contains(['/', ':', '@', ' ']) && server.parse::<IpAddr>().is_err() {
            self.wrong(at, "server", "is no host name", "write the name alone; the port goes into `port`");
        }
        let from = at.object.text("from").unwrap_or_default().to_owned();
        Some(Email { server, port, tls, credentials, from, to })
    }

    fn kafka(&mut self, at: At<'_>) -> Option<Kafka> {
        let topic = at.object.text("topic")?.to_owned();
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(fine) {
            self.wrong(at, "topic", "is no name of a topic", "write up to 249 letters, digits, `.`, `_` and `-`");
        }
        let brokers = at.object.text("brokers").map(str::to_owned);
        if brokers.is_none() && !at.object.map("options").is_empty() {
            let hint = "name `brokers` as well; those of KAFKA_BROKER have the options of the settings";
            self.wrong(at, "options", "are about brokers that are named here", hint);
        }
        let mut options = BTreeMap::new();
        for (name, value) in at.object.map("options") {
            let Some(text) = text(value) else { continue };
            self.holds_secrets |= super::settings::is_secret_option(&name.text) && !value.hidden;
            options.insert(name.text.clone(), Secret::new(text));
        }
        Some(Kafka { topic, brokers, options })
    }

    fn host(&mut self, at: At<'_>, kind: HostKind, usual: Option<&str>) -> Option<Sink> {
        let url = match (at.object.is_null("url"), usual) {
            (true, Some(usual)) => Some(usual.to_owned()),
            (true, None) => {
                let hint = "write the server's address, such as `https://git.plant.example`";
                self.problems.error_hint(at.object.at("type"), &at.path("url"), "`url` is missing", hint);
                None
            }
            (false, _) => self.address(at, "url").map(|url| url.as_str().trim_end_matches('/').to_owned()),
        };
        let repository = at.object.text("repository").unwrap_or_default().trim_matches('/').to_owned();
        let parts = repository.split('/').count();
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let is_number = kind == HostKind::GitLab && repository.chars().all(|c| c.is_ascii_digit());
        let named = if kind == HostKind::GitLab { parts >= 2 } else { parts == 2 };
        let fits =
            named && repository.chars().all(fine) && repository.split('/').all(|it| !it.is_empty() && it != "..");
        let is_repository = is_number || fits;
        if !repository.is_empty() && !is_repository {
            self.wrong(at, "repository", "is no repository", "write `OWNER/NAME`, without the host");
        }
        let token = self.secret_needed(at, "token");
        let context = at.object.text("context").map(str::to_owned);
        Some(Sink::Commit(Host { kind, url: url?, repository, token: token?, context }))
    }

    fn wrong(&mut self, at: At<'_>, name: &str, message: &str, hint: &str) {
        self.problems.error_hint(at.object.at(name), &at.path(name), message, hint);
    }

    /// The secret in a field, or in the file that `NAME_file` names.
    fn secret(&mut self, at: At<'_>, name: &str) -> Option<Secret> {
        let file = format!("{name}_file");
        if let (Some(_), Some(_)) = (at.object.text(name), at.object.text(&file)) {
            self.wrong(at, &file, &format!("`{name}` is given as well"), "remove one of the two");
            return None;
        }
        if let Some(path) = at.object.text(&file) {
            return match self.files.read(Path::new(path)) {
                Ok(text) if text.trim().is_empty() => {
                    self.wrong(at, &file, "names a file that is empty", "put the secret into it, and nothing else");
                    None
                }
                Ok(text) => Some(Secret::new(text.trim())),
                Err((message, hint)) => {
                    self.wrong(at, &file, &message, &hint);
                    None
                }
            };
        }
        let value = at.object.get(name)?;
        let text = text(value)?.trim();
        if text.is_empty() {
            self.wrong(at, name, "is empty", &format!("give a value, or `{file}`"));
            return None;
        }
        self.holds_secrets |= !value.hidden;
        Some(Secret::new(text))
    }

    fn secret_needed(&mut self, at: At<'_>, name: &str) -> Option<Secret> {
        let file = format!("{name}_file");
        if at.object.is_null(name) && at.object.is_null(&file) {
            let hint = format!("name a file that holds it with `{file}`, or a variable: `{name}: ${{NAME}}`");
            self.problems.error_hint(at.object.at("type"), &at.path(name), format!("`{name}` is missing"), hint);
        }
        self.secret(at, name)
    }

    fn secret_address(&mut self, at: At<'_>) -> Option<Secret> {
        let url = self.secret_needed(at, "url")?;
        self.check_address(at, "url", url.expose())?;
        Some(url)
    }

    fn address(&mut self, at: At<'_>, name: &str) -> Option<Url> {
        let text = at.object.text(name)?;
        self.check_address(at, name, text)
    }

    /// An address that can be spoken to. Nothing of it is quoted.
    fn check_address(&mut self, at: At<'_>, name: &str, text: &str) -> Option<Url> {
        let url = Url::parse(text.trim()).ok();
        let Some(url) = url.filter(|url| matches!(url.scheme(), "https" | "http") && url.host_str().is_some()) else {
            self.wrong(at, name, "is no address", "write one that begins with `https://` and names a host");
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() {
            self.wrong(at, name, "holds a user name or password", "use a token instead");
            return None;
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if url.scheme() == "http" && !is_here && name != "link" {
            let hint = Some("use `https://`".to_owned());
            let message = "is not encrypted: whoever is on the way reads messages and secrets";
            self.problems.warn(at.object.at(name), &at.path(name), message, hint);
        }
        Some(url)
    }

    fn rules(&mut self, root: At<'_>, sinks: &BTreeMap<String, Sink>, at: Span) -> Vec<Rule> {
        let list = root.object.list("rules");
        let all: Vec<&str> = root.object.map("sinks").iter().map(|(name, _)| name.text.as_str()).collect();
        let takes_messages = |sink: &Sink| !matches!(sink, Sink::Commit(_));
        if list.is_empty() && sinks.values().any(takes_messages) && root.object.is_null("rules") {
            self.problems.error_hint(
                at,
                "rules",
                "there is no rule: nobody would be told",
                "add `rules: [{to: [SINK]}]`",
            );
        }
        if list.len() > MOST {
            self.problems.error_hint(
                root.object.at("rules"),
                "rules",
                format!("more than {MOST} rules"),
                "leave some out",
            );
        }
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let mut path = "rules".to_owned();
            push_index(&mut path, index);
            let Typed::Object(object) = &value.typed else { continue };
            let at = At { object, path: &path };
            let rule = self.rule(at, index, sinks, &all);
            if !names.insert(rule.name.clone()) {
                self.wrong(at, "name", "is the name of another rule as well", "choose another one");
            }
            rules.push(rule);
        }
        rules
    }

    fn rule(&mut self, at: At<'_>, index: usize, sinks: &BTreeMap<String, Sink>, all: &[&str]) -> Rule {
        let to: Vec<String> = at.object.list("to").iter().filter_map(text).map(str::to_owned).collect();
        for name in &to {
            if !all.contains(&name.as_str()) {
                let hint = meant(name, all, "sinks");
                self.wrong(at, "to", &format!("there is no sink `{}`", name.escape_debug()), &hint);
            } else if let Some(Sink::Commit(_)) = sinks.get(name) {
                let hint = "leave it out: it is told of every commit without a rule";
                self.wrong(at, "to", &format!("`{name}` shows states of commits and takes no messages"), hint);
            }
        }
        if to.is_empty() && !at.object.is_null("to") {
            self.wrong(at, "to", "names no sink", "write at least one");
        }
        let severity = match at.object.text("severity") {
            Some("info") => ConcernSeverity::Info,
            Some("critical") => ConcernSeverity::Critical,
            _ => ConcernSeverity::Warning,
        };
        let kinds = at.object.list("kinds").iter().filter_map(text);
        let kinds = kinds.filter_map(|word| Kind::ALL.into_iter().find(|kind| kind.as_str() == word)).collect();
        let group_by = match at.object.is_null("group_by") {
            true => vec![GroupBy::Type],
            false => at.object.list("group_by").iter().filter_map(text).filter_map(GroupBy::parse).collect(),
        };
        Rule {
            name: at.object.text("name").map_or_else(|| format!("rule {}", index + 1), str::to_owned),
            to,
            severity,
            types: self.types(at, severity),
            kinds,
            resources: self.patterns(at, "resources"),
            files: self.patterns(at, "files"),
            group_by,
            wait: self.length(at, "wait").unwrap_or(DEFAULT_WAIT.as_millis() as u64),
            interval: self.length(at, "interval").unwrap_or(DEFAULT_INTERVAL.as_millis() as u64),
            repeat: self.length(at, "repeat"),
        }
    }

    fn types(&mut self, at: At<'_>, severity: ConcernSeverity) -> Vec<String> {
        let known: Vec<&str> = ConcernKind::all().map(ConcernKind::as_str).chain(NEWS).collect();
        let types: Vec<String> = at.object.list("types").iter().filter_map(text).map(str::to_owned).collect();
        for word in &types {
            if !known.contains(&word.as_str()) {
                let hint = meant(word, &known, "types");
                self.wrong(at, "types", &format!("there is no type `{}`", word.escape_debug()), &hint);
            } else if NEWS.contains(&word.as_str()) && severity > ConcernSeverity::Info {
                let hint = "add `severity: info` to the rule";
                self.wrong(at, "types", &format!("`{word}` is info, which the rule leaves out"), hint);
            }
        }
        types
    }

    fn patterns(&mut self, at: At<'_>, name: &str) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for value in at.object.list(name) {
            let Some(text) = text(value) else { continue };
            match Pattern::words(text) {
                Some(pattern) => patterns.push(pattern),
                None => self.wrong(at, name, "holds no pattern", "`*` stands for any characters but `/`, `**` for any"),
            }
        }
        patterns
    }

    fn length(&mut self, at: At<'_>, name: &str) -> Option<u64> {
        let text = at.object.text(name)?;
        let length = parse_duration(text).filter(|length| *length <= LONGEST && !length.is_zero());
        if length.is_none() {
            let message = format!("`{}` is not a time between 1ms and 720h", text.escape_debug());
            self.wrong(at, name, &message, "write a number with its unit: 30s, 5m or 12h");
        }
        length.and_then(|length| u64::try_from(length.as_millis()).ok())
    }
}

/// Which name is meant by one that is none, or else which ones there are.
fn meant(wrong: &str, names: &[&str], what: &str) -> String {
    match nearest(wrong, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the {what} are {}", names.join(", ")),
    }
}

fn text(value: &Value) -> Option<&str> {
    match &value.typed {
        Typed::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
