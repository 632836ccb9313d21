//! The task that keeps the stream: opens it, hears acknowledgements, opens the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_proto::status::v1::actor_status_client::ActorStatusClient;
use asya_proto::status::v1::{OperatorHello, ReportActorsRequest, ReportActorsResponse};
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::Uri;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::Options;
use super::board::Board;
use super::voice::{Problem, Voice};

/// An idle connection is asked whether it lives so often; a half-open one is noticed by that, and load balancers keep
/// it.
const PING: Duration = Duration::from_secs(20);

/// A stream that lived so long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// Keeps a stream until `shutdown`.
pub(super) async fn keep(options: Options, board: Arc<Board>, shutdown: CancellationToken) {
    let mut voice = Voice::new(options.address.clone());
    let mut failures = 0;
    let keeping = async {
        loop {
            let began = Instant::now();
            let problem = talk(&options, &board, &mut voice).await;
            board.close();
            metrics::gauge!("asya_operator_gateway_connected").set(0.0);
            metrics::counter!("asya_operator_gateway_breaks_total").increment(1);
            failures = if began.elapsed() > GOOD { 1 } else { failures + 1 };
            voice.trouble(&problem);
            tokio::time::sleep(pause(&options, &problem, failures)).await;
        }
    };
    shutdown.run_until_cancelled(keeping).await;
    board.close();
}

/// How long to leave the gateway alone after so many failures in a row.
fn pause(options: &Options, problem: &Problem, failures: u32) -> Duration {
    let pause = match problem {
        Problem::Away(_) => {
            let doubled = options.first_pause.saturating_mul(1 << (failures - 1).min(16));
            doubled.min(options.longest_pause)
        }
        // Somebody has to do something first.
        Problem::Refused(_) | Problem::NotOffered(_) | Problem::Misunderstood(_) => options.refused_pause,
    };
    pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

/// One stream from beginning to end; returns why it ended.
async fn talk(options: &Options, board: &Arc<Board>, voice: &mut Voice) -> Problem {
    let opened = tokio::time::timeout(options.request_timeout, open(options, board)).await;
    let mut answers = match opened {
        Ok(Ok(answers)) => answers,
        Ok(Err(problem)) => return problem,
        Err(_) => return Problem::Away("no answer in time".to_owned()),
    };
    let mut repeat = tokio::time::interval_at(tokio::time::Instant::now() + options.repeat, options.repeat);
    repeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The greeting waits for its acknowledgement from the beginning.
    let mut heard = tokio::time::Instant::now();
    let mut is_greeted = false;
    loop {
        let look_again = options.request_timeout.min(Duration::from_secs(1));
        let answer = tokio::select! {
            answer = answers.message() => answer,
            _ = repeat.tick() => {
                board.repeat();
                continue;
            }
            () = tokio::time::sleep(look_again) => {
                if !board.is_waiting_for_gateway() {
                    heard = tokio::time::Instant::now();
                } else if heard.elapsed() > options.request_timeout {
                    return Problem::Away("no acknowledgement in time".to_owned());
                }
                continue;
            }
        };
        match answer {
            Ok(Some(answer)) => {
                heard = tokio::time::Instant::now();
                if !is_greeted {
                    is_greeted = true;
                    voice.connected();
                    metrics::gauge!("asya_operator_gateway_connected").set(1.0);
                }
                note(&board.acknowledge(answer.acknowledged));
            }
            Ok(None) => return Problem::Away("the gateway ended the stream".to_owned()),
            Err(status) => return problem(&status),
        }
    }
}

/// Counts what the gateway has stored.
fn note(told: &[Option<Instant>]) {
    metrics::counter!("asya_operator_gateway_reports_total").increment(told.len() as u64);
    for since in told.iter().flatten() {
        metrics::histogram!("asya_operator_gateway_report_lag_seconds").record(since.elapsed());
    }
}

/// Connects and begins a stream.
async fn open(options: &Options, board: &Arc<Board>) -> Result<Streaming<ReportActorsResponse>, Problem> {
    let channel = connect(options).await?;
    let unusable = |reason: &str| Problem::Misunderstood(reason.to_owned());
    let address = options.address.to_string();
    let origin: Uri = address.parse().map_err(|_| unusable("the address is no URI"))?;
    let number = board.open(OperatorHello {
        cluster: options.cluster.clone(),
        instance_id: options.instance.clone(),
        version: options.version.clone(),
    });
    let mut request = Request::new(messages(Arc::clone(board), number));
    if let Some(token) = &options.token {
        let mut value: MetadataValue<_> = token
            .bearer()
            .parse()
            .map_err(|_| unusable("the token fits into no header"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = ActorStatusClient::with_origin(channel, origin);
    let answers = client.report(request).await.map_err(|status| problem(&status))?;
    Ok(answers.into_inner())
}

async fn connect(options: &Options) -> Result<Channel, Problem> {
    let away = |error: tonic::transport::Error| Problem::Away(innermost(&error));
    let endpoint = Endpoint::from_shared(options.address.to_string()).map_err(away)?;
    let mut endpoint = endpoint
        .user_agent(concat!("asya-operator/", env!("CARGO_PKG_VERSION")))
        .map_err(away)?
        .connect_timeout(options.request_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(options.request_timeout)
        .keep_alive_while_idle(true);
    if options.address.is_encrypted() {
        let tls = ClientTlsConfig::new().with_native_roots();
        endpoint = endpoint.tls_config(tls).map_err(away)?;
    }
    endpoint.connect().await.map_err(away)
}

/// What this side says.
fn messages(board: Arc<Board>, number: u64) -> impl Stream<Item = ReportActorsRequest> + Send + 'static {
    stream::unfold(board, move |board| async move {
        let message = board.next(number).await?;
        Some((message, board))
    })
}

/// What a status says about what should be done.
fn problem(status: &Status) -> Problem {
    let said = explain(status);
    // Made by the library: of a broken connection, or of an answer that is plain HTTP.
    let is_made_here = std::error::Error::source(status).is_some();
    match status.code() {
        _ if is_made_here => Problem::Away(said),
        Code::Unauthenticated | Code::PermissionDenied => Problem::Refused(said),
        Code::Unimplemented => Problem::NotOffered(said),
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => Problem::Misunderstood(said),
        _ => Problem::Away(said),
    }
}

/// A status in one line for people.
fn explain(status: &Status) -> String {
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
