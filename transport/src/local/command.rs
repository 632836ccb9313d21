//! What the handles ask of the writer thread, and how each request is answered.
//!
//! Every request prepares its answer inside the transaction and sends it after the commit, so that nobody hears of
//! something that is rolled back and done again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::StoreError;
use super::store::{self, Deletion, Found, Lease};
use crate::{AdminError, ConsumeError, DeleteMode, Delivery, Outgoing, PublishError, QueueName};
use crate::{SettleError, Settlement};

/// The way to the writer thread, shared by everything that was made from one opened transport.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) commands: mpsc::Sender<Command>,
    /// Why the thread has ended, once it has.
    pub(super) ended: OnceLock<StoreError>,
    pub(super) path: Arc<PathBuf>,
}

impl Mailbox {
    /// Sends a command built around its reply; the receiver of the answer comes back at once.
    pub(super) fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        // If the thread has ended, the command is dropped here with its reply, and the receiver notices.
        let _undeliverable = self.commands.send(command(Reply {
            sender,
            prepared: None,
        }));
        receiver
    }

    /// Why no answer came.
    pub(super) fn cause(&self) -> StoreError {
        self.ended.get().cloned().unwrap_or(StoreError::Closed)
    }
}

/// One request to the writer thread.
#[derive(Debug)]
pub(super) enum Command {
    Change(Change),
    Claim(Claim),
    /// Give back all leases and end.
    Close,
}

/// Where an answer goes.
#[derive(Debug)]
pub(super) struct Reply<T> {
    sender: oneshot::Sender<T>,
    prepared: Option<T>,
}

impl<T> Reply<T> {
    fn prepare(&mut self, answer: T) {
        self.prepared = Some(answer);
    }

    fn send_prepared(self) {
        if let Some(answer) = self.prepared {
            // Nobody waits any more: the work is done all the same.
            let _unheard = self.sender.send(answer);
        }
    }

    fn send(self, answer: T) {
        let _unheard = self.sender.send(answer);
    }
}

/// A request that writes.
#[derive(Debug)]
pub(super) enum Change {
    Publish {
        message: Outgoing,
        reply: Reply<Result<(), PublishError>>,
    },
    Settle {
        ticket: Arc<Ticket>,
        settlement: Settlement,
        held: bool,
        reply: Reply<Result<(), SettleError>>,
    },
    GiveBack(Lease),
    Declare {
        queue: QueueName,
        reply: Reply<Result<(), AdminError>>,
    },
    Delete {
        queue: QueueName,
        mode: DeleteMode,
        reply: Reply<Result<(), AdminError>>,
    },
}

/// The lease behind a receipt, shared with the settlement that is on its way.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) lease: Lease,
    pub(super) settled: AtomicBool,
}

impl Change {
    /// Roughly how much memory the request holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Publish { message, .. } => message.body.len(),
            _ => 0,
        }
    }

    /// The queue whose waiting consumers should look again after this.
    pub(super) fn touches(&self) -> Option<&QueueName> {
        match self {
            Self::Publish { message, .. } => Some(&message.queue),
            Self::Settle {
                ticket,
                settlement: Settlement::Retry { .. } | Settlement::Return { .. },
                ..
            } => Some(&ticket.lease.queue),
            Self::Settle {
                settlement: Settlement::Ack,
                ..
            }
            | Self::Declare { .. } => None,
            Self::GiveBack(lease) => Some(&lease.queue),
            Self::Delete { queue, .. } => Some(queue),
        }
    }

    /// Does the work inside the current transaction and prepares the answer. May run again after a rollback.
    pub(super) fn execute(&mut self, connection: &Connection, owner: &str) -> rusqlite::Result<()> {
        match self {
            Self::Publish { message, reply } => {
                let stored = store::publish(connection, message)?;
                let unroutable = || PublishError::Unroutable(message.queue.clone());
                reply.prepare(if stored { Ok(()) } else { Err(unroutable()) });
            }
            Self::Settle {
                ticket,
                settlement,
                held,
                ..
            } => {
                *held = match *settlement {
                    Settlement::Ack => store::ack(connection, owner, &ticket.lease)?,
                    Settlement::Retry { after } => store::give_back(connection, owner, &ticket.lease, after)?,
                    Settlement::Return { after } => {
                        store::give_back_uncounted(connection, owner, &ticket.lease, after)?
                    }
                };
            }
            Self::GiveBack(lease) => {
                store::give_back(connection, owner, lease, Duration::ZERO)?;
            }
            Self::Declare { queue, reply } => {
                store::declare(connection, queue)?;
                reply.prepare(Ok(()));
            }
            Self::Delete { queue, mode, reply } => {
                reply.prepare(match store::delete(connection, queue, *mode)? {
                    Deletion::Deleted => Ok(()),
                    Deletion::NoSuchQueue => Err(AdminError::NoSuchQueue(queue.clone())),
                    Deletion::NotEmpty(messages) => Err(AdminError::NotEmpty {
                        queue: queue.clone(),
                        messages,
                    }),
                });
            }
        }
        Ok(())
    }

    /// Answers after the commit.
    pub(super) fn confirm(self) {
        match self {
            Self::Publish { reply, .. } => reply.send_prepared(),
            Self::Settle {
                ticket, held, reply, ..
            } => {
                // The first settlement marks the ticket; a repeated one finds no lease but the mark.
                let settled = ticket.settled.fetch_or(held, Ordering::AcqRel) || held;
                reply.send(if settled { Ok(()) } else { Err(SettleError::Stale) });
            }
            Self::GiveBack(_) => {}
            Self::Declare { reply, .. } | Self::Delete { reply, .. } => reply.send_prepared(),
        }
    }

    /// Answers when the transaction could not be done. Returns a lease that is still to be given back.
    pub(super) fn fail(self, error: &StoreError) -> Option<Lease> {
        match self {
            Self::Publish { reply, .. } => reply.send(Err(PublishError::Unavailable(error.boxed()))),
            Self::Settle { reply, .. } => reply.send(Err(SettleError::Unavailable(error.boxed()))),
            Self::GiveBack(lease) => return Some(lease),
            Self::Declare { reply, .. } | Self::Delete { reply, .. } => {
                reply.send(Err(AdminError::Unavailable(error.boxed())));
            }
        }
        None
    }
}

/// A consumer that wants messages. It waits with the writer thread until there are some.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) queue: QueueName,
    pub(super) credit: usize,
    pub(super) found: Option<Found>,
    pub(super) reply: Reply<Result<Vec<Delivery>, ConsumeError>>,
}

impl Claim {
    /// Whether the consumer has stopped waiting.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.sender.is_closed()
    }

    /// Answers with what was found. If the consumer has gone meanwhile, the deliveries are dropped and with them
    /// their receipts, which gives the messages back.
    pub(super) fn answer(self, answer: Result<Vec<Delivery>, ConsumeError>) {
        self.reply.send(answer);
    }

    pub(super) fn fail(self, error: &StoreError) {
        self.answer(Err(ConsumeError::Unavailable(error.boxed())));
    }
}
