//! `--dry-run`: what would be applied, without any cluster.

use std::path::Path;

use serde_json::Value;

use crate::setup::{ACTOR, REGISTRY, run};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/kubernetes");

/// All transports that the examples name.
const BROKERS: &str = r#"{"transports": {
    "rabbitmq": {"type": "rabbitmq", "enabled": true, "config": {"host": "rabbitmq"}},
    "sqs": {"type": "sqs", "enabled": true, "config": {"region": "eu-west-1", "accountId": "1"}}}}"#;

fn kinds(output: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(output).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&Value::from("List"), &Value::from("v1"))
    );
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| {
            format!(
                "{}/{}",
                item["kind"].as_str().unwrap(),
                item["metadata"]["name"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn a_manifest_becomes_the_objects_that_would_be_applied() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hello.yaml");
    std::fs::write(&file, ACTOR).unwrap();
    let file = file.to_str().unwrap();
    let variables = [("ASYA_TRANSPORT_CONFIG", REGISTRY)];
    let json = run(&["--dry-run", file, "--output", "json"], &variables);
    assert_eq!(json.code, Some(0), "{}", json.errors);
    assert_eq!(
        kinds(&json.output),
        ["Deployment/hello", "ConfigMap/asya-runtime"]
    );
    for text in [
        "default/hello:",
        "TransportReady=True TransportValidated: queue asya-hello on rabbitmq",
        "WorkloadReady=True WorkloadCreated",
        "hello.yaml:1:1",
    ] {
        assert!(json.errors.contains(text), "{text} in {}", json.errors);
    }
    // The same as YAML, which kubectl takes: the documents are the items.
    let yaml = run(&["-dry-run", file], &variables);
    assert_eq!(yaml.code, Some(0), "{}", yaml.errors);
    assert_eq!(yaml.output.matches("---\n").count(), 2, "{}", yaml.output);
    for text in ["kind: Deployment", "name: asya-sidecar", "kind: ConfigMap"] {
        assert!(yaml.output.contains(text), "{text}");
    }
}

#[test]
fn every_example_can_be_applied() {
    let ended = run(
        &["--dry-run", EXAMPLES, "-o", "json"],
        &[("ASYA_TRANSPORT_CONFIG", BROKERS)],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(!ended.errors.contains("=False"), "{}", ended.errors);
    let kinds = kinds(&ended.output);
    for kind in [
        "Deployment/",
        "StatefulSet/",
        "ScaledObject/",
        "ConfigMap/asya-runtime",
    ] {
        assert!(kinds.iter().any(|it| it.starts_with(kind)), "{kind} in {kinds:?}");
    }
}

#[test]
fn mistakes_are_told_with_file_line_and_key_and_keep_no_other_actor_back() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("a.yaml", &ACTOR.replace("value: hello.handle", "value: 8080"));
    write(
        "b.yaml",
        &ACTOR
            .replace("name: hello", "name: other")
            .replace("transport: rabbitmq", "transport: kafka"),
    );
    write(
        "c.yaml",
        &ACTOR.replace(
            "metadata: {name: hello}",
            "metadata: {name: good, namespace: somewhere}",
        ),
    );
    let path = directory.path().to_str().unwrap();
    let ended = run(
        &["--dry-run", path, "--output=json"],
        &[("ASYA_TRANSPORT_CONFIG", REGISTRY)],
    );
    assert_eq!(ended.code, Some(1), "{}", ended.text());
    for text in [
        "a.yaml:10:",
        "env[0].value",
        "TransportReady=False InvalidTransport",
        "kafka",
        "not found",
    ] {
        assert!(ended.errors.contains(text), "{text} in {}", ended.errors);
    }
    assert_eq!(
        kinds(&ended.output),
        ["Deployment/good", "ConfigMap/asya-runtime"]
    );
    assert!(ended.output.contains("somewhere"));
}

#[test]
fn what_cannot_be_read_is_told() {
    for path in ["/nowhere", "/nowhere.yaml"] {
        assert!(!Path::new(path).exists());
        let ended = run(&["--dry-run", path], &[]);
        assert_eq!(ended.code, Some(1), "{}", ended.text());
        assert!(ended.errors.contains(path), "{}", ended.errors);
    }
    let bad = run(&["--dry-run", EXAMPLES], &[("ASYA_TRANSPORT_CONFIG", "oops")]);
    assert_eq!((bad.code, bad.output.as_str()), (Some(1), ""));
    assert!(
        bad.errors.contains("error: ASYA_TRANSPORT_CONFIG: not JSON"),
        "{}",
        bad.errors
    );
}
