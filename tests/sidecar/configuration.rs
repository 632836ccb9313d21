//! The environment: bad values, other names, secrets.

use asya_tests::plant::{Plant, Spec};
use asya_tests::rabbitmq::Broker;
use serde_json::Value;

use crate::setup::{address, run, serving, wait_unready};

#[test]
fn all_problems_are_reported_at_once_and_end_it_with_1() {
    let ended = run(
        &[],
        &[
            ("ASYA_TRANSPORT", "sqs"),
            ("ASYA_RABBITMQ_URL", "amqp://me:hush@host:99999/"),
            ("ASYA_MAX_HOPS", "many"),
            ("ASYA_CUSTOM_METRICS", "{"),
            ("ASYA_RABBITMQ_PASSWORD_FILE", "/nowhere/hush"),
            ("ASYA_RUNTIME_TIMEOUT", "soon"),
            ("ASYA_LOG_LEVLE", "DEBUG"),
        ],
    );
    assert_eq!(ended.code, Some(1));
    let problems = ended.lines("ERROR");
    for variable in [
        "ASYA_ACTOR_NAME",
        "ASYA_TRANSPORT",
        "ASYA_RABBITMQ_URL",
        "ASYA_MAX_HOPS",
        "ASYA_CUSTOM_METRICS",
        "ASYA_RABBITMQ_PASSWORD_FILE",
    ] {
        let own = problems
            .iter()
            .filter(|line| line.starts_with(&format!("{variable}: ")));
        assert_eq!(own.count(), 1, "{variable} in {problems:#?}");
    }
    assert_eq!(problems.len(), 6, "{problems:#?}");
    let warnings = ended.lines("WARN");
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(!ended.output.contains("me:hush"), "{}", ended.output);
}

#[test]
fn a_name_with_a_space_is_one_line_and_1() {
    let ended = run(&["--check"], &[("ASYA_ACTOR_NAME", "my actor")]);
    assert_eq!(
        (ended.code, ended.lines("ERROR").len()),
        (Some(1), 1),
        "{}",
        ended.output
    );
    assert!(ended.lines("ERROR")[0].starts_with("ASYA_ACTOR_NAME: "));
}

#[test]
fn a_good_configuration_is_good() {
    let ended = run(&["--check"], &[("ASYA_ACTOR_NAME", "worker")]);
    assert_eq!(
        (ended.code, ended.lines("INFO").len()),
        (Some(0), 1),
        "{}",
        ended.output
    );
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let ended = run(
        &["--print-config"],
        &[
            ("ASYA_ACTOR_NAME", "worker"),
            ("ASYA_RABBITMQ_URL", "amqp://me:hush@host/v"),
            ("ASYA_RABBITMQ_PASSWORD", "hush"),
            ("ASYA_STEP_HAPPY_END", "done"),
        ],
    );
    assert_eq!(ended.code, Some(0));
    let shown: Value = serde_json::from_str(&ended.output).expect("JSON");
    assert_eq!(shown["ASYA_RABBITMQ_URL"], "amqp://host/v");
    assert_eq!(shown["ASYA_ACTOR_HAPPY_END"], "done");
    assert!(!ended.output.contains("hush"));
}

#[test]
fn log_lines_have_the_form_that_is_asked_for() {
    let check = |format| {
        let ended = run(
            &["--check"],
            &[("ASYA_ACTOR_NAME", "worker"), ("ASYA_LOG_FORMAT", format)],
        );
        assert_eq!(ended.code, Some(0), "{}", ended.output);
        ended.output
    };
    assert!(check("text").contains(r#" level=INFO msg="the configuration is good" actor=worker"#));
    assert!(check("pretty").contains(" INFO the configuration is good"));
    assert!(serde_json::from_str::<Value>(&check("json")).is_ok());
}

/// Parts with characters that mean something in a URL, a password from a file, and all of a life at the finest level.
#[test]
fn a_password_is_never_written_anywhere() {
    let broker = Broker::shared();
    let mut plant = Plant::new(broker);
    let password = "h@u/s:h%20";
    broker.manage(
        "PUT",
        "/api/users/strange%20one",
        &serde_json::json!({"password": password, "tags": ""}).to_string(),
    );
    let all = r#"{"configure": ".*", "write": ".*", "read": ".*"}"#;
    broker.manage(
        "PUT",
        &format!("/api/permissions/{}/strange%20one", plant.vhost),
        all,
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let vhost = plant.vhost.clone();
    let spec = serving(Spec::native("one"))
        .sidecar_env("ASYA_RABBITMQ_URL", "")
        .sidecar_env("ASYA_RABBITMQ_HOST", "127.0.0.1")
        .sidecar_env("ASYA_RABBITMQ_PORT", &broker.port.to_string())
        .sidecar_env("ASYA_RABBITMQ_USERNAME", "strange one")
        .sidecar_env("ASYA_RABBITMQ_PASSWORD_FILE", file.to_str().unwrap())
        .sidecar_env("ASYA_RABBITMQ_VHOST", &vhost)
        .sidecar_env("ASYA_LOG_LEVEL", "debug");
    plant.send(1, &["one"]);
    let sidecar = &mut plant.add(&spec).sidecar;
    let at = address(sidecar);
    wait_unready(sidecar, &at, "");
    broker.close_connections(&plant.vhost);
    plant.finish().assert_all_done(1);
    let log = plant.pods[0].sidecar.log();
    assert!(
        log.contains(r#""level":"INFO""#) && !log.contains("h@u") && !log.contains("h%40u"),
        "{log}"
    );
}
