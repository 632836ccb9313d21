//! Taking the ports.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use super::StartError;
use crate::core::Gateway;
use crate::http::{self, RenderMetrics};
use crate::server::{self, BindError};
use crate::settings::{Listen, Metrics};

/// Takes the port of the gateway. All addresses means those of IPv4 alone where the machine has no IPv6.
pub(super) async fn bind(listen: Listen) -> Result<TcpListener, BindError> {
    let mut addresses = listen.addresses().into_iter();
    let mut failed = None;
    for address in &mut addresses {
        match server::bind(address).await {
            Ok(listener) => return Ok(listener),
            // Another program has the port: the next address would only hide that.
            Err(error) if error.cause.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| BindError {
        address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        cause: std::io::ErrorKind::InvalidInput.into(),
    }))
}

/// Where it listens, which a listener knows.
pub(super) fn address(listener: &TcpListener) -> SocketAddr {
    listener
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
}

/// Takes the additional port for metrics, if there is to be one.
pub(super) async fn bind_metrics(metrics: Option<&Metrics>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = metrics.and_then(|metrics| metrics.address.clone()) else {
        return Ok(None);
    };
    let everywhere = address.strip_prefix(':').map(str::to_owned);
    let bound = match everywhere {
        None => TcpListener::bind(&address).await,
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                TcpListener::bind(format!("0.0.0.0:{port}")).await
            }
            bound => bound,
        },
    };
    bound
        .map(Some)
        .map_err(|cause| StartError::Metrics { address, cause })
}

/// Serves metrics and health for ever, to whoever can reach the port.
pub(super) async fn serve_metrics(listener: TcpListener, gateway: Gateway, render: RenderMetrics) {
    if let Err(error) = axum::serve(listener, http::metrics_router(gateway, render)).await {
        tracing::error!(%error, "the additional port for metrics is served no more");
    }
}
