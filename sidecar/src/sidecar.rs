//! One sidecar from outside: start it, look at it, drain it, learn why it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use asya_runtime_protocol::RuntimeClient;
use asya_transport::{QueueName, Transport};
use ractor::ActorRef;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::actors::Message;
use crate::config::Config;
use crate::context::{Context, Doors, Fatal, Fault, Faults, Part, Readiness, RuntimeControl};
use crate::credit::Credits;
use crate::ledger::{Ledger, Stage};
use crate::report::{NoReporter, Reporter};
use crate::supervision::SupervisorMessage;
use crate::tree;

/// A running sidecar. Dropping it kills the tree; what it held returns to the queue.
pub struct Sidecar {
    context: Arc<Context>,
    root: ActorRef<SupervisorMessage>,
    handle: JoinHandle<()>,
}

/// What a sidecar is built from, beside its [`Config`] and queue.
pub struct SidecarBuilder {
    config: Config,
    transport: Arc<dyn Transport>,
    reporter: Arc<dyn Reporter>,
    runtime_control: Option<Arc<dyn RuntimeControl>>,
    faults: Option<Arc<dyn Faults>>,
    budget_factor: usize,
}

/// The tree could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the sidecar of actor {actor} could not be started: {cause}")]
pub struct StartError {
    actor: String,
    cause: String,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Messages that were not finished in time and have been returned to the queue.
    pub returned: usize,
}

/// What a sidecar holds and how it fares, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether the runtime takes calls.
    pub runtime_ready: bool,
    /// Unsettled deliveries by stage; stages without any are absent.
    pub stages: HashMap<Stage, usize>,
    /// Credits taken; equals the number of unsettled deliveries whenever nothing is moving.
    pub credits_taken: usize,
    /// Bytes of all messages held.
    pub bytes_held: usize,
    /// Restarts of actors since the start.
    pub restarts: u64,
}

impl Sidecar {
    /// Starts building the sidecar for `config` on `transport`.
    #[must_use]
    pub fn builder(config: Config, transport: Arc<dyn Transport>) -> SidecarBuilder {
        SidecarBuilder {
            config,
            transport,
            reporter: Arc::new(NoReporter),
            runtime_control: None,
            faults: None,
            budget_factor: 1,
        }
    }

    /// Resolves once the runtime takes calls for the first time.
    pub async fn ready(&self) {
        let mut readiness = self.context.readiness.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ready = readiness.wait_for(|now| *now == Readiness::Ready).await;
    }

    /// Resolves with the cause when the sidecar cannot go on by itself: restart budget spent, runtime never ready.
    pub async fn failed(&self) -> String {
        self.context.fatal.wait().await
    }

    /// What it holds and how it fares.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            runtime_ready: self.context.is_ready(),
            stages: self.context.ledger.count(),
            credits_taken: self.context.credits.taken(),
            bytes_held: self.context.credits.bytes(),
            restarts: self.context.restarts.load(Ordering::Relaxed),
        }
    }

    /// Stops pulling, returns what waits, lets what runs end and settle, at most for `grace`; then returns the rest
    /// to the queue and stops the tree. No message becomes an error by this.
    pub async fn drain(self, grace: Duration) -> Drained {
        let context = &self.context;
        context.consuming.send_replace(false);
        context.doors.consumer.send(Message::Pause);
        context.ledger.start_draining();
        context.ledger.return_waiting();
        let finished = tokio::time::timeout(grace, async {
            // A pull that was under way may still have brought messages in.
            loop {
                tokio::select! {
                    () = context.ledger.empty() => return,
                    () = tokio::time::sleep(Duration::from_millis(100)) => { context.ledger.return_waiting(); }
                }
            }
        })
        .await;
        let returned = if finished.is_ok() {
            0
        } else {
            context.ledger.return_all()
        };
        if let Err(error) = tree::stop(&self.root, self.handle).await {
            tracing::warn!(actor = %context.actor, %error, "the tree did not end cleanly");
        }
        Drained { returned }
    }

    /// Ends a part of the tree as a fault would; false when that part is not there at this moment. For tests of the
    /// tree's healing.
    #[doc(hidden)]
    pub fn inject(&self, part: Part, fault: Fault) -> bool {
        let door = self.context.doors.of(part);
        if fault == Fault::Kill {
            door.kill()
        } else {
            door.send(Message::Inject(fault))
        }
    }
}

impl SidecarBuilder {
    /// Tells `reporter` about progress and final outcomes. Default: nobody.
    #[must_use]
    pub fn reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporter = reporter;
        self
    }

    /// Lets the sidecar replace a runtime that does not answer in time. Default: it waits until the runtime is free.
    #[must_use]
    pub fn runtime_control(mut self, control: Arc<dyn RuntimeControl>) -> Self {
        self.runtime_control = Some(control);
        self
    }

    /// Injects faults at every checkpoint. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn faults(mut self, faults: Arc<dyn Faults>) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Multiplies all restart budgets and takes the delays away. For tests that kill more often than real life does.
    #[doc(hidden)]
    #[must_use]
    pub fn budget_factor(mut self, factor: usize) -> Self {
        self.budget_factor = factor;
        self
    }

    /// Starts the tree. It consumes once the runtime is ready.
    pub async fn start(self) -> Result<Sidecar, StartError> {
        let config = self.config;
        let context = Arc::new(Context {
            actor: config.actor.as_str().into(),
            queue: QueueName::for_actor(&config.actor),
            client: RuntimeClient::new(config.socket(), config.max_message_size),
            ledger: Ledger::default(),
            credits: Credits::new(config.credit.max(1), config.credit_bytes),
            doors: Doors::new(config.slots.max(1)),
            readiness: watch::Sender::new(Readiness::NotReady),
            consuming: watch::Sender::new(true),
            restarts: Arc::new(AtomicU64::new(0)),
            fatal: Fatal::default(),
            transport: self.transport,
            reporter: self.reporter,
            runtime_control: self.runtime_control,
            faults: self.faults,
            budget_factor: self.budget_factor,
            config,
        });
        match tree::start(&context).await {
            Ok((root, handle)) => Ok(Sidecar {
                context,
                root,
                handle,
            }),
            Err(error) => Err(StartError {
                actor: context.config.actor.clone(),
                cause: error.to_string(),
            }),
        }
    }
}
