//! What one sidecar needs to know, as a typed value. Where it comes from (environment, manifest) is not its business.

use std::path::PathBuf;
use std::time::Duration;

use crate::retry::RetryPolicy;

/// Everything that configures one sidecar tree. Build it with [`Config::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the actor whose queue is consumed. Any non-empty name.
    pub actor: String,
    /// Whether this actor is a step of routes or one of their ends.
    pub role: Role,
    /// Actor that receives envelopes at the end of their route. Default `happy-end`.
    pub happy_end: String,
    /// Actor that receives envelopes that failed. Default `error-end`.
    pub error_end: String,
    /// Directory with the runtime's socket and ready file. Default `/var/run/asya`.
    pub socket_dir: PathBuf,
    /// File name of the socket. Default `asya-runtime.sock`.
    pub socket_name: String,
    /// How to talk to the runtime. Default: as well as it can.
    pub protocol: Protocol,
    /// Calls that may be under way at once of a runtime that speaks protocol v1; one of v2 says itself how many it
    /// takes. Default 1.
    pub slots: usize,
    /// Longest time for one exchange with the runtime, connecting included. Default 5 min.
    pub runtime_timeout: Duration,
    /// Longest wait for the runtime at the start and after it went away. Default 5 min.
    pub runtime_ready_timeout: Duration,
    /// How many messages may be held unsettled. Default: tuned, at most 1024.
    pub credit: Credit,
    /// Bytes of held messages above which no more are pulled. Default 256 MiB.
    pub credit_bytes: usize,
    /// Largest message accepted and exchanged with the runtime, in bytes. Default 64 MiB.
    pub max_message_size: usize,
    /// Largest message that the queues take, in bytes; above `max_message_size` it leaves room for an error envelope
    /// to carry the original whole. Default 64 MiB.
    pub publish_limit: usize,
    /// Deliveries above which a message is suspect and runs alone (rulings 1). Only its own failure condemns it then:
    /// deliveries also grow when a process ends that merely held it. Default 3.
    pub max_deliveries: u32,
    /// Hops after which an envelope is taken for a loop and fails. Default 10 000.
    pub max_hops: u64,
    /// Which failed runs are repeated, and when. Default: none. End actors have their own way and do not look at it.
    pub retry: RetryPolicy,
    /// How long a publish to a missing queue is tried before the envelope fails as unroutable. Default 30 s.
    pub unroutable_patience: Duration,
    /// When the work is done. Default: never.
    pub run_until: RunUntil,
}

/// When the work of a sidecar is done, see [`Sidecar::done`](crate::Sidecar::done).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunUntil {
    /// Never: it runs until it is stopped.
    #[default]
    Stopped,
    /// When its queue has nothing to hand out and nothing is in hand. What waits elsewhere for a retry does not count,
    /// nor what other consumers hold.
    Empty,
    /// After one message, whatever became of it, or when the queue has none. No second one is taken.
    One,
}

/// How many messages of its queue a sidecar may hold unsettled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// Always this many, at least one.
    Fixed(usize),
    /// Chosen by how long calls take: enough that a fast handler never waits for the broker, and none beside what
    /// runs for a slow one, so that other replicas get the rest.
    Tuned {
        /// Never more than this many.
        most: usize,
    },
}

/// The protocol that is spoken with the runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// v2 where the runtime offers it, else v1.
    #[default]
    Auto,
    /// v1, whatever the runtime offers.
    V1,
}

/// What an actor is in a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An ordinary actor: its outputs go on along their route.
    Step,
    /// The end of successful routes: its runtime's outputs go nowhere, it reports `succeeded`.
    HappyEnd,
    /// The end of failed envelopes: its runtime's outputs go nowhere, it reports `failed`.
    ErrorEnd,
}

impl Role {
    /// Whether nothing is published from here (contract data-plane §9).
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::HappyEnd | Self::ErrorEnd)
    }
}

const MIB: usize = 1024 * 1024;

impl Config {
    /// The defaults for actor `actor`.
    #[must_use]
    pub fn new(actor: impl Into<String>, role: Role) -> Self {
        Self {
            actor: actor.into(),
            role,
            happy_end: "happy-end".into(),
            error_end: "error-end".into(),
            socket_dir: "/var/run/asya".into(),
            socket_name: "asya-runtime.sock".into(),
            protocol: Protocol::default(),
            slots: 1,
            runtime_timeout: Duration::from_mins(5),
            runtime_ready_timeout: Duration::from_mins(5),
            credit: Credit::Tuned { most: 1024 },
            credit_bytes: 256 * MIB,
            max_message_size: 64 * MIB,
            publish_limit: 64 * MIB,
            max_deliveries: 3,
            max_hops: 10_000,
            retry: RetryPolicy::default(),
            unroutable_patience: Duration::from_secs(30),
            run_until: RunUntil::default(),
        }
    }

    /// Whether an error envelope must not be published from here: an end actor publishes nothing, and whoever consumes
    /// the queue of error-end, in whatever role, would get it back (contract data-plane §7.4).
    pub(crate) fn feeds_itself(&self) -> bool {
        self.role.is_end() || self.actor == self.error_end
    }

    /// Full path of the runtime's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(&self.socket_name)
    }
}
