//! A gateway with its gRPC port, and the ends that talk to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use asya_gateway::auth::Caller;
use asya_gateway::core::{Gateway, GatewayOptions, ToolBook};
use asya_gateway::grpc::{GrpcOptions, routes};
use asya_gateway::server::{self, ServerOptions};
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_gateway_store::{NewEnvelope, Status, Store};
use asya_proto::status::v1::envelope_status_client::EnvelopeStatusClient;
use asya_proto::status::v1::{
    CancelNotice, Envelope, EnvelopeIds, EnvelopeReport, EnvelopeUpdate, EnvelopeView, FinalReport,
    GetEnvelopeRequest, HopPhase, HopProgress, PartialResult, ReportAck, ReportEnvelopesRequest,
    ReportEnvelopesResponse, ReportWelcome, Route, SidecarHello, SucceededResult, WatchEnvelopesRequest,
    envelope_report, final_report, report_envelopes_request, report_envelopes_response,
    watch_envelopes_request, watch_envelopes_response,
};
use asya_runtime_protocol::RawJson;
use asya_transport::local::{LocalOptions, LocalTransport};
use axum::Extension;
use chrono::Utc;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

/// Nothing here takes so long unless it hangs.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work)
        .await
        .unwrap_or_else(|_| panic!("{what}: it did not come"))
}

/// A gateway that listens.
pub(crate) struct Server {
    pub(crate) gateway: Gateway,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    _directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a gateway of a test is made of.
pub(crate) struct Plan {
    pub(crate) caller: Option<Caller>,
    pub(crate) options: GrpcOptions,
    pub(crate) store: Option<Arc<dyn Store>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            caller: Some(Caller::anonymous()),
            options: GrpcOptions::default(),
            store: None,
        }
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::of(Plan::default()).await
    }

    pub(crate) async fn of(plan: Plan) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = if let Some(store) = plan.store {
            store
        } else {
            let path = directory.path().join("gateway.db");
            Arc::new(SqliteStore::open(path, SqliteOptions::default()).await.unwrap())
        };
        let transport =
            LocalTransport::open(&directory.path().join("queues"), &LocalOptions::default()).unwrap();
        let options = GatewayOptions::new(Arc::clone(&store), Arc::new(transport), ToolBook::empty());
        let gateway = Gateway::start(options).await;
        let mut router = routes(gateway.clone(), plan.options);
        if let Some(caller) = plan.caller {
            router = router.layer(Extension(caller));
        }
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = ServerOptions {
            draining: stop.clone(),
            ..ServerOptions::default()
        };
        tokio::spawn(server::serve(listener, router, serving));
        Self {
            gateway,
            store,
            address,
            stop,
            _directory: directory,
        }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        soon("a connection", endpoint.connect()).await.unwrap()
    }

    pub(crate) async fn client(&self) -> EnvelopeStatusClient<Channel> {
        EnvelopeStatusClient::new(self.channel().await).max_decoding_message_size(64 * 1024 * 1024)
    }

    pub(crate) async fn sidecar(&self, instance: &str) -> Sidecar {
        Sidecar::connect(self.channel().await, instance).await
    }

    /// An envelope that is on its way through `a`, `b` and `c`.
    pub(crate) async fn envelope(&self, id: &str) {
        self.create(running(id)).await;
    }

    pub(crate) async fn create(&self, new: NewEnvelope) {
        self.store.create(new, Duration::ZERO).await.unwrap();
    }

    pub(crate) async fn get(&self, id: &str) -> Envelope {
        let request = GetEnvelopeRequest {
            id: id.to_owned(),
            view: EnvelopeView::Full.into(),
        };
        let got = self.client().await.get(request).await.unwrap();
        got.into_inner().envelope.unwrap()
    }

    /// The whole history of an envelope that is final.
    pub(crate) async fn history(&self, id: &str) -> Vec<EnvelopeUpdate> {
        let mut stream = watch_ids(&mut self.client().await, &[id], "").await.unwrap();
        let mut updates = Vec::new();
        while let Some(message) = soon("an update", stream.message()).await.unwrap() {
            match message.event.unwrap() {
                watch_envelopes_response::Event::Update(update) => updates.push(update),
                other => panic!("{other:?}"),
            }
        }
        updates
    }
}

pub(crate) async fn watch_ids(
    client: &mut EnvelopeStatusClient<Channel>,
    ids: &[&str],
    cursor: &str,
) -> Result<Streaming<asya_proto::status::v1::WatchEnvelopesResponse>, tonic::Status> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let request = WatchEnvelopesRequest {
        target: Some(watch_envelopes_request::Target::Ids(EnvelopeIds { ids })),
        after_cursor: cursor.to_owned(),
        view: EnvelopeView::Full.into(),
    };
    soon("a watch", client.watch(request))
        .await
        .map(tonic::Response::into_inner)
}

pub(crate) fn running(id: &str) -> NewEnvelope {
    NewEnvelope {
        id: id.to_owned(),
        parent_id: None,
        tenant: None,
        tool: None,
        status: Status::Running,
        actors: ["a", "b", "c"].map(str::to_owned).to_vec(),
        route_current: 0,
        route_metadata: None,
        headers: None,
        payload: Some(RawJson::parse(r#"{"n":12345678901234567890,"f":1.0}"#).unwrap()),
        timeout: None,
        deadline: None,
        created_at: Utc::now(),
        idempotency: None,
        outbox: None,
    }
}

/// The reporting end of a sidecar.
pub(crate) struct Sidecar {
    outbound: mpsc::Sender<ReportEnvelopesRequest>,
    inbound: Streaming<ReportEnvelopesResponse>,
    pub(crate) welcome: ReportWelcome,
    /// What came while something else was waited for.
    pub(crate) notices: Vec<CancelNotice>,
}

pub(crate) type Said = report_envelopes_response::Kind;

impl Sidecar {
    pub(crate) async fn connect(channel: Channel, instance: &str) -> Self {
        let hello = SidecarHello {
            actor: "a".to_owned(),
            instance_id: instance.to_owned(),
            version: "test".to_owned(),
        };
        let (outbound, mut inbound) = Self::raw(channel, report_envelopes_request::Kind::Hello(hello)).await;
        let first = soon("welcome", inbound.message()).await.unwrap().unwrap();
        let Some(Said::Welcome(welcome)) = first.kind else {
            panic!("{first:?}");
        };
        Self {
            outbound,
            inbound,
            welcome,
            notices: Vec::new(),
        }
    }

    /// A stream that begins with anything.
    pub(crate) async fn raw(
        channel: Channel,
        first: report_envelopes_request::Kind,
    ) -> (
        mpsc::Sender<ReportEnvelopesRequest>,
        Streaming<ReportEnvelopesResponse>,
    ) {
        let (outbound, requests) = mpsc::channel(4096);
        outbound
            .send(ReportEnvelopesRequest { kind: Some(first) })
            .await
            .unwrap();
        let mut client = EnvelopeStatusClient::new(channel);
        let inbound = soon("a stream", client.report(ReceiverStream::new(requests)))
            .await
            .unwrap();
        (outbound, inbound.into_inner())
    }

    pub(crate) async fn send(&self, report: EnvelopeReport) {
        let kind = Some(report_envelopes_request::Kind::Report(report));
        self.outbound.send(ReportEnvelopesRequest { kind }).await.unwrap();
    }

    pub(crate) async fn send_any(&self, kind: Option<report_envelopes_request::Kind>) {
        self.outbound.send(ReportEnvelopesRequest { kind }).await.unwrap();
    }

    /// The next thing that the gateway says; `None` at the good end.
    pub(crate) async fn hear(&mut self) -> Result<Option<Said>, tonic::Status> {
        let message = soon("a word of the gateway", self.inbound.message()).await?;
        Ok(message.map(|message| message.kind.unwrap()))
    }

    pub(crate) async fn ack(&mut self) -> ReportAck {
        loop {
            match self
                .hear()
                .await
                .unwrap()
                .expect("an acknowledgement, not the end")
            {
                Said::Ack(ack) => return ack,
                Said::Cancel(notice) => self.notices.push(notice),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Acknowledgements up to a sequence number; they only rise.
    pub(crate) async fn acked(&mut self, sequence: u64) -> Vec<ReportAck> {
        let mut acks: Vec<ReportAck> = Vec::new();
        while acks.last().is_none_or(|ack| ack.sequence < sequence) {
            let ack = self.ack().await;
            assert!(
                acks.last().is_none_or(|last| last.sequence < ack.sequence),
                "acknowledgements rise"
            );
            acks.push(ack);
        }
        assert_eq!(
            acks.last().unwrap().sequence,
            sequence,
            "nothing is acknowledged that was not sent"
        );
        acks
    }

    pub(crate) async fn notice(&mut self) -> CancelNotice {
        if !self.notices.is_empty() {
            return self.notices.remove(0);
        }
        match self.hear().await.unwrap().unwrap() {
            Said::Cancel(notice) => notice,
            other => panic!("{other:?}"),
        }
    }

    /// How the stream ends: the code, or `Ok` for a good end.
    pub(crate) async fn end(&mut self) -> Code {
        loop {
            match self.hear().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }

    /// Says nothing more.
    pub(crate) fn finish(self) -> Streaming<ReportEnvelopesResponse> {
        self.inbound
    }
}

pub(crate) fn report(sequence: u64, id: &str, event: envelope_report::Event) -> EnvelopeReport {
    EnvelopeReport {
        sequence,
        envelope_id: id.to_owned(),
        attempt: 1,
        step: 0,
        occurred_at: None,
        event: Some(event),
    }
}

pub(crate) fn progress(index: u32, phase: HopPhase) -> envelope_report::Event {
    envelope_report::Event::Progress(HopProgress {
        phase: phase.into(),
        actors: ["a", "b", "c"].map(str::to_owned).to_vec(),
        actor_index: index,
        message: format!("{} {index}", phase.as_str_name()),
        ..HopProgress::default()
    })
}

pub(crate) fn partial(actor_index: u32, index: u32, value: &str) -> envelope_report::Event {
    envelope_report::Event::Partial(PartialResult {
        actor_index,
        index,
        value_json: value.to_owned(),
    })
}

pub(crate) fn succeeded(result: &str) -> envelope_report::Event {
    envelope_report::Event::Final(FinalReport {
        result: Some(final_report::Result::Succeeded(SucceededResult {
            result_json: Some(result.to_owned()),
            stored_at: String::new(),
        })),
        route: Some(Route {
            actors: ["a", "b", "c"].map(str::to_owned).to_vec(),
            current: 3,
        }),
    })
}
