//! A gateway that speaks gRPC as a test wants it to: it writes down what it is told, and acknowledges, refuses, cancels and
//! goes away on demand. What a real one cannot be made to do; the tests with a real one are elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asya_proto::status::v1::envelope_report::Event;
use asya_proto::status::v1::envelope_status_server::{EnvelopeStatus, EnvelopeStatusServer};
use asya_proto::status::v1::report_envelopes_response::Kind;
use asya_proto::status::v1::{
    CancelEnvelopeRequest, CancelEnvelopeResponse, CancelNotice, EnvelopeReport, GetEnvelopeRequest,
    GetEnvelopeResponse, GoAway, ListEnvelopesRequest, ListEnvelopesResponse, ReportAck,
    ReportEnvelopesRequest, ReportEnvelopesResponse, ReportRefusal, ReportRefusalReason, ReportWelcome,
    WatchEnvelopesRequest, WatchEnvelopesResponse, report_envelopes_request as request,
};
use asya_sidecar::gateway::{GatewayAddress, GatewayOptions};
use asya_tests::Proxy;
use axum::extract::Request as HttpRequest;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::common::wait_for;

type Refuse = Box<dyn Fn(&EnvelopeReport) -> Option<ReportRefusalReason> + Send + Sync>;

/// What it has been told, and how it behaves.
pub struct Book {
    /// All that came, repeats included.
    pub arrived: Mutex<Vec<EnvelopeReport>>,
    /// What came, by the instance that told it and its number.
    stored: Mutex<BTreeMap<(String, u64), EnvelopeReport>>,
    streams: AtomicUsize,
    instances: Mutex<Vec<String>>,
    authorizations: Mutex<Vec<String>>,
    http: Mutex<Vec<String>>,
    /// Whether acknowledgements are held back.
    holds: AtomicBool,
    /// Streams end with this error at their first report.
    ends: Mutex<Option<Status>>,
    refuse: Mutex<Refuse>,
    max_unacknowledged: AtomicU64,
    max_report_bytes: AtomicU64,
    pushes: broadcast::Sender<Push>,
}

#[derive(Clone)]
enum Push {
    Say(Kind),
    /// Acknowledges what was held back.
    Acknowledge,
}

/// See the module documentation. Clients come through a proxy, which can cut them off.
pub struct Stage {
    pub proxy: Proxy,
    pub book: Arc<Book>,
    port: u16,
    server: Option<JoinHandle<()>>,
}

/// Whether it offers gRPC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Both,
    HttpAlone,
}

impl Stage {
    pub async fn start(offer: Offer) -> Self {
        let mut stage = Self::absent().await;
        stage.appear(offer).await;
        stage
    }

    pub async fn absent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let book = Book {
            arrived: Mutex::default(),
            stored: Mutex::default(),
            streams: AtomicUsize::new(0),
            instances: Mutex::default(),
            authorizations: Mutex::default(),
            http: Mutex::default(),
            holds: AtomicBool::new(false),
            ends: Mutex::default(),
            refuse: Mutex::new(Box::new(|_| None)),
            max_unacknowledged: AtomicU64::new(100),
            max_report_bytes: AtomicU64::new(1024 * 1024),
            pushes: broadcast::channel(1000).0,
        };
        Self {
            proxy: Proxy::before(port).await,
            book: Arc::new(book),
            port,
            server: None,
        }
    }

    pub async fn appear(&mut self, offer: Offer) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("binds");
        let book = Arc::clone(&self.book);
        let http = move |request: HttpRequest| async move {
            let line = format!("{} {}", request.method(), request.uri().path());
            book.http.lock().expect("nobody panicked").push(line);
            r#"{"status":"ok"}"#
        };
        let router = match offer {
            Offer::Both => {
                let service = Desk(Arc::clone(&self.book));
                Routes::new(EnvelopeStatusServer::new(service))
                    .into_axum_router()
                    .reset_fallback()
                    .fallback(http)
            }
            Offer::HttpAlone => axum::Router::new().fallback(http),
        };
        self.server = Some(tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serves");
        }));
    }

    /// Goes away without a word.
    pub async fn vanish(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _aborted = server.await;
        }
        self.proxy.cut();
    }

    pub fn options(&self) -> GatewayOptions {
        let address = format!("http://127.0.0.1:{}/", self.proxy.port);
        let mut options = GatewayOptions::new(GatewayAddress::parse(&address).expect("a URL"));
        options.progress_rate = None;
        // Nothing may be too old because this machine is busy.
        options.progress_age = Duration::from_mins(10);
        options.probe_every = Duration::from_millis(100);
        options.actor = "work".into();
        options
    }

    pub fn hold(&self) {
        self.book.holds.store(true, Ordering::SeqCst);
    }

    /// Acknowledges again, what was held back included.
    pub fn release(&self) {
        self.book.holds.store(false, Ordering::SeqCst);
        self.push(Push::Acknowledge);
    }

    pub fn refuse(
        &self,
        refuse: impl Fn(&EnvelopeReport) -> Option<ReportRefusalReason> + Send + Sync + 'static,
    ) {
        *self.book.refuse.lock().expect("nobody panicked") = Box::new(refuse);
    }

    /// From now on every stream ends like this at its first report, or no more.
    pub fn end_streams(&self, status: Option<Status>) {
        *self.book.ends.lock().expect("nobody panicked") = status;
    }

    pub fn limit(&self, unacknowledged: u64, bytes: u64) {
        self.book
            .max_unacknowledged
            .store(unacknowledged, Ordering::SeqCst);
        self.book.max_report_bytes.store(bytes, Ordering::SeqCst);
    }

    pub fn cancel(&self, id: &str) {
        let keep_until = chrono::Utc::now() + chrono::TimeDelta::hours(1);
        self.push(Push::Say(Kind::Cancel(CancelNotice {
            envelope_id: id.into(),
            attempt: 1,
            keep_until: Some(prost_types::Timestamp {
                seconds: keep_until.timestamp(),
                nanos: 0,
            }),
            reason: "no more".into(),
        })));
    }

    /// Announces its end.
    pub fn go_away(&self, after: Duration) {
        let reconnect_after = prost_types::Duration::try_from(after).ok();
        self.push(Push::Say(Kind::GoAway(GoAway { reconnect_after })));
    }

    fn push(&self, push: Push) {
        // Without a stream there is nobody to tell.
        let _nobody = self.book.pushes.send(push);
    }

    pub fn streams(&self) -> usize {
        self.book.streams.load(Ordering::SeqCst)
    }

    pub async fn wait_streams(&self, count: usize) {
        wait_for(&format!("{count} streams"), async || self.streams() >= count).await;
    }

    pub fn instances(&self) -> Vec<String> {
        self.book.instances.lock().expect("nobody panicked").clone()
    }

    pub fn authorizations(&self) -> Vec<String> {
        self.book.authorizations.lock().expect("nobody panicked").clone()
    }

    /// HTTP requests so far but the ones for its health, and whether it offers gRPC.
    pub fn http(&self) -> Vec<String> {
        let lines = self.book.http.lock().expect("nobody panicked");
        let about = |line: &&String| !line.contains("/health") && !line.contains("asya.status");
        lines.iter().filter(about).cloned().collect()
    }

    /// What is stored, in the order of its numbers.
    pub fn stored(&self) -> Vec<EnvelopeReport> {
        let stored = self.book.stored.lock().expect("nobody panicked");
        stored.values().cloned().collect()
    }

    /// The events of one envelope that are stored, in the order of their numbers.
    pub fn events(&self, id: &str) -> Vec<Event> {
        let stored = self.stored().into_iter();
        stored
            .filter(|report| report.envelope_id == id)
            .filter_map(|report| report.event)
            .collect()
    }

    pub async fn wait_events(&self, id: &str, count: usize) -> Vec<Event> {
        wait_for(&format!("{count} events of {id}"), async || {
            self.events(id).len() >= count
        })
        .await;
        self.events(id)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

struct Desk(Arc<Book>);

type Answers = mpsc::Sender<Result<ReportEnvelopesResponse, Status>>;

#[tonic::async_trait]
impl EnvelopeStatus for Desk {
    type ReportStream = ReceiverStream<Result<ReportEnvelopesResponse, Status>>;
    type WatchStream = ReceiverStream<Result<WatchEnvelopesResponse, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportEnvelopesRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let said = request.metadata().get("authorization");
        let said = said.map(|value| value.to_str().expect("text").to_owned());
        let authorizations = &self.0.authorizations;
        authorizations
            .lock()
            .expect("nobody panicked")
            .push(said.unwrap_or_default());
        let (answers, stream) = mpsc::channel(100);
        let book = Arc::clone(&self.0);
        tokio::spawn(async move {
            if let Err(status) = listen(&book, request.into_inner(), &answers).await {
                let _gone = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get(&self, _: Request<GetEnvelopeRequest>) -> Result<Response<GetEnvelopeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list(
        &self,
        _: Request<ListEnvelopesRequest>,
    ) -> Result<Response<ListEnvelopesResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn watch(&self, _: Request<WatchEnvelopesRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn cancel(
        &self,
        _: Request<CancelEnvelopeRequest>,
    ) -> Result<Response<CancelEnvelopeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// One stream to its end. The rules of the protocol are checked on the way.
async fn listen(
    book: &Book,
    mut inbound: Streaming<ReportEnvelopesRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let mut pushes = book.pushes.subscribe();
    let hello = match inbound.message().await? {
        Some(ReportEnvelopesRequest {
            kind: Some(request::Kind::Hello(hello)),
        }) => hello,
        other => return Err(Status::invalid_argument(format!("no hello: {other:?}"))),
    };
    let instance = hello.instance_id;
    book.instances
        .lock()
        .expect("nobody panicked")
        .push(instance.clone());
    let most = |limit: &AtomicU64| limit.load(Ordering::SeqCst);
    let welcome = Kind::Welcome(ReportWelcome {
        max_unacknowledged: u32::try_from(most(&book.max_unacknowledged)).expect("small"),
        max_report_bytes: most(&book.max_report_bytes),
    });
    say(answers, welcome).await?;
    book.streams.fetch_add(1, Ordering::SeqCst);
    let (mut last, mut acknowledged, mut refusals) = (0, 0, Vec::new());
    loop {
        tokio::select! {
            message = inbound.message() => {
                let Some(message) = message? else {
                    return Ok(());
                };
                let Some(request::Kind::Report(report)) = message.kind else {
                    return Err(Status::invalid_argument("not a report"));
                };
                if let Some(end) = book.ends.lock().expect("nobody panicked").clone() {
                    return Err(end);
                }
                if report.sequence <= last {
                    return Err(Status::invalid_argument("the sequence does not rise"));
                }
                last = report.sequence;
                refusals.extend(book.note(&instance, &report));
            }
            push = pushes.recv() => match push.expect("not too many") {
                Push::Say(kind) => say(answers, kind).await?,
                Push::Acknowledge => {}
            },
        }
        if last > acknowledged && !book.holds.load(Ordering::SeqCst) {
            acknowledged = last;
            let refusals = std::mem::take(&mut refusals);
            say(
                answers,
                Kind::Ack(ReportAck {
                    sequence: last,
                    refusals,
                }),
            )
            .await?;
        }
    }
}

impl Book {
    fn note(&self, instance: &str, report: &EnvelopeReport) -> Option<ReportRefusal> {
        self.arrived.lock().expect("nobody panicked").push(report.clone());
        let refusal = (self.refuse.lock().expect("nobody panicked"))(report);
        if let Some(reason) = refusal {
            return Some(ReportRefusal {
                sequence: report.sequence,
                reason: reason.into(),
                message: "refused".into(),
            });
        }
        let mut stored = self.stored.lock().expect("nobody panicked");
        if let Some(before) = stored.insert((instance.to_owned(), report.sequence), report.clone()) {
            assert_eq!(
                before.envelope_id, report.envelope_id,
                "a number means one report"
            );
            assert_eq!(before.step, report.step);
        }
        None
    }
}

async fn say(answers: &Answers, kind: Kind) -> Result<(), Status> {
    let said = answers
        .send(Ok(ReportEnvelopesResponse { kind: Some(kind) }))
        .await;
    said.map_err(|_| Status::cancelled("the sidecar has gone"))
}
