//! Actors of the fixtures on transports, and the objects that follow from them.

use std::path::Path;

use asya_operator::desired::{Defaults, Desired, Facts, Inputs, Object, Script, SidecarMode, objects, pod};
use asya_operator::registry::{Registry, read};
use asya_operator::resource::{Actor, AsyncActor};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};

/// Everything that the objects of one actor follow from, owned.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) actor: Actor,
    pub(super) registry: Registry,
    pub(super) defaults: Defaults,
    pub(super) facts: Facts,
}

impl Scenario {
    pub(super) fn new(actor: Actor) -> Self {
        let script = Script {
            text: "print('hello')\n".to_owned(),
            hash: "0123456789abcdef".to_owned(),
        };
        Self {
            actor,
            registry: registry(),
            defaults: Defaults {
                sidecar_image: "example/asya-sidecar:1.0.0".to_owned(),
                sidecar_resources: Some(json!({ "requests": { "cpu": "50m", "memory": "32Mi" } })),
                sidecar_security: pod::hardened(),
                sidecar_mode: SidecarMode::Container,
                gateway_url: "http://asya-gateway.asya:8080".to_owned(),
                script,
                disruption_budgets: true,
                manages_queues: true,
            },
            facts: Facts {
                server_minor: 34,
                secret_has_username: true,
                ..Facts::default()
            },
        }
    }

    pub(super) fn on(mut self, transport: &str) -> Self {
        transport.clone_into(&mut self.actor.spec.transport);
        self
    }

    pub(super) fn desired(&self) -> Desired {
        objects(&Inputs {
            actor: &self.actor,
            transport: self.registry.find(&self.actor.spec.transport).unwrap(),
            defaults: &self.defaults,
            facts: &self.facts,
        })
    }

    /// All objects in the order in which they are applied.
    pub(super) fn objects(&self) -> Vec<Object> {
        let desired = self.desired();
        let parts = [desired.common, desired.workload.unwrap(), desired.scaler.unwrap()];
        parts.into_iter().flatten().collect()
    }
}

/// The transports of the tests. `rabbitmq` and `sqs` are the usual ones, the others show one setting each.
pub(super) fn registry() -> Registry {
    let secret = |name: &str, key: &str| json!({ "name": name, "key": key });
    let rabbitmq = |changes: Value| {
        let mut config = json!({
            "host": "rabbitmq.asya",
            "username": "asya",
            "passwordSecretRef": secret("rabbitmq-secret", "password"),
            "queues": { "dlq": { "enabled": true } },
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        json!({ "type": "rabbitmq", "enabled": true, "config": config })
    };
    let sqs = |changes: Value| {
        let mut config = json!({ "region": "eu-west-1", "accountId": "123456789012" });
        config
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        json!({ "type": "sqs", "enabled": true, "config": config })
    };
    let text = json!({ "transports": {
        "rabbitmq": rabbitmq(json!({})),
        "rabbitmq-guest": { "type": "rabbitmq", "enabled": true, "config": { "host": "rabbitmq.asya" } },
        "rabbitmq-guest-http": {
            "type": "rabbitmq", "enabled": true,
            "config": { "host": "rabbitmq.asya", "managementPort": 15672 },
        },
        "rabbitmq-named": {
            "type": "rabbitmq", "enabled": true, "config": { "host": "rabbitmq.asya", "username": "a b@c" },
        },
        "rabbitmq-named-http": {
            "type": "rabbitmq", "enabled": true,
            "config": { "host": "rabbitmq.asya", "managementPort": 15672, "username": "a b@c" },
        },
        "rabbitmq-http": rabbitmq(json!({ "managementPort": 15672 })),
        "rabbitmq-tls": rabbitmq(json!({ "tls": true, "vhost": "/one two" })),
        "rabbitmq-tls-http": rabbitmq(json!({ "tls": true, "managementPort": 15671, "vhost": "orders" })),
        "rabbitmq-v6": rabbitmq(json!({ "host": "fd00::5" })),
        "sqs": sqs(json!({})),
        "sqs-china": sqs(json!({ "region": "cn-north-1" })),
        "sqs-keys": sqs(json!({
            "endpoint": "http://localstack:4566/",
            "credentials": {
                "accessKeyIdSecretRef": secret("sqs-secret", "access-key-id"),
                "secretAccessKeySecretRef": secret("sqs-secret", "secret-access-key"),
            },
        })),
        "sqs-role": sqs(json!({ "actorRoleArn": "arn:aws:iam::123456789012:role/actors" })),
    }});
    read(&text.to_string()).unwrap().0
}

/// The actors of one fixture file.
pub(super) fn actors(file: &str) -> Vec<Actor> {
    read_actors(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/actors")
            .join(file),
    )
}

/// The actors that we show to everybody, in the order of their files.
pub(super) fn examples() -> Vec<Actor> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kubernetes");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.iter().flat_map(|file| read_actors(file)).collect()
}

fn read_actors(file: &Path) -> Vec<Actor> {
    let text = std::fs::read_to_string(file).unwrap();
    Yaml::load_from_str(&text)
        .unwrap()
        .iter()
        .map(|document| read_actor(&json(document)))
        .collect()
}

/// The actor of that name in `kinds.yaml` or `usual.yaml`.
pub(super) fn actor(name: &str) -> Actor {
    let all = ["usual.yaml", "kinds.yaml"].into_iter().flat_map(actors);
    all.into_iter().find(|actor| actor.name == name).unwrap()
}

fn read_actor(document: &Value) -> Actor {
    let mut object: AsyncActor = serde_json::from_value(document.clone()).unwrap();
    object.metadata.namespace = Some("asya-e2e".to_owned());
    object.metadata.uid = Some("11111111-2222-3333-4444-555555555555".to_owned());
    object.metadata.generation = Some(7);
    Actor::read(&object).unwrap()
}

fn json(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => value.into_inner().into(),
        Yaml::Value(Scalar::String(value)) => value.to_string().into(),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(members) => {
            let members = members
                .iter()
                .map(|(key, value)| (key.as_str().unwrap().to_owned(), json(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        other => panic!("{other:?} in a fixture"),
    }
}
