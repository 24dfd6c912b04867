use super::*;
use crate::config::Secret;
use crate::notify::message::{Counts, VERSION};

fn item(resource: &str, change: Change, message: &str) -> Item {
    Item {
        subject: format!("resource {resource}"),
        change,
        kind: "image_missing".into(),
        severity: ConcernSeverity::Critical,
        resource: Some(resource.into()),
        file: Some("desired/app_a.yml".into()),
        message: message.into(),
        hint: "push the image".into(),
        since: "2026-01-02T03:04:05.000Z".into(),
    }
}

fn message(items: Vec<Item>, omitted: usize) -> Message {
    let counts = Counts { new: items.len() + omitted, failing: items.len() + omitted, ..Counts::default() };
    Message {
        version: VERSION,
        id: "test-19b7-1".into(),
        time: "2026-01-02T03:04:15.000Z".into(),
        instance: "test".into(),
        rule: "rule 1".into(),
        group: "image_missing".into(),
        status: MessageStatus::Failing,
        severity: ConcernSeverity::Critical,
        title: "app/A: image_missing: no <such> image".into(),
        counts,
        items,
        omitted,
        revision: "0123456789abcdef".into(),
        link: Some("https://ofop.example/resources/app/A".into()),
    }
}

fn one() -> Message {
    message(vec![item("app/A", Change::Failing, "no <such> image & *more* @here [x](http://y)")], 0)
}

/// As long as they can get.
fn longest() -> Message {
    let items = (0..50).map(|number| item(&format!("app/A-{number}"), Change::Failing, &"ä".repeat(500)));
    Message { title: "ä".repeat(150), ..message(items.collect(), 19_950) }
}

fn sent(sink: &Sink, message: &Message) -> (Request, Value) {
    let payload = Payload::Message(Box::new(message.clone()));
    let request = request(sink, &payload, 1_767_323_055).unwrap().unwrap();
    let body = serde_json::from_str(&request.body).unwrap();
    (request, body)
}

fn url() -> Secret {
    Secret::new("https://chat.example/hook")
}

#[test]
fn a_webhook_is_signed_as_standard_webhooks_has_it() {
    // The example of the specification.
    let key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
    assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_eq!(signing_key("0123456789abcdef").unwrap(), b"0123456789abcdef");
    for wrong in ["short", "whsec_", "whsec_****", "whsec_MfKQ"] {
        assert_eq!(signing_key(wrong), None, "{wrong}");
    }
}

#[test]
fn a_webhook_gets_the_message_or_what_a_template_makes_of_it() {
    let webhook = Webhook {
        url: url(),
        secret: Some(Secret::new("0123456789abcdef")),
        token: Some(Secret::new("t0ken")),
        template: None,
        content_type: "application/json".into(),
    };
    let (request, body) = sent(&Sink::Webhook(webhook.clone()), &one());
    assert_eq!(serde_json::from_value::<Message>(body).unwrap(), one());
    let header = |name: &str| request.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    assert_eq!(header("webhook-id"), Some("test-19b7-1"));
    assert_eq!(header("webhook-timestamp"), Some("1767323055"));
    let expected = signature(b"0123456789abcdef", "test-19b7-1", 1_767_323_055, &request.body);
    assert_eq!(header("webhook-signature"), Some(expected.as_str()));
    assert_eq!(header("Authorization"), Some("Bearer t0ken"));
    let template = Some(r#"{"text": {{ title | tojson }}}"#.to_owned());
    let (_, body) = sent(&Sink::Webhook(Webhook { template, ..webhook }), &one());
    assert_eq!(body, json!({"text": "app/A: image_missing: no <such> image"}));
}

#[test]
fn every_message_keeps_to_its_schema() {
    let schema: Value = serde_json::from_str(include_str!("../../../docs/notification.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let news = Item { resource: None, file: None, hint: String::new(), ..item("app/A", Change::News, "x") };
    let recovered = message(vec![item("device/CNC-1", Change::Recovered, "x")], 0);
    for message in [one(), longest(), recovered, Message { link: None, ..message(vec![news], 3) }] {
        let value: Value = serde_json::from_str(&kafka(&message).1).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        // What nothing of the schema names is not sent either.
        for name in value.as_object().unwrap().keys() {
            assert!(schema["properties"][name].is_object(), "{name}");
        }
        for name in value["items"][0].as_object().unwrap().keys() {
            assert!(schema["$defs"]["item"]["properties"][name].is_object(), "{name}");
        }
    }
    assert!(!validator.is_valid(&json!({"version": 2})));
    assert_eq!(kafka(&one()).0, "test/rule 1/image_missing");
}

#[test]
fn slack_gets_blocks_within_its_bounds_and_nothing_that_it_would_read_as_a_link() {
    let (_, body) = sent(&Sink::Slack(url()), &one());
    assert_eq!(body["blocks"][0]["type"], "header");
    assert_eq!(body["blocks"][0]["text"]["text"], "🔴 app/A: image_missing: no <such> image");
    let text = body["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(text.starts_with("*app/A*  image_missing: no &lt;such&gt; image &amp;"), "{text}");
    assert!(body["text"].as_str().unwrap().contains("&lt;such&gt;"));
    let (_, body) = sent(&Sink::Slack(url()), &longest());
    let blocks = body["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50);
    assert!(blocks[0]["text"]["text"].as_str().unwrap().chars().count() <= 150);
    for block in &blocks[1..blocks.len() - 1] {
        assert!(block["text"]["text"].as_str().unwrap().chars().count() <= 3_000);
    }
    assert_eq!(blocks[blocks.len() - 2]["text"]["text"], "… and 19985 more");
}

#[test]
fn teams_gets_an_adaptive_card_below_its_bound() {
    let (_, body) = sent(&Sink::Teams(url()), &one());
    assert_eq!(body["type"], "message");
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    let card = &attachment["content"];
    assert_eq!((&card["type"], &card["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
    assert_eq!(card["body"][0]["inlines"][0]["color"], "Attention");
    assert_eq!(card["actions"][0]["url"], "https://ofop.example/resources/app/A");
    assert!(card["body"].as_array().unwrap().iter().all(|block| block["type"] == "RichTextBlock"), "no Markdown");
    let (request, _) = sent(&Sink::Teams(url()), &longest());
    assert!(request.body.len() < 28 * 1024, "{}", request.body.len());
}

#[test]
fn mattermost_gets_an_attachment_in_which_nothing_is_formatted_and_nobody_mentioned() {
    let (_, body) = sent(&Sink::Mattermost { url: url(), channel: Some("line-2".into()) }, &one());
    assert_eq!((&body["channel"], &body["attachments"][0]["color"]), (&json!("line-2"), &json!("#d24b4e")));
    let text = body["attachments"][0]["text"].as_str().unwrap();
    assert!(text.contains(r"\*more\*") && text.contains("@\u{200b}here") && text.contains(r"\[x\]"), "{text}");
    let (_, body) = sent(&Sink::Mattermost { url: url(), channel: None }, &longest());
    assert!(body["attachments"][0]["text"].as_str().unwrap().chars().count() < 16_383);
    assert!(body.get("channel").is_none());
}

#[test]
fn matrix_gets_an_event_in_a_room_under_an_id_of_its_own() {
    let sink = Sink::Matrix {
        homeserver: "https://matrix.example".into(),
        room: "!a/b:example".into(),
        token: Secret::new("t0ken"),
    };
    let (request, body) = sent(&sink, &one());
    assert_eq!(request.method, Method::Put);
    assert_eq!(
        request.url,
        "https://matrix.example/_matrix/client/v3/rooms/!a%2Fb:example/send/m.room.message/test-19b7-1"
    );
    assert_eq!(request.headers, [("Authorization", "Bearer t0ken".to_owned())]);
    assert_eq!((&body["msgtype"], &body["format"]), (&json!("m.text"), &json!("org.matrix.custom.html")));
    assert!(body["formatted_body"].as_str().unwrap().contains("no &lt;such&gt; image &amp;"));
    let quiet = Message { status: MessageStatus::Recovered, ..one() };
    assert_eq!(sent(&sink, &quiet).1["msgtype"], "m.notice");
    assert!(sent(&sink, &longest()).0.body.len() < 60_000, "an event has at most 65,536 bytes");
}

#[test]
fn mail_has_one_line_as_its_subject() {
    let broken = Message { title: "a\r\nBcc: everybody@example.org".into(), ..one() };
    assert_eq!(subject(&broken), "[ofop test critical] a  Bcc: everybody@example.org");
    let text = plain(&one());
    assert!(text.contains("- app/A: image_missing: no <such> image") && text.ends_with("resources/app/A\n"), "{text}");
}

#[test]
fn hosts_of_repositories_get_a_status_in_their_own_words() {
    let host = |kind, repository: &str| Host {
        kind,
        url: "https://git.example".into(),
        repository: repository.into(),
        token: Secret::new("t0ken"),
        context: None,
    };
    let status = |state| CommitStatus {
        commit: "c0ffee".into(),
        state,
        description: "x".repeat(200),
        link: Some("https://ofop.example/".into()),
        instance: "test".into(),
    };
    for (kind, repository, address, authorization, words) in [
        (
            HostKind::GitHub,
            "plant/factory",
            "https://git.example/repos/plant/factory/statuses/c0ffee",
            ("Authorization", "Bearer t0ken"),
            ["pending", "success", "failure", "error"],
        ),
        (
            HostKind::GitLab,
            "plant/line/factory",
            "https://git.example/api/v4/projects/plant%2Fline%2Ffactory/statuses/c0ffee",
            ("PRIVATE-TOKEN", "t0ken"),
            ["pending", "success", "failed", "canceled"],
        ),
        (
            HostKind::Gitea,
            "plant/factory",
            "https://git.example/api/v1/repos/plant/factory/statuses/c0ffee",
            ("Authorization", "token t0ken"),
            ["pending", "success", "failure", "error"],
        ),
    ] {
        let host = host(kind, repository);
        let states = [CommitState::Pending, CommitState::Success, CommitState::Failure, CommitState::Superseded];
        for (state, word) in states.into_iter().zip(words) {
            let payload = Payload::Commit(status(state));
            let request = request(&Sink::Commit(host.clone()), &payload, 0).unwrap().unwrap();
            assert_eq!(request.url, address);
            assert_eq!(request.headers[0], (authorization.0, authorization.1.to_owned()));
            let body: Value = serde_json::from_str(&request.body).unwrap();
            assert_eq!((&body["state"], &body["context"]), (&json!(word), &json!("ofop/test")));
            assert_eq!(body["target_url"], "https://ofop.example/");
            assert!(body["description"].as_str().unwrap().chars().count() <= 140);
        }
        let look = look(&host);
        assert_eq!((look.method, look.url + "/statuses/c0ffee"), (Method::Get, address.to_owned()));
    }
}
