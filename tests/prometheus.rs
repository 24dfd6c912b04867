//! What Prometheus makes of us: the shipped alerts, the metrics text, and an alert that the real server raises
//! and takes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test whose tools are missing fails")]

#[cfg(test)]
#[path = "support/factory.rs"]
mod factory;
#[cfg(test)]
#[path = "support/prometheus.rs"]
mod prometheus;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use factory::{Factory, app, instance};
use ofop::model::Request as Word;
use ofop::report::Report;
use prometheus::{AlertState, Prometheus};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(deploy("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs; `apt-get install prometheus` brings it");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}:\n{told}");
}

#[test]
fn the_shipped_rules_and_scrape_configuration_are_valid() {
    promtool(&["check", "rules", "ofop.rules.yml"], "");
    promtool(&["check", "config", "prometheus.yml"], "");
}

#[test]
fn every_shipped_alert_fires_when_it_should_and_only_then() {
    promtool(&["test", "rules", "ofop.rules.test.yml"], "");
    let rules = std::fs::read_to_string(deploy("prometheus/ofop.rules.yml")).unwrap();
    let tests = std::fs::read_to_string(deploy("prometheus/ofop.rules.test.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n")), "{alert} is never seen to fire");
    }
}

#[test]
fn the_metrics_text_satisfies_promtool() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("odd \"uuid\\").with_app("PRESS-7");
    factory.drift(&app("odd \"uuid\\"));
    factory.tell(&report, Duration::from_secs(1));
    promtool(&["check", "metrics"], &report.metrics());
}

#[test]
fn every_shipped_alert_links_to_a_section_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(deploy("prometheus/ofop.rules.yml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let links: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    assert_eq!(alerts.len(), links.len());
    for (alert, link) in alerts.iter().zip(links) {
        let (page, section) = link.split_once('#').unwrap();
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let heading = text.lines().filter_map(|line| line.strip_prefix("### ")).find(|heading| heading == alert);
        assert_eq!(heading.map(str::to_lowercase).as_deref(), Some(section), "{alert}");
    }
}

/// The metrics that a text names, histograms' series by their family.
fn names(text: &str) -> BTreeSet<&str> {
    text.match_indices("ofop_")
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        .map(|(at, _)| text[at..].split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap())
        .map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|tail| name.strip_suffix(tail)).unwrap_or(name))
        .collect()
}

#[test]
fn alerts_dashboard_and_documentation_speak_of_metrics_that_exist() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, Duration::from_secs(1));
    report.notify_sinks(&["chat".to_owned()]);
    let text = report.metrics();
    let exist = names(&text);
    let documented = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics-and-alerts.md");
    for path in [
        deploy("prometheus/ofop.rules.yml"),
        deploy("prometheus/ofop.rules.test.yml"),
        deploy("grafana/openfactory-operator.json"),
        documented.clone(),
    ] {
        let text = std::fs::read_to_string(&path).unwrap();
        let missing: Vec<_> = names(&text).difference(&exist).map(ToString::to_string).collect();
        assert!(missing.is_empty(), "{} speaks of {missing:?}", path.display());
    }
    let documented = std::fs::read_to_string(documented).unwrap();
    let silent: Vec<_> = exist.difference(&names(&documented)).map(ToString::to_string).collect();
    assert!(silent.is_empty(), "no word about {silent:?}");
}

#[tokio::test]
async fn prometheus_raises_the_drift_alert_and_takes_it_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let report = Report::new(instance());
    let (words, _heard) = mpsc::channel::<Word>(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving =
        tokio::spawn(ofop::http::serve(listener, report.clone(), words, ofop::http::Tokens::default(), async {
            let _ = stopped.await;
        }));
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&report, Duration::from_secs(1));

    let prometheus = Prometheus::start(target, &deploy("prometheus/ofop.rules.yml")).await;
    prometheus.sees_target_up().await;
    assert_eq!(prometheus.alert("OfopDriftPersists").await, AlertState::Inactive);
    factory.drift(&app("PRESS-7"));
    factory.tell(&report, Duration::from_secs(1));
    prometheus.waits_for("OfopDriftPersists", AlertState::Pending).await;
    factory.heal(&app("PRESS-7"));
    factory.tell(&report, Duration::from_secs(1));
    prometheus.waits_for("OfopDriftPersists", AlertState::Inactive).await;

    prometheus.stop().await;
    let _ = stop.send(());
    serving.await.unwrap().unwrap();
}
