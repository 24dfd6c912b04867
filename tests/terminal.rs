//! The commands that people type to see how things are, with the real program on a real engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/operator.rs"]
mod operator;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use engine::{FAILING, IDLE, TestEngine};
use operator::{Operator, Ran};
use serde_json::Value;

/// Prints what it is and then one line after the other.
const TALKING: &str = "talking:1";
const TALKING_SCRIPT: &str = "trap 'exit 0' TERM; echo \"replica $SWARM_TASK_SLOT of $SWARM_SERVICE_NAME\"; \
     echo 'a warning' >&2; while :; do sleep 1 & wait; echo tick; done";
/// Says why and ends with an error.
const DYING: &str = "dying:1";

const LONG: &str = "PRESS-MONITOR-WITH-A-VERY-LONG-NAME-THAT-FITS-NO-COLUMN";

fn app(name: &str, image: &str, more: &str) -> String {
    format!("apps:\n  {}:\n    uuid: {name}\n    image: {image}\n{more}", name.to_lowercase())
}

fn engine() -> std::sync::Arc<TestEngine> {
    let engine = engine::shared();
    engine.import_image(TALKING, TALKING_SCRIPT);
    engine.import_image(DYING, "echo 'cannot reach PLC 10.1.2.3'; sleep 0.2; exit 3");
    engine
}

/// A plant of its own: tests of this file share an engine.
fn plant(engine: &TestEngine, instance: &str) -> Operator {
    let mut ofop = Operator::new(&engine.host());
    ofop.set("OFOP_INSTANCE", instance);
    ofop
}

fn down(ofop: &Operator) {
    let ran = ofop.run(&["down", "--all", "--yes"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

/// A command that goes on, and its lines.
fn started(ofop: &Operator, arguments: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = ofop.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

/// Ctrl-C, and the exit code.
fn interrupted(mut child: Child) -> Option<i32> {
    let sent = std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait().unwrap().code()
}

#[test]
fn tables_are_as_wide_as_the_terminal_and_whole_in_a_pipe() {
    let engine = engine();
    let mut ofop = plant(&engine, "tables");
    ofop.write("long.yml", &app(LONG, IDLE, "    networks: [no-such-network]\n"));
    ofop.write("table.yml", &app("TABLE-1", IDLE, ""));
    assert_eq!(ofop.run(&["apply", "desired/table.yml", "--wait"]).code, Some(0));

    let piped = ofop.run(&["get", "apps"]);
    let row = piped.out.lines().find(|line| line.contains(LONG)).unwrap();
    assert!(row.starts_with(&format!("app/{LONG} ")) && !piped.out.contains('…'), "{}", piped.out);
    assert!(row.contains("MissingNetwork: ") && row.contains("no-such-network"), "the reason comes first: {row}");
    let table: Vec<&str> =
        piped.out.lines().find(|line| line.contains("TABLE-1")).unwrap().split_whitespace().collect();
    assert_eq!(table[..4], ["app/TABLE-1", "Synced", "Healthy", "1/1"]);
    assert!(table[4].ends_with('s'), "its age: {table:?}");

    for columns in [80, 160] {
        ofop.set("COLUMNS", &columns.to_string());
        let shown = ofop.run_on_terminal(&["get", "apps", "--color", "never"], "", "").out;
        let longest =
            shown.lines().filter(|line| line.contains("app/")).map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= columns, "{columns}: {longest}\n{shown}");
        assert!(shown.contains(&format!("app/{LONG}")) == (columns == 160), "{shown}");
        let piped = ofop.run(&["get", "apps"]).out;
        assert!(!piped.contains('…'), "whatever COLUMNS says: {piped}");
    }

    // Selected, sorted, and in columns of one's own.
    let names = |arguments: &[&str]| ofop.run(&[&["get"], arguments, &["-o", "name"]].concat()).out;
    assert_eq!(names(&["resources", "--sort-by", "health"]), format!("app/{LONG}\napp/TABLE-1\n"));
    assert_eq!(names(&["apps", "--health", "healthy"]), "app/TABLE-1\n");
    assert_eq!(names(&["apps", "--sync", "OutOfSync,Unknown"]), format!("app/{LONG}\n"));
    assert_eq!(names(&["apps", "--file", "desired/table.yml"]), "app/TABLE-1\n");
    assert_eq!(names(&["app", "TABLE-1"]), "app/TABLE-1\n");
    assert_eq!(names(&["services", "app/TABLE-1"]), "service/table-1\n");
    let columns = ofop.run(&["get", "app/TABLE-1", "-o", "custom-columns=WHO:.resource,IMAGE:.services[*].image"]);
    assert_eq!(columns.out, format!("WHO          IMAGE\napp/TABLE-1  {IDLE}\n"));

    // What does not exist is answered with what was meant.
    for (arguments, hint) in [
        (vec!["get", "app/table-1"], "did you mean `app/TABLE-1`?"),
        (vec!["describe", "device/TABLE-1"], "did you mean `app/TABLE-1`?"),
        (vec!["logs", "app/TABEL-1"], "did you mean `app/TABLE-1`?"),
        (vec!["wait", "app/TABLE-11"], "did you mean `app/TABLE-1`?"),
        (vec!["get", "servcies"], "did you mean `ofop get services`?"),
    ] {
        let ran = ofop.run(&arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(ran.err.contains(hint), "{arguments:?}: {}", ran.err);
    }

    // Where a task is, people know by the name of the host.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let described = ofop.run(&["describe", "app/TABLE-1"]).out;
    assert!(described.contains(&format!("running on {} since", host.trim())), "{described}");
    let yaml = ofop.run(&["describe", "app/TABLE-1", "-o", "yaml"]).out;
    assert!(yaml.contains("\"app/TABLE-1\"") && !yaml.starts_with('{'), "{yaml}");
    down(&ofop);
}

#[test]
fn a_watch_in_a_pipe_has_a_line_for_each_change() {
    let engine = engine();
    let mut ofop = plant(&engine, "watch");
    ofop.write("one.yml", &app("WATCH-1", IDLE, ""));
    ofop.write("two.yml", &app("WATCH-2", IDLE, ""));
    ofop.start();
    ofop.settles("app/WATCH-1");
    ofop.settles("app/WATCH-2");
    let address = ofop.address().unwrap();
    let (child, mut lines) = started(&ofop, &["get", "apps", "-w", "--address", &address]);
    let first: Vec<String> = lines.by_ref().take(3).collect();
    assert!(first[0].starts_with("RESOURCE") && first[2].starts_with("app/WATCH-2"), "{first:?}");
    assert_eq!(ofop.run(&["suspend", "app/WATCH-2"]).code, Some(0));
    let changed = lines.next().unwrap();
    assert!(changed.starts_with("app/WATCH-2") && changed.contains("Suspended"), "{changed}");
    assert_eq!(interrupted(child), Some(130));
    assert_eq!(ofop.run(&["get", "services", "-w"]).code, Some(2));

    // One resource is tried again and waited for, whatever else is wrong.
    let reconciled = ofop.run(&["reconcile", "app/WATCH-1", "--wait"]);
    assert_eq!(reconciled.code, Some(0), "{}{}", reconciled.out, reconciled.err);
    let unknown = ofop.run(&["reconcile", "app/WATCH-11"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("did you mean `app/WATCH-1`?"), "{}", unknown.err);

    // A shell is offered what the daemon knows.
    let offered = |words: &[&str]| {
        let mut command = ofop.command(&[&["--", "ofop"], words].concat());
        let index = words.len().to_string();
        command.envs([
            ("OFOP_COMPLETE", "bash"),
            ("_CLAP_COMPLETE_INDEX", index.as_str()),
            ("_CLAP_COMPLETE_COMP_TYPE", "9"),
        ]);
        command.envs([("_CLAP_COMPLETE_SPACE", "true"), ("_CLAP_IFS", "\n")]).env_remove("OFOP_DESIRED");
        Ran::of(&command.output().unwrap()).out
    };
    assert_eq!(offered(&["describe", "app/W"]), "app/WATCH-1\napp/WATCH-2");
    assert!(offered(&["get", "dev"]).contains("devices"));
    assert!(offered(&["get", "--health", "De"]).contains("Degraded"));
    assert!(offered(&["--registry", ""]).contains("embedded"));

    // What is taken down is gone, which can be waited for.
    assert_eq!(ofop.run(&["down", "app/WATCH-1", "--yes", "--address", &address]).code, Some(0));
    let gone = ofop.run(&["wait", "app/WATCH-1", "--for", "removed"]);
    assert_eq!((gone.code, gone.out.as_str()), (Some(0), "1 of 1 removed\n"), "{}", gone.err);
    assert_eq!(ofop.run(&["resume", "app/WATCH-2"]).code, Some(0));
    ofop.settles("app/WATCH-2");
    assert_eq!(ofop.signal("TERM"), Some(0));
    down(&ofop);
}

#[test]
fn logs_are_read_from_the_engine_and_end_tidily() {
    let engine = engine();
    let ofop = plant(&engine, "logs");
    ofop.write("talk.yml", &app("TALK-1", TALKING, "    deploy: {replicas: 2}\n"));
    ofop.write("die.yml", &app("DIE-1", DYING, ""));
    ofop.write("quiet.yml", &app("QUIET-1", IDLE, ""));
    ofop.run(&["apply"]);
    let waited = ofop.run(&["wait", "app/TALK-1", "app/QUIET-1", "--timeout", "80s"]);
    assert_eq!((waited.code, waited.out.as_str()), (Some(0), "2 of 2 in sync and healthy\n"), "{}", waited.err);

    let said = |arguments: &[&str]| ofop.run(&[&["logs"], arguments].concat());
    ofop.wait("both replicas have said who they are", || {
        let all = said(&["app/TALK-1", "--tail", "all"]).out;
        all.contains("replica 1 of talk-1") && all.contains("replica 2 of talk-1") && all.contains("a warning")
    });
    let all = said(&["app/TALK-1", "--tail", "all"]);
    assert!(all.out.lines().all(|line| line.starts_with("talk-1.") && line.contains(" | ")), "{}", all.out);
    let one = said(&["app/TALK-1", "--task", "2", "--tail", "all"]);
    assert!(one.out.contains("replica 2 of talk-1\n") && !one.out.contains("replica 1"), "{}", one.out);
    assert!(said(&["app/TALK-1", "--task", "2", "--tail", "1"]).out.lines().count() <= 1);
    let timed = said(&["app/TALK-1", "--task", "1", "--tail", "all", "-t"]).out;
    let times: Vec<&str> = timed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(
        !times.is_empty() && times.is_sorted() && times.iter().all(|time| time.parse::<jiff::Timestamp>().is_ok()),
        "{timed}"
    );
    let quiet = said(&["app/QUIET-1"]);
    assert_eq!((quiet.code, quiet.out.as_str()), (Some(0), ""));
    assert!(quiet.err.contains("nothing was printed"), "{}", quiet.err);
    for (arguments, error) in [
        (&["app/TALK-1", "--task", "7"][..], "has no task `7`"),
        (&["app/TALK-1", "--service", "other"], "has no service `other`"),
        (&["app/TALK-1", "--since", "soon"], "is neither a time"),
    ] {
        let ran = said(arguments);
        assert!(ran.code == Some(2) && ran.err.contains(error), "{arguments:?}: {}", ran.err);
    }

    // Followed until Ctrl-C.
    let (child, mut lines) = started(&ofop, &["logs", "app/TALK-1", "-f", "--tail", "0"]);
    assert!(lines.next().unwrap().ends_with(" | tick"));
    assert_eq!(interrupted(child), Some(130));

    // What a program said that ends again and again is part of its description.
    ofop.wait("the last words are shown", || {
        let described = ofop.run(&["describe", "app/DIE-1"]).out;
        described.contains("Last lines of die-1") && described.contains("\n  cannot reach PLC 10.1.2.3\n")
    });
    assert!(said(&["app/DIE-1"]).out.contains("cannot reach PLC 10.1.2.3"));

    // What only ends badly is not waited for.
    let stranger = format!(r#"{{"Name":"stuck-1","TaskTemplate":{{"ContainerSpec":{{"Image":"{IDLE}"}}}}}}"#);
    engine.ok("POST", "/services/create", &stranger);
    ofop.write("stuck.yml", &app("STUCK-1", TALKING, ""));
    let waited = ofop.run(&["wait", "app/STUCK-1", "--timeout", "60s"]);
    assert_eq!((waited.code, waited.out.as_str()), (Some(3), "0 of 1 in sync and healthy\n"), "{}", waited.err);
    assert!(waited.err.contains("error: app/STUCK-1: ") && waited.err.contains("ofop adopt"), "{}", waited.err);
    engine.ok("DELETE", "/services/stuck-1", "");
    down(&ofop);
}

#[test]
fn the_doctor_names_what_is_missing() {
    let engine = engine();
    let ofop = plant(&engine, "doctor");
    ofop.write("one.yml", &app("DOC-1", FAILING, "    networks: [factory-net]\n"));
    let look = |arguments: &[&str]| {
        let ran = ofop.run(&[&["doctor", "-o", "json"], arguments].concat());
        let checks: Vec<Value> = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
        (ran.code, checks)
    };
    let level = |checks: &[Value], name: &str| -> String {
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {checks:?}"));
        check["level"].as_str().unwrap().to_owned()
    };
    let (code, checks) = look(&[]);
    assert_eq!(code, Some(0), "{checks:?}");
    for name in ["engine", "swarm", "clock", "manifests", "networks", "registry", "state", "access", "lease", "daemon"]
    {
        assert_eq!(level(&checks, name), "ok", "{name}: {checks:?}");
    }
    let text = ofop.run(&["doctor"]);
    assert!(text.out.contains("OK    engine") && text.out.ends_with("everything is in place\n"), "{}", text.out);

    ofop.write("two.yml", &app("DOC-2", IDLE, "    networks: [other-net]\n"));
    let (code, checks) = look(&[]);
    assert_eq!((code, level(&checks, "networks").as_str()), (Some(1), "fail"));
    assert!(ofop.run(&["doctor"]).out.contains("-> docker network create --driver overlay --attachable other-net"));
    ofop.write("two.yml", "apps: 1\n");
    let (code, checks) = look(&[]);
    assert_eq!((code, level(&checks, "manifests").as_str()), (Some(1), "fail"));
    ofop.delete("two.yml");

    let (code, checks) = look(&["--host", "unix:///nowhere.sock"]);
    assert_eq!((code, level(&checks, "engine").as_str()), (Some(1), "fail"));
    let (code, checks) = look(&["--state-dir", "desired/one.yml"]);
    assert_eq!((code, level(&checks, "state").as_str()), (Some(1), "fail"));
    let (code, checks) = look(&["--registry", "paper"]);
    assert_eq!((code, level(&checks, "settings").as_str()), (Some(1), "fail"));
    let folder = ofop.folder().join(".ofop");
    assert!(!folder.join("registry.db").exists() && !folder.join("events.db").exists(), "it changes nothing");
}

#[test]
fn what_runs_becomes_manifests_under_which_nothing_changes() {
    let engine = engine();
    let ofop = plant(&engine, "import");
    ofop.write("rich.yml", &app("IMPORT-1", IDLE, "    environment: [\"MODE=auto: #1\", 'EMPTY=']\n    networks: [factory-net]\n    \
         routing: {expose: true, port: 8000, hostname: imports}\n    runtime_uid: 1000\n    runtime_gid: 1001\n    \
         deploy: {replicas: 2, resources: {limits: {cpus: 0.5, memory: 64Mi, open_files: 1024}}, placement: {constraints: [node.role == manager]}}\n"));
    ofop.write("plain.yml", &app("IMPORT-2", IDLE, ""));
    assert_eq!(ofop.run(&["apply"]).code, Some(0));
    let everything =
        |ran: &Ran| assert!(ran.out.contains("IMPORT-1") && ran.out.contains("IMPORT-2"), "{}{}", ran.out, ran.err);

    // The YAML got lost.
    ofop.delete("rich.yml");
    ofop.delete("plain.yml");
    let printed = ofop.run(&["import", "app/IMPORT-1", "app/IMPORT-2"]);
    assert_eq!(printed.code, Some(0), "{}{}", printed.out, printed.err);
    everything(&printed);
    let written = ofop.run(&["import", "app/IMPORT-1", "app/IMPORT-2", "--into", "desired"]);
    assert_eq!(written.out, "desired/app_import-1.yml\ndesired/app_import-2.yml\n", "{}", written.err);
    let planned = ofop.run(&["plan"]);
    assert_eq!(
        (planned.code, planned.out.contains("Nothing to do")),
        (Some(0), true),
        "{}{}",
        planned.out,
        planned.err
    );
    assert_eq!(ofop.run(&["import", "app/IMPORT-1", "--into", "desired"]).code, Some(3), "a manifest describes it");

    // Marks and manifests lost: as OpenFactory's own command line leaves a service.
    ofop.delete("app_import-1.yml");
    let services = engine.get("/services");
    let rich = services.as_array().unwrap().iter().find(|service| service["Spec"]["Name"] == "import-1").unwrap();
    engine.edit_service(rich["ID"].as_str().unwrap(), |spec| {
        spec["Labels"].as_object_mut().unwrap().retain(|label, _| !label.starts_with("io.openfactory.operator"));
    });
    let written = ofop.run(&["import", "app/IMPORT-1", "--into", "desired"]);
    assert_eq!(written.code, Some(0), "{}{}", written.out, written.err);
    let planned = ofop.run(&["plan", "-o", "json"]);
    let plan: Value = serde_json::from_str(&planned.out).unwrap();
    let steps = plan["resources"]["app/IMPORT-1"]["steps"].as_array().unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| step["reason"] == "adopt"), "{}", planned.out);

    // What no manifest can say is listed, and written only when that is asked for.
    ofop.delete("app_import-1.yml");
    engine.edit_service(rich["ID"].as_str().unwrap(), |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["Args"] = serde_json::json!(["-c", "sleep 60"]);
    });
    let listed = ofop.run(&["import", "app/IMPORT-1"]);
    assert_eq!((listed.code, listed.out.as_str()), (Some(3), ""), "{}", listed.err);
    assert!(
        listed.err.contains("app/IMPORT-1 is left out, since it would change") && listed.err.contains("args"),
        "{}",
        listed.err
    );
    let inexact = ofop.run(&["import", "app/IMPORT-1", "--inexact"]);
    assert!(inexact.code == Some(3) && inexact.out.contains("IMPORT-1"), "{}", inexact.err);
    engine.ok("DELETE", "/services/import-1", "");
    down(&ofop);
}
