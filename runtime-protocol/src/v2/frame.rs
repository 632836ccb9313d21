//! Frames of protocol v2: a header of 12 bytes and a body. What may stand in them, without any I/O.

use bytes::{BufMut, Bytes};
use thiserror::Error;

/// Bytes before the body.
pub const HEADER: usize = 12;
/// Longest body of a frame that carries no payload (HELLO, WELCOME, WORKER, PROGRESS, ERROR).
pub const MAX_CONTROL_BODY: usize = 64 * 1024;
/// Flag of a REQUEST: the next frame belongs to the same batch.
pub const MORE: u8 = 0x01;
/// Bytes of a REQUEST before its envelope: budget and attempt.
pub const REQUEST_PREFIX: usize = 8;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table in PROTOCOL.md says what they are")]
pub enum Kind {
    Hello = 0x01,
    Welcome = 0x02,
    Error = 0x0f,
    Request = 0x10,
    Reply = 0x20,
    Items = 0x21,
    Partial = 0x22,
    Progress = 0x23,
    Goodbye = 0x24,
    Worker = 0x30,
    Cancel = 0x31,
    Kill = 0x32,
    Ping = 0x33,
    Pong = 0x34,
    Stopping = 0x35,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Hello,
        Self::Welcome,
        Self::Error,
        Self::Request,
        Self::Reply,
        Self::Items,
        Self::Partial,
        Self::Progress,
        Self::Goodbye,
        Self::Worker,
        Self::Cancel,
        Self::Kill,
        Self::Ping,
        Self::Pong,
        Self::Stopping,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }

    /// Its byte in the header.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Its name in PROTOCOL.md.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Welcome => "WELCOME",
            Self::Error => "ERROR",
            Self::Request => "REQUEST",
            Self::Reply => "REPLY",
            Self::Items => "ITEMS",
            Self::Partial => "PARTIAL",
            Self::Progress => "PROGRESS",
            Self::Goodbye => "GOODBYE",
            Self::Worker => "WORKER",
            Self::Cancel => "CANCEL",
            Self::Kill => "KILL",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Stopping => "STOPPING",
        }
    }

    const fn flags(self) -> u8 {
        match self {
            Self::Request => MORE,
            _ => 0,
        }
    }

    /// Whether the tag must be 0.
    const fn untagged(self) -> bool {
        matches!(self, Self::Hello | Self::Welcome | Self::Goodbye | Self::Stopping)
    }

    /// The shortest body, and what happens beyond the longest.
    const fn length(self, limit: usize) -> (usize, Longest) {
        match self {
            Self::Hello | Self::Welcome | Self::Worker | Self::Progress => {
                (2, Longest::Refuse(MAX_CONTROL_BODY))
            }
            Self::Error => (0, Longest::Refuse(MAX_CONTROL_BODY)),
            Self::Request => (
                REQUEST_PREFIX,
                Longest::Skip(limit.saturating_add(REQUEST_PREFIX)),
            ),
            Self::Reply | Self::Items | Self::Partial => (1, Longest::Skip(limit)),
            Self::Goodbye | Self::Ping | Self::Pong | Self::Stopping => (0, Longest::Refuse(0)),
            Self::Cancel => (9, Longest::Refuse(9)),
            Self::Kill => (8, Longest::Refuse(8)),
        }
    }
}

#[derive(Clone, Copy)]
enum Longest {
    /// Beyond it the connection is broken.
    Refuse(usize),
    /// Beyond it the body is thrown away.
    Skip(usize),
}

/// Who reads a connection: it decides which types may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A client that waits for WELCOME.
    Greeting,
    /// A client, on its control connection.
    ControlClient,
    /// A client, on a worker connection.
    WorkerClient,
    /// A server that waits for HELLO.
    Accepting,
    /// A server, on a control connection.
    ControlServer,
    /// A server, on a worker connection.
    WorkerServer,
}

impl Reader {
    /// Whether `kind` may arrive here.
    pub const fn takes(self, kind: Kind) -> bool {
        match kind {
            Kind::Error => true,
            Kind::Welcome => matches!(self, Self::Greeting),
            Kind::Hello => matches!(self, Self::Accepting),
            Kind::Goodbye => !matches!(self, Self::Greeting | Self::Accepting),
            Kind::Request => matches!(self, Self::WorkerServer),
            Kind::Reply | Kind::Items | Kind::Partial | Kind::Progress => matches!(self, Self::WorkerClient),
            Kind::Worker | Kind::Pong | Kind::Stopping => matches!(self, Self::ControlClient),
            Kind::Cancel | Kind::Kill | Kind::Ping => matches!(self, Self::ControlServer),
        }
    }

    const fn described(self) -> &'static str {
        match self {
            Self::Greeting => "before WELCOME",
            Self::ControlClient => "from the server of a control connection",
            Self::WorkerClient => "from the server of a worker connection",
            Self::Accepting => "before HELLO",
            Self::ControlServer => "from the client of a control connection",
            Self::WorkerServer => "from the client of a worker connection",
        }
    }
}

/// A header that breaks the rules. The connection cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameProblem {
    /// No type has this number.
    #[error("unknown frame type 0x{0:02x}")]
    UnknownType(u8),
    /// The type exists, and has no business here.
    #[error("{} is not allowed {}", kind.name(), reader.described())]
    NotAllowed {
        /// What came.
        kind: Kind,
        /// Who read it.
        reader: Reader,
    },
    /// Bits that the type does not know.
    #[error("{} with unknown flags 0x{flags:02x}", kind.name())]
    Flags {
        /// What came.
        kind: Kind,
        /// Its flags.
        flags: u8,
    },
    /// The two bytes after the flags are not zero.
    #[error("{} with 0x{bytes:04x} where the header must be zero", kind.name())]
    Reserved {
        /// What came.
        kind: Kind,
        /// The two bytes.
        bytes: u16,
    },
    /// A tag where there is none.
    #[error("{} with tag {tag}, which must be 0", kind.name())]
    Tagged {
        /// What came.
        kind: Kind,
        /// Its tag.
        tag: u32,
    },
    /// The body is shorter than any of this type.
    #[error("{} with a body of {length} bytes, at least {least} are needed", kind.name())]
    TooShort {
        /// What came.
        kind: Kind,
        /// Bytes that were announced.
        length: usize,
        /// The least.
        least: usize,
    },
    /// The body is longer than any of this type.
    #[error("{} with a body of {length} bytes, the limit is {limit} bytes", kind.name())]
    TooLong {
        /// What came.
        kind: Kind,
        /// Bytes that were announced.
        length: usize,
        /// The most.
        limit: usize,
    },
}

/// A frame as it came. The body is a slice of the buffer that was read into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: Kind,
    /// Its flags; only those that the type knows.
    pub flags: u8,
    /// Its tag.
    pub tag: u32,
    /// Its body.
    pub body: Bytes,
}

/// A header that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) tag: u32,
    pub(super) length: usize,
    /// The limit, if the body is beyond it and is to be thrown away.
    pub(super) skip: Option<usize>,
}

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER], reader: Reader, limit: usize) -> Result<Self, FrameProblem> {
        let [l0, l1, l2, l3, kind, flags, r0, r1, t0, t1, t2, t3] = bytes;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let reserved = u16::from_be_bytes([r0, r1]);
        let tag = u32::from_be_bytes([t0, t1, t2, t3]);
        let kind = Kind::from_byte(kind).ok_or(FrameProblem::UnknownType(kind))?;
        if !reader.takes(kind) {
            return Err(FrameProblem::NotAllowed { kind, reader });
        }
        if flags & !kind.flags() != 0 {
            return Err(FrameProblem::Flags { kind, flags });
        }
        if reserved != 0 {
            return Err(FrameProblem::Reserved {
                kind,
                bytes: reserved,
            });
        }
        if tag != 0 && kind.untagged() {
            return Err(FrameProblem::Tagged { kind, tag });
        }
        let (least, longest) = kind.length(limit);
        if length < least {
            return Err(FrameProblem::TooShort { kind, length, least });
        }
        let skip = match longest {
            Longest::Refuse(limit) if length > limit => {
                return Err(FrameProblem::TooLong { kind, length, limit });
            }
            Longest::Skip(most) if length > most => Some(limit),
            _ => None,
        };
        Ok(Self {
            kind,
            flags,
            tag,
            length,
            skip,
        })
    }
}

/// Writes a header. The length is that of the body, which the caller writes after it.
///
/// # Errors
/// The body is longer than a header can say (4 GiB).
pub fn put_header(
    out: &mut impl BufMut,
    kind: Kind,
    flags: u8,
    tag: u32,
    length: usize,
) -> Result<(), FrameProblem> {
    let announced = u32::try_from(length).map_err(|_| FrameProblem::TooLong {
        kind,
        length,
        limit: usize::try_from(u32::MAX).unwrap_or(usize::MAX),
    })?;
    out.put_u32(announced);
    out.put_u8(kind.byte());
    out.put_u8(flags);
    out.put_u16(0);
    out.put_u32(tag);
    Ok(())
}
