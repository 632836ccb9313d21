//! Frames of protocol v1: a length of 4 bytes, big-endian, then as many bytes (contract §6.1).
//!
//! Each side of a connection sends one frame, so a reader may take whatever arrives in one go: nothing that belongs
//! to somebody else can follow.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest frame that is accepted unless configured otherwise: 64 MiB.
pub const DEFAULT_MAX_FRAME: usize = 64 * 1024 * 1024;

/// Bytes of the length.
const HEADER: usize = 4;
/// First buffer: most frames fit, so that one read takes length and body.
const FIRST_READ: usize = 4 * 1024;
/// Most memory that an announced length alone can claim, before bytes have arrived.
const MAX_STEP: usize = 1024 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The peer closed before the first byte.
    #[error("connection closed before a frame")]
    Closed,
    /// The peer closed inside the length.
    #[error("connection closed inside the length prefix: {received} of 4 bytes")]
    PartialLength {
        /// Bytes that came.
        received: usize,
    },
    /// The peer closed inside the body.
    #[error("connection closed inside the body: {received} of {length} bytes")]
    PartialBody {
        /// Bytes of the body that came.
        received: usize,
        /// Bytes that were announced.
        length: usize,
    },
    /// The frame is longer than allowed; nothing was allocated for it.
    #[error("frame of {length} bytes is over the limit of {limit} bytes")]
    TooLong {
        /// Bytes that were announced.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the only frame that the peer sends on this connection; bytes after it may be swallowed.
///
/// An announced length above `limit` is refused before memory is taken; below it the buffer grows with the bytes
/// that arrive. Cancelling loses what was read.
pub async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R, limit: usize) -> Result<Bytes, FrameError> {
    let mut buffer = BytesMut::with_capacity(FIRST_READ);
    while buffer.len() < HEADER {
        if reader.read_buf(&mut buffer).await? == 0 {
            return Err(match buffer.len() {
                0 => FrameError::Closed,
                received => FrameError::PartialLength { received },
            });
        }
    }
    let announced = buffer.get_u32();
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    while buffer.len() < length {
        if buffer.capacity() == buffer.len() {
            let step = buffer.len().clamp(FIRST_READ, MAX_STEP);
            buffer.reserve(step.min(length - buffer.len()));
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Err(FrameError::PartialBody {
                received: buffer.len(),
                length,
            });
        }
    }
    buffer.truncate(length);
    Ok(buffer.freeze())
}

/// Writes one frame; length and body leave in one system call where the socket allows it.
pub async fn write_frame<W: AsyncWrite + Unpin>(writer: &mut W, body: &Bytes) -> Result<(), FrameError> {
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLong {
        length: body.len(),
        limit: usize::try_from(u32::MAX).unwrap_or(usize::MAX),
    })?;
    let mut frame = Bytes::copy_from_slice(&length.to_be_bytes()).chain(body.clone());
    writer.write_all_buf(&mut frame).await?;
    writer.flush().await?;
    Ok(())
}
