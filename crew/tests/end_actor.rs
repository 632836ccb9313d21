//! The end actors behind real sockets, over real directories.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asya_crew::{End, EndHandler, Ended, Observer, serve_end_actor};
use asya_objects::{Durability, Results};
use asya_runtime_protocol::{
    Envelope, ErrorEnvelope, READY_FILE_NAME, Reply, ReplyItem, RuntimeClient, ServeError, ServerOptions,
    wait_ready,
};
use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// No test waits longer for anything.
const LIMIT: Duration = Duration::from_mins(1);

/// Id and key, if stored, of every envelope that the observer saw.
type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// An end actor with a directory of its own.
struct Actor {
    dir: TempDir,
    results: Arc<Results>,
    seen: Seen,
    client: RuntimeClient,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), ServeError>>,
}

impl Actor {
    async fn start(end: End) -> Self {
        Self::with(end, true).await
    }

    async fn with(end: End, keeps_results: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let results = Results::open_directory(dir.path().join("results"), Durability::Process).unwrap();
        let results = Arc::new(results);
        let seen = Seen::default();
        let handler = EndHandler::new(
            end,
            keeps_results.then(|| Arc::clone(&results)),
            Some(observer(end, Arc::clone(&seen))),
        );
        let mut options = ServerOptions::new(dir.path().join("socket"));
        options.concurrency = NonZeroUsize::new(4).unwrap();
        let client = RuntimeClient::new(options.socket(), options.max_frame);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve_end_actor(options.clone(), handler, async {
            let _ = stopped.await;
        }));
        wait_ready(&options.socket_dir, &options.socket(), LIMIT)
            .await
            .unwrap();
        Self {
            dir,
            results,
            seen,
            client,
            stop,
            server,
        }
    }

    async fn call(&self, request: impl Into<Bytes>) -> Bytes {
        self.client.call(request.into(), LIMIT).await.unwrap()
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("results")
    }

    fn seen(&self) -> Vec<(String, Option<String>)> {
        self.seen.lock().unwrap().clone()
    }

    /// The content of the only result of an id.
    async fn only(&self, id: &str) -> String {
        let found = self.results.find(id).await.unwrap();
        let [object] = &found[..] else {
            panic!("{id}: {found:?}")
        };
        fs::read_to_string(object.path.as_ref().unwrap()).unwrap()
    }
}

fn observer(expected: End, seen: Seen) -> Observer {
    Arc::new(move |ended: &Ended<'_>| {
        assert_eq!(ended.end, expected);
        // Told only when the result is there.
        assert!(
            ended
                .stored
                .is_none_or(|stored| stored.path.as_ref().unwrap().exists())
        );
        let key = ended.stored.map(|stored| stored.key.clone());
        seen.lock()
            .unwrap()
            .push((ended.request.envelope.id.clone(), key));
    })
}

/// Files below `dir` that are results, not pointers.
fn objects(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.insert(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found
}

/// Code, message and type of an answer that is one error item.
fn error(answer: Bytes) -> (String, String, String) {
    let items = Reply::parse(answer).unwrap();
    let [
        ReplyItem::Error {
            code,
            details: Some(details),
        },
    ] = &items[..]
    else {
        panic!("{items:?}")
    };
    (
        code.clone(),
        details.message().unwrap(),
        details.exception().unwrap(),
    )
}

#[tokio::test]
async fn happy_end_stores_the_whole_envelope_and_answers_one_empty_item() {
    let actor = Actor::start(End::Happy).await;
    let answer = actor
        .call(concat!(
            r#"{"id":"x","parent_id":"p","route":{"actors":["a","b"],"current":2,"metadata":{"m":1.0}},"#,
            r#""headers":{},"payload":{"z":1e400,"a":123456789012345678901234567890,"s":"\ud800 \/é"},"k":[ 1 ]}"#
        ))
        .await;
    assert_eq!(answer, "[{}]");
    assert_eq!(
        actor.only("x").await,
        r#"{
  "id": "x",
  "parent_id": "p",
  "route": {
    "actors": [
      "a",
      "b"
    ],
    "current": 2,
    "metadata": {
      "m": 1.0
    }
  },
  "headers": {},
  "payload": {
    "z": 1e400,
    "a": 123456789012345678901234567890,
    "s": "\ud800 \/é"
  },
  "k": [
    1
  ]
}"#
    );
    let seen = actor.seen();
    let [(id, Some(key))] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(id, "x");
    let parts: Vec<_> = key.split('/').collect();
    assert_eq!((parts[0], &parts[2..]), ("happy-asya", &["b", "x.json"][..]));
}

#[tokio::test]
async fn error_end_stores_the_failure_with_the_actor_that_failed() {
    let actor = Actor::start(End::Error).await;
    let body =
        Bytes::from_static(br#"{"id":"x","route":{"actors":["a","b","c"],"current":0},"payload":1.50}"#);
    let input = Envelope::parse(&body).unwrap().envelope;
    let failure = ErrorEnvelope::new("processing_error").for_envelope(&input);
    assert_eq!(actor.call(failure.to_bytes()).await, "[{}]");
    let stored = actor.only("x").await;
    assert!(stored.contains("\"error\": \"processing_error\""), "{stored}");
    assert!(stored.contains("\"original_payload\": 1.50"), "{stored}");
    let files = objects(&actor.root());
    let file = files.first().unwrap().to_str().unwrap();
    assert!(
        file.starts_with("error-asya/") && file.ends_with("Z/a/x.json"),
        "{file}"
    );
}

#[tokio::test]
async fn a_message_that_comes_again_stays_one_object() {
    let actor = Actor::start(End::Happy).await;
    let message = r#"{"id":"x","route":{"actors":["a"],"current":1},"payload":1}"#;
    for _ in 0..3 {
        assert_eq!(actor.call(message).await, "[{}]");
    }
    assert_eq!(objects(&actor.root()).len(), 1);
    let seen = actor.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| *one == seen[0]));
}

#[tokio::test]
async fn odd_ids_and_many_at_a_time_have_one_object_each() {
    let actor = Arc::new(Actor::start(End::Happy).await);
    let mut ids: Vec<String> = ["..", ".", "/", "a/../b", "名前", "x\n", "%2F", "#1"]
        .map(str::to_owned)
        .into();
    ids.extend([1, 239, 240, 241, 300, 5000].map(|length| "i".repeat(length)));
    ids.extend((0..50).map(|number| format!("many-{number}")));
    let mut calls = JoinSet::new();
    for id in ids.clone() {
        let actor = Arc::clone(&actor);
        let message =
            serde_json::json!({"id": id, "route": {"actors": ["../..", "é"], "current": 0}, "payload": id});
        calls.spawn(async move { actor.call(message.to_string()).await });
    }
    assert!(calls.join_all().await.iter().all(|answer| answer == "[{}]"));
    assert_eq!(objects(&actor.root()).len(), ids.len());
    for id in &ids {
        let stored: Value = serde_json::from_str(&actor.only(id).await).unwrap();
        assert_eq!(
            (&stored["id"], &stored["payload"]),
            (&Value::from(&**id), &Value::from(&**id))
        );
    }
}

#[tokio::test]
async fn big_and_deep_envelopes_are_stored_whole() {
    let actor = Actor::start(End::Happy).await;
    let text = "0123456789abcdef".repeat(10 * 1024 * 1024 / 16);
    let (levels, route) = (200_000, r#""route":{"actors":["a"],"current":1}"#);
    let deep = "[".repeat(levels) + &"]".repeat(levels);
    for (id, payload) in [("big", format!("\"{text}\"")), ("deep", deep)] {
        let message = format!(r#"{{"id":"{id}",{route},"payload":{payload}}}"#);
        assert_eq!(actor.call(message.clone()).await, "[{}]");
        let mut stored = actor.only(id).await;
        stored.retain(|c| !c.is_ascii_whitespace());
        assert!(stored == message, "{id} is not what was sent");
    }
}

#[tokio::test]
async fn a_store_that_refuses_is_an_error_item_until_it_takes_the_result() {
    let actor = Actor::start(End::Happy).await;
    let obstacle = actor.root().join("happy-asya");
    fs::write(&obstacle, "a file where a directory has to be").unwrap();
    let message = r#"{"id":"x","route":{"actors":["a"],"current":1},"payload":"secret"}"#;
    for _ in 0..2 {
        let (code, text, exception) = error(actor.call(message).await);
        assert_eq!((&*code, &*exception), ("processing_error", "StorageError"));
        assert!(
            text.starts_with("the result was not stored: cannot write happy-asya/"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!(actor.seen(), []);
    fs::remove_file(&obstacle).unwrap();
    assert_eq!(actor.call(message).await, "[{}]");
    assert_eq!(objects(&actor.root()).len(), 1);
    assert_eq!(actor.seen().len(), 1);
}

#[tokio::test]
async fn what_is_no_envelope_is_refused_and_nothing_is_stored() {
    let actor = Actor::start(End::Error).await;
    for message in [r#"{"payload":1}"#, r#"{"id":""}"#, r#"{"id":null}"#] {
        let refused = error(actor.call(message).await);
        let expected = [
            "processing_error",
            "Envelope missing required field: id",
            "ValueError",
        ];
        assert_eq!([&*refused.0, &*refused.1, &*refused.2], expected, "{message}");
    }
    for (message, exception) in [("[]", "ValueError"), ("1", "ValueError"), ("", "JSONDecodeError")] {
        let (code, _, found) = error(actor.call(message).await);
        assert_eq!((&*code, &*found), ("msg_parsing_error", exception), "{message}");
    }
    assert_eq!(objects(&actor.root()).len(), 0);
    assert_eq!(actor.seen(), []);
}

#[tokio::test]
async fn validation_is_off_an_id_is_enough() {
    let actor = Actor::start(End::Error).await;
    assert_eq!(actor.call(r#"{"id":"x"}"#).await, "[{}]");
    assert_eq!(actor.only("x").await, "{\n  \"id\": \"x\"\n}");
    let files = objects(&actor.root());
    assert!(files.first().unwrap().ends_with("unknown/x.json"), "{files:?}");
}

#[tokio::test]
async fn without_a_store_the_observer_alone_is_told() {
    let actor = Actor::with(End::Happy, false).await;
    assert_eq!(actor.call(r#"{"id":"x"}"#).await, "[{}]");
    assert_eq!(actor.seen(), [("x".to_owned(), None)]);
    assert_eq!(objects(&actor.root()).len(), 0);
}

#[tokio::test]
async fn shutdown_ends_the_server_and_takes_the_ready_file_away() {
    let actor = Actor::start(End::Happy).await;
    let ready = actor.dir.path().join("socket").join(READY_FILE_NAME);
    assert!(ready.exists());
    actor.stop.send(()).unwrap();
    timeout(LIMIT, actor.server).await.unwrap().unwrap().unwrap();
    assert!(!ready.exists());
}
