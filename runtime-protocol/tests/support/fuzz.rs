//! Random streams of frames, valid and broken, and what must hold for every one of them. Used by a test with a kept
//! corpus, and by the example `fuzz_frames`, which goes on for as long as it is told.

use asya_runtime_protocol::v2::decoder::{Decoded, Decoder};
use asya_runtime_protocol::v2::frame::{FrameProblem, Kind, Reader, put_header};

/// Who reads a stream; a corpus file begins with the index of one.
pub(crate) const READERS: [Reader; 6] = [
    Reader::Greeting,
    Reader::ControlClient,
    Reader::WorkerClient,
    Reader::Accepting,
    Reader::ControlServer,
    Reader::WorkerServer,
];

/// The limit of payloads, small enough to be met.
const LIMIT: usize = 200_000;
/// What a decoder may hold beside twice the bytes that it was given.
const ROOM: usize = 512 * 1024;

/// `SplitMix64`: numbers that follow from the seed alone.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end`, without it.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(u64::MAX)).unwrap_or(0)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn tag(&mut self) -> u32 {
        u32::try_from(self.below(8)).unwrap_or(0)
    }
}

/// A stream of frames that `reader` may see, mostly.
pub(crate) fn stream(random: &mut Random, reader: Reader) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=random.below(12) {
        frame(random, reader, &mut out);
    }
    out
}

fn frame(random: &mut Random, reader: Reader, out: &mut Vec<u8>) {
    let allowed: Vec<_> = Kind::ALL.into_iter().filter(|kind| reader.takes(*kind)).collect();
    let kind = allowed[random.below(allowed.len())];
    let length = match (kind, random.below(20)) {
        (Kind::Cancel, _) => 9,
        (Kind::Kill, _) => 8,
        (Kind::Goodbye | Kind::Ping | Kind::Pong | Kind::Stopping, _) => 0,
        (_, 0) => LIMIT - 2 + random.below(16),
        (_, 1) => random.below(300_000),
        (_, 2..6) => random.below(10_000),
        _ => 8 + random.below(200),
    };
    let tag = match kind {
        Kind::Hello | Kind::Welcome | Kind::Goodbye | Kind::Stopping => 0,
        _ => random.tag(),
    };
    let flags = u8::from(kind == Kind::Request && random.below(4) == 0);
    if put_header(out, kind, flags, tag, length).is_ok() {
        let body = random.byte();
        out.resize(out.len() + length, body);
    }
}

/// Changes a stream in a few places.
pub(crate) fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let to = at + random.below((bytes.len() - at).min(64) + 1);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..to)),
            2 => drop(bytes.splice(at..at, (0..random.below(16)).map(|_| 0xff))),
            3 => {
                let again = bytes[at..to].to_vec();
                drop(bytes.splice(at..at, again));
            }
            // A length that is not that of what follows.
            4 => drop(bytes.splice(
                at..to,
                u32::try_from(random.below(1 << 31)).unwrap_or(0).to_be_bytes(),
            )),
            _ => {
                let byte = random.byte();
                if let Some(one) = bytes.get_mut(at) {
                    *one = byte;
                }
            }
        }
    }
}

/// Decodes a stream that comes in pieces, and watches the memory.
fn decode(
    reader: Reader,
    bytes: &[u8],
    mut piece: impl FnMut() -> usize,
) -> (Vec<Decoded>, Option<FrameProblem>) {
    let mut decoder = Decoder::new(reader, LIMIT);
    let (mut given, mut out) = (0, Vec::new());
    loop {
        loop {
            match decoder.frame() {
                Ok(Some(found)) => out.push(found),
                Ok(None) => break,
                Err(problem) => return (out, Some(problem)),
            }
        }
        if given == bytes.len() {
            return (out, None);
        }
        let end = bytes.len().min(given.saturating_add(piece()));
        let taken = decoder.feed(&bytes[given..end]);
        assert!(taken > 0, "there is room for a byte");
        given += taken;
        let most = ROOM + 2 * given;
        assert!(
            decoder.capacity() <= most,
            "{} bytes are held after {given}",
            decoder.capacity()
        );
    }
}

/// However a stream is cut, it holds the same frames; none is longer than the limit; memory stays within bounds.
pub(crate) fn check(random: &mut Random, reader: Reader, bytes: &[u8]) {
    let whole = decode(reader, bytes, || usize::MAX);
    for most in [1, 13, 5_000, 70_000] {
        // Byte by byte is slow for what is long, and shows no more.
        if most > 1 || bytes.len() < 4_000 {
            let cut = decode(reader, bytes, || 1 + random.below(most));
            assert!(
                whole == cut,
                "cut into pieces up to {most}, it holds other frames"
            );
        }
    }
    for decoded in whole.0 {
        if let Decoded::Frame(frame) = decoded {
            assert!(
                frame.body.len() <= LIMIT + 8,
                "{:?} of {} bytes",
                frame.kind,
                frame.body.len()
            );
            assert!(reader.takes(frame.kind));
        }
    }
}
