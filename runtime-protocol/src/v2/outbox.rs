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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::v2::frame::HEADER;

    #[test]
    fn small_frames_share_a_piece_and_a_large_body_is_not_copied() {
        let mut outbox = Outbox::default();
        let large = Bytes::from(vec![b'x'; COPIED + 1]);
        for tag in 0..10 {
            let small = Bytes::from_static(b"[]");
            outbox.push(Kind::Reply, 0, tag, &[], small).unwrap();
        }
        outbox.push(Kind::Reply, 0, 10, &[], large.clone()).unwrap();
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(outbox.chunks_vectored(&mut slices), 2);
        assert_eq!(slices[0].len(), 10 * (HEADER + 2) + HEADER);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
    }

    proptest! {
        #[test]
        fn whatever_is_written_at_a_time_leaves_in_order(
            bodies in proptest::collection::vec(0_usize..40_000, 0..12),
            most in 1_usize..100_000,
        ) {
            let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
            for (body, byte) in bodies.into_iter().zip(0_u8..) {
                let body = Bytes::from(vec![byte; body]);
                put_header(&mut expected, Kind::Request, 0, 1, body.len() + 3).unwrap();
                expected.extend(b"abc");
                expected.extend(&body);
                outbox.push(Kind::Request, 0, 1, b"abc", body).unwrap();
            }
            prop_assert_eq!(outbox.remaining(), expected.len());
            let mut written: Vec<u8> = Vec::new();
            while outbox.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = outbox.chunks_vectored(&mut slices);
                let offered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                prop_assert!(offered.starts_with(outbox.chunk()));
                let taken = offered.len().min(most);
                written.extend(&offered[..taken]);
                outbox.advance(taken);
            }
            prop_assert_eq!(outbox.remaining(), 0);
            prop_assert!(written == expected);
        }
    }
}
