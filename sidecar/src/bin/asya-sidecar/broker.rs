//! The first connection to the broker, and what to say when the broker refuses it (rulings 22).

use anyhow::anyhow;
use asya_program::rabbitmq::to_change;
use asya_transport::rabbitmq::{RabbitError, RabbitMqOptions, RabbitMqTransport};
use asya_transport::{AdminError, QueueName, Transport as _};

/// Connects, for as long as nobody answers. The error names the variable that has to be changed; `is_url` tells
/// whether the address was given as a whole.
pub(crate) async fn connect(
    options: RabbitMqOptions,
    queue: &QueueName,
    is_url: bool,
) -> anyhow::Result<RabbitMqTransport> {
    let creates = options.queues.auto_create;
    let connected = RabbitMqTransport::connect(options).await;
    let transport = connected.map_err(|error| anyhow!("{}: {error}", to_change(&error, is_url)))?;
    if creates {
        ensure_queue(&transport, queue).await?;
    }
    Ok(transport)
}

/// Creates the actor's own queue if it is missing, so that arguments which the broker refuses are found out at once.
/// Anything else that goes wrong is left to the tree, which tries again.
async fn ensure_queue(transport: &RabbitMqTransport, queue: &QueueName) -> anyhow::Result<()> {
    let administration = transport.administration();
    let Err(AdminError::NoSuchQueue(_)) = administration.depth(queue).await else {
        return Ok(());
    };
    if let Err(AdminError::Unavailable(error)) = administration.declare(queue).await
        && let Some(RabbitError::Refused(reason)) = error.downcast_ref()
    {
        return Err(anyhow!(
            "ASYA_QUEUE_ARGUMENTS: the broker refuses to create {queue}: {reason}; correct the arguments, or create \
             the queue and leave them out"
        ));
    }
    Ok(())
}
