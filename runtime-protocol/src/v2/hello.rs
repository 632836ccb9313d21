//! The JSON bodies of HELLO, WELCOME and WORKER.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The protocol of this module, and the additions to it that are known here.
pub(crate) const PROTOCOL: u32 = 2;
pub(crate) const REVISION: u32 = 0;
/// How this side calls itself.
const CLIENT: &str = concat!("asya-sidecar/", env!("CARGO_PKG_VERSION"));

/// Bounds of what a server may offer: beyond them it is a mistake, and would cost memory.
const MAX_WORKERS: u32 = 4096;
const MAX_WINDOW: u32 = 65_536;
const MAX_WAIT: Duration = Duration::from_hours(1);
const MAX_GRACE: Duration = Duration::from_hours(24);

/// One process in the place of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId {
    /// The place, from 0.
    pub worker: u32,
    /// Which process in it, from 1.
    pub incarnation: u32,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (incarnation {})", self.worker, self.incarnation)
    }
}

/// What a server offers. All numbers were checked: at least 1, and not absurd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Name and version of the server.
    pub server: String,
    /// Workers, numbered from 0.
    pub workers: u32,
    /// Calls that one worker runs at once.
    pub concurrency: u32,
    /// Requests in one call.
    pub batch_size: u32,
    /// The longest that a client should wait for a batch to fill; may be zero.
    pub batch_wait: Duration,
    /// Whether PARTIAL frames may come.
    pub stream: bool,
    /// From CANCEL to KILL; may be zero.
    pub cancel_grace: Duration,
    /// Longest envelope in bytes that is run.
    pub max_message_size: usize,
}

impl Welcome {
    /// Requests that one worker runs at once.
    pub fn window(&self) -> u32 {
        self.concurrency.saturating_mul(self.batch_size)
    }
}

/// What a worker is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It loads the handler.
    Starting,
    /// It takes a connection.
    Ready {
        /// Its process, if it has one of its own.
        pid: Option<u32>,
    },
    /// It has ended.
    Gone(Gone),
}

/// How a worker ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Gone {
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The signal's name, for example `SIGKILL`.
    #[serde(default)]
    pub signal_name: Option<String>,
    /// Its exit code.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Whether the kernel ended it for want of memory.
    #[serde(default)]
    pub oom: bool,
    /// Whether the server ended it, because it was told to or its client was gone.
    #[serde(default)]
    pub killed: bool,
    /// For people.
    #[serde(default)]
    pub reason: String,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Control,
    Worker(WorkerId),
}

#[derive(Serialize, Deserialize)]
struct HelloBody<'a> {
    protocol: u32,
    #[serde(default)]
    revision: u32,
    nonce: Cow<'a, str>,
    connection: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<u32>,
    #[serde(default)]
    client: Cow<'a, str>,
}

/// The body of a HELLO.
pub(crate) fn hello(nonce: &str, purpose: Purpose) -> Result<Bytes, String> {
    let (connection, id) = match purpose {
        Purpose::Control => ("control", None),
        Purpose::Worker(id) => ("worker", Some(id)),
    };
    json(&HelloBody {
        protocol: PROTOCOL,
        revision: REVISION,
        nonce: nonce.into(),
        connection: connection.into(),
        worker: id.map(|id| id.worker),
        incarnation: id.map(|id| id.incarnation),
        client: CLIENT.into(),
    })
}

/// Reads a HELLO and checks that it is meant for the server with this nonce.
pub(crate) fn parse_hello(body: &[u8], nonce: &str) -> Result<Purpose, String> {
    let hello: HelloBody<'_> = parse("HELLO", body)?;
    check_protocol("HELLO", hello.protocol)?;
    if hello.nonce != nonce {
        return Err("HELLO with the nonce of another server: read the ready file again".to_owned());
    }
    match (&*hello.connection, hello.worker, hello.incarnation) {
        ("control", ..) => Ok(Purpose::Control),
        ("worker", Some(worker), Some(incarnation)) => Ok(Purpose::Worker(WorkerId { worker, incarnation })),
        ("worker", ..) => Err("HELLO without the worker and its incarnation".to_owned()),
        _ => Err("HELLO with a connection that is neither control nor worker".to_owned()),
    }
}

#[derive(Serialize, Deserialize)]
struct WelcomeBody {
    protocol: u32,
    #[serde(default)]
    revision: u32,
    server: String,
    workers: u32,
    concurrency: u32,
    batch: BatchBody,
    #[serde(default)]
    stream: bool,
    cancel_grace_ms: u64,
    max_message_size: usize,
}

#[derive(Serialize, Deserialize)]
struct BatchBody {
    size: u32,
    wait_ms: u64,
}

/// Reads the WELCOME of a control connection.
pub(crate) fn parse_welcome(body: &[u8]) -> Result<Welcome, String> {
    let welcome: WelcomeBody = parse("WELCOME", body)?;
    check_protocol("WELCOME", welcome.protocol)?;
    let welcome = Welcome {
        server: welcome.server,
        workers: within("workers", welcome.workers, MAX_WORKERS)?,
        concurrency: within("concurrency", welcome.concurrency, MAX_WINDOW)?,
        batch_size: within("batch.size", welcome.batch.size, MAX_WINDOW)?,
        batch_wait: short("batch.wait_ms", welcome.batch.wait_ms, MAX_WAIT)?,
        stream: welcome.stream,
        cancel_grace: short("cancel_grace_ms", welcome.cancel_grace_ms, MAX_GRACE)?,
        max_message_size: match welcome.max_message_size {
            0 => return Err("WELCOME with max_message_size 0".to_owned()),
            size => size,
        },
    };
    within("concurrency × batch.size", welcome.window(), MAX_WINDOW)?;
    Ok(welcome)
}

/// The body of the WELCOME of a control connection.
pub(crate) fn welcome(offered: &Welcome) -> Result<Bytes, String> {
    json(&WelcomeBody {
        protocol: PROTOCOL,
        revision: REVISION,
        server: offered.server.clone(),
        workers: offered.workers,
        concurrency: offered.concurrency,
        batch: BatchBody {
            size: offered.batch_size,
            wait_ms: whole_milliseconds(offered.batch_wait),
        },
        stream: offered.stream,
        cancel_grace_ms: whole_milliseconds(offered.cancel_grace),
        max_message_size: offered.max_message_size,
    })
}

/// The body of the WELCOME of a worker connection.
pub(crate) fn worker_welcome() -> Result<Bytes, String> {
    #[derive(Serialize)]
    struct Body {
        protocol: u32,
        revision: u32,
    }
    json(&Body {
        protocol: PROTOCOL,
        revision: REVISION,
    })
}

fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the WELCOME of a worker connection.
pub(crate) fn parse_worker_welcome(body: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Body {
        protocol: u32,
    }
    let welcome: Body = parse("WELCOME", body)?;
    check_protocol("WELCOME", welcome.protocol)
}

fn check_protocol(name: &str, protocol: u32) -> Result<(), String> {
    match protocol {
        PROTOCOL => Ok(()),
        other => Err(format!("{name} with protocol {other}, expected {PROTOCOL}")),
    }
}

fn within(name: &str, value: u32, most: u32) -> Result<u32, String> {
    if (1..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("WELCOME with {name} {value}, expected 1 to {most}"))
    }
}

fn short(name: &str, milliseconds: u64, most: Duration) -> Result<Duration, String> {
    let duration = Duration::from_millis(milliseconds);
    if duration <= most {
        Ok(duration)
    } else {
        Err(format!(
            "WELCOME with {name} {milliseconds}, expected at most {}",
            most.as_millis()
        ))
    }
}

#[derive(Serialize, Deserialize)]
struct WorkerBody {
    worker: u32,
    incarnation: u32,
    #[serde(flatten)]
    state: StateBody,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum StateBody {
    Starting,
    Ready {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
    },
    Gone(Gone),
}

/// Reads the body of a WORKER with this tag, from a server with so many workers.
pub(crate) fn parse_worker(tag: u32, workers: u32, body: &[u8]) -> Result<(WorkerId, WorkerState), String> {
    let worker: WorkerBody = parse("WORKER", body)?;
    if worker.worker != tag || tag >= workers {
        return Err(format!(
            "WORKER with tag {tag} about worker {} of {workers}",
            worker.worker
        ));
    }
    let id = WorkerId {
        worker: worker.worker,
        incarnation: worker.incarnation,
    };
    let state = match worker.state {
        StateBody::Starting => WorkerState::Starting,
        StateBody::Ready { pid } => WorkerState::Ready { pid },
        StateBody::Gone(gone) => WorkerState::Gone(gone),
    };
    Ok((id, state))
}

/// The body of a WORKER.
pub(crate) fn worker(id: WorkerId, state: WorkerState) -> Result<Bytes, String> {
    json(&WorkerBody {
        worker: id.worker,
        incarnation: id.incarnation,
        state: match state {
            WorkerState::Starting => StateBody::Starting,
            WorkerState::Ready { pid } => StateBody::Ready { pid },
            WorkerState::Gone(gone) => StateBody::Gone(gone),
        },
    })
}

/// A note about a request.
#[derive(Deserialize)]
pub(crate) struct Progress {
    #[serde(default)]
    pub(crate) fraction: Option<f64>,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// Reads the body of a PROGRESS.
pub(crate) fn parse_progress(body: &[u8]) -> Result<Progress, String> {
    let progress: Progress = parse("PROGRESS", body)?;
    match progress.fraction {
        Some(fraction) if !(0.0..=1.0).contains(&fraction) => {
            Err(format!("PROGRESS with fraction {fraction}, expected 0 to 1"))
        }
        _ => Ok(progress),
    }
}

fn parse<'a, T: Deserialize<'a>>(name: &str, body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("{name} cannot be read: {error}"))
}

fn json(body: &impl Serialize) -> Result<Bytes, String> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| error.to_string())
}
