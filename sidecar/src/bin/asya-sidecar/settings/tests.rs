use std::collections::BTreeMap;
use std::path::Path;

use asya_sidecar::gateway::GatewayProtocol;
use asya_sidecar::{Credit, Protocol, RetryPolicy, Role};
use asya_transport::rabbitmq::Address;

use super::*;

/// Reads `variables` besides a name.
fn reading(variables: &[(&str, &str)]) -> Reading {
    let mut all: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    all.entry("ASYA_ACTOR_NAME".into()).or_insert("worker".into());
    read(&Environment {
        variables: all,
        read_file: &|path: &Path| match path.to_str() {
            Some("/secret") => Ok("from-file\n".into()),
            Some("/empty") => Ok("\n".into()),
            Some("/pem") => Ok("pem".into()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        },
    })
}

fn good(variables: &[(&str, &str)]) -> Settings {
    let reading = reading(variables);
    assert_eq!(reading.warnings, [], "{variables:?}");
    reading.settings.expect("settings")
}

fn problems(variables: &[(&str, &str)]) -> Vec<String> {
    let problems = reading(variables).settings.expect_err("problems");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn without_variables_everything_is_at_its_default() {
    let settings = good(&[]);
    let (config, default) = (settings.config, Config::new("worker", Role::Step));
    assert_eq!(format!("{config:?}"), format!("{default:?}"));
    assert_eq!(config.retry, RetryPolicy::default());
    let address = settings.rabbitmq.address;
    assert_eq!((address.host.as_str(), address.port), ("localhost", 5672));
    assert_eq!(
        (address.user.as_str(), address.password.as_str()),
        ("guest", "guest")
    );
    assert_eq!(settings.rabbitmq.exchange, "asya");
    assert_eq!(settings.listen.as_deref(), Some(":8080"));
    assert_eq!(settings.namespace, "asya_actor");
    assert!(settings.gateway.is_none() && settings.custom_metrics.is_empty());
    assert_eq!(settings.grace, Duration::from_secs(25));
}

#[test]
fn empty_is_unset() {
    let names = v::VARIABLES.iter().map(|variable| (variable.name, ""));
    let all: Vec<_> = names.filter(|(name, _)| *name != "ASYA_ACTOR_NAME").collect();
    let settings = good(&all);
    assert_eq!(settings.config.runtime_timeout, Duration::from_mins(5));
}

#[test]
fn the_protocol_is_chosen_by_name() {
    for (value, protocol) in [("auto", Protocol::Auto), ("v1", Protocol::V1)] {
        assert_eq!(
            good(&[("ASYA_RUNTIME_PROTOCOL", value)]).config.protocol,
            protocol
        );
    }
}

#[test]
fn all_problems_are_found_at_once_and_none_shows_a_secret() {
    let found = problems(&[
        ("ASYA_ACTOR_NAME", ""),
        ("ASYA_TRANSPORT", "sqs"),
        ("ASYA_RABBITMQ_URL", "amqp://me:hush@host:99999"),
        ("ASYA_MAX_HOPS", "0"),
        ("ASYA_MAX_MESSAGE_SIZE", "1Ti"),
        ("ASYA_RUNTIME_PROTOCOL", "v2"),
        ("ASYA_QUEUE_ARGUMENTS", "[]"),
        ("ASYA_CUSTOM_METRICS", "{"),
        ("ASYA_LOG_FORMAT", "xml"),
        ("ASYA_SHUTDOWN_GRACE", "soon"),
        ("ASYA_RETRY_JITTER", "2"),
        ("ASYA_RABBITMQ_CERT_FILE", "/nowhere"),
        ("ASYA_ACTOR_HAPPY_END", "the end"),
    ]);
    for variable in [
        "ASYA_ACTOR_NAME",
        "ASYA_TRANSPORT",
        "ASYA_RABBITMQ_URL",
        "ASYA_MAX_HOPS",
        "ASYA_MAX_MESSAGE_SIZE",
        "ASYA_RUNTIME_PROTOCOL",
        "ASYA_QUEUE_ARGUMENTS",
        "ASYA_CUSTOM_METRICS",
        "ASYA_LOG_FORMAT",
        "ASYA_SHUTDOWN_GRACE",
        "ASYA_RETRY_JITTER",
        "ASYA_RABBITMQ_CERT_FILE",
        "ASYA_RABBITMQ_KEY_FILE",
        "ASYA_ACTOR_HAPPY_END",
    ] {
        let own: Vec<_> = found
            .iter()
            .filter(|line| line.starts_with(&format!("{variable}: ")))
            .collect();
        assert_eq!(own.len(), 1, "{variable} in {found:#?}");
        assert!(own[0].contains("expected"), "{own:?}");
    }
    assert_eq!(found.len(), 14);
    assert!(
        !found
            .iter()
            .any(|line| line.contains("hush") || line.contains('\n'))
    );
}

#[test]
fn bad_values_of_the_originals_variables_warn_and_the_default_holds() {
    let reading = reading(&[
        ("ASYA_RUNTIME_TIMEOUT", "soon"),
        ("ASYA_RABBITMQ_PREFETCH", "-1"),
        ("ASYA_RABBITMQ_PORT", "tcp://10.0.0.1:5672"),
        ("ASYA_LOG_LEVEL", "LOUD"),
        ("ASYA_METRICS_ADDR", "8080"),
        ("ASYA_IS_END_ACTOR", "perhaps"),
    ]);
    let settings = reading.settings.expect("settings");
    assert_eq!(settings.config.runtime_timeout, Duration::from_mins(5));
    assert_eq!(settings.config.credit, Credit::Tuned { most: 1024 });
    assert_eq!(settings.rabbitmq.address.port, 5672);
    assert_eq!(settings.listen.as_deref(), Some(":8080"));
    assert_eq!(settings.config.role, Role::Step);
    assert_eq!(reading.warnings.len(), 6, "{:#?}", reading.warnings);
    for warning in &reading.warnings {
        assert!(warning.to_string().contains("using the default"), "{warning}");
    }
}

#[test]
fn each_alias_stands_for_its_variable_and_the_canonical_name_wins() {
    for (canonical, alias, read) in [
        (
            "ASYA_ACTOR_HAPPY_END",
            "ASYA_STEP_HAPPY_END",
            (|it| it.config.happy_end) as fn(Settings) -> String,
        ),
        ("ASYA_ACTOR_ERROR_END", "ASYA_STEP_ERROR_END", |it| {
            it.config.error_end
        }),
        ("ASYA_SOCKET_DIR", "ASYA_SOCKETS_DIR", |it| {
            it.config.socket_dir.display().to_string()
        }),
    ] {
        assert_eq!(read(good(&[(alias, "other")])), "other", "{alias}");
        let both = reading(&[(alias, "other"), (canonical, "own")]);
        assert_eq!(read(both.settings.expect("settings")), "own", "{canonical}");
        assert_eq!(both.warnings.len(), 1, "{:?}", both.warnings);
        assert!(both.warnings[0].to_string().starts_with(alias));
    }
}

#[test]
fn the_socket_may_be_named_as_a_whole_or_in_parts() {
    let socket = |variables: &[(&str, &str)]| good(variables).config.socket().display().to_string();
    assert_eq!(socket(&[]), "/var/run/asya/asya-runtime.sock");
    let whole = ("ASYA_SOCKET_PATH", "/a/b.sock");
    assert_eq!(socket(&[whole]), "/a/b.sock");
    assert_eq!(socket(&[whole, ("ASYA_SOCKET_DIR", "/d")]), "/d/b.sock");
    assert_eq!(socket(&[whole, ("ASYA_SOCKET_NAME", "n")]), "/a/n");
}

#[test]
fn a_url_wins_over_the_parts_and_a_password_file_over_none() {
    let address = |variables: &[(&str, &str)]| good(variables).rabbitmq.address;
    let parts = [
        ("ASYA_RABBITMQ_HOST", "h"),
        ("ASYA_RABBITMQ_USERNAME", "u@"),
        ("ASYA_RABBITMQ_PASSWORD", "p/:%"),
        ("ASYA_RABBITMQ_VHOST", "a/b"),
    ];
    let of_parts = address(&parts);
    assert_eq!(
        of_parts,
        Address {
            vhost: "a/b".into(),
            ..Address::new("h", 5672, "u@", "p/:%")
        }
    );
    let url = ("ASYA_RABBITMQ_URL", "amqps://me:mine@other/v");
    let of_url = address(&[parts.as_slice(), &[url]].concat());
    assert_eq!(
        (of_url.host.as_str(), of_url.port, of_url.tls),
        ("other", 5671, true)
    );
    let file = ("ASYA_RABBITMQ_PASSWORD_FILE", "/secret");
    assert_eq!(address(&[file]).password, "from-file");
    assert_eq!(
        address(&[file, ("ASYA_RABBITMQ_URL", "amqp://me@h")]).password,
        "from-file"
    );
    assert_eq!(address(&[("ASYA_RABBITMQ_TLS", "yes")]).port, 5671);
    assert_eq!(problems(&[file, ("ASYA_RABBITMQ_PASSWORD", "x")]).len(), 1);
    assert_eq!(problems(&[("ASYA_RABBITMQ_PASSWORD_FILE", "/empty")]).len(), 1);
}

#[test]
fn an_address_in_the_wrong_variable_is_refused_without_showing_its_password() {
    for host in ["user:hush@broker", "broker:5672", "amqp://user:hush@broker/"] {
        let reading = reading(&[("ASYA_RABBITMQ_HOST", host)]);
        assert_eq!(reading.warnings.len(), 1, "{host}");
        let said = format!("{} {:?}", reading.warnings[0], reading.set);
        assert!(!said.contains("hush"), "{said}");
    }
    for host in ["::1", "[::1]", "broker.example.org"] {
        assert!(
            reading(&[("ASYA_RABBITMQ_HOST", host)]).warnings.is_empty(),
            "{host}"
        );
    }
}

#[test]
fn names_that_stand_for_others_are_refused() {
    for name in ["#", "*", "a.#", "*.b"] {
        assert_eq!(problems(&[("ASYA_ACTOR_NAME", name)]).len(), 1, "{name}");
    }
}

#[test]
fn tls_files_are_for_tls() {
    let files = [
        ("ASYA_RABBITMQ_CA_FILE", "/pem"),
        ("ASYA_RABBITMQ_CERT_FILE", "/pem"),
        ("ASYA_RABBITMQ_KEY_FILE", "/pem"),
    ];
    assert_eq!(reading(&files).warnings.len(), 1, "without TLS they do nothing");
    let tls = good(&[files.as_slice(), &[("ASYA_RABBITMQ_TLS", "true")]].concat())
        .rabbitmq
        .tls;
    assert!(tls.ca.is_some() && tls.client.is_some());
}

#[test]
fn the_role_follows_from_the_name() {
    let end = ("ASYA_IS_END_ACTOR", "true");
    let role = |name| good(&[("ASYA_ACTOR_NAME", name), end]).config.role;
    assert_eq!(role("happy-end"), Role::HappyEnd);
    assert_eq!(role("error-end"), Role::ErrorEnd);
    let other = reading(&[end]);
    assert_eq!(other.warnings.len(), 1);
    let settings = other.settings.expect("settings");
    assert!(!settings.reports && settings.config.role.is_end());
    let forgotten = reading(&[("ASYA_ACTOR_NAME", "error-end")]);
    assert_eq!(forgotten.warnings.len(), 1);
    assert_eq!(forgotten.settings.expect("settings").config.role, Role::ErrorEnd);
}

#[test]
fn custom_metrics_are_checked_one_by_one() {
    let declared = r#"[{"name": "2 tokens", "type": "counter", "labels": ["model"]},
        {"name": "x", "type": "histogram", "buckets": [3, 1]}, {"name": "x", "type": "gauge"},
        {"name": "y", "type": "summary"}, {"name": "messages_received_total", "type": "counter"}]"#;
    let reading = reading(&[("ASYA_CUSTOM_METRICS", declared)]);
    let settings = reading.settings.expect("settings");
    let names: Vec<_> = settings
        .custom_metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    assert_eq!(names, ["_2_tokens", "x"]);
    assert_eq!(reading.warnings.len(), 3, "{:?}", reading.warnings);
    assert_eq!(problems(&[("ASYA_CUSTOM_METRICS", r#"[{"name": 5}]"#)]).len(), 1);
    assert_eq!(problems(&[("ASYA_CUSTOM_METRICS", "[7]")]).len(), 1);
}

#[test]
fn the_gateway_is_told_in_its_protocol_with_its_token() {
    let url = ("ASYA_GATEWAY_URL", "http://gateway:8080");
    let gateway = good(&[url]).gateway.expect("a gateway");
    assert_eq!(gateway.protocol, GatewayProtocol::Auto);
    assert!(gateway.token.is_none());
    assert_eq!(gateway.actor, "worker");
    let gateway = good(&[
        url,
        ("ASYA_GATEWAY_PROTOCOL", "http"),
        ("ASYA_GATEWAY_TOKEN", "hush"),
    ]);
    let gateway = gateway.gateway.expect("a gateway");
    assert_eq!(gateway.protocol, GatewayProtocol::Http);
    assert_eq!(format!("{:?}", gateway.token), "Some(GatewayToken(…))");
    let file = ("ASYA_GATEWAY_TOKEN_FILE", "/secret");
    let gateway = good(&[url, file]).gateway.expect("a gateway");
    assert_eq!(format!("{:?}", gateway.token), "Some(GatewayToken(/secret))");
    for (bad, said) in [
        (vec![("ASYA_GATEWAY_PROTOCOL", "grpc")], "auto or http"),
        (vec![("ASYA_GATEWAY_TOKEN", "two words")], "visible ASCII"),
        (vec![("ASYA_GATEWAY_TOKEN_FILE", "/empty")], "/empty"),
        (vec![("ASYA_GATEWAY_TOKEN_FILE", "/nowhere")], "/nowhere"),
        (vec![("ASYA_GATEWAY_TOKEN", "hush"), file], "one of the two"),
    ] {
        let problems = problems(&bad);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(said), "{problems:?}");
        assert!(
            !problems[0].contains("two words") && !problems[0].contains("hush"),
            "{problems:?}"
        );
    }
}

#[test]
fn what_is_set_is_shown_without_secrets() {
    let reading = reading(&[
        ("ASYA_RABBITMQ_URL", "amqp://me:hush@host/v"),
        ("ASYA_RABBITMQ_PASSWORD", "hush"),
        ("ASYA_GATEWAY_URL", "http://me:hush@gateway"),
        ("ASYA_GATEWAY_TOKEN", "hush"),
    ]);
    let shown = format!("{:?}", reading.set);
    assert!(!shown.contains("hush"), "{shown}");
    assert!(
        shown.contains("amqp://host/v") && shown.contains("***"),
        "{shown}"
    );
}
