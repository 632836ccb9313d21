//! What the log says of the gateway: each trouble once, until it is another one or over.

use tracing::{debug, info, warn};

use super::GatewayAddress;

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It cannot be reached, cannot now, or the stream broke.
    Away(String),
    /// It does not let us.
    Refused(String),
    /// It does not offer the service.
    NotOffered(String),
    /// It does not understand what we say.
    Misunderstood(String),
}

impl Problem {
    fn reason(&self) -> &str {
        match self {
            Self::Away(reason)
            | Self::Refused(reason)
            | Self::NotOffered(reason)
            | Self::Misunderstood(reason) => reason,
        }
    }
}

/// Speaks of changes only.
pub(super) struct Voice {
    address: GatewayAddress,
    /// What was said last; `None` while all is well.
    last: Option<Problem>,
    has_connected: bool,
}

impl Voice {
    pub(super) fn new(address: GatewayAddress) -> Self {
        Self {
            address,
            last: None,
            has_connected: false,
        }
    }

    /// The gateway has answered.
    pub(super) fn connected(&mut self) {
        let address = &self.address;
        match (self.last.take(), self.has_connected) {
            (Some(_), true) => info!(gateway = %address, "the gateway is told of actors again"),
            (None, true) => debug!(gateway = %address, "a new stream to the gateway"),
            (_, false) => info!(gateway = %address, "the gateway is told of actors"),
        }
        self.has_connected = true;
    }

    /// There is no stream. Returns whether it was said aloud.
    pub(super) fn trouble(&mut self, problem: &Problem) -> bool {
        let is_known = matches!((&self.last, problem), (Some(last), now) if std::mem::discriminant(last) == std::mem::discriminant(now));
        let (address, reason) = (&self.address, problem.reason());
        if is_known {
            debug!(gateway = %address, reason, "still no stream to the gateway");
            return false;
        }
        match problem {
            Problem::Away(_) => {
                warn!(gateway = %address, reason, "the gateway cannot be told of actors; trying again until it can");
            }
            Problem::Refused(_) => warn!(
                gateway = %address, reason,
                "the gateway refuses the operator: ASYA_GATEWAY_TOKEN here must be the token that the gateway has as \
                 ASYA_AUTH_OPERATOR_TOKEN; trying again every minute"
            ),
            Problem::NotOffered(_) => warn!(
                gateway = %address, reason,
                "the gateway does not know the service asya.status.v1.ActorStatus: it shows no actors until it is \
                 upgraded, or until a proxy before it lets HTTP/2 pass; trying again every minute"
            ),
            Problem::Misunderstood(_) => warn!(
                gateway = %address, reason,
                "the gateway does not take what it is told of actors; trying again every minute"
            ),
        }
        self.last = Some(problem.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_said_once_until_it_is_over() {
        let mut voice = Voice::new(GatewayAddress::parse("http://g").unwrap());
        let away = |reason: &str| Problem::Away(reason.to_owned());
        assert!(voice.trouble(&away("refused")));
        for _ in 0..100 {
            assert!(!voice.trouble(&away("no answer in time")));
        }
        assert!(voice.trouble(&Problem::Refused("no".to_owned())));
        assert!(!voice.trouble(&Problem::Refused("no".to_owned())));
        voice.connected();
        assert!(voice.trouble(&away("broken")));
    }
}
