//! Change notices: `subscriptions/listen` of the stateless era, and the GET stream of old clients.

use std::convert::Infallible;
use std::sync::Arc;

use asya_gateway_store::{Update, View};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream, SelectAll};
use rmcp::ErrorData;
use rmcp::model::{
    DetailedTask, NotificationMetaObject, RequestId, ServerJsonRpcMessage, ServerNotification,
    TaskStatusNotification, TaskStatusNotificationParams, ToolListChangedNotification,
};
use rmcp::service::SubscriptionContext;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::exchange::Exchange;
use super::server::Server;
use super::tasks;

/// Serves one subscription until its client leaves or the gateway shuts down.
pub(super) async fn serve(server: &Server, subscription: SubscriptionContext) -> Result<(), ErrorData> {
    let context = subscription.request_context();
    let exchange = Exchange::of(&context.extensions)?;
    let mut changes = server.gateway.tools_changed();
    let wants_tools = subscription.accepted().tools_list_changed == Some(true);
    let mut watched = SelectAll::new();
    for id in &exchange.tasks {
        watched.extend(follow(server.clone(), Arc::clone(&exchange), id.clone()).await);
    }
    let draining = server.gateway.draining();
    loop {
        let sent = tokio::select! {
            () = subscription.cancelled() => return Ok(()),
            // The final result tells the client to subscribe again.
            () = draining.cancelled() => return Ok(()),
            Ok(()) = changes.changed(), if wants_tools => {
                changes.mark_unchanged();
                subscription.sink().notify_tool_list_changed().await.is_ok()
            }
            Some(task) = watched.next() => {
                let notification = notification(task, subscription.sink().id().clone());
                context.peer.send_notification(notification).await.is_ok()
            }
        };
        if !sent {
            return Ok(());
        }
    }
}

/// `notifications/tasks` on a subscription; the SDK's sink does not carry them yet.
fn notification(task: DetailedTask, subscription: RequestId) -> ServerNotification {
    let mut meta = NotificationMetaObject::new();
    meta.set_subscription_id(subscription);
    let mut notification = TaskStatusNotification::new(TaskStatusNotificationParams::new(task));
    notification.extensions.insert(meta);
    ServerNotification::TaskStatusNotification(notification)
}

/// The states of one task, from the present one to the final one; none if it is not known any more.
async fn follow(
    server: Server,
    exchange: Arc<Exchange>,
    id: String,
) -> Option<BoxStream<'static, DetailedTask>> {
    let record = server
        .gateway
        .get(&exchange.caller, &id, View::Basic)
        .await
        .ok()?;
    let watch = server.gateway.watch(&exchange.caller, &id, None).await.ok()?;
    let states = stream::unfold(
        (watch, server, exchange, record),
        |(mut watch, server, exchange, record)| async {
            let update = match watch.next().await {
                Ok(update) => update?,
                Err(error) => {
                    tracing::warn!(envelope = record.id, %error, "a task cannot be watched");
                    return None;
                }
            };
            let task = state(&server, &exchange, &record, &update).await?;
            Some((task, (watch, server, exchange, record)))
        },
    );
    Some(states.boxed())
}

async fn state(
    server: &Server,
    exchange: &Exchange,
    record: &asya_gateway_store::Record,
    update: &Update,
) -> Option<DetailedTask> {
    if !update.is_final() {
        return Some(tasks::working(record, update, &server.options));
    }
    let record = server
        .gateway
        .get(&exchange.caller, &record.id, View::Full)
        .await
        .ok()?;
    Some(tasks::detailed(&record, &server.options, &exchange.answers))
}

/// The stream of an old client: it stays open and tells when the tools have changed.
pub(super) fn old_stream(server: &Server, permit: OwnedSemaphorePermit) -> Response {
    let changes = server.gateway.tools_changed();
    let draining = server.gateway.draining();
    let events = stream::unfold((changes, permit), |(mut changes, permit)| async {
        changes.changed().await.ok()?;
        Some((Ok(tools_changed(&mut changes)), (changes, permit)))
    });
    // At the end of a gateway clients come back, and meet another one.
    let end = stream::once(async {
        Ok::<_, Infallible>(Event::default().retry(std::time::Duration::from_secs(1)))
    });
    let events = events.take_until(draining.cancelled_owned()).chain(end);
    let keep_alive = KeepAlive::new().interval(server.options.keep_alive);
    Sse::new(events).keep_alive(keep_alive).into_response()
}

fn tools_changed(changes: &mut watch::Receiver<u64>) -> Event {
    changes.mark_unchanged();
    let notification =
        ServerNotification::ToolListChangedNotification(ToolListChangedNotification::default());
    let message = ServerJsonRpcMessage::notification(notification);
    // A message without parameters is always JSON.
    Event::default().data(serde_json::to_string(&message).unwrap_or_default())
}
