//! The probe finds out whether the runtime takes calls and how it is talked to, and makes it fresh after it failed to
//! answer.
//!
//! A runtime that is still starting, or is being replaced, is a *state* of the tree and costs no restart budget. With a
//! runtime of protocol v2 it opens the [`Session`] and keeps a task that reads its control connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_runtime_protocol::v2::{Advert, ConnectError, Control};
use asya_runtime_protocol::{read_ready, wait_ready};
use bytes::Bytes;
use ractor::{ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{Duty, Message, spawn_pump};

use crate::config::Protocol;
use crate::context::{Context, Doorbell, Readiness};
use crate::session::{News, Session};
use crate::supervision::SupervisorMessage;

/// Pause between two looks at a runtime that is not ready.
const INTERVAL: Duration = Duration::from_millis(25);

/// How long one look may take to connect to the socket; the actor takes other messages in between.
const PATIENCE: Duration = Duration::from_millis(100);

/// An offer of protocol v2 that nobody keeps is believed for so long: it may be that of a runtime that was killed, and
/// the next one is just replacing it. Also the pause between two looks whether it was replaced after all.
const BROKEN_OFFER: Duration = Duration::from_secs(1);

/// How long a runtime may take to answer an empty frame, or a greeting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Probe {
    context: Arc<Context>,
    waiting_since: Option<Instant>,
    was_ready: bool,
    /// An offer of protocol v2 that was refused, and since when.
    refused: Option<(Advert, Instant)>,
    pump: JoinSet<()>,
}

/// What one look has shown.
enum Look {
    /// The runtime takes calls.
    Fresh,
    /// It does not yet.
    NotYet,
    /// A session is there; the rest is told by it.
    Session,
}

impl Duty for Probe {
    fn door(&self) -> &Doorbell {
        &self.context.doors.probe
    }

    fn started(&mut self, myself: &ActorRef<Message>) {
        if let Some(session) = self.context.session() {
            self.listen(session, myself); // The one before me has opened it.
        }
    }

    async fn look(&mut self, myself: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        if let Some(pause) = self.look_once(myself).await {
            myself.send_after(pause, || Message::Look);
        }
        Ok(())
    }
}

impl Probe {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            was_ready: context.is_ready(),
            context,
            waiting_since: None,
            refused: None,
            pump: JoinSet::new(),
        }
    }

    /// Looks once; tells when to look again, if there is something to wait for.
    async fn look_once(&mut self, myself: &ActorRef<Message>) -> Option<Duration> {
        let context = Arc::clone(&self.context);
        if !*context.consuming.borrow() {
            return None; // Nothing is given to a runtime any more, and the goodbye may be said already.
        }
        let readiness = *context.readiness.borrow();
        let look = match readiness {
            Readiness::Ready => {
                self.waiting_since = None;
                self.was_ready = true;
                return self.look_for_better();
            }
            Readiness::NotReady => match context.session() {
                Some(session) => {
                    note_readiness(&context, &session); // Its workers say when something changes, and only then.
                    Look::Session
                }
                None => self.find(myself).await,
            },
            Readiness::Suspended => self.freshen().await,
        };
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        if matches!(look, Look::Fresh) {
            self.waiting_since = None;
            self.was_ready = true;
            // A slot may have suspended it meanwhile; then look again instead of calling it ready.
            let unchanged = context.readiness.send_if_modified(|present| {
                let same = *present == readiness;
                if same {
                    *present = Readiness::Ready;
                }
                same
            });
            context.doors.wake_slots();
            return if unchanged {
                self.look_for_better()
            } else {
                Some(INTERVAL)
            };
        }
        if since.elapsed() >= context.config.runtime_ready_timeout {
            self.give_up(since.elapsed(), readiness).await;
        }
        Some(INTERVAL)
    }

    /// While v1 is spoken because an offer of v2 was not kept: looks whether there is another one.
    fn look_for_better(&mut self) -> Option<Duration> {
        let (refused, _) = self.refused.as_ref()?;
        if self.context.session.borrow().is_some() {
            self.refused = None;
            return None;
        }
        if self.still_advertised(refused) {
            return Some(BROKEN_OFFER);
        }
        self.refused = None;
        self.context.set_readiness(Readiness::NotReady);
        Some(INTERVAL)
    }

    /// Looks for a runtime, and for the protocol that it speaks.
    async fn find(&mut self, myself: &ActorRef<Message>) -> Look {
        let context = &self.context;
        let config = &context.config;
        let advert = match read_ready(&config.socket_dir) {
            Ok(Some(ready)) => ready.v2.filter(|_| config.protocol == Protocol::Auto),
            Ok(None) => return Look::NotYet,
            Err(error) => {
                tracing::debug!(actor = %context.actor, %error, "the ready file cannot be read");
                return Look::NotYet;
            }
        };
        let Some(advert) = advert else {
            return self.find_v1().await;
        };
        if context.has_left(&advert.nonce) {
            return Look::NotYet;
        }
        match Control::connect(&advert, ANSWER_TIMEOUT).await {
            Ok((control, welcome)) => {
                let session = Arc::new(Session::new(advert, control, welcome));
                self.open(session, myself);
                Look::Session
            }
            // Busy or stopped: v1 would not be answered either.
            Err(error @ ConnectError::TimedOut { .. }) => {
                tracing::debug!(actor = %self.context.actor, %error, "the runtime does not greet");
                Look::NotYet
            }
            Err(error) => {
                if !self.still_advertised(&advert) {
                    return Look::NotYet;
                }
                if self.is_long_refused(advert) {
                    tracing::debug!(actor = %self.context.actor, %error, "protocol v2 is offered and refused");
                    return self.find_v1().await;
                }
                Look::NotYet
            }
        }
    }

    fn still_advertised(&self, advert: &Advert) -> bool {
        let ready = read_ready(&self.context.config.socket_dir);
        ready.is_ok_and(|ready| ready.is_some_and(|ready| ready.v2.as_ref() == Some(advert)))
    }

    /// Notes that this offer was refused; true if that has been so for long.
    fn is_long_refused(&mut self, advert: Advert) -> bool {
        match &self.refused {
            Some((refused, since)) if *refused == advert => since.elapsed() >= BROKEN_OFFER,
            _ => {
                self.refused = Some((advert, Instant::now()));
                false
            }
        }
    }

    async fn find_v1(&self) -> Look {
        let config = &self.context.config;
        match wait_ready(&config.socket_dir, &config.socket(), PATIENCE).await {
            Ok(()) => Look::Fresh,
            Err(_) => Look::NotYet,
        }
    }

    /// Begins to use a session.
    fn open(&mut self, session: Arc<Session>, myself: &ActorRef<Message>) {
        let context = &self.context;
        let welcome = &session.welcome;
        tracing::info!(
            actor = %context.actor, server = %welcome.server, workers = welcome.workers,
            concurrency = welcome.concurrency, batch = welcome.batch_size, "the runtime speaks protocol v2"
        );
        context.settle_in(&session);
        if let Some(supervisor) = myself.try_get_supervisor() {
            // A supervisor that has ended builds everything anew, with the right number of slots.
            let _grown = supervisor.send_message(SupervisorMessage::Grow);
        }
        context.session.send_replace(Some(Arc::clone(&session)));
        self.listen(session, myself);
    }

    /// Keeps a task that reads what the runtime tells.
    fn listen(&mut self, session: Arc<Session>, myself: &ActorRef<Message>) {
        let context = Arc::clone(&self.context);
        self.pump.abort_all();
        spawn_pump(&mut self.pump, myself, async move {
            note_readiness(&context, &session);
            let listening = session.run(|news| {
                note_news(&context, &news);
                note_readiness(&context, &session);
            });
            let over = tokio::select! {
                over = listening => over,
                never = part(&context, &session) => match never {},
            };
            tracing::info!(actor = %context.actor, reason = %over, "the session with the runtime is over");
            context.end_session(&session);
            Ok(())
        });
    }

    /// After a call without an answer: a new runtime if we may ask for one, else proof that the old one is free.
    async fn freshen(&self) -> Look {
        if let Some(control) = &self.context.runtime_control {
            control.restart().await;
            self.context.set_readiness(Readiness::NotReady);
            return Look::NotYet;
        }
        // A v1 runtime answers one connection at a time, and an empty frame with an error: any answer means that it
        // has ended the call before.
        match self.context.client.call(Bytes::new(), ANSWER_TIMEOUT).await {
            Ok(_) => Look::Fresh,
            Err(_) => Look::NotYet,
        }
    }

    async fn give_up(&mut self, waited: Duration, readiness: Readiness) {
        let context = &self.context;
        let socket = context.config.socket();
        if !self.was_ready || readiness == Readiness::Suspended {
            context.fatal.raise(format!(
                "the runtime of actor {} at {} is not ready after {} s",
                context.actor,
                socket.display(),
                waited.as_secs()
            ));
            return;
        }
        let returned = context.ledger.return_waiting();
        if let Some(control) = &context.runtime_control {
            control.restart().await; // It may live and have lost its socket.
        }
        self.waiting_since = Some(Instant::now());
        tracing::error!(
            actor = %context.actor, socket = %socket.display(), returned,
            "the runtime has not come back; waiting messages were returned to the queue"
        );
    }
}

/// Leaves a runtime that was asked to end while this sidecar was not (a container that is restarted, or a native sidecar,
/// which is told only after the runtime has ended): it gets nothing more, what waits returns to the queue, and when it
/// has answered what it runs, it is told so and need not wait for its grace to pass.
async fn part(context: &Context, session: &Session) -> Infallible {
    session.stops().await;
    context.leave(&session.advert.nonce);
    loop {
        context.ledger.return_waiting();
        if context.ledger.assigned() == 0 {
            break;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    session.goodbye();
    std::future::pending().await
}

/// The tree takes in work exactly while a worker takes requests.
fn note_readiness(context: &Context, session: &Session) {
    if *context.readiness.borrow() == Readiness::Suspended {
        return; // A slot has found that the runtime does not do what it is told; it is to be replaced.
    }
    let readiness = if session.ready() > 0 && !session.is_stopping() {
        Readiness::Ready
    } else {
        Readiness::NotReady
    };
    if context.set_readiness(readiness) {
        context.doors.probe.wake();
        context.doors.wake_slots();
    }
}

fn note_news(context: &Context, news: &News) {
    match news {
        News::Ready(id) => tracing::debug!(actor = %context.actor, worker = %id, "ready"),
        News::Gone(id, gone) => {
            context.meters.worker_gone(gone);
            tracing::warn!(
                actor = %context.actor, worker = %id, signal = gone.signal_name, exit_code = gone.exit_code,
                oom = gone.oom, reason = %gone.reason, "a worker of the runtime has ended"
            );
        }
        News::Stopping => tracing::info!(actor = %context.actor, "the runtime was asked to end"),
    }
}
