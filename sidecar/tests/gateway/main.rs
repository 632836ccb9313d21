//! What a gateway is told, over real HTTP, and that whatever it does or does not do, messages move on.

#![cfg(feature = "gateway")]
#![expect(clippy::expect_used, reason = "a test fails where it stands")]
#![allow(unreachable_pub, reason = "one test program, several files")]

mod cancelling;
#[path = "../common/mod.rs"]
mod common;
mod finals;
mod outages;
mod progress;
mod server;
mod stage;
mod streams;
mod switching;

use std::sync::Arc;

use asya_runtime_protocol::Handler;
use asya_sidecar::gateway::{GatewayOptions, GatewayReporter};
use asya_sidecar::{Config, Drained, Role, Sidecar, SidecarBuilder};
use common::{House, PATIENCE, Runtime};

/// A sidecar of one actor that reports to a gateway.
struct Scene {
    house: House,
    reporter: Arc<GatewayReporter>,
    sidecar: Sidecar,
    runtime: Runtime,
}

impl Scene {
    /// An actor `work`, with a queue `sink` to send to.
    async fn step(options: GatewayOptions, handler: impl Handler) -> Self {
        Self::start("work", Role::Step, options, handler).await
    }

    /// The same with another configuration, and started in another way.
    async fn step_with(
        options: GatewayOptions,
        handler: impl Handler,
        configure: impl FnOnce(&mut Config),
        prepare: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        Self::build("work", Role::Step, options, handler, configure, prepare).await
    }

    async fn start(actor: &str, role: Role, options: GatewayOptions, handler: impl Handler) -> Self {
        Self::build(actor, role, options, handler, |_| {}, |tree| tree).await
    }

    async fn build(
        actor: &str,
        role: Role,
        options: GatewayOptions,
        handler: impl Handler,
        configure: impl FnOnce(&mut Config),
        prepare: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        let house = House::new();
        house.declare(&["work", "sink"]).await;
        let mut config = house.config(actor, role);
        configure(&mut config);
        let runtime = Runtime::start(&config.socket_dir, handler);
        let reporter = Arc::new(GatewayReporter::start(options).expect("a reporter"));
        let tree = Sidecar::builder(config, Arc::clone(&house.transport));
        let sidecar = prepare(tree.reporter(Arc::clone(&reporter) as _))
            .start()
            .await
            .expect("the sidecar starts");
        Self {
            house,
            reporter,
            sidecar,
            runtime,
        }
    }

    /// Ends everything in the order of the program, the queue excepted.
    async fn end(self) -> (House, Drained) {
        let drained = self.sidecar.drain(PATIENCE).await;
        self.reporter.close(PATIENCE).await;
        self.runtime.stop().await;
        (self.house, drained)
    }
}
