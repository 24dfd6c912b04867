//! `x-ofop`: what a manifest says to the operator, from the file to what is left alone on the cluster.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on")]

use std::time::Duration;

use ofop::desired::{ParseContext, parse};
use ofop::model::options::{Healthcheck, RestartCondition, UpdateOrder};
use ofop::model::{
    Command, FailureAction, Handling, Health, PlatformKind, Problem, ResourceId, RolloutPolicy, RolloutSettings,
    ServiceOptions, Severity, Share, StepVerb, Sync,
};
use ofop::testing::{World, app};
use tokio::time::sleep;

const ENTRIES: &str = "apps:\n  press:\n    uuid: PRESS-7\n    image: i\n  saw:\n    uuid: SAW\n    image: i\n    deploy: {replicas: 2}\n\
    devices:\n  cnc:\n    uuid: CNC-1\n    connector: {type: mtconnect, agent: {ip: 10.0.0.7, port: 5000}}\n  \
    plc:\n    uuid: PLC\n    connector: {type: shdr, host: h, port: 7878, data: {}}\n";

fn read_on(platform: PlatformKind, text: &str) -> Result<Vec<(String, Handling)>, Vec<Problem>> {
    let file = parse(&"f.yml".into(), text, [0; 32], &ParseContext::new(platform));
    let Some(manifest) = file.manifest else { return Err(file.problems) };
    assert!(file.problems.is_empty(), "{:?}", file.problems);
    let apps = manifest.apps.iter().map(|app| (app.uuid.to_string(), app.handling.clone()));
    let devices = manifest.devices.iter().map(|device| (device.uuid.to_string(), device.handling.clone()));
    Ok(apps.chain(devices).collect())
}

/// `resource suspend prune ignore`, of every resource.
fn read(settings: &str) -> Vec<String> {
    let found = read_on(PlatformKind::Swarm, &format!("{ENTRIES}x-ofop: {settings}\n")).unwrap();
    let words = |(uuid, handling): (String, Handling)| {
        let ignore: Vec<String> = handling.ignore.iter().map(ToString::to_string).collect();
        format!("{uuid} {} {} {}", handling.suspend, handling.prune, ignore.join(" ")).trim_end().to_owned()
    };
    found.into_iter().map(words).collect()
}

/// The one problem: `line:column path: message (hint)`.
fn problem(severity: Severity, text: &str) -> String {
    let file = parse(&"f.yml".into(), text, [0; 32], &ParseContext::new(PlatformKind::Swarm));
    assert_eq!(file.manifest.is_none(), severity == Severity::Error, "{:?}", file.problems);
    let [problem] = &file.problems[..] else { panic!("{text}: {:?}", file.problems) };
    assert_eq!(problem.severity, severity);
    problem.to_string().trim_start_matches("f.yml:").to_owned()
}

#[test]
fn what_is_said_of_a_resource_goes_before_what_is_said_of_the_file_and_ignored_fields_add_up() {
    assert_eq!(read(""), ["PRESS-7 false true", "SAW false true", "CNC-1 false true", "PLC false true"]);
    assert_eq!(
        read(
            "{suspend: true, prune: no, ignore: [replicas, image], resources: {app/SAW: {suspend: false, prune: true, ignore: [user, image]}}}"
        ),
        [
            "PRESS-7 true false image replicas",
            "SAW false true image user replicas",
            "CNC-1 true false image replicas",
            "PLC true false image replicas"
        ]
    );
    assert_eq!(
        read(
            "{ignore: [cnc-1-producer/image], resources: {app/PRESS-7: {ignore: [press-7/image, 'mounts[/a/b]']}, device/CNC-1: {}}}"
        ),
        [
            "PRESS-7 false true mounts[/a/b] press-7/image",
            "SAW false true",
            "CNC-1 false true cnc-1-producer/image",
            "PLC false true"
        ]
    );
}

#[test]
fn it_may_stand_before_what_it_is_about_and_other_keys_for_other_tools_stay_free() {
    let text =
        format!("x-ofop: {{resources: {{app/SAW: {{suspend: true}}}}}}\nx-mine: {{suspend: 7}}\nx-of: 1\n{ENTRIES}");
    let found = read_on(PlatformKind::Swarm, &text).unwrap();
    assert!(found[1].1.suspend && !found[0].1.suspend);
}

#[test]
fn mistakes_are_refused_with_their_place_and_a_way_out() {
    let lines = ENTRIES.lines().count();
    let mut wrong = Vec::new();
    for (settings, column, said) in [
        ("{suspended: true}", 10, "x-ofop.suspended: unknown field `suspended` (did you mean `suspend`?)"),
        ("{suspend: perhaps}", 19, "x-ofop.suspend: must be `true` or `false`, not a text"),
        (
            "[suspend]",
            1,
            "x-ofop: must be a map with `suspend`, `prune`, `adopt`, `ignore`, `windows`, `repairs`, `after`, `service`, `rollout`, `resources`, not a list (write fields such as `suspend: true` below it, indented)",
        ),
        (
            "{ignore: replicas}",
            18,
            "x-ofop.ignore: must be a list, not a text (write it as `[a, b]`, or one item a line, each beginning with `- `)",
        ),
        ("{ignore: [replica]}", 19, "x-ofop.ignore[0]: there is no field `replica` (did you mean `replicas`?)"),
        (
            "{ignore: [user, enviroment.MODE]}",
            25,
            "x-ofop.ignore[1]: there is no field `enviroment` (did you mean `environment.MODE`?)",
        ),
        (
            "{ignore: [cnc-1-producer/imgae]}",
            19,
            "x-ofop.ignore[0]: there is no field `imgae` (did you mean `cnc-1-producer/image`?)",
        ),
        ("{ignore: [image.tag]}", 19, "x-ofop.ignore[0]: `image` has nothing below it (write `image`)"),
        (
            "{ignore: [limits.disk]}",
            19,
            "x-ofop.ignore[0]: write `limits.cpus` or `limits.memory` (as `ofop plan` writes it)",
        ),
        (
            "{ignore: [mounts./data]}",
            19,
            "x-ofop.ignore[0]: write `mounts[/path/in/the/container]` (as `ofop plan` writes it)",
        ),
        (
            "{ignore: [cnc-1-produce/image]}",
            19,
            "x-ofop.ignore[0]: there is no service `cnc-1-produce` here (did you mean `cnc-1-producer`?)",
        ),
        (
            "{resources: {app/SAW: {ignore: [press-7/image]}}}",
            41,
            "x-ofop.resources.\"app/SAW\".ignore[0]: there is no service `press-7` here (there is `saw`)",
        ),
        (
            "{resources: {app/PRES-7: {}}}",
            22,
            "x-ofop.resources.\"app/PRES-7\": this file describes no resource `app/PRES-7` (did you mean `app/PRESS-7`?)",
        ),
        (
            "{resources: {PRESS-7: {}}}",
            22,
            "x-ofop.resources.PRESS-7: this file describes no resource `PRESS-7` (did you mean `app/PRESS-7`?)",
        ),
        (
            "{resources: {app/CNC-1: {}}}",
            22,
            "x-ofop.resources.\"app/CNC-1\": this file describes no resource `app/CNC-1` (did you mean `device/CNC-1`?)",
        ),
        (
            "{resources: {app/OTHER: {}}}",
            22,
            "x-ofop.resources.\"app/OTHER\": this file describes no resource `app/OTHER` (write `app/UUID` or `device/UUID` of an entry of this file)",
        ),
        (
            "{resources: {app/SAW: {resources: {}}}}",
            32,
            "x-ofop.resources.\"app/SAW\".resources: unknown field `resources` (possible here: `suspend`, `prune`, `adopt`, `ignore`, `windows`, `repairs`, `after`, `service`)",
        ),
    ] {
        let found = problem(Severity::Error, &format!("{ENTRIES}x-ofop: {settings}\n"));
        let wanted = format!("{}:{column}: {said}", lines + 1);
        if found != wanted {
            wrong.push(format!("{found}\n{wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let alone = problem(Severity::Error, "x-ofop: {suspend: true}\n");
    assert!(alone.contains("has neither `apps` nor `devices`"), "{alone}");
    let misspelt = problem(Severity::Error, &format!("{ENTRIES}x_ofop: {{}}\n"));
    assert!(misspelt.contains("did you mean `x-ofop`?"), "{misspelt}");
}

/// The options of every resource, or the problems.
fn options_on(platform: PlatformKind, settings: &str) -> Result<Vec<ServiceOptions>, Vec<Problem>> {
    let text = format!("{ENTRIES}x-ofop: {settings}\n");
    let file = parse(&"f.yml".into(), &text, [0; 32], &ParseContext::new(platform));
    let Some(manifest) = file.manifest else { return Err(file.problems) };
    let apps = manifest.apps.iter().map(|app| app.options.clone());
    Ok(apps.chain(manifest.devices.iter().map(|device| device.options.clone())).collect())
}

#[test]
fn options_of_a_resource_go_before_those_of_the_file_one_by_one() {
    let found = options_on(
        PlatformKind::Swarm,
        "{service: {update: {order: start-first, monitor: 30s, parallelism: 0}, stop_grace_period: 1.5, \
         restart: {condition: on-failure, delay: 1m, max_attempts: 3, window: 0}, \
         healthcheck: {test: 'curl -f http://localhost', interval: 500ms, retries: 2}, hostname: '{{.Service.Name}}'}, \
         resources: {app/PRESS-7: {service: {update: {order: stop-first, failure_action: rollback, delay: 2s}, \
         healthcheck: {disable: true}, hostname: press.local}}, \
         app/SAW: {service: {healthcheck: {test: [CMD, /check, '-q'], timeout: 3, start_period: 1m}}}, \
         device/CNC-1: {service: {healthcheck: {test: [NONE]}}}}}",
    )
    .unwrap();
    let update = &found[0].update;
    assert_eq!((update.order, update.failure_action), (Some(UpdateOrder::StopFirst), Some(FailureAction::Rollback)));
    assert_eq!((update.monitor, update.parallelism, update.delay), (Some(seconds(30)), Some(0), Some(seconds(2))));
    assert_eq!(
        (found[0].hostname.as_deref(), &found[0].healthcheck),
        (Some("press.local"), &Some(Healthcheck::Disabled))
    );
    assert_eq!(found[0].stop_grace_period, Some(Duration::from_millis(1500)));
    let restart = &found[1].restart;
    assert_eq!((restart.condition, restart.delay), (Some(RestartCondition::OnFailure), Some(seconds(60))));
    assert_eq!((restart.max_attempts, restart.window), (Some(3), Some(Duration::ZERO)));
    let Some(Healthcheck::Probe(probe)) = &found[1].healthcheck else { panic!("{found:?}") };
    assert_eq!(probe.test, ["CMD", "/check", "-q"]);
    let times = (probe.interval, probe.timeout, probe.retries, probe.start_period);
    assert_eq!(times, (None, Some(seconds(3)), None, Some(seconds(60))), "a health check is said as a whole");
    assert_eq!(found[2].healthcheck, Some(Healthcheck::Disabled));
    let Some(Healthcheck::Probe(probe)) = &found[3].healthcheck else { panic!("{found:?}") };
    assert_eq!(probe.test, ["CMD-SHELL", "curl -f http://localhost"]);
    assert_eq!(options_on(PlatformKind::Swarm, "{service: }").unwrap()[0], ServiceOptions::default());
}

#[test]
fn mistakes_in_options_are_refused_with_their_place_and_a_way_out() {
    let refused = |platform, settings: &str| {
        let problems = options_on(platform, settings).expect_err(settings);
        problems.iter().map(|problem| problem.to_string().trim_start_matches("f.yml:").to_owned()).collect::<Vec<_>>()
    };
    for (settings, said) in [
        ("{service: {hostnam: x}}", "x-ofop.service.hostnam: unknown field `hostnam` (did you mean `hostname`?)"),
        ("{service: {update: {oder: x}}}", "x-ofop.service.update.oder: unknown field `oder` (did you mean `order`?)"),
        (
            "{service: {update: {order: start_first}}}",
            "x-ofop.service.update.order: must be `stop-first` or `start-first`, not `start_first` (did you mean `start-first`?)",
        ),
        ("{service: {update: {failure_action: rolback}}}", "(did you mean `rollback`?)"),
        ("{service: {update: {monitor: soon}}}", "x-ofop.service.update.monitor: `soon` is no time (write a number"),
        ("{service: {update: {monitor: 0}}}", "x-ofop.service.update.monitor: is shorter than a millisecond"),
        ("{service: {update: {delay: 25h}}}", "x-ofop.service.update.delay: `25h` is longer than a day"),
        ("{service: {update: {parallelism: -1}}}", "x-ofop.service.update.parallelism: must be from 0 to 10000"),
        (
            "{service: {restart: {condition: always}}}",
            "x-ofop.service.restart.condition: must be `none` or `on-failure`",
        ),
        ("{service: {healthcheck: {test: []}}}", "x-ofop.service.healthcheck.test: is no test (write a line such as"),
        ("{service: {healthcheck: {test: [curl]}}}", "x-ofop.service.healthcheck.test: is no test"),
        ("{service: {healthcheck: {test: 7}}}", "x-ofop.service.healthcheck.test: must be a text or a list of texts"),
        ("{service: {healthcheck: {test: ''}}}", "x-ofop.service.healthcheck.test: is no test"),
        (
            "{service: {healthcheck: {disable: true, retries: 3}}}",
            "x-ofop.service.healthcheck.retries: has no meaning where there is no check",
        ),
        ("{service: {hostname: press-7}}", "x-ofop.service.hostname: would be the name of several services"),
        (
            "{resources: {app/SAW: {service: {hostname: under_score}}}}",
            "x-ofop.resources.\"app/SAW\".service.hostname: is no name of a host",
        ),
    ] {
        let found = refused(PlatformKind::Swarm, settings);
        assert!(found.len() == 1 && found[0].contains(said), "{settings}: {found:?}");
        assert!(found[0].starts_with(&format!("{}:", ENTRIES.lines().count() + 1)), "{found:?}");
    }
    let found = refused(PlatformKind::Docker, "{service: {stop_grace_period: 26s, hostname: '{{.Task.Slot}}'}}");
    assert!(found[0].contains("is longer than 25 s") && found[1].contains("holds a template"), "{found:?}");
}

#[test]
fn on_plain_docker_the_options_of_swarm_alone_are_a_warning() {
    let settings = "{service: {update: {order: start-first}, restart: {delay: 1s}, stop_grace_period: 1500ms}}";
    let text = format!("{ENTRIES}x-ofop: {settings}\n");
    let file = parse(&"f.yml".into(), &text, [0; 32], &ParseContext::new(PlatformKind::Docker));
    let told: Vec<(&str, &str)> =
        file.problems.iter().map(|problem| (problem.path.as_str(), problem.message.as_str())).collect();
    let message = "has no effect on the docker platform";
    assert_eq!(told, [("x-ofop.service.update", message), ("x-ofop.service.restart", message)]);
    let options = &file.manifest.unwrap().apps[0].options;
    let grace = ServiceOptions { stop_grace_period: Some(seconds(2)), ..ServiceOptions::default() };
    assert_eq!(*options, grace, "whole seconds are all that it knows");
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let text = format!("{ENTRIES}x-ofop: {{resources: {{device/PLC: {{service: {{hostname: plc}}}}}}}}\n");
    assert!(problem(Severity::Warning, &text).contains("service: has no effect: it has no service"));
    let slip = problem(Severity::Warning, &format!("{ENTRIES}x-ofpo: {{suspend: true}}\n"));
    assert!(slip.ends_with("x-ofpo: is for other tools and has no effect here (did you mean `x-ofop`?)"), "{slip}");
    let text = format!("{ENTRIES}x-ofop: {{resources: {{device/PLC: {{ignore: [image]}}}}}}\n");
    assert!(problem(Severity::Warning, &text).contains("has no effect: device/PLC has no service"));
    let text = "apps: {a: {uuid: A, image: i}}\nx-ofop: {ignore: [replicas]}\n";
    let file = parse(&"f.yml".into(), text, [0; 32], &ParseContext::new(PlatformKind::Docker));
    assert_eq!(file.problems[0].message, "has no effect on the docker platform");
    assert_eq!(file.manifest.unwrap().apps[0].handling, Handling::default());
}

#[test]
fn containers_of_replicas_have_names_of_their_own() {
    let text = "apps: {a: {uuid: A, image: i, deploy: {replicas: 2}}}\nx-ofop: {ignore: [a-2/image]}\n";
    let found = read_on(PlatformKind::Docker, text).unwrap();
    assert_eq!(found[0].1.ignore[0].to_string(), "a-2/image");
    assert!(read_on(PlatformKind::Swarm, text).is_err());
}

#[test]
fn an_error_elsewhere_makes_no_resource_unknown() {
    let text = "apps:\n  a: {uuid: A, image: 7}\n  b: {uuid: 7, image: i}\nx-ofop: {resources: {app/A: {suspend: true}, app/B: {}}}\n";
    let problems = read_on(PlatformKind::Swarm, text).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn values_of_variables_are_not_quoted() {
    let variables = [("SECRET".to_owned(), "5ecret".to_owned())].into();
    let context = ParseContext { variables: std::sync::Arc::new(variables), ..ParseContext::new(PlatformKind::Swarm) };
    for settings in [
        "{ignore: ['${SECRET}']}",
        "{ignore: ['${SECRET}/image']}",
        "{resources: {'${SECRET}': {}}}",
        "{suspend: '${SECRET}'}",
    ] {
        let file = parse(&"f.yml".into(), &format!("{ENTRIES}x-ofop: {settings}\n"), [0; 32], &context);
        assert_eq!(file.problems.len(), 1, "{settings}: {:?}", file.problems);
        assert!(!file.problems[0].to_string().to_lowercase().contains("5ecret"), "{}", file.problems[0]);
    }
}

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn told(uuid: &str, image: &str, settings: &str) -> String {
    format!("{}x-ofop: {settings}\n", app(uuid, image, ""))
}

#[tokio::test(start_paused = true)]
async fn a_suspended_file_stays_as_it_is_until_it_says_otherwise() {
    let world = World::new(1);
    world.source.write("other.yml", app("OTHER", "example/app:1", ""));
    world.source.write("app.yml", app("ONE", "example/app:1", ""));
    let operator = world.start();
    world.settled().await;
    world.source.write("app.yml", told("ONE", "example/app:2", "{suspend: true}"));
    world.swarm.edit("one", |service| service.spec.replicas = 4);
    sleep(seconds(60)).await;
    operator.tell(Command::Resume(Some(id("app/ONE")))).await;
    sleep(seconds(600)).await;
    world.swarm.remove("one");
    sleep(seconds(600)).await;
    let status = operator.report.status();
    let one = status.get(&id("app/ONE")).unwrap();
    assert_eq!((one.health, one.sync, one.handling.suspend), (Health::Suspended, Sync::OutOfSync, true));
    assert_eq!(one.conditions[0].reason, "Manifest");
    assert_eq!(world.swarm.writes(), 2, "both were created, and nothing else happened");
    world.source.write("other.yml", app("OTHER", "example/app:2", ""));
    sleep(seconds(10)).await;
    assert_eq!(world.swarm.service("other").unwrap().spec.image, "example/app:2", "others go on");
    world.source.write("app.yml", told("ONE", "example/app:2", "{suspend: false}"));
    world.settled().await;
    assert_eq!(world.swarm.service("one").unwrap().spec.image, "example/app:2");
}

#[tokio::test(start_paused = true)]
async fn an_ignored_field_survives_updates_and_a_restart_of_the_operator() {
    let world = World::new(2);
    world.source.write("app.yml", told("ONE", "example/app:1", "{ignore: [replicas]}"));
    let operator = world.start();
    world.settled().await;
    world.swarm.edit("one", |service| service.spec.replicas = 5);
    sleep(seconds(600)).await;
    assert_eq!(world.swarm.count(StepVerb::Update), 0);
    let status = operator.report.status();
    let one = status.get(&id("app/ONE")).unwrap();
    assert_eq!((one.sync, one.health), (Sync::Synced, Health::Healthy));
    assert_eq!((one.services[0].replicas.wanted, one.services[0].replicas.running), (5, 5));
    assert_eq!(
        (one.ignored[0].object.as_str(), &one.ignored[0].fields[..]),
        ("service one", &["replicas".to_owned()][..])
    );
    operator.crash().await;
    let _operator = world.start();
    world.source.write("app.yml", told("ONE", "example/app:2", "{ignore: [replicas]}"));
    world.settled().await;
    let one = world.swarm.service("one").unwrap();
    assert_eq!((one.spec.image.as_str(), one.spec.replicas), ("example/app:2", 5));
    sleep(seconds(600)).await;
    assert_eq!(world.swarm.count(StepVerb::Update), 1);
    world.source.write("app.yml", app("ONE", "example/app:2", ""));
    sleep(seconds(10)).await;
    assert_eq!(world.swarm.service("one").unwrap().spec.replicas, 1, "no longer ignored");
}

#[tokio::test(start_paused = true)]
async fn an_option_is_owned_while_it_is_set_and_goes_back_to_the_default_after() {
    let world = World::new(12);
    let settings = "{service: {stop_grace_period: 30s, update: {order: start-first}}}";
    world.source.write("app.yml", told("ONE", "example/app:1", settings));
    let operator = world.start();
    world.settled().await;
    let options = || world.swarm.service("one").unwrap().spec.options.clone();
    assert_eq!(
        (options().stop_grace_period, options().update.order),
        (Some(seconds(30)), Some(UpdateOrder::StartFirst))
    );
    // What a person sets beside them stays, and what is set is put back.
    world.swarm.edit("one", |service| {
        let options = &mut service.spec.options;
        options.hostname = Some("theirs".into());
        options.update.parallelism = Some(4);
    });
    sleep(seconds(600)).await;
    assert_eq!(world.swarm.count(StepVerb::Update), 0);
    world.swarm.edit("one", |service| service.spec.options.stop_grace_period = Some(seconds(99)));
    sleep(seconds(600)).await;
    let now = options();
    assert_eq!((now.stop_grace_period, now.hostname.as_deref()), (Some(seconds(30)), Some("theirs")));
    assert_eq!((now.update.order, now.update.parallelism), (Some(UpdateOrder::StartFirst), Some(4)));
    assert_eq!(world.swarm.count(StepVerb::Update), 1);
    // A file that says it no longer, also to an operator that never saw it, gives it back.
    operator.crash().await;
    world.source.write("app.yml", told("ONE", "example/app:1", "{service: {update: {order: start-first}}}"));
    let _operator = world.start();
    world.settled().await;
    sleep(seconds(600)).await;
    let now = options();
    assert_eq!((now.stop_grace_period, now.hostname.as_deref()), (Some(seconds(10)), Some("theirs")));
    assert_eq!(now.update.order, Some(UpdateOrder::StartFirst));
    assert_eq!(world.swarm.count(StepVerb::Update), 2);
    // From then on it is other people's.
    world.swarm.edit("one", |service| service.spec.options.stop_grace_period = Some(seconds(77)));
    world.source.write("app.yml", told("ONE", "example/app:2", "{}"));
    sleep(seconds(600)).await;
    let now = options();
    assert_eq!((now.stop_grace_period, now.update.order), (Some(seconds(77)), Some(UpdateOrder::StopFirst)));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_pruned_outlives_its_manifest_and_the_operator() {
    let world = World::new(3);
    world.registry.lag(seconds(3));
    for uuid in ["ONE", "TWO", "THREE"] {
        world.source.write(&format!("{uuid}.yml"), told(uuid, "example/app:1", "{prune: true}"));
    }
    let operator = world.start();
    world.settled().await;
    sleep(seconds(120)).await;
    let before = world.swarm.service("one").unwrap();
    world.source.write("ONE.yml", told("ONE", "example/app:1", "{prune: false}"));
    world.settled().await;
    let after = world.swarm.service("one").unwrap();
    assert_eq!((&before.id, &before.spec), (&after.id, &after.spec), "its tasks were left alone");
    world.source.remove("ONE.yml");
    world.source.remove("TWO.yml");
    operator.crash().await;
    let operator = world.start();
    world.settled().await;
    sleep(seconds(3600)).await;
    assert!(world.swarm.service("one").is_some() && world.swarm.service("two").is_none());
    let status = operator.report.status();
    let one = status.get(&id("app/ONE")).unwrap();
    assert_eq!((one.sync, one.health), (Sync::Synced, Health::Healthy));
    assert!(one.conditions[0].message.contains("`ofop down app/ONE` removes it"));
    assert_eq!(one.services[0].presence.as_str(), "orphaned");
    assert_eq!(world.swarm.count(StepVerb::Remove), 1);
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_suspended_there_is_no_step_at_all_until_it_is_resumed() {
    let world = World::new(4);
    for uuid in ["ONE", "TWO", "THREE", "FOUR"] {
        world.source.write(&format!("{uuid}.yml"), app(uuid, "example/app:1", ""));
    }
    let operator = world.start();
    world.settled().await;
    sleep(seconds(60)).await;
    operator.tell(Command::Suspend(Some(id("app/THREE")), ofop::model::Term::default())).await;
    operator.tell(Command::Suspend(None, ofop::model::Term::default())).await;
    sleep(seconds(1)).await;
    let writes = world.writes();
    world.swarm.remove("one");
    world.source.remove("TWO.yml");
    world.source.write("FOUR.yml", app("FOUR", "example/app:2", ""));
    world.source.write("FIVE.yml", app("FIVE", "example/app:1", ""));
    sleep(seconds(1800)).await;
    assert_eq!(world.writes(), writes);
    let status = operator.report.status();
    assert!(status.suspended.is_some());
    assert!(status.resources.iter().all(|resource| resource.health == Health::Suspended));
    let two = status.get(&id("app/TWO")).unwrap();
    assert_eq!((two.conditions[0].reason.as_str(), &*two.held[0].waits_for), ("Everything", "`resume`"));
    operator.tell(Command::Resume(None)).await;
    sleep(seconds(60)).await;
    assert!(operator.report.status().suspended.is_none());
    assert!(world.swarm.service("one").is_some() && world.swarm.service("five").is_some());
    assert!(world.swarm.service("two").is_none());
    assert_eq!(world.swarm.service("four").unwrap().spec.image, "example/app:2");
    world.swarm.remove("three");
    sleep(seconds(60)).await;
    assert!(world.swarm.service("three").is_none(), "suspended by itself, it stays so");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_stops_before_its_next_step_when_everything_is_suspended() {
    let world = World::new(5);
    world.swarm.latency(seconds(10));
    for uuid in ["ONE", "TWO"] {
        world.source.write(&format!("{uuid}.yml"), app(uuid, "example/app:1", ""));
    }
    let operator = world.start();
    sleep(seconds(5)).await;
    operator.tell(Command::Suspend(None, ofop::model::Term::default())).await;
    sleep(seconds(600)).await;
    assert_eq!((world.swarm.services().len(), world.registry.writes()), (2, 0), "calls in flight ended, no more began");
    operator.tell(Command::Resume(None)).await;
    world.settled().await;
}

/// The same without a problem: what holds for the app PRESS-7.
fn of_press(settings: &str) -> Handling {
    read_on(PlatformKind::Swarm, &format!("{ENTRIES}x-ofop: {settings}\n")).unwrap().swap_remove(0).1
}

#[test]
fn what_resources_come_after_adds_up_and_a_file_may_come_after_one_of_its_own() {
    let after = |settings: &str| {
        let found = read_on(PlatformKind::Swarm, &format!("{ENTRIES}x-ofop: {settings}\n")).unwrap();
        let words = found.into_iter().map(|(uuid, handling)| {
            let after: Vec<String> = handling.after.iter().map(ToString::to_string).collect();
            format!("{uuid} {}", after.join(" ")).trim_end().to_owned()
        });
        words.collect::<Vec<_>>()
    };
    assert_eq!(
        after("{after: [app/SAW, device/CNC-1], resources: {app/PRESS-7: {after: [app/DB]}}}"),
        ["PRESS-7 app/DB app/SAW device/CNC-1", "SAW device/CNC-1", "CNC-1 app/SAW", "PLC app/SAW device/CNC-1"]
    );
}

#[test]
fn a_rollout_says_how_many_how_long_and_who_goes_first() {
    assert_eq!(of_press("{}").rollout, None);
    for off in ["off", "false", "'off'", "no"] {
        assert_eq!(of_press(&format!("{{rollout: {off}}}")).rollout.as_deref(), Some(&RolloutPolicy::Off), "{off}");
    }
    let settings = |text: &str| match of_press(&format!("{{rollout: {text}}}")).rollout.as_deref() {
        Some(RolloutPolicy::Batches(settings)) => settings.clone(),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(settings("{}"), RolloutSettings::default());
    let all = settings("{max_unhealthy: 10%, batch: 5, soak: 30s, canary: [app/SAW]}");
    assert_eq!((all.max_unhealthy, all.batch.unwrap().get()), (Share::Percent(10), 5));
    assert_eq!((all.soak, all.canary.len()), (Duration::from_secs(30), 1));
    assert_eq!(settings("{max_unhealthy: 3, soak: 2m}").soak, Duration::from_secs(120));
}

#[test]
fn mistakes_in_order_and_rollout_are_refused_with_their_place_and_a_way_out() {
    for (settings, words) in [
        ("{rollout: {max_unhealthy: 0%}}", ["x-ofop.rollout.max_unhealthy", "`1%` to `100%`"]),
        ("{rollout: {max_unhealthy: 120%}}", ["`120%`", "from 1 % to 100 %"]),
        ("{rollout: {max_unhealthy: 0}}", ["`0`", "a number of resources from 1 on"]),
        ("{rollout: {max_unhealthy: [1]}}", ["a text or a number", "10%"]),
        ("{rollout: {batch: 0}}", ["x-ofop.rollout.batch", "1"]),
        ("{rollout: {soak: soon}}", ["`soon` is no time", "30s"]),
        ("{rollout: {soak: 25h}}", ["longer than a day", "24h"]),
        ("{rollout: on}", ["`off` or a map", "max_unhealthy"]),
        ("{rollout: {max_unhealty: 1}}", ["max_unhealty", "max_unhealthy"]),
        ("{rollout: {canary: [app/SAV]}}", ["describes no resource `app/SAV`", "did you mean `app/SAW`"]),
        ("{after: [SAW]}", ["x-ofop.after[0]", "`app/UUID` or `device/UUID`"]),
        ("{after: app/SAW}", ["x-ofop.after", "a list"]),
        ("{resources: {app/SAW: {rollout: off}}}", ["rollout", "app/SAW"]),
    ] {
        let problem = problem(Severity::Error, &format!("{ENTRIES}x-ofop: {settings}\n"));
        assert!(words.iter().all(|word| problem.contains(word)), "{settings}: {problem}");
        assert!(problem.starts_with("16:"), "{problem}");
    }
}
