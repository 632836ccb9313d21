//! Which HTTP a peer speaks without TLS: HTTP/2 with prior knowledge begins with a fixed preface, all else is HTTP/1.
//!
//! What was read to find out is given back in front of the rest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What every HTTP/2 connection of a client begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version of HTTP, as far as connections differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// 1.0 and 1.1.
    Http1,
    /// 2.
    Http2,
}

/// Reads until it is clear what the peer speaks.
pub(super) async fn detect<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Protocol, Rewound<S>)> {
    let mut read = [0; PREFACE.len()];
    let mut length = 0;
    let protocol = loop {
        let count = stream.read(&mut read[length..]).await?;
        length += count;
        if count == 0 || read[..length] != PREFACE[..length] {
            break Protocol::Http1;
        }
        if length == PREFACE.len() {
            break Protocol::Http2;
        }
    };
    let rewound = Rewound {
        read,
        at: 0,
        end: length,
        stream,
    };
    Ok((protocol, rewound))
}

/// A stream whose first bytes were read before.
pub(super) struct Rewound<S> {
    read: [u8; PREFACE.len()],
    at: usize,
    end: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at < self.end {
            let count = buffer.remaining().min(self.end - self.at);
            buffer.put_slice(&self.read[self.at..self.at + count]);
            self.at += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Sends `pieces` one by one, each read before the next comes.
    async fn detected(pieces: &[&[u8]]) -> (Protocol, Vec<u8>) {
        let (mut peer, stream) = tokio::io::duplex(1); // One byte fits: the reader sees every prefix.
        let pieces = pieces.concat();
        let writing = tokio::spawn(async move {
            peer.write_all(&pieces).await.unwrap();
        });
        let (protocol, mut rewound) = detect(stream).await.unwrap();
        let mut all = Vec::new();
        rewound.read_to_end(&mut all).await.unwrap();
        writing.await.unwrap();
        (protocol, all)
    }

    #[tokio::test]
    async fn the_preface_of_http2_is_recognised_and_nothing_is_lost() {
        for (pieces, expected) in [
            (&[&PREFACE[..], b"\0\0\0"][..], Protocol::Http2),
            (&[b"GET / HTTP/1.1\r\n\r\n"], Protocol::Http1),
            (&[b"PRI /priority HTTP/1.1\r\n\r\n"], Protocol::Http1),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"], Protocol::Http1),
            (&[b"P"], Protocol::Http1),
            (&[b""], Protocol::Http1),
        ] {
            assert_eq!(detected(pieces).await, (expected, pieces.concat()));
        }
    }
}
