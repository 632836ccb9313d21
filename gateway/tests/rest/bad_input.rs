//! What nobody should send: a clear 4xx, never a 500, and nothing stored half.

use asya_gateway::auth::Caller;
use asya_gateway_store::{Filter, Page, Record, View};
use reqwest::{Method, StatusCode};
use tokio::io::AsyncWriteExt;

use crate::harness::{Rig, read_to_end};

async fn stored(rig: &Rig) -> Vec<Record> {
    let page = Page {
        size: 1000,
        after: None,
        view: View::Full,
    };
    let listed = rig
        .gateway
        .list(&Caller::anonymous(), Filter::default(), page)
        .await;
    listed.unwrap().records
}

async fn record(rig: &Rig, id: &str) -> Record {
    rig.gateway
        .get(&Caller::anonymous(), id, View::Full)
        .await
        .unwrap()
}

#[tokio::test]
async fn unknown_envelopes_are_404_whatever_is_said_about_them() {
    let rig = Rig::start().await;
    for (method, path, body) in [
        (Method::GET, "/envelopes/none", ""),
        (Method::GET, "/envelopes/none/stream", ""),
        (Method::GET, "/envelopes/none/children", ""),
        (Method::DELETE, "/envelopes/none", ""),
        (
            Method::POST,
            "/envelopes/none/progress",
            r#"{"actors":["a"],"current_actor_idx":0,"status":"received"}"#,
        ),
        (
            Method::POST,
            "/envelopes/none/final",
            r#"{"status":"succeeded","result":1}"#,
        ),
    ] {
        rig.send(method, path, body)
            .await
            .is_refusal(404, "Envelope not found\n");
    }
    assert_eq!(stored(&rig).await, []);
}

#[tokio::test]
async fn wrong_types_and_huge_numbers_change_nothing() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let before = record(&rig, "e").await;
    let bodies = [
        ("progress", ""),
        ("progress", "nonsense"),
        ("progress", "[]"),
        ("progress", "\"\\ud800\""),
        (
            "progress",
            r#"{"actors":["a"],"current_actor_idx":0,"status":"received""#,
        ),
        ("progress", r#"{"actors":"a"}"#),
        ("progress", r#"{"actors":{"0":"a"}}"#),
        ("progress", r#"{"actors":[null]}"#),
        ("progress", r#"{"actors":["\ud800"]}"#),
        ("progress", r#"{"actors":["a\u0000"]}"#),
        ("progress", r#"{"current_actor_idx":9223372036854775808}"#),
        ("progress", r#"{"current_actor_idx":1e400}"#),
        ("progress", r#"{"current_actor_idx":0.5}"#),
        ("progress", r#"{"status":["received"]}"#),
        ("progress", r#"{"message":7}"#),
        ("final", ""),
        ("final", "null"),
        ("final", r#"{"status":"succeeded","result":{]}"#),
        ("final", r#"{"status":"done"}"#),
        ("final", r#"{"status":true}"#),
        ("final", r#"{"status":"failed","error":{"a":1}}"#),
        (
            "final",
            r#"{"status":"failed","current_actor_idx":99999999999999999999}"#,
        ),
        ("final", r#"{"status":"failed","actors":[1,2]}"#),
    ];
    for (verb, body) in bodies {
        let answer = rig.post(&format!("/envelopes/e/{verb}"), body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {}", answer.text);
        assert!(answer.text.starts_with("Invalid "), "{body}: {}", answer.text);
    }
    assert_eq!(record(&rig, "e").await, before);
}

#[tokio::test]
async fn forged_indexes_neither_break_nor_overshoot() {
    let rig = Rig::start().await;
    rig.child("e").await;
    for index in [i64::MIN, -1, 3, 1_000_000, i64::MAX] {
        for status in ["received", "processing", "completed", "weird", ""] {
            let answer = rig.progress("e", index, status).await.json();
            let percent = answer["progress_percent"].as_f64().unwrap();
            assert!((0.0..=100.0).contains(&percent), "{index} {status}: {percent}");
        }
    }
    let record = rig.get("/envelopes/e").await.json();
    assert_eq!(record["status"], "running");
    assert!(record["actors_completed"].as_i64().unwrap() <= 3, "{record}");
}

#[tokio::test]
async fn replayed_and_reordered_progress_never_goes_back() {
    let rig = Rig::start().await;
    rig.child("e").await;
    rig.progress("e", 2, "processing").await;
    let before = rig.get("/envelopes/e").await.json();
    for (index, status) in [
        (0, "received"),
        (2, "received"),
        (1, "completed"),
        (2, "processing"),
        (0, "completed"),
    ] {
        rig.progress("e", index, status).await.json();
    }
    let after = rig.get("/envelopes/e").await.json();
    for key in [
        "progress_percent",
        "current_actor_idx",
        "current_actor_name",
        "status",
    ] {
        assert_eq!(after[key], before[key], "{key}");
    }
}

#[tokio::test]
async fn nul_and_half_characters_pass_where_they_may_and_are_refused_where_they_may_not() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let said = r#"{"message":"a\u0000b\ud800c","current_actor_idx":0,"actors":["x"],"status":"received"}"#;
    rig.post("/envelopes/e/progress", said).await.json();
    assert_eq!(
        rig.get("/envelopes/e").await.json()["message"],
        "a\u{fffd}b\u{fffd}c"
    );
    let failed = r#"{"status":"failed","error":"\ud800 and \u0000","error_details":{"raw":"\u0000\udfff"}}"#;
    rig.post("/envelopes/e/final", failed).await.json();
    let shown = rig.get("/envelopes/e").await;
    assert!(
        shown
            .raw_member("result")
            .unwrap()
            .contains(r#"{"raw":"\u0000\udfff"}"#),
        "{}",
        shown.text
    );
    for body in [
        r#"{"id":"a\u0000","actors":["x"]}"#,
        r#"{"id":"\ud800","actors":["x"]}"#,
        r#"{"id":"a","parent_id":"\u0000","actors":["x"]}"#,
        r#"{"id":"a","actors":["\ud800"]}"#,
    ] {
        rig.post("/envelopes", body)
            .await
            .is_refusal_like(400, "Invalid request body\n");
    }
    assert_eq!(stored(&rig).await.len(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_refused() {
    let rig = Rig::start().await;
    rig.child("e").await;
    for path in [
        "/envelopes/e/final",
        "/envelopes/e/progress",
        "/envelopes",
        "/tools/call",
    ] {
        let body =
            b"{\"status\":\"succeeded\",\"id\":\"x\",\"name\":\"plain\",\"result\":\"\xff\xfe\"}".to_vec();
        rig.post(path, body)
            .await
            .is_refusal(400, "Invalid request body\n");
    }
    assert_eq!(record(&rig, "e").await.result, None);
}

#[tokio::test]
async fn oversized_bodies_are_413_before_they_are_read() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let before = record(&rig, "e").await;
    for (path, size) in [
        ("/tools/call", 10 * 1024 * 1024 + 1),
        ("/envelopes/e/final", 10 * 1024 * 1024 + 1),
        ("/envelopes/e/progress", 1024 * 1024 + 1),
        ("/envelopes", 1024 * 1024 + 1),
        ("/tools/call", 5_000_000_000_usize),
    ] {
        // The announced size is enough: nothing of the body is sent.
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
        let answer = rig.raw(head).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{path} {size}: {answer}");
        assert!(answer.contains("Request body too large: at most "), "{answer}");
    }
    let mut stream = rig.connect().await;
    stream
        .write_all(b"POST /envelopes/e/progress HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..20 {
        // The answer may come, and the connection end, before all of it is written.
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 413 "),
        "{answer}"
    );
    assert_eq!(record(&rig, "e").await, before);
}

#[tokio::test]
async fn truncated_bodies_count_for_nothing() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let before = record(&rig, "e").await;
    let body = r#"{"status":"succeeded","result":1}"#;
    for path in [
        "/envelopes/e/final",
        "/envelopes/e/progress",
        "/tools/call",
        "/envelopes",
    ] {
        let mut stream = rig.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len() + 5
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{path}: {answer}"
        );
    }
    assert_eq!(record(&rig, "e").await, before);
    assert_eq!(stored(&rig).await.len(), 1);
}

#[tokio::test]
async fn huge_arrays_pass_as_payload_and_are_refused_as_a_route() {
    let rig = Rig::start().await;
    let numbers = format!("[{}1]", "1,".repeat(99_999));
    let call = format!(r#"{{"name":"plain","arguments":{{"numbers":{numbers}}}}}"#);
    let id = rig.post("/tools/call", call).await.envelope_id();
    assert_eq!(rig.succeed(&id, &numbers).await.status, StatusCode::OK);
    let shown = rig.get(&format!("/envelopes/{id}")).await;
    assert_eq!(shown.raw_member("result").unwrap(), numbers);
    rig.child("e").await;
    let actors = format!("[{}\"a\"]", "\"a\",".repeat(99_999));
    for (path, body) in [
        (
            "/envelopes/e/progress",
            format!(r#"{{"actors":{actors},"current_actor_idx":99999,"status":"received"}}"#),
        ),
        (
            "/envelopes/e/final",
            format!(r#"{{"status":"failed","actors":{actors}}}"#),
        ),
        ("/envelopes", format!(r#"{{"id":"f","actors":{actors}}}"#)),
    ] {
        let answer = rig.post(path, body).await;
        answer.is_refusal_like(
            400,
            "Invalid request body\nactors: 100000 actors; a route has at most 10000",
        );
    }
    assert_eq!(record(&rig, "e").await.actors.len(), 3);
}

#[tokio::test]
async fn names_that_no_index_holds_are_refused() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let long = "x".repeat(10 * 1024);
    for (path, body) in [
        (
            "/envelopes/e/progress",
            format!(r#"{{"actors":["{long}"],"current_actor_idx":0}}"#),
        ),
        (
            "/envelopes/e/final",
            format!(r#"{{"status":"failed","current_actor_name":"{long}"}}"#),
        ),
        ("/envelopes", format!(r#"{{"id":"{long}","actors":["x"]}}"#)),
        (
            "/envelopes",
            format!(r#"{{"id":"f","parent_id":"{long}","actors":["x"]}}"#),
        ),
        ("/envelopes", format!(r#"{{"id":"f","actors":["{long}"]}}"#)),
        ("/tools/call", format!(r#"{{"name":"{long}"}}"#)),
    ] {
        rig.post(path, body)
            .await
            .is_refusal_like(400, "Invalid request body\n");
    }
    assert_eq!(stored(&rig).await.len(), 1);
}

#[tokio::test]
async fn nesting_neither_overflows_nor_costs() {
    let rig = Rig::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    rig.child("e").await;
    assert_eq!(rig.succeed("e", &deep).await.status, StatusCode::OK);
    let shown = rig.get("/envelopes/e").await;
    assert!(shown.text.contains(&deep));
    let call = format!(r#"{{"name":"plain","arguments":{{"deep":{deep}}}}}"#);
    let answer = rig.post("/tools/call", call).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{}",
        &answer.text[..200.min(answer.text.len())]
    );
}

#[tokio::test]
async fn tricks_with_paths_find_nothing() {
    let rig = Rig::start().await;
    rig.child("..").await;
    rig.child("ä b").await;
    let long = format!("/envelopes/{}", "x".repeat(10 * 1024));
    for (method, path, expected) in [
        ("GET", "/envelopes/", 400),
        ("GET", "/envelopes//stream", 400),
        ("GET", "/envelopes/a/b", 400),
        ("GET", "/envelopes/../health", 400),
        ("GET", "/envelopes/../../etc/passwd", 400),
        ("GET", "/envelopes/a%2Fb", 400),
        ("GET", "/envelopes/%2F", 400),
        ("GET", "/envelopes/..%2f..%2fhealth", 400),
        ("POST", "/envelopes/a%2Fb/progress", 400),
        ("POST", "/envelopes/a/b/final", 400),
        ("GET", "/envelopes/%ff", 400),
        ("GET", "/envelopes/%C3%28", 400),
        ("GET", "/envelopes/%00", 404),
        ("GET", "/envelopes/a%00b", 404),
        ("POST", "/envelopes/a%00/progress", 404),
        ("POST", "/envelopes/a%00/final", 404),
        ("GET", "/envelopes/%", 404),
        ("GET", "/envelopes/%zz", 404),
        ("GET", "/envelopes/a;b=c", 404),
        ("GET", "/envelopes/'%20OR%201=1--", 404),
        ("GET", &long, 404),
        ("GET", "/envelopes/..", 200),
        ("GET", "/envelopes/%2e%2e", 200),
        ("GET", "/envelopes/%C3%A4%20b", 200),
        ("GET", "/nothing", 404),
        ("GET", "//envelopes", 404),
        ("GET", "/envelopes/a/unknown", 400),
    ] {
        let shown = &path[..path.len().min(60)];
        assert_eq!(rig.status_of(method, path).await, expected, "{method} {shown}");
    }
}

#[tokio::test]
async fn malformed_paths_are_told_as_the_original_does() {
    let rig = Rig::start().await;
    for (method, path, text) in [
        (Method::GET, "/envelopes/a%2Fb", "Invalid envelope path\n"),
        (
            Method::GET,
            "/envelopes/a%2Fb/stream",
            "Invalid envelope stream path\n",
        ),
        (
            Method::GET,
            "/envelopes/a%2Fb/active",
            "Invalid envelope active path\n",
        ),
        (
            Method::POST,
            "/envelopes/a/b/progress",
            "Invalid envelope progress path\n",
        ),
        (Method::POST, "/envelopes//final", "Invalid envelope final path\n"),
    ] {
        rig.send(method, path, "{}").await.is_refusal(400, text);
    }
    rig.get("/nothing").await.is_refusal(404, "404 page not found\n");
    rig.get("/tools/call")
        .await
        .is_refusal(405, "Method not allowed\n");
    rig.send(Method::PUT, "/envelopes/e", "")
        .await
        .is_refusal(405, "Method not allowed\n");
}

#[tokio::test]
async fn problems_are_json_for_those_who_prefer_it() {
    let rig = Rig::start().await;
    let json = [("Accept", "application/json")];
    let unknown = rig.send_with(Method::GET, "/envelopes/none", "", &json).await;
    assert_eq!(unknown.header("content-type"), "application/problem+json");
    let expected = "{\"type\":\"about:blank\",\"title\":\"Envelope not found\",\"status\":404}\n";
    assert_eq!((unknown.status.as_u16(), unknown.text.as_str()), (404, expected));
    let bad = rig.send_with(Method::POST, "/tools/call", "{", &json).await;
    let problem: serde_json::Value = serde_json::from_str(&bad.text).unwrap();
    assert_eq!(problem["title"], "Invalid request body");
    assert!(
        problem["detail"].as_str().unwrap().contains("line 1 column 1"),
        "{problem}"
    );
    let nowhere = rig.send_with(Method::GET, "/nothing", "", &json).await;
    assert_eq!(nowhere.header("content-type"), "application/problem+json");
    let anything = rig
        .send_with(Method::GET, "/envelopes/none", "", &[("Accept", "*/*")])
        .await;
    anything.is_refusal(404, "Envelope not found\n");
}

#[tokio::test]
async fn queries_that_make_no_sense_are_refused() {
    let rig = Rig::start().await;
    rig.child("e").await;
    for path in [
        "/envelopes?stauts=failed",
        "/envelopes?status=done",
        "/envelopes?limit=0",
        "/envelopes?limit=-1",
        "/envelopes?page=%00",
        "/envelopes?page=AAAA",
        "/envelopes?from=yesterday",
        "/envelopes?actor=%00",
        "/envelopes/e?wait=soon",
        "/envelopes/e/children?status=failed",
    ] {
        rig.get(path).await.is_refusal_like(400, "Invalid query\n");
    }
}
