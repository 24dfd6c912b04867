//! The command line as such: its reference page, its exit codes, its errors. Nothing here needs an engine.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/repository.rs"]
mod repository;

use std::process::{Command, Output};

use repository::Plant;

/// `ofop` in an empty folder, with nothing in its environment.
fn ofop(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_ofop"))
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .env("DOCKER_HOST", "unix:///nowhere.sock")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn repository(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// With `OFOP_REGENERATE=1` the page is written instead of compared.
#[test]
fn the_reference_page_is_what_the_command_tree_says() {
    let path = repository("docs/cli.md");
    let wanted = ofop::cli::reference::markdown();
    if std::env::var_os("OFOP_REGENERATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/cli.md is stale; renew it with: OFOP_REGENERATE=1 cargo test --test cli the_reference_page"
    );
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = ofop(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("OFOP_COMPLETE"), "{shell}");
    }
    // What the script for bash asks while somebody types `ofop `.
    let output = Command::new(env!("CARGO_BIN_EXE_ofop"))
        .args(["--", "ofop", ""])
        .env_clear()
        .envs([("OFOP_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "1"), ("_CLAP_COMPLETE_COMP_TYPE", "9")])
        .envs([("_CLAP_COMPLETE_SPACE", "true"), ("_CLAP_IFS", "\n")])
        .output()
        .unwrap();
    let offered = text(&output.stdout);
    for command in ["run", "validate", "apply", "describe", "logs", "doctor"] {
        assert!(offered.lines().any(|line| line == command), "{command}: {offered}");
    }
}

#[test]
fn manual_pages_and_the_options_of_every_command_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(ofop(&["man", pages.to_str().unwrap()]).status.code(), Some(0));
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("ofop.1").contains("git\\-rewritten"), "{}", page("ofop.1"));
    assert!(page("ofop-logs.1").contains("tail") && !page("ofop-logs.1").contains("git\\-rewritten"));
    let options = ofop(&["options"]);
    assert!(text(&options.stdout).contains("--git-rewritten"));
    let help = text(&ofop(&["logs", "--help"]).stdout);
    assert!(help.contains("--tail") && !help.contains("--git-rewritten"), "{help}");
}

#[test]
fn diff_without_commits_is_a_plan_and_with_one_a_question() {
    let planned = ofop(&["diff", "--desired", "."]);
    assert!(text(&planned.stderr).contains("cannot see what runs"), "{}", text(&planned.stderr));
    let one = ofop(&["diff", "v1", "--git", "/nowhere.git"]);
    assert_eq!(one.status.code(), Some(2));
    assert!(text(&one.stderr).contains("ofop diff current v1"), "{}", text(&one.stderr));
}

#[test]
fn every_command_explains_itself() {
    for command in ["run", "validate", "render", "plan", "apply", "down", "get", "describe", "events", "reconcile"] {
        let output = ofop(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(text(&output.stdout).contains("Example"), "{command}");
    }
    assert!(text(&ofop(&["--help"]).stdout).contains("Exit codes: 0 done"));
}

#[test]
fn what_the_user_did_wrong_ends_with_2_and_a_hint() {
    for (arguments, error, hint) in [
        (vec!["plan"], "no manifests are named", "--desired DIR"),
        (vec!["plan", "--desired", "nowhere"], "nowhere", ""),
        (vec!["plan", "--desired", ".", "-o", "markdown", "--show-secrets"], "exclude each other", "for everybody"),
        (vec!["plan", "--desired", ".", "--git", "/nowhere.git"], "--desired and --git exclude each other", "not from"),
        (vec!["plan", "--desired", ".", "--branch", "main"], "--branch needs --git", "--git URL"),
        (
            vec!["plan", "--git", "/nowhere.git", "--revoked-signers", "revoked"],
            "--revoked-signers needs --verify-signatures",
            "OFOP_GIT_VERIFY_SIGNATURES",
        ),
        (
            vec!["plan", "--git", "/nowhere.git", "--verify-signatures", "signers", "--signed-commits", "most"],
            "--signed-commits: `most` is neither head nor all",
            "`all`",
        ),
        (vec!["plan", "--desired", ".", "--signed-commits", "all"], "--signed-commits needs --git", "--git URL"),
        (vec!["plan", "--git", "file:///nowhere.git"], "file:///nowhere.git: the repository cannot be reached", ""),
        (vec!["get", "all", "--git", "https://ann:pw@git.plant/a.git"], "holds credentials", "OFOP_GIT_TOKEN_FILE"),
        (vec!["run", "--desired", ".", "--resync", "soon"], "--resync: `soon` is not a time", "30s"),
        (vec!["run", "--desired", ".", "--listen", "host"], "--listen: `host` is not an address", "127.0.0.1:8420"),
        (vec!["get", "all", "--desired", "."], "cannot see what runs", "--host"),
        (vec!["get", "all", "--desired", ".", "--env-file", "no.env"], "no.env", "--env-file"),
        (vec!["events", "--address", "127.0.0.1:1"], "no daemon answers at 127.0.0.1:1", "ofop run"),
        (vec!["suspend", "app/X", "--address", "127.0.0.1:1"], "token", "--token-file"),
    ] {
        let output = ofop(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("error: ") && said.contains(error), "{arguments:?}: {said}");
        assert!(said.contains(hint), "{arguments:?}: {said}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn an_engine_behind_ssh_is_refused_by_the_commands_that_need_it_and_by_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("app.yml", "apps:\n  press:\n    uuid: PRESS\n    image: press:1\n");
    write(".ofaenv", "OPENFACTORY_MANAGER_NODE_DOCKER_URL=ssh://openfactory@manager\n");
    // What the command line names goes before what the environment does.
    let ofop = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_ofop"))
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .env("OFOP_DESIRED", ".")
            .output()
            .unwrap()
    };
    for arguments in [&["validate", "."][..], &["render", "."], &["schema"], &["completions", "bash"]] {
        let output = ofop(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    }
    // Those that ask the daemon get as far as the daemon.
    for arguments in [&["get", "all"][..], &["events"], &["describe", "app/PRESS"]] {
        let output = ofop(&[arguments, &["--address", "127.0.0.1:1"]].concat());
        assert!(text(&output.stderr).contains("no daemon answers"), "{arguments:?}: {}", text(&output.stderr));
    }
    for arguments in [
        &["run", "--desired", ".", "--listen", "127.0.0.1:0"][..],
        &["plan", "."],
        &["apply", "."],
        &["down", ".", "--yes"],
        &["get", "all", "--desired", "."],
        &["describe", "app/PRESS", "--desired", "."],
    ] {
        let output = ofop(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        let error =
            "OPENFACTORY_MANAGER_NODE_DOCKER_URL (.ofaenv:1): `ssh://openfactory@manager`: ofop does not speak ssh";
        assert!(said.contains(error), "{arguments:?}: {said}");
        assert!(said.contains("ssh -nNT -L") && said.contains("tcp://HOST:2376"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_wrong_word_on_the_command_line_is_explained() {
    let output = ofop(&["aply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("apply"));
    let output = ofop(&["describe", "pod/x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("app/"), "{}", text(&output.stderr));
}

#[test]
fn a_commit_of_a_repository_is_checked_without_a_server_and_without_a_folder_for_state() {
    let plant = Plant::new();
    let app = |image: &str| format!("apps:\n  press:\n    uuid: PRESS\n    image: {image}\n");
    plant.write("factory/app.yml", &app("press:1"));
    plant.push("Press");
    plant.write("factory/app.yml", &app("press:2").replace("image:", "imgae:"));
    plant.push_to("Another press", "refs/heads/proposal");
    let with = |arguments: &[&str]| {
        let url = plant.url();
        ofop(&[arguments, &["--git", &url, "--path", "factory", "--state-dir", "/dev/null/none"]].concat())
    };
    let rendered = with(&["render", "-o", "json"]);
    assert_eq!(rendered.status.code(), Some(0), "{}", text(&rendered.stderr));
    let rendered: serde_json::Value = serde_json::from_slice(&rendered.stdout).unwrap();
    assert_eq!(rendered["resources"][0]["origin"]["file"], "factory/app.yml");
    assert_eq!(with(&["validate"]).status.code(), Some(0));
    let proposed = with(&["validate", "--revision", "proposal"]);
    assert_eq!(proposed.status.code(), Some(2));
    assert!(text(&proposed.stdout).contains("factory/app.yml:4:5"), "{}", text(&proposed.stdout));
    let both = with(&["validate", "here.yml"]);
    assert_eq!(both.status.code(), Some(2));
    assert!(text(&both.stderr).contains("PATH and --git exclude each other"), "{}", text(&both.stderr));
}

#[test]
fn an_address_that_is_taken_is_said_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = ofop(&["run", "--desired", ".", "--listen", &address]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("cannot listen on {address}")) && said.contains("--listen"), "{said}");
}

#[test]
fn the_shipped_example_is_valid_and_renders() {
    let example = repository("desired");
    let output = ofop(&["validate", &example, "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["valid"], true);
    assert_eq!(verdict["resources"], 5);
    let output = ofop(&["render", &example, "-o", "json"]);
    let rendered: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rendered["resources"].as_array().unwrap().len(), 5);
    assert_eq!(rendered["errors"], serde_json::json!([]));
}

#[test]
fn colours_show_only_where_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yml"), "apps: 1\n").unwrap();
    let path = folder.path().to_str().unwrap();
    let plain = ofop(&["validate", path]);
    assert_eq!(plain.status.code(), Some(2));
    assert!(!text(&plain.stdout).contains('\u{1b}'));
    assert!(text(&ofop(&["validate", path, "--color", "always"]).stdout).contains('\u{1b}'));
}

/// What `ofop` says with a token file below `/run/secrets`, in a mount namespace where that is made by `mount`.
fn with_container_secret(mount: &str, mode: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.yml"), "apps: {press: {uuid: PRESS, image: x}}\n").unwrap();
    std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/secrets && {mount} && echo 0123456789abcdef > /run/secrets/token && \
         chmod {mode} /run/secrets/token && exec \"$OFOP\" get all --desired . --token-file /run/secrets/token"
    );
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-ec", &script])
        .current_dir(folder.path())
        .env_clear()
        .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("OFOP", env!("CARGO_BIN_EXE_ofop"))])
        .env("DOCKER_HOST", "unix:///nowhere.sock")
        .output()
        .unwrap();
    text(&output.stderr)
}

#[test]
fn a_secret_that_the_engine_mounts_is_read_with_the_mode_that_it_has_there() {
    let (in_memory, from_the_host) = (":", "mount --bind elsewhere /run/secrets");
    let said = with_container_secret(in_memory, "444");
    assert!(said.contains("cannot see what runs"), "the settings were taken: {said}");
    for (mount, mode) in [(in_memory, "446"), (in_memory, "464"), (from_the_host, "444")] {
        let said = with_container_secret(mount, mode);
        assert!(said.contains("others may read or write `/run/secrets/token`"), "{mount} {mode}: {said}");
        assert!(said.contains("run `chmod 600 /run/secrets/token`"), "{said}");
    }
    assert!(with_container_secret(from_the_host, "400").contains("cannot see what runs"));
}
