//! What can go wrong with a broker, in words for the person who has to mend it.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::options::AddressError;
use crate::BoxError;

/// Why no connection came about. Every message is one line, names the setting concerned and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The options contradict AMQP.
    #[error("the RabbitMQ address is not usable: {0}")]
    Address(#[from] AddressError),
    /// A name or a queue argument cannot be sent over AMQP.
    #[error("the {setting} is not usable: {problem}")]
    Setting {
        /// Which setting, in words.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A TLS file cannot be read.
    #[error("cannot read the {what} {}: {source}", path.display())]
    TlsFile {
        /// What the file is.
        what: &'static str,
        /// Where it is.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Nobody answered in time. Only when [`connect_patience`](super::RabbitMqOptions::connect_patience) is set.
    #[error(
        "RabbitMQ at {address} was not reachable for {patience:?}: {reason}; check host, port and network"
    )]
    Unreachable {
        /// The broker.
        address: String,
        /// How long it was tried.
        patience: Duration,
        /// What went wrong last.
        reason: String,
    },
    /// TLS was refused by one side.
    #[error(
        "no TLS with RabbitMQ at {address}: {reason}; check the scheme, the port, the CA file and the client \
         certificate"
    )]
    Tls {
        /// The broker.
        address: String,
        /// What the handshake said.
        reason: String,
    },
    /// User or password are wrong.
    #[error("RabbitMQ at {address} refused the login of user {user:?}; check the user name and the password")]
    Login {
        /// The broker.
        address: String,
        /// The user.
        user: String,
    },
    /// The virtual host is missing, or the user may not enter it.
    #[error(
        "RabbitMQ at {address} gives user {user:?} no access to virtual host {vhost:?}: {reason}; create it or grant access"
    )]
    Vhost {
        /// The broker.
        address: String,
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
        /// What the broker said.
        reason: String,
    },
    /// The exchange is there with other properties, or may not be used.
    #[error(
        "exchange {exchange:?} at {address} cannot be used: {reason}; it must be a durable topic exchange without \
         arguments: delete it, choose another name or grant access"
    )]
    Exchange {
        /// The broker.
        address: String,
        /// The exchange.
        exchange: String,
        /// What the broker said.
        reason: String,
    },
}

impl ConnectError {
    /// Whether trying again without changing anything may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Why the broker could not do its work just now; the cause inside the `Unavailable` errors of this transport.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RabbitError {
    /// There is no connection; it is being re-established.
    #[error("no connection to RabbitMQ: {0}")]
    Disconnected(String),
    /// The broker answered with an error.
    #[error("RabbitMQ refused: {0}")]
    Refused(String),
    /// The broker did not store the message.
    #[error(
        "RabbitMQ did not take the message; its queue is full (overflow reject-publish) or the broker is in trouble"
    )]
    Rejected,
    /// The queue has consumers, so it was not deleted.
    #[error("queue {queue} is in use by {consumers} consumers")]
    InUse {
        /// The queue.
        queue: crate::QueueName,
        /// How many consumers it has.
        consumers: u32,
    },
    /// The delay is longer than the longest delay queue.
    #[error("a delay of {0:?} is more than a day, which is the longest possible")]
    DelayTooLong(Duration),
    /// The transport was dropped.
    #[error("the transport was closed")]
    Closed,
}

impl RabbitError {
    /// As the `Unavailable` variants of the transport errors want it.
    pub(super) fn boxed(self) -> BoxError {
        Box::new(self)
    }
}

impl From<lapin::Error> for RabbitError {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(cause) => Self::Refused(cause.get_message().to_string()),
            _ => Self::Disconnected(error.to_string()),
        }
    }
}

/// What an AMQP error means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 404: queue or exchange missing.
    NotFound,
    /// 403: no permission, or wrong credentials.
    Access,
    /// 406: exists with other properties, not empty, in use, too large.
    Precondition,
    /// 405: an exclusive queue of somebody else.
    Locked,
    /// 530: virtual host missing or forbidden.
    NotAllowed,
    /// 540: the broker does not know how.
    NotImplemented,
    /// Anything else that the broker refused.
    Other,
}

/// The refusal in `error`, with the broker's words; `None` when the connection failed instead.
pub(super) fn refusal(error: &lapin::Error) -> Option<(Refusal, String)> {
    let ErrorKind::ProtocolError(cause) = error.kind() else {
        return None;
    };
    let refusal = match cause.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Refusal::NotFound,
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Refusal::Access,
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Refusal::Precondition,
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => Refusal::Locked,
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Refusal::NotAllowed,
        AMQPErrorKind::Hard(AMQPHardError::NOTIMPLEMENTED) => Refusal::NotImplemented,
        _ => Refusal::Other,
    };
    Some((refusal, cause.get_message().to_string()))
}

/// Whether `error` says that something of the given kind happened.
pub(super) fn is(error: &lapin::Error, expected: Refusal) -> bool {
    refusal(error).is_some_and(|(found, _)| found == expected)
}

/// Reads "message size S is larger than … max size L" out of a refusal.
pub(super) fn size_limit(reason: &str) -> Option<(usize, usize)> {
    if !reason.contains("message size") {
        return None;
    }
    let mut numbers = reason
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok());
    let (size, limit) = (numbers.next()?, numbers.next()?);
    (size > limit).then_some((size, limit))
}

#[cfg(test)]
mod tests {
    use super::size_limit;

    #[test]
    fn the_size_limit_is_found_in_the_brokers_words() {
        let said = "PRECONDITION_FAILED - message size 2097152 is larger than configured max size 1048576";
        assert_eq!(size_limit(said), Some((2_097_152, 1_048_576)));
        assert_eq!(
            size_limit("PRECONDITION_FAILED - inequivalent arg 'type' 1 2"),
            None
        );
    }
}
