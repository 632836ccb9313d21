//! What we make sure of on the broker: the exchange, our own queue, its binding (contract data-plane §4.1, §4.2).

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use super::error::{Refusal, is, refusal};
use super::settings::Settings;
use crate::QueueName;

/// Counts of a queue as the broker answers a declaration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) ready: u32,
    pub(super) consumers: u32,
}

/// Opens a channel.
///
/// Once the broker has closed a channel, the client library keeps its error for whoever gets the number next, and after
/// that leaves the number out for as long as the connection lasts. So an error of the broker here is an old one.
pub(super) async fn channel(connection: &Connection) -> lapin::Result<Channel> {
    loop {
        match connection.create_channel().await {
            Err(error) if refusal(&error).is_some() && connection.status().connected() => {}
            opened => return opened,
        }
    }
}

/// Declares the topic exchange. A user who may not declare it may still use one that is there.
pub(super) async fn ensure_exchange(connection: &Connection, settings: &Settings) -> lapin::Result<()> {
    let declared = declare_exchange(connection, settings, false).await;
    match declared {
        Err(error) if is(&error, Refusal::Access) => declare_exchange(connection, settings, true).await,
        other => other,
    }
}

async fn declare_exchange(connection: &Connection, settings: &Settings, passive: bool) -> lapin::Result<()> {
    let channel = channel(connection).await?;
    let options = ExchangeDeclareOptions {
        passive,
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            settings.exchange.clone(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await
}

/// The counts of a queue, or `None` if it does not exist. Independent of its type and arguments.
pub(super) async fn look(connection: &Connection, name: &ShortString) -> lapin::Result<Option<Counts>> {
    match counts(connection, name).await {
        Ok(counts) => Ok(Some(counts)),
        Err(error) if is(&error, Refusal::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same, but a queue whose node is down is an error: the broker calls that not found, too.
pub(super) async fn look_hard(connection: &Connection, name: &ShortString) -> lapin::Result<Option<Counts>> {
    match counts(connection, name).await {
        Ok(counts) => Ok(Some(counts)),
        Err(error) => match refusal(&error) {
            Some((Refusal::NotFound, reason)) if !reason.contains(" down ") => Ok(None),
            _ => Err(error),
        },
    }
}

async fn counts(connection: &Connection, name: &ShortString) -> lapin::Result<Counts> {
    // A channel of its own: a missing queue closes it.
    let channel = channel(connection).await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declaring = channel.queue_declare(name.clone(), options, FieldTable::default());
    let queue = declaring.await?;
    Ok(Counts {
        ready: queue.message_count(),
        consumers: queue.consumer_count(),
    })
}

/// Creates a durable queue with the given arguments, or leaves an existing one as it is, whatever its arguments.
pub(super) async fn create(
    connection: &Connection,
    name: &ShortString,
    arguments: &FieldTable,
) -> lapin::Result<()> {
    match declare(connection, name, arguments).await {
        // Other arguments or another type: it exists, and that is all we need. An argument that the broker does not
        // know is a refusal of the same kind, so make sure.
        Err(error) if is(&error, Refusal::Precondition) => {
            look(connection, name).await?.map(|_| ()).ok_or(error)
        }
        other => other,
    }
}

async fn declare(connection: &Connection, name: &ShortString, arguments: &FieldTable) -> lapin::Result<()> {
    let channel = channel(connection).await?;
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declaring = channel.queue_declare(name.clone(), options, arguments.clone());
    declaring.await.map(|_| ())
}

/// Creates a durable queue like [`create`]; if it exists with other arguments, tells which, as the broker says it. A user
/// who may not create a queue cannot compare one either, and finds no difference.
pub(super) async fn compare(
    connection: &Connection,
    name: &ShortString,
    arguments: &FieldTable,
) -> lapin::Result<Option<String>> {
    let declared = declare(connection, name, arguments).await;
    if let Err(error) = &declared
        && let Some((Refusal::Precondition, reason)) = refusal(error)
        // An argument that the broker does not know is a refusal of the same kind, and then there may be no queue.
        && look(connection, name).await?.is_some()
    {
        let reason = reason.strip_prefix("PRECONDITION_FAILED - ").unwrap_or(&reason);
        return Ok(Some(reason.to_owned()));
    }
    if let Err(error) = &declared
        && is(error, Refusal::Access)
        && look(connection, name).await?.is_some()
    {
        return Ok(None);
    }
    declared.map(|()| None)
}

/// Deletes a queue: `carefully` means only if it is empty and has no consumers. One that does not exist is no error.
pub(super) async fn delete(
    connection: &Connection,
    name: ShortString,
    carefully: bool,
) -> lapin::Result<u32> {
    let options = QueueDeleteOptions {
        if_unused: carefully,
        if_empty: carefully,
        ..QueueDeleteOptions::default()
    };
    let channel = channel(connection).await?;
    channel.queue_delete(name, options).await
}

/// Binds the queue under `key`. Idempotent; needs no ownership of the queue.
///
/// A user who may not bind can still consume: publishers fall back to the default exchange.
pub(super) async fn bind(
    connection: &Connection,
    settings: &Settings,
    queue: &QueueName,
    key: &str,
) -> lapin::Result<()> {
    let bound = bind_once(connection, settings, queue, key).await;
    match bound.as_ref().map_err(refusal) {
        Err(Some((Refusal::NotFound, reason))) if reason.contains("exchange") => {
            ensure_exchange(connection, settings).await?;
            bind_once(connection, settings, queue, key).await
        }
        Err(Some((Refusal::Access, reason))) => {
            tracing::warn!(%queue, %reason, "may not bind the queue to the exchange, it is reached by its name alone");
            Ok(())
        }
        _ => bound,
    }
}

async fn bind_once(
    connection: &Connection,
    settings: &Settings,
    queue: &QueueName,
    key: &str,
) -> lapin::Result<()> {
    let (Ok(name), Ok(key)) = (ShortString::try_new(queue.as_str()), ShortString::try_new(key)) else {
        return Ok(()); // no queue has such a name
    };
    let channel = channel(connection).await?;
    channel
        .queue_bind(
            name,
            settings.exchange.clone(),
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}
