//! The consumer that callers see.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::mailbox::Mailbox;
use crate::{ConsumeError, Consumer, Delivery};

/// Asks its pump, which outlives it until every receipt is settled.
#[derive(Debug)]
pub(super) struct RabbitConsumer {
    mailbox: Arc<Mailbox>,
}

impl RabbitConsumer {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox }
    }
}

impl Consumer for RabbitConsumer {
    fn receive(&mut self, credit: usize) -> BoxFuture<'_, Result<Vec<Delivery>, ConsumeError>> {
        Box::pin(async move {
            let credit = credit.max(1);
            let mut asking = Asking(Some(&self.mailbox));
            self.mailbox.ask(credit);
            loop {
                let arrived = self.mailbox.arrived.notified();
                if let Some(taken) = self.mailbox.take(credit) {
                    asking.0 = None;
                    return taken;
                }
                arrived.await;
            }
        })
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

/// Withdraws what was asked for when the caller stops waiting.
struct Asking<'a>(Option<&'a Mailbox>);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(mailbox) = self.0 {
            mailbox.withdraw();
        }
    }
}
