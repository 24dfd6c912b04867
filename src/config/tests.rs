use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

fn variables(environment: &[(&str, &str)], file: &str) -> Variables {
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(file.as_bytes()).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Variables::load(environment, Some(written.path())).unwrap()
}

fn load(flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let flags = flags.iter().map(|(flag, text)| (*flag, (*text).to_owned())).collect();
    Config::load(&flags, variables(environment, file))
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let file = "OFOP_RESYNC=3s\nOFOP_INSTANCE=file\nOFOP_CONCURRENCY=3";
    let environment = [("OFOP_RESYNC", "2s"), ("OFOP_INSTANCE", "environment")];
    let config = load(&[("--resync", "1s")], &environment, file).unwrap();
    assert_eq!(config.resync, Duration::from_secs(1));
    assert_eq!(config.instance.as_str(), "environment");
    assert_eq!(config.concurrency.get(), 3);
}

#[test]
fn an_existing_ofaenv_shapes_the_settings() {
    let file = r#"
        # OpenFactory
        export KAFKA_BROKER="broker-1:9092,broker-2:9092"
        KSQLDB_URL='http://ksqldb:8088/'   # with a slash
        ASSET_ROUTER_URL=http://router:8000
        OPENFACTORY_BASE_DOMAIN=plant.example
        OPENFACTORY_VERSION=v0.6.6
        OPENFACTORY_ENV=dev
        DEPLOYMENT_PLATFORM=swarm
        OPENFACTORY_MANAGER_NODE_DOCKER_URL=unix:///run/manager.sock
    "#;
    let config = load(&[], &[("DOCKER_HOST", "unix:///elsewhere.sock")], file).unwrap();
    assert_eq!(config.settings.kafka_broker, "broker-1:9092,broker-2:9092");
    assert_eq!(config.settings.ksqldb_url, "http://ksqldb:8088");
    assert_eq!(config.settings.base_domain, "plant.example");
    assert_eq!(config.settings.network, "factory-net");
    assert!(config.settings.dev);
    assert_eq!(config.settings.mtconnect_producer_image, "ghcr.io/openfactoryio/kafka-mtc-producer:latest");
    assert_eq!(config.host.as_ref().map(Host::as_str), Some("unix:///run/manager.sock"));
    assert_eq!(config.registry, RegistryKind::Openfactory);
}

#[test]
fn an_engine_behind_ssh_stops_only_who_needs_it() {
    let config = load(&[], &[], "\nDOCKER_HOST=ssh://me@manager").unwrap();
    let error = config.host.as_ref().unwrap().reachable().unwrap_err();
    assert!(error.to_string().ends_with(":2): `ssh://me@manager`: ofop does not speak ssh to an engine"), "{error}");
    assert!(error.hint().contains("docker.sock me@manager,"), "{}", error.hint());
    for host in ["tcp://manager:2376", "unix:///run/manager.sock", "/run/manager.sock"] {
        let config = load(&[("--host", host)], &[], "DOCKER_HOST=ssh://me@manager").unwrap();
        assert_eq!(config.host.as_ref().unwrap().reachable().unwrap(), host);
    }
}

#[test]
fn credentials_of_image_registries_are_where_docker_login_puts_them() {
    let directory = |environment| load(&[], environment, "").unwrap().docker_config;
    assert_eq!(directory(&[]), None);
    assert_eq!(directory(&[("HOME", "/home/ann")]), Some("/home/ann/.docker".into()));
    assert_eq!(
        directory(&[("HOME", "/home/ann"), ("DOCKER_CONFIG", "/etc/ofop/docker")]),
        Some("/etc/ofop/docker".into())
    );
}

#[test]
fn the_log_backend_is_text_unless_set_to_something() {
    let backend = |file| load(&[], &[], file).unwrap().settings.log_backend;
    assert_eq!(backend("").as_deref(), Some("text"));
    assert_eq!(backend("OPENFACTORY_LOG_BACKEND=loki").as_deref(), Some("loki"));
    assert_eq!(backend("OPENFACTORY_LOG_BACKEND=").as_deref(), Some("text"));
    assert_eq!(backend("OPENFACTORY_LOG_BACKEND='  '").as_deref(), Some("text"));
}

#[test]
fn a_development_environment_takes_the_newest_images_whatever_version_is_set() {
    for (environment, file, version) in [
        (vec![], "OPENFACTORY_VERSION=v0.6.6", "v0.6.6"),
        (vec![("OPENFACTORY_ENV", "prod")], "OPENFACTORY_VERSION=v0.6.6", "v0.6.6"),
        (vec![], "OPENFACTORY_ENV=dev\nOPENFACTORY_VERSION=v0.6.6", "latest"),
        (vec![("OPENFACTORY_ENV", "dev"), ("OPENFACTORY_VERSION", "v0.6.6")], "", "latest"),
    ] {
        let config = load(&[], &environment, file).unwrap();
        let image = format!("ghcr.io/openfactoryio/kafka-mtc-producer:{version}");
        assert_eq!(config.settings.mtconnect_producer_image, image, "{environment:?} {file}");
        assert_eq!(config.variables.all()["OPENFACTORY_VERSION"], version, "manifests see the same");
    }
}

#[test]
fn a_variable_of_the_file_that_stands_for_one_that_is_not_set_is_named() {
    let config = load(&[], &[], "\nOPENFACTORY_BASE_DOMAIN=${PLANT}.example\nX=${A:-}${B:-c}").unwrap();
    let [warning] = &config.variables.warnings()[..] else { panic!("{:?}", config.variables.warnings()) };
    let words = ":2: `PLANT` is not set: nothing is put in its place in OPENFACTORY_BASE_DOMAIN";
    assert!(warning.ends_with(words), "{warning}");
    // Who sets the variable itself does not need the file's.
    let overruled = load(&[], &[("OPENFACTORY_BASE_DOMAIN", "x")], "OPENFACTORY_BASE_DOMAIN=${PLANT}.example").unwrap();
    assert!(overruled.variables.warnings().is_empty());
    for (file, message) in [
        ("KAFKA_BROKER=${HOST_IP}:9092", ":1): is not a list of brokers; `HOST_IP` is not set"),
        ("KSQLDB_URL=http://${HOST_IP}:8088", ":1): is not an http or https address; `HOST_IP` is not set"),
        ("MTCONNECT_AGENT_IMAGE=agent:${TAG}", ":1): ends in a `:` without a tag behind it; `TAG` is not set"),
    ] {
        let error = load(&[], &[], file).unwrap_err().to_string();
        assert!(error.ends_with(message), "{error}");
    }
    let mut required = tempfile::NamedTempFile::new().unwrap();
    required.write_all(b"A=1\nX=${HOST_IP?the address of this machine}").unwrap();
    let error = Variables::load([], Some(required.path())).unwrap_err().to_string();
    assert!(error.ends_with(":2: `HOST_IP` is not set: the address of this machine"), "{error}");
}

#[test]
fn the_registry_follows_ksqldb_unless_told() {
    assert_eq!(load(&[], &[], "").unwrap().registry, RegistryKind::Embedded);
    let both = [("KSQLDB_URL", "http://k:8088"), ("KAFKA_BROKER", "b:9092")];
    assert_eq!(load(&[], &both, "").unwrap().registry, RegistryKind::Openfactory);
    assert_eq!(load(&[("--registry", "embedded")], &both, "").unwrap().registry, RegistryKind::Embedded);
    let error = load(&[("--registry", "openfactory")], &[], "").unwrap_err();
    assert_eq!(error.to_string(), "the openfactory registry needs KSQLDB_URL");
}

#[test]
fn an_invalid_setting_is_named_as_the_user_wrote_it() {
    for (flags, environment, file, message) in [
        (vec![("--resync", "soon")], vec![], "", "--resync: `soon` is not a time between 1ms and 24h"),
        (vec![], vec![("OFOP_RESYNC", "0")], "", "OFOP_RESYNC: `0` is not a time between 1ms and 24h"),
        (vec![], vec![], "\nOFOP_LISTEN=x", ":2): `x` is not an address with a port"),
        (vec![], vec![("DEPLOYMENT_PLATFORM", "k8s")], "", "DEPLOYMENT_PLATFORM: `k8s` is not a platform"),
        (vec![], vec![("KSQLDB_URL", "user:pass@host")], "", "KSQLDB_URL: is not an http or https address"),
        (vec![], vec![("KAFKA_BROKER", ",")], "", "KAFKA_BROKER: is not a list of brokers"),
        (vec![], vec![("KAFKA_BROKER", "a:1,kafka://b:9092")], "", "KAFKA_BROKER: is not a list of brokers"),
        (vec![("--host", "manager")], vec![], "", "--host: `manager` is not an engine's address"),
        (vec![("--concurrency", "0")], vec![], "", "--concurrency: `0` is not a number from 1 to 256"),
        (vec![], vec![("OFOP_WEBHOOK_SECRET", "too short")], "", "OFOP_WEBHOOK_SECRET: the webhook secret has fewer"),
        (vec![("--webhook-secret-file", "/none")], vec![], "", "--webhook-secret-file: cannot read `/none`"),
        (vec![("--instance", "a b")], vec![], "", "--instance: instance name must be"),
        (vec![("--prune-guard-fraction", "31")], vec![], "", "--prune-guard-fraction: `31` is not between 0 and 1"),
    ] {
        let error = load(&flags, &environment, file).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn no_variable_shows_in_debug_output_or_errors() {
    let environment = [("OFOP_TOKEN", "t0ken-sentinel-long"), ("PASSWORD", "p4ss-sentinel")];
    let config = load(&[], &environment, "OTHER=f1le-sentinel").unwrap();
    assert_eq!(config.tokens.first().map(|token| token.secret.expose()), Some("t0ken-sentinel-long"));
    assert!(!format!("{config:?}").contains("sentinel"));
    let error = load(&[], &[("OFOP_TOKEN", "two sentinel words")], "").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("sentinel"));
    let config = load(&[], &[("OFOP_WEBHOOK_SECRET", "a sentinel of some words")], "").unwrap();
    assert_eq!(config.webhook_secret.as_ref().map(Secret::expose), Some("a sentinel of some words"));
    assert!(!format!("{config:?}").contains("sentinel"));
    let error = load(&[], &[("OFOP_WEBHOOK_SECRET", "short sentinel")], "").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("sentinel"));
    assert!(!format!("{:?}", dotenv::parse("'sentinel").map(|_| ()).unwrap_err()).contains("sentinel"));
}

#[test]
fn windows_are_rules_in_one_line() {
    assert!(load(&[], &[], "").unwrap().windows.is_default());
    let text = "allow 0 22 * * MON-FRI for 6h in Europe/Berlin; repairs window";
    assert_eq!(load(&[], &[("OFOP_WINDOWS", text)], "").unwrap().windows.to_string(), text);
    assert!(load(&[("--windows", "open")], &[("OFOP_WINDOWS", text)], "").unwrap().windows.is_always_open());
    for (text, said) in [
        ("0 22 * * *", "is not of the form"),
        ("allow 0 25 * * * for 6h in UTC", "the hour `25` must be 0 to 23"),
        ("allow 0 22 * * * for 8d in UTC", "seven days at most"),
        ("allow 0 22 * * * for 6h in Berlin", "no time zone `Berlin`"),
        ("deny * * * * * for 1m in UTC", "never open"),
        ("repairs never", "`always` or `window`"),
    ] {
        let error = load(&[("--windows", text)], &[], "").unwrap_err();
        assert!(error.to_string().contains(said) && error.hint().contains("allow 0 22"), "{text}: {error}");
    }
}

#[test]
fn times_take_a_unit() {
    for (text, millis) in [("500ms", 500), ("30s", 30_000), ("30", 30_000), ("5m", 300_000), ("1.5h", 5_400_000)] {
        assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "s", "-1s", "1 day", "1e9h"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

#[test]
fn the_daemon_is_looked_for_where_it_listens_unless_told() {
    let address = |environment: &[(&str, &str)]| load(&[], environment, "").unwrap().address;
    assert_eq!(address(&[]), DEFAULT_LISTEN);
    assert_eq!(address(&[("OFOP_LISTEN", "0.0.0.0:9000")]), "127.0.0.1:9000");
    assert_eq!(address(&[("OFOP_LISTEN", ":9000"), ("OFOP_ADDRESS", "http://ops:80/")]), "ops:80");
    assert!(load(&[("--address", "ops")], &[], "").is_err());
}

fn git(flags: &[(&'static str, &str)], environment: &[(&str, &str)]) -> Result<Git, ConfigError> {
    match load(flags, environment, "")?.manifests {
        Some(Manifests::Git(git)) => Ok(*git),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_daemon_that_is_named_on_the_command_line_is_asked_unless_manifests_are_too() {
    let asks = |flags: &[(&'static str, &str)], environment: &[(&str, &str)]| {
        load(flags, environment, "").unwrap().asks_daemon
    };
    let address = ("--address", "127.0.0.1:8421");
    assert!(asks(&[address], &[("OFOP_DESIRED", "dir")]));
    assert!(!asks(&[address, ("--desired", "dir")], &[]));
    assert!(!asks(&[address, ("--git", "https://git.plant/a.git")], &[]));
    assert!(!asks(&[("--desired", "dir")], &[("OFOP_ADDRESS", "127.0.0.1:8421")]));
    assert!(!asks(&[], &[("OFOP_DESIRED", "dir"), ("OFOP_ADDRESS", "127.0.0.1:8421")]));
}

#[test]
fn manifests_come_from_a_directory_or_a_repository_and_the_stronger_word_wins() {
    let place = |flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str| {
        load(flags, environment, file).map(|config| match config.manifests {
            Some(Manifests::Directory(path)) => path.display().to_string(),
            Some(Manifests::Git(git)) => git.url,
            None => String::new(),
        })
    };
    let (url, other) = ("https://git.plant/a.git", "ssh://git@git.plant/b.git");
    assert_eq!(place(&[], &[], "").unwrap(), "");
    assert_eq!(place(&[("--git", url)], &[("OFOP_DESIRED", "dir")], "").unwrap(), url);
    assert_eq!(place(&[("--desired", "dir")], &[("OFOP_GIT_URL", url)], "").unwrap(), "dir");
    assert_eq!(place(&[], &[("OFOP_GIT_URL", url)], "OFOP_DESIRED=dir").unwrap(), url);
    assert_eq!(place(&[("--git", other)], &[("OFOP_GIT_URL", url)], "").unwrap(), other);
    let error = place(&[("--desired", "dir"), ("--git", url)], &[], "").unwrap_err();
    assert_eq!(error.to_string(), "--desired and --git exclude each other");
    let error = place(&[], &[("OFOP_DESIRED", "dir"), ("OFOP_GIT_URL", url)], "").unwrap_err();
    assert_eq!(error.to_string(), "OFOP_DESIRED and OFOP_GIT_URL exclude each other");
    for flag in ["--branch", "--path", "--interval", "--revision", "--verify-signatures", "--git-rewritten"] {
        let error = place(&[("--desired", "dir"), (flag, "x")], &[("OFOP_GIT_URL", url)], "").unwrap_err();
        assert_eq!(error.to_string(), format!("{flag} needs --git"));
    }
}

#[test]
fn a_repository_is_reached_as_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (token, passphrase) = (file("token", "t0ken\n"), file("passphrase", "p4ss\n"));
    let flags = [("--git", "https://git.plant/a.git"), ("--branch", "live"), ("--path", "factory/")];
    let git = git(
        &flags,
        &[
            ("OFOP_GIT_BRANCH", "main"),
            ("OFOP_GIT_INTERVAL", "5m"),
            ("OFOP_GIT_REWRITTEN", "refuse"),
            ("OFOP_GIT_VERIFY_SIGNATURES", "signers"),
            ("OFOP_GIT_USER", "ofop"),
            ("OFOP_GIT_TOKEN_FILE", &token),
            ("OFOP_GIT_SSH_KEY", "key"),
            ("OFOP_GIT_SSH_PASSPHRASE_FILE", &passphrase),
            ("HOME", "/home/ofop"),
        ],
    )
    .unwrap();
    assert_eq!((git.branch.as_deref(), git.path.as_str(), git.by_flag), (Some("live"), "factory", true));
    assert_eq!((git.interval, git.timeout), (Duration::from_secs(300), DEFAULT_FETCH_TIMEOUT));
    assert_eq!((git.rewritten, git.allowed_signers), (Rewritten::Refuse, Some("signers".into())));
    assert_eq!((git.user.as_deref(), git.token_file), (Some("ofop"), Some(token.into())));
    assert_eq!(git.ssh_passphrase.as_ref().map(Secret::expose), Some("p4ss"));
    assert_eq!(git.known_hosts, Some("/home/ofop/.ssh/known_hosts".into()));
}

#[test]
fn a_password_in_a_url_is_taken_from_a_variable_and_refused_on_the_command_line() {
    let url = "https://ann:p4ss%2Dsentinel@git.plant/a.git";
    let taken = git(&[], &[("OFOP_GIT_URL", url)]).unwrap();
    assert_eq!((taken.url.as_str(), taken.user.as_deref()), ("https://git.plant/a.git", Some("ann")));
    assert_eq!(taken.token.as_ref().map(Secret::expose), Some("p4ss-sentinel"));
    assert!(!format!("{taken:?}").contains("sentinel"));
    for url in [url, "https://t0ken-sentinel@git.plant/a.git", "ssh://git:p4ss-sentinel@git.plant/a.git"] {
        let error = git(&[("--git", url)], &[]).unwrap_err();
        assert!(!format!("{error} {error:?} {}", error.hint()).contains("sentinel"), "{error}");
        assert!(error.hint().contains("OFOP_GIT_"), "{}", error.hint());
    }
}

#[test]
fn a_repository_that_cannot_be_meant_is_refused() {
    for (flag, text, reason) in [
        ("--git", "http://git.plant/a.git", "without encryption"),
        ("--git", "git://git.plant/a.git", "without encryption"),
        ("--git", "ext::sh -c true", "not supported"),
        ("--git", "ftp://git.plant/a.git", "not supported"),
        ("--path", "../secrets", "no path inside the repository"),
        ("--path", "/etc", "no path inside the repository"),
        ("--interval", "10ms", "shorter than 1s"),
        ("--git-rewritten", "maybe", "neither follow nor refuse"),
    ] {
        let flags = [("--git", "https://git.plant/a.git"), (flag, text)];
        let flags = if flag == "--git" { &flags[1..] } else { &flags[..] };
        let error = git(flags, &[]).unwrap_err();
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
    assert_eq!(git(&[("--git", "git@git.plant:a.git")], &[]).unwrap().url, "git@git.plant:a.git");
    assert!(git(&[("--git", "hub/a.git")], &[]).unwrap().url.starts_with('/'));
}

#[test]
fn events_and_history_are_kept_for_days_and_up_to_a_size() {
    let kept = |name: &str, text: &str| load(&[], &[(name, text)], "");
    let config = load(&[], &[], "").unwrap();
    assert_eq!((config.events_keep, config.events_max), (DEFAULT_EVENTS_KEEP, DEFAULT_EVENTS_MAX));
    assert_eq!((config.history_keep, config.history_max), (DEFAULT_HISTORY_KEEP, DEFAULT_HISTORY_MAX));
    let config = load(&[], &[("OFOP_HISTORY_KEEP", "2d"), ("OFOP_HISTORY_MAX", "0")], "").unwrap();
    assert_eq!((config.history_keep, config.history_max), (Duration::from_secs(172_800), 0));
    for (text, hours) in [("30d", 720), ("36h", 36), ("1h", 1), ("3650d", 87_600)] {
        assert_eq!(kept("OFOP_EVENTS_KEEP", text).unwrap().events_keep, Duration::from_secs(hours * 3600), "{text}");
    }
    for (text, bytes) in [("0", 0), ("1048576", 1 << 20), ("2MiB", 2 << 20), ("1 GiB", 1 << 30), ("2048K", 2 << 20)] {
        assert_eq!(kept("OFOP_EVENTS_MAX", text).unwrap().events_max, bytes, "{text}");
    }
    for wrong in ["0", "59m", "3651d", "x", "-1d", "4294967296d"] {
        assert!(kept("OFOP_EVENTS_KEEP", wrong).is_err(), "{wrong}");
    }
    for wrong in ["1000", "-1", "17GiB", "1.5MiB", "many", "99999999999999999999", "18446744073709551615G"] {
        assert!(kept("OFOP_EVENTS_MAX", wrong).is_err(), "{wrong}");
    }
}

#[test]
fn no_manifest_is_given_a_credential() {
    let environment =
        [("OFOP_TOKEN", "a"), ("CI_JOB_TOKEN", "b"), ("db_password", "c"), ("APP_SECRET", "d"), ("TAG", "1")];
    let file = "OFOP_GIT_TOKEN=e\nAPP_SECRET=f\nMQTT_PASSWORD=g\nLINE=h";
    let withheld = variables(&environment, file).withheld();
    for name in ["OFOP_TOKEN", "CI_JOB_TOKEN", "db_password", "OFOP_GIT_TOKEN", "OFOP_WEBHOOK_SECRET", "GITHUB_TOKEN"] {
        assert!(withheld.contains(name), "{name}");
    }
    for name in ["APP_SECRET", "MQTT_PASSWORD", "LINE", "TAG"] {
        assert!(!withheld.contains(name), "{name}");
    }
}

#[test]
fn a_rewritten_history_is_refused_where_signatures_are_checked_unless_somebody_says_otherwise() {
    let rewritten = |more: &[(&'static str, &str)], environment: &[(&str, &str)]| {
        let flags = [&[("--git", "https://git.plant/a.git")][..], more].concat();
        let Some(Manifests::Git(git)) = load(&flags, environment, "").unwrap().manifests else {
            panic!("no repository")
        };
        git.rewritten
    };
    let signed = ("--verify-signatures", "signers");
    assert_eq!(rewritten(&[], &[]), Rewritten::Follow);
    assert_eq!(rewritten(&[signed], &[]), Rewritten::Refuse);
    assert_eq!(rewritten(&[], &[("OFOP_GIT_VERIFY_SIGNATURES", "signers")]), Rewritten::Refuse);
    assert_eq!(rewritten(&[signed, ("--git-rewritten", "follow")], &[]), Rewritten::Follow);
    assert_eq!(rewritten(&[signed], &[("OFOP_GIT_REWRITTEN", "follow")]), Rewritten::Follow);
    assert_eq!(rewritten(&[("--git-rewritten", "refuse")], &[]), Rewritten::Refuse);
}

#[test]
fn hosts_of_device_models_are_named_by_flag_or_variable() {
    let hosts = |text: &str| HostRules::parse(text).unwrap();
    assert_eq!(load(&[], &[], "").unwrap().remote.hosts, HostRules::default());
    let config = load(&[], &[("OFOP_MODEL_HOSTS", "nas.plant, 10.0.0.0/8:8443")], "").unwrap();
    assert_eq!(config.remote.hosts, hosts("nas.plant 10.0.0.0/8:8443"));
    let config = load(&[("--model-hosts", "10.0.0.7")], &[("OFOP_MODEL_HOSTS", "nas.plant")], "").unwrap();
    assert_eq!(config.remote.hosts, hosts("10.0.0.7"));
    let error = load(&[("--model-hosts", "https://nas.plant/xml")], &[], "").unwrap_err();
    assert!(error.to_string().starts_with("--model-hosts: `https://nas.plant/xml` is neither"), "{error}");
    assert!(error.hint().contains("nas.plant.example"), "{}", error.hint());
}

#[test]
fn folders_of_device_models_are_absolute() {
    let config = load(&[], &[("OFOP_MODEL_ROOTS", "/etc/models:/srv/xml")], "").unwrap();
    assert_eq!(config.model_roots, [Path::new("/etc/models"), Path::new("/srv/xml")]);
    let error = load(&[], &[], "OFOP_MODEL_ROOTS=/etc/models:xml").unwrap_err();
    assert!(error.to_string().contains("`xml` is not an absolute path"), "{error}");
}
