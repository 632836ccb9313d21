//! The decoder of protocol v2: the same frames however the bytes are cut, and nothing that breaks it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use asya_runtime_protocol::v2::decoder::{Decoded, Decoder};
use asya_runtime_protocol::v2::frame::{
    Frame, FrameProblem, Kind, MAX_CONTROL_BODY, MORE, Reader, put_header,
};
use proptest::prelude::*;

#[path = "support/fuzz.rs"]
mod fuzz;
use fuzz::{READERS, Random};

fn header(length: u32, kind: u8, flags: u8, reserved: u16, tag: u32) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(reserved.to_be_bytes());
    bytes.extend(tag.to_be_bytes());
    bytes
}

/// Takes all of these bytes, and gives the frames.
fn feed(decoder: &mut Decoder, mut bytes: &[u8]) -> Result<Vec<Decoded>, FrameProblem> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let taken = decoder.feed(bytes);
        bytes = &bytes[taken..];
        while let Some(decoded) = decoder.frame()? {
            found.push(decoded);
        }
    }
    Ok(found)
}

fn decode(reader: Reader, bytes: &[u8]) -> Result<Option<Decoded>, FrameProblem> {
    let mut decoder = Decoder::new(reader, 1024);
    Ok(feed(&mut decoder, bytes)?.pop())
}

#[test]
fn a_frame_is_twelve_bytes_and_a_body() {
    let mut bytes = Vec::new();
    put_header(&mut bytes, Kind::Request, MORE, 0x0102_0304, 9).unwrap();
    assert_eq!(bytes, [0, 0, 0, 9, 0x10, 1, 0, 0, 1, 2, 3, 4]);
    bytes.extend(b"123456789");
    let expected = Decoded::Frame(Frame {
        kind: Kind::Request,
        flags: MORE,
        tag: 0x0102_0304,
        body: b"123456789".as_slice().into(),
    });
    assert_eq!(decode(Reader::WorkerServer, &bytes), Ok(Some(expected)));
    for length in 0..bytes.len() {
        assert_eq!(decode(Reader::WorkerServer, &bytes[..length]), Ok(None));
    }
}

#[test]
fn every_type_has_its_number_and_its_readers() {
    use Reader::{Accepting, ControlClient, ControlServer, Greeting, WorkerClient, WorkerServer};
    let all: &[Reader] = &READERS;
    for (kind, byte, readers) in [
        (Kind::Hello, 0x01, &[Accepting][..]),
        (Kind::Welcome, 0x02, &[Greeting]),
        (Kind::Error, 0x0f, all),
        (Kind::Request, 0x10, &[WorkerServer]),
        (Kind::Reply, 0x20, &[WorkerClient]),
        (Kind::Items, 0x21, &[WorkerClient]),
        (Kind::Partial, 0x22, &[WorkerClient]),
        (Kind::Progress, 0x23, &[WorkerClient]),
        (
            Kind::Goodbye,
            0x24,
            &[ControlClient, WorkerClient, ControlServer, WorkerServer],
        ),
        (Kind::Worker, 0x30, &[ControlClient]),
        (Kind::Cancel, 0x31, &[ControlServer]),
        (Kind::Kill, 0x32, &[ControlServer]),
        (Kind::Ping, 0x33, &[ControlServer]),
        (Kind::Pong, 0x34, &[ControlClient]),
        (Kind::Stopping, 0x35, &[ControlClient]),
    ] {
        assert_eq!(kind.byte(), byte);
        for reader in READERS {
            assert_eq!(
                reader.takes(kind),
                readers.contains(&reader),
                "{kind:?} {reader:?}"
            );
        }
    }
    assert_eq!(Kind::ALL.len(), 15);
}

#[test]
fn each_broken_header_is_named() {
    let client = Reader::WorkerClient;
    for (reader, bytes, text) in [
        (client, header(0, 0x7f, 0, 0, 0), "unknown frame type 0x7f"),
        (
            client,
            header(8, 0x10, 0, 0, 1),
            "REQUEST is not allowed from the server of a worker connection",
        ),
        (client, header(2, 0x20, 1, 0, 1), "REPLY with unknown flags 0x01"),
        (
            Reader::WorkerServer,
            header(8, 0x10, 3, 0, 1),
            "REQUEST with unknown flags 0x03",
        ),
        (
            client,
            header(2, 0x20, 0, 0x0102, 1),
            "REPLY with 0x0102 where the header must be zero",
        ),
        (
            client,
            header(0, 0x24, 0, 0, 5),
            "GOODBYE with tag 5, which must be 0",
        ),
        (
            client,
            header(1, 0x24, 0, 0, 0),
            "GOODBYE with a body of 1 bytes, the limit is 0 bytes",
        ),
        (
            client,
            header(0, 0x20, 0, 0, 1),
            "REPLY with a body of 0 bytes, at least 1 are needed",
        ),
        (
            client,
            header(0x8000_0000, 0x23, 0, 0, 1),
            "PROGRESS with a body of 2147483648 bytes, the limit is 65536 bytes",
        ),
    ] {
        assert_eq!(decode(reader, &bytes).unwrap_err().to_string(), text);
    }
}

#[test]
fn what_is_too_large_is_thrown_away_and_the_next_frame_is_read() {
    for (reader, kind, prefix) in [(Reader::WorkerClient, 0x20, 0), (Reader::WorkerServer, 0x10, 8)] {
        let mut decoder = Decoder::new(reader, 1024);
        let fits = header(1024 + prefix, kind, 0, 0, 1);
        let large = header(1025 + prefix, kind, 0, 0, 2);
        let mut found = Vec::new();
        for (header, body) in [(fits, 1024 + prefix), (large, 1025 + prefix)] {
            found.extend(feed(&mut decoder, &header).unwrap());
            for _ in 0..body {
                found.extend(feed(&mut decoder, b"x").unwrap());
            }
        }
        assert!(decoder.is_between_frames());
        assert!(
            matches!(
                &found[..],
                [
                    Decoded::Frame(Frame { tag: 1, .. }),
                    Decoded::TooLarge {
                        tag: 2,
                        length: 1025,
                        limit: 1024,
                        ..
                    }
                ]
            ),
            "{found:?}"
        );
    }
}

#[test]
fn an_announced_length_takes_no_memory() {
    let mut decoder = Decoder::new(Reader::WorkerClient, usize::MAX / 2);
    assert_eq!(
        feed(&mut decoder, &header(0xffff_fff0, 0x20, 0, 0, 1)),
        Ok(vec![])
    );
    let piece = vec![b'x'; 1024 * 1024];
    let mut arrived = 0;
    while arrived < 32 * 1024 * 1024 {
        arrived += decoder.feed(&piece);
        assert_eq!(decoder.frame(), Ok(None));
        let held = decoder.capacity();
        assert!(
            held <= 512 * 1024 + 2 * arrived,
            "{held} bytes are held after {arrived}"
        );
    }
}

#[test]
fn a_large_body_is_not_kept_in_memory_by_the_small_frames_around_it() {
    let mut bytes = header(100_000, 0x20, 0, 0, 1);
    bytes.resize(12 + 100_000, b'x');
    bytes.extend(header(2, 0x20, 0, 0, 2));
    bytes.extend(b"[]");
    let mut decoder = Decoder::new(Reader::WorkerClient, 1024 * 1024);
    let found = feed(&mut decoder, &bytes).unwrap();
    let Ok([Decoded::Frame(Frame { body, .. }), Decoded::Frame(small)]) = <[_; 2]>::try_from(found) else {
        panic!("two frames")
    };
    // What shares memory with nothing else can be taken back for writing.
    assert!(body.try_into_mut().is_ok());
    assert_eq!(small.body, "[]");
}

#[test]
fn the_kept_corpus_and_what_comes_of_it_break_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    for (seed, path) in (1..).zip(&files) {
        let kept = std::fs::read(path).unwrap();
        let (first, bytes) = kept.split_first().unwrap();
        let reader = READERS[usize::from(*first)];
        let random = &mut Random(seed);
        fuzz::check(random, reader, bytes);
        for _ in 0..50 {
            let mut changed = bytes.to_vec();
            fuzz::mutate(random, &mut changed);
            fuzz::check(random, reader, &changed);
        }
    }
}

#[test]
fn random_streams_and_what_comes_of_them_break_nothing() {
    let random = &mut Random(4);
    for round in 0..200 {
        let reader = READERS[round % READERS.len()];
        let mut bytes = fuzz::stream(random, reader);
        fuzz::check(random, reader, &bytes);
        fuzz::mutate(random, &mut bytes);
        fuzz::check(random, reader, &bytes);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_never_give_more_than_they_hold(
        reader in 0..READERS.len(),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        fuzz::check(&mut Random(1), READERS[reader], &bytes);
    }

    #[test]
    fn frames_come_back_as_they_were_written(
        frames in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<u8>(), 8..300)), 0..20),
        cut in 1_usize..100,
    ) {
        let mut bytes = Vec::new();
        for (tag, body) in &frames {
            put_header(&mut bytes, Kind::Request, 0, *tag, body.len()).unwrap();
            bytes.extend(body);
        }
        let mut decoder = Decoder::new(Reader::WorkerServer, MAX_CONTROL_BODY);
        let mut found = Vec::new();
        for piece in bytes.chunks(cut) {
            for decoded in feed(&mut decoder, piece).unwrap() {
                if let Decoded::Frame(frame) = decoded {
                    found.push((frame.tag, frame.body.to_vec()));
                }
            }
        }
        prop_assert!(decoder.is_between_frames());
        prop_assert_eq!(found, frames);
    }
}
