//! Brokers that refuse us, and brokers that are not there.

use std::time::Instant;

use asya_tests::Proxy;
use asya_transport::QueueName;
use asya_transport::keeping::{Ensured, KeepError, ReleaseMode, Released};
use asya_transport::rabbitmq::RabbitMqKeeper;
use tokio::time::Duration;

use super::{CLASSIC, Place, owner, read, wanted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_said_to_be_so_and_found_again() {
    let place = Place::new().await;
    let queue = QueueName::for_actor("x");
    let proxy = Proxy::before(place.broker.port).await;
    let mut options = place.options.clone();
    options.address.port = proxy.port;
    options.connect_timeout = Duration::from_secs(1);
    let keeper = RabbitMqKeeper::new(options).unwrap();
    keeper.ensure(&queue, &wanted("one", CLASSIC)).await.unwrap();
    // The connection that it has is lost in silence; the next use notices.
    proxy.cut();
    assert_eq!(keeper.ready(&queue).await.unwrap(), Some(0));
    proxy.swallow();
    proxy.cut();
    // Twenty at once wait for one attempt, not for twenty.
    let (started, accepted) = (Instant::now(), proxy.accepted());
    let asking = (0..20).map(|_| keeper.ready(&queue));
    for answer in futures::future::join_all(asking).await {
        let error = answer.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, KeepError::Refused(_)), "{error:?}");
        assert!(
            text.contains(&proxy.port.to_string()) && !text.contains("guest"),
            "{text}"
        );
    }
    let attempts = proxy.accepted() - accepted;
    assert!(attempts < 10, "{attempts} attempts for twenty questions");
    proxy.heal();
    loop {
        // A failed attempt answers for all who ask for a moment.
        if keeper.ready(&queue).await.is_ok() {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "it is not found again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        keeper.ensure(&queue, &wanted("one", CLASSIC)).await.unwrap(),
        Ensured::Present
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_a_login_error_without_the_password() {
    let place = Place::new().await;
    let mut options = place.options.clone();
    options.address.password = "hush-hush".into();
    let keeper = RabbitMqKeeper::new(options).unwrap();
    let error = keeper.ready(&QueueName::for_actor("x")).await.unwrap_err();
    assert!(matches!(error, KeepError::Login(_)), "{error:?}");
    assert!(!format!("{error} {error:?} {keeper:?}").contains("hush-hush"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_password_and_virtual_host_will_do() {
    let place = Place::new().await;
    let password = "p@ss/w:rd#?%&+ \u{fc}";
    place.broker.manage(
        "PUT",
        "/api/users/special",
        &format!(r#"{{"password": "{password}", "tags": ""}}"#),
    );
    place.broker.manage("PUT", "/api/vhosts/team%2Fone%20%25", "{}");
    let rights = r#"{"configure": ".*", "write": ".*", "read": ".*"}"#;
    place
        .broker
        .manage("PUT", "/api/permissions/team%2Fone%20%25/special", rights);
    let mut options = place.options.clone();
    options.address.user = "special".into();
    options.address.password = password.into();
    options.address.vhost = "team/one %".into();
    let keeper = RabbitMqKeeper::new(options).unwrap();
    let queue = QueueName::for_actor("x");
    assert_eq!(
        keeper.ensure(&queue, &wanted("one", CLASSIC)).await.unwrap(),
        Ensured::Created
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_declare_nothing_uses_what_is_there_and_deletes_nothing() {
    let place = Place::new().await;
    let queue = QueueName::for_actor("x");
    place.ensure(&queue, &wanted("one", CLASSIC)).await;
    place
        .broker
        .manage("PUT", "/api/users/modest", r#"{"password": "x", "tags": ""}"#);
    let rights = r#"{"configure": "^$", "write": "^$", "read": ".*"}"#;
    place
        .broker
        .manage("PUT", &format!("/api/permissions/{}/modest", place.vhost), rights);
    let mut options = place.options.clone();
    options.address.user = "modest".into();
    options.address.password = "x".into();
    let keeper = RabbitMqKeeper::new(options).unwrap();
    let ensured = keeper.ensure(&queue, &wanted("two", CLASSIC)).await.unwrap();
    assert_eq!(ensured, Ensured::Present);
    assert_eq!(keeper.ready(&queue).await.unwrap(), Some(0));
    let released = keeper
        .release(&queue, &owner("two"), ReleaseMode::IfEmpty, &read(CLASSIC), true)
        .await
        .unwrap();
    assert!(
        matches!(&released, Released::Kept(text) if text.contains("modest")),
        "{released:?}"
    );
    let missing = QueueName::for_actor("missing");
    let error = keeper
        .ensure(&missing, &wanted("two", CLASSIC))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ACCESS_REFUSED"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_queue_can_have_is_refused_in_words() {
    let place = Place::new().await;
    let queue = QueueName::for_actor(&"x".repeat(300));
    let error = place
        .keeper
        .ensure(&queue, &wanted("one", CLASSIC))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("255"), "{error}");
}
