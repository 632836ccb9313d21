//! When a sidecar that does not run for ever has done its work (contract operator §7.3).
//!
//! It only looks. What ends the sidecar then is the same drain that a signal begins.

use std::time::{Duration, Instant};

use crate::config::RunUntil;
use crate::context::Context;

/// Pause between two looks at the queue. A message that the broker had already sent arrives in less.
const LOOK: Duration = Duration::from_millis(500);

/// Resolves when there is nothing left to do; never for a sidecar that runs until it is stopped.
pub(crate) async fn done(context: &Context) {
    match context.config.run_until {
        RunUntil::Stopped => std::future::pending().await,
        RunUntil::Empty => queue_is_empty(context).await,
        RunUntil::One => tokio::select! {
            () = one_is_settled(context) => {}
            () = queue_is_empty(context) => {}
        },
    }
}

async fn one_is_settled(context: &Context) {
    let mut enough = context.enough.subscribe();
    // The sender lives as long as the context, so waiting cannot fail.
    let _has_enough = enough.wait_for(|enough| *enough).await;
    context.ledger.empty().await;
    context.outbox.empty().await;
}

/// Twice in a row, while the consumer waited all the time and nothing was in hand: what is counted as delivered at the
/// first look, and was still on its way here, has come by the second.
async fn queue_is_empty(context: &Context) {
    let mut before: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let waiting = waiting_since(context);
        let is_empty = waiting.is_some() && has_none(context).await && waiting_since(context) == waiting;
        if is_empty && before == waiting {
            return;
        }
        before = waiting.filter(|_| is_empty);
    }
}

/// Since when the consumer has been waiting for its queue, if nothing is in hand.
fn waiting_since(context: &Context) -> Option<Instant> {
    context.supply.asked().filter(|_| context.credits.taken() == 0)
}

/// Whether the broker has none to hand out, now or after a delay that it tells of.
async fn has_none(context: &Context) -> bool {
    match context.transport.administration().depth(&context.queue).await {
        Ok(depth) => depth.ready + depth.delayed == 0,
        Err(error) => {
            tracing::debug!(actor = %context.actor, %error, "cannot count the messages of the queue");
            false
        }
    }
}
