//! A server of protocol v2 that does what a test says, byte by byte. It shares no code with the library.

use std::future::Future;
use std::path::PathBuf;

use asya_runtime_protocol::v2::Advert;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const WELCOME: u8 = 0x02;
pub(crate) const ERROR: u8 = 0x0f;
pub(crate) const REQUEST: u8 = 0x10;
pub(crate) const REPLY: u8 = 0x20;
pub(crate) const ITEMS: u8 = 0x21;
pub(crate) const PARTIAL: u8 = 0x22;
pub(crate) const PROGRESS: u8 = 0x23;
pub(crate) const GOODBYE: u8 = 0x24;
pub(crate) const WORKER: u8 = 0x30;
pub(crate) const CANCEL: u8 = 0x31;
pub(crate) const KILL: u8 = 0x32;
pub(crate) const PING: u8 = 0x33;
pub(crate) const PONG: u8 = 0x34;
pub(crate) const STOPPING: u8 = 0x35;

pub(crate) const NONCE: &str = "0123456789abcdef";
pub(crate) const WELCOME_CONTROL: &str = r#"{"protocol": 2, "revision": 0, "server": "peer/1", "workers": 2, "concurrency": 3, "batch": {"size": 4, "wait_ms": 20}, "stream": true, "cancel_grace_ms": 5000, "max_message_size": 1024, "unknown": []}"#;
pub(crate) const WELCOME_WORKER: &str = r#"{"protocol": 2, "revision": 0}"#;

/// A frame as it is on the wire.
pub(crate) fn frame(kind: u8, flags: u8, tag: u32, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend([kind, flags, 0, 0]);
    bytes.extend(tag.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A frame that came: type, flags, tag, body.
pub(crate) type Came = (u8, u8, u32, Vec<u8>);

/// Reads one frame; `None` at the end of the connection.
pub(crate) async fn take(stream: &mut UnixStream) -> Option<Came> {
    let mut header = [0; 12];
    stream.read_exact(&mut header).await.ok()?;
    let [l0, l1, l2, l3, kind, flags, 0, 0, t0, t1, t2, t3] = header else {
        panic!("the header is {header:?}")
    };
    let mut body = vec![0; usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some((kind, flags, u32::from_be_bytes([t0, t1, t2, t3]), body))
}

/// Reads HELLO and answers with this WELCOME.
pub(crate) async fn welcome(stream: &mut UnixStream, body: &str) -> serde_json::Value {
    let (kind, flags, tag, hello) = take(stream).await.unwrap();
    assert_eq!((kind, flags, tag), (HELLO, 0, 0));
    stream.write_all(&frame(WELCOME, 0, 0, body)).await.unwrap();
    serde_json::from_slice(&hello).unwrap()
}

/// A server whose only connection does what `script` says. The directory lives as long as the test keeps it.
pub(crate) fn peer<F, R>(script: F) -> (TempDir, Advert, JoinHandle<R::Output>)
where
    F: FnOnce(UnixStream) -> R + Send + 'static,
    R: Future<Output: Send> + Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let socket: PathBuf = dir.path().join("v2");
    let listener = UnixListener::bind(&socket).unwrap();
    let advert = Advert {
        socket,
        nonce: NONCE.to_owned(),
    };
    let peer = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        script(stream).await
    });
    (dir, advert, peer)
}
