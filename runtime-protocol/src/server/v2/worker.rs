//! The one worker of a server for Rust handlers: its connection, what waits, what runs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::control::say;
use crate::server::answer;
use crate::server::handler::{Handler, HandlerError};
use crate::server::run::Runner;
use crate::v2::decoder::Decoded;
use crate::v2::frame::{Frame, Kind, MORE, REQUEST_PREFIX, Reader};
use crate::v2::hello::{Gone, WorkerId, worker_welcome};
use crate::v2::wire::Wire;
use crate::v2::{CancelReason, LinkError};

/// Requests that may be unanswered beside those that run.
const WRITTEN_AHEAD: usize = 1024;
/// The first process in the place of a worker.
const FIRST_INCARNATION: u32 = 1;

/// What happens around a worker.
pub(super) enum Happened {
    /// A frame came, or the connection ended.
    Came(Result<Decoded, LinkError>),
    /// All answers are written, so that requests can be started again.
    Room,
    /// A call ended.
    Ended(Result<(Id, Bytes), JoinError>),
}

pub(super) struct Worker<H> {
    runner: Arc<Runner<H>>,
    incarnation: u32,
    connection: Option<Wire>,
    /// A newer connection, which is welcomed when nothing runs for the one before.
    next_connection: Option<Wire>,
    waiting: VecDeque<Job>,
    calls: JoinSet<Bytes>,
    running: HashMap<Id, Running>,
    unanswered: HashSet<u32>,
    /// The newest tag that has come on this connection. Clients count up.
    newest: u32,
    /// Requests that were withdrawn before they have come: nothing orders the two connections.
    withdrawn: HashSet<u32>,
    /// The server ends: nothing is taken or started.
    stopped: bool,
}

/// A request that has not been started.
struct Job {
    tag: u32,
    /// Counts from the start.
    budget: Option<Duration>,
    attempt: u32,
    envelope: Bytes,
}

struct Running {
    /// `None` if nobody waits for the answer.
    tag: Option<u32>,
    call: AbortHandle,
    cancelled: CancelReason,
}

impl<H: Handler> Worker<H> {
    pub(super) fn new(runner: Arc<Runner<H>>) -> Self {
        Self {
            runner,
            incarnation: FIRST_INCARNATION,
            connection: None,
            next_connection: None,
            waiting: VecDeque::new(),
            calls: JoinSet::new(),
            running: HashMap::new(),
            unanswered: HashSet::new(),
            newest: 0,
            withdrawn: HashSet::new(),
            stopped: false,
        }
    }

    pub(super) fn id(&self) -> WorkerId {
        WorkerId {
            worker: 0,
            incarnation: self.incarnation,
        }
    }

    /// Takes a connection in the place of the one before. It is welcomed when what ran for that one has ended.
    pub(super) fn connect(&mut self, mut wire: Wire, id: WorkerId) {
        if id != self.id() {
            wire.break_off(format!("HELLO for {id}, present is {}", self.id()));
            return;
        }
        wire.set_reader(Reader::WorkerServer);
        wire.set_frame_timeout(self.runner.options.io_timeout);
        self.disconnect();
        self.next_connection = Some(wire);
    }

    /// The next thing that happens. Writes what is queued, also while it waits. Safe to cancel.
    pub(super) async fn next(&mut self) -> Happened {
        let held_up = !self.waiting.is_empty() && self.has_unwritten();
        let input = async {
            match &mut self.connection {
                Some(wire) => wire.next_or_room(held_up.then_some(0)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // First, so that answers which are ready together leave together.
            Some(ended) = self.calls.join_next_with_id() => Happened::Ended(ended),
            input = input => input.transpose().map_or(Happened::Room, Happened::Came),
        }
    }

    pub(super) fn react(&mut self, happened: Happened) {
        match happened {
            Happened::Came(input) => self.take(input),
            Happened::Ended(ended) => self.ended(ended),
            Happened::Room => {}
        }
    }

    /// Not while an answer waits to be written: the client takes the oldest unanswered requests for those that run
    /// (PROTOCOL.md, Requests), so what has ended must be on its way before another begins.
    pub(super) fn wants_place(&self) -> bool {
        !self.waiting.is_empty() && !self.has_unwritten()
    }

    fn has_unwritten(&self) -> bool {
        self.connection.as_ref().is_some_and(|wire| wire.queued() > 0)
    }

    /// Whether a call runs.
    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Does what an event has made possible.
    pub(super) fn go_on(&mut self) {
        if self.running.is_empty()
            && let Some(mut wire) = self.next_connection.take()
        {
            say(&mut wire, Kind::Welcome, 0, worker_welcome());
            self.connection = Some(wire);
        }
        while self.wants_place()
            && let Ok(place) = Arc::clone(&self.runner.places).try_acquire_owned()
        {
            self.start(place);
        }
    }

    fn take(&mut self, input: Result<Decoded, LinkError>) {
        let taken = match input {
            Ok(Decoded::Frame(frame)) if frame.kind == Kind::Goodbye => return self.disconnect(),
            Ok(Decoded::Frame(frame)) => self.request(frame),
            Ok(Decoded::TooLarge {
                tag,
                flags,
                length,
                limit,
                ..
            }) => self.too_large(tag, flags, length, limit),
            Err(_) => return self.disconnect(),
        };
        if let Err(text) = taken {
            if let Some(wire) = &mut self.connection {
                wire.break_off(text);
            }
            self.disconnect();
        }
    }

    fn request(&mut self, frame: Frame) -> Result<(), String> {
        let Frame {
            kind,
            flags,
            tag,
            body,
            ..
        } = frame;
        let (Kind::Request, Some(([b0, b1, b2, b3, a0, a1, a2, a3], _))) =
            (kind, body.split_first_chunk::<REQUEST_PREFIX>())
        else {
            return Err(format!("{} on a worker connection", kind.name()));
        };
        let budget = u32::from_be_bytes([*b0, *b1, *b2, *b3]);
        let attempt = u32::from_be_bytes([*a0, *a1, *a2, *a3]);
        self.admit(tag, flags)?;
        if self.stopped {
            return Ok(());
        }
        if self.withdrawn.remove(&tag) {
            self.reply(tag, answer::failure(&cancellation(CancelReason::Withdrawn)));
            return Ok(());
        }
        self.waiting.push_back(Job {
            tag,
            budget: (budget != u32::MAX).then(|| Duration::from_millis(u64::from(budget))),
            attempt: attempt.max(1),
            envelope: body.slice(REQUEST_PREFIX..),
        });
        Ok(())
    }

    fn too_large(&mut self, tag: u32, flags: u8, length: usize, limit: usize) -> Result<(), String> {
        self.admit(tag, flags)?;
        let text = format!("request of {length} bytes is over the limit of {limit} bytes");
        let error = HandlerError::new(text)
            .code("msg_parsing_error")
            .exception("ValueError");
        self.reply(tag, answer::failure(&error));
        Ok(())
    }

    fn admit(&mut self, tag: u32, flags: u8) -> Result<(), String> {
        if flags & MORE != 0 {
            return Err(format!(
                "REQUEST {tag} begins a batch of more than batch.size = 1 requests"
            ));
        }
        let limit = self
            .runner
            .options
            .concurrency
            .get()
            .saturating_add(WRITTEN_AHEAD);
        if self.unanswered.len() >= limit {
            return Err(format!(
                "REQUEST {tag} is one more than {limit} that are not answered"
            ));
        }
        if !self.unanswered.insert(tag) {
            return Err(format!("REQUEST {tag} has the tag of one that is not answered"));
        }
        self.newest = self.newest.max(tag);
        Ok(())
    }

    /// Starts the oldest request.
    pub(super) fn start(&mut self, place: OwnedSemaphorePermit) {
        let Some(job) = self.waiting.pop_front() else {
            return;
        };
        let tag = job.tag;
        let call = self.calls.spawn(call(Arc::clone(&self.runner), job, place));
        let running = Running {
            tag: Some(tag),
            call: call.clone(),
            cancelled: CancelReason::Asked,
        };
        self.running.insert(call.id(), running);
    }

    fn ended(&mut self, ended: Result<(Id, Bytes), JoinError>) {
        let (id, answer) = match ended {
            Ok((id, answer)) => (id, Ok(answer)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(Running {
            tag: Some(tag),
            cancelled,
            ..
        }) = self.running.remove(&id)
        else {
            return;
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_cancelled() => answer::failure(&cancellation(cancelled)),
            Err(error) => answer::failure(&HandlerError::panicked(error)),
        };
        self.reply(tag, answer);
    }

    /// Ends a request: at once if it waits, else, unless it is only withdrawn, as soon as the handler lets go.
    pub(super) fn cancel(&mut self, tag: u32, reason: CancelReason) {
        if let Some(at) = self.waiting.iter().position(|job| job.tag == tag) {
            self.waiting.remove(at);
            return self.reply(tag, answer::failure(&cancellation(reason)));
        }
        if reason == CancelReason::Withdrawn {
            if tag > self.newest && self.withdrawn.len() < WRITTEN_AHEAD {
                self.withdrawn.insert(tag);
            }
            return;
        }
        let mut running = self.running.values_mut();
        if let Some(running) = running.find(|running| running.tag == Some(tag)) {
            running.cancelled = reason;
            running.call.abort();
        }
    }

    pub(super) fn cancel_all(&mut self) {
        for job in std::mem::take(&mut self.waiting) {
            self.reply(job.tag, answer::failure(&cancellation(CancelReason::Asked)));
        }
        self.calls.abort_all();
    }

    /// Puts another worker in the place of this one. A handler that does not let go keeps its place for calls.
    pub(super) fn kill(&mut self, tag: u32) -> Gone {
        self.disconnect();
        self.next_connection = None;
        self.calls = JoinSet::new();
        self.running.clear();
        self.incarnation = self.incarnation.wrapping_add(1);
        Gone {
            killed: true,
            reason: format!("killed by the runtime: request {tag} did not end"),
            ..Gone::default()
        }
    }

    /// From now on nothing is started, and nobody new comes.
    pub(super) fn stop_taking(&mut self) {
        self.stopped = true;
        self.waiting.clear();
        self.next_connection = None;
    }

    /// Says goodbye and writes everything.
    pub(super) async fn say_goodbye(&mut self) {
        if let Some(wire) = &mut self.connection {
            wire.push_small(Kind::Goodbye, 0, &[]);
            wire.flush().await;
        }
    }

    /// Forgets the connection; what runs for it is asked to end.
    fn disconnect(&mut self) {
        self.connection = None;
        self.waiting.clear();
        self.unanswered.clear();
        self.withdrawn.clear();
        self.newest = 0;
        for running in self.running.values_mut() {
            running.tag = None;
            running.call.abort();
        }
    }

    fn reply(&mut self, tag: u32, answer: Bytes) {
        self.unanswered.remove(&tag);
        if let Some(wire) = &mut self.connection {
            wire.push(Kind::Reply, 0, tag, &[], answer);
        }
    }
}

async fn call<H: Handler>(runner: Arc<Runner<H>>, job: Job, place: OwnedSemaphorePermit) -> Bytes {
    let _place = place;
    let mut request = match runner.request(&job.envelope) {
        Ok(request) => request,
        Err(error) => return answer::failure(&error),
    };
    request.deadline = job.budget.map(|budget| Instant::now() + budget);
    request.attempt = job.attempt;
    let result = runner.handler.handle(request.clone()).await;
    runner.answer(&request, result)
}

fn cancellation(reason: CancelReason) -> HandlerError {
    match reason {
        CancelReason::Deadline => HandlerError::new("the time for this request was up")
            .code("timeout")
            .exception("TimeoutError"),
        CancelReason::Asked | CancelReason::Withdrawn => HandlerError::new("the request was cancelled")
            .code("cancelled")
            .exception("CancelledError"),
    }
}
