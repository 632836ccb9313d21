//! What is queued to be written: small frames together in one piece, large bodies as they are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{FrameProblem, Kind, put_header};

/// Bodies up to here are copied behind their header: cheaper than a piece of their own in a vectored write.
const COPIED: usize = 8 * 1024;
/// A piece of small frames is closed above this, so that its memory comes free as it is written.
const PIECE: usize = 64 * 1024;

/// Frames that wait to be written, in order. Read it as a [`Buf`].
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Small frames after the pieces.
    tail: BytesMut,
    /// Bytes of all pieces, without the tail.
    queued: usize,
}

impl Outbox {
    /// Queues a frame whose body is `prefix`, then `body`.
    pub(super) fn push(
        &mut self,
        kind: Kind,
        flags: u8,
        tag: u32,
        prefix: &[u8],
        body: Bytes,
    ) -> Result<(), FrameProblem> {
        put_header(
            &mut self.tail,
            kind,
            flags,
            tag,
            prefix.len().saturating_add(body.len()),
        )?;
        self.tail.extend_from_slice(prefix);
        if body.len() <= COPIED {
            self.tail.extend_from_slice(&body);
            if self.tail.len() > PIECE {
                self.close_tail();
            }
        } else {
            self.close_tail();
            self.queued += body.len();
            self.pieces.push_back(body);
        }
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn close_tail(&mut self) {
        let piece = self.tail.split().freeze();
        self.queued += piece.len();
        self.pieces.push_back(piece);
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.queued + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail, Bytes::as_ref)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail: &[u8] = &self.tail;
        let chunks = self.pieces.iter().map(Bytes::as_ref).chain([tail]);
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks.filter(|chunk| !chunk.is_empty())) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                return self.tail.advance(written);
            };
            let part = written.min(piece.len());
            piece.advance(part);
            self.queued -= part;
            written -= part;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}
