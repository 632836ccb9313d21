//! Where a program listens.

use tokio::net::TcpListener;

/// Listens at `address`, which is `HOST:PORT`; `:8080` means all addresses, of IPv6 as well where the machine has it.
pub async fn listen(address: &str) -> std::io::Result<TcpListener> {
    let Some(port) = address.strip_prefix(':') else {
        return TcpListener::bind(address).await;
    };
    match TcpListener::bind(format!("[::]:{port}")).await {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(format!("0.0.0.0:{port}")).await
        }
        bound => bound,
    }
}
