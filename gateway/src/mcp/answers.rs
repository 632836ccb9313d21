//! Raw JSON in the answers of the SDK: it writes a stand-in, and the bytes on their way out get the value itself.
//!
//! The SDK holds structured content as a value, which loses numbers beyond 64 bits, `1.0` and the order of keys. The
//! stand-in is a string with a random part, made for one response, so nothing that anybody sent can be taken for it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use asya_runtime_protocol::RawJson;
use axum::body::Body;
use axum::http::{Response, header};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

/// What one response still lacks. Clones are of the same response.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    /// The stand-in with its quotes, and what it stands for.
    values: Vec<(String, RawJson)>,
    /// Tasks that the subscription's acknowledgement must name.
    tasks: Vec<String>,
    /// Held until the response has ended.
    permit: Option<OwnedSemaphorePermit>,
}

impl Answers {
    /// A value for the SDK to write, in place of `raw`.
    pub(super) fn stand_in(&self, raw: &RawJson) -> Value {
        let name = format!("asya-raw-{}", Uuid::new_v4());
        self.open(|open| open.values.push((format!("\"{name}\""), raw.clone())));
        Value::String(name)
    }

    /// Notes tasks that the acknowledgement of a subscription names: the SDK's type has no place for them.
    pub(super) fn acknowledge_tasks(&self, tasks: &[String]) {
        self.open(|open| open.tasks = tasks.to_vec());
    }

    /// Keeps a place until the response has ended.
    pub(super) fn hold(&self, permit: OwnedSemaphorePermit) {
        self.open(|open| open.permit = Some(permit));
    }

    /// The response with its values in place.
    pub(super) async fn fill<B>(self, response: Response<B>) -> Response<Body>
    where
        B: axum::body::HttpBody<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let streams = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let (parts, body) = response.into_parts();
        let body = Body::new(body);
        let body = if streams {
            // One event is one frame, so no stand-in is ever cut in two.
            let frames = body.into_data_stream();
            Body::from_stream(frames.map(move |frame| frame.map(|frame| self.fill_frame(frame))))
        } else {
            match axum::body::to_bytes(body, usize::MAX).await {
                Ok(whole) => Body::from(self.fill_frame(whole)),
                // The SDK's bodies cannot fail; if one does, the connection ends.
                Err(error) => Body::from_stream(futures::stream::once(async { Err::<Bytes, _>(error) })),
            }
        };
        Response::from_parts(parts, body)
    }

    fn fill_frame(&self, frame: Bytes) -> Bytes {
        self.open(|open| {
            let frame = open.fill(frame);
            open.acknowledge(frame)
        })
    }

    fn open<T>(&self, use_it: impl FnOnce(&mut Open) -> T) -> T {
        // Nothing in here can be left half done.
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Open {
    fn fill(&mut self, frame: Bytes) -> Bytes {
        if self.values.is_empty() {
            return frame;
        }
        let Ok(text) = std::str::from_utf8(&frame) else {
            return frame;
        };
        let mut filled: Option<String> = None;
        self.values.retain(|(stand_in, raw)| {
            let text = filled.as_deref().unwrap_or(text);
            let Some(at) = text.find(stand_in.as_str()) else {
                return true;
            };
            let (before, after) = (&text[..at], &text[at + stand_in.len()..]);
            filled = Some([before, &one_line(raw), after].concat());
            false
        });
        filled.map_or(frame, Bytes::from)
    }

    /// Adds the accepted tasks to the first event of a subscription.
    fn acknowledge(&mut self, frame: Bytes) -> Bytes {
        const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
        if self.tasks.is_empty() {
            return frame;
        }
        let Some(data) = std::str::from_utf8(&frame)
            .ok()
            .filter(|text| text.contains(ACKNOWLEDGED))
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("data:")))
        else {
            return frame;
        };
        let Ok(mut message) = serde_json::from_str::<Value>(data) else {
            return frame;
        };
        let tasks = std::mem::take(&mut self.tasks);
        let accepted = message
            .pointer_mut("/params/notifications")
            .and_then(Value::as_object_mut);
        if let Some(accepted) = accepted {
            accepted.insert("taskIds".to_owned(), tasks.into());
        }
        Bytes::from(format!("data: {message}\n\n"))
    }
}

/// JSON on one line, as an event's data must be; line ends inside of strings are always escaped.
fn one_line(raw: &RawJson) -> String {
    raw.as_str().replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &'static str) -> RawJson {
        RawJson::parse(text).unwrap()
    }

    #[test]
    fn stand_ins_are_replaced_by_the_text_and_nothing_else_changes() {
        let answers = Answers::default();
        let (one, two) = (
            answers.stand_in(&raw("{\"n\":\n18446744073709551616}")),
            answers.stand_in(&raw("1.0")),
        );
        let frame = format!("data: {{\"a\":{one},\"b\":{two},\"c\":\"asya-raw-x\"}}\n\n");
        assert_eq!(
            answers.fill_frame(Bytes::from(frame)),
            "data: {\"a\":{\"n\": 18446744073709551616},\"b\":1.0,\"c\":\"asya-raw-x\"}\n\n"
        );
    }

    #[test]
    fn a_value_that_looks_like_another_stand_in_stays() {
        let answers = Answers::default();
        let first = answers.stand_in(&raw("1"));
        let quoted = answers.stand_in(&RawJson::from_value(&first).unwrap());
        let frame = answers.fill_frame(Bytes::from(format!("[{first},{quoted}]")));
        assert_eq!(frame, format!("[1,{first}]"));
    }

    #[test]
    fn the_acknowledgement_names_the_accepted_tasks_once() {
        let answers = Answers::default();
        answers.acknowledge_tasks(&["t1".to_owned()]);
        let event = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"notifications\":{\"toolsListChanged\":true}}}\n\n";
        let filled = answers.fill_frame(Bytes::from_static(event.as_bytes()));
        let text = std::str::from_utf8(&filled).unwrap();
        let message: Value = serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(
            message["params"]["notifications"],
            serde_json::json!({"toolsListChanged": true, "taskIds": ["t1"]})
        );
        assert_eq!(answers.fill_frame(Bytes::from_static(event.as_bytes())), event);
    }
}
