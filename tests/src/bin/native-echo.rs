//! A native runtime that answers each payload with itself: an actor written in Rust, as the tests need one.

use asya_runtime_protocol::{HandlerItem, RequestEnvelope, ServeError, ServerOptions, serve};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ServeError> {
    let socket_dir = std::env::var_os("ASYA_SOCKET_DIR").unwrap_or_else(|| "/var/run/asya".into());
    let echo = async |request: RequestEnvelope| Ok(vec![HandlerItem::Payload(request.payload())]);
    let asked_to_end = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    serve(
        ServerOptions::new(std::path::PathBuf::from(socket_dir)),
        echo,
        asked_to_end,
    )
    .await
}
