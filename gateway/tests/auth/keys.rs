//! Static keys, the tokens of sidecars and operator, and no auth at all.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use asya_gateway::auth::{Auth, Clients, Keys, TokenDigest, new_token};

use crate::setup::Guarded;

const PROGRESS: &str = "/envelopes/x/progress";
const REPORT: &str = "/asya.status.v1.EnvelopeStatus/Report";
const ACTORS: &str = "/asya.status.v1.ActorStatus/Report";

fn key_file(lines: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(lines.as_bytes()).expect("written");
    file
}

#[tokio::test]
async fn keys_are_known_and_others_refused_with_a_reason() {
    let (acme, ops, old) = (new_token(), new_token(), new_token());
    let file = key_file(&format!(
        "acme {} tenant=acme\nops {} roles=client,sidecar\nold {} expires=2020-01-01T00:00:00Z\n",
        TokenDigest::of(&acme),
        TokenDigest::of(&ops),
        TokenDigest::of(&old)
    ));
    let auth = Auth {
        clients: Clients::Keys(Keys::load(file.path()).expect("a good file")),
        ..Auth::default()
    };
    let server = Guarded::start(auth).await;

    assert_eq!(
        server.ask_as("GET", "/envelopes", &acme).await.body,
        "acme acme client"
    );
    assert_eq!(server.ask_as("POST", PROGRESS, &acme).await.status, 403);
    assert_eq!(
        server.ask_as("POST", PROGRESS, &ops).await.body,
        "ops - client,sidecar"
    );
    assert_eq!(server.ask_as("POST", ACTORS, &ops).await.status, 403);

    let none = server.ask("GET", "/envelopes", &[]).await;
    assert_eq!(none.status, 401);
    assert!(none.header("www-authenticate").starts_with("Bearer "), "{none:?}");
    let expired = server.ask_as("GET", "/envelopes", &old).await;
    assert_eq!((expired.status, &*expired.body), (401, "the key has expired\n"));
    for bad in ["x", &acme[1..], &format!("{acme}x"), "%00"] {
        let refused = server.ask_as("GET", "/envelopes", bad).await;
        assert_eq!(
            (refused.status, &*refused.body),
            (401, "the key is not known\n"),
            "{bad}"
        );
        assert!(refused.header("www-authenticate").contains("invalid_token"));
    }
    for header in ["Bearer", "Bearer ", "Basic eDp5", &acme] {
        let refused = server
            .ask("GET", "/envelopes", &[("authorization", header)])
            .await;
        assert_eq!(refused.status, 401, "{header}");
    }
    let lower = server
        .ask("GET", "/", &[("authorization", &format!("bearer {acme}"))])
        .await;
    assert_eq!(lower.status, 200, "the scheme's letter case does not matter");
}

#[tokio::test]
async fn what_is_open_stays_open_and_knows_nobody() {
    let auth = Auth {
        clients: Clients::Keys(Keys::load(key_file("").path()).expect("an empty file")),
        ..Auth::default()
    };
    let server = Guarded::start(auth).await;
    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        let answer = server.ask("GET", path, &[]).await;
        assert_eq!((answer.status, &*answer.body), (200, "- - "), "{path}");
        assert_eq!(server.ask_as("GET", path, "nonsense").await.status, 200, "{path}");
    }
    // No OAuth here.
    let metadata = server
        .ask("GET", "/.well-known/oauth-protected-resource", &[])
        .await;
    assert_eq!(metadata.body, "- - ");
}

#[tokio::test]
async fn sidecars_and_the_operator_have_tokens_of_their_own() {
    let (client, sidecar, operator) = (new_token(), new_token(), new_token());
    let file = key_file(&format!("me {}", TokenDigest::of(&client)));
    let auth = Auth {
        clients: Clients::Keys(Keys::load(file.path()).expect("a good file")),
        sidecars: Some(TokenDigest::of(&sidecar)),
        operators: Some(TokenDigest::of(&operator)),
        ..Auth::default()
    };
    let server = Guarded::start(auth).await;
    for (path, allowed) in [
        ("/tools/call", &client),
        ("/mcp", &client),
        (PROGRESS, &sidecar),
        ("/envelopes/x/final", &sidecar),
        ("/envelopes", &sidecar),
        (REPORT, &sidecar),
        (ACTORS, &operator),
    ] {
        for token in [&client, &sidecar, &operator] {
            let expected = if token == allowed { 200 } else { 403 };
            let answer = server.ask_as("POST", path, token).await;
            assert_eq!(answer.status, expected, "{path}: {answer:?}");
        }
    }
    for token in [&client, &sidecar] {
        assert_eq!(
            server.ask_as("GET", "/envelopes/x/active", token).await.status,
            200
        );
    }
}

#[tokio::test]
async fn what_has_a_token_of_its_own_is_not_given_by_a_key() {
    let (ops, sidecar) = (new_token(), new_token());
    let file = key_file(&format!(
        "ops {} roles=client,sidecar,operator",
        TokenDigest::of(&ops)
    ));
    let server = Guarded::start(Auth {
        clients: Clients::Keys(Keys::load(file.path()).expect("a good file")),
        sidecars: Some(TokenDigest::of(&sidecar)),
        ..Auth::default()
    })
    .await;
    for path in [PROGRESS, REPORT, "/envelopes"] {
        assert_eq!(server.ask_as("POST", path, &ops).await.status, 403, "{path}");
        assert_eq!(server.ask_as("POST", path, &sidecar).await.status, 200, "{path}");
    }
    let others = server.ask_as("POST", ACTORS, &ops).await;
    assert_eq!(others.body, "ops - client,operator", "the operator has none");
}

#[tokio::test]
async fn without_auth_everybody_may_unless_there_is_a_token_for_it() {
    let open = Guarded::start(Auth::open()).await;
    assert_eq!(
        open.ask("POST", PROGRESS, &[]).await.body,
        "- - client,sidecar,operator"
    );
    assert_eq!(open.ask_as("POST", "/tools/call", "whatever").await.status, 200);

    let sidecar = new_token();
    let half = Guarded::start(Auth {
        sidecars: Some(TokenDigest::of(&sidecar)),
        ..Auth::default()
    })
    .await;
    assert_eq!(half.ask("POST", "/tools/call", &[]).await.status, 200);
    assert_eq!(half.ask("POST", PROGRESS, &[]).await.status, 403);
    assert_eq!(half.ask_as("POST", PROGRESS, &sidecar).await.status, 200);
}

#[tokio::test]
async fn a_grpc_client_is_refused_with_a_grpc_status() {
    let file = key_file("");
    let auth = Auth {
        clients: Clients::Keys(Keys::load(file.path()).expect("an empty file")),
        ..Auth::default()
    };
    let server = Guarded::start(auth).await;
    let refused = server
        .ask("POST", REPORT, &[("content-type", "application/grpc")])
        .await;
    assert_eq!((refused.status, refused.header("grpc-status")), (200, "16"));
    let json = server
        .ask("GET", "/envelopes", &[("accept", "application/json")])
        .await;
    assert_eq!(json.header("content-type"), "application/problem+json");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json.body).expect("JSON")["status"],
        401
    );
}

#[tokio::test]
async fn a_changed_file_counts_and_a_broken_one_does_not() {
    let (first, second) = (new_token(), new_token());
    let file = key_file(&format!("one {}\n", TokenDigest::of(&first)));
    let keys = Keys::load(file.path()).expect("a good file");
    let server = Guarded::start(Auth {
        clients: Clients::Keys(Arc::clone(&keys)),
        ..Auth::default()
    })
    .await;
    std::fs::write(file.path(), "two nonsense\n").expect("written");
    let error = keys.look().expect_err("a broken file");
    assert!(error.to_string().contains(":1: "), "{error}");
    assert_eq!(
        server.ask_as("GET", "/", &first).await.status,
        200,
        "the keys stay"
    );

    tokio::spawn(Arc::clone(&keys).follow());
    std::fs::write(file.path(), format!("two {}\n", TokenDigest::of(&second))).expect("written");
    until(async || server.ask_as("GET", "/", &second).await.status == 200).await;
    assert_eq!(
        server.ask_as("GET", "/", &first).await.status,
        401,
        "it was taken out"
    );
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < limit, "it did not come true");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
