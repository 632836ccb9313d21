//! Making sure of a queue and of everything around it.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::FieldTable;

use super::lock::locked;
use super::release::Scope;
use super::{
    Arc, Connection, Ensured, Inner, KeepError, QueueName, Refusal, ReleaseMode, Released, ShortString,
    Wanted, is, named, owners, queue_name, topology,
};
use crate::rabbitmq::error::refusal;
use crate::rabbitmq::settings::{long_string, no_delivery_limit};

/// What a queue looks like beside what is wanted.
enum Found {
    Missing,
    Present,
    Created,
    /// With the broker's words.
    Drifted(String),
}

impl Inner {
    pub(super) async fn ensure(
        self: &Arc<Self>,
        queue: &QueueName,
        wanted: &Wanted,
    ) -> Result<Ensured, KeepError> {
        let name = named(queue)?;
        match self.look_after(queue, &name, wanted).await? {
            Found::Missing => Err(KeepError::Missing(queue.to_string())),
            Found::Present => Ok(Ensured::Present),
            Found::Created => Ok(Ensured::Created),
            Found::Drifted(difference) if wanted.recreate => {
                // The same rules as for a queue that is given up: empty, unused, nobody else's.
                match self
                    .release(
                        queue,
                        &wanted.owner,
                        ReleaseMode::IfEmpty,
                        &wanted.arguments,
                        Scope::QueueAlone,
                    )
                    .await?
                {
                    Released::Gone => {
                        self.look_after(queue, &name, wanted).await?;
                        Ok(Ensured::Created)
                    }
                    Released::Kept(reason) | Released::Later(reason) => {
                        // Takes the owner's record back up.
                        self.look_after(queue, &name, wanted).await?;
                        let text = format!("{difference}; not made anew because {reason}");
                        Ok(Ensured::Drifted(text))
                    }
                }
            }
            Found::Drifted(difference) => Ok(Ensured::Drifted(difference)),
        }
    }

    async fn look_after(
        self: &Arc<Self>,
        queue: &QueueName,
        name: &ShortString,
        wanted: &Wanted,
    ) -> Result<Found, KeepError> {
        let turn = self.turn(queue);
        let _turn = turn.lock().await;
        self.with_connection(|connection| {
            Box::pin(async move {
                let work = self.look_after_locked(&connection, queue, name, wanted);
                locked(&connection, queue, work).await
            })
        })
        .await
    }

    async fn look_after_locked(
        &self,
        connection: &Connection,
        queue: &QueueName,
        name: &ShortString,
        wanted: &Wanted,
    ) -> lapin::Result<Found> {
        topology::ensure_exchange(connection, &self.settings).await?;
        let is_there = topology::look_hard(connection, name).await?.is_some();
        if !is_there && !wanted.create {
            return Ok(Found::Missing);
        }
        if wanted.create && wanted.dead_letter {
            ensure_dead_letter(connection, queue, wanted.arguments.are_quorum()).await?;
        }
        let found = if wanted.create {
            match topology::compare(connection, name, &wanted.arguments.0).await? {
                Some(difference) => Found::Drifted(difference),
                None if is_there => Found::Present,
                None => Found::Created,
            }
        } else {
            Found::Present
        };
        topology::bind(connection, &self.settings, queue, queue.actor()).await?;
        if queue.actor() != queue.as_str() {
            topology::bind(connection, &self.settings, queue, queue.as_str()).await?;
        }
        record(connection, queue, name, &wanted.owner.to_string()).await?;
        Ok(found)
    }
}

/// Dead letters wait for a person, so their queue drops none however often they are looked at.
async fn ensure_dead_letter(
    connection: &Connection,
    queue: &QueueName,
    is_quorum: bool,
) -> lapin::Result<()> {
    let Some(name) = queue_name(&queue.dead_letter()) else {
        return Ok(());
    };
    if topology::look_hard(connection, &name).await?.is_some() {
        return Ok(());
    }
    topology::create(connection, &name, &dead_letter_arguments(is_quorum)).await
}

pub(super) fn dead_letter_arguments(is_quorum: bool) -> FieldTable {
    let mut arguments = FieldTable::default();
    if is_quorum {
        arguments.insert("x-queue-type".into(), long_string("quorum"));
        arguments.insert("x-delivery-limit".into(), no_delivery_limit());
    }
    arguments
}

/// Records the owner. A user who may not do that uses the queue without: said once more at each check.
async fn record(
    connection: &Connection,
    queue: &QueueName,
    name: &ShortString,
    owner: &str,
) -> lapin::Result<()> {
    let (Some(exchange), Ok(key)) = (queue_name(&owners(queue)), ShortString::try_new(owner)) else {
        tracing::warn!(%queue, owner, "the names are too long to record who owns the queue");
        return Ok(());
    };
    let recorded = record_once(connection, name.clone(), exchange, key).await;
    match recorded.as_ref().map_err(refusal) {
        Err(Some((Refusal::Access, reason))) => {
            tracing::warn!(%queue, %reason, "may not record who owns the queue, so another cluster on this broker may delete it");
            Ok(())
        }
        _ => recorded,
    }
}

async fn record_once(
    connection: &Connection,
    name: ShortString,
    exchange: ShortString,
    owner: ShortString,
) -> lapin::Result<()> {
    declare_owners(connection, exchange.clone()).await?;
    let channel = topology::channel(connection).await?;
    channel
        .queue_bind(
            name,
            exchange,
            owner,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

async fn declare_owners(connection: &Connection, exchange: ShortString) -> lapin::Result<()> {
    let exchange = &exchange;
    let declare = |passive| async move {
        let channel = topology::channel(connection).await?;
        let options = ExchangeDeclareOptions {
            passive,
            durable: true,
            internal: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                exchange.clone(),
                ExchangeKind::Direct,
                options,
                FieldTable::default(),
            )
            .await
    };
    match declare(false).await {
        Err(error) if is(&error, Refusal::Access) => declare(true).await,
        other => other,
    }
}
