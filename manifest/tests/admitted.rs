//! Manifests that must be admitted, and what is read from them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, helpers included"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use asya_manifest::{Directory, EnvValue, RuntimeKind, WorkloadKind};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/good")
}

fn load() -> Directory {
    Directory::load(&fixtures()).unwrap_or_else(|problems| panic!("admitted, but:\n{problems}"))
}

fn literals(environment: Vec<(String, EnvValue)>) -> Vec<(String, Option<String>)> {
    environment
        .into_iter()
        .map(|(name, value)| (name, value.literal().map(str::to_owned)))
        .collect()
}

#[test]
fn every_example_is_admitted_in_file_order() {
    let directory = load();
    let names: Vec<&str> = directory.actors.iter().map(|actor| actor.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "conda-ml-actor",
            "custom-sidecar-actor",
            "fully-configured-actor",
            "hello-actor",
            "fixed-replicas-actor",
            "older-actor",
            "preprocess",
            "inference",
            "postprocess",
            "happy-end",
            "llm-actor",
            "cached-actor",
            "advanced-scaling-actor",
        ]
    );
    assert_eq!(directory.path, fixtures());
}

#[test]
fn what_is_passed_over_is_noticed() {
    let directory = load();
    let base = format!("{}/", fixtures().display());
    let notices: Vec<String> = directory
        .notices
        .iter()
        .map(|notice| notice.to_string().replace(&base, ""))
        .collect();
    assert_eq!(
        notices,
        [
            "asya.yaml:23:3: tool \"elsewhere\": no actor here is named other-cluster",
            "older.yaml:7:3: spec.socket: this field has no effect and never had\n    hint: remove it",
            "older.yaml:11:7: spec.scaling.advanced.triggers: this field has no effect and never had\n    hint: remove it",
            "pipeline.yml:52:3: items[4]: \"ConfigMap\" is not an AsyncActor; passed over",
            "values.yaml:1:1: a document without `kind` is not an AsyncActor; passed over",
        ]
    );
}

#[test]
fn defaults_hold_where_nothing_is_written() {
    let directory = load();
    let hello = directory.actor("hello-actor").unwrap();
    assert_eq!(hello.processing_timeout(), Duration::from_mins(5));
    assert_eq!(hello.python_executable(), "python3");
    assert_eq!(
        (hello.spec.workload.replicas, hello.spec.scaling.max_replicas),
        (1, 50)
    );
    assert_eq!(hello.spec.timeout.graceful_shutdown, None);
    assert_eq!(
        hello.sidecar_variables(),
        [("ASYA_RUNTIME_TIMEOUT", "300s".to_owned())]
    );
    assert_eq!(hello.runtime_variables(), []);
    assert_eq!(hello.namespace, None);
    assert!(!hello.is_end_actor());
    let position = hello.source.position.unwrap();
    assert_eq!((position.line, position.column), (1, 1));
}

#[test]
fn fields_become_variables() {
    let directory = load();
    let actor = directory.actor("fully-configured-actor").unwrap();
    let expected = [
        ("ASYA_RUNTIME_TIMEOUT", "300s"),
        ("ASYA_RETRY_MAX_ATTEMPTS", "4"),
        ("ASYA_RETRY_INITIAL_BACKOFF", "500ms"),
        ("ASYA_RETRY_MAX_BACKOFF", "60s"),
        ("ASYA_RETRY_MULTIPLIER", "3"),
        ("ASYA_RETRY_JITTER", "0.25"),
        ("ASYA_RETRY_MAX_DURATION", "3600s"),
        ("ASYA_RETRY_ON", "ConnectionError,TimeoutError"),
        ("ASYA_RETRY_NEVER_ON", "ValueError"),
        ("ASYA_MAX_DELIVERIES", "5"),
        ("ASYA_MAX_MESSAGE_SIZE", "16777216"),
        ("ASYA_MAX_HOPS", "50"),
    ];
    assert_eq!(
        actor.sidecar_variables(),
        expected.map(|(name, value)| (name, value.to_owned()))
    );
    let expected = [
        ("ASYA_WORKERS", "2"),
        ("ASYA_CONCURRENCY", "8"),
        ("ASYA_BATCH_SIZE", "16"),
        ("ASYA_BATCH_WAIT", "50ms"),
        ("ASYA_STREAM", "false"),
        ("ASYA_MAX_MESSAGE_SIZE", "16777216"),
    ];
    assert_eq!(
        actor.runtime_variables(),
        expected.map(|(name, value)| (name, value.to_owned()))
    );
}

#[test]
fn the_containers_environment_is_read_as_in_a_pod() {
    let directory = load();
    let actor = directory.actor("fully-configured-actor").unwrap();
    let environment = actor.runtime_env();
    let (name, password) = environment.last().unwrap();
    assert_eq!(name, "DB_PASSWORD");
    let EnvValue::FromCluster { reference, location } = password else {
        panic!("{password:?}")
    };
    assert_eq!(reference, "secretKeyRef db/password");
    assert_eq!(location.position.map(|position| position.line), Some(104));
    let expected = [
        ("ASYA_HANDLER", Some("worker.Worker.run")),
        ("ASYA_HANDLER_MODE", Some("Envelope")),
        ("ASYA_LOG_LEVEL", Some("DEBUG")),
        ("ASYA_ENABLE_VALIDATION", Some("false")),
        ("HOST", Some("db")),
        ("URL", Some("http://db:5432")),
        ("EMPTY", Some("")),
        ("DB_PASSWORD", None),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
    assert_eq!(literals(environment), expected);
    assert_eq!(actor.runtime_container().unwrap()["args"][0], "--verbose");
}

#[test]
fn the_last_of_two_variables_wins() {
    let directory = load();
    let actor = directory.actor("custom-sidecar-actor").unwrap();
    let expected = [
        ("ASYA_LOG_LEVEL".to_owned(), Some("warn".to_owned())),
        ("TOKEN".to_owned(), None),
    ];
    assert_eq!(literals(actor.sidecar_env()), expected);
    assert_eq!(actor.sidecar_variables()[0].1, "600s");
    assert_eq!(actor.spec.timeout.graceful_shutdown, Some(60));
}

#[test]
fn a_variable_can_be_pointed_at() {
    let directory = load();
    let actor = directory.actor("inference").unwrap();
    let key = actor.runtime_env_key("ASYA_HANDLER").unwrap();
    assert_eq!(
        key,
        "items[1].spec.workload.template.spec.containers[0].env[0].value"
    );
    let expected = format!("{}:27:47", fixtures().join("pipeline.yml").display());
    assert_eq!(actor.location(&key).to_string(), expected);
    assert_eq!(
        actor.runtime_variable("ASYA_HANDLER").as_deref(),
        Some("stages.inference")
    );
    assert_eq!(actor.runtime_env_key("NOT_THERE"), None);
    assert_eq!(
        actor.runtime_setting_key("ASYA_HANDLER"),
        actor.runtime_env_key("ASYA_HANDLER")
    );
    let actor = directory.actor("fully-configured-actor").unwrap();
    let size = actor.runtime_setting_key("ASYA_BATCH_SIZE");
    assert_eq!(size.as_deref(), Some("spec.runtime.batch.size"));
    assert_eq!(actor.location(&size.unwrap()).position.unwrap().line, 74);
    assert_eq!(actor.runtime_setting_key("ASYA_CHUNK_SIZE"), None);
}

#[test]
fn older_spellings_and_shared_parts_are_understood() {
    let directory = load();
    let kind = |name: &str| directory.actor(name).unwrap().spec.workload.effective_kind();
    assert_eq!(kind("preprocess"), WorkloadKind::Job);
    assert_eq!(kind("advanced-scaling-actor"), WorkloadKind::StatefulSet);
    assert_eq!(kind("hello-actor"), WorkloadKind::Deployment);
    assert!(
        directory.actor("llm-actor").unwrap().spec.scaling.enabled,
        "`yes` is a boolean there"
    );
    let cached = &directory.actor("cached-actor").unwrap().spec.scaling;
    assert_eq!(
        (cached.enabled, cached.queue_length),
        (true, 2),
        "own keys win over merged ones"
    );
    let end = directory.actor("happy-end").unwrap();
    assert!(end.is_end_actor());
    assert_eq!(end.spec.workload.runtime, RuntimeKind::Native);
    let older = directory.actor("older-actor").unwrap();
    assert_eq!(older.runtime_variable("ASYA_HANDLER"), None);
}

#[test]
fn a_spec_survives_a_round_trip() {
    for actor in load().actors {
        let json = serde_json::to_value(&actor.spec).unwrap();
        assert_eq!(
            serde_json::from_value::<asya_manifest::Spec>(json).unwrap(),
            actor.spec,
            "{}",
            actor.name
        );
    }
}

#[test]
fn one_file_is_read_by_itself() {
    let file = fixtures().join("pods.yaml");
    let inspection = Directory::inspect_file(&file);
    assert!(inspection.problems.is_empty(), "{}", inspection.problems);
    let directory = inspection.directory;
    assert_eq!(directory.path, file);
    assert_eq!(directory.tools, None);
    let actor = directory.actor("advanced-scaling-actor").unwrap();
    assert_eq!(
        actor.labels,
        [("app".to_owned(), "advanced-scaling-actor".to_owned())].into()
    );
    assert!(actor.annotations.is_empty());

    let tools = fixtures().join("asya.yaml");
    let problems = Directory::inspect_file(&tools).problems.to_string();
    assert!(
        problems.contains("no AsyncActor found in this file"),
        "{problems}"
    );
}
