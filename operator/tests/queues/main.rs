//! Queues of actors on real brokers: credentials out of Secrets, error texts, ownership, deletion.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails, also in what tests share"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use asya_operator::queues::{Brokers, Owner, QueueSpec, SecretData, Secrets};
use asya_operator::registry::{Broker, DeadLetter, Queues, RabbitMq, SecretKey, Sqs, Transport};
use futures::future::BoxFuture;

mod on_rabbitmq;
mod on_sqs;

/// Secrets of namespaces, in memory; counts how often they are read.
#[derive(Default)]
struct Vault {
    secrets: Mutex<BTreeMap<(String, String), SecretData>>,
    reads: Mutex<u32>,
}

impl Vault {
    fn put(&self, namespace: &str, name: &str, entries: &[(&str, &str)]) {
        let data = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        self.secrets
            .lock()
            .unwrap()
            .insert((namespace.to_owned(), name.to_owned()), data);
    }
}

impl Secrets for Vault {
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<SecretData>, String>> {
        Box::pin(async move {
            *self.reads.lock().unwrap() += 1;
            Ok(self
                .secrets
                .lock()
                .unwrap()
                .get(&(namespace.to_owned(), name.to_owned()))
                .cloned())
        })
    }
}

fn brokers(vault: &Arc<Vault>, cluster: &str) -> Brokers {
    let secrets = Arc::clone(vault) as Arc<dyn Secrets>;
    Brokers::new(
        secrets,
        Owner {
            cluster: cluster.into(),
        },
    )
    .settling_for(std::time::Duration::ZERO)
}

fn queue(name: &str, namespace: &str) -> QueueSpec {
    QueueSpec {
        name: format!("asya-{name}"),
        actor: name.into(),
        namespace: namespace.into(),
        processing_seconds: 400,
    }
}

fn queues() -> Queues {
    Queues {
        auto_create: true,
        force_recreate: false,
        dead_letter: DeadLetter {
            enabled: true,
            max_retry_count: 3,
            retention_days: 14,
            per_actor: false,
        },
        arguments: serde_json::Map::new(),
        quorum: true,
    }
}

fn secret(name: &str, key: &str) -> SecretKey {
    SecretKey {
        name: name.into(),
        key: key.into(),
        optional: false,
    }
}

fn rabbitmq(port: u16, vhost: &str) -> RabbitMq {
    RabbitMq {
        host: "127.0.0.1".into(),
        port,
        username: "guest".into(),
        password: None,
        exchange: "asya".into(),
        vhost: vhost.into(),
        tls: false,
        management_port: None,
        queues: queues(),
        behavior: None,
    }
}

fn sqs(endpoint: String) -> Sqs {
    Sqs {
        region: "eu-central-1".into(),
        account_id: "000000000000".into(),
        endpoint: Some(endpoint),
        actor_role_arn: None,
        service_account_per_actor: false,
        visibility_timeout: None,
        wait_time: None,
        credentials: Some(asya_operator::registry::SqsCredentials {
            access_key_id: secret("aws", "id"),
            secret_access_key: secret("aws", "secret"),
        }),
        queues: queues(),
        tags: BTreeMap::new(),
        behavior: None,
    }
}

fn transport(broker: Broker) -> Transport {
    Transport {
        name: "main".into(),
        enabled: true,
        broker,
    }
}
