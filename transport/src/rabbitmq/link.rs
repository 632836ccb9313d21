//! A connection that re-establishes itself for ever.
//!
//! The client library can recover connections by itself; it is not used. What it restores (channels, consumers,
//! confirms) are promises about messages, and this crate makes those: a new connection means new channels, on which
//! old receipts are stale and old publishes unconfirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use lapin::{Connection, ConnectionState, ErrorKind, Event};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::backoff::Waits;
use super::counters::Counting;
use super::dial::{Cutter, DialError, dial};
use super::error::{ConnectError, RabbitError, refusal};
use super::settings::Settings;
use super::topology;

/// How often a connection is looked at besides being listened to; the library reports some losses only by its state.
const GLANCE: Duration = Duration::from_millis(500);

/// How long a connection may be out of channels before it is replaced.
const CROWDED: Duration = Duration::from_secs(5);

/// One established connection.
#[derive(Debug)]
pub(super) struct Line {
    /// Counts the connections of a link.
    pub(super) number: u64,
    pub(super) connection: Connection,
    cutter: Cutter,
    lost: watch::Sender<bool>,
    /// Whether no channel could be opened when somebody tried last.
    crowded: AtomicBool,
}

impl Line {
    fn new(number: u64, connection: Connection, cutter: Cutter) -> Arc<Self> {
        Arc::new(Self {
            number,
            connection,
            cutter,
            lost: watch::Sender::new(false),
            crowded: AtomicBool::new(false),
        })
    }

    /// Does something over this connection, but no longer than it lasts. To be used for every request: one that the
    /// client library takes in while it is closing a connection is never answered.
    pub(super) async fn attempt<T>(&self, work: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
        tokio::select! {
            biased;
            result = work => {
                if result.as_ref().is_err_and(is_out_of_channels) {
                    self.crowded.store(true, Ordering::Relaxed);
                }
                result
            }
            () = self.until_lost() => Err(ErrorKind::InvalidConnectionState(ConnectionState::Closed).into()),
        }
    }

    /// Whether no channel can be opened. Their numbers are used up by closed channels, see `topology::channel`.
    async fn is_crowded(&self) -> bool {
        if !self.crowded.load(Ordering::Relaxed) {
            return false;
        }
        let opened = tokio::time::timeout(GLANCE, self.connection.create_channel()).await;
        let crowded = opened.is_ok_and(|opened| opened.as_ref().is_err_and(is_out_of_channels));
        self.crowded.store(crowded, Ordering::Relaxed);
        crowded
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Waits until the connection is gone.
    pub(super) async fn until_lost(&self) {
        let mut lost = self.lost.subscribe();
        // The sender is in `self`, so waiting cannot fail.
        let _lost = lost.wait_for(|lost| *lost).await;
    }
}

fn is_out_of_channels(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ChannelsLimitReached)
}

/// What a link is doing.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Connected.
    Up(Arc<Line>),
    /// Connected, but the broker takes no publishes because it is short of memory or disk.
    Blocked(Arc<Line>, Arc<Trouble>),
    /// Trying to reconnect.
    Down(Arc<Trouble>),
}

/// Since when something is wrong, and what.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    pub(super) reason: String,
}

impl Trouble {
    fn now(reason: String) -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            reason,
        })
    }
}

impl Phase {
    /// The connection, if there is one.
    pub(super) fn line(&self) -> Result<&Arc<Line>, &Arc<Trouble>> {
        match self {
            Self::Up(line) | Self::Blocked(line, _) => Ok(line),
            Self::Down(trouble) => Err(trouble),
        }
    }
}

/// A supervised connection. Dropping it ends the supervision; the connection closes with its last user.
#[derive(Debug)]
pub(super) struct Link {
    phase: watch::Receiver<Phase>,
    suspicion: Arc<Notify>,
    supervisor: AbortHandle,
}

impl Link {
    /// Connects for the first time, for as long as the options allow, and stays connected from then on.
    pub(super) async fn open(
        settings: Arc<Settings>,
        purpose: &'static str,
        counting: Arc<Counting>,
    ) -> Result<Self, ConnectError> {
        let line = first(&settings, purpose).await?;
        let (sender, phase) = watch::channel(Phase::Up(Arc::clone(&line)));
        let suspicion = Arc::new(Notify::new());
        let supervisor = Supervisor {
            settings,
            purpose,
            phase: sender,
            suspicion: Arc::clone(&suspicion),
            counting,
        };
        Ok(Self {
            phase,
            suspicion,
            supervisor: tokio::spawn(supervisor.run(line)).abort_handle(),
        })
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Follows the phases from now on.
    pub(super) fn watch(&self) -> Watch {
        Watch {
            phase: self.phase.clone(),
            suspicion: Arc::clone(&self.suspicion),
        }
    }

    /// The current connection, or why there is none.
    pub(super) fn line(&self) -> Result<Arc<Line>, RabbitError> {
        self.watch().line()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// A view of a link that tasks keep. It ends when the link is dropped.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    phase: watch::Receiver<Phase>,
    suspicion: Arc<Notify>,
}

impl Watch {
    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn line(&self) -> Result<Arc<Line>, RabbitError> {
        let phase = self.phase();
        let line = phase.line();
        line.cloned()
            .map_err(|trouble| RabbitError::Disconnected(trouble.reason.clone()))
    }

    /// Waits for a connection other than number `before`; `None` when the link was dropped.
    pub(super) async fn next_line(&mut self, before: Option<u64>) -> Option<Arc<Line>> {
        let found = self
            .phase
            .wait_for(|phase| phase.line().is_ok_and(|line| Some(line.number) != before));
        found.await.ok()?.line().ok().cloned()
    }

    /// Tells the supervisor that something failed, so that it looks now.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }
}

/// Tries until it works, until somebody has to change something, or until patience ends.
async fn first(settings: &Settings, purpose: &'static str) -> Result<Arc<Line>, ConnectError> {
    let started = Instant::now();
    let mut waits = Waits::new(settings.options.backoff);
    loop {
        let reason = match establish(settings, purpose, 1).await {
            Ok(line) => return Ok(line),
            Err(DialError::Permanent(error)) => return Err(error),
            Err(DialError::Transient(reason)) => reason,
        };
        let wait = waits.next();
        let address = settings.options.address.to_string();
        if let Some(patience) = settings.options.connect_patience
            && started.elapsed() + wait > patience
        {
            return Err(ConnectError::Unreachable {
                address,
                patience,
                reason,
            });
        }
        tracing::warn!(%address, %reason, ?wait, "RabbitMQ cannot be reached, trying again");
        tokio::time::sleep(wait).await;
    }
}

/// Connects and declares the exchange.
async fn establish(settings: &Settings, purpose: &str, number: u64) -> Result<Arc<Line>, DialError> {
    let (connection, cutter) = dial(settings, purpose).await?;
    let declaring = topology::ensure_exchange(&connection, settings);
    let declared = tokio::time::timeout(settings.options.connect_timeout, declaring).await;
    let failed = match declared {
        Ok(Ok(())) => {
            return Ok(Line::new(number, connection, cutter));
        }
        Ok(Err(error)) => match refusal(&error) {
            Some((_, reason)) if connection.status().connected() => {
                DialError::Permanent(ConnectError::Exchange {
                    address: settings.options.address.to_string(),
                    exchange: settings.options.exchange.clone(),
                    reason,
                })
            }
            _ => DialError::Transient(error.to_string()),
        },
        Err(_) => DialError::Transient("no answer to the declaration of the exchange".into()),
    };
    cutter.cut();
    Err(failed)
}

/// Watches the connection and replaces it, until nobody is interested any more.
struct Supervisor {
    settings: Arc<Settings>,
    purpose: &'static str,
    phase: watch::Sender<Phase>,
    suspicion: Arc<Notify>,
    counting: Arc<Counting>,
}

impl Supervisor {
    async fn run(self, mut line: Arc<Line>) {
        loop {
            let number = line.number;
            let reason = until_lost(&line, &self.phase, &self.suspicion).await;
            tracing::warn!(purpose = self.purpose, %reason, "the connection to RabbitMQ is lost, reconnecting");
            line.lost.send_replace(true);
            line.cutter.cut();
            drop(line);
            line = self.again(number + 1, reason).await;
            self.counting.reconnects.increment();
            self.phase.send_replace(Phase::Up(Arc::clone(&line)));
        }
    }

    /// Tries until there is a connection again.
    async fn again(&self, number: u64, reason: String) -> Arc<Line> {
        let (purpose, since) = (self.purpose, Instant::now());
        self.phase.send_replace(Phase::Down(Trouble::now(reason)));
        let mut waits = Waits::new(self.settings.options.backoff);
        loop {
            tokio::time::sleep(waits.next()).await;
            match establish(&self.settings, purpose, number).await {
                Ok(line) => {
                    tracing::info!(purpose, after = ?since.elapsed(), "connected to RabbitMQ again");
                    return line;
                }
                Err(error) => {
                    let reason = error.reason();
                    tracing::warn!(purpose, %reason, "cannot reconnect to RabbitMQ, trying again");
                    self.phase
                        .send_replace(Phase::Down(Arc::new(Trouble { since, reason })));
                }
            }
        }
    }
}

/// Ends with the reason when the connection is gone; publishes meanwhile whether it is blocked.
async fn until_lost(line: &Arc<Line>, phase: &watch::Sender<Phase>, suspicion: &Notify) -> String {
    let mut events = line.connection.events_listener();
    let (mut reason, mut cause) = (None, String::from("short of memory or disk"));
    let mut crowded: Option<Instant> = None;
    loop {
        match tokio::time::timeout(GLANCE, next_event(&mut events, suspicion)).await {
            Ok(Some(Event::Error(error))) => reason = Some(RabbitError::from(error).to_string()),
            Ok(Some(Event::ConnectionBlocked(said))) => cause = said,
            Ok(_) | Err(_) => {}
        }
        let status = line.connection.status();
        if !status.connected() {
            return reason.unwrap_or_else(|| "the broker closed the connection".into());
        }
        crowded = if line.is_crowded().await {
            crowded.or(Some(Instant::now()))
        } else {
            None
        };
        if crowded.is_some_and(|since| since.elapsed() > CROWDED) {
            return "no channel can be opened on it any more".into();
        }
        // Not from the event alone: it is not heard when it comes before we listen.
        let known = matches!(&*phase.borrow(), Phase::Blocked(..));
        if status.blocked() && !known {
            tracing::warn!(%cause, "RabbitMQ takes no messages for now");
            phase.send_replace(Phase::Blocked(Arc::clone(line), Trouble::now(cause.clone())));
        } else if !status.blocked() && known {
            tracing::info!("RabbitMQ takes messages again");
            phase.send_replace(Phase::Up(Arc::clone(line)));
        }
    }
}

async fn next_event(events: &mut (impl Stream<Item = Event> + Unpin), suspicion: &Notify) -> Option<Event> {
    tokio::select! {
        event = events.next() => event,
        () = suspicion.notified() => None,
    }
}
