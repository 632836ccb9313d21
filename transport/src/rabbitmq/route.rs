//! One publish on its way: where it goes, and the two steps until its confirm.

use std::sync::Arc;

use lapin::Confirmation;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;

use super::deck::Lane;
use super::delay::{DelayError, DelayQueues};
use super::message::Message;
use super::settings::{Settings, queue_name};

/// Where a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// To our exchange, under the name of the actor.
    Exchange,
    /// To the default exchange, under the name of the queue.
    Queue,
    /// To the delay queue of this many milliseconds.
    Delay(u64),
}

/// Why a publish ended without a confirm.
#[derive(Debug)]
pub(super) enum FlightError {
    /// There is no queue, or there can be none, of that name.
    NoTarget,
    Broker(lapin::Error),
}

impl From<lapin::Error> for FlightError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error)
    }
}

impl From<DelayError> for FlightError {
    fn from(error: DelayError) -> Self {
        match error {
            DelayError::NoTarget => Self::NoTarget,
            DelayError::Broker(error) => Self::Broker(error),
        }
    }
}

/// Sends `message` and waits for its confirm. For undelayed messages the frames are queued at the first poll.
///
/// When the connection is lost this may never end.
pub(super) async fn send(
    lane: Arc<Lane>,
    settings: Arc<Settings>,
    delays: Arc<DelayQueues>,
    message: Message,
    route: Route,
) -> Result<Confirmation, FlightError> {
    let (exchange, key) = match route {
        Route::Exchange => {
            let key = ShortString::try_new(message.queue.actor()).map_err(|_| FlightError::NoTarget)?;
            (settings.exchange.clone(), key)
        }
        Route::Queue => (
            ShortString::default(),
            queue_name(&message.queue).ok_or(FlightError::NoTarget)?,
        ),
        Route::Delay(step) => {
            let queue = delays.ensure(&lane.line, &settings, &message.queue, step).await?;
            (ShortString::default(), queue)
        }
    };
    let options = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let channel = &lane.channel;
    let sending = channel.basic_publish(exchange, key, options, &message.body, message.properties);
    Ok(sending.await?.await?)
}
