//! One connection: a socket, a decoder and an outbox.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::decoder::{Decoded, Decoder};
use super::frame::{FrameProblem, Kind, Reader};
use super::outbox::Outbox;
use crate::go_duration::GoDuration;

/// Most of the text of an ERROR that is kept.
const MAX_REASON: usize = 1024;

/// Why a connection of protocol v2 ended. Whatever follows is [`LinkError::Closed`].
#[derive(Debug, Error)]
pub enum LinkError {
    /// The other side closed it.
    #[error("the connection was closed")]
    Closed,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// The other side sent what PROTOCOL.md does not allow.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The other side ended it with an ERROR, which says this.
    #[error("refused by the other side: {0}")]
    Remote(String),
}

impl From<FrameProblem> for LinkError {
    fn from(problem: FrameProblem) -> Self {
        Self::Protocol(problem.to_string())
    }
}

#[derive(Debug)]
pub(crate) struct Wire {
    stream: UnixStream,
    decoder: Decoder,
    outbox: Outbox,
    /// Nothing can be written any more; what the other side has said before is still read.
    deaf: bool,
    /// Not all that was queued has been read whole.
    unread: bool,
    ended: bool,
    /// A body of more than 4 GiB, which no header can announce.
    unsendable: Option<FrameProblem>,
    frame_timeout: Option<Duration>,
    /// When the frame that is arriving was first seen.
    frame_began: Option<Instant>,
}

impl Wire {
    pub(crate) fn new(stream: UnixStream, reader: Reader, limit: usize) -> Self {
        Self {
            stream,
            decoder: Decoder::new(reader, limit),
            outbox: Outbox::default(),
            deaf: false,
            unread: false,
            ended: false,
            unsendable: None,
            frame_timeout: None,
            frame_began: None,
        }
    }

    pub(crate) fn set_reader(&mut self, reader: Reader) {
        self.decoder.set_reader(reader);
    }

    /// Ends the connection when a frame takes longer than this to arrive.
    pub(crate) fn set_frame_timeout(&mut self, limit: Duration) {
        self.frame_timeout = Some(limit);
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.remaining()
    }

    /// Queues a frame whose body is `prefix`, then `body`; [`next`](Self::next) writes it.
    pub(crate) fn push(&mut self, kind: Kind, flags: u8, tag: u32, prefix: &[u8], body: Bytes) {
        if self.deaf || self.ended || self.unsendable.is_some() {
            self.unread = true;
            return;
        }
        self.unsendable = self.outbox.push(kind, flags, tag, prefix, body).err();
    }

    /// Whether the other side cannot have read the last frame whole. Known only once the connection has ended.
    pub(crate) fn is_last_unread(&self) -> bool {
        self.unread
    }

    /// Queues a frame with a short body.
    pub(crate) fn push_small(&mut self, kind: Kind, tag: u32, body: &[u8]) {
        self.push(kind, 0, tag, body, Bytes::new());
    }

    /// The next frame. Writes what is queued whenever it has to wait. An ERROR is an error; after any error all that
    /// follows is [`LinkError::Closed`]. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Result<Decoded, LinkError> {
        loop {
            if let Some(decoded) = self.next_or_room(None).await? {
                return Ok(decoded);
            }
        }
    }

    /// As [`next`](Self::next), and nothing as soon as no more than `most` bytes wait to be written.
    pub(crate) async fn next_or_room(&mut self, most: Option<usize>) -> Result<Option<Decoded>, LinkError> {
        if self.ended {
            return Err(LinkError::Closed);
        }
        let next = self.next_or_error(most).await;
        next.map_err(|error| self.end_with(error))
    }

    /// Ends the connection for what the last frame said.
    pub(crate) fn break_off(&mut self, text: String) -> LinkError {
        self.end_with(LinkError::Protocol(text))
    }

    /// The other side is told what it did wrong, if its socket takes that at once: it may not be reading.
    fn end_with(&mut self, error: LinkError) -> LinkError {
        self.unread |= self.outbox.has_remaining();
        if let LinkError::Protocol(text) = &error {
            self.push_small(Kind::Error, 0, text.as_bytes());
            self.poll_write(&mut Context::from_waker(Waker::noop()));
        }
        self.ended = true;
        self.outbox.clear();
        error
    }

    async fn next_or_error(&mut self, most: Option<usize>) -> Result<Option<Decoded>, LinkError> {
        if let Some(problem) = self.unsendable.take() {
            return Err(problem.into());
        }
        loop {
            match self.decoder.frame()? {
                Some(Decoded::Frame(frame)) if frame.kind == Kind::Error => {
                    return Err(LinkError::Remote(reason(&frame.body)));
                }
                Some(decoded) => {
                    self.frame_began = None;
                    return Ok(Some(decoded));
                }
                None => {}
            }
            match self.exchange(most).await {
                // Inside a frame too: a worker that is killed stops anywhere.
                Ok(Some(0)) => return Err(LinkError::Closed),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                // A Unix socket is reset only if its other end closed with bytes unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.unread = true;
                    return Err(LinkError::Closed);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(LinkError::Protocol(error.to_string()));
                }
                Err(error) => return Err(LinkError::Io(error)),
            }
        }
    }

    /// Waits for bytes, and writes in the meantime; nothing as soon as no more than `most` bytes are left to write.
    async fn exchange(&mut self, most: Option<usize>) -> io::Result<Option<usize>> {
        let overdue = self.frame_timeout.filter(|_| !self.decoder.is_between_frames());
        let overdue =
            overdue.map(|limit| (*self.frame_began.get_or_insert_with(Instant::now) + limit, limit));
        let exchanged = poll_fn(|cx| {
            self.poll_write(cx);
            if most.is_some_and(|most| self.outbox.remaining() <= most) {
                return Poll::Ready(Ok(None));
            }
            self.poll_read(cx).map_ok(Some)
        });
        match overdue {
            None => exchanged.await,
            Some((end, limit)) => timeout_at(end, exchanged).await.unwrap_or_else(|_| {
                let text = format!("a frame took longer than {} to arrive", GoDuration(limit));
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }),
        }
    }

    /// Writes all that is queued, if the other side reads it.
    pub(crate) async fn flush(&mut self) {
        poll_fn(|cx| {
            self.poll_write(cx);
            if self.outbox.has_remaining() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Writes as much as the socket takes. It never holds up reading: both sides may have much to say.
    fn poll_write(&mut self, cx: &mut Context<'_>) {
        while self.outbox.has_remaining() {
            match pin!(self.stream.write_buf(&mut self.outbox)).poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(written)) if written > 0 => {}
                // The other side does not read on. Its last words, and the end after them, come by reading.
                Poll::Ready(_) => {
                    self.deaf = true;
                    self.unread = true;
                    self.outbox.clear();
                }
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        pin!(self.stream.read_buf(&mut self.decoder.room())).poll(cx)
    }
}

/// The text of an ERROR: cut, and without characters that could disturb a log.
fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_REASON)]);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
