//! Opening a stream of reports: connect, greet, be welcomed, or know why not.

use std::sync::Arc;
use std::time::Duration;

use asya_proto::status::v1::envelope_status_client::EnvelopeStatusClient;
use asya_proto::status::v1::{
    ReportEnvelopesRequest, ReportEnvelopesResponse, ReportWelcome, SidecarHello,
    report_envelopes_request::Kind as Said, report_envelopes_response::Kind as Heard,
};
use futures::{Stream, stream};
use tokio::sync::oneshot;
use tonic::codegen::http::Uri;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::window::Window;
use crate::gateway::options::GatewayOptions;

/// An idle connection is asked whether it lives so often; a half-open one is noticed by that, and load balancers keep
/// it.
const PING: Duration = Duration::from_secs(20);

/// A stream that was welcomed.
pub(super) struct Line {
    pub(super) welcome: ReportWelcome,
    pub(super) answers: Streaming<ReportEnvelopesResponse>,
    /// Lets reports go, under the number that the window has given to this stream.
    pub(super) go: oneshot::Sender<u64>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It answered in gRPC, and does not have the service.
    NotOffered(String),
    /// It answered in gRPC that it cannot now, or does not let us.
    Refused(String),
    /// It did not answer in gRPC: it is away, or speaks something else.
    Silent(String),
}

/// Connects and greets, within the time for one request.
pub(super) async fn dial(
    options: &GatewayOptions,
    instance: &str,
    window: &Arc<Window>,
) -> Result<Line, Problem> {
    let greeting = async {
        let channel = connect(options).await?;
        let hello = SidecarHello {
            actor: options.actor.clone(),
            instance_id: instance.to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        greet(options, channel, hello, Arc::clone(window)).await
    };
    tokio::time::timeout(options.request_timeout, greeting)
        .await
        .unwrap_or_else(|_| Err(Problem::Silent("no answer in time".into())))
}

async fn connect(options: &GatewayOptions) -> Result<Channel, Problem> {
    let silent = |error: tonic::transport::Error| Problem::Silent(innermost(&error));
    let endpoint = Endpoint::from_shared(options.address.to_string()).map_err(silent)?;
    let mut endpoint = endpoint
        .user_agent(concat!("asya-sidecar/", env!("CARGO_PKG_VERSION")))
        .map_err(silent)?
        .connect_timeout(options.request_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(options.request_timeout)
        .keep_alive_while_idle(true);
    if options.address.is_encrypted() {
        let tls = ClientTlsConfig::new().with_native_roots();
        endpoint = endpoint.tls_config(tls).map_err(silent)?;
    }
    endpoint.connect().await.map_err(silent)
}

async fn greet(
    options: &GatewayOptions,
    channel: Channel,
    hello: SidecarHello,
    window: Arc<Window>,
) -> Result<Line, Problem> {
    let unusable = |reason: String| Problem::Silent(reason);
    let origin: Uri = options
        .address
        .to_string()
        .parse()
        .map_err(|_| unusable("the address is no URI".into()))?;
    let (go, gone) = oneshot::channel();
    let mut request = Request::new(reports(hello, gone, window));
    if let Some(value) = options.authorization() {
        let mut value: MetadataValue<_> = value
            .parse()
            .map_err(|_| unusable("the credentials fit into no header".into()))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = EnvelopeStatusClient::with_origin(channel, origin);
    let mut answers = client
        .report(request)
        .await
        .map_err(|status| problem(&status))?
        .into_inner();
    match answers.message().await {
        Ok(Some(ReportEnvelopesResponse {
            kind: Some(Heard::Welcome(welcome)),
        })) => Ok(Line { welcome, answers, go }),
        Ok(_) => Err(Problem::NotOffered("no welcome came".into())),
        Err(status) => Err(problem(&status)),
    }
}

/// What this side says: the greeting, and once it was welcomed the reports of the window.
fn reports(
    hello: SidecarHello,
    go: oneshot::Receiver<u64>,
    window: Arc<Window>,
) -> impl Stream<Item = ReportEnvelopesRequest> + Send + 'static {
    enum Next {
        Hello(SidecarHello, oneshot::Receiver<u64>),
        Wait(oneshot::Receiver<u64>),
        Report(u64),
    }
    let say = |kind| ReportEnvelopesRequest { kind: Some(kind) };
    stream::unfold(Next::Hello(hello, go), move |next| {
        let window = Arc::clone(&window);
        async move {
            let number = match next {
                Next::Hello(hello, go) => return Some((say(Said::Hello(hello)), Next::Wait(go))),
                Next::Wait(go) => go.await.ok()?,
                Next::Report(number) => number,
            };
            let report = window.next(number).await?;
            Some((say(Said::Report(report)), Next::Report(number)))
        }
    })
}

/// What a status says about whether gRPC is spoken there at all.
fn problem(status: &Status) -> Problem {
    let said = explain(status);
    // Made by the library: of a broken connection, or of an answer that is plain HTTP.
    let is_made_here =
        std::error::Error::source(status).is_some() || status.message().contains("grpc-status header");
    match status.code() {
        Code::Unimplemented => Problem::NotOffered(said),
        _ if is_made_here => Problem::Silent(said),
        Code::Unknown | Code::Internal => Problem::Silent(said),
        _ => Problem::Refused(said),
    }
}

/// A status in one line for people.
pub(super) fn explain(status: &Status) -> String {
    let cause = std::error::Error::source(status).map_or_else(|| status.message().to_owned(), innermost);
    format!("{:?}: {cause}", status.code())
}

/// The cause at the end of the chain, which is what people can do something about.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
