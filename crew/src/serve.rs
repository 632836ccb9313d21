//! An end actor behind its socket.

use asya_runtime_protocol::{ServeError, ServerOptions, serve};

use crate::handler::EndHandler;

/// Serves `handler` as `options` say until `shutdown` ends; see [`serve`] for what happens then.
///
/// Validation is switched off whatever the options say: an end actor takes every envelope as it is (contract §9).
pub async fn serve_end_actor(
    options: ServerOptions,
    handler: EndHandler,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let options = ServerOptions {
        validation: false,
        ..options
    };
    serve(options, handler, shutdown).await
}
