//! What the gateway counts.

use std::time::{Duration, Instant};

use asya_gateway::core::ReportSource;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::world::{PATIENCE, World, anybody, call, keyed, progress, running, say, submit, success};

/// One thread, so that the recorder of this test sees everything of it and nothing else.
#[tokio::test]
async fn everything_that_is_documented_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let world = World::new().await;
    let gateway = world.gateway().await;

    let id = running(&gateway).await;
    submit(&gateway, keyed("free", "{}", "k")).await.unwrap();
    submit(&gateway, keyed("free", "{}", "k")).await.unwrap();
    submit(&gateway, call("lost", "{}")).await.unwrap_err();
    submit(&gateway, call("none", "{}")).await.unwrap_err();
    let watch = gateway.watch(&anybody(), &id, None).await.unwrap();
    let reports = vec![
        progress(&id, 0, asya_gateway_store::Phase::Received),
        success("unknown", "1"),
    ];
    gateway.report(ReportSource::Grpc, reports).await.unwrap();
    say(&gateway, vec![success(&id, "1"), success(&id, "1")]).await;
    let second = running(&gateway).await;
    gateway.cancel(&anybody(), &second, "").await.unwrap();

    let expected = [
        r#"asya_gateway_submits_total{tool="free",result="created"} 3"#,
        r#"asya_gateway_submits_total{tool="free",result="repeated"} 1"#,
        r#"asya_gateway_submits_total{tool="lost",result="unroutable"} 1"#,
        r#"asya_gateway_submits_total{tool="",result="unknown_tool"} 1"#,
        r#"asya_gateway_publishes_total{result="published"} 3"#,
        r#"asya_gateway_publishes_total{result="unroutable"} 1"#,
        r#"asya_gateway_reports_total{source="grpc",result="changed"} 1"#,
        r#"asya_gateway_reports_total{source="grpc",result="unknown"} 1"#,
        r#"asya_gateway_reports_total{source="http",result="changed"} 1"#,
        r#"asya_gateway_reports_total{source="http",result="nothing"} 1"#,
        r#"asya_gateway_reports_total{source="gateway",result="changed"} 1"#,
        r#"asya_gateway_envelopes_finished_total{outcome="succeeded"} 1"#,
        r#"asya_gateway_envelopes_finished_total{outcome="failed"} 1"#,
        r#"asya_gateway_envelopes_finished_total{outcome="cancelled"} 1"#,
        r#"asya_gateway_watchers{kind="envelope"} 1"#,
        "asya_gateway_outbox_waiting 0",
        "asya_gateway_outbox_oldest_seconds 0",
        "asya_gateway_leads 1",
    ];
    let start = Instant::now();
    // What the background does is counted a little later.
    while let Some(missing) = expected
        .iter()
        .find(|line| !handle.render().lines().any(|found| found == **line))
    {
        assert!(
            start.elapsed() < PATIENCE,
            "{missing} is not in\n{}",
            handle.render()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(watch);
    assert!(
        handle
            .render()
            .contains("asya_gateway_watchers{kind=\"envelope\"} 0")
    );
}
