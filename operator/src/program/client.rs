//! The client of the API server: where its address comes from, and counting what it asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use futures::future::BoxFuture;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{Layer, Service};

use super::metrics::REST_CLIENT_REQUESTS;

/// Watches are answered at least this often, with a bookmark or an end; whoever stays silent for longer is gone.
const SILENCE: Duration = Duration::from_secs(295);
/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// Where the API server is, and how to be let in. As the original looks for it: `--kubeconfig`, `KUBECONFIG`, the pod's
/// service account, `~/.kube/config`.
///
/// # Errors
/// One line that says what was looked for and what to do.
pub(super) async fn config(flag: Option<&Path>) -> Result<Config, String> {
    let mut config = find(flag).await?;
    config.connect_timeout = Some(CONNECTING);
    config.read_timeout = Some(SILENCE);
    Ok(config)
}

async fn find(flag: Option<&Path>) -> Result<Config, String> {
    if let Some(path) = flag {
        let read = Kubeconfig::read_from(path);
        return load(read, "--kubeconfig").await;
    }
    if std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty()) {
        let read =
            Kubeconfig::from_env().and_then(|read| read.ok_or(kube::config::KubeconfigError::FindPath));
        return load(read, "KUBECONFIG").await;
    }
    let in_cluster = match Config::incluster() {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    match home().filter(|path| path.exists()) {
        Some(path) => load(Kubeconfig::read_from(&path), "~/.kube/config").await,
        None => Err(format!(
            "no Kubernetes cluster is known: there is no service account of a pod ({in_cluster}), no ~/.kube/config, \
             and neither --kubeconfig nor KUBECONFIG names a file; set one of them, or look at manifests without a \
             cluster with --dry-run PATH"
        )),
    }
}

fn home() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(Path::new(&home).join(".kube/config"))
}

async fn load(
    read: Result<Kubeconfig, kube::config::KubeconfigError>,
    source: &str,
) -> Result<Config, String> {
    let cannot = |error| format!("{source}: the kubeconfig cannot be used: {}", causes(&error));
    let kubeconfig = read.map_err(cannot)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(cannot)
}

/// An error with all that caused it, in one line and without saying a thing twice.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text.replace('\n', " ")
}

/// A client that counts its requests.
///
/// # Errors
/// One line, of a certificate or an authentication that cannot be used.
pub(super) fn client(config: Config) -> Result<Client, String> {
    let host = config
        .cluster_url
        .authority()
        .map(ToString::to_string)
        .unwrap_or_default();
    let builder = ClientBuilder::try_from(config)
        .map_err(|error| format!("no client of the API server can be made: {}", causes(&error)))?;
    Ok(builder
        .with_layer(&Counting {
            host: Arc::from(host),
        })
        .build())
}

/// Counts requests as client-go does: `rest_client_requests_total{code,method,host}`.
#[derive(Debug, Clone)]
struct Counting {
    host: Arc<str>,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            host: Arc::clone(&self.host),
        }
    }
}

/// A client whose requests are counted.
#[derive(Debug, Clone)]
struct Counted<S> {
    inner: S,
    host: Arc<str>,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.method().to_string();
        let host = Arc::clone(&self.host);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or_else(
                |_| "<error>".to_owned(),
                |answer| answer.status().as_u16().to_string(),
            );
            metrics::counter!(REST_CLIENT_REQUESTS, "code" => code, "method" => method, "host" => host.to_string())
                .increment(1);
            answer
        })
    }
}
