//! Ten hops through native handlers: what nobody asked to change arrives as it left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use asya_runtime_protocol::{Envelope, Reply, ReplyItem};
use bytes::Bytes;

mod support;
use support::{LIMIT, Served, bounded, echo, nested};

/// What a decoder and encoder would change: numbers, escapes, key order, duplicates, white space, depth.
fn payload() -> String {
    format!(
        concat!(
            "{{ \"z\":12345678901234567890123456789 ,\"a\" : [1e400, -0, 1.50, 0.1e-7],\r\n",
            "\t\"\\u00e9\":\"\\ud83d\\ude00 \\ud800 \\/ \u{2028} <&>\",\"a\":null, \"deep\":{} }}"
        ),
        nested(2_000)
    )
}

#[tokio::test]
async fn ten_hops_keep_every_byte() {
    const HOPS: usize = 10;
    let payload = payload();
    let headers = r#"{ "trace":"\u0041" , "n":[1e400 ]}"#;
    let actors: Vec<String> = (0..HOPS).map(|at| format!("a{at}")).collect();
    let start = format!(
        concat!(
            r#"{{"unknown":{{"x" : 1.0}},"payload":{p},"headers":{h},"parent_id":"p","deadline":"2999-01-01T00:00:00Z","#,
            r#""id":"i","route":{{"actors":{a},"metadata":{{"m" : 1.0}},"r":[ ]}}}}"#
        ),
        p = payload,
        h = headers,
        a = serde_json::to_string(&actors).unwrap(),
    );
    let served = Served::start(echo).await;
    let client = served.client();

    // What a sidecar does at each hop.
    let mut body = Bytes::from(start);
    for _ in 0..HOPS {
        let input = Envelope::parse(&body).unwrap();
        let answer = bounded(client.call(input.runtime_request(), LIMIT))
            .await
            .unwrap();
        let [
            ReplyItem::Output {
                payload,
                route,
                headers,
                ..
            },
        ] = &Reply::parse(answer).unwrap()[..]
        else {
            panic!("one item")
        };
        let step = input.envelope.route.step() + 1;
        let output = Envelope {
            payload: Some(payload.clone()),
            route: route.clone().unwrap().with_step(step),
            headers: headers.clone().or_input(input.envelope.headers.as_ref()),
            ..input.envelope
        };
        body = output.to_bytes();
    }

    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        format!(
            concat!(
                r#"{{"id":"i","parent_id":"p","route":{{"actors":{a},"current":10,"#,
                r#""metadata":{{"m":1.0,"asya_step":10}},"r":[ ]}},"headers":{h},"payload":{p},"#,
                r#""deadline":"2999-01-01T00:00:00Z","unknown":{{"x" : 1.0}}}}"#
            ),
            a = serde_json::to_string(&actors).unwrap(),
            h = headers,
            p = payload,
        )
    );
    assert_eq!(
        Envelope::parse(&body).unwrap().envelope.route.current_actor(),
        None
    );
}
