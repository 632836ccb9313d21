//! `docs/operator.md` says what the program does.

use crate::setup::{Operator, get, prepared, run};

/// The page, read anew: it may change without the tests being built again.
fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operator.md")).unwrap()
}

/// The parts between markers, with the markers.
fn parts(text: &str) -> Vec<&str> {
    let begins: Vec<_> = text.match_indices("<!-- begin ").map(|(at, _)| at).collect();
    let part = |at: usize| {
        let end = text[at..].find("<!-- end ").expect("a marker at the end");
        text[at..at + end].trim_end()
    };
    begins.into_iter().map(part).collect()
}

#[test]
fn the_tables_of_the_page_are_those_of_the_program() {
    let generated = run(&["--markdown"], &[]).output;
    let text = page();
    let (page, program) = (parts(&text), parts(&generated));
    assert_eq!(page.len(), program.len());
    for (page, program) in page.into_iter().zip(program) {
        assert_eq!(
            page, program,
            "run `asya-operator --markdown` and put this part into docs/operator.md"
        );
    }
}

#[test]
fn the_page_lists_every_metric_that_is_there() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let operator = Operator::start(cluster, &namespace, &["--leader-elect"]);
    operator.works();
    cluster.kubectl_with(
        &["apply", "--namespace", &namespace, "--filename", "-"],
        crate::setup::ACTOR,
    );
    operator.wait("the actor's status to be measured", || {
        operator
            .metrics()
            .contains("actor=\"hello\",status=")
            .then_some(())
    });
    let text = operator.metrics();
    let metrics: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    for name in [
        "controller_runtime_reconcile_total",
        "controller_runtime_reconcile_errors_total",
        "controller_runtime_reconcile_time_seconds",
        "controller_runtime_max_concurrent_reconciles",
        "controller_runtime_active_workers",
        "workqueue_depth",
        "workqueue_adds_total",
        "workqueue_queue_duration_seconds",
        "workqueue_work_duration_seconds",
        "workqueue_retries_total",
        "rest_client_requests_total",
        "leader_election_master_status",
        "asya_operator_actor_status",
        "asya_operator_queue_messages",
        "asya_operator_queue_recreations_total",
    ] {
        assert!(
            metrics.iter().any(|(other, _)| *other == name),
            "{name} in {text}"
        );
    }
    let page = page();
    for (name, kind) in metrics {
        assert!(
            page.contains(&format!("| `{name}` | {kind} |")),
            "{name} {kind} in docs/operator.md"
        );
    }
    for (name, bound) in [
        ("controller_runtime_reconcile_time_seconds", "0.35"),
        ("workqueue_work_duration_seconds", "1000"),
    ] {
        let bucket = format!("le=\"{bound}\"");
        let has = text
            .lines()
            .any(|line| line.starts_with(&format!("{name}_bucket{{")) && line.contains(&bucket));
        assert!(has, "{name} has the buckets of the original: {text}");
    }
    assert_eq!(
        get(&operator.field("listening", "metrics"), "/healthz").0,
        404,
        "nothing but metrics"
    );
}
