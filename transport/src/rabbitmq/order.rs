//! One message that somebody wants to have published.

use std::sync::Arc;

use lapin::message::BasicReturnMessage;

use super::delay;
use super::flight::Slot;
use super::message::Message;
use super::route::Route;
use super::settings::Settings;

/// One message, where it goes, and who wants to know.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) message: Message,
    pub(super) route: Route,
    pub(super) slot: Arc<Slot>,
    /// Set when the broker returned the message of the flight that is under way.
    pub(super) returned: bool,
    /// Set when the confirm of the flight carried a returned message, be it another's.
    pub(super) carried: bool,
    /// Set when the delay queue had vanished once.
    pub(super) retried: bool,
}

impl Order {
    pub(super) fn new(message: Message, route: Route, slot: Arc<Slot>) -> Self {
        Self {
            message,
            route,
            slot,
            returned: false,
            carried: false,
            retried: false,
        }
    }

    /// Orders that agree in all of this are the same message on the same way, so either may stand for the other.
    pub(super) fn is_owner_of(&self, returned: &BasicReturnMessage, settings: &Settings) -> bool {
        // First what tells most of them apart: all that are aloft are looked at.
        if returned.properties.message_id() != self.message.properties.message_id() {
            return false;
        }
        let (exchange, key) = match self.route {
            Route::Exchange => (settings.exchange.as_str(), self.message.queue.actor().to_owned()),
            Route::Queue => ("", self.message.queue.to_string()),
            Route::Delay(step) => ("", delay::delay_queue(&self.message.queue, step).to_string()),
        };
        returned.exchange.as_str() == exchange
            && returned.routing_key.as_str() == key
            && returned.data == self.message.body
    }
}
