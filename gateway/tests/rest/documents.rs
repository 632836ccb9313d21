//! The OpenAPI document: its copy in the repository, and real answers checked against it.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Events, Rig};

/// Where the copy is.
fn copy() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json")
}

#[test]
fn the_copy_in_the_repository_is_the_document() {
    let document = asya_gateway::http::openapi();
    if std::env::var_os("ASYA_UPDATE_DOCS").is_some() {
        std::fs::write(copy(), &document).unwrap();
    }
    let written = std::fs::read_to_string(copy()).unwrap();
    assert!(
        written == document,
        "docs/api/openapi.json is old: run the tests with ASYA_UPDATE_DOCS=1"
    );
}

/// The document, its objects closed: a key that it does not name is a mistake.
struct Document(Value);

impl Document {
    fn load() -> Self {
        let mut document: Value = serde_json::from_str(&asya_gateway::http::openapi()).unwrap();
        for schema in document["components"]["schemas"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            if schema.get("properties").is_some() {
                schema["additionalProperties"] = json!(false);
            }
        }
        Self(document)
    }

    fn schema(&self, name: &str) -> jsonschema::Validator {
        self.validator(json!({"$ref": format!("#/components/schemas/{name}")}))
    }

    fn validator(&self, mut schema: Value) -> jsonschema::Validator {
        schema["components"] = self.0["components"].clone();
        jsonschema::validator_for(&schema).unwrap()
    }

    /// Checks an answer against what the document says of this operation.
    #[track_caller]
    fn check(&self, method: &str, path: &str, answer: &Answer) {
        let status = answer.status.as_str();
        let operation = &self.0["paths"][path][method];
        let mut response = operation["responses"][status].clone();
        assert!(
            response.is_object(),
            "{method} {path}: {status} is not in the document"
        );
        if let Some(reference) = response["$ref"].as_str() {
            response = self.0.pointer(reference.trim_start_matches('#')).unwrap().clone();
        }
        let media = answer.header("content-type").split(';').next().unwrap();
        if answer.text.is_empty() {
            return;
        }
        let schema = &response["content"][media]["schema"];
        assert!(
            schema.is_object(),
            "{method} {path} {status}: {media:?} is not in the document: {response}"
        );
        let instance = if media.ends_with("json") {
            serde_json::from_str(&answer.text).unwrap()
        } else {
            Value::String(answer.text.clone())
        };
        let errors: Vec<String> = self
            .validator(schema.clone())
            .iter_errors(&instance)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert_eq!(errors, [""; 0], "{method} {path} {status}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_gateway_serves_the_document() {
    let rig = Rig::start().await;
    let served = rig.get("/openapi.json").await;
    assert_eq!(served.header("content-type"), "application/json");
    assert_eq!(served.text, asya_gateway::http::openapi());
    let document = served.json();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        document["openapi"]
    );
}

#[tokio::test]
async fn every_operation_of_the_document_is_served() {
    let rig = Rig::start().await;
    let document = Document::load();
    let mut count = 0;
    for (path, item) in document.0["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let concrete = path.replace("{id}", "none");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = rig.send(method.clone(), &concrete, "").await;
            assert_ne!(answer.status.as_u16(), 405, "{method} {path}");
            assert_ne!(answer.text, "404 page not found\n", "{method} {path}");
            document.check(&method.as_str().to_lowercase(), path, &answer);
            count += 1;
        }
    }
    assert_eq!(
        count, 14,
        "an operation without a description, or the other way round"
    );
}

#[tokio::test]
async fn real_answers_are_what_the_document_says() {
    let rig = Rig::start().await;
    let document = Document::load();
    let post = async |path: &'static str, real: &str, body: &str| {
        let answer = rig.post(real, body.to_owned()).await;
        document.check("post", path, &answer);
        answer
    };
    let call = post(
        "/tools/call",
        "/tools/call",
        r#"{"name":"read","arguments":{"text":"x"}}"#,
    )
    .await;
    let id = call.envelope_id();
    for body in [
        "{}",
        r#"{"name":"no"}"#,
        r#"{"name":"read","arguments":{}}"#,
        r#"{"name":"lost"}"#,
    ] {
        post("/tools/call", "/tools/call", body).await;
    }
    let child = format!(r#"{{"id":"{id}-1","parent_id":"{id}","actors":["first"],"current":0}}"#);
    post("/envelopes", "/envelopes", &child).await;
    post("/envelopes", "/envelopes", "{}").await;
    let progress =
        r#"{"actors":["first","second","third"],"current_actor_idx":1,"status":"processing","message":"m"}"#;
    post(
        "/envelopes/{id}/progress",
        &format!("/envelopes/{id}/progress"),
        progress,
    )
    .await;
    post(
        "/envelopes/{id}/progress",
        &format!("/envelopes/{id}/progress"),
        r#"{"actors":5}"#,
    )
    .await;
    let reads = async || {
        for (path, real) in [
            ("/envelopes/{id}", format!("/envelopes/{id}")),
            ("/envelopes/{id}", format!("/envelopes/{id}-1")),
            ("/envelopes/{id}", format!("/envelopes/{id}?outcome=1")),
            ("/envelopes/{id}", "/envelopes/none".to_owned()),
            ("/envelopes/{id}", format!("/envelopes/{id}?wait=x")),
            ("/envelopes/{id}/active", format!("/envelopes/{id}/active")),
            ("/envelopes/{id}/children", format!("/envelopes/{id}/children")),
            ("/envelopes", "/envelopes?limit=1".to_owned()),
            ("/envelopes", "/envelopes?view=full".to_owned()),
            ("/envelopes", "/envelopes?view=other".to_owned()),
            ("/tools", "/tools".to_owned()),
            ("/health", "/health".to_owned()),
            ("/livez", "/livez".to_owned()),
            ("/readyz", "/readyz".to_owned()),
        ] {
            document.check("get", path, &rig.get(&real).await);
        }
    };
    reads().await;
    let finished = r#"{"status":"succeeded","result":{"a":[1,2.5,null]},"metadata":{"s3_uri":"s3://b/k"}}"#;
    post(
        "/envelopes/{id}/final",
        &format!("/envelopes/{id}/final"),
        finished,
    )
    .await;
    post("/envelopes/{id}/final", &format!("/envelopes/{id}/final"), "{}").await;
    let cancelled = rig.send(Method::DELETE, &format!("/envelopes/{id}-1"), "").await;
    document.check("delete", "/envelopes/{id}", &cancelled);
    reads().await;
    let update = document.schema("Update");
    let events = Events::open(&rig, &id).await.all().await;
    assert!(events.len() >= 3, "{events:?}");
    for event in events {
        assert!(update.is_valid(&event.json()), "{event:?}");
    }
    let json = [("Accept", "application/json")];
    let problem = rig.send_with(Method::GET, "/envelopes/none", "", &json).await;
    document.check("get", "/envelopes/{id}", &problem);
}
