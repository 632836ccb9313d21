//! The real `asya-sidecar`, started as its users start it: by its environment alone.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio::process::Command;

use super::{Child, Node, STEP};

/// The program, built unless it is given.
pub async fn program(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => Ok(tokio::task::spawn_blocking(|| asya_tests::sidecar().to_owned()).await?),
    }
}

/// Starts it for the runtime in `directory`, with these settings besides those that it needs.
pub fn start(program: &Path, node: &Node, directory: &Path, settings: &[(&str, &str)]) -> Result<Child> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("ASYA_ACTOR_NAME", STEP)
        .env("ASYA_RABBITMQ_URL", node.url())
        .env("ASYA_SOCKET_DIR", directory)
        .env("ASYA_METRICS_ADDR", format!("127.0.0.1:{}", free_port()?))
        .envs(settings.iter().copied());
    Child::start("asya-sidecar", &mut command, directory)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
