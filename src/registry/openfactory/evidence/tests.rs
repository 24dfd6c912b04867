use super::super::log::Trace;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn uuid(text: &str) -> AssetUuid {
    AssetUuid::new(text).unwrap()
}

/// An asset as a registration leaves it: everywhere, with a mark.
fn whole(facts: &mut Facts, name: &str) {
    facts.row(Source::AssetsType, &uuid(name));
    facts.row(Source::DockerServices, &uuid(name));
    let mut said = SaidOf::default();
    for (id, value) in
        [("AssetType", "Device"), ("DockerService", ""), ("managed_by", "plant"), ("managed_resource", "device/A")]
    {
        said.take(id, value);
    }
    facts.said(uuid(name), said);
}

fn all(names: &[&str]) -> Facts {
    let mut facts = Facts::default();
    names.iter().for_each(|name| whole(&mut facts, name));
    facts
}

/// A log that is followed to its end and holds these assets.
fn log(names: &[&str]) -> Log {
    let mut log = Log::new(WITNESSES.map(|source| (source, source.as_str().to_lowercase())));
    for (offset, name) in (0..).zip(names) {
        for source in [Source::AssetsType, Source::DockerServices] {
            log.take(source, offset, name.as_bytes(), Trace::Row, None);
        }
    }
    log.is_caught_up();
    log
}

/// Kafka cannot be followed.
fn deaf() -> Log {
    Log::default()
}

/// A judge that trusts what it has read.
fn confirmed(facts: &Facts, log: &Log) -> Judge {
    let mut judge = Judge::default();
    assert!(judge.judge(facts.clone(), log, false, Duration::ZERO).evidence.doubt.is_some());
    let verdict = judge.judge(facts.clone(), log, false, CONFIRM_UNWITNESSED);
    assert_eq!(verdict.evidence, Evidence::default());
    judge
}

fn reason(verdict: &Verdict) -> Option<DoubtReason> {
    verdict.evidence.doubt.as_ref().map(|doubt| doubt.reason)
}

fn of(verdict: &Verdict, name: &str) -> Option<(DoubtReason, bool)> {
    verdict.evidence.assets.get(&uuid(name)).map(|doubt| (doubt.reason, doubt.lasting))
}

#[test]
fn a_first_reading_counts_when_a_second_one_agrees() {
    for (log, wait) in [(log(&["A", "B"]), CONFIRM), (deaf(), CONFIRM_UNWITNESSED)] {
        let facts = all(&["A", "B"]);
        let mut judge = Judge::default();
        let verdict = judge.judge(facts.clone(), &log, false, Duration::ZERO);
        assert_eq!((verdict.complete, reason(&verdict)), (true, Some(DoubtReason::Unconfirmed)));
        let verdict = judge.judge(facts.clone(), &log, false, wait - SECOND);
        assert_eq!(reason(&verdict), Some(DoubtReason::Unconfirmed), "too soon");
        let verdict = judge.judge(facts.clone(), &log, false, wait);
        assert_eq!(verdict, Verdict { complete: true, evidence: Evidence::default(), warning: None });
        judge.failed();
        assert!(reason(&judge.judge(facts.clone(), &log, false, wait + SECOND)).is_some(), "after a failure");
        judge.judge(facts.clone(), &log, false, wait * 3);
        let disturbed = judge.judge(facts, &log, true, wait * 4);
        assert_eq!(reason(&disturbed), Some(DoubtReason::Unconfirmed), "after a query that failed");
    }
}

#[test]
fn a_second_reading_that_differs_is_a_first_one() {
    let log = deaf();
    let mut judge = Judge::default();
    judge.judge(all(&["A"]), &log, false, Duration::ZERO);
    let verdict = judge.judge(all(&["A", "B"]), &log, false, CONFIRM_UNWITNESSED);
    assert_eq!(reason(&verdict), Some(DoubtReason::Unconfirmed), "rows still come");
    let verdict = judge.judge(all(&["A", "B"]), &log, false, CONFIRM_UNWITNESSED * 2);
    assert_eq!(reason(&verdict), None);
}

#[test]
fn what_the_log_holds_and_the_answer_lacks_exists() {
    let log = log(&["A", "B"]);
    let mut judge = confirmed(&all(&["A", "B"]), &log);
    let mut partial = all(&["A"]);
    // Its attributes are shown, its rows are not.
    let mut said = SaidOf::default();
    [("AssetType", "Device"), ("DockerService", ""), ("managed_by", "plant"), ("managed_resource", "device/A")]
        .iter()
        .for_each(|(id, value)| said.take(id, value));
    partial.said(uuid("B"), said);
    let verdict = judge.judge(partial.clone(), &log, false, 30 * SECOND);
    assert_eq!(of(&verdict, "B"), Some((DoubtReason::Partial, false)));
    assert_eq!((of(&verdict, "A"), of(&verdict, "NEW"), reason(&verdict)), (None, None, None), "the others are proven");
    let message = &verdict.evidence.assets[&uuid("B")].message;
    assert!(message.contains("offset 1"), "{message}");
    let later = judge.judge(partial, &log, false, 30 * SECOND + BELIEF);
    assert_eq!(of(&later, "B"), Some((DoubtReason::Partial, true)));
    assert!(later.warning.unwrap().contains("asset B"));
}

#[test]
fn an_empty_answer_proves_nothing_while_the_log_holds_something() {
    let log = log(&["A", "B"]);
    let mut judge = Judge::default();
    for second in 0..600 {
        let verdict = judge.judge(Facts::default(), &log, false, SECOND * second);
        for name in ["A", "B"] {
            assert!(verdict.evidence.of(&uuid(name)) != crate::model::Proof::Proven, "{name} after {second} s");
        }
    }
}

#[test]
fn an_empty_registry_is_proven_when_the_log_is_empty_too() {
    let log = log(&[]);
    let mut judge = Judge::default();
    judge.judge(Facts::default(), &log, false, Duration::ZERO);
    let verdict = judge.judge(Facts::default(), &log, false, CONFIRM);
    assert_eq!((verdict.complete, reason(&verdict)), (true, None));
}

#[test]
fn a_row_that_a_message_took_back_is_gone_at_once_and_another_is_doubted() {
    let mut log = log(&["A", "B"]);
    let mut judge = confirmed(&all(&["A", "B"]), &log);
    for source in [Source::AssetsType, Source::DockerServices] {
        log.take(source, 9, b"B", Trace::Nothing, Some(30 * SECOND));
    }
    let mut facts = all(&["A", "B"]);
    facts.0.get_mut(&uuid("B")).unwrap().rows = 0;
    let verdict = judge.judge(facts, &log, false, 31 * SECOND);
    assert_eq!((verdict.complete, verdict.evidence), (true, Evidence::default()));

    // Nobody took A back, and the topic does not hold it any more.
    let empty = self::log(&[]);
    let mut judge = confirmed(&all(&["A", "B"]), &empty);
    let mut facts = all(&["A", "B"]);
    facts.0.get_mut(&uuid("A")).unwrap().rows = 0;
    let verdict = judge.judge(facts.clone(), &empty, false, 31 * SECOND);
    assert_eq!((verdict.complete, reason(&verdict)), (false, Some(DoubtReason::Lost)), "one row is enough");
    let verdict = judge.judge(facts.clone(), &empty, false, 31 * SECOND + BELIEF);
    assert_eq!((verdict.complete, reason(&verdict)), (true, None), "it stays so: it is lost");
    let verdict = judge.judge(facts, &empty, false, 32 * SECOND + BELIEF);
    assert_eq!(verdict.evidence, Evidence::default());
}

#[test]
fn what_was_taken_back_here_is_no_loss_where_topics_are_not_followed() {
    let mut log = deaf();
    let mut judge = confirmed(&all(&["A"]), &log);
    log.took_back(Source::AssetsType, uuid("A"), 30 * SECOND);
    log.took_back(Source::DockerServices, uuid("A"), 30 * SECOND);
    let mut facts = all(&["A"]);
    facts.0.get_mut(&uuid("A")).unwrap().rows = 0;
    let verdict = judge.judge(facts.clone(), &log, false, 31 * SECOND);
    assert_eq!((verdict.complete, verdict.evidence), (true, Evidence::default()));
    log.wrote(&uuid("A"));
    let mut judge = confirmed(&all(&["A"]), &log);
    assert!(!judge.judge(facts, &log, false, 31 * SECOND).complete);
}

#[test]
fn a_mark_that_vanishes_makes_the_whole_reading_doubtful() {
    let log = log(&["A", "B"]);
    for lost in ["managed_by", "managed_resource", "both", "AssetType", "DockerService"] {
        let mut judge = confirmed(&all(&["A", "B"]), &log);
        let mut facts = all(&["A", "B"]);
        let said = &mut facts.0.get_mut(&uuid("B")).unwrap().said;
        match lost {
            "managed_by" => said.by = None,
            "managed_resource" => said.resource = None,
            "AssetType" => said.kind = None,
            "DockerService" => said.service = false,
            _ => (said.by, said.resource) = (None, None),
        }
        let verdict = judge.judge(facts.clone(), &log, false, 31 * SECOND);
        assert!(!verdict.complete && verdict.evidence.doubt.is_some(), "{lost}");
        // A stranger that reads for the first time sees it too, unless the whole mark is missing.
        let verdict = Judge::default().judge(facts, &log, false, 31 * SECOND);
        assert_eq!(verdict.complete, lost == "both", "{lost}");
    }
}

#[test]
fn an_asset_without_attributes_stays_unproven_and_the_others_count_when_that_lasts() {
    let log = log(&["A", "B"]);
    let mut facts = all(&["A"]);
    facts.row(Source::AssetsType, &uuid("B"));
    facts.row(Source::DockerServices, &uuid("B"));
    let mut judge = Judge::default();
    let verdict = judge.judge(facts.clone(), &log, false, Duration::ZERO);
    assert_eq!((verdict.complete, reason(&verdict)), (false, Some(DoubtReason::Partial)));
    judge.judge(facts.clone(), &log, false, BELIEF);
    let verdict = judge.judge(facts, &log, false, BELIEF + CONFIRM);
    assert_eq!((verdict.complete, reason(&verdict)), (true, None));
    assert_eq!((of(&verdict, "A"), of(&verdict, "B")), (None, Some((DoubtReason::Partial, true))));
}

#[test]
fn gaps_that_change_have_not_lasted() {
    let names: Vec<String> = (0..50).map(|number| format!("A{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let log = log(&names);
    let mut judge = confirmed(&all(&names), &log);
    for shown in 0..50 {
        let now = SECOND * 30 + BELIEF * u32::try_from(shown).unwrap() / 2;
        let verdict = judge.judge(all(&names[..shown]), &log, false, now);
        assert!(!verdict.complete, "{shown} are shown");
    }
}

#[test]
fn what_came_a_moment_ago_is_waited_for_and_holds_up_nobody_else() {
    let mut log = log(&["A"]);
    let mut judge = confirmed(&all(&["A"]), &log);
    log.take(Source::AssetsType, 7, b"NEW", Trace::Row, Some(30 * SECOND));
    let mut facts = all(&["A"]);
    facts.row(Source::AssetsType, &uuid("NEW"));
    let verdict = judge.judge(facts.clone(), &log, false, 31 * SECOND);
    assert_eq!((verdict.complete, reason(&verdict)), (true, None));
    assert_eq!(of(&verdict, "NEW"), Some((DoubtReason::Partial, false)));
    let verdict = judge.judge(facts, &log, false, 31 * SECOND + GRACE);
    assert!(!verdict.complete, "ASSETS lies far behind");
}

#[test]
fn an_asset_that_is_being_removed_is_left_alone() {
    let mut log = log(&["A"]);
    let mut judge = confirmed(&all(&["A"]), &log);
    log.take(Source::AssetsType, 7, b"A", Trace::Nothing, Some(30 * SECOND));
    let verdict = judge.judge(all(&["A"]), &log, false, 31 * SECOND);
    assert_eq!((reason(&verdict), of(&verdict, "A")), (None, Some((DoubtReason::Partial, false))));
}

#[test]
fn without_a_log_rows_that_only_others_show_are_doubted() {
    let log = deaf();
    let mut facts = all(&["A"]);
    facts.row(Source::AssetToUnsMapRaw, &uuid("B"));
    let verdict = Judge::default().judge(facts, &log, false, Duration::ZERO);
    assert_eq!((verdict.complete, reason(&verdict)), (false, Some(DoubtReason::Partial)));
    // One that was let go, or that OpenFactory deletes, is no contradiction.
    for (id, value) in [("managed_by", ""), ("AssetType", "delete"), ("AssetType", "")] {
        let mut facts = all(&["A"]);
        let mut said = SaidOf::default();
        said.take("AssetType", "Device");
        said.take(id, value);
        facts.said(uuid("B"), said);
        assert!(Judge::default().judge(facts, &log, false, Duration::ZERO).complete, "{id}={value}");
    }
}
