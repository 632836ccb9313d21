use serde_json::json;

use super::*;

fn good(text: &str) -> (Registry, Vec<String>) {
    read(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn bad(text: &str) -> Vec<String> {
    read(text).expect_err("a mistake")
}

/// An enabled entry `one` of this type with this config.
fn one(kind: &str, config: &Value) -> String {
    json!({"transports": {"one": {"type": kind, "enabled": true, "config": config}}}).to_string()
}

fn rabbitmq(config: &Value) -> (RabbitMq, Vec<String>) {
    let (registry, warnings) = good(&one("rabbitmq", config));
    match &registry.find("one").expect("it is enabled").broker {
        Broker::RabbitMq(broker) => (broker.clone(), warnings),
        Broker::Sqs(_) => panic!("the type is rabbitmq"),
    }
}

fn sqs(config: &Value) -> (Sqs, Vec<String>) {
    let (registry, warnings) = good(&one("sqs", config));
    match &registry.find("one").expect("it is enabled").broker {
        Broker::Sqs(broker) => (broker.clone(), warnings),
        Broker::RabbitMq(_) => panic!("the type is sqs"),
    }
}

#[test]
fn nothing_is_an_empty_registry() {
    for text in [
        "",
        "  \n",
        "{}",
        "null",
        r#"{"transports": null}"#,
        r#"{"transports": {}}"#,
    ] {
        assert_eq!(good(text), (Registry::default(), Vec::new()), "{text:?}");
    }
}

#[test]
fn a_rabbitmq_that_says_only_its_host_has_the_ruled_defaults() {
    let (broker, warnings) = rabbitmq(&json!({"host": "broker"}));
    assert_eq!(warnings, Vec::<String>::new());
    let expected = RabbitMq {
        host: "broker".into(),
        port: 5672,
        username: "guest".into(),
        password: None,
        exchange: "asya".into(),
        vhost: "/".into(),
        tls: false,
        management_port: None,
        queues: Queues {
            auto_create: true,
            force_recreate: false,
            dead_letter: DeadLetter {
                enabled: false,
                max_retry_count: 3,
                retention_days: 14,
                per_actor: false,
            },
            arguments: Map::new(),
            quorum: true,
        },
        behavior: None,
    };
    assert_eq!(broker, expected);
    assert_eq!(rabbitmq(&json!({"host": "broker", "tls": true})).0.port, 5671);
}

#[test]
fn every_key_of_rabbitmq_is_read() {
    let (broker, warnings) = rabbitmq(&json!({
        "host": "broker", "port": 1, "username": "me", "exchange": "mine", "vhost": "v", "tls": true,
        "managementPort": 15671, "behavior": {"scaleUp": {}},
        "passwordSecretRef": {"name": "secret", "key": "password", "optional": true},
        "queues": {
            "autoCreate": false, "forceRecreate": true, "quorum": false, "nameTemplate": "asya-{actor}",
            "arguments": {"x-max-length": 5},
            "dlq": {"enabled": true, "maxRetryCount": 7, "retentionDays": 30, "perActor": true},
        },
    }));
    assert_eq!(warnings, Vec::<String>::new());
    let expected = RabbitMq {
        host: "broker".into(),
        port: 1,
        username: "me".into(),
        password: Some(SecretKey {
            name: "secret".into(),
            key: "password".into(),
            optional: true,
        }),
        exchange: "mine".into(),
        vhost: "v".into(),
        tls: true,
        management_port: Some(15671),
        queues: Queues {
            auto_create: false,
            force_recreate: true,
            dead_letter: DeadLetter {
                enabled: true,
                max_retry_count: 7,
                retention_days: 30,
                per_actor: true,
            },
            arguments: json!({"x-max-length": 5}).as_object().cloned().unwrap(),
            quorum: false,
        },
        behavior: Some(json!({"scaleUp": {}})),
    };
    assert_eq!(broker, expected);
}

#[test]
fn every_key_of_sqs_is_read_and_what_the_documentation_names_besides_is_a_warning() {
    let (broker, warnings) = sqs(&json!({
        "region": "eu-west-1", "accountId": "000000000000", "endpoint": "http://localhost:4566/",
        "actorRoleArn": "arn:aws:iam::1:role/a", "visibilityTimeout": 600, "waitTimeSeconds": 5,
        "queueBaseUrl": "https://sqs/", "tags": {"team": "a"}, "serviceAccount": {"perActor": true},
        "credentials": {
            "accessKeyIdSecretRef": {"name": "s", "key": "id"},
            "secretAccessKeySecretRef": {"name": "s", "key": "secret"},
        },
        "queues": {"dlq": {"enabled": true, "maxRetryCount": 0}},
    }));
    assert_eq!(
        warnings,
        [
            "transports.one.config.queueBaseUrl: without effect: addresses of queues follow from endpoint, region and accountId"
        ]
    );
    let key = |key: &str| SecretKey {
        name: "s".into(),
        key: key.into(),
        optional: false,
    };
    assert_eq!(
        broker.credentials,
        Some(SqsCredentials {
            access_key_id: key("id"),
            secret_access_key: key("secret")
        })
    );
    assert_eq!(
        (broker.region.as_str(), broker.account_id.as_str()),
        ("eu-west-1", "000000000000")
    );
    assert_eq!(broker.endpoint.as_deref(), Some("http://localhost:4566"));
    assert_eq!(broker.actor_role_arn.as_deref(), Some("arn:aws:iam::1:role/a"));
    assert_eq!(
        (broker.visibility_timeout, broker.wait_time),
        (Some(600), Some(5))
    );
    assert!(broker.service_account_per_actor && broker.queues.auto_create);
    assert_eq!(
        broker.queues.dead_letter.max_retry_count, 3,
        "0 is the default, as in the original"
    );
    assert_eq!(broker.tags.get("team").map(String::as_str), Some("a"));
}

#[test]
fn a_visibility_of_nought_is_none() {
    let (broker, _) =
        sqs(&json!({"region": "r", "accountId": "1", "visibilityTimeout": 0, "waitTimeSeconds": 0}));
    assert_eq!((broker.visibility_timeout, broker.wait_time), (None, None));
}

#[test]
fn what_only_some_actors_need_is_a_warning() {
    let (_, warnings) = rabbitmq(&json!(null));
    assert!(
        warnings[0].starts_with("transports.one.config.host: not set"),
        "{warnings:?}"
    );
    let (_, warnings) = sqs(&json!({}));
    let keys: Vec<_> = warnings
        .iter()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        keys,
        ["transports.one.config.region", "transports.one.config.accountId"]
    );
}

#[test]
fn all_mistakes_are_found_at_once_each_with_its_path_and_a_hint() {
    let text = json!({
        "transport": {},
        "transports": {
            "a": {"type": "rabbitmq", "enabled": true, "config": {
                "hots": "x", "port": "5672", "host": "amqp://u:hush@h", "tls": "true",
                "passwordSecretRef": {"name": "s", "kee": "k"},
                "queues": {"autocreat": true, "dlq": {"maxReceiveCount": 3}, "nameTemplate": "asya-{namespace}-{actor}"},
            }},
            "b.c": {"type": "kafka", "enabled": true, "config": {}},
            "d": {"type": "sqs", "enabled": true, "config": {
                "region": "r", "accountId": 12, "waitTimeSeconds": 21, "visibilityTimeout": -1, "tags": {"n": 1},
                "credentials": {"accessKeyIdSecretRef": {"name": "s", "key": "k"}},
            }},
            "e": {"type": "sqs", "enabled": "yes"},
            "f": 7,
        },
    });
    let problems = bad(&text.to_string());
    for line in [
        "transport: unknown key; did you mean transports?",
        "transports.a.config.hots: unknown key; did you mean host?",
        "transports.a.config.port: expected a whole number from 1 to 65535, found a text; write it without quotes",
        "transports.a.config.host: expected the name or the address of a host alone; the port stands under port, the user under username",
        "transports.a.config.tls: expected true or false, found a text; write it without quotes",
        "transports.a.config.passwordSecretRef.key: not set; expected {\"name\": \"<Secret>\", \"key\": \"<key in it>\"}",
        "transports.a.config.passwordSecretRef.kee: unknown key; did you mean key?",
        "transports.a.config.queues.autocreat: unknown key; did you mean autoCreate?",
        "transports.a.config.queues.dlq.maxReceiveCount: unknown key; it is called maxRetryCount here",
        "transports.a.config.queues.nameTemplate: expected asya-{actor}, since sidecars and the gateway know queues by no other names; leave it out",
        "transports[\"b.c\"].type: unknown type; expected one of rabbitmq, sqs",
        "transports.d.config.accountId: expected a text, found a number; put it in quotes",
        "transports.d.config.waitTimeSeconds: expected a whole number from 1 to 20, found another number",
        "transports.d.config.visibilityTimeout: expected a whole number from 1 to 43200, found another number",
        "transports.d.config.tags.n: expected a text, found a number; put it in quotes",
        "transports.d.config.credentials.secretAccessKeySecretRef: not set, but the other half is; expected both or none of the two",
    ] {
        assert!(
            problems.iter().any(|problem| problem == line),
            "{line}\nin {problems:#?}"
        );
    }
    assert_eq!(problems.len(), 16, "{problems:#?}");
    assert!(!problems.concat().contains("hush"));
}

#[test]
fn a_password_in_clear_is_refused_and_not_repeated() {
    let problems = bad(&one("rabbitmq", &json!({"host": "h", "password": "hush-hush"})));
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("transports.one.config.password: ")
            && problems[0].contains("passwordSecretRef"),
        "{problems:?}"
    );
    assert!(!problems[0].contains("hush"), "{problems:?}");
}

#[test]
fn nothing_below_a_disabled_entry_is_fatal_and_its_name_is_known_as_disabled() {
    let (registry, warnings) = good(
        r#"{"transports": {
            "new": {"type": "kafka", "config": {"x": 1}},
            "old": {"type": "rabbitmq", "enabled": false, "config": {"hots": 1, "password": "hush"}},
            "bare": {}, "nothing": null,
            "idle": {"type": "sqs", "enabled": false, "config": {"region": "r", "accountId": ""}}}}"#,
    );
    for name in ["new", "old", "bare", "nothing", "idle"] {
        let error = registry.find(name).unwrap_err();
        assert_eq!(error, LookupError::Disabled(name.into()));
        assert!(
            error.to_string().contains(name) && error.to_string().contains("disabled"),
            "{error}"
        );
    }
    assert!(
        warnings
            .iter()
            .all(|line| line.ends_with("is disabled") || line.contains("not set")),
        "{warnings:#?}"
    );
    assert!(warnings.iter().any(|line| line.contains("hots")), "{warnings:#?}");
    assert!(!warnings.concat().contains("hush"));
    assert_eq!(
        registry.summary(),
        "bare (disabled), idle (sqs, disabled), new (disabled), nothing (disabled), old (rabbitmq, disabled)"
    );
}

#[test]
fn a_name_that_is_not_there_is_told_with_those_that_are() {
    let (registry, _) = good(&one("sqs", &json!({"region": "r", "accountId": "1"})));
    let error = registry.find("sqs").unwrap_err().to_string();
    assert!(
        error.contains("sqs") && error.contains("not found") && error.contains("one"),
        "{error}"
    );
}

#[test]
fn keys_in_another_case_count_with_a_warning_as_the_original_took_them() {
    let (registry, warnings) =
        good(r#"{"Transports": {"a": {"Type": "rabbitmq", "ENABLED": true, "config": {"Host": "h"}}}}"#);
    assert!(registry.find("a").is_ok());
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(
        warnings[0].contains("Transports: read as transports"),
        "{warnings:?}"
    );
    // And mistakes below it count: it is enabled.
    let problems =
        bad(r#"{"transports": {"a": {"type": "rabbitmq", "Enabled": true, "config": {"hots": "h"}}}}"#);
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn what_is_no_json_says_where() {
    let problems = bad("{\"transports\": {\n  oops");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("line 2"), "{problems:?}");
    assert!(!bad("\"hush\"").concat().contains("hush"));
    assert!(!bad("[1]").is_empty());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = read(&text);
    }

    #[test]
    fn a_password_is_never_repeated_wherever_it_stands(key in "[a-zA-Z]{1,12}") {
        let text = one("rabbitmq", &json!({"host": "h", key: {"deep": "hush-hush"}, "port": "hush-hush"}));
        let lines = match read(&text) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        proptest::prop_assert!(!lines.concat().contains("hush-hush"));
    }
}
