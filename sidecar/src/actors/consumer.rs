//! The consumer pulls messages against credit and writes them into the ledger.
//!
//! The waiting is done by a pump task that the actor owns; stopping the actor aborts it, and a message that it had
//! received and not recorded returns to its queue. While the runtime is not ready nothing is pulled.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use asya_transport::{ConsumeError, Consumer as TransportConsumer, Delivery};
use ractor::{ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{Duty, Message, spawn_pump};

use crate::config::RunUntil;
use crate::context::{Context, Doorbell, Point, QueueState, Readiness, backoff};

pub(crate) struct Consumer {
    context: Arc<Context>,
    pump: JoinSet<()>,
}

impl Consumer {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            pump: JoinSet::new(),
        }
    }
}

impl Duty for Consumer {
    fn door(&self) -> &Doorbell {
        &self.context.doors.consumer
    }

    fn started(&mut self, myself: &ActorRef<Message>) {
        if !*self.context.consuming.borrow() {
            return;
        }
        let context = Arc::clone(&self.context);
        spawn_pump(
            &mut self.pump,
            myself,
            async move { match pump(context).await? {} },
        );
    }

    /// The pump finds its own work.
    async fn look(&mut self, _: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn pause(&mut self) {
        self.pump.shutdown().await;
    }
}

/// Pulls for ever. An error is a fault of this actor; what the broker does is waited out.
async fn pump(context: Arc<Context>) -> Result<std::convert::Infallible, ActorProcessingErr> {
    let mut readiness = context.readiness.subscribe();
    let mut failures = 0;
    while !*context.enough.borrow() {
        let opened = context.transport.consume(&context.queue).await;
        let error = match opened {
            Ok(mut consumer) => loop {
                readiness.wait_for(|now| *now == Readiness::Ready).await?;
                let lowered = context.credits.lowered();
                let pulled = tokio::select! {
                    pulled = pull(&context, &mut *consumer) => pulled,
                    () = lowered => continue,
                    changed = readiness.wait_for(|now| *now != Readiness::Ready) => {
                        changed?;
                        continue;
                    }
                };
                match pulled {
                    Ok(()) => {
                        failures = 0;
                        context.set_queue_state(QueueState::Found);
                    }
                    Err(error) => break error,
                }
                context.checkpoint(Point::Received).await?;
                context.doors.router.wake();
                if *context.enough.borrow() {
                    // Before the broker sends it another one, which would count as a delivery.
                    drop(consumer);
                    return std::future::pending().await;
                }
            },
            Err(error) => error,
        };
        let wait = backoff(Duration::from_millis(100), Duration::from_secs(10), failures);
        failures = failures.saturating_add(1);
        if let ConsumeError::NoSuchQueue(queue) = &error {
            let is_news = context.set_queue_state(QueueState::Missing);
            if is_news {
                tracing::warn!(
                    actor = %context.actor, %queue,
                    "the queue does not exist; create it, or set ASYA_QUEUE_AUTO_CREATE=true; looking again until it is there"
                );
            }
        } else {
            tracing::warn!(actor = %context.actor, %error, ?wait, "cannot consume, trying again");
        }
        tokio::time::sleep(wait).await;
    }
    std::future::pending().await
}

async fn pull(context: &Context, consumer: &mut dyn TransportConsumer) -> Result<(), ConsumeError> {
    let takes_one = context.config.run_until == RunUntil::One;
    let available = context.credits.available().await;
    let credit = if takes_one { 1 } else { available };
    let started = Instant::now();
    let deliveries = receive(context, consumer, credit).await?;
    // No await from here on: a delivery is either still in the transport's hands or in the ledger.
    context.meters.received(started.elapsed(), &deliveries);
    for delivery in deliveries {
        let permit = context.credits.take(delivery.body.len());
        context.ledger.insert(delivery, permit);
        if takes_one {
            context.enough.send_replace(true);
        }
    }
    Ok(())
}

/// Receives, and makes known when the queue has nothing: who collects a batch need not wait for more then.
async fn receive(
    context: &Context,
    consumer: &mut dyn TransportConsumer,
    credit: usize,
) -> Result<Vec<Delivery>, ConsumeError> {
    let mut receiving = consumer.receive(credit);
    if let Poll::Ready(received) = futures::poll!(&mut receiving) {
        return received;
    }
    // Ends also when this future is dropped, because nothing is to be pulled any more.
    let _asking = context.supply.ask();
    if context.supply.take_gathering() {
        context.doors.wake_slots();
    }
    receiving.await
}
