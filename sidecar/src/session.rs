//! A session with a runtime of protocol v2: what it offers, how its workers are, and the way to tell it something.
//!
//! The control connection is in here and not in the probe, which only keeps somebody reading it: when that actor ends,
//! its successor goes on with the same connection, and no call that runs is disturbed.

use std::time::Duration;

use asya_runtime_protocol::v2::{
    Advert, CancelReason, Control, ControlEvent, Gone, LinkError, Welcome, WorkerId, WorkerState,
};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Time between two signs of life that are asked for.
const PING: Duration = Duration::from_secs(5);

/// After so many that were asked for in vain the runtime counts as gone. Counted and not timed: a sidecar that was
/// itself stopped for a while has heard nothing either.
const SILENCE: u32 = 3;

/// How long a goodbye may take to be written.
const GOODBYE: Duration = Duration::from_millis(100);

/// See the module documentation.
pub(crate) struct Session {
    pub(crate) advert: Advert,
    pub(crate) welcome: Welcome,
    /// By number.
    pub(crate) workers: watch::Sender<Vec<Worker>>,
    stopping: watch::Sender<bool>,
    commands: mpsc::UnboundedSender<Command>,
    wire: Mutex<Wire>,
}

/// What is known about one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Worker {
    /// The newest incarnation that was told of.
    pub(crate) newest: u32,
    /// The incarnation that takes requests.
    pub(crate) ready: Option<u32>,
    /// How the last one that ended did so.
    pub(crate) gone: Option<(u32, Gone)>,
}

/// What a runtime can be told.
#[derive(Debug)]
enum Command {
    Cancel(WorkerId, u32, CancelReason),
    Kill(WorkerId, u32),
    Goodbye,
    GiveUp(&'static str),
}

struct Wire {
    control: Control,
    commands: mpsc::UnboundedReceiver<Command>,
}

/// Something that the runtime has told.
pub(crate) enum News {
    /// A worker takes requests.
    Ready(WorkerId),
    /// A worker has ended.
    Gone(WorkerId, Gone),
    /// The runtime was asked to end and waits for our goodbye.
    Stopping,
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Over {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("it does not answer")]
    Silent,
    #[error("it said goodbye")]
    Goodbye,
    #[error("{0}")]
    GivenUp(&'static str),
}

impl Session {
    pub(crate) fn new(advert: Advert, control: Control, welcome: Welcome) -> Self {
        let (sender, commands) = mpsc::unbounded_channel();
        let workers = usize::try_from(welcome.workers).unwrap_or_default();
        Self {
            advert,
            welcome,
            workers: watch::Sender::new(vec![Worker::default(); workers]),
            stopping: watch::Sender::new(false),
            commands: sender,
            wire: Mutex::new(Wire { control, commands }),
        }
    }

    /// Slots that this runtime has work for.
    pub(crate) fn slots(&self) -> usize {
        self.workers.borrow().len()
    }

    /// Workers that take requests.
    pub(crate) fn ready(&self) -> usize {
        self.workers
            .borrow()
            .iter()
            .filter(|worker| worker.ready.is_some())
            .count()
    }

    /// The incarnation of a worker that takes requests.
    pub(crate) fn ready_worker(&self, index: usize) -> Option<WorkerId> {
        let incarnation = self.workers.borrow().get(index)?.ready?;
        let worker = u32::try_from(index).ok()?;
        Some(WorkerId { worker, incarnation })
    }

    /// How a worker ended, once that is known.
    pub(crate) fn gone(&self, id: WorkerId) -> Option<Gone> {
        let workers = self.workers.borrow();
        let worker = workers.get(usize::try_from(id.worker).ok()?)?;
        match &worker.gone {
            Some((incarnation, gone)) if *incarnation >= id.incarnation => Some(gone.clone()),
            // Nobody heard of its end, while there was no session.
            _ => (worker.newest > id.incarnation).then(Gone::default),
        }
    }

    /// Requests that one worker may run at once.
    pub(crate) fn window(&self) -> usize {
        usize::try_from(self.welcome.window())
            .unwrap_or(usize::MAX)
            .max(1)
    }

    /// Whether the runtime was asked to end.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when the runtime was asked to end.
    pub(crate) async fn stops(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _stops = stopping.wait_for(|stopping| *stopping).await;
    }

    pub(crate) fn cancel(&self, id: WorkerId, tag: u32, reason: CancelReason) {
        self.tell(Command::Cancel(id, tag, reason));
    }

    pub(crate) fn kill(&self, id: WorkerId, tag: u32) {
        self.tell(Command::Kill(id, tag));
    }

    pub(crate) fn goodbye(&self) {
        self.tell(Command::Goodbye);
    }

    /// Ends the session: the runtime does not do what it should.
    pub(crate) fn give_up(&self, why: &'static str) {
        self.tell(Command::GiveUp(why));
    }

    fn tell(&self, command: Command) {
        // The receiver lives as long as `self`.
        let _told = self.commands.send(command);
    }

    /// Reads what the runtime tells and writes what it is told, until the session is over. Safe to cancel, and to be
    /// called again then.
    pub(crate) async fn run(&self, mut heard: impl FnMut(News)) -> Over {
        let Wire { control, commands } = &mut *self.wire.lock().await;
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unheard = 0;
        loop {
            tokio::select! {
                event = control.next() => match event {
                    Err(error) => return error.into(),
                    Ok(ControlEvent::Goodbye) => return Over::Goodbye,
                    Ok(event) => {
                        unheard = 0;
                        if let Some(news) = self.note(event) {
                            heard(news);
                        }
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Cancel(id, tag, reason)) => control.cancel(id, tag, reason),
                    Some(Command::Kill(id, tag)) => control.kill(id, tag),
                    Some(Command::Goodbye) => {
                        control.goodbye();
                        // What is queued is written first; whatever else comes of it, we are done.
                        let _written = timeout(GOODBYE, control.next()).await;
                        return Over::Goodbye;
                    }
                    Some(Command::GiveUp(why)) => return Over::GivenUp(why),
                    None => return Over::GivenUp("nobody is left"),
                },
                _ = pings.tick() => {
                    if unheard == SILENCE {
                        return Over::Silent;
                    }
                    unheard += 1;
                    control.ping(unheard);
                }
            }
        }
    }

    fn note(&self, event: ControlEvent) -> Option<News> {
        match event {
            ControlEvent::Worker(id, state) => self.note_worker(id, state),
            ControlEvent::Stopping => {
                self.stopping.send_replace(true);
                Some(News::Stopping)
            }
            ControlEvent::Pong(_) | ControlEvent::Goodbye => None,
        }
    }

    fn note_worker(&self, id: WorkerId, state: WorkerState) -> Option<News> {
        let at = usize::try_from(id.worker).ok()?;
        if at >= self.slots() {
            return None; // The welcome did not announce it.
        }
        let (ready, gone) = match state {
            WorkerState::Starting => (None, None),
            WorkerState::Ready { .. } => (Some(id.incarnation), None),
            WorkerState::Gone(gone) => (None, Some(gone)),
        };
        self.workers.send_modify(|workers| {
            workers[at].newest = id.incarnation;
            workers[at].ready = ready;
            if let Some(gone) = &gone {
                workers[at].gone = Some((id.incarnation, gone.clone()));
            }
        });
        match gone {
            Some(gone) => Some(News::Gone(id, gone)),
            None => ready.map(|_| News::Ready(id)),
        }
    }
}
