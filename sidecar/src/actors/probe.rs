//! The probe finds out whether the runtime takes calls, and makes it fresh after it failed to answer.
//!
//! A runtime that is still starting, or is being replaced, is a *state* of the tree and costs no restart budget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_runtime_protocol::wait_ready;
use bytes::Bytes;
use ractor::{ActorProcessingErr, ActorRef};

use super::{Duty, Message};

use crate::context::{Context, Doorbell, Readiness};

/// Pause between two looks at a runtime that is not ready.
const INTERVAL: Duration = Duration::from_millis(25);

/// How long one handler call looks for the ready file and the socket; the actor takes other messages in between.
const PATIENCE: Duration = Duration::from_millis(400);

/// How long a runtime may take to answer an empty frame.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Probe {
    context: Arc<Context>,
    waiting_since: Option<Instant>,
    was_ready: bool,
}

impl Duty for Probe {
    fn door(&self) -> &Doorbell {
        &self.context.doors.probe
    }

    async fn look(&mut self, myself: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        if !self.look_once().await {
            myself.send_after(INTERVAL, || Message::Look);
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
        }
    }

    /// Looks once; true when there is nothing more to wait for.
    async fn look_once(&mut self) -> bool {
        let context = Arc::clone(&self.context);
        let readiness = *context.readiness.borrow();
        let fresh = match readiness {
            Readiness::Ready => return true,
            Readiness::NotReady => {
                let socket = context.config.socket();
                wait_ready(&context.config.socket_dir, &socket, PATIENCE)
                    .await
                    .is_ok()
            }
            Readiness::Suspended => self.freshen().await,
        };
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        if fresh {
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
            return unchanged;
        }
        if since.elapsed() >= context.config.runtime_ready_timeout {
            self.give_up(since.elapsed(), readiness).await;
        }
        false
    }

    /// After a call without an answer: a new runtime if we may ask for one, else proof that the old one is free.
    async fn freshen(&self) -> bool {
        if let Some(control) = &self.context.runtime_control {
            control.restart().await;
            self.context.set_readiness(Readiness::NotReady);
            return false;
        }
        // A v1 runtime answers one connection at a time, and an empty frame with an error: any answer means that it
        // has ended the call before.
        self.context
            .client
            .call(Bytes::new(), ANSWER_TIMEOUT)
            .await
            .is_ok()
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
