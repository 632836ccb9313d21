//! The readiness handshake between sidecar and runtime (contract §6.8), and how protocol v2 is found.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::client::after;
use crate::go_duration::GoDuration;

/// Name of the file that a runtime writes into the socket directory once it listens.
pub const READY_FILE_NAME: &str = "runtime-ready";
/// Name of the file that a sidecar leaves in the socket directory when it begins to drain.
pub const DRAINING_FILE_NAME: &str = "sidecar-draining";
/// Name of the file that a sidecar leaves in the socket directory when it has drained.
pub const DRAINED_FILE_NAME: &str = "sidecar-drained";
/// Name of the file that a sidecar leaves in the socket directory when its work is done (`ASYA_RUN_UNTIL`).
pub const DONE_FILE_NAME: &str = "work-done";
/// Name of the socket in the socket directory.
pub const SOCKET_NAME: &str = "asya-runtime.sock";

/// Time between two looks.
const POLL: Duration = Duration::from_millis(50);
/// Most of the ready file that is read.
const MAX_READY_FILE: u64 = 4096;
/// Digits of a nonce.
const NONCE: std::ops::RangeInclusive<usize> = 8..=64;
/// Longest wait for one connection.
const CONNECT: Duration = Duration::from_secs(2);

/// The runtime was not ready in time; `Display` says what was missing at the last look.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("runtime not ready after {}: {missing}", GoDuration(*.waited))]
pub struct NotReady {
    /// How long it was waited for.
    pub waited: Duration,
    /// What was missing.
    pub missing: String,
}

/// What a ready file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Where protocol v2 is served, if it is.
    pub v2: Option<Advert>,
}

/// The line of the ready file that offers protocol v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The second socket, beside the first.
    pub socket: PathBuf,
    /// New at every start of the server; comes back in each HELLO.
    pub nonce: String,
}

/// Resolves when the sidecar's work is done: a runtime of a pod that ends by itself may end then, with success.
pub async fn work_done(socket_dir: &Path) {
    let mark = socket_dir.join(DONE_FILE_NAME);
    while !mark.exists() {
        sleep(POLL).await;
    }
}

/// Reads the ready file in `socket_dir`; `None` if there is none.
///
/// Lines that are not known, and such that are not as PROTOCOL.md says, are passed over.
pub fn read_ready(socket_dir: &Path) -> io::Result<Option<Ready>> {
    let file = match File::open(socket_dir.join(READY_FILE_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_READY_FILE).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(Some(Ready {
        v2: text.lines().find_map(|line| parse_advert(socket_dir, line)),
    }))
}

fn parse_advert(socket_dir: &Path, line: &str) -> Option<Advert> {
    let mut words = line.split_ascii_whitespace();
    let ("v2", name, nonce, None) = (words.next()?, words.next()?, words.next()?, words.next()) else {
        return None;
    };
    // A name, not a path: it lies beside the file.
    let is_name = !name.contains('/') && name != "." && name != "..";
    let is_nonce = NONCE.contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_name && is_nonce).then(|| Advert {
        socket: socket_dir.join(name),
        nonce: nonce.to_owned(),
    })
}

/// Waits until the ready file is in `socket_dir` and `socket` accepts a connection, which is closed at once.
///
/// Looks at once, then every 50 ms. Safe to cancel.
pub async fn wait_ready(socket_dir: &Path, socket: &Path, limit: Duration) -> Result<(), NotReady> {
    let ready_file = socket_dir.join(READY_FILE_NAME);
    let end = after(limit);
    loop {
        let look = timeout_at(end, look(&ready_file, socket)).await;
        let missing = match look {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(missing)) => missing,
            Err(_) => format!("socket {} accepts no connection", socket.display()),
        };
        if Instant::now() + POLL > end {
            return Err(NotReady {
                waited: limit,
                missing,
            });
        }
        sleep(POLL).await;
    }
}

async fn look(ready_file: &Path, socket: &Path) -> Result<(), String> {
    // A stat of a local file; a thread hop would cost more than it saves.
    if !ready_file.is_file() {
        return Err(format!("ready file {} does not exist", ready_file.display()));
    }
    match timeout(CONNECT, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => Ok(()),
        // Its queue of connections is full: busy, but there.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        Ok(Err(error)) => Err(format!("socket {}: {error}", socket.display())),
        Err(_) => Err(format!("socket {} accepts no connection", socket.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "5f0c1be29c5d4a4f8a6cf3a4b1f7d9e2";

    fn found(text: &str) -> Option<Advert> {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_ready(dir.path()).unwrap(), None);
        std::fs::write(dir.path().join(READY_FILE_NAME), text).unwrap();
        let advert = read_ready(dir.path()).unwrap().unwrap().v2?;
        assert_eq!(advert.socket, dir.path().join(advert.socket.file_name().unwrap()));
        Some(advert)
    }

    #[test]
    fn the_line_of_protocol_v2_is_found_among_others() {
        for text in [
            format!("ready\nv2 s.v2 {NONCE}\n"),
            format!("ready\nv2 s.v2 {NONCE}"),
            format!("ready\nv3 other things here\n\nv2 s.v2 {NONCE}\nv2 late {NONCE}\n"),
        ] {
            let advert = found(&text).unwrap();
            assert!(advert.socket.ends_with("s.v2"));
            assert_eq!(advert.nonce, NONCE);
        }
        let shortest = found("ready\nv2 s 01234567\n").unwrap();
        assert_eq!(shortest.nonce, "01234567");
    }

    #[test]
    fn anything_else_offers_protocol_v1_only() {
        let long = "0".repeat(65);
        for text in [
            String::new(),
            "ready".to_owned(),
            "ready\nv2\n".to_owned(),
            "ready\nv2 s\n".to_owned(),
            format!("ready\nv2 s {NONCE} more\n"),
            format!("ready\nv2 ../s {NONCE}\n"),
            format!("ready\nv2 /tmp/s {NONCE}\n"),
            format!("ready\nv2 .. {NONCE}\n"),
            "ready\nv2 s 0123456\n".to_owned(),
            format!("ready\nv2 s {long}\n"),
            "ready\nv2 s 0123456789abcdeg\n".to_owned(),
            format!("ready\nV2 s {NONCE}\n"),
            format!("{}\nv2 s {NONCE}\n", "x".repeat(5000)),
        ] {
            assert_eq!(found(&text), None, "{text}");
        }
    }
}
