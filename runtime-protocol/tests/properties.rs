//! What must hold for every envelope, however it is written, and for every tree of splits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::HashSet;

use asya_runtime_protocol::{Envelope, RawJson, RawObject, Reply, ReplyItem, Route, child_id};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// JSON values as text, with everything that a decoder and encoder would change.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.0",
            "1E400",
            "1e-999",
            "0.1000",
            "12345678901234567890123",
            r#""""#,
            r#""\ud800""#,
            r#""\u00e9\/\u0041""#,
            "\"é\u{2028}😀\"",
            r#""a\"b\\""#,
            "{}",
            "[ ]",
            "{ }",
        ])
        .prop_map(str::to_owned),
        any::<f64>()
            .prop_filter("JSON has no NaN", |x| x.is_finite())
            .prop_map(|x| format!("{x:e}")),
        any::<String>().prop_map(|x| serde_json::to_string(&x).unwrap()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (space(), vec(inner.clone(), 0..4))
                .prop_map(|(s, items)| format!("[{s}{}{s}]", items.join(&format!("{s},")))),
            (space(), vec((key(), inner), 0..4)).prop_map(|(s, members)| object(&members, &s)),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![r#""a""#, r#""\ud800""#, r#""\u0061""#, r#""""#, r#""é""#]).prop_map(str::to_owned),
        "[a-z]{1,3}".prop_map(|x| format!("\"{x}\"")),
    ]
}

/// Keys at the top level that are nobody's.
fn unknown_key() -> impl Strategy<Value = String> {
    key().prop_map(|key| format!("\"x-{}", &key[1..]))
}

fn space() -> impl Strategy<Value = String> {
    select(vec!["", " ", "\n", "\t\r\n "]).prop_map(str::to_owned)
}

fn object(members: &[(String, String)], space: &str) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(key, value)| format!("{space}{key}{space}:{space}{value}"))
        .collect();
    format!("{{{}{space}}}", members.join(","))
}

fn object_value() -> impl Strategy<Value = String> {
    (vec((key(), value()), 0..4), space()).prop_map(|(members, space)| object(&members, &space))
}

#[derive(Debug, Clone)]
struct Message {
    id: String,
    actors: Vec<String>,
    current: i64,
    metadata: Option<String>,
    headers: Option<String>,
    payload: Option<String>,
    unknown: Vec<(String, String)>,
    /// Earlier members of the same names, which must not count.
    duplicates: bool,
    space: String,
    order: Vec<usize>,
}

impl Message {
    fn text(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let mut route = vec![
            (
                "\"actors\"".to_owned(),
                serde_json::to_string(&self.actors).unwrap(),
            ),
            ("\"current\"".to_owned(), self.current.to_string()),
        ];
        route.extend(
            self.metadata
                .clone()
                .map(|metadata| ("\"metadata\"".to_owned(), metadata)),
        );
        let mut known = vec![
            ("\"id\"".to_owned(), quoted(&self.id)),
            ("\"route\"".to_owned(), object(&route, &self.space)),
        ];
        known.extend(
            self.headers
                .clone()
                .map(|headers| ("\"headers\"".to_owned(), headers)),
        );
        known.extend(
            self.payload
                .clone()
                .map(|payload| ("\"payload\"".to_owned(), payload)),
        );
        let mut members = Vec::new();
        if self.duplicates {
            members.extend(
                known
                    .iter()
                    .map(|(key, _)| (key.clone(), "[\"wrong\"]".to_owned())),
            );
        }
        // Any permutation of the known members, the unknown ones between them in their own order.
        let mut unknown = self.unknown.iter().cloned();
        let mut order: Vec<usize> = (0..known.len()).collect();
        order.sort_by_key(|&at| self.order[at]);
        for at in order {
            members.push(known[at].clone());
            members.extend(unknown.next());
        }
        members.extend(unknown);
        object(&members, &self.space)
    }
}

fn message() -> impl Strategy<Value = Message> {
    (
        ("[a-zé\"\\\\\n]{1,8}", vec(any::<String>(), 0..4), any::<i64>()),
        (
            proptest::option::of(object_value()),
            proptest::option::of(object_value()),
            proptest::option::of(value()),
            vec((unknown_key(), value()), 0..4),
        ),
        (any::<bool>(), space(), vec(any::<usize>(), 4)),
    )
        .prop_map(
            |((id, actors, current), (metadata, headers, payload, unknown), (duplicates, space, order))| {
                Message {
                    id,
                    actors,
                    current,
                    metadata,
                    headers,
                    payload,
                    unknown,
                    duplicates,
                    space,
                    order,
                }
            },
        )
}

fn parse(body: &Bytes) -> Envelope {
    Envelope::parse(body)
        .unwrap_or_else(|error| panic!("{error}"))
        .envelope
}

proptest! {
    #[test]
    fn every_envelope_keeps_its_values_byte_for_byte(message in message()) {
        let parsed = Envelope::parse(&Bytes::from(message.text())).unwrap();
        prop_assert_eq!(parsed.needs_normalisation(), message.duplicates);
        let request = parsed.runtime_request();
        for envelope in [parsed.envelope.clone(), parse(&parsed.envelope.to_bytes()), parse(&request)] {
            prop_assert_eq!(&envelope.id, &message.id);
            prop_assert_eq!(&envelope.route.actors, &message.actors);
            prop_assert_eq!(envelope.route.current, message.current);
            prop_assert_eq!(
                envelope.headers.as_ref().map(RawObject::as_str),
                message.headers.as_deref()
            );
            let unknown: Vec<_> =
                envelope.extra.members().iter().map(|member| member.value.as_str().to_owned()).collect();
            let expected: Vec<_> = message.unknown.iter().map(|(_, value)| value.clone()).collect();
            prop_assert_eq!(unknown, expected);
        }
        prop_assert_eq!(parsed.envelope.payload.as_ref().map(RawJson::as_str), message.payload.as_deref());
        prop_assert_eq!(parsed.envelope.route.metadata.as_str(), message.metadata.as_deref().unwrap_or("{}"));
    }

    #[test]
    fn writing_is_a_fixed_point(message in message()) {
        let once = parse(&Bytes::from(message.text())).to_bytes();
        let twice = Envelope::parse(&once).unwrap();
        prop_assert_eq!(&twice.envelope.to_bytes(), &once);
        prop_assert!(!twice.needs_normalisation());
    }

    #[test]
    fn the_result_is_json_that_others_read(message in message()) {
        let written = parse(&Bytes::from(message.text())).to_bytes();
        serde_json::from_slice::<&serde_json::value::RawValue>(&written).unwrap();
    }

    #[test]
    fn no_bytes_make_a_parser_panic(body in vec(any::<u8>(), 0..64)) {
        let body = Bytes::from(body);
        let _ = (Envelope::parse(&body), Reply::parse(body));
    }

    #[test]
    fn no_damage_to_a_message_makes_a_parser_panic(message in message(), at in any::<usize>(), byte in any::<u8>()) {
        let mut body = message.text().into_bytes();
        let at = at % body.len();
        body[at] = byte;
        if let Ok(parsed) = Envelope::parse(&Bytes::from(body)) {
            parse(&parsed.envelope.to_bytes());
        }
    }

    #[test]
    fn replies_keep_payloads_byte_for_byte(payloads in vec(value(), 0..4), space in space()) {
        let items: Vec<_> = payloads
            .iter()
            .map(|payload| object(&[("\"payload\"".to_owned(), payload.clone())], &space))
            .collect();
        let found: Vec<_> = Reply::parse(Bytes::from(format!("[{space}{}{space}]", items.join(","))))
            .unwrap()
            .into_iter()
            .map(|item| match item {
                ReplyItem::Output { payload, .. } => payload.as_str().to_owned(),
                other @ ReplyItem::Error { .. } => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(found, payloads);
    }

    #[test]
    fn bookkeeping_never_touches_what_others_keep(metadata in object_value(), steps in vec(any::<u64>(), 1..4)) {
        let body = format!(r#"{{"id":"i","route":{{"metadata":{metadata}}}}}"#);
        let mut route = parse(&Bytes::from(body)).route;
        let before = route.metadata.members();
        for step in steps {
            route.set_step(step);
            prop_assert_eq!(route.step(), step);
        }
        route.set_split();
        prop_assert!(route.is_split());
        prop_assert_eq!(&route.metadata.members()[..before.len()], &before[..]);
        prop_assert_eq!(route.metadata.members().len(), before.len() + 2);
    }

    /// `splits` decides, hop by hop, into how many items each living envelope is split.
    #[test]
    fn ids_are_distinct_in_every_tree_of_splits(splits in vec(vec(1_usize..4, 1..6), 1..6)) {
        let root = (String::from("root"), Route::new(["a"]));
        let mut seen = HashSet::from([root.0.clone()]);
        let mut living = vec![root];
        for hop in &splits {
            let mut next = Vec::new();
            for (at, (id, route)) in living.iter().enumerate() {
                let items = hop[at % hop.len()];
                for index in 0..items {
                    let child = child_id(id, index, route.step(), route.is_split());
                    prop_assert_eq!(&child, &child_id(id, index, route.step(), route.is_split()), "a repeat");
                    prop_assert!(child.starts_with(id.as_str()));
                    let mut route = route.clone();
                    if index == 0 {
                        if items > 1 {
                            route.set_split();
                        }
                    } else {
                        prop_assert!(seen.insert(child.clone()), "{} twice", child);
                        route.clear_split();
                    }
                    let step = route.step() + 1;
                    next.push((child, route.with_step(step)));
                }
            }
            // Enough to find collisions, few enough to stay quick.
            next.truncate(200);
            living = next;
        }
    }
}
