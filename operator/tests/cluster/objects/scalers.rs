//! Triggers, credentials and behaviour of scalers: case by case, and what KEDA demands beyond its schema.

use std::collections::BTreeSet;

use asya_manifest::AdvancedScaling;
use asya_operator::desired::{DesiredError, Kind, Object};
use asya_operator::registry::Broker;
use serde_json::{Value, json};

use super::scenarios::{Scenario, actor, actors};

fn scaler(scenario: &Scenario, kind: Kind) -> Value {
    let objects = scenario.desired().scaler.unwrap();
    objects
        .into_iter()
        .find(|object| object.kind == kind)
        .unwrap()
        .body["spec"]
        .clone()
}

/// The trigger without what is the same everywhere.
fn trigger(transport: &str) -> Value {
    scaler(
        &Scenario::new(actor("cached-actor")).on(transport),
        Kind::ScaledObject,
    )["triggers"][0]
        .clone()
}

#[test]
fn no_password_is_made_up_for_a_user_of_ones_own() {
    let scenario = Scenario::new(actor("cached-actor")).on("rabbitmq-named-http");
    let text = scenario.desired().scaler.unwrap_err().to_string();
    assert!(text.contains("config.passwordSecretRef"), "{text}");
}

#[test]
fn every_setting_of_a_transport_reaches_the_trigger() {
    let auth = Some("cached-actor-trigger-auth");
    let table = [
        (
            "rabbitmq",
            json!({ "host": "amqp://rabbitmq.asya:5672", "protocol": "amqp" }),
            auth,
        ),
        (
            "rabbitmq-guest",
            json!({ "host": "amqp://guest@rabbitmq.asya:5672", "protocol": "amqp" }),
            None,
        ),
        (
            "rabbitmq-guest-http",
            json!({ "host": "http://guest:guest@rabbitmq.asya:15672", "protocol": "http" }),
            None,
        ),
        (
            "rabbitmq-named",
            json!({ "host": "amqp://a%20b%40c@rabbitmq.asya:5672", "protocol": "amqp" }),
            None,
        ),
        (
            "rabbitmq-http",
            json!({ "host": "http://rabbitmq.asya:15672", "protocol": "http" }),
            auth,
        ),
        (
            "rabbitmq-tls",
            json!({ "host": "amqps://rabbitmq.asya:5671", "protocol": "amqp", "vhostName": "/one two" }),
            auth,
        ),
        (
            "rabbitmq-tls-http",
            json!({ "host": "https://rabbitmq.asya:15671", "protocol": "http", "vhostName": "orders" }),
            auth,
        ),
        (
            "rabbitmq-v6",
            json!({ "host": "amqp://[fd00::5]:5672", "protocol": "amqp" }),
            auth,
        ),
    ];
    for (transport, mut metadata, authentication) in table {
        let common = json!({ "queueName": "asya-cached-actor", "mode": "QueueLength", "value": "2" });
        metadata
            .as_object_mut()
            .unwrap()
            .extend(common.as_object().unwrap().clone());
        let mut expected = json!({ "name": "queueLength", "type": "rabbitmq", "metadata": metadata });
        if let Some(name) = authentication {
            expected["authenticationRef"] = json!({ "name": name });
        }
        assert_eq!(trigger(transport), expected, "{transport}");
    }
}

#[test]
fn every_setting_of_sqs_reaches_the_trigger() {
    let table = [
        (
            "sqs",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/asya-cached-actor",
            "eu-west-1",
            None,
        ),
        (
            "sqs-china",
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/asya-cached-actor",
            "cn-north-1",
            None,
        ),
        (
            "sqs-keys",
            "http://localstack:4566/123456789012/asya-cached-actor",
            "eu-west-1",
            Some("http://localstack:4566"),
        ),
        (
            "sqs-role",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/asya-cached-actor",
            "eu-west-1",
            None,
        ),
    ];
    for (transport, url, region, endpoint) in table {
        let mut metadata = json!({ "queueURL": url, "queueLength": "2", "awsRegion": region });
        if let Some(endpoint) = endpoint {
            metadata["awsEndpoint"] = endpoint.into();
        }
        let expected = json!({
            "name": "queueLength",
            "type": "aws-sqs-queue",
            "metadata": metadata,
            "authenticationRef": { "name": "cached-actor-trigger-auth" },
        });
        assert_eq!(trigger(transport), expected, "{transport}");
    }
}

#[test]
fn credentials_are_named_and_never_written() {
    let credentials = |transport: &str| {
        scaler(
            &Scenario::new(actor("cached-actor")).on(transport),
            Kind::TriggerAuthentication,
        )
    };
    let reference =
        |parameter: &str, name: &str, key: &str| json!({ "parameter": parameter, "name": name, "key": key });
    assert_eq!(
        credentials("rabbitmq"),
        json!({ "secretTargetRef": [
            reference("username", "rabbitmq-secret", "username"),
            reference("password", "rabbitmq-secret", "password"),
        ]})
    );
    assert_eq!(
        credentials("sqs-keys"),
        json!({ "secretTargetRef": [
            reference("awsAccessKeyID", "sqs-secret", "access-key-id"),
            reference("awsSecretAccessKey", "sqs-secret", "secret-access-key"),
        ]})
    );
    for by_identity in ["sqs", "sqs-role"] {
        assert_eq!(
            credentials(by_identity),
            json!({ "podIdentity": { "provider": "aws" } }),
            "{by_identity}"
        );
    }
}

#[test]
fn a_secret_with_a_password_alone_gets_the_username_of_the_transport_beside_it() {
    let mut scenario = Scenario::new(actor("cached-actor")).on("rabbitmq");
    scenario.facts.secret_has_username = false;
    let objects = scenario.desired().scaler.unwrap();
    let kinds: Vec<Kind> = objects.iter().map(|object| object.kind).collect();
    assert_eq!(
        kinds,
        [Kind::ConfigMap, Kind::TriggerAuthentication, Kind::ScaledObject]
    );
    assert_eq!(objects[0].name, "cached-actor-trigger-auth");
    assert_eq!(objects[0].body["data"], json!({ "username": "asya" }));
    assert_eq!(
        objects[1].body["spec"],
        json!({
            "configMapTargetRef": [{ "parameter": "username", "name": "cached-actor-trigger-auth", "key": "username" }],
            "secretTargetRef": [{ "parameter": "password", "name": "rabbitmq-secret", "key": "password" }],
        })
    );
}

#[test]
fn a_job_counts_the_messages_that_no_job_has_yet() {
    let metadata = |transport: &str| {
        let objects = Scenario::new(actor("job-scaled"))
            .on(transport)
            .desired()
            .workload
            .unwrap();
        objects.last().unwrap().body["spec"]["triggers"][0]["metadata"].clone()
    };
    assert_eq!(
        metadata("rabbitmq")["excludeUnacknowledged"],
        Value::Null,
        "AMQP counts no others"
    );
    assert_eq!(metadata("rabbitmq-http")["excludeUnacknowledged"], "true");
    assert_eq!(metadata("sqs")["scaleOnInFlight"], "false");
    assert_eq!(
        trigger("rabbitmq-http")["metadata"]["excludeUnacknowledged"],
        Value::Null
    );
    assert_eq!(trigger("sqs")["metadata"]["scaleOnInFlight"], Value::Null);
}

#[test]
fn behaviour_comes_from_the_actor_else_the_transport_else_the_default_for_each_direction() {
    let behavior = |scenario: &Scenario| {
        scaler(scenario, Kind::ScaledObject)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"].clone()
    };
    let policy = |kind: &str, value: u32| json!({ "type": kind, "value": value, "periodSeconds": 15 });
    let up = json!({
        "stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [policy("Percent", 100), policy("Pods", 4)],
    });
    let down = json!({
        "stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [policy("Percent", 50)],
    });
    let mut scenario = Scenario::new(actor("cached-actor"));
    assert_eq!(behavior(&scenario), json!({ "scaleUp": up, "scaleDown": down }));

    let slow = json!({ "stabilizationWindowSeconds": 300 });
    let Broker::RabbitMq(broker) = &mut scenario.registry.transports.get_mut("rabbitmq").unwrap().broker
    else {
        unreachable!("it was made as RabbitMQ")
    };
    broker.behavior = Some(json!({ "scaleDown": slow }));
    assert_eq!(behavior(&scenario), json!({ "scaleUp": up, "scaleDown": slow }));

    let never = json!({ "selectPolicy": "Disabled" });
    scenario.actor.spec.scaling.behavior = Some(json!({ "scaleUp": never }));
    assert_eq!(
        behavior(&scenario),
        json!({ "scaleUp": never, "scaleDown": slow })
    );
}

#[test]
fn zero_intervals_mean_the_defaults_of_old() {
    let spec = scaler(
        &Scenario::new(actor("advanced-scaling-actor")),
        Kind::ScaledObject,
    );
    assert_eq!(
        (&spec["pollingInterval"], &spec["cooldownPeriod"]),
        (&json!(10), &json!(300))
    );
}

#[test]
fn what_a_transport_lacks_is_named_and_keeps_no_workload_back() {
    let clear = |scenario: &mut Scenario, setting: &str| {
        let transport = scenario
            .registry
            .transports
            .get_mut(&scenario.actor.spec.transport)
            .unwrap();
        match (&mut transport.broker, setting) {
            (Broker::RabbitMq(broker), "host") => broker.host.clear(),
            (Broker::Sqs(broker), "region") => broker.region.clear(),
            (Broker::Sqs(broker), "accountId") => broker.account_id.clear(),
            other => unreachable!("{other:?}"),
        }
    };
    for (transport, setting) in [("rabbitmq", "host"), ("sqs", "region"), ("sqs", "accountId")] {
        let mut scenario = Scenario::new(actor("cached-actor")).on(transport);
        clear(&mut scenario, setting);
        let desired = scenario.desired();
        assert!(desired.workload.is_ok());
        let text = desired.scaler.unwrap_err().to_string();
        assert!(
            text.contains(&format!("no {setting}")) && text.contains(&format!("{transport:?}")),
            "{text}"
        );
    }
    let mut scenario = Scenario::new(actor("cached-actor"));
    let Broker::RabbitMq(broker) = &mut scenario.registry.transports.get_mut("rabbitmq").unwrap().broker
    else {
        unreachable!("it was made as RabbitMQ")
    };
    broker.host = "no host".to_owned();
    let text = scenario.desired().scaler.unwrap_err().to_string();
    assert!(text.contains("\"no host\" is not a host name"), "{text}");
}

#[test]
fn what_keda_would_refuse_is_refused_with_a_reason() {
    let table = [
        (json!({ "target": "5" }), "advanced.formula: is missing"),
        (
            json!({ "formula": "queue * 2", "target": "5" }),
            "refers to `queue`; the only trigger is called `queueLength`",
        ),
        (
            json!({ "formula": "queueLength * 2" }),
            "advanced.target: is missing",
        ),
        (
            json!({ "formula": "queueLength", "target": "0" }),
            "advanced.target: is \"0\"",
        ),
        (
            json!({ "formula": "queueLength", "target": "many" }),
            "advanced.target: is \"many\"",
        ),
        (
            json!({ "formula": "queueLength", "target": "5", "activationTarget": "x" }),
            "advanced.activationTarget: is \"x\"",
        ),
        (
            json!({ "formula": "queueLength", "target": "5", "metricType": "Utilization" }),
            "advanced.metricType",
        ),
    ];
    for (advanced, expected) in table {
        let mut scenario = Scenario::new(actor("cached-actor"));
        scenario.actor.spec.scaling.advanced = Some(serde_json::from_value(advanced.clone()).unwrap());
        let desired = scenario.desired();
        assert!(desired.workload.is_ok());
        let error = desired.scaler.unwrap_err();
        assert!(matches!(error, DesiredError::Scaling { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{advanced}: {error}");
    }
    for field in ["advanced", "behavior"] {
        let mut scenario = Scenario::new(actor("job-scaled"));
        match field {
            "advanced" => scenario.actor.spec.scaling.advanced = Some(AdvancedScaling::default()),
            _ => scenario.actor.spec.scaling.behavior = Some(json!({})),
        }
        let desired = scenario.desired();
        let error = desired.scaler.unwrap_err();
        assert_eq!(desired.workload, Err(error.clone()), "a ScaledJob is both");
        assert!(
            error.to_string().starts_with(&format!("spec.scaling.{field}: ")),
            "{error}"
        );
    }
}

#[test]
fn an_empty_advanced_asks_for_nothing() {
    let mut scenario = Scenario::new(actor("cached-actor"));
    scenario.actor.spec.scaling.advanced = Some(AdvancedScaling::default());
    let advanced = scaler(&scenario, Kind::ScaledObject)["advanced"].clone();
    assert_eq!(
        advanced.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["horizontalPodAutoscalerConfig"]
    );
}

/// What KEDA's admission checks and its schema cannot say.
#[test]
fn every_scaler_keeps_the_rules_of_kedas_admission() {
    let mut seen = 0;
    for actor in actors("usual.yaml").into_iter().chain(actors("kinds.yaml")) {
        for transport in [
            "rabbitmq",
            "rabbitmq-guest",
            "rabbitmq-tls-http",
            "sqs",
            "sqs-keys",
        ] {
            let objects = Scenario::new(actor.clone()).on(transport).objects();
            for object in objects
                .iter()
                .filter(|object| object.body["spec"].get("triggers").is_some())
            {
                check_admission(object, &objects);
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "{seen}");
}

fn check_admission(scaler: &Object, objects: &[Object]) {
    let spec = &scaler.body["spec"];
    let triggers = spec["triggers"].as_array().unwrap();
    let names: BTreeSet<&str> = triggers
        .iter()
        .map(|trigger| trigger["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), triggers.len(), "names of triggers are unique");
    for trigger in triggers {
        let metadata = trigger["metadata"].as_object().unwrap();
        assert!(metadata.values().all(Value::is_string));
        assert!(!metadata.contains_key("identityOwner"));
        if let Some(reference) = trigger.get("authenticationRef") {
            let is_it = |object: &&Object| {
                object.kind == Kind::TriggerAuthentication && reference["name"] == object.name.as_str()
            };
            assert!(
                objects.iter().any(|object| is_it(&object)),
                "what is referred to exists"
            );
        }
    }
    assert!(spec["minReplicaCount"].as_u64() <= spec["maxReplicaCount"].as_u64());
    let autoscaler = spec
        .pointer("/advanced/horizontalPodAutoscalerConfig/name")
        .and_then(Value::as_str);
    let autoscaler = autoscaler.map_or_else(|| format!("keda-hpa-{}", scaler.name), str::to_owned);
    assert!(autoscaler.len() <= 63, "{autoscaler}");
    assert!(scaler.name.len() <= 63);
    if let Some(modifiers) = spec.pointer("/advanced/scalingModifiers") {
        assert!(modifiers["formula"].as_str().unwrap().contains("queueLength"));
        assert!(modifiers["target"].as_str().unwrap().parse::<f64>().unwrap() > 0.0);
    }
    let target = objects
        .iter()
        .filter(|object| object.kind.is_workload() && object.name == scaler.name)
        .count();
    assert_eq!(target, 1, "there is something to scale");
}
