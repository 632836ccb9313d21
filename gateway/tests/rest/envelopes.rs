//! Reports, and what clients are told of them (contract gateway §4, §6).

use std::time::{Duration, Instant};

use asya_gateway::http::HttpOptions;
use asya_gateway::server::ServerOptions;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::harness::{Rig, soon};

#[tokio::test]
async fn progress_is_answered_unrounded_and_shown_with_two_decimals() {
    let rig = Rig::start().await;
    rig.child("e").await;
    for (index, status, reply, shown) in [
        (0, "received", "3.3333333333333335", 3.33),
        (0, "processing", "16.666666666666668", 16.67),
        (0, "completed", "33.333333333333336", 33.33),
        (2, "completed", "100", 100.0),
    ] {
        let answer = rig.progress("e", index, status).await;
        assert_eq!(
            answer.text,
            format!("{{\"progress_percent\":{reply},\"status\":\"ok\"}}\n")
        );
        let record = rig.get("/envelopes/e").await.json();
        assert_eq!(record["progress_percent"], shown);
        assert_eq!(record["message"], format!("{status} {index}"));
        assert_eq!(record["status"], "running");
    }
    let record = rig.get("/envelopes/e").await.json();
    assert_eq!(record["current_actor_name"], "third");
    assert_eq!(
        (&record["total_actors"], &record["current_actor_idx"]),
        (&3.into(), &2.into())
    );
}

#[tokio::test]
async fn a_result_comes_back_byte_for_byte() {
    let rig = Rig::start().await;
    let id = rig.call().await;
    let result = r#"{"z": 1.0,"a":[12345678901234567890, 1e400],"nul":"\u0000","half":"\ud800"}"#;
    let answer = rig.succeed(&id, result).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::OK, "{\"status\":\"ok\"}\n")
    );
    let record = rig.get(&format!("/envelopes/{id}")).await;
    assert_eq!(record.raw_member("result").as_deref(), Some(result));
    assert_eq!(record.raw_member("progress_percent").as_deref(), Some("100"));
    assert_eq!(record.raw_member("status").as_deref(), Some("\"succeeded\""));
    assert_eq!(
        record.raw_member("message").as_deref(),
        Some("\"Envelope completed successfully\"")
    );
}

#[tokio::test]
async fn a_failure_says_where_and_of_what() {
    let rig = Rig::start().await;
    let id = rig.call().await;
    let body = r#"{"status":"failed","error":"boom","error_details":{"type":"ValueError","n":1.0},"actors":["first","second"],"current_actor_idx":1,"current_actor_name":"second"}"#;
    rig.post(&format!("/envelopes/{id}/final"), body).await.json();
    let record = rig.get(&format!("/envelopes/{id}")).await;
    assert_eq!(
        record.raw_member("result").unwrap(),
        r#"{"details":{"type":"ValueError","n":1.0},"error":"boom","failed_actor":"second","failed_actor_idx":1,"route":["first","second"]}"#
    );
    let record = record.json();
    assert_eq!(record["message"], "Envelope failed at actor 'second': boom");
    assert_eq!(
        (&record["status"], &record["error"]),
        (&"failed".into(), &"boom".into())
    );
}

#[tokio::test]
async fn what_comes_after_the_end_is_answered_200_and_changes_nothing() {
    let rig = Rig::start().await;
    let id = rig.call().await;
    rig.succeed(&id, "1").await.json();
    let before = rig.get(&format!("/envelopes/{id}?outcome=1")).await.text;
    let late = rig.progress(&id, 0, "received").await;
    assert_eq!(late.text, "{\"progress_percent\":100,\"status\":\"ok\"}\n");
    assert_eq!(rig.succeed(&id, "2").await.status, StatusCode::OK);
    let failed = rig
        .post(
            &format!("/envelopes/{id}/final"),
            r#"{"status":"failed","error":"forged"}"#,
        )
        .await;
    assert_eq!(failed.status, StatusCode::OK);
    assert_eq!(rig.get(&format!("/envelopes/{id}?outcome=1")).await.text, before);
}

#[tokio::test]
async fn a_child_is_recorded_once_and_never_published() {
    let rig = Rig::start().await;
    let parent = rig.call().await;
    assert_eq!(rig.message().await.id, parent);
    let body = format!(r#"{{"id":"{parent}-1","parent_id":"{parent}","actors":["first"],"current":0}}"#);
    for _ in 0..2 {
        let answer = rig.post("/envelopes", body.clone()).await;
        let expected = format!("{{\"id\":\"{parent}-1\",\"status\":\"created\"}}\n");
        assert_eq!((answer.status, answer.text), (StatusCode::CREATED, expected));
    }
    let other = format!(r#"{{"id":"{parent}-1","parent_id":"other","actors":["first"],"current":0}}"#);
    rig.post("/envelopes", other)
        .await
        .is_refusal(409, "Failed to create envelope\n");
    let child = rig.get(&format!("/envelopes/{parent}-1")).await;
    assert_eq!(child.raw_member("payload").as_deref(), Some("null"));
    let child = child.json();
    assert_eq!(
        (&child["status"], &child["parent_id"]),
        (&"running".into(), &parent.clone().into())
    );
    let other = rig.call().await;
    assert_eq!(rig.message().await.id, other, "the child has no message");
}

#[tokio::test]
async fn a_fan_out_is_counted_and_its_children_are_listed() {
    let rig = Rig::start().await;
    let parent = rig.call().await;
    for item in 1..=3 {
        let body = format!(r#"{{"id":"{parent}-{item}","parent_id":"{parent}","actors":["first"]}}"#);
        rig.post("/envelopes", body).await.json();
    }
    rig.succeed(&parent, "0").await.json();
    rig.succeed(&format!("{parent}-1"), "1").await.json();
    let children = async |query: &str| {
        rig.get(&format!("/envelopes/{parent}/children{query}"))
            .await
            .json()
    };
    let half = children("").await;
    assert_eq!(half["status"], "running");
    assert_eq!(half["counts"]["running"], 2, "{half}");
    assert_eq!(half["counts"]["total"], 3);
    let failed = r#"{"status":"failed","error":"x"}"#;
    for item in 2..=3 {
        rig.post(&format!("/envelopes/{parent}-{item}/final"), failed)
            .await
            .json();
    }
    assert_eq!(children("").await["status"], "failed");
    let page = children("?limit=2").await;
    assert_eq!(page["envelopes"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    let rest = children(&format!("?limit=2&page={next}")).await;
    assert_eq!(rest["envelopes"].as_array().unwrap().len(), 1);
    assert_eq!(rest.get("next"), None);
    let shown = rig.get(&format!("/envelopes/{parent}?outcome=1")).await.json();
    assert_eq!(
        (&shown["children"]["failed"], &shown["outcome"]),
        (&2.into(), &"succeeded".into())
    );
}

#[tokio::test]
async fn envelopes_are_found_by_filters_page_by_page() {
    let rig = Rig::start().await;
    let mut ids = Vec::new();
    for at in 0..7 {
        let id = rig.call().await;
        if at % 2 == 0 {
            rig.succeed(&id, "1").await.json();
        }
        ids.push(id);
    }
    let plain = rig.post("/tools/call", r#"{"name":"plain"}"#).await.envelope_id();
    let list = async |query: &str| -> Vec<String> {
        let mut found = Vec::new();
        let mut page = String::new();
        loop {
            let answer = rig.get(&format!("/envelopes?limit=2{query}{page}")).await.json();
            let envelopes = answer["envelopes"].as_array().unwrap().clone();
            found.extend(
                envelopes
                    .iter()
                    .map(|envelope| envelope["id"].as_str().unwrap().to_owned()),
            );
            match &answer["next"] {
                Value::String(next) => page = format!("&page={next}"),
                _ => return found,
            }
        }
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(list("&tool=read").await, newest_first);
    assert_eq!(list("&tool=plain").await, vec![plain]);
    let done: Vec<String> = ids.iter().step_by(2).rev().cloned().collect();
    assert_eq!(list("&status=succeeded").await, done);
    assert_eq!(list("&outcome=succeeded,cancelled").await, done);
    assert_eq!(list("&status=succeeded&tool=plain").await, [""; 0]);
    assert_eq!(list("&before=2020-01-01T00:00:00Z").await, [""; 0]);
    assert_eq!(list("&from=2020-01-01T00:00:00Z").await.len(), 8);
    let full = rig.get("/envelopes?view=full&tool=plain").await.json();
    assert_eq!(full["envelopes"][0].get("payload"), Some(&Value::Null));
    let basic = rig.get("/envelopes?tool=plain").await.json();
    assert_eq!(basic["envelopes"][0].get("payload"), None);
}

#[tokio::test]
async fn a_cancelled_envelope_reads_failed_and_its_sidecar_is_told() {
    let rig = Rig::start().await;
    let id = rig.call().await;
    let path = format!("/envelopes/{id}");
    let child = format!(r#"{{"id":"{id}-1","parent_id":"{id}","actors":["first"]}}"#);
    rig.post("/envelopes", child).await.json();
    let cancelled = rig
        .send(Method::DELETE, &path, r#"{"reason":"changed my mind"}"#)
        .await
        .json();
    assert_eq!(
        cancelled,
        serde_json::json!({"id": id, "status": "failed", "outcome": "cancelled", "cancelled": true, "children_cancelled": 1})
    );
    let old = rig.get(&path).await.json();
    assert_eq!(
        (&old["status"], &old["error"]),
        (&"failed".into(), &"cancelled".into())
    );
    assert_eq!(old["message"], "Cancelled: changed my mind");
    assert_eq!(old.get("outcome"), None);
    let told = rig.progress(&id, 0, "received").await.json();
    assert_eq!(told["cancelled"], true);
    let again = rig.send(Method::DELETE, &path, "").await.json();
    assert_eq!(
        (&again["cancelled"], &again["outcome"]),
        (&false.into(), &"cancelled".into())
    );
}

#[tokio::test]
async fn an_envelope_is_active_until_it_ends() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let active = async |id: &str| {
        let answer = rig.get(&format!("/envelopes/{id}/active")).await;
        (answer.status.as_u16(), answer.json()["active"].as_bool().unwrap())
    };
    assert_eq!(active("e").await, (200, true));
    rig.succeed("e", "1").await.json();
    assert_eq!(active("e").await, (410, false));
    assert_eq!(active("unknown").await, (410, false));
    assert_eq!(active("nul%00").await, (410, false));
}

#[tokio::test]
async fn a_long_poll_ends_with_the_envelope_or_with_its_time() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let running = rig.get("/envelopes/e?wait=50ms").await.json();
    assert_eq!(running["status"], "running");
    let (finished, _) = tokio::join!(rig.get("/envelopes/e?wait=60s"), async {
        rig.progress("e", 0, "received").await;
        rig.succeed("e", "[7]").await
    });
    assert_eq!(finished.json()["result"][0], 7);
    rig.get("/envelopes/none?wait=60s")
        .await
        .is_refusal(404, "Envelope not found\n");
}

#[tokio::test]
async fn a_long_poll_ends_when_the_gateway_stops() {
    let options = HttpOptions {
        max_streams: 1,
        ..HttpOptions::default()
    };
    let mut rig = Rig::with(options, ServerOptions::default()).await;
    rig.child("e").await;
    let start = || tokio::spawn(rig.client.get(rig.url("/envelopes/e?wait=60s")).send());
    let mut poll = start();
    // It waits when the only place is taken.
    loop {
        if tokio::time::timeout(Duration::from_millis(100), &mut poll)
            .await
            .is_ok()
        {
            poll = start(); // It came while one of those below had the place, and was refused.
        } else if rig.get("/envelopes/e?wait=1ms").await.status == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
    }
    let started = Instant::now();
    rig.drain().await;
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "it did not end with its minute"
    );
    let answer = soon("the answer", poll).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_told_by_status_and_outcome() {
    let rig = Rig::start().await;
    let id = rig.call().await;
    rig.report(&id, asya_gateway_store::ReportEvent::TimedOut).await;
    let record = rig.get(&format!("/envelopes/{id}?outcome=1")).await.json();
    assert_eq!(
        (&record["status"], &record["outcome"]),
        (&"failed".into(), &"timed_out".into())
    );
    assert_eq!(record["error"], "envelope timed out");
}
