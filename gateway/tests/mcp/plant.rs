//! A gateway with its store, its queue, its listener and its actors, gone when it is dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asya_gateway::auth::{Auth, Caller, OriginPolicy, guard};
use asya_gateway::core::{Gateway, GatewayOptions, Patience, ToolBook};
use asya_gateway::mcp::{McpOptions, router};
use asya_gateway::server::{ServerOptions, serve};
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_gateway_store::{Record, Store, View};
use asya_transport::local::{LocalOptions, LocalTransport};
use tokio_util::sync::CancellationToken;

use crate::actors::{Actors, replace};
use crate::client::Client;

/// The tools that most tests use; see `actors` for what the actors do.
pub(crate) const TOOLS: &str = include_str!("tools.yaml");

pub(crate) struct Plant {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: Gateway,
    directory: Arc<tempfile::TempDir>,
    stop: CancellationToken,
    _actors: Option<Actors>,
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Plant {
    pub(crate) async fn start() -> Self {
        Self::with(McpOptions::default()).await
    }

    pub(crate) async fn with(options: McpOptions) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(directory.path().join("tools.yaml"), TOOLS).unwrap();
        Self::launch(directory, options, true, None).await
    }

    /// Everybody who asks belongs to this tenant.
    pub(crate) async fn of_tenant(&self, tenant: &str) -> Self {
        let caller = Caller {
            tenant: Some(tenant.to_owned()),
            ..Caller::anonymous()
        };
        let directory = Arc::clone(&self.directory);
        Self::launch(directory, McpOptions::default(), false, Some(caller)).await
    }

    /// Another replica on the same store and queue.
    pub(crate) async fn beside(&self) -> Self {
        let directory = Arc::clone(&self.directory);
        Self::launch(directory, McpOptions::default(), false, None).await
    }

    async fn launch(
        directory: Arc<tempfile::TempDir>,
        mcp: McpOptions,
        actors: bool,
        caller: Option<Caller>,
    ) -> Self {
        // Any number of clients may ask for TLS first; the second time is refused and need not be looked at.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let path = directory.path();
        let store: Arc<dyn Store> = Arc::new(
            SqliteStore::open(path.join("gateway.db"), SqliteOptions::default())
                .await
                .unwrap(),
        );
        let transport =
            Arc::new(LocalTransport::open(&path.join("queue"), &LocalOptions::default()).unwrap());
        let mut options = GatewayOptions::new(
            store,
            Arc::<LocalTransport>::clone(&transport),
            ToolBook::open(&tools(path)).unwrap(),
        );
        options.patience = Patience {
            tools: std::time::Duration::from_millis(50),
            ..Patience::default()
        };
        let gateway = Gateway::start(options).await;
        let actors = if actors {
            Some(Actors::start(&gateway, &transport, &tools(path)).await)
        } else {
            None
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = router(gateway.clone(), mcp);
        let routes = match caller {
            Some(caller) => routes.layer(axum::Extension(caller)),
            None => guard(routes, Arc::new(auth())),
        };
        let stop = CancellationToken::new();
        let server = ServerOptions {
            draining: stop.clone(),
            ..ServerOptions::default()
        };
        tokio::spawn(serve(listener, routes, server));
        Self {
            address,
            gateway,
            directory,
            stop,
            _actors: actors,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// A client of the stateless era.
    pub(crate) fn client(&self) -> Client {
        Client::stateless(self.url())
    }

    /// A client that has shaken hands.
    pub(crate) async fn old_client(&self) -> Client {
        Client::handshake(self.url(), "2025-11-25").await
    }

    /// An envelope as the store has it.
    pub(crate) async fn record(&self, id: &str) -> Record {
        self.gateway
            .get(&Caller::anonymous(), id, View::Full)
            .await
            .unwrap()
    }

    /// An envelope once it is final.
    pub(crate) async fn ended(&self, id: &str) -> Record {
        let limit = std::time::Duration::from_mins(1);
        let record = self.gateway.wait(&Caller::anonymous(), id, limit).await.unwrap();
        assert!(record.status.is_final(), "{id} is {}", record.status);
        record
    }

    /// The only envelope.
    pub(crate) async fn only(&self) -> Record {
        let page = asya_gateway_store::Page {
            size: 2,
            after: None,
            view: View::Full,
        };
        let filter = asya_gateway_store::Filter::default();
        let list = self
            .gateway
            .list(&Caller::anonymous(), filter, page)
            .await
            .unwrap();
        let [record] = <[Record; 1]>::try_from(list.records).unwrap();
        record
    }

    /// Replaces the tool file.
    pub(crate) fn write_tools(&self, content: &str) {
        replace(&tools(self.directory.path()), content);
    }
}

/// As a gateway on loopback has it by default.
fn auth() -> Auth {
    let origins = OriginPolicy {
        loopback_only: true,
        ..OriginPolicy::default()
    };
    Auth {
        origins,
        ..Auth::default()
    }
}

fn tools(directory: &Path) -> PathBuf {
    directory.join("tools.yaml")
}
