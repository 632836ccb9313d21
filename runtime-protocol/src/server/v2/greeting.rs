//! Connections that have not said HELLO yet.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::v2::decoder::Decoded;
use crate::v2::frame::{Frame, Kind, Reader};
use crate::v2::hello::{Purpose, parse_hello};
use crate::v2::wire::Wire;

/// How long a connection may take to say HELLO, and how many may be about to.
const HELLO_TIME: Duration = Duration::from_secs(5);
const MAX_GREETINGS: usize = 16;

/// Waits for the HELLO of new connections.
#[derive(Default)]
pub(super) struct Greetings {
    nonce: String,
    max_frame: usize,
    tasks: JoinSet<Option<(Wire, Purpose)>>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Greetings {
    pub(super) fn new(nonce: String, max_frame: usize) -> Self {
        Self {
            nonce,
            max_frame,
            ..Self::default()
        }
    }

    /// Takes a new connection in; the oldest one goes if there are too many.
    pub(super) fn begin(&mut self, stream: UnixStream) {
        self.oldest_first.retain(|task| !task.is_finished());
        if self.oldest_first.len() >= MAX_GREETINGS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        let wire = Wire::new(stream, Reader::Accepting, self.max_frame);
        self.oldest_first
            .push_back(self.tasks.spawn(greet(wire, self.nonce.clone())));
    }

    /// The next connection that said what it is for, or one that is gone without; nothing if there is none.
    pub(super) async fn next(&mut self) -> Option<Option<(Wire, Purpose)>> {
        // A task fails only when it was aborted.
        Some(self.tasks.join_next().await?.ok().flatten())
    }
}

async fn greet(mut wire: Wire, nonce: String) -> Option<(Wire, Purpose)> {
    let hello = timeout(HELLO_TIME, wire.next()).await.ok()?;
    // The decoder lets only HELLO through here.
    let Ok(Decoded::Frame(Frame {
        kind: Kind::Hello,
        body,
        ..
    })) = hello
    else {
        return None;
    };
    match parse_hello(&body, &nonce) {
        Ok(purpose) => Some((wire, purpose)),
        Err(text) => {
            wire.break_off(text);
            None
        }
    }
}
