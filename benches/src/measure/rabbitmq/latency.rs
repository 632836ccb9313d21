//! What sidecar and socket add to the latency of one hop.
//!
//! A message is put into the first queue and taken out of the second. Between the two stands either the bare loop or
//! the sidecar with a native echo; the difference is what the sidecar, its socket and the runtime add, and the broker
//! is not in it. Quantiles are taken over the messages of all rounds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::stream::{FuturesUnordered, StreamExt as _, TryStreamExt as _};
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, Consumer};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio::try_join;

use super::field::Field;
use crate::broker::bare::Bare;
use crate::broker::{Echo, Kind, NEXT, Node, address_of, sidecar};
use crate::figures::Row;
use crate::meter::{hops_in, quantile};
use crate::stage::envelope;

/// The name of this section.
pub const SECTION: &str = "latency";

/// Messages on their way before it counts.
const WARM: u64 = 40;
/// Messages that the bare loop may have in hand.
const IN_HAND: u16 = 100;
/// Longest time for one message.
const PATIENCE: Duration = Duration::from_secs(20);

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// So many a second, whether or not those before have arrived.
    Steady(u32),
    /// Each when the one before has arrived.
    OneByOne,
}

struct Case {
    name: &'static str,
    pace: Pace,
    size: usize,
    /// Messages of one round for each millisecond of its stretch.
    share: f64,
    /// What is aimed at in µs, for the middle and for the slowest hundredth.
    aim: Option<(f64, f64)>,
}

const CASES: [Case; 4] = [
    Case {
        name: "200 a second, 1 KiB",
        pace: Pace::Steady(200),
        size: 1024,
        share: 0.4,
        aim: Some((200.0, 1000.0)),
    },
    Case {
        name: "one by one, 1 KiB",
        pace: Pace::OneByOne,
        size: 1024,
        share: 0.3,
        aim: None,
    },
    Case {
        name: "one by one, 64 KiB",
        pace: Pace::OneByOne,
        size: 64 * 1024,
        share: 0.2,
        aim: None,
    },
    Case {
        name: "one by one, 1 MiB",
        pace: Pace::OneByOne,
        size: 1024 * 1024,
        share: 0.05,
        aim: None,
    },
];

/// The rows of this section.
pub async fn measure(field: &Field<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for case in CASES {
        rows.extend(compare(field, &case).await?);
    }
    Ok(rows)
}

async fn compare(field: &Field<'_>, case: &Case) -> Result<Vec<Row>> {
    let count = hops_in(case.share * 1e3, field.options.stretch).max(20);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..field.rounds() {
        field.say(&format!("latency: {}, round {}", case.name, round + 1));
        if round % 2 == 0 {
            through_bare(field, case, count, &mut bare).await?;
            through_sidecar(field, case, count, &mut ours).await?;
        } else {
            through_sidecar(field, case, count, &mut ours).await?;
            through_bare(field, case, count, &mut bare).await?;
        }
    }
    let row = |part: f64, name: &str, limit: Option<f64>, ours: &mut [f64], bare: &mut [f64]| {
        let (with, without) = (quantile(ours, part), quantile(bare, part));
        let row = Row::alone(
            SECTION,
            format!("added, {}: {name}", case.name),
            with - without,
            "us",
        )
        .beside("hop by the bare loop", without, "us");
        match limit {
            // Below zero the noise is larger than what is measured, and says nothing about the aim.
            Some(limit) if with >= without => row.limit(limit),
            Some(_) | None => row,
        }
    };
    let (middle, slow) = case.aim.unzip();
    Ok(vec![
        row(0.5, "p50", middle, &mut ours, &mut bare),
        row(0.99, "p99", slow, &mut ours, &mut bare),
    ])
}

async fn through_bare(field: &Field<'_>, case: &Case, count: u64, times: &mut Vec<f64>) -> Result<()> {
    field.node.lay(Kind::Classic).await?;
    let bare = Bare::start(field.node.url(), IN_HAND, None);
    send_and_wait(&field.node, case, count, times)
        .await
        .context("the bare loop")?;
    bare.stop()
}

async fn through_sidecar(field: &Field<'_>, case: &Case, count: u64, times: &mut Vec<f64>) -> Result<()> {
    let directory = field.directory()?;
    let echo = Echo::start(directory.path(), Duration::ZERO).await?;
    field.node.lay(Kind::Classic).await?;
    let mut sidecar = sidecar::start(&field.program, &field.node, directory.path(), &[])?;
    sidecar
        .during(send_and_wait(&field.node, case, count, times))
        .await?;
    sidecar.stop().await?;
    echo.stop()
}

/// Sends messages at their pace, and notes how long each takes to come out at the other end.
async fn send_and_wait(node: &Node, case: &Case, count: u64, times: &mut Vec<f64>) -> Result<()> {
    let connection = node.connect().await?;
    let arriving = arrivals(&connection).await?;
    let total = WARM + count;
    let sent = Mutex::new(Vec::new());
    let arrival = Notify::new();
    let ((), mut took) = try_join!(
        send(node, case, total, &sent, &arrival),
        receive(arriving, total, &sent, &arrival)
    )?;
    times.extend(took.drain(usize::try_from(WARM)?..));
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn send(
    node: &Node,
    case: &Case,
    total: u64,
    sent: &Mutex<Vec<Instant>>,
    arrival: &Notify,
) -> Result<()> {
    let mut ticks = match case.pace {
        Pace::Steady(rate) => {
            let mut ticks = interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Some(ticks)
        }
        Pace::OneByOne => None,
    };
    let mut sending = FuturesUnordered::new();
    for number in 0..total {
        let mut turn = std::pin::pin!(async {
            match &mut ticks {
                Some(ticks) => drop(ticks.tick().await),
                None if number > 0 => arrival.notified().await,
                None => {}
            }
        });
        // Publishes go on meanwhile.
        loop {
            tokio::select! {
                () = &mut turn => break,
                Some(confirmed) = sending.next() => confirmed?,
            }
        }
        let body = envelope(number, r#""work""#, case.size);
        sent.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Instant::now());
        sending.push(async move { node.publish(&number.to_string(), &body).await });
    }
    sending.try_collect().await
}

/// Takes all messages out; returns how long each took, in µs.
async fn receive(
    mut arriving: Consumer,
    total: u64,
    sent: &Mutex<Vec<Instant>>,
    arrival: &Notify,
) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..total {
        let arrived = timeout(PATIENCE, arriving.next()).await;
        let now = Instant::now();
        let arrived = arrived.context("a message does not arrive")?;
        let delivery = arrived.context("the consumer was cancelled")??;
        let number = number_of(&delivery.data).context("a message that nobody has sent")?;
        let begun = sent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(number)
            .copied();
        let begun = begun.context("a message arrives before it is sent")?;
        times.push(now.duration_since(begun).as_secs_f64() * 1e6);
        arrival.notify_one();
    }
    Ok(times)
}

async fn arrivals(connection: &Connection) -> Result<Consumer> {
    let channel = connection.create_channel().await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let (queue, arguments) = (address_of(NEXT).into(), FieldTable::default());
    Ok(channel
        .basic_consume(queue, "".into(), options, arguments)
        .await?)
}

/// Which message this is, by the id of its envelope, which every party keeps.
fn number_of(body: &[u8]) -> Option<usize> {
    const PREFIX: &[u8] = b"bench-";
    let at = body.windows(PREFIX.len()).position(|window| window == PREFIX)? + PREFIX.len();
    let digits = body.get(at..)?.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_id() {
        assert_eq!(number_of(&envelope(71, r#""work""#, 1024)), Some(71));
        assert_eq!(number_of(b"{}"), None);
    }
}
