//! Options in the engine's words, and back: [`ServiceOptions`]. Pure.
//!
//! A value that is read and equals the engine's default is none, as if it were not there ([`crate::model::options`]).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::raw;
use crate::model::options::{
    DEFAULT_CONDITION, DEFAULT_FAILURE_ACTION, DEFAULT_MONITOR, DEFAULT_ORDER, DEFAULT_PARALLELISM,
    DEFAULT_RESTART_DELAY, DEFAULT_STOP_GRACE, FailureAction, Healthcheck, Probe, RestartCondition, RestartOptions,
    ServiceOptions, UpdateOptions, UpdateOrder,
};

/// An update policy without this number means that all tasks are replaced at once.
pub(super) const PARALLELISM: [&str; 2] = ["UpdateConfig", "Parallelism"];

/// The update policy, as far as it is set; none when nothing of it is.
pub(super) fn update_config(options: &UpdateOptions) -> Option<Value> {
    let UpdateOptions { order, failure_action, monitor, parallelism, delay } = options;
    let mut config = Map::new();
    let mut put = |key: &str, value: Option<Value>| config.extend(value.map(|value| (key.to_owned(), value)));
    put("Order", order.map(|order| json!(order.as_str())));
    put("FailureAction", failure_action.map(|action| json!(action.as_str())));
    put("Monitor", monitor.map(nanos));
    put("Delay", delay.map(nanos));
    if config.is_empty() && parallelism.is_none() {
        return None;
    }
    config.insert("Parallelism".into(), json!(parallelism.unwrap_or(DEFAULT_PARALLELISM)));
    Some(Value::Object(config))
}

/// The restart policy, as far as it is set; none when nothing of it is.
pub(super) fn restart_policy(options: &RestartOptions) -> Option<Value> {
    let RestartOptions { condition, delay, max_attempts, window } = options;
    let mut policy = Map::new();
    let mut put = |key: &str, value: Option<Value>| policy.extend(value.map(|value| (key.to_owned(), value)));
    put("Condition", condition.map(|condition| json!(condition.as_str())));
    put("Delay", delay.map(nanos));
    put("MaxAttempts", max_attempts.map(|attempts| json!(attempts)));
    put("Window", window.map(nanos));
    (!policy.is_empty()).then_some(Value::Object(policy))
}

/// A health check as both the service and the container API take it; none for the image's own.
pub(in crate::platform) fn healthcheck(check: &Healthcheck) -> Option<Value> {
    let Healthcheck::Probe(probe) = check else { return Some(json!({"Test": [DISABLED]})) };
    let Probe { test, interval, timeout, retries, start_period } = probe;
    let mut config = Map::new();
    let mut put = |key: &str, value: Option<Value>| config.extend(value.map(|value| (key.to_owned(), value)));
    put("Test", (!test.is_empty()).then(|| json!(test)));
    put("Interval", interval.map(nanos));
    put("Timeout", timeout.map(nanos));
    put("Retries", retries.map(|retries| json!(retries)));
    put("StartPeriod", start_period.map(nanos));
    (!config.is_empty()).then_some(Value::Object(config))
}

/// The test of a container that is not to be checked (Docker Engine API, `HealthConfig`).
const DISABLED: &str = "NONE";

/// A time as the engine takes it.
pub(super) fn nanos(time: Duration) -> Value {
    json!(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

fn time(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// A value unless it is the default.
fn other_than<T: PartialEq>(value: T, default: T) -> Option<T> {
    Some(value).filter(|value| *value != default)
}

/// Reads the options of a service.
pub(super) fn read(
    update: Option<&raw::UpdateConfig>,
    restart: &raw::RestartPolicy,
    container: &raw::ContainerSpec,
) -> ServiceOptions {
    ServiceOptions {
        update: update.map(read_update).unwrap_or_default(),
        healthcheck: read_healthcheck(&container.healthcheck),
        stop_grace_period: container.stop_grace_period.and_then(|nanos| other_than(time(nanos), DEFAULT_STOP_GRACE)),
        restart: RestartOptions {
            condition: RestartCondition::parse(&restart.condition)
                .and_then(|condition| other_than(condition, DEFAULT_CONDITION)),
            delay: restart.delay.and_then(|nanos| other_than(time(nanos), DEFAULT_RESTART_DELAY)),
            max_attempts: other_than(restart.max_attempts, 0),
            window: other_than(time(restart.window), Duration::ZERO),
        },
        hostname: other_than(container.hostname.clone(), String::new()),
    }
}

fn read_update(raw: &raw::UpdateConfig) -> UpdateOptions {
    UpdateOptions {
        order: UpdateOrder::parse(&raw.order).and_then(|order| other_than(order, DEFAULT_ORDER)),
        failure_action: FailureAction::parse(&raw.failure_action)
            .and_then(|action| other_than(action, DEFAULT_FAILURE_ACTION)),
        // To the engine none and 0 are its default.
        monitor: other_than(time(raw.monitor), DEFAULT_MONITOR).filter(|monitor| *monitor != Duration::ZERO),
        parallelism: raw.parallelism.and_then(|number| other_than(number, DEFAULT_PARALLELISM)),
        delay: other_than(time(raw.delay), Duration::ZERO),
    }
}

/// Reads a health check; none for the image's own.
pub(in crate::platform) fn read_healthcheck(raw: &raw::HealthConfig) -> Option<Healthcheck> {
    if raw.test.first().is_some_and(|kind| kind == DISABLED) {
        return Some(Healthcheck::Disabled);
    }
    let given = |nanos: i64| other_than(time(nanos), Duration::ZERO);
    let probe = Probe {
        test: raw.test.clone(),
        interval: given(raw.interval),
        timeout: given(raw.timeout),
        retries: u32::try_from(raw.retries).ok().and_then(|retries| other_than(retries, 0)),
        start_period: given(raw.start_period),
    };
    other_than(Healthcheck::Probe(probe), Healthcheck::default())
}
