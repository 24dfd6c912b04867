//! What is told, when, and to whom: a pure function of what needs a person, what was told before, and the time.
//!
//! # Guarantees
//!
//! - In an `interval` a group of a rule sends at most three messages about failures: one that tells them, one that some are
//!   over, one that all are, however many there are and however often they come and go. Repeats come on top.
//! - What is told as failing is told as recovered once, and not before it is over for certain.
//! - What lasts is told. What comes and goes within the wait is not.
//! - The memory is bounded by [`MAX_MEMBERS`] and [`MAX_GROUPS`] for each rule.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::message::{Change, CommitState, CommitStatus, Counts, Item, MAX_ITEMS, Message, MessageStatus, VERSION};
use super::rules::{Facts, Rule};
use crate::clock::rfc3339;
use crate::model::text::cut;
use crate::report::concerns::{CommitProgress, Concern, ConcernSeverity, Concerns, OF_RESOURCE};
use crate::report::history::RevisionResult;

/// How many failures a rule remembers; more are told of once there is room.
pub const MAX_MEMBERS: usize = 20_000;

/// How many groups a rule has; what belongs to further ones shares one.
pub const MAX_GROUPS: usize = 50;

/// The group of what finds no other.
const OTHERS: &str = "others";

/// How many times the wait a message is held back at most while more comes.
const PATIENCE: u64 = 4;

/// How many intervals a message that only tells of recoveries is held back at most while more recovers.
const RECOVERY_PATIENCE: u64 = 12;

/// How many commits are remembered.
const MAX_COMMITS: usize = 20;

/// How many things that happened wait for one message; of more, the newest are named.
const MAX_NEWS: usize = 200;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// The type's word: `commit`, `deployed`, `command`.
    pub kind: String,
    /// How much it matters.
    pub severity: ConcernSeverity,
    /// The resource, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// A sentence for people.
    pub message: String,
    /// When, RFC 3339.
    pub time: String,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What needs a person; none while nothing is known.
    pub concerns: Option<&'a Concerns>,
    /// What happened since the last decision.
    pub news: &'a [News],
    /// Number of the newest event among it.
    pub cursor: u64,
    /// Wall time in milliseconds since 1970-01-01 UTC.
    pub now: u64,
    /// The operator instance.
    pub instance: &'a str,
    /// Where the status page is, without a slash at its end.
    pub link: Option<&'a str>,
}

/// What is to be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Messages, each with its sinks.
    pub messages: Vec<(Vec<String>, Message)>,
    /// What hosts of repositories are to be told.
    pub commits: Vec<CommitStatus>,
    /// When to decide again although nothing happens, in milliseconds since 1970-01-01 UTC.
    pub wake: Option<u64>,
}

/// What was told, and what is about to be. It outlives the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Number of the last event that was taken in; none before the first decision.
    #[serde(default)]
    pub cursor: Option<u64>,
    #[serde(default)]
    pub(super) routes: BTreeMap<String, BTreeMap<String, Group>>,
    /// How commits stood when this was last told, the newest last.
    #[serde(default)]
    pub(super) commits: Vec<(String, CommitState)>,
    /// Counts messages, for their ids.
    #[serde(default)]
    pub(super) sent: u64,
}

/// What a rule tells together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    members: BTreeMap<String, Member>,
    /// Since when something waits to be told as failing, and when the newest of it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failing: Option<Span>,
    /// The same of what is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over: Option<Span>,
    /// When it last sent a message about failures, and when one that told of new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announced: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    news: Vec<News>,
    #[serde(default)]
    more_news: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fresh: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent_news: Option<u64>,
}

/// From the first to the newest of something that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    first: u64,
    newest: u64,
}

impl Span {
    fn grow(span: &mut Option<Span>, now: u64) {
        let first = span.map_or(now, |span| span.first);
        *span = Some(Span { first, newest: now });
    }
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    kind: String,
    severity: ConcernSeverity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    hint: String,
    since: u64,
    /// How severe it was when it was told; none before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<ConcernSeverity>,
    /// Since when it has been over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over: Option<u64>,
}

impl Member {
    fn new(concern: &Concern, now: u64) -> Self {
        let mut member = Member {
            kind: String::new(),
            severity: ConcernSeverity::Info,
            resource: None,
            file: None,
            message: String::new(),
            hint: String::new(),
            since: now,
            told: None,
            over: None,
        };
        member.update(concern);
        member
    }

    fn update(&mut self, concern: &Concern) {
        concern.kind.as_str().clone_into(&mut self.kind);
        self.severity = concern.kind.severity();
        self.resource = concern.resource.as_ref().map(ToString::to_string);
        self.file.clone_from(&concern.file);
        self.message = cut(&concern.message, MAX_TEXT).into_owned();
        self.hint = cut(&concern.hint, MAX_TEXT).into_owned();
    }

    /// Whether it is to be told: for the first time, or as more severe than before.
    fn is_new(&self) -> bool {
        self.over.is_none() && self.told.is_none_or(|told| told < self.severity)
    }

    fn item(&self, subject: &str, change: Change) -> Item {
        Item {
            subject: subject.to_owned(),
            change,
            kind: self.kind.clone(),
            severity: self.severity,
            resource: self.resource.clone(),
            file: self.file.clone(),
            message: self.message.clone(),
            hint: self.hint.clone(),
            since: time(self.since),
        }
    }
}

/// The longest sentence of an item, in characters: the engine's own messages may be much longer.
const MAX_TEXT: usize = 500;

/// A wall time as people read it.
fn time(milliseconds: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_millis(milliseconds))
}

/// Decides what is told now. `memory` is what was told before, and is brought up to date: whoever sends the messages keeps
/// it together with them.
pub fn decide(rules: &[Rule], memory: &mut Memory, seen: &Seen<'_>) -> Decision {
    let mut decision = Decision::default();
    let deployed = seen.concerns.map(|concerns| memory.commits(concerns, seen, &mut decision)).unwrap_or_default();
    memory.cursor = Some(seen.cursor);
    // What a rule that no longer exists has told is nobody's any more.
    memory.routes.retain(|name, _| rules.iter().any(|rule| rule.name == *name));
    for rule in rules {
        let groups = memory.routes.entry(rule.name.clone()).or_default();
        if let Some(concerns) = seen.concerns {
            take_in(rule, groups, concerns, seen.now);
        }
        for news in seen.news.iter().chain(&deployed) {
            take_news(rule, groups, news, seen.now);
        }
        for (name, group) in groups.iter_mut() {
            group.clamp(seen.now);
            for message in group.due(rule, seen) {
                memory.sent += 1;
                let id = format!("{}-{:x}-{}", seen.instance, seen.now, memory.sent);
                decision.messages.push((rule.to.clone(), message.finish(rule, name, id, seen)));
            }
            let wake = group.wake(rule);
            decision.wake = decision.wake.into_iter().chain(wake).min();
        }
        // One that sent a moment ago keeps its time, so that coming and going makes no flood.
        groups.retain(|_, group| !group.is_idle(rule, seen.now));
    }
    decision
}

/// Takes in what needs a person.
fn take_in(rule: &Rule, groups: &mut BTreeMap<String, Group>, concerns: &Concerns, now: u64) {
    let mut home: BTreeMap<String, String> = BTreeMap::new();
    for (name, group) in groups.iter() {
        home.extend(group.members.keys().map(|subject| (subject.clone(), name.clone())));
    }
    let mut count = home.len();
    for (subject, concern) in &concerns.open {
        let resource = concern.resource.as_ref().map(ToString::to_string);
        let facts = Facts {
            kind: concern.kind.as_str(),
            severity: concern.kind.severity(),
            resource: resource.as_deref(),
            file: concern.file.as_deref(),
        };
        if let Some(name) = home.get(subject) {
            // Once told it stays until it is over, whatever becomes of its type.
            let group = groups.entry(name.clone()).or_default();
            group.again(subject, concern, now);
        } else if count < MAX_MEMBERS && rule.wants(&facts) {
            count += 1;
            let name = room(groups, rule.group(&facts));
            let group = groups.entry(name).or_default();
            group.members.insert(subject.clone(), Member::new(concern, now));
            Span::grow(&mut group.failing, now);
        }
    }
    for group in groups.values_mut() {
        group.look_for_ends(concerns, now);
    }
}

/// The group of this name, if there is room for one more.
fn room(groups: &BTreeMap<String, Group>, name: String) -> String {
    if groups.len() < MAX_GROUPS || groups.contains_key(&name) { name } else { OTHERS.to_owned() }
}

fn take_news(rule: &Rule, groups: &mut BTreeMap<String, Group>, news: &News, now: u64) {
    let facts = Facts { kind: &news.kind, severity: news.severity, resource: news.resource.as_deref(), file: None };
    if !rule.wants(&facts) {
        return;
    }
    let name = room(groups, rule.group(&facts));
    let group = groups.entry(name).or_default();
    if group.news.len() >= MAX_NEWS {
        group.news.remove(0);
        group.more_news += 1;
    }
    group.news.push(news.clone());
    Span::grow(&mut group.fresh, now);
}

/// A message before it has its number.
struct Draft {
    status: MessageStatus,
    counts: Counts,
    items: Vec<Item>,
}

impl Group {
    /// A failure that is known shows again.
    fn again(&mut self, subject: &str, concern: &Concern, now: u64) {
        let Some(member) = self.members.get_mut(subject) else { return };
        let was_new = member.is_new();
        member.over = None;
        member.update(concern);
        if member.is_new() && !was_new {
            Span::grow(&mut self.failing, now);
        }
    }

    /// Finds what is over.
    fn look_for_ends(&mut self, concerns: &Concerns, now: u64) {
        let of_plan = |subject: &str| {
            subject.starts_with(OF_RESOURCE) || subject.starts_with("rollout ") || subject == "removals"
        };
        let ended = |subject: &String| {
            let is_unseen = concerns.blind && of_plan(subject);
            let is_there = concerns.open.contains_key(subject) || concerns.undecided.contains(subject);
            !(is_there || is_unseen)
        };
        let mut over = false;
        self.members.retain(|subject, member| {
            if member.over.is_none() && ended(subject) {
                if member.told.is_none() {
                    return false;
                }
                member.over = Some(now);
                over = true;
            }
            true
        });
        if over {
            Span::grow(&mut self.over, now);
        }
        if !self.members.values().any(Member::is_new) {
            self.failing = None;
        }
        if self.members.values().all(|member| member.over.is_none()) {
            self.over = None;
        }
    }

    /// A clock that was set back must not hold anything up.
    fn clamp(&mut self, now: u64) {
        for span in [&mut self.failing, &mut self.over, &mut self.fresh].into_iter().flatten() {
            span.first = span.first.min(now);
            span.newest = span.newest.min(now);
        }
        for at in [&mut self.sent, &mut self.announced, &mut self.sent_news].into_iter().flatten() {
            *at = (*at).min(now);
        }
    }

    fn is_open(&self) -> bool {
        self.members.values().any(|member| member.told.is_some() && member.over.is_none())
    }

    /// When new failures are told.
    fn failing_at(&self, rule: &Rule) -> Option<u64> {
        let span = self.failing?;
        let settled = (span.newest + rule.wait).min(span.first + PATIENCE * rule.wait);
        Some(settled.max(self.announced.map_or(0, |at| at + rule.interval)))
    }

    /// When it is told that failures are over: soon when that is all of them.
    fn over_at(&self, rule: &Rule) -> Option<u64> {
        let span = self.over?;
        Some(if self.is_open() {
            (span.newest + rule.interval).min(span.first + RECOVERY_PATIENCE * rule.interval)
        } else {
            span.newest + rule.wait
        })
    }

    fn repeat_at(&self, rule: &Rule) -> Option<u64> {
        Some(self.sent.filter(|_| self.is_open())? + rule.repeat?)
    }

    fn news_at(&self, rule: &Rule) -> Option<u64> {
        let span = self.fresh?;
        let settled = (span.newest + rule.wait).min(span.first + PATIENCE * rule.wait);
        Some(settled.max(self.sent_news.map_or(0, |at| at + rule.interval)))
    }

    fn wake(&self, rule: &Rule) -> Option<u64> {
        [self.failing_at(rule), self.over_at(rule), self.repeat_at(rule), self.news_at(rule)]
            .into_iter()
            .flatten()
            .min()
    }

    /// The messages that are due.
    fn due(&mut self, rule: &Rule, seen: &Seen<'_>) -> Vec<Draft> {
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= seen.now);
        let mut drafts = Vec::new();
        let (failing, over) = (is_due(self.failing_at(rule)), is_due(self.over_at(rule)));
        if failing || over || is_due(self.repeat_at(rule)) {
            drafts.push(self.tell(failing, seen.now));
        }
        if is_due(self.news_at(rule)) {
            drafts.push(self.tell_news(seen.now));
        }
        drafts
    }

    /// A message of what fails and what is over. What is new waits for its own time.
    fn tell(&mut self, with_new: bool, now: u64) -> Draft {
        let (mut counts, mut new, mut recovered, mut still) = (Counts::default(), Vec::new(), Vec::new(), Vec::new());
        self.members.retain(|subject, member| {
            if member.over.is_some() {
                recovered.push(member.item(subject, Change::Recovered));
                return false;
            }
            if member.is_new() && with_new {
                member.told = Some(member.severity);
                new.push(member.item(subject, Change::Failing));
            } else if member.told.is_some() {
                still.push(member.item(subject, Change::Still));
            }
            true
        });
        counts.new = new.len();
        counts.recovered = recovered.len();
        counts.failing = new.len() + still.len();
        self.over = None;
        self.sent = Some(now);
        if with_new {
            self.failing = None;
            self.announced = Some(now);
        }
        let status = if counts.failing == 0 { MessageStatus::Recovered } else { MessageStatus::Failing };
        Draft { status, counts, items: new.into_iter().chain(recovered).chain(still).collect() }
    }

    fn tell_news(&mut self, now: u64) -> Draft {
        let news = std::mem::take(&mut self.news);
        let counts = Counts { news: news.len() + std::mem::take(&mut self.more_news), ..Counts::default() };
        self.fresh = None;
        self.sent_news = Some(now);
        // The newest are named.
        let items = news.into_iter().rev().map(|news| Item {
            subject: news.resource.as_ref().map_or_else(|| news.kind.clone(), |id| format!("{OF_RESOURCE}{id}")),
            change: Change::News,
            kind: news.kind,
            severity: news.severity,
            resource: news.resource,
            file: None,
            message: cut(&news.message, MAX_TEXT).into_owned(),
            hint: String::new(),
            since: news.time,
        });
        Draft { status: MessageStatus::News, counts, items: items.collect() }
    }

    fn is_idle(&self, rule: &Rule, now: u64) -> bool {
        let rests = |at: Option<u64>| at.is_none_or(|at| at + rule.interval <= now);
        self.members.is_empty() && self.news.is_empty() && rests(self.announced) && rests(self.sent_news)
    }
}

impl Draft {
    fn finish(self, rule: &Rule, group: &str, id: String, seen: &Seen<'_>) -> Message {
        let Draft { status, counts, mut items } = self;
        let told = counts.failing + counts.recovered + counts.news;
        let severity = items.iter().map(|item| item.severity).max().unwrap_or(ConcernSeverity::Info);
        let title = title(status, &counts, &items, group);
        items.truncate(MAX_ITEMS);
        let omitted = told - items.len();
        let page = |item: &Item| Some(format!("{}/resources/{}", seen.link?, item.resource.as_ref()?));
        let link = match &items[..] {
            [item] if omitted == 0 => page(item),
            _ => None,
        };
        Message {
            version: VERSION,
            id,
            time: time(seen.now),
            instance: seen.instance.to_owned(),
            rule: rule.name.clone(),
            group: group.to_owned(),
            status,
            severity,
            title,
            counts,
            items,
            omitted,
            revision: seen.concerns.map(|concerns| concerns.revision.clone()).unwrap_or_default(),
            link: link.or_else(|| seen.link.map(|link| format!("{link}/"))),
        }
    }
}

/// One line for people.
fn title(status: MessageStatus, counts: &Counts, items: &[Item], group: &str) -> String {
    let of_group = if group.is_empty() { String::new() } else { format!(" ({group})") };
    let only = match items {
        [item] => Some(item),
        _ => None,
    };
    let name = |item: &Item| item.resource.clone().unwrap_or_else(|| item.subject.clone());
    match (status, only) {
        (MessageStatus::Failing, Some(item)) => {
            let again = if item.change == Change::Still { " (still)" } else { "" };
            cut(&format!("{}: {}{again}: {}", name(item), item.kind, item.message), 150).into_owned()
        }
        (MessageStatus::Recovered, Some(item)) => {
            cut(&format!("{}: {} is over", name(item), item.kind), 150).into_owned()
        }
        (MessageStatus::News | MessageStatus::Test, Some(item)) => cut(&item.message, 150).into_owned(),
        (MessageStatus::Failing, None) => {
            let recovered =
                if counts.recovered > 0 { format!(", {} recovered", counts.recovered) } else { String::new() };
            let new = match counts.new {
                0 => String::new(),
                new if new == counts.failing => String::new(),
                new => format!(", {new} of them new"),
            };
            format!("{} failing{of_group}{new}{recovered}", counts.failing)
        }
        (MessageStatus::Recovered, None) => format!("all {} recovered{of_group}", counts.recovered),
        (MessageStatus::News | MessageStatus::Test, None) => format!("{} events{of_group}", counts.news),
    }
}

impl Memory {
    /// Decides what hosts of repositories are told, and finds commits that came into force.
    fn commits(&mut self, concerns: &Concerns, seen: &Seen<'_>, decision: &mut Decision) -> Vec<News> {
        let mut deployed = Vec::new();
        let Some(newest) = concerns.commits.first() else { return deployed };
        // Another one is in force since: what was on its way will not arrive.
        if newest.result.is_some() {
            let passed =
                self.commits.iter_mut().filter(|(id, state)| *id != newest.id && *state == CommitState::Pending);
            for (id, state) in passed {
                *state = CommitState::Superseded;
                let by: String = newest.id.chars().take(8).collect();
                decision.commits.push(status(id, *state, format!("superseded by {by} before it was in force"), seen));
            }
        }
        for CommitProgress { id, result, message } in &concerns.commits {
            let state = match result {
                Some(RevisionResult::OnItsWay) => CommitState::Pending,
                Some(RevisionResult::InForce | RevisionResult::Replaced) => CommitState::Success,
                Some(RevisionResult::Failed) | None => CommitState::Failure,
                Some(RevisionResult::Superseded) => CommitState::Superseded,
            };
            let known = self.commits.iter().position(|(known, _)| known == id);
            if known.is_some_and(|index| self.commits[index].1 == state) {
                continue;
            }
            known.map(|index| self.commits.remove(index));
            self.commits.push((id.clone(), state));
            self.commits.drain(..self.commits.len().saturating_sub(MAX_COMMITS));
            decision.commits.push(status(id, state, message.clone(), seen));
            // What was in force before the first decision is no news.
            if state == CommitState::Success && self.cursor.is_some() {
                let short: String = id.chars().take(8).collect();
                deployed.push(News {
                    kind: DEPLOYED.to_owned(),
                    severity: ConcernSeverity::Info,
                    resource: None,
                    message: format!("commit {short} is {message}"),
                    time: time(seen.now),
                });
            }
        }
        deployed
    }
}

/// The type of the news that a commit is in force.
pub const DEPLOYED: &str = "deployed";

fn status(commit: &str, state: CommitState, description: String, seen: &Seen<'_>) -> CommitStatus {
    let (commit, instance) = (commit.to_owned(), seen.instance.to_owned());
    CommitStatus { commit, state, description, link: seen.link.map(|link| format!("{link}/")), instance }
}

#[cfg(test)]
mod tests;
