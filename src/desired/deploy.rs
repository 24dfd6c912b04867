//! `deploy`: replicas, resources, placement.

use super::checked::Object;
use super::manifest::Deploy;
use super::problems::Problems;
use super::python;
use super::yaml::{Span, push_index};
use crate::model::service::Resources;

/// The most replicas of one app, and of all apps of a file. Each is an asset in the registry; beyond this it is a
/// slip of the finger.
pub(super) const MAX_REPLICAS: i64 = 100_000;
/// The least memory limit that the engine takes (Docker Engine 20.10, `daemon/cluster/convert`).
const MIN_MEMORY: i64 = 4 << 20;

/// Whether replicas count: agents and adapters always have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replicas {
    Count,
    Ignore,
}

/// Reads a checked `deploy`.
pub(super) fn deploy(object: &Object, path: &str, replicas: Replicas, problems: &mut Problems<'_>) -> Deploy {
    let mut deploy = Deploy::default();
    let number = object.int("replicas").unwrap_or(1);
    match replicas {
        Replicas::Ignore => {}
        Replicas::Count if number < 0 => {
            let hint = "write how many shall run, such as `replicas: 2`";
            problems.error_hint(object.at("replicas"), &format!("{path}.replicas"), "must be at least 0", hint);
        }
        Replicas::Count if number > MAX_REPLICAS => {
            problems.error(
                object.at("replicas"),
                &format!("{path}.replicas"),
                format!("must be at most {MAX_REPLICAS}"),
            );
        }
        Replicas::Count => deploy.replicas = u64::try_from(number).unwrap_or(1),
    }
    if let Some(all) = object.object("resources") {
        if let Some(limits) = all.object("limits") {
            let path = format!("{path}.resources.limits");
            deploy.limits = resources(limits, &path, problems);
            deploy.open_files = limits.int("open_files");
            if deploy.limits.memory_bytes.is_some_and(|bytes| bytes < MIN_MEMORY) {
                let at = limits.at("memory");
                problems.warn(
                    at,
                    &format!("{path}.memory"),
                    "the engine takes no limit below 4 MiB",
                    Some("raise it, such as to `64Mi`".into()),
                );
            }
        }
        if let Some(reservations) = all.object("reservations") {
            let path = format!("{path}.resources.reservations");
            deploy.reservations = resources(reservations, &path, problems);
            if reservations.int("open_files").is_some() {
                let at = reservations.at("open_files");
                let hint = "it is a limit: put it below `limits`".to_owned();
                problems.warn(at, &format!("{path}.open_files"), "has no effect", Some(hint));
            }
        }
    }
    if let Some(placement) = object.object("placement") {
        for (index, item) in placement.list("constraints").iter().enumerate() {
            let super::checked::Typed::Text(text) = &item.typed else { continue };
            let mut path = format!("{path}.placement.constraints");
            push_index(&mut path, index);
            deploy.constraints.extend(constraint(text, item.at, &path, problems));
        }
    }
    deploy
}

fn resources(object: &Object, path: &str, problems: &mut Problems<'_>) -> Resources {
    let nano_cpus = object.float("cpus").and_then(|cpus| {
        let nano = nano_cpus(cpus);
        if nano.is_none() {
            let hint = "write a number of CPUs, such as `cpus: 0.5`";
            problems.error_hint(object.at("cpus"), &format!("{path}.cpus"), "must be from 0 to 1000000", hint);
        }
        nano
    });
    let memory_bytes = object.text("memory").filter(|text| !text.is_empty()).and_then(|text| {
        let bytes = memory(text);
        if bytes.is_none() {
            problems.error_hint(
                object.at("memory"),
                &format!("{path}.memory"),
                "is not an amount of memory",
                "write a number and one of `b k kb m mb mi g gb gi`, such as `512Mi`",
            );
        }
        bytes.filter(|bytes| *bytes > 0)
    });
    Resources { nano_cpus, memory_bytes }
}

/// Billionths of a CPU, cut off as Python's `int()` does.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
pub(super) fn nano_cpus(cpus: f64) -> Option<i64> {
    /// Far more than any node has, and far below what 64 bits hold.
    const MAX_CPUS: f64 = 1e6;
    (0.0..=MAX_CPUS).contains(&cpus).then_some((cpus * 1e9) as i64)
}

/// Bytes out of `512Mi`, `0.5 GB`, `1048576`. All units are powers of 1024, as OpenFactory takes them; without a
/// unit there is no fraction.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
pub(super) fn memory(text: &str) -> Option<i64> {
    /// Longer ones first: `kb` ends in `b` too.
    const UNITS: [(&str, f64); 9] = [
        ("kb", 1024.0),
        ("mb", 1_048_576.0),
        ("mi", 1_048_576.0),
        ("gb", 1_073_741_824.0),
        ("gi", 1_073_741_824.0),
        ("b", 1.0),
        ("k", 1024.0),
        ("m", 1_048_576.0),
        ("g", 1_073_741_824.0),
    ];
    const MAX_BYTES: i64 = 1 << 62;
    /// 2^62, exact as a float.
    const MAX: f64 = 4_611_686_018_427_387_904.0;
    let text = python::strip(text).to_lowercase();
    let parts = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    match parts {
        Some((number, factor)) => {
            let bytes = python::float(number)? * factor;
            (0.0..=MAX).contains(&bytes).then_some(bytes as i64)
        }
        None => python::int(&text).filter(|bytes| (0..=MAX_BYTES).contains(bytes)),
    }
}

/// The key, the operator and the value of a constraint; none for what is none.
pub(super) fn normal_constraint(text: &str) -> Option<(&str, &'static str, &str)> {
    let parts = text.split_once("!=").map(|(key, value)| (key, "!=", value));
    let parts = parts.or_else(|| text.split_once("==").map(|(key, value)| (key, "==", value)));
    let parts = parts.or_else(|| text.split_once('=').map(|(key, value)| (key, "==", value)));
    let (key, operator, value) = parts?;
    let (key, value) = (python::strip(key), python::strip(value));
    let is_one = !key.is_empty() && !value.is_empty() && !key.contains('=') && !value.contains('=');
    is_one.then_some((key, operator, value))
}

/// A constraint in normal form: `key == value` or `key != value`.
fn constraint(text: &str, at: Span, path: &str, problems: &mut Problems<'_>) -> Option<String> {
    let Some((key, operator, value)) = normal_constraint(text) else {
        let hint = "write `node.role == worker` or `node.labels.zone != a`";
        problems.error_hint(at, path, "is not a placement constraint", hint);
        return None;
    };
    if !is_known_key(key) {
        let hint = "write `node.labels.NAME == VALUE`, with the label on nodes (`docker node update --label-add`); \
                    others are `node.id`, `node.hostname`, `node.ip`, `node.role`, `node.platform.os`, \
                    `node.platform.arch` and `engine.labels.NAME`";
        problems.warn(at, path, "no node has such a property, so that no node will do", Some(hint.to_owned()));
    }
    Some(format!("{key} {operator} {value}"))
}

/// Whether Swarm knows what a constraint is about; any other one is met by no node (swarmkit, `constraint.NodeMatches`).
fn is_known_key(key: &str) -> bool {
    const KEYS: [&str; 6] =
        ["node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch"];
    const LABELS: [&str; 2] = ["node.labels.", "engine.labels."];
    let key = key.to_ascii_lowercase();
    KEYS.contains(&key.as_str()) || LABELS.iter().any(|prefix| key.len() > prefix.len() && key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_units_are_powers_of_1024_in_any_case() {
        for (text, bytes) in [
            ("1048576000", 1_048_576_000),
            ("100b", 100),
            ("20480K", 20_971_520),
            ("20480 kb", 20_971_520),
            ("64M", 67_108_864),
            ("64mi", 67_108_864),
            ("0.5G", 536_870_912),
            ("1GB", 1_073_741_824),
            (" 512 MI ", 536_870_912),
            (".5k", 512),
            ("1e3K", 1_024_000),
            ("1_000", 1000),
            ("+5M", 5_242_880),
            ("9007199254740993", 9_007_199_254_740_993),
            ("٣m", 3_145_728),
        ] {
            assert_eq!(memory(text), Some(bytes), "{text}");
        }
        for text in [
            "infG",
            "-1M",
            "1T",
            "M",
            "1.2.3M",
            "1e3",
            "0.5",
            "1.5",
            "-1",
            "nan",
            "nanM",
            "1 2M",
            "1KiB",
            "",
            "99999999999999999999G",
            "99999999999999999999",
        ] {
            assert_eq!(memory(text), None, "{text}");
        }
    }

    #[test]
    fn constraints_come_in_one_form_and_inequality_survives() {
        let normal = |text| constraint(text, Span::default(), "", &mut Problems::new("f".into(), ""));
        for text in ["node.role == worker", "node.role=worker", "node.role  =  worker", " node.role==worker "] {
            assert_eq!(normal(text).as_deref(), Some("node.role == worker"), "{text}");
        }
        for text in ["node.labels.x!=y", "node.labels.x != y"] {
            assert_eq!(normal(text).as_deref(), Some("node.labels.x != y"), "{text}");
        }
        let mut problems = Problems::new("f".into(), "");
        for key in ["node.id", "Node.Role", "node.labels.rack", "engine.labels.os"] {
            assert!(is_known_key(key), "{key}");
        }
        assert_eq!(constraint("rack == large", Span::default(), "", &mut problems).as_deref(), Some("rack == large"));
        assert!(problems.errors() == 0 && problems.finish()[0].hint.as_ref().unwrap().contains("node.labels.NAME"));
        for text in ["x", "", "= y", "x ==", "a == b == c", "a = b != c", "a !== b"] {
            assert_eq!(normal(text), None, "{text}");
        }
    }
}
