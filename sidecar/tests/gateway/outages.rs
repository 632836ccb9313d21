//! Gateways that are away, slow or lie: messages move on, memory stays bounded, everything is counted.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::{Envelope, Route};
use asya_sidecar::gateway::{GatewayFigures, GatewayOptions, GatewayReporter};
use asya_sidecar::{Event, Progress, Reporter as _};

use crate::Scene;
use crate::common::{echo, envelope, wait_for};
use crate::server::{Gateway, Reply};

const MESSAGES: usize = 60;

fn accounted(figures: &GatewayFigures) -> u64 {
    figures.progress_sent + figures.progress_refused + figures.progress_failed + figures.progress_dropped
}

/// All messages come through and every report is accounted for, whatever the gateway does.
async fn messages_move_on(options: GatewayOptions) -> GatewayFigures {
    let scene = Scene::step(options, echo).await;
    for n in 0..MESSAGES {
        scene
            .house
            .publish("work", envelope(&format!("id-{n}"), &["work", "sink"], "1"))
            .await;
    }
    scene.house.take("sink", MESSAGES).await;
    scene.house.wait_empty("work").await;
    let reporter = Arc::clone(&scene.reporter);
    let (_, drained) = scene.end().await;
    assert_eq!(drained.returned, 0);
    let figures = reporter.figures();
    assert_eq!(accounted(&figures), 3 * MESSAGES as u64, "{figures:?}");
    assert_eq!(figures.waiting, 0);
    figures
}

#[tokio::test]
async fn messages_move_on_whatever_the_gateway_does() {
    for reply in [
        Reply::Never,
        Reply::ByteByByte,
        Reply::Garbage,
        Reply::HangUp,
        Reply::Elsewhere,
        Reply::Status(429),
        Reply::Status(401),
        Reply::Status(503),
    ] {
        let gateway = Gateway::start(move |_| reply).await;
        let mut options = gateway.options();
        options.request_timeout = Duration::from_millis(200);
        let figures = messages_move_on(options).await;
        assert_eq!(figures.progress_sent, 0, "{reply:?}");
        assert!(figures.away, "{reply:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_not_there_costs_no_message_and_no_start() {
    let gateway = Gateway::absent().await;
    let figures = messages_move_on(gateway.options()).await;
    assert_eq!(figures.progress_sent, 0);
    assert!(figures.away);
}

#[tokio::test]
async fn odd_answers_with_a_good_status_count_as_good() {
    for reply in [Reply::TooShort, Reply::Endless, Reply::Status(204)] {
        let gateway = Gateway::start(move |_| reply).await;
        let figures = messages_move_on(gateway.options()).await;
        assert!(figures.progress_sent > 0, "{reply:?}: {figures:?}");
        assert_eq!((figures.progress_failed, figures.away), (0, false), "{reply:?}");
    }
}

#[tokio::test]
async fn envelopes_that_the_gateway_does_not_know_are_no_outage() {
    for status in [404, 500, 400] {
        let gateway = Gateway::start(move |_| Reply::Status(status)).await;
        let figures = messages_move_on(gateway.options()).await;
        assert!(
            figures.progress_refused > 0 && !figures.away,
            "{status}: {figures:?}"
        );
        assert_eq!(figures.progress_failed, 0);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let gateway = Gateway::start(|_| Reply::Elsewhere).await;
    messages_move_on(gateway.options()).await;
    assert!(
        gateway
            .told()
            .iter()
            .all(|request| !request.line.contains("elsewhere"))
    );
}

#[tokio::test]
async fn reports_go_on_once_the_gateway_is_back() {
    let mut gateway = Gateway::absent().await;
    let scene = Scene::step(gateway.options(), echo).await;
    wait_for("the outage to be noticed", async || scene.reporter.figures().away).await;
    gateway.appear(|_| Reply::Status(200)).await;
    let mut sent = 0;
    wait_for("reports to come again", async || {
        let message = envelope(&format!("id-{sent}"), &["work", "sink"], "1");
        scene.house.publish("work", message).await;
        sent += 1;
        gateway.told().len() >= 3
    })
    .await;
    assert!(!scene.reporter.figures().away);
    scene.end().await;
}

fn received(id: String) -> Progress {
    Progress {
        actor: "work".into(),
        envelope: Arc::new(Envelope {
            id,
            route: Route::new(["work"]),
            ..Envelope::default()
        }),
        event: Event::Received { bytes: 1 },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_while_a_gateway_hangs_and_nothing_goes_uncounted() {
    const REPORTS: u64 = 50_000;
    let gateway = Gateway::start(|_| Reply::Never).await;
    let mut options = gateway.options();
    options.max_waiting = 800;
    options.request_timeout = Duration::from_mins(1);
    let reporter = GatewayReporter::start(options).expect("a reporter");
    wait_for("the health check", async || gateway.health_checks() == 1).await;
    for n in 0..REPORTS {
        reporter.progress(received(format!("id-{n}")));
        if n % 1000 == 0 {
            assert!(reporter.figures().waiting <= 800);
        }
    }
    let figures = reporter.figures();
    assert!(figures.waiting > 0 && figures.waiting <= 800, "{figures:?}");
    let under_way = 8;
    assert!(figures.progress_dropped + figures.waiting as u64 + under_way >= REPORTS);
    // The grace is short and the gateway never answers: the rest is counted as dropped, what was under way is cut.
    reporter.close(Duration::from_millis(50)).await;
    let figures = reporter.figures();
    assert_eq!(figures.waiting, 0);
    assert!(figures.progress_dropped + under_way >= REPORTS, "{figures:?}");
}

#[tokio::test]
async fn progress_is_paced_and_the_rest_is_counted() {
    let gateway = Gateway::friendly().await;
    let mut options = gateway.options();
    options.progress_rate = NonZeroU32::new(1);
    let reporter = GatewayReporter::start(options).expect("a reporter");
    for n in 0..1000 {
        reporter.progress(received(format!("id-{n}")));
    }
    reporter.close(Duration::from_secs(20)).await;
    let figures = reporter.figures();
    assert_eq!(
        figures.progress_sent + figures.progress_dropped,
        1000,
        "{figures:?}"
    );
    assert_eq!(figures.progress_sent, gateway.told().len() as u64);
    assert!((1..100).contains(&figures.progress_sent), "{figures:?}");
}

#[tokio::test]
async fn what_is_too_old_is_not_sent() {
    let gateway = Gateway::friendly().await;
    let mut options = gateway.options();
    options.progress_age = Duration::ZERO;
    let figures = messages_move_on(options).await;
    assert_eq!(figures.progress_dropped, 3 * MESSAGES as u64);
    assert!(gateway.told().is_empty());
}
