//! Protocol v2 (PROTOCOL.md) for handlers written in Rust: one worker, whose calls are tasks of this process.
//!
//! One task does it all: it accepts, keeps the control connection and the worker connection, and hands requests to
//! the handler.

use std::io;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::ACCEPT_PAUSE;
use super::handler::Handler;
use super::run::Runner;
use crate::v2::hello::Purpose;
use crate::v2::wire::Wire;

mod control;
mod greeting;
mod stopping;
mod worker;

use control::{Control, Order};
use greeting::Greetings;
use stopping::Stopping;
use worker::{Happened, Worker};

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Asked to end; the client is given time to drain.
    Stopping,
    /// Only what runs is answered.
    Finishing,
}

/// Serves protocol v2.
pub(super) struct Arbiter<H> {
    runner: Arc<Runner<H>>,
    listener: UnixListener,
    accept_again: Instant,
    phases: watch::Receiver<Phase>,
    greetings: Greetings,
    control: Control,
    worker: Worker<H>,
    stopping: Stopping,
}

enum Event {
    Accepted(io::Result<UnixStream>),
    Greeted(Box<Wire>, Purpose),
    Control(Order),
    Worker(Happened),
    Place(OwnedSemaphorePermit),
    Phase(Phase),
    Drained,
}

impl<H: Handler> Arbiter<H> {
    /// `drained` is told when the client has drained, or has had its time for that.
    pub(super) fn new(
        runner: Arc<Runner<H>>,
        listener: UnixListener,
        nonce: String,
        phases: watch::Receiver<Phase>,
        drained: oneshot::Sender<()>,
    ) -> Self {
        let options = &runner.options;
        Self {
            listener,
            accept_again: Instant::now(),
            phases,
            greetings: Greetings::new(nonce, options.max_frame),
            control: Control::new(options),
            stopping: Stopping::new(options, drained),
            worker: Worker::new(Arc::clone(&runner)),
            runner,
        }
    }

    /// Serves until the phase is [`Phase::Finishing`] and everything that ran is answered.
    pub(super) async fn run(mut self) {
        loop {
            match self.event().await {
                Event::Accepted(Ok(stream)) => self.greetings.begin(stream),
                Event::Accepted(Err(_)) => self.accept_again = Instant::now() + ACCEPT_PAUSE,
                Event::Greeted(wire, purpose) => self.greeted(*wire, purpose),
                Event::Control(order) => self.obey(order),
                Event::Worker(happened) => self.worker.react(happened),
                Event::Place(place) => self.worker.start(place),
                Event::Drained => self.stopping.drained(),
                Event::Phase(Phase::Finishing) => break,
                Event::Phase(_) => {
                    self.control.say_stopping();
                    self.stopping.begin(self.control.is_connected());
                }
            }
            self.worker.go_on();
        }
        self.finish().await;
    }

    /// The next thing that happens. Safe to cancel: whoever loses its place in the queue for a call stands last.
    async fn event(&mut self) -> Event {
        loop {
            let wants_place = self.worker.wants_place();
            tokio::select! {
                biased;
                happened = self.worker.next() => return Event::Worker(happened),
                place = self.runner.places.clone().acquire_owned(), if wants_place => {
                    if let Ok(place) = place {
                        return Event::Place(place);
                    }
                }
                order = self.control.next() => return Event::Control(order),
                Some(greeted) = self.greetings.next() => {
                    if let Some((wire, purpose)) = greeted {
                        return Event::Greeted(Box::new(wire), purpose);
                    }
                }
                accepted = accept(&self.listener, self.accept_again) => return Event::Accepted(accepted),
                // The sender outlives this task but for a server that is dropped, and so is this.
                Ok(()) = self.phases.changed() => return Event::Phase(*self.phases.borrow_and_update()),
                () = self.stopping.is_drained() => return Event::Drained,
            }
        }
    }

    fn greeted(&mut self, wire: Wire, purpose: Purpose) {
        match purpose {
            Purpose::Control => {
                self.control.connect(wire, self.worker.id());
                if self.stopping.has_begun() {
                    self.control.say_stopping();
                }
            }
            Purpose::Worker(id) => self.worker.connect(wire, id),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Cancel(id, tag, reason) if id == self.worker.id() => self.worker.cancel(tag, reason),
            Order::Kill(id, tag) if id == self.worker.id() => {
                let gone = self.worker.kill(tag);
                self.control.say_replaced(id, gone, self.worker.id());
            }
            // It is about a worker that is no more.
            Order::Cancel(..) | Order::Kill(..) => {}
            Order::Goodbye => self.stopping.client_left(),
            Order::Lost => {
                // Nobody waits for answers.
                self.worker.cancel_all();
                self.stopping.client_left();
            }
        }
    }

    /// Answers what runs, and says goodbye.
    async fn finish(&mut self) {
        drop(std::mem::take(&mut self.greetings));
        self.worker.stop_taking();
        while self.worker.is_busy() {
            tokio::select! {
                happened = self.worker.next() => self.worker.react(happened),
                // A client may still cancel.
                order = self.control.next() => self.obey(order),
            }
        }
        let goodbye = async {
            self.worker.say_goodbye().await;
            self.control.say_goodbye().await;
        };
        // Whether they still read is their own affair.
        let _ = timeout(self.runner.options.io_timeout, goodbye).await;
    }
}

async fn accept(listener: &UnixListener, again: Instant) -> io::Result<UnixStream> {
    if again > Instant::now() {
        sleep_until(again).await;
    }
    let (stream, _) = listener.accept().await?;
    Ok(stream)
}
