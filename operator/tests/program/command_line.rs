//! What the program says about itself and its configuration, without a cluster.

use serde_json::Value;

use crate::setup::{REGISTRY, run};

#[test]
fn help_lists_every_variable_and_every_option_of_the_original_with_exit_codes() {
    let help = run(&["-help"], &[]);
    assert_eq!(help.code, Some(0), "{}", help.errors);
    let markdown = run(&["--markdown"], &[]).output;
    let names: std::collections::BTreeSet<_> = markdown
        .split('`')
        .filter(|word| word.starts_with("ASYA_") && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(help.output.contains(name), "{name}");
    }
    for text in [
        "--metrics-bind-address",
        "--health-probe-bind-address",
        "--leader-elect",
        "--runtime-namespace",
        "--max-concurrent-reconciles",
        "--kubeconfig",
        "--zap-log-level",
        "--zap-devel",
        "--zap-encoder",
        "--zap-stacktrace-level",
        "--zap-time-encoding",
        "--dry-run",
        "Exit codes",
        "Examples",
        "130, 143",
    ] {
        assert!(help.output.contains(text), "{text}");
    }
    assert!(!help.output.contains('\u{1b}'), "no colour where no terminal is");
}

#[test]
fn check_finds_all_mistakes_at_once_and_shows_no_secret() {
    let registry = r#"{"transports": {"rabbitmq": {"type": "rabbitmq", "enabled": true,
        "config": {"hots": "h", "password": "hush"}}}}"#;
    let variables = [
        ("ASYA_TRANSPORT_CONFIG", registry),
        ("ASYA_SIDECAR_MODE", "init"),
        ("ASYA_MAX_CONCURRENT_RECONCILES", "many"),
        ("ASYA_SIDECAR_IMAEG", "x"),
    ];
    let text = run(&["--check"], &variables);
    assert_eq!(text.code, Some(1), "{}", text.text());
    for line in [
        "error: ASYA_TRANSPORT_CONFIG: transports.rabbitmq.config.hots: unknown key; did you mean host?",
        "error: ASYA_TRANSPORT_CONFIG: transports.rabbitmq.config.password: ",
        "error: ASYA_SIDECAR_MODE: \"init\" cannot be used; expected container or native",
        "warning: ASYA_MAX_CONCURRENT_RECONCILES: \"many\" cannot be used; expected a whole number; using the default, 10",
        "warning: ASYA_SIDECAR_IMAEG: not known and without effect; did you mean ASYA_SIDECAR_IMAGE?",
        "3 mistakes",
    ] {
        assert!(text.output.contains(line), "{line:?} in {}", text.output);
    }
    assert!(!text.text().contains("hush"));
    let json = run(&["--check", "--output", "json"], &variables);
    assert_eq!(json.code, Some(1));
    let report: Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(
        (&report["good"], report["variables"].as_array().unwrap().len()),
        (&Value::from(false), 3)
    );
    // And a start says the same, and ends.
    let start = run(&[], &variables);
    assert_eq!(start.code, Some(1), "{}", start.text());
    assert_eq!(
        start
            .output
            .lines()
            .filter(|line| line.contains("\"level\":\"ERROR\""))
            .count(),
        3,
        "{}",
        start.output
    );
    assert!(!start.text().contains("hush"));
}

#[test]
fn check_of_a_good_configuration_says_so() {
    let good = run(&["--check"], &[("ASYA_TRANSPORT_CONFIG", REGISTRY)]);
    assert_eq!(
        (good.code, good.output.as_str()),
        (
            Some(0),
            "the configuration is good; transports: rabbitmq (rabbitmq)\n"
        ),
        "{}",
        good.errors
    );
}

#[test]
fn the_configuration_is_printed_without_secrets() {
    let shown = run(
        &["--print-config"],
        &[
            (
                "ASYA_TRANSPORT_CONFIG",
                r#"{"transports": {"r": {"password": "hush"}}}"#,
            ),
            ("ASYA_GATEWAY_TOKEN", "hush-hush"),
            ("ASYA_GATEWAY_URL", "http://me:hush@gateway:8080"),
            ("ASYA_MAX_ROLLOUTS", "7"),
        ],
    );
    assert_eq!(shown.code, Some(0), "{}", shown.errors);
    assert!(!shown.text().contains("hush"), "{}", shown.text());
    let shown: Value = serde_json::from_str(&shown.output).unwrap();
    assert_eq!(shown["ASYA_MAX_ROLLOUTS"], "7");
    assert_eq!(shown["ASYA_GATEWAY_TOKEN"], "***");
}

#[test]
fn unknown_options_and_bad_values_of_options_are_told() {
    for arguments in [
        &["--chekc"][..],
        &["serve"],
        &["--leader-elect=perhaps"],
        &["-metrics-bind-address", "8080"],
        &["--dry-run"],
    ] {
        let ended = run(arguments, &[]);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.text());
        assert!(!ended.errors.is_empty());
    }
}

#[test]
fn the_definition_is_the_one_that_is_shipped() {
    let printed = run(&["crd"], &[]);
    assert_eq!(printed.code, Some(0), "{}", printed.errors);
    let shipped = std::fs::read_to_string(crate::setup::DEFINITION).unwrap();
    let without_comments = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#') && *line != "---")
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(without_comments(&printed.output), without_comments(&shipped));
}

#[test]
fn without_a_cluster_it_ends_and_says_what_it_looked_for() {
    let ended = run(
        &["--metrics-bind-address=0", "--health-probe-bind-address=0"],
        &[("HOME", "/nowhere")],
    );
    assert_eq!(ended.code, Some(1), "{}", ended.text());
    for text in [
        "no Kubernetes cluster is known",
        "--kubeconfig",
        "KUBECONFIG",
        "service account",
        "--dry-run",
    ] {
        assert!(ended.output.contains(text), "{text} in {}", ended.output);
    }
    for arguments in [
        &["--kubeconfig", "/nowhere/config"][..],
        &["-kubeconfig=/nowhere/config"],
    ] {
        let arguments = [
            arguments,
            &["--metrics-bind-address=0", "--health-probe-bind-address=0"],
        ]
        .concat();
        let ended = run(&arguments, &[]);
        assert_eq!(ended.code, Some(1), "{}", ended.text());
        assert!(
            ended.output.contains("--kubeconfig: ") && ended.output.contains("/nowhere/config"),
            "{}",
            ended.output
        );
    }
    let ended = run(
        &["--metrics-bind-address=0", "--health-probe-bind-address=0"],
        &[("KUBECONFIG", "/nowhere/config")],
    );
    assert_eq!(ended.code, Some(1), "{}", ended.text());
    assert!(ended.output.contains("KUBECONFIG: "), "{}", ended.output);
}

#[test]
fn an_address_that_is_taken_ends_it_with_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--health-probe-bind-address={}", taken.local_addr().unwrap());
    let ended = run(&["--metrics-bind-address=0", &address], &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.text());
    let errors: Vec<_> = ended
        .output
        .lines()
        .filter(|line| line.contains("ERROR"))
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains("--health-probe-bind-address") && errors[0].contains("choose another"),
        "{errors:?}"
    );
}

#[test]
fn a_manifest_of_the_older_kind_is_converted_to_one_that_can_be_applied() {
    let directory = tempfile::tempdir().unwrap();
    let older = directory.path().join("older.yaml");
    let text = crate::setup::ACTOR
        .replace("kind: AsyncActor", "kind: Asya")
        .replace("  workload:\n", "  workload:\n    type: StatefulSet\n");
    std::fs::write(&older, text).unwrap();
    let converted = run(&["convert", older.to_str().unwrap()], &[]);
    assert_eq!(converted.code, Some(0), "{}", converted.errors);
    assert!(
        converted.output.contains("kind: AsyncActor"),
        "{}",
        converted.output
    );
    let newer = directory.path().join("newer.yaml");
    std::fs::write(&newer, &converted.output).unwrap();
    let applied = run(
        &["--dry-run", newer.to_str().unwrap()],
        &[("ASYA_TRANSPORT_CONFIG", REGISTRY)],
    );
    assert_eq!(applied.code, Some(0), "{}", applied.errors);
    assert!(applied.output.contains("kind: StatefulSet"), "{}", applied.output);

    std::fs::write(&older, "kind: Asya\n  oops: [").unwrap();
    let broken = run(&["convert", older.to_str().unwrap()], &[]);
    assert_eq!((broken.code, broken.output.as_str()), (Some(1), ""));
    assert!(
        broken.errors.contains("older.yaml") && broken.errors.contains(":2:"),
        "{}",
        broken.errors
    );
    let absent = run(&["convert", "/nowhere.yaml"], &[]);
    assert_eq!(absent.code, Some(1));
    assert!(absent.errors.contains("/nowhere.yaml"), "{}", absent.errors);
}
