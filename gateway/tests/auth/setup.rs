//! A guarded server that tells who it thinks is asking.

use std::net::SocketAddr;
use std::sync::Arc;

use asya_gateway::auth::{Auth, Caller, Role, guard};
use axum::routing::any;
use axum::{Extension, Router};

/// Where it listens, and how to ask it.
pub(crate) struct Guarded {
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }
}

impl Guarded {
    pub(crate) async fn start(auth: Auth) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        let router = guard(Router::new().fallback(any(who)), Arc::new(auth));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            client: reqwest::Client::new(),
        }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let url = format!("http://{}{path}", self.address);
        let mut request = self.client.request(method.parse().expect("a method"), url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer");
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.expect("a body"),
        }
    }

    /// Asks with a token.
    pub(crate) async fn ask_as(&self, method: &str, path: &str, token: &str) -> Answer {
        self.ask(method, path, &[("authorization", &format!("Bearer {token}"))])
            .await
    }
}

async fn who(Extension(caller): Extension<Caller>) -> String {
    let roles: Vec<_> = [
        (Role::Client, "client"),
        (Role::Sidecar, "sidecar"),
        (Role::Operator, "operator"),
    ]
    .into_iter()
    .filter_map(|(role, word)| caller.is(role).then_some(word))
    .collect();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    format!(
        "{} {} {}",
        or_none(caller.name),
        or_none(caller.tenant),
        roles.join(",")
    )
}
