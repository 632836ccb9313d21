//! Pages of others, and names that are none of ours.

use asya_gateway::auth::{Auth, OriginPolicy};

use crate::setup::Guarded;

#[tokio::test]
async fn a_page_elsewhere_and_a_rebound_name_are_refused() {
    let server = Guarded::start(Auth {
        origins: OriginPolicy {
            loopback_only: true,
            ..OriginPolicy::default()
        },
        ..Auth::default()
    })
    .await;
    assert_eq!(server.ask("POST", "/tools/call", &[]).await.status, 200);
    let evil = server
        .ask("POST", "/tools/call", &[("origin", "https://evil.example")])
        .await;
    assert_eq!(evil.status, 403);
    assert!(evil.body.contains("ASYA_ALLOWED_ORIGINS"), "{evil:?}");
    let rebound = server.ask("POST", "/mcp", &[("host", "evil.example")]).await;
    assert_eq!(rebound.status, 403);
    assert!(rebound.body.contains("ASYA_ALLOWED_HOSTS"), "{rebound:?}");
    let here = server
        .ask("POST", "/mcp", &[("origin", "http://localhost:6274")])
        .await;
    assert_eq!(here.status, 200);
    let both = [
        ("origin", "http://localhost:6274"),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(server.ask("POST", "/mcp", &both).await.status, 403, "each counts");
    // What is let in must be told to the browser, too.
    let allowed = here.header("access-control-allow-origin");
    assert_eq!(allowed, "http://localhost:6274");
    let asks = [
        ("origin", "http://localhost:6274"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let preflight = server.ask("OPTIONS", "/mcp", &asks).await;
    let allowed = preflight.header("access-control-allow-headers");
    assert_eq!((preflight.status, allowed), (200, "content-type"));
    assert_eq!(evil.header("access-control-allow-origin"), "");
    assert_eq!(evil.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn a_probe_that_knows_only_the_address_is_answered() {
    let server = Guarded::start(Auth {
        origins: OriginPolicy {
            hosts: vec!["gateway.example.com".into()],
            ..OriginPolicy::default()
        },
        ..Auth::default()
    })
    .await;
    let by_address = ("host", "10.1.2.3:8080");
    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        assert_eq!(server.ask("GET", path, &[by_address]).await.status, 200, "{path}");
    }
    assert_eq!(server.ask("GET", "/envelopes", &[by_address]).await.status, 403);
    let page = ("origin", "https://evil.example");
    assert_eq!(
        server.ask("GET", "/metrics", &[by_address, page]).await.status,
        403
    );
}

#[tokio::test]
async fn an_allowed_page_gets_what_its_browser_asks_for() {
    let server = Guarded::start(Auth {
        origins: OriginPolicy {
            origins: vec!["https://app.example.com".into()],
            ..OriginPolicy::default()
        },
        ..Auth::default()
    })
    .await;
    let origin = ("origin", "https://app.example.com");
    let preflight = server
        .ask(
            "OPTIONS",
            "/mcp",
            &[
                origin,
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization,content-type"),
            ],
        )
        .await;
    assert_eq!(preflight.status, 200);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    assert!(
        preflight
            .header("access-control-allow-headers")
            .contains("authorization")
    );
    let answer = server.ask("POST", "/mcp", &[origin]).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    let other = server
        .ask("POST", "/mcp", &[("origin", "https://other.example.com")])
        .await;
    assert_eq!(
        (other.status, other.header("access-control-allow-origin")),
        (403, "")
    );
}
