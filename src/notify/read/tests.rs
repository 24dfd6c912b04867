use super::*;
use crate::notify::settings::Settings;

/// Files with secrets that there are.
struct Files(BTreeMap<&'static str, &'static str>);

impl ReadSecret for Files {
    fn read(&self, path: &Path) -> Result<String, (String, String)> {
        let text = self.0.get(path.to_str().unwrap_or_default());
        text.map(|text| (*text).to_owned()).ok_or(("cannot read it".into(), "make it".into()))
    }
}

fn read(text: &str) -> Parsed {
    let variables = [("CHAT", "https://chat.example/s3ntinel"), ("TOKEN", "s3ntinel-token-0123")];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let files = Files([("/secret", "s3ntinel-of-a-file-0123\n"), ("/empty", " \n")].into());
    parse(&"notify.yml".into(), text, &variables, &files)
}

fn settings(text: &str) -> Settings {
    let parsed = read(text);
    parsed.settings.unwrap_or_else(|| panic!("{:?}", parsed.problems))
}

const EVERY_SINK: &str = r#"
link: https://ofop.example/
sinks:
  web: {type: webhook, url: "${CHAT}", secret_file: /secret, template: '{"text": {{ title | tojson }}}'}
  slack: {type: slack, url: "${CHAT}"}
  teams: {type: teams, url: "${CHAT}"}
  mm: {type: mattermost, url: "${CHAT}", channel: line-2}
  matrix: {type: matrix, homeserver: https://matrix.example, room: "!a:example", token: "${TOKEN}"}
  mail:
    type: email
    server: mail.example
    username: ofop
    password_file: /secret
    from: ofop <ofop@example.org>
    to: [line-2@example.org]
  kafka: {type: kafka, topic: ofop_notifications}
  kafka2: {type: kafka, topic: t, brokers: "b:9092", options: {security.protocol: SASL_SSL, sasl.password: "${TOKEN}"}}
  github: {type: github, repository: plant/factory, token_file: /secret}
  gitlab: {type: gitlab, repository: plant/line/factory, token_file: /secret}
  gitea: {type: gitea, url: https://git.example/, repository: plant/factory, token_file: /secret}
  forgejo: {type: forgejo, url: https://git.example, repository: plant/factory, token_file: /secret, context: factory}
rules:
  - to: [web, slack, teams, mm, matrix, mail, kafka, kafka2]
  - {name: night, to: [mail], severity: critical, types: [rollout_halted], kinds: [app], resources: ["app/PRESS-*"],
     files: ["press/**"], group_by: [folder], wait: 1m, interval: 15m, repeat: 12h}
"#;

#[test]
fn a_file_with_every_kind_of_sink_is_read() {
    let parsed = read(EVERY_SINK);
    assert!(parsed.problems.is_empty() && !parsed.holds_secrets, "{:?}", parsed.problems);
    let settings = parsed.settings.unwrap();
    assert_eq!(settings.sinks.len(), 12);
    assert_eq!(settings.link.as_deref(), Some("https://ofop.example"));
    assert_eq!(settings.hosts().count(), 4);
    let night = &settings.rules[1];
    assert_eq!(
        (night.name.as_str(), night.wait, night.interval, night.repeat),
        ("night", 60_000, 900_000, Some(43_200_000))
    );
    assert_eq!((settings.rules[0].wait, settings.rules[0].interval, settings.rules[0].repeat), (10_000, 300_000, None));
    let Sink::Email(mail) = &settings.sinks["mail"] else { panic!() };
    assert_eq!((mail.port, mail.tls), (587, MailTls::StartTls));
    let Sink::Commit(host) = &settings.sinks["github"] else { panic!() };
    assert_eq!(host.url, "https://api.github.com");
    let secrets = settings.secrets();
    assert!(secrets.contains(&"s3ntinel-of-a-file-0123") && secrets.contains(&"https://chat.example/s3ntinel"));
    assert!(!format!("{settings:?}").contains("s3ntinel"), "no debug output shows a secret");
}

/// What is wrong, where, and a word of the hint.
#[test]
fn what_is_wrong_is_said_with_its_place_and_a_way_out() {
    let sink = |sink: &str| format!("sinks:\n  a: {sink}\nrules: [{{to: [a]}}]\n");
    let rule = |rule: &str| format!("sinks: {{a: {{type: slack, url: \"${{CHAT}}\"}}}}\nrules:\n  - {rule}\n");
    let cases = [
        (String::new(), "", "empty", "sinks"),
        ("- a\n".into(), "", "must be a map", "sinks"),
        ("sinks: {}\n".into(), "sinks", "no sink", "slack"),
        ("sinks: {a: {type: slack, url: \"${CHAT}\"}}\n".into(), "rules", "no rule", "rules"),
        ("sink: {}\n".into(), "sink", "unknown field", "did you mean"),
        (sink("{type: slak, url: x}"), "sinks.a.type", "no type", "slack"),
        (sink("{url: x}"), "sinks.a", "`type` is missing", "webhook"),
        (sink("{type: slack}"), "sinks.a.url", "is missing", "url_file"),
        (sink("{type: slack, url: \"${NOT_SET}\"}"), "sinks.a.url", "not set", "NOT_SET"),
        (sink("{type: slack, url: \"${CHAT}\", url_file: /secret}"), "sinks.a.url_file", "as well", "remove"),
        (sink("{type: slack, url_file: /none}"), "sinks.a.url_file", "cannot read", "make"),
        (sink("{type: slack, url_file: /empty}"), "sinks.a.url_file", "empty", "secret"),
        (sink("{type: slack, url: ftp://x}"), "sinks.a.url", "no address", "https"),
        (sink("{type: slack, url: \"https://me:pw@x\"}"), "sinks.a.url", "password", "token"),
        (sink("{type: webhook, url: https://x, secret: short}"), "sinks.a.secret", "fewer than 16", "base64"),
        (
            sink("{type: webhook, url: https://x, template: \"{{ nothing }}\"}"),
            "sinks.a.template",
            "template",
            "fields",
        ),
        (
            sink("{type: webhook, url: https://x, content_type: text/plain}"),
            "sinks.a.content_type",
            "template",
            "leave",
        ),
        (sink("{type: matrix, homeserver: https://x, room: \"#a:x\", token: t}"), "sinks.a.room", "no id", "!"),
        (sink("{type: email, server: x, from: me, to: [a@b.c]}"), "sinks.a.from", "no mail address", "name@host"),
        (sink("{type: email, server: x, from: a@b.c, to: []}"), "sinks.a.to", "nobody", "address"),
        (sink("{type: email, server: x, tls: no, from: a@b.c, to: [a@b.c]}"), "sinks.a.tls", "must be", ""),
        (
            sink("{type: email, server: x, tls: none, username: u, password_file: /secret, from: a@b.c, to: [a@b.c]}"),
            "sinks.a.tls",
            "readable",
            "leave",
        ),
        (
            sink("{type: email, server: x, username: u, from: a@b.c, to: [a@b.c]}"),
            "sinks.a.username",
            "no password",
            "password_file",
        ),
        (sink("{type: kafka, topic: \"a b\"}"), "sinks.a.topic", "no name", "letters"),
        (sink("{type: kafka, topic: t, options: {a: b}}"), "sinks.a.options", "named here", "brokers"),
        (sink("{type: gitea, repository: a/b, token: t}"), "sinks.a.url", "is missing", "https"),
        (
            sink("{type: github, repository: https://github.com/a/b, token: t}"),
            "sinks.a.repository",
            "no repository",
            "OWNER",
        ),
        ("sinks: {A: {type: slack, url: \"${CHAT}\"}}\nrules: [{to: [A]}]\n".into(), "sinks.A", "no name", "small"),
        (rule("{to: [b]}"), "rules[0].to", "no sink `b`", "a"),
        (rule("{to: []}"), "rules[0].to", "no sink", "one"),
        (rule("{severity: critical}"), "rules[0].to", "is missing", ""),
        (rule("{to: [a], severity: high}"), "rules[0].severity", "must be", ""),
        (rule("{to: [a], types: [image_mising]}"), "rules[0].types", "no type", "image_missing"),
        (rule("{to: [a], types: [commit]}"), "rules[0].types", "is info", "severity: info"),
        (rule("{to: [a], wait: soon}"), "rules[0].wait", "not a time", "30s"),
        (rule("{to: [a], interval: 0s}"), "rules[0].interval", "not a time", "30s"),
        (rule("{to: [a], grup_by: [type]}"), "rules[0].grup_by", "unknown field", "group_by"),
        (rule("{name: x, to: [a]}\n  - {name: x, to: [a]}"), "rules[1].name", "another rule", "choose"),
        (
            "sinks: {a: {type: github, repository: a/b, token_file: /secret}}\nrules: [{to: [a]}]\n".into(),
            "rules[0].to",
            "states of commits",
            "leave",
        ),
    ];
    for (text, path, message, hint) in cases {
        let parsed = read(&text);
        assert!(parsed.settings.is_none(), "{text}");
        let fits = |problem: &&Problem| {
            problem.path == path
                && problem.message.contains(message)
                && problem.hint.as_deref().unwrap_or_default().contains(hint)
        };
        assert!(
            parsed.problems.iter().any(|problem| fits(&problem)),
            "{text}\n{path}: {message}\n{:?}",
            parsed.problems
        );
        assert!(parsed.problems.iter().all(|it| it.line > 0 || text.is_empty()), "{text}\n{:?}", parsed.problems);
    }
}

#[test]
fn no_problem_shows_a_secret() {
    for text in [
        "sinks: {a: {type: slack, url: https://hooks.example/s3ntinel, extra: 1}}\nrules: [{to: [a]}]\n",
        "sinks: {a: {type: matrix, homeserver: https://x, room: \"!a:x\", token: 73217321}}\nrules: [{to: [a]}]\n",
        "sinks: {a: {type: webhook, url: s3ntinel://x, secret: s3ntinel}}\nrules: [{to: [a]}]\n",
        "sinks: {a: {type: kafka, topic: t, brokers: b, options: {sasl.password: 73217321}}}\nrules: [{to: [a]}]\n",
    ] {
        let parsed = read(text);
        assert!(!parsed.problems.is_empty(), "{text}");
        for problem in &parsed.problems {
            let shown = format!("{problem} {:?} {:?}", problem.hint, problem.source_line);
            assert!(!shown.contains("s3ntinel") && !shown.contains("7321"), "{shown}");
        }
    }
}

#[test]
fn a_secret_in_the_text_itself_is_known_to_be_one() {
    let with = |sink: &str| read(&format!("sinks: {{a: {sink}}}\nrules: [{{to: [a]}}]\n")).holds_secrets;
    assert!(with("{type: slack, url: https://chat.example/x}"));
    assert!(with("{type: webhook, url: \"${CHAT}\", token: abc}"));
    assert!(!with("{type: slack, url: \"${CHAT}\"}"));
    assert!(!with("{type: slack, url_file: /secret}"));
}

#[test]
fn an_address_without_encryption_is_odd_unless_it_is_this_machine() {
    let warned = |url: &str| {
        let text = format!("sinks: {{a: {{type: slack, url: \"{url}\"}}}}\nrules: [{{to: [a]}}]\n");
        settings(&text);
        !read(&text).problems.is_empty()
    };
    assert!(warned("http://chat.example/x"));
    assert!(!warned("http://127.0.0.1:8065/x") && !warned("http://[::1]/x") && !warned("http://localhost/x"));
    assert!(!warned("https://chat.example/x"));
}
