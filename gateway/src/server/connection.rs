//! One connection, from its first byte to its end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::ServerOptions;
use super::detect::{Protocol, detect};
use super::patience::Patient;
use super::tls::Tls;

/// Most that is buffered of one answer before the peer takes something of it, in bytes. Small, since thousands of
/// streams may have a slow peer each.
const WRITE_BUFFER: usize = 64 * 1024;
/// Requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 1000;

/// What all connections of a server share.
pub(super) struct Shared {
    router: Router,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    pub(super) options: ServerOptions,
    /// The grace is over: connections end whatever is under way.
    pub(super) kill: CancellationToken,
}

impl Shared {
    pub(super) fn new(router: Router, options: ServerOptions) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_header_size(options.max_header_bytes)
            .max_buf_size(WRITE_BUFFER.max(options.max_header_bytes));
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(options.write_timeout)
            .keep_alive_timeout(options.write_timeout)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(WRITE_BUFFER)
            .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX));
        Self {
            router,
            http1,
            http2,
            options,
            kill: CancellationToken::new(),
        }
    }
}

/// Serves one connection until its end. Failures concern this peer alone and are logged for debugging only.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: &Shared) {
    super::prepare(&stream, &shared.options);
    let stream = Patient::new(stream, shared.options.write_timeout);
    // Boxed where they differ, so that a connection takes only as much memory as its own kind needs.
    let served = async {
        match &shared.options.tls {
            None => plain(stream, peer, shared).await,
            Some(tls) => Box::pin(encrypted(stream, tls, peer, shared)).await,
        }
    };
    let ended = tokio::select! {
        ended = served => ended,
        () = shared.kill.cancelled() => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &*error, "connection ended");
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn plain(stream: Patient<TcpStream>, peer: SocketAddr, shared: &Shared) -> Ended {
    let Some((protocol, stream)) = in_time(shared, detect(stream)).await? else {
        return Ok(());
    };
    match protocol {
        Protocol::Http1 => Box::pin(http1(stream, peer, shared)).await,
        Protocol::Http2 => Box::pin(http2(stream, peer, shared)).await,
    }
}

async fn encrypted(stream: Patient<TcpStream>, tls: &Tls, peer: SocketAddr, shared: &Shared) -> Ended {
    let Some(stream) = in_time(shared, tls.accept(stream)).await? else {
        return Ok(());
    };
    match tls.protocol(&stream) {
        Protocol::Http1 => Box::pin(http1(stream, peer, shared)).await,
        Protocol::Http2 => Box::pin(http2(stream, peer, shared)).await,
    }
}

/// What comes before the first request; `None` when its time is over, or when the server ends meanwhile.
async fn in_time<T>(
    shared: &Shared,
    opening: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<Option<T>> {
    tokio::select! {
        opened = tokio::time::timeout(shared.options.header_timeout, opening) => opened.ok().transpose(),
        () = shared.options.draining.cancelled() => Ok(None),
    }
}

async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    shared: &Shared,
) -> Ended {
    let service = service_fn(|request| answer(&shared.router, peer, request));
    let mut connection = pin!(shared.http1.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = shared.options.draining.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    shared: &Shared,
) -> Ended {
    // The requests of HTTP/2 run in tasks of their own.
    let router = Arc::new(shared.router.clone());
    let service = service_fn(move |request| answer(&router, peer, request));
    let mut connection = pin!(shared.http2.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = shared.options.draining.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

fn answer(
    router: &Router,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> axum::routing::future::RouteFuture<std::convert::Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.clone().call(request)
}
