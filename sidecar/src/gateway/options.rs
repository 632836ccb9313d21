//! How a reporter behaves, as a typed value.

use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::address::GatewayAddress;
use super::token::GatewayToken;

/// Settings of a [`GatewayReporter`](super::GatewayReporter). Make them with [`GatewayOptions::new`] and change what
/// differs.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Where the gateway is.
    pub address: GatewayAddress,
    /// Which protocols may be used. Default: gRPC where the gateway offers it, else HTTP.
    pub protocol: GatewayProtocol,
    /// Shown to the gateway as bearer token, instead of a user and password in the address. Default: none.
    pub token: Option<GatewayToken>,
    /// The actor that reports, for the gateway's logs. Default: empty.
    pub actor: String,
    /// How often a gateway that offers no gRPC is asked again whether it does (rulings 30). Default 1 min.
    pub probe_every: Duration,
    /// Whether results of a fan-out are made known to it. Default true; an original gateway also *runs* what is made
    /// known to it, so its users may want this off.
    pub register_children: bool,
    /// Longest time for one request, and for one acknowledgement. Default 5 s.
    pub request_timeout: Duration,
    /// How long a final report is tried before its message goes back to the queue. Default 30 s: while the gateway is
    /// away, messages wait here, up to the credit, and the end actor's handler runs once in this time for each.
    pub final_patience: Duration,
    /// Most progress reports per second, twice as many at once; `None` for no limit. Default 100: beyond, `received`
    /// and `processing` are left out first, then some of `completed`.
    pub progress_rate: Option<NonZeroU32>,
    /// Progress that could not be sent for so long is dropped. Default 1 s: later actors have told more by then.
    pub progress_age: Duration,
    /// Most progress reports waiting, and as many children. Default 8192.
    pub max_waiting: usize,
    /// Most bytes of progress reports waiting, and as many of children. Default 8 MiB.
    pub max_waiting_bytes: usize,
}

/// How a gateway is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GatewayProtocol {
    /// gRPC where the gateway offers it, HTTP otherwise. It is found out beside the messages, and now and then again.
    #[default]
    Auto,
    /// HTTP alone.
    Http,
}

impl GatewayOptions {
    /// The defaults for the gateway at `address`.
    #[must_use]
    pub fn new(address: GatewayAddress) -> Self {
        Self {
            address,
            protocol: GatewayProtocol::Auto,
            token: None,
            actor: String::new(),
            probe_every: Duration::from_mins(1),
            register_children: true,
            request_timeout: Duration::from_secs(5),
            final_patience: Duration::from_secs(30),
            progress_rate: NonZeroU32::new(100),
            progress_age: Duration::from_secs(1),
            max_waiting: 8192,
            max_waiting_bytes: 8 * 1024 * 1024,
        }
    }

    /// The value of the header `authorization`, if there is one.
    pub(super) fn authorization(&self) -> Option<String> {
        if let Some(token) = &self.token {
            return Some(token.bearer());
        }
        let basic = |credentials: &super::address::Credentials| {
            let pair = format!("{}:{}", credentials.user, credentials.password);
            format!("Basic {}", BASE64.encode(pair))
        };
        self.address.credentials().map(basic)
    }
}
