//! The server for native handlers, over real sockets, with peers that do as they like.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::{
    DONE_FILE_NAME, DRAINED_FILE_NAME, EnvelopeItem, HandlerError, HandlerItem, HeadersField, Protocols,
    RawJson, RawObject, Ready, Reply, ReplyItem, RequestEnvelope, Route, RuntimeClient, ServeError,
    ServerOptions, read_ready, serve, wait_ready, work_done,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Barrier, Notify, Semaphore};

mod support;
use support::{LIMIT, Served, bounded, echo, nested};

const REQUEST: &str = r#"{"id":"i","route":{"actors":["a","b"],"current":0},"payload":1}"#;

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
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
async fn payload_items_get_the_route_one_position_on_and_the_headers() {
    let served = Served::start(async |request: RequestEnvelope| {
        Ok(vec![
            HandlerItem::Payload(request.payload()),
            HandlerItem::Payload(RawJson::null()),
        ])
    })
    .await;
    let answer = served
        .call(concat!(
            r#"{"id":"i","route":{"current":0,"actors":["a","b"],"metadata":{"m":1.0},"x":[ ]},"#,
            r#""payload":{"b": 1e400,"a":"\ud800"},"headers":{"h" : 1.0}}"#
        ))
        .await;
    let rest =
        r#""route":{"actors":["a","b"],"current":1,"metadata":{"m":1.0},"x":[ ]},"headers":{"h" : 1.0}}"#;
    assert_eq!(
        text(&answer),
        format!(r#"[{{"payload":{{"b": 1e400,"a":"\ud800"}},{rest},{{"payload":null,{rest}]"#)
    );
}

#[tokio::test]
async fn no_items_are_an_empty_array() {
    let served = Served::start(async |_: RequestEnvelope| Ok(Vec::new())).await;
    assert_eq!(served.call(REQUEST).await, "[]");
}

#[tokio::test]
async fn envelope_items_are_written_as_given_without_validation() {
    let served = Served::with(
        async |_: RequestEnvelope| {
            Ok(vec![
                HandlerItem::Envelope(EnvelopeItem::default()),
                HandlerItem::Envelope(EnvelopeItem {
                    payload: None,
                    route: Some(Route::new(["x"])),
                    headers: HeadersField::Null,
                    extra: RawObject::try_from(RawJson::parse(r#"{"retry":1.0}"#).unwrap()).unwrap(),
                }),
            ])
        },
        |options| options.validation = false,
    )
    .await;
    assert_eq!(
        served.call("{}").await,
        r#"[{},{"route":{"actors":["x"],"current":0},"headers":null,"retry":1.0}]"#
    );
}

#[tokio::test]
async fn envelope_items_may_change_what_lies_ahead_but_not_what_is_done() {
    let served = Served::start(async |request: RequestEnvelope| {
        let item = |actors: &[&str], current| {
            HandlerItem::Envelope(EnvelopeItem {
                payload: Some(request.payload()),
                route: Some(Route {
                    current,
                    ..Route::new(actors.iter().copied())
                }),
                ..EnvelopeItem::default()
            })
        };
        Ok(vec![
            item(&["a", "c"], 0),
            item(&["a", "c"], 1),
            item(&["a"], 1),
            item(&["b"], 1),
            item(&["a"], 2),
            HandlerItem::Envelope(EnvelopeItem::default()),
            item(&["a", "a", "b"], 0),
        ])
    })
    .await;
    let mut found = Vec::new();
    for item in Reply::parse(served.call(REQUEST).await).unwrap() {
        found.push(match item {
            ReplyItem::Output {
                route: Some(route), ..
            } => format!("{} {}", route.actors.join(","), route.current),
            ReplyItem::Error {
                details: Some(details),
                ..
            } => details.message().unwrap(),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(
        found,
        [
            "a,c 1",
            "a,c 1",
            "a 1",
            "Invalid output envelope[3/7]: Route modification error: already-processed actors cannot be erased; \
             the first 1 must stay",
            "Invalid output envelope[4/7]: Invalid route.current=2: out of bounds for actors of length 1",
            "Invalid output envelope[5/7]: Missing required field 'payload' in envelope",
            "a,a,b 1",
        ]
    );
}

#[tokio::test]
async fn bad_requests_are_answered_with_what_is_wrong() {
    let served = Served::start(echo).await;
    for (request, message, exception) in [
        (
            &b""[..],
            "EOF while parsing a value at line 1 column 0",
            "JSONDecodeError",
        ),
        (b"\xff", "invalid UTF-8 at byte 0", "UnicodeDecodeError"),
        (
            b"[]",
            "the message must be a JSON object, found an array",
            "ValueError",
        ),
        (
            b"{}",
            "Missing required field 'payload' in envelope",
            "ValueError",
        ),
        (
            b"{\"payload\":1}",
            "Missing required field 'route' in envelope",
            "ValueError",
        ),
        (
            b"{\"payload\":1,\"route\":{}}",
            "Field 'route.actors' cannot be empty",
            "ValueError",
        ),
        (
            b"{\"payload\":1,\"route\":{\"actors\":[\"a\"],\"current\":2}}",
            "Invalid route.current=2: out of bounds for actors of length 1",
            "ValueError",
        ),
        (
            b"{\"payload\":1,\"route\":{\"actors\":[\"a\"],\"current\":-1}}",
            "Invalid route.current=-1: out of bounds for actors of length 1",
            "ValueError",
        ),
    ] {
        let found = error(bounded(served.call(request)).await);
        assert_eq!(
            found,
            (
                "msg_parsing_error".to_owned(),
                message.to_owned(),
                exception.to_owned()
            )
        );
    }
    // The end position is legal.
    let answer = served
        .call(r#"{"payload":1,"route":{"actors":["a"],"current":1}}"#)
        .await;
    assert_eq!(answer, r#"[{"payload":1,"route":{"actors":["a"],"current":2}}]"#);
}

#[tokio::test]
async fn a_failure_is_one_item_with_code_text_and_type() {
    let served = Served::start(async |_: RequestEnvelope| {
        Err(HandlerError::new("no \"space\"")
            .exception("StorageError")
            .traceback("line 1\nline 2"))
    })
    .await;
    assert_eq!(
        served.call(REQUEST).await,
        concat!(
            r#"[{"error":"processing_error","details":{"message":"no \"space\"","#,
            r#""type":"StorageError","traceback":"line 1\nline 2"}}]"#
        )
    );
}

#[tokio::test]
async fn a_failure_may_be_known_by_wider_names() {
    let served = Served::start(async |_: RequestEnvelope| {
        Err(HandlerError::new("no")
            .exception("DiskFull")
            .is_a(["StorageError", "OSError"]))
    })
    .await;
    assert_eq!(
        served.call(REQUEST).await,
        concat!(
            r#"[{"error":"processing_error","details":{"message":"no","type":"DiskFull","traceback":"","#,
            r#""mro":["DiskFull","StorageError","OSError"]}}]"#
        )
    );
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let served = Served::start(async |request: RequestEnvelope| {
        assert!(
            !request.payload().is_null(),
            "no payload for {}",
            request.envelope.id
        );
        echo(request).await
    })
    .await;
    let found = error(served.call(REQUEST.replace('1', "null")).await);
    assert_eq!(
        found,
        (
            "processing_error".to_owned(),
            "no payload for i".to_owned(),
            "Panic".to_owned()
        )
    );
    assert!(text(&served.call(REQUEST).await).starts_with(r#"[{"payload":1,"#));
}

#[tokio::test]
async fn sixty_four_megabytes_and_any_depth_pass_through() {
    let served = Served::start(echo).await;
    let shell = r#"{"route":{"actors":["a"]},"payload":""}"#.len();
    let room = served.options.max_frame - shell - 64;
    for payload in [format!("\"{}\"", "x".repeat(room)), nested(200_000)] {
        let answer =
            bounded(served.call(format!(r#"{{"route":{{"actors":["a"]}},"payload":{payload}}}"#))).await;
        let items = Reply::parse(answer).unwrap();
        assert!(matches!(&items[..], [ReplyItem::Output { payload: back, .. }] if back.as_str() == payload));
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_with_a_reason_in_both_directions() {
    let served = Served::with(
        async |_: RequestEnvelope| Ok(vec![HandlerItem::Payload(RawJson::from_text(&"x".repeat(2000)))]),
        |options| options.max_frame = 1000,
    )
    .await;
    let (code, message, _) = error(bounded(served.call(vec![b' '; 8 * 1024 * 1024])).await);
    assert_eq!(code, "connection_error");
    assert_eq!(message, "frame of 8388608 bytes is over the limit of 1000 bytes");
    let (code, message, _) = error(served.call(REQUEST).await);
    assert_eq!(code, "processing_error");
    assert!(message.ends_with("the limit is 1000 bytes"), "{message}");
}

#[tokio::test]
async fn four_gigabytes_are_refused_by_their_length_alone() {
    let served = Served::start(echo).await;
    let mut stream = UnixStream::connect(served.options.socket()).await.unwrap();
    stream.write_all(b"\xff\xff\xff\xff").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(error(Bytes::from(answer).slice(4..)).0, "connection_error");
}

#[tokio::test]
async fn peers_that_stall_or_leave_do_not_hold_up_the_others() {
    let served = Served::start(echo).await;
    let mut stalled = Vec::new();
    for part in [&b""[..], b"\x00\x00", b"\x00\x00\x00\xff{"] {
        for leaves in [true, false] {
            let mut stream = UnixStream::connect(served.options.socket()).await.unwrap();
            stream.write_all(part).await.unwrap();
            if !leaves {
                stalled.push(stream);
            }
        }
    }
    assert!(text(&bounded(served.call(REQUEST)).await).starts_with(r#"[{"payload":1,"#));
    drop(stalled);
}

#[tokio::test]
async fn a_peer_that_never_sends_is_dropped_in_time() {
    let served = Served::with(echo, |options| options.io_timeout = Duration::from_millis(20)).await;
    let mut stream = UnixStream::connect(served.options.socket()).await.unwrap();
    stream.write_all(b"\x00\x00").await.unwrap();
    assert_eq!(bounded(stream.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn one_handler_runs_at_a_time_unless_more_are_allowed() {
    for allowed in [1, 3] {
        let busy = Arc::new(Semaphore::new(allowed));
        let together = Arc::new(Barrier::new(allowed));
        let handler = move |request| {
            let (busy, together) = (Arc::clone(&busy), Arc::clone(&together));
            async move {
                let _one = busy
                    .try_acquire()
                    .map_err(|_| HandlerError::new("too many at a time"))?;
                together.wait().await;
                echo(request).await
            }
        };
        let served = Served::with(handler, |options| {
            options.concurrency = NonZeroUsize::new(allowed).unwrap();
        })
        .await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let client = served.client();
            calls.spawn(async move { client.call(REQUEST.into(), LIMIT).await.unwrap() });
        }
        for answer in bounded(calls.join_all()).await {
            assert!(text(&answer).starts_with(r#"[{"payload":1,"#), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn files_say_when_it_listens_and_are_gone_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("asya-runtime.sock");
    drop(tokio::net::UnixListener::bind(&stale).unwrap());
    for protocols in [Protocols::V1Only, Protocols::V1AndV2] {
        let served = Served::with(echo, |options| {
            options.socket_dir = dir.path().to_owned();
            options.protocols = protocols;
        })
        .await;
        let ready = std::fs::read_to_string(dir.path().join("runtime-ready")).unwrap();
        let found = read_ready(dir.path()).unwrap().unwrap().v2;
        let mut sockets = vec![stale.clone()];
        match protocols {
            Protocols::V1Only => assert_eq!((&*ready, found), ("ready", None)),
            Protocols::V1AndV2 => {
                let advert = found.unwrap();
                assert_eq!(
                    ready,
                    format!("ready\nv2 asya-runtime.sock.v2 {}\n", advert.nonce)
                );
                sockets.push(advert.socket);
            }
        }
        for socket in &sockets {
            let mode = std::fs::metadata(socket).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o666);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), sockets.len() + 1);
        let (_dir, stopped) = served.stop();
        bounded(stopped).await.unwrap().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_path_that_has_room_for_one_protocol_only_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let room = 107 - dir.path().as_os_str().len() - 1;
    let served = Served::with(echo, |options| {
        options.socket_dir = dir.path().to_owned();
        options.socket_name = "s".repeat(room);
    })
    .await;
    assert_eq!(read_ready(dir.path()).unwrap(), Some(Ready { v2: None }));
    assert!(text(&served.call(REQUEST).await).starts_with(r#"[{"payload":1,"#));
}

#[tokio::test]
async fn stopping_answers_everything_that_was_connected() {
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (started, go_on) = (Arc::clone(&started), Arc::clone(&go_on));
        move |request: RequestEnvelope| {
            let (started, go_on) = (Arc::clone(&started), Arc::clone(&go_on));
            async move {
                if request.envelope.id == "slow" {
                    started.notify_one();
                    go_on.notified().await;
                }
                echo(request).await
            }
        }
    };
    let served = Served::start(handler).await;
    let (socket, client) = (served.options.socket(), served.client());
    let slow = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .call(REQUEST.replace("\"i\"", "\"slow\"").into(), LIMIT)
                .await
        }
    });
    bounded(started.notified()).await;
    // Connected, but the handler is busy, and the request comes only after the stop.
    let mut late = UnixStream::connect(&socket).await.unwrap();
    let (_dir, stopped) = served.stop();
    bounded(async {
        while socket.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(client.call(REQUEST.into(), LIMIT).await.is_err());
    late.write_all(&u32::try_from(REQUEST.len()).unwrap().to_be_bytes())
        .await
        .unwrap();
    late.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(!stopped.is_finished());
    go_on.notify_one();
    assert!(text(&bounded(slow).await.unwrap().unwrap()).starts_with(r#"[{"payload":1,"#));
    let mut answer = Vec::new();
    bounded(late.read_to_end(&mut answer)).await.unwrap();
    assert!(answer[4..].starts_with(br#"[{"payload":1,"#));
    bounded(stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn dropping_the_server_removes_the_files_and_ends_the_handler() {
    struct Tell(Arc<Notify>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let gone = Arc::new(Notify::new());
    let started = Arc::new(Notify::new());
    let handler = {
        let (gone, started) = (Arc::clone(&gone), Arc::clone(&started));
        move |_| {
            let tell = Tell(Arc::clone(&gone));
            started.notify_one();
            async move {
                let _tell = tell;
                std::future::pending().await
            }
        }
    };
    let served = Served::start(handler).await;
    let socket = served.options.socket();
    let call = tokio::spawn({
        let client = served.client();
        async move { client.call(REQUEST.into(), LIMIT).await }
    });
    bounded(started.notified()).await;
    served.abort();
    bounded(gone.notified()).await;
    assert!(bounded(call).await.unwrap().is_err());
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |change: &dyn Fn(&mut ServerOptions)| -> ServeError {
        let mut options = ServerOptions::new(dir.path());
        change(&mut options);
        bounded(serve(options, echo, std::future::pending()))
            .await
            .unwrap_err()
    };
    let error = start(&|options| options.socket_name = "x".repeat(108)).await;
    assert!(error.to_string().contains("at most 107"), "{error}");
    std::fs::create_dir(dir.path().join("d")).unwrap();
    let error = start(&|options| options.socket_name = "d".to_owned()).await;
    assert!(
        error.to_string().starts_with("cannot remove the stale socket "),
        "{error}"
    );
    std::fs::write(dir.path().join("f"), "").unwrap();
    let error = start(&|options| options.socket_dir = dir.path().join("f")).await;
    assert!(
        error.to_string().starts_with("cannot create directory "),
        "{error}"
    );
}

#[tokio::test]
async fn a_runtime_of_a_pod_that_ends_by_itself_ends_when_the_work_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(directory.path());
    let path = directory.path().to_owned();
    let done = async move { work_done(&path).await };
    let server = tokio::spawn(serve(options.clone(), echo, done));
    bounded(wait_ready(&options.socket_dir, &options.socket(), LIMIT))
        .await
        .unwrap();
    // Other marks do not mean that.
    std::fs::write(directory.path().join(DRAINED_FILE_NAME), "").unwrap();
    let client = RuntimeClient::new(options.socket(), 1 << 20);
    bounded(client.call(Bytes::from_static(REQUEST.as_bytes()), LIMIT))
        .await
        .unwrap();
    assert!(!server.is_finished());
    std::fs::write(directory.path().join(DONE_FILE_NAME), "").unwrap();
    bounded(server).await.unwrap().unwrap();
    assert!(!options.socket().exists());
}
