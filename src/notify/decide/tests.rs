use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::BlockKind;
use crate::notify::rules::GroupBy;
use crate::report::concerns::ConcernKind;

const WAIT: u64 = 10_000;
const INTERVAL: u64 = 300_000;
const START: u64 = 1_767_323_045_000;

fn rule() -> Rule {
    Rule { wait: WAIT, interval: INTERVAL, ..Rule::at_once("rule 1", "chat") }
}

fn concern(uuid: usize, kind: BlockKind) -> (String, Concern) {
    let id = format!("app/A-{uuid}");
    let concern = Concern {
        kind: ConcernKind::Blocked(kind),
        resource: Some(id.parse().unwrap()),
        file: Some("desired/app_a.yml".into()),
        message: "no such image".into(),
        hint: "push it".into(),
    };
    (format!("{OF_RESOURCE}{id}"), concern)
}

fn failing(numbers: impl IntoIterator<Item = usize>) -> Concerns {
    let open = numbers.into_iter().map(|number| concern(number, BlockKind::ImageMissing)).collect();
    Concerns { open, revision: "0123456789abcdef".into(), ..Concerns::default() }
}

/// What decides, and what it has sent.
struct World {
    rules: Vec<Rule>,
    memory: Memory,
    now: u64,
    sent: Vec<(u64, Message)>,
    commits: Vec<(String, CommitState)>,
    wake: Option<u64>,
}

impl World {
    fn new() -> Self {
        let memory = Memory { cursor: Some(0), ..Memory::default() };
        World { rules: vec![rule()], memory, now: START, sent: Vec::new(), commits: Vec::new(), wake: None }
    }

    fn see(&mut self, concerns: &Concerns, news: &[News]) {
        // A restart between any two decisions changes nothing.
        self.memory = serde_json::from_str(&serde_json::to_string(&self.memory).unwrap()).unwrap();
        let link = Some("https://ofop.example");
        let seen = Seen { concerns: Some(concerns), news, cursor: 1, now: self.now, instance: "test", link };
        let decision = decide(&self.rules, &mut self.memory, &seen);
        self.sent.extend(decision.messages.into_iter().map(|(_, message)| (self.now, message)));
        self.commits.extend(decision.commits.into_iter().map(|status| (status.commit, status.state)));
        self.wake = decision.wake;
    }

    /// Looks again at the times that were asked for, until `milliseconds` have passed.
    fn pass(&mut self, concerns: &Concerns, milliseconds: u64) {
        let end = self.now + milliseconds;
        self.see(concerns, &[]);
        while let Some(wake) = self.wake.filter(|wake| *wake <= end) {
            assert!(wake > self.now || self.now == START, "it does not spin");
            self.now = wake;
            self.see(concerns, &[]);
        }
        self.now = end;
        self.see(concerns, &[]);
    }

    fn statuses(&self) -> Vec<(MessageStatus, Counts)> {
        self.sent.iter().map(|(_, message)| (message.status, message.counts)).collect()
    }
}

fn counts(new: usize, recovered: usize, failing: usize) -> Counts {
    Counts { new, recovered, failing, news: 0 }
}

#[test]
fn a_thousand_failures_make_one_message_and_one_recovery() {
    let mut world = World::new();
    // They come within seconds of one another, and go as slowly as a rollout mends them.
    for number in (100..=1_000).step_by(100) {
        world.pass(&failing(0..number), 2_000);
    }
    world.pass(&failing(0..1_000), 3_600_000);
    for number in (0..=1_000).step_by(100) {
        world.pass(&failing(number..1_000), 60_000);
    }
    world.pass(&failing([]), 3_600_000);
    let expected = [(MessageStatus::Failing, counts(1_000, 0, 1_000)), (MessageStatus::Recovered, counts(0, 1_000, 0))];
    assert_eq!(world.statuses(), expected);
    let message = &world.sent[0].1;
    assert_eq!((message.items.len(), message.omitted), (MAX_ITEMS, 1_000 - MAX_ITEMS));
    assert_eq!(message.title, "1000 failing (image_missing)");
    assert_eq!(message.severity, ConcernSeverity::Critical);
    assert_eq!(world.memory.routes["rule 1"].len(), 0, "nothing is remembered of what is over");
}

#[test]
fn what_is_new_later_is_told_after_the_interval_and_what_stays_broken_hides_no_recovery() {
    let mut world = World::new();
    world.pass(&failing(0..10), 60_000);
    world.pass(&failing(0..12), 60_000);
    assert_eq!(world.sent.len(), 1);
    world.pass(&failing(0..12), INTERVAL);
    assert_eq!(world.statuses()[1], (MessageStatus::Failing, counts(2, 0, 12)));
    assert_eq!(world.sent[1].1.title, "12 failing (image_missing), 2 of them new");
    // One is never mended.
    world.pass(&failing([3]), 2 * INTERVAL);
    assert_eq!(world.statuses()[2], (MessageStatus::Failing, counts(0, 11, 1)));
    world.pass(&failing([]), INTERVAL);
    assert_eq!(world.statuses()[3], (MessageStatus::Recovered, counts(0, 1, 0)));
    assert_eq!(world.sent[3].1.title, "app/A-3: image_missing is over");
    assert_eq!(world.sent[3].1.link.as_deref(), Some("https://ofop.example/resources/app/A-3"));
    assert_eq!(world.sent.len(), 4);
}

#[test]
fn what_is_over_within_the_wait_is_not_told_and_what_comes_back_within_it_is_not_over() {
    let mut world = World::new();
    world.pass(&failing([1]), WAIT - 1);
    world.pass(&failing([]), INTERVAL);
    assert_eq!(world.sent, []);
    world.pass(&failing([1]), INTERVAL);
    world.pass(&failing([]), WAIT - 1);
    world.pass(&failing([1]), INTERVAL);
    assert_eq!(world.statuses(), [(MessageStatus::Failing, counts(1, 0, 1))]);
}

#[test]
fn nothing_is_over_while_it_is_on_its_way_or_cannot_be_seen() {
    let mut world = World::new();
    world.pass(&failing([1]), INTERVAL);
    let (subject, _) = concern(1, BlockKind::ImageMissing);
    let undecided = Concerns { undecided: [subject].into(), ..Concerns::default() };
    world.pass(&undecided, INTERVAL);
    world.pass(&Concerns { blind: true, ..Concerns::default() }, INTERVAL);
    assert_eq!(world.sent.len(), 1);
    world.pass(&Concerns::default(), INTERVAL);
    assert_eq!(world.statuses()[1], (MessageStatus::Recovered, counts(0, 1, 0)));
}

#[test]
fn a_failure_that_becomes_more_severe_is_told_again_and_one_that_changes_its_type_is_not() {
    let mut world = World::new();
    let with = |kind| Concerns { open: [concern(1, kind)].into(), ..Concerns::default() };
    world.pass(&with(BlockKind::RolledBack), 2 * INTERVAL);
    world.pass(&with(BlockKind::ImageMissing), 2 * INTERVAL);
    world.pass(&with(BlockKind::RestartLoop), 2 * INTERVAL);
    world.pass(&Concerns::default(), INTERVAL);
    let told: Vec<_> = world.sent.iter().map(|(_, message)| (message.status, message.severity)).collect();
    let expected = [
        (MessageStatus::Failing, ConcernSeverity::Warning),
        (MessageStatus::Failing, ConcernSeverity::Critical),
        (MessageStatus::Recovered, ConcernSeverity::Critical),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_halted_rollout_is_told_as_one_thing_and_never_left_out() {
    let mut world = World::new();
    let mut concerns = failing([1]);
    let halted = Concern {
        kind: ConcernKind::Blocked(BlockKind::RolloutHalted),
        message: "the rollout is halted: app/A-1: no such image; 59 keep their old version".into(),
        ..concern(1, BlockKind::ImageMissing).1
    };
    concerns.open.insert("rollout everywhere".into(), halted);
    world.rules[0].severity = ConcernSeverity::Critical;
    world.pass(&concerns, 60_000);
    let titles: Vec<_> = world.sent.iter().map(|(_, message)| message.group.as_str()).collect();
    assert_eq!(titles, ["image_missing", "rollout_halted"]);
    assert!(world.sent[1].1.title.starts_with("app/A-1: rollout_halted: the rollout is halted"));
}

#[test]
fn what_still_fails_is_told_again_where_a_rule_says_so() {
    let mut world = World::new();
    world.rules[0].repeat = Some(3_600_000);
    world.pass(&failing([1, 2]), 3 * 3_600_000 + 2 * WAIT);
    assert_eq!(world.statuses()[1..], [(MessageStatus::Failing, counts(0, 0, 2)); 3]);
    assert!(world.sent[3].1.items.iter().all(|item| item.change == Change::Still));
}

#[test]
fn many_groups_share_one_beyond_a_bound() {
    let mut world = World::new();
    world.rules[0].group_by = vec![GroupBy::Resource];
    world.pass(&failing(0..1_000), 60_000);
    assert_eq!(world.sent.len(), MAX_GROUPS + 1);
    assert_eq!(world.sent.iter().map(|(_, message)| message.counts.new).sum::<usize>(), 1_000);
}

#[test]
fn what_happened_is_told_together() {
    let mut world = World::new();
    world.rules[0].severity = ConcernSeverity::Info;
    let news = |number: usize| News {
        kind: "command".into(),
        severity: ConcernSeverity::Info,
        resource: None,
        message: format!("anna: suspend app/A-{number}"),
        time: "2026-01-02T03:04:05Z".into(),
    };
    let all: Vec<News> = (0..500).map(news).collect();
    world.see(&Concerns::default(), &all);
    world.pass(&Concerns::default(), INTERVAL);
    assert_eq!(world.sent.len(), 1);
    let message = &world.sent[0].1;
    assert_eq!((message.status, message.counts.news), (MessageStatus::News, 500));
    assert_eq!(message.items[0].message, "anna: suspend app/A-499");
    world.see(&Concerns::default(), &[news(500)]);
    world.pass(&Concerns::default(), INTERVAL);
    assert_eq!(world.sent[1].1.title, "anna: suspend app/A-500");
}

#[test]
fn hosts_of_repositories_are_told_of_each_change_of_a_commit_once() {
    let mut world = World::new();
    let commit = |id: &str, result| CommitProgress { id: id.into(), result, message: "3 changed".into() };
    let mut see = |commits: &[CommitProgress]| {
        let concerns = Concerns { commits: commits.to_vec(), ..Concerns::default() };
        world.see(&concerns, &[]);
        world.see(&concerns, &[]);
        std::mem::take(&mut world.commits)
    };
    let told = |id: &str, state| (id.to_owned(), state);
    assert_eq!(see(&[commit("a", Some(RevisionResult::OnItsWay))]), [told("a", CommitState::Pending)]);
    assert_eq!(see(&[commit("a", Some(RevisionResult::InForce))]), [told("a", CommitState::Success)]);
    assert_eq!(see(&[commit("b", Some(RevisionResult::OnItsWay))]), [told("b", CommitState::Pending)]);
    let [failed, refused] = [commit("b", Some(RevisionResult::Failed)), commit("c", None)];
    assert_eq!(see(std::slice::from_ref(&failed)), [told("b", CommitState::Failure)]);
    assert_eq!(see(&[failed, refused]), [told("c", CommitState::Failure)]);
    assert_eq!(see(&[commit("d", Some(RevisionResult::OnItsWay))]), [told("d", CommitState::Pending)]);
    assert_eq!(
        see(&[commit("e", Some(RevisionResult::OnItsWay))]),
        [told("d", CommitState::Superseded), told("e", CommitState::Pending)]
    );
}

/// What happens to a factory of eight apps.
#[derive(Debug, Clone)]
enum Act {
    Fail(usize),
    Heal(usize),
    OnItsWay(usize),
    Blind(bool),
    Wait(u64),
    /// Somebody sets the clock.
    Back(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0_usize..8).prop_map(Act::Fail),
        3 => (0_usize..8).prop_map(Act::Heal),
        1 => (0_usize..8).prop_map(Act::OnItsWay),
        1 => any::<bool>().prop_map(Act::Blind),
        6 => prop_oneof![Just(1_000), Just(WAIT), Just(INTERVAL / 2), Just(2 * INTERVAL), 0..4 * INTERVAL].prop_map(Act::Wait),
        1 => (0..2 * INTERVAL).prop_map(Act::Back),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Fails,
    Runs,
    OnItsWay,
}

/// Plays a history, and has everything end well.
fn play(acts: &[Act]) -> (World, BTreeMap<usize, u64>) {
    let mut world = World::new();
    let mut states = [State::Runs; 8];
    let mut blind = false;
    // For how long each has failed without a break, at most.
    let mut lasted: BTreeMap<usize, u64> = BTreeMap::new();
    let mut now_failing = [0_u64; 8];
    let concerns = |states: &[State; 8], blind: bool| {
        let of = |state: State| (0..8).filter(move |number| states[*number] == state);
        let undecided = of(State::OnItsWay).map(|number| concern(number, BlockKind::ImageMissing).0).collect();
        Concerns { undecided, blind, ..failing(of(State::Fails)) }
    };
    for act in acts {
        match act {
            Act::Fail(number) => states[*number] = State::Fails,
            Act::Heal(number) => (states[*number], now_failing[*number]) = (State::Runs, 0),
            Act::OnItsWay(number) => (states[*number], now_failing[*number]) = (State::OnItsWay, 0),
            Act::Blind(is) => blind = *is,
            Act::Back(milliseconds) => world.now -= milliseconds,
            Act::Wait(milliseconds) => {
                world.pass(&concerns(&states, blind), *milliseconds);
                for number in (0..8).filter(|number| states[*number] == State::Fails) {
                    now_failing[number] += milliseconds;
                    let longest = lasted.entry(number).or_default();
                    *longest = (*longest).max(now_failing[number]);
                }
            }
        }
        let seen = concerns(&states, blind);
        world.see(&seen, &[]);
    }
    world.pass(&Concerns::default(), 20 * INTERVAL);
    (world, lasted)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_failure_that_is_told_is_told_once_and_has_exactly_one_recovery(acts in prop::collection::vec(act(), 0..60)) {
        let (world, lasted) = play(&acts);
        let mut open: BTreeMap<String, bool> = BTreeMap::new();
        for (_, message) in &world.sent {
            for item in &message.items {
                let is_open = open.entry(item.subject.clone()).or_default();
                match item.change {
                    Change::Failing => prop_assert!(!std::mem::replace(is_open, true), "told twice: {item:?}"),
                    Change::Recovered => prop_assert!(std::mem::replace(is_open, false), "never told: {item:?}"),
                    Change::Still => prop_assert!(*is_open, "never told: {item:?}"),
                    Change::News => prop_assert!(false, "no news: {item:?}"),
                }
            }
            prop_assert_eq!(message.omitted, 0);
        }
        prop_assert!(open.values().all(|open| !open), "without a recovery: {open:?}");
        prop_assert!(world.memory.routes["rule 1"].is_empty());
        // What lasts is told, whatever else goes on.
        let went_back = acts.iter().any(|act| matches!(act, Act::Back(_)));
        for (number, _) in lasted.iter().filter(|(_, lasted)| !went_back && **lasted >= INTERVAL + PATIENCE * WAIT) {
            prop_assert!(open.contains_key(&concern(*number, BlockKind::ImageMissing).0), "never told: {number}");
        }
        let ids: std::collections::BTreeSet<_> = world.sent.iter().map(|(_, message)| &message.id).collect();
        prop_assert_eq!(ids.len(), world.sent.len());
    }

    #[test]
    fn a_group_never_floods(acts in prop::collection::vec(act(), 0..120)) {
        let acts: Vec<Act> = acts.into_iter().filter(|act| !matches!(act, Act::Back(_))).collect();
        let (world, _) = play(&acts);
        for (from, _) in &world.sent {
            let within = world.sent.iter().filter(|(at, _)| at >= from && *at < from + INTERVAL).count();
            prop_assert!(within <= 3, "{within} in one interval");
        }
    }
}
