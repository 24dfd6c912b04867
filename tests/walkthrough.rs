//! `docs/gitops.md`, step by step: each block of commands on that page is run as it stands there, against a git server
//! behind SSH and HTTPS, a real Swarm and the daemon, and what must hold afterwards is looked at from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/https.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod https;
#[path = "support/repository.rs"]
mod repository;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "support/walk.rs"]
mod walk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use engine::{IDLE, IDLE_2, TestEngine};
use https::Server;
use repository::Plant;
use serde_json::{Value, json};
use sshd::Sshd;
use walk::{Page, Walk};

const PAGE: &str = include_str!("../docs/gitops.md");
/// `x-access-token:s3cret-sentinel`, as the server wants it.
const AUTHORIZATION: &str = "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0LXNlbnRpbmVs";

fn service(engine: &TestEngine, name: &str) -> Value {
    let services = engine.get("/services");
    services.as_array().unwrap().iter().find(|service| service["Spec"]["Name"] == name).cloned().unwrap_or_default()
}

fn image(engine: &TestEngine, name: &str) -> String {
    service(engine, name)["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned()
}

fn replicas(engine: &TestEngine, name: &str) -> u64 {
    service(engine, name)["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().unwrap_or_default()
}

/// What a hosting site does after a push: tells of it, with a proof that it knows the secret.
fn tell(walk: &Walk, secret: &Path, branch: &str) {
    let body = format!("{{\"ref\":\"refs/heads/{branch}\"}}");
    let secret = fs::read_to_string(secret).unwrap();
    let mut hash = Hmac::<Sha256>::new_from_slice(secret.trim().as_bytes()).unwrap();
    hash.update(body.as_bytes());
    let proof: String = hash.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = format!("X-GitHub-Event: push\r\nX-Hub-Signature-256: sha256={proof}\r\n");
    assert_eq!(walk.post("/webhook", &headers, &body), 202);
}

/// A service with our mark that nothing describes.
fn orphan(engine: &TestEngine, name: &str, like: &str) {
    let mut spec = service(engine, like)["Spec"].clone();
    spec["Name"] = name.into();
    spec["Labels"]["io.openfactory.operator/resource"] = format!("app/{}", name.to_uppercase()).into();
    engine.ok("POST", "/services/create", &spec.to_string());
}

#[test]
fn every_step_of_the_page_does_what_it_says() {
    let (mut engine, plant, web) = (TestEngine::swarm(), Plant::new(), Server::start());
    let folder = plant.dir.path();
    let hub = plant.hub();
    web.serve_git(hub.parent().unwrap(), Some(AUTHORIZATION));
    // The site: it knows the line team, and takes deploy keys.
    let home = folder.join("home");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    let (host_key, ann) = (plant.key("host"), plant.key("home/.ssh/id_ed25519"));
    let public = fs::read_to_string(ann.with_extension("pub")).unwrap();
    let authorized = folder.join("authorized_keys");
    fs::write(&authorized, &public).unwrap();
    let mut sshd = Sshd::start(folder, &host_key, &authorized);

    let mut walk = Walk::new(folder, Page::parse(PAGE));
    let port = walk.port;
    let (etc, state) = (folder.join("etc"), folder.join("state"));
    walk.replace("ssh://git@git.plant.example/factory.git", &sshd.url(&hub));
    walk.replace("https://git.plant.example/factory.git", &web.url("/git/plant.git"));
    walk.replace(
        "ssh-keyscan -t ed25519 git.plant.example",
        &format!("ssh-keyscan -p {} -t ed25519 127.0.0.1", sshd.port),
    );
    walk.replace("ssh-ed25519 AAAA…", public.trim());
    walk.replace("/etc/ofop", etc.to_str().unwrap());
    walk.replace("/var/lib/ofop", state.to_str().unwrap());
    walk.replace("127.0.0.1:8420", &format!("127.0.0.1:{port}"));
    walk.replace("registry.plant.example/press", "idle");
    walk.replace("OFOP_GIT_INTERVAL=60s", "OFOP_GIT_INTERVAL=1s");
    walk.replace("10.0.0.5", "127.0.0.1");
    walk.set("HOME", home.to_str().unwrap());
    walk.set("DOCKER_HOST", &engine.host());
    walk.set("OFOP_RESYNC", "2s");
    walk.set("OFOP_CA_FILE", web.ca().to_str().unwrap());
    let ssh = "ssh -F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
    walk.set("GIT_SSH_COMMAND", &format!("{ssh} -o LogLevel=ERROR -i {}", ann.display()));
    walk.set("GIT_CONFIG_NOSYSTEM", "1");
    let head = |branch: &str| plant.git(&hub, &["rev-parse", branch]);

    // The repository and the manager.
    walk.step("init");
    walk.step("sign");
    walk.step("folders");
    let key = walk.step("deploy-key");
    let restricted = format!("restrict,command=\"git-upload-pack '{}'\" {key}", hub.display());
    fs::write(&authorized, format!("{public}{restricted}")).unwrap();
    let fingerprint = walk.step("known-hosts");
    let shown = Command::new("ssh-keygen").arg("-lf").arg(host_key.with_extension("pub")).output().unwrap().stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(fingerprint.contains(shown.split(' ').nth(1).unwrap()), "{fingerprint} {shown}");
    walk.step("signers");
    walk.step("settings");
    for secret in [".ofaenv", "api_token", "deploy_key"] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(etc.join(secret)).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }

    // An empty repository: it runs, says so, and touches nothing.
    orphan_free(&engine);
    walk.start("run");
    walk.wait("the daemon says what is missing", |walk| {
        walk.get("/readyz").to_string().contains("has no default branch")
    });
    walk.step("nothing-yet");
    orphan_free(&engine);

    // From nothing to a running application.
    walk.step("first-commit");
    walk.settled("app/PRESS");
    walk.settled("app/GAUGE");
    assert_eq!(image(&engine, "press"), IDLE);
    assert_eq!(walk.status()["revision"], head("main"));
    walk.step("look");

    // Told of a push; the interval is far too long now.
    walk.step("webhook");
    walk.restart();
    let secret = etc.join("webhook_secret");
    walk.step("knock");
    walk.settled("app/PRESS");
    walk.step("update");
    tell(&walk, &secret, "main");
    walk.wait("the press is updated", |_| image(&engine, "press") == IDLE_2);
    walk.step("done");
    assert_eq!(walk.resource("app/PRESS")["health"], "Healthy");
    assert_eq!(walk.status()["revision"], head("main"));

    // Refused, and then not.
    let good = head("main");
    walk.step("unsigned");
    tell(&walk, &secret, "main");
    walk.wait("the commit is refused", |walk| walk.status()["source"]["trouble"]["reason"] == "unverified");
    walk.step("refused");
    let source = walk.status()["source"].clone();
    assert_eq!((&source["commit"]["id"], &source["commit"]["subject"]), (&json!(good), &json!("Press 2")));
    assert_eq!(source["trouble"]["refused"]["id"], head("main"));
    assert_eq!(walk.status()["revision"], good);
    assert_eq!(image(&engine, "gauge"), IDLE);
    walk.step("signed");
    tell(&walk, &secret, "main");
    walk.wait("the gauge is updated", |_| image(&engine, "gauge") == IDLE_2);
    assert_eq!(walk.status()["source"]["trouble"], Value::Null);
    assert_eq!(walk.status()["revision"], head("main"));

    // Proposed, merged, reverted.
    walk.step("proposal");
    let plan = walk.step("plan");
    assert!(!plan.contains("update service gauge"), "{plan}");
    walk.step("check");
    tell(&walk, &secret, "two-presses");
    assert_eq!(replicas(&engine, "press"), 1);
    walk.step("merge");
    tell(&walk, &secret, "main");
    walk.wait("two presses run", |_| replicas(&engine, "press") == 2);
    walk.settled("app/PRESS");
    walk.step("revert");
    tell(&walk, &secret, "main");
    walk.wait("one press is left", |_| replicas(&engine, "press") == 1);
    walk.settled("app/PRESS");
    assert_eq!(service(&engine, "press")["Spec"]["Labels"]["io.openfactory.operator/revision"], head("main"));

    // By hand, in peace.
    walk.step("suspend");
    walk.wait("it is suspended", |walk| walk.resource("app/PRESS")["health"] == "Suspended");
    walk.looked_again();
    assert_eq!(replicas(&engine, "press"), 3);
    walk.step("resume");
    walk.wait("one press is left", |_| replicas(&engine, "press") == 1);
    walk.step("suspend-all");
    walk.wait("one gauge is left", |_| replicas(&engine, "gauge") == 1);
    walk.settled("app/PRESS");

    // Removed; too much of it is held.
    walk.step("removal");
    tell(&walk, &secret, "main");
    walk.wait("the gauge is gone", |walk| service(&engine, "gauge").is_null() && walk.resource("app/GAUGE").is_null());
    walk.step("everything-removed");
    tell(&walk, &secret, "main");
    walk.wait("the removal is held", |walk| walk.status()["prune"]["reason"] == "guard");
    assert_eq!(image(&engine, "press"), IDLE_2);
    walk.step("restored");
    tell(&walk, &secret, "main");
    walk.wait("nothing is held", |walk| walk.status()["prune"]["state"] == "nothing");
    walk.settled("app/PRESS");

    // The server is away: repaired, never removed from.
    sshd.stop();
    let before = service(&engine, "press")["ID"].clone();
    walk.step("outage");
    walk.wait("the press is back", |_| {
        let press = service(&engine, "press");
        !press.is_null() && press["ID"] != before
    });
    walk.settled("app/PRESS");
    orphan(&engine, "stray", "press");
    walk.wait("its removal is held", |walk| walk.status()["prune"]["resources"] == json!(["app/STRAY"]));
    walk.looked_again();
    assert_eq!(walk.status()["prune"]["reason"], "source_trouble");
    assert!(!service(&engine, "stray").is_null());
    sshd.resume();
    walk.step("back");
    walk.wait("what nobody describes is removed", |_| service(&engine, "stray").is_null());
    assert_eq!(walk.status()["source"]["state"], "up");

    // The daemon's machine is lost: what runs is taken up as it is.
    walk.stop();
    fs::remove_dir_all(&state).unwrap();
    let before = service(&engine, "press");
    walk.start("run-elsewhere");
    walk.settled("app/PRESS");
    let registered = |walk: &Walk| walk.resource("app/PRESS")["records"][0]["registered"] == true;
    walk.wait("its record is back", registered);
    assert_eq!(service(&engine, "press"), before);

    // The cluster is lost.
    walk.stop();
    fs::remove_dir_all(&state).unwrap();
    drop(engine);
    engine = TestEngine::plain(&[]);
    engine.import_images();
    walk.set("DOCKER_HOST", &engine.host());
    walk.step("new-cluster");
    walk.start("run-anew");
    walk.settled("app/PRESS");
    walk.wait("its record is back", registered);
    assert_eq!(image(&engine, "press"), IDLE_2);
    assert_eq!(walk.status()["revision"], head("main"));

    // By another way.
    fs::write(etc.join("git_token"), "s3cret-sentinel\n").unwrap();
    fs::set_permissions(etc.join("git_token"), fs::Permissions::from_mode(0o600)).unwrap();
    walk.step("https");
    assert!(web.requests().iter().any(|request| request[0].contains("/git/plant.git/info/refs")));

    // The key of the daemon may read, and do nothing else.
    let pushed = Command::new("git")
        .args(["push", "origin", "HEAD:refs/heads/stolen"])
        .current_dir(home.join("factory"))
        .env("GIT_SSH_COMMAND", format!("{ssh} -i {}", etc.join("deploy_key").display()))
        .output()
        .unwrap();
    assert!(!pushed.status.success());
    walk.end();
}

fn orphan_free(engine: &TestEngine) {
    assert_eq!(engine.get("/services"), json!([]));
}

#[test]
fn the_unit_runs_what_the_page_runs() {
    let (_, after) = PAGE.split_once("```ini\n").unwrap();
    let (unit, _) = after.split_once("```").unwrap();
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
    let run = Page::parse(PAGE).text("run").unwrap();
    let command = value("ExecStart").strip_prefix("/usr/local/bin/").unwrap();
    assert_eq!(run, format!("cd {}\n{command}\n", value("WorkingDirectory")));
    // Where systemd is at hand, it has a look as well.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ofop.service");
    fs::write(&path, unit.replace("/usr/local/bin/ofop", env!("CARGO_BIN_EXE_ofop"))).unwrap();
    if let Ok(verified) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output() {
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
}

#[test]
fn the_alerts_on_the_page_are_there() {
    let rules = include_str!("../deploy/prometheus/ofop.rules.yml");
    let alerts: Vec<&str> = PAGE.split('`').filter(|word| word.starts_with("Ofop")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(rules.contains(&format!("alert: {alert}\n")), "no alert is called {alert}");
    }
}

#[test]
fn the_troubles_on_the_page_are_those_of_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/desired/git");
    let sources = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let sources: String = sources.collect();
    let (_, table) = PAGE.split_once("| it says |").unwrap();
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        assert!(sources.contains(row), "nothing says `{row}`");
    }
}
