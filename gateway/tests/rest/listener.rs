//! The listener: protocols, TLS, health, and its end.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asya_gateway::http::{self, HttpOptions};
use asya_gateway::server::{self, ServerOptions, Tls};
use asya_tests::rabbitmq::certificates;
use axum::Router;
use axum::routing::get;
use metrics::{KeyName, SharedString, Unit};
use reqwest::{Certificate, StatusCode, Version};
use tokio_util::sync::CancellationToken;

use crate::harness::{Events, Rig, soon};

#[tokio::test]
async fn http2_with_prior_knowledge_and_http1_share_the_port() {
    let rig = Rig::start().await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .unwrap();
    let answer = client.get(rig.url("/health")).send().await.unwrap();
    assert_eq!(
        (answer.version(), answer.status()),
        (Version::HTTP_2, StatusCode::OK)
    );
    assert_eq!(
        rig.client.get(rig.url("/health")).send().await.unwrap().version(),
        Version::HTTP_11
    );
    rig.child("e").await;
    let mut events = client.get(rig.url("/envelopes/e/stream")).send().await.unwrap();
    assert_eq!(events.headers().get("connection"), None, "HTTP/2 has none");
    rig.succeed("e", "1").await;
    let mut all = String::new();
    while let Some(chunk) = soon("an event", events.chunk()).await.unwrap() {
        all.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(all.contains(r#""status":"succeeded""#), "{all}");
}

/// Makes a certificate for 127.0.0.1 and copies it and its key to `directory`; the authority that signed it.
fn certificate(directory: &Path) -> Certificate {
    let made = tempfile::tempdir().unwrap();
    let made_there = certificates(made.path());
    std::fs::copy(&made_there.server_key, directory.join("key.pem")).unwrap();
    std::fs::copy(&made_there.server, directory.join("certificate.pem")).unwrap();
    Certificate::from_pem(&std::fs::read(&made_there.ca).unwrap()).unwrap()
}

fn trusting(certificate: &Certificate) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([certificate.clone()])
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()
        .unwrap()
}

#[tokio::test]
async fn tls_speaks_http2_and_takes_over_a_new_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let old = certificate(directory.path());
    let files = ["certificate.pem", "key.pem"].map(|name| directory.path().join(name));
    let tls = Arc::new(Tls::load(&files[0], &files[1]).unwrap());
    let options = ServerOptions {
        tls: Some(tls),
        ..ServerOptions::default()
    };
    let rig = Rig::with(HttpOptions::default(), options).await;
    let url = format!("https://{}/health", rig.address);
    let answer = trusting(&old).get(&url).send().await.unwrap();
    assert_eq!(
        (answer.version(), answer.status()),
        (Version::HTTP_2, StatusCode::OK)
    );
    assert!(
        rig.client.get(rig.url("/health")).send().await.is_err(),
        "plain HTTP is no TLS"
    );

    std::fs::write(&files[1], "no key").unwrap();
    assert_eq!(
        trusting(&old).get(&url).send().await.unwrap().status(),
        StatusCode::OK,
        "the old one stays"
    );
    let new = certificate(directory.path());
    soon("the new certificate", async {
        while trusting(&new).get(&url).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(trusting(&old).get(&url).send().await.is_err());
}

#[test]
fn certificates_that_cannot_be_used_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    certificate(directory.path());
    let load =
        |certificate: &str, key: &str| Tls::load(&path(certificate), &path(key)).unwrap_err().to_string();
    std::fs::write(path("nonsense.pem"), "secret nonsense").unwrap();
    assert!(load("none.pem", "key.pem").contains("cannot read the certificate"));
    assert!(load("certificate.pem", "none.pem").contains("cannot read the private key"));
    assert!(load("nonsense.pem", "key.pem").contains("holds no certificate"));
    let error = load("certificate.pem", "nonsense.pem");
    assert!(
        error.contains("no PEM of this kind") && !error.contains("secret"),
        "{error}"
    );
    std::fs::rename(path("key.pem"), path("other.pem")).unwrap();
    certificate(directory.path());
    let error = load("certificate.pem", "other.pem");
    assert!(error.contains("do not go together"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error() {
    let rig = Rig::start().await;
    let error = server::bind(rig.address).await.unwrap_err().to_string();
    assert!(
        error.contains(&rig.address.to_string()) && error.contains("another program has the port"),
        "{error}"
    );
}

#[tokio::test]
async fn health_is_told_by_several_names() {
    let options = HttpOptions {
        metrics: Some(Arc::new(|| "asya_gateway_leads 1\n".to_owned())),
        ..HttpOptions::default()
    };
    let rig = Rig::with(options, ServerOptions::default()).await;
    for method in ["GET", "POST", "PUT", "HEAD"] {
        let answer = rig.send(method.parse().unwrap(), "/health", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{method}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.text, if method == "HEAD" { "" } else { "OK\n" });
    }
    assert_eq!(rig.get("/livez").await.text, "OK\n");
    assert_eq!(rig.get("/readyz").await.text, "ready\n");
    let metrics = rig.get("/metrics").await;
    assert_eq!(metrics.text, "asya_gateway_leads 1\n");
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
}

#[tokio::test]
async fn a_gateway_that_stops_is_alive_and_not_ready() {
    let rig = Rig::start().await;
    // The probes have a port of their own, which goes on until the end.
    let router = http::metrics_router(rig.gateway.clone(), Arc::new(String::new));
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let options = ServerOptions {
        draining: stop.clone(),
        ..ServerOptions::default()
    };
    let serving = tokio::spawn(server::serve(listener, router, options));
    let status = async |path: &str| {
        rig.client
            .get(format!("{url}{path}"))
            .send()
            .await
            .unwrap()
            .status()
    };
    assert_eq!(status("/readyz").await, StatusCode::OK);
    rig.gateway.drain();
    assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status("/livez").await, StatusCode::OK);
    stop.cancel();
    soon("the end", serving).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_panics_is_a_500_and_the_server_goes_on() {
    async fn fail() -> String {
        panic!("a mistake of ours")
    }
    let router = http::finish(
        Router::new()
            .route("/fail", get(fail))
            .route("/well", get(async || "well")),
    );
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let options = ServerOptions {
        draining: stop.clone(),
        ..ServerOptions::default()
    };
    let serving = tokio::spawn(server::serve(listener, router, options));
    let answer = reqwest::get(format!("{url}/fail")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.text().await.unwrap(), "Internal server error\n");
    assert_eq!(
        reqwest::get(format!("{url}/well"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "well"
    );
    stop.cancel();
    soon("the end", serving).await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_ended_with_the_grace() {
    async fn never() -> String {
        std::future::pending().await
    }
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/never", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let options = ServerOptions {
        draining: stop.clone(),
        grace: Duration::from_millis(100),
        ..ServerOptions::default()
    };
    let (reached, mut is_reached) = tokio::sync::mpsc::unbounded_channel();
    let router = Router::new().route(
        "/never",
        get(async move || {
            reached.send(()).unwrap();
            never().await
        }),
    );
    let serving = tokio::spawn(server::serve(listener, router, options));
    let request = tokio::spawn(reqwest::get(url));
    soon("the request", is_reached.recv()).await.unwrap();
    stop.cancel();
    soon("the end", serving).await.unwrap();
    assert!(soon("its end", request).await.unwrap().is_err());
}

#[tokio::test]
async fn requests_have_ids() {
    let rig = Rig::start().await;
    let own = rig.get("/health").await;
    assert_eq!(own.header("x-request-id").len(), 32);
    let brought = rig
        .send_with(reqwest::Method::GET, "/health", "", &[("x-request-id", "abc-1")])
        .await;
    assert_eq!(brought.header("x-request-id"), "abc-1");
    let long = "x".repeat(200);
    let refused = rig
        .send_with(reqwest::Method::GET, "/health", "", &[("x-request-id", &long)])
        .await;
    assert_eq!(refused.header("x-request-id").len(), 32);
    rig.child("e").await;
    let stream = Events::open(&rig, "e").await;
    assert_eq!(stream.header("x-request-id").len(), 32);
}

/// Keeps the names and labels of everything that is counted.
#[derive(Default)]
struct Labels(Mutex<Vec<String>>);

impl Labels {
    fn note(&self, key: &metrics::Key) {
        self.0.lock().unwrap().push(key.to_string());
    }
}

impl metrics::Recorder for Labels {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        self.note(key);
        metrics::Counter::noop()
    }

    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        self.note(key);
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        self.note(key);
        metrics::Histogram::noop()
    }
}

#[tokio::test]
async fn requests_are_counted_by_their_pattern_never_by_their_path() {
    let labels = Labels::default();
    // The server runs on this thread, too.
    let _recording = metrics::set_default_local_recorder(&labels);
    let rig = Rig::start().await;
    rig.get("/envelopes/secret").await;
    rig.get("/secret/secret").await;
    let odd = reqwest::Method::from_bytes(b"SECRET").unwrap();
    rig.send(odd, "/envelopes/secret/stream", "").await;
    let noted = labels.0.lock().unwrap().join("\n");
    for expected in [
        "route = /envelopes/{id},",
        "route = other,",
        "route = /envelopes/{id}/stream,",
    ] {
        let counted = noted
            .lines()
            .any(|line| line.contains("asya_gateway_requests_total") && line.contains(expected));
        assert!(counted, "{expected}: {noted}");
    }
    assert!(noted.contains("method = other"), "{noted}");
    assert!(!noted.to_lowercase().contains("secret"), "{noted}");
}
