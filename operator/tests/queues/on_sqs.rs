//! On stand-ins for SQS.

use std::sync::Arc;

use asya_operator::queues::{Brokers, Deleted, DeletionPolicy, Ensured, QueueError, QueueSpec, Queues as _};
use asya_operator::registry::{Broker, Sqs, Transport};
use asya_operator::status::QueueDepth;
use asya_tests::sqs::{Kind, Server};

use super::{Vault, brokers, queue, sqs, transport};

struct Place {
    account: Sqs,
    vault: Arc<Vault>,
    brokers: Brokers,
    queue: QueueSpec,
}

impl Place {
    async fn all() -> Vec<Self> {
        let mut places = Vec::new();
        for kind in Kind::ALL {
            let server = tokio::task::spawn_blocking(move || Server::shared(kind))
                .await
                .unwrap();
            let Some(server) = server else { continue };
            let vault = Arc::new(Vault::default());
            vault.put("team", "aws", &[("id", "test"), ("secret", "hush-hush")]);
            vault.put("other", "aws", &[("id", "test"), ("secret", "hush-hush")]);
            let name = server.prefix();
            places.push(Self {
                account: sqs(server.endpoint()),
                brokers: brokers(&vault, "one"),
                vault,
                queue: queue(name.strip_prefix("asya-").unwrap(), "team"),
            });
        }
        places
    }

    fn transport(&self) -> Transport {
        transport(Broker::Sqs(self.account.clone()))
    }
}

#[tokio::test]
async fn a_queue_lives_from_its_first_actor_to_its_last() {
    for place in Place::all().await {
        let transport = place.transport();
        assert_eq!(
            place.brokers.ensure(&transport, &place.queue).await.unwrap(),
            Ensured::Created
        );
        assert_eq!(
            place.brokers.ensure(&transport, &place.queue).await.unwrap(),
            Ensured::Present
        );
        let depth = place.brokers.depth(&transport, &place.queue).await.unwrap();
        assert_eq!(
            depth,
            QueueDepth {
                queued: 0,
                processing: Some(0)
            }
        );

        let other = brokers(&place.vault, "two");
        let shared = QueueSpec {
            namespace: "other".into(),
            ..place.queue.clone()
        };
        assert_eq!(other.ensure(&transport, &shared).await.unwrap(), Ensured::Present);
        let deleted = place
            .brokers
            .release(&transport, &place.queue, DeletionPolicy::Delete)
            .await
            .unwrap();
        assert!(
            matches!(&deleted, Deleted::Kept(text) if text.contains("another cluster")),
            "{deleted:?}"
        );
        let deleted = other
            .release(&transport, &shared, DeletionPolicy::DeleteIfEmpty)
            .await
            .unwrap();
        assert_eq!(deleted, Deleted::Gone);
    }
}

#[tokio::test]
async fn the_visibility_timeout_follows_from_the_length_of_a_call_unless_it_is_configured() {
    for place in Place::all().await {
        let mut account = place.account.clone();
        let mut differs = async |configured, processing| {
            // Without leave to change anything, the answer says what is expected.
            account.visibility_timeout = configured;
            account.queues.auto_create = false;
            let queue = QueueSpec {
                processing_seconds: processing,
                ..place.queue.clone()
            };
            match place
                .brokers
                .ensure(&transport(Broker::Sqs(account.clone())), &queue)
                .await
                .unwrap()
            {
                Ensured::Drifted(text) => text,
                other => format!("{other:?}"),
            }
        };
        place
            .brokers
            .ensure(&place.transport(), &place.queue)
            .await
            .unwrap();
        assert_eq!(differs(None, 400).await, "Present");
        assert_eq!(differs(None, 10).await, "VisibilityTimeout is 800, expected 300");
        assert_eq!(
            differs(Some(7), 400).await,
            "VisibilityTimeout is 800, expected 7"
        );
        assert_eq!(
            differs(None, 40_000).await,
            "VisibilityTimeout is 800, expected 43200"
        );
    }
}

#[tokio::test]
async fn the_dead_letters_of_all_actors_are_nobodys_to_take() {
    for place in Place::all().await {
        let shared = queue("dlq", "team");
        place
            .brokers
            .ensure(&place.transport(), &place.queue)
            .await
            .unwrap();
        let error = place
            .brokers
            .ensure(&place.transport(), &shared)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("asya-dlq") && error.contains("rename"), "{error}");
        let policy = DeletionPolicy::Delete;
        let deleted = place
            .brokers
            .release(&place.transport(), &shared, policy)
            .await
            .unwrap();
        assert!(matches!(deleted, Deleted::Kept(_)), "{deleted:?}");
        assert_eq!(
            place
                .brokers
                .release(&place.transport(), &place.queue, policy)
                .await
                .unwrap(),
            Deleted::Gone
        );
        // It is still there to be pointed at.
        let mut account = place.account.clone();
        account.queues.auto_create = false;
        let watching = QueueSpec {
            name: "asya-dlq".into(),
            ..queue("watching", "team")
        };
        let depth = place
            .brokers
            .depth(&transport(Broker::Sqs(account)), &watching)
            .await
            .unwrap();
        assert_eq!(depth.queued, 0);
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_without_secrets() {
    for place in Place::all().await {
        let stranger = QueueSpec {
            namespace: "nobody".into(),
            ..place.queue.clone()
        };
        let error = place
            .brokers
            .ensure(&place.transport(), &stranger)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, QueueError::Credentials(_)), "{error:?}");
        assert!(
            text.contains(r#"Secret "aws""#) && text.contains(r#"namespace "nobody""#),
            "{text}"
        );

        let mut account = place.account.clone();
        account.queues.auto_create = false;
        let error = place
            .brokers
            .ensure(&transport(Broker::Sqs(account)), &place.queue)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&place.queue.name) && text.contains("autoCreate"),
            "{text}"
        );

        let mut account = place.account.clone();
        account.region.clear();
        let error = place
            .brokers
            .ensure(&transport(Broker::Sqs(account)), &place.queue)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("`region`"), "{error}");
    }
}
