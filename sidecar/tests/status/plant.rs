//! A gateway with a tool, the three actors behind it, and a proxy between them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use asya_gateway::auth::Caller;
use asya_gateway::core::{Gateway, ToolBook, ToolCall};
use asya_gateway::life::Server;
use asya_gateway::settings::Settings;
use asya_gateway_store::{Record, View};
use asya_runtime_protocol::{Handler, RawJson};
use asya_sidecar::gateway::{GatewayAddress, GatewayOptions, GatewayReporter};
use asya_sidecar::{Config, Role, Sidecar};
use asya_tests::Proxy;
use bytes::Bytes;
use tempfile::TempDir;

use crate::common::{House, PATIENCE, Runtime, echo, wait_for};

const TOOLS: &str = "
tools:
  - name: job
    description: Does it.
    parameters:
      number:
        type: integer
    route: [work]
";

/// One sidecar with what belongs to it.
pub struct Post {
    pub sidecar: Sidecar,
    pub reporter: Arc<GatewayReporter>,
    runtime: Runtime,
}

pub struct Plant {
    pub house: House,
    pub proxy: Proxy,
    pub work: Post,
    pub happy_end: Post,
    pub error_end: Post,
    server: Option<Server>,
    port: u16,
    directory: TempDir,
}

impl Plant {
    /// Actors `work`, with this handler, and both ends.
    pub async fn start(handler: impl Handler) -> Self {
        let house = House::new();
        house.declare(&["work", "sink"]).await;
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("tools.yaml"), TOOLS).expect("writes");
        let server = serve(directory.path(), &house, 0).await;
        let port = server.address().port();
        let proxy = Proxy::before(port).await;
        let work = Post::start(&house, &proxy, "work", Role::Step, handler).await;
        let happy_end = Post::start(&house, &proxy, "happy-end", Role::HappyEnd, echo).await;
        let error_end = Post::start(&house, &proxy, "error-end", Role::ErrorEnd, echo).await;
        for post in [&work, &happy_end, &error_end] {
            wait_for("reports to go over gRPC", async || post.reporter.figures().grpc).await;
        }
        Self {
            house,
            proxy,
            work,
            happy_end,
            error_end,
            server: Some(server),
            port,
            directory,
        }
    }

    pub fn gateway(&self) -> &Gateway {
        self.server.as_ref().expect("it serves").gateway()
    }

    /// Ends the gateway in good order and starts it again on the same database and port.
    pub async fn restart_gateway(&mut self) {
        let server = self.server.take().expect("it serves");
        server.close().await;
        self.server = Some(serve(self.directory.path(), &self.house, self.port).await);
    }

    /// Calls the tool; returns the envelope's id.
    pub async fn call(&self, number: u64) -> String {
        let arguments = format!(r#"{{"number":{number}}}"#);
        let call = ToolCall {
            tool: "job".into(),
            arguments: RawJson::parse(Bytes::from(arguments)).ok(),
            idempotency_key: None,
            headers: None,
        };
        let submitted = self.gateway().submit(&Caller::anonymous(), call).await;
        submitted.expect("submitted").record.id
    }

    pub async fn record(&self, id: &str) -> Record {
        let got = self.gateway().get(&Caller::anonymous(), id, View::Full).await;
        got.expect("it is known")
    }

    /// The envelope once it is final. A child may become known later than its parent ends: other sidecars tell that.
    pub async fn ended(&self, id: &str) -> Record {
        wait_for(&format!("{id} to be known"), async || {
            let got = self.gateway().get(&Caller::anonymous(), id, View::Basic).await;
            got.is_ok()
        })
        .await;
        let record = self.gateway().wait(&Caller::anonymous(), id, PATIENCE).await;
        let record = record.expect("it is known");
        assert!(record.status.is_final(), "{record:?}");
        record
    }

    pub async fn nothing_is_left(&self) {
        for actor in ["work", "happy-end", "error-end"] {
            self.house.wait_empty(actor).await;
        }
    }

    pub async fn end(self) {
        for post in [self.work, self.happy_end, self.error_end] {
            post.sidecar.drain(PATIENCE).await;
            post.reporter.close(PATIENCE).await;
            post.runtime.stop().await;
        }
        if let Some(server) = self.server {
            server.close().await;
        }
    }
}

async fn serve(directory: &Path, house: &House, port: u16) -> Server {
    let tools = ToolBook::open(&directory.join("tools.yaml")).expect("good tools");
    let settings = Settings::embedded(directory, port, Arc::clone(&house.transport), tools);
    Server::start(settings).await.expect("serves")
}

impl Post {
    async fn start(house: &House, proxy: &Proxy, actor: &str, role: Role, handler: impl Handler) -> Self {
        let config: Config = house.config(actor, role);
        let runtime = Runtime::start(&config.socket_dir, handler);
        let address = format!("http://127.0.0.1:{}", proxy.port);
        let mut options = GatewayOptions::new(GatewayAddress::parse(&address).expect("a URL"));
        options.progress_rate = None;
        options.progress_age = Duration::from_mins(10);
        options.probe_every = Duration::from_millis(200);
        options.actor = actor.into();
        let reporter = Arc::new(GatewayReporter::start(options).expect("a reporter"));
        let sidecar = Sidecar::builder(config, Arc::clone(&house.transport))
            .reporter(Arc::clone(&reporter) as _)
            .start()
            .await
            .expect("the sidecar starts");
        Self {
            sidecar,
            reporter,
            runtime,
        }
    }
}
