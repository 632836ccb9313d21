//! Connections that are made ahead of their call: a runtime may close one, and nobody may wait behind one.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use asya_sidecar::{Credit, Role};
use common::{House, PATIENCE, envelope, start, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

const MESSAGES: usize = 60;

/// A runtime of protocol v1 that answers an empty list. After each fifth answer it closes the next connection, which was
/// made while it was busy, without reading from it.
async fn moody(listener: UnixListener, answered: Arc<AtomicUsize>) {
    let mut closes = false;
    while let Ok((stream, _)) = listener.accept().await {
        if std::mem::take(&mut closes) || answer(stream).await.is_err() {
            continue;
        }
        closes = (answered.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(5);
    }
}

/// One connection at a time, as the original's runtime does. An error is a peer that has nothing to say.
async fn answer(mut stream: UnixStream) -> std::io::Result<()> {
    let length = stream.read_u32().await?;
    let mut request = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    stream.read_exact(&mut request).await?;
    stream.write_all(b"\0\0\0\x02[]").await
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_no_message_anything() {
    let house = House::new();
    house.declare(&["work"]).await;
    let mut config = house.config("work", Role::Step);
    config.credit = Credit::Fixed(MESSAGES);
    for index in 0..MESSAGES {
        house
            .publish("work", envelope(&index.to_string(), &["work"], "1"))
            .await;
    }
    std::fs::create_dir_all(&config.socket_dir).unwrap();
    let listener = UnixListener::bind(config.socket()).unwrap();
    std::fs::write(config.socket_dir.join("runtime-ready"), "ready").unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::spawn(moody(listener, Arc::clone(&answered)));
    let sidecar = start(&house, config).await;
    wait_for("all messages to be done", async || {
        house.depth("happy-end").await + house.depth("error-end").await == MESSAGES as u64
    })
    .await;
    let failed = house.take_all("error-end").await;
    let failed: Vec<_> = failed.iter().map(common::Message::text).collect();
    assert!(
        failed.is_empty(),
        "nothing of this was a message's fault: {failed:?}"
    );
    assert_eq!(answered.load(Ordering::SeqCst), MESSAGES, "each was run once");
    assert_eq!(sidecar.drain(PATIENCE).await.returned, 0);
    runtime.abort();
}
