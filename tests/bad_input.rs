//! Text that is no manifest is refused with a place and a reason, quickly, and never mistaken for an empty one.

#![expect(clippy::panic, reason = "a test")]

use ofop::desired::{ParseContext, ParsedFile, parse};
use ofop::model::{PlatformKind, Problem, Severity};

fn read(text: &str) -> ParsedFile {
    parse(&"bad.yml".into(), text, [0; 32], &ParseContext::new(PlatformKind::Swarm))
}

/// The first error of a text that must be refused.
fn refused(text: &str) -> Problem {
    let parsed = read(text);
    assert!(parsed.manifest.is_none(), "accepted: {:.80}", text);
    match parsed.problems.into_iter().find(|problem| problem.severity == Severity::Error) {
        Some(problem) => problem,
        None => panic!("refused without a reason: {text:.80}"),
    }
}

#[test]
fn a_text_that_describes_nothing_is_refused() {
    for text in ["", "\n\n", "# nothing\n", "---\n", "---\n...\n", "~", "null\n", "{}", "x-free: 1\n", "\u{feff}"] {
        let problem = refused(text);
        assert!(problem.message.contains("nothing") || problem.message.contains("neither"), "{text:?}: {problem}");
    }
}

#[test]
fn a_text_that_is_no_map_is_refused() {
    for text in ["[]", "5", "text", "- apps"] {
        assert!(refused(text).message.contains("must be a map"), "{text:?}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(200_000),
        "{a: ".repeat(50_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        (0..2_000).map(|depth| " ".repeat(depth) + "a:\n").collect(),
        format!("apps: {}{}", "[".repeat(70), "]".repeat(70)),
    ] {
        let problem = refused(&text);
        assert!(problem.line > 0 || problem.message.contains("larger"), "{text:.40}: {problem}");
    }
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = String::from("x-0: &a0 [l,l,l,l,l,l,l,l,l]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(",");
        bomb += &format!("x-{level}: &a{level} [{items}]\n");
    }
    assert!(refused(&bomb).message.contains("aliases included"));
    let mut merges = String::from("x-0: &a0 {k0: 1}\n");
    for level in 1..40 {
        merges += &format!("x-{level}: &a{level} {{<<: [*a{0}, *a{0}], k{level}: 1}}\n", level - 1);
    }
    refused(&(merges + "apps: 1"));
    let long = format!("x-a: &a {}\nx-b: [{}]\n", "long".repeat(100_000), "*a,".repeat(100_000));
    assert!(refused(&long).message.contains("aliases included"));
}

#[test]
fn values_of_variables_count_as_text() {
    let mut context = ParseContext::new(PlatformKind::Swarm);
    context.variables = std::sync::Arc::new([("V".to_owned(), "v".repeat(100_000))].into());
    let parsed = parse(&"bad.yml".into(), &format!("apps: [{}]", "'${V}',".repeat(20_000)), [0; 32], &context);
    assert!(parsed.problems[0].message.contains("larger than"), "{:?}", parsed.problems);
}

#[test]
fn replicas_are_limited_per_app_and_per_file() {
    assert!(refused("apps: {a: {uuid: A, image: i, deploy: {replicas: 100001}}}").path.ends_with("replicas"));
    let app =
        |name: &str, replicas: u64| format!("  {name}: {{uuid: {name}, image: i, deploy: {{replicas: {replicas}}}}}\n");
    assert!(read(&format!("apps:\n{}", app("a", 65_536))).manifest.is_some());
    let problem = refused(&format!("apps:\n{}{}", app("a", 65_536), app("b", 65_536)));
    assert_eq!(problem.path, "apps.b.uuid");
}

#[test]
fn names_that_lead_to_the_same_service_or_asset_are_refused() {
    for text in [
        "apps: {a: {uuid: App, image: i}, b: {uuid: APP, image: i}}",
        "apps: {a: {uuid: APP, image: i, deploy: {replicas: 2}}, b: {uuid: APP-2, image: i}}",
        "apps: {a: {uuid: cnc-producer, image: i}}\ndevices: {m: {uuid: CNC, connector: {type: mtconnect, agent: {ip: h, port: 1}}}}",
        "devices: {a: {uuid: S, connector: {type: shdr, host: h, port: 1}}, b: {uuid: S, connector: {type: shdr, host: h, port: 1}}}",
    ] {
        assert!(refused(text).message.contains("leads to the same"), "{text}");
    }
    // Without services of their own, devices may differ in case alone.
    let apart = "devices: {a: {uuid: S, connector: {type: shdr, host: h, port: 1}}, b: {uuid: s, connector: {type: shdr, host: h, port: 1}}}";
    assert!(read(apart).manifest.is_some());
}

#[test]
fn aliases_within_reason_are_taken() {
    let parsed = read(
        "x-a: &a {image: i, networks: &n [one, two]}\napps:\n  a: {<<: *a, uuid: A}\n  b: {uuid: B, image: i, networks: *n}\n",
    );
    let Some(manifest) = parsed.manifest else { panic!("{:?}", parsed.problems) };
    assert_eq!(manifest.apps[0].networks, ["one", "two"]);
    assert_eq!(manifest.apps[1].networks, ["one", "two"]);
}

#[test]
fn an_alias_to_what_holds_it_is_refused() {
    refused("apps: &a {x: *a}");
    refused("apps: &a [*a]");
    refused("apps: *nothing");
}

#[test]
fn a_file_over_one_mebibyte_is_refused() {
    let text = format!("apps: {{a: {{uuid: A, image: i}}}}\n#{}", "x".repeat(1 << 20));
    assert!(refused(&text).message.contains("larger than"));
    let many = format!("apps: [{}]", "a,".repeat(400_000));
    refused(&many);
}

#[test]
fn a_second_document_is_refused_where_it_begins() {
    let problem = refused("apps: {a: {uuid: A, image: i}}\n---\napps: {}\n");
    assert_eq!((problem.line, problem.column), (2, 1), "{problem}");
    assert!(problem.message.contains("second document"));
}

#[test]
fn tabs_and_control_characters_are_refused_where_they_stand() {
    let problem = refused("apps:\n\ta:\n\t\tuuid: A\n");
    assert_eq!(problem.line, 2, "{problem}");
    assert!(problem.hint.is_some_and(|hint| hint.contains("spaces")));
    let problem = refused("apps:\n  a: {uuid: A\0, image: i}\n");
    assert_eq!((problem.line, problem.column), (2, 14), "{problem}");
    for odd in ['\u{1}', '\u{7f}', '\u{85}', '\u{2028}', '\u{fffe}'] {
        assert_eq!(refused(&format!("# {odd}\napps: {{}}")).line, 1);
    }
}

#[test]
fn duplicate_keys_are_refused_with_both_places() {
    let text = "apps:\n  a: {uuid: A, image: i}\n  b: {uuid: B, image: i, image: j}\n  a: {uuid: C, image: i}\n";
    let parsed = read(text);
    let places: Vec<_> = parsed.problems.iter().map(|p| (p.line, p.column, p.path.as_str())).collect();
    assert_eq!(places, [(3, 26, "apps.b.image"), (4, 3, "apps.a")]);
    assert!(parsed.problems[1].hint.as_deref().is_some_and(|hint| hint.contains("line 2, column 3")));
}

#[test]
fn a_half_written_file_is_refused_or_means_what_it_says() {
    let text = "apps:\n  a:\n    uuid: A\n    image: i\n    environment: [\"A=1\", 'B=2']\n    deploy: {replicas: 2}\n";
    for end in 0..text.len() {
        let parsed = read(&text[..end]);
        assert_eq!(parsed.manifest.is_none(), parsed.problems.iter().any(|p| p.severity == Severity::Error), "{end}");
    }
}

#[test]
fn every_problem_of_a_file_is_told_in_one_go() {
    let parsed = read(
        "apps:\n  a: {uuid: 5, imag: i, metrics: {port: x}}\n  b: {uuid: \"b c\", image: i, environment: [A]}\ndevice: {}\n",
    );
    let paths: Vec<_> = parsed.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "apps.a.image",
            "apps.a.uuid",
            "apps.a.imag",
            "apps.a.metrics.port",
            "apps.b.uuid",
            "apps.b.environment[0]",
            "device"
        ]
    );
    let hints: Vec<_> = parsed.problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    assert!(hints.contains(&"did you mean `image`?") && hints.contains(&"did you mean `devices`?"), "{hints:?}");
}

#[test]
fn thousands_of_problems_are_told_in_a_bounded_list() {
    let text = format!("apps: {{{}}}", (0..20_000).map(|n| format!("a{n}: 1,")).collect::<String>());
    let parsed = read(&text);
    assert!(parsed.problems.len() <= 101);
    assert!(parsed.problems.last().is_some_and(|last| last.message.contains("19900 more")));
}

#[test]
fn line_ends_and_a_byte_order_mark_change_nothing() {
    let text = "apps:\n  a:\n    uuid: A\n    image: i\n    environment:\n      - A=1\n";
    let plain = read(text).manifest;
    assert!(plain.is_some());
    assert_eq!(read(&format!("\u{feff}{}", text.replace('\n', "\r\n"))).manifest, plain);
    assert_eq!(read(&text.replace('\n', "\r")).manifest, plain);
    let problem = refused("apps:\r  a:\r    uuid: 5\r    image: i\r");
    assert_eq!((problem.line, problem.column, problem.source_line.as_deref()), (3, 11, Some("    uuid: 5")));
}

#[test]
fn problems_quote_no_environment_value_and_no_variable() {
    let mut context = ParseContext::new(PlatformKind::Swarm);
    let secret = "s3cr3t";
    context.variables =
        std::sync::Arc::new([("V".to_owned(), secret.to_owned()), ("N".to_owned(), "31337".to_owned())].into());
    for text in [
        "apps: {a: {uuid: '${V}.', image: i}}",
        "apps: {a: {uuid: A, image: i, environment: ['${V}', s3cr3t, 31337]}}",
        "apps: {a: {uuid: A, image: i, image_pull_policy: '${V}'}}",
        "apps: {a: {uuid: ${N}, image: i, ${V}: 1, metrics: {port: '${V}'}}}",
        "apps: {a: {uuid: A, image: i, deploy: {replicas: ${V}, resources: {limits: {memory: '${V}'}}}}}",
        "apps: {a: {uuid: A, image: i, routing: {expose: '${V}'}, storage: {d: {type: '${V}'}}}}",
        "devices: {a: {uuid: A, connector: {type: opcua, server: {uri: u}, events: {e: {node_id: '${V}'}}}}}",
        "apps: {a: {uuid: A, image: i, environment: {S: s3cr3t}}}",
    ] {
        let parsed = parse(&"bad.yml".into(), text, [0; 32], &context);
        assert!(parsed.manifest.is_none(), "{text}");
        for problem in &parsed.problems {
            let told = problem.to_string();
            assert!(!told.contains(secret) && !told.contains("31337"), "{text}: {problem}");
        }
    }
}
