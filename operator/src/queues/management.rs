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
    let counts: Counts =
        serde_json::from_slice(&body).map_err(|error| format!("{place} is not understood: {error}"))?;
    Ok(counts.messages_ready.map(|queued| QueueDepth {
        queued,
        processing: counts.messages_unacknowledged,
    }))
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
    url.set_query(Some("columns=messages_ready,messages_unacknowledged"));
    Ok(url)
}
