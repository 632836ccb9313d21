//! Keeping queues on stand-ins for SQS: what is made, what is changed in place, who may delete.
//!
//! The two stand-ins are not AWS; what they cannot show is said in `docs/transports/sqs.md`.
#![cfg(feature = "sqs")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use asya_tests::sqs::{Kind, Server};
use asya_transport::keeping::{Ensured, KeepError, QueueOwner, ReleaseMode, Released};
use asya_transport::sqs::{DeadLetter, SqsKeeper, SqsOptions, StaticKeys, Wanted};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;

/// A stand-in with a queue name of one's own.
struct Place {
    options: SqsOptions,
    keeper: SqsKeeper,
    client: Client,
    queue: String,
}

impl Place {
    /// One on each stand-in that is there.
    async fn all() -> Vec<Self> {
        let mut places = Vec::new();
        for kind in Kind::ALL {
            let server = tokio::task::spawn_blocking(move || Server::shared(kind))
                .await
                .unwrap();
            if let Some(server) = server {
                places.push(Self::on(server).await);
            }
        }
        places
    }

    async fn on(server: &Server) -> Self {
        let mut options = SqsOptions::new("eu-central-1");
        options.endpoint = Some(server.endpoint());
        options.keys = Some(StaticKeys {
            access_key_id: "test".into(),
            secret_access_key: "hush-hush".into(),
        });
        options.settling = Duration::ZERO;
        let credentials = aws_credential_types::Credentials::new("test", "test", None, None, "test");
        let loader = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("eu-central-1"))
            .credentials_provider(credentials)
            .endpoint_url(server.endpoint());
        Self {
            keeper: SqsKeeper::new(options.clone()),
            options,
            client: Client::new(&loader.load().await),
            queue: server.prefix(),
        }
    }

    fn wanted(&self, cluster: &str) -> Wanted {
        let labels = [("asya.sh/actor", "x"), ("asya.sh/namespace", "team")];
        Wanted {
            owner: owner(cluster),
            create: true,
            visibility_timeout: 600,
            dead_letter: Some(DeadLetter {
                queue: self.dead_letter(),
                receives: 3,
                retention: 86_400,
            }),
            labels: labels.map(|(key, value)| (key.into(), value.into())).into(),
            tags: BTreeMap::from([("cost".into(), "low".into())]),
        }
    }

    fn dead_letter(&self) -> String {
        format!("{}-dlq", self.queue)
    }

    async fn ensure(&self, wanted: &Wanted) -> Ensured {
        self.keeper.ensure(&self.queue, wanted).await.unwrap()
    }

    async fn release(&self, cluster: &str, mode: ReleaseMode) -> Released {
        let dead_letter = self.dead_letter();
        let owner = owner(cluster);
        let releasing = self.keeper.release(&self.queue, Some(&dead_letter), &owner, mode);
        releasing.await.unwrap()
    }

    async fn url(&self, queue: &str) -> String {
        let answer = self.client.get_queue_url().queue_name(queue).send().await;
        answer.unwrap().queue_url.unwrap()
    }

    async fn attributes(&self, queue: &str) -> HashMap<QueueAttributeName, String> {
        let asking = self
            .client
            .get_queue_attributes()
            .queue_url(self.url(queue).await);
        let answer = asking
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .unwrap();
        answer.attributes.unwrap()
    }

    async fn tags(&self) -> HashMap<String, String> {
        let asking = self
            .client
            .list_queue_tags()
            .queue_url(self.url(&self.queue).await);
        asking.send().await.unwrap().tags.unwrap_or_default()
    }

    async fn send(&self, queue: &str, text: &str) {
        let sending = self.client.send_message().queue_url(self.url(queue).await);
        sending.message_body(text).send().await.unwrap();
    }

    async fn total(&self) -> Option<u64> {
        self.keeper
            .depth(&self.queue)
            .await
            .unwrap()
            .map(|depth| depth.total())
    }
}

fn owner(cluster: &str) -> QueueOwner {
    QueueOwner {
        cluster: cluster.into(),
        namespace: "team".into(),
    }
}

fn kept(released: &Released, reason: &str) -> bool {
    matches!(released, Released::Kept(text) if text.contains(reason))
}

#[tokio::test]
async fn a_missing_queue_is_made_with_its_dead_letters_and_tags() {
    for place in Place::all().await {
        let wanted = place.wanted("one");
        assert_eq!(place.ensure(&wanted).await, Ensured::Created);
        assert_eq!(place.ensure(&wanted).await, Ensured::Present);
        let attributes = place.attributes(&place.queue).await;
        assert_eq!(attributes[&QueueAttributeName::VisibilityTimeout], "600");
        assert_eq!(attributes[&QueueAttributeName::MessageRetentionPeriod], "345600");
        let redrive = &attributes[&QueueAttributeName::RedrivePolicy];
        assert!(
            redrive.contains(&place.dead_letter()) && redrive.contains('3'),
            "{redrive}"
        );
        let dead = place.attributes(&place.dead_letter()).await;
        assert_eq!(dead[&QueueAttributeName::MessageRetentionPeriod], "86400");
        let expected = [
            ("asya.sh/actor", "x"),
            ("asya.sh/namespace", "team"),
            ("asya.sh/owner/one/team", "true"),
            ("cost", "low"),
        ];
        assert_eq!(
            place.tags().await,
            expected.map(|(key, value)| (key.into(), value.into())).into()
        );
    }
}

#[tokio::test]
async fn a_visibility_timeout_is_not_lowered_while_somebody_else_may_need_it() {
    for place in Place::all().await {
        let (mut long, short) = (place.wanted("one"), place.wanted("two"));
        long.visibility_timeout = 900;
        let shown =
            async || place.attributes(&place.queue).await[&QueueAttributeName::VisibilityTimeout].clone();
        place.ensure(&short).await;
        place.ensure(&long).await;
        assert_eq!(shown().await, "900", "longer harms nobody");
        assert_eq!(place.ensure(&short).await, Ensured::Present);
        assert_eq!(shown().await, "900");
        place.release("one", ReleaseMode::IfEmpty).await;
        place.ensure(&short).await;
        assert_eq!(shown().await, "600");
    }
}

#[tokio::test]
async fn attributes_and_tags_change_in_place_and_messages_stay() {
    for place in Place::all().await {
        let mut wanted = place.wanted("one");
        wanted.dead_letter = None;
        place.ensure(&wanted).await;
        place.send(&place.queue, "precious").await;
        let created = place.attributes(&place.queue).await[&QueueAttributeName::CreatedTimestamp].clone();

        let mut wanted = place.wanted("one");
        wanted.visibility_timeout = 900;
        wanted.tags.insert("cost".into(), "high".into());
        wanted.labels.insert("asya.sh/namespace".into(), "another".into());
        assert_eq!(place.ensure(&wanted).await, Ensured::Present);
        let attributes = place.attributes(&place.queue).await;
        assert_eq!(attributes[&QueueAttributeName::VisibilityTimeout], "900");
        assert!(attributes[&QueueAttributeName::RedrivePolicy].contains(&place.dead_letter()));
        assert_eq!(
            attributes[&QueueAttributeName::CreatedTimestamp],
            created,
            "the same queue"
        );
        assert_eq!(place.total().await, Some(1));
        let tags = place.tags().await;
        assert_eq!(tags["cost"], "high");
        assert_eq!(
            tags["asya.sh/namespace"], "team",
            "owners do not fight over a label"
        );
    }
}

#[tokio::test]
async fn without_leave_to_create_a_queue_is_only_looked_at() {
    for place in Place::all().await {
        let mut wanted = place.wanted("one");
        wanted.create = false;
        let error = place.keeper.ensure(&place.queue, &wanted).await.unwrap_err();
        assert_eq!(error, KeepError::Missing(place.queue.clone()));
        place
            .client
            .create_queue()
            .queue_name(&place.queue)
            .send()
            .await
            .unwrap();
        let found = place.ensure(&wanted).await;
        let text = "VisibilityTimeout is 30, expected 600";
        assert_eq!(found, Ensured::Drifted(text.into()));
        assert_eq!(
            place.attributes(&place.queue).await[&QueueAttributeName::VisibilityTimeout],
            "30"
        );
        assert_eq!(place.tags().await.get("asya.sh/owner/one/team").unwrap(), "true");
    }
}

#[tokio::test]
async fn the_last_owner_takes_the_queue_along_whatever_the_order() {
    for place in Place::all().await {
        for (first, second) in [("one", "two"), ("two", "one")] {
            place.ensure(&place.wanted("one")).await;
            assert_eq!(place.ensure(&place.wanted("two")).await, Ensured::Present);
            for mode in [ReleaseMode::IfEmpty, ReleaseMode::Always] {
                let released = place.release(first, mode).await;
                assert!(kept(&released, "another cluster"), "{released:?}");
            }
            assert_eq!(place.total().await, Some(0));
            assert_eq!(place.release(second, ReleaseMode::IfEmpty).await, Released::Gone);
            assert_eq!(place.total().await, None);
            assert_eq!(place.keeper.depth(&place.dead_letter()).await.unwrap(), None);
            assert_eq!(place.release(second, ReleaseMode::IfEmpty).await, Released::Gone);
        }
    }
}

#[tokio::test]
async fn a_queue_stays_while_it_holds_messages_of_any_kind() {
    for place in Place::all().await {
        place.ensure(&place.wanted("one")).await;
        place.send(&place.queue, "ready").await;
        let released = place.release("one", ReleaseMode::IfEmpty).await;
        assert!(kept(&released, "holds 1 message"), "{released:?}");
        let url = place.url(&place.queue).await;
        let received = place
            .client
            .receive_message()
            .queue_url(&url)
            .send()
            .await
            .unwrap();
        let depth = place.keeper.depth(&place.queue).await.unwrap().unwrap();
        assert_eq!((depth.ready, depth.unsettled), (0, 1));
        let released = place.release("one", ReleaseMode::IfEmpty).await;
        assert!(kept(&released, "holds 1 message"), "{released:?}");
        let handle = received.messages()[0].receipt_handle().unwrap();
        place
            .client
            .delete_message()
            .queue_url(&url)
            .receipt_handle(handle)
            .send()
            .await
            .unwrap();

        place.send(&place.dead_letter(), "dead").await;
        let released = place.release("one", ReleaseMode::IfEmpty).await;
        assert!(kept(&released, "-dlq holds 1 message"), "{released:?}");
        assert_eq!(place.release("one", ReleaseMode::Always).await, Released::Gone);
        assert_eq!(place.keeper.depth(&place.dead_letter()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_queue_is_deleted_only_after_it_was_empty_for_a_while() {
    for place in Place::all().await {
        place.ensure(&place.wanted("one")).await;
        let mut options = place.options.clone();
        options.settling = Duration::from_hours(1);
        let patient = SqsKeeper::new(options);
        let owner = owner("one");
        let release = async || {
            patient
                .release(&place.queue, None, &owner, ReleaseMode::IfEmpty)
                .await
                .unwrap()
        };
        for _ in 0..2 {
            let released = release().await;
            let text = "is empty, and is deleted when it has been so for 3600s";
            assert!(
                matches!(&released, Released::Later(reason) if reason.contains(text)),
                "{released:?}"
            );
        }
        let since = place.tags().await["asya.sh/empty-since"].clone();
        // A message in between starts the wait anew, and so does an actor that is back.
        place.send(&place.queue, "late").await;
        assert!(kept(&release().await, "holds 1 message"));
        assert!(!place.tags().await.contains_key("asya.sh/empty-since"));
        place
            .client
            .purge_queue()
            .queue_url(place.url(&place.queue).await)
            .send()
            .await
            .unwrap();
        release().await;
        place.ensure(&place.wanted("one")).await;
        assert!(!place.tags().await.contains_key("asya.sh/empty-since"));
        // The wait is over when the first look was long ago.
        release().await;
        let long_ago = since.parse::<u64>().unwrap() - 7200;
        let tagging = place.client.tag_queue().queue_url(place.url(&place.queue).await);
        tagging
            .tags("asya.sh/empty-since", long_ago.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(release().await, Released::Gone);
        assert_eq!(place.total().await, None);
    }
}

#[tokio::test]
async fn a_fifo_queue_gets_no_dead_letters_from_here() {
    for mut place in Place::all().await {
        place.queue += ".fifo";
        let wanted = place.wanted("one");
        assert_eq!(place.ensure(&wanted).await, Ensured::Created);
        assert_eq!(place.ensure(&wanted).await, Ensured::Present);
        let attributes = place.attributes(&place.queue).await;
        assert_eq!(attributes[&QueueAttributeName::FifoQueue], "true");
        assert!(
            !attributes.contains_key(&QueueAttributeName::RedrivePolicy),
            "{attributes:?}"
        );
    }
}

#[tokio::test]
async fn a_service_that_is_away_is_said_to_be_so_without_secrets() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut options = SqsOptions::new("eu-central-1");
    options.endpoint = Some(format!("http://127.0.0.1:{port}"));
    options.keys = Some(StaticKeys {
        access_key_id: "AKIDTEST".into(),
        secret_access_key: "hush-hush".into(),
    });
    options.attempt_timeout = Duration::from_millis(200);
    options.request_timeout = Duration::from_secs(1);
    // First it accepts and never answers, then nobody listens.
    let keeper = SqsKeeper::new(options.clone());
    let silent = keeper.depth("asya-x").await.unwrap_err();
    drop(listener);
    let keeper = SqsKeeper::new(options);
    let absent = keeper.depth("asya-x").await.unwrap_err();
    for error in [silent, absent] {
        let text = error.to_string();
        assert!(matches!(error, KeepError::Refused(_)), "{error:?}");
        assert!(
            text.contains(&port.to_string()) && text.contains("asya-x"),
            "{text}"
        );
        assert!(
            text.contains("endpoint") && !text.contains("hush") && !text.contains('\n'),
            "{text}"
        );
        assert!(!format!("{keeper:?}").contains("hush"));
    }
}
