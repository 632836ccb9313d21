//! The task behind a consumer: it finds or makes the queue, and opens a channel for it whenever one is needed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::Channel;

use super::clerk::Clerk;
use super::counters::Counting;
use super::error::{RabbitError, Refusal, is};
use super::feeds::Feeds;
use super::link::{Line, Phase, Watch};
use super::mailbox::Mailbox;
use super::receipt::Office;
use super::registry::Registry;
use super::session::Session;
use super::settings::{Settings, queue_name};
use super::topology;
use crate::{ConsumeError, QueueName};

/// How long a channel stays open after its last acknowledgement. Towards a quorum queue the broker keeps
/// acknowledgements back when there are many at once (3.10 and later: more than 32), and forgets those when the channel
/// ends: the messages would come again.
const LINGER: Duration = Duration::from_secs(1);

/// What AMQP calls a close for no error.
const REPLY_SUCCESS: u16 = 200;

pub(super) struct Pump {
    pub(super) queue: QueueName,
    pub(super) settings: Arc<Settings>,
    pub(super) link: Watch,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) office: Office,
    pub(super) registry: Arc<Registry>,
    pub(super) counting: Arc<Counting>,
}

/// Why a channel is not used any more.
pub(super) enum End {
    /// The consumer is gone and everything is settled.
    Finished,
    /// The queue may be gone; the next attempt will tell.
    Cancelled,
    Lost(RabbitError),
}

impl Pump {
    pub(super) async fn run(mut self) {
        let mut reported: Option<Instant> = None;
        loop {
            let wish = self.mailbox.wish();
            if wish.closed {
                return;
            }
            if !wish.asking {
                self.mailbox.asked.notified().await;
                continue;
            }
            let Some(line) = self.connected(&mut reported).await else {
                continue;
            };
            let channel = match line.attempt(self.open(&line)).await {
                Ok(Some(channel)) => channel,
                Ok(None) => {
                    self.mailbox.fail(ConsumeError::NoSuchQueue(self.queue.clone()));
                    continue;
                }
                Err(error) => {
                    self.link.suspect();
                    self.mailbox
                        .fail(ConsumeError::Unavailable(RabbitError::from(error).boxed()));
                    continue;
                }
            };
            match self.serve(&line, channel).await {
                End::Finished => return,
                End::Cancelled => tracing::info!(queue = %self.queue, "the broker ended the consumer"),
                End::Lost(error) => {
                    self.link.suspect();
                    self.mailbox.fail(ConsumeError::Unavailable(error.boxed()));
                    // The outage that this was part of is reported with it.
                    reported = Some(Instant::now());
                }
            }
        }
    }

    /// The connection, once it is there. An outage is reported once, and then waited out.
    async fn connected(&mut self, reported: &mut Option<Instant>) -> Option<Arc<Line>> {
        let trouble = match self.link.phase() {
            Phase::Up(line) | Phase::Blocked(line, _) if line.connection.status().connected() => {
                return Some(line);
            }
            Phase::Up(line) | Phase::Blocked(line, _) => {
                // Lost, and the supervisor does not know yet.
                self.link.suspect();
                let number = line.number;
                drop(line);
                return self.wait(Some(number)).await;
            }
            Phase::Down(trouble) => trouble,
        };
        if reported.is_none_or(|at| at < trouble.since && at.elapsed() > Duration::from_secs(1)) {
            *reported = Some(Instant::now());
            let error = RabbitError::Disconnected(trouble.reason.clone());
            self.mailbox.fail(ConsumeError::Unavailable(error.boxed()));
            return None;
        }
        self.wait(None).await
    }

    /// Waits for a connection, or for the caller to change its mind.
    async fn wait(&mut self, before: Option<u64>) -> Option<Arc<Line>> {
        tokio::select! {
            line = self.link.next_line(before) => {
                if line.is_none() {
                    self.mailbox.fail(ConsumeError::Unavailable(RabbitError::Closed.boxed()));
                    self.mailbox.asked.notified().await;
                }
                line
            }
            () = self.mailbox.asked.notified() => None,
        }
    }

    /// Finds the queue, or makes it if that is ours to do, binds it and opens a channel for it. `None` if there is none.
    async fn open(&self, line: &Line) -> lapin::Result<Option<Channel>> {
        let connection = &line.connection;
        let Some(name) = queue_name(&self.queue) else {
            return Ok(None);
        };
        if topology::look(connection, &name).await?.is_none() {
            if !self.settings.options.queues.auto_create {
                return Ok(None);
            }
            topology::create(connection, &name, &self.settings.queue_arguments).await?;
        }
        topology::bind(connection, &self.settings, &self.queue, self.queue.actor()).await?;
        topology::channel(connection).await.map(Some)
    }

    /// Works until the channel or the consumer ends.
    async fn serve(&self, line: &Line, channel: Channel) -> End {
        let Some(name) = queue_name(&self.queue) else {
            return End::Cancelled; // was checked before the channel was opened
        };
        let clerk = Arc::new(Clerk::new(channel.clone(), Arc::clone(&self.counting)));
        self.registry.add(&self.queue, &clerk);
        self.mailbox.begin(&clerk);
        let mut session = Session::new(self, Feeds::new(channel.clone(), name), Arc::clone(&clerk));
        let end = match line.attempt(session.run()).await {
            Ok(end) => end,
            Err(error) if is(&error, Refusal::NotFound) => End::Cancelled,
            Err(error) => End::Lost(error.into()),
        };
        clerk.end();
        self.mailbox.end();
        if matches!(end, End::Finished) {
            tokio::time::sleep(LINGER).await;
        }
        // While the consumers are still there: dropped on an open channel, each sends a cancel of its own. If the answer
        // crosses the end of the channel, the client library takes it for a violation and ends the connection.
        if channel.status().connected()
            && let Err(error) = line.attempt(channel.close(REPLY_SUCCESS, "done".into())).await
        {
            tracing::debug!(queue = %self.queue, %error, "the channel was not closed in order");
        }
        drop(session);
        end
    }
}
