use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::desired::{Script, SidecarMode};

const REGISTRY: &str =
    r#"{"transports": {"r": {"type": "rabbitmq", "enabled": true, "config": {"host": "h"}}}}"#;

fn told_with(variables: &[(&str, &str)], flags: &Flags) -> Reading<Prepared> {
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let read_file = |path: &Path| match path.to_str() {
        Some("/script.py") => Ok("print(1)\n".to_owned()),
        Some("/empty") => Ok("\n".to_owned()),
        Some("/token") => Ok("hush-hush\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    read(
        &Environment {
            variables,
            read_file: &read_file,
        },
        flags,
    )
}

fn told(variables: &[(&str, &str)]) -> Reading<Prepared> {
    told_with(variables, &Flags::default())
}

fn good(variables: &[(&str, &str)]) -> Prepared {
    let told = told(variables);
    assert_eq!(told.warnings, [], "{variables:?}");
    told.settings
        .unwrap_or_else(|problems| panic!("{variables:?}: {problems:?}"))
}

/// The settings, and one warning that holds each of these texts.
fn warned(variables: &[(&str, &str)], texts: &[&str]) -> Prepared {
    let told = told(variables);
    assert_eq!(told.warnings.len(), texts.len(), "{:?}", told.warnings);
    for (warning, text) in told.warnings.iter().zip(texts) {
        assert!(warning.to_string().contains(text), "{text} in {warning}");
    }
    told.settings
        .unwrap_or_else(|problems| panic!("{variables:?}: {problems:?}"))
}

fn problems(variables: &[(&str, &str)]) -> Vec<String> {
    told(variables)
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn without_variables_it_starts_with_an_empty_registry_and_the_contract_s_defaults() {
    let prepared = good(&[]);
    assert_eq!(*prepared.registry, Registry::default());
    assert_eq!(prepared.namespaces, Vec::<String>::new());
    assert_eq!(
        (
            prepared.runtime_namespace.as_str(),
            prepared.concurrency,
            prepared.rollouts
        ),
        ("asya", 10, 5)
    );
    assert_eq!(
        (prepared.queue_check_interval, prepared.status_refresh),
        (None, Duration::from_mins(1))
    );
    assert!(prepared.cluster.is_none() && prepared.gateway.is_none() && prepared.gateway_token.is_none());
    let expected = Defaults {
        sidecar_image: "asya-sidecar:latest".into(),
        sidecar_resources: None,
        sidecar_security: pod::hardened(),
        sidecar_mode: SidecarMode::Container,
        gateway_url: String::new(),
        script: Script::embedded(),
        disruption_budgets: true,
        manages_queues: true,
    };
    assert_eq!(*prepared.defaults, expected);
}

#[test]
fn every_variable_is_read() {
    let prepared = good(&[
        ("ASYA_TRANSPORT_CONFIG", REGISTRY),
        ("ASYA_DISABLE_QUEUE_MANAGEMENT", "true"),
        ("ASYA_QUEUE_HEALTH_CHECK_INTERVAL", "30s"),
        ("ASYA_SIDECAR_IMAGE", "registry/sidecar@sha256:0"),
        ("ASYA_SIDECAR_RESOURCES", r#"{"requests": {"cpu": "50m"}}"#),
        ("ASYA_SIDECAR_MODE", "native"),
        ("ASYA_RUNTIME_SCRIPT_PATH", "/script.py"),
        ("ASYA_DISRUPTION_BUDGETS", "false"),
        ("ASYA_WATCH_NAMESPACES", "a,b"),
        ("ASYA_CLUSTER_NAME", "eu-1"),
        ("ASYA_RUNTIME_NAMESPACE", "run"),
        ("POD_NAMESPACE", "here"),
        ("ASYA_MAX_CONCURRENT_RECONCILES", "3"),
        ("ASYA_MAX_ROLLOUTS", "1"),
        ("ASYA_STATUS_REFRESH", "10s"),
        ("ASYA_GATEWAY_URL", "http://gateway:8080"),
        ("ASYA_GATEWAY_TOKEN", "hush-hush"),
    ]);
    assert!(prepared.registry.find("r").is_ok());
    assert_eq!(prepared.queue_check_interval, Some(Duration::from_secs(30)));
    assert_eq!(prepared.namespaces, ["a", "b"]);
    assert_eq!(
        (prepared.cluster.as_deref(), prepared.lease_namespace.as_deref()),
        (Some("eu-1"), Some("here"))
    );
    assert_eq!(
        (
            prepared.runtime_namespace.as_str(),
            prepared.concurrency,
            prepared.rollouts
        ),
        ("run", 3, 1)
    );
    assert_eq!(prepared.status_refresh, Duration::from_secs(10));
    assert!(!format!("{prepared:?}").contains("hush"), "secrets do not show");
    assert!(prepared.gateway.is_some() && prepared.gateway_token.is_some());
    let expected = Defaults {
        sidecar_image: "registry/sidecar@sha256:0".into(),
        sidecar_resources: Some(serde_json::json!({"requests": {"cpu": "50m"}})),
        sidecar_security: pod::hardened(),
        sidecar_mode: SidecarMode::Native,
        gateway_url: "http://gateway:8080".into(),
        script: Script::new("print(1)\n".into()),
        disruption_budgets: false,
        manages_queues: false,
    };
    assert_eq!(*prepared.defaults, expected);
}

#[test]
fn empty_is_unset() {
    let names: Vec<_> = v::TABLE
        .variables
        .iter()
        .map(|variable| (variable.name, ""))
        .collect();
    assert_eq!(good(&names).concurrency, 10);
}

#[test]
fn flags_win_over_variables() {
    let variables = [
        ("ASYA_RUNTIME_NAMESPACE", "a"),
        ("ASYA_MAX_CONCURRENT_RECONCILES", "3"),
        ("ASYA_LOG_LEVEL", "ERROR"),
    ];
    let flags = Flags {
        runtime_namespace: Some("b".into()),
        max_concurrent_reconciles: Some(-5),
        zap_devel: Some(true),
        ..Flags::default()
    };
    let told = told_with(&variables, &flags);
    assert_eq!(
        told.log,
        LogSettings {
            level: Level::Debug,
            format: Some(Format::Pretty)
        }
    );
    let prepared = told.settings.unwrap();
    assert_eq!(
        (prepared.runtime_namespace.as_str(), prepared.concurrency),
        ("b", 1),
        "below 1 means 1"
    );
    let bad = Flags {
        runtime_namespace: Some("B".into()),
        ..Flags::default()
    };
    assert!(
        told_with(&[], &bad).problems()[0]
            .to_string()
            .contains("--runtime-namespace")
    );
}

#[test]
fn bad_values_of_the_contract_s_variables_are_warnings_and_its_defaults_hold() {
    assert_eq!(
        warned(&[("ASYA_MAX_CONCURRENT_RECONCILES", "many")], &["10"]).concurrency,
        10
    );
    assert_eq!(good(&[("ASYA_MAX_CONCURRENT_RECONCILES", "0")]).concurrency, 1);
    let interval = warned(&[("ASYA_QUEUE_HEALTH_CHECK_INTERVAL", "soon")], &["5m"]).queue_check_interval;
    assert_eq!(interval, Some(Duration::from_mins(5)));
    assert_eq!(
        warned(&[("ASYA_RUNTIME_NAMESPACE", "A b")], &["asya"]).runtime_namespace,
        "asya"
    );
    for value in ["True", "1", "yes"] {
        let prepared = warned(&[("ASYA_DISABLE_QUEUE_MANAGEMENT", value)], &["only true"]);
        assert!(
            prepared.defaults.manages_queues,
            "exactly `true` disables it, not {value}"
        );
    }
    assert_eq!(
        warned(&[("ASYA_GATEWAY_URL", "gateway")], &["ASYA_GATEWAY_URL"])
            .defaults
            .gateway_url,
        ""
    );
}

#[test]
fn the_script_is_the_named_one_else_the_local_one_else_that_of_this_build() {
    let script = |prepared: Prepared| prepared.defaults.script.clone();
    let (named, local) = ("ASYA_RUNTIME_SCRIPT_PATH", "ASYA_RUNTIME_LOCAL_PATH");
    let other = Script::new("print(1)\n".into());
    assert_eq!(other.hash.len(), 16);
    assert_ne!(other.hash, Script::embedded().hash);
    assert_eq!(script(good(&[(local, "/script.py")])), other);
    assert_eq!(script(good(&[(named, "/script.py"), (local, "/nowhere")])), other);
    // What older charts set, and nothing of the original reads.
    assert_eq!(
        script(warned(
            &[(local, "/nowhere")],
            &["using the script of this build"]
        )),
        Script::embedded()
    );
    let older = [(named, "/runtime/asya_runtime.py")];
    assert_eq!(
        script(warned(&older, &["using the script of this build"])),
        Script::embedded()
    );
    let github = [
        ("ASYA_RUNTIME_SOURCE", "github"),
        ("ASYA_RUNTIME_GITHUB_RELEASE", "v1"),
    ];
    assert_eq!(
        script(warned(&github, &["nothing is fetched", "without effect"])),
        Script::embedded()
    );
    // A script that somebody chose is not replaced without a word.
    for path in ["/nowhere", "/empty"] {
        let found = problems(&[(named, path)]);
        assert!(found.len() == 1 && found[0].contains(path), "{found:?}");
    }
}

#[test]
fn all_problems_are_found_at_once_and_none_shows_a_secret() {
    let variables = [
        (
            "ASYA_TRANSPORT_CONFIG",
            r#"{"transports": {"r": {"type": "x", "enabled": true, "config": {"password": "hush"}, "z": 1}}}"#,
        ),
        ("ASYA_SIDECAR_RESOURCES", "cpu: 1"),
        ("ASYA_SIDECAR_MODE", "init"),
        ("ASYA_RABBITMQ_CA_FILE", "/nowhere"),
        ("ASYA_RUNTIME_SCRIPT_PATH", "/nowhere"),
        ("ASYA_DISRUPTION_BUDGETS", "perhaps"),
        ("ASYA_WATCH_NAMESPACES", "a,B"),
        ("ASYA_CLUSTER_NAME", "a b"),
        ("POD_NAMESPACE", "A"),
        ("ASYA_MAX_ROLLOUTS", "0"),
        ("ASYA_STATUS_REFRESH", "0"),
        ("ASYA_GATEWAY_TOKEN", "hush\nhush"),
        ("ASYA_GATEWAY_TOKEN_FILE", "/empty"),
        ("ASYA_LOG_FORMAT", "xml"),
    ];
    let found = problems(&variables);
    for (name, _) in variables {
        assert!(
            found
                .iter()
                .any(|problem| problem.starts_with(&format!("{name}: "))),
            "{name} in {found:#?}"
        );
    }
    assert!(
        found
            .iter()
            .any(|problem| problem.contains("transports.r.z: unknown key")),
        "{found:#?}"
    );
    assert!(!found.concat().contains("hush"), "{found:#?}");
    assert!(!told(&variables).shown().contains("hush"));
}

#[test]
fn a_token_may_stand_in_a_file() {
    assert!(
        good(&[("ASYA_GATEWAY_TOKEN_FILE", "/token")])
            .gateway_token
            .is_some()
    );
}

#[test]
fn a_variable_that_is_nearly_ours_is_a_warning() {
    warned(
        &[("ASYA_SIDECAR_IMAEG", "x")],
        &["did you mean ASYA_SIDECAR_IMAGE?"],
    );
}
