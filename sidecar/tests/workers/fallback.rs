//! Which protocol is spoken: every kind of sidecar with every kind of runtime.

use asya_runtime_protocol::{Protocols, ServerOptions, serve};
use asya_sidecar::{Protocol, Role};
use tokio_util::sync::CancellationToken;

use crate::common::{House, PATIENCE, echo, envelope, start};
use crate::python::Bench;

const ECHO: &str = "def run(payload):\n    return payload\n";

#[tokio::test]
async fn a_python_runtime_serves_old_and_new_sidecars() {
    for (protocol, workers) in [(Protocol::V1, 0), (Protocol::Auto, 1)] {
        let bench = Bench::with(protocol, ECHO, &[]).await;
        bench.send("e", "12345678901234567890").await;
        let sidecar = bench.sidecar().await;
        sidecar.ready().await;
        let results = bench.results().await;
        assert_eq!(results.len(), 1);
        assert_eq!(
            results[0].envelope().payload.unwrap().as_str(),
            "12345678901234567890"
        );
        assert_eq!(sidecar.snapshot().workers, workers);
        bench.done(sidecar).await;
    }
}

#[tokio::test]
async fn a_native_runtime_old_or_new_serves_old_and_new_sidecars() {
    let both = ServerOptions::new("").protocols;
    for (protocol, protocols, workers) in [
        (Protocol::V1, both, 0),
        (Protocol::Auto, both, 1),
        (Protocol::V1, Protocols::V1Only, 0),
        (Protocol::Auto, Protocols::V1Only, 0),
    ] {
        let house = House::with(protocol);
        house.declare(&["work", "sink"]).await;
        let config = house.config("work", Role::Step);
        let options = ServerOptions {
            protocols,
            ..ServerOptions::new(&config.socket_dir)
        };
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(options, echo, stop.clone().cancelled_owned()));
        let sidecar = start(&house, config).await;
        house.publish("work", envelope("e", &["work", "sink"], "1")).await;
        house.take("sink", 1).await;
        assert_eq!(
            sidecar.snapshot().workers,
            workers,
            "{protocol:?} with {protocols:?}"
        );
        assert_eq!(sidecar.drain(PATIENCE).await.returned, 0);
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}

/// A runtime of before whose directory still holds the line of a newer one that was killed.
#[tokio::test]
async fn an_offer_that_nobody_keeps_leads_to_v1() {
    let house = House::new();
    house.declare(&["work", "sink"]).await;
    let config = house.config("work", Role::Step);
    let options = ServerOptions {
        protocols: Protocols::V1Only,
        ..ServerOptions::new(&config.socket_dir)
    };
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(options, echo, stop.clone().cancelled_owned()));
    let file = config.socket_dir.join("runtime-ready");
    crate::common::wait_for("the ready file", async || file.exists()).await;
    std::fs::write(&file, "ready\nv2 asya-runtime.sock.v2 0123456789abcdef\n").unwrap();
    let sidecar = start(&house, config).await;
    house.publish("work", envelope("e", &["work", "sink"], "1")).await;
    house.take("sink", 1).await;
    assert_eq!(sidecar.snapshot().workers, 0);
    assert_eq!(sidecar.drain(PATIENCE).await.returned, 0);
    stop.cancel();
    server.await.unwrap().unwrap();
}
