use super::*;

fn info() -> EngineInfo {
    EngineInfo {
        version: "29.0.1".into(),
        api: 52,
        time: "2026-01-02T03:04:05Z".into(),
        swarm: "active".into(),
        swarm_error: String::new(),
        manager: true,
        managers: 3,
        nodes: 5,
    }
}

fn facts() -> Facts {
    Facts {
        platform: PlatformKind::Swarm,
        host: "unix:///var/run/docker.sock".into(),
        engine: Ok(info()),
        now: "2026-01-02T03:04:05Z".parse().unwrap(),
        took: 10,
        networks: Some(["factory-net".to_owned()].into()),
        manifests: read(0, 0),
        git: None,
        registry: Vec::new(),
        state_dir: StateDir { path: ".ofop".into(), state: Writable::CanBeMade },
        access: Access { listen: "127.0.0.1:8420".into(), loopback: true, tls: false, tokens: 1, public_read: false },
        lease: Lease::Free,
        daemon: Daemon::Absent { address: "127.0.0.1:8420".into() },
    }
}

fn read(errors: usize, warnings: usize) -> Manifests {
    let networks = ["factory-net".to_owned()].into();
    Manifests::Read { files: 2, resources: 3, errors, warnings, networks }
}

fn trouble() -> Trouble {
    Trouble { message: "no".into(), hint: "do".into() }
}

/// The level of one check with these facts; every other one is good, and whatever is not good says what to do.
fn level(name: &str, facts: &Facts) -> Level {
    let checks = all(facts);
    for check in &checks {
        assert!(check.level == Level::Ok || check.name == name, "{check:?}");
        assert_eq!(check.level == Level::Ok, check.hint.is_none(), "{check:?}");
    }
    checks.iter().filter(|check| check.name == name).map(|check| check.level).max().unwrap()
}

#[test]
fn a_good_machine_has_nothing_to_mend() {
    let checks = all(&facts());
    assert!(checks.iter().all(|check| check.level == Level::Ok), "{checks:?}");
    let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
    assert_eq!(names, ["engine", "swarm", "clock", "manifests", "networks", "state", "access", "lease", "daemon"]);
}

#[test]
fn an_engine_that_does_not_answer_fails() {
    let facts = Facts { engine: Err(trouble()), networks: None, ..facts() };
    assert_eq!(level("engine", &facts), Level::Fail);
}

#[test]
fn a_swarm_needs_a_manager() {
    let with = |platform, change: fn(&mut EngineInfo)| {
        let mut engine = info();
        change(&mut engine);
        level("swarm", &Facts { platform, engine: Ok(engine), ..facts() })
    };
    assert_eq!(with(PlatformKind::Swarm, |_| {}), Level::Ok);
    assert_eq!(with(PlatformKind::Swarm, |engine| engine.managers = 2), Level::Warn);
    assert_eq!(with(PlatformKind::Swarm, |engine| engine.manager = false), Level::Fail);
    for state in ["inactive", "", "pending", "error", "locked"] {
        let engine = EngineInfo { swarm: state.into(), ..info() };
        assert_eq!(level("swarm", &Facts { engine: Ok(engine), ..facts() }), Level::Fail, "{state}");
    }
    assert_eq!(with(PlatformKind::Docker, |engine| engine.swarm = "inactive".into()), Level::Ok);
}

#[test]
fn clocks_may_differ_by_what_the_question_took() {
    for (time, took, expected) in [
        ("2026-01-02T03:04:06.5Z", 10, Level::Ok),
        ("2026-01-02T03:04:08Z", 10, Level::Warn),
        ("2026-01-02T03:04:02Z", 10, Level::Warn),
        ("2026-01-02T03:04:08Z", 2_000, Level::Ok),
        ("2026-01-02T03:06:05Z", 10, Level::Fail),
        ("2026-01-02T03:06:05.123456789+00:00", 10, Level::Fail),
        ("noon", 10, Level::Warn),
    ] {
        let engine = EngineInfo { time: time.into(), ..info() };
        assert_eq!(level("clock", &Facts { engine: Ok(engine), took, ..facts() }), expected, "{time} {took}");
    }
}

#[test]
fn manifests_are_named_read_and_valid() {
    let with = |manifests| level("manifests", &Facts { manifests, ..facts() });
    assert_eq!(with(read(0, 0)), Level::Ok);
    assert_eq!(with(read(0, 1)), Level::Warn);
    assert_eq!(with(read(2, 1)), Level::Fail);
    assert_eq!(with(Manifests::Unnamed), Level::Warn);
    assert_eq!(with(Manifests::Unreadable(trouble())), Level::Fail);
}

#[test]
fn a_repository_is_reached_and_better_signed() {
    let with = |commit, signed| level("git", &Facts { git: Some(Git { commit, signed }), ..facts() });
    assert_eq!(with(Ok("commit 3f9c".into()), true), Level::Ok);
    assert_eq!(with(Ok("commit 3f9c".into()), false), Level::Warn);
    assert_eq!(with(Err(trouble()), true), Level::Fail);
}

#[test]
fn networks_of_manifests_exist() {
    let facts = Facts { networks: Some(BTreeSet::new()), ..facts() };
    assert_eq!(level("networks", &facts), Level::Fail);
    let check = all(&facts).into_iter().find(|check| check.name == "networks").unwrap();
    assert_eq!(check.hint.as_deref(), Some("docker network create --driver overlay --attachable factory-net"));
}

#[test]
fn state_can_be_written() {
    let with = |state| level("state", &Facts { state_dir: StateDir { path: "s".into(), state }, ..facts() });
    assert_eq!(with(Writable::Yes { free: Some(LITTLE) }), Level::Ok);
    assert_eq!(with(Writable::Yes { free: None }), Level::Ok);
    assert_eq!(with(Writable::Yes { free: Some(LITTLE - 1) }), Level::Warn);
    assert_eq!(with(Writable::No("read-only".into())), Level::Fail);
}

#[test]
fn who_may_reach_it_is_said() {
    let with = |change: fn(&mut Access)| {
        let mut facts = facts();
        change(&mut facts.access);
        level("access", &facts)
    };
    assert_eq!(with(|_| {}), Level::Ok);
    assert_eq!(with(|access| access.tokens = 0), Level::Warn);
    assert_eq!(with(|access| access.loopback = false), Level::Warn);
    assert_eq!(with(|access| (access.loopback, access.tls) = (false, true)), Level::Ok);
    assert_eq!(with(|access| (access.loopback, access.tls, access.public_read) = (false, true, true)), Level::Warn);
}

#[test]
fn a_lease_is_free_or_held_by_somebody_who_lives() {
    let with = |lease| level("lease", &Facts { lease, ..facts() });
    assert_eq!(with(Lease::Held { holder: "h".into(), lives: true }), Level::Ok);
    assert_eq!(with(Lease::Held { holder: "h".into(), lives: false }), Level::Warn);
    assert_eq!(with(Lease::Unreadable("no".into())), Level::Fail);
    assert_eq!(with(Lease::Unseen), Level::Warn);
}

#[test]
fn a_daemon_is_ready_and_of_the_same_version() {
    let with = |version: &str, ready, warnings: &[&str]| {
        let daemon = Daemon::Answers {
            address: "a".into(),
            version: Some(version.into()),
            ready,
            reasons: vec!["platform is down".into()],
            warnings: warnings.iter().map(ToString::to_string).collect(),
        };
        level("daemon", &Facts { daemon, ..facts() })
    };
    let ours = env!("CARGO_PKG_VERSION");
    assert_eq!(with(ours, true, &[]), Level::Ok);
    assert_eq!(with("0.0.1", true, &[]), Level::Warn);
    assert_eq!(with(ours, true, &["the registry is down"]), Level::Warn);
    assert_eq!(with(ours, false, &[]), Level::Fail);
    assert_eq!(level("daemon", &Facts { daemon: Daemon::Trouble(trouble()), ..facts() }), Level::Warn);
}
