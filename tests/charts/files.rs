//! Files of the charts that belong together, or that other programs read.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::setup::{CHARTS, chart, root};

fn read(chart_name: &str, file: &str) -> String {
    std::fs::read_to_string(PathBuf::from(chart(chart_name)).join(file)).unwrap()
}

#[test]
fn all_charts_share_one_file_of_helpers() {
    let first = read(CHARTS[0], "templates/_common.tpl");
    for name in CHARTS {
        assert!(
            first == read(name, "templates/_common.tpl"),
            "templates/_common.tpl of {name} differs"
        );
    }
}

#[test]
fn the_shipped_transports_are_those_of_the_values() {
    let shipped = read("asya-operator", "files/transports.yaml");
    let (_, shipped) = shipped.split_once('\n').unwrap();
    let values = read("asya-operator", "values.yaml");
    assert!(
        values.contains(&format!("\n{shipped}\n")),
        "files/transports.yaml is not what values.yaml says"
    );
}

#[test]
fn charts_carry_the_version_of_the_programs() {
    let version = env!("CARGO_PKG_VERSION");
    for name in CHARTS {
        let text = read(name, "Chart.yaml");
        assert!(
            text.contains(&format!("\nversion: {version}\n")),
            "{name}: version"
        );
        assert!(
            text.contains(&format!("\nappVersion: \"{version}\"\n")),
            "{name}: appVersion"
        );
    }
}

/// Every metric of a query that begins like one of ours.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| {
            let ours = [
                "asya_",
                "controller_runtime_",
                "workqueue_",
                "rest_client_",
                "leader_election_",
            ];
            ours.iter().any(|prefix| word.starts_with(prefix))
        })
}

/// Every query of the dashboard.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("asya-operator", "files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

/// The queries as recording rules, which promtool can check, with Grafana's variables filled in.
fn recorded(queries: &[String]) -> String {
    let rule = |(index, query): (usize, &String)| {
        let query = query.replace("$__rate_interval", "5m");
        let query = query.replace("$namespace", ".*").replace("$actor", ".*");
        serde_json::json!({"record": format!("query_{index}"), "expr": query})
    };
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()
}

#[test]
fn the_dashboard_is_sound_and_asks_for_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("asya-operator", "files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), panels.len(), "two panels have the same id");
    let queries = dashboard_queries();
    assert!(queries.len() > 15, "{queries:?}");
    let known = known_metrics();
    for name in queries.iter().flat_map(|query| metrics(query)) {
        assert!(
            is_known(&known, name),
            "the dashboard asks for {name}, which no program has"
        );
    }
}

#[test]
fn alerts_ask_for_metrics_that_exist() {
    let known = known_metrics();
    for name in ["asya-operator", "asya-gateway"] {
        let alerts = read(name, "files/alerts.yaml");
        let lines = alerts.lines().filter(|line| {
            let line = line.trim_start();
            !line.starts_with("- name:") && !line.starts_with("description:") && !line.starts_with("summary:")
        });
        let mut seen = 0;
        for metric in lines.flat_map(metrics) {
            assert!(
                is_known(&known, metric),
                "an alert of {name} asks for {metric}, which no program has"
            );
            seen += 1;
        }
        assert!(seen > 4, "{name}: {seen}");
    }
}

/// The pages that list the metrics of each program, made from its code, and the code of the operator.
fn known_metrics() -> String {
    let mut text = String::new();
    for page in ["docs/gateway.md", "docs/sidecar.md"] {
        text.push_str(&std::fs::read_to_string(root().join(page)).unwrap());
    }
    for folder in ["program", "control"] {
        let file = root().join(format!("operator/src/{folder}/metrics.rs"));
        text.push_str(&std::fs::read_to_string(file).unwrap_or_default());
    }
    text
}

fn is_known(known: &str, name: &str) -> bool {
    let name = name.strip_prefix("asya_actor_").unwrap_or(name);
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    [Some(name), base]
        .into_iter()
        .flatten()
        .any(|name| known.contains(&format!("`{name}`")) || known.contains(&format!("\"{name}\"")))
}

#[test]
fn promtool_takes_the_alerts_and_the_queries_of_the_dashboard() {
    let Ok(output) = Command::new("promtool").arg("--version").output() else {
        eprintln!("SKIPPED: promtool is not on PATH (package prometheus)");
        return;
    };
    assert!(output.status.success());
    for name in ["asya-operator", "asya-gateway"] {
        let file = format!("{}/files/alerts.yaml", chart(name));
        let output = Command::new("promtool")
            .args(["check", "rules", &file])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let queries = NamedTempFile::new().unwrap();
    std::fs::write(queries.path(), recorded(&dashboard_queries())).unwrap();
    let output = Command::new("promtool")
        .args(["check", "rules"])
        .arg(queries.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "the dashboard: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tests = root().join("tests/charts/alerts_test.yaml");
    let output = Command::new("promtool")
        .args(["test", "rules"])
        .arg(tests)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
