//! Progress reports a second: over one gRPC stream, beside HTTP.
//!
//! *Ours*: one stream as a sidecar has it, as many reports unacknowledged as the gateway allows; counted are those
//! that it has acknowledged as stored. *Beside*: requests over connections that stay, eight at a time, as a sidecar has
//! lanes. Both to one gateway on SQLite. Every report is a new state of one of 64 envelopes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use asya_proto::status::v1::envelope_status_client::EnvelopeStatusClient;
use asya_proto::status::v1::report_envelopes_request::Kind as Said;
use asya_proto::status::v1::report_envelopes_response::Kind as Heard;
use asya_proto::status::v1::{
    EnvelopeReport, HopPhase, HopProgress, ReportEnvelopesRequest, SidecarHello, envelope_report::Event,
};
use futures::future::{try_join, try_join_all};
use futures::stream;
use tokio::sync::{Semaphore, mpsc};
use tonic::transport::Endpoint;

use super::{Outcome, Site, call};
use crate::figures::Row;
use crate::measure::Options;
use crate::meter::as_f64;

/// The name of this section.
pub const SECTION: &str = "gateway-reports";

/// Envelopes that are reported about in turn.
const ENVELOPES: u64 = 64;

/// Requests at a time.
const LANES: u64 = 8;

/// The rows of this section.
pub(super) async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Outcome> {
    let (mut grpc, mut http) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        say(&format!("{SECTION}: round {round} of {}", options.rounds));
        let site = Site::start(options).await?;
        let ids = Arc::new(envelopes(&site).await?);
        http.push(over_http(&site.server.url(), &ids, options.stretch).await?);
        let ids = Arc::new(envelopes(&site).await?);
        grpc.push(over_grpc(&site.server.url(), &ids, options.stretch).await?);
        site.server.close().await;
    }
    let row = Row::rates(SECTION, "one gRPC stream", &grpc, ("HTTP, 8 at a time", &http)).aim(5.0);
    Ok(Outcome::Measured(vec![row]))
}

async fn envelopes(site: &Site) -> Result<Vec<String>> {
    let (client, url) = (reqwest::Client::new(), site.server.url());
    try_join_all((0..ENVELOPES).map(|_| call(&client, &url))).await
}

/// Which envelope the n-th report is about.
fn envelope(ids: &[String], number: u64) -> &str {
    let index = usize::try_from(number % ENVELOPES).unwrap_or_default();
    ids.get(index).map_or("", String::as_str)
}

async fn over_http(url: &str, ids: &[String], stretch: Duration) -> Result<f64> {
    let client = reqwest::Client::new();
    let (next, count, started) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    let lanes = (0..LANES).map(|_| async {
        while started.elapsed() < stretch {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let body = format!(
                r#"{{"actors":["one","two","three"],"current_actor_idx":0,"status":"processing","message":"step {number}"}}"#
            );
            let answer = client
                .post(format!("{url}/envelopes/{}/progress", envelope(ids, number)))
                .header("x-asya-index", "exact")
                .body(body)
                .send()
                .await?;
            ensure!(answer.status() == 200, "the gateway answers {}", answer.status());
            answer.bytes().await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    try_join_all(lanes).await?;
    Ok(as_f64(count.into_inner()) / started.elapsed().as_secs_f64())
}

async fn over_grpc(url: &str, ids: &Arc<Vec<String>>, stretch: Duration) -> Result<f64> {
    let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
    let mut client = EnvelopeStatusClient::new(channel);
    let (reports, outgoing) = mpsc::channel(1024);
    let hello = SidecarHello {
        actor: "one".into(),
        instance_id: uuid::Uuid::new_v4().to_string(),
        version: String::new(),
    };
    reports.send(said(Said::Hello(hello))).await?;
    let outgoing = stream::unfold(outgoing, async |mut outgoing| {
        Some((outgoing.recv().await?, outgoing))
    });
    let mut answers = client.report(outgoing).await?.into_inner();
    let Some(Heard::Welcome(welcome)) = answers.message().await?.and_then(|answer| answer.kind) else {
        bail!("the gateway does not welcome us");
    };
    let room = Semaphore::new(usize::try_from(welcome.max_unacknowledged)?);
    let last = AtomicU64::new(u64::MAX);
    let started = Instant::now();
    let send = async {
        let mut sequence = 0;
        while started.elapsed() < stretch {
            room.acquire().await?.forget();
            sequence += 1;
            reports.send(said(Said::Report(report(ids, sequence)))).await?;
        }
        last.store(sequence, Ordering::Relaxed);
        anyhow::Ok(sequence)
    };
    let receive = async {
        let mut acknowledged = 0;
        while acknowledged < last.load(Ordering::Relaxed) {
            let answer = answers.message().await?.context("the stream has ended")?;
            if let Some(Heard::Ack(ack)) = answer.kind {
                ensure!(ack.refusals.is_empty(), "the gateway refuses: {:?}", ack.refusals);
                room.add_permits(usize::try_from(ack.sequence - acknowledged)?);
                acknowledged = ack.sequence;
            }
        }
        Ok(())
    };
    let (count, ()) = try_join(send, receive).await?;
    Ok(as_f64(count) / started.elapsed().as_secs_f64())
}

fn said(kind: Said) -> ReportEnvelopesRequest {
    ReportEnvelopesRequest { kind: Some(kind) }
}

fn report(ids: &[String], sequence: u64) -> EnvelopeReport {
    EnvelopeReport {
        sequence,
        envelope_id: envelope(ids, sequence).to_owned(),
        attempt: 1,
        event: Some(Event::Progress(HopProgress {
            phase: HopPhase::Processing.into(),
            actors: super::ACTORS.map(str::to_owned).to_vec(),
            message: format!("step {sequence}"),
            ..HopProgress::default()
        })),
        ..EnvelopeReport::default()
    }
}
