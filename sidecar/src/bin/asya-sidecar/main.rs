//! `asya-sidecar`: the sidecar of one actor as a program, configured by its environment alone.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use asya_sidecar::{Config, Role, Sidecar};
use asya_transport::rabbitmq::{Address, RabbitMqOptions, RabbitMqTransport};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider was installed before"))?;
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let actor = read("ASYA_ACTOR_NAME").context("ASYA_ACTOR_NAME is not set")?;
    let url = read("ASYA_RABBITMQ_URL").unwrap_or_else(|| "amqp://localhost/".into());
    let mut options = RabbitMqOptions::new(Address::from_url(&url)?);
    options.queues.auto_create = read("ASYA_QUEUE_AUTO_CREATE").as_deref() == Some("true");
    let mut config = Config::new(actor, Role::Step);
    if let Some(directory) = read("ASYA_SOCKET_DIR") {
        config.socket_dir = directory.into();
    }
    if let Some(credit) = read("ASYA_RABBITMQ_PREFETCH") {
        config.credit = credit.parse().context("ASYA_RABBITMQ_PREFETCH")?;
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let transport = RabbitMqTransport::connect(options).await?;
    let sidecar = Sidecar::builder(config, Arc::new(transport)).start().await?;
    tokio::select! {
        _ = terminated.recv() => {
            sidecar.drain(Duration::from_secs(25)).await;
            Ok(())
        }
        cause = sidecar.failed() => Err(anyhow::anyhow!(cause)),
    }
}
