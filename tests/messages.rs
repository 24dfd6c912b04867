//! What an engineer reads who made a mistake: the message names the mistake, and the hint says what to write instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ofop::desired::{ParseContext, ParsedFile, parse};
use ofop::model::{PlatformKind, Problem, Severity};

fn read(text: &str, variables: &[(&str, &str)]) -> ParsedFile {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let context = ParseContext { variables: Arc::new(variables), ..ParseContext::new(PlatformKind::Swarm) };
    parse(&"app_x.yml".into(), text, [0; 32], &context)
}

fn app(fields: &str) -> String {
    format!("apps:\n  press:\n    uuid: PRESS\n    image: plant/press:1\n{fields}")
}

fn problems(parsed: &ParsedFile, severity: Severity) -> Vec<&Problem> {
    parsed.problems.iter().filter(|problem| problem.severity == severity).collect()
}

#[test]
fn a_variable_that_is_not_set_is_named_with_the_error_that_it_leads_to() {
    for (text, place, name) in [
        (app("").replace("plant/press:1", "\"plant/press:${TAG}\""), "apps.press.image", "TAG"),
        (app("").replace("PRESS", "${WHO}"), "apps.press.uuid", "WHO"),
        (app("    routing:\n      expose: true\n      port: ${P}\n"), "apps.press.routing", "P"),
        (app("    deploy: {replicas: \"${N}\"}\n"), "apps.press.deploy.replicas", "N"),
        (app("    networks: [\"${NET}\"]\n"), "apps.press.networks[0]", "NET"),
        (app("    runtime_uid: 7\n    runtime_gid: ${GID}\n"), "apps.press", "GID"),
    ] {
        let parsed = read(&text, &[]);
        let errors = problems(&parsed, Severity::Error);
        let unset = format!("`{name}` is not set");
        let told = errors.iter().find(|problem| problem.path == place).unwrap_or_else(|| panic!("{text}: {errors:?}"));
        assert!(told.message.ends_with(&unset), "{text}: {told}");
        assert!(told.hint.as_ref().unwrap().starts_with(&format!("set `{name}`")), "{told}");
        assert!(problems(&parsed, Severity::Warning).is_empty(), "said once: {:?}", parsed.problems);
    }
}

#[test]
fn a_variable_that_is_not_set_is_a_warning_where_the_file_is_valid_without_it() {
    let text =
        app("    environment:\n      - A=${HOST}:1\n      - B=${HOST:-}\n      - C=${HOST:-x}\n      - D=${SET}\n");
    let parsed = read(&text, &[("SET", "1"), ("HOST", "")]);
    assert!(parsed.manifest.is_some());
    let [warning] = problems(&parsed, Severity::Warning)[..] else { panic!("{:?}", parsed.problems) };
    assert_eq!((warning.path.as_str(), warning.line), ("apps.press.environment[0]", 6));
    assert_eq!(warning.message, "`HOST` is not set: nothing is put in its place");
    assert!(read(&app("    # ${NOT_USED}\n"), &[]).problems.is_empty(), "in a comment it stands for nothing");
}

#[test]
fn a_variable_that_the_file_would_be_read_otherwise_without_is_called_unset() {
    // Without its value the colon ends the line, and makes a name of what stands before it.
    let parsed = read(&app("").replace(":1", ":${TAG}"), &[]);
    assert!(parsed.problems[0].message.starts_with("`TAG` is not set"), "{:?}", parsed.problems);
    for text in [app("    environment: [A=1${X}\n"), "apps: {press: {uuid: A, image: ${X}}\n".to_owned()] {
        let parsed = read(&text, &[]);
        assert!(parsed.manifest.is_none());
    }
    let parsed = read("apps:\n  press:\n    uuid: A\n    image: b\n    ${X}: c\n", &[]);
    assert!(parsed.problems.iter().any(|problem| problem.message.contains("`X` is not set")), "{:?}", parsed.problems);
}

#[test]
fn a_variable_that_its_author_requires_is_an_error_with_the_authors_words() {
    for (form, words) in [
        ("${X?who}", "`X` is not set: who"),
        ("${X:?who}", "`X` is not set: who"),
        ("${X?who is it}", "`X` is not set: who is it"),
        ("a${X:?see: the wiki}b", "`X` is not set: see: the wiki"),
        ("${X?}", "`X` is not set"),
    ] {
        let text = app(&format!("    environment:\n      - \"A={form}\"\n"));
        let parsed = read(&text, &[("X", "")]);
        let [error] = problems(&parsed, Severity::Error)[..] else { panic!("{form}: {:?}", parsed.problems) };
        assert_eq!((error.message.as_str(), error.path.as_str()), (words, "apps.press.environment[0]"), "{form}");
        assert!(parsed.manifest.is_none());
        // Set, it means what it means to OpenFactory, which is not what was meant.
        let parsed = read(&text, &[("X", "s3cret")]);
        let [warning] = problems(&parsed, Severity::Warning)[..] else { panic!("{form}: {:?}", parsed.problems) };
        assert!(warning.message.starts_with("OpenFactory knows no `${X?…}`"), "{warning}");
        assert!(parsed.manifest.is_some() && !format!("{:?}", parsed.problems).contains("s3cret"));
    }
    assert!(read(&app("    # A=${X?who}\n"), &[]).problems.is_empty(), "in a comment it stands for nothing");
}

#[test]
fn images_are_checked_as_the_engine_checks_them() {
    for (image, words) in [
        ("plant/press:", "ends in a `:` without a tag behind it"),
        ("Press:1", "has a name in capitals"),
        ("http://reg.local/press:1", "is a URL"),
        ("press :1", "holds white space"),
        ("press@sha256:abc", "has a digest that is none"),
        ("''", "is empty"),
    ] {
        let parsed = read(&app("").replace("plant/press:1", &format!("\"{}\"", image.trim_matches('\''))), &[]);
        let [error] = problems(&parsed, Severity::Error)[..] else { panic!("{image}: {:?}", parsed.problems) };
        assert!(error.message.starts_with(words) && error.path == "apps.press.image", "{image}: {error}");
        assert!(error.hint.as_ref().unwrap().contains("ghcr.io/plant/press:1.2"));
    }
    // A single engine knows images by their ids, a swarm does not.
    let id = app("").replace("plant/press:1", &format!("\"{}\"", "a1".repeat(32)));
    assert!(read(&id, &[]).manifest.is_none());
    let docker = ParseContext::new(PlatformKind::Docker);
    assert!(parse(&"app_x.yml".into(), &id, [0; 32], &docker).manifest.is_some());
    let adapter = "devices:\n  m:\n    uuid: M\n    connector:\n      type: mtconnect\n      agent:\n        port: 1\n        \
                   device_xml: m.xml\n        adapter: {image: \"Ad:1\", port: 2}\n";
    assert_eq!(read(adapter, &[]).problems[0].path, "devices.m.connector.agent.adapter.image");
}

#[test]
fn common_mistakes_get_a_hint_that_says_what_to_write() {
    for (text, severity, place, hint) in [
        ("apps:\n  - uuid: A\n    image: b\n".to_owned(), Severity::Error, "apps", "give each entry a name of its own"),
        (app("    environment:\n      A: b\n"), Severity::Error, "apps.press.environment", "write `- NAME=value`"),
        (app("    environment:\n      - A: b\n"), Severity::Error, "apps.press.environment[0]", "with `=` between"),
        ("services:\n  web:\n    image: nginx\n".to_owned(), Severity::Error, "services", "this is a compose file"),
        (
            app("    deploy: {placement: {constraints: [rack == large]}}\n"),
            Severity::Warning,
            "apps.press.deploy.placement.constraints[0]",
            "node.labels.NAME == VALUE",
        ),
        (app("    networks: [ingress]\n"), Severity::Error, "apps.press.networks[0]", "remove the item"),
        (
            "devices:\n  m:\n    uuid: M\n    agent: {port: 1}\n".to_owned(),
            Severity::Error,
            "devices.m.agent",
            "below `connector:`",
        ),
        (
            app("    deploy: {resources: {limits: {open_files: 0}}}\n"),
            Severity::Error,
            "apps.press.deploy.resources.limits.open_files",
            "write it in digits",
        ),
    ] {
        let parsed = read(&text, &[]);
        let found = problems(&parsed, severity).into_iter().find(|problem| problem.path == place);
        let found = found.unwrap_or_else(|| panic!("{text}: {:?}", parsed.problems));
        assert!(found.hint.as_ref().is_some_and(|given| given.contains(hint)), "{text}: {found}");
    }
}

#[test]
fn lists_do_not_merge_and_a_map_does_not_mix_with_a_list() {
    let parsed =
        read("x-env: &e [A=1]\napps:\n  press:\n    uuid: A\n    image: b\n    environment:\n      - *e\n", &[]);
    let hint = parsed.problems[0].hint.as_ref().unwrap();
    assert!(hint.starts_with("lists do not merge"), "{hint}");
    for text in ["      A: b\n      - C=d\n", "      - C=d\n      A: b\n"] {
        let parsed = read(&app(&format!("    environment:\n{text}")), &[]);
        let error = &parsed.problems[0];
        assert!(error.hint.as_ref().unwrap().contains("either a list or a map"), "{text}: {error}");
    }
}

#[test]
fn a_credential_is_put_nowhere_whatever_stands_around_it() {
    const VALUE: &str = "supersecrettoken99";
    for (text, place) in [
        (app("").replace("plant/press:1", "\"plant/press:${OFOP_TOKEN}\""), "apps.press.image"),
        (app("").replace("plant/press:1", "\"plant/press:${OFOP_TOKEN:-1}\""), "apps.press.image"),
        (app("    environment: [\"A=${OFOP_TOKEN}\"]\n"), "apps.press.environment[0]"),
        (app("    environment: [A=1, \"${OFOP_TOKEN}\"]\n"), "apps.press.environment[1]"),
        (app("    networks: [\"${OFOP_TOKEN}\"]\n"), "apps.press.networks[0]"),
        (app("    routing: {expose: true, port: ${OFOP_TOKEN}}\n"), "apps.press.routing"),
        (app("    environment: ${OFOP_TOKEN}\n"), "apps.press.environment"),
        (format!("${{OFOP_TOKEN}}: 1\n{}", app("")), ""),
        ("apps: {press: {uuid: P, image: x, ${OFOP_TOKEN}}}".into(), ""),
    ] {
        let context = ParseContext {
            variables: Arc::new([("OFOP_TOKEN".to_owned(), VALUE.to_owned())].into()),
            withheld: Arc::new(BTreeSet::from(["OFOP_TOKEN".to_owned()])),
            ..ParseContext::new(PlatformKind::Swarm)
        };
        let parsed = parse(&"app_x.yml".into(), &text, [0; 32], &context);
        assert!(parsed.manifest.is_none(), "{text}");
        let errors = problems(&parsed, Severity::Error);
        let told = errors.iter().find(|problem| problem.message.contains("`OFOP_TOKEN` is a credential"));
        let told = told.unwrap_or_else(|| panic!("{text}: {errors:?}"));
        assert!(place.is_empty() || told.path.starts_with(place), "{text}: {told}");
        assert!(told.line > 0 && told.hint.is_some(), "{told:?}");
        assert!(!format!("{:?}", parsed.problems).contains(VALUE), "{:?}", parsed.problems);
    }
}

#[test]
fn mount_options_name_no_server_but_the_one_that_is_checked() {
    let storage = |options: &str| {
        app(&format!(
            "    storage:\n      data: {{type: nfs, server: nas, remote_path: /r, mount_point: /m, mount_options: [{options}]}}\n"
        ))
    };
    for options in ["'addr=6.6.6.6'", "ro, 'ADDR=6.6.6.6'", "'ro,addr=6.6.6.6'", "'mountaddr=6.6.6.6'", "'addr'"] {
        let parsed = read(&storage(options), &[]);
        let errors = problems(&parsed, Severity::Error);
        assert_eq!(errors.len(), 1, "{options}: {errors:?}");
        assert!(errors[0].message.contains("names another server than `server`"), "{}", errors[0]);
    }
    let parsed = read(&storage("ro, 'nfsvers=3', 'clientaddr=10.0.0.1'"), &[]);
    assert!(parsed.manifest.is_some(), "{:?}", parsed.problems);
}
