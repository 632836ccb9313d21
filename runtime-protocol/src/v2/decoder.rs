//! From bytes to frames, without any I/O: read into [`Decoder::room`], take frames from [`Decoder::frame`].

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::{Frame, FrameProblem, HEADER, Header, Kind, REQUEST_PREFIX, Reader};

/// The buffer of small frames: many answers fit into one read. Longer bodies get a buffer of their own, so that
/// nothing small keeps them in memory, and nothing is moved when they grow.
const SMALL: usize = 64 * 1024;
/// Less room than this in it is not worth a read.
const LEAST_ROOM: usize = 4 * 1024;
/// Most room that an announced length alone can claim.
const FIRST_ROOM: usize = 256 * 1024;

/// Cuts a stream of bytes into frames and checks their headers.
///
/// Memory grows with what has arrived, never with what was announced: it stays below 512 KiB and twice the bytes that
/// came since the last frame.
#[derive(Debug)]
pub struct Decoder {
    reader: Reader,
    limit: usize,
    small: BytesMut,
    state: State,
}

#[derive(Debug)]
enum State {
    Header,
    Small(Header),
    Large(Header, BytesMut),
    /// Bytes of a body that are still to be thrown away.
    Skipping(usize),
}

/// What a stream of bytes contained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame.
    Frame(Frame),
    /// The header of a frame whose payload is beyond the limit. Its body is thrown away as it comes.
    TooLarge {
        /// Its type: REQUEST, REPLY, ITEMS or PARTIAL.
        kind: Kind,
        /// Its flags.
        flags: u8,
        /// Its tag.
        tag: u32,
        /// Bytes of its payload.
        length: usize,
        /// The most.
        limit: usize,
    },
}

impl Decoder {
    /// A decoder for the stream that `reader` reads. Payloads above `limit` bytes are thrown away.
    pub fn new(reader: Reader, limit: usize) -> Self {
        Self {
            reader,
            limit,
            small: BytesMut::new(),
            state: State::Header,
        }
    }

    /// Says who reads from now on: HELLO and WELCOME decide what may follow them.
    pub fn set_reader(&mut self, reader: Reader) {
        self.reader = reader;
    }

    /// Where to put the bytes that come next: room for at least one, and for no more than can be kept where it is.
    /// Call [`frame`](Self::frame) until it gives nothing before the next read.
    pub fn room(&mut self) -> Limit<&mut BytesMut> {
        let (buffer, most, least, step) = match &mut self.state {
            State::Large(header, body) => {
                let left = header.length - body.len();
                let step = body.len().max(FIRST_ROOM).min(left);
                (body, left, 1, step)
            }
            _ => (&mut self.small, usize::MAX, LEAST_ROOM, SMALL),
        };
        if buffer.capacity() - buffer.len() < least {
            buffer.reserve(step);
        }
        let room = buffer.capacity() - buffer.len();
        buffer.limit(room.min(most))
    }

    /// Takes the first of these bytes as if they had been read, and says how many.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut room = self.room();
        let taken = bytes.len().min(room.remaining_mut());
        room.put_slice(&bytes[..taken]);
        taken
    }

    /// Whether the stream may end here: no frame has begun that has not ended.
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header) && self.small.is_empty()
    }

    /// Bytes that it can hold now, for those who watch memory.
    pub fn capacity(&self) -> usize {
        let large = match &self.state {
            State::Large(_, body) => body.capacity(),
            _ => 0,
        };
        self.small.capacity() + large
    }

    /// The next frame, if all of it has arrived.
    ///
    /// After an error the stream cannot be read on.
    pub fn frame(&mut self) -> Result<Option<Decoded>, FrameProblem> {
        loop {
            match &mut self.state {
                State::Header => {
                    let Some(bytes) = self.small.first_chunk::<HEADER>() else {
                        return Ok(None);
                    };
                    let header = Header::parse(*bytes, self.reader, self.limit)?;
                    self.small.advance(HEADER);
                    if let Some(limit) = header.skip {
                        self.state = State::Skipping(header.length);
                        return Ok(Some(too_large(header, limit)));
                    }
                    self.state = if header.length <= SMALL {
                        State::Small(header)
                    } else {
                        State::Large(header, self.begin_large(header.length))
                    };
                }
                State::Small(header) if self.small.len() < header.length => return Ok(None),
                State::Small(header) => {
                    let header = *header;
                    self.state = State::Header;
                    let body = self.small.split_to(header.length).freeze();
                    return Ok(Some(whole(header, body)));
                }
                State::Large(header, body) if body.len() < header.length => return Ok(None),
                State::Large(header, body) => {
                    let (header, body) = (*header, std::mem::take(body).freeze());
                    self.state = State::Header;
                    return Ok(Some(whole(header, body)));
                }
                State::Skipping(left) => {
                    let skipped = (*left).min(self.small.len());
                    self.small.advance(skipped);
                    *left -= skipped;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
            }
        }
    }

    /// A buffer of its own for a body, with what has arrived of it.
    fn begin_large(&mut self, length: usize) -> BytesMut {
        let arrived = self.small.len().min(length);
        let mut body = BytesMut::with_capacity(length.min(FIRST_ROOM.max(arrived)));
        body.put_slice(&self.small[..arrived]);
        self.small.advance(arrived);
        body
    }
}

fn whole(header: Header, body: Bytes) -> Decoded {
    Decoded::Frame(Frame {
        kind: header.kind,
        flags: header.flags,
        tag: header.tag,
        body,
    })
}

fn too_large(header: Header, limit: usize) -> Decoded {
    let prefix = match header.kind {
        Kind::Request => REQUEST_PREFIX,
        _ => 0,
    };
    Decoded::TooLarge {
        kind: header.kind,
        flags: header.flags,
        tag: header.tag,
        length: header.length.saturating_sub(prefix),
        limit,
    }
}
