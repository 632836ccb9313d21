//! One hop: consume, call a native echo over its socket, publish, settle; beside the least that does the same.
//!
//! Three ways to move the same messages of 1 KiB between two queues of one embedded store, with the same number of
//! messages in flight, measured in turn:
//!
//! - *sidecar*: the real tree, over v2;
//! - *bare loop*: claim, publish, wait for the confirm, ack; no socket. The ceiling that the aim refers to;
//! - *bare loop + socket*: the same with a call of the same echo in between over v1, a connection for each message, as
//!   the least that any loop with a runtime can do without v2.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use asya_runtime_protocol::{RuntimeClient, wait_ready};
use asya_sidecar::{Config, Credit, Role, Sidecar};
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Consumer, Delivery, Outgoing, QueueName, Settlement, Transport as _};
use clap::ValueEnum;
use futures::stream::{self, FuturesUnordered, Stream, StreamExt as _};
use tokio::sync::Semaphore;

use super::Options;
use crate::figures::{Row, median};
use crate::meter::{Meter, Sample, hops_in};
use crate::stage::{Echo, Stage, envelope};

/// The name of this section.
pub const SECTION: &str = "hop";

/// Bytes of one message.
const SIZE: usize = 1024;
/// Hops before the stretch that counts.
const WARM: u64 = 500;
/// Hops of the run that finds out how many a stretch needs.
const PILOT: u64 = 1_500;
/// Slots that are tried to find the best setting.
const SLOTS: [usize; 4] = [2, 4, 8, 16];
/// Longest time for anything outside the stretch.
const PATIENCE: Duration = Duration::from_secs(30);

/// The actor whose queue is emptied, and the one whose queue fills.
pub(super) const STEP: &str = "work";
pub(super) const NEXT: &str = "happy-end";

/// How much a hop may do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Messages in flight.
    pub credit: usize,
    /// Calls of the runtime at once.
    pub slots: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = if self.slots == 1 { "slot" } else { "slots" };
        write!(formatter, "{} in flight, {} {slots}", self.credit, self.slots)
    }
}

/// A way to move messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// The real tree.
    Sidecar,
    /// A loop without a socket.
    Bare,
    /// A loop that calls the echo.
    BareWithSocket,
}

/// All rounds of one shape.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// The real tree.
    pub sidecar: Vec<Sample>,
    /// The loop without a socket.
    pub bare: Vec<Sample>,
    /// The loop with a socket.
    pub socket: Vec<Sample>,
}

impl Comparison {
    fn of(&mut self, way: Way) -> &mut Vec<Sample> {
        match way {
            Way::Sidecar => &mut self.sidecar,
            Way::Bare => &mut self.bare,
            Way::BareWithSocket => &mut self.socket,
        }
    }
}

/// Measures each shape once, whoever asks for it.
pub struct Comparisons<'a> {
    options: &'a Options,
    say: &'a dyn Fn(&str),
    known: Vec<(Shape, Comparison)>,
    best_slots: Option<usize>,
}

impl<'a> Comparisons<'a> {
    /// Nothing is measured yet.
    pub fn new(options: &'a Options, say: &'a dyn Fn(&str)) -> Self {
        Self {
            options,
            say,
            known: Vec::new(),
            best_slots: None,
        }
    }

    /// The comparison of `shape`.
    pub async fn get(&mut self, shape: Shape) -> Result<Comparison> {
        if let Some((_, known)) = self.known.iter().find(|(known, _)| *known == shape) {
            return Ok(known.clone());
        }
        let compared = self
            .compare(shape)
            .await
            .with_context(|| format!("hop with {shape}"))?;
        self.known.push((shape, compared.clone()));
        Ok(compared)
    }

    /// The number of slots with which a sidecar with `credit` is fastest.
    pub async fn best_slots(&mut self, credit: usize) -> Result<usize> {
        if let Some(known) = self.best_slots {
            return Ok(known);
        }
        let mut best = (0.0, 1);
        for slots in SLOTS {
            let shape = Shape { credit, slots };
            (self.say)(&format!("hop: trying {shape}"));
            let rate = self.pilot(Way::Sidecar, shape).await?.rate;
            if rate > best.0 {
                best = (rate, slots);
            }
        }
        self.best_slots = Some(best.1);
        Ok(best.1)
    }

    async fn compare(&self, shape: Shape) -> Result<Comparison> {
        let mut ways = [Way::Bare, Way::BareWithSocket, Way::Sidecar];
        let mut counts = [0; 3];
        for (way, count) in ways.iter().zip(&mut counts) {
            *count = hops_in(self.pilot(*way, shape).await?.rate, self.options.stretch).max(PILOT);
        }
        let mut compared = Comparison::default();
        for round in 1..=self.options.rounds {
            (self.say)(&format!("hop: {shape}, round {round} of {}", self.options.rounds));
            for (way, count) in ways.iter().zip(counts) {
                compared.of(*way).push(self.once(*way, shape, count).await?);
            }
            // There and back, so that a drift of the machine weighs on all alike.
            ways.reverse();
            counts.reverse();
        }
        Ok(compared)
    }

    /// One way alone, for a profiler.
    pub async fn profile(&self, way: Way, shape: Shape) -> Result<Sample> {
        let count = hops_in(self.pilot(way, shape).await?.rate, self.options.stretch).max(PILOT);
        self.once(way, shape, count).await
    }

    async fn pilot(&self, way: Way, shape: Shape) -> Result<Sample> {
        self.once(way, shape, PILOT).await
    }

    async fn once(&self, way: Way, shape: Shape, count: u64) -> Result<Sample> {
        let stage = Stage::new(&self.options.directory, &LocalOptions::default())?;
        stage.declare(&[STEP, NEXT, "error-end"]).await?;
        let meter = Arc::new(Meter::new(WARM, count));
        // More than is needed, so that the last hop that counts is made under load too.
        let messages = meter.needed() + 2 * u64::try_from(shape.credit)?;
        stage
            .fill(STEP, messages, |number| envelope(number, r#""work""#, SIZE))
            .await?;
        match way {
            Way::Sidecar => sidecar(&stage, shape, &meter).await,
            Way::Bare => bare(&stage, shape, &meter, false).await,
            Way::BareWithSocket => bare(&stage, shape, &meter, true).await,
        }
    }
}

async fn sidecar(stage: &Stage, shape: Shape, meter: &Arc<Meter>) -> Result<Sample> {
    let mut config = Config::new(STEP, Role::Step);
    config.socket_dir = stage.path("socket");
    config.credit = Credit::Fixed(shape.credit);
    config.slots = shape.slots;
    let echo = Echo::start(&config.socket_dir, shape.slots, Some(Arc::clone(meter)));
    let sidecar = Sidecar::builder(config, Arc::new(stage.transport.clone()))
        .start()
        .await?;
    let sample = tokio::select! {
        sample = meter.finished() => sample?,
        cause = sidecar.failed() => return Err(anyhow!("the sidecar gave up: {cause}")),
    };
    sidecar.drain(PATIENCE).await;
    echo.stop().await?;
    Ok(sample)
}

/// Moves messages by the bare loop until `meter` has seen enough.
pub(super) async fn bare(
    stage: &Stage,
    shape: Shape,
    meter: &Arc<Meter>,
    with_socket: bool,
) -> Result<Sample> {
    let socket_dir = stage.path("socket");
    // With a socket the echo ticks, as it does for the sidecar; without one the loop does.
    let (echo, call, ticks) = if with_socket {
        let echo = Echo::start(&socket_dir, shape.slots, Some(Arc::clone(meter)));
        (Some(echo), Some(Call::new(&socket_dir, shape.slots).await?), None)
    } else {
        (None, None, Some(Arc::clone(meter)))
    };
    let mover = Mover {
        transport: stage.transport.clone(),
        next: QueueName::for_actor(NEXT),
        call,
        ticks,
    };
    let mut moving = tokio::spawn(mover.run(shape.credit));
    let sample = tokio::select! {
        sample = meter.finished() => sample?,
        ended = &mut moving => return Err(anyhow!("the bare loop ended early: {ended:?}")),
    };
    moving.abort();
    let _cancelled = moving.await;
    if let Some(echo) = echo {
        echo.stop().await?;
    }
    Ok(sample)
}

/// A call of the echo for each message, as many at once as there are slots.
struct Call {
    client: RuntimeClient,
    slots: Semaphore,
}

impl Call {
    async fn new(socket_dir: &Path, slots: usize) -> Result<Self> {
        let socket = socket_dir.join(asya_runtime_protocol::SOCKET_NAME);
        wait_ready(socket_dir, &socket, PATIENCE).await?;
        let client = RuntimeClient::new(socket, asya_runtime_protocol::DEFAULT_MAX_FRAME);
        Ok(Self {
            client,
            slots: Semaphore::new(slots),
        })
    }
}

/// The bare loop.
struct Mover {
    transport: LocalTransport,
    next: QueueName,
    call: Option<Call>,
    ticks: Option<Arc<Meter>>,
}

impl Mover {
    /// Moves messages until it is aborted.
    async fn run(self, credit: usize) -> Result<()> {
        let consumer = self.transport.consume(&QueueName::for_actor(STEP)).await?;
        let credits = Semaphore::new(credit);
        let mut arriving = std::pin::pin!(arrivals(consumer, &credits));
        let mut moving = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(moved) = moving.next() => {
                    moved?;
                    credits.add_permits(1);
                }
                Some(deliveries) = arriving.next() => {
                    moving.extend(deliveries?.into_iter().map(|delivery| self.hop(delivery)));
                }
            }
        }
    }

    async fn hop(&self, delivery: Delivery) -> Result<()> {
        if let Some(call) = &self.call {
            let _slot = call.slots.acquire().await?;
            call.client.call(delivery.body.clone(), PATIENCE).await?;
        }
        let message = Outgoing {
            queue: self.next.clone(),
            message_id: delivery.message_id.unwrap_or_default(),
            body: delivery.body,
            delay: Duration::ZERO,
        };
        self.transport.publish(message).await?;
        delivery.receipt.settle(Settlement::Ack).await?;
        if let Some(meter) = &self.ticks {
            meter.tick();
        }
        Ok(())
    }
}

/// Deliveries as they come, never more in flight than there are credits.
fn arrivals(
    consumer: Box<dyn Consumer>,
    credits: &Semaphore,
) -> impl Stream<Item = Result<Vec<Delivery>>> + use<'_> {
    stream::unfold(consumer, move |mut consumer| async move {
        let received = async {
            credits.acquire().await?.forget();
            let more = u32::try_from(credits.available_permits())?;
            credits.acquire_many(more).await?.forget();
            let deliveries = consumer.receive(1 + usize::try_from(more)?).await?;
            credits.add_permits(1 + usize::try_from(more)? - deliveries.len());
            Ok(deliveries)
        };
        let received = received.await;
        Some((received, consumer))
    })
}

/// The rows of this section.
pub async fn measure(hops: &mut Comparisons<'_>) -> Result<Vec<Row>> {
    let best = hops.best_slots(256).await?;
    let mut rows = Vec::new();
    for (credit, slots) in [(32, 1), (256, 1), (256, best)] {
        let shape = Shape { credit, slots };
        let compared = hops.get(shape).await?;
        let rates = |samples: &[Sample]| samples.iter().map(|sample| sample.rate).collect::<Vec<_>>();
        let (sidecar, bare) = (rates(&compared.sidecar), rates(&compared.bare));
        let socket = rates(&compared.socket);
        rows.push(
            Row::rates(
                SECTION,
                format!("sidecar, {shape}"),
                &sidecar,
                ("bare loop", &bare),
            )
            .aim(0.8),
        );
        rows.push(Row::rates(
            SECTION,
            "  the same",
            &sidecar,
            ("bare loop + socket", &socket),
        ));
        rows.push(Row::rates(
            SECTION,
            "  bare loop + socket",
            &socket,
            ("bare loop", &bare),
        ));
    }
    Ok(rows)
}

/// The median of one property of all rounds.
pub(super) fn middle(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    median(samples.iter().map(of))
}
