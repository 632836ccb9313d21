//! A client of a runtime that does nothing but keep it busy.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use asya_runtime_protocol::v2::{
    Control, ControlEvent, LinkEvent, Request, Welcome, WorkerId, WorkerLink, WorkerState,
};
use asya_runtime_protocol::{DEFAULT_MAX_FRAME, Reply, ReplyItem, read_ready};
use bytes::Bytes;
use tokio::time::timeout;

use crate::meter::as_f64;

/// Longest time for anything that is not measured: connecting, a first answer, the start of a worker.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The control connection, and a link to each worker.
pub(super) struct Links {
    pub(super) control: Control,
    pub(super) workers: Vec<(WorkerId, WorkerLink)>,
    pub(super) welcome: Welcome,
}

impl Links {
    /// Connects to all workers of the runtime in `socket_dir` as soon as they are ready.
    pub(super) async fn open(socket_dir: &Path) -> Result<Self> {
        let advert = read_ready(socket_dir)?.and_then(|ready| ready.v2);
        let advert = advert.context("the runtime does not offer protocol v2")?;
        let (mut control, welcome) = Control::connect(&advert, PATIENCE).await?;
        let mut workers = Vec::new();
        for _ in 0..welcome.workers {
            let id = next_ready(&mut control).await?;
            let link = WorkerLink::connect(&advert, id, DEFAULT_MAX_FRAME, PATIENCE).await?;
            workers.push((id, link));
        }
        Ok(Self {
            control,
            workers,
            welcome,
        })
    }

    /// The only worker.
    pub(super) fn only(&mut self) -> Result<&mut WorkerLink> {
        let (_, link) = self.workers.first_mut().context("the runtime has no worker")?;
        Ok(link)
    }
}

/// The next worker that gets ready.
pub(super) async fn next_ready(control: &mut Control) -> Result<WorkerId> {
    let ready = async {
        loop {
            if let ControlEvent::Worker(id, WorkerState::Ready { .. }) = control.next().await? {
                return Ok(id);
            }
        }
    };
    timeout(PATIENCE, ready).await.context("no worker gets ready")?
}

/// A request without a deadline.
pub(super) fn request(envelope: &Bytes) -> Request {
    Request {
        budget: None,
        attempt: 1,
        more: false,
        envelope: envelope.clone(),
    }
}

/// Calls once; an answer that is an error is an error.
pub(super) async fn call(link: &mut WorkerLink, envelope: &Bytes) -> Result<()> {
    link.send(request(envelope));
    check(timeout(PATIENCE, reply(link)).await.context("no answer")??)
}

/// Whether these are results; an error is answered fast, too.
pub(super) fn check(items: Bytes) -> Result<()> {
    let items = Reply::parse(items).map_err(|error| anyhow!("not an answer: {error}"))?;
    let bad = items.iter().any(|item| matches!(item, ReplyItem::Error { .. }));
    ensure!(!bad && !items.is_empty(), "the handler answered with an error");
    Ok(())
}

async fn reply(link: &mut WorkerLink) -> Result<Bytes> {
    match link.next().await? {
        LinkEvent::Reply { items, .. } => Ok(items),
        other => Err(anyhow!("{other:?} instead of an answer")),
    }
}

/// Calls per second with `depth` requests on their way, for `time` after as many answers. All are answered at the end.
pub(super) async fn rate(
    link: &mut WorkerLink,
    envelope: &Bytes,
    depth: usize,
    time: Duration,
) -> Result<f64> {
    timeout(time + PATIENCE, calling(link, envelope, depth, time))
        .await
        .context("the answers stopped coming")?
}

async fn calling(link: &mut WorkerLink, envelope: &Bytes, depth: usize, time: Duration) -> Result<f64> {
    for _ in 0..depth {
        link.send(request(envelope));
    }
    // The first ones find a worker with nothing to do, and are no measure of the others.
    for _ in 0..depth {
        reply(link).await?;
        link.send(request(envelope));
    }
    let (begun, mut answered) = (Instant::now(), 0);
    let took = loop {
        reply(link).await?;
        answered += 1;
        let took = begun.elapsed();
        if took >= time {
            break took;
        }
        link.send(request(envelope));
    };
    // Not counted, but out of the way of whoever comes next.
    for _ in 1..depth {
        reply(link).await?;
    }
    Ok(as_f64(answered) / took.as_secs_f64())
}
