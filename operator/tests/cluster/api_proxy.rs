//! A proxy before the real API server: counts every request, and refuses, cuts or delays those that a test names.
//!
//! It speaks plain HTTP to the operator and TLS to the server, and streams watches through. It runs on a thread of its
//! own, so that synchronous and asynchronous tests alike may use it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use asya_tests::kube::Cluster;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::oneshot;

/// Largest body that the API server itself takes.
const LARGEST: usize = 4 << 20;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answered with this code, as the API server words it; the server never sees it.
    Refuse(u16),
    /// Carried out by the server, but its answer is lost: the connection ends instead.
    LoseAnswer,
    /// Carried out after a wait.
    Delay(Duration),
}

/// For which requests, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// Part of the path with query.
    pub(crate) path: String,
    /// Only this method; all of them without.
    pub(crate) method: Option<Method>,
    /// What happens.
    pub(crate) fault: Fault,
    /// How many more requests it happens to.
    pub(crate) times: usize,
}

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Its method.
    pub(crate) method: Method,
    /// Its path with query.
    pub(crate) path: String,
    /// The code of the answer; `None` while there is none, or where it was lost.
    pub(crate) code: Option<u16>,
}

impl Seen {
    /// Whether it may have changed something. Renewing a lease and recording an event count too.
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
}

/// The proxy; ends when dropped.
pub(crate) struct ApiProxy {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ApiProxy {
    /// Starts before `cluster`.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let client = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .http1_only()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            upstream: format!("https://127.0.0.1:{}", cluster.port),
            client,
            rules: Mutex::default(),
            seen: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let router = axum::Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self {
            port,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A kubeconfig of an administrator that leads through here.
    pub(crate) fn kubeconfig(&self, cluster: &Cluster) -> String {
        cluster
            .kubeconfig_for("admin-token", self.port)
            .replace("https://", "http://")
    }

    /// Adds a rule; the first that fits a request counts.
    pub(crate) fn rule(&self, path: &str, method: Option<Method>, fault: Fault, times: usize) {
        let path = path.to_owned();
        self.shared.rules.lock().unwrap().push(Rule {
            path,
            method,
            fault,
            times,
        });
    }

    /// Forgets all rules.
    pub(crate) fn calm(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// All requests since the start or the last [`ApiProxy::forget`].
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Those that may have changed something.
    pub(crate) fn writes(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(Seen::is_write).collect()
    }

    /// Begins to count anew.
    pub(crate) fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn fault(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| {
            rule.times > 0
                && path.contains(&rule.path)
                && rule.method.as_ref().is_none_or(|wanted| wanted == method)
        })?;
        rule.times -= 1;
        Some(rule.fault)
    }

    fn note(&self, method: &Method, path: &str) -> usize {
        let mut seen = self.seen.lock().unwrap();
        seen.push(Seen {
            method: method.clone(),
            path: path.to_owned(),
            code: None,
        });
        seen.len() - 1
    }

    fn answered(&self, index: usize, code: u16) {
        // It may have been forgotten meanwhile.
        if let Some(seen) = self.seen.lock().unwrap().get_mut(index) {
            seen.code = Some(code);
        }
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().to_string());
    let index = shared.note(&method, &path);
    let fault = shared.fault(&method, &path);
    match fault {
        Some(Fault::Refuse(code)) => {
            shared.answered(index, code);
            return refusal(code);
        }
        Some(Fault::Delay(wait)) => tokio::time::sleep(wait).await,
        Some(Fault::LoseAnswer) | None => {}
    }
    let forwarded = forward(&shared, request).await;
    if fault == Some(Fault::LoseAnswer) {
        return cut();
    }
    match forwarded {
        Ok(answer) => {
            shared.answered(index, answer.status().as_u16());
            streamed(answer)
        }
        // The server is away: so are we.
        Err(_) => cut(),
    }
}

async fn forward(shared: &Shared, request: Request) -> reqwest::Result<reqwest::Response> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LARGEST).await.unwrap_or_default();
    let mut headers = parts.headers;
    headers.remove("host");
    headers.remove("content-length");
    shared
        .client
        .request(parts.method, format!("{}{}", shared.upstream, parts.uri))
        .headers(headers)
        .body(body)
        .send()
        .await
}

fn streamed(answer: reqwest::Response) -> Response {
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if !matches!(
            name.as_str(),
            "content-length" | "transfer-encoding" | "connection"
        ) {
            response = response.header(name, value);
        }
    }
    let chunks = futures::stream::try_unfold(answer, |mut answer| async move {
        Ok::<_, reqwest::Error>(answer.chunk().await?.map(|chunk| (chunk, answer)))
    });
    response.body(Body::from_stream(chunks)).unwrap()
}

/// An answer that breaks off before its body has begun: to a client the same as a lost connection.
fn cut() -> Response {
    let lost = futures::stream::once(async { Err::<&[u8], _>(std::io::Error::other("cut")) });
    let mut response = Response::new(Body::from_stream(lost));
    *response.status_mut() = StatusCode::OK;
    response
}

fn refusal(code: u16) -> Response {
    let (status, reason) = match code {
        409 => (StatusCode::CONFLICT, "Conflict"),
        429 => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        403 => (StatusCode::FORBIDDEN, "Forbidden"),
        404 => (StatusCode::NOT_FOUND, "NotFound"),
        _ => (
            StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "InternalError",
        ),
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("injected {code}"), "reason": reason, "code": code,
    });
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert("content-type", "application/json".parse().unwrap());
    if code == 429 {
        headers.insert("retry-after", "1".parse().unwrap());
    }
    response
}

#[tokio::test]
async fn the_proxy_counts_refuses_and_passes_on() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = ApiProxy::start(cluster);
    let url = format!("http://127.0.0.1:{}/api/v1/namespaces/default", proxy.port);
    let client = reqwest::Client::new();
    // Not with kubectl: it shows its token to nobody who speaks no TLS.
    let get = async || client.get(&url).bearer_auth("admin-token").send().await.unwrap();
    assert_eq!(get().await.status(), 200);
    proxy.rule("/namespaces/default", Some(Method::GET), Fault::Refuse(409), 1);
    let refused = get().await;
    assert_eq!(refused.status(), 409);
    assert!(refused.text().await.unwrap().contains("injected 409"));
    let passed = get().await;
    assert_eq!(passed.status(), 200, "a rule ends after its count");
    assert!(passed.text().await.unwrap().contains("\"name\":\"default\""));
    let codes: Vec<_> = proxy.seen().iter().filter_map(|seen| seen.code).collect();
    assert_eq!(codes, [200, 409, 200]);
    assert!(proxy.writes().is_empty());
}
