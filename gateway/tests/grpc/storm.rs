//! Many writers over a few streams.

use std::collections::BTreeSet;
use std::sync::Arc;

use asya_proto::status::v1::{
    EnvelopeReport, EnvelopeState, HopPhase, envelope_report, report_envelopes_request,
};
use asya_proto::status::v1::{ReportEnvelopesRequest, SidecarHello};
use rand::seq::SliceRandom as _;
use tokio::sync::{Mutex, mpsc, watch};

use super::harness::{Said, Server, Sidecar, partial, progress, report, soon, succeeded};

const WRITERS: usize = 1000;
const ENVELOPES: usize = 50;
const STREAMS: usize = 8;

/// One stream that many writers share.
struct Shared {
    outbound: Mutex<(u64, mpsc::Sender<ReportEnvelopesRequest>)>,
    acked: watch::Receiver<u64>,
}

impl Shared {
    async fn open(server: &Server, instance: usize) -> Arc<Self> {
        let hello = SidecarHello {
            instance_id: format!("i{instance}"),
            ..SidecarHello::default()
        };
        let first = report_envelopes_request::Kind::Hello(hello);
        let (outbound, mut inbound) = Sidecar::raw(server.channel().await, first).await;
        let (acks, acked) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                if let Some(Said::Ack(ack)) = message.kind {
                    assert!(ack.refusals.is_empty(), "{ack:?}");
                    acks.send_replace(ack.sequence);
                }
            }
        });
        Arc::new(Self {
            outbound: Mutex::new((0, outbound)),
            acked,
        })
    }

    /// Sends, and returns when it is acknowledged.
    async fn tell(&self, told: impl FnOnce(u64) -> EnvelopeReport) {
        let sequence = {
            let mut outbound = self.outbound.lock().await;
            outbound.0 += 1;
            let kind = Some(report_envelopes_request::Kind::Report(told(outbound.0)));
            outbound.1.send(ReportEnvelopesRequest { kind }).await.unwrap();
            outbound.0
        };
        let mut acked = self.acked.clone();
        soon("an acknowledgement", acked.wait_for(|acked| *acked >= sequence))
            .await
            .unwrap();
    }
}

/// What one writer says of its envelope: each item must be found again.
fn sayings(writer: usize) -> Vec<envelope_report::Event> {
    let hop = u32::try_from(writer / ENVELOPES % 3).unwrap();
    let item = |n: u32| partial(hop, n, &format!("\"{writer}-{n}\""));
    let mut sayings = vec![
        progress(hop, HopPhase::Received),
        item(0),
        progress(hop, HopPhase::Processing),
        item(1),
        progress(hop, HopPhase::Completed),
    ];
    sayings.shuffle(&mut rand::rng());
    sayings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_interleaved_writers_lose_nothing_and_nothing_comes_after_the_end() {
    let server = Arc::new(Server::start().await);
    for n in 0..ENVELOPES {
        server.envelope(&format!("x{n}")).await;
    }
    let mut streams = Vec::new();
    for n in 0..STREAMS {
        streams.push(Shared::open(&server, n).await);
    }
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let stream = Arc::clone(&streams[writer % STREAMS]);
            tokio::spawn(async move {
                for event in sayings(writer) {
                    let id = format!("x{}", writer % ENVELOPES);
                    stream.tell(|sequence| report(sequence, &id, event)).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // Two ends for each, and late words, at the same time.
    let ends: Vec<_> = (0..ENVELOPES * 4)
        .map(|n| {
            let stream = Arc::clone(&streams[n % STREAMS]);
            tokio::spawn(async move {
                let id = format!("x{}", n % ENVELOPES);
                let event = match n / ENVELOPES {
                    0 | 1 => succeeded(&format!("\"end {}\"", n / ENVELOPES)),
                    2 => progress(2, HopPhase::Completed),
                    _ => partial(2, 9, "\"late\""),
                };
                stream.tell(|sequence| report(sequence, &id, event)).await;
            })
        })
        .collect();
    for end in ends {
        end.await.unwrap();
    }
    for n in 0..ENVELOPES {
        check(&server, n).await;
    }
}

async fn check(server: &Server, n: usize) {
    let id = format!("x{n}");
    let history = server.history(&id).await;
    let items: BTreeSet<_> = history
        .iter()
        .filter_map(|update| update.partial.as_ref())
        .map(|item| item.value_json.clone())
        .filter(|value| value != "\"late\"")
        .collect();
    let writers = (0..WRITERS).filter(|writer| writer % ENVELOPES == n);
    let expected: BTreeSet<_> = writers
        .flat_map(|writer| [0, 1].map(|item| format!("\"{writer}-{item}\"")))
        .collect();
    assert_eq!(items, expected, "{id}");
    let (last, before) = history.split_last().unwrap();
    assert_eq!(last.state(), EnvelopeState::Succeeded, "{id}");
    assert!(
        before
            .iter()
            .all(|update| update.state() == EnvelopeState::Running),
        "{id}"
    );
    let percents: Vec<_> = before
        .iter()
        .filter_map(|update| update.progress_percent)
        .collect();
    assert!(percents.is_sorted(), "{id}: {percents:?}");
    let shown = server.get(&id).await;
    assert_eq!(shown.result_json, last.result_json);
    assert!((shown.progress_percent - 100.0).abs() < f64::EPSILON);
}
