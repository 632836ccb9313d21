//! One sidecar from outside: start it, look at it, drain it, learn why it ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use asya_runtime_protocol::{Envelope, RuntimeClient};
use asya_transport::{QueueName, Transport};
use ractor::ActorRef;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use crate::actors::Message;
use crate::config::Config;
use crate::context::{Context, Doors, Fatal, Fault, Faults, Part, QueueState, Readiness, RuntimeControl};
use crate::credit::Credits;
use crate::ledger::{Cancelled, Ledger, Stage};
use crate::meters::{Meters, NAMESPACE};
use crate::outbox::Outbox;
use crate::pulse::{Pulse, Steps};
use crate::report::{NoReporter, Reporter};
use crate::supervision::SupervisorMessage;
use crate::supply::Supplies;
use crate::{finish, tree};

/// A running sidecar. Dropping it kills the tree; what it held returns to the queue.
pub struct Sidecar {
    context: Arc<Context>,
    root: ActorRef<SupervisorMessage>,
    handle: JoinHandle<()>,
    /// What streams have sent ends with the tree.
    _outbox: DropGuard,
}

/// What a sidecar is built from, beside its [`Config`] and queue.
pub struct SidecarBuilder {
    config: Config,
    transport: Arc<dyn Transport>,
    reporter: Arc<dyn Reporter>,
    runtime_control: Option<Arc<dyn RuntimeControl>>,
    faults: Option<Arc<dyn Faults>>,
    budget_factor: usize,
    meters: Option<Meters>,
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
    /// Workers that the runtime has announced; 0 where it speaks protocol v1 and does not tell.
    pub workers: usize,
    /// Workers that take requests.
    pub workers_ready: usize,
    /// Messages that the runtime runs.
    pub calls: usize,
    /// Unsettled deliveries by stage; stages without any are absent.
    pub stages: HashMap<Stage, usize>,
    /// Credits taken; equals the number of unsettled deliveries whenever nothing is moving.
    pub credits_taken: usize,
    /// Messages that may be held now; changes by itself where the credit is tuned.
    pub credit: usize,
    /// Bytes of all messages held.
    pub bytes_held: usize,
    /// Restarts of actors since the start.
    pub restarts: u64,
    /// Whether the own queue is there, as far as consuming it has shown.
    pub queue: QueueState,
    /// What the actors have done.
    pub steps: Steps,
    /// Whether it drains.
    pub draining: bool,
}

/// Looks at a sidecar from elsewhere, for as long as that is there.
#[derive(Clone)]
pub struct Monitor(Weak<Context>);

impl Monitor {
    /// What the sidecar holds and how it fares; `None` once it has ended.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.0.upgrade().map(|context| snapshot(&context))
    }

    /// Brings the metrics that are measured rather than counted up to date; call it before they are read.
    pub fn observe(&self) {
        if let Some(context) = self.0.upgrade() {
            context.meters.observe(&snapshot(&context));
        }
    }

    /// Somebody has looked at the broker, and the queue is there or is not.
    pub fn found_queue(&self, state: QueueState) {
        if let Some(context) = self.0.upgrade() {
            context.set_queue_state(state);
        }
    }
}

fn snapshot(context: &Context) -> Snapshot {
    let session = context.session();
    Snapshot {
        runtime_ready: context.is_ready(),
        workers: session.as_ref().map_or(0, |session| session.slots()),
        workers_ready: session.as_ref().map_or(0, |session| session.ready()),
        calls: context.ledger.calls(),
        stages: context.ledger.count(),
        credits_taken: context.credits.taken(),
        credit: context.credits.limit(),
        bytes_held: context.credits.bytes(),
        restarts: context.restarts.load(Ordering::Relaxed),
        queue: *context.queue_state.borrow(),
        steps: context.pulse.steps(),
        draining: !*context.consuming.borrow(),
    }
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
            meters: None,
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

    /// Resolves when the work is done ([`Config::run_until`]): all of it is settled, and [`drain`](Self::drain) ends at
    /// once.
    pub async fn done(&self) {
        finish::done(&self.context).await;
    }

    /// What it holds and how it fares.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        snapshot(&self.context)
    }

    /// A way to look at it that does not keep it alive.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor(Arc::downgrade(&self.context))
    }

    /// Stops pulling, returns what waits, lets what runs end and settle, at most for `grace`; then returns the rest
    /// to the queue and stops the tree. No message becomes an error by this.
    pub async fn drain(self, grace: Duration) -> Drained {
        let context = &self.context;
        context.consuming.send_replace(false);
        context.reporter.draining();
        context.doors.consumer.send(Message::Pause);
        context.ledger.start_draining();
        context.ledger.return_waiting();
        let finished = tokio::time::timeout(grace, async {
            // A pull that was under way may still have brought messages in.
            loop {
                tokio::select! {
                    () = context.ledger.empty() => break,
                    () = tokio::time::sleep(Duration::from_millis(100)) => { context.ledger.return_waiting(); }
                }
            }
            // Of a stream whose input has gone back, some items may still be on their way.
            context.outbox.empty().await;
        })
        .await;
        let returned = if finished.is_ok() {
            0
        } else {
            context.ledger.return_all()
        };
        context.say_goodbye().await;
        if let Err(error) = tree::stop(&self.root, self.handle).await {
            tracing::warn!(actor = %context.actor, %error, "the tree did not end cleanly");
        }
        Drained { returned }
    }

    /// Ends the envelope of that id if it waits or runs here: it fails with the code `cancelled`, whatever its handler
    /// brings. False if it is not here, or is done already.
    ///
    /// An envelope that a gateway has cancelled does not become a failure: the gateway has the record of it, so it is
    /// acknowledged and goes nowhere ([`Reporter::notices`]).
    pub fn cancel(&self, envelope_id: &str) -> bool {
        let is_meant = |envelope: &Envelope| envelope.id == envelope_id;
        self.context.cancel(is_meant, Cancelled::Asked)
    }

    /// Ends a part of the tree as a fault would; false when that part is not there at this moment. For tests of the
    /// tree's healing.
    #[doc(hidden)]
    pub fn inject(&self, part: Part, fault: Fault) -> bool {
        self.context.doors.with(part, |door| {
            if fault == Fault::Kill {
                door.kill()
            } else {
                door.send(Message::Inject(fault))
            }
        })
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

    /// Counts with these. Default: under the usual namespace, with the recorder that is installed at the start.
    #[must_use]
    pub fn meters(mut self, meters: Meters) -> Self {
        self.meters = Some(meters);
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
        if config.role.is_end() && !config.retry.is_off() {
            tracing::warn!(
                actor = %config.actor,
                "retries are configured, but an end actor has its own: what it cannot process stays in its queue"
            );
        }
        let transport = self.transport.name();
        let notices = self.reporter.notices().unwrap_or_default();
        let meters = self
            .meters
            .unwrap_or_else(|| Meters::new(NAMESPACE, &config.actor, transport));
        let context = Arc::new(Context {
            actor: config.actor.as_str().into(),
            queue: QueueName::for_actor(&config.actor),
            client: RuntimeClient::new(config.socket(), config.max_message_size),
            ledger: Ledger::default(),
            credits: Credits::new(config.credit, config.slots, config.credit_bytes),
            doors: Doors::default(),
            outbox: Outbox::default(),
            readiness: watch::Sender::new(Readiness::NotReady),
            session: watch::Sender::new(None),
            slots: AtomicUsize::new(config.slots.max(1)),
            supply: Supplies::default(),
            warned: AtomicBool::new(false),
            consuming: watch::Sender::new(true),
            enough: watch::Sender::new(false),
            left: Mutex::default(),
            queue_state: watch::Sender::new(QueueState::Unknown),
            restarts: AtomicU64::new(0),
            meters,
            pulse: Pulse::default(),
            fatal: Fatal::default(),
            transport: self.transport,
            reporter: self.reporter,
            notices,
            runtime_control: self.runtime_control,
            faults: self.faults,
            budget_factor: self.budget_factor,
            config,
        });
        let tree = Arc::downgrade(&context);
        context.notices.listen(move |_| {
            let Some(context) = tree.upgrade() else {
                return false;
            };
            let is_meant = |envelope: &Envelope| context.notices.about_envelope(envelope).is_some();
            context.cancel(is_meant, Cancelled::Noticed);
            true
        });
        match tree::start(&context).await {
            Ok((root, handle)) => Ok(Sidecar {
                _outbox: context.outbox.guard(),
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
