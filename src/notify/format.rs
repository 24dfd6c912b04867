//! Messages as each product wants them: pure. Where a format comes from is said in docs/notifications.md.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::message::{Change, CommitState, CommitStatus, Item, Message, MessageStatus, Payload};
use super::settings::{Host, HostKind, Sink, Webhook};
use super::template;
use crate::model::text::{cut, html};
use crate::report::concerns::ConcernSeverity;

/// How many items a chat shows; its own message says how many there are.
const CHAT_ITEMS: usize = 15;

/// The longest line of an item in a chat, in characters: with [`CHAT_ITEMS`] far below Teams's 28 KB and Slack's 3,000
/// characters for a section, of which each item has its own.
const CHAT_LINE: usize = 700;

/// The longest header of Slack, in characters.
const SLACK_HEADER: usize = 150;

/// The longest description of a status that GitHub takes, in characters. Others take more.
const DESCRIPTION: usize = 140;

/// Shorter secrets can be guessed.
const SHORTEST_SECRET: usize = 16;

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// GET.
    Get,
}

/// A request. No `Debug`: address and headers hold secrets.
#[derive(PartialEq, Eq)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Where.
    pub url: String,
    /// With which headers, `Content-Type` aside.
    pub headers: Vec<(&'static str, String)>,
    /// What the body is.
    pub content_type: String,
    /// The body.
    pub body: String,
}

impl Request {
    fn json(method: Method, url: impl Into<String>, body: &Value) -> Self {
        let (url, content_type) = (url.into(), "application/json".to_owned());
        Request { method, url, headers: Vec::new(), content_type, body: body.to_string() }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The request that brings this to a sink that speaks HTTP; none for one that does not, or does not take this. `now` is in
/// seconds since 1970-01-01 UTC.
///
/// # Errors
/// A sentence when a template fails.
pub fn request(sink: &Sink, payload: &Payload, now: u64) -> Result<Option<Request>, String> {
    Ok(Some(match (sink, payload) {
        (Sink::Webhook(webhook), Payload::Message(message)) => of_webhook(webhook, message, now)?,
        (Sink::Slack(url), Payload::Message(message)) => Request::json(Method::Post, url.expose(), &slack(message)),
        (Sink::Teams(url), Payload::Message(message)) => Request::json(Method::Post, url.expose(), &teams(message)),
        (Sink::Mattermost { url, channel }, Payload::Message(message)) => {
            Request::json(Method::Post, url.expose(), &mattermost(message, channel.as_deref()))
        }
        (Sink::Matrix { homeserver, room, token }, Payload::Message(message)) => {
            let url =
                below(homeserver, &["_matrix", "client", "v3", "rooms", room, "send", "m.room.message", &message.id]);
            Request::json(Method::Put, url, &matrix(message))
                .header("Authorization", format!("Bearer {}", token.expose()))
        }
        (Sink::Commit(host), Payload::Commit(status)) => of_commit(host, status),
        (Sink::Email(_) | Sink::Kafka(_), _) | (_, Payload::Commit(_)) | (Sink::Commit(_), Payload::Message(_)) => {
            return Ok(None);
        }
    }))
}

/// An address below another one.
fn below(base: &str, segments: &[&str]) -> String {
    let mut url = base.trim_end_matches('/').to_owned();
    for segment in segments {
        url.push('/');
        for byte in segment.bytes() {
            // The characters that RFC 3986 lets stand in a segment.
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                url.push(char::from(byte));
            } else {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
    url
}

// -- webhook ---------------------------------------------------------------------------------------------------------

/// The key that a secret stands for; none for one that is too short or broken. As Standard Webhooks has it, what follows
/// `whsec_` is Base64; any other text counts as it is.
pub fn signing_key(secret: &str) -> Option<Vec<u8>> {
    let key = match secret.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).ok()?,
        None => secret.as_bytes().to_vec(),
    };
    (key.len() >= SHORTEST_SECRET).then_some(key)
}

/// `v1,` and the Base64 of the HMAC-SHA256 over `ID.TIMESTAMP.BODY`.
pub fn signature(key: &[u8], id: &str, timestamp: u64, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn of_webhook(webhook: &Webhook, message: &Message, now: u64) -> Result<Request, String> {
    let body = match &webhook.template {
        Some(template) => template::render(template, message)?,
        // It has no map whose keys are no texts.
        None => serde_json::to_string(message).unwrap_or_default(),
    };
    let mut request = Request {
        method: Method::Post,
        url: webhook.url.expose().to_owned(),
        headers: vec![("webhook-id", message.id.clone()), ("webhook-timestamp", now.to_string())],
        content_type: webhook.content_type.clone(),
        body,
    };
    if let Some(key) = webhook.secret.as_ref().and_then(|secret| signing_key(secret.expose())) {
        let signature = signature(&key, &message.id, now, &request.body);
        request = request.header("webhook-signature", signature);
    }
    Ok(match &webhook.token {
        Some(token) => request.header("Authorization", format!("Bearer {}", token.expose())),
        None => request,
    })
}

// -- what all chats have in common ---------------------------------------------------------------------------------------

fn symbol(status: MessageStatus, severity: ConcernSeverity) -> &'static str {
    match (status, severity) {
        (MessageStatus::Failing, ConcernSeverity::Critical) => "🔴",
        (MessageStatus::Failing, _) => "🟡",
        (MessageStatus::Recovered, _) => "🟢",
        (MessageStatus::News | MessageStatus::Test, _) => "🔵",
    }
}

fn name(item: &Item) -> &str {
    item.resource.as_deref().unwrap_or(&item.subject)
}

/// What is said of an item beside its name.
fn said(item: &Item) -> String {
    let mut text = match item.change {
        Change::News => item.message.clone(),
        Change::Recovered => format!("{} is over", item.kind),
        Change::Failing => format!("{}: {}", item.kind, item.message),
        Change::Still => format!("{} (still): {}", item.kind, item.message),
    };
    if item.change != Change::Recovered {
        if let Some(file) = &item.file {
            // A problem of a manifest begins with its place.
            if !item.message.starts_with(file.as_str()) {
                let _ = write!(text, " ({file})");
            }
        }
        if !item.hint.is_empty() {
            let _ = write!(text, " → {}", item.hint);
        }
    }
    cut(&text, CHAT_LINE).into_owned()
}

/// The items that a chat shows, and a line about the others.
fn shown(message: &Message) -> (&[Item], Option<String>) {
    let items = &message.items[..message.items.len().min(CHAT_ITEMS)];
    let more = message.items.len() - items.len() + message.omitted;
    (items, (more > 0).then(|| format!("… and {more} more")))
}

fn footer(message: &Message) -> String {
    let revision = cut(&message.revision, 13);
    let at = if revision.is_empty() { String::new() } else { format!(" at {revision}") };
    format!("ofop {}{at}, {}", message.instance, message.time)
}

/// The whole message as plain text, for mail and for clients that show nothing else.
pub fn plain(message: &Message) -> String {
    let mut text = format!("{}\n\n", message.title);
    for item in &message.items {
        let _ = writeln!(text, "- {}: {}", name(item), said(item));
        let _ = writeln!(text, "  since {}", item.since);
    }
    if message.omitted > 0 {
        let _ = writeln!(text, "… and {} more", message.omitted);
    }
    let _ = write!(text, "\n{}\n", footer(message));
    if let Some(link) = &message.link {
        let _ = writeln!(text, "{link}");
    }
    text
}

/// The subject of a mail.
pub fn subject(message: &Message) -> String {
    let word = match message.status {
        MessageStatus::Failing => message.severity.as_str(),
        status => status.as_str(),
    };
    let title: String = message.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&format!("[ofop {} {word}] {title}", message.instance), 200).into_owned()
}

// -- Slack -----------------------------------------------------------------------------------------------------------

/// Slack's three characters with a meaning; mentions and links begin with one of them.
fn slack_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn slack(message: &Message) -> Value {
    let title = format!("{} {}", symbol(message.status, message.severity), message.title);
    let (items, more) = shown(message);
    let section = |text: String| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}});
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(&title, SLACK_HEADER), "emoji": true},
    })];
    blocks
        .extend(items.iter().map(|item| section(format!("*{}*  {}", slack_text(name(item)), slack_text(&said(item))))));
    blocks.extend(more.map(section));
    let page = message.link.as_ref().map(|link| format!("  <{}|status page>", slack_text(link))).unwrap_or_default();
    blocks.push(json!({
        "type": "context",
        "elements": [{"type": "mrkdwn", "text": format!("{}{page}", slack_text(&footer(message)))}],
    }));
    json!({"text": slack_text(&title), "blocks": blocks})
}

// -- Teams -----------------------------------------------------------------------------------------------------------

/// An Adaptive Card as workflows take it. Runs of text are shown as they are: nothing in them is read as Markdown.
fn teams(message: &Message) -> Value {
    let (items, more) = shown(message);
    let colour = match (message.status, message.severity) {
        (MessageStatus::Failing, ConcernSeverity::Critical) => "Attention",
        (MessageStatus::Failing, _) => "Warning",
        (MessageStatus::Recovered, _) => "Good",
        (MessageStatus::News | MessageStatus::Test, _) => "Accent",
    };
    let run = |text: String| json!({"type": "TextRun", "text": text});
    let block = |inlines: Vec<Value>| json!({"type": "RichTextBlock", "inlines": inlines});
    let mut body = vec![block(vec![json!({
        "type": "TextRun", "text": message.title, "weight": "Bolder", "size": "Medium", "color": colour,
    })])];
    body.extend(items.iter().map(|item| {
        let name = json!({"type": "TextRun", "text": format!("{}  ", name(item)), "weight": "Bolder"});
        block(vec![name, run(said(item))])
    }));
    body.extend(more.map(|more| block(vec![run(more)])));
    body.push(block(vec![json!({"type": "TextRun", "text": footer(message), "isSubtle": true, "size": "Small"})]));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    });
    if let Some(link) = &message.link {
        card["actions"] = json!([{"type": "Action.OpenUrl", "title": "Status page", "url": link}]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

// -- Mattermost ------------------------------------------------------------------------------------------------------

/// A text that Mattermost shows as it is: no formatting, no links, nobody mentioned.
fn mattermost_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '!' => {
                escaped.extend(['\\', c])
            }
            // A mention is a name right behind it.
            '@' => escaped.push_str("@\u{200b}"),
            '\n' | '\r' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

fn mattermost(message: &Message, channel: Option<&str>) -> Value {
    let (items, more) = shown(message);
    let colour = match (message.status, message.severity) {
        (MessageStatus::Failing, ConcernSeverity::Critical) => "#d24b4e",
        (MessageStatus::Failing, _) => "#cc8f00",
        (MessageStatus::Recovered, _) => "#3db887",
        (MessageStatus::News | MessageStatus::Test, _) => "#1c58d9",
    };
    let lines =
        items.iter().map(|item| format!("- **{}**  {}", mattermost_text(name(item)), mattermost_text(&said(item))));
    let text = lines.chain(more).collect::<Vec<_>>().join("\n");
    let mut attachment = json!({
        "fallback": mattermost_text(&message.title),
        "color": colour,
        "title": mattermost_text(&message.title),
        "text": text,
        "footer": footer(message),
    });
    if let Some(link) = &message.link {
        attachment["title_link"] = json!(link);
    }
    let mut body = json!({"username": "ofop", "text": "", "attachments": [attachment]});
    if let Some(channel) = channel {
        body["channel"] = json!(channel);
    }
    body
}

// -- Matrix ----------------------------------------------------------------------------------------------------------

/// What fails notifies people; clients keep quiet about a notice.
fn matrix(message: &Message) -> Value {
    let (items, more) = shown(message);
    let title = format!("{} {}", symbol(message.status, message.severity), message.title);
    let mut formatted = format!("<strong>{}</strong><ul>", html(&title));
    let mut body = format!("{title}\n");
    for item in items {
        let _ = write!(formatted, "<li><strong>{}</strong> {}</li>", html(name(item)), html(&said(item)));
        let _ = writeln!(body, "- {}: {}", name(item), said(item));
    }
    formatted.push_str("</ul>");
    if let Some(more) = more {
        let _ = write!(formatted, "<p>{}</p>", html(&more));
        let _ = writeln!(body, "{more}");
    }
    let page = message.link.as_ref().map(|link| format!(" <a href=\"{}\">status page</a>", html(link)));
    let _ = write!(formatted, "<p>{}{}</p>", html(&footer(message)), page.unwrap_or_default());
    body.push_str(&footer(message));
    let kind = if message.status == MessageStatus::Failing { "m.text" } else { "m.notice" };
    json!({"msgtype": kind, "body": body, "format": "org.matrix.custom.html", "formatted_body": formatted})
}

// -- Kafka -----------------------------------------------------------------------------------------------------------

/// The key and the value of a message in Kafka: what belongs together keeps its order.
pub fn kafka(message: &Message) -> (String, String) {
    let key = format!("{}/{}/{}", message.instance, message.rule, message.group);
    (key, serde_json::to_string(message).unwrap_or_default())
}

// -- hosts of repositories -------------------------------------------------------------------------------------------

/// The version of GitHub's API that we speak.
const GITHUB_VERSION: &str = "2022-11-28";

fn authorized(host: &Host, request: Request) -> Request {
    let token = host.token.expose();
    match host.kind {
        HostKind::GitHub => request
            .header("Authorization", format!("Bearer {token}"))
            .header("Accept", "application/vnd.github+json")
            .header("X-GitHub-Api-Version", GITHUB_VERSION),
        HostKind::GitLab => request.header("PRIVATE-TOKEN", token),
        HostKind::Gitea => request.header("Authorization", format!("token {token}")),
    }
}

/// The address of something of the repository.
fn of_repository(host: &Host, more: &[&str]) -> String {
    let parts: Vec<&str> = host.repository.split('/').collect();
    let (root, repository): (&[&str], Vec<&str>) = match host.kind {
        HostKind::GitHub => (&["repos"], parts),
        // One segment, in which the slashes are encoded.
        HostKind::GitLab => (&["api", "v4", "projects"], vec![&host.repository]),
        HostKind::Gitea => (&["api", "v1", "repos"], parts),
    };
    below(&host.url, &[root, &repository, more].concat())
}

fn of_commit(host: &Host, status: &CommitStatus) -> Request {
    let context = host.context.clone().unwrap_or_else(|| format!("ofop/{}", status.instance));
    let state = match (host.kind, status.state) {
        (_, CommitState::Pending) => "pending",
        (_, CommitState::Success) => "success",
        (HostKind::GitLab, CommitState::Failure) => "failed",
        (_, CommitState::Failure) => "failure",
        (HostKind::GitLab, CommitState::Superseded) => "canceled",
        (_, CommitState::Superseded) => "error",
    };
    let mut body = json!({"state": state, "context": context, "description": cut(&status.description, DESCRIPTION)});
    if let Some(link) = &status.link {
        body["target_url"] = json!(link);
    }
    authorized(host, Request::json(Method::Post, of_repository(host, &["statuses", &status.commit]), &body))
}

/// Asks a host for the repository, which changes nothing.
pub fn look(host: &Host) -> Request {
    let request = Request { body: String::new(), ..Request::json(Method::Get, of_repository(host, &[]), &Value::Null) };
    authorized(host, request)
}

#[cfg(test)]
mod tests;
