//! Tokens of an identity provider.

use std::sync::atomic::Ordering;

use asya_gateway::auth::{Auth, Clients, Oidc, OidcOptions, TokenDigest};
use chrono::Utc;
use serde_json::{Value, json};

use crate::provider::{Provider, SigningKey};
use crate::setup::Guarded;

async fn server(provider: &Provider, tenant_claim: Option<&str>) -> Guarded {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = OidcOptions {
        issuer: provider.issuer(),
        audience: vec!["asya".into()],
        jwks_url: None,
        tenant_claim: tenant_claim.map(str::to_owned),
    };
    Guarded::start(Auth {
        clients: Clients::Oidc(Box::new(Oidc::new(options).expect("a client"))),
        sidecars: Some(TokenDigest::of("a-token-of-sidecars")),
        ..Auth::default()
    })
    .await
}

fn claims(provider: &Provider, changes: &Value) -> Value {
    let now = Utc::now().timestamp();
    let mut claims = json!({
        "iss": provider.issuer(), "aud": ["other", "asya"], "sub": "alice", "exp": now + 300, "nbf": now - 5, "org": "acme",
    });
    for (claim, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(claim);
        } else {
            claims[claim] = value.clone();
        }
    }
    claims
}

#[tokio::test]
async fn a_good_token_names_its_caller_and_tenant() {
    let key = SigningKey::new("k1");
    let provider = Provider::start(&[&key]).await;
    let server = server(&provider, Some("org")).await;
    let token = key.sign(&claims(&provider, &json!({})));
    for _ in 0..3 {
        assert_eq!(
            server.ask_as("GET", "/envelopes", &token).await.body,
            "alice acme client"
        );
    }
    assert_eq!(provider.fetched.load(Ordering::SeqCst), 1, "keys are kept");
    assert_eq!(
        server.ask_as("POST", "/envelopes/x/final", &token).await.status,
        403
    );
    assert_eq!(
        server
            .ask_as("POST", "/envelopes/x/final", "a-token-of-sidecars")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn every_flaw_of_a_token_is_refused_by_name() {
    let (key, stranger) = (SigningKey::new("k1"), SigningKey::new("k1"));
    let provider = Provider::start(&[&key]).await;
    let server = server(&provider, Some("org")).await;
    let now = Utc::now().timestamp();
    for (changes, reason) in [
        (json!({"exp": now - 120}), "expired"),
        (json!({"exp": null}), "exp"),
        (json!({"nbf": now + 600}), "not valid yet"),
        (json!({"iss": "https://evil.example"}), "another issuer"),
        (json!({"iss": null}), "iss"),
        (json!({"aud": "somebody-else"}), "another audience"),
        (json!({"aud": null}), "aud"),
        (json!({"org": null}), "org"),
        (json!({"org": 7}), "org"),
        (json!({"org": ""}), "org"),
    ] {
        let refused = server
            .ask_as("GET", "/envelopes", &key.sign(&claims(&provider, &changes)))
            .await;
        assert_eq!(refused.status, 401, "{changes}");
        assert!(refused.body.contains(reason), "{changes}: {refused:?}");
    }
    let forged = server
        .ask_as("GET", "/", &stranger.sign(&claims(&provider, &json!({}))))
        .await;
    assert_eq!(
        (forged.status, &*forged.body),
        (401, "the token's signature is not valid\n")
    );
}

#[tokio::test]
async fn a_token_that_is_signed_otherwise_is_worth_nothing() {
    let key = SigningKey::new("k1");
    let provider = Provider::start(&[&key]).await;
    let server = server(&provider, None).await;
    let good = key.sign(&claims(&provider, &json!({})));
    let mut parts = good.split('.');
    let (_, body) = (parts.next(), parts.next().expect("claims"));
    // {"alg":"none"}, and HS256 with whatever signature.
    let none = format!("eyJhbGciOiJub25lIn0.{body}.");
    let shared = format!("eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.{body}.AAAA");
    let cut = &good[..good.len() - 4];
    let long = format!("{good}{}", "A".repeat(20_000));
    for token in [&*none, &shared, cut, &long, "a.b.c", "..", "é"] {
        let refused = server
            .ask("GET", "/", &[("authorization", &format!("Bearer {token}"))])
            .await;
        assert_eq!(refused.status, 401, "{token}");
    }
    assert_eq!(server.ask_as("GET", "/", &good).await.status, 200);
}

#[tokio::test]
async fn new_keys_are_fetched_once_and_made_up_ones_do_not_flood_the_provider() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let provider = Provider::start(&[&old]).await;
    let server = server(&provider, None).await;
    let token = |key: &SigningKey| key.sign(&claims(&provider, &json!({})));
    assert_eq!(server.ask_as("GET", "/", &token(&old)).await.status, 200);
    let made_up = token(&SigningKey::new("made-up"));
    for _ in 0..20 {
        assert_eq!(server.ask_as("GET", "/", &made_up).await.status, 401);
    }
    assert_eq!(
        provider.fetched.load(Ordering::SeqCst),
        1,
        "not more often than every ten seconds"
    );
    // A server that starts now sees the new key.
    provider.publish(&[&old, &new]);
    let next = self::server(&provider, None).await;
    assert_eq!(next.ask_as("GET", "/", &token(&new)).await.status, 200);
    assert_eq!(next.ask_as("GET", "/", &token(&old)).await.status, 200);
}

#[tokio::test]
async fn clients_learn_who_issues_tokens() {
    let key = SigningKey::new("k1");
    let provider = Provider::start(&[&key]).await;
    let server = server(&provider, None).await;
    let refused = server.ask("POST", "/mcp", &[]).await;
    let challenge = refused.header("www-authenticate");
    let url = challenge
        .split("resource_metadata=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let path = url
        .expect("an address")
        .split_once(&server.address.to_string())
        .expect("ours")
        .1;
    for path in [path, "/.well-known/oauth-protected-resource/mcp"] {
        let metadata: Value = serde_json::from_str(&server.ask("GET", path, &[]).await.body).expect("JSON");
        assert_eq!(metadata["authorization_servers"], json!([provider.issuer()]));
        assert_eq!(metadata["resource"], format!("http://{}/mcp", server.address));
    }
}

#[tokio::test]
async fn a_provider_that_is_away_is_not_the_tokens_fault() {
    let key = SigningKey::new("k1");
    let provider = Provider::start(&[&key]).await;
    let token = key.sign(&claims(&provider, &json!({})));
    let gone = OidcOptions {
        issuer: provider.issuer(),
        audience: vec!["asya".into()],
        jwks_url: Some("http://127.0.0.1:1/keys".parse().expect("a URL")),
        tenant_claim: None,
    };
    let server = Guarded::start(Auth {
        clients: Clients::Oidc(Box::new(Oidc::new(gone).expect("a client"))),
        ..Auth::default()
    })
    .await;
    let answer = server.ask_as("GET", "/", &token).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "10"));
}
