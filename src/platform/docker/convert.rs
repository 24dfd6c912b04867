//! From a container as the engine describes it to a service as we see it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::raw;
use crate::model::options::{DEFAULT_STOP_GRACE, ServiceOptions};
use crate::model::service::{EnvVar, LABEL_SELF, Mount, Port, Resources, Ulimit};
use crate::model::{
    Mark, ObservedService, Rollout, ServiceId, ServiceName, ServiceSpec, TaskState, TaskView, UpdateState,
};
use crate::platform::scrub::Scrubber;
use crate::platform::swarm::options;

/// Label of a container: what was asked for, as far as the engine's answer cannot tell it from what the image
/// brought along.
pub(super) const LABEL_ASKED: &str = "io.openfactory.operator/asked";

/// What [`LABEL_ASKED`] says. Values are not in it: they can be read from the container.
///
/// Labels of containers outlive the version that wrote them: a member that is missing has its default, and one that
/// nothing here knows is passed over.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// So many variables, the first ones, are ours.
    env: usize,
    entrypoint: bool,
    cmd: bool,
    user: bool,
    /// Keys of routing labels.
    labels: BTreeSet<String>,
    /// In order; the engine does not keep it.
    networks: Vec<String>,
    ulimits: BTreeSet<String>,
    /// Parts of the health check; the engine puts those of the image beside them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    healthcheck: BTreeSet<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stop_timeout: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hostname: bool,
}

impl Asked {
    pub(super) fn of(spec: &ServiceSpec) -> Self {
        Asked {
            env: spec.env.len(),
            entrypoint: !spec.command.is_empty(),
            cmd: !spec.args.is_empty(),
            user: spec.user.is_some(),
            labels: spec.labels.keys().cloned().collect(),
            networks: spec.networks.clone(),
            ulimits: spec.ulimits.iter().map(|ulimit| ulimit.name.clone()).collect(),
            healthcheck: parts(spec.options.healthcheck.as_ref().and_then(options::healthcheck)),
            stop_timeout: spec.options.stop_grace_period.is_some(),
            hostname: spec.options.hostname.is_some(),
        }
    }

    /// What was probably asked for of a container that we did not make: everything that its image does not
    /// explain.
    fn guessed(name: &ServiceName, container: &raw::Container, image: &raw::Config) -> Self {
        let config = &container.config;
        // The engine appends the image's variables, those aside that were given.
        let mut env = config.env.len();
        for inherited in image.env.iter().rev() {
            if env > 0 && config.env[env - 1] == *inherited {
                env -= 1;
            }
        }
        let labels = config
            .labels
            .iter()
            .filter(|(key, value)| ServiceSpec::owns_label(name, key) && image.labels.get(*key) != Some(*value));
        Asked {
            env,
            entrypoint: config.entrypoint != image.entrypoint,
            cmd: config.cmd != image.cmd,
            user: config.user != image.user,
            labels: labels.map(|(key, _)| key.clone()).collect(),
            networks: Vec::new(),
            ulimits: container.host_config.ulimits.iter().map(|ulimit| ulimit.name.clone()).collect(),
            healthcheck: match config.healthcheck == image.healthcheck {
                true => BTreeSet::new(),
                false => PARTS.map(str::to_owned).into(),
            },
            stop_timeout: config.stop_timeout != image.stop_timeout,
            // Where nothing is asked for, the engine takes the beginning of the id.
            hostname: !container.id.starts_with(&config.hostname),
        }
    }

    /// The options that were asked for.
    fn options(&self, config: &raw::Config) -> ServiceOptions {
        let check = &config.healthcheck;
        let asked = |part: &str, value: i64| if self.healthcheck.contains(part) { value } else { 0 };
        let [test, interval, timeout, retries, start_period] = PARTS;
        let check = raw::HealthConfig {
            test: if self.healthcheck.contains(test) { check.test.clone() } else { Vec::new() },
            interval: asked(interval, check.interval),
            timeout: asked(timeout, check.timeout),
            retries: asked(retries, check.retries),
            start_period: asked(start_period, check.start_period),
        };
        let grace = config.stop_timeout.map(|seconds| Duration::from_secs(u64::from(seconds)));
        ServiceOptions {
            healthcheck: options::read_healthcheck(&check),
            stop_grace_period: grace.filter(|grace| self.stop_timeout && *grace != DEFAULT_STOP_GRACE),
            hostname: Some(config.hostname.clone()).filter(|name| self.hostname && !name.is_empty()),
            ..ServiceOptions::default()
        }
    }
}

/// The parts of a health check, as the engine calls them.
const PARTS: [&str; 5] = ["Test", "Interval", "Timeout", "Retries", "StartPeriod"];

fn parts(check: Option<serde_json::Value>) -> BTreeSet<String> {
    match check {
        Some(serde_json::Value::Object(parts)) => parts.into_iter().map(|(part, _)| part).collect(),
        _ => BTreeSet::new(),
    }
}

/// Whether reading this container needs to know what its image brings along.
pub(super) fn needs_image(container: &raw::Container) -> bool {
    asked(container).is_none()
}

fn asked(container: &raw::Container) -> Option<Asked> {
    serde_json::from_str(container.config.labels.get(LABEL_ASKED)?).ok()
}

/// The name, if one of ours could be called so. Containers of Swarm tasks, for one, have dots in theirs.
pub(super) fn name(container: &raw::Container) -> Option<ServiceName> {
    let text = container.name.trim_start_matches('/');
    ServiceName::new(text).ok().filter(|name| name.as_str() == text)
}

/// Reads a container. `image` is what its image brings along, `networks` are names by id.
pub(super) fn container(
    name: ServiceName,
    container: &raw::Container,
    image: &raw::Config,
    networks: &BTreeMap<String, String>,
) -> (ObservedService, TaskView) {
    let (config, host) = (&container.config, &container.host_config);
    let asked = asked(container).unwrap_or_else(|| Asked::guessed(&name, container, image));
    let given = |yes: bool, words: &Vec<String>| if yes { words.clone() } else { Vec::new() };
    let mut task = task(container);
    let mut spec = ServiceSpec::new(name, config.image.clone());
    spec.command = given(asked.entrypoint, &config.entrypoint);
    spec.args = given(asked.cmd, &config.cmd);
    spec.env = config.env.iter().take(asked.env).map(|variable| EnvVar::split(variable)).collect();
    spec.user = asked.user.then(|| config.user.clone());
    spec.labels = asked.labels.iter().filter_map(|key| Some((key.clone(), config.labels.get(key)?.clone()))).collect();
    spec.mounts = host.mounts.iter().map(mount).chain(host.binds.iter().map(|text| bind(text))).collect();
    spec.ulimits = host.ulimits.iter().filter(|one| asked.ulimits.contains(&one.name)).map(ulimit).collect();
    let bound = |number: i64| (number != 0).then_some(number);
    spec.limits = Resources { nano_cpus: bound(host.nano_cpus), memory_bytes: bound(host.memory) };
    spec.networks = attached(container, &asked, networks);
    spec.ports = ports(host);
    spec.options = asked.options(config);
    spec.replicas = u64::from(task.state == TaskState::Running);
    if !task.error.is_empty() {
        task.error = Scrubber::of(&spec).clean(&task.error);
    }
    let observed = ObservedService {
        id: ServiceId(container.id.clone()),
        version: 0,
        mark: Mark::from_labels(|label| config.labels.get(label).map(String::as_str))
            .map(|mark| Mark { kept: None, ..mark }),
        runs_operator: config.labels.contains_key(LABEL_SELF),
        foreign_mode: None,
        container_labels: spec.labels.clone(),
        update: UpdateState::None,
        rollout: Rollout::default(),
        created_at: container.created.clone(),
        spec: Arc::new(spec),
    };
    (observed, task)
}

/// The container as the one task of its service.
fn task(container: &raw::Container) -> TaskView {
    let state = &container.state;
    let (task, since) = match state.status.as_str() {
        "created" => (TaskState::Ready, &container.created),
        "running" => (TaskState::Running, &state.started_at),
        "restarting" => (TaskState::Starting, &state.finished_at),
        // Somebody froze it: it holds its place, and does nothing.
        "paused" => (TaskState::Shutdown, &state.started_at),
        "removing" => (TaskState::Remove, &state.finished_at),
        "exited" if state.exit_code == 0 => (TaskState::Complete, &state.finished_at),
        "exited" | "dead" => (TaskState::Failed, &state.finished_at),
        _ => (TaskState::Unknown, &container.created),
    };
    let error = match task {
        TaskState::Failed if state.oom_killed => format!("out of memory, exit code {}", state.exit_code),
        TaskState::Failed if state.error.is_empty() => format!("exit code {}", state.exit_code),
        TaskState::Shutdown => "paused".to_owned(),
        _ => state.error.clone(),
    };
    TaskView {
        id: container.id.clone(),
        slot: 1,
        state: task,
        wanted: true,
        error,
        node: String::new(),
        since: since.clone(),
    }
}

fn mount(raw: &raw::Mount) -> Mount {
    let (source, target, read_only) = (raw.source.clone(), raw.target.clone(), raw.read_only);
    match raw.kind.as_str() {
        "volume" => {
            let raw::Driver { name, options } = &raw.volume_options.driver_config;
            Mount::Volume { source, target, driver: name.clone(), options: options.clone(), read_only }
        }
        "bind" => Mount::Bind { source, target, read_only },
        kind => Mount::Other { kind: kind.to_owned(), target },
    }
}

/// `source:target[:options]`, as `docker run -v` leaves it.
fn bind(text: &str) -> Mount {
    let mut parts = text.splitn(3, ':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let read_only = parts.next().is_some_and(|options| options.split(',').any(|option| option == "ro"));
    let (source, target) = (source.to_owned(), target.to_owned());
    if source.starts_with('/') {
        Mount::Bind { source, target, read_only }
    } else {
        Mount::Volume { source, target, driver: String::new(), options: BTreeMap::new(), read_only }
    }
}

fn ulimit(raw: &raw::Ulimit) -> Ulimit {
    Ulimit { name: raw.name.clone(), soft: raw.soft, hard: raw.hard }
}

/// The networks in the order in which they were asked for, then others by name. The default bridge counts only
/// when it was asked for.
fn attached(container: &raw::Container, asked: &Asked, names: &BTreeMap<String, String>) -> Vec<String> {
    let mode = &container.host_config.network_mode;
    let mode = names.get(mode).unwrap_or(mode);
    let mut left: BTreeSet<&String> = container.network_settings.networks.keys().collect();
    let mut ordered: Vec<String> = Vec::new();
    for wanted in asked.networks.iter().chain(std::iter::once(mode)) {
        if left.remove(wanted) {
            ordered.push(wanted.clone());
        }
    }
    if !asked.networks.iter().any(|network| network == "bridge") {
        left.remove(&"bridge".to_owned());
        ordered.retain(|network| network != "bridge");
    }
    ordered.extend(left.into_iter().cloned());
    ordered
}

fn ports(host: &raw::HostConfig) -> Vec<Port> {
    let mut ports = Vec::new();
    for (inside, bindings) in &host.port_bindings {
        let (target, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
        let Ok(target) = target.parse() else { continue };
        for binding in bindings.iter().flatten() {
            // An empty or zero port is the engine's choice: no number that could be wanted.
            let published = binding.host_port.parse().unwrap_or(0);
            ports.push(Port { protocol: protocol.to_owned(), ..Port::tcp(published, target) });
        }
    }
    ports.sort();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::{Healthcheck, Probe};

    fn raw(json: serde_json::Value) -> raw::Container {
        serde_json::from_value(json).unwrap()
    }

    fn read(container: &raw::Container, image: &raw::Config) -> ObservedService {
        super::container(name(container).unwrap(), container, image, &BTreeMap::new()).0
    }

    fn bare(config: serde_json::Value) -> raw::Container {
        raw(serde_json::json!({
            "Id": "f".repeat(64),
            "Name": "/app",
            "State": {"Status": "running"},
            "Config": config,
            "HostConfig": {"NetworkMode": "default"},
            "NetworkSettings": {"Networks": {"bridge": {}}},
        }))
    }

    #[test]
    fn what_an_image_brings_along_is_not_ours() {
        let image: raw::Config = serde_json::from_value(serde_json::json!({
            "Env": ["PATH=/bin", "A=image"],
            "Cmd": ["serve"],
            "User": "7",
            "Labels": {"traefik.enable": "true"},
        }))
        .unwrap();
        let container = bare(serde_json::json!({
            "Image": "app:1",
            "Env": ["B=1", "A=ours", "PATH=/bin"],
            "Cmd": ["serve"],
            "User": "7",
            "Labels": {"traefik.enable": "true"},
        }));
        let found = read(&container, &image);
        let mut wanted = ServiceSpec::new(ServiceName::new("app").unwrap(), "app:1");
        wanted.env = vec![EnvVar::new("B", "1"), EnvVar::new("A", "ours")];
        assert_eq!(*found.spec, wanted);
        assert_eq!(found.mark, None);
    }

    #[test]
    fn what_was_asked_for_decides_where_the_image_says_the_same() {
        let mut wanted = ServiceSpec::new(ServiceName::new("app").unwrap(), "app:1");
        wanted.env = vec![EnvVar::new("A", "1"), EnvVar::new("SAME", "x")];
        wanted.user = Some("7".into());
        wanted.labels.insert("traefik.enable".into(), "true".into());
        let asked = serde_json::to_string(&Asked::of(&wanted)).unwrap();
        let container = bare(serde_json::json!({
            "Image": "app:1",
            "Env": ["A=1", "SAME=x"],
            "User": "7",
            "Labels": {"traefik.enable": "true", LABEL_ASKED: asked},
        }));
        assert!(!needs_image(&container));
        assert_eq!(*read(&container, &raw::Config::default()).spec, wanted);
        assert!(!asked.contains('x'), "no value is in the label: {asked}");
    }

    #[test]
    fn options_read_back_as_they_were_asked_for_and_those_of_the_image_are_not_seen() {
        let image = serde_json::json!({
            "Image": "app:1",
            "Healthcheck": {"Test": ["CMD", "image"], "Interval": 5_000_000_000_i64, "Retries": 9},
            "StopTimeout": 3,
        });
        let plain = ServiceSpec::new(ServiceName::new("app").unwrap(), "app:1");
        let with = |change: fn(&mut ServiceOptions)| {
            let mut spec = plain.clone();
            change(&mut spec.options);
            spec
        };
        for wanted in [
            plain.clone(),
            with(|options| options.healthcheck = Some(Healthcheck::Disabled)),
            with(|options| {
                let probe = Probe { test: vec!["CMD".into(), "mine".into()], retries: Some(2), ..Probe::default() };
                options.healthcheck = Some(Healthcheck::Probe(probe));
            }),
            with(|options| {
                let probe = Probe { timeout: Some(Duration::from_secs(4)), ..Probe::default() };
                options.healthcheck = Some(Healthcheck::Probe(probe));
            }),
            with(|options| options.stop_grace_period = Some(Duration::from_secs(20))),
            with(|options| options.hostname = Some("press".into())),
        ] {
            // As the engine does it: what is not given comes from the image.
            let mut config = image.clone();
            let body = super::super::body::create_body(&wanted, None);
            for (key, given) in body.as_object().unwrap().iter().filter(|(key, _)| *key != "Labels") {
                match (config[key].as_object_mut(), given.as_object()) {
                    (Some(parts), Some(given)) => parts.extend(given.clone()),
                    (_, _) => config[key] = given.clone(),
                }
            }
            config["Labels"] = serde_json::json!({LABEL_ASKED: serde_json::to_string(&Asked::of(&wanted)).unwrap()});
            assert_eq!(*read(&bare(config), &serde_json::from_value(image.clone()).unwrap()).spec, wanted);
        }
        // One that nobody marked has what its image does not explain.
        let theirs = serde_json::json!({"Image": "app:1", "Hostname": "ffffffffffff", "StopTimeout": 20});
        let found = read(&bare(theirs), &serde_json::from_value(image).unwrap()).spec.options.clone();
        assert_eq!((found.hostname, found.stop_grace_period), (None, Some(Duration::from_secs(20))));
    }

    /// Labels as versions wrote them: add a line for each version that changes the text, and change none.
    #[test]
    fn labels_of_every_version_are_understood() {
        let mut wanted = ServiceSpec::new(ServiceName::new("app").unwrap(), "app:1");
        wanted.env = vec![EnvVar::new("A", "1")];
        wanted.command = vec!["sh".into()];
        wanted.user = Some("7".into());
        wanted.labels.insert("traefik.enable".into(), "true".into());
        wanted.ulimits = vec![Ulimit { name: "nofile".into(), soft: 9, hard: 9 }];
        wanted.networks = vec!["z".into()];
        const OF_0_1: &str = r#"{"env":1,"entrypoint":true,"cmd":false,"user":true,"labels":["traefik.enable"],"networks":["z"],"ulimits":["nofile"]}"#;
        assert_eq!(
            serde_json::to_string(&Asked::of(&wanted)).unwrap(),
            OF_0_1,
            "running containers carry the old text: keep the old line, and make sure that it is still understood"
        );
        let earlier = r#"{"env":1,"entrypoint":true,"user":true,"labels":["traefik.enable"],"networks":["z"]}"#;
        let later =
            r#"{"env":1,"entrypoint":true,"user":true,"labels":["traefik.enable"],"networks":["z"],"devices":["gpu"]}"#;
        for label in [OF_0_1, earlier, later] {
            let container = bare(serde_json::json!({
                "Image": "app:1", "Env": ["A=1", "PATH=/bin"], "User": "7", "Entrypoint": ["sh"],
                "Labels": {"traefik.enable": "true", LABEL_ASKED: label},
            }));
            assert!(!needs_image(&container), "{label}");
            let found = read(&container, &raw::Config::default()).spec;
            let wanted = ServiceSpec { ulimits: Vec::new(), networks: Vec::new(), ..wanted.clone() };
            assert_eq!(*found, wanted, "{label}");
        }
    }

    #[test]
    fn networks_come_in_the_order_that_was_asked_for() {
        let mut wanted = ServiceSpec::new(ServiceName::new("app").unwrap(), "app:1");
        wanted.networks = vec!["z".into(), "a".into()];
        let mut container = bare(serde_json::json!({
            "Image": "app:1",
            "Labels": {LABEL_ASKED: serde_json::to_string(&Asked::of(&wanted)).unwrap()},
        }));
        let connect = |container: &mut raw::Container, names: &[&str]| {
            let networks: BTreeMap<&str, serde_json::Value> =
                names.iter().map(|name| (*name, serde_json::json!({}))).collect();
            container.network_settings = serde_json::from_value(serde_json::json!({"Networks": networks})).unwrap();
        };
        connect(&mut container, &["a", "z"]);
        assert_eq!(read(&container, &raw::Config::default()).spec.networks, ["z", "a"]);
        connect(&mut container, &["a", "other"]);
        assert_eq!(read(&container, &raw::Config::default()).spec.networks, ["a", "other"]);
    }

    #[test]
    fn a_container_that_does_not_run_has_no_replicas() {
        let mut container = bare(serde_json::json!({"Image": "app:1"}));
        for (status, code, replicas, state) in [
            ("running", 0, 1, TaskState::Running),
            ("created", 0, 0, TaskState::Ready),
            ("exited", 0, 0, TaskState::Complete),
            ("exited", 3, 0, TaskState::Failed),
            ("paused", 0, 0, TaskState::Shutdown),
        ] {
            container.state.status = status.into();
            container.state.exit_code = code;
            let name = name(&container).unwrap();
            let (service, task) = super::container(name, &container, &raw::Config::default(), &BTreeMap::new());
            assert_eq!((service.spec.replicas, task.state), (replicas, state), "{status} {code}");
        }
    }

    #[test]
    fn containers_of_swarm_tasks_and_other_cases_bear_no_name_of_ours() {
        let mut container = bare(serde_json::json!({"Image": "app:1"}));
        for odd in ["/app.1.x7k", "/App", "/-"] {
            container.name = odd.into();
            assert_eq!(name(&container), None, "{odd}");
        }
    }
}
