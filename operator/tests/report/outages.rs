//! A gateway that goes, comes, hangs, refuses, or is another program.

use std::time::Duration;

use asya_gateway::auth::{Auth, TokenDigest};
use asya_gateway::server::{self, ServerOptions};
use asya_operator::report::GatewayToken;
use asya_tests::Proxy;

use crate::log::Log;
use crate::stage::{Hub, Operator, all, options, until};

#[tokio::test]
async fn a_gateway_that_restarts_is_told_everything_again() {
    let mut hub = Hub::start().await;
    let operator = Operator::start(hub.options());
    for name in ["a", "b", "c"] {
        operator.sees(name, "before");
    }
    operator.synced();
    operator.done().await;
    hub.disappear().await;
    until("the break to be noticed", async || {
        !operator.reporter.progress().is_connected
    })
    .await;
    for name in ["a", "c", "d"] {
        operator.sees(name, "meanwhile");
    }
    operator.deletes("b");
    let away = operator.reporter.progress();
    assert_eq!((away.actors, away.unacknowledged), (3, 0));
    hub.appear().await;
    operator.done().await;
    assert_eq!(
        hub.told().await,
        all(&["a", "c", "d"], "meanwhile"),
        "what was deleted meanwhile is gone"
    );
}

#[tokio::test]
async fn a_broken_connection_is_made_anew_and_nothing_is_missed() {
    let hub = Hub::start().await;
    let proxy = Proxy::before(hub.address.port()).await;
    let operator = Operator::start(options(proxy.port));
    operator.synced();
    for round in 1..=5 {
        operator.sees("a", &round.to_string());
        operator.sees(&format!("only-{round}"), "here");
        operator.deletes(&format!("only-{}", round - 1));
        proxy.cut();
        until("a change to arrive", async || {
            let told = hub.told().await;
            told.len() == 2 && told[0].1 == round.to_string() && told[1].0 == format!("only-{round}")
        })
        .await;
    }
    assert!(proxy.accepted() > 1);
}

#[tokio::test]
async fn a_connection_that_hangs_is_given_up() {
    let hub = Hub::start().await;
    let proxy = Proxy::before(hub.address.port()).await;
    let mut options = options(proxy.port);
    options.request_timeout = Duration::from_millis(500);
    let operator = Operator::start(options);
    operator.sees("a", "1");
    operator.synced();
    operator.done().await;
    proxy.swallow();
    operator.sees("a", "2");
    until("the silence to be noticed", async || {
        operator.reporter.progress().streams > 1
    })
    .await;
    proxy.heal();
    until("the change to arrive", async || {
        hub.told().await == all(&["a"], "2")
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_is_long_away_costs_one_line_and_no_memory() {
    let (log, _listening) = Log::listen();
    let mut hub = Hub::absent(Auth::default()).await;
    let mut options = hub.options();
    options.longest_pause = Duration::from_millis(5);
    let operator = Operator::start(options);
    operator.synced();
    for round in 0..50 {
        for number in 0..20 {
            operator.sees(&format!("a{number}"), &round.to_string());
            operator.sees(&format!("gone-{round}-{number}"), "x");
            operator.deletes(&format!("gone-{round}-{number}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("the first warning", async || !log.lines().is_empty()).await;
    let away = operator.reporter.progress();
    assert_eq!((away.actors, away.waiting, away.unacknowledged), (20, 0, 0));
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("WARN") && lines[0].contains("cannot be told"),
        "{lines:?}"
    );
    hub.appear().await;
    operator.done().await;
    assert_eq!(hub.told().await.len(), 20);
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("INFO"), "{lines:?}");
}

#[tokio::test]
async fn a_refused_token_is_said_once_and_never_shown() {
    let (log, _listening) = Log::listen();
    let auth = || Auth {
        operators: Some(TokenDigest::of("right-token-of-the-operator")),
        ..Auth::default()
    };
    let hub = Hub::with(auth()).await;
    let mut refused = hub.options();
    refused.token = Some(GatewayToken::text("wrong-token-of-the-operator").unwrap());
    let operator = Operator::start(refused);
    operator.sees("a", "1");
    operator.synced();
    until("some tries", async || operator.reporter.progress().streams > 5).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("WARN") && lines[0].contains("ASYA_AUTH_OPERATOR_TOKEN"),
        "{lines:?}"
    );
    assert!(!lines[0].contains("wrong-token"), "{lines:?}");
    assert!(!operator.reporter.progress().is_connected);
    drop(operator);

    let mut accepted = hub.options();
    accepted.token = Some(GatewayToken::text("right-token-of-the-operator").unwrap());
    let operator = Operator::start(accepted);
    operator.sees("a", "1");
    operator.synced();
    operator.done().await;
    assert_eq!(hub.told().await, all(&["a"], "1"));
}

#[tokio::test]
async fn a_server_without_the_service_is_said_once() {
    let (log, _listening) = Log::listen();
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = server::serve(listener, axum::Router::new(), ServerOptions::default());
    let serving = tokio::spawn(serving);
    let operator = Operator::start(options(port));
    until("some tries", async || operator.reporter.progress().streams > 5).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("asya.status.v1.ActorStatus"), "{lines:?}");
    serving.abort();
}
