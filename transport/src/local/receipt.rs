//! A claimed message in the hands of the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;

use super::command::{Change, Command, Mailbox, Ticket};
use super::error::StoreError;
use super::store::Claimed;
use crate::{Delivery, Receipt, SettleError, Settlement};

/// The right to settle one claim; gives the message back when dropped unsettled.
#[derive(Debug)]
struct LocalReceipt {
    ticket: Arc<Ticket>,
    mailbox: Arc<Mailbox>,
}

/// Makes a delivery of a claimed message.
pub(super) fn delivery(claimed: Claimed, mailbox: &Arc<Mailbox>) -> Delivery {
    let ticket = Arc::new(Ticket {
        lease: claimed.lease,
        settled: AtomicBool::new(false),
    });
    Delivery {
        body: claimed.body,
        message_id: Some(claimed.message_id),
        deliveries: claimed.deliveries,
        receipt: Arc::new(LocalReceipt {
            ticket,
            mailbox: Arc::clone(mailbox),
        }),
    }
}

impl Receipt for LocalReceipt {
    fn settle(&self, settlement: Settlement) -> BoxFuture<'static, Result<(), SettleError>> {
        if self.ticket.settled.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Ok(())));
        }
        let ticket = Arc::clone(&self.ticket);
        let answer = self.mailbox.ask(|reply| {
            Command::Change(Change::Settle {
                ticket,
                settlement,
                held: false,
                reply,
            })
        });
        let mailbox = Arc::clone(&self.mailbox);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| match mailbox.cause() {
                // Closing the queue gave the message back.
                StoreError::Closed => Err(SettleError::Stale),
                cause => Err(SettleError::Unavailable(cause.boxed())),
            })
        })
    }
}

impl Drop for LocalReceipt {
    fn drop(&mut self) {
        if !self.ticket.settled.load(Ordering::Acquire) {
            // A settlement that is still on its way comes first in the channel and leaves this without effect. If the
            // thread has ended, the lease ends with the owner.
            let lease = self.ticket.lease.clone();
            let _ended = self
                .mailbox
                .commands
                .send(Command::Change(Change::GiveBack(lease)));
        }
    }
}
