//! Feeds broken streams of protocol v2 to the decoder, and over real sockets to the server for Rust handlers and to
//! the client, for as long as it is told:
//!
//! ```console
//! cargo run --release -p asya-runtime-protocol --example fuzz_frames -- --seconds 600 --seed 1
//! ```
//!
//! It panics at the first stream that breaks something, and names the seed that makes it again.

#![expect(clippy::print_stdout, reason = "it is a program for the terminal")]
#![expect(clippy::unwrap_used, reason = "a surprise is what it looks for")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use asya_runtime_protocol::v2::frame::{Kind, Reader, put_header};
use asya_runtime_protocol::v2::{
    Advert, Control, ControlEvent, LinkEvent, Request, WorkerId, WorkerLink, WorkerState,
};
use asya_runtime_protocol::{
    HandlerError, HandlerItem, RequestEnvelope, RuntimeClient, ServerOptions, read_ready, serve,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

#[path = "../tests/support/fuzz.rs"]
mod fuzz;
use fuzz::{READERS, Random};

/// Longest payload that the fuzzed ends take.
const MAX_FRAME: usize = 256 * 1024;
/// What the process may have in memory in the end, whatever was announced to it.
const MAX_MEMORY: usize = 512 * 1024 * 1024;
/// No stream may hold its connection for longer.
const PATIENCE: Duration = Duration::from_secs(20);
const ENVELOPE: &str = r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":1}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = argument("--seconds").unwrap_or(60);
    let seed = argument("--seed").unwrap_or(1);
    let dir = tempfile::tempdir()?;
    let options = ServerOptions {
        max_frame: MAX_FRAME,
        ..ServerOptions::new(dir.path())
    };
    let server = tokio::spawn(serve(options, echo, std::future::pending()));
    while read_ready(dir.path())?.is_none() {
        tokio::task::yield_now().await;
    }
    let advert = read_ready(dir.path())?
        .and_then(|ready| ready.v2)
        .ok_or("no v2")?;
    let (end, begun) = (Instant::now() + Duration::from_secs(seconds), Instant::now());
    let mut round = 0;
    while Instant::now() < end && !server.is_finished() {
        let seed = seed.wrapping_add(round);
        let random = &mut Random(seed);
        decoder(random);
        let stream = hostile_client(random, &advert);
        if timeout(PATIENCE, feed(&advert, &stream)).await.is_err() {
            return Err(format!("seed {seed}: the server holds a stream that has ended").into());
        }
        if round % 20 == 0
            && timeout(PATIENCE, hostile_server(random, dir.path()))
                .await
                .is_err()
        {
            return Err(format!("seed {seed}: the client holds on to a server that has ended").into());
        }
        if round % 100 == 0 {
            check_alive(dir.path(), &advert)
                .await
                .map_err(|error| format!("seed {seed}: {error}"))?;
            let memory = resident()?;
            if memory > MAX_MEMORY {
                return Err(format!("seed {seed}: {memory} bytes in memory").into());
            }
        }
        round += 1;
    }
    if server.is_finished() {
        server.await??;
        return Err("the server has ended".into());
    }
    let (time, memory) = (begun.elapsed().as_secs(), peak()? / 1024 / 1024);
    println!("{round} rounds in {time} s, from seed {seed}: nothing broke; at most {memory} MiB in memory");
    Ok(())
}

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

async fn echo(request: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    Ok(vec![HandlerItem::Payload(request.payload())])
}

/// A stream for each reader, as it is and changed, cut in every way.
fn decoder(random: &mut Random) {
    for reader in READERS {
        let mut bytes = fuzz::stream(random, reader);
        fuzz::check(random, reader, &bytes);
        for _ in 0..4 {
            fuzz::mutate(random, &mut bytes);
            fuzz::check(random, reader, &bytes);
        }
    }
}

/// What a client may send that does not mean well: mostly with a HELLO that is taken.
fn hostile_client(random: &mut Random, advert: &Advert) -> Vec<u8> {
    let (connection, reader) = match random.below(3) {
        0 => ("\"control\"", Reader::ControlServer),
        _ => ("\"worker\",\"worker\":0,\"incarnation\":1", Reader::WorkerServer),
    };
    let hello = format!(
        r#"{{"protocol":2,"nonce":"{}","connection":{connection},"client":"fuzz"}}"#,
        advert.nonce
    );
    let mut bytes = fuzz::stream(random, reader);
    if random.below(2) == 0 {
        let mut request = Vec::new();
        put_header(&mut request, Kind::Request, 0, 9, 8 + ENVELOPE.len()).unwrap();
        request.extend([0xff; 4]);
        request.extend([0, 0, 0, 1]);
        request.extend(ENVELOPE.as_bytes());
        bytes.splice(0..0, request);
    }
    if random.below(4) > 0 {
        fuzz::mutate(random, &mut bytes);
    }
    let mut stream = Vec::new();
    put_header(&mut stream, Kind::Hello, 0, 0, hello.len()).unwrap();
    stream.extend(hello.as_bytes());
    stream.extend(bytes);
    if random.below(8) == 0 {
        fuzz::mutate(random, &mut stream);
    }
    stream
}

/// Sends all of a stream, then waits until the server closes.
async fn feed(advert: &Advert, bytes: &[u8]) {
    let Ok(stream) = UnixStream::connect(&advert.socket).await else {
        return;
    };
    let (mut reads, mut writes) = stream.into_split();
    let send = async {
        // The server may close before it has taken all of it.
        let _ = writes.write_all(bytes).await;
        drop(writes);
    };
    let hear = async {
        let mut heard = Vec::new();
        // An end and a reset are both an end.
        let _ = reads.read_to_end(&mut heard).await;
    };
    tokio::join!(send, hear);
}

/// The server still answers over both protocols.
async fn check_alive(dir: &Path, advert: &Advert) -> Result<(), Box<dyn Error>> {
    let v1 = RuntimeClient::new(dir.join("asya-runtime.sock"), MAX_FRAME);
    let expected = v1.call(ENVELOPE.into(), PATIENCE).await?;
    let (mut control, _) = Control::connect(advert, PATIENCE).await?;
    // A stream may have had the worker killed.
    let ControlEvent::Worker(id, WorkerState::Ready { .. }) = timeout(PATIENCE, control.next()).await??
    else {
        return Err("no worker is ready".into());
    };
    let mut link = WorkerLink::connect(advert, id, MAX_FRAME, PATIENCE).await?;
    link.send(request());
    match timeout(PATIENCE, link.next()).await?? {
        LinkEvent::Reply { items, .. } if items == expected => Ok(()),
        other => Err(format!("it answered {other:?}").into()),
    }
}

fn request() -> Request {
    Request {
        budget: None,
        attempt: 1,
        more: false,
        envelope: Bytes::from_static(ENVELOPE.as_bytes()),
    }
}

/// A server that does not mean well, and our client.
async fn hostile_server(random: &mut Random, dir: &Path) {
    let socket = dir.join("hostile");
    // Left by the round before.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let advert = Advert {
        socket,
        nonce: "0123456789abcdef".to_owned(),
    };
    let mut stream = Vec::new();
    put_header(&mut stream, Kind::Welcome, 0, 0, 14).unwrap();
    stream.extend(br#"{"protocol":2}"#);
    stream.extend(fuzz::stream(random, Reader::WorkerClient));
    if random.below(3) > 0 {
        fuzz::mutate(random, &mut stream);
    }
    let serve = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        // The client may close before it has taken all of it.
        let _ = connection.write_all(&stream).await;
    };
    let call = async {
        let id = WorkerId {
            worker: 0,
            incarnation: 1,
        };
        if let Ok(mut link) = WorkerLink::connect(&advert, id, MAX_FRAME, PATIENCE).await {
            for _ in 0..8 {
                link.send(request());
            }
            // Whatever it hears, it must come to an end.
            while link.next().await.is_ok() {}
        }
    };
    tokio::join!(serve, call);
}

fn resident() -> Result<usize, Box<dyn Error>> {
    status("VmRSS:")
}

fn peak() -> Result<usize, Box<dyn Error>> {
    status("VmHWM:")
}

/// A line of the process's status, in bytes.
fn status(name: &str) -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}
