//! What a gateway is started with.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::{Retention, Store};
use asya_transport::Transport;

use super::tool_book::ToolBook;

/// Says whether the broker can be reached, without asking it: a look at what the connections know. The error is for
/// people and has no secrets.
pub type BrokerProbe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a gateway is started with.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Where envelopes are kept.
    pub store: Arc<dyn Store>,
    /// Where messages go.
    pub transport: Arc<dyn Transport>,
    /// What clients may call.
    pub tools: ToolBook,
    /// How long things are kept. By default histories for 24 h, as in the original, and envelopes for 30 days.
    pub retention: Retention,
    /// How long everything may take.
    pub patience: Patience,
    /// How the health of the broker is known; without it the broker is asked for a queue's depth.
    pub broker_probe: Option<BrokerProbe>,
}

impl GatewayOptions {
    /// Options with the defaults for everything else.
    pub fn new(store: Arc<dyn Store>, transport: Arc<dyn Transport>, tools: ToolBook) -> Self {
        let retention = Retention {
            updates: Some(Duration::from_hours(24)),
            envelopes: Some(Duration::from_hours(720)),
        };
        Self {
            store,
            transport,
            tools,
            retention,
            patience: Patience::default(),
            broker_probe: None,
        }
    }
}

/// How long the gateway waits, and how often it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// How long a call waits for the broker's word on its message before it is answered all the same. Default 1 s.
    pub submit: Duration,
    /// How often the claim of a message is renewed that the broker does not confirm. Default 10 s.
    pub publish: Duration,
    /// How long a claimed message is ours; longer than `publish`. After a crash others take it then. Default 15 s.
    pub lease: Duration,
    /// How long a message that nobody takes is offered again, once its caller is gone. Default 30 s (rulings 13).
    pub unroutable: Duration,
    /// How often the outbox is searched for what others left. Default 1 s.
    pub outbox: Duration,
    /// The longest pause between attempts to reach a broker that is away. Default 5 s.
    pub backoff: Duration,
    /// How often deadlines are looked at. Default 500 ms.
    pub sweep: Duration,
    /// How long the ends of envelopes are waited for that may have come to no gateway: those whose deadline passed
    /// while this one did not work or its store was away. Sidecars hold what they could not report, and try again
    /// within 15 s. Default 20 s.
    pub late: Duration,
    /// How often old things are deleted. Default 10 min.
    pub clean: Duration,
    /// How often the tool files are looked at. Default 2 s.
    pub tools: Duration,
    /// How long a health probe may take, and how long its answer is used again. Default 2 s.
    pub probe: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            submit: Duration::from_secs(1),
            publish: Duration::from_secs(10),
            lease: Duration::from_secs(15),
            unroutable: Duration::from_secs(30),
            outbox: Duration::from_secs(1),
            backoff: Duration::from_secs(5),
            sweep: Duration::from_millis(500),
            late: Duration::from_secs(20),
            clean: Duration::from_mins(10),
            tools: Duration::from_secs(2),
            probe: Duration::from_secs(2),
        }
    }
}
