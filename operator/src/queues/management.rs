//! RabbitMQ's management API: the counts that AMQP does not tell.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::credentials::Hidden;
use crate::registry::RabbitMq;
use crate::status::QueueDepth;

/// Limit for one request (contract operator §8.3).
const PATIENCE: Duration = Duration::from_secs(5);

/// What the API says about a queue. A queue that was just made has no counts yet.
#[derive(Debug, Deserialize)]
struct Counts {
    messages_ready: Option<u64>,
    messages_unacknowledged: Option<u64>,
    consumers: Option<u64>,
}

/// Counts a queue's messages: `None` if there is no such queue, or no counts yet. The error is one line without
/// secrets.
pub(super) async fn depth(
    http: &reqwest::Client,
    broker: &RabbitMq,
    port: u16,
    password: &Hidden,
    queue: &str,
) -> Result<Option<QueueDepth>, String> {
    let counts = counts(http, broker, port, password, queue).await?;
    Ok(counts.and_then(|counts| {
        Some(QueueDepth {
            queued: counts.messages_ready?,
            processing: counts.messages_unacknowledged,
        })
    }))
}

/// Why a queue may not be deleted although it is empty and has no consumers: somebody holds messages of it. The error
/// says why that is not known.
pub(super) async fn in_hand(
    http: &reqwest::Client,
    broker: &RabbitMq,
    port: u16,
    password: &Hidden,
    queue: &str,
) -> Result<Option<String>, String> {
    let Some(counts) = counts(http, broker, port, password, queue).await? else {
        return Ok(None);
    };
    match (counts.messages_unacknowledged, counts.consumers) {
        (Some(0), Some(0)) => Ok(None),
        // The numbers are some seconds old: whoever consumed then may hold a message now.
        (Some(0), Some(1)) => Ok(Some(format!("{queue} has 1 consumer"))),
        (Some(0), Some(consumers)) => Ok(Some(format!("{queue} has {consumers} consumers"))),
        (Some(1), _) => Ok(Some(format!("{queue} has 1 unacknowledged message"))),
        (Some(held), _) => Ok(Some(format!("{queue} has {held} unacknowledged messages"))),
        (None, _) => Err(format!(
            "the management API at {}:{port} has not counted the messages of {queue} yet",
            broker.host
        )),
    }
}

/// `None` if there is no such queue.
async fn counts(
    http: &reqwest::Client,
    broker: &RabbitMq,
    port: u16,
    password: &Hidden,
    queue: &str,
) -> Result<Option<Counts>, String> {
    let url = address(broker, port, queue)?;
    let place = format!("the management API at {}:{port}", broker.host);
    let request = http
        .get(url)
        .basic_auth(&broker.username, Some(&password.0))
        .timeout(PATIENCE);
    let unreachable = |error: reqwest::Error| format!("{place} is not reachable: {}", error.without_url());
    let answer = request.send().await.map_err(unreachable)?;
    match answer.status().as_u16() {
        200 => {}
        404 => return Ok(None),
        401 => {
            return Err(format!(
                "{place} does not let user {:?} in; it needs the tag `management`",
                broker.username
            ));
        }
        status => return Err(format!("{place} answered with status {status}")),
    }
    let body = answer.bytes().await.map_err(unreachable)?;
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(|error| format!("{place} is not understood: {error}"))
}

fn address(broker: &RabbitMq, port: u16, queue: &str) -> Result<Url, String> {
    let scheme = if broker.tls { "https" } else { "http" };
    let host = if broker.host.contains(':') {
        format!("[{}]", broker.host)
    } else {
        broker.host.clone()
    };
    let mut url = Url::parse(&format!("{scheme}://{host}:{port}"))
        .map_err(|error| format!("the host {:?} is not usable: {error}", broker.host))?;
    let path = ["api", "queues", broker.vhost.as_str(), queue];
    url.path_segments_mut()
        .map_err(|()| format!("the host {:?} is not usable", broker.host))?
        .extend(path);
    url.set_query(Some("columns=messages_ready,messages_unacknowledged,consumers"));
    Ok(url)
}
