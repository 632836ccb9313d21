//! One attempt to connect: TCP, TLS, login, virtual host.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use tokio::time::timeout;

use super::error::{ConnectError, Refusal, refusal};
use super::settings::Settings;

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum DialError {
    /// Somebody has to change something.
    Permanent(ConnectError),
    /// Nobody was there, or not for long enough.
    Transient(String),
}

impl DialError {
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Permanent(error) => error.to_string(),
            Self::Transient(reason) => reason.clone(),
        }
    }
}

/// A second handle on the socket of a connection, to end it whatever the client library is waiting for: without it a
/// peer that accepts and never answers, or that vanishes without a trace, would keep a thread for ever.
#[derive(Debug, Clone, Default)]
pub(super) struct Cutter(Arc<Mutex<Option<TcpStream>>>);

impl Cutter {
    fn hold(&self, socket: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    pub(super) fn cut(&self) {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket {
            // An error means that the connection has ended already.
            let _ended = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Connects and logs in.
pub(super) async fn dial(settings: &Settings, purpose: &str) -> Result<(Connection, Cutter), DialError> {
    let tls = settings.tls().await.map_err(DialError::Permanent)?;
    let runtime =
        lapin::runtime::default_runtime().map_err(|error| DialError::Transient(error.to_string()))?;
    let uri = settings.uri();
    let address = &settings.options.address;
    let (host, port, encrypted) = (address.host.clone(), address.port, address.tls);
    let limit = settings.options.connect_timeout;
    let cutter = Cutter::default();
    let handle = cutter.clone();
    let reactor = runtime.clone();
    let open = async move |_, _| {
        let addresses = resolve(&host, port, limit).await?;
        let connecting = AsyncTcpStream::connect(&reactor, addresses);
        let stream = timeout(limit, connecting)
            .await
            .map_err(|_| timed_out("TCP connect"))??;
        if let AsyncTcpStream::Plain(socket) = &stream {
            let second = socket.get_ref().as_fd().try_clone_to_owned()?;
            handle.hold(TcpStream::from(second));
        }
        if !encrypted {
            return Ok(stream);
        }
        let shaking = into_tls(stream, &host, &tls);
        let stream = timeout(limit, shaking)
            .await
            .map_err(|_| timed_out("TLS handshake"))?;
        stream.map_err(|cause| lapin::Error::from(std::io::Error::other(TlsFailed(cause.to_string()))))
    };
    let name = format!("{} ({purpose})", settings.options.connection_name);
    let properties = ConnectionProperties::default().with_connection_name(name.as_str().into());
    let connecting = Connection::connector(uri, runtime, open, properties);
    match timeout(limit, connecting).await {
        Ok(Ok(connection)) => Ok((connection, cutter)),
        Ok(Err(error)) => {
            cutter.cut();
            Err(classify(settings, &error))
        }
        Err(_) => {
            cutter.cut();
            Err(DialError::Transient(format!("no answer within {limit:?}")))
        }
    }
}

async fn resolve(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, lapin::Error> {
    let looking_up = timeout(limit, tokio::net::lookup_host((host, port)));
    let found = looking_up.await.map_err(|_| timed_out("name lookup"))??;
    Ok(found.collect())
}

async fn into_tls<S>(
    stream: AsyncTcpStream<S>,
    host: &str,
    tls: &OwnedTLSConfig,
) -> std::io::Result<AsyncTcpStream<S>>
where
    AsyncTcpStream<S>: Sized,
    S: futures::io::AsyncRead + futures::io::AsyncWrite + Send + Unpin + 'static,
{
    stream.into_tls(host, tls.as_ref()).await
}

fn timed_out(step: &str) -> lapin::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{step} timed out")).into()
}

/// Marks an I/O error as one of the TLS handshake.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TlsFailed(String);

/// Tells what will never work from what may work later.
fn classify(settings: &Settings, error: &lapin::Error) -> DialError {
    let address = &settings.options.address;
    let (at, user) = (address.to_string(), address.user.clone());
    if let ErrorKind::IOError(cause) = error.kind()
        && let Some(TlsFailed(reason)) = cause.get_ref().and_then(|inner| inner.downcast_ref())
    {
        let (address, reason) = (at, reason.clone());
        return DialError::Permanent(ConnectError::Tls { address, reason });
    }
    match refusal(error) {
        Some((Refusal::Access, _)) => DialError::Permanent(ConnectError::Login { address: at, user }),
        // A virtual host that the broker is still starting says so, and is worth waiting for.
        Some((Refusal::NotAllowed, reason)) if !reason.contains("is down") => {
            DialError::Permanent(ConnectError::Vhost {
                address: at,
                user,
                vhost: address.vhost.clone(),
                reason,
            })
        }
        _ => DialError::Transient(error.to_string()),
    }
}
