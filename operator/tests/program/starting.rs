//! How it starts against a real API server, what it serves, and how it ends.

use asya_tests::Signal;
use asya_tests::kube::{Cluster, Tools};

use crate::setup::{ACTOR, Operator, define, get, prepared, records, series};

#[test]
fn it_works_without_a_lease_serves_health_and_metrics_and_ends_well_when_asked() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    for signal in [Signal::TERM, Signal::INT] {
        let operator = Operator::start(cluster, &namespace, &[]);
        operator.works();
        assert_eq!(operator.health("/healthz"), (200, "ok".into()));
        assert_eq!(operator.health("/readyz"), (200, "ok".into()));
        assert_eq!(operator.health("/livez"), (200, "ok: working\n".into()));
        assert_eq!(operator.health("/metrics").0, 404, "metrics stand elsewhere");
        let metrics = operator.metrics();
        let listed = series(
            &metrics,
            "rest_client_requests_total",
            &["code=\"200\"", "method=\"GET\"", "host=\"127.0.0.1:"],
        );
        assert!(listed.is_some_and(|count| count >= 1.0), "{metrics}");
        operator.wait("the controller", || {
            let labels = ["controller=\"asyncactor\""];
            let most = series(
                &operator.metrics(),
                "controller_runtime_max_concurrent_reconciles",
                &labels,
            );
            (most == Some(10.0)).then_some(())
        });
        operator.signal(signal);
        assert_eq!(operator.ended(), 0, "{}", operator.log());
        let log = operator.log();
        assert_eq!(records(&log).last().unwrap()["msg"], "ended", "{log}");
        assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    }
    let leases = cluster.kubectl(&["get", "leases", "--namespace", &namespace, "--output=name"]);
    assert_eq!(leases, "", "no lease without --leader-elect");
}

#[test]
fn every_log_line_is_json() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let operator = Operator::start(cluster, &namespace, &["--zap-log-level=debug"]);
    operator.works();
    operator.signal(Signal::TERM);
    operator.ended();
    let log = operator.log();
    assert_eq!(records(&log).count(), log.lines().count(), "{log}");
    for line in records(&log) {
        assert!(
            line["time"].is_string() && line["level"].is_string() && line["msg"].is_string(),
            "{line}"
        );
    }
    let console = Operator::start(cluster, &namespace, &["-zap-encoder=console"]);
    console.says("working");
    assert_eq!(
        records(&console.log()).count(),
        0,
        "console on request: {}",
        console.log()
    );
}

#[test]
fn it_applies_an_actor() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let operator = Operator::start(cluster, &namespace, &["--leader-elect"]);
    operator.works();
    cluster.kubectl_with(&["apply", "--namespace", &namespace, "--filename", "-"], ACTOR);
    operator.wait("the workload", || {
        let found = cluster.try_kubectl(&["get", "deployment", "hello", "--namespace", &namespace], "");
        found.status.success().then_some(())
    });
    operator.wait("a pass to be counted", || {
        let counted = |result| {
            series(
                &operator.metrics(),
                "controller_runtime_reconcile_total",
                &["controller=\"asyncactor\"", result],
            )
        };
        let all: f64 = ["success", "error", "requeue\"", "requeue_after"]
            .into_iter()
            .filter_map(counted)
            .sum();
        (all >= 1.0).then_some(())
    });
}

#[test]
fn a_missing_definition_is_told_waited_for_without_haste_and_found() {
    for tool in ["etcd", "kube-apiserver", "kubectl"] {
        if Tools::get().need(tool).is_none() {
            return;
        }
    }
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let operator = Operator::start(&cluster, &namespace, &["--leader-elect"]);
    operator.says("asyncactors.asya.sh is missing");
    operator.says("asya.sh_asyncactors.yaml");
    assert_eq!(operator.health("/readyz").0, 200);
    assert_eq!(
        operator.health("/livez").1,
        "ok: waiting for the custom resource definition\n"
    );
    // No hot loop: each attempt is one request and one line, and the pauses grow.
    operator.wait("some attempts", || {
        (operator.log().matches("is missing").count() >= 3).then_some(())
    });
    let attempts = operator.log().matches("is missing").count();
    let asked = series(
        &operator.metrics(),
        "rest_client_requests_total",
        &["code=\"404\""],
    )
    .unwrap();
    assert!(
        asked <= f64::from(u32::try_from(attempts).unwrap() + 1),
        "{asked} requests in {attempts} attempts"
    );
    assert!(attempts < 20, "{}", operator.log());
    define(&cluster);
    operator.works();
    operator.signal(Signal::TERM);
    assert_eq!(operator.ended(), 0, "{}", operator.log());
}

#[test]
fn an_api_server_that_is_away_is_waited_for_and_a_signal_ends_the_waiting() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{nobody}', insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: c, user: {{token: hush-hush}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let flags = [
        "--metrics-bind-address=0",
        "--health-probe-bind-address=127.0.0.1:0",
        "-kubeconfig",
    ];
    let operator = Operator::spawn(&[&flags[..], &[path.to_str().unwrap()]].concat(), &[]);
    operator.says("the API server cannot be asked, waiting for it");
    assert_eq!(operator.health("/livez").1, "ok: waiting for the API server\n");
    operator.signal(Signal::TERM);
    assert_eq!(operator.ended(), 0, "{}", operator.log());
    assert!(!operator.log().contains("hush"), "{}", operator.log());
}

#[test]
fn a_stranger_is_not_let_in_and_it_ends() {
    let Some(cluster) = prepared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, cluster.kubeconfig_for("no-such-token", cluster.port)).unwrap();
    let operator = Operator::start_with(cluster, "default", &[], &[("KUBECONFIG", path.to_str().unwrap())]);
    assert_eq!(operator.ended(), 1, "{}", operator.log());
    let log = operator.log();
    assert!(
        log.contains("does not know who asks") && !log.contains("no-such-token"),
        "{log}"
    );
}

#[test]
fn it_works_without_the_gateway_that_it_is_told_of_and_goes_on_asking_for_it() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{nobody}");
    let variables = [
        ("ASYA_GATEWAY_URL", url.as_str()),
        ("ASYA_GATEWAY_TOKEN", "hush-hush"),
    ];
    let operator = Operator::start_with(cluster, &namespace, &[], &variables);
    operator.works();
    operator.wait("a second attempt", || {
        let breaks = series(&operator.metrics(), "asya_operator_gateway_breaks_total", &[]);
        breaks.filter(|breaks| *breaks >= 2.0)
    });
    cluster.kubectl_with(&["apply", "--namespace", &namespace, "--filename", "-"], ACTOR);
    operator.wait("the workload", || {
        let found = cluster.try_kubectl(&["get", "deployment", "hello", "--namespace", &namespace], "");
        found.status.success().then_some(())
    });
    operator.signal(Signal::TERM);
    assert_eq!(operator.ended(), 0, "{}", operator.log());
    assert!(!operator.log().contains("hush"), "{}", operator.log());
}

#[test]
fn each_metric_is_described_once_however_often_it_is_asked_for() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let operator = Operator::start(cluster, &namespace, &[]);
    operator.works();
    let address = operator.field("listening", "metrics");
    for _ in 0..3 {
        let (status, text) = get(&address, "/metrics");
        assert_eq!(status, 200);
        // Prometheus takes nothing of an answer that describes a name twice.
        let mut names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{text}");
    }
}
